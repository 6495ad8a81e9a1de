"""Spiking networks with loops: predictions compared with long runs."""

import nengo
import numpy as np
import pytest
from nengo.dists import Uniform

import nengonet as nn
from nengonet.explain.fixed_points import FixedPoint

RNG = np.random.default_rng(11)


def observed(network, ensemble, time, dt=0.001, skip=0.5):
    """Return rates of a run of Nengo, after the start."""
    with network:
        probe = nengo.Probe(ensemble.neurons, synapse=None)
    with nengo.Simulator(network, dt=dt, progress_bar=False) as simulator:
        simulator.run(time, progress_bar=False)
    network.probes.remove(probe)
    height = getattr(ensemble.neuron_type, "amplitude", 1.0)
    return simulator.data[probe][round(skip / dt) :].mean(axis=0) / height


def tuned(n, gain, bias, neuron_type=None, label=None):
    settings = {"gain": np.full(n, gain), "bias": np.full(n, bias), "label": label}
    return nengo.Ensemble(n, 1, neuron_type=neuron_type or nengo.LIF(), **settings)


def lateral(n=40, weight=-0.001, synapse=0.01, inputs=None, neuron_type=None, seed=0, amplitude=1):
    """Return neurons that inhibit each other but not themselves."""
    inputs = RNG.uniform(1, 2, n) if inputs is None else inputs
    with nengo.Network(seed=seed) as network:
        node = nengo.Node(inputs, label="inputs")
        layer = tuned(n, 2.0, 1.0, neuron_type, label="layer")
        nengo.Connection(node, layer.neurons, synapse=None)
        inhibition = weight / amplitude * (np.ones((n, n)) - np.eye(n))
        nengo.Connection(layer.neurons, layer.neurons, transform=inhibition, synapse=synapse)
    return network, node, layer


def excitation_and_inhibition(seed=3):
    rng = np.random.default_rng(seed)
    with nengo.Network(seed=seed) as network:
        node = nengo.Node(rng.uniform(0.3, 1.5, 30), label="inputs")
        excites = tuned(30, 2.0, 1.0, label="E")
        inhibits = tuned(10, 50.0, 0.0, nengo.SpikingRectifiedLinear(), label="I")
        nengo.Connection(node, excites.neurons, synapse=None)
        for pre, post, low, high, synapse in (
            (excites, excites, 0, 4e-4, 0.01),
            (excites, inhibits, 0, 1e-3, 0.005),
            (inhibits, excites, -4e-3, 0, 0.02),
        ):
            transform = rng.uniform(low, high, (post.n_neurons, pre.n_neurons))
            nengo.Connection(pre.neurons, post.neurons, transform=transform, synapse=synapse)
    return network, node, excites, inhibits


def memory(weight, n=80, neuron_type=None, seed=1, tau=0.1, inputs=0.4, **settings):
    """Return a memory of one dimension, made by decoded feedback."""
    with nengo.Network(seed=seed) as network:
        node = nengo.Node([inputs], label="inputs")
        layer = nengo.Ensemble(
            n, 1, neuron_type=neuron_type or nengo.LIF(), label="layer", **settings
        )
        nengo.Connection(node, layer, synapse=None, transform=1 - min(weight, 0.9))
        nengo.Connection(layer, layer, transform=weight, synapse=tau)
    return network, node, layer


@pytest.mark.parametrize(
    "settings, dt, bound",
    [
        ({"weight": -0.0003}, 0.001, 1.0),
        ({"weight": -0.001, "synapse": 0.05, "seed": 4}, 0.001, 1.0),
        ({"weight": -0.004, "synapse": nengo.Alpha(0.03), "n": 15}, 0.001, 1.5),
        ({"weight": -0.002, "synapse": 0.03, "n": 20}, 0.0005, 1.0),
        (
            {
                "weight": -0.001, "synapse": 0.03, "amplitude": 0.1,
                "neuron_type": nengo.SpikingRectifiedLinear(amplitude=0.1),
                "inputs": RNG.uniform(20, 60, 40),
            },
            0.001,
            1.0,
        ),
    ],
    ids=["weak", "strong", "alpha", "short steps", "no threshold"],
)  # fmt: skip
def test_lateral_inhibition(settings, dt, bound):
    network, node, layer = lateral(**settings)
    point = nn.fixed_point(layer, node.output[None], network=network, dt=dt)
    assert point.stable.all()
    assert point.followed.all()
    rates = nn.predict_rates(layer, node.output[None], network=network, dt=dt)
    run = observed(network, layer, 4.0, dt)
    np.testing.assert_array_equal(rates, point.rates["layer"])
    assert np.abs(rates[0] - run).max() < 3 * bound
    assert point.distance({"layer": run[None]})["layer"]["rms"] < bound
    # far from what the neurons do without each other
    network.connections[-1].transform = 0.0
    assert np.abs(nn.predict_rates(layer, node.output[None], network=network) - rates).mean() > 5


@pytest.mark.parametrize("seed", [3, 17])
def test_excitation_and_inhibition(seed):
    network, node, excites, inhibits = excitation_and_inhibition(seed)
    for layer, bound in ((excites, 4.0), (inhibits, 1.0)):
        point = nn.fixed_point(layer, node.output[None], network=network)
        assert sorted(point.rates) == ["E", "I"]
        assert point.stable.all()
        assert not point.several.any()
        run = {layer.label: observed(network, layer, 4.0)[None]}
        far = point.distance(run)[layer.label]
        assert far["rms"] < bound
        assert far["share"] > 0.85
        assert point.rates[layer.label].mean() > 20


@pytest.mark.parametrize(
    "weight, settings, bound",
    [
        (0.5, {}, 1.0),
        (0.8, {"n": 150, "seed": 5}, 2.0),
        (-1.5, {"tau": 0.03, "seed": 2}, 1.0),
        (0.5, {"neuron_type": nengo.AdaptiveLIF(), "n": 40}, 5.0),
        (0.6, {"neuron_type": nengo.SpikingRectifiedLinear(), "max_rates": Uniform(100, 200)}, 4.0),
        (0.7, {"n": 60, "seed": 9, "inputs": -0.2, "radius": 0.5}, 1.5),
    ],
    ids=["half", "most", "negative", "adapting", "no threshold", "small"],
)  # fmt: skip
def test_decoded_feedback(weight, settings, bound):
    network, node, layer = memory(weight, **settings)
    point = nn.fixed_point(layer, node.output[None], network=network)
    assert point.stable.all()
    run = observed(network, layer, 6.0, skip=2.0)
    assert point.distance({"layer": run[None]})["layer"]["rms"] < bound
    assert np.abs(run).mean() > 20


def oscillator(seed=1, growth=1.1):
    with nengo.Network(seed=seed) as network:
        node = nengo.Node([0.2, 0.0], label="inputs")
        layer = nengo.Ensemble(100, 2, label="layer")
        nengo.Connection(node, layer, synapse=None)
        turn = [[growth, 1], [-1, growth]]
        nengo.Connection(layer, layer, transform=turn, synapse=0.1)
    return network, node, layer


def test_an_oscillator_is_unstable_where_it_could_rest():
    network, node, layer = oscillator()
    point = nn.fixed_point(layer, node.output[None], network=network, n_starts=2)
    assert point.converged.all()
    assert not point.stable.any()
    assert not point.followed.any()
    assert "found by a search, not from the reset state: yes\n" in f"{point}\n"
    assert 1.0002 < point.multiplier[0] < 1.002  # exp(0.1 * dt / tau) is 1.001
    assert not point.several.any()
    with pytest.raises(nn.InputError, match="layer: expected .*, got an unstable one for 1"):
        nn.predict_rates(layer, node.output[None], network=network)
    network, node, layer = oscillator(growth=0.5)
    assert nn.fixed_point(layer, node.output[None], network=network, n_starts=2).stable.all()


def test_a_winner_takes_all_from_other_starts():
    inputs = np.linspace(1.6, 2.0, 12)
    network, node, layer = lateral(12, weight=-0.02, synapse=0.02, inputs=inputs)
    weak, *_ = point_of_weak = lateral(12, weight=-0.001, synapse=0.02, inputs=inputs)
    point = nn.fixed_point(layer, inputs[None], network=network)
    assert point.stable.all()
    assert point.several.all()
    # from the reset state, the strongest input wins
    assert np.flatnonzero(point.rates["layer"][0]).tolist() == [11]
    assert not nn.fixed_point(point_of_weak[2], inputs[None], network=weak).several.any()
    # equal inputs: from equal rates, all stay equal, where a run does not stay
    equal = nn.fixed_point(layer, np.full((1, 12), 1.8), network=network)
    assert np.ptp(equal.rates["layer"]) < 1e-3
    assert equal.followed.all()
    assert not equal.stable.any()
    assert equal.several.all()


def test_noise_in_a_loop_brings_the_prediction_closer():
    """Poisson input makes neurons fire whose mean current is below threshold."""
    rng = np.random.default_rng(2)
    with nengo.Network(seed=0) as network:
        pixels = nn.poisson_input((60,), max_rate=200.0)
        layer = nn.dense(pixels, rng.normal(0.02, 0.15, (60, 30)), nengo.LIF(), gain=2.0, label="l")
        inhibition = -0.0008 * (np.ones((30, 30)) - np.eye(30))
        nengo.Connection(layer.output, layer.output, transform=inhibition, synapse=0.02)
    images = rng.uniform(0.2, 1, (3, 60))
    result = nn.present(network, layer, images, presentation_time=3.0, progress=False)
    errors = [
        nn.fixed_point(layer, images, noise=noise, n_starts=0).distance(result)["l"]["rms"]
        for noise in (False, True)
    ]
    assert errors[1] < 0.6 * errors[0]
    # of the loop's own spikes alone: without them the input's noise is left
    network.connections[-1].transform = 0.0
    assert not nn.fixed_point(layer, images, n_starts=0).fluctuation.any()
    network.connections[-1].transform = inhibition
    assert nn.fixed_point(layer, images, noise=True, n_starts=0).converged.all()


@pytest.mark.parametrize("weight, synapse", [(-0.003, 0.05), (-0.004, 0.002)])
def test_the_mean_field_holds_where_many_spikes_add_up(weight, synapse):
    """The same inhibition acts through a long and through a short synapse."""
    network, node, layer = lateral(20, weight, synapse, inputs=np.linspace(1, 2, 20))
    point = nn.fixed_point(layer, node.output[None], network=network)
    run = observed(network, layer, 3.0)
    far = np.sqrt(np.mean((run - point.rates["layer"][0]) ** 2) / np.mean(run**2))
    assert (point.fluctuation[0] < 0.5) == (synapse == 0.05)
    assert (far < 0.05) == (synapse == 0.05)


def test_what_is_fed_forward_has_no_fixed_point_to_find():
    with nengo.Network():
        layer = nn.dense(nn.constant_input((2,)), np.eye(2), nengo.LIF(), gain=3.0, label="l")
    with pytest.raises(nn.InputError, match="l: expected an output that depends on a loop"):
        nn.fixed_point(layer, [[0.0, 1.0]])


def test_loops_one_after_the_other_are_one_record():
    """A layer behind an unstable loop is refused too; a layer beside it is not."""
    with nengo.Network(seed=0) as network:
        node = nengo.Node([1.0], label="inputs")
        first, second, after = (tuned(2, 1.0, 2.0, label=name) for name in ("a", "b", "c"))
        for pre, post, weight in ((first, second, 0.001), (second, after, 0.001)):
            nengo.Connection(pre.neurons, post.neurons, transform=weight)
        nengo.Connection(node, first.neurons, transform=[[1], [1]])
        nengo.Connection(first.neurons, first.neurons, transform=-0.005)
        swap = nengo.Connection(second.neurons, second.neurons, transform=[[0, -0.1], [-0.1, 0]])
    point = nn.fixed_point(after, [[1.0], [2.0]], network=network)
    assert list(point.rates) == ["a", "b"]
    assert point.converged.all()
    assert not point.stable.any()
    assert point.several.all()
    with pytest.raises(nn.InputError, match="b: expected .*, got an unstable one"):
        nn.predict_rates(after, [[1.0]], network=network)
    assert nn.predict_rates(first, [[1.0]], network=network).shape == (1, 2)
    swap.transform = 0.0
    assert nn.fixed_point(after, [[1.0], [2.0]], network=network).stable.all()


def record(**changes):
    usual = {
        "rates": {"a": np.array([[10.0, 20.0], [0.0, 5.0]])},
        "converged": np.array([True, True]),
        "multiplier": np.array([0.9, 0.99]),
        "residual": np.array([1e-6, 1e-5]),
        "iterations": 40,
        "followed": np.array([True, True]),
        "fluctuation": np.array([0.0, 0.25]),
        "elsewhere": np.array([0, 0]),
        "n_starts": 3,
        "dt": 0.001,
    }
    return FixedPoint(**usual | changes)


def test_the_record_says_what_was_found():
    assert str(record()) == (
        "loop of a: 2 images\n"
        "converged: yes, another iteration changes rates by less than 0.001 Hz\n"
        "stable: yes, a step multiplies a deviation by up to 0.99\n"
        "settles within 298 ms (5 % left)\n"
        "its spikes move currents by up to 25% of their size\n"
        "other starts end elsewhere: no (3 starts each)"
    )
    assert record().trouble() is None
    text = str(record(multiplier=np.array([0.9, 1.01]), elsewhere=np.array([0, 2])))
    assert "stable: 1 of 2" in text
    assert "elsewhere: 1 of 2" in text
    assert "within 28.4 ms" in text
    lost = record(
        converged=np.array([True, False]),
        multiplier=np.array([0.9, np.inf]),
        residual=np.array([0.0, 7.5]),
    )
    assert "converged: 1 of 2, another iteration changes rates by up to 7.5 Hz" in str(lost)
    assert "do not settle for 1 of 2 images" in lost.trouble()
    assert lost.stable.tolist() == [True, False]


def test_the_distance_from_a_run():
    found = record().distance({"a": [[13.0, 20.0], [0.0, 1.0]], "other": [[1.0]]}, within=3.5)
    assert found == {"a": {"rms": 2.5, "largest": 4.0, "share": 0.75}}
    with pytest.raises(nn.InputError, match=r"a: expected shape \(2, 2\), got \(1, 2\)"):
        record().distance({"a": [[1.0, 2.0]]})
    with pytest.raises(nn.InputError, match="observed: expected rates of a, got b"):
        record().distance({"b": [[1.0, 2.0]]})
    with pytest.raises(nn.InputError, match="within: expected"):
        record().distance({"a": np.zeros((2, 2))}, within=0)
