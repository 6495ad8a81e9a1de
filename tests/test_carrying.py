"""Weights that survive a reset, to learn from one image after another."""

import contextlib

import nengo
import numpy as np
import pytest
from minibatches import NUMBA, SEED, minibatch, quiet
from test_learning import CASES, learning_network, rows_of

import nengonet as nn
from nengonet.minibatch.carrying import learned_signals
from nengonet.run import presentation
from nengonet.run.simulators import reset_to_example

STEPS = 35
LEARNING = ["PES", "PES, full", "BCM", "BCM, large", "Oja, large", "Voja", "RLS", "two kinds"]


@pytest.mark.parametrize("numba", NUMBA)
@pytest.mark.parametrize("case", LEARNING)
def test_each_place_of_a_minibatch_goes_on_learning(case, numba):
    rule, settings = CASES[case]
    network, source, probes = learning_network(rule, **settings)
    network.probes.remove(probes[1])
    rows = rows_of(4, 2 * STEPS)  # two examples, and two more that begin with their weights
    first, second = (rows[half][:, :STEPS] for half in (slice(2), slice(2, 4)))

    def by_reference(simulator, place):
        found = []
        for number, shown in ((place, first[place]), (place + 2, second[place])):
            reset_to_example(simulator, SEED, number, carry=["weights"] if found else [])
            for values in shown:
                simulator.signals[simulator.model.sig[source]["out"]][...] = values
                simulator.step()
            (signal,) = learned_signals(simulator.model).values()
            found.append((simulator.data[probes[0]].copy(), simulator.signals[signal].copy()))
        return found

    expected = []
    for place in range(2):
        settings = {"seed": SEED, "progress_bar": False, "optimize": False}
        with quiet(), nengo.Simulator(network, **settings) as simulator:
            expected.append(by_reference(simulator, place))
    with minibatch(network, 2, numba=numba) as simulator:
        for part, shown in enumerate((first, second)):
            numbers = np.arange(2) + 2 * part
            carry = ["weights"] if part else []
            simulator.reset_to_examples(examples=numbers, seed=SEED, carry=carry)
            (signal,) = learned_signals(simulator.model).values()
            simulator.run_steps(STEPS, data={source: shown})
            for place in range(2):
                output, weights = expected[place][part]
                found = simulator.data[probes[0]][place], simulator.signals[signal][..., place]
                for mine, theirs in zip(found, (output, weights), strict=True):
                    atol = 1e-11 * max(1, np.abs(theirs).max())
                    np.testing.assert_allclose(mine, theirs, rtol=0, atol=atol)
        built = signal.initial_value
        assert np.abs(expected[0][1][1] - built).max() > 0


@pytest.mark.parametrize("numba", NUMBA)
@pytest.mark.parametrize("n", [12, 70])
def test_nothing_of_the_last_step_is_lost(n, numba):
    """Weights that a step adds take effect in the next step."""
    network, source, _ = learning_network(nengo.PES(1e-3), neurons=True, n=n)
    network.probes.clear()
    (learned,) = (each for each in network.connections if each.learning_rule is not None)
    settings = {"seed": SEED, "progress_bar": False, "optimize": False}
    rows = rows_of(1, STEPS)
    with quiet(), nengo.Simulator(network, **settings) as simulator:
        reset_to_example(simulator, SEED, 0)
        signals = simulator.model.sig
        for values in rows[0]:
            simulator.signals[signals[source]["out"]][...] = values
            simulator.step()
        weights = simulator.signals[signals[learned]["weights"]]
        delta = simulator.signals[signals[learned.learning_rule]["delta"]]
        assert np.any(delta)
        expected = weights + delta
        reset_to_example(simulator, SEED, 1, carry=["weights"])
        np.testing.assert_array_equal(weights, expected)
        reset_to_example(simulator, SEED, 1)
        built = weights.copy()
        assert np.any(built != expected)
    with minibatch(network, 1, numba=numba) as simulator:
        simulator.run_steps(STEPS, data={source: rows})
        simulator.reset_to_examples(carry=["weights"])
        found = simulator.data[learned].weights[0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        simulator.reset_to_examples(carry=["weights"])  # with nothing learned in between
        np.testing.assert_array_equal(simulator.data[learned].weights[0], found)
        simulator.reset_to_examples()
        np.testing.assert_array_equal(simulator.data[learned].weights[0], built)


def network_to_show(n=20):
    with nengo.Network(seed=0) as network:
        source = nengo.Node([0.0], label="in")
        pre, post = nengo.Ensemble(n, 1, label="pre"), nengo.Ensemble(n, 1, label="post")
        nengo.Connection(source, pre, synapse=None)
        learned = nengo.Connection(
            pre, post, function=lambda x: 0 * x, learning_rule_type=nengo.PES(2e-3)
        )
        error = nengo.Node(size_in=1)
        nengo.Connection(post, error, synapse=0.005)
        nengo.Connection(source, error, transform=-1, synapse=None)
        nengo.Connection(error, learned.learning_rule, synapse=None)
        nengo.Probe(learned, "weights", sample_every=0.01, label="weights")
    return network, post


def shown(images=((0.8,), (0.1,), (-0.6,), (0.5,)), network=None, **settings):
    network, post = network or network_to_show()
    settings = {"carry": ["weights"], "probes": "all", "progress": False} | settings
    (source,) = (node for node in network.nodes if node.label == "in")
    return nn.present(network, post, images, input=source, presentation_time=0.04, **settings)


def test_present_goes_on_learning_in_both_simulators():
    twin, reference = shown(), shown(simulator="reference")
    weights = twin.data["weights"]
    np.testing.assert_allclose(weights, reference.data["weights"], rtol=1e-9, atol=1e-16)
    for label, counts in reference.counts.items():
        np.testing.assert_array_equal(twin.counts[label], counts)
    apart = shown(carry=())
    np.testing.assert_allclose(apart.data["weights"][0], weights[0], rtol=1e-12)
    # Each begins where the one before it ended, not with the weights of the network.
    from_before = np.abs(weights[1:, 0] - weights[:-1, -1]).max()
    assert from_before < np.abs(weights[1:, 0] - apart.data["weights"][1:, 0]).max()
    assert np.any(weights[1:] != apart.data["weights"][1:])


def test_the_order_of_images_matters():
    forwards = shown().data["weights"]
    backwards = shown(images=[[0.5], [-0.6], [0.1], [0.8]], examples=[3, 2, 1, 0]).data["weights"]
    assert np.abs(backwards[::-1] - forwards).max() > 1e-6
    apart = [
        shown(images=images, examples=examples, carry=()).data["weights"]
        for images, examples in (
            ([[0.8], [0.1]], [0, 1]),
            ([[0.1], [0.8]], [1, 0]),
        )
    ]
    np.testing.assert_allclose(apart[1][::-1], apart[0], rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"n_jobs": 2}, "carry: expected n_jobs=1 and no minibatch_size.*got n_jobs=2"),
        ({"minibatch_size": 4}, "carry: expected n_jobs=1.*minibatch_size=4"),
        ({"carry": ["weight"]}, "carry: unknown kind of state 'weight'.*did you mean 'weights'"),
        ({"carry": "weights"}, "carry: expected a list"),
    ],
)
def test_what_cannot_be_carried_is_refused(settings, message):
    with pytest.raises(nn.InputError, match=message):
        shown(**settings)


def test_a_network_that_does_not_learn_carries_nothing():
    with nengo.Network(seed=0) as network:
        source = nengo.Node([0.0], label="in")
        post = nengo.Ensemble(5, 1)
        nengo.Connection(source, post, synapse=None)
    for simulator in ("minibatch", "reference"):
        with pytest.raises(nn.InputError, match="carry: expected a network that learns"):
            shown(network=(network, post), simulator=simulator)


def test_another_number_of_examples_has_no_weights():
    network, _, _ = learning_network(nengo.PES(1e-3))
    with minibatch(network, 3) as simulator:
        with pytest.raises(nn.InputError, match="carry: expected 3 examples.*got 2"):
            simulator.reset_to_examples(examples=[0, 1], carry=["weights"])
        simulator.reset_to_examples(examples=[5, 1, 2], carry=["weights"])


def test_a_saved_run_depends_on_it(tmp_path, monkeypatch):
    network, file = network_to_show(), tmp_path / "run.h5"
    first = shown(network=network, save=file)
    again = shown(network=network, save=file, resume=True)
    np.testing.assert_array_equal(again.data["weights"], first.data["weights"])
    with pytest.raises(nn.InputError, match="another carry: expected none, got weights"):
        shown(network=network, save=file, resume=True, carry=())

    # An interrupted one has no weights to go on with.
    run_examples, other = presentation.run_examples, tmp_path / "other.h5"

    def stopping(*arguments):
        yield next(run_examples(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(presentation, "run_examples", stopping)
    with contextlib.suppress(KeyboardInterrupt):
        shown(network=network, save=other)
    monkeypatch.undo()
    with pytest.raises(
        nn.InputError, match=r"other.h5.partial: expected a finished run, as carried weights"
    ):
        shown(network=network, save=other, resume=True)
    (tmp_path / "other.h5.partial").unlink()
    last = shown(network=network, save=other)
    np.testing.assert_array_equal(last.data["weights"], first.data["weights"])
