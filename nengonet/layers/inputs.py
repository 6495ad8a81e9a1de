"""Images in: Poisson spikes or constant values, one input per pixel.

Images are not part of the network: `present` shows them one after the other through `Layer.show`.
Poisson spikes are drawn from the example's own stream (`nengonet.streams`), so that example 17
gets the same spikes alone, in a batch, first or last.
"""

from __future__ import annotations

import copy
import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence

import nengo
import numpy as np
from nengo.params import NumberParam
from nengo.processes import PresentInput, Process
from numpy.typing import ArrayLike

from nengonet.checks import (
    as_array,
    as_number,
    as_numbers,
    as_pixels,
    check_among,
    described,
    quoted,
)
from nengonet.exceptions import InputError
from nengonet.layers.protocol import Moments
from nengonet.layers.record import Layer, neuron_layer, new_label
from nengonet.streams import example_rng

# A Poisson process is drawn in blocks of this many steps: one Poisson count per pixel and block,
# spread uniformly over the block's steps. That is exactly a Poisson process, and needs some 30
# times fewer random numbers than one draw per pixel and step (MNIST at 255 Hz). The first 100
# steps of a long presentation are those of a short one. Changing this changes every spike train.
BLOCK_STEPS = 100
# A block is not longer than this either, in seconds: with long steps, it would hold millions of
# events for steps that are never shown.
_BLOCK_TIME = 0.1


def block_steps(dt: float) -> int:
    """Return the number of steps of a block of Poisson input."""
    return min(BLOCK_STEPS, max(2, round(_BLOCK_TIME / dt)))


def lit_pixels(rates: np.ndarray, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels that can spike, and the mean count of each in a block of steps."""
    pixels = np.flatnonzero(rates).astype(np.int32)
    return pixels, rates[pixels] * (block_steps(dt) * dt)


def draw_events(
    pixels: np.ndarray,
    mean_counts: np.ndarray,
    rng: np.random.Generator,
    n_steps: int = BLOCK_STEPS,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the spikes of a block of steps as events, in the order of the pixels.

    Black pixels may be left out: a rate of 0 draws no random number.
    """
    spiking = pixels.repeat(rng.poisson(mean_counts))
    return rng.integers(n_steps, size=spiking.size), spiking


def poisson_block(rates: np.ndarray, dt: float, rng: np.random.Generator) -> np.ndarray:
    """Draw the spike counts of a block of steps."""
    n, n_steps = rates.size, block_steps(dt)
    steps, pixels = draw_events(*lit_pixels(rates, dt), rng, n_steps)
    return np.bincount(steps * n + pixels, minlength=n_steps * n).reshape(n_steps, n)


def shows(node: nengo.Node) -> Process:
    """Return the Process that shows images at a Node: its own, or one that outputs their values."""
    showing = callable(getattr(node.output, "showing", None))
    return node.output if showing else NodeValues(node.size_out)


def images_at(
    node: nengo.Node, images: ArrayLike, name: str = "images", process: Process | None = None
) -> np.ndarray:
    """Check images and convert them to the rows that an input shows; no other code checks them.

    ``process`` is what a model runs in the Node, where that is not the network's.
    """
    process = shows(node) if process is None else process
    if isinstance(process, ImageInput):
        return process.rows(images, name, node.label or str(node))
    return as_array(name, images, "biuf")


def images_by_node(
    images: ArrayLike | Mapping[nengo.Node, ArrayLike],
    upstream: Iterable[nengo.Node],
    nodes: Iterable[nengo.Node],
    processes: Mapping[nengo.Node, Process] = types.MappingProxyType({}),
) -> dict[nengo.Node, np.ndarray]:
    """Find the inputs that images are meant for, and convert the images as `images_at` does."""
    nodes = list(nodes)
    # A Node that nothing feeds is the same for all images.
    sources = [node for node in upstream if node.size_in == 0] or [
        node for node in nodes if node.size_in == 0
    ]
    return by_node(
        images,
        nodes,
        lambda shape: meant(sources, shape),
        lambda node, each, name: images_at(node, each, name, processes.get(node)),
    )


def by_node(
    images: ArrayLike | Mapping[nengo.Node | Layer, ArrayLike],
    nodes: Iterable[nengo.Node],
    only: Callable[[tuple], nengo.Node],
    convert: Callable[[nengo.Node, ArrayLike, str], object],
    argument: str = "images",
) -> dict[nengo.Node, object]:
    """Return the converted images of each input.

    ``only`` finds the input of plain images from their shape; otherwise ``argument`` names it.
    """
    if not isinstance(images, Mapping):
        images = {only(as_array("images", images, "biuf").shape): images}
    elif not images:
        raise InputError("images: expected {node: images} for every input, got an empty dict")
    images = {_as_input(each): values for each, values in images.items()}
    sources = [node for node in nodes if node.size_in == 0]
    for node in images:
        if node not in sources:
            raise InputError(
                f"{argument}: expected Nodes of the network without an input "
                f"({', '.join(map(str, sources)) or 'none'}), got {described(node)}{_advice(node)}"
            )
    names = {node: "images" if len(images) == 1 else f"images of {node}" for node in images}
    shown = {node: convert(node, each, names[node]) for node, each in images.items()}
    counts = {node: len(each) for node, each in shown.items()}
    if len(set(counts.values())) > 1:
        raise InputError(
            "images: expected the same number of images for every Node, got "
            + ", ".join(f"{n} for {node}" for node, n in counts.items())
        )
    return shown


def _as_input(given: object) -> object:
    """Return the Node of an input; that of a layer of Poisson neurons comes before them."""
    if isinstance(given, Layer):
        return given.node if given.node is not None or given.pre is None else given.pre.node
    return given


def _advice(node: object) -> str:
    """Return what to do with a Node that only passes on its input."""
    if isinstance(node, nengo.Node) and node.output is None:
        return f"; connect an input to it, such as nengo.Node(numpy.zeros({node.size_in}))"
    return ""


def meant(
    sources: Sequence[nengo.Node], shape: Sequence[int], functions: bool = True
) -> nengo.Node:
    """Return the input that plain images of a shape are for.

    It is the Node that shows images, or else one that outputs constants, 0 first; or else, where
    ``functions`` may be meant, one that runs a user's function or Process.
    """
    inputs = [node for node in sources if callable(getattr(node.output, "showing", None))]
    if not inputs:
        steady = [node for node in sources if isinstance(node.output, np.ndarray | PresentInput)]
        inputs = [node for node in steady if not _is_given(node)]
        if not inputs:
            inputs = sources if functions else steady
            inputs = [node for node in inputs if not _is_given(node)] or inputs
        sizes = (math.prod(shape[1:]), math.prod(shape[2:]))
        fitting = [node for node in inputs if node.size_out in sizes]
        inputs = fitting if len(inputs) > 1 and fitting else inputs
    if len(inputs) == 1:
        return inputs[0]
    found = ", ".join(f"{node} of size {node.size_out}" for node in inputs or sources) or "none"
    if sources and not inputs:
        found = f"Nodes with functions or processes of their own ({found})"
    raise InputError(
        f"images: expected a network with one input, got {found}; give input=node, or "
        "images={node: (n_images, size_out) array} for each"
    )


def _is_given(node: nengo.Node) -> bool:
    """Return whether a Node outputs constants that a user chose."""
    return isinstance(node.output, np.ndarray) and bool(np.any(node.output))


def check_shape(name: str, images: np.ndarray, shape: tuple[int, ...], label: str) -> None:
    """Compare the shape of images, not their size; an axis of one channel may be left out."""
    found, size = images.shape[1:], math.prod(shape)
    if images.ndim and len(images) == 0:
        raise InputError(f"{name}: expected at least one image, got shape {images.shape}")
    one_channel = found in ((*shape, 1), shape[:-1])
    fits = found in ((size,), shape) or one_channel or len(shape) == 1
    if images.ndim > 1 and fits and math.prod(found) == size:
        return
    expected = f"(n_images, {', '.join(map(str, shape))})" + (" or flat" if len(shape) > 1 else "")
    hint = ""
    if images.shape in (shape, (size,), (*shape, 1), shape[:-1]):
        hint = "; give a single image as image[numpy.newaxis]"
    elif images.shape[:-1] in (shape, (size,)):
        hint = f"; the axis of images is last: give numpy.moveaxis({name}, -1, 0)"
    elif sorted(found) == sorted(shape):
        # Axes of equal length keep their order: a stable sort of both finds the axes.
        order = np.argsort(found, kind="stable")[np.argsort(np.argsort(shape, kind="stable"))] + 1
        order = ", ".join(map(str, (0, *order)))
        hint = f"; the axes are in another order: give {name}.transpose({order})"
    raise InputError(f"{name}: expected shape {expected} for {label}, got {images.shape}{hint}")


class ImageInput(Process):
    """Process that the Node of an input layer runs: it shows the image of the moment."""

    # What `show` sets, and `present` for every example.
    shown = ("image", "example", "seed_of_examples")

    def __init__(
        self, shape: tuple[int, ...] | int, signed: bool = True, seed: int | None = None
    ) -> None:
        self.shape = (int(shape),) if np.ndim(shape) == 0 else tuple(map(int, shape))
        self.signed = signed
        super().__init__(default_size_in=0, default_size_out=math.prod(self.shape), seed=seed)
        self.show(np.zeros(self.size), example=0, seed=0)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.default_size_out

    def rows(self, images: ArrayLike, name: str = "images", label: str = "the input") -> np.ndarray:
        """Return images as `images_at` does."""
        array = as_array(name, images, "biuf")
        check_shape(name, array, self.shape, label)
        values = as_pixels(array, name).reshape(len(array), -1)
        low, high = values.min(), values.max()
        if self.signed or (low >= 0 and high <= 1):
            return values
        found = f"{name}: expected values in [0, 1] for Poisson spikes ({label}), got {low:g} to"
        if low < 0:
            fix = (
                "rates are never negative: use constant_input, or feed u = (x - a) / b in [0, 1] "
                "and fold x = a + b * u into the first layer"
            )
        elif 2 < high <= 255:
            fix = "divide by 255"
        else:
            fix = (
                f"divide by {high:.9g} and state {high:.9g} times the max_rate, the same amplitude"
            )
        raise InputError(f"{found} {high:.9g}; {fix}")

    def show(self, image: ArrayLike, example: int, seed: int) -> None:
        """Set the image that the next reset of the simulator starts with."""
        image = as_array("image", image, "biuf")
        self.image = self.rows(image[np.newaxis], "image")[0]
        self.example = example
        self.seed_of_examples = seed

    def showing(self, image: ArrayLike, example: int, seed: int) -> ImageInput:
        """Return a copy that shows an image."""
        shown = copy.copy(self)
        shown.show(image, example, seed)
        return shown


class ConstantImage(ImageInput):
    """Put out ``scale * pixel`` at every step."""

    scale = NumberParam("scale")

    def __init__(
        self,
        shape: tuple[int, ...] | int,
        scale: float,
        signed: bool = True,
        seed: int | None = None,
    ) -> None:
        super().__init__(shape, signed, seed)
        self.scale = scale

    def steady(self, images: np.ndarray) -> np.ndarray:
        """Return the output, which stays the same for a presentation."""
        return self.scale * images

    def moments(self, images: np.ndarray, variance: np.ndarray, dt: float) -> Moments:
        """Return mean and variance of the output, and its delay."""
        return self.scale * images, variance, 0.0

    def make_step(self, shape_in, shape_out, dt, rng, state):
        """Return the step function (Nengo calls this at every reset)."""
        values = self.steady(self.image)
        return lambda t: values


class NodeValues(ConstantImage):
    """An image's values as they are, at any Node."""

    def __init__(self, size: int) -> None:
        # With a seed of its own it draws none, and all other seeds stay the same.
        super().__init__((size,), 1.0, seed=0)

    def rows(self, images: ArrayLike, name: str = "images", label: str = "the input") -> np.ndarray:
        """Return one row for each image."""
        values = as_numbers(name, images, "biuf")
        check_shape(name, values, self.shape, label)
        return values.reshape(len(values), -1)


class PoissonImage(ImageInput):
    """Put out the spikes of a Poisson process per pixel, repeatable example by example."""

    max_rate = NumberParam("max_rate", low=0)
    amplitude = NumberParam("amplitude", low=0, low_open=True)

    def __init__(self, shape: tuple[int, ...] | int, max_rate: float, amplitude: float) -> None:
        super().__init__(shape, signed=False)
        self.max_rate = max_rate
        self.amplitude = amplitude

    def events(self, images: np.ndarray, dt: float) -> tuple[np.ndarray, float]:
        """Return the rates in Hz, and the height of a spike."""
        return self.max_rate * images, self.amplitude / dt

    def moments(self, images: np.ndarray, variance: np.ndarray, dt: float) -> Moments:
        """Return mean and variance of the output, and its delay; a count's variance is its mean."""
        mean = self.amplitude * self.max_rate * images
        return mean, self.amplitude**2 * self.max_rate * images / dt, 0.0

    def make_step(self, shape_in, shape_out, dt, rng, state):
        """Return the step function (Nengo calls this at every reset)."""
        example_stream = example_rng(self.seed_of_examples, self.example)
        rates, height = self.events(self.image, dt)

        def spikes():
            while True:
                yield from height * poisson_block(rates, dt, example_stream)

        steps = spikes()
        return lambda t: next(steps)


def constant_input(
    shape: int | Sequence[int], *, scale: float = 1.0, label: str | None = None
) -> Layer:
    """Add an input that outputs every pixel's value at every step.

    Parameters
    ----------
    shape : int or tuple of int
        Shape of one image, for instance ``(28, 28)``; a number for a row of values.
    scale : float
        Output for a pixel of value 1. Pixels may have any range.
    label : str, optional
        By default ``"input"``, numbered if the network already has it.

    Returns
    -------
    Layer
        With a ``node`` and no ``ensemble``.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     pixels = nn.constant_input((2, 2))
    >>> pixels
    <Layer 'input', shape (2, 2)>
    >>> result = nn.present(pixels.network, pixels, [[0.1, 0.2, 0.3, -4]])
    >>> result.steps[0, -1].tolist()
    [0.1, 0.2, 0.3, -4.0]
    """
    label = new_label(label, "input")
    return _constant(_checked_shape(shape, label), scale, label, signed=True)


def _constant(shape: tuple[int, ...], scale: float, label: str, signed: bool) -> Layer:
    scale = as_number(f"{label}: scale", scale)
    node = nengo.Node(ConstantImage(shape, scale, signed), label=label)
    return Layer(label=label, shape=shape, node=node)


def poisson_input(
    shape: int | Sequence[int],
    max_rate: float = 255.0,
    *,
    amplitude: float | None = None,
    kind: str = "process",
    scale: float = 1.0,
    label: str | None = None,
) -> Layer:
    """Add one Poisson neuron per pixel, whose rate is ``max_rate * pixel``.

    Parameters
    ----------
    shape : int or tuple of int
        Shape of one image, for instance ``(28, 28)``; a number for a row of values.
    max_rate : float, in Hz
        Rate of a white pixel. The default is 1 Hz for each grey level.
    amplitude : float, optional
        Area of one spike. By default ``1 / max_rate``: the mean output is then the pixel's value,
        the ANN's input.
    kind : {"process", "ensemble"}
        ``"process"`` is a Node with a Poisson process, drawn from the example's own stream.
        ``"ensemble"`` is a Node and an Ensemble of ``PoissonSpiking(RectifiedLinear())``, as in the
        forum post. A reset does not restart its random stream, but `present` does for each example.
    scale : float
        With ``kind="ensemble"``: the Node's output for a white pixel, 255 in the post. The
        ensemble's gain is then ``max_rate / scale``.
    label : str, optional
        By default ``"input"``, numbered if the network already has it.

    Returns
    -------
    Layer
        With ``node``, and for ``kind="ensemble"`` with ``ensemble`` and ``connection``.

    Examples
    --------
    >>> with nengo.Network(seed=0):
    ...     pixels = nn.poisson_input((2,), max_rate=100.0)
    >>> result = nn.present(pixels.network, pixels, [[0.0, 1.0]], presentation_time=1.0)
    >>> result.counts["input"].tolist()
    [[0, 97]]
    """
    label = new_label(label, "input")
    shape = _checked_shape(shape, label)
    max_rate = as_number(f"{label}: max_rate", max_rate, "a rate in Hz", above=0)
    amplitude = 1.0 / max_rate if amplitude is None else amplitude
    amplitude = as_number(f"{label}: amplitude", amplitude, "the area of a spike", above=0)
    check_among(f"{label}: kind", kind, ("process", "ensemble"))
    if kind == "process":
        node = nengo.Node(PoissonImage(shape, max_rate, amplitude), label=label)
        return Layer(label=label, shape=shape, node=node)
    scale = as_number(f"{label}: scale", scale, "the output for a white pixel", above=0)
    pixels = _constant(shape, scale, f"{label} pixels", signed=False)
    neurons = nengo.PoissonSpiking(nengo.RectifiedLinear(), amplitude=amplitude)
    gain, bias = np.full(pixels.size, max_rate / scale), np.zeros(pixels.size)
    return neuron_layer(pixels, neurons, gain, bias, shape=shape, label=label)


def _checked_shape(shape: int | Sequence[int], label: str) -> tuple[int, ...]:
    if _is_length(shape):
        return (int(shape),)
    if not isinstance(shape, (tuple, list)) or not shape or not all(map(_is_length, shape)):
        raise InputError(
            f"{label}: expected the shape of one image, such as (28, 28) or 784, "
            f"got {quoted(shape)}"
        )
    return tuple(int(n) for n in shape)


def _is_length(n: object) -> bool:
    return isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n > 0
