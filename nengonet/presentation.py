"""Present images to a network, one after the other, each from the reset state."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import sys
import warnings
from collections.abc import Iterator, Sequence

import nengo
import numpy as np
from nengo.builder import Model
from nengo.builder.neurons import SimNeurons
from nengo.cache import NoDecoderCache
from tqdm import tqdm

from nengonet.datasets import as_images
from nengonet.encoding import example_rng
from nengonet.exceptions import InputError
from nengonet.objects import Layer
from nengonet.readout import READOUTS, spike_counts
from nengonet.results import Journal, Result, assemble, load_result

# The random streams of one example: 0 is the input's (`encoding.example_rng`).
_RESET_STREAM = 1
_NEURON_STREAM = 2


def present(
    network: nengo.Network,
    output: Layer,
    images: np.ndarray,
    *,
    presentation_time: float = 0.35,
    dt: float = 0.001,
    seed: int | None = None,
    examples: Sequence[int] | None = None,
    readout: str = "spike_count",
    rasters: Sequence[str] = (),
    save: str | os.PathLike | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Result:
    """Show every image for ``presentation_time``, from the reset state, and count the spikes.

    Runs the unmodified ``nengo.Simulator``, built once and reset before every example.

    Parameters
    ----------
    network : nengo.Network
    output : Layer
        The last layer; the layers before it are found through it.
    images : (n_images, ...) array_like, in [0, 1]
        Each of the input layer's shape, or flat.
    presentation_time : float, in seconds
    dt : float, in seconds
    seed : int, optional
        Of all randomness: each example's input noise, and the build of a network that has no seed
        of its own. By default the network's seed, or 0.
    examples : sequence of int, optional
        The examples' numbers, which choose their random streams; 0, 1, 2, … by default. The same
        seed gives example 17 the same spikes whatever else is shown, and in whatever order.
    readout : str
        The default readout of the result: see `nengonet.readout.scores`.
    rasters : sequence of str
        Labels of layers whose spikes are kept step by step (for figures; they are large).
    save : path_like, optional
        HDF5 file for the result. While the run goes on, ``SAVE.partial`` holds what is finished.
    resume : bool
        Go on with an interrupted run, or return a finished one, from ``save``.
    progress : bool
        Show a progress bar on standard error, if that is a terminal.

    Returns
    -------
    Result

    Raises
    ------
    InputError

    Notes
    -----
    Spikes are counted by their area, so several spikes in one step count as several, whatever the
    amplitude. Nengo's own random neuron types (``PoissonSpiking``, ``StochasticSpiking``) keep one
    random stream from the build on, which ``Simulator.reset`` does not restart
    (``nengo/builder/neurons.py``); here it is restarted for every example.
    """
    layers = list(output.chain())
    seed = _checked_seed(network, seed)
    images = _checked_images(images, layers[0])
    examples = _checked_examples(examples, len(images))
    n_steps = _checked_steps(presentation_time, dt)
    _check_layers(network, layers, readout, rasters)

    settings = {
        "presentation_time": n_steps * dt,
        "dt": dt,
        "n_steps": n_steps,
        "seed": seed,
        "readout": readout,
    }
    infos = [
        {"label": layer.label, "shape": list(layer.shape), "amplitude": layer.amplitude}
        for layer in layers
    ]
    fingerprint = _fingerprint(network, infos, settings, images, examples, rasters)
    journal, records = None, []
    if save is not None:
        save = _checked_file(save, resume)
        if save.exists():
            return _finished(save, fingerprint)
        settings["fingerprint"] = fingerprint
        journal = Journal(save.with_name(save.name + ".partial"), fingerprint)
        records = _unfinished(journal, resume)

    todo = range(len(records), len(images))
    if todo:
        with reference_simulator(network, dt, seed) as simulator:
            for index in tqdm(
                todo,
                desc="presenting",
                unit="image",
                initial=len(records),
                total=len(images),
                disable=None if progress else True,
                file=sys.stderr,
            ):
                record = _present_one(
                    simulator, layers, images[index], int(examples[index]), settings, rasters
                )
                records.append(record)
                if journal is not None:
                    journal.append(record)

    arrays = {name: np.stack([record[name] for record in records]) for name in records[0]}
    result = assemble(infos, settings, arrays | {"examples": examples})
    if save is not None:
        result.save(save)
        journal.delete()
    return result


@contextlib.contextmanager
def reference_simulator(network: nengo.Network, dt: float, seed: int) -> Iterator[nengo.Simulator]:
    """Build the unmodified ``nengo.Simulator``, repeatably and without needless warnings.

    Parameters
    ----------
    network : nengo.Network
        One that has no seed of its own is built with ``seed``.
    dt : float, in seconds
    seed : int
    """
    random_ensembles = sum(
        isinstance(ensemble.neuron_type, (nengo.PoissonSpiking, nengo.StochasticSpiking))
        for ensemble in network.all_ensembles
    )
    unseeded = network.seed is None
    if unseeded:
        network.seed = seed
    try:
        with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
            # Where gain + bias < 1, a LIF neuron is silent at a drive of 1, and Nengo finds no
            # max_rates that belong to the stated gain. Nothing uses them.
            warnings.filterwarnings("ignore", "Non-finite values detected in `max_rates`")
            simulator = nengo.Simulator(
                network,
                # Nothing is decoded, and a cache on disk would be locked by parallel runs.
                model=Model(dt=dt, label=str(network), decoder_cache=NoDecoderCache()),
                dt=dt,
                seed=seed,
                progress_bar=False,
                # The optimizer would let several random ensembles share one stream, and warn.
                optimize=random_ensembles < 2,
            )
    finally:
        if unseeded:
            network.seed = None
    with simulator:
        yield simulator


def reset_to_example(simulator: nengo.Simulator, seed: int, example: int) -> None:
    """Reset a simulator, and restart every random stream with the example's own.

    Parameters
    ----------
    simulator : nengo.Simulator
    seed, example : int
    """
    neuron_rng = example_rng(seed, example, _NEURON_STREAM)
    for operator in simulator.step_order:
        if isinstance(operator, SimNeurons):
            for state in operator.state_extra.values():
                state.seed(neuron_rng.integers(2**32, size=8, dtype=np.uint32))
    simulator.reset(seed=int(example_rng(seed, example, _RESET_STREAM).integers(2**31 - 1)))


def _present_one(
    simulator: nengo.Simulator,
    layers: list[Layer],
    image: np.ndarray,
    example: int,
    settings: dict,
    rasters: Sequence[str],
) -> dict[str, np.ndarray]:
    """Show one image; return its counts and outputs under the names that `assemble` knows."""
    layers[-1].show(image, example=example, seed=settings["seed"])
    reset_to_example(simulator, settings["seed"], example)
    # A layer's output signal is what an unfiltered probe would copy at every step.
    signals = [simulator.signals[simulator.model.sig[layer.output]["out"]] for layer in layers]
    n_steps, dt = settings["n_steps"], settings["dt"]
    sums = [np.zeros(layer.size) for layer in layers]
    steps = {
        layer.label: np.empty((n_steps, layer.size))
        for layer in layers
        if layer is layers[-1] or layer.label in rasters
    }
    for step in range(n_steps):
        simulator.step()
        for layer, signal, total in zip(layers, signals, sums, strict=True):
            total += signal
            if layer.label in steps:
                steps[layer.label][step] = signal

    record = {"outputs": steps[layers[-1].label]}
    for layer, total in zip(layers, sums, strict=True):
        record[f"mean_outputs/{layer.label}"] = total / n_steps
        if layer.spiking:
            counts = spike_counts(total, dt, layer.amplitude)
            record[f"counts/{layer.label}"] = counts.astype(np.int32)
        if layer.label in rasters:
            spikes = spike_counts(steps[layer.label], dt, layer.amplitude)
            record[f"rasters/{layer.label}"] = spikes.astype(np.int32)
    return record


def _checked_seed(network: nengo.Network, seed: int | None) -> int:
    if seed is None:
        seed = 0 if network.seed is None else network.seed
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**31:
        raise InputError(f"seed: expected a whole number from 0 to {2**31 - 1}, found {seed!r}")
    return int(seed)


def _checked_images(images: np.ndarray, source: Layer) -> np.ndarray:
    images, _ = as_images(images)
    if images[0].size != source.size:
        raise InputError(
            f"images: the layer {source.label} has {source.size} inputs {source.shape}, "
            f"but an image has {images[0].size} values {images[0].shape}"
        )
    return images.reshape(len(images), source.size)


def _checked_examples(examples: Sequence[int] | None, n_images: int) -> np.ndarray:
    numbers = np.arange(n_images) if examples is None else np.asarray(examples)
    if numbers.shape != (n_images,) or numbers.dtype.kind not in "iu" or np.any(numbers < 0):
        raise InputError(
            f"examples: expected {n_images} whole numbers from 0 on, one for each image, "
            f"found {examples!r}"
        )
    return numbers.astype(np.int64)


def _checked_steps(presentation_time: float, dt: float) -> int:
    for name, value in (("dt", dt), ("presentation_time", presentation_time)):
        if not (np.isfinite(value) and value > 0):
            raise InputError(f"{name}: expected a time above 0 s, found {value}")
    n_steps = round(presentation_time / dt)
    if n_steps < 1:
        raise InputError(
            f"presentation_time: expected at least one step of {dt} s, found {presentation_time} s"
        )
    return n_steps


def _check_layers(
    network: nengo.Network, layers: list[Layer], readout: str, rasters: Sequence[str]
) -> None:
    labels = [layer.label for layer in layers]
    if len(set(labels)) < len(labels):
        raise InputError(f"expected layers with different labels, found {', '.join(labels)}")
    if readout not in READOUTS:
        raise InputError(f"expected a readout out of {', '.join(READOUTS)}; found {readout!r}")
    for label in rasters:
        if label not in labels or not layers[labels.index(label)].spiking:
            spiking = ", ".join(layer.label for layer in layers if layer.spiking)
            raise InputError(f"rasters: expected spiking layers ({spiking}), found {label!r}")
    inside = {*network.all_ensembles, *network.all_nodes}
    for layer in layers:
        if (layer.node if layer.ensemble is None else layer.ensemble) not in inside:
            raise InputError(f"the layer {layer.label} is not part of the network that was given")


def _fingerprint(
    network: nengo.Network,
    infos: list[dict],
    settings: dict,
    images: np.ndarray,
    examples: np.ndarray,
    rasters: Sequence[str],
) -> dict[str, str]:
    """Tell what the spikes depend on, for `Journal`."""
    return {
        "network": _digest(_described(network), infos),
        "images": _digest(images),
        "examples": _digest(examples),
        "rasters": ", ".join(rasters),
    } | {name: repr(settings[name]) for name in ("seed", "dt", "n_steps")}


def _described(network: nengo.Network) -> Iterator[object]:
    yield network.seed
    for ensemble in network.all_ensembles:
        yield from (ensemble.n_neurons, ensemble.neuron_type, ensemble.gain, ensemble.bias)
        yield from (ensemble.max_rates, ensemble.intercepts, ensemble.seed)
    for node in network.all_nodes:
        output = node.output
        named = isinstance(output, (np.ndarray, nengo.Process))
        yield from (node.size_in, node.size_out, output if named else type(output).__name__)
        yield getattr(output, "bias", None)
    for connection in network.all_connections:
        transform = connection.transform
        yield from (connection.pre.size_out, connection.post.size_in, connection.synapse)
        yield from (transform, getattr(transform, "init", None))


def _digest(*things: object) -> str:
    digest = hashlib.sha256()
    for thing in things:
        parts = [thing] if isinstance(thing, (np.ndarray, list, dict, str)) else list(thing)
        for part in parts:
            if isinstance(part, np.ndarray):
                digest.update(repr((part.shape, part.dtype.str)).encode())
                digest.update(np.ascontiguousarray(part).tobytes())
            else:
                digest.update(repr(part).encode())
    return digest.hexdigest()[:16]


def _checked_file(save: str | os.PathLike, resume: bool) -> pathlib.Path:
    save = pathlib.Path(save)
    if not save.parent.is_dir():
        raise InputError(f"{save}: the folder {save.parent} does not exist")
    if save.is_dir():
        raise InputError(f"{save}: expected the name of a file, found a folder")
    partial = save.with_name(save.name + ".partial")
    for path in (save, partial):
        if path.exists() and not resume:
            raise InputError(f"{path} is there already: go on with it (resume), or delete it")
    return save


def _finished(save: pathlib.Path, fingerprint: dict[str, str]) -> Result:
    result = load_result(save)
    for name, value in fingerprint.items():
        found = result.settings.get("fingerprint", {}).get(name)
        if found != value:
            raise InputError(
                f"{save}: the saved run has another {name}: expected {value}, found {found}; "
                "give the same settings, or another file"
            )
    return result


def _unfinished(journal: Journal, resume: bool) -> list[dict[str, np.ndarray]]:
    records = journal.read() if resume else []
    journal.start()
    return records
