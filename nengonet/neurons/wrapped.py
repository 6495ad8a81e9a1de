"""Types that make spikes of the output of another type: regular, Poisson and stochastic ones."""

from __future__ import annotations

import nengo
import numpy as np
from nengo.neurons import NeuronType

from nengonet.neurons.model import NeuronModel, model_of, register


class RatesToSpikesModel(NeuronModel):
    """A type that fires at what its base puts out; a negative output makes negative spikes."""

    def __init__(self, neuron_type: NeuronType, family: type) -> None:
        super().__init__(neuron_type, family)
        self.base = model_of(neuron_type.base_type)
        self.activation, self.threshold = self.base.activation, self.base.threshold
        self.longest_step, self.noise_effect = self.base.longest_step, self.base.noise_effect
        self.exact_step, self.step_effect = self.base.exact_step, self.base.step_effect

    def curve(self, current: np.ndarray, dt: float, presentation_time: float | None) -> np.ndarray:
        """Return the mean output of the base."""
        rates = self.base.rates(current, dt=dt, presentation_time=presentation_time)
        return self.base.amplitude * rates

    def line(self, current: np.ndarray) -> np.ndarray:
        """Return the base's line."""
        return self.base.amplitude * self.base.line(current)

    def noise(
        self,
        current: np.ndarray,
        deviation: np.ndarray,
        dt: float,
        presentation_time: float | None = None,
    ) -> np.ndarray:
        """Return what noise adds to the output of the base."""
        return self.base.amplitude * self.base.noise(current, deviation, dt, presentation_time)

    def ceiling(self, dt: float) -> float:
        """Return the ceiling of the base's output, which several spikes in a step can reach."""
        return self.base.amplitude * self.base.ceiling(dt)

    def first_rates(self, current: np.ndarray, dt: float) -> np.ndarray:
        """Return what the base puts out before it has adapted."""
        return self.base.amplitude * self.base.first_rates(current, dt)

    def variance(
        self, rates: np.ndarray, current: np.ndarray, deviation: np.ndarray, dt: float
    ) -> np.ndarray:
        """Return the variance of the spikes for what the base puts out, and of that."""
        of_base = self._irregularity(rates, current, deviation, dt)
        return of_base + self.variance_of_draw(rates, dt)

    def _irregularity(
        self, rates: np.ndarray, current: np.ndarray, deviation: np.ndarray, dt: float
    ) -> np.ndarray:
        """Return the variance of what the base puts out."""
        out = self.base.amplitude
        return out**2 * self.base.variance(rates / out, current, deviation, dt)

    def variance_of_draw(self, rates: np.ndarray, dt: float) -> np.ndarray:
        """Return the variance of ``count / dt`` where the base puts out constant rates."""
        return super().variance(rates, rates, rates, dt)

    def tuning_advice(self) -> str:
        """Give the base's advice."""
        return self.base.tuning_advice()


class RegularSpikingModel(RatesToSpikesModel):
    """`RegularSpiking`."""

    _regular = True


class PoissonSpikingModel(RatesToSpikesModel):
    """`PoissonSpiking`."""

    random = True

    def variance_of_draw(self, rates: np.ndarray, dt: float) -> np.ndarray:
        """Return the variance of a Poisson count, over ``dt**2``."""
        return np.abs(rates) / dt


class StochasticSpikingModel(RatesToSpikesModel):
    """`StochasticSpiking`."""

    random = True


register(nengo.RegularSpiking, RegularSpikingModel)
register(nengo.PoissonSpiking, PoissonSpikingModel)
register(nengo.StochasticSpiking, StochasticSpikingModel)
