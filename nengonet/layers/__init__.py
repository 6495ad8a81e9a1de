"""Layers: a record of Nengo objects, and the builders that make them."""
