"""Build spiking networks by hand in plain Nengo from pretrained Keras weights."""

from nengonet import datasets
from nengonet.budget import error_budget
from nengonet.diagnosis import compare, diagnose
from nengonet.encoding import constant_input, poisson_input
from nengonet.exceptions import InputError
from nengonet.filters import lowpass
from nengonet.layers import conv2d, dense, flatten
from nengonet.minibatch import MinibatchSimulator
from nengonet.neurons import IntegrateAndFire, explain_neuron, gain_bias
from nengonet.objects import Layer
from nengonet.pools import avg_pool2d, global_avg_pool2d, max_pool2d
from nengonet.prediction import predict_rates
from nengonet.presentation import present
from nengonet.readout import Accuracy
from nengonet.results import Result, load_result
from nengonet.scaling import balance, scale_firing_rates
from nengonet.sweeps import Sweep, sweep
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
    "Sweep",
    "Weights",
    "__version__",
    "avg_pool2d",
    "balance",
    "compare",
    "constant_input",
    "conv2d",
    "datasets",
    "dense",
    "diagnose",
    "error_budget",
    "explain_neuron",
    "flatten",
    "fold_batch_norm",
    "gain_bias",
    "global_avg_pool2d",
    "load_result",
    "load_weights",
    "lowpass",
    "max_pool2d",
    "poisson_input",
    "predict_rates",
    "present",
    "pretrained",
    "scale_firing_rates",
    "sweep",
]
