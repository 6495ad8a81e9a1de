"""The table of a sweep, and its summary over the seeds."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from nengonet import html
from nengonet.checks import as_names, shortened
from nengonet.exceptions import InputError
from nengonet.files import output_path, write_whole
from nengonet.results.readout import share_interval
from nengonet.sweeps.grid import key_of, plain
from nengonet.tables import aligned

_LONG = (list, tuple, dict)
_SHOWN = 20  # rows of a printed table


@dataclasses.dataclass(frozen=True, eq=False)
class Sweep:
    """The results of a sweep, one row for each cell.

    Attributes
    ----------
    parameters : tuple of str
        Names of the grid's parameters.
    values : tuple of str
        Names of the values that the function returned.
    rows : list of dict
        The rows in the order of the grid, seeds innermost: the parameters, ``seed``, the values,
        ``error`` (None, or type, message and last place of the traceback) and ``seconds``. The
        values of a failed cell are None.
    n_images : list of dict of int
        For each row, the number of images behind each value that was returned as an `Accuracy`.

    Examples
    --------
    >>> found = nn.sweep(lambda x, seed: {"square": x**2}, {"x": [1, 2, 3]})
    >>> found
    <Sweep over x: 3 cells, 0 failed; values square>
    >>> [row["square"] for row in found.rows]
    [1, 4, 9]
    """

    parameters: tuple[str, ...]
    values: tuple[str, ...]
    rows: list[dict]
    n_images: list[dict[str, int]] = dataclasses.field(default_factory=list)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return (*self.parameters, "seed", *self.values, "error", "seconds")

    @property
    def failed(self) -> list[dict]:
        """The rows of the cells that failed."""
        return [row for row in self.rows if row["error"] is not None]

    def to_csv(self, path: str | os.PathLike) -> None:
        """Write the rows as CSV, with a header; sequences as JSON, None as an empty field."""
        path, file = output_path(path), io.StringIO(newline="")
        writer = csv.writer(file)
        writer.writerow(self.columns)
        for row in self.rows:
            writer.writerow(
                json.dumps(plain(row[name])) if isinstance(row[name], _LONG) else row[name]
                for name in self.columns
            )
        write_whole(path, file.getvalue().encode())

    def to_pandas(self):
        """Return the rows as a ``pandas.DataFrame``."""
        try:
            import pandas
        except ImportError:
            raise InputError(
                "to_pandas: pandas is not installed: pip install pandas, or use to_csv"
            ) from None
        return pandas.DataFrame(self.rows, columns=list(self.columns))

    def summary(self, by: Sequence[str] | None = None) -> list[dict]:
        """Compute mean, spread and 95 % interval over the seeds.

        The interval of a value returned as an `Accuracy` includes the sampling of the images and
        stays in [0, 1] (`nengonet.results.readout.share_interval`). Other intervals are Student's
        t. They are NaN if all seeds agree, because that does not show how far others would differ.

        Parameters
        ----------
        by : sequence of str, optional
            The parameters to group by; by default all. Over the others, the mean of every seed is
            taken first, so that the interval is over seeds only.

        Returns
        -------
        rows : list of dict
            One row for each group and value: the parameters, ``value`` (its name), ``mean``,
            ``std`` (of a sample), ``n`` (seeds), ``low`` and ``high`` (the interval). For a value
            that is a list, these are lists too, element by element. A seed counts in a group only
            if all its cells have the value; with fewer than two seeds the interval is NaN.
        """
        by = self.parameters if by is None else tuple(by)
        as_names("by", by, self.parameters, "parameter")
        groups: dict[str, list[tuple[dict, dict]]] = {}
        for row, behind in zip(self.rows, self.n_images or [{}] * len(self.rows), strict=True):
            groups.setdefault(key_of([row[name] for name in by]), []).append((row, behind))
        return [
            {name: rows[0][0][name] for name in by} | {"value": value} | _over_seeds(rows, value)
            for rows in groups.values()
            for value in self.values
        ]

    def __repr__(self) -> str:
        """Show its size; `str` returns a table."""
        names = shortened(", ".join(self.parameters)), shortened(", ".join(self.values))
        size = f"{len(self.rows)} cells, {len(self.failed)} failed"
        return f"<Sweep over {names[0] or 'seeds'}: {size}; values {names[1]}>"

    def _repr_html_(self) -> str:
        head, table, rest = self._table()
        lines = (html.tag("p", line, class_="quiet") for line in rest)
        return html.display(html.card("Sweep", head, html.table(table, left=()), *lines))

    def __str__(self) -> str:
        """Return the number of cells, a table of means, and the first errors."""
        head, table, rest = self._table()
        return "\n".join([head, *aligned(table), *rest])

    def _table(self) -> tuple[str, list[list[str]], list[str]]:
        """Return a title, the cells of a table of means, and the lines below it."""
        summary, names = self.summary(), (*self.parameters, "value")
        table = [[*names, "mean", "interval", "n"]]
        for row in summary[:_SHOWN]:
            low, high = row["low"], row["high"]
            interval = f"{_short(low)} to {_short(high)}" if np.isfinite(low).any() else ""
            cells = [str(row[name]) for name in names]
            table.append([*cells, _short(row["mean"]), interval, str(row["n"])])
        more = len(summary) - _SHOWN
        head = f"{len(self.rows)} cells, {len(self.failed)} failed; mean (95 % interval, seeds)"
        rest = [f"… {more} more rows: see summary()"] if more > 0 else []
        return head, table, [*rest, *first_failures(self)]


def first_failures(sweep: Sweep) -> list[str]:
    """Return where and why the first three failed cells failed, one line each."""

    def shown(value: object) -> str:
        return f"{value:g}" if isinstance(value, float) else str(value)

    return [
        f"failed: {', '.join(f'{name}={shown(row[name])}' for name in (*sweep.parameters, 'seed'))}"
        f": {row['error']}"
        for row in sweep.failed[:3]
    ]


def _over_seeds(rows: list[tuple[dict, dict]], value: str) -> dict:
    seeds: dict[int, list] = {}
    for row, _ in rows:
        seeds.setdefault(row["seed"], []).append(row[value])
    try:
        of_seeds = np.array(
            [np.mean(found, axis=0) for found in seeds.values() if None not in found], dtype=float
        )
    except ValueError:
        raise InputError(
            f"summary: {value}: expected lists of one length, got several; see rows"
        ) from None
    n = len(of_seeds)
    mean = std = low = high = np.full(of_seeds.shape[1:], np.nan)
    if n:
        mean = of_seeds.mean(axis=0)
    if n > 1:
        std = of_seeds.std(axis=0, ddof=1)
        images = [n_images[value] for _, n_images in rows if value in n_images]
        if images:
            low, high = share_interval(of_seeds, min(images))
        else:
            margin = stdtrit(n - 1, 0.975) * np.where(std > 0, std, np.nan) / math.sqrt(n)
            low, high = mean - margin, mean + margin
    figures = {"mean": mean, "std": std, "n": np.array(n), "low": low, "high": high}
    return {name: each.tolist() for name, each in figures.items()}


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else shortened(str(value))
