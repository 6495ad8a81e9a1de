"""The convolutional jobs in Spyx, which uses JAX: compiled scans over the steps."""

from __future__ import annotations

import importlib.metadata
import math
import os

import common
import numpy as np

_CSNN = {"batch_size": 10, "scan": "network"}
_BENGALI = {"batch_size": 50, "scan": "network"}
BEST = {
    **dict.fromkeys(("csnn-avg", "csnn-max", "csnn-lif"), _CSNN),
    **dict.fromkeys(("bengali-posted", "bengali-repaired"), _BENGALI),
}
OPTIONS = {
    "chunk": {"type": int, "default": 100, "help": "steps of a layer at once"},
    "scan": {"choices": ["layers", "network"], "default": "layers", "help": "what a scan steps"},
    "instant": {"action": "store_true", "help": "max pools that look at each step alone"},
}


def job(args, images, number):
    """Build the network, compile it, and return the function that simulates."""
    if args.threads == 1:  # XLA starts a thread for every core that it may use
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    import jax
    import jax.numpy as jnp
    from flax import nnx
    from spyx import axn
    from spyx import nn as spyx

    the_job = common.load_job(args.job)

    def pool(layer):
        window, strides = (1, *layer["size"], 1), (1, *layer["strides"], 1)
        if layer["kind"] == "average":
            share = 1 / math.prod(layer["size"])
            add = jax.lax.add
            return lambda x: share * jax.lax.reduce_window(x, 0.0, add, window, strides, "VALID")
        most = jax.lax.max
        return lambda x: jax.lax.reduce_window(x, -jnp.inf, most, window, strides, "VALID")

    def product(layer, kernel, bias):
        kernel, bias = jnp.asarray(kernel), 0.0 if bias is None else jnp.asarray(bias)
        if layer["kind"] == "dense":
            return lambda x: x.reshape(len(x), -1) @ kernel + bias
        places = ("NHWC", "HWIO", "NHWC")
        geometry = tuple(layer["strides"]), "VALID"
        assert layer["padding"] == "valid"
        return lambda x: (
            jax.lax.conv_general_dilated(x, kernel, *geometry, dimension_numbers=places) + bias
        )

    class RunningMax(nnx.Module):
        """A max pool like nengonet's: its summed output is the largest sum of each window."""

        def __init__(self, layer):
            self.pool, self.shapes = pool(layer), (layer["shape_in"], layer["shape"])

        def __call__(self, x, state):
            sums, sent = state[0] + x, state[1]
            largest = self.pool(sums)
            return largest - sent, (sums, largest)

        def initial_state(self, batch_size):
            return tuple(jnp.zeros((batch_size, *shape)) for shape in self.shapes)

    def neurons_of(layer):
        """Return the neurons, and the share of a current that a step adds to their voltage."""
        spikes = axn.superspike()
        if the_job.several:
            spikes = axn.custom(fwd=lambda above: jax.nn.relu(jnp.ceil(above)))
        shape, tau = tuple(layer["shape"]), layer["neurons"].get("tau_rc")
        if tau is None:
            return spyx.IF(shape, activation=spikes), 1.0
        beta = math.exp(-the_job.dt / tau)
        return spyx.LIF(shape, beta=beta, activation=spikes, rngs=nnx.Rngs(0)), 1 - beta

    stages, firsts = [], []

    def add(stage, first=None):
        stages.append(stage)
        firsts.append(first)

    def scaled(share):
        return lambda x: share * x

    for layer, kernel, bias in common.of_unit_spikes(the_job):
        if layer["kind"] == "max" and not args.instant:
            add(RunningMax(layer))
            continue
        filtered = layer["synapse"] is not None
        plain = bias is None or filtered
        add(pool(layer) if kernel is None else product(layer, kernel, None if plain else bias))
        if filtered:
            beta = math.exp(-the_job.dt / layer["synapse"])
            add(scaled(1 - beta))
            add(spyx.LI(tuple(layer["shape"]), beta=beta, rngs=nnx.Rngs(0)))
            if bias is not None:
                add(lambda x, bias=bias: x + bias)
        if layer["neurons"] is not None:
            if layer["neurons"]["type"] == "SpikingRectifiedLinear":
                add(jax.nn.relu)
            neurons, share = neurons_of(layer)
            add(scaled(share))
            add(neurons, layer["voltage"].reshape(layer["shape"]))

    def states_of(n_images):
        return [
            (stage.initial_state(n_images) if first is None else jnp.stack([first] * n_images))
            if hasattr(stage, "initial_state")
            else None
            for stage, first in zip(stages, firsts, strict=True)
        ]

    def by_layer(current, states, n_steps):
        values, new = jnp.broadcast_to(current, (n_steps, *current.shape)), []
        for stage, state in zip(stages[1:], states[1:], strict=True):
            if state is None:
                flat = stage(values.reshape(-1, *values.shape[2:]))
                values = flat.reshape(*values.shape[:2], *flat.shape[1:])
            else:
                values, state = spyx.run(stage, values, state)
            new.append(state)
        return values, [None, *new]

    def by_step(current, states, n_steps):
        def step(states, _):
            values, new = current, [None]
            for stage, state in zip(stages[1:], states[1:], strict=True):
                values, state = (stage(values), None) if state is None else stage(values, state)
                new.append(state)
            return new, values

        states, values = jax.lax.scan(step, states, length=n_steps)
        return values, states

    run = jax.jit(by_layer if args.scan == "layers" else by_step, static_argnums=2)
    begin = jax.jit(stages[0])
    batches = [
        jnp.asarray(images[n : n + args.batch_size]) for n in range(0, len(images), args.batch_size)
    ]

    def simulate(batches=batches):
        found = []
        for batch in batches:
            states, current, outputs = states_of(len(batch)), begin(batch), []
            for start in range(0, the_job.n_steps, args.chunk):
                n_steps = min(args.chunk, the_job.n_steps - start)
                values, states = run(current, states, n_steps)
                outputs.append(np.asarray(values))
            found.append(np.concatenate(outputs).swapaxes(0, 1))
        return np.concatenate(found), 0.0

    simulate(list({len(batch): batch for batch in batches}.values()))
    return simulate


if __name__ == "__main__":
    args = common.job_arguments(__doc__, BEST, **OPTIONS)
    common.run(
        job,
        args,
        framework="Spyx",
        version=importlib.metadata.version("spyx"),
        notes=f"JAX {importlib.metadata.version('jax')}, float32, scans of {args.scan}, chunks of "
        f"{args.chunk} steps{', instant max pools' if args.instant else ''}",
    )
