"""The messages printed while Numba compiles, and when they appear."""

import os
import subprocess
import sys
import textwrap

import nengo
import numpy as np
import pytest

import nengonet as nn

pytest.importorskip("numba", reason="no Numba")

LINE = "nengonet: compiling once: Numba keeps the result for later runs\n"
MODULE = textwrap.dedent(
    """
    import sys, numba
    from nengonet.minibatch.acceleration import telling
    from nengonet.minibatch.compiling import compiled

    @compiled
    def inner(x):
        return x + 1

    @compiled
    def outer(x):
        return inner(x) + 1

    @numba.njit
    def theirs(x):
        return x

    def call(wanted, x):
        with telling(wanted):
            theirs(x)
            return outer(x) + outer(float(x))
    """
)


@pytest.fixture
def call(tmp_path):
    """Return a function that calls kernels in a new process and returns its stderr."""
    (tmp_path / "kernels_of_a_test.py").write_text(MODULE)

    def call(wanted=True, cache="cache"):
        code = f"import kernels_of_a_test as k; assert k.call({wanted}, 1) == 6"
        folders = dict.fromkeys(["NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME"], tmp_path / cache)
        settings = {name: str(folder) for name, folder in folders.items()}
        settings["PYTHONPATH"] = str(tmp_path)
        done = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | settings, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    return call


def test_one_line_where_the_cache_has_nothing(call):
    assert call() == LINE
    assert call() == ""
    assert call(cache="another") == LINE


def test_nothing_where_nobody_wants_it(call):
    assert call(wanted=False) == ""


def test_without_a_folder_it_says_what_to_do(call, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "__pycache__").touch()  # not the folder that Numba would make there
    said = [call(cache="file"), call(cache="file")]
    assert said[0] == said[1]
    assert said[0].startswith("nengonet: compiling in each new process")
    assert said[0].endswith("name one in NUMBA_CACHE_DIR\n")
    assert said[0].count("\n") == 1


@pytest.fixture
def kernel(monkeypatch):
    """Compile a kernel that is in no cache; return a function that calls it in a Node."""
    from nengonet.minibatch import acceleration
    from nengonet.minibatch.compiling import compiled

    monkeypatch.setattr(acceleration._Telling, "told", set())
    kernel = compiled(eval("lambda x: x"))  # of no file
    monkeypatch.setattr(sys.modules[__name__], "_kernel", kernel, raising=False)
    # It is called when the Node is made. No Node may hold a kernel: it is not copied.
    return lambda t: sys.modules[__name__]._kernel(t) if t > 0 else None


@pytest.mark.parametrize("progress", [True, False])
@pytest.mark.parametrize("settings", [{}, {"simulator": "reference"}])
def test_present_says_so_where_it_shows_its_progress(progress, settings, kernel, capsys):
    with nengo.Network(seed=0) as net:
        pixels = nn.constant_input((2,))
        output = nn.dense(pixels, np.eye(2), nengo.RectifiedLinear(), gain=1.0, bias=0.0)
        nengo.Node(kernel)
    images, run = np.ones((2, 2)), {"presentation_time": 0.002, "readout": "mean"}
    nn.present(net, output, images, progress=progress, **run, **settings)
    said = capsys.readouterr().err
    assert said.count("nengonet: compiling") == progress


@pytest.mark.parametrize("shown", [True, False])
def test_a_simulator_says_so_where_it_shows_its_progress(shown, kernel, capsys):
    with nengo.Network(seed=0) as net:
        nengo.Node(kernel)
    with nn.MinibatchSimulator(net, progress_bar=shown) as simulator:
        simulator.run_steps(2)
    assert capsys.readouterr().err.count("nengonet: compiling") == shown
