"""Data that enter and leave a minibatch: of nodes, of probes, and learned weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import nengo
import numpy as np
from nengo.base import NengoObject
from nengo.builder.connection import BuiltConnection
from nengo.builder.ensemble import BuiltEnsemble
from nengo.simulator import SimulationData

from nengonet.checks import as_numbers, check_finite, described
from nengonet.exceptions import InputError
from nengonet.minibatch.carrying import learned_signals

if TYPE_CHECKING:
    from nengonet.minibatch.simulator import MinibatchSimulator


@contextlib.contextmanager
def feeding(simulator: MinibatchSimulator, data: object, n_steps: int) -> Iterator[None]:
    """Let nodes output ``data`` during this block."""
    if data is None or isinstance(data, Mapping) and not data:
        yield
        return
    if not isinstance(data, Mapping):
        raise InputError(f"data: expected a dict of {{Node: values}}, got {described(data)}")
    given = {node: checked_rows(simulator, node, each, n_steps) for node, each in data.items()}
    simulator._forget_steps()
    simulator._fed, simulator._fed_from = given, simulator.n_steps
    try:
        yield
    finally:
        simulator._forget_steps()
        simulator._fed = {}
        for node in () if simulator.closed else given:
            simulator.signals.reset(simulator._facts.nodes[node])


def checked_rows(
    simulator: MinibatchSimulator, node: nengo.Node, data: object, n_steps: int
) -> np.ndarray:
    """Return the values that a node should output as an array that fits it, or raise an error."""
    nodes = simulator._facts.nodes
    if node not in nodes:
        raise InputError(f"data: expected nodes of the network, got {node!r}")
    if node.size_in > 0:
        raise InputError(
            f"data: expected nodes without an input, got {node} (size_in {node.size_in})"
        )
    rows = as_numbers(f"data for {node}", data)
    batch, size = simulator.minibatch_size, node.size_out
    if rows.shape not in ((batch, n_steps, size), (batch, size)):
        raise InputError(
            f"data: expected shape {(batch, n_steps, size)} (example, step, value) or "
            f"{(batch, size)} for {node}, got {rows.shape}"
        )
    # Numbers that are too large for few bits would become infinite.
    with np.errstate(over="ignore"):
        return check_finite(f"data for {node}", rows.astype(nodes[node].dtype))


class MinibatchData(SimulationData):
    """Built parameters, learned weights, and the data of probes with the batch first."""

    def __init__(self, simulator: MinibatchSimulator) -> None:
        model = simulator.model
        # Each simulator of a model has its own probe data.
        simulator._sim_data = dict(model.params)
        super().__init__(simulator._sim_data)
        self._simulator = simulator
        self._probed = {probe: model.sig[probe]["in"] for probe in model.probes}
        self._batched = simulator._facts.batched
        self.learned = learned_signals(model)
        self._held: dict[NengoObject, np.ndarray] = {}

    def __repr__(self) -> str:
        """Show sizes only; the arrays would fill the screen."""
        built = len(self.raw) - len(self._probed)
        return f"<MinibatchData of {len(self._probed)} probes, {built} built objects>"

    __str__ = __repr__

    def __getitem__(self, key: object) -> Any:
        """Return a probe's data, (batch, n_steps, ...), or the parameters built for an object."""
        found = super().__getitem__(key)
        if key in self.learned:
            return self._with_learned(key, found)
        if key not in self._probed:
            return found
        signal, batch = self._probed[key], self._simulator.minibatch_size
        steps = len(self.raw[key]), *signal.shape
        if signal.base in self._batched:
            return np.moveaxis(found.reshape(*steps, batch), -1, 0)
        return np.broadcast_to(found.reshape(steps), (batch, *steps))

    def hold(self) -> None:
        """Keep the learned weights, because a closed simulator has no signals."""
        self._held = {key: self._simulator.signals[each] for key, each in self.learned.items()}

    def _with_learned(
        self, key: NengoObject, built: BuiltConnection | BuiltEnsemble
    ) -> BuiltConnection | BuiltEnsemble:
        """Return the built parameters, with each example's current weights or encoders."""
        closed = self._simulator.closed
        array = self._held[key] if closed else self._simulator.signals[self.learned[key]]
        array = np.array(np.moveaxis(array, -1, 0), order="C")
        array.setflags(write=False)
        if isinstance(key, nengo.Connection):
            return BuiltConnection(*built[:2], array, built.transform)
        values = built._asdict() | {"scaled_encoders": array}
        # Scaled as in the reference's build.
        values["encoders"] = array / (built.gain / key.radius)[:, np.newaxis]
        return BuiltEnsemble(**values)
