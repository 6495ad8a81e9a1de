"""The convolutional jobs in sinabs: layers of IAF or LIF neurons for the steps of a chunk."""

from __future__ import annotations

import importlib.metadata

import common

_CSNN = {"batch_size": 5, "chunk": 10}
_BENGALI = {"batch_size": 20, "chunk": 10}
BEST = {
    **dict.fromkeys(("csnn-avg", "csnn-max", "csnn-lif"), _CSNN),
    **dict.fromkeys(("bengali-posted", "bengali-repaired"), _BENGALI),
}


def job(args, images, number):
    """Build the network, warm it up, and return the function that simulates."""
    import torch
    import torch_cnn
    from sinabs import activation, layers

    several = common.load_job(args.job).several
    spikes = activation.MultiSpike if several else activation.SingleSpike

    class Neurons(torch.nn.Module):
        """sinabs' neurons with an initial voltage."""

        def __init__(self, constants):
            super().__init__()
            if "tau_rc" in constants:
                tau, reset = constants["tau_rc"] / common.DT, activation.MembraneReset()
                self.layer = layers.LIF(tau_mem=tau, spike_fn=spikes, reset_fn=reset)
            else:
                self.layer = layers.IAF(spike_fn=spikes)
            self.forward = self.layer.forward

        def reset(self, voltage):
            self.layer.v_mem = voltage.clone()

    def neurons_of(layer):
        return Neurons(layer["neurons"]).eval().requires_grad_(False)

    return torch_cnn.simulator(args, images, neurons_of, time_axis=1)


if __name__ == "__main__":
    import torch_cnn

    args = common.job_arguments(__doc__, BEST, **torch_cnn.OPTIONS)
    common.run(
        job,
        args,
        framework="sinabs",
        version=importlib.metadata.version("sinabs"),
        notes=torch_cnn.described(args),
    )
