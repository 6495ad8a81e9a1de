"""Probable causes, recognised by the pattern of wrong counts or spikes."""

from __future__ import annotations

import numpy as np

from nengonet.testing.bounds import Case

UNKNOWN = "none of the known patterns"


def cause_of_counts(case: Case) -> str | None:
    """Name the fault that best explains all counts together."""
    observed, expected = case.counts.mean(axis=0), case.expected
    if observed.sum() == 0:
        return "no neuron spiked: is every current below the threshold, or the layer unconnected?"
    if expected.sum() == 0:
        return "neurons spike where every rate is 0: a bias in the neurons, or rates of another run"
    patterns = (_steps_for_spikes, _moved, _ceiling, _offset, _factor)
    return next(filter(None, (known(case, observed, expected) for known in patterns)), None)


def _misfit(observed: np.ndarray, expected: np.ndarray) -> float:
    return float(np.mean((observed - expected) ** 2))


def _steps_for_spikes(case: Case, observed: np.ndarray, expected: np.ndarray) -> str | None:
    """Recognise ``sum(filtered > 0)``: every step after the first spike, at ``1 / rate`` or so."""
    n_steps, busy = observed.max(), expected >= 3
    if busy.sum() < 3 or n_steps < 2 * expected.max():
        return None
    late = n_steps * (1 - 1.5 / expected[busy])
    unlike_a_factor = expected.max() > 1.5 * expected[busy].min()
    if unlike_a_factor and np.all(observed[busy] >= late) and not np.any(observed[expected == 0]):
        return (
            "steps after the first spike are counted, not spikes: sum(filtered > 0) is not a "
            "spike count"
        )
    return None


def _moved(case: Case, observed: np.ndarray, expected: np.ndarray) -> str | None:
    limit = 0.1 * _misfit(observed, expected)
    n_images, n_neurons = observed.shape
    # A layer of a few neurons fits some shift by chance.
    shifts = [(1, k) for k in (1, -1, 2, -2, 3, -3) if n_neurons >= 2 * abs(k) + 2]
    for axis, shift in shifts + [(0, k) for k in (1, -1) if n_images > 2]:
        kept = np.s_[:, shift:] if shift > 0 else np.s_[:, :shift]
        moved = np.roll(expected, shift, axis=axis)
        pair = (observed, moved) if axis else (observed.T, moved.T)
        if _misfit(pair[0][kept], pair[1][kept]) >= limit:
            continue
        where = "before" if shift > 0 else "after"
        if axis == 0:
            return f"the images look shifted by one: counts fit the rates of the image {where}"
        size = "one neuron" if abs(shift) == 1 else f"{abs(shift)} neurons"
        return (
            f"the layer looks shifted by {size}: counts fit the rates of the neuron {abs(shift)} "
            f"{where}"
        )
    if n_neurons > 3 and _misfit(np.sort(observed), np.sort(expected)) < limit:
        return (
            "the same rates in another order: neurons permuted, another flatten order, or a "
            "kernel transposed?"
        )
    return None


def _ceiling(case: Case, observed: np.ndarray, expected: np.ndarray) -> str | None:
    top = observed.max()
    above = expected > 1.1 * top + 2
    if above.sum() >= 2 and np.all(observed[above] >= top - 1):
        return (
            f"{int(above.sum())} counts stop near {top / case.duration:.4g} Hz, below their rates: "
            "a ceiling, such as 1/tau_ref of LIF, or spikes counted at most once a step"
        )
    return None


def _offset(case: Case, observed: np.ndarray, expected: np.ndarray) -> str | None:
    observed, expected = observed[expected > 0], expected[expected > 0]
    offset = float(np.median(observed - expected))
    near = np.mean(np.abs(observed - expected - offset) <= 1.5)
    if expected.size < 4 or abs(offset) <= 1 or near <= 0.9:
        return None
    scaled = expected * (observed.sum() / expected.sum())
    if _misfit(observed, expected + offset) < 0.5 * _misfit(observed, scaled):
        return (
            f"about {abs(offset):.2g} spikes {'fewer' if offset < 0 else 'more'} in nearly every "
            "neuron: a synapse, delay or transient at the start, or a bias"
        )
    return None


def _factor(case: Case, observed: np.ndarray, expected: np.ndarray) -> str | None:
    observed, expected = observed[expected > 0], expected[expected > 0]
    factor = float(observed.sum() / expected.sum())
    # One wrong neuron does not make a factor: both halves of the layer must show it.
    for half in (slice(0, None, 2), slice(1, None, 2)):
        if expected[half].size:
            found = observed[half].sum() / expected[half].sum() - 1
            if found * (factor - 1) <= 0 or not 0.4 < found / (factor - 1) < 2.5:
                return None
    # The rest, after the factor, must be little more than noise.
    noise = {"regular": 0.4, "poisson": float(observed.mean())}.get(case.kind)
    if noise is None:
        noise = float(case.counts.var(axis=0).mean()) / len(case.counts) + 0.4
    if _misfit(observed, factor * expected) > 0.3 * _misfit(observed, expected) + 1.2 * noise:
        return None
    if abs(factor - 1) < 0.2:
        return f"weights or gain off by {100 * (factor - 1):+.2g} %"
    steps = case.raster.shape[2] / case.duration if case.has_steps else 1000.0
    known = {
        (2, 0.05): "twice the expected ones: gain or weights doubled?",
        (0.5, 0.05): "half the expected ones: gain or weights halved?",
        (steps, 0.1): f"{steps:g} times the expected ones: heights of spikes (1/dt) summed instead "
        "of areas?",
        (1 / steps, 0.1): f"1/{steps:g} of the expected ones: duration given in steps or "
        "milliseconds, not in seconds?",
    }
    other = (
        f"{factor:.4g} times the expected ones: another gain or weights, an amplitude that was "
        "left in counts or rates, or another duration"
    )
    like = (text for (value, within), text in known.items() if abs(factor / value - 1) < within)
    return f"counts are {next(like, other)}"


def cause_of_difference(a: np.ndarray, b: np.ndarray, axes: tuple[str, ...]) -> str | None:
    """Name the fault that best explains the difference of two runs."""
    if np.any(a) != np.any(b):
        return f"{'b' if np.any(a) else 'a'} has no spike at all"
    for step in [axes.index(name) for name in axes if name == "step"]:
        for delay in range(1, min(20, a.shape[step])):
            for name, early, late in (("b", a, b), ("a", b, a)):
                if _delayed(early, late, delay, step):
                    steps = "one step" if delay == 1 else f"{delay} steps"
                    return f"{name} is later by {steps}: a synapse or delay on a connection?"
    for neuron in [axes.index(name) for name in axes if name == "neuron"]:
        if a.shape[neuron] > 2 and (_delayed(a, b, 1, neuron) or _delayed(b, a, 1, neuron)):
            return "the layer is shifted by one neuron"
    factor = float(b.sum() / a.sum()) if a.sum() else 1.0
    if factor != 1 and np.allclose(b, factor * a, rtol=1e-9, atol=0):
        return f"b is {factor:.6g} times a: another amplitude, dt or gain"
    if "step" in axes and np.array_equal(a.sum(axes.index("step")), b.sum(axes.index("step"))):
        return "the counts are the same and the times are not: other noise or initial voltages"
    for name in ("neuron", "image"):
        if name in axes and _permuted(a, b, axes.index(name)):
            return f"the same spikes in another order of the {name}s"
    share = np.mean(a != b)
    of_factor = 0.5 < factor < 2 and abs(factor - 1) > 0.005
    if share > 0.2 and a.size >= 10 and "step" not in axes and of_factor:
        return f"b has {100 * (factor - 1):+.2g} % spikes: other weights, gain or duration?"
    if share < 0.01:
        return "single values: rounding, as of 32-bit or of sums in another order"
    return None


def _delayed(early: np.ndarray, late: np.ndarray, delay: int, axis: int) -> bool:
    early, late = np.moveaxis(early, axis, 0)[:-delay], np.moveaxis(late, axis, 0)[delay:]
    return bool(np.any(early)) and np.array_equal(early, late)


def _permuted(a: np.ndarray, b: np.ndarray, axis: int) -> bool:
    def rows(values):
        values = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
        return values[np.lexsort(values.T[::-1])]

    return a.shape[axis] > 1 and np.array_equal(rows(a), rows(b))
