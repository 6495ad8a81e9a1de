"""Pools as explicit Nengo objects: one Node and one Connection each.

An average pool is a constant matrix: spikes pass through it as through any other connection. A
maximum is not: the largest spike of a step says nothing about the largest rate. `max_pool2d`
therefore compares the sums of its inputs since the reset. The 1D pools are the same code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import nengo
import numpy as np
from nengo.builder import Builder
from nengo.builder.processes import build_process
from nengo.params import EnumParam, NumberParam, ShapeParam

from nengonet.ann.convolution import output_shape, places
from nengonet.ann.unweighted import Pool
from nengonet.checks import check_among
from nengonet.exceptions import InputError
from nengonet.layers.graph import Graph
from nengonet.layers.protocol import Moments
from nengonet.layers.record import Layer, Layers, SynapseLike, as_layers, new_label, node_layer

KINDS = ("running_max", "winner", "instant")


def avg_pool2d(
    pre: Layers,
    size: int | Sequence[int] = (2, 2),
    strides: int | Sequence[int] | None = None,
    padding: str = "valid",
    *,
    synapse: SynapseLike = None,
    label: str | None = None,
) -> Layer:
    """Add a pool that outputs the mean of every window: one Node and one Connection.

    Parameters
    ----------
    pre : Layer or list of Layer
        Of shape ``(rows, columns, channels)``; ``(rows, columns)`` is one channel. Several stand
        for their sum.
    size : int or (int, int)
        Size of the window, in rows and columns.
    strides : int or (int, int), optional
        By default the size.
    padding : {"valid", "same"}
        With ``"same"``, the mean is over those pixels that are in the image, as in Keras.
    synapse : Synapse, float or None
        On the connection.
    label : str, optional
        By default the builder's name, numbered if the network already has it.

    Returns
    -------
    Layer
        Of shape ``(rows, columns, channels)``. Its output is not spikes: its ``amplitude`` is None.

    Raises
    ------
    InputError
        The layer before has no rows, columns and channels; the window is larger than its image; or
        a size, stride or padding is impossible.

    Notes
    -----
    The transform is a ``nengo.Sparse`` matrix, not a ``nengo.Convolution``: at an edge padded
    with ``"same"``, a window has fewer pixels than in the middle, and therefore other weights.

    The CSNN paper replaces the max pools of a trained network with average pools, which spikes pass
    through like any connection. That network computes other values; ``nengonet reproduce
    cifar-csnn`` measures the loss before any spiking. Train with average pools, or keep the max
    pools with `max_pool2d`.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     pixels = nn.constant_input((2, 4))
    ...     pooled = nn.avg_pool2d(pixels)
    >>> pooled.shape
    (1, 2, 1)
    >>> nn.predict_rates(pooled, [[[1.0, 2.0, 0.0, 0.0], [3.0, 4.0, 0.0, 8.0]]])
    array([[2.5, 2. ]])
    """
    return _pool(pre, ("average", size, strides, padding), "avg_pool2d", label, synapse)


def avg_pool1d(
    pre: Layers,
    size: int = 2,
    strides: int | None = None,
    padding: str = "valid",
    *,
    synapse: SynapseLike = None,
    label: str | None = None,
) -> Layer:
    """Add a pool that outputs the mean of every window of steps: `avg_pool2d` without columns.

    Parameters
    ----------
    pre : Layer or list of Layer
        Of shape ``(steps, channels)``, as the pool's; ``(steps,)`` is one channel.
    size, strides, padding, synapse, label
        As for `avg_pool2d`, one number each.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     samples = nn.constant_input((4, 1))
    ...     pooled = nn.avg_pool1d(samples, size=2)
    >>> nn.predict_rates(pooled, [[1.0, 3.0, 0.0, 8.0]])
    array([[2., 4.]])
    """
    return _pool(pre, ("average", size, strides, padding), "avg_pool1d", label, synapse, 1)


def global_avg_pool2d(
    pre: Layers, *, synapse: SynapseLike = None, label: str | None = None
) -> Layer:
    """Add a pool that outputs the mean of every channel: `avg_pool2d` of the whole image.

    Parameters
    ----------
    pre : Layer or list of Layer
        Of shape ``(rows, columns, channels)``; several stand for their sum.
    synapse : Synapse, float or None
        On the connection.
    label : str, optional
        By default the builder's name, numbered if the network already has it.

    Returns
    -------
    Layer
        Of shape ``(channels,)``; its ``amplitude`` is None.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     pixels = nn.constant_input((5, 5, 3))
    ...     pooled = nn.global_avg_pool2d(pixels)
    >>> pooled.shape
    (3,)
    """
    return _pool(pre, ("global_average",), "global_avg_pool2d", label, synapse)


def global_avg_pool1d(
    pre: Layers, *, synapse: SynapseLike = None, label: str | None = None
) -> Layer:
    """Add a pool that outputs the mean of every channel: `avg_pool1d` over all steps.

    Parameters
    ----------
    pre : Layer or list of Layer
        Of shape ``(steps, channels)``; several stand for their sum.
    synapse : Synapse, float or None
        On the connection.
    label : str, optional
        By default the builder's name, numbered if the network already has it.

    Returns
    -------
    Layer
        Of shape ``(channels,)``; its ``amplitude`` is None.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     samples = nn.constant_input((10, 2))
    ...     pooled = nn.global_avg_pool1d(samples)
    >>> pooled.shape
    (2,)
    """
    return _pool(pre, ("global_average",), "global_avg_pool1d", label, synapse, 1)


def max_pool2d(
    pre: Layers,
    size: int | Sequence[int] = (2, 2),
    strides: int | Sequence[int] | None = None,
    padding: str = "valid",
    *,
    kind: str = "running_max",
    synapse: SynapseLike = None,
    label: str | None = None,
) -> Layer:
    """Add a pool that passes on the largest input of every window: one Node and one Connection.

    Parameters
    ----------
    pre, size, strides, label
        As for `avg_pool2d`.
    padding : {"valid", "same"}
        Padding is never the largest, as in Keras.
    kind : {"running_max", "winner", "instant"}
        - ``"running_max"``: the pool sums each input since the reset, and outputs the change of
          the window's largest sum. At every step, its own summed output is then exactly the
          maximum of the summed inputs: its spike count is the largest spike count of the window.
          Two spikes may come in one step. Where all inputs of a window can fall below 0 (negative
          spikes, a linear layer), so can the output.
        - ``"winner"``: at every step, the pool passes on the input with the largest sum so far,
          this step included. Of equal inputs, the first one wins, row by row. While no input
          leads by a whole spike, the lead changes with every spike: spikes are lost, or those of
          several inputs pass (Rueckauer et al. 2017).
        - ``"instant"``: the pool passes on the largest input of this step alone, as Keras does.
          That is right for rate neurons. It is wrong for spikes, whose maxima in single steps add
          up to more than the largest count.
    synapse : Synapse, float or None
        Synapse of the connection. Filtered spikes are no longer spikes: the pool then sums the
        filtered input, and its ``amplitude`` is None.

    Returns
    -------
    Layer
        Of shape ``(rows, columns, channels)``. Its ``amplitude`` is that of the layer before:
        spikes stay whole spikes.

    References
    ----------
    B. Rueckauer et al. (2017), "Conversion of continuous-valued deep networks to efficient
    event-driven networks for image classification", Frontiers in Neuroscience 11:682.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     pixels = nn.poisson_input((2, 2), max_rate=100.0)
    ...     pooled = nn.max_pool2d(pixels)
    >>> result = nn.present(pooled.network, pooled, [[0, 0.2, 0.4, 0.9]])
    >>> result.counts["input"].tolist(), result.counts["max_pool2d"].tolist()
    ([[0, 4, 11, 35]], [[35]])
    """
    return _pool(pre, ("max", size, strides, padding), "max_pool2d", label, synapse, kind=kind)


def max_pool1d(
    pre: Layers,
    size: int = 2,
    strides: int | None = None,
    padding: str = "valid",
    *,
    kind: str = "running_max",
    synapse: SynapseLike = None,
    label: str | None = None,
) -> Layer:
    """Add a pool that passes on the largest input of every window of steps, as `max_pool2d` does.

    Parameters
    ----------
    pre : Layer or list of Layer
        Of shape ``(steps, channels)``, as the pool's; ``(steps,)`` is one channel. These steps are
        an axis of the input, such as the samples of a recording, not those of the simulation.
    size, strides, padding, kind, synapse, label
        As for `max_pool2d`, one number each.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     samples = nn.constant_input((4, 1))
    ...     pooled = nn.max_pool1d(samples, size=2)
    >>> nn.predict_rates(pooled, [[1.0, 3.0, 0.0, 8.0]])
    array([[3., 8.]])
    """
    return _pool(pre, ("max", size, strides, padding), "max_pool1d", label, synapse, 1, kind)


def global_max_pool2d(
    pre: Layers, *, kind: str = "running_max", synapse: SynapseLike = None, label: str | None = None
) -> Layer:
    """Add a pool that passes on the largest input of every channel: `max_pool2d` of the image.

    Parameters
    ----------
    pre : Layer or list of Layer
        Of shape ``(rows, columns, channels)``; several stand for their sum.
    kind : {"running_max", "winner", "instant"}
        As for `max_pool2d`.
    synapse : Synapse, float or None
        On the connection.
    label : str, optional
        By default the builder's name, numbered if the network already has it.

    Returns
    -------
    Layer
        Of shape ``(channels,)``, with the ``amplitude`` of the layer before.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     pixels = nn.constant_input((5, 5, 3))
    ...     pooled = nn.global_max_pool2d(pixels)
    >>> pooled.shape
    (3,)
    """
    return _pool(pre, ("global_max",), "global_max_pool2d", label, synapse, kind=kind)


def global_max_pool1d(
    pre: Layers, *, kind: str = "running_max", synapse: SynapseLike = None, label: str | None = None
) -> Layer:
    """Add a pool that passes on the largest input of every channel: `max_pool1d` over all steps.

    Parameters
    ----------
    pre : Layer or list of Layer
        Of shape ``(steps, channels)``; several stand for their sum.
    kind : {"running_max", "winner", "instant"}
        As for `max_pool2d`.
    synapse : Synapse, float or None
        On the connection.
    label : str, optional
        By default the builder's name, numbered if the network already has it.

    Returns
    -------
    Layer
        Of shape ``(channels,)``, with the ``amplitude`` of the layer before.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     samples = nn.constant_input((10, 2))
    ...     pooled = nn.global_max_pool1d(samples)
    >>> pooled.shape
    (2,)
    """
    return _pool(pre, ("global_max",), "global_max_pool1d", label, synapse, 1, kind)


def _pool(
    pre: Layers,
    given: tuple,
    default: str,
    label: str | None,
    synapse: SynapseLike,
    dimensions: int = 2,
    kind: str = "",
) -> Layer:
    """Add a pool; ``given``: kind, size, strides and padding, as `Pool` takes them."""
    pres = as_layers(pre)
    label = new_label(label, default, pres)
    pool = Pool(*given, name=label, dimensions=dimensions)
    of_layer = {"shape": pool.shape_after(pres[0].shape, pres[0].label), "label": label}
    of_layer["synapse"] = synapse
    shape = pool.with_channels(pres[0].shape)
    if not kind:
        return node_layer(pres, None, transform=AveragePool(shape, pool), **of_layer)
    check_among(f"{label}: kind", kind, KINDS)
    return node_layer(pres, MaxPool(shape, *pool.geometry(shape), kind), **of_layer)


class MaxPool(nengo.Process):
    """Process that the Node of a max pool runs: see `max_pool2d`."""

    image_shape = ShapeParam("image_shape", low=1)
    pool_size = ShapeParam("pool_size", low=1)
    strides = ShapeParam("strides", low=1)
    padding = EnumParam("padding", values=("valid", "same"))
    kind = EnumParam("kind", values=KINDS)
    amplitude = NumberParam("amplitude", optional=True)
    batched = passes_spikes = True

    def __init__(
        self,
        image_shape: tuple[int, ...],
        pool_size: tuple[int, ...],
        strides: tuple[int, ...],
        padding: str,
        kind: str,
        amplitude: float | None = None,
    ) -> None:
        geometry = (image_shape, pool_size, strides, padding)
        self.shape_out = (*output_shape(*geometry), image_shape[-1])
        self.places = places(*geometry)
        super().__init__(
            default_size_in=math.prod(image_shape), default_size_out=math.prod(self.shape_out)
        )
        self.image_shape, self.pool_size, self.strides, self.padding = geometry
        self.kind, self.amplitude = kind, amplitude

    def moments(self, mean: np.ndarray, variance: np.ndarray, dt: float) -> Moments:
        """Return mean and variance of the input with the largest mean, for every window.

        In a short presentation, the largest of several noisy counts exceeds the largest mean.
        """
        if self.kind == "instant" and np.any(variance):
            raise InputError(
                "cannot predict a max pool of kind 'instant' over spikes, whose maxima add up to "
                "more than the largest mean; use kind='running_max' or 'winner'"
            )
        return *(self.of_largest(mean.T, each.T).T for each in (mean, variance)), 0.0

    def of_largest(self, sums: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return, for every window, the value of the input with the largest sum."""
        rest = sums.shape[1:]
        largest = self.largest(sums).reshape(*self.shape_out, *rest)
        sums, values = (each.reshape(*self.image_shape, *rest) for each in (sums, values))
        chosen = np.zeros(largest.shape, values.dtype)
        # The first one is written last, so that it stays.
        for there, here in reversed(self.places):
            is_largest = sums[here] == largest[there]
            chosen[there] = np.where(is_largest, values[here], chosen[there])
        return chosen.reshape(-1, *rest)

    def largest(self, sums: np.ndarray) -> np.ndarray:
        """Return the largest sum of every window."""
        rest = sums.shape[1:]
        sums = sums.reshape(*self.image_shape, *rest)
        largest = np.full((*self.shape_out, *rest), -np.inf, sums.dtype)
        for there, here in self.places:
            np.maximum(largest[there], sums[here], out=largest[there])
        return largest.reshape(-1, *rest)

    def make_state(self, shape_in, shape_out, dt, dtype=None):
        """Return the sums of the inputs and of the outputs, all 0 at the start."""
        dtype = np.float64 if dtype is None else dtype
        state = {} if self.kind == "instant" else {"sums": np.zeros(shape_in, dtype)}
        return state | ({"sent": np.zeros(shape_out, dtype)} if self.kind == "running_max" else {})

    def make_step(self, shape_in, shape_out, dt, rng, state):
        """Return the step function, for arrays whose first axis is the inputs."""
        if self.kind == "instant":
            return lambda t, x: self.largest(x)
        sums, height = state["sums"], 1.0 if self.amplitude is None else self.amplitude / dt

        def add(x):
            counts = x / height
            if self.amplitude is not None:
                np.rint(counts, out=counts)
            np.add(sums, counts, out=sums)

        def step_winner(t, x):
            add(x)
            return self.of_largest(sums, x)

        def step_running_max(t, x):
            add(x)
            largest = self.largest(sums)
            change = largest - state["sent"]
            state["sent"][...] = largest
            change *= height
            return change

        return step_winner if self.kind == "winner" else step_running_max


@Builder.register(MaxPool)
def _build_max_pool(model, process, sig_in=None, sig_out=None, mode="set"):
    """Build the pool with the area of its input spikes in the present network."""
    if model.toplevel is not None:
        # The Node that is being built is the first of these that is not built yet.
        node = next(
            each
            for each in model.toplevel.all_nodes
            if each.output is process and each not in model.params
        )
        geometry = (process.image_shape, process.pool_size, process.strides, process.padding)
        area = Graph(model.toplevel).spike_area(node)
        process = type(process)(*geometry, process.kind, area)
    return build_process(model, process, sig_in, sig_out, mode)


class AveragePool(nengo.Sparse):
    """The matrix of an average pool: a ``nengo.Sparse`` that stores its pool and image shape."""

    has_weights = False

    def __init__(self, image_shape: tuple[int, ...], pool: Pool) -> None:
        self.image_shape = image_shape
        self.pool = pool
        geometry = (image_shape, *pool.geometry(image_shape))
        inputs = np.arange(math.prod(image_shape)).reshape(image_shape)
        shape_out = (*output_shape(*geometry), image_shape[-1])
        outputs = np.arange(math.prod(shape_out)).reshape(shape_out)
        pairs = [(outputs[there], inputs[here]) for there, here in places(*geometry)]
        indices = np.concatenate([np.reshape(pair, (2, -1)) for pair in pairs], axis=1).T
        shares = 1.0 / np.bincount(indices[:, 0])
        super().__init__((outputs.size, inputs.size), indices=indices, init=shares[indices[:, 0]])

    def __repr__(self) -> str:
        """Show the pool's settings, because the indices would fill the screen."""
        return f"{type(self).__name__}(image_shape={self.image_shape}, pool={self.pool})"
