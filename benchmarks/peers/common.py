"""What the scripts of this folder share: data and scales, two processes, the JSON line.

It runs in the environments of the peers, so it needs only NumPy and h5py.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from collections.abc import Callable

import h5py
import numpy as np

DT = 0.001  # seconds
MAX_RATE = 255.0  # Hz, of a white pixel
TAU = 0.020  # seconds

# As in the repaired network of nengonet: a layer's full scale (99.9th percentile of the ANN's
# activations on 500 training images; hidden, output) fires at 250 Hz.
FULL_SCALE = (7.90003, 20.19899)
FULL_SCALE_RATE = 250.0

# What both scripts on PyTorch take beside.
TORCH_OPTIONS = {
    "chunk": {"type": int, "default": 50, "help": "steps for which the input is made at once"},
    "input": {"choices": ["events", "encoder"], "default": "events"},
    "bfloat16": {"action": "store_true", "help": "mixed precision (torch.autocast)"},
}


def arguments(description: str, *, batch_size: int, **options: dict) -> argparse.Namespace:
    """Read the arguments that all scripts take, and a script's own.

    Parameters
    ----------
    description : str
    batch_size : int
        The one that was fastest when the script was tuned.
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


def load_images(path: str, n_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first images, flat and in [0, 1], and their labels."""
    with np.load(path) as data:
        images, labels = data["x_test"][:n_images], data["y_test"][:n_images]
    if len(images) < n_images:
        raise SystemExit(f"{path}: expected {n_images} images, found {len(images)}")
    return images.reshape(n_images, -1) / 255.0, labels


def load_kernels(path: str) -> list[np.ndarray]:
    """Return the kernels (784, 128) and (128, 10)."""
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
        Of the framework's neuron.
    """
    # The constant current at which an LIF neuron fires at FULL_SCALE_RATE.
    current = 1.0 / -math.expm1((refractory - 1.0 / FULL_SCALE_RATE) / TAU)
    # The mean output of an input spike is the pixel; that of a hidden spike the activation.
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
    """Run the job in processes of its own, all at once, and print what came out.

    Parameters
    ----------
    job : callable
        ``job(args, images, number)`` prepares the process of that number (imports, builds,
        compiles, warms up) and returns a function. That one simulates, and returns the spike
        counts (n_images, 10), and the seconds that are to be subtracted because they are no
        simulation. It must be importable: a function at the top of a module.
    args : Namespace
    framework, version, notes : str
    """
    images, labels = load_images(args.data, args.images)
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
    counts = np.concatenate([parts[number][0] for number in range(args.processes)])
    # From the first start to the last end; the clock is the same in all processes.
    starts, ends = zip(*(part[1:] for part in parts.values()), strict=True)
    report(
        args,
        framework=framework,
        version=version,
        seconds=max(ends) - min(starts),
        accuracy=float((counts.argmax(axis=1) == labels).mean()),
        notes=f"{notes}; {counts.sum() / args.images:.0f} output spikes per image",
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
    start = time.monotonic()
    counts, other = simulate()
    results.put((number, (counts, start, time.monotonic() - other)))


def report(
    args: argparse.Namespace,
    *,
    framework: str,
    version: str,
    seconds: float,
    accuracy: float,
    notes: str,
) -> None:
    """Print the result, as JSON or as a line of text."""
    result = {
        "framework": framework,
        "version": version,
        "images_per_s": round(args.images / seconds, 1),
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
            f"{framework} {version}: {result['images_per_s']} images/s, accuracy {accuracy} "
            f"({args.images} images, {args.steps} steps, {args.processes} processes, batch "
            f"{args.batch_size}; {notes})"
        )
