"""Direct mode, which has no neurons."""

import nengo

from nengonet.exceptions import InputError
from nengonet.neurons.model import NeuronModel, register


class DirectModel(NeuronModel):
    """`Direct`, for which there is nothing to predict."""

    activation = "linear"
    has_neurons = False

    def curve(self, current, dt, presentation_time):
        """Refuse."""
        raise InputError("cannot predict Direct mode, which has no neurons")


register(nengo.Direct, DirectModel)
