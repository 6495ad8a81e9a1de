"""Run the code of a notebook on both simulators, and compare what every probe recorded.

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
import types
import warnings

os.environ["MPLBACKEND"] = "Agg"

import matplotlib.pyplot as plt
import nengo
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


def run(path: pathlib.Path, simulator: type) -> tuple[list[np.ndarray], float]:
    """Return what the probes recorded with a class in the place of `nengo.Simulator`."""
    np.random.seed(0)  # noqa: NPY002  for networks without a seed
    RECORDER.kept = []
    namespace = {"__name__": "__main__"}
    own, nengo.Simulator = nengo.Simulator, simulator
    start = time.perf_counter()
    try:
        for number, code in enumerate(code_of(path)):
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(code, f"{path.name}, cell {number}", "exec"), namespace)
            plt.close("all")
    finally:
        nengo.Simulator = own
    return RECORDER.kept, time.perf_counter() - start


def main(path: pathlib.Path) -> dict:
    """Run a notebook twice, and say how the data of its probes compare."""
    warnings.simplefilter("ignore")
    nengo.rc.set("progress", "progress_bar", "False")
    for module, name in (("nengo.utils.ipython", "hide_input"),):  # it needs IPython
        sys.modules.setdefault(module, types.SimpleNamespace(**{name: lambda: None}))
    expected, reference_seconds = run(path, Reference)
    try:
        found, seconds = run(path, OneOfEqual)
    except Exception as error:
        return {"outcome": "refused", "message": f"{type(error).__name__}: {error}"[:600]}
    counts = compared(expected, found)
    outcome = "different" if counts["different"] or len(found) != len(expected) else "equal"
    timed = {"reference seconds": reference_seconds, "seconds": seconds}
    return {"outcome": outcome, "message": "", "compared": counts, **timed}


if __name__ == "__main__":
    given = pathlib.Path(sys.argv[1])
    print(json.dumps({"notebook": f"{given.parent.name}/{given.stem}", **main(given)}))
