"""The ANN in NumPy: its activations, and how large they get."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from nengonet.ann.kinds import activate, drive_of, given_activation, kind_of, shape_after
from nengonet.ann.unweighted import Merge, Unweighted
from nengonet.checks import as_number, as_numbers, as_pixels, described
from nengonet.exceptions import InputError
from nengonet.weights import LayerWeights


def activations(
    layers: Iterable[LayerWeights | Unweighted], images: ArrayLike
) -> dict[str, np.ndarray]:
    """Compute the activations of a Keras MLP or CNN.

    Every layer with weights is followed by the activation that its file gives. If it gives none,
    that is ReLU, except after the last layer, where it is linear.

    Parameters
    ----------
    layers : iterable of LayerWeights, Pool, Padding and Merge
        Dense layers, convolutions and pools, from the first to the last. Strides, padding, groups
        and dilation are those of the file, else Keras' defaults. Each layer takes the values of the
        one before it. A `nengonet.ann.unweighted.Merge` takes those of the layers that it names:
        with it, branches begin and come together.
    images : (n_images, ...) array_like
        ``(n_images, rows, columns, channels)``, or ``(n_images, rows, columns)`` for one channel.
        A Dense layer flattens its input in (row, column, channel) order, images too.

    Returns
    -------
    activations : dict of ndarray
        Activations by layer name, in order: ``(n_images, n_units)`` for Dense layers and global
        pools, ``(n_images, rows, columns, channels)`` for the others. Those of the last weight
        layer are its logits, before any softmax. A repeated name gets ``_2``, ``_3`` and so on.

    Raises
    ------
    InputError
        A layer does not fit the one before, or its kind or activation is not supported.

    Examples
    --------
    >>> from nengonet.ann.activations import activations
    >>> weights = nn.load_weights(nn.pretrained("mnist_dense"))
    >>> images, labels = nn.datasets.load("mnist", n_images=5)
    >>> found = activations(list(weights.values()), images)
    >>> {name: values.shape for name, values in found.items()}
    {'hidden': (5, 128), 'output': (5, 10)}
    >>> found["output"].argmax(axis=1).tolist(), labels.tolist()
    ([7, 2, 1, 0, 4], [7, 2, 1, 0, 4])
    """
    named = by_name(layers)
    last = last_weights(named)

    def computed(name: str, inputs: list[np.ndarray], before: str) -> np.ndarray:
        layer = named[name]
        _shape_of(layer, [values.shape[1:] for values in inputs], before)
        if isinstance(layer, Unweighted):
            return layer.of_values(inputs)
        given = given_activation(layer, last=name == last)
        return activate(given or ("linear" if name == last else "relu"), drive_of(layer, *inputs))

    return _through(named, as_pixels(images), computed)


def multiply_adds(
    layers: Iterable[LayerWeights | Unweighted], shape: Sequence[int]
) -> dict[str, int]:
    """Count the multiply-adds of the ANN for one image, layer by layer.

    Parameters
    ----------
    layers : iterable of LayerWeights, Pool, Padding and Merge
        As for `activations`.
    shape : sequence of int
        Shape of one image: ``(rows, columns, channels)``, ``(rows, columns)`` or ``(n_pixels,)``.

    Returns
    -------
    counts : dict of int
        Counts by layer name, in order. A convolution counts its whole kernel at every output
        position, although with padding 'same' some of these products involve only padding. Pools
        and biases multiply nothing and count 0.

    Examples
    --------
    >>> from nengonet.ann.activations import multiply_adds
    >>> weights = nn.load_weights(nn.pretrained("mnist_dense"))
    >>> multiply_adds(list(weights.values()), (28, 28))
    {'hidden': 100352, 'output': 1280}
    """
    named = by_name(layers)
    shapes = _through(
        named, tuple(shape), lambda name, shapes, before: _shape_of(named[name], shapes, before)
    )
    return {
        name: 0 if isinstance(layer, Unweighted) else kind_of(layer).multiply_adds(layer, shape)
        for (name, layer), shape in zip(named.items(), shapes.values(), strict=True)
    }


def sources(named: dict[str, LayerWeights | Unweighted]) -> dict[str, tuple[str, ...]]:
    """Return the names of the layers that feed each layer, ``"images"`` for the images."""
    before, found = "images", {}
    for name, layer in named.items():
        found[name] = layer.of if isinstance(layer, Merge) else (before,)
        for each in found[name]:
            if each != "images" and (each not in found or each == name):
                raise InputError(
                    f"{name}: of: expected layers before it "
                    f"({', '.join(['images', *list(found)[:-1]])}), got {each!r}"
                )
        before = name
    return found


def _through(
    named: dict[str, LayerWeights | Unweighted], images: object, made: Callable
) -> dict[str, object]:
    """Apply a function to each layer's inputs, from the images on; return the results by name."""
    found = {"images": images}
    for name, of in sources(named).items():
        before = " and ".join("the images" if each == "images" else each for each in of)
        found[name] = made(name, [found[each] for each in of], before)
    return {name: found[name] for name in named}


def _shape_of(
    layer: LayerWeights | Unweighted, shapes: list[tuple[int, ...]], before: str
) -> tuple[int, ...]:
    """Return the output shape of a layer for its input shapes."""
    if isinstance(layer, Unweighted):
        return layer.of_shapes(shapes, before)
    return shape_after(layer, *shapes, pre_label=before)


def full_scale(values: np.ndarray, percentile: float = 99.9) -> float:
    """Return the activation that counts as a layer's largest.

    Parameters
    ----------
    values : (n_images, ...) array_like
        Activations of any shape.
    percentile : float
        Percentile over all units and images; a maximum would follow one outlier.

    Returns
    -------
    scale : float, above 0

    Raises
    ------
    InputError
        No activation is above 0.

    Examples
    --------
    >>> from nengonet.ann.activations import full_scale
    >>> full_scale(np.linspace(0.0, 2.0, 1001), percentile=50)
    1.0
    """
    values = as_numbers("values", values)
    if values.size == 0:
        raise InputError(f"values: expected at least one activation, got shape {values.shape}")
    percentile = as_number("percentile", percentile, "a percentile", at_least=0, at_most=100)
    largest = float(np.max(values))
    if not largest > 0:
        raise InputError(
            "expected activations above 0 to choose a gain from, got none: the largest is "
            f"{largest:.4g}"
        )
    scale = float(np.percentile(values, percentile))
    return scale if scale > 0 else largest


def by_name(layers: Iterable[LayerWeights | Unweighted]) -> dict[str, LayerWeights | Unweighted]:
    """Return the layers by name; a repeated name gets ``_2``, ``_3`` and so on."""
    named: dict[str, LayerWeights | Unweighted] = {}
    several = isinstance(layers, Iterable) and not isinstance(layers, str)
    for layer in layers if several else [layers]:
        if not isinstance(layer, (LayerWeights, Unweighted)):
            raise InputError(
                f"layers: expected LayerWeights and Pool, got {described(layer)}{_loaded(layer)}"
            )
        name, count = layer.name, 1
        while name in named:
            count += 1
            name = f"{layer.name}_{count}"
        named[name] = layer
    return named


def _loaded(given: object) -> str:
    """Return what to do with the names of weights, with their file or with a Keras model."""
    if isinstance(given, str | os.PathLike):
        return "; of a file, give nengonet.load_weights(file).values()"
    if hasattr(given, "get_weights"):
        return "; save the Keras model, and give nengonet.load_weights(file).values()"
    return ""


def last_weights(named: dict[str, LayerWeights | Unweighted]) -> str | None:
    """Return the name of the last layer with weights, which is linear; None if there is none."""
    names = [name for name, layer in named.items() if not isinstance(layer, Unweighted)]
    return names[-1] if names else None
