"""Present images to a network, one after the other, each starting from the reset state."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import nengo
import numpy as np
from nengo.base import ObjView
from numpy.typing import ArrayLike

from nengonet.checks import (
    as_examples,
    as_names,
    as_seed,
    check_among,
    count_steps,
    positive_integer,
)
from nengonet.exceptions import InputError
from nengonet.layers.graph import Graph, as_network
from nengonet.layers.initial import InitialStates, drawn_states
from nengonet.layers.inputs import ImageInput
from nengonet.layers.record import Layer, labels_of
from nengonet.layers.showing import MakeProcess, read_images
from nengonet.layers.targets import Output, Target, read_output
from nengonet.minibatch.acceleration import suggest_numba, telling
from nengonet.minibatch.carrying import CARRIED
from nengonet.neurons import model_of
from nengonet.results.journal import Journal, check_fingerprint, checked_file, unwritable
from nengonet.results.readout import READOUTS
from nengonet.results.result import Collector, Result, assemble, load_result, write_result
from nengonet.run.content import digest, versions
from nengonet.run.parallel import n_processes
from nengonet.run.progress import Told, mover, progress_bar
from nengonet.run.runner import Images, Job, run_examples

# Large enough to spread a step's fixed costs, small enough for cache and memory.
_LARGEST_MINIBATCH, _LARGEST_SIGNALS = 250, 4_500_000
# Files beside a saved run's file: the finished examples, and the file itself until it is complete.
_PARTIAL, _WRITING = ".partial", ".writing"


def present(
    network: nengo.Network,
    output: Output,
    images: ArrayLike | Mapping[nengo.Node, ArrayLike],
    *,
    input: nengo.Node | Layer | None = None,
    input_process: MakeProcess | Mapping[nengo.Node, MakeProcess] | None = None,
    presentation_time: float = 0.35,
    dt: float = 0.001,
    seed: int | None = None,
    examples: Sequence[int] | None = None,
    initial_states: InitialStates | None = None,
    carry: Sequence[str] = (),
    readout: str = "spike_count",
    rasters: Sequence[str] = (),
    keep: Sequence[str] | None = None,
    probes: Sequence[nengo.Probe | str] | str = (),
    simulator: str = "minibatch",
    minibatch_size: int | None = None,
    n_jobs: int = 1,
    precision: int = 64,
    save: str | os.PathLike | None = None,
    resume: bool = False,
    progress: bool | str | Told = True,
) -> Result:
    """Show every image for ``presentation_time``, from the reset state, and count the spikes.

    One call is one experiment, with a keyword for everything that can vary independently.

    Parameters
    ----------
    network : nengo.Network
        A network built with nengonet's builders, by hand in plain Nengo, or both. A run changes
        none of its objects.
    output : Layer, nengo.Ensemble, Neurons, nengo.Node, a slice of neurons or Node, or a list
        The object to read: the last layer, an Ensemble's neurons, a Node (such as an
        EnsembleArray's ``output``), or a list of several of these. The result also holds all layers
        with neurons or weights that feed it.
    images : (n_images, ...) or (n_images, n_steps, ...) array_like, or dict
        The images that the input shows. An image stays for a whole presentation; a sequence has one
        row for each step. Each has the input's shape, or is flat. Image inputs of nengonet divide
        uint8 by 255; `poisson_input` takes values in [0, 1]. A Node of plain Nengo outputs the
        values as they are, so a sequence may be spike trains: a spike of area ``amplitude`` has the
        value ``amplitude / dt`` in its step. For several inputs, give a dict ``{node: array}``.
    input : nengo.Node or Layer, optional
        The input that shows ``images`` instead of its own output. By default it is the only Node
        that shows images, or else the only Node without an input that outputs constants (0 first)
        or runs a `nengo.processes.PresentInput`. A Node that computes a function of time keeps
        doing so. It sees ``dt`` as the time of every example's first step.
    input_process : callable or dict of {Node: callable}, optional
        A function that takes an image, in the shape given, and returns the nengo Process that the
        input runs for it. It is not needed if the input's own Process has a method
        ``showing(image, example, seed)`` that returns the Process of an example.
    presentation_time : float, in seconds
    dt : float, in seconds
    seed : int, optional
        Seed of all randomness: each example's input noise, and the build of a network that has no
        seed of its own. By default the network's seed, or 0.
    examples : sequence of int, optional
        The examples' numbers, which choose their random streams; by default 0, 1, 2, …. With the
        same seed, example 17 gets the same spikes, whatever else is shown and in any order.
    initial_states : dict of {str: dict of {str: nengo.dists.Distribution}}, optional
        States that every example draws anew, by layer (or its label) and the name of the state,
        such as ``{"hidden": {"voltage": nengo.dists.Uniform(0, 1)}}``. In every example, all other
        states start from the values that the neuron type's ``initial_state`` gave when the model
        was built. An example's states depend on the seed and its number, like its input noise.
    carry : sequence of str
        State that survives the reset before every image: ``["weights"]`` for everything that
        learning rules change. Images are then shown one after the other, in order, with one job and
        minibatches of one. By default every image starts with the weights of the network.
    readout : str
        The default readout of the result: see `nengonet.results.readout.scores`.
    rasters : sequence of str
        Layers whose spikes are kept step by step, for figures (the arrays are large). Give their
        labels, or the layers or Ensembles themselves.
    keep : sequence of str, optional
        Layers for which the result keeps every neuron's count, or mean output, for every image.
        By default all; for many images and a large network, name the few that matter. For the
        others, the total number of spikes is kept. The last layer's spikes are always kept step by
        step.
    probes : sequence of nengo.Probe or str, or "all"
        Probes of the network, or their labels, whose data the result keeps for every image and
        step, as ``result.data[probe]``. By default none: they are large, and slow down the run.
    simulator : {"minibatch", "reference"}
        `MinibatchSimulator` runs many examples at once; ``"reference"`` is the unmodified
        ``nengo.Simulator``, reset before every example. Both give the same spikes, except for the
        rounding that the notes describe.
    minibatch_size : int, optional
        Number of examples that run at once. It changes speed and memory; it changes spikes only by
        rounding (see the notes). By default about 250, or as many as have two million neurons
        together.
    n_jobs : int
        Number of processes that share the examples, or of threads if most steps run outside Python;
        -1 for one per core. It changes speed. It changes spikes only by rounding, because fewer
        examples then run at once (see the notes).
    precision : {32, 64}
        Bits of a number. 32 is faster, but counts can shift by a spike. A neuron's count can reach
        4 million spikes in 32 bits, and 2 * 10**15 in 64.
    save : path_like, optional
        HDF5 file for the result. During the run, ``SAVE.partial`` holds the finished examples.
    resume : bool
        Continue an interrupted run, or return a finished one, from ``save``. Everything that the
        spikes depend on must have the same content and version (`nengonet.run.content`);
        ``readout`` may differ.
    progress : bool, str or callable
        Show a progress bar on standard error, if that is a terminal; a text is the bar's title.
        The bar moves within a minibatch; with several processes, it moves only when one is
        finished. One line says that Numba compiles, at the first run, or that Numba would help a
        long run. A function is called in place of the bar, in any thread, with the number of
        finished images (fractions included) and the total. An error that it raises ends the run.

    Returns
    -------
    Result

    Raises
    ------
    InputError
        An argument is out of range, unknown or not in the network; the images do not fit the input;
        ``dt`` is too long for a LIF neuron's leak; the file ``save`` already exists, or belongs to
        another run; or the state of a Node cannot be copied for each example.
    RunawayError
        Currents or spikes grow beyond what numbers can hold; it is an InputError too.

    Notes
    -----
    Spikes are counted by their area, so several spikes in one step count as several, whatever the
    amplitude. The random streams of Nengo's own neuron types (``PoissonSpiking``,
    ``StochasticSpiking``), which ``Simulator.reset`` does not restart, are restarted for every
    example. Functions of Nodes, a user's processes and neuron types that keep a state begin every
    example as a copy of the network's.

    The order in which a sum over inputs is added up depends on the simulator and on the number of
    examples that run at once. In 64 bits, a count can differ by a spike where a voltage meets its
    threshold exactly, as with decimal weights and initial voltages. In 32 bits, it sometimes
    differs elsewhere. With ``minibatch_size`` and ``precision`` fixed, every run repeats exactly.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> result = nn.present(net, layer, images, presentation_time=1.0)
    >>> result.counts["layer"].tolist()
    [[55, 142, 216]]
    >>> reference = nn.present(net, layer, images, presentation_time=1.0, simulator="reference")
    >>> reference.counts["layer"].tolist()
    [[55, 142, 216]]
    """
    n_steps, dt = count_steps(presentation_time, dt), float(dt)
    target = read_output(output, as_network(network))
    layers = target.upstream()
    _check_layers(target, layers, dt)
    check_among("readout", readout, READOUTS)
    check_among("simulator", simulator, ("minibatch", "reference"))
    check_among("precision", precision, (32, 64))
    labels = list(dict.fromkeys([*(layer.label for layer in layers), target.label]))
    spiking = [layer.label for layer in layers if layer.spiking]
    carry = as_names("carry", carry, CARRIED, "kind of state")
    if carry and (n_jobs != 1 or minibatch_size not in (None, 1)):
        raise InputError(
            "carry: expected n_jobs=1 and no minibatch_size, as each image starts with the weights "
            f"that the one before left, got n_jobs={n_jobs}, minibatch_size={minibatch_size}"
        )
    shown = read_images(images, target, node=input, make=input_process, n_steps=n_steps, dt=dt)
    n_images = len(shown[0].images)
    if minibatch_size is None:
        minibatch_size = 1 if carry else default_minibatch_size(network, n_images)
    rasters = _named("rasters", rasters, network)
    keep = _named("keep", keep, network)
    job = Job(
        target=target,
        inputs=tuple((each.node, each.process) for each in shown),
        settings={
            "presentation_time": n_steps * dt,
            "dt": dt,
            "n_steps": n_steps,
            "seed": as_seed(seed, network.seed),
            "readout": readout,
            "precision": int(precision),
        },
        states=drawn_states(layers, _named("initial_states", initial_states, network)),
        rasters=as_names("rasters", rasters, spiking, "spiking layer"),
        kept=as_names("keep", labels if keep is None else keep, labels, "layer"),
        probes=_asked(probes, network),
        simulator=simulator,
        minibatch_size=positive_integer("minibatch_size", minibatch_size),
        carry=carry,
        progress=bool(progress),
    )
    images = tuple(each.images for each in shown)
    examples = as_examples(examples, n_images)
    run = functools.partial(_run, job, images, examples, n_processes(n_jobs), progress)
    if save is None:
        if resume:
            raise InputError("resume: expected save=… too, with the interrupted run, got none")
        return run()
    save = checked_file(save, resume, (_PARTIAL, _WRITING))
    job.settings["fingerprint"] = _fingerprint(job, images, examples)
    return _saved(save, job, run)


def _named(name: str, layers: object, network: nengo.Network) -> object:
    """Replace layers and Nengo objects by their labels, in a list or as keys of a dict."""
    if not isinstance(layers, list | tuple | Mapping):
        return layers
    objects = (Layer, nengo.Ensemble, nengo.ensemble.Neurons, nengo.Node, ObjView)
    labels = [
        read_output(each, network, name).label if isinstance(each, objects) else each
        for each in layers
    ]
    if isinstance(layers, Mapping):
        return dict(zip(labels, layers.values(), strict=True))
    return labels


def _asked(probes: object, network: nengo.Network) -> dict[str, nengo.Probe]:
    """Return the requested probes, by name."""
    by_name: dict[str, nengo.Probe] = {}
    for number, probe in enumerate(network.all_probes):
        label = probe.label or f"probe {number}"
        by_name[label if label not in by_name else f"{label} {number}"] = probe
    if isinstance(probes, str) and probes == "all":
        return by_name
    if isinstance(probes, list | tuple):
        names = {probe: name for name, probe in by_name.items()}
        probes = [
            names.get(each, each) if isinstance(each, nengo.Probe) else each for each in probes
        ]
    return {name: by_name[name] for name in as_names("probes", probes, list(by_name), "probe")}


def default_minibatch_size(network: nengo.Network, n_images: int) -> int:
    """Return the number of examples that `present` runs at once; minibatches have equal sizes."""
    most = min(_LARGEST_MINIBATCH, max(1, _LARGEST_SIGNALS // max(Graph(network).size, 1)))
    return max(1, -(-n_images // max(1, round(n_images / most))))


class RunJournal(Journal):
    """The finished examples of an unfinished run, several in each record."""

    holds = "unfinished run"
    advice = "resume with the same settings, or delete the file"


def _run(
    job: Job,
    images: Images,
    examples: np.ndarray,
    n_jobs: int,
    progress: bool | str | Told,
    journal: RunJournal | None = None,
) -> Result:
    """Return the result of all examples: those in the journal, and the others after a run."""
    found = Collector(examples)
    if journal is not None:
        journal.replay(found.add)
    n_done = found.n_done
    missing = tuple(each[n_done:] for each in images)
    with (
        telling(bool(progress)),
        progress_bar(progress, "presenting", "image", n_done, len(examples)) as bar,
    ):
        if job.simulator == "minibatch":
            n_steps = (len(examples) - n_done) * job.settings["n_steps"]
            suggest_numba(n_steps * Graph(job.network).size)
        move = mover(bar, job.settings["n_steps"])
        for batch in run_examples(job, missing, examples[n_done:], n_jobs, move):
            found.add(batch)
            if journal is not None:
                journal.append(batch)
    return assemble(job.infos, job.settings, found.arrays, job.names)


def _saved(save: pathlib.Path, job: Job, run: Callable[..., Result]) -> Result:
    """Return a finished run from its file, or finish the run and write the file."""
    partial, writing = (save.with_name(save.name + ending) for ending in (_PARTIAL, _WRITING))
    if not partial.exists():
        if save.exists():
            return _loaded(save, job)
        if writing.exists():
            raise InputError(
                f"{writing} already exists and belongs to another run: rename it, or save elsewhere"
            )
    elif job.carry and not save.exists():
        raise InputError(
            f"{partial}: expected a finished run, as carried weights are not saved, got an "
            "interrupted one; delete the file, and run from the start"
        )
    with RunJournal(partial, job.settings["fingerprint"]) as journal:
        if save.exists():  # by a run that was killed, or has just ended
            result = _loaded(save, job)
        else:
            result = run(journal=journal)
            try:
                write_result(result, save, writing)
            except OSError as error:
                raise unwritable(save, error) from error
        journal.delete()
    return result


def _loaded(save: pathlib.Path, job: Job) -> Result:
    """Return a finished run of the same fingerprint, with the readout of this call."""
    result = load_result(save)
    check_fingerprint(
        f"{save}: the saved run",
        job.settings["fingerprint"],
        result.settings.get("fingerprint", {}),
        "give the same settings, save to another file, or read the run as it is with load_result",
    )
    settings = result.settings | job.settings
    return dataclasses.replace(result, settings=settings, names=job.names)


def _fingerprint(job: Job, images: Images, examples: np.ndarray) -> dict[str, str]:
    """Return digests and settings of everything that the saved arrays depend on."""
    # The images that the inputs showed last do not count, nor does their output without images.
    without = {
        id(each): ImageInput.shown for node, own in job.inputs for each in (node.output, own)
    }
    without |= {id(node): ("output",) for node in job.shown}
    labels = labels_of(job.network, job.target.layers)
    inputs = [(labels[node], own if node in job.shown else None) for node, own in job.inputs]
    outputs = [(labels[part.item], part.indices) for part in job.target.parts]
    states = [(each.place, each.name, each.distribution) for each in job.states]
    # uint8 images count as the values that they stand for.
    shown = tuple(
        own.rows(each) if each.dtype == np.uint8 and isinstance(own, ImageInput) else each
        for (_, own), each in zip(job.inputs, images, strict=True)
    )
    return {
        "network": digest(job.network, "network", without),
        "layers": digest([dataclasses.asdict(info) for info in job.infos], "layers"),
        "inputs": digest(inputs, "input_process", without),
        "output": digest(outputs, "output"),
        "images": digest(shown, "images"),
        "examples": digest(examples, "examples"),
        **{name: repr(job.settings[name]) for name in ("seed", "dt", "n_steps", "precision")},
        "rasters": ", ".join(job.rasters),
        "kept layers": ", ".join(job.kept),
        "probes": digest(job.probes, "probes", without),
        "initial states": digest(states, "initial_states"),
        "carry": ", ".join(job.carry),
        **versions(),
    }


def _check_layers(target: Target, layers: list[Layer], dt: float) -> None:
    labels = [layer.label for layer in layers] + ([] if target.item else [target.label])
    if len(set(labels)) < len(labels):
        raise InputError(
            f"expected layers with different labels, got {', '.join(labels)}; give them with label="
        )
    for item in target.items:
        if isinstance(item, nengo.Ensemble) and not model_of(item.neuron_type).has_neurons:
            raise InputError(
                f"{item}: expected an output with neurons, got Direct mode, which has none; give a "
                "Node after a connection from it"
            )
    for layer in layers:
        if layer.ensemble is not None:
            model_of(layer.neuron_type).check_step(dt, layer.label)
