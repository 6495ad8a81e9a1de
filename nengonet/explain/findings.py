"""Possible faults of a network, one check each: a code, a condition, and the text of the finding.

To add a finding, write a function that yields a `_fault` for each faulty layer, and register it.
"""

from __future__ import annotations

import dataclasses
import functools
import textwrap
from collections.abc import Callable, Iterator

import nengo
import numpy as np

from nengonet.checks import shortened
from nengonet.explain.fixed_points import COARSE, FixedPoint, duration
from nengonet.explain.prediction import LayerPrediction
from nengonet.layers.graph import Graph, Item, has_weights, owner
from nengonet.layers.inputs import ImageInput
from nengonet.layers.record import known_layers
from nengonet.neurons import current_at, model_of
from nengonet.results.readout import wilson_interval

SEVERITIES = ("error", "warning", "note")

# A neuron above this share of its ceiling counts as saturated.
SATURATED = 0.9
# The percentile that counts as the largest value: one outlier in a thousand is left out.
PEAK = 99.9
# Steps so short that no type loses anything of note.
_SHORT_STEP = 1e-4


@dataclasses.dataclass(frozen=True)
class Finding:
    """One fault that makes the network differ from its ANN.

    Attributes
    ----------
    code : str
        Stable name, for programs.
    severity : {"error", "warning", "note"}
    layers : tuple of str
    message : str
        The fault, in plain words.
    evidence : str
        The figures that show it.
    change : str
        The argument at fault, and the remedy.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=0.5, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> finding = nn.diagnose(layer, images).findings[0]
    >>> finding.severity, finding.code
    ('error', 'silent-output')
    >>> finding.message
    'layer: in 100% of the images no class is expected to spike, so there is nothing to count'
    """

    code: str
    severity: str
    layers: tuple[str, ...]
    message: str
    evidence: str
    change: str

    def __repr__(self) -> str:
        """Show code and layers; `str` returns the whole finding."""
        return f"<Finding {self.severity} {self.code}: {shortened(', '.join(self.layers))}>"

    def __str__(self) -> str:
        """Return the finding in three lines or more."""
        # A code is for searching: it stays on one line.
        whole = {"width": 96, "break_on_hyphens": False}
        lines = textwrap.wrap(
            f"{self.severity}: {self.message} [{self.code}]", subsequent_indent="  ", **whole
        )
        for name, text in (("shown by", self.evidence), ("change", self.change)):
            lines += textwrap.wrap(
                f"{name}: {text}", initial_indent="    ", subsequent_indent="      ", **whole
            )
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """All that the checks need."""

    network: nengo.Network
    targets: tuple[nengo.Ensemble | nengo.Node, ...]
    layers: list[LayerPrediction]
    noisy: list[LayerPrediction]
    slopes: dict[str, float]
    keras_bias: dict[str, np.ndarray]
    presentation_time: float
    dt: float
    readout: str
    readout_tau: float

    @property
    def neurons(self) -> list[LayerPrediction]:
        """The layers of neurons."""
        return [layer for layer in self.layers if layer.neuron_type is not None]

    @functools.cached_property
    def graph(self) -> Graph:
        """The network's connections."""
        return Graph(self.network)

    def tuned(self, layer: LayerPrediction) -> bool:
        """Whether max_rates and intercepts gave the neurons their gain."""
        record = known_layers(None, self.network).get(layer.item)
        return layer.item.gain is None or (record is not None and record.tuned)

    def encodes(self, layer: LayerPrediction) -> bool:
        """Whether every neuron represents one pixel."""
        if layer.neuron_type is None:
            return layer.item.size_in == 0
        return not layer.encoded and all(
            getattr(owner(each.pre_obj), "size_in", None) == 0
            and np.ndim(getattr(each.transform, "init", 1.0)) < 2
            for each in self.graph.into(layer.item)
        )

    @property
    def loops(self) -> list[tuple[LayerPrediction, FixedPoint]]:
        """The loops, each with the first of its layers."""
        found = {id(layer.loop): (layer, layer.loop) for layer in reversed(self.layers)}
        found.pop(id(None), None)
        return list(found.values())[::-1]

    def of_some(self, share: float) -> str | None:
        """Return the severity of a share of the images that should be 0."""
        severity = self.of_images(share, error=0.05, warning=0.01)
        return severity or ("note" if share > 0 else None)

    def built_on(self, item: Item) -> list[LayerPrediction]:
        """Return the nearest layers of the ANN on the paths to an object, itself included.

        Objects in between, such as pools, have no weights and change no scale.
        """
        layer = next(each for each in self.layers if each.item is item)
        if layer.label in self.slopes:
            return [layer]
        into = self.graph.into(item)
        found = [each for pre in into for each in self.built_on(owner(pre.pre_obj))]
        return list(dict.fromkeys(found))

    def of_images(self, share: float, *, error: float, warning: float) -> str | None:
        """Return the severity of a share of the images, by the lower end of its interval."""
        n_images = len(self.layers[0].rates)
        at_least, _ = wilson_interval(int(share * n_images + 1e-9), n_images)
        return _severity(at_least, error=error, warning=warning)


def _severity(value: float, *, error: float, warning: float) -> str | None:
    return "error" if value >= error else "warning" if value >= warning else None


def peak(values: np.ndarray) -> float:
    """Return the largest size, without outliers."""
    return float(np.percentile(np.abs(values), PEAK))


def saturated(layer: LayerPrediction, rates: np.ndarray, dt: float) -> float | None:
    """Return the share of rates near the ceiling of a layer; None where it has none."""
    ceiling = np.inf if layer.neuron_type is None else model_of(layer.neuron_type).ceiling(dt)
    return None if ceiling == np.inf else float((np.abs(rates) > SATURATED * ceiling).mean())


def _fault(severity: str | None, layer: LayerPrediction, size: float | None = None) -> Callable:
    """Return the function that takes a fault's texts; without a severity there is no fault.

    Faults with a size make one finding, about the largest.
    """
    return lambda message, evidence, change: (severity, layer, size, message, evidence, change)


_Fault = tuple[str | None, LayerPrediction, float | None, str, str, str]
CHECKS: list[Callable[[Case], Iterator[Finding]]] = []


def _check(code: str) -> Callable:
    """Register a check; findings of the same severity are reported in the order of the checks."""

    def register(check: Callable[[Case], Iterator[_Fault]]) -> Callable:
        def findings(case: Case) -> Iterator[Finding]:
            faults = [fault for fault in check(case) if fault[0] is not None]
            sized = [fault for fault in faults if fault[2] is not None]
            groups = [[fault] for fault in faults if fault[2] is None] + [sized] * bool(sized)
            for group in groups:
                severity, _, _, *texts = max(group, key=lambda fault: fault[2] or 0.0)
                yield Finding(code, severity, tuple(fault[1].label for fault in group), *texts)

        CHECKS.append(findings)
        return check

    return register


@_check("input-range")
def _stored_pixels(case: Case) -> Iterator[_Fault]:
    for layer in case.layers:
        low, high = float(layer.drive.min()), float(layer.drive.max())
        pixels = isinstance(getattr(layer.item, "output", None), ImageInput)
        if pixels and not layer.spiking and low >= 0 and 32 < high <= 255:
            yield _fault("warning", layer)(
                f"{layer.label}: the pixels look unscaled, from 0 to 255",
                f"they reach {high:,.4g}; most networks are trained on [0, 1], [-1, 1] or "
                "standardised pixels",
                "divide the images by 255, if the network was trained on [0, 1]",
            )


@_check("input-range")
def _bright_pixels(case: Case) -> Iterator[_Fault]:
    for layer in case.layers:
        rate, drive = peak(layer.rates), peak(layer.drive)
        if layer.spiking and rate > max(1 / case.dt, 1000.0) and case.encodes(layer):
            yield _fault("error", layer)(
                f"{layer.label}: the brightest pixels fire at {rate:,.0f} Hz",
                f"the pixels reach {drive:,.4g} and a pixel of 1 fires at {rate / drive:,.4g} Hz, "
                f"which makes {rate * case.dt:,.1f} spikes in a step of {case.dt:g} s",
                "divide the images by their largest value, or give poisson_input a max_rate of "
                "about 255 Hz",
            )


@_check("saturation")
def _saturation(case: Case) -> Iterator[_Fault]:
    for layer in case.neurons:
        model, share = model_of(layer.neuron_type), saturated(layer, layer.rates, case.dt)
        # A sigmoid or tanh saturates just as the ANN's does.
        if share is None or model.activation in ("sigmoid", "tanh"):
            continue
        threshold = f", where the threshold is {model.threshold or 0:g}"
        silent = float((layer.rates == 0).mean())
        binary = ": they are on or off, with nothing in between" if share + silent > 0.9 else ""
        yield _fault(case.of_images(share, error=0.1, warning=0.02), layer, share)(
            f"{layer.label}: {share:.0%} of the neurons fire at more than {SATURATED:.0%} of their "
            f"ceiling of {model.ceiling(case.dt):,.0f} Hz{binary}",
            f"currents reach {peak(layer.current):,.3g}"
            f"{'' if model.threshold is None else threshold}; in an average image {silent:.0%} of "
            "the neurons are silent",
            "lower the gain (pass gain=… and bias=0), or the amplitude of the layer before, until "
            "the largest drive gives about half the ceiling",
        )


@_check("coarse-step")
def _coarse_step(case: Case) -> Iterator[_Fault]:
    """Find neurons whose rates in these steps differ from those in short ones."""
    bad = []
    for layer in case.neurons:
        model = model_of(layer.neuron_type)
        if layer.spiking and case.dt > _SHORT_STEP:
            some = np.percentile(layer.current, [*np.linspace(0, 100, 40), PEAK])[None]
            long, short = (model.first_rates(some, step)[0] for step in (case.dt, _SHORT_STEP))
            off, most = np.abs(long - short), np.maximum(np.maximum(long, short), 1.0)
            share = float(max(off[:-1].sum() / most[:-1].sum(), off[-1] / most[-1]))
            bad += [(share, long[-1], short[-1], model, layer)] if share > 0.03 else []
    exact = min((model.exact_step for *_, model, _ in bad), default=0.0)
    for share, long, short, model, layer in bad:
        yield _fault(_severity(share, error=0.3, warning=0.1) or "note", layer, share)(
            f"{layer.label}: {model.name} {model.step_effect}, and a step is {case.dt:g} s",
            f"no neuron can exceed {model.ceiling(case.dt):,.4g} Hz; the largest currents give "
            f"{long:,.4g} Hz, and {short:,.4g} Hz in short steps",
            (f"use a dt of at most {exact:g} s" if exact > 0 else "use a shorter dt")
            + ", or neurons that spike several times in a step, such as IntegrateAndFire",
        )


@_check("readout-filter")
def _steps_for_spikes(case: Case) -> Iterator[_Fault]:
    if case.readout == "steps_after_first_spike":
        spiking = (case.noisy[-1].rates * case.presentation_time > 2).sum(axis=1)
        yield _fault("error", case.layers[-1])(
            "the readout counts the steps after the first spike, not spikes: it asks where the "
            "filtered output is above 0, and a filtered spike never returns to 0",
            f"in {(spiking > 1).mean():.0%} of the images two classes or more are expected to "
            "spike, and differ only in the step of their first spike",
            'use readout="spike_count", or probe with synapse=None and sum the spikes',
        )


@_check("readout-filter")
def _filtered_probe(case: Case) -> Iterator[_Fault]:
    for probe in case.network.all_probes:
        filtered = owner(probe.target) in case.targets and probe.synapse is not None
        if filtered and case.readout == "spike_count" and case.layers[-1].spiking:
            last, label = case.layers[-1], f" {probe.label!r}" if probe.label else ""
            yield _fault("warning", last)(
                f"{last.label}: its probe{label} filters spikes, so its data hold none to count",
                f"synapse={probe.synapse}",
                "use nengo.Probe(…, synapse=None)",
            )


@_check("few-spikes")
def _few_spikes(case: Case) -> Iterator[_Fault]:
    for layer in case.layers[:-1]:
        rate = peak(layer.rates)
        count = rate * case.presentation_time
        if layer.spiking and count > 0:
            yield _fault(_severity(-count, error=-1, warning=-3), layer, -count)(
                f"{layer.label}: even the most active neurons are expected to spike {count:.2g} "
                f"times in {case.presentation_time:g} s, so hardly anything reaches the next layer",
                f"an activation that only one in a thousand exceeds fires at {rate:.3g} Hz",
                f"multiply the gain by {10 / count:.2g} and divide the amplitude by as much "
                "(nengonet.scale_firing_rates), for ten spikes and the same mean output; or use a "
                "longer presentation_time",
            )


@_check("readout-last-step")
def _last_step(case: Case) -> Iterator[_Fault]:
    last = case.layers[-1]
    if case.readout != "last_step" or last.rates.shape[1] < 2:
        return
    best = np.argsort(last.mean_outputs, axis=1)[:, -2:]
    second, first = np.take_along_axis(last.mean_outputs, best, axis=1).T
    lead = float(np.median(first - second))
    variance = np.take_along_axis(last.variance, best, axis=1).sum(axis=1)  # of the difference
    deviation = float(np.median(np.sqrt(variance)))
    yield _fault(_severity(deviation / max(lead, 1e-300), error=1.0, warning=0.3), last)(
        f"{last.label}: only the last step is read out, which holds the spikes of "
        f"{1000 * case.dt:g} ms",
        f"the winner's mean lead is {lead:,.3g}, and its deviation from step to step is "
        f"{deviation:,.3g}",
        'use readout="mean", or a synapse before the last layer',
    )


@_check("not-settled")
def _not_settled(case: Case) -> Iterator[_Fault]:
    for layer, loop in case.loops:
        share = float((~loop.converged).mean())
        yield _fault(case.of_some(share), layer, share)(
            f"{', '.join(loop.rates)}: the rates of the loop do not settle in {share:.0%} of the "
            "images, so a run has other rates than those shown here",
            f"after {loop.iterations} iterations, one more changes them by up to "
            f"{loop.residual.max():,.3g} Hz",
            "use weaker weights within the loop, or longer synapses",
        )


@_check("unstable-fixed-point")
def _unstable(case: Case) -> Iterator[_Fault]:
    for layer, loop in case.loops:
        unstable = loop.converged & ~loop.stable
        share, most = float(unstable.mean()), float(loop.multiplier[unstable].max(initial=0.0))
        yield _fault(case.of_some(share), layer, share)(
            f"{', '.join(loop.rates)}: the rates at which the loop could rest are unstable in "
            f"{share:.0%} of the images, so a run leaves them: it oscillates, or settles elsewhere",
            f"every step of {1000 * case.dt:g} ms multiplies a small deviation by up to {most:.4g}",
            "use weaker weights within the loop or, if inhibition makes it oscillate, longer "
            "synapses",
        )


@_check("several-fixed-points")
def _several(case: Case) -> Iterator[_Fault]:
    for layer, loop in case.loops:
        share = float(loop.several.mean()) if loop.n_starts else 0.0
        yield _fault("warning" if share > 0 else None, layer, share)(
            f"{', '.join(loop.rates)}: the loop can rest at several sets of rates; those shown "
            "here are the ones that it reaches from the reset state without noise",
            f"in {share:.0%} of {len(loop.several)} images, some of {loop.n_starts} other starts "
            "lead to other rates",
            "use weaker inhibition or feedback if you want one answer; else run several times, "
            "with different seeds",
        )


@_check("coarse-spikes")
def _coarse_spikes(case: Case) -> Iterator[_Fault]:
    for layer, loop in case.loops:
        share = float((loop.fluctuation > COARSE).mean())
        yield _fault("warning" if share > 0.5 else "note" if share > 0 else None, layer, share)(
            f"{', '.join(loop.rates)}: single spikes move the currents of the loop so far that its "
            "rates may differ from those of the mean currents",
            f"in {share:.0%} of the images the median neuron's current deviates by more than "
            f"{COARSE:.0%} of its size from step to step, up to {loop.fluctuation.max():.0%}",
            "use longer synapses within the loop, or more neurons with weaker weights; compare "
            "with a run",
        )


@_check("slow-settling")
def _slow_settling(case: Case) -> Iterator[_Fault]:
    for layer, loop in case.loops:
        if loop.stable.any():
            time = float(np.median(loop.settling_time[loop.stable]))
            share = time / case.presentation_time
            yield _fault(_severity(share, error=1.0, warning=0.4), layer, share)(
                f"{', '.join(loop.rates)}: the loop takes {duration(time)} to settle, in a "
                f"presentation of {duration(case.presentation_time)}; the rates shown here are "
                "the settled ones",
                "after that time, a deviation has shrunk to 5 % (median over the images)",
                "use a longer presentation_time, shorter synapses within the loop, or feedback "
                "further from 1",
            )


@_check("silent-output")
def _silent_output(case: Case) -> Iterator[_Fault]:
    last = case.noisy[-1]
    if last.spiking and case.readout in ("spike_count", "first_spike"):
        share = float(((last.rates * case.presentation_time).max(axis=1) < 1).mean())
        yield _fault(case.of_images(share, error=0.05, warning=0.01), last)(
            f"{last.label}: in {share:.0%} of the images no class is expected to spike, so there "
            "is nothing to count",
            f"in {(last.current.max(axis=1) <= 0).mean():.0%} of the images every current is "
            "negative",
            "raise the gain, add the same bias to every class, or read out a last layer without "
            'neurons: dense(…, None), readout="sum"',
        )


@_check("rectified-noise")
def _rectified_noise(case: Case) -> Iterator[_Fault]:
    changed = case.layers[-1].rates.argmax(axis=1) != case.noisy[-1].rates.argmax(axis=1)
    share, touched = float(changed.mean()), []
    for layer, noisy in zip(case.layers, case.noisy, strict=True):
        hz = float((noisy.rates - layer.rates).mean())
        if abs(hz) > 0.01 * max(np.abs(layer.rates).mean(), 1.0) and layer.neuron_type is not None:
            touched.append((hz, layer, model_of(layer.neuron_type)))
    effects = sorted({f"{model.name} {model.noise_effect}" for *_, model in touched})
    remedies = sorted({f", or {model.noise_remedy}" for *_, model in touched if model.noise_remedy})
    for hz, layer, _ in touched:
        yield _fault(case.of_images(share, error=0.05, warning=0.02) or "note", layer, abs(hz))(
            f"{' and '.join(effects)} at every step, so the noise of the input changes the rate",
            f"{layer.label}: currents deviate by {np.median(layer.deviation):,.3g} from step to "
            f"step, and their median size is {np.median(np.abs(layer.current)):,.3g}; noise adds "
            f"{hz:,.1f} Hz to a mean rate of {layer.rates.mean():,.1f} Hz, and changes the "
            f"predicted class of {share:.1%} of the images",
            "use a longer synapse on the connections, such as 0.01, or the neuron type "
            f"IntegrateAndFire{''.join(remedies)}",
        )


@_check("synapse-delay")
def _synapse_delay(case: Case) -> Iterator[_Fault]:
    last, time = case.layers[-1], case.presentation_time
    delay = last.delay + (case.readout_tau if case.readout == "filtered" else 0.0)
    # With a delay only before a linear last layer, scores keep their order, apart from biases.
    linear = not last.spiking and not any(layer.delay for layer in case.neurons)
    severity = _severity(delay / time, error=np.inf if linear else 0.5, warning=0.2)
    yield _fault(severity, last)(
        f"the synapses {'hold all scores back' if linear else 'delay the answer'} by "
        f"{1000 * delay:.3g} ms, in a presentation of {1000 * time:.3g} ms",
        f"their time constants add up to {delay / time:.0%} of the presentation",
        "use shorter synapses, or a longer presentation_time",
    )


@_check("quantisation")
def _quantisation(case: Case) -> Iterator[_Fault]:
    last = case.noisy[-1]
    best = np.sort(last.rates * case.presentation_time, axis=1)
    count = float(np.median(best[:, -1]))
    if not last.spiking or case.readout != "spike_count" or count <= 0:
        return
    close = float((best[:, -1] - best[:, -2] < 1).mean()) if best.shape[1] > 1 else 0.0
    of_count = _severity(-count, error=-3, warning=-6)
    of_close = case.of_images(close, error=0.4, warning=0.15)
    yield _fault(min(filter(None, (of_count, of_close)), key=SEVERITIES.index, default=None), last)(
        f"{last.label}: too few spikes to tell the classes apart in {case.presentation_time:g} s",
        f"the winner's median expected count is {count:.1f}, and in {close:.0%} of the images "
        "it is less than one spike ahead",
        "use a longer presentation_time, or a higher gain",
    )


@_check("gain-on-neurons")
def _gain_on_neurons(case: Case) -> Iterator[_Fault]:
    for layer in case.neurons:
        model = model_of(layer.neuron_type)
        ceiling = model.ceiling(case.dt)
        if layer.encoded or ceiling == np.inf or not model.threshold or not case.tuned(layer):
            continue
        enough = current_at(layer.neuron_type, SATURATED * ceiling)
        drive, pushed = peak(layer.drive), peak(layer.gain * layer.drive)
        if pushed > 10 * enough:
            yield _fault("warning", layer, pushed / enough)(
                f"{layer.label}: the gain of {np.median(layer.gain):.4g} also multiplies the "
                "input of .neurons; it was tuned for drives in [-1, 1]",
                f"drives reach {drive:,.3g}, and gain * drive {pushed:,.3g}; {enough:,.3g} is "
                f"enough for {SATURATED:.0%} of the ceiling",
                f"use gain={enough / 2 / drive:.3g}, bias=0",
            )


@_check("bias-threshold")
def _bias_threshold(case: Case) -> Iterator[_Fault]:
    for layer in case.neurons:
        model = model_of(layer.neuron_type)
        bias = float(np.median(layer.bias - layer.gain * case.keras_bias.get(layer.label, 0.0)))
        if model.threshold and bias >= 1.0 and not layer.encoded:
            why = f"; max_rates with intercepts=0 give {model.name} a bias of 1"
            yield _fault("warning", layer, bias)(
                f"{layer.label}: the bias alone holds every neuron "
                f"{'exactly at' if bias == 1.0 else 'above'} its threshold of 1",
                f"bias {bias:.4g}{why if case.tuned(layer) else ''}",
                "pass gain=… and bias=0, or intercepts above 0",
            )


@_check("amplitude")
def _amplitude(case: Case) -> Iterator[_Fault]:
    behind: dict[LayerPrediction, list[LayerPrediction]] = {}
    for after in case.layers:
        if after.label in case.slopes:
            for each in case.graph.into(after.item):
                for layer in case.built_on(owner(each.pre_obj)):
                    behind.setdefault(layer, []).append(after)
    for layer, others in behind.items():
        slope = case.slopes[layer.label]
        neurons = [after for after in others if after.neuron_type is not None]
        if 0.4 <= slope <= 2.5 or not neurons:
            continue
        # If the curve is a line through 0, another scale changes no class.
        free = slope > 0 and all(
            model_of(after.neuron_type).activation == "relu"
            and model_of(after.neuron_type).threshold == 0
            and after.label not in case.keras_bias
            for after in neurons
        )
        change = "use a gain that lets it fire"
        if slope > 0:
            change = f"use amplitude={layer.amplitude / slope:.3g}"
            if layer.neuron_type is None:
                change = "change the amplitudes of the layers before it, or the scale of the input"
        yield _fault("note" if free else "warning", layer)(
            f"{layer.label}: the mean output is not the activation that the next layer's weights "
            "were trained on",
            f"for an activation of 1 it outputs {slope:,.3g}",
            change,
        )


@_check("branch-scales")
def _branch_scales(case: Case) -> Iterator[_Fault]:
    for layer in case.layers if case.slopes else ():
        plain = [each for each in case.graph.into(layer.item) if not has_weights(each)]
        scales = {
            before.label: case.slopes[before.label]
            for each in plain
            for before in case.built_on(owner(each.pre_obj))
        }
        low, high = min(scales.values(), default=0.0), max(scales.values(), default=0.0)
        if low > 0 and high > 2 * low:
            found = ", ".join(f"{label} outputs {slope:,.3g}" for label, slope in scales.items())
            yield _fault("warning", layer, high / low)(
                f"{layer.label}: the branches that meet there have different scales, so their "
                "sum is neither the ANN's nor what the next weights were trained on",
                f"for an activation of 1, {found}",
                "use amplitudes with which every branch outputs its activations, or the weights of "
                "nengonet.balance, which gives branches that meet one scale",
            )


@_check("silent-neurons")
def _silent_neurons(case: Case) -> Iterator[_Fault]:
    for layer in case.noisy[:-1]:
        # A neuron that is silent in a few images may fire in one of twenty others.
        few = wilson_interval(0, len(layer.rates))[1] > 0.05
        encoded = layer.encoded or case.encodes(layer)  # silent for other values, or black pixels
        if few or layer.neuron_type is None or encoded:
            continue
        share = float((np.abs(layer.rates).max(axis=0) < 0.1).mean())
        yield _fault("warning" if share > 0.6 else "note" if share > 0.2 else None, layer)(
            f"{layer.label}: {share:.0%} of the neurons stay silent for every image",
            "their predicted rates stay below 0.1 Hz",
            "use a higher gain or bias, if the ANN's units are active",
        )
