"""Named arrays: full models of Keras 2 and Keras 3 (``.h5``), weights only of Keras 2."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

from nengonet.exceptions import InputError
from nengonet.files import Hdf5, address
from nengonet.weights.config import Entry, parse, read_config
from nengonet.weights.kinds import Found, in_order, is_weights, named_layer
from nengonet.weights.records import LayerWeights

Arrays = dict[str, np.ndarray]
Convert = Callable[[str, Arrays, Entry | None], Arrays]


def matches(file: Hdf5) -> bool:
    """Return whether the file lists its layers by name."""
    full_model = isinstance(file.get("model_weights"), h5py.Group)
    return full_model or names(file, file.root, "layer_names") is not None


def read(file: Hdf5) -> tuple[list[LayerWeights], str]:
    """Return the layers, and what wrote them."""
    found = re.match(r"\d+", str(stated(file, "keras_version")))
    return read_as(file, found.group() if found else "2")


def read_as(
    file: Hdf5,
    version: str,
    adapt: Callable[[Any], Any] = lambda model: model,
    convert: Convert = lambda name, arrays, entry: arrays,
) -> tuple[list[LayerWeights], str]:
    """Return the layers of a file whose config and arrays are converted first."""
    group = file.get("model_weights")
    full_model = isinstance(group, h5py.Group)
    group = group if full_model else file.root
    mirrored = stated(file, "backend") == "theano"

    def converted(name: str, arrays: Arrays, entry: Entry | None) -> list[Found]:
        if not is_weights(arrays.values()):
            return []
        ends = [path.rpartition("/")[2] for path in arrays]
        if len(set(ends)) == len(ends):
            arrays = dict(zip(ends, arrays.values(), strict=True))
        arrays = convert(name, arrays, entry)
        # Theano convolves: it turns kernels over, which all others do not.
        if mirrored and "kernel" in arrays and arrays["kernel"].ndim > 2:
            kernel = arrays["kernel"]
            arrays = arrays | {"kernel": np.flip(kernel, tuple(range(kernel.ndim - 2)))}
        return [(entry, named_layer(name, arrays, entry))]

    entries = read_config(adapt(parse(file.attribute("model_config", default="{}"))))
    dialect = f"Keras {version} {'full model' if full_model else 'weights only'}"
    return in_order(entries, _layers(file, group, entries, converted)), dialect


def stated(file: Hdf5, name: str) -> Any:
    """Return an attribute of the file, or else of its group of weights; None if there is none."""
    group = file.get("model_weights")
    inner = file.attribute(name, group) if isinstance(group, h5py.Group) else None
    return file.attribute(name, default=inner)


def names(file: Hdf5, group: h5py.Group, attribute: str) -> list[str] | None:
    """Return a list of names from an attribute; Keras cuts long ones into numbered chunks."""
    chunks = [file.attribute(attribute, group)] if attribute in group.attrs else []
    while not chunks or attribute not in group.attrs:
        if f"{attribute}{len(chunks)}" not in group.attrs:
            break
        chunks.append(file.attribute(f"{attribute}{len(chunks)}", group))
    listed = [
        name.decode() if isinstance(name, bytes) else str(name)
        for chunk in chunks
        if not isinstance(chunk, h5py.Empty)
        for name in np.ravel(chunk).tolist()
    ]
    return listed if chunks else None


def _layers(file: Hdf5, group: h5py.Group, entries: list[Entry], converted) -> list[Found]:
    """Return the layers that the group lists, with their entries in the config."""
    by_name = {entry.name: entry for entry in entries}
    listed = names(file, group, "layer_names")
    if listed is None:
        listed = [key for key in by_name if key in group] or list(group)
    found = []
    for name in dict.fromkeys([*listed, "top_level_model_weights"]):
        item = file.get(name, group)
        if item is None and name == "top_level_model_weights":
            continue
        if not isinstance(item, h5py.Group):
            raise InputError(f"damaged file (it lists a layer {name!r}, but does not hold it)")
        arrays, entry = named_arrays(file, item), by_name.get(name)
        if entry is None:
            found += _split_by_path(name, arrays, converted)
        elif entry.nested is None:
            found += converted(name, arrays, entry)
        else:
            found += _split_by_config(entry, arrays, converted)
    return found


def named_arrays(file: Hdf5, group: h5py.Group) -> Arrays:
    """Return arrays by path, ``hidden/kernel``, in the order that Keras lists them in."""
    listed = names(file, group, "weight_names")
    if listed is None:
        datasets = sorted(file.datasets(group), key=lambda item: address(item[1]))
    else:
        datasets = [(name, file.get(name, group)) for name in dict.fromkeys(listed)]
    arrays = {}
    for name, dataset in datasets:
        if not isinstance(dataset, h5py.Dataset):
            raise InputError(
                f"damaged file ({group.name} lists an array {name!r}, but does not hold it)"
            )
        if (array := file.numbers(dataset)) is not None:
            arrays[re.sub(r":\d+$", "", name)] = array
    return arrays


def _split_by_path(name: str, arrays: Arrays, converted) -> list[Found]:
    """Return the layers of a group that no config describes: one per folder of arrays."""
    folders: dict[str, dict] = {}
    for path, array in arrays.items():
        folder, _, end = path.rpartition("/")
        folders.setdefault(folder, {})[end] = array
    if len(folders) <= 1:
        return converted(name, arrays, None)
    return [
        layer
        for folder, own in folders.items()
        for layer in converted(f"{name}/{folder.removeprefix(f'{name}/')}", own, None)
    ]


def _split_by_config(entry: Entry, arrays: Arrays, converted) -> list[Found]:
    """Return the layers of a nested model in its own order."""
    leaves = entry.leaves()
    found: dict[str, dict] = {leaf.name: {} for leaf in leaves}
    rest = {}
    for path, array in arrays.items():
        name = _leaf_of_folder(leaves, path.rpartition("/")[0])
        (rest if name is None else found[name])[path] = array
    layers = [f for leaf in leaves for f in converted(leaf.name, found[leaf.name], leaf)]
    return layers + (_split_by_path(entry.name, rest, converted) if rest else [])


def _leaf_of_folder(leaves: list[Entry], folder: str) -> str | None:
    # An array's folder is its layer's name after as many of the models around it as Keras
    # happened to write: `z`, `inner/z` and `encoder/inner/z` are all met.
    fits = [leaf.name for leaf in leaves if f"/{leaf.name}".endswith(f"/{folder}")]
    if len(fits) == 1:
        return fits[0]
    # A layer of several parts (an LSTM and its cell) has folders below its own.
    parts = folder.split("/")
    fits = [leaf.name for leaf in leaves if leaf.name.rpartition("/")[2] in parts]
    return fits[0] if len(fits) == 1 else None
