"""Run nengonet and its peers side by side, and print a table.

    python benchmarks/peers/run.py [--environments .venv-peers] [--repeats 3] [--variants] [--json]

The peers need the environments that `setup.sh` makes; nengonet runs in the one of this script.
One run after the other, never two at once; every repeat runs each of them once.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]

# name, environment (None: this one), script, arguments
RUNS = [
    ("nengonet", None, "ours.py", ["--precision", "64"]),
    ("nengonet, float32", None, "ours.py", ["--precision", "32"]),
    ("SpikingJelly", "spikingjelly", "spikingjelly_mlp.py", []),
    ("snnTorch", "snntorch", "snntorch_mlp.py", []),
    ("Brian2", "brian2", "brian2_mlp.py", []),
]
VARIANTS = [
    (
        "SpikingJelly, own encoder",
        "spikingjelly",
        "spikingjelly_mlp.py",
        ["--input", "encoder"],
    ),
    ("SpikingJelly, bfloat16", "spikingjelly", "spikingjelly_mlp.py", ["--bfloat16"]),
    ("snnTorch, own encoder", "snntorch", "snntorch_mlp.py", ["--input", "encoder"]),
    ("snnTorch, bfloat16", "snntorch", "snntorch_mlp.py", ["--bfloat16"]),
]
PEERS = {name for name, environment, *_ in RUNS if environment}


def measure(script: str, python: str, arguments: list[str]) -> dict:
    """Run a script once, in its environment, with one thread per process."""
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        [python, FOLDER / script, *arguments, "--json"],
        env=os.environ | threads,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{script}: failed with exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def python_of(environments: pathlib.Path, name: str | None) -> str:
    """Return the Python of an environment."""
    if name is None:
        return sys.executable
    python = environments / name / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"{python} is missing: run benchmarks/peers/setup.sh {environments}")
    return str(python)


def machine() -> dict:
    """Return the date, the machine and the versions of this environment."""
    model = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def table(rows: list[dict], where: dict, shared: argparse.Namespace) -> str:
    """Return a Markdown table."""
    lines = [
        f"{where['date']}, {where['cpu']}, {where['cores']} cores, Python {where['python']}, "
        f"NumPy {where['numpy']}; {shared.images} images of {shared.steps} steps, "
        f"{shared.processes} processes, {shared.repeats} repeats",
        "",
        "| | version | images/s | from .. to | accuracy | to the fastest peer |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['name']} | {row['version']} | {row['images_per_s']:,.0f} "
        f"| {row['min']:,.0f} .. {row['max']:,.0f} | {row['accuracy']:.3f} | {row['ratio']:.2f} |"
        for row in rows
    ]
    lines += [""] + [f"- {row['name']}: {row['notes']}" for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environments", type=pathlib.Path, default=ROOT / ".venv-peers")
    parser.add_argument("--weights", default=ROOT / "weights" / "mnist_dense.h5")
    parser.add_argument("--data", default=ROOT / "nengonet" / "data" / "mnist.npz")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=350)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--variants", action="store_true", help="also other ways to use the peers")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()

    runs = [
        (name, python_of(args.environments, environment), script, arguments)
        for name, environment, script, arguments in RUNS + (VARIANTS if args.variants else [])
    ]
    common = ["--weights", str(args.weights), "--data", str(args.data)]
    common += ["--images", str(args.images), "--steps", str(args.steps)]
    common += ["--processes", str(args.processes)]
    results = {name: [] for name, *_ in runs}
    for repeat in range(args.repeats):
        for name, python, script, arguments in runs:
            found = measure(script, python, common + arguments)
            results[name].append(found)
            print(
                f"{repeat + 1}/{args.repeats} {name}: {found['images_per_s']:,.0f} images/s",
                file=sys.stderr,
            )

    speeds = {name: [one["images_per_s"] for one in found] for name, found in results.items()}
    fastest = max(statistics.median(speeds[name]) for name in PEERS)
    rows = [
        {
            "name": name,
            "version": found[0]["version"],
            "images_per_s": statistics.median(speeds[name]),
            "min": min(speeds[name]),
            "max": max(speeds[name]),
            "accuracy": statistics.median(one["accuracy"] for one in found),
            "ratio": statistics.median(speeds[name]) / fastest,
            "batch_size": found[0]["batch_size"],
            "notes": f"batch {found[0]['batch_size']}; {found[0]['notes']}",
        }
        for name, found in results.items()
    ]
    where = machine()
    if args.json:
        print(json.dumps({"machine": where, "rows": rows}))
    else:
        print(table(rows, where, args))


if __name__ == "__main__":
    main()
