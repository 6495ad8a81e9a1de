"""Random streams, each of which belongs to one example or to one layer alone.

An example's stream is made from the seed and the example's number. Example 17 therefore draws the
same numbers alone, in a batch, first or last, on one process or ten. Each example has separate
streams for the input, the simulator's reset, random neuron types and initial states.
"""

from __future__ import annotations

import numpy as np

from nengonet.checks import as_seed

_RESET_STREAM, _NEURON_STREAM, _STATE_STREAM, _TUNING_STREAM = 1, 2, 3, 4  # the input's is 0


def example_rng(seed: int, example: int, stream: int = 0) -> np.random.Generator:
    """Return the random stream that belongs to one example alone."""
    key = () if stream == 0 else (stream,)
    return np.random.default_rng(np.random.SeedSequence([seed, example], spawn_key=key))


def reset_seed(seed: int, example: int) -> int:
    """Return the seed that ``Simulator.reset`` gets before an example, for its processes."""
    return int(example_rng(seed, example, _RESET_STREAM).integers(2**31 - 1))


def neuron_seeds(seed: int, example: int, n: int) -> list[np.ndarray]:
    """Return the seeds of an example's random neuron types, in the order of their steps."""
    rng = example_rng(seed, example, _NEURON_STREAM)
    return [rng.integers(2**32, size=8, dtype=np.uint32) for _ in range(n)]


def state_rng(seed: int, example: int, layer: int, state: int) -> np.random.RandomState:
    """Return the stream from which an example draws an initial state of a layer's neurons."""
    key = (_STATE_STREAM, layer, state)
    sequence = np.random.SeedSequence([seed, example], spawn_key=key)
    return np.random.RandomState(np.random.PCG64(sequence))


def tuning_seed(seed: int | None, place: int) -> int:
    """Return the seed of the tuning of one layer of a network."""
    sequence = np.random.SeedSequence(
        [as_seed(seed, name="seed of the network"), place], spawn_key=(_TUNING_STREAM,)
    )
    return int(sequence.generate_state(1)[0])
