"""Numbered arrays: ``.weights.h5`` of Keras 3 and late Keras 2, and ``.keras`` archives."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from nengonet.exceptions import InputError
from nengonet.files import Archive, Hdf5, address
from nengonet.weights.config import Entry, as_dict, parse, read_config, snake_case
from nengonet.weights.kinds import in_order, is_weights, numbered_layer
from nengonet.weights.records import LayerWeights

# What Keras keeps beside the layers of a model: state of the training, no weights.
TRAINING_STATE = {
    "optimizer",
    "optimizer_weights",
    "metrics",
    "_metrics",
    "compile_metrics",
    "_compile_metrics",
    "_compile_loss",
    "_loss_tracker",
}

# Keras 2.12 and 2.13 had another word for layers.
_OLD_LAYERS = "_layer_checkpoint_dependencies"


def matches(file: Hdf5) -> bool:
    """Return whether the file holds arrays in groups called ``vars``."""
    if isinstance(file.get("vars"), h5py.Group):
        return True
    lists = [file.get("layers"), file.get(_OLD_LAYERS)]
    return any(
        isinstance(group, h5py.Group)
        and any(file.get("vars", item) for item in _groups(file, group))
        for group in lists
    ) or any(key.startswith(f"{_OLD_LAYERS}\\") for key in file.root)


def _groups(file: Hdf5, group: h5py.Group) -> Iterator[h5py.Group]:
    return (item for _, item in file.children(group) if isinstance(item, h5py.Group))


def read(file: Hdf5, model: Any = None) -> tuple[list[LayerWeights], str]:
    """Return the layers, and what wrote them; ``model`` is the config, if there is one."""
    found = [item for item in _walk(file) if is_weights(item.arrays)]
    entries = read_config(model)
    leaf_of = _leaves_by_place(entries, {item.place for item in found})
    layers: dict[str, tuple] = {}
    for item in _in_written_order(found):
        # A layer of several parts (a wrapper, an LSTM and its cell) has groups below its own.
        parts = item.place.split("/")
        above = ("/".join(parts[:n]) for n in range(len(parts), 0, -1))
        leaf = next((leaf_of[place] for place in above if place in leaf_of), None)
        own = leaf if leaf_of.get(item.place) is leaf else None
        name = own.name if own else item.name
        name = item.place if name in layers else name
        layers[name] = leaf, numbered_layer(name, item.arrays, item.class_name, own)
    unnamed = not isinstance(group := file.get("vars"), h5py.Group) or "name" not in group.attrs
    dialect = "Keras 3 weights" + (", layers unnamed" if unnamed else "")
    return in_order(entries, list(layers.values())), dialect


def read_archive(stream) -> tuple[list[LayerWeights], str]:
    """Return the layers of a ``.keras`` archive, and what wrote them."""
    with Archive(stream) as archive:
        if "model.weights.h5" not in archive.names:
            raise InputError(
                "a zip file without model.weights.h5, so not a .keras archive "
                f"(it holds: {', '.join(archive.names[:10]) or 'nothing'})"
            )
        config, metadata = (
            parse(archive.read(name)) if name in archive.names else {}
            for name in ("config.json", "metadata.json")
        )
        content = archive.read("model.weights.h5")
    version = re.match(r"\d+", str(as_dict(metadata).get("keras_version", "3")))
    with Hdf5(content, archive.allowance) as file:
        layers, _ = read(file, config)
    return layers, f"Keras {version.group() if version else 3} archive"


@dataclasses.dataclass
class _Found:
    """One ``vars`` group: where it is (with today's word for layers), its name, what it holds."""

    place: str
    name: str
    arrays: list[np.ndarray]
    address: int

    @property
    def class_name(self) -> str | None:
        """Class of a layer in a list of layers, in snake case; others are named by their owner."""
        *_, before, last = ("", *self.place.split("/"))
        return re.sub(r"_\d+$", "", last) if before == "layers" else None


def _walk(file: Hdf5) -> Iterator[_Found]:
    """Yield every group of numbered arrays."""
    names: dict[str, str] = {}
    datasets: dict[str, dict[str, h5py.Dataset]] = {}
    for path, item in file.walk():
        # Windows made one name of a path.
        parts = path.replace("\\", "/").split("/")
        parts = ["layers" if part == _OLD_LAYERS else part for part in parts]
        if parts[0] in TRAINING_STATE:
            continue
        if parts[-1] == "vars" and isinstance(item, h5py.Group):
            names["/".join(parts[:-1])] = str(file.attribute("name", item, parts[-2:][0]))
        elif parts[-2:-1] == ["vars"] and isinstance(item, h5py.Dataset):
            datasets.setdefault("/".join(parts[:-2]), {})[parts[-1]] = item
    for place, own in datasets.items():
        arrays = [file.numbers(own[key]) for key in sorted(own, key=_natural)]
        arrays = [array for array in arrays if array is not None]
        parts = place.split("/")
        named = [
            names.get("/".join(parts[: n + 1]), part)
            for n, part in enumerate(parts)
            if part != "layers"
        ]
        if arrays:
            name = "/".join(named) if place else "model"
            yield _Found(place, name, arrays, min(map(address, own.values())))


def _leaves_by_place(entries: list[Entry], held: set[str]) -> dict[str, Entry]:
    """Return the layers of a config by their groups, with the count that the file follows."""
    places = {"/".join(parts[:n]) for p in held for parts in [p.split("/")] for n in range(99)}
    counts = [dict(_places(entries, "", places, step)) for step in (1, 2)]
    return max(counts, key=lambda leaves: len(held & leaves.keys()))


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


def _natural(text: str) -> list:
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)
    ]


def _in_written_order(found: list[_Found]) -> list[_Found]:
    """Sort by place in the file, unless the numbers in the names speak against it."""
    found = sorted(found, key=lambda item: item.address)
    last: dict[str, int] = {}
    for item in found:
        base, number = re.fullmatch(r"(.*?)(?:_(\d+))?", item.place, re.DOTALL).groups("0")
        if last.get(base, -1) > int(number):
            return sorted(found, key=lambda item: _natural(item.place))
        last[base] = int(number)
    return found
