"""KerasSpiking's "Classifying Fashion MNIST with spiking activations", in plain Nengo.

The tutorial trains an MLP 784-128(relu)-10, replaces the relu by neurons that spike at a rate,
shows each image for 10 steps, and averages the output over time. Longer steps give better answers
but cost more spikes; training with spikes avoids that cost. The tutorial reports seven such
networks: the accuracy, and the least, the mean and the largest spike rate of each. Three things
that it mentions are not included here: its Alpha layer (a filter of second order), percentiles in
the regulariser of the rates, and a dt that changes during training.

Nengo's ``SpikingRectifiedLinear`` is the same neuron except for its initial voltage; see
`INITIAL_VOLTAGES`.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

import nengo
import numpy as np
from scipy.special import fdtrc

import nengonet as nn
from nengonet import tables
from nengonet.checks import positive_integer
from nengonet.studies import shared
from nengonet.studies.engine import Case, Data, Given, Run, Study, Sweeping
from nengonet.studies.forum_mnist import mlp_layers
from nengonet.studies.options import Option
from nengonet.studies.report import Reproduction

DATA = Data("fashion_mnist")
N_STEPS = 10
DTS = (0.001, 0.01, 0.1, 1.0)
INITIAL_VOLTAGES = {
    "image": "drawn from [0, 1) for each neuron and image, as KerasSpiking does",
    "network": "drawn from [0, 1) for each neuron, once for all images, as Nengo does",
    "zero": "0 for every neuron",
}

# The bundled files, by the name of the network.
FILES = {
    "plain": "fashion_dense",
    "spiking-aware": "fashion_spiking_aware",
    "regularised": "fashion_regularised",
    "low-pass": "fashion_lowpass",
}
# The same networks, trained with the tutorial's constant learning rate.
CONSTANT_RATE = "_constant"
# The step, in seconds, for which the other networks were trained.
TRAINED_DT = 0.01


class Published(NamedTuple):
    """Figures of the tutorial: accuracy in [0, 1], and rates of the hidden neurons in Hz."""

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
    ("spiking-aware", TRAINED_DT): Published(0.8427, 0.00, 2.74, 50.00),
    ("regularised", TRAINED_DT): Published(0.7519, 0.00, 9.91, 30.00),
    ("low-pass", TRAINED_DT): Published(0.8434, 0.00, 5.37, 70.00),
}


def network_layers(weights: nn.Weights) -> tuple[list[nn.LayerWeights], np.ndarray | None]:
    """Return the layers of an MLP 784-…-10, and the time constants of its filters, if any."""
    filters = [layer for layer in weights.values() if "tau" in layer.others]
    others = [layer for layer in weights.values() if "tau" not in layer.others]
    layers = mlp_layers(nn.Weights(others, weights.path, weights.dialect))
    if len(layers) < 2:
        raise nn.InputError(f"{weights.path}: expected at least one hidden layer, got none")
    if not filters:
        return layers, None
    tau, n_hidden = filters[0].others["tau"], layers[-1].kernel.shape[0]
    if len(filters) > 1 or tau.size != n_hidden:
        shapes = ", ".join(str(each.others["tau"].shape) for each in filters)
        raise nn.InputError(
            f"{weights.path}: expected one layer of filters with {n_hidden} values tau, got tau "
            f"of the shapes {shapes}"
        )
    # KerasSpiking, too, treats a time constant below 0 as 0.
    return layers, np.maximum(tau.ravel(), 0.0)


_Voltage = Annotated[
    Literal["image", "network", "zero"],
    "Initial voltages: one for each neuron and image, as in KerasSpiking; one for each neuron, as "
    "in Nengo; or 0.",
]


def network(
    given: Given,
    *,
    network: Annotated[
        Literal["plain", "spiking-aware", "regularised", "low-pass"],
        "How the network was trained.",
    ] = "plain",
    dt: Annotated[float, "Length of a step, in seconds."] = 1.0,
    n_steps: Annotated[int, "Steps for each image."] = N_STEPS,
    initial_voltage: _Voltage = "image",
) -> Case:
    """Build one of the tutorial's networks, where an activation of 1 fires at 1 Hz."""
    if given.weights is not None and network != "plain":
        raise nn.InputError(f"network: expected plain with your own weights, got {network!r}")
    weights = given.load_weights(FILES[network])
    layers, tau = network_layers(weights)
    voltage = shared.ZERO_STATE if initial_voltage == "zero" else shared.INITIAL_STATE
    neuron_type = nengo.SpikingRectifiedLinear(initial_state=voltage)
    *hidden, last = layers
    with nengo.Network(seed=given.seed):
        layer = nn.constant_input(DATA.shape)
        for each in hidden:
            layer = nn.dense(layer, each, neuron_type, gain=1.0)
        if tau is not None:
            layer = nn.lowpass(layer, tau)
        output = nn.dense(layer, last, None)
    # The tutorial's figures apply to its own networks only, and so to its initial voltages.
    as_published = given.weights is None and initial_voltage == "image" and n_steps == N_STEPS
    figure = PUBLISHED.get((network, dt)) if as_published else None
    return Case(
        f"{network}, dt {dt:g} s",
        output,
        layers,
        weights.path,
        positive_integer("n_steps", n_steps) * dt,
        dt,
        "mean" if tau is None else "last_step",
        settings={"initial_voltage": f"{initial_voltage}: {INITIAL_VOLTAGES[initial_voltage]}"},
        initial_states={each.name: voltage for each in hidden if initial_voltage == "image"},
        published=None if figure is None else figure.accuracy,
        values=lambda result, labels: {"mean_rate": rates_of(result)["mean"]},
    )


def rates_of(result: nn.Result) -> dict[str, float]:
    """Return the least, the mean and the largest rate of any neuron for any image, in Hz."""
    labels = [info.label for info in result.layers if info.amplitude is not None]
    rates = np.concatenate([result.rates(label) for label in labels], axis=1)
    return {"min": float(rates.min()), "mean": float(rates.mean()), "max": float(rates.max())}


def runs(
    given: Given,
    *,
    initial_voltage: _Voltage = "image",
    n_seeds: Annotated[
        int,
        Option("Seeds for the comparison of initial voltages; 0 skips it.", flag="--seeds"),
    ] = 5,
) -> dict[str, Run | Sweeping]:
    """Return the tutorial's networks, and the plain one with each kind of initial voltage."""
    plan = {}
    for network, dt in PUBLISHED:
        options = {"dt": dt, "initial_voltage": initial_voltage}
        if given.weights is None or network == "plain":
            plan[_run(network, dt)] = Run({"network": network} | options, rasters=True)
        if given.weights is None:
            constant = {"weights": nn.pretrained(FILES[network] + CONSTANT_RATE)}
            plan[_run(network, dt) + CONSTANT_RATE] = Run(options, given=constant)
    plan["in-32-bits"] = Run(plan[_run("plain", DTS[-1])].options, running={"precision": 32})
    if positive_integer("n_seeds", n_seeds, 0):
        constants = {
            "weights": pathlib.Path(given.weights or nn.pretrained(FILES["plain"])),
            "n_images": given.n_images or DATA.wanted(given.data),
            "data": given.data and pathlib.Path(given.data),
        }
        seeds = range(given.seed, given.seed + n_seeds)
        grid = {"initial_voltage": ["image", "network"], "dt": DTS}
        plan["voltages"] = Sweeping(grid, seeds, constants)
        # Nothing is drawn at random, so one seed is enough.
        zero = grid | {"initial_voltage": ["zero"]}
        plan["voltages-zero"] = Sweeping(zero, seeds[:1], constants, joins="voltages")
    return plan


def _run(network: str, dt: float) -> str:
    return f"{network}-dt-{dt:g}"


# The parts of the report.


def cells(report: Reproduction) -> list[dict]:
    """Return a row for each network and dt, and the rows that compare initial voltages."""
    rows = [_cell(report, *cell) for cell in PUBLISHED if _run(*cell) in report.cases]
    return rows + (_over_seeds(report) if report.sweeps else [])


def _cell(report: Reproduction, network: str, dt: float) -> dict:
    name = _run(network, dt)
    result, known = report.results[name], report.cases[name].published is not None
    published, *rates = PUBLISHED[network, dt] if known else (None,)
    row = {"network": network, "dt": dt, "readout": result.settings["readout"]}
    row["initial_voltage"] = report.options.get("initial_voltage", "image")
    row |= shared.fields(result.accuracy(report.labels)) | {"rates": rates_of(result)}
    row["most_spikes_a_step"] = max(int(each.max()) for each in result.rasters.values())
    row["published_accuracy"] = published
    row["published_rates"] = dict(zip(row["rates"], rates, strict=True)) if known else None
    if constant := report.results.get(name + CONSTANT_RATE):
        row["constant_rate_accuracy"] = constant.accuracy(report.labels).value
    return row


def _over_seeds(report: Reproduction) -> list[dict]:
    rows: dict[tuple[str, float], dict] = {}
    for each in report.sweeps["voltages"].summary():
        cell, value = (each["initial_voltage"], each["dt"]), each["value"]
        row = rows.setdefault(cell, {"network": "plain", "dt": cell[1], "initial_voltage": cell[0]})
        row |= {"n_seeds": each["n"], "n_images": len(report.images)}
        # One seed has no spread, and JSON has no NaN.
        spread = each["std"] if each["n"] > 1 else None
        row |= {f"{value}_mean": each["mean"], f"{value}_std": spread}
    return list(rows.values())


def table(report: Reproduction) -> Iterator[str]:
    """Write the tutorial's figures beside ours, also for a constant learning rate."""
    ann, constant = report.ann_accuracy, report.cases.get(f"{report.headline}{CONSTANT_RATE}")
    first = {"network": "ANN", "accuracy": ann.value, "interval": ann.interval}
    if report.published is not None:
        first["published_accuracy"] = PUBLISHED_ANN
    if constant is not None:
        found = shared.ann_accuracy(constant.layers, report.images, report.labels)
        first["constant_rate_accuracy"] = found.value
    rows = [
        row
        | {
            "measured": "{accuracy:.4f} ({interval[0]:.4f} to {interval[1]:.4f})".format(**row),
            "readout": row["readout"].replace("_", " ") if "readout" in row else None,
            "published_rates": _rates(row.get("published_rates")),
            "rates": _rates(row.get("rates")),
        }
        for row in (first, *_main(report))
    ]
    columns = {"network": ("network", ""), "dt": ("dt (s)", "g")}
    columns |= {"published_accuracy": ("published", ".4f")}
    columns |= {"measured": (f"measured, {len(report.images)} images", "")}
    columns |= {"constant_rate_accuracy": ("constant rate", ".4f"), "readout": ("readout", "")}
    columns |= {"published_rates": ("rates published (Hz)", "")}
    columns |= {"rates": ("measured, min/mean/max", "")}
    lines = tables.table(rows, columns, left=(0, 2, 3, 4, 5, 6, 7))
    if constant is not None:
        lines.append(
            "constant rate: the same, of weights trained as in the tutorial, whose learning rate "
            "does not go down"
        )
    yield "\n".join(lines)


def _main(report: Reproduction) -> list[dict]:
    return [cell for cell in report.cells if "n_seeds" not in cell]


def _compared(report: Reproduction) -> dict[tuple[str, float], dict]:
    compared = [cell for cell in report.cells if "n_seeds" in cell]
    return {(cell["initial_voltage"], cell["dt"]): cell for cell in compared}


def _rates(rates: dict[str, float] | None) -> str | None:
    return rates and "{min:.2f}/{mean:.2f}/{max:.2f}".format(**rates)


def seed_table(report: Reproduction) -> Iterator[str]:
    """Write the means over seeds, with a row for each dt and a column for each voltage."""
    found, texts = _compared(report), {}
    for (name, dt), row in found.items():
        spread = "" if row["accuracy_std"] is None else f" +- {row['accuracy_std']:.4f}"
        text = f"{row['accuracy_mean']:.4f}{spread} ({row['mean_rate_mean']:.2f})"
        texts[f"dt {dt:g} s", name] = text
    if found:
        n_seeds = max(row["n_seeds"] for row in found.values())
        title = f"plain network, initial voltages: accuracy, mean of {n_seeds} seeds +- standard "
        yield shared.crossed(f"{title}deviation (mean rate in Hz)", texts)


def on_dt(report: Reproduction) -> Iterator[str]:
    """State the number of spikes with the shortest and with the longest steps."""
    plain = {cell["dt"]: cell for cell in _main(report) if cell["network"] == "plain"}
    first, last = plain[DTS[0]], plain[DTS[-1]]
    yield (
        f"an activation of 1 fires at 1 Hz: {N_STEPS} steps of {DTS[0]:g} s are "
        f"{1000 * N_STEPS * DTS[0]:g} ms, in which a neuron of {first['rates']['mean']:.2f} Hz "
        f"spikes {first['rates']['mean'] * N_STEPS * DTS[0]:.4f} times; in steps of {DTS[-1]:g} s "
        f"it spikes {last['rates']['mean'] * DTS[-1]:.2f} times a step, and the busiest "
        f"{last['most_spikes_a_step']} times"
    )
    yield (
        "KerasSpiking's and Nengo's neuron add max(J, 0) * dt to a voltage and emit its whole part "
        "as spikes of height 1/dt; they differ in the initial voltage, which KerasSpiking draws "
        "anew for each neuron and image, and Nengo once for each neuron, when the network is "
        "built: choose with --initial-voltage"
    )


def on_voltages(report: Reproduction) -> Iterator[str]:
    """Compare the kinds of initial voltage over seeds."""
    found = _compared(report)
    if not found:
        return
    drawn, fixed, zero = ([found[name, dt] for dt in DTS] for name in ("image", "network", "zero"))
    n_seeds = drawn[0]["n_seeds"]
    if n_seeds > 1:
        texts, wider = [], []
        for one, other in zip(drawn, fixed, strict=True):
            pair, dt = [100 * each["accuracy_std"] for each in (one, other)], f"{one['dt']:g}"
            texts.append(f"{pair[0]:.2f} against {pair[1]:.2f} at dt {dt} s")
            wider += [dt] if _is_wider(*pair, n_seeds) else []
        text = "With these seeds and images, neither is larger beyond chance (F-test, 5 %)"
        if wider:
            text = (
                f"Drawn once, it is larger at dt {' and '.join(wider)} s beyond chance (F-test, "
                "5 %): a neuron whose voltage starts near the threshold spikes early in every "
                "image, and every seed is another network"
            )
        yield (
            f"standard deviation of the accuracy over {n_seeds} seeds, in percentage points, with "
            f"initial voltages drawn for each image or once for all: {', '.join(texts)}. {text}"
        )
    yield (
        "from voltage 0, a count is rounded down, not up or down by chance: at dt "
        f"{DTS[0]:g} and {DTS[1]:g} s the mean rate is {zero[0]['mean_rate_mean']:.2f} and "
        f"{zero[1]['mean_rate_mean']:.2f} Hz, against "
        f"{drawn[0]['mean_rate_mean']:.2f} and {drawn[1]['mean_rate_mean']:.2f} Hz with "
        "voltages drawn for each image; the accuracy is "
        f" {zero[0]['accuracy_mean']:.4f} and {zero[1]['accuracy_mean']:.4f}"
    )


def _is_wider(one: float, other: float, n_seeds: int) -> bool:
    """Whether the other standard deviation is larger than chance explains."""
    if not one:
        return other > 0
    return bool(fdtrc(n_seeds - 1, n_seeds - 1, (other / one) ** 2) < 0.05)


def on_rounding(report: Reproduction) -> Iterator[str]:
    """Count the spikes that differ in 32 bits."""
    result, other = report.result, report.results["in-32-bits"]
    pairs = [(result.counts[label], counts) for label, counts in other.counts.items()]
    differing = sum(int((one != counts).sum()) for one, counts in pairs)
    total = sum(counts.size for _, counts in pairs)
    change = other.accuracy(report.labels).value - report.accuracy.value
    yield (
        "rounding: KerasSpiking computes in 32 bits, Nengo in 64; with Nengo in 32 bits "
        f"{differing:,} of {total:,} spike counts differ at dt {DTS[-1]:g} s, and the accuracy by "
        f"{100 * change:+.2f} points"
    )


def on_filters(report: Reproduction) -> Iterator[str]:
    """State where the learned filters are."""
    if case := report.cases.get(_run("low-pass", TRAINED_DT)):
        n_filters = case.layers[-1].kernel.shape[0]
        yield (
            f"low-pass: the hidden neurons' {n_filters} learned time constants are filters in a "
            "Node of their own (nengonet.lowpass), since a Nengo synapse has one time constant and "
            "works on the weighted sums; the Node passes a spike on in its own step, as "
            "KerasSpiking does, a Nengo synapse in the next"
        )


def on_published(report: Reproduction) -> Iterator[str]:
    """State how far the figures are from the tutorial's."""
    names = "accuracy", "constant_rate_accuracy"
    apart = [
        "{network}, dt {dt:g} s: {:+.1f} ({:+.1f})".format(
            *(100 * (cell[name] - cell["published_accuracy"]) for name in names), **cell
        )
        for cell in _main(report)
        if cell["published_accuracy"] is not None
    ]
    if apart:
        yield (
            "measured less published, in percentage points (with the constant learning rate): "
            f"{'; '.join(apart)}. The weights are not the tutorial's. Their learning rate goes "
            "down in the last two epochs: a schedule that was chosen on training images, but after "
            "test figures of the constant rate had been seen"
        )


def example_runs(report: Reproduction, n_images: int = 4) -> tuple:
    """Return every network's run of the first images, for the plot of the tutorial's figure."""
    cells, few = {}, slice(n_images)
    for name, case in report.cases.items():
        result = report.results[name]
        if result.rasters:
            spikes = np.concatenate([each[few] for each in result.rasters.values()], axis=2)
            shown = spikes, result.outputs[few], result.predictions()[few]
            cells[case.name] = (case.dt, *shown)
    return report.images[few], report.labels[few], nn.datasets.class_names(DATA.name), cells


STUDY = Study(
    name="fashion-mnist",
    title="the tutorial's MLP",
    summary="Classify Fashion-MNIST with KerasSpiking's MLPs: 10 steps of 0.001 to 1 s.",
    source="KerasSpiking 0.3.0, Fashion MNIST tutorial",
    data=DATA,
    network=network,
    runs=runs,
    headline=_run("plain", DTS[-1]),
    cells=cells,
    settings=lambda report: {"weights": str(report.given.weights or ", ".join(FILES.values()))},
    tables=(table, seed_table),
    notes=(on_dt, on_voltages, on_rounding, on_filters, on_published),
    # The tutorial, too, draws four images for every network.
    figure=lambda report: nn.plots.plot_spikes_and_probabilities(*example_runs(report)),
    defaults={"reproduce": {"n_images": None, "n_jobs": -1}},
    quick={"n_images": 500, "n_seeds": 2},
    examples={
        "reproduce": "--images 200 --seeds 2",
        "diagnose": "--dt 0.01",
        "budget": "--network spiking-aware --dt 0.01",
        "sweep": "--set dt=0.01,0.1,1 --set initial-voltage=image,network --seeds 3",
    },
    help={
        "weights": "Keras file of an MLP 784-…-10, to run at all four dt.  [default: four bundled "
        "files]",
        "reproduce plot": "Draw four images and what every network makes of them to this file.",
    },
)
