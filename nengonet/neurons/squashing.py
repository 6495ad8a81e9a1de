"""Rate neurons with a bounded curve: the logistic function and the hyperbolic tangent."""

import nengo
import numpy as np
from scipy.special import expit

from nengonet.neurons.model import CurveModel, register


class SigmoidModel(CurveModel):
    """`Sigmoid`, between 0 and ``1 / tau_ref``."""

    activation = "sigmoid"
    elementwise = True
    noise_effect = "bends its curve"
    _function = staticmethod(expit)

    def curve_of_step(self, current, dt):
        """Return the function of the current, in units of ``1 / tau_ref``."""
        return self._function(current) / self.neuron_type.tau_ref

    def ceiling(self, dt):
        """Return ``1 / tau_ref``."""
        return 1.0 / self.neuron_type.tau_ref

    @property
    def tuning(self):
        """Return the condition that the middle of the curve lies at the intercept."""
        return (
            f"max_rates between {self.ceiling(0.0) / 2:g} and {self.ceiling(0.0):g} Hz, because "
            f"{self.name} outputs half of its ceiling at the intercept, or give gain and bias"
        )


class TanhModel(SigmoidModel):
    """`Tanh`, between ``-1 / tau_ref`` and ``1 / tau_ref``."""

    activation = "tanh"
    _function = staticmethod(np.tanh)

    @property
    def tuning(self):
        """Return the condition that the ceiling sets."""
        return f"max_rates between 0 and {self.ceiling(0.0):g} Hz"


register(nengo.Sigmoid, SigmoidModel)
register(nengo.Tanh, TanhModel)
