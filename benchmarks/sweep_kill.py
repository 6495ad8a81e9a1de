"""Measure `nengonet.sweep`: the cost of a kill, two workers against one, overhead of a cell.

    python benchmarks/sweep_kill.py [--kills 20] [--cells 1000] [--seed 0]

- A sweep on two processes is killed (``SIGKILL``) at a random moment and started again, ``--kills``
  times. A cell is lost if it was in the file after a kill, and is missing or in another place at
  the end. It is doubled if the file holds it twice. Unfinished cells (at most two for each process)
  run again.
- The time of the same cells on two workers and on one, in turns; medians. Busy cells need a machine
  with two idle cores; idle cells show only the distribution of work.
- The time of cells that do nothing, on every backend, with the file and without the start of the
  processes.

The rows of Dask need ``pip install 'nengonet[distributed]'``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import nengonet as nn
from nengonet.sweeps.sweep import SweepJournal

KILLED_CELLS = 400


def brief(x: int, seed: int, folder: str) -> float:
    """Take about 30 ms, and write a line for every finished call."""
    time.sleep(0.03)
    with open(pathlib.Path(folder) / "calls", "a") as file:
        file.write(f"{x}\n")
    return x / 7 + seed


def busy(x: int, seed: int, n: int = 2_000_000) -> int:
    """Keep a core busy without much memory."""
    total = 0
    for each in range(n):
        total += each ^ x
    return total


def idle(x: int, seed: int) -> int:
    """Wait, to show whether two processes are kept busy, whatever else the machine does."""
    time.sleep(0.1)
    return x


def nothing(x: int, seed: int) -> int:
    """Return at once."""
    return x


def sweep_to_kill(folder: str) -> nn.Sweep:
    """Start or resume the sweep that is killed."""
    return nn.sweep(
        brief,
        {"x": range(KILLED_CELLS)},
        constants={"folder": folder},
        n_jobs=2,
        save=pathlib.Path(folder) / "sweep",
        resume=True,
        progress=False,
    )


def in_file(folder: str) -> list[str]:
    """Return the keys of the cells in the file."""
    records = []
    with SweepJournal(pathlib.Path(folder) / "sweep", None) as journal:
        journal.replay(records.append)
    return [record["key"] for record in records]


def measure_kills(kills: int, seed: int) -> None:
    """Kill a sweep repeatedly, and print the fate of its cells."""
    moments = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "sweep"
        seen: list[list[str]] = []
        for _ in range(kills):
            # The file must grow beyond its first record, which describes the sweep.
            size = file.stat().st_size if file.exists() else 2000
            process = subprocess.Popen(
                [sys.executable, __file__, "--killed", folder], stderr=subprocess.DEVNULL
            )
            # The start takes seconds, cells do not: kill at any moment from the first new cell on.
            while process.poll() is None and not (file.exists() and file.stat().st_size > size):
                time.sleep(0.002)
            time.sleep(moments.uniform(0, 0.4))
            process.send_signal(signal.SIGKILL)
            if process.wait() != -signal.SIGKILL:
                break
            seen.append(in_file(folder))
        result = sweep_to_kill(folder)
        at_the_end = in_file(folder)
        calls = (pathlib.Path(folder) / "calls").read_text().split()
    lost = sum(at_the_end[: len(keys)] != keys for keys in seen)
    wrong = sum(row["value"] != row["x"] / 7 for row in result.rows)
    print(f"killed {len(seen)} times, with {', '.join(str(len(keys)) for keys in seen)} cells done")
    print(f"kills after which a cell was lost: {lost}")
    print(f"cells in the file twice: {len(at_the_end) - len(set(at_the_end))}")
    print(f"cells missing at the end: {KILLED_CELLS - len(set(at_the_end))}; wrong: {wrong}")
    print(
        f"under way at a kill, and run again: {(len(calls) - KILLED_CELLS) / len(seen):.1f} a kill"
    )


def timed(function, n: int, **settings) -> float:
    """Return the seconds of a sweep."""
    start = time.perf_counter()
    nn.sweep(function, {"x": range(n)}, progress=False, **settings)
    return time.perf_counter() - start


@contextlib.contextmanager
def backends() -> Iterator[dict[str, dict]]:
    """Yield the settings of every available backend."""
    found = {"in process": {}, "two processes (loky)": {"n_jobs": 2}}
    try:
        from distributed import LocalCluster
    except ImportError:
        print("no Dask here: pip install 'nengonet[distributed]'")
        yield found
        return
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as cluster:
        yield found | {"two workers (Dask)": {"scheduler": cluster.scheduler_address}}


def measure_two_workers(function, repeats: int = 3) -> None:
    """Print how much faster two processes are than one."""
    timed(nothing, 8, n_jobs=2)
    times = [(timed(function, 40), timed(function, 40, n_jobs=2)) for _ in range(repeats)]
    one, two = (statistics.median(each) for each in zip(*times, strict=True))
    print(
        f"{function.__name__} cells, two processes against one: {one / two:.2f} times "
        f"({one:.1f} s, {two:.1f} s)"
    )
    pairs = ", ".join(f"{a / b:.2f}" for a, b in times)
    print(f"of each pair: {pairs}; load of the machine {os.getloadavg()[0]:.1f}")


def measure_overhead(cells: int) -> None:
    """Print the time of a cell that does nothing."""
    with backends() as found, tempfile.TemporaryDirectory() as folder:
        for number, (name, settings) in enumerate(found.items()):
            timed(nothing, 8, **settings)
            seconds = timed(nothing, cells, save=pathlib.Path(folder) / str(number), **settings)
            print(f"{name}: {1000 * seconds / cells:.2f} ms a cell ({cells} cells)")


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--killed", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.killed:
        sweep_to_kill(arguments.killed)
        return
    measure_overhead(arguments.cells)
    measure_two_workers(idle)
    measure_two_workers(busy)
    measure_kills(arguments.kills, arguments.seed)


if __name__ == "__main__":
    main()
