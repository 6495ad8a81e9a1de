"""Operators that have no batched step run one by one, and how to add one."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import nengo
import numpy as np
from minibatches import image_network, kept_in, minibatch, minibatch_of, model_of
from nengo.builder import Builder, Operator
from nengo.builder.operator import DotInc, Reset
from nengo.builder.signal import Signal

from nengonet.minibatch import register
from nengonet.minibatch.plan import plan_of
from nengonet.minibatch.registry import _MAKERS


class TwoStep(Operator):
    """A user's operator: ``y = 2 * x``."""

    def __init__(self, x, y):
        super().__init__()
        self.sets, self.incs, self.reads, self.updates = [y], [], [x], []

    def make_step(self, signals, dt, rng):
        x, y = signals[self.reads[0]], signals[self.sets[0]]
        return lambda: np.multiply(x, 2, out=y)


class Doubled(nengo.transforms.NoTransform):
    """A user's transform."""


def build_doubled(model, transform, sig_in, decoders=None, encoders=None, rng=None):
    weighted = Signal(shape=sig_in.shape, name="doubled")
    model.add_op(TwoStep(sig_in, weighted))
    return weighted, None


def test_unknown_operators_run_one_by_one_until_they_are_registered(monkeypatch):
    monkeypatch.setitem(Builder.builders, Doubled, build_doubled)
    with nengo.Network() as network:
        a, b = nengo.Node([1.0, 2.0]), nengo.Node(size_in=2)
        nengo.Connection(a, b, transform=Doubled(2), synapse=None)
        probe = nengo.Probe(b)

    def run():
        with minibatch(network) as simulator:
            simulator.run_steps(2)
            np.testing.assert_array_equal(simulator.data[probe], np.full((3, 2, 2), [2.0, 4.0]))

    run()
    monkeypatch.setitem(_MAKERS, TwoStep, None)  # which is taken out again
    calls = []

    @register(TwoStep)
    def two_step(operator, context):
        calls.append(operator)
        return operator.make_step(context.signals, context.dt, None)

    run()
    assert calls


def test_subclasses_with_a_step_of_their_own_keep_it():
    class OtherDot(DotInc):
        def make_step(self, signals, dt, rng):
            y = signals[self.Y]
            return lambda: y.__iadd__(3)

    class SameReset(Reset):
        pass

    x, y, w = (Signal(np.zeros(shape)) for shape in (2, 2, (2, 2)))
    seen = []
    with minibatch_of(model_of(SameReset(x), OtherDot(w, x, y), kept_in(seen, y))) as simulator:
        simulator.run_steps(2)
    np.testing.assert_array_equal(seen, [[3.0, 3.0]] * 2 + [[6.0, 6.0]] * 2)


def test_what_follows_from_a_model_is_made_once_for_all_threads():
    with minibatch(image_network()[0], 2) as simulator:
        context, made = plan_of(simulator), []

    def make():
        made.append(threading.get_ident())
        time.sleep(0.01)  # the others ask meanwhile
        return len(made)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: context.constant("key", make), range(8)))
    assert found == 8 * [1]
