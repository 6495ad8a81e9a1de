"""A network's digest changes with everything that its spikes depend on, and nothing else."""

import collections.abc
import copy
import functools
import itertools
import math
import os
import subprocess
import sys
import threading
import types

import nengo
import numba
import numpy as np
import pytest
from nengo.params import FrozenObject, iter_params
from scipy import sparse, stats

import nengonet as nn
from nengonet.run import content
from nengonet.run.content import digest, file_digest, versions

LONG = np.linspace(0, 1, 1500)


class Drift(nengo.Process):
    """A process with a parameter, and with attributes that Nengo does not know."""

    gain = nengo.params.NumberParam("gain")

    def __init__(self, gain, start):
        super().__init__(default_size_in=0, default_size_out=2)
        self.gain, self.start, self.table = gain, start, {"long": LONG.copy()}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        return lambda t: self.gain * self.start * np.ones(shape_out)


class Leaky(nengo.LIF):
    """A user's neuron type."""

    leak = nengo.params.NumberParam("leak")

    def __init__(self, leak, **given):
        super().__init__(**given)
        self.leak = leak

    def step(self, dt, J, output, voltage, refractory_time):
        super().step(dt, self.leak * J, output, voltage, refractory_time)


class Gate:
    def __init__(self, height):
        self.height, self.names = height, set(map(str, range(20)))

    def __call__(self, t, x):
        return self.height * x


def build():
    """Return a network of many kinds of objects, and its last layer."""
    rng = np.random.default_rng(0)
    factor = LONG[:2].copy()
    with nengo.Network(seed=3) as net:
        pixels = nn.poisson_input((6, 6, 1))
        kernel = rng.normal(size=(3, 3, 1, 2))
        conv = nn.conv2d(
            pixels, kernel, Leaky(0.5, initial_state={"voltage": LONG[:32]}), **nn.FORUM
        )
        pool = nn.max_pool2d(conv, 2)
        hidden = nn.dense(
            pool, rng.normal(size=(8, 5)), nengo.AdaptiveLIF(), label="hidden", **nn.FORUM
        )
        low = nn.lowpass(hidden, np.linspace(0.01, 0.02, 5))
        nn.dense(low, (rng.normal(size=(5, 3)), [1.0, 2.0, 3.0]), None, label="output")
        a = nengo.Ensemble(9, 2, noise=nengo.processes.FilteredNoise(), seed=4, radius=2.0)
        b = nengo.Ensemble(5, 2, neuron_type=nengo.PoissonSpiking(nengo.Sigmoid()), gain=LONG[:5])
        drift, gate = nengo.Node(Drift(2.0, [1, 2])), nengo.Node(Gate(2.0), size_in=2)
        wave = nengo.Node(lambda t: math.sin(t) * factor)
        shown = nengo.processes.PresentInput(rng.normal(size=(4, 2)), 0.1)
        nengo.Connection(nengo.Node(shown), a, synapse=nengo.Alpha(0.1))
        nengo.Connection(nengo.Node([0.5, 0.25]), gate[[1, 0]])
        nengo.Connection(drift, b, function=lambda x: x[::-1] ** 2)
        learned = nengo.Connection(a, b, learning_rule_type=nengo.PES(1e-3))
        nengo.Connection(wave, learned.learning_rule)
        solver, points = nengo.solvers.LstsqL2(reg=0.2), LONG[:8].reshape(4, 2)
        nengo.Connection(a, b, solver=solver, eval_points=points)
        weights = sparse.random(5, 5, 0.3, format="csr", random_state=1)
        nengo.Connection(
            hidden.ensemble.neurons, b.neurons, transform=nengo.Sparse((5, 5), init=weights)
        )
        few = nengo.Sparse((5, 5), indices=[[1, 2], [3, 4]], init=[0.5, 0.25])
        nengo.Connection(b.neurons, hidden.ensemble.neurons, transform=few)
        nengo.Connection(a.neurons[:3], b.neurons[2:], transform=rng.normal(size=(3, 3)))
        array = nengo.networks.EnsembleArray(3, 2)
        nengo.Connection(wave, array.input, synapse=nengo.LinearFilter([1, 2], [3, 4]))
    return net


def seen(net):
    return digest(net, "network")


@pytest.fixture(scope="module")
def net():
    return build()


def changed(value):
    """Return a value of the same kind that differs as little as possible."""
    if isinstance(value, np.ndarray):
        other = np.array(value)
        other.flat[other.size // 2] = (
            np.nextafter(other.flat[other.size // 2], 9)
            if (other.dtype.kind == "f")
            else other.flat[other.size // 2] + 1
        )
        return other
    if sparse.issparse(value):
        other = value.copy()
        other.data[1] *= 2
        return other
    if isinstance(value, (bool, np.bool_)):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if hasattr(value, "_replace"):  # what Nengo knows of a connection's function
        return value._replace(size=changed(value.size))
    if isinstance(value, (tuple, list)):
        return (*value[:-1], changed(value[-1])) if value else (1,)
    if isinstance(value, dict):
        return {name: changed(each) for name, each in value.items()} or {"x": 1}
    return "another" if value is None else None


def attributes(thing, above=()):
    """Yield (place, object, name, value) of every part of an object."""
    state = {name: getattr(thing, name) for name in iter_params(thing)}
    plain = {"_paramdict", "_FrozenObject__argreprs", "_initialized"}
    state |= {name: each for name, each in vars(thing).items() if name not in plain}
    for name, value in state.items():
        place = (*above, type(thing).__name__, name)
        yield place, thing, name, value
        if isinstance(value, FrozenObject):
            yield from attributes(value, place)


def test_every_parameter_of_every_object_counts(net):
    """Parameters are set past Nengo's checks, as many are read-only; only labels do not count."""
    before, n, without = seen(net), 0, set()
    for thing in (*net.all_ensembles, *net.all_nodes, *net.all_connections):
        alone, seed = digest(thing, "it"), thing.seed
        thing.seed = 12345
        assert seen(net) != before
        thing.seed = seed
        for place, owner, name, value in attributes(thing):
            parameter = getattr(type(owner), name, None)
            other = changed(value)
            if isinstance(parameter, nengo.params.Parameter):
                stored = owner in parameter.data
                parameter.data[owner] = other
            else:
                owner.__dict__[name] = other
            if digest(thing, "it") == alone:
                without.add(place[-2:])
            if not isinstance(parameter, nengo.params.Parameter):
                owner.__dict__[name] = value
            elif stored:
                parameter.data[owner] = value
            else:
                del parameter.data[owner]
            n += 1
    assert n > 400
    assert {name for _, name in without} == {"label"}
    assert seen(net) == before


def test_seeds_of_networks_and_the_order_of_objects_count(net):
    before = seen(net)
    for each in (net, *net.all_networks):
        each.seed = (each.seed or 0) + 1
        assert seen(net) != before
        each.seed = 3 if each is net else None
    net.ensembles.append(net.ensembles.pop(0))
    assert seen(net) != before
    net.ensembles.insert(0, net.ensembles.pop())
    assert seen(net) == before


def test_which_objects_are_joined_counts():
    digests = set()
    for pre, post in itertools.product(range(2), repeat=2):
        with nengo.Network(seed=0) as net:
            objects = [nengo.Ensemble(4, 1), nengo.Ensemble(4, 1)]
            nengo.Connection(objects[pre].neurons, objects[post].neurons)
        digests.add(seen(net))
    for pre, post in itertools.product(([0, 1], [1, 0], slice(2), slice(2, 4)), repeat=2):
        with nengo.Network(seed=0) as net:
            ensemble = nengo.Ensemble(4, 1)
            nengo.Connection(ensemble.neurons[pre], ensemble.neurons[post])
        digests.add(seen(net))
    assert len(digests) == 4 + 16


@pytest.mark.filterwarnings("ignore:'Node.size_out' is being overwritten")
@pytest.mark.filterwarnings("ignore::nengo.exceptions.NotAddedToNetworkWarning")
def test_what_does_not_matter_does_not_count():
    net = build()
    before = seen(net)
    assert seen(build()) == before
    assert seen(copy.deepcopy(net)) == before
    for each in net.all_objects:
        each.label = "other"
        repr(each)
        repr(getattr(each, "neuron_type", None))
    with net:
        nengo.Probe(net.ensembles[0])
    assert seen(net) == before


@pytest.mark.parametrize("simulator", ["minibatch", "reference"])
def test_a_run_does_not_count(simulator):
    images = np.random.default_rng(0).random((2, 16))
    with nengo.Network() as net:
        pixels = nn.poisson_input((4, 4))
        other = nengo.Node(nengo.processes.WhiteSignal(1.0, high=5), size_out=2)
        output = nn.dense(
            pixels, np.ones((16, 2)), nengo.PoissonSpiking(nengo.LIFRate()), **nn.FORUM
        )
        nengo.Connection(other, output.ensemble.neurons)
        weights = sparse.coo_matrix([[1.0, 0], [1.0, 1]]).tocsr()
        recurrent = nengo.Sparse((2, 2), init=weights)
        nengo.Connection(output.ensemble.neurons, output.ensemble.neurons, transform=recurrent)
    without = {id(pixels.node.output): nn.layers.inputs.ImageInput.shown}
    before = digest(net, "network", without)
    nn.present(net, output, images, presentation_time=0.01, simulator=simulator, progress=False)
    assert digest(net, "network", without) == before
    shown = seen(net)
    pixels.show(images[0])
    assert seen(net) != shown
    assert digest(net, "network", without) == before


def test_another_process_gives_the_same(net):
    code = "from test_content import build, seen; print(seen(build()))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=os.path.dirname(__file__),
        env=os.environ | {"PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == seen(net)


# Functions.

SOURCE = """
import functools, math
import numpy as np
import helpers

FACTOR = 2.0
TABLE = [1, (2, {"a": 3})]
NAMES = {"one", "two", "three"}

class Base:
    power = 2

class Helper(Base):
    __slots__ = ("level",)

    @staticmethod
    def scale(x):
        return x * 3

    @property
    def half(self):
        return 0.5

def decorated(function):
    @functools.wraps(function)
    def inner(*given):
        return 1.5 * function(*given)
    return inner

@decorated
def plain(x):
    return x + 7

@functools.lru_cache
def cached(x):
    return x + 8

def generic(x, shift=4, *, tilt=5):
    def nested(y):
        return y ** Helper.power - shift + tilt
    return nested(x) + (11 if x in {12, 13} else 14)

def node(t):
    import late
    from package.inner import deep
    local = [math.sin(FACTOR * each) for each in TABLE[:1]]
    value = plain(t) + cached(t) + generic(t) + Helper.scale(t) + len(NAMES) + Helper().half
    nested = sum(helpers.more(each) for each in (t,))
    return value + sum(local) + nested + helpers.aid(t) + late.AID + deep(t)

def unrelated():
    return 15
"""
HELPERS = "def aid(t):\n    return t + 16\n\nother = 17\ndef more(t):\n    return t + 20\n"
LATE = "AID = 18\n"
INNER = "def deep(t):\n    return t + 19\n"


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """Return a function of (text, helpers, late, inner) that gives the digest of ``node``."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ("helpers", "late", "package", "package.inner", "user")

    def load(text, helpers=HELPERS, late=LATE, inner=INNER):
        (tmp_path / "package").mkdir(exist_ok=True)
        texts = {"helpers": helpers, "late": late, "package": "", "package.inner": inner}
        for name, each in (texts | {"user": text}).items():
            module = types.ModuleType(name)
            module.__path__ = []
            sys.modules[name] = module
            exec(compile(each, f"{name}.py", "exec"), module.__dict__)
        sys.modules["package"].inner = sys.modules["package.inner"]
        with nengo.Network(seed=0) as net:
            nengo.Node(sys.modules["user"].node)
        return seen(net)

    yield load
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    "old, new",
    [
        ("FACTOR = 2.0", "FACTOR = 2.5"),
        ('{"a": 3}', '{"a": 4}'),
        ('"three"}', '"four"}'),
        ("power = 2", "power = 3"),
        ("x * 3", "x * 4"),
        ("return 0.5", "return 0.6"),
        ("1.5 * function", "1.6 * function"),
        ("x + 7", "x - 7"),
        ("x + 8", "x + 9"),
        ("shift=4", "shift=5"),
        ("tilt=5", "tilt=6"),
        ("- shift + tilt", "+ shift - tilt"),
        ("{12, 13}", "{12, 14}"),
        ("else 14", "else 15"),
        ("math.sin", "math.cos"),
        ("TABLE[:1]", "TABLE[:-1]"),
        ("t + 16", "t + 17"),
        ("AID = 18", "AID = 19"),
        ("t + 19", "t + 18"),
        ("t + 20", "t + 21"),
    ],
)
def test_whatever_a_function_computes_with_counts(loaded, old, new):
    texts = [SOURCE, HELPERS, LATE, INNER]
    before = loaded(*texts)
    assert any(old in text for text in texts)
    assert loaded(*(text.replace(old, new) for text in texts)) != before
    assert loaded(*texts) == before


@pytest.mark.parametrize("old, new", [("return 15", "return 16"), ("other = 17", "other = 18")])
def test_what_a_function_does_not_name_does_not_count(loaded, old, new):
    before = loaded(SOURCE)
    assert loaded(SOURCE.replace(old, new), HELPERS.replace(old, new)) == before
    # Nor do comments, and where in the file the code stands.
    assert loaded("# a comment\n\n" + SOURCE) == before


def _power(x, exponent):
    return x**exponent


class _Tensor:
    """An object with PyTorch's methods, whose state differs in every process."""

    def __init__(self, n):
        self.n, self.place = n, object.__repr__(self)

    def detach(self):
        return self

    cpu = detach

    def numpy(self):
        return np.full(3, self.n)


def _jitted(n):
    @numba.njit
    def inner(x):
        return x + n

    return inner


@pytest.mark.parametrize(
    "make",
    [
        lambda n: lambda t: n * t,
        lambda n: lambda t, n=n: n * t,
        lambda n: functools.partial(_power, exponent=n),
        lambda n: Gate(n),
        lambda n: Gate(n).__call__,
        lambda n: np.random.RandomState(n).uniform,
        lambda n: np.random.default_rng(n).uniform,
        lambda n: np.poly1d([n, 1]),
        lambda n: [np.sin, np.cos, np.tan, math.sin][n],
        lambda n: _jitted(n),
        lambda n: stats.norm(n, 1).pdf,
        lambda n: _Tensor(n),
        lambda n: (lambda table: lambda t: table[t])({"a": [LONG, {n}]}),
        lambda n: (lambda matrix: lambda t: matrix @ t)(sparse.csr_array(np.eye(3) * n)),
        lambda n: type("Local", (), {"level": n, "__call__": lambda self, t: self.level})(),
        lambda n: functools.update_wrapper(lambda t: t, types.SimpleNamespace(level=n)),
    ],
)
def test_what_closures_objects_and_compiled_functions_hold_counts(make):
    digests = [digest(make(n), "it") for n in (1, 2, 3)]
    assert len(set(digests)) == 3
    assert digests == [digest(make(n), "it") for n in (1, 2, 3)]


class Bag(list):
    """A list whose items are neither its arguments nor its state."""


class Counts(collections.defaultdict):
    def __init__(self, items):
        super().__init__(int)
        for item in items:
            self[item] += 1

    def __reduce__(self):
        return Counts, ((),), None, None, iter(self.items())


class Measure(collections.abc.Callable):
    """A class with a registry of the process, and a cache that does not count."""

    def __init__(self, level):
        self.level = level

    def __call__(self, t):
        return self.level

    @functools.cached_property
    def double(self):
        return 2 * self.level


def test_what_an_object_has_cached_does_not_count():
    one, two = Measure(1), Measure(1)
    assert one.double == 2
    assert digest(one, "it") == digest(two, "it") != digest(Measure(2), "it")
    assert digest(Measure, "it") == digest(Measure, "it")


def test_shared_states_are_not_equal_states():
    """Two Nodes that share a stream give other spikes than two Nodes with one stream each."""
    one, two = np.random.RandomState(0), np.random.RandomState(0)
    assert digest([one.rand, one.rand], "it") != digest([one.rand, two.rand], "it")


def test_a_circle_has_an_end():
    def odd(n):
        return n and even(n - 1)

    def even(n):
        return not n or odd(n - 1)

    ring = [1]
    ring.append(ring)
    assert digest(odd, "it") != digest(even, "it")
    assert digest(ring, "it") == digest(ring, "it")
    with pytest.raises(nn.InputError, match=r"deep: \[0\]: \[0\]: .*content that a later run"):
        digest(functools.reduce(lambda inner, _: (inner,), range(9999), 0), "deep")


def test_equal_bytes_of_other_kinds_differ():
    values = [1, 1.0, True, "1", b"1", np.int64(1), np.int32(1), np.array(1), [1], (1,), {1}]
    values += [frozenset({1}), {1: 1}, None, ..., 1j, 0.0, -0.0, math.nan, [[1], 2], [1, [2]]]
    values += [np.zeros((2, 3)), np.zeros((3, 2)), np.zeros(6), np.zeros(6, "f4"), np.zeros(0)]
    values += [[1, 23], [12, 3], ["a", "bc"], ["ab", "c"], 10**5000, "\ud800", "", b"", [], ()]
    values += [np.array([None, 1]), np.array([None, 2]), np.zeros(2, "i4,f4"), range(3), slice(3)]
    values += [{2: 1}, {"a": 1}, {"b": 1}, {"a": 1, "b": 2}, {"b": 2, "a": 1}]
    values += [kind(items) for kind in (Bag, collections.deque) for items in ([], [1], [1, 2])]
    values += [Counts(items) for items in ((), (1,), (1, 1), (2,))]
    digests = [digest(value, "it") for value in values]
    assert len(set(digests)) == len(values)
    assert digest(np.asfortranarray(LONG[:6].reshape(2, 3)), "it") == digest(
        LONG[:6].reshape(2, 3), "it"
    )
    numbers = set(map(str, range(99)))
    assert digest(numbers, "it") == digest(set(sorted(numbers)), "it")


@pytest.mark.parametrize(
    "thing", [threading.Lock(), (n for n in range(3)), sys.stdout, sys._getframe()]
)
def test_what_has_no_content_is_refused(thing):
    with nengo.Network() as net:
        nengo.Node(lambda t: thing and t, label="odd")
    kind = type(thing).__name__
    with pytest.raises(
        nn.InputError,
        match=f"network: <Node 'odd'>: output: thing: expected content .* got {kind}",
    ):
        seen(net)


def test_files_count_by_content(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        (folder / "in").mkdir(parents=True)
        (folder / "in" / "a").write_text("text")
    assert digest(one, "it") == digest(two, "it")
    assert file_digest(one / "in" / "a") == file_digest(two / "in" / "a")
    assert digest(one / "in" / "a", "it") == digest(two / "in" / "a", "it")
    (two / "in" / "a").write_text("next")
    assert digest(one, "it") != digest(two, "it")
    assert digest(tmp_path / "no", "it") != digest(tmp_path / "nor", "it")


def test_versions_are_those_of_what_computes():
    found = versions()
    assert list(found) == ["nengonet", "Nengo", "NumPy", "Python"]
    assert found["nengonet"].startswith(nn.__version__)
    assert found["Nengo"] == nengo.__version__


@pytest.mark.parametrize(
    "name, counts", [("layers/pools.py", True), ("streams.py", True), ("cli/bench.py", False)]
)
def test_all_code_that_computes_counts(tmp_path, monkeypatch, name, counts):
    found = []
    monkeypatch.setattr(content, "__file__", str(tmp_path / "run" / "content.py"))
    for text in ("one", "two"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        found.append(versions.__wrapped__()["nengonet"])
    assert (found[0] != found[1]) == counts
