"""Rate predictions in NumPy: what the ANN computes, and how large its activations get."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from nengonet.ann.kinds import Pool, activate, drive_of, given_activation, shape_after
from nengonet.checks import as_number, as_numbers, as_pixels
from nengonet.exceptions import InputError
from nengonet.weights import LayerWeights


def activations(layers: Iterable[LayerWeights | Pool], images: np.ndarray) -> dict[str, np.ndarray]:
    """Compute what a Keras MLP or CNN computes.

    After every layer with weights comes the activation that its file gives; where it gives none,
    ReLU, and nothing after the last.

    Parameters
    ----------
    layers : iterable of LayerWeights and Pool
        Dense, Conv2D and DepthwiseConv2D layers and pools, from the first to the last. Strides,
        padding and groups are the file's, else Keras' defaults (1, 1), 'valid' and 1.
    images : (n_images, ...) array_like
        ``(n_images, rows, columns, channels)``, or ``(n_images, rows, columns)`` for one channel.
        A Dense layer flattens what comes before it in (row, column, channel) order, images too.

    Returns
    -------
    activations : dict of ndarray
        By layer name, in order: ``(n_images, n_units)`` for Dense layers and global pools,
        ``(n_images, rows, columns, channels)`` for the rest. The last weight layer's are its
        logits, before any softmax. A name that comes again gets ``_2``, ``_3`` and so on.

    Raises
    ------
    InputError
        A layer does not fit the one before, or its kind or activation is not computed here.
    """
    named = by_name(layers)
    values = as_pixels(images)
    last = last_weights(named)
    before, found = "the images", {}
    for name, layer in named.items():
        shape_after(layer, values.shape[1:], pre_label=before)
        if isinstance(layer, Pool):
            values = layer.values(values)
        else:
            given = given_activation(layer, last=name == last)
            default = "linear" if name == last else "relu"
            values = activate(given or default, drive_of(layer, values))
        found[name], before = values, name
    return found


def multiply_adds(layers: Iterable[LayerWeights | Pool], shape: Sequence[int]) -> dict[str, int]:
    """Count the multiply-adds of the ANN for one image, layer by layer.

    Parameters
    ----------
    layers : iterable of LayerWeights and Pool
        As for `activations`.
    shape : sequence of int
        Of one image: ``(rows, columns, channels)``, ``(rows, columns)`` or ``(n_pixels,)``.

    Returns
    -------
    counts : dict of int
        By layer name, in order. A convolution counts its whole kernel at every output position;
        with the padding 'same', some of these products are with padding. Pools and biases multiply
        nothing and count 0.
    """
    before, counts = "the images", {}
    for name, layer in by_name(layers).items():
        shape = shape_after(layer, shape, pre_label=before)
        counts[name] = 0 if isinstance(layer, Pool) else math.prod(shape[:-1]) * layer.kernel.size
        before = name
    return counts


def full_scale(values: np.ndarray, percentile: float = 99.9) -> float:
    """Return the activation that counts as a layer's largest.

    Parameters
    ----------
    values : (n_images, ...) array_like
        Of any shape.
    percentile : float
        Taken over all units and images; a maximum would follow one outlier.

    Returns
    -------
    scale : float, above 0

    Raises
    ------
    InputError
        No activation is above 0.
    """
    values = as_numbers("values", values)
    if values.size == 0:
        raise InputError(f"values: expected at least one activation, got shape {values.shape}")
    percentile = as_number("percentile", percentile, "a percentile", at_least=0, at_most=100)
    largest = float(np.max(values))
    if not largest > 0:
        raise InputError(
            "expected activations above 0 to choose a gain by, got none: the largest is "
            f"{largest:.4g}"
        )
    scale = float(np.percentile(values, percentile))
    return scale if scale > 0 else largest


def by_name(layers: Iterable[LayerWeights | Pool]) -> dict[str, LayerWeights | Pool]:
    """Return the layers by name; a name that comes again gets ``_2``, ``_3`` and so on."""
    named: dict[str, LayerWeights | Pool] = {}
    for layer in layers if isinstance(layers, Iterable) else [layers]:
        if not isinstance(layer, (LayerWeights, Pool)):
            raise InputError(
                f"layers: expected LayerWeights and Pool, got {type(layer).__name__}; of "
                "loaded weights, take the values()"
            )
        name, count = layer.name, 1
        while name in named:
            count += 1
            name = f"{layer.name}_{count}"
        named[name] = layer
    return named


def last_weights(named: dict[str, LayerWeights | Pool]) -> str | None:
    """Return the name of the last layer with weights, the linear one; None where there is none."""
    names = [name for name, layer in named.items() if not isinstance(layer, Pool)]
    return names[-1] if names else None
