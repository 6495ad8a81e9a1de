"""How fast the twin is beside the reference simulator, and where its time goes."""

from __future__ import annotations

import dataclasses
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import nengo
import numpy as np

from nengonet.layers.record import Layer, image_input
from nengonet.minibatch.acceleration import load_kernels
from nengonet.results.result import Result
from nengonet.run.parallel import n_processes, stop_processes
from nengonet.run.presentation import default_minibatch_size, present
from nengonet.run.simulators import minibatch_simulator, reference_simulator, reset_to_example

N_REPEATS = 3


@dataclasses.dataclass(frozen=True)
class Bench:
    """What `bench` measured, in one run on one machine: medians of three repeats."""

    plain_images_per_s: float | None
    reference_images_per_s: float
    twin_images_per_s: float | None
    twin_without_numba_images_per_s: float
    ratio: float | None
    ratio_without_numba: float
    ratio_to_plain: float | None
    identical_share: float
    compared_counts: int
    twin_spikes_per_s: float
    peak_memory_mib: float
    first_result_s: float
    operators: dict[str, float]
    n_images: int
    n_reference: int
    n_steps: int
    n_jobs: int
    minibatch_size: int
    machine: dict[str, str]

    def to_json(self) -> dict:
        """Return the figures as JSON's own types."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """Write the figures as a table."""

        def row(name: str, speed: float | None, ratio: float | None) -> str:
            if speed is None:
                return f"{name:<34}  Numba is not installed: pip install nengonet[fast]"
            return f"{name:<34}  {speed:10,.1f} images/s  {ratio:8,.1f} x"

        jobs = f"{self.n_jobs} job{'s' if self.n_jobs > 1 else ''}"
        plain = []
        if self.plain_images_per_s is not None:
            share = self.plain_images_per_s / self.reference_images_per_s
            plain = [row("nengo.Simulator, the forum's loop", self.plain_images_per_s, share)]
        lines = [
            ", ".join(f"{name} {value}" for name, value in self.machine.items()),
            f"{self.n_images} images (reference: {self.n_reference}), {self.n_steps} steps, "
            f"minibatches of {self.minibatch_size}, medians of {N_REPEATS}",
            *plain,
            row("nengo.Simulator, 1 job", self.reference_images_per_s, 1.0),
            row(f"twin, {jobs}", self.twin_images_per_s, self.ratio),
            row(
                f"twin without Numba, {jobs}",
                self.twin_without_numba_images_per_s,
                self.ratio_without_numba,
            ),
            f"identical spike counts: {self.identical_share:.6%} of {self.compared_counts:,}",
            f"twin: {self.twin_spikes_per_s:,.0f} spikes/s, peak memory "
            f"{self.peak_memory_mib:,.0f} MiB, first result after {self.first_result_s:.1f} s",
            "where the twin's time goes, in one process:",
        ]
        return "\n".join(
            lines + [f"  {share:6.1%}  {name}" for name, share in self.operators.items()]
        )


def bench(
    output: Layer,
    images: np.ndarray,
    *,
    presentation_time: float = 0.35,
    dt: float = 0.001,
    seed: int = 0,
    plain: Layer | None = None,
    n_reference: int = 100,
    n_jobs: int = -1,
    minibatch_size: int | None = None,
) -> Bench:
    """Time the same examples on the reference simulator and on the twin."""
    n_jobs = n_processes(n_jobs)
    run = {"presentation_time": presentation_time, "dt": dt, "seed": seed, "progress": False}
    network = output.network
    if minibatch_size is None:
        minibatch_size = default_minibatch_size(network)
    start = time.perf_counter()
    present(network, output, images[:1], **run)
    first_result = time.perf_counter() - start

    few = images[:n_reference]
    twin_run = run | {"n_jobs": n_jobs, "minibatch_size": minibatch_size}
    with_numba = load_kernels() is not None
    speeds: dict[str, list[float]] = {name: [] for name in ("plain", "reference", "twin", "slow")}
    same = compared = 0
    # In turn, so that other work on the machine disturbs them alike.
    for part in np.array_split(np.arange(len(few)), min(N_REPEATS, len(few))):
        if plain is not None:
            speeds["plain"].append(_plain_speed(plain, few[part], run))
        reference, speed = _timed(
            network, output, few[part], simulator="reference", examples=part, **run
        )
        speeds["reference"].append(speed)
        if with_numba:
            twin, speed = _warm(network, output, images, **twin_run)
            speeds["twin"].append(speed)
        with _without_numba():
            slow, speed = _warm(network, output, images, **twin_run)
            speeds["slow"].append(speed)
        fastest = twin if with_numba else slow
        for label, counts in reference.counts.items():
            same += int((counts == fastest.counts[label][part]).sum())
            compared += counts.size
    speed = {name: float(np.median(each)) if each else None for name, each in speeds.items()}
    fastest_speed = speed["twin"] if with_numba else speed["slow"]
    return Bench(
        plain_images_per_s=speed["plain"],
        reference_images_per_s=speed["reference"],
        twin_images_per_s=speed["twin"],
        twin_without_numba_images_per_s=speed["slow"],
        ratio=speed["twin"] / speed["reference"] if with_numba else None,
        ratio_without_numba=speed["slow"] / speed["reference"],
        ratio_to_plain=None if plain is None else fastest_speed / speed["plain"],
        identical_share=same / compared,
        compared_counts=compared,
        twin_spikes_per_s=sum(fastest.spikes_per_image().values()) * fastest_speed,
        peak_memory_mib=_peak_memory(),
        first_result_s=first_result,
        operators=_by_operator(output, images[:minibatch_size], fastest, seed, dt),
        n_images=len(images),
        n_reference=len(few),
        n_steps=fastest.n_steps,
        n_jobs=n_jobs,
        minibatch_size=minibatch_size,
        machine=_machine(),
    )


def _plain_speed(output: Layer, images: np.ndarray, run: dict) -> float:
    """Return the images per second of a reset, a run and a look at a probe for each image."""
    probe = nengo.Probe(output.output, add_to_container=False)
    source = image_input(output.network, output.output)
    with reference_simulator(output.network, run["dt"], run["seed"], probe=probe) as simulator:
        start = time.perf_counter()
        for image in images:
            reset_to_example(simulator, run["seed"], 0, {source: image})
            simulator.run(run["presentation_time"], progress_bar=False)
            simulator.data[probe].sum(axis=0)
        return len(images) / (time.perf_counter() - start)


def _timed(
    network: nengo.Network, output: Layer, images: np.ndarray, **run: object
) -> tuple[Result, float]:
    start = time.perf_counter()
    result = present(network, output, images, **run)
    return result, len(images) / (time.perf_counter() - start)


def _warm(
    network: nengo.Network, output: Layer, images: np.ndarray, **run: object
) -> tuple[Result, float]:
    """Time a second run: processes and memory are there, and Numba has compiled."""
    present(network, output, images[: run["n_jobs"] * run["minibatch_size"]], **run)
    return _timed(network, output, images, **run)


@contextmanager
def _without_numba() -> Iterator[None]:
    before = os.environ.get("NENGONET_NUMBA")
    os.environ["NENGONET_NUMBA"] = "0"
    # Worker processes took over the environment when they were started.
    stop_processes()
    try:
        yield
    finally:
        if before is None:
            del os.environ["NENGONET_NUMBA"]
        else:
            os.environ["NENGONET_NUMBA"] = before
        stop_processes()


def _peak_memory() -> float:
    """Return the largest resident size of this process and of its children, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return max(
        resource.getrusage(who).ru_maxrss / unit
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


def _by_operator(
    output: Layer, images: np.ndarray, result: Result, seed: int, dt: float
) -> dict[str, float]:
    layers = list(output.chain())
    with minibatch_simulator(output.network, len(images), dt, seed) as simulator:
        for layer in layers:
            simulator.record(layer.output, steps=layer is output)
        simulator.reset_to_examples(images.reshape(len(images), -1), seed=seed)
        times = simulator.profile_steps(result.n_steps)
    total = sum(times.values())
    return {name: spent / total for name, spent in sorted(times.items(), key=lambda item: -item[1])}


def _machine() -> dict[str, str]:
    return {
        "cores": str(os.cpu_count()),
        "machine": platform.machine(),
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "Nengo": nengo.__version__,
    }
