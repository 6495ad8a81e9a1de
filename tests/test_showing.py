"""The images of inputs, in networks of plain Nengo and of builders: `nengonet.layers.showing`."""

import pathlib
import runpy
import threading

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.layers.showing import read_images
from nengonet.layers.targets import read_output
from nengonet.results.readout import spike_counts
from nengonet.run.simulators import reference_simulator, reset_to_example

SIMULATORS = ("minibatch", "reference")
RNG = np.random.default_rng(11)
KERNEL = RNG.normal(0.1, 0.5, (6, 5))
IMAGES = RNG.random((7, 6))
RUN = {"presentation_time": 0.08, "progress": False}
PRESENTED = nengo.processes.PresentInput(IMAGES, 1.0)
ZERO = {"voltage": nengo.dists.Choice([0.0])}


def poster():
    """Return the names of the forum poster's script."""
    return runpy.run_path(str(pathlib.Path(__file__).parent / "data" / "forum_script.py"))


def network(output, size_out=None, **settings):
    """Return a network of one layer behind a Node."""
    with nengo.Network(seed=3) as net:
        net.inp = nengo.Node(output, size_out=size_out, label="inp")
        net.layer = nengo.Ensemble(
            5,
            1,
            neuron_type=nengo.LIF(initial_state=ZERO),
            gain=np.full(5, 30.0),
            bias=np.zeros(5),
            label="layer",
        )
        nengo.Connection(net.inp, net.layer.neurons, transform=KERNEL.T, synapse=None)
        net.probe = nengo.Probe(net.layer.neurons, label="spikes")
    return net


def by_hand(net, shows, n_steps=80):
    """Return the counts of `nengo.Simulator`, for each example from a network of its own."""
    counts = []
    for output in shows:
        net.inp.output = output
        with nengo.Simulator(net, progress_bar=False, optimize=False) as sim:
            sim.run_steps(n_steps, progress_bar=False)
            counts.append(spike_counts(sim.data[net.probe].sum(axis=0), sim.dt))
    return np.array(counts)


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("shown", [np.zeros(6), np.ones(6), PRESENTED])
def test_constants_are_those_of_nengos_simulator(simulator, shown):
    net = network(shown)
    before = net.inp.output
    result = nn.present(net, net.layer, IMAGES, simulator=simulator, **RUN)
    assert net.inp.output is before
    expected = by_hand(net, IMAGES)
    assert expected.sum() > 50
    np.testing.assert_array_equal(result.counts["layer"], expected)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_sequences_and_spike_trains(simulator):
    """A row for each step, the values of which are put out as they are."""
    trains = RNG.poisson(0.1, (3, 80, 6)) * 0.25 / 0.001
    net = network(np.zeros(6))

    def plays(train):
        return lambda t: train[round(t / 0.001) - 1]

    expected = by_hand(net, [plays(train) for train in trains])
    net.inp.output = np.zeros(6)
    found = nn.present(net, net.layer, trains, simulator=simulator, **RUN)
    assert expected.sum() > 20
    np.testing.assert_array_equal(found.counts["layer"], expected)
    # The same image at every step is the image.
    still = np.repeat(IMAGES[:, np.newaxis].reshape(7, 1, 2, 3), 80, axis=1)
    images = nn.present(net, net.layer, IMAGES, simulator=simulator, **RUN)
    steps = nn.present(net, net.layer, still, simulator=simulator, **RUN)
    np.testing.assert_array_equal(images.counts["layer"], steps.counts["layer"])
    wrong = r"a row for each of the 80 steps .*\(n_images, 80, 6\).*presentation_time=0.03 shows 30"
    with pytest.raises(nn.InputError, match=wrong):
        nn.present(net, net.layer, trains[:, :30], simulator=simulator, **RUN)


@pytest.mark.parametrize("kind", ["constant", "poisson"])
def test_sequences_at_image_inputs(kind):
    frames = RNG.integers(0, 256, (4, 80, 2, 3), dtype=np.uint8)
    with nengo.Network(seed=3) as net:
        pixels = {
            "constant": lambda: nn.constant_input((2, 3), scale=2.0),
            "poisson": lambda: nn.poisson_input((2, 3), 500.0, amplitude=0.02),
        }[kind]()
        layer = nn.dense(pixels, KERNEL, nengo.LIF(initial_state=ZERO), gain=20.0, label="layer")
    both = [nn.present(net, layer, frames, simulator=each, **RUN) for each in SIMULATORS]
    np.testing.assert_array_equal(*(each.counts["layer"] for each in both))
    assert both[0].counts["layer"].sum() > 50
    shown = nn.present(net, pixels, frames, **RUN)
    if kind == "constant":
        np.testing.assert_allclose(shown.steps, 2.0 * frames.reshape(4, 80, 6) / 255)
    else:  # sums of Poisson counts: 6 standard deviations
        expected = 500.0 * 0.001 * frames.reshape(4, 80, 6) / 255
        assert np.all(np.abs(shown.steps.sum() - expected.sum()) < 6 * np.sqrt(expected.sum()))
        again = nn.present(net, pixels, frames[2:], examples=[2, 3], **RUN)
        np.testing.assert_array_equal(again.steps, shown.steps[2:])


class Ramp(nengo.Process):
    """Put out an image that becomes brighter, with noise and a state of its own."""

    def __init__(self, image, seed=None):
        self.image = np.asarray(image, float).ravel()
        super().__init__(default_size_in=0, default_size_out=self.image.size, seed=seed)

    def make_state(self, shape_in, shape_out, dt, dtype=None):
        return {"level": np.zeros(1)}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        level = state["level"]

        def step(t):
            level[0] += dt
            return self.image * (30 * level[0]) + 0.2 * rng.standard_normal(self.image.size)

        return step

    def showing(self, image, example, seed):
        return Ramp(image)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_a_users_process(simulator):
    net = network(np.zeros(6))
    run = RUN | {"simulator": simulator}
    made = nn.present(net, net.layer, IMAGES, input_process=Ramp, **run)
    own = network(Ramp(np.zeros(6)))
    # Seeds of the two networks are the same, and so is the noise of an example.
    shown = nn.present(own, own.layer, IMAGES, **run)
    np.testing.assert_array_equal(made.counts["layer"], shown.counts["layer"])
    few = nn.present(own, own.layer, IMAGES[4:6], examples=[4, 5], **run)
    np.testing.assert_array_equal(few.counts["layer"], shown.counts["layer"][4:6])
    other = nn.present(own, own.layer, IMAGES, **run | {"seed": 4})
    assert not np.array_equal(other.counts["layer"], shown.counts["layer"])
    # By hand, with the simulator's own reset.
    own.inp.output = Ramp(IMAGES[4])
    with reference_simulator(own, 0.001, 3) as sim:
        reset_to_example(sim, 3, 4)
        sim.run_steps(80, progress_bar=False)
        counts = spike_counts(sim.data[own.probe].sum(axis=0), 0.001)
    np.testing.assert_array_equal(counts, shown.counts["layer"][4])
    assert counts.sum() > 5


def test_both_simulators_and_two_processes_agree_on_a_users_process():
    net = network(np.zeros(6))
    runs = [
        nn.present(net, net.layer, IMAGES, input_process=Ramp, **RUN, **how)
        for how in ({}, {"simulator": "reference"}, {"n_jobs": 2}, {"minibatch_size": 3})
    ]
    for other in runs[1:]:
        np.testing.assert_array_equal(other.counts["layer"], runs[0].counts["layer"])


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_a_seed_of_a_users_process_is_its_own(simulator):
    net, counts = network(np.zeros(6)), {}
    for seed in (1, 2):
        for own in (None, 5):

            def make(image, own=own):
                return Ramp(image, own)

            run = RUN | {"seed": seed, "simulator": simulator, "input_process": make}
            counts[seed, own] = nn.present(net, net.layer, IMAGES[:3], **run).counts["layer"]
    np.testing.assert_array_equal(counts[1, 5], counts[2, 5])
    assert not np.array_equal(counts[1, None], counts[2, None])


def test_time_begins_anew_with_every_example():
    seen = []
    net = network(np.zeros(6))
    with net:
        clock = nengo.Node(lambda t: (seen.append(t), t)[1], label="clock")
        nengo.Connection(clock, net.layer.neurons, transform=np.ones((5, 1)), synapse=None)
    settings = RUN | {"presentation_time": 0.003}
    nn.present(net, net.layer, IMAGES[:2], simulator="reference", **settings)
    # The function is each example's own copy, and so is what it keeps.
    assert seen == [0.0]  # by Nengo, which looks for its size
    with net:
        read = nengo.Probe(clock)
    result = nn.present(net, net.layer, IMAGES[:2], probes=[read], **settings)
    np.testing.assert_allclose(result.data[read][..., 0], [[0.001, 0.002, 0.003]] * 2)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_two_inputs(simulator):
    net = network(np.zeros(6))
    with net:
        second = nengo.Node([0.0, 0.0], label="second")
        nengo.Connection(second, net.layer.neurons[:2], synapse=None)
    others = RNG.random((7, 2))
    run = RUN | {"simulator": simulator}
    both = nn.present(net, net.layer, {net.inp: IMAGES, second: others}, **run)
    for image in (1, 5):
        second.output = others[image]
        expected = by_hand(net, [IMAGES[image]])
        np.testing.assert_array_equal(both.counts["layer"][[image]], expected)
    # Of the sizes, only one fits.
    net.inp.output, second.output = np.zeros(6), np.zeros(2)
    one = nn.present(net, net.layer, IMAGES, **run)
    named = nn.present(net, net.layer, IMAGES, input=net.inp, **run)
    np.testing.assert_array_equal(one.counts["layer"], named.counts["layer"])
    with pytest.raises(nn.InputError, match="same number of images for every Node, got 7 .* 6 "):
        nn.present(net, net.layer, {net.inp: IMAGES, second: others[:6]}, **run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((2, 7))}, r"expected shape \(n_images, 6\) for inp, got \(2, 7\)"),
        ({"images": np.zeros((0, 6))}, "at least one image, got shape"),
        ({"images": {}}, "got an empty dict"),
        ({"images": [["a"] * 6]}, "expected an array of numbers, got text"),
        ({"input": "inp"}, "input: expected Nodes of the network .*'inp'.*got 'inp'"),
        ({"input": "relay"}, r"connect an input to it, such as nengo.Node\(numpy.zeros\(2\)\)"),
        ({"input": "function", "images": np.zeros((2, 6))}, "for function, got"),
        ({"input_process": 3}, "input_process: expected a function that returns a Process"),
        (
            {"input_process": lambda image: image},
            "returns a nengo Process for an image, got one that returns shape",
        ),
        (
            {"input_process": lambda image: nengo.processes.PresentInput([[1, 2]], 1)},
            "of 6 values without input, as the Node has, got PresentInput of 2",
        ),
    ],
)
def test_what_is_refused(change, message):
    net = network(np.zeros(6))
    with net:
        relay = nengo.Node(size_in=2, label="relay")
        function = nengo.Node(lambda t: [t, t], size_out=2, label="function")
    named = {"relay": relay, "function": function}
    settings = {"images": IMAGES[:2]} | change
    if settings.get("input") in named:
        settings["input"] = named[settings["input"]]
    images = settings.pop("images")
    with pytest.raises(nn.InputError, match=message):
        nn.present(net, net.layer, images, **RUN, **settings)


def test_an_input_that_is_not_found_is_to_be_named():
    net = network(lambda t: np.sin(t) * np.ones(6), 6)
    with pytest.raises(nn.InputError, match="processes of their own.*'inp'.*input=node"):
        nn.present(net, net.layer, IMAGES, **RUN)
    found = nn.present(net, net.layer, IMAGES, input=net.inp, **RUN)
    np.testing.assert_array_equal(found.counts["layer"], by_hand(net, IMAGES))
    with net:
        for label in ("left", "right"):
            node = nengo.Node(np.zeros(6), label=label)
            nengo.Connection(node, net.layer.neurons, transform=KERNEL.T, synapse=None)
    with pytest.raises(nn.InputError, match="<Node 'left'> of size 6, <Node 'right'> of size 6"):
        nn.present(net, net.layer, IMAGES, **RUN)


def test_the_posters_script_is_the_network_of_the_builders():
    names = poster()
    images, kernels = names["images"], names["kernels"]
    with nengo.Network(seed=7) as net:
        poisson = {"amplitude": 0.01, "kind": "ensemble", "scale": 1.0}
        pixels = nn.poisson_input((4, 4), 100.0, **poisson, label="pixels")
        lif = nengo.LIF(initial_state=ZERO, amplitude=0.01)
        tuning = {"max_rates": 100.0, "intercepts": 0.0, "amplitude": 0.01}
        hidden = nn.dense(pixels, kernels[0], lif, **tuning, label="hidden")
        nn.dense(hidden, kernels[1], lif, **tuning, synapse=0.005, label="ensemble 2")
    output = net.__dict__["nengonet_layers"][net.all_ensembles[-1]]
    built = nn.present(net, output, images, **RUN)
    for how in ({}, {"simulator": "reference"}, {"n_jobs": 2}):
        found = nn.present(names["model"], names["out"], images, **RUN, **how)
        assert [each.label for each in found.layers] == ["pixels", "hidden", "ensemble 2"]
        for label, counts in built.counts.items():
            np.testing.assert_array_equal(found.counts[label], counts)
    assert built.counts["ensemble 2"].sum() > 20


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_outputs_of_every_kind(simulator):
    names = poster()
    net, hidden, out = (names[name] for name in ("model", "hidden", "out"))
    with net:
        array = nengo.networks.EnsembleArray(20, 3, seed=2, label="array")
        nengo.Connection(hidden.neurons[:3], array.input, synapse=0.01)
        node = nengo.Node(lambda t, x: 2 * x, size_in=4, size_out=4, label="doubled")
        nengo.Connection(out.neurons, node, synapse=None)
        decoded = nengo.Probe(array.output)
    run = RUN | {"simulator": simulator}
    images = names["images"][:3]
    plain = nn.present(net, [out, hidden], images, **run)
    counts, steps = plain.counts, plain.steps
    np.testing.assert_array_equal(steps.sum(axis=1), np.hstack([counts[out], counts[hidden]]))
    few = nn.present(net, [hidden.neurons[[3, 0]], out.neurons[::-2]], images, **run)
    np.testing.assert_array_equal(few.scores()[:, -1, 2:], counts[out][:, ::-2])
    np.testing.assert_array_equal(few.scores()[:, -1, :2], counts[hidden][:, [3, 0]])
    assert few.layers[-1].label == "hidden[[3, 0]] + ensemble 2[::-2]"
    assert few[few.layers[-1].label].shape == (4,)
    doubled = nn.present(net, node, images, **run)
    expected = 2 * 0.01 / 0.001 * plain.steps[..., :4]
    np.testing.assert_allclose(doubled.outputs, expected)
    assert doubled.layers[-1].amplitude is None
    with pytest.raises(nn.InputError, match="without spikes, got .spike_count"):
        doubled.predictions()
    assert doubled.predictions("sum").shape == (3,)
    of_array = nn.present(net, array.output, images, probes=[decoded], **run)
    np.testing.assert_allclose(of_array.outputs, of_array.data[decoded])
    assert of_array.mean_output(array.output).shape == (3, 3)
    mixed = nn.present(net, [out, array.output], images, **run)
    np.testing.assert_allclose(mixed.outputs[..., 4:], of_array.outputs)
    np.testing.assert_allclose(mixed.outputs[..., :4], plain.outputs[..., :4])


def test_direct_mode_is_no_output():
    net = network(np.zeros(6))
    with net:
        direct = nengo.Ensemble(1, 6, neuron_type=nengo.Direct(), label="direct")
        nengo.Connection(net.inp, direct, synapse=None)
    with pytest.raises(nn.InputError, match="direct.*expected an output with neurons, got Direct"):
        nn.present(net, direct, IMAGES, **RUN)


def test_a_saved_run_depends_on_inputs_and_outputs(tmp_path):
    names, file = poster(), tmp_path / "run.h5"
    net, inp, hidden, out = (names[name] for name in ("model", "inp", "hidden", "out"))
    images = names["images"]
    settings = RUN | {"save": file, "resume": True}
    first = nn.present(net, out, images, **settings)
    # What the Node would put out without images does not count.
    inp.output = np.zeros(16)
    again = nn.present(net, out, images, **settings)
    np.testing.assert_array_equal(again.steps, first.steps)
    np.testing.assert_array_equal(again.rates(hidden), first.rates("hidden"))
    for change, name in (
        ({"output": out.neurons[::-1]}, "output|layers"),
        ({"output": hidden}, "layers"),
        ({"probes": [names["spikes"]]}, "probes"),
        ({"input_process": lambda image: nengo.processes.PresentInput([image], 1)}, "inputs"),
    ):
        output = change.pop("output", out)
        with pytest.raises(nn.InputError, match=f"has (?:an)?other ({name}): expected"):
            nn.present(net, output, images, **settings, **change)
    loaded = nn.load_result(file)
    np.testing.assert_array_equal(loaded.rates(hidden), first.rates("hidden"))
    np.testing.assert_array_equal(loaded[hidden.neurons[:2]].counts, first.counts["hidden"][:, :2])
    with pytest.raises(nn.InputError, match="unknown layer <Ensemble"):  # it has no label
        loaded.rates(out)


def test_the_posters_script_through_every_entry_point():
    """Prediction, assertions, comparison and diagnosis, of a layer's slice and of a Node."""
    names = poster()
    net, pixels, hidden, out = (names[name] for name in ("model", "pixels", "hidden", "out"))
    images, labels = names["images"], names["labels"]
    with net:
        total = nengo.Node(size_in=1, label="total")
        nengo.Connection(pixels.neurons, total, transform=np.ones((1, 16)), synapse=None)
    run = RUN | {"presentation_time": 0.5}
    result = nn.present(net, [out, pixels.neurons[2:9]], images, **run)
    rates = nn.predict_rates(pixels.neurons[2:9], images, network=net)
    np.testing.assert_allclose(rates, 100 * images.reshape(9, 16)[:, 2:9])
    counts = result.counts[pixels.neurons[2:9]]
    nn.testing.assert_counts_match_rates(counts, rates, 0.5, kind="poisson")
    with pytest.raises(AssertionError):
        nn.testing.assert_counts_match_rates(counts[:, ::-1], rates, 0.5, kind="poisson")
    compared = nn.compare(result, [out, pixels.neurons[2:9]], images, network=net)
    rows = {row["label"]: row for row in compared.layers}
    assert list(rows) == ["pixels", "hidden", "ensemble 2", "ensemble 2 + pixels[2:9]"]
    assert rows["pixels"]["correlation"] > 0.95
    found = nn.diagnose(out, images, labels=labels, network=net)
    assert [row["label"] for row in found.layers] == ["node 0", "pixels", "hidden", "ensemble 2"]
    # Of a Node, which has no spikes to count.
    of_node = nn.present(net, total, images, **run)
    shown = nn.compare(of_node, total, images, network=net)
    assert [row["label"] for row in shown.layers] == ["pixels"]
    assert shown.ties == 0
    expected = nn.predict_rates(total, images, network=net)
    assert (
        np.abs(of_node.mean_output(total) - expected).max() < 6 * np.sqrt(1600 * 0.5) * 0.01 / 0.5
    )


def test_states_by_object():
    net = network(np.zeros(6))
    states = {"voltage": nengo.dists.Uniform(0, 1)}
    runs = [
        nn.present(net, net.layer, IMAGES, initial_states={key: states}, **RUN)
        for key in ("layer", net.layer, net.layer.neurons)
    ]
    for other in runs[1:]:
        np.testing.assert_array_equal(other.steps, runs[0].steps)
    assert not np.array_equal(nn.present(net, net.layer, IMAGES, **RUN).steps, runs[0].steps)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_the_streams_of_others_are_those_of_the_network_by_hand(simulator):
    """A Node that shows images draws the same random numbers as a constant Node."""
    net = network(np.zeros(6))
    with net:
        noise = nengo.Node(nengo.processes.WhiteNoise(nengo.dists.Gaussian(0, 0.5)), size_out=6)
        nengo.Connection(noise, net.layer.neurons, transform=KERNEL.T, synapse=None)
    found = nn.present(net, net.layer, IMAGES[:3], input=net.inp, simulator=simulator, **RUN)
    for example in range(3):
        net.inp.output = IMAGES[example]
        with reference_simulator(net, 0.001, 3) as sim:
            reset_to_example(sim, 3, example)
            sim.run_steps(80, progress_bar=False)
            counts = spike_counts(sim.data[net.probe].sum(axis=0), 0.001)
        np.testing.assert_array_equal(found.counts["layer"][example], counts)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_what_makes_a_process_is_not_copied(simulator):
    net, lock, made = network(np.zeros(6)), threading.Lock(), []

    def make(image):
        with lock:  # which nobody can copy
            made.append(image)
        return nengo.processes.PresentInput([image], 1.0)

    run = RUN | {"simulator": simulator, "minibatch_size": 3}
    found = nn.present(net, net.layer, IMAGES, input_process=make, **run)
    np.testing.assert_array_equal(found.counts["layer"], by_hand(net, IMAGES))
    assert all(
        any(image is each or np.array_equal(image, each) for each in made) for image in IMAGES
    )


def test_images_by_layer_and_for_the_input_upstream():
    """A layer stands for its input; of two inputs, for the one that it reads."""
    with nengo.Network(seed=3) as net:
        aside = nn.constant_input((6,), label="aside")
        nn.dense(aside, KERNEL, nengo.LIF(initial_state=ZERO), label="other", **nn.FORUM)
        pixels = nn.poisson_input((6,), 200.0, kind="ensemble", label="pixels")
        layer = nn.dense(pixels, KERNEL, nengo.LIF(initial_state=ZERO), label="layer", **nn.FORUM)
    expected = nn.present(net, layer, IMAGES, **RUN).counts["layer"]
    assert expected.any()
    for shown in ({pixels: IMAGES}, {pixels.pre: IMAGES}, {pixels.pre.node: IMAGES}):
        found = nn.present(net, layer, shown, **RUN).counts["layer"]
        np.testing.assert_array_equal(found, expected)
        rates = nn.predict_rates(layer, shown)
        np.testing.assert_array_equal(rates, nn.predict_rates(layer, IMAGES))
    found = nn.present(net, layer, IMAGES, input=pixels, **RUN).counts["layer"]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("add_input", [nn.constant_input, nn.poisson_input, None])
def test_bytes_stay_bytes_until_their_minibatch_runs(add_input, tmp_path):
    """Floats would take eight times the memory of all images at once."""
    images = RNG.integers(0, 256, (5, 2, 3), dtype=np.uint8)
    if add_input is None:
        net, values = network(np.zeros(6)), images.astype(float)
        output = net.layer.neurons
    else:
        with nengo.Network(seed=0) as net:
            output = nn.dense(add_input((2, 3)), KERNEL, nengo.LIF(), gain=30.0, label="layer")
        values = images / 255
    target = read_output(output, net)
    (shown,) = read_images(images, target, n_steps=80, dt=0.001)
    assert np.shares_memory(shown.images, images)
    saved = {"save": tmp_path / "run.h5", "resume": True}
    for simulator in SIMULATORS:
        settings = RUN | {"minibatch_size": 2, "simulator": simulator}
        expected = nn.present(net, output, values, **settings)
        found = nn.present(net, output, images, **settings)
        assert expected.counts["layer"].sum() > 0
        np.testing.assert_array_equal(found.steps, expected.steps)
    nn.present(net, output, images, **settings, **saved)
    resumed = nn.present(net, output, values, **settings, **saved)
    np.testing.assert_array_equal(resumed.steps, expected.steps)
    with pytest.raises(nn.InputError, match="images: expected shape"):
        nn.present(net, output, images[:, :1], **RUN)
