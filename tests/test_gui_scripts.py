"""The scripts for Nengo GUI: each has a module-level model that builds and works as described."""

import pathlib
import re
import runpy
import warnings

import nengo
import pytest

SCRIPTS = sorted((pathlib.Path(__file__).parents[1] / "docs" / "tutorials" / "gui").glob("*.py"))


def test_there_are_scripts():
    assert len(SCRIPTS) == 2


def run(namespace, seconds):
    with warnings.catch_warnings():
        # What Nengo says of a gain below 1: such a neuron is silent at a drive of 1.
        warnings.filterwarnings("ignore", "Non-finite values", UserWarning)
        warnings.filterwarnings("ignore", "invalid value", RuntimeWarning)
        with nengo.Simulator(namespace["model"], progress_bar=False) as simulator:
            simulator.run(seconds)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_layout_names_what_the_script_has(path):
    """Nengo GUI evaluates the names of the .cfg file in the script's namespace."""
    namespace = runpy.run_path(str(path))
    layout = path.with_name(path.name + ".cfg").read_text(encoding="utf-8")
    names = set(re.findall(r"components\.\w+\((\w+)\)", layout))
    names |= set(re.findall(r"_viz_config\[([a-z]\w*)\]", layout))
    assert len(names) > 3
    model = namespace["model"]
    objects = {model, *model.all_objects}
    for name in names:
        assert namespace[name] in objects


def test_one_neuron_shows_its_sum():
    namespace = runpy.run_path(str(SCRIPTS[0]))
    namespace["drive"].output = [1.0]
    run(namespace, 0.002)
    assert "2.033 * 1.00 + 1 = 3.03" in namespace["explain"]._nengo_html_
    assert "rate 100 Hz" in namespace["explain"]._nengo_html_


@pytest.mark.parametrize("index", [1, 18])
def test_forum_network_counts_the_spikes_of_the_chosen_image(index):
    namespace = runpy.run_path(str(SCRIPTS[1]))
    namespace["digit"].output = [index]
    run(namespace, 0.2)
    shown = namespace["answer"].output._nengo_html_
    label = namespace["labels"][index]
    assert shown.startswith(f"a {label}<br>spikes in 200 ms:")
    assert re.findall(r"<b>(\d): \d+</b>", shown) == [str(label)]
    assert namespace["show"]._nengo_html_ == namespace["picture"](index)
