"""The error budget: which effect costs how many percentage points of accuracy.

Between the ANN and the simulated network, one effect is added at a time, on the same images. Each
step is a network that was really computed or run. The steps add up to the whole difference.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import nengo
import numpy as np
from numpy.typing import ArrayLike

from nengonet import html
from nengonet.checks import as_labels, as_numbers, check_among, count_steps, positive_integer
from nengonet.exceptions import InputError
from nengonet.explain.prediction import Images, keras_activations, predict
from nengonet.layers.graph import Graph
from nengonet.layers.inputs import images_by_node
from nengonet.layers.targets import Output, Target, read_output
from nengonet.results.readout import READOUTS
from nengonet.results.readout import classes as classes_of
from nengonet.results.result import Result
from nengonet.run.presentation import present
from nengonet.run.progress import numbered
from nengonet.tables import aligned

# Different example numbers give the same image different input noise.
_EXAMPLES_APART = 10_000_000
# Images whose repeats one simulator shows: each repeat has a copy of its image.
_AT_ONCE = 10_000


@dataclasses.dataclass(frozen=True)
class Step:
    """One effect added to the network.

    Attributes
    ----------
    name : str
    accuracy : float, in [0, 1]
        Accuracy with this effect and all before it.
    change : float, in percentage points
        Change from the step before.
    interval : (float, float), in percentage points
        95 % interval of the change, from the images on which the two steps differ.
    how : str
        The computation or run of this step.

    Examples
    --------
    >>> weights = nn.load_weights(nn.pretrained("mnist_dense"))
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.poisson_input((28, 28))
    ...     neurons = nn.IntegrateAndFire(amplitude=1 / 30)
    ...     hidden = nn.dense(pixels, weights["hidden"], neurons, gain=30.0)
    ...     output = nn.dense(hidden, weights["output"], neurons, gain=12.0)
    >>> images, labels = nn.datasets.load("mnist", n_images=20)
    >>> step = nn.error_budget(output, images, labels, presentation_time=0.1).steps[0]
    >>> step
    Step(name='ANN', accuracy=0.95, change=0.0, interval=(0.0, 0.0), how="Keras' activations")
    """

    name: str
    accuracy: float
    change: float
    interval: tuple[float, float]
    how: str


@dataclasses.dataclass(frozen=True)
class Budget:
    """An error budget.

    Attributes
    ----------
    steps : tuple of Step
        The first step is the ANN, or the nearest that can be computed; the last is the network as
        it is run.
    n_images : int
    n_repeats : int
        Number of presentations of each image with different input noise, which are averaged.
    ann_reason : str or None
        Why the budget does not begin with an ANN.

    Examples
    --------
    >>> weights = nn.load_weights(nn.pretrained("mnist_dense"))
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.poisson_input((28, 28))
    ...     neurons = nn.IntegrateAndFire(amplitude=1 / 30)
    ...     hidden = nn.dense(pixels, weights["hidden"], neurons, gain=30.0)
    ...     output = nn.dense(hidden, weights["output"], neurons, gain=12.0)
    >>> images, labels = nn.datasets.load("mnist", n_images=20)
    >>> budget = nn.error_budget(output, images, labels, presentation_time=0.1)
    >>> budget
    <Budget of 20 images: ANN 0.9500, as it is run 1.0000, +5.0 percentage points in 7 steps>
    >>> [step.name for step in budget.steps]
    ['ANN', 'scales and biases of the network', 'curve and saturation of the neurons',
    'clipping of noisy currents', 'finite presentation time', 'input noise and whole
    spikes', 'readout']
    """

    steps: tuple[Step, ...]
    n_images: int
    n_repeats: int
    ann_reason: str | None = None

    @property
    def total(self) -> float:
        """Accuracy of the last step minus that of the first, in percentage points."""
        return 100 * (self.steps[-1].accuracy - self.steps[0].accuracy)

    def to_json(self) -> dict:
        """Return the budget as types that JSON knows."""
        return dataclasses.asdict(self) | {"total": self.total}

    def __repr__(self) -> str:
        """Show both ends; `str` returns the steps."""
        first, last = self.steps[0], self.steps[-1]
        return (
            f"<Budget of {self.n_images} images: {first.name} {first.accuracy:.4f}, as it is run "
            f"{last.accuracy:.4f}, {self.total:+.1f} percentage points in {len(self.steps)} steps>"
        )

    def _repr_html_(self) -> str:
        repeats = f", {self.n_repeats} presentations of each" if self.n_repeats > 1 else ""
        return html.display(
            html.card(
                f"Error budget of {self.n_images} images{repeats}",
                html.facts({"no ANN to begin with": self.ann_reason}),
                html.table(self._cells(), left=(0, 4)),
            )
        )

    def _cells(self) -> list[list[object]]:
        """Return the table of a display; bars show changes, scaled to the largest."""
        scale = 50 / max(1e-9, *(abs(step.change) for step in self.steps))
        cells = [["", "accuracy", "change, percentage points (95 % interval)", "", "how"]]
        for k, step in enumerate(self.steps):
            wide, colour = scale * abs(step.change), "#009E73" if step.change > 0 else "#D55E00"
            box = {"x": 50 if step.change > 0 else 50 - wide, "y": 3, "width": f"{wide:.1f}"}
            bar = html.tag("rect", **box, height=12, fill=colour)
            zero = html.tag("line", x1=50, x2=50, y1=0, y2=18, stroke="currentColor")
            drawn = html.tag("svg", bar, zero, width=100, height=18)
            shown = (_change_text(step), drawn) if k else ("", "")
            cells.append([step.name, f"{step.accuracy:.3f}", *shown, step.how])
        return cells

    def __str__(self) -> str:
        """Return the budget as a table."""
        rows = [["", "accuracy", " change (95 % interval), percentage points"]]
        for step in self.steps:
            shown = "" if step is self.steps[0] else _change_text(step)
            rows.append([step.name, f"{step.accuracy:.3f}", shown])
        rows.append(["total", "", f"{self.total:+7.1f}   {self.n_images} images"])
        lines = aligned(rows, left=(0, 2))
        if self.ann_reason is not None:
            give = "in Python, error_budget(…, ann=scores) takes its scores"
            lines.append(f"no ANN to begin with: {self.ann_reason}; {give}")
        return "\n".join(lines)


def _change_text(step: Step) -> str:
    return f"{step.change:+7.1f} ({step.interval[0]:+.1f} to {step.interval[1]:+.1f})"


def error_budget(
    output: Output,
    images: Images,
    labels: ArrayLike,
    *,
    network: nengo.Network | None = None,
    ann: ArrayLike | None = None,
    presentation_time: float = 0.35,
    dt: float = 0.001,
    seed: int | None = None,
    readout: str = "spike_count",
    n_repeats: int = 10,
    n_jobs: int = 1,
    progress: bool | str = True,
) -> Budget:
    """Split the difference between the ANN and the network as it is run.

    Its keywords are those of `present`, and two others.

    Parameters
    ----------
    output : Layer, nengo.Ensemble, Neurons, nengo.Node, a slice or a list of these
        The last layer, which spikes.
    images : (n_images, ...) array_like, or dict
        As for `predict_rates`.
    labels : (n_images,) or (n_images, 1) array_like of int
    network : nengo.Network, optional
        Needed for plain Nengo objects.
    ann : (n_images, n_classes) array_like, optional
        The ANN's scores for the images, such as ``model.predict(images)``. By default those of the
        ANN that corresponds to the network. If there is none, as for plain Nengo, the budget begins
        with the rate model.
    presentation_time, dt : float, in seconds
    seed : int, optional
    readout : str
        Readout of the network as it is run.
    n_repeats : int
        The noise is averaged over this many presentations, and over one presentation that lasts
        this many times as long.
    n_jobs : int
        As for `present`.
    progress : bool or str
        As for `present`; a text replaces "budget".

    Returns
    -------
    Budget

    Raises
    ------
    InputError
        The last layer does not spike or cannot be predicted; or as for `present`.

    Examples
    --------
    >>> weights = nn.load_weights(nn.pretrained("mnist_dense"))
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.poisson_input((28, 28))
    ...     neurons = nn.IntegrateAndFire(amplitude=1 / 30)
    ...     hidden = nn.dense(pixels, weights["hidden"], neurons, gain=30.0)
    ...     output = nn.dense(hidden, weights["output"], neurons, gain=12.0)
    >>> images, labels = nn.datasets.load("mnist", n_images=20)
    >>> budget = nn.error_budget(output, images, labels, presentation_time=0.1)
    >>> print(budget)
                                         accuracy   change (95 % interval), percentage points
    ANN                                     0.950
    scales and biases of the network        0.950     +0.0 (-8.9 to +8.9)
    curve and saturation of the neurons     0.950     +0.0 (-8.9 to +8.9)
    clipping of noisy currents              0.950     +0.0 (-8.9 to +8.9)
    finite presentation time                0.950     +0.0 (-8.9 to +8.9)
    input noise and whole spikes            1.000     +5.0 (-7.9 to +17.0)
    readout                                 1.000     +0.0 (-8.9 to +8.9)
    total                                             +5.0   20 images
    """
    target = read_output(output, network)
    if target.amplitude is None:
        raise InputError(
            f"{target.label}: expected a last layer that spikes, with one amplitude for all its "
            "neurons, got another; compare its accuracy with diagnose or compare"
        )
    order = Graph(target.network).upstream(*target.items)[0]
    nodes = [item for item in order if isinstance(item, nengo.Node)]
    images = images_by_node(images, nodes, target.network.all_nodes)
    n_images = len(next(iter(images.values())))
    labels = as_labels(labels, n_images, target.size)
    count_steps(presentation_time, dt)
    check_among("readout", readout, READOUTS)
    n_repeats = positive_integer("n_repeats", n_repeats)
    stages, ann_reason = _ann(ann, target, images, (n_images, target.size))
    time = {"dt": dt, "presentation_time": presentation_time}
    time |= {"seed": seed}
    line, curve = (predict(target, images, lines=each, **time)[-1].rates for each in (True, False))
    show = functools.partial(
        *(present, target.network, target), keep=[target.label], dt=dt, seed=seed, n_jobs=n_jobs
    )
    turns = Turns(progress, "budget")

    def long() -> np.ndarray:
        time = {"presentation_time": n_repeats * presentation_time, "progress": turns.shown}
        return show(images, **time).counts[target.label]

    @functools.cache
    def repeated() -> tuple[np.ndarray, np.ndarray]:
        short = {"presentation_time": presentation_time, "readout": readout}
        run = functools.partial(show, **short, progress=turns.shown)
        return _repeated(run, images, n_repeats)

    stages += [
        (
            "scales and biases of the network",
            line,
            "rate model with its gains, biases and amplitudes, and rectified lines as neurons",
        ),
        ("curve and saturation of the neurons", curve, "rate model with the neurons' own curves"),
        (
            "clipping of noisy currents",
            long,
            f"spike counts of one presentation {n_repeats} times as long",
        ),
        (
            "finite presentation time",
            lambda: repeated()[1].sum(axis=0, dtype=np.int64),
            f"spike counts summed over {n_repeats} presentations with different input noise",
        ),
        (
            "input noise and whole spikes",
            lambda: repeated()[1][0],
            "spike counts of one presentation",
        ),
        ("readout", lambda: repeated()[0], f"the same run, read out by {readout}"),
    ]
    found = budget_of(turns.take(stages), labels, n_repeats=n_repeats)
    return dataclasses.replace(found, ann_reason=ann_reason)


def _ann(
    scores: np.ndarray | None, target: Target, images: Images, shape: tuple[int, int]
) -> tuple[list[tuple], str | None]:
    """Return the stage of the ANN, or why there is none."""
    if scores is not None:
        scores = as_numbers("ann", scores)
        if scores.shape != shape:
            raise InputError(
                f"ann: expected scores of shape (n_images, n_classes) = {shape}, got {scores.shape}"
            )
        return [("ANN", scores, "scores as given")], None
    try:
        scores = list(keras_activations(target, images).values())[-1]
    except InputError as error:
        return [], str(error)
    return [("ANN", scores, "Keras' activations")], None


Stage = tuple[str, np.ndarray | Callable[[], np.ndarray], str]


class Turns:
    """Compute the stages of a budget one after the other; a bar names the present one.

    ``shown`` is the ``progress`` argument for the present run.
    """

    def __init__(self, progress: bool | str, usual: str) -> None:
        self._progress, self._usual = progress, usual
        self.shown: bool | str = False

    def take(self, stages: Sequence[Stage]) -> list[tuple[str, np.ndarray, str]]:
        """Return the stages with the scores that their functions return."""
        found = []
        for number, (name, scores, how) in enumerate(stages, 1):
            self.shown = numbered(self._progress, self._usual, number, len(stages), name)
            found.append((name, scores() if callable(scores) else scores, how))
        return found


def budget_of(
    stages: Sequence[tuple[str, np.ndarray, str]], labels: np.ndarray, *, n_repeats: int = 1
) -> Budget:
    """Make a budget from networks that were computed or run on the same images."""
    n_repeats = positive_integer("n_repeats", n_repeats)
    if not stages:
        raise InputError("stages: expected (name, scores, how) from the ANN on, got none")
    steps, before = [], None
    for name, scores, how in stages:
        chosen = classes_of(scores)[0]
        right = chosen == as_labels(labels, chosen.size, np.shape(scores)[-1])
        change = (0.0, (0.0, 0.0)) if before is None else _change(before, right)
        steps.append(Step(name, float(right.mean()), *change, how))
        before = right
    return Budget(steps=tuple(steps), n_images=len(labels), n_repeats=n_repeats)


def _repeated(
    show: Callable[..., Result], images: dict[nengo.Node, np.ndarray], n_repeats: int
) -> tuple[np.ndarray, np.ndarray]:
    """Show every image several times, with different input noise each time.

    Returns the scores of the first time, (n_images, n_classes), and the counts of all,
    (n_repeats, n_images, n_classes).
    """
    n_images = len(next(iter(images.values())))
    at_once, scores, counts = max(1, _AT_ONCE // n_images), None, []
    for start in range(0, n_repeats, at_once):
        repeats = np.arange(start, min(start + at_once, n_repeats))
        copies = {node: np.concatenate([each] * len(repeats)) for node, each in images.items()}
        examples = repeats[:, np.newaxis] * _EXAMPLES_APART + np.arange(n_images)
        found = show(copies, examples=examples.ravel())
        if scores is None:
            scores = dataclasses.replace(found, steps=found.steps[:n_images]).scores()[:, -1]
        counts += np.split(found.counts[found.layers[-1].label], len(repeats))
    return scores, np.stack(counts)


def _change(before: np.ndarray, after: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Return the paired difference in percentage points and its 95 % interval.

    Only the images on which the two differ carry information (McNemar). One is added to each side,
    so that agreement on a few images does not count as certainty (Agresti & Min 2005).
    """
    n = len(before)
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    centre = (gained - lost) / (n + 2)
    spread = np.sqrt((gained + lost + 1) / (n + 2) - centre**2) / np.sqrt(n + 2)
    low, high = centre - 1.96 * spread, centre + 1.96 * spread
    return 100 * (gained - lost) / n, (100 * float(low), 100 * float(high))
