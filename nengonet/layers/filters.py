"""Filters: how synapses and noise change mean and variance, and low-pass filters as a Node.

A Nengo synapse has one time constant, and a connection from neurons applies it to the weighted
sums, not to the neurons. In KerasSpiking's ``Lowpass`` layer, every unit has its own time constant.
Such filters need a place between the neurons and the weights: a Node that runs a Process.
"""

from __future__ import annotations

import dataclasses

import nengo
import numpy as np
import scipy.linalg
from nengo.dists import Choice, Distribution, Exponential, Gaussian, Uniform
from nengo.params import NdarrayParam
from nengo.processes import FilteredNoise, WhiteNoise
from nengo.synapses import LinearFilter, Synapse, Triangle

from nengonet.checks import as_numbers, described
from nengonet.exceptions import InputError
from nengonet.layers.protocol import Moments, known
from nengonet.layers.record import Layer, Layers, as_layers, new_label, node_layer
from nengonet.nengo_internals import state_space

# A filter with a pole this close to 1 never forgets its input.
_NEVER_FORGETS = 1e-9


@dataclasses.dataclass(frozen=True)
class Filter:
    """How a synapse changes a mean, and the variance of independent steps."""

    gain: float = 1.0
    power: float = 1.0
    delay: float = 0.0


def filter_of(synapse: Synapse | None, dt: float) -> Filter:
    """Return the filter of a synapse, as Nengo steps it."""
    if synapse is None:
        return Filter()
    own, steps = known(synapse, "filter"), type(synapse).make_step
    if own is not None:
        return own(dt)
    if steps is Triangle.make_step:
        taps = np.arange(int(np.round(synapse.t / dt)) + 1, 0, -1, dtype=np.float64)
        return Filter(1.0, float(((taps / taps.sum()) ** 2).sum()), synapse.t)
    if not isinstance(synapse, LinearFilter) or steps is not LinearFilter.make_step:
        raise InputError(f"cannot predict the synapse {synapse}")
    try:
        a, b, c, d = state_space(synapse, dt)
    except ValueError as error:
        raise InputError(f"Nengo cannot step the synapse {synapse} ({error})") from None
    if not len(a):
        return Filter(d.item(), d.item() ** 2)
    largest = np.abs(np.linalg.eigvals(a)).max()
    if largest > 1 - _NEVER_FORGETS:
        what = "integrates" if largest < 1 + _NEVER_FORGETS else "is unstable"
        raise InputError(f"cannot predict a synapse that {what} ({synapse})")
    gain = (c @ np.linalg.solve(np.eye(len(a)) - a, b) + d).item()
    power = (c @ scipy.linalg.solve_discrete_lyapunov(a, b @ b.T) @ c.T + d**2).item()
    return Filter(gain, power, _delay(synapse, dt))


def _delay(synapse: LinearFilter, dt: float) -> float:
    """Return the delay of a slow input; 0 for a filter whose output has mean 0."""
    num, den = np.poly1d(synapse.num), np.poly1d(synapse.den)
    at = 0.0 if synapse.analog else 1.0
    if num(at) == 0:
        return 0.0
    late = den.deriv()(at) / den(at) - num.deriv()(at) / num(at)
    return float(late if synapse.analog else dt * late)


def noise_of(process: nengo.Process, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of a step of the noise that an Ensemble adds to its currents."""
    if type(process).make_step not in (WhiteNoise.make_step, FilteredNoise.make_step):
        raise InputError(
            f"cannot predict the noise {process}; expected WhiteNoise or FilteredNoise"
        )
    mean, variance = _moments(process.dist)
    scale = 1.0 / dt if process.scale else 1.0
    after = filter_of(getattr(process, "synapse", None), dt)
    return after.gain * np.sqrt(scale) * mean, after.power * scale * variance


def _moments(distribution: Distribution) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of the numbers that a distribution draws."""
    kind = type(distribution)
    if kind is Uniform and not distribution.integer:
        low, high = distribution.low, distribution.high
        return (low + high) / 2, (high - low) ** 2 / 12
    if kind is Gaussian:
        return distribution.mean, distribution.std**2
    if kind is Exponential and distribution.high == np.inf:
        return distribution.shift + distribution.scale, distribution.scale**2
    if kind is Choice:
        options = distribution.options.reshape(len(distribution.options), -1)
        mean = distribution.p @ options
        return mean, distribution.p @ (options - mean) ** 2
    raise InputError(
        f"cannot predict noise drawn from {distribution}; expected Gaussian, Uniform, "
        "Exponential or Choice"
    )


def lowpass(pre: Layers, tau: float | np.ndarray, *, label: str | None = None) -> Layer:
    """Add a low-pass filter for every unit of the layer before: one Node and one Connection.

    Parameters
    ----------
    pre : Layer or list of Layer
        The layer before. A list of layers of one shape stands for their sum.
    tau : float or (n_units,) array_like, in seconds
        0 passes the input on as it is.
    label : str, optional
        By default ``"lowpass"``, numbered if the network already has it.

    Returns
    -------
    Layer
        Of the shape of ``pre``. Its output is not spikes: its ``amplitude`` is None.

    Notes
    -----
    ``y += (1 - exp(-dt / tau)) * (x - y)``, from 0 on, is KerasSpiking's ``Lowpass``. Nengo's
    differs by one step: the output of ``nengo.Lowpass`` on a Connection includes inputs up to the
    step before, that of this Node inputs up to now.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     pixels = nn.constant_input((2,))
    ...     smooth = nn.lowpass(pixels, tau=[0.0, 0.01])
    >>> image = [[1.0, 1.0]]
    >>> result = nn.present(smooth.network, smooth, image, presentation_time=0.01)
    >>> result.steps[0, -1].round(3)
    array([1.   , 0.632])
    """
    pres = as_layers(pre)
    label, first = new_label(label, "lowpass", pres), pres[0]
    taus = as_numbers(f"{label}: tau", tau)
    try:
        taus = np.broadcast_to(taus, (first.size,))
    except ValueError:
        raise InputError(
            f"{label}: tau: expected one number of seconds, or one for each of the {first.size} "
            f"units of {first.label}, got {described(tau)}"
        ) from None
    if np.any(taus < 0):
        raise InputError(f"{label}: tau: expected times of at least 0 s, got {taus.min():.4g}")
    return node_layer(pres, LowpassPerUnit(taus), shape=first.shape, label=label)


class LowpassPerUnit(nengo.Process):
    """Process that the Node of `lowpass` runs."""

    tau = NdarrayParam("tau", shape=("*",))
    batched = True

    def __init__(self, tau: np.ndarray) -> None:
        super().__init__(default_size_in=len(tau), default_size_out=len(tau))
        self.tau = tau

    def decay(self, dt: float) -> np.ndarray:
        """Return the share of every level that is left after a step."""
        decay = np.zeros(self.tau.shape)
        np.divide(-dt, self.tau, out=decay, where=self.tau > 0)
        return np.where(self.tau > 0, np.exp(decay), 0.0)

    def moments(self, mean: np.ndarray, variance: np.ndarray, dt: float) -> Moments:
        """Return mean and variance of the output, and its delay, for those of the input."""
        decay = self.decay(dt)
        return mean, variance * (1 - decay) / (1 + decay), float(self.tau.max())

    def make_state(self, shape_in, shape_out, dt, dtype=None):
        """Return the levels, 0 at the start."""
        return {"level": np.zeros(shape_out, np.float64 if dtype is None else dtype)}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        """Return the step function, for arrays whose first axis is the units."""
        level = state["level"]
        gained = 1.0 - self.decay(dt)
        gained = gained.reshape(-1, *[1] * (len(shape_in) - 1)).astype(level.dtype)

        def step_lowpass(t, x):
            level[...] += gained * (x - level)
            return level

        return step_lowpass
