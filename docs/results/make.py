"""Run the reproductions' commands, and keep what they print for the documentation's tables.

    python docs/results/make.py                     # all of them
    python docs/results/make.py bengali --images 200    # provisional figures of one

Each writes ``docs/results/NAME.json``. Run it on a quiet machine, with NENGONET_DATA set; then
``python docs/results/pages.py`` puts the figures into the pages.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import time

from nengonet import studies

FOLDER = pathlib.Path(__file__).parent
RUNS = {name: f"nengonet reproduce {name}" for name in studies.names()} | {
    "forum-mnist-posted": "nengonet reproduce forum-mnist --as-posted",
    "cifar-csnn-augmented": "nengonet reproduce cifar-csnn --weights weights/cifar_csnn.h5",
}
PACKAGES = ("nengonet", "nengo", "numpy", "numba")


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(RUNS)}")
    parser.add_argument("--images", help="fewer than the study has: the figures are provisional")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - RUNS.keys()
    if unknown:
        parser.error(f"expected some of {', '.join(RUNS)}; found {', '.join(sorted(unknown))}")
    failed = 0
    for name in arguments.names or RUNS:
        failed += not measure(name, arguments.images)
    return min(failed, 1)


def measure(name: str, images: str | None) -> bool:
    """Run one command, and write its file; return whether it succeeded."""
    command = RUNS[name] + (f" --images {images}" if images else "")
    words = [*shlex.split(command)[1:], "--json"]
    print(f"$ {command} --json", file=sys.stderr)
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "nengonet", *words], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        print(f"{name}: exit code {done.returncode}; its file stays as it is", file=sys.stderr)
        return False
    report = json.loads(done.stdout)
    # Of a sweep: each run of it, behind the means that the pages show.
    report.pop("rows", None)
    record = {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "seconds": round(time.perf_counter() - start, 1),
        "versions": {"Python": platform.python_version()} | installed(),
        "machine": {"processor": processor(), "cores": os.cpu_count()},
        "provisional": images is not None,
        "report": without_folders(report),
    }
    text = json.dumps(record, indent=1, ensure_ascii=False)
    (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    return True


def installed() -> dict[str, str]:
    """Return the versions of what the figures may depend on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """Return the name of the processor."""
    information = pathlib.Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def without_folders(value: object) -> object:
    """Return the report with names of files alone: where they lay is nobody's business."""
    if isinstance(value, dict):
        return {key: without_folders(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_folders(each) for each in value]
    is_path = isinstance(value, str) and os.path.isabs(value) and " " not in value
    return pathlib.PurePath(value).name if is_path else value


if __name__ == "__main__":
    sys.exit(main())
