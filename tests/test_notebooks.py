"""Every notebook runs from its first cell to its last, and is stored without output."""

import json
import pathlib
import re

import matplotlib.pyplot as plt
import pytest
from conftest import needs_whole_data

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "docs" / "tutorials").glob("*.ipynb"))


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def text_of(path):
    return "".join("".join(cell["source"]) for cell in cells(path))


# Notebooks that show data sets which are not bundled. They must also run without them.
WITH_DATA = [path for path in NOTEBOOKS if "NENGONET_DATA" in text_of(path)]


def run(path, tmp_path, monkeypatch, capsys):
    """Run the cells in order, and return what they print."""
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for number, cell in enumerate(cells(path)):
        if cell["cell_type"] == "code":
            code = compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec")
            exec(code, namespace)
    figures = [plt.figure(number) for number in plt.get_fignums()]
    assert figures
    for figure in figures:
        titles = [figure.get_suptitle(), *(axis.get_title() for axis in figure.axes)]
        titles += [axis.get_title(loc="left") for axis in figure.axes]
        # The network, and the call that ran it.
        assert any(re.search(r"\w.*: .*\w\(", title) for title in titles), titles
        assert not figure.legends
        assert not any(axis.get_legend() for axis in figure.axes)
    plt.close("all")
    printed = capsys.readouterr().out
    assert printed
    assert "False" not in printed  # the notebooks print what they check
    return printed


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 10
    assert len(WITH_DATA) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_without_whole_data(path, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("NENGONET_DATA", raising=False)
    for cache in ("KERAS_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(cache, str(tmp_path))
    printed = run(path, tmp_path, monkeypatch, capsys)
    if path in WITH_DATA:
        assert "same answer as the ANN" in printed
        assert re.search("(digits|Fashion-MNIST) instead of", printed)


@needs_whole_data
@pytest.mark.parametrize("path", WITH_DATA, ids=lambda path: path.stem)
def test_notebook_runs_with_whole_data(path, tmp_path, monkeypatch, capsys):
    printed = run(path, tmp_path, monkeypatch, capsys)
    assert "instead of" not in printed
    assert "accuracy of the ANN" in printed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_without_output_in_short_cells(path):
    for cell in cells(path):
        assert cell["cell_type"] == "markdown" or not (cell["outputs"] or cell["execution_count"])
        assert cell["cell_type"] == "markdown" or len(cell["source"]) <= 20
    assert "nengonet" in text_of(path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_uses_the_public_interface_only(path):
    """Notebooks use no private names and no networks of the studies."""
    code = "\n".join("".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "code")
    assert not re.search(r"\bnn\.(\w+\.)*_|from nengonet[\w.]* import .*\b_", code)
    assert "nengonet.studies" not in code
