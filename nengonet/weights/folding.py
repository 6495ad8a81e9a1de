"""Batch normalization, folded into the layer before it."""

import dataclasses

import numpy as np

from nengonet.checks import described
from nengonet.exceptions import InputError
from nengonet.weights.records import BATCH_NORM, LayerWeights


def fold_batch_norm(layer: LayerWeights, batch_norm: LayerWeights) -> LayerWeights:
    """Fold a BatchNormalization into the linear layer before it.

    Parameters
    ----------
    layer : LayerWeights
        Dense, Conv2D or DepthwiseConv2D, with no activation of its own.
    batch_norm : LayerWeights
        The BatchNormalization that follows it.

    Returns
    -------
    LayerWeights
        `layer` with a kernel and a bias that do both steps at once, followed by what follows
        `batch_norm`. What the file says of `layer` stays in its config.

    Raises
    ------
    InputError
        If a non-linear activation or another layer stands between the two, the number of channels
        differs, or arrays are missing.

    Notes
    -----
    ``gamma * (x - moving_mean) / sqrt(moving_variance + epsilon) + beta``, in float64. Epsilon is
    the file's, else Keras' default 1e-3.
    """
    mean, variance = _check_fold(layer, batch_norm)
    gamma = 1.0 if batch_norm.gamma is None else batch_norm.gamma.astype(np.float64)
    beta = 0.0 if batch_norm.beta is None else batch_norm.beta.astype(np.float64)
    bias = 0.0 if layer.bias is None else layer.bias.astype(np.float64)
    scale = gamma / np.sqrt(variance + batch_norm.epsilon)
    # A depthwise kernel spreads its outputs over two axes: input channel, then multiplier.
    axes = layer.shape[-2:] if layer.kind == "DepthwiseConv2D" else layer.shape[-1:]
    return dataclasses.replace(
        layer,
        kernel=(layer.kernel * scale.reshape(axes)).astype(layer.kernel.dtype),
        bias=((bias - mean) * scale + beta).astype(layer.kernel.dtype),
        config=layer.config | ({"use_bias": True} if layer.config else {}),
        activation=batch_norm.activation,
        followed_by=batch_norm.followed_by,
    )


def _check_fold(layer, batch_norm) -> tuple[np.ndarray, np.ndarray]:
    for name, given in (("layer", layer), ("batch_norm", batch_norm)):
        if not isinstance(given, LayerWeights):
            raise InputError(f"{name}: expected LayerWeights, got {described(given)}")
    names = f"{layer.name} and {batch_norm.name}"
    if layer.kind not in ("Dense", "Conv2D", "DepthwiseConv2D"):
        raise InputError(
            f"{layer.name}: expected Dense, Conv2D or DepthwiseConv2D to fold into "
            f"(got {layer.kind})"
        )
    if batch_norm.kind != BATCH_NORM:
        raise InputError(
            f"{batch_norm.name}: expected a {BATCH_NORM} to fold (got {batch_norm.kind})"
        )
    missing = [n for n in ("moving_mean", "moving_variance") if n not in batch_norm.others]
    if missing:
        raise InputError(
            f"{batch_norm.name}: {' and '.join(missing)} not known among the arrays "
            f"{', '.join(batch_norm.others) or 'none'}: weights alone do not tell scale=False from "
            "center=False; load the full model, or name the arrays in "
            "LayerWeights(kind='BatchNormalization', others={...})"
        )
    if layer.activation not in (None, "linear"):
        raise InputError(
            f"activation {layer.activation!r} of {layer.name} stands between {names}; only a "
            "linear layer folds"
        )
    if layer.followed_by is not None and layer.followed_by != (batch_norm.name,):
        raise InputError(
            f"{names} do not follow each other: the file has {' and '.join(layer.followed_by)} "
            f"after {layer.name}"
        )
    axis = [int(n) for n in np.ravel(batch_norm.config.get("axis", -1))]
    if axis not in ([-1], [layer.kernel.ndim - 1]):
        raise InputError(
            f"{batch_norm.name}: expected to normalise the channels, the last axis (got axis "
            f"{axis[0] if len(axis) == 1 else axis})"
        )
    mean, variance = (
        batch_norm.others[name].astype(np.float64) for name in ("moving_mean", "moving_variance")
    )
    if mean.shape != (layer.n_outputs,):
        raise InputError(
            f"{names}: {batch_norm.name} normalises {mean.size} channels, but {layer.name} has "
            f"{layer.n_outputs} outputs"
        )
    lowest = float((variance + batch_norm.epsilon).min())
    if lowest <= 0:
        raise InputError(
            f"{batch_norm.name}: expected moving_variance + epsilon above 0, found {lowest:.4g}"
        )
    return mean, variance
