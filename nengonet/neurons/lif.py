"""Leaky integrate-and-fire neurons: their curve, and what noise makes of a clipped voltage."""

from __future__ import annotations

import nengo
import numpy as np
from scipy.interpolate import RegularGridInterpolator
from scipy.special import ndtr

from nengonet.neurons.model import CurveModel, density, register

# Voltages at which the LIF chain is solved, and the grid of means and standard deviations between
# which its rates are interpolated: within 10 Hz of simulated neurons for min_voltage down to -1.
_N_VOLTAGES = 60
_N_MEANS = 61
_N_DEVIATIONS = 16
# A step of this many tau_rc: exp(-30) is still far above the rounding of a double. In longer ones
# LIF.step (nengo/neurons.py) takes the logarithm of 0, or of what rounding makes a number below 0,
# and raises a FloatingPointError in some networks and not in others.
_MOST_LEAK = 30.0
# Spikes for which neurons in long steps are followed: rates are right to one step in all of these.
_MOST_CYCLES = 200


class LIFRateModel(CurveModel):
    """`LIFRate`, which puts out the rate of a LIF neuron under its current."""

    activation = "relu"
    _elementwise = True
    threshold = 1.0
    noise_effect = "bends its curve at the threshold"

    def curve_of_step(self, current: np.ndarray, dt: float) -> np.ndarray:
        """Return ``1 / (tau_ref + tau_rc * log(1 + 1 / (J - 1)))`` above the threshold."""
        return lif_curve(current, self.neuron_type.tau_rc, self.neuron_type.tau_ref)

    def line(self, current: np.ndarray) -> np.ndarray:
        """Return ``max(0, J - 1) / tau_rc``."""
        return np.maximum(current - 1, 0) / self.neuron_type.tau_rc

    def ceiling(self, dt: float) -> float:
        """Return ``1 / tau_ref``."""
        tau_ref = self.neuron_type.tau_ref
        return 1.0 / tau_ref if tau_ref > 0 else np.inf

    def tuning_advice(self) -> str:
        """Say where the ceiling is."""
        return f"max_rates below {self.ceiling(0.0):g} Hz, so that the gain is finite"


class LIFModel(LIFRateModel):
    """`LIF`, which spikes once a step at most and holds its voltage above ``min_voltage``."""

    noise_effect = "clips its voltage"
    _regular = True
    step_effect = "spikes once a step at most and loses what tau_ref leaves of it"

    @property
    def exact_step(self) -> float:
        """Steps up to ``tau_ref`` lose nothing."""
        return self.neuron_type.tau_ref

    @property
    def longest_step(self) -> float:
        """Where the voltage reaches its current up to rounding, and `LIF.step` fails."""
        return _MOST_LEAK * self.neuron_type.tau_rc

    def curve_of_step(self, current: np.ndarray, dt: float) -> np.ndarray:
        """Return the curve, less what is lost of steps that outlast ``tau_ref``."""
        return lif_curve(current, self.neuron_type.tau_rc, self.neuron_type.tau_ref, dt)

    def noise(
        self,
        current: np.ndarray,
        deviation: np.ndarray,
        dt: float,
        presentation_time: float | None = None,
    ) -> np.ndarray:
        """Return what a clipped voltage and a noisy crossing of the threshold add."""
        names = ("tau_rc", "tau_ref", "min_voltage")
        constants = {name: getattr(self.neuron_type, name) for name in names} | {"dt": dt}
        noisy = noisy_lif_rates(current, deviation, **constants)
        return noisy - noisy_lif_rates(current, np.zeros_like(deviation), **constants)

    def ceiling(self, dt: float) -> float:
        """Return one spike a step, or one in every ``tau_ref``."""
        return 1.0 / max(self.neuron_type.tau_ref, dt)


register(nengo.LIFRate, LIFRateModel)
register(nengo.LIF, LIFModel)


def noisy_lif_rates(
    mean: np.ndarray,
    deviation: np.ndarray,
    *,
    dt: float = 0.001,
    tau_rc: float = 0.02,
    tau_ref: float = 0.002,
    min_voltage: float = 0.0,
) -> np.ndarray:
    """Return the rates of ``nengo.LIF`` neurons under noisy currents.

    The voltage is a Markov chain: ``v + (J - v) * (1 - exp(-dt / tau_rc))``, held above
    ``min_voltage``, and a spike when it passes 1. Its mean time to a spike is solved on a grid of
    means and deviations, and interpolated between.

    Without clipping (``min_voltage=-inf``) and with deviations far above the threshold, the grid
    of voltages is coarse, and rates come out up to a fifth too low.
    """
    mean, deviation = np.broadcast_arrays(mean, deviation)
    rates = lif_curve(mean, tau_rc, tau_ref, dt)
    # Below this the voltage's jumps stay under 1 % of the threshold.
    noisy = deviation * -np.expm1(-dt / tau_rc) > 0.01
    if not noisy.any():
        return rates
    log_deviation = np.log(deviation[noisy])
    z = (mean[noisy] - 1.0) / deviation[noisy]
    low, high = log_deviation.min(), log_deviation.max()
    levels = np.linspace(low - 1e-6, high + 1e-6, _N_DEVIATIONS)
    # Means in units of the deviation, dense around the threshold.
    reach = np.arcsinh(20 * min(np.abs(z).max(), 30.0))
    positions = np.sinh(np.linspace(-reach, reach, _N_MEANS)) / 20
    table = np.empty((_N_DEVIATIONS, _N_MEANS))
    for row, level in zip(table, np.exp(levels), strict=True):
        row[:] = _chain_rates(1 + positions * level, level, dt, tau_rc, tau_ref, min_voltage)
    grid = RegularGridInterpolator((levels, np.arcsinh(20 * positions)), table)
    inside = np.clip(np.arcsinh(20 * z), -reach, reach)
    found = grid(np.column_stack([log_deviation, inside]))
    # Far above the threshold noise does nothing; far below it, nothing fires.
    beyond = np.abs(z) > positions[-1]
    rates[noisy] = np.where(beyond, rates[noisy], found)
    return rates


def lif_curve(current: np.ndarray, tau_rc: float, tau_ref: float, dt: float = 0.0) -> np.ndarray:
    """Return the rates of LIF neurons under a constant current, in Hz.

    `nengo.LIF.step` puts a spike at its time within a step, but a neuron whose refractory time is
    over before the step is waits for the next step. Steps up to ``tau_ref`` lose nothing.
    """
    rates = np.zeros(current.shape)
    above = current > 1
    climb = tau_rc * np.log1p(1 / (current[above] - 1))
    if dt <= tau_ref * (1 + 1e-9):
        rates[above] = 1 / (tau_ref + climb)
    else:
        rates[above] = _stepwise_rates(climb, tau_ref, dt)
    return rates


def _stepwise_rates(climb: np.ndarray, tau_ref: float, dt: float) -> np.ndarray:
    """Follow neurons from spike to spike, until their refractory time ends with a step again.

    ``climb`` is the time from voltage 0 to the threshold.
    """
    n_spikes, n_steps, begin = (np.zeros(climb.shape) for _ in range(3))
    open_ = np.arange(climb.size)
    for _ in range(_MOST_CYCLES):
        spike = begin[open_] + climb[open_]
        # A voltage of exactly 1 does not spike before the next step.
        steps = np.floor(spike / dt * (1 + 1e-12)) + 1
        n_spikes[open_] += 1
        n_steps[open_] += steps
        begin[open_] = np.maximum(spike - steps * dt + tau_ref, 0.0)
        open_ = open_[begin[open_] > 0]
        if open_.size == 0:
            break
    return n_spikes / (n_steps * dt)


def _chain_rates(means, deviation, dt, tau_rc, tau_ref, min_voltage):
    """Solve the mean time to a spike from voltage 0, for several means and one deviation."""
    pull = -np.expm1(-dt / tau_rc)
    # Four standard deviations below where the voltage would settle without a threshold.
    lowest = np.minimum(means, 0.0) - 4 * deviation * np.sqrt(pull / 2)
    lowest = np.minimum(np.maximum(lowest, min_voltage), -1e-9)
    edges = lowest[:, None] + (1.0 - lowest[:, None]) * np.linspace(0, 1, _N_VOLTAGES + 1)
    voltages = (edges[:, 1:] + edges[:, :-1]) / 2
    voltages[:, 0] = edges[:, 0]  # the voltages that were held at the minimum
    after = (1 - pull) * voltages + pull * means[:, None]
    below = ndtr((edges[:, None, :] - after[:, :, None]) / (pull * deviation))
    moves = np.diff(below, axis=-1)
    moves[..., 0] += below[..., 0]
    # A step that ends in a spike lasts until the crossing; the current that made it is taken at
    # its mean among those that do.
    stays = below[..., -1]
    z = (1 - after) / (pull * deviation)
    crossing = after + pull * deviation * density(z) / np.maximum(1 - stays, 1e-300)
    current = voltages + (np.maximum(crossing, 1 + 1e-12) - voltages) / pull
    time = -tau_rc / dt * np.log1p(-(1 - voltages) / (current - voltages))
    duration = stays + (1 - stays) * np.clip(time, 0, 1)
    identity = np.eye(_N_VOLTAGES)
    # A mean far below threshold makes the chain all but closed: no spike within a day.
    steps = np.linalg.solve(identity - (1 - 1e-11) * moves, duration[..., None])[..., 0]
    start = np.array([np.interp(0.0, *pair) for pair in zip(voltages, steps, strict=True)])
    # Spikes fall anywhere in a step; what tau_ref leaves of it is lost.
    lost = max(dt - tau_ref, 0.0) ** 2 / (2 * dt)
    return 1 / (tau_ref + lost + dt * np.maximum(start, 0))
