"""Fixtures and settings that all tests share."""

import contextlib
import copy
import os

import hypothesis
import matplotlib
import nengo
import numpy as np
import pytest

matplotlib.rcdefaults()  # not those of a file in the user's home
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


@pytest.fixture(autouse=True)
def _own_draws(request):
    """Give each test copies of its module's generators, which other tests have not used."""
    with pytest.MonkeyPatch.context() as patch:
        for name, each in list(vars(request.module).items()):
            if isinstance(each, np.random.Generator | np.random.RandomState):
                patch.setattr(request.module, name, copy.deepcopy(each))
        yield
