"""The report of a reproduction: as human-readable text, and as JSON for programs."""

from __future__ import annotations

import dataclasses
import functools
import textwrap
from typing import TYPE_CHECKING

import numpy as np

import nengonet as nn
from nengonet.checks import shortened
from nengonet.explain.findings import Finding
from nengonet.results.operations import ann_multiply_adds
from nengonet.run.progress import numbered, progress_bar
from nengonet.studies.options import Smaller
from nengonet.studies.shared import ann_accuracy
from nengonet.sweeps.result import first_failures
from nengonet.tables import aligned, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nengonet.studies.engine import Case, Given, Study

# Properties that are measured on first use, and then kept.
_MEASURED = ("ann_accuracy", "further", "cells", "curves", "settings", "tables", "notes", "finding")
# The number of images from which the first finding is derived.
_N_DIAGNOSED = 50
_UNITS = {"input_rate": "Hz", "full_scale_rate": "Hz", "presentation_time": "s", "dt": "s"}


@dataclasses.dataclass(frozen=True, eq=False)
class Reproduction:
    """The figures that a study measured, beside those published for the same network.

    Examples
    --------
    >>> from nengonet import studies
    >>> study = studies.get("forum-mnist")
    >>> report = study.reproduce(n_images=20)
    >>> report
    <Reproduction of forum-mnist, 20 images: forum-mnist>
    >>> print(report.accuracy)
    1.0000 (95 % interval 0.8389 to 1.0000, 20 images, 0 ties)
    """

    #: The study that was reproduced.
    study: Study
    #: Files, number of images and seed.
    given: Given
    #: Options of the study, as the caller gave them.
    options: dict
    #: The runs and sweeps; cases, results and sweeps use the same names.
    plan: dict
    #: The networks, by the name of the run.
    cases: dict[str, Case]
    #: Their results, by the name of the run.
    results: dict[str, nn.Result]
    #: The results of the sweeps, by name.
    sweeps: dict[str, nn.Sweep]
    #: Name of the run that gives the report's own figures.
    headline: str
    #: Images that were shown to the headline's network.
    images: np.ndarray
    #: Labels of the images.
    labels: np.ndarray
    #: The smaller settings, where this is the quick version.
    quick: list[Smaller] = dataclasses.field(default_factory=list)

    def __repr__(self) -> str:
        """Write what ran, without measuring anything; `str` measures and reports."""
        runs = shortened(", ".join((*self.results, *self.sweeps)))
        return f"<Reproduction of {self.study.name}, {len(self.images)} images: {runs}>"

    @property
    def case(self) -> Case:
        """The network that gives the report's own figures."""
        return self.cases[self.headline]

    @property
    def result(self) -> nn.Result:
        """The result that gives the report's own figures."""
        return self.results[self.headline]

    @property
    def published(self) -> float | None:
        """The published accuracy of the measured network, or None where none was published."""
        return self.case.published

    @property
    def accuracy(self) -> nn.Accuracy:
        """The accuracy of the measured network."""
        return self.result.accuracy(self.labels)

    @functools.cached_property
    def ann_accuracy(self) -> nn.Accuracy:
        """The accuracy of its ANN."""
        if self.study.ann is not None:
            return self.study.ann(self)
        return ann_accuracy(self.case.layers, self.images, self.labels)

    @functools.cached_property
    def further(self) -> dict:
        """Further measurements of the study, beside its runs."""
        return self.study.further(self)

    @functools.cached_property
    def cells(self) -> list[dict]:
        """Rows of figures, one for each network, readout or the like."""
        return self.study.cells(self)

    @functools.cached_property
    def curves(self) -> dict[str, np.ndarray]:
        """Accuracies by step, or along another axis."""
        return self.study.curves(self)

    @functools.cached_property
    def tables(self) -> list[str]:
        """The figures as tables of text."""
        return [text for write in self.study.tables for text in write(self)]

    @functools.cached_property
    def notes(self) -> list[str]:
        """The conclusions from the figures, in words."""
        return [text for note in self.study.notes for text in note(self)]

    @functools.cached_property
    def settings(self) -> dict:
        """The settings with which the figures were measured."""
        names = ("presentation_time", "dt", "precision")
        measured = {name: self.result.settings[name] for name in names} | self.study.settings(self)
        described = self.case.describe()
        tuning = described.pop("tuning")
        return described | measured | {"tuning": tuning}

    @functools.cached_property
    def finding(self) -> Finding | None:
        """The first finding of `nengonet.diagnose`, where the run falls short of the ANN.

        None where the ANN's accuracy lies within the run's interval, or where nothing is found.
        """
        if not self.falls_short:
            return None
        try:
            few = self.images[:_N_DIAGNOSED], self.labels[:_N_DIAGNOSED]
            return next(iter(self.case.diagnose(*few).findings), None)
        except nn.InputError:  # something in the network cannot be predicted
            return None

    def measure(self, *, progress: bool = True) -> None:
        """Measure everything that the report needs beside the runs. This takes a while."""
        doing = numbered(progress, self.study.name, 1, 1, "figures of the report")
        with progress_bar(doing, "", "step", 0, len(_MEASURED)) as bar:
            for name in _MEASURED:
                getattr(self, name)
                bar.update()

    @property
    def falls_short(self) -> bool:
        """Whether the ANN's accuracy lies above the interval of the run's accuracy."""
        return self.accuracy.interval[1] < self.ann_accuracy.value

    @property
    def spikes_per_image(self) -> dict[str, float]:
        """The spikes per image, by the label of the layer that emits them."""
        return self.result.spikes_per_image()

    @property
    def operations_per_image(self) -> dict[str, float]:
        """The synaptic operations per image, by the label of the layer that receives the spikes."""
        return self.result.operations_per_image()

    @property
    def multiply_adds(self) -> dict[str, int]:
        """The multiply-adds of the ANN for one image, by layer."""
        return ann_multiply_adds(self.case.output)

    def present_again(self, index: int) -> nn.Result:
        """Show one of the images again with the same seed, and keep the rasters.

        The spikes are the same as before.
        """
        *layers, _ = self.case.output.upstream()
        return self.case.present(
            self.images[index : index + 1],
            examples=self.result.examples[index : index + 1],
            keep=None,
            precision=self.result.settings["precision"],
            rasters=[each.label for each in layers if each.spiking],
            progress=False,
        )

    def figure(self) -> Figure:
        """Draw the figure of the study's ``--plot``."""
        if self.study.figure is not None:
            return self.study.figure(self)
        return nn.plots.plot_presentation(self.images[0], self.present_again(0), 0, self.labels[0])

    def to_json(self) -> dict:
        """Return the report as JSON's own types."""
        quick = {each.name: {"quick": each.value, "full": each.full} for each in self.quick}
        return {
            "name": self.study.name,
            **({"quick": quick} if quick else {}),
            "source": self.study.source,
            "published": self.published,
            "accuracy": self.accuracy.value,
            "interval": list(self.accuracy.interval),
            "ann_accuracy": self.ann_accuracy.value,
            "n_images": self.accuracy.n_images,
            "n_steps": self.result.n_steps,
            "ties": self.accuracy.ties,
            "falls_short": self.falls_short,
            "finding": None if self.finding is None else dataclasses.asdict(self.finding),
            "spikes_per_image": self.spikes_per_image,
            "operations_per_image": self.operations_per_image,
            "multiply_adds": self.multiply_adds,
            "settings": self.settings,
            "notes": self.notes,
            "cells": self.cells,
            "curves": {name: curve.tolist() for name, curve in self.curves.items()},
        } | ({"rows": {name: run.rows for name, run in self.sweeps.items()}} if self.sweeps else {})

    def __str__(self) -> str:
        """Write the report as human-readable text."""
        published = "none for this network" if self.published is None else f"{self.published:.2f}"
        rows = [
            *([("quick version", self._what_is_smaller())] if self.quick else []),
            ("source", self.study.source),
            ("published", published),
            ("ANN", str(self.ann_accuracy)),
            ("spiking", str(self.accuracy)),
            ("steps", f"{self.result.n_steps} of {self.result.dt:g} s"),
            ("spikes per image", _by_layer(self.spikes_per_image)),
            ("synaptic operations", _by_layer(self.operations_per_image)),
            ("multiply-adds, ANN", _by_layer(self.multiply_adds)),
        ]
        for name, value in self.settings.items():
            if isinstance(value, dict):
                rows += [(f"{part} {name}", _short(settings)) for part, settings in value.items()]
            else:
                rows.append((name.replace("_", " "), f"{_short(value)} {_UNITS.get(name, '')}"))
        title = f"{self.study.name}, quick version" if self.quick else self.study.name
        lines = [title, *aligned([("", *row) for row in rows], left=(1, 2))]
        for each in self.tables:
            lines += ["", each]
        notes = [*self.notes, *([self._why_short()] if self.falls_short else [])]
        lines += [""] if self.tables and notes else []
        for note in notes:
            lines += textwrap.wrap(
                note, 96, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False
            )
        return "\n".join(lines)

    def _what_is_smaller(self) -> str:
        """Say how the quick version differs from the full one."""
        words = [
            f"{each.flag.strip('-').replace('-', ' ')} {'/'.join(each.words)} (in full {each.full})"
            for each in self.quick
        ]
        return f"{', '.join(words)}; figures are rougher than in full"

    def _why_short(self) -> str:
        """State the diagnosis's first finding, for a run that falls short of its ANN."""
        short, first = 100 * (self.ann_accuracy.value - self.accuracy.value), self.finding
        found = "finds nothing that explains it"
        if first is not None:
            found = f"puts first: {first.severity}: {first.message} [{first.code}]. "
            found += f"Change: {first.change}"
        return (
            f"{short:.1f} percentage points short of the ANN, which lies above the interval; "
            f"`nengonet.diagnose` {found}"
        )


def _by_layer(counts: dict[str, float]) -> str:
    """Write counts by layer in one line, with their sum."""
    each = ", ".join(f"{label} {n:,.0f}" for label, n in counts.items())
    return f"{sum(counts.values()):,.0f} ({each})"


def sweep_table(name: str, sweep: nn.Sweep) -> str:
    """Write a sweep over a reproduction's parameters, with one line for each combination."""
    rows: dict[str, dict] = {}
    for row in sweep.summary():
        cell = {each: row[each] for each in sweep.parameters}
        words = {each: "none" if of is None else _short(of) for each, of in cell.items()}
        found = rows.setdefault(str(cell), words)
        found[row["value"]] = None if np.isnan(row["mean"]) else row["mean"]
        if row["value"] == "accuracy" and row["n"] > 1:
            found["interval"] = interval_text(row)
    forms = {"spikes": ",.0f", "operations": ",.0f"}
    columns = {each: (each.replace("_", "-"), "") for each in sweep.parameters}
    columns |= {each: (each, forms.get(each, ".4f")) for each in sweep.values}
    columns["interval"] = ("95 % interval of accuracy", "")
    seeds = len({row["seed"] for row in sweep.rows})
    means = f"means of {seeds} seeds" if seeds > 1 else "one seed"
    title = f"{name}: {len(sweep.rows)} cells, {len(sweep.failed)} failed; {means}"
    return "\n".join([title, *table(rows.values(), columns, left=()), *first_failures(sweep)])


def interval_text(row: dict) -> str:
    """Write the interval of an accuracy over seeds."""
    return f"{row['low']:.4f} to {row['high']:.4f}"


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(item)}" for name, item in value.items())
    return str(value)
