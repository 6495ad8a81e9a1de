"""The amplitude thread: networks, causes, the channel, the answers and the command."""

import dataclasses
import json
import types

import matplotlib.pyplot as plt
import nengo
import numpy as np
import pytest
from click.testing import CliRunner

import nengonet as nn
from nengonet.cli import main
from nengonet.plots import plot_amplitude
from nengonet.run.content import file_digest
from nengonet.studies import amplitude
from nengonet.studies import amplitude_networks as cells
from nengonet.sweeps.result import Sweep as cells_of
from nengonet.sweeps.sweep import sweep

DIGITS, LABELS = nn.datasets.load("mnist", split="test", n_images=40)
LAYERS = {
    name: cells.network_layers(nn.load_weights(nn.pretrained(file)))[1]
    for name, file in (("mlp", "mnist_dense"), ("cnn", "amplitude_cnn"))
}
GAIN, BIAS = 1 / np.expm1(0.4), 1.0  # of LIF at 100 Hz: (1/100 - tau_ref) / tau_rc is 0.4


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def run(name, images=DIGITS[:3], simulator="minibatch", **options):
    _, output = cells.build(LAYERS[name], **options)
    return cells.simulate(output, images, simulator=simulator)


def constants(name, n_images=5):
    path = str(nn.pretrained({"mlp": "mnist_dense", "cnn": "amplitude_cnn"}[name]))
    files = {"": [path, file_digest(path)]}
    return {"files": files, "n_images": n_images, "poisson": False, "precision": 32}


@pytest.mark.parametrize("name", cells.WHITE)
def test_tuning_is_the_threads(name):
    _, output = cells.build(LAYERS[name], amplitude=0.3)
    neurons = [layer for layer in output.upstream() if layer.ensemble is not None]
    assert len(neurons) == {"mlp": 2, "cnn": 3}[name]
    for layer in neurons:
        lif, weights = layer.ensemble.neuron_type, layer.weights
        assert type(lif) is nengo.LIF
        assert (lif.amplitude, lif.min_voltage) == (0.3, 0)
        np.testing.assert_allclose(layer.ensemble.gain, GAIN, rtol=1e-12)
        keras = 0.0 if weights.bias is None else np.resize(weights.bias, layer.size)
        np.testing.assert_allclose(layer.ensemble.bias, BIAS + GAIN * keras, atol=1e-6)
        assert layer.connection.synapse is None
    assert output.upstream()[0].node.output.scale == cells.WHITE[name]


def test_cnn_is_what_plain_nengo_makes_of_the_tutorial():
    """Use plain Nengo and its probes only: inputs of 0 to 255, strides 1-2-2, biases."""
    ours, output = cells.build(LAYERS["cnn"], amplitude=0.03, seed=3)
    with nengo.Simulator(ours, progress_bar=False, optimize=False) as simulator:
        voltages = [
            simulator.signals[simulator.model.sig[each.neurons]["voltage"]].copy()
            for each in ours.ensembles
        ]
    with nengo.Network(seed=3) as network:
        network.config[nengo.Ensemble].max_rates = nengo.dists.Choice([100])
        network.config[nengo.Ensemble].intercepts = nengo.dists.Choice([0])
        network.config[nengo.Connection].synapse = None
        before, shape, probes = nengo.Node(255 * DIGITS[0].ravel()), (28, 28, 1), []
        for layer, stride in zip(LAYERS["cnn"], (1, 2, 2, None), strict=True):
            if stride:
                transform = nengo.Convolution(
                    layer.n_outputs, shape, strides=(stride, stride), init=layer.kernel
                )
                shape = transform.output_shape.shape
            else:
                transform = nengo.Dense(layer.kernel.T.shape, init=layer.kernel.T)
            n = transform.size_out
            if stride:
                lif = nengo.LIF(amplitude=0.03, initial_state={"voltage": voltages.pop(0)})
                after = nengo.Ensemble(n, 1, neuron_type=lif).neurons
            else:
                after = nengo.Node(size_in=n)
            nengo.Connection(before, after, transform=transform)
            biases = nengo.Node(np.resize(layer.bias, n))
            nengo.Connection(biases, after)
            probes.append(nengo.Probe(after))
            before = after
        filtered = nengo.Probe(after, synapse=0.1)
    with nengo.Simulator(network, progress_bar=False, optimize=False) as simulator:
        simulator.run_steps(cells.N_STEPS)
        *spikes, outputs = (simulator.data[probe] for probe in probes)
        logits = simulator.data[filtered][-1]
    result = cells.simulate(output, DIGITS[:1])
    for layer, found in zip(LAYERS["cnn"], spikes, strict=False):
        counts = np.rint(found.sum(axis=0) * 0.001 / 0.03)
        assert counts.sum() > 1000
        different = np.sum(result.counts[layer.name][0] != counts)
        assert different <= 2  # a bias that is added as current rounds in another way
    np.testing.assert_allclose(result.scores()[0, -1], logits, rtol=0, atol=1e-2 * np.ptp(logits))
    assert outputs.shape == (cells.N_STEPS, 10)


@pytest.mark.parametrize("kind", ["fixed", "compensated", "unclipped", "synapse", "linear"])
def test_twin_gives_the_reference_counts(kind):
    twin, reference = (
        run("mlp", simulator=simulator, amplitude=0.37, kind=kind)
        for simulator in ("minibatch", "reference")
    )
    assert twin.counts["hidden"].sum() > 300
    for label, counts in reference.counts.items():
        np.testing.assert_array_equal(twin.counts[label], counts)
    np.testing.assert_allclose(twin.steps, reference.steps, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", cells.WHITE)
def test_compensated_weights_give_the_same_spikes(name):
    """The counts are equal, as a factor that is a power of two rounds nothing."""
    large = 64 * cells.TRAINED_AT
    start = run(name, kind="fixed")
    same = run(name, kind="compensated", amplitude=large)
    other = run(name, kind="fixed", amplitude=large)
    for label in start.counts:
        np.testing.assert_array_equal(same.counts[label], start.counts[label])
    last = list(start.counts)[-1]
    assert np.any(other.counts[last] != start.counts[last])
    np.testing.assert_array_equal(same.predictions(), start.predictions())


def test_without_neurons_in_the_last_layer_the_output_is_proportional_to_the_amplitude():
    small, large = (run("mlp", kind="linear", amplitude=a) for a in (0.01, 0.5))
    np.testing.assert_allclose(large.steps, 50 * small.steps, rtol=1e-9, atol=1e-9)
    assert np.ptp(small.steps) > 1


def test_first_layer_does_not_see_the_amplitude_and_the_next_is_driven_in_proportion():
    small, large = cells.explain(LAYERS["cnn"], DIGITS[:2], (0.01, 0.5))[::3]
    assert small["layer"] == large["layer"] == "conv1"
    assert large["drive"] / small["drive"] == pytest.approx(50, rel=1e-9)
    assert large["bias"] == small["bias"] > 0
    assert large["rate"] > 2 * small["rate"]
    assert large["silent"] < small["silent"]


def test_explained_drive_is_what_the_layer_gets():
    """The drive of the MLP is kernel.T @ (mean output of the layer before)."""
    result = run("mlp", amplitude=0.05)
    mean = result.counts["hidden"] * 0.05 / 0.03
    (row,) = cells.explain(LAYERS["mlp"], DIGITS[:3], [0.05])
    assert row["drive"] == pytest.approx(np.sqrt(np.mean((mean @ LAYERS["mlp"][1].kernel) ** 2)))
    rates = result.counts["output"] / 0.03
    assert row["rate"] == pytest.approx(rates.mean())
    assert row["saturated"] == np.mean(rates > 450)
    assert row["silent"] == np.mean(rates == 0)
    assert row["bias"] == 0


def test_biases_are_scaled_behind_spikes_only():
    first, second, *_ = (
        layer.ensemble.bias
        for layer in cells.build(LAYERS["cnn"], amplitude=0.2, kind="biases")[1].upstream()
        if layer.ensemble is not None
    )
    fixed = [layer.bias for layer in LAYERS["cnn"]]
    np.testing.assert_allclose(first[:32], BIAS + GAIN * fixed[0], atol=1e-6)
    np.testing.assert_allclose(second[:64], BIAS + 20 * GAIN * fixed[1], atol=1e-6)


def test_large_spikes_cost_accuracy_by_clipping():
    right = {
        (kind, a): run("cnn", DIGITS, kind=kind, amplitude=a).accuracy(LABELS).value
        for kind, a in (("fixed", 0.01), ("fixed", 0.5), ("unclipped", 0.5))
    }
    assert right["fixed", 0.01] >= 0.95
    assert right["fixed", 0.5] <= 0.7
    assert right["unclipped", 0.5] >= 0.9


def test_max_rates_and_intercepts():
    drives = np.array([-1.0, 0.0, 0.01, 0.5, 1.0, 10.0, 1e6])
    counts = cells.tuning_counts(drives)
    rates = nengo.LIFRate().rates(drives[:, None], np.array([GAIN]), np.array([BIAS]))[:, 0]
    assert rates[4] == pytest.approx(100)
    assert np.all(np.abs(counts - rates) <= 1)
    assert counts[:2].tolist() == [0, 0]
    assert counts[-1] <= 500


def test_channel_doubles_with_the_amplitude():
    grid = {"decoders": ["fixed", "solved"], "amplitude": [0.01, 0.02, 0.25, 0.5]}
    found = sweep(cells.channel, grid, seeds=2, progress=False)
    assert not found.failed
    fixed, solved = (cells.channel_slopes(found, decoders) for decoders in ("fixed", "solved"))
    assert len(fixed) == 2
    np.testing.assert_allclose(fixed.mean(), 1.0, atol=0.02)
    np.testing.assert_allclose(solved, 0.0, atol=1e-6)
    decoders = {r["amplitude"]: r["decoder"] for r in found.rows if r["decoders"] == "solved"}
    assert decoders[0.01] / decoders[0.02] == pytest.approx(2, rel=1e-6)


def test_roughness():
    line = np.linspace(0.9, 0.2, 50)
    assert cells.roughness(line) < 1e-15
    noise = np.random.default_rng(0).normal(0, 0.03, 20_000)
    # Squares of second differences are correlated; 5 % is more than 5 standard errors.
    assert cells.roughness(noise) == pytest.approx(0.03, rel=0.05)
    assert cells.roughness([0, 1, 0]) == pytest.approx(2 / np.sqrt(6))


def test_seed_changes_first_voltages_only():
    results = [run("mlp", DIGITS[:1], seed=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(results[0].steps, results[1].steps)
    assert np.any(results[0].counts["hidden"] != results[2].counts["hidden"])
    assert np.all(np.abs(results[0].counts["hidden"] - results[2].counts["hidden"]) <= 1)


@pytest.mark.parametrize("name", cells.WHITE)
def test_cells_of_one_network_are_run_once(name, monkeypatch):
    """Cells count as different by kind, amplitude, seed, file, input, images and precision."""
    runs, simulate = [], cells.simulate
    monkeypatch.setattr(cells, "simulate", lambda *a, **k: runs.append(1) or simulate(*a, **k))
    cells._outcome.cache_clear()
    given = constants(name)
    path = given["files"][""]
    given["files"] = {"": path, "0.01": path, "training-1": ["other", path[1]]}
    monkeypatch.setattr(cells, "read_layers", lambda *file: LAYERS[name])

    def found(kind, amplitude, seed=0, **changed):
        before = len(runs)
        values = cells.cell(kind, amplitude, seed=seed, **(given | changed))
        return values, len(runs) - before

    fixed, n_runs = found("fixed", 0.01)
    assert n_runs == 1
    for kind in ("fixed", "compensated", "biases", "retrained"):
        assert found(kind, 0.01) == (fixed, 0)
    for kind, at, seed in (("loop", 0.1, 0), ("rate", 0.01, 4)):
        values, n_runs = found(kind, at)
        assert n_runs == 1
        assert found("fixed" if kind == "loop" else kind, at, seed) == (values, 0)
    fixed.clear()
    assert found("fixed", 0.01)[0]
    for kind in ("rate", "unclipped", "synapse", "training-1"):
        assert found(kind, 0.03)[1] == 1
    for kind in ("compensated", "biases", "rate", "unclipped", "synapse"):
        assert found(kind, 0.05)[1] == 1
    for changed in ({"seed": 1}, {"precision": 64}, {"n_images": 4}, {"poisson": True}):
        assert found("fixed", 0.01, **changed)[1] == 1
    noisy = {"poisson": True}
    assert [found("rate", 0.01, seed, **noisy)[1] for seed in (0, 1, 0)] == [1, 1, 0]


def test_cell_counts_what_the_network_does():
    found = cells.cell("fixed", 0.07, seed=2, **(constants("mlp") | {"precision": 64}))
    _, output = cells.build(LAYERS["mlp"], amplitude=0.07, seed=2)
    result = cells.simulate(output, DIGITS[:5])
    right = result.scores("filtered")[:, -1].argmax(axis=1) == LABELS[:5]
    assert float(found["accuracy"]) == right.mean()
    assert found["spikes"] == [result.counts[label].sum() / 5 for label in ("hidden", "output")]
    assert "spikes" not in cells.cell("rate", 0.07, seed=2, **constants("mlp"))
    noisy = cells.cell("fixed", 0.07, seed=2, **(constants("mlp") | {"poisson": True}))
    assert noisy["spikes"][0] != found["spikes"][0]
    assert len(noisy["spikes"]) == 2


def test_retrained_files_say_what_they_were_trained_at():
    found = amplitude._retrained_files()
    assert len({digest for _, digest in found.values()}) == 5 + len(amplitude.TRAININGS)
    for trained, (path, _) in found.items():
        trained = "0.01" if trained in amplitude.TRAININGS else trained
        name, layers = cells.network_layers(nn.load_weights(path))
        assert name == "cnn"
        for layer in layers[:-1]:
            assert layer.config["activation"]["config"]["amplitude"] == float(trained)
        assert [layer.config["strides"][0] for layer in layers[:-1]] == [1, 2, 2]


def test_errors(tmp_path):
    with pytest.raises(nn.InputError, match="kind: expected one of fixed, .* got 'none'"):
        cells.build(LAYERS["mlp"], kind="none")
    with pytest.raises(nn.InputError, match="amplitude: expected a number, above 0, got 0"):
        cells.build(LAYERS["mlp"], amplitude=0)
    with pytest.raises(nn.InputError, match="decoders: expected one of fixed, solved"):
        cells.channel(0.1, "none", seed=0)
    with pytest.raises(nn.InputError, match="the tutorial's layers, with kernels"):
        cells.network_layers(nn.load_weights(nn.pretrained("cifar_csnn")))
    copy = tmp_path / "copy.h5"
    copy.write_bytes(nn.pretrained("mnist_dense").read_bytes())
    with pytest.raises(nn.InputError, match="was changed while the sweep ran"):
        cells.read_layers(str(copy), "0" * 64)
    with pytest.raises(nn.InputError, match="networks: expected mlp, the network of .*, got cnn"):
        amplitude.STUDY.reproduce(copy, networks=["cnn"])
    with pytest.raises(nn.InputError, match="networks: expected one of mlp, cnn, got 'rnn'"):
        amplitude.STUDY.reproduce(networks=["rnn"])


@pytest.fixture
def small(monkeypatch):
    """Run the command with few amplitudes."""
    few = (0.01, 0.25, 0.5)
    monkeypatch.setitem(amplitude.runs.__kwdefaults__, "amplitudes", few)
    monkeypatch.setattr(amplitude, "CHANNEL_AMPLITUDES", (0.01, 0.5))
    monkeypatch.setattr(amplitude, "N_CHANNEL_SEEDS", 1)
    monkeypatch.setitem(amplitude.runs.__kwdefaults__, "n_loop_seeds", 3)
    monkeypatch.setattr(amplitude, "N_EXPLAINED", 2)
    return ["reproduce", "amplitude", "--images", 20, "--jobs", 1]


def test_command(small, tmp_path):
    few = [*small, "--network", "mlp", "--seeds", 2, "--save", tmp_path / "run.sweep"]
    done = call(*few, "--plot", tmp_path / "figure.png", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["name"], report["n_images"], report["n_steps"]) == ("amplitude", 20, 30)
    assert {cell["kind"] for cell in report["cells"]} == {
        "fixed",
        "compensated",
        "linear",
        "rate",
        "unclipped",
        "synapse",
        "loop",
    }
    assert report["published"] is None  # of the CNN alone
    (same,) = [cell for cell in report["cells"] if cell["kind"] == "loop"]
    assert (same["amplitude"], same["n"]) == (0.1, 3)
    rows = [row for row in report["rows"]["mlp"] if row["kind"] == "compensated"]
    by_seed = {}
    for row in rows:
        by_seed.setdefault(row["seed"], set()).add(row["accuracy"])
    assert len(rows) == 6
    assert all(len(found) == 1 for found in by_seed.values())
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert {path.name for path in tmp_path.glob("*.sweep")} == {
        "run-mlp.sweep",
        "run-loop-mlp.sweep",
        "run-channel.sweep",
    }

    assert "run-mlp.sweep already exists" in call(*few).stderr
    before = (tmp_path / "run-mlp.sweep").read_bytes()
    again = call(*few, "--resume")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "run-mlp.sweep").read_bytes() == before
    for words in ("max_rates means", "intercepts mean", "zig-zag", "a loss of", "channel"):
        assert words in " ".join(again.stdout.split())


@pytest.mark.parametrize("kind, published", [("constant", 0.99), ("process", None)])
def test_the_published_figure_is_of_constant_pixels(small, kind, published, monkeypatch):
    monkeypatch.setattr(cells, "cell", made_up)
    settings = {"n_images": 5, "n_seeds": 2, "amplitudes": [0.01], "n_jobs": 1, "progress": False}
    report = amplitude.STUDY.reproduce(networks=["cnn"], input_kind=kind, **settings)
    assert report.published == published


def test_command_refuses(small, tmp_path):
    assert "--resume: expected --save" in call(*small, "--resume").stderr
    assert "no such file" in call(*small, "--weights", tmp_path / "none.h5").stderr
    done = call(*small, "--network", "mlp", "--save", tmp_path / "none" / "run.sweep")
    assert done.exit_code == 2
    assert "does not exist" in done.stderr


def made_up(kind, amplitude, *, files, n_images, poisson, precision, seed):
    """Stand in for a cell, with an accuracy that shows the arguments."""
    start = {"fixed": 1.0 - amplitude, "retrained": 0.5 + amplitude}.get(kind, 0.9)
    return {"accuracy": start + 0.001 * seed, "ties": len(files), "spikes": [1.0, 2.0, 3.0]}


def test_cnn_and_its_retrained_files_are_one_table(small, monkeypatch):
    monkeypatch.setattr(cells, "cell", made_up)
    report = amplitude.STUDY.reproduce(
        networks=["cnn"], n_images=2, n_seeds=2, n_jobs=1, progress=False
    )
    found = {(cell["kind"], cell["amplitude"]): cell for cell in report.cells}
    assert found["fixed", 0.25]["mean"] == pytest.approx(0.7505)
    assert found["fixed", 0.25]["one_seed"] == 0.75
    assert {amplitude for kind, amplitude in found if kind == "retrained"} == {*cells.RETRAINED}
    assert found["retrained", 0.1]["mean"] == pytest.approx(0.6005)
    ties = {row["kind"]: row["ties"] for row in report.sweeps["cnn"].rows}
    assert (ties["fixed"], ties["retrained"]) == (1, 5 + len(amplitude.TRAININGS))
    for training in amplitude.TRAININGS:
        assert {at for kind, at in found if kind == training} == {*cells.RETRAINED}
    assert found["loop", 0.1]["n"] == 3
    assert set(report.sweeps) == {"cnn", "channel"}
    assert report.published == 0.99
    assert report.ann_accuracy.n_images == 2
    assert "0.25 0.750 0.7505 0.7441 to 0.7569" in " ".join(str(report).split())
    json.dumps(report.to_json())


def failing(kind, amplitude, *, files, n_images, poisson, precision, seed):
    """Stand in for a cell that fails."""
    raise ValueError("no luck")


def test_failed_cells_are_named(small, monkeypatch):
    monkeypatch.setattr(cells, "cell", failing)
    with pytest.raises(nn.InputError, match=r"mlp: \d+ of \d+ cells failed, .* no luck"):
        amplitude.STUDY.reproduce(networks=["mlp"], n_seeds=1, n_jobs=1, progress=False)


def made_up_sweep(accuracy):
    """Return a sweep whose accuracies are a function of kind, amplitude and seed."""
    seeds = {"loop": 50}
    rows = [
        {
            "kind": kind,
            "amplitude": at,
            "seed": seed,
            "accuracy": accuracy(kind, at, seed),
            "error": None,
        }
        for kind in cells.KINDS
        for at in ((0.1,) if kind == "loop" else cells.RETRAINED)
        for seed in range(seeds.get(kind, 4))
    ]
    return cells_of(("kind", "amplitude"), ("accuracy",), rows)


def explained(silent):
    return [
        {"layer": "a", "amplitude": at, "drive": 100 * at, "bias": 0, "silent": silent}
        for at in cells.RETRAINED
    ]


def test_what_is_lost_is_said_as_it_was_measured():
    """The figures contradict the usual ones: rates lose all, a synapse nothing, biases half."""
    left = {"fixed": 0.4, "rate": 0.4, "unclipped": 0.3, "synapse": 0.9, "biases": 0.65}

    def accuracy(kind, at, seed):
        return 0.9 + (left.get(kind, 0.9) - 0.9) * (at - 0.01) / 0.49

    note = amplitude.loss("cnn", made_up_sweep(accuracy), explained(0.5))
    assert "0.900 at 0.01, 0.400 at 0.5: a loss of 50.0 points" in note
    assert "The drive of a grows 50.0 times" in note
    assert "three quarters of it disappear with a synapse of 5 ms. A quarter" in note
    assert note.endswith("disappear with biases that grow as well")
    # blank images: the first layer's neurons, held at their threshold, never spike
    silent = [row | {"drive": 0.0} for row in explained(1.0)]
    note = amplitude.loss("mlp", made_up_sweep(accuracy), silent)
    assert "points. Nothing drives a at 0.01, and the share" in note
    # nothing is lost: no cause
    note = amplitude.loss(
        "cnn", made_up_sweep(lambda kind, at, seed: 0.8 + at / 5), explained(None)
    )
    assert "a loss of -9.8 points" in note
    assert "disappear" not in note
    assert "silent" not in note


def test_zig_zag_is_called_chance_only_where_seeds_average_out():
    jumps = np.random.default_rng(0).normal(0, 0.02, (4, 5))
    shared, of_seeds = (
        made_up_sweep(
            lambda kind, at, seed, each=each: 0.7 + each(cells.RETRAINED.index(at), seed % 4)
        )
        for each in (lambda k, seed: jumps[0, k], lambda k, seed: jumps[seed, k])
    )
    note = amplitude.zigzag("mlp", of_seeds)
    assert "50 seeds have accuracies" in note
    assert "seed 0 rises in" in note
    rows = [row | {"seed": row["seed"] + 7} for row in of_seeds.rows]
    assert "seed 7 rises in" in amplitude.zigzag("mlp", dataclasses.replace(of_seeds, rows=rows))
    assert "not from the amplitudes" in note
    curves = 0.7 + jumps
    typical = np.sqrt(np.mean([cells.roughness(curve) ** 2 for curve in curves]))
    of_mean = cells.roughness(curves.mean(axis=0))
    assert f"an average seed jumps by {100 * typical:.2f}, the mean of 4 seeds by" in note
    assert f"seeds by {100 * of_mean:.2f}: {typical / of_mean:.1f} times less" in note
    note = amplitude.zigzag("mlp", shared)
    assert "1.0 times less" in note
    assert note.endswith("the same for all seeds")
    flat = amplitude.zigzag("mlp", made_up_sweep(lambda kind, at, seed: 0.7))
    assert flat.endswith("no zig-zag")


def test_retrained_and_other_trainings_are_said_as_measured():
    run = made_up_sweep(lambda kind, at, seed: {"retrained": 0.6 + at}.get(kind, 0.5 + at / 2))
    note = amplitude.retraining(run, {at: {"rate": 0.9, "drive": 3.0} for at in cells.RETRAINED})
    assert note.endswith("they are better than the weights trained at 0.01")
    note = amplitude.trainings(run)
    assert "0.505/0.505/0.505 at 0.01 (standard deviation 0.0 points" in note
    assert note.endswith("0 of 3 lose accuracy from 0.01 to 0.5")
    for slope, falling in ((0, 0), (-0.1, 3)):
        run = made_up_sweep(lambda kind, at, seed, slope=slope: 0.7 + slope * at)
        assert f"{falling} of 3 lose" in amplitude.trainings(run)


def test_channel_answer_follows_the_slope():
    def channel(slope):
        rows = [
            {"decoders": d, "amplitude": a, "seed": 0, "output": slope * 50 * a, "decoder": 1.0}
            for d in ("fixed", "solved")
            for a in (0.01, 0.5)
        ]
        return cells_of(("decoders", "amplitude"), ("output", "decoder"), rows)

    def answer(run):
        return next(amplitude.on_channel(types.SimpleNamespace(sweeps={"channel": run})))

    assert "output: yes." in answer(channel(1.0))
    assert "output: not in proportion." in answer(channel(0.4))


def test_figure():
    def row(kind, at, one, mean, margin):
        figures = {"one_seed": one, "mean": mean, "low": mean - margin, "high": mean + margin}
        return {"network": "mlp", "kind": kind, "amplitude": at, "n": 3, **figures}

    table = [
        row("fixed", 0.5, 0.4, 0.5, 0.1),
        row("fixed", 0.01, 0.9, 0.95, 0.02),
        row("linear", 0.01, 0.9, 0.97, 0.0),
    ]
    figure = plot_amplitude([*table, {**table[1], "network": "cnn"}])
    first, second = figure.axes
    assert (first.get_title(), second.get_title()) == ("MLP", "CNN")
    lines = {line.get_label(): line.get_xydata().tolist() for line in first.get_lines()}
    assert lines["one seed"] == [[0.01, 90.0], [0.5, 40.0]]
    assert lines["mean of 3 seeds, 95 % interval"] == [[0.01, 95.0], [0.5, 50.0]]
    assert lines["no neurons in the last layer"] == [[0.01, 97.0]]
    band = first.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(97)
    assert len(second.get_lines()) == 2
    plt.close(figure)


def test_a_sweep_takes_either_network_and_a_file_of_ones_own():
    run = {"n_images": 20, "amplitude": 0.05, "seed": 3}
    cnn = amplitude.STUDY.measure(network="cnn", **run)
    assert cnn == amplitude.STUDY.measure(weights=nn.pretrained("amplitude_cnn"), **run)
    assert cnn["spikes"] > amplitude.STUDY.measure(**run)["spikes"] > 0
    with pytest.raises(nn.InputError, match="network: expected mlp with your own weights"):
        amplitude.STUDY.measure(network="cnn", weights=nn.pretrained("amplitude_cnn"))


def test_all_runs_take_the_callers_data(small, tmp_path, monkeypatch):
    """The data repeat one digit, so every network without noise has one answer."""
    file = tmp_path / "again.npz"
    np.savez(file, x_test=np.repeat(DIGITS[:1], 6, axis=0), y_test=np.repeat(LABELS[:1], 6))
    arguments = ["--network", "mlp", "--seeds", 1, "--amplitude", 0.01, "--images", 6]
    done = call("reproduce", "amplitude", *arguments, "--data", file, "--jobs", 1, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    cells = [cell for cell in report["cells"] if cell["kind"] in ("fixed", "rate")]
    assert {cell["one_seed"] for cell in cells} <= {0.0, 1.0}
    assert report["n_images"] == 6
    done = call("reproduce", "amplitude", *arguments, "--simulator", "reference")
    assert "--simulator: expected minibatch for sweeps, got 'reference'" in done.stderr
