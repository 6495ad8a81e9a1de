"""Numbered arrays: ``.weights.h5`` of Keras 3 and late Keras 2, and ``.keras`` archives."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import h5py
import numpy as np

from nengonet.files import Archive, Hdf5, address
from nengonet.weights.config import Entry, as_dict, parse, read_config
from nengonet.weights.dialects.keras2 import natural
from nengonet.weights.kinds import in_order, is_weights, numbered_layer, snake_case
from nengonet.weights.records import LayerWeights

# Groups that Keras keeps beside the layers of a model: training state, not weights.
TRAINING_STATE = re.compile("optimizer(_weights)?|_?(compile_)?metrics|_compile_loss|_loss_tracker")
_ARRAYS = "model.weights.h5"


def matches(content: object) -> bool:
    """Return whether this is an archive of Keras, or holds arrays in groups called ``vars``."""
    if isinstance(content, Archive):
        return _ARRAYS in content.names
    return isinstance(content, Hdf5) and any(
        isinstance(item, h5py.Group) and re.fullmatch("(layers/.+/)?vars", _today(path))
        for path, item in content.walk()
    )


def read(content: Hdf5 | Archive) -> tuple[list[LayerWeights], str]:
    """Return the layers, and the program that wrote them."""
    if isinstance(content, Hdf5):
        group = content.get("vars")
        named = isinstance(group, h5py.Group) and "name" in group.attrs
        return _layers(content, None), "Keras 3 weights" + ("" if named else ", layers unnamed")
    config, metadata = (
        parse(content.read(name)) if name in content.names else {}
        for name in ("config.json", "metadata.json")
    )
    version = re.match(r"\d*", str(as_dict(metadata).get("keras_version")))[0] or "3"
    with Hdf5(content.read(_ARRAYS), content.allowance) as file:
        return _layers(file, config), f"Keras {version} archive"


def _layers(file: Hdf5, model: Any) -> list[LayerWeights]:
    """Return the layers of a file; `model` is the config, if any."""
    found = [item for item in _walk(file) if is_weights(item.arrays)]
    entries, held = read_config(model), {item.place for item in found}
    outer = {place for item in found for place in _above(item.place)}
    counts = [dict(_places(entries, "", outer, step)) for step in (1, 2)]
    leaf_of = max(counts, key=lambda leaves: len(held & leaves.keys()))
    layers: dict[str, tuple] = {}
    for item in _in_written_order(found):
        # A layer of several parts (a wrapper, an LSTM and its cell) has groups below its own.
        leaf = next((leaf_of[place] for place in _above(item.place) if place in leaf_of), None)
        own = leaf if leaf_of.get(item.place) is leaf else None
        name = own.name if own else item.name
        name = item.place if name in layers else name
        # Only the layers in a list of layers are named by their class.
        *_, before, last = ("", *item.place.split("/"))
        class_name = re.sub(r"_\d+$", "", last) if before == "layers" else None
        layers[name] = leaf, numbered_layer(name, item.arrays, class_name, own)
    return in_order(entries, list(layers.values()))


class _Found(NamedTuple):
    """One ``vars`` group: its path, name and content, and its place in the file."""

    place: str
    name: str
    arrays: list[np.ndarray]
    address: int


def _today(path: str) -> str:
    """Return a path with today's word for layers; Windows wrote a path as one name."""
    return path.replace("\\", "/").replace("_layer_checkpoint_dependencies", "layers")


def _above(place: str) -> Iterator[str]:
    """Yield a place and all that contain it."""
    while place:
        yield place
        place = place.rpartition("/")[0]


def _walk(file: Hdf5) -> Iterator[_Found]:
    """Yield every group of numbered arrays."""
    names: dict[str, str] = {}
    datasets: dict[str, dict[str, h5py.Dataset]] = {}
    for path, item in file.walk():
        *outer, last = _today(path).split("/")
        if TRAINING_STATE.fullmatch((*outer, last)[0]):
            continue
        if last == "vars" and isinstance(item, h5py.Group):
            names["/".join(outer)] = str(file.attribute("name", item, outer[-1] if outer else last))
        elif outer[-1:] == ["vars"] and isinstance(item, h5py.Dataset):
            datasets.setdefault("/".join(outer[:-1]), {})[last] = item
    for place, own in datasets.items():
        arrays = [file.numbers(own[key]) for key in sorted(own, key=natural)]
        above = [(names.get(each), each.rpartition("/")[2]) for each in _above(place)][::-1]
        name = "/".join(named or last for named, last in above if last != "layers") or "model"
        arrays = [array for array in arrays if array is not None]
        yield _Found(place, name, arrays, min(map(address, own.values())))


def _places(
    entries: list[Entry], prefix: str, held: set[str], step: int
) -> Iterator[tuple[str, Entry]]:
    """Yield group and layer: classes are numbered; Keras 2.12 and 2.13 count weights twice."""
    counts = collections.Counter()
    for entry in entries:
        snake = snake_case(entry.kind)
        place = f"{prefix}layers/{snake}" + (f"_{counts[snake]}" if counts[snake] else "")
        counts[snake] += step if place in held else 1
        if entry.nested is None:
            yield place, entry
        else:
            yield from _places(entry.nested, f"{place}/", held, step)


def _in_written_order(found: list[_Found]) -> list[_Found]:
    """Sort by place in the file, unless the numbers in the names contradict it."""
    found = sorted(found, key=lambda item: item.address)
    last: dict[str, int] = {}
    for item in found:
        base, number = re.fullmatch(r"(.*?)(?:_(\d+))?", item.place, re.DOTALL).groups("0")
        if last.get(base, -1) > int(number):
            return sorted(found, key=lambda item: natural(item.place))
        last[base] = int(number)
    return found
