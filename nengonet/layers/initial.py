"""Initial states drawn for every example, instead of once for all when the model is built.

Nengo draws a neuron's initial voltage when it builds the model, and every reset returns to it, so
all examples start from the same state. KerasSpiking draws one for each neuron **and** example.
Here each example draws from its own stream: example 17 starts from the same state whatever else is
shown, in any order, on either simulator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import nengo
import numpy as np
from nengo.builder.neurons import SimNeurons
from nengo.dists import Distribution, get_samples

from nengonet.checks import as_names, described
from nengonet.exceptions import InputError
from nengonet.layers.record import Layer
from nengonet.streams import state_rng

InitialStates = Mapping[str, Mapping[str, Distribution]]


@dataclasses.dataclass(frozen=True)
class DrawnState:
    """One state of one layer's neurons, and the distribution it is drawn from."""

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
    """Check the initial states, and return those to draw for each example."""
    by_label = {layer.label: (place, layer) for place, layer in enumerate(layers)}
    with_neurons = [layer.label for layer in layers if layer.ensemble is not None]
    expected, drawn = "expected {label: {state: Distribution}}, got", []
    if not isinstance(states, Mapping | None):
        raise InputError(f"initial_states: {expected} {described(states)}")
    for label, named in (states or {}).items():
        as_names("initial_states", [label], with_neurons, "layer of neurons")
        place, layer = by_label[label]
        if not isinstance(named, Mapping):
            raise InputError(f"initial_states: {label}: {expected} {described(named)}")
        neuron_type = layer.ensemble.neuron_type
        for name, distribution in named.items():
            what = f"state of {type(neuron_type).__name__}"
            as_names(f"initial_states: {label}", [name], neuron_type.state, what)
            if not isinstance(distribution, Distribution):
                raise InputError(
                    f"initial_states: {label}: {name}: expected a nengo Distribution such as "
                    f"nengo.dists.Uniform(0, 1), got {distribution!r}; give values that are the "
                    "same for all examples as the neuron type's initial_state"
                )
            drawn.append(DrawnState(layer, place, name, distribution))
    return drawn


def set_states(
    simulator: nengo.Simulator, states: Sequence[DrawnState], seed: int, examples: Sequence[int]
) -> None:
    """Give a simulator that has just been reset the initial states of the examples."""
    model = simulator.model
    neurons = {each.output: each for each in model.operators if isinstance(each, SimNeurons)}
    for state in states:
        values = np.stack([state.draw(seed, int(example)) for example in examples], axis=-1)
        signal = neurons[model.sig[state.layer.output]["out"]].state[state.name]
        simulator.signals[signal][...] = values.reshape(simulator.signals[signal].shape)
