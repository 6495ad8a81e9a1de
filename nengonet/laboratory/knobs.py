"""Read the knobs of a network from its Nengo objects, and apply them to a copy of it.

Values are a flat dict by the knob's name, such as ``"hidden.gain"``. Names and units are those of
the code.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Collection

import cloudpickle
import nengo
import numpy as np
from nengo.exceptions import ValidationError
from nengo.solvers import NoSolver

from nengonet.checks import as_number, check_among, positive_integer
from nengonet.exceptions import InputError
from nengonet.layers.graph import Graph, has_weights, owner
from nengonet.layers.inputs import ConstantImage, PoissonImage, constant_input, poisson_input
from nengonet.layers.record import Layer, known_layers
from nengonet.layers.targets import Target
from nengonet.neurons import IntegrateAndFire, gain_bias, model_of, with_settings
from nengonet.results.readout import READOUTS

Values = dict[str, object]

_RECTIFIED = nengo.RectifiedLinear()
#: The neuron types that a layer can have, by name. Each is called to make neurons.
NEURON_TYPES = {
    "LIF": nengo.LIF,
    "AdaptiveLIF": nengo.AdaptiveLIF,
    "SpikingRectifiedLinear": nengo.SpikingRectifiedLinear,
    "IntegrateAndFire": IntegrateAndFire,
    "PoissonSpiking": functools.partial(nengo.PoissonSpiking, _RECTIFIED),
    "StochasticSpiking": functools.partial(nengo.StochasticSpiking, _RECTIFIED),
    "LIFRate": nengo.LIFRate,
    "RectifiedLinear": nengo.RectifiedLinear,
}
GAIN, MAX_RATES, BUILT = "gain, bias", "max_rates, intercepts", "as built"
_IN_SECONDS = ("tau_rc", "tau_ref", "tau_n", "synapse", "presentation_time", "dt")
_UNITS = {**dict.fromkeys(_IN_SECONDS, "s"), "max_rate": "Hz", "max_rates": "Hz"}
_KINDS = ("process", "ensemble", "constant")
RUN = "run"
_WHOLE = ("n_images", "seed")


@dataclasses.dataclass(frozen=True)
class Knob:
    """One setting of a layer, or of the run."""

    layer: str
    word: str
    #: The values to choose from; empty for a number.
    choices: tuple[str, ...] = ()
    #: The meaning of None, where None is a value.
    none: str = ""

    @property
    def name(self) -> str:
        """The key of the knob's value."""
        return f"{self.layer}.{self.word}"

    @property
    def unit(self) -> str:
        """The unit of the number."""
        return _UNITS.get(self.word, "")

    @property
    def is_whole(self) -> bool:
        """Whether the knob takes whole numbers only."""
        return self.word in _WHOLE

    def used(self, values: Values) -> bool:
        """Return whether the knob has an effect now.

        The tuning uses one of two pairs of numbers.
        """
        pairs = (each.split(", ") for each in (GAIN, MAX_RATES))
        pair = next((each for each in pairs if self.word in each), None)
        return pair is None or values[f"{self.layer}.tuning"].split(", ") == pair

    def checked(self, value: object) -> object:
        """Return a value of the right kind. Its range is checked where the value is used."""
        if self.choices:
            check_among(self.name, value, self.choices)
            return value
        if value is None and self.none:
            return None
        if self.is_whole:
            return positive_integer(self.name, value, 0 if self.word == "seed" else 1)
        return as_number(self.name, value)


def packed(target: Target) -> bytes:
    """Return an output with its network as bytes, for copies."""
    try:
        return cloudpickle.dumps(target)
    except Exception as error:  # whatever an object's own pickling raises
        raise InputError(
            f"{target.label}: expected a network that can be copied, got {error}"
        ) from error


def unpacked(content: bytes) -> Target:
    """Return a copy of a packed output."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Nengo's, of Nodes that pass on what comes in
        return cloudpickle.loads(content)


# Read the knobs.


@dataclasses.dataclass(frozen=True)
class Input:
    """The image input of a network, as made by its builder."""

    label: str
    node: nengo.Node
    neurons: nengo.Ensemble | None
    values: Values
    #: The connections from the input.
    behind: list[nengo.Connection]


def input_of(target: Target) -> Input | None:
    """Return the image input, if exactly one exists and nengonet's builders made it."""
    found = _input_of(target)
    plain = found is not None and all(
        each.function is None and each.pre_slice == slice(None) for each in found.behind
    )
    return found if plain else None


def _input_of(target: Target) -> Input | None:
    layers, graph = target.upstream(), Graph(target.network)
    nodes = [each for each in layers if isinstance(each.node and each.node.output, _IMAGES)]
    if len(nodes) != 1:
        return None
    node, shown = nodes[0].node, nodes[0].node.output
    if isinstance(shown, PoissonImage):
        values = {"kind": "process", **_rate(shown.max_rate, shown.amplitude)}
        return Input(nodes[0].label, node, None, values, graph.out_of(node))
    for layer in layers:
        if isinstance(layer.neuron_type, nengo.PoissonSpiking) and layer.weights is None:
            gain = layer.ensemble.gain
            feeds = [each.pre_obj for each in layer.connections]
            if feeds == [node] and isinstance(gain, np.ndarray) and np.ptp(gain) == 0:
                rate = _rate(float(gain[0]) * shown.scale, layer.amplitude)
                values = {"kind": "ensemble", **rate}
                behind = graph.out_of(layer.ensemble)
                return Input(layer.label, node, layer.ensemble, values, behind)
    values = {"kind": "constant", "scale": float(shown.scale)}
    return Input(nodes[0].label, node, None, values, graph.out_of(node))


_IMAGES = (ConstantImage, PoissonImage)


def _rate(max_rate: float, amplitude: float) -> Values:
    """Return the knobs of a Poisson input. Without an amplitude, it is ``1 / max_rate``."""
    usual = np.isclose(amplitude * max_rate, 1.0, rtol=1e-12)
    return {"max_rate": float(max_rate), "amplitude": None if usual else float(amplitude)}


def tunable(target: Target) -> dict[str, Layer]:
    """Return the layers that have knobs, except the input, by label."""
    source = input_of(target)
    own = {None} if source is None else {source.node, source.neurons}
    return {
        layer.label: layer
        for layer in target.upstream()
        if (layer.ensemble or layer.node) not in own
        and ((layer.ensemble is not None) or any(map(has_weights, layer.connections)))
        and (layer.ensemble is None or model_of(layer.neuron_type).has_neurons)
    }


def read(target: Target) -> Values:
    """Read the values of all knobs of a network."""
    source, found = input_of(target), {}
    if source is not None:
        found |= {f"{source.label}.{word}": value for word, value in source.values.items()}
    for label, layer in tunable(target).items():
        values = {} if layer.ensemble is None else _read_neurons(layer)
        synapses = [each.synapse for each in layer.connections]
        if all(each == synapses[0] for each in synapses) and synapses:
            if synapses[0] is None:
                values["synapse"] = None
            elif isinstance(synapses[0], nengo.Lowpass):
                values["synapse"] = float(synapses[0].tau)
        found |= {f"{label}.{word}": value for word, value in values.items()}
    return found


def _read_neurons(layer: Layer) -> Values:
    own = layer.neuron_type
    values = {"neuron_type": type(own).__name__, **_numbers(own), "tuning": BUILT}
    gain, bias = layer.ensemble.gain, layer.ensemble.bias
    if isinstance(gain, np.ndarray) and isinstance(bias, np.ndarray):
        own_bias = bias - gain * _keras_bias(layer)
        size = float(np.abs(bias).max(initial=0.0))
        if np.ptp(gain) == 0 and np.ptp(own_bias) <= 1e-9 * size:
            middle = float(np.median(own_bias))
            middle = 0.0 if abs(middle) <= 1e-9 * size else middle
            values |= {"tuning": GAIN, "gain": float(gain[0]), "bias": middle}
            values |= {"max_rates": 100.0, "intercepts": 0.0}
            if layer.tuned:
                rate, intercept = own.max_rates_intercepts(gain[:1], np.array([middle]))
                values |= {"tuning": MAX_RATES, "max_rates": _neat(rate[0])}
                values["intercepts"] = _neat(intercept[0])
    return values


def _neat(value: float) -> float:
    """Return a number without accumulated rounding errors."""
    return 0.0 if abs(value) < 1e-9 else float(f"{value:.9g}")


def _numbers(neuron_type: nengo.neurons.NeuronType) -> Values:
    """Return the numeric parameters of neurons."""
    names = inspect.signature(type(neuron_type)).parameters
    values = {name: getattr(neuron_type, name, None) for name in names}
    return {name: float(each) for name, each in values.items() if isinstance(each, int | float)}


def _keras_bias(layer: Layer) -> np.ndarray:
    """Return the bias that the weights give to each neuron, as a drive."""
    own = None if layer.weights is None else layer.weights.bias
    return np.zeros(layer.size) if own is None else np.resize(own, layer.size)


def knobs_of(values: Values, built: Values) -> dict[str, Knob]:
    """Return the knobs for these values, by name, in the order of the page."""
    found = {}
    for name in values:
        layer, _, word = name.rpartition(".")
        choices = {"kind": _KINDS, "readout": READOUTS}
        choices["neuron_type"] = dict.fromkeys([built.get(name, "LIF"), *NEURON_TYPES])
        choices["tuning"] = (GAIN, MAX_RATES, *[BUILT] * (built.get(name) == BUILT))
        nones = {"synapse": "none"}
        if f"{layer}.kind" in values:
            nones["amplitude"] = "1 / max_rate"
        found[name] = Knob(layer, word, tuple(choices.get(word, ())), nones.get(word, ""))
    return found


# Turn a knob.


def turned(values: Values, built: Values, name: str, value: object) -> Values:
    """Return the values after one knob was turned, with all dependent values updated."""
    knobs = knobs_of(values, built)
    check_among("knob", name, knobs)
    knob = knobs[name]
    found = values | {name: knob.checked(value)}
    if knob.word == "neuron_type":
        return _with_type(found, built, knob)
    if knob.word == "kind":
        return _with_kind(found, values, knob)
    for tuning in (GAIN, MAX_RATES):
        if knob.word in tuning.split(", "):
            found[f"{knob.layer}.tuning"] = tuning
    if knob.word == "tuning" and f"{knob.layer}.gain" not in found:
        start = {"gain": 1.0, "bias": 0.0, "max_rates": 100.0, "intercepts": 0.0}
        found |= {f"{knob.layer}.{word}": each for word, each in start.items()}
    return found


def _with_type(found: Values, built: Values, knob: Knob) -> Values:
    """Replace the parameters of neurons; parameters with the same name keep their values."""
    kind, layer = found[knob.name], knob.layer
    if kind == built.get(knob.name):
        usual = {word: built[f"{layer}.{word}"] for word in _own_words(built, layer)}
    else:
        usual = _numbers(NEURON_TYPES[kind]())
    new = {f"{layer}.{word}": found.get(f"{layer}.{word}", usual[word]) for word in usual}
    gone = {f"{layer}.{word}" for word in _own_words(found, layer)}
    return _exchanged(found, knob.name, gone, new)


def _exchanged(values: Values, name: str, gone: Collection[str], new: Values) -> Values:
    """Return values without some names, and with new values inserted after a name."""
    kept = {}
    for each, value in values.items():
        kept |= {} if each in gone else {each: value}
        kept |= new if each == name else {}
    return kept


_OTHERS = ("neuron_type", "tuning", "gain", "bias", "max_rates", "intercepts", "synapse")


def _own_words(values: Values, layer: str) -> list[str]:
    """Return the names of the parameters of a layer's neurons."""
    return [word for word in of_layer(values, layer) if word not in _OTHERS]


def _with_kind(found: Values, before: Values, knob: Knob) -> Values:
    """Replace the knobs of an input, and keep its mean output."""
    layer, kind = knob.layer, found[knob.name]
    own = {word: before.get(f"{layer}.{word}") for word in ("max_rate", "amplitude", "scale")}
    if kind == "constant":
        rate, area = own["max_rate"], own["amplitude"]
        scale = own["scale"] if rate is None else 1.0 if area is None else rate * area
        new = {"scale": scale}
    elif own["max_rate"] is None:
        new = {"max_rate": 255.0, "amplitude": None}
        if own["scale"] != 1:
            new["amplitude"] = own["scale"] / 255.0
    else:
        new = {word: own[word] for word in ("max_rate", "amplitude")}
    gone = {f"{layer}.{word}" for word in own}
    return _exchanged(found, knob.name, gone, {f"{layer}.{word}": new[word] for word in new})


# Apply the values.


def make(content: bytes, built: Values, values: Values, seed: int | None = None) -> Target:
    """Return a copy of a network with these values. Objects with unchanged values stay."""
    target = unpacked(content)
    if seed is not None:
        target.network.seed = seed
    source = input_of(target)
    for label, layer in tunable(target).items():
        now, was = (of_layer(each, label) for each in (values, built))
        if now != was:
            target = _put(target, layer, now, was)
    if source is not None:
        now, was = (of_layer(each, source.label) for each in (values, built))
        if now != was:
            target = _put_input(target, source, now)
    return target


def of_layer(values: Values, layer: str) -> Values:
    """Return the values of one layer, or of the run, by the last part of their names."""
    split = ((name.rpartition("."), value) for name, value in values.items())
    return {word: value for (own, _, word), value in split if own == layer}


def _put(target: Target, layer: Layer, now: Values, was: Values) -> Target:
    """Change a layer's record, and change its Nengo objects where values differ."""
    label = layer.label
    if now.get("synapse") != was.get("synapse"):
        synapse = now["synapse"]
        if synapse is not None:
            synapse = as_number(f"{label}.synapse", synapse, "a time in seconds", at_least=0)
        for connection in layer.connections:
            connection.synapse = synapse
    if layer.ensemble is None:
        return target
    words = [word for word in now if word not in _OTHERS]
    retyped = any(now[word] != was.get(word) for word in ("neuron_type", *words))
    if retyped:
        numbers = {word: now[word] for word in words}
        layer.ensemble.neuron_type = _neurons(label, layer.neuron_type, now["neuron_type"], numbers)
    tuning, words = now["tuning"], ("tuning", *now["tuning"].split(", "))
    retuned = any(now.get(word) != was.get(word) for word in words)
    if tuning == BUILT or not (retuned or retyped and tuning == MAX_RATES):
        return target
    given = {word: now[word] for word in words[1:]}
    try:
        gain, bias = gain_bias(layer.neuron_type, layer.size, **given)
    except InputError as error:
        raise InputError(f"{label}: {error}") from None
    layer.ensemble.gain, layer.ensemble.bias = gain, bias + gain * _keras_bias(layer)
    # The findings distinguish a tuned gain from a given one.
    tuned = dataclasses.replace(layer, tuned_gain=gain if tuning == MAX_RATES else None)
    return dataclasses.replace(target, layers={**target.layers, layer.ensemble: tuned})


def _neurons(
    label: str, own: nengo.neurons.NeuronType, kind: str, numbers: Values
) -> nengo.neurons.NeuronType:
    """Return neurons. Given initial states stay if the new type has them, too."""
    try:
        if kind == type(own).__name__:
            return with_settings(own, **numbers)
        make = NEURON_TYPES[kind]
        known = make().state
        states = {name: each for name, each in (own.initial_state or {}).items() if name in known}
        return make(**numbers, **({"initial_state": states} if states else {}))
    except ValidationError as error:
        raise InputError(f"{label}: {error}") from None


def _put_input(target: Target, source: Input, now: Values) -> Target:
    """Replace the input by one that the builders make from these values.

    The new objects take the places of the old ones. All seeds are therefore those of a network
    that was built this way.
    """
    node, own = source.node, {word: value for word, value in now.items() if word != "kind"}
    home = next(each for each in _networks(target) if node in each.nodes)
    shape, places = target.layers[source.neurons or node].shape, (home.nodes, home.ensembles)
    before = [*home.nodes, *home.ensembles, *home.connections]
    with home:
        if now["kind"] == "constant":
            made = constant_input(shape, **own, label=source.label)
        else:
            if now["kind"] == "ensemble" and source.neurons is not None:
                own["scale"] = node.output.scale
            made = poisson_input(shape, **own, kind=now["kind"], label=source.label)
    for objects in (*places, home.connections):
        objects.sort(key=lambda each: each in before)  # what is new comes first
    old = {node, source.neurons}
    for network in _networks(target):
        for objects in (network.nodes, network.ensembles):
            objects[:] = [each for each in objects if each not in old]
        network.connections[:] = [
            _from(made, each) if each in source.behind else each
            for each in network.connections
            if owner(each.post_obj) not in old
        ]
    records = target.network.__dict__.get("nengonet_layers", {})
    for item in old & records.keys():
        del records[item]
    layers = {item: each for item, each in target.layers.items() if item not in old}
    return dataclasses.replace(target, layers=layers | known_layers([], home))


def _networks(target: Target) -> list[nengo.Network]:
    return [target.network, *target.network.all_networks]


def _from(made: Layer, old: nengo.Connection) -> nengo.Connection:
    """Return a connection like the old one, from the new input."""
    return nengo.Connection(
        made.output,
        old.post,
        transform=old.transform,
        synapse=old.synapse,
        solver=NoSolver(),
        label=old.label,
        add_to_container=False,
    )
