"""Direct mode, which has no neurons."""

from __future__ import annotations

import nengo
import numpy as np

from nengonet.exceptions import InputError
from nengonet.neurons.model import NeuronModel, register


class DirectModel(NeuronModel):
    """`Direct`, for which there is nothing to predict."""

    activation = "linear"

    def curve(self, current: np.ndarray, dt: float, presentation_time: float | None) -> np.ndarray:
        """Refuse."""
        raise InputError("cannot predict Direct mode, which has no neurons")


register(nengo.Direct, DirectModel)
