"""`to_nir`: a network as a graph of the Neuromorphic Intermediate Representation."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import nengo
import numpy as np

from nengonet.checks import as_names, as_number, check_among
from nengonet.exceptions import InputError
from nengonet.explain.built import Built
from nengonet.explain.paths import Path
from nengonet.layers.filters import LowpassPerUnit
from nengonet.layers.graph import Graph, Item, owner
from nengonet.layers.inputs import ConstantImage, PoissonImage
from nengonet.layers.pools import MaxPool
from nengonet.layers.record import known_layers, labels_of
from nengonet.layers.targets import Output, Part, read_output
from nengonet.layers.weighted import AddBias
from nengonet.neurons import model_of
from nengonet.nir import parts
from nengonet.nir.layout import (
    Layout,
    images_of,
    is_plain,
    layouts_of,
    placement,
    pool_geometry,
    row,
)
from nengonet.version import __version__

if TYPE_CHECKING:
    import nir

# A matrix of more numbers than this takes more than a gigabyte.
_MOST_WEIGHTS = 2**27

# Name and unit of a node: what the number 1 there stands for in Nengo.
Ends = list[tuple[str, float]]


def to_nir(
    output: Output | nengo.Network,
    *,
    network: nengo.Network | None = None,
    dt: float = 0.001,
    allow: str | Iterable[str] = (),
    euler: bool = False,
    pools: str = "average",
) -> nir.NIRGraph:
    """Write a network as a graph of the Neuromorphic Intermediate Representation.

    Parameters
    ----------
    output : Layer, nengo.Ensemble, Neurons, nengo.Node, a slice, a list of these, or nengo.Network
        What the graph puts out, with all that it depends on; a list has an Output for each. A
        network puts out everything that feeds nothing else.
    network : nengo.Network, optional
        Needed for plain Nengo objects outside their ``with`` block; a `Layer` knows its own.
    dt : float, in seconds
        Step in which the other tool will run the graph. In it a spike is the number 1 for one
        step; Nengo's is ``amplitude / dt``, so the weights behind spikes depend on it.
    allow : str or iterable of str
        What to leave out knowingly, of what NIR cannot express: ``"tau_ref"``,
        ``"min_voltage"``, ``"initial_state"``, ``"reset"`` (neurons that subtract 1 for every
        spike become neurons that are reset to 0), ``"rectified"`` (`SpikingRectifiedLinear`
        integrates ``max(J, 0)``), ``"noise"``.
    euler : bool
        Write time constants for tools that step with Euler's method: their ``1 - dt / tau`` is
        then Nengo's ``exp(-dt / tau)``. By default the time constants are Nengo's.
    pools : {"average", "sum"}
        Write average pools as ``AvgPool2d``, which SpikingJelly and snnTorch read, or as
        ``SumPool2d``, which Norse and sinabs read; the weights behind it then divide.

    Returns
    -------
    nir.NIRGraph
        Write it with ``nir.write("network.nir", graph)``. Images stand channels first. The
        metadata of an Input says what is to be fed to it.

    Raises
    ------
    InputError
        The network has something that NIR cannot express; the message names it. Or the package
        ``nir`` is missing.

    References
    ----------
    J. E. Pedersen et al. (2024), "Neuromorphic intermediate representation: a unified instruction
    set for interoperable brain-inspired computing", Nature Communications 15:8122.
    """
    allow = as_names("allow", (allow,) if isinstance(allow, str) else allow, parts.DROPPED, "word")
    if isinstance(output, nengo.Network):
        output, network = _last(output), output
    target = read_output(output, network)
    dt = as_number("dt", dt, "a time in seconds", above=0)
    check_among("pools", pools, ("average", "sum"))
    parts.needed()
    time = {"dt": dt, "euler": euler}
    return _Writer(target.parts, target.network, time, pools == "sum").graph(allow)


def _last(network: nengo.Network) -> list[Item]:
    """Return what something feeds, and what feeds nothing."""
    graph = Graph(network)
    items = (*network.all_ensembles, *network.all_nodes)
    found = [each for each in items if graph.into(each) and not graph.out_of(each)]
    if not found:
        raise InputError(f"{network}: expected something that feeds nothing else; give an output")
    return found


class _Writer:
    """One graph that is being written."""

    def __init__(
        self, outputs: tuple[Part, ...], network: nengo.Network, time: dict, sum_pools: bool
    ) -> None:
        self.nir = parts.needed()
        self.wired, self.outputs = Graph(network), outputs
        layers = known_layers(None, network)
        self.labels = labels_of(network, layers)
        self.time, self.sum_pools = time, sum_pools
        self.built, self.paths = Built(network, dt=time["dt"]), {}
        self.order, _ = self.wired.upstream(*(part.item for part in outputs))
        shapes = {item: layer.shape for item, layer in layers.items()}
        self.layouts = layouts_of(self.order, self.wired, shapes)
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.missing: dict[str, list[str]] = {}
        self.ends: dict[Item, Ends | None] = {}
        # The place of a node is that of the object that is being written.
        self.rank: dict[str, tuple] = {}
        self.now = 0
        self.waiting: list[nengo.Ensemble] = []

    def graph(self, allow: tuple[str, ...]) -> nir.NIRGraph:
        """Return the graph, or name what it cannot express."""
        put_out = [(part, self.sources(part.item)) for part in self.outputs]
        while self.waiting:
            self._feed(*self.waiting.pop())
        self.missing = {key: names[::-1] for key, names in self.missing.items()}
        refused = [key for key in self.missing if key not in allow]
        if refused:
            found = [f"{', '.join(self.missing[key])}: {parts.DROPPED[key]}" for key in refused]
            words = ", ".join(f'"{key}"' for key in self.missing)
            raise InputError(f"{'; '.join(found)}; or leave it out knowingly: allow=[{words}]")
        self.now = len(self.order)
        for part, ends in put_out:
            name = "output" if len(put_out) == 1 else f"{self.label(part.item)}_output"
            self._put_out(part, ends, name)
        metadata = {"dt": self.time["dt"], "written_by": f"nengonet {__version__}"}
        if self.missing:
            metadata["left_out"] = ", ".join(self.missing)
        if not any(isinstance(node, self.nir.Input) for node in self.nodes.values()):
            raise InputError("expected a network with an input, got none that reaches the output")
        nodes = {name: self.nodes[name] for name in sorted(self.nodes, key=self.rank.get)}
        edges = sorted(self.edges, key=lambda edge: [self.rank[name] for name in edge])
        return self.nir.NIRGraph(nodes, edges, metadata)

    def _put_out(self, part: Part, ends: Ends, name: str) -> None:
        layout = self.layouts[part.item]
        ends, _ = self.of_one_unit(ends, layout)
        if not part.is_whole:
            ends = self.flattened(ends, layout)
            chosen = np.equal.outer(part.indices, layout.order).astype(np.float64)
            taken = self.nir.Affine(chosen, np.zeros(len(chosen)))
            ends, layout = [(self.join(ends, f"{name}_slice", taken), 1.0)], row(len(chosen))
        self.join(ends, name, self.nir.Output(np.array(layout.shape)))

    def label(self, item: Item) -> str:
        """Return a name for an object, of letters that files and tools take."""
        kind = type(item).__name__.lower()
        return re.sub(r"\W+", "_", self.labels.get(item) or kind).strip("_") or kind

    # --- nodes and edges

    def add(self, name: str, node: nir.NIRNode) -> str:
        """Add a node under a name of its own."""
        unique, number = name, 1
        while unique in self.nodes:
            unique, number = f"{name}_{number}", number + 1
        # Neurons have their name before what feeds them has, and stand behind it.
        self.nodes[unique], self.rank[unique] = node, (self.now, node is None, len(self.nodes))
        return unique

    def join(self, ends: Ends, name: str, node: nir.NIRNode) -> str:
        """Add a node that some ends feed."""
        name = self.add(name, node)
        self.connect(ends, name)
        return name

    def connect(self, ends: Ends, name: str) -> None:
        """Let some ends feed a node; NIR has one edge between two nodes at most."""
        for end, _ in ends:
            if (end, name) in self.edges:
                shape = self.nodes[name].input_type["input"]
                again = self.nir.Scale(np.ones(tuple(map(int, shape))))
                end = self.join([(end, 1.0)], f"{end}_again", again)
            self.edges.append((end, name))

    def of_one_unit(self, ends: Ends, layout: Layout) -> tuple[Ends, float]:
        """Return ends in one unit: scaled to 1 where several differ."""
        units = {unit for _, unit in ends}
        if len(units) <= 1:
            return ends, units.pop() if units else 1.0
        scaled = []
        for end, unit in ends:
            scale = self.nir.Scale(np.full(layout.shape, unit))
            scaled.append((self.join([(end, unit)], f"{end}_scale", scale), 1.0))
        return scaled, 1.0

    def flattened(self, ends: Ends, layout: Layout) -> Ends:
        """Return ends in one dimension."""
        if not layout.is_image or not ends:
            return ends
        ends, unit = self.of_one_unit(ends, layout)
        name = f"{'_'.join(end for end, _ in ends)}_flatten"
        if name not in self.nodes:
            shape = {"input": np.array(layout.shape)}
            self.join(ends, name, self.nir.Flatten(shape, start_dim=0, end_dim=-1))
        return [(name, unit)]

    # --- what an object puts out

    def sources(self, item: Item) -> Ends:
        """Return the nodes whose sum is what an object puts out; add them first if need be."""
        if item not in self.ends:
            self.ends[item] = None
            before, self.now = self.now, self.order.index(item)
            self.ends[item] = self._sources(item)
            self.now = before
        if self.ends[item] is None:
            raise InputError(f"{item}: cannot export a loop of Nodes alone; expected neurons in it")
        return self.ends[item]

    def _sources(self, item: Item) -> Ends:
        if isinstance(item, nengo.Ensemble):
            return self._neurons(item)
        if item.size_in == 0:
            return self._input(item)
        output = item.output
        if output is None or type(output) is AddBias:
            bias = None if output is None else output.bias
            return self._sum(item, bias)
        if type(output) is LowpassPerUnit and (np.all(output.tau > 0) or not np.any(output.tau)):
            ends, unit = self.of_one_unit(self._sum(item, None), self.layouts[item])
            if not np.any(output.tau):
                return ends
            node = parts.low_pass(self.layouts[item], output.tau, **self.time)
            return [(self.join(ends, self.label(item), node), unit)]
        what = "a function of its own"
        if isinstance(output, MaxPool):
            what = "a max pool; NIR has none, so build avg_pool2d"
        elif isinstance(output, LowpassPerUnit):
            what = "filters of which some have tau=0"
        raise InputError(f"{item}: cannot export a Node with {what}")

    def _input(self, node: nengo.Node) -> Ends:
        unit, feed, output = 1.0, "what the Node puts out, at every step", node.output
        if isinstance(output, ConstantImage):
            unit, feed = output.scale, "the image's values, at every step"
        elif isinstance(output, PoissonImage):
            unit = output.amplitude / self.time["dt"]
            feed = f"spikes: Poisson counts of mean {output.max_rate:g} Hz * dt * value, every step"
        return self._fed(node, unit, feed)

    def _fed(self, item: Item, unit: float, feed: str) -> Ends:
        shape = np.array(self.layouts[item].shape)
        node = self.nir.Input(shape, metadata={"feed": feed})
        return [(self.add(self.label(item), node), unit)]

    def _neurons(self, ensemble: nengo.Ensemble) -> Ends:
        model, label = model_of(ensemble.neuron_type), self.label(ensemble)
        unit = model.amplitude / self.time["dt"]
        ensembles = [each for each in self.wired.upstream(ensemble)[0] if each is not ensemble]
        if model.random and not any(isinstance(each, nengo.Ensemble) for each in ensembles):
            return self._fed(ensemble, unit, f"the spikes of {ensemble.label or ensemble}")
        family, missing = parts.neurons_of(ensemble.neuron_type, ensemble.noise)
        if family is None:
            raise InputError(
                f"{label}: cannot export {model.name} neurons; NIR has leaky and non-leaky "
                "integrate-and-fire neurons (nengo.LIF, nengonet.IntegrateAndFire)"
            )
        for key in missing:
            self.missing.setdefault(key, []).append(label)
        filters = [parts.filters_of(each.synapse) for each in self.wired.into(ensemble)]
        gain, bias = self.built.tuning(ensemble)
        taus = {tuple(each or ()) for each in filters}
        tau_syn = None
        if family.leaky and not np.any(bias) and len(taus) == 1 and len(only := taus.pop()) == 1:
            tau_syn = parts.time_constant(only[0], **self.time)
        name = f"{label}_{'lif' if family.leaky else 'if'}"
        name = self.add(name, None)
        self.waiting.append((ensemble, family, name, gain, bias, tau_syn))
        return [(name, unit)]

    def _feed(self, ensemble, family, name, gain, bias, tau_syn) -> None:
        """Write neurons, and the currents that come in."""
        self.now, layout = self.rank[name][0], self.layouts[ensemble]
        unit = family.unit(self.time["dt"], self.time["euler"], tau_syn)
        come_in, v_leak = self.wired.into(ensemble), np.zeros(len(gain))
        bias = bias + gain * sum(map(self._fixed, come_in))
        come_in = [each for each in come_in if not np.any(self._fixed(each))]
        takes = self._taker(come_in, bias, gain)
        ends = []
        if not np.any(bias):
            takes = None
        elif takes is None and family.leaky:
            v_leak = bias
        elif takes is None:
            raise InputError(
                f"{self.label(ensemble)}: cannot export these biases; expected one for each "
                "filter of a convolution"
            )
        elif takes.synapse is not None:  # which would filter the bias too
            ends += self.carried(takes, 0 * gain, unit * bias, synapse=False, name="bias")
        for connection in come_in:
            now = unit * bias if connection is takes and takes.synapse is None else None
            ends += self.carried(connection, unit * gain, now, synapse=tau_syn is None)
        self.nodes[name] = family.written(layout, **self.time, v_leak=v_leak, tau_syn=tau_syn)
        self.connect(ends, name)

    def _sum(self, node: nengo.Node, bias: np.ndarray | None) -> Ends:
        """Return what comes into a Node that passes on the sum."""
        ends, come_in = [], self.wired.into(node)
        ones = np.ones(node.size_in)
        fixed = sum(map(self._fixed, come_in), np.zeros(node.size_in))
        bias = fixed if bias is None else bias + fixed
        come_in = [each for each in come_in if not np.any(self._fixed(each))]
        takes = self._taker(come_in, bias, ones)
        if not np.any(bias):
            takes = None
        elif takes is None:
            raise InputError(
                f"{self.label(node)}: cannot export its bias, which no connection with weights "
                "takes"
            )
        elif takes.synapse is not None:
            ends += self.carried(takes, 0 * ones, bias, synapse=False, name="bias")
        for connection in come_in:
            now = bias if connection is takes and takes.synapse is None else None
            ends += self.carried(connection, None, now)
        return ends

    # --- connections

    def _fixed(self, connection: nengo.Connection) -> np.ndarray | float:
        """Return what a Node of constants adds: a bias, where the network has other inputs."""
        node = owner(connection.pre_obj)
        output = node.output if isinstance(node, nengo.Node) else None
        others = [each for each in self.order if each is not node and not self.wired.into(each)]
        constant = isinstance(output, np.ndarray) and node.size_in == 0 and np.any(output)
        if not (constant and others and connection.synapse is None):
            return 0.0
        path = self._path(connection)
        return path.into(path.carried(output[np.newaxis]))[0]

    def _taker(self, come_in, bias: np.ndarray, gain: np.ndarray) -> nengo.Connection | None:
        """Return a connection whose node can add a bias: one without a filter, if there is one."""
        takers = [each for each in come_in if self._takes(each, bias, gain)]
        return min(takers, key=lambda each: each.synapse is not None, default=None)

    def _takes(self, connection: nengo.Connection, bias: np.ndarray, gain: np.ndarray) -> bool:
        """Whether a connection's node in NIR can add a bias."""
        kind = self._kind(connection)
        if kind == "convolution":
            after = images_of(connection)[1]
            return all(_by_filter(each, after) is not None for each in (bias, gain))
        layout = self.layouts[owner(connection.post_obj)]
        return kind == "matrix" or (kind == "plain" and not layout.is_image)

    def _kind(self, connection: nengo.Connection) -> str:
        before = self.layouts[owner(connection.pre_obj)]
        after = self.layouts[owner(connection.post_obj)]
        found = images_of(connection)
        if is_plain(connection) and np.array_equal(before.order, after.order):
            return "plain"
        if found and found[0] == before and np.array_equal(found[1].order, after.order):
            return "pool" if hasattr(connection.transform, "pool") else "convolution"
        placed = after.is_image and placement(connection, before, after) is not None
        return "placed" if placed else "matrix"

    def _path(self, connection: nengo.Connection) -> Path:
        if connection not in self.paths:
            try:
                self.paths[connection] = Path(connection, self.built, self.time["dt"])
            except InputError as error:
                raise InputError(str(error).replace("cannot predict", "cannot export")) from None
        return self.paths[connection]

    def carried(
        self,
        connection: nengo.Connection,
        factor: np.ndarray | None,
        bias: np.ndarray | None,
        synapse: bool = True,
        name: str = "",
    ) -> Ends:
        """Add the nodes of a connection, named by what they feed and ``name``; return their ends.

        ``factor`` and ``bias`` have one value for each element that it feeds. Without a factor the
        ends of what only passes on keep their units; otherwise they are in units of 1.
        """
        path = self._path(connection)
        taus = parts.filters_of(connection.synapse)
        if taus is None:
            raise InputError(
                f"{connection}: cannot export the synapse {connection.synapse}; expected None, "
                "nengo.Lowpass or nengo.Alpha"
            )
        pre, post = owner(connection.pre_obj), owner(connection.post_obj)
        before, layout = self.layouts[pre], self.layouts[post]
        ends, unit = self.of_one_unit(self.sources(pre), before)
        kind, name = self._kind(connection), "_".join(filter(None, (self.label(post), name)))
        name = name if name not in self.nodes else f"{name}_from_{self.label(pre)}"
        if kind == "matrix":
            ends = self.flattened(ends, before)
            ends = [(self._matrix(path, ends, name, unit, factor, bias, before, layout), 1.0)]
        elif kind == "convolution":
            ends = [(self._convolution(connection, ends, name, unit, factor, bias), 1.0)]
        elif kind == "pool":
            geometry = pool_geometry(connection.transform)
            node, over = parts.pool(*geometry, before, self.sum_pools)
            ends, unit = [(self.join(ends, name, node), unit / over)], unit / over
        elif kind == "placed":
            node = parts.placed(*placement(connection, before, layout), before, layout)
            ends = [(self.join(ends, name, node), unit)]
        if kind != "matrix" and not layout.is_image:
            ends = self.flattened(ends, before if kind == "plain" else images_of(connection)[1])
        if kind in ("pool", "plain", "placed") and not (factor is None and bias is None):
            ones = np.ones(len(layout.order)) if factor is None else factor
            ends = self._scaled(ends, name, unit * ones, bias, layout)
        for number, tau in enumerate(taus if synapse else []):
            node = parts.low_pass(layout, np.full(len(layout.order), tau), **self.time)
            ends, unit = self.of_one_unit(ends, layout)
            ends = [(self.join(ends, f"{name}_synapse{number or ''}", node), unit)]
        return ends

    def _matrix(self, path, ends, name, unit, factor, bias, before, layout) -> str:
        n_in, n_out = len(before.order), len(layout.order)
        if n_in * n_out > _MOST_WEIGHTS:
            raise InputError(
                f"{name}: cannot export a matrix of {n_out} x {n_in} weights; convolutions and "
                "pools stay small where channels and positions reach them as they are"
            )
        matrix = unit * path.matrix
        matrix = matrix if factor is None else factor[:, np.newaxis] * matrix
        matrix = matrix[layout.order][:, before.order]
        bias = np.zeros(n_out) if bias is None else bias[layout.order]
        return self.join(ends, name, self.nir.Affine(matrix, bias))

    def _convolution(self, connection, ends, name, unit, factor, bias) -> str:
        after = images_of(connection)[1]
        ones = np.ones(len(after.order))
        gains = _by_filter(ones if factor is None else factor, after)
        biases = np.zeros(after.shape[0]) if bias is None else _by_filter(bias, after)
        alike = unit * (np.ones(after.shape[0]) if gains is None else gains)
        node = parts.convolution(connection.transform, alike, biases, after)
        end = self.join(ends, name, node)
        if gains is None:  # neurons of one filter with gains of their own
            end = self.join([(end, 1.0)], f"{name}_gain", self.nir.Scale(after.place(factor)))
        return end

    def _scaled(self, ends: Ends, name: str, factor, bias, layout: Layout) -> Ends:
        """Return ends in units of 1: one factor for each element, and a bias."""
        if bias is not None:
            matrix = np.diag(layout.place(factor))
            return [(self.join(ends, name, self.nir.Affine(matrix, layout.place(bias))), 1.0)]
        if np.all(factor == 1):
            return [(end, 1.0) for end, _ in ends]
        return [(self.join(ends, name, self.nir.Scale(layout.place(factor))), 1.0)]


def _by_filter(values: np.ndarray, layout: Layout) -> np.ndarray | None:
    """Return one value for each filter; None where they differ within one."""
    by_filter = layout.place(values).reshape(layout.shape[0], -1)
    return by_filter[:, 0] if np.all(by_filter == by_filter[:, :1]) else None
