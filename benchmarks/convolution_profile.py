"""Print where the time of the convolutional jobs goes, and the least possible time.

    python benchmarks/convolution_profile.py [--jobs csnn-avg bengali-repaired] [--images 10]

For each stage, for one image in one step, the table has its microseconds; the spikes that it
outputs; the additions for incoming spikes (one for each weight that a spike reaches); the
multiply-adds of the dense product that could replace them; the numbers that are updated (neurons
and filters); and the exponentials. A spike of a LIF neuron needs two exponentials: for its time,
and for the rest of its step. In vector instructions of ``width`` numbers, the least time is

    min(additions / width * addition, products * product)
    + updates / width * update + exponentials * exponential

The times of single instructions are measured here: parts of contiguous rows that come from the
second cache; a large product in BLAS; integrate-and-fire neurons in a plain loop. The product of a
constant input is computed once for all steps, and is left out here. So is the work of pools to
pass spikes on. Neurons that cannot spike under a constant current are counted, though
`nengonet.present` does not step them. "other" is work that is done once, or outside the stages. The
images come from the folder NENGONET_DATA.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys

import event_kernels
import nengo
import numba
import numpy as np
from llvmlite import binding

import nengonet as nn
from nengonet.minibatch.kernels import piece
from nengonet.minibatch.one_thread import on_one_blas_thread
from nengonet.neurons import elementary
from nengonet.results.operations import ann_multiply_adds, synapses_of

sys.path.append(str(pathlib.Path(__file__).parent / "peers"))
import jobs

REPEATS = 5
set_expm1, set_log1p = (piece(each, []) for each in (elementary.set_expm1, elementary.set_log1p))


@dataclasses.dataclass
class Stage:
    """The time and the work of a layer, for one image in one step."""

    microseconds: float = 0.0
    spikes: float = 0.0
    additions: float = 0.0
    products: float = 0.0
    updates: float = 0.0
    exponentials: float = 0.0


@dataclasses.dataclass
class Machine:
    """Nanoseconds of vector instructions, on ``width`` numbers, and of single operations."""

    width: int
    addition: float
    update: float
    product: float
    exponential: float

    def at_least(self, stage: Stage) -> float:
        """Return the least microseconds that a stage can take."""
        sums = min(
            stage.additions / self.width * self.addition,
            stage.products * self.product,
        )
        updates = stage.updates / self.width * self.update
        return 1e-3 * (sums + updates + stage.exponentials * self.exponential)


@numba.njit(error_model="numpy")
def update(current, voltage, spiked):
    """Step integrate-and-fire neurons with a threshold of 1 and at most one spike each."""
    one = voltage.dtype.type(1)
    for i in range(len(voltage)):
        after = voltage[i] + current[i]
        spiked[i] = after >= one
        voltage[i] = after - one if after >= one else after


@numba.njit(error_model="numpy")
def exponentials(numbers, results):
    """Compute the logarithms and exponentials of LIF neurons, as their steps do."""
    for i in range(len(numbers)):
        results[i] = numbers[i]
    set_log1p(results, len(numbers))
    set_expm1(results, len(numbers))


def measured_machine(dtype: np.dtype) -> Machine:
    """Measure the time of instructions on one core."""
    # As many numbers as a register holds.
    features = binding.get_host_cpu_features()
    width = (64 if features.get("avx512f") else 32 if features.get("avx") else 16) // dtype.itemsize
    # Rows as long as the CSNN's, from a kernel that fills a part of the second cache.
    row, n_rows = 256 // dtype.itemsize, 2**17 // 256
    kernel = event_kernels.from_cache_line(np.zeros((n_rows, row), dtype))
    adding = nanoseconds(event_kernels.add_near, 20 * n_rows, kernel, kernel[0].copy())
    n = 2**14
    current, voltage, spiked = np.full(n, 0.1, dtype), np.zeros(n, dtype), np.zeros(n, np.uint8)
    updating = nanoseconds(update, current, voltage, spiked)
    values, weights = np.zeros((300, 2304), dtype), np.zeros((2304, 256), dtype)
    multiplying = on_one_blas_thread(nanoseconds)(np.matmul, values, weights)
    return Machine(
        width=width,
        addition=adding / (20 * n_rows * row / width),
        update=updating / (n / width),
        product=multiplying / (values.size * weights.shape[1]),
        exponential=nanoseconds(exponentials, current, voltage) / (2 * n),
    )


def nanoseconds(function, *given) -> float:
    """Return the least time of a call."""
    return 1e3 * event_kernels.N_STEPS * event_kernels.microseconds(function, *given)


def profiled(
    output: nn.Layer, images: np.ndarray, n_steps: int, precision: int = 32
) -> tuple[dict[str, Stage], tuple[str, ...]]:
    """Return the stages of a run by layer, and the layers whose products were dense at the end."""
    layers, seed = output.upstream(), int(output.network.seed or 0)
    stages = {layer.label: Stage(updates=n_updates(layer)) for layer in layers}
    a_step = 1 / (len(images) * n_steps)
    setting = {"minibatch_size": len(images), "precision": precision, "progress_bar": False}
    with nn.MinibatchSimulator(output.network, seed=seed, **setting) as simulator:
        records = {layer.label: simulator.record(layer.output) for layer in layers}
        simulator.reset_to_examples(images.reshape(len(images), -1))
        simulator.run_steps(n_steps)
        dense, counts = simulator.report().dense, {}
        for layer in layers:
            if layer.spiking:
                height = layer.amplitude / simulator.dt
                counts[layer.label] = np.abs(np.rint(records[layer.label].total / height))
                stage = stages[layer.label]
                stage.spikes = counts[layer.label].sum() * a_step
                if isinstance(layer.neuron_type, nengo.LIF):
                    stage.exponentials = 2 * stage.spikes
        signals = {layer.label: simulator.model.sig[layer.output].values() for layer in layers}
        label_of = {each.name: label for label, found in signals.items() for each in found if each}
        runs = []
        for _ in range(REPEATS):
            simulator.reset_to_examples()
            runs.append(simulator.profile_steps(n_steps))
    for name in runs[0]:
        label = label_of.get(name.removesuffix(", in stretches"), "other")
        taken = 1e6 * a_step * min(times.get(name, 0) for times in runs)
        stages.setdefault(label, Stage()).microseconds += taken
    products = ann_multiply_adds(output)
    for each in synapses_of(output):
        stage = stages[each.label]
        stage.additions += (counts[each.source] @ each.per_spike).sum() * a_step
        stage.products = products[each.label]
    return stages, dense


def n_updates(layer: nn.Layer) -> int:
    """Return the number of a layer's values that change in every step: neurons and filters."""
    filters = sum(each.size_out for each in layer.connections if each.synapse is not None)
    return filters + (layer.size if layer.ensemble is not None else 0)


def table(name: str, stages: dict[str, Stage], machine: Machine) -> None:
    """Print a job's table in Markdown."""
    least = {label: machine.at_least(stage) for label, stage in stages.items()}
    total = {
        field.name: sum(getattr(stage, field.name) for stage in stages.values())
        for field in dataclasses.fields(Stage)
    }
    names = "us", "spikes", "additions", "products", "updates", "exponentials", "at least, us"
    print(f"| {name} | {' | '.join(names)} | times |")
    print("|---" * 9 + "|")
    for label, stage in (*stages.items(), ("**all**", Stage(**total))):
        us, *numbers = dataclasses.astuple(stage)
        if us < 0.05 and not any(numbers):
            continue  # an input that is there before the first step
        bound = least.get(label, sum(least.values()))
        cells = [f"{us:.1f}", *(f"{number:,.0f}" if number else "" for number in numbers)]
        cells += [f"{bound:.1f}", f"{us / bound:.1f}"] if bound >= 0.05 else ["", ""]
        print(f"| {label} | {' | '.join(cells)} |")


def main() -> None:
    """Print the machine's constants, and a table for every job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", nargs="+", choices=list(jobs.JOBS), default=list(jobs.JOBS))
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--precision", type=int, choices=[32, 64], default=32)
    parser.add_argument("--data", help="folder or .npz file  [default: the folder NENGONET_DATA]")
    args = parser.parse_args()
    machine = measured_machine(np.dtype(f"float{args.precision}"))
    print(
        f"A vector of {machine.width} numbers: {machine.addition:.2f} ns to add a part of a row, "
        f"{machine.update:.2f} ns to update neurons; {1e3 * machine.product:.1f} ps for a "
        f"multiply-add of a matrix product, {machine.exponential:.1f} ns for an exponential."
    )
    for name in args.jobs:
        case = jobs.build(name, args.data)
        images, _ = jobs.images_of(name, args.images, args.data)
        n_steps = round(case.presentation_time / case.dt)
        stages, dense = profiled(case.output, images, n_steps, args.precision)
        print()
        table(name, stages, machine)
        print(f"\nSpikes that are multiplied densely: {', '.join(dense) or 'none'}.")


if __name__ == "__main__":
    main()
