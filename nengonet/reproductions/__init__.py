"""One module per published example."""
