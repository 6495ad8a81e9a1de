"""KerasSpiking's Fashion-MNIST tutorial in plain Nengo."""

import json
import re
import types

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
from nengonet.studies.fashion_mnist import PUBLISHED, STUDY
from nengonet.studies.shared import logits_of

LOADED = {
    name: fashion_mnist.network_layers(nn.load_weights(nn.pretrained(file)))
    for name, file in fashion_mnist.FILES.items()
}
IMAGES, LABELS = nn.datasets.load("fashion_mnist", split="test", n_images=300)


@pytest.fixture(scope="module")
def report():
    return STUDY.reproduce(n_images=100, n_seeds=2, progress=False)


def show(case, images, **running):
    return case.present(images, progress=False, **running)


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def keras_spiking(layers, tau, image, voltage, dt):
    """Compute KerasSpiking's SpikingActivation, Lowpass and Dense for ten steps in NumPy."""
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
@pytest.mark.parametrize(("network", "dt"), PUBLISHED)
def test_every_cell_does_what_keras_spiking_does(network, dt, simulator):
    case = STUDY.build(network=network, dt=dt, seed=4)
    result = show(case, IMAGES[:6], rasters=["hidden"], simulator=simulator)
    (drawn,) = drawn_states(case.output.upstream(), case.initial_states)
    for example, image in enumerate(IMAGES[:6]):
        voltage = drawn.draw(4, example)
        spikes, outputs = keras_spiking(*LOADED[network], image, voltage, dt)
        np.testing.assert_array_equal(result.rasters["hidden"][example], spikes)
        np.testing.assert_allclose(result.outputs[example], outputs, rtol=1e-6, atol=1e-6)
        final = outputs[-1] if network == "low-pass" else outputs.mean(axis=0)
        assert result.predictions()[example] == final.argmax()


def test_the_cells_are_the_tutorials():
    assert [dt for network, dt in PUBLISHED if network == "plain"] == [0.001, 0.01, 0.1, 1]
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
    """As |count / T - rate| < 1 / T for every neuron, the logits are bounded too."""
    result = show(STUDY.build(dt=20.0), IMAGES)
    layers = LOADED["plain"][0]
    bound = np.abs(layers[1].kernel).sum(axis=0) / 200
    error = np.abs(result.scores()[:, -1] - logits_of(layers, IMAGES))
    assert np.all(error <= bound + 1e-5)


def test_from_zero_voltage_nothing_spikes_in_ten_milliseconds():
    result = show(STUDY.build(dt=0.001, initial_voltage="zero"), IMAGES)
    assert fashion_mnist.rates_of(result) == {"min": 0.0, "mean": 0.0, "max": 0.0}
    # no image is told from another
    assert set(result.predictions()) == {int(LOADED["plain"][0][1].bias.argmax())}


def test_kinds_of_initial_voltage():
    """Equal images spike differently if voltages are drawn for each image, else equally."""
    twice = np.repeat(IMAGES[:1], 40, axis=0)
    counts = {}
    for kind in fashion_mnist.INITIAL_VOLTAGES:
        case = STUDY.build(dt=0.1, initial_voltage=kind)
        assert bool(case.initial_states) == (kind == "image")
        counts[kind] = show(case, twice).counts["hidden"]
    assert np.ptp(counts["image"], axis=0).max() == 1
    for kind in ("network", "zero"):
        assert np.all(counts[kind] == counts[kind][0])
    layers = LOADED["plain"][0]
    rates = np.maximum(IMAGES[0].ravel() @ layers[0].kernel + layers[0].bias, 0)
    np.testing.assert_array_equal(counts["zero"][0], np.floor(rates + 1e-9))
    # the mean of 40 draws, 6 standard deviations of at most 0.5 / sqrt(40); 128 neurons
    assert np.abs(counts["image"].mean(axis=0) - rates).max() < 6 * 0.5 / np.sqrt(40)
    other = STUDY.build(dt=0.1, initial_voltage="network", seed=1)
    assert np.any(show(other, twice[:1], seed=0).counts["hidden"] != counts["network"][:1])


def test_report(report):
    assert report.published == 0.8837
    cells = [cell for cell in report.cells if "rates" in cell]
    assert [(cell["network"], cell["dt"]) for cell in cells] == list(PUBLISHED)
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
            STUDY.measure(dt=0.01, initial_voltage="network", n_images=100, seed=seed)["accuracy"]
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
        network: STUDY.measure(network=network, dt=0.01, n_images=100)
        for network in fashion_mnist.FILES
    }
    assert len({each["spikes"] for each in found.values()}) == 4
    path = nn.pretrained("fashion_spiking_aware")
    assert STUDY.measure(weights=path, dt=0.01, n_images=100) == found["spiking-aware"]
    with pytest.raises(nn.InputError, match="network: expected plain with your own weights"):
        STUDY.measure(network="low-pass", weights=path)


def test_an_image_shown_again_has_the_same_spikes(report):
    again = report.present_again(7)
    np.testing.assert_array_equal(again.counts["hidden"][0], report.result.counts["hidden"][7])
    np.testing.assert_array_equal(again.rasters["hidden"].sum(axis=1), again.counts["hidden"])


def test_figure(report):
    _, labels, names, cells = runs = fashion_mnist.example_runs(report, 3)
    assert list(cells)[0] == "plain, dt 0.001 s"
    assert len(cells) == 7
    figure = plot_spikes_and_probabilities(*runs)
    grid = np.array(figure.axes).reshape(8, 3, 2)
    titles = [axis.get_title() for axis in grid[0, :, 0]]
    assert titles == [names[label] for label in labels]
    for row, (dt, spikes, outputs, answers) in zip(grid[1:], cells.values(), strict=True):
        for number, (histogram, curves) in enumerate(row):
            assert f"answer: {names[answers[number]]}" in curves.get_title()
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
    report = types.SimpleNamespace(cells=compared(of_images, of_networks))
    (note, _) = fashion_mnist.on_voltages(report)
    assert says in note
    assert ("another network" in note) == ("neither" not in says)
    assert f"{100 * of_images:.2f} against {100 * of_networks:.2f} at dt 0.01 s" in note


def test_figures_of_other_voltages_have_no_published_one():
    report = STUDY.reproduce(initial_voltage="network", n_images=20, n_seeds=0, progress=False)
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
    report = STUDY.reproduce(file, n_images=20, n_seeds=0, progress=False)
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
        STUDY.build(initial_voltage="none")
    with pytest.raises(nn.InputError, match="n_steps: expected a whole number of at least 1"):
        STUDY.build(n_steps=0)
    with pytest.raises(nn.InputError, match="n_seeds: expected a whole number of at least 0"):
        STUDY.reproduce(n_seeds=-1)
    layers = LOADED["plain"][0]
    filters = nn.LayerWeights(name="filters", kind="Lowpass", others={"tau": np.ones(5)})
    with pytest.raises(nn.InputError, match=r"one layer of filters with 128 values tau.*\(5,\)"):
        fashion_mnist.network_layers(nn.Weights([layers[0], filters, layers[1]]))
    with pytest.raises(nn.InputError, match="expected at least one hidden layer"):
        fashion_mnist.network_layers(nn.Weights([nn.LayerWeights(np.ones((784, 10)), name="a")]))


def test_all_images_are_taken_where_there_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("NENGONET_DATA", raising=False)
    monkeypatch.setattr(nn.datasets, "load", lambda name, n_images, **_: (n_images, name))
    load = fashion_mnist.DATA.load
    assert load()[0] is None
    assert load(data=tmp_path)[0] == "all"
    assert load(n_images=5, data=tmp_path)[0] == 5
    monkeypatch.setenv("NENGONET_DATA", str(tmp_path))
    assert load()[0] == "all"


def test_nengos_own_network_has_the_networks_voltages():
    """``initial_voltage="network"`` gives the spikes of plain Nengo."""
    case = STUDY.build(dt=0.1, initial_voltage="network", seed=2)
    with case.network:
        probe = nengo.Probe(case.output.node)
    case.output.show(IMAGES[0])
    # reset_to_example gives the seed; here nothing but the build draws
    with nengo.Simulator(case.network, dt=0.1, progress_bar=False, optimize=False) as simulator:
        simulator.run_steps(10)
        found = simulator.data[probe]
    result = show(case, IMAGES[:1])
    np.testing.assert_allclose(result.outputs[0], found, rtol=1e-9, atol=1e-9)


@needs_whole_data
def test_whole_test_set_gives_the_tutorials_figures():
    report = STUDY.reproduce(n_seeds=0, progress=False)
    assert report.ann_accuracy.n_images == 10_000
    assert report.ann_accuracy.value >= 0.88
    found = {(cell["network"], cell["dt"]): cell for cell in report.cells}
    for key, figure in PUBLISHED.items():
        assert abs(found[key]["accuracy"] - figure.accuracy) < 0.03
        rates = found[key]["rates"]
        assert rates["min"] == figure.min_rate
        assert rates["mean"] == pytest.approx(figure.mean_rate, rel=0.25)
    assert found["spiking-aware", 0.01]["accuracy"] >= 0.84


def test_budget_ends_at_the_run():
    """The last stage is the run's readout; learned filters are not diagnosed as a fault."""
    case = STUDY.build(network="low-pass", dt=0.01)
    run = show(case, IMAGES[:100]).accuracy(LABELS[:100])
    options = {"network": "low-pass", "dt": 0.01, "n_images": 100}
    budget = STUDY.budget(**options)
    assert budget.steps[-1].accuracy == run.value
    assert [step.name for step in budget.steps][::3] == ["ANN", "spikes in place of rates"]
    (finding,) = STUDY.diagnose(**options).findings
    assert (finding.code, finding.severity) == ("synapse-delay", "warning")
