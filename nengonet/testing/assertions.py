"""The assertions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike

from nengonet.checks import as_number, positive_integer, quoted
from nengonet.exceptions import InputError
from nengonet.testing.bounds import checked_case, noisy, poisson, regular
from nengonet.testing.causes import UNKNOWN, cause_of_counts, cause_of_difference
from nengonet.testing.probes import as_values

if TYPE_CHECKING:
    from nengonet.results.result import Result

_AXES = {1: ("neuron",), 2: ("image", "neuron"), 3: ("image", "step", "neuron")}


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
    """Assert that every spike count matches its rate, within the bound for its kind of firing.

    One function serves all kinds of firing, so some keywords apply to one kind only.

    Parameters
    ----------
    counts : array_like of whole numbers
        - ``(n_neurons,)`` or ``(n_images, n_neurons)``: spikes in one presentation.
        - With ``dt``, a raster, ``([n_images,] n_steps, n_neurons)``: spikes in every step.
        - For ``"noisy"``, one more axis in front: at least 5 repeats with independent noise.
    rates : array_like, in Hz
        Predicted rates, negative for negative spikes (wrapped ``Tanh``); they broadcast to
        ``(n_neurons,)`` or ``(n_images, n_neurons)``.
    duration : float, in seconds
        Duration of one presentation. With ``dt`` it is ``n_steps * dt``.
    kind : {"regular", "poisson", "noisy"}
        - ``"regular"``: a constant current, ``abs(count - rate * t) < 1`` at every ``t``.
        - ``"poisson"``: independent counts whose variance is their mean. The tests are exact tails
          of counts and sums, and their dispersion.
        - ``"noisy"``: neurons driven by noise. The test is Student's t over the repeats.

        The guide "Test your network" lists which neurons fire how, and what each test can show.
    dt : float, in seconds, optional
        Length of a step. If given, ``counts`` is a raster.
    false_alarm : float
        For ``"poisson"`` and ``"noisy"``: the chance that correct counts fail, over all neurons,
        images and tests of this call together. ``"regular"`` has no false alarms.
    bound : float, in spikes
        For ``"regular"``: the largest deviation. 0.5 is enough for neurons that all start halfway
        to the threshold, as `nengonet.IntegrateAndFire` does; a transient at the start needs more
        than 1.
    rtol : float
        For ``"regular"``: relative error of the expected counts from rounding, added to the
        bound. About 1e-6 for rates or simulations in 32 bits.
    bias : float or array_like, in spikes
        For ``"noisy"``: how far the mean count may be from ``rate * duration`` with any number of
        repeats. The default is the largest effect of an unknown phase at the start.
    relative : float
        For ``"noisy"``: the same as a share of the expected count; 0.01 means 1 %.
    must_detect : float, optional
        Refuse data (`InputError`) that are too few to detect, with a probability of 99 %, that all
        weights are off by this share; 0.02 means 2 %. Without it, a small amount of data passes
        easily.

    Raises
    ------
    AssertionError
        A count is out of bounds. The message names the worst neuron and image, the expected and the
        observed count, the bound, how many are beyond it and the probable cause.
    InputError
        The shapes do not fit, or a value is not a count, rate or duration.

    Examples
    --------
    >>> nn.testing.assert_counts_match_rates([10, 20, 0], rates=[50, 102, 0], duration=0.2)
    >>> nn.testing.assert_counts_match_rates([10, 40, 0], rates=[50, 102, 0], duration=0.2)
    Traceback (most recent call last):
        ...
    AssertionError: counts do not match their rates (kind regular)
    1 of 3 counts, worst: neuron 1: expected 20.4 spikes, observed 40 (allowed: 19.4 to 21.4)
    probable cause: none of the known patterns
    """
    case = checked_case(counts, rates, duration, kind, dt)
    false_alarm = as_number("false_alarm", false_alarm, "a chance", above=0, below=1)
    rtol = as_number("rtol", rtol, "a share", at_least=0)
    relative = as_number("relative", relative, "a share", at_least=0)
    bound = as_number("bound", bound, "spikes", above=0)
    if must_detect is not None:
        must_detect = as_number("must_detect", must_detect, "a share such as 0.02", above=0)
    if kind == "regular":
        stages, detectable = regular(case, bound, rtol)
    elif kind == "poisson":
        stages, detectable = poisson(case, false_alarm)
    else:
        stages, detectable = noisy(case, false_alarm, bias, relative)
    for stage in stages:
        found = [wrong for wrong in (bounds.judged() for bounds in stage) if wrong]
        if found:
            texts, causes = zip(*found, strict=True)
            cause = cause_of_counts(case) or (causes[0] if all(causes) else None)
            lines = (f"counts do not match their rates (kind {kind})", *texts)
            raise AssertionError("\n".join([*lines, f"probable cause: {cause or UNKNOWN}"]))
    if must_detect is not None and not detectable <= must_detect:
        shown = "nothing" if not np.isfinite(detectable) else f"{100 * detectable:.3g} % at best"
        raise InputError(
            f"must_detect: expected enough spikes to detect weights off by "
            f"{100 * must_detect:.3g} %, got counts that detect {shown}; use a longer duration, "
            "higher rates, or more images or repeats"
        )


class _Resting(Protocol):
    """The part of `nengonet.FixedPoint` that is used here; its own module needs Nengo."""

    def distance(self, observed: Result | Mapping[str, ArrayLike]) -> Mapping[str, Mapping]: ...

    def trouble(self) -> str | None: ...


def assert_at_rest(
    observed: Result | Mapping[str, ArrayLike], point: _Resting, *, rms: float
) -> None:
    """Assert that the loops of a network rest, stably, and that a run's rates are close to that.

    Parameters
    ----------
    observed : Result, or dict of {str: (n_images, n_neurons) array_like}, in Hz
        A run's rates by label, or the result of `present`. Rates include the time before the loop
        rests, so let the run last many times the point's ``settling_time``.
    point : FixedPoint
        The result of `fixed_point`, with ``noise=True`` for neurons driven by spikes.
    rms : float, in Hz
        The largest root mean square difference of a layer.

    Raises
    ------
    AssertionError
        A loop does not rest, or a rate is too far off. The message names the layers and images that
        do not settle or are unstable, or the layer that is too far off, and whether other starts
        end elsewhere.
    InputError
        The run has none of the layers, or rates of another shape.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((1,))
    ...     layer = nn.dense(pixels, [[1.0]], nengo.LIF(), gain=5.0, bias=1.0, label="layer")
    ...     neurons = layer.ensemble.neurons
    ...     loop = nengo.Connection(neurons, neurons, transform=-0.002, synapse=0.05)
    >>> point = nn.fixed_point(layer, [[1.0]])
    >>> result = nn.present(net, layer, [[1.0]], presentation_time=2.0)
    >>> nn.testing.assert_at_rest(result, point, rms=5.0)
    """
    rms = as_number("rms", rms, "a rate in Hz", above=0)
    distances = point.distance(observed)
    trouble = point.trouble()
    if trouble is not None:
        raise AssertionError(trouble)
    label = max(distances, key=lambda label: distances[label]["rms"])
    worst = distances[label]
    if worst["rms"] <= rms:
        return
    other = "none of the known patterns"
    if point.several.any():
        other = "a run that came to rest elsewhere: the loop has several fixed points"
    raise AssertionError(
        f"{label}: the rates of the run are {worst['rms']:.4g} Hz (RMS) from the fixed point "
        f"(allowed: {rms:g} Hz), {worst['largest']:.4g} Hz at most; {worst['share']:.0%} of them "
        f"are within 5 Hz\nprobable cause: {other}"
    )


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
        ``(n_neurons,)`` or ``(n_images, n_neurons)`` counts, an ``(n_images, n_steps, n_neurons)``
        raster, or the data of two probes. The values are compared as they are.
    max_differing : int
        Number of values that may differ.
    axes : tuple of str, optional
        Names of the axes, for the message and the probable cause: ``("step", "neuron")`` for one
        run's raster. By default as above.

    Raises
    ------
    AssertionError
        Too many values differ. The message names the first difference, both values, how many differ
        and the probable cause.
    InputError
        The shapes differ, or a value is not finite.

    Examples
    --------
    >>> nn.testing.assert_same_spikes([1, 2, 0], [1, 2, 0])
    >>> nn.testing.assert_same_spikes([[1, 2, 0]], [[1, 3, 0]])
    Traceback (most recent call last):
        ...
    AssertionError: 1 of 3 values differ
    first: image 0, neuron 1: 2 and 3
    probable cause: none of the known patterns
    """
    a, b = as_values("a", a), as_values("b", b)
    if a.shape != b.shape:
        raise InputError(f"a and b: expected the same shape, got {a.shape} and {b.shape}")
    if axes is None:
        axes = _AXES.get(a.ndim, tuple(f"axis {i}" for i in range(a.ndim)))
    if len(axes) != a.ndim:
        raise InputError(f"axes: expected {a.ndim} names, for shape {a.shape}, got {quoted(axes)}")
    max_differing = positive_integer("max_differing", max_differing, at_least=0)
    differing = np.argwhere(a != b)
    if len(differing) <= max_differing:
        return
    first = tuple(int(i) for i in differing[0])
    where = ", ".join(f"{name} {index}" for name, index in zip(axes, first, strict=True))
    allowed = f" (allowed: {max_differing})" if max_differing else ""
    raise AssertionError(
        f"{len(differing)} of {a.size} values differ{allowed}\n"
        f"first: {where}: {a[first]:.6g} and {b[first]:.6g}\n"
        f"probable cause: {cause_of_difference(a, b, axes) or UNKNOWN}"
    )
