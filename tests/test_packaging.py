"""The content of an installed package, and the order of imports between modules."""

import ast
import configparser
import graphlib
import hashlib
import pathlib
import re
import runpy
import subprocess
import sys
import types

import cloudpickle
import pytest

import nengonet
import nengonet as nn

PACKAGE = pathlib.Path(nengonet.__file__).parent
ROOT = pathlib.Path(__file__).parents[1]
MODULES = sorted((ROOT / "nengonet").rglob("*.py"))
# From the bottom of the path of the data to its top; nothing imports cli.
NUMPY_ONLY = {
    "ann",
    "checks",
    "datasets",
    "exceptions",
    "files",
    "html",
    "readout",
    "results.journal",
    "results.named",
    "results.names",
    "results.readout",
    "results.result",
    "results.summary",
    "streams",
    "tables",
    "testing",
    "version",
    "weights",
}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_modules_are_found():
    assert len(MODULES) > 15


def part(path):
    """Return the module of the package, or the package in it, that a file is of."""
    return path.relative_to(ROOT / "nengonet").parts[0].removesuffix(".py")


def dotted(path):
    return ".".join(path.relative_to(ROOT / "nengonet").with_suffix("").parts)


def needs_numpy_only(module):
    return any(f"{module}.".startswith(f"{each}.") for each in NUMPY_ONLY)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{part(path)}-{path.stem}")
def test_imports_go_one_way(path):
    # What a method writes a page with needs everything, when it is called.
    names = [name for name in imported(path) if not name.startswith("nengonet.report.")]
    if needs_numpy_only(dotted(path)):
        for name in names:
            assert not name.startswith("nengonet.") or needs_numpy_only(name.split(".", 1)[1]), name
        assert not any(name.split(".")[0] == "nengo" for name in names)
    if part(path) not in ("__main__", "cli"):
        assert not any(name.startswith("nengonet.cli") for name in names)
    # The public names need everything but these: whoever builds on them stands above all else.
    assert "nengonet" not in names or part(path) in ("__main__", "cli", "laboratory", "studies")
    assert not any(name.split(".")[0] in ("tensorflow", "keras", "torch") for name in names)


def needed():
    """Return the imports at the top of every module; those in functions may be circular."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in MODULES
    }
    found = {}
    for module, path in files.items():
        found[module] = set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "nengonet":
                parts = {f"{node.module}.{alias.name}" for alias in node.names}
                found[module] |= parts & files.keys() or {node.module}
    return found


def test_no_module_and_no_folder_needs_one_that_needs_it():
    modules, folders = needed(), {}
    assert sum(map(len, modules.values())) > 150
    assert list(graphlib.TopologicalSorter(modules).static_order())
    for module, imported in modules.items():
        folder = ".".join(module.split(".")[:2])
        folders.setdefault(folder, set()).update(".".join(each.split(".")[:2]) for each in imported)
    folders.pop("nengonet", None)
    order = graphlib.TopologicalSorter({name: each - {name} for name, each in folders.items()})
    assert len(list(order.static_order())) > 15


@pytest.mark.parametrize("card", sorted((ROOT / "weights").glob("*.md")), ids=lambda p: p.stem)
def test_model_cards_name_their_file(card):
    text = card.read_text(encoding="utf-8")
    file = nengonet.pretrained(card.stem)
    assert hashlib.sha256(file.read_bytes()).hexdigest() in text
    script = re.search(r"trained by: `(\S+)`", text)[1]
    assert (ROOT / "weights" / script).exists()


def test_every_weights_file_has_a_card():
    files = sorted((ROOT / "weights").glob("*.h5"))
    assert files
    assert [file.stem for file in files] == sorted(p.stem for p in ROOT.glob("weights/*.md"))


def test_every_package_is_installed():
    """All packages are listed, as an editable install finds even unlisted ones."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = set(settings["options"]["packages"].split())
    folders = {path.parent.relative_to(ROOT) for path in MODULES}
    assert {".".join(folder.parts) for folder in folders} <= listed


WITHOUT_POSIX = """
import builtins, importlib, os, pkgutil, signal, sys, types

GONE = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
real = builtins.__import__

def windows(name, globals=None, locals=None, fromlist=(), level=0):
    ours = (globals or {}).get("__name__", "").startswith("nengonet")
    if ours and name.split(".")[0] in GONE:
        raise ImportError(f"No module named {name!r}")
    if ours and name == "msvcrt":  # others ask for it to find out where they are
        return msvcrt
    return real(name, globals, locals, fromlist, level)

locked = []
msvcrt = types.ModuleType("msvcrt")
msvcrt.LK_NBLCK, msvcrt.locking = 2, lambda *given: locked.append(given)
builtins.__import__ = windows

import nengonet
names = [each.name for each in pkgutil.walk_packages(nengonet.__path__, "nengonet.")]
names.remove("nengonet.__main__")
for name in names:
    try:
        importlib.import_module(name)
    except ImportError as error:  # an extra that is not installed
        assert error.name in EXTRAS, (name, error)
print(len(names), "modules")

import nengo, numpy as np
import nengonet as nn
for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGQUIT", "setitimer", "pthread_sigmask"):
    delattr(signal, name)
for name in ("fork", "killpg", "getpgid", "setsid", "getuid", "sched_getaffinity"):
    delattr(os, name)
with nengo.Network(seed=0) as net:
    layer = nn.dense(nn.poisson_input(4), np.eye(4), nn.IntegrateAndFire(), gain=50.0)
run = {"presentation_time": 0.02, "progress": False, "save": "run.h5"}
first = nn.present(net, layer, np.ones((3, 4)), **run)
again = nn.present(net, layer, np.ones((3, 4)), resume=True, **run)
assert np.array_equal(first.steps, again.steps)
print(len(locked), "locks")
from nengonet.cli import main
main(["weights", "mnist_dense"], standalone_mode=False)
from nengonet.run.bench import _peak_memory
assert _peak_memory() is None
"""


def test_nothing_of_posix_is_needed(tmp_path):
    """Without POSIX modules, signals and functions, all is imported and a run is resumed."""
    extras = {"panel", "bokeh", "nir", "distributed", "numba", "playwright"}
    code = WITHOUT_POSIX.replace("EXTRAS", repr(extras))
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules, locks, *table = done.stdout.splitlines()
    assert int(modules.split()[0]) > 100
    assert int(locks.split()[0]) >= 1
    assert table[0].endswith("101632 parameters")


def test_types_and_stubs_are_part_of_the_package():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    patterns = settings["options.package_data"]["nengonet"].split(", ")
    stubs = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.pyi")]
    for path in [pathlib.Path("py.typed"), *stubs]:
        assert (PACKAGE / path).exists()
        assert any(path.match(pattern) for pattern in patterns if len(path.parts) == 1), path


def test_the_version_is_the_same_everywhere():
    released = re.search(r"^## (\S+) - (\S+)$", (ROOT / "CHANGES.md").read_text("utf-8"), re.M)
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert released[1] == nengonet.__version__
    assert f"\nversion: {released[1]}\ndate-released: {released[2]}\n" in citation


@pytest.fixture
def given_to_setup(monkeypatch):
    """Return the arguments that setup.py passes to setuptools, and their sources."""
    setuptools = pytest.importorskip("setuptools")
    given = {}
    monkeypatch.setattr(setuptools, "setup", given.update)
    return runpy.run_path(str(ROOT / "setup.py")) | given


def test_scripts_that_train_are_not_installed(given_to_setup):
    import setuptools

    command = given_to_setup["cmdclass"]["build_py"](
        setuptools.Distribution({"script_name": "setup.py"})
    )
    folder = ROOT / given_to_setup["package_dir"]["nengonet.pretrained"]
    assert list(folder.glob("train_*.py"))
    assert command.find_package_modules("nengonet.pretrained", str(folder)) == []
    found = command.find_package_modules("nengonet.sweeps", str(PACKAGE / "sweeps"))
    assert {name for _, name, _ in found} > {"__init__", "sweep"}


def test_links_of_the_readme_lead_somewhere_from_a_package_index(given_to_setup):
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    homes = settings["metadata"]["project_urls"].split("\n")
    home = next(line.split(" = ")[1] for line in homes if line.startswith("Source"))

    links = re.findall(r'(?:]\(|src=")([^)"]+)', given_to_setup["long_description"])
    assert len(links) > 5
    for link in links:
        assert re.match(r"https://|#", link), link
        if link.startswith(home + "/"):
            kind, tag, path = link.removeprefix(home + "/").split("/", 2)
            assert kind == ("raw" if path.endswith((".png", ".svg")) else "blob")
            assert tag == f"v{nengonet.__version__}"
            assert (ROOT / path.split("#")[0]).exists(), link
    assert any(link.startswith(f"{home}/blob/") for link in links)


@pytest.mark.parametrize(
    "written, whole",
    [
        ("[a](docs/a.md#b)", "[a](H/blob/T/docs/a.md#b)"),
        ("[`a`, *b*](LICENSE) [c](d.md)", "[`a`, *b*](H/blob/T/LICENSE) [c](H/blob/T/d.md)"),
        ("![two words](docs/a.png)", "![two words](H/raw/T/docs/a.png)"),
        ("[![a](a.svg)](b.md)", "[![a](H/raw/T/a.svg)](H/blob/T/b.md)"),
        ('<img alt="a" src="docs/a.png">', '<img alt="a" src="H/raw/T/docs/a.png">'),
        ("[a](#b) [c](https://d.e/f) [g](mailto:h@i)", None),
        ("`{'a': [1]}` (see docs/a.md) [b] (c)", None),
    ],
)
def test_links_are_made_whole(given_to_setup, written, whole):
    assert given_to_setup["with_whole_links"](written, "H", "T") == (whole or written)


def test_the_package_goes_to_other_processes_with_functions_that_name_it():
    """A submodule with a public function's name would change the package's class."""
    assert cloudpickle.loads(cloudpickle.dumps(lambda: nn.lab))() is nn.lab
    assert type(sys.modules["nengonet"]) is types.ModuleType
