"""Build spiking networks by hand in plain Nengo from pretrained Keras weights."""

from nengonet import datasets
from nengonet.encoding import constant_input, poisson_input
from nengonet.exceptions import InputError
from nengonet.layers import dense
from nengonet.neurons import IntegrateAndFire, explain_neuron, gain_bias
from nengonet.objects import Layer
from nengonet.presentation import present
from nengonet.readout import Accuracy
from nengonet.results import Result, load_result
from nengonet.version import __version__
from nengonet.weights import (
    LayerWeights,
    Weights,
    fold_batch_norm,
    load_weights,
    pretrained,
)

__all__ = [
    "Accuracy",
    "InputError",
    "IntegrateAndFire",
    "Layer",
    "LayerWeights",
    "Result",
    "Weights",
    "__version__",
    "constant_input",
    "datasets",
    "dense",
    "explain_neuron",
    "fold_batch_norm",
    "gain_bias",
    "load_result",
    "load_weights",
    "poisson_input",
    "present",
    "pretrained",
]
