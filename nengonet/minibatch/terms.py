"""Terms: the output of one stage after a product, over spikes or dense, and a filter."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import numpy as np
import scipy.sparse
from nengo.builder.operator import DotInc, Operator, SparseDotInc
from nengo.builder.processes import SimProcess
from nengo.builder.transforms import GeneralConvInc

from nengonet.minibatch import memory
from nengonet.minibatch.convolutions import (
    dense_convolution,
    fan_out,
    geometry_of,
    groups_of,
)
from nengonet.minibatch.operators import weights_of
from nengonet.minibatch.registry import Context
from nengonet.minibatch.streams import Chunk, Mixture, Spikes, Stream, as_block, put

# The factor of a term: an operator's weights, a matrix, or nothing.
Product = Operator | scipy.sparse.sparray | None

# With more spikes than this for each input and step, dense products of matrices are faster
# (measured with 16 to 512 outputs).
_DENSEST = 0.4
# If at most this share of the numbers are not 0, only those are multiplied, but only with many
# outputs: with 10 to 64 of them, BLAS is as fast.
_FEW, _MANY_OUTPUTS = 0.2, 100
# Rows of a sparse matrix that are alike but for a shift are multiplied together, if there are so
# many of them on average. In a pool, a row for each channel.
_RUN = 4
# The highest order of a filter that the kernels can step.
MOST_ORDER = 16
_NO_NUMBERS = np.empty(0, np.int64)
NO_WAYS = *3 * (_NO_NUMBERS,), 1, 1
NO_GEOMETRY = 12 * (0,)


class Arguments(NamedTuple):
    """The arguments of a kernel for a term: see `nengonet.minibatch.stretch_kernels.weigh`.

    how : how the term is computed, one of the constants of that module, or 0 for not at all
    address : of the kernel that computes it, if it is called by address
    spikes : the incoming spikes, (rows, bounds, first)
    geometry : of a convolution, as `gather_convolution` takes it, or none
    ways : of single spikes, (starts, outputs, taps, n_channels, n_groups)
    matrix : of a product, or the kernel of a convolution that has a geometry
    kernel : of the ways
    dense : dense input, or the result if it is already computed, (batch, n_steps, n)
    factors : one for each output, or none
    system : the filter, (address, a, b, c, d, late, memory), with an address of its kernel and
        working memory, (order,)
    states : of the filter, (batch, order + 1, n), or none
    places : working memory of `gather_convolution` or `window_convolution`; or the only output of
        each input, as `add_single` takes them
    """

    how: int
    address: int
    spikes: tuple
    geometry: tuple
    ways: tuple
    matrix: np.ndarray
    kernel: np.ndarray
    dense: np.ndarray
    factors: np.ndarray
    system: tuple
    states: np.ndarray
    places: np.ndarray


class Filter:
    """A linear filter's step, its states (order, n) and its last output."""

    def __init__(self, operator: SimProcess, context: Context) -> None:
        self.operator, self._signals, self._dt = operator, context.signals, context.dt
        self._state, self._output = operator.state["X"], operator.output
        step = self._step(np.zeros(self._state.shape))
        a, b, c, d = (np.asarray(each, np.float64) for each in (step.A, step.B, step.C, step.D))
        order = len(self._state.initial_value)
        self.system = (
            # All filters of a sum go into one kernel, which needs them in one layout.
            np.ascontiguousarray(a.reshape(order, order)),
            b.ravel(),
            c.ravel(),
            d.ravel(),
            operator.mode == "update",
        )

    def _step(self, states: np.ndarray) -> Callable[[float, np.ndarray], np.ndarray]:
        """Return the reference's step of these states, (order, n)."""
        n = states.shape[1:]
        return self.operator.process.make_step(n, n, self._dt, None, {"X": states})

    def responses(self, after: np.ndarray, n_steps: int) -> np.ndarray:
        """Step it with the same input in all steps; return its outputs, (n_steps, order + 2).

        Outputs and states are given as factors of `Mixture`: those of the states before all steps,
        and of the input. The factors of the states ``after`` the steps so far are
        (order + 1, order + 2).
        """
        # As if each of the summands were the number of one neuron, and the others were 0.
        step, given = self._step(after[:-1]), np.eye(1, len(after) + 1, len(after))[0]
        outputs, is_late = np.empty((n_steps, len(given))), self.system[-1]
        for of_step in outputs:
            before = after[-1].copy()
            after[-1] = step(0.0, given)
            of_step[:] = before if is_late else after[-1]
        return outputs

    def load(self, lanes: slice, kernels: ModuleType) -> list[np.ndarray]:
        """Return the states of some examples, (examples, order + 1, n)."""
        order, n = self._state.shape
        found = memory.empty((lanes.stop - lanes.start, order + 1, n), self._output.dtype)
        found[:, :-1] = self._signals.some(self._state, lanes)
        found[:, -1] = self._signals.some(self._output, lanes)
        return [found]

    def store(self, arrays: list[np.ndarray], lanes: slice, kernels: ModuleType) -> None:
        """Write the states back."""
        targets = *self._signals[self._state], self._signals[self._output]
        for target, states in zip(targets, arrays[0].swapaxes(0, 1), strict=True):
            put(states, target, lanes, kernels)


class Term:
    """A product of a stage's output, which may be filtered, with a factor for each output."""

    def __init__(
        self,
        source: object,
        n: int,
        context: Context,
        *,
        product: Product = None,
        synapse: SimProcess | None = None,
        scale: np.ndarray | None = None,
    ) -> None:
        self.source, self.n = source, n
        self._context, self.product = context, product
        self.dtype = source.output.dtype
        self.filter = None if synapse is None else Filter(synapse, context)
        self.scale = scale
        self._dense: Callable[[np.ndarray], np.ndarray] | None = None
        self._by_height: dict[np.floating, tuple] = {}
        # How it was computed last, for the report.
        self.was_dense = False

    def scaled(self, factor: np.ndarray) -> Term:
        """Return this term multiplied by numbers, (n,) or one for all."""
        factor = np.broadcast_to(factor, (self.n,)).astype(self.dtype)
        self.scale = factor if self.scale is None else self.scale * factor
        return self

    @property
    def unfiltered(self) -> Term:
        """The term without its filter."""
        return Term(self.source, self.n, self._context, product=self.product)

    def is_dense(self, stream: Stream, n_steps: int) -> bool:
        """Return whether the dense product is faster, given the spikes."""
        self.was_dense = not isinstance(stream, Spikes) or (
            stream.n > self._densest * len(stream.bounds) * n_steps * self.n_inputs
        )
        return self.was_dense

    @property
    def operator(self) -> Operator | None:
        """The operator that multiplies, if there is one."""
        return self.product if isinstance(self.product, Operator) else None

    @property
    def is_sparse(self) -> bool:
        """Whether the term multiplies by a sparse matrix, or by 1."""
        product = self.product
        return not isinstance(product, Operator) or isinstance(product, SparseDotInc)

    @property
    def is_identity(self) -> bool:
        """Whether the term is the unchanged output of its source."""
        return self.product is None and self.filter is None and self.scale is None

    @functools.cached_property
    def _windows(self) -> tuple[int, ...] | None:
        """The geometry of a convolution whose windows a kernel multiplies."""
        return geometry_of(self.product) if isinstance(self.product, GeneralConvInc) else None

    @functools.cached_property
    def _densest(self) -> float:
        """The most spikes for each input and step that are followed one by one."""
        if self._windows is None:
            return _DENSEST
        return self._context.stretch_kernels.windows_from(self._windows, self.dtype.itemsize)

    @property
    def is_matrix(self) -> bool:
        """Whether the term multiplies by a dense matrix."""
        return isinstance(self.product, DotInc) and not self.is_sparse

    @property
    def n_inputs(self) -> int:
        """Number of outputs of the source."""
        return self.source.output.size

    def arguments(self, chunk: Chunk, lanes: slice) -> Arguments:
        """Return the arguments of the kernels for some examples."""
        kernels, n_steps = self._context.stretch_kernels, chunk.n_steps
        stream = chunk.streams[self.source]
        given = nothing(self.dtype)
        if self.filter is not None:
            states = chunk.states[self.filter][0][lanes]
            address, working = kernels.FILTER.address(self.dtype), np.empty(states.shape[1])
            given = given._replace(system=(address, *self.filter.system, working), states=states)
        if self.scale is not None:
            given = given._replace(factors=self.scale)
        if isinstance(stream, Mixture):
            if self not in chunk.steady:
                product = self.computed if self._windows is None else self._in_windows
                chunk.steady[self] = np.ascontiguousarray(product(stream.parts))
            parts = chunk.steady[self][lanes]
            return given._replace(how=kernels.MIXTURE, dense=parts, matrix=stream.factors)
        if self.is_dense(stream, n_steps):
            dense = as_block(stream, n_steps, self.source.output.size, kernels, lanes)
            if self._windows is None:
                dense = self.computed(dense)
            elif dense.shape[1] < n_steps:
                # The same in all steps.
                dense = self._in_windows(dense)
            else:
                return given._replace(**self._windowed(dense))
            return given._replace(how=kernels.BLOCK, dense=np.ascontiguousarray(dense))
        if self._windows is not None:
            given = given._replace(geometry=self._windows)
        spikes = stream.rows, np.ascontiguousarray(stream.bounds[lanes]), stream.first
        given = given._replace(spikes=spikes, **self._ways(stream.height))
        if given.how == kernels.GATHER:
            most = np.diff(spikes[1][:, stream.first :], axis=1).max(initial=0)
            places = np.empty(kernels.n_places(self._windows) + most, np.int32)
            given = given._replace(places=places)
        if given.how == kernels.ROWS and given.matrix.nbytes > kernels.LARGE:
            # The matrix is read once for many steps.
            dense = memory.empty((len(spikes[1]), n_steps, self.n), self.dtype)
            kernels.multiply_steps(*spikes, given.matrix, dense)
            given = given._replace(how=kernels.BLOCK, dense=dense)
        return self._addressed(given)

    def _windowed(self, dense: np.ndarray) -> dict:
        """Return the `Arguments` that describe a convolution of dense input."""
        kernels = self._context.stretch_kernels
        return self._ways(self.dtype.type(1)) | {
            "how": kernels.WINDOWS,
            "address": kernels.PRODUCTS[kernels.WINDOWS].address(self.dtype),
            "geometry": self._windows,
            "dense": np.ascontiguousarray(dense),
            "places": np.empty(kernels.n_near(self._windows), np.int32),
        }

    def _in_windows(self, dense: np.ndarray) -> np.ndarray:
        """Return the convolution of dense input, (examples, n_steps, n)."""
        sums = memory.empty((*dense.shape[:2], self.n), self.dtype)
        term = nothing(self.dtype)._replace(**self._windowed(dense))
        add_up(term, np.empty((0, 0), self.dtype), sums, self._context.stretch_kernels)
        return sums

    def _addressed(self, given: Arguments) -> Arguments:
        """Return the arguments with the address of the kernel, if it is called by address."""
        product = self._context.stretch_kernels.PRODUCTS.get(given.how)
        return given if product is None else given._replace(address=product.address(self.dtype))

    def _ways(self, height: float) -> dict:
        """Return the `Arguments` that describe the ways of single spikes."""
        make = functools.partial(self._make_ways, self.dtype.type(height))
        if isinstance(self.product, Operator):
            return self._context.constant((self.product, "ways", height), make)
        if height not in self._by_height:
            self._by_height[height] = make()
        return self._by_height[height]

    def _make_ways(self, height: np.floating) -> dict:
        """Make the ways, with weights multiplied by the height of a spike."""
        kernels, product = self._context.stretch_kernels, self.product
        if self._windows is not None:
            matrix = kernels.kernel_rows(fan_out(product, self._context, height)[-1])
            return {"how": kernels.GATHER, "matrix": matrix}
        if isinstance(product, GeneralConvInc):
            *ways, kernel = fan_out(product, self._context, height)
            ways = *ways, product.conv.input_shape.n_channels, groups_of(product)
            return {"how": kernels.SCATTER, "ways": ways, "kernel": kernel}
        if self.is_matrix:
            weights = weights_of(product, self._context).T
            whole = kernels.WHOLE if weights.nbytes <= kernels.LARGE else 1
            return {"how": kernels.ROWS, "matrix": _padded(weights, whole, height)}
        ways, kernel = _sparse_ways(_matrix_of(product, self.n, self._context), height)
        starts, outputs, _ = ways
        n_ways = np.diff(starts)
        if len(outputs) and n_ways.max() == 1 and np.ptp(kernel) == 0:
            places = np.full(len(n_ways), -1, np.int32)
            places[n_ways > 0] = outputs
            return {"how": kernels.SINGLE, "places": places, "kernel": kernel[:1]}
        return {"how": kernels.SPARSE, "ways": (*ways, 1, 1), "kernel": kernel}

    def sparse(self) -> scipy.sparse.csr_array:
        """Return the matrix, (n, n_inputs), with the factors."""
        matrix = _matrix_of(self.product, self.n, self._context).astype(self.dtype)
        if self.scale is None:
            return matrix
        return scipy.sparse.csr_array(scipy.sparse.diags_array(self.scale) @ matrix)

    def computed(self, block: np.ndarray) -> np.ndarray:
        """Return the dense product with (examples, n_steps, n_inputs)."""
        if self.product is None:
            return block
        if self._dense is None:
            self._dense = dense_product(self.product, self.n, self._context)
        return self._dense(block)


@functools.cache
def nothing(dtype: np.dtype) -> Arguments:
    """Return the arguments of a term that adds nothing."""
    matrix, factors, block = (np.empty(n * (0,), dtype) for n in (2, 1, 3))
    return Arguments(
        how=0,
        address=0,
        spikes=(np.empty(0, np.int32), np.empty((0, 0), np.int64), 0),
        geometry=NO_GEOMETRY,
        ways=NO_WAYS,
        matrix=matrix,
        kernel=block,
        dense=block,
        factors=factors,
        system=(0, np.empty((0, 0)), np.empty(0), np.empty(0), np.zeros(1), False, np.empty(0)),
        states=block,
        places=np.empty(0, np.int32),
    )


def add_up(term: Arguments, steady: np.ndarray, sums: np.ndarray, kernels: ModuleType) -> None:
    """Set ``sums``, (examples, n_steps, n), to a term plus the steady part."""
    none = np.empty(0, sums.dtype)
    kernels.weigh(term, steady, (none, none), 0, 0, sums.shape[1], sums)


def _matrix_of(product: Product, n: int, context: Context) -> scipy.sparse.csr_array:
    """Return the sparse matrix of a product."""
    if product is None:
        return scipy.sparse.eye_array(n, format="csr")
    if isinstance(product, Operator):
        product = weights_of(product, context)
    return scipy.sparse.csr_array(product)


def dense_product(product: Product, n: int, context: Context) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that multiplies (…, n_inputs) and returns (…, n)."""
    if isinstance(product, GeneralConvInc):
        return dense_convolution(product, context)
    if isinstance(product, DotInc) and not isinstance(product, SparseDotInc):
        return functools.partial(_multiplied, context, weights_of(product, context))
    matrix = _matrix_of(product, n, context)
    if np.all(np.diff(matrix.indptr) == 1) and np.all(matrix.data == 1):
        return functools.partial(_taken, matrix.indices.astype(np.intp))
    runs, columns = _runs_of(matrix), matrix.indices.astype(np.int32)

    def multiply(block: np.ndarray) -> np.ndarray:
        rows, dtype = np.ascontiguousarray(block.reshape(-1, block.shape[-1])), block.dtype
        if len(runs) * _RUN > n or dtype.char not in "fd":
            found = np.ascontiguousarray((matrix.astype(dtype, copy=False) @ rows.T).T)
        else:
            found = memory.empty((len(rows), n), dtype)
            weights = matrix.data.astype(dtype, copy=False)
            context.stretch_kernels.multiply_runs(rows, runs, columns, weights, found)
        return found.reshape(*block.shape[:-1], -1)

    return multiply


def _taken(places: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Return some numbers of the last axis of (…, n_inputs)."""
    found = memory.empty((*block.shape[:-1], len(places)), block.dtype)
    # Without a mode, NumPy copies the result.
    return np.take(block, places, axis=-1, out=found, mode="clip")


def _runs_of(matrix: scipy.sparse.csr_array) -> np.ndarray:
    """Return the runs of rows that are alike but for a shift: see `multiply_runs`."""
    starts, columns, data = matrix.indptr.astype(np.int64), matrix.indices, matrix.data
    n_ways = np.diff(starts)
    # Whether each row continues the run of the row before.
    goes_on = np.concatenate([[False], n_ways[1:] == n_ways[:-1]])
    row = np.repeat(np.arange(len(n_ways)), n_ways)
    ways = np.flatnonzero(goes_on[row])
    before = ways - n_ways[row[ways]]
    differs = (columns[ways] != columns[before] + 1) | (data[ways] != data[before])
    goes_on[row[ways[differs]]] = False
    first = np.flatnonzero(~goes_on)
    length = np.diff(first, append=len(n_ways))
    return np.stack([first, length, starts[first], starts[first + 1]], axis=1)


def _multiplied(context: Context, weights: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Return the product of weights (n, n_inputs) and (…, n_inputs), fast if most are 0."""
    # As (n_inputs, n): BLAS takes either order.
    weights = weights.T.astype(block.dtype, copy=False)
    if block.ndim < 3 or weights.shape[1] < _MANY_OUTPUTS or block.dtype.char not in "fd":
        return block @ weights
    some = block[:, ::8]
    if np.count_nonzero(some) > _FEW * some.size:
        return block @ weights
    sums = memory.empty((*block.shape[:2], weights.shape[1]), block.dtype)
    block, weights = np.ascontiguousarray(block), np.ascontiguousarray(weights)
    context.stretch_kernels.multiply_nonzero(block, weights, sums)
    return sums


def _padded(rows: np.ndarray, whole: int, factor: np.floating) -> np.ndarray:
    """Return rows times a factor, zero-padded to a multiple, from a cache line on."""
    n_rows, n = rows.shape
    copy = memory.zeros((n_rows, n + -n % whole), factor.dtype)
    np.multiply(rows, factor, out=copy[:, :n])
    return copy


def _sparse_ways(
    matrix: scipy.sparse.csr_array, height: np.floating
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """Return the ways of each input through a matrix (n, n_inputs), each with its own weight."""
    by_input = scipy.sparse.csc_array(matrix)
    starts, outputs = by_input.indptr.astype(np.int64), by_input.indices.astype(np.int64)
    weights = (by_input.data * height).astype(height.dtype)
    return (starts, outputs, np.arange(len(outputs))), weights.reshape(-1, 1, 1)
