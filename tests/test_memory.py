"""Memory that arrays use one after the other."""

import gc
import subprocess
import sys
import threading

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.minibatch import memory

LARGE = memory._LEAST


@pytest.fixture(autouse=True)
def empty_pool(monkeypatch):
    pool = memory._Pool()
    monkeypatch.setattr(memory, "_pool", pool)
    monkeypatch.setattr(memory._Lease.__del__, "__defaults__", (pool.give_back,))
    return pool


def place(array):
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float64])
@pytest.mark.parametrize("shape", [(0,), (3,), (0, 7), (5, 1, 3), (LARGE,), (3, LARGE // 2 + 5)])
def test_arrays_are_as_numpys(shape, dtype):
    for made, expected in ((memory.empty, np.empty), (memory.zeros, np.zeros)):
        found, like = made(shape, dtype), expected(shape, dtype)
        assert (found.shape, found.dtype) == (like.shape, like.dtype)
        assert found.flags.c_contiguous
        assert found.flags.aligned
        assert found.flags.writeable
        assert found.size == 0 or place(found) % 64 == 0
    assert not found.any()


def test_memory_is_used_again_when_the_last_view_is_gone():
    first = memory.empty((LARGE, 3), np.int32)
    at, part = place(first), first[7:, 1]
    del first
    part[:] = 5
    second = memory.zeros((LARGE, 3), np.int32)
    assert place(second) != at
    assert np.all(part == 5)
    del part
    third = memory.zeros((3 * LARGE - 20,), np.int32)
    assert place(third) == at
    assert not third.any()


def test_much_smaller_and_larger_arrays_get_other_memory():
    at = place(memory.empty((10 * LARGE,), np.uint8))
    others = [memory.empty((n * LARGE,), np.uint8) for n in (2, 6, 11)]
    assert at not in map(place, others)
    assert place(memory.empty((8 * LARGE,), np.uint8)) == at


def test_idle_memory_is_limited_and_the_longest_unused_goes_first(monkeypatch, empty_pool):
    monkeypatch.setattr(memory, "_MOST_IDLE", 8 * LARGE)
    arrays = [memory.empty((n * LARGE,), np.uint8) for n in (1, 2, 3, 4)]
    while arrays:
        del arrays[0]
        assert sum(map(len, empty_pool._idle)) == empty_pool._n_bytes <= 8 * LARGE
    assert [round(len(each) / LARGE) for each in empty_pool._idle] == [3, 4]
    memory.empty((100 * LARGE,), np.uint8)
    assert empty_pool._n_bytes == 0


def test_no_two_arrays_of_several_threads_share_memory(empty_pool):
    wrong = []

    def work(number):
        rng = np.random.default_rng(number)
        kept = []
        for _ in range(400):
            array = memory.empty((int(rng.integers(LARGE, 3 * LARGE)),), np.uint8)
            array[...] = number
            kept.append(array)
            if len(kept) > 3:
                old = kept.pop(int(rng.integers(3)))
                wrong.extend(old[old != number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert empty_pool._n_bytes == sum(map(len, empty_pool._idle))


def test_memory_that_cannot_be_had_is_an_error_and_nothing_is_kept(empty_pool):
    with pytest.raises((MemoryError, ValueError)):
        memory.empty((2**60,), np.float64)
    assert empty_pool._idle == []


def test_the_end_of_python_is_silent():
    code = "from nengonet.minibatch import memory; kept = memory.empty((10**6,), 'u1')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def network(n):
    with nengo.Network(seed=0) as net:
        pixels = nn.constant_input((n,))
        weights = np.random.default_rng(n).normal(0, 1, (n, n))
        layer = nn.dense(pixels, weights, nengo.LIF(), gain=4.0, bias=1.0, label="layer")
        last = nn.dense(layer, weights, nn.IntegrateAndFire(), gain=50.0, label="last")
    return net, last


def test_a_run_finds_the_memory_of_the_run_before(empty_pool):
    pytest.importorskip("numba")
    net, last = network(120)
    images = np.random.default_rng(1).uniform(0, 1, (200, 120))
    gc.collect()
    gc.disable()  # a run must free its memory by itself
    try:
        results, new = [], []
        for _ in range(6):
            before = set(map(id, empty_pool._idle))
            results.append(nn.present(net, last, images, presentation_time=0.05))
            new.append(len({id(each) for each in empty_pool._idle} - before))
    finally:
        gc.enable()
    assert new[0] > 2
    assert new[-1] == 0
    for other in results[1:]:
        for label, counts in results[0].counts.items():
            np.testing.assert_array_equal(other.counts[label], counts)


def test_results_stay_when_later_runs_use_memory():
    (net, last), rng = network(90), np.random.default_rng(2)
    images = rng.uniform(0, 1, (300, 90))
    first = nn.present(net, last, images, presentation_time=0.03, rasters=["layer"])
    copies = {label: counts.copy() for label, counts in first.counts.items()}
    raster = first.rasters["layer"].copy()
    nn.present(net, last, images[::-1], presentation_time=0.03, rasters=["layer"])
    for label, counts in copies.items():
        np.testing.assert_array_equal(first.counts[label], counts)
    np.testing.assert_array_equal(first.rasters["layer"], raster)
