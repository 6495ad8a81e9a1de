"""Steps of neurons from any state that a user can set are the same in NumPy, Numba and Nengo."""

import importlib
import pathlib
import warnings

import hypothesis
import hypothesis.strategies as st
import nengo
import numpy as np
import pytest
from nengo.builder.neurons import SimNeurons

import nengonet as nn
from nengonet.exceptions import RunawayError
from nengonet.minibatch import MinibatchSimulator
from nengonet.minibatch.acceleration import load_kernels
from nengonet.minibatch.neuron_steps import is_elementwise
from nengonet.nengo_internals import precision_of
from nengonet.run.presentation import present

HAVE_NUMBA = load_kernels() is not None
N = 5
LEAK = {
    "tau_rc": st.sampled_from([0.02, 0.003, 1e-5, 0.7]),
    "tau_ref": st.sampled_from([0.0, 0.0003, 0.002, 0.00251, 0.05]),
}
CLIP = {"min_voltage": st.sampled_from([0.0, -0.3, -2.0, -np.inf])}
AREA = {"amplitude": st.sampled_from([1.0, 0.37, 1e-4, 50.0])}
ADAPTS = {"tau_n": st.sampled_from([0.01, 1.0]), "inc_n": st.sampled_from([0.0, 0.05])}
VOLTAGES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, -0.1, -1e9, 2.0, 7.5, 1e6]), st.floats(-3, 3, width=32)
)
STATES = {
    "voltage": VOLTAGES,
    "refractory_time": st.sampled_from([0.0, -1.0, 0.0004, 0.001, 0.0015, 0.02]),
    "adaptation": st.floats(-1, 3, width=32),
    "recovery": st.floats(-5, 5, width=32),
}
TYPES = {
    nengo.LIF: LEAK | CLIP | AREA,
    nengo.AdaptiveLIF: LEAK | CLIP | AREA | ADAPTS,
    nengo.LIFRate: LEAK | AREA,
    nengo.AdaptiveLIFRate: LEAK | AREA | ADAPTS,
    nengo.SpikingRectifiedLinear: AREA,
    nengo.RectifiedLinear: AREA,
    nn.IntegrateAndFire: AREA | CLIP,
    nengo.Izhikevich: {"reset_voltage": st.sampled_from([-65.0, 20.0])},
    nengo.Sigmoid: {"tau_ref": st.sampled_from([0.002, 0.01])},
    nengo.Tanh: {"tau_ref": st.sampled_from([0.002, 0.01])},
}
WRAPPERS = (nengo.RegularSpiking, nengo.StochasticSpiking, nengo.PoissonSpiking)
BASES = (nengo.RectifiedLinear, nengo.LIFRate, nengo.Tanh)


@st.composite
def neuron_types(draw):
    def made(cls, **settings):
        states = {
            name: np.array(draw(st.lists(STATES[name], min_size=N, max_size=N)))
            for name in cls.state
        }
        return cls(**settings, initial_state=states)

    cls = draw(st.sampled_from([*TYPES, *WRAPPERS]))
    if cls in WRAPPERS:
        return made(cls, base_type=made(draw(st.sampled_from(BASES))), **_drawn(draw, AREA))
    return made(cls, **_drawn(draw, TYPES[cls]))


def _drawn(draw, parameters):
    return {name: draw(values) for name, values in parameters.items()}


def network_of(neuron_type, bias):
    with nengo.Network(seed=2) as network:
        node = nengo.Node(np.zeros(N))
        ensemble = nengo.Ensemble(
            N, 1, gain=np.linspace(0.5, 2, N), bias=np.full(N, bias), neuron_type=neuron_type
        )
        nengo.Connection(node, ensemble.neurons, synapse=None)
        probes = [nengo.Probe(ensemble.neurons)]
        probes += [nengo.Probe(ensemble.neurons, name) for name in neuron_type.state]
    return network, node, probes


def reference(network, node, probes, rows, dt):
    """Return each probe's data, (batch, n_steps, n), or None where Nengo fails."""
    found = [[] for _ in probes]
    with nengo.Simulator(network, dt, seed=1, progress_bar=False, optimize=False) as simulator:
        signal = simulator.model.sig[node]["out"]
        for example, each in enumerate(rows):
            nn.run.simulators.reset_to_example(simulator, 1, example)
            try:
                for row in each:
                    simulator.signals[signal][...] = row
                    simulator.step()
            except (FloatingPointError, ValueError):
                return None
            for data, probe in zip(found, probes, strict=True):
                data.append(simulator.data[probe].copy())
    return [np.stack(data) for data in found]


@hypothesis.settings(max_examples=120)
@hypothesis.given(
    neuron_type=neuron_types(),
    dt=st.sampled_from([0.001, 0.0007, 0.004, 0.05]),
    bits=st.sampled_from([32, 64]),
    batch=st.sampled_from([1, 3, 17]),
    scale=st.sampled_from([0.0, 1.0, 30.0, 3000.0]),
    bias=st.sampled_from([0.0, 1.0, 1.01, -2.0, 500.0]),
    seed=st.integers(0, 99),
)
def test_steps_are_those_of_nengo(neuron_type, dt, bits, batch, scale, bias, seed):
    rows = np.random.default_rng(seed).normal(0, scale, (batch, 12, N))
    rows = rows.astype(f"f{bits // 8}")
    with warnings.catch_warnings(), np.errstate(all="ignore"), precision_of(bits):
        warnings.simplefilter("ignore")
        network, node, probes = network_of(neuron_type, bias)
        expected = reference(network, node, probes, rows, dt)
        for numba in (False, True) if HAVE_NUMBA else (False,):
            with MinibatchSimulator(
                network, batch, dt, seed=1, progress_bar=False, numba=numba
            ) as simulator:
                if expected is None:
                    with pytest.raises((RunawayError, ValueError)):
                        simulator.run_steps(12, data={node: rows})
                    continue
                simulator.run_steps(12, data={node: rows})
                for probe, values in zip(probes, expected, strict=True):
                    found = simulator.data[probe]
                    assert found.dtype == values.dtype
                    # NumPy and Numba may take the last bit of log1p and expm1 from other libraries.
                    if numba and probe is not probes[0] and "LIF" in type(neuron_type).__name__:
                        close = 1e-4 if bits == 32 else 1e-11
                        np.testing.assert_allclose(found, values, rtol=close, atol=close)
                    else:
                        np.testing.assert_array_equal(found, values)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "dt, tau_rc", [(0.001, 0.02), (0.003, 0.02), (0.0007, 0.003), (0.004, 0.05)]
)
@pytest.mark.parametrize("numba", [False, True] if HAVE_NUMBA else [False])
@pytest.mark.parametrize("bits", [32, 64])
def test_voltages_below_the_threshold_are_nengos_to_the_bit(dt, tau_rc, numba, bits):
    """They leak by the same factor, rounded as in Nengo."""
    rows = np.random.default_rng(4).uniform(-0.5, 0.4, (3, 12, N)).astype(f"f{bits // 8}")
    with precision_of(bits):
        network, node, probes = network_of(nengo.LIF(tau_rc=tau_rc, min_voltage=-1.0), bias=0.1)
        expected = reference(network, node, probes, rows, dt)[1]
        with MinibatchSimulator(
            network, 3, dt, seed=1, progress_bar=False, numba=numba
        ) as simulator:
            simulator.run_steps(12, data={node: rows})
            np.testing.assert_array_equal(simulator.data[probes[1]], expected)
    assert 0.1 < np.abs(expected).max() < 1


@pytest.mark.parametrize("cls", TYPES)
def test_known_types_are_not_stepped_one_by_one(cls):
    network, _, _ = network_of(cls(), 1.01)
    with MinibatchSimulator(network, 2, progress_bar=False) as simulator:
        (operator,) = (op for op in simulator.step_order if isinstance(op, SimNeurons))
        assert is_elementwise(operator)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cls", [nengo.LIF, nengo.SpikingRectifiedLinear, nn.IntegrateAndFire])
def test_stretches_from_any_state(cls, seed):
    """Rows of layers that run many steps at a time, from voltages below 0 and far above 1."""
    rng = np.random.default_rng(seed)
    voltages = [rng.choice([-5.5, -0.3, 0.0, 1.0, 3.7, 40.0, rng.normal()], n) for n in (6, 4)]
    if seed > 2:  # the second layer cannot list its spikes, where the first has run already
        voltages[0], voltages[1][0] = np.abs(voltages[0]), -1e4
    if cls is nengo.LIF:
        voltages = [np.minimum(each, 1.0) for each in voltages]
    with nengo.Network(seed=0) as network:
        layer = nn.constant_input((5,)) if seed % 2 else nn.poisson_input((5,), 300.0)
        for k, voltage in enumerate(voltages):
            layer = nn.dense(
                layer,
                rng.normal(0.3, 1.0, (layer.size, len(voltage))),
                cls(amplitude=0.01, initial_state={"voltage": voltage}),
                gain=4.0 if cls is nengo.LIF else 90.0,
                label=f"layer {k}",
            )
    images = rng.uniform(0, 1, (5, 5))
    run = {"presentation_time": 0.06, "progress": False, "rasters": ["layer 0", "layer 1"]}
    expected = present(network, layer, images, simulator="reference", **run)
    found = present(network, layer, images, minibatch_size=3, **run)
    for label, raster in expected.rasters.items():
        np.testing.assert_array_equal(found.rasters[label], raster)
    for label, counts in expected.counts.items():
        np.testing.assert_array_equal(found.counts[label], counts)


@pytest.fixture
def random_networks(monkeypatch):
    """Return the module of the benchmark."""
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("random_networks")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", [104, 109, 110, 117])
@pytest.mark.parametrize("numba", [False, True])
def test_random_networks_of_the_benchmark(seed, numba, random_networks, monkeypatch):
    monkeypatch.setenv("NENGONET_NUMBA", str(int(numba)))
    settings = [(64, 3, 1), (64, 7, 1), (32, 3, 1)]
    found = random_networks.compared(seed, False, settings)
    assert [each["where"] for each in found] == [{}] * 3
    assert all(each["spikes"] > 50 for each in found)
