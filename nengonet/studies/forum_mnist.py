"""The Nengo forum's "A simple ANN-SNN conversion attempt": MNIST on a hand-built MLP.

https://forum.nengo.ai/t/a-simple-ann-snn-conversion-attemp/1780

The poster trains a Keras MLP 784-128(relu)-10 without biases, copies its weights into Nengo, feeds
Poisson spikes, and gets 0.45. The repaired network differs only in its corrected scales. It has the
same weights, the same Poisson input and the same ``.neurons`` connections. It also runs for 350
steps of 1 ms, counts spikes, and is reset before every example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import nengo
import numpy as np

import nengonet as nn
from nengonet.checks import as_number
from nengonet.explain.findings import SATURATED
from nengonet.studies import shared
from nengonet.studies.engine import Case, Data, Given, Study, Variant
from nengonet.studies.options import FullScaleRate, Option, PresentationTime
from nengonet.studies.report import Reproduction

DATA = Data("mnist")
PUBLISHED = 0.45
# The posted network's result here with the poster's own weights, a public file: accuracy and 95 %
# interval on the first 1000 test images.
POSTERS_WEIGHTS = (0.513, 0.482, 0.544)
PUBLISHED_SHAPES = [(784, 128), (128, 10)]
PUBLISHED_TIME = 0.35

# A layer's largest activation (99.9th percentile) fires at this rate. It is half of LIF's ceiling
# of 1/tau_ref = 500 Hz: the curve is still close to a line, and 350 ms hold 87 spikes.
FULL_SCALE_RATE = 250.0

# Neurons of the repaired network, the synapse that they need, and why. Every presentation begins
# from zero voltage (IntegrateAndFire: from one half, its default).
NEURONS = {
    "lif": (
        nengo.LIF(initial_state=shared.ZERO_STATE),
        None,
        "no synapse: the leak of nengo.LIF averages the input spikes",
    ),
    "if": (
        nn.IntegrateAndFire(),
        None,
        "no synapse: the voltage of IntegrateAndFire may go below 0",
    ),
    "relu": (
        nengo.SpikingRectifiedLinear(initial_state=shared.ZERO_STATE),
        0.01,
        "a synapse of 10 ms averages the spikes, as SpikingRectifiedLinear rectifies its current "
        "at every step",
    ),
}


def mlp_layers(weights: nn.Weights) -> list[nn.LayerWeights]:
    """Return the layers of an MLP for 28x28 images and ten classes, from first to last.

    A plain HDF5 file lists its arrays by name (``hiddenToOut`` before ``inpToHidden``). The
    order of the layers therefore comes from the shapes.
    """
    left, found, width = list(weights.values()), [], int(np.prod(DATA.shape))
    while fitting := [each for each in left if each.kind == "Dense" and len(each.kernel) == width]:
        found.append(fitting[0])
        left = [each for each in left if each is not fitting[0]]
        width = fitting[0].kernel.shape[1]
    if left or width != DATA.n_classes:
        raise nn.InputError(
            f"{weights.path}: expected Dense layers from {np.prod(DATA.shape)} inputs to "
            f"{DATA.n_classes} outputs, such as (784, 128) and (128, 10), got "
            f"{shared.listed(weights)}"
        )
    return found


def build(
    layers: list[nn.LayerWeights],
    variant: str = "repaired",
    *,
    neurons: str = "lif",
    input_rate: float = 255.0,
    input_kind: str = "process",
    full_scale_rate: float = FULL_SCALE_RATE,
    initial_voltage: str = "network",
    seed: int = 0,
) -> nn.Layer:
    """Build one of the three networks, and return its last layer.

    - ``"posted"``: grey levels 0 to 255 go into ``PoissonSpiking(RectifiedLinear())`` tuned to
      ``max_rates=Choice([100])``, ``intercepts=Choice([0])``. The gain is therefore 100, and a
      white pixel fires at 25,500 Hz. The LIF layers have the same tuning (gain 2.033, bias 1), and
      spikes of height 1000.
    - ``"obvious"``, the repair that comes to mind first: input in [0, 1] and amplitude 0.01. A
      drive of 1 fires at 100 Hz, so it gives 1 again. The scales are right, but the bias still
      holds every LIF neuron at its threshold, and the noise of the spikes is clipped.
    - ``"repaired"``: each input spike has the area ``1 / input_rate``. The mean input is then the
      pixel as the ANN saw it. A layer's full scale (99.9th percentile of its activations on the
      bundled 500 training images) fires at ``full_scale_rate``. Without such a gain, the forum's
      weights ask for currents of 100,000 times the threshold. The bias is 0; the post's
      ``intercepts=0`` gave LIF a bias of 1, exactly at threshold. The amplitude makes the mean
      output equal the activation, so the next layer's drive equals the input of its Keras unit.
    """
    pixels, synapse = {"max_rate": 25500.0, "amplitude": 1.0, "scale": 255.0}, None
    tunings = dict.fromkeys((each.name for each in layers), nn.FORUM)
    voltage = shared.ZERO_STATE if initial_voltage == "zero" else shared.INITIAL_STATE
    neuron_type = nengo.LIF(initial_state=voltage)
    if variant == "obvious":
        pixels, neuron_type = {"max_rate": 100.0, "amplitude": 0.01}, nengo.LIF(amplitude=0.01)
    elif variant == "repaired":
        pixels, (neuron_type, synapse, _) = {"max_rate": input_rate}, NEURONS[neurons]
        sample, _ = nn.datasets.load("mnist", split="train")
        tunings = shared.tuned(layers, sample, neuron_type, full_scale_rate)
    pixels["kind"] = input_kind if variant == "repaired" else "ensemble"
    with nengo.Network(seed=seed):
        if pixels["kind"] == "constant":
            layer = nn.constant_input(DATA.shape)
        else:
            layer = nn.poisson_input(DATA.shape, **pixels)
        for weights in layers:
            layer = nn.dense(layer, weights, neuron_type, synapse=synapse, **tunings[weights.name])
    return layer


def network(
    given: Given,
    *,
    variant: Literal["repaired", "obvious", "posted"] = "repaired",
    neurons: Annotated[
        Literal["lif", "if", "relu"], "Neuron type of the repaired network."
    ] = "lif",
    input_rate: Annotated[float, "Rate of a white pixel in the repaired network, in Hz."] = 255.0,
    input_kind: Annotated[
        Literal["process", "ensemble", "constant"],
        Option(
            "Feed the repaired network constant pixel values instead of Poisson spikes.",
            switches={"constant": "--constant-input"},
            without="input_rate",
        ),
    ] = "process",
    full_scale_rate: FullScaleRate = FULL_SCALE_RATE,
    initial_voltage: Annotated[
        Literal["network", "image", "zero"],
        "Initial voltages of the posted network: one for each neuron, as in Nengo; one for each "
        "neuron and image; or 0.",
    ] = "network",
    presentation_time: PresentationTime = PUBLISHED_TIME,
) -> Case:
    """Build one of the three networks."""
    weights = given.load_weights("mnist_dense")
    layers = mlp_layers(weights)
    as_number("input_rate", input_rate, "a rate in Hz", above=0)
    chosen = {"neurons": neurons, "input_rate": input_rate}
    chosen |= {"input_kind": input_kind, "full_scale_rate": full_scale_rate}
    posted = variant == "posted"
    if not posted and initial_voltage != "network":
        raise nn.InputError(f"initial_voltage: expected the variant posted, got {variant}")
    if variant != "repaired" and chosen != {name: network.__kwdefaults__[name] for name in chosen}:
        raise nn.InputError(
            f"variant: {variant} fixes {', '.join(chosen)}, so expected their defaults, got others"
        )
    output = build(layers, variant, **chosen, initial_voltage=initial_voltage, seed=given.seed)
    if variant != "repaired":
        chosen = {"neurons": "lif", "input_rate": 25500.0 if posted else 100.0}
    elif input_kind == "constant":
        del chosen["input_rate"]
    drawn = posted and initial_voltage == "image"
    shapes = [layer.kernel.shape for layer in layers]
    as_published = posted and (shapes, presentation_time) == (PUBLISHED_SHAPES, PUBLISHED_TIME)
    return Case(
        variant,
        output,
        layers,
        weights.path,
        presentation_time,
        readout="steps_after_first_spike" if posted else "spike_count",
        settings=chosen,
        initial_states={layer.name: shared.INITIAL_STATE for layer in layers} if drawn else {},
        published=PUBLISHED if as_published else None,
    )


# The parts of the report.


def cells(report: Reproduction) -> list[dict]:
    """Return the accuracies of every readout that the post tried, and of spike counts."""
    if report.case.name != "posted":
        return []
    probe, labels = report.result.scores("filtered"), report.labels
    found = {"sum(probe > 0)": report.accuracy}
    for name, total in (("sum(probe)", probe.sum(axis=1)), ("mean(probe)", probe.mean(axis=1))):
        answers, tied = nn.readout.classes(total)
        found[name] = nn.readout.accuracy(answers, labels, tied)
    found["spike count"] = report.result.accuracy(labels, "spike_count")
    return [
        {"readout": name, "ties": each.ties} | shared.fields(each) for name, each in found.items()
    ]


def on_published(report: Reproduction) -> Iterator[str]:
    """Compare the published figure with the intervals of these weights and of the poster's."""
    if report.published is not None:
        low, high = report.accuracy.interval
        place = "inside" if low <= report.published <= high else "outside"
        value, *interval = POSTERS_WEIGHTS
        yield (
            f"the published {report.published:.2f} is {place} the interval of these weights. "
            f"The poster's own file gave {value:.3f} ({interval[0]:.3f} to {interval[1]:.3f}) with "
            "this network and 1000 images"
        )


def on_readouts(report: Reproduction) -> Iterator[str]:
    """State what the post's readout counts, and the accuracies of other readouts."""
    if report.cells:
        first, *others = report.cells
        yield (
            "`sum(filtered_probe > 0)` counts the steps after an output neuron's first spike: "
            f"{first['ties']} of {first['n_images']} examples tie"
            + (", and the lowest class number wins" if first["ties"] else "")
        )
        for cell in others:
            yield (
                "the readout {readout} instead: {accuracy:.4f} (95 % interval {interval[0]:.4f} to "
                "{interval[1]:.4f}, {ties} ties)".format(**cell)
            )


def on_saturation(report: Reproduction) -> Iterator[str]:
    """Count the neurons that carry no information because they spike always or never."""
    for layer in report.case.output.upstream() if report.case.name != "repaired" else ():
        if layer.weights is not None:
            ceiling = 1.0 / layer.ensemble.neuron_type.tau_ref
            rates = report.result.rates(layer.label)
            n = rates.shape[1]
            saturated, silent = (rates > SATURATED * ceiling).mean(), (rates == 0).mean()
            yield (
                f"{layer.label}: in an average image, {saturated * n:.1f} of {n} neurons are "
                f"saturated (above {SATURATED:.0%} of LIF's ceiling of {ceiling:.0f} Hz) and "
                f"{silent * n:.1f} are silent"
            )


def on_repair(report: Reproduction) -> Iterator[str]:
    """State the differences from the posted network, as read from both networks."""
    if report.case.name == "repaired":
        yield from differences(report.case)


def differences(case: Case) -> Iterator[str]:
    """Yield the differences of a repaired network from the posted one with the same weights."""
    chosen, networks = case.settings, (case.output, build(case.layers, "posted"))
    rate, full_scale_rate = chosen.get("input_rate"), chosen["full_scale_rate"]
    white = 255 * float(networks[1].upstream()[1].ensemble.gain[0])
    if rate is None:
        yield f"the pixels themselves are the input, instead of spikes at up to {white:,.0f} Hz"
    else:
        yield (
            f"input rate of a white pixel {rate:g} Hz instead of {white:,.0f} Hz, with spikes of "
            f"area 1/{rate:g}: the mean input is the pixel as the ANN saw it"
        )
    after, before = (_by_layer(each, lambda layer: layer.ensemble.gain[0]) for each in networks)
    yield (
        f"gain {after} instead of {before}: the 99.9th percentile of a layer's activations on 500 "
        f"training images fires at {full_scale_rate:g} Hz"
    )
    after, before = (_by_layer(each, _own_bias) for each in networks)
    yield f"bias {after} instead of {before} (apart from Keras' biases): LIF's threshold is 1"
    after, before = (_by_layer(each, lambda layer: layer.amplitude) for each in networks)
    yield (
        f"amplitude {after} instead of {before}: full scale / {full_scale_rate:g} Hz, so that the "
        "mean output is the activation that the next Keras layer was trained on"
    )
    yield "spikes are counted, by area, instead of the steps in which a filtered probe is above 0"
    yield NEURONS[chosen["neurons"]][2]


def _by_layer(output: nn.Layer, what: Callable[[nn.Layer], float]) -> str:
    """Write a number for each layer with weights, or a single one where all are the same."""
    layers = [layer for layer in output.upstream() if layer.weights is not None]
    values = [f"{what(layer):.4g}" for layer in layers]
    if len(set(values)) == 1:
        return values[0]
    return ", ".join(f"{layer.label} {value}" for layer, value in zip(layers, values, strict=True))


def _own_bias(layer: nn.Layer) -> float:
    """Return the bias that the tuning adds to Keras' own."""
    keras = 0.0 if layer.weights.bias is None else np.resize(layer.weights.bias, layer.size)
    own = np.median(layer.ensemble.bias - layer.ensemble.gain * keras)
    return round(float(own), 6) + 0.0  # no -0


def on_time(report: Reproduction) -> Iterator[str]:
    """State after how many steps the repaired network is as good as its ANN."""
    if report.case.name == "repaired":
        curve = report.result.latency(report.labels)
        near = shared.settled(curve, report.ann_accuracy.value, margin=0.001)
        reached = "not within" if near is None else f"from step {near} on within"
        steps = (10, 20, 40, 75, 100, 200, 350)
        yield f"{shared.after(curve, steps)}; {reached} 0.1 percentage points of the ANN"


STUDY = Study(
    name="forum-mnist",
    title="the forum's MLP",
    summary="Classify MNIST with the forum's MLP: Poisson input, LIF neurons, 350 steps, spike "
    "counts.",
    source='Nengo forum, "A simple ANN-SNN conversion attempt"',
    data=DATA,
    network=network,
    variants={
        "repaired": Variant({"variant": "repaired"}),
        "posted": Variant({"variant": "posted"}, "--as-posted", "Use the network as posted."),
        "obvious": Variant(
            {"variant": "obvious"},
            "--obvious",
            "Use the obvious repair: images in [0, 1] and amplitude 0.01.",
        ),
    },
    cells=cells,
    notes=(on_published, on_readouts, on_saturation, on_repair, on_time),
    defaults={
        "reproduce": {"n_jobs": -1},
        "diagnose": {"n_images": 1000},
        "budget": {"n_jobs": -1},
    },
    examples={
        "reproduce": "--as-posted --images 100",
        "diagnose": "--as-posted",
        "budget": "--as-posted --images 100",
        "sweep": "--set input-rate=255,1000 --seeds 5",
    },
    help={
        "weights": "Keras file of an MLP 784-…-10.",
        "reproduce save": "Save the spike counts to this HDF5 file.",
        "reproduce plot": "Draw the run of the first image to this file.",
    },
)
