"""The choice, number and order of operators change no spike."""

import nengo
import numpy as np
import pytest
from minibatches import (
    NUMBA,
    STEPS,
    assert_equal_runs,
    image_network,
    minibatch,
    minibatch_of,
    neurons,
    random_rows,
    reference,
)
from nengo.builder.neurons import SimNeurons
from nengo.builder.operator import Copy
from nengo.builder.signal import Signal

import nengonet as nn
from nengonet.minibatch.plan import plan_of


@pytest.mark.parametrize("numba", NUMBA)
def test_constant_input_is_worked_out_once(numba):
    weights = np.random.default_rng(0).normal(0, 0.3, (16, 20))
    with nengo.Network(seed=0) as network:
        pixels = nn.constant_input((4, 4), scale=2.0)
        hidden = nn.dense(pixels, weights, nengo.LIF(), label="hidden", **nn.FORUM)
        output = nn.dense(hidden, weights.T[:, :3], None, label="output")
    images, run = np.random.default_rng(0).uniform(size=(4, 16)), {"seed": 0, "progress": False}
    result = nn.present(
        network, output, images, presentation_time=0.1, simulator="reference", **run
    )
    with minibatch(network, 4, numba=numba) as simulator:
        records = {layer.label: simulator.record(layer.output) for layer in output.upstream()}
        for _ in range(2):
            simulator.reset_to_examples(images, seed=0)
            simulator.run_steps(100)
            for label, record in records.items():
                expected = result.mean_output(label)
                np.testing.assert_allclose(record.total / 100, expected, atol=1e-12)
        once = {type(operator).__name__ for operator in plan_of(simulator).once}
        assert once >= {"SimProcess", "DotInc"}


def test_nothing_is_worked_out_for_unused_encoders():
    network, _ = image_network()
    with minibatch(network) as simulator:
        operators = plan_of(simulator).always
        assert not any("encoding" in str(operator) for operator in operators)
        assert any("encoding" in str(operator) for operator in simulator.step_order)


@pytest.mark.parametrize("numba", NUMBA)
def test_neurons_see_their_current_before_a_synapse_goes_on(numba):
    """Any order that respects the dependencies gives the same spikes."""
    with nengo.Network(seed=1) as network:
        node, ensemble = nengo.Node(np.zeros(3)), neurons(6, nengo.LIF(), bias=1.0)
        weights = np.random.default_rng(0).normal(0, 5, (6, 3))
        nengo.Connection(node, ensemble.neurons, transform=weights, synapse=0.01)
        probe = nengo.Probe(ensemble.neurons)
    data = {node: random_rows(3)}
    expected = reference(network, [probe], data)
    with minibatch(network, numba=numba) as simulator:
        last = [op for op in simulator.step_order if isinstance(op, SimNeurons)]
        simulator._step_order = [op for op in simulator.step_order if op not in last] + last
        simulator.reset()
        simulator.run_steps(STEPS, data=data)
        assert_equal_runs(expected, simulator.data)


def test_states_that_others_read_are_up_to_date_at_every_step():
    """A row of layers would run many steps before anything else."""

    def summing_model():
        current, spikes = Signal(np.array([90.0, 30.0])), Signal(np.zeros(2))
        voltage, total = Signal(np.zeros(2)), Signal(np.zeros(2))
        model = nengo.builder.Model()
        with nengo.Network() as network:
            node = nengo.Node([0.0, 0.0])
        model.build(network)
        model.add_op(SimNeurons(nn.IntegrateAndFire(), current, spikes, {"voltage": voltage}))
        model.add_op(Copy(voltage, total, inc=True))
        model.sig[node]["out"] = total
        return model, node

    (model, node), expected = summing_model(), []
    with nengo.Simulator(None, model=model, progress_bar=False, optimize=False) as simulator:
        for _ in range(30):
            simulator.step()
            expected.append(simulator.signals[model.sig[node]["out"]].copy())
    model, node = summing_model()
    with minibatch_of(model) as simulator:
        record = simulator.record(node, steps=True)
        simulator.run_steps(30)
        np.testing.assert_allclose(record.steps, [expected] * 2)
    assert expected[-1].min() > 1


def test_a_product_over_a_part_of_poisson_input_has_its_spikes():
    """Spikes that only products read as a whole are not written."""
    with nengo.Network(seed=0) as network:
        pixels = nn.poisson_input((6,), 400.0)
        node = nengo.Node(size_in=2)
        nengo.Connection(pixels.node[1:4], node, transform=[[1, 2, 4], [3, 0, 1]], synapse=None)
        sums = nn.Layer(label="sums", shape=(2,), node=node)
    images = np.random.default_rng(0).uniform(size=(3, 6))
    run = {"presentation_time": 0.05, "readout": "mean", "progress": False}
    found, expected = (
        nn.present(network, sums, images, simulator=simulator, **run).outputs
        for simulator in ("minibatch", "reference")
    )
    np.testing.assert_allclose(found, expected)
    assert expected.any()


@pytest.mark.parametrize("transform", [{}, {"transform": 0.5}, {"transform": np.full(5, 2.0)}])
def test_neurons_behind_poisson_input_one_to_one_have_its_spikes(transform):
    """With Numba, the neurons read them in the place of a product."""
    with nengo.Network(seed=0) as network:
        pixels = nn.poisson_input((5,), 300.0)
        ensemble = neurons(5, nengo.LIF(), bias=0.5)
        nengo.Connection(pixels.node, ensemble.neurons, synapse=None, **transform)
    images = np.random.default_rng(1).uniform(size=(3, 5))
    found, expected = (
        nn.present(
            network,
            ensemble.neurons,
            images,
            presentation_time=0.05,
            simulator=simulator,
            progress=False,
        ).counts
        for simulator in ("minibatch", "reference")
    )
    assert {label: counts.tolist() for label, counts in found.items()} == {
        label: counts.tolist() for label, counts in expected.items()
    }
    assert all(counts.any() for counts in expected.values())
