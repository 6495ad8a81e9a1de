"""Random convolutional networks of exact numbers: all that both simulators say of them is equal."""

import importlib
import pathlib

import nengo
import pytest

SEEDS = range(20)
SMALL = {"style": "exact", "largest": 7, "longest": 45}
EXPECTED = """
    LIF AdaptiveLIF IntegrateAndFire SpikingRectifiedLinear RectifiedLinear Izhikevich Tanh
    PoissonSpiking RegularSpiking StochasticSpiking
    ConstantImage PoissonImage steps several
    Convolution 1-D 2-D stride groups valid same Dense Sparse NoTransform AddBias loop
    AveragePool running_max winner instant
    Lowpass Alpha Triangle LinearFilter
    exact probe sampled keep initial_states
"""


@pytest.fixture(scope="module")
def benchmark():
    """Return the module that draws and compares the networks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(pathlib.Path(__file__).parents[1] / "benchmarks")
        return importlib.import_module("random_convolutions")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", SEEDS)
def test_random_convolutional_networks(benchmark, seed, monkeypatch):
    """Counts, operations, steps, rasters, means, probes; and states and records between pieces."""
    monkeypatch.setenv("NENGONET_NUMBA", str(int(seed % 6 > 0)))
    case = benchmark.random_case(seed, **SMALL)
    setting = (64, 7, 2) if seed % 12 == 1 else (64, 2 + seed % 3, 1)
    (found,) = benchmark.compared(case, [setting], examples=3)
    assert found["where"] == {}
    assert found["compared"] > 0
    assert benchmark.in_pieces(case, minibatch=1 + seed % 3) == {}


def parts_of(case):
    """Return the names of what a network is made of."""
    network = case.network
    for ensemble in network.all_ensembles:
        yield type(ensemble.neuron_type).__name__
    for node in network.all_nodes:
        yield getattr(node.output, "kind", type(node.output).__name__)
    for connection in network.all_connections:
        transform = connection.transform
        yield from (type(transform).__name__, type(connection.synapse).__name__)
        if isinstance(transform, nengo.Convolution):
            yield from (f"{transform.dimensions}-D", transform.padding)
            yield from ["stride"] * (max(transform.strides) > 1)
            yield from ["groups"] * (transform.groups > 1)
        yield from ["loop"] * (connection.pre_obj == connection.post_obj)
    for probe in network.all_probes:
        yield "probe" if probe.sample_every is None else "sampled"
    yield from case.run
    yield from ["exact"] * case.exact
    yield from ["steps"] * bool(case.fed)
    yield from ["several"] * (len(case.images) > 1)


def test_the_networks_hold_what_convolutional_networks_are_made_of(benchmark):
    cases = [benchmark.random_case(seed, **SMALL) for seed in SEEDS]
    assert sum(case.exact for case in cases) >= 8
    found = {name for case in cases for name in parts_of(case)}
    assert set(EXPECTED.split()) - found == set()
