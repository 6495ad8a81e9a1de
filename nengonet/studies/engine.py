"""The engine of the studies: it runs, saves, resumes, sweeps, diagnoses and budgets them.

A `Study` describes a published example: its source, its data, a function that builds each of its
networks, what `reproduce` runs, and functions of a report that give cells, tables and notes.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import nengo
import numpy as np

from nengonet import datasets
from nengonet.ann.activations import Pool
from nengonet.checks import check_among
from nengonet.exceptions import InputError
from nengonet.explain.budget import Budget, budget_of, error_budget
from nengonet.explain.diagnosis import Diagnosis, diagnose
from nengonet.explain.prediction import predict
from nengonet.layers.initial import InitialStates
from nengonet.layers.record import Layer
from nengonet.results.journal import checked_file
from nengonet.results.readout import Accuracy
from nengonet.results.result import Result
from nengonet.run.presentation import present
from nengonet.studies.options import Parameter, parameters_of
from nengonet.studies.report import Reproduction
from nengonet.studies.shared import logits_of, tuning_of
from nengonet.sweeps.result import Sweep
from nengonet.sweeps.sweep import sweep
from nengonet.weights import LayerWeights, Weights, load_weights, pretrained

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set of a study, or a file of the same kind."""

    name: str
    shape: tuple[int, ...] = (28, 28)
    n_classes: int = 10

    def wanted(self, data: str | os.PathLike | None = None) -> str | None:
        """Return "all" where there is a folder of data, and None for the embedded sample."""
        return "all" if data is not None or os.environ.get("NENGONET_DATA") else None

    def load(
        self,
        split: str = "test",
        n_images: int | str | None = None,
        data: str | os.PathLike | None = None,
        *,
        progress: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Load images and labels.

        Parameters
        ----------
        split : {"test", "train"}
        n_images : int, "all" or None
            None means all where there is a folder of data, and else the embedded sample.
        data : path_like, optional
            A folder, or an ``.npz`` file of one's own.
        progress : bool
        """
        if n_images is None:
            n_images = self.wanted(data)
        if data is None or not pathlib.Path(data).is_file():
            return datasets.load(
                self.name, split=split, n_images=n_images, data_dir=data, progress=progress
            )
        images, labels = datasets.load_npz(data, split, n_images)
        if images[0].size != np.prod(self.shape) or labels.max() >= self.n_classes:
            raise InputError(
                f"{data}: expected images of {' x '.join(map(str, self.shape))} pixels with labels "
                f"0 to {self.n_classes - 1}, got images of shape {images[0].shape} with labels up "
                f"to {labels.max()}"
            )
        return images.reshape(-1, *self.shape), labels


@dataclasses.dataclass(frozen=True)
class Given:
    """What a caller gives beside a study's own options: files, a number of images, a seed."""

    dataset: Data
    weights: str | os.PathLike | None = None
    data: str | os.PathLike | None = None
    n_images: int | str | None = None
    seed: int = 0
    progress: bool = False
    precision: int = 64

    def load_weights(self, bundled: str) -> Weights:
        """Load the caller's weights file, or a bundled one."""
        return load_weights(pretrained(bundled) if self.weights is None else self.weights)

    def images(
        self, split: str = "test", n_images: int | str | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Load images and labels from the caller's data."""
        return self.dataset.load(split, n_images, self.data, progress=self.progress)


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One network of a study, and how it is shown its images.

    Attributes
    ----------
    name : str
        As the report's setting ``network`` calls it.
    output : Layer
    layers : sequence of LayerWeights and Pool
        What the ANN computes, from first to last.
    weights : path_like
    presentation_time, dt : float, in seconds
    readout : str
    settings : dict
        Options that the network was built with.
    initial_states : dict
        As for `nengonet.present`.
    published : float, optional
        The published accuracy of this very network.
    keep : sequence of str, optional
        As for `nengonet.present`.
    values : callable
        ``values(result, labels)`` returns what a sweep records beside accuracy, ties, spikes and
        operations, or in their place.
    seed : int
    anns : sequence of (str, sequence of LayerWeights and Pool, str), optional
        The first stages of a budget, where the network stands for another ANN than was trained.
    """

    name: str
    output: Layer
    layers: Sequence[LayerWeights | Pool]
    weights: str | os.PathLike | None
    presentation_time: float
    dt: float = 0.001
    readout: str = "spike_count"
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
    initial_states: InitialStates = dataclasses.field(default_factory=dict)
    published: float | None = None
    keep: Sequence[str] | None = None
    values: Callable[[Result, np.ndarray], dict] = lambda result, labels: {}
    seed: int = 0
    anns: Sequence[tuple[str, Sequence[LayerWeights | Pool], str]] = ()

    @property
    def network(self) -> nengo.Network:
        """The network."""
        return self.output.network

    def describe(self) -> dict:
        """Return the settings of a report: the options, how the network is run, its tuning."""
        return {
            "network": self.name,
            **self.settings,
            "readout": self.readout,
            "seed": self.seed,
            "weights": str(self.weights),
            "presentation_time": self.presentation_time,
            "dt": self.dt,
            "tuning": tuning_of(self.output),
        }

    def present(self, images: np.ndarray, **running: object) -> Result:
        """Show images to the network as the study does; ``running`` goes to `nengonet.present`."""
        return present(
            self.network,
            self.output,
            images,
            **{
                "presentation_time": self.presentation_time,
                "dt": self.dt,
                "seed": self.seed,
                "readout": self.readout,
                "initial_states": self.initial_states,
                "keep": self.keep,
            }
            | running,
        )


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of `reproduce`: options of the network, and what differs from the caller's.

    Attributes
    ----------
    options : dict
        Of the study's ``network``.
    n_images : int, optional
        The first so many of the caller's images alone.
    weights : path_like, optional
        Another file than the caller's.
    seed : int, optional
        Another seed than the caller's.
    rasters : bool
        Keep the spikes of all layers that spike, step by step.
    running : dict
        Further arguments of `nengonet.present`.
    """

    options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    n_images: int | None = None
    weights: str | os.PathLike | None = None
    seed: int | None = None
    rasters: bool = False
    running: Mapping[str, object] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Sweeping:
    """One sweep of `reproduce`; ``function`` is the study's own `Study.measure` by default.

    With ``joins``, its rows join those of another sweep.
    """

    grid: Mapping[str, Sequence] | Sequence[Mapping[str, Sequence]]
    seeds: int | Sequence[int] = 1
    constants: Mapping[str, object] = dataclasses.field(default_factory=dict)
    function: Callable | None = None
    joins: str = ""


@dataclasses.dataclass(frozen=True)
class Variant:
    """Options of a network under one name; the first variant of a study is its default."""

    options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    flag: str = ""
    help: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """A published example, described for the engine.

    Attributes
    ----------
    name, title, summary, source : str
        Of the command; in a sentence such as "Diagnose …"; what `reproduce` does; what is
        reproduced.
    data : Data
    network : callable
        ``network(given, *, …) -> Case``: builds the network with these options. They are the
        parameters of a sweep, and options of `diagnose` and `budget`.
    variants : dict of {str: Variant}
        Networks that have a name; the first is the default.
    runs : callable, optional
        ``runs(given, *, …) -> dict of {str: Run or Sweeping}``: what `reproduce` runs, with options
        of its own. By default one variant of the network.
    headline : str
        Which of the runs the report's own figures are of; by default the last one.
    further, cells, curves, settings : callable
        Functions of the `Reproduction`: what else is measured, rows of its table, accuracies by
        step, more settings.
    tables, notes : sequence of callable
        Functions of the `Reproduction` that return texts; notes may come in several lines.
    ann : callable, optional
        ``ann(reproduction) -> Accuracy``; by default that of the layers of the headline's case.
    figure : callable, optional
        ``figure(reproduction)``; by default the first image's run.
    stages : callable, optional
        ``stages(show, case, images, *, …)`` returns the stages of a budget (see
        `nengonet.explain.budget.budget_of`), where those of `error_budget` do not fit;
        ``show(n_steps, **options)`` runs a network with these options.
    saved : callable
        Where the runs go: `one_file`, `in_folder` or `beside`.
    defaults : dict of {str: dict}
        By command: ``n_images``, ``n_jobs``, ``minibatch_size``, ``precision``.
    examples, help : dict of {str: str}
        Arguments of an example for each command; help for common options, by their names.
    """

    name: str
    title: str
    summary: str
    source: str
    data: Data
    network: Callable[..., Case]
    variants: Mapping[str, Variant] = dataclasses.field(default_factory=lambda: {"": Variant()})
    runs: Callable[..., dict[str, Run | Sweeping]] | None = None
    headline: str = ""
    further: Callable[[Reproduction], dict] = lambda report: {}
    cells: Callable[[Reproduction], list[dict]] = lambda report: []
    curves: Callable[[Reproduction], dict[str, np.ndarray]] = lambda report: {}
    settings: Callable[[Reproduction], dict] = lambda report: {}
    tables: Sequence[Callable[[Reproduction], Iterable[str]]] = ()
    notes: Sequence[Callable[[Reproduction], Iterable[str]]] = ()
    ann: Callable[[Reproduction], Accuracy] | None = None
    figure: Callable[[Reproduction], Figure] | None = None
    stages: Callable[..., list] | None = None
    saved: Callable | None = None
    defaults: Mapping[str, Mapping[str, object]] = dataclasses.field(default_factory=dict)
    examples: Mapping[str, str] = dataclasses.field(default_factory=dict)
    help: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def default(self, command: str, name: str) -> object:
        """Return the default of a common option for a command."""
        common = {"n_images": 1000, "n_jobs": 1, "minibatch_size": None, "precision": 64}
        if command == "diagnose" or command == "budget":
            common["n_images"] = 200
        return (common | self.defaults.get(command, {}))[name]

    @functools.cached_property
    def parameters(self) -> dict[str, Parameter]:
        """What a sweep may go through, by name."""
        return parameters_of(self.network)

    def options(self, command: str) -> dict[str, Parameter]:
        """Return the options of a command, by name: not those that a variant decides."""
        function = {"reproduce": self.runs, "budget": self.stages}.get(command)
        if command == "sweep" or function is not None and command == "reproduce":
            return parameters_of(function or self.network)
        decided = {name for variant in self.variants.values() for name in variant.options}
        chosen = parameters_of(function or self.network)
        return {name: each for name, each in chosen.items() if name not in decided}

    def build(
        self,
        variant: str | None = None,
        *,
        weights: str | os.PathLike | None = None,
        data: str | os.PathLike | None = None,
        seed: int = 0,
        **options: object,
    ) -> Case:
        """Build one of the study's networks.

        Parameters
        ----------
        variant : str, optional
            One of `variants`; by default the network with its options' own defaults.
        weights : path_like, optional
            A Keras file of the same network; by default a bundled one.
        data : path_like, optional
            Folder or ``.npz`` file, for networks that take scales from training images.
        seed : int
        **options
            Of the study's ``network``.

        Returns
        -------
        case : Case
        """
        given = Given(self.data, weights, data, seed=seed)
        return self._case(given, self._chosen(variant, options))

    def _chosen(self, variant: str | None, options: Mapping[str, object]) -> dict[str, object]:
        if variant is None:
            return dict(options)
        check_among("variant", variant, self.variants)
        return {**self.variants[variant].options, **options}

    def _case(self, given: Given, options: Mapping[str, object]) -> Case:
        _check(self.parameters, options)
        return dataclasses.replace(self.network(given, **options), seed=given.seed)

    def open(
        self,
        command: str = "diagnose",
        *,
        weights: str | os.PathLike | None = None,
        variant: str | None = None,
        data: str | os.PathLike | None = None,
        n_images: int | str | None = None,
        seed: int = 0,
        progress: bool = False,
        **options: object,
    ) -> Opened:
        """Build a network and load its images, as a command does; by default the first variant."""
        if command == "budget":
            _check(parameters_of(self.stages or self.network), options)
        n_images = self.default(command, "n_images") if n_images is None else n_images
        given = Given(self.data, weights, data, n_images, seed, progress)
        case = self._case(given, self._chosen(variant or next(iter(self.variants)), options))
        return Opened(self, given, case, *given.images("test", n_images), options)

    def diagnose(self, weights: str | os.PathLike | None = None, **given: object) -> Diagnosis:
        """Say what a network will do and why, with no simulation.

        Parameters
        ----------
        weights : path_like, optional
        **given
            ``variant``, ``data``, ``n_images``, ``seed``, ``progress``, and options of the network.
        """
        return self.open("diagnose", weights=weights, **given).diagnose()

    def budget(
        self,
        weights: str | os.PathLike | None = None,
        *,
        n_jobs: int | None = None,
        **given: object,
    ) -> Budget:
        """Run a network with one effect after the other added; arguments as for `diagnose`."""
        return self.open("budget", weights=weights, **given).budget(n_jobs)

    def measure(
        self,
        *,
        weights: str | os.PathLike | None = None,
        data: str | os.PathLike | None = None,
        n_images: int | str | None = None,
        seed: int = 0,
        **options: object,
    ) -> dict[str, object]:
        """Run one network once, for a sweep.

        Parameters
        ----------
        weights, data, n_images, seed
            As everywhere.
        **options
            Of the study's ``network``.

        Returns
        -------
        values : dict
            ``accuracy``, ``ties`` (their share), ``spikes`` and ``operations`` (per image), and
            the study's own.
        """
        n_images = self.default("sweep", "n_images") if n_images is None else n_images
        given = Given(self.data, weights, data, n_images, seed)
        case = self._case(given, options)
        images, labels = given.images("test", n_images)
        running = {name: self.default("sweep", name) for name in ("minibatch_size", "precision")}
        result = case.present(images, progress=False, **running)
        found = result.accuracy(labels)
        values = {
            "accuracy": found,
            "ties": found.ties / found.n_images,
            "spikes": sum(result.spikes_per_image().values()),
            "operations": sum(result.operations_per_image().values()),
        }
        return values | case.values(result, labels)

    def reproduce(
        self,
        weights: str | os.PathLike | None = None,
        *,
        variant: str | None = None,
        data: str | os.PathLike | None = None,
        n_images: int | str | None = None,
        seed: int = 0,
        simulator: str = "minibatch",
        scheduler: str | None = None,
        save: str | os.PathLike | None = None,
        resume: bool = False,
        progress: bool = True,
        n_jobs: int | None = None,
        minibatch_size: int | None = None,
        precision: int | None = None,
        **options: object,
    ) -> Reproduction:
        """Run the study, and report its figures beside the published ones.

        One keyword interface for all studies, hence its length.

        Parameters
        ----------
        weights : path_like, optional
            A Keras file of the same network; by default the bundled ones.
        variant : str, optional
            One of `variants`, where the study runs one network.
        data : path_like, optional
            Folder of the data set, or an ``.npz`` file of the same kind.
        n_images : int or "all", optional
        seed : int
        simulator, n_jobs, minibatch_size, precision
            As for `nengonet.present`.
        scheduler : str, optional
            As for `nengonet.sweep`.
        save, resume
            As for `nengonet.present`; a folder, where there are several runs.
        progress : bool
        **options
            Of the study's ``runs``, or else of its ``network``.

        Returns
        -------
        report : Reproduction
        """
        running = {"simulator": simulator, "progress": progress}
        for name, value in (
            ("n_jobs", n_jobs),
            ("minibatch_size", minibatch_size),
            ("precision", precision),
        ):
            running[name] = self.default("reproduce", name) if value is None else value
        bits = running["precision"]
        given = Given(self.data, weights, data, n_images, seed, progress, bits)
        plan = self._plan(given, variant, options)
        files = (self.saved or (one_file if len(plan) == 1 else in_folder))(save, resume, plan)
        n_images = self.default("reproduce", "n_images") if n_images is None else n_images
        images = labels = None
        cases, results, sweeps = {}, {}, {}
        for name, run in plan.items():
            if isinstance(run, Sweeping):
                found = self._sweep(name, run, given, running, scheduler, files(name))
                sweeps[run.joins or name] = (
                    _joined(sweeps[run.joins], found) if run.joins else found
                )
                continue
            own = dataclasses.replace(
                given,
                weights=run.weights or given.weights,
                seed=given.seed if run.seed is None else run.seed,
            )
            case = cases[name] = self._case(own, run.options)
            # After the first network, so that a file that does not fit is refused at once.
            if images is None:
                images, labels = given.images("test", n_images)
            rasters = [each.label for each in case.output.chain() if each.spiking]
            results[name] = case.present(
                images[: run.n_images],
                **{"rasters": rasters if run.rasters else ()} | running | run.running,
                **files(name),
            )
        headline = self.headline or list(results)[-1]
        shown = plan[headline].n_images
        return Reproduction(
            study=self,
            given=given,
            options=dict(options),
            plan=plan,
            cases=cases,
            results=results,
            sweeps=sweeps,
            headline=headline,
            images=images[:shown],
            labels=labels[:shown],
        )

    def _plan(
        self, given: Given, variant: str | None, options: Mapping[str, object]
    ) -> dict[str, Run | Sweeping]:
        if self.runs is None:
            return {self.name: Run(self._chosen(variant or next(iter(self.variants)), options))}
        if variant is not None:
            raise InputError(f"variant: expected none, as {self.name} runs all, got {variant!r}")
        _check(self.options("reproduce"), options)
        return self.runs(given, **options)

    def _sweep(
        self,
        name: str,
        run: Sweeping,
        given: Given,
        running: dict,
        scheduler: str | None,
        files: dict,
    ) -> Sweep:
        found = sweep(
            run.function or self.measure,
            run.grid,
            seeds=run.seeds,
            constants=run.constants,
            n_jobs=1 if scheduler else running["n_jobs"],
            scheduler=scheduler,
            progress=given.progress,
            **files,
        )
        if found.failed:
            first = found.failed[0]
            where = ", ".join(f"{each} {first[each]}" for each in (*found.parameters, "seed"))
            raise InputError(
                f"{name}: {len(found.failed)} of {len(found.rows)} cells failed, the first at "
                f"{where}: {first['error']}"
            )
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class Opened:
    """A network of a study with its images, for `diagnose`, `budget` and single runs."""

    study: Study
    given: Given
    case: Case
    images: np.ndarray
    labels: np.ndarray
    options: Mapping[str, object]

    def diagnose(self) -> Diagnosis:
        """Return what `nengonet.diagnose` says of the network."""
        return diagnose(
            self.case.output,
            self.images,
            labels=self.labels,
            presentation_time=self.case.presentation_time,
            dt=self.case.dt,
            readout=self.case.readout,
        )

    def budget(self, n_jobs: int | None = None) -> Budget:
        """Return the error budget of the network, of the study's own stages where it has some."""
        case, progress = self.case, self.given.progress
        if self.study.stages is None and case.output.spiking:
            return error_budget(
                case.output,
                self.images,
                self.labels,
                presentation_time=case.presentation_time,
                dt=case.dt,
                readout=case.readout,
                progress=progress,
            )
        names = ("n_jobs", "minibatch_size", "precision")
        running = {name: self.study.default("budget", name) for name in names}
        running |= {} if n_jobs is None else {"n_jobs": n_jobs}

        def show(**options: object) -> Result:
            shown = self.study._case(self.given, options)
            return shown.present(self.images, progress=progress, **running)

        if self.study.stages is None:
            stages = stages_of_means(case, self.images, progress=progress, **running)
        else:
            stages = self.study.stages(show, case, self.images, **self.options)
        return budget_of(stages, self.labels)


def stages_of_means(
    case: Case, images: np.ndarray, *, n_times: int = 10, **running: object
) -> list[tuple[str, np.ndarray, str]]:
    """Return the stages of a budget of a network whose last layer does not spike."""
    time = {"dt": case.dt, "presentation_time": case.presentation_time}
    line, curve = (
        predict(case.output, images, lines=lines, **time)[-1].mean_outputs
        for lines in (True, False)
    )
    long = case.present(images, **running, presentation_time=n_times * case.presentation_time)
    steps = long.n_steps // n_times
    mean = long.scores("mean")
    anns = case.anns or [("ANN", case.layers, "Keras' activations")]
    return [
        *((name, logits_of(layers, images), how) for name, layers, how in anns),
        (
            "scales and biases of the network",
            line,
            "rate model with its gains, biases and amplitudes, neurons rectified lines",
        ),
        ("curve and saturation of the neurons", curve, "rate model with the neurons' own curves"),
        ("clipping of noisy currents", mean[:, -1], f"mean over {n_times * steps} steps"),
        (
            "finite presentation time",
            mean[:, steps - 1],
            f"the same run, mean over its first {steps} steps",
        ),
        (
            "readout",
            long.scores(case.readout)[:, steps - 1],
            f"the same steps, read out by {case.readout}",
        ),
    ]


def _joined(one: Sweep, other: Sweep) -> Sweep:
    n_images = one.n_images + other.n_images
    return dataclasses.replace(one, rows=one.rows + other.rows, n_images=n_images)


def _check(parameters: Mapping[str, Parameter], options: Mapping[str, object]) -> None:
    for name, value in options.items():
        check_among("options", name, parameters)
        parameters[name].check(value)


# Where the runs of `reproduce` are saved. Each returns the arguments of `present` or `sweep` by the
# run's name.


def one_file(
    save: str | os.PathLike | None, resume: bool, plan: Mapping[str, Run | Sweeping]
) -> Callable[[str], dict]:
    """Save the one run to this file."""
    return lambda name: {"save": save, "resume": resume}


def in_folder(
    save: str | os.PathLike | None,
    resume: bool = False,
    plan: Mapping[str, Run | Sweeping] = types.MappingProxyType({}),
) -> Callable[[str], dict]:
    """Save each run to a file of its own in this folder."""
    if save is None:
        return lambda name: {}
    folder = pathlib.Path(save)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder, for one file a run; got a file")
    if not folder.parent.is_dir():
        raise InputError(f"{folder}: the folder {folder.parent} does not exist")
    if folder.exists() and any(folder.iterdir()) and not resume:
        raise InputError(
            f"{folder}: expected an empty folder, got files; resume their run, or empty it"
        )
    folder.mkdir(exist_ok=True)

    def files(name: str) -> dict:
        suffix = ".sweep" if isinstance(plan.get(name), Sweeping) else ".h5"
        # What is not there yet begins; the file of another run is refused.
        return {"save": folder / f"{name}{suffix}", "resume": True}

    return files


def beside(
    save: str | os.PathLike | None, resume: bool, plan: Mapping[str, Run | Sweeping]
) -> Callable[[str], dict]:
    """Save each sweep to a file named after this one and the sweep; runs are not saved."""
    if save is None:
        return lambda name: {}
    path = pathlib.Path(save)
    files = {
        name: {
            "save": checked_file(path.with_name(f"{path.stem}-{name}{path.suffix}"), resume),
            "resume": resume,
        }
        for name, run in plan.items()
        if isinstance(run, Sweeping)
    }
    return lambda name: files.get(name, {})
