"""Sweeps of a function over a grid of parameters and seeds."""
