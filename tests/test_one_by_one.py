"""Operators without a batched step: the reference's own step, for one example after the other."""

import copy

import nengo
import numpy as np
import pytest
from minibatches import (
    BATCH,
    NUMBA,
    SEED,
    STEPS,
    assert_same_as_nengo,
    image_network,
    kept_in,
    minibatch,
    minibatch_of,
    model_of,
    passing_network,
    random_rows,
    reference,
)
from nengo.builder import Builder, Operator
from nengo.builder.operator import DotInc, Reset
from nengo.builder.signal import Signal

import nengonet as nn
from nengonet.minibatch import register
from nengonet.minibatch.registry import _MAKERS
from nengonet.run.simulators import reset_to_example


class Own(Operator):
    """A user's operator, whose step ``make(operator, arrays, dt, rng)`` returns."""

    def __init__(self, make, *, reads=(), sets=(), updates=()):
        super().__init__()
        self.reads, self.sets, self.incs, self.updates = [*reads], [*sets], [], [*updates]
        self.make = make
        self.calls = 0

    def make_step(self, signals, dt, rng):
        return self.make(self, [signals[each] for each in self.all_signals], dt, rng)


class Changed(nengo.transforms.NoTransform):
    """A user's transform, built by an `Own`."""

    def __init__(self, make, size):
        super().__init__(size)
        self.make = make


@pytest.fixture(autouse=True)
def built(monkeypatch):
    def build(model, transform, sig_in, decoders=None, encoders=None, rng=None):
        weighted = Signal(shape=sig_in.shape, name="changed")
        model.add_op(Own(transform.make, reads=[sig_in], sets=[weighted]))
        return weighted, None

    monkeypatch.setitem(Builder.builders, Changed, build)


def network_with(make, size=2, noise=False):
    """Return a network with an operator between an input and a probed Node."""
    white = nengo.processes.WhiteNoise(nengo.dists.Uniform(-1, 1))
    with nengo.Network(seed=1) as network:
        source = nengo.Node(np.zeros(size))
        behind = nengo.Node(size_in=size)
        nengo.Connection(source, behind, transform=Changed(make, size), synapse=None)
        probes = [nengo.Probe(behind)]
        for _ in range(3 * noise):
            probes.append(nengo.Probe(nengo.Node(white, size_out=1)))
    return network, source, probes


def doubling(operator, arrays, dt, rng):
    x, y = arrays
    return lambda: np.multiply(x, 2, out=y)


def noisy(operator, arrays, dt, rng):
    """Draw numbers when the step is made and in every step."""
    x, y = arrays
    offset = rng.uniform(size=y.shape)
    return lambda: np.copyto(y, x + offset + rng.normal(size=y.shape))


def summing(operator, arrays, dt, rng):
    """Keep a state in the step itself."""
    x, y = arrays
    total = np.zeros_like(y)

    def step():
        total[...] += x
        y[...] = total

    return step


def counting(operator, arrays, dt, rng):
    """Keep a state in the operator."""
    x, y = arrays

    def step():
        operator.calls += int(x[0] > 0)
        y[...] = operator.calls

    return step


@pytest.mark.parametrize("make", [doubling, noisy, summing, counting])
@pytest.mark.parametrize("noise", [False, True])
def test_each_example_is_as_in_a_reference_run(make, noise):
    network, source, probes = network_with(make, noise=noise)
    data = {source: random_rows(2)}
    expected = reference(network, probes, data)
    with minibatch(network) as simulator:
        for part in range(2):
            rows = {source: data[source][:, part * STEPS // 2 :][:, : STEPS // 2]}
            simulator.run_steps(STEPS // 2, data=rows)  # the steps are made anew
        for probe in probes:
            np.testing.assert_array_equal(simulator.data[probe], expected[probe])
        assert len(np.unique(simulator.data[probes[0]], axis=0)) == BATCH


@pytest.mark.parametrize("make", [noisy, summing, counting])
def test_it_starts_again_and_in_any_order(make):
    network, source, (probe,) = network_with(make)
    rows = random_rows(2)
    with minibatch(network) as simulator:
        found = {}
        for order in ([0, 1, 2], [2, 0, 1], [1]):
            simulator.reset_to_examples(examples=order, seed=SEED)
            simulator.run_steps(STEPS, data={source: rows[order]})
            for example, values in zip(order, simulator.data[probe], strict=True):
                np.testing.assert_array_equal(values, found.setdefault(example, values))
        assert np.any(found[0] != found[1])


def test_views_lie_in_memory_as_in_the_reference():
    """A reshaped view with gaps is a copy, so writes to it are lost."""

    def mixing(operator, arrays, dt, rng):
        whole, row, gaps = arrays
        lost, found = gaps.reshape(-1), row.reshape(-1)

        def step():
            whole[...] += 1
            lost[...] = 99
            found[...] += whole[:2] + gaps.strides[1]
            gaps[...] -= whole[1]

        return step

    def model(seen):
        whole, matrix = Signal(np.arange(6.0)), Signal(np.arange(16.0).reshape(4, 4))
        parts = [whole, matrix[1:2, :2], matrix[2:, ::2]]
        operator = Own(mixing, updates=parts)
        return model_of(operator, kept_in(seen, whole), kept_in(seen, matrix))

    expected, found = [], []
    settings = {"seed": 0, "progress_bar": False, "optimize": False}
    with nengo.Simulator(None, model=model(expected), **settings) as simulator:
        simulator.run_steps(4)
    with minibatch_of(model(found)) as simulator:
        simulator.run_steps(4)
    assert len(found) == 2 * len(expected)
    assert not np.array_equal(expected[0], expected[2])
    for signal in (0, 1):  # of whose values each step kept both examples'
        mine = [values for values in found if values.ndim == signal + 1]
        theirs = [values for values in expected if values.ndim == signal + 1]
        np.testing.assert_array_equal(mine, np.repeat(theirs, 2, axis=0))


def test_shared_signals_and_scalars():
    def scaled(operator, arrays, dt, rng):
        x, factor, time, y = arrays
        return lambda: np.copyto(y, factor * x + time)

    with minibatch(passing_network()[0]) as other:
        time = other.model.time

    def built_model(seen):
        model = model_of()
        y, x = Signal(np.zeros(3)), Signal(np.zeros(3))
        factor = Signal(np.array(2.0), readonly=True)
        model.add_op(Reset(x, value=5))
        model.add_op(Own(scaled, reads=[x, factor, model.time], sets=[y]))
        model.add_op(kept_in(seen, y))
        return model

    found = []
    assert time is not None
    with minibatch_of(built_model(found)) as simulator:
        simulator.run_steps(2)
    np.testing.assert_allclose(found, [[10.001] * 3] * 2 + [[10.002] * 3] * 2)


def test_the_report_names_what_runs_one_by_one():
    network, _, _ = network_with(doubling)
    with network:
        nengo.Probe(nengo.Node(lambda t: t, label="clock"))
        nengo.Probe(nengo.Node(nengo.processes.WhiteNoise(), size_out=1, label="noise"))
    with minibatch(network, numba=False) as simulator:
        report = simulator.report()
        assert (report.minibatch_size, report.numba) == (BATCH, False)
        assert not report.in_stretches
        assert len(report.one_by_one) == 3
        text = str(report)
        assert "examples: 3, with NumPy" in text
        assert "3 of them example by example" in text
        assert "Own -> changed (no batched step)" in text
        for label in ("clock", "noise"):
            assert label in text
    with minibatch(passing_network(1)[0]) as simulator:
        assert "Node" in str(simulator.report())


def test_nothing_of_a_row_of_layers_runs_one_by_one():
    network, layer = image_network()
    with minibatch(network) as simulator:
        simulator.record(layer.output)
        report = simulator.report()
        assert report.one_by_one == {}
        assert report.in_stretches == report.numba
        assert "0 of them example by example" in str(report)


def test_a_registered_operator_leaves_the_list(monkeypatch):
    network, source, (probe,) = network_with(doubling)
    monkeypatch.setitem(_MAKERS, Own, None)  # which is taken out again

    @register(Own)
    def batched(operator, context):
        x, y = context.signals.operand(operator.reads[0]), context.signals[operator.sets[0]]
        return lambda: np.multiply(x, 2, out=y)

    with minibatch(network) as simulator:
        assert simulator.report().one_by_one == {}
    assert_same_as_nengo(network, [probe], {source: random_rows(2)})


def test_an_operator_that_cannot_be_copied_is_named():
    def stuck(operator, arrays, dt, rng):
        return lambda: None

    x, y = Signal(np.zeros(2)), Signal(np.zeros(2))
    operator = Own(stuck, reads=[x], sets=[y])
    operator.numbers = (number for number in range(3))
    with pytest.raises(nn.InputError, match="Own.*expected an operator.*its own copy"):
        minibatch_of(model_of(operator))
    minibatch_of(model_of(operator), batch=1).close()  # which needs no copy


def test_a_copy_keeps_its_signals():
    x, y = Signal(np.zeros(2)), Signal(np.zeros(2))
    operator = Own(doubling, reads=[x], sets=[y])
    assert copy.copy(operator).reads[0] is x


def test_products_with_weights_of_each_example():
    """A convolution's kernel changes, which no batched product handles."""

    def kernel_of(operator, arrays, dt, rng):
        x, kernel = arrays
        return lambda: np.add(kernel, 0.01 * x.sum(), out=kernel)

    with nengo.Network(seed=0) as network:
        source = nengo.Node(np.zeros(8))
        behind = nengo.Node(size_in=6)
        transform = nengo.Convolution(
            1, (8, 1), kernel_size=(3,), strides=(1,), init=np.ones((3, 1, 1))
        )
        connection = nengo.Connection(source, behind, transform=transform, synapse=None)
        probe = nengo.Probe(behind)

    def models():
        model = nengo.builder.Model()
        model.build(network)
        kernel, x = model.sig[connection]["weights"], model.sig[source]["out"]
        # Nengo thinks that nobody writes to it.
        kernel._readonly = False
        kernel._initial_value = kernel.initial_value.copy()
        model.add_op(Own(kernel_of, reads=[x], updates=[kernel]))
        return model

    rows = random_rows(8)
    expected = []
    with nengo.Simulator(None, model=models(), seed=0, progress_bar=False) as simulator:
        for example in range(BATCH):
            simulator.reset(seed=0)
            for step in range(STEPS):
                simulator.signals[simulator.model.sig[source]["out"]][...] = rows[example, step]
                simulator.step()
            expected.append(simulator.data[probe].copy())
    with minibatch_of(models(), batch=BATCH) as simulator:
        simulator.run_steps(STEPS, data={source: rows})
        np.testing.assert_array_equal(simulator.data[probe], expected)
        assert "weights of its own" in str(simulator.report())


def test_a_subclass_keeps_its_step():
    class OtherDot(DotInc):
        def make_step(self, signals, dt, rng):
            y = signals[self.Y]
            return lambda: y.__iadd__(3)

    seen, (x, y, w) = [], (Signal(np.zeros(shape)) for shape in (2, 2, (2, 2)))
    with minibatch_of(model_of(Reset(x), Reset(y), OtherDot(w, x, y), kept_in(seen, y))) as twin:
        twin.run_steps(2)
    np.testing.assert_array_equal(seen, [[3.0, 3.0]] * 4)


@pytest.mark.parametrize("numba", NUMBA)
def test_events_that_products_of_own_weights_read_are_written(numba):
    """Poisson input stays a list of events only if all its readers share weights."""

    def growing(operator, arrays, dt, rng):
        time, weights = arrays
        return lambda: np.add(weights, time, out=weights)

    with nengo.Network(seed=0) as network:
        pixels = nn.poisson_input((6,), max_rate=300.0)
        behind = nengo.Node(size_in=5)
        transform = np.random.default_rng(0).normal(size=(5, 6))
        settings = {"transform": transform, "synapse": None}
        connection = nengo.Connection(pixels.output, behind, **settings)
        probe = nengo.Probe(behind)
    images = np.random.default_rng(0).uniform(size=(BATCH, 6))

    def model():
        model = nengo.builder.Model()
        model.build(network)
        weights = model.sig[connection]["weights"]
        weights._readonly, weights._initial_value = False, weights.initial_value.copy()
        model.add_op(Own(growing, reads=[model.time], updates=[weights]))
        return model

    expected = []
    with nengo.Simulator(None, model=model(), progress_bar=False, optimize=False) as simulator:
        for example, image in enumerate(images):
            reset_to_example(simulator, SEED, example, {pixels.output: image})
            simulator.run_steps(STEPS)
            expected.append(simulator.data[probe].copy())
    assert np.any(expected)
    with minibatch_of(model(), batch=BATCH, numba=numba) as simulator:
        simulator.reset_to_examples(images, seed=SEED)
        simulator.run_steps(STEPS)
        np.testing.assert_allclose(simulator.data[probe], expected, rtol=1e-12)
