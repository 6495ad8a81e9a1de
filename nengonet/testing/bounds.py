"""How far spike counts may be from their rates, for each kind of firing.

Each kind makes `Bounds`, and gives the share by which all weights must be off for counts to leave
them with a probability of 99 %. The chance of a false alarm is divided evenly (Bonferroni).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from nengonet.checks import as_number, check_among
from nengonet.exceptions import InputError
from nengonet.testing.probes import as_values

KINDS = ("regular", "poisson", "noisy")

# A dispersion test needs this many counts, each with at least this mean: then a gamma distribution
# with the same first three moments is close to the statistic's own, far into its tails.
_DISPERSION_GROUPS = 30
_DISPERSION_MEAN = 20.0
# Only neurons this many standard deviations above 0 can show a factor: closer to 0, rectified
# noise adds to the rate.
_SLOPE_DEVIATIONS = 3.0
_SLOPE_COUNTS = 10
# Part of the given chance of a false alarm that is divided among tests. The rest covers what is
# not exact: the tails of the dispersion and of Student's t.
_SPENT = 0.75
_MIN_REPEATS = 5


class Bounds(NamedTuple):
    """Observed values that should lie between ``low`` and ``high``; the worst has the top rank."""

    what: str | None  # None for a single value
    name: Callable[[int], str]
    expected: np.ndarray | float
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rank: np.ndarray | float = 0.0
    unit: str = " spikes"
    causes: tuple[str | None, str | None] = (None, None)  # of too little, of too much

    def judged(self) -> tuple[str, str | None] | None:
        """Return what is wrong, and the cause if this test alone shows it."""
        values = [value.ravel() for value in np.broadcast_arrays(*self[2:7])]
        wrong = (values[1] < values[2]) | (values[1] > values[3])
        if not wrong.any():
            return None
        k = int(np.argmax(np.where(wrong, values[4], -np.inf)))
        expected, observed, low, high, _ = (value[k] for value in values)
        text = (
            f"{self.name(k)}: expected {expected:.6g}{self.unit}, observed {observed:.6g} "
            f"(allowed: {low:.6g} to {high:.6g})"
        )
        cause = self.causes[int(observed > high)]
        if self.what is not None:
            text = f"{wrong.sum()} of {wrong.size} {self.what}, worst: {text}"
            if cause is None and wrong.mean() <= 0.05:
                cause = "only single neurons are off: their own weights, gain or bias?"
        return text, cause


# Bounds that are checked one after another until one fails; and the detectable share.
Stages = tuple[list[list[Bounds]], float]


@dataclasses.dataclass(frozen=True)
class Case:
    """Spikes and expected counts, with all axes.

    ``raster`` (n_repeats, n_images, n_steps, n_neurons) has one step if only counts were given;
    ``expected`` is (n_images, n_neurons). Where the rate is negative, ``signs`` is -1 and both have
    their sign changed.
    """

    kind: str
    raster: np.ndarray
    counts: np.ndarray
    expected: np.ndarray
    signs: np.ndarray
    duration: float
    has_images: bool
    has_steps: bool

    def name(self, k: int) -> str:
        """Return the name of one of all neurons in all images."""
        image, neuron = divmod(k, self.expected.shape[1])
        name = f"neuron {neuron} of image {image}" if self.has_images else f"neuron {neuron}"
        return f"{name} (below 0)" if self.signs.flat[k] < 0 else name


def checked_case(
    counts: ArrayLike, rates: ArrayLike, duration: float, kind: str, dt: float | None
) -> Case:
    """Check counts and rates, and give both all axes."""
    check_among("kind", kind, KINDS)
    counts, rates = as_values("counts", counts), as_values("rates", rates)
    duration = as_number("duration", duration, "seconds", above=0)
    has_repeats, has_steps = kind == "noisy", dt is not None
    axes = ["n_repeats"] * has_repeats + ["n_images"] + ["n_steps"] * has_steps + ["n_neurons"]
    has_images = counts.ndim == len(axes)
    if not has_images and counts.ndim != len(axes) - 1:
        one_image = ", ".join(axis for axis in axes if axis != "n_images")
        raise InputError(
            f"counts (kind {kind}{', dt given' if has_steps else ''}): expected ({one_image}) or "
            f"({', '.join(axes)}), got shape {counts.shape}"
        )
    if np.any(counts != np.rint(counts)):
        raise InputError(
            "counts: expected whole numbers of spikes, got "
            f"{counts[counts != np.rint(counts)][0]:.6g}; for the data of a probe, see "
            "counts_from_probe"
        )
    present = (has_repeats, has_images, has_steps, True)
    raster = np.expand_dims(counts, [axis for axis, there in enumerate(present) if not there])
    n_repeats, n_images, n_steps, n_neurons = raster.shape
    if has_repeats and n_repeats < _MIN_REPEATS:
        raise InputError(
            f"counts (kind noisy): expected at least {_MIN_REPEATS} repeats on the first axis, "
            f"to measure the variance, got {n_repeats}"
        )
    if has_steps and round(duration / as_number("dt", dt, "seconds", above=0)) != n_steps:
        raise InputError(
            f"duration: expected n_steps * dt = {n_steps} steps of {dt} s, as the raster has "
            f"shape (…, n_steps, n_neurons), got {duration} s, {round(duration / dt)} steps"
        )
    try:
        shape = (n_images, n_neurons) if has_images else (n_neurons,)
        expected = np.broadcast_to(rates * duration, shape).reshape(n_images, n_neurons)
    except ValueError:
        shapes = f"({n_neurons},)" + (f" or ({n_images}, {n_neurons})" if has_images else "")
        raise InputError(f"rates: expected shape {shapes}, got {rates.shape}") from None
    signs = np.where(expected < 0, -1, 1)
    raster = raster * signs[:, None] if np.any(signs < 0) else raster
    arrays = (raster, raster.sum(axis=2), np.abs(expected), signs)
    return Case(kind, *arrays, duration, has_images, has_steps)


def regular(case: Case, bound: float, rtol: float) -> Stages:
    """Hold counts to a bound at every step; spikes must be evenly spaced as well."""
    n_steps = case.raster.shape[2]
    shares = np.arange(1, n_steps + 1)[:, None] / n_steps
    expected, observed, excess, spread = np.empty((4, *case.expected.shape))
    steps = np.empty(case.expected.shape, dtype=int)
    for image, whole in enumerate(case.expected):
        counts, so_far = np.cumsum(case.raster[0, image], axis=0), whole * shares
        deviation = counts - so_far
        beyond = np.abs(deviation) - bound - _rounding(so_far, rtol)
        # The message names the first step beyond the bound, where the fault begins.
        steps[image] = np.argmax(beyond > 0, axis=0)
        at = steps[image], np.arange(len(whole))
        expected[image], observed[image], excess[image] = so_far[at], counts[at], beyond.max(axis=0)
        spread[image] = np.maximum(deviation.max(axis=0), 0) - np.minimum(deviation.min(axis=0), 0)

    def name(k: int) -> str:
        step = steps.flat[k] + 1
        time = f" after step {step} of {n_steps} ({case.duration * step / n_steps:.6g} s)"
        return case.name(k) + (time if case.has_steps else "")

    allowed, widest = bound + _rounding(expected, rtol), max(1.0, bound)
    what = "spike trains" if case.has_steps else "counts"
    at_steps = Bounds(
        what, name, expected, observed, expected - allowed, expected + allowed, excess
    )

    def uneven(k: int) -> str:
        return f"{case.name(k)}: within the bound, but not evenly spaced; range of count - rate * t"

    cause = "a rate slightly off, or a current that changes during the presentation"
    most = widest + 2 * _rounding(case.expected, rtol)
    even = Bounds(what, uneven, 0.0, spread, 0.0, most, spread, causes=(None, cause))
    largest = case.expected.max()
    detectable = 2 * bound / largest if largest > 1e-9 else np.inf
    if case.has_steps and largest > 2:
        # Within one interval between spikes the deviation passes nearly through its whole range.
        several = case.expected[case.expected > 2]
        sharp = np.minimum(several / n_steps + widest - 1, 2 * bound)
        detectable = min(detectable, (sharp / (several - 2)).min())
    return [[at_steps], [even]], detectable


def _rounding(expected: np.ndarray, rtol: float) -> np.ndarray:
    # A rate of 0 has nothing to round: one spike is one too many.
    return np.where(expected > 0, 1e-6 + rtol * expected, -1e-9)


def poisson(case: Case, false_alarm: float) -> Stages:
    """Hold counts and their sums to Poisson tails, and their dispersion."""
    counts, expected = case.counts[0], case.expected
    # Each set: its name, how to name one of its members, observed and expected counts.
    sets = [("counts", case.name, counts.ravel(), expected.ravel())]
    for axis, one, other in ((0, "neuron", "images"), (1, "image", "neurons")):
        if counts.shape[0] > 1 and counts.shape[axis] > 1:
            name = f"{one} {{}}, all {other}".format
            sets.append((f"{one}s' sums", name, counts.sum(axis=axis), expected.sum(axis=axis)))
    if case.has_steps:
        steps = case.raster[0].sum(axis=(0, 2))
        mean = np.full(len(steps), expected.sum() / len(steps))
        sets.append(("steps' sums", "step {}, all neurons".format, steps, mean))
    if counts.size > 1:
        sets.append((None, "total: all neurons".format, counts.sum()[None], expected.sum()[None]))
    groups = [(what, *_grouped(observed, mean)) for what, _, observed, mean in sets]
    groups = [group for group in groups if len(group[2]) >= _DISPERSION_GROUPS]
    share = _SPENT * false_alarm / (len(sets) + len(groups))
    tails = [_tails(*each, share) for each in sets]
    dispersions = [_dispersion(*each, share) for each in groups]
    needed, spikes = stats.norm.isf(share / 2) + stats.norm.isf(0.01), float(expected.sum())
    return [tails, dispersions], needed / np.sqrt(spikes) if spikes > 0 else np.inf


def _tails(what, name, observed: np.ndarray, mean: np.ndarray, share: float) -> Bounds:
    # A rate of 0 leaves nothing to chance, so it uses none of the share.
    random = mean > 0
    tail = share / (2 * max(1, random.sum()))
    low = np.where(random, stats.poisson.ppf(tail, mean), 0.0)
    high = np.where(random, stats.poisson.isf(tail, mean), 0.0)
    distance = np.abs(observed - mean) / np.sqrt(np.where(random, mean, 1e-9))
    return Bounds(what, name, mean, observed, low, high, distance)


def _grouped(observed: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum small counts until each has a mean of at least 20; sums of Poisson counts are Poisson."""
    large = mean >= _DISPERSION_MEAN
    order = np.flatnonzero(~large)[np.argsort(mean[~large], kind="stable")]
    groups = (np.cumsum(mean[order]) // (2 * _DISPERSION_MEAN)).astype(int)
    observed_sums, mean_sums = (np.bincount(groups, each[order]) for each in (observed, mean))
    whole = mean_sums >= _DISPERSION_MEAN
    return np.r_[observed[large], observed_sums[whole]], np.r_[mean[large], mean_sums[whole]]


def _dispersion(what: str, observed: np.ndarray, mean: np.ndarray, share: float) -> Bounds:
    # Cumulants of (count - mean)^2 / mean, from the central moments of a Poisson count
    first, second = len(mean), np.sum(2 + 1 / mean)
    third = np.sum(8 + 22 / mean + 1 / mean**2)
    shape, scale = 4 * second**3 / third**2, third / (2 * second)
    law = stats.gamma(shape, loc=first - shape * scale, scale=scale)
    causes = (
        'too regular for a Poisson process: is it kind "regular", or one with a synapse?',
        "more variable than a Poisson process of these rates: single rates are off, or the counts "
        "are not independent",
    )
    name = f"dispersion of the {what}, the mean of (observed - expected)^2 / expected".format
    dispersion = np.mean((observed - mean) ** 2 / mean)
    ends = (law.ppf(share / 2) / first, law.isf(share / 2) / first)
    return Bounds(None, name, 1.0, dispersion, *ends, unit="", causes=causes)


def noisy(case: Case, false_alarm: float, bias: ArrayLike, relative: float) -> Stages:
    """Hold mean counts over repeats, their sum and their slope to Student's t."""
    counts, expected, n_repeats = case.counts, case.expected, len(case.counts)
    mean, variance = counts.mean(axis=0), counts.var(axis=0, ddof=1)
    # A few repeats may agree by chance: variances have the layer's typical one as a lower limit.
    usual = variance.sum() / max(mean.sum(), 1e-12)
    variance = np.maximum(variance, usual * np.maximum(mean, expected))
    with np.errstate(divide="ignore", invalid="ignore"):
        overshoot = np.where(expected > 0, variance / (2 * expected), np.inf)
    overshoot = np.minimum(overshoot, np.sqrt(variance))
    allowed = _checked_bias(bias, case) + relative * expected
    slopes = _slopes(counts, expected, variance)
    share = _SPENT * false_alarm / (2 + (slopes is not None))

    def margin(error: np.ndarray, n_tests: int = 1) -> np.ndarray:
        return stats.t.isf(share / (2 * n_tests), n_repeats - 1) * error / np.sqrt(n_repeats)

    of_repeats = f"over {n_repeats} repeats"
    width = allowed + margin(np.sqrt(variance), expected.size)
    low, high = expected - width, expected + width + overshoot
    rank = np.maximum(low - mean, mean - high) / np.sqrt(variance + 1e-9)
    means = Bounds(f"mean counts {of_repeats}", case.name, expected, mean, low, high, rank)
    totals, total = counts.sum(axis=(1, 2)), expected.sum()
    width = allowed.sum() + margin(totals.std(ddof=1))
    ends = (total - width, total + width + overshoot.sum())
    name = f"total: all neurons, mean {of_repeats}".format
    tests = [means, *[Bounds(None, name, total, totals.mean(), *ends)] * (expected.size > 1)]
    if slopes is None:
        return [tests], np.inf
    slope, deviation = slopes.mean(), slopes.std(ddof=1)
    limit = relative + margin(deviation)
    cause = f"weights or gain off by {100 * slope:+.2g} %, or noise that is rectified"
    name, ends = "slope of the counts on the expected counts".format, (1 - limit, 1 + limit)
    tests.append(Bounds(None, name, 1.0, 1 + slope, *ends, unit="", causes=(cause, cause)))
    power = stats.t.isf(0.01, n_repeats - 1) * deviation / np.sqrt(n_repeats)
    return [tests], limit + float(power)


def _checked_bias(bias: ArrayLike, case: Case) -> np.ndarray:
    bias = as_values("bias", bias)
    if np.any(bias < 0):
        raise InputError(f"bias: expected at least 0 spikes, got {bias.min():.6g}")
    try:
        return np.broadcast_to(bias, case.expected.shape)
    except ValueError:
        raise InputError(
            f"bias: expected one value or shape {case.expected.shape[1:]}, got {bias.shape}"
        ) from None


def _slopes(counts: np.ndarray, expected: np.ndarray, variance: np.ndarray) -> np.ndarray | None:
    """Regress ``count - expected`` on ``expected`` for each repeat; None if that is impossible.

    A constant, and the ratio of variance to mean (the overshoot grows with it), are fitted too.
    """
    use = expected > np.maximum(_SLOPE_DEVIATIONS * np.sqrt(variance), 2.0)
    if use.sum() < _SLOPE_COUNTS:
        return None
    mean = expected[use]
    root = 1 / np.sqrt(mean)
    design = np.stack([np.ones_like(mean), variance[use] / mean], axis=1) * root[:, None]
    # The part of the expected counts that constant and ratio do not explain (Frisch-Waugh-Lovell)
    target = mean * root
    rest = target - design @ np.linalg.lstsq(design, target, rcond=1e-6)[0]
    information = rest @ target
    if information < 1e-3 * (target @ target):
        return None
    return (counts[:, use] - mean) @ (rest * root) / information
