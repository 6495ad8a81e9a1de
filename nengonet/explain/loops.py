"""The rates at which a loop of connections may rest, and whether it stays there.

The state of a loop is the values that its synapses hold. One turn maps these values to those that
the synapses would finally hold if the neurons' outputs, through the weights, stayed as they are
now. A fixed point is a state that a turn does not change.
"""

from __future__ import annotations

import dataclasses
import functools
import graphlib
from collections.abc import Callable, Mapping

import numpy as np
from nengo.synapses import LinearFilter, Triangle

from nengonet.exceptions import InputError
from nengonet.explain.paths import Path
from nengonet.layers.graph import Item
from nengonet.layers.protocol import known
from nengonet.nengo_internals import state_space

# A fixed point is exact to this share of the largest value that a synapse has held.
_EQUAL = 1e-8
# Number of turns that follow the loop from its start, and of those that search elsewhere.
_FOLLOWED, _SOUGHT = 3000, 400
# The time of one turn: at first and at least, in terms of the fastest synapse's time constant, and
# at most, of the slowest's. The least becomes less in the last turns: a neuron at its threshold,
# where LIF's curve is steepest, holds nothing up before, and comes to rest then.
_FIRST, _LEAST, _LAST, _MOST = 0.2, 0.02, 1e-4, 5.0
# From images this close to rest, the search starts where they are.
_NEAR = 1e-3
# Number of earlier turns that a search remembers.
_REMEMBERED = 6
# Directions in which a small deviation is followed: where a loop holds more values, the largest
# multiplier is found within about a percent.
_DIRECTIONS = 48
# A loop whose values are this many times those of its first turn grows without end.
_ENDLESS = 1e9
# Steps for the slopes of what Nodes and functions compute, in terms of the size of their inputs.
_STEP = 1e-6
# Numbers that one chunk of images may take.
_MOST_NUMBERS = 20_000_000


class Loop:
    """Objects that feed each other, as one map of the values that their synapses hold.

    ``respond(item, drive, rows)`` returns mean outputs for the drives of some images.
    """

    def __init__(
        self,
        items: list[Item],
        inside: Mapping[Item, list[Path]],
        outside: Mapping[Item, np.ndarray],
        respond: Callable[[Item, np.ndarray, np.ndarray], np.ndarray],
        dt: float,
    ) -> None:
        self.inside, self.outside, self.respond, self.dt = inside, outside, respond, dt
        self.order = _without_delay(items, inside)
        self.held = [path for item in items for path in inside[item] if path.synapse is not None]
        ends = np.cumsum([path.width for path in self.held])
        self.at = {
            path: slice(end - path.width, end) for path, end in zip(self.held, ends, strict=True)
        }
        self.size, self.n_images = int(ends[-1]), len(next(iter(outside.values())))
        self.gains = self.spread([path.filter.gain for path in self.held])
        self.taus = np.array([max(path.filter.delay, dt) for path in self.held])

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Repeat the value of each path, on the last axis, for all values that the path holds."""
        return np.repeat(np.asarray(values), [path.width for path in self.held], axis=-1)

    def largest(self, held: np.ndarray) -> np.ndarray:
        """Return the largest size that each path holds, (n, n_paths)."""
        return np.stack([np.abs(held[:, self.at[path]]).max(axis=1) for path in self.held], axis=1)

    def driven(self, held: np.ndarray, rows: np.ndarray) -> tuple[dict, dict]:
        """Return drives and mean outputs of all objects for the present values of the synapses."""
        drives, outputs = {}, {}
        for item in self.order:
            drive = self.outside[item][rows]
            for path in self.inside[item]:
                if path in self.at:
                    drive = drive + path.into(held[:, self.at[path]])
                else:
                    drive = drive + path.into(path.carried(outputs[path.pre]))
            drives[item], outputs[item] = drive, self.respond(item, drive, rows)
        return drives, outputs

    def carried(self, outputs: Mapping[Item, np.ndarray]) -> np.ndarray:
        """Return the synapses' inputs, (n, size), for some outputs."""
        return np.concatenate([path.carried(outputs[path.pre]) for path in self.held], axis=1)

    def turn(self, held: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the values that the synapses would finally reach, given their present values."""
        return self.gains * self.carried(self.driven(held, rows)[1])


@dataclasses.dataclass(frozen=True, eq=False)
class Rest:
    """The state in which a loop comes to rest, image by image, from some start."""

    held: np.ndarray
    converged: np.ndarray
    followed: np.ndarray
    iterations: int


def _without_delay(items: list[Item], inside: Mapping[Item, list[Path]]) -> list[Item]:
    """Return the objects in order, each after those that feed it within the same step."""
    sorter = graphlib.TopologicalSorter()
    for item in items:
        sorter.add(item, *(path.pre for path in inside[item] if path.synapse is None))
    try:
        return list(sorter.static_order())
    except graphlib.CycleError as error:
        ring = " -> ".join(str(item) for item in error.args[1])
        raise InputError(
            f"{ring}: Nengo cannot build a loop of connections without a synapse; give one of them "
            "a synapse, such as 0 for a delay of one step"
        ) from None


def rest_of(
    loop: Loop, start: np.ndarray, images: np.ndarray | None = None, *, search: bool = True
) -> Rest:
    """Follow a loop from what its synapses hold at the start, (n, size), to its rest.

    ``images`` are the images of the rows; by default each row is an image of its own.

    The iteration is damped: each synapse moves by the share of the way that it would go in a
    certain time, which is shortened wherever the turns drift apart. For images that do not come to
    rest, Anderson's acceleration searches for a fixed point, which may be unstable.
    """
    images = np.arange(len(start)) if images is None else images
    held, reach = start.copy(), np.zeros((len(start), len(loop.held)))
    shortest = loop.taus.min()
    time = np.full(len(start), _FIRST * shortest)
    last, rows, turns = np.full(len(start), np.inf), np.arange(len(start)), 0
    followed = np.zeros(len(start), dtype=bool)
    while rows.size and turns < _FOLLOWED:
        turns += 1
        error = loop.turn(held[rows], images[rows]) - held[rows]
        if turns == 1:
            endless = _ENDLESS * (1 + loop.largest(held + error).max(axis=1))
        reach[rows] = np.maximum(reach[rows], loop.largest(held[rows] + error))
        ratio = _ratio(loop, error, reach[rows])
        done = ratio <= _EQUAL
        slower = ratio > last[rows]
        late = np.clip(2 * turns / _FOLLOWED - 1, 0, 1)
        least = shortest * _LEAST ** (1 - late) * _LAST**late
        time[rows] = np.clip(
            time[rows] * np.where(slower, 0.6, 1.1), least, _MOST * loop.taus.max()
        )
        last[rows] = ratio
        lost = reach[rows].max(axis=1) > endless[rows]
        share = loop.spread(-np.expm1(-time[rows, None] / loop.taus))
        held[rows] += np.where(done[:, None], 0.0, share * error)
        followed[rows[done]] = True
        rows = rows[~(done | lost)]
    converged = followed.copy()
    if rows.size and search:
        near = (last[rows] < _NEAR)[:, None]
        begin = np.where(near, held[rows], start[rows])
        held[rows], converged[rows], more = _sought(loop, begin, images[rows], reach[rows])
        turns += more
    return Rest(held, converged, followed, turns)


def _ratio(loop: Loop, error: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Return the largest difference that a turn makes, as a share of the largest values."""
    return (loop.largest(error) / np.maximum(reach, 1e-300)).max(axis=1)


def _sought(
    loop: Loop, start: np.ndarray, images: np.ndarray, reach: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Look for a fixed point, stable or not, by Anderson's acceleration of half turns."""
    scale = np.maximum(loop.spread(reach), 1e-300)
    held, best, found = start.copy(), start.copy(), np.full(len(start), np.inf)
    rows, history, turns = np.arange(len(start)), [], 0
    while rows.size and turns < _SOUGHT:
        turns += 1
        error = (loop.turn(held, images[rows]) - held) / scale[rows]
        ratio = np.abs(error).max(axis=1)
        better = ratio < found[rows]
        best[rows[better]], found[rows[better]] = held[better], ratio[better]
        go_on = ratio > _EQUAL
        history = [tuple(part[go_on] for part in turn) for turn in history]
        rows, held, error = rows[go_on], held[go_on], error[go_on]
        history = [*history, (held / scale[rows], error)][-_REMEMBERED - 1 :]
        values, errors = (np.stack(parts) for parts in zip(*history, strict=True))
        moves, changes = np.diff(values, axis=0), np.diff(errors, axis=0)
        step = 0.5 * error
        if len(moves):
            square = np.einsum("ani,bni->nab", changes, changes)
            size = np.trace(square, axis1=1, axis2=2)[:, None, None]
            square = square + (1e-13 * size + 1e-300) * np.eye(len(moves))
            target = np.einsum("ani,ni->na", changes, error)
            weights = np.linalg.solve(square, target[..., None])[..., 0]
            step = step - np.einsum("na,ani->ni", weights, moves + 0.5 * changes)
        # Not beyond the values seen so far.
        step /= np.maximum(np.abs(step).max(axis=1, keepdims=True, initial=0.0), 1.0)
        held = held + scale[rows] * step
    return best, found <= _EQUAL, turns


def multipliers(
    loop: Loop, held: np.ndarray, images: np.ndarray, slopes: Mapping[Item, np.ndarray]
) -> np.ndarray:
    """Return the largest factor by which a step multiplies a small deviation, for some images.

    It is the spectral radius of one step of the simulation: synapses as Nengo steps them, neurons
    at the rates of their currents, and one step of delay at each synapse. ``slopes`` are the slopes
    of the neurons' mean outputs over their drives. Arnoldi's method finds it from products alone.
    """
    systems = [_system(path, loop.dt) for path in loop.held]
    size = sum(len(a) * path.width for (a, _, _), path in zip(systems, loop.held, strict=True))
    n_directions = min(size, _DIRECTIONS)
    n_chunk = max(1, _MOST_NUMBERS // (size * (n_directions + 1)))
    found = []
    for first in range(0, len(images), n_chunk):
        rows = images[first : first + n_chunk]
        step = _linearised(loop, held[rows], rows, systems, slopes)
        found.append(_spectral_radius(step, len(rows), size, n_directions))
    return np.concatenate(found)


def _linearised(
    loop: Loop, held: np.ndarray, rows: np.ndarray, systems: list, slopes: Mapping[Item, np.ndarray]
) -> Callable:
    """Return a function that applies one step to a deviation of synapse states, (n, size)."""
    drives, outputs = loop.driven(held, rows)

    def turned(moved: np.ndarray) -> np.ndarray:
        """Return the change of the synapses' inputs."""
        ways = {}
        for item in loop.order:
            way = np.zeros(drives[item].shape)
            for path in loop.inside[item]:
                if path in loop.at:
                    way += path.into(moved[:, loop.at[path]])
                else:
                    way += path.into(_slope(path.carried, outputs[path.pre], ways[path.pre]))
            if item in slopes:
                ways[item] = slopes[item][rows] * way
            else:
                respond = functools.partial(loop.respond, item, rows=rows)
                ways[item] = _slope(respond, drives[item], way)
        carried = [_slope(path.carried, outputs[path.pre], ways[path.pre]) for path in loop.held]
        return np.concatenate(carried, axis=1)

    def step(states: np.ndarray) -> np.ndarray:
        parts, at = [], 0
        for (a, _, _), path in zip(systems, loop.held, strict=True):
            end = at + len(a) * path.width
            parts.append(states[:, at:end].reshape(-1, len(a), path.width))
            at = end
        put_out = [part.swapaxes(1, 2) @ c for part, (_, _, c) in zip(parts, systems, strict=True)]
        given = turned(np.concatenate(put_out, axis=1))
        made = [
            np.einsum("jk,nkw->njw", a, part) + b[:, None] * given[:, None, loop.at[path]]
            for (a, b, _), part, path in zip(systems, parts, loop.held, strict=True)
        ]
        return np.concatenate([each.reshape(len(states), -1) for each in made], axis=1)

    return step


def _slope(function: Callable, at: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Return the change of a function of rows along a small step from where they are."""
    size = np.abs(way).max(axis=1, keepdims=True, initial=0.0)
    step = _STEP * (1 + np.abs(at).max(axis=1, keepdims=True, initial=0.0))
    by = step * way / np.where(size == 0, 1.0, size)
    return (function(at + by) - function(at - by)) * size / (2 * step)


def _spectral_radius(step: Callable, n: int, size: int, n_directions: int) -> np.ndarray:
    """Return the largest size of an eigenvalue of a linear map, for each of n images."""
    basis = np.zeros((n_directions + 1, n, size))
    basis[0] = np.random.default_rng(0).standard_normal((n, size))
    basis[0] /= np.linalg.norm(basis[0], axis=1, keepdims=True)
    matrix = np.zeros((n, n_directions + 1, n_directions))
    for k in range(n_directions):
        made = step(basis[k])
        size_made = np.linalg.norm(made, axis=1)
        for _ in range(2):  # the second time removes rounding errors
            parts = np.einsum("kni,ni->nk", basis[: k + 1], made)
            matrix[:, : k + 1, k] += parts
            made = made - np.einsum("nk,kni->ni", parts, basis[: k + 1])
        left = np.linalg.norm(made, axis=1)
        new = left > 1e-9 * np.maximum(size_made, 1e-300)
        matrix[new, k + 1, k] = left[new]
        basis[k + 1, new] = made[new] / left[new, None]
    return np.abs(np.linalg.eigvals(matrix[:, :-1])).max(axis=1)


def _system(path: Path, dt: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A, B and C of ``x = A x + B u``, whose ``C x`` a synapse outputs a step later."""
    synapse = path.synapse
    if known(synapse, "filter") is None and type(synapse).make_step is Triangle.make_step:
        taps = np.arange(int(np.round(synapse.t / dt)) + 1, 0, -1, dtype=np.float64)
        return np.eye(len(taps), k=-1), np.eye(len(taps))[0], taps / taps.sum()
    if known(synapse, "filter") is not None or not isinstance(synapse, LinearFilter):
        # A synapse that only states its effect on a mean is taken as a low-pass with its delay.
        left = np.exp(-dt / path.filter.delay) if path.filter.delay > 0 else 0.0
        return np.array([[left]]), np.array([(1 - left) * path.filter.gain]), np.ones(1)
    a, b, c, d = state_space(synapse, dt)
    b, c = b.reshape(-1), c.reshape(-1)
    if not d.any():
        return a, b, c
    n = len(a)
    whole = np.zeros((n + 1, n + 1))
    whole[:n, :n], whole[n, :n] = a, c
    return whole, np.append(b, d.item()), np.eye(n + 1)[n]
