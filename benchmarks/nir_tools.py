r"""Run exported graphs in Norse, SpikingJelly, snnTorch and sinabs, and compare spike counts.

Use a separate environment, because the tools pin other versions than those that they need:

    python -m venv .venv-nir && . .venv-nir/bin/activate
    pip install . nir==1.0.8 torch==2.13.0 loguru pbr
    pip install --no-deps nirtorch==2.6 norse==1.1.0 spikingjelly==2.0.0 snntorch==1.0.0 \
        sinabs==3.1.3
    python benchmarks/nir_tools.py

For every network, tool and layer, the table has the spikes in Nengo and in the tool, the neurons
(of all images) whose counts differ, and the largest difference. Every graph is written to a file
and read back.
"""

import argparse
import contextlib
import functools
import io
import logging
import pathlib
import sys
import tempfile
import warnings

import nengo
import nir
import numpy as np
import torch

import nengonet as nn
from nengonet import studies

ZERO = {"voltage": nengo.dists.Choice([0.0])}
TIME = 0.35


def neurons_of(kind, amplitude):
    """Return LIF neurons that NIR expresses in full, or IF neurons with reset by subtraction."""
    if kind == "if":
        # In the neurons that it reads, sinabs keeps the voltage above minus the threshold.
        return nn.IntegrateAndFire(amplitude, min_voltage=-1, initial_state=ZERO)
    settings = {"tau_ref": 0.0, "min_voltage": -np.inf, "initial_state": ZERO}
    return nengo.LIF(amplitude=amplitude, **settings)


def forum(kind="lif", **options):
    """Return the layers of the repaired forum MLP, with other neurons unless kind is None."""
    options = {"neurons": "if"} | options if kind == "if" else options
    case = studies.get("forum-mnist").build("repaired", **options)
    layers = [layer for layer in case.output.upstream() if layer.ensemble is not None]
    for layer in layers if kind is not None else ():
        layer.ensemble.neuron_type = neurons_of(kind, layer.amplitude)
    return layers


def filtered(tau=0.005):
    """Return the MLP with low-pass filters on its connections."""
    layers = forum(input_kind="constant")
    for layer in layers[1:]:
        layer.connection.synapse = nengo.Lowpass(tau)
    return layers


def cnn():
    """Return a CNN with average pools and random weights."""
    rng = np.random.default_rng(0)
    settings = {"neuron_type": neurons_of("lif", 0.01), "gain": 4.0, "bias": 0.9}
    with nengo.Network(seed=0):
        pixels = nn.constant_input((28, 28))
        one = nn.conv2d(pixels, (rng.normal(size=(3, 3, 1, 8)), rng.normal(size=8) / 4),
                        padding="same", label="one", **settings)  # fmt: skip
        pool = nn.avg_pool2d(one)
        two = nn.conv2d(pool, rng.normal(size=(3, 3, 8, 16)) / 3, strides=2, padding="same",
                        label="two", **settings)  # fmt: skip
        pool = nn.avg_pool2d(two, padding="valid")
        out = nn.dense(pool, rng.normal(size=(pool.size, 10)) / 4, label="out", **settings)
    return [one, two, out]


def recurrent():
    """Return a layer whose neurons each inhibit all others, one step later."""
    layers = forum(input_kind="constant")
    neurons = layers[0].ensemble.neurons
    with layers[0].network:
        matrix = -0.002 * (1 - np.eye(128))
        nengo.Connection(neurons, neurons, transform=matrix, synapse=0)
    return layers


_IF = {"allow": ["reset", "min_voltage"]}
NETWORKS = {
    "mlp": (functools.partial(forum, input_kind="constant"), {}),
    "cnn": (cnn, {}),
    "filters": (filtered, {}),
    "recurrent": (recurrent, {}),
    "poisson": (forum, {}),
    "if": (functools.partial(forum, "if", input_kind="constant"), _IF),
    "forum-mnist": (functools.partial(forum, None), {"allow": ["tau_ref", "min_voltage"]}),
}  # fmt: skip


def steps_of(layers, images, dt, n_steps):
    """Return the input's output, (n_steps, n_images, n), in the graph's units."""
    node = layers[-1].upstream()[0].node
    process = node.output
    if hasattr(process, "scale"):
        return np.broadcast_to(images, (n_steps, *images.shape))
    found = np.empty((n_steps, len(images), images[0].size), np.float32)
    for example, image in enumerate(images):
        step = process.showing(image, example, seed=0).make_step((0,), (0,), dt, None, {})
        for number in range(n_steps):
            found[number, example] = step(0.0)
    return np.rint(found * dt / process.amplitude)


# --- the tools: each reads a graph


def _norse(graph, dt, n_images):
    import norse.torch

    return norse.torch.from_nir(graph, ignore_warnings=True, dt=dt)


def _spikingjelly(graph, dt, n_images):
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return import_from_nir(graph, dt=dt)


def _snntorch(graph, dt, n_images):
    from snntorch.import_nir import import_from_nir

    return import_from_nir(graph)


def _sinabs(graph, dt, n_images):
    from sinabs.nir import from_nir

    return from_nir(graph, batch_size=n_images)


# The tool, its step (snnTorch's is always 0.1 ms), whether Flatten counts the batch as a dimension,
# and the pools that it reads. sinabs takes a time constant for a number of steps, and its LIF
# neurons then have no memory. It therefore runs integrate-and-fire neurons only.
TOOLS = {
    "Norse": (_norse, 1e-3, True, "sum"),
    "SpikingJelly": (_spikingjelly, 1e-3, False, "average"),
    "snnTorch": (_snntorch, 1e-4, True, "average"),
    "sinabs": (_sinabs, 1e-3, False, "sum"),
}
ONLY = {"sinabs": "if"}


def counts_in(tool, graph, dt, steps, labels):
    """Return the counts of every layer in a tool, (n_images, ...), channels first."""
    make, _, counts_batch, _ = TOOLS[tool]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "graph.nir"
        nir.write(path, graph)
        graph = nir.read(path)
    for node in graph.nodes.values():
        if isinstance(node, nir.Flatten):
            node.start_dim += int(counts_batch)
    shape = tuple(map(int, next(iter(graph.inputs.values())).input_type["input"]))
    n_images = steps.shape[1]
    steps = steps.reshape(*steps.shape[:2], *shape)  # one channel, or flat
    found = {}

    def keep(label, module, arguments, output):
        output = output[0] if isinstance(output, tuple) else output
        found[label] = found.get(label, 0) + output.detach().double()

    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        model, state = make(graph, dt, n_images), None
        for name, module in model.named_modules():
            for label in labels:
                if name in (f"{label}_lif", f"{label}_if"):
                    module.register_forward_hook(functools.partial(keep, label))
        steps = torch.as_tensor(np.ascontiguousarray(steps), dtype=torch.float32)
        if tool == "sinabs":  # batch and time are one dimension
            model(steps.transpose(0, 1).reshape(-1, *shape))
        for step in steps if tool != "sinabs" else ():
            _, state = model(step, state)
    counts = {label: each.numpy() for label, each in found.items()}
    if tool == "sinabs":
        counts = {k: v.reshape(n_images, -1, *v.shape[1:]).sum(1) for k, v in counts.items()}
    return counts


def compared(name, tool, n_images, euler):
    """Return a row for each layer."""
    build, options = NETWORKS[name]
    _, dt, _, pools = TOOLS[tool]
    images, labels = nn.datasets.load("mnist", split="test", n_images=n_images)
    layers, n_steps = build(), round(TIME / dt)
    graph = nn.to_nir(layers[-1], dt=dt, euler=euler, pools=pools, **options)
    run = {"presentation_time": TIME, "dt": dt, "seed": 0, "progress": False}
    ours = nn.present(layers[-1].network, layers[-1], images, **run)
    steps = steps_of(layers, np.asarray(images), dt, n_steps)
    theirs = counts_in(tool, graph, dt, steps, [layer.label for layer in layers])
    rows = []
    for layer in layers:
        expected, found = ours.counts[layer.label], theirs[layer.label]
        found = np.moveaxis(found, 1, -1) if len(layer.shape) == 3 else found
        found = found.reshape(expected.shape)
        different = np.abs(found - expected)
        rows.append(
            (layer.label, expected.sum(), int(found.sum()), np.mean(different > 0), different.max())
        )
    right = [np.mean(np.argmax(each, axis=1) == labels) for each in (expected, found)]
    return rows, right


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--tool", choices=TOOLS, action="append")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print("network      tool          time constants  layer    Nengo     tool  differ  most  right")
    for name in options.network or NETWORKS:
        for tool in options.tool or TOOLS:
            if not name.startswith(ONLY.get(tool, "")):
                continue
            for euler in (True, False) if name != "if" else (False,):
                words = "Euler's" if euler else "Nengo's"
                head = f"{name:<12} {tool:<13} {words:<15}"
                try:
                    rows, right = compared(name, tool, options.images, euler)
                except Exception as error:
                    print(head, " ".join(str(error).split())[:90] or repr(error))
                    break
                for label, ours, theirs, share, most in rows:
                    last = f"{right[0]:.2f} {right[1]:.2f}" if label == rows[-1][0] else ""
                    print(
                        f"{head} {label:<7} {ours:>7} {theirs:>8} {share:7.2%} {most:5.0f}  {last}"
                    )
                sys.stdout.flush()


if __name__ == "__main__":
    main()
