"""Processes of a minibatch, compared with Nengo's."""

import nengo
import numpy as np
import pytest
from minibatches import assert_same_as_nengo


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize(
    "process",
    [
        nengo.processes.WhiteNoise(),
        nengo.processes.WhiteNoise(seed=4),
        nengo.processes.WhiteSignal(0.1, high=40),
        nengo.processes.FilteredNoise(synapse=nengo.Alpha(0.01)),
        nengo.processes.BrownNoise(),
        nengo.processes.PresentInput([[1, 2], [3, 4]], 0.01),
        nengo.processes.Piecewise({0.01: [1, 0], 0.02: [0.5, -1]}),
    ],
    ids=lambda process: type(process).__name__,
)
def test_processes(process, optimize):
    with nengo.Network(seed=1) as network:
        node = nengo.Node(process, size_out=2)
        ensemble = nengo.Ensemble(20, 2, noise=nengo.processes.WhiteNoise(seed=2))
        nengo.Connection(node, ensemble)
        probes = [nengo.Probe(node), nengo.Probe(ensemble, synapse=0.01)]
    expected = assert_same_as_nengo(network, probes, optimize=optimize)[probes[0]]
    of_time = isinstance(process, (nengo.processes.PresentInput, nengo.processes.Piecewise))
    assert np.array_equal(expected[0], expected[1]) == (process.seed is not None or of_time)
