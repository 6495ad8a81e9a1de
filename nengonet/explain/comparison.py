"""Observed rates of a run, compared with predicted ones."""

from __future__ import annotations

import dataclasses

import nengo
import numpy as np

from nengonet import html
from nengonet.checks import described, positive_integer, shortened
from nengonet.exceptions import InputError
from nengonet.explain.findings import saturated
from nengonet.explain.fixed_points import FixedPoint, duration
from nengonet.explain.prediction import Images, LayerPrediction, predict
from nengonet.layers.targets import Output
from nengonet.results.readout import OF_SPIKES
from nengonet.results.result import Result
from nengonet.tables import cells, counted, table

_COLUMNS = {
    "label": ("layer", "s"),
    "correlation": ("correlation", ".4f"),
    "slope": ("slope", ".3f"),
    "offset": ("offset Hz", "+.2f"),
    "rms_rate": ("RMS Hz", ",.2f"),
    "rms_spikes": ("RMS spikes", ",.2f"),
    "silent": ("silent", ".0%"),
    "saturated": ("saturated", ".0%"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Observed rates compared with predicted ones.

    Attributes
    ----------
    layers : tuple of dict
        One row for each spiking layer: ``correlation``, ``slope`` and ``offset`` (Hz) of the
        observed against the predicted rates; ``rms_rate`` (Hz) and ``rms_spikes``; ``silent`` and
        ``saturated`` (observed shares); ``worst``, the neurons with the largest RMS difference, as
        ``(neuron, predicted Hz, observed Hz)``, means over the images; and ``loop``, for layers
        that feed themselves: the shares of images whose fixed point ``converged`` and is
        ``stable``, and the longest ``settling_time`` (s) of those (see `FixedPoint`).
    ties : int
    predicted, observed : dict of (n_images, n_neurons) ndarray, in Hz

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> result = nn.present(net, layer, images, presentation_time=1.0)
    >>> comparison = nn.compare(result, layer, images)
    >>> comparison.observed["layer"].tolist(), comparison.predicted["layer"].round(1).tolist()
    ([[55.0, 142.0, 216.0]], [[54.9, 142.3, 215.7]])
    """

    layers: tuple[dict, ...]
    ties: int
    predicted: dict[str, np.ndarray]
    observed: dict[str, np.ndarray]

    def to_json(self) -> dict:
        """Return the comparison as types that JSON knows."""
        return {"layers": list(self.layers), "ties": self.ties}

    def __repr__(self) -> str:
        """Show how well each layer agrees; `str` returns the table."""
        n_images = max((len(rates) for rates in self.observed.values()), default=0)
        layers = (f"{row['label']} off by {row['rms_rate']:.3g} Hz (RMS)" for row in self.layers)
        return f"<Comparison of {counted(n_images, 'image')}: {shortened(', '.join(layers))}>"

    def _repr_html_(self) -> str:
        return html.display(html.card("Observed beside predicted rates", self.to_html()))

    def to_html(self) -> html.Html:
        """Return the table and the lines below it as a piece of HTML."""
        rows = html.table(cells(self.layers, _COLUMNS))
        return html.join(rows, *(html.tag("p", line, class_="quiet") for line in self._lines()))

    def __str__(self) -> str:
        """Return the table, the worst neurons and the ties."""
        return "\n".join([*table(self.layers, _COLUMNS), *self._lines()])

    def _lines(self) -> list[str]:
        """Return the worst neurons, loops and the ties."""
        lines = []
        for row in self.layers:
            worst = ", ".join(f"{k} ({then:.1f} -> {now:.1f} Hz)" for k, then, now in row["worst"])
            lines.append(f"{row['label']}: furthest off, predicted -> observed: {worst}")
        loops = ((row["label"], row["loop"]) for row in self.layers if row["loop"] is not None)
        for label, loop in loops:
            line = f"{label}: its loop has a fixed point for {loop['converged']:.0%} of the images"
            line += f", which is stable for {loop['stable']:.0%}"
            time = loop["settling_time"]
            lines.append(line + ("" if time is None else f", within {duration(time)}"))
        return [*lines, f"ties: {self.ties}"]


def compare(
    result: Result,
    output: Output,
    images: Images,
    *,
    noise: bool = True,
    network: nengo.Network | None = None,
    n_worst: int = 3,
) -> Comparison:
    """Compare the observed rates of a run with the predicted ones.

    Parameters
    ----------
    result : Result
        Result of a run with these images.
    output : Layer, nengo.Ensemble, Neurons or nengo.Node
    images : (n_images, ...) array_like
    noise : bool
        Include the effect of noisy currents in the prediction (see `predict_rates`).
    network : nengo.Network, optional
        Needed for plain Nengo objects.
    n_worst : int
        Number of neurons to name.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        The result has other images, layers or amplitudes.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> result = nn.present(net, layer, images, presentation_time=1.0)
    >>> print(nn.compare(result, layer, images))
    layer  correlation  slope  offset Hz  RMS Hz  RMS spikes  silent  saturated
    layer       1.0000  1.001      -0.09    0.25        0.25      0%         0%
    layer: furthest off, predicted -> observed: 1 (142.3 -> 142.0 Hz), 2 (215.7 -> 216.0
    Hz), 0 (54.9 -> 55.0 Hz)
    ties: 0
    """
    n_worst = positive_integer("n_worst", n_worst, at_least=0)
    if not isinstance(result, Result):
        raise InputError(f"result: expected a Result, as present returns, got {described(result)}")
    settings = {"dt": result.dt, "presentation_time": result.n_steps * result.dt}
    settings["seed"] = result.settings.get("seed")
    found = predict(output, images, network=network, noise=noise, **settings)
    layers = {layer.label: layer for layer in found}
    for label, counts in result.counts.items():
        if label not in layers:
            raise InputError(
                f"{label}: expected the network and the output of the run, got {', '.join(layers)}"
            )
        expected = layers[label].rates.shape
        if expected != counts.shape:
            raise InputError(
                f"{label}: expected counts of shape {expected}, as for these images and this "
                f"network, got {counts.shape}; give the images and the network of the run"
            )
        run_with, now = result.layer(label).amplitude, layers[label].amplitude
        if run_with != now:
            raise InputError(
                f"{label}: expected the network of the run, where its amplitude was {run_with:g}, "
                f"got one with {now:g}; run it again after an edit"
            )
    observed = {label: result.rates(label) for label in result.counts}
    # Without spikes, nothing is counted.
    counted = result.layers[-1].amplitude is not None or result.settings["readout"] not in OF_SPIKES
    readout = None if counted else "sum"
    return Comparison(
        layers=tuple(_row(layers[label], observed[label], result, n_worst) for label in observed),
        ties=int(result.tied(readout).sum()),
        predicted={label: layers[label].rates for label in observed},
        observed=observed,
    )


def _loop(loop: FixedPoint) -> dict[str, float | None]:
    times = loop.settling_time[loop.stable]
    return {
        "converged": float(loop.converged.mean()),
        "stable": float(loop.stable.mean()),
        "settling_time": float(times.max()) if times.size else None,
    }


def _row(layer: LayerPrediction, observed: np.ndarray, result: Result, n_worst: int) -> dict:
    predicted, error = layer.rates, observed - layer.rates
    correlation = slope = offset = None
    if predicted.std() > 0 and observed.std() > 0:
        both = predicted.ravel(), observed.ravel()
        correlation = float(np.corrcoef(*both)[0, 1])
        slope, offset = map(float, np.polyfit(*both, 1))
    rms = float(np.sqrt((error**2).mean()))
    worst = np.argsort(np.sqrt((error**2).mean(axis=0)))[::-1][:n_worst]
    return {
        "label": layer.label,
        "correlation": correlation,
        "slope": slope,
        "offset": offset,
        "rms_rate": rms,
        "rms_spikes": rms * result.n_steps * result.dt,
        "silent": float((observed == 0).mean()),
        "saturated": saturated(layer, observed, result.dt),
        "loop": None if layer.loop is None else _loop(layer.loop),
        "worst": [(int(k), *(float(r[:, k].mean()) for r in (predicted, observed))) for k in worst],
    }
