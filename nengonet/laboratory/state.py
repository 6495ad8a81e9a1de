"""The state of one page of the lab: the knobs, the prediction, the run, and earlier runs.

It does not depend on the page. Every prediction and every run makes a new network from the knobs.
The user's own objects do not change.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import math
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import nengo
import numpy as np

import nengonet as nn
from nengonet import studies
from nengonet.checks import as_labels, check_among, count_steps, positive_integer
from nengonet.datasets import class_names
from nengonet.explain.diagnosis import Diagnosis
from nengonet.explain.prediction import LayerPrediction, predict
from nengonet.laboratory import knobs
from nengonet.laboratory.knobs import RUN, Knob, Values
from nengonet.layers.graph import Graph
from nengonet.layers.showing import read_images
from nengonet.layers.targets import Output, read_output
from nengonet.neurons import model_of
from nengonet.plain import N_SHOWN
from nengonet.plain.script import Script
from nengonet.plots.frame import names_of_classes
from nengonet.report import drawable
from nengonet.studies.case import Case

#: The initial number of images, also for a network of many neurons, and how many neurons are many.
_N_IMAGES, _FEW, _MANY_NEURONS = 1000, 100, 20_000
#: The prediction is for this many images only, so that it can follow a moving knob.
N_PREDICTED = 500
_PRESENTED = ("presentation_time", "dt", "readout", "seed")


class Cancelled(Exception):
    """Raised in a run whose knobs have changed."""


class Base:
    """A network as it was built and is shown, with the values of its knobs."""

    def __init__(self, case: Case, n_images: int, seeded: bool = False) -> None:
        target = read_output(case.output)
        # Seeded: the network's seed is the seed of the run.
        self.case, self.seeded, self.content = case, seeded, knobs.packed(target)
        running = {name: getattr(case, name) for name in _PRESENTED} | {"n_images": n_images}
        self.values = knobs.read(target) | {RUN: running}


@dataclasses.dataclass(frozen=True, eq=False)
class Settings:
    """One position of all knobs."""

    name: str
    base: Base
    values: Values

    @property
    def published(self) -> float | None:
        """The published accuracy, if exactly this network was published with these settings."""
        changed = self.since(self.base.values).keys() - {f"{RUN}.n_images", f"{RUN}.seed"}
        return None if changed else self.base.case.published

    def since(self, was: Values) -> dict[str, tuple[object, object]]:
        """Return what differs from earlier values: the value then and now, by knob."""
        pairs = [(k, word, value) for k, own in self.values.items() for word, value in own.items()]
        then = {(k, word): was.get(k, {}).get(word) for k, word, _ in pairs}
        changed = ((k, word, value) for k, word, value in pairs if then[k, word] != value)
        return {f"{k}.{word}": (then[k, word], value) for k, word, value in changed}

    def make(self) -> Case:
        """Return a new copy of the network, and how it is shown."""
        base, own = self.base, {name: self.values[RUN][name] for name in _PRESENTED}
        seed = own["seed"] if base.seeded else None
        target = knobs.make(base.content, base.values, self.values, seed)
        return dataclasses.replace(base.case, output=target, keep=None, **own)


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run: a row of the list. Only the last one has its network and its result."""

    number: int
    settings: Settings
    #: The values in the previous run and in this run, by knob.
    changed: Mapping[str, tuple[object, object]]
    diagnosis: Diagnosis
    accuracy: nn.Accuracy | None
    seconds: float
    images: np.ndarray
    labels: np.ndarray | None
    case: Case | None = None
    result: nn.Result | None = None

    @functools.cached_property
    def layers(self) -> dict[str, nn.Layer]:
        """The layers whose neurons were counted, by label; those that have weights come first."""
        layers = sorted(self.case.output.upstream(), key=lambda layer: layer.weights is None)
        return {layer.label: layer for layer in layers if layer.label in self.result.counts}

    @functools.cached_property
    def answers(self) -> tuple[np.ndarray, np.ndarray]:
        """The class of each image, and whether several share the highest score."""
        return self.result.predictions(), self.result.tied()

    @functools.cached_property
    def pictures(self) -> np.ndarray | None:
        """The images as they are drawn: rows of values as strips."""
        return drawable(self.images if self.images.ndim > 2 else self.images[:, np.newaxis])

    def ceiling(self, label: str) -> float:
        """Return the largest rate that a layer's neurons can have, in Hz."""
        kind = self.layers[label].neuron_type
        return np.inf if kind is None else model_of(kind).ceiling(self.result.dt)

    def report(self, title: str, class_names: Sequence[str]) -> str:
        """Return the run as a page of HTML."""
        about = {"labels": self.labels, "class_names": class_names, "diagnosis": self.diagnosis}
        return self.result.to_html(images=self.images, title=title, **about)

    @functools.cached_property
    def predicted(self) -> dict[str, LayerPrediction]:
        """The prediction for each layer, with noisy currents."""
        showing = {name: self.settings.values[RUN][name] for name in ("presentation_time", "dt")}
        found = predict(self.case.output, self.images, **showing, noise=True)
        return {each.label: each for each in found}

    def again(self, number: int, label: str = "", neuron: int = 0) -> tuple[nn.Result, dict]:
        """Run one image again for its rasters, and for a neuron's traces by step."""
        case, probes = self.settings.make(), {}
        layers = {layer.label: layer for layer in case.output.upstream()}
        if label in layers and layers[label].ensemble is not None:
            one, what = layers[label].neurons[neuron : neuron + 1], {"current": "input"}
            what |= {"voltage": "voltage"} if "voltage" in one.obj.probeable else {}
            with case.network:
                probes = {k: nengo.Probe(one, each, label=f"lab {k}") for k, each in what.items()}
        spiking = [layer.label for layer in layers.values() if layer.spiking]
        kept = {"rasters": spiking, "probes": [*probes.values()], "progress": False}
        result = case.present(self.images[number : number + 1], examples=[number], **kept)
        traces = {word: result.data[each][0, :, 0] for word, each in probes.items()}
        if label in spiking:
            traces["spikes"] = result.rasters[label][0, :, neuron]
        return result, traces

    def neuron(self, number: int, label: str, neuron: int) -> dict[str, object]:
        """Return the arguments of `interactive.plot_neuron` for a neuron."""
        layer, expected = self.layers[label], self.predicted[label]
        result, traces = self.again(number, label, neuron)
        currents = expected.current[:, neuron]
        curve = rates = np.linspace(min(0.0, currents.min()), max(2.0, currents.max()), 400)
        if layer.neuron_type is not None:
            rates = model_of(layer.neuron_type).rates(curve[:, np.newaxis], dt=result.dt)[:, 0]
        pair = result.rates(label)[0, neuron], expected.rates[number, neuron]
        found = {"tuning": (curve, rates), "currents": currents, "traces": traces, "rates": pair}
        return found | {"weights": _weights_of(layer, neuron), "dt": result.dt}


def _weights_of(layer: nn.Layer, neuron: int) -> np.ndarray:
    """Return the weights into a neuron, in the shape of their input or of the filter."""
    for connection in layer.connections:
        weights = getattr(connection.transform, "init", None)
        if isinstance(weights, np.ndarray) and weights.ndim == 2:
            (before,) = {each.shape for each in layer.pres if each.size == weights.shape[1]} or {-1}
            return weights[neuron].reshape(before)
        if isinstance(weights, np.ndarray) and weights.ndim > 2:
            weights = weights[..., neuron % weights.shape[-1]]
            return weights if weights.ndim > 2 else weights[np.newaxis]
    return np.zeros(0)


class Job:
    """A run in progress, or a run that has ended."""

    def __init__(self, settings: Settings, lab_ended: threading.Event) -> None:
        self.settings, self.share, self._lab_ended = settings, 0.0, lab_ended
        self.stopped = threading.Event()
        self.run: Future[None] = Future()

    def told(self, n_done: float, total: float) -> None:
        """Record the progress of the run, or end the run."""
        if self.stopped.is_set() or self._lab_ended.is_set():
            raise Cancelled
        self.share = n_done / total


@dataclasses.dataclass(eq=False)
class Lab:
    """A network with knobs."""

    #: Functions that each return a `Base`, by name.
    networks: Mapping[str, Callable[[], Base]]
    #: As `nengonet.present` takes them.
    images: np.ndarray
    labels: np.ndarray | None
    title: str
    #: Name of the network to begin with.
    first: str
    class_names: Sequence[str]
    #: Set at the end of the program, for all pages: it waits for the runs in progress.
    ended: threading.Event = dataclasses.field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Begin with no run."""
        self.history: list[Run] = []
        self.job: Job | None = None
        #: The reason why the last run failed.
        self.trouble: str | None = None
        self._past: list[Settings | None] = []
        self._predicted: tuple = (None, None)
        # A thread for each run would keep the memory of all runs, in an arena of its own.
        self._runs, executor = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        #: Does a task beside the run, and returns the future of its result.
        self.later = executor.submit
        self.now, base = None, self.networks[self.first]()
        self._to(Settings(self.first, base, base.values))

    def fresh(self) -> Lab:
        """Return the lab in its initial state, for another page."""
        return dataclasses.replace(self)

    # -- knobs

    @property
    def knobs(self) -> dict[str, Knob]:
        """The knobs, by name."""
        return knobs.knobs_of(self.now.base.values)

    def set(self, knob: str, value: object) -> None:
        """Turn a knob. A value out of range raises an error and changes nothing."""
        values = knobs.turned(self.now.values, self.now.base.values, knob, value)
        if values != self.now.values:
            self._to(dataclasses.replace(self.now, values=values))

    def choose(self, name: str) -> None:
        """Choose one of the networks as it was built. The number of images stays."""
        check_among("network", name, self.networks)
        base, running = self.networks[name](), self.now.values[RUN]
        kept = {word: running[word] for word in ("n_images", "seed")}
        self._to(Settings(name, base, base.values | {RUN: base.values[RUN] | kept}))

    def back(self) -> None:
        """Undo the last change of the knobs, if any."""
        if self._past[-1] is not None:
            self.now = self._past.pop()

    @property
    def changed(self) -> dict[str, tuple[object, object]]:
        """The changes since the last run: its value and the present value, by knob."""
        return self.now.since(self.done.settings.values) if self.done else {}

    def _to(self, settings: Settings) -> None:
        """Use settings, or refuse them if no network can be made and run with them."""
        running = settings.values[RUN]
        count_steps(running["presentation_time"], running["dt"])
        positive_integer(f"{RUN}.n_images", running["n_images"], at_most=len(self.images))
        settings.make()
        self._past, self.now = [*self._past, self.now], settings

    # -- prediction and run

    @property
    def done(self) -> Run | None:
        """The last run."""
        return self.history[-1] if self.history else None

    @property
    def is_running(self) -> bool:
        """Whether a run is in progress."""
        return self.job is not None and not self.job.run.done()

    def shown(self, settings: Settings, most: int = sys.maxsize) -> tuple:
        """Return the images and labels of a run, or only the first of them."""
        n = min(settings.values[RUN]["n_images"], most)
        return self.images[:n], None if self.labels is None else self.labels[:n]

    @property
    def predicted(self) -> Diagnosis | None:
        """The prediction for the present knobs, if it is finished."""
        settings, found = self._predicted
        return found if settings is self.now else None

    def predict(self, settings: Settings | None = None) -> Diagnosis:
        """Predict, without a run, what the network will do with the images."""
        settings = self.now if settings is None else settings
        known, found = self._predicted
        if known is not settings:
            found = settings.make().diagnose(*self.shown(settings, N_PREDICTED))
            self._predicted = settings, found
        return found

    def code(self) -> Script:
        """Return a script in plain Nengo that builds the present network, and runs some images."""
        return self.now.make().script(*self.shown(self.now, N_SHOWN))

    def run(self) -> None:
        """Start a run in the background. A run in progress ends."""
        self.cancel()
        self.trouble, job = None, Job(self.now, self.ended)
        # The prediction is made while an earlier run may still be ending.
        coming = self.later(lambda: job.stopped.is_set() or self.predict(job.settings))
        job.run = self._runs.submit(self._present, job, coming)
        self.job = job

    def cancel(self) -> None:
        """End the run in progress."""
        if self.job is not None:
            self.job.stopped.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended, and return whether it has."""
        return self.job is None or not wait([self.job.run], timeout).not_done

    def _present(self, job: Job, prediction: Future[Diagnosis]) -> None:
        settings, (images, labels) = job.settings, self.shown(job.settings)
        try:
            diagnosis = prediction.result()
            job.told(0, 1)
            case, started = settings.make(), time.monotonic()
            result, last = case.present(images, progress=job.told), self.done
            job.told(1, 1)
            found = None if labels is None else result.accuracy(labels)
            changed = settings.since(last.settings.values) if last else {}
            about = len(self.history) + 1, settings, changed, diagnosis, found
            run = Run(*about, time.monotonic() - started, images, labels, case, result)
            before = [dataclasses.replace(last, case=None, result=None)] if last else []
            self.history[-1:] = [*before, run]
        except Exception as error:  # the page shows it, and keeps working
            own = isinstance(error, (nn.InputError, nengo.exceptions.NengoException))
            if not job.stopped.is_set():
                self.trouble = " ".join(str(error if own else repr(error)).split())
        finally:
            gc.collect()  # unused networks, whose objects refer to each other


def of_output(
    output: Output,
    images: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    network: nengo.Network | None = None,
    n_images: int | None = None,
    title: str = "",
    **shown: object,
) -> Lab:
    """Return a lab of a user's network, which stays unchanged."""
    target = read_output(output, network)
    own = {"readout": target.usual_readout, "seed": target.network.seed or 0, "dt": 0.001}
    own |= {"presentation_time": 0.35} | {k: v for k, v in shown.items() if v is not None}
    case = Case(title or target.label, target, (), None, **own)
    n_steps = count_steps(case.presentation_time, case.dt)
    (shown,) = read_images(images, target, n_steps=n_steps, dt=case.dt)
    images, shape = np.asarray(images), target.upstream()[0].shape
    images = images if len(shown.images) == len(images) else shown.images
    if len(shape) > 1 and images[0].size == math.prod(shape):
        images = images.reshape(-1, *shape)
    labels = None if labels is None else as_labels(labels, len(images), target.size)
    base = Base(case, _usual(target.network, images) if n_images is None else n_images)
    names = names_of_classes(None, target.size)
    return Lab({"as built": lambda: base}, images, labels, case.name, "as built", names)


def of_study(
    name: str, variant: str | None = None, n_images: int | None = None, **given: object
) -> Lab:
    """Return a lab of a published example; ``given`` goes to `Study.open`."""
    study = studies.get(name)
    case, images, labels = study.open("diagnose", variant, n_images=n_images or _N_IMAGES, **given)
    n_images = n_images or _usual(case.network, images)
    own = {each: given[each] for each in given if each != "progress"}

    @functools.cache
    def base(chosen: str) -> Base:
        return Base(study.build(chosen, **own), n_images, seeded=True)

    networks = {each: functools.partial(base, each) for each in study.variants}
    names = names_of_classes(class_names(study.data.name), case.output.size)
    return Lab(networks, images, labels, study.title, variant or next(iter(networks)), names)


def _usual(network: nengo.Network, images: np.ndarray) -> int:
    """Return the initial number of images for a network."""
    return min(len(images), _FEW if Graph(network).size > _MANY_NEURONS else _N_IMAGES)
