"""Nengo's own tests on the minibatch simulator: a part of those of `benchmarks/nengo_suite.py`.

Nengo's plugin for pytest needs pytest 7, but its test functions do not. Here they get their
fixtures, with Nengo's own seeds, tolerances and parameters. They run first on `nengo.Simulator`,
then on a simulator of three equal examples that shows one of them. The data of all probes must be
the same.
"""

import copy
import functools
import hashlib
import importlib
import importlib.util
import inspect
import pathlib
import warnings

import nengo
import numpy as np
import pytest

KINDS = "learning_rules", "neurons", "synapses", "processes", "connection", "node", "probe"
FIXTURES = {"Simulator", "seed", "rng", "allclose", "plt"}
# On the reference too, with NumPy 2.4: a state that is not a number.
FAILS = {"test_synapses_triangle"}
# Half a minute: 24 sampling intervals, four runs each.
SLOW = {"test_probe_dts"}
# It counts what a Node without output is given: every example's input.
ONE_EXAMPLE = {"test_processes_x_copy"}
NEURON_TYPES = "AnyNeuronType", "NonDirectNeuronType", "PositiveNeuronType"


def plugin():
    """Return the module of the benchmark."""
    path = pathlib.Path(__file__).parents[1] / "benchmarks" / "nengo_suite_plugin.py"
    spec = importlib.util.spec_from_file_location("nengo_suite_plugin", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of_kind(kind):
    """Yield the names and functions of Nengo's quick tests that take a simulator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module(f"nengo.tests.test_{kind}")
    for name, function in inspect.getmembers(module, inspect.isfunction):
        marks = getattr(function, "pytestmark", [])
        parameters = {word for mark in marks if mark.name == "parametrize" for word in names(mark)}
        needed = set(inspect.signature(function).parameters) - parameters - set(NEURON_TYPES)
        slow = any(mark.name == "slow" for mark in marks)
        if name.startswith("test_") and "Simulator" in needed <= FIXTURES and not slow:
            yield f"test_{kind}_{name.removeprefix('test_')}", function


PLUGIN = plugin()
PLUGIN.SETTINGS["data"] = "in memory"


def names(mark):
    """Return the parameters of a mark."""
    given = mark.args[0]
    return given.replace(" ", "").split(",") if isinstance(given, str) else given


def on_both(function):
    """Return a test of both simulators."""

    @functools.wraps(function)
    def test(*, Simulator, numpy_seed, **given):
        recorded = []
        for each in (PLUGIN.Reference, Simulator):
            np.random.seed(numpy_seed)  # noqa: NPY002  for networks without a seed
            PLUGIN.RECORDER.kept = []
            function(Simulator=each, **copy.deepcopy(given))
            recorded.append(PLUGIN.RECORDER.kept)
        assert PLUGIN.compared(*recorded)["different"] == 0

    signature = inspect.signature(function)
    needed = inspect.Parameter("numpy_seed", inspect.Parameter.KEYWORD_ONLY)
    test.__signature__ = signature.replace(parameters=[*signature.parameters.values(), needed])
    return test


TESTS = {name: function for kind in KINDS for name, function in of_kind(kind)}
# pytest collects them as this module's own.
globals().update({name: on_both(TESTS[name]) for name in TESTS if name not in FAILS | SLOW})
pytestmark = pytest.mark.filterwarnings("ignore")


def pytest_generate_tests(metafunc):
    for name in NEURON_TYPES:
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, [nengo.LIF, nengo.RectifiedLinear])


class OneOfThree(PLUGIN.OneOfEqual):
    minibatch_size = 3


@pytest.fixture
def Simulator(request):
    return PLUGIN.OneOfEqual if request.node.originalname in ONE_EXAMPLE else OneOfThree


def digest(request, salt=""):
    """Return the seed that Nengo's plugins derive from a test's name."""
    function, node = request.function, request.node
    file = function.__module__.replace(".", "/")
    name = node.name.replace(node.originalname, function.__name__, 1)
    return int(hashlib.sha1(f"{file}.py::{name}{salt}".encode()).hexdigest()[:8], 16)


@pytest.fixture
def seed(request):
    return digest(request)


@pytest.fixture
def rng(request):
    return np.random.RandomState(digest(request, "rng"))


@pytest.fixture
def numpy_seed(request):
    state = np.random.get_state()  # noqa: NPY002
    yield digest(request)
    np.random.set_state(state)  # noqa: NPY002


@pytest.fixture
def allclose():
    def close(a, b, rtol=1e-5, atol=1e-8, xtol=0, print_fail=5, record_rmse=True):
        a, b = np.atleast_1d(a), np.atleast_1d(b)
        near = np.isclose(a, b, rtol, atol)
        for i in range(1, xtol + 1):  # shifted by some steps
            near[i:] |= np.isclose(a[i:], b[:-i], rtol, atol)
            near[:-i] |= np.isclose(a[:-i], b[i:], rtol, atol)
            near[[i - 1, -i]] = True
        return np.all(near)

    return close


class Anything:
    """Stands for pyplot and all that it returns."""

    def __getattr__(self, name):
        return self

    def __call__(self, *arguments, **options):
        return self

    def __getitem__(self, key):
        return self

    def __mul__(self, other):
        return 1.0

    def __iter__(self):
        return iter([self, self])  # figure, axes = plt.subplots()


@pytest.fixture
def plt():
    return Anything()


@pytest.mark.parametrize("kind", KINDS)
def test_some_of_every_kind(kind):
    assert len(list(of_kind(kind))) >= 5


def test_equal_examples_that_differ_are_found():
    one_of = PLUGIN.one_of
    rows = np.ones((3, 4))
    np.testing.assert_array_equal(one_of(rows, 0), np.ones(4))
    rows[2, 1] = np.nextafter(1, 2)
    with pytest.raises(AssertionError, match="equal examples differ"):
        one_of(rows, 0)


def test_another_spike_is_found():
    spikes = np.zeros((50, 3))
    spikes[[3, 20], [0, 2]] = 1000.0
    compared = PLUGIN.compared
    same = {"data sets": 1, "different": 0, "to the bit": 1, "largest": 0.0}
    assert compared([spikes], [spikes.copy()]) == same
    assert compared([spikes], [spikes + 1e-12])["to the bit"] == 0
    assert compared([spikes], [np.roll(spikes, 1, axis=0)])["different"] == 1
    assert compared([spikes], [spikes[:-1]])["different"] == 1
    assert compared([spikes], [np.full_like(spikes, np.nan)])["different"] == 1
