"""Numba where it is installed and wanted."""

import os
import subprocess
import sys

import pytest

import nengonet as nn
from nengonet.minibatch.acceleration import load_kernels


def test_numba_is_left_out_where_it_is_not_wanted(monkeypatch):
    assert load_kernels(False) is None
    monkeypatch.setenv("NENGONET_NUMBA", "0")
    assert load_kernels() is None
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "nengonet.minibatch.kernels", raising=False)
    monkeypatch.delattr("nengonet.minibatch.kernels", raising=False)
    monkeypatch.delenv("NENGONET_NUMBA")
    assert load_kernels() is None
    with pytest.raises(nn.InputError, match=r"pip install nengonet\[fast\]"):
        load_kernels(True)


def test_numba_is_not_imported_with_the_package():
    code = "import sys, nengonet.minibatch; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0
