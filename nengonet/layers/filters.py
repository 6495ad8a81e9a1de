"""Low-pass filters with a time constant for each unit, as one Node.

A Nengo synapse has one time constant, and a connection from neurons applies it to the weighted
sums, not to the neurons. Where every unit has its own, as in KerasSpiking's ``Lowpass`` layer, the
filters need a place of their own between the neurons and the weights: a Node that runs a Process.
"""

from __future__ import annotations

import nengo
import numpy as np
from nengo.params import NdarrayParam

from nengonet.checks import as_numbers, described
from nengonet.exceptions import InputError
from nengonet.layers.record import Layer, connect, new_label


def lowpass(pre: Layer, tau: float | np.ndarray, *, label: str | None = None) -> Layer:
    """Add a low-pass filter for every unit of the layer before: one Node and one Connection.

    Parameters
    ----------
    pre : Layer
    tau : float or (n_units,) array_like, in seconds
        0 passes the input on as it is.
    label : str, optional
        By default ``"lowpass"``, numbered where the network has it already.

    Returns
    -------
    Layer
        Of the shape of ``pre``. Its output is no spikes, so its ``amplitude`` is None.

    Raises
    ------
    InputError
        A time constant is no finite number from 0 on, or there is not one for each unit.

    Notes
    -----
    ``y += (1 - exp(-dt / tau)) * (x - y)``, from 0 on, is KerasSpiking's ``Lowpass``, and Nengo's
    but for one step: ``nengo.Lowpass`` on a Connection delivers what it has seen up to the step
    before, this Node what it has seen up to now.
    """
    label = new_label(label, "lowpass", pre)
    taus = as_numbers(f"{label}: tau", tau)
    try:
        taus = np.broadcast_to(taus, (pre.size,))
    except ValueError:
        raise InputError(
            f"{label}: tau: expected one number of seconds, or one for each of the {pre.size} "
            f"units of {pre.label}, got {described(tau)}"
        ) from None
    if np.any(taus < 0):
        raise InputError(f"{label}: tau: expected times from 0 s, got {taus.min():.4g}")
    node = nengo.Node(LowpassPerUnit(taus), size_in=pre.size, label=label)
    transform = nengo.transforms.NoTransform(pre.size)
    connect(pre, node, transform, None, label)
    return Layer(label=label, shape=pre.shape, node=node, pre=pre)


class LowpassPerUnit(nengo.Process):
    """What the Node of `lowpass` runs."""

    tau = NdarrayParam("tau", shape=("*",))

    def __init__(self, tau: np.ndarray) -> None:
        super().__init__(default_size_in=len(tau), default_size_out=len(tau))
        self.tau = tau

    def decay(self, dt: float) -> np.ndarray:
        """Return what is left of every level after a step."""
        decay = np.zeros(self.tau.shape)
        np.divide(-dt, self.tau, out=decay, where=self.tau > 0)
        return np.where(self.tau > 0, np.exp(decay), 0.0)

    def moments(
        self, mean: np.ndarray, variance: np.ndarray, dt: float
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Return mean and variance of the output, and its delay, for those of the input."""
        decay = self.decay(dt)
        return mean, variance * (1 - decay) / (1 + decay), float(self.tau.max())

    def make_state(self, shape_in, shape_out, dt, dtype=None):
        """Return the levels, 0 at the start."""
        return {"level": np.zeros(shape_out, np.float64 if dtype is None else dtype)}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        """Return the step function, for arrays of which the first axis is the units'."""
        level = state["level"]
        gained = 1.0 - self.decay(dt)
        gained = gained.reshape(-1, *[1] * (len(shape_in) - 1)).astype(level.dtype)

        def step_lowpass(t, x):
            level[...] += gained * (x - level)
            return level

        return step_lowpass
