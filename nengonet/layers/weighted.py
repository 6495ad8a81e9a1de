"""Layers with weights: one Ensemble (or Node) and one Connection each.

Call every builder inside ``with nengo.Network():``. It returns its objects in a `Layer`, ready to
probe, edit or delete.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TypeAlias

import nengo
import numpy as np
from nengo.neurons import NeuronType
from nengo.transforms import Transform
from numpy.typing import ArrayLike

from nengonet.ann.convolution import as_padding
from nengonet.ann.kinds import kind_of, shape_after
from nengonet.checks import as_number, quoted
from nengonet.exceptions import InputError
from nengonet.layers.protocol import Moments
from nengonet.layers.record import (
    Layer,
    Layers,
    SynapseLike,
    as_layers,
    checked_layer,
    neuron_layer,
    new_label,
    node_layer,
)
from nengonet.nengo_internals import outermost_network
from nengonet.neurons import as_neuron_type, gain_bias, model_of, with_settings
from nengonet.neurons.tuning import PerNeuron
from nengonet.streams import tuning_seed
from nengonet.weights import LayerWeights, as_layer_weights
from nengonet.weights.records import KERNEL_NDIM

WeightsLike: TypeAlias = LayerWeights | ArrayLike | tuple[ArrayLike, ArrayLike | None]


@dataclasses.dataclass(frozen=True)
class Tuning:
    """The tuning of a layer's neurons, and the connection's synapse: see `dense`."""

    max_rates: PerNeuron | None = None
    intercepts: PerNeuron | None = None
    gain: PerNeuron | None = None
    bias: PerNeuron | None = None
    amplitude: float | None = None
    synapse: SynapseLike = None
    seed: int | None = None


def dense(
    pre: Layers,
    weights: WeightsLike,
    neuron_type: NeuronType | None,
    *,
    max_rates: PerNeuron | None = None,
    intercepts: PerNeuron | None = None,
    gain: PerNeuron | None = None,
    bias: PerNeuron | None = None,
    amplitude: float | None = None,
    synapse: SynapseLike = None,
    label: str | None = None,
    seed: int | None = None,
) -> Layer:
    """Add a fully connected layer: one Ensemble, and one Connection into its ``.neurons``.

    Each neuron gets the current ``J = gain * (kernel.T @ inputs + keras_bias) + bias``.

    Parameters
    ----------
    pre : Layer or list of Layer
        The layer before. A list of layers of one shape stands for their sum: each is connected
        through the same weights.
    weights : LayerWeights, (n_inputs, n_outputs) array_like or (kernel, bias) tuple
        The weights as Keras stores them. A Keras bias is a drive like any other: it is added to the
        tuning's bias as ``gain * keras_bias``.
    neuron_type : NeuronType or None
        None for a last layer without neurons: a Node that outputs the drive.
    max_rates, intercepts : float, array_like or Distribution, optional
        The tuning by rates: a neuron fires at ``max_rates`` (Hz) at a drive of 1, and not at all
        below a drive of ``intercepts`` (by default 0). ``**nengonet.FORUM`` holds those of the
        forum post, 100 and 0.
    gain, bias : float, array_like or Distribution, optional
        The tuning given directly, in place of ``max_rates`` and ``intercepts``: see
        `nengonet.gain_bias`. `nengonet.tune` chooses both, and the amplitude. Tuning has no
        default, because no value suits the weights of every network.
    amplitude : float, optional
        Area of one spike (for rate neurons, factor on the output). By default the neuron type's.
    synapse : Synapse, float or None
        Synapse of the connection. With None, a spike arrives within the same step.
    label : str, optional
        By default the name of the weights in their file, or ``"dense"``. It is numbered as in Keras
        if the network already has it (``dense_1``).
    seed : int, optional
        Seed for ``max_rates``, ``intercepts``, ``gain`` or ``bias`` given as distributions. By
        default it is made from the network's present seed (0 if it has none) and the number of
        ensembles before this one, so that every layer draws its own values.

    Returns
    -------
    Layer

    Raises
    ------
    InputError
        The kernel does not fit the layer before, or the tuning is missing or impossible.

    Notes
    -----
    For ``LIF``, Nengo warns of "non-finite values" if a given ``gain + bias < 1``: such a neuron is
    silent at a drive of 1, which is no fault. `present` builds without the warning.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     pixels = nn.constant_input((2,))
    ...     layer = nn.dense(pixels, [[1.0, -1.0], [0.5, 0.0]], nn.IntegrateAndFire(), gain=100.0)
    >>> nn.predict_rates(layer, [[0.2, 0.4]])  # Hz
    array([[40.,  0.]])
    >>> result = nn.present(layer.network, layer, [[0.2, 0.4]], presentation_time=1.0)
    >>> result.counts["dense"].tolist()
    [[40, 0]]
    """
    pres, weights = as_layers(pre), as_layer_weights(weights, name=label or "dense")
    label = new_label(label, weights.name or "dense", pres)
    weights = _of_kind(weights, label, "Dense")
    weights.check_inputs(pres[0].shape, pre_label=pres[0].label)
    # In the order in which Nengo builds it, so that no build has to reorder it.
    kernel = np.ascontiguousarray(weights.kernel.T)
    transform = nengo.Dense((weights.n_outputs, pres[0].size), init=kernel)
    tuning = Tuning(max_rates, intercepts, gain, bias, amplitude, synapse, seed)
    return weighted_layer(pres, weights, transform, neuron_type, tuning, label)


def conv2d(
    pre: Layers,
    weights: WeightsLike,
    neuron_type: NeuronType | None,
    *,
    strides: int | Sequence[int] | None = None,
    padding: str | None = None,
    groups: int | None = None,
    dilation_rate: int | Sequence[int] | None = None,
    max_rates: PerNeuron | None = None,
    intercepts: PerNeuron | None = None,
    gain: PerNeuron | None = None,
    bias: PerNeuron | None = None,
    amplitude: float | None = None,
    synapse: SynapseLike = None,
    label: str | None = None,
    seed: int | None = None,
) -> Layer:
    """Add a convolution: one Ensemble, and one ``nengo.Convolution`` into its ``.neurons``.

    Each neuron gets the current ``J = gain * (convolution + keras_bias) + bias``, as in `dense`.

    Parameters
    ----------
    pre : Layer or list of Layer
        The layer before, of shape ``(rows, columns, channels)``; ``(rows, columns)`` is one
        channel. A list of layers stands for their sum, as in `dense`.
    weights : LayerWeights, (rows, columns, channels / groups, filters) array_like or tuple
        The kernel of a Conv2D or DepthwiseConv2D layer as Keras stores it, alone or as
        ``(kernel, bias)``. All neurons of a filter share its bias.
    neuron_type : NeuronType or None
        None for a Node that outputs the drive.
    strides : int or (int, int), optional
        Strides over rows and columns. By default those in the weights' file, else 1. An argument
        overrides the file; so do ``padding``, ``groups`` and ``dilation_rate``.
    padding : {"valid", "same"}, optional
        By default the file's, else ``"valid"``.
    groups : int, optional
        By default the file's, else 1. A DepthwiseConv2D has one group for each input channel.
    dilation_rate : int or (int, int), optional
        By default the file's, else 1. ``nengo.Convolution`` has no dilation: instead, zeros are put
        between the rows and columns of the kernel.
    max_rates, intercepts, gain, bias, amplitude
        As for `dense`. Arrays hold one value for each neuron, in (row, column, filter) order.
    synapse, label, seed
        As for `dense`.

    Returns
    -------
    Layer
        A layer of shape ``(rows, columns, filters)``. The ``config`` of its ``weights`` holds the
        given arguments.

    Raises
    ------
    InputError
        The kernel does not fit the layer before; the file asks for channels first, which
        ``nengo.Convolution`` cannot do; or the tuning is impossible.

    Notes
    -----
    ``nengo.Convolution`` pads as Keras does on TensorFlow: with ``"same"``, the padding depends on
    the stride, and an odd row or column of it is added at the bottom or right. Its groups and its
    flat order, (row, column, channel), are those of Keras.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     pixels = nn.constant_input((5, 5, 1))
    ...     kernel = np.ones((3, 3, 1, 8)) / 9
    ...     layer = nn.conv2d(pixels, kernel, nengo.LIF(), strides=2, gain=9.0)
    >>> layer.shape
    (2, 2, 8)
    >>> layer.ensemble.n_neurons
    32
    """
    given = strides, padding, groups, dilation_rate
    tuning = Tuning(max_rates, intercepts, gain, bias, amplitude, synapse, seed)
    return _convolution(pre, weights, "Conv2D", given, neuron_type, tuning, label)


def conv1d(
    pre: Layers,
    weights: WeightsLike,
    neuron_type: NeuronType | None,
    *,
    strides: int | None = None,
    padding: str | None = None,
    groups: int | None = None,
    dilation_rate: int | None = None,
    max_rates: PerNeuron | None = None,
    intercepts: PerNeuron | None = None,
    gain: PerNeuron | None = None,
    bias: PerNeuron | None = None,
    amplitude: float | None = None,
    synapse: SynapseLike = None,
    label: str | None = None,
    seed: int | None = None,
) -> Layer:
    """Add a convolution over steps: one Ensemble, and one ``nengo.Convolution`` into its neurons.

    Parameters
    ----------
    pre : Layer or list of Layer
        The layer before, of shape ``(steps, channels)``; ``(steps,)`` is one channel. These steps
        are an axis of the input, such as the samples of a recording, not steps of the simulation.
        A list of layers stands for their sum, as in `dense`.
    weights : LayerWeights, (steps, channels / groups, filters) array_like or tuple
        The kernel of a Conv1D or DepthwiseConv1D layer, alone or as ``(kernel, bias)``.
    padding : {"valid", "same", "causal"}, optional
        With ``"causal"``, the output at a step depends on that step and those before it.
    strides, groups, dilation_rate : int, optional
    max_rates, intercepts, gain, bias, amplitude
        As for `conv2d`; neurons are in (step, filter) order.
    neuron_type, synapse, label, seed
        As for `conv2d`, with the same defaults.

    Returns
    -------
    Layer
        A layer of shape ``(steps, filters)``.

    Notes
    -----
    ``nengo.Convolution`` has neither causal padding nor dilation. Instead, zeros are put after the
    kernel's end, or between its steps; padding ``"same"`` then computes the same.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     samples = nn.constant_input((6, 1))
    ...     layer = nn.conv1d(samples, [[[1.0]], [[-1.0]]], nn.IntegrateAndFire(), gain=100.0)
    >>> nn.predict_rates(layer, [[0.0, 0.0, 1.0, 1.0, 0.0, 0.0]])
    array([[  0.,   0.,   0., 100.,   0.]])
    """
    given = strides, padding, groups, dilation_rate
    tuning = Tuning(max_rates, intercepts, gain, bias, amplitude, synapse, seed)
    return _convolution(pre, weights, "Conv1D", given, neuron_type, tuning, label)


def _convolution(
    pre: Layers,
    weights: object,
    kind: str,
    given: tuple,
    neuron_type: NeuronType | None,
    tuning: Tuning,
    label: str | None,
) -> Layer:
    """Add a convolution over as many dimensions as the kind has; `given` wins over the file."""
    pres, weights = as_layers(pre), as_layer_weights(weights, name=label or kind.lower())
    label = new_label(label, weights.name or kind.lower(), pres)
    weights = _of_kind(weights, label, kind, f"Depthwise{kind}")
    strides, padding, *rest = given
    given = strides, as_padding(padding), *rest
    given = dict(zip(("strides", "padding", "groups", "dilation_rate"), given, strict=True))
    given = {name: value for name, value in given.items() if value is not None}
    if "groups" in given and weights.kind != kind:
        raise InputError(
            f"{label}: groups: expected none for a {weights.kind}, which has one for each input "
            f"channel, got {quoted(given['groups'])}"
        )
    weights = dataclasses.replace(weights, name=label, config=weights.config | given)
    shape_after(weights, pres[0].shape, pre_label=pres[0].label)
    computed = kind_of(weights)
    shape = computed.with_channels(weights, pres[0].shape)
    kernel, options = computed.plain(weights, shape)
    transform = nengo.Convolution(
        weights.n_outputs,
        shape,
        kernel_size=kernel.shape[:-2],
        channels_last=True,
        init=kernel,
        **options,
    )
    return weighted_layer(pres, weights, transform, neuron_type, tuning, label)


def _of_kind(weights: LayerWeights, label: str, *kinds: str) -> LayerWeights:
    """Return weights of one of several kinds; if the file states no kind, the builder does."""
    untold = weights.kind == "unknown" and weights.kernel is not None
    if untold and weights.kernel.ndim == KERNEL_NDIM[kinds[0]]:
        return dataclasses.replace(weights, kind=kinds[0])
    if weights.kind not in kinds:
        raise InputError(
            f"{label}: expected the weights of a {' or '.join(kinds)} layer, got {weights.kind}"
        )
    return weights


def activation(
    pre: Layers,
    neuron_type: NeuronType,
    *,
    max_rates: PerNeuron | None = None,
    intercepts: PerNeuron | None = None,
    gain: PerNeuron | None = None,
    bias: PerNeuron | None = None,
    amplitude: float | None = None,
    synapse: SynapseLike = None,
    label: str | None = None,
    seed: int | None = None,
) -> Layer:
    """Add neurons without weights: one Ensemble, and a Connection from each layer.

    They end a residual block, ``relu(convolution + shortcut)``::

        last = nn.conv2d(first, weights["conv_2"], None)
        block = nn.activation([last, shortcut], neuron_type, gain=…)

    Parameters
    ----------
    pre : Layer or list of Layer
        Several layers of one shape stand for their sum: each neuron gets the current
        ``J = gain * sum + bias``. The sum is that of Keras if all inputs are on one scale: if the
        amplitudes make every neuron's mean output its activation, or with the weights of
        `nengonet.balance`.
    neuron_type : NeuronType
    max_rates, intercepts, gain, bias, amplitude, synapse, seed
        As for `dense`.
    label : str, optional
        By default ``"activation"``, numbered if the network already has it.

    Returns
    -------
    Layer
        A layer of the shape of the layers before.

    Raises
    ------
    InputError
        The layers have different shapes, ``neuron_type`` is None, or the tuning is impossible.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     a, b = (nn.constant_input((2,), label=label) for label in "ab")
    ...     total = nn.activation([a, b], nn.IntegrateAndFire(), gain=100.0)
    >>> total
    <Layer 'activation', shape (2,)>
    """
    pres = as_layers(pre)
    label = new_label(label, "activation", pres)
    if neuron_type is None:
        raise InputError(
            f"{label}: neuron_type: expected a Nengo neuron type, got None; nengonet.add sums "
            "layers without neurons"
        )
    tuning = Tuning(max_rates, intercepts, gain, bias, amplitude, synapse, seed)
    weights = LayerWeights(name=label, kind="Activation")
    return weighted_layer(pres, weights, None, neuron_type, tuning, label)


def flatten(pre: Layer) -> Layer:
    """Return the same layer as one row of neurons, as Keras' Flatten does.

    It adds no Nengo objects, because Nengo's own order is (row, column, channel). `dense` flattens
    the layer before it, so `flatten` is only needed to read, probe or print a flat shape.

    Parameters
    ----------
    pre : Layer

    Returns
    -------
    Layer
        A record of the same Ensemble or Node, of shape ``(size,)``, which replaces ``pre``.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     pixels = nn.constant_input((5, 5, 2))
    ...     row = nn.flatten(pixels)
    >>> row.shape
    (50,)
    >>> row.node is pixels.node
    True
    """
    checked_layer(pre, "pre")
    return dataclasses.replace(pre, shape=(pre.size,))


def weighted_layer(
    pre: Layers,
    weights: LayerWeights,
    transform: Transform | None,
    neuron_type: NeuronType | None,
    tuning: Tuning,
    label: str,
) -> Layer:
    """Add a layer of any kind of Keras weights that `nengonet.ann.kinds` knows.

    It adds one Ensemble, or a Node if ``neuron_type`` is None, and one Connection from each layer
    before with ``transform``: the weights as Nengo takes them. `Tuning` holds the arguments of
    `nengonet.dense` with these names.

    Parameters
    ----------
    pre : list of Layer
        The layers before; several stand for their sum.
    weights : LayerWeights
        The ``weights`` that the layer keeps; their bias is added to the ensemble's bias.
    transform : nengo transform
        Transform of every connection, from a layer before to the neurons' drives.
    neuron_type : NeuronType or None
        None for a Node that outputs the drive.
    tuning : Tuning
        Gain, bias, amplitude, synapse and seed.
    label : str
        Label of the layer and its Nengo objects.

    Examples
    --------
    >>> from nengonet.layers.weighted import Tuning, weighted_layer
    >>> mean = nn.LayerWeights(np.full((4, 1), 0.25), name="mean")
    >>> with nengo.Network(seed=0):
    ...     pixels = nn.constant_input((4,))
    ...     rule = nengo.Dense((1, 4), init=mean.kernel.T)
    ...     layer = weighted_layer([pixels], mean, rule, nengo.LIF(), Tuning(gain=9.0), "mean")
    >>> layer
    <Layer 'mean', shape (1,)>
    """
    first = as_layers(pre)[0]
    shape = shape_after(weights, first.shape, pre_label=first.label)
    of_layer = {"shape": shape, "label": label, "weights": weights, "shape_in": first.shape}
    of_layer |= {"transform": transform, "synapse": tuning.synapse}
    size = math.prod(shape)
    # Channels are the last axis, so the biases of the filters repeat at every position.
    keras_bias = np.zeros(size) if weights.bias is None else np.resize(weights.bias, size)
    if neuron_type is None:
        return node_layer(pre, AddBias(keras_bias) if np.any(keras_bias) else None, **of_layer)
    as_neuron_type(neuron_type, label)
    if tuning.amplitude is not None:
        amplitude = as_number(f"{label}: amplitude", tuning.amplitude, "an area", above=0)
        neuron_type = with_settings(neuron_type, amplitude=amplitude)
    untuned = tuning.gain is None and tuning.max_rates is None
    if untuned and model_of(neuron_type).has_neurons:
        raise InputError(
            f"{label}: expected gain or max_rates, got neither; give **tuned[{label!r}] from "
            "nengonet.tune, which suits the weights, or **nengonet.FORUM for the forum's "
            "max_rates=100, intercepts=0"
        )
    seed, network = tuning.seed, outermost_network()
    if seed is None:
        seed = tuning_seed(network.seed, len(network.all_ensembles))
    intercepts = 0.0 if tuning.intercepts is None else tuning.intercepts
    given = {"gain": tuning.gain, "bias": tuning.bias, "seed": seed}
    gain, bias = gain_bias(neuron_type, size, tuning.max_rates, intercepts, **given)
    of_layer["tuned_gain"] = gain if tuning.gain is None else None
    return neuron_layer(pre, neuron_type, gain, bias + gain * keras_bias, **of_layer)


class AddBias:
    """Node function of a layer without neurons: ``x + bias``."""

    batched = True

    def __init__(self, bias: np.ndarray) -> None:
        self.bias = np.asarray(bias, dtype=np.float64)

    def __call__(self, t: float, x: np.ndarray) -> np.ndarray:
        """Return the output at this step; examples may be the last axis."""
        return x + (self.bias if x.ndim == 1 else self.bias[:, np.newaxis])

    def moments(self, mean: np.ndarray, variance: np.ndarray, dt: float) -> Moments:
        """Return mean and variance of the output, and its delay, for those of the input."""
        return mean + self.bias, variance, 0.0
