"""Learning rules: each example has its own weights, as in its own reference run."""

import functools

import nengo
import numpy as np
import pytest
from minibatches import (
    BATCH,
    NUMBA,
    SEED,
    STEPS,
    assert_equal_runs,
    minibatch,
    neurons,
    quiet,
    random_rows,
    reference,
)

import nengonet as nn
from nengonet.exceptions import RunawayError
from nengonet.nengo_internals import precision_of
from nengonet.run.simulators import reset_to_example


def learning_network(rule, *, neurons=False, n=12, error=True, **settings):
    """Return a network whose middle connection learns, its input and its probes."""
    rng = np.random.default_rng(2)
    with nengo.Network(seed=3) as network:
        source = nengo.Node(np.zeros(2))
        pre, post = nengo.Ensemble(n, 2, **settings), nengo.Ensemble(n + 3, 2, **settings)
        nengo.Connection(source, pre, synapse=None)
        if neurons:
            weights = rng.normal(0, 0.01 / n, (n + 3, n))
            connection = nengo.Connection(
                pre.neurons, post.neurons, transform=weights, learning_rule_type=rule
            )
        else:
            function = (lambda x: x**2) if error else None
            connection = nengo.Connection(pre, post, function=function, learning_rule_type=rule)
        if error:
            rules = connection.learning_rule
            difference = nengo.Node(size_in=2)
            nengo.Connection(post, difference, synapse=0.01)
            nengo.Connection(source, difference, transform=-1, synapse=None)
            for each in rules if isinstance(rules, list) else [rules]:
                nengo.Connection(difference, each, synapse=None)
        probes = [nengo.Probe(post, synapse=0.01), nengo.Probe(connection, "weights")]
        if isinstance(rule, nengo.Voja):
            probes[-1] = nengo.Probe(connection.learning_rule, "scaled_encoders")
    return network, source, probes


def runs_of(network, probes, rows, precision=64):
    """Run the reference for each example of ``rows``, {node: (batch, n_steps, n)}."""
    found = {probe: [] for probe in probes}
    settings = {"seed": SEED, "progress_bar": False, "optimize": False}
    with precision_of(precision), quiet(), nengo.Simulator(network, **settings) as simulator:
        for example, shown in enumerate(zip(*rows.values(), strict=True)):
            reset_to_example(simulator, SEED, example)
            for step in range(len(shown[0])):
                for node, values in zip(rows, shown, strict=True):
                    simulator.signals[simulator.model.sig[node]["out"]][...] = values[step]
                simulator.step()
            for probe in probes:
                found[probe].append(simulator.data[probe].copy())
    return {probe: np.stack(each) for probe, each in found.items()}


def rows_of(n_examples, n_steps=STEPS, size=2):
    return np.random.default_rng(7).uniform(-1, 1, (n_examples, n_steps, size))


class Hebb(nengo.learning_rules.LearningRuleType):
    """A user's rule."""

    modifies = "weights"
    probeable = ("delta",)

    def __init__(self, learning_rate=1e-9):
        super().__init__(learning_rate, size_in=0)


class SimHebb(nengo.builder.Operator):
    """A user's operator: the limited product of the activities before and after."""

    def __init__(self, pre, post, delta, learning_rate):
        super().__init__()
        self.sets, self.incs, self.reads, self.updates = [], [], [pre, post], [delta]
        self.learning_rate = learning_rate

    def make_step(self, signals, dt, rng):
        pre, post = (signals[each] for each in self.reads)
        delta, total = signals[self.updates[0]], 0.0

        def step():
            nonlocal total
            total += post.sum()
            np.outer(post, pre * (self.learning_rate * dt), out=delta)
            delta[...] *= np.tanh(total)

        return step


@pytest.fixture(autouse=True)
def built(monkeypatch):
    def build(model, hebb, rule):
        ends = rule.connection.pre_obj, rule.connection.post_obj
        signals = [model.sig[each]["out"] for each in ends]
        model.add_op(SimHebb(*signals, model.sig[rule]["delta"], hebb.learning_rate))

    monkeypatch.setitem(nengo.builder.Builder.builders, Hebb, build)


RATES = {"neuron_type": nengo.RectifiedLinear()}
CASES = {
    "PES": (nengo.PES(1e-3), {}),
    "PES of rates": (nengo.PES(1e-3), RATES),
    "PES, full": (nengo.PES(1e-3, pre_synapse=None), {"neurons": True}),
    "BCM": (nengo.BCM(1e-8), {"neurons": True, "error": False}),
    "BCM, large": (nengo.BCM(1e-9), {"neurons": True, "error": False, "n": 70}),
    "Oja": (nengo.Oja(1e-6, beta=0.5), {"neurons": True, "error": False}),
    "Oja, large": (nengo.Oja(1e-7), {"neurons": True, "error": False, "n": 70}),
    "Voja": (nengo.Voja(0.1), {"error": False}),
    "Voja without a synapse": (nengo.Voja(0.1, post_synapse=None), {"error": False, "n": 30}),
    "RLS": (nengo.RLS(1e-3), {}),
    "two rules": ([nengo.PES(1e-3), nengo.PES(2e-3, pre_synapse=0.02)], {}),
    "two kinds": ([nengo.BCM(1e-8), nengo.Oja(1e-6)], {"neurons": True, "error": False}),
    "a user's": (Hebb(), {"neurons": True, "error": False}),
}


@functools.cache
def case_of(case, n_examples, n_steps, precision=64, hidden=False):
    """Return a network, its probes, its inputs, and the reference's runs."""
    rule, settings = CASES[case]
    network, source, probes = learning_network(rule, **settings)
    rows = {source: rows_of(n_examples, n_steps)}
    expected = runs_of(network, probes, rows, precision)
    if hidden:
        network.probes.remove(probes[1])
    return network, probes, rows, expected


@pytest.mark.parametrize("numba", NUMBA)
@pytest.mark.parametrize("case", CASES)
def test_every_example_learns_as_in_a_reference_run(case, numba):
    network, probes, rows, expected = case_of(case, 3, STEPS)
    learned = expected[probes[-1]]
    assert np.any(learned[:, -1] != learned[:, 0])  # they learn
    assert np.any(learned[0, -1] != learned[1, -1])  # each what its own input says
    with minibatch(network, 3, numba=numba) as simulator:
        simulator.run_steps(STEPS, data=rows)
        assert_equal_runs(expected, simulator.data)


@pytest.mark.parametrize("numba", NUMBA)
@pytest.mark.parametrize(
    "case, precision", [("PES", 64), ("PES", 32), ("BCM", 64), ("Voja", 32), ("RLS", 64)]
)
def test_twenty_examples_without_a_probe_of_weights(case, numba, precision):
    """Without a probe, weights are changed late, for many steps at once."""
    n_steps = 50
    network, (probe, other), rows, expected = case_of(case, 20, n_steps, precision, True)
    expected, (source,) = expected[probe], rows
    learned = getattr(other.target, "connection", other.target)
    assert expected.dtype == f"float{precision}"
    atol = {32: 2e-5, 64: 1e-11}[precision]
    with minibatch(network, 20, numba=numba, precision=precision) as simulator:
        simulator.run_steps(n_steps, data=rows)
        np.testing.assert_allclose(simulator.data[probe], expected, rtol=0, atol=atol)
        after = simulator.data[learned].weights
        assert (after.ndim == 3) == (case != "Voja")
        # The same in single steps, and again in another order.
        order = np.random.default_rng(1).permutation(20)
        simulator.reset_to_examples(examples=order, seed=SEED)
        for step in range(n_steps):
            simulator.run_steps(1, data={source: rows[source][order, step : step + 1]})
        found = simulator.data[learned].weights
        if case != "Voja":
            # Other products add up in an order that depends on the place in the minibatch.
            np.testing.assert_allclose(found, after[order], rtol=0, atol=atol * 1e-4)
        np.testing.assert_allclose(simulator.data[probe], expected[order], rtol=0, atol=atol)


@pytest.mark.parametrize("numba", NUMBA)
@pytest.mark.parametrize("size", [16, 64])
def test_to_the_bit_where_sums_are_exact(numba, size):
    """Numbers have few binary digits; 64 x 64 weights are changed late even without Numba."""
    rng = np.random.default_rng(0)
    dt, tuning = 2.0**-10, {"gain": np.ones(size), "bias": np.zeros(size)}
    tuning |= {"neuron_type": nn.IntegrateAndFire(), "encoders": np.eye(size)[:, :1] + 1}
    rule = nengo.PES(2.0**-8, pre_synapse=None)
    with nengo.Network(seed=1) as network:
        source = nengo.Node(np.zeros(size))
        pre, post = nengo.Ensemble(size, 1, **tuning), nengo.Ensemble(size, 1, **tuning)
        nengo.Connection(source, pre.neurons, synapse=None)
        weights = rng.integers(-8, 9, (size, size)) / 64
        settings = {"transform": weights, "synapse": None, "learning_rule_type": rule}
        learned = nengo.Connection(pre.neurons, post.neurons, **settings)
        error = nengo.Node([0.0])
        nengo.Connection(error, learned.learning_rule, synapse=None)
        probe = nengo.Probe(post.neurons)
    rows = {
        source: rng.integers(0, 64, (5, 70, size)) * 4.0,
        error: rng.integers(-8, 9, (5, 70, 1)) / 4,
    }
    with network:
        all_weights = nengo.Probe(learned, "weights", sample_every=10 * dt)

    def reference():
        found = {probe: [], all_weights: []}
        settings = {"seed": 0, "dt": dt, "progress_bar": False, "optimize": False}
        with quiet(), nengo.Simulator(network, **settings) as simulator:
            for example in range(5):
                simulator.reset()
                for step in range(70):
                    for node, values in rows.items():
                        signal = simulator.model.sig[node]["out"]
                        simulator.signals[signal][...] = values[example, step]
                    simulator.step()
                for each, kept in found.items():
                    kept.append(simulator.data[each].copy())
        return found

    expected = reference()
    assert np.any(expected[probe])
    with minibatch(network, 5, dt=dt, numba=numba) as simulator:
        simulator.run_steps(70, data=rows)
        for each, values in expected.items():
            np.testing.assert_array_equal(simulator.data[each], values)
        assert simulator.data[all_weights].shape == (5, 7, size, size)
        np.testing.assert_array_equal(simulator.data[learned].weights[:, 0].shape, (5, size))


@pytest.mark.parametrize("numba", NUMBA)
def test_slices_of_what_is_before_and_after(numba):
    with nengo.Network(seed=0) as network:
        source = nengo.Node(np.zeros(2))
        pre, post = nengo.Ensemble(14, 2), nengo.Ensemble(9, 2)
        nengo.Connection(source, pre, synapse=None)
        full = nengo.Connection(
            pre.neurons[2:12:2],
            post.neurons[1:8],
            transform=np.full((7, 5), 1e-3),
            learning_rule_type=nengo.PES(1e-3),
        )
        decoded = nengo.Connection(
            pre[1], post[0], function=lambda x: -x, learning_rule_type=nengo.PES(1e-3)
        )
        for size, rule in ((2, full.learning_rule), (1, decoded.learning_rule)):
            nengo.Connection(source[:size], rule, synapse=None)
        probes = [nengo.Probe(post.neurons), nengo.Probe(full, "weights")]
        probes.append(nengo.Probe(decoded, "weights"))
    rows = {source: rows_of(3)}
    expected = runs_of(network, probes, rows)
    with minibatch(network, 3, numba=numba) as simulator:
        simulator.run_steps(STEPS, data=rows)
        assert_equal_runs(expected, simulator.data)


@pytest.mark.parametrize("numba", NUMBA)
@pytest.mark.parametrize("n", [12, 70])
def test_a_learning_rate_of_0_changes_nothing(numba, n):
    network, source, probes = learning_network(nengo.PES(0), neurons=True, n=n)
    network.probes.remove(probes[1])
    with minibatch(network, 3, numba=numba) as simulator:
        before = simulator.data[probes[1].target].weights
        simulator.run_steps(STEPS, data={source: rows_of(3)})
        np.testing.assert_array_equal(simulator.data[probes[1].target].weights, before)


@pytest.mark.parametrize("numba", NUMBA)
def test_what_changes_is_probed_too(numba):
    """If they are probed, the changes are computed as a matrix."""
    network, source, probes = learning_network(nengo.Oja(1e-6), neurons=True, error=False)
    with network:
        probes.append(nengo.Probe(probes[1].target.learning_rule, "delta"))
        probes.append(nengo.Probe(probes[1].target, "weights", synapse=0.01))
    rows = {source: rows_of(3)}
    expected = runs_of(network, probes, rows)
    assert np.any(expected[probes[-2]])
    with minibatch(network, 3, numba=numba) as simulator:
        simulator.run_steps(STEPS, data=rows)
        assert_equal_runs(expected, simulator.data)


@pytest.mark.parametrize("numba", NUMBA)
def test_signals_are_those_of_now(numba):
    """They are current amid late changes, and where only a part is read."""
    network, source, probes = learning_network(nengo.PES(1e-3), neurons=True, n=70)
    rows = {source: rows_of(3)}
    expected = runs_of(network, probes[1:], rows)[probes[1]]
    network.probes.remove(probes[1])
    with minibatch(network, 3, numba=numba) as simulator:
        signal = simulator.model.sig[probes[1].target]["weights"]
        part = signal[3:9:2, 4:]
        for step in range(STEPS):
            for node, values in rows.items():
                simulator.run_steps(1, data={node: values[:, step : step + 1]})
            if step in (0, 1, 33, STEPS - 1):
                found = np.moveaxis(simulator.signals[signal], -1, 0)
                np.testing.assert_allclose(found, expected[:, step], rtol=1e-12, atol=1e-18)
                found = np.moveaxis(simulator.signals[part], -1, 0)
                there = expected[:, step, 3:9:2, 4:]
                np.testing.assert_allclose(found, there, rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize("numba", NUMBA)
def test_events_that_a_learned_connection_reads_are_written(numba):
    """Poisson input stays a list of events only if all its readers share weights."""
    with nengo.Network(seed=0) as network:
        pixels = nn.poisson_input((6,), max_rate=300.0)
        post = nengo.Ensemble(10, 6)
        learned = nengo.Connection(
            pixels.output, post, synapse=None, learning_rule_type=nengo.Voja(1e-3)
        )
        probe = nengo.Probe(post.neurons)
        encoders = nengo.Probe(learned.learning_rule, "scaled_encoders")
    images = np.random.default_rng(0).uniform(size=(3, 6))
    with quiet(), nengo.Simulator(network, progress_bar=False, optimize=False) as simulator:
        expected = {probe: [], encoders: []}
        for example, image in enumerate(images):
            reset_to_example(simulator, SEED, example, {pixels.output: image})
            simulator.run_steps(STEPS)
            for each, kept in expected.items():
                kept.append(simulator.data[each].copy())
    with minibatch(network, numba=numba) as simulator:
        simulator.reset_to_examples(images, seed=SEED)
        simulator.run_steps(STEPS)
        assert_equal_runs({each: np.stack(kept) for each, kept in expected.items()}, simulator.data)
        assert np.any(simulator.data[encoders][:, -1] != simulator.data[encoders][:, 0])


@pytest.mark.parametrize("numba", NUMBA)
def test_weights_that_run_away_are_an_error(numba):
    settings = RATES | {"neurons": True, "n": 70, "error": False}
    network, source, _ = learning_network(nengo.BCM(1e300), **settings)
    network.probes.clear()
    rows = rows_of(3)
    with quiet(), nengo.Simulator(network, progress_bar=False) as simulator:
        simulator.signals[simulator.model.sig[source]["out"]][...] = rows[0, 0]
        with pytest.raises(FloatingPointError):
            simulator.run_steps(STEPS)
    with minibatch(network, 3, numba=numba) as simulator, np.errstate(over="ignore"):
        with pytest.raises(RunawayError, match="expected finite"):
            simulator.run_steps(STEPS, data={source: rows})


@pytest.mark.parametrize("numba", NUMBA)
@pytest.mark.parametrize("n_outputs", [3, 40])
def test_infinite_weights_of_silent_inputs_are_an_error(n_outputs, numba):
    """0 times infinity is not a number; the error comes within 32 steps."""
    with quiet(), nengo.Network(seed=0) as network:
        source = nengo.Node(lambda t: 30.0 * (t < 0.02))
        pre = neurons(5, nengo.SpikingRectifiedLinear())
        nengo.Connection(source, pre.neurons, transform=np.full((5, 1), 20.0), synapse=None)
        post = nengo.Node(size_in=n_outputs)
        learned = nengo.Connection(
            pre.neurons,
            post,
            transform=np.ones((n_outputs, 5)),
            synapse=None,
            learning_rule_type=nengo.PES(1e300, pre_synapse=0.05),
        )
        error = nengo.Node(lambda t: np.full(n_outputs, 1e10 * (t > 0.03)))
        nengo.Connection(error, learned.learning_rule, synapse=None)
        probe = nengo.Probe(post)
    with quiet(), nengo.Simulator(network, progress_bar=False) as simulator:
        try:
            simulator.run_steps(40)
        except FloatingPointError:
            pass
        else:  # older NumPy, 2.2 for one, says nothing of such a product
            assert np.isnan(simulator.data[probe]).any()
    with minibatch(network, 2, numba=numba) as simulator, np.errstate(over="ignore"):
        with pytest.raises(RunawayError, match="expected finite"):
            simulator.run_steps(80)


def test_data_has_what_each_example_learned():
    network, source, probes = learning_network(nengo.PES(1e-3))
    rows = random_rows(2)
    learned = next(each for each in network.connections if each.learning_rule is not None)
    other = network.connections[0]
    expected = reference(network, probes, {source: rows})[probes[1]]
    with minibatch(network) as simulator:
        simulator.run_steps(STEPS, data={source: rows})
        weights = simulator.data[learned].weights
        assert weights.shape == (BATCH, 2, 12)
        np.testing.assert_allclose(weights, expected[:, -1], rtol=1e-12)
        with pytest.raises(ValueError, match="read-only"):
            weights[...] = 0
        assert np.shape(simulator.data[other].weights) == ()  # as Nengo gives it
        assert simulator.data[learned].transform is not None
        simulator.reset()
        again = simulator.data[learned].weights
        np.testing.assert_array_equal(again, np.broadcast_to(again[0], again.shape))
        assert np.any(again != weights)  # which is a copy
        simulator.run_steps(STEPS, data={source: rows})
    # and when the simulator is closed
    np.testing.assert_array_equal(simulator.data[learned].weights, weights)


def test_data_has_the_encoders_that_each_example_learned():
    network, source, probes = learning_network(nengo.Voja(0.1), error=False)
    rows = random_rows(2)
    post = network.ensembles[1]
    expected = reference(network, probes, {source: rows})[probes[-1]][:, -1]
    with minibatch(network) as simulator:
        simulator.run_steps(STEPS, data={source: rows})
        built = simulator.data[post]
        np.testing.assert_allclose(built.scaled_encoders, expected, rtol=1e-12)
        scale = (built.gain / post.radius)[:, np.newaxis]
        np.testing.assert_allclose(built.encoders, expected / scale)
        assert simulator.data[network.ensembles[0]].encoders.shape == (12, 2)


def test_weights_that_nobody_reads_are_learned():
    """Only `data` shows such weights."""
    with nengo.Network(seed=0) as network:
        source, pre = nengo.Node([0.5]), nengo.Ensemble(8, 1)
        nengo.Connection(source, pre, synapse=None)
        unread = nengo.Node(size_in=1)
        learned = nengo.Connection(pre, unread, synapse=None, learning_rule_type=nengo.PES(1e-2))
        nengo.Connection(source, learned.learning_rule)
    with minibatch(network) as simulator:
        before = simulator.data[learned].weights
        simulator.run_steps(20)
        after = simulator.data[learned].weights
        assert np.all(after <= before)  # those of neurons that spiked
        assert np.any(after < before)


def test_sparse_transforms_are_refused_by_nengo():
    sparse = nengo.Sparse((3, 2), indices=[[0, 0], [2, 1]], init=[1.0, 2.0])
    with nengo.Network() as network:
        a, b = nengo.Ensemble(2, 1), nengo.Ensemble(3, 1)
        nengo.Connection(a.neurons, b.neurons, transform=sparse, learning_rule_type=nengo.Oja())
    with pytest.raises(NotImplementedError, match="Sparse"):
        minibatch(network)
