"""Izhikevich's neurons."""

from __future__ import annotations

import nengo

from nengonet.neurons.model import OwnRates, register


class IzhikevichModel(OwnRates):
    """`Izhikevich`, which spikes once a step at most; what noise does to it is unknown."""

    def ceiling(self, dt: float) -> float:
        """Return one spike a step."""
        return 1.0 / dt


register(nengo.Izhikevich, IzhikevichModel)
