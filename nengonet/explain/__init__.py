"""Predict a network, explain it, and compare it with a run."""
