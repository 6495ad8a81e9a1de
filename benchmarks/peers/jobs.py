"""Write the convolutional jobs for the peers, each with all its data in one .npz file.

    python benchmarks/peers/jobs.py FOLDER [--jobs csnn-avg bengali-repaired] [--images 100]

All content comes from the Nengo objects that `ours.py` runs, and from nothing else. A peer reads
the file with `common.load_job`, in an environment with NumPy alone. The images come from the folder
NENGONET_DATA, or from the folder or file of ``--data``.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib

import nengo
import numpy as np

import nengonet as nn
from nengonet import studies
from nengonet.layers.pools import AveragePool, MaxPool
from nengonet.studies import cifar_csnn, shared
from nengonet.studies.case import Case, Given

CONSTANTS = ("amplitude", "tau_rc", "tau_ref", "min_voltage")
STEPS = {"csnn": 100, "bengali": 30}


def csnn(data: str | None, pool: str) -> Case:
    """Build the repaired CSNN: integrate-and-fire neurons, with scales from training images.

    Max pools are as in `cifar_csnn.build`; average pools have their own scales.
    """
    source = Given(cifar_csnn.DATA, data=data)
    weights = source.load_weights(cifar_csnn.WEIGHTS)
    layers = cifar_csnn.with_pools(cifar_csnn.cnn_layers(weights), pool)
    sample, neuron_type = source.images("train", cifar_csnn.N_SAMPLE)[0], nn.IntegrateAndFire()
    tuned = nn.tune(layers, sample, neuron_type, cifar_csnn.FULL_SCALE_RATE)
    with nengo.Network(seed=0):
        layer = nn.constant_input(cifar_csnn.DATA.shape)
        for each in layers[:-1]:
            if isinstance(each, nn.LayerWeights):
                layer = shared.add(layer, each, neuron_type, **tuned[each.name])
            elif pool == "max":
                layer = nn.max_pool2d(layer, label=each.name)
            else:
                layer = nn.avg_pool2d(layer, label=each.name)
        output = nn.dense(layer, layers[-1], None)
    steps = STEPS["csnn"]
    return Case(f"csnn-{pool}", output, layers, weights.path, steps / 1000, readout="mean")


def csnn_lif(data: str | None) -> Case:
    """Build the CSNN of the paper: LIF neurons, average pools, low-pass synapses of 5 ms."""
    time = {"presentation_time": STEPS["csnn"] / 1000}
    return studies.get("cifar-csnn").build(neurons="lif", synapse=0.005, data=data, **time)


def bengali(data: str | None, variant: str) -> Case:
    """Build the Bengali network, as posted or repaired."""
    return studies.get("bengali").build(variant, n_steps=STEPS["bengali"], data=data)


# The study, the function that builds its network, and whether a neuron spikes more than once in a
# step.
JOBS = {
    "csnn-avg": ("cifar-csnn", functools.partial(csnn, pool="average"), False),
    "csnn-max": ("cifar-csnn", functools.partial(csnn, pool="max"), False),
    "csnn-lif": ("cifar-csnn", csnn_lif, False),
    "bengali-posted": ("bengali", functools.partial(bengali, variant="posted"), True),
    "bengali-repaired": ("bengali", functools.partial(bengali, variant="repaired"), True),
}
# The paper's accuracy is the mean of all steps' accuracies; `nengonet.present` has no such readout.
READOUTS = {"csnn-lif": "all_steps"}


def build(name: str, data: str | None = None) -> Case:
    """Build the network of a job."""
    return JOBS[name][1](data)


def images_of(name: str, n_images: int, data: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Load the first test images of a job, in [0, 1], and their labels."""
    return studies.get(JOBS[name][0]).data.load("test", n_images, data)


def layers_of(output: nn.Layer) -> list[dict]:
    """Return the layers as read from their Nengo objects, from first to last, without the input.

    Each has ``kind`` (conv, dense, average, max), ``label``, ``shape_in`` and ``shape`` (rows,
    columns, channels), and ``synapse``: the time constant of a low-pass filter on the input, in
    seconds, or None. Pools have ``size``, ``strides`` and ``padding``; convolutions have the latter
    two. Layers with weights have ``kernel`` (rows, columns, channels, filters) or (inputs, outputs)
    and ``bias``, one for each output or filter. Layers with neurons have ``neurons`` (``type`` and
    constants), ``gain``, and the initial ``voltage`` of each neuron. The current is
    ``gain * (kernel @ inputs) + bias``, and a spike outputs ``amplitude / dt`` for a step.
    """
    model = nengo.builder.Model(dt=0.001)
    model.build(output.network)
    source, *layers = output.upstream()
    found, shape = [], nn.ann.unweighted.with_channels(source.shape, 2)
    for layer in layers:
        (connection,), process = layer.connections, getattr(layer.node, "output", None)
        transform, synapse = connection.transform, connection.synapse
        each = {"label": layer.label, "shape_in": shape, "shape": layer.shape, "neurons": None}
        each["synapse"] = None if synapse is None else synapse.tau
        if isinstance(transform, AveragePool):
            size, strides, padding = transform.pool.geometry()
            each |= {"kind": "average", "size": size, "strides": strides, "padding": padding}
        elif isinstance(process, MaxPool):
            each |= {"kind": "max", "size": process.pool_size, "pool": process.kind}
            each |= {"strides": process.strides, "padding": process.padding}
        elif isinstance(transform, nengo.Convolution):
            each |= {"kind": "conv", "strides": transform.strides, "padding": transform.padding}
            each["kernel"] = np.asarray(transform.init)
        else:
            each |= {"kind": "dense", "kernel": np.transpose(transform.init)}
        if layer.ensemble is not None:
            neuron_type, ensemble = layer.neuron_type, layer.ensemble
            constants = filter(functools.partial(hasattr, neuron_type), CONSTANTS)
            each["neurons"] = {key: getattr(neuron_type, key) for key in constants}
            each["neurons"]["type"] = type(neuron_type).__name__
            each["gain"] = the_same(ensemble.gain)
            each["bias"] = by_channel(ensemble.bias, layer.shape)
            each["voltage"] = model.sig[ensemble.neurons]["voltage"].initial_value
        elif "kernel" in each:
            bias = np.zeros(layer.size) if process is None else process.bias
            each |= {"gain": 1.0, "bias": by_channel(bias, layer.shape)}
        found.append(each)
        shape = layer.shape
    return found


def the_same(values: np.ndarray) -> float:
    """Return the value that all neurons share."""
    assert np.all(values == values[0])
    return float(values[0])


def by_channel(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the value that all neurons of a channel share, for each channel."""
    values = np.reshape(values, (-1, shape[-1]))
    assert np.all(values == values[0])
    return values[0]


def write(
    path: pathlib.Path, name: str, case: Case, images: np.ndarray, labels: np.ndarray
) -> None:
    """Write the file of a job, for `common.load_job`."""
    arrays, layers = {}, layers_of(case.output)
    for index, layer in enumerate(layers):
        for key in ("kernel", "bias", "voltage"):
            if key in layer:
                arrays[f"{index}/{key}"] = np.asarray(layer.pop(key), np.float32)
    ann = shared.ann_accuracy(case.layers, images, labels).value
    job = {
        "name": name,
        "dt": case.dt,
        "n_steps": round(case.presentation_time / case.dt),
        "readout": READOUTS.get(name, case.readout),
        "several": JOBS[name][2],
        "ann_accuracy": ann,
        "layers": layers,
    }
    shape = nn.ann.unweighted.with_channels(images.shape[1:], 2)
    arrays["images"] = np.asarray(images, np.float32).reshape(-1, *shape)
    np.savez(path, job=json.dumps(job), labels=labels, **arrays)


def main() -> None:
    """Write the requested jobs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--data", help="folder or .npz file  [default: the folder NENGONET_DATA]")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.jobs:
        path = args.folder / f"{name}.npz"
        write(path, name, build(name, args.data), *images_of(name, args.images, args.data))
        print(path)


if __name__ == "__main__":
    main()
