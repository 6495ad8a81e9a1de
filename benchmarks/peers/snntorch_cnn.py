"""The convolutional jobs in snnTorch: Leaky neurons in a loop over the steps of a chunk."""

from __future__ import annotations

import importlib.metadata
import logging
import math

import common

_CSNN = {"batch_size": 5, "chunk": 10}
_BENGALI = {"batch_size": 20, "chunk": 10}
BEST = {
    **dict.fromkeys(("csnn-avg", "csnn-max", "csnn-lif"), _CSNN),
    **dict.fromkeys(("bengali-posted", "bengali-repaired"), _BENGALI),
}


def job(args, images, number):
    """Build the network, warm it up, and return the function that simulates."""
    logging.disable(logging.WARNING)
    import snntorch
    import torch
    import torch_cnn

    several = common.load_job(args.job).several

    def count(above: torch.Tensor) -> torch.Tensor:
        """Return the number of spikes; replaces a surrogate's forward, which is a step."""
        return torch.relu(torch.ceil(above))

    class Leaky(torch.nn.Module):
        """One layer's neurons."""

        def __init__(self, neurons):
            super().__init__()
            beta, reset, self.share = 1.0, "subtract", None
            if "tau_rc" in neurons:
                beta, reset = math.exp(-common.DT / neurons["tau_rc"]), "zero"
                self.share = 1 - beta  # Leaky adds its input undamped
            spikes = {"spike_grad": count} if several else {"surrogate_disable": True}
            self.leaky = snntorch.Leaky(beta=beta, reset_mechanism=reset, **spikes).eval()

        def reset(self, voltage):
            self.voltage = voltage

        def forward(self, currents):
            found, voltage = [], self.voltage
            for current in currents if self.share is None else self.share * currents:
                spikes, voltage = self.leaky(current, voltage)
                found.append(spikes)
            self.voltage = voltage
            return torch.stack(found)

    return torch_cnn.simulator(args, images, lambda layer: Leaky(layer["neurons"]))


if __name__ == "__main__":
    import torch_cnn

    args = common.job_arguments(__doc__, BEST, **torch_cnn.OPTIONS)
    common.run(
        job,
        args,
        framework="snnTorch",
        version=importlib.metadata.version("snntorch"),
        notes=torch_cnn.described(args),
    )
