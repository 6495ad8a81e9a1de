"""What nengonet knows of a neuron type: the protocol, and the look-up by its step function.

A type is known by the exact function that steps it. A subclass with a step of its own is never
taken for its base; one that inherits the step is of its base's family, whatever else it changes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from nengo.neurons import NeuronType

from nengonet.exceptions import InputError

_QUADRATURE = np.polynomial.hermite_e.hermegauss(15)


class NeuronModel:
    """What one neuron type does, under currents that are constant or noisy.

    The base class knows nothing of a type: it refuses to predict its rate, and has safe answers
    for the rest. A family derives from it, and overrides `curve` and what else it knows.

    Parameters
    ----------
    neuron_type : NeuronType
    family : type
        The class whose step this is.

    Attributes
    ----------
    activation : str or None
        Of the Keras layer that these neurons stand for: "relu", "sigmoid", "tanh", "linear".
    threshold : float or None
        Current above which a neuron fires. None where there is no such current.
    longest_step : float, in seconds
        Longest step that a simulation can take.
    noise_effect : str
        What the step does to a noisy current, as in "LIF clips its voltage".
    random : bool
        Whether the spikes are drawn at random.
    """

    activation: str | None = None
    threshold: float | None = None
    longest_step: float = np.inf
    noise_effect: str = ""
    random: bool = False
    # Nengo's rates() multiply by the amplitude, but for the types that wrap a rate type.
    _rates_hold_amplitude = True

    def __init__(self, neuron_type: NeuronType, family: type) -> None:
        self.neuron_type, self.family = neuron_type, family
        self.name = type(neuron_type).__name__

    @property
    def amplitude(self) -> float:
        """Area of one spike: 1 for a type that has no amplitude (Izhikevich, Tanh)."""
        return float(getattr(self.neuron_type, "amplitude", 1.0))

    @property
    def spiking(self) -> bool:
        """Whether the output is spikes."""
        return bool(self.neuron_type.spiking)

    def rates(
        self,
        current: np.ndarray,
        deviation: np.ndarray | None = None,
        *,
        dt: float = 0.001,
        presentation_time: float | None = None,
    ) -> np.ndarray:
        """Return the rates in Hz under a current, with the amplitude taken out.

        Parameters
        ----------
        current : (n_samples, n_neurons) ndarray
            Mean over time.
        deviation : (n_samples, n_neurons) ndarray, optional
            Standard deviation of the current from step to step.
        dt : float, in seconds
        presentation_time : float, in seconds, optional
            Average over this time from the reset state; by default the rate in the long run.

        Returns
        -------
        rates : (n_samples, n_neurons) ndarray
            For a type that does not spike: output divided by amplitude.
        """
        if type(self.neuron_type).rates is self.family.rates:
            rates = self.curve(current, dt, presentation_time)
        else:
            rates = self._own_rates(current)
        if deviation is not None:
            rates = rates + self.noise(current, deviation, dt, presentation_time)
        ceiling = self.ceiling(dt)
        return rates if ceiling == np.inf else np.clip(rates, -ceiling, ceiling)

    def _own_rates(self, current: np.ndarray) -> np.ndarray:
        """Return what the type's own `rates` says."""
        ones, zeros = np.ones(current.shape[-1]), np.zeros(current.shape[-1])
        rates = self.neuron_type.rates(current, ones, zeros)
        return rates / self.amplitude if self._rates_hold_amplitude else rates

    def curve(self, current: np.ndarray, dt: float, presentation_time: float | None) -> np.ndarray:
        """Return the rates in Hz under a constant current."""
        raise InputError(
            f"no rate prediction for {self.name}, whose step is its own: expected a type that "
            "nengonet.neurons knows; if its rates() say what its step does, register it: "
            f"nengonet.neurons.register({self.name})"
        )

    def line(self, current: np.ndarray) -> np.ndarray:
        """Return the rates that are left without refractory time and bends, in Hz."""
        return self.rates(current)

    def noise(
        self,
        current: np.ndarray,
        deviation: np.ndarray,
        dt: float,
        presentation_time: float | None = None,
    ) -> np.ndarray:
        """Return what noise in the current adds to the rate, in Hz."""
        return np.zeros(current.shape)

    def ceiling(self, dt: float) -> float:
        """Return the most that a neuron can fire at in steps of a length, in Hz."""
        return np.inf

    def step_variance(self, rates: np.ndarray, dt: float) -> np.ndarray:
        """Return the variance of ``count / dt`` from step to step, for spikes of area 1."""
        if not self.spiking:
            return np.zeros(rates.shape)
        # A neuron that spikes at most once a step, or a whole number of times and the rest.
        share = np.abs(rates) * dt % 1.0
        return share * (1 - share) / dt**2


class OwnRates(NeuronModel):
    """A registered type whose `rates` say what its step does."""

    def curve(self, current: np.ndarray, dt: float, presentation_time: float | None) -> np.ndarray:
        """Return what the type's own `rates` says."""
        return self._own_rates(current)


_MODELS: dict[Callable[..., None], tuple[type, type[NeuronModel]]] = {}


def register(neuron_class: type, model: type[NeuronModel] = OwnRates) -> type:
    """Say what nengonet should take a neuron type's step for.

    It holds for the class and for subclasses that inherit its step. Without a model, the class's
    own ``rates`` predict it: use it as a decorator then.

    Parameters
    ----------
    neuron_class : type
        With a ``step`` of its own.
    model : type, optional
        Derived from `NeuronModel`.

    Returns
    -------
    neuron_class : type
    """
    _MODELS[neuron_class.step] = (neuron_class, model)
    return neuron_class


def model_of(neuron_type: NeuronType) -> NeuronModel:
    """Return what nengonet knows of a neuron type, by its step function.

    Parameters
    ----------
    neuron_type : NeuronType

    Returns
    -------
    NeuronModel
        For a step that nobody registered one that refuses to predict rates.
    """
    step = type(neuron_type).step
    family, model = _MODELS.get(step, (type(neuron_type), NeuronModel))
    return model(neuron_type, family)


def averaged(
    rates: Callable[[np.ndarray], np.ndarray], mean: np.ndarray, deviation: np.ndarray
) -> np.ndarray:
    """Return the mean over a Gaussian current of a rate that follows it step by step."""
    nodes, weights = _QUADRATURE
    total = sum(w * rates(mean + x * deviation) for x, w in zip(nodes, weights, strict=True))
    return total / weights.sum()


def density(z: np.ndarray) -> np.ndarray:
    """Return the density of the normal distribution."""
    return np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
