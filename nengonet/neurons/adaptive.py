"""LIF neurons whose threshold rises as they fire."""

from __future__ import annotations

import nengo
import numpy as np

from nengonet.neurons.lif import LIFModel, LIFRateModel, lif_curve
from nengonet.neurons.model import register


class _Adapting:
    """The rates of neurons from whose current an adaptation is taken."""

    def curve(self, current: np.ndarray, dt: float, presentation_time: float | None) -> np.ndarray:
        """Follow the adaptation ``n``: ``tau_n dn/dt = inc_n * output - n``, from 0 on."""
        neuron_type = self.neuron_type
        # Without a presentation time: ten time constants, and the rate at their end.
        time = 10 * neuron_type.tau_n if presentation_time is None else presentation_time
        n_steps = 200
        step = time / n_steps
        adaptation, total = np.zeros(current.shape), np.zeros(current.shape)
        pull = -np.expm1(-step / neuron_type.tau_n)
        for _ in range(n_steps):
            rates = lif_curve(current - adaptation, neuron_type.tau_rc, neuron_type.tau_ref)
            # Exact for a constant rate, so that a step may be long against tau_n.
            adaptation += pull * (neuron_type.inc_n * neuron_type.amplitude * rates - adaptation)
            total += rates
        return rates if presentation_time is None else total / n_steps


class AdaptiveLIFRateModel(_Adapting, LIFRateModel):
    """`AdaptiveLIFRate`."""


class AdaptiveLIFModel(_Adapting, LIFModel):
    """`AdaptiveLIF`."""


register(nengo.AdaptiveLIFRate, AdaptiveLIFRateModel)
register(nengo.AdaptiveLIF, AdaptiveLIFModel)
