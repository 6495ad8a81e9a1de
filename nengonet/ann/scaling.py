"""Scaling in NumPy: weights by data, so that activations are near 1, and firing rates by a factor.

Both depend on one fact: a ReLU network is positively homogeneous. If a layer is multiplied by ``s``
and the next layer's kernel divided by ``s``, the output stays the same. Pools pass the factor on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from nengonet.ann.activations import activations, by_name, full_scale, last_weights, sources
from nengonet.ann.kinds import given_activation
from nengonet.ann.unweighted import Merge, Unweighted, named
from nengonet.checks import as_number, as_numbers
from nengonet.exceptions import InputError
from nengonet.tables import table
from nengonet.weights import LayerWeights


def scale_firing_rates(
    gain: ArrayLike, bias: ArrayLike, amplitude: ArrayLike, scale: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make neurons fire faster without changing their mean output.

    The current is multiplied by ``scale`` and every spike divided by it, as ``scale_firing_rates``
    of NengoDL's ``Converter`` does.

    Parameters
    ----------
    gain : float or (n_neurons,) array_like, above 0
        Current per unit of drive.
    bias : float or (n_neurons,) array_like
        Current without any drive, including Keras' bias times the gain.
    amplitude : float or (n_neurons,) array_like, above 0
        Area of one spike. A Nengo neuron type takes one number for all its neurons.
    scale : float or (n_neurons,) array_like, above 0

    Returns
    -------
    gain, bias, amplitude : float or (n_neurons,) ndarray
        ``gain * scale``, ``bias * scale`` and ``amplitude / scale``.

    Notes
    -----
    For ReLU neurons (``SpikingRectifiedLinear``, ``IntegrateAndFire``) the rate is ``max(0, J)``.
    It becomes ``scale`` times as high, and the mean output stays the same, with more and smaller
    spikes. The output is less grainy, and a short presentation suffices.

    For ``LIF`` the output changes. Its rate, ``1 / (tau_ref + tau_rc * log(1 + 1 / (J - 1)))``, is
    not proportional to ``J``. The threshold ``J = 1`` is crossed at a smaller drive, so with the
    usual ``intercepts=0``, where the bias is 1, a neuron fires without any drive. At the other end
    the output saturates at ``amplitude / (scale * tau_ref)``. To make LIF neurons fire faster,
    choose higher ``max_rates`` and a smaller ``amplitude``; the tuning then keeps the intercepts.

    Examples
    --------
    >>> gain, bias, amplitude = nn.scale_firing_rates(2.0, 1.0, 0.5, scale=10.0)
    >>> print(gain, bias, amplitude)
    20.0 10.0 0.05
    """
    values = {"gain": gain, "bias": bias, "amplitude": amplitude, "scale": scale}
    arrays = {name: as_numbers(name, value) for name, value in values.items()}
    for name in ("gain", "amplitude", "scale"):
        if not np.all(arrays[name] > 0):
            raise InputError(f"{name}: expected values above 0, got {arrays[name].min():.4g}")
    try:
        np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise InputError(
            f"expected one number, or one for each neuron and equally many of each, got {found}"
        ) from None
    gain, bias, amplitude, scale = arrays.values()
    # Indexing by () turns an array without dimensions into a number and leaves others alone.
    return (gain * scale)[()], (bias * scale)[()], (amplitude / scale)[()]


@dataclasses.dataclass(frozen=True)
class LayerScale:
    """The changes that `balance` made to one layer.

    Parameters
    ----------
    name : str
    scale : float
        The former activation that is now 1.
    kernel_factor, bias_factor : float
        Factors that multiplied kernel and bias.

    Examples
    --------
    >>> layer = nn.LayerWeights(4 * np.eye(2), name="hidden")
    >>> nn.balance([layer], [[0.5, 1.0]], percentile="max").changes[0]
    LayerScale(name='hidden', scale=4.0, kernel_factor=0.25, bias_factor=0.25)
    """

    name: str
    scale: float
    kernel_factor: float
    bias_factor: float


@dataclasses.dataclass(frozen=True)
class Balanced:
    """Balanced layers, and the changes to them: see `balance`.

    Parameters
    ----------
    layers : list of LayerWeights, Pool, Padding and Merge
        The layers in the given order; those without weights are the same objects as before.
    changes : tuple of LayerScale
        The changes to every layer with weights, in order.
    percentile : float
        The percentile that was used; 100 for the maximum.

    Examples
    --------
    >>> layer = nn.LayerWeights(4 * np.eye(2), name="hidden")
    >>> balanced = nn.balance([layer], [[0.5, 1.0]], percentile="max")
    >>> balanced.layers[0].kernel.tolist(), balanced.output_scale
    ([[1.0, 0.0], [0.0, 1.0]], 4.0)
    """

    layers: list[LayerWeights | Unweighted]
    changes: tuple[LayerScale, ...]
    percentile: float

    def __repr__(self) -> str:
        """Show sizes; `str` returns the changes."""
        n = f"{len(self.layers)} layers, {len(self.changes)} with weights"
        return f"<Balanced {n}, percentile {self.percentile:g}: output x {self.output_scale:.4g}>"

    @property
    def output_scale(self) -> float:
        """Factor from the balanced network's output to the output before."""
        return self.changes[-1].scale

    def to_json(self) -> dict:
        """Return the changes as types that JSON knows, without the weights."""
        return {
            "percentile": self.percentile,
            "output_scale": self.output_scale,
            "layers": [dataclasses.asdict(change) for change in self.changes],
        }

    def __str__(self) -> str:
        """Return the changes as a table."""
        what = "maximum" if self.percentile == 100 else f"{self.percentile:g} % percentile"
        titles = {"name": "layer", "scale": "was"}
        titles |= {"kernel_factor": "kernel x", "bias_factor": "bias x"}
        columns = {name: (title, "" if name == "name" else ".4g") for name, title in titles.items()}
        return "\n".join(
            [
                f"activations balanced: their {what} is 1 now",
                *table(self.to_json()["layers"], columns),
                f"output x {self.output_scale:.4g} is the output before",
            ]
        )


def balance(
    layers: Iterable[LayerWeights | Unweighted],
    images: ArrayLike,
    *,
    percentile: float | str | None = 99.9,
) -> Balanced:
    """Scale weights and biases so that the largest activations of every layer are 1.

    One gain and one amplitude then suit all layers: with a gain of 100, the neurons of each layer
    fire at up to about 100 Hz.

    Parameters
    ----------
    layers : iterable of LayerWeights, Pool, Padding and Merge
        As for `nengonet.ann.activations.activations`. Fold a BatchNormalization first.
    images : (n_images, ...) array_like
        Some hundred training images; they are not scaled.
    percentile : float, 'max' or None
        The percentile of a layer's activations, over all units and images, that becomes 1. ``None``
        and ``'max'`` take the largest (Diehl et al. 2015); one outlier then slows the whole layer.

    Returns
    -------
    Balanced
        ``layers`` holds the new layers; ``print`` shows the changes.

    Raises
    ------
    InputError
        The percentile is not above 0 and at most 100, a layer has no activation above 0, or the
        layers cannot be computed.

    Notes
    -----
    Let ``scale`` be the percentile of a layer and ``before`` that of the weight layer before it (1
    for the images). The kernel is multiplied by ``before / scale`` and the bias by ``1 / scale``,
    so each activation is its old value divided by ``scale``. Pools pass this on unchanged. If the
    percentile is 0, as in a layer that is almost always silent, the maximum is used instead.

    Branches that a Merge joins get one common scale, as a sum of values on different scales would
    be wrong. It is the largest scale of their layers with neurons and of the merges themselves. A
    shortcut from the images keeps it at 1.

    The last layer is linear, so it is scaled by the percentile of the absolute values of its
    logits. The argmax stays the same. A softmax changes: compute it from
    ``output * Balanced.output_scale``.

    References
    ----------
    P. U. Diehl et al. (2015), "Fast-classifying, high-accuracy spiking deep networks through
    weight and threshold balancing", IJCNN. For the percentile: see `nengonet.max_pool2d`.

    Examples
    --------
    >>> weights = nn.load_weights(nn.pretrained("mnist_dense"))
    >>> images, _ = nn.datasets.load("mnist", split="train", n_images=100)
    >>> balanced = nn.balance([weights["hidden"], weights["output"]], images)
    >>> print(balanced)
    activations balanced: their 99.9 % percentile is 1 now
    layer     was  kernel x  bias x
    hidden  7.342    0.1362  0.1362
    output  31.35    0.2342  0.0319
    output x 31.35 is the output before
    """
    if percentile in (None, "max"):
        percentile = 100.0
    limits = {"above": 0, "at_most": 100}
    percentile = as_number("percentile", percentile, "a number or 'max'", **limits)
    layers = by_name(layers)
    last = last_weights(layers)
    if last is None:
        raise InputError("layers: expected at least one layer with weights, got none")
    linear = {last}
    for name, layer in layers.items():
        given = (
            None if isinstance(layer, Unweighted) else given_activation(layer, last=name == last)
        )
        if given not in (None, "relu", "linear"):
            raise InputError(
                f"{name}: expected the activation relu or linear, which pass a factor on, got "
                f"{given}"
            )
        linear |= {name} if given == "linear" else set()
    found = activations(layers.values(), images)
    heads, scales = _on_one_scale(layers), {"images": 1.0}
    for head in heads.values():
        if head not in scales:
            # What has neurons, where a sum also has branches without.
            joined = [name for name in layers if heads[name] == head and _has_scale(layers[name])]
            neurons = [name for name in joined if name not in linear]
            scales[head] = max(
                _scale(name, np.abs(found[name]) if name == last else found[name], percentile)
                for name in neurons or joined
            )
    balanced, changes = [], []
    for name, (before, *_) in sources(layers).items():
        layer = layers[name]
        if not isinstance(layer, Unweighted):
            scale = scales[heads[name]]
            change = LayerScale(name, scale, scales[heads[before]] / scale, 1 / scale)
            layer = multiplied(layer, change.kernel_factor, change.bias_factor)
            changes.append(change)
        balanced.append(layer)
    return Balanced(balanced, tuple(changes), percentile)


def _scale(name: str, values: np.ndarray, percentile: float) -> float:
    """Return the activation of a layer that becomes 1."""
    with named(name):
        return full_scale(values, percentile)


def _has_scale(layer: LayerWeights | Unweighted) -> bool:
    """Return whether a layer has a scale of its own, other than that of its inputs."""
    return not isinstance(layer, Unweighted) or (isinstance(layer, Merge) and len(layer.of) > 1)


def _on_one_scale(layers: dict[str, LayerWeights | Unweighted]) -> dict[str, str]:
    """Return, for every layer, one layer that represents all layers with the same scale."""
    heads = {"images": "images"}
    for name, of in sources(layers).items():
        if not isinstance(layers[name], Unweighted):
            heads[name] = name
            continue
        joined = {heads[each] for each in of}
        head = "images" if "images" in joined else heads[of[0]]
        heads |= {each: head for each, other in heads.items() if other in joined}
        heads[name] = head
    return heads


def multiplied(layer: LayerWeights, kernel_factor: float, bias_factor: float) -> LayerWeights:
    """Return a layer with its kernel, and its bias if any, multiplied by a factor each."""
    bias = None if layer.bias is None else layer.bias * bias_factor
    return dataclasses.replace(layer, kernel=layer.kernel * kernel_factor, bias=bias)
