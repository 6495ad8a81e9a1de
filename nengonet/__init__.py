"""Build spiking networks by hand in plain Nengo from pretrained Keras weights."""

from nengonet import datasets
from nengonet.budget import error_budget
from nengonet.diagnosis import compare, diagnose
from nengonet.encoding import constant_input, poisson_input
from nengonet.exceptions import InputError
from nengonet.layers import dense
from nengonet.minibatch import MinibatchSimulator
from nengonet.neurons import IntegrateAndFire, explain_neuron, gain_bias
from nengonet.objects import Layer
from nengonet.prediction import predict_rates
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
    "MinibatchSimulator",
    "Result",
    "Weights",
    "__version__",
    "compare",
    "constant_input",
    "datasets",
    "dense",
    "diagnose",
    "error_budget",
    "explain_neuron",
    "fold_batch_norm",
    "gain_bias",
    "load_result",
    "load_weights",
    "poisson_input",
    "predict_rates",
    "present",
    "pretrained",
]
