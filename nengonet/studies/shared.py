"""Functions that several studies share: layers of a file, tunings, and words for figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import nengo
import numpy as np

import nengonet as nn
from nengonet.ann.activations import activations
from nengonet.ann.unweighted import Pool
from nengonet.minibatch.one_thread import on_one_blas_thread
from nengonet.run.parallel import n_processes
from nengonet.tables import aligned

# Nengo's own default, stated explicitly: each neuron has one voltage, the same for all images.
INITIAL_STATE = {"voltage": nengo.dists.Uniform(0, 1)}
ZERO_STATE = {"voltage": nengo.dists.Choice([0.0])}
# The number of images whose activations are held at once. In a CNN, one image's activations take
# half a megabyte.
_CHUNK = 100


def listed(weights: nn.Weights) -> str:
    """List the layers of a file with their kinds and shapes, for a message."""
    return ", ".join(
        f"{name} {layer.kind} {np.shape(layer.kernel)}" for name, layer in weights.items()
    )


def tuned(
    layers: Sequence[nn.LayerWeights | Pool],
    sample: np.ndarray,
    neuron_type: nengo.neurons.NeuronType,
    full_scale_rate: float | Sequence[float] | Mapping[str, float],
) -> nn.Tuned:
    """Tune a network; messages call the rate by the name of the studies' option."""
    try:
        return nn.tune(layers, sample, neuron_type, full_scale_rate)
    except nn.InputError as error:
        raise nn.InputError(re.sub(r"^rate: ", "full_scale_rate: ", str(error))) from None


def scaled_firing_rates(scale: float) -> dict[str, float]:
    """Return the tuning of NengoDL's Converter with ``scale_firing_rates``."""
    tuning = nn.scale_firing_rates(1.0, 0.0, 1.0, scale)
    return dict(zip(("gain", "bias", "amplitude"), tuning, strict=True))


def add(layer: nn.Layer, weights: nn.LayerWeights, *neurons: object, **given: object) -> nn.Layer:
    """Add the kernel's kind of layer, as `nengonet.conv2d` or `nengonet.dense` does."""
    return (nn.conv2d if np.ndim(weights.kernel) == 4 else nn.dense)(
        layer, weights, *neurons, **given
    )


def layers_of_shapes(
    weights: nn.Weights, shapes: Sequence[tuple[int, ...]], what: str
) -> list[nn.LayerWeights]:
    """Return the layers whose kernels have these shapes, in this order. Names do not matter."""
    by_shape = {np.shape(layer.kernel): layer for layer in weights.values()}
    if len(by_shape) != len(weights) or set(by_shape) != set(shapes):
        raise nn.InputError(
            f"{weights.path}: expected {what} layers, with kernels of the shapes "
            f"{', '.join(map(str, shapes))}, got {listed(weights)}"
        )
    return [by_shape[shape] for shape in shapes]


@on_one_blas_thread
def in_chunks(compute: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """Call a function on all images, a few at a time to save memory, on all cores."""
    chunks = [images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
    with ThreadPoolExecutor(n_processes(-1)) as pool:
        return np.concatenate(list(pool.map(compute, chunks)))


def logits_of(layers: Sequence[nn.LayerWeights | Pool], images: np.ndarray) -> np.ndarray:
    """Compute the logits of the ANN."""
    return in_chunks(lambda few: list(activations(layers, few).values())[-1], images)


def ann_accuracy(
    layers: Sequence[nn.LayerWeights | Pool], images: np.ndarray, labels: np.ndarray
) -> nn.Accuracy:
    """Return the accuracy of the ANN."""
    return nn.readout.accuracy(logits_of(layers, images).argmax(axis=1), labels)


def fields(accuracy: nn.Accuracy) -> dict[str, object]:
    """Return the fields of an accuracy for a row of a report."""
    interval, n_images = list(accuracy.interval), accuracy.n_images
    return {"accuracy": accuracy.value, "interval": interval, "n_images": n_images}


def settled(curve: np.ndarray, target: float, margin: float = 0.01) -> int | None:
    """Return the step from which a latency curve stays near the target, or above it."""
    # Differences of shares are subject to rounding.
    below = np.flatnonzero(np.asarray(curve) < target - margin - 1e-9)
    steps = 1 if below.size == 0 else int(below[-1]) + 2
    return steps if steps <= len(curve) else None


def slashed(values: Iterable[float], form: str = "g") -> str:
    """Join figures with slashes."""
    return "/".join(format(value, form) for value in values)


def after(curve: np.ndarray, steps: Sequence[int]) -> str:
    """Write the values of a latency curve at some of its steps."""
    few = [n for n in steps if n <= len(curve)]
    return f"after {slashed(few)} steps {slashed((curve[n - 1] for n in few), '.4f')}"


def crossed(title: str, texts: Mapping[tuple[str, str], str]) -> str:
    """Write texts by row and column as a table, with blanks for missing cells."""
    rows, columns = (list(dict.fromkeys(each)) for each in zip(*texts, strict=True))
    body = [[row, *(texts.get((row, each), "") for each in columns)] for row in rows]
    return "\n".join([title, *aligned([["", *columns], *body], left=(0,))])


def synapse_text(synapse: float | None, none: str = "no synapse") -> str:
    """Write a synapse in milliseconds."""
    return none if synapse is None else f"{1000 * synapse:g} ms"
