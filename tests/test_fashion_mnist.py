"""KerasSpiking's Fashion-MNIST tutorial in plain Nengo."""

import json
import re

import h5py
import matplotlib.pyplot as plt
import nengo
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import needs_whole_data

import nengonet as nn
from nengonet.cli import main
from nengonet.layers.initial import drawn_states
from nengonet.plots import plot_spikes_and_probabilities
from nengonet.studies import fashion_mnist
from nengonet.studies.fashion_mnist import PUBLISHED
from nengonet.studies.shared import logits_of

LOADED = {
    name: fashion_mnist.network_layers(nn.load_weights(nn.pretrained(file)))
    for name, file in fashion_mnist.FILES.items()
}
IMAGES, LABELS = nn.datasets.load("fashion_mnist", split="test", n_images=300)


@pytest.fixture(scope="module")
def report():
    return fashion_mnist.reproduce(n_images=100, n_seeds=2, progress=False)


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def keras_spiking(layers, tau, image, voltage, dt):
    """Do what KerasSpiking's SpikingActivation, Lowpass and Dense do in ten steps, in NumPy."""
    hidden, last = layers
    rates = np.maximum(image.ravel() @ hidden.kernel + hidden.bias, 0)
    level, spikes, outputs = np.zeros(len(rates)), [], []
    smooth = None if tau is None else np.exp(-dt / np.maximum(tau.astype(float), 1e-8))
    for _ in range(10):
        voltage = voltage + rates * dt
        n_spikes = np.floor(voltage)
        voltage = voltage - n_spikes
        level = n_spikes / dt if tau is None else (1 - smooth) * n_spikes / dt + smooth * level
        spikes.append(n_spikes)
        outputs.append(level @ last.kernel + last.bias)
    return np.array(spikes), np.array(outputs)


@pytest.mark.parametrize("simulator", ["minibatch", "reference"])
@pytest.mark.parametrize(("network", "dt"), fashion_mnist.CELLS)
def test_every_cell_does_what_keras_spiking_does(network, dt, simulator):
    built = fashion_mnist.build(*LOADED[network])
    options = {"seed": 4, "rasters": built.hidden, "simulator": simulator, "progress": False}
    result = fashion_mnist.run(built, IMAGES[:6], dt, **options)
    (drawn,) = drawn_states(list(built.output.chain()), built.initial_states)
    for example, image in enumerate(IMAGES[:6]):
        voltage = drawn.draw(4, example)
        spikes, outputs = keras_spiking(*LOADED[network], image, voltage, dt)
        np.testing.assert_array_equal(result.rasters["hidden"][example], spikes)
        np.testing.assert_allclose(result.outputs[example], outputs, rtol=1e-6, atol=1e-6)
        final = outputs[-1] if network == "low-pass" else outputs.mean(axis=0)
        assert result.predictions()[example] == final.argmax()


def test_the_cells_are_the_tutorials():
    assert set(fashion_mnist.PUBLISHED) == set(fashion_mnist.CELLS)
    assert [dt for network, dt in fashion_mnist.CELLS if network == "plain"] == [
        0.001,
        0.01,
        0.1,
        1,
    ]
    rows = """19.55 0 0.52 100; 64.43 0 0.53 20; 88.14 0 0.53 15; 88.37 0 0.53 14.4
        84.27 0 2.74 50; 75.19 0 9.91 30; 84.34 0 5.37 70"""
    printed = [[float(figure) for figure in row.split()] for row in re.split("[;\n]", rows)]
    for (share, *rates), cell in zip(printed, PUBLISHED.values(), strict=True):
        assert cell == (pytest.approx(share / 100), *rates)
    assert fashion_mnist.PUBLISHED_ANN == 0.8832


def test_the_files_hold_what_their_cards_say():
    for name, (layers, tau) in LOADED.items():
        assert [layer.kernel.shape for layer in layers] == [(784, 128), (128, 10)]
        assert all(layer.bias is not None for layer in layers)
        assert (tau is not None) == (name == "low-pass")
        assert nn.pretrained(fashion_mnist.FILES[name]).stat().st_size < 2**20
    tau = nn.load_weights(nn.pretrained("fashion_lowpass"))["lowpass"].others["tau"]
    # they began at 0.1 s, and were learned
    assert tau.shape == (128,)
    assert tau.min() > 0
    assert tau.std() > 0.01


def test_long_steps_give_the_ann():
    """|count / T - rate| < 1 / T for every neuron, so the logits are bounded too."""
    built = fashion_mnist.build(*LOADED["plain"])
    result = fashion_mnist.run(built, IMAGES, 20.0, progress=False)
    layers = LOADED["plain"][0]
    bound = np.abs(layers[1].kernel).sum(axis=0) / 200
    error = np.abs(result.scores()[:, -1] - logits_of(layers, IMAGES))
    assert np.all(error <= bound + 1e-5)


def test_from_zero_voltage_nothing_spikes_in_ten_milliseconds():
    built = fashion_mnist.build(*LOADED["plain"], initial_voltage="zero")
    result = fashion_mnist.run(built, IMAGES, 0.001, progress=False)
    assert fashion_mnist.rates_of(result) == {"min": 0.0, "mean": 0.0, "max": 0.0}
    # no image is told from another
    assert set(result.predictions()) == {int(LOADED["plain"][0][1].bias.argmax())}


def test_kinds_of_initial_voltage():
    """Drawn for each image, equal images spike differently; drawn once, they do not."""
    twice = np.repeat(IMAGES[:1], 40, axis=0)
    counts = {}
    for kind in fashion_mnist.INITIAL_VOLTAGES:
        built = fashion_mnist.build(*LOADED["plain"], initial_voltage=kind)
        assert bool(built.initial_states) == (kind == "image")
        counts[kind] = fashion_mnist.run(built, twice, 0.1, progress=False).counts["hidden"]
    assert np.ptp(counts["image"], axis=0).max() == 1
    for kind in ("network", "zero"):
        assert np.all(counts[kind] == counts[kind][0])
    layers = LOADED["plain"][0]
    rates = np.maximum(IMAGES[0].ravel() @ layers[0].kernel + layers[0].bias, 0)
    np.testing.assert_array_equal(counts["zero"][0], np.floor(rates + 1e-9))
    # the mean of 40 draws, 6 standard deviations of at most 0.5 / sqrt(40); 128 neurons
    assert np.abs(counts["image"].mean(axis=0) - rates).max() < 6 * 0.5 / np.sqrt(40)
    other = fashion_mnist.build(*LOADED["plain"], initial_voltage="network", seed=1)
    found = fashion_mnist.run(other, twice[:1], 0.1, progress=False).counts["hidden"]
    assert np.any(found != counts["network"][:1])


def test_report(report):
    assert report.published == 0.8837
    cells = [cell for cell in report.cells if "rates" in cell]
    assert [(cell["network"], cell["dt"]) for cell in cells] == list(fashion_mnist.CELLS)
    assert [cell["readout"] for cell in cells] == 6 * ["mean"] + ["last_step"]
    for cell in cells:
        rates = cell["rates"]
        assert rates["min"] <= rates["mean"] <= rates["max"]
        # a rate is a whole number of spikes over ten steps
        spikes = rates["max"] * 10 * cell["dt"]
        assert spikes == pytest.approx(round(spikes), abs=1e-9)
        assert cell["most_spikes_a_step"] >= spikes / 10
    compared = [cell for cell in report.cells if "n_seeds" in cell]
    assert len(compared) == 3 * 4
    assert {cell["n_seeds"] for cell in compared if cell["initial_voltage"] != "zero"} == {2}
    text = str(report)
    for piece in ("0.1955", "0.00/2.74/50.00", "initial voltages: accuracy, mean of 2 seeds"):
        assert piece in text
    assert text.count("rounding: KerasSpiking computes in 32 bits") == 1
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["n_images"] == 100


def test_the_comparison_is_a_mean_over_seeds(report):
    found = [
        float(
            fashion_mnist.sweep_cell(dt=0.01, initial_voltage="network", n_images=100, seed=seed)[
                "accuracy"
            ]
        )
        for seed in (0, 1)
    ]
    (row,) = [
        cell
        for cell in report.cells
        if cell.get("n_seeds") == 2 and (cell["initial_voltage"], cell["dt"]) == ("network", 0.01)
    ]
    assert row["accuracy_mean"] == pytest.approx(np.mean(found))
    assert row["accuracy_std"] == pytest.approx(np.std(found, ddof=1))


def test_a_sweep_takes_any_of_the_networks_or_a_file_of_ones_own():
    found = {
        network: fashion_mnist.sweep_cell(network=network, dt=0.01, n_images=100)
        for network in fashion_mnist.FILES
    }
    assert len({each["spikes"] for each in found.values()}) == 4
    path = nn.pretrained("fashion_spiking_aware")
    assert fashion_mnist.sweep_cell(weights=path, dt=0.01, n_images=100) == found["spiking-aware"]
    with pytest.raises(nn.InputError, match="network: expected plain beside a weights file"):
        fashion_mnist.sweep_cell(network="low-pass", weights=path)


def test_an_image_shown_again_has_the_same_spikes(report):
    again = report.present_again(7)
    np.testing.assert_array_equal(again.counts["hidden"][0], report.result.counts["hidden"][7])
    np.testing.assert_array_equal(again.rasters["hidden"].sum(axis=1), again.counts["hidden"])


def test_figure():
    runs = fashion_mnist.example_runs(n_images=3)
    assert list(runs.cells)[0] == "plain, dt 0.001 s"
    assert len(runs.cells) == 7
    figure = plot_spikes_and_probabilities(*runs)
    grid = np.array(figure.axes).reshape(8, 3, 2)
    titles = [axis.get_title() for axis in grid[0, :, 0]]
    assert titles == [runs.class_names[label] for label in runs.labels]
    for row, (dt, spikes, outputs, answers) in zip(grid[1:], runs.cells.values(), strict=True):
        for number, (histogram, curves) in enumerate(row):
            assert f"answer: {runs.class_names[answers[number]]}" in curves.get_title()
            assert sum(bar.get_height() for bar in histogram.patches) == spikes[number].size == 1280
            assert curves.get_xlim() == (0, pytest.approx(10 * dt))
            drawn = np.array([line.get_ydata()[:10] for line in curves.get_lines()])
            np.testing.assert_allclose(drawn.sum(axis=0), 1)
            assert np.all(drawn.argmax(axis=0) == outputs[number].argmax(axis=1))
    plt.close(figure)


def compared(spread_of_images, spread_of_networks):
    return [
        {
            "initial_voltage": kind,
            "dt": dt,
            "n_seeds": 5,
            "accuracy_mean": 0.5,
            "accuracy_std": spread,
            "mean_rate_mean": 0.5,
        }
        for kind, spread in (
            ("image", spread_of_images),
            ("network", spread_of_networks),
            ("zero", None),
        )
        for dt in fashion_mnist.DTS
    ]


@pytest.mark.parametrize(
    ("of_images", "of_networks", "says"),
    [
        (0.004, 0.04, "larger at dt 0.001 and 0.01 and 0.1 and 1 s beyond chance"),
        (0.02, 0.022, "neither is larger beyond chance"),  # F(4, 4): 6.4 at 5 %
        (0.04, 0.004, "neither is larger beyond chance"),
        (0.0, 0.0, "neither is larger beyond chance"),
    ],
)
def test_the_note_on_voltages_is_chosen_by_the_spreads(of_images, of_networks, says):
    (note, _) = fashion_mnist._notes_on_voltages(compared(of_images, of_networks))
    assert says in note
    assert ("another network" in note) == ("neither" not in says)
    assert f"{100 * of_images:.2f} against {100 * of_networks:.2f} at dt 0.01 s" in note


def test_figures_of_other_voltages_have_no_published_one():
    report = fashion_mnist.reproduce(
        initial_voltage="network", n_images=20, n_seeds=0, progress=False
    )
    assert report.published is None
    for cell in report.cells:
        assert cell["published_accuracy"] is cell["published_rates"] is None
        assert 0 < cell["constant_rate_accuracy"] < 1
    assert not any(str(figure.accuracy) in str(report) for figure in PUBLISHED.values())


def test_command(tmp_path):
    figure = tmp_path / "figure.png"
    arguments = ["reproduce", "fashion-mnist", "--images", 20, "--seeds", 0, "--json"]
    done = call(*arguments, "--initial-voltage", "zero", "--plot", figure)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["name"], found["n_images"]) == ("fashion-mnist", 20)
    assert len(found["cells"]) == 7
    assert {cell["initial_voltage"] for cell in found["cells"]} == {"zero"}
    assert figure.stat().st_size > 10_000


def test_weights_of_ones_own(tmp_path):
    file = tmp_path / "own.h5"
    with h5py.File(file, "w") as h5:
        for layer in LOADED["plain"][0]:
            h5[f"{layer.name}/kernel"], h5[f"{layer.name}/bias"] = layer.kernel, layer.bias
    report = fashion_mnist.reproduce(file, n_images=20, n_seeds=0, progress=False)
    assert report.published is None
    assert [cell["dt"] for cell in report.cells] == [0.001, 0.01, 0.1, 1.0]
    assert all(cell["published_accuracy"] is None for cell in report.cells)
    assert "0.8837" not in str(report)


def test_bad_input_is_named(tmp_path):
    done = call("reproduce", "fashion-mnist", "--weights", nn.pretrained("bengali_cnn"))
    assert done.exit_code == 2
    assert "expected Dense layers from 784 inputs to 10 outputs" in done.stderr
    with pytest.raises(
        nn.InputError, match="initial_voltage: expected one of image, network, zero"
    ):
        fashion_mnist.build(*LOADED["plain"], initial_voltage="none")
    layers = LOADED["plain"][0]
    filters = nn.LayerWeights(name="filters", kind="Lowpass", others={"tau": np.ones(5)})
    with pytest.raises(nn.InputError, match=r"one layer of filters with 128 values tau.*\(5,\)"):
        fashion_mnist.network_layers(nn.Weights([layers[0], filters, layers[1]]))
    with pytest.raises(nn.InputError, match="expected at least one hidden layer"):
        fashion_mnist.network_layers(nn.Weights([nn.LayerWeights(np.ones((784, 10)), name="a")]))


def test_all_images_are_taken_where_there_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("NENGONET_DATA", raising=False)
    monkeypatch.setattr(
        fashion_mnist.datasets, "load", lambda name, n_images, **_: (n_images, name)
    )
    assert fashion_mnist._load(None, None, progress=False)[0] is None
    assert fashion_mnist._load(None, tmp_path, progress=False)[0] == "all"
    assert fashion_mnist._load(5, tmp_path, progress=False)[0] == 5
    monkeypatch.setenv("NENGONET_DATA", str(tmp_path))
    assert fashion_mnist._load(None, None, progress=False)[0] == "all"


def test_nengos_own_network_has_the_networks_voltages():
    """``initial_voltage="network"`` is what stock Nengo does with the same network."""
    built = fashion_mnist.build(*LOADED["plain"], initial_voltage="network", seed=2)
    with built.network:
        probe = nengo.Probe(built.output.node)
    built.output.show(IMAGES[0])
    # reset_to_example gives the seed; here nothing but the build draws
    with nengo.Simulator(built.network, dt=0.1, progress_bar=False, optimize=False) as simulator:
        simulator.run_steps(10)
        found = simulator.data[probe]
    result = fashion_mnist.run(built, IMAGES[:1], 0.1, progress=False)
    np.testing.assert_allclose(result.outputs[0], found, rtol=1e-9, atol=1e-9)


@needs_whole_data
def test_whole_test_set_gives_the_tutorials_figures():
    report = fashion_mnist.reproduce(n_seeds=0, progress=False)
    assert report.ann_accuracy.n_images == 10_000
    assert report.ann_accuracy.value >= 0.88
    found = {(cell["network"], cell["dt"]): cell for cell in report.cells}
    for key, figure in fashion_mnist.PUBLISHED.items():
        assert abs(found[key]["accuracy"] - figure.accuracy) < 0.03
        rates = found[key]["rates"]
        assert rates["min"] == figure.min_rate
        assert rates["mean"] == pytest.approx(figure.mean_rate, rel=0.25)
    assert found["spiking-aware", 0.01]["accuracy"] >= 0.84
