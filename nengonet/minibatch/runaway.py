"""Networks whose numbers grow without bound: find the layer, step and example."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import nengo
import numpy as np
from nengo.builder.operator import Operator
from nengo.builder.signal import Signal

from nengonet.exceptions import RunawayError
from nengonet.minibatch.registry import name_of

ADVICE = "the network runs away: look for connections that feed themselves, large weights or states"


def runaway_error(
    error: FloatingPointError,
    simulator: nengo.Simulator,
    operators: Sequence[Operator],
    array_of: Callable[[Signal], np.ndarray],
    examples: Sequence[int],
) -> RunawayError:
    """Return the error that names where the numbers of some operators cease to be finite."""
    name = name_of(operators[0], simulator.model) if operators else "the network"
    for operator in operators:
        bad = np.zeros(len(examples), bool)
        for array in map(array_of, operator.all_signals):
            if isinstance(array, np.ndarray) and array.dtype.kind == "f":
                bad |= ~np.isfinite(array).reshape(-1, array.shape[-1]).all(axis=0)
        if bad.any():
            name, examples = name_of(operator, simulator.model), np.asarray(examples)[bad]
            break
    numbers = ", ".join(map(str, examples[:5]))
    return RunawayError(
        f"{name}: expected finite currents, states and spikes, got {error} in step "
        f"{simulator.n_steps + 1}, example{'s' * (len(examples) > 1)} {numbers}; {ADVICE}"
    )
