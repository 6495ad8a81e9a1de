"""KerasSpiking's "Classifying Fashion MNIST with spiking activations", in plain Nengo.

The tutorial trains an MLP 784-128(relu)-10, replaces the relu by neurons that spike at a rate,
shows each image for 10 steps, and averages the output over time. Longer steps make better answers
with more spikes; training with spikes does without them. Its figures are the accuracy, and the
least, the mean and the largest spike rate, of seven such networks. Three things that it mentions
are not here: its Alpha layer (a filter of second order), percentiles in the regulariser of the
rates, and a dt that changes during training.

Nengo's ``SpikingRectifiedLinear`` is the same neuron but for its first voltage: see
`INITIAL_VOLTAGES`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, NamedTuple

import nengo
import numpy as np
from scipy import stats

from nengonet import datasets
from nengonet.checks import check_among
from nengonet.exceptions import InputError
from nengonet.layers.filters import lowpass
from nengonet.layers.initial import InitialStates
from nengonet.layers.inputs import constant_input
from nengonet.layers.record import Layer
from nengonet.layers.weighted import dense
from nengonet.results.readout import Accuracy, accuracy
from nengonet.results.result import Result
from nengonet.run.presentation import present
from nengonet.studies.forum_mnist import mlp_layers
from nengonet.studies.old_report import Reproduction
from nengonet.studies.shared import INITIAL_VOLTAGES, logits_of, measured, tuning_of
from nengonet.sweeps.result import Sweep
from nengonet.sweeps.sweep import sweep
from nengonet.tables import aligned
from nengonet.weights import LayerWeights, Weights, load_weights, pretrained

NAME = "fashion-mnist"
SOURCE = "KerasSpiking 0.3.0, Fashion MNIST tutorial"
SHAPE = (28, 28)
N_STEPS = 10
DTS = (0.001, 0.01, 0.1, 1.0)

# The bundled files, by the name of the network.
FILES = {
    "plain": "fashion_dense",
    "spiking-aware": "fashion_spiking_aware",
    "regularised": "fashion_regularised",
    "low-pass": "fashion_lowpass",
}
# Beside each: the same with the tutorial's constant learning rate.
CONSTANT_RATE = "_constant"
# The step, in seconds, for which the others were trained.
TRAINED_DT = 0.01
CELLS = (
    *(("plain", dt) for dt in DTS),
    *((network, TRAINED_DT) for network in FILES if network != "plain"),
)


class Published(NamedTuple):
    """A figure of the tutorial: accuracy in [0, 1], and rates of the hidden neurons in Hz."""

    accuracy: float
    min_rate: float
    mean_rate: float
    max_rate: float


# As printed in the documentation of KerasSpiking 0.3.0.
PUBLISHED_ANN = 0.8832
PUBLISHED = {
    ("plain", 0.001): Published(0.1955, 0.00, 0.52, 100.00),
    ("plain", 0.01): Published(0.6443, 0.00, 0.53, 20.00),
    ("plain", 0.1): Published(0.8814, 0.00, 0.53, 15.00),
    ("plain", 1.0): Published(0.8837, 0.00, 0.53, 14.40),
    ("spiking-aware", 0.01): Published(0.8427, 0.00, 2.74, 50.00),
    ("regularised", 0.01): Published(0.7519, 0.00, 9.91, 30.00),
    ("low-pass", 0.01): Published(0.8434, 0.00, 5.37, 70.00),
}

N_SEEDS = 5
_UNIFORM = nengo.dists.Uniform(0, 1)


def network_layers(weights: Weights) -> tuple[list[LayerWeights], np.ndarray | None]:
    """Return the layers of an MLP 784-…-10, and the time constants of its filters, if any."""
    filters = [layer for layer in weights.values() if "tau" in layer.others]
    others = [layer for layer in weights.values() if "tau" not in layer.others]
    layers = mlp_layers(Weights(others, weights.path, weights.dialect))
    if len(layers) < 2:
        raise InputError(f"{weights.path}: expected at least one hidden layer, found none")
    if not filters:
        return layers, None
    tau, n_hidden = filters[0].others["tau"], layers[-1].kernel.shape[0]
    if len(filters) > 1 or tau.size != n_hidden:
        shapes = ", ".join(str(each.others["tau"].shape) for each in filters)
        raise InputError(
            f"{weights.path}: expected one layer of filters with {n_hidden} values tau, got tau "
            f"of the shapes {shapes}"
        )
    # A time constant below 0 is a filter of no time in KerasSpiking, too.
    return layers, np.maximum(tau.ravel(), 0.0)


class Built(NamedTuple):
    """A network, and how `nengonet.present` is to show it."""

    network: nengo.Network
    output: Layer
    readout: str
    initial_states: InitialStates

    @property
    def hidden(self) -> list[str]:
        """Labels of the layers that spike."""
        return [layer.label for layer in self.output.chain() if layer.spiking]


def build(
    layers: Sequence[LayerWeights],
    tau: np.ndarray | None = None,
    *,
    initial_voltage: str = "image",
    seed: int = 0,
) -> Built:
    """Build the tutorial's network: an activation of 1 fires at 1 Hz."""
    check_among("initial_voltage", initial_voltage, INITIAL_VOLTAGES)
    voltage = nengo.dists.Choice([0.0]) if initial_voltage == "zero" else _UNIFORM
    neuron_type = nengo.SpikingRectifiedLinear(initial_state={"voltage": voltage})
    *hidden, last = layers
    states = {}
    with nengo.Network(seed=seed) as network:
        layer = constant_input(SHAPE)
        for weights in hidden:
            layer = dense(layer, weights, neuron_type, gain=1.0)
            if initial_voltage == "image":
                states[layer.label] = {"voltage": _UNIFORM}
        if tau is not None:
            layer = lowpass(layer, tau)
        output = dense(layer, last, None)
    return Built(network, output, "mean" if tau is None else "last_step", states)


def run(
    built: Built, images: np.ndarray, dt: float, *, n_steps: int = N_STEPS, **running: object
) -> Result:
    """Show images for some steps each."""
    return present(
        built.network,
        built.output,
        images,
        presentation_time=n_steps * dt,
        dt=dt,
        readout=built.readout,
        initial_states=built.initial_states,
        **running,
    )


def rates_of(result: Result) -> dict[str, float]:
    """Return the least, the mean and the largest rate of a neuron for an image, in Hz."""
    rates = np.concatenate(
        [result.rates(info.label) for info in result.layers if info.amplitude is not None], axis=1
    )
    return {"min": float(rates.min()), "mean": float(rates.mean()), "max": float(rates.max())}


def sweep_cell(
    *,
    network: Literal["plain", "spiking-aware", "regularised", "low-pass"] = "plain",
    dt: float = 1.0,
    n_steps: int = N_STEPS,
    initial_voltage: Literal["image", "network", "zero"] = "image",
    n_images: int | str = 1000,
    weights: str | os.PathLike | None = None,
    data: str | os.PathLike | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Run one network, for a sweep."""
    if weights is not None and network != "plain":
        raise InputError(f"network: expected plain beside a weights file, got {network!r}")
    images, labels = _load(n_images, data, progress=False)
    layers = network_layers(
        load_weights(pretrained(FILES[network]) if weights is None else weights)
    )
    built = build(*layers, initial_voltage=initial_voltage, seed=seed)
    result = run(built, images, dt, n_steps=n_steps, seed=seed, progress=False)
    return measured(result, result.accuracy(labels)) | {"mean_rate": rates_of(result)["mean"]}


def reproduce(
    weights: str | os.PathLike | None = None,
    *,
    initial_voltage: str = "image",
    n_images: int | str | None = None,
    data_dir: str | os.PathLike | None = None,
    seed: int = 0,
    n_seeds: int = N_SEEDS,
    n_jobs: int = 1,
    progress: bool = True,
) -> Reproduction:
    """Run the tutorial's networks, and the plain one with each kind of initial voltage."""
    images, labels = _load(n_images, data_dir, progress=progress)
    files, constant = {"plain": weights}, {}
    if weights is None:
        files = {name: pretrained(file) for name, file in FILES.items()}
        constant = {
            name: network_layers(load_weights(pretrained(file + CONSTANT_RATE)))
            for name, file in FILES.items()
        }
    loaded = {name: network_layers(load_weights(path)) for name, path in files.items()}
    anns = [
        accuracy(logits_of(each["plain"][0], images).argmax(axis=1), labels)
        for each in (loaded, constant)
        if each
    ]
    # The tutorial's figures are of its own networks, and so of its first voltages.
    published = PUBLISHED if weights is None and initial_voltage == "image" else {}

    running = {"seed": seed, "n_jobs": n_jobs, "progress": progress}
    cells = []
    for network, dt in CELLS:
        if network in loaded:
            built = build(*loaded[network], initial_voltage=initial_voltage, seed=seed)
            result = run(built, images, dt, rasters=built.hidden, **running)
            figure = published.get((network, dt))
            cells.append(_cell(result, labels, network, initial_voltage, figure))
        if network in constant:
            built = build(*constant[network], initial_voltage=initial_voltage, seed=seed)
            cells[-1]["constant_rate_accuracy"] = (
                run(built, images, dt, **running).accuracy(labels).value
            )
    compared = []
    if n_seeds:
        compared = _compared(
            {
                "weights": str(files["plain"]),
                "n_images": len(images),
                "data": None if data_dir is None else os.fspath(data_dir),
            },
            seeds=range(seed, seed + n_seeds),
            n_jobs=n_jobs,
            progress=progress,
        )
    built = build(*loaded["plain"], initial_voltage=initial_voltage, seed=seed)
    result = run(built, images, DTS[-1], **running)
    in_32_bits = run(built, images, DTS[-1], precision=32, **running)
    return Reproduction(
        name=NAME,
        source=SOURCE,
        all_published={_named(*cell): figure.accuracy for cell, figure in published.items()},
        accuracy=result.accuracy(labels),
        ann_accuracy=anns[0],
        result=result,
        settings={
            "network": _named("plain", DTS[-1]),
            "readout": built.readout,
            "initial_voltage": f"{initial_voltage}: {INITIAL_VOLTAGES[initial_voltage]}",
            "seed": seed,
            "weights": ", ".join(FILES.values()) if weights is None else str(weights),
            "tuning": tuning_of(built.output),
        },
        notes=_notes(cells, compared, result, in_32_bits, labels, loaded.get("low-pass")),
        cells=cells + compared,
        tables=(_table(cells, anns, published), *([_seed_table(compared)] if compared else [])),
        network=built.network,
        output=built.output,
        images=images,
        labels=labels,
        initial_states=built.initial_states,
    )


def _named(network: str, dt: float) -> str:
    return f"{network}, dt {dt:g} s"


def _load(
    n_images: int | str | None, data_dir: str | os.PathLike | None, *, progress: bool
) -> tuple[np.ndarray, np.ndarray]:
    if n_images is None and (data_dir is not None or os.environ.get("NENGONET_DATA")):
        n_images = "all"
    return datasets.load(
        "fashion_mnist", split="test", n_images=n_images, data_dir=data_dir, progress=progress
    )


def _cell(
    result: Result,
    labels: np.ndarray,
    network: str,
    initial_voltage: str,
    published: Published | None,
) -> dict:
    """Return a run's row of the report."""
    found = result.accuracy(labels)
    return {
        "network": network,
        "dt": result.dt,
        "readout": result.settings["readout"],
        "initial_voltage": initial_voltage,
        "accuracy": found.value,
        "interval": list(found.interval),
        "n_images": found.n_images,
        "rates": rates_of(result),
        "most_spikes_a_step": max(int(each.max()) for each in result.rasters.values()),
        "published_accuracy": None if published is None else published.accuracy,
        "published_rates": None
        if published is None
        else {
            "min": published.min_rate,
            "mean": published.mean_rate,
            "max": published.max_rate,
        },
    }


def _compared(constants: dict, *, seeds: Sequence[int], n_jobs: int, progress: bool) -> list[dict]:
    """Run the plain network with each kind of initial voltage, over seeds."""
    options = {"constants": constants, "n_jobs": n_jobs, "progress": progress}
    drawn = sweep(
        sweep_cell, {"initial_voltage": ["image", "network"], "dt": DTS}, seeds=seeds, **options
    )
    # Nothing is drawn, so one seed says it all.
    zero = sweep(sweep_cell, {"initial_voltage": ["zero"], "dt": DTS}, seeds=seeds[:1], **options)
    return _over_seeds(drawn, constants["n_images"]) + _over_seeds(zero, constants["n_images"])


def _over_seeds(found: Sweep, n_images: int) -> list[dict]:
    for row in found.failed:
        raise InputError(f"dt {row['dt']}, seed {row['seed']}: {row['error']}")
    rows: dict[tuple[str, float], dict] = {}
    for each in found.summary():
        row = rows.setdefault((each["initial_voltage"], each["dt"]), {})
        row |= {
            "network": "plain",
            "dt": each["dt"],
            "initial_voltage": each["initial_voltage"],
            "n_seeds": each["n"],
            "n_images": n_images,
            f"{each['value']}_mean": each["mean"],
            # Of one seed there is no spread, and JSON has no NaN.
            f"{each['value']}_std": each["std"] if each["n"] > 1 else None,
        }
    return list(rows.values())


def _table(cells: list[dict], anns: Sequence[Accuracy], published: dict) -> str:
    """Write the tutorial's figures beside ours, and ours of a constant learning rate."""
    rows = [
        [
            "network",
            "dt (s)",
            "published",
            f"measured, {anns[0].n_images} images",
            "constant rate",
            "readout",
            "rates published (Hz)",
            "measured, min/mean/max",
        ],
        [
            "ANN",
            "-",
            f"{PUBLISHED_ANN:.4f}" if published else "-",
            _with_interval(anns[0].value, anns[0].interval),
            f"{anns[1].value:.4f}" if len(anns) > 1 else "-",
            *"---",
        ],
    ]
    for cell in cells:
        figure, rates = cell["published_accuracy"], cell["published_rates"]
        constant = cell.get("constant_rate_accuracy")
        rows.append(
            [
                cell["network"],
                f"{cell['dt']:g}",
                "-" if figure is None else f"{figure:.4f}",
                _with_interval(cell["accuracy"], cell["interval"]),
                "-" if constant is None else f"{constant:.4f}",
                cell["readout"].replace("_", " "),
                "-" if rates is None else _rates(rates),
                _rates(cell["rates"]),
            ]
        )
    lines = aligned(rows, left=(0, 2, 3, 4, 5, 6, 7))
    if len(anns) > 1:
        lines.append(
            "constant rate: the same, of weights trained as in the tutorial, whose learning rate "
            "does not go down"
        )
    return "\n".join(line.rstrip() for line in lines)


def _with_interval(value: float, interval: Sequence[float]) -> str:
    return f"{value:.4f} ({interval[0]:.4f} to {interval[1]:.4f})"


def _rates(rates: dict[str, float]) -> str:
    return f"{rates['min']:.2f}/{rates['mean']:.2f}/{rates['max']:.2f}"


def _seed_table(compared: list[dict]) -> str:
    """Write the means over seeds, a row for each dt and a column for each kind of voltage."""
    found = {(row["initial_voltage"], row["dt"]): row for row in compared}
    n_seeds = max(row["n_seeds"] for row in compared)
    lines = [
        f"plain network, initial voltages: accuracy, mean of {n_seeds} seeds +- standard deviation "
        "(mean rate in Hz)",
        f"{'dt (s)':>6}" + "".join(f"{name:>27}" for name in INITIAL_VOLTAGES),
    ]
    for dt in DTS:
        texts = []
        for name in INITIAL_VOLTAGES:
            row = found[name, dt]
            spread = "" if row["accuracy_std"] is None else f" +- {row['accuracy_std']:.4f}"
            texts.append(f"{row['accuracy_mean']:.4f}{spread} ({row['mean_rate_mean']:.2f})")
        lines.append(f"{dt:>6g}" + "".join(f"{text:>27}" for text in texts))
    return "\n".join(lines)


def _notes(
    cells: list[dict],
    compared: list[dict],
    result: Result,
    in_32_bits: Result,
    labels: np.ndarray,
    low_pass: tuple | None,
) -> tuple[str, ...]:
    plain = {cell["dt"]: cell for cell in cells if cell["network"] == "plain"}
    first, last = plain[DTS[0]], plain[DTS[-1]]
    notes = [
        f"an activation of 1 fires at 1 Hz: {N_STEPS} steps of {DTS[0]:g} s are "
        f"{1000 * N_STEPS * DTS[0]:g} ms, in which a neuron of {first['rates']['mean']:.2f} Hz "
        f"spikes {first['rates']['mean'] * N_STEPS * DTS[0]:.4f} times; in steps of {DTS[-1]:g} s "
        f"it spikes {last['rates']['mean'] * DTS[-1]:.2f} times a step, and the busiest "
        f"{last['most_spikes_a_step']} times",
        "KerasSpiking's and Nengo's neuron add max(J, 0) * dt to a voltage and emit its whole part "
        "as spikes of height 1/dt; they differ in the first voltage, which KerasSpiking draws "
        "anew for each neuron and image, and Nengo once for each neuron, when the network is "
        "built: choose with --initial-voltage",
        *(_notes_on_voltages(compared) if compared else ()),
    ]
    differing = sum(
        int((result.counts[label] != counts).sum()) for label, counts in in_32_bits.counts.items()
    )
    total = sum(counts.size for counts in in_32_bits.counts.values())
    change = in_32_bits.accuracy(labels).value - result.accuracy(labels).value
    notes.append(
        "rounding: KerasSpiking computes in 32 bits, Nengo in 64; with Nengo in 32 bits "
        f"{differing:,} of {total:,} spike counts differ at dt {DTS[-1]:g} s, and the accuracy by "
        f"{100 * change:+.2f} points"
    )
    if low_pass is not None:
        notes.append(
            f"low-pass: the hidden neurons' {low_pass[1].size} learned time constants are filters "
            "in a Node of their own (nengonet.lowpass), since a Nengo synapse has one time "
            "constant and works on the weighted sums; the Node passes a spike on in its own step, "
            "as KerasSpiking does, a Nengo synapse in the next"
        )
    apart = [
        f"{_named(cell['network'], cell['dt'])}: "
        f"{100 * (cell['accuracy'] - cell['published_accuracy']):+.1f}"
        + (
            f" ({100 * (cell['constant_rate_accuracy'] - cell['published_accuracy']):+.1f})"
            if "constant_rate_accuracy" in cell
            else ""
        )
        for cell in cells
        if cell["published_accuracy"] is not None
    ]
    if apart:
        notes.append(
            "measured less published, in percentage points (with the constant learning rate): "
            f"{'; '.join(apart)}. The weights are not the tutorial's. Their learning rate goes "
            "down in the last two epochs: a schedule that was chosen on training images, but after "
            "test figures of the constant rate had been seen"
        )
    return tuple(notes)


def _notes_on_voltages(compared: list[dict]) -> list[str]:
    """Compare the kinds of first voltage, over seeds."""
    found = {(row["initial_voltage"], row["dt"]): row for row in compared}
    drawn, fixed, zero = ([found[name, dt] for dt in DTS] for name in ("image", "network", "zero"))
    notes, n_seeds = [], drawn[0]["n_seeds"]
    if n_seeds > 1:
        spreads = [
            (100 * each["accuracy_std"], 100 * other["accuracy_std"])
            for each, other in zip(drawn, fixed, strict=True)
        ]
        written = ", ".join(
            f"{one:.2f} against {other:.2f} at dt {dt:g} s"
            for dt, (one, other) in zip(DTS, spreads, strict=True)
        )
        wider = [
            f"{dt:g}" for dt, pair in zip(DTS, spreads, strict=True) if _is_wider(*pair, n_seeds)
        ]
        notes.append(
            f"standard deviation of the accuracy over {n_seeds} seeds, in percentage points, drawn "
            f"for each image against once for all: {written}. "
            + (
                f"Drawn once, it is larger at dt {' and '.join(wider)} s beyond chance (F-test, "
                "5 %): a neuron whose voltage starts near the threshold spikes early in every "
                "image, and every seed is another network"
                if wider
                else "With these seeds and images, neither is larger beyond chance (F-test, 5 %)"
            )
        )
    notes.append(
        "from voltage 0 a count is rounded down, not up or down with the right chance: at dt "
        f"{DTS[0]:g} and {DTS[1]:g} s the mean rate is {zero[0]['mean_rate_mean']:.2f} and "
        f"{zero[1]['mean_rate_mean']:.2f} Hz, and drawn for each image "
        f"{drawn[0]['mean_rate_mean']:.2f} and {drawn[1]['mean_rate_mean']:.2f} Hz; the accuracy "
        f"is {zero[0]['accuracy_mean']:.4f} and {zero[1]['accuracy_mean']:.4f}"
    )
    return notes


def _is_wider(one: float, other: float, n_seeds: int) -> bool:
    """Whether the other standard deviation is larger than chance makes it."""
    if not one:
        return other > 0
    return bool(stats.f.sf((other / one) ** 2, n_seeds - 1, n_seeds - 1) < 0.05)


class ExampleRuns(NamedTuple):
    """Some images in every network, as `plot_spikes_and_probabilities` takes them."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    cells: dict[str, tuple[float, np.ndarray, np.ndarray, np.ndarray]]


def example_runs(
    weights: str | os.PathLike | None = None,
    n_images: int = 4,
    *,
    initial_voltage: str = "image",
    data_dir: str | os.PathLike | None = None,
    seed: int = 0,
) -> ExampleRuns:
    """Show the first test images to every network: what the tutorial draws, with four."""
    images, labels = _load(n_images, data_dir, progress=False)
    cells = {}
    for network, dt in CELLS if weights is None else CELLS[: len(DTS)]:
        path = pretrained(FILES[network]) if weights is None else weights
        built = build(
            *network_layers(load_weights(path)), initial_voltage=initial_voltage, seed=seed
        )
        result = run(built, images, dt, seed=seed, rasters=built.hidden, progress=False)
        spikes = np.concatenate([result.rasters[label] for label in built.hidden], axis=2)
        cells[_named(network, dt)] = (dt, spikes, result.outputs, result.predictions())
    return ExampleRuns(images, labels, datasets.class_names("fashion_mnist"), cells)
