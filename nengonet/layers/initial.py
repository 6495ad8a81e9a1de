"""Initial states drawn for every example, instead of once for all when the model is built.

Nengo draws a neuron's first voltage when it builds the model, and every reset goes back to it: all
examples start from the same state. KerasSpiking draws one for each neuron **and** example. Here
each example draws from a stream of its own, so that example 17 starts from the same state whatever
else is shown, in whatever order, on either simulator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import nengo
import numpy as np
from nengo.builder.neurons import SimNeurons
from nengo.dists import Distribution, get_samples

from nengonet.checks import as_names, described, did_you_mean
from nengonet.exceptions import InputError
from nengonet.layers.record import Layer
from nengonet.streams import state_rng

InitialStates = Mapping[str, Mapping[str, Distribution]]


@dataclasses.dataclass(frozen=True)
class DrawnState:
    """One state of one layer's neurons, and what it is drawn from."""

    layer: Layer
    place: int
    name: str
    distribution: Distribution

    def draw(self, seed: int, example: int) -> np.ndarray:
        """Return an example's initial values."""
        number = sorted(self.layer.ensemble.neuron_type.state).index(self.name)
        rng = state_rng(seed, example, self.place, number)
        return get_samples(self.distribution, self.layer.size, rng=rng)


def drawn_states(layers: Sequence[Layer], states: InitialStates | None) -> list[DrawnState]:
    """Return what is to be drawn for each example, checked."""
    by_label = {layer.label: (place, layer) for place, layer in enumerate(layers)}
    with_neurons = [layer.label for layer in layers if layer.ensemble is not None]
    if states is not None and not isinstance(states, Mapping):
        raise InputError(
            "initial_states: expected {label: {state: Distribution}}, got " + described(states)
        )
    drawn = []
    for label, named in (states or {}).items():
        as_names("initial_states", [label], with_neurons, "layer of neurons")
        place, layer = by_label[label]
        if not isinstance(named, Mapping):
            raise InputError(
                f"initial_states: {label}: expected {{state: Distribution}}, got {named!r}"
            )
        known = layer.ensemble.neuron_type.state
        for name, distribution in named.items():
            if name not in known:
                raise InputError(
                    f"initial_states: {label}: expected a state of "
                    f"{type(layer.ensemble.neuron_type).__name__} ({', '.join(known) or 'none'}), "
                    f"got {name!r}{did_you_mean(name, known)}"
                )
            if not isinstance(distribution, Distribution):
                raise InputError(
                    f"initial_states: {label}: {name}: expected a nengo Distribution such as "
                    f"nengo.dists.Uniform(0, 1), got {distribution!r}; values that are the same "
                    "for all examples belong into the neuron type's initial_state"
                )
            drawn.append(DrawnState(layer, place, name, distribution))
    return drawn


def set_states(
    simulator: nengo.Simulator, states: Sequence[DrawnState], seed: int, examples: Sequence[int]
) -> None:
    """Give a simulator that has just been reset the examples' own initial states."""
    for state in states:
        values = np.stack([state.draw(seed, int(example)) for example in examples], axis=-1)
        array = simulator.signals[_signal(simulator.model, state)]
        array[...] = values.reshape(array.shape)


def _signal(model: nengo.builder.Model, state: DrawnState) -> nengo.builder.Signal:
    output = model.sig[state.layer.output]["out"]
    operator = next(
        each for each in model.operators if isinstance(each, SimNeurons) and each.output is output
    )
    return operator.state[state.name]
