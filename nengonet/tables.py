"""Aligned tables of text, and numbers with their nouns."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 image" or "3 images"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def aligned(rows: Sequence[Sequence[str]], *, left: Collection[int] = ()) -> list[str]:
    """Return rows of cells as lines, every column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def cells(rows: Iterable[Mapping], columns: Mapping[str, tuple[str, str]]) -> list[list[str]]:
    """Return records as rows of cells below their titles; ``columns`` give title and format."""
    found = [[title for title, _ in columns.values()]]
    for row in rows:
        pairs = ((row.get(name), form) for name, (_, form) in columns.items())
        found.append(["-" if value is None else format(value, form) for value, form in pairs])
    return found


def table(
    rows: Iterable[Mapping], columns: Mapping[str, tuple[str, str]], left: Collection[int] = (0,)
) -> list[str]:
    """Return records as a table; ``columns`` give the title and format of each name."""
    return aligned(cells(rows, columns), left=left)
