"""Run a comparison of simulators with Numba and without, and print what differs."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy as np

from nengonet.tables import aligned


def parser_of(description: str, networks: int) -> argparse.ArgumentParser:
    """Return a parser of the arguments that all comparisons take."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", type=int, default=networks)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="write what was found to this file")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return parser


def compare(
    options: argparse.Namespace, run: Callable[[range], list[dict]], names: Sequence[str]
) -> None:
    """Compare with Numba and without, each in its own process; print a table by some names.

    ``run`` takes the seeds of networks. What it returns has numbers of ``compared`` values, of
    ``spikes`` and of ``different`` values.
    """
    if options.one:
        print(json.dumps(run(range(options.seed, options.seed + options.networks))))
        return
    found = []
    for numba in ("1", "0"):
        done = subprocess.run(
            [sys.executable, sys.argv[0], "--one", *sys.argv[1:]],
            env=os.environ | {"NENGONET_NUMBA": numba},
            check=True,
            stdout=subprocess.PIPE,
        )
        found += [{"numba": numba == "1"} | each for each in json.loads(done.stdout)]
    print(table(found, names))
    for each in found:
        if each["different"]:
            print({name: each[name] for name in each if name not in ("compared", "spikes")})
    if options.json:
        with open(options.json, "w") as file:
            json.dump(found, file, indent=1)


def table(found: list[dict], names: Sequence[str]) -> str:
    """Return a table of compared and different values by setting."""
    sums: dict = {}
    for each in found:
        key = tuple(str(each[name]) for name in names)
        values = np.array([1, each["compared"], each["spikes"], each["different"]])
        sums[key] = sums.get(key, 0) + values
    rows = [(*names, "networks", "compared", "spikes", "different")]
    rows += [(*key, *(f"{value:,}" for value in values)) for key, values in sorted(sums.items())]
    return "\n".join(aligned(rows))
