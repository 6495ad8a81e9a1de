"""The reference has a page for every public name, with all parameters and an example."""

import ast
import doctest
import importlib
import inspect
import io
import pathlib
import re
import sys

import matplotlib.pyplot as plt
import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.ann import kinds
from nengonet.minibatch import registry
from nengonet.neurons import model
from nengonet.weights import dialects

DOCS = pathlib.Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS / "_extensions"))
public_names = importlib.import_module("public_names")
sys.path.insert(0, str(DOCS))
examples = importlib.import_module("examples")
NAMES = public_names.names()


class _Near(doctest.OutputChecker):
    """Lets the last digits of numbers differ, as the pages' examples do."""

    def check_output(self, want, got, optionflags):
        return super().check_output(want, got, optionflags) or examples.agree(got, want)


def test_every_public_name_has_a_page():
    assert len(NAMES) > 100
    for name in set(nn.__all__) - {"__version__"}:
        each = getattr(nn, name)
        if inspect.isclass(each) or inspect.isroutine(each):  # neither a module nor a constant
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


def test_the_reference_has_the_figures_of_bokeh():
    """Their module is read, as Bokeh may not be installed."""
    module = pathlib.Path(nn.__file__).parent / "plots" / "interactive.py"
    body = ast.parse(module.read_text(encoding="utf-8")).body
    names = [each.name for each in body if getattr(each, "name", "").startswith("plot_")]
    assert len(names) > 2
    page = (DOCS / "reference" / "plots.md").read_text(encoding="utf-8")
    assert f":members: {', '.join(names)}\n" in page


@pytest.mark.parametrize("name, each", NAMES.items(), ids=NAMES)
def test_every_parameter_is_described(name, each):
    text = inspect.getdoc(each)
    try:
        parameters = inspect.signature(each).parameters
    except ValueError:  # of classes without one, as errors are
        return
    described = set()
    # Names with a type, or with words below them.
    for line in re.findall(r"^(?=\w|\*)([\w*, ]+?)(?: : .*|\n(?= ))", text, re.MULTILINE):
        described |= {word.strip("* ") for word in line.split(",")}
    # Fields of a class may have a comment of their own, which the page shows.
    described |= set(re.findall(r"#: .*\n    (\w+): ", inspect.getsource(each)))
    for parameter in parameters:
        if not parameter.startswith("_"):
            assert parameter in described, f"{name}: {parameter} is not described"


@pytest.fixture
def registries():
    """Examples register kinds of their own, which other tests must not meet."""
    kept = [(each, each.copy()) for each in (kinds._KINDS, model._MODELS, registry._MAKERS)]
    dialects_kept = dialects._registered.copy()
    yield
    for each, before in kept:
        each.clear()
        each.update(before)
    dialects._registered[:] = dialects_kept


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("name, each", NAMES.items(), ids=NAMES)
def test_every_example_prints_what_it_shows(name, each, tmp_path, monkeypatch):
    """As in a Python session after the imports that the reference's index shows."""
    monkeypatch.chdir(tmp_path)
    scope = {"nn": nn, "np": np, "nengo": nengo}
    found = doctest.DocTestParser().get_doctest(inspect.getdoc(each), scope, name, None, 0)
    assert found.examples, f"{name}: expected an example"
    report = io.StringIO()
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    doctest.DocTestRunner(_Near(), optionflags=options).run(found, out=report.write)
    plt.close("all")
    assert not report.getvalue(), report.getvalue()


def test_the_examples_imports_are_those_of_the_index():
    text = (DOCS / "reference" / "index.md").read_text(encoding="utf-8")
    for line in ("import nengo\n", "import numpy as np\n", "import nengonet as nn\n"):
        assert line in text
