"""Run, save, resume, sweep, diagnose and budget the studies.

A `Study` describes a published example: its source, its data, a function that builds its
networks, the runs of `reproduce`, and functions that give the report its cells, tables and notes.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

import nengonet as nn
from nengonet.checks import check_among, count_steps
from nengonet.explain.budget import Budget, Stage, Turns, budget_of
from nengonet.explain.diagnosis import Diagnosis
from nengonet.explain.prediction import predict
from nengonet.results.journal import checked_file
from nengonet.run.progress import in_words, numbered
from nengonet.studies.case import Arrays, Case, Data, Given, Path, Run, Sweeping, Variant
from nengonet.studies.options import Parameter, Smaller, check_options, parameters_of
from nengonet.studies.report import Reproduction
from nengonet.studies.shared import logits_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Case", "Data", "Given", "Run", "Study", "Sweeping", "Variant", "beside", "in_folder"]
_Plan = Mapping[str, Run | Sweeping]
_COMMON = {"n_images": 1000, "n_jobs": 1, "minibatch_size": None, "precision": 64}
_FEWER = {"diagnose": {"n_images": 200}, "budget": {"n_images": 200}}


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """A published example, described for the engine.

    Examples
    --------
    >>> from nengonet import studies
    >>> study = studies.get("forum-mnist")
    >>> study
    <Study 'forum-mnist': the forum's MLP>
    >>> list(study.parameters)[:3]
    ['variant', 'neurons', 'input_rate']
    """

    #: Name on the command line.
    name: str
    #: Title within a sentence, such as "Diagnose the forum's MLP".
    title: str
    #: What `reproduce` does.
    summary: str
    #: The published work that is reproduced.
    source: str
    #: The data set of its images.
    data: Data
    #: ``network(given, *, …)`` builds the network that its options ask for. The same options are
    #: the parameters of a sweep, and the options of `diagnose` and `budget`.
    network: Callable[..., Case]
    #: Networks by their names; the first is the default.
    variants: Mapping[str, Variant] = dataclasses.field(default_factory=lambda: {"": Variant()})
    #: ``runs(given, *, …)`` returns the runs of `reproduce`, and may have options of its own. By
    #: default, `reproduce` runs a variant.
    runs: Callable[..., dict[str, Run | Sweeping]] | None = None
    #: Name of the run that gives the report's own figures; by default the last one.
    headline: str = ""
    #: Further measurements.
    further: Callable[[Reproduction], dict] = lambda report: {}
    #: Rows of figures.
    cells: Callable[[Reproduction], list[dict]] = lambda report: []
    #: Accuracies by step, or along another axis.
    curves: Callable[[Reproduction], dict[str, np.ndarray]] = lambda report: {}
    #: Settings that are added to the common ones, or replace them.
    settings: Callable[[Reproduction], dict] = lambda report: {}
    #: Functions that each yield texts.
    tables: Sequence[Callable[[Reproduction], Iterable[str]]] = ()
    #: Functions that each yield sentences.
    notes: Sequence[Callable[[Reproduction], Iterable[str]]] = ()
    #: The ANN's accuracy; by default, it is computed from the layers of the headline's network.
    ann: Callable[[Reproduction], nn.Accuracy] | None = None
    #: The figure of ``--plot``; by default the first image's run.
    figure: Callable[[Reproduction], Figure] | None = None
    #: ``stages(show, case, images, *, …)`` returns the stages of a budget, where those of
    #: `nengonet.error_budget` do not fit. A stage has a name, scores (or a function that returns
    #: them), and how they were found. ``show(**options)`` runs a network with these options.
    stages: Callable[..., list] | None = None
    #: Where the runs are saved: `one_file`, `in_folder` or `beside`.
    saved: Callable | None = None
    #: Defaults by command: ``n_images``, ``n_jobs``, ``minibatch_size``, ``precision``.
    defaults: Mapping[str, Mapping[str, object]] = dataclasses.field(default_factory=dict)
    #: Example arguments of each command.
    examples: Mapping[str, str] = dataclasses.field(default_factory=dict)
    #: Arguments of `reproduce` for a first answer within a minute: ``n_images``, and options of
    #: ``runs``.
    quick: Mapping[str, object] = dataclasses.field(default_factory=dict)
    #: The default number of images of `reproduce`, in words, where it is not one number.
    n_images_text: str = ""
    #: Help for common options, by name, or by command and name.
    help: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        """Write name and title."""
        return f"<Study {self.name!r}: {self.title}>"

    def default(self, command: str) -> dict[str, object]:
        """Return the defaults of the common options of a command."""
        return _COMMON | _FEWER.get(command, {}) | self.defaults.get(command, {})

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The parameters that a sweep may vary, by name."""
        return parameters_of(self.network)

    def options(self, command: str) -> dict[str, Parameter]:
        """Return the options of a command, by name, without those that a variant decides."""
        if command == "reproduce" and self.runs:
            return parameters_of(self.runs)
        found = parameters_of(self.stages if command == "budget" and self.stages else self.network)
        decided = {name for variant in self.variants.values() for name in variant.options}
        return {name: each for name, each in found.items() if name not in decided}

    def n_images_shown(self, command: str) -> str:
        """Return how many images a command shows by default, in words."""
        if command == "reproduce" and self.n_images_text:
            return self.n_images_text
        known = self.default(command)["n_images"]
        return str(known or "all with --data or NENGONET_DATA, else 1000")

    def quick_settings(self, given: Mapping[str, object] | None = None) -> list[Smaller]:
        """Return the smaller settings of the quick version, without those that the caller gave."""
        given, own, found = given or {}, self.options("reproduce"), []
        for name, value in self.quick.items():
            each, shown = own.get(name), self.n_images_shown("reproduce")
            words = ("--images", value, [str(value)], shown)
            if each is not None:
                words = each.flag, value, each.words(value), each.default_text
            if given.get(name) is None:
                found.append(Smaller(name, *words))
        return found

    def build(
        self,
        variant: str | None = None,
        *,
        weights: Path = None,
        data: Path = None,
        seed: int = 0,
        **options: object,
    ) -> Case:
        """Build one of the study's networks: a variant, or the one of the options' defaults.

        ``data`` is for networks that take their scales from training images. The other arguments
        are those of `reproduce`.
        """
        return self._case(Given(self.data, weights, data, seed=seed), options, variant)

    def _case(
        self, given: Given, options: Mapping[str, object], variant: str | None = None
    ) -> Case:
        if variant is not None:
            options = {**self.variants[self._named(variant)].options, **options}
        check_options(self.parameters, options)
        return dataclasses.replace(self.network(given, **options), seed=given.seed)

    def _named(self, variant: str | None) -> str:
        """Return a variant by its name, by default the first."""
        variant = next(iter(self.variants)) if variant is None else variant
        check_among("variant", variant, self.variants)
        return variant

    def open(
        self,
        command: str,
        variant: str | None = None,
        *,
        n_images: int | str | None = None,
        **given: object,
    ) -> tuple[Case, np.ndarray, np.ndarray]:
        """Build a network, and load the images and labels that a command shows to it.

        Takes ``weights``, ``data``, ``seed``, ``progress``, and options of the network.
        """
        n_images = self.default(command)["n_images"] if n_images is None else n_images
        names = given.keys() & {"weights", "data", "seed", "progress"}
        source = Given(self.data, n_images=n_images, **{name: given.pop(name) for name in names})
        return self._case(source, given, variant), *source.images("test", n_images)

    def diagnose(
        self, weights: Path = None, *, variant: str | None = None, **given: object
    ) -> Diagnosis:
        """Predict what a network will do, and why, without a simulation.

        Takes ``data``, ``n_images``, ``seed``, ``progress``, and options of the network.
        """
        case, *shown = self.open("diagnose", self._named(variant), weights=weights, **given)
        return case.diagnose(*shown)

    def budget(self, weights: Path = None, **given: object) -> Budget:
        """Run a network and add one effect after the other.

        Takes the arguments of `diagnose`, and ``n_jobs``.
        """
        return self.budgeted(weights, **given)[1]

    def budgeted(
        self,
        weights: Path = None,
        *,
        variant: str | None = None,
        n_jobs: int | None = None,
        **given: object,
    ) -> tuple[Case, Budget]:
        """Return a network with its budget."""
        options = {name: value for name, value in given.items() if name in self.parameters}
        check_options(parameters_of(self.stages or self.network), options)
        case, images, labels = self.open("budget", self._named(variant), weights=weights, **given)
        progress, name = given.get("progress", False), f"{self.name} budget"
        running = self._running("budget", n_jobs=n_jobs)
        if self.stages is None and case.output.spiking:
            settings = {"n_jobs": running["n_jobs"], "progress": progress and name}
            return case, nn.error_budget(case.output, images, labels, **case.showing, **settings)
        turns = Turns(progress, name)
        if self.stages is None:
            stages = stages_of_means(case, images, turns, **running)
            return case, budget_of(turns.take(stages), labels)
        source = Given(self.data, weights, given.get("data"), seed=case.seed)

        def show(**options: object) -> nn.Result:
            return self._case(source, options).present(images, progress=turns.shown, **running)

        return case, budget_of(turns.take(self.stages(show, case, images, **options)), labels)

    def measure(self, **given: object) -> dict[str, object]:
        """Run one network once, for a sweep.

        Takes ``weights``, ``data``, ``n_images``, ``seed``, and options of the network. Returns
        ``accuracy``, ``ties`` (their share), ``spikes`` and ``operations`` (per image), and the
        study's own values.
        """
        case, images, labels = self.open("sweep", **given)
        result = case.present(images, progress=False, **self._running("sweep"))
        found = result.accuracy(labels)
        values = {
            "accuracy": found,
            "ties": found.ties / found.n_images,
            "spikes": sum(result.spikes_per_image().values()),
            "operations": sum(result.operations_per_image().values()),
        }
        return values | case.values(result, labels)

    def _running(self, command: str, **given: object) -> dict[str, object]:
        default = self.default(command)
        names = ("n_jobs", "minibatch_size", "precision")
        return {name: default[name] if given.get(name) is None else given[name] for name in names}

    def reproduce(
        self,
        weights: Path = None,
        *,
        variant: str | None = None,
        data: Path = None,
        n_images: int | str | None = None,
        seed: int = 0,
        simulator: str = "minibatch",
        scheduler: str | None = None,
        save: Path = None,
        resume: bool = False,
        progress: bool = True,
        quick: bool = False,
        n_jobs: int | None = None,
        minibatch_size: int | None = None,
        precision: int | None = None,
        **options: object,
    ) -> Reproduction:
        """Run the study and report its figures beside the published ones.

        The signature is long because all studies share this one keyword interface.

        Parameters
        ----------
        weights : path_like, optional
            A Keras file of the same network; by default the bundled one.
        variant : str, optional
            Name of one of `variants`, where the study runs one network.
        data : path_like, optional
            Folder of the data set, or an ``.npz`` file of the same kind.
        n_images : int or "all", optional
        seed : int
        simulator, n_jobs, minibatch_size, precision
            As for `nengonet.present`.
        scheduler : str, optional
            As for `nengonet.sweep`.
        save, resume
            As for `nengonet.present`. Where there are several runs, a folder.
        progress : bool
        quick : bool
            Whether to give a first, rougher answer: settings of `quick` replace the defaults. The
            report says so.
        **options
            Options of the study's ``runs``, or else of its ``network``.
        """
        smaller = self._smaller({"n_images": n_images} | options) if quick else []
        options = options | {each.name: each.value for each in smaller}
        n_images = options.pop("n_images", n_images)
        running = {"simulator": simulator} | self._running(
            "reproduce", n_jobs=n_jobs, minibatch_size=minibatch_size, precision=precision
        )
        given = Given(self.data, weights, data, n_images, seed, progress, running["precision"])
        if self.runs is None:
            plan = {self.name: Run({**self.variants[self._named(variant)].options, **options})}
        elif variant is not None:
            raise nn.InputError(f"variant: expected none, as {self.name} runs all, got {variant!r}")
        else:
            check_options(self.options("reproduce"), options)
            plan = self.runs(given, **options)
        if simulator != "minibatch" and any(isinstance(each, Sweeping) for each in plan.values()):
            raise nn.InputError(f"simulator: expected minibatch for sweeps, got {simulator!r}")
        files = (self.saved or (one_file if len(plan) == 1 else in_folder))(save, resume, plan)
        n_images = self.default("reproduce")["n_images"] if n_images is None else n_images
        shown: Arrays | None = None
        cases, results, sweeps = {}, {}, {}
        for number, (name, run) in enumerate(plan.items(), 1):
            doing = numbered(progress, self.name, number, len(plan), _doing(name, run))
            if isinstance(run, Sweeping):
                jobs = {"n_jobs": 1 if scheduler else running["n_jobs"], "scheduler": scheduler}
                found = self._swept(name, run, progress=doing, **jobs, **files(name))
                sweeps[run.joins or name] = _joined(sweeps.get(run.joins), found)
                continue
            own = dataclasses.replace(given, **run.given)
            case = cases[name] = self._case(own, run.options)
            # Comes after the first network, so that a file that does not fit is refused at once.
            shown = shown or given.images("test", n_images)
            rasters = [each.label for each in case.output.upstream() if each.spiking]
            results[name] = case.present(
                shown[0][: run.n_images],
                **{"rasters": rasters if run.rasters else (), "progress": doing},
                **running | run.running,
                **files(name),
            )
        headline = self.headline or list(results)[-1]
        images, labels = (each[: plan[headline].n_images] for each in shown)
        return Reproduction(
            self, given, options, plan, cases, results, sweeps, headline, images, labels, smaller
        )

    def _smaller(self, given: Mapping[str, object]) -> list[Smaller]:
        """Return the settings of the quick version, or refuse where the study has none."""
        if not self.quick:
            raise nn.InputError(
                f"quick: expected a study with a quick version, got {self.name}, which has none; "
                "give n_images"
            )
        return self.quick_settings(given)

    def _swept(self, name: str, run: Sweeping, **running: object) -> nn.Sweep:
        function = run.function or self.measure
        found = nn.sweep(function, run.grid, seeds=run.seeds, constants=run.constants, **running)
        for first in found.failed:
            where = ", ".join(f"{each} {first[each]}" for each in (*found.parameters, "seed"))
            raise nn.InputError(
                f"{name}: {len(found.failed)} of {len(found.rows)} cells failed, the first at "
                f"{where}: {first['error']}"
            )
        return found


def _doing(name: str, run: Run | Sweeping) -> str:
    """Return the text that names a run of `reproduce` while it runs."""
    if isinstance(run, Sweeping):
        return name.replace("-", " ")
    seed = {name: value for name, value in run.given.items() if name == "seed"}
    return in_words({**run.options, **seed}) or name


def _joined(one: nn.Sweep | None, other: nn.Sweep) -> nn.Sweep:
    if one is None:
        return other
    n_images = one.n_images + other.n_images
    return dataclasses.replace(one, rows=one.rows + other.rows, n_images=n_images)


def stages_of_means(
    case: Case, images: np.ndarray, turns: Turns, *, n_times: int = 10, **running: object
) -> list[Stage]:
    """Return the budget's stages for a network whose last layer does not spike."""
    time = {"dt": case.dt, "presentation_time": case.presentation_time}
    models = (predict(case.output, images, lines=lines, **time)[-1] for lines in (True, False))
    line, curve = (model.mean_outputs for model in models)
    n_steps = count_steps(case.presentation_time, case.dt)
    last = n_steps - 1

    @functools.cache
    def long() -> nn.Result:
        time = n_times * case.presentation_time
        return case.present(images, **running, progress=turns.shown, presentation_time=time)

    lines = "rate model with its gains, biases and amplitudes, and rectified lines as neurons"
    first = f"the same run, mean over its first {n_steps} steps"
    anns = case.anns or [("ANN", case.layers, "Keras' activations")]
    return [
        *((name, logits_of(layers, images), how) for name, layers, how in anns),
        ("scales and biases of the network", line, lines),
        ("curve and saturation of the neurons", curve, "rate model with the neurons' own curves"),
        (
            "spikes in place of rates",
            lambda: long().scores("mean")[:, -1],
            f"mean over {n_times * n_steps} steps",
        ),
        ("finite presentation time", lambda: long().scores("mean")[:, last], first),
        (
            "readout",
            lambda: long().scores(case.readout)[:, last],
            f"the same steps, read out by {case.readout}",
        ),
    ]


# Where the runs of `reproduce` are saved. Each function returns the arguments of `present` or
# `sweep` for a run's name.


def one_file(save: Path, resume: bool, plan: _Plan) -> Callable[[str], dict]:
    """Save the study's one run to this file."""
    return lambda name: {"save": save, "resume": resume}


def in_folder(
    save: Path, resume: bool = False, plan: _Plan = types.MappingProxyType({})
) -> Callable[[str], dict]:
    """Save each run to its own file in this folder.

    Parameters
    ----------
    save : path_like or None
        The folder; None saves nothing.
    resume : bool
        Whether the folder may already hold files of this run.
    plan : dict of Run and Sweeping
        The runs and sweeps, by name.

    Examples
    --------
    >>> from nengonet.studies.engine import in_folder
    >>> in_folder("runs")("repaired")["save"].as_posix()
    'runs/repaired.h5'
    """
    if save is None:
        return lambda name: {}
    folder = pathlib.Path(save)
    if folder.exists() and not folder.is_dir():
        raise nn.InputError(f"{folder}: expected a folder, for a file for each run, got a file")
    if not folder.parent.is_dir():
        raise nn.InputError(f"{folder}: the folder {folder.parent} does not exist; create it first")
    if folder.exists() and any(folder.iterdir()) and not resume:
        expected = "expected an empty folder, got files; resume their run, or empty it"
        raise nn.InputError(f"{folder}: {expected}")
    folder.mkdir(exist_ok=True)

    def files(name: str) -> dict:
        suffix = ".sweep" if isinstance(plan.get(name), Sweeping) else ".h5"
        # A run without a file begins; the file of another run is refused.
        return {"save": folder / f"{name}{suffix}", "resume": True}

    return files


def beside(save: Path, resume: bool, plan: _Plan) -> Callable[[str], dict]:
    """Save each sweep to a file named after this one and the sweep. Runs are not saved.

    Parameters
    ----------
    save : path_like or None
        A file; None saves nothing.
    resume : bool
        Whether the files may already exist.
    plan : dict of Run and Sweeping
        The runs and sweeps, by name.

    Examples
    --------
    >>> from nengonet.studies.engine import Sweeping, beside
    >>> plan = {"rates": Sweeping({"rate": [1.0]})}
    >>> beside("run.sweep", False, plan)("rates")["save"].as_posix()
    'run-rates.sweep'
    """
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
