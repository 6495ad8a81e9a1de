"""What the amplitude study found, for people: tables, and answers to the thread's questions."""

from __future__ import annotations

from collections.abc import Sequence

import nengo
import numpy as np

from nengonet.studies.amplitude_cells import (
    CHANNEL,
    KINDS,
    NETWORKS,
    RETRAINED,
    SYNAPSE,
    TRAINED_AT,
    tuning_counts,
)
from nengonet.studies.report import interval_text
from nengonet.sweeps.result import Sweep

# What a variant of the network takes away or adds, each a possible cause of the loss.
_CAUSES = {
    "rate": "rates in place of spikes",
    "unclipped": "a voltage that may go below 0",
    "synapse": f"a synapse of {1000 * SYNAPSE:g} ms",
    "biases": "biases that grow as well",
}
# Jumps of a mean are called averaged out up to this many times what chance leaves.
_AVERAGED_OUT = 1.5


def accuracies(run: Sweep, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the accuracies of one kind of cell."""
    found: dict[float, list[float]] = {}
    for row in run.rows:
        if row["kind"] == kind:
            found.setdefault(row["amplitude"], []).append(row["accuracy"])
    amplitudes = sorted(found)
    return np.array(amplitudes), np.array([found[amplitude] for amplitude in amplitudes])


def _means(run: Sweep) -> dict[tuple[str, float], dict]:
    """Return mean accuracy and interval over seeds, by kind and amplitude."""
    return {
        (row["kind"], row["amplitude"]): row for row in run.summary() if row["value"] == "accuracy"
    }


def cells(sweeps: dict[str, Sweep]) -> list[dict]:
    """Return one row for every network, kind and amplitude."""
    rows = []
    for name, run in sweeps.items():
        if name == "channel":
            continue
        first = {(row["kind"], row["amplitude"]): row for row in reversed(run.rows)}
        for (kind, amplitude), row in _means(run).items():
            rows.append(
                {
                    "network": name,
                    "kind": kind,
                    "amplitude": amplitude,
                    "one_seed": first[kind, amplitude]["accuracy"],
                    **{figure: row[figure] for figure in ("mean", "std", "low", "high", "n")},
                }
            )
    return rows


def _with_interval(row: dict) -> str:
    if row["n"] < 2:
        return f"{row['mean']:.4f}"
    return f"{row['mean']:.4f} ({interval_text(row)})"


def tables(
    sweeps: dict[str, Sweep], counts: dict[str, int | str], explained: dict[str, list[dict]]
) -> tuple[str, ...]:
    """Write the accuracies, what makes the difference, and what reaches the layers."""
    return (
        *(_table(name, sweeps[name], n_images) for name, n_images in counts.items()),
        *(_causes_table(name, sweeps[name]) for name in counts),
        *(_explained_table(name, rows) for name, rows in explained.items()),
    )


def _table(name: str, run: Sweep, n_images: int | str) -> str:
    """Write the poster's question and the answer beside each other."""
    amplitudes, found = accuracies(run, "fixed")
    means, n_seeds = _means(run), found.shape[1]
    others = [kind for kind in ("compensated", "linear", "retrained") if (kind, 0.01) in means]
    others = [kind for kind in others if any((kind, each) in means for each in amplitudes)]
    lines = [
        f"{name}, {n_images} images: weights fixed, and the same amplitudes with",
        *(f"  {kind}: {KINDS[kind]}" for kind in others),
        f"{'amplitude':>9}  {'seed 0':>6}  {f'mean of {n_seeds} seeds (95 % interval)':<30}"
        + "".join(f"{kind:>13}" for kind in others),
    ]
    for amplitude, accuracy in zip(amplitudes, found, strict=True):
        cells = (means.get((kind, amplitude)) for kind in others)
        lines.append(
            f"{amplitude:>9.2f}  {accuracy[0]:>6.3f}  "
            f"{_with_interval(means['fixed', amplitude]):<30}"
            + "".join(
                f"{'' if cell is None else format(cell['mean'], '.4f'):>13}" for cell in cells
            )
        )
    return "\n".join(line.rstrip() for line in lines)


def _causes_table(name: str, run: Sweep) -> str:
    means = _means(run)
    kinds = [
        kind
        for kind in KINDS
        if kind not in ("linear", "retrained")
        and all((kind, amplitude) in means for amplitude in RETRAINED)
    ]
    width = max(len(KINDS[kind]) for kind in kinds)
    lines = [f"{name}: what makes the difference (means over seeds)"]
    lines.append(" " * (13 + width) + "".join(f"{amplitude:>8g}" for amplitude in RETRAINED))
    for kind in kinds:
        cells = "".join(f"{means[kind, amplitude]['mean']:>8.4f}" for amplitude in RETRAINED)
        lines.append(f"{kind:<13}{KINDS[kind]:<{width}}{cells}")
    return "\n".join(lines)


def _explained_table(name: str, rows: list[dict]) -> str:
    lines = [
        f"{name}: what reaches each layer (root mean squares over images), weights fixed",
        f"{'amplitude':>9}  {'layer':<8}{'drive':>8}{'bias':>8}{'mean Hz':>9}{'silent':>8}"
        f"{'saturated':>11}",
    ]
    for row in rows:
        line = f"{row['amplitude']:>9.2f}  {row['layer']:<8}{row['drive']:>8.4g}{row['bias']:>8.2g}"
        if row["rate"] is not None:
            line += f"{row['rate']:>9.1f}{row['silent']:>8.0%}{row['saturated']:>11.0%}"
        lines.append(line)
    return "\n".join(lines)


# The thread's questions, each answered by a measurement.


def notes(
    sweeps: dict[str, Sweep],
    explained: dict[str, list[dict]],
    retrained: dict[float, dict[str, float]],
) -> tuple[str, ...]:
    """Answer the thread's questions, each with its measurement."""
    found = [_note_on_max_rates(), _note_on_intercepts()]
    networks = [name for name in NETWORKS if name in sweeps]
    found += [_note_on_zigzag(name, sweeps[name]) for name in networks]
    found += [_note_on_accuracy(name, sweeps[name], explained[name]) for name in networks]
    found += [_note_on_weights(name, sweeps[name]) for name in networks]
    if retrained:
        found.append(_note_on_retrained(sweeps["cnn"], retrained))
        found.append(_note_on_trainings(sweeps["cnn"]))
    return (*found, _note_on_channel(sweeps["channel"]))


def _note_on_max_rates() -> str:
    drives = [0.5, 1.0, 10.0, 1e6]
    counts = tuning_counts(drives)
    gain, bias = nengo.LIF().gain_bias(np.array([100.0]), np.array([0.0]))
    measured = ", ".join(
        f"{count} at a drive of {drive:,.7g}" for drive, count in zip(drives, counts, strict=True)
    )
    return (
        "what max_rates means: the rate at a drive of 1, the same for all neurons (a Choice of "
        f"one value), and no ceiling. Choice([100]) is a gain of {gain[0]:.3f} and, with "
        f"intercepts 0, a bias of {bias[0]:g}. Spikes of one neuron in a second: {measured}; the "
        f"ceiling is 1 / tau_ref = {1 / nengo.LIF().tau_ref:g} Hz"
    )


def _note_on_intercepts() -> str:
    drives = [-0.01, 0.0, 0.001, 0.01, 0.1]
    counts = tuning_counts(drives)
    measured = ", ".join(
        f"{count} at {drive:g}" for drive, count in zip(drives, counts, strict=True)
    )
    return (
        "what intercepts mean: the drive above which a neuron fires. Spikes in a second with "
        f"intercepts 0: {measured}. For LIF that is a bias of 1, which holds every neuron at its "
        "threshold"
    )


def _note_on_zigzag(name: str, run: Sweep) -> str:
    """Give the one account of the zig-zag: what a seed changes, and whether it averages out."""
    (amplitude,), same = accuracies(run, "loop")
    _, found = accuracies(run, "fixed")
    n_seeds, mean = found.shape[1], found.mean(axis=1)
    each = np.array([roughness(curve) for curve in found.T])
    typical, of_means = np.sqrt(np.mean(each**2)), roughness(mean)
    text = (
        f"why the zig-zag, {name}: a seed draws the first voltages, and so the timing of spikes. "
        f"At one amplitude ({amplitude:g}), with the same images, {same.shape[1]} seeds have "
        f"accuracies from {same.min():.4f} to {same.max():.4f}, with a standard deviation of "
        f"{100 * same.std(ddof=1):.2f} percentage points. Along the amplitudes, seed 0 rises in "
        f"{int((np.diff(found[:, 0]) > 0).sum())} of {len(mean) - 1} steps, and jumps by "
        f"{100 * each[0]:.2f} points (standard deviation about a smooth curve)"
    )
    if n_seeds < 2:
        return text
    times, chance = typical / max(of_means, 1e-12), np.sqrt(n_seeds)
    text += (
        f"; an average seed jumps by {100 * typical:.2f}, the mean of {n_seeds} seeds by "
        f"{100 * of_means:.2f}: {times:.1f} times less, where jumps that are independent from "
        f"seed to seed would give {chance:.1f}. "
    )
    if not typical:
        return text + "Here there is no zig-zag"
    if times > chance / _AVERAGED_OUT:
        return text + "So the zig-zag is the timing of spikes, and no property of an amplitude"
    return text + "So part of the zig-zag is the same for all seeds"


def _losses(means: dict[tuple[str, float], dict], kinds: Sequence[str]) -> dict[str, float]:
    """Return what each kind loses from the trained amplitude to the largest, in points."""
    ends = TRAINED_AT, RETRAINED[-1]
    return {
        kind: 100 * (means[kind, ends[0]]["mean"] - means[kind, ends[1]]["mean"]) for kind in kinds
    }


def _note_on_accuracy(name: str, run: Sweep, rows: list[dict]) -> str:
    """Say what the network loses, and how much of it is left without each of the causes."""
    means, largest = _means(run), RETRAINED[-1]
    kinds = [kind for kind in _CAUSES if (kind, largest) in means]
    losses = _losses(means, ["fixed", *kinds])
    fixed = losses.pop("fixed")
    layer = rows[0]["layer"]
    small, large = (
        next(row for row in rows if row["layer"] == layer and row["amplitude"] == amplitude)
        for amplitude in (TRAINED_AT, largest)
    )
    text = (
        f"what more amplitude does to accuracy, {name}: {means['fixed', TRAINED_AT]['mean']:.3f} "
        f"at {TRAINED_AT:g}, {means['fixed', largest]['mean']:.3f} at {largest:g}: a loss of "
        f"{fixed:.1f} points. The drive of {layer} grows "
        f"{large['drive'] / small['drive']:.1f} times"
    )
    if small["silent"] is not None:
        text += (
            f", and the share of its neurons that are silent goes from {small['silent']:.0%} to "
            f"{large['silent']:.0%}"
        )
    text += ". The loss is " + ", ".join(
        f"{loss:.1f} points with {_CAUSES[kind]}" for kind, loss in losses.items()
    )
    if fixed < 1.0:
        return text
    most = [_CAUSES[kind] for kind, loss in losses.items() if loss < 0.25 * fixed]
    some = [_CAUSES[kind] for kind, loss in losses.items() if 0.25 * fixed <= loss < 0.75 * fixed]
    if most:
        text += f". At least three quarters of it go away with {', or with '.join(most)}"
    if some:
        text += f". A quarter to three quarters go away with {', or with '.join(some)}"
    return text


def _note_on_weights(name: str, run: Sweep) -> str:
    amplitudes, found = accuracies(run, "compensated")
    same = int((found == found[0]).sum())
    text = (
        f"amplitude and weights, {name}: with compensated weights {same} of {found.size} cells "
        f"(amplitudes {amplitudes[0]:g} to {amplitudes[-1]:g}, every seed) have exactly the "
        f"accuracy of amplitude {amplitudes[0]:g}"
    )
    if name == "mlp":
        _, linear = accuracies(run, "linear")
        same = int((linear == linear[0]).sum())
        text += f"; without neurons in the last layer {same} of {linear.size} do with fixed ones"
    return text


def _note_on_retrained(run: Sweep, retrained: dict[float, dict[str, float]]) -> str:
    means = _means(run)
    amplitudes = [f"{amplitude:g}" for amplitude in retrained]
    rates = [f"{found['rate']:.3f}" for found in retrained.values()]
    drives = [f"{found['drive']:.3g}" for found in retrained.values()]
    spiking = [f"{means['retrained', amplitude]['mean']:.3f}" for amplitude in retrained]
    helped = means["retrained", RETRAINED[-1]]["mean"] > means["fixed", RETRAINED[-1]]["mean"]
    return (
        f"weights trained anew at the amplitude, cnn: at {'/'.join(amplitudes)} they have "
        f"{'/'.join(rates)} with rates, as they were trained, and {'/'.join(spiking)} with spikes; "
        f"the root mean square drive of the second layer is {'/'.join(drives)}. At "
        f"{RETRAINED[-1]:g}, with spikes, that is {'better' if helped else 'no better'} than the "
        "weights of 0.01"
    )


def _note_on_trainings(run: Sweep) -> str:
    """Report the spread over trained networks beside the one over first voltages."""
    kinds = ["fixed", *(kind for kind in KINDS if kind.startswith("training-"))]
    found = {kind: dict(zip(*accuracies(run, kind), strict=True)) for kind in kinds}
    parts = []
    for amplitude in RETRAINED:
        seeds = np.array([found[kind][amplitude] for kind in kinds])
        of_trainings = seeds.mean(axis=1)
        parts.append(
            f"{'/'.join(f'{mean:.3f}' for mean in of_trainings)} at {amplitude:g} (standard "
            f"deviation {100 * of_trainings.std(ddof=1):.1f} points"
            + (
                f", over first voltages {100 * seeds.std(axis=1, ddof=1).mean():.1f}"
                if seeds.shape[1] > 1
                else ""
            )
            + ")"
        )
    falling = sum(
        found[kind][RETRAINED[-1]].mean() < found[kind][TRAINED_AT].mean() for kind in kinds
    )
    return (
        f"the same from other seeds of the training, cnn: {len(kinds)} networks trained at "
        f"{TRAINED_AT:g} have {', '.join(parts)}; {falling} of {len(kinds)} lose accuracy from "
        f"{TRAINED_AT:g} to {RETRAINED[-1]:g}"
    )


def channel_slopes(run: Sweep, decoders: str) -> np.ndarray:
    """Fit a line to the channel's output against the amplitude, for every seed."""
    found: dict[int, list[tuple[float, float]]] = {}
    for row in run.rows:
        if row["decoders"] == decoders:
            found.setdefault(row["seed"], []).append((row["amplitude"], row["output"]))
    slopes = []
    for points in found.values():
        amplitudes, outputs = np.transpose(points)
        slopes.append(np.polyfit(amplitudes / TRAINED_AT, outputs / CHANNEL["value"], 1)[0])
    return np.array(slopes)


def _note_on_channel(run: Sweep) -> str:
    fixed, solved = (channel_slopes(run, decoders) for decoders in ("fixed", "solved"))
    decoders = {
        row["amplitude"]: row["decoder"]
        for row in reversed(run.rows)
        if row["decoders"] == "solved"
    }
    low, high = min(decoders), max(decoders)
    deviation = f" (standard deviation {fixed.std(ddof=1):.4f})" if len(fixed) > 1 else ""
    answer = "yes" if abs(fixed.mean() - 1) < 0.05 else "not in proportion"
    return (
        f"does amplitude scale the output: {answer}. A communication channel from "
        f"{CHANNEL['sender']} LIF neurons to {CHANNEL['receiver']}, decoders fixed: the slope of "
        f"output / input against amplitude / {TRAINED_AT:g} is {fixed.mean():.4f}, mean of "
        f"{len(fixed)} seeds{deviation}. Where Nengo solves for the decoders, their mean size is "
        f"{decoders[low]:.3g} at {low:g} and {decoders[high]:.3g} at {high:g}, and the slope is "
        f"{round(solved.mean(), 4) + 0.0:.4f}"
    )


def roughness(curve: np.ndarray) -> float:
    """Return the standard deviation of independent noise on a smooth curve.

    From second differences, in which a straight line cancels and such noise has six times its
    variance.
    """
    return float(np.sqrt(np.mean(np.square(np.diff(curve, 2))) / 6))
