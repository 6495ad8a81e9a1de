"""`as_script`: a network and the presentation of its images, as a script in plain Nengo."""

from __future__ import annotations

import io
import os
import pathlib
from collections.abc import Mapping

import nengo
import numpy as np
from numpy.typing import ArrayLike

from nengonet import datasets
from nengonet.checks import as_array, as_labels, as_seed, check_among, count_steps, positive_integer
from nengonet.exceptions import InputError
from nengonet.files import output_path, write_whole
from nengonet.layers.graph import Graph
from nengonet.layers.initial import InitialStates, drawn_states
from nengonet.layers.inputs import meant
from nengonet.layers.showing import read_images
from nengonet.layers.targets import Output, Target, read_output
from nengonet.plain import N_SHOWN
from nengonet.plain.arrays import Arrays, Files, data_set
from nengonet.plain.network import NetworkWriter
from nengonet.plain.running import NOISE, Running
from nengonet.results.readout import OF_SPIKES, READOUTS

Images = str | ArrayLike | Mapping[nengo.Node, ArrayLike] | None


class Script(str):
    """The text of a script, and the arrays that it reads from a file beside it.

    Attributes
    ----------
    arrays : dict of {str: ndarray}
        Empty if all arrays are computed, or come from files of weights or from data sets.
    text : str
        The script.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> script = nn.as_script(layer, images)
    >>> [path.name for path in script.save("network.py")]
    ['network.py', 'network.npz']
    """

    __slots__ = ("arrays",)

    def __new__(cls, text: str, arrays: Mapping[str, np.ndarray]) -> Script:
        """Keep the text and the arrays."""
        script = super().__new__(cls, text)
        script.arrays = dict(arrays)
        return script

    def npz(self) -> bytes | None:
        """Return the contents of the file of arrays, named like the script with ``.npz``."""
        if not self.arrays:
            return None
        file = io.BytesIO()
        np.savez_compressed(file, **self.arrays)
        return file.getvalue()

    def save(self, path: str | os.PathLike) -> list[pathlib.Path]:
        """Write the script, and the file of its arrays beside it; return their paths."""
        path, arrays = output_path(path, "script", (".py",)), self.npz()
        parts = {path: self.encode()}
        if arrays is not None:
            parts[output_path(path.with_suffix(".npz"))] = arrays
        for part, content in reversed(parts.items()):  # no script without its arrays
            write_whole(part, content)
        return list(parts)


def as_script(
    output: Output,
    images: Images = None,
    labels: ArrayLike | None = None,
    *,
    network: nengo.Network | None = None,
    n_images: int | None = None,
    presentation_time: float = 0.35,
    dt: float = 0.001,
    seed: int | None = None,
    readout: str | None = None,
    initial_states: InitialStates | None = None,
    weights: Files = None,
    standalone: bool = False,
) -> Script:
    """Write a network as a script in plain Nengo that shows images to it and counts spikes.

    Run with Python, the script gives the same spike counts as `present`, on ``nengo.Simulator``.
    The keywords are those of `present` that a script can repeat, and the sources of its arrays.

    Parameters
    ----------
    output : Layer, nengo.Ensemble, Neurons, nengo.Node, a slice, or a list of these
        The objects that the script reads out. It always builds the whole network.
    images : str, (n_images, ...) array_like, or dict of them by Node, optional
        As for `present`; or the name of a data set, which the script then loads. The script also
        loads the bundled images if ``images`` are the first of them. By default noise.
    labels : (n_images,) array_like of int, optional
        For the accuracy; by default the labels of the named data set.
    network : nengo.Network, optional
        Needed for plain Nengo objects outside their ``with`` block; a `Layer` knows its own.
    n_images : int, optional
        How many of the first images to show: by default all, but 20 of a named data set.
    presentation_time, dt : float, in seconds
    seed : int, optional
    initial_states : dict
        This, the seed and the times above are as for `present`.
    readout : str, optional
        As for `present`; by default ``"spike_count"``, or ``"sum"`` where there are no spikes.
    weights : Weights or path, or a list of them, optional
        Files that the kernels come from. Bundled files are found without it. An array that is in
        no file, and not uniform, is read from an ``.npz`` file beside the script.
    standalone : bool
        Import nothing from nengonet: the ``.npz`` file then holds weights and images too.

    Returns
    -------
    Script
        A str. Its ``save(path)`` writes the script, and beside it the file of arrays, if there are
        any. The same network gives the same text.

    Raises
    ------
    InputError
        Something cannot be written as plain Nengo, which the message names: a learning rule, a
        class that is neither Nengo's nor nengonet's, or a function whose source is unknown. Or an
        argument is out of range.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> script = nn.as_script(layer, images)
    >>> script.count("nengo.Ensemble("), script.count("nengo.Connection(")
    (1, 1)
    """
    n_steps, dt = count_steps(presentation_time, dt), float(dt)
    target = read_output(output, network)
    seed = as_seed(seed, target.network.seed)
    readout = target.usual_readout if readout is None else readout
    check_among("readout", readout, READOUTS)
    if target.amplitude is None and readout in OF_SPIKES:
        raise InputError(
            f'readout: expected one that needs no spikes, such as "sum", got {readout!r}'
        )
    images, labels, loaded = _data(target, images, labels, n_images)
    shown = read_images(images, target, n_steps=n_steps, dt=dt)
    if labels is not None:
        labels = as_labels(labels, len(shown[0]))
    states = drawn_states(target.upstream(), initial_states)
    network = NetworkWriter(target, shown, Arrays(weights, standalone), dt, seed)
    network.write()
    running = Running(network, shown, states, labels, readout, loaded)
    return Script(running.text(presentation_time, dt, n_steps), network.arrays.saved)


def _data(
    target: Target, images: Images, labels: ArrayLike | None, n_images: int | None
) -> tuple[object, ArrayLike | None, str | None]:
    """Return images and labels, and the expression that loads or makes the images, if any."""
    if isinstance(images, str):
        n_images = N_SHOWN if n_images is None else n_images
        shown, own = datasets.load(images, n_images=n_images)
        own = own if own.max(initial=0) < target.size else None
        loaded = images if labels is None or np.array_equal(labels, own) else None
        return shown, own if labels is None else labels, loaded
    if n_images is not None:
        n_images = positive_integer("n_images", n_images)
        labels = None if labels is None else np.atleast_1d(labels)[:n_images]
    if isinstance(images, Mapping):
        return {each: values[:n_images] for each, values in images.items()}, labels, None
    if images is not None:
        images = np.atleast_1d(as_array("images", images))[:n_images]
        return images, labels, data_set(images, labels)
    items, _ = Graph(target.network).upstream(*target.items)
    sources = [each for each in items if isinstance(each, nengo.Node) and each.size_in == 0]
    size = meant(sources, (1, 0), False).size_out
    shape = (N_SHOWN if n_images is None else n_images, size)
    return np.random.default_rng(0).random(shape), labels, NOISE
