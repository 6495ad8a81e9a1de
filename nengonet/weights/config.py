"""Model configs: the layers that a file lists, and what follows each of them."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

from nengonet.exceptions import InputError

# Limits that no real config exceeds: the depth of nested models, the number of layers, the length
# of the text, and the number of activations and identities in a row.
_MAX_DEPTH = 32
_MAX_LAYERS = 10_000
_MAX_TEXT = 16 * 2**20
_MAX_LINE = 100

# Layers that pass on every value once the training is over, with Keras' old names as well.
_IDENTITY = re.compile(
    "InputLayer|Dropout|SpatialDropout[123]D|AlphaDropout|GaussianDropout|GaussianNoise|Flatten"
    "|Reshape|Identity|ActivityRegularization|Layer"
)
# Activations that are layers, or functions called as layers, by class in lower case.
_ACTIVATIONS = {
    name.replace("_", ""): name
    for name in (
        "relu relu6 leaky_relu elu selu gelu silu swish sigmoid tanh softmax softplus softsign "
        "exponential hard_sigmoid log_softmax mish thresholded_relu prelu"
    ).split()
}
# Their options, with the value at which each has no effect.
_RELU = {"max_value": None, "negative_slope": 0.0, "alpha": 0.0, "theta": 0.0, "threshold": 0.0}
_OPTIONS = {"relu": _RELU, "leaky_relu": _RELU, "thresholded_relu": _RELU, "elu": {"alpha": 1.0}}


@dataclasses.dataclass(eq=False)
class Entry:
    """One layer of a model config, and the entries that take its values (None for an output)."""

    name: str
    kind: str
    config: dict
    parent: Entry | None = None
    nested: list[Entry] | None = None
    consumers: list[Entry | None] = dataclasses.field(default_factory=list)

    def leaves(self) -> list[Entry]:
        """Return the layers of a nested model, or the layer itself."""
        if self.nested is None:
            return [self]
        return [leaf for entry in self.nested for leaf in entry.leaves()]

    def what_follows(self) -> tuple[str, tuple[str, ...]]:
        """Return what is applied to the layer's values, and the layers that take the result."""
        layer = self
        functions = [_function(self.kind, self.config) or activation_of(self.config)]
        for _ in range(_MAX_LINE):
            following = layer._next()
            if len(following) != 1 or following[0] is None:
                break
            function = _function(following[0].kind, following[0].config)
            if not (function or _IDENTITY.fullmatch(following[0].kind)):
                break
            layer = following[0]
            functions.append(function)
        functions = [each for each in dict.fromkeys(functions) if each not in ("", "linear")]
        names = tuple(each.name if each else "(output)" for each in layer._next())
        return " then ".join(functions) or "linear", names

    def _next(self) -> list[Entry | None]:
        """Return the leaves that take the layer's values."""
        outer = self
        while not outer.consumers and outer.parent is not None:
            outer = outer.parent
        found = []
        for entry in outer.consumers:
            while entry is not None and entry.nested:
                starts = [e for e in entry.nested if e.kind == "InputLayer"] or entry.nested[:1]
                entry = starts[0] if len(starts) == 1 else None
            found.append(entry)
        return found


def activation_of(config: dict) -> str:
    """Return the name of the activation that a layer's config gives: a name or a layer."""
    value = config.get("activation")
    if isinstance(value, dict):
        inner, kind = value.get("config"), str(value.get("class_name", "unknown"))
        value = (_function(kind, inner) or kind) if isinstance(inner, dict) else inner or kind
    return "linear" if value is None else str(value)


def _function(kind: str, config: dict) -> str:
    """Return the name of the activation that this layer class applies, or an empty text."""
    if kind == "Activation":
        return activation_of(config)
    if kind == "TFOpLambda":
        kind, config = str(config.get("function")).split(".")[-1], {}
    name = _ACTIVATIONS.get(kind.replace("_", "").lower(), "")
    options = []
    for key, usual in _OPTIONS.get(name, {}).items():
        value = config.get(key, usual)
        value = value.get("value") if isinstance(value, dict) else value  # an array of Keras 2.2
        if value != usual:
            options.append(f"{key}={value}")
    return f"{name}({', '.join(options)})" if options else name


def as_dict(value: Any) -> dict:
    """Return what should be a dictionary, or an empty one."""
    return value if isinstance(value, dict) else {}


def parse(text: str | bytes) -> Any:
    """Return the value of a text in JSON."""
    if len(text) > _MAX_TEXT:
        raise InputError(f"damaged file (a config of {len(text)} bytes)")
    return json.loads(text)


def read_config(model: Any, parent: Entry | None = None, depth: int = 0) -> list[Entry]:
    """Return the layers that a model config lists; none where it lists none."""
    prefix, config = f"{parent.name}/" if parent else "", as_dict(model).get("config")
    layers = [as_dict(layer) for layer in _layer_configs(config) or []]
    if depth > _MAX_DEPTH or len(layers) > _MAX_LAYERS:
        raise InputError("damaged file (its config has too many layers, or nests them too deeply)")
    entries = []
    for layer in layers:
        own = as_dict(layer.get("config"))
        kind = str(layer.get("class_name", "unknown")).split(">")[-1]
        entry = Entry(prefix + str(own.get("name", layer.get("name", kind))), kind, own, parent)
        if _layer_configs(layer.get("config")) is not None:
            entry.nested = read_config(layer, entry, depth + 1)
        entries.append(entry)
    if any("inbound_nodes" in layer for layer in layers):
        by_name = {entry.name.removeprefix(prefix): entry for entry in entries}
        for entry, layer in zip(entries, layers, strict=True):
            for name in dict.fromkeys(_sources(layer.get("inbound_nodes"))):
                if name in by_name:
                    by_name[name].consumers.append(entry)
        for name in _sources(as_dict(config).get("output_layers")):
            if name in by_name and by_name[name].consumers:
                by_name[name].consumers.append(None)
    else:
        for entry, follower in zip(entries, entries[1:], strict=False):
            entry.consumers.append(follower)
    return entries


def _layer_configs(config: Any) -> list | None:
    # Before 2.3, Keras wrote a Sequential as the bare list of its layers.
    layers = config if isinstance(config, list) else as_dict(config).get("layers")
    return layers if isinstance(layers, list) else None


def _sources(nodes: Any) -> Iterator[str]:
    """Yield the names of layers in nodes: ``[name, node, tensor, …]``, at any depth."""
    if isinstance(nodes, dict):
        nodes = list(nodes.values())
    if not isinstance(nodes, list):
        return
    if len(nodes) >= 3 and isinstance(nodes[0], str) and all(type(n) is int for n in nodes[1:3]):
        yield nodes[0]
        nodes = nodes[3:]
    for node in nodes:
        yield from _sources(node)
