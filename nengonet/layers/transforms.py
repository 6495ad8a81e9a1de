"""How a connection transforms values, and which of its weights a spike reaches."""

from __future__ import annotations

import nengo
import numpy as np
import scipy.sparse
from nengo.builder.transforms import conv2d_gradx
from nengo.connection import Neurons
from nengo.dists import Distribution

from nengonet.ann.convolution import convolve
from nengonet.exceptions import InputError
from nengonet.layers.protocol import known


class Between:
    """The operations of a connection between its two ends: a slice, a transform, a slice.

    ``pre`` and ``post`` are pairs: the size of the object at that end, and the slice of it.
    ``init`` holds the weights that the build drew, if it draws them.
    """

    def __init__(
        self,
        connection: nengo.Connection,
        pre: tuple[int, object],
        post: tuple[int, object],
        init: object = None,
    ) -> None:
        self._transform = _known_transform(connection, init)
        self._take, self._give = _selection(*pre), _selection(*post).T
        expected = self._take.shape[0], self._give.shape[1]
        found = connection.transform.size_in, connection.transform.size_out
        if found != expected:
            raise InputError(
                f"{connection}: expected a transform of {expected[0]} inputs and {expected[1]} "
                f"outputs, got {found[0]} and {found[1]}"
            )
        ends = (self._take, pre[1]), (self._give, post[1])
        self._is_whole = all(isinstance(each, slice) and each == slice(None) for _, each in ends)
        # An index that occurs several times adds up before a variance is squared.
        self._repeats = any(each.sum(axis=k).max(initial=0) > 1 for k, (each, _) in enumerate(ends))

    def apply(self, values: np.ndarray, power: int = 1) -> np.ndarray:
        """Return the input of ``post``, (n_samples, n_post), for values (n_samples, n_pre).

        The weights are taken to a power: 2 for variances.
        """
        if self._is_whole:
            return self._transform.apply(values, power)
        if power != 1 and self._repeats:
            return (self.matrix().power(power) @ values.T).T
        return (self._give @ self._transform.apply((self._take @ values.T).T, power).T).T

    def matrix(self) -> scipy.sparse.csr_array:
        """Return all weights, slices included, as a sparse (n_post, n_pre) matrix."""
        made = self._transform.apply(np.eye(self._take.shape[0]), 1).T
        return scipy.sparse.csr_array(self._give @ scipy.sparse.csr_array(made) @ self._take)


class Weights(Between):
    """The operations of a connection on the whole output of its pre object: slices and transform.

    Refuses, by name, a connection that is not from a Node or neurons to a Node or neurons, and
    weights that are unknown before the build.
    """

    def __init__(self, connection: nengo.Connection) -> None:
        _check_plain(connection)
        pre = connection.pre_obj.size_out, connection.pre_slice
        super().__init__(connection, pre, (connection.post_obj.size_in, connection.post_slice))

    def reached(self, after: np.ndarray) -> np.ndarray:
        """Sum ``after``, (n_post,), over the weights other than 0 of each input."""
        after, reached = self._give.T @ after, known(self._transform, "reached")
        if reached is None:
            sums = (self._transform.apply(np.eye(self._take.shape[0]), 1) != 0) @ after
        else:
            sums = reached(after)
        return self._take.T @ sums


def _selection(size: int, chosen: object) -> scipy.sparse.csr_array:
    """Return the matrix that takes some of the elements of a vector."""
    indices = np.arange(size)[chosen].ravel()
    places = np.arange(indices.size), indices
    return scipy.sparse.csr_array((np.ones(indices.size), places), (indices.size, size))


def _check_plain(connection: nengo.Connection) -> None:
    """Refuse connections that do more than weight the output of Nodes or neurons."""
    what = None
    if connection.learning_rule_type is not None:
        what = "a connection with a learning rule"
    elif isinstance(connection.pre_obj, nengo.Ensemble):
        what = "a decoded connection; connect from .neurons"
    elif isinstance(connection.post_obj, nengo.Ensemble):
        what = "a connection through encoders; connect to .neurons"
    elif not isinstance(connection.post_obj, (Neurons, nengo.Node)):
        what = f"a connection to {connection.post_obj}"
    elif connection.function is not None:
        what = "a connection that computes a function"
    if what is not None:
        raise InputError(f"{connection}: cannot predict {what}")


def is_drawn(transform: nengo.transforms.Transform) -> bool:
    """Whether the build draws the weights of a transform at random."""
    init = getattr(transform, "init", None)
    return any(isinstance(each, Distribution) for each in (init, getattr(init, "data", None)))


def _known_transform(connection: nengo.Connection, init: object = None) -> object:
    """Return the object that applies a transform; refuse unknown and randomly drawn ones."""
    transform = connection.transform
    if known(transform, "apply") is not None:
        return transform
    family = _FAMILIES.get(type(transform).sample)
    drawn = init is None and is_drawn(transform)
    if family is None or drawn or getattr(transform, "dimensions", 1) > 2:
        raise InputError(
            f"{connection}: cannot predict the transform {type(transform).__name__}; "
            "expected a matrix, a convolution over one or two dimensions, or none"
            + (", of stated weights" if drawn else "")
        )
    return family(transform, getattr(transform, "init", None) if init is None else init)


class _Plain:
    """No transform."""

    def __init__(self, transform: nengo.transforms.NoTransform, init: object) -> None:
        pass

    def apply(self, values: np.ndarray, power: int) -> np.ndarray:
        return values

    def reached(self, after: np.ndarray) -> np.ndarray:
        return after


class _Matrix:
    """A matrix, a diagonal or a number; dense or sparse."""

    def __init__(self, transform: nengo.Dense | nengo.Sparse, init: object) -> None:
        if isinstance(transform, nengo.Sparse):
            matrix = init if is_drawn(transform) else transform.sample()
            matrix = matrix if scipy.sparse.issparse(matrix) else matrix.allocate()
        else:
            matrix = np.asarray(init, dtype=np.float64)
            if matrix.ndim == 2:
                self._matrix = matrix
                return
            matrix = scipy.sparse.diags_array(np.broadcast_to(matrix, transform.size_in))
        self._matrix = scipy.sparse.csr_array(matrix)

    def apply(self, values: np.ndarray, power: int) -> np.ndarray:
        if scipy.sparse.issparse(self._matrix):
            return (self._matrix.power(power) @ values.T).T
        return values @ (self._matrix**power).T

    def reached(self, after: np.ndarray) -> np.ndarray:
        matrix = self._matrix
        if isinstance(matrix, np.ndarray) and np.count_nonzero(matrix) == matrix.size:
            return np.full(matrix.shape[1], after.sum())
        return (matrix != 0).astype(np.float64).T @ after


class _Convolution:
    """A convolution over one or two dimensions, or a transposed one."""

    def __init__(
        self, transform: nengo.Convolution | nengo.ConvolutionTranspose, init: object
    ) -> None:
        self._transform = transform
        self._is_transposed = isinstance(transform, nengo.ConvolutionTranspose)
        self._kernel = np.asarray(init, dtype=np.float64)

    def apply(self, values: np.ndarray, power: int) -> np.ndarray:
        shapes = self._transform.input_shape, self._transform.output_shape
        return self._convolved(values, self._kernel**power, *shapes, back=self._is_transposed)

    def reached(self, after: np.ndarray) -> np.ndarray:
        kernel = np.swapaxes(self._kernel != 0, -1, -2).astype(np.float64)
        shapes = self._transform.output_shape, self._transform.input_shape
        return self._convolved(after, kernel, *shapes, back=not self._is_transposed)[0]

    def _convolved(self, values, kernel, before, after, *, back: bool) -> np.ndarray:
        """Convolve, or map the outputs of a convolution back to its inputs."""
        images = values.reshape(-1, *before.shape)
        images = images if before.channels_last else np.moveaxis(images, 1, -1)
        strides, size = self._transform.strides, after.spatial_shape
        if self._transform.dimensions == 1:
            images, kernel = images[:, np.newaxis], kernel[np.newaxis]
            strides, size = (1, *strides), (1, *size)
        padding, groups = self._transform.padding, getattr(self._transform, "groups", 1)
        if back:
            settings = {"xsize": size, "pad": padding.upper(), "stride": strides}
            parts = zip(np.split(kernel, groups, 2), np.split(images, groups, 3), strict=True)
            made = [conv2d_gradx(k, np.ascontiguousarray(x), **settings) for k, x in parts]
            made = np.concatenate(made, axis=-1)
        else:
            made = convolve(images, kernel, strides=strides, padding=padding, groups=groups)
        made = made if after.channels_last else np.moveaxis(made, -1, 1)
        return made.reshape(len(images), -1)


_FAMILIES = {
    nengo.transforms.NoTransform.sample: _Plain,
    nengo.Dense.sample: _Matrix,
    nengo.Sparse.sample: _Matrix,
    nengo.Convolution.sample: _Convolution,
}
