"""What several reproductions share: layers of a file, tunings of networks, what is kept of runs."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Sequence

import nengo
import numpy as np

from nengonet.exceptions import InputError
from nengonet.neurons import current_at
from nengonet.objects import Layer
from nengonet.rates import Pool, activations
from nengonet.readout import Accuracy
from nengonet.results import Result
from nengonet.scaling import scale_firing_rates
from nengonet.weights import LayerWeights, Weights

# Nengo's own default, stated: one voltage for each neuron, the same for all images.
INITIAL_STATE = {"voltage": nengo.dists.Uniform(0, 1)}
INITIAL_VOLTAGES = {
    "image": "drawn from [0, 1) for each neuron and image, as KerasSpiking does",
    "network": "drawn from [0, 1) for each neuron, once for all images, as Nengo does",
    "zero": "0 for every neuron",
}
# Images whose activations are held at once: those of one take half a megabyte in a CNN.
_CHUNK = 100


def listed(weights: Weights) -> str:
    """Return the layers of a file with kinds and shapes, for a message.

    Parameters
    ----------
    weights : Weights
    """
    return ", ".join(
        f"{name} {layer.kind} {np.shape(layer.kernel)}" for name, layer in weights.items()
    )


def matched(neuron_type: nengo.neurons.NeuronType, scale: float, rate: float) -> dict[str, float]:
    """Return the tuning with which an activation of ``scale`` fires at ``rate`` Hz.

    The mean output is then the activation, where the neuron's curve is a line.

    Parameters
    ----------
    neuron_type : NeuronType
    scale : float
        See `nengonet.rates.full_scale`.
    rate : float, in Hz

    Returns
    -------
    tuning : dict of float
        ``gain``, ``bias`` and ``amplitude``, as the builders take them.
    """
    return {
        "gain": current_at(neuron_type, rate) / scale,
        "bias": 0.0,
        "amplitude": scale / rate,
    }


def scaled_firing_rates(scale: float) -> dict[str, float]:
    """Return the tuning of NengoDL's Converter with ``scale_firing_rates``.

    Parameters
    ----------
    scale : float
        With 1, an activation of 1 fires at 1 Hz.

    Returns
    -------
    tuning : dict of float
        ``gain``, ``bias`` and ``amplitude``, as the builders take them.
    """
    gain, bias, amplitude = scale_firing_rates(1.0, 0.0, 1.0, scale)
    return {"gain": gain, "bias": bias, "amplitude": amplitude}


def tuning_of(output: Layer) -> dict[str, dict[str, float | None]]:
    """Return gain, bias and amplitude of every layer whose neurons have one gain.

    A bias is left out where every neuron has its own, as with Keras biases.

    Parameters
    ----------
    output : Layer
        The last layer.

    Returns
    -------
    tuning : dict of dict
        By label.
    """
    tuning = {}
    for layer in output.chain():
        if layer.ensemble is not None:
            bias = layer.ensemble.bias
            tuning[layer.label] = {
                "gain": float(layer.ensemble.gain[0]),
                **({"bias": float(bias[0])} if np.all(bias == bias[0]) else {}),
                "amplitude": layer.amplitude,
            }
    return tuning


def layers_of_shapes(
    weights: Weights, shapes: Sequence[tuple[int, ...]], what: str
) -> list[LayerWeights]:
    """Return the layers whose kernels have these shapes, in this order, whatever their names.

    Parameters
    ----------
    weights : Weights
    shapes : sequence of tuple of int
        All different.
    what : str
        Whose layers they are, for the message.

    Returns
    -------
    layers : list of LayerWeights

    Raises
    ------
    InputError
        The file's kernels have other shapes.
    """
    by_shape = {np.shape(layer.kernel): layer for layer in weights.values()}
    if len(by_shape) != len(weights) or set(by_shape) != set(shapes):
        expected = ", ".join(map(str, shapes))
        raise InputError(
            f"{weights.path}: expected {what} layers, with kernels of the shapes {expected}; "
            f"found {listed(weights)}"
        )
    return [by_shape[shape] for shape in shapes]


def logits_of(layers: Sequence[LayerWeights | Pool], images: np.ndarray) -> np.ndarray:
    """Compute the logits of the ANN, with the activations of few images in memory at once.

    Parameters
    ----------
    layers : sequence of LayerWeights and Pool
        See `nengonet.rates.activations`.
    images : (n_images, ...) array_like

    Returns
    -------
    logits : (n_images, n_classes) ndarray
    """
    return np.concatenate(
        [
            list(activations(layers, images[start : start + _CHUNK]).values())[-1]
            for start in range(0, len(images), _CHUNK)
        ]
    )


def settled(curve: np.ndarray, target: float, margin: float = 0.01) -> int | None:
    """Return the number of steps from which on a latency curve stays near an accuracy, or above.

    Parameters
    ----------
    curve : (n_steps,) array_like
        From `nengonet.Result.latency`.
    target : float
        The ANN's accuracy.
    margin : float

    Returns
    -------
    n_steps : int or None
        None where it does not.
    """
    # Differences of shares are not exact.
    below = np.flatnonzero(np.asarray(curve) < target - margin - 1e-9)
    steps = 1 if below.size == 0 else int(below[-1]) + 2
    return steps if steps <= len(curve) else None


def measured(result: Result, found: Accuracy) -> dict[str, float]:
    """Return what a sweep records of a run.

    Parameters
    ----------
    result : Result
    found : Accuracy

    Returns
    -------
    measured : dict of Accuracy and float
        ``accuracy``; ``ties``, a share of the images; ``spikes`` and ``operations``
        (synaptic), of all layers, per image.
    """
    return {
        "accuracy": found,
        "ties": found.ties / found.n_images,
        "spikes": sum(result.spikes_per_image().values()),
        "operations": sum(result.operations_per_image().values()),
    }


def files_of_runs(
    folder: str | os.PathLike | None, resume: bool = False
) -> Callable[[str], dict[str, object]]:
    """Give each of a study's runs a file in one folder.

    Parameters
    ----------
    folder : path_like or None
        Made if it is not there; None for no files.
    resume : bool
        Go on with the runs in the folder.

    Returns
    -------
    settings_of : callable
        From the name of a run to ``save`` and ``resume`` of `nengonet.present`.

    Raises
    ------
    InputError
        The folder cannot be made, or holds an earlier study that was not to be gone on with.
    """
    if folder is None:
        return lambda name: {}
    folder = pathlib.Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder, for one file a run; found a file")
    if not folder.parent.is_dir():
        raise InputError(f"{folder}: the folder {folder.parent} does not exist")
    if folder.exists() and any(folder.iterdir()) and not resume:
        raise InputError(f"{folder} holds files already: go on with them (resume), or empty it")
    folder.mkdir(exist_ok=True)
    # What is not there yet begins; `present` refuses the file of another run.
    return lambda name: {"save": folder / f"{name}.h5", "resume": True}
