"""The convolutional jobs in SpikingJelly: multi-step mode."""

from __future__ import annotations

import importlib.metadata
import logging
import math

import common

_CSNN = {"batch_size": 10, "chunk": 20, "compile": True}
_BENGALI = {"batch_size": 20, "chunk": 10}
BEST = {
    **dict.fromkeys(("csnn-avg", "csnn-max", "csnn-lif"), _CSNN),
    **dict.fromkeys(("bengali-posted", "bengali-repaired"), _BENGALI),
}


def job(args, images, number):
    """Build the network, warm it up, and return the function that simulates."""
    logging.disable(logging.WARNING)  # PyTorch says at every import that there is no Triton
    import torch
    import torch_cnn
    from spikingjelly.activation_based import neuron

    several = common.load_job(args.job).several

    class Count(torch.nn.Module):
        """The number of spikes; replaces a surrogate, whose forward is a step."""

        def forward(self, above: torch.Tensor) -> torch.Tensor:
            return torch.relu(torch.floor(above) + 1)

    def neurons_of(layer):
        constants = {"step_mode": "m", "v_threshold": 1.0}
        if "tau_rc" in layer["neurons"]:
            tau = -1 / math.expm1(-common.DT / layer["neurons"]["tau_rc"])
            nodes = neuron.LIFNode(tau=tau, decay_input=True, v_reset=0.0, **constants)
        else:
            nodes = neuron.IFNode(v_reset=None, **constants)
        if several:
            nodes.surrogate_function = Count()
        return Nodes(nodes.eval())

    class Nodes(torch.nn.Module):
        """SpikingJelly's neurons with an initial voltage."""

        def __init__(self, nodes):
            super().__init__()
            self.nodes, self.forward = nodes, nodes.forward

        def reset(self, voltage):
            self.nodes.reset()
            self.nodes.v = voltage

    return torch_cnn.simulator(args, images, neurons_of)


if __name__ == "__main__":
    import torch_cnn

    args = common.job_arguments(__doc__, BEST, **torch_cnn.OPTIONS)
    common.run(
        job,
        args,
        framework="SpikingJelly",
        version=importlib.metadata.version("spikingjelly"),
        notes=torch_cnn.described(args),
    )
