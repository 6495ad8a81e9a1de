import functools
import json

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.explain import budget as budgets
from nengonet.explain.budget import Turns, _change, _repeated, error_budget
from nengonet.run.presentation import present
from nengonet.studies import forum_mnist

IMAGES, LABELS = (part[700:740] for part in nn.datasets.load("mnist", split="test"))


def budget_of(variant="repaired", n_repeats=3, **settings):
    example = forum_mnist.STUDY.build(variant=variant, **settings)
    return error_budget(
        example.output,
        IMAGES,
        LABELS,
        presentation_time=0.2,
        readout=example.readout,
        n_repeats=n_repeats,
        progress=False,
    )


@pytest.fixture(scope="module")
def posted():
    return budget_of("posted")


def test_steps_add_up_to_the_total(posted):
    for budget in (posted, budget_of(neurons="if")):
        assert sum(step.change for step in budget.steps) == pytest.approx(budget.total)
        first, last = budget.steps[0], budget.steps[-1]
        assert budget.total == pytest.approx(100 * (last.accuracy - first.accuracy))
        for before, after in zip(budget.steps, budget.steps[1:], strict=False):
            assert after.change == pytest.approx(100 * (after.accuracy - before.accuracy))
            assert after.interval[0] <= after.change <= after.interval[1]


def test_last_step_is_the_network_as_it_is_run(posted):
    example = forum_mnist.STUDY.build(variant="posted")
    result = nn.present(
        example.network,
        example.output,
        IMAGES,
        presentation_time=0.2,
        readout=example.readout,
        progress=False,
    )
    assert posted.steps[-1].accuracy == result.accuracy(LABELS).value
    assert posted.steps[-2].accuracy == result.accuracy(LABELS, "spike_count").value


def test_posted_network_loses_most_by_saturation_and_readout(posted):
    changes = {step.name: step.change for step in posted.steps}
    worst = sorted(changes, key=changes.get)
    assert worst[0] == "curve and saturation of the neurons"
    assert changes["curve and saturation of the neurons"] < -15
    assert abs(changes["scales and biases of the network"]) < 6


def test_signed_neurons_lose_nothing_by_clipping():
    changes = {step.name: step.change for step in budget_of(neurons="if").steps}
    assert abs(changes["clipping of noisy currents"]) <= 2.5
    assert changes["readout"] == 0


@pytest.mark.parametrize("at_once", [5, 12, 100])
def test_repeats_have_input_noise_of_their_own(monkeypatch, at_once):
    monkeypatch.setattr("nengonet.explain.budget._AT_ONCE", at_once)
    example = forum_mnist.STUDY.build(neurons="if")
    images = {example.network.all_nodes[0]: IMAGES[:5]}
    run = {"presentation_time": 0.1, "seed": 0, "progress": False}
    show = functools.partial(nn.present, example.network, example.output, **run)
    scores, counts = _repeated(functools.partial(show, readout="last_step"), images, 5)
    assert counts.shape == (5, 5, 10)
    for repeat, found in enumerate(counts):
        alone = show(images, examples=10_000_000 * repeat + np.arange(5))
        assert np.array_equal(found, alone.counts["output"])
        assert repeat == 0 or np.any(found != counts[0])
    assert np.array_equal(scores, show(images).scores("last_step")[:, -1])


def test_report_reads_as_a_table(posted):
    lines = str(posted).splitlines()
    assert lines[1].startswith("ANN")
    assert lines[-1].startswith("total")
    assert "40 images" in lines[-1]
    report = json.loads(json.dumps(posted.to_json()))
    assert report["total"] == pytest.approx(posted.total)
    assert len(report["steps"]) == 7


def test_interval_of_a_paired_change():
    """The interval is that of Agresti & Min, from the images on which the runs differ."""
    before = np.r_[np.ones(80, bool), np.zeros(20, bool)]
    after = before.copy()
    after[:10] = False
    after[80:83] = True
    change, (low, high) = _change(before, after)
    assert change == pytest.approx(-7)
    centre, spread = -7 / 102, np.sqrt(14 / 102 - (7 / 102) ** 2) / np.sqrt(102)
    assert (low, high) == pytest.approx(
        (100 * (centre - 1.96 * spread), 100 * (centre + 1.96 * spread))
    )
    assert _change(before, before)[0] == 0


def test_networks_without_a_budget_are_named():
    with nengo.Network():
        output = nn.constant_input((28, 28))
    with pytest.raises(nn.InputError, match="expected a last layer that spikes"):
        error_budget(output, IMAGES, LABELS)


def test_stages_are_computed_in_turn_under_their_names(monkeypatch):
    """A run's bar names its stage, and no run is made twice."""
    bars = []

    def watched(*args, progress, **settings):
        bars.append(progress)
        return present(*args, progress=False, **settings)

    monkeypatch.setattr("nengonet.explain.budget.present", watched)
    rng = np.random.default_rng(5)
    with nengo.Network(seed=1):
        layer = nn.dense(
            nn.poisson_input(9), rng.normal(size=(9, 3)), nengo.LIF(), label="out", **nn.FORUM
        )
    given = (layer, rng.random((6, 9)), np.arange(6) % 3)
    run = {"presentation_time": 0.02, "n_repeats": 2}
    found = nn.error_budget(*given, **run, progress="mine")
    assert bars == [
        "mine 4 of 7: clipping of noisy currents",
        "mine 5 of 7: finite presentation time",
    ]
    bars.clear()
    assert nn.error_budget(*given, **run, progress=False) == found
    assert bars == [False, False]


def test_stages_may_be_functions_of_a_run():
    turns, seen = Turns(True, "budget"), []

    def scores():
        seen.append(turns.shown)
        return np.eye(3)

    stages = [("ANN", np.eye(3), "given"), ("run", scores, "shown"), ("again", scores, "shown")]
    computed = turns.take(stages)
    assert seen == ["budget 2 of 3: run", "budget 3 of 3: again"]
    assert [name for name, *_ in computed] == ["ANN", "run", "again"]
    assert budgets.budget_of(computed, np.arange(3)).steps[-1].accuracy == 1
