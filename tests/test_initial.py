"""Initial states that are drawn for every example, on both simulators."""

import nengo
import numpy as np
import pytest
from nengo.builder.neurons import SimNeurons
from nengo.dists import Choice, Uniform

import nengonet as nn
from nengonet.layers.initial import drawn_states, set_states
from nengonet.run.simulators import minibatch_simulator

RNG = np.random.default_rng(9)
FIRST, SECOND = RNG.normal(0.2, 0.6, (6, 20)), RNG.normal(0.1, 0.6, (20, 4))
IMAGES = RNG.uniform(size=(7, 2, 3))
STATES = {"first": {"voltage": Uniform(0, 1)}, "second": {"voltage": Uniform(0, 0.5)}}
TYPES = {
    "relu": (nengo.SpikingRectifiedLinear(initial_state={"voltage": Choice([0])}), 40.0),
    "if": (nn.IntegrateAndFire(), 40.0),
    "lif": (nengo.LIF(initial_state={"voltage": Choice([0])}), 2.0),
}


def built(kind="relu", seed=0):
    neuron_type, gain = TYPES[kind]
    with nengo.Network(seed=seed) as network:
        layer = nn.constant_input((2, 3))
        layer = nn.dense(layer, FIRST, neuron_type, gain=gain, amplitude=0.02, label="first")
        layer = nn.dense(layer, SECOND, neuron_type, gain=gain, label="second")
    return network, layer


def shown(states=STATES, kind="relu", images=IMAGES, network=None, **settings):
    network, layer = network or built(kind)
    settings = {"presentation_time": 0.05, "rasters": ["first"], "progress": False} | settings
    return nn.present(network, layer, images, initial_states=states, **settings)


def same(one, other):
    np.testing.assert_array_equal(one.steps, other.steps)
    np.testing.assert_array_equal(one.rasters["first"], other.rasters["first"])


@pytest.mark.parametrize("kind", TYPES)
def test_the_twin_draws_what_the_reference_draws(kind):
    twin = shown(kind=kind)
    same(twin, shown(kind=kind, simulator="reference"))
    assert twin.counts["first"].sum() > 100
    assert np.any(twin.rasters["first"] != shown(None, kind=kind).rasters["first"])


@pytest.mark.parametrize("dt", [0.001, 0.1, 1.0])
def test_nengos_own_simulator_started_by_hand_does_the_same(dt):
    """A plain nengo.Simulator runs each example alone, with its voltages given in the build."""
    network, output = built()
    result = shown({"first": STATES["first"]}, dt=dt, presentation_time=10 * dt, seed=3)
    (drawn,) = drawn_states(output.upstream(), {"first": STATES["first"]})
    for example, image in enumerate(IMAGES):
        voltages = drawn.draw(3, example)
        assert np.all((voltages >= 0) & (voltages < 1))
        with nengo.Network(seed=0) as plain:
            node = nengo.Node(image.ravel())
            neurons = []
            for matrix, amplitude, initial in ((FIRST, 0.02, voltages), (SECOND, 1.0, np.zeros(4))):
                neuron_type = nengo.SpikingRectifiedLinear(
                    amplitude=amplitude, initial_state={"voltage": initial}
                )
                n = matrix.shape[1]
                ensemble = nengo.Ensemble(
                    n, 1, neuron_type=neuron_type, gain=np.full(n, 40.0), bias=np.zeros(n)
                )
                before = node if not neurons else neurons[-1]
                nengo.Connection(before, ensemble.neurons, transform=matrix.T, synapse=None)
                neurons.append(ensemble.neurons)
            probe = nengo.Probe(neurons[-1])
            first = nengo.Probe(neurons[0])
        with nengo.Simulator(plain, dt=dt, progress_bar=False) as simulator:
            simulator.run_steps(10)
            found, of_first = simulator.data[probe], simulator.data[first]
        np.testing.assert_array_equal(result.steps[example], np.rint(found * dt))
        np.testing.assert_array_equal(
            result.rasters["first"][example], np.rint(of_first * dt / 0.02)
        )
    assert result.steps.sum() > 0


@pytest.mark.parametrize(
    "running",
    [
        {"minibatch_size": 1},
        {"minibatch_size": 3},
        {"n_jobs": 2, "minibatch_size": 2},
        {"n_jobs": 2, "simulator": "reference"},
    ],
    ids=str,
)
def test_the_way_of_running_changes_nothing(running):
    same(shown(), shown(**running))


@pytest.mark.parametrize("simulator", ["minibatch", "reference"])
def test_an_example_starts_from_its_own_state_wherever_it_stands(simulator):
    whole = shown(simulator=simulator)
    order = [5, 0, 3]
    some = shown(images=IMAGES[order], examples=order, simulator=simulator)
    np.testing.assert_array_equal(some.steps, whole.steps[order])
    np.testing.assert_array_equal(some.rasters["first"], whole.rasters["first"][order])


def test_the_next_presentation_does_not_go_on_from_the_last_one():
    network = built()
    same(shown(network=network), shown(network=network))
    # and without drawing, the network's own voltages are back
    same(shown(None, network=network), shown(None))


def test_draws_depend_on_seed_example_layer_and_state_and_on_nothing_else():
    _, output = built("lif")
    layers = output.upstream()
    both = drawn_states(layers, STATES)
    swapped = drawn_states(layers, dict(reversed(STATES.items())))
    np.testing.assert_array_equal(both[0].draw(0, 4), swapped[1].draw(0, 4))
    refractory = drawn_states(layers, {"first": {"refractory_time": Uniform(0, 1)}})[0]
    draws = [
        both[0].draw(0, 4),
        both[0].draw(1, 4),
        both[0].draw(0, 5),
        refractory.draw(0, 4),
    ]
    second = both[1].draw(0, 4)  # from [0, 0.5)
    assert np.all(2 * second != draws[0][: len(second)])
    for one in range(4):
        for other in range(one):
            assert np.abs(np.corrcoef(draws[one], draws[other])[0, 1]) < 0.9
            assert np.all(draws[one] != draws[other])


def test_draws_are_those_of_the_distribution():
    """20 neurons x 2000 examples: the mean of 40,000 uniform numbers, within 5 of its errors.

    The chance of a false alarm is below 1e-6 (and the seed is fixed).
    """
    _, output = built()
    drawn = drawn_states(output.upstream(), STATES)[0]
    values = np.stack([drawn.draw(0, example) for example in range(2000)])
    assert abs(values.mean() - 0.5) < 5 * np.sqrt(1 / 12 / values.size)
    # neurons and examples are independent: no column or row has a mean of its own
    assert np.abs(values.mean(axis=0) - 0.5).max() < 5.5 * np.sqrt(1 / 12 / 2000)


def test_the_states_are_where_nengo_keeps_them():
    network, output = built()
    drawn = drawn_states(output.upstream(), STATES)
    with minibatch_simulator(network, 2, 0.001, 0) as simulator:
        simulator.reset_to_examples(IMAGES[:2].reshape(2, -1), np.array([8, 9]), 0)
        set_states(simulator, drawn, 0, [8, 9])
        operators = [op for op in simulator.model.operators if isinstance(op, SimNeurons)]
        by_size = {op.J.size: simulator.signals[op.state["voltage"]] for op in operators}
        np.testing.assert_array_equal(by_size[20][:, 1], drawn[0].draw(0, 9))
        np.testing.assert_array_equal(by_size[4][:, 0], drawn[1].draw(0, 8))


def test_an_average_over_images_has_the_right_rate():
    """From a uniform voltage, a count is rounded up or down with the right chance.

    400 examples of 20 neurons in one step: each count is 0 or 1, of known mean.
    """
    images = np.repeat(IMAGES[:1], 400, axis=0)
    network, layer = built()
    result = shown(images=images, presentation_time=0.01, dt=0.01, network=(network, layer))
    expected = np.maximum(IMAGES[0].ravel() @ FIRST, 0) * 40.0 * 0.01
    error = result.counts["first"].mean(axis=0) - expected
    deviation = np.sqrt((expected % 1) * (1 - expected % 1) / 400)
    # 20 neurons at 6 standard deviations: a false alarm in 1e7
    assert np.all(np.abs(error) <= 6 * deviation + 1e-9)
    assert np.any(expected > 0.05)


def test_a_saved_run_knows_its_initial_states(tmp_path):
    file = tmp_path / "run.h5"
    first = shown(save=file)
    same(shown(save=file, resume=True), first)
    for others in ({"first": STATES["first"]}, None):
        with pytest.raises(nn.InputError, match="another initial states"):
            shown(others, save=file, resume=True)


@pytest.mark.parametrize(
    "states, message",
    [
        (
            {"third": {}},
            r"unknown layer of neurons 'third'; expected any of first, second",
        ),
        ({"input": {}}, r"initial_states: unknown layer of neurons"),
        (
            {"first": {"adaptation": Uniform(0, 1)}},
            "first: unknown state of SpikingRectifiedLinear .adaptation.; expected any of voltage",
        ),
        (
            {"first": {"voltage": 0.5}},
            "expected a nengo Distribution .* got 0.5; give values that are",
        ),
    ],
)
def test_bad_states_are_named(states, message):
    with pytest.raises(nn.InputError, match=message):
        shown(states)
