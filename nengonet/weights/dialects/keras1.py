"""Files of Keras 0 and Keras 1, with names and kernel orders that Keras 2 changed."""

from __future__ import annotations

import re
from typing import Any

import h5py
import numpy as np

from nengonet.files import Hdf5
from nengonet.weights.config import Entry
from nengonet.weights.dialects import keras2
from nengonet.weights.kinds import Arrays
from nengonet.weights.records import BATCH_NORM, LayerWeights

_OPTIONS = {
    "output_dim": "units",
    "nb_filter": "filters",
    "subsample": "strides",
    "border_mode": "padding",
    "atrous_rate": "dilation_rate",
    "bias": "use_bias",
}
# The running "std" is a variance: Keras 1 takes its root when it normalises.
_ARRAYS = {
    "W": "kernel",
    "b": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
    "param_0": "kernel",
    "param_1": "bias",
}
_NAME = re.compile(f"(?:.*_)?({'|'.join(_ARRAYS)})(?:_\\d+)?(?::\\d+)?")


def matches(content: object) -> bool:
    """Return whether Keras 0 or 1 wrote the file; early versions do not state it."""
    if not isinstance(content, Hdf5):
        return False
    if "nb_layers" in content.root.attrs:
        return True
    if not keras2.matches(content):
        return False
    version = keras2.given(content, "keras_version")
    if version is not None:
        return str(version).startswith(("0", "1"))
    layers = [item for _, item in content.children(keras2.layer_group(content))]
    listed = [
        name.rpartition("/")[2]
        for item in layers
        if isinstance(item, h5py.Group)
        for name in keras2.names(content, item, "weight_names") or []
    ]
    return bool(listed) and all(map(_NAME.fullmatch, listed))


def read(file: Hdf5) -> tuple[list[LayerWeights], str]:
    """Return the layers, and the program that wrote them."""
    layers, dialect = keras2.read(file, "1", _adapt, _convert)
    if "nb_layers" in file.root.attrs:
        dialect = "Keras 0 weights, layers unnamed"
    no_backend = keras2.given(file, "backend") is None
    return layers, dialect + (", backend not given" if no_backend else "")


def _adapt(model: Any) -> Any:
    """Return a model config of Keras 1 with the names of Keras 2."""
    if isinstance(model, list):
        return [_adapt(item) for item in model]
    if not isinstance(model, dict):
        return model
    model = {key: _adapt(value) for key, value in model.items()}
    if "class_name" not in model:
        return model
    kind, config = model["class_name"], model.get("config")
    if isinstance(config, dict):
        config = {_OPTIONS.get(key, key): value for key, value in config.items()}
        if "nb_row" in config:
            config["kernel_size"] = [config.pop("nb_row"), config.pop("nb_col", 0)]
        if (order := config.pop("dim_ordering", None)) is not None:
            config["data_format"] = "channels_first" if order == "th" else "channels_last"
        if kind == BATCH_NORM and config.get("mode", 0) != 0:
            kind = f"{BATCH_NORM} of mode {config['mode']}"
    kind = re.sub("(Atrous)?Convolution", "Conv", str(kind))
    kind = "Conv2DTranspose" if kind == "Deconvolution2D" else kind
    return model | {"class_name": kind, "config": config}


def _convert(name: str, arrays: Arrays, entry: Entry | None) -> Arrays:
    """Return arrays under the names, and kernels in the order, of Keras 2."""
    old = [_NAME.fullmatch(path.rpartition("/")[2]) for path in arrays]
    new = {_ARRAYS[m[1]]: array for m, array in zip(old, arrays.values(), strict=True) if m}
    kernel, bias = new.get("kernel"), new.get("bias")
    if len(new) < len(arrays):
        return arrays
    if kernel is None or kernel.ndim < 3:
        return new
    kind = entry.kind if entry else "Conv1D" if "convolution1d" in name else "Conv2D"
    # Whether the filters are the first axis; None if that is unknown.
    first = None
    if entry is not None and "data_format" in entry.config:
        first = entry.config["data_format"] == "channels_first"
    elif bias is not None and kernel.shape[0] != kernel.shape[-1]:
        first = {kernel.shape[0]: True, kernel.shape[-1]: False}.get(len(bias))
    if first is None or (entry is None and "deconv" in name):
        return arrays  # their kind stays unknown
    if kind == "Conv2DTranspose":
        kernel = kernel.transpose(2, 3, 0, 1) if first else kernel.transpose(0, 1, 3, 2)
    elif first:
        kernel = np.moveaxis(kernel, (1, 0), (-2, -1))
    if kind == "Conv1D" and kernel.ndim == 4:
        kernel = kernel[..., 0, :, :] if kernel.shape[1] == 1 else kernel[0]
    return new | {"kernel": kernel}
