"""Images in: Poisson spikes or constant values, one input per pixel.

The image is no part of the network: `present` shows one after the other through `Layer.show`.
Poisson spikes are drawn from the example's own stream (`nengonet.streams`), so that example 17
gets the same ones alone, in a batch, first or last.
"""

from __future__ import annotations

import math

import nengo
import numpy as np
from nengo.params import NumberParam

from nengonet.exceptions import InputError
from nengonet.objects import Layer, neuron_layer
from nengonet.streams import example_rng

# A Poisson process is drawn in blocks of this many steps: one Poisson count per pixel and block,
# spread uniformly over the block's steps. That is exactly a Poisson process, and needs some 30
# times fewer random numbers than one draw per pixel and step (MNIST at 255 Hz); and the first 100
# steps of a long presentation are those of a short one. Changing this changes every spike train.
BLOCK_STEPS = 100
# Nor is a block longer than this, in seconds: of long steps, it would hold events by the million
# for steps that are never shown.
_BLOCK_TIME = 0.1


def block_steps(dt: float) -> int:
    """Return the number of steps of a block of Poisson input.

    Parameters
    ----------
    dt : float, in seconds

    Returns
    -------
    n_steps : int
        `BLOCK_STEPS` up to a ``dt`` of 1 ms; less for longer steps, but at least 2, because NumPy
        does not draw one out of one.
    """
    return min(BLOCK_STEPS, max(2, round(_BLOCK_TIME / dt)))


def lit_pixels(rates: np.ndarray, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels that can spike, and the mean count of each in a block of steps.

    Parameters
    ----------
    rates : (n,) ndarray, in Hz
    dt : float, in seconds

    Returns
    -------
    pixels : (n_lit,) ndarray of int32
    mean_counts : (n_lit,) ndarray
    """
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

    Parameters
    ----------
    pixels, mean_counts : (n_lit,) ndarray
        From `lit_pixels`.
    rng : numpy.random.Generator
    n_steps : int
        Of the block: see `block_steps`.

    Returns
    -------
    steps, pixels : (n_spikes,) ndarray of int
        Step (from 0) and pixel of each spike.
    """
    spiking = pixels.repeat(rng.poisson(mean_counts))
    return rng.integers(n_steps, size=spiking.size), spiking


def poisson_block(rates: np.ndarray, dt: float, rng: np.random.Generator) -> np.ndarray:
    """Draw the spike counts of a block of steps.

    Parameters
    ----------
    rates : (n,) ndarray, in Hz
    dt : float, in seconds
    rng : numpy.random.Generator

    Returns
    -------
    counts : (n_steps, n) ndarray of int
        Spikes in each step, of as many as `block_steps` says.
    """
    n, n_steps = rates.size, block_steps(dt)
    steps, pixels = draw_events(*lit_pixels(rates, dt), rng, n_steps)
    return np.bincount(steps * n + pixels, minlength=n_steps * n).reshape(n_steps, n)


class ImageInput(nengo.Process):
    """What a Node of an input layer runs: the image that is being shown.

    Parameters
    ----------
    size : int
        Number of pixels.
    """

    # What `show` sets, and `present` for every example.
    shown = ("image", "example", "seed_of_examples")

    def __init__(self, size: int) -> None:
        super().__init__(default_size_in=0, default_size_out=size)
        self.show(np.zeros(size), example=0, seed=0)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.default_size_out

    def show(self, image: np.ndarray, example: int, seed: int) -> None:
        """Set the image that the next reset of the simulator starts with."""
        self.image = np.ravel(image).astype(np.float64)
        self.example = example
        self.seed_of_examples = seed

    def mean_output(self, images: np.ndarray) -> np.ndarray:
        """Return the mean output over time, of the images' shape."""
        raise NotImplementedError

    def step_variance(self, images: np.ndarray, dt: float) -> np.ndarray:
        """Return the variance of the output from step to step, of the images' shape."""
        raise NotImplementedError


class ConstantImage(ImageInput):
    """Put out ``scale * pixel`` at every step.

    Parameters
    ----------
    size : int
    scale : float
        Output for a white pixel.
    """

    scale = NumberParam("scale")

    def __init__(self, size: int, scale: float) -> None:
        super().__init__(size)
        self.scale = scale

    def mean_output(self, images: np.ndarray) -> np.ndarray:
        """Return ``scale * images``."""
        return self.scale * images

    def step_variance(self, images: np.ndarray, dt: float) -> np.ndarray:
        """Return zeros."""
        return np.zeros(images.shape)

    def make_step(self, shape_in, shape_out, dt, rng, state):
        """Return the step function (Nengo calls this at every reset)."""
        values = self.scale * self.image

        def step_constant(t):
            return values

        return step_constant


class PoissonImage(ImageInput):
    """Put out the spikes of a Poisson process per pixel, repeatable example by example.

    Parameters
    ----------
    size : int
    max_rate : float, in Hz
        Rate of a white pixel.
    amplitude : float
        Area of one spike.
    """

    max_rate = NumberParam("max_rate", low=0)
    amplitude = NumberParam("amplitude", low=0, low_open=True)

    def __init__(self, size: int, max_rate: float, amplitude: float) -> None:
        super().__init__(size)
        self.max_rate = max_rate
        self.amplitude = amplitude

    def mean_output(self, images: np.ndarray) -> np.ndarray:
        """Return the amplitude times the rate in Hz."""
        return self.amplitude * self.max_rate * images

    def step_variance(self, images: np.ndarray, dt: float) -> np.ndarray:
        """Return the variance of ``count * amplitude / dt``; a Poisson count's is its mean."""
        return self.amplitude**2 * self.max_rate * images / dt

    def make_step(self, shape_in, shape_out, dt, rng, state):
        """Return the step function (Nengo calls this at every reset)."""
        example_stream = example_rng(self.seed_of_examples, self.example)
        rates = self.max_rate * self.image
        height = self.amplitude / dt

        def spikes():
            while True:
                yield from height * poisson_block(rates, dt, example_stream)

        steps = spikes()

        def step_poisson(t):
            return next(steps)

        return step_poisson


def constant_input(shape: tuple[int, ...], *, scale: float = 1.0, label: str = "input") -> Layer:
    """Add an input that puts out every pixel's value at every step.

    Parameters
    ----------
    shape : tuple of int
        Shape of one image, for instance ``(28, 28)``.
    scale : float
        Output for a white pixel. Images lie in [0, 1]; the forum's posts feed 0 to 255.
    label : str

    Returns
    -------
    Layer
        With a ``node`` and no ``ensemble``.

    Raises
    ------
    InputError
        The shape is no tuple of whole numbers above 0.
    """
    size = _checked_size(shape, label)
    node = nengo.Node(ConstantImage(size, scale), label=label)
    return Layer(label=label, shape=tuple(shape), node=node)


def poisson_input(
    shape: tuple[int, ...],
    max_rate: float = 255.0,
    *,
    amplitude: float | None = None,
    kind: str = "process",
    scale: float = 1.0,
    label: str = "input",
) -> Layer:
    """Add one Poisson neuron per pixel, whose rate is ``max_rate * pixel``.

    Parameters
    ----------
    shape : tuple of int
        Shape of one image, for instance ``(28, 28)``.
    max_rate : float, in Hz
        Rate of a white pixel. The default is 1 Hz for each grey level.
    amplitude : float, optional
        Area of one spike. By default ``1 / max_rate``, so that the mean output is the pixel's
        value, as the ANN saw it.
    kind : {"process", "ensemble"}
        ``"process"``: a Node that runs a Poisson process drawn from the example's own stream.
        ``"ensemble"``: a Node and an Ensemble of ``PoissonSpiking(RectifiedLinear())``, as in the
        forum post. Both have the same distribution. Nengo's neurons keep one random stream from
        the build on, which a reset does not restart; `present` restarts it for each example.
    scale : float
        With ``kind="ensemble"``: what the Node puts out for a white pixel, 255 in the post. The
        ensemble's gain is then ``max_rate / scale``.
    label : str

    Returns
    -------
    Layer
        With ``node``, and for ``kind="ensemble"`` with ``ensemble`` and ``connection``.

    Raises
    ------
    InputError
        The shape, the rate, the amplitude or the kind is impossible.
    """
    size = _checked_size(shape, label)
    if not (np.isfinite(max_rate) and max_rate > 0):
        raise InputError(f"{label}: expected max_rate above 0 Hz, found {max_rate}")
    if amplitude is None:
        amplitude = 1.0 / max_rate
    if not (np.isfinite(amplitude) and amplitude > 0):
        raise InputError(f"{label}: expected an amplitude above 0, found {amplitude}")
    if kind == "process":
        node = nengo.Node(PoissonImage(size, max_rate, amplitude), label=label)
        return Layer(label=label, shape=tuple(shape), node=node)
    if kind == "ensemble":
        pixels = constant_input(shape, scale=scale, label=f"{label} pixels")
        return neuron_layer(
            pixels,
            shape=tuple(shape),
            transform=nengo.transforms.NoTransform(size),
            neuron_type=nengo.PoissonSpiking(nengo.RectifiedLinear(), amplitude=amplitude),
            gain=np.full(size, max_rate / scale),
            bias=np.zeros(size),
            synapse=None,
            label=label,
        )
    raise InputError(f'{label}: expected kind "process" or "ensemble", found {kind!r}')


def _checked_size(shape: tuple[int, ...], label: str) -> int:
    whole = (int, np.integer)
    if not isinstance(shape, (tuple, list)) or not all(
        isinstance(n, whole) and n > 0 for n in shape
    ):
        raise InputError(
            f"{label}: expected the shape of one image, such as (28, 28), found {shape!r}"
        )
    return math.prod(shape)
