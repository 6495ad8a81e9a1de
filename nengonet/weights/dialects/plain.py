"""Plain HDF5: any file of named arrays that no other dialect knows."""

from __future__ import annotations

import numpy as np

from nengonet.exceptions import InputError
from nengonet.files import Hdf5, address
from nengonet.weights.dialects.keras3 import TRAINING_STATE
from nengonet.weights.kinds import kind_of, record
from nengonet.weights.records import LayerWeights

ASKED_LAST = True
_PAIRS = (("kernel", "bias"), ("W", "b"))


def matches(content: object) -> bool:
    """Return whether this is any HDF5 file."""
    return isinstance(content, Hdf5)


def read(file: Hdf5) -> tuple[list[LayerWeights], str]:
    """Return the layers, and the name of the dialect."""
    if file.head.startswith(b"MATLAB"):
        raise InputError(
            "expected weights, got a MATLAB file, which holds arrays transposed; read it with "
            "scipy.io.loadmat or h5py, and pass (kernel, bias)"
        )
    kind = str(file.attribute("format", default=""))
    if kind.startswith("nengonet result"):
        raise InputError(
            "expected weights, got a run that nengonet saved; read it with nengonet.load_result"
        )
    anndata = file.attribute("encoding-type") == "anndata"
    if anndata or {"X", "obs", "var"} <= set(file.root):
        raise InputError("expected weights, got an AnnData file: a table of observations")
    arrays: dict[str, np.ndarray] = {}
    for path, dataset in sorted(file.datasets(), key=lambda item: address(item[1])):
        if not TRAINING_STATE.fullmatch(path.split("/")[0]):
            array = file.numbers(dataset)
            if array is not None and array.ndim:
                arrays[path] = array
    if not any(_is_kernel(path, arrays) for path in arrays):
        found = ", ".join(f"{path} {array.shape}" for path, array in arrays.items()) or "no arrays"
        expected = "expected weights (an array of 2 or 4 dimensions, or of 3 with a bias)"
        raise InputError(f"{expected}, got plain HDF5 without any; it holds: {found}")
    layers = {}
    for path in list(arrays):
        name, kernel, bias = _parts(path, arrays)
        if kernel not in arrays:
            continue
        own = {"kernel": arrays.pop(kernel)}
        if bias in arrays:
            own["bias"] = arrays.pop(bias)
        if len(own) == 1 and own["kernel"].ndim not in (2, 4):
            layers[name] = record(name, {"array": own["kernel"]}, "unknown")
        else:
            kind = kind_of(name, [array.shape for array in own.values()])
            layers[name] = record(name, own, "" if kind == "unknown" else kind)
    return list(layers.values()), "plain HDF5"


def _parts(path: str, arrays: dict[str, np.ndarray]) -> tuple[str, str, str]:
    """Return the name of an array's layer, and the paths of its kernel and its bias."""
    folder, _, end = path.rpartition("/")
    for kernel, bias in _PAIRS:
        if folder and end in (kernel, bias) and f"{folder}/{kernel}" in arrays:
            return folder, f"{folder}/{kernel}", f"{folder}/{bias}"
    kernel = path.removesuffix("_bias")
    if kernel not in arrays or not 2 <= arrays[kernel].ndim <= 4:
        return path, path, ""
    return kernel, kernel, f"{kernel}_bias"


def _is_kernel(path: str, arrays: dict[str, np.ndarray]) -> bool:
    """Return whether an array is a kernel; without a bias, one of 3 dimensions may be images."""
    return arrays[path].ndim in (2, 4) or (
        arrays[path].ndim == 3 and _parts(path, arrays)[2] in arrays
    )
