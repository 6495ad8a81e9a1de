"""The two simulators, built repeatably and reset to an example: what `present` runs on."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

import nengo
import numpy as np
from nengo.builder.neurons import SimNeurons
from nengo.builder.operator import Operator

from nengonet.minibatch import MinibatchSimulator, precision_of
from nengonet.minibatch.owning import own_copies, roots_of
from nengonet.minibatch.registry import name_of
from nengonet.minibatch.runaway import runaway_error
from nengonet.streams import neuron_seeds, reset_seed


@contextlib.contextmanager
def reference_simulator(
    network: nengo.Network, dt: float, seed: int, *, precision: int = 64
) -> Iterator[nengo.Simulator]:
    """Build the unmodified ``nengo.Simulator``, repeatably and without needless warnings."""
    with (
        precision_of(precision),
        _built(
            network, seed, lambda **build: nengo.Simulator(network, dt=dt, **build)
        ) as simulator,
    ):
        yield simulator


@contextlib.contextmanager
def minibatch_simulator(
    network: nengo.Network,
    minibatch_size: int,
    dt: float,
    seed: int,
    *,
    precision: int = 64,
    model: nengo.builder.Model | None = None,
) -> Iterator[MinibatchSimulator]:
    """Build the twin as `reference_simulator` builds the reference."""
    with _built(
        network,
        seed,
        lambda **build: MinibatchSimulator(
            network if model is None else None,
            minibatch_size,
            dt=dt,
            precision=precision,
            model=model,
            **build,
        ),
    ) as simulator:
        yield simulator


@contextlib.contextmanager
def _built(
    network: nengo.Network, seed: int, simulator: Callable[..., nengo.Simulator]
) -> Iterator[nengo.Simulator]:
    unseeded = network.seed is None
    if unseeded:
        network.seed = seed
    try:
        with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
            # Where gain + bias < 1, a LIF neuron is silent at a drive of 1, and Nengo finds no
            # max_rates that belong to the stated gain. Nothing uses them.
            warnings.filterwarnings("ignore", "Non-finite values detected in `max_rates`")
            # The decoder cache on disk would be locked by parallel runs; nothing here needs it.
            warnings.filterwarnings("ignore", "Decoder cache")
            built = simulator(
                seed=seed,
                progress_bar=False,
                # Nengo 4.1's optimizer lets random ensembles share one stream, and fails on some
                # slices with a stride; and the order in which it merges, which the streams of
                # unseeded processes follow, differs from build to build.
                optimize=False,
            )
    finally:
        if unseeded:
            network.seed = None
    with built:
        yield built


# What the operators of a simulator called when it was built.
_ORIGINALS: WeakKeyDictionary[nengo.Simulator, dict[Operator, object]] = WeakKeyDictionary()


def reset_to_example(simulator: nengo.Simulator, seed: int, example: int) -> None:
    """Reset a simulator, and restart every random stream with the example's own.

    What keeps a state in Python (functions of Nodes, a user's processes and neuron types), which
    Nengo's reset leaves alone, is copied anew from the network's, as
    `nengonet.MinibatchSimulator.reset_to_examples` does.
    """
    _take_own_copies(simulator)
    states = [
        state
        for operator in simulator.step_order
        if isinstance(operator, SimNeurons)
        for state in operator.state_extra.values()
    ]
    for state, fresh in zip(states, neuron_seeds(seed, example, len(states)), strict=True):
        state.seed(fresh)
    simulator.reset(seed=reset_seed(seed, example))


def take_step(simulator: nengo.Simulator, example: int) -> None:
    """Do one step of the reference simulator, for an example."""
    try:
        simulator.step()
    except FloatingPointError as error:
        neurons = [op for op in simulator.step_order if isinstance(op, SimNeurons)]
        raise runaway_error(
            error,
            neurons,
            simulator.model,
            lambda signal: simulator.signals[signal][..., np.newaxis],
            simulator.n_steps + 1,
            [example],
        ) from error


def _take_own_copies(simulator: nengo.Simulator) -> None:
    roots = roots_of(simulator.step_order)
    originals = _ORIGINALS.setdefault(simulator, {root.operator: root.value for root in roots})
    for root in roots:
        setattr(root.operator, root.attribute, originals[root.operator])
    own = own_copies(roots, 1, lambda operator: name_of(operator, simulator.model))
    for root in roots:
        if root.operator in (own.objects or [{}])[0]:
            setattr(root.operator, root.attribute, own.objects[0][root.operator])
