"""One reading of a network: what feeds what, through which weights and which filter.

Whatever describes a network (prediction, findings, operations, the ANN, what `present` records)
reads it here, from Nengo's objects, when it is needed.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property

import nengo
import numpy as np
import scipy.linalg
import scipy.sparse
from nengo.base import ObjView
from nengo.builder.transforms import conv2d_gradx
from nengo.connection import Neurons
from nengo.dists import Choice, Distribution, Exponential, Gaussian, Uniform
from nengo.processes import FilteredNoise, WhiteNoise
from nengo.synapses import LinearFilter, Synapse, Triangle
from nengo.transforms import Transform

from nengonet.ann.convolution import conv2d, padding_of
from nengonet.checks import described
from nengonet.exceptions import InputError
from nengonet.nengo_internals import state_space
from nengonet.neurons import model_of

# Poles this close to 1 never forget what came in.
_NEVER_FORGETS = 1e-9


def owner(item: object) -> nengo.Ensemble | nengo.Node:
    """Return the Ensemble or Node that a view, neurons or the object itself belong to."""
    item = item.obj if isinstance(item, ObjView) else item
    return item.ensemble if isinstance(item, Neurons) else item


def as_network(network: nengo.Network) -> nengo.Network:
    """Check that this is a network."""
    if not isinstance(network, nengo.Network):
        raise InputError(f"network: expected a nengo.Network, got {described(network)}")
    return network


class Graph:
    """The connections of a network, by what they feed."""

    def __init__(self, network: nengo.Network) -> None:
        network = as_network(network)
        self.objects = {*network.all_ensembles, *network.all_nodes}
        self._into: dict[object, list[nengo.Connection]] = {}
        self._out_of: dict[object, list[nengo.Connection]] = {}
        for connection in network.all_connections:
            self._into.setdefault(owner(connection.post_obj), []).append(connection)
        for connections in list(self._into.values()):
            for connection in connections:
                if not self._is_nothing(connection):
                    pre = owner(connection.pre_obj)
                    self._out_of.setdefault(pre, []).append(connection)

    def into(self, item: nengo.Ensemble | nengo.Node) -> list[nengo.Connection]:
        """Return the connections that feed an object, in the network's order.

        Those from Nodes that only pass on what comes in, and that nothing feeds, carry nothing
        and are left out: an EnsembleArray has such Nodes.
        """
        return [each for each in self._into.get(item, ()) if not self._is_nothing(each)]

    def out_of(self, item: nengo.Ensemble | nengo.Node) -> list[nengo.Connection]:
        """Return the connections that an object feeds, in the order of what they feed."""
        return self._out_of.get(item, [])

    def _is_nothing(self, connection: nengo.Connection, seen: tuple = ()) -> bool:
        node = connection.pre_obj
        if node in seen:
            return True
        if not isinstance(node, nengo.Node) or node.output is not None or connection.function:
            return False
        return all(self._is_nothing(each, (*seen, node)) for each in self._into.get(node, ()))

    def upstream(
        self, *items: nengo.Ensemble | nengo.Node
    ) -> tuple[list[nengo.Ensemble | nengo.Node], set[nengo.Ensemble | nengo.Node]]:
        """Return what some objects depend on, and they themselves, each after what feeds it."""
        order, done, under_way, recurrent = [], set(), {}, set()
        for item in items:
            waiting = [item]
            while waiting:
                item = waiting[-1]
                if item in done:
                    waiting.pop()
                    continue
                if item not in under_way:
                    under_way[item] = iter([owner(each.pre_obj) for each in self.into(item)])
                for pre in under_way[item]:
                    if pre in under_way:
                        recurrent.add(pre)
                    elif pre not in done:
                        waiting.append(pre)
                        break
                else:
                    waiting.pop()
                    del under_way[item]
                    done.add(item)
                    order.append(item)
        return order, recurrent

    def spike_area(self, item: nengo.Ensemble | nengo.Node) -> float | None:
        """Return the area of one spike that an object puts out; None where it does not spike.

        A Node that passes its input on, or a max pool, puts out spikes where spikes of one area
        come in unchanged.
        """
        return self._spike_area(item, ())

    def _spike_area(self, item, seen) -> float | None:
        if isinstance(item, nengo.Ensemble):
            return model_of(item.neuron_type).amplitude if item.neuron_type.spiking else None
        if item.size_in == 0:
            return getattr(analytic(item.output), "amplitude", None)
        if item in seen or not passes_spikes(item):
            return None
        areas = {
            None if alters(each) else self._spike_area(owner(each.pre_obj), (*seen, item))
            for each in self.into(item)
        }
        return areas.pop() if len(areas) == 1 else None

    def may_be_negative(self, item: nengo.Ensemble | nengo.Node) -> bool:
        """Return whether an object that spikes may send spikes below 0.

        So do ``Tanh`` neurons, wrapped; and ``SpikingRectifiedLinear`` with a first voltage below
        0, once.
        """
        return self._may_be_negative(item, ())

    def _may_be_negative(self, item, seen) -> bool:
        if isinstance(item, nengo.Ensemble):
            first = (item.neuron_type.initial_state or {}).get("voltage", Choice([0.0]))
            return bool(item.neuron_type.negative) or _may_draw_below_0(first)
        return item not in seen and any(
            self._may_be_negative(owner(each.pre_obj), (*seen, item)) for each in self.into(item)
        )


def _may_draw_below_0(values: Distribution | np.ndarray) -> bool:
    if isinstance(values, Distribution):
        lowest = {Choice: "options", Uniform: "low"}.get(type(values))
        return lowest is None or bool(np.min(getattr(values, lowest)) < 0)
    return bool(np.min(values) < 0)


def passes_spikes(node: nengo.Node) -> bool:
    """Whether a Node puts out whole spikes where whole spikes come in."""
    return node.output is None or getattr(analytic(node.output), "passes_spikes", False)


def alters(connection: nengo.Connection) -> bool:
    """Whether a connection makes anything but the same spikes of spikes."""
    plain = isinstance(connection.transform, nengo.transforms.NoTransform)
    from_units = isinstance(connection.pre_obj, (Neurons, nengo.Node))
    return not (plain and from_units and connection.function is None and connection.synapse is None)


def has_weights(connection: nengo.Connection) -> bool:
    """Whether a connection multiplies: it is neither plain nor the matrix of an average pool."""
    transform = connection.transform
    return not isinstance(transform, nengo.transforms.NoTransform) and not hasattr(
        transform, "pool"
    )


def analytic(output: object) -> object | None:
    """Return what a Node runs, where nengonet knows what it computes; else None.

    A subclass that steps in a way of its own is unknown, until it says what that makes of a mean
    and a variance.
    """
    steps = "make_step" if isinstance(output, nengo.Process) else "__call__"
    for parent in type(output).__mro__:
        if "moments" in vars(parent) or "mean_output" in vars(parent):
            return output
        if steps in vars(parent):
            return None
    return None


class Weights:
    """What a connection makes of all that its pre object puts out: slices and transform.

    Parameters
    ----------
    connection : nengo.Connection
        From a Node or neurons, to a Node or neurons.

    Raises
    ------
    InputError
        What it does is unknown before the build, or unknown; the connection is named.
    """

    def __init__(self, connection: nengo.Connection) -> None:
        _check_plain(connection)
        self.connection, self.transform = connection, connection.transform
        self._sizes = connection.pre_obj.size_out, connection.post_obj.size_in
        self._from, self._to = (
            np.arange(size)[chosen].ravel()
            for size, chosen in zip(
                self._sizes, (connection.pre_slice, connection.post_slice), strict=True
            )
        )
        _check_known(connection)
        sizes = self.transform.size_in, self.transform.size_out
        if sizes != (self._from.size, self._to.size):
            raise InputError(
                f"{connection}: expected a transform of {self._from.size} inputs and "
                f"{self._to.size} outputs, got {sizes[0]} and {sizes[1]}"
            )

    @cached_property
    def _repeats(self) -> bool:
        return any(np.unique(each).size < each.size for each in (self._from, self._to))

    def apply(self, values: np.ndarray, power: int = 1) -> np.ndarray:
        """Return what comes in at the post object, with the weights to some power.

        Parameters
        ----------
        values : (n_samples, n_pre) ndarray
        power : {1, 2}
            2 for variances.

        Returns
        -------
        values : (n_samples, n_post) ndarray
        """
        if power != 1 and self._repeats:
            return (self.matrix().power(power) @ values.T).T
        if not _is_all(self._from, self._sizes[0]):
            values = values[:, self._from]
        made = _transformed(self.transform, values, power)
        return made if _is_all(self._to, self._sizes[1]) else self._spread(made, self._to, 1)

    def _spread(self, values: np.ndarray, where: np.ndarray, end: int) -> np.ndarray:
        """Add columns up where they belong; one index may come several times."""
        spread = np.zeros((len(values), self._sizes[end]))
        np.add.at(spread, (slice(None), where), values)
        return spread

    def matrix(self) -> scipy.sparse.csr_array:
        """Return all weights, slices included, as a sparse (n_post, n_pre) matrix."""
        made = scipy.sparse.csr_array(_transformed(self.transform, np.eye(self._from.size), 1).T)
        take, give = (
            scipy.sparse.csr_array(
                (np.ones(each.size), (each, np.arange(each.size))), (n, each.size)
            )
            for each, n in zip((self._from, self._to), self._sizes, strict=True)
        )
        return scipy.sparse.csr_array(give @ made @ take.T)

    def reached(self, after: np.ndarray) -> np.ndarray:
        """Sum what lies behind the weights other than 0 that each input has.

        Parameters
        ----------
        after : (n_post,) ndarray

        Returns
        -------
        sums : (n_pre,) ndarray
        """
        sums = _reached(self.transform, np.asarray(after, dtype=np.float64)[self._to])
        return self._spread(sums[np.newaxis], self._from, 0)[0]


def _is_all(indices: np.ndarray, size: int) -> bool:
    return indices.size == size and np.array_equal(indices, np.arange(size))


def _check_plain(connection: nengo.Connection) -> None:
    """Refuse connections that do more than weigh what Nodes or neurons put out."""
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


def _check_known(connection: nengo.Connection) -> None:
    """Refuse transforms that are unknown, drawn by the build, or of too many dimensions."""
    transform = connection.transform
    known = (
        nengo.Dense,
        nengo.Sparse,
        nengo.Convolution,
        nengo.ConvolutionTranspose,
        nengo.transforms.NoTransform,
    )
    parent = next((each for each in known if isinstance(transform, each)), None)
    init = getattr(transform, "init", None)
    drawn = any(isinstance(each, Distribution) for each in (init, getattr(init, "data", None)))
    stepped_alike = parent is not None and type(transform).sample is parent.sample
    if not stepped_alike or drawn or getattr(transform, "dimensions", 1) > 2:
        raise InputError(
            f"{connection}: cannot predict the transform {type(transform).__name__}; "
            "expected a matrix, a convolution over one or two dimensions, or none"
            + (", of stated weights" if drawn else "")
        )


def _transformed(transform: Transform, values: np.ndarray, power: int) -> np.ndarray:
    """Return what a transform makes of every row of values, with its weights to some power."""
    if isinstance(transform, nengo.transforms.NoTransform):
        return values
    if isinstance(transform, nengo.Sparse):
        matrix = transform.sample()
        matrix = matrix if scipy.sparse.issparse(matrix) else matrix.allocate()
        return (scipy.sparse.csr_array(matrix).power(power) @ values.T).T
    weights = np.asarray(transform.init, dtype=np.float64) ** power
    if isinstance(transform, nengo.Dense):
        # One number, or a diagonal.
        return values @ weights.T if weights.ndim == 2 else values * weights
    return _convolved(transform, weights, values)


def _convolved(transform: Transform, kernel: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the convolution of every row of values, in the transform's flat order."""
    strides, rows_columns = transform.strides, transform.output_shape.spatial_shape
    images = values.reshape(len(values), *transform.input_shape.shape)
    if not transform.channels_last:
        images = np.moveaxis(images, 1, -1)
    if transform.dimensions == 1:
        images, kernel = images[:, np.newaxis], kernel[np.newaxis]
        strides, rows_columns = (1, *strides), (1, *rows_columns)
    if isinstance(transform, nengo.ConvolutionTranspose):
        images = np.ascontiguousarray(images)
        found = conv2d_gradx(
            kernel, images, xsize=rows_columns, pad=transform.padding.upper(), stride=strides
        )
    else:
        settings = {"padding": transform.padding, "groups": transform.groups}
        found = conv2d(images, kernel, strides=strides, **settings)
    if not transform.channels_last:
        found = np.moveaxis(found, -1, 1)
    return found.reshape(len(values), -1)


def _reached(transform: Transform, after: np.ndarray) -> np.ndarray:
    """Return the sum of ``after`` over the weights other than 0 of every input."""
    if isinstance(transform, nengo.transforms.NoTransform):
        return after
    if isinstance(transform, nengo.Sparse):
        matrix = transform.sample()
        matrix = matrix if scipy.sparse.issparse(matrix) else matrix.allocate()
        return (scipy.sparse.csr_array(matrix) != 0).T @ after
    nonzero = (np.asarray(transform.init) != 0).astype(np.float64)
    if isinstance(transform, nengo.Dense):
        return after @ nonzero if nonzero.ndim == 2 else nonzero * after
    if isinstance(transform, nengo.ConvolutionTranspose):
        return _convolved(transform, nonzero, np.eye(transform.size_in)) @ after
    return _reached_by_convolution(transform, nonzero, after)


def _reached_by_convolution(
    transform: nengo.Convolution, nonzero: np.ndarray, after: np.ndarray
) -> np.ndarray:
    shape, strides = transform.input_shape.spatial_shape, transform.strides
    after = after.reshape(transform.output_shape.shape)
    if not transform.channels_last:
        after = np.moveaxis(after, 0, -1)
    if transform.dimensions == 1:
        after, nonzero = after[np.newaxis], nonzero[np.newaxis]
        shape, strides = (1, *shape), (1, *strides)
    (top, bottom), (left, right) = padding_of(shape, nonzero.shape[:2], strides, transform.padding)
    (rows, columns), (n_rows, n_columns, n_filters) = shape, after.shape
    found = np.zeros(
        (rows + top + bottom, columns + left + right, transform.input_shape.n_channels)
    )
    # The filters of a group see that group's channels only.
    groups = transform.groups
    after = after.reshape(n_rows, n_columns, groups, n_filters // groups)
    nonzero = nonzero.reshape(*nonzero.shape[:3], groups, n_filters // groups)
    for row, column in np.ndindex(nonzero.shape[:2]):
        reached = np.einsum("rcgf,igf->rcgi", after, nonzero[row, column])
        found[
            row : row + strides[0] * n_rows : strides[0],
            column : column + strides[1] * n_columns : strides[1],
        ] += reached.reshape(n_rows, n_columns, -1)
    found = found[top : top + rows, left : left + columns]
    return (found if transform.channels_last else np.moveaxis(found, -1, 0)).reshape(-1)


@dataclasses.dataclass(frozen=True)
class Filter:
    """What a synapse makes of a mean and of the variance of independent steps."""

    gain: float = 1.0
    power: float = 1.0
    delay: float = 0.0


def filter_of(synapse: Synapse | None, dt: float) -> Filter:
    """Return what a synapse does, as Nengo steps it."""
    if synapse is None:
        return Filter()
    steps = type(synapse).make_step
    if steps is Triangle.make_step:
        taps = np.arange(int(np.round(synapse.t / dt)) + 1, 0, -1, dtype=np.float64)
        return Filter(1.0, float(((taps / taps.sum()) ** 2).sum()), synapse.t)
    if not isinstance(synapse, LinearFilter) or steps is not LinearFilter.make_step:
        raise InputError(f"cannot predict the synapse {synapse}")
    try:
        a, b, c, d = state_space(synapse, dt)
    except ValueError as error:
        raise InputError(f"Nengo cannot step the synapse {synapse} ({error})") from None
    if not len(a):
        return Filter(d.item(), d.item() ** 2)
    largest = np.abs(np.linalg.eigvals(a)).max()
    if largest > 1 - _NEVER_FORGETS:
        what = "integrates" if largest < 1 + _NEVER_FORGETS else "is unstable"
        raise InputError(f"cannot predict a synapse that {what} ({synapse})")
    gain = (c @ np.linalg.solve(np.eye(len(a)) - a, b) + d).item()
    power = (c @ scipy.linalg.solve_discrete_lyapunov(a, b @ b.T) @ c.T + d**2).item()
    return Filter(gain, power, _delay(synapse, dt))


def _delay(synapse: LinearFilter, dt: float) -> float:
    """Return how much later a slow input comes out; 0 for a filter without a mean."""
    num, den = np.poly1d(synapse.num), np.poly1d(synapse.den)
    at = 0.0 if synapse.analog else 1.0
    if num(at) == 0:
        return 0.0
    late = den.deriv()(at) / den(at) - num.deriv()(at) / num(at)
    return float(late if synapse.analog else dt * late)


def noise_of(process: nengo.Process, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of a step of the noise that an Ensemble adds to its currents."""
    steps = type(process).make_step
    if steps not in (WhiteNoise.make_step, FilteredNoise.make_step):
        raise InputError(
            f"cannot predict the noise {process}; expected WhiteNoise or FilteredNoise"
        )
    mean, variance = _moments(process.dist)
    scale = 1.0 / dt if process.scale else 1.0
    after = filter_of(getattr(process, "synapse", None), dt)
    return after.gain * np.sqrt(scale) * mean, after.power * scale * variance


def _moments(distribution: Distribution) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of what a distribution draws."""
    kind = type(distribution)
    if kind is Uniform and not distribution.integer:
        low, high = distribution.low, distribution.high
        return (low + high) / 2, (high - low) ** 2 / 12
    if kind is Gaussian:
        return distribution.mean, distribution.std**2
    if kind is Exponential and distribution.high == np.inf:
        return distribution.shift + distribution.scale, distribution.scale**2
    if kind is Choice:
        options = distribution.options.reshape(len(distribution.options), -1)
        mean = distribution.p @ options
        return mean, distribution.p @ (options - mean) ** 2
    raise InputError(
        f"cannot predict noise drawn from {distribution}; expected Gaussian, Uniform, "
        "Exponential or Choice"
    )
