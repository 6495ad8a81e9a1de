"""The job in SpikingJelly: multi-step mode, one matrix product for all steps of a batch."""

from __future__ import annotations

import importlib.metadata
import logging

import common
import numpy as np


def job(args, images, number):
    """Build the network, warm it up, and return the function that simulates."""
    logging.disable(logging.WARNING)  # PyTorch says at every import that there is no Triton
    import torch
    from spikingjelly.activation_based import encoding, functional, layer, neuron
    from torch_input import poisson_spikes

    torch.set_num_threads(1)
    torch.manual_seed(number)
    kernels = common.scaled_kernels(args.weights)
    parts = []
    for kernel in kernels:
        linear = layer.Linear(*kernel.shape, bias=False)
        linear.weight.data = torch.tensor(kernel.T, dtype=torch.float32).contiguous()
        parts += [linear, neuron.LIFNode(tau=common.TAU / common.DT, decay_input=True)]
    network = torch.nn.Sequential(*parts).eval()
    functional.set_step_mode(network, "m")
    encoder = encoding.PoissonEncoder(step_mode="m")
    images = torch.tensor(images, dtype=torch.float32)

    def spikes(batch, n_steps):
        if args.input == "events":
            return poisson_spikes(batch, n_steps)
        probability = batch * (common.MAX_RATE * common.DT)
        return encoder(probability.expand(n_steps, *batch.shape))

    def simulate(images=images):
        counts = []
        with torch.inference_mode(), torch.autocast("cpu", enabled=args.bfloat16):
            for batch in images.split(args.batch_size):
                functional.reset_net(network)
                total = torch.zeros(len(batch), kernels[-1].shape[1])
                # The state persists between calls, so the input can be made in parts.
                for start in range(0, args.steps, args.chunk):
                    n_steps = min(args.chunk, args.steps - start)
                    total += network(spikes(batch, n_steps)).sum(0)
                counts.append(total)
        return torch.cat(counts).numpy().astype(np.int64), 0.0

    simulate(images[: 2 * args.batch_size])
    return simulate


if __name__ == "__main__":
    args = common.arguments(__doc__, batch_size=125, **common.TORCH_OPTIONS)
    common.run(
        job,
        args,
        framework="SpikingJelly",
        version=importlib.metadata.version("spikingjelly"),
        notes=f"PyTorch {importlib.metadata.version('torch')}, multi-step mode, chunks of "
        f"{args.chunk} steps, input {args.input}, {'bfloat16' if args.bfloat16 else 'float32'}",
    )
