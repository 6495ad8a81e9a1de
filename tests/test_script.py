"""Networks as scripts in plain Nengo: they run, and count the same spikes as `present`."""

import math
import os
import re
import runpy
import shutil
import subprocess
import sys
import warnings

import nengo
import numpy as np
import pytest
import scipy.sparse
from click.testing import CliRunner

import nengonet as nn
from nengonet import studies
from nengonet.cli import main
from nengonet.plain import script as plain_script
from nengonet.studies.case import Case

RNG = np.random.RandomState(5)
FACTOR = 0.25
IF = nn.IntegrateAndFire()
LIF = nengo.LIF(initial_state={"voltage": nengo.dists.Choice([0.0])})
RELU = nengo.SpikingRectifiedLinear(initial_state={"voltage": nengo.dists.Choice([0.0])})
TUNED = {"gain": 64.0, "bias": 0.0}


def exact(*shape):
    """Return weights whose sums are exact in any order."""
    return RNG.randint(-8, 9, shape) / 8


def pictures(*shape):
    """Return two images."""
    return RNG.randint(1, 9, (2, *shape)) / 8


def ran(script, folder):
    """Run a script, and return its names."""
    script.save(folder / "network.py")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return runpy.run_path(str(folder / "network.py"))


def ran_alone(script, folder, *, without=""):
    """Run a script in a process of its own, with modules missing; return counts and scores."""
    script.save(folder / "network.py")
    missing = "".join(f"sys.modules[{each!r}] = None; " for each in without.split())
    code = (
        f"import runpy, sys, numpy; {missing}g = runpy.run_path('network.py'); "
        "numpy.savez('found.npz', **{k: g[k] for k in ('counts', 'scores', 'accuracy') if k in g})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "found.npz")) | {"printed": done.stdout}


def same(found, result, readout):
    """Compare what a script found with a result."""
    compared = [name for name in ("counts", "scores") if name in found]
    assert compared
    if "counts" in found:
        np.testing.assert_array_equal(found["counts"], result.scores("spike_count")[:, -1])
        assert found["counts"].any()
    if "scores" in found:
        expected = result.scores(readout)[:, -1]
        np.testing.assert_allclose(found["scores"], expected, rtol=1e-12, atol=1e-12)
        assert np.abs(expected[np.isfinite(expected)]).max() > 0


def check(folder, output, images, *, network=None, readout="spike_count", **given):
    """Compare a script with both simulators, and return it."""
    given = {"presentation_time": 0.06} | given
    script = nn.as_script(output, images, network=network, readout=readout, **given)
    found = ran(script, folder)
    network = network or (output[0] if isinstance(output, list) else output).network
    for simulator in ("reference", "minibatch"):
        kinds = {"readout": readout, "simulator": simulator, "progress": False}
        same(found, nn.present(network, output, images, **kinds, **given), readout)
    return script


# --- neurons


@pytest.mark.parametrize(
    "neuron_type",
    [
        LIF,
        nengo.LIF(tau_rc=0.05, min_voltage=-np.inf),
        nengo.AdaptiveLIF(tau_n=0.25, inc_n=0.125),
        nengo.SpikingRectifiedLinear(),
        nengo.RegularSpiking(nengo.LIFRate(tau_ref=0.003)),
        nengo.PoissonSpiking(nengo.LIFRate(tau_rc=0.03)),
        nengo.StochasticSpiking(nengo.RectifiedLinear()),
        nengo.Izhikevich(reset_voltage=-60.0),
        IF,
        nn.IntegrateAndFire(min_voltage=-0.5, initial_state={"voltage": nengo.dists.Uniform(0, 1)}),
    ],
    ids=str,
)
def test_neuron_types(neuron_type, tmp_path):
    with nengo.Network(seed=3):
        layer = nn.constant_input((6,))
        for label, n in (("first", 7), ("second", 5)):
            layer = nn.dense(layer, exact(layer.size, n), neuron_type, label=label, gain=96, bias=3)
    check(tmp_path, layer, pictures(6), seed=9)  # what the build draws follows the network's


def test_neurons_without_spikes_and_the_readouts(tmp_path):
    with nengo.Network(seed=3):
        pixels = nn.constant_input((6,), scale=2.0)
        rates = nn.dense(
            pixels, exact(6, 7), nengo.LIFRate(amplitude=0.5), label="rates", **nn.FORUM
        )
        last = nn.dense(rates, (exact(7, 4), exact(4)), None, synapse=0.01, label="last")
        spikes = nn.dense(rates, exact(7, 4), IF, gain=2.0, bias=1.0, label="spikes")
    for readout in ("sum", "mean", "last_step", "filtered"):
        check(tmp_path, last, pictures(6), readout=readout)
    for readout in ("first_spike", "steps_after_first_spike", "filtered"):
        check(tmp_path, spikes, pictures(6), readout=readout)
    assert "answers = scores" in nn.as_script(last, pictures(6))
    with pytest.raises(nn.InputError, match="readout: expected one that needs no spikes"):
        nn.as_script(last, pictures(6), readout="spike_count")


def test_first_voltages_drawn_for_each_image(tmp_path):
    neurons = nengo.AdaptiveLIF(tau_n=0.05)
    with nengo.Network():  # whose seed is that of the run
        layer = nn.constant_input((6,))
        for label in ("first", "second"):
            layer = nn.dense(layer, exact(6, 6), neurons, label=label, gain=8, bias=2)
    uniform, few = nengo.dists.Uniform(0, 1), nengo.dists.Uniform(0, 0.5)
    states = {"first": {"voltage": uniform, "adaptation": few}, "second": {"voltage": few}}
    for drawn in (states, None):
        check(tmp_path, layer, pictures(6), initial_states=drawn, seed=11)


def test_tunings_of_every_kind(tmp_path):
    """Uniform, per neuron, from rates, with Keras' biases; and drawn by the build."""
    gains = 32.0 + 8 * np.arange(12)
    with nengo.Network(seed=4) as net:
        pixels = nn.constant_input((6,))
        own = nn.dense(pixels, exact(6, 12), IF, gain=gains, bias=gains / 8, label="own")
        usual = nn.dense(own, exact(12, 12), LIF, label="usual", amplitude=0.01, **nn.FORUM)
        keras = nn.dense(
            usual, (exact(12, 11), exact(11)), LIF, label="keras", amplitude=0.01, **nn.FORUM
        )
        rates = nn.dense(keras, exact(11, 9), LIF, max_rates=150.0, label="rates", amplitude=0.01)
        drawn = nengo.Ensemble(
            10, 1, max_rates=nengo.dists.Uniform(50, 90), neuron_type=LIF, label="drawn"
        )
        nengo.Connection(rates.output, drawn.neurons, transform=exact(10, 9), synapse=None)
        other = nengo.Ensemble(5, 1, neuron_type=LIF, bias=nengo.dists.Choice([2.0]), gain=[1] * 5)
        nengo.Connection(drawn.neurons[:5], other.neurons, synapse=None, transform=0.125)
        weights = nengo.Dense((5, 9), init=nengo.dists.Uniform(0, 0.5))
        nengo.Connection(rates.output, other.neurons, synapse=None, transform=weights)
    script = check(tmp_path, other, pictures(6), network=net, presentation_time=0.1, seed=6)
    assert "nengo.dists.Choice([100])" in script
    assert '1.0 + KERAS_GAIN * arrays["keras_keras_bias"]' in script
    assert "own_gain" in script.arrays


# --- inputs


@pytest.mark.parametrize("kind", ["process", "ensemble"])
def test_poisson_input(kind, tmp_path):
    with nengo.Network(seed=1):
        pixels = nn.poisson_input((4, 5), 400.0, kind=kind)
        output = nn.dense(pixels, exact(20, 8), RELU, synapse=0.005, gain=200, bias=0)
    # Blocks of steps that do not divide the presentation; another seed than the network's.
    check(tmp_path, output, pictures(4, 5), presentation_time=0.23, seed=8)
    check(tmp_path, output, pictures(4, 5), presentation_time=0.09, dt=0.003)


def test_several_random_ensembles(tmp_path):
    with nengo.Network(seed=1):
        pixels = nn.poisson_input((6,), 300.0, kind="ensemble")
        noisy = nengo.PoissonSpiking(nengo.RectifiedLinear(), amplitude=0.125)
        left = nn.dense(pixels, np.abs(exact(6, 4)), noisy, gain=400, bias=0, label="left")
        other = nengo.StochasticSpiking(nengo.RectifiedLinear(), amplitude=0.125)
        right = nn.dense(pixels, np.abs(exact(6, 4)), other, gain=300, bias=0, label="right")
        output = nn.dense([left, right], exact(4, 8), IF, gain=8, bias=20)
    check(tmp_path, output, pictures(6), seed=2)


def test_sequences(tmp_path):
    rows = RNG.randint(0, 9, (2, 60, 6)) / 8
    for make in (nn.constant_input, nn.poisson_input):
        with nengo.Network(seed=1):
            output = nn.dense(make((6,)), exact(6, 5), IF, gain=64, bias=9)
        check(tmp_path, output, rows)


def test_two_inputs_of_which_one_is_plain(tmp_path):
    with nengo.Network(seed=1) as net:
        pixels, plain = nn.poisson_input((6,)), nengo.Node(np.zeros(3), label="plain one")
        output = nn.dense(pixels, exact(6, 5), IF, gain=64, bias=9)
        nengo.Connection(plain, output.output[1:4], synapse=None)
        fixed = nengo.Node([0.5, 0.25], label="fixed")
        nengo.Connection(fixed, output.output[[4, 0]], synapse=nengo.Alpha(0.01))
    check(tmp_path, output, {pixels.node: pictures(6), plain: 9 * pictures(3)}, network=net)


def test_images_of_bytes_and_none(tmp_path):
    with nengo.Network(seed=1):
        output = nn.dense(nn.constant_input((4, 4)), exact(16, 5), IF, gain=64, bias=9)
    check(tmp_path, output, RNG.randint(0, 256, (2, 4, 4)).astype(np.uint8))
    noise = nn.as_script(output, n_images=2)
    assert not noise.arrays.keys() & {"images"}
    found = ran(noise, tmp_path)
    shown = np.random.default_rng(0).random((2, 16))
    same(found, nn.present(output.network, output, shown, progress=False), "spike_count")


# --- layers


def test_convolutions_with_strides_padding_groups_and_a_residual_sum(tmp_path):
    with nengo.Network(seed=1):
        pixels = nn.poisson_input((7, 6, 2), 200.0)
        first = nn.conv2d(pixels, exact(3, 3, 2, 4), IF, padding="same", label="first", **TUNED)
        inner = nn.conv2d(first, (exact(3, 2, 2, 4), exact(4)), None, padding="same", groups=2)
        block = nn.activation([inner, first], RELU, synapse=0.005, label="block", **TUNED)
        strided = nn.conv2d(block, (exact(2, 2, 4, 3), exact(3)), IF, strides=(2, 1), **TUNED)
        wide = nn.conv2d(strided, exact(2, 2, 3, 2), IF, dilation_rate=2, label="wide", **TUNED)
        output = nn.dense(wide, exact(wide.size, 5), IF, gain=1, bias=8, label="last")
    script = check(tmp_path, output, pictures(7, 6, 2), presentation_time=0.04)
    assert "strides=(2, 1)" in script


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("kind", ["running_max", "winner", "instant"])
def test_max_pools(kind, padding, tmp_path):
    with nengo.Network(seed=1):
        pixels = nn.poisson_input((7, 5, 2), 200.0)
        first = nn.conv2d(pixels, exact(2, 2, 2, 3), IF, label="first", amplitude=2**-10, **TUNED)
        pool = nn.max_pool2d(first, (3, 2), (2, 1), padding, kind=kind)
        other = nn.max_pool2d(pool, 2, kind=kind, synapse=0.004)  # of what are not spikes
        output = nn.dense([other], exact(other.size, 5), IF, gain=8192, bias=8, label="last")
    check(tmp_path, output, pictures(7, 5, 2))


def test_average_pools_merges_and_padding(tmp_path):
    with nengo.Network(seed=1):
        pixels = nn.constant_input((7, 5, 2))
        first = nn.conv2d(pixels, exact(2, 2, 2, 4), IF, padding="same", label="first", **TUNED)
        pools = [nn.avg_pool2d(first, (3, 2), 2, "same"), nn.max_pool2d(first, (3, 2), 2, "same")]
        joined = nn.concatenate(pools)
        padded = nn.zero_padding2d(joined, 1, synapse=nengo.Triangle(0.004))
        both = nn.add([padded, padded])
        globe = nn.global_avg_pool2d(both)
        output = nn.dense(globe, exact(8, 6), IF, gain=8, bias=8, label="last")
    check(tmp_path, output, pictures(7, 5, 2))


def test_one_dimension_and_filters_of_each_unit(tmp_path):
    taus = np.r_[0.0, 0.01 * np.arange(1, 12)]
    with nengo.Network(seed=1):
        pixels = nn.constant_input((9, 2))
        first = nn.conv1d(pixels, exact(2, 2, 3), IF, padding="causal", label="first", **TUNED)
        pool = nn.avg_pool1d(nn.max_pool1d(first, 2), 1)
        slow = nn.lowpass(pool, taus)
        output = nn.dense(slow, exact(12, 5), IF, gain=8, bias=8, label="last")
    check(tmp_path, output, pictures(9, 2))


def test_slices_lists_and_sparse_matrices(tmp_path):
    with nengo.Network(seed=1) as net:
        pixels = nn.constant_input((20,))
        first = nn.dense(pixels, exact(20, 20), IF, label="first", **TUNED)
        second = nengo.Ensemble(
            20, 1, neuron_type=IF, gain=np.full(20, 8.0), bias=np.full(20, 9.0), label="2nd one"
        )
        places = [[0, 1], [3, 4], [3, 5], [7, 19]]
        sparse = nengo.Sparse((20, 20), indices=places, init=[0.5, 1.0, -1.0, 2.0])
        nengo.Connection(first.output, second.neurons, transform=sparse, synapse=None)
        matrix = scipy.sparse.csr_matrix(np.eye(10, 10, 2))
        nengo.Connection(
            first.output[::2],
            second.neurons[10:],
            transform=nengo.Sparse((10, 10), init=matrix),
            synapse=nengo.Alpha(0.003),
        )
        some = RNG.permutation(20)
        nengo.Connection(
            first.output[some.tolist()], second.neurons, synapse=None, transform=exact(20)
        )
    outputs = [first, second.neurons[[3, 1]], second.neurons[5:9]]
    check(tmp_path, outputs, pictures(20), network=net)
    check(tmp_path, second.neurons[some[:12].tolist()], pictures(20), network=net)


def test_a_way_back(tmp_path):
    with nengo.Network(seed=1):
        pixels = nn.constant_input((6,))
        output = nn.dense(pixels, exact(6, 5), IF, **TUNED)
        back = nengo.synapses.LinearFilter([1], [0.02, 1])
        nengo.Connection(output.output, output.output, transform=-0.0625, synapse=back)
    check(tmp_path, output, pictures(6))


# --- plain Nengo


def doubled(x):
    """Return twice a decoded value."""
    twice = np.zeros(2)
    twice[:] = FACTOR * 8 * x
    return twice


def test_decoded_connections_and_node_functions(tmp_path):
    with nengo.Network(seed=1) as net:
        inputs = nengo.Node(np.zeros(2), label="inputs")
        ens = nengo.Ensemble(
            30, 2, radius=2, neuron_type=nengo.LIF(), label="first", encoders=RNG.randn(30, 2)
        )
        nengo.Connection(inputs, ens, synapse=0.005)
        node = nengo.Node(lambda t, x: math.cos(9 * t) + np.tanh(x) * FACTOR, size_in=2)
        nengo.Connection(nengo.Node(lambda t: t % 0.04, label="clock"), node[0], synapse=None)
        solver = nengo.solvers.LstsqL2(reg=0.01)
        nengo.Connection(ens, node, function=doubled, solver=solver, synapse=0.01)
        nengo.Connection(ens[0], node[1], function=np.square, synapse=None)
        last = nengo.Ensemble(20, 2, label="last")
        nengo.Connection(node, last, transform=[[0.5, 0.0], [1.0, 1.0]], synapse=None)
    check(tmp_path, last.neurons, pictures(2), network=net, presentation_time=0.2)


def test_noise_and_processes_from_the_streams_of_the_examples(tmp_path):
    with nengo.Network(seed=1) as net:
        pixels = nn.poisson_input((3,), 300.0)
        signal = nengo.Node(nengo.processes.WhiteSignal(1.0, 20, seed=3), label="signal")
        steps = nengo.processes.Piecewise({0.05: 0.5, 0.1: -0.25})
        noise = nengo.Node(nengo.processes.WhiteNoise(), size_out=2, label="noise")
        ens = nengo.Ensemble(
            8, 1, label="noisy", noise=nengo.processes.WhiteNoise(nengo.dists.Gaussian(0, 0.01))
        )
        nengo.Connection(pixels.output, ens.neurons[:3], synapse=None, transform=2.0)
        nengo.Connection(signal, ens, synapse=None)
        nengo.Connection(nengo.Node(steps, label="steps"), ens, synapse=0.02)
        nengo.Connection(noise, ens.neurons[4:6], synapse=0.01)
    check(tmp_path, ens.neurons, pictures(3), network=net, presentation_time=0.2, seed=5)


def test_networks_in_networks(tmp_path):
    with nengo.Network(seed=1) as net:
        inputs = nengo.Node(np.zeros(3), label="inputs")
        array = nengo.networks.EnsembleArray(12, 3, label="array")
        nengo.Connection(inputs, array.input, synapse=0.005)
        last = nengo.Ensemble(9, 3, label="last")
        nengo.Connection(array.output, last, synapse=0.005)
    check(tmp_path, last.neurons, pictures(3), network=net, presentation_time=0.2)


# --- studies


def study_case(name, **options):
    """Return a network of a study, which needs no data set, and images for it."""
    study = studies.get(name)
    sample = np.random.RandomState(3).rand(4, *study.data.shape)
    if options.pop("repaired", False):
        module = sys.modules[study.network.__module__]
        file = {"bengali": "bengali_cnn", "cifar-csnn": "cifar_csnn_paper"}[name]
        weights = nn.load_weights(nn.pretrained(file))
        layers = module.cnn_layers(weights)
        if name == "bengali":
            output = module.repaired(layers, sample)
        else:
            output = module.build(layers, "repaired", sample=sample)
        times = {"presentation_time": 0.02, "readout": "mean"}
        return Case("repaired", output, layers, weights.path, **times), sample[:2]
    if "mnist" in study.data.name:
        return study.build(**options), nn.datasets.load(study.data.name, n_images=3)[0]
    return study.build(**options), sample[:2]


@pytest.mark.parametrize(
    ("name", "options", "time"),
    [
        ("forum-mnist", {"variant": "posted", "initial_voltage": "image"}, 0.1),
        ("forum-mnist", {"variant": "repaired", "neurons": "relu"}, 0.35),
        ("amplitude", {"amplitude": 0.02}, 0.03),
        ("amplitude", {"kind": "synapse"}, 0.03),
        ("bengali", {"scale": 415.0, "synapse": 0.01}, 0.02),
        ("bengali", {"repaired": True}, 0.01),
        ("fashion-mnist", {"dt": 0.1}, 1.0),
        ("fashion-mnist", {"network": "low-pass", "dt": 0.01}, 0.1),
        ("cifar-csnn", {"neurons": "adaptive-lif", "synapse": 0.005}, 0.008),
        ("cifar-csnn", {"repaired": True}, 0.008),
    ],
)
def test_a_script_of_a_study_counts_as_the_study_does(name, options, time, tmp_path):
    case, images = study_case(name, **options)
    labels = np.arange(len(images)) % 2
    script = case.script(images, labels, presentation_time=time)
    found = ran_alone(script, tmp_path)
    result = case.present(
        images, presentation_time=time, keep=None, simulator="reference", progress=False
    )
    same(found, result, case.readout)
    assert found["accuracy"] == float(result.accuracy(labels))
    # All that is not one number comes from the files.
    assert script.arrays.keys() <= {"images", "labels"}
    assert "load_weights(pretrained(" in script


# --- the text


def test_the_forums_network_is_a_short_text_that_stands_by_itself(tmp_path):
    case, images = study_case("forum-mnist")
    labels = nn.datasets.load("mnist", n_images=3)[1]
    script = case.script(images, labels)
    assert not script.arrays
    assert script.save(tmp_path / "forum.py") == [tmp_path / "forum.py"]
    assert len(script.splitlines()) < 115
    assert 'images, labels = datasets.load("mnist", n_images=3)' in script
    assert "INPUT_RATE = 255.0  # Hz, where a pixel is 1" in script
    assert max(map(len, script.splitlines())) <= 88
    assert script == case.script("mnist", n_images=3)
    again, _ = study_case("forum-mnist")
    assert script == again.script(images, labels)


def test_numbers_read_back_exactly_and_follow_the_network(tmp_path):
    case, images = study_case("forum-mnist")
    hidden = case.output.pre
    hidden.ensemble.gain = np.full(hidden.size, 0.1 + 0.2)
    script = case.script(images)
    assert "HIDDEN_GAIN = 0.30000000000000004  # " in script
    assert "images, _ = datasets.load(" not in case.script(images, [7, 2, 0])
    images[2, 9, 9] += 0.25
    assert "images" in case.script(images).arrays
    hidden.connection.transform = 2 * hidden.connection.transform.init
    edited = case.script(images, presentation_time=0.03)
    np.testing.assert_array_equal(
        edited.arrays["input_to_hidden"], 2 * hidden.weights.kernel.T.astype(float)
    )
    result = case.present(images, presentation_time=0.03, simulator="reference", progress=False)
    same(ran(edited, tmp_path), result, "spike_count")


def test_names_do_not_collide(tmp_path):
    with nengo.Network(seed=1) as net:
        layer, before = nn.constant_input((6,), label="np"), nengo.Node(add_a, size_in=6)
        nengo.Connection(layer.output, before, synapse=None)
        for gain, label in enumerate(("counts", "Counts", "a", "A", "A_", "1st (of two)", "é")):
            layer = nn.dense(layer, exact(6, 6), IF, gain=64 + gain, bias=8, label=label)
        nengo.Connection(before, layer.output, synapse=None)
    script = check(tmp_path, layer, pictures(6))
    assert re.search(r"^A_GAIN = 0.125$", script, re.MULTILINE)
    assert re.search(r"^A_GAIN_ = 66\.0  # ", script, re.MULTILINE)
    with net:
        nengo.Connection(layer.output, nengo.Node(add_n, size_in=6), synapse=None)
    with pytest.raises(nn.InputError, match="expected one meaning of COUNTS_GAIN in the network"):
        nn.as_script(layer)


A_GAIN, COUNTS_GAIN = 0.125, 3.0


def add_a(t, x):
    """Add a number of the module's."""
    return x + A_GAIN


def add_n(t, x):
    """Add a number whose name the script has given to another."""
    return x + COUNTS_GAIN


def product_with(matrix):
    """Return a function of a Node that multiplies."""

    def product(t, x):
        return matrix @ x

    return product


def test_a_kernel_is_that_of_the_file_in_any_order():
    """Nengo copies a matrix into rows; a function of a Node sums in the order of its own."""
    kernel = nn.load_weights(nn.pretrained("mnist_dense"))["hidden"].kernel.T
    for order in "FC":
        matrix = np.array(kernel, dtype=float, order=order)
        with nengo.Network() as net:
            pixels = nn.constant_input((784,))
            ens = nengo.Ensemble(128, 1, neuron_type=IF, gain=np.ones(128), bias=np.zeros(128))
            nengo.Connection(pixels.output, ens.neurons, transform=matrix, synapse=None)
        assert (128, 784) not in [
            each.shape for each in nn.as_script(ens, network=net).arrays.values()
        ]
        with nengo.Simulator(net, progress_bar=False) as simulator:
            weights = simulator.model.sig[net.all_connections[0]]["weights"]
            assert weights.initial_value.flags.c_contiguous
        with net:
            node = nengo.Node(product_with(matrix), size_in=784, size_out=128)
            nengo.Connection(pixels.output, node, synapse=None)
        saved = [each.shape for each in nn.as_script(node, network=net).arrays.values()]
        assert ((128, 784) in saved) == (order == "C")


@pytest.mark.parametrize("name", ["forum-mnist", "fashion-mnist", "amplitude", "cifar-csnn"])
def test_formatters_and_linters_leave_the_text_as_it_is(name, tmp_path):
    ruff = shutil.which("ruff") or shutil.which("ruff", path=os.path.dirname(sys.executable))
    if ruff is None:
        pytest.skip("needs ruff")
    case, images = study_case(name, **({"repaired": True} if name == "cifar-csnn" else {}))
    for standalone in (False, True):
        case.script(images, standalone=standalone).save(tmp_path / "network.py")
        for command in ("check --select E,F,W,I,B,UP,NPY --line-length 88", "format --check"):
            words = [ruff, *command.split(), "--isolated", "--no-cache", "network.py"]
            done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout


def test_a_script_without_nengonet(tmp_path):
    case, images = study_case("forum-mnist", neurons="if")
    labels = np.array([7, 2, 0])
    script = case.script(images, labels, standalone=True, presentation_time=0.05)
    assert not re.search("(import|from) nengonet", script)
    assert {"images", "labels"} < script.arrays.keys()
    found = ran_alone(script, tmp_path, without="nengonet h5py")
    result = case.present(images, presentation_time=0.05, simulator="reference", progress=False)
    same(found, result, "spike_count")
    assert f"accuracy {float(result.accuracy(labels)):.4f}" in found["printed"]


# --- what cannot be written


def remembering():
    """Return a function that keeps what it has seen."""
    seen = np.zeros(2)

    def function(t, x):
        both = np.zeros(4)
        both[:2] = x  # what is its own may change
        seen[...] += x
        return seen

    return function


class Own(nengo.RectifiedLinear):
    """A neuron type that scripts cannot contain."""


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (remembering(), "half: cannot write function, a function that keeps a state"),
        (dict(a=1).get, "half: cannot write builtin_function_or_method"),
        (eval("lambda t, x: x"), "half: cannot find the source of its function <lambda>"),
        (lambda t, x: x + len(LISTED), "half: cannot write a function that reads LISTED, of type"),
        (lambda t, x: x + DT, "half: cannot write a function that reads DT, which is a name of"),
    ],
)
def test_functions_that_cannot_be_written(output, message):
    with nengo.Network():
        pixels = nn.constant_input((2,))
        node = nengo.Node(output, size_in=2, size_out=2, label="half")
        nengo.Connection(pixels.output, node, synapse=None)
        with pytest.raises(nn.InputError, match=re.escape(message)):
            nn.as_script(node)


LISTED, DT = [1, 2], 3


def test_objects_that_cannot_be_written():
    with nengo.Network():
        pixels = nn.constant_input((2,))
        layer = nn.dense(pixels, np.eye(2), Own(), label="own", **nn.FORUM)
        with pytest.raises(nn.InputError, match="own: cannot write Own, which is a class of its"):
            nn.as_script(layer)
    with nengo.Network():
        ens, post = nengo.Ensemble(5, 1), nengo.Ensemble(5, 1)
        nengo.Connection(nengo.Node([0.0]), ens)
        nengo.Connection(ens, post, learning_rule_type=nengo.PES())
        with pytest.raises(nn.InputError, match="cannot write a connection with a learning rule"):
            nn.as_script(post)
    with nengo.Network():
        one, two = nn.constant_input((2,), label="one"), nn.constant_input((2,), label="two")
        output = nn.dense([one, two], np.eye(2), IF, **nn.FORUM)
        with pytest.raises(nn.InputError, match="two: expected images for this input, got none"):
            nn.as_script(output, {one.node: np.ones((1, 2))})
        with pytest.raises(nn.InputError, match="readout: expected one of"):
            nn.as_script(output, {one.node: np.ones((1, 2))}, readout="votes")


def test_no_script_is_left_without_its_arrays(tmp_path, monkeypatch):
    with nengo.Network(seed=0):
        output = nn.dense(nn.constant_input((4,)), np.eye(4) / 3, nengo.LIF(), gain=5.0)
    script = nn.as_script(output, np.full((1, 4), 0.3))
    assert script.arrays
    write = plain_script.write_whole

    def full(path, content):
        if path.suffix == ".npz":
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(plain_script, "write_whole", full)
    with pytest.raises(OSError, match="No space left"):
        script.save(tmp_path / "network.py")
    assert os.listdir(tmp_path) == []
    monkeypatch.undo()
    assert [path.name for path in script.save(tmp_path / "a.py")] == ["a.py", "a.npz"]
    assert sorted(os.listdir(tmp_path)) == ["a.npz", "a.py"]


def test_a_script_is_saved_as_a_script(tmp_path):
    with nengo.Network():
        output = nn.dense(nn.constant_input((2,)), np.eye(2), IF, **nn.FORUM)
    with pytest.raises(nn.InputError, match=r"expected the name of a script that ends in \.py"):
        nn.as_script(output).save(tmp_path / "network.txt")


# --- the command

OWN_SCRIPT = """
import nengo, numpy as np, nengonet as nn
weights = nn.load_weights("{file}")
pictures, answers = np.eye(784)[:3], np.array([3, 1, 2])
with nengo.Network(seed=2) as net:
    pixels = nn.poisson_input((784,), 500.0)
    hidden = nn.dense(pixels, weights["hidden"], nengo.AdaptiveLIF(), gain=5.0, bias=1.5)
    output = nn.dense(hidden, weights["output"], nn.IntegrateAndFire(), gain=0.5, bias=40.0)
"""


def command(*words):
    """Run nengonet; return what it printed, and its notes."""
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done.stdout, done.stderr


def test_the_command_writes_a_study():
    text, _ = command("script", "forum-mnist", "--images", "3")
    case, images = study_case("forum-mnist")
    assert text == case.script(images, nn.datasets.load("mnist", n_images=3)[1])


def test_the_command_writes_a_script_of_ones_own(tmp_path, monkeypatch):
    shutil.copy(nn.pretrained("mnist_dense"), tmp_path / "mine.h5")
    (tmp_path / "my.py").write_text(OWN_SCRIPT.format(file="mine.h5"))
    words = ["script", "my.py:output", "--images", "pictures", "--labels", "answers"]
    words += ["--time", "0.05", "--seed", "4"]
    monkeypatch.chdir(tmp_path)
    text, note = command(*words)
    assert 'load_weights("mine.h5")' in text
    assert "-o FILE.py writes the arrays that it reads: images, labels" in note
    written, _ = command(*words, "-o", "network.py")
    assert written == "wrote network.py and network.npz\n"
    assert (tmp_path / "network.py").read_text() == text
    own = runpy.run_path("my.py")
    given = {"presentation_time": 0.05, "seed": 4}
    made = nn.as_script(
        own["output"], own["pictures"], own["answers"], weights=own["weights"], **given
    )
    assert made == text
    result = nn.present(own["net"], own["output"], own["pictures"], progress=False, **given)
    same(ran_alone(made, tmp_path), result, "spike_count")
