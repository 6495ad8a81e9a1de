"""The public names, for `lazy_loader` and for type checkers."""

from . import datasets
from .budget import error_budget
from .diagnosis import compare, diagnose
from .encoding import constant_input, poisson_input
from .exceptions import InputError
from .filters import lowpass
from .layers import conv2d, dense, flatten
from .minibatch import MinibatchSimulator
from .neurons import IntegrateAndFire, explain_neuron, gain_bias
from .objects import Layer
from .pools import avg_pool2d, global_avg_pool2d, max_pool2d
from .prediction import predict_rates
from .presentation import present
from .readout import Accuracy
from .results import Result, load_result
from .scaling import balance, scale_firing_rates
from .sweeps import Sweep, sweep
from .version import __version__
from .weights import (
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
