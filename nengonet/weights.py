"""Keras weights in: HDF5 files and ``.keras`` archives, as named NumPy arrays.

`load_weights` tells the dialects apart by content, never by the name of the file. What it returns
is a read-only mapping from layer names to `LayerWeights`, in the order of the model.
"""

import collections.abc
import dataclasses
import difflib
import io
import json
import math
import mmap
import pathlib
import re
import struct
import zipfile
import zlib
from typing import Any

import h5py
import numpy as np

from nengonet.exceptions import InputError

# Keras' own default of BatchNormalization, for files that do not tell.
_DEFAULT_EPSILON = 1e-3

# Kinds whose first array is a kernel and whose second, if any, is a bias: Keras 3 numbers them.
_KERNEL_NDIM = {
    "Dense": 2,
    "Conv2D": 4,
    "DepthwiseConv2D": 4,
    "Conv2DTranspose": 4,
    "Conv1D": 3,
    "Conv3D": 5,
}
_BATCH_NORM = "BatchNormalization"
_BATCH_NORM_ARRAYS = ("gamma", "beta", "moving_mean", "moving_variance")

# What Keras keeps beside the layers of a model: state of the training, no weights.
_TRAINING_STATE = {
    "optimizer",
    "optimizer_weights",
    "metrics",
    "_metrics",
    "compile_metrics",
    "_compile_metrics",
    "_compile_loss",
    "_loss_tracker",
}

# How deep models may nest before a config is taken for a damaged one.
_MAX_DEPTH = 32

# DEFLATE cannot do better than 1032 to 1: an array that claims more is a damaged header.
_MAX_EXPANSION = 1100

# What h5py, zipfile and json raise for damaged files, as long fuzzing has found it.
_DAMAGE = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    ArithmeticError,
    MemoryError,
    EOFError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)

_HEAP = b"GCOL\x01\x00\x00\x00"

_FIRST_BYTES = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x1f\x8b": "gzip; unpack it first",
    b"\x93NUMPY": "a NumPy .npy file",
    b"\x80\x02": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself",
    b"<": "HTML or XML; a download that failed?",
    b"{": "JSON",
}


class _NoSuchLayerError(InputError, KeyError):
    """A layer that the file does not have; a KeyError too, so that mappings work as usual."""

    __str__ = Exception.__str__


@dataclasses.dataclass(frozen=True, eq=False)
class LayerWeights:
    """Hold the arrays of one layer; NumPy takes it for its kernel.

    Arrays are copied, checked and made read-only. float32 and float64 keep their type, float16
    widens to float32 and integers to float64, both without loss.

    Parameters
    ----------
    kernel : array_like or None
        Dense ``(n_inputs, n_outputs)``, Conv2D ``(rows, columns, in_channels / groups, filters)``,
        DepthwiseConv2D ``(rows, columns, in_channels, depth_multiplier)``.
    bias : array_like or None
        One value per output: ``(n_outputs,)``, ``(filters,)``,
        ``(in_channels * depth_multiplier,)``. None where the layer has no bias.
    name : str
        Name of the layer; layers of nested models are joined with ``/``.
    kind : str
        Keras class: ``Dense``, ``Conv2D``, ``DepthwiseConv2D``, ``BatchNormalization``, another
        class that the file names, or ``unknown``. Left empty: Dense for a 2-d kernel and
        Conv2D for a 4-d one.
    config : dict
        What the file itself tells of the layer (``activation``, ``strides``, ``padding``,
        ``groups``, ``epsilon``, ...), as JSON has it; empty where it tells nothing.
    others : dict
        Arrays beside kernel and bias, by name. BatchNormalization keeps ``gamma``, ``beta``,
        ``moving_mean`` and ``moving_variance`` here, all ``(n_channels,)``.

    Raises
    ------
    InputError
        If an array is not numeric, not finite, or of a shape that the kind cannot have.
    """

    kernel: np.ndarray | None = None
    bias: np.ndarray | None = None
    name: str = "weights"
    kind: str = ""
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    others: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for field in ("kernel", "bias"):
            if (value := getattr(self, field)) is not None:
                object.__setattr__(self, field, _as_array(value, f"{self.name}: {field}"))
        others = {key: _as_array(v, f"{self.name}: {key}") for key, v in self.others.items()}
        object.__setattr__(self, "others", others)
        if not self.kind:
            object.__setattr__(self, "kind", self._guess_kind())
        self._check_shapes()

    def _guess_kind(self) -> str:
        if self.kernel is None:
            return "unknown"
        if self.kernel.ndim not in (2, 4):
            raise InputError(
                f"{self.name}: kernel: expected 2 dimensions (Dense) or 4 (Conv2D) "
                f"(got shape {self.kernel.shape})"
            )
        return "Dense" if self.kernel.ndim == 2 else "Conv2D"

    def _check_shapes(self) -> None:
        if self.kind == _BATCH_NORM:
            shapes = {array.shape for array in self.others.values()}
            if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
                found = ", ".join(f"{key} {array.shape}" for key, array in self.others.items())
                raise InputError(
                    f"{self.name}: {_BATCH_NORM}: expected one value per channel in every array "
                    f"(got {found})"
                )
        if self.kind not in ("Dense", "Conv2D", "DepthwiseConv2D"):
            return
        if self.kernel is None:
            raise InputError(f"{self.name}: {self.kind}: expected a kernel (got none)")
        ndim = _KERNEL_NDIM[self.kind]
        if self.kernel.ndim != ndim:
            raise InputError(
                f"{self.name}: kernel: expected {ndim} dimensions for {self.kind} "
                f"(got shape {self.kernel.shape})"
            )
        if self.kernel.size == 0:
            raise InputError(f"{self.name}: kernel is empty (shape {self.kernel.shape})")
        if self.bias is not None and self.bias.shape != (self.n_outputs,):
            raise InputError(
                f"{self.name}: bias: expected shape {(self.n_outputs,)} for a {self.kind} kernel "
                f"of shape {self.kernel.shape} (got {self.bias.shape})"
            )

    def _need_kernel(self) -> np.ndarray:
        if self.kernel is None:
            raise InputError(
                f"{self.name}: a {self.kind} layer without a kernel; its arrays are: "
                f"{', '.join(self.arrays) or 'none'}"
            )
        return self.kernel

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self._need_kernel(), dtype=dtype, copy=copy)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the kernel."""
        return self._need_kernel().shape

    @property
    def T(self) -> np.ndarray:
        """Kernel, transposed."""
        return self._need_kernel().T

    @property
    def n_outputs(self) -> int:
        """Units of a Dense layer, channels that a convolution puts out."""
        shape = self.shape
        return shape[-1] * shape[-2] if self.kind == "DepthwiseConv2D" else shape[-1]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Every array of the layer by name: kernel, bias, then the others in file order."""
        own = {"kernel": self.kernel, "bias": self.bias}
        return {key: array for key, array in own.items() if array is not None} | self.others

    @property
    def n_parameters(self) -> int:
        """Count of all values in all arrays."""
        return sum(array.size for array in self.arrays.values())

    @property
    def gamma(self) -> np.ndarray | None:
        """BatchNormalization scale, ``(n_channels,)``; None for ``scale=False``."""
        return self.others.get("gamma")

    @property
    def beta(self) -> np.ndarray | None:
        """BatchNormalization offset, ``(n_channels,)``; None for ``center=False``."""
        return self.others.get("beta")

    @property
    def moving_mean(self) -> np.ndarray | None:
        """BatchNormalization mean over the training, ``(n_channels,)``."""
        return self.others.get("moving_mean")

    @property
    def moving_variance(self) -> np.ndarray | None:
        """BatchNormalization variance over the training, ``(n_channels,)``."""
        return self.others.get("moving_variance")

    @property
    def epsilon(self) -> float:
        """BatchNormalization epsilon: the file's, else Keras' default 1e-3."""
        return float(self.config.get("epsilon", _DEFAULT_EPSILON))

    def check_inputs(
        self, pre_shape: int | tuple[int, ...], *, groups: int | None = None, pre_label: str = ""
    ) -> None:
        """Check that the kernel fits the layer before it.

        Parameters
        ----------
        pre_shape : int or tuple of int
            Shape of the layer before; ``(rows, columns, channels)`` for images.
        groups : int, optional
            Groups of a Conv2D; by default the file's, else 1.
        pre_label : str, optional
            Name of the layer before, for the message.

        Raises
        ------
        InputError
            If the number of inputs (Dense) or channels (convolutions) differs.
        """
        kernel = self._need_kernel()
        pre_shape = tuple(int(n) for n in np.atleast_1d(pre_shape))
        before = f"the layer before it{pre_label and f', {pre_label},'}"
        if self.kind == "Dense":
            n_inputs = math.prod(pre_shape)
            if kernel.shape[0] != n_inputs:
                order = "; flatten order is (row, column, channel)" if len(pre_shape) > 1 else ""
                raise InputError(
                    f"{self.name}: kernel has {kernel.shape[0]} inputs, but {before} has "
                    f"{n_inputs} neurons (shape {pre_shape}){order}"
                )
            return
        if kernel.ndim != 4:
            raise InputError(f"{self.name}: no inputs to check for a layer of kind {self.kind}")
        if len(pre_shape) != 3:
            raise InputError(
                f"{self.name}: a {self.kind} layer takes (rows, columns, channels), but {before} "
                f"has shape {pre_shape}"
            )
        if groups is None:
            groups = self.config.get("groups", 1) if self.kind == "Conv2D" else 1
        channels = kernel.shape[2] * groups
        if channels != pre_shape[2]:
            grouped = f" x {groups} groups" if groups != 1 else ""
            raise InputError(
                f"{self.name}: kernel has {kernel.shape[2]} input channels{grouped}, but {before} "
                f"has {pre_shape[2]} channels (shape {pre_shape})"
            )
        if self.kind == "Conv2D" and kernel.shape[3] % groups:
            raise InputError(
                f"{self.name}: {kernel.shape[3]} filters do not divide into {groups} groups"
            )

    def summary(self) -> dict[str, Any]:
        """Return name, kind, shapes, counts and ranges, ready for `json.dumps`."""
        kernel = self.kernel if self.kernel is not None and self.kernel.size else None
        return {
            "name": self.name,
            "kind": self.kind,
            "kernel_shape": None if self.kernel is None else list(self.kernel.shape),
            "bias": self.bias is not None,
            "arrays": {key: list(array.shape) for key, array in self.arrays.items()},
            "parameters": int(self.n_parameters),
            "min": None if kernel is None else float(kernel.min()),
            "max": None if kernel is None else float(kernel.max()),
            "mean_abs": None if kernel is None else float(np.abs(kernel).mean(dtype=np.float64)),
            "config": self.config,
        }


class Weights(collections.abc.Mapping):
    """Read-only mapping from layer names to `LayerWeights`, in the order of the model.

    Parameters
    ----------
    layers : iterable of LayerWeights
    path : path-like
        The file that they come from.
    dialect : str
        How the file is written, e.g. ``Keras 2 full model``.

    Raises
    ------
    InputError
        For a layer that the file does not have; a `KeyError` as well.
    """

    def __init__(self, layers, path="weights", dialect=""):
        self._layers = {layer.name: layer for layer in layers}
        self.path = pathlib.Path(path)
        self.dialect = dialect

    def __getitem__(self, name: str) -> LayerWeights:
        try:
            return self._layers[name]
        except (KeyError, TypeError):
            pass
        close = difflib.get_close_matches(str(name), self._layers, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise _NoSuchLayerError(
            f"{self.path}: no layer {name!r}{hint}; the file has: {', '.join(self._layers)}"
        )

    def __iter__(self):
        return iter(self._layers)

    def __len__(self):
        return len(self._layers)

    def __repr__(self):
        return f"<Weights {self.path} ({self.dialect}): {', '.join(self._layers)}>"

    @property
    def n_parameters(self) -> int:
        """Count of all values in all layers."""
        return sum(layer.n_parameters for layer in self.values())

    def summary(self) -> dict[str, Any]:
        """Return what `str` prints, ready for `json.dumps`."""
        return {
            "file": str(self.path),
            "dialect": self.dialect,
            "parameters": int(self.n_parameters),
            "layers": [layer.summary() for layer in self.values()],
        }

    def __str__(self):
        layers = f"{len(self)} layer{'s' if len(self) != 1 else ''}"
        head = ("layer", "kind", "kernel", "bias", "parameters", "min", "max", "mean abs", "")
        table = [head, *(_table_row(layer) for layer in self.values())]
        widths = [max(len(row[i]) for row in table) for i in range(len(head))]
        left = (0, 1, 2, 3, 8)
        lines = [
            "  ".join(
                cell.ljust(width) if i in left else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in table
        ]
        title = f"{self.path}: {self.dialect}, {layers}, {self.n_parameters} parameters"
        return "\n".join([title, *lines])


def load_weights(path) -> Weights:
    """Read the weights of a Keras model, or of a plain HDF5 file of named arrays.

    The content decides, never the name of the file:

    - Keras 2 or 3 full model (``.h5``): optimizer state is left out;
    - Keras 2 weights only (``.h5``, root attribute ``layer_names``);
    - Keras 3 weights (``.weights.h5``; late Keras 2 writes it too, with no names in it);
    - ``.keras`` archives;
    - plain HDF5: every 2-d or 4-d dataset is a kernel named by its path, with ``NAME_bias`` as its
      bias; a group that holds ``kernel`` and ``bias``, or ``W`` and ``b``, is one layer.

    The layers come in the order of the model, those of nested models as ``nested/layer``; layers
    without weights are left out. Layers of a kind that nengonet does not know keep their arrays
    in `LayerWeights.others`.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    Weights

    Raises
    ------
    InputError
        If the file is missing, not HDF5 nor a ``.keras`` archive, damaged, without weights, or
        holds NaN or infinite weights.

    Notes
    -----
    Files that hold weights only tell less. They have no config, so strides, padding, groups and
    activations are the user's to state, and the kind of a layer is told from array names, group
    names and shapes. Keras 3 ``.weights.h5`` and plain HDF5 state no order: layers are
    listed in the order in which the file was written, and by number (``dense_2`` before
    ``dense_10``) where a rewritten file has lost that; a model of a class of its own
    is written attribute by attribute, in alphabetical order. Its arrays are numbered: three of a
    BatchNormalization may be ``scale=False`` or ``center=False``, and keep their numbers.
    A nested model of one layer in a Keras 2 weights-only file carries the nested model's name.
    """
    path = pathlib.Path(path)
    try:
        layers, dialect = _read(path)
        return Weights(layers, path, dialect)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except _DAMAGE as error:
        text = " ".join(str(error).split()) or type(error).__name__
        what = "truncated file" if "truncated file" in text else "damaged or truncated file"
        raise InputError(f"{path}: {what} ({text})") from None


def as_layer_weights(obj, name: str = "weights") -> LayerWeights:
    """Return `obj` as `LayerWeights`, checked.

    Parameters
    ----------
    obj : LayerWeights or array_like or tuple
        A kernel (2-d for Dense, 4-d for Conv2D), or a tuple of kernel and bias (array_like or
        None). `LayerWeights` are returned as they are.
    name : str
        Name for the layer and its messages.

    Returns
    -------
    LayerWeights

    Raises
    ------
    InputError
        If the arrays are not numeric, not finite or do not fit each other.
    """
    if isinstance(obj, LayerWeights):
        return obj
    if isinstance(obj, tuple) and len(obj) != 2:
        raise InputError(f"{name}: expected (kernel, bias) (got a tuple of {len(obj)})")
    kernel, bias = obj if isinstance(obj, tuple) else (obj, None)
    if kernel is None:
        raise InputError(f"{name}: expected a kernel (got None)")
    return LayerWeights(kernel=kernel, bias=bias, name=name)


def fold_batch_norm(layer: LayerWeights, batch_norm: LayerWeights) -> LayerWeights:
    """Fold a BatchNormalization into the linear layer before it.

    Parameters
    ----------
    layer : LayerWeights
        Dense, Conv2D or DepthwiseConv2D, with no activation of its own.
    batch_norm : LayerWeights
        The BatchNormalization that follows it.

    Returns
    -------
    LayerWeights
        `layer` with a kernel and a bias that do both steps at once. What the file says
        of `layer` stays in its config.

    Raises
    ------
    InputError
        If a non-linear activation stands between the two, the number of channels differs, or
        arrays are missing.

    Notes
    -----
    ``gamma * (x - moving_mean) / sqrt(moving_variance + epsilon) + beta``, in float64. Epsilon is
    the file's, else Keras' default 1e-3.
    """
    mean, variance = _check_fold(layer, batch_norm)
    gamma = 1.0 if batch_norm.gamma is None else batch_norm.gamma.astype(np.float64)
    beta = 0.0 if batch_norm.beta is None else batch_norm.beta.astype(np.float64)
    bias = 0.0 if layer.bias is None else layer.bias.astype(np.float64)
    scale = gamma / np.sqrt(variance + batch_norm.epsilon)
    # A depthwise kernel spreads its outputs over two axes: input channel, then multiplier.
    axes = layer.shape[-2:] if layer.kind == "DepthwiseConv2D" else layer.shape[-1:]
    return dataclasses.replace(
        layer,
        kernel=(layer.kernel * scale.reshape(axes)).astype(layer.kernel.dtype),
        bias=((bias - mean) * scale + beta).astype(layer.kernel.dtype),
        config=layer.config | ({"use_bias": True} if layer.config else {}),
    )


def pretrained(name: str) -> pathlib.Path:
    """Return the path of a weights file that comes with nengonet.

    Parameters
    ----------
    name : str
        Name of the file without ``.h5``, e.g. ``mnist_dense``.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    InputError
        If there is no such file; lists what there is.
    """
    package = pathlib.Path(__file__).parent
    files = {
        file.stem: file
        for folder in (package.parent / "weights", package / "pretrained")
        for file in sorted(folder.glob("*.h5"))
    }
    if name not in files:
        raise InputError(
            f"no pretrained weights {name!r}; there are: {', '.join(sorted(files)) or 'none'}"
        )
    return files[name]


# Arrays and tables


def _as_array(value, label: str) -> np.ndarray:
    try:
        array = np.array(value)
    except (ValueError, TypeError) as error:
        raise InputError(f"{label}: expected an array of numbers ({error})") from None
    if array.dtype.kind not in "fiu":
        raise InputError(f"{label}: expected an array of numbers (got type {array.dtype})")
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    elif array.dtype.itemsize < 4:
        array = array.astype(np.float32)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    bad = ~np.isfinite(array)
    if bad.any():
        first = [int(i) for i in np.argwhere(bad)[0]]
        raise InputError(
            f"{label}: {int(bad.sum())} of {array.size} values are NaN or infinite, the first "
            f"at {first}"
        )
    array.setflags(write=False)
    return array


def _table_row(layer: LayerWeights) -> tuple[str, ...]:
    facts = layer.summary()
    shape = facts["kernel_shape"]
    ranges = [facts["min"], facts["max"], facts["mean_abs"]]
    notes = [f"{key} {_times(array.shape)}" for key, array in layer.others.items()]
    for key, usual in [
        ("activation", ("linear",)),
        ("strides", ([1, 1],)),
        ("padding", ()),
        ("groups", (1,)),
        ("dilation_rate", ([1, 1],)),
        ("epsilon", ()),
    ]:
        value = layer.config.get(key)
        if isinstance(value, str | int | float | list) and value not in usual:
            value = _times(value) if isinstance(value, list) else value
            notes.append(f"{key} {value}")
    return (
        layer.name,
        layer.kind,
        "-" if shape is None else _times(shape),
        "yes" if facts["bias"] else "-",
        str(facts["parameters"]),
        *("-" if value is None else f"{value:.4g}" for value in ranges),
        ", ".join(notes),
    )


def _times(shape) -> str:
    return " x ".join(str(n) for n in shape) or "1"


# Files


def _read(path: pathlib.Path) -> tuple[list[LayerWeights], str]:
    if path.is_dir():
        raise InputError("expected a file, found a directory")
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        raise InputError("no such file") from None
    except OSError as error:
        raise InputError(f"cannot be opened ({error.strerror or error})") from None
    with stream:
        head = stream.read(64)
        stream.seek(0)
        if not head:
            raise InputError("expected HDF5 or a .keras archive, found an empty file")
        if head.startswith(b"PK\x03\x04"):
            layers, dialect = _read_archive(stream)
        elif head.startswith(b"\x89HDF\r\n\x1a\n") or h5py.is_hdf5(path):
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                _check_heaps(content)
            with h5py.File(stream, "r") as file:
                layers, dialect = _read_hdf5(file)
        else:
            raise InputError(
                f"expected HDF5 or a .keras archive, found something else (first bytes "
                f"{head[:8]!r}{_looks_like(head)})"
            )
    if not layers:
        raise InputError(f"no weights inside ({dialect})")
    return layers, dialect


def _check_heaps(content) -> None:
    """Refuse damaged global heaps, where HDF5 keeps text: the HDF5 library loops forever on them.

    ``content`` is bytes or a memory map. A heap is ``GCOL``, a version, its size, then objects:
    index, count, padding, size, and data in steps of 8 bytes; object 0 is the free rest.
    """
    start = content.find(_HEAP)
    while start >= 0:
        place, size = start + 16, struct.unpack_from("<Q", content, start + 8)[0]
        end = start + size
        if end > len(content):
            raise InputError(f"damaged or truncated file (the text at byte {start} is cut short)")
        while place + 16 <= end:
            index, length = struct.unpack_from("<H6xQ", content, place)
            step = 16 + (length + 7) // 8 * 8 if index else length
            if not 0 < step <= end - place:
                raise InputError(f"damaged file (the text at byte {place} has no end)")
            place += step
        start = content.find(_HEAP, start + 8)


def _looks_like(head: bytes) -> str:
    for start, what in _FIRST_BYTES.items():
        if head.lstrip().startswith(start):
            return f" look like {what}"
    return ""


def _read_archive(stream) -> tuple[list[LayerWeights], str]:
    with zipfile.ZipFile(stream) as archive:
        names = archive.namelist()
        if "model.weights.h5" not in names:
            raise InputError(
                "a zip file without model.weights.h5, so not a .keras archive "
                f"(it holds: {', '.join(names[:10]) or 'nothing'})"
            )
        config = json.loads(archive.read("config.json")) if "config.json" in names else {}
        metadata = json.loads(archive.read("metadata.json")) if "metadata.json" in names else {}
        content = archive.read("model.weights.h5")
    major = str(_as_dict(metadata).get("keras_version", "3")).split(".")[0]
    _check_heaps(content)
    with h5py.File(io.BytesIO(content), "r") as file:
        return _read_numbered(file, config), f"Keras {major} archive"


def _read_hdf5(file: h5py.File) -> tuple[list[LayerWeights], str]:
    if isinstance(model := _get(file, "model_weights"), h5py.Group):
        version = _attribute(file, "keras_version", _attribute(model, "keras_version", "2"))
        config = _attribute(file, "model_config", "{}")
        dialect = f"Keras {_text(version).split('.')[0]} full model"
        return _read_named(model, json.loads(_text(config))), dialect
    if _names(file, "layer_names") is not None:
        return _read_named(file, {}), "Keras 2 weights only"
    if any(isinstance(_get(file, key), h5py.Group) for key in ("vars", *_CONTAINERS)):
        dialect = "Keras 3 weights" if _model_name(file) else "Keras 3 weights, layers unnamed"
        return _read_numbered(file, {}), dialect
    return _read_plain(file), "plain HDF5"


def _model_name(file: h5py.File) -> str | None:
    group = _get(file, "vars")
    return _attribute(group, "name") if isinstance(group, h5py.Group) else None


def _get(group: h5py.Group, key: str):
    """Return an object of the group, or None; nothing outside of the file is followed."""
    parent = group
    for part in key.split("/"):
        if not isinstance(parent, h5py.Group):
            return None
        link = parent.get(part, getlink=True)
        if link is None:
            return None
        if isinstance(link, h5py.ExternalLink):
            raise InputError(f"{key}: a link into another file is not followed")
        parent = parent[part]
    return parent


def _array(dataset: h5py.Dataset) -> np.ndarray | None:
    """Return the values of a dataset, or None where they are not numbers."""
    if dataset.shape is None:
        return None
    if dataset.external:
        raise InputError(f"{dataset.name}: values in another file are not read")
    limit = dataset.file.id.get_filesize() * (1 if dataset.chunks is None else _MAX_EXPANSION)
    if dataset.nbytes > limit:
        raise InputError(
            f"{dataset.name}: damaged file (an array of {dataset.nbytes} bytes in a file of "
            f"{dataset.file.id.get_filesize()})"
        )
    if dataset.dtype == "V2" and _text(_attribute(dataset, "dtype", "")) == "bfloat16":
        # bfloat16 is the upper half of a float32.
        return (dataset[()].view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return dataset[()] if dataset.dtype.kind in "fiu" else None


def _address(dataset: h5py.Dataset) -> int:
    """Return where the header of a dataset lies: files are written front to back.

    Groups would not do: their tables are moved as they grow, and the gaps are filled later.
    """
    return h5py.h5o.get_info(dataset.id).addr


def _attribute(item, name: str, default=None):
    """Return text or numbers; on the types and sizes of damaged headers h5py hangs or crashes."""
    if name not in item.attrs:
        return default
    attribute = item.attrs.get_id(name)
    kind = attribute.get_type()
    size = math.prod(attribute.shape or ()) * kind.get_size()
    text_or_number = kind.get_class() in (h5py.h5t.STRING, h5py.h5t.INTEGER, h5py.h5t.FLOAT)
    if not text_or_number or size > item.file.id.get_filesize():
        raise InputError(f"damaged file (attribute {name} of {item.name})")
    return item.attrs[name]


def _text(value) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _names(group: h5py.Group, attribute: str) -> list[str] | None:
    """Return a list of names from an attribute; Keras cuts long ones into numbered chunks."""
    if attribute in group.attrs:
        chunks = [_attribute(group, attribute)]
    else:
        chunks = []
        while f"{attribute}{len(chunks)}" in group.attrs:
            chunks.append(_attribute(group, f"{attribute}{len(chunks)}"))
        if not chunks:
            return None
    return [
        _text(name)
        for c in chunks
        if not isinstance(c, h5py.Empty)
        for name in np.ravel(c).tolist()
    ]


def _enter(group: h5py.Group, seen: set[int]) -> h5py.Group:
    """Refuse to walk in circles, which damaged links lead to."""
    address = h5py.h5o.get_info(group.id).addr
    if address in seen:
        raise InputError(f"damaged file (the group {group.name} is met twice)")
    seen.add(address)
    return group


def _datasets(group: h5py.Group, prefix: str = "", seen: set[int] | None = None):
    """Yield (path, dataset) for every dataset below the group."""
    seen = set() if seen is None else seen
    for key in _enter(group, seen):
        item = _get(group, key)
        if isinstance(item, h5py.Dataset):
            yield prefix + key, item
        elif isinstance(item, h5py.Group):
            yield from _datasets(item, f"{prefix}{key}/", seen)


def _is_weights(arrays: dict[str, np.ndarray]) -> bool:
    """Tell weights from the state of random generators, counters and metrics."""
    return any(array.dtype.kind == "f" and array.ndim > 0 for array in arrays.values())


# Model configs


@dataclasses.dataclass
class _Entry:
    """One layer of a model config; ``group`` is where Keras 3 puts it."""

    name: str
    kind: str
    config: dict
    group: str
    nested: "list[_Entry] | None" = None

    def leaves(self) -> "list[_Entry]":
        if self.nested is None:
            return [self]
        return [leaf for entry in self.nested for leaf in entry.leaves()]


def _as_dict(value) -> dict:
    return value if isinstance(value, dict) else {}


def _entries(model: Any, prefix: str = "", group: str = "", depth: int = 0) -> list[_Entry]:
    """Return the layers that a model config lists; none where it lists none."""
    if depth > _MAX_DEPTH:
        raise InputError(f"damaged file (models nest deeper than {_MAX_DEPTH})")
    entries, counts = [], collections.Counter()
    for layer in _layer_configs(_as_dict(model).get("config")) or []:
        layer = _as_dict(layer)
        config = _as_dict(layer.get("config"))
        kind = str(layer.get("class_name", "unknown")).split(">")[-1]
        name = prefix + str(config.get("name", layer.get("name", kind)))
        snake = _snake_case(kind)
        where = f"{group}layers/{snake}" + (f"_{counts[snake]}" if counts[snake] else "")
        counts[snake] += 1
        entry = _Entry(name, kind, config, where)
        if _layer_configs(layer.get("config")) is not None:
            entry.nested = _entries(layer, f"{name}/", f"{where}/", depth + 1)
        entries.append(entry)
    return entries


def _layer_configs(config) -> list | None:
    # Before 2.3, Keras wrote a Sequential as the bare list of its layers.
    layers = config if isinstance(config, list) else _as_dict(config).get("layers")
    return layers if isinstance(layers, list) else None


def _snake_case(name: str) -> str:
    """Return a class name as Keras 3 makes it a group name."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


_KINDS = {_snake_case(kind): kind for kind in (*_KERNEL_NDIM, _BATCH_NORM)}


# Named arrays: Keras 2, and Keras 3 full models


def _read_named(group: h5py.Group, model: Any) -> list[LayerWeights]:
    entries = {entry.name: entry for entry in _entries(model)}
    names = _names(group, "layer_names")
    if names is None:
        names = [key for key in entries if key in group] or list(group)
    layers = []
    for name in dict.fromkeys([*names, "top_level_model_weights"]):
        item = _get(group, name)
        if item is None and name == "top_level_model_weights":
            continue
        if not isinstance(item, h5py.Group):
            raise InputError(f"damaged file (it lists a layer {name!r}, but does not hold it)")
        arrays = _named_arrays(item)
        entry = entries.get(name)
        if entry is None:
            layers += _split_by_path(name, arrays)
        elif entry.nested is None:
            layers += _one_layer(name, arrays, entry.kind, entry.config)
        else:
            layers += _split_by_config(entry, arrays)
    return layers


def _named_arrays(group: h5py.Group) -> dict[str, np.ndarray]:
    """Return arrays by path, ``hidden/kernel``, in the order that Keras lists them in."""
    names = _names(group, "weight_names")
    if names is None:
        names = [path for path, _ in sorted(_datasets(group), key=lambda item: _address(item[1]))]
    arrays = {}
    for name in names:
        dataset = _get(group, name)
        if not isinstance(dataset, h5py.Dataset):
            raise InputError(
                f"damaged file ({group.name} lists an array {name!r}, but does not hold it)"
            )
        if (array := _array(dataset)) is not None:
            arrays[re.sub(r":\d+$", "", name)] = array
    return arrays


def _one_layer(name, arrays, kind="", config=None) -> list[LayerWeights]:
    """Return the layer, or nothing where it has no weights."""
    if not _is_weights(arrays):
        return []
    ends = [path.rpartition("/")[2] for path in arrays]
    if len(set(ends)) == len(ends):
        arrays = dict(zip(ends, arrays.values(), strict=True))
    return [_layer(name, arrays, kind or _kind_of_names(arrays), config or {})]


def _layer(name: str, arrays: dict, kind: str, config: dict) -> LayerWeights:
    arrays = dict(arrays)
    if kind == "DepthwiseConv2D" and "depthwise_kernel" in arrays:
        arrays = {"kernel": arrays.pop("depthwise_kernel")} | arrays
    kernel, bias = arrays.pop("kernel", None), arrays.pop("bias", None)
    return LayerWeights(kernel, bias, name, kind, config, arrays)


def _kind_of_names(arrays: dict[str, np.ndarray]) -> str:
    """Tell the kind of a layer from the names that Keras gives its arrays."""
    names = set(arrays)
    if names in ({"depthwise_kernel"}, {"depthwise_kernel", "bias"}):
        return "DepthwiseConv2D"
    if "moving_mean" in names and names <= set(_BATCH_NORM_ARRAYS):
        return _BATCH_NORM
    if names in ({"kernel"}, {"kernel", "bias"}):
        return _kind_of_shapes([arrays["kernel"].shape, *_shapes(arrays, "bias")])
    return "unknown"


def _shapes(arrays, *names) -> list[tuple[int, ...]]:
    return [arrays[name].shape for name in names if name in arrays]


def _kind_of_shapes(shapes: list[tuple[int, ...]]) -> str:
    """Tell the kind of a layer from the shapes of its arrays alone."""
    kernel, bias = shapes[0], shapes[1:]
    if len(kernel) == 2 and bias in ([], [kernel[1:]]):
        return "Dense"
    if len(kernel) == 4 and bias in ([], [kernel[3:]]):
        return "Conv2D"
    if len(kernel) == 4 and bias == [(kernel[2] * kernel[3],)]:
        return "DepthwiseConv2D"
    if len(kernel) == 1 and bias == [kernel] * 3:
        return _BATCH_NORM
    return "unknown"


def _split_by_path(name: str, arrays: dict[str, np.ndarray]) -> list[LayerWeights]:
    """Return the layers of a group that no config describes: one per folder of arrays."""
    folders: dict[str, dict] = {}
    for path, array in arrays.items():
        folder, _, end = path.rpartition("/")
        folders.setdefault(folder, {})[end] = array
    if len(folders) <= 1:
        return _one_layer(name, arrays)
    return [
        layer
        for folder, own in folders.items()
        for layer in _one_layer(f"{name}/{folder.removeprefix(f'{name}/')}", own)
    ]


def _split_by_config(entry: _Entry, arrays: dict[str, np.ndarray]) -> list[LayerWeights]:
    """Return the layers of a nested model in its own order."""
    leaves = entry.leaves()
    found: dict[str, dict] = {leaf.name: {} for leaf in leaves}
    rest = {}
    for path, array in arrays.items():
        folder = path.rpartition("/")[0]
        name = _leaf_of_folder(entry, leaves, folder)
        (rest if name is None else found[name])[path] = array
    layers = [
        layer
        for leaf in leaves
        for layer in _one_layer(leaf.name, found[leaf.name], leaf.kind, leaf.config)
    ]
    return layers + (_split_by_path(entry.name, rest) if rest else [])


def _leaf_of_folder(entry: _Entry, leaves: list[_Entry], folder: str) -> str | None:
    # An array's folder is its layer's name after as many of the models around it as Keras
    # happened to write: `z`, `inner/z` and `encoder/inner/z` are all met.
    fits = [leaf.name for leaf in leaves if f"/{leaf.name}".endswith(f"/{folder}")]
    if len(fits) == 1:
        return fits[0]
    # A layer of several parts (an LSTM and its cell) has folders below its own.
    parts = folder.split("/")
    fits = [leaf.name for leaf in leaves if leaf.name.rpartition("/")[2] in parts]
    return fits[0] if len(fits) == 1 else None


# Numbered arrays: .weights.h5 and archives

# Keras 2.12 and 2.13 had another word for layers.
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")


@dataclasses.dataclass
class _Found:
    """One ``vars`` group: where it is, what its groups are called, what it holds."""

    keys: tuple[str, ...]
    names: tuple[str, ...]
    arrays: dict[str, np.ndarray]
    address: int

    @property
    def where(self) -> str:
        return "/".join("layers" if key in _CONTAINERS else key for key in self.keys)


def _read_numbered(file: h5py.File, model: Any) -> list[LayerWeights]:
    leaves = {leaf.group: leaf for entry in _entries(model) for leaf in entry.leaves()}
    ranks = {group: rank for rank, group in enumerate(leaves)}
    found = [item for item in _walk(file, (), (), set()) if _is_weights(item.arrays)]
    layers, rank_of = {}, {}
    for item in _in_written_order(found):
        # A layer of several parts (a wrapper, an LSTM and its cell) has groups below its own.
        ends = range(len(item.keys), 0, -1)
        group = next((g for n in ends if (g := "/".join(item.where.split("/")[:n])) in ranks), None)
        leaf = leaves[group] if group == item.where else None
        name = leaf.name if leaf else "/".join(item.names)
        name = item.where if name in layers else name
        kind, config = (leaf.kind, leaf.config) if leaf else (_kind_of_group(item), {})
        layers[name] = _layer(name, _label(item.arrays, kind, config), kind, config)
        rank_of[name] = ranks.get(group, len(ranks))
    return [layers[name] for name in sorted(layers, key=rank_of.get)]


def _walk(group: h5py.Group, keys: tuple[str, ...], names: tuple[str, ...], seen: set[int]):
    """Yield every group of numbered arrays below the group."""
    _enter(group, seen)
    own = _get(group, "vars")
    if isinstance(own, h5py.Group):
        if keys:
            names = (*names[:-1], _text(_attribute(own, "name", keys[-1])))
        datasets = {key: _get(own, key) for key in sorted(own, key=_natural)}
        datasets = {k: d for k, d in datasets.items() if isinstance(d, h5py.Dataset)}
        arrays = {key: _array(dataset) for key, dataset in datasets.items()}
        arrays = {key: array for key, array in arrays.items() if array is not None}
        if arrays:
            address = min(_address(datasets[key]) for key in arrays)
            yield _Found(keys, names or ("model",), arrays, address)
    for key in group:
        item = _get(group, key)
        skip = key == "vars" or (not keys and key in _TRAINING_STATE)
        if isinstance(item, h5py.Group) and not skip:
            yield from _walk(
                item, (*keys, key), names if key in _CONTAINERS else (*names, key), seen
            )


def _natural(text: str) -> list:
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)
    ]


def _in_written_order(found: list[_Found]) -> list[_Found]:
    """Sort by place in the file, unless the numbers in the names speak against it."""
    found = sorted(found, key=lambda item: item.address)
    last: dict[str, int] = {}
    for item in found:
        base, number = re.fullmatch(r"(.*?)(?:_(\d+))?", item.where, re.DOTALL).groups("0")
        if last.get(base, -1) > int(number):
            return sorted(found, key=lambda item: _natural(item.where))
        last[base] = int(number)
    return found


def _kind_of_group(item: _Found) -> str:
    """Tell the kind from the group's name, which is the class's, or else from the shapes."""
    shapes = [array.shape for array in item.arrays.values()]
    kind = _KINDS.get(re.sub(r"_\d+$", "", item.keys[-1])) if item.keys else None
    if kind is None:
        in_list = len(item.keys) > 1 and item.keys[-2] in _CONTAINERS
        return "unknown" if in_list else _kind_of_shapes(shapes)
    if kind == _BATCH_NORM:
        return kind if len(shapes) in (2, 3, 4) and set(map(len, shapes)) == {1} else "unknown"
    return kind if len(shapes) <= 2 and len(shapes[0]) == _KERNEL_NDIM[kind] else "unknown"


def _label(arrays: dict[str, np.ndarray], kind: str, config: dict) -> dict[str, np.ndarray]:
    """Return numbered arrays under the names that Keras gives them, where that is certain."""
    names = list(arrays)
    if kind in _KERNEL_NDIM and len(arrays) <= 2:
        names = ["kernel", "bias"][: len(arrays)]
    elif kind == _BATCH_NORM:
        left_out = {
            name
            for name, option in (("gamma", "scale"), ("beta", "center"))
            if config.get(option) is False or len(arrays) == 2
        }
        certain = [name for name in _BATCH_NORM_ARRAYS if name not in left_out]
        names = certain if len(certain) == len(arrays) else names
    return dict(zip(names, arrays.values(), strict=True))


# Plain HDF5


def _read_plain(file: h5py.File) -> list[LayerWeights]:
    arrays, places = {}, {}
    for path, dataset in _datasets(file):
        if path.split("/")[0] in _TRAINING_STATE or not dataset.shape:
            continue
        if (array := _array(dataset)) is not None:
            arrays[path], places[path] = array, _address(dataset)
    if not any(array.ndim in (2, 4) for array in arrays.values()):
        found = ", ".join(f"{path} {array.shape}" for path, array in arrays.items())
        raise InputError(
            f"no weights inside (plain HDF5 with no array of 2 or 4 dimensions; it holds: "
            f"{found or 'no arrays'})"
        )
    layers = {}
    for path in sorted(arrays, key=places.get):
        if path not in arrays:
            continue
        folder, _, end = path.rpartition("/")
        pair = next((p for p in (("kernel", "bias"), ("W", "b")) if folder and end in p), None)
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
        shapes = [array.shape for array in (kernel, bias) if array is not None]
        if bias is None and kernel.ndim not in (2, 4):
            layers[name] = LayerWeights(name=name, kind="unknown", others={"array": kernel})
        else:
            kind = _kind_of_shapes(shapes)
            kind = "" if kind == "unknown" else kind
            layers[name] = LayerWeights(kernel, bias, name, kind)
    return list(layers.values())


# Batch normalization


def _check_fold(layer, batch_norm) -> tuple[np.ndarray, np.ndarray]:
    names = f"{layer.name} and {batch_norm.name}"
    if layer.kind not in ("Dense", "Conv2D", "DepthwiseConv2D"):
        raise InputError(
            f"{layer.name}: expected Dense, Conv2D or DepthwiseConv2D to fold into "
            f"(got {layer.kind})"
        )
    if batch_norm.kind != _BATCH_NORM:
        raise InputError(
            f"{batch_norm.name}: expected a {_BATCH_NORM} to fold (got {batch_norm.kind})"
        )
    missing = [n for n in ("moving_mean", "moving_variance") if n not in batch_norm.others]
    if missing:
        raise InputError(
            f"{batch_norm.name}: {' and '.join(missing)} not known among the arrays "
            f"{', '.join(batch_norm.others) or 'none'}: weights alone do not tell scale=False from "
            "center=False; load the full model, or name the arrays in "
            "LayerWeights(kind='BatchNormalization', others={...})"
        )
    activation = layer.config.get("activation")
    if isinstance(activation, dict):
        activation = activation.get("config", activation.get("class_name"))
    if activation not in (None, "linear"):
        raise InputError(
            f"activation {activation!r} of {layer.name} stands between {names}; only a linear "
            "layer folds"
        )
    axis = [int(n) for n in np.ravel(batch_norm.config.get("axis", -1))]
    if axis not in ([-1], [layer.kernel.ndim - 1]):
        raise InputError(
            f"{batch_norm.name}: expected to normalise the channels, the last axis (got axis "
            f"{axis[0] if len(axis) == 1 else axis})"
        )
    mean, variance = (
        batch_norm.others[name].astype(np.float64) for name in ("moving_mean", "moving_variance")
    )
    if mean.shape != (layer.n_outputs,):
        raise InputError(
            f"{names}: {batch_norm.name} normalises {mean.size} channels, but {layer.name} has "
            f"{layer.n_outputs} outputs"
        )
    if (variance + batch_norm.epsilon <= 0).any():
        raise InputError(f"{batch_norm.name}: moving_variance + epsilon is not positive")
    return mean, variance
