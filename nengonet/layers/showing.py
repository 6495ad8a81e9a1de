"""The images of a network's inputs: values, a row for each step, or a user's Process.

A run does not change the network: its model is built with the process of `Shown` in the Node.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import nengo
import numpy as np
from nengo.builder import Builder, Model
from nengo.builder.signal import Signal
from nengo.processes import Process
from numpy.typing import ArrayLike

from nengonet.checks import as_array, described
from nengonet.exceptions import InputError
from nengonet.layers.graph import Graph, owner
from nengonet.layers.inputs import ImageInput, by_node, check_shape, meant, shows
from nengonet.layers.protocol import known
from nengonet.layers.record import Layer, labels_of
from nengonet.layers.targets import Target
from nengonet.streams import example_rng

MakeProcess = Callable[[np.ndarray], Process]


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """The images of one input, and the process that the model runs in its Node."""

    node: nengo.Node
    process: Process
    images: np.ndarray

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)


class ImageSteps(ImageInput):
    """Output a row of values at each step of a presentation, as the source would for an image."""

    def __init__(self, source: ImageInput, n_steps: int) -> None:
        self.source, self.n_steps = source, n_steps
        super().__init__(source.shape, source.signed, source.seed)

    def rows(self, images: ArrayLike, name: str = "images", label: str = "the input") -> np.ndarray:
        """Return an array (n_images, n_steps, n)."""
        array = as_array(name, images, "biuf")
        steps = array.reshape(-1, *array.shape[2:]) if array.ndim > 2 else array.reshape(-1, 1)
        rows = self.source.rows(steps, name, label)
        return rows.reshape(len(array), self.n_steps, self.size)

    def show(self, image: ArrayLike, example: int, seed: int) -> None:
        """Set the rows that the next reset starts with."""
        self.image = np.broadcast_to(np.asarray(image, np.float64), (self.n_steps, self.size))
        self.example, self.seed_of_examples = example, seed

    def by_step(self, images: np.ndarray) -> np.ndarray:
        """Return the outputs of all steps, (n_images, n_steps, n)."""
        return self.source.steady(images)

    def make_step(self, shape_in, shape_out, dt, rng, state):
        """Return the step function."""
        rows = self.by_step(self.image[np.newaxis])[0]
        return lambda t: rows[round(t / dt) - 1]


class EventSteps(ImageSteps):
    """Output Poisson spikes whose rates change from step to step."""

    @property
    def amplitude(self) -> float:
        """Area of one spike."""
        return self.source.amplitude

    def make_step(self, shape_in, shape_out, dt, rng, state):
        """Return the step function."""
        stream = example_rng(self.seed_of_examples, self.example)
        rates, height = self.source.events(self.image, dt)
        return lambda t: height * stream.poisson(rates[round(t / dt) - 1] * dt)


class MadeInput(Process):
    """The Process that a user's function makes of each image."""

    def __init__(self, make: MakeProcess, size: int, process: Process | None = None) -> None:
        self.make, self.process = make, process
        super().__init__(default_size_in=0, default_size_out=size)

    def showing(self, image: np.ndarray, example: int, seed: int) -> MadeInput:
        """Return a copy that shows an image."""
        process, size = self.make(image), self.default_size_out
        if not isinstance(process, Process):
            raise InputError(
                "input_process: expected a function that returns a nengo Process for an image, got "
                f"one that returns {described(process)}"
            )
        # A process of one value fits any size; a PresentInput has the size of its inputs.
        if process.default_size_in or process.default_size_out not in (1, size):
            raise InputError(
                f"input_process: expected a Process of {size} values without input, as the Node "
                f"has, got {type(process).__name__} of {process.default_size_out}"
            )
        return MadeInput(self.make, size, process)

    def get_rng(self, rng: np.random.RandomState) -> np.random.RandomState:
        """Return the random stream that the process would get."""
        return super().get_rng(rng) if self.process is None else self.process.get_rng(rng)

    def make_step(self, shape_in, shape_out, dt, rng, state):
        """Return the step function of the process, with a state of its own."""
        if self.process is None:  # before the first image
            return lambda t: np.zeros(shape_out)
        own = self.process.make_state(shape_in, shape_out, dt)
        return self.process.make_step(shape_in, shape_out, dt, rng, own)


def read_images(
    images: ArrayLike | Mapping[nengo.Node, ArrayLike],
    target: Target,
    *,
    node: nengo.Node | Layer | None = None,
    make: MakeProcess | Mapping[nengo.Node, MakeProcess] | None = None,
    n_steps: int,
    dt: float,
) -> list[Shown]:
    """Find the inputs that the images are for, and check the images.

    Parameters
    ----------
    images : (n_images, ...) or (n_images, n_steps, ...) array_like, or dict of them by Node
    target : Target
        The object that the run reads; the input is upstream of it.
    node : nengo.Node or Layer, optional
        The input. By default the only Node that shows images, or else the only one that outputs
        constants.
    make : callable or dict of them by Node, optional
        Makes a Process of each image.
    n_steps : int
        Number of steps of a presentation; images with that many rows are sequences.
    dt : float, in seconds
    """
    if node is not None and isinstance(images, Mapping):
        raise InputError(
            "input: expected images as an array, got a dict of Nodes; leave input out, as the dict "
            "names the Nodes"
        )
    nodes, labels = target.network.all_nodes, labels_of(target.network, target.layers)

    def only(shape: Sequence[int]) -> nengo.Node:
        upstream = {*Graph(target.network).upstream(*target.items)[0]}
        sources = [each for each in nodes if each.size_in == 0]
        return meant([each for each in sources if each in upstream] or sources, shape, False)

    def convert(each: nengo.Node, values: ArrayLike, name: str) -> Shown:
        own = make.get(each) if isinstance(make, Mapping) else make
        return _shown(each, values, own, n_steps, dt, name, labels[each])

    argument = "images" if node is None else "input"
    shown = by_node(images if node is None else {node: images}, nodes, only, convert, argument)
    makes = make if isinstance(make, Mapping) else dict.fromkeys(shown, make)
    functions = all(each is None or callable(each) for each in makes.values())
    if not functions or not makes.keys() <= shown.keys():
        raise InputError(
            "input_process: expected a function that returns a Process for an image, or a dict "
            f"of them by the Nodes of images, got {described(make)}"
        )
    return list(shown.values())


def _shown(node, images, make, n_steps: int, dt: float, name: str, label: str) -> Shown:
    """Return a Node's checked images, and the process that shows them."""
    array = as_array(name, images, "biuf")
    if array.ndim < 1 or len(array) == 0:
        raise InputError(f"{name}: expected at least one image, got shape {array.shape}")
    size = node.size_out
    process = shows(node) if make is None else MadeInput(make, size)
    if not isinstance(process, ImageInput):
        return Shown(node, process, array)
    rows = array.shape[1:2]
    in_steps = math.prod(array.shape[2:]) == size and math.prod(array.shape[1:]) != size
    if in_steps and rows and (rows == (n_steps,) or array.ndim > 2):
        if rows != (n_steps,):
            raise InputError(
                f"{name}: expected a row for each of the {n_steps} steps of a presentation, shape "
                f"(n_images, {n_steps}, {size}), or one image of {size} values for {label}, got "
                f"shape {array.shape}; presentation_time={rows[0] * dt:g} shows {rows[0]} steps"
            )
        process = _in_steps(process, n_steps, label)
    elif array.dtype == np.uint8:
        # uint8 is always in range and takes an eighth of the memory of floats: each minibatch
        # converts its own.
        check_shape(name, array, process.shape, label)
        return Shown(node, process, array.reshape(len(array), -1))
    return Shown(node, process, process.rows(array, name, label))


def _in_steps(process: ImageInput, n_steps: int, label: str) -> ImageSteps:
    for how, kind in (("steady", ImageSteps), ("events", EventSteps)):
        if known(process, how) is not None:
            return kind(process, n_steps)
    raise InputError(
        f"{label}: expected images, got sequences, which {type(process).__name__} cannot show; "
        "give input_process"
    )


class ShowingBuilder(Builder):
    """Build a model in which some Nodes run a process other than the network's."""

    def __init__(self, shown: Mapping[nengo.Node, Process]) -> None:
        self.shown = shown

    def build(self, model: Model, obj: object, *args: object, **kwargs: object) -> object:
        """Build an object."""
        if isinstance(obj, nengo.Node) and obj in self.shown:
            output = Signal(shape=obj.size_out, name=f"{obj}.out")
            model.build(self.shown[obj], None, output, mode="set")
            model.sig[obj].update({"in": None, "out": output})
            model.params[obj] = None
            return None
        return Builder.build(model, obj, *args, **kwargs)


def processes_of(model: Model) -> dict[nengo.Node, object]:
    """Return the operators that show the images of Nodes, by Node."""
    outputs = {
        operator.output: operator
        for operator in model.operators
        if callable(getattr(getattr(operator, "process", None), "showing", None))
    }
    nodes = ((owner(each), signals.get("out")) for each, signals in model.sig.items())
    return {
        node: outputs[signal]
        for node, signal in nodes
        if isinstance(node, nengo.Node) and signal in outputs
    }
