"""Present examples to a network: simulators, processes, and what a saved run depends on."""
