"""Stages that pass listed spikes on: through a matrix of equal weights, or a max pool."""

from __future__ import annotations

import functools

import numpy as np
import scipy.sparse
from nengo.builder.processes import SimProcess
from nengo.builder.signal import Signal

from nengonet.layers.pools import KINDS
from nengonet.minibatch import memory
from nengonet.minibatch.registry import Context
from nengonet.minibatch.stages import Linear, Stage, Stepwise
from nengonet.minibatch.streams import Mixture, Spikes
from nengonet.minibatch.terms import Term


class _Passing(Stage):
    """What passes listed spikes of a ``_source`` on through a ``_matrix``."""

    _source: Stage | None
    _matrix: scipy.sparse.sparray

    @functools.cached_property
    def _ways(self) -> tuple:
        """The ways of spikes, available once all readers have asked for their order."""
        kernels = self.context.stretch_kernels
        return kernels.ways_of(self._matrix, self.n_ordered, self._source.n_ordered)

    def _room(self, stream: Spikes) -> np.ndarray:
        """Return memory for the spikes that come out."""
        return memory.empty(
            (stream.n * self._ways.most + self.context.stretch_kernels.SLACK,), np.int32
        )

    @property
    def n_ordered(self):
        """Return the order that readers asked for."""
        return max(self.n_channels, 1)


class Relay(_Passing):
    """Spikes that pass through a matrix whose weights are 0 or all of one size."""

    def __init__(
        self, output: Signal, context: Context, source: Stage, matrix: scipy.sparse.sparray
    ) -> None:
        super().__init__(output, context)
        self._source, factor = source, matrix.data[:1].sum()
        self.is_steady = source.is_steady
        self.height = None if source.height is None else self.dtype.type(source.height * factor)
        self._dense = Term(source, output.size, context, product=matrix).computed
        self._matrix = matrix

    @property
    def sources(self):
        """Return the stage whose spikes come in."""
        return [self._source]

    def run(self, chunk):
        """Pass spikes on."""
        stream, kernels = chunk.streams[self._source], self.context.stretch_kernels
        if isinstance(stream, Mixture):
            return stream._replace(parts=self._dense(stream.parts))
        if not isinstance(stream, Spikes):
            return self._dense(stream)
        spikes = stream.rows, stream.bounds, stream.first, chunk.n_steps
        rows, bounds = kernels.relay_stretch(*spikes, self._ways, self._room(stream))
        return Spikes(rows, bounds, 0, self.height)


class MaximumPool(_Passing, Stepwise):
    """A max pool, over listed spikes if possible, else step by step."""

    def __init__(self, operator: SimProcess, context: Context, source: Linear) -> None:
        super().__init__(operator, context, source)
        pool = operator.process
        inputs = np.arange(operator.input.size).reshape(pool.image_shape)
        outputs = np.arange(operator.output.size).reshape(pool.shape_out)
        pairs = [(outputs[there].ravel(), inputs[here].ravel()) for there, here in pool.places]
        rows, columns = np.concatenate(pairs, axis=1)
        shape = operator.output.size, operator.input.size
        self._matrix = scipy.sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape)
        self._source, self._kind = self._only_source(), KINDS.index(pool.kind)
        self.is_block = self._source is None
        amplitude = pool.amplitude
        self.height = None if amplitude is None else self.dtype.type(amplitude / context.dt)

    def _only_source(self) -> Stage | None:
        """Return the stage whose spikes come in unchanged, if there is one."""
        terms = self._linear.terms
        return terms[0].source if len(terms) == 1 and self._linear.is_identity else None

    def run(self, chunk):
        """Compare the spikes that have come in so far."""
        stream = chunk.streams.get(self._source)
        if not isinstance(stream, Spikes) or stream.height != self.height:
            return super().run(chunk)
        kernels, kept = self.context.stretch_kernels, chunk.states[self]
        states = dict(zip(self._states, kept, strict=False))
        # One example after the other. For the kind without states, these are working memory.
        sums, sent = (
            np.ascontiguousarray(states.get(name, np.zeros((n, chunk.n), self.dtype)).T)
            for name, n in (("sums", self.operator.input.size), ("sent", self.output.size))
        )
        spikes = stream.rows, stream.bounds, stream.first, chunk.n_steps
        room = self._room(stream)
        rows, bounds = kernels.pool_stretch(self._kind, *spikes, self._ways, sums, sent, room)
        for name, copy in (("sums", sums), ("sent", sent)):
            if name in states:
                states[name][...] = copy.T
        return Spikes(rows, bounds, 0, self.height)
