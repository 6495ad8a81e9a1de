"""Facts that follow from a model's operators: which signals every example has of its own."""

from __future__ import annotations

import dataclasses

import nengo
import numpy as np
from nengo.builder import Model
from nengo.builder.neurons import SimNeurons
from nengo.builder.operator import Operator
from nengo.builder.processes import SimProcess
from nengo.builder.signal import Signal

from nengonet.minibatch import processes
from nengonet.minibatch.late import Late, find_late, lies_transposed
from nengonet.minibatch.signals import BatchSignals, same_place, writes


@dataclasses.dataclass(frozen=True, eq=False)
class ModelFacts:
    """The facts about a model that a simulator of any minibatch size needs."""

    operators: list[Operator]
    # The output of each Node.
    nodes: dict[nengo.Node, Signal]
    # The bases that every example has of its own, and the signals that a reset writes.
    batched: set[Signal]
    written: list[Signal]
    # Weights that every example learns, those that lie transposed, and those that change late.
    matrices: set[Signal]
    transposed: set[Signal]
    late: list[Late]
    # The operators that show images, by their Node.
    image_inputs: dict[nengo.Node, SimProcess]

    def signals(self, batch: int) -> BatchSignals:
        """Return the signals of ``batch`` examples, with their initial values."""
        unused = {each.delta for each in self.late}
        found = BatchSignals(
            self.batched, batch, self.matrices, transposed=self.transposed, unused=unused
        )
        for operator in self.operators:
            operator.init_signals(found)
        for signal in self.nodes.values():
            found.init(signal)
        return found


def read_model(model: Model, in_order: list[Operator], with_kernels: bool) -> ModelFacts:
    """Read a model; ``in_order`` lists its operators in the order of their steps."""
    nodes = {
        node: signals["out"]
        for node, signals in model.sig.items()
        if isinstance(node, nengo.Node) and signals.get("out") is not None
    }
    shared = [model.step, model.time]
    shared += [s for operator in model.operators for s in processes.shared_state(operator)]
    shared = {signal.base for signal in shared}
    written = [signal for operator in model.operators for signal in writes(operator)]
    batched = {signal.base for signal in (*written, *nodes.values())} - shared
    late = find_late(in_order, [model.sig[probe]["in"] for probe in model.probes], with_kernels)
    transposed = {each.weights for each in late if lies_transposed(each, with_kernels)}
    matrices = {
        signal.base
        for operator in model.operators
        if not isinstance(operator, (SimProcess, SimNeurons))
        for signal in operator.all_signals
        if signal.base.ndim > 1 and signal.base in batched
    }
    if with_kernels:
        matrices -= {each.weights for each in late} - transposed
    return ModelFacts(
        operators=model.operators,
        nodes=nodes,
        batched=batched,
        written=[*batched - {each.delta for each in late}, *shared],
        matrices=matrices,
        transposed=transposed,
        late=late,
        image_inputs={
            node: operator
            for node, signal in nodes.items()
            for operator in in_order
            if isinstance(operator, SimProcess)
            and processes.is_image(operator.process)
            and same_place(operator.output, signal)
        },
    )


def has_half_precision(model: Model) -> bool:
    """Return whether a signal has 16 bits, a type that no kernel takes."""
    signals = (signal for operator in model.operators for signal in operator.all_signals)
    return any(signal.dtype == np.float16 for signal in signals)
