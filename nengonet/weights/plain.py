"""Plain HDF5: any file of named arrays that no other dialect knows."""

from __future__ import annotations

import numpy as np

from nengonet.exceptions import InputError
from nengonet.files import Hdf5, address
from nengonet.weights.kinds import plain_layer
from nengonet.weights.numbered import TRAINING_STATE
from nengonet.weights.records import LayerWeights

_PAIRS = (("kernel", "bias"), ("W", "b"))


def matches(file: Hdf5) -> bool:
    """Return True: this dialect is asked last."""
    return True


def read(file: Hdf5) -> tuple[list[LayerWeights], str]:
    """Return the layers, and what they are called."""
    datasets = [
        (path, dataset)
        for path, dataset in file.datasets()
        if path.split("/")[0] not in TRAINING_STATE
    ]
    arrays: dict[str, np.ndarray] = {}
    for path, dataset in sorted(datasets, key=lambda item: address(item[1])):
        array = file.numbers(dataset)
        if array is not None and array.ndim:
            arrays[path] = array
    if not any(array.ndim in (2, 4) for array in arrays.values()):
        found = ", ".join(f"{path} {array.shape}" for path, array in arrays.items())
        raise InputError(
            f"no weights inside (plain HDF5 with no array of 2 or 4 dimensions; it holds: "
            f"{found or 'no arrays'})"
        )
    layers: dict[str, LayerWeights] = {}
    for path in list(arrays):
        if path not in arrays:
            continue
        folder, _, end = path.rpartition("/")
        pair = next((p for p in _PAIRS if folder and end in p), None)
        if pair and f"{folder}/{pair[0]}" in arrays:
            kernel, bias = (arrays.pop(f"{folder}/{part}", None) for part in pair)
            name = folder
        elif path.endswith("_bias") and path.removesuffix("_bias") in arrays:
            name = path.removesuffix("_bias")
            kernel, bias = arrays.pop(name), arrays.pop(path)
        else:
            name, kernel, bias = path, arrays.pop(path), None
            if kernel.ndim in (2, 4):
                bias = arrays.pop(f"{path}_bias", None)
        layers[name] = plain_layer(name, kernel, bias)
    return list(layers.values()), "plain HDF5"
