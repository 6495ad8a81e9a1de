"""Predict the rates of every layer without a simulation, from the Nengo objects themselves.

Works on networks made with our builders and on plain Nengo, as long as they are fed forward
through ``.neurons`` connections only; the first object that cannot be predicted is named.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import nengo
import numpy as np
import scipy.sparse
from nengo.connection import Neurons
from nengo.dists import Choice, Distribution
from nengo.neurons import NeuronType
from nengo.transforms import Transform

from nengonet.convolution import conv2d
from nengonet.encoding import ImageInput, PoissonImage
from nengonet.exceptions import InputError
from nengonet.filters import LowpassPerUnit
from nengonet.layers import AddBias
from nengonet.neurons import gain_bias, model_of
from nengonet.objects import Layer
from nengonet.pools import AveragePool, MaxPool
from nengonet.rates import Pool, activations
from nengonet.weights import LayerWeights

# Transforms whose weights can be read before the build.
_PREDICTED = (nengo.Dense, nengo.Sparse, nengo.Convolution)


@dataclasses.dataclass(frozen=True, eq=False)
class LayerPrediction:
    """What one layer is predicted to do, image by image.

    Attributes
    ----------
    label : str
    neuron_type : NeuronType or None
        None for inputs and for Nodes.
    gain, bias : (n_neurons,) ndarray or None
    drive : (n_images, n_neurons) ndarray
        ``W @ inputs``, the mean over time; for an input, the image.
    current : (n_images, n_neurons) ndarray
        ``gain * drive + bias``.
    deviation : (n_images, n_neurons) ndarray
        Standard deviation of the current from step to step.
    rates : (n_images, n_neurons) ndarray, in Hz
        For a layer that does not spike: output divided by amplitude.
    mean_outputs : (n_images, n_neurons) ndarray
        ``amplitude * rates``.
    variance : (n_images, n_neurons) ndarray
        Of the output from step to step.
    amplitude : float
    spiking : bool
    delay : float, in seconds
        Sum of the time constants of the synapses from the input to here.
    is_input : bool
        Whether it is a Node without inputs of its own.
    """

    label: str
    neuron_type: NeuronType | None
    gain: np.ndarray | None
    bias: np.ndarray | None
    drive: np.ndarray
    current: np.ndarray
    deviation: np.ndarray
    rates: np.ndarray
    mean_outputs: np.ndarray
    variance: np.ndarray
    amplitude: float
    spiking: bool
    delay: float
    is_input: bool = False


def predict_rates(
    output: Layer | nengo.Ensemble | Neurons | nengo.Node,
    images: np.ndarray | Mapping[nengo.Node, np.ndarray],
    *,
    network: nengo.Network | None = None,
    dt: float = 0.001,
    presentation_time: float | None = None,
    noise: bool = False,
) -> np.ndarray:
    """Predict the rate of every neuron of a layer for every image, with no simulation.

    Parameters
    ----------
    output : Layer, nengo.Ensemble, Neurons or nengo.Node
        The layer to predict.
    images : (n_images, ...) array_like, or dict
        What the input shows. For plain Nengo, what the input Node puts out; with several inputs a
        dict ``{node: (n_images, size_out) array_like}``.
    network : nengo.Network, optional
        Needed for plain Nengo objects; a `Layer` knows its own.
    dt : float, in seconds
        Of the simulation to be predicted. It matters for ``noise``, and for ``LIF`` and its kin,
        which spike once a step at most.
    presentation_time : float, in seconds, optional
        Average adapting neurons over this time from the reset state. By default their rate once
        they have adapted.
    noise : bool
        Add what noisy currents do to neurons that rectify or clip (see `nengonet.neurons`).
        Without it, each neuron has the rate that its mean current gives.

    Returns
    -------
    rates : (n_images, n_neurons) ndarray, in Hz
        For layers that do not spike: output divided by amplitude.

    Raises
    ------
    InputError
        The network has something that cannot be predicted; the message names it.
    """
    return predict(
        output, images, network=network, dt=dt, presentation_time=presentation_time, noise=noise
    )[-1].rates


def predict(
    output: Layer | nengo.Ensemble | Neurons | nengo.Node,
    images: np.ndarray | Mapping[nengo.Node, np.ndarray],
    *,
    network: nengo.Network | None = None,
    dt: float = 0.001,
    presentation_time: float | None = None,
    noise: bool = False,
    lines: bool = False,
) -> list[LayerPrediction]:
    """Predict every layer that the output depends on, from the inputs to the output.

    Parameters and errors are those of `predict_rates`, and one more:

    lines : bool
        Give the LIF types a rectified line, ``max(0, J - 1) / tau_rc``, for their curve: what is
        left of them without refractory time and without the bend at the threshold.

    Returns
    -------
    layers : list of LayerPrediction
        The output's is the last.
    """
    if network is None:
        if not isinstance(output, Layer):
            raise InputError(f"{output}: expected its network as well: network=…")
        network = output.network
    walk = _Walk(network, images, dt, presentation_time, noise, lines)
    walk.layer(target_of(output))
    return list(walk.found.values())


def target_of(
    output: Layer | nengo.Ensemble | Neurons | nengo.Node,
) -> nengo.Ensemble | nengo.Node:
    """Return the Ensemble or Node that an output belongs to.

    Parameters
    ----------
    output : Layer, nengo.Ensemble, Neurons or nengo.Node

    Raises
    ------
    InputError
        It is something else.
    """
    if isinstance(output, Layer):
        output = output.output
    if isinstance(output, Neurons):
        return output.ensemble
    if isinstance(output, (nengo.Ensemble, nengo.Node)):
        return output
    raise InputError(f"expected a layer, an Ensemble or a Node to predict, found {output!r}")


def _as_shown(images: np.ndarray) -> np.ndarray:
    """Divide uint8 images by 255, as `present` does."""
    images = np.asarray(images)
    return images / 255 if images.dtype == np.uint8 else images


def keras_activations(output: Layer, images: np.ndarray) -> dict[str, np.ndarray]:
    """Compute what the Keras model computes that a chain of layers was built from.

    The weights are the file's, whatever has become of those in the network.

    Parameters
    ----------
    output : Layer
        The last layer.
    images : (n_images, ...) array_like

    Returns
    -------
    activations : dict of (n_images, n_units) ndarray
        Of every layer with weights, by label, in order; flat in (row, column, channel) order. The
        last one's are its logits, before any softmax. Empty for a chain without weights.

    Raises
    ------
    InputError
        See `nengonet.rates.activations`.
    """
    chain = list(output.chain())
    built = {layer.label for layer in chain if layer.weights is not None}
    if not built:
        return {}
    images = np.reshape(_as_shown(images), (len(images), *chain[0].shape))
    layers = [found for layer in chain if (found := _keras_layer(layer)) is not None]
    return {
        label: values.reshape(len(images), -1)
        for label, values in activations(layers, images).items()
        if label in built
    }


def _keras_layer(layer: Layer) -> LayerWeights | Pool | None:
    if layer.weights is not None:
        return dataclasses.replace(layer.weights, name=layer.label)
    if layer.node is not None and isinstance(layer.node.output, MaxPool):
        return dataclasses.replace(layer.node.output.pool, name=layer.label)
    transform = None if layer.connection is None else layer.connection.transform
    return transform.pool if isinstance(transform, AveragePool) else None


class _Walk:
    """Follow the connections from an object back to the inputs, each object once."""

    def __init__(self, network, images, dt, presentation_time, noise, lines) -> None:
        self.dt, self.presentation_time = dt, presentation_time
        self.noise, self.lines = noise, lines
        self.incoming = {}
        for connection in network.all_connections:
            self.incoming.setdefault(_base(connection.post_obj), []).append(connection)
        self.objects = {*network.all_ensembles, *network.all_nodes}
        self.images = images
        self.n_images = len(next(iter(images.values())) if isinstance(images, Mapping) else images)
        self.found, self.under_way = {}, set()

    def layer(self, item: nengo.Ensemble | nengo.Node) -> LayerPrediction:
        if item in self.found:
            return self.found[item]
        if item not in self.objects:
            raise InputError(
                f"{item} is not part of the network that was given; expected the one in which it "
                "was built"
            )
        if item in self.under_way:
            raise InputError(f"{item}: cannot predict a recurrent connection")
        self.under_way.add(item)
        node = isinstance(item, nengo.Node)
        prediction = self._node(item) if node else self._ensemble(item)
        self.found[item] = prediction
        return prediction

    def _drive(self, item) -> tuple[np.ndarray, np.ndarray, float]:
        size = item.n_neurons if isinstance(item, nengo.Ensemble) else item.size_in
        mean, variance = (np.zeros((self.n_images, size)) for _ in range(2))
        delay = 0.0
        for connection in self.incoming.get(item, ()):
            _check_connection(connection)
            pre = self.layer(_base(connection.pre_obj))
            scale, power, tau = _synapse(connection, self.dt)
            into = connection.post_slice
            chosen = connection.pre_slice
            mean[:, into] += scale * _apply(connection, pre.mean_outputs[:, chosen])
            variance[:, into] += power * _apply(connection, pre.variance[:, chosen], power=2)
            delay = max(delay, pre.delay + tau)
        return mean, variance, delay

    def _node(self, node: nengo.Node) -> LayerPrediction:
        drive, variance, delay = self._drive(node)
        amplitude, spiking = 1.0, False
        if node.size_in == 0:
            drive, mean, variance = self._input(node)
            if isinstance(node.output, PoissonImage):
                amplitude, spiking = node.output.amplitude, True
        elif node.output is None:
            mean = drive
        elif isinstance(node.output, AddBias):
            mean = drive + node.output.bias
        elif isinstance(node.output, LowpassPerUnit):
            decay = node.output.decay(self.dt)
            mean, variance = drive, variance * (1 - decay) / (1 + decay)
            delay += float(node.output.tau.max())
        elif isinstance(node.output, MaxPool):
            mean, variance = _largest(node, drive, variance)
            spiking = node.output.amplitude is not None
            amplitude = node.output.amplitude if spiking else 1.0
        else:
            raise InputError(f"{node}: cannot predict a Node with a function of its own")
        return LayerPrediction(
            label=node.label or str(node),
            neuron_type=None,
            gain=None,
            bias=None,
            drive=drive,
            current=mean,
            deviation=np.sqrt(variance),
            rates=mean / amplitude,
            mean_outputs=mean,
            variance=variance,
            amplitude=amplitude,
            spiking=spiking,
            delay=delay,
            is_input=node.size_in == 0,
        )

    def _input(self, node: nengo.Node) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        given = self.images
        if isinstance(given, Mapping):
            given = given.get(node)
        elif not isinstance(node.output, ImageInput) and not self._alone(node):
            given = None
        if given is not None:
            given = _as_shown(given) if isinstance(node.output, ImageInput) else given
            given = np.asarray(given, dtype=np.float64).reshape(self.n_images, -1)
            if given.shape[1] != node.size_out:
                raise InputError(
                    f"{node}: expected images of {node.size_out} values, found {given.shape[1]}"
                )
            if isinstance(node.output, ImageInput):
                process = node.output
                return given, process.mean_output(given), process.step_variance(given, self.dt)
            return given, given, np.zeros(given.shape)
        if isinstance(node.output, np.ndarray):
            constant = np.broadcast_to(node.output, (self.n_images, node.size_out))
            return constant, constant, np.zeros(constant.shape)
        kind = "Process" if isinstance(node.output, nengo.Process) else "function"
        raise InputError(
            f"{node}: cannot predict a Node that runs a {kind} of its own; say what it puts out: "
            "images={node: (n_images, size_out) array}"
        )

    def _alone(self, node: nengo.Node) -> bool:
        """Whether this is the one input that plain images can be meant for."""
        sources = [
            other for other in self.objects if isinstance(other, nengo.Node) and other.size_in == 0
        ]
        return sources == [node]

    def _ensemble(self, ensemble: nengo.Ensemble) -> LayerPrediction:
        drive, variance, delay = self._drive(ensemble)
        neuron_type = ensemble.neuron_type
        gain, bias = _gain_bias(ensemble)
        current = gain * drive + bias
        deviation = gain * np.sqrt(variance)
        model = model_of(neuron_type)
        if self.lines:
            rates = model.line(current)
        else:
            rates = model.rates(
                current,
                deviation if self.noise else None,
                dt=self.dt,
                presentation_time=self.presentation_time,
            )
        return LayerPrediction(
            label=ensemble.label or str(ensemble),
            neuron_type=neuron_type,
            gain=gain,
            bias=bias,
            drive=drive,
            current=current,
            deviation=deviation,
            rates=rates,
            mean_outputs=model.amplitude * rates,
            variance=model.amplitude**2 * model.step_variance(rates, self.dt),
            amplitude=model.amplitude,
            spiking=model.spiking,
            delay=delay,
        )


def _base(item) -> nengo.Ensemble | nengo.Node:
    return item.ensemble if isinstance(item, Neurons) else item


def _check_connection(connection: nengo.Connection) -> None:
    what = None
    if connection.learning_rule_type is not None:
        what = "a connection with a learning rule"
    elif isinstance(connection.pre_obj, nengo.Ensemble):
        what = "a decoded connection; connect from .neurons"
    elif isinstance(connection.post_obj, nengo.Ensemble):
        what = "a connection through encoders; connect to .neurons"
    elif not isinstance(connection.post_obj, (Neurons, nengo.Node)):
        what = f"a connection to {connection.post_obj}"
    elif connection.function is not None:
        what = "a connection that computes a function"
    if what is not None:
        raise InputError(f"{connection}: cannot predict {what}")


def _apply(connection: nengo.Connection, values: np.ndarray, power: int = 1) -> np.ndarray:
    """Return what a transform makes of every row of values, with its weights to some power."""
    transform = connection.transform
    if isinstance(transform, nengo.transforms.NoTransform):
        return values
    if isinstance(transform, _PREDICTED) and _is_known(transform):
        if isinstance(transform, nengo.Sparse):
            matrix = transform.sample()
            matrix = matrix if scipy.sparse.issparse(matrix) else matrix.allocate()
            return (scipy.sparse.csr_array(matrix).power(power) @ values.T).T
        weights = np.asarray(transform.init, dtype=np.float64) ** power
        if isinstance(transform, nengo.Convolution):
            return _convolved(transform, weights, values)
        # One number, or a diagonal.
        return values @ weights.T if weights.ndim == 2 else values * weights
    raise InputError(
        f"{connection}: cannot predict the transform {type(transform).__name__}; "
        "expected a matrix, a convolution over one or two dimensions, or none"
    )


def _is_known(transform: Transform) -> bool:
    """Tell whether the weights are no Distribution, and a simulator can run the transform."""
    inits = (transform.init, getattr(transform.init, "data", None))
    return getattr(transform, "dimensions", 1) <= 2 and not any(
        isinstance(init, Distribution) for init in inits
    )


def _convolved(transform: nengo.Convolution, kernel: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the convolution of every row of values, in the transform's flat order."""
    strides = transform.strides
    images = values.reshape(len(values), *transform.input_shape.shape)
    if not transform.channels_last:
        images = np.moveaxis(images, 1, -1)
    if transform.dimensions == 1:
        images, kernel, strides = images[:, np.newaxis], kernel[np.newaxis], (1, *strides)
    found = conv2d(
        images, kernel, strides=strides, padding=transform.padding, groups=transform.groups
    )
    if not transform.channels_last:
        found = np.moveaxis(found, -1, 1)
    return found.reshape(len(values), -1)


def _largest(
    node: nengo.Node, mean: np.ndarray, variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of the input with the largest mean, for every window.

    In a short presentation, the largest of several noisy counts is above the largest mean.
    """
    pool = node.output
    if pool.kind == "instant" and np.any(variance):
        raise InputError(
            f"{node}: cannot predict a max pool of kind 'instant' over spikes, whose maxima add "
            "up to more than the largest mean; use kind='running_max' or 'winner'"
        )
    return tuple(pool.of_largest(mean.T, each.T).T for each in (mean, variance))


def _synapse(connection: nengo.Connection, dt: float) -> tuple[float, float, float]:
    """Return what a synapse makes of a mean, of the variance of steps, and its delay."""
    synapse = connection.synapse
    if synapse is None:
        return 1.0, 1.0, 0.0
    if isinstance(synapse, nengo.synapses.Triangle):
        tau, scale = synapse.t, 1.0
    elif isinstance(synapse, nengo.synapses.LinearFilter):
        if synapse.den[-1] == 0:
            raise InputError(f"{connection}: cannot predict a synapse that integrates ({synapse})")
        scale = float(synapse.num[-1] / synapse.den[-1])
        tau = float(synapse.den[-2] / synapse.den[-1]) if len(synapse.den) > 1 else 0.0
    else:
        raise InputError(f"{connection}: cannot predict the synapse {synapse}")
    impulse = np.zeros((max(10, round(20 * tau / dt)), 1))
    impulse[0] = 1.0
    response = synapse.filt(impulse, dt=dt, y0=0)
    return scale, float((response**2).sum()), tau


def _gain_bias(ensemble: nengo.Ensemble) -> tuple[np.ndarray, np.ndarray]:
    if type(ensemble.neuron_type).step is nengo.Direct.step:
        raise InputError(f"{ensemble}: cannot predict Direct mode, which has no neurons")
    stated = {"gain": ensemble.gain, "bias": ensemble.bias}
    if stated["gain"] is None:
        stated |= {"max_rates": ensemble.max_rates, "intercepts": ensemble.intercepts}
    for name, value in stated.items():
        if isinstance(value, Distribution) and not (
            isinstance(value, Choice) and len(value.options) == 1
        ):
            raise InputError(
                f"{ensemble}: cannot predict {name}={value}, which the build draws at random; "
                "state one value for each neuron"
            )
    return gain_bias(ensemble.neuron_type, ensemble.n_neurons, **stated)
