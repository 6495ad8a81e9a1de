"""Shared by all tests."""

import os

import matplotlib
import pytest

matplotlib.use("Agg")

needs_whole_data = pytest.mark.skipif(
    not os.environ.get("NENGONET_DATA"),
    reason="needs whole data sets: set NENGONET_DATA to a folder with mnist.npz",
)
