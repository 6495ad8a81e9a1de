"""Spike counts, classes, results and their files."""
