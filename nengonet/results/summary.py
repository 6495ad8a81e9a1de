"""The rows of a table about the layers of a result."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nengonet.results.result import Result

COLUMNS = {
    "label": ("layer", "s"),
    "size": ("size", ",d"),
    "mean_rate": ("mean Hz", ",.1f"),
    "peak_rate": ("peak Hz", ",.0f"),
    "silent": ("silent", ".0%"),
    "spikes": ("spikes", ",.1f"),
    "mean_output": ("mean output", ",.4g"),
}


def layer_rows(result: Result) -> list[dict]:
    """Return a row for each layer, ready for `json.dumps`, with None for values that were not kept.

    Rates are in Hz, of either sign. ``silent`` is the share of neurons and images without a spike.
    ``spikes`` is the mean number for an image.
    """
    return [_row(result, info.label) for info in result.layers]


def _row(result: Result, label: str) -> dict:
    info = result.layer(label)
    size, time = math.prod(info.shape), result.n_steps * result.dt
    row = dict.fromkeys(COLUMNS) | {"label": label, "shape": list(info.shape), "size": size}
    if (spikes := result.spikes.get(label)) is not None:
        row |= {"spikes": float(spikes.mean()), "mean_rate": float(spikes.mean()) / size / time}
    if (counts := result.counts.get(label)) is not None:
        firing = np.abs(counts)
        row |= {
            "mean_rate": float(firing.mean()) / time,
            "peak_rate": float(firing.max()) / time,
            "silent": float((counts == 0).mean()),
            "mean_output": float(counts.mean()) * info.amplitude / time,
        }
    elif (means := result.means.get(label)) is not None:
        row |= {"mean_output": float(means.mean())}
    return row
