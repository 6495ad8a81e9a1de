"""The CSNN paper's CNN on CIFAR-10, with average pools as the paper runs it, and with max pools.

The paper trains a CNN with max pools, replaces them by average pools, multiplies the firing rates
by 415, puts a low-pass filter on every neuron layer's output, and shows each image for 100 steps
of 1 ms. Its tables 1 and 2 give accuracy and cross-entropy for four neuron types and four
filters, both averaged over all 100 steps, the start-up included. `published` is that network.
`repaired` keeps the max pools. `at_rest` takes the time out: what the average pools and the LIF
neurons' curve cost with rates in place of spikes.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import nengo
import numpy as np

from nengonet import datasets
from nengonet.ann.activations import Pool, activations, full_scale
from nengonet.ann.convolution import average_pool2d
from nengonet.checks import check_among, positive_integer
from nengonet.exceptions import InputError
from nengonet.layers.inputs import constant_input
from nengonet.layers.pools import avg_pool2d, max_pool2d
from nengonet.layers.record import Layer
from nengonet.layers.weighted import conv2d, dense
from nengonet.neurons import IntegrateAndFire
from nengonet.results.readout import Accuracy, accuracy, cross_entropy
from nengonet.results.result import Result
from nengonet.run.presentation import present
from nengonet.studies.old_report import Reproduction
from nengonet.studies.shared import (
    INITIAL_STATE,
    files_of_runs,
    layers_of_shapes,
    logits_of,
    matched,
    measured,
    scaled_firing_rates,
    settled,
    tuning_of,
)
from nengonet.weights import LayerWeights, Weights, load_weights, pretrained

NAME = "cifar-csnn"
SOURCE = "CSNN paper, tables 1 and 2"
SHAPE = (32, 32, 3)
KERNELS = ((3, 3, 3, 32), (3, 3, 32, 64), (3, 3, 64, 64), (1024, 64), (64, 10))
SCALE = 415.0
PRESENTATION_TIME = 0.1

NEURONS = {
    "rate": nengo.RectifiedLinear(),
    "relu": nengo.SpikingRectifiedLinear(initial_state=INITIAL_STATE),
    "lif": nengo.LIF(initial_state=INITIAL_STATE),
    "adaptive-lif": nengo.AdaptiveLIF(initial_state=INITIAL_STATE),
}
SYNAPSES = (0.005, 0.01, 0.015, 0.02)
# Rate neurons without a filter have no start-up: the ANN with average pools, at every step.
CELLS = (("rate", None), *((neurons, synapse) for neurons in NEURONS for synapse in SYNAPSES))

# (accuracy, loss) of each cell as printed in the paper's tables 1 and 2.
PUBLISHED = dict(
    zip(
        CELLS,
        [
            (None, None),
            *((0.3932, 1.83), (0.3135, 2.03), (0.2406, 2.26), (0.1860, 2.43)),
            *((0.3973, 1.73), (0.3129, 2.01), (0.2492, 2.19), (0.1879, 2.41)),
            *((0.3821, 1.75), (0.3719, 1.76), (0.3675, 1.79), (0.3573, 1.82)),
            *((0.3806, 1.75), (0.3755, 1.76), (0.3694, 1.78), (0.3590, 1.82)),
        ],
        strict=True,
    )
)
# Of the CNN with its max pools.
PUBLISHED_ANN = (0.7103, 0.84)

READOUTS = {
    "all_steps": "mean over all steps, as the paper measures",
    "last_step": "last step",
    "time_average": "logits averaged over time",
}
_AT_REST = "at rest: rates in place of spikes, no filters, average pools"
# Trained by the paper's recipe, so that its figures are compared with those of a like network.
WEIGHTS = "cifar_csnn_paper"
N_SEEDS = 1
# Of firing rates: how much a network depends on how large its activations are.
SCALES_AT_REST = (SCALE / 10, SCALE / 3, SCALE, SCALE * 3, SCALE * 10)

# Of the repaired network: a layer's 99.9th percentile of activation on so many training images
# fires at this rate, a spike every other step.
FULL_SCALE_RATE = 500.0
N_SAMPLE = 500

_POOL = " pool"
# Signals of 50 examples still stay in cache for most layers; measured against 20 and 100.
_MINIBATCH_SIZE = 50
# Images whose activations are held at once.
_CHUNK = 100


def cnn_layers(weights: Weights) -> list[LayerWeights]:
    """Return the layers of the paper's CNN, from first to last, whatever their names."""
    return layers_of_shapes(weights, KERNELS, "the CSNN paper's")


def with_pools(layers: Sequence[LayerWeights], kind: str) -> list[LayerWeights | Pool]:
    """Return the layers with the 2x2 pools that follow the first two."""
    first, second, *rest = layers
    pools = [Pool(kind, name=_pool_label(layer)) for layer in (first, second)]
    return [first, pools[0], second, pools[1], *rest]


def _pool_label(layer: LayerWeights) -> str:
    return f"{layer.name}{_POOL}"


def published(
    layers: Sequence[LayerWeights],
    *,
    neurons: str = "relu",
    synapse: float | None = 0.005,
    scale: float = SCALE,
    seed: int = 0,
) -> tuple[nengo.Network, Layer]:
    """Build the network of one cell of the paper's tables.

    - Input: the pixels, constant, in [0, 1].
    - Neurons with Nengo's default parameters, gain 415, bias 415 times Keras', amplitude 1/415.
    - Average pools, as Nodes; the last layer is a Node too.
    - A low-pass filter on every neuron layer's output: on the connections into the two pools and
      into the two dense layers; none on the logits.
    """
    check_among("neurons", neurons, NEURONS)
    tuning = scaled_firing_rates(scale)
    first, second, third, hidden, last = layers
    neuron_type = NEURONS[neurons]
    with nengo.Network(seed=seed) as network:
        layer = constant_input(SHAPE)
        for weights in (first, second):
            layer = conv2d(layer, weights, neuron_type, **tuning)
            layer = avg_pool2d(layer, synapse=synapse, label=_pool_label(weights))
        layer = conv2d(layer, third, neuron_type, **tuning)
        layer = dense(layer, hidden, neuron_type, synapse=synapse, **tuning)
        output = dense(layer, last, None, synapse=synapse)
    return network, output


def repaired(
    layers: Sequence[LayerWeights],
    sample: np.ndarray,
    *,
    full_scale_rate: float = FULL_SCALE_RATE,
    seed: int = 0,
) -> tuple[nengo.Network, Layer]:
    """Build the network with its max pools kept.

    - `IntegrateAndFire` neurons: with a voltage that may go negative, they need no filter.
    - A gain for each layer, from its own activations, instead of one scale for all.
    - `max_pool2d` of kind ``"running_max"``: its spike count is the largest of its window.
    """
    found = activations(with_pools(layers, "max"), sample)
    neuron_type = IntegrateAndFire()
    *hidden, last = layers
    with nengo.Network(seed=seed) as network:
        layer = constant_input(SHAPE)
        for index, weights in enumerate(hidden):
            add = conv2d if weights.kernel.ndim == 4 else dense
            scale = full_scale(found[weights.name])
            layer = add(layer, weights, neuron_type, **matched(neuron_type, scale, full_scale_rate))
            if index < 2:
                layer = max_pool2d(layer, kind="running_max", label=_pool_label(weights))
        output = dense(layer, last, None)
    return network, output


def at_rest(
    layers: Sequence[LayerWeights],
    images: np.ndarray,
    curve: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Compute the logits of the paper's network with a curve in place of its neurons."""
    *hidden, last = (
        dataclasses.replace(layer, config=layer.config | {"activation": "linear"})
        for layer in layers
    )
    logits = []
    for start in range(0, len(images), _CHUNK):
        values = images[start : start + _CHUNK]
        for index, layer in enumerate(hidden):
            values = curve(activations([layer], values)[layer.name])
            values = average_pool2d(values, 2) if index < 2 else values
        logits.append(activations([last], values)[last.name])
    return np.concatenate(logits)


def lif_curve(scale: float = SCALE) -> Callable[[np.ndarray], np.ndarray]:
    """Return the mean output of the paper's LIF neurons, from their drive."""

    def outputs(drive: np.ndarray) -> np.ndarray:
        found = np.empty_like(drive)
        nengo.LIFRate(amplitude=1 / scale).step(1.0, scale * drive, found)
        return found

    return outputs


def on_or_off(drive: np.ndarray) -> np.ndarray:
    """Return the largest output of the paper's LIF neurons wherever the drive is above 0."""
    return (np.asarray(drive) > 0) / (NEURONS["lif"].tau_ref * SCALE)


def measure(logits: np.ndarray, labels: np.ndarray) -> dict[str, dict]:
    """Measure accuracy and cross-entropy of logits over time, read out in three ways."""
    labels = np.asarray(labels)
    found = {}
    for readout, answers in _answers(np.asarray(logits)).items():
        found[readout] = {
            "accuracy": float(np.mean(shares := _shares(answers, labels))),
            "interval": _interval(shares),
            "loss": float(cross_entropy(answers, labels[:, np.newaxis]).mean()),
        }
    return found


def _answers(logits: np.ndarray) -> dict[str, np.ndarray]:
    """Return, by readout, the logits that answer, with seeds in front: one step or all."""
    logits = logits.reshape(-1, *logits.shape[-3:])
    average = logits.mean(axis=2, keepdims=True)
    return {"all_steps": logits, "last_step": logits[:, :, -1:], "time_average": average}


def _shares(answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return for each seed and image the share of steps whose answer is right."""
    return (answers.argmax(axis=-1) == labels[:, np.newaxis]).mean(axis=-1)


def _variance(shares: np.ndarray) -> float:
    """Return the variance of the mean: images and seeds are both drawn at random."""
    of_images, of_seeds = shares.mean(axis=0), shares.mean(axis=1)
    drawn = of_seeds.var(ddof=1) / len(of_seeds) if len(of_seeds) > 1 else 0.0
    return of_images.var() / len(of_images) + drawn


def _interval(shares: np.ndarray) -> list[float]:
    """Return Wilson's 95 % interval, for as many images as would give the mean its variance."""
    mean, variance = shares.mean(), _variance(shares)
    n = mean * (1 - mean) / variance if variance > 0 else shares.shape[1]
    centre, half = mean + 1.96**2 / (2 * n), 1.96 * np.sqrt(mean * (1 - mean) / n + (0.98 / n) ** 2)
    return [float((centre + side * half) / (1 + 1.96**2 / n)) for side in (-1, 1)]


def sweep_cell(
    *,
    neurons: Literal["relu", "lif", "adaptive-lif", "rate", "repaired"] = "relu",
    synapse: float | None = None,
    scale: float = SCALE,
    full_scale_rate: float = FULL_SCALE_RATE,
    presentation_time: float = PRESENTATION_TIME,
    readout: Literal["all_steps", "last_step", "time_average"] = "all_steps",
    n_images: int | str = 1000,
    weights: str | os.PathLike | None = None,
    data: str | os.PathLike | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Run one network, for a sweep."""
    _, layers = _layers(weights)
    found = {"data_dir": data, "progress": False}
    images, labels = datasets.load("cifar10", split="test", n_images=n_images, **found)
    if neurons == "repaired":
        if synapse is not None:
            raise InputError(f"synapse: the repaired network has none, found {synapse}")
        sample, _ = datasets.load("cifar10", split="train", n_images=N_SAMPLE, **found)
        _, output = repaired(layers, sample, full_scale_rate=full_scale_rate, seed=seed)
    else:
        _, output = published(layers, neurons=neurons, synapse=synapse, scale=scale, seed=seed)
    result = _run(
        output,
        images,
        presentation_time=presentation_time,
        seed=seed,
        readout="last_step",
        minibatch_size=_MINIBATCH_SIZE,
        precision=32,
        progress=False,
    )
    of_readout = measure(result.steps, labels)[readout]
    values = measured(result, result.accuracy(labels))
    interval = tuple(of_readout["interval"])
    values["accuracy"] = Accuracy(of_readout["accuracy"], interval, n_images=len(labels))
    return values | {"loss": of_readout["loss"]}


def reproduce(
    weights: str | os.PathLike | None = None,
    *,
    neurons: Sequence[str] = (),
    synapses: Sequence[float | None] = (),
    n_images: int | str = 1000,
    data_dir: str | os.PathLike | None = None,
    seed: int = 0,
    n_seeds: int = N_SEEDS,
    minibatch_size: int = _MINIBATCH_SIZE,
    n_jobs: int = -1,
    precision: int = 32,
    save: str | os.PathLike | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Reproduction:
    """Run the cells of the paper's tables, and the repaired network, on CIFAR-10 test images."""
    chosen = _chosen(neurons, synapses)
    n_seeds = positive_integer("n_seeds", n_seeds)
    path, layers = _layers(weights)
    found = {"data_dir": data_dir, "progress": progress}
    images, labels = datasets.load("cifar10", split="test", n_images=n_images, **found)
    sample, _ = datasets.load("cifar10", split="train", n_images=N_SAMPLE, **found)
    running = {
        "presentation_time": PRESENTATION_TIME,
        "minibatch_size": minibatch_size,
        "n_jobs": n_jobs,
        "precision": precision,
        "progress": progress,
    }
    saved = files_of_runs(save, resume)
    cells, shares, curves = [], {}, {}
    for cell in chosen:
        logits = _logits_of_seeds(layers, cell, images, range(seed, seed + n_seeds), saved, running)
        cells += _rows(cell, measure(logits, labels), len(logits))
        steps = logits.argmax(axis=-1) == labels[:, np.newaxis]
        shares[cell], curves[cell] = steps.mean(axis=-1), steps.mean(axis=(0, 1))
    if {"lif", "adaptive-lif"} & {cell[0] for cell in chosen}:
        cells += _rows_at_rest(layers, images, labels)
    network, output = repaired(layers, sample, seed=seed)
    result = _run(output, images, readout="mean", seed=seed, **saved("repaired"), **running)
    anns = {kind: logits_of(with_pools(layers, kind), images) for kind in ("max", "average")}
    ann_accuracy = accuracy(anns["max"].argmax(axis=1), labels)
    return Reproduction(
        name=NAME,
        source=SOURCE,
        accuracy=result.accuracy(labels),
        ann_accuracy=ann_accuracy,
        result=result,
        settings={
            "network": "repaired: max pools kept",
            "readout": "mean",
            "seed": seed,
            "seeds of spiking cells": n_seeds,
            "weights": str(path),
            "presentation_time": result.settings["presentation_time"],
            "dt": result.dt,
            "precision": precision,
            "ANN": {
                "max pools": _ann(anns["max"], labels)
                | dict(zip(("published_accuracy", "published_loss"), PUBLISHED_ANN, strict=True)),
                "average pools": _ann(anns["average"], labels),
            },
            "activations, average pools": _rates_asked(layers, images[:_CHUNK]),
            "tuning": tuning_of(output),
        },
        notes=(
            *_claims(shares),
            *_delays(curves),
            *_notes_at_rest(cells),
            *_notes(result, labels, ann_accuracy),
        ),
        cells=cells,
        tables=(*(_table(cells, each, n_steps=result.n_steps) for each in READOUTS),)
        + _table_at_rest(cells),
        network=network,
        output=output,
        images=images,
        labels=labels,
    )


def _layers(weights: str | os.PathLike | None) -> tuple[str | os.PathLike, list[LayerWeights]]:
    path = pretrained(WEIGHTS) if weights is None else weights
    return path, cnn_layers(load_weights(path))


def _run(output: Layer, images: np.ndarray, **running: object) -> Result:
    return present(output.network, output, images, keep=[output.label], **running)


def _logits_of_seeds(
    layers: Sequence[LayerWeights],
    cell: tuple[str, float | None],
    images: np.ndarray,
    seeds: Sequence[int],
    saved: Callable[[str], dict],
    running: dict,
) -> np.ndarray:
    """Run a cell; return its logits (n_seeds, n_images, n_steps, 10)."""
    neurons, synapse = cell
    found = []
    for seed in seeds if neurons != "rate" else seeds[:1]:
        _, output = published(layers, neurons=neurons, synapse=synapse, seed=seed)
        name = f"{neurons}-synapse-{synapse or 'none'}-seed-{seed}"
        found.append(
            _run(output, images, readout="last_step", seed=seed, **saved(name), **running).steps
        )
    return np.array(found)


def _chosen(
    neurons: Sequence[str], synapses: Sequence[float | None]
) -> list[tuple[str, float | None]]:
    for name in neurons:
        check_among("neurons", name, NEURONS)
    for synapse in synapses:
        check_among("synapses", synapse, (None, *SYNAPSES))
    chosen = [
        cell
        for cell in CELLS
        if cell[0] in (neurons or NEURONS) and cell[1] in (synapses or (None, *SYNAPSES))
    ]
    if not chosen:
        raise InputError(
            "expected at least one cell: only the neurons 'rate' have one without a synapse"
        )
    return chosen


def _rows(cell: tuple[str, float | None], measured: dict[str, dict], n_seeds: int) -> list[dict]:
    """Return a cell's rows of the report, with the published figures where there are any."""
    rows = []
    for readout, values in measured.items():
        # The paper has no other readout.
        figures = PUBLISHED[cell] if readout == "all_steps" else (None, None)
        rows.append(
            {"neurons": cell[0], "synapse": cell[1], "readout": readout, "n_seeds": n_seeds}
            | values
            | {"published_accuracy": figures[0], "published_loss": figures[1]}
        )
    return rows


def _rows_at_rest(
    layers: Sequence[LayerWeights], images: np.ndarray, labels: np.ndarray
) -> list[dict]:
    """Return the rows of LIF's curve at several scales, of on and off, and of ReLU."""
    curves = {
        ("relu", None): lambda drive: np.maximum(drive, 0.0),
        **{("lif", scale): lif_curve(scale) for scale in SCALES_AT_REST},
        ("on or off", SCALE): on_or_off,
    }
    rows = []
    for (neurons, scale), curve in curves.items():
        measured = measure(at_rest(layers, images, curve)[:, np.newaxis], labels)["last_step"]
        rows.append({"neurons": neurons, "scale": scale, "readout": "at_rest"} | measured)
    return rows


def _rates_asked(layers: Sequence[LayerWeights], images: np.ndarray) -> dict[str, dict[str, float]]:
    """Return how many neurons of each layer are active, and the median rate they should have."""
    found = activations(with_pools(layers, "average"), images)
    active = {layer.name: found[layer.name] > 0 for layer in layers[:-1]}
    return {
        name: {
            "active": round(float(above.mean()), 3),
            "median_rate": round(SCALE * float(np.median(found[name][above])), 1),
        }
        for name, above in active.items()
        if above.any()
    }


def _ann(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return {
        "accuracy": accuracy(logits.argmax(axis=1), labels).value,
        "loss": float(cross_entropy(logits, labels).mean()),
    }


def _table(cells: list[dict], readout: str, *, n_steps: int) -> str:
    """Write the accuracies and losses of a readout, a row for each neuron type."""
    rows = [cell for cell in cells if cell["readout"] == readout]
    columns = list(dict.fromkeys(row["synapse"] for row in rows))
    names = list(dict.fromkeys(row["neurons"] for row in rows))
    found = {(row["neurons"], row["synapse"]): row for row in rows}
    lines = [
        f"accuracy / cross-entropy: {READOUTS[readout]} ({n_steps} steps)",
        f"{'':<14}" + "".join(f"{_synapse(synapse):>15}" for synapse in columns),
    ]

    def line(title: str, name: str, prefix: str) -> str:
        texts = []
        for synapse in columns:
            row = found.get((name, synapse))
            text = "" if row is None else _figures(row[f"{prefix}accuracy"], row[f"{prefix}loss"])
            texts.append(f"{text:>15}")
        return f"{title:<14}{''.join(texts)}".rstrip()

    for name in names:
        lines.append(line(name, name, ""))
        if readout == "all_steps":
            lines.append(line("  published", name, "published_"))
    return "\n".join(lines)


def _synapse(synapse: float | None) -> str:
    return "no synapse" if synapse is None else f"{1000 * synapse:g} ms"


def _figures(share: float | None, loss: float | None) -> str:
    texts = ("-" if share is None else f"{share:.4f}", "-" if loss is None else f"{loss:.3f}")
    return " / ".join(texts)


def _table_at_rest(cells: list[dict]) -> tuple[str, ...]:
    """Write the rows at rest as a table, if there are any."""
    rows = [cell for cell in cells if cell["readout"] == "at_rest"]
    lines = [
        f"{row['neurons']:<14}{'' if row['scale'] is None else format(row['scale'], '.4g'):>10}"
        f"{_figures(row['accuracy'], row['loss']):>17}"
        for row in rows
    ]
    title = f"accuracy / cross-entropy: {_AT_REST}"
    return ("\n".join([title, f"{'':<14}{'scale':>10}", *lines]),) if rows else ()


def _claims(shares: dict[tuple[str, float | None], np.ndarray]) -> Iterator[str]:
    """Answer what the paper says of its table 1: falls, and which neurons are ahead."""
    ends = SYNAPSES[0], SYNAPSES[-1]
    for name in NEURONS:
        pair = [(name, synapse) for synapse in ends]
        if all(cell in shares for cell in pair):
            change, low, high, paper = _difference(shares, *reversed(pair))
            where = "within" if low <= paper <= high else "above" if paper > high else "below"
            yield (
                f"{name}, from {_synapse(ends[0])} to {_synapse(ends[1])}: {change:+.1f} points of "
                f"accuracy (95 % interval {low:+.1f} to {high:+.1f}); the paper's {paper:+.1f} is "
                f"{where} the interval"
            )
    for first, second in (("lif", "relu"), ("adaptive-lif", "lif")):
        pairs = [((first, synapse), (second, synapse)) for synapse in SYNAPSES]
        texts = [
            f"{_synapse(pair[0][1])} {_verdict(*_difference(shares, *pair))}"
            for pair in pairs
            if set(pair) <= shares.keys()
        ]
        if texts:
            yield f"{first} against {second}, in points of accuracy: {'; '.join(texts)}"


def _verdict(found: float, low: float, high: float, paper: float) -> str:
    """Write a difference; neither is ahead where the interval holds 0."""
    who = "level" if low <= 0 <= high else "ahead" if low > 0 else "behind"
    return f"{who}, {found:+.2f} ({low:+.2f} to {high:+.2f}; paper {paper:+.2f})"


def _difference(
    shares: dict[tuple[str, float | None], np.ndarray],
    first: tuple[str, float | None],
    second: tuple[str, float | None],
) -> tuple[float, float, float, float]:
    """Return how far a cell is ahead, its interval (same images, same seeds), and the paper's."""
    found = shares[first] - shares[second]
    # As if one more image differed: answers that agree on all images are no proof of none.
    mean, half = found.mean(), 1.96 * np.sqrt(_variance(found) + 1 / found.shape[1] ** 2)
    paper = PUBLISHED[first][0] - PUBLISHED[second][0]
    return tuple(100 * each for each in (mean, mean - half, mean + half, paper))


def _delays(curves: dict[tuple[str, float | None], np.ndarray]) -> Iterator[str]:
    """Say when each cell's accuracy comes to within 2 points of its last step's."""
    for name in NEURONS:
        steps = {
            _synapse(cell[1]): settled(curve, curve[-1], 0.02)
            for cell, curve in curves.items()
            if cell[0] == name and cell[1] is not None
        }
        if steps:
            yield (
                f"{name}: within 2 points of the last step's accuracy from step "
                f"{'/'.join(map(str, steps.values()))} on, at {'/'.join(steps)}"
            )


def _notes_at_rest(cells: list[dict]) -> Iterator[str]:
    """Say how far LIF's accuracy at rest is from ReLU's and from on and off, and at each scale."""
    found = {
        (cell["neurons"], cell["scale"]): 100 * cell["accuracy"]
        for cell in cells
        if cell["readout"] == "at_rest"
    }
    if found:
        lif, relu = found["lif", SCALE], found["relu", None]
        others = "/".join(f"{found['lif', scale] - lif:+.1f}" for scale in SCALES_AT_REST)
        yield (
            f"at rest: LIF's accuracy is {lif - relu:+.1f} points from ReLU's, and "
            f"{lif - found['on or off', SCALE]:+.1f} from that of neurons that are on or off; with "
            f"scales {'/'.join(f'{scale:.3g}' for scale in SCALES_AT_REST)} it changes by {others}"
        )


def _notes(result: Result, labels: np.ndarray, ann: Accuracy) -> tuple[str, ...]:
    curve = result.latency(labels)
    reached = settled(curve, ann.value)
    few = [n for n in (20, 30, 40, 50, 75, 100) if n <= result.n_steps]
    reached = (
        "it does not come within 1 percentage point of the ANN"
        if reached is None
        else f"from step {reached} on it stays within 1 percentage point of the ANN"
    )
    notes = [
        f"repaired: {reached}; after {'/'.join(map(str, few))} steps "
        f"{'/'.join(f'{curve[n - 1]:.4f}' for n in few)}"
    ]
    spikes = result.spikes_per_image()
    total = sum(n for label, n in spikes.items() if not label.endswith(_POOL))
    notes.append(
        f"repaired: {total:,.0f} spikes of neurons per image in {result.n_steps} steps; the max "
        "pools (running maximum) pass some of them on"
    )
    return tuple(notes)


class LogitCurves(NamedTuple):
    """Logits over time, as `nengonet.plots.plot_logits` takes them."""

    times: np.ndarray
    outputs: dict[str, np.ndarray]
    class_names: tuple[str, ...]
    titles: tuple[str, ...]
    labels: np.ndarray


def logit_curves(
    weights: str | os.PathLike | None = None,
    *,
    neurons: Sequence[str] = (),
    synapses: Sequence[float | None] = (),
    data_dir: str | os.PathLike | None = None,
    seed: int = 0,
) -> LogitCurves:
    """Show one training and one test image to each cell: the paper's figures 3 and 5.

    The captions of the paper's figures name the first training image, a frog; its notebook runs
    the first test image, a cat.
    """
    chosen = _chosen(neurons, synapses)
    _, layers = _layers(weights)
    shown = [
        datasets.load("cifar10", split=split, n_images=1, data_dir=data_dir)
        for split in ("train", "test")
    ]
    images, labels = (np.concatenate(each) for each in zip(*shown, strict=True))
    running = {"presentation_time": PRESENTATION_TIME, "progress": False}
    found = {
        cell: _logits_of_seeds(layers, cell, images, [seed], files_of_runs(None), running)[0]
        for cell in chosen
    }
    n_steps = len(next(iter(found.values()))[0])
    columns = sorted({synapse for _, synapse in chosen}, key=lambda synapse: synapse or 0.0)
    panels = list(itertools.product(range(len(images)), columns))
    nothing = np.full((len(images), n_steps, KERNELS[-1][-1]), np.nan)
    names = datasets.class_names("cifar10")
    return LogitCurves(
        times=PRESENTATION_TIME * np.arange(1, n_steps + 1) / n_steps,
        outputs={
            name: np.array([found.get((name, each), nothing)[image] for image, each in panels])
            for name in dict.fromkeys(name for name, _ in chosen)
        },
        class_names=names,
        titles=tuple(
            f"first {('training', 'test')[image]} image: {names[labels[image]]}\n{_synapse(each)}"
            for image, each in panels
        ),
        labels=labels[[image for image, _ in panels]],
    )
