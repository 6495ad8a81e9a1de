"""Run examples in a simulator that is built once, and return their counts and outputs in order."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import nengo
import numpy as np
from nengo.processes import Process

from nengonet.exceptions import RunawayError
from nengonet.layers.graph import Graph, owner
from nengonet.layers.initial import DrawnState, set_states
from nengonet.layers.record import Layer
from nengonet.layers.targets import Target
from nengonet.minibatch import memory
from nengonet.minibatch.acceleration import telling
from nengonet.minibatch.one_thread import on_one_blas_thread
from nengonet.minibatch.records import OutputRecord
from nengonet.minibatch.runaway import ADVICE
from nengonet.results.operations import Synapses, synapses_of
from nengonet.results.readout import as_small, spike_counts
from nengonet.results.result import LayerInfo
from nengonet.run.parallel import in_window, shared_out
from nengonet.run.simulators import (
    minibatch_simulator,
    reference_simulator,
    reset_to_example,
    take_step,
)

Arrays = dict[str, np.ndarray]
# Number of parts of a process's work on the reference simulator. Progress is shown and saved after
# each part.
_PARTS = 8
# One array of images for each input.
Images = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """Everything that a process needs to run examples; a call runs some of them."""

    target: Target
    inputs: tuple[tuple[nengo.Node, Process], ...]
    settings: dict
    states: list[DrawnState]
    rasters: tuple[str, ...]
    kept: tuple[str, ...]
    probes: dict[str, nengo.Probe]
    simulator: str
    minibatch_size: int
    carry: tuple[str, ...] = ()
    progress: bool = False

    @property
    def network(self) -> nengo.Network:
        """The network."""
        return self.target.network

    @property
    def shown(self) -> dict[nengo.Node, Process]:
        """The processes that the model's Nodes run instead of the network's."""
        return {node: process for node, process in self.inputs if process is not node.output}

    @functools.cached_property
    def layers(self) -> list[Layer]:
        """The layers of the result, from the input on."""
        return self.target.upstream()

    @functools.cached_property
    def infos(self) -> list[LayerInfo]:
        """The records of the result's layers; the last is the output, even if it has parts."""
        joined = [] if self.target.item else [self.target]
        return [
            LayerInfo(
                each.label, tuple(map(int, each.shape)), each.amplitude and float(each.amplitude)
            )
            for each in (*self.layers, *joined)
        ]

    @functools.cached_property
    def synapses(self) -> list[Synapses]:
        """The weights that spikes reach; counted once, after a run, when other threads compute."""
        return synapses_of(self.target)

    @property
    def names(self) -> dict[object, str]:
        """The names of the network's objects in the result."""
        layers = {owner(layer.output): layer.label for layer in self.layers}
        return layers | {probe: name for name, probe in self.probes.items()}

    @functools.cached_property
    def runner(self) -> Runner:
        """The simulator of this process."""
        return Runner(self)

    def __call__(self, images: Images, examples: np.ndarray, is_first: bool) -> Arrays:
        """Run some examples; the process with the first ones may print notes."""
        with telling(self.progress and is_first):
            return self.runner.run(images, examples)


def _nothing(n_steps: int) -> None:
    pass


def run_examples(
    job: Job,
    images: Images,
    examples: np.ndarray,
    n_jobs: int,
    on_progress: Callable[[int], object] = _nothing,
) -> Iterator[Arrays]:
    """Yield counts and outputs of a few examples at a time, in order, as they are finished.

    ``images`` holds the images of each input of the job. ``on_progress`` is called, in any thread,
    with the number of new steps of all examples together. Other processes report whole parts only.
    """
    n_images = len(examples)
    if n_images == 0:
        return
    n_jobs = min(n_jobs, n_images)
    parts = _parts(n_images, n_jobs, job.minibatch_size, job.simulator == "reference")
    tasks = [(tuple(each[part] for each in images), examples[part]) for part in parts]
    job = dataclasses.replace(job, minibatch_size=len(tasks[0][1]))
    if n_jobs == 1 or job.simulator == "minibatch":
        with contextlib.closing(Runner(job)) as runner:
            if n_jobs == 1:
                yield from (runner.run(*task, on_progress) for task in tasks)
                return
            if runner.is_outside_python:
                with _threads(runner, n_jobs, on_progress) as submit:
                    for _, future in in_window(submit, tasks, 2 * n_jobs):
                        yield future.result()
                return
    tasks = [(*task, number == 0) for number, task in enumerate(tasks)]
    for (_, shown, _), result in shared_out(job, tasks, n_jobs, name="network: it"):
        found = result()
        on_progress(len(shown) * job.settings["n_steps"])
        yield found


def _parts(n_images: int, n_jobs: int, most: int, is_single: bool) -> list[slice]:
    """Divide images into equal parts, the same number for each job, so that all end together."""
    if is_single:  # they run one after the other: parts are for progress and saving only
        most = 1 if n_jobs == 1 else min(most, -(-n_images // (n_jobs * _PARTS)))
    if n_jobs == 1:
        return [slice(start, start + most) for start in range(0, n_images, most)]
    n_parts = min(n_images, n_jobs * -(-n_images // (n_jobs * most)))
    parts = np.array_split(np.arange(n_images), n_parts)
    return [slice(part[0], part[-1] + 1) for part in parts]


@contextlib.contextmanager
def _threads(
    runner: Runner, n_jobs: int, on_progress: Callable[[int], object]
) -> Iterator[Callable[..., Future]]:
    """Yield a function that submits examples to threads; each has a simulator of one model."""
    mine, spare = threading.local(), [runner]

    def call(images: Images, examples: np.ndarray) -> Arrays:
        if not hasattr(mine, "runner"):
            try:
                mine.runner = spare.pop()
            except IndexError:
                mine.runner = opened.enter_context(contextlib.closing(runner.another()))
        return mine.runner.run(images, examples, on_progress)

    with contextlib.ExitStack() as opened, ThreadPoolExecutor(n_jobs) as pool:
        yield functools.partial(pool.submit, call)


class Runner:
    """A built simulator, and a record of each layer's outputs."""

    def __init__(self, job: Job, like: Runner | None = None) -> None:
        self.job, self._open = job, contextlib.ExitStack()
        network = job.network
        dt, seed, bits = (job.settings[name] for name in ("dt", "seed", "precision"))
        settings = {"precision": bits, "shown": job.shown}
        if job.simulator == "reference":
            built = reference_simulator(network, dt, seed, **settings)
        else:
            like = None if like is None else like.simulator
            settings["keeps_states"] = bool(job.carry)  # else they are reset
            # Each run sets the number of examples.
            built = minibatch_simulator(network, 1, dt, seed, like=like, **settings)
        self.simulator, self._records = self._open.enter_context(built), []
        graph = Graph(network)
        for layer in job.layers:
            steps = owner(layer.output) in job.target.items or layer.label in job.rasters
            if job.simulator == "reference":
                record = OutputRecord(steps)
            else:
                record = self.simulator.record(layer.output, steps=steps)
            if graph.may_be_negative(owner(layer.output)):
                record.keep_signs()
            self._records.append(record)
        # Every probe keeps every step, so only the requested probes stay.
        probes, asked = self.simulator.model.probes, [*job.probes.values()]
        probes[:] = [probe for probe in probes if probe in asked]

    def close(self) -> None:
        """Close the simulator."""
        self._open.close()

    def another(self) -> Runner:
        """Return another runner of the same model."""
        return Runner(self.job, self)

    @property
    def is_outside_python(self) -> bool:
        """Whether most steps run without Python's lock, so that threads can share the work."""
        return self.simulator.runs_in_stretches

    def run(
        self,
        images: Images,
        examples: np.ndarray,
        on_progress: Callable[[int], object] = _nothing,
    ) -> Arrays:
        """Return counts and outputs, examples first, under the names that `assemble` expects."""
        nodes = [node for node, _ in self.job.inputs]
        if self.job.simulator == "reference":
            parts = []
            for *shown, example in zip(*images, examples, strict=True):
                parts.append(
                    self._run_reference(dict(zip(nodes, shown, strict=True)), int(example))
                )
                on_progress(self.job.settings["n_steps"])
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        seed = self.job.settings["seed"]
        shown = dict(zip(nodes, images, strict=True))
        self.simulator.reset_to_examples(shown, examples, seed, carry=self.job.carry)
        set_states(self.simulator, self.job.states, seed, examples)
        n_done = 0

        def tell(now: int) -> None:
            nonlocal n_done
            on_progress(now - n_done)
            n_done = now

        self.simulator.run_steps(self.job.settings["n_steps"], on_progress=tell)
        return self._arrays(examples)

    def _run_reference(self, images: dict[nengo.Node, np.ndarray], example: int) -> Arrays:
        job, simulator, seed = self.job, self.simulator, self.job.settings["seed"]
        reset_to_example(simulator, seed, example, images, carry=job.carry)
        set_states(simulator, job.states, seed, [example])
        # An unfiltered probe would copy the same output signal at every step.
        signals = [simulator.model.sig[layer.output]["out"] for layer in job.layers]
        signals = [simulator.signals[signal][:, np.newaxis] for signal in signals]
        pairs = list(zip(self._records, signals, strict=True))
        for record, signal in pairs:
            record.restart(signal.T.shape, np.dtype(np.float64))
        for _ in range(job.settings["n_steps"]):
            take_step(simulator, example)
            for record, signal in pairs:
                record.add(signal)
        return self._arrays(np.array([example]))

    @on_one_blas_thread
    def _arrays(self, examples: np.ndarray) -> Arrays:
        """Return the content of the records, examples first."""
        job, arrays = self.job, {"examples": examples}
        layers = list(zip(job.infos, job.layers, self._records, strict=False))
        for info, _, record in layers:
            label = info.label
            if info.amplitude is None:
                total = record.total
                _check_sums(total, examples, label)
                if label in job.kept:
                    arrays[f"means/{label}"] = (
                        np.asarray(total, np.float64) / job.settings["n_steps"]
                    )
            else:
                counts = sent = record.counts
                if counts is None:
                    total = record.total
                    counts = sent = self._counted(info, total, examples)
                    if record.negative is not None:
                        sent = self._counted(info, total - 2 * record.negative, examples)
                behind = [each for each in job.synapses if each.source == label]
                n_sent, *reached = _added_up(sent, [each.per_spike for each in behind], label)
                arrays[f"spikes/{label}"] = n_sent
                for synapses, n_reached in zip(behind, reached, strict=True):
                    name = f"operations/{synapses.label}"
                    arrays[name] = arrays.get(name, 0) + n_reached
                if label in job.kept:
                    arrays[f"counts/{label}"] = as_small(counts)
            if label in job.rasters:
                arrays[f"rasters/{label}"] = self._steps(info, record, examples)
        # Spikes that all have one area are kept as spikes.
        output, spikes = job.infos[-1], job.infos[-1].amplitude is not None
        steps = {
            owner(layer.output): self._steps(info, record, examples) if spikes else record.steps
            for info, layer, record in layers
            if owner(layer.output) in job.target.items
        }
        arrays["steps"] = together = steps.get(job.target.item)
        if together is None:
            arrays["steps"] = together = job.target.take(steps)
            if output.label in job.kept and spikes:
                arrays[f"counts/{output.label}"] = as_small(together.sum(axis=1, dtype=np.int64))
            elif output.label in job.kept:
                arrays[f"means/{output.label}"] = together.mean(axis=1, dtype=np.float64)
        return arrays | self._probed()

    def _probed(self) -> Arrays:
        """Return the data of the user's probes, examples first."""
        simulator, found = self.simulator, {}
        for name, probe in self.job.probes.items():
            data = np.array(simulator.data[probe])
            if self.job.simulator == "reference":
                # Before the first sample, Nengo's data have no axis of values.
                data = data.reshape(1, -1, *simulator.model.sig[probe]["in"].shape)
            found[f"data/{name}"] = data
        return found

    def _steps(self, info: LayerInfo, record: OutputRecord, examples: np.ndarray) -> np.ndarray:
        """Return the outputs of every step; for a spiking layer, its spikes."""
        if info.amplitude is None:
            return record.steps
        counts = record.step_counts
        return as_small(self._counted(info, record.steps, examples)) if counts is None else counts

    def _counted(self, info: LayerInfo, outputs: np.ndarray, examples: np.ndarray) -> np.ndarray:
        """Return the spikes in the outputs, examples first."""
        dt, bits = (self.job.settings[name] for name in ("dt", "precision"))
        outputs = np.asarray(outputs, f"f{bits // 8}")
        try:
            return spike_counts(outputs, dt, info.amplitude)
        except RunawayError:
            pass
        for example, each in zip(examples, outputs, strict=True):
            try:
                spike_counts(each, dt, info.amplitude)
            except RunawayError as error:
                raise RunawayError(
                    f"{info.label}: {error} in example {example}, with numbers of {bits} bits; "
                    f"{ADVICE}"
                ) from None


def _added_up(counts: np.ndarray, weights: list[np.ndarray], label: str) -> np.ndarray:
    """Return each example's sum of counts, and of counts times weights, as whole numbers."""
    weights = np.stack([np.ones(counts.shape[1], np.int64), *weights])
    as_floats = weights.astype(float)
    # A few examples at a time, because memory for the floats of all would cost more time.
    few = memory.empty((min(len(counts), 8), counts.shape[1]), float)
    sums = np.empty((len(weights), len(counts)))
    for at in range(0, len(counts), 8):
        part = counts[at : at + 8]
        few[: len(part)] = part
        sums[:, at : at + 8] = as_floats @ few[: len(part)].T
    if counts.min(initial=0) >= 0 and sums.max(initial=0) < 2**53:  # each step was exact
        return np.rint(sums).astype(np.int64)
    if np.any(as_floats @ np.abs(counts).astype(float).T >= 2**63):
        raise RunawayError(f"{label}: expected sums of spikes below 2**63, got more; {ADVICE}")
    return weights @ counts.astype(np.int64).T


def _check_sums(sums: np.ndarray, examples: np.ndarray, label: str) -> None:
    """Refuse a non-spiking layer's summed outputs where they are not finite."""
    bad = ~np.isfinite(sums).all(axis=1)
    if bad.any():
        numbers = ", ".join(map(str, examples[bad][:5]))
        raise RunawayError(
            f"{label}: expected finite outputs, got {sums[~np.isfinite(sums)][0]} in "
            f"example{'s' * int(bad.sum() > 1)} {numbers}; {ADVICE}"
        )
