"""The reference has a page for what is public, with every parameter described and an example."""

import importlib
import pathlib
import sys
import types

import nengonet as nn

DOCS = pathlib.Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS / "_extensions"))
public_names = importlib.import_module("public_names")
NAMES = public_names.names()


def test_every_public_name_has_a_page():
    assert len(NAMES) > 100
    for name in set(nn.__all__) - {"__version__"}:
        each = getattr(nn, name)
        if not isinstance(each, types.ModuleType):
            assert NAMES[f"nengonet.{name}"] is each
    for name in ("nengonet.plots.plot_raster", "nengonet.testing.assert_same_spikes"):
        assert NAMES[name] is public_names.find(name)


def test_what_public_functions_return_is_public_too():
    assert NAMES["nengonet.explain.diagnosis.Diagnosis"] is type_of("diagnose")
    assert "nengonet.explain.findings.Finding" in NAMES  # a field of a Diagnosis
    assert "nengonet.neurons.NeuronFacts" in NAMES  # not nengonet.neurons.tuning.NeuronFacts
    assert not [name for name in NAMES if name.rpartition(".")[2].startswith("_")]


def type_of(function):
    annotation = getattr(nn, function).__annotations__["return"]
    return getattr(sys.modules[getattr(nn, function).__module__], annotation)


def test_each_name_is_in_one_table():
    blocks = [
        public_names.of_block(block["folders"].split(), block["names"].split())
        for block in public_names._blocks()
    ]
    shown = sorted(name for block in blocks for name in block)
    assert shown == sorted(NAMES)
    assert all(blocks)


def test_the_examples_imports_are_those_of_the_index():
    text = (DOCS / "reference" / "index.md").read_text(encoding="utf-8")
    for line in ("import nengo\n", "import numpy as np\n", "import nengonet as nn\n"):
        assert line in text
