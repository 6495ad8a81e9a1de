"""The objects of a network as statements of plain Nengo."""

from __future__ import annotations

import inspect
import types
import warnings
from collections.abc import Iterator, Mapping

import nengo
import numpy as np
from nengo.connection import Neurons
from nengo.transforms import ChannelShape, SparseMatrix

from nengonet.ann.convolution import padding_of
from nengonet.exceptions import InputError
from nengonet.explain.built import Built, is_decoded
from nengonet.layers.filters import LowpassPerUnit
from nengonet.layers.graph import Graph, Item, owner
from nengonet.layers.inputs import ImageInput
from nengonet.layers.pools import AveragePool, MaxPool
from nengonet.layers.record import labels_of
from nengonet.layers.showing import Shown
from nengonet.layers.targets import Target
from nengonet.layers.transforms import is_drawn
from nengonet.layers.weighted import AddBias
from nengonet.neurons import IntegrateAndFire, model_of
from nengonet.plain import pieces
from nengonet.plain.arrays import Arrays
from nengonet.plain.functions import source_of
from nengonet.plain.text import Group, Names, Source, call, lines_of, listed, mapped, number, quoted
from nengonet.run.simulators import is_random, neurons_alone

_PLACES = "nengo nengo.dists nengo.synapses nengo.processes nengo.solvers nengo.transforms"
# Arrays with more values than this are not printed.
_FEW = 8
_DRAWN_ONLY = ("radius", "encoders", "eval_points", "n_eval_points", "normalize_encoders")
#: Names that the script keeps for itself.
OWN = (
    "np nengo pathlib pretrained load_weights datasets DT N_STEPS PRESENTATION_TIME SEED "
    "BLOCK_STEPS net sim probe probes arrays weights images labels image example shown outputs "
    "counts scores guesses answer windows average_pool poisson_spikes poisson_steps first_state "
    "Shown IntegrateAndFire LowpassOfEach neuron_streams t x n_right tied accuracy state noise "
    "fired late stream operator reset_seed SimNeurons rows RunningMaxPool WinnerPool InstantPool "
    "RunningMaxPoolOfValues WinnerPoolOfValues answers"
).split()


class NetworkWriter:
    """Statements that build a network, and the lines that stand before them in a script."""

    def __init__(
        self, target: Target, shown: list[Shown], arrays: Arrays, dt: float, seed: int
    ) -> None:
        network = target.network
        self.target, self.arrays, self.seed = target, arrays, seed
        self.graph, self.built = Graph(network), Built(network, seed, dt)
        self.alone = neurons_alone(network)
        self.shown = {each.node: each for each in shown}
        self.imports = {"import nengo", "import numpy as np"}
        self.constants: dict[str, str] = {}
        self.definitions: dict[str, str] = {}
        self.lines: list[str] = []
        self.areas: dict[float, str] = {}
        self.amplitudes: dict[Item, str] = {}
        self.names, labels = Names(OWN), labels_of(network, target.layers)
        self.variables: dict[Item, str] = {}
        self._labels = labels
        items = list(_items(network))
        self.ensembles = [each for each in items if isinstance(each, nengo.Ensemble)]
        self._waiting = {
            kind: [each for each in items if isinstance(each, kind)]
            for kind in (nengo.Node, nengo.Ensemble)
        }
        self.warns = self.seeds = False
        self.random = [e for e in self.ensembles if model_of(e.neuron_type).random]
        processes = [each.output for each in network.all_nodes]
        processes += [each.noise for each in self.ensembles]
        self.draws = any(map(_draws, processes))

    def write(self) -> None:
        """Write all objects, each before the connections to it."""
        for connection in _connections(self.target.network):
            for each in (connection.pre_obj, connection.post_obj):
                if not isinstance(owner(each), nengo.Node | nengo.Ensemble):
                    raise InputError(
                        f"{connection}: cannot write a connection to {each}, a learning rule"
                    )
                self._write_to(owner(each))
            self._connection(connection)
        for items in self._waiting.values():
            while items:
                self._write(items.pop(0))

    def _write_to(self, item: Item) -> None:
        """Write the objects of a kind up to a given one, in the order of Nengo's build."""
        waiting = self._waiting[nengo.Node if isinstance(item, nengo.Node) else nengo.Ensemble]
        while item in waiting:
            self._write(waiting.pop(0))

    def _write(self, item: Item) -> None:
        self.variables[item] = self.names.new(self._labels[item])
        (self._node if isinstance(item, nengo.Node) else self._ensemble)(item)

    def add(self, source: Source, before: str = "") -> None:
        """Add a statement to the network."""
        self.lines += lines_of(source, before, indent=4)

    def constant(self, name: str, value: float, says: str) -> str:
        """Add a named number."""
        while name in self.constants or name in self.definitions:
            name += "_"
        self.constants[name] = f"{name} = {number(value)}  # {says}"
        return name

    def define(self, name: str, text: str) -> str:
        """Add a function or class to the script."""
        self.definitions[name] = text
        return name

    # --- values

    def value(self, value: object, what: str, name: str = "") -> Source:
        """Return an expression for a value: a number, an array, or one of Nengo's objects."""
        if value is None or isinstance(value, bool | int | float | np.generic):
            return number(value)
        if isinstance(value, str):
            return quoted(value)
        if isinstance(value, ChannelShape):
            return self.value(value.shape, what, name)
        if isinstance(value, list | tuple):
            items = [self.value(each, what, name) for each in value]
            return listed(items, "[]" if isinstance(value, list) else "()")
        if isinstance(value, Mapping):
            return mapped({k: self.value(v, what, f"{name}_{k}") for k, v in value.items()})
        if isinstance(value, np.ndarray):
            return self.array(value, name)
        if isinstance(value, types.FunctionType | np.ufunc):
            return self.function(value, what)
        return self.object(value, what, name)

    def array(self, array: np.ndarray, name: str, any_order: bool = False) -> Source:
        """Return an expression for an array: read from a file of weights, computed, or saved."""
        if array.size <= _FEW:
            return call("np.array", _nested(array))
        if np.all(array == array.flat[0]):
            shape = array.shape[0] if array.ndim == 1 else array.shape
            value = array.flat[0]
            return call("np.full", repr(shape), number(value)) if value else f"np.zeros({shape})"
        return self.arrays.find(array, name, any_order)

    def object(self, thing: object, what: str, name: str = "", **given: Source) -> Group:
        """Return the call that makes an object of one of Nengo's classes."""
        cls = type(thing)
        if cls is IntegrateAndFire:
            title = self.define("IntegrateAndFire", pieces.INTEGRATE_AND_FIRE)
        else:
            title = _class_name(cls, what)
        stated, positional, named = isinstance(thing, nengo.neurons.NeuronType), [], {}
        stated = stated and cls is not IntegrateAndFire
        for key, parameter in inspect.signature(cls).parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                if getattr(thing, "seed", None) is not None:
                    named["seed"] = number(thing.seed)
                continue
            value, default = getattr(thing, key), parameter.default
            if isinstance(value, np.ndarray) and value.size <= _FEW:
                value = value.tolist()  # a list does as well
            if key in given:
                named[key] = given[key]
            elif default is parameter.empty and not named:
                positional.append(self.value(value, what, f"{name}_{key}"))
            elif (stated and value is not None) or not _equal(value, default):
                named[key] = self.value(value, what, f"{name}_{key}")
        return call(title, *positional, **named)

    def function(self, function: object, what: str) -> str:
        """Return a function as an expression; define the function, and the names that it reads."""
        own = getattr(np, getattr(function, "__name__", ""), None)
        if own is function:
            return f"np.{function.__name__}"
        text, reads = source_of(function, what)
        for name, value in reads.items():
            module = isinstance(value, types.ModuleType)
            line = f"import {value.__name__}" if module else None
            if module and name != value.__name__:
                line += f" as {name}"
            if module and (name not in OWN or line in self.imports):
                self.imports.add(line)
                continue
            if name in OWN:
                raise InputError(
                    f"{what}: cannot write a function that reads {name}, which is a name of the "
                    "script; expected another name"
                )
            shown = self.value(value, what, name)
            if not isinstance(value, types.FunctionType):
                shown = "\n".join(lines_of(shown, f"{name} = ")) + "\n"
                self._defined(name, shown, what)
        if text.startswith("lambda"):
            return " ".join(text.split()) if "\n" in text else text
        return self._defined(function.__name__, text + "\n", what)

    def _defined(self, name: str, text: str, what: str) -> str:
        taken = name in self.constants or name in self.variables.values()
        if taken or self.definitions.setdefault(name, text) != text:
            raise InputError(f"{what}: expected one meaning of {name} in the network, got several")
        self.names.new(name)
        return name

    # --- objects

    def _ensemble(self, ensemble: nengo.Ensemble) -> None:
        name, what = self.variables[ensemble], self._labels[ensemble]
        neurons, constant, given = ensemble.neuron_type, self.upper(ensemble), {}
        if hasattr(neurons, "amplitude"):
            says = "area of a spike: mean output is area * rate"
            says = says if neurons.spiking else "factor on the rates"
            given["amplitude"] = self.constant(f"{constant}_AMPLITUDE", neurons.amplitude, says)
            self.areas.setdefault(neurons.amplitude, given["amplitude"])
            self.amplitudes[ensemble] = given["amplitude"]
        named = {
            "dimensions": number(ensemble.dimensions),
            "neuron_type": self.object(neurons, what, name, **given),
            **self._tuning(ensemble, name, what),
        }
        used = _DRAWN_ONLY if ensemble not in self.alone else ()
        for key in (*used, "noise"):
            value = getattr(ensemble, key)
            if not _equal(value, getattr(nengo.Ensemble, key).default):
                named[key] = self.value(value, what, f"{name}_{key}")
        states = dict(neurons.state) | (neurons.initial_state or {})
        if used or any(is_random(each) for each in states.values()):
            named["seed"] = number(self.built.seed_of(ensemble))
            self.seeds = True
        named["label"] = quoted(what)
        self.add(call("nengo.Ensemble", number(ensemble.n_neurons), **named), f"{name} = ")

    def _tuning(self, ensemble: nengo.Ensemble, name: str, what: str) -> dict[str, Source]:
        """Return gain and bias, or max_rates and intercepts where they are equivalent."""
        given = {key: getattr(ensemble, key) for key in ("gain", "bias")}
        if any(not isinstance(each, np.ndarray) for each in given.values()):
            keys = ("max_rates", "intercepts", "gain", "bias")
            given = {key: getattr(ensemble, key) for key in keys}
            return {
                key: self.value(each, what, f"{name}_{key}")
                for key, each in given.items()
                if each is not None and not _equal(each, getattr(nengo.Ensemble, key).default)
            }
        n, neurons, (gain, bias) = ensemble.n_neurons, ensemble.neuron_type, given.values()
        self.warns |= _warns(neurons, gain, bias)
        usual = _usual_tuning(neurons, n)
        if usual is not None and all(map(np.array_equal, usual, (gain, bias))):
            dist = "nengo.dists.Choice"
            return {"max_rates": call(dist, "[100]"), "intercepts": call(dist, "[0]")}
        found: dict[str, Source] = {}
        if np.all(gain == gain.flat[0]):
            says = "current for each unit of drive"
            of_gain = self.constant(f"{self.upper(ensemble)}_GAIN", gain.flat[0], says)
            found["gain"] = call("np.full", number(n), of_gain)
        else:
            of_gain, found["gain"] = None, self.array(gain, f"{name}_gain")
        found["bias"] = self._bias(ensemble, name, of_gain, usual)
        return found

    def _bias(self, ensemble, name: str, of_gain: str | None, usual: tuple | None) -> Source:
        """Return a bias as Keras' own times the gain, plus a number."""
        bias, n = ensemble.bias, ensemble.n_neurons
        layer = self.target.layers.get(ensemble)
        keras = None if layer is None or layer.weights is None else layer.weights.bias
        if np.all(bias == bias.flat[0]) or keras is None or not of_gain or not np.any(keras):
            return self.array(bias, f"{name}_bias")
        drive = ensemble.gain * np.resize(keras, n)
        tuned = [0.0, *(() if usual is None else usual[1][:1]), float(np.median(bias - drive))]
        for own in tuned:
            if np.array_equal(own + drive, bias):
                found = f"{self.arrays.find(keras, f'{name}_keras_bias')}.astype(float)"
                found = found if keras.size == n else f"np.resize({found}, {n})"
                return f"{f'{number(own)} + ' if own else ''}{of_gain} * {found}"
        return self.array(bias, f"{name}_bias")

    def _node(self, node: nengo.Node) -> None:
        name, what, output = self.variables[node], self._labels[node], node.output
        sizes = {"size_in": number(node.size_in)} if node.size_in else {}
        if not sizes or callable(output):
            sizes["size_out"] = number(node.size_out)
        if node in self.shown:
            rows = self.rows(node)
            made: Source = f"lambda t: {rows}[round(t / DT) - 1]"
            if self.draws:  # for as many random streams as in the network
                seed = self.shown[node].process.seed
                given = {} if seed is None else {"seed": number(seed)}
                made = call(self.define("Shown", pieces.SHOWN), rows, **given)
        elif output is None:
            made = "None"
        elif isinstance(output, np.ndarray):
            made, sizes = self.value(output, what, name), {}
        elif isinstance(output, AddBias):
            made = f"lambda t, x: x + {self.value(output.bias, what, f'{name}_bias')}"
        elif type(output) is MaxPool:
            made = self._max_pool(node)
        elif type(output) is LowpassPerUnit:
            title = self.define("LowpassOfEach", pieces.LOWPASS)
            made = call(title, self.value(output.tau, what, f"{name}_tau"))
        elif isinstance(output, ImageInput):
            raise InputError(f"{what}: expected images for this input, got none")
        elif isinstance(output, nengo.Process):
            made = self.object(output, what, name)
        else:
            made = self.function(output, what)
        self.add(call("nengo.Node", made, **sizes, label=quoted(what)), f"{name} = ")

    def upper(self, item: Item) -> str:
        """Return the prefix of the names of an object's constants."""
        return self.variables[item].upper().rstrip("_")

    def rows(self, node: nengo.Node) -> str:
        """Return the name of the array that an input shows, with one row for each step."""
        return "shown" if len(self.shown) == 1 else f"{self.variables[node]}_shown"

    def _max_pool(self, node: nengo.Node) -> Group:
        process, area = node.output, self.graph.spike_area(node)
        geometry = (process.image_shape, process.pool_size, process.strides, process.padding)
        title, text = pieces.max_pool(process.kind, area is not None)
        spike = "1.0" if area is None else f"{self.areas.get(area, number(area))} / DT"
        given = number(node.size_in), self._windows(*geometry)
        return call(self.define(title, text), *given, spike)

    def _windows(self, shape, size, strides, padding: str) -> Group:
        around = listed([repr(tuple(each)) for each in padding_of(shape, size, strides, padding)])
        given = (tuple(map(int, each)) for each in (shape, size, strides))
        return call(self.define("windows", pieces.WINDOWS), *map(repr, given), around)

    # --- connections

    def end(self, obj: object, chosen: object, size: int) -> str:
        """Return an expression for one end of a connection, or for the target of a probe."""
        name = self.variables[owner(obj)] + (".neurons" if isinstance(obj, Neurons) else "")
        return name + self._selection(np.arange(size)[chosen], size, name)

    def _selection(self, indices: np.ndarray, size: int, name: str) -> str:
        if np.array_equal(indices, np.arange(size)):
            return ""
        step = int(indices[1] - indices[0]) if indices.size > 1 else 1
        if step > 0 and np.array_equal(indices, indices[0] + step * np.arange(indices.size)):
            last = int(indices[-1]) + 1
            return f"[{int(indices[0])}:{last}{f':{step}' if step > 1 else ''}]"
        if indices.size <= _FEW:
            return f"[{indices.tolist()}]"
        return f"[{self.arrays.find(indices, f'{name}_chosen')}.tolist()]"

    def _connection(self, connection: nengo.Connection) -> None:
        what = str(connection)
        if connection.learning_rule_type is not None:
            raise InputError(
                f"{what}: cannot write a connection with a learning rule; expected fixed weights"
            )
        pre, post = connection.pre_obj, connection.post_obj
        name = "_to_".join(self.variables[owner(each)].rstrip("_") for each in (pre, post))
        ends = (
            self.end(pre, connection.pre_slice, pre.size_out),
            self.end(post, connection.post_slice, post.size_in),
        )
        named: dict[str, Source] = {}
        if connection.function is not None:
            named["function"] = self.value(connection.function, what, f"{name}_function")
        named |= self._transform(connection, what, name)
        synapse, seeded = connection.synapse, is_drawn(connection.transform)
        plain = type(synapse) is nengo.Lowpass and synapse.seed is None
        named["synapse"] = self.value(synapse.tau if plain else synapse, what, f"{name}_synapse")
        if isinstance(connection.solver, nengo.solvers.NoSolver) or is_decoded(connection):
            named["solver"] = self.object(connection.solver, what, f"{name}_solver")
        if is_decoded(connection):
            seeded = True
            for key in ("eval_points", "scale_eval_points"):
                value = getattr(connection, key)
                if not _equal(value, getattr(nengo.Connection, key).default):
                    named[key] = self.value(value, what, f"{name}_{key}")
        if seeded:
            named["seed"] = number(self.built.seed_of(connection))
        self.add(call("nengo.Connection", *ends, **named))

    def _transform(self, connection, what: str, name: str) -> dict[str, Source]:
        transform, init = connection.transform, getattr(connection.transform, "init", None)
        if isinstance(transform, nengo.transforms.NoTransform):
            return {}
        if type(transform) is AveragePool:
            geometry = (transform.image_shape, *transform.pool.geometry(transform.image_shape))
            title = self.define("average_pool", pieces.AVERAGE_POOL)
            windows = self._windows(*geometry)
            return {"transform": call(title, number(transform.size_in), windows)}
        if type(transform) is nengo.Sparse:
            if not isinstance(init, SparseMatrix):
                matrix = init.tocoo()
                init = SparseMatrix(np.stack([matrix.row, matrix.col], 1), matrix.data, init.shape)
            places = self.value(init.indices, what, f"{name}_indices")
            given = {"indices": places, "init": self.value(init.data, what, f"{name}_weights")}
            return {"transform": call("nengo.Sparse", repr(tuple(init.shape)), **given)}
        if type(transform) is nengo.Dense and isinstance(init, np.ndarray):
            # Nengo's signals hold a matrix row by row, whatever its own order in memory.
            found = self.array(init, name, any_order=True) if init.ndim else number(init.item())
            return {"transform": found}
        given = {} if is_drawn(transform) else {"init": self.value(init, what, name)}
        return {"transform": self.object(transform, what, name, **given)}


def _items(network: nengo.Network) -> Iterator[Item]:
    """Yield ensembles and nodes in the order in which Nengo builds each kind."""
    yield from (*network.ensembles, *network.nodes)
    for each in network.networks:
        yield from _items(each)


def _connections(network: nengo.Network) -> Iterator[nengo.Connection]:
    """Yield connections in the order in which Nengo builds them."""
    for each in network.networks:
        yield from _connections(each)
    yield from network.connections


def _class_name(cls: type, what: str) -> str:
    for place in _PLACES.split():
        module = nengo if place == "nengo" else getattr(nengo, place.partition(".")[2])
        if getattr(module, cls.__name__, None) is cls:
            return f"{place}.{cls.__name__}"
    raise InputError(
        f"{what}: cannot write {cls.__name__}, which is a class of its own; expected what Nengo or "
        "nengonet has"
    )


def _draws(process: object) -> bool:
    """Return whether a process draws random numbers from the simulator's stream."""
    known = (ImageInput, MaxPool, LowpassPerUnit, nengo.processes.PresentInput)
    return (
        isinstance(process, nengo.Process)
        and process.seed is None
        and not isinstance(process, (*known, nengo.processes.Piecewise, nengo.synapses.Synapse))
    )


def _usual_tuning(neurons: nengo.neurons.NeuronType, n: int) -> tuple | None:
    """Return gain and bias for max_rates of 100 and intercepts of 0, if the type has them."""
    try:
        return neurons.gain_bias(np.full(n, 100.0), np.zeros(n))
    except nengo.exceptions.ValidationError:
        return None


def _warns(neurons: nengo.neurons.NeuronType, gain: np.ndarray, bias: np.ndarray) -> bool:
    """Return whether Nengo warns at build time that it finds no max_rates for a tuning."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return not np.all(np.isfinite(neurons.max_rates_intercepts(gain, bias)[0]))


def _nested(array: np.ndarray) -> Source:
    if array.ndim == 0:
        return number(array)
    return listed([_nested(each) for each in array])


def _equal(one: object, other: object) -> bool:
    try:
        return one is other or bool(np.all(one == other))
    except ValueError:
        return False
