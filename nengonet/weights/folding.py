"""Folding of a batch normalization into the layer before it."""

import dataclasses

import numpy as np

from nengonet.checks import described
from nengonet.exceptions import InputError
from nengonet.weights.records import BATCH_NORM, LINEAR, LayerWeights


def fold_batch_norm(layer: LayerWeights, batch_norm: LayerWeights) -> LayerWeights:
    """Fold a BatchNormalization into the linear layer before it.

    Parameters
    ----------
    layer : LayerWeights
        A Dense layer or convolution without an activation.
    batch_norm : LayerWeights
        The BatchNormalization after it, which computes
        ``gamma * (x - moving_mean) / sqrt(moving_variance + epsilon) + beta``.

    Returns
    -------
    LayerWeights
        `layer` with a kernel and a bias that do both steps at once, followed by the layers after
        `batch_norm`. Its config is that of `layer`.

    Examples
    --------
    >>> layer = nn.LayerWeights([[1.0, 2.0]], name="dense")
    >>> one, zero = np.ones(2), np.zeros(2)
    >>> moments = {"gamma": 3 * one, "beta": one, "moving_mean": zero, "moving_variance": one}
    >>> norm = nn.LayerWeights(kind="BatchNormalization", config={"epsilon": 0.0}, others=moments)
    >>> nn.fold_batch_norm(layer, norm).kernel.tolist()
    [[3.0, 6.0]]
    """
    for name, given in (("layer", layer), ("batch_norm", batch_norm)):
        if not isinstance(given, LayerWeights):
            raise InputError(f"{name}: expected LayerWeights, got {described(given)}")
    if problem := _problem(layer, batch_norm):
        raise InputError(problem)
    given = batch_norm.others | ({} if layer.bias is None else {"bias": layer.bias})
    given = {"gamma": np.ones(1), "beta": np.zeros(1), "bias": np.zeros(1)} | given
    names = ("moving_mean", "moving_variance", "gamma", "beta", "bias")
    mean, variance, gamma, beta, bias = (given[name].astype(np.float64) for name in names)
    scale = gamma / np.sqrt(variance + batch_norm.epsilon)
    # A depthwise kernel spreads its outputs over two axes: input channel, then multiplier.
    axes = layer.shape[-2:] if layer.kind.startswith("Depthwise") else layer.shape[-1:]
    return dataclasses.replace(
        layer,
        kernel=(layer.kernel * scale.reshape(axes)).astype(layer.kernel.dtype),
        bias=((bias - mean) * scale + beta).astype(layer.kernel.dtype),
        config=layer.config | ({"use_bias": True} if layer.config else {}),
        activation=batch_norm.activation,
        followed_by=batch_norm.followed_by,
    )


def _problem(layer: LayerWeights, batch_norm: LayerWeights) -> str:
    """Return why the two cannot be folded, or an empty text."""
    norm, names = batch_norm.name, f"{layer.name} and {batch_norm.name}"
    axis = [int(n) for n in np.ravel(batch_norm.config.get("axis", -1))]
    if layer.kind not in LINEAR:
        return f"{layer.name}: expected {', '.join(LINEAR)} to fold into, got {layer.kind}"
    if batch_norm.kind != BATCH_NORM:
        return f"{norm}: expected a {BATCH_NORM} to fold, got {batch_norm.kind}"
    if not {"moving_mean", "moving_variance"} <= set(batch_norm.others):
        return (
            f"{norm}: expected moving_mean and moving_variance, got the arrays "
            f"{', '.join(batch_norm.others) or 'none'}; scale=False and center=False look alike in "
            "a weights-only file: load the full model, or name the arrays in "
            "LayerWeights(kind='BatchNormalization', others={...})"
        )
    if layer.activation not in (None, "linear"):
        return f"{names}: expected a linear layer, got the activation {layer.activation!r} between"
    if layer.followed_by not in (None, (norm,)):
        found = " and ".join(layer.followed_by)
        return f"{names}: expected one after the other, got {found} after {layer.name}"
    if axis not in ([-1], [layer.kernel.ndim - 1]):
        return f"{norm}: expected the channels on the last axis, got axis {axis}"
    n_channels = batch_norm.moving_mean.size
    if n_channels != layer.n_outputs:
        return f"{names}: expected {layer.n_outputs} channels, one per output, got {n_channels}"
    lowest = float((batch_norm.moving_variance.astype(float) + batch_norm.epsilon).min())
    if lowest <= 0:
        return f"{norm}: expected moving_variance + epsilon above 0, got {lowest:.4g}"
    return ""
