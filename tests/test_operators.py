"""A minibatch's products, copies, resets and functions of Nodes, compared with Nengo's."""

import nengo
import numpy as np
import pytest
from minibatches import (
    BATCH,
    NUMBA,
    STEPS,
    assert_same_as_nengo,
    kept_in,
    minibatch,
    minibatch_of,
    model_of,
    neurons,
    random_rows,
)
from nengo.builder.neurons import SimNeurons
from nengo.builder.operator import Copy, DotInc, ElementwiseInc, Reset, SparseDotInc
from nengo.builder.signal import Signal
from nengo.exceptions import SimulationError
from nengo.transforms import SparseMatrix

import nengonet as nn
from nengonet.minibatch import MinibatchSimulator

SYNAPSES = {
    "None": None,
    "Lowpass": nengo.Lowpass(0.005),
    "Lowpass(0)": nengo.Lowpass(0),
    "Alpha": nengo.Alpha(0.004),
    "LinearFilter": nengo.LinearFilter([0.3, 0.1], [1, -0.5, 0.2], analog=False),
    "Triangle": nengo.synapses.Triangle(0.006),
}
_RNG = np.random.default_rng(3)


def _kernel(*shape):
    return _RNG.normal(0, 0.4, shape)


TRANSFORMS = {
    "None": nengo.transforms.NoTransform(16),
    "scalar": nengo.Dense((16, 16), init=0.7),
    "Dense": nengo.Dense((9, 16), init=_kernel(9, 16)),
    "Dense, large": nengo.Dense((300, 16), init=_kernel(300, 16)),
    "Dense, one output": nengo.Dense((1, 16), init=_kernel(1, 16)),
    "Sparse": nengo.Sparse(
        (9, 16), indices=np.stack([np.arange(20) % 9, np.arange(20) % 16], 1), init=_kernel(20)
    ),
    "Convolution": nengo.Convolution(
        3, (4, 4, 1), kernel_size=(2, 3), padding="same", init=_kernel(2, 3, 1, 3)
    ),
    "Convolution, strides": nengo.Convolution(
        2, (2, 4, 2), kernel_size=(2, 2), strides=(1, 2), init=_kernel(2, 2, 2, 2)
    ),
    "Convolution, channels first": nengo.Convolution(
        3, (1, 4, 4), kernel_size=(3, 3), channels_last=False, init=_kernel(3, 3, 1, 3)
    ),
    "Convolution, groups": nengo.Convolution(
        4, (2, 2, 4), kernel_size=(2, 2), padding="same", groups=2, init=_kernel(2, 2, 2, 4)
    ),
    "Convolution, one dimension": nengo.Convolution(
        2, (8, 2), kernel_size=(3,), strides=(1,), padding="same", init=_kernel(3, 2, 2)
    ),
    "ConvolutionTranspose": nengo.ConvolutionTranspose(
        2, (4, 4, 1), kernel_size=(3, 3), strides=(2, 2), init=_kernel(3, 3, 1, 2)
    ),
    "ConvolutionTranspose, one dimension": nengo.ConvolutionTranspose(
        2, (8, 2), kernel_size=(3,), strides=(1,), padding="same", init=_kernel(3, 2, 2)
    ),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("synapse", SYNAPSES.values(), ids=SYNAPSES)
def test_transforms_and_synapses(transform, synapse):
    with nengo.Network(seed=1) as network:
        node, n = nengo.Node(np.zeros(16)), transform.size_out
        spikes = neurons(16, nn.IntegrateAndFire(0.1), 300.0)
        post = neurons(n, nengo.LIF(), np.linspace(0.5, 2, n), np.linspace(0, 2, n))
        nengo.Connection(node, spikes.neurons, synapse=None)
        through = nengo.Connection(
            spikes.neurons, post.neurons, transform=transform, synapse=synapse
        )
        probes = [nengo.Probe(post.neurons), nengo.Probe(through)]
    expected = assert_same_as_nengo(network, probes, {node: random_rows(16)})
    assert expected[probes[1]].any()


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("transform", ["Dense, large", "Convolution", "ConvolutionTranspose"])
def test_products_over_many_spikes(transform, optimize):
    """So many that dense products take over, and as the input falls silent, give way again.

    Optimized, one reset serves several products, so that they add to it instead of setting it.
    """
    transform = TRANSFORMS[transform]
    with nengo.Network(seed=1) as network:
        node, target = nengo.Node(np.zeros(16)), nengo.Node(size_in=transform.size_out)
        spikes = neurons(16, nn.IntegrateAndFire(), 1500.0)
        nengo.Connection(node, spikes.neurons, synapse=None)
        through = [
            nengo.Connection(spikes.neurons, target, transform=transform, synapse=synapse)
            for synapse in (None, 0.005)
        ]
        probes = [nengo.Probe(each) for each in (spikes.neurons, *through)]
    rows = np.abs(random_rows(16))
    rows[:, STEPS // 2 :] = 0
    rows[:, -5:, :2] = 1
    expected = assert_same_as_nengo(network, probes, {node: rows}, optimize=optimize)
    assert np.mean(expected[probes[0]][:, : STEPS // 2] != 0) > 0.4


def test_each_example_calls_the_functions_of_nodes():
    seen = []
    with nengo.Network(seed=1) as network:
        source = nengo.Node(np.zeros(2))
        clock = nengo.Node(lambda t: [t, 2 * t])
        twice = nengo.Node(lambda t, x: 2 * x + t, size_in=2, size_out=2)
        sink = nengo.Node(lambda t, x: seen.append(x), size_in=2, size_out=0)
        nengo.Connection(source, twice, synapse=None)
        nengo.Connection(twice, sink, synapse=None)
        probes = [nengo.Probe(clock), nengo.Probe(twice)]
    assert_same_as_nengo(network, probes, {source: random_rows(2)})
    # the reference shows example after example, the minibatch step after step
    one_by_one = np.reshape(seen[: BATCH * STEPS], (BATCH, STEPS, 2))
    together = np.reshape(seen[BATCH * STEPS : 2 * BATCH * STEPS], (STEPS, BATCH, 2))
    np.testing.assert_array_equal(together.swapaxes(0, 1), one_by_one)


@pytest.mark.parametrize("value", [None, np.nan, "text", [1.0, 2.0, 3.0]])
def test_bad_values_of_node_functions(value):
    with nengo.Network() as network:
        nengo.Node(lambda t: [0.0, 0.0] if t == 0 else value, size_out=2)
    with minibatch(network) as simulator, pytest.raises(SimulationError, match="lambda"):
        simulator.run_steps(1)


# Models that Nengo's builders do not make.


def signal(*shape):
    return Signal(np.zeros(shape))


def test_resets_to_other_values_than_0():
    seen, x, y = [], signal(2), signal(2)
    matrix = Signal(np.array([[1.0, 2.0], [3.0, 4.0]]), readonly=True)
    operators = (Reset(x, value=2), Reset(y, value=1), DotInc(matrix, x, y), kept_in(seen, y))
    with minibatch_of(model_of(*operators)) as simulator:
        simulator.run_steps(2)
    np.testing.assert_array_equal(seen, [[7.0, 15.0]] * 4)


@pytest.mark.parametrize("numba", NUMBA)
def test_several_products_add_up_in_one_signal(numba):
    def spiking_model(seen):
        rng = np.random.default_rng(0)
        current, spikes, y = signal(8), signal(8), signal(300)
        voltage = Signal(rng.uniform(size=8))
        weights = [Signal(rng.normal(size=(300, 8)), readonly=True) for _ in range(2)]
        return model_of(
            Reset(current, value=90),
            SimNeurons(nn.IntegrateAndFire(), current, spikes, {"voltage": voltage}),
            Reset(y),
            *(DotInc(each, spikes, y) for each in weights),
            kept_in(seen, y),
        )

    expected, found = [], []
    settings = {"seed": 0, "progress_bar": False, "optimize": False}
    with nengo.Simulator(None, model=spiking_model(expected), **settings) as simulator:
        simulator.run_steps(30)
    with minibatch_of(spiking_model(found), numba=numba) as simulator:
        simulator.run_steps(30)
    assert np.any(expected)
    np.testing.assert_allclose(found, np.repeat(expected, 2, axis=0), atol=1e-9)


def test_weights_that_change():
    seen, w, x, y = [], signal(2, 2), signal(2), signal(2)
    reset = (Reset(w, value=3), Reset(x, value=2), Reset(y))
    with minibatch_of(model_of(*reset, DotInc(w, x, y), kept_in(seen, y))) as simulator:
        simulator.run_steps(2)
    np.testing.assert_array_equal(seen, [[12.0, 12.0]] * 4)


# What nothing sets lasts from step to step.


def ones(n):
    return Signal(np.ones(n))


def weights():
    return Signal(np.array([[0.5, 2.0], [-1.0, 3.0]]), readonly=True)


UNRESET = {
    "copy": lambda y: [Copy(ones(2), y[:2], inc=True)],
    "product": lambda y: [DotInc(weights(), ones(2), y[:2])],
    "elementwise": lambda y: [ElementwiseInc(Signal([2.0, 3.0], readonly=True), ones(2), y[1:3])],
    "sparse": lambda y: [
        SparseDotInc(Signal(SparseMatrix([[0, 1]], [2.0], (2, 2)), readonly=True), ones(2), y[2:])
    ],
    "part reset": lambda y: [Reset(y[:2], value=1), Copy(ones(4), y, inc=True)],
    "part set": lambda y: [
        Copy(ones(2), y, dst_slice=[0, 2]),
        Copy(ones(4), y, inc=True),
    ],
    "every other": lambda y: [
        Reset(y[::2]),
        Copy(ones(2), y[::2], inc=True),
        Copy(ones(2), y[1::2], inc=True),
    ],
    "reset beside": lambda y: [Reset(y[:2]), DotInc(weights(), ones(2), y[2:])],
    "repeated": lambda y: [Copy(ones(3), y, dst_slice=[0, 0, 3], inc=True)],
    "reset": lambda y: [Reset(y, value=3), Copy(ones(4), y, inc=True)],
    "reset in parts": lambda y: [
        Reset(y[:2]),
        Reset(y[2:]),
        Copy(ones(4), y, inc=True),
    ],
}


def unreset_model(make):
    """Return a model, and probes on what is incremented, on its sum over time, and on the time."""
    model, y, total = nengo.builder.Model(), Signal(np.array([0.0, 1, 0, 0])), signal(4)
    with nengo.Network() as network:
        probes = [nengo.Probe(nengo.Node([0.0])) for _ in range(3)]
    model.build(network)
    for operator in [*make(y), Copy(y, total, inc=True)]:
        model.add_op(operator)
    for probe, probed in zip(probes, (y, total, model.time), strict=True):
        model.sig[probe]["in"] = probed
    return model, probes


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("make", UNRESET.values(), ids=UNRESET)
def test_increments_of_what_nothing_resets_add_up(make, optimize):
    settings = {"seed": 0, "progress_bar": False, "optimize": optimize}
    runs = []
    for cls, arguments in ((nengo.Simulator, ()), (MinibatchSimulator, (BATCH,))):
        model, probes = unreset_model(make)
        with cls(None, *arguments, model=model, **settings) as simulator:
            simulator.run_steps(4)
            simulator.reset()
            simulator.run_steps(3)
            runs.append([np.array(simulator.data[probe]) for probe in probes])
    for expected, found in zip(*runs, strict=True):
        np.testing.assert_array_equal(found, np.broadcast_to(expected, (BATCH, *expected.shape)))
    assert len(np.unique(runs[0][1])) > 2
