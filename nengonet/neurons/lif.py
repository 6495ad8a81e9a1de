"""Leaky integrate-and-fire neurons, with and without adaptation: curve, noise and steps."""

from __future__ import annotations

import functools

import nengo
import numpy as np
import scipy
from scipy.special import ndtr

from nengonet.neurons.elementary import expm1_of, log1p_of, set_expm1, set_log1p
from nengonet.neurons.model import CurveModel, Kernel, NeuronModel, density, register
from nengonet.neurons.stepped import SteppedModel

# Voltages at which the Markov chain of a noisy voltage is solved, and the grid of means and
# deviations between which its rates are interpolated. Rates are within 10 Hz of simulated neurons
# for min_voltage down to -1. The grid does not depend on the currents, so one solution serves for
# every other gain. Logarithms of deviations are multiples of `_APART`. Where they reach further
# than `_N_DEVIATIONS` of these, they are multiples of 2, 4, ... times `_APART`.
_N_VOLTAGES, _N_MEANS, _N_DEVIATIONS, _APART = 60, 81, 20, 0.15
# Means in units of the deviation, dense around the threshold.
_MOST = 30.0
_MEANS = np.linspace(-np.arcsinh(20 * _MOST), np.arcsinh(20 * _MOST), _N_MEANS)
# The longest step, in tau_rc: exp(-30) is still far above the rounding of a double. In longer
# steps, LIF.step (nengo/neurons.py) takes the logarithm of 0, or of a number that rounding makes
# negative. It then raises a FloatingPointError in some networks and not in others.
_MOST_LEAK = 30.0
# Number of spikes for which neurons in long steps are followed; rates are exact to one step in all.
_MOST_CYCLES = 200


# --- the step in Numba: see `nengonet.neurons.model.Kernel`


def _usual(current, eventful, states, i, constants):
    """Step neurons that neither spike nor leave their refractory time."""
    dt, _, _, min_voltage, decay = constants[:5]
    zero, one = dt - dt, dt / dt
    voltage, refractory = states[0][i], states[1][i]
    # Without a branch, so that the compiler uses vector instructions.
    for k in range(current.shape[0]):
        left = refractory[k] - dt
        refractory[k] = left
        old = voltage[k]
        new = old - (current[k] - old) * decay
        new = new if left <= zero else old
        usual = (left <= zero) | (left >= dt)
        floored = min_voltage if new < min_voltage else new
        voltage[k] = floored if usual else old
        below = np.uint8(0) if new <= one else np.uint8(1)
        eventful[k] = below if usual else np.uint8(2)


def _wake(current, eventful, states, i, n_steps, constants):
    """Mark neurons whose voltage may pass 1: it stays between what it was and the current."""
    dt, voltage = constants[0], states[0][i]
    zero, one = dt - dt, dt / dt
    # Rounding is far below this share of a voltage.
    share = voltage.dtype.type(2.0**-18)
    for k in range(current.shape[0]):
        v, drive = voltage[k], current[k]
        above = v if v > drive else drive
        # An infinite current makes the voltage NaN.
        sleeps = (above + (abs(v) + one) * share < one) & (drive - drive == zero)
        eventful[k] = np.uint8(0) if sleeps else np.uint8(1)


def _event(current, states, i, k, constants):
    dt, tau_rc, tau_ref, min_voltage = constants[:4]
    zero, one = dt - dt, dt / dt
    voltage, refractory, drive = states[0], states[1], current[k]
    left, new = refractory[i, k], voltage[i, k]
    if left > zero and left < dt:
        new = new - (drive - new) * expm1_of((left - dt) / tau_rc, voltage.itemsize)
        voltage[i, k] = min_voltage if new < min_voltage else new
    if new > one:
        late = log1p_of(-(new - one) / (drive - one), voltage.itemsize)
        t_spike = dt + tau_rc * late
        voltage[i, k] = zero
        refractory[i, k] = tau_ref + t_spike
        return 1, t_spike == t_spike
    return 0, new == new


def _resume(current, states, i, which, n, eventful, memory, constants):
    """Step neurons that leave their refractory time within the step."""
    dt, tau_rc, _, min_voltage = constants[:4]
    zero, one = dt - dt, dt / dt
    voltage, refractory = states[0][i], states[1][i]
    # Which of them spike is unpredictable, so there is no branch.
    for event in range(n):
        memory[event] = (refractory[which[event]] - dt) / tau_rc
    set_expm1(memory, n)
    for event in range(n):
        k = which[event]
        old = voltage[k]
        new = old - (current[k] - old) * memory[event]
        # A time that is NaN does not count as over.
        new = new if refractory[k] > zero else old
        voltage[k] = min_voltage if new < min_voltage else new
        eventful[k] = np.uint8(0) if new <= one else np.uint8(1)


def _spike(current, states, i, which, n, memory, constants):
    """Let neurons spike."""
    dt, tau_rc, tau_ref = constants[:3]
    zero, one = dt - dt, dt / dt
    voltage, refractory = states[0][i], states[1][i]
    for event in range(n):
        k = which[event]
        memory[event] = -(voltage[k] - one) / (current[k] - one)
        voltage[k] = zero
    set_log1p(memory, n)
    n_numbers = 0
    for event in range(n):
        t_spike = dt + tau_rc * memory[event]
        refractory[which[event]] = tau_ref + t_spike
        n_numbers += t_spike == t_spike
    return n_numbers == n


def _most(states, i, k):
    return 1


def _constants(neurons, dt, dtype):
    # Divided in this precision, as in the reference's step.
    decay = np.expm1(-np.full(1, dt, dtype) / neurons.tau_rc)[0]
    numbers = (dt, neurons.tau_rc, neurons.tau_ref, neurons.min_voltage)
    return (*map(dtype.type, numbers), decay)


def _adaptive_usual(current, eventful, states, i, constants):
    adaptation, rate = states[2][i], constants[5]
    for k in range(current.shape[0]):
        current[k] -= adaptation[k]
    _usual(current, eventful, states, i, constants)
    for k in range(current.shape[0]):
        old = adaptation[k]
        adaptation[k] = old if eventful[k] else old - rate * old


def _adaptive_event(current, states, i, k, constants):
    rate, increment, adaptation = constants[5], constants[6], states[2]
    spikes, is_number = _event(current, states, i, k, constants)
    taken = increment if spikes else increment - increment
    adaptation[i, k] += rate * (taken - adaptation[i, k])
    return spikes, is_number


def _adaptive_resume(current, states, i, which, n, eventful, memory, constants):
    rate, adaptation = constants[5], states[2][i]
    _resume(current, states, i, which, n, eventful, memory, constants)
    for event in range(n):
        k = which[event]
        old = adaptation[k]
        adaptation[k] = old if eventful[k] else old - rate * old


def _adaptive_spike(current, states, i, which, n, memory, constants):
    rate, increment, adaptation = constants[5], constants[6], states[2][i]
    for event in range(n):
        k = which[event]
        adaptation[k] += rate * (increment - adaptation[k])
    return _spike(current, states, i, which, n, memory, constants)


def _adaptive_wake(current, eventful, states, i, n_steps, constants):
    """Mark neurons as without adaptation, which only lowers their current while it is above 0."""
    dt, rate, adaptation = constants[0], constants[5], states[2][i]
    zero, one = dt - dt, dt / dt
    _wake(current, eventful, states, i, n_steps, constants)
    for k in range(current.shape[0]):
        taken = adaptation[k]
        lowers = (taken >= zero) & (taken <= one) & (rate <= one)
        eventful[k] = eventful[k] if lowers else np.uint8(1)


def _adaptive_constants(neurons, dt, dtype):
    # A spike in the reference's output takes its height times ``inc_n``.
    number = dtype.type
    taken = number(neurons.inc_n) * number(neurons.amplitude / dt)
    return (*_constants(neurons, dt, dtype), number(dt / neurons.tau_n), taken)


_STATES = ("voltage", "refractory_time")


class LIFRateModel(CurveModel):
    """`LIFRate`, which outputs the rate of a LIF neuron under its current."""

    activation = "relu"
    elementwise = True
    threshold = 1.0
    noise_effect = "bends its curve at the threshold"

    def curve_of_step(self, current, dt):
        """Return ``1 / (tau_ref + tau_rc * log(1 + 1 / (J - 1)))`` above the threshold."""
        return lif_curve(current, self.neuron_type.tau_rc, self.neuron_type.tau_ref)

    def line(self, current):
        """Return ``max(0, J - 1) / tau_rc``."""
        return np.maximum(current - 1, 0) / self.neuron_type.tau_rc

    def ceiling(self, dt):
        """Return ``1 / tau_ref``."""
        tau_ref = self.neuron_type.tau_ref
        return 1.0 / tau_ref if tau_ref > 0 else np.inf

    @property
    def tuning(self):
        """Return the condition that the ceiling sets."""
        return f"max_rates below {self.ceiling(0.0):g} Hz, so that the gain is finite"


class LIFModel(LIFRateModel):
    """`LIF`, which spikes at most once per step and keeps its voltage above ``min_voltage``."""

    noise_effect = "clips its voltage"
    step_effect = "spikes once a step at most and loses what tau_ref leaves of it"
    kernel = Kernel(
        _usual, _event, _most, _constants, _STATES, keeps_current=True,
        resume=_resume, spike=_spike, wake=_wake,
    )  # fmt: skip
    _regular = True

    def __init__(self, neuron_type, family):
        super().__init__(neuron_type, family)
        # Steps up to ``tau_ref`` lose nothing. In the longest ones the voltage reaches its current
        # up to rounding, and `LIF.step` fails.
        self.exact_step = neuron_type.tau_ref
        self.longest_step = _MOST_LEAK * neuron_type.tau_rc

    def curve_of_step(self, current, dt):
        """Return the curve, minus what is lost in steps that are longer than ``tau_ref``."""
        return lif_curve(current, self.neuron_type.tau_rc, self.neuron_type.tau_ref, dt)

    def noise(self, current, deviation, dt, presentation_time=None):
        """Return the rate that a clipped voltage and a noisy threshold crossing add."""
        names = ("tau_rc", "tau_ref", "min_voltage")
        constants = {name: getattr(self.neuron_type, name) for name in names} | {"dt": dt}
        noisy = noisy_lif_rates(current, deviation, **constants)
        return noisy - noisy_lif_rates(current, np.zeros_like(deviation), **constants)

    def ceiling(self, dt):
        """Return the rate of one spike per step, or of one in every ``tau_ref``."""
        return 1.0 / max(self.neuron_type.tau_ref, dt)

    def batched_step(self, dt, current, output, state, streams):
        """Return a function like `nengo.LIF.step`, with ``expm1`` for the few neurons that need it.

        All others leak by the same factor.
        """
        arrays = (current, output, *(state[name] for name in _STATES))
        if not all(array.flags.c_contiguous for array in arrays):
            return super().batched_step(dt, current, output, state, streams)
        drives, outputs, voltages, waits = (array.reshape(-1) for array in arrays)
        neurons, rises, factors = self.neuron_type, np.empty_like(drives), np.empty_like(drives)

        def factor(waiting: np.ndarray) -> np.ndarray:
            return np.expm1(-np.clip(dt - waiting, 0, dt) / neurons.tau_rc)

        whole = factor(np.zeros(1, drives.dtype))

        def step_lif():
            np.subtract(waits, dt, out=waits)
            waiting = np.flatnonzero(waits > 0)
            factors[:] = whole
            factors[waiting] = factor(waits[waiting])
            np.multiply(np.subtract(drives, voltages, out=rises), factors, out=rises)
            np.subtract(voltages, rises, out=voltages)
            spiking = np.flatnonzero(voltages > 1)
            late = np.log1p(-(voltages[spiking] - 1) / (drives[spiking] - 1))
            waits[spiking] = neurons.tau_ref + (dt + neurons.tau_rc * late)
            np.maximum(voltages, neurons.min_voltage, out=voltages)
            voltages[spiking] = outputs[:] = 0
            outputs[spiking] = neurons.amplitude / dt

        return step_lif


class _Adapting(SteppedModel):
    """Types in which each spike takes ``inc_n * amplitude / tau_n`` from the current.

    The current recovers with ``tau_n``. Adapted rates come from stepping. If ``tau_n`` is shorter
    than the time between spikes, or a spike takes more than the current has above its threshold,
    the neuron fires in bursts or waits, and its rate is not the fixed point of its curve.
    """

    def __init__(self, neuron_type, family):
        super().__init__(neuron_type, family)
        # From the fixed point, settle for three time constants. Average over two of them plus 2 s.
        self.settling, self.window = 3 * neuron_type.tau_n + 0.1, 2 + 2 * neuron_type.tau_n
        # The current that adaptation takes for every Hz.
        self.taken = neuron_type.inc_n * self.amplitude

    def curve(self, current, dt, presentation_time):
        """Return the rates of stepped neurons, or the curve if spikes take nothing."""
        if self.taken == 0:
            return self.curve_of_step(current, dt)
        return super().curve(current, dt, presentation_time)

    def first_rates(self, current, dt):
        """Return the rates without adaptation."""
        return self.curve_of_step(current, dt)

    def start(self, shape, current, rng, settled):
        """Start from the fixed point of the curve, for rates in the long run."""
        states = super().start(shape, current, rng, settled)
        if settled:
            low, high = np.zeros(current.shape), np.maximum(current, 0.0)
            for _ in range(60):
                middle = (low + high) / 2
                above = self.taken * self.first_rates(current - middle, 0.0) > middle
                low, high = np.where(above, middle, low), np.where(above, high, middle)
            states["adaptation"][:] = low
        return states


class AdaptiveLIFRateModel(_Adapting, LIFRateModel):
    """`AdaptiveLIFRate`."""

    def variance(self, rates, current, deviation, dt):
        """Return the variance around the adapted rate; adaptation is slower than noise."""
        return super().variance(rates, current - self.taken * rates, deviation, dt)


class AdaptiveLIFModel(_Adapting, LIFModel):
    """`AdaptiveLIF`."""

    kernel = Kernel(
        _adaptive_usual, _adaptive_event, _most, _adaptive_constants, (*_STATES, "adaptation"),
        resume=_adaptive_resume, spike=_adaptive_spike, wake=_adaptive_wake,
    )  # fmt: skip
    batched_step = NeuronModel.batched_step


register(nengo.LIFRate, LIFRateModel)
register(nengo.LIF, LIFModel)
register(nengo.AdaptiveLIFRate, AdaptiveLIFRateModel)
register(nengo.AdaptiveLIF, AdaptiveLIFModel)


def noisy_lif_rates(
    mean, deviation, *, dt=0.001, tau_rc=0.02, tau_ref=0.002, min_voltage=0.0
) -> np.ndarray:
    """Return the rates of ``nengo.LIF`` neurons under noisy currents.

    The voltage is a Markov chain: ``v + (J - v) * (1 - exp(-dt / tau_rc))``, held above
    ``min_voltage``, and a spike when it passes 1. Its mean time to a spike is solved on a grid of
    means and deviations, and interpolated between. Without clipping (``min_voltage=-inf``) and
    with deviations far above the threshold, rates come out up to a fifth too low.
    """
    mean, deviation = np.broadcast_arrays(mean, deviation)
    rates = lif_curve(mean, tau_rc, tau_ref, dt)
    # Noise is ignored where the voltage's jumps stay under 1 % of the threshold.
    noisy = deviation * -np.expm1(-dt / tau_rc) > 0.01
    if not noisy.any():
        return rates
    log_deviation = np.log(deviation[noisy])
    z = (mean[noisy] - 1.0) / deviation[noisy]
    low, high = log_deviation.min() / _APART, log_deviation.max() / _APART
    every = 2 ** int(np.ceil(np.log2(max(1.0, (high - low) / _N_DEVIATIONS))))
    levels = every * np.arange(np.floor(low / every), np.floor(high / every) + 2).astype(int)
    table = [_noisy_rates(level, dt, tau_rc, tau_ref, min_voltage) for level in levels.tolist()]
    grid = scipy.interpolate.RegularGridInterpolator((levels * _APART, _MEANS), np.array(table))
    inside = np.clip(np.arcsinh(20 * z), _MEANS[0], _MEANS[-1])
    found = grid(np.column_stack([np.clip(log_deviation, *levels[[0, -1]] * _APART), inside]))
    # Far above the threshold, noise has no effect. Far below it, nothing fires.
    beyond = np.abs(z) > _MOST
    rates[noisy] = np.where(beyond, rates[noisy], found)
    return rates


def lif_curve(current: np.ndarray, tau_rc: float, tau_ref: float, dt: float = 0.0) -> np.ndarray:
    """Return the rates of LIF neurons under a constant current, in Hz.

    `nengo.LIF.step` places a spike at its time within a step. But if the refractory time ends
    before that step does, the neuron still waits for the next step. Steps up to ``tau_ref`` lose
    nothing.
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


@functools.lru_cache(1024)
def _noisy_rates(level: int, dt, tau_rc, tau_ref, min_voltage) -> np.ndarray:
    """Return the rates for one deviation of the grid, and all its means."""
    deviation = np.exp(level * _APART)
    means = 1 + np.sinh(_MEANS) / 20 * deviation
    return _markov_rates(means, deviation, dt, tau_rc, tau_ref, min_voltage)


def _markov_rates(means, deviation, dt, tau_rc, tau_ref, min_voltage):
    """Solve the mean time to a spike from voltage 0, for several means and one deviation."""
    pull = -np.expm1(-dt / tau_rc)
    # Four standard deviations below the level at which the voltage would settle.
    lowest = np.minimum(means, 0.0) - 4 * deviation * np.sqrt(pull / 2)
    lowest = np.minimum(np.maximum(lowest, min_voltage), -1e-9)
    edges = lowest[:, None] + (1.0 - lowest[:, None]) * np.linspace(0, 1, _N_VOLTAGES + 1)
    voltages = (edges[:, 1:] + edges[:, :-1]) / 2
    voltages[:, 0] = edges[:, 0]  # the voltages that were held at the minimum
    after = (1 - pull) * voltages + pull * means[:, None]
    below = ndtr((edges[:, None, :] - after[:, :, None]) / (pull * deviation))
    moves = np.diff(below, axis=-1)
    moves[..., 0] += below[..., 0]
    # A step with a spike lasts until the crossing; its current is taken as the mean of all currents
    # that lead to a spike.
    stays = below[..., -1]
    z = (1 - after) / (pull * deviation)
    crossing = after + pull * deviation * density(z) / np.maximum(1 - stays, 1e-300)
    current = voltages + (np.maximum(crossing, 1 + 1e-12) - voltages) / pull
    time = -tau_rc / dt * np.log1p(-(1 - voltages) / (current - voltages))
    duration = stays + (1 - stays) * np.clip(time, 0, 1)
    identity = np.eye(_N_VOLTAGES)
    # A mean far below the threshold all but closes the states: no spike within a day.
    steps = np.linalg.solve(identity - (1 - 1e-11) * moves, duration[..., None])[..., 0]
    start = np.array([np.interp(0.0, *pair) for pair in zip(voltages, steps, strict=True)])
    # Spikes fall anywhere in a step; the rest of the step after tau_ref is lost.
    lost = max(dt - tau_ref, 0.0) ** 2 / (2 * dt)
    return 1 / (tau_ref + lost + dt * np.maximum(start, 0))
