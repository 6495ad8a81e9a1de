"""The minibatch twin against `nengo.Simulator`, example by example."""

import contextlib
import os
import pickle
import subprocess
import sys
import warnings

import hypothesis
import hypothesis.strategies as st
import nengo
import numpy as np
import pytest
from nengo.builder import Builder, Operator
from nengo.builder.neurons import SimNeurons
from nengo.builder.operator import (
    Copy,
    DotInc,
    ElementwiseInc,
    Reset,
    SimPyFunc,
    SparseDotInc,
)
from nengo.builder.signal import Signal
from nengo.dists import Choice, Uniform
from nengo.exceptions import SimulationError, SimulatorClosed
from nengo.neurons import NeuronType
from nengo.solvers import LstsqL2
from nengo.transforms import SparseMatrix

import nengonet as nn
from nengonet.minibatch import MinibatchSimulator, convolutions, register
from nengonet.minibatch.acceleration import load_kernels
from nengonet.minibatch.registry import _MAKERS
from nengonet.neurons import model_of
from nengonet.run.presentation import present
from nengonet.run.simulators import reset_to_example
from nengonet.studies import forum_mnist

HAVE_NUMBA = load_kernels() is not None
NUMBA = [False, pytest.param(True, marks=pytest.mark.skipif(not HAVE_NUMBA, reason="no Numba"))]
BATCH, STEPS = 3, 40
SEED = 5


@contextlib.contextmanager
def quiet():
    """Build without Nengo's warnings about gains that no rates belong to."""
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore")
        yield


def twin(network, batch=BATCH, **settings):
    settings = {"seed": SEED, "progress_bar": False} | settings
    with quiet():
        return MinibatchSimulator(network, batch, **settings)


def reference_run(network, probes, rows=None, node=None, *, examples=range(BATCH), **settings):
    """Run the reference for each example; return ``(batch, n_steps, n)`` for each probe."""
    settings = {"seed": SEED, "progress_bar": False, "optimize": False} | settings
    with quiet(), nengo.Simulator(network, **settings) as simulator:
        data = {probe: [] for probe in probes}
        for index, example in enumerate(examples):
            reset_to_example(simulator, SEED, example)
            for step in range(STEPS):
                if node is not None:
                    simulator.signals[simulator.model.sig[node]["out"]][...] = rows[index, step]
                simulator.step()
            for probe in probes:
                data[probe].append(simulator.data[probe].copy())
    return {probe: np.stack(each) for probe, each in data.items()}


def assert_equal_runs(expected, found):
    """Compare outputs; a single other spike, of height 1/dt, is far outside the tolerance."""
    assert expected.keys() == found.keys()
    for probe, values in expected.items():
        assert found[probe].shape == values.shape
        scale = max(1.0, np.abs(values).max(initial=0))
        np.testing.assert_allclose(found[probe], values, rtol=0, atol=1e-9 * scale)


def assert_twin_is_equal(network, probes, rows=None, node=None, **settings):
    """Compare the twin with the reference, with Numba and without; return the reference's data."""
    optimize = settings.get("optimize", False)
    expected = reference_run(network, probes, rows, node, optimize=optimize)
    for numba in (False, True) if HAVE_NUMBA else (False,):
        with twin(network, numba=numba, **settings) as simulator:
            simulator.run_steps(STEPS, data=None if node is None else {node: rows})
            assert_equal_runs(expected, {probe: simulator.data[probe] for probe in probes})
    return expected


def random_rows(n, seed=0, scale=1.0):
    return np.random.default_rng(seed).uniform(-scale, scale, (BATCH, STEPS, n))


class UserType(NeuronType):
    """Base of a user's types; their rates are not asked for."""

    def max_rates_intercepts(self, gain, bias):
        return np.ones_like(gain), np.zeros_like(gain)


class Leaky(UserType):
    """A user's neuron type, element-wise."""

    state = {"voltage": Choice([0.25])}
    spiking = True

    def step(self, dt, J, output, voltage):
        voltage += dt * (J - 5 * voltage)
        output[...] = (voltage > 1) / dt
        voltage[voltage > 1] = 0


class Ranked(UserType):
    """A user's neuron type that a batch would mislead: it looks at all its neurons."""

    def step(self, dt, J, output):
        output[...] = J - J.mean()


class Scaled(UserType):
    """A user's neuron type with one parameter for each neuron."""

    def step(self, dt, J, output):
        output[...] = np.arange(1, len(J) + 1) * J


RELU = nengo.RectifiedLinear()
NEURONS = {
    "LIF": nengo.LIF(),
    "LIF, deep": nengo.LIF(min_voltage=-1, amplitude=0.1, tau_ref=0.0005),
    "LIF, late": nengo.LIF(
        min_voltage=-0.5,
        initial_state={"voltage": Choice([-2.0]), "refractory_time": Uniform(0, 0.004)},
    ),
    "LIFRate": nengo.LIFRate(),
    "AdaptiveLIF": nengo.AdaptiveLIF(tau_n=0.05, inc_n=0.05),
    "AdaptiveLIFRate": nengo.AdaptiveLIFRate(tau_n=0.05),
    "RectifiedLinear": nengo.RectifiedLinear(amplitude=0.3),
    "SpikingRectifiedLinear": nengo.SpikingRectifiedLinear(amplitude=0.01),
    "Sigmoid": nengo.Sigmoid(),
    "Tanh": nengo.Tanh(),
    "Izhikevich": nengo.Izhikevich(),
    "RegularSpiking": nengo.RegularSpiking(nengo.LIFRate()),
    "RegularSpiking(Tanh)": nengo.RegularSpiking(nengo.Tanh()),
    "StochasticSpiking": nengo.StochasticSpiking(nengo.Tanh()),
    "PoissonSpiking": nengo.PoissonSpiking(RELU),
    "PoissonSpiking(Tanh)": nengo.PoissonSpiking(nengo.Tanh(), amplitude=0.2),
    "IntegrateAndFire": nn.IntegrateAndFire(amplitude=0.5),
    "IntegrateAndFire, clipped": nn.IntegrateAndFire(min_voltage=-0.25),
    "Leaky": Leaky(),
    "Ranked": Ranked(),
    "Scaled": Scaled(),
}
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


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("dt", [0.001, 0.0007, 0.01])
def test_lif_in_numpy_is_nengos_step_to_the_bit(dt, bits):
    rng = np.random.default_rng(11)
    neurons = nengo.LIF(tau_rc=0.017, tau_ref=0.0031, min_voltage=-0.4, amplitude=0.3)
    dtype = f"f{bits // 8}"
    current = np.zeros((13, 7), dtype)
    ours, theirs = (
        {
            "output": np.zeros((13, 7), dtype),
            "voltage": np.linspace(0, 1, 91, dtype=dtype).reshape(13, 7),
            "refractory_time": np.zeros((13, 7), dtype),
        }
        for _ in range(2)
    )
    state = {name: values for name, values in ours.items() if name != "output"}
    step = model_of(neurons).batched_step(dt, current, ours["output"], state, [])
    spikes = 0
    for _ in range(200):
        current[...] = rng.normal(1.0, 4.0, current.shape) * rng.choice([0.0, 1.0, 30.0], 7)
        step()
        neurons.step(dt, current, **theirs)
        for name, values in theirs.items():
            np.testing.assert_array_equal(ours[name], values, name)
        spikes += (theirs["output"] > 0).sum()
    assert spikes > 1000


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("synapse", SYNAPSES)
def test_transforms_and_synapses(transform, synapse):
    transform, synapse = TRANSFORMS[transform], SYNAPSES[synapse]
    with nengo.Network(seed=1) as network:
        node = nengo.Node(np.zeros(16))
        spikes = nengo.Ensemble(
            16, 1, gain=np.full(16, 300.0), bias=np.zeros(16), neuron_type=nn.IntegrateAndFire(0.1)
        )
        post = nengo.Ensemble(
            transform.size_out,
            1,
            gain=np.linspace(0.5, 2, transform.size_out),
            bias=np.linspace(0, 2, transform.size_out),
            neuron_type=nengo.LIF(),
        )
        nengo.Connection(node, spikes.neurons, synapse=None)
        through = nengo.Connection(
            spikes.neurons, post.neurons, transform=transform, synapse=synapse
        )
        probes = [nengo.Probe(post.neurons), nengo.Probe(through)]
    expected = assert_twin_is_equal(network, probes, random_rows(16), node)
    assert expected[probes[1]].any()


ROW_BY_ROW = {
    "one pixel": {"input_shape": (1, 1, 3), "kernel_size": (1, 1)},
    "valid": {"input_shape": (5, 4, 2), "kernel_size": (3, 2)},
    "valid, strides": {"input_shape": (6, 7, 1), "kernel_size": (2, 3), "strides": (2, 3)},
    "same": {"input_shape": (4, 3, 2), "kernel_size": (3, 2), "padding": "same"},
    "same, strides": {
        "input_shape": (5, 6, 2),
        "kernel_size": (4, 5),
        "strides": (2, 3),
        "padding": "same",
    },
    "one dimension": {
        "input_shape": (7, 2),
        "kernel_size": (3,),
        "strides": (2,),
        "padding": "same",
    },
}


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("case", ROW_BY_ROW)
def test_convolutions_row_by_row(case, optimize, monkeypatch):
    """Optimized, one reset serves both connections, so that they add to it."""
    monkeypatch.setattr(convolutions, "_ROWWISE_EXAMPLES", BATCH)
    calls = []
    rowwise = convolutions._rowwise
    monkeypatch.setattr(
        convolutions, "_rowwise", lambda *given: calls.append(given) or rowwise(*given)
    )
    settings = {"strides": (1,) * len(ROW_BY_ROW[case]["kernel_size"])} | ROW_BY_ROW[case]
    size = settings["kernel_size"]
    with nengo.Network(seed=1) as network:
        n = int(np.prod(settings["input_shape"]))
        node = nengo.Node(np.zeros(n))
        transform = nengo.Convolution(
            3, init=_kernel(*size, settings["input_shape"][-1], 3), **settings
        )
        target = nengo.Node(size_in=transform.size_out)
        through = [
            nengo.Connection(node, target, transform=transform, synapse=synapse)
            for synapse in (None, 0.005)
        ]
        probes = [nengo.Probe(each) for each in (target, *through)]
    assert_twin_is_equal(network, probes, random_rows(n), node, optimize=optimize)
    assert calls


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("transform", ["Dense, large", "Convolution", "ConvolutionTranspose"])
def test_products_over_many_spikes(transform, optimize):
    """So many that dense products take over, and as the input falls silent, give way again.

    Optimized, one reset serves several products, so that they add to it instead of setting it.
    """
    transform = TRANSFORMS[transform]
    with nengo.Network(seed=1) as network:
        node = nengo.Node(np.zeros(16))
        spikes = nengo.Ensemble(
            16, 1, gain=np.full(16, 1500.0), bias=np.zeros(16), neuron_type=nn.IntegrateAndFire()
        )
        nengo.Connection(node, spikes.neurons, synapse=None)
        target = nengo.Node(size_in=transform.size_out)
        through = [
            nengo.Connection(spikes.neurons, target, transform=transform, synapse=synapse)
            for synapse in (None, 0.005)
        ]
        probes = [nengo.Probe(each) for each in (spikes.neurons, *through)]
    rows = np.abs(random_rows(16))
    rows[:, STEPS // 2 :] = 0
    rows[:, -5:, :2] = 1
    expected = assert_twin_is_equal(network, probes, rows, node, optimize=optimize)
    assert np.mean(expected[probes[0]][:, : STEPS // 2] != 0) > 0.4


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("neurons", NEURONS)
def test_neurons(neurons, optimize):
    name, neuron_type = neurons, NEURONS[neurons]
    rng = np.random.default_rng(0)
    scale = 500 if "Rectified" in name or name.startswith(("Integrate", "Poisson", "Leaky")) else 3
    with nengo.Network(seed=1) as network:
        node = nengo.Node(np.zeros(4))
        layers = [
            nengo.Ensemble(
                n,
                1,
                gain=rng.uniform(0.5, 1, n) * scale,
                bias=rng.uniform(-0.2, 1, n) * scale,
                neuron_type=neuron_type,
            )
            for n in (12, 7)
        ]
        first = nengo.Connection(
            node, layers[0].neurons, transform=rng.normal(0, 1, (12, 4)), synapse=None
        )
        amplitude = 0.002 if neuron_type.spiking else 0.02
        nengo.Connection(
            layers[0].neurons,
            layers[1].neurons,
            transform=rng.normal(0, amplitude, (7, 12)),
            synapse=0.003,
        )
        probes = [nengo.Probe(layer.neurons) for layer in layers]
        probes += [nengo.Probe(layers[0].neurons, "input"), nengo.Probe(first)]
        probes += [nengo.Probe(layers[1].neurons, state) for state in neuron_type.state]
    # Merged, random neurons share one stream, and neurons that are not element-wise mix.
    optimize = optimize and "Spiking" not in name and name not in ("Ranked", "Scaled")
    expected = assert_twin_is_equal(network, probes, random_rows(4), node, optimize=optimize)
    assert len(np.unique(expected[probes[0]])) > 1


@pytest.mark.parametrize("numba", NUMBA)
def test_forum_network(numba):
    """The whole chain on real weights and images, with the input's events, and mean outputs."""
    layers = forum_mnist.mlp_layers(nn.load_weights(nn.pretrained("mnist_dense")))
    images, _ = nn.datasets.load("mnist", split="test", n_images=12)
    for kind in forum_mnist.NEURONS:
        network, output = forum_mnist.repaired(layers, neurons=kind)
        result = present(
            network,
            output,
            images,
            presentation_time=0.12,
            simulator="reference",
            progress=False,
        )
        with twin(network, 12, seed=0, numba=numba) as simulator:
            records = {
                layer.label: simulator.record(layer.output, steps=layer is output)
                for layer in output.chain()
            }
            simulator.reset_to_examples(images)
            simulator.run_steps(120)
            for layer in output.chain():
                total = records[layer.label].total
                counts = np.rint(total * 0.001 / layer.amplitude)
                np.testing.assert_array_equal(counts, result.counts[layer.label])
                np.testing.assert_allclose(total / 120, result.mean_output(layer.label))
            np.testing.assert_allclose(records[output.label].steps, result.outputs)
            assert result.counts[output.label].sum() > 100


# --- random networks


ENSEMBLE_TYPES = [
    nengo.LIF(),
    nengo.LIFRate(),
    nengo.AdaptiveLIF(),
    nengo.SpikingRectifiedLinear(),
    nengo.RectifiedLinear(),
    nengo.Sigmoid(),
    nengo.Direct(),
    nn.IntegrateAndFire(),
    nengo.PoissonSpiking(nengo.LIFRate()),
    nengo.StochasticSpiking(nengo.RectifiedLinear()),
]


class Recurrent(nengo.Process):
    """A user's process with an input, a state and noise."""

    def make_state(self, shape_in, shape_out, dt, dtype=None):
        return {"sum": np.zeros(shape_out)}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        total = state["sum"]

        def step(t, x):
            total[...] = 0.9 * total + x.sum() * dt + rng.normal(size=shape_out) * 0.01
            return total

        return step


def pick(rng, choices):
    return choices[rng.integers(len(choices))]


def random_node(rng, n, seeded):
    kind, seed = rng.integers(5), 7 if seeded else None
    if kind == 0:
        return nengo.Node(size_in=n)
    if kind == 1:
        return nengo.Node(lambda t, x: np.sin(x + 10 * t), size_in=n, size_out=n)
    if kind == 2:
        return nengo.Node(nengo.processes.WhiteSignal(0.1, high=50, seed=3), size_out=n)
    if kind == 3:
        return nengo.Node(nengo.processes.WhiteNoise(seed=seed), size_out=n)
    return nengo.Node(Recurrent(seed=seed), size_in=n, size_out=n)


def random_network(seed, seeded=False):
    """Nodes and ensembles of 1 to 3 dimensions, connected at random, loops included."""
    types = ENSEMBLE_TYPES[:-2] if seeded else ENSEMBLE_TYPES
    rng = np.random.default_rng(seed)
    with nengo.Network(seed=int(rng.integers(1000))) as network:
        source = nengo.Node(np.zeros(2))
        things = [source]
        for _ in range(rng.integers(2, 6)):
            n = int(rng.integers(1, 4))
            if rng.random() < 0.35:
                things.append(random_node(rng, n, seeded))
                continue
            noise = nengo.processes.FilteredNoise(seed=7 if seeded else None)
            neuron_type = pick(rng, types)
            things.append(
                nengo.Ensemble(
                    int(rng.integers(5, 25)),
                    n,
                    neuron_type=neuron_type,
                    noise=pick(rng, [noise, None, None]),
                )
            )
        probes = []
        targets = [thing for thing in things if thing.size_in > 0]
        for _ in range(rng.integers(1, 3 * len(things)) if targets else 0):
            pre, post = pick(rng, things), pick(rng, targets)
            random_connection(rng, pre, post, strided=not seeded)
        for thing in things:
            probes.append(nengo.Probe(thing, synapse=pick(rng, [None, 0.01])))
            if is_ensemble(thing, direct=False) and rng.random() < 0.5:
                probes.append(nengo.Probe(thing.neurons, sample_every=0.003))
    return network, source, probes


def is_ensemble(thing, direct):
    return isinstance(thing, nengo.Ensemble) and direct == isinstance(
        thing.neuron_type, nengo.Direct
    )


def random_connection(rng, pre, post, strided):
    # A synapse keeps every loop from being instantaneous.
    synapses = [nengo.Lowpass(0.005), nengo.Alpha(0.003), nengo.synapses.Triangle(0.004)]
    decoded = is_ensemble(pre, direct=False)
    solver = LstsqL2()
    if is_ensemble(post, direct=False) and rng.random() < 0.4:
        if decoded and rng.random() < 0.5:
            solver = LstsqL2(weights=True)
        else:
            post = post.neurons
    function, n = None, pre.size_out
    passthrough = isinstance(pre, nengo.Node) and pre.output is None
    if rng.random() < 0.3:
        pre = pick(rng, [pre[:1], pre[[-1, 0]]])
        n = pre.size_out
    if rng.random() < 0.4 and not passthrough:
        function, n = (lambda x: [np.clip(np.sum(x), -2, 2), np.cos(np.max(x))]), 2
    if rng.random() < 0.3:
        # Nengo's optimizer fails on strided views, or computes something else.
        post = pick(rng, [post[::2], post[::-1], post[[-1]]] if strided else [post[:1], post[[-1]]])
    nengo.Connection(
        pre,
        post,
        function=function,
        synapse=pick(rng, synapses),
        transform=rng.normal(0, 0.5, (post.size_in, n)),
        solver=solver,
    )


@hypothesis.settings(max_examples=20, deadline=None, derandomize=True, database=None)
@hypothesis.given(seed=st.integers(0, 2**32 - 1))
def test_random_optimized_networks(seed):
    """Merged signals; their order, which unseeded streams follow, differs from build to build."""
    network, source, probes = random_network(seed, seeded=True)
    assert_twin_is_equal(network, probes, random_rows(2, seed), source, optimize=True)


@hypothesis.settings(max_examples=30, deadline=None, derandomize=True, database=None)
@hypothesis.given(seed=st.integers(0, 2**32 - 1))
def test_random_networks(seed):
    network, source, probes = random_network(seed)
    assert_twin_is_equal(network, probes, random_rows(2, seed), source)


# --- nodes, processes, data


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize(
    "process",
    [
        nengo.processes.WhiteNoise(),
        nengo.processes.WhiteNoise(seed=4),
        nengo.processes.WhiteSignal(0.1, high=40),
        nengo.processes.FilteredNoise(synapse=nengo.Alpha(0.01)),
        nengo.processes.BrownNoise(),
        nengo.processes.PresentInput([[1, 2], [3, 4]], 0.01),
        nengo.processes.Piecewise({0.01: [1, 0], 0.02: [0.5, -1]}),
    ],
    ids=lambda process: type(process).__name__,
)
def test_processes(process, optimize):
    with nengo.Network(seed=1) as network:
        node = nengo.Node(process, size_out=2)
        ensemble = nengo.Ensemble(20, 2, noise=nengo.processes.WhiteNoise(seed=2))
        nengo.Connection(node, ensemble)
        probes = [nengo.Probe(node), nengo.Probe(ensemble, synapse=0.01)]
    expected = assert_twin_is_equal(network, probes, optimize=optimize)
    same = np.array_equal(expected[probes[0]][0], expected[probes[0]][1])
    fixed = process.seed is not None or isinstance(
        process, (nengo.processes.PresentInput, nengo.processes.Piecewise)
    )
    assert same == fixed


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
    rows = random_rows(2)
    assert_twin_is_equal(network, probes, rows, source)
    reference, numpy = seen[: BATCH * STEPS], seen[BATCH * STEPS : 2 * BATCH * STEPS]
    # the reference shows example after example, the twin step after step
    reference = np.reshape(reference, (BATCH, STEPS, 2))
    np.testing.assert_array_equal(np.reshape(numpy, (STEPS, BATCH, 2)).swapaxes(0, 1), reference)


@pytest.mark.parametrize("value", [None, np.nan, "text", [1.0, 2.0, 3.0]])
def test_bad_values_of_node_functions(value):
    with nengo.Network() as network:
        nengo.Node(lambda t: [0.0, 0.0] if t == 0 else value, size_out=2)
    with twin(network) as simulator, pytest.raises(SimulationError, match="lambda"):
        simulator.run_steps(1)


def test_direct_mode_and_decoded_functions():
    with nengo.Network(seed=2) as network:
        source = nengo.Node(np.zeros(2))
        exact = nengo.Ensemble(1, 2, neuron_type=nengo.Direct())
        spiking = nengo.Ensemble(40, 2)
        nengo.Connection(source, exact, synapse=None)
        nengo.Connection(exact, spiking[1], function=lambda x: x[0] * x[1], synapse=0.002)
        nengo.Connection(spiking, exact[0], function=lambda x: x[1] ** 2, transform=0.3)
        nengo.Connection(spiking, spiking, solver=LstsqL2(weights=True), synapse=0.01)
        probes = [
            nengo.Probe(exact),
            nengo.Probe(spiking, synapse=0.01),
            nengo.Probe(exact, "input"),
        ]
    for optimize in (False, True):
        assert_twin_is_equal(network, probes, random_rows(2), source, optimize=optimize)


def passing(size=3):
    with nengo.Network(seed=1) as network:
        source = nengo.Node(np.arange(size, dtype=float))
        behind = nengo.Node(lambda t, x: x + 1, size_in=size, size_out=size)
        nengo.Connection(source, behind, synapse=None)
        probe = nengo.Probe(behind)
    return network, source, behind, probe


def test_data_is_put_out_during_one_call_only():
    network, source, _, probe = passing()
    rows = random_rows(3)
    with twin(network) as simulator:
        simulator.run_steps(2)
        simulator.run_steps(STEPS, data={source: rows})
        simulator.run_steps(2, data={source: rows[:, 0]})
        simulator.run(0.002, data={source: rows[:, 1]})
        simulator.run_steps(1)
        found = simulator.data[probe]
        assert simulator.n_steps == STEPS + 7
        np.testing.assert_allclose(simulator.trange()[-1], simulator.time)
    own = np.broadcast_to(np.arange(3.0), (BATCH, 1, 3))
    expected = [own, own, rows, rows[:, :1], rows[:, :1], rows[:, 1:2], rows[:, 1:2], own]
    np.testing.assert_array_equal(found, np.concatenate(expected, axis=1) + 1)


def test_data_takes_the_place_of_functions_and_processes():
    with nengo.Network(seed=1) as network:
        nodes = [
            nengo.Node(lambda t: [t, t], label="function"),
            nengo.Node(nengo.processes.WhiteNoise(), size_out=2, label="process"),
        ]
        probes = [nengo.Probe(node) for node in nodes]
    rows = random_rows(2)
    with twin(network) as simulator:
        simulator.run_steps(STEPS, data={node: rows for node in nodes})
        for probe in probes:
            np.testing.assert_array_equal(simulator.data[probe], rows)
        simulator.run_steps(1)
        np.testing.assert_allclose(simulator.data[probes[0]][:, -1], simulator.time)
        assert np.all(simulator.data[probes[1]][:, -1] != 0)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda s, b: {s: np.zeros((BATCH, 2))}, r"expected shape \(3, 5, 3\).* or \(3, 3\)"),
        (lambda s, b: {s: np.zeros((BATCH, 4, 3))}, r"got \(3, 4, 3\)"),
        (lambda s, b: {s: np.zeros((2, 5, 3))}, r"got \(2, 5, 3\)"),
        (lambda s, b: {s: np.full((BATCH, 3), np.nan)}, "finite"),
        (lambda s, b: {s: [["a"] * 3] * BATCH}, "array of numbers"),
        (
            lambda s, b: {b: np.zeros((BATCH, 3))},
            "expected nodes without an input, got <Node.*size_in 3",
        ),
        (lambda s, b: {"x": np.zeros((BATCH, 3))}, "expected nodes of the network"),
        (lambda s, b: np.zeros((BATCH, 3)), r"expected a dict of \{Node: values\}, got shape"),
        (lambda s, b: [s], "expected a dict"),
        (lambda s, b: {s: np.zeros((BATCH, 3), bool)}, "expected an array of numbers"),
        (lambda s, b: {s: None}, "expected an array of numbers"),
        (lambda s, b: {s: np.zeros((BATCH, 3), complex)}, "expected an array of numbers"),
        (lambda s, b: {s: [[1.0, 2.0], [3.0]]}, "expected an array of numbers"),
    ],
)
def test_bad_data(make, message):
    network, source, behind, probe = passing()
    with twin(network) as simulator:
        with pytest.raises(nn.InputError, match=message):
            simulator.run_steps(5, data=make(source, behind))
        simulator.run_steps(5)
        assert simulator.data[probe].shape == (BATCH, 5, 3)


def test_data_that_are_infinite_in_few_bits_are_refused():
    network, source, _, _ = passing()
    with twin(network, precision=32) as simulator:
        with pytest.raises(nn.InputError, match="finite"):
            simulator.run_steps(5, data={source: np.full((BATCH, 3), 1e39)})


@pytest.mark.parametrize("steps", [0, -1, 2.5, "3", True, None, np.nan])
def test_bad_numbers_of_steps(steps):
    network, _, _, _ = passing()
    with twin(network) as simulator:
        with pytest.raises(nn.InputError, match="steps: expected a whole number of at least 1"):
            simulator.run_steps(steps)
        with pytest.raises(nn.InputError, match="time_in_seconds: expected seconds"):
            simulator.run("long")
        assert simulator.n_steps == 0


# --- the interface of nengo.Simulator


def test_reset_clear_probes_and_close():
    network, source, _, probe = passing()
    with network:
        nengo.Probe(source, sample_every=0.002)
    rows = random_rows(3)
    with twin(network) as simulator:
        simulator.run_steps(STEPS, data={source: rows})
        first = simulator.data[probe]
        assert not first.flags.writeable
        assert simulator.data[network.probes[1]].shape == (BATCH, STEPS // 2, 3)
        assert len(simulator.trange(sample_every=0.002)) == STEPS // 2
        simulator.clear_probes()
        assert simulator.data[probe].shape == (BATCH, 0, 3)
        simulator.reset()
        assert simulator.n_steps == 0
        assert simulator.time == 0
        simulator.run_steps(STEPS, data={source: rows})
        np.testing.assert_array_equal(simulator.data[probe], first)
        with pytest.warns(UserWarning, match="0 timesteps"):
            simulator.run(0)
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(simulator)
    assert simulator.closed
    np.testing.assert_array_equal(simulator.data[probe], first)
    for action in (
        simulator.step,
        simulator.reset,
        simulator.reset_to_examples,
        lambda: simulator.run_steps(1),
        simulator.__enter__,
    ):
        with pytest.raises(SimulatorClosed):
            action()


def test_built_parameters_and_shared_probes():
    with nengo.Network(seed=1) as network:
        a, b = nengo.Ensemble(10, 1), nengo.Ensemble(11, 2)
        connection = nengo.Connection(a, b[0])
        weights = nengo.Probe(connection, "weights")
        encoders = nengo.Probe(a, "scaled_encoders")
    with twin(network) as simulator:
        simulator.run_steps(4)
        assert simulator.data[a].gain.shape == (10,)
        assert simulator.data[weights].shape == (BATCH, 4, 1, 10)
        np.testing.assert_array_equal(
            simulator.data[encoders][2, 3], simulator.data[a].scaled_encoders
        )


def test_same_states_as_the_reference_after_the_build():
    with nengo.Network(seed=1) as network:
        ensemble = nengo.Ensemble(10, 1, neuron_type=nengo.LIF())
    with twin(network) as simulator, nengo.Simulator(network, progress_bar=False) as reference:
        key = ensemble.neurons
        voltage = reference.signals[reference.model.sig[key]["voltage"]]
        assert len(set(voltage)) == 10
        found = simulator.signals[simulator.model.sig[key]["voltage"]]
        np.testing.assert_array_equal(found, np.repeat(voltage[:, None], BATCH, axis=1))


def test_a_built_model_and_progress():
    network, _, _, probe = passing()
    with twin(network) as first:
        model = first.model
    with MinibatchSimulator(None, 2, model=model, seed=0, progress_bar=True) as simulator:
        simulator.run_steps(3, progress_bar=False)
        assert simulator.data[probe].shape == (2, 3, 3)


@pytest.mark.parametrize("numba", NUMBA)
def test_precision(numba):
    network, output = small_network()
    images = np.random.default_rng(0).uniform(size=(6, 16))
    totals = {}
    for bits in (32, 64, None):
        with twin(network, 6, precision=bits, numba=numba) as simulator:
            record = simulator.record(output.output)
            simulator.reset_to_examples(images)
            simulator.run_steps(100)
            totals[bits] = record.total
    assert nengo.rc.get("precision", "bits") == "64"
    assert totals[32].dtype == np.float32
    assert totals[64].dtype == totals[None].dtype == np.float64
    assert np.abs(totals[32] - totals[64]).sum() <= 0.02 * totals[64].sum()
    with pytest.raises(nn.InputError, match="one of 32, 64, got 16"):
        twin(network, precision=16)


# --- examples: images, random streams, batches


def small_network(kind="process", neuron_type=None, synapse=None, seed=0):
    rng = np.random.default_rng(1)
    with nengo.Network(seed=seed) as network:
        pixels = nn.poisson_input((4, 4), max_rate=400.0, kind=kind)
        hidden = nn.dense(
            pixels,
            rng.normal(0, 0.5, (16, 12)),
            neuron_type or nn.IntegrateAndFire(),
            gain=150.0,
            amplitude=1 / 150,
            synapse=synapse,
            label="hidden",
        )
        output = nn.dense(
            hidden,
            rng.normal(0, 0.5, (12, 4)),
            neuron_type or nn.IntegrateAndFire(),
            gain=150.0,
            label="output",
        )
    return network, output


def totals_of(network, output, images, examples, batch, seed=3, **settings):
    """Sum up every layer's output, shown in batches of ``batch``."""
    totals = []
    with twin(network, batch, **settings) as simulator:
        records = [simulator.record(layer.output) for layer in output.chain()]
        for start in range(0, len(images), batch):
            part = slice(start, start + batch)
            simulator.reset_to_examples(images[part], examples[part], seed)
            simulator.run_steps(130)
            totals.append(np.concatenate([record.total for record in records], axis=1))
    return np.concatenate(totals)


RANDOM = {
    "process": {},
    "Nengo's Poisson ensemble": {"kind": "ensemble"},
    "two random layers": {"neuron_type": nengo.PoissonSpiking(nengo.RectifiedLinear())},
    "stochastic": {"neuron_type": nengo.StochasticSpiking(nengo.RectifiedLinear())},
    "three random layers": {
        "kind": "ensemble",
        "neuron_type": nengo.PoissonSpiking(nengo.RectifiedLinear()),
    },
}


@pytest.mark.parametrize("numba", NUMBA)
@pytest.mark.parametrize("kind", RANDOM)
def test_batch_size_order_and_company_change_nothing(kind, numba):
    network, output = small_network(**RANDOM[kind])
    images, examples = np.random.default_rng(0).uniform(size=(7, 4, 4)), np.arange(10, 17)
    whole = totals_of(network, output, images, examples, 7, numba=numba)
    for batch in (1, 3):
        parts = totals_of(network, output, images, examples, batch, numba=numba)
        np.testing.assert_allclose(parts, whole, rtol=1e-9)
    order = np.random.default_rng(1).permutation(7)
    shuffled = totals_of(network, output, images[order], examples[order], 7, numba=numba)
    np.testing.assert_allclose(shuffled, whole[order], rtol=1e-9)
    assert not np.allclose(whole, totals_of(network, output, images, examples, 7, seed=4))
    assert not np.allclose(whole, totals_of(network, output, images, examples + 1, 7))


@pytest.mark.parametrize("kind", RANDOM)
def test_random_networks_equal_present(kind):
    network, output = small_network(**RANDOM[kind])
    images, examples = np.random.default_rng(0).uniform(size=(4, 4, 4)), np.array([3, 0, 12, 1])
    result = present(
        network,
        output,
        images,
        presentation_time=0.13,
        seed=3,
        examples=examples,
        simulator="reference",
        progress=False,
    )
    totals = totals_of(network, output, images, examples, 4)
    found = np.split(totals, np.cumsum([layer.size for layer in output.chain()])[:-1], axis=1)
    for layer, total in zip(output.chain(), found, strict=True):
        if layer.spiking:
            counts = np.rint(total * 0.001 / layer.amplitude)
            np.testing.assert_array_equal(counts, result.counts[layer.label])
        np.testing.assert_allclose(total / 130, result.mean_output(layer.label))


@pytest.mark.parametrize("numba", NUMBA)
def test_optimized_networks_of_images(numba):
    network, output = small_network()
    images = np.random.default_rng(0).uniform(size=(4, 4, 4))
    plain = totals_of(network, output, images, np.arange(4), 4, numba=numba)
    merged = totals_of(network, output, images, np.arange(4), 4, numba=numba, optimize=True)
    np.testing.assert_allclose(merged, plain)


@pytest.mark.parametrize("numba", NUMBA)
def test_probes_and_records_of_the_input(numba):
    """Whatever reads the input, its spikes are the same; so is what is made of them."""
    network, output = small_network()
    source = next(output.chain())
    images = np.random.default_rng(0).uniform(size=(5, 16))
    plain = totals_of(network, output, images, np.arange(5), 5, numba=numba)
    with network:
        probes = [nengo.Probe(source.node), nengo.Probe(source.node[3:5], synapse=0.01)]
        beside = nengo.Node(size_in=16)
        nengo.Connection(source.node, beside, synapse=None)
        probes.append(nengo.Probe(beside))
    with twin(network, 5, numba=numba) as simulator:
        record = simulator.record(source.output, steps=True)
        simulator.reset_to_examples(images, seed=3)
        simulator.run_steps(130)
        spikes = simulator.data[probes[0]]
        np.testing.assert_array_equal(record.steps, spikes)
        np.testing.assert_array_equal(simulator.data[probes[2]], spikes)
        np.testing.assert_allclose(record.total, spikes.sum(axis=1))
    np.testing.assert_allclose(record.total, plain[:, :16])
    np.testing.assert_allclose(totals_of(network, output, images, np.arange(5), 5), plain)


def test_plain_resets_take_the_last_image_and_the_first_examples():
    network, output = small_network()
    image = np.random.default_rng(0).uniform(size=16)
    output.show(image)
    with twin(network, 4, seed=3) as simulator:
        record = simulator.record(output.output)
        simulator.run_steps(130)
        first = record.total
        simulator.reset()
        assert not record.total.any()
        simulator.run_steps(130)
        np.testing.assert_array_equal(record.total, first)
        simulator.reset(seed=4)
        simulator.run_steps(130)
        assert not np.array_equal(record.total, first)
    images = np.tile(image, (4, 1))
    np.testing.assert_allclose(totals_of(network, output, images, np.arange(4), 4)[:, -4:], first)


def test_minibatch_size_follows_the_examples():
    network, output = small_network()
    images = np.random.default_rng(0).uniform(size=(9, 16))
    with network:
        probe = nengo.Probe(output.output)
    with twin(network, 4) as simulator:
        record = simulator.record(output.output)
        for n in (4, 9, 2):
            simulator.reset_to_examples(images[:n])
            simulator.run_steps(5)
            assert simulator.minibatch_size == n
            assert simulator.data[probe].shape == (n, 5, 4)
            assert record.total.shape == (n, 4)
        with pytest.raises(
            nn.InputError, match="expected 3 images .* got those of the last call, 2"
        ):
            simulator.reset_to_examples(examples=[5, 6, 7])
        simulator.reset_to_examples(examples=[5, 6], seed=1)
        np.testing.assert_array_equal(simulator.examples, [5, 6])


@pytest.mark.parametrize("numba", NUMBA)
def test_constant_input_is_worked_out_once(numba):
    weights = np.random.default_rng(0).normal(0, 0.3, (16, 20))
    with nengo.Network(seed=0) as network:
        pixels = nn.constant_input((4, 4), scale=2.0)
        hidden = nn.dense(pixels, weights, nengo.LIF(), label="hidden")
        output = nn.dense(hidden, weights.T[:, :3], None, label="output")
    images = np.random.default_rng(0).uniform(size=(4, 16))
    result = present(
        network,
        output,
        images,
        presentation_time=0.1,
        seed=0,
        simulator="reference",
        progress=False,
    )
    with twin(network, 4, numba=numba) as simulator:
        records = [simulator.record(layer.output) for layer in output.chain()]
        for _ in range(2):
            simulator.reset_to_examples(images, seed=0)
            simulator.run_steps(100)
            for layer, record in zip(output.chain(), records, strict=True):
                np.testing.assert_allclose(
                    record.total / 100, result.mean_output(layer.label), atol=1e-12
                )
        names = [type(operator).__name__ for operator in simulator._planned().once]
        assert "SimProcess" in names
        assert "DotInc" in names


def test_nothing_is_worked_out_for_unused_encoders():
    network, _ = small_network()
    with twin(network) as simulator:
        operators = simulator._planned().always
        assert not any("encoding" in str(operator) for operator in operators)
        assert any("encoding" in str(operator) for operator in simulator.step_order)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"images": np.zeros((3, 15))}, r"expected shape \(n_images, 4, 4\).*got \(3, 15\)"),
        ({"images": np.zeros(16)}, r"got \(16,\)"),
        ({"images": np.zeros((0, 16))}, r"at least one image, got shape \(0, 16\)"),
        ({"images": np.full((3, 16), np.inf)}, "finite"),
        ({"images": np.zeros((3, 16)), "examples": [1, 2]}, "expected 3 whole numbers"),
        ({"images": {"x": np.zeros((3, 16))}}, r"expected Nodes .*\(.*input.*\), got 'x'"),
        ({"images": np.zeros((3, 16)) - 1}, r"expected values in \[0, 1\]"),
        ({"examples": [0, -1]}, "whole numbers from 0, .* got"),
        ({"examples": [0.5]}, "whole numbers"),
        ({"examples": []}, "whole numbers"),
    ],
)
def test_bad_examples(settings, message):
    network, _ = small_network()
    with twin(network) as simulator, pytest.raises(nn.InputError, match=message):
        simulator.reset_to_examples(**settings)


def test_images_need_an_image_input():
    network, *_ = passing()
    with (
        twin(network) as simulator,
        pytest.raises(nn.InputError, match="expected one input that they are for, got none"),
    ):
        simulator.reset_to_examples(np.zeros((3, 16)))


def test_bad_records():
    network, output = small_network()
    with twin(network) as simulator:
        with pytest.raises(nn.InputError, match="expected a node or neurons"):
            simulator.record(nengo.Node(0, add_to_container=False))
        with pytest.raises(nn.InputError, match="steps=True"):
            _ = simulator.record(output.output).steps


# --- what is refused, and how to add to it


class TwoStep(Operator):
    """A user's operator: ``y = 2 * x``."""

    def __init__(self, x, y):
        super().__init__()
        self.sets, self.incs, self.reads, self.updates = [y], [], [x], []

    def make_step(self, signals, dt, rng):
        x, y = signals[self.reads[0]], signals[self.sets[0]]

        def step():
            y[...] = 2 * x

        return step


class Doubled(nengo.transforms.NoTransform):
    """A user's transform."""


def build_doubled(model, transform, sig_in, decoders=None, encoders=None, rng=None):
    weighted = Signal(shape=sig_in.shape, name="doubled")
    model.add_op(TwoStep(sig_in, weighted))
    return weighted, None


def doubled_network():
    with nengo.Network() as network:
        a, b = nengo.Node([1.0, 2.0]), nengo.Node(size_in=2)
        nengo.Connection(a, b, transform=Doubled(2), synapse=None)
        probe = nengo.Probe(b)
    return network, probe


def test_unknown_operators_are_refused_until_they_are_registered():
    Builder.register(Doubled)(build_doubled)
    try:
        network, probe = doubled_network()
        with pytest.raises(nn.InputError, match="no batched step for TwoStep"):
            twin(network)

        @register(TwoStep)
        def two_step(operator, context):
            return operator.make_step(context.signals, context.dt, None)

        with twin(network) as simulator:
            simulator.run_steps(2)
            np.testing.assert_array_equal(simulator.data[probe], np.full((3, 2, 2), [2.0, 4.0]))
    finally:
        _MAKERS.pop(TwoStep, None)
        Builder.builders.pop(Doubled)


def test_subclasses_with_a_step_of_their_own_are_refused():
    class OtherDot(DotInc):
        def make_step(self, signals, dt, rng):
            return lambda: None

    class SameReset(Reset):
        pass

    model = nengo.builder.Model()
    x, y = Signal(np.zeros(2), name="x"), Signal(np.zeros(2), name="y")
    model.add_op(SameReset(x))
    with MinibatchSimulator(None, 2, model=model, seed=0, progress_bar=False):
        pass
    model.add_op(OtherDot(Signal(np.eye(2), readonly=True, name="w"), x, y))
    with pytest.raises(nn.InputError, match="no batched step for OtherDot"):
        MinibatchSimulator(None, 2, model=model, seed=0, progress_bar=False)


@pytest.mark.parametrize("rule", [nengo.PES(), nengo.Oja(), nengo.BCM(), nengo.Voja()])
def test_learning_is_refused_by_name(rule):
    with nengo.Network() as network:
        a, b = nengo.Ensemble(5, 1), nengo.Ensemble(5, 1)
        if rule.modifies == "weights":
            a, b = a.neurons, b.neurons
        nengo.Connection(a, b, learning_rule_type=rule, transform=np.ones((b.size_in, a.size_out)))
    with pytest.raises(nn.InputError, match=f"Connection.*cannot learn.*{type(rule).__name__}"):
        twin(network)


def test_weights_that_change_are_refused():
    model = nengo.builder.Model()
    w, x, y = (Signal(np.zeros(s), name="s") for s in ((2, 2), 2, 2))
    model.add_op(Reset(w))
    model.add_op(DotInc(w, x, y, tag="odd one"))
    model.add_op(SimPyFunc(None, lambda x: None, None, y))
    with pytest.raises(nn.InputError, match="odd one.*weights that change"):
        MinibatchSimulator(None, 2, model=model, seed=0, progress_bar=False)


def test_convolutions_over_three_dimensions_are_refused():
    with nengo.Network() as network:
        node = nengo.Node(np.zeros(27))
        conv = nengo.Convolution(1, (3, 3, 3, 1), kernel_size=(2, 2, 2), strides=(1, 1, 1))
        nengo.Connection(node, nengo.Node(size_in=conv.size_out), transform=conv)
        nengo.Probe(network.nodes[1])
    with pytest.raises(nn.InputError, match="ConvInc.*one or two dimensions"):
        twin(network)


@pytest.mark.parametrize("size", [0, -1, 2.5, "8", True, None])
def test_bad_minibatch_sizes(size):
    with pytest.raises(nn.InputError, match="minibatch_size"):
        MinibatchSimulator(nengo.Network(), size)


# --- with and without Numba


def test_numba_is_left_out_where_it_is_not_wanted(monkeypatch):
    assert load_kernels(False) is None
    monkeypatch.setenv("NENGONET_NUMBA", "0")
    assert load_kernels() is None
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "nengonet.minibatch.kernels", raising=False)
    monkeypatch.delattr("nengonet.minibatch.kernels", raising=False)
    monkeypatch.delenv("NENGONET_NUMBA")
    assert load_kernels() is None
    with pytest.raises(nn.InputError, match=r"pip install nengonet\[fast\]"):
        load_kernels(True)


def test_numba_is_not_imported_with_the_package():
    code = "import sys, nengonet.minibatch; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0


@pytest.mark.parametrize("numba", NUMBA)
@pytest.mark.parametrize("neuron_type", [nengo.LIF(), nn.IntegrateAndFire()])
def test_currents_that_are_no_numbers_are_errors(numba, neuron_type):
    with nengo.Network(seed=0) as network:
        node = nengo.Node(np.zeros(2))
        ensemble = nengo.Ensemble(2, 1, gain=np.ones(2), bias=np.zeros(2), neuron_type=neuron_type)
        nengo.Connection(node, ensemble.neurons, transform=[[1e308, -1e308], [1, 1]], synapse=None)
    with (
        twin(network, numba=numba) as simulator,
        pytest.raises(FloatingPointError, match="invalid"),
    ):
        with np.errstate(over="ignore"):
            simulator.run_steps(3, data={node: np.full((BATCH, 2), 1e10)})


# --- the plan


@pytest.mark.parametrize("numba", NUMBA)
def test_neurons_see_their_current_before_a_synapse_goes_on(numba):
    """Any order that respects the dependencies gives the same spikes."""
    with nengo.Network(seed=1) as network:
        node = nengo.Node(np.zeros(3))
        ensemble = nengo.Ensemble(6, 1, gain=np.ones(6), bias=np.ones(6), neuron_type=nengo.LIF())
        weights = np.random.default_rng(0).normal(0, 5, (6, 3))
        nengo.Connection(node, ensemble.neurons, transform=weights, synapse=0.01)
        probe = nengo.Probe(ensemble.neurons)
    rows = random_rows(3)
    expected = reference_run(network, [probe], rows, node)
    with twin(network, numba=numba) as simulator:
        neurons = [op for op in simulator.step_order if isinstance(op, SimNeurons)]
        others = [op for op in simulator.step_order if op not in neurons]
        simulator._step_order = others + neurons
        simulator.reset()
        simulator.run_steps(STEPS, data={node: rows})
        assert_equal_runs(expected, {probe: simulator.data[probe]})


def test_resets_to_other_values_than_0():
    seen = []
    model = nengo.builder.Model()
    x, y = Signal(np.zeros(2), name="x"), Signal(np.zeros(2), name="y")
    weights = Signal(np.array([[1.0, 2.0], [3.0, 4.0]]), readonly=True, name="w")
    model.add_op(Reset(x, value=2))
    model.add_op(Reset(y, value=1))
    model.add_op(DotInc(weights, x, y))
    model.add_op(SimPyFunc(None, lambda values: seen.append(values), None, y))
    with MinibatchSimulator(None, 2, model=model, seed=0, progress_bar=False) as simulator:
        simulator.run_steps(2)
    np.testing.assert_array_equal(seen, [[7.0, 15.0]] * 4)


@pytest.mark.parametrize("numba", NUMBA)
def test_several_products_add_up_in_one_signal(numba):
    """Nengo's builders give each product a signal of its own; other models need not."""

    def spiking_model(seen):
        rng = np.random.default_rng(0)
        model = nengo.builder.Model()
        current, spikes = Signal(np.zeros(8), name="J"), Signal(np.zeros(8), name="spikes")
        voltage, y = Signal(rng.uniform(size=8), name="voltage"), Signal(np.zeros(300), name="y")
        model.add_op(Reset(current, value=90))
        model.add_op(SimNeurons(nn.IntegrateAndFire(), current, spikes, {"voltage": voltage}))
        model.add_op(Reset(y))
        for _ in range(2):
            weights = Signal(rng.normal(size=(300, 8)), readonly=True, name="w")
            model.add_op(DotInc(weights, spikes, y))
        model.add_op(SimPyFunc(None, lambda values: seen.append(values), None, y))
        return model

    expected, found = [], []
    settings = {"seed": 0, "progress_bar": False, "optimize": False}
    with nengo.Simulator(None, model=spiking_model(expected), **settings) as simulator:
        simulator.run_steps(30)
    model = spiking_model(found)
    with MinibatchSimulator(None, 2, model=model, numba=numba, **settings) as simulator:
        simulator.run_steps(30)
    assert np.any(expected)
    np.testing.assert_allclose(found, np.repeat(expected, 2, axis=0), atol=1e-9)


# --- what nothing sets lasts from step to step


def one():
    return Signal(np.ones(2))


def weights():
    return Signal(np.array([[0.5, 2.0], [-1.0, 3.0]]), readonly=True)


UNRESET = {
    "copy": lambda y: [Copy(one(), y[:2], inc=True)],
    "product": lambda y: [DotInc(weights(), one(), y[:2])],
    "elementwise": lambda y: [ElementwiseInc(Signal([2.0, 3.0], readonly=True), one(), y[1:3])],
    "sparse": lambda y: [
        SparseDotInc(Signal(SparseMatrix([[0, 1]], [2.0], (2, 2)), readonly=True), one(), y[2:])
    ],
    "part reset": lambda y: [Reset(y[:2], value=1), Copy(Signal(np.ones(4)), y, inc=True)],
    "part set": lambda y: [
        Copy(one(), y, dst_slice=[0, 2]),
        Copy(Signal(np.ones(4)), y, inc=True),
    ],
    "every other": lambda y: [
        Reset(y[::2]),
        Copy(one(), y[::2], inc=True),
        Copy(one(), y[1::2], inc=True),
    ],
    "reset beside": lambda y: [Reset(y[:2]), DotInc(weights(), one(), y[2:])],
    "repeated": lambda y: [Copy(Signal(np.ones(3)), y, dst_slice=[0, 0, 3], inc=True)],
    "reset": lambda y: [Reset(y, value=3), Copy(Signal(np.ones(4)), y, inc=True)],
    "reset in parts": lambda y: [
        Reset(y[:2]),
        Reset(y[2:]),
        Copy(Signal(np.ones(4)), y, inc=True),
    ],
}


def unreset_model(make):
    """Return a model, and probes on what is incremented, on its sum over time, and on the time."""
    model, y, total = nengo.builder.Model(), Signal(np.array([0.0, 1, 0, 0])), Signal(np.zeros(4))
    with nengo.Network() as network:
        probes = [nengo.Probe(nengo.Node([0.0])) for _ in range(3)]
    model.build(network)
    for operator in [*make(y), Copy(y, total, inc=True)]:
        model.add_op(operator)
    for probe, signal in zip(probes, (y, total, model.time), strict=True):
        model.sig[probe]["in"] = signal
    return model, probes


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("name", UNRESET)
def test_increments_of_what_nothing_resets_add_up(name, optimize):
    settings = {"seed": 0, "progress_bar": False, "optimize": optimize}
    runs = []
    for cls, arguments in ((nengo.Simulator, ()), (MinibatchSimulator, (BATCH,))):
        model, probes = unreset_model(UNRESET[name])
        with cls(None, *arguments, model=model, **settings) as simulator:
            simulator.run_steps(4)
            simulator.reset()
            simulator.run_steps(3)
            runs.append([np.array(simulator.data[probe]) for probe in probes])
    for expected, found in zip(*runs, strict=True):
        np.testing.assert_array_equal(found, np.broadcast_to(expected, (BATCH, *expected.shape)))
    assert len(np.unique(runs[0][1])) > 2


def test_states_that_others_read_are_up_to_date_at_every_step():
    """A row of layers would run many steps before anything else."""
    settings = {"seed": 0, "progress_bar": False, "optimize": False}

    def summing_model():
        model = nengo.builder.Model()
        current, spikes = Signal(np.array([90.0, 30.0])), Signal(np.zeros(2))
        voltage, total = Signal(np.zeros(2)), Signal(np.zeros(2))
        with nengo.Network() as network:
            node = nengo.Node([0.0, 0.0])
        model.build(network)
        model.add_op(SimNeurons(nn.IntegrateAndFire(), current, spikes, {"voltage": voltage}))
        model.add_op(Copy(voltage, total, inc=True))
        model.sig[node]["out"] = total
        return model, node

    model, node = summing_model()
    expected = []
    with nengo.Simulator(None, model=model, **settings) as simulator:
        for _ in range(30):
            simulator.step()
            expected.append(simulator.signals[model.sig[node]["out"]].copy())
    model, node = summing_model()
    with MinibatchSimulator(None, 2, model=model, **settings) as simulator:
        record = simulator.record(node, steps=True)
        simulator.run_steps(30)
        np.testing.assert_allclose(record.steps, [expected] * 2)
    assert expected[-1].min() > 1


@pytest.mark.parametrize("neurons", NEURONS)
def test_numbers_of_16_bits_are_those_of_nengo(neurons):
    if neurons in ("Izhikevich", "Leaky", "Ranked", "Scaled"):
        pytest.skip("overflows in 16 bits, or is one of the types above")
    rng = np.random.default_rng(1)
    before = nengo.rc.get("precision", "bits")
    nengo.rc.set("precision", "bits", "16")
    try:
        with nengo.Network(seed=1) as network:
            node = nengo.Node(np.zeros(6))
            layers = [
                nengo.Ensemble(
                    n, 1, gain=np.full(n, 2.0), bias=np.ones(n), neuron_type=NEURONS[neurons]
                )
                for n in (6, 300)
            ]
            nengo.Connection(node, layers[0].neurons, synapse=None)
            nengo.Connection(
                layers[0].neurons,
                layers[1].neurons,
                transform=rng.normal(0, 0.002, (300, 6)),
                synapse=0.005,
            )
            probes = [nengo.Probe(layer.neurons) for layer in layers]
        rows = random_rows(6).astype(np.float16)
        expected = reference_run(network, probes, rows, node)
        with twin(network) as simulator:
            simulator.run_steps(STEPS, data={node: rows})
            for probe in probes:
                assert simulator.data[probe].dtype == np.float16
                np.testing.assert_array_equal(simulator.data[probe], expected[probe])
    finally:
        nengo.rc.set("precision", "bits", before)
