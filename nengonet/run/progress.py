"""Progress of a run: a bar on a terminal, and nothing in a log file."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping

from tqdm import tqdm

# A bar of ten characters leaves room for its title and numbers. It shows fractions, too.
_FORM = "{desc}: {percentage:3.0f}%|{bar:10}| {n:.0f}/{total_fmt} "
_FORM += "[{elapsed}<{remaining}, {rate_fmt}{postfix}]"


#: A function that is called with the number of finished items, fractions included, and the total.
Told = Callable[[float, int], object]


class _Telling:
    """An invisible bar that reports to a function."""

    def __init__(self, told: Told, n_done: int, total: int) -> None:
        self.told, self.n, self.total = told, n_done, total

    def __enter__(self) -> _Telling:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, n: float) -> None:
        """Report that ``n`` more items are done."""
        self.n += n
        self.told(self.n, self.total)


def progress_bar(
    shown: bool | str | Told, usual: str, unit: str, n_done: int, total: int
) -> tqdm | _Telling:
    """Return a bar on standard error, if that is a terminal.

    ``shown`` may be a title, in place of the usual one, or a function to report to.
    """
    if callable(shown):
        return _Telling(shown, n_done, total)
    return tqdm(
        desc=shown if isinstance(shown, str) else usual,
        total=total,
        initial=n_done,
        unit=unit,
        disable=None if shown else True,
        file=sys.stderr,
        # Steps are fast in one layer and slow in the next, so only time decides when to draw.
        miniters=0,
        bar_format=_FORM,
    )


def mover(bar: tqdm | _Telling, n_parts: int) -> Callable[[int], None]:
    """Return a function that moves a bar by parts of an item, from any thread.

    An item has ``n_parts`` parts.
    """
    lock, first, n_done = threading.Lock(), bar.n, 0

    def move(n: int) -> None:
        nonlocal n_done
        with lock:
            n_done += n
            # A sum of fractions would miss the total.
            bar.n = first + n_done / n_parts
            bar.update(0)

    return move


def numbered(shown: bool | str, usual: str, number: int, total: int, what: str) -> str | bool:
    """Return the title of one of several bars, or False if no bar is shown."""
    name = shown if isinstance(shown, str) else usual
    place = f" {number} of {total}" if total > 1 else ""
    return f"{name}{place}: {what}" if shown else False


def in_words(values: Mapping[str, object]) -> str:
    """Return some settings as a short text: ``lif, synapse 0.005``."""
    return ", ".join(
        value if isinstance(value, str) else f"{name.replace('_', ' ')} {_short(value)}"
        for name, value in values.items()
    )


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)
