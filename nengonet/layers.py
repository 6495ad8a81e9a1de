"""Layers as explicit Nengo objects: one Ensemble (or Node) and one Connection each.

Every builder is called inside ``with nengo.Network():`` and hands its objects back in a `Layer`,
ready to probe, edit or delete.
"""

from __future__ import annotations

import math

import nengo
import numpy as np
from nengo.neurons import NeuronType
from nengo.synapses import Synapse
from nengo.transforms import Transform

from nengonet.exceptions import InputError
from nengonet.neurons import gain_bias, with_settings
from nengonet.objects import Layer, connect, neuron_layer
from nengonet.weights import LayerWeights, as_layer_weights


def dense(
    pre: Layer,
    weights: LayerWeights | np.ndarray | tuple[np.ndarray, np.ndarray | None],
    neuron_type: NeuronType | None,
    *,
    max_rates: object = 100.0,
    intercepts: object = 0.0,
    gain: object = None,
    bias: object = None,
    amplitude: float | None = None,
    synapse: Synapse | float | None = None,
    label: str | None = None,
    seed: int = 0,
) -> Layer:
    """Add a fully connected layer: one Ensemble, and one Connection into its ``.neurons``.

    Each neuron gets the current ``J = gain * (kernel.T @ inputs + keras_bias) + bias``.

    Parameters
    ----------
    pre : Layer
        The layer before.
    weights : LayerWeights, (n_inputs, n_outputs) array_like or (kernel, bias) tuple
        As Keras stores them. A Keras bias is a drive like any other: it becomes ensemble bias,
        ``gain * keras_bias``, added to the tuning's own.
    neuron_type : NeuronType or None
        None for a last layer without neurons: a Node that puts out the drive.
    max_rates, intercepts : float, array_like or Distribution
        The tuning, in Hz and in units of drive. The defaults are the forum post's.
    gain, bias : float, array_like or Distribution, optional
        Stated directly: see `nengonet.gain_bias`.
    amplitude : float, optional
        Area of one spike (for rate neurons, factor on the output). By default the neuron type's.
    synapse : Synapse, float or None
        On the connection. None passes a spike on within the same step.
    label : str, optional
        By default the name that the weights have in their file.
    seed : int
        For ``max_rates``, ``intercepts``, ``gain`` or ``bias`` given as distributions.

    Returns
    -------
    Layer

    Raises
    ------
    InputError
        The kernel does not fit the layer before, or the tuning is impossible.

    Notes
    -----
    Nengo computes the ``max_rates`` that a stated gain and bias imply, and for ``LIF`` it warns
    of "non-finite values" where ``gain + bias < 1``: such a neuron is silent at a drive of 1.
    That is no fault here; `present` builds without the warning.
    """
    weights = as_layer_weights(weights, name=label or "dense")
    label = label or weights.name or "dense"
    if weights.kind != "Dense":
        raise InputError(f"{label}: expected the weights of a Dense layer, found {weights.kind}")
    weights.check_inputs(pre.shape, pre_label=pre.label)
    n_outputs = weights.kernel.shape[1]
    keras_bias = np.zeros(n_outputs) if weights.bias is None else weights.bias
    transform = nengo.Dense((n_outputs, pre.size), init=weights.kernel.T)
    if neuron_type is None:
        return _linear_layer(
            pre, (n_outputs,), transform, keras_bias, synapse=synapse, label=label, weights=weights
        )
    if not isinstance(neuron_type, NeuronType):
        raise InputError(
            f"{label}: expected a Nengo neuron type such as nengo.LIF(), found {neuron_type!r}"
        )
    if amplitude is not None:
        neuron_type = with_settings(neuron_type, amplitude=amplitude)
    gain, bias = gain_bias(
        neuron_type, n_outputs, max_rates, intercepts, gain=gain, bias=bias, seed=seed
    )
    return neuron_layer(
        pre,
        shape=(n_outputs,),
        transform=transform,
        neuron_type=neuron_type,
        gain=gain,
        bias=bias + gain * keras_bias,
        synapse=synapse,
        label=label,
        weights=weights,
    )


class AddBias:
    """Node function of a layer without neurons: ``x + bias``."""

    def __init__(self, bias: np.ndarray) -> None:
        self.bias = np.asarray(bias, dtype=np.float64)

    def __call__(self, t: float, x: np.ndarray) -> np.ndarray:
        """Return the output at this step."""
        return x + self.bias


def _linear_layer(
    pre: Layer,
    shape: tuple[int, ...],
    transform: Transform,
    bias: np.ndarray,
    *,
    synapse: Synapse | float | None,
    label: str,
    weights: LayerWeights,
) -> Layer:
    output = AddBias(bias) if np.any(bias) else None
    node = nengo.Node(output, size_in=math.prod(shape), label=label)
    connection = connect(pre, node, transform, synapse, label)
    return Layer(
        label=label, shape=shape, node=node, connection=connection, pre=pre, weights=weights
    )
