"""Layers of the ANN without weights: pools, padding, and merges of branches."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from nengonet.ann import convolution
from nengonet.checks import check_among, positive_integer, quoted
from nengonet.exceptions import InputError


class Unweighted:
    """A layer of the ANN without weights. One layer feeds it, unless it is a Merge.

    Examples
    --------
    >>> from nengonet.ann.unweighted import Pool, Unweighted
    >>> isinstance(Pool("max"), Unweighted)
    True
    """

    def of_shapes(self, shapes: Sequence[tuple[int, ...]], before: str) -> tuple[int, ...]:
        """Return the output shape for the shapes of the layers named ``before``."""
        return self.shape_after(*shapes, before)

    def of_values(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Return the output for values, (n_images, ...) each."""
        return self.values(*values)


class _Spatial(Unweighted):
    """A layer that works on (rows, columns, channels) or (steps, channels)."""

    def with_channels(self, shape: Sequence[int], before: str = "the images") -> tuple[int, ...]:
        """Return the shape of the layer before with its channels, checked."""
        shape = with_channels(shape, self.dimensions)
        if len(shape) != self.dimensions + 1:
            raise InputError(
                f"{self.name}: {self.what} takes ({convolution.AXES[self.dimensions]}, channels), "
                f"but the layer before it, {before}, has shape {shape}"
            )
        return shape


@dataclasses.dataclass(frozen=True)
class Pool(_Spatial):
    """State a pooling layer of the ANN, between two layers with weights.

    Parameters
    ----------
    kind : {'max', 'average', 'global_average', 'global_max'}
        A global pool takes the mean or the maximum of every channel; it has no size, strides or
        padding.
    size : int or sequence of int
        Size of the window, in rows and columns, or in steps.
    strides : int or sequence of int, optional
        By default the size.
    padding : {'valid', 'same'}
    name : str
    dimensions : {2, 1}
        Dimensions of the input: 2 for ``(rows, columns, channels)``, 1 for ``(steps, channels)``.

    Raises
    ------
    InputError
        The kind or padding is unknown, or a size or stride is not a whole number above 0.

    Examples
    --------
    >>> from nengonet.ann.unweighted import Pool
    >>> Pool("average", size=3, strides=2)
    Pool(kind='average', size=3, strides=2, padding='valid', name='pool', dimensions=2)
    """

    kind: str = "max"
    size: int | Sequence[int] = 2
    strides: int | Sequence[int] | None = None
    padding: str = "valid"
    name: str = "pool"
    dimensions: int = 2
    what: ClassVar[str] = "a pool"

    def __post_init__(self):
        if self.kind not in _POOLS:
            raise InputError(
                f"{self.name}: kind: expected {', '.join(map(repr, _POOLS))}, "
                f"got {quoted(self.kind)}"
            )
        object.__setattr__(self, "padding", convolution.as_padding(self.padding))
        if self.dimensions not in convolution.AXES:
            raise InputError(
                f"{self.name}: dimensions: expected 1 or 2, got {quoted(self.dimensions)}"
            )
        # A window always fits an image of its size, so this checks the arguments only.
        with named(self.name):
            geometry = self.geometry()
            convolution.output_shape(geometry[0], *geometry)

    @property
    def is_global(self) -> bool:
        """Whether there is one window, the whole image."""
        return self.kind.startswith("global")

    def geometry(
        self, shape: tuple[int, ...] | None = None
    ) -> tuple[tuple[int, ...], tuple[int, ...], str]:
        """Return size, strides and padding; those of a global pool need a shape."""
        if self.is_global and shape is not None:
            return shape[:-1], (1,) * self.dimensions, "valid"
        size = convolution.as_lengths("size", self.size, self.dimensions)
        strides = size if self.strides is None else self.strides
        return size, convolution.as_lengths("strides", strides, self.dimensions), self.padding

    def shape_after(self, shape: tuple[int, ...], before: str) -> tuple[int, ...]:
        """Return the pool's output shape for the shape of the layer before."""
        shape = self.with_channels(shape, before)
        if self.is_global:
            return shape[-1:]
        with named(self.name):
            return (*convolution.output_shape(shape, *self.geometry()), shape[-1])

    def values(self, values: np.ndarray) -> np.ndarray:
        """Return the pool's output for values, (n_images, rows, columns, channels)."""
        shape = self.with_channels(values.shape[1:])
        geometry = () if self.is_global else self.geometry()
        return _POOLS[self.kind](values.reshape(len(values), *shape), *geometry)


_POOLS = {
    "max": convolution.max_pool,
    "average": convolution.average_pool,
    "global_average": convolution.global_average_pool,
    "global_max": convolution.global_max_pool,
}


@dataclasses.dataclass(frozen=True)
class Padding(_Spatial):
    """State a ZeroPadding layer of the ANN.

    Parameters
    ----------
    padding : int, or for every dimension an int or (before, after)
        Padding as Keras takes it: rows and columns of zeros around an image, or steps.
    name : str
    dimensions : {2, 1}

    Examples
    --------
    >>> from nengonet.ann.unweighted import Padding
    >>> Padding(((1, 2), (0, 0)))
    Padding(padding=((1, 2), (0, 0)), name='zero_padding', dimensions=2)
    """

    padding: object = 1
    name: str = "zero_padding"
    dimensions: int = 2
    what: ClassVar[str] = "zero padding"

    def __post_init__(self):
        self.widths()

    def widths(self) -> list[tuple[int, int]]:
        """Return how many zeros go before and after, along every dimension."""
        given = [self.padding] * self.dimensions if np.ndim(self.padding) == 0 else self.padding
        if self.dimensions == 1 and np.ndim(self.padding) == 1:
            given = [self.padding]
        with named(self.name):
            pairs = [(each, each) if np.ndim(each) == 0 else tuple(each) for each in given]
            if len(pairs) != self.dimensions or {len(each) for each in pairs} != {2}:
                each = {1: "(before, after)", 2: "((top, bottom), (left, right))"}
                raise InputError(
                    f"padding: expected a whole number or {each[self.dimensions]}, got "
                    f"{self.padding!r}"
                )
            return [
                tuple(positive_integer("padding", n, at_least=0) for n in each) for each in pairs
            ]

    def shape_after(self, shape: tuple[int, ...], before: str) -> tuple[int, ...]:
        """Return the shape with its padding."""
        shape = self.with_channels(shape, before)
        lengths = (n + sum(pair) for n, pair in zip(shape, self.widths(), strict=False))
        return (*lengths, shape[-1])

    def values(self, values: np.ndarray) -> np.ndarray:
        """Return the values with zeros around them."""
        values = values.reshape(len(values), *self.with_channels(values.shape[1:]))
        return np.pad(values, [(0, 0), *self.widths(), (0, 0)])


@dataclasses.dataclass(frozen=True)
class Merge(Unweighted):
    """State where the branches of an ANN come together, or where one begins.

    Parameters
    ----------
    kind : {'add', 'concatenate'}
    of : str or sequence of str
        Names of the layers whose values are merged, ``"images"`` for the images. With one name, a
        branch begins: the layers that follow work on that layer's values.
    activation : {'linear', 'relu'}
        Activation applied to the merged values, as by a Keras layer after the merge.
    axis : int
        Axis that ``'concatenate'`` joins, among an image's own axes.
    name : str

    Raises
    ------
    InputError
        The kind is unknown, or no name is given.

    Examples
    --------
    >>> from nengonet.ann.unweighted import Merge
    >>> Merge("add", of=["conv_2", "images"], activation="relu")
    Merge(kind='add', of=('conv_2', 'images'), activation='relu', axis=-1, name='merge')
    """

    kind: str = "add"
    of: str | Sequence[str] = ()
    activation: str = "linear"
    axis: int = -1
    name: str = "merge"

    def __post_init__(self):
        object.__setattr__(self, "of", (self.of,) if isinstance(self.of, str) else tuple(self.of))
        check_among(f"{self.name}: kind", self.kind, ("add", "concatenate"))
        check_among(f"{self.name}: activation", self.activation, ("linear", "relu"))
        if isinstance(self.axis, bool) or not isinstance(self.axis, (int, np.integer)):
            raise InputError(f"{self.name}: axis: expected a whole number, got {quoted(self.axis)}")
        if not self.of or not all(isinstance(each, str) for each in self.of):
            raise InputError(f"{self.name}: of: expected names of layers, got {quoted(self.of)}")

    def of_shapes(self, shapes: Sequence[tuple[int, ...]], before: str) -> tuple[int, ...]:
        """Return the shape of the sum, or of all side by side."""
        shapes, axis = [tuple(shape) for shape in shapes], self.axis
        n_axes, rest = len(shapes[0]), shapes
        if self.kind == "concatenate":
            if not -n_axes <= axis < n_axes:
                raise InputError(
                    f"{self.name}: axis: expected one of the {n_axes} axes of shape {shapes[0]}, "
                    f"got {axis}"
                )
            axis %= n_axes
            rest = [(*shape[:axis], *shape[axis + 1 :]) for shape in shapes]
        if len(set(rest)) > 1:
            but = "" if self.kind == "add" else f", but for axis {self.axis}"
            raise InputError(
                f"{self.name}: expected one shape of {before}{but}, got "
                f"{', '.join(map(str, shapes))}"
            )
        if self.kind == "add":
            return shapes[0]
        return (*rest[0][:axis], sum(shape[axis] for shape in shapes), *rest[0][axis:])

    def of_values(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Return the sum, or all side by side."""
        axis = self.axis + 1 if self.axis >= 0 else self.axis
        made = sum(values) if self.kind == "add" else np.concatenate(values, axis)
        return np.maximum(made, 0.0) if self.activation == "relu" else made


def with_channels(shape: Sequence[int], dimensions: int = 2) -> tuple[int, ...]:
    """Return a shape with channels; ``(rows, columns)`` and ``(steps,)`` have one channel."""
    return (*shape, 1) if len(shape) == dimensions else tuple(shape)


@contextlib.contextmanager
def named(name: object) -> Iterator[None]:
    """Put a name in front of an error."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
