"""Present images to a network, one after the other, each from the reset state."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import pathlib
import queue
import sys
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import nengo
import numpy as np
from tqdm import tqdm

from nengonet.checks import (
    as_examples,
    as_names,
    as_seed,
    check_among,
    count_steps,
    positive_integer,
)
from nengonet.exceptions import InputError, RunawayError
from nengonet.layers.graph import Graph, as_network, owner
from nengonet.layers.initial import DrawnState, InitialStates, drawn_states, set_states
from nengonet.layers.inputs import ImageInput, images_at
from nengonet.layers.record import Layer, checked_layer, image_input, layers_of
from nengonet.minibatch.records import OutputRecord
from nengonet.minibatch.runaway import ADVICE
from nengonet.neurons import model_of
from nengonet.results.journal import check_fingerprint, checked_file, unwritable
from nengonet.results.operations import synapses_of
from nengonet.results.readout import READOUTS, as_small, spike_counts
from nengonet.results.result import Collector, Journal, Result, assemble, load_result, write_result
from nengonet.run.content import digest, versions
from nengonet.run.parallel import n_processes, process_pool
from nengonet.run.simulators import (
    minibatch_simulator,
    reference_simulator,
    reset_to_example,
    take_step,
)

# Enough that a step's fixed costs are shared out, and little enough for cache and memory.
_LARGEST_MINIBATCH, _LARGEST_SIGNALS = 250, 2_000_000
# Beside the file of a saved run: what is finished, and the file itself until it is whole.
_PARTIAL, _WRITING = ".partial", ".writing"


def present(
    network: nengo.Network,
    output: Layer,
    images: np.ndarray,
    *,
    presentation_time: float = 0.35,
    dt: float = 0.001,
    seed: int | None = None,
    examples: Sequence[int] | None = None,
    initial_states: InitialStates | None = None,
    readout: str = "spike_count",
    rasters: Sequence[str] = (),
    keep: Sequence[str] | None = None,
    simulator: str = "minibatch",
    minibatch_size: int | None = None,
    n_jobs: int = 1,
    precision: int = 64,
    save: str | os.PathLike | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Result:
    """Show every image for ``presentation_time``, from the reset state, and count the spikes.

    Parameters
    ----------
    network : nengo.Network
    output : Layer
        The last layer. Its result holds the layers that it was built on, and all others with
        neurons that feed it now.
    images : (n_images, ...) array_like
        Each of the input layer's shape, or flat. uint8 is divided by 255. `poisson_input` takes
        values in [0, 1], `constant_input` any.
    presentation_time : float, in seconds
    dt : float, in seconds
    seed : int, optional
        Of all randomness: each example's input noise, and the build of a network that has no seed
        of its own. By default the network's seed, or 0.
    examples : sequence of int, optional
        The examples' numbers, which choose their random streams; 0, 1, 2, … by default. The same
        seed gives example 17 the same spikes whatever else is shown, and in whatever order.
    initial_states : dict of {str: dict of {str: nengo.dists.Distribution}}, optional
        States that every example draws anew, by layer's label and state's name, for instance
        ``{"hidden": {"voltage": nengo.dists.Uniform(0, 1)}}``. All others start, in every example,
        from what the neuron type's ``initial_state`` gave when the model was built. An example's
        states follow from the seed and its number, as its input noise does.
    readout : str
        The default readout of the result: see `nengonet.results.readout.scores`.
    rasters : sequence of str
        Labels of layers whose spikes are kept step by step (for figures; they are large).
    keep : sequence of str, optional
        Labels of layers of which every neuron's count, or mean output, is kept for every image.
        By default all; for many images of a large network, name the few that matter. Of the
        others, the number of spikes is kept. The last layer's spikes are kept step by step
        whatever it says.
    simulator : {"minibatch", "reference"}
        `MinibatchSimulator` runs many examples at once; ``"reference"`` is the unmodified
        ``nengo.Simulator``, reset before every example. Both give the same spikes, but for the
        rounding that the notes describe.
    minibatch_size : int, optional
        Examples that run at once. It changes speed and memory; spikes only by rounding, as in the
        notes. By default 250, or as many as have two million neurons together.
    n_jobs : int
        Examples are shared out over so many processes, or over threads where the twin does many
        steps outside Python; -1 for one per core. It changes speed, and as the examples that run
        at once become fewer, spikes only by rounding, as in the notes.
    precision : {32, 64}
        Bits of a number. 32 is faster; counts can shift by a spike. A neuron's spikes are counted
        up to 4 million in 32 bits, and up to 2 * 10**15 in 64.
    save : path_like, optional
        HDF5 file for the result. While the run goes on, ``SAVE.partial`` holds what is finished.
    resume : bool
        Continue an interrupted run, or return a finished one, from ``save``. What the spikes depend
        on must be equal in content and version (`nengonet.run.content`); ``readout`` may differ.
    progress : bool
        Show a progress bar on standard error, if that is a terminal.

    Returns
    -------
    Result

    Raises
    ------
    InputError
        An argument is out of range; the images do not fit the input
        (`nengonet.layers.inputs.images_at` says how); a layer, state or readout is unknown,
        or not in the network; ``dt`` is too long for a LIF neuron's leak; or the file of ``save``
        already exists, or is that of another run. What a Node keeps cannot be copied for each
        example.
    RunawayError
        Currents or spikes grow beyond what numbers hold; it is an InputError too.

    Notes
    -----
    Spikes are counted by their area, so several spikes in one step count as several, whatever the
    amplitude. Nengo's own random neuron types (``PoissonSpiking``, ``StochasticSpiking``) keep one
    random stream from the build on, which ``Simulator.reset`` does not restart
    (``nengo/builder/neurons.py``); here it is restarted for every example. So are functions of
    Nodes, a user's processes and neuron types that keep a state: every example begins with a copy
    of the network's.

    The order in which a sum over inputs is added up depends on the simulator and on how many
    examples run at once. In 64 bits a count can differ by a spike where a voltage meets its
    threshold exactly, as with decimal weights and first voltages; in 32 bits now and then
    elsewhere. With ``minibatch_size`` and ``precision`` fixed, everything repeats.
    """
    layers = layers_of(checked_layer(output, "output"), as_network(network))
    _check_layers(network, layers, readout, rasters, () if keep is None else keep)
    seed = as_seed(seed, network.seed)
    images = images_at(image_input(network, output.output), images)
    examples = as_examples(examples, len(images))
    n_steps = count_steps(presentation_time, dt)
    dt = float(dt)
    _check_leaks(layers, dt)
    states = drawn_states(layers, initial_states)
    if minibatch_size is None:
        minibatch_size = default_minibatch_size(network)
    _check_running(simulator, minibatch_size, precision)
    n_jobs = n_processes(n_jobs)

    settings = {
        "presentation_time": float(n_steps * dt),
        "dt": float(dt),
        "n_steps": n_steps,
        "seed": seed,
        "readout": readout,
        "precision": int(precision),
    }
    infos = [
        {
            "label": layer.label,
            "shape": [int(size) for size in layer.shape],
            "amplitude": None if layer.amplitude is None else float(layer.amplitude),
        }
        for layer in layers
    ]
    job = _Job(
        network=network,
        output=output,
        settings=settings,
        states=states,
        rasters=tuple(rasters),
        kept=tuple(layer.label for layer in layers) if keep is None else tuple(keep),
        simulator=simulator,
        minibatch_size=minibatch_size,
    )
    if save is None:
        if resume:
            raise InputError("resume: expected save=…, the file of the interrupted run")
        return assemble(infos, settings, _collected(job, images, examples, n_jobs, progress))
    save = checked_file(save, resume, (_PARTIAL, _WRITING))
    settings["fingerprint"] = _fingerprint(job, infos, images, examples)
    partial, writing = (save.with_name(save.name + ending) for ending in (_PARTIAL, _WRITING))
    if save.exists() and not partial.exists():
        return _saved(save, settings)
    if writing.exists() and not partial.exists():
        raise InputError(f"{writing} already exists, of another run: rename it, or save elsewhere")
    with Journal(partial, settings["fingerprint"]) as journal:
        if save.exists():  # by a run that was killed, or has just ended
            journal.delete()
            return _saved(save, settings)
        arrays = _collected(job, images, examples, n_jobs, progress, journal)
        result = assemble(infos, settings, arrays)
        try:
            write_result(result, save, writing)
        except OSError as error:
            raise unwritable(save, error) from error
        journal.delete()
    return result


def _collected(
    job: _Job,
    images: np.ndarray,
    examples: np.ndarray,
    n_jobs: int,
    progress: bool,
    journal: Journal | None = None,
) -> dict[str, np.ndarray]:
    """Return the arrays of all examples: those in the journal, and the others run now."""
    found = Collector(examples)
    if journal is not None:
        journal.replay(found.add)
    n_done = found.n_done
    with tqdm(
        desc="presenting",
        unit="image",
        initial=n_done,
        total=len(images),
        disable=None if progress else True,
        file=sys.stderr,
    ) as bar:
        for batch in _run(job, images[n_done:], examples[n_done:], n_jobs):
            found.add(batch)
            if journal is not None:
                journal.append(batch)
            bar.update(found.n_done - bar.n)
    return found.arrays


def default_minibatch_size(network: nengo.Network) -> int:
    """Return how many examples `present` runs at once."""
    size = sum(ensemble.n_neurons for ensemble in network.all_ensembles)
    size += sum(node.size_out for node in network.all_nodes)
    return min(_LARGEST_MINIBATCH, max(1, _LARGEST_SIGNALS // max(size, 1)))


@dataclasses.dataclass(frozen=True, eq=False)
class _Job:
    """What a process needs to run examples."""

    network: nengo.Network
    output: Layer
    settings: dict
    states: list[DrawnState]
    rasters: tuple[str, ...]
    kept: tuple[str, ...]
    simulator: str
    minibatch_size: int

    @functools.cached_property
    def layers(self) -> list[Layer]:
        return layers_of(self.output, self.network)

    @functools.cached_property
    def image_input(self) -> nengo.Node:
        return image_input(self.network, self.output.output)

    def keeps_steps(self, layer: Layer) -> bool:
        return layer is self.output or layer.label in self.rasters


def _run(
    job: _Job, images: np.ndarray, examples: np.ndarray, n_jobs: int
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the counts and outputs of some examples at a time, in order, as they are finished."""
    if len(images) == 0:
        return
    n_jobs = min(n_jobs, len(images))
    # The reference runs single examples; a process gets no more than its share.
    size = 1 if job.simulator == "reference" and n_jobs == 1 else job.minibatch_size
    size = min(size, -(-len(images) // n_jobs))
    parts = [slice(start, start + size) for start in range(0, len(images), size)]
    if n_jobs == 1 or job.simulator == "minibatch":
        with contextlib.closing(_Runner(job, size)) as runner:
            if n_jobs == 1:
                for part in parts:
                    yield runner.run(images[part], examples[part])
                return
            if runner.is_outside_python:
                yield from _run_in_threads(runner, n_jobs, parts, images, examples)
                return
    # Not joblib's generator: it waits a second before its last result.
    pool, job_id = process_pool(n_jobs), uuid.uuid4().hex

    def submit(part: slice) -> Future:
        return pool.submit(_run_part, job_id, job, size, images[part], examples[part])

    yield from _in_order(submit, parts, n_jobs)


def _run_in_threads(
    runner: _Runner, n_jobs: int, parts: list[slice], images: np.ndarray, examples: np.ndarray
) -> Iterator[dict[str, np.ndarray]]:
    idle: queue.SimpleQueue[_Runner] = queue.SimpleQueue()
    idle.put(runner)
    building = threading.Lock()

    def another() -> _Runner:
        # While the first is at work.
        with building:
            return opened.enter_context(contextlib.closing(runner.twin()))

    def run(part: slice) -> dict[str, np.ndarray]:
        try:
            mine = idle.get_nowait()
        except queue.Empty:
            mine = another()
        try:
            return mine.run(images[part], examples[part])
        finally:
            idle.put(mine)

    with contextlib.ExitStack() as opened:
        pool = opened.enter_context(ThreadPoolExecutor(n_jobs))
        yield from _in_order(lambda part: pool.submit(run, part), parts, n_jobs)


def _in_order(
    submit: Callable[[slice], Future], parts: list[slice], n_jobs: int
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the results, and drop what has not begun if nobody waits for the rest."""
    # Not all at once: every part takes a copy of the job along.
    waiting = iter(parts)
    running = deque(submit(part) for part in itertools.islice(waiting, 2 * n_jobs))
    try:
        while running:
            result = running.popleft().result()
            running.extend(submit(part) for part in itertools.islice(waiting, 1))
            yield result
    finally:
        for future in running:
            future.cancel()


# In a worker process: the job that it works on, and what it has built for it.
_under_way: dict[str, _Runner] = {}


def _run_part(
    job_id: str, job: _Job, size: int, images: np.ndarray, examples: np.ndarray
) -> dict[str, np.ndarray]:
    """Run some examples in a process of their own, which builds its simulator once for a job."""
    if job_id not in _under_way:
        for runner in _under_way.values():
            runner.close()
        _under_way.clear()
        _under_way[job_id] = _Runner(job, size)
    return _under_way[job_id].run(images, examples)


def _added_up(counts: np.ndarray, weights: np.ndarray | int, label: str) -> np.ndarray:
    """Return the sum of each example's counts, times weights, as whole numbers."""
    weights = np.broadcast_to(weights, counts.shape[1])
    if np.any(np.abs(counts).astype(float) @ weights.astype(float) >= 2**63):
        raise RunawayError(f"{label}: expected sums of spikes below 2**63, got more; {ADVICE}")
    return (counts * weights).sum(axis=1)


def _check_sums(sums: np.ndarray, examples: np.ndarray, label: str) -> None:
    """Refuse outputs of a layer that does not spike, added up, that are not finite."""
    bad = ~np.isfinite(sums).all(axis=1)
    if bad.any():
        numbers = ", ".join(map(str, examples[bad][:5]))
        raise RunawayError(
            f"{label}: expected finite outputs, got {sums[~np.isfinite(sums)][0]} in "
            f"example{'s' * int(bad.sum() > 1)} {numbers}; {ADVICE}"
        )


class _Runner:
    """A simulator that is built, and what is kept of its layers."""

    def __init__(self, job: _Job, size: int, model: nengo.builder.Model | None = None) -> None:
        self.job, self._size, self._open = job, size, contextlib.ExitStack()
        self._synapses = synapses_of(job.output, job.network)
        graph = Graph(job.network)
        self._signed = [graph.may_be_negative(owner(layer.output)) for layer in job.layers]
        dt, seed, precision = (job.settings[name] for name in ("dt", "seed", "precision"))
        if job.simulator == "reference":
            self.simulator = self._open.enter_context(
                reference_simulator(job.network, dt, seed, precision=precision)
            )
            self.run = self._run_reference
        else:
            self.simulator = self._open.enter_context(
                minibatch_simulator(job.network, size, dt, seed, precision=precision, model=model)
            )
            self._kept = [
                self.simulator.record(layer.output, steps=job.keeps_steps(layer))
                for layer in job.layers
            ]
            for record, signed in zip(self._kept, self._signed, strict=True):
                if signed:
                    record.keep_signs()
            self.run = self._run_minibatch
        # Nobody reads the user's probes here, and each would keep every step.
        self.simulator.model.probes.clear()

    def close(self) -> None:
        """Close the simulator."""
        self._open.close()

    def twin(self) -> _Runner:
        """Return another runner of the same model."""
        return _Runner(self.job, self._size, self.simulator.model)

    @property
    def is_outside_python(self) -> bool:
        """Whether the twin runs without Python's lock, so that threads can share the work."""
        return self.simulator.runs_in_stretches

    def _run_minibatch(self, images: np.ndarray, examples: np.ndarray) -> dict[str, np.ndarray]:
        seed = self.job.settings["seed"]
        self.simulator.reset_to_examples({self.job.image_input: images}, examples, seed)
        set_states(self.simulator, self.job.states, seed, examples)
        self.simulator.run_steps(self.job.settings["n_steps"])
        pairs = list(zip(self.job.layers, self._kept, strict=True))
        return self._finished(
            examples,
            [record.total for _, record in pairs],
            [record.negative for _, record in pairs],
            {
                layer.label: functools.partial(self._steps, layer, record, examples)
                for layer, record in pairs
            },
        )

    def _steps(self, layer: Layer, record: OutputRecord, examples: np.ndarray) -> np.ndarray | None:
        if not record.keeps_steps:
            return None
        counts = record.step_counts if layer.spiking else None
        return self._as_kept(layer, record.steps, examples) if counts is None else counts

    def _as_kept(self, layer: Layer, outputs: np.ndarray, examples: np.ndarray) -> np.ndarray:
        """Return the outputs of every step, of a spiking layer as its spikes."""
        return as_small(self._counted(layer, outputs, examples)) if layer.spiking else outputs

    def _counted(self, layer: Layer, outputs: np.ndarray, examples: np.ndarray) -> np.ndarray:
        """Return the spikes that outputs hold, examples first."""
        dt, bits = (self.job.settings[name] for name in ("dt", "precision"))
        outputs = np.asarray(outputs, f"f{bits // 8}")
        try:
            return spike_counts(outputs, dt, layer.amplitude)
        except RunawayError:
            pass
        for example, each in zip(examples, outputs, strict=True):
            try:
                spike_counts(each, dt, layer.amplitude)
            except RunawayError as error:
                raise RunawayError(
                    f"{layer.label}: {error} in example {example}, with numbers of {bits} bits; "
                    f"{ADVICE}"
                ) from None

    def _run_reference(self, images: np.ndarray, examples: np.ndarray) -> dict[str, np.ndarray]:
        job, simulator, layers = self.job, self.simulator, self.job.layers
        n_steps, seed = job.settings["n_steps"], job.settings["seed"]
        # A layer's output signal is what an unfiltered probe would copy at every step.
        signals = [simulator.signals[simulator.model.sig[layer.output]["out"]] for layer in layers]
        totals = [np.zeros((len(images), layer.size)) for layer in layers]
        negatives = [
            np.zeros_like(total) if signed else None
            for total, signed in zip(totals, self._signed, strict=True)
        ]
        steps = {
            layer.label: np.empty((len(images), n_steps, layer.size))
            for layer in layers
            if job.keeps_steps(layer)
        }
        for row, (image, example) in enumerate(zip(images, examples, strict=True)):
            reset_to_example(simulator, seed, int(example), {job.image_input: image})
            set_states(simulator, job.states, seed, [example])
            for step in range(n_steps):
                take_step(simulator, int(example))
                for k, (layer, signal) in enumerate(zip(layers, signals, strict=True)):
                    totals[k][row] += signal
                    if self._signed[k]:
                        negatives[k][row] += np.minimum(signal, 0)
                    if layer.label in steps:
                        steps[layer.label][row, step] = signal
        return self._finished(
            examples,
            totals,
            negatives,
            {
                layer.label: functools.partial(self._as_kept, layer, steps[layer.label], examples)
                for layer in layers
                if layer.label in steps
            },
        )

    def _finished(
        self,
        examples: np.ndarray,
        totals: list[np.ndarray],
        negatives: list[np.ndarray | None],
        steps: dict[str, Callable[[], np.ndarray | None]],
    ) -> dict[str, np.ndarray]:
        """Return counts and outputs, examples first, under the names that `assemble` knows.

        ``steps`` return the outputs of every step, as `_as_kept` does.
        """
        job = self.job
        n_steps, arrays = job.settings["n_steps"], {"examples": examples}
        for layer, total, negative in zip(job.layers, totals, negatives, strict=True):
            label = layer.label
            if layer.spiking:
                counts = sent = self._counted(layer, total, examples)
                if negative is not None:
                    sent = self._counted(layer, total - 2 * negative, examples)
                arrays[f"spikes/{label}"] = _added_up(sent, 1, label)
                for synapses in self._synapses:
                    if synapses.source == label:
                        name = f"operations/{synapses.label}"
                        arrays[name] = arrays.get(name, 0) + _added_up(
                            sent, synapses.per_spike, label
                        )
                if label in job.kept:
                    arrays[f"counts/{label}"] = as_small(counts)
            else:
                _check_sums(total, examples, label)
                if label in job.kept:
                    arrays[f"means/{label}"] = np.asarray(total, dtype=np.float64) / n_steps
            every = steps[label]() if label in steps else None
            if label in job.rasters:
                arrays[f"rasters/{label}"] = every
            if layer is job.output:
                arrays["steps"] = every
        return arrays


def _check_leaks(layers: list[Layer], dt: float) -> None:
    """Refuse steps that are too long for a layer's neurons."""
    for layer in layers:
        if layer.ensemble is None:
            continue
        longest = model_of(layer.ensemble.neuron_type).longest_step
        if dt > longest:
            raise InputError(
                f"dt: a step of {dt:g} s is too long for {layer.label}, whose "
                f"{type(layer.ensemble.neuron_type).__name__} neurons leak all of their voltage in "
                f"it: expected at most {longest:g} s, or neurons without a leak such as "
                "SpikingRectifiedLinear"
            )


def _check_layers(
    network: nengo.Network,
    layers: list[Layer],
    readout: str,
    rasters: Sequence[str],
    keep: Sequence[str],
) -> None:
    labels = [layer.label for layer in layers]
    if len(set(labels)) < len(labels):
        raise InputError(
            f"expected layers with different labels, got {', '.join(labels)}; give them with label="
        )
    check_among("readout", readout, READOUTS)
    spiking = [layer.label for layer in layers if layer.spiking]
    as_names("rasters", rasters, spiking, "spiking layer")
    as_names("keep", keep, labels, "layer")
    inside = {*network.all_ensembles, *network.all_nodes}
    for layer in layers:
        if (layer.node if layer.ensemble is None else layer.ensemble) not in inside:
            raise InputError(
                f"the layer {layer.label} is not part of the network that was given; expected the "
                "one in which it was built, output.network"
            )


def _check_running(simulator: str, minibatch_size: int, precision: int) -> None:
    check_among("simulator", simulator, ("minibatch", "reference"))
    positive_integer("minibatch_size", minibatch_size)
    check_among("precision", precision, (32, 64))


def _fingerprint(
    job: _Job, infos: list[dict], images: np.ndarray, examples: np.ndarray
) -> dict[str, str]:
    """Return what the saved arrays depend on, for `Journal`."""
    # What the input showed last does not count.
    without = {id(job.image_input.output): ImageInput.shown}
    states = [(each.place, each.name, each.distribution) for each in job.states]
    return {
        "network": digest(job.network, "network", without),
        "layers": digest(infos, "layers"),
        "images": digest(images, "images"),
        "examples": digest(examples, "examples"),
        **{name: repr(job.settings[name]) for name in ("seed", "dt", "n_steps", "precision")},
        "rasters": ", ".join(job.rasters),
        "kept layers": ", ".join(job.kept),
        "initial states": digest(states, "initial_states"),
        **versions(),
    }


def _saved(save: pathlib.Path, settings: dict) -> Result:
    """Return a finished run of the same fingerprint, with the readout asked for now."""
    result = load_result(save)
    check_fingerprint(
        f"{save}: the saved run",
        settings["fingerprint"],
        result.settings.get("fingerprint", {}),
        "give the same settings, save to another file, or read it as it is with load_result",
    )
    return dataclasses.replace(result, settings=result.settings | settings)
