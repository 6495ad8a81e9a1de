"""Gain, bias and amplitude: tune a layer, and explain a neuron's answer to a drive."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, Protocol, TypeAlias

import numpy as np
from nengo.dists import Distribution, get_samples
from nengo.exceptions import ValidationError
from nengo.neurons import NeuronType
from numpy.typing import ArrayLike

from nengonet.checks import as_number, as_numbers, as_seed, described, positive_integer
from nengonet.exceptions import InputError
from nengonet.neurons.model import model_of


class Drawn(Protocol):
    """A source of one number for each neuron, as `nengo.dists.Distribution`, which is untyped."""

    def sample(self, n: int, d: Any = None, rng: Any = ...) -> Any:
        """Return ``n`` numbers."""


# One number for all neurons, or one number for each neuron, given or drawn.
PerNeuron: TypeAlias = ArrayLike | Drawn


def with_settings(neuron_type: NeuronType, **settings: object) -> NeuronType:
    """Return a copy of a neuron type with some of its arguments changed."""
    names = list(inspect.signature(type(neuron_type)).parameters)
    for name in settings:
        if name not in names:
            raise InputError(
                f"{type(neuron_type).__name__} has no {name}: expected one of {', '.join(names)}"
            )
    return type(neuron_type)(**{name: getattr(neuron_type, name) for name in names} | settings)


def gain_bias(
    neuron_type: NeuronType,
    n_neurons: int,
    max_rates: PerNeuron = 100.0,
    intercepts: PerNeuron = 0.0,
    *,
    gain: PerNeuron | None = None,
    bias: PerNeuron | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the gain and bias of a layer.

    As in Nengo, ``max_rates`` and ``intercepts`` determine both: the neuron fires at ``max_rates``
    for a drive of 1 (this rate is not a ceiling), and starts to fire at a drive of ``intercepts``.
    A given ``gain`` replaces them; the ``bias`` is then 0 unless it is given too.

    Parameters
    ----------
    neuron_type : NeuronType
    n_neurons : int
    max_rates : float, (n_neurons,) array_like or Distribution, in Hz
    intercepts : float, (n_neurons,) array_like or Distribution, in units of drive
    gain, bias : float, (n_neurons,) array_like or Distribution, optional
        Current per unit of drive, and current at a drive of 0. A bias alone replaces the tuning's
        bias.
    seed : int
        Seed for drawing from distributions.

    Returns
    -------
    gain, bias : (n_neurons,) ndarray

    Raises
    ------
    InputError
        A value is not finite, a gain is not positive, or no gain gives the rate.

    Notes
    -----
    ``max_rates=100, intercepts=0`` gives ``LIF`` the gain 2.033 and the bias 1, and
    ``RectifiedLinear`` the gain 100 and the bias 0.

    Examples
    --------
    >>> gain, bias = nn.gain_bias(nengo.LIF(), n_neurons=1, max_rates=100.0, intercepts=0.0)
    >>> gain.round(3).tolist(), bias.tolist()
    ([2.033], [1.0])
    """
    n_neurons = positive_integer("n_neurons", n_neurons, at_least=0)
    found, bias = _tuned(neuron_type, n_neurons, max_rates, intercepts, gain, bias, seed)
    if not np.all(np.isfinite(found)) or not np.all(found > 0):
        advice = "" if gain is not None else _tuning_advice(neuron_type, max_rates, intercepts)
        raise InputError(
            f"gain: expected finite values above 0, got {found.min():.4g} to {found.max():.4g}"
            f"{advice}"
        )
    return found, bias


def _tuned(neuron_type, n_neurons, max_rates, intercepts, gain, bias, seed=0):
    """Return gain and bias as `gain_bias` does, of any sign."""
    if not model_of(neuron_type).has_neurons:
        raise InputError(
            "neuron_type: expected a type with a rate, such as nengo.LIF() or "
            "nengo.RectifiedLinear(), got Direct, which has no neurons"
        )
    rng = np.random.RandomState(as_seed(seed))

    def sampled(name: str, value: object) -> np.ndarray:
        if isinstance(value, Distribution):
            return get_samples(value, n_neurons, rng=rng)
        try:
            values = np.broadcast_to(np.asarray(value, dtype=np.float64), (n_neurons,))
        except (TypeError, ValueError):
            raise InputError(
                f"{name}: expected one number, {n_neurons} numbers (one for each neuron) or a "
                f"nengo Distribution, got {described(value)}"
            ) from None
        return as_numbers(name, values)

    tuned = np.zeros(n_neurons)
    if gain is not None:
        gain = sampled("gain", gain)
    else:
        max_rates, intercepts = sampled("max_rates", max_rates), sampled("intercepts", intercepts)
        try:
            with np.errstate(all="ignore"):
                gain, tuned = neuron_type.gain_bias(max_rates, intercepts)
        except ValidationError as error:
            name = type(neuron_type).__name__
            text = str(error) if str(error).startswith(name) else f"{name}: {error}"
            raise InputError(text) from None
    bias = tuned if bias is None else sampled("bias", bias)
    return np.array(gain, dtype=np.float64), np.array(bias, dtype=np.float64)


def _tuning_advice(neuron_type: NeuronType, max_rates: object, intercepts: object) -> str:
    """State which max_rates and intercepts give a gain above 0."""
    model = model_of(neuron_type)
    if not isinstance(intercepts, Distribution) and np.any(np.asarray(intercepts) >= 1):
        return "; intercepts must be below 1"
    if not isinstance(max_rates, Distribution) and np.any(np.asarray(max_rates) <= 0):
        return "; max_rates must be above 0 Hz"
    other = f"other max_rates for {model.name}, or give gain and bias"
    return f"; expected {model.tuning or other}"


def current_at(neuron_type: NeuronType, rate: float) -> float:
    """Return the constant current for which a neuron fires at ``rate`` Hz, or refuse the rate."""
    gain, bias = gain_bias(neuron_type, 1, max_rates=rate, intercepts=0.0)
    return float(gain[0] + bias[0])


@dataclasses.dataclass(frozen=True)
class NeuronFacts:
    """The values that Nengo computes for one neuron; see `explain_neuron`.

    Attributes
    ----------
    rate, first_rate : float, in Hz
        The rate in the long run, after any adaptation, and the rate before adaptation.
    output : float
        Mean output over time, ``amplitude * rate``.
    neuron_type : NeuronType
    gain, bias : float
    drive, current : float
        The input before gain and bias, and after them.

    Examples
    --------
    >>> facts = nn.explain_neuron(nengo.LIF(amplitude=0.01), drive=0.5)
    >>> f"{facts.current:.3f}, {facts.rate:.1f} Hz, {facts.output:.3f}"
    '2.017, 63.7 Hz, 0.637'
    """

    neuron_type: NeuronType
    gain: float
    bias: float
    drive: float
    current: float
    rate: float
    output: float
    first_rate: float

    def __str__(self) -> str:
        """Write the calculation, one line for each step."""
        first = "" if self.first_rate == self.rate else f"rate {self.first_rate:.6g} Hz at first\n"
        return (
            f"{self.neuron_type}\n"
            f"gain {self.gain:.6g}, bias {self.bias:.6g}\n"
            f"J = gain * drive + bias = {self.gain:.6g} * {self.drive:.6g} + {self.bias:.6g}"
            f" = {self.current:.6g}\n{first}"
            f"rate {self.rate:.6g} Hz, mean output {self.output:.6g} "
            f"(amplitude {model_of(self.neuron_type).amplitude:.6g})"
        )


def explain_neuron(
    neuron_type: NeuronType,
    drive: float,
    max_rate: float = 100.0,
    intercept: float = 0.0,
    *,
    gain: float | None = None,
    bias: float | None = None,
    dt: float = 0.001,
) -> NeuronFacts:
    """Show the values that Nengo will compute for one neuron at one constant drive.

    Parameters
    ----------
    neuron_type : NeuronType
    drive : float
        ``W @ inputs``, before the gain. An input spike of height ``1/dt`` counts with its mean over
        time, which is 1 for each spike a second.
    max_rate : float, in Hz
    intercept : float
    gain, bias : float, optional
        As for `gain_bias`; the gain may be negative.
    dt : float, in seconds
        Step of the simulation.

    Raises
    ------
    InputError
        As for `gain_bias`. Also if nengonet has no rate prediction for the type.

    Examples
    --------
    >>> print(nn.explain_neuron(nengo.LIF(), drive=1.0))
    LIF()
    gain 2.03324, bias 1
    J = gain * drive + bias = 2.03324 * 1 + 1 = 3.03324
    rate 100 Hz, mean output 100 (amplitude 1)
    """
    drive = as_number("drive", drive)
    dt = as_number("dt", dt, "a time in seconds", above=0)
    gain, bias = _tuned(neuron_type, 1, max_rate, intercept, gain, bias)
    current, model = gain * drive + bias, model_of(neuron_type)
    rate = model.rates(current[None], dt=dt).item()
    first = model.first_rates(current[None], dt).item()
    numbers = (gain.item(), bias.item(), drive, current.item(), rate, rate * model.amplitude)
    return NeuronFacts(neuron_type, *numbers, first)
