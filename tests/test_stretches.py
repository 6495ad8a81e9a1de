"""Rows of layers that run many steps at once, compared with the reference and single steps."""

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.layers.inputs import BLOCK_STEPS
from nengonet.minibatch import MinibatchSimulator, mixtures, stages, stretches
from nengonet.minibatch.records import OutputRecord
from nengonet.minibatch.terms import Term
from nengonet.neurons import model_of
from nengonet.run.presentation import present

pytest.importorskip("numba")

RNG = np.random.default_rng(5)
IMAGES = RNG.uniform(0, 1, (5, 9))
NEURONS = {
    "lif": nengo.LIF(tau_rc=0.013, tau_ref=0.0024, amplitude=0.02),
    "lif below zero": nengo.LIF(min_voltage=-0.7),
    "adaptive": nengo.AdaptiveLIF(tau_n=0.05, inc_n=0.02, amplitude=0.02),
    "if": nn.IntegrateAndFire(amplitude=0.01),
    "relu": nengo.SpikingRectifiedLinear(amplitude=0.005),
}


def row_of_layers(neuron_type, *, source="poisson", widths=(11, 4), gain=None, synapse=None):
    rng = np.random.default_rng(3)
    with nengo.Network(seed=0) as network:
        layer = nn.poisson_input((9,), 300.0) if source == "poisson" else nn.constant_input((9,))
        for k, width in enumerate(widths):
            layer = nn.dense(
                layer,
                rng.normal(0.4, 1.0, (layer.size, width)),
                neuron_type,
                gain=(4.0 if "LIF" in type(neuron_type).__name__ else 90.0)
                if gain is None
                else gain,
                bias=rng.uniform(0, 0.5, width),
                synapse=synapse if k else None,
                label=f"layer {k}",
            )
    return network, layer


def recorded(simulator, output):
    return {layer.label: simulator.record(layer.output) for layer in output.upstream()}


@pytest.mark.parametrize("precision", [32, 64])
@pytest.mark.parametrize("source", ["poisson", "constant"])
@pytest.mark.parametrize("name", NEURONS)
def test_many_steps_at_a_time_give_the_reference_spikes(name, source, precision):
    network, output = row_of_layers(NEURONS[name], source=source)
    run = {
        "presentation_time": 0.23,
        "seed": 4,
        "progress": False,
        "rasters": ["layer 0", "layer 1"],
        "precision": precision,
    }
    expected = present(network, output, IMAGES, simulator="reference", **run)
    found = present(network, output, IMAGES, minibatch_size=3, **run)
    for label, counts in expected.counts.items():
        np.testing.assert_array_equal(found.counts[label], counts)
        assert counts.sum() > 50
    for label, raster in expected.rasters.items():
        np.testing.assert_array_equal(found.rasters[label], raster)
    np.testing.assert_array_equal(found.outputs, expected.outputs)
    np.testing.assert_allclose(found.mean_output("input"), expected.mean_output("input"), rtol=1e-5)


@pytest.mark.parametrize("source", ["poisson", "constant"])
@pytest.mark.parametrize("name", ["lif", "if"])
def test_more_spikes_than_there_was_room_for(name, source):
    """The layer exceeds the first guess of 16 spikes a step."""
    gain = {"lif": 4.0, "if": 40.0}[name]
    network, output = row_of_layers(NEURONS[name], source=source, widths=(260, 3), gain=gain)
    run = {"presentation_time": 0.15, "seed": 4, "progress": False}
    expected = present(network, output, IMAGES, simulator="reference", **run)
    assert expected.counts["layer 0"].sum() / len(IMAGES) / 150 > 20
    with MinibatchSimulator(network, 5, seed=4, progress_bar=False) as simulator:
        assert simulator.runs_in_stretches
    found = present(network, output, IMAGES, **run)
    for label, counts in expected.counts.items():
        np.testing.assert_array_equal(found.counts[label], counts)


@pytest.mark.parametrize("name", NEURONS)
def test_single_steps_and_stretches_mix(name):
    """Blocks of Poisson spikes and calls end in the middle of each other."""
    network, output = row_of_layers(NEURONS[name])
    states = {}
    for pieces in ([230], [1] * 230, [7, 100, 1, 1, 50, 71], [BLOCK_STEPS, BLOCK_STEPS, 30]):
        with MinibatchSimulator(network, 5, seed=1, progress_bar=False) as simulator:
            records = recorded(simulator, output)
            simulator.reset_to_examples(IMAGES)
            assert simulator.runs_in_stretches
            for piece in pieces:
                if piece == 1:
                    simulator.step()
                else:
                    simulator.run_steps(piece)
            assert simulator.n_steps == 230
            assert simulator.time == pytest.approx(0.23)
            totals = {label: record.total for label, record in records.items()}
            voltages = simulator.signals[simulator.model.sig[output.output]["voltage"]]
            spikes = simulator.signals[simulator.model.sig[output.output]["out"]]
            states[tuple(pieces)] = [*totals.values(), voltages.copy(), spikes.copy()]
    first, *others = states.values()
    for other in others:
        for one, two in zip(first, other, strict=True):
            np.testing.assert_allclose(two, one, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rate", [16_383, 16_384, 40_000])
def test_more_spikes_in_a_step_than_sixteen_bits_hold_twice(rate):
    with nengo.Network(seed=0) as network:
        source = nn.constant_input((2,))
        output = nn.dense(source, np.eye(2), nn.IntegrateAndFire(), gain=1.0, bias=[rate, 3.0])
    run = {"presentation_time": 4.0, "dt": 1.0, "progress": False}
    expected = present(network, output, np.zeros((1, 2)), simulator="reference", **run)
    found = present(network, output, np.zeros((1, 2)), **run)
    np.testing.assert_array_equal(found.steps, expected.steps)
    assert found.steps.dtype == (np.int16 if rate < 16_384 else np.int64)
    assert abs(int(found.counts[output.label][0, 0]) - 4 * rate) <= 1


@pytest.mark.parametrize("source", ["poisson", "constant"])
@pytest.mark.parametrize("name", NEURONS)
def test_convolutions_and_a_last_layer_without_neurons(name, source):
    rng = np.random.default_rng(8)
    neuron_type = NEURONS[name]
    gain = 1.5 if "LIF" in type(neuron_type).__name__ else 60.0
    with nengo.Network(seed=0) as network:
        layer = (
            nn.poisson_input((6, 5, 2), 300.0)
            if source == "poisson"
            else nn.constant_input((6, 5, 2))
        )
        for k, (filters, stride, padding) in enumerate([(3, 1, "valid"), (4, 2, "same")]):
            layer = nn.conv2d(
                layer,
                rng.normal(0.3, 0.7, (2, 3, layer.shape[-1], filters)),
                neuron_type,
                strides=stride,
                padding=padding,
                gain=gain,
                bias=0.3,
                label=f"conv {k}",
            )
        layer = nn.dense(layer, rng.normal(0.2, 0.5, (layer.size, 7)), neuron_type, gain=gain)
        kernel, bias = rng.normal(0, 1, (7, 3)), rng.normal(0, 1, 3)
        output = nn.dense(layer, (kernel, bias), None, label="output")
    images = rng.uniform(0, 1, (9, 60))
    run = {"presentation_time": 0.13, "readout": "mean", "seed": 3, "progress": False}
    with MinibatchSimulator(network, 9, progress_bar=False) as simulator:
        for each in output.upstream():
            simulator.record(each.output, steps=each is output)
        assert simulator.runs_in_stretches
    expected = present(network, output, images, simulator="reference", **run)
    for n_jobs in (1, 2):
        found = present(network, output, images, minibatch_size=9, n_jobs=n_jobs, **run)
        for label, counts in expected.counts.items():
            np.testing.assert_array_equal(found.counts[label], counts)
            assert counts.sum() > 50
        np.testing.assert_allclose(found.outputs, expected.outputs, rtol=1e-9, atol=1e-9)


def test_threads_change_nothing():
    network, output = row_of_layers(nengo.LIF())
    images = np.concatenate([IMAGES] * 8)
    run = {"presentation_time": 0.15, "seed": 2, "progress": False}
    expected = present(network, output, images, **run)
    for n_jobs, size in ((2, 7), (3, 40), (4, 1)):
        found = present(network, output, images, n_jobs=n_jobs, minibatch_size=size, **run)
        np.testing.assert_array_equal(found.outputs, expected.outputs)
        for label, counts in expected.counts.items():
            np.testing.assert_array_equal(found.counts[label], counts)


def test_many_spikes_are_multiplied_densely_and_few_ones_are_listed_again():
    network, output = row_of_layers(nn.IntegrateAndFire(), gain=3000.0)
    with MinibatchSimulator(network, 5, seed=1, progress_bar=False) as simulator:
        simulator.reset_to_examples(IMAGES)
        simulator.run_steps(30)
        assert simulator.runs_in_stretches
        assert "dense" in str(simulator.report())
        simulator.reset_to_examples(0 * IMAGES)
        simulator.run_steps(150)
        assert "dense" not in str(simulator.report())
    run = {"presentation_time": 0.04, "progress": False}
    expected = present(network, output, IMAGES, simulator="reference", **run)
    found = present(network, output, IMAGES, **run)
    np.testing.assert_array_equal(found.counts["layer 1"], expected.counts["layer 1"])
    assert expected.counts["layer 1"].max() > 40


def _recurrent(output):
    transform = np.full((11, 4), 0.01)
    nengo.Connection(output.output, output.pre.output, transform=transform, synapse=0.01)


def _past_a_layer(output):
    transform = np.full((4, 9), 0.01)
    nengo.Connection(output.pre.pre.output, output.output, transform=transform, synapse=None)


def _to_a_function(output):
    nengo.Connection(output.output, nengo.Node(lambda t, x: None, size_in=4), synapse=None)


def _decoded(output, neuron_type=None, learning_rule_type=None):
    """Add what is not fed by the layers: one of these keeps the whole network at single steps."""
    neuron_type = nengo.LIF() if neuron_type is None else neuron_type
    first = nengo.Ensemble(12, 1, neuron_type=neuron_type, seed=2)
    last = nengo.Ensemble(9, 1, seed=3)
    nengo.Connection(nengo.Node([0.4]), first)
    learned = nengo.Connection(
        first, last, function=lambda x: x**2, learning_rule_type=learning_rule_type, seed=4
    )
    if learning_rule_type is not None:
        nengo.Connection(first, learned.learning_rule)
    nengo.Probe(last, synapse=0.02)


class _OwnStep(nengo.LIF):
    """A step whose neurons might depend on each other."""

    def step(self, dt, J, output, voltage, refractory_time):
        super().step(dt, J, output, voltage, refractory_time)


def _process(output):
    flicker = nengo.processes.PresentInput([[0.0], [0.7]], 0.01)
    transform = np.ones((4, 1))
    nengo.Connection(nengo.Node(flicker), output.output, transform=transform, synapse=None)


@pytest.mark.parametrize(
    "change, in_stretches",
    [
        (lambda output: nengo.Probe(output.output), True),
        (lambda output: nengo.Probe(output.output, sample_every=0.003), True),
        (lambda output: nengo.Probe(output.pre.output, "voltage"), False),
        (_past_a_layer, True),
        (_recurrent, False),
        (lambda output: nengo.Probe(output.output, synapse=0.01), True),
        (lambda output: nengo.Probe(output.pre.output, "input"), True),
        (_decoded, True),
        (lambda output: _decoded(output, nengo.Direct()), False),
        (lambda output: _decoded(output, _OwnStep()), False),
        (lambda output: _decoded(output, learning_rule_type=nengo.PES(1e-3)), False),
        (_process, False),
        (_to_a_function, False),
    ],
)
def test_what_feeds_nothing_before_it_runs_in_stretches(change, in_stretches):
    network, output = row_of_layers(nengo.LIF())
    with network:
        change(output)
    run = {"presentation_time": 0.05, "progress": False, "probes": "all"}
    expected = present(network, output, IMAGES, simulator="reference", **run)
    found = present(network, output, IMAGES, **run)
    np.testing.assert_array_equal(found.outputs, expected.outputs)
    assert list(found.data) == list(expected.data)
    for name, data in expected.data.items():
        np.testing.assert_allclose(found.data[name], data, rtol=1e-12, atol=1e-12)
    with MinibatchSimulator(network, 5, progress_bar=False) as simulator:
        assert simulator.runs_in_stretches == in_stretches


@pytest.mark.parametrize("add_pool", [nn.avg_pool2d, nn.max_pool2d])
@pytest.mark.parametrize("kinds", [(2, 1), (1, 2), (2, 1, 2)])
def test_convolutions_that_read_the_same_spikes_as_other_images(add_pool, kinds):
    """One sees 4 x 4 positions of 6 channels, another 4 positions of 24."""
    rng, layers = np.random.default_rng(4), []

    def weights(*shape):
        return rng.integers(-8, 9, shape) / 8

    with nengo.Network(seed=0) as network:
        layer = nn.constant_input((8, 8, 6))
        scale = {"neuron_type": nn.IntegrateAndFire(), "gain": 64.0, "bias": 0.0}
        layer = add_pool(nn.conv2d(layer, np.abs(weights(1, 1, 6, 6)), **scale))
        for dimensions in kinds:
            if dimensions == 2:
                transform = nengo.Convolution(
                    5, (4, 4, 6), kernel_size=(2, 2), init=weights(2, 2, 6, 5)
                )
            else:
                transform = nengo.Convolution(
                    5, (4, 24), kernel_size=(2,), strides=(1,), init=weights(2, 24, 5)
                )
            n = transform.output_shape.size
            neurons = nengo.Ensemble(
                n, 1, neuron_type=nn.IntegrateAndFire(), gain=np.full(n, 8.0), bias=np.zeros(n)
            ).neurons
            nengo.Connection(layer.output, neurons, transform=transform, synapse=None)
            layers.append(neurons)
    images = rng.integers(0, 9, (3, 8, 8, 6)) / 8
    run = {"presentation_time": 0.05, "progress": False}
    expected = present(network, layers, images, simulator="reference", **run)
    found = present(network, layers, images, **run)
    for label, counts in expected.counts.items():
        np.testing.assert_array_equal(found.counts[label], counts)
        assert counts.sum() > 100


CHANNELS_FIRST = {
    "plain": {"n_filters": 5, "input_shape": (6, 7, 4), "kernel_size": (3, 2)},
    "strides": {"n_filters": 3, "input_shape": (6, 7, 4), "strides": (2, 3), "padding": "same"},
    "groups": {"n_filters": 4, "input_shape": (6, 7, 4), "kernel_size": (2, 2), "groups": 2},
    "1-D": {"n_filters": 5, "input_shape": (6, 28), "kernel_size": (4,), "strides": (3,)},
    "transposed": {"n_filters": 2, "input_shape": (6, 7, 4), "kernel_size": (2, 3)},
}


@pytest.mark.parametrize("synapse, many", [(nengo.Lowpass(0), False), (None, True)])
@pytest.mark.parametrize("name", CHANNELS_FIRST)
def test_convolutions_with_channels_first(name, synapse, many):
    """Images, spikes and constants go through them; many spikes as dense products."""
    settings = CHANNELS_FIRST[name] | {"channels_last": False}
    build = nengo.ConvolutionTranspose if name == "transposed" else nengo.Convolution
    size, rng = settings.get("kernel_size", (3, 3)), np.random.default_rng(8)
    shape = *size, 6 // settings.get("groups", 1), settings["n_filters"]
    transform = build(**settings, init=rng.integers(-8, 17, shape) / 16)
    again = nengo.Convolution(
        3,
        transform.output_shape.shape,
        size,
        len(size) * (1,),
        channels_last=False,
        padding="same",
        init=rng.integers(-8, 17, (*size, settings["n_filters"], 3)) / 16,
    )
    layers = []
    with nengo.Network(seed=0) as network:
        pre = nn.constant_input((transform.size_in,)).output
        for each in (transform, again):
            n = each.size_out
            neurons = nengo.Ensemble(
                n,
                1,
                neuron_type=nn.IntegrateAndFire(1 / 64),
                gain=np.full(n, 1024.0 if many else 64.0),
                bias=np.zeros(n),
            ).neurons
            nengo.Connection(pre, neurons, transform=each, synapse=synapse if layers else None)
            layers.append(neurons)
            pre = neurons
        always = nengo.Node(rng.integers(0, 9, transform.size_in) / 16)
        nengo.Connection(always, layers[0], transform=transform, synapse=None)
    images = rng.integers(0, 17, (9, transform.size_in)) / 16
    assert_stretches_give_the_same(network, layers, images)


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_numbers_change_places(factor):
    """Each neuron gets the rate of one other, perhaps times a factor."""
    network, output = row_of_layers(
        nengo.RectifiedLinear(), source="poisson", widths=(11, 11), gain=1.0
    )
    places = np.stack([np.arange(11), np.random.default_rng(1).permutation(11)], axis=1)
    moved = nengo.Sparse((11, 11), indices=places, init=np.full(11, factor))
    with network:
        neurons = nengo.Ensemble(
            11, 1, neuron_type=nn.IntegrateAndFire(), gain=np.full(11, 8.0), bias=np.zeros(11)
        ).neurons
        nengo.Connection(output.output, neurons, transform=moved, synapse=None)
    assert_stretches_give_the_same(network, [neurons], IMAGES)


def assert_stretches_give_the_same(network, layers, images):
    run = {"presentation_time": 0.06, "progress": False}
    expected = present(network, layers, images, simulator="reference", **run)
    found = present(network, layers, images, **run)
    np.testing.assert_array_equal(found.steps, expected.steps)
    assert expected.steps.astype(bool).sum() > 100
    with MinibatchSimulator(network, 5, progress_bar=False) as simulator:
        assert simulator.runs_in_stretches


@pytest.mark.parametrize("synapse", [None, nengo.Lowpass(0.005)])
@pytest.mark.parametrize("source", ["spikes", "constant", "image"])
@pytest.mark.parametrize("transform", ["scalar", "dense"])
def test_connections_to_some_neurons_of_a_layer(source, synapse, transform):
    network, output = row_of_layers(nn.IntegrateAndFire(1 / 64), source="constant", gain=128.0)
    layer, rng = output.pre, np.random.default_rng(6)
    with network:
        pre = {
            "spikes": layer.output[1:4],
            "constant": nengo.Node([0.5, 0.25, 1.0]),
            "image": layer.pre.output[2:5],
        }[source]
        matrix = 0.5 if transform == "scalar" else rng.integers(-8, 17, (3, 3)) / 8
        for post in [output] if source == "spikes" else [layer, output]:
            nengo.Connection(pre, post.output[1:4], transform=matrix, synapse=synapse)
        # To neurons of which the others are a part.
        nengo.Connection(layer.output[5:7], output.output[:2], transform=0.25, synapse=None)
    assert_stretches_give_the_same(network, [layer.output, output.output], IMAGES)


def test_currents_that_are_no_numbers_are_errors():
    for neuron_type in (nengo.LIF(), nn.IntegrateAndFire()):
        network, output = row_of_layers(neuron_type, source="constant")
        with MinibatchSimulator(network, 5, progress_bar=False) as simulator:
            voltage = simulator.signals[simulator.model.sig[output.pre.output]["voltage"]]
            voltage[3, 2] = np.nan
            assert simulator.runs_in_stretches
            with pytest.raises(FloatingPointError, match="invalid value"):
                simulator.run_steps(20)


def test_steps_that_are_alike_are_added_at_once():
    outputs = np.array([[1.0, -2.0], [0.5, 0.0]])
    at_once, one_by_one = OutputRecord(steps=True), OutputRecord(steps=True)
    for record in (at_once, one_by_one):
        record.restart(outputs.T.shape, outputs.dtype)
        record.keep_signs()
    at_once.add(outputs, 3)
    for _ in range(3):
        one_by_one.add(outputs)
    for name in ("total", "negative", "steps"):
        np.testing.assert_array_equal(getattr(at_once, name), getattr(one_by_one, name))
    np.testing.assert_array_equal(at_once.negative, [[0, 0], [-6, 0]])


def test_what_is_not_kept_is_only_counted():
    network, output = row_of_layers(nengo.LIF())
    run = {"presentation_time": 0.1, "progress": False}
    whole = present(network, output, IMAGES, **run)
    few = present(network, output, IMAGES, keep=["layer 1"], **run)
    assert list(few.counts) == ["layer 1"]
    assert few.spikes_per_image() == whole.spikes_per_image()
    for label, counts in whole.counts.items():
        np.testing.assert_array_equal(few.spikes[label], counts.sum(axis=1))
    with pytest.raises(nn.InputError, match="layer 0: the run did not keep this layer"):
        few.mean_output("layer 0")
    with pytest.raises(nn.InputError, match="keep: unknown layer"):
        present(network, output, IMAGES, keep=["layer 7"], **run)


def in_small_parts(monkeypatch, spikes=60, kept=2_000):
    """Let every chunk have eight examples, each part few steps, and each stretch some parts."""
    monkeypatch.setattr(stretches, "_STATE_BYTES", 0)
    monkeypatch.setattr(stretches, "_FIRST", 3)
    monkeypatch.setattr(stretches, "_SPIKES", spikes)
    monkeypatch.setattr(stretches, "_KEPT_BYTES", kept)


@pytest.mark.parametrize("kept", [2_000, 2**26])
@pytest.mark.parametrize("source", ["poisson", "constant"])
@pytest.mark.parametrize("name", NEURONS)
def test_chunks_in_parts_give_the_same_spikes(name, source, kept, monkeypatch):
    """Records of sums and of steps, and probes that look at all or some steps."""
    images = np.random.default_rng(3).uniform(size=(19, *IMAGES.shape[1:]))

    def found(**settings):
        network, output = row_of_layers(NEURONS[name], source=source, synapse=0.004)
        with network:
            neurons = output.ensemble.neurons
            filtered = nengo.Probe(neurons, synapse=0.003, sample_every=0.003)
            probes = [nengo.Probe(neurons), filtered, nengo.Probe(output.pre.output, "input")]
        with MinibatchSimulator(network, 19, progress_bar=False, **settings) as simulator:
            layers = {layer.label: layer.output for layer in output.upstream()}
            records = [simulator.record(each) for each in layers.values()]
            records += [simulator.record(each, steps=True) for each in layers.values()]
            simulator.reset_to_examples(images)
            simulator.run_steps(37)
            simulator.run_steps(68)
            assert simulator.runs_in_stretches == (not settings)
            totals = [each.total for each in records]
            steps = [each.steps for each in records if each.keeps_steps]
            return [*totals, *steps, *(simulator.data[each] for each in probes)]

    expected = found(numba=False)
    in_small_parts(monkeypatch, kept=kept)
    for one, other in zip(found(), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
        assert one.size > 0
    assert expected[2].sum() > 20


def test_states_of_a_last_run_need_not_be_kept(monkeypatch):
    """The parts of every chunk follow each other, whether or not its states are kept."""
    in_small_parts(monkeypatch, kept=2**26)
    network, output = row_of_layers(nengo.AdaptiveLIF(tau_n=0.05), synapse=0.004)
    images = np.random.default_rng(4).uniform(size=(21, *IMAGES.shape[1:]))

    def counts(*, keeps_states, runs):
        with MinibatchSimulator(network, 21, progress_bar=False) as simulator:
            simulator._keeps_states = keeps_states
            records = recorded(simulator, output)
            simulator.reset_to_examples(images, range(3, 24))
            for n_steps in runs:
                simulator.run_steps(n_steps)
            return {label: record.total for label, record in records.items()}

    expected = counts(keeps_states=True, runs=[20, 60])
    for runs in ([80], [79, 1]):
        found = counts(keeps_states=True, runs=runs)
        assert all((found[label] == each).all() for label, each in expected.items())
    found = counts(keeps_states=False, runs=[80])
    assert all((found[label] == each).all() for label, each in expected.items())
    assert expected["layer 1"].sum() > 20


def left_out(monkeypatch):
    """Return a list of the shares of neurons that each call left out."""
    shares, steps = [], stages.Neurons._steps

    def watched(self, chunk):
        found = steps(self, chunk)
        if self in chunk.awake:
            n_awake = chunk.awake[self][:, -1].astype(float) - 1
            shares.append(1 - n_awake.mean() / self.output.size)
        return found

    monkeypatch.setattr(stages.Neurons, "_steps", watched)
    return shares


@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize("listed", [0.5, 0.0, -1.0])
@pytest.mark.parametrize("precision", [32, 64])
@pytest.mark.parametrize("name", NEURONS)
def test_neurons_that_cannot_spike_are_left_out(name, precision, listed, in_parts, monkeypatch):
    """In lists, in dense outputs (at once, or from the second part on), and in long runs."""
    if in_parts:
        in_small_parts(monkeypatch, spikes=400, kept=2**26)
    monkeypatch.setattr(stages, "_LISTED", max(listed, 0.0))
    if listed < 0:
        monkeypatch.setattr(stages.Neurons, "is_block", True)
    shares, is_lif = left_out(monkeypatch), "LIF" in type(NEURONS[name]).__name__
    rng, n = np.random.default_rng(9), 83
    with nengo.Network(seed=0) as network:
        pixels = nn.constant_input((9,))
        weights = rng.normal(0, 1, (9, n)), rng.normal(0.2, 1, n)
        first = nn.dense(pixels, weights, NEURONS[name], gain=3.0 if is_lif else 40.0, label="one")
        gain = 0.2 if is_lif else 5.0
        output = nn.dense(
            first, rng.normal(0.1, 1, (n, 5)), NEURONS[name], gain=gain, bias=1.0, label="two"
        )
    images = rng.uniform(0, 1, (19, 9))
    images[3], images[4] = 0, 4
    run = {"presentation_time": 0.23, "progress": False, "precision": precision}
    expected = present(network, output, images, simulator="reference", **run)
    assert not shares
    found = present(network, output, images, **run)
    assert shares
    assert 0.2 < min(shares) <= max(shares) < 0.8
    assert (len(shares) > 8) == in_parts
    for label in ("one", "two"):
        np.testing.assert_array_equal(found.counts[label], expected.counts[label])
    assert (expected.counts["one"] == 0).mean() > 0.2
    assert expected.counts["two"].sum() > 50


def test_a_family_need_not_say_which_neurons_can_spike(monkeypatch):
    model = type(model_of(nengo.AdaptiveLIF()))
    monkeypatch.setattr(model, "kernel", model.kernel._replace(wake=None))
    shares = left_out(monkeypatch)
    network, output = row_of_layers(NEURONS["adaptive"], source="constant")
    run = {"presentation_time": 0.1, "progress": False}
    expected = present(network, output, IMAGES, simulator="reference", **run)
    found = present(network, output, IMAGES, **run)
    for label, counts in expected.counts.items():
        np.testing.assert_array_equal(found.counts[label], counts)
    assert expected.counts["layer 1"].sum() > 20
    assert not shares


@pytest.mark.parametrize("name", NEURONS)
def test_states_that_are_read_are_those_of_all_neurons(name, monkeypatch):
    """States after a run, and probed voltages."""
    shares = left_out(monkeypatch)
    network, output = row_of_layers(NEURONS[name], source="constant", gain=1.3)
    with MinibatchSimulator(network, 5, progress_bar=False) as simulator:
        simulator.reset_to_examples(IMAGES)
        simulator.run_steps(60)
        assert simulator.runs_in_stretches
        first = output.pre.ensemble.neurons
        voltage = simulator.signals[simulator.model.sig[first]["voltage"]]
    with network:
        probe = nengo.Probe(first, "voltage", synapse=None, label="voltage of the first")
    run = {"presentation_time": 0.06, "progress": False, "probes": ["voltage of the first"]}
    expected = present(network, output, IMAGES, simulator="reference", **run).data[probe]
    np.testing.assert_allclose(present(network, output, IMAGES, **run).data[probe], expected)
    np.testing.assert_allclose(voltage.T, expected[:, -1])
    assert voltage.std() > 0.01
    assert not shares


def totals_of_parts(monkeypatch, keeps_states=True):
    """Return a function that runs stretches, of eight steps if states are kept, in parts."""
    in_small_parts(monkeypatch, kept=20_000 if keeps_states else 2**26)
    images = np.random.default_rng(8).uniform(size=(20, *IMAGES.shape[1:]))

    def totals():
        neurons = nn.IntegrateAndFire(initial_state={"voltage": nengo.dists.Uniform(0, 1)})
        network, output = row_of_layers(neurons, source="constant", synapse=0.01)
        with MinibatchSimulator(network, 20, progress_bar=False) as simulator:
            simulator._keeps_states = keeps_states
            records = recorded(simulator, output)
            for layer in (output, output.pre):
                simulator.record(layer.output, steps=True)
            simulator.reset_to_examples(images)
            simulator.run_steps(40)
            return {label: record.total for label, record in records.items()}

    return totals


def assert_same(found, expected):
    for label, each in expected.items():
        np.testing.assert_allclose(found[label], each, rtol=1e-12)
    assert all(each.sum() > 0 for each in expected.values())


@pytest.mark.parametrize("keeps_states", [False, True])
@pytest.mark.parametrize("failing", [1, 3, 4, 7, 11, 20, 21, 35])
def test_a_stretch_that_fails_leaves_no_counts_behind(failing, keeps_states, monkeypatch):
    totals = totals_of_parts(monkeypatch, keeps_states)
    expected, run, n_runs = totals(), stages.Neurons.run, 0

    def fails_once(self, chunk):
        nonlocal n_runs
        n_runs += 1
        if n_runs == failing:
            raise stages.NotANumber
        return run(self, chunk)

    monkeypatch.setattr(stages.Neurons, "run", fails_once)
    assert_same(totals(), expected)
    assert n_runs > failing


@pytest.mark.parametrize("keeps_states", [False, True])
@pytest.mark.parametrize("failing", [1, 2, 6, 13, 22, 37])
def test_steps_whose_spikes_cannot_be_listed_are_done_again(failing, keeps_states, monkeypatch):
    totals = totals_of_parts(monkeypatch, keeps_states)
    expected, steps, n_runs = totals(), stages.Neurons._steps, 0

    def fails_once(self, chunk):
        nonlocal n_runs
        n_runs += 1
        found = steps(self, chunk)
        return None if n_runs == failing else found

    monkeypatch.setattr(stages.Neurons, "_steps", fails_once)
    assert_same(totals(), expected)
    assert n_runs > failing


def rates_in_rows(neuron_type, synapse, *, first=None, gain=2.0):
    """Return convolutions and a pool of neurons without a state, fed by a constant image."""
    rng = np.random.default_rng(6)

    def kernel(*shape):
        return rng.integers(-2, 5, shape) / 8

    with nengo.Network(seed=0) as network:
        layer = nn.constant_input((9, 8, 2))
        first = neuron_type if first is None else first
        layer = nn.conv2d(layer, kernel(3, 3, 2, 5), first, gain=gain, bias=0.25, label="first")
        layer = nn.avg_pool2d(layer, synapse=synapse, label="pool")
        layer = nn.conv2d(layer, kernel(2, 2, 5, 70), neuron_type, gain=1.5, label="second")
        layer = nn.dense(layer, kernel(layer.size, 4), nn.IntegrateAndFire(), gain=2.0)
        output = nn.dense(layer, kernel(4, 3), None, label="output")
    return network, output


@pytest.mark.parametrize("synapse", [None, 0.004, nengo.Alpha(0.003)])
@pytest.mark.parametrize(
    "neuron_type", [nengo.RectifiedLinear(amplitude=0.5), nengo.Sigmoid(), nengo.LIFRate()]
)
def test_rates_of_a_constant_input(neuron_type, synapse):
    """Without a filter, each layer up to the first spikes is computed once, else step by step."""
    network, output = rates_in_rows(neuron_type, synapse)
    images = np.random.default_rng(1).integers(0, 3, (5, 9, 8, 2)) / 4
    run = {"readout": "mean", "progress": False, "presentation_time": 0.06, "seed": 2}
    expected = present(network, output, images, simulator="reference", **run)
    found = present(network, output, images, minibatch_size=3, **run)
    for label, counts in expected.counts.items():
        np.testing.assert_array_equal(found.counts[label], counts)
        assert counts.sum() > 50
    for label in ("first", "pool", "second"):
        mean = expected.mean_output(label)
        np.testing.assert_allclose(found.mean_output(label), mean, rtol=1e-9, atol=1e-12)
        assert mean.any()
    np.testing.assert_allclose(found.steps, expected.steps, rtol=1e-9, atol=1e-9)
    with MinibatchSimulator(network, 2, progress_bar=False) as simulator:
        layers = {layer.label: layer.output for layer in output.upstream()}
        records = {label: simulator.record(each, steps=True) for label, each in layers.items()}
        simulator.reset_to_examples(images[:2])
        simulator.run_steps(23)
        simulator.run_steps(17)
        assert simulator.runs_in_stretches
    steps = records["second"].steps
    assert steps.shape[:2] == (2, 40)
    assert np.all(steps == steps[:, -1:]) == (synapse is None)


@pytest.mark.parametrize("synapse", [None, 0.004])
def test_rates_of_a_constant_input_are_computed_once(synapse, monkeypatch):
    """Count the steps that each layer's function is called for."""
    model, n_steps = type(model_of(nengo.RectifiedLinear())), {}
    step = model.batched_step

    def counting(self, dt, current, *more):
        n = current.shape[-1]
        n_steps[n] = n_steps.get(n, 0) + current.size // n
        return step(self, dt, current, *more)

    monkeypatch.setattr(model, "batched_step", counting)
    network, output = rates_in_rows(nengo.RectifiedLinear(), synapse)
    images = np.random.default_rng(1).integers(0, 3, (3, 9, 8, 2)) / 4
    with MinibatchSimulator(network, 3, progress_bar=False) as simulator:
        simulator.record(output.output)
        simulator.reset_to_examples(images)
        assert simulator.runs_in_stretches
        n_steps.clear()
        simulator.run_steps(50)
    first, second = n_steps[7 * 6 * 5], n_steps[2 * 2 * 70]
    # Once for each example, however many parts the run has.
    assert first == 3
    assert second == (first if synapse is None else 3 * 50)


@pytest.mark.parametrize("filtered", ["second", "pool"])
def test_a_filtered_constant_is_the_same_to_the_bit_as_in_the_reference(filtered):
    """Sums of these numbers are exact: their products are taken once."""
    network, output = rates_in_rows(nengo.RectifiedLinear(), None)
    (layer,) = (each for each in output.upstream() if each.label == filtered)
    (connection,) = layer.connections
    connection.synapse = nengo.LinearFilter([0.5], [1, -0.5], analog=False)
    images = np.random.default_rng(1).integers(0, 3, (3, 9, 8, 2)) / 4
    run = {"readout": "mean", "progress": False, "presentation_time": 0.03, "keep": ["second"]}
    expected = present(network, output, images, simulator="reference", **run)
    found = present(network, output, images, **run)
    np.testing.assert_array_equal(found.mean_output("second"), expected.mean_output("second"))
    np.testing.assert_array_equal(found.steps, expected.steps)
    assert expected.mean_output("second").any()


def behind_a_filter(synapse):
    """Rates of a constant, filtered; and what reads them as a whole, in part and again filtered."""
    rng = np.random.default_rng(7)
    with nengo.Network(seed=0) as network:
        inputs = nn.constant_input((8, 8, 2))
        rates = nn.conv2d(
            inputs, rng.normal(size=(3, 3, 2, 4)), nengo.RectifiedLinear(), gain=2.0, label="rates"
        )
        pool = nn.avg_pool2d(rates, synapse=synapse, label="pool")
        conv = nn.conv2d(
            pool, rng.normal(size=(2, 2, 4, 5)), nengo.LIF(), gain=9.0, synapse=0.003, label="conv"
        )
        some = nengo.Node(size_in=9, label="some")
        nengo.Connection(pool.output[3:12], some, synapse=None)
        more = rng.normal(size=(conv.size, 9))
        nengo.Connection(some, conv.ensemble.neurons, transform=more, synapse=None)
        output = nn.dense(conv, rng.normal(size=(conv.size, 3)), None, label="output")
        # A probe of the filter itself, whose output is read a step later.
        end = nengo.Node(size_in=rates.size, label="end")
        nengo.Probe(nengo.Connection(rates.output, end, synapse=synapse), "output")
    return network, [inputs, rates, pool, some, conv, output]


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize(
    "synapse",
    [
        0.005,
        nengo.Alpha(0.004),
        nengo.LinearFilter([0.002, 1.0], [0.006, 1.0]),
        nengo.LinearFilter([1.0], [1e-5, 0.007, 1.0]),
    ],
)
def test_filters_of_rates_go_on_from_their_states(synapse, few, monkeypatch):
    """In stretches of several parts, single steps, and again from the states after them."""
    if few:
        # One example after the other, two or three at a time, a few steps in each part.
        monkeypatch.setattr(stretches, "_STATE_BYTES", 1)
        monkeypatch.setattr(stretches, "_LANES", 3)
        monkeypatch.setattr(stretches, "_BLOCK_BYTES", 2**13)
        monkeypatch.setattr(stages, "_DENSE_BYTES", 1)
    network, layers = behind_a_filter(synapse)
    objects = [getattr(each, "output", each) if each is not layers[3] else each for each in layers]
    images = np.random.default_rng(2).uniform(-1, 1, (5, 8 * 8 * 2))
    images[3] = 0
    with MinibatchSimulator(network, 5, progress_bar=False, seed=1) as simulator:
        kept = [simulator.record(each, steps=True) for each in objects]
        sums = [simulator.record(each) for each in objects]
        sums[2].keep_signs()
        simulator.reset_to_examples(images)
        assert simulator.runs_in_stretches
        assert any(isinstance(each, mixtures.Filtered) for each in simulator._stretches._stages)
        simulator.run_steps(31)
        for _ in range(3):
            simulator.step()
        simulator.run_steps(12)
        simulator.run_steps(14)
        found = [record.steps for record in kept]
        (probe,) = network.probes
        found.append(simulator.data[probe])
    for number, image in enumerate(images):
        layers[0].node.output.show(image, number, 0)
        with network:
            probes = [*(nengo.Probe(each) for each in objects), probe]
        with nengo.Simulator(network, progress_bar=False, seed=1) as reference:
            reference.run_steps(60)
        for steps, probe in zip(found, probes, strict=True):
            np.testing.assert_allclose(steps[number], reference.data[probe], rtol=1e-9, atol=1e-12)
        network.probes[:] = [probe]
        assert number == 3 or reference.data[probes[4]].any()
    for record, steps in zip(sums, found, strict=False):
        np.testing.assert_allclose(record.total, steps.sum(axis=1), rtol=1e-9, atol=1e-9)
    negative = np.minimum(found[2], 0).sum(axis=1)
    np.testing.assert_allclose(sums[2].negative, negative, rtol=1e-9, atol=1e-9)


def test_a_product_of_filtered_rates_is_computed_once(monkeypatch):
    """Count the images that the convolution behind the filter is computed for."""
    n_images, windows = [], Term._in_windows

    def counting(self, dense):
        n_images.append(dense.shape[:2])
        return windows(self, dense)

    monkeypatch.setattr(Term, "_in_windows", counting)
    monkeypatch.setattr(stretches, "_BLOCK_BYTES", 2**14)
    network, (*_, output) = behind_a_filter(0.005)
    images = np.random.default_rng(2).uniform(0, 1, (4, 8, 8, 2))
    present(network, output, images, presentation_time=0.1, progress=False)
    # The filter's state, its last output and its input.
    assert n_images == [(4, 3)]


@pytest.mark.parametrize("n_rows", [1, 3, 1000])
def test_neurons_without_a_state_are_stepped_for_some_steps_at_a_time(n_rows, monkeypatch):
    spiking = {"first": nn.IntegrateAndFire(), "gain": 300.0}
    network, output = rates_in_rows(nengo.RectifiedLinear(), 0.004, **spiking)
    images = np.random.default_rng(1).integers(0, 3, (3, 9, 8, 2)) / 4
    run = {"readout": "mean", "progress": False, "presentation_time": 0.05}
    expected = present(network, output, images, **run)
    assert expected.mean_output("second").shape == (3, 280)
    assert expected.mean_output("second").any()
    monkeypatch.setattr(stages, "_CURRENT_BYTES", 8 * 280 * n_rows)
    found = present(network, output, images, **run)
    np.testing.assert_array_equal(found.steps, expected.steps)


@pytest.mark.parametrize("precision", [32, 64])
def test_spikes_with_one_way_each(precision):
    """A pool that leaves out the last row and column, and a filter: no list comes out."""
    rng = np.random.default_rng(3)
    with nengo.Network(seed=0) as network:
        layer = nn.conv2d(
            nn.constant_input((6, 8, 2)),
            rng.integers(-2, 5, (2, 2, 2, 3)) / 8,
            nn.IntegrateAndFire(),
            gain=128.0,
            label="first",
        )
        assert layer.shape == (5, 7, 3)
        layer = nn.avg_pool2d(layer, synapse=0.004, label="pool")
        output = nn.dense(layer, rng.normal(size=(layer.size, 4)), None, label="output")
    images = rng.integers(0, 5, (4, 6, 8, 2)) / 4
    run = {"readout": "mean", "progress": False, "presentation_time": 0.06, "precision": precision}
    expected = present(network, output, images, simulator="reference", **run)
    found = present(network, output, images, **run)
    np.testing.assert_array_equal(found.counts["first"], expected.counts["first"])
    assert expected.counts["first"].sum() > 100
    tolerance = {"rtol": 1e-9} if precision == 64 else {"rtol": 1e-4, "atol": 1e-3}
    np.testing.assert_allclose(found.mean_output("pool"), expected.mean_output("pool"), **tolerance)
    np.testing.assert_allclose(found.steps, expected.steps, **tolerance)
