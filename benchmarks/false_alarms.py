"""Measure how often `nengonet.testing.assert_counts_match_rates` fails: correct counts, and faults.

    python benchmarks/false_alarms.py [--cases 2000] [--seed 0]

Every case is a separate layer with its own random weights. The same network code feeds the correct
and the faulty runs. Neurons are stepped by the ``step`` of the neuron types themselves. There are
three faults: all weights off by 2 %, the gain doubled, the layer shifted by one neuron.
A stated chance of 1e-6 cannot be observed in 2,000 cases. The chances 0.05 and 0.01 are therefore
measured as well, and show the calibration.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import nengo
import numpy as np
from scipy.stats import beta

from nengonet import IntegrateAndFire
from nengonet.testing import assert_counts_match_rates

FAULTS = ("weights + 2 %", "gain doubled", "shifted by one")
N_INPUTS, N_NEURONS = 50, 64


def failed(*args: object, **settings: object) -> bool:
    """Return whether the assertion fails."""
    try:
        assert_counts_match_rates(*args, **settings)
    except AssertionError:
        return True
    return False


def faulty(kernel: np.ndarray, fault: str | None) -> tuple[np.ndarray, float]:
    """Return kernel and gain with the fault."""
    if fault == "weights + 2 %":
        return 1.02 * kernel, 1.0
    if fault == "shifted by one":
        return np.roll(kernel, 1, axis=1), 1.0
    return kernel, 2.0 if fault == "gain doubled" else 1.0


def fired(neuron_type, current: np.ndarray, n_steps: int, dt: float, rng) -> np.ndarray:
    """Step neurons under a constant current, from starting voltages of their type."""
    state = {
        name: np.asarray(law.sample(current.size, rng=np.random.RandomState(rng.integers(2**31))))
        if hasattr(law, "sample")
        else np.full(current.size, law)
        for name, law in neuron_type.state.items()
    }
    output = np.zeros(current.size)
    raster = np.empty((n_steps, current.size))
    for step in range(n_steps):
        neuron_type.step(dt, current, output, **state)
        raster[step] = np.rint(output * dt)
    return raster


def regular(neuron_type, rate_of: Callable, tuning: tuple[float, float], per_step: bool):
    """Make the cases of one neuron type: constant current, 1 s of 1 ms (0.35 s with a raster)."""
    duration = 0.35 if per_step else 1.0
    gain, bias = tuning

    def case(rng: np.random.Generator, fault: str | None) -> tuple[tuple, dict]:
        kernel = rng.normal(0.02, 0.1, (N_INPUTS, N_NEURONS))
        pixels = rng.uniform(size=N_INPUTS)
        rates = rate_of(gain * (pixels @ kernel) + bias)
        actual, factor = faulty(kernel, fault)
        current = factor * gain * (pixels @ actual) + bias
        raster = fired(neuron_type, current, round(duration / 0.001), 0.001, rng)
        if per_step:
            return (raster, rates, duration, "regular"), {"dt": 0.001}
        return (raster.sum(axis=0), rates, duration, "regular"), {}

    return case


def lif_rates(current: np.ndarray) -> np.ndarray:
    """Compute LIF's rates in Hz."""
    return nengo.LIF().rates(current[None], np.ones(current.size), np.zeros(current.size))[0]


def relu_rates(current: np.ndarray) -> np.ndarray:
    """Compute the rates of integrate-and-fire neurons in Hz."""
    return np.maximum(current, 0.0)


def poisson(n_images: int, mean_rate: float):
    """Make Poisson layers, many images of 1 s."""

    def case(rng: np.random.Generator, fault: str | None) -> tuple[tuple, dict]:
        kernel = rng.normal(0.02, 0.1, (N_INPUTS, N_NEURONS))
        pixels = rng.uniform(size=(n_images, N_INPUTS))
        actual, factor = faulty(kernel, fault)
        # The mean rate over images and neurons is the chosen one, and some rates are 0.
        gain = mean_rate / np.maximum(pixels @ kernel, 0).mean()
        rates = np.maximum(gain * (pixels @ kernel), 0)
        counts = rng.poisson(np.maximum(factor * gain * (pixels @ actual), 0))
        return (counts, rates, 1.0, "poisson"), {}

    return case


def noisy(n_repeats: int, n_steps: int, max_rate: float):
    """Make layers of integrate-and-fire neurons behind a Poisson input."""
    neuron_type, dt = IntegrateAndFire(), 0.001

    def case(rng: np.random.Generator, fault: str | None) -> tuple[tuple, dict]:
        kernel = rng.normal(0.02, 0.06, (N_INPUTS, N_NEURONS)) * (250 / max_rate)
        input_rates = rng.uniform(0.1, 1, N_INPUTS) * max_rate
        rates = np.maximum(input_rates @ kernel, 0)
        actual, factor = faulty(kernel, fault)
        voltage = np.full((n_repeats, N_NEURONS), 0.5)
        output, counts = np.zeros_like(voltage), np.zeros_like(voltage)
        for _ in range(n_steps):
            spikes = rng.poisson(input_rates * dt, (n_repeats, N_INPUTS))
            neuron_type.step(dt, factor * (spikes @ actual) / dt, output, voltage)
            counts += np.rint(output * dt)
        return (counts, rates, n_steps * dt, "noisy"), {}

    return case


def renewal(n_repeats: int, max_rate: float):
    """Make renewal neurons: gamma intervals, more regular or more bursty than Poisson."""

    def case(rng: np.random.Generator, fault: str | None) -> tuple[tuple, dict]:
        kernel = rng.normal(0.02, 0.1, (N_INPUTS, N_NEURONS))
        pixels = rng.uniform(size=N_INPUTS)
        actual, factor = faulty(kernel, fault)
        gain = max_rate / np.max(pixels @ kernel)
        rates = np.maximum(gain * (pixels @ kernel), 0)
        driven = np.maximum(factor * gain * (pixels @ actual), 0)
        shape = rng.uniform(0.5, 6.0)
        n_intervals = int(1.5 * driven.max() + 60)
        intervals = rng.gamma(shape, 1 / shape, (n_repeats, n_intervals, N_NEURONS))
        times = np.cumsum(intervals, axis=1)
        counts = (times < driven).sum(axis=1)
        assert np.all(counts < n_intervals)
        return (counts, rates, 1.0, "noisy"), {}

    return case


def tables(n_cases: int) -> Iterator[tuple[str, Callable, int, int]]:
    """Yield name, case, number of correct cases, and number of cases of each fault."""
    currents = (nengo.SpikingRectifiedLinear(), relu_rates, (100.0, 10.0))
    signed = (IntegrateAndFire(), relu_rates, (100.0, 10.0))
    lif = (nengo.LIF(), lif_rates, (2.0, 1.0))
    half = max(1, n_cases // 4)
    yield "regular, SpikingRectifiedLinear", regular(*currents, per_step=False), n_cases, half
    yield "regular, IntegrateAndFire", regular(*signed, per_step=False), n_cases, half
    yield "regular, LIF", regular(*lif, per_step=False), n_cases, half
    yield "regular, LIF, every step", regular(*lif, per_step=True), n_cases, half
    yield "poisson, 40 images", poisson(40, 100.0), n_cases, half
    yield "poisson, one dim image", poisson(1, 3.0), n_cases, 0
    yield "noisy, renewal, 100 repeats", renewal(100, 400.0), n_cases, half
    yield "noisy, renewal, 5 repeats", renewal(5, 60.0), n_cases, 0
    yield "noisy, Poisson input, 40 repeats", noisy(40, 500, 2000.0), n_cases, half


def upper(k: int, n: int) -> float:
    """Return the upper end of the one-sided 95 % interval (Clopper-Pearson) of ``k`` of ``n``."""
    return 1.0 if k == n else float(beta.ppf(0.95, k + 1, n - k))


def lower(k: int, n: int) -> float:
    """Return the lower end of the one-sided 95 % interval (Clopper-Pearson) of ``k`` of ``n``."""
    return 0.0 if k == 0 else float(beta.ppf(0.05, k, n - k + 1))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000, help="correct cases of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    arguments = parser.parse_args()
    for name, case, n_correct, n_faulty in tables(arguments.cases):
        if arguments.only not in name:
            continue
        started = time.perf_counter()
        # Regular counts are deterministic, so they must never fail.
        levels = (1e-6,) if name.startswith("regular") else (0.05, 0.01, 1e-6)
        alarms = dict.fromkeys(levels, 0)
        for number in range(n_correct):
            rng = np.random.default_rng([arguments.seed, 0, number])
            args, settings = case(rng, None)
            for level in levels:
                alarms[level] += failed(*args, **settings, false_alarm=level)
        print(f"{name}: {n_correct} correct cases")
        for level, count in alarms.items():
            stated = "none" if name.startswith("regular") else f"{level:g}"
            print(
                f"    false alarms: stated {stated}, measured {count / n_correct:.4g} "
                f"({count}; at most {upper(count, n_correct):.4f} with 95 % confidence)"
            )
        for fault in FAULTS if n_faulty else ():
            found = 0
            for number in range(n_faulty):
                rng = np.random.default_rng([arguments.seed, 1, number])
                args, settings = case(rng, fault)
                found += failed(*args, **settings)
            print(
                f"    {fault}: {found} of {n_faulty} detected at the default false_alarm "
                f"(at least {100 * lower(found, n_faulty):.2f} % with 95 % confidence)"
            )
        print(f"    {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
