"""The minibatch simulator steps with one BLAS thread, and restores their number afterwards."""

import sys
import threading

import nengo
import numpy as np
import pytest
from minibatches import minibatch

import nengonet as nn
from nengonet.minibatch import one_thread
from nengonet.minibatch.one_thread import on_one_blas_thread

threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")


def n_threads():
    found = {each["num_threads"] for each in threadpoolctl.threadpool_info()
             if each["user_api"] == "blas"}  # fmt: skip
    assert len(found) == 1  # of NumPy and of SciPy
    return found.pop()


@pytest.fixture(autouse=True)
def _three_threads():
    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        assert n_threads() == 3
        yield
        assert n_threads() == 3


def network(look):
    with nengo.Network(seed=0) as net:
        nengo.Node(lambda t: look() if t > 0 else None)  # called once when it is made
    return net


def test_steps_run_on_one_thread():
    seen = []
    with minibatch(network(lambda: seen.append(n_threads())), 2) as simulator:
        assert n_threads() == 3
        for run in (
            lambda: simulator.step(),
            lambda: simulator.run_steps(2),
            lambda: simulator.run(0.002),
            lambda: simulator.profile_steps(1),
        ):
            seen.clear()
            run()
            assert set(seen) == {1}
            assert n_threads() == 3


def test_threads_are_restored_after_an_error():
    def fail():
        raise KeyboardInterrupt

    with minibatch(network(fail)) as simulator:
        for run in (simulator.step, lambda: simulator.run_steps(2)):
            with pytest.raises(KeyboardInterrupt):
                run()
            assert n_threads() == 3
        with pytest.raises(nn.InputError, match="steps: expected"):
            simulator.run_steps(-1)


def test_what_runs_meanwhile_keeps_the_limit():
    """The last one to leave restores the number from before the first, in either order."""
    for first in (0, 1):
        inside = [threading.Event(), threading.Event()]
        leave = [threading.Event(), threading.Event()]

        def work(i, inside=inside, leave=leave):
            with on_one_blas_thread:
                inside[i].set()
                assert leave[i].wait(60)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
        for thread, event in zip(threads, inside, strict=True):
            thread.start()
            assert event.wait(60)
            assert n_threads() == 1
        leave[first].set()
        threads[first].join(60)
        assert n_threads() == 1
        leave[1 - first].set()
        threads[1 - first].join(60)
        assert n_threads() == 3


class PerThread:
    """A library, such as MKL, whose setting is each thread's own."""

    def __init__(self):
        self.own = threading.local()

    def get_num_threads(self):
        return getattr(self.own, "number", 3)

    def set_num_threads(self, number):
        self.own.number = number


def test_a_setting_of_each_thread_is_set_in_each(monkeypatch):
    library, seen = PerThread(), []
    monkeypatch.setattr(one_thread, "_libraries", lambda: ([], [library]))

    def work():
        with on_one_blas_thread:
            seen.append(library.get_num_threads())
            with on_one_blas_thread:
                pass
            seen.append(library.get_num_threads())
        seen.append(library.get_num_threads())

    with on_one_blas_thread:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(60)
        assert library.get_num_threads() == 1
    assert seen == [1, 1, 3]
    assert library.get_num_threads() == 3


def test_without_threadpoolctl_nothing_is_limited(monkeypatch):
    monkeypatch.setattr(one_thread, "ThreadpoolController", None)
    with on_one_blas_thread:
        assert n_threads() == 3


def test_a_simulator_within_a_step():
    seen = []

    def inner():
        with minibatch(network(lambda: None)) as simulator:
            simulator.run_steps(1)
        seen.append(n_threads())

    with minibatch(network(inner)) as simulator:
        simulator.run_steps(2)
    assert seen == [1, 1]


def test_present_restores_them_after_jobs():
    with nengo.Network(seed=0) as net:
        pixels = nn.poisson_input((4,))
        output = nn.dense(pixels, np.eye(4), nn.IntegrateAndFire(), gain=100.0, bias=0.0)
    result = nn.present(net, output, np.full((6, 4), 0.5), n_jobs=2, presentation_time=0.02)
    assert len(result.counts[output.label]) == 6
    assert n_threads() == 3


def test_a_library_that_is_loaded_later_is_found(monkeypatch):
    with on_one_blas_thread:
        pass
    late = PerThread()
    late.internal_api, late.threading_layer = "mkl", None

    class Controller:
        lib_controllers = (late,)

        def select(self, user_api):
            return self

    monkeypatch.setattr(one_thread, "ThreadpoolController", Controller)
    with on_one_blas_thread:  # nothing was imported: nobody looks
        assert late.get_num_threads() == 3
    monkeypatch.setitem(sys.modules, "a module that loads it", one_thread)
    with on_one_blas_thread:
        assert late.get_num_threads() == 1
    assert late.get_num_threads() == 3
    one_thread._found.cache_clear()
