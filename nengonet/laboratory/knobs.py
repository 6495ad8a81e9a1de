"""Read the knobs of a network from its Nengo objects, and apply them to a copy of it.

Values are dicts of each layer's values, by the layer's label; those of the run are under ``"run"``.
They have the same names whatever the knobs are set to. Names and units are those of the code.
"""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from typing import NamedTuple

import cloudpickle
import nengo
import numpy as np
from nengo.exceptions import ValidationError

from nengonet.checks import as_number, check_among, positive_integer
from nengonet.exceptions import InputError
from nengonet.layers.graph import Graph, has_weights, owner
from nengonet.layers.inputs import ConstantImage, PoissonImage, constant_input, poisson_input
from nengonet.layers.record import Layer, known_layers
from nengonet.layers.targets import Target
from nengonet.neurons import IntegrateAndFire, gain_bias, model_of, with_settings
from nengonet.results.readout import READOUTS

OfLayer = dict[str, object]
Values = dict[str, OfLayer]

_RECTIFIED = nengo.RectifiedLinear()
_SPIKING = (nengo.LIF(), nengo.AdaptiveLIF(), nengo.SpikingRectifiedLinear(), IntegrateAndFire())
_DRAWN = (nengo.PoissonSpiking(_RECTIFIED), nengo.StochasticSpiking(_RECTIFIED))
#: The neuron types that a layer can have, by name.
TYPES = {type(each).__name__: each for each in (*_SPIKING, *_DRAWN, nengo.LIFRate(), _RECTIFIED)}
GAIN, MAX_RATES, BUILT = "gain, bias", "max_rates, intercepts", "as built"
_PAIRS = {word: pair for pair in (GAIN, MAX_RATES) for word in pair.split(", ")}
_UNTUNED = {"tuning": BUILT, "gain": 1.0, "bias": 0.0, "max_rates": 100.0, "intercepts": 0.0}
RUN, _WHOLE = "run", {"n_images": 1, "seed": 0}  # whole numbers, from these on


class Knob(NamedTuple):
    """One setting of a layer, or of the run."""

    layer: str
    word: str
    #: The values to choose from; empty for a number.
    choices: tuple[str, ...]
    #: The meaning of None, where None is a value.
    none: str

    def used(self, values: Values) -> bool:
        """Return whether the knob has an effect now, beside the other values."""
        own = values[self.layer]
        if self.word in _PAIRS:
            return own["tuning"] == _PAIRS[self.word]
        if self.word in ("max_rate", "amplitude", "scale") and "kind" in own:
            return (own["kind"] == "constant") == (self.word == "scale")
        return own[self.word] is not None or self.none != ""

    def checked(self, value: object) -> object:
        """Return a value of the right kind. Its range is checked where the value is used."""
        name = f"{self.layer}.{self.word}"
        if self.choices:
            check_among(name, value, self.choices)
        elif self.word in _WHOLE:
            return positive_integer(name, value, _WHOLE[self.word])
        elif value is not None or not self.none:
            time = {"unit": "a time in seconds", "at_least": 0}
            return as_number(name, value, **(time if self.word == "synapse" else {}))
        return value


# Read the knobs.


class Input(NamedTuple):
    """The image input of a network, as made by its builder."""

    #: What the network's other layers see of the input.
    layer: Layer
    #: The Node that shows the images.
    node: nengo.Node
    values: OfLayer
    #: The connections from the input.
    behind: list[nengo.Connection]


def input_of(target: Target) -> Input | None:
    """Return the image input, if exactly one exists and nengonet's builders made it."""
    layers, kinds = target.upstream(), (ConstantImage, PoissonImage)
    images = [each for each in layers if isinstance(each.node and each.node.output, kinds)]
    if len(images) != 1:
        return None
    layer, node, shown = images[0], images[0].node, images[0].node.output
    values = {"kind": "constant", "max_rate": 255.0, "amplitude": None, "scale": 1.0}
    # Neurons that draw the spikes of the input.
    drawn = [x for x in layers if isinstance(x.neuron_type, nengo.PoissonSpiking) and not x.weights]
    drawn = [x for x in drawn if [each.pre_obj for each in x.connections] == [node]]
    if isinstance(shown, PoissonImage):
        values |= {"kind": "process", "max_rate": shown.max_rate, "amplitude": shown.amplitude}
    elif drawn and _is_even(drawn[0].ensemble.gain):
        layer, rate = drawn[0], float(drawn[0].ensemble.gain[0]) * shown.scale
        values |= {"kind": "ensemble", "max_rate": rate, "amplitude": layer.amplitude}
    else:
        values["scale"] = float(shown.scale)
    if np.isclose((values["amplitude"] or 0) * values["max_rate"], 1.0, rtol=1e-12):
        values["amplitude"] = None  # as usual: 1 / max_rate
    behind = Graph(target.network).out_of(layer.ensemble or node)
    plain = all(each.function is None and each.pre_slice == slice(None) for each in behind)
    return Input(layer, node, values, behind) if plain else None


def _is_even(values: object, within: float = 0.0) -> bool:
    """Whether an array is given, and has one value."""
    return isinstance(values, np.ndarray) and np.ptp(values) <= within


def tunable(target: Target) -> dict[str, Layer]:
    """Return the layers that have knobs, except the input, by label."""
    source = input_of(target)
    own = () if source is None else (source.node, source.layer.ensemble)
    return {
        layer.label: layer
        for layer in target.upstream()
        if (layer.ensemble or layer.node) not in own
        and ((layer.ensemble is not None) or any(map(has_weights, layer.connections)))
        and (layer.ensemble is None or model_of(layer.neuron_type).has_neurons)
    }


def read(target: Target) -> Values:
    """Read the values of all knobs of a network."""
    source = input_of(target)
    found = {} if source is None else {source.layer.label: source.values}
    for label, layer in tunable(target).items():
        found[label] = {} if layer.ensemble is None else _read_neurons(layer)
        synapses = {each.synapse for each in layer.connections}
        if len(synapses) == 1 and isinstance(synapse := synapses.pop(), nengo.Lowpass | None):
            found[label]["synapse"] = None if synapse is None else float(synapse.tau)
    return found


def _read_neurons(layer: Layer) -> OfLayer:
    """Read the values of neurons: None for parameters that only other neuron types have."""
    own, gain, bias = layer.neuron_type, layer.ensemble.gain, layer.ensemble.bias
    others = {word: None for each in TYPES.values() for word in _numbers(each)}
    values = {"neuron_type": type(own).__name__, **others, **_numbers(own), **_UNTUNED}
    if not _is_even(gain) or not isinstance(bias, np.ndarray):
        return values
    least, bias = 1e-9 * float(np.abs(bias).max(initial=0.0)), bias - gain * _keras_bias(layer)
    if _is_even(bias, within=least):
        middle = float(np.median(bias))
        middle = 0.0 if abs(middle) <= least else middle
        values |= {"tuning": GAIN, "gain": float(gain[0]), "bias": middle}
        if layer.tuned:
            pair = own.max_rates_intercepts(gain[:1], np.array([middle]))
            pair = (round(float(each[0]), 9) + 0.0 for each in pair)  # without rounding errors
            values |= dict(zip(MAX_RATES.split(", "), pair, strict=True), tuning=MAX_RATES)
    return values


def _numbers(neuron_type: nengo.neurons.NeuronType) -> OfLayer:
    """Return the numeric parameters of neurons."""
    names = inspect.signature(type(neuron_type)).parameters
    values = {name: getattr(neuron_type, name, None) for name in names}
    return {name: float(each) for name, each in values.items() if isinstance(each, int | float)}


def _keras_bias(layer: Layer) -> np.ndarray:
    """Return the bias that the weights give to each neuron, as a drive."""
    own = None if layer.weights is None else layer.weights.bias
    return np.zeros(layer.size) if own is None else np.resize(own, layer.size)


def knobs_of(built: Values) -> dict[str, Knob]:
    """Return the knobs of a network that was built with these values, by name, in order."""
    found, choices = {}, {"kind": ("process", "ensemble", "constant"), "readout": READOUTS}
    for layer, own in built.items():
        choices["tuning"] = (GAIN, MAX_RATES, *[BUILT] * (own.get("tuning") == BUILT))
        choices["neuron_type"] = dict.fromkeys([own.get("neuron_type"), *TYPES])
        nones = {"synapse": "none"} | ({"amplitude": "1 / max_rate"} if "kind" in own else {})
        for word in own:
            knob = Knob(layer, word, tuple(choices.get(word, ())), nones.get(word, ""))
            found[f"{layer}.{word}"] = knob
    return found


# Turn a knob.


def turned(values: Values, built: Values, name: str, value: object) -> Values:
    """Return the values after one knob was turned, with all dependent values updated."""
    knobs = knobs_of(built)
    known = [k for k, x in knobs.items() if values[x.layer][x.word] is not None or x.none]
    check_among("knob", name, known)
    value, (layer, word, *_) = knobs[name].checked(value), knobs[name]
    was, own = values[layer], values[layer] | {word: value}
    if word in _PAIRS:
        own["tuning"] = _PAIRS[word]
    if word == "neuron_type":
        new = built[layer] if value == built[layer][word] else _numbers(TYPES[value])
        # A parameter that both types have keeps its value.
        own |= {k: new.get(k) for k in _parameters(own) if None in (new.get(k), own[k])}
    if word == "kind" and (was[word] == "constant") != (value == "constant"):  # the mean stays
        if value == "constant":
            own["scale"] = 1.0 if own["amplitude"] is None else own["max_rate"] * own["amplitude"]
        else:
            own["amplitude"] = None if own["scale"] == 1 else own["scale"] / own["max_rate"]
    return values | {layer: own}


def _parameters(words: OfLayer) -> set[str]:
    """Return those words that are parameters of neurons."""
    return words.keys() - _UNTUNED.keys() - {"neuron_type", "synapse"}


# Apply the values.


def packed(target: Target) -> bytes:
    """Return an output with its network as bytes, for copies."""
    try:
        return cloudpickle.dumps(target)
    except Exception as error:  # whatever an object's own pickling raises
        text = f"{target.label}: expected a network that can be copied, got {error}"
        raise InputError(text) from error


def make(content: bytes, built: Values, values: Values, seed: int | None = None) -> Target:
    """Return a copy of a network with these values. Objects with unchanged values stay."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Nengo's, of Nodes that pass on what comes in
        target = cloudpickle.loads(content)
    target = dataclasses.replace(target, layers=dict(target.layers))
    if seed is not None:
        target.network.seed = seed
    source = input_of(target)
    for label, layer in tunable(target).items():
        now = values[label]
        changed = {word: now[word] for word in now if now[word] != built[label][word]}
        try:
            _put(target, layer, now, changed)
        except (InputError, ValidationError) as error:
            raise InputError(f"{label}: {error}") from None
    if source and values[source.layer.label] != built[source.layer.label]:
        _put_input(target, source, values[source.layer.label])
    return target


def _put(target: Target, layer: Layer, now: OfLayer, changed: OfLayer) -> None:
    """Change a layer's Nengo objects where values differ, and its record."""
    if "synapse" in changed:
        for connection in layer.connections:
            connection.synapse = changed["synapse"]
    retyped = _parameters(changed) or "neuron_type" in changed
    if retyped:
        layer.ensemble.neuron_type = _neurons(layer.neuron_type, now)
    pair = now.get("tuning", BUILT)
    retuned = changed.keys() & {"tuning", *pair.split(", ")} or (retyped and pair == MAX_RATES)
    if pair != BUILT and retuned:
        given = {word: now[word] for word in pair.split(", ")}
        gain, bias = gain_bias(layer.neuron_type, layer.size, **given)
        layer.ensemble.gain, layer.ensemble.bias = gain, bias + gain * _keras_bias(layer)
        # The findings distinguish a tuned gain from a given one.
        tuned = dataclasses.replace(layer, tuned_gain=gain if pair == MAX_RATES else None)
        target.layers[layer.ensemble] = tuned


def _neurons(own: nengo.neurons.NeuronType, now: OfLayer) -> nengo.neurons.NeuronType:
    """Return neurons. Given initial states stay if the new type has them, too."""
    numbers = {word: now[word] for word in _parameters(now) if now[word] is not None}
    if now["neuron_type"] == type(own).__name__:
        return with_settings(own, **numbers)
    new, states = TYPES[now["neuron_type"]], own.initial_state or {}
    states = {name: each for name, each in states.items() if name in new.state}
    return with_settings(new, **numbers, **({"initial_state": states} if states else {}))


def _put_input(target: Target, source: Input, now: OfLayer) -> None:
    """Replace the input by one that the builders make from these values.

    The new objects take the places of the old ones. All seeds are therefore those of a network
    that was built this way.
    """
    layer, node, _, behind = source
    own = {word: now[word] for word in ("max_rate", "amplitude", "kind")}
    if now["kind"] == "ensemble" and layer.ensemble is not None:
        own["scale"] = node.output.scale
    homes = target.network, *target.network.all_networks
    home = next(each for each in homes if node in each.nodes)
    before = [*home.nodes, *home.ensembles, *home.connections]
    with home:
        if now["kind"] == "constant":
            made = constant_input(layer.shape, scale=now["scale"], label=layer.label)
        else:
            made = poisson_input(layer.shape, **own, label=layer.label)
    for connection in behind:
        nengo.Connection.pre.data[connection] = made.output  # of the same size
    gone = [each for each in home.connections if owner(each.post_obj) is layer.ensemble]
    gone += [node, layer.ensemble]
    for objects in (home.nodes, home.ensembles, home.connections):
        kept = [each for each in objects if each not in gone]
        objects[:] = sorted(kept, key=lambda each: each in before)
    target.layers.update(known_layers([], home))
