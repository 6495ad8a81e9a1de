"""Every notebook runs from its first cell to its last, and is stored without output."""

import json
import pathlib

import matplotlib.pyplot as plt
import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for number, cell in enumerate(cells(path)):
        if cell["cell_type"] == "code":
            code = compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec")
            exec(code, namespace)
    plt.close("all")
    printed = capsys.readouterr().out
    assert printed
    assert "False" not in printed  # the notebooks print what they check


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_without_output(path):
    for cell in cells(path):
        assert cell["cell_type"] == "markdown" or not (cell["outputs"] or cell["execution_count"])
    assert "nengonet" in "".join("".join(cell["source"]) for cell in cells(path))
