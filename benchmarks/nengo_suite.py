"""Run Nengo's own tests and example notebooks on the minibatch simulator.

    python benchmarks/nengo_suite.py [--environment FOLDER] [--select EXPRESSION]
        [--minibatch 1 3] [--numba on off] [--results FOLDER] [--json FILE]
    python benchmarks/nengo_suite.py --notebooks [FOLDER] …

Nengo's tests that take a simulator run in at least four ways: on the unmodified
``nengo.Simulator``; on the same simulator with every probe recorded; and on the minibatch
simulator, for each number of equal examples, with Numba and without. The tests see one of the
examples, after a check that all are equal to the bit. Tests, tolerances and seeds are Nengo's.
Then the outcomes are compared test by test, and the data of every probe of every simulator number
by number.

Pytest 9 cannot load Nengo 4.1's plugin, so the tests need a separate environment. By default, a
temporary one is made (pip must reach a package index). Every run is one process of one thread. One
test, ``test_cache_concurrency``, starts 100 processes at once, which build networks and write to
one cache. It runs only with ``--concurrency``, and needs an otherwise idle machine.

``--notebooks`` runs the example notebooks of Nengo's documentation instead, from its source
distribution (downloaded if no folder is given), with ``nengo.Simulator`` replaced.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Iterator

import nengo

from nengonet.tables import aligned

HERE = pathlib.Path(__file__).resolve().parent
PACKAGES = [
    "pytest<8",
    "pytest-rng",
    "pytest-allclose",
    "pytest-plt",
    f"nengo=={nengo.__version__}",
]
CONCURRENCY = "nengo/tests/test_cache.py::test_cache_concurrency"
# Reasons why a test that passes on Nengo's simulator can fail on a minibatch. No test is skipped.
VOCABULARY = "it reads a vocabulary that a Node's function fills: each example fills its own"
REASONS = {
    "tests/test_copy.py::test_pickle_sim": "MinibatchSimulator refuses to be pickled",
    "tests/test_processes.py::test_x_copy": (
        "it counts what a Node without output is given: every example's input"
    ),
    "spa/tests/test_buffer.py::test_run": VOCABULARY,
    "spa/tests/test_state.py::test_no_feedback_run": VOCABULARY,
}
# One test asks whether the simulator is installed as a backend.
BACKEND = {
    "METADATA": "Metadata-Version: 2.1\nName: nengo-suite\nVersion: 0\n",
    "entry_points.txt": "[nengo.backends]\nsuite = {simulator}\n",
}
# Nengo's own settings are not installed with it.
INI = """[pytest]
nengo_simulator = {simulator}
filterwarnings = ignore
"""


def environment_python(folder: pathlib.Path) -> pathlib.Path:
    """Return the interpreter of an environment with pytest 7, which is made if necessary."""
    windows = os.name == "nt"
    python = folder / ("Scripts" if windows else "bin") / ("python.exe" if windows else "python")
    if not python.exists():
        print(f"making an environment in {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True)
        project = f"{HERE.parent}[fast]"
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES, project], check=True)
    return python


def settings_of(*folders: pathlib.Path, **settings: object) -> dict[str, str]:
    """Return the environment variables of a run that finds packages in further folders."""
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    path = os.pathsep.join(map(str, [HERE, HERE.parent, *folders]))
    settings = json.dumps(settings)
    return os.environ | threads | {"PYTHONPATH": path, "NENGO_SUITE": settings, "MPLBACKEND": "Agg"}


def run_tests(
    python: pathlib.Path, name: str, simulator: str, given: argparse.Namespace, **settings: object
) -> dict[str, dict]:
    """Run the tests on one simulator, and return the outcome of each by its name."""
    results = given.results / f"{name}.jsonl"
    if not results.exists():
        print(f"running {name}", file=sys.stderr)
        ini = given.results / f"{name}.ini"
        ini.write_text(INI.format(simulator=simulator), encoding="utf-8")
        backend = given.results / f"{name} backend" / "nengo_suite-0.dist-info"
        backend.mkdir(parents=True, exist_ok=True)
        for file, text in BACKEND.items():
            where = simulator.replace(".", ":")
            (backend / file).write_text(text.format(simulator=where), encoding="utf-8")
        unfinished = given.results / f"{name}.unfinished"
        unfinished.unlink(missing_ok=True)
        # Nengo takes seeds from the names of tests, which begin with the package's name.
        root = subprocess.run(
            [python, "-c", "import nengo, os; print(os.path.dirname(nengo.__path__[0]))"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        command = [python, "-m", "pytest", "-c", ini, "--rootdir", root, "-p", "nengo_suite_plugin"]
        command += ["-p", "no:cacheprovider", "--pyargs", "nengo", "--slow", "--spa"]
        command += ["--noexamples", "-q"]  # those are notebooks
        if given.select:
            command += ["-k", given.select]
        if not given.concurrency:
            command += ["--deselect", CONCURRENCY]
        with open(given.results / f"{name}.txt", "w", encoding="utf-8") as log:
            subprocess.run(
                command,
                cwd=given.results,
                env=settings_of(backend.parent, **settings, results=str(unfinished)),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        if not unfinished.exists():
            raise SystemExit(f"{name}: no test was run; see {given.results / name}.txt")
        unfinished.rename(results)
    lines = results.read_text(encoding="utf-8").splitlines()
    return {each["test"]: each for each in map(json.loads, lines)}


def all_runs(given: argparse.Namespace, python: pathlib.Path) -> dict[str, dict[str, dict]]:
    """Return the outcomes of every test in every run."""
    data = given.results / "data"
    data.mkdir(parents=True, exist_ok=True)
    runs = {"reference": run_tests(python, "reference", "nengo.Simulator", given)}
    run_tests(
        python, "recorded", "nengo_suite_plugin.Reference", given, record=True, data=str(data)
    )
    for batch, numba in itertools.product(given.minibatch, given.numba):
        name = f"minibatch of {batch}, {'Numba' if numba == 'on' else 'NumPy'}"
        runs[name] = run_tests(
            python,
            name,
            "nengo_suite_plugin.OneOfEqual",
            given,
            minibatch=batch,
            numba=numba == "on",
            data=str(data),
        )
    return runs


def passed(tests: dict[str, dict], file: str = "") -> int:
    """Return how many tests of a file passed."""
    return sum(each["outcome"] == "passed" for name, each in tests.items() if name.startswith(file))


def print_tests(runs: dict[str, dict[str, dict]]) -> None:
    """Print the passed tests by file, and all differences from the reference."""
    reference, *minibatches = runs
    files = sorted({name.partition("::")[0] for name in runs[reference]})
    rows = [["file", "tests", *runs]]
    for file in [*files, ""]:
        n = sum(name.startswith(file) for name in runs[reference])
        counts = [str(passed(tests, file)) for tests in runs.values()]
        rows.append([file.removeprefix("nengo/") or "all", str(n), *counts])
    print("\n".join(aligned(rows, left=(0,))))
    for name in minibatches:
        counts = collections.Counter()
        for each in runs[name].values():
            counts.update({k: v for k, v in each.get("compared", {}).items() if k != "largest"})
        print(
            f"\n{name}: of {counts['data sets']} data sets of probes {counts['different']} differ "
            f"from the reference's, {counts['to the bit']} are equal to the bit"
        )
    print()
    for test, expected in runs[reference].items():
        found = {name: runs[name].get(test, {"outcome": "missing"}) for name in minibatches}
        off = [name for name in minibatches if found[name]["outcome"] != expected["outcome"]]
        if off:
            first = found[off[0]]
            print(f"{test}\n  {expected['outcome']} on the reference, {first['outcome']} with a")
            print("  " + "; ".join(off))
            name = test.removeprefix("nengo/").partition("[")[0]
            print(f"  {REASONS.get(name, 'unexplained')}")
            print("  " + " ".join(first.get("message", "").split())[:300])
        elif expected["outcome"] not in ("passed", "skipped"):
            print(f"{test}\n  {expected['outcome']} on all: {expected['message'][:200]}")
        different = [
            name for name in minibatches if found[name].get("compared", {}).get("different")
        ]
        if different:
            print(f"{test}\n  other data than the reference's with a " + "; ".join(different))


@contextlib.contextmanager
def example_notebooks(given: str, python: pathlib.Path) -> Iterator[list[pathlib.Path]]:
    """Find the notebooks in a folder, or in Nengo's source distribution."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(given or temporary)
        if not given:
            what = ["--no-deps", "--no-binary", "nengo", f"nengo=={nengo.__version__}"]
            command = [python, "-m", "pip", "download", "-q", *what, "-d", temporary]
            subprocess.run(command, check=True)
            with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
                archive.extractall(folder, filter="data")
        found = sorted(p for p in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
        if not found:
            raise SystemExit(f"--notebooks: expected notebooks in {folder}, got none")
        yield found


def run_notebooks(given: argparse.Namespace, python: pathlib.Path) -> list[dict]:
    """Run each notebook on both simulators, and return the comparison of their data."""
    outcomes = []
    with example_notebooks(given.notebooks, python) as paths:
        for path, batch, numba in itertools.product(paths, given.minibatch, given.numba):
            settings = settings_of(minibatch=batch, numba=numba == "on", data="memory")
            child = subprocess.run(
                [python, HERE / "nengo_suite_notebook.py", path],
                env=settings,
                cwd=given.results,
                capture_output=True,
                text=True,
            )
            found = {"notebook": path.stem, "outcome": "failed", "message": child.stderr[-600:]}
            if child.returncode == 0:
                found = json.loads(child.stdout.splitlines()[-1])
            outcomes.append(found | {"minibatch": batch, "Numba": numba})
            print(f"{found['notebook']}: {found['outcome']}", file=sys.stderr)
    return outcomes


def print_notebooks(outcomes: list[dict]) -> None:
    """Print the outcome of each notebook."""
    rows = [["notebook", "minibatch", "Numba", "outcome", "data sets", "different", "to the bit"]]
    for each in outcomes:
        counts = each.get("compared", {})
        numbers = [str(counts.get(key, "")) for key in rows[0][4:]]
        row = [each["notebook"], str(each["minibatch"]), each["Numba"], each["outcome"], *numbers]
        rows.append(row)
    print("\n".join(aligned(rows, left=(0,))))
    for each in outcomes:
        if each["outcome"] in ("refused", "failed"):
            print(f"{each['notebook']}: {each['outcome']}: {' '.join(each['message'].split())}")
        if each.get("fails on the reference too"):
            print(f"{each['notebook']}: on both simulators, {each['fails on the reference too']}")
    counts = collections.Counter(each["outcome"] for each in outcomes)
    print(", ".join(f"{n} {outcome}" for outcome, n in counts.items()))


def main() -> None:
    """Run the tests or notebooks, and print and write the outcomes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=pathlib.Path, help="with pytest 7; made if missing")
    parser.add_argument("--select", default="", help="an expression for pytest's -k")
    parser.add_argument("--minibatch", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--numba", nargs="+", choices=["on", "off"], default=["on", "off"])
    parser.add_argument("--results", type=pathlib.Path, help="kept there, and not run again")
    parser.add_argument("--concurrency", action="store_true", help=f"with {CONCURRENCY}")
    parser.add_argument("--notebooks", nargs="?", const="", metavar="FOLDER")
    parser.add_argument("--json", type=pathlib.Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        given.results = (given.results or pathlib.Path(temporary) / "results").resolve()
        given.results.mkdir(parents=True, exist_ok=True)
        python = environment_python(given.environment or pathlib.Path(temporary) / "environment")
        if given.notebooks is None:
            found = all_runs(given, python)
            print_tests(found)
        else:
            found = run_notebooks(given, python)
            print_notebooks(found)
        if given.json:
            given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
