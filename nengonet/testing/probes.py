"""Spike counts from the data of a Nengo probe."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nengonet.checks import as_number, as_numbers
from nengonet.exceptions import InputError
from nengonet.results.readout import spike_counts


def counts_from_probe(
    data: ArrayLike, dt: float, amplitude: float = 1.0, *, per_step: bool = False
) -> np.ndarray:
    """Count the spikes in the data of a Nengo probe; several in one step count as several.

    Parameters
    ----------
    data : (..., n_steps, n_neurons) array_like
        ``sim.data[probe]`` of ``nengo.Probe(ensemble.neurons, synapse=None)``.
    dt : float, in seconds
    amplitude : float
        Area of one spike: the neuron type's ``amplitude``.
    per_step : bool
        Return the spikes of every step (a raster) instead of their sum.

    Returns
    -------
    counts : (..., n_neurons) or (..., n_steps, n_neurons) ndarray of int64
        Positive spikes minus negative spikes.

    Raises
    ------
    InputError
        The values are not whole numbers of spikes: the amplitude is wrong, or the probe has a
        filter.

    Examples
    --------
    >>> nn.testing.counts_from_probe([[0.0, 1000.0], [3000.0, 1000.0]], dt=0.001)
    array([3, 2])
    """
    data = as_values("data", data)
    dt = as_number("dt", dt, "seconds", above=0)
    amplitude = as_number("amplitude", amplitude, "a spike's area", above=0)
    if data.ndim < 2:
        raise InputError(
            f"data: expected (..., n_steps, n_neurons), as a probe holds it, got {data.shape}"
        )
    spikes = data * (dt / amplitude)
    wrong = np.abs(spikes - np.rint(spikes)) > 1e-5 * np.maximum(1.0, np.abs(spikes))
    if np.any(wrong):
        step, neuron = np.argwhere(wrong)[0][-2:]
        raise InputError(
            f"data: expected whole numbers of spikes of height amplitude/dt = "
            f"{amplitude / dt:.6g}, got {data[wrong][0]:.6g}, which is {spikes[wrong][0]:.6g} "
            f"spikes, in step {step} of neuron {neuron}; {_why_not_whole(data, dt)}"
        )
    raster = spike_counts(data, dt, amplitude)
    return raster if per_step else raster.sum(axis=-2)


def _why_not_whole(data: np.ndarray, dt: float) -> str:
    if np.any(data < 0):
        return (
            "values below 0 are spikes of Tanh neurons, wrapped, or not spikes: is this a probe "
            "of the voltage or of decoded output?"
        )
    unit = data[data > 0].min()
    if np.allclose(data / unit, np.rint(data / unit), rtol=1e-5, atol=1e-5):
        return f"the values fit spikes of amplitude {unit * dt:.6g}: give that amplitude"
    if np.mean(data > 0) > 0.2:
        return (
            "most steps are not 0, as with a filtered probe or a rate neuron: "
            "probe ensemble.neurons with synapse=None"
        )
    return "check amplitude and dt"


def as_values(name: str, values: ArrayLike) -> np.ndarray:
    """Convert to at least one number."""
    array = as_numbers(name, values, "biuf")
    if array.size == 0:
        raise InputError(f"{name}: expected at least one value, got shape {array.shape}")
    return array
