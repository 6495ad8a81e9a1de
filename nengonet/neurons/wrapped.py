"""Types that turn another type's output into spikes: regular, Poisson and stochastic ones."""

import nengo
import numpy as np

from nengonet.neurons.model import NeuronModel, model_of, register

_AS_BASE = "activation threshold longest_step exact_step noise_effect step_effect tuning".split()


def _of_base(name):
    """Return a method that applies the base's method for rates to the base's output."""
    return lambda model, *given: model.base.amplitude * getattr(model.base, name)(*given)


class RatesToSpikesModel(NeuronModel):
    """A type whose rate is the output of its base. A negative output gives negative spikes."""

    def __init__(self, neuron_type, family):
        super().__init__(neuron_type, family)
        self.base = model_of(neuron_type.base_type)
        for name in _AS_BASE:
            setattr(self, name, getattr(self.base, name))

    def curve(self, current, dt, presentation_time):
        """Return the mean output of the base."""
        rates = self.base.rates(current, dt=dt, presentation_time=presentation_time)
        return self.base.amplitude * rates

    # A ceiling can also be reached with several spikes in a step.
    line, noise, ceiling, first_rates = map(_of_base, ("line", "noise", "ceiling", "first_rates"))

    def variance(self, rates, current, deviation, dt):
        """Return the variance of the spikes, from mean and variance of the base's output."""
        return self._irregularity(rates, current, deviation, dt) + self._of_draw(rates, dt)

    def _irregularity(self, rates, current, deviation, dt):
        """Return the variance of the output of the base."""
        out = self.base.amplitude
        return out**2 * self.base.variance(rates / out, current, deviation, dt)

    def _of_draw(self, rates, dt):
        """Return the variance of ``count / dt`` where the base outputs constant rates."""
        return super().variance(rates, rates, rates, dt)


class RegularSpikingModel(RatesToSpikesModel):
    """`RegularSpiking`."""

    elementwise = True
    _regular = True


class _Draws:
    """The random numbers of random types: each example draws from its own stream."""

    def __init__(self, streams: list[np.random.RandomState]) -> None:
        self._streams = streams

    def poisson(self, means: np.ndarray, size: int) -> np.ndarray:
        """Return Poisson counts with these means, (n, batch)."""
        examples = zip(self._streams, means.T, strict=True)
        return np.stack([rng.poisson(each) for rng, each in examples], axis=-1)

    def random_sample(self, size: tuple[int, int]) -> np.ndarray:
        """Return uniform numbers, (n, batch)."""
        return np.stack([rng.random_sample(size=size[:1]) for rng in self._streams], axis=-1)


class PoissonSpikingModel(RatesToSpikesModel):
    """`PoissonSpiking`, in which the variance of a count is its mean."""

    random = True
    elementwise = True
    draws = _Draws
    draws_by = "poisson"

    def _of_draw(self, rates, dt):
        return np.abs(rates) / dt


class StochasticSpikingModel(RatesToSpikesModel):
    """`StochasticSpiking`."""

    random = True
    elementwise = True
    draws = _Draws
    draws_by = "random_sample"


register(nengo.RegularSpiking, RegularSpikingModel)
register(nengo.PoissonSpiking, PoissonSpikingModel)
register(nengo.StochasticSpiking, StochasticSpikingModel)
