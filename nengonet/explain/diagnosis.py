"""Diagnosis of a network before a run: what it will do, and why."""

from __future__ import annotations

import dataclasses

import nengo
import numpy as np
from numpy.typing import ArrayLike

from nengonet import html
from nengonet.checks import as_labels, as_number, check_among, count_steps
from nengonet.exceptions import InputError
from nengonet.explain.built import Built
from nengonet.explain.findings import CHECKS, PEAK, SEVERITIES, Case, Finding, peak, saturated
from nengonet.explain.prediction import (
    Images,
    LayerPrediction,
    keras_activations,
    predict,
)
from nengonet.layers.record import Layer
from nengonet.layers.targets import Output, read_output
from nengonet.results.readout import READOUTS, Accuracy, accuracy
from nengonet.results.readout import classes as classes_of
from nengonet.tables import cells, table

# Number of other starts for a loop, and of images on which they are tried.
_N_STARTS, _N_TRIED = 4, 20

_COLUMNS = {
    "label": ("layer", "s"),
    "neurons": ("neurons", ",d"),
    "gain": ("gain", ".4g"),
    "bias": ("bias", ".4g"),
    "current_low": ("J low", ",.4g"),
    "current_high": ("J high", ",.4g"),
    "mean_rate": ("mean Hz", ",.1f"),
    "peak_rate": ("peak Hz", ",.0f"),
    "silent": ("silent", ".0%"),
    "saturated": ("saturated", ".0%"),
    "spikes": ("spikes", ",.0f"),
    "output_per_activation": ("output/act.", ".3g"),
}


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The result of `diagnose`.

    Attributes
    ----------
    layers : tuple of dict
        One row for each layer: its neurons, currents and rates, and its mean output for an
        activation of 1.
    findings : tuple of Finding
        Findings, worst first.
    predicted_accuracy : Accuracy or None
        Accuracy of the rate model, in which every neuron has the rate of its mean current, with
        spikes counted. None without labels.
    predicted_accuracy_with_noise : Accuracy or None
        The same with the effect of noisy currents on neurons that rectify or clip.
    ann_accuracy : Accuracy or None
        Accuracy of the ANN that corresponds to the network, on the same images; None if there is no
        such ANN.
    ann_reason : str or None
        Why no ANN corresponds to the network.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> diagnosis = nn.diagnose(layer, images)
    >>> diagnosis
    <Diagnosis of 2 layers: no findings>
    >>> diagnosis.layers[-1]["label"]
    'layer'
    """

    layers: tuple[dict, ...]
    findings: tuple[Finding, ...]
    predicted_accuracy: Accuracy | None
    predicted_accuracy_with_noise: Accuracy | None
    ann_accuracy: Accuracy | None
    ann_reason: str | None = None

    @property
    def worst(self) -> str | None:
        """The highest severity found."""
        return self.findings[0].severity if self.findings else None

    def to_json(self) -> dict:
        """Return the diagnosis as types that JSON knows."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain = {k: float(v) if isinstance(v, Accuracy) else v for k, v in fields.items()}
        findings = [dataclasses.asdict(finding) for finding in self.findings]
        return plain | {"layers": list(self.layers), "findings": findings}

    def __repr__(self) -> str:
        """Show accuracies and the number of findings; `str` lists the findings."""
        severities = [finding.severity for finding in self.findings]
        found = [f"{severities.count(each)} {each}s" for each in SEVERITIES if each in severities]
        accuracies = (f"; {name} {each.value:.4f}" for name, each in self.accuracies())
        layers = f"<Diagnosis of {len(self.layers)} layers: {', '.join(found) or 'no findings'}"
        return "".join((layers, *accuracies)) + ">"

    def accuracies(self) -> list[tuple[str, Accuracy]]:
        """Return the available accuracies, of the ANN and predicted, by name."""
        named = (
            ("ANN", self.ann_accuracy),
            ("rate model", self.predicted_accuracy),
            ("rate model, noisy currents", self.predicted_accuracy_with_noise),
        )
        return [(name, found) for name, found in named if found is not None]

    def _repr_html_(self) -> str:
        return html.display(html.card("Diagnosis", self.to_html()))

    def to_html(self, *, findings: bool = True) -> html.Html:
        """Return accuracies, table and, if wanted, findings as a piece of HTML."""
        accuracies = {f"predicted accuracy, {name}": found for name, found in self.accuracies()}
        found = html.finding_cards(self.findings) or html.tag("p", "no findings", class_="quiet")
        return html.join(
            html.facts(accuracies | {"no ANN to compare with": self.ann_reason}),
            html.table(cells(self.layers, _COLUMNS)),
            found if findings else None,
        )

    def __str__(self) -> str:
        """Return table, accuracies and findings as text."""
        lines = [*table(self.layers, _COLUMNS), ""]
        lines += [f"predicted accuracy, {name}: {found}" for name, found in self.accuracies()]
        if self.ann_reason is not None:
            lines.append(f"no ANN to compare with: {self.ann_reason}")
        lines += [f"{i}. {finding}" for i, finding in enumerate(self.findings, 1)]
        return "\n".join(lines if self.findings else [*lines, "no findings"])


def diagnose(
    output: Output,
    images: Images,
    *,
    labels: ArrayLike | None = None,
    presentation_time: float = 0.35,
    dt: float = 0.001,
    readout: str = "spike_count",
    tau: float = 0.1,
    network: nengo.Network | None = None,
    seed: int | None = None,
) -> Diagnosis:
    """Predict what a network will do with these images, and explain it, without a simulation.

    Parameters
    ----------
    output : Layer, nengo.Ensemble, Neurons or nengo.Node
        The last layer.
    images : (n_images, ...) array_like, or dict
        As for `predict_rates`.
    labels : (n_images,) or (n_images, 1) array_like of int, optional
        Right classes, for the predicted accuracy.
    presentation_time, dt : float, in seconds
    readout : str
        See `nengonet.results.readout.scores`.
    tau : float, in seconds
        Time constant of the ``"filtered"`` readout.
    network : nengo.Network, optional
        Needed for plain Nengo objects.
    seed : int, optional
        Seed for the build of a network that has none, as for `present`.

    Returns
    -------
    Diagnosis

    Raises
    ------
    InputError
        An argument is out of range, or the network has something that cannot be predicted; the
        message names it.

    Examples
    --------
    >>> weights = nn.load_weights(nn.pretrained("mnist_dense"))
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.poisson_input((28, 28))
    ...     neurons = nengo.LIF()
    ...     hidden = nn.dense(pixels, weights["hidden"], neurons, gain=2.0, bias=1.0)
    ...     output = nn.dense(hidden, weights["output"], neurons, gain=2.0, bias=1.0)
    >>> images, labels = nn.datasets.load("mnist", n_images=20)
    >>> diagnosis = nn.diagnose(output, images, labels=labels)
    >>> diagnosis
    <Diagnosis of 3 layers: 3 warnings, 1 notes; ANN 0.9500; rate model 1.0000; rate model,
    noisy currents 1.0000>
    >>> [finding.code for finding in diagnosis.findings]
    ['saturation', 'bias-threshold', 'amplitude', 'rectified-noise']
    """
    count_steps(presentation_time, dt)
    check_among("readout", readout, READOUTS)
    tau = as_number("tau", tau, "a time in seconds", at_least=0)
    target = read_output(output, network)
    settings = {"network": target.network, "dt": dt, "presentation_time": presentation_time}
    settings["built"] = Built(target.network, seed, dt)
    plain = predict(output, images, **settings, n_starts=_N_STARTS, n_tried=_N_TRIED)
    noisy = predict(output, images, **settings, noise=True)
    labels = None if labels is None else as_labels(labels, *plain[-1].rates.shape)
    try:
        ann, ann_reason = keras_activations(output, images, target.network), None
    except InputError as error:
        ann, ann_reason = {}, str(error)
    case = Case(
        network=target.network,
        targets=target.items,
        layers=plain,
        noisy=noisy,
        slopes=_slopes(plain, ann),
        keras_bias=_keras_bias(output),
        presentation_time=presentation_time,
        dt=dt,
        readout=readout,
        readout_tau=tau,
    )
    findings = [finding for check in CHECKS for finding in check(case)]

    def predicted(scores: np.ndarray) -> Accuracy | None:
        return None if labels is None else accuracy(classes_of(scores)[0], labels)

    return Diagnosis(
        layers=tuple(_row(*each, case) for each in zip(plain, noisy, strict=True)),
        findings=tuple(sorted(findings, key=lambda each: SEVERITIES.index(each.severity))),
        predicted_accuracy=predicted(plain[-1].rates),
        predicted_accuracy_with_noise=predicted(noisy[-1].rates),
        ann_accuracy=predicted(list(ann.values())[-1]) if ann else None,
        ann_reason=ann_reason,
    )


def _row(layer: LayerPrediction, noisy: LayerPrediction, case: Case) -> dict:
    """Summarise a layer's prediction in one row of the table."""
    row = dict.fromkeys(_COLUMNS) | {
        "label": layer.label,
        "neurons": int(layer.rates.shape[1]),
        "neuron_type": None,
        "saturated": saturated(layer, layer.rates, case.dt),
        "noisy_mean_rate": None,
        "output_per_activation": case.slopes.get(layer.label),
    }
    if layer.neuron_type is not None:
        row |= {
            "neuron_type": type(layer.neuron_type).__name__,
            "gain": float(np.median(layer.gain)),
            "bias": float(np.median(layer.bias)),
            "current_low": float(np.percentile(layer.current, 100 - PEAK)),
            "current_high": float(np.percentile(layer.current, PEAK)),
        }
    if layer.spiking:
        firing = np.abs(layer.rates)
        row |= {
            "mean_rate": float(firing.mean()),
            "noisy_mean_rate": float(np.abs(noisy.rates).mean()),
            "peak_rate": peak(firing),
            "silent": float((firing == 0).mean()),
            "spikes": float(firing.sum(axis=1).mean() * case.presentation_time),
        }
    return row


def _keras_bias(output: object) -> dict[str, np.ndarray]:
    return {
        layer.label: np.resize(layer.weights.bias, layer.size)
        for layer in (output.upstream() if isinstance(output, Layer) else ())
        if layer.weights is not None and layer.weights.bias is not None
    }


def _slopes(layers: list[LayerPrediction], ann: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the mean output for an activation of 1, by layer, from a line through the origin."""
    slopes = {}
    for layer in layers:
        if layer.label in ann:
            wanted = ann[layer.label]
            if layer is layers[-1]:
                wanted = np.maximum(wanted, 0.0)  # neurons output the positive part of logits
            product = (wanted * layer.mean_outputs).sum()
            slopes[layer.label] = float(product / max((wanted**2).sum(), 1e-300))
    return slopes
