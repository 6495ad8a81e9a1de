"""Time the kernels of event-driven layers on the CSNN's spikes, beside their least cost.

A convolution must at least read, once, every row of its kernel that a spike reaches, and add it.
This cost is measured with the same number of rows, all in the nearest cache.
"""

import argparse
import time

import numba
import numpy as np
import scipy.sparse

from nengonet.ann.convolution import output_shape, places
from nengonet.minibatch import event_kernels
from nengonet.minibatch.event_kernels import kernel_rows, list_events, n_places
from nengonet.minibatch.pool_kernels import SLACK, relay, running_max, ways_of
from nengonet.minibatch.vectors import plus, put, zeros_of

N_STEPS = 40
_zeros = zeros_of(256)
# Image, spikes per step, filters: the second and third convolution, 3x3.
CONVOLUTIONS = [((15, 15, 32), 1000, 64), ((6, 6, 64), 290, 64)]
# Image and spikes per step, before windows of 2x2.
POOLS = [((30, 30, 32), 1000), ((13, 13, 64), 290)]


@numba.njit
def gather(rows, bounds, *given):
    """Convolve the spikes of every step."""
    for step in range(len(bounds) - 1):
        event_kernels.gather_convolution(rows, bounds[step], bounds[step + 1], *given)


@numba.njit
def add_near(n_rows, few, total):
    """Add the same number of rows, from a few rows only."""
    for _ in range(n_rows // len(few)):
        sums = _zeros(few)
        for row in range(len(few)):
            sums = plus(sums, few, row * few.shape[1], few.shape[1])
        put(sums, total, 0, few.shape[1])


@numba.njit
def average(rows, bounds, ways, working, spikes):
    """Pass the spikes of every step through an average pool."""
    for step in range(len(bounds) - 1):
        relay(rows, bounds[step], bounds[step + 1], ways, working, spikes, 0)


@numba.njit
def maximum(rows, bounds, ways, working, spikes, sums, sent):
    """Pass the spikes of every step through a max pool."""
    for step in range(len(bounds) - 1):
        given = rows, bounds[step], bounds[step + 1], ways, working
        running_max(*given, sums, sent, spikes, 0)


@numba.njit
def find(eventful, which):
    """List the events of every step."""
    for step in range(len(eventful)):
        list_events(eventful[step], eventful.shape[1], 255, which)


def random_steps(rng, n, n_spikes):
    """Return the spikes of all steps, and the bounds of each step."""
    lists = [np.flatnonzero(rng.random(n) < n_spikes / n) for _ in range(N_STEPS)]
    return np.concatenate(lists).astype(np.int32), np.cumsum([0, *map(len, lists)])


def from_cache_line(array):
    """Return a copy that begins at a cache line."""
    memory = np.zeros(array.nbytes + 64, np.uint8)
    copy = memory[-memory.ctypes.data % 64 :][: array.nbytes].view(array.dtype)
    copy[:] = array.ravel()
    return copy.reshape(array.shape)


def microseconds(function, *given):
    """Return the least time of a step."""
    function(*given)
    least = np.inf
    for _ in range(30):
        begin = time.perf_counter()
        function(*given)
        least = min(least, time.perf_counter() - begin)
    return 1e6 * least / N_STEPS


def n_reached(rows, shape, shape_out):
    """Return how many output positions the spikes reach with a 3x3 kernel without padding."""
    places_in = np.divmod(rows // shape[-1], shape[1])
    along = [
        np.minimum(at, n - 1) - np.maximum(at - 2, 0) + 1
        for at, n in zip(places_in, shape_out, strict=True)
    ]
    return int(np.sum(along[0] * along[1]))


def main():
    """Print a line for every kernel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    dtype, rng = np.dtype(parser.parse_args().dtype), np.random.default_rng(0)
    for shape, n_spikes, n_filters in CONVOLUTIONS:
        rows, bounds = random_steps(rng, np.prod(shape), n_spikes)
        shape_out = output_shape(shape, (3, 3), (1, 1), "valid")
        geometry = (*shape, *shape_out, 3, 3, 1, 1, 0, 0, n_filters)
        kernel = kernel_rows(rng.normal(size=(9 * shape[-1], n_filters)).astype(dtype))
        memory = np.empty(n_places(geometry) + len(rows), np.int32)
        total = from_cache_line(np.zeros(np.prod(shape_out) * n_filters, dtype))
        taken = microseconds(gather, rows, bounds, geometry, kernel, memory, total)
        n_rows = n_reached(rows, shape, shape_out)
        width = 256 // dtype.itemsize
        few = np.ones((32, width), dtype)
        least = microseconds(add_near, n_rows * -(-n_filters // width), few, total)
        print(
            f"convolution of {shape}, {len(rows) / N_STEPS:.0f} spikes: {taken:.1f} us a step, "
            f"{1e3 * taken * N_STEPS / n_rows:.2f} ns a row of {n_filters}; at least {least:.1f}"
        )
    for shape, n_spikes in POOLS:
        rows, bounds = random_steps(rng, np.prod(shape), n_spikes)
        inputs = np.arange(np.prod(shape)).reshape(shape)
        shape_out = (*output_shape(shape, (2, 2), (2, 2), "valid"), shape[-1])
        outputs, n_out = np.arange(np.prod(shape_out)).reshape(shape_out), np.prod(shape_out)
        pairs = [
            (outputs[there].ravel(), inputs[here].ravel())
            for there, here in places(shape, (2, 2), (2, 2), "valid")
        ]
        to, come_from = np.concatenate(pairs, axis=1)
        matrix = scipy.sparse.csr_array((np.ones(len(to)), (to, come_from)), (n_out, inputs.size))
        ways, room = ways_of(matrix, shape[-1]), len(rows) + SLACK
        near, spikes, marks = (np.empty(n, np.int32) for n in (room, room, len(ways.n_ways) + 1))
        given = rows, bounds, ways, (near, marks), spikes
        sums, sent = np.zeros(inputs.size, dtype), np.zeros(n_out, dtype)
        times = microseconds(average, *given), microseconds(maximum, *given, sums, sent)
        each = [1e3 * taken * N_STEPS / len(rows) for taken in times]
        print(f"pools of {shape}: average {each[0]:.1f} ns a spike, running maximum {each[1]:.1f}")
        eventful = (rng.random((N_STEPS, inputs.size)) < n_spikes / inputs.size).astype(np.uint8)
        taken = microseconds(find, eventful, np.empty(inputs.size + 1, np.int32))
        print(f"events of {inputs.size} neurons: listed in {taken:.2f} us a step")


if __name__ == "__main__":
    main()
