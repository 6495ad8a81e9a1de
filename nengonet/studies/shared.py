"""What several studies share: layers of a file, tunings of networks, words for figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import nengo
import numpy as np

from nengonet.ann.activations import Pool, activations
from nengonet.ann.scaling import scale_firing_rates
from nengonet.checks import as_number
from nengonet.exceptions import InputError
from nengonet.layers.record import Layer
from nengonet.neurons import current_at
from nengonet.tables import aligned
from nengonet.weights import LayerWeights, Weights

# Nengo's own default, stated: one voltage for each neuron, the same for all images.
INITIAL_STATE = {"voltage": nengo.dists.Uniform(0, 1)}
# Images whose activations are held at once: those of one take half a megabyte in a CNN.
_CHUNK = 100


def listed(weights: Weights) -> str:
    """Return the layers of a file with kinds and shapes, for a message."""
    return ", ".join(
        f"{name} {layer.kind} {np.shape(layer.kernel)}" for name, layer in weights.items()
    )


def matched(neuron_type: nengo.neurons.NeuronType, scale: float, rate: float) -> dict[str, float]:
    """Return the tuning with which an activation of ``scale`` fires at ``rate`` Hz.

    The mean output is then the activation, where the neuron's curve is a line.
    """
    rate = as_number("full_scale_rate", rate, "a rate in Hz", above=0)
    return {
        "gain": current_at(neuron_type, rate) / scale,
        "bias": 0.0,
        "amplitude": scale / rate,
    }


def scaled_firing_rates(scale: float) -> dict[str, float]:
    """Return the tuning of NengoDL's Converter with ``scale_firing_rates``."""
    gain, bias, amplitude = scale_firing_rates(1.0, 0.0, 1.0, scale)
    return {"gain": gain, "bias": bias, "amplitude": amplitude}


def tuning_of(output: Layer) -> dict[str, dict[str, float | None]]:
    """Return gain, bias and amplitude of every layer whose neurons have one gain.

    A bias is left out where every neuron has its own, as with Keras biases.
    """
    tuning = {}
    for layer in output.upstream():
        if layer.ensemble is not None:
            bias = layer.ensemble.bias
            tuning[layer.label] = {
                "gain": float(layer.ensemble.gain[0]),
                **({"bias": float(bias[0])} if np.all(bias == bias[0]) else {}),
                "amplitude": layer.amplitude,
            }
    return tuning


def layers_of_shapes(
    weights: Weights, shapes: Sequence[tuple[int, ...]], what: str
) -> list[LayerWeights]:
    """Return the layers whose kernels have these shapes, in this order, whatever their names."""
    by_shape = {np.shape(layer.kernel): layer for layer in weights.values()}
    if len(by_shape) != len(weights) or set(by_shape) != set(shapes):
        expected = ", ".join(map(str, shapes))
        raise InputError(
            f"{weights.path}: expected {what} layers, with kernels of the shapes {expected}, "
            f"got {listed(weights)}"
        )
    return [by_shape[shape] for shape in shapes]


def in_chunks(compute: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """Compute something of every image, with few in memory at once."""
    starts = range(0, len(images), _CHUNK)
    return np.concatenate([compute(images[start : start + _CHUNK]) for start in starts])


def logits_of(layers: Sequence[LayerWeights | Pool], images: np.ndarray) -> np.ndarray:
    """Compute the logits of the ANN."""
    return in_chunks(lambda few: list(activations(layers, few).values())[-1], images)


def settled(curve: np.ndarray, target: float, margin: float = 0.01) -> int | None:
    """Return the number of steps from which on a latency curve stays near an accuracy, or above."""
    # Differences of shares are not exact.
    below = np.flatnonzero(np.asarray(curve) < target - margin - 1e-9)
    steps = 1 if below.size == 0 else int(below[-1]) + 2
    return steps if steps <= len(curve) else None


def after(curve: np.ndarray, steps: Sequence[int]) -> str:
    """Write a latency curve at some of its steps."""
    few = [n for n in steps if n <= len(curve)]
    accuracies = "/".join(f"{curve[n - 1]:.4f}" for n in few)
    return f"after {'/'.join(map(str, few))} steps {accuracies}"


def crossed(texts: Mapping[tuple[str, str], str]) -> list[str]:
    """Write texts by row and column as a table; what is missing is left blank."""
    rows, columns = (list(dict.fromkeys(each)) for each in zip(*texts, strict=True))
    body = [[row, *(texts.get((row, each), "") for each in columns)] for row in rows]
    return aligned([["", *columns], *body], left=(0,))
