"""The weights of layers, as named NumPy arrays."""

import collections.abc
import dataclasses
import math
import pathlib
from typing import Any

import numpy as np

from nengonet import html
from nengonet.checks import as_array, check_finite, described, did_you_mean, shortened
from nengonet.exceptions import InputError, UnknownName
from nengonet.files import printable
from nengonet.tables import aligned
from nengonet.weights.config import activation_of

# Folders of the files that are bundled: those of a clone, and of an installed package.
_PACKAGE = pathlib.Path(__file__).parents[1]
BUNDLED = (_PACKAGE.parent / "weights", _PACKAGE / "pretrained")
# Kinds whose first array is a kernel and whose second, if any, is a bias; Keras 3 numbers arrays.
KERNEL_NDIM = {"Dense": 2, "Conv1D": 3, "DepthwiseConv1D": 3, "Conv2D": 4, "DepthwiseConv2D": 4}
# Kinds that nengonet builds.
LINEAR = tuple(KERNEL_NDIM)
KERNEL_NDIM |= {"Conv2DTranspose": 4, "Conv3D": 5}
# The kind of a kernel of which only the dimensions are known.
_KINDS = {2: "Dense", 3: "Conv1D", 4: "Conv2D"}
# The input of a convolution, by the dimensions of its kernel.
_TAKES = {3: "(steps, channels)", 4: "(rows, columns, channels)"}
BATCH_NORM = "BatchNormalization"


_WORDS = (0, 1, 2, 3, 8)  # columns of the table of a file


def _other(name: str, doc: str) -> property:
    return property(lambda layer: layer.others.get(name), doc=doc)


@dataclasses.dataclass(frozen=True, eq=False)
class LayerWeights:
    """Hold the arrays of one layer; NumPy converts it to its kernel.

    Arrays are copied, checked and made read-only. float32 and float64 keep their type; float16
    becomes float32 and integers become float64, both without loss.

    Parameters
    ----------
    kernel : array_like or None
        Dense ``(n_inputs, n_outputs)``, Conv2D ``(rows, columns, in_channels / groups, filters)``,
        DepthwiseConv2D ``(rows, columns, in_channels, depth_multiplier)``; Conv1D and
        DepthwiseConv1D ``(steps, …)``, without columns.
    bias : array_like or None
        One value per output: ``(n_outputs,)``, ``(filters,)``,
        ``(in_channels * depth_multiplier,)``. None where the layer has no bias.
    name : str
        Name of the layer; layers of nested models are joined with ``/``.
    kind : str
        Keras class, or ``unknown``. If empty, a kernel of 2, 3 or 4 dimensions is a Dense, Conv1D
        or Conv2D.
    config : dict
        The layer's config in the file (``activation``, ``strides``, ``padding``, ``groups``,
        ``epsilon``, ...), as parsed from JSON.
    others : dict
        Arrays other than kernel and bias, by name. BatchNormalization keeps ``gamma``, ``beta``,
        ``moving_mean`` and ``moving_variance`` here, all ``(n_channels,)``.
    activation : str, optional
        The function that the model applies to the layer's values: ``relu``,
        ``leaky_relu(alpha=0.3)``, ``linear``. It includes layers such as ReLU or Activation that
        follow directly. By default the config's own.
    followed_by : tuple of str, optional
        Names of the layers that use these values next, after activations and layers that change no
        value (Flatten, Dropout). There are several where the model branches.

    Examples
    --------
    >>> layer = nn.LayerWeights(np.eye(3), bias=np.zeros(3), name="hidden")
    >>> layer
    <LayerWeights 'hidden', Dense, kernel (3, 3) float64, bias (3,) float64>
    >>> layer.n_outputs
    3
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
        for field in ("config", "others"):
            if not isinstance(given := getattr(self, field), collections.abc.Mapping):
                raise InputError(f"{self.name}: {field}: expected a dict, got {described(given)}")
        arrays = {"kernel": self.kernel, "bias": self.bias, **self.others}
        arrays = {key: _floats(f"{self.name}: {key}", v) for key, v in arrays.items()}
        found = {"kernel": arrays.pop("kernel"), "bias": arrays.pop("bias"), "others": arrays}
        if not self.kind:
            ndim = None if self.kernel is None else found["kernel"].ndim
            found["kind"] = "unknown" if ndim is None else _KINDS.get(ndim, "")
        if self.activation is None and "activation" in self.config:
            found["activation"] = activation_of(self.config)
        for field, value in found.items():
            object.__setattr__(self, field, value)
        self._check_shapes()

    def __repr__(self) -> str:
        """Show name, kind and shapes; the arrays would fill the screen."""
        arrays = (f"{key} {array.shape} {array.dtype}" for key, array in self.arrays.items())
        return f"<LayerWeights {', '.join((repr(printable(self.name)), self.kind, *arrays))}>"

    def _check_shapes(self) -> None:
        what, wanted, found = "", None, "none"
        shape = None if self.kernel is None else self.kernel.shape
        shapes = {array.shape for array in self.others.values()}
        if not self.kind:
            what, found = "kernel", f"shape {shape}"
            wanted = "2 dimensions (Dense), 3 (Conv1D) or 4 (Conv2D)"
        elif self.kind == BATCH_NORM and (len(shapes) > 1 or any(len(s) != 1 for s in shapes)):
            what, wanted = BATCH_NORM, "one value per channel in every array"
            found = ", ".join(f"{key} {array.shape}" for key, array in self.others.items())
        elif self.kind not in LINEAR:
            return
        elif shape is None:
            what, wanted = self.kind, "a kernel"
        elif len(shape) != KERNEL_NDIM[self.kind] or not self.kernel.size:
            what, found = "kernel", f"shape {shape}"
            wanted = f"{KERNEL_NDIM[self.kind]} dimensions for {self.kind}, none of length 0"
        elif self.bias is not None and self.bias.shape != (self.n_outputs,):
            what, found = "bias", self.bias.shape
            wanted = f"shape {(self.n_outputs,)} for a {self.kind} kernel of shape {shape}"
        if wanted is not None:
            raise InputError(f"{self.name}: {what}: expected {wanted}, got {found}")

    def _need_kernel(self) -> np.ndarray:
        if self.kernel is None:
            found = ", ".join(self.arrays) or "no arrays"
            raise InputError(f"{self.name}: expected a kernel, got a {self.kind} with {found}")
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
        """Units of a Dense layer, or output channels of a convolution."""
        *_, before, last = self.shape
        depthwise = dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), before * last)
        return (depthwise | {"Conv2DTranspose": before}).get(self.kind, last)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Every array of the layer by name: kernel, bias, then the others in file order."""
        own = {"kernel": self.kernel, "bias": self.bias}
        return {key: array for key, array in own.items() if array is not None} | self.others

    @property
    def n_parameters(self) -> int:
        """Count of all values in all arrays."""
        return sum(array.size for array in self.arrays.values())

    gamma = _other("gamma", "BatchNormalization scale; None for ``scale=False``.")
    beta = _other("beta", "BatchNormalization offset; None for ``center=False``.")
    moving_mean = _other("moving_mean", "BatchNormalization mean over the training.")
    moving_variance = _other("moving_variance", "BatchNormalization variance over the training.")

    @property
    def epsilon(self) -> float:
        """BatchNormalization epsilon: the file's, else Keras' default 1e-3."""
        return float(self.config.get("epsilon", 1e-3))

    def check_inputs(
        self, pre_shape: int | tuple[int, ...], *, groups: int | None = None, pre_label: str = ""
    ) -> None:
        """Check that the kernel fits the layer before it.

        Parameters
        ----------
        pre_shape : int or tuple of int
            Shape of the layer before; ``(rows, columns, channels)`` for images.
        groups : int, optional
            Groups of a Conv1D or Conv2D; by default the file's, else 1.
        pre_label : str, optional
            Name of the layer before, for the message.
        """
        kernel = self._need_kernel()
        pre_shape = tuple(int(n) for n in np.atleast_1d(pre_shape))
        before = f"but the layer before it{pre_label and f', {pre_label},'} has"
        n_inputs = math.prod(pre_shape)
        if groups is None:
            grouped = self.kind in ("Conv1D", "Conv2D")
            groups = self.config.get("groups", 1) if grouped else 1
        if self.kind == "Dense":
            if kernel.shape[0] == n_inputs:
                return
            problem = f"kernel has {kernel.shape[0]} inputs, {before} {n_inputs} neurons (shape "
            problem += f"{pre_shape})"
            if kernel.shape[1] == n_inputs:
                problem += "; expected (inputs, units), as Keras has it: give kernel.T"
            elif len(pre_shape) > 1:
                problem += "; flatten order is (row, column, channel)"
        elif kernel.ndim not in _TAKES:
            problem = f"no inputs to check for a layer of kind {self.kind}"
        elif len(pre_shape) != kernel.ndim - 1:
            problem = f"a {self.kind} takes {_TAKES[kernel.ndim]}, {before} shape {pre_shape}"
        elif kernel.shape[-2] * groups != pre_shape[-1]:
            grouped = f" x {groups} groups" if groups != 1 else ""
            problem = f"kernel has {kernel.shape[-2]} input channels{grouped}, {before} "
            problem += f"{pre_shape[-1]} channels (shape {pre_shape})"
            problem += self._other_order(kernel.shape, pre_shape)
        elif kernel.shape[-1] % groups:
            problem = f"{kernel.shape[-1]} filters do not divide into {groups} groups"
        else:
            return
        raise InputError(f"{self.name}: {problem}")

    @staticmethod
    def _other_order(kernel: tuple[int, ...], shape: tuple[int, ...]) -> str:
        """Return what to do about axes in PyTorch's order, if they fit."""
        if kernel[-2] == shape[0]:
            return (
                "; expected the channels last: move the first axis of the images there with "
                "numpy.moveaxis(images, 1, -1)"
            )
        # (filters, channels, rows, columns); windows are square, as a rule.
        if kernel[1] == shape[-1] != kernel[0] and len(set(kernel[2:])) == 1:
            axes = (*range(2, len(kernel)), 1, 0)
            return (
                "; expected (…, input channels, filters), as Keras has it: give "
                f"kernel.transpose{axes}"
            )
        return ""

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
        All layers of a model, in order. The mapping leaves out layers without arrays (pools,
        activations, flattening); the attribute `layers` has them too.
    path : path-like
        The file that the layers were read from.
    dialect : str
        The dialect of the file, e.g. ``Keras 2 full model``.

    Examples
    --------
    >>> weights = nn.Weights([nn.LayerWeights(np.ones((4, 2)), name="hidden")])
    >>> list(weights), weights["hidden"].kernel.shape
    (['hidden'], (4, 2))
    """

    def __init__(self, layers, path="weights", dialect=""):
        self.layers = tuple(layers)
        self._layers: dict[str, LayerWeights] = {}
        for layer in self.layers:
            if layer.arrays and self._layers.setdefault(layer.name, layer) is not layer:
                raise InputError(f"layers: expected different names, got {layer.name!r} twice")
        self.path = pathlib.Path(path)
        self.dialect = dialect

    @property
    def _file(self) -> str:
        """The file in a text: of one that is bundled, the name is enough."""
        return self.path.name if self.path.parent in BUNDLED else str(self.path)

    def __getitem__(self, name: str) -> LayerWeights:
        if isinstance(name, str) and name in self._layers:
            return self._layers[name]
        raise UnknownName(
            f"{self._file}: expected one of the layers {', '.join(self._layers)}, got {name!r}"
            f"{did_you_mean(name, self._layers)}"
        )

    def __iter__(self):
        return iter(self._layers)

    def __len__(self):
        return len(self._layers)

    def __repr__(self):
        """Show file and number of parameters; `str` lists the layers."""
        layers = shortened(", ".join(self._layers))
        about = f"{self.dialect}, {self.n_parameters:,} parameters"
        return printable(f"<Weights {self._file} ({about}): {layers}>")

    def _repr_html_(self) -> str:
        title, table = self._table()
        return html.display(html.card(title, html.table(table, left=_WORDS)))

    @property
    def n_parameters(self) -> int:
        """Count of all values in all layers."""
        return sum(layer.n_parameters for layer in self.values())

    def summary(self) -> dict[str, Any]:
        """Return the facts that `str` shows, ready for `json.dumps`."""
        return {
            "file": str(self.path),
            "dialect": self.dialect,
            "parameters": int(self.n_parameters),
            "layers": [layer.summary() for layer in self.layers],
        }

    def __str__(self):
        title, table = self._table()
        return "\n".join([title, *aligned(table, left=_WORDS)])

    def _table(self) -> tuple[str, list[tuple[str, ...]]]:
        layers = f"{len(self.layers)} layer{'s' if len(self.layers) != 1 else ''}"
        head = ("layer", "kind", "kernel", "bias", "parameters", "min", "max", "mean abs", "")
        title = f"{self._file}: {self.dialect}, {layers}, {self.n_parameters} parameters"
        return title, [head, *map(_table_row, self.layers)]


def as_layer_weights(obj, name: str = "weights") -> LayerWeights:
    """Return `obj` as `LayerWeights`, checked."""
    if isinstance(obj, LayerWeights):
        return obj
    if hasattr(obj, "get_weights"):
        raise InputError(
            f"{name}: expected an array or (kernel, bias), got {described(obj)}; give "
            "layer.get_weights()"
        )
    if isinstance(obj, list) and 0 < len(obj) <= 2:  # as a Keras layer returns them
        ndims = [getattr(array, "ndim", None) for array in obj]
        obj = tuple(obj) if ndims in ([2, 1], [3, 1], [4, 1], [2], [4]) else obj
    if isinstance(obj, tuple) and not 0 < len(obj) <= 2:
        raise InputError(f"{name}: expected (kernel, bias), got a tuple of {len(obj)}")
    kernel, bias = (*obj, None)[:2] if isinstance(obj, tuple) else (obj, None)
    if kernel is None:
        raise InputError(f"{name}: expected a kernel, got None")
    return LayerWeights(kernel=kernel, bias=bias, name=name)


def _floats(label: str, value) -> np.ndarray | None:
    """Return finite floats of 32 or 64 bits, read-only; immutable arrays are not copied."""
    if value is None:
        return None
    array = as_array(label, value)
    fixed = array is value and array.flags.owndata and not array.flags.writeable
    small = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    array = check_finite(label, array.astype(np.float32 if small else np.float64, copy=not fixed))
    array.setflags(write=False)
    return array


# The config entries that a network is rebuilt from, and values that need no mention.
_NOTES = "input activation pool_size size target_shape strides padding groups dilation_rate"
_NOTES += " data_format negative_slope alpha max_value threshold epsilon"
_NOTES += " tau tau_mem tau_syn r w_in v_threshold v_reset v_leak"
_USUAL = {"activation": "linear", "groups": 1}
_USUAL |= {"data_format": "channels_last", "negative_slope": 0.0, "threshold": 0.0}
_USUAL |= {"v_reset": 0.0, "v_leak": 0.0}


def _table_row(layer: LayerWeights) -> tuple[str, ...]:
    facts, config = layer.summary(), dict(layer.config)
    ranges = [facts["min"], facts["max"], facts["mean_abs"]]
    notes = [f"{key} {_times(array.shape)}" for key, array in layer.others.items()]
    if "activation" in config:
        config["activation"] = activation_of(config)
    if isinstance(shape_in := config.get("batch_input_shape", config.get("batch_shape")), list):
        config["input"] = shape_in[1:]
    # The strides of a pool need no mention if they equal its size.
    ones = [1] * len(config.get("kernel_size") or (1, 1))
    usual = _USUAL | {"strides": config.get("pool_size", ones), "dilation_rate": ones}
    for key in _NOTES.split():
        value = config.get(key)
        if isinstance(value, float):
            value = float(f"{value:.6g}")
        if isinstance(value, str | int | float | list) and value != usual.get(key):
            notes.append(printable(f"{key} {_times(value) if isinstance(value, list) else value}"))
    return (
        layer.name,
        layer.kind,
        "-" if layer.kernel is None else _times(layer.shape),
        "yes" if facts["bias"] else "-",
        str(facts["parameters"] or "-"),
        *("-" if value is None else f"{value:.4g}" for value in ranges),
        ", ".join(notes),
    )


def _times(shape) -> str:
    return " x ".join(str(n) for n in shape) or "1"
