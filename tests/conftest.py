"""Fixtures and settings that all tests share."""

import os

import matplotlib
import nengo
import pytest

matplotlib.use("Agg")
# The cache's lock makes parallel test runs warn.
nengo.rc.set("decoder_cache", "enabled", "False")

needs_whole_data = pytest.mark.skipif(
    not os.environ.get("NENGONET_DATA"),
    reason="needs whole data sets: set NENGONET_DATA to a folder with mnist.npz",
)
