"""Rate predictions in NumPy: what the ANN computes, and how large its activations get."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nengonet.exceptions import InputError
from nengonet.weights import LayerWeights


def activations(layers: Iterable[LayerWeights], images: np.ndarray) -> dict[str, np.ndarray]:
    """Compute what a Keras MLP computes: ReLU after every layer but the last.

    Parameters
    ----------
    layers : iterable of LayerWeights
        Dense layers, from the first to the last.
    images : (n_images, ...) array_like
        Flattened in (row, column, channel) order.

    Returns
    -------
    activations : dict of (n_images, n_units) ndarray
        By layer name, in order. The last layer's are its logits, before any softmax.

    Raises
    ------
    InputError
        A kernel does not fit the layer before, or a layer's own file says that it has another
        activation.
    """
    layers = list(layers)
    values = np.asarray(images, dtype=np.float64)
    values = values.reshape(len(values), -1)
    found = {}
    for layer in layers:
        layer.check_inputs(values.shape[1])
        last = layer is layers[-1]
        expected = ("linear", "softmax") if last else ("relu",)
        activation = layer.config.get("activation", expected[0])
        if activation not in expected:
            raise InputError(
                f"{layer.name}: expected the activation {' or '.join(expected)}, found {activation}"
            )
        values = values @ layer.kernel
        if layer.bias is not None:
            values = values + layer.bias
        if not last:
            values = np.maximum(values, 0.0)
        found[layer.name] = values
    return found


def full_scale(values: np.ndarray, percentile: float = 99.9) -> float:
    """Return the activation that counts as a layer's largest.

    Parameters
    ----------
    values : (n_images, n_units) ndarray
    percentile : float
        Taken over all units and images; a maximum would follow one outlier (Rueckauer 2017).

    Returns
    -------
    scale : float, above 0

    Raises
    ------
    InputError
        No activation is above 0.
    """
    scale = float(np.percentile(values, percentile))
    if not scale > 0:
        scale = float(np.max(values))
    if not scale > 0:
        raise InputError(
            "expected activations above 0 to choose a gain by, found none: the largest is "
            f"{float(np.max(values)):.4g}"
        )
    return scale
