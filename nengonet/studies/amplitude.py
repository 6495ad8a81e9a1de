"""The Nengo forum's "Effect of amplitude on accuracy": LIF spikes larger than in training.

https://forum.nengo.ai/t/nengodl-mnist-tutorial-effect-of-amplitude-on-accuracy/1830

The poster takes NengoDL's MNIST tutorial (``max_rates`` Choice([100]), ``intercepts`` Choice([0]),
``synapse`` None), sets the amplitude of its LIF neurons to 0.01, 0.02, … 0.50, leaves the weights
as they were trained at 0.01, and asks why the accuracy falls, and why in a zig-zag. Here are the
study's sweeps and its report; the networks and single runs are in `amplitude_cells`, the tables and
answers in `amplitude_answers`.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from nengonet import datasets
from nengonet.checks import check_among
from nengonet.exceptions import InputError
from nengonet.results.journal import checked_file
from nengonet.studies import amplitude_answers as answers
from nengonet.studies.amplitude_cells import (
    AMPLITUDES,
    NETWORKS,
    RETRAINED,
    TRAINED_AT,
    WHITE,
    build,
    cell,
    channel,
    digest,
    digits,
    explain,
    network_layers,
    read_layers,
    simulate,
)
from nengonet.studies.old_report import Reproduction
from nengonet.studies.shared import measured, tuning_of
from nengonet.sweeps.result import Sweep
from nengonet.sweeps.sweep import sweep
from nengonet.weights import load_weights, pretrained

NAME = "amplitude"
SOURCE = 'NengoDL tutorial "Optimizing a spiking neural network": "~1 % error" at amplitude 0.01'
# By network and amplitude, as the report names them.
PUBLISHED = {"cnn, amplitude 0.01": 0.99}
N_IMAGES = {"mlp": 1000, "cnn": 200}
N_SEEDS = {"mlp": 10, "cnn": 5}
_FILES = {"mlp": "mnist_dense", "cnn": "amplitude_cnn"}
# At every amplitude, and at those five; the MLP has no biases, the CNN's last layer no neurons.
CURVES = {"mlp": ("fixed", "compensated", "linear"), "cnn": ("fixed",)}
CAUSES = {
    "mlp": ("rate", "unclipped", "synapse"),
    "cnn": ("compensated", "rate", "unclipped", "synapse", "biases"),
}
# Trained alike at 0.01, from other seeds.
TRAININGS = {"training-1": "amplitude_cnn_seed1", "training-2": "amplitude_cnn_seed2"}
# The thread's loop over one amplitude.
LOOP = {"kind": ["loop"], "amplitude": [0.1]}
N_LOOP_SEEDS = 50
CHANNEL_AMPLITUDES = (0.01, *(n / 20 for n in range(1, 11)))
N_CHANNEL_SEEDS = 5
# Images whose spikes are kept neuron by neuron.
N_EXPLAINED = 50


@dataclasses.dataclass(frozen=True, eq=False)
class AmplitudeReport(Reproduction):
    """The sweeps behind a `Reproduction`, whose figures are those at amplitude 0.01, seed 0."""

    sweeps: dict[str, Sweep] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict:
        """Return the report as JSON's own types, the table of every sweep included."""
        return super().to_json() | {"rows": {name: run.rows for name, run in self.sweeps.items()}}


def sweep_cell(
    *,
    network: Literal["mlp", "cnn"] = "mlp",
    amplitude: float = TRAINED_AT,
    kind: Literal[
        "fixed", "compensated", "linear", "rate", "unclipped", "synapse", "biases"
    ] = "fixed",
    input_kind: Literal["constant", "process"] = "constant",
    n_images: int | str = 200,
    weights: str | os.PathLike | None = None,
    data: str | os.PathLike | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Run one network at one amplitude, for a sweep."""
    if weights is not None and network != "mlp":
        raise InputError(f"network: expected mlp beside a weights file, found {network!r}")
    _, layers = network_layers(load_weights(weights or pretrained(_FILES[network])))
    built, output = build(
        layers, amplitude=amplitude, kind=kind, poisson=input_kind == "process", seed=seed
    )
    images, labels = datasets.load("mnist", n_images=n_images, data_dir=data, progress=False)
    result = simulate(built, output, images, seed=seed)
    return measured(result, result.accuracy(labels))


def reproduce(
    weights: str | os.PathLike | None = None,
    *,
    networks: Sequence[str] = (),
    n_images: int | str | None = None,
    n_seeds: int | None = None,
    amplitudes: Sequence[float] = AMPLITUDES,
    poisson: bool = False,
    n_jobs: int = -1,
    scheduler: str | None = None,
    precision: int = 32,
    save: str | os.PathLike | None = None,
    resume: bool = False,
    progress: bool = True,
) -> AmplitudeReport:
    """Sweep the amplitude of the LIF neurons, and say what it does and why."""
    files = _files(weights, networks)
    counts = {name: N_IMAGES[name] if n_images is None else n_images for name in files}
    seeds = {name: N_SEEDS[name] if n_seeds is None else n_seeds for name in files}
    grids = {name: _grids(name, amplitudes) for name in files}
    # Cells of other files, or of more seeds: sweeps of their own, whose rows join the network's.
    joined = {f"loop-{name}": name for name in files}
    for extra, name in list(joined.items()):
        files[extra], counts[extra], grids[extra] = files[name], counts[name], LOOP
        seeds[extra] = N_LOOP_SEEDS
    if "cnn" in files and weights is None:
        joined["retrained"], counts["retrained"] = "cnn", counts["cnn"]
        files["retrained"], seeds["retrained"] = _retrained_files(), seeds["cnn"]
        grids["retrained"] = [_at(["retrained", *TRAININGS], RETRAINED)]
    saves = {name: _save(save, name, resume) for name in (*files, "channel")}
    running = {
        "n_jobs": 1 if scheduler else n_jobs,
        "scheduler": scheduler,
        "resume": resume,
        "progress": progress,
    }
    sweeps = {
        name: sweep(
            cell,
            grids[name],
            seeds=seeds[name],
            constants={
                "files": files[name],
                "n_images": counts[name],
                "poisson": poisson,
                "precision": precision,
            },
            save=saves[name],
            **running,
        )
        for name in files
    }
    sweeps["channel"] = sweep(
        channel,
        {"decoders": ["fixed", "solved"], "amplitude": CHANNEL_AMPLITUDES},
        seeds=N_CHANNEL_SEEDS,
        save=saves["channel"],
        **running,
    )
    _check_failed(sweeps)
    for extra, name in joined.items():
        run, more = sweeps[name], sweeps.pop(extra)
        sweeps[name] = dataclasses.replace(
            run, rows=run.rows + more.rows, n_images=run.n_images + more.n_images
        )
        del files[extra], counts[extra]
    return _report(files, counts, sweeps, poisson=poisson, precision=precision)


def _at(kinds: Sequence[str], amplitudes: Sequence[float]) -> dict[str, Sequence]:
    return {"kind": kinds, "amplitude": amplitudes}


def _grids(name: str, amplitudes: Sequence[float]) -> list[dict[str, Sequence]]:
    return [_at(CURVES[name], amplitudes), _at(("fixed", *CAUSES[name]), RETRAINED)]


def _files(
    weights: str | os.PathLike | None, networks: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """Return the files of every network that runs, as `cell` takes them."""
    for name in networks:
        check_among("networks", name, NETWORKS)
    if weights is not None:
        path = pathlib.Path(weights).resolve()
        name, _ = network_layers(load_weights(path))
        if networks and tuple(networks) != (name,):
            raise InputError(
                f"{weights}: holds the network {name}; leave networks, or name only that one"
            )
        return {name: {"": [str(path), digest(path)]}}
    found = {}
    for name in NETWORKS:
        if name in networks or not networks:
            path = pretrained(_FILES[name])
            found[name] = {"": [str(path), digest(path)]}
    return found


def _retrained_files() -> dict[str, list[str]]:
    names = {
        f"{amplitude:g}": "amplitude_cnn" + ("" if amplitude == TRAINED_AT else f"_{amplitude:g}")
        for amplitude in RETRAINED
    }
    paths = {key: pretrained(name) for key, name in (names | TRAININGS).items()}
    return {key: [str(path), digest(path)] for key, path in paths.items()}


def _save(save: str | os.PathLike | None, name: str, resume: bool) -> pathlib.Path | None:
    if save is None:
        return None
    path = pathlib.Path(save)
    return checked_file(path.with_name(f"{path.stem}-{name}{path.suffix}"), resume)


def _check_failed(sweeps: dict[str, Sweep]) -> None:
    for name, run in sweeps.items():
        if run.failed:
            first = run.failed[0]
            raise InputError(
                f"{name}: {len(run.failed)} of {len(run.rows)} cells failed, the first at "
                f"amplitude {first['amplitude']:g}, seed {first['seed']}: {first['error']}"
            )


def _as_trained(
    images: np.ndarray, labels: np.ndarray, precision: int
) -> dict[float, dict[str, float]]:
    """Measure the retrained networks without spikes, and what their spikes drive."""
    found = {}
    files = _retrained_files()
    for amplitude in RETRAINED:
        layers = read_layers(*files[f"{amplitude:g}"])
        network, output = build(layers, kind="rate", amplitude=amplitude)
        rate = simulate(network, output, images, precision=precision, keep=[output.label])
        first, *_ = explain(layers, images[:N_EXPLAINED], [amplitude])
        found[amplitude] = {"rate": rate.accuracy(labels).value, "drive": first["drive"]}
    return found


def _report(
    files: dict[str, dict[str, list[str]]],
    counts: dict[str, int | str],
    sweeps: dict[str, Sweep],
    *,
    poisson: bool,
    precision: int,
) -> AmplitudeReport:
    # The tutorial's network, where it ran.
    name = "cnn" if "cnn" in files else "mlp"
    path = files[name][""][0]
    layers = read_layers(*files[name][""])
    images, labels = digits(counts[name])
    network, output = build(layers, poisson=poisson)
    result = simulate(network, output, images, seed=0, precision=precision, keep=[output.label])
    rate_network, rate_output = build(layers, kind="rate")
    rate = simulate(
        rate_network, rate_output, images, precision=precision, keep=[rate_output.label]
    )
    curves = {}
    for each in files:
        _, found = answers.accuracies(sweeps[each], "fixed")
        curves |= {f"{each}, seed 0": found[:, 0], f"{each}, mean": found.mean(axis=1)}
    explained = {
        each: explain(read_layers(*of[""]), digits(counts[each])[0][:N_EXPLAINED], poisson=poisson)
        for each, of in files.items()
    }
    is_retrained = any(row["kind"] == "retrained" for row in sweeps[name].rows)
    retrained = _as_trained(images, labels, precision) if is_retrained else {}
    return AmplitudeReport(
        name=NAME,
        source=SOURCE,
        all_published={} if poisson else PUBLISHED,
        accuracy=result.accuracy(labels),
        ann_accuracy=rate.accuracy(labels),
        result=result,
        settings={
            "network": f"{name}, amplitude {TRAINED_AT:g}",
            "ann": "the same network of LIFRate neurons",
            "readout": "filtered (0.1 s), last step",
            "seed": 0,
            "weights": path,
            "input": "Poisson, 255 Hz" if poisson else f"constant, white {WHITE[name]:g}",
            "presentation_time": result.settings["presentation_time"],
            "dt": result.dt,
            "precision": precision,
            "tuning": tuning_of(output),
        },
        notes=answers.notes(sweeps, explained, retrained),
        cells=answers.cells(sweeps),
        tables=answers.tables(sweeps, counts, explained),
        curves=curves,
        network=network,
        output=output,
        images=images,
        labels=labels,
        sweeps=sweeps,
    )
