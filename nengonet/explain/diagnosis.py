"""What a network will do and why, before a run; predicted against observed, after it.

`diagnose` needs no simulation. Each finding has a stable code, the figure that shows it, the
argument at fault and what to change. `compare` sets a run's rates beside the predicted ones.
"""

from __future__ import annotations

import dataclasses
import itertools
import textwrap
from collections.abc import Callable, Iterator

import nengo
import numpy as np
from nengo.connection import Neurons

from nengonet.checks import (
    as_labels,
    as_number,
    check_among,
    count_steps,
    described,
    positive_integer,
)
from nengonet.exceptions import InputError
from nengonet.explain.prediction import LayerPrediction, keras_activations, predict, target_of
from nengonet.layers.graph import Graph, owner
from nengonet.layers.inputs import ImageInput
from nengonet.layers.record import Layer
from nengonet.neurons import NeuronModel, current_at, model_of
from nengonet.results.readout import READOUTS, Accuracy, accuracy, wilson_interval
from nengonet.results.readout import classes as classes_of
from nengonet.results.result import Result
from nengonet.tables import aligned

SEVERITIES = ("error", "warning", "note")

# Above this share of its ceiling a neuron counts as saturated.
SATURATED = 0.9
# The largest value that counts: one outlier in a thousand is left out.
_PEAK = 99.9
# Steps in which no type loses anything of note.
_SHORT_STEP = 1e-4


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that will make the network differ from its ANN.

    Attributes
    ----------
    code : str
        Stable name, for programs.
    severity : {"error", "warning", "note"}
    layers : tuple of str
    message : str
        What is wrong, in plain words.
    evidence : str
        The figure that shows it.
    change : str
        The argument at fault, and what to do.
    """

    code: str
    severity: str
    layers: tuple[str, ...]
    message: str
    evidence: str
    change: str

    def __str__(self) -> str:
        """Write the finding in three lines or more."""
        lines = textwrap.wrap(
            f"{self.severity}: {self.message} [{self.code}]", 96, subsequent_indent="  "
        )
        for name, text in (("shown by", self.evidence), ("change", self.change)):
            lines += textwrap.wrap(
                f"{name}: {text}", 96, initial_indent="    ", subsequent_indent="      "
            )
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found.

    Attributes
    ----------
    layers : tuple of dict
        One row a layer: see `layer_row`.
    findings : tuple of Finding
        Worst first.
    predicted_accuracy : Accuracy or None
        Of the rate model: every neuron at the rate that its mean current gives, spikes counted.
        None without labels.
    predicted_accuracy_with_noise : Accuracy or None
        The same with what noisy currents do to neurons that rectify or clip.
    ann_accuracy : Accuracy or None
        Of the ANN that the network stands for, on the same images; None where it stands for none.
    ann_reason : str or None
        Why the network stands for no ANN: see `nengonet.explain.prediction.keras_activations`.
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
        """Return the diagnosis as JSON's own types."""

        def number(found: Accuracy | None) -> float | None:
            return None if found is None else found.value

        return {
            "predicted_accuracy": number(self.predicted_accuracy),
            "predicted_accuracy_with_noise": number(self.predicted_accuracy_with_noise),
            "ann_accuracy": number(self.ann_accuracy),
            "ann_reason": self.ann_reason,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "layers": list(self.layers),
        }

    def __str__(self) -> str:
        """Write table, accuracies and findings."""
        lines = [_table(self.layers, _COLUMNS), ""]
        for name, found in (
            ("ANN", self.ann_accuracy),
            ("rate model", self.predicted_accuracy),
            ("rate model, noisy currents", self.predicted_accuracy_with_noise),
        ):
            if found is not None:
                lines.append(f"predicted accuracy, {name}: {found}")
        if self.ann_reason is not None:
            lines.append(f"no ANN to compare with: {self.ann_reason}")
        if not self.findings:
            lines.append("no findings")
        lines += [f"{i}. {finding}" for i, finding in enumerate(self.findings, 1)]
        return "\n".join(lines)


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


def _table(rows: tuple[dict, ...], columns: dict[str, tuple[str, str]]) -> str:
    cells = [[title for title, _ in columns.values()]]
    for row in rows:
        cells.append(
            [
                "-" if row[name] is None else format(row[name], form)
                for name, (_, form) in columns.items()
            ]
        )
    return "\n".join(aligned(cells, left=(0,)))


@dataclasses.dataclass(frozen=True, eq=False)
class _Case:
    """Everything that the checks look at."""

    network: nengo.Network
    target: nengo.Ensemble | nengo.Node
    layers: list[LayerPrediction]
    noisy: list[LayerPrediction]
    slopes: dict[str, float]
    keras_bias: dict[str, np.ndarray]
    presentation_time: float
    dt: float
    readout: str
    readout_tau: float

    @property
    def n_images(self) -> int:
        return len(self.layers[0].rates)

    def ensemble(self, layer: LayerPrediction) -> nengo.Ensemble:
        """Return the neurons that were predicted."""
        ensembles = self.network.all_ensembles
        return next(each for each in ensembles if (each.label or str(each)) == layer.label)

    def tuned(self, layer: LayerPrediction) -> bool:
        """Whether max_rates and intercepts gave the neurons their gain, or somebody stated it."""
        ensemble = self.ensemble(layer)
        record = self.network.__dict__.get("nengonet_layers", {}).get(ensemble)
        return ensemble.gain is None or (record is not None and record.tuned)

    def encodes(self, layer: LayerPrediction) -> bool:
        """Whether every neuron stands for one pixel."""
        if layer.neuron_type is None:
            return layer.is_input
        into = Graph(self.network).into(self.ensemble(layer))
        return all(
            getattr(owner(each.pre_obj), "size_in", None) == 0
            and np.ndim(getattr(each.transform, "init", 1.0)) < 2
            for each in into
        )

    @property
    def hidden(self) -> list[LayerPrediction]:
        return [layer for layer in self.layers if layer.neuron_type is not None]


def diagnose(
    output: Layer | nengo.Ensemble | Neurons | nengo.Node,
    images: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    presentation_time: float = 0.35,
    dt: float = 0.001,
    readout: str = "spike_count",
    tau: float = 0.1,
    network: nengo.Network | None = None,
) -> Diagnosis:
    """Say what a network will do with these images, with no simulation.

    Parameters
    ----------
    output : Layer, nengo.Ensemble, Neurons or nengo.Node
        The last layer.
    images : (n_images, ...) array_like, or dict
        As for `predict_rates`.
    labels : (n_images,) or (n_images, 1) array_like of int, optional
        For the predicted accuracy.
    presentation_time, dt : float, in seconds
    readout : str
        See `nengonet.results.readout.scores`.
    tau : float, in seconds
        Of the ``"filtered"`` readout.
    network : nengo.Network, optional
        Needed for plain Nengo objects.

    Returns
    -------
    Diagnosis

    Raises
    ------
    InputError
        An argument is out of range, or the network has something that cannot be predicted; the
        message names it.
    """
    count_steps(presentation_time, dt)
    check_among("readout", readout, READOUTS)
    tau = as_number("tau", tau, "a time in seconds", at_least=0)
    settings = {"network": network, "dt": dt, "presentation_time": presentation_time}
    plain = predict(output, images, **settings)
    noisy = predict(output, images, **settings, noise=True)
    n_images, n_classes = plain[-1].rates.shape
    labels = None if labels is None else as_labels(labels, n_images, n_classes)
    ann, ann_reason = _ann(output, images, network)
    case = _Case(
        network=output.network if network is None else network,
        target=target_of(output),
        layers=plain,
        noisy=noisy,
        slopes=_slopes(plain, ann),
        keras_bias=_keras_bias(output),
        presentation_time=presentation_time,
        dt=dt,
        readout=readout,
        readout_tau=tau,
    )
    findings = [finding for check in _CHECKS for finding in check(case)]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))

    def predicted(scores: np.ndarray | None) -> Accuracy | None:
        return None if labels is None or scores is None else accuracy(classes_of(scores)[0], labels)

    return Diagnosis(
        layers=tuple(layer_row(layer, case.slopes, presentation_time, dt) for layer in plain),
        findings=tuple(findings),
        predicted_accuracy=predicted(plain[-1].rates),
        predicted_accuracy_with_noise=predicted(noisy[-1].rates),
        ann_accuracy=predicted(list(ann.values())[-1] if ann else None),
        ann_reason=ann_reason,
    )


def layer_row(
    layer: LayerPrediction, slopes: dict[str, float], presentation_time: float, dt: float = 0.001
) -> dict:
    """Sum a layer's prediction up in one row of the table."""
    ceiling = _ceiling(layer, dt)
    neurons, firing = layer.neuron_type is not None, np.abs(layer.rates)
    return {
        "label": layer.label,
        "neurons": int(layer.rates.shape[1]),
        "neuron_type": type(layer.neuron_type).__name__ if neurons else None,
        "gain": float(np.median(layer.gain)) if neurons else None,
        "bias": float(np.median(layer.bias)) if neurons else None,
        "current_low": float(np.percentile(layer.current, 100 - _PEAK)) if neurons else None,
        "current_high": float(np.percentile(layer.current, _PEAK)) if neurons else None,
        "mean_rate": float(firing.mean()) if layer.spiking else None,
        "peak_rate": float(np.percentile(firing, _PEAK)) if layer.spiking else None,
        "silent": float((firing == 0).mean()) if layer.spiking else None,
        "saturated": None if ceiling is None else _saturated(layer, ceiling),
        "spikes": float(firing.sum(axis=1).mean() * presentation_time) if layer.spiking else None,
        "output_per_activation": slopes.get(layer.label),
    }


def _ann(output, images, network) -> tuple[dict[str, np.ndarray], str | None]:
    """Return what the layers of the ANN compute; where there is none, why."""
    try:
        return keras_activations(output, images, network), None
    except InputError as error:
        return {}, str(error)


def _keras_bias(output: object) -> dict[str, np.ndarray]:
    if not isinstance(output, Layer):
        return {}
    return {
        layer.label: np.resize(layer.weights.bias, layer.size)
        for layer in output.chain()
        if layer.weights is not None and layer.weights.bias is not None
    }


def _slopes(layers: list[LayerPrediction], ann: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the mean output for an activation of 1, by layer, from a line through the origin."""
    slopes = {}
    for layer in layers:
        if layer.label in ann:
            wanted = ann[layer.label]
            if layer is layers[-1]:
                wanted = np.maximum(wanted, 0.0)  # of logits, neurons put out what is above 0
            slopes[layer.label] = float(
                (wanted * layer.mean_outputs).sum() / max((wanted**2).sum(), 1e-300)
            )
    return slopes


def _ceiling(layer: LayerPrediction, dt: float) -> float | None:
    ceiling = np.inf if layer.neuron_type is None else model_of(layer.neuron_type).ceiling(dt)
    return None if ceiling == np.inf else ceiling


def _saturated(layer: LayerPrediction, ceiling: float) -> float:
    return float((np.abs(layer.rates) > SATURATED * ceiling).mean())


def _has_threshold(layer: LayerPrediction) -> bool:
    """Whether a current above 0 may be too small for the neurons to fire."""
    return layer.neuron_type is not None and (model_of(layer.neuron_type).threshold or 0) > 0


def _level_of_share(share: float, n_images: int, *, error: float, warning: float) -> str | None:
    """Return the severity of a share that was seen in some images: of its interval's lower end."""
    at_least, _ = wilson_interval(int(share * n_images + 1e-9), n_images)
    return _level(at_least, error=error, warning=warning)


def _level(value: float, *, error: float, warning: float) -> str | None:
    if value >= error:
        return "error"
    return "warning" if value >= warning else None


def _labels(layers: list[LayerPrediction]) -> tuple[str, ...]:
    return tuple(layer.label for layer in layers)


def _input_range(case: _Case) -> Iterator[Finding]:
    for layer in case.layers:
        if layer.is_input and not layer.spiking:
            yield from _pixel_range(case, layer)
        if not (layer.spiking and case.encodes(layer)):
            continue
        peak = float(np.percentile(layer.rates, _PEAK))
        if peak <= max(1 / case.dt, 1000.0):
            continue
        drive = float(np.percentile(layer.drive, _PEAK))
        yield Finding(
            code="input-range",
            severity="error",
            layers=(layer.label,),
            message=f"{layer.label}: the brightest pixels fire at {peak:,.0f} Hz",
            evidence=f"the pixels reach {drive:,.4g} and the tuning turns 1 into "
            f"{peak / drive:,.4g} Hz, which makes {peak * case.dt:,.1f} spikes in a step of "
            f"{case.dt:g} s",
            change="divide the images by their largest value, or give poisson_input a max_rate of "
            "some 255 Hz",
        )


def _pixel_range(case: _Case, layer: LayerPrediction) -> Iterator[Finding]:
    """Find images that are shown as they are stored, from 0 to 255."""
    inputs = {n.label for n in case.network.all_nodes if isinstance(n.output, ImageInput)}
    low, high = float(layer.drive.min()), float(layer.drive.max())
    if layer.label not in inputs or low < 0 or not 32 < high <= 255:
        return
    yield Finding(
        code="input-range",
        severity="warning",
        layers=(layer.label,),
        message=f"{layer.label}: the pixels look like stored ones, which go from 0 to 255",
        evidence=f"they reach {high:,.4g}; most networks are trained on [0, 1], [-1, 1] or "
        "standardised pixels",
        change="divide the images by 255, if the network was trained so",
    )


def _saturation(case: _Case) -> Iterator[Finding]:
    shares = {
        layer.label: _saturated(layer, _ceiling(layer, case.dt))
        for layer in case.hidden
        # A sigmoid or tanh saturates as the ANN's does.
        if _ceiling(layer, case.dt) is not None
        and model_of(layer.neuron_type).activation not in ("sigmoid", "tanh")
    }
    levels = {"error": 0.1, "warning": 0.02}
    bad = [
        layer
        for layer in case.hidden
        if _level_of_share(shares.get(layer.label, 0.0), case.n_images, **levels)
    ]
    if not bad:
        return
    worst = max(bad, key=lambda layer: shares[layer.label])
    threshold = model_of(worst.neuron_type).threshold
    current = float(np.percentile(np.abs(worst.current), _PEAK))
    silent = float((worst.rates == 0).mean())
    binary = ": on or off, and nothing between" if shares[worst.label] + silent > 0.9 else ""
    yield Finding(
        code="saturation",
        severity=_level_of_share(shares[worst.label], case.n_images, **levels),
        layers=_labels(bad),
        message=f"{worst.label}: {shares[worst.label]:.0%} of the neurons fire at more than "
        f"{SATURATED:.0%} of their ceiling of {_ceiling(worst, case.dt):,.0f} Hz{binary}",
        evidence=f"currents reach {current:,.3g}"
        + ("" if threshold is None else f", where the threshold is {threshold:g}")
        + f"; {silent:.0%} of the neurons are silent, in an average image",
        change="lower gain (state gain=… and bias=0), or the amplitude of the layer before, until "
        "the largest drive asks for about half the ceiling",
    )


def _coarse_step(case: _Case) -> Iterator[Finding]:
    """Find neurons whose rates in these steps differ from those in short ones."""
    bad = []
    for layer in case.hidden:
        model = model_of(layer.neuron_type)
        if layer.spiking and case.dt > _SHORT_STEP:
            off, peak = _changed_by_steps(model, layer.current, case.dt)
            bad += [(off, peak, model, layer)] if off > 0.03 else []
    if not bad:
        return
    off, (long, short), model, worst = max(bad, key=lambda entry: entry[0])
    exact = min(each.exact_step for _, _, each, _ in bad)
    several = ", or neurons that spike several times in a step, such as IntegrateAndFire"
    yield Finding(
        code="coarse-step",
        severity=_level(off, error=0.3, warning=0.1) or "note",
        layers=_labels([layer for *_, layer in bad]),
        message=f"{worst.label}: {model.name} {model.step_effect}, and a step is {case.dt:g} s",
        evidence=f"no neuron can exceed {model.ceiling(case.dt):,.4g} Hz; the largest currents "
        f"give {long:,.4g} Hz, and {short:,.4g} Hz in short steps",
        change=(f"dt up to {exact:g} s" if exact > 0 else "a shorter dt") + several,
    )


def _changed_by_steps(
    model: NeuronModel, current: np.ndarray, dt: float
) -> tuple[float, tuple[float, float]]:
    """Return by which share steps of ``dt`` change rates, and the largest rate in both steps."""
    some = np.percentile(current, [*np.linspace(0, 100, 40), _PEAK])[None]
    long, short = (model.first_rates(some, step)[0] for step in (dt, _SHORT_STEP))
    off, most = np.abs(long - short), np.maximum(np.maximum(long, short), 1.0)
    share = max(off[:-1].sum() / most[:-1].sum(), off[-1] / most[-1])
    return float(share), (float(long[-1]), float(short[-1]))


def _readout_filter(case: _Case) -> Iterator[Finding]:
    if case.readout == "steps_after_first_spike":
        first = case.noisy[-1].rates * case.presentation_time
        same = float(((first > 2).sum(axis=1) > 1).mean())
        yield Finding(
            code="readout-filter",
            severity="error",
            layers=(case.layers[-1].label,),
            message="the readout counts steps after the first spike, not spikes: a filter stands "
            "in front of `> 0`, and a filtered spike never comes back to 0",
            evidence=f"in {same:.0%} of the images two classes or more are expected to spike, and "
            "differ by nothing but the step of their first spike",
            change='readout="spike_count", or probe with synapse=None and sum the spikes',
        )
        return
    for probe in case.network.all_probes:
        if owner(probe.target) is case.target and probe.synapse is not None:
            if case.readout == "spike_count" and case.layers[-1].spiking:
                yield Finding(
                    code="readout-filter",
                    severity="warning",
                    layers=(case.layers[-1].label,),
                    message=f"{probe} filters the output, so its data hold no spikes to count",
                    evidence=f"synapse={probe.synapse}",
                    change="nengo.Probe(…, synapse=None)",
                )


def _few_spikes(case: _Case) -> Iterator[Finding]:
    counts = [
        (float(np.percentile(np.abs(layer.rates), _PEAK)) * case.presentation_time, layer)
        for layer in case.layers[:-1]
        if layer.spiking
    ]
    bad = [(count, layer) for count, layer in counts if 0 < count < 3]
    if not bad:
        return
    count, worst = min(bad, key=lambda pair: pair[0])
    yield Finding(
        code="few-spikes",
        severity=_level(-count, error=-1, warning=-3),
        layers=_labels([layer for _, layer in bad]),
        message=f"{worst.label}: even the most active neurons are expected to spike {count:.2g} "
        f"times in {case.presentation_time:g} s, so hardly anything reaches the next layer",
        evidence=f"an activation that only one in a thousand exceeds fires at "
        f"{count / case.presentation_time:.3g} Hz",
        change=f"{10 / count:.2g} times the gain and 1 / {10 / count:.2g} of the amplitude "
        "(nengonet.scale_firing_rates): ten spikes, and the same mean output; or a longer "
        "presentation_time",
    )


def _readout_last_step(case: _Case) -> Iterator[Finding]:
    last = case.layers[-1]
    if case.readout != "last_step" or last.rates.shape[1] < 2:
        return
    best = np.argsort(last.mean_outputs, axis=1)[:, -2:]
    second, first = np.take_along_axis(last.mean_outputs, best, axis=1).T
    lead = float(np.median(first - second))
    # Of the difference between the two.
    variance = np.take_along_axis(last.variance, best, axis=1).sum(axis=1)
    deviation = float(np.median(np.sqrt(variance)))
    severity = _level(deviation / max(lead, 1e-300), error=1.0, warning=0.3)
    if severity:
        yield Finding(
            code="readout-last-step",
            severity=severity,
            layers=(last.label,),
            message=f"{last.label}: the last step alone is read out, and holds the spikes of "
            f"{1000 * case.dt:g} ms",
            evidence=f"the winner leads by {lead:,.3g} on average over time, and from step to step "
            f"that deviates by {deviation:,.3g}",
            change='readout="mean", or a synapse before the last layer',
        )


def _silent_output(case: _Case) -> Iterator[Finding]:
    last = case.noisy[-1]
    if not last.spiking or case.readout not in ("spike_count", "first_spike"):
        return
    silent = (last.rates * case.presentation_time).max(axis=1) < 1
    share = float(silent.mean())
    severity = _level_of_share(share, case.n_images, error=0.05, warning=0.01)
    if severity:
        negative = float((last.current.max(axis=1) <= 0).mean())
        yield Finding(
            code="silent-output",
            severity=severity,
            layers=(last.label,),
            message=f"{last.label}: in {silent.mean():.0%} of the images no class is expected to "
            "spike, so there is nothing to count",
            evidence=f"in {negative:.0%} of the images every current is negative",
            change="raise the gain, add a bias to every class alike, or read out a last layer "
            'without neurons: dense(…, None), readout="sum"',
        )


def _rectified_noise(case: _Case) -> Iterator[Finding]:
    changed = case.layers[-1].rates.argmax(axis=1) != case.noisy[-1].rates.argmax(axis=1)
    share = float(changed.mean())
    extra = [
        (float((noisy.rates - plain.rates).mean()), plain)
        for plain, noisy in zip(case.layers, case.noisy, strict=True)
        if plain.neuron_type is not None
    ]
    touched = [
        (hz, layer) for hz, layer in extra if abs(hz) > 0.01 * max(np.abs(layer.rates).mean(), 1.0)
    ]
    if not touched:
        return
    hz, worst = max(touched, key=lambda pair: abs(pair[0]))
    models = {model_of(layer.neuron_type).name: model_of(layer.neuron_type) for _, layer in touched}
    what = " and ".join(f"{name} {models[name].noise_effect}" for name in sorted(models))
    yield Finding(
        code="rectified-noise",
        severity=_level_of_share(share, case.n_images, error=0.05, warning=0.02) or "note",
        layers=_labels([layer for _, layer in touched]),
        message=f"{what} at every step, so the noise of what comes in changes the rate",
        evidence=f"{worst.label}: currents deviate by {np.median(worst.deviation):,.3g} from step "
        f"to step and {np.median(np.abs(worst.current)):,.3g} is their median size; noise adds "
        f"{hz:,.1f} Hz to a mean rate of {worst.rates.mean():,.1f} Hz, and changes the predicted "
        f"class of {share:.1%} of the images",
        change="a longer synapse on the connections, such as 0.01, or the neuron type "
        "IntegrateAndFire"
        + (
            ", or a min_voltage of -1"
            if any(getattr(model.neuron_type, "min_voltage", -1) == 0 for model in models.values())
            else ""
        ),
    )


def _synapse_delay(case: _Case) -> Iterator[Finding]:
    last = case.layers[-1]
    delay = last.delay + (case.readout_tau if case.readout == "filtered" else 0.0)
    severity = _level(delay / case.presentation_time, error=0.5, warning=0.2)
    if severity:
        yield Finding(
            code="synapse-delay",
            severity=severity,
            layers=(last.label,),
            message=f"the synapses delay the answer by {1000 * delay:.3g} ms, of a presentation of "
            f"{1000 * case.presentation_time:.3g} ms",
            evidence=f"their time constants add up to {delay / case.presentation_time:.0%} of it",
            change="shorter synapses, or a longer presentation_time",
        )


def _quantisation(case: _Case) -> Iterator[Finding]:
    last = case.noisy[-1]
    if not last.spiking or case.readout != "spike_count":
        return
    best = np.sort(last.rates * case.presentation_time, axis=1)
    count = float(np.median(best[:, -1]))
    close = float((best[:, -1] - best[:, -2] < 1).mean()) if best.shape[1] > 1 else 0.0
    levels = [
        _level(-count, error=-3, warning=-6),
        _level_of_share(close, case.n_images, error=0.4, warning=0.15),
    ]
    severities = [level for level in levels if level]
    if severities and count > 0:
        yield Finding(
            code="quantisation",
            severity=min(severities, key=SEVERITIES.index),
            layers=(last.label,),
            message=f"{last.label}: too few spikes to tell the classes apart in "
            f"{case.presentation_time:g} s",
            evidence=f"the winner's expected count has the median {count:.1f}, and in {close:.0%} "
            "of the images it is less than one spike ahead",
            change="a longer presentation_time, or a higher gain",
        )


def _gain_on_neurons(case: _Case) -> Iterator[Finding]:
    bad = []
    for layer in case.hidden:
        ceiling = _ceiling(layer, case.dt)
        if ceiling is None or not _has_threshold(layer) or not case.tuned(layer):
            continue
        enough = current_at(layer.neuron_type, SATURATED * ceiling)
        pushed = float(np.percentile(np.abs(layer.gain * layer.drive), _PEAK))
        if pushed > 10 * enough:
            bad.append((pushed / enough, pushed, enough, layer))
    if bad:
        _, pushed, enough, worst = max(bad, key=lambda entry: entry[0])
        drive = float(np.percentile(np.abs(worst.drive), _PEAK))
        gain = float(np.median(worst.gain))
        yield Finding(
            code="gain-on-neurons",
            severity="warning",
            layers=_labels([layer for *_, layer in bad]),
            message=f"{worst.label}: the gain of {gain:.4g} multiplies what comes into .neurons "
            "too; it was tuned for a drive in [-1, 1]",
            evidence=f"drives reach {drive:,.3g}, and gain * drive {pushed:,.3g}, where "
            f"{enough:,.3g} makes {SATURATED:.0%} of the ceiling",
            change=f"gain={enough / 2 / drive:.3g}, bias=0",
        )


def _bias_threshold(case: _Case) -> Iterator[Finding]:
    bad = []
    for layer in case.hidden:
        if _has_threshold(layer):
            own = layer.bias - layer.gain * case.keras_bias.get(layer.label, 0.0)
            if np.median(own) >= 1.0:
                bad.append((float(np.median(own)), layer))
    if bad:
        bias, worst = max(bad, key=lambda pair: pair[0])
        where = "exactly at" if bias == 1.0 else "above"
        yield Finding(
            code="bias-threshold",
            severity="warning",
            layers=_labels([layer for _, layer in bad]),
            message=f"{worst.label}: the bias alone holds every neuron {where} its threshold of 1",
            evidence=f"bias {bias:.4g}"
            + (
                f"; max_rates with intercepts=0 give {type(worst.neuron_type).__name__} a bias of 1"
                if case.tuned(worst)
                else ""
            ),
            change="bias=0 beside a stated gain, or intercepts above 0",
        )


def _amplitude(case: _Case) -> Iterator[Finding]:
    # Pools have no weights, so they change no scale.
    built = [layer for layer in case.layers if layer.label in case.slopes]
    for layer, after in itertools.pairwise(built):
        slope = case.slopes[layer.label]
        if 0.4 <= slope <= 2.5 or after.neuron_type is None:
            continue
        model = model_of(after.neuron_type)
        # Where the curve is a line through 0, another scale changes no class.
        scales = model.activation == "relu" and model.threshold == 0
        free = scales and after.label not in case.keras_bias
        yield Finding(
            code="amplitude",
            severity="note" if free and slope > 0 else "warning",
            layers=(layer.label,),
            message=f"{layer.label}: the mean output is not the activation that the next layer's "
            "weights were trained on",
            evidence=f"for an activation of 1 it puts out {slope:,.3g}",
            change=f"amplitude={layer.amplitude / slope:.3g}"
            if slope > 0
            else "a gain that lets it fire",
        )


def _silent_neurons(case: _Case) -> Iterator[Finding]:
    for layer in case.hidden[:-1]:
        # A neuron that is silent in all of a few images may fire in one of twenty others.
        if case.encodes(layer) or wilson_interval(0, case.n_images)[1] > 0.05:
            continue  # black pixels, or too few images to say
        rates = case.noisy[case.layers.index(layer)].rates
        share = float((np.abs(rates).max(axis=0) < 0.1).mean())
        if share > 0.2:
            yield Finding(
                code="silent-neurons",
                severity="warning" if share > 0.6 else "note",
                layers=(layer.label,),
                message=f"{layer.label}: {share:.0%} of the neurons stay silent for every image",
                evidence="their predicted rates stay below 0.1 Hz",
                change="a higher gain or bias, if the ANN's units are active",
            )


# In the order in which findings of the same severity are reported.
_CHECKS: tuple[Callable[[_Case], Iterator[Finding]], ...] = (
    _input_range,
    _saturation,
    _coarse_step,
    _readout_filter,
    _few_spikes,
    _readout_last_step,
    _silent_output,
    _rectified_noise,
    _synapse_delay,
    _quantisation,
    _gain_on_neurons,
    _bias_threshold,
    _amplitude,
    _silent_neurons,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Observed rates beside predicted ones.

    Attributes
    ----------
    layers : tuple of dict
        One row a spiking layer: ``correlation``, ``slope`` and ``offset`` (Hz) of the observed
        against the predicted rates, ``rms_rate`` (Hz), ``rms_spikes``, ``silent``, ``saturated``
        (observed shares) and ``worst``: the neurons with the largest RMS difference, as
        ``(neuron, predicted Hz, observed Hz)``, means over the images.
    ties : int
    predicted, observed : dict of (n_images, n_neurons) ndarray, in Hz
    """

    layers: tuple[dict, ...]
    ties: int
    predicted: dict[str, np.ndarray]
    observed: dict[str, np.ndarray]

    def to_json(self) -> dict:
        """Return the comparison as JSON's own types."""
        return {"layers": list(self.layers), "ties": self.ties}

    def __str__(self) -> str:
        """Write the table, the worst neurons and the ties."""
        columns = {
            "label": ("layer", "s"),
            "correlation": ("correlation", ".4f"),
            "slope": ("slope", ".3f"),
            "offset": ("offset Hz", "+.2f"),
            "rms_rate": ("RMS Hz", ",.2f"),
            "rms_spikes": ("RMS spikes", ",.2f"),
            "silent": ("silent", ".0%"),
            "saturated": ("saturated", ".0%"),
        }
        lines = [_table(self.layers, columns)]
        for row in self.layers:
            worst = ", ".join(
                f"{neuron} ({predicted:.1f} -> {observed:.1f} Hz)"
                for neuron, predicted, observed in row["worst"]
            )
            lines.append(f"{row['label']}: furthest off, predicted -> observed: {worst}")
        return "\n".join([*lines, f"ties: {self.ties}"])


def compare(
    result: Result,
    output: Layer | nengo.Ensemble | Neurons | nengo.Node,
    images: np.ndarray,
    *,
    noise: bool = True,
    network: nengo.Network | None = None,
    n_worst: int = 3,
) -> Comparison:
    """Set the rates that a run showed beside the predicted ones.

    Parameters
    ----------
    result : Result
        Of a run with these images.
    output : Layer, nengo.Ensemble, Neurons or nengo.Node
    images : (n_images, ...) array_like
    noise : bool
        Predict with what noisy currents do (see `predict_rates`).
    network : nengo.Network, optional
        Needed for plain Nengo objects.
    n_worst : int
        How many neurons to name.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        The result has other images, layers or amplitudes.
    """
    n_worst = positive_integer("n_worst", n_worst, at_least=0)
    if not isinstance(result, Result):
        raise InputError(f"result: expected what present returns, got {described(result)}")
    time = result.n_steps * result.dt
    layers = {
        layer.label: layer
        for layer in predict(
            output, images, network=network, dt=result.dt, presentation_time=time, noise=noise
        )
    }
    rows, predicted, observed = [], {}, {}
    for label in result.counts:
        if label not in layers or layers[label].rates.shape != result.counts[label].shape:
            expected = layers[label].rates.shape if label in layers else "no such layer"
            raise InputError(
                f"{label}: expected counts of shape {expected}, as images and network have them, "
                f"found {result.counts[label].shape}; give the images and the network of the run"
            )
        run_with, now = result.layer(label).amplitude, layers[label].amplitude
        if run_with != now:
            raise InputError(
                f"{label}: expected the network of the run, where its amplitude was {run_with:g}, "
                f"got one with {now:g}; run it again after an edit"
            )
        predicted[label], observed[label] = layers[label].rates, result.rates(label)
        rows.append(_compared(layers[label], observed[label], time, result.dt, n_worst))
    return Comparison(
        layers=tuple(rows), ties=int(result.tied().sum()), predicted=predicted, observed=observed
    )


def _compared(
    layer: LayerPrediction, observed: np.ndarray, time: float, dt: float, n_worst: int
) -> dict:
    wanted, found = layer.rates.ravel(), observed.ravel()
    varies = wanted.std() > 0 and found.std() > 0
    slope, offset = np.polyfit(wanted, found, 1) if varies else (None, None)
    error = observed - layer.rates
    by_neuron = np.sqrt((error**2).mean(axis=0))
    ceiling = _ceiling(layer, dt)
    worst = np.argsort(by_neuron)[::-1][:n_worst]
    return {
        "label": layer.label,
        "correlation": float(np.corrcoef(wanted, found)[0, 1]) if varies else None,
        "slope": None if slope is None else float(slope),
        "offset": None if offset is None else float(offset),
        "rms_rate": float(np.sqrt((error**2).mean())),
        "rms_spikes": float(np.sqrt((error**2).mean()) * time),
        "silent": float((observed == 0).mean()),
        "saturated": None
        if ceiling is None
        else float((np.abs(observed) > SATURATED * ceiling).mean()),
        "worst": [
            (int(k), float(layer.rates[:, k].mean()), float(observed[:, k].mean())) for k in worst
        ],
    }
