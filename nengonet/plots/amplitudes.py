"""The figure of `nengonet.studies.amplitude`: accuracy against the amplitude of LIF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nengonet.plots.drawing import COLOURS

# Of the curves beside the thread's: what they are, and their markers.
_BESIDE = {
    "compensated": ("weights compensated for the amplitude", "s"),
    "linear": ("no neurons in the last layer", "^"),
    "unclipped": ("LIF voltage may go below 0", "v"),
    "retrained": ("weights trained at that amplitude", "D"),
}


def plot_amplitude(cells: Sequence[Mapping]) -> Figure:
    """Draw accuracy against the LIF amplitude: one seed, and the mean over seeds.

    Parameters
    ----------
    cells : sequence of dict
        From `nengonet.studies.amplitude.reproduce`; every network gets a panel.

    Returns
    -------
    matplotlib.figure.Figure
    """
    names = list(dict.fromkeys(cell["network"] for cell in cells))
    figure, axes = plt.subplots(
        len(names), 1, figsize=(10.0, 3.6 * len(names)), squeeze=False, layout="constrained"
    )
    for axis, name in zip(axes[:, 0], names, strict=True):
        kinds: dict[str, list[Mapping]] = {}
        for cell in sorted(cells, key=lambda cell: cell["amplitude"]):
            if cell["network"] == name:
                kinds.setdefault(cell["kind"], []).append(cell)
        _draw_amplitude(axis, kinds)
        axis.set_title(name.upper())
    axes[-1, 0].set_xlabel("amplitude of the LIF neurons (weights trained at 0.01)")
    return figure


def _draw_amplitude(axis: Axes, kinds: Mapping[str, Sequence[Mapping]]) -> None:
    def column(kind: str, figure: str) -> np.ndarray:
        return np.array([cell[figure] for cell in kinds[kind]])

    amplitudes = column("fixed", "amplitude")
    ends = (100 * column("fixed", end) for end in ("low", "high"))
    axis.fill_between(amplitudes, *ends, color=COLOURS[0], alpha=0.25, lw=0)
    label = f"mean of {kinds['fixed'][0]['n']} seeds, 95 % interval"
    axis.plot(amplitudes, 100 * column("fixed", "mean"), c=COLOURS[0], lw=2, label=label)
    one = 100 * column("fixed", "one_seed")
    axis.plot(amplitudes, one, "o-", c=COLOURS[1], ms=2.5, lw=1, label="one seed")
    # A kind has the same colour in every panel.
    for colour, kind in zip((*COLOURS[2:], "0.4"), _BESIDE, strict=True):
        if kind not in kinds:
            continue
        label, marker = _BESIDE[kind]
        axis.plot(
            column(kind, "amplitude"),
            100 * column(kind, "mean"),
            marker=marker,
            markevery=max(1, len(kinds[kind]) // 10),
            ms=5,
            lw=0.8,
            c=colour,
            label=label,
        )
    axis.set(ylabel="accuracy (%)", xlim=(0, amplitudes[-1] + 0.01))
    axis.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1))
