"""What Keras 2 and Keras 3 write, and plain HDF5, told apart by content."""

import collections
import dataclasses
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
from nengonet.weights.records import BATCH_NORM, KERNEL_NDIM, LayerWeights

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
DAMAGE = (
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


def read_layers(path: pathlib.Path) -> tuple[list[LayerWeights], str]:
    """Return the layers of a file, and what wrote it.

    Parameters
    ----------
    path : pathlib.Path

    Raises
    ------
    InputError
        Without the path in its message.
    DAMAGE
        What the libraries below raise for damaged files.
    """
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


_KINDS = {_snake_case(kind): kind for kind in (*KERNEL_NDIM, BATCH_NORM)}


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
        return BATCH_NORM
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
        return BATCH_NORM
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
        name = _leaf_of_folder(leaves, folder)
        (rest if name is None else found[name])[path] = array
    layers = [
        layer
        for leaf in leaves
        for layer in _one_layer(leaf.name, found[leaf.name], leaf.kind, leaf.config)
    ]
    return layers + (_split_by_path(entry.name, rest) if rest else [])


def _leaf_of_folder(leaves: list[_Entry], folder: str) -> str | None:
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
    if kind == BATCH_NORM:
        return kind if len(shapes) in (2, 3, 4) and set(map(len, shapes)) == {1} else "unknown"
    return kind if len(shapes) <= 2 and len(shapes[0]) == KERNEL_NDIM[kind] else "unknown"


def _label(arrays: dict[str, np.ndarray], kind: str, config: dict) -> dict[str, np.ndarray]:
    """Return numbered arrays under the names that Keras gives them, where that is certain."""
    names = list(arrays)
    if kind in KERNEL_NDIM and len(arrays) <= 2:
        names = ["kernel", "bias"][: len(arrays)]
    elif kind == BATCH_NORM:
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
