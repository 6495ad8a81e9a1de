"""The Nengo forum's "Effect of amplitude on accuracy": LIF spikes larger than in training.

https://forum.nengo.ai/t/nengodl-mnist-tutorial-effect-of-amplitude-on-accuracy/1830

The poster takes NengoDL's MNIST tutorial (``max_rates`` Choice([100]), ``intercepts`` Choice([0]),
``synapse`` None) and sets the amplitude of its LIF neurons to 0.01, 0.02, … 0.50. The weights stay
as they were trained at 0.01. The poster asks why the accuracy falls, and why it falls in a
zig-zag. This module has the study's sweeps and the answers to the thread's questions; its networks
are in `amplitude_networks`.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal

import nengo
import numpy as np

import nengonet as nn
from nengonet.checks import positive_integer
from nengonet.explain.budget import Stage
from nengonet.run.content import file_digest
from nengonet.studies import amplitude_networks as nets
from nengonet.studies import shared
from nengonet.studies.amplitude_networks import AMPLITUDES, KINDS, RETRAINED, TRAINED_AT
from nengonet.studies.engine import Case, Given, Run, Study, Sweeping, beside
from nengonet.studies.options import Option
from nengonet.studies.report import Reproduction, interval_text
from nengonet.tables import table

PUBLISHED = 0.99  # of the CNN at amplitude 0.01
N_IMAGES = {"mlp": 1000, "cnn": 200}
N_SEEDS = {"mlp": 10, "cnn": 5}
_FILES = {"mlp": "mnist_dense", "cnn": "amplitude_cnn"}
# Kinds at every amplitude, and kinds at those five. The MLP has no biases, and the CNN's last layer
# has no neurons.
CURVES = {"mlp": ("fixed", "compensated", "linear"), "cnn": ("fixed",)}
CAUSES = {
    "mlp": ("rate", "unclipped", "synapse"),
    "cnn": ("compensated", "rate", "unclipped", "synapse", "biases"),
}
# Networks that were trained in the same way at 0.01, from other seeds.
TRAININGS = {"training-1": "amplitude_cnn_seed1", "training-2": "amplitude_cnn_seed2"}
# The thread's loop over one amplitude.
LOOP = {"kind": ["loop"], "amplitude": [0.1]}
CHANNEL_AMPLITUDES = (0.01, *(n / 20 for n in range(1, 11)))
N_CHANNEL_SEEDS = 5
# Images whose spikes are kept neuron by neuron.
N_EXPLAINED = 50
_Network = Annotated[Literal["mlp", "cnn"], "The forum's MLP or the tutorial's CNN."]
_Amplitude = Annotated[float, "Amplitude of the LIF neurons: the area of a spike."]
_Input = Annotated[
    Literal["constant", "process"],
    Option(
        "Feed Poisson spikes instead of constant pixels.", switches={"process": "--poisson-input"}
    ),
]


def network(
    given: Given,
    *,
    network: _Network = "mlp",
    amplitude: _Amplitude = TRAINED_AT,
    kind: Annotated[
        Literal["fixed", "compensated", "linear", "rate", "unclipped", "synapse", "biases"],
        "What else differs from the thread's network.",
    ] = "fixed",
    input_kind: _Input = "constant",
) -> Case:
    """Build one network at one amplitude."""
    if given.weights is not None and network != "mlp":
        raise nn.InputError(f"network: expected mlp with your own weights, got {network!r}")
    weights = given.load_weights(_FILES[network])
    name, layers = nets.network_layers(weights)
    poisson = input_kind == "process"
    _, output = nets.build(layers, amplitude=amplitude, kind=kind, poisson=poisson, seed=given.seed)
    pixels = "Poisson, 255 Hz" if poisson else f"constant, white {nets.WHITE[name]:g}"
    as_published = (name, amplitude, kind, poisson) == ("cnn", TRAINED_AT, "fixed", False)
    found = {"settings": {"input": pixels}, "published": PUBLISHED if as_published else None}
    time = {"presentation_time": nets.N_STEPS * nets.DT, "dt": nets.DT, "readout": "filtered"}
    return Case(f"{name}, amplitude {amplitude:g}", output, layers, weights.path, **time, **found)


def runs(
    given: Given,
    *,
    networks: Annotated[
        Sequence[Literal["mlp", "cnn"]],
        Option("Run only this network; the MLP takes a minute.", "--network", default="both"),
    ] = (),
    n_seeds: Annotated[
        int | None,
        Option("Seeds for each sweep.", "--seeds", default="10 for the MLP, 5 for the others"),
    ] = None,
    amplitudes: Annotated[
        Sequence[float],
        Option(
            "Run only these amplitudes; may be repeated.", "--amplitude", default="0.01 to 0.50"
        ),
    ] = AMPLITUDES,
    n_loop_seeds: Annotated[
        int, Option("Seeds for the thread's loop over one amplitude.", "--loop-seeds")
    ] = 50,
    input_kind: _Input = "constant",
) -> dict[str, Run | Sweeping]:
    """Return the sweeps: amplitudes, seeds of one amplitude, retrained networks, the channel."""
    files, plan, rest = _files(given.weights, networks), {}, {}
    n_loop_seeds = positive_integer("n_loop_seeds", n_loop_seeds, 2)

    def sweeping(name: str, files: dict, grid: object, seeds: int, joins: str = "") -> Sweeping:
        constants = {
            "files": files,
            "n_images": N_IMAGES[name] if given.n_images is None else given.n_images,
            "poisson": input_kind == "process",
            "precision": given.precision,
            **({} if given.data is None else {"data": pathlib.Path(given.data)}),
        }
        return Sweeping(grid, range(given.seed, given.seed + seeds), constants, nets.cell, joins)

    for name, file in files.items():
        seeds = N_SEEDS[name] if n_seeds is None else positive_integer("n_seeds", n_seeds)
        grids = [_at(CURVES[name], amplitudes), _at(("fixed", *CAUSES[name]), RETRAINED)]
        plan[name] = sweeping(name, file, grids, seeds)
        rest[f"loop-{name}"] = sweeping(name, file, LOOP, n_loop_seeds, name)
        if name == "cnn" and given.weights is None:
            grid = _at(["retrained", *TRAININGS], RETRAINED)
            rest["retrained"] = sweeping(name, _retrained_files(), [grid], seeds, name)
    grid = {"decoders": ["fixed", "solved"], "amplitude": CHANNEL_AMPLITUDES}
    n_channel = N_CHANNEL_SEEDS if n_seeds is None else min(n_seeds, N_CHANNEL_SEEDS)
    rest["channel"] = Sweeping(grid, n_channel, {}, nets.channel)
    # The report's own figures are those of the tutorial's network, where it runs.
    shown, n_images = {"input_kind": input_kind}, plan[name].constants["n_images"]
    if given.weights is None:
        shown["network"] = name
    n_images = None if n_images == "all" else n_images
    rate = Run(shown | {"kind": "rate", "input_kind": "constant"}, n_images)
    return plan | rest | {"rate": rate, "trained": Run(shown, n_images)}


def _at(kinds: Sequence[str], amplitudes: Sequence[float]) -> dict[str, Sequence]:
    return {"kind": kinds, "amplitude": amplitudes}


def _files(weights: object, networks: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Return the files of every network that runs, in the form that `cell` takes."""
    if weights is None:
        chosen = [name for name in _FILES if name in networks or not networks]
        return {name: {"": _file(nn.pretrained(_FILES[name]))} for name in chosen}
    name, _ = nets.network_layers(nn.load_weights(weights))
    if networks and tuple(networks) != (name,):
        raise nn.InputError(
            f"networks: expected {name}, the network of {weights}, got {', '.join(networks)}"
        )
    return {name: {"": _file(pathlib.Path(weights).resolve())}}


def _file(path: pathlib.Path) -> list[str]:
    return [str(path), file_digest(path)]


def _retrained_files() -> dict[str, list[str]]:
    names = {
        f"{amplitude:g}": "amplitude_cnn" + ("" if amplitude == TRAINED_AT else f"_{amplitude:g}")
        for amplitude in RETRAINED
    }
    return {key: _file(nn.pretrained(name)) for key, name in (names | TRAININGS).items()}


def stages(
    show: Callable[..., nn.Result],
    case: Case,
    images: np.ndarray,
    *,
    network: _Network = "mlp",
    amplitude: _Amplitude = TRAINED_AT,
    input_kind: _Input = "constant",
) -> list[Stage]:
    """Return the stages of a budget: the effects of larger spikes, added one by one."""
    larger = {"network": network, "amplitude": amplitude}
    spiking = larger | {"input_kind": input_kind}
    trained = {"network": network, "kind": "rate"}
    shown = [
        ("rates, as trained", trained, f"LIFRate neurons at amplitude {TRAINED_AT:g}"),
        ("rates at this amplitude", larger | {"kind": "rate"}, f"the same at {amplitude:g}"),
        ("spikes", spiking | {"kind": "unclipped"}, "LIF whose voltage may go below 0"),
        ("clipped voltages", spiking, "the network as it is run"),
    ]
    return [
        (name, lambda options=options: show(**options).scores()[:, -1], how)
        for name, options, how in shown
    ]


# Measurements beside the sweeps, and the parts of the report.


def _sweeps(report: Reproduction) -> dict[str, nn.Sweep]:
    """Return the sweeps of the networks that ran."""
    return {name: report.sweeps[name] for name in _FILES if name in report.sweeps}


def further(report: Reproduction) -> dict[str, dict]:
    """Measure the input of every layer, and the retrained networks without spikes."""
    explained, retrained = {}, {}
    for name in _sweeps(report):
        constants = report.plan[name].constants
        layers = nets.read_layers(*constants["files"][""])
        images, _ = nets.digits(constants["n_images"], constants.get("data"))
        explained[name] = nets.explain(layers, images[:N_EXPLAINED], poisson=constants["poisson"])
    if "retrained" in report.plan:
        for amplitude in RETRAINED:
            layers = nets.read_layers(*_retrained_files()[f"{amplitude:g}"])
            _, output = nets.build(layers, kind="rate", amplitude=amplitude)
            running = {"precision": report.given.precision, "keep": [output.label]}
            rate = nets.simulate(output, report.images, **running)
            first, *_ = nets.explain(layers, report.images[:N_EXPLAINED], [amplitude])
            right = rate.accuracy(report.labels).value
            retrained[amplitude] = {"rate": right, "drive": first["drive"]}
    return {"explained": explained, "retrained": retrained}


def _means(run: nn.Sweep) -> dict[tuple[str, float], dict]:
    """Return mean accuracy and interval over seeds, by kind and amplitude."""
    return {
        (row["kind"], row["amplitude"]): row for row in run.summary() if row["value"] == "accuracy"
    }


def curves(report: Reproduction) -> dict[str, np.ndarray]:
    """Return the accuracies by amplitude, of the first seed and of all seeds."""
    found = {}
    for name, run in _sweeps(report).items():
        _, fixed = nets.accuracies(run, "fixed")
        first = f"{name}, seed {run.rows[0]['seed']}"
        found |= {first: fixed[:, 0], f"{name}, mean": fixed.mean(axis=1)}
    return found


def cells(report: Reproduction) -> list[dict]:
    """Return one row for every network, kind and amplitude."""
    rows = []
    for name, run in _sweeps(report).items():
        first = {(row["kind"], row["amplitude"]): row for row in reversed(run.rows)}
        for (kind, amplitude), row in _means(run).items():
            one_seed = first[kind, amplitude]["accuracy"]
            at = {"network": name, "kind": kind, "amplitude": amplitude, "one_seed": one_seed}
            rows.append(at | {each: row[each] for each in ("mean", "std", "low", "high", "n")})
    return rows


def curve_tables(report: Reproduction) -> Iterator[str]:
    """Write the poster's question and the answer side by side."""
    for name, run in _sweeps(report).items():
        means = _means(run)
        amplitudes, found = nets.accuracies(run, "fixed")
        others = ("compensated", "linear", "retrained")
        others = [k for k in others if any((k, each) in means for each in amplitudes)]
        rows = []
        for amplitude, (first, *more) in zip(amplitudes, found, strict=True):
            row = means["fixed", amplitude] | {"first": first}
            row["interval"] = interval_text(row) if more else None
            rows.append(row | {k: means.get((k, amplitude), {}).get("mean") for k in others})
        columns = {
            "amplitude": ("amplitude", ".2f"),
            "first": (f"seed {run.rows[0]['seed']}", ".3f"),
        }
        columns["mean"] = (f"mean of {found.shape[1]} seeds", ".4f")
        columns |= {"interval": ("95 % interval", "")} | {k: (k, ".4f") for k in others}
        n_images = report.plan[name].constants["n_images"]
        title = f"{name}, {n_images} images: weights fixed, and the same amplitudes with"
        words = [f"  {kind}: {KINDS[kind]}" for kind in others]
        yield "\n".join([title, *words, *table(rows, columns)])


def cause_tables(report: Reproduction) -> Iterator[str]:
    """Write the accuracies of all kinds at five amplitudes."""
    for name, run in _sweeps(report).items():
        means = _means(run)
        found = {
            (f"{kind}: {text}", f"{amplitude:g}"): f"{means[kind, amplitude]['mean']:.4f}"
            for kind, text in KINDS.items()
            for amplitude in RETRAINED
            if kind not in ("linear", "retrained", "loop") and (kind, amplitude) in means
        }
        title = f"{name}: what makes the difference (means over seeds)"
        yield shared.crossed(title, found)


def explained_tables(report: Reproduction) -> Iterator[str]:
    """Write the input of each layer."""
    columns = {
        "amplitude": ("amplitude", ".2f"),
        "layer": ("layer", ""),
        "drive": ("drive", ".4g"),
        "bias": ("bias", ".2g"),
        "rate": ("mean Hz", ".1f"),
        "silent": ("silent", ".0%"),
        "saturated": ("saturated", ".0%"),
    }
    for name, rows in report.further["explained"].items():
        title = f"{name}: what reaches each layer (root mean squares over images), weights fixed"
        yield "\n".join([title, *table(rows, columns)])


# The thread's questions, each answered by a measurement.

# What each variant of the network adds or removes: a possible cause of the loss.
_LOST_BY = {
    "rate": "rates in place of spikes",
    "unclipped": "a voltage that may go below 0",
    "synapse": f"a synapse of {1000 * nets.SYNAPSE:g} ms",
    "biases": "biases that grow as well",
}
# Jumps of a mean count as averaged out up to this multiple of the jumps that chance leaves.
_AVERAGED_OUT = 1.5


def on_tuning(report: Reproduction) -> Iterator[str]:
    """Explain ``max_rates`` and ``intercepts`` by the spikes in a second."""

    def counted(drives: Sequence[float], at: str) -> str:
        pairs = zip(nets.tuning_counts(drives), drives, strict=True)
        return ", ".join(f"{count} at {at}{drive:,.7g}" for count, drive in pairs)

    gain, bias = nengo.LIF().gain_bias(np.array([100.0]), np.array([0.0]))
    yield (
        "what max_rates means: the rate at a drive of 1, the same for all neurons (a Choice of "
        f"one value); it is not a ceiling. Choice([100]) is a gain of {gain[0]:.3f} and, with "
        f"intercepts 0, a bias of {bias[0]:g}. Spikes of one neuron in a second: "
        f"{counted([0.5, 1.0, 10.0, 1e6], 'a drive of ')}; the ceiling is 1 / tau_ref = "
        f"{1 / nengo.LIF().tau_ref:g} Hz"
    )
    yield (
        "what intercepts mean: the drive above which a neuron fires. Spikes in a second with "
        f"intercepts 0: {counted([-0.01, 0.0, 0.001, 0.01, 0.1], '')}. For LIF that is a bias of "
        "1, which holds every neuron at its threshold"
    )


def on_networks(report: Reproduction) -> Iterator[str]:
    """Answer the questions that both networks answer."""
    explained, found = report.further["explained"], _sweeps(report).items()
    yield from (zigzag(name, run) for name, run in found)
    yield from (loss(name, run, explained[name]) for name, run in found)
    yield from (compensation(name, run) for name, run in found)


def zigzag(name: str, run: nn.Sweep) -> str:
    """Explain the zig-zag: the effect of a seed, and whether it averages out."""
    (amplitude,), same = nets.accuracies(run, "loop")
    _, found = nets.accuracies(run, "fixed")
    n_seeds, mean = found.shape[1], found.mean(axis=1)
    each = np.array([nets.roughness(curve) for curve in found.T])
    typical, of_means = np.sqrt(np.mean(each**2)), nets.roughness(mean)
    text = (
        f"why the zig-zag, {name}: a seed draws the initial voltages, and so the timing of spikes. "
        f"At one amplitude ({amplitude:g}), with the same images, {same.shape[1]} seeds have "
        f"accuracies from {same.min():.4f} to {same.max():.4f}, with a standard deviation of "
        f"{100 * same.std(ddof=1):.2f} percentage points. Along the amplitudes, seed "
        f"{run.rows[0]['seed']} rises in {int((np.diff(found[:, 0]) > 0).sum())} of "
        f"{len(mean) - 1} steps, and jumps by {100 * each[0]:.2f} points (standard deviation about "
        "a smooth curve)"
    )
    if n_seeds < 2:
        return text
    times, chance = typical / max(of_means, 1e-12), np.sqrt(n_seeds)
    answer = "So part of the zig-zag is the same for all seeds"
    if not typical:
        answer = "Here there is no zig-zag"
    elif times > chance / _AVERAGED_OUT:
        answer = "So the zig-zag comes from the timing of spikes, not from the amplitudes"
    return text + (
        f"; an average seed jumps by {100 * typical:.2f}, the mean of {n_seeds} seeds by "
        f"{100 * of_means:.2f}: {times:.1f} times less, where jumps that are independent from "
        f"seed to seed would give {chance:.1f}. {answer}"
    )


def loss(name: str, run: nn.Sweep, explained: list[dict]) -> str:
    """Write the network's loss, and how much of the loss remains without each cause."""
    means, largest = _means(run), RETRAINED[-1]
    losses = {
        kind: 100 * (means[kind, TRAINED_AT]["mean"] - means[kind, largest]["mean"])
        for kind in ("fixed", *_LOST_BY)
        if (kind, largest) in means
    }
    fixed = losses.pop("fixed")
    layer = explained[0]["layer"]
    small, large = (
        next(row for row in explained if (row["layer"], row["amplitude"]) == (layer, amplitude))
        for amplitude in (TRAINED_AT, largest)
    )
    text = (
        f"what a larger amplitude does to accuracy, {name}: "
        f"{means['fixed', TRAINED_AT]['mean']:.3f} at {TRAINED_AT:g}, "
        f"{means['fixed', largest]['mean']:.3f} at {largest:g}: a loss of {fixed:.1f} points. "
    )
    if small["drive"]:
        text += f"The drive of {layer} grows {large['drive'] / small['drive']:.1f} times"
    else:
        text += f"Nothing drives {layer} at {TRAINED_AT:g}"
    if small["silent"] is not None:
        text += ", and the share of its silent neurons goes from "
        text += f"{small['silent']:.0%} to {large['silent']:.0%}"
    left = [f"{lost:.1f} points with {_LOST_BY[kind]}" for kind, lost in losses.items()]
    text += f". The loss is {', '.join(left)}"
    if fixed < 1.0:
        return text
    for words, low, high in (
        ("At least three quarters of it disappear", -np.inf, 0.25),
        ("A quarter to three quarters disappear", 0.25, 0.75),
    ):
        causes = [_LOST_BY[kind] for kind, lost in losses.items() if low <= lost / fixed < high]
        if causes:
            text += f". {words} with {', or with '.join(causes)}"
    return text


def compensation(name: str, run: nn.Sweep) -> str:
    """Count the cells whose accuracy stays the same with compensated weights."""
    amplitudes, found = nets.accuracies(run, "compensated")
    same = int((found == found[0]).sum())
    text = (
        f"amplitude and weights, {name}: with compensated weights {same} of {found.size} cells "
        f"(amplitudes {amplitudes[0]:g} to {amplitudes[-1]:g}, every seed) have exactly the "
        f"accuracy of amplitude {amplitudes[0]:g}"
    )
    if name == "mlp":
        _, linear = nets.accuracies(run, "linear")
        same = int((linear == linear[0]).sum())
        text += f"; with fixed weights and no neurons in the last layer, {same} of {linear.size} do"
    return text


def on_trainings(report: Reproduction) -> Iterator[str]:
    """Report the retrained networks, and the networks of other seeds."""
    if report.further["retrained"]:
        yield retraining(report.sweeps["cnn"], report.further["retrained"])
        yield trainings(report.sweeps["cnn"])


def retraining(run: nn.Sweep, retrained: dict[float, dict[str, float]]) -> str:
    """Write the accuracy of weights trained at the amplitude."""
    means, largest = _means(run), RETRAINED[-1]
    rates = shared.slashed((found["rate"] for found in retrained.values()), ".3f")
    drives = shared.slashed((found["drive"] for found in retrained.values()), ".3g")
    spiking = shared.slashed((means["retrained", each]["mean"] for each in retrained), ".3f")
    helped = means["retrained", largest]["mean"] > means["fixed", largest]["mean"]
    return (
        f"weights retrained at the amplitude, cnn: at {shared.slashed(retrained)} they have "
        f"{rates} with rates, as they were trained, and {spiking} with spikes; the root mean "
        f"square drive of the second layer is {drives}. At {largest:g}, with spikes, they are "
        f"{'better' if helped else 'no better'} than the weights trained at 0.01"
    )


def trainings(run: nn.Sweep) -> str:
    """Compare the spread over trained networks with the spread over initial voltages."""
    kinds, largest, parts = ["fixed", *TRAININGS], RETRAINED[-1], []
    found = {kind: dict(zip(*nets.accuracies(run, kind), strict=True)) for kind in kinds}
    for amplitude in RETRAINED:
        seeds = np.array([found[kind][amplitude] for kind in kinds])
        means, spread = seeds.mean(axis=1), ""
        if seeds.shape[1] > 1:
            of_seeds = 100 * seeds.std(axis=1, ddof=1).mean()
            spread = f", over initial voltages {of_seeds:.1f}"
        parts.append(
            f"{shared.slashed(means, '.3f')} at {amplitude:g} (standard deviation "
            f"{100 * means.std(ddof=1):.1f} points{spread})"
        )
    falling = sum(each[largest].mean() < each[TRAINED_AT].mean() for each in found.values())
    return (
        f"networks trained from other seeds, cnn: {len(kinds)} networks trained at "
        f"{TRAINED_AT:g} have {', '.join(parts)}; {falling} of {len(kinds)} lose accuracy from "
        f"{TRAINED_AT:g} to {largest:g}"
    )


def on_channel(report: Reproduction) -> Iterator[str]:
    """Write whether the amplitude scales the output."""
    run = report.sweeps["channel"]
    fixed, solved = (nets.channel_slopes(run, decoders) for decoders in ("fixed", "solved"))
    solved_rows = [row for row in reversed(run.rows) if row["decoders"] == "solved"]
    decoders = {row["amplitude"]: row["decoder"] for row in solved_rows}
    low, high = min(decoders), max(decoders)
    sender, receiver = nets.CHANNEL["sender"], nets.CHANNEL["receiver"]
    deviation = f" (standard deviation {fixed.std(ddof=1):.4f})" if len(fixed) > 1 else ""
    answer = "yes" if abs(fixed.mean() - 1) < 0.05 else "not in proportion"
    yield (
        f"does amplitude scale the output: {answer}. A communication channel from {sender} LIF "
        f"neurons to {receiver}, decoders fixed: the slope of output / input against amplitude / "
        f"{TRAINED_AT:g} is {fixed.mean():.4f}, mean of {len(fixed)} seeds{deviation}. Where Nengo "
        f"solves for the decoders, their mean size is {decoders[low]:.3g} at {low:g} and "
        f"{decoders[high]:.3g} at {high:g}, and the slope is {round(solved.mean(), 4) + 0.0:.4f}"
    )


STUDY = Study(
    name="amplitude",
    title="the forum's networks at an amplitude",
    summary="Sweep the amplitude of LIF neurons: one seed, the mean of several, and why accuracy "
    "falls.",
    source='NengoDL tutorial "Optimizing a spiking neural network": "~1 % error" at amplitude 0.01',
    data=nets.DATA,
    network=network,
    runs=runs,
    stages=stages,
    further=further,
    ann=lambda report: report.results["rate"].accuracy(report.labels),
    cells=cells,
    curves=curves,
    settings=lambda report: {
        "ann": "the same network of LIFRate neurons",
        "readout": "filtered (0.1 s), last step",
    },
    tables=(curve_tables, cause_tables, explained_tables),
    notes=(on_tuning, on_networks, on_trainings, on_channel),
    figure=lambda report: nn.plots.plot_amplitude(report.cells),
    saved=beside,
    quick={"n_images": 100, "n_seeds": 2, "n_loop_seeds": 10, "amplitudes": RETRAINED},
    n_images_text="1000 for the MLP, 200 for the CNN",
    defaults={"reproduce": {"n_jobs": -1, "precision": 32}, "sweep": {"n_images": 200}},
    examples={
        "reproduce": "--network mlp",
        "budget": "--network cnn --amplitude 0.5 --images 50",
        "sweep": "--set amplitude=0.01,0.1,0.5 --set kind=fixed,synapse --seeds 3",
    },
    help={
        "weights": "Keras file of the tutorial's CNN or of an MLP.",
        "reproduce save": "Save finished cells to FILE-mlp, FILE-cnn and so on.",
        "reproduce plot": "Draw accuracy against amplitude to this file.",
    },
)
