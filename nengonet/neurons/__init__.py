"""Models of neuron types: one module for each family, found by `model_of`.

A connection into ``ensemble.neurons`` gives each neuron the current ``J = gain * drive + bias``,
where the drive is ``W @ inputs``. Encoders, radius and the [-1, 1] range have no effect
(``nengo/builder/connection.py``).
"""

from nengonet.neurons import direct, izhikevich, lif, squashing, wrapped
from nengonet.neurons.model import NeuronModel, as_neuron_type, elementwise, model_of, register
from nengonet.neurons.rectified import IntegrateAndFire
from nengonet.neurons.stepped import SteppedModel
from nengonet.neurons.tuning import (
    NeuronFacts,
    current_at,
    explain_neuron,
    gain_bias,
    with_settings,
)

__all__ = [
    "IntegrateAndFire", "NeuronFacts", "NeuronModel", "SteppedModel", "as_neuron_type",
    "current_at", "direct", "elementwise", "explain_neuron", "gain_bias", "izhikevich", "lif",
    "model_of", "register", "squashing", "with_settings", "wrapped",
]  # fmt: skip
