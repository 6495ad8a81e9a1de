"""Presentation of examples to a network: simulators, processes, and saved runs."""
