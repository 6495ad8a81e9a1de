"""Compare two folders of results, number by number.

    python docs/results/compare.py BEFORE AFTER [--tolerance 0]

Every JSON file that either folder has is read; of a record of ``make.py`` the report alone counts.
Prints what was added, removed or changed; exit code 1 where a number was changed or removed.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Iterator


def main() -> int:
    """Compare what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=pathlib.Path)
    parser.add_argument("after", type=pathlib.Path)
    parser.add_argument("--tolerance", type=float, default=0.0, help="of a number, absolute")
    arguments = parser.parse_args()
    names = sorted(
        {file.name for side in (arguments.before, arguments.after) for file in side.glob("*.json")}
    )
    if not names:
        parser.error(f"expected JSON files in {arguments.before} or {arguments.after}, got none")
    n_changed = 0
    for name in names:
        before, after = (values_of(side / name) for side in (arguments.before, arguments.after))
        changes = list(differences(before, after, arguments.tolerance))
        numbers = [change for change in changes if change[3]]
        n_changed += len(numbers)
        counts = f"{len(before)} values before, {len(after)} after"
        print(f"{name}: {counts}, {len(numbers)} numbers changed or removed")
        for kind, path, text, _ in changes:
            print(f"  {kind} {path}: {text}")
    return int(n_changed > 0)


def values_of(file: pathlib.Path) -> dict[str, object]:
    """Return every number and word of a file by its path; nothing for a file that is missing."""
    if not file.exists():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    return dict(leaves(found.get("report", found)))


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield each value that holds no others, with the way to it."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from leaves(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for each, name in zip(value, row_names(value), strict=True):
            yield from leaves(each, f"{path}[{name}]")
    else:
        yield path, value


def row_names(rows: list) -> list[str]:
    """Name the rows of a table by their words and settings, so that a new row moves no other."""
    names = [
        " ".join(
            f"{key}={each}"
            for key, each in row.items()
            if isinstance(each, (str, type(None)))
            or key in ("amplitude", "dt", "n_steps", "scale", "synapse")
        )
        if isinstance(row, dict)
        else ""
        for row in rows
    ]
    named = all(names) and len(set(names)) == len(rows)
    return names if named else [str(number) for number in range(len(rows))]


def is_number(value: object) -> bool:
    """Whether a value is a number; a truth value is not one."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def differences(
    before: dict[str, object], after: dict[str, object], tolerance: float
) -> Iterator[tuple[str, str, str, bool]]:
    """Yield kind, path, text, and whether numbers are meant, of whatever differs."""
    for path in dict.fromkeys([*before, *after]):
        if path not in after:
            yield "removed", path, str(before[path]), is_number(before[path])
        elif path not in before:
            yield "added", path, str(after[path]), False
        else:
            old, new = before[path], after[path]
            numbers = is_number(old) and is_number(new)
            if numbers and abs(new - old) <= tolerance:
                continue
            if old != new:
                yield "changed", path, f"{old} -> {new}", numbers


if __name__ == "__main__":
    sys.exit(main())
