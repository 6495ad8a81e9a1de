"""Functions, processes and neuron types with a state: each example has its own copy."""

import collections
import functools
import itertools
import random
import time
import weakref

import nengo
import numpy as np
import pytest
from nengo.dists import Choice
from nengo.neurons import NeuronType

import nengonet as nn
from nengonet.minibatch import MinibatchSimulator, elementwise, stateless
from nengonet.run.simulators import reset_to_example

BATCH, STEPS, SEED = 3, 8, 5
ROWS = np.random.default_rng(0).normal(size=(BATCH, STEPS, 1))
FACTOR, TABLE, SETTINGS = 3.0, np.arange(9.0), {"factor": 2.0}
LOG, STREAM, CALLS = [], np.random.RandomState(3), 0


class Counter:
    def __init__(self):
        self.calls = 0

    def __call__(self, t, x):
        self.calls += 1
        return self.calls + x


class Slotted(Counter):
    __slots__ = ("others",)


class Delay:
    """Nengo's example ``usage/delay-node``."""

    def __init__(self, dimensions, timesteps=3):
        self.history = np.zeros((timesteps, dimensions))

    def step(self, t, x):
        self.history = np.roll(self.history, -1, axis=0)
        self.history[-1] = x
        return self.history[0]


class Nested:
    def __init__(self):
        self.delay = Delay(1)

    def step(self, t, x):
        return self.delay.step(t, x)


class SetByItsProperty:
    """A class that appends to a list which only a property's setter reaches."""

    def add(self, value, log=LOG):
        log.append(value)

    level = property(lambda self: 0, add)

    def __call__(self, t, x):
        self.level = 1
        return x


class CountedInItsClass:
    calls = 0

    def __call__(self, t, x):
        type(self).calls += 1
        return self.calls + x


class ListInItsClass:
    seen = []

    def __call__(self, t, x):
        self.seen.append(x)
        return len(self.seen) + x


class WithDefault:
    def __call__(self, t, x, seen=[]):  # noqa: B006
        seen.append(x)
        return len(seen) + x


class WritesToGlobal:
    def __call__(self, t, x):
        LOG.append(x)
        return len(LOG) + x


def nonlocal_variable():
    calls = 0

    def function(t, x):
        nonlocal calls
        calls += 1
        return calls + x

    return function


def closure(state, compute):
    return lambda t, x: compute(state, x)


def default():
    def function(t, x, seen=[0]):  # noqa: B006
        seen[0] += 1
        return seen[0] + x

    return function


def keyword_default():
    def function(t, x, *, seen=[0]):  # noqa: B006
        seen[0] += 1
        return seen[0] + x

    return function


def attribute():
    def function(t, x):
        function.calls = getattr(function, "calls", 0) + 1
        return function.calls + x

    return function


def global_variable(t, x):
    global CALLS
    CALLS += 1
    return CALLS + x


def closure_of_a_method():
    calls = 0

    class Counting:
        def __call__(self, t, x):
            nonlocal calls
            calls += 1
            return calls + x

    return Counting()


def generated():
    return closure((n for n in range(99)), lambda state, x: next(state) + x)


def large(writes):
    state = np.arange(300_000.0)

    def function(t, x):
        if writes:
            state[0] += 1
        return state[0] + x

    return function


def two_views():
    state = np.zeros(6)
    one, other = state[:4], state[2:]

    def function(t, x):
        one[3] += x[0]
        return other[1]

    return function


def changes_its_input(t, x):
    x *= 2
    x[0] += t
    return x


def inner_import(t, x):
    import numpy

    return x + numpy.random.rand()  # noqa: NPY002


def fibonacci():
    known = {}

    def value(n):
        if n not in known:
            known[n] = n if n < 2 else value(n - 1) + value(n - 2)
        return known[n]

    return lambda t, x: value(round(t * 1000)) + x


@functools.cache
def cached(n, seen=[0]):  # noqa: B006
    seen[0] += 1
    return seen[0]


RIGHT = {
    "pure": lambda: lambda t, x: np.sin(x) * FACTOR + np.linalg.norm(x),
    "reads a global array": lambda: lambda t, x: x + TABLE[round(t * 1000)],
    "reads a global dict": lambda: lambda t, x: x * SETTINGS["factor"],
    "callable object": Counter,
    "slots": Slotted,
    "bound method": lambda: Delay(1).step,
    "object in an object": lambda: Nested().step,
    "nonlocal": nonlocal_variable,
    "list": lambda: closure([], lambda seen, x: (seen.append(1), len(seen) + x)[1]),
    "keeps its input": lambda: closure([], lambda seen, x: (seen.append(x), seen[0] * 1)[1]),
    "array": lambda: closure(np.zeros(1), lambda sum_, x: np.add(sum_, x, out=sum_)),
    "large array, read": lambda: large(False),
    "default": default,
    "default of a keyword": keyword_default,
    "attribute": attribute,
    "memory of a recursion": fibonacci,
    "count": lambda: closure(itertools.count(), lambda state, x: next(state) + x),
    "iterator": lambda: closure(iter(range(99)), lambda state, x: next(state) + x),
    "partial": lambda: closure(functools.partial(Counter(), 0), lambda state, x: state(x)),
    "stream": lambda: closure(np.random.RandomState(1), lambda rng, x: x + rng.normal()),
    "generator of NumPy": lambda: closure(np.random.default_rng(1), lambda r, x: x + r.normal()),
    "method of a stream": lambda: closure(np.random.RandomState(1).normal, lambda f, x: x + f()),
    "global list": lambda: lambda t, x: (LOG.append(1), len(LOG) + x)[1],
    "global stream": lambda: lambda t, x: x + STREAM.rand(),
    "vectorized": lambda: closure(
        np.vectorize(functools.partial(Counter(), 0)), lambda state, x: state(x)
    ),
    "returns its input": lambda: lambda t, x: x,
    "changes its input": lambda: changes_its_input,
    "stated": lambda: stateless(lambda t, x: x + 0 * time.time()),
}


class Strict:
    """A class with its own attribute lookup, like some modules of torch."""

    def __init__(self):
        vars(self)["calls"] = 0

    def __getattr__(self, name):
        raise RuntimeError("unknown here")

    def __call__(self, t, x):
        vars(self)["calls"] += 1
        return x + vars(self)["calls"]


REFUSED = {
    "lookup": (Strict, r"cannot be copied \(unknown here\)"),
    "generator": (generated, "cannot be copied.*generator"),
    "global variable": (lambda: global_variable, "writes the global CALLS"),
    "list of a class": (ListInItsClass, "reaches a list"),
    "default of a method": (WithDefault, "reaches a list"),
    "setter of a property": (SetByItsProperty, "reaches a list"),
    "variable of a method": (closure_of_a_method, "reaches the variable calls"),
    "global of a method": (WritesToGlobal, "reaches a list"),
    "NumPy's stream": (lambda: lambda t, x: x + np.random.rand(), "reaches a RandomState"),  # noqa: NPY002
    "Python's stream": (lambda: lambda t, x: x + random.random(), r"reaches Random\.random"),
    "clock": (lambda: lambda t, x: x + time.time(), r"calls time\.time"),
    "import": (lambda: inner_import, "imports numpy"),
    "two views": (two_views, "two arrays that share memory"),
    "cache": (lambda: lambda t, x: x + cached(round(t * 1000)), "reaches a dict"),
    "module": (lambda: lambda t, x: x + vars(time)["time"](), "uses the module time"),
}


@pytest.fixture(autouse=True)
def _fresh_globals():
    _restart()
    yield
    _restart()


def _restart():
    LOG.clear()
    STREAM.seed(3)


def function_network(function):
    with nengo.Network(seed=0) as network:
        source = nengo.Node([0.0])
        node = nengo.Node(function, size_in=1, size_out=1, label="mine")
        nengo.Connection(source, node, synapse=None)
        probe = nengo.Probe(node)
    return network, source, probe


def neuron_network(neuron_type, probed="output"):
    with nengo.Network(seed=0) as network:
        source = nengo.Node([0.0])
        ensemble = nengo.Ensemble(
            3, 1, gain=[3, 4, 5], bias=[0, 0.5, 1], neuron_type=neuron_type, label="mine"
        )
        nengo.Connection(source, ensemble.neurons, transform=[[1], [2], [-1]], synapse=None)
        probe = nengo.Probe(ensemble.neurons, probed)
    return network, source, probe


def reference(make):
    """Run a new network for each example, twice from the reset state."""
    found = []
    for example in range(BATCH):
        _restart()
        network, source, probe = make()
        with nengo.Simulator(network, seed=SEED, progress_bar=False, optimize=False) as simulator:
            for _ in range(2):
                reset_to_example(simulator, SEED, example)
                signal = simulator.model.sig[source]["out"]
                for row in ROWS[example]:
                    if signal in simulator.signals:
                        simulator.signals[signal][...] = row
                    simulator.step()
                found.append(simulator.data[probe].copy())
        np.testing.assert_array_equal(found[-2], found[-1])
    _restart()
    return np.stack(found[::2])


def assert_examples_are_apart(make):
    expected = reference(make)
    network, source, probe = make()
    with MinibatchSimulator(network, BATCH, seed=SEED, progress_bar=False) as simulator:
        simulator.run_steps(STEPS, data={source: ROWS})
        np.testing.assert_allclose(simulator.data[probe], expected, rtol=1e-12, atol=1e-12)
        for order in ([0, 1, 2], [2, 0], [1]):
            simulator.reset_to_examples(examples=order)
            simulator.run_steps(STEPS, data={source: ROWS[order]})
            np.testing.assert_allclose(
                simulator.data[probe], expected[order], rtol=1e-12, atol=1e-12
            )
    return expected


@pytest.mark.parametrize("name", RIGHT)
def test_each_example_has_a_function_of_its_own(name):
    assert_examples_are_apart(lambda: function_network(RIGHT[name]()))


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_copied_is_named(name):
    make, message = REFUSED[name]
    network, _, _ = function_network(make())
    with pytest.raises(nn.InputError, match=f"<Node 'mine'>: expected a function.*{message}"):
        MinibatchSimulator(network, BATCH, progress_bar=False)
    with nengo.Simulator(network, progress_bar=False) as simulator:
        with pytest.raises(nn.InputError, match=message):
            reset_to_example(simulator, 0, 0)


@pytest.mark.parametrize(
    "make, message",
    [
        (CountedInItsClass, r"CountedInItsClass\.calls: expected classes that stay the same"),
        (lambda: large(True), "does not write to arrays above 1 MB"),
    ],
)
def test_what_is_found_out_in_a_step_is_an_error(make, message):
    network, _, _ = function_network(make())
    with MinibatchSimulator(network, BATCH, progress_bar=False) as simulator:
        with pytest.raises(nn.InputError, match=message):
            simulator.run_steps(1)


def test_one_example_and_resets_do_what_nengo_does():
    """With one example, Nengo's behaviour stays: the user's function is called, never reset."""
    mine = Counter()
    network, _, probe = function_network(mine)
    with MinibatchSimulator(network, 1, progress_bar=False) as simulator:
        simulator.run_steps(3)
        simulator.reset()
        simulator.run_steps(2)
        np.testing.assert_array_equal(simulator.data[probe][0, :, 0], [4, 5])
        assert mine.calls == 5
    with MinibatchSimulator(network, 2, progress_bar=False) as simulator:
        simulator.run_steps(3)
        simulator.reset()
        simulator.run_steps(2)
        np.testing.assert_array_equal(simulator.data[probe][:, :, 0], [[9, 10]] * 2)
        assert mine.calls == 5


class Room:
    def __init__(self):
        self.place = 0.0

    def sense(self, t):
        return self.place

    def act(self, t, x):
        self.place += float(x[0])


def room_network(inputs=True):
    with nengo.Network(seed=0) as network:
        source, room = nengo.Node([0.0]), Room()
        probe = nengo.Probe(nengo.Node(room.sense, size_out=1))
        nengo.Connection(source, nengo.Node(room.act, size_in=1, size_out=0), synapse=None)
    return network, source, probe


def closure_network():
    place = 0.0

    def act(t, x):
        nonlocal place
        place = 0.5 * place + float(x[0])

    with nengo.Network(seed=0) as network:
        source = nengo.Node([0.0])
        probe = nengo.Probe(nengo.Node(lambda t: place, size_out=1))
        nengo.Connection(source, nengo.Node(act, size_in=1, size_out=0), synapse=None)
    return network, source, probe


def connection_network(direct):
    seen = [0.0]

    def function(x):
        seen.append(float(x[0]))
        return seen[-2]

    with nengo.Network(seed=0) as network:
        source = pre = nengo.Node([0.0])
        if direct:
            pre = nengo.Ensemble(1, 1, neuron_type=nengo.Direct())
            nengo.Connection(source, pre, synapse=None)
        target = nengo.Node(size_in=1)
        nengo.Connection(pre, target, function=function, synapse=None)
        probe = nengo.Probe(target)
    return network, source, probe


class CountingProcess(nengo.Process):
    """A process that keeps its state in itself."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def make_step(self, shape_in, shape_out, dt, rng, state):
        def step(t, x=0.0):
            self.calls += 1
            return np.full(shape_out, self.calls + rng.normal())

        return step


class ClosureProcess(nengo.Process):
    def make_step(self, shape_in, shape_out, dt, rng, state):
        queue = collections.deque([0.0, 0.0])

        def step(t, x):
            queue.append(float(x[0]) + rng.uniform())
            x *= 2
            return queue.popleft()

        return step


class ReshapingProcess(nengo.Process):
    def make_state(self, shape_in, shape_out, dt, dtype=None):
        return {"sums": np.zeros((2, 3))}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        sums = state["sums"]

        def step(t, x):
            sums.reshape(-1)[:] += x[0]
            sums.T[0] += 1
            return sums.sum()

        return step


def noise_network():
    with nengo.Network(seed=0) as network:
        source, ensemble = nengo.Node([0.0]), nengo.Ensemble(9, 1, noise=CountingProcess())
        nengo.Connection(source, ensemble)
        probe = nengo.Probe(ensemble.neurons)
    return network, source, probe


@pytest.mark.parametrize(
    "make",
    [
        room_network,
        closure_network,
        lambda: connection_network(False),
        lambda: connection_network(True),
        lambda: function_network(CountingProcess()),
        lambda: function_network(ClosureProcess()),
        lambda: function_network(ReshapingProcess()),
        noise_network,
    ],
    ids="room closure connection direct counting queue reshaping noise".split(),
)
def test_state_that_nodes_share_and_processes(make):
    assert len(np.unique(assert_examples_are_apart(make))) > 1


def test_a_node_with_neither_input_nor_output_is_called_once_a_step():
    times, own = [], {"calls": 0}

    def count(t):
        own["calls"] += 1
        return own["calls"]

    with nengo.Network(seed=0) as network:
        nengo.Node(lambda t: times.append(t), size_in=0, size_out=0)
        counted = nengo.Probe(nengo.Node(count, size_out=1))
    with MinibatchSimulator(network, BATCH, progress_bar=False) as simulator:
        simulator.run_steps(4)
    np.testing.assert_allclose(times, [0.001, 0.002, 0.003, 0.004])
    # What has an output is called for each example.
    np.testing.assert_array_equal(simulator.data[counted][:, :, 0], [[1, 2, 3, 4]] * BATCH)


def test_a_node_without_output_has_one_function_for_all():
    seen = []
    network, source, _ = function_network(lambda t, x: x + 1)
    with network:
        nengo.Connection(source, nengo.Node(lambda t, x: seen.append(x), size_in=1, size_out=0))
    with MinibatchSimulator(network, BATCH, progress_bar=False) as simulator:
        simulator.run_steps(2)
    assert len(seen) == 2 * BATCH


# neuron types -------------------------------------------------------------------------------------


class UserType(NeuronType):
    negative = True

    def max_rates_intercepts(self, gain, bias):
        return np.ones_like(gain), np.zeros_like(gain)


class CountsItsCalls(UserType):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def step(self, dt, J, output):
        self.calls += 1
        output[...] = J * self.calls


class WritesItsCurrent(UserType):
    def step(self, dt, J, output):
        J += 1
        output[...] = J


class Reshapes(UserType):
    state = {"sums": Choice([0.0])}

    def step(self, dt, J, output, sums):
        sums.reshape(-1)[:] += J
        output[...] = sums.cumsum()


class TurnsLate(UserType):
    """A type that looks element-wise for five steps."""

    state = {"steps": Choice([0.0])}

    def step(self, dt, J, output, steps):
        steps += 1
        output[...] = J - (J.mean() if steps.flat[0] > 5 else 0)


class Draws(UserType):
    def make_state(self, n_neurons, rng=np.random, dtype=None):
        return {"walk": np.zeros(n_neurons), "rng": rng}

    def step(self, dt, J, output, walk, rng):
        walk += rng.normal(size=J.shape)
        output[...] = walk + J


class TogetherLIF(nengo.LIF):
    def step(self, dt, J, output, voltage, refractory_time):
        super().step(dt, J, output, voltage, refractory_time)
        output *= 1 + 1e-4 * output.sum()


class TogetherAdaptiveLIF(nengo.AdaptiveLIF, TogetherLIF):
    """AdaptiveLIF's own step calls TogetherLIF's."""


class EachItsAmplitude(nengo.RectifiedLinear):
    amplitude = nengo.params.NdarrayParam("amplitude", shape=("*",))


class OnlyAnotherName(nengo.LIF):
    pass


USER_TYPES = {
    "counts": CountsItsCalls,
    "writes its current": WritesItsCurrent,
    "reshapes": Reshapes,
    "turns late": TurnsLate,
    "draws": Draws,
    "own step": TogetherLIF,
    "step of a cousin": TogetherAdaptiveLIF,
    # As many neurons as examples, which NumPy would broadcast.
    "array": lambda: EachItsAmplitude(np.array([1.0, 2.0, 3.0])),
    "another name": OnlyAnotherName,
}


@pytest.mark.parametrize("probed", ["output", "input"])
@pytest.mark.parametrize("name", USER_TYPES)
def test_neuron_types_that_are_not_known_are_stepped_one_by_one(name, probed):
    assert_examples_are_apart(lambda: neuron_network(USER_TYPES[name](), probed))


def test_registered_types_are_stepped_together():
    class Cubic(UserType):
        shapes = []

        def step(self, dt, J, output):
            self.shapes.append(J.shape)
            output[...] = J**3

    class Own(Cubic):
        def step(self, dt, J, output):
            super().step(dt, J, output)
            output += J.sum()

    assert elementwise(Cubic) is Cubic
    network, source, probe = neuron_network(Cubic())
    with MinibatchSimulator(network, BATCH, progress_bar=False) as simulator:
        simulator.run_steps(STEPS, data={source: ROWS})
        assert set(Cubic.shapes) == {(3, BATCH)}
        simulator.data[probe]
    network, _, _ = neuron_network(Own())
    with pytest.raises(nn.InputError, match="mine.*neuron type.*reaches a list"):
        MinibatchSimulator(network, BATCH, progress_bar=False)


class Zero:
    n = 0.0


@pytest.mark.parametrize("is_alive", [False, True])
def test_weak_proxies_are_looked_through_while_they_stand_for_something(is_alive):
    held = Zero()
    proxy = weakref.proxy(held)
    if not is_alive:
        del held

    def function(t):
        try:
            return float(proxy.n)
        except ReferenceError:
            return -1.0

    with nengo.Network() as network:
        probe = nengo.Probe(nengo.Node(function))
    with MinibatchSimulator(network, 2, progress_bar=False) as simulator:
        simulator.run_steps(3)
        np.testing.assert_array_equal(simulator.data[probe], 0.0 if is_alive else -1.0)
