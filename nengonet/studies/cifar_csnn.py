"""The CSNN paper's CNN on CIFAR-10, with average pools as the paper runs it, and with max pools.

The paper trains a CNN with max pools and replaces them by average pools. It multiplies the firing
rates by 415, puts a low-pass filter on every neuron layer's output, and shows each image for 100
steps of 1 ms. Its tables 1 and 2 give accuracy and cross-entropy for four neuron types and four
filters. Both are averaged over all 100 steps, the start-up included. `published` is that network.
`repaired` keeps the max pools. `at_rest` removes time: it uses rates in place of spikes, and so
shows the cost of the average pools and of the LIF neurons' curve.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Literal

import nengo
import numpy as np

import nengonet as nn
from nengonet.ann.activations import activations
from nengonet.ann.kinds import drive_of
from nengonet.ann.unweighted import Pool
from nengonet.checks import positive_integer
from nengonet.readout import cross_entropy
from nengonet.studies import shared
from nengonet.studies.engine import Case, Data, Given, Run, Study, Variant
from nengonet.studies.options import FullScaleRate, Option, PresentationTime
from nengonet.studies.report import Reproduction
from nengonet.tables import table

DATA = Data("cifar10", (32, 32, 3))
KERNELS = ((3, 3, 3, 32), (3, 3, 32, 64), (3, 3, 64, 64), (1024, 64), (64, 10))
SCALE = 415.0
PRESENTATION_TIME = 0.1

NEURONS = {
    "rate": nengo.RectifiedLinear(),
    "relu": nengo.SpikingRectifiedLinear(initial_state=shared.INITIAL_STATE),
    "lif": nengo.LIF(initial_state=shared.INITIAL_STATE),
    "adaptive-lif": nengo.AdaptiveLIF(initial_state=shared.INITIAL_STATE),
}
SYNAPSES = (0.005, 0.01, 0.015, 0.02)
_Cell = tuple[str, float | None]

# (accuracy, loss) as printed in the paper's tables 1 and 2, by neurons and synapse. Rate neurons
# without a filter have no start-up: at every step, they equal the ANN with average pools.
_PRINTED = (
    *((0.3932, 1.83), (0.3135, 2.03), (0.2406, 2.26), (0.1860, 2.43)),
    *((0.3973, 1.73), (0.3129, 2.01), (0.2492, 2.19), (0.1879, 2.41)),
    *((0.3821, 1.75), (0.3719, 1.76), (0.3675, 1.79), (0.3573, 1.82)),
    *((0.3806, 1.75), (0.3755, 1.76), (0.3694, 1.78), (0.3590, 1.82)),
)
PUBLISHED = {("rate", None): (None, None)}
PUBLISHED |= zip(itertools.product(NEURONS, SYNAPSES), _PRINTED, strict=True)
# The figures of the CNN with its max pools.
PUBLISHED_ANN = (0.7103, 0.84)

READOUTS = {
    "all_steps": "mean over all steps, as the paper measures",
    "last_step": "last step",
    "time_average": "logits averaged over time",
}
# Trained by the paper's recipe, so that the paper's figures are compared with a similar network.
WEIGHTS = "cifar_csnn_paper"
# Scales of firing rates. They show how much a network depends on the size of its activations.
SCALES_AT_REST = (SCALE / 10, SCALE / 3, SCALE, SCALE * 3, SCALE * 10)

# For the repaired network: a layer's 99.9th percentile of activation on this many training images
# fires at this rate, a spike every other step.
FULL_SCALE_RATE = 500.0
N_SAMPLE = 500

_POOL = " pool"


def cnn_layers(weights: nn.Weights) -> list[nn.LayerWeights]:
    """Return the layers of the paper's CNN, from first to last, whatever their names."""
    return shared.layers_of_shapes(weights, KERNELS, "the CSNN paper's")


def with_pools(layers: Sequence[nn.LayerWeights], kind: str) -> list[nn.LayerWeights | Pool]:
    """Return the layers with the 2x2 pools that follow the first two."""
    first, second, *rest = layers
    pools = [Pool(kind, name=f"{layer.name}{_POOL}") for layer in (first, second)]
    return [first, pools[0], second, pools[1], *rest]


def build(
    layers: Sequence[nn.LayerWeights],
    neurons: str = "relu",
    *,
    synapse: float | None = None,
    scale: float = SCALE,
    sample: np.ndarray | None = None,
    full_scale_rate: float = FULL_SCALE_RATE,
    seed: int = 0,
) -> nn.Layer:
    """Build the network of one cell of the paper's tables, or the repaired one.

    - As published: neurons with Nengo's default parameters, gain 415, bias 415 times Keras', and
      amplitude 1/415; average pools; a low-pass filter on every neuron layer's output. The filter
      is on the connections into the two pools and the two dense layers, and not on the logits.
    - ``"repaired"``: `IntegrateAndFire` neurons, whose voltage may go negative, so that they need
      no filter. Each layer has a gain from its activations on ``sample``. `max_pool2d` is of kind
      ``"running_max"``, whose spike count is the largest of its window.
    """
    *hidden, last = layers
    if neurons == "repaired":
        neuron_type = nn.IntegrateAndFire()
        rates = dict.fromkeys((weights.name for weights in hidden), full_scale_rate)
        tuned = shared.tuned(with_pools(layers, "max"), sample, neuron_type, rates)
        tunings = list(tuned.values())
        pool = functools.partial(nn.max_pool2d, kind="running_max")
    else:
        neuron_type, tunings = NEURONS[neurons], [shared.scaled_firing_rates(scale)] * len(hidden)
        pool = functools.partial(nn.avg_pool2d, synapse=synapse)
    with nengo.Network(seed=seed):
        layer = nn.constant_input(DATA.shape)
        for index, (weights, tuning) in enumerate(zip(hidden, tunings, strict=True)):
            filtered = synapse if index > 2 else None
            layer = shared.add(layer, weights, neuron_type, synapse=filtered, **tuning)
            if index < 2:
                layer = pool(layer, label=f"{weights.name}{_POOL}")
        return nn.dense(layer, last, None, synapse=synapse)


def network(
    given: Given,
    *,
    neurons: Literal["relu", "lif", "adaptive-lif", "rate", "repaired"] = "relu",
    synapse: Annotated[float | None, "Low-pass filter on the layers' outputs, in seconds."] = None,
    scale: Annotated[float, "Factor on the firing rates of the published networks."] = SCALE,
    full_scale_rate: FullScaleRate = FULL_SCALE_RATE,
    presentation_time: PresentationTime = PRESENTATION_TIME,
    readout: Literal["all_steps", "last_step", "time_average"] = "all_steps",
) -> Case:
    """Build the network of one of the paper's cells, or the repaired one."""
    weights = given.load_weights(WEIGHTS)
    layers, repairs, sample = cnn_layers(weights), neurons == "repaired", None
    if repairs:
        if synapse is not None:
            raise nn.InputError(f"synapse: expected none for the repaired network, got {synapse}")
        sample, _ = given.images("train", N_SAMPLE)
    tuning = {"synapse": synapse, "scale": scale}
    repair = {"sample": sample, "full_scale_rate": full_scale_rate}
    output = build(layers, neurons, **tuning, **repair, seed=given.seed)
    anns = [("ANN", with_pools(layers, "max"), "Keras' activations, max pools")]
    if not repairs:
        pools = with_pools(layers, "average")
        anns.append(("average pools in place of max pools", pools, "the same weights"))

    def values(result: nn.Result, labels: np.ndarray) -> dict[str, object]:
        found = measure(result.steps, labels)[readout]
        share = nn.Accuracy(found["accuracy"], tuple(found["interval"]), n_images=len(labels))
        return {"accuracy": share, "loss": found["loss"]}

    name = f"as published: {neurons}, {shared.synapse_text(synapse)}"
    return Case(
        "repaired: max pools kept" if repairs else name,
        output,
        anns[-1][1],
        weights.path,
        presentation_time,
        readout="mean" if readout == "time_average" else "last_step",
        settings={} if repairs else {"neurons": neurons} | tuning,
        keep=[output.label],
        values=values,
        anns=anns,
    )


def runs(
    given: Given,
    *,
    neurons: Annotated[
        Sequence[Literal["rate", "relu", "lif", "adaptive-lif"]],
        Option("Run only these neuron types; may be repeated.", default="all"),
    ] = (),
    synapses: Annotated[
        Sequence[float | None],
        Option(
            "Run only these low-pass filters, in ms; may be repeated.",
            flag="--synapse",
            values={"none": None} | {f"{1000 * each:g}": each for each in SYNAPSES},
            default="all",
        ),
    ] = (),
    n_seeds: Annotated[
        int, Option("Sets of initial voltages to run each spiking network with.", flag="--seeds")
    ] = 1,
) -> dict[str, Run]:
    """Return the runs of the cells of the paper's tables, and of the repaired network."""
    chosen = [
        (name, synapse)
        for name, synapse in PUBLISHED
        if name in (neurons or NEURONS) and synapse in (synapses or (None, *SYNAPSES))
    ]
    if not chosen:
        raise nn.InputError(
            "synapses: expected filters for these neurons, got none; of the paper's networks, "
            "only that of rate neurons has no filter"
        )
    seeds = range(given.seed, given.seed + positive_integer("n_seeds", n_seeds))
    found = {
        f"{name}-synapse-{synapse or 'none'}-seed-{seed}": Run(
            {"neurons": name, "synapse": synapse}, given={"seed": seed}
        )
        for name, synapse in chosen
        for seed in (seeds if name != "rate" else seeds[:1])
    }
    return found | {"repaired": Run({"neurons": "repaired", "readout": "time_average"})}


def by_cell(report: Reproduction, values: Mapping[str, object]) -> dict[_Cell, list]:
    """Group the values of all runs by their cell, over seeds."""
    found = {}
    for name, run in report.plan.items():
        if name != report.headline:
            cell = run.options["neurons"], run.options["synapse"]
            found.setdefault(cell, []).append(values[name])
    return found


# The network without time.


def at_rest(
    layers: Sequence[nn.LayerWeights],
    images: np.ndarray,
    *curves: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Compute the logits of the paper's network with each curve in place of its neurons.

    Returns an array (n_curves, n_images, n_classes).
    """
    first, *others = with_pools(layers[:-1], "average")

    def logits(values: np.ndarray) -> np.ndarray:
        drive, found = drive_of(first, values), []
        for curve in curves:
            values = curve(drive)
            for layer in others:
                pools = isinstance(layer, Pool)
                values = layer.values(values) if pools else curve(drive_of(layer, values))
            found.append(drive_of(layers[-1], values))
        return np.stack(found, axis=1)

    return shared.in_chunks(logits, images).swapaxes(0, 1)


def lif_curve(drive: np.ndarray, scale: float = SCALE) -> np.ndarray:
    """Return the mean output of the paper's LIF neurons."""
    found = np.empty_like(drive)
    nengo.LIFRate(amplitude=1 / scale).step(1.0, scale * drive, found)
    return found


def on_or_off(drive: np.ndarray) -> np.ndarray:
    """Return the largest output of the paper's LIF neurons wherever the drive is above 0."""
    return (np.asarray(drive) > 0) / (NEURONS["lif"].tau_ref * SCALE)


# Measurements.


def measure(logits: np.ndarray, labels: np.ndarray) -> dict[str, dict]:
    """Measure accuracy and cross-entropy of logits over time, with three readouts.

    The logits are (n_images, n_steps, n_classes), with seeds in front if there are several.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    logits = logits.reshape(-1, *logits.shape[-3:])
    average = logits.mean(axis=2, keepdims=True)
    answers = {"all_steps": logits, "last_step": logits[:, :, -1:], "time_average": average}
    shares = {readout: _right(each, labels).mean(axis=-1) for readout, each in answers.items()}
    return {
        readout: {
            "accuracy": float(shares[readout].mean()),
            "interval": _interval(shares[readout]),
            "loss": float(cross_entropy(each, labels[:, np.newaxis]).mean()),
        }
        for readout, each in answers.items()
    }


def _right(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return whether the answer is right, for each seed, image and step."""
    return logits.argmax(axis=-1) == labels[:, np.newaxis]


def _variance(shares: np.ndarray) -> float:
    """Return the variance of the mean, where images and seeds are both drawn at random."""
    of_images, of_seeds = shares.mean(axis=0), shares.mean(axis=1)
    drawn = of_seeds.var(ddof=1) / len(of_seeds) if len(of_seeds) > 1 else 0.0
    return of_images.var() / len(of_images) + drawn


def _interval(shares: np.ndarray) -> list[float]:
    """Return Wilson's 95 % interval for the number of images that gives this variance."""
    mean, variance = shares.mean(), _variance(shares)
    n = mean * (1 - mean) / variance if variance > 0 else shares.shape[1]
    centre, half = mean + 1.96**2 / (2 * n), 1.96 * np.sqrt(mean * (1 - mean) / n + (0.98 / n) ** 2)
    return [float((centre + side * half) / (1 + 1.96**2 / n)) for side in (-1, 1)]


# The parts of the report.


def further(report: Reproduction) -> dict:
    """Return whether the answer is right, for each seed, image and step of every cell."""
    logits = by_cell(report, {name: each.steps for name, each in report.results.items()})
    return {cell: _right(np.array(each), report.labels) for cell, each in logits.items()}


def cells(report: Reproduction) -> list[dict]:
    """Return a row for each cell and readout, and the rows of the network at rest."""
    rows = []
    for (neurons, synapse), results in by_cell(report, report.results).items():
        measured = measure(np.array([each.steps for each in results]), report.labels)
        for readout, values in measured.items():
            row = {"neurons": neurons, "synapse": synapse, "readout": readout}
            # The paper has no other readout.
            known = PUBLISHED[neurons, synapse] if readout == "all_steps" else (None, None)
            published = dict(zip(("published_accuracy", "published_loss"), known, strict=True))
            rows.append(row | {"n_seeds": len(results)} | values | published)
    if any("lif" in row["neurons"] for row in rows):
        rows += _rows_at_rest(report)
    return rows


def _rows_at_rest(report: Reproduction) -> Iterator[dict]:
    """Yield the rows of LIF's curve at several scales, of on and off, and of ReLU."""
    curves = {
        ("relu", None): lambda drive: np.maximum(drive, 0.0),
        **{("lif", each): functools.partial(lif_curve, scale=each) for each in SCALES_AT_REST},
        ("on or off", SCALE): on_or_off,
    }
    found = at_rest(_layers(report), report.images, *curves.values())
    for (neurons, scale), logits in zip(curves, found, strict=True):
        values = measure(logits[:, np.newaxis], report.labels)["last_step"]
        yield {"neurons": neurons, "scale": scale, "readout": "at_rest"} | values


def _layers(report: Reproduction) -> list[nn.LayerWeights]:
    return [layer for layer in report.case.layers if not isinstance(layer, Pool)]


def settings(report: Reproduction) -> dict:
    """Return the ANN's accuracy and loss with either kind of pool, and the rates it asks for."""
    layers, anns = _layers(report), {}
    for kind in ("max", "average"):
        logits = shared.logits_of(with_pools(layers, kind), report.images)
        share = nn.readout.accuracy(logits.argmax(axis=1), report.labels).value
        loss = float(cross_entropy(logits, report.labels).mean())
        anns[f"{kind} pools"] = {"accuracy": share, "loss": loss}
    share, loss = PUBLISHED_ANN
    anns["max pools"] |= {"published_accuracy": share, "published_loss": loss}
    found, asked = activations(with_pools(layers, "average"), report.images[:100]), {}
    for name in (layer.name for layer in layers[:-1]):
        active = found[name] > 0
        if active.any():
            median = SCALE * float(np.median(found[name][active]))
            share = round(float(active.mean()), 3)
            asked[name] = {"active": share, "median_rate": round(median, 1)}
    return {
        "seeds of spiking cells": report.options.get("n_seeds", 1),
        "ANN": anns,
        "activations, average pools": asked,
    }


def readout_tables(report: Reproduction) -> Iterator[str]:
    """Write accuracies and losses: a table for each readout, a row for each neuron type."""
    for readout, words in READOUTS.items():
        found = {}
        for row in report.cells:
            if row["readout"] == readout:
                name, column = row["neurons"], shared.synapse_text(row["synapse"])
                found[name, column] = "{accuracy:.4f} / {loss:.3f}".format(**row)
                if readout == "all_steps":
                    form = "{published_accuracy:.4f} / {published_loss:.3f}"
                    known = row["published_accuracy"] is not None
                    found[f"{name}, paper", column] = form.format(**row) if known else "- / -"
        title = f"accuracy / cross-entropy: {words} ({report.result.n_steps} steps)"
        yield shared.crossed(title, found)


def _at_rest(report: Reproduction) -> list[dict]:
    return [row for row in report.cells if row["readout"] == "at_rest"]


def table_at_rest(report: Reproduction) -> Iterator[str]:
    """Write the rows at rest, if there are any."""
    columns = {"neurons": ("", ""), "scale": ("scale", ".4g")}
    columns |= {"accuracy": ("accuracy", ".4f"), "loss": ("cross-entropy", ".3f")}
    if rows := _at_rest(report):
        title = "at rest: rates in place of spikes, no filters, average pools"
        yield "\n".join([title, *table(rows, columns)])


def on_claims(report: Reproduction) -> Iterator[str]:
    """Check the paper's claims on its table 1: falls in accuracy, and which neurons are ahead."""
    right, ends = report.further, (SYNAPSES[0], SYNAPSES[-1])
    shortest, longest = map(shared.synapse_text, ends)
    for name in NEURONS:
        pair = [(name, synapse) for synapse in ends]
        if all(cell in right for cell in pair):
            change, low, high, paper = _difference(right, *reversed(pair))
            where = "within" if low <= paper <= high else "above" if paper > high else "below"
            yield (
                f"{name}, from {shortest} to {longest}: {change:+.1f} points of accuracy (95 % "
                f"interval {low:+.1f} to {high:+.1f}); the paper's {paper:+.1f} is {where} the "
                "interval"
            )
    for first, second in (("lif", "relu"), ("adaptive-lif", "lif")):
        texts = []
        for synapse in SYNAPSES:
            pair = (first, synapse), (second, synapse)
            if set(pair) <= right.keys():
                found, low, high, paper = _difference(right, *pair)
                who = "level" if low <= 0 <= high else "ahead" if low > 0 else "behind"
                texts.append(
                    f"{shared.synapse_text(synapse)} {who}, {found:+.2f} ({low:+.2f} to "
                    f"{high:+.2f}; paper {paper:+.2f})"
                )
        if texts:
            yield f"{first} against {second}, in points of accuracy: {'; '.join(texts)}"


def _difference(
    right: dict[_Cell, np.ndarray], first: _Cell, second: _Cell
) -> tuple[float, float, float, float]:
    """Return a cell's lead, its interval (same images, same seeds), and the paper's lead."""
    found = right[first].mean(axis=-1) - right[second].mean(axis=-1)
    # As if one more image differed: agreement on all images does not prove a difference of 0.
    mean, half = found.mean(), 1.96 * np.sqrt(_variance(found) + 1 / found.shape[1] ** 2)
    paper = PUBLISHED[first][0] - PUBLISHED[second][0]
    return tuple(100 * each for each in (mean, mean - half, mean + half, paper))


def on_delays(report: Reproduction) -> Iterator[str]:
    """State when each cell's accuracy is first within 2 points of its last step's."""
    curves = {cell: right.mean(axis=(0, 1)) for cell, right in report.further.items()}
    for name in NEURONS:
        steps = {
            shared.synapse_text(cell[1]): shared.settled(curve, curve[-1], 0.02)
            for cell, curve in curves.items()
            if cell[0] == name and cell[1] is not None
        }
        if steps:
            yield (
                f"{name}: within 2 points of the last step's accuracy from step "
                f"{'/'.join(map(str, steps.values()))} on, at {'/'.join(steps)}"
            )


def on_rest(report: Reproduction) -> Iterator[str]:
    """Compare LIF's accuracy at rest with ReLU's and with on and off, and at each scale."""
    found = {(row["neurons"], row["scale"]): 100 * row["accuracy"] for row in _at_rest(report)}
    if found:
        lif, relu = found["lif", SCALE], found["relu", None]
        others = shared.slashed((found["lif", each] - lif for each in SCALES_AT_REST), "+.1f")
        yield (
            f"at rest: LIF's accuracy is {lif - relu:+.1f} points from ReLU's, and "
            f"{lif - found['on or off', SCALE]:+.1f} from that of neurons that are on or off; with "
            f"scales {shared.slashed(SCALES_AT_REST, '.3g')} it changes by {others}"
        )


def on_repair(report: Reproduction) -> Iterator[str]:
    """State when the repaired network is as good as its ANN, and the spikes that it needs."""
    result, curve = report.result, report.result.latency(report.labels)
    step = shared.settled(curve, report.ann_accuracy.value)
    near = "within 1 percentage point of the ANN"
    stays = f"from step {step} on it stays {near}" if step else f"it does not come {near}"
    yield f"repaired: {stays}; {shared.after(curve, (20, 30, 40, 50, 75, 100))}"
    spikes = report.spikes_per_image.items()
    total = sum(n for label, n in spikes if not label.endswith(_POOL))
    yield (
        f"repaired: {total:,.0f} spikes of neurons per image in {result.n_steps} steps; the max "
        "pools (running maximum) pass some of them on"
    )


def logit_curves(report: Reproduction) -> dict[str, object]:
    """Show one training and one test image to each cell: the paper's figures 3 and 5.

    The captions of the paper's figures name the first training image, a frog; its notebook runs
    the first test image, a cat. Returns the arguments of `nengonet.plots.plot_logits`.
    """
    shown = [report.given.images(split, 1) for split in ("train", "test")]
    images, labels = (np.concatenate(each) for each in zip(*shown, strict=True))
    found = {
        cell: cases[0].present(images, progress=False).steps
        for cell, cases in by_cell(report, report.cases).items()
    }
    neurons, synapses = (dict.fromkeys(each) for each in zip(*found, strict=True))
    columns = sorted(synapses, key=lambda synapse: synapse or 0.0)
    n_steps, names = report.result.n_steps, nn.datasets.class_names(DATA.name)
    nothing = np.full((len(images), n_steps, len(names)), np.nan)
    outputs = {
        name: np.stack([found.get((name, each), nothing) for each in columns], axis=1)
        for name in neurons
    }
    first, second = (names[label] for label in labels)
    words = f"first training image: {first}", f"first test image: {second}"
    return {
        "times": PRESENTATION_TIME * np.arange(1, n_steps + 1) / n_steps,
        "outputs": {name: each.reshape(-1, *each.shape[2:]) for name, each in outputs.items()},
        "class_names": names,
        "titles": [f"{word}\n{shared.synapse_text(each)}" for word in words for each in columns],
        "labels": np.repeat(labels, len(columns)),
    }


# Measured against 20 and 100: signals of 50 examples still fit into the cache for most layers.
_FEW = {"minibatch_size": 50, "precision": 32}
STUDY = Study(
    name="cifar-csnn",
    title="the CSNN paper's CNN",
    summary="Classify CIFAR-10 with the CSNN paper's CNN: its tables, other readouts, a repair.",
    source="CSNN paper, tables 1 and 2",
    data=DATA,
    network=network,
    variants={
        "repaired": Variant({"neurons": "repaired", "readout": "time_average"}),
        "published": Variant(
            {"neurons": "relu", "synapse": 0.005, "readout": "last_step"},
            "--as-published",
            "Use the paper's spiking ReLU neurons and filters of 5 ms, and read out the last step.",
        ),
    },
    runs=runs,
    headline="repaired",
    further=further,
    cells=cells,
    settings=settings,
    tables=(readout_tables, table_at_rest),
    notes=(on_claims, on_delays, on_rest, on_repair),
    figure=lambda report: nn.plots.plot_logits(**logit_curves(report)),
    defaults={
        "reproduce": {"n_jobs": -1} | _FEW,
        "diagnose": {"n_images": 50},
        "budget": {"n_images": 100, "n_jobs": -1} | _FEW,
        "sweep": _FEW,
    },
    quick={"n_images": 100, "synapses": (None, SYNAPSES[0], SYNAPSES[-1])},
    examples={
        "reproduce": "--images 100 --neurons relu",
        "diagnose": "--as-published",
        "budget": "--as-published --images 50",
        "sweep": "--set neurons=relu,lif --set synapse=0.005,0.02 --images 100",
    },
    help={
        "weights": "Keras file of the paper's CNN.",
        "reproduce plot": "Draw the logits of two images over time to this file.",
    },
)
