"""`to_nir`: a network as a graph of the Neuromorphic Intermediate Representation (NIR)."""

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
from nengonet.layers.record import labels_of
from nengonet.layers.targets import Output, Part, Target, read_output
from nengonet.layers.weighted import AddBias
from nengonet.neurons import model_of
from nengonet.nir import parts
from nengonet.nir.layout import Layout, layouts_of, placement, row
from nengonet.version import __version__

if TYPE_CHECKING:
    import nir

# A matrix with more numbers than this takes more than a gigabyte.
_MOST_WEIGHTS = 2**27

# Names of nodes whose sum is a signal, and its unit: the value in Nengo of the number 1 in NIR.
Signal = tuple[list[str], float]


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
        The output of the graph. Everything that it depends on is exported. A list gives one Output
        node for each of its items. The outputs of a network are the objects that feed nothing else.
    network : nengo.Network, optional
        Needed for plain Nengo objects outside their ``with`` block; a `Layer` knows its own.
    dt : float, in seconds
        Step in which the other tool will run the graph. There, a spike is the number 1 for one
        step. Nengo's spike is ``amplitude / dt``, so the weights behind spikes depend on ``dt``.
    allow : str or iterable of str
        What the export may leave out because NIR cannot express it: ``"tau_ref"``,
        ``"min_voltage"``, ``"initial_state"``, ``"reset"`` (neurons that subtract 1 for every
        spike become neurons that are reset to 0), ``"rectified"`` (`SpikingRectifiedLinear`
        integrates ``max(J, 0)``), ``"noise"``.
    euler : bool
        Write time constants for tools that step with Euler's method: their ``1 - dt / tau`` is
        then Nengo's ``exp(-dt / tau)``. By default the time constants are Nengo's.
    pools : {"average", "sum"}
        Write average pools as ``AvgPool2d``, which SpikingJelly and snnTorch read, or as
        ``SumPool2d``, which Norse and sinabs read. The weights behind a ``SumPool2d`` include the
        division.

    Returns
    -------
    nir.NIRGraph
        Write it with ``nir.write("network.nir", graph)``. Images have their channels first. The
        metadata of an Input says what must be fed to it. An Output gives the number 1 for a spike,
        and Nengo's values for objects that do not spike.

    Raises
    ------
    InputError
        The network contains something that NIR cannot express, which the message names. Or the
        package ``nir`` is missing.

    References
    ----------
    J. E. Pedersen et al. (2024), "Neuromorphic intermediate representation: a unified instruction
    set for interoperable brain-inspired computing", Nature Communications 15:8122.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> graph = nn.to_nir(layer, allow=["tau_ref", "min_voltage", "initial_state"])
    >>> list(graph.nodes)
    ['input', 'layer', 'layer_lif', 'output']
    """
    allow = as_names("allow", (allow,) if isinstance(allow, str) else allow, parts.DROPPED, "word")
    if isinstance(output, nengo.Network):
        output, network = _last(output), output
    target = read_output(output, network)
    dt = as_number("dt", dt, "a time in seconds", above=0)
    check_among("pools", pools, ("average", "sum"))
    return _Writer(target, {"dt": dt, "euler": euler}, pools == "sum").graph(allow)


def _last(network: nengo.Network) -> list[Item]:
    """Return the objects that are fed but feed nothing."""
    graph = Graph(network)
    items = (*network.all_ensembles, *network.all_nodes)
    found = [each for each in items if graph.into(each) and not graph.out_of(each)]
    if not found:
        raise InputError(
            f"{network}: expected an object that feeds no other, got none; give an output"
        )
    return found


class _Writer:
    """The writer of one graph."""

    def __init__(self, target: Target, time: dict, sum_pools: bool) -> None:
        self.nir, self.outputs = parts.needed(), target.parts
        self.wired, self.time, self.sum_pools = Graph(target.network), time, sum_pools
        self.labels = labels_of(target.network, target.layers)
        self.built = Built(target.network, dt=time["dt"])
        self.order, _ = self.wired.upstream(*(part.item for part in self.outputs))
        shapes = {item: layer.shape for item, layer in target.layers.items()}
        self.layouts, self.routes = layouts_of(self.order, self.wired, shapes)
        inputs = [each for each in self.order if isinstance(each, nengo.Node) and not each.size_in]
        fixed = [each for each in inputs if isinstance(each.output, np.ndarray)]
        fixed = [each for each in fixed if np.any(each.output)]
        self.constants = set(fixed) if len(fixed) < len(inputs) else set()
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.missing: dict[str, list[str]] = {}
        self.signals: dict[Item, Signal | None] = {}
        self.flat: dict[tuple[str, ...], str] = {}
        self.neurons: dict[nengo.Ensemble, tuple] = {}

    def graph(self, allow: tuple[str, ...]) -> nir.NIRGraph:
        """Return the graph, or raise an error that names what NIR cannot express."""
        # Neurons get their names before the objects that feed them, and are added after them.
        for item in reversed(self.order):
            if isinstance(item, nengo.Ensemble):
                self.signals[item] = self._neurons(item)
        for item in self.order:
            if item in self.neurons:
                self._feed(item, *self.neurons[item])
        put_out = [self.signal(part.item) for part in self.outputs]
        refused = [key for key in self.missing if key not in allow]
        if refused:
            found = [f"{', '.join(self.missing[key])}: {parts.DROPPED[key]}" for key in refused]
            words = ", ".join(f'"{key}"' for key in self.missing)
            raise InputError(f"{'; '.join(found)}; or leave this out of the file: allow=[{words}]")
        for part, signal in zip(self.outputs, put_out, strict=True):
            name = "output" if len(put_out) == 1 else f"{self.label(part.item)}_output"
            self._put_out(part, signal, name)
        metadata = {"dt": self.time["dt"], "written_by": f"nengonet {__version__}"}
        if self.missing:
            metadata["left_out"] = ", ".join(self.missing)
        if not any(isinstance(node, self.nir.Input) for node in self.nodes.values()):
            raise InputError("expected a network with an input, got none that reaches the output")
        return self.nir.NIRGraph(self.nodes, self.edges, metadata)

    def _put_out(self, part: Part, signal: Signal, name: str) -> None:
        (ends, _), layout = signal, self.layouts[part.item]
        if self.wired.spike_area(part.item) is None:  # values, as in Nengo
            ends = self.scaled(signal, f"{name}_scale", None, None, layout)
        if not part.is_whole:
            chosen = np.equal.outer(part.indices, layout.order).astype(np.float64)
            taken = self.nir.Affine(chosen, np.zeros(len(chosen)))
            ends = self.join(self.flattened(ends, layout), f"{name}_slice", taken)
            layout = row(len(chosen))
        self.join(ends, name, self.nir.Output(np.array(layout.shape)))

    def label(self, item: Item) -> str:
        """Return a name for an object, made of letters that files and tools accept."""
        kind = type(item).__name__.lower()
        return re.sub(r"\W+", "_", self.labels.get(item) or kind).strip("_") or kind

    # --- nodes and edges

    def join(self, ends: list[str], name: str, node: nir.NIRNode) -> list[str]:
        """Add a node that other nodes feed, under a name of its own; return the name."""
        unique, number = name, 1
        while unique in self.nodes:
            unique, number = f"{name}_{number}", number + 1
        self.nodes[unique] = node
        self.edges += [(end, unique) for end in ends]
        return [unique]

    def flattened(self, ends: list[str], layout: Layout) -> list[str]:
        """Return a signal as a row of one dimension."""
        if not layout.is_image or not ends:
            return ends
        if (key := tuple(ends)) not in self.flat:
            node = self.nir.Flatten({"input": np.array(layout.shape)}, start_dim=0, end_dim=-1)
            (self.flat[key],) = self.join(ends, f"{'_'.join(ends)}_flatten", node)
        return [self.flat[key]]

    def scaled(self, signal: Signal, name: str, factor, bias, layout: Layout) -> list[str]:
        """Return a signal in units of 1, with one factor for each element, and a bias."""
        (ends, unit), factor = signal, 1.0 if factor is None else factor
        factor = layout.place(np.broadcast_to(unit * factor, layout.order.shape))
        if bias is not None:
            return self.join(ends, name, self.nir.Affine(np.diag(factor), layout.place(bias)))
        return ends if np.all(factor == 1) else self.join(ends, name, self.nir.Scale(factor))

    # --- the output of an object

    def signal(self, item: Item) -> Signal:
        """Return the output of an object; add its nodes first where they are missing."""
        if item not in self.signals:
            self.signals[item] = None
            self.signals[item] = self._node(item)
        if self.signals[item] is None:
            raise InputError(f"{item}: cannot export a loop of Nodes alone; expected neurons in it")
        return self.signals[item]

    def _node(self, node: nengo.Node) -> Signal:
        output, taus, bias = node.output, 0.0, np.zeros(node.size_in)
        if node.size_in == 0:
            return self._input(node)
        if type(output) is AddBias:
            bias = output.bias
        elif type(output) is LowpassPerUnit:
            taus = output.tau
        elif output is not None:
            max_pool = "a max pool; NIR has none, so build avg_pool2d"
            what = max_pool if isinstance(output, MaxPool) else "a function of its own"
            raise InputError(f"{node}: cannot export a Node with {what}")
        if np.any(taus) and not np.all(taus):
            raise InputError(f"{node}: cannot export a Node with filters of which some have tau=0")
        (ends, unit), left = self._come_in(node, None, bias)
        if np.any(left):
            raise InputError(
                f"{self.label(node)}: cannot export its bias, which no connection with weights "
                "takes"
            )
        if np.any(taus):
            low_pass = parts.low_pass(self.layouts[node], taus, **self.time)
            ends = self.join(ends, self.label(node), low_pass)
        return ends, unit

    def _input(self, node: nengo.Node) -> Signal:
        unit, feed, output = 1.0, "the output of the Node, at every step", node.output
        if isinstance(output, ConstantImage):
            unit, feed = output.scale, "the image's values, at every step"
        elif isinstance(output, PoissonImage):
            unit = output.amplitude / self.time["dt"]
            feed = f"spikes: Poisson counts of mean {output.max_rate:g} Hz * dt * value, every step"
        return self._fed(node, feed), unit

    def _fed(self, item: Item, feed: str) -> list[str]:
        shape = np.array(self.layouts[item].shape)
        return self.join([], self.label(item), self.nir.Input(shape, metadata={"feed": feed}))

    def _neurons(self, ensemble: nengo.Ensemble) -> Signal:
        """Add neurons without their inputs; return their spikes."""
        model, label = model_of(ensemble.neuron_type), self.label(ensemble)
        unit = model.amplitude / self.time["dt"]
        ensembles = [each for each in self.wired.upstream(ensemble)[0] if each is not ensemble]
        if model.random and not any(isinstance(each, nengo.Ensemble) for each in ensembles):
            return self._fed(ensemble, f"the spikes of {ensemble.label or ensemble}"), unit
        dropped = parts.dropped(ensemble)
        if dropped is None:
            raise InputError(
                f"{label}: cannot export {model.name} neurons; NIR has leaky and non-leaky "
                "integrate-and-fire neurons (nengo.LIF, nengonet.IntegrateAndFire)"
            )
        for key in dropped:
            self.missing.setdefault(key, []).insert(0, label)
        gain, bias = self.built.tuning(ensemble)
        filters = {tuple(parts.filters_of(each)) for each in self.wired.into(ensemble)}
        tau, tau_syn = None, None
        if model.family is nengo.LIF:
            tau = parts.time_constant(ensemble.neuron_type.tau_rc, **self.time)
            only = filters.pop() if len(filters) == 1 and not np.any(bias) else ()
            tau_syn = parts.time_constant(only[0], **self.time) if len(only) == 1 else None
        node, current = parts.neurons(self.layouts[ensemble], tau, tau_syn, self.time["dt"])
        (name,) = self.join([], f"{label}_{'if' if tau is None else 'lif'}", node)
        self.neurons[ensemble] = name, gain, bias, current, tau_syn is None
        return [name], unit

    def _feed(self, ensemble, name, gain, bias, unit, synapse) -> None:
        """Add the input currents of neurons, in front of them."""
        (ends, _), left = self._come_in(ensemble, gain, bias, unit, synapse)
        node = self.nodes[name] = self.nodes.pop(name)
        if np.any(left) and isinstance(node, self.nir.IF):
            raise InputError(
                f"{self.label(ensemble)}: cannot export these biases; expected one for each "
                "filter of a convolution"
            )
        if np.any(left):
            node.v_leak = self.layouts[ensemble].place(left)
        self.edges += [(end, name) for end in ends]

    def _come_in(
        self, item: Item, gain: np.ndarray | None, bias: np.ndarray, unit=1.0, synapse=True
    ) -> tuple[Signal, np.ndarray]:
        """Return the sum of the inputs, and the part of a bias that none of their nodes takes."""
        fixed = {each: self._fixed(each) for each in self.wired.into(item)}
        gains = np.ones(len(bias)) if gain is None else gain
        bias = bias + gains * sum(fixed.values())
        come_in = [each for each, added in fixed.items() if not np.any(added)]
        takers = [each for each in come_in if np.any(bias) and self._takes(each, bias, gains)]
        # A filter would also filter the bias.
        taker = min(takers, key=lambda each: each.synapse is not None, default=None)
        factor, signals = None if gain is None else unit * gain, []
        if taker is not None and taker.synapse is not None:
            signals.append(self.carried(taker, 0 * gains, unit * bias, False, "bias"))
        for each in come_in:
            added = unit * bias if each is taker and taker.synapse is None else None
            signals.append(self.carried(each, factor, added, synapse))
        units, ends, layout = {unit for ends, unit in signals if ends}, [], self.layouts[item]
        for now in signals:
            kept = len(units) <= 1 or not now[0]
            made = now[0] if kept else self.scaled(now, f"{now[0][0]}_scale", None, None, layout)
            for end in made:
                if end in ends:  # NIR has at most one edge between two nodes
                    again = self.nir.Scale(np.ones(layout.shape))
                    (end,) = self.join([end], f"{end}_again", again)
                ends.append(end)
        unit = units.pop() if len(units) == 1 else 1.0
        return (ends, unit), bias if taker is None else 0 * bias

    # --- connections

    def _fixed(self, connection: nengo.Connection) -> np.ndarray | float:
        """Return the bias that a Node of constants adds beside other inputs of the network."""
        node = owner(connection.pre_obj)
        if node not in self.constants or connection.synapse is not None:
            return 0.0
        path = self._path(connection)
        return path.into(path.carried(node.output[np.newaxis]))[0]

    def _takes(self, connection: nengo.Connection, *values: np.ndarray) -> bool:
        """Return whether the node of a connection in NIR can add a bias."""
        kind, behind = self.routes[connection]
        if kind == "convolution":
            return all(behind.by_channel(each) is not None for each in values)
        layout = self.layouts[owner(connection.post_obj)]
        return kind == "matrix" or (kind == "plain" and not layout.is_image)

    def _path(self, connection: nengo.Connection) -> Path:
        try:
            return Path(connection, self.built, self.time["dt"])
        except InputError as error:
            raise InputError(str(error).replace("cannot predict", "cannot export")) from None

    def carried(
        self, connection: nengo.Connection, factor, bias, synapse: bool = True, name: str = ""
    ) -> Signal:
        """Add the nodes of a connection, named by the object that they feed and ``name``.

        ``factor`` and ``bias`` have one value for each element that the connection feeds. Without
        a factor, a connection that only passes values on keeps their unit. Otherwise the signal is
        in units of 1.
        """
        pre, post, transform = connection.pre_obj, connection.post_obj, connection.transform
        pre, post = owner(pre), owner(post)
        path, taus = self._path(connection), parts.filters_of(connection)
        before, layout = self.layouts[pre], self.layouts[post]
        (ends, unit), (kind, behind) = self.signal(pre), self.routes[connection]
        name = "_".join(filter(None, (self.label(post), name)))
        name = name if name not in self.nodes else f"{name}_from_{self.label(pre)}"
        scale = name
        if kind == "matrix":
            n_in, n_out = len(before.order), len(layout.order)
            if n_in * n_out > _MOST_WEIGHTS:
                raise InputError(
                    f"{name}: cannot export a matrix of {n_out} x {n_in} weights; convolutions and "
                    "pools stay small where channels and positions reach them as they are"
                )
            matrix = (unit if factor is None else unit * factor[:, np.newaxis]) * path.matrix
            matrix = matrix[np.ix_(layout.order, before.order)]
            bias = np.zeros(n_out) if bias is None else bias[layout.order]
            ends, node = self.flattened(ends, before), self.nir.Affine(matrix, bias)
            unit = factor = 1.0
        elif kind == "convolution":
            gains, biases = behind.by_channel(factor), behind.by_channel(bias)
            kernel = self.built.weights(connection)[1]
            kernel = np.asarray(transform.init if kernel is None else kernel, np.float64)
            kernel = kernel * (unit if gains is None else unit * gains)
            node = parts.convolution(transform, kernel, biases, before, behind)
            scale, unit, factor = f"{name}_gain", 1.0, 1.0 if gains is not None else factor
        elif kind == "pool":
            node, unit = parts.pool(transform, unit, before, behind, self.sum_pools)
        elif kind == "placed":
            node = parts.placed(*placement(connection, before, behind), before, behind)
        if kind != "plain":
            ends, bias = self.join(ends, name, node), None
        if behind.is_image and not layout.is_image:
            ends = self.flattened(ends, behind)
        if factor is not None or bias is not None:
            ends, unit = self.scaled((ends, unit), scale, factor, bias, layout), 1.0
        for number, tau in enumerate(taus if synapse else []):
            node = parts.low_pass(layout, tau, **self.time)
            ends = self.join(ends, f"{name}_synapse{number or ''}", node)
        return ends, unit
