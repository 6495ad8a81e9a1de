"""Fixed points of the loops in a network: their record, and its texts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from nengonet.checks import as_number, shortened
from nengonet.exceptions import InputError
from nengonet.results.result import Result
from nengonet.tables import counted

# The mean field does not hold for currents that fluctuate by more than this share of their size.
COARSE = 0.5
# A step that multiplies a deviation by no more than this does not change it.
_STEADY = 1 + 1e-6
# Smaller residuals are rounding.
_LITTLE_HZ = 0.001
# The share of a deviation that is left once it has settled.
_SETTLED = 0.05


@dataclasses.dataclass(frozen=True, eq=False)
class FixedPoint:
    """The rates at which the loops of a network rest.

    Attributes
    ----------
    rates : dict of {str: (n_images, n_neurons) ndarray}, in Hz
        Rates of the layers in a loop, by label.
    converged : (n_images,) ndarray of bool
        Whether a fixed point was found.
    multiplier : (n_images,) ndarray
        The factor by which a step of the simulation multiplies a small deviation from the fixed
        point: the spectral radius of the step's linear map, with synapses as Nengo steps them and
        every neuron at the rate of its current.
    residual : (n_images,) ndarray, in Hz
        Change of the rates in one more iteration of the loop.
    iterations : int
        Number of iterations until then.
    followed : (n_images,) ndarray of bool
        Whether the damped iteration led there from the reset state, in which all rates are 0;
        False for a fixed point that was found by a search only.
    fluctuation : (n_images,) ndarray
        Deviation of currents from step to step that the loop's own spikes cause, as a share of the
        currents, or of the threshold if that is larger. It is that of the median neuron in the
        layer where it is largest. The mean field holds where it is below 1/2.
    elsewhere : (n_tried,) ndarray of int
        For the first images, the number of other starts that come to rest at other rates, which
        differ by more than 1 Hz and 5 % of a layer's rates (root mean squares). Images that did not
        come to rest from the reset state are not tried.
    n_starts : int
        Number of other starts that were tried.
    dt : float, in seconds

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((1,))
    ...     layer = nn.dense(pixels, [[1.0]], nengo.LIF(), gain=5.0, bias=1.0, label="layer")
    ...     neurons = layer.ensemble.neurons
    ...     loop = nengo.Connection(neurons, neurons, transform=-0.002, synapse=0.05)
    >>> print(nn.fixed_point(layer, [[1.0]]))
    loop of layer: 1 image
    converged: yes, another iteration changes rates by less than 0.001 Hz
    stable: yes, a step multiplies a deviation by up to 0.9752
    settles within 119 ms (5 % left)
    its spikes move currents by up to 1% of their size
    other starts end elsewhere: no (8 starts each)
    """

    rates: dict[str, np.ndarray]
    converged: np.ndarray
    multiplier: np.ndarray
    residual: np.ndarray
    iterations: int
    followed: np.ndarray
    fluctuation: np.ndarray
    elsewhere: np.ndarray
    n_starts: int
    dt: float

    @property
    def stable(self) -> np.ndarray:
        """Whether a small deviation dies away, (n_images,): the multiplier is below 1."""
        return self.converged & (self.multiplier <= _STEADY)

    @property
    def settling_time(self) -> np.ndarray:
        """Time in seconds until 5 % are left of a small deviation, (n_images,)."""
        with np.errstate(divide="ignore"):
            slow = np.log(np.clip(self.multiplier, 0.0, 1.0))
            return np.where(
                self.stable, self.dt * np.log(_SETTLED) / np.minimum(slow, -1e-300), np.inf
            )

    @property
    def several(self) -> np.ndarray:
        """Whether other starts end elsewhere, (n_tried,)."""
        return self.elsewhere > 0

    def distance(
        self, observed: Result | Mapping[str, ArrayLike], *, within: float = 5.0
    ) -> dict[str, dict[str, float]]:
        """Return how far the rates of a run are from the fixed point.

        Parameters
        ----------
        observed : Result, or dict of {str: (n_images, n_neurons) array_like}, in Hz
            The result of `present`, or rates by label.
        within : float, in Hz

        Returns
        -------
        distance : dict of {str: dict}
            For each layer ``rms`` and ``largest``, in Hz, and ``share``, the share of rates that
            are closer than ``within``.

        Raises
        ------
        InputError
            The run has none of the layers, or rates of another shape.
        """
        within = as_number("within", within, "a rate in Hz", above=0)
        if isinstance(observed, Result):
            observed = {label: observed.rates(label) for label in observed.counts}
        labels = [label for label in self.rates if label in observed]
        if not labels:
            raise InputError(
                f"observed: expected rates of {', '.join(self.rates)}, got "
                f"{', '.join(map(str, observed)) or 'none'}"
            )
        found = {}
        for label in labels:
            rates, expected = np.asarray(observed[label], dtype=np.float64), self.rates[label]
            if rates.shape != expected.shape:
                raise InputError(f"{label}: expected shape {expected.shape}, got {rates.shape}")
            error = np.abs(rates - expected)
            found[label] = {
                "rms": float(np.sqrt((error**2).mean())),
                "largest": float(error.max()),
                "share": float((error < within).mean()),
            }
        return found

    def trouble(self) -> str | None:
        """Return why these are not the rates of a run, and what to do; None if they are."""
        labels, n = ", ".join(self.rates), len(self.converged)
        if not self.converged.all():
            lost = ~self.converged
            return (
                f"{labels}: expected a loop with a fixed point, got rates that do not settle for "
                f"{lost.sum()} of {counted(n, 'image')}: after {self.iterations} iterations, one "
                f"more changes them by {self.residual[lost].max():.3g} Hz; use weaker weights or "
                "longer synapses"
            )
        if not self.stable.all():
            return (
                f"{labels}: expected a loop with a stable fixed point, got an unstable one for "
                f"{(~self.stable).sum()} of {counted(n, 'image')}: a step multiplies a deviation "
                f"by up to {self.multiplier.max():.4g}, so a run does not stay there; use weaker "
                "weights, or run it"
            )
        return None

    def __repr__(self) -> str:
        """Show for how many images it was found; `str` returns more."""
        loop = shortened(", ".join(self.rates))
        found = f"{self.converged.sum()} converged, {self.stable.sum()} stable"
        return f"<FixedPoint of {loop}: {counted(len(self.converged), 'image')}, {found}>"

    def __str__(self) -> str:
        """Return a summary in a few lines."""
        n, left = len(self.converged), self.residual.max()
        size = f"up to {left:.2g}" if left >= _LITTLE_HZ else f"less than {_LITTLE_HZ:g}"
        lines = [
            f"loop of {', '.join(self.rates)}: {counted(n, 'image')}",
            f"converged: {_share(self.converged)}, another iteration changes rates by {size} Hz",
            f"stable: {_share(self.stable)}, a step multiplies a deviation by up to "
            f"{self.multiplier.max():.4g}",
        ]
        sought = self.converged & ~self.followed
        if sought.any():
            lines.append(f"found by a search, not from the reset state: {_share(sought)}")
        if self.stable.any():
            slowest = self.settling_time[self.stable].max()
            lines.append(f"settles within {duration(slowest)} (5 % left)")
        if self.fluctuation.any():
            share = self.fluctuation.max()
            share = f"up to {share:.0%}" if share >= 0.01 else "less than 1%"
            lines.append(f"its spikes move currents by {share} of their size")
        if self.n_starts:
            lines.append(
                f"other starts end elsewhere: {_share(self.several)} ({self.n_starts} starts each)"
            )
        return "\n".join(lines)


def duration(seconds: float) -> str:
    """Return a time as text, in ms, or in s from 1 s on."""
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:,.3g} s"


def _share(which: np.ndarray) -> str:
    n = len(which)
    return "yes" if which.all() else "no" if not which.any() else f"{which.sum()} of {n}"


def joined(points: Sequence[FixedPoint]) -> FixedPoint:
    """Return several loops of one network as one, at rest where all of them are."""
    first, *others = points
    return functools.reduce(_both, others, first)


def _both(a: FixedPoint, b: FixedPoint) -> FixedPoint:
    return FixedPoint(
        rates=a.rates | b.rates,
        converged=a.converged & b.converged,
        multiplier=np.maximum(a.multiplier, b.multiplier),
        residual=np.maximum(a.residual, b.residual),
        iterations=max(a.iterations, b.iterations),
        followed=a.followed & b.followed,
        fluctuation=np.maximum(a.fluctuation, b.fluctuation),
        elsewhere=a.elsewhere + b.elsewhere,
        n_starts=max(a.n_starts, b.n_starts),
        dt=a.dt,
    )
