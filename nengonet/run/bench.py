"""Compare the minibatch simulator's speed with the reference, and show where its time goes."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from unittest import mock

import nengo
import numpy as np

from nengonet.checks import as_seed, positive_integer
from nengonet.layers.record import Layer, image_input
from nengonet.minibatch.acceleration import load_kernels
from nengonet.results.result import Result
from nengonet.run.parallel import n_processes, stop_processes
from nengonet.run.presentation import default_minibatch_size, present
from nengonet.run.simulators import minibatch_simulator, reference_simulator, reset_to_example

N_REPEATS = 3
_DT = 0.001
# Ways to simulate, by the prefix of their speed in the report. The value names their ratio there.
_WAYS = {
    "plain": ("nengo.Simulator, the forum's loop", None),
    "reference": ("nengo.Simulator, 1 job", None),
    "twin": ("MinibatchSimulator, {}", "ratio"),
    "twin_without_numba": ("MinibatchSimulator without Numba, {}", "ratio_without_numba"),
}


def as_text(found: dict) -> str:
    """Return the results of `bench` as a table."""
    jobs = f"{found['n_jobs']} job{'s' if found['n_jobs'] > 1 else ''}"
    memory = found["peak_memory_mib"]
    lines = [
        ", ".join(f"{name} {value}" for name, value in found["machine"].items()),
        f"{found['n_images']} images (reference: {found['n_reference']}), {found['n_steps']} "
        f"steps, minibatches of {found['minibatch_size']}, medians of {N_REPEATS}",
    ]
    for way, (name, _) in _WAYS.items():
        if speed := found[f"{way}_images_per_s"]:
            ratio = speed / found["reference_images_per_s"]
            lines.append(f"{name.format(jobs):<40}  {speed:10,.1f} images/s  {ratio:8,.1f} x")
    if found["ratio"] is None:
        lines.append('Numba is not installed: pip install "nengonet[fast]"')
    lines += [
        f"identical spike counts: {found['identical_share']:.6%} of {found['compared_counts']:,}",
        f"{found['twin_spikes_per_s']:,.0f} spikes/s"
        + (f", peak memory {memory:,.0f} MiB" if memory else "")
        + f", first result after {found['first_result_s']:.1f} s",
        "where the time goes, in one process:",
    ]
    return "\n".join(
        lines + [f"  {share:6.1%}  {name}" for name, share in found["operators"].items()]
    )


def bench(
    output: Layer,
    images: np.ndarray,
    *,
    presentation_time: float = 0.35,
    plain: Layer | None = None,
    n_reference: int = 100,
    n_jobs: int = -1,
    minibatch_size: int | None = None,
) -> dict:
    """Time the same examples on the reference simulator and in minibatches.

    Times are medians of the repeats. The seed is the network's. Ratios are relative to the
    reference, and None for ways that were not run.
    """
    n_reference, n_jobs = positive_integer("n_reference", n_reference), n_processes(n_jobs)
    if minibatch_size is None:
        minibatch_size = default_minibatch_size(output.network, len(images))
    run = {"presentation_time": presentation_time, "dt": _DT, "progress": False}
    alone = partial(present, output.network, output, **run)
    together = partial(alone, n_jobs=n_jobs, minibatch_size=minibatch_size)
    _, first_result = _timed(alone, images[:1])

    few, times = images[:n_reference], defaultdict(list)
    ways = {"twin": contextlib.nullcontext, "twin_without_numba": _without_numba}
    if load_kernels() is None:
        del ways["twin"]
    same = compared = 0
    # The ways take turns, so that other work on the machine disturbs them equally.
    for part in np.array_split(np.arange(len(few)), min(N_REPEATS, len(few))):
        if plain is not None:
            times["plain"].append(_plain_time(plain, few[part], presentation_time) / len(part))
        reference, spent = _timed(alone, few[part], simulator="reference", examples=part)
        times["reference"].append(spent / len(part))
        results = []
        for way, conditions in ways.items():
            with conditions():
                # The first run starts processes, takes memory and lets Numba compile.
                together(images[: n_jobs * minibatch_size])
                result, spent = _timed(together, images)
            results.append(result)
            times[way].append(spent / len(images))
        for label, counts in reference.counts.items():
            same += int((counts == results[0].counts[label][part]).sum())
            compared += counts.size
    speeds = {way: 1 / float(np.median(times[way])) for way in _WAYS if way in times}
    fastest, fastest_speed = results[0], speeds[next(iter(ways))]
    return {
        **{f"{way}_images_per_s": speeds.get(way) for way in _WAYS},
        **{
            name: speeds[way] / speeds["reference"] if way in speeds else None
            for way, (_, name) in _WAYS.items()
            if name
        },
        "ratio_to_plain": fastest_speed / speeds["plain"] if "plain" in speeds else None,
        "identical_share": same / compared,
        "compared_counts": compared,
        "twin_spikes_per_s": sum(fastest.spikes_per_image().values()) * fastest_speed,
        "peak_memory_mib": _peak_memory(),
        "first_result_s": first_result,
        "operators": _by_operator(output, images[:minibatch_size], fastest.n_steps),
        "n_images": len(images),
        "n_reference": len(few),
        "n_steps": fastest.n_steps,
        "n_jobs": n_jobs,
        "minibatch_size": minibatch_size,
        "machine": {
            "cores": str(os.cpu_count()),
            "machine": platform.machine(),
            "Python": platform.python_version(),
            "NumPy": np.__version__,
            "Nengo": nengo.__version__,
        },
    }


def _timed(
    run: Callable[..., Result], images: np.ndarray, **settings: object
) -> tuple[Result, float]:
    start = time.perf_counter()
    result = run(images, **settings)
    return result, time.perf_counter() - start


def _plain_time(output: Layer, images: np.ndarray, presentation_time: float) -> float:
    """Return the seconds for each image of a reset, a run and the reading of a probe."""
    probe = nengo.Probe(output.output, add_to_container=False)
    source, seed = image_input(output), as_seed(output.network.seed)
    with reference_simulator(output.network, _DT, seed, probe=probe) as simulator:
        start = time.perf_counter()
        for image in images:
            reset_to_example(simulator, seed, 0, {source: image})
            simulator.run(presentation_time, progress_bar=False)
            simulator.data[probe].sum(axis=0)
        return time.perf_counter() - start


@contextlib.contextmanager
def _without_numba() -> Iterator[None]:
    with mock.patch.dict(os.environ, {"NENGONET_NUMBA": "0"}):
        # Worker processes copied the environment when they started.
        stop_processes()
        try:
            yield
        finally:
            stop_processes()


def _peak_memory() -> float | None:
    """Return the largest size in memory of this process and of its children, in MiB."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss / unit for who in whose)


def _by_operator(output: Layer, images: np.ndarray, n_steps: int) -> dict[str, float]:
    """Return the share of each operator in the time of a minibatch, the largest first."""
    seed = as_seed(output.network.seed)
    with minibatch_simulator(output.network, len(images), _DT, seed) as simulator:
        for layer in output.upstream():
            simulator.record(layer.output, steps=layer is output)
        simulator.reset_to_examples(images.reshape(len(images), -1), seed=seed)
        times = simulator.profile_steps(n_steps)
    total = sum(times.values())
    return {name: spent / total for name, spent in sorted(times.items(), key=lambda item: -item[1])}
