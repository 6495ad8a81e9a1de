"""What several studies share: layers of a file, tunings of networks, words for figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import nengo
import numpy as np

import nengonet as nn
from nengonet.ann.activations import activations
from nengonet.ann.unweighted import Pool
from nengonet.tables import aligned

# Nengo's own default, stated: one voltage for each neuron, the same for all images.
INITIAL_STATE = {"voltage": nengo.dists.Uniform(0, 1)}
ZERO_STATE = {"voltage": nengo.dists.Choice([0.0])}
# Images whose activations are held at once: those of one take half a megabyte in a CNN.
_CHUNK = 100


def listed(weights: nn.Weights) -> str:
    """Return the layers of a file with kinds and shapes, for a message."""
    return ", ".join(
        f"{name} {layer.kind} {np.shape(layer.kernel)}" for name, layer in weights.items()
    )


def tuned(
    layers: Sequence[nn.LayerWeights | Pool],
    sample: np.ndarray,
    neuron_type: nengo.neurons.NeuronType,
    full_scale_rate: float | Sequence[float] | Mapping[str, float],
) -> nn.Tuned:
    """Tune a network; messages call the rate what the studies' option is called."""
    try:
        return nn.tune(layers, sample, neuron_type, full_scale_rate)
    except nn.InputError as error:
        raise nn.InputError(re.sub(r"^rate: ", "full_scale_rate: ", str(error))) from None


def scaled_firing_rates(scale: float) -> dict[str, float]:
    """Return the tuning of NengoDL's Converter with ``scale_firing_rates``."""
    tuning = nn.scale_firing_rates(1.0, 0.0, 1.0, scale)
    return dict(zip(("gain", "bias", "amplitude"), tuning, strict=True))


def add(layer: nn.Layer, weights: nn.LayerWeights, *neurons: object, **given: object) -> nn.Layer:
    """Add the layer that the kernel is of, as `nengonet.conv2d` or `nengonet.dense` does."""
    return (nn.conv2d if np.ndim(weights.kernel) == 4 else nn.dense)(
        layer, weights, *neurons, **given
    )


def layers_of_shapes(
    weights: nn.Weights, shapes: Sequence[tuple[int, ...]], what: str
) -> list[nn.LayerWeights]:
    """Return the layers whose kernels have these shapes, in this order, whatever their names."""
    by_shape = {np.shape(layer.kernel): layer for layer in weights.values()}
    if len(by_shape) != len(weights) or set(by_shape) != set(shapes):
        raise nn.InputError(
            f"{weights.path}: expected {what} layers, with kernels of the shapes "
            f"{', '.join(map(str, shapes))}, got {listed(weights)}"
        )
    return [by_shape[shape] for shape in shapes]


def in_chunks(compute: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """Compute something of every image, with few in memory at once."""
    starts = range(0, len(images), _CHUNK)
    return np.concatenate([compute(images[start : start + _CHUNK]) for start in starts])


def logits_of(layers: Sequence[nn.LayerWeights | Pool], images: np.ndarray) -> np.ndarray:
    """Compute the logits of the ANN."""
    return in_chunks(lambda few: list(activations(layers, few).values())[-1], images)


def ann_accuracy(
    layers: Sequence[nn.LayerWeights | Pool], images: np.ndarray, labels: np.ndarray
) -> nn.Accuracy:
    """Return the accuracy of the ANN."""
    return nn.readout.accuracy(logits_of(layers, images).argmax(axis=1), labels)


def fields(accuracy: nn.Accuracy) -> dict[str, object]:
    """Return what a row of a report says of an accuracy."""
    interval, n_images = list(accuracy.interval), accuracy.n_images
    return {"accuracy": accuracy.value, "interval": interval, "n_images": n_images}


def settled(curve: np.ndarray, target: float, margin: float = 0.01) -> int | None:
    """Return the number of steps from which on a latency curve stays near an accuracy, or above."""
    # Differences of shares are not exact.
    below = np.flatnonzero(np.asarray(curve) < target - margin - 1e-9)
    steps = 1 if below.size == 0 else int(below[-1]) + 2
    return steps if steps <= len(curve) else None


def slashed(values: Iterable[float], form: str = "g") -> str:
    """Write figures side by side."""
    return "/".join(format(value, form) for value in values)


def after(curve: np.ndarray, steps: Sequence[int]) -> str:
    """Write a latency curve at some of its steps."""
    few = [n for n in steps if n <= len(curve)]
    return f"after {slashed(few)} steps {slashed((curve[n - 1] for n in few), '.4f')}"


def crossed(title: str, texts: Mapping[tuple[str, str], str]) -> str:
    """Write texts by row and column as a table; what is missing is left blank."""
    rows, columns = (list(dict.fromkeys(each)) for each in zip(*texts, strict=True))
    body = [[row, *(texts.get((row, each), "") for each in columns)] for row in rows]
    return "\n".join([title, *aligned([["", *columns], *body], left=(0,))])


def synapse_text(synapse: float | None, none: str = "no synapse") -> str:
    """Write a synapse in milliseconds."""
    return none if synapse is None else f"{1000 * synapse:g} ms"
