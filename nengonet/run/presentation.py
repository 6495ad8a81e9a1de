"""Present images to a network, one after the other, each from the reset state."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Sequence

import nengo
import numpy as np

from nengonet.checks import (
    as_examples,
    as_names,
    as_seed,
    check_among,
    count_steps,
    positive_integer,
)
from nengonet.exceptions import InputError
from nengonet.layers.graph import as_network, owner
from nengonet.layers.initial import InitialStates, drawn_states
from nengonet.layers.inputs import ImageInput, images_at
from nengonet.layers.record import Layer, checked_layer, layers_of
from nengonet.neurons import model_of
from nengonet.results.journal import Journal, check_fingerprint, checked_file, unwritable
from nengonet.results.readout import READOUTS
from nengonet.results.result import Collector, Result, assemble, load_result, write_result
from nengonet.run.content import digest, versions
from nengonet.run.parallel import n_processes, progress_bar
from nengonet.run.runner import Job, run_examples

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

    One call is an experiment, with a keyword for each thing that may vary by itself.

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
        Examples are shared out over this many processes, or over threads where many steps run
        outside Python; -1 for one per core. It changes speed, and as the examples that run
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
        An argument is out of range, unknown or not in the network; the images do not fit the input;
        ``dt`` is too long for a LIF neuron's leak; the file of ``save`` already exists, or is that
        of another run; or what a Node keeps cannot be copied for each example.
    RunawayError
        Currents or spikes grow beyond what numbers hold; it is an InputError too.

    Notes
    -----
    Spikes are counted by their area, so several spikes in one step count as several, whatever the
    amplitude. The random streams of Nengo's own neuron types (``PoissonSpiking``,
    ``StochasticSpiking``), which ``Simulator.reset`` does not restart, are restarted for every
    example. Functions of Nodes, a user's processes and neuron types that keep a state begin every
    example as a copy of the network's.

    The order in which a sum over inputs is added up depends on the simulator and on how many
    examples run at once. In 64 bits a count can differ by a spike where a voltage meets its
    threshold exactly, as with decimal weights and first voltages; in 32 bits now and then
    elsewhere. With ``minibatch_size`` and ``precision`` fixed, everything repeats.
    """
    n_steps, dt = count_steps(presentation_time, dt), float(dt)
    layers = layers_of(checked_layer(output, "output"), as_network(network))
    _check_layers(network, layers, dt)
    check_among("readout", readout, READOUTS)
    check_among("simulator", simulator, ("minibatch", "reference"))
    check_among("precision", precision, (32, 64))
    labels = [layer.label for layer in layers]
    spiking = [layer.label for layer in layers if layer.spiking]
    if minibatch_size is None:
        minibatch_size = default_minibatch_size(network)
    job = Job(
        network=network,
        output=output,
        settings={
            "presentation_time": n_steps * dt,
            "dt": dt,
            "n_steps": n_steps,
            "seed": as_seed(seed, network.seed),
            "readout": readout,
            "precision": int(precision),
        },
        states=drawn_states(layers, initial_states),
        rasters=as_names("rasters", rasters, spiking, "spiking layer"),
        kept=as_names("keep", labels if keep is None else keep, labels, "layer"),
        simulator=simulator,
        minibatch_size=positive_integer("minibatch_size", minibatch_size),
    )
    images = images_at(job.image_input, images)
    examples = as_examples(examples, len(images))
    run = functools.partial(_run, job, images, examples, n_processes(n_jobs), progress)
    if save is None:
        if resume:
            raise InputError("resume: expected save=…, the file of the interrupted run")
        return run()
    save = checked_file(save, resume, (_PARTIAL, _WRITING))
    job.settings["fingerprint"] = _fingerprint(job, images, examples)
    return _saved(save, job.settings, run)


def default_minibatch_size(network: nengo.Network) -> int:
    """Return how many examples `present` runs at once."""
    size = sum(ensemble.n_neurons for ensemble in network.all_ensembles)
    size += sum(node.size_out for node in network.all_nodes)
    return min(_LARGEST_MINIBATCH, max(1, _LARGEST_SIGNALS // max(size, 1)))


class RunJournal(Journal):
    """The finished examples of a run that is not finished, some in each record."""

    holds = "unfinished run"
    advice = "resume with the same settings, or delete the file"


def _run(
    job: Job,
    images: np.ndarray,
    examples: np.ndarray,
    n_jobs: int,
    progress: bool,
    journal: RunJournal | None = None,
) -> Result:
    """Return the result of all examples: those in the journal, and the others run now."""
    found = Collector(examples)
    if journal is not None:
        journal.replay(found.add)
    n_done = found.n_done
    with progress_bar("presenting", "image", n_done, len(images), progress) as bar:
        for batch in run_examples(job, images[n_done:], examples[n_done:], n_jobs):
            found.add(batch)
            if journal is not None:
                journal.append(batch)
            bar.update(found.n_done - bar.n)
    return assemble(job.infos, job.settings, found.arrays)


def _saved(save: pathlib.Path, settings: dict, run: Callable[..., Result]) -> Result:
    """Return a finished run from its file; else finish it, and write the file."""
    partial, writing = (save.with_name(save.name + ending) for ending in (_PARTIAL, _WRITING))
    if not partial.exists():
        if save.exists():
            return _loaded(save, settings)
        if writing.exists():
            raise InputError(
                f"{writing} already exists, of another run: rename it, or save elsewhere"
            )
    with RunJournal(partial, settings["fingerprint"]) as journal:
        if save.exists():  # by a run that was killed, or has just ended
            result = _loaded(save, settings)
        else:
            result = run(journal=journal)
            try:
                write_result(result, save, writing)
            except OSError as error:
                raise unwritable(save, error) from error
        journal.delete()
    return result


def _loaded(save: pathlib.Path, settings: dict) -> Result:
    """Return a finished run of the same fingerprint, with the readout asked for now."""
    result = load_result(save)
    check_fingerprint(
        f"{save}: the saved run",
        settings["fingerprint"],
        result.settings.get("fingerprint", {}),
        "give the same settings, save to another file, or read it as it is with load_result",
    )
    return dataclasses.replace(result, settings=result.settings | settings)


def _fingerprint(job: Job, images: np.ndarray, examples: np.ndarray) -> dict[str, str]:
    """Return what the saved arrays depend on."""
    # What the input showed last does not count.
    without = {id(job.image_input.output): ImageInput.shown}
    states = [(each.place, each.name, each.distribution) for each in job.states]
    return {
        "network": digest(job.network, "network", without),
        "layers": digest([dataclasses.asdict(info) for info in job.infos], "layers"),
        "images": digest(images, "images"),
        "examples": digest(examples, "examples"),
        **{name: repr(job.settings[name]) for name in ("seed", "dt", "n_steps", "precision")},
        "rasters": ", ".join(job.rasters),
        "kept layers": ", ".join(job.kept),
        "initial states": digest(states, "initial_states"),
        **versions(),
    }


def _check_layers(network: nengo.Network, layers: list[Layer], dt: float) -> None:
    labels = [layer.label for layer in layers]
    if len(set(labels)) < len(labels):
        raise InputError(
            f"expected layers with different labels, got {', '.join(labels)}; give them with label="
        )
    inside = {*network.all_ensembles, *network.all_nodes}
    for layer in layers:
        if owner(layer.output) not in inside:
            raise InputError(
                f"the layer {layer.label} is not part of the network that was given; expected the "
                "one in which it was built, output.network"
            )
        if layer.ensemble is not None:
            model_of(layer.neuron_type).check_step(dt, layer.label)
