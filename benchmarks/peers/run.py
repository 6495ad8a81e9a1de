"""Run nengonet and its peers side by side, and print a table for each job and number of cores.

    python benchmarks/peers/run.py --jobs csnn-avg csnn-max --peers nengonet spikingjelly \\
        --cores 1,2 --repeats 3

The peers need the environments that `setup.sh` makes; nengonet runs in this script's environment.
Runs follow one after the other, never two at once. Every repeat runs each of them once.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
OURS, MLP = "nengonet", "mlp"
CSNNS = ("csnn-avg", "csnn-max", "csnn-lif")
CNNS = (*CSNNS, "bengali-posted", "bengali-repaired")
JOBS = (MLP, *CNNS)

# name, peer and environment, script, arguments, jobs
RUNS = [
    ("nengonet", OURS, "ours.py", ["--precision", "64"], (MLP,)),
    ("nengonet, float32", OURS, "ours.py", ["--precision", "32"], JOBS),
    ("SpikingJelly", "spikingjelly", "spikingjelly_mlp.py", [], (MLP,)),
    ("snnTorch", "snntorch", "snntorch_mlp.py", [], (MLP,)),
    ("Brian2", "brian2", "brian2_mlp.py", [], (MLP,)),
    ("SpikingJelly", "spikingjelly", "spikingjelly_cnn.py", [], CNNS),
    ("snnTorch", "snntorch", "snntorch_cnn.py", [], CNNS),
    ("sinabs", "sinabs", "sinabs_cnn.py", [], CNNS),
    ("Spyx", "spyx", "spyx_cnn.py", [], CNNS),
    ("NengoDL", "nengodl", "nengodl_cnn.py", [], CNNS),
]
_ENCODER, _INSTANT = ["--input", "encoder"], ["--instant"]
VARIANTS = [
    ("SpikingJelly, own encoder", "spikingjelly", "spikingjelly_mlp.py", _ENCODER, (MLP,)),
    ("SpikingJelly, bfloat16", "spikingjelly", "spikingjelly_mlp.py", ["--bfloat16"], (MLP,)),
    ("snnTorch, own encoder", "snntorch", "snntorch_mlp.py", _ENCODER, (MLP,)),
    ("snnTorch, bfloat16", "snntorch", "snntorch_mlp.py", ["--bfloat16"], (MLP,)),
    ("nengonet, float64", OURS, "ours.py", ["--precision", "64"], CNNS),
    ("SpikingJelly, own pool", "spikingjelly", "spikingjelly_cnn.py", _INSTANT, ("csnn-max",)),
    ("Spyx, instant pool", "spyx", "spyx_cnn.py", _INSTANT, ("csnn-max",)),
    ("NengoDL, nothing added", "nengodl", "nengodl_cnn.py", ["--stock"], CNNS),
    ("NengoDL, average pools", "nengodl", "nengodl_cnn.py", ["--average"], ("csnn-max",)),
]
PEERS = tuple(dict.fromkeys(peer for _, peer, *_ in RUNS))


def measure(script: str, python: str, arguments: list[str], cores: list[int] | None) -> dict | None:
    """Run a script once, in its environment and on these cores, with one thread per process.

    Returns None if it fails.
    """
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        [python, FOLDER / script, *arguments, "--json"],
        env=os.environ | threads,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=None if cores is None else lambda: os.sched_setaffinity(0, cores),
    )
    if done.returncode:
        print(f"{script}: failed with exit code {done.returncode}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def python_of(environments: pathlib.Path, name: str) -> str:
    """Return the Python of an environment."""
    if name == OURS:
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
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def summary(results: dict[tuple[str, str], list[dict]]) -> list[dict]:
    """Return a row for each way to run a job; its ``ratio`` is relative to the fastest."""
    speeds = {key: [one["images_per_s"] for one in found] for key, found in results.items()}
    medians = {key: statistics.median(found) for key, found in speeds.items()}
    fastest = max((medians[key] for key in medians if key[1] != OURS), default=float("nan"))
    return [
        {
            "name": key[0],
            "version": found[0]["version"],
            "images_per_s": medians[key],
            "min": min(speeds[key]),
            "max": max(speeds[key]),
            "cpu_s_per_image": statistics.median(one["cpu_s_per_image"] for one in found),
            "accuracy": statistics.median(one["accuracy"] for one in found),
            "ratio": medians[key] / fastest,
            "batch_size": found[0]["batch_size"],
            "n_images": found[0]["n_images"],
            "n_steps": found[0]["n_steps"],
            "notes": f"batch {found[0]['batch_size'] or 'by default'}; {found[0]['notes']}",
        }
        for key, found in results.items()
    ]


def table(job: str, cores: int, rows: list[dict]) -> str:
    """Return a Markdown table."""
    lines = [
        f"{job}: {rows[0]['n_images']} images of {rows[0]['n_steps']} steps, "
        f"{cores} core{'s' if cores > 1 else ''}",
        "",
        "| | version | images/s | from .. to | CPU ms an image | accuracy | to the fastest peer |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['name']} | {row['version']} | {row['images_per_s']:,.3g} "
        f"| {row['min']:,.3g} .. {row['max']:,.3g} | {1000 * row['cpu_s_per_image']:.3g} "
        f"| {row['accuracy']:.3f} | {row['ratio']:.2f} |"
        for row in rows
    ]
    lines += [""] + [f"- {row['name']}: {row['notes']}" for row in rows]
    return "\n".join(lines)


def written(jobs: list[str], folder: pathlib.Path, args: argparse.Namespace) -> dict:
    """Return the arguments that choose each job, without its cores, and write the CNN jobs."""
    found = {}
    if MLP in jobs:
        found[MLP] = ["--weights", str(args.weights), "--data", str(args.data)]
        found[MLP] += ["--images", str(args.images or 1000), "--steps", str(args.steps)]
    if len(found) < len(jobs):
        import jobs as cnns

        for name in (each for each in jobs if each != MLP):
            found[name] = [str(folder / f"{name}.npz")]
            shown = cnns.images_of(name, args.images or 100)
            cnns.write(folder / f"{name}.npz", name, cnns.build(name), *shown)
    return found


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environments", type=pathlib.Path, default=ROOT / ".venv-peers")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=[MLP])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--cores", default="2", help="such as 1,2: one table for each")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="NAME=PYTHON",
        help="another nengonet, by its Python; may be repeated",
    )
    parser.add_argument("--weights", default=ROOT / "weights" / "mnist_dense.h5", help="of the MLP")
    parser.add_argument("--data", default=ROOT / "nengonet" / "data" / "mnist.npz", help="for it")
    parser.add_argument("--images", type=int, help="[default: 1000 for the MLP, 100 for a CNN]")
    parser.add_argument("--steps", type=int, default=350, help="of the MLP")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--variants", action="store_true", help="also other ways to use the peers")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()

    others = dict(each.split("=", 1) for each in args.also)
    runs = [
        (name, peer, python_of(args.environments, peer), script, arguments, jobs)
        for name, peer, script, arguments, jobs in RUNS + (VARIANTS if args.variants else [])
        if peer in args.peers and set(jobs) & set(args.jobs)
    ]
    runs += [
        (f"{name}, float32", OURS, python, "ours.py", ["--precision", "32"], JOBS)
        for name, python in others.items()
    ]
    allowed, tables = sorted(os.sched_getaffinity(0)), []
    with tempfile.TemporaryDirectory() as folder:
        chosen = written(args.jobs, pathlib.Path(folder), args)
        for job, cores in itertools.product(args.jobs, map(int, args.cores.split(","))):
            if cores > len(allowed):
                raise SystemExit(f"--cores: expected at most {len(allowed)}, got {cores}")
            results = {}
            option = "--processes" if job == MLP else "--cores"
            for repeat in range(args.repeats):
                for name, peer, python, script, arguments, _ in (r for r in runs if job in r[-1]):
                    given = [*chosen[job], *arguments, option, str(cores)]
                    found = measure(script, python, given, allowed[:cores])
                    if found is None:
                        continue
                    results.setdefault((name, peer), []).append(found)
                    print(
                        f"{job}, {cores}, {repeat + 1}/{args.repeats} {name}: "
                        f"{found['images_per_s']:,.3g} images/s, "
                        f"{1000 * found['cpu_s_per_image']:.3g} ms of CPU an image",
                        file=sys.stderr,
                    )
            if results:
                tables.append({"job": job, "cores": cores, "rows": summary(results)})
    where = machine()
    if args.json:
        print(json.dumps({"machine": where, "repeats": args.repeats, "tables": tables}))
        return
    print(
        f"{where['date']}, {where['cpu']}, {where['cores']} cores, load {where['load']:.1f}, "
        f"Python {where['python']}, NumPy {where['numpy']}; medians of {args.repeats}"
    )
    for each in tables:
        print("\n" + table(each["job"], each["cores"], each["rows"]))


if __name__ == "__main__":
    main()
