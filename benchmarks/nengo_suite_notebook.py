"""Run the code of a notebook on both simulators, and compare the data of every probe.

    python benchmarks/nengo_suite_notebook.py NOTEBOOK

Prints one line of JSON. `nengo_suite.py --notebooks` runs it for each of Nengo's example notebooks,
with its settings (minibatch, numba) in the environment variable ``NENGO_SUITE``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import sys
import time
import warnings

os.environ["MPLBACKEND"] = "Agg"

import matplotlib.pyplot as plt
import nengo
import nengo.utils.ipython
import numpy as np
from nengo_suite_plugin import RECORDER, OneOfEqual, Reference, compared


def code_of(path: pathlib.Path) -> list[str]:
    """Return the code cells of a notebook, without the lines for IPython."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [
        "\n".join(
            line for line in "".join(cell["source"]).splitlines() if not line.startswith(("%", "!"))
        )
        for cell in cells
        if cell["cell_type"] == "code"
    ]


def run(path: pathlib.Path, simulator: type, cells: dict[int, str]) -> dict[int, Exception]:
    """Run cells with a class in place of `nengo.Simulator`, and return errors of failed cells.

    The recordings of a failed cell are dropped, because the other simulator does not run that cell.
    """
    RECORDER.kept, failed = [], {}
    namespace = {"__name__": "__main__"}
    own, nengo.Simulator = nengo.Simulator, simulator
    try:
        for number, code in cells.items():
            kept = len(RECORDER.kept)
            np.random.seed(number)  # noqa: NPY002  for networks without a seed
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(compile(code, f"{path.name}, cell {number}", "exec"), namespace)
            except Exception as error:
                failed[number] = error
                del RECORDER.kept[kept:]
            plt.close("all")
    finally:
        nengo.Simulator = own
    return failed


def main(path: pathlib.Path) -> dict:
    """Run a notebook on both simulators, and compare the data of its probes."""
    warnings.simplefilter("ignore")
    nengo.rc.set("progress", "progress_bar", "False")
    nengo.utils.ipython.hide_input = lambda: None  # it needs IPython
    cells = dict(enumerate(code_of(path)))
    start = time.perf_counter()
    broken = run(path, Reference, cells)
    expected, seconds = RECORDER.kept, {"reference": time.perf_counter() - start}
    start = time.perf_counter()
    failed = run(path, OneOfEqual, {n: code for n, code in cells.items() if n not in broken})
    seconds["minibatch"] = time.perf_counter() - start
    counts = compared(expected, RECORDER.kept)
    outcome = "equal" if counts["data sets"] else "runs, and has no probes"
    outcome = "refused" if failed else "different" if counts["different"] else outcome
    found = {"outcome": outcome, "compared": counts, "seconds": seconds}
    where = {"message": failed, "fails on the reference too": broken}
    return found | {
        key: "; ".join(f"cell {n}: {type(e).__name__}: {e}"[:300] for n, e in errors.items())
        for key, errors in where.items()
    }


if __name__ == "__main__":
    given = pathlib.Path(sys.argv[1])
    print(json.dumps({"notebook": f"{given.parent.name}/{given.stem}", **main(given)}))
