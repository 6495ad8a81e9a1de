"""The job in snnTorch: all products of a layer first, then Leaky neurons in a loop over time."""

from __future__ import annotations

import importlib.metadata
import logging
import math

import common
import numpy as np


def job(args, images, number):
    """Build the network, warm it up, and return the function that simulates."""
    logging.disable(logging.WARNING)
    import snntorch
    import torch
    from snntorch import spikegen
    from torch_input import poisson_spikes

    torch.set_num_threads(1)
    torch.manual_seed(number)
    beta = math.exp(-common.DT / common.TAU)
    # Leaky adds its input undamped: mem = beta * mem + input.
    kernels = [kernel * (1.0 - beta) for kernel in common.scaled_kernels(args.weights)]
    linears, leakies = [], []
    for kernel in kernels:
        linear = torch.nn.Linear(*kernel.shape, bias=False)
        linear.weight.data = torch.tensor(kernel.T, dtype=torch.float32).contiguous()
        linears.append(linear)
        leakies.append(
            snntorch.Leaky(beta=beta, reset_mechanism="zero", surrogate_disable=True).eval()
        )
    images = torch.tensor(images, dtype=torch.float32)

    def spikes(batch, n_steps):
        if args.input == "events":
            return poisson_spikes(batch, n_steps)
        return spikegen.rate(batch * (common.MAX_RATE * common.DT), num_steps=n_steps)

    def steps(currents, membrane, leaky):
        """Run one layer's neurons through a chunk of steps."""
        out = []
        for current in currents:
            spike, membrane = leaky(current, membrane)
            out.append(spike)
        return torch.stack(out), membrane

    def simulate(images=images):
        counts = []
        with torch.inference_mode(), torch.autocast("cpu", enabled=args.bfloat16):
            for batch in images.split(args.batch_size):
                total = torch.zeros(len(batch), kernels[-1].shape[1])
                membranes = [torch.zeros(len(batch), kernel.shape[1]) for kernel in kernels]
                for start in range(0, args.steps, args.chunk):
                    # The layers have no feedback, so each can run through the whole chunk.
                    values = spikes(batch, min(args.chunk, args.steps - start))
                    for index, (linear, leaky) in enumerate(zip(linears, leakies, strict=True)):
                        values, membranes[index] = steps(linear(values), membranes[index], leaky)
                    total += values.sum(0)
                counts.append(total)
        return torch.cat(counts).numpy().astype(np.int64), 0.0

    simulate(images[: 2 * args.batch_size])
    return simulate


if __name__ == "__main__":
    args = common.arguments(__doc__, batch_size=125, **common.TORCH_OPTIONS)
    common.run(
        job,
        args,
        framework="snnTorch",
        version=importlib.metadata.version("snntorch"),
        notes=f"PyTorch {importlib.metadata.version('torch')}, chunks of {args.chunk} steps, input "
        f"{args.input}, {'bfloat16' if args.bfloat16 else 'float32'}",
    )
