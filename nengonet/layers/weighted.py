"""Layers as explicit Nengo objects: one Ensemble (or Node) and one Connection each.

Every builder is called inside ``with nengo.Network():`` and hands its objects back in a `Layer`,
ready to probe, edit or delete.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import nengo
import numpy as np
from nengo.neurons import NeuronType
from nengo.synapses import Synapse
from nengo.transforms import Transform

from nengonet.ann.activations import shape_after
from nengonet.ann.convolution import as_pair, depthwise_as_grouped
from nengonet.exceptions import InputError
from nengonet.layers.record import Layer, checked_layer, connect, neuron_layer, new_label
from nengonet.nengo_internals import outermost_network
from nengonet.neurons import as_neuron_type, gain_bias, with_settings
from nengonet.streams import tuning_seed
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
    seed: int | None = None,
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
            By default the name that the weights have in their file, or ``"dense"``; numbered as in
        Keras where the network has it already (``dense_1``).
    seed : int, optional
        For ``max_rates``, ``intercepts``, ``gain`` or ``bias`` given as distributions. By default
        it follows from the seed that the network has now (without one, from 0) and from the number
        of ensembles before this one, so that every layer draws values of its own.

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
    label = new_label(label, weights.name or "dense", pre)
    if weights.kind != "Dense":
        raise InputError(f"{label}: expected the weights of a Dense layer, found {weights.kind}")
    weights.check_inputs(pre.shape, pre_label=pre.label)
    n_outputs = weights.n_outputs
    return _layer(
        pre,
        weights,
        neuron_type,
        (n_outputs,),
        transform_of(weights, pre),
        max_rates=max_rates,
        intercepts=intercepts,
        gain=gain,
        bias=bias,
        amplitude=amplitude,
        synapse=synapse,
        label=label,
        seed=seed,
    )


def conv2d(
    pre: Layer,
    weights: LayerWeights | np.ndarray | tuple[np.ndarray, np.ndarray | None],
    neuron_type: NeuronType | None,
    *,
    strides: int | Sequence[int] | None = None,
    padding: str | None = None,
    groups: int | None = None,
    max_rates: object = 100.0,
    intercepts: object = 0.0,
    gain: object = None,
    bias: object = None,
    amplitude: float | None = None,
    synapse: Synapse | float | None = None,
    label: str | None = None,
    seed: int | None = None,
) -> Layer:
    """Add a convolution: one Ensemble, and one ``nengo.Convolution`` into its ``.neurons``.

    Each neuron gets the current ``J = gain * (convolution + keras_bias) + bias``, as in `dense`.

    Parameters
    ----------
    pre : Layer
        The layer before, of shape ``(rows, columns, channels)``; ``(rows, columns)`` is one
        channel.
    weights : LayerWeights, (rows, columns, channels / groups, filters) array_like or tuple
        Of a Conv2D or DepthwiseConv2D layer, as Keras stores them, alone or as
        ``(kernel, bias)``. The bias of a filter is that of all its neurons.
    neuron_type : NeuronType or None
        None for a Node that puts out the drive.
    strides : int or (int, int), optional
        In rows and columns. By default what the weights' file says, else 1. An argument wins over
        the file; so it does for ``padding`` and ``groups``.
    padding : {"valid", "same"}, optional
        By default the file's, else ``"valid"``.
    groups : int, optional
        By default the file's, else 1. A DepthwiseConv2D has one group for each input channel.
    max_rates, intercepts, gain, bias, amplitude, synapse, label, seed
        As for `dense`. Arrays hold one value for each neuron, in (row, column, filter) order.

    Returns
    -------
    Layer
        Of shape ``(rows, columns, filters)``. The ``config`` of its ``weights`` holds the
        arguments that were given.

    Raises
    ------
    InputError
        The kernel does not fit the layer before, the file asks for what ``nengo.Convolution``
        cannot do (dilation, channels first), or the tuning is impossible.

    Notes
    -----
    ``nengo.Convolution`` pads as Keras does on TensorFlow (``nengo/builder/transforms.py``): with
    ``"same"`` the padding depends on the stride, and an odd row or column of it goes to the
    bottom or right. Its groups are Keras' groups, and its flat order is (row, column, channel),
    the order in which Keras flattens.
    """
    weights = as_layer_weights(weights, name=label or "conv2d")
    label = new_label(label, weights.name or "conv2d", pre)
    depthwise = weights.kind == "DepthwiseConv2D"
    if not depthwise and weights.kind != "Conv2D":
        raise InputError(
            f"{label}: expected the weights of a Conv2D or DepthwiseConv2D layer, found "
            f"{weights.kind}"
        )
    if depthwise and groups is not None:
        raise InputError(
            f"{label}: expected no groups for a DepthwiseConv2D, which has one for each input "
            f"channel, found {groups!r}"
        )
    given = {"strides": strides, "padding": padding, "groups": groups}
    given = {name: value for name, value in given.items() if value is not None}
    weights = dataclasses.replace(weights, name=label, config=weights.config | given)
    shape = image_shape(pre)
    shape_out = shape_after(weights, shape, pre_label=pre.label)
    return _layer(
        pre,
        weights,
        neuron_type,
        shape_out,
        transform_of(weights, pre),
        max_rates=max_rates,
        intercepts=intercepts,
        gain=gain,
        bias=bias,
        amplitude=amplitude,
        synapse=synapse,
        label=label,
        seed=seed,
    )


def transform_of(weights: LayerWeights, pre: Layer) -> Transform:
    """Return the weights of a Dense, Conv2D or DepthwiseConv2D layer as Nengo takes them."""
    kernel, config = weights.kernel, weights.config
    if weights.kind == "Dense":
        return nengo.Dense((weights.n_outputs, pre.size), init=kernel.T)
    shape, depthwise = image_shape(pre), weights.kind == "DepthwiseConv2D"
    return nengo.Convolution(
        weights.n_outputs,
        shape,
        kernel_size=kernel.shape[:2],
        strides=as_pair("strides", config.get("strides", 1)),
        padding=config.get("padding", "valid"),
        channels_last=True,
        init=depthwise_as_grouped(kernel) if depthwise else kernel,
        groups=shape[2] if depthwise else config.get("groups", 1),
    )


def flatten(pre: Layer) -> Layer:
    """Return the same layer as one row of neurons, as Keras' Flatten does.

    It adds no Nengo objects: Nengo's own order is (row, column, channel). `dense` flattens what
    comes before it, so this is only for a shape to be read, probed or printed.

    Parameters
    ----------
    pre : Layer

    Returns
    -------
    Layer
        The record of the same Ensemble or Node, with the shape ``(size,)``. It takes the place of
        ``pre`` in `Layer.chain`.
    """
    checked_layer(pre, "pre")
    return dataclasses.replace(pre, shape=(pre.size,))


def image_shape(pre: Layer) -> tuple[int, ...]:
    """Return a layer's shape with its channels; ``(rows, columns)`` is one channel."""
    checked_layer(pre, "pre")
    return (*pre.shape, 1) if len(pre.shape) == 2 else pre.shape


def _layer(
    pre: Layer,
    weights: LayerWeights,
    neuron_type: NeuronType | None,
    shape: tuple[int, ...],
    transform: Transform,
    *,
    max_rates: object,
    intercepts: object,
    gain: object,
    bias: object,
    amplitude: float | None,
    synapse: Synapse | float | None,
    label: str,
    seed: int | None,
) -> Layer:
    """Add the neurons, or the Node, and the connection of a layer with Keras weights."""
    size = math.prod(shape)
    # Channels stand last, so the biases of the filters come round at every position.
    keras_bias = np.zeros(size) if weights.bias is None else np.resize(weights.bias, size)
    if neuron_type is None:
        return _linear_layer(
            pre, shape, transform, keras_bias, synapse=synapse, label=label, weights=weights
        )
    as_neuron_type(neuron_type, label)
    if amplitude is not None:
        neuron_type = with_settings(neuron_type, amplitude=amplitude)
    if seed is None:
        network = outermost_network()
        seed = tuning_seed(network.seed, len(network.all_ensembles))
    stated = gain is not None
    gain, bias = gain_bias(
        neuron_type, size, max_rates, intercepts, gain=gain, bias=bias, seed=seed
    )
    layer = neuron_layer(
        pre,
        shape=shape,
        transform=transform,
        neuron_type=neuron_type,
        gain=gain,
        bias=bias + gain * keras_bias,
        synapse=synapse,
        label=label,
        weights=weights,
    )
    return layer if stated else dataclasses.replace(layer, tuned_gain=gain)


class AddBias:
    """Node function of a layer without neurons: ``x + bias``."""

    def __init__(self, bias: np.ndarray) -> None:
        self.bias = np.asarray(bias, dtype=np.float64)

    def __call__(self, t: float, x: np.ndarray) -> np.ndarray:
        """Return the output at this step."""
        return x + self.bias

    def moments(
        self, mean: np.ndarray, variance: np.ndarray, dt: float
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Return mean and variance of the output, and its delay, for those of the input."""
        return mean + self.bias, variance, 0.0


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
    connect(pre, node, transform, synapse, label)
    return Layer(label=label, shape=shape, node=node, pre=pre, weights=weights)
