"""Classes from a last layer's outputs over time: scores, ties, accuracy.

A readout gives every class a score at every step. The answer after a presentation is the class
with the highest score at its last step. If several classes share that score, the example is a tie:
it is counted, and the lowest class number wins. All functions raise `InputError` for arguments that
they cannot use.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy  # its signal is loaded where it is used: that takes most of a second
from numpy.typing import ArrayLike
from scipy.special import log_softmax, ndtri, stdtrit

from nengonet.checks import (
    as_array,
    as_classes,
    as_labels,
    as_number,
    as_numbers,
    check_among,
    described,
    positive_integer,
)
from nengonet.exceptions import InputError, RunawayError
from nengonet.results.names import OF_SPIKES, READOUTS
from nengonet.tables import counted

__all__ = [
    "Accuracy",
    "accuracy",
    "classes",
    "cross_entropy",
    "scores",
    "share_interval",
    "spike_counts",
    "wilson_interval",
]

# Counts of a step up to this one are kept as 16-bit numbers: the sum of two does not overflow.
LARGEST_SMALL = np.iinfo(np.int16).max // 2


def scores(
    outputs: np.ndarray,
    readout: str = "spike_count",
    *,
    dt: float = 0.001,
    amplitude: float | None = 1.0,
    tau: float = 0.1,
) -> np.ndarray:
    """Compute the score of every class at every step.

    Parameters
    ----------
    outputs : (..., n_steps, n_classes) array_like
        The data of a Nengo probe without a filter: a spike has the height ``amplitude / dt``.
    readout : str
        - ``"spike_count"``: spikes so far; several in one step count as several.
        - ``"sum"``: output summed over time so far, times ``dt``; for a layer without neurons.
        - ``"mean"``: mean output so far.
        - ``"last_step"``: the output of this step alone.
        - ``"filtered"``: the output after a low-pass filter, delayed by one step, as
          ``nengo.Probe(synapse=tau)`` gives it.
        - ``"first_spike"``: the score is higher the earlier the first spike; ``-inf`` before it.
        - ``"steps_after_first_spike"``: the forum post's ``sum(filtered_probe > 0)``. It counts
          steps, not spikes: do not use it.
    dt : float, in seconds
    amplitude : float or None
        Area of one spike. None for a layer that does not spike, which has no spike count.
    tau : float, in seconds
        Time constant for ``"filtered"``; 0 delays by one step and filters nothing.

    Returns
    -------
    scores : (..., n_steps, n_classes) ndarray of float

    Examples
    --------
    >>> spikes = np.array([[0, 1000.0], [1000.0, 0], [0, 1000.0]])  # 3 steps of 2 classes
    >>> nn.readout.scores(spikes).tolist()
    [[0.0, 1.0], [1.0, 1.0], [1.0, 2.0]]
    >>> nn.readout.scores(spikes, "mean")[-1].round(1).tolist()
    [333.3, 666.7]
    """
    outputs = as_numbers("outputs", outputs, "biuf")
    if outputs.ndim < 2 or outputs.shape[-2] == 0:
        wanted = "shape (..., n_steps, n_classes) with at least one step"
        raise InputError(f"outputs: expected {wanted}, got {outputs.shape}")
    check_among("readout", readout, READOUTS)
    dt = as_number("dt", dt, "a time in seconds", above=0)
    tau = as_number("tau", tau, "a time in seconds", at_least=0)
    if amplitude is not None:
        amplitude = as_number("amplitude", amplitude, "the area of a spike", above=0)
    elif readout in OF_SPIKES:
        raise InputError(
            f'readout: expected one for a last layer without spikes, got "{readout}"; give "sum", '
            '"mean", "last_step" or "filtered"'
        )
    steps = np.arange(outputs.shape[-2])[:, np.newaxis]
    if readout == "spike_count":
        return np.cumsum(spike_counts(outputs, dt, amplitude), axis=-2, dtype=np.float64)
    if readout == "sum":
        return np.cumsum(outputs, axis=-2) * dt
    if readout == "mean":
        return np.cumsum(outputs, axis=-2) / (steps + 1)
    if readout == "last_step":
        return outputs
    if readout == "filtered":
        decay = np.exp(-dt / tau) if tau > 0 else 0.0
        return scipy.signal.lfilter([0.0, 1.0 - decay], [1.0, -decay], outputs, axis=-2)
    fired = np.maximum.accumulate(outputs > 0, axis=-2)
    # A probe's filter delays a spike by one step.
    steps_after = np.maximum(np.cumsum(fired, axis=-2) - 1.0, 0.0)
    if readout == "steps_after_first_spike":
        return steps_after
    return np.where(fired, steps_after - steps, -np.inf)


def spike_counts(outputs: np.ndarray, dt: float, amplitude: float = 1.0) -> np.ndarray:
    """Count spikes by their area: return an int64 for each output of Nengo, or sum of outputs.

    Parameters
    ----------
    outputs : array_like
        Outputs in which a spike has the height ``amplitude / dt``.
    dt : float, in seconds
    amplitude : float
        Area of one spike.

    Raises
    ------
    RunawayError
        An output is NaN or infinite, or holds more spikes than `most_spikes`.

    Examples
    --------
    >>> nn.readout.spike_counts([[0.0, 1000.0, 2000.0]], dt=0.001).tolist()
    [[0, 1, 2]]
    """
    outputs = as_array("outputs", outputs, "biuf")
    dt = as_number("dt", dt, "a time in seconds", above=0)
    amplitude = as_number("amplitude", amplitude, "the area of a spike", above=0)
    counts, most = np.rint(outputs * (dt / amplitude)), most_spikes(outputs.dtype)
    inside = np.abs(counts) <= most
    if not inside.all():
        raise RunawayError(
            f"spike counts: expected at most {most:.3g} spikes, got {counts[~inside].flat[0]:.3g}"
        )
    return counts.astype(np.int64)


def most_spikes(dtype: np.dtype) -> float:
    """Return how many spikes an output of a type can hold before rounding miscounts them."""
    return 0.5 / np.finfo(dtype if np.issubdtype(dtype, np.floating) else np.float64).eps


def as_small(counts: np.ndarray) -> np.ndarray:
    """Return spike counts as 16-bit numbers where the sum of two does not overflow."""
    fits = counts.max(initial=0) <= LARGEST_SMALL
    return counts.astype(np.int16 if fits and counts.min(initial=0) >= 0 else np.int64)


def classes(final_scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the class with the highest score, and whether several classes share that score.

    Parameters
    ----------
    final_scores : (..., n_classes) array_like
        Scores of the last step, from `scores`.

    Returns
    -------
    classes : (...) ndarray of int
        The lowest class number if several share the highest score.
    tied : (...) ndarray of bool

    Examples
    --------
    >>> found, tied = nn.readout.classes([[3, 1, 3], [0, 5, 2]])
    >>> found.tolist(), tied.tolist()
    ([0, 1], [True, False])
    """
    final_scores = as_array("scores", final_scores, "biuf")
    if final_scores.ndim == 0 or final_scores.shape[-1] == 0 or np.isnan(final_scores).any():
        found = described(final_scores) + (" with NaN" if final_scores.size else "")
        raise InputError(f"scores: expected shape (..., n_classes) without NaN, got {found}")
    best = final_scores.max(axis=-1, keepdims=True)
    return final_scores.argmax(axis=-1), (final_scores == best).sum(axis=-1) > 1


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Compute the cross-entropy of ``softmax(logits)``, as Keras' losses do.

    Parameters
    ----------
    logits : (..., n_classes) array_like
    labels : array_like of int
        One label for each image, in the logits' leading shape; or ``(n_images, 1)`` for all steps.

    Returns
    -------
    loss : (...) ndarray, in nats

    Examples
    --------
    >>> nn.readout.cross_entropy([[2.0, 0.0], [0.0, 0.0]], [0, 1]).round(3).tolist()
    [0.127, 0.693]
    """
    logits = as_numbers("logits", logits)
    if logits.ndim == 0 or logits.size == 0:
        raise InputError(f"logits: expected shape (..., n_classes), got {logits.shape}")
    losses, shape = -log_softmax(logits, axis=-1), logits.shape[:-1]
    labels = as_classes(labels, logits.shape[-1])
    if labels.shape == (*shape, 1):  # a column, as in Keras' CIFAR-10
        labels = labels[..., 0]
    # Broadcast over steps and networks, not over images: one label for all is a mistake.
    rows = shape[len(shape) - labels.ndim :]
    try:
        if labels.shape[:1] != rows[:1]:
            raise ValueError
        labels = np.broadcast_to(labels, shape)
    except ValueError:
        raise InputError(
            f"labels: expected shape {shape}, one for each row of logits, got {labels.shape}"
        ) from None
    return np.take_along_axis(losses, labels[..., np.newaxis], axis=-1)[..., 0]


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """A share of examples, with its 95 % interval (Wilson's).

    Attributes
    ----------
    value : float, in [0, 1]
    interval : (float, float)
    n_images : int
    ties : int or None
        Examples in which several classes shared the highest score.

    Examples
    --------
    >>> found = nn.readout.accuracy([7, 2, 1, 1], [7, 2, 1, 0])
    >>> found.value, found.n_images
    (0.75, 4)
    >>> print(found)
    0.7500 (95 % interval 0.3006 to 0.9544, 4 images)
    """

    value: float
    interval: tuple[float, float]
    n_images: int
    ties: int | None = None

    def __float__(self) -> float:
        """Return the value."""
        return self.value

    def __format__(self, form: str) -> str:
        """Format the value as a number; without a format, return the same as `str`."""
        return format(self.value, form) if form else str(self)

    def __str__(self) -> str:
        """Return value, interval and number of images as text."""
        low, high = self.interval
        about = [f"95 % interval {low:.4f} to {high:.4f}", counted(self.n_images, "image")]
        about += [] if self.ties is None else [counted(self.ties, "tie")]
        return f"{self.value:.4f} ({', '.join(about)})"


def wilson_interval(n_right: int, n_images: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, in [0, 1] (Wilson 1927, JASA 22:209-212).

    Parameters
    ----------
    n_right : int
        Number of images with the right class.
    n_images : int
        Number of all images.

    Examples
    --------
    >>> low, high = nn.readout.wilson_interval(97, 100)
    >>> print(f"{low:.3f} to {high:.3f}")
    0.915 to 0.990
    """
    n_images = positive_integer("n_images", n_images)
    n_right = positive_integer("n_right", n_right, 0, n_images)
    centre, half = _wilson(n_right / n_images, n_images)
    low = centre - half if n_right > 0 else 0.0
    high = centre + half if n_right < n_images else 1.0
    return float(low), float(high)


def _wilson(share: np.ndarray | float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the centre of Wilson's 95 % interval and half its width."""
    z = ndtri(0.975)
    whole = 2 * (n + z**2)
    centre = (2 * n * share + z**2) / whole
    return centre, z / whole * np.sqrt(4 * n * share * (1 - share) + z**2)


def share_interval(shares: np.ndarray, n_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % interval of a mean share over seeds, the sampling of images included.

    Parameters
    ----------
    shares : (n_seeds, ...) array_like, in [0, 1]
        A share of the images for each seed.
    n_images : int
        Images behind each share.

    Returns
    -------
    low, high : (...) ndarray, in [0, 1]

    Notes
    -----
    The mean is uncertain for two reasons. One is the choice of images: they are the same for all
    seeds, so it does not average out (Wilson's interval of the mean). The other is the choice of
    seeds (Student's t of ``n_seeds``). On either side, the two distances from the mean are added in
    quadrature (the square-and-add method). With one seed, or seeds that agree, Wilson's interval
    remains. An image that some seeds get right counts in both parts, which makes the interval
    somewhat wide.

    References
    ----------
    G. Y. Zou and A. Donner (2008), "Construction of confidence limits about effect measures: a
    general approach", Statistics in Medicine 27:1693-1702.

    Examples
    --------
    >>> low, high = nn.readout.share_interval([0.96, 0.98, 0.97], n_images=1000)
    >>> print(f"{low:.3f} to {high:.3f}")
    0.942 to 0.996
    """
    shares = as_numbers("shares", shares)
    n_images = positive_integer("n_images", n_images)
    if shares.size == 0 or shares.ndim == 0 or shares.min() < 0 or shares.max() > 1:
        raise InputError(
            f"shares: expected (n_seeds, ...) values in [0, 1], got {described(shares)}"
        )
    n_seeds, p = len(shares), shares.mean(axis=0)
    centre, half = _wilson(p, n_images)
    of_seeds = np.zeros_like(p)
    if n_seeds > 1:
        of_seeds = stdtrit(n_seeds - 1, 0.975) * shares.std(axis=0, ddof=1) / n_seeds**0.5
    low, high = p - np.hypot(p - centre + half, of_seeds), p + np.hypot(centre + half - p, of_seeds)
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def accuracy(
    predictions: np.ndarray,
    labels: ArrayLike,
    tied: np.ndarray | None = None,
    *,
    n_classes: int | None = None,
) -> Accuracy:
    """Compare predicted classes with labels.

    Parameters
    ----------
    predictions : (n_images,) array_like of int
    labels : (n_images,) or (n_images, 1) array_like of int
    tied : (n_images,) array_like of bool, optional
    n_classes : int, optional
        Number of classes; labels from this number on are refused.

    Examples
    --------
    >>> print(nn.readout.accuracy([7, 2, 1, 1], [7, 2, 1, 0]))
    0.7500 (95 % interval 0.3006 to 0.9544, 4 images)
    """
    predictions = as_classes(predictions, name="predictions")
    if predictions.ndim != 1:
        raise InputError(f"predictions: expected shape (n_images,), got {predictions.shape}")
    labels = as_labels(labels, len(predictions), n_classes)
    correct, ties = int((predictions == labels).sum()), None
    if tied is not None:
        tied = as_array("tied", tied, "biu")
        if tied.shape != labels.shape:
            raise InputError(f"tied: expected shape {labels.shape}, got {tied.shape}")
        ties = int(tied.sum())
    interval = wilson_interval(correct, labels.size)
    return Accuracy(correct / labels.size, interval, labels.size, ties)
