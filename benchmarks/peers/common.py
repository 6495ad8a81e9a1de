"""Code that the scripts of this folder share: data and scales, processes, the JSON line.

It runs in the environments of the peers, so it needs only NumPy. The MLP's weights also need h5py.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import multiprocessing
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

DT = 0.001  # seconds
MAX_RATE = 255.0  # Hz, of a white pixel
TAU = 0.020  # seconds

# As in the repaired network of nengonet: a layer's full scale (99.9th percentile of the ANN's
# activations on 500 training images; hidden, output) fires at 250 Hz.
FULL_SCALE = (7.90003, 20.19899)
FULL_SCALE_RATE = 250.0

# Further arguments of both scripts on PyTorch.
TORCH_OPTIONS = {
    "chunk": {"type": int, "default": 50, "help": "steps for which the input is made at once"},
    "input": {"choices": ["events", "encoder"], "default": "events"},
    "bfloat16": {"action": "store_true", "help": "mixed precision (torch.autocast)"},
}


def arguments(description: str, *, batch_size: int, **options: dict) -> argparse.Namespace:
    """Read the arguments of all scripts, and a script's own arguments.

    Parameters
    ----------
    description : str
    batch_size : int
        The batch size that was fastest when the script was tuned.
    **options : dict
        Further arguments, as for ``add_argument``.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--weights", required=True, help="Keras 2 HDF5 file of the MLP")
    parser.add_argument("--data", required=True, help=".npz file with x_test and y_test")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=350)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=batch_size)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    for name, option in options.items():
        parser.add_argument("--" + name.replace("_", "-"), **option)
    return parser.parse_args()


def job_arguments(
    description: str, best: Mapping[str, Mapping[str, object]], **options: dict
) -> argparse.Namespace:
    """Read the arguments of a script that runs the convolutional jobs.

    Parameters
    ----------
    description : str
    best : dict
        The settings that were fastest when the script was tuned, by job: ``batch_size``, and any
        of ``threads`` and the script's own options that differ from their defaults.
    **options : dict
        Further arguments, as for ``add_argument``.

    Returns
    -------
    Namespace
        Arguments with ``processes``, and with ``steps`` of the job.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("job", help=".npz file that jobs.py has written")
    parser.add_argument("--images", type=int, help="the first of the job's  [default: all]")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of a process")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    for name, option in options.items():
        parser.add_argument("--" + name.replace("_", "-"), **option)
    job = load_job(parser.parse_args().job)
    parser.set_defaults(**best.get(job.name, {}))
    args = parser.parse_args()
    args.images = len(job.images) if args.images is None else args.images
    args.processes, args.steps = max(args.cores // args.threads, 1), job.n_steps
    return args


@dataclasses.dataclass(frozen=True)
class Job:
    """A convolutional job: a network, and the images to show.

    Attributes
    ----------
    name : str
    dt : float, in seconds
    n_steps : int
        Number of steps of an image, from the reset state.
    readout : {"mean", "last_step", "all_steps"}
        See `accuracy`.
    several : bool
        Whether neurons can spike more than once in a step.
    ann_accuracy : float
        Accuracy on the images of the ANN whose weights are used.
    layers : list of dict
        From first to last: see `jobs.layers_of`.
    images : (n_images, rows, columns, channels) array, in [0, 1]
        Each a constant input.
    labels : (n_images,) array
    """

    name: str
    dt: float
    n_steps: int
    readout: str
    several: bool
    ann_accuracy: float
    layers: list[dict]
    images: np.ndarray
    labels: np.ndarray


def load_job(path: str | os.PathLike) -> Job:
    """Read a job that `jobs.py` has written."""
    with np.load(path) as data:
        job = json.loads(str(data["job"]))
        for index, layer in enumerate(job["layers"]):
            for key in ("kernel", "bias", "voltage"):
                if f"{index}/{key}" in data:
                    layer[key] = data[f"{index}/{key}"]
        return Job(**job, images=data["images"], labels=data["labels"])


def of_unit_spikes(
    job: Job, *, refractory: bool = False
) -> Iterator[tuple[dict, np.ndarray | None, np.ndarray | None]]:
    """Yield each layer with its kernel and bias for spikes of height 1 and thresholds of 1.

    For an integrate-and-fire neuron, a step adds ``kernel @ inputs + bias`` to the voltage. For an
    LIF neuron, it is the current (a step adds ``(current - voltage) * -expm1(-dt / tau_rc)``). For
    the last layer, it is the output. Pools have neither kernel nor bias.

    Parameters
    ----------
    job : Job
    refractory : bool
        Whether the framework's LIF neurons have a refractory time. Without one, a neuron under a
        strong current fires in every step, not once in every ``tau_ref``. Its spikes then count
        less, so that its largest output stays the same.
    """
    height = 1.0  # of what comes in: of pixels, and then of spikes
    for layer in job.layers:
        if "kernel" not in layer:
            yield layer, None, None
            continue
        neurons = layer["neurons"]
        kernel, bias = layer["kernel"] * (layer["gain"] * height), layer["bias"]
        if neurons is not None:
            height = neurons["amplitude"] / job.dt
            if "tau_ref" not in neurons:
                kernel, bias = kernel * job.dt, bias * job.dt
            elif not refractory:
                height *= job.dt / max(job.dt, neurons["tau_ref"])
        yield layer, kernel.astype(np.float32), bias.astype(np.float32)


def accuracy(outputs: np.ndarray, labels: np.ndarray, readout: str = "mean") -> float:
    """Return the share of right answers: of the mean output, the last step, or all steps.

    Parameters
    ----------
    outputs : (n_images, n_steps, n_classes) array
    labels : (n_images,) array
    readout : {"mean", "last_step", "all_steps"}
    """
    if readout == "mean":
        outputs = outputs.mean(axis=1, keepdims=True)
    elif readout == "last_step":
        outputs = outputs[:, -1:]
    return float((outputs.argmax(axis=-1) == labels[:, np.newaxis]).mean())


def cpu_seconds() -> float:
    """Return the processor time of this process and of those that it started (Linux)."""
    parents, seconds, tick = {}, {}, os.sysconf("SC_CLK_TCK")
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:  # it has ended
            continue
        number = int(path.parent.name)
        parents[number], seconds[number] = (
            int(fields[1]),
            (int(fields[11]) + int(fields[12])) / tick,
        )
    family = {os.getpid()}
    while len(more := family | {each for each in parents if parents[each] in family}) > len(family):
        family = more
    return sum(seconds.get(each, 0.0) for each in family)


def load_images(path: str, n_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first images, flat and in [0, 1], and their labels."""
    with np.load(path) as data:
        images, labels = data["x_test"][:n_images], data["y_test"][:n_images]
    if len(images) < n_images:
        raise SystemExit(f"{path}: expected {n_images} images, found {len(images)}")
    return images.reshape(n_images, -1) / 255.0, labels


def load_kernels(path: str) -> list[np.ndarray]:
    """Return the kernels (784, 128) and (128, 10)."""
    import h5py

    with h5py.File(path) as file:
        return [
            np.array(file[f"model_weights/{name}/{name}/kernel:0"]) for name in ("hidden", "output")
        ]


def scaled_kernels(path: str, *, refractory: float = 0.0) -> list[np.ndarray]:
    """Return kernels that turn spikes of height 1 into currents of LIF neurons with threshold 1.

    Parameters
    ----------
    path : str
    refractory : float, in seconds
        Refractory time of the framework's neuron.
    """
    # The constant current at which an LIF neuron fires at FULL_SCALE_RATE.
    current = 1.0 / -math.expm1((refractory - 1.0 / FULL_SCALE_RATE) / TAU)
    # The mean output of input spikes is the pixel, and that of hidden spikes is the activation.
    areas = (1.0 / MAX_RATE, FULL_SCALE[0] / FULL_SCALE_RATE)
    return [
        kernel * (current / scale) * (area / DT)
        for kernel, scale, area in zip(load_kernels(path), FULL_SCALE, areas, strict=True)
    ]


def run(
    job: Callable[[argparse.Namespace, np.ndarray, int], Callable[[], tuple[np.ndarray, float]]],
    args: argparse.Namespace,
    *,
    framework: str,
    version: str,
    notes: str,
) -> None:
    """Run the job in separate processes, all at once, and print the result.

    Parameters
    ----------
    job : callable
        ``job(args, images, number)`` prepares the process of that number (imports, builds,
        compiles, warms up) and returns a function that simulates. That function returns two values:
        the spike counts (n_images, 10), or the outputs (n_images, n_steps, n_classes) of a
        convolutional job; and the seconds to subtract because they are not simulation. ``job`` must
        be importable, as a function at the top of a module.
    args : Namespace
    framework, version, notes : str
    """
    convolutional = load_job(args.job) if hasattr(args, "job") else None
    if convolutional is None:
        images, labels = load_images(args.data, args.images)
    else:
        images, labels = convolutional.images[: args.images], convolutional.labels[: args.images]
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(args.processes), context.Queue()
    shares = np.array_split(np.arange(args.images), args.processes)
    processes = [
        context.Process(target=_process, args=(job, args, images[share], number, ready, results))
        for number, share in enumerate(shares)
    ]
    for process in processes:
        process.start()
    parts = dict(_received(processes, results) for _ in processes)
    for process in processes:
        process.join()
    found = np.concatenate([parts[number][0] for number in range(args.processes)])
    # From the first start to the last end. The clock is the same in all processes.
    starts, ends, cpu = zip(*(part[1:] for part in parts.values()), strict=True)
    if convolutional is None:
        share = accuracy(found[:, np.newaxis], labels)
        notes = f"{notes}; {found.sum() / args.images:.0f} output spikes per image"
    else:
        share = accuracy(found, labels, convolutional.readout)
    report(
        args,
        framework=framework,
        version=version,
        seconds=max(ends) - min(starts),
        cpu=sum(cpu),
        accuracy=share,
        notes=notes,
    )


def _received(processes: list, results: object) -> tuple:
    while results.empty():
        if any(process.exitcode for process in processes):
            for process in processes:
                process.terminate()
            raise SystemExit("a process failed; its error is above")
        time.sleep(0.01)
    return results.get()


def _process(job, args, images, number, ready, results):
    simulate = job(args, images, number)
    ready.wait()
    start, cpu = time.monotonic(), cpu_seconds()
    found, other = simulate()
    results.put((number, (found, start, time.monotonic() - other, cpu_seconds() - cpu)))


def report(
    args: argparse.Namespace,
    *,
    framework: str,
    version: str,
    seconds: float,
    cpu: float,
    accuracy: float,
    notes: str,
) -> None:
    """Print the result, as JSON or as a line of text."""
    result = {
        "framework": framework,
        "version": version,
        "images_per_s": round(args.images / seconds, 1),
        "cpu_s_per_image": round(cpu / args.images, 5),
        "accuracy": accuracy,
        "n_images": args.images,
        "n_steps": args.steps,
        "processes": args.processes,
        "batch_size": args.batch_size,
        "notes": notes,
    }
    if args.json:
        print(json.dumps(result))
    else:
        print(
            f"{framework} {version}: {result['images_per_s']} images/s, "
            f"{1000 * result['cpu_s_per_image']:.1f} ms of CPU an image, accuracy {accuracy:.4f} "
            f"({args.images} images, {args.steps} steps, {args.processes} processes, batch "
            f"{args.batch_size}; {notes})"
        )
