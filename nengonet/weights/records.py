"""The weights of layers, as named NumPy arrays."""

import collections.abc
import dataclasses
import difflib
import math
import pathlib
from typing import Any

import numpy as np

from nengonet.exceptions import InputError
from nengonet.files import printable
from nengonet.tables import aligned
from nengonet.weights.config import activation_of

# Keras' own default of BatchNormalization, for files that do not tell.
_DEFAULT_EPSILON = 1e-3

# Kinds whose first array is a kernel and whose second, if any, is a bias: Keras 3 numbers them.
KERNEL_NDIM = {
    "Dense": 2,
    "Conv2D": 4,
    "DepthwiseConv2D": 4,
    "Conv2DTranspose": 4,
    "Conv1D": 3,
    "Conv3D": 5,
}

BATCH_NORM = "BatchNormalization"


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
    activation : str, optional
        What the model applies to the layer's values: ``relu``, ``leaky_relu(alpha=0.3)``,
        ``linear``; layers such as ReLU or Activation that follow it directly included. By default
        the config's own. None where nothing tells.
    followed_by : tuple of str, optional
        Names of the layers that work on these values next, after activations and layers that change
        no value (Flatten, Dropout); more than one where the model branches. None where the file
        does not tell.

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
    activation: str | None = None
    followed_by: tuple[str, ...] | None = None

    def __post_init__(self):
        for field in ("kernel", "bias"):
            if (value := getattr(self, field)) is not None:
                object.__setattr__(self, field, _as_array(value, f"{self.name}: {field}"))
        others = {key: _as_array(v, f"{self.name}: {key}") for key, v in self.others.items()}
        object.__setattr__(self, "others", others)
        if not self.kind:
            object.__setattr__(self, "kind", self._guess_kind())
        if self.activation is None and "activation" in self.config:
            object.__setattr__(self, "activation", activation_of(self.config.get("activation")))
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
        if self.kind == BATCH_NORM:
            shapes = {array.shape for array in self.others.values()}
            if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
                found = ", ".join(f"{key} {array.shape}" for key, array in self.others.items())
                raise InputError(
                    f"{self.name}: {BATCH_NORM}: expected one value per channel in every array "
                    f"(got {found})"
                )
        if self.kind not in ("Dense", "Conv2D", "DepthwiseConv2D"):
            return
        if self.kernel is None:
            raise InputError(f"{self.name}: {self.kind}: expected a kernel (got none)")
        ndim = KERNEL_NDIM[self.kind]
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
        *_, before, last = self.shape
        both = {"DepthwiseConv2D": before * last, "Conv2DTranspose": before}
        return both.get(self.kind, last)

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
                if kernel.shape[1] == n_inputs:
                    order = "; expected (inputs, units), as Keras has it: give kernel.T"
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
            "activation": self.activation,
            "followed_by": None if self.followed_by is None else list(self.followed_by),
            "config": self.config,
        }


class Weights(collections.abc.Mapping):
    """Read-only mapping from layer names to `LayerWeights`, in the order of the model.

    Parameters
    ----------
    layers : iterable of LayerWeights
        All of a model, in order. The mapping leaves out those without arrays (pools, activations,
        flattening), which `layers` keeps.
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
        self.layers = tuple(layers)
        self._layers: dict[str, LayerWeights] = {}
        for layer in self.layers:
            if layer.arrays and self._layers.setdefault(layer.name, layer) is not layer:
                raise InputError(f"expected different names of layers, got {layer.name!r} twice")
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
            "layers": [layer.summary() for layer in self.layers],
        }

    def __str__(self):
        layers = f"{len(self.layers)} layer{'s' if len(self.layers) != 1 else ''}"
        head = ("layer", "kind", "kernel", "bias", "parameters", "min", "max", "mean abs", "")
        table = [head, *map(_table_row, self.layers)]
        title = f"{self.path}: {self.dialect}, {layers}, {self.n_parameters} parameters"
        return "\n".join([title, *aligned(table, left=(0, 1, 2, 3, 8))])


def as_layer_weights(obj, name: str = "weights") -> LayerWeights:
    """Return `obj` as `LayerWeights`, checked."""
    if isinstance(obj, LayerWeights):
        return obj
    if isinstance(obj, tuple) and len(obj) != 2:
        raise InputError(f"{name}: expected (kernel, bias) (got a tuple of {len(obj)})")
    kernel, bias = obj if isinstance(obj, tuple) else (obj, None)
    if kernel is None:
        raise InputError(f"{name}: expected a kernel (got None)")
    return LayerWeights(kernel=kernel, bias=bias, name=name)


def _as_array(value, label: str) -> np.ndarray:
    # What nobody can change is not copied.
    fixed = isinstance(value, np.ndarray) and value.flags.owndata and not value.flags.writeable
    try:
        array = np.array(value, copy=None if fixed else True)
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


# What a network is rebuilt from, with the value that goes without saying.
_NOTES = {
    "input": None,
    "activation": "linear",
    "pool_size": None,
    "size": None,
    "target_shape": None,
    "strides": [1, 1],
    "padding": None,
    "groups": 1,
    "dilation_rate": [1, 1],
    "data_format": "channels_last",
    "negative_slope": 0.0,
    "alpha": None,
    "max_value": None,
    "threshold": 0.0,
    "epsilon": None,
}


def _table_row(layer: LayerWeights) -> tuple[str, ...]:
    facts = layer.summary()
    shape = facts["kernel_shape"]
    ranges = [facts["min"], facts["max"], facts["mean_abs"]]
    notes = [f"{key} {_times(array.shape)}" for key, array in layer.others.items()]
    config = dict(layer.config)
    if "activation" in config:
        config["activation"] = activation_of(config["activation"])
    if isinstance(shape_in := config.get("batch_input_shape", config.get("batch_shape")), list):
        config["input"] = shape_in[1:]
    for key, usual in _NOTES.items():
        value = config.get(key)
        # The strides of a pool go without saying where they are its size.
        usual = config.get("pool_size", usual) if key == "strides" else usual
        if isinstance(value, str | int | float | list) and value != usual:
            value = _times(value) if isinstance(value, list) else value
            notes.append(printable(f"{key} {value}"))
    return (
        layer.name,
        layer.kind,
        "-" if shape is None else _times(shape),
        "yes" if facts["bias"] else "-",
        str(facts["parameters"] or "-"),
        *("-" if value is None else f"{value:.4g}" for value in ranges),
        ", ".join(notes),
    )


def _times(shape) -> str:
    return " x ".join(str(n) for n in shape) or "1"
