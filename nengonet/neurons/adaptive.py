"""LIF neurons that fire less the more they have fired."""

from __future__ import annotations

import nengo
import numpy as np

from nengonet.neurons.lif import LIFModel, LIFRateModel
from nengonet.neurons.model import register
from nengonet.neurons.stepped import SteppedModel


class _Adapting(SteppedModel):
    """Each spike takes ``inc_n * amplitude / tau_n`` from the current, and ``tau_n`` gives it back.

    Adapted rates come from stepping: where ``tau_n`` is shorter than the time between spikes, or a
    spike takes more than the current has above its threshold, the neuron fires in bursts or waits,
    and its rate is not the fixed point of its curve.
    """

    @property
    def settling(self) -> float:
        """Three time constants, from the fixed point on."""
        return 3 * self.neuron_type.tau_n + 0.1

    @property
    def window(self) -> float:
        """Several adaptations, and two seconds."""
        return 2 + 2 * self.neuron_type.tau_n

    def curve(self, current: np.ndarray, dt: float, presentation_time: float | None) -> np.ndarray:
        """Return the rates of stepped neurons, or the curve where nothing is taken."""
        if self.taken == 0:
            return self.curve_of_step(current, dt)
        return super().curve(current, dt, presentation_time)

    @property
    def taken(self) -> float:
        """What the current loses to the adaptation for every Hz."""
        return self.neuron_type.inc_n * self.amplitude

    def first_rates(self, current: np.ndarray, dt: float) -> np.ndarray:
        """Return the rates without adaptation."""
        return self.curve_of_step(current, dt)

    def start(
        self, shape: tuple[int, int], current: np.ndarray, rng: np.random.RandomState, settled: bool
    ) -> dict[str, np.ndarray]:
        """Start in the long run from the fixed point of the curve."""
        states = super().start(shape, current, rng, settled)
        if settled:
            taken = self.taken
            low, high = np.zeros(current.shape), np.maximum(current, 0.0)
            for _ in range(60):
                middle = (low + high) / 2
                above = taken * self.first_rates(current - middle, 0.0) > middle
                low, high = np.where(above, middle, low), np.where(above, high, middle)
            states["adaptation"][:] = low
        return states


class AdaptiveLIFRateModel(_Adapting, LIFRateModel):
    """`AdaptiveLIFRate`."""

    def variance(
        self, rates: np.ndarray, current: np.ndarray, deviation: np.ndarray, dt: float
    ) -> np.ndarray:
        """Return the variance about the adapted rate: adaptation is slower than noise."""
        return super().variance(rates, current - self.taken * rates, deviation, dt)


class AdaptiveLIFModel(_Adapting, LIFModel):
    """`AdaptiveLIF`."""


register(nengo.AdaptiveLIFRate, AdaptiveLIFRateModel)
register(nengo.AdaptiveLIF, AdaptiveLIFModel)
