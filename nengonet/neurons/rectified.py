"""Neurons whose rate is their current: ReLU rates, Nengo's spiking ReLU, and `IntegrateAndFire`.

They may spike several times in one step. `SpikingRectifiedLinear` integrates ``max(J, 0)``, which
turns part of a current's noise into rate; `IntegrateAndFire` follows the mean.
"""

from __future__ import annotations

import nengo
import numpy as np
from nengo.dists import Choice
from nengo.params import NumberParam
from scipy.special import ndtr

from nengonet.neurons.model import CurveModel, Kernel, density, register


class IntegrateAndFire(nengo.RectifiedLinear):
    """Integrate a signed current and subtract one for every spike.

    Nengo's ``SpikingRectifiedLinear`` integrates ``max(J, 0)``, and its ``LIF`` clips the voltage
    at 0. Both turn the noise of a current into a rate. This neuron keeps negative voltage, so its
    spike count follows the mean of its current, whatever the noise. Under a constant current
    ``J >= 0``, the count after a time ``T`` differs from ``J * T`` by at most half a spike. The
    neuron may spike several times in one step; each spike has the area ``amplitude``.

    Parameters
    ----------
    amplitude : float
        Area of one spike; the mean output is ``amplitude * rate``.
    min_voltage : float
        Lowest voltage, at most 0. The default ``-inf`` never clips; 0 brings back the error of the
        stock neurons.
    initial_state : {str: Distribution or array_like}
        Initial ``voltage``; the threshold is 1. By default every neuron starts at 0.5, which rounds
        a spike count to the nearest whole number instead of down.

    References
    ----------
    P. U. Diehl et al. (2015), "Fast-classifying, high-accuracy spiking deep networks through
    weight and threshold balancing", IJCNN.
    B. Rueckauer et al. (2017), "Conversion of continuous-valued deep networks to efficient
    event-driven networks for image classification", Frontiers in Neuroscience 11:682.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((2,))
    ...     layer = nn.activation(pixels, nn.IntegrateAndFire(amplitude=0.01), gain=100.0)
    >>> result = nn.present(net, layer, [[0.25, 1.0]], presentation_time=1.0)
    >>> result.counts["activation"].tolist(), result.mean_output("activation").tolist()
    ([[25, 100]], [[0.25, 1.0]])
    """

    state = {"voltage": Choice([0.5])}
    spiking = True

    min_voltage = NumberParam("min_voltage", high=0)

    def __init__(self, amplitude=1.0, min_voltage=-np.inf, initial_state=None) -> None:
        super().__init__(amplitude=amplitude, initial_state=initial_state)
        self.min_voltage = min_voltage

    rates = nengo.SpikingRectifiedLinear.rates

    def step(self, dt, J, output, voltage):
        """Integrate the current ``J`` for one step of ``dt`` seconds, in place.

        ``output`` is set to ``amplitude / dt`` times the number of spikes.
        """
        voltage += J * dt
        n_spikes = np.maximum(np.floor(voltage), 0.0)
        output[...] = (self.amplitude / dt) * n_spikes
        voltage -= n_spikes
        if self.min_voltage > -np.inf:
            np.maximum(voltage, self.min_voltage, out=voltage)


# --- the step in Numba: see `nengonet.neurons.model.Kernel`


def _usual(current, eventful, states, i, constants):
    """Step integrate-and-fire neurons, except those with spikes below 0 or above 254."""
    dt, least, lowest, min_voltage, most = constants
    voltage = states[0][i]
    # Without a branch, so that the compiler uses vector instructions.
    for k in range(current.shape[0]):
        drive = least if current[k] < least else current[k]
        v = voltage[k] + drive * dt
        usual = (v >= lowest) & (v < most)
        spikes = np.floor(v) if v > 0 else dt - dt
        left = v - spikes
        floored = min_voltage if left < min_voltage else left
        voltage[k] = floored if usual else v
        eventful[k] = np.uint8(spikes if usual else most)


def _simplify(current, states, i, constants):
    """Turn currents into the voltage they add per step, if that and the voltages are below 1."""
    dt, least, lowest = constants[:3]
    one, voltage = dt / dt, states[0][i]
    # From half of the lowest voltage, reaching it takes more such steps than a run can have.
    low, least_added = lowest / 2, lowest / 2**20
    n_simple = 0
    for k in range(current.shape[0]):
        added = (least if current[k] < least else current[k]) * dt
        is_level = (voltage[k] < one) & (voltage[k] >= low)
        n_simple += (added < one) & (added >= least_added) & is_level
    if n_simple < current.shape[0]:
        return False
    for k in range(current.shape[0]):
        current[k] = (least if current[k] < least else current[k]) * dt
    return True


def _simple(current, eventful, states, i, constants):
    """Step neurons that spike at most once: the floor of a voltage below 2 is 1 or 0."""
    dt, min_voltage = constants[0], constants[3]
    one, voltage = dt / dt, states[0][i]
    for k in range(current.shape[0]):
        v = voltage[k] + current[k]
        left = v - one if v >= one else v
        voltage[k] = min_voltage if left < min_voltage else left
        eventful[k] = np.uint8(1) if v >= one else np.uint8(0)


def _wake(current, eventful, states, i, n_steps, constants):
    """Mark neurons whose voltage may reach 1 in some steps, or is not within its usual limits."""
    dt, least, lowest = constants[:3]
    zero, one, voltage = dt - dt, dt / dt, states[0][i]
    number = voltage.dtype.type
    low, least_added, steps = lowest * number(0.5), lowest * number(2.0**-20), number(n_steps)
    # Each step rounds the voltage, by less than this share of what it can become.
    share = number(2.0**-22)
    for k in range(current.shape[0]):
        added = (least if current[k] < least else current[k]) * dt
        v = voltage[k]
        rise = added + (abs(v) + one) * share
        highest = (v if v > zero else zero) + (rise if rise > zero else zero) * steps
        sleeps = (highest < one) & (v >= low) & (added >= least_added)
        eventful[k] = np.uint8(0) if sleeps else np.uint8(1)


def _event(current, states, i, k, constants):
    min_voltage, voltage = constants[3], states[0]
    v = voltage[i, k]
    spikes = np.floor(v)
    v -= spikes
    voltage[i, k] = min_voltage if v < min_voltage else v
    return spikes, v - v == 0


def _most(states, i, k):
    return states[0][i, k]


def _kernel(constants):
    return Kernel(
        _usual, _event, _most, constants, ("voltage",), keeps_current=True, counts_spikes=True,
        simplify=_simplify, simple=_simple, wake=_wake,
    )  # fmt: skip


def _stock_constants(neurons, dt, dtype):
    # Nengo's rectifying neuron takes the floor of a negative initial voltage too.
    return tuple(map(dtype.type, (dt, 0.0, 0.0, -np.inf, 255)))


def _signed_constants(neurons, dt, dtype):
    numbers = dt, -np.inf, np.finfo(dtype).min, neurons.min_voltage, 255
    return tuple(map(dtype.type, numbers))


class RectifiedModel(CurveModel):
    """`RectifiedLinear`, which outputs the positive part of its current."""

    activation = "relu"
    elementwise = True
    threshold = 0.0
    noise_effect = "rectifies its current"

    def curve_of_step(self, current, dt):
        """Return ``max(J, 0)``."""
        return np.maximum(current, 0.0)

    def noise(self, current, deviation, dt, presentation_time=None):
        """Return the rate that the positive half of the noise adds."""
        return rectified_mean(current, deviation) - np.maximum(current, 0.0)


class RectifiedLinearModel(RectifiedModel):
    """Rate neurons; their step in two passes over the currents, without arrays in between."""

    def batched_step(self, dt, current, output, state, streams):
        """Return the step of the type, with the same result."""
        amplitude = self.amplitude

        def step():
            np.maximum(0.0, current, out=output)
            np.multiply(output, amplitude, out=output)

        return step


class SpikingRectifiedModel(RectifiedModel):
    """`SpikingRectifiedLinear`, which spikes regularly at ``max(J, 0)``."""

    kernel = _kernel(_stock_constants)
    _regular = True

    def _irregularity(self, rates, current, deviation, dt):
        """Return the variance of ``max(J, 0)``."""
        return self._moments(current, deviation, dt)[1]


class IntegrateAndFireModel(RectifiedModel):
    """`IntegrateAndFire`, in which noise has an effect only if the voltage is clipped."""

    noise_effect = "clips its voltage"
    kernel = _kernel(_signed_constants)
    _regular = True

    def noise(self, current, deviation, dt, presentation_time=None):
        """Return the rate that reflection at ``min_voltage`` adds."""
        lowest = self.neuron_type.min_voltage
        noisy = noisy_integrator_rates(current, deviation, dt=dt, min_voltage=lowest)
        return noisy - np.maximum(current, 0.0)


register(nengo.RectifiedLinear, RectifiedLinearModel)
register(nengo.SpikingRectifiedLinear, SpikingRectifiedModel)
register(IntegrateAndFire, IntegrateAndFireModel)


def rectified_mean(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Return the mean of ``max(J, 0)`` for a Gaussian current."""
    mean, deviation = np.broadcast_arrays(mean, deviation)
    noisy = deviation > 0
    z = mean[noisy] / deviation[noisy]
    rectified = np.maximum(mean, 0.0)
    rectified[noisy] = mean[noisy] * ndtr(z) + deviation[noisy] * density(z)
    return rectified


def noisy_integrator_rates(
    mean: np.ndarray, deviation: np.ndarray, *, dt: float = 0.001, min_voltage: float = 0.0
) -> np.ndarray:
    """Return the rates of `IntegrateAndFire` neurons whose voltage stays above a minimum.

    They follow from the mean time in which a diffusing voltage with drift first gains 1.
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
    # Without drift the formula is 0 / 0; a drift this small does not change the result.
    least = 1e-3 * diffusion / (1 + depth)
    drift = np.where(np.abs(mean[noisy]) < least, least, mean[noisy])
    climb = np.minimum(-drift / diffusion * (1 + depth), 500.0)  # beyond it, no spike in a lifetime
    start = np.minimum(-drift / diffusion * depth, 499.0)
    rates[noisy] = 1 / (1 / drift + diffusion / drift**2 * (np.exp(climb) - np.exp(start)))
    return rates
