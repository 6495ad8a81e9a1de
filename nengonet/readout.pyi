"""The public names of `nengonet.results.readout`, for type checkers."""

from .results.readout import (
    READOUTS,
    Accuracy,
    accuracy,
    classes,
    cross_entropy,
    scores,
    share_interval,
    spike_counts,
    wilson_interval,
)

__all__ = [
    "READOUTS",
    "Accuracy",
    "accuracy",
    "classes",
    "cross_entropy",
    "scores",
    "share_interval",
    "spike_counts",
    "wilson_interval",
]
