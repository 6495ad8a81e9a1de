"""Random convolutional networks of exact numbers give equal results on both simulators."""

import importlib
import pathlib

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.minibatch import MinibatchSimulator
from nengonet.run.simulators import reference_simulator, reset_to_example

SEEDS = range(9, 29)
SMALL = {"style": "exact", "largest": 7, "longest": 45}
EXPECTED = """
    LIF AdaptiveLIF IntegrateAndFire SpikingRectifiedLinear RectifiedLinear Izhikevich Sigmoid
    PoissonSpiking RegularSpiking StochasticSpiking
    ConstantImage PoissonImage steps several
    Convolution 1-D 2-D stride groups valid same Dense Sparse NoTransform AddBias loop
    AveragePool running_max winner instant
    Lowpass Alpha Triangle LinearFilter
    exact probe sampled keep initial_states
"""


@pytest.fixture(scope="module")
def benchmark():
    """Yield the module that draws and compares the networks, where other processes find it too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(pathlib.Path(__file__).parents[1] / "benchmarks")
        yield importlib.import_module("random_convolutions")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", SEEDS)
def test_random_convolutional_networks(benchmark, seed, monkeypatch):
    """Counts, operations, steps, rasters, means, probes; and states and records between pieces."""
    monkeypatch.setenv("NENGONET_NUMBA", str(int(seed % 6 > 0)))
    case = benchmark.random_case(seed, **SMALL)
    setting = (64, 7, 2) if seed % 12 == 1 else (64, 2 + seed % 3, 1)
    (found,) = benchmark.compared(case, [setting], examples=3)
    assert found["where"] == {}
    assert found["compared"] > 0
    merged = seed % 2 == 0 and not case.random
    assert benchmark.in_pieces(case, minibatch=1 + seed % 3, optimize=merged) == {}


def parts_of(case):
    """Return the names of what a network is made of."""
    network = case.network
    for ensemble in network.all_ensembles:
        yield type(ensemble.neuron_type).__name__
    for node in network.all_nodes:
        yield getattr(node.output, "kind", type(node.output).__name__)
    for connection in network.all_connections:
        transform = connection.transform
        yield from (type(transform).__name__, type(connection.synapse).__name__)
        if isinstance(transform, nengo.Convolution):
            yield from (f"{transform.dimensions}-D", transform.padding)
            yield from ["stride"] * (max(transform.strides) > 1)
            yield from ["groups"] * (transform.groups > 1)
        yield from ["loop"] * (connection.pre_obj == connection.post_obj)
    for probe in network.all_probes:
        yield "probe" if probe.sample_every is None else "sampled"
    yield from case.run
    yield from ["exact"] * case.exact
    yield from ["steps"] * bool(case.fed)
    yield from ["several"] * (len(case.images) > 1)


def test_the_networks_hold_what_convolutional_networks_are_made_of(benchmark):
    cases = [benchmark.random_case(seed, **SMALL) for seed in SEEDS]
    assert sum(case.exact for case in cases) >= 8
    found = {name for case in cases for name in parts_of(case)}
    assert set(EXPECTED.split()) - found == set()


NEURONS = {
    "if": nn.IntegrateAndFire(amplitude=0.5),
    "relu": nengo.SpikingRectifiedLinear(amplitude=0.5),
    "lif": nengo.LIF(amplitude=0.5, min_voltage=-1.0),
    "adaptive": nengo.AdaptiveLIF(inc_n=0.1, amplitude=0.5),
}
POOLS = {
    "average": nn.avg_pool2d,
    "running_max": nn.max_pool2d,
    "winner": lambda layer: nn.max_pool2d(layer, kind="winner"),
}


def two_convolutions(neuron_type, pool, *, gain, synapse=None):
    """Return a network of exact numbers, and its layers."""
    rng = np.random.default_rng(11)

    def kernel(*shape):
        return np.round(rng.normal(0.2, 0.5, shape) * 8) / 8

    settings = {"gain": gain, "synapse": synapse}
    with nengo.Network(seed=3) as network:
        pixels = nn.constant_input((7, 6, 2))
        first = nn.conv2d(pixels, kernel(3, 2, 2, 4), neuron_type, label="first", **settings)
        pooled = pool(first)
        second = nn.conv2d(
            pooled, kernel(2, 2, 4, 3), neuron_type, padding="same", label="second", **settings
        )
        output = nn.dense(second, (kernel(second.size, 3), [0.5, 0.25, -1.0]), None, label="output")
    return network, output


def assert_same_results(network, output, images, **run):
    run |= {"readout": "mean", "rasters": ["first", "second"], "progress": False}
    expected = nn.present(network, output, images, simulator="reference", **run)
    found = nn.present(network, output, images, **run)
    for label, raster in expected.rasters.items():
        np.testing.assert_array_equal(found.rasters[label], raster)
    for label, counts in expected.counts.items():
        np.testing.assert_array_equal(found.counts[label], counts)
    np.testing.assert_array_equal(found.steps, expected.steps)
    return expected


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("name", NEURONS)
def test_layers_fall_silent_and_burst(name, pool):
    """Dark, dim, bright and negative images take turns, so the fastest method changes."""
    gain = 4.0 if "LIF" in type(NEURONS[name]).__name__ else 128.0
    network, output = two_convolutions(NEURONS[name], POOLS[pool], gain=gain)
    light = np.repeat([0.0, 16.0, 0.0, 0.125, -1.0, 64.0, 0.5], 31)
    pixels = np.random.default_rng(2).integers(0, 9, (3, 1, 7, 6, 2)) / 8
    images = pixels * light[:, np.newaxis, np.newaxis, np.newaxis]
    images[1, :100] = 0.0
    run = {"presentation_time": len(light) * 0.001, "seed": 1}
    expected = assert_same_results(network, output, images, **run)
    per_step = expected.rasters["first"].sum(axis=(0, 2))
    assert per_step[:31].sum() == 0
    assert per_step.max() > 20


@pytest.mark.parametrize("gain", [2.0**14, 2.0**18, 2.0**24])
@pytest.mark.parametrize("pool", POOLS)
def test_many_spikes_in_a_step(pool, gain):
    """One neuron's spikes exceed 8, 16 and 24 bits."""
    network, output = two_convolutions(NEURONS["if"], POOLS[pool], gain=gain)
    images = np.random.default_rng(2).integers(0, 9, (3, 7, 6, 2)) / 8
    expected = assert_same_results(network, output, images, presentation_time=0.02)
    assert expected.rasters["second"].max() > gain / 1000


@pytest.mark.parametrize("synapse", [None, nengo.Lowpass(0), nengo.Lowpass(0.005)])
@pytest.mark.parametrize("name", NEURONS)
def test_voltages_that_somebody_sets_between_pieces(name, synapse):
    gain = 4.0 if "LIF" in type(NEURONS[name]).__name__ else 128.0
    network, output = two_convolutions(NEURONS[name], nn.avg_pool2d, gain=gain, synapse=synapse)
    images = np.random.default_rng(2).integers(0, 9, (3, 84)) / 8
    node = output.network.all_nodes[0]
    found, expected = [], []

    def run_pieces(simulator, add):
        for value in (0.75, 0.125, 0.5):
            simulator.run_steps(13)
            for ensemble in network.all_ensembles:
                voltage = simulator.signals[simulator.model.sig[ensemble.neurons]["voltage"]]
                add(voltage.T.copy())
                voltage[...] = value

    with MinibatchSimulator(network, 3, seed=1, progress_bar=False) as simulator:
        simulator.reset_to_examples(images)
        run_pieces(simulator, found.append)
    with reference_simulator(network, 0.001, 1) as simulator:
        for example, image in enumerate(images):
            reset_to_example(simulator, 1, example, {node: image})
            each = []
            run_pieces(simulator, each.append)
            expected.append(each)
    for piece, values in enumerate(found):
        of_piece = np.stack([each[piece] for each in expected])
        np.testing.assert_allclose(values, of_piece, rtol=0, atol=1e-12 * np.abs(of_piece).max())


def test_a_pool_behind_joined_layers():
    """Spikes of both are passed on as spikes, and what joins them is read more than once."""
    rng = np.random.default_rng(7)
    with nengo.Network(seed=3) as network:
        pixels = nn.poisson_input((7, 6, 2))
        kernels = [np.round(rng.normal(0.2, 0.5, (3, 2, 2, n)) * 8) / 8 for n in (4, 3)]
        branches = [
            nn.conv2d(pixels, kernel, neuron_type, gain=gain, padding="same", label=label)
            for kernel, neuron_type, gain, label in zip(
                kernels,
                (NEURONS["if"], nengo.LIF()),
                (128.0, 4.0),
                ("first", "second"),
                strict=True,
            )
        ]
        pooled = nn.avg_pool2d(nn.concatenate(branches))
        last = nn.conv2d(pooled, np.round(rng.normal(0, 1, (2, 2, 7, 3))), NEURONS["if"], gain=64.0)
        output = nn.dense(last, np.round(rng.normal(0, 1, (last.size, 3))), None)
    images = rng.integers(0, 9, (3, 7, 6, 2)) / 8
    expected = assert_same_results(network, output, images, presentation_time=0.04)
    assert all(counts.sum() > 20 for counts in expected.counts.values())


@pytest.mark.parametrize("synapse", [None, nengo.Lowpass(0), nengo.Alpha(0.004)])
@pytest.mark.parametrize(
    "second", [nengo.LinearFilter([1], [1], analog=False), nengo.Lowpass(0.005), nengo.Alpha(0.003)]
)
def test_a_constant_input_through_filters_of_two_orders(synapse, second):
    network, output = two_convolutions(NEURONS["if"], nn.avg_pool2d, gain=128.0, synapse=synapse)
    pixels, first = network.all_nodes[0], network.all_ensembles[0]
    with network:
        transform = nengo.Convolution(4, (7, 6, 2), kernel_size=(3, 2), init=np.ones((3, 2, 2, 4)))
        nengo.Connection(pixels, first.neurons, transform=transform, synapse=second)
    images = np.random.default_rng(2).integers(0, 9, (3, 7, 6, 2)) / 8
    run = {"readout": "mean", "progress": False, "presentation_time": 0.04}
    expected = nn.present(network, output, images, simulator="reference", **run)
    found = nn.present(network, output, images, **run)
    assert expected.counts["first"].sum() > 100
    for label, counts in expected.counts.items():
        np.testing.assert_array_equal(found.counts[label], counts)
    np.testing.assert_allclose(found.steps, expected.steps, rtol=0, atol=1e-9)
