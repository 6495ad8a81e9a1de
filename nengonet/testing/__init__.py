"""Assertions for anybody's tests: spike counts match rates, and spikes are the same.

Plain functions on arrays: nothing here knows a network, and nothing imports Nengo. A failed
assertion raises ``AssertionError`` and names the neuron, the image, what was expected, what was
observed and the probable cause. An argument that makes no sense raises `InputError`.

Spikes are counted by their area (`counts_from_probe`), so a neuron may spike several times in one
step, with any amplitude.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from nengonet.checks import as_number, as_numbers, check_among, positive_integer
from nengonet.exceptions import InputError
from nengonet.results.readout import spike_counts

KINDS = ("regular", "poisson", "noisy")

# A dispersion test needs this many counts, each with at least this mean: then a gamma distribution
# with the same first three moments is close to the statistic's own, far into its tails.
_DISPERSION_GROUPS = 30
_DISPERSION_MEAN = 20.0
# Only neurons this many standard deviations above 0 tell a factor: nearer to 0, noise that is
# rectified adds a rate of its own.
_SLOPE_DEVIATIONS = 3.0
_SLOPE_COUNTS = 10
# Part of the stated chance of a false alarm that is shared out. The rest is kept for what is not
# exact: the tails of the dispersion and of Student's t.
_SPENT = 0.75
_MIN_REPEATS = 5


def counts_from_probe(
    data: ArrayLike, dt: float, amplitude: float = 1.0, *, per_step: bool = False
) -> np.ndarray:
    """Count the spikes in what a Nengo probe recorded, several in one step as several.

    Parameters
    ----------
    data : (..., n_steps, n_neurons) array_like
        ``sim.data[probe]`` of ``nengo.Probe(ensemble.neurons, synapse=None)``.
    dt : float, in seconds
    amplitude : float
        Area of one spike: the neuron type's ``amplitude``.
    per_step : bool
        Return the spikes of every step (a raster) instead of their sum.

    Returns
    -------
    counts : (..., n_neurons) or (..., n_steps, n_neurons) ndarray of int64
        Spikes above 0 less those below 0.

    Raises
    ------
    InputError
        The values are no whole numbers of spikes: another amplitude, or a probe with a filter.

    Examples
    --------
    >>> counts_from_probe([[0.0, 1000.0], [3000.0, 1000.0]], dt=0.001)
    array([3, 2])
    """
    data = _as_values("data", data)
    dt = as_number("dt", dt, "seconds", above=0)
    amplitude = as_number("amplitude", amplitude, "a spike's area", above=0)
    if data.ndim < 2:
        raise InputError(
            f"data: expected (..., n_steps, n_neurons), as a probe holds it, got {data.shape}"
        )
    spikes = data * (dt / amplitude)
    wrong = np.abs(spikes - np.rint(spikes)) > 1e-5 * np.maximum(1.0, np.abs(spikes))
    if np.any(wrong):
        step, neuron = (int(i) for i in np.argwhere(wrong)[0][-2:])
        raise InputError(
            f"data: {data[wrong][0]:.6g} in step {step} of neuron {neuron} is "
            f"{spikes[wrong][0]:.6g} spikes of height amplitude/dt = {amplitude / dt:.6g}, "
            f"expected a whole number; {_why_not_whole(data, dt)}"
        )
    raster = spike_counts(data, dt, amplitude)
    return raster if per_step else raster.sum(axis=-2)


def _why_not_whole(data: np.ndarray, dt: float) -> str:
    if np.any(data < 0):
        return (
            "values below 0 are spikes of Tanh neurons, wrapped, or no spikes: is this a probe of "
            "the voltage or of decoded output?"
        )
    unit = data[data > 0].min()
    if np.allclose(data / unit, np.rint(data / unit), rtol=1e-5, atol=1e-5):
        return f"the values fit spikes of amplitude {unit * dt:.6g}: give that amplitude"
    if np.mean(data > 0) > 0.2:
        return (
            "most steps are not 0, as with a filtered probe or a rate neuron: "
            "probe ensemble.neurons with synapse=None"
        )
    return "is the amplitude, or dt, another?"


def assert_counts_match_rates(
    counts: ArrayLike,
    rates: ArrayLike,
    duration: float,
    kind: str = "regular",
    *,
    dt: float | None = None,
    false_alarm: float = 1e-6,
    bound: float = 1.0,
    rtol: float = 1e-9,
    bias: ArrayLike = 1.0,
    relative: float = 0.0,
    must_detect: float | None = None,
) -> None:
    """Assert that every spike count is what its rate predicts, within the bound for its kind.

    Parameters
    ----------
    counts : array_like of whole numbers
        - ``(n_neurons,)`` or ``(n_images, n_neurons)``: spikes in one presentation.
        - With ``dt``, a raster, ``(n_steps, n_neurons)`` or ``(n_images, n_steps, n_neurons)``:
          spikes in every single step (not summed up).
        - For ``kind="noisy"``, one more axis in front: ``(n_repeats, n_neurons)`` or
          ``(n_repeats, n_images, n_neurons)``, at least 5 repeats with noise of their own.
    rates : array_like, in Hz
        Predicted rates, below 0 for spikes below 0 (``Tanh``, wrapped). They broadcast to the
        counts without repeats and steps: ``(n_neurons,)`` or ``(n_images, n_neurons)``.
    duration : float, in seconds
        Of one presentation. With ``dt`` it is ``n_steps * dt``.
    kind : {"regular", "poisson", "noisy"}
        How the neurons fire; see Notes.
    dt : float, in seconds, optional
        States that ``counts`` is a raster.
    false_alarm : float
        For ``"poisson"`` and ``"noisy"``: the chance that correct counts fail, over all neurons,
        images and tests of this call together. ``"regular"`` has none.
    bound : float, in spikes
        For ``"regular"``. 0.5 is enough for neurons that all start halfway to the threshold, as
        `nengonet.IntegrateAndFire` does; above 1 for a transient at the start.
    rtol : float
        For ``"regular"``: relative error of the expected counts from rounding, added to the
        bound. About 1e-6 for rates or simulations in 32 bits.
    bias : float or array_like, in spikes
        For ``"noisy"``: how far the mean count may be from ``rate * duration`` however many
        repeats are taken. The default is what an unknown phase at the start can do.
    relative : float
        For ``"noisy"``: the same as a share of the expected count, 0.01 for 1 %.
    must_detect : float, optional
        Refuse (`InputError`) counts too few to show that all weights are off by this share,
        0.02 for 2 %, with a probability of 99 %. Without it, little data passes easily.

    Raises
    ------
    AssertionError
        Naming the worst neuron and image, the expected and the observed count, the bound, how
        many are beyond it and the probable cause.
    InputError
        The shapes do not fit, or a value is no count, rate or duration.

    Notes
    -----
    **Regular**: a constant current. ``abs(count - rate * t) < 1`` for every ``t``, as Nengo's own
    ``test_lif`` asks for (``nengo/tests/test_neurons.py``). It holds for
    ``SpikingRectifiedLinear``, ``RegularSpiking`` and `nengonet.IntegrateAndFire` at any ``dt``,
    and for ``LIF`` with
    ``dt <= tau_ref`` (2 ms), for any current, starting voltage in [0, 1) and ``tau_rc``. With
    ``dt > tau_ref``, ``LIF`` loses up to ``dt - tau_ref`` after every spike and fires too slowly.
    ``AdaptiveLIF`` and ``Izhikevich`` do not fire regularly. With ``dt`` given, the bound is
    checked at every step, and the spikes must also be evenly spaced: ``count - rate * t`` of one
    neuron varies by less than 1 over a presentation. Without ``dt``, weights off by a share ``e``
    are certain to fail where ``e * rate * duration`` is at least 2; with it, a few spikes
    suffice.

    **Poisson**: independent counts whose variance is their mean, as of ``PoissonSpiking`` under a
    constant current. Exact two-sided Poisson tails, for each count, each neuron's and each
    image's sum, the sum of all and (with ``dt``) the sum of each step; and the dispersion of
    each of these sets, where it has 30 counts of mean 20, against both tails. The tests share
    ``false_alarm`` evenly (Bonferroni). Rate 0 must give count 0. All weights off by ``e`` fail
    where ``e**2`` times the number of expected spikes exceeds about 60.

    **Noisy**: renewal processes, or neurons driven by noise; the variance is not known and is
    measured over the repeats. For each neuron, Student's t for the mean count, whose variance is
    the larger of its own and that of the mean count times the layer's ratio of variance to mean.
    The mean count of a neuron with variance ``v`` and mean ``m`` may also exceed ``m`` by
    ``v / (2 m)``: spikes are kept when a noisy drive goes down again (and a bursty renewal
    process that starts with a spike gains as much). For all together, t of the sum and of the
    slope of ``count - expected`` on ``expected``, which no constant bias moves: it shows weights
    off by 2 % where single neurons cannot. The slope needs 10 neurons of different rates, 3
    standard deviations above 0. Repeats must be independent of each other; neurons and images
    need not be. Rectified noise (``SpikingRectifiedLinear`` or ``LIF`` with spiking input and no
    synapse) is a true deviation from the rate of the mean current, and fails.

    Examples
    --------
    >>> assert_counts_match_rates([10, 20, 0], rates=[50, 102, 0], duration=0.2)
    >>> assert_counts_match_rates([10, 40, 0], rates=[50, 102, 0], duration=0.2)
    Traceback (most recent call last):
        ...
    AssertionError: counts do not match their rates (kind regular)
    1 of 3 counts, worst: neuron 1: expected 20.4 spikes, observed 40 (allowed: 19.4 to 21.4)
    probable cause: none of the known patterns
    """
    case = _checked_case(counts, rates, duration, kind, dt)
    false_alarm = as_number("false_alarm", false_alarm, "a chance", above=0, below=1)
    rtol = as_number("rtol", rtol, "a share", at_least=0)
    relative = as_number("relative", relative, "a share", at_least=0)
    bound = as_number("bound", bound, "spikes", above=0)
    if must_detect is not None:
        must_detect = as_number("must_detect", must_detect, "a share such as 0.02", above=0)
    if kind == "regular":
        findings, detectable = _regular(case, bound, rtol)
    elif kind == "poisson":
        findings, detectable = _poisson(case, false_alarm)
    else:
        findings, detectable = _noisy(case, false_alarm, _checked_bias(bias, case), relative)
    if findings:
        causes = [finding.cause for finding in findings]
        cause = causes[0] if all(causes) else _NONE
        lines = [
            f"counts do not match their rates (kind {kind})",
            *(finding.text for finding in findings),
            f"probable cause: {_probable_cause(case, kind) or cause}",
        ]
        raise AssertionError("\n".join(lines))
    if must_detect is not None and not detectable <= must_detect:
        shown = "nothing" if not np.isfinite(detectable) else f"{100 * detectable:.3g} % at best"
        raise InputError(
            f"must_detect: these counts are too few to show weights off by "
            f"{100 * must_detect:.3g} % (they show {shown}); take a longer duration, higher "
            "rates, or more images or repeats"
        )


_NONE = "none of the known patterns"


@dataclasses.dataclass(frozen=True)
class _Case:
    """Counts and expectations, with every axis there.

    ``counts`` (n_repeats, n_images, n_neurons), ``expected`` (n_images, n_neurons) and ``raster``
    (n_repeats, n_images, n_steps, n_neurons) or None. Where the rate is below 0, ``signs`` is -1
    and all of them are taken with the other sign.
    """

    counts: np.ndarray
    expected: np.ndarray
    signs: np.ndarray
    raster: np.ndarray | None
    duration: float
    has_images: bool

    @property
    def mean_counts(self) -> np.ndarray:
        return self.counts.mean(axis=0)

    def name(self, image: int, neuron: int) -> str:
        name = f"neuron {neuron} of image {image}" if self.has_images else f"neuron {neuron}"
        return f"{name} (below 0)" if self.signs[image, neuron] < 0 else name


@dataclasses.dataclass(frozen=True)
class _Finding:
    text: str
    cause: str | None = None


def _as_values(name: str, values: ArrayLike) -> np.ndarray:
    array = as_numbers(name, values, "biuf")
    if array.size == 0:
        raise InputError(f"{name}: expected at least one value, got shape {array.shape}")
    return array


def _checked_case(
    counts: ArrayLike, rates: ArrayLike, duration: float, kind: str, dt: float | None
) -> _Case:
    check_among("kind", kind, KINDS)
    counts, rates = _as_values("counts", counts), _as_values("rates", rates)
    duration = as_number("duration", duration, "seconds", above=0)
    axes = ["n_repeats"] * (kind == "noisy") + ["n_steps"] * (dt is not None) + ["n_neurons"]
    with_images = [*axes]
    with_images.insert(int(kind == "noisy"), "n_images")
    if counts.ndim not in (len(axes), len(axes) + 1):
        given = "" if dt is None else ", dt given"
        raise InputError(
            f"counts (kind {kind}{given}): expected ({', '.join(axes)}) or "
            f"({', '.join(with_images)}), got shape {counts.shape}"
        )
    has_images = counts.ndim > len(axes)
    if np.any(counts != np.rint(counts)):
        wrong = counts[counts != np.rint(counts)][0]
        raise InputError(
            f"counts: expected whole numbers of spikes, got {wrong:.6g}; "
            "for the data of a probe, see counts_from_probe"
        )
    if kind != "noisy":
        counts = counts[None]
    if not has_images:
        counts = counts[:, None]
    if len(counts) < _MIN_REPEATS and kind == "noisy":
        raise InputError(
            f"counts (kind noisy): expected at least {_MIN_REPEATS} repeats on the first axis, "
            f"to measure the variance by; got {len(counts)}"
        )
    raster = None
    if dt is not None:
        dt = as_number("dt", dt, "seconds", above=0)
        raster, n_steps = counts, counts.shape[2]
        if round(duration / dt) != n_steps:
            raise InputError(
                f"duration: {duration} s are {round(duration / dt)} steps of {dt} s, but the "
                f"raster has {n_steps} (shape (…, n_steps, n_neurons))"
            )
        counts = raster.sum(axis=2)
    n_images, n_neurons = counts.shape[1:]
    try:
        expected = np.broadcast_to(
            rates * duration, (n_images, n_neurons) if has_images else (n_neurons,)
        )
    except ValueError:
        shapes = f"({n_neurons},)" + (f" or ({n_images}, {n_neurons})" if has_images else "")
        raise InputError(f"rates: expected shape {shapes}, got {rates.shape}") from None
    expected = expected.reshape(n_images, n_neurons)
    signs = np.where(expected < 0, -1, 1)
    if np.any(signs < 0):
        counts = counts * signs
        raster = None if raster is None else raster * signs[:, np.newaxis]
    return _Case(counts, np.abs(expected), signs, raster, duration, has_images)


def _checked_bias(bias: ArrayLike, case: _Case) -> np.ndarray:
    bias = _as_values("bias", bias)
    if np.any(bias < 0):
        raise InputError(f"bias: expected at least 0 spikes, got {bias.min():.6g}")
    try:
        return np.broadcast_to(bias, case.expected.shape)
    except ValueError:
        raise InputError(
            f"bias: expected one value or shape {case.expected.shape[1:]}, got {bias.shape}"
        ) from None


def _worst(wrong: np.ndarray, what: str, text: str) -> _Finding:
    """Say how many are wrong, and which is the worst."""
    n_wrong = int(np.sum(wrong))
    few = n_wrong <= 0.05 * wrong.size
    cause = "only single neurons are off: their own weights, gain or bias?" if few else None
    return _Finding(f"{n_wrong} of {wrong.size} {what}, worst: {text}", cause)


# regular ------------------------------------------------------------------------------------------


def _regular(case: _Case, bound: float, rtol: float) -> tuple[list[_Finding], float]:
    expected = case.expected
    if case.raster is None:
        deviation = case.counts[0] - expected
        excess = np.abs(deviation) - bound - _rounding(expected, rtol)
        if not np.any(excess > 0):
            return [], _ratio(2 * bound, expected.max())
        image, neuron = _argmax(excess)
        return [_regular_finding(case, excess, image, neuron, None, bound)], 0.0

    n_steps = case.raster.shape[2]
    shares = np.arange(1, n_steps + 1)[:, None] / n_steps
    sizes, steps = np.empty(expected.shape), np.empty(expected.shape, dtype=int)
    spread = np.empty(expected.shape)
    for image, row in enumerate(expected):
        deviation = np.cumsum(case.raster[0, image], axis=0) - row * shares
        beyond = np.abs(deviation) - bound - _rounding(row * shares, rtol)
        # Named is the first step beyond the bound, where the fault begins.
        steps[image] = np.where(
            np.any(beyond > 0, axis=0), np.argmax(beyond > 0, axis=0), np.argmax(beyond, axis=0)
        )
        sizes[image] = beyond.max(axis=0)
        spread[image] = np.maximum(deviation.max(axis=0), 0) - np.minimum(deviation.min(axis=0), 0)
    if np.any(sizes > 0):
        image, neuron = _argmax(sizes)
        return [_regular_finding(case, sizes, image, neuron, int(steps[image, neuron]), bound)], 0.0
    uneven = spread - max(1.0, bound) - 2 * _rounding(expected, rtol)
    if np.any(uneven > 0):
        image, neuron = _argmax(uneven)
        text = (
            f"{case.name(image, neuron)}: expected {expected[image, neuron]:.6g} spikes, observed "
            f"{case.counts[0, image, neuron]:.0f}; within the bound, but not evenly spaced: "
            f"count - rate * t varies by {spread[image, neuron]:.4g} "
            f"(allowed: {max(1.0, bound):g})"
        )
        finding = _worst(uneven > 0, "spike trains", text)
        cause = "a rate slightly off, or a current that changes during the presentation"
        return [_Finding(finding.text, cause)], 0.0
    # Within one interval between spikes the deviation passes nearly through its whole range.
    per_step = expected / n_steps
    sharp = np.minimum(per_step + max(1.0, bound) - 1, 2 * bound)
    with np.errstate(divide="ignore", invalid="ignore"):
        shown = np.where(expected > 2, sharp / (expected - 2), np.inf)
    return [], float(min(shown.min(), _ratio(2 * bound, expected.max())))


def _rounding(expected: np.ndarray, rtol: float) -> np.ndarray:
    # A neuron without any rate has nothing to round: one spike is one too many.
    return np.where(expected > 0, 1e-6 + rtol * expected, -1e-9)


def _ratio(spikes: float, expected: float) -> float:
    return spikes / expected if expected > 1e-9 else np.inf


def _argmax(values: np.ndarray) -> tuple[int, int]:
    image, neuron = np.unravel_index(np.argmax(values), values.shape)
    return int(image), int(neuron)


def _regular_finding(
    case: _Case, excess: np.ndarray, image: int, neuron: int, step: int | None, bound: float
) -> _Finding:
    what = "counts" if step is None else "spike trains"
    expected, observed, when = case.expected[image, neuron], case.counts[0, image, neuron], ""
    if step is not None:
        n_steps = case.raster.shape[2]
        when = f" after step {step + 1} of {n_steps} ({case.duration * (step + 1) / n_steps:.6g} s)"
        expected = expected * (step + 1) / n_steps
        observed = case.raster[0, image, : step + 1, neuron].sum()
    return _worst(
        excess > 0,
        what,
        f"{case.name(image, neuron)}{when}: expected {expected:.6g} spikes, observed "
        f"{observed:.0f} (allowed: {expected - bound:.6g} to {expected + bound:.6g})",
    )


# Poisson ------------------------------------------------------------------------------------------


def _poisson(case: _Case, false_alarm: float) -> tuple[list[_Finding], float]:
    counts, expected = case.counts[0], case.expected
    # Each set: its name, observed and expected counts, and how to name one of them.
    sets = [("counts", counts, expected, lambda i: case.name(*divmod(i, counts.shape[1])))]
    if len(counts) > 1:
        sets.append(
            ("neurons' sums", counts.sum(0), expected.sum(0), "neuron {}, all images".format)
        )
    if min(counts.shape) > 1:
        sets.append(
            ("images' sums", counts.sum(1), expected.sum(1), "image {}, all neurons".format)
        )
    if case.raster is not None:
        per_step = case.raster[0].sum(axis=(0, 2))
        mean = np.full(len(per_step), expected.sum() / len(per_step))
        sets.append(("steps' sums", per_step, mean, "step {}, all neurons".format))
    if counts.size > 1:
        total = ("total", counts.sum()[None], expected.sum()[None], lambda i: "all neurons")
        sets.append(total)
    dispersions = {}
    for name, observed, mean, _ in sets:
        groups = _grouped(observed.ravel(), mean.ravel())
        if len(groups[1]) >= _DISPERSION_GROUPS:
            dispersions[name] = groups
    share = _SPENT * false_alarm / (len(sets) + len(dispersions))

    findings = []
    for name, observed, mean, named in sets:
        finding = _poisson_tails(name, observed.ravel(), mean.ravel(), named, share)
        findings += [finding] if finding else []
    if not findings:
        for name, (observed, mean) in dispersions.items():
            finding = _poisson_dispersion(name, observed, mean, share)
            findings += [finding] if finding else []
    spikes = float(expected.sum())
    needed = stats.norm.isf(share / 2) + stats.norm.isf(0.01)
    return findings, needed / np.sqrt(spikes) if spikes > 0 else np.inf


def _poisson_tails(name, observed, mean, named, share) -> _Finding | None:
    # A rate of 0 leaves nothing to chance, so it takes no part of the share.
    random = mean > 0
    tail = share / (2 * max(1, random.sum()))
    low = np.where(random, stats.poisson.ppf(tail, mean), 0.0)
    high = np.where(random, stats.poisson.isf(tail, mean), 0.0)
    wrong = (observed < low) | (observed > high)
    if not np.any(wrong):
        return None
    distance = np.abs(observed - mean) / np.sqrt(np.where(random, mean, 1e-9))
    worst = int(np.argmax(np.where(wrong, distance, -1.0)))
    text = (
        f"{named(worst)}: expected {mean[worst]:.6g} spikes, observed {observed[worst]:.0f} "
        f"(allowed: {low[worst]:.0f} to {high[worst]:.0f})"
    )
    if name == "total":
        return _Finding(f"total: {text}")
    return _worst(wrong, name, text)


def _grouped(observed: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum small counts until each has a mean of at least 20: a sum of Poisson counts is one."""
    large = mean >= _DISPERSION_MEAN
    order = np.flatnonzero(~large)[np.argsort(mean[~large], kind="stable")]
    groups = (np.cumsum(mean[order]) // (2 * _DISPERSION_MEAN)).astype(int)
    observed_sums = np.bincount(groups, weights=observed[order])
    mean_sums = np.bincount(groups, weights=mean[order])
    whole = mean_sums >= _DISPERSION_MEAN
    return (
        np.concatenate([observed[large], observed_sums[whole]]),
        np.concatenate([mean[large], mean_sums[whole]]),
    )


def _poisson_dispersion(name, observed, mean, share) -> _Finding | None:
    statistic = np.sum((observed - mean) ** 2 / mean)
    # Cumulants of (count - mean)^2 / mean, from the central moments of a Poisson count
    first, second = len(mean), np.sum(2 + 1 / mean)
    third = np.sum(8 + 22 / mean + 1 / mean**2)
    shape, scale = 4 * second**3 / third**2, third / (2 * second)
    law = stats.gamma(shape, loc=first - shape * scale, scale=scale)
    low, high = law.ppf(share / 2), law.isf(share / 2)
    if low <= statistic <= high:
        return None
    text = (
        f"dispersion of the {name}: mean of (observed - expected)^2 / expected is "
        f"{statistic / first:.4g}, expected 1 (allowed: {low / first:.4g} to {high / first:.4g})"
    )
    if statistic < low:
        cause = 'too regular for a Poisson process: is it kind "regular", or one with a synapse?'
    else:
        cause = (
            "more variable than a Poisson process of these rates: single rates are off, "
            "or the counts are not independent"
        )
    return _Finding(text, cause)


# noisy --------------------------------------------------------------------------------------------


def _noisy(
    case: _Case, false_alarm: float, bias: np.ndarray, relative: float
) -> tuple[list[_Finding], float]:
    counts, expected = case.counts, case.expected
    n_repeats = len(counts)
    mean, variance = counts.mean(axis=0), counts.var(axis=0, ddof=1)
    # Few repeats may agree by chance: no variance is taken as less than the layer's usual one.
    usual = variance.sum() / max(mean.sum(), 1e-12)
    variance = np.maximum(variance, usual * np.maximum(mean, expected))
    with np.errstate(divide="ignore", invalid="ignore"):
        overshoot = np.where(expected > 0, variance / (2 * expected), np.inf)
    overshoot = np.minimum(overshoot, np.sqrt(variance))
    allowed = bias + relative * expected

    slopes = _slopes(counts, expected, variance)
    share = _SPENT * false_alarm / (2 + (slopes is not None))
    findings = []

    def critical(n_tests: int) -> float:
        return float(stats.t.isf(share / (2 * n_tests), n_repeats - 1))

    margin = critical(expected.size) * np.sqrt(variance / n_repeats)
    low, high = expected - allowed - margin, expected + allowed + overshoot + margin
    excess = np.maximum(low - mean, mean - high)
    if np.any(excess > 0):
        image, neuron = _argmax(excess / np.sqrt(variance + 1e-9))
        text = (
            f"{case.name(image, neuron)}: expected {expected[image, neuron]:.6g} spikes, observed "
            f"{mean[image, neuron]:.6g} on average over {n_repeats} repeats (allowed: "
            f"{max(low[image, neuron], 0.0):.6g} to {high[image, neuron]:.6g})"
        )
        findings.append(_worst(excess > 0, "mean counts", text))
    totals = counts.sum(axis=(1, 2))
    margin = critical(1) * totals.std(ddof=1) / np.sqrt(n_repeats)
    low = expected.sum() - allowed.sum() - margin
    high = expected.sum() + (allowed + overshoot).sum() + margin
    if expected.size > 1 and not low <= totals.mean() <= high:
        findings.append(
            _Finding(
                f"total: all neurons: expected {expected.sum():.6g} spikes, observed "
                f"{totals.mean():.6g} on average (allowed: {max(low, 0.0):.6g} to {high:.6g})"
            )
        )
    if slopes is None:
        return findings, np.inf
    error = slopes.std(ddof=1) / np.sqrt(n_repeats)
    limit = relative + critical(1) * error
    if abs(slopes.mean()) > limit:
        findings.append(
            _Finding(
                f"slope of the counts on the expected counts: expected 1, observed "
                f"{1 + slopes.mean():.5g} (allowed: {1 - limit:.5g} to {1 + limit:.5g})",
                f"weights or gain off by {100 * slopes.mean():+.2g} %, or noise that is rectified",
            )
        )
    return findings, limit + float(stats.t.isf(0.01, n_repeats - 1)) * error


def _slopes(counts: np.ndarray, expected: np.ndarray, variance: np.ndarray) -> np.ndarray | None:
    """Regress ``count - expected`` on ``expected`` for each repeat; None where nothing tells it.

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


# probable causes ----------------------------------------------------------------------------------


def _probable_cause(case: _Case, kind: str) -> str | None:
    """Name the fault that the whole pattern of counts looks like, or None."""
    observed, expected = case.mean_counts, case.expected
    if observed.sum() == 0:
        return "no neuron spiked: is every current below the threshold, or the layer unconnected?"
    if expected.sum() == 0:
        return "neurons spike where every rate is 0: a bias in the neurons, or rates of another run"
    return (
        _steps_for_spikes(observed, expected)
        or _moved(observed, expected)
        or _ceiling(case)
        or _offset(observed, expected)
        or _factor(case, kind)
    )


def _misfit(observed: np.ndarray, expected: np.ndarray) -> float:
    return float(np.mean((observed - expected) ** 2))


def _factor(case: _Case, kind: str) -> str | None:
    used = case.expected > 0
    observed, expected = case.mean_counts[used], case.expected[used]
    factor = float(observed.sum() / expected.sum())
    # One wrong neuron is no factor: both halves of the layer must show it.
    for half in (slice(0, None, 2), slice(1, None, 2)):
        if expected[half].size == 0:
            continue
        found = observed[half].sum() / expected[half].sum() - 1
        if found * (factor - 1) <= 0 or not 0.4 < found / (factor - 1) < 2.5:
            return None
    # What the factor leaves must be little more than noise.
    noise = {"regular": 0.4, "poisson": float(observed.mean())}.get(kind)
    if noise is None:
        noise = float(case.counts.var(axis=0).mean()) / len(case.counts) + 0.4
    if _misfit(observed, factor * expected) > 0.3 * _misfit(observed, expected) + 1.2 * noise:
        return None
    if abs(factor - 1) < 0.2:
        return f"weights or gain off by {100 * (factor - 1):+.2g} %"
    if abs(factor - 2) < 0.1:
        return "counts are twice the expected ones: gain or weights doubled?"
    if abs(factor - 0.5) < 0.025:
        return "counts are half the expected ones: gain or weights halved?"
    steps = 1000.0 if case.raster is None else case.raster.shape[2] / case.duration
    if abs(factor / steps - 1) < 0.1:
        return (
            f"counts are {steps:g} times the expected ones: heights of spikes (1/dt) summed "
            "instead of areas?"
        )
    if abs(factor * steps - 1) < 0.1:
        return (
            f"counts are 1/{steps:g} of the expected ones: duration given in steps or "
            "milliseconds, not in seconds?"
        )
    return (
        f"counts are {factor:.4g} times the expected ones: another gain or weights, an amplitude "
        "not taken out of counts or rates, or another duration"
    )


def _moved(observed: np.ndarray, expected: np.ndarray) -> str | None:
    limit = 0.1 * _misfit(observed, expected)
    n_images, n_neurons = observed.shape
    for shift in (1, -1, 2, -2, 3, -3):
        # A layer of a few neurons fits some shift by chance.
        if n_neurons < 2 * abs(shift) + 2:
            continue
        kept = slice(shift, None) if shift > 0 else slice(None, shift)
        if _misfit(observed[:, kept], np.roll(expected, shift, axis=1)[:, kept]) < limit:
            size = "one neuron" if abs(shift) == 1 else f"{abs(shift)} neurons"
            return (
                f"the layer looks shifted by {size}: counts fit the rates of the neuron "
                f"{abs(shift)} {'before' if shift > 0 else 'after'}"
            )
    for shift in (1, -1) if n_images > 2 else ():
        kept = slice(1, None) if shift > 0 else slice(None, -1)
        if _misfit(observed[kept], np.roll(expected, shift, axis=0)[kept]) < limit:
            where = "before" if shift > 0 else "after"
            return f"the images look shifted by one: counts fit the rates of the image {where}"
    if n_neurons > 3 and _misfit(np.sort(observed), np.sort(expected)) < limit:
        return (
            "the same rates in another order: neurons permuted, another flatten order, or a "
            "kernel transposed?"
        )
    return None


def _steps_for_spikes(observed: np.ndarray, expected: np.ndarray) -> str | None:
    """Recognise ``sum(filtered > 0)``: every step after the first spike, at ``1 / rate`` or so."""
    n_steps, busy = observed.max(), expected >= 3
    if busy.sum() < 3 or n_steps < 2 * expected.max():
        return None
    late = n_steps * (1 - 1.5 / expected[busy])
    unlike_a_factor = expected.max() > 1.5 * expected[busy].min()
    if unlike_a_factor and np.all(observed[busy] >= late) and not np.any(observed[expected == 0]):
        return (
            "steps after the first spike are counted, not spikes: sum(filtered > 0) is no "
            "spike count"
        )
    return None


def _ceiling(case: _Case) -> str | None:
    observed, expected = case.mean_counts, case.expected
    top = observed.max()
    above = expected > 1.1 * top + 2
    if above.sum() >= 2 and np.all(observed[above] >= top - 1):
        return (
            f"{int(above.sum())} counts stop near {top / case.duration:.4g} Hz, below their rates: "
            "a ceiling, such as 1/tau_ref of LIF, or spikes counted at most once a step"
        )
    return None


def _offset(observed: np.ndarray, expected: np.ndarray) -> str | None:
    used = expected > 0
    difference = observed[used] - expected[used]
    offset = float(np.median(difference))
    near = np.mean(np.abs(difference - offset) <= 1.5)
    if used.sum() < 4 or abs(offset) <= 1 or near <= 0.9:
        return None
    scaled = expected * (observed[used].sum() / expected[used].sum())
    left = _misfit(observed[used], expected[used] + offset)
    if left < 0.5 * _misfit(observed[used], scaled[used]):
        return (
            f"about {abs(offset):.2g} spikes {'fewer' if offset < 0 else 'more'} in nearly every "
            "neuron: a synapse, delay or transient at the start, or a bias"
        )
    return None


# the same spikes ----------------------------------------------------------------------------------

_AXES = {
    1: ("neuron",),
    2: ("image", "neuron"),
    3: ("image", "step", "neuron"),
}


def assert_same_spikes(
    a: ArrayLike,
    b: ArrayLike,
    *,
    max_differing: int = 0,
    axes: tuple[str, ...] | None = None,
) -> None:
    """Assert that two arrays of spike counts, or two rasters, are identical.

    Parameters
    ----------
    a, b : array_like, of the same shape
        ``(n_neurons,)`` or ``(n_images, n_neurons)`` spike counts, or an
        ``(n_images, n_steps, n_neurons)`` raster. The values are compared as they are, so the
        data of two probes may be given too.
    max_differing : int
        Number of values that may differ, 0 by default.
    axes : tuple of str, optional
        What the axes are, for the message and the probable cause: ``("step", "neuron")`` for one
        run's raster. By default as above.

    Raises
    ------
    AssertionError
        Naming the first difference, both values, how many differ and the probable cause.
    InputError
        The shapes differ, or a value is not finite.

    Examples
    --------
    >>> assert_same_spikes([1, 2, 0], [1, 2, 0])
    >>> assert_same_spikes([[1, 2, 0]], [[1, 3, 0]])
    Traceback (most recent call last):
        ...
    AssertionError: 1 of 3 values differ
    first: image 0, neuron 1: 2 and 3
    probable cause: none of the known patterns
    """
    a, b = _as_values("a", a), _as_values("b", b)
    if a.shape != b.shape:
        raise InputError(f"a and b: expected the same shape, got {a.shape} and {b.shape}")
    if axes is None:
        axes = _AXES.get(a.ndim, tuple(f"axis {i}" for i in range(a.ndim)))
    if len(axes) != a.ndim:
        raise InputError(f"axes: expected {a.ndim} names, for shape {a.shape}, got {axes!r}")
    max_differing = positive_integer("max_differing", max_differing, at_least=0)
    differing = a != b
    n_differing = int(differing.sum())
    if n_differing <= max_differing:
        return
    first = tuple(int(i) for i in np.argwhere(differing)[0])
    where = ", ".join(f"{name} {index}" for name, index in zip(axes, first, strict=True))
    allowed = f" (allowed: {max_differing})" if max_differing else ""
    raise AssertionError(
        f"{n_differing} of {a.size} values differ{allowed}\n"
        f"first: {where}: {a[first]:.6g} and {b[first]:.6g}\n"
        f"probable cause: {_why_different(a, b, axes) or _NONE}"
    )


def _why_different(a: np.ndarray, b: np.ndarray, axes: tuple[str, ...]) -> str | None:
    for name, other, nonzero in (("a", a, b), ("b", b, a)):
        if not np.any(other) and np.any(nonzero):
            return f"{name} has no spike at all"
    if "step" in axes:
        axis = axes.index("step")
        for delay in range(1, min(20, a.shape[axis])):
            for early, late, name in ((a, b, "b"), (b, a, "a")):
                if _delayed(early, late, delay, axis):
                    steps = "one step" if delay == 1 else f"{delay} steps"
                    return f"{name} is later by {steps}: a synapse or delay on a connection?"
    if "neuron" in axes:
        axis = axes.index("neuron")
        for shift in (1, -1):
            if a.shape[axis] > 2 and _delayed(a, b, 1, axis, backwards=shift < 0):
                return "the layer is shifted by one neuron"
    factor = float(b.sum() / a.sum()) if a.sum() else 1.0
    if factor != 1 and np.allclose(b, factor * a, rtol=1e-9, atol=0):
        return f"b is {factor:.6g} times a: another amplitude, dt or gain"
    if "step" in axes and np.array_equal(a.sum(axes.index("step")), b.sum(axes.index("step"))):
        return "the counts are the same and the times are not: other noise or starting voltages"
    for name in ("neuron", "image"):
        if name in axes and _permuted(a, b, axes.index(name)):
            return f"the same spikes in another order of the {name}s"
    most = np.mean(a != b) > 0.2 and a.size >= 10 and "step" not in axes
    if most and 0.5 < factor < 2 and abs(factor - 1) > 0.005:
        return f"b has {100 * (factor - 1):+.2g} % spikes: other weights, gain or duration?"
    if np.mean(a != b) < 0.01:
        return "single values: rounding, as of 32-bit or of sums in another order"
    return None


def _delayed(
    early: np.ndarray, late: np.ndarray, delay: int, axis: int, backwards: bool = False
) -> bool:
    if backwards:
        early, late = late, early
    early = np.moveaxis(early, axis, 0)[: early.shape[axis] - delay]
    late = np.moveaxis(late, axis, 0)[delay:]
    return bool(np.any(early)) and np.array_equal(early, late)


def _permuted(a: np.ndarray, b: np.ndarray, axis: int) -> bool:
    def rows(values):
        values = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
        return values[np.lexsort(values.T[::-1])]

    return a.shape[axis] > 1 and np.array_equal(rows(a), rows(b))
