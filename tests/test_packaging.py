"""What an installed package brings along, and which module may import which."""

import ast
import configparser
import graphlib
import hashlib
import pathlib
import re

import pytest

import nengonet

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
    assert "nengonet" not in names or part(path) in ("__main__", "cli", "studies")
    assert not any(name.split(".")[0] in ("tensorflow", "keras", "torch") for name in names)


def needed():
    """Return what every module imports at its top: a function that imports may go round."""
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
    """An editable install finds packages that a plain one would leave out."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = set(settings["options"]["packages"].split())
    folders = {path.parent.relative_to(ROOT) for path in MODULES}
    assert {".".join(folder.parts) for folder in folders} <= listed
