import nengo
import numpy as np
import pytest
from scipy.stats import chi2, ks_2samp, poisson

import nengonet as nn
from nengonet.layers.inputs import BLOCK_STEPS, images_at, poisson_block
from nengonet.run.presentation import present
from nengonet.streams import example_rng

# Chance of a false alarm of each statistical test below; the seeds are fixed.
ALPHA = 1e-6


def input_spikes(image, n_steps, *, dt=0.001, example=0, seed=0, **settings):
    """Run an input layer, and return its spikes in each step."""
    image = np.asarray(image, dtype=float)
    with nengo.Network(seed=0) as network:
        layer = nn.poisson_input(image.shape, **settings)
    result = present(
        network,
        layer,
        image[None],
        presentation_time=n_steps * dt,
        dt=dt,
        seed=seed,
        examples=[example],
        progress=False,
    )
    np.testing.assert_array_equal(result.counts["input"][0], result.scores()[0, -1])
    return np.diff(result.scores()[0], axis=0, prepend=0)


@pytest.mark.parametrize("kind", ["process", "ensemble"])
def test_black_never_spikes(kind):
    assert input_spikes(np.zeros((4, 5)), 500, kind=kind, max_rate=1000.0).sum() == 0


@pytest.mark.parametrize("kind", ["process", "ensemble"])
@pytest.mark.parametrize("dt", [0.001, 0.01])
def test_counts_have_the_poisson_mean_and_variance(kind, dt):
    n_steps, n_pixels, max_rate = 350, 300, 255.0
    image = np.linspace(0.02, 1, n_pixels)
    spikes = input_spikes(image, n_steps, dt=dt, kind=kind, max_rate=max_rate, example=7)
    expected = image * max_rate * n_steps * dt
    counts = spikes.sum(axis=0)
    low, high = poisson.interval(1 - ALPHA / n_pixels, expected)
    assert np.all((low <= counts) & (counts <= high))
    # sum((count - mean)^2 / mean) follows chi-squared: too regular fails as well as too noisy
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert chi2.ppf(ALPHA / 2, n_pixels) < statistic < chi2.isf(ALPHA / 2, n_pixels)
    # and so for the counts of single steps, whose variance shows a spread that is not uniform
    by_step = spikes.sum(axis=1)
    mean = expected.sum() / n_steps
    statistic = ((by_step - mean) ** 2 / mean).sum()
    assert chi2.ppf(ALPHA / 2, n_steps) < statistic < chi2.isf(ALPHA / 2, n_steps)


def test_both_kinds_agree_in_distribution():
    image = np.full(2000, 0.4)
    counts = {
        kind: input_spikes(image, 200, kind=kind, seed=5).sum(axis=0)
        for kind in ("process", "ensemble")
    }
    assert not np.array_equal(counts["process"], counts["ensemble"])
    assert ks_2samp(counts["process"], counts["ensemble"]).pvalue > ALPHA


def test_several_spikes_in_one_step_are_counted():
    spikes = input_spikes(np.ones(50), 100, max_rate=25500.0)
    assert spikes.max() > 30
    assert spikes.mean() == pytest.approx(25.5, rel=0.02)


@pytest.mark.parametrize("kind", ["process", "ensemble"])
def test_an_example_has_a_stream_of_its_own(kind):
    image = np.random.default_rng(0).uniform(size=(6, 6))
    first = input_spikes(image, 130, kind=kind, example=3, seed=1)
    np.testing.assert_array_equal(first, input_spikes(image, 130, kind=kind, example=3, seed=1))
    assert not np.array_equal(first, input_spikes(image, 130, kind=kind, example=4, seed=1))
    assert not np.array_equal(first, input_spikes(image, 130, kind=kind, example=3, seed=2))


@pytest.mark.parametrize("n_steps", [1, BLOCK_STEPS - 1, BLOCK_STEPS, BLOCK_STEPS + 1])
def test_a_short_presentation_is_the_start_of_a_long_one(n_steps):
    image = np.linspace(0, 1, 30)
    whole = input_spikes(image, 3 * BLOCK_STEPS)
    np.testing.assert_array_equal(input_spikes(image, n_steps), whole[:n_steps])


def test_block_spreads_its_spikes_over_all_steps():
    block = poisson_block(np.array([0.0, 4000.0]), 0.001, example_rng(0, 0))
    assert block.shape == (BLOCK_STEPS, 2)
    assert block[:, 0].sum() == 0

    assert (block[:, 1] > 0).mean() > 0.8


def test_mean_output_is_the_pixel_by_default():
    image = np.linspace(0, 1, 20)
    with nengo.Network(seed=0) as network:
        layer = nn.poisson_input((20,), max_rate=5000.0)
    result = present(network, layer, image[None], presentation_time=2.0, progress=False)
    # 10,000 spikes of a white pixel: 6 standard deviations are 0.06
    np.testing.assert_allclose(result.mean_output("input")[0], image, atol=0.06)


def test_constant_input_is_the_image_at_every_step():
    image = np.random.default_rng(1).uniform(size=(3, 4))
    with nengo.Network(seed=0) as network:
        layer = nn.constant_input((3, 4), scale=255.0)
    result = present(
        network, layer, image[None], presentation_time=0.005, readout="mean", progress=False
    )
    np.testing.assert_allclose(result.outputs[0], np.tile(255 * image.ravel(), (5, 1)))


def test_objects_of_the_post_are_real_nengo_objects():
    with nengo.Network() as network:
        layer = nn.poisson_input(
            (28, 28), max_rate=25500.0, amplitude=1.0, kind="ensemble", scale=255.0
        )
    assert network.ensembles == [layer.ensemble]
    assert network.nodes == [layer.pre.node]
    assert network.connections == [layer.connection]
    assert isinstance(layer.ensemble.neuron_type, nengo.PoissonSpiking)
    np.testing.assert_allclose(layer.ensemble.gain, 100.0)
    assert layer.connection.post == layer.ensemble.neurons


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"shape": 0}, r"expected the shape of one image, such as \(28, 28\) or 784, got 0"),
        ({"shape": True}, "expected the shape of one image, .* got True"),
        ({"shape": 7.5}, "expected the shape of one image, .* got 7.5"),
        ({"shape": "784"}, "expected the shape of one image, .* got '784'"),
        ({"shape": (28, 0)}, "expected the shape of one image"),
        ({"shape": (4,), "max_rate": 0.0}, "max_rate: expected a rate in Hz, above 0, got 0"),
        ({"shape": (4,), "amplitude": -1.0}, "amplitude: expected .*, above 0, got -1"),
        ({"shape": (4,), "kind": "rate"}, "kind: expected one of process, ensemble, got 'rate'"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with nengo.Network(), pytest.raises(nn.InputError, match=message):
        nn.poisson_input(**arguments)


def test_show_checks_the_image():
    with nengo.Network():
        layer = nn.poisson_input((28, 28))
    with pytest.raises(nn.InputError, match=r"expected shape \(n_images, 28, 28\) or flat"):
        layer.show(np.zeros(768))


@pytest.mark.parametrize("n", [12, np.int64(12)])
def test_a_number_is_the_shape_of_a_row(n):
    for build in (nn.poisson_input, nn.constant_input):
        with nengo.Network():
            row, image = build(n), build((12,))
        assert (row.shape, type(row.shape[0])) == ((12,), int)
        assert row.node.size_out == image.node.size_out == 12


@pytest.mark.parametrize("build", [nn.constant_input, nn.poisson_input])
def test_shapes_of_images_are_compared_not_sizes(build):
    rng = np.random.default_rng(0)
    with nengo.Network():
        colour, grey, flat = (build(shape) for shape in ((6, 5, 3), (6, 5), (30,)))
        one = build((6, 5, 1))
    images = rng.random((4, 6, 5, 3))
    for given in (images, images.reshape(4, -1), images.tolist(), images.astype(">f8")):
        np.testing.assert_array_equal(images_at(colour.node, given), images.reshape(4, -1))
    for layer, shape in ((grey, (6, 5, 1)), (one, (6, 5)), (flat, (6, 5)), (flat, (5, 6, 1))):
        assert images_at(layer.node, rng.random((4, *shape))).shape == (4, 30)
    pixels = rng.integers(0, 256, (4, 30), np.uint8)
    np.testing.assert_array_equal(images_at(grey.node, pixels), pixels / 255)
    for given, fix in (
        (np.moveaxis(images, -1, 1), r"another order: give images.transpose\(0, 2, 3, 1\)"),
        (
            np.moveaxis(images, 0, -1),
            r"axis of images is last: give numpy.moveaxis\(images, -1, 0\)",
        ),
        (images.transpose(0, 2, 1, 3), r"another order: give images.transpose\(0, 2, 1, 3\)"),
        (images[0], r"a single image as image\[numpy.newaxis\]"),
        (images[..., :2], r"expected shape \(n_images, 6, 5, 3\) or flat for input, got"),
    ):
        with pytest.raises(nn.InputError, match=fix):
            images_at(colour.node, given)


def test_only_spikes_need_pixels_in_0_to_1():
    with nengo.Network():
        constant = nn.constant_input((2,))
        poisson = [nn.poisson_input((2,)), nn.poisson_input((2,), kind="ensemble").pre]
    for values in ([[-1.0, 0.5]], [[0.0, 255.0]], [[0.0, 1.5]]):
        np.testing.assert_array_equal(images_at(constant.node, values), values)
    for layer in poisson:
        for value, fix in (
            (-1.0, "use constant_input, or"),
            (9.0, "by 255"),
            (1.5, "divide by 1.5"),
        ):
            with pytest.raises(nn.InputError, match=f"values in .0, 1. for Poisson.*{fix}"):
                images_at(layer.node, [[0.5, value]])
    with nengo.Network():
        constant = nn.constant_input((2,))
    with pytest.raises(nn.InputError, match="image: expected finite values, got nan"):
        constant.show([0.0, np.nan])
    constant.show(np.array([255, 51], np.uint8))
    np.testing.assert_allclose(constant.node.output.image, [1.0, 0.2])


def test_pixels_just_above_white_are_told_in_full():
    """Resizing can leave 1.0000001; the message must not round it to the allowed 1."""
    with nengo.Network():
        pixels = nn.poisson_input((2,))
    with pytest.raises(nn.InputError, match=r"got 0 to 1\.0000001; divide by 1\.0000001 and"):
        pixels.show([0.0, 1.0000001])


def test_an_output_that_nothing_feeds_is_the_same_for_all_images():
    """It is predicted as it is run; the images still go to the network's input."""
    with nengo.Network(seed=1) as net:
        source = nengo.Node(np.zeros(3))
        nengo.Connection(source, nengo.Ensemble(6, 3))
        lonely = nengo.Ensemble(7, 1, neuron_type=nengo.LIFRate(), label="lonely")
        empty = nengo.Node(size_in=2, label="empty")
    images = np.random.default_rng(0).random((4, 3))
    for shown in (images, {source: images}):
        rates = nn.predict_rates([lonely, empty], shown, network=net)
        result = nn.present(net, [lonely, empty], shown, readout="sum", progress=False)
        np.testing.assert_allclose(rates, result.outputs.mean(axis=1))
        assert np.ptp(rates, axis=0).max() == 0 < rates.max()
        nn.diagnose(lonely, shown, network=net)


def test_a_layer_shows_images_at_the_input_that_feeds_it():
    with nengo.Network(seed=0):
        first, second = (nn.constant_input((2,), label=label) for label in ("first", "second"))
        layers = [nn.dense(each, np.eye(2), None) for each in (first, second)]
        both = nn.dense([first, second], np.eye(2), None)
    layers[1].show([0.5, 0.25])
    np.testing.assert_array_equal(second.node.output.image, [0.5, 0.25])
    np.testing.assert_array_equal(first.node.output.image, [0, 0])
    with pytest.raises(nn.InputError, match=r"one image input in the network.*'first'.*'second'"):
        both.show([0.5, 0.25])
