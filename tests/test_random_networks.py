"""Random networks, loops included, in a minibatch and in Nengo."""

import hypothesis
import hypothesis.strategies as st
import nengo
import numpy as np
import pytest
from minibatches import assert_same_as_nengo, random_rows
from nengo.solvers import LstsqL2

import nengonet as nn

ENSEMBLE_TYPES = [
    nengo.LIF(),
    nengo.LIFRate(),
    nengo.AdaptiveLIF(),
    nengo.SpikingRectifiedLinear(),
    nengo.RectifiedLinear(),
    nengo.Sigmoid(),
    nengo.Direct(),
    nn.IntegrateAndFire(),
    nengo.PoissonSpiking(nengo.LIFRate()),
    nengo.StochasticSpiking(nengo.RectifiedLinear()),
]


class Recurrent(nengo.Process):
    """A user's process with an input, a state and noise."""

    def make_state(self, shape_in, shape_out, dt, dtype=None):
        return {"sum": np.zeros(shape_out)}

    def make_step(self, shape_in, shape_out, dt, rng, state):
        total = state["sum"]

        def step(t, x):
            total[...] = 0.9 * total + x.sum() * dt + rng.normal(size=shape_out) * 0.01
            return total

        return step


def pick(rng, choices):
    return choices[rng.integers(len(choices))]


def random_node(rng, n, seeded):
    kind, seed = rng.integers(5), 7 if seeded else None
    if kind == 0:
        return nengo.Node(size_in=n)
    if kind == 1:
        return nengo.Node(lambda t, x: np.sin(x + 10 * t), size_in=n, size_out=n)
    if kind == 2:
        return nengo.Node(nengo.processes.WhiteSignal(0.1, high=50, seed=3), size_out=n)
    if kind == 3:
        return nengo.Node(nengo.processes.WhiteNoise(seed=seed), size_out=n)
    return nengo.Node(Recurrent(seed=seed), size_in=n, size_out=n)


def random_network(seed, seeded=False):
    """Nodes and ensembles of 1 to 3 dimensions, connected at random, loops included."""
    types = ENSEMBLE_TYPES[:-2] if seeded else ENSEMBLE_TYPES
    rng = np.random.default_rng(seed)
    with nengo.Network(seed=int(rng.integers(1000))) as network:
        source = nengo.Node(np.zeros(2))
        things = [source]
        for _ in range(rng.integers(2, 6)):
            n = int(rng.integers(1, 4))
            if rng.random() < 0.35:
                things.append(random_node(rng, n, seeded))
                continue
            noise = pick(
                rng, [nengo.processes.FilteredNoise(seed=7 if seeded else None), None, None]
            )
            n_neurons, neuron_type = int(rng.integers(5, 25)), pick(rng, types)
            things.append(nengo.Ensemble(n_neurons, n, neuron_type=neuron_type, noise=noise))
        probes = []
        targets = [thing for thing in things if thing.size_in > 0]
        for _ in range(rng.integers(1, 3 * len(things)) if targets else 0):
            pre, post = pick(rng, things), pick(rng, targets)
            random_connection(rng, pre, post, strided=not seeded)
        for thing in things:
            probes.append(nengo.Probe(thing, synapse=pick(rng, [None, 0.01])))
            if has_neurons(thing) and rng.random() < 0.5:
                probes.append(nengo.Probe(thing.neurons, sample_every=0.003))
    return network, source, probes


def has_neurons(thing):
    return isinstance(thing, nengo.Ensemble) and not isinstance(thing.neuron_type, nengo.Direct)


def random_connection(rng, pre, post, strided):
    # A synapse keeps every loop from being instantaneous.
    synapse = pick(rng, [nengo.Lowpass(0.005), nengo.Alpha(0.003), nengo.synapses.Triangle(0.004)])
    solver, function, n = LstsqL2(), None, pre.size_out
    if has_neurons(post) and rng.random() < 0.4:
        if has_neurons(pre) and rng.random() < 0.5:
            solver = LstsqL2(weights=True)
        else:
            post = post.neurons
    passthrough = isinstance(pre, nengo.Node) and pre.output is None
    if rng.random() < 0.3:
        pre = pick(rng, [pre[:1], pre[[-1, 0]]])
        n = pre.size_out
    if rng.random() < 0.4 and not passthrough:
        function, n = (lambda x: [np.clip(np.sum(x), -2, 2), np.cos(np.max(x))]), 2
    if rng.random() < 0.3:
        # Nengo's optimizer fails on strided views, or computes something else.
        post = pick(rng, [post[::2], post[::-1], post[[-1]]] if strided else [post[:1], post[[-1]]])
    transform = rng.normal(0, 0.5, (post.size_in, n))
    nengo.Connection(
        pre, post, function=function, synapse=synapse, transform=transform, solver=solver
    )


@pytest.mark.parametrize("optimize", [False, True])
@hypothesis.settings(max_examples=25)
@hypothesis.given(seed=st.integers(0, 2**32 - 1))
def test_random_networks(optimize, seed):
    """Optimized, signals are merged in an order, which unseeded streams follow, of each build."""
    network, source, probes = random_network(seed, seeded=optimize)
    assert_same_as_nengo(network, probes, {source: random_rows(2, seed)}, optimize=optimize)
