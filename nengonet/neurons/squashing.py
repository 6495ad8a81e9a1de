"""Rate neurons with a bounded curve: the logistic function and the hyperbolic tangent."""

from __future__ import annotations

import nengo
import numpy as np
from scipy.special import expit

from nengonet.neurons.model import NeuronModel, averaged, register


class SigmoidModel(NeuronModel):
    """`Sigmoid`, between 0 and ``1 / tau_ref``."""

    activation = "sigmoid"
    noise_effect = "bends its curve"
    _function = staticmethod(expit)

    def curve(self, current: np.ndarray, dt: float, presentation_time: float | None) -> np.ndarray:
        """Return the function of the current, in units of ``1 / tau_ref``."""
        return self._function(current) / self.neuron_type.tau_ref

    def noise(
        self,
        current: np.ndarray,
        deviation: np.ndarray,
        dt: float,
        presentation_time: float | None = None,
    ) -> np.ndarray:
        """Return the mean of the curve over the noise, less the curve."""

        def curve(currents: np.ndarray) -> np.ndarray:
            return self.curve(currents, dt, presentation_time)

        return averaged(curve, current, deviation) - curve(current)

    def ceiling(self, dt: float) -> float:
        """Return ``1 / tau_ref``."""
        return 1.0 / self.neuron_type.tau_ref


class TanhModel(SigmoidModel):
    """`Tanh`, between ``-1 / tau_ref`` and ``1 / tau_ref``."""

    activation = "tanh"
    _function = staticmethod(np.tanh)


register(nengo.Sigmoid, SigmoidModel)
register(nengo.Tanh, TanhModel)
