"""The public names, for `lazy_loader` and for type checkers."""

from . import datasets, plots, readout, testing
from .ann.scaling import balance, scale_firing_rates
from .exceptions import InputError
from .explain.budget import error_budget
from .explain.comparison import compare
from .explain.diagnosis import diagnose
from .explain.fixed_points import FixedPoint
from .explain.prediction import fixed_point, predict_rates
from .laboratory import lab
from .layers.filters import lowpass
from .layers.inputs import constant_input, poisson_input
from .layers.merges import add, concatenate, zero_padding1d, zero_padding2d
from .layers.pools import (
    avg_pool1d,
    avg_pool2d,
    global_avg_pool1d,
    global_avg_pool2d,
    global_max_pool1d,
    global_max_pool2d,
    max_pool1d,
    max_pool2d,
)
from .layers.record import Layer
from .layers.tune import FORUM, Tuned, tune
from .layers.weighted import activation, conv1d, conv2d, dense, flatten
from .minibatch import MinibatchSimulator
from .neurons import IntegrateAndFire, explain_neuron, gain_bias
from .nir.export import to_nir
from .plain.script import as_script
from .results.readout import Accuracy
from .results.result import Result, load_result
from .run.presentation import present
from .sweeps.result import Sweep
from .sweeps.sweep import sweep
from .version import __version__
from .weights import (
    LayerWeights,
    Weights,
    fold_batch_norm,
    load_weights,
    pretrained,
)

__all__ = [
    "FORUM",
    "Accuracy",
    "FixedPoint",
    "InputError",
    "IntegrateAndFire",
    "Layer",
    "LayerWeights",
    "MinibatchSimulator",
    "Result",
    "Sweep",
    "Tuned",
    "Weights",
    "__version__",
    "activation",
    "add",
    "as_script",
    "avg_pool1d",
    "avg_pool2d",
    "balance",
    "compare",
    "concatenate",
    "constant_input",
    "conv1d",
    "conv2d",
    "datasets",
    "dense",
    "diagnose",
    "error_budget",
    "explain_neuron",
    "fixed_point",
    "flatten",
    "fold_batch_norm",
    "gain_bias",
    "lab",
    "global_avg_pool1d",
    "global_avg_pool2d",
    "global_max_pool1d",
    "global_max_pool2d",
    "load_result",
    "load_weights",
    "lowpass",
    "max_pool1d",
    "max_pool2d",
    "plots",
    "poisson_input",
    "predict_rates",
    "present",
    "pretrained",
    "readout",
    "scale_firing_rates",
    "sweep",
    "testing",
    "to_nir",
    "tune",
    "zero_padding1d",
    "zero_padding2d",
]
