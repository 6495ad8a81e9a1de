import pickle

import nengo
import numpy as np
import pytest
from test_weighted import random_windows

import nengonet as nn
from nengonet.ann.convolution import average_pool, global_average_pool, max_pool
from nengonet.ann.unweighted import Pool
from nengonet.explain.prediction import predict, predict_rates
from nengonet.layers.pools import KINDS, AveragePool, MaxPool
from nengonet.minibatch import MinibatchSimulator
from nengonet.run.presentation import present

RNG = np.random.default_rng(11)
KERNEL = RNG.normal(0.1, 0.5, (3, 3, 2, 4))
IMAGES = RNG.uniform(size=(5, 6, 7, 2))


def network_of(build, *, shape=(6, 7, 2), poisson=False, neuron_type=None):
    """Build an input, a convolution and pools on top of it."""
    neuron_type = nn.IntegrateAndFire(amplitude=0.01) if neuron_type is None else neuron_type
    with nengo.Network(seed=0) as network:
        layer = nn.poisson_input(shape, 300.0) if poisson else nn.constant_input(shape)
        layer = nn.conv2d(layer, KERNEL, neuron_type, gain=100.0, padding="same", label="conv")
        layer = build(layer)
    return network, layer


def shown(network, layer, images=IMAGES, time=0.3, **settings):
    rasters = [each.label for each in layer.upstream() if each.spiking]
    readout = "spike_count" if layer.spiking else "mean"
    return present(
        network,
        layer,
        images,
        presentation_time=time,
        rasters=rasters,
        readout=readout,
        progress=False,
        **settings,
    )


def windows_of(counts, shape, size=(2, 2), strides=None, padding="valid"):
    """Return the largest count of every window, at every step: (..., n_windows)."""
    images = counts.reshape(-1, *shape)
    return max_pool(images, size, strides, padding).reshape(*counts.shape[:-1], -1)


def test_a_pool_is_one_node_and_one_connection():
    with nengo.Network() as network:
        pixels = nn.poisson_input((6, 4, 3), amplitude=0.02)
        pools = [
            nn.avg_pool2d(pixels, 2),
            nn.global_avg_pool2d(pixels),
            nn.max_pool2d(pixels, (3, 2), synapse=0.01),
            nn.max_pool2d(pixels, (3, 2), 1, "same", label="largest"),
        ]
    assert network.nodes == [pixels.node, *(pool.node for pool in pools)]
    assert network.connections == [pool.connection for pool in pools]
    assert network.ensembles == []
    assert [pool.shape for pool in pools] == [(3, 2, 3), (3,), (2, 2, 3), (6, 4, 3)]
    labels = ["avg_pool2d", "global_avg_pool2d", "max_pool2d", "largest"]
    assert [pool.label for pool in pools] == [pool.node.label for pool in pools] == labels
    # spikes through a filter are no spikes
    assert [pool.amplitude for pool in pools] == [None, None, None, 0.02]
    assert pools[2].connection.synapse == nengo.Lowpass(0.01)
    assert all(pool.connection.synapse is None for pool in pools if pool is not pools[2])
    assert all(pool.upstream() == [pixels, pool] for pool in pools)


def test_rate_networks_are_keras_pools():
    """240 pools of 60 random shapes, over rate neurons, against NumPy."""
    rng = np.random.default_rng(5)
    expected, layers = [], []
    with nengo.Network(seed=0) as network:
        for k in range(60):
            shape, size, strides, padding = random_windows(rng)
            image = rng.uniform(size=shape)
            pixels = nn.constant_input(shape, label=f"input {k}")
            pixels.show(image)
            kernel = rng.normal(size=(1, 1, shape[2], 3))
            relu = nn.conv2d(pixels, kernel, nengo.RectifiedLinear(), gain=1.0, label=f"relu {k}")
            values = np.maximum(image @ kernel[0, 0], 0)[np.newaxis]
            windows = (size, strides, padding)
            layers += [
                nn.avg_pool2d(relu, *windows),
                nn.global_avg_pool2d(relu),
                *(nn.max_pool2d(relu, *windows, kind=kind) for kind in KINDS),
            ]
            largest = max_pool(values, *windows)
            expected += [average_pool(values, *windows), global_average_pool(values)]
            expected += [largest] * len(KINDS)
    with nengo.Simulator(network, seed=0, progress_bar=False, optimize=False) as simulator:
        simulator.run_steps(3)
        for layer, values in zip(layers, expected, strict=True):
            assert layer.shape == values.shape[1:]
            found = simulator.signals[simulator.model.sig[layer.node]["out"]]
            np.testing.assert_allclose(found, values.ravel(), rtol=1e-9, atol=1e-12)


def test_padding_may_be_in_capitals():
    """Every builder and the ANN accept capitals, as Keras does."""
    image = np.arange(15.0).reshape(1, 5, 3, 1) / 15
    kernel, steps = np.ones((2, 2, 1, 2)), np.ones((3, 1, 2))
    builders = [
        lambda pre, padding: nn.avg_pool2d(pre, padding=padding),
        lambda pre, padding: nn.max_pool2d(pre, padding=padding),
        lambda pre, padding: nn.conv2d(pre, kernel, None, padding=padding),
        lambda pre, padding: nn.conv2d(
            pre, nn.LayerWeights(kernel, config={"padding": "valid"}), None, padding=padding
        ),
    ]
    rows = [
        lambda pre, padding: nn.avg_pool1d(pre, padding=padding),
        lambda pre, padding: nn.conv1d(pre, steps, None, padding=padding),
    ]
    for shape, each in (((5, 3, 1), builders), ((5, 1), rows)):
        for build in each:
            with nengo.Network() as network:
                pixels = nn.constant_input(shape)
                layers = [build(pixels, padding) for padding in ("same", "SAME", "Same")]
            assert {layer.shape for layer in layers} == {layers[0].shape}
            shown = image.reshape(1, 5, 3)[..., :1] if len(shape) == 2 else image
            run = {"presentation_time": 0.002, "progress": False, "keep": None}
            found = [nn.present(network, each, shown, **run).outputs for each in layers]
            assert found[0].any()
            np.testing.assert_array_equal(found[0], found[1])
            np.testing.assert_array_equal(found[0], found[2])
    with nengo.Network():
        sequence = nn.constant_input((5, 1))
        assert nn.conv1d(sequence, steps, None, padding="CAUSAL").shape == (5, 2)
    assert Pool("max", padding="SAME") == Pool("max", padding="same")
    with pytest.raises(nn.InputError, match="padding: expected 'valid' or 'same', got 'FULL'"):
        Pool("max", padding="FULL")


def test_same_padding_is_no_pixel():
    """Padding counts neither as 0 for a maximum nor as a pixel for a mean."""
    image = np.array([[-1.0, -2.0, -3.0]])
    with nengo.Network(seed=0) as network:
        pixels = nn.constant_input((1, 3), scale=-3.0)
        pixels.show(image / -3)
        pools = [
            nn.avg_pool2d(pixels, padding="same"),
            *(nn.max_pool2d(pixels, padding="same", kind=kind) for kind in KINDS),
        ]
    with nengo.Simulator(network, seed=0, progress_bar=False, optimize=False) as simulator:
        simulator.run_steps(5)
        found = [simulator.signals[simulator.model.sig[pool.node]["out"]] for pool in pools]
    expected = [[-1.5, -3.0], *[[-1.0, -3.0]] * 3]
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("simulator", ["minibatch", "reference"])
@pytest.mark.parametrize("precision", [32, 64])
@pytest.mark.parametrize("windows", [((2, 2),), ((3, 2), (2, 1), "same"), ((2, 3), (1, 1))])
@pytest.mark.parametrize("poisson", [False, True])
def test_running_maximum_is_the_largest_count_at_every_step(simulator, precision, windows, poisson):
    network, pool = network_of(
        lambda pre: nn.max_pool2d(pre, *windows, label="pool"), poisson=poisson
    )
    result = shown(network, pool, simulator=simulator, precision=precision)
    inputs = np.cumsum(result.rasters["conv"], axis=1)
    assert inputs[:, -1].max() > 20
    np.testing.assert_array_equal(
        np.cumsum(result.rasters["pool"], axis=1), windows_of(inputs, (6, 7, 4), *windows)
    )
    # whole spikes, bit by bit
    values = np.unique(result.outputs)
    height = np.dtype(f"f{precision // 8}").type(0.01 / 0.001)
    np.testing.assert_array_equal(values, height * np.arange(len(values)))


def test_running_maximum_of_signed_values():
    """The pool sends the change of the largest sum, even if negative."""
    values = np.random.default_rng(3).normal(size=(200, 12))
    pool = MaxPool((3, 4, 1), (2, 2), (1, 2), "same", "running_max")
    sent = np.cumsum(pool.apply(values), axis=0)
    sums = np.cumsum(values, axis=0)
    np.testing.assert_allclose(sent, windows_of(sums, (3, 4, 1), 2, (1, 2), "same"), atol=1e-12)
    assert np.diff(sent, axis=0).min() < -0.1


def test_kinds_by_hand():
    """Two inputs take turns to lead."""
    spikes = np.array([[0, 0], [1, 0], [0, 2], [1, 0], [0, 1], [3, 0], [1, 2], [0, 1], [0, 1]])
    sent = {
        "running_max": [0, 1, 1, 0, 1, 2, 1, 0, 1],
        # sums 0 0, 1 0, 1 2, 2 2 (the first one), 2 3, 5 3, 6 5, 6 6 (the first one), 6 7
        "winner": [0, 1, 2, 1, 1, 3, 1, 0, 1],
        "instant": [0, 1, 2, 1, 1, 3, 2, 1, 1],
    }
    for kind, expected in sent.items():
        pool = MaxPool((1, 2, 1), (1, 2), (1, 2), "valid", kind, 0.5)
        found = pool.apply(spikes * 0.5 / 0.001, dt=0.001)
        np.testing.assert_array_equal(found[:, 0], np.array(expected) * 0.5 / 0.001)


def test_sums_are_whole_counts():
    """Equal counts are equal sums, however a spike's height was rounded."""
    pool = MaxPool((1, 4, 1), (1, 4), (1, 4), "valid", "winner", amplitude=0.7)
    state = pool.make_state((4,), (1,), 0.0003)
    step = pool.make_step((4,), (1,), 0.0003, None, state)
    spikes = np.random.default_rng(0).integers(0, 4, (500, 4))
    for k, row in enumerate(spikes, 1):
        step(None, (row * np.float32(0.7) / np.float32(0.0003)).astype(np.float64))
        np.testing.assert_array_equal(state["sums"], spikes[:k].sum(axis=0))


def test_winner_is_the_first_of_the_leaders():
    """Row by row, the first input with the largest sum passes its output."""
    pool = MaxPool((2, 2, 1), (2, 2), (2, 2), "valid", "winner")
    values = np.array([[1.0, 2, 2, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 3, 7]])
    # sums 1 2 2 0, 2 2 2 0, 2 2 2 1, 2 2 5 8
    np.testing.assert_array_equal(pool.apply(values)[:, 0], [2, 1, 0, 7])


def test_counts_follow_the_rates():
    """Under constant input: the largest of regular counts, each within half a spike."""
    network, pool = network_of(lambda pre: nn.max_pool2d(pre, label="pool"))
    for time in (0.05, 0.3):
        rates = predict_rates(pool, IMAGES)
        result = shown(network, pool, time=time)
        assert np.max(np.abs(result.counts["pool"] - rates * time)) <= 0.5
    assert rates.max() > 100


def test_winner_has_the_rate_of_the_largest_once_it_leads():
    """If rates are far apart, it misses or repeats no spike after the start."""
    kernel = np.array([[[[1.0]]]])
    with nengo.Network(seed=0) as network:
        pixels = nn.constant_input((2, 4))
        fires = nn.conv2d(pixels, kernel, nn.IntegrateAndFire(), gain=200.0, label="fires")
        pool = nn.max_pool2d(fires, kind="winner", label="pool")
    images = np.array([[[0.2, 0.9, 0.0, 0.1], [0.1, 0.4, 0.35, 0.05]]])
    rates = predict_rates(pool, images)
    np.testing.assert_allclose(rates, [[180.0, 70.0]])
    result = shown(network, pool, images, time=1.0)
    assert np.max(np.abs(result.counts["pool"] - rates)) <= 1


def test_average_pool_of_spikes_has_the_mean_rate():
    network, pool = network_of(lambda pre: nn.avg_pool2d(pre, (3, 2), padding="same"))
    mean = predict(pool, IMAGES)[-1].mean_outputs
    result = shown(network, pool, time=0.5)
    # half a spike of each input, each of area 0.01, over the time
    assert np.max(np.abs(result.mean_output("avg_pool2d") - mean)) <= 0.5 * 0.01 / 0.5


def deep(kind, **settings):
    def build(pre):
        pool = nn.max_pool2d(pre, (2, 3), (2, 2), "same", kind=kind, label="pool")
        again = nn.conv2d(
            pool,
            RNG_KERNEL,
            nn.IntegrateAndFire(),
            gain=100.0,
            groups=2,
            synapse=0.003,
            label="again",
        )
        last = nn.max_pool2d(again, (1, 2), (1, 1), kind=kind, synapse=0.002, label="last")
        return nn.dense(
            nn.flatten(last), np.ones((16, 2)), nn.IntegrateAndFire(), label="output", **nn.FORUM
        )

    return network_of(build, **settings)


RNG_KERNEL = np.random.default_rng(2).normal(0.3, 1, (2, 2, 2, 4))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("poisson", [False, True])
def test_twin_gives_the_same_outputs(kind, poisson):
    """For every example, in batches of any size, in any order, and after a reset."""
    network, output = deep(kind, poisson=poisson)
    with network:
        probes = [nengo.Probe(layer.output, synapse=None) for layer in output.upstream()]
    expected = shown(network, output, simulator="reference")
    assert all(counts.any() for counts in expected.counts.values())
    examples = np.array([3, 0, 4, 1, 2])
    for size in (1, 2, 5):
        found = shown(network, output, IMAGES[examples], examples=examples, minibatch_size=size)
        for label, raster in expected.rasters.items():
            np.testing.assert_array_equal(found.rasters[label], raster[examples])
    with MinibatchSimulator(network, 5, seed=0, progress_bar=False) as simulator:
        runs = []
        for images in (IMAGES, IMAGES[::-1], IMAGES):
            simulator.reset_to_examples(images, seed=0)
            simulator.run_steps(100)
            runs.append([simulator.data[probe] for probe in probes])
        for first, second, third in zip(*runs, strict=True):
            np.testing.assert_array_equal(first, third)
            assert not np.array_equal(first, second)


def test_twin_pools_a_constant_node():
    with nengo.Network(seed=0) as network:
        source = nengo.Node(np.array([0.2, 0.7, 0.1, 0.4]), label="constant")
        pixels = nn.Layer(label="constant", shape=(2, 2), node=source)
        pools = [nn.max_pool2d(pixels, kind=kind) for kind in KINDS]
        probes = [nengo.Probe(pool.node, synapse=None) for pool in pools]
    with MinibatchSimulator(network, 3, seed=0, progress_bar=False) as simulator:
        simulator.run_steps(4)
        for probe in probes:
            np.testing.assert_allclose(simulator.data[probe], np.full((3, 4, 1), 0.7))


def test_processes_differ_by_their_parameters():
    """Nengo compares processes by Parameters alone; equal ones share a signal."""
    settings = {
        "image_shape": (4, 4, 2),
        "pool_size": (2, 2),
        "strides": (2, 2),
        "padding": "valid",
        "kind": "winner",
        "amplitude": 0.5,
    }
    others = {
        "image_shape": (4, 5, 2),
        "pool_size": (2, 1),
        "strides": (2, 1),
        "padding": "same",
        "kind": "running_max",
        "amplitude": None,
    }
    pool = MaxPool(**settings)
    assert pool == MaxPool(**settings)
    assert hash(pool) == hash(MaxPool(**settings))
    for name, value in others.items():
        other = MaxPool(**settings | {name: value})
        assert other != pool
        assert hash(other) != hash(pool)
        assert repr(other) != repr(pool)


def test_pools_can_be_pickled():
    pool = MaxPool((4, 4, 2), (2, 2), (2, 2), "valid", "winner")
    values = np.random.default_rng(0).normal(size=(20, 32))
    again = pickle.loads(pickle.dumps(pool))
    assert again == pool
    np.testing.assert_array_equal(again.apply(values), pool.apply(values))
    with nengo.Network():
        average = nn.avg_pool2d(nn.constant_input((4, 4)), 3, 1).connection.transform
    again = pickle.loads(pickle.dumps(average))
    assert isinstance(again, AveragePool)
    assert repr(again) == repr(average)
    np.testing.assert_array_equal(again.sample().toarray(), average.sample().toarray())


def test_sums_are_kept_in_the_simulators_state():
    """A reset of the reference starts them anew; so does a second simulator."""
    network, pool = network_of(lambda pre: nn.max_pool2d(pre))
    with network:
        probe = nengo.Probe(pool.node, synapse=None)
    pool.show(IMAGES[0])
    with nengo.Simulator(network, seed=0, progress_bar=False, optimize=False) as simulator:
        simulator.run_steps(50)
        first = simulator.data[probe].copy()
        simulator.reset()
        simulator.run_steps(50)
        np.testing.assert_array_equal(simulator.data[probe], first)
    assert first.any()


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda pre: nn.max_pool2d(pre, 5), r"max_pool2d: size: expected at most.*4 x 6.*5 x 5"),
        (lambda pre: nn.avg_pool2d(pre, (2, 0)), "avg_pool2d: size: expected a whole number"),
        (lambda pre: nn.avg_pool2d(pre, strides=1.5), "avg_pool2d: strides: expected a whole"),
        (lambda pre: nn.max_pool2d(pre, padding="full"), "max_pool2d: padding: expected 'valid'"),
        (
            lambda pre: nn.max_pool2d(pre, kind="largest", label="pool"),
            "pool: kind: expected one of running_max, winner, instant, got 'largest'",
        ),
        (
            lambda pre: nn.max_pool2d(nn.flatten(pre), label="pool"),
            r"pool: a pool takes \(rows, columns, channels\).*input.*\(72,\)",
        ),
        (lambda pre: nn.global_avg_pool2d(nn.flatten(pre)), "global_avg_pool2d: a pool takes"),
    ],
)
def test_bad_input_is_named(build, message):
    with nengo.Network(), pytest.raises(nn.InputError, match=message):
        build(nn.constant_input((4, 6, 3)))


@pytest.mark.parametrize("poisson", [False, True])
@pytest.mark.parametrize("kind", ["running_max", "winner"])
def test_pools_over_steps_pass_the_spikes_of_those_over_one_column(kind, poisson):
    """The reference itself gives the spikes of the column; both simulators give them over steps."""
    images = np.random.default_rng(3).uniform(size=(3, 7, 2))
    found = []
    for shape, builders in [
        ((7, 2), (nn.max_pool1d, nn.avg_pool1d, nn.global_max_pool1d, nn.global_avg_pool1d)),
        ((7, 1, 2), (nn.max_pool2d, nn.avg_pool2d, nn.global_max_pool2d, nn.global_avg_pool2d)),
    ]:
        largest, mean, most, means = builders
        window = [2, 1, "same"] if len(shape) == 2 else [(2, 1), 1, "same"]
        with nengo.Network(seed=0) as net:
            source = nn.poisson_input if poisson else nn.constant_input
            pixels = source(shape, label="pixels")
            spikes = nn.dense(pixels, np.eye(14), nn.IntegrateAndFire(), gain=150.0, label="spikes")
            row = nn.Layer(label="spikes", shape=shape, ensemble=spikes.ensemble)
            first = largest(row, *window, kind=kind, label="largest")
            both = [mean(first, *window, label="mean"), mean(row, *window, label="other")]
            ends = most(first, kind=kind, label="most"), means(both, label="means")
            output = nn.dense(nn.concatenate(ends), np.eye(4), None, label="output")
        assert [each.shape for each in (first, both[0], *ends)] == [shape, shape, (2,), (2,)]
        assert [each.amplitude for each in (first, both[0], *ends)] == [1.0, None, 1.0, None]
        run = {"presentation_time": 0.1, "readout": "mean", "progress": False}
        settings = [("minibatch", 3), ("minibatch", 1), ("reference", 1)]
        for simulator, size in settings:
            result = nn.present(
                net,
                output,
                images.reshape(3, *shape),
                simulator=simulator,
                **run | ({"minibatch_size": size} if simulator == "minibatch" else {}),
            )
            found.append((result.counts["largest"], result.counts["most"], result.outputs))
    for counts, most, outputs in found:
        np.testing.assert_array_equal(counts, found[-1][0])
        np.testing.assert_array_equal(most, found[-1][1])
        np.testing.assert_allclose(outputs, found[-1][2], atol=1e-9)
    assert found[0][0].sum() > 20
    if kind == "running_max":
        np.testing.assert_array_equal(found[0][1], found[0][0].reshape(3, 7, 2).max(axis=1))
