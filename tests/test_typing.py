"""The public interface, as seen by a type checker."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import typing_example

import nengonet as nn

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLE = pathlib.Path(typing_example.__file__)
# Each is wrong at the end of its line, and what mypy calls that.
WRONG = """
import nengo
import numpy as np
import nengonet as nn

weights = nn.load_weights("mnist_dense")
tuned = nn.tune(weights, np.ones((3, 784)), nengo.LIF())
with nengo.Network() as net:
    pixels = nn.poisson_input("784")  # arg-type
    hidden = nn.dense(pixels, weights["hidden"], nengo.LIF(), **tuned["hidden"])
    nn.dense(pixels, weights["hidden"], nengo.LIF(), gains=1.0)  # call-arg
    nn.dense(pixels, np.eye(3), nengo.LIF(), max_rates=object())  # arg-type
    nn.conv2d(pixels, np.ones((2, 2, 1, 1)), nengo.LIF(), strides="two", **nn.FORUM)  # arg-type
print(tuned["hidden"]["gian"])  # typeddict-item
print(hidden.ensemble.gain)  # union-attr
print(hidden.neurons.ensemble.gain)
result = nn.present(net, hidden, np.ones((3, 784)))
print(result.accuracy([1, 2, 3]).valu)  # attr-defined
nn.readout.accuracies()  # attr-defined
nn.testing.assert_at_rest({}, 1.0, rms=1.0)  # arg-type
"""


@pytest.fixture(scope="module")
def mypy(tmp_path_factory):
    """Run mypy as somebody does who has nengonet installed; return the errors by file and line."""
    folder = tmp_path_factory.mktemp("mypy")
    wrong = folder / "wrong.py"
    wrong.write_text(WRONG, encoding="utf-8")
    pytest.importorskip("mypy", reason="mypy is not installed: pip install nengonet[test]")
    config = folder / "mypy.ini"
    sections = {
        "mypy": {"strict": True, "cache_dir": folder / "cache"},
        # The file is checked, and what it sees of nengonet, not nengonet itself.
        "mypy-nengonet.*": {"follow_imports": "silent"},
        "mypy-nengo.*": {"ignore_missing_imports": True},
    }
    config.write_text(
        "".join(
            f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items())
            for name, settings in sections.items()
        ),
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", config, wrong, EXAMPLE],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "(checked 2 source files)" in done.stdout, done
    found = re.findall(r"^\S*?(\w+\.py):(\d+): error: .*\[(.+)\]$", done.stdout, re.M)
    return {(name, int(line)): code for name, line, code in found}


def test_mypy_finds_nothing_in_the_example(mypy):
    assert [each for each in mypy if each[0] == EXAMPLE.name] == []


def test_mypy_finds_what_is_wrong(mypy):
    found = {line: code for (name, line), code in mypy.items() if name == "wrong.py"}
    lines = enumerate(WRONG.splitlines(), 1)
    assert found == {n: line.split("  # ")[1] for n, line in lines if "  # " in line}


def test_pyright_finds_nothing_in_the_example(tmp_path):
    program = shutil.which("pyright") or shutil.which("basedpyright")
    if program is None:
        pytest.skip("pyright is not installed: pip install pyright, or basedpyright")
    config = {
        "include": [str(EXAMPLE)],
        "typeCheckingMode": "strict",
        "extraPaths": [str(ROOT)],
        # Nengo has no types: read from its source, they are those of its defaults.
        "useLibraryCodeForTypes": False,
        "reportMissingTypeStubs": False,
        **{
            f"reportUnknown{what}Type": False
            for what in ("Member", "Variable", "Argument", "Parameter")
        },
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config), encoding="utf-8")
    command = [program, "-p", tmp_path, "--pythonpath", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert re.search(r"^0 errors", done.stdout, re.M), done.stdout


def test_the_example_uses_every_public_name():
    text = EXAMPLE.read_text(encoding="utf-8")
    names = {*nn.__all__} - {"datasets", "plots", "readout", "testing"}
    assert len(names) > 45
    assert [name for name in sorted(names) if not re.search(rf"\bnn\.{name}\b", text)] == []
    for module in ("datasets", "plots", "readout"):
        assert f"nn.{module}." in text
    assert all(name in text for name in nn.testing.__all__ if name.startswith("assert"))


def test_the_example_runs(tmp_path, capsys):
    pytest.importorskip("nir", reason="nir is not installed: pip install nengonet[nir]")
    typing_example.main(tmp_path)
    assert {"run.h5", "run.png", "sweep.csv"} <= {path.name for path in tmp_path.iterdir()}
    assert "IntegrateAndFire" in capsys.readouterr().out
