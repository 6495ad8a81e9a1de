"""Types that make spikes of the output of another type: regular, Poisson and stochastic ones."""

import nengo
import numpy as np

from nengonet.neurons.model import NeuronModel, model_of, register

_AS_BASE = "activation threshold longest_step exact_step noise_effect step_effect tuning".split()


class RatesToSpikesModel(NeuronModel):
    """A type that fires at what its base puts out; a negative output makes negative spikes."""

    def __init__(self, neuron_type, family):
        super().__init__(neuron_type, family)
        self.base = model_of(neuron_type.base_type)
        for name in _AS_BASE:
            setattr(self, name, getattr(self.base, name))

    def curve(self, current, dt, presentation_time):
        """Return the mean output of the base."""
        rates = self.base.rates(current, dt=dt, presentation_time=presentation_time)
        return self.base.amplitude * rates

    def line(self, current):
        """Return the base's line."""
        return self.base.amplitude * self.base.line(current)

    def noise(self, current, deviation, dt, presentation_time=None):
        """Return what noise adds to the output of the base."""
        return self.base.amplitude * self.base.noise(current, deviation, dt, presentation_time)

    def ceiling(self, dt):
        """Return the ceiling of the base's output, which several spikes in a step can reach."""
        return self.base.amplitude * self.base.ceiling(dt)

    def first_rates(self, current, dt):
        """Return what the base puts out before it has adapted."""
        return self.base.amplitude * self.base.first_rates(current, dt)

    def variance(self, rates, current, deviation, dt):
        """Return the variance of the spikes for what the base puts out, and of that."""
        of_base = self._irregularity(rates, current, deviation, dt)
        return of_base + self._variance_of_draw(rates, dt)

    def _irregularity(self, rates, current, deviation, dt):
        """Return the variance of what the base puts out."""
        out = self.base.amplitude
        return out**2 * self.base.variance(rates / out, current, deviation, dt)

    def _variance_of_draw(self, rates, dt):
        """Return the variance of ``count / dt`` where the base puts out constant rates."""
        return super().variance(rates, rates, rates, dt)


class RegularSpikingModel(RatesToSpikesModel):
    """`RegularSpiking`."""

    elementwise = True
    _regular = True


class PoissonSpikingModel(RatesToSpikesModel):
    """`PoissonSpiking`."""

    random = True

    def _variance_of_draw(self, rates, dt):
        """Return the variance of a Poisson count, over ``dt**2``."""
        return np.abs(rates) / dt


class _UniformDraws:
    """What `StochasticSpiking` draws from: each example's numbers from its own stream."""

    def __init__(self, streams: list[np.random.RandomState]) -> None:
        self._streams = streams

    def random_sample(self, size: tuple[int, int]) -> np.ndarray:
        """Return (n, batch) numbers."""
        return np.stack([rng.random_sample(size=size[:1]) for rng in self._streams], axis=-1)


class StochasticSpikingModel(RatesToSpikesModel):
    """`StochasticSpiking`."""

    random = True
    elementwise = True
    draws = _UniformDraws


register(nengo.RegularSpiking, RegularSpikingModel)
register(nengo.PoissonSpiking, PoissonSpikingModel)
register(nengo.StochasticSpiking, StochasticSpikingModel)
