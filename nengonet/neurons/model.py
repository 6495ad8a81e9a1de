"""Models of neuron types: the protocol, and the look-up by step function.

A type is recognised by the exact function that steps it, and those that this may call through
``super()``. A subclass with its own step is never taken for its base; one that inherits the step
belongs to its base's family, whatever else it changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy
from nengo.dists import Choice, Distribution, Uniform
from nengo.neurons import NeuronType, RatesToSpikesNeuronType

from nengonet.checks import described
from nengonet.exceptions import InputError


def density(z: np.ndarray) -> np.ndarray:
    """Return the density of the normal distribution."""
    return np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)


# Points of a normal distribution and their weights, which add up to 1: enough to average a curve
# with a jump within 1 % of its height.
_POINTS = np.linspace(-5, 5, 201)
_GAUSSIAN = _POINTS, density(_POINTS) / density(_POINTS).sum()


class Kernel(NamedTuple):
    """One step of a family, as plain functions that Numba compiles at their first use.

    `nengonet.minibatch.kernels` calls them with the ``current`` of a row ``i`` of neurons and with
    ``states[s][i]``, in the signals' type. Functions that they name are compiled too.

    Parameters
    ----------
    usual : function(current, eventful, states, i, constants)
        Steps a row without a branch, and marks the neurons that are left to ``event``.
    event : function(current, states, i, k, constants)
        Finishes a neuron; returns its spikes and whether its voltage is a number.
    most : function(states, i, k)
        Returns the most spikes that ``event`` can bring.
    constants : function(neuron_type, dt, dtype)
        Returns numbers, in Python.
    states : tuple of str
        Names of the type's states, in order.
    keeps_current : bool
        Whether ``usual`` leaves its currents unchanged, which saves a copy.
    counts_spikes : bool
        Whether ``usual`` also finishes neurons that spike, and marks them with the number of their
        spikes, up to 254. Those that are left to ``event`` are then marked with 255.
    resume : function(current, states, i, which, n, eventful, memory, constants), optional
        Together with ``spike``, replaces ``event`` for a list of neurons, in families that spike at
        most once per step. ``usual`` then marks with 1 the neurons that spike or whose voltage is
        NaN, and with 2 those that it cannot decide. ``resume`` steps the ``n`` neurons ``which``
        that are marked with 2, and marks them with 1 or 0. ``memory`` has room for as many numbers.
    spike : function(current, states, i, which, n, memory, constants), optional
        Finishes those marked with 1; returns whether all voltages are numbers.
    simplify : function(current, states, i, constants), optional
        For families that count spikes: returns True if, while these currents last, no step gives a
        neuron of the row more than one spike or leaves it to ``event``. It may then convert the
        currents to those that ``simple`` takes.
    simple : function(current, eventful, states, i, constants), optional
        With ``simplify``, replaces ``usual``, and is faster.
    wake : function(current, eventful, states, i, n_steps, constants), optional
        Marks with 1 the neurons that may need ``event`` or spike in this many steps of these
        currents, and with 0 those that surely do not.

    Examples
    --------
    >>> from nengonet.neurons import model_of
    >>> model_of(nengo.LIF()).kernel.states
    ('voltage', 'refractory_time')
    """

    usual: Callable[..., None]
    event: Callable[..., tuple]
    most: Callable[..., float]
    constants: Callable[..., tuple[np.floating, ...]]
    states: tuple[str, ...]
    keeps_current: bool = False
    counts_spikes: bool = False
    resume: Callable[..., None] | None = None
    spike: Callable[..., bool] | None = None
    simplify: Callable[..., bool] | None = None
    simple: Callable[..., None] | None = None
    wake: Callable[..., None] | None = None

    def __repr__(self) -> str:
        """Name the states."""
        return f"<Kernel of {', '.join(self.states)}>"


class NeuronModel:
    """The behaviour of one neuron type under constant or noisy currents.

    The base class refuses to predict a rate, and has safe answers for the rest. A family derives
    from it and overrides `curve` and whatever else it knows; see `register`. Currents, deviations
    and rates are (n_samples, n_neurons) arrays.

    Attributes
    ----------
    activation : str or None
        Activation of the Keras layer that these neurons represent: "relu", "sigmoid", "tanh",
        "linear".
    threshold : float or None
        Current above which a neuron fires, if there is one.
    longest_step, exact_step : float, in seconds
        Longest step that a simulation can take; longest step that changes no rate.
    noise_effect, step_effect : str
        The effect of the step on a noisy current, as in "LIF clips its voltage"; and the effect of
        steps above ``exact_step``, as in "LIF spikes once a step at most".
    tuning : str, optional
        Which max_rates give a gain above 0, beyond the conditions of all types.
    random : bool
        Whether the spikes are drawn at random.
    elementwise : bool
        Whether every neuron is stepped independently, so that one call of the step serves all
        examples of a minibatch. Otherwise each example has its own call.
    draws : callable, optional
        Converts a list of the examples' random states to the object that an element-wise step
        draws from.
    draws_by : str, optional
        Method of a random state by which an element-wise step of rates without state draws, as
        `nengonet.minibatch.mersenne` does in Numba: "poisson" or "random_sample".
    kernel : Kernel, optional
        The step in Numba.
    has_neurons : bool
        False for Direct mode.
    neuron_type : NeuronType
        The type itself.
    family : type
        The class that the model was registered for.

    Examples
    --------
    >>> from nengonet.neurons import model_of
    >>> model = model_of(nn.IntegrateAndFire())
    >>> model.activation, model.random
    ('relu', False)
    >>> model.rates(np.array([[-1.0, 20.0]])).tolist()
    [[0.0, 20.0]]
    """

    activation: str | None = None
    threshold: float | None = None
    longest_step: float = np.inf
    exact_step: float = np.inf
    noise_effect: str = "is not linear in its current"
    step_effect: str = "changes its rates in long steps"
    tuning: str | None = None
    random: bool = False
    elementwise: bool = False
    draws: Callable[[list[np.random.RandomState]], object] | None = None
    draws_by: str | None = None
    kernel: Kernel | None = None
    has_neurons: bool = True
    # Whether spikes come at even intervals under a constant current.
    _regular: bool = False

    def __init__(self, neuron_type: NeuronType, family: type) -> None:
        self.neuron_type, self.family = neuron_type, family
        self.name = type(neuron_type).__name__

    def __repr__(self) -> str:
        """Show the type."""
        return f"<{type(self).__name__} of {self.neuron_type}>"

    @property
    def noise_remedy(self) -> str | None:
        """The argument of the type with which noise does not change its rate."""
        clips = getattr(self.neuron_type, "min_voltage", None) == 0
        return "a min_voltage of -1" if clips else None

    @property
    def amplitude(self) -> float:
        """Area of one spike: 1 for a type without an amplitude (Izhikevich, Tanh)."""
        return float(getattr(self.neuron_type, "amplitude", 1.0))

    @property
    def spiking(self) -> bool:
        """Whether the output is spikes."""
        return bool(self.neuron_type.spiking)

    @property
    def may_be_negative(self) -> bool:
        """Whether spikes may be below 0: always, or once, from an initial voltage below 0."""
        first = (self.neuron_type.initial_state or {}).get("voltage", 0.0)
        if isinstance(first, Distribution):
            first = getattr(first, {Choice: "options", Uniform: "low"}.get(type(first), ""), -1)
        return bool(self.neuron_type.negative or np.min(first) < 0)

    def rates(
        self,
        current: np.ndarray,
        deviation: np.ndarray | None = None,
        *,
        dt: float = 0.001,
        presentation_time: float | None = None,
    ) -> np.ndarray:
        """Return the rates in Hz, or without spikes the output, divided by the amplitude.

        Parameters
        ----------
        current, deviation : (n_samples, n_neurons) ndarray
            Mean over time, and standard deviation from step to step, at least 0.
        dt : float, in seconds
        presentation_time : float, in seconds, optional
            Average over this time from the reset state; by default the rate in the long run. It
            matters for types that adapt.

        Raises
        ------
        InputError
            The rates of the type's step are unknown, or it cannot take steps of ``dt``.
        """
        self.check_step(dt)
        if type(self.neuron_type).rates is self.family.rates:
            rates = self.curve(current, dt, presentation_time)
        else:
            rates = self.own_rates(current)
        if deviation is not None:
            rates = rates + self.noise(current, deviation, dt, presentation_time)
        ceiling = self.ceiling(dt)
        return rates if ceiling == np.inf else np.clip(rates, -ceiling, ceiling)

    def own_rates(self, current: np.ndarray) -> np.ndarray:
        """Return the values of the type's own ``rates``, in Hz."""
        ones, zeros = np.ones(current.shape[-1]), np.zeros(current.shape[-1])
        rates = self.neuron_type.rates(current, ones, zeros)
        # Nengo's rates() multiply by the amplitude, except for types that wrap another.
        return rates if issubclass(self.family, RatesToSpikesNeuronType) else rates / self.amplitude

    def curve(self, current: np.ndarray, dt: float, presentation_time: float | None) -> np.ndarray:
        """Return the rates in Hz under a constant current."""
        raise InputError(
            f"no rate prediction for {self.name}: expected a neuron type whose step nengonet "
            f"knows, got a step of its own. If {self.name}.rates says what it does, call "
            f"nengonet.neurons.register({self.name}); otherwise give register a model"
        )

    def first_rates(self, current: np.ndarray, dt: float) -> np.ndarray:
        """Return the rates in Hz under a constant current before a neuron has adapted."""
        return self.rates(current, dt=dt)

    def line(self, current: np.ndarray) -> np.ndarray:
        """Return the rates in Hz without refractory time and bends."""
        return self.rates(current)

    def noise(self, current, deviation, dt, presentation_time=None) -> np.ndarray:
        """Return the rate in Hz that noise in the current adds; 0 where that is unknown."""
        return np.zeros(current.shape)

    def variance(self, rates, current, deviation, dt) -> np.ndarray:
        """Return the variance of the output from step to step, for an amplitude of 1."""
        if not self.spiking:
            return np.zeros(rates.shape)
        # A neuron that spikes at most once per step, or a whole number of times plus a fraction.
        share = np.abs(rates) * dt % 1.0
        return share * (1 - share) / dt**2

    def filtered_variance(self, rates, current, deviation, dt, gain, power) -> np.ndarray:
        """Return the variance of the output after a filter, for an amplitude of 1.

        The filter multiplies means by ``gain`` and the variance of independent steps by ``power``.
        Regular spikes are not independent: they leave a ripple, plus the variation of their
        intervals by the noise of the current.
        """
        independent = power * self.variance(rates, current, deviation, dt)
        if not self._regular or not 0 < power < gain**2:
            return independent
        through = power * self._irregularity(rates, current, deviation, dt)
        return np.minimum(independent, _ripple(rates, gain, power, dt) + through)

    def _irregularity(self, rates, current, deviation, dt) -> np.ndarray:
        """Return the variance that noise adds to the output, as of independent steps."""
        above = current - (self.threshold or 0.0)
        # A neuron that fires only because of noise has no regular intervals.
        slope = np.divide(rates, above, out=np.full(rates.shape, np.inf), where=above > 0)
        return np.where(deviation > 0, (np.where(deviation > 0, slope, 0.0) * deviation) ** 2, 0.0)

    def ceiling(self, dt: float) -> float:
        """Return the highest rate of a neuron in steps of this length, in Hz."""
        return np.inf

    def check_step(self, dt: float, label: str | None = None) -> None:
        """Refuse steps that are too long for the type."""
        if dt > self.longest_step:
            raise InputError(
                f"dt: expected at most {self.longest_step:g} s for {label or self.name}, as "
                f"{self.name} loses all of its voltage in longer steps, got {dt:g} s; shorten dt, "
                "or use neurons without a leak, such as SpikingRectifiedLinear"
            )

    def batched_step(self, dt, current, output, state, streams) -> Callable[[], None]:
        """Return one step of an element-wise type on (n_neurons, batch) arrays, in NumPy.

        ``state`` has arrays by name; ``streams`` each example's random states by name.
        """
        step, names = self.neuron_type.step, streams[0] if streams else ()
        drawn = {name: self.draws([each[name] for each in streams]) for name in names}
        return lambda: step(dt, current, output, **state, **drawn)


class OwnRates(NeuronModel):
    """A registered type whose ``rates`` describe its step."""

    def curve(self, current, dt, presentation_time):
        """Return the values of the type's own ``rates``."""
        return self.own_rates(current)


class CurveModel(NeuronModel):
    """A type that follows a curve; if it does not spike, in every step."""

    def curve(self, current, dt, presentation_time):
        """Return the output of every step."""
        return self.curve_of_step(current, dt)

    def curve_of_step(self, current: np.ndarray, dt: float) -> np.ndarray:
        """Return the output of one step, divided by the amplitude."""
        rates = np.empty(current.shape)
        for row, found in zip(np.array(current, dtype=np.float64), rates, strict=True):
            self.neuron_type.step(dt, row, found)
        return rates / self.amplitude

    def noise(self, current, deviation, dt, presentation_time=None):
        """Return the mean of the curve over the noise, minus the curve."""
        mean, _ = self._moments(current, deviation, dt)
        return mean - self.curve_of_step(current, dt)

    def variance(self, rates, current, deviation, dt):
        """Return the variance of the curve over the noise."""
        if self.spiking or not np.any(deviation):
            return super().variance(rates, current, deviation, dt)
        return self._moments(current, deviation, dt)[1]

    def _moments(self, current, deviation, dt) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of the output of steps under a Gaussian current."""

        def moments(mean: np.ndarray, width: np.ndarray) -> np.ndarray:
            first, second = np.zeros((2, *mean.shape))
            for node, weight in zip(*_GAUSSIAN, strict=True):
                values = self.curve_of_step(mean + node * width, dt)
                first += weight * values
                second += weight * values**2
            return np.stack([first, np.maximum(second - first**2, 0.0)])

        if self.elementwise:
            return tuple(on_grid(moments, current, deviation, n=(200, 30), most=20_000))
        return tuple(moments(current, deviation))


# Registered models, by the step of a type and those that it may call through ``super()``.
_Steps = tuple[Callable[..., None], ...]
_MODELS: dict[_Steps, tuple[type, type[NeuronModel]]] = {}
_ELEMENTWISE: set[_Steps] = set()


def _steps_of(cls: type[NeuronType]) -> _Steps:
    return tuple(base.__dict__["step"] for base in cls.__mro__ if "step" in base.__dict__)


def register(neuron_class: type, model: type[NeuronModel] = OwnRates) -> type:
    """Register a model of a neuron type's step, so that its rates can be predicted.

    It applies to the class and to subclasses that inherit its step. Without a model, the class's
    own ``rates`` predict its step; `register` then works as a decorator.

    Parameters
    ----------
    neuron_class : type
        A class with its own ``step``.
    model : type, optional
        A class derived from `NeuronModel`; `nengonet.neurons.SteppedModel` finds the rates by
        stepping. With ``elementwise = True``, `MinibatchSimulator` steps all examples in one call.

    Raises
    ------
    InputError
        The class is not a neuron type, or inherits its step.

    Examples
    --------
    >>> from nengonet.neurons import model_of, register
    >>> @register
    ... class Squared(nengo.RectifiedLinear):
    ...     def step(self, dt, J, output):
    ...         output[...] = self.amplitude * np.maximum(J, 0) ** 2
    >>> float(model_of(Squared()).rates(np.array([[3.0]]))[0, 0])
    9.0
    """
    if not (isinstance(neuron_class, type) and issubclass(neuron_class, NeuronType)):
        raise InputError(f"expected a class derived from nengo's NeuronType, got {neuron_class!r}")
    if "step" not in vars(neuron_class):
        raise InputError(
            f"{neuron_class.__name__}: expected a class with a step of its own, got one that "
            "inherits it and is predicted as the class that defines it"
        )
    _MODELS[_steps_of(neuron_class)] = (neuron_class, model)
    return neuron_class


def elementwise(neuron_class: type[NeuronType]) -> type[NeuronType]:
    """Let one call of a neuron type's step serve all examples of a minibatch.

    This is a decorator. Without it, `MinibatchSimulator` steps an unknown neuron type example by
    example, which is equally exact but slower. A model's ``elementwise`` has the same effect.
    """
    _ELEMENTWISE.add(_steps_of(neuron_class))
    return neuron_class


def as_neuron_type(neuron_type: NeuronType, name: str = "neuron_type") -> NeuronType:
    """Check that this is a neuron type, not its class."""
    if not isinstance(neuron_type, NeuronType):
        found, fix = described(neuron_type), ""
        if isinstance(neuron_type, type) and issubclass(neuron_type, NeuronType):
            found, fix = f"the class {neuron_type.__name__}", f": write {neuron_type.__name__}()"
        raise InputError(f"{name}: expected a neuron type such as nengo.LIF(), got {found}{fix}")
    return neuron_type


def model_of(neuron_type: NeuronType) -> NeuronModel:
    """Return the model of a neuron type, found by its step function.

    If the step is not registered, the model steps the type if it has neither spikes nor state, and
    otherwise refuses to predict it.

    Parameters
    ----------
    neuron_type : NeuronType

    Examples
    --------
    >>> from nengonet.neurons import model_of
    >>> model = model_of(nengo.LIF())
    >>> model.ceiling(dt=0.001)
    500.0
    >>> model.rates(np.array([[0.5, 2.0]])).round(1).tolist()
    [[0.0, 63.0]]
    """
    cls = type(as_neuron_type(neuron_type))
    steps = _steps_of(cls)
    family, model = _MODELS.get(steps, (cls, None))
    if model is None:
        stateless = not (neuron_type.state or neuron_type.spiking)
        plain = stateless and cls.make_state is NeuronType.make_state
        model = CurveModel if plain else NeuronModel
    found = model(neuron_type, family)
    found.elementwise |= steps in _ELEMENTWISE
    return found


def _ripple(rates: np.ndarray, gain: float, power: float, dt: float) -> np.ndarray:
    """Return the variance of evenly spaced spikes after a low-pass filter of this power.

    A spike decays with ``tau``; at rates far above ``1 / tau``, nothing of the ripple is left.
    """
    share = power / gain**2
    tau = -dt / np.log((1 - share) / (1 + share))
    rates = np.maximum(np.abs(rates), 1e-9)
    half = 1 / (2 * tau * rates)
    return (gain * rates) ** 2 * (half / np.tanh(half) - 1)


def on_grid(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
    mean: np.ndarray,
    deviation: np.ndarray,
    *,
    n: tuple[int, int],
    most: int,
) -> np.ndarray:
    """Return a function of mean and deviation of a current, element by element.

    For more than ``most`` elements, it is computed on a grid of ``n`` means and deviations, and
    interpolated. It may return several arrays.
    """
    if mean.size <= most:
        return function(mean, deviation)
    means, widths = spread(mean, n[0]), spread(deviation, n[1])
    table = np.moveaxis(function(*np.meshgrid(means, widths, indexing="ij")), (-2, -1), (0, 1))
    found = scipy.interpolate.RegularGridInterpolator((means, widths), table)((mean, deviation))
    return np.moveaxis(found, range(mean.ndim), range(-mean.ndim, 0))


def spread(values: np.ndarray, n: int) -> np.ndarray:
    """Return about ``n`` points around values: half evenly spaced, half where most values are."""
    low, high = values.min(), values.max()
    margin = 1e-9 * (1 + max(abs(low), abs(high)))
    even = np.linspace(low - margin, high + margin, n // 2)
    return np.union1d(even, np.quantile(values, np.linspace(0, 1, n // 2)))
