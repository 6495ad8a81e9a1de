"""Direct mode, which has no neurons."""

import nengo

from nengonet.exceptions import InputError
from nengonet.neurons.model import NeuronModel, register


class DirectModel(NeuronModel):
    """`Direct`, whose rates cannot be predicted because it has no neurons."""

    activation = "linear"
    has_neurons = False

    def curve(self, current, dt, presentation_time):
        """Refuse to predict a rate."""
        raise InputError("cannot predict Direct mode, which has no neurons")


register(nengo.Direct, DirectModel)
