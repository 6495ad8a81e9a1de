"""The state of one page of the lab: the knobs, the prediction, the run, and earlier runs.

It does not depend on the page. Every prediction and every run makes a new network from the knobs.
The user's own objects do not change.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import gc
import io
import math
import os
import queue
import sys
import threading
import time
import weakref
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

import nengo
import numpy as np

from nengonet import studies
from nengonet.checks import as_labels, check_among, count_steps, positive_integer
from nengonet.datasets import class_names
from nengonet.exceptions import InputError
from nengonet.explain.diagnosis import Diagnosis, diagnose
from nengonet.explain.prediction import LayerPrediction, predict
from nengonet.laboratory import knobs
from nengonet.laboratory.knobs import RUN, Knob, Values
from nengonet.layers.graph import Graph
from nengonet.layers.record import Layer
from nengonet.layers.showing import read_images
from nengonet.layers.targets import Output, Target, read_output
from nengonet.neurons import model_of
from nengonet.plain import N_SHOWN
from nengonet.plain.script import Script, as_script
from nengonet.results.readout import Accuracy
from nengonet.results.result import Result
from nengonet.run.presentation import present
from nengonet.studies.case import Path

#: The initial number of images for a network of many neurons, and how many neurons are many.
_FEW, _MANY_NEURONS = 100, 20_000
#: The prediction is for this many images only, so that it can follow a moving knob.
N_PREDICTED = 500
_N_IMAGES = 1000


class Cancelled(Exception):
    """Raised in a run whose knobs have changed."""


@dataclasses.dataclass(frozen=True, eq=False)
class Base:
    """A network as it was built, with the values of its knobs."""

    content: bytes
    values: Values
    #: Whether the network's seed is the seed of the run.
    seeded: bool = False
    initial_states: Mapping = dataclasses.field(default_factory=dict)
    weights: Path = None
    #: The published accuracy of the network.
    published: float | None = None

    @classmethod
    def of(cls, target: Target, running: Mapping[str, object], **about: object) -> Base:
        """Return a network with the settings of its run."""
        content = knobs.packed(target)
        found = knobs.read(knobs.unpacked(content))
        return cls(content, found | {f"{RUN}.{k}": v for k, v in running.items()}, **about)


@dataclasses.dataclass(frozen=True, eq=False)
class Settings:
    """One position of all knobs."""

    name: str
    base: Base
    values: Values

    @functools.cached_property
    def running(self) -> dict[str, object]:
        """The settings of the run, by their names in `nengonet.present`, and ``n_images``."""
        return knobs.of_layer(self.values, RUN)

    @property
    def showing(self) -> dict[str, object]:
        """The presentation time and the readout."""
        return {name: self.running[name] for name in ("presentation_time", "dt", "readout")}

    @property
    def published(self) -> float | None:
        """The published accuracy, if exactly this network was published with these settings."""
        own = (f"{RUN}.n_images", f"{RUN}.seed")
        same = all(value == self.values.get(k) or k in own for k, value in self.base.values.items())
        return self.base.published if same else None

    def make(self) -> Target:
        """Return a new copy of the network."""
        seed = self.running["seed"] if self.base.seeded else None
        return knobs.make(self.base.content, self.base.values, self.values, seed)

    def present(self, target: Target, images: np.ndarray, **given: object) -> Result:
        """Show images to a network of `make`; ``given`` goes to `nengonet.present`."""
        own = {"seed": self.running["seed"], "initial_states": self.base.initial_states}
        return present(target.network, target, images, **self.showing, **own, **given)


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """The facts that are kept of a run: a row of the list."""

    number: int
    settings: Settings
    #: The values in the previous run and in this run, by knob.
    changed: Mapping[str, tuple[object, object]]
    predicted: Accuracy | None
    accuracy: Accuracy | None
    n_images: int
    ties: int
    #: Mean rate of each spiking layer, in Hz.
    rates: Mapping[str, float]
    #: Duration of the run, in seconds.
    seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class Done:
    """The complete last run, to look inside."""

    number: int
    settings: Settings
    target: Target
    result: Result
    images: np.ndarray
    labels: np.ndarray | None
    diagnosis: Diagnosis

    @functools.cached_property
    def layers(self) -> list[Layer]:
        """The layers whose neurons were counted."""
        return [layer for layer in self.target.upstream() if layer.label in self.result.counts]

    @property
    def first(self) -> Layer:
        """The first of these layers that has weights, if any."""
        return next((layer for layer in self.layers if layer.weights), self.layers[-1])

    def layer(self, label: str) -> Layer:
        """Return a layer by its label."""
        return next(layer for layer in self.layers if layer.label == label)

    def ceiling(self, label: str) -> float:
        """Return the largest rate that a layer's neurons can have, in Hz."""
        kind = self.layer(label).neuron_type
        return np.inf if kind is None else model_of(kind).ceiling(self.result.dt)

    def pictures(self) -> np.ndarray:
        """Return the images in the input's shape, where that is the shape of an image."""
        shape = self.target.upstream()[0].shape
        fits = len(shape) > 1 and self.images[0].size == math.prod(shape)
        return self.images.reshape(-1, *shape) if fits else self.images

    @functools.cached_property
    def predicted(self) -> dict[str, LayerPrediction]:
        """The prediction for each layer, with noisy currents."""
        showing = {name: self.settings.running[name] for name in ("presentation_time", "dt")}
        found = predict(self.target, self.images, **showing, noise=True)
        return {each.label: each for each in found}

    def report(self, title: str, class_names: Sequence[str] | None) -> str:
        """Return the run as a page of HTML."""
        given = {"labels": self.labels, "class_names": class_names, "diagnosis": self.diagnosis}
        return self.result.to_html(images=self.pictures(), title=title, **given)

    def again(self, number: int, label: str = "", neuron: int = 0) -> tuple[Result, dict]:
        """Run one image again for its rasters, and for a neuron's current and voltage by step."""
        target, probes = self.settings.make(), {}
        ensembles = {layer.label: layer.ensemble for layer in target.upstream() if layer.ensemble}
        if label in ensembles:
            neurons = ensembles[label].neurons
            with target.network:
                probes = {
                    word: nengo.Probe(neurons[neuron : neuron + 1], name, label=f"lab {word}")
                    for word, name in (("current", "input"), ("voltage", "voltage"))
                    if name in neurons.probeable
                }
        spiking = [layer.label for layer in target.upstream() if layer.spiking]
        one = {"images": self.images[number : number + 1], "examples": [number]}
        kept = {"rasters": spiking, "probes": [*probes.values()], "progress": False}
        result = self.settings.present(target, **one, **kept)
        return result, {word: result.data[each][0, :, 0] for word, each in probes.items()}

    def example(self, number: int) -> dict[str, object]:
        """Return the arguments of `views.example_view` for an image."""
        result, _ = self.again(number)
        return {
            "image": self.pictures()[number],
            "rasters": {label: each[0] for label, each in result.rasters.items()},
            "scores": result.scores()[0],
            "dt": result.dt,
            "label": None if self.labels is None else int(self.labels[number]),
            "prediction": result.predictions()[0],
            "tied": bool(result.tied()[0]),
            "readout": result.settings["readout"],
        }

    def neuron(self, number: int, label: str, neuron: int) -> dict[str, object]:
        """Return the arguments of `views.neuron_view` for a neuron."""
        layer, expected = self.layer(label), self.predicted[label]
        result, traces = self.again(number, label, neuron)
        currents = expected.current[:, neuron]
        curve = rates = np.linspace(min(0.0, currents.min()), max(2.0, currents.max()), 400)
        if layer.neuron_type is not None:
            rates = model_of(layer.neuron_type).rates(curve[:, np.newaxis], dt=result.dt)[:, 0]
        weights, shape = _weights_of(layer, neuron)
        return {
            "weights": weights,
            "shape": shape,
            "tuning": (curve, rates),
            "currents": currents,
            "traces": traces | {"spikes": result.rasters[label][0, :, neuron]},
            "dt": result.dt,
            "rates": (result.rates(label)[0, neuron], expected.rates[number, neuron]),
        }


def _weights_of(layer: Layer, neuron: int) -> tuple[np.ndarray, tuple | None]:
    """Return the weights into a neuron, and the shape of their input."""
    if layer.weights is not None and layer.weights.kernel is not None:
        kernel = layer.weights.kernel
        if kernel.ndim == 2:
            return kernel[:, neuron], layer.shape_in
        return kernel[..., neuron % kernel.shape[-1]], None
    for connection in layer.connections:
        init = getattr(connection.transform, "init", None)
        if isinstance(init, np.ndarray) and init.ndim == 2:
            return init[neuron], (layer.pre.shape if layer.pre else None)
    return np.zeros(0), None


def bundle(script: Script, name: str = "network") -> tuple[str, bytes]:
    """Return the name and content of a file for a script, or of a zip if it reads arrays."""
    arrays = script.npz()
    if arrays is None:
        return f"{name}.py", script.encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(f"{name}.py", script)
        packed.writestr(f"{name}.npz", arrays)
    return f"{name}.zip", file.getvalue()


class Worker:
    """One thread that does its tasks one after the other, as long as this object exists.

    A thread for each task would keep the memory of all tasks, because every thread has its own
    memory arena.
    """

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=_work, args=(self._tasks,), daemon=True).start()
        weakref.finalize(self, self._tasks.put, None)

    def do(self, task: Callable[[], object]) -> Future:
        """Start a task, and return the future of its result."""
        coming: Future = Future()
        self._tasks.put((coming, task))
        return coming


def _work(tasks: queue.SimpleQueue) -> None:
    while (given := tasks.get()) is not None:
        coming, task = given
        if coming.set_running_or_notify_cancel():
            try:
                coming.set_result(task())
            except Exception as error:
                coming.set_exception(error)
        del given, coming, task  # which hold results, and the worker's owner


def _let_go() -> None:
    """Give back the memory of unused networks, whose objects refer to each other."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:  # of GNU's C library, which keeps what it has for a while otherwise
        trim(0)


class Job:
    """A run in progress, or a run that has ended."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stopped, self.ended = threading.Event(), threading.Event()
        self.share = 0.0

    def told(self, n_done: float, total: float) -> None:
        """Record the progress of the run, or end the run."""
        if self.stopped.is_set():
            raise Cancelled
        self.share = n_done / total


class Lab:
    """A network with knobs.

    Parameters
    ----------
    networks : dict of {str: callable}
        Each returns a `Base`. The lab begins with the first.
    images, labels : ndarray
        As `nengonet.present` takes them.
    title : str
    """

    def __init__(
        self,
        networks: Mapping[str, Callable[[], Base]],
        images: np.ndarray,
        labels: np.ndarray | None,
        title: str = "",
        first: str | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.class_names = class_names
        self.networks, self.images, self.labels, self.title = networks, images, labels, title
        self.history: list[Run] = []
        self.done: Done | None = None
        self.trouble: str | None = None
        self.job: Job | None = None
        self._past: list[Settings] = []
        self._alone, self._predictions = threading.Lock(), (None, None)
        self._runs, self._looks = Worker(), Worker()
        self._first = next(iter(networks)) if first is None else first
        base = networks[self._first]()
        self.now = self._checked(Settings(self._first, base, base.values))

    def fresh(self) -> Lab:
        """Return the lab in its initial state, for another page."""
        return Lab(
            self.networks, self.images, self.labels, self.title, self._first, self.class_names
        )

    # -- knobs

    @property
    def knobs(self) -> dict[str, Knob]:
        """The knobs, by name."""
        return knobs.knobs_of(self.now.values, self.now.base.values)

    def set(self, knob: str, value: object) -> None:
        """Turn a knob. A value out of range raises an error and changes nothing."""
        values = knobs.turned(self.now.values, self.now.base.values, knob, value)
        if values != self.now.values:
            self._to(dataclasses.replace(self.now, values=values))

    def choose(self, name: str) -> None:
        """Choose one of the networks as it was built. The number of images stays."""
        check_among("network", name, self.networks)
        base = self.networks[name]()
        shown = {f"{RUN}.{word}": self.now.running[word] for word in ("n_images", "seed")}
        self._to(Settings(name, base, base.values | shown))

    def restore(self, number: int) -> None:
        """Set the knobs to their values in an earlier run."""
        self._to(next(run.settings for run in self.history if run.number == number))

    def back(self) -> None:
        """Undo the last change of the knobs, if any."""
        if self._past:
            self.now = self._past.pop()

    @property
    def changed(self) -> dict[str, tuple[object, object]]:
        """The changes since the last run: its value and the present value, by knob."""
        return self._since(self.now)

    def _since(self, settings: Settings) -> dict[str, tuple[object, object]]:
        if not self.history:
            return {}
        was, now = self.history[-1].settings.values, settings.values
        names = dict.fromkeys([*now, *was])
        return {k: (was.get(k), now.get(k)) for k in names if was.get(k) != now.get(k)}

    def _to(self, settings: Settings) -> None:
        settings = self._checked(settings)
        self._past.append(self.now)
        self.now = settings

    def _checked(self, settings: Settings) -> Settings:
        """Return the settings, or refuse them if no network can be made and run with them."""
        running = settings.running
        count_steps(running["presentation_time"], running["dt"])
        positive_integer(f"{RUN}.n_images", running["n_images"], at_most=len(self.images))
        settings.make()
        return settings

    # -- prediction and run

    def shown(self, settings: Settings, most: int = sys.maxsize) -> tuple:
        """Return the images and labels of a run, or only the first of them."""
        n = min(settings.running["n_images"], most)
        return self.images[:n], None if self.labels is None else self.labels[:n]

    def predict(self) -> Diagnosis:
        """Predict, without a run, what the network will do with the images."""
        return self._predicted(self.now)

    @property
    def predicted(self) -> Diagnosis | None:
        """The prediction for the present knobs, if it is finished."""
        settings, found = self._predictions
        return found if settings is self.now else None

    def code(self) -> Script:
        """Return a script in plain Nengo that builds the present network, and runs some images."""
        now, (images, labels) = self.now, self.shown(self.now, N_SHOWN)
        own = {"seed": now.running["seed"], "initial_states": now.base.initial_states}
        return as_script(now.make(), images, labels, weights=now.base.weights, **now.showing, **own)

    def _predicted(self, settings: Settings) -> Diagnosis:
        with self._alone:
            known, found = self._predictions
            if known is not settings:
                images, labels = self.shown(settings, N_PREDICTED)
                found = diagnose(settings.make(), images, labels=labels, **settings.showing)
                self._predictions = settings, found
        return found

    def later(self, task: Callable[[], object]) -> Future:
        """Do a task beside the run, and return the future of its result."""
        return self._looks.do(task)

    def run(self) -> None:
        """Start a run in the background. A run in progress ends."""
        self.cancel()
        self.trouble, self.job = None, Job(self.now)
        self.later(functools.partial(self._foresee, self.job))
        self._runs.do(functools.partial(self._finish, self.job))

    def _foresee(self, job: Job) -> None:
        """Predict, while an earlier run may still be ending. The run reports any errors."""
        if not job.stopped.is_set():
            self._predicted(job.settings)

    def cancel(self) -> None:
        """End the run in progress."""
        if self.job is not None:
            self.job.stopped.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended, and return whether it has."""
        return self.job is None or self.job.ended.wait(timeout)

    @property
    def is_running(self) -> bool:
        """Whether a run is in progress."""
        return self.job is not None and not self.job.ended.is_set()

    def _finish(self, job: Job) -> None:
        try:
            job.told(0, 1)
            self._present(job, self._predicted(job.settings))
        except Cancelled:
            pass
        except Exception as error:
            # The page shows a run's own failure, or any other error, and keeps working.
            if not job.stopped.is_set():
                own = isinstance(error, (InputError, nengo.exceptions.NengoException))
                self.trouble = " ".join(str(error if own else repr(error)).split())
        finally:
            job.ended.set()
            _let_go()

    def _present(self, job: Job, predicted: Diagnosis) -> None:
        settings, target = job.settings, job.settings.make()
        images, labels = self.shown(settings)
        started = time.monotonic()
        result = settings.present(target, images, progress=job.told)
        job.told(1, 1)
        found = None if labels is None else result.accuracy(labels)
        row = Run(
            number=len(self.history) + 1,
            settings=settings,
            changed=self._since(settings),
            predicted=predicted.predicted_accuracy_with_noise,
            accuracy=found,
            n_images=len(images),
            ties=int(result.tied().sum()),
            rates={label: float(result.rates(label).mean()) for label in result.counts},
            seconds=time.monotonic() - started,
        )
        self.history.append(row)
        # The page checks this attribute.
        self.done = Done(row.number, settings, target, result, images, labels, predicted)


def of_output(
    output: Output,
    images: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    network: nengo.Network | None = None,
    presentation_time: float = 0.35,
    dt: float = 0.001,
    seed: int | None = None,
    readout: str | None = None,
    n_images: int | None = None,
    title: str = "",
) -> Lab:
    """Return a lab of a user's network, which stays unchanged."""
    target = read_output(output, network)
    (shown,) = read_images(images, target, n_steps=count_steps(presentation_time, dt), dt=dt)
    images = np.asarray(images) if len(shown.images) == len(images) else shown.images
    labels = None if labels is None else as_labels(labels, len(images), target.size)
    readout = target.usual_readout if readout is None else readout
    if n_images is None:
        n_images = min(len(images), _usual(target))
    seed = (target.network.seed or 0) if seed is None else seed
    running = {"presentation_time": presentation_time, "dt": dt, "n_images": n_images}
    running |= {"seed": seed, "readout": readout}
    base = Base.of(target, running)
    return Lab({"as built": lambda: base}, images, labels, title or target.label)


def of_study(
    name: str, variant: str | None = None, n_images: int | None = None, **given: object
) -> Lab:
    """Return a lab of a published example; ``given`` goes to `Study.open`."""
    study = studies.get(name)
    case, images, labels = study.open("diagnose", variant, n_images=n_images or _N_IMAGES, **given)
    usual = n_images or min(len(images), _usual(read_output(case.output)))

    @functools.cache
    def base(chosen: str) -> Base:
        own = {each: given[each] for each in given if each not in ("progress", "n_images")}
        found = study.build(chosen, **own)
        running = {"presentation_time": found.presentation_time, "dt": found.dt}
        running |= {"n_images": usual, "seed": found.seed, "readout": found.readout}
        words = ("initial_states", "published", "weights")
        about = {each: getattr(found, each) for each in words}
        return Base.of(read_output(found.output), running, seeded=True, **about)

    networks = {each: functools.partial(base, each) for each in study.variants}
    names = class_names(study.data.name)
    return Lab(networks, images, labels, study.title, variant, names)


def _usual(target: Target) -> int:
    """Return the initial number of images for a network."""
    return _FEW if Graph(target.network).size > _MANY_NEURONS else _N_IMAGES
