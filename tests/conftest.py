"""Fixtures and settings that all tests share."""

import contextlib
import os

import hypothesis
import matplotlib
import nengo
import pytest

matplotlib.use("Agg")
# The cache's lock makes parallel test runs warn.
nengo.rc.set("decoder_cache", "enabled", "False")

# The same examples in every run, however busy the machine is.
hypothesis.settings.register_profile(
    "same",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("same")
# Hypothesis also tries constants from the source of modules: of those that are loaded by then.
with contextlib.suppress(ImportError):
    from hypothesis.internal.conjecture import providers

    providers.is_local_module_file = lambda path: False

needs_whole_data = pytest.mark.skipif(
    not os.environ.get("NENGONET_DATA"),
    reason="needs whole data sets: set NENGONET_DATA to a folder with mnist.npz",
)
