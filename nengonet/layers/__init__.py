"""Layers: records of Nengo objects, and the builders that make them."""
