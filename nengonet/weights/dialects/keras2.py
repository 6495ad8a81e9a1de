"""Named arrays: full models of Keras 2 and Keras 3 (``.h5``), weights only of Keras 2."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np

from nengonet.exceptions import InputError
from nengonet.files import Hdf5, address
from nengonet.weights.config import Entry, parse, read_config
from nengonet.weights.kinds import Arrays, in_order, is_weights, named_layer
from nengonet.weights.records import LayerWeights


def matches(content: object) -> bool:
    """Return whether the file lists its layers by name."""
    return isinstance(content, Hdf5) and (
        layer_group(content) is not content.root
        or names(content, content.root, "layer_names") is not None
    )


def read(
    file: Hdf5,
    version: str = "",
    adapt: Callable[[Any], Any] = lambda model: model,
    convert: Callable[[str, Arrays, Entry | None], Arrays] = lambda name, arrays, entry: arrays,
) -> tuple[list[LayerWeights], str]:
    """Return the layers, and the program that wrote them.

    First, `adapt` changes the config, and `convert` the arrays.
    """
    mirrored = given(file, "backend") == "theano"
    entries = read_config(adapt(parse(file.attribute("model_config", default="{}"))))
    found = []
    for name, arrays, entry in _layers(file, entries):
        if not is_weights(arrays.values()):
            continue
        ends = [path.rpartition("/")[2] for path in arrays]
        if len(set(ends)) == len(ends):
            arrays = dict(zip(ends, arrays.values(), strict=True))
        arrays = convert(name, arrays, entry)
        kernel = arrays.get("kernel")
        # Theano convolves: unlike all other backends, it mirrors kernels.
        if mirrored and kernel is not None and kernel.ndim > 2:
            arrays = arrays | {"kernel": np.flip(kernel, tuple(range(kernel.ndim - 2)))}
        found.append((entry, named_layer(name, arrays, entry)))
    version = version or re.match(r"\d*", str(given(file, "keras_version")))[0] or "2"
    kind = "weights only" if layer_group(file) is file.root else "full model"
    return in_order(entries, found), f"Keras {version} {kind}"


def layer_group(file: Hdf5) -> h5py.Group:
    """Return the group that holds the layers."""
    group = file.get("model_weights")
    return group if isinstance(group, h5py.Group) else file.root


def given(file: Hdf5, name: str) -> Any:
    """Return an attribute of the file, or else of its group of layers, or else None."""
    return file.attribute(name, default=file.attribute(name, layer_group(file)))


def names(file: Hdf5, group: h5py.Group, attribute: str) -> list[str] | None:
    """Return a list of names from an attribute; Keras cuts long ones into numbered chunks."""
    keys = (attribute, *(f"{attribute}{i}" for i in range(len(group.attrs))))
    chunks = [file.attribute(key, group) for key in keys if key in group.attrs]
    listed = [
        name.decode() if isinstance(name, bytes) else str(name)
        for chunk in chunks
        if not isinstance(chunk, h5py.Empty)
        for name in np.ravel(chunk).tolist()
    ]
    return listed if chunks else None


def natural(text: str) -> list:
    """Return a sort key that compares the numbers in names as numbers."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)
    ]


def _layers(file: Hdf5, entries: list[Entry]) -> Iterator[tuple[str, Arrays, Entry | None]]:
    """Yield name, arrays by path (``hidden/kernel``) and entry of every layer that is listed."""
    group, by_name = layer_group(file), {entry.name: entry for entry in entries}
    listed = names(file, group, "layer_names")
    if listed is None:
        own = [key for key, item in file.children(group) if isinstance(item, h5py.Group)]
        listed = [key for key in by_name if key in own] or sorted(own, key=natural)
    for name in dict.fromkeys([*listed, "top_level_model_weights"]):
        item = file.get(name, group)
        if isinstance(item, h5py.Group):
            yield from _split(name, _named_arrays(file, item), by_name.get(name))
        elif name in listed:
            raise InputError(f"damaged file (it lists a layer {name!r}, but does not hold it)")


def _named_arrays(file: Hdf5, group: h5py.Group) -> Arrays:
    """Return arrays by path, in the order that Keras lists them in."""
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


def _split(
    name: str, arrays: Arrays, entry: Entry | None
) -> Iterator[tuple[str, Arrays, Entry | None]]:
    """Yield the layers of a group: those of a nested model in its order, else one per folder."""
    leaves = entry.leaves() if entry else []
    of_leaf: dict[str, Arrays] = {leaf.name: {} for leaf in leaves}
    folders: dict[str, Arrays] = {}
    for path, array in arrays.items():
        folder, _, end = path.rpartition("/")
        leaf = entry.name if leaves == [entry] else _leaf_of_folder(leaves, folder)
        if leaf is None:
            folders.setdefault(folder, {})[end] = array
        else:
            of_leaf[leaf][path] = array
    for leaf in leaves:
        yield leaf.name, of_leaf[leaf.name], leaf
    for folder, own in folders.items():
        inner = f"{name}/{folder.removeprefix(f'{name}/')}"
        yield (name if len(folders) == 1 else inner), own, None


def _leaf_of_folder(leaves: list[Entry], folder: str) -> str | None:
    # An array's folder is its layer's name, after the names of some of the models around it: `z`,
    # `inner/z` and `encoder/inner/z` all occur.
    fits = [leaf.name for leaf in leaves if f"/{leaf.name}".endswith(f"/{folder}")]
    if len(fits) != 1:
        # A layer of several parts (an LSTM and its cell) has folders below its own.
        parts = folder.split("/")
        fits = [leaf.name for leaf in leaves if leaf.name.rpartition("/")[2] in parts]
    return fits[0] if len(fits) == 1 else None
