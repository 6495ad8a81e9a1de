"""Numba is used where it is installed and wanted, and notes about it are printed."""

import os
import subprocess
import sys

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.minibatch import acceleration
from nengonet.minibatch.acceleration import load_kernels, suggest_numba, tell, telling


def test_numba_is_left_out_where_it_is_not_wanted(monkeypatch):
    assert load_kernels(False) is None
    monkeypatch.setenv("NENGONET_NUMBA", "0")
    assert load_kernels() is None
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "nengonet.minibatch.kernels", raising=False)
    monkeypatch.delattr("nengonet.minibatch.kernels", raising=False)
    monkeypatch.delenv("NENGONET_NUMBA")
    assert load_kernels() is None
    with pytest.raises(nn.InputError, match=r'pip install "nengonet\[fast\]"'):
        load_kernels(True)


def test_numba_is_not_imported_with_the_package():
    code = "import sys, nengonet.minibatch; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0


def test_a_run_imports_no_large_module_that_it_does_not_need():
    # Each takes some tenths of a second, in every process.
    code = """
import sys, nengo, nengonet as nn
with nengo.Network(seed=0) as net:
    layer = nn.dense(nn.constant_input(2), [[1.0], [2.0]], nengo.LIF(), gain=1.0, bias=0.0)
result = nn.present(net, layer, [[1.0, 2.0]], presentation_time=0.01, progress=False)
result.accuracy([0])
sys.exit(" ".join({"scipy.stats", "scipy.signal", "scipy.interpolate"} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True)
    assert run.stderr.decode().split() == []


@pytest.fixture(autouse=True)
def _nothing_was_told(monkeypatch):
    monkeypatch.setattr(acceleration._Telling, "told", set())


def test_a_line_is_told_once_and_only_where_it_is_wanted(capsys):
    tell("one")
    with telling(False):
        tell("one")
    assert capsys.readouterr().err == ""
    with telling(True):
        tell("one")
        with telling(False):
            tell("two")
        tell("one")
    assert capsys.readouterr().err == "nengonet: one\nnengonet: two\n"
    tell("three")
    assert capsys.readouterr() == ("", "")


def without_numba(monkeypatch):
    monkeypatch.delenv("NENGONET_NUMBA", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "nengonet.minibatch.kernels", raising=False)
    monkeypatch.delattr("nengonet.minibatch.kernels", raising=False)


HELP = 'nengonet: this would be several times faster with Numba: pip install "nengonet[fast]"\n'


def test_numba_is_suggested_where_it_is_missed(monkeypatch, capsys):
    without_numba(monkeypatch)
    with telling(True):
        suggest_numba(acceleration._LONG - 1)
        monkeypatch.setenv("NENGONET_NUMBA", "0")  # somebody knows of it
        suggest_numba(acceleration._LONG)
        assert capsys.readouterr().err == ""
        monkeypatch.delenv("NENGONET_NUMBA")
        for _ in range(2):
            suggest_numba(acceleration._LONG)
    assert capsys.readouterr() == ("", HELP)


def test_numba_is_not_suggested_where_it_is_there(capsys):
    pytest.importorskip("numba")
    with telling(True):
        suggest_numba(acceleration._LONG)
    assert capsys.readouterr().err == ""


def test_present_suggests_it_by_images_steps_and_neurons(monkeypatch, capsys):
    without_numba(monkeypatch)
    with nengo.Network(seed=0) as net:
        pixels = nn.poisson_input((3,))
        output = nn.dense(pixels, np.eye(3), nn.IntegrateAndFire(), gain=100.0, bias=0.0)
    images = np.ones((5, 3))
    # Five images, four steps, and what the two layers put out.
    updates = 5 * 4 * (net.n_neurons + 3)
    for least, settings, said in (
        (updates, {}, HELP),
        (updates, {"n_jobs": 2}, HELP),
        (updates + 1, {}, ""),
        (updates, {"progress": False}, ""),
        (updates, {"simulator": "reference"}, ""),
    ):
        monkeypatch.setattr(acceleration, "_LONG", least)
        monkeypatch.setattr(acceleration._Telling, "told", set())
        nn.present(net, output, images, presentation_time=0.004, **settings)
        assert capsys.readouterr() == ("", said)
