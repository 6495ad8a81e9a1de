"""Learned weights, and how they outlive a reset, in both simulators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import nengo
import numpy as np
from nengo.base import NengoObject
from nengo.builder import Model
from nengo.builder.operator import Copy
from nengo.builder.signal import Signal

from nengonet.checks import as_names
from nengonet.exceptions import InputError
from nengonet.minibatch.late import finish
from nengonet.minibatch.registry import steps_as
from nengonet.minibatch.signals import BatchSignals, Operands, writes

if TYPE_CHECKING:
    from nengonet.minibatch.simulator import MinibatchSimulator

# What may outlive a reset.
CARRIED = ("weights",)
# The name of what is learned, by the type of the object that was built.
_LEARNED = {nengo.Connection: "weights", nengo.Ensemble: "encoders"}


def learned_signals(model: Model) -> dict[NengoObject, Signal]:
    """Return the weights and encoders that operators change, by connection and ensemble."""
    changing = {signal.base for operator in model.operators for signal in writes(operator)}
    signals = {key: model.sig[key].get(_LEARNED.get(type(key))) for key in model.params}
    return {
        key: signal
        for key, signal in signals.items()
        if signal is not None and signal.base in changing
    }


def check_carry(carry: object, model: Model) -> tuple[str, ...]:
    """Convert to the names of the things that outlive a reset."""
    carry = as_names("carry", carry, CARRIED, "kind of state")
    if carry and not learned_signals(model):
        raise InputError(
            "carry: expected a network that learns, got one without a learning rule; leave it out"
        )
    return carry


def take_weights(
    simulator: nengo.Simulator | MinibatchSimulator, carry: Sequence[str], n_examples: int = 1
) -> dict[Signal, np.ndarray]:
    """Return the learned weights, and the changes of the last step, not yet added to them."""
    model, signals = simulator.model, simulator.signals
    if not check_carry(carry, model):
        return {}
    finished, arrays = set(), signals
    if isinstance(signals, BatchSignals):
        if signals.batch != n_examples:
            raise InputError(
                f"carry: expected {signals.batch} examples, as many as the minibatch has weights "
                f"for, got {n_examples}"
            )
        finished, arrays = finish(simulator._facts.late, simulator._states), Operands(signals)
    learned = {signal: signal.base for signal in learned_signals(model).values()}
    for operator in simulator.step_order:
        adds = steps_as(operator, Copy) and operator.inc and operator not in finished
        if adds and operator.dst.base in learned.values():
            operator.make_step(arrays, simulator.dt, None)()
    return {signal: signals[signal].copy(order="K") for signal in learned}


def put_weights(simulator: nengo.Simulator, weights: dict[Signal, np.ndarray]) -> None:
    """Let a simulator that was just reset begin with other weights."""
    for signal, array in weights.items():
        simulator.signals[signal][...] = array
