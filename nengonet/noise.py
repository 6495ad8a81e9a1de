"""What noise in a current does to a rate, in NumPy, for neurons that rectify or clip.

A spike of height ``amplitude / dt`` makes the current jump from step to step. A neuron that
integrates its signed current follows the mean. ``SpikingRectifiedLinear`` integrates
``max(J, 0)`` and ``LIF`` holds its voltage above ``min_voltage``: both turn part of the jumps into
rate. Here the current of a step is taken as a Gaussian, independent of the other steps'.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import RegularGridInterpolator
from scipy.special import ndtr

# Voltages at which the LIF chain is solved, and the grid of means and standard deviations between
# which its rates are interpolated: within 10 Hz of simulated neurons for min_voltage down to -1.
_N_VOLTAGES = 60
_N_MEANS = 61
_N_DEVIATIONS = 16
_QUADRATURE = np.polynomial.hermite_e.hermegauss(15)


def rectified_mean(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Return the mean of ``max(J, 0)`` for a Gaussian current.

    Parameters
    ----------
    mean, deviation : ndarray
        Of the current, from step to step.

    Returns
    -------
    rectified : ndarray
        At least ``max(mean, 0)``.
    """
    mean, deviation = np.broadcast_arrays(mean, deviation)
    noisy = deviation > 0
    z = mean[noisy] / deviation[noisy]
    rectified = np.maximum(mean, 0.0)
    rectified[noisy] = mean[noisy] * ndtr(z) + deviation[noisy] * _density(z)
    return rectified


def averaged(rates, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Return the mean over a Gaussian current of a rate that follows it step by step.

    Parameters
    ----------
    rates : callable
        From currents (n_samples, n_neurons) to rates.
    mean, deviation : (n_samples, n_neurons) ndarray

    Returns
    -------
    rates : (n_samples, n_neurons) ndarray
    """
    nodes, weights = _QUADRATURE
    total = sum(w * rates(mean + x * deviation) for x, w in zip(nodes, weights, strict=True))
    return total / weights.sum()


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

    Parameters
    ----------
    mean, deviation : ndarray
        Of the current, from step to step; 1 is the threshold.
    dt, tau_rc, tau_ref : float, in seconds
    min_voltage : float, at most 0

    Returns
    -------
    rates : ndarray, in Hz
        With no deviation, those of Nengo's ``LIFRate``.

    Notes
    -----
    Without clipping (``min_voltage=-inf``) and with deviations far above the threshold, the grid
    of voltages is coarse, and rates come out up to a fifth too low.
    """
    mean, deviation = np.broadcast_arrays(mean, deviation)
    rates = _lif_rates(mean, tau_rc, tau_ref)
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


def noisy_integrator_rates(
    mean: np.ndarray, deviation: np.ndarray, *, dt: float = 0.001, min_voltage: float = 0.0
) -> np.ndarray:
    """Return the rates of `IntegrateAndFire` neurons whose voltage is held above a minimum.

    The mean time in which a diffusing voltage with drift first gains 1, reflected at
    ``min_voltage``.

    Parameters
    ----------
    mean, deviation : ndarray, in Hz
        Of the current, from step to step.
    dt : float, in seconds
    min_voltage : float, at most 0
        ``-inf`` gives ``max(mean, 0)``.

    Returns
    -------
    rates : ndarray, in Hz

    References
    ----------
    D. Siegmund (1985), "Sequential Analysis", Springer: the correction for a voltage that moves in
    jumps.
    """
    mean, deviation = np.broadcast_arrays(mean, deviation)
    rates = np.maximum(mean, 0.0)
    noisy = deviation > 0
    if min_voltage == -np.inf or not noisy.any():
        return rates
    diffusion = deviation[noisy] ** 2 * dt / 2
    # A voltage that jumps is reflected 0.58 of a jump below the minimum, on average, and starts as
    # far above 0, because it passed the threshold by as much (Siegmund 1985).
    depth = 2 * 0.5826 * deviation[noisy] * dt - min_voltage
    # Without drift the formula is 0 / 0; this little changes nothing.
    least = 1e-3 * diffusion / (1 + depth)
    drift = np.where(np.abs(mean[noisy]) < least, least, mean[noisy])
    climb = np.minimum(-drift / diffusion * (1 + depth), 500.0)  # beyond it, no spike in a lifetime
    start = np.minimum(-drift / diffusion * depth, 499.0)
    rates[noisy] = 1 / (1 / drift + diffusion / drift**2 * (np.exp(climb) - np.exp(start)))
    return rates


def _density(z: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)


def _lif_rates(current: np.ndarray, tau_rc: float, tau_ref: float) -> np.ndarray:
    rates = np.zeros(current.shape)
    above = current > 1
    rates[above] = 1 / (tau_ref + tau_rc * np.log1p(1 / (current[above] - 1)))
    return rates


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
    crossing = after + pull * deviation * _density(z) / np.maximum(1 - stays, 1e-300)
    current = voltages + (np.maximum(crossing, 1 + 1e-12) - voltages) / pull
    time = -tau_rc / dt * np.log1p(-(1 - voltages) / (current - voltages))
    duration = stays + (1 - stays) * np.clip(time, 0, 1)
    identity = np.eye(_N_VOLTAGES)
    # A mean far below threshold makes the chain all but closed: no spike within a day.
    steps = np.linalg.solve(identity - (1 - 1e-11) * moves, duration[..., None])[..., 0]
    start = np.array([np.interp(0.0, *pair) for pair in zip(voltages, steps, strict=True)])
    return 1 / (tau_ref + dt * np.maximum(start, 0))
