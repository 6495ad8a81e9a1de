"""Izhikevich's neurons."""

import nengo

from nengonet.neurons.model import register
from nengonet.neurons.stepped import SteppedModel


class IzhikevichModel(SteppedModel):
    """`Izhikevich`, which spikes at most once per step.

    Its step uses Euler's method, so its rates depend on ``dt``: above 1 ms, neurons spike without
    a current.
    """

    elementwise = True
    noise_effect = "jumps at its threshold"
    exact_step = 0.001
    step_effect = "spikes once a step at most, and without a current in steps above 1 ms"

    def ceiling(self, dt):
        """Return the rate of one spike per step."""
        return 1.0 / dt


register(nengo.Izhikevich, IzhikevichModel)
