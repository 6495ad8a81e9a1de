"""Prediction of objects that feed each other: from the map of a loop to each of its layers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import nengo
import numpy as np
import scipy

from nengonet.explain.fixed_points import FixedPoint
from nengonet.explain.loops import Loop, Rest, multipliers, rest_of
from nengonet.layers.filters import noise_of
from nengonet.layers.graph import Item
from nengonet.neurons import SteppedModel, model_of
from nengonet.neurons.model import spread

if TYPE_CHECKING:
    from nengonet.explain.prediction import LayerPrediction, Walk

# Number of turns for the variance of a loop to come to rest, with known rates and with unknown.
_VARIANCE_TURNS, _NOISE_TURNS = 50, 20
# Deviations that a turn changes by no more than this share of the largest are at rest.
_NOISE_SHARE = 0.01
# Currents and deviations at which noisy rates are found, and interpolated between.
_N_NOISY = (160, 12)
# Deviations below this share of the largest have no effect.
_STILL = 1e-3
# If the curve includes the noise, its slope is taken over this share of the deviation.
_NARROW = 0.1
# Number of currents at which a type without a formula for its rates is stepped.
_N_STEPPED = 80
# Steps for the slopes of curves under currents that do not deviate, in terms of their size.
_STEP = 1e-6
# Rates that differ by no more, in Hz and as a share of their size, both as root mean squares over a
# layer, are the same: of single neurons at their threshold, loops have many.
_SAME_HZ, _SAME_SHARE = 1.0, 0.05


class Resting:
    """A part of a network whose objects feed each other."""

    def __init__(self, walk: Walk, part: list[Item]) -> None:
        self.walk, self.part = walk, part
        self.tuning = {item: walk.tuning(item) for item in part}
        self.paths = {item: walk.paths(item) for item in part}
        self.inside = {
            item: [path for path in self.paths[item] if path.pre in part] for item in part
        }
        came_in = {
            item: walk.comes_in(item, [each for each in self.paths[item] if each.pre not in part])
            for item in part
        }
        self.outside = {item: mean for item, (mean, _, _) in came_in.items()}
        self.noise = {item: variance for item, (_, variance, _) in came_in.items()}
        self.delay = max(delay for *_, delay in came_in.values())
        self.curves = {item: self._curve(item) for item in part if self.tuning[item] is not None}
        # Deviations of currents, as far as known; without them, curves are those of means.
        self.deviations: dict[Item, np.ndarray] = {}
        self.noisy = {item: _Noisy(self._rates_of(item)) for item in self.curves}
        # Objects with neurons, or all if none has neurons.
        self.shown = list(self.curves) or part
        self.loop = Loop(part, self.inside, self.outside, self._respond, walk.dt)

    def predict(self, n_starts: int, n_tried: int | None) -> None:
        """Add the predictions of all objects to those of the walk."""
        start = np.zeros((self.walk.n_images, self.loop.size))
        rest = self._rest(start)
        layers, noise_rests = self._layers(rest)
        last, share = np.inf, 1.0
        for _ in range(_NOISE_TURNS * self.walk.noise):
            fresh = {item: layers[item].deviation for item in self.curves}
            known = self.deviations or {item: 0.0 for item in fresh}
            change = max(
                np.abs(fresh[item] - known[item]).max() / max(fresh[item].max(), 1e-300)
                for item in fresh
            )
            variance_rests = noise_rests
            noise_rests = variance_rests and change < _NOISE_SHARE
            if noise_rests:
                break
            share = share if change < last else 0.5
            last = change
            self.deviations = {
                item: known[item] + share * (fresh[item] - known[item]) for item in fresh
            }
            rest = self._rest(start)
            layers, noise_rests = self._layers(rest)
        point = self._point(rest, layers, noise_rests, n_starts, n_tried)
        for item, layer in layers.items():
            self.walk.found[item] = layer.at(point)

    def _respond(self, item: Item, drive: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the mean outputs of an object for its drive."""
        if self.tuning[item] is None:
            nothing = np.zeros(drive.shape)
            return self.walk.layer(item, None, [], drive, nothing, 0.0).mean_outputs
        gain, bias = self.tuning[item]
        mean = 0.0 if item.noise is None else noise_of(item.noise, self.walk.dt)[0]
        rates = self._at(item, gain * drive + bias + mean, rows)
        return model_of(item.neuron_type).amplitude * rates

    def _at(self, item: Item, current: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the rates of an Ensemble at some currents, with their noise if that is known."""
        rates = self.curves[item](current)
        if item not in self.deviations or not self.deviations[item].any():
            return rates
        return self.noisy[item](current, self.deviations[item][rows], rates)

    def _rates_of(self, item: nengo.Ensemble) -> Callable[..., np.ndarray]:
        time = {"dt": self.walk.dt, "presentation_time": self.walk.presentation_time}
        return functools.partial(model_of(item.neuron_type).rates, **time)

    def _curve(self, item: nengo.Ensemble) -> Callable[[np.ndarray], np.ndarray]:
        """Return the rates of an Ensemble as a function of its currents."""
        model = model_of(item.neuron_type)
        if self.walk.lines:
            return model.line

        curve = self._rates_of(item)
        return _Stepped(curve) if isinstance(model, SteppedModel) else curve

    def _rest(self, start: np.ndarray) -> Rest:
        rest = rest_of(self.loop, start)
        stepped = [curve for curve in self.curves.values() if isinstance(curve, _Stepped)]
        if stepped:
            for curve in stepped:
                curve.refine()
            rest = rest_of(self.loop, rest.held)
        return rest

    def _layers(self, rest: Rest) -> tuple[dict[Item, LayerPrediction], bool]:
        """Return the predictions at rest, and whether their noise comes to rest as well.

        The variance of the input is that from outside plus that from the loop itself, turn by turn.
        """
        drives, outputs = self.loop.driven(rest.held, np.arange(self.walk.n_images))
        variance = dict(self.noise)
        for _ in range(_VARIANCE_TURNS):
            layers = {
                item: self.walk.layer(
                    item,
                    self.tuning[item],
                    self.paths[item],
                    drives[item],
                    variance[item],
                    self.delay,
                    self._rates(item, outputs[item]),
                )
                for item in self.part
            }
            fresh = {item: self.noise[item] + self._looped(item, layers) for item in self.part}
            if all(np.allclose(fresh[item], variance[item], rtol=1e-3) for item in self.part):
                return layers, True
            if not all(np.isfinite(each).all() for each in fresh.values()):
                break
            variance = fresh
        return layers, False

    def _looped(self, item: Item, layers: dict[Item, LayerPrediction]) -> np.ndarray:
        """Return the variance that comes in from the loop itself."""
        total, dt = 0.0, self.walk.dt
        for path in self.inside[item]:
            pre = layers[path.pre]
            arrives = pre.filtered_variance(path.filter, dt)
            total = total + path.variance(pre.mean_outputs, arrives)
        return total

    def _rates(self, item: Item, outputs: np.ndarray) -> np.ndarray | None:
        if self.tuning[item] is None:
            return None
        return outputs / (model_of(item.neuron_type).amplitude or 1.0)

    def _point(self, rest, layers, noise_rests, n_starts, n_tried) -> FixedPoint:
        rows = np.arange(self.walk.n_images)
        multiplier = np.full(len(rows), np.inf)
        if rest.converged.any():
            slopes = {item: self._slopes(layers[item]) for item in self.curves}
            multiplier[rest.converged] = multipliers(
                self.loop, rest.held, rows[rest.converged], slopes
            )
        now, then = (
            self.loop.driven(held, rows)[1] for held in (rest.held, self.loop.turn(rest.held, rows))
        )
        residual = [_apart(now[item], then[item], layers[item]) for item in self.shown]
        residual = np.max(residual, axis=0)
        n_tried = len(rows) if n_tried is None else min(n_tried, len(rows))
        return FixedPoint(
            rates={layers[item].label: layers[item].rates for item in self.shown},
            converged=rest.converged & noise_rests,
            multiplier=multiplier,
            residual=residual,
            iterations=rest.iterations,
            followed=rest.followed,
            fluctuation=np.max([self._fluctuation(item, layers) for item in self.shown], axis=0),
            elsewhere=self._elsewhere(rest, now, layers, n_starts, n_tried),
            n_starts=n_starts,
            dt=self.walk.dt,
        )

    def _fluctuation(self, item: Item, layers: dict[Item, LayerPrediction]) -> np.ndarray:
        """Return how far the loop's own spikes move currents, as a share, image by image."""
        layer = layers[item]
        if self.tuning[item] is None:
            return np.zeros(len(layer.rates))
        least = model_of(item.neuron_type).threshold or 1e-300
        size = np.maximum(np.median(np.abs(layer.current), axis=1), least)
        moves = np.sqrt(layer.gain**2 * self._looped(item, layers))
        return np.median(moves, axis=1) / size

    def _slopes(self, layer: LayerPrediction) -> np.ndarray:
        """Return the slopes of mean outputs over drives, across the deviation of currents."""
        # If rates include noise, so does the curve.
        wide = layer.deviation * (_NARROW if self.deviations else 1.0)
        wide = np.maximum(wide, _STEP * (1 + np.abs(layer.current)))
        rows = np.arange(self.walk.n_images)
        high, low = (self._at(layer.item, layer.current + way * wide, rows) for way in (1, -1))
        change = high - low
        return layer.amplitude * layer.gain * change / (2 * wide)

    def _elsewhere(self, rest, here, layers, n_starts, n_tried) -> np.ndarray:
        """Count the starts from which images come to rest at other rates.

        Only the first images are tried, and of these only those at rest from the reset state.
        """
        found, rng = np.zeros(n_tried, dtype=int), np.random.default_rng(0)
        rows = np.flatnonzero(rest.followed[:n_tried])
        for _ in range(n_starts * bool(rows.size)):
            outputs = {
                item: self._respond(item, self._pushed(item, layers[item], rows, rng), rows)
                for item in self.part
            }
            start = self.loop.gains * self.loop.carried(outputs)
            there = rest_of(self.loop, start, rows, search=False)
            _, rates = self.loop.driven(there.held, rows)
            differs = np.zeros(len(rows), dtype=bool)
            for item in self.shown:
                area, usual = layers[item].amplitude or 1.0, here[item][rows]
                most = np.maximum(_SAME_HZ, _SAME_SHARE * _size(usual) / area)
                differs |= _size(usual - rates[item]) / area > most
            found[rows] += differs & there.converged
        return found

    def _pushed(self, item, layer, rows, rng) -> np.ndarray:
        """Return a random drive: of an input to the encoders, or of a push to the neurons."""
        drive = layer.drive[rows]
        if layer.encoded:
            encoders = self.walk.built.ensemble(item).encoders
            inputs = rng.standard_normal((len(rows), encoders.shape[1]))
            inputs /= np.linalg.norm(inputs, axis=1, keepdims=True)
            return 1.5 * rng.uniform(size=(len(rows), 1)) * inputs @ encoders.T
        # Some neurons are on, the others off: one in every second start, else few or most.
        usual, n = self.outside[item][rows], drive.shape[1]
        size = np.maximum(np.abs(drive).max(axis=1), np.abs(usual).max(axis=1))[:, None]
        n_on = np.floor(np.exp(np.maximum(rng.uniform(-1, 1, (len(rows), 1)), 0) * np.log(n)))
        on = rng.uniform(size=drive.shape).argsort(axis=1).argsort(axis=1) < n_on
        return usual + np.where(on, 1.0, -1.0) * size


def _apart(a: np.ndarray, b: np.ndarray, layer: LayerPrediction) -> np.ndarray:
    """Return the largest difference between mean outputs, in Hz, image by image."""
    return np.abs(a - b).max(axis=1) / (layer.amplitude or 1.0)


def _size(values: np.ndarray) -> np.ndarray:
    """Return the root mean square of each row."""
    return np.sqrt((values**2).mean(axis=1))


class _Stepped:
    """Rates from stepping neurons, interpolated between currents until these leave the range."""

    def __init__(self, curve: Callable[[np.ndarray], np.ndarray]) -> None:
        self._curve, self._nodes, self._last = curve, np.empty(0), np.empty(0)

    def __call__(self, current: np.ndarray) -> np.ndarray:
        low, high = current.min(), current.max()
        if not self._nodes.size or low < self._nodes[0] or high > self._nodes[-1]:
            known = np.append(self._nodes, (low, high))
            low, high = known.min(), known.max()
            margin = 0.5 * (high - low) + 1e-3
            wide = np.linspace(low - margin, high + margin, _N_STEPPED)
            self._step(np.union1d(wide, spread(current, _N_STEPPED)))
        self._last = current
        return np.interp(current, self._nodes, self._rates)

    def refine(self) -> None:
        """Step the neurons at and near the last currents."""
        dense = spread(self._last, _N_STEPPED)
        self._step(np.union1d(dense, self._nodes[:: max(1, len(self._nodes) // _N_STEPPED)]))

    def _step(self, nodes: np.ndarray) -> None:
        self._nodes, self._rates = nodes, self._curve(nodes[None])[0]


class _Noisy:
    """Rates under noisy currents, interpolated on a grid until currents or deviations leave it."""

    def __init__(self, rates: Callable[..., np.ndarray]) -> None:
        self._rates, self._axes = rates, None

    def __call__(self, current: np.ndarray, deviation: np.ndarray, still: np.ndarray) -> np.ndarray:
        """Return the rates; ``still`` are those without noise."""
        moves = deviation > _STILL * deviation.max()
        current, deviation = current[moves], np.log(deviation[moves])
        if self._axes is None or not self._covers(current, deviation):
            self._find(current, deviation)
        found = still.copy()
        found[moves] = scipy.ndimage.map_coordinates(
            self._table,
            [
                (axis(values) - low) / step
                for values, (axis, low, step) in zip((current, deviation), self._axes, strict=True)
            ],
            order=1,
            mode="nearest",
        )
        return found

    def _covers(self, current: np.ndarray, deviation: np.ndarray) -> bool:
        return all(
            values.min() >= low and values.max() <= high
            for values, (low, high) in zip((current, deviation), self._ends, strict=True)
        )

    def _find(self, current: np.ndarray, deviation: np.ndarray) -> None:
        """Find the rates on a grid of currents, dense around 0 to 1, and of deviations."""
        ends = [(values.min(), values.max()) for values in (current, deviation)]
        if self._axes is not None:
            ends = [(min(a, c), max(b, d)) for (a, b), (c, d) in zip(ends, self._ends, strict=True)]
        (low, high), (least, most) = ends
        margin = 0.3 * (high - low) + np.exp(most)
        self._ends = (low - margin, high + margin), (least - 0.7, most + 0.7)
        width = 0.5 * np.exp(np.median(deviation))
        axes, grids = [], []
        for n, (low, high), axis, back in zip(
            _N_NOISY,
            self._ends,
            (lambda values: np.arcsinh((values - 1) / width), lambda values: values),
            (lambda u: 1 + width * np.sinh(u), np.exp),
            strict=True,
        ):
            points = np.linspace(axis(low), axis(high), n)
            axes.append((axis, points[0], points[1] - points[0]))
            grids.append(back(points))
        self._axes = axes
        self._table = self._rates(*np.meshgrid(*grids, indexing="ij"))
