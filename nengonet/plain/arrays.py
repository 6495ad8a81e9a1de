"""The sources of a script's arrays: files of weights, data sets, or a file beside the script."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence

import numpy as np

from nengonet import datasets
from nengonet.exceptions import InputError
from nengonet.plain.text import quoted
from nengonet.weights import LayerWeights, Weights, load_weights, pretrained_files

Files = Weights | str | os.PathLike | Sequence[Weights | str | os.PathLike] | None
# The data sets whose first test images are bundled.
_BUNDLED = ("mnist", "fashion_mnist")


class Arrays:
    """Expressions for arrays; ``saved`` holds the arrays that no file contains.

    The files ``weights`` are searched first, then the bundled files. Nothing is searched if the
    script must stand alone.
    """

    def __init__(self, weights: Files, standalone: bool) -> None:
        given = weights if isinstance(weights, list | tuple) else [weights]
        given = [each for each in given if each is not None]
        self._given = [each if isinstance(each, Weights) else load_weights(each) for each in given]
        self.standalone = standalone
        self.saved: dict[str, np.ndarray] = {}
        self.files: dict[str, str] = {}

    def find(self, array: np.ndarray, name: str, any_order: bool = False) -> str:
        """Return an expression with the same values, in the same order in memory or in any."""
        array = np.asarray(array)
        if not self.standalone and array.dtype.kind == "f":
            for weights in self._weights():
                for layer in weights.values():
                    for expression, found in _arrays(layer):
                        if _same(found, array, any_order):
                            file = self._file(weights)
                            return f"{file}[{quoted(layer.name)}]{expression}"
        return self.save(name, array)

    def save(self, name: str, array: np.ndarray) -> str:
        """Keep an array for the file beside the script."""
        unique, n = name, 1
        while unique in self.saved and not _same(self.saved[unique], array):
            unique, n = f"{name}_{n + 1}", n + 1
        self.saved[unique] = array
        return f"arrays[{quoted(unique)}]"

    def _weights(self) -> Iterator[Weights]:
        yield from self._given
        yield from _pretrained()

    def _file(self, weights: Weights) -> str:
        """Return the name of the variable that holds the weights of a file."""
        names = {str(path): name for name, path in pretrained_files().items()}
        path = str(weights.path)
        bundled = path in names
        read = f"pretrained({quoted(names[path])})" if bundled else quoted(path)
        line = f"load_weights({read})"
        known = self.files.get(line)
        if known is None:
            known = self.files[line] = "weights" if not self.files else f"weights_{len(self.files)}"
        return known


@functools.cache
def _pretrained() -> tuple[Weights, ...]:
    return tuple(load_weights(path) for path in pretrained_files().values())


def _arrays(layer: LayerWeights) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the arrays that a network takes from a layer, as expressions and values."""
    if layer.kernel is not None and layer.kernel.ndim == 2:
        yield ".kernel.T", layer.kernel.T
    for name, array in layer.arrays.items():
        if name in ("kernel", "bias"):
            yield f".{name}", array
        else:
            yield f".others[{quoted(name)}]", array
            yield f".others[{quoted(name)}].ravel()", array.ravel()


def _same(one: np.ndarray, other: np.ndarray, any_order: bool = False) -> bool:
    """Return whether arrays are equal and have their values in the same order in memory, or any.

    The order decides in which order a product adds up.
    """
    if one.shape != other.shape:
        return False
    order = [each.flags.c_contiguous or not each.flags.f_contiguous for each in (one, other)]
    return (any_order or order[0] == order[1]) and np.array_equal(one, other)


def data_set(images: np.ndarray, labels: np.ndarray | None) -> str | None:
    """Return the name of the bundled data set that begins with these images and labels."""
    for name in _BUNDLED:
        with contextlib.suppress(InputError):
            found = datasets.load(name, n_images=len(images))
            values = found[0].reshape(len(images), -1)
            if np.array_equal(values, images.reshape(len(images), -1)) and (
                labels is None or np.array_equal(found[1], labels)
            ):
                return name
    return None
