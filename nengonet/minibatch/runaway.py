"""Networks whose numbers grow beyond all bounds: which layer, step and example."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from nengo.builder import Model
from nengo.builder.operator import Operator
from nengo.builder.signal import Signal

from nengonet.exceptions import RunawayError
from nengonet.minibatch.registry import name_of

ADVICE = "the network runs away: look for connections that feed themselves, large weights or states"


def runaway_error(
    error: FloatingPointError,
    operators: Iterable[Operator],
    model: Model,
    array_of: Callable[[Signal], np.ndarray],
    step: int,
    examples: Sequence[int],
) -> RunawayError:
    """Return the error that names where numbers are no longer finite."""
    found = None
    for operator in operators:
        found = found or operator
        bad = np.zeros(len(examples), bool)
        for signal in [*operator.reads, *operator.sets, *operator.incs, *operator.updates]:
            array = array_of(signal)
            if isinstance(array, np.ndarray) and array.dtype.kind == "f":
                bad |= ~np.isfinite(array).reshape(-1, array.shape[-1]).all(axis=0)
        if bad.any():
            found = operator
            examples = np.asarray(examples)[bad]
            break
    name = "the network" if found is None else name_of(found, model)
    numbers = ", ".join(str(example) for example in examples[:5])
    place = f"step {step}, example{'s' * (len(examples) > 1)} {numbers}"
    return RunawayError(
        f"{name}: expected finite currents, states and spikes, got {error} in {place}; {ADVICE}"
    )
