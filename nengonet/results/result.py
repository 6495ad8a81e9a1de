"""What a run gives: counts by layer, predictions, accuracy; and its HDF5 file.

The file is written once, at the end, as another one first: one that is open for writing when its
process is killed cannot be opened again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence

import h5py
import numpy as np

from nengonet.checks import as_labels, described, did_you_mean, positive_integer
from nengonet.exceptions import InputError
from nengonet.files import Allowance, Hdf5, open_binary, reading
from nengonet.results import readout as readouts
from nengonet.results.readout import Accuracy
from nengonet.version import __version__

_FORMAT = "nengonet result 5"
_BY_LAYER = ("spikes", "operations", "counts", "means", "rasters")
# Examples whose scores are computed at once: those of many steps are large.
_CHUNK = 500


@dataclasses.dataclass(frozen=True)
class LayerInfo:
    """What a result knows of a layer.

    Attributes
    ----------
    label : str
    shape : tuple of int
    amplitude : float or None
        Area of one spike; None where the layer does not spike.
    """

    label: str
    shape: tuple[int, ...]
    amplitude: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """Counts and outputs of a run, one row per example.

    Attributes
    ----------
    layers : tuple of LayerInfo
        From the input to the last.
    settings : dict
        ``dt`` and ``presentation_time`` in seconds, ``n_steps``, ``seed``, ``readout``,
        ``precision``; of a saved run, also the ``fingerprint`` of what its spikes depend on.
    examples : (n_images,) ndarray of int
        Each example's number, which chose its random stream.
    steps : (n_images, n_steps, n_classes) ndarray
        The last layer at every step: its spikes, or its outputs where it does not spike.
    spikes : dict of (n_images,) ndarray of int
        Spikes of each spiking layer, all its neurons together, by label; one below 0 counts too.
    operations : dict of (n_images,) ndarray of int
        Synaptic operations of each layer with weights that spikes come into, by label: a spike
        costs one for every weight other than 0 that it reaches.
    counts : dict of (n_images, n_neurons) ndarray of int
        Spike counts of each spiking layer that was kept, by label: those above 0 less those
        below 0, where neurons send both (``Tanh``, wrapped).
    means : dict of (n_images, n_neurons) ndarray
        Mean output over the presentation of each kept layer that does not spike.
    rasters : dict of (n_images, n_steps, n_neurons) ndarray of int
        Spikes of each step, for the layers that were asked for.

    Notes
    -----
    Methods take the ``label`` of a layer; a ``readout`` (`nengonet.results.readout.scores`), by
    default the run's, with its ``tau`` in seconds; ``n_steps``, to answer after this many steps
    instead of all; and ``labels``, (n_images,) or (n_images, 1) class numbers. They raise
    `InputError` for a layer that is unknown, does not spike or was not kept, and for a readout
    that needs spikes where the last layer has none.
    """

    layers: tuple[LayerInfo, ...]
    settings: dict
    examples: np.ndarray
    steps: np.ndarray
    spikes: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    operations: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    counts: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    means: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    rasters: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        """Write sizes and layers; the arrays would fill the screen."""
        layers = ", ".join(info.label for info in self.layers)
        return (
            f"<Result of {self.n_images} images, {self.n_steps} steps of {self.dt:g} s; "
            f"layers {layers}>"
        )

    @property
    def n_images(self) -> int:
        """Number of examples."""
        return len(self.examples)

    @property
    def dt(self) -> float:
        """Length of a step, in seconds."""
        return self.settings["dt"]

    @property
    def n_steps(self) -> int:
        """Number of steps of a presentation."""
        return self.settings["n_steps"]

    @property
    def outputs(self) -> np.ndarray:
        """(n_images, n_steps, n_classes) ndarray: as an unfiltered probe of the last layer."""
        amplitude = self.layers[-1].amplitude
        return self.steps * (1.0 if amplitude is None else amplitude / self.dt)

    def layer(self, label: str) -> LayerInfo:
        """Return what is known of a layer."""
        known = [info.label for info in self.layers]
        if not isinstance(label, str) or label not in known:
            got = described(label)
            raise InputError(
                f"unknown layer {got}; expected any of {', '.join(known)}, got {got}"
                f"{did_you_mean(label, known)}"
            )
        return self.layers[known.index(label)]

    def rates(self, label: str) -> np.ndarray:
        """Return a layer's measured rates: spike counts over the presentation time.

        Returns
        -------
        rates : (n_images, n_neurons) ndarray, in Hz
        """
        if self.layer(label).amplitude is None:
            raise InputError(f"{label}: the layer does not spike; see mean_output")
        return self._kept(self.counts, label) / (self.n_steps * self.dt)

    def mean_output(self, label: str) -> np.ndarray:
        """Return a layer's mean output over the presentation.

        Returns
        -------
        mean : (n_images, n_neurons) ndarray
        """
        amplitude = self.layer(label).amplitude
        if amplitude is None:
            return self._kept(self.means, label)
        return self._kept(self.counts, label) * (amplitude / (self.n_steps * self.dt))

    def _kept(self, arrays: dict[str, np.ndarray], label: str) -> np.ndarray:
        if label not in arrays:
            raise InputError(
                f"{label}: the run did not keep this layer image by image: name it in keep"
            )
        return arrays[label]

    def scores(self, readout: str | None = None, *, tau: float = 0.1) -> np.ndarray:
        """Compute every class's score at every step.

        Returns
        -------
        scores : (n_images, n_steps, n_classes) ndarray
        """
        readout = self.settings["readout"] if readout is None else readout
        amplitude = self.layers[-1].amplitude
        return readouts.scores(self.outputs, readout, dt=self.dt, amplitude=amplitude, tau=tau)

    def _chunks(
        self, readout: str | None, tau: float, steps: int | slice
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield classes and ties at some steps, of ``_CHUNK`` examples after the other."""
        for n in range(0, self.n_images, _CHUNK):
            part = dataclasses.replace(self, steps=self.steps[n : n + _CHUNK])
            yield readouts.classes(part.scores(readout, tau=tau)[:, steps])

    def _classes(
        self, readout: str | None, tau: float, n_steps: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return classes and ties after a number of steps."""
        found = self._chunks(readout, tau, self._last(n_steps))
        return tuple(np.concatenate(each) for each in zip(*found, strict=True))

    def _last(self, n_steps: int | None) -> int:
        n_steps = self.n_steps if n_steps is None else n_steps
        return positive_integer("n_steps", n_steps, 1, self.n_steps) - 1

    def predictions(
        self, readout: str | None = None, *, n_steps: int | None = None, tau: float = 0.1
    ) -> np.ndarray:
        """Return the class of every example.

        Returns
        -------
        classes : (n_images,) ndarray of int
            The lowest class number where several share the highest score.
        """
        return self._classes(readout, tau, n_steps)[0]

    def tied(
        self, readout: str | None = None, *, n_steps: int | None = None, tau: float = 0.1
    ) -> np.ndarray:
        """Return for every example whether several classes share the highest score.

        Returns
        -------
        tied : (n_images,) ndarray of bool
        """
        return self._classes(readout, tau, n_steps)[1]

    def accuracy(
        self,
        labels: np.ndarray,
        readout: str | None = None,
        *,
        n_steps: int | None = None,
        tau: float = 0.1,
    ) -> Accuracy:
        """Return the share of examples whose class is right.

        Returns
        -------
        Accuracy
            With its 95 % interval and the number of ties.
        """
        predictions, tied = self._classes(readout, tau, n_steps)
        return readouts.accuracy(predictions, labels, tied, n_classes=self.steps.shape[2])

    def latency(
        self, labels: np.ndarray, readout: str | None = None, *, tau: float = 0.1
    ) -> np.ndarray:
        """Return the accuracy after every number of steps.

        Returns
        -------
        accuracy : (n_steps,) ndarray
            Element ``k`` is the accuracy after ``k + 1`` steps.
        """
        labels = as_labels(labels, self.n_images, self.steps.shape[2])
        right = np.zeros(self.n_steps, dtype=np.int64)
        for k, (classes, _) in enumerate(self._chunks(readout, tau, slice(None))):
            right += (classes.T == labels[k * _CHUNK : (k + 1) * _CHUNK]).sum(axis=1)
        return right / self.n_images

    def spikes_per_image(self) -> dict[str, float]:
        """Return the mean number of spikes that each spiking layer emits for one example."""
        return {label: float(spikes.mean()) for label, spikes in self.spikes.items()}

    def operations_per_image(self) -> dict[str, float]:
        """Return the mean number of synaptic operations for one example, by receiving layer.

        `nengonet.results.operations.ann_multiply_adds` gives what the ANN needs instead.
        """
        return {label: float(each.mean()) for label, each in self.operations.items()}

    def save(self, path: str | os.PathLike) -> None:
        """Write the result to an HDF5 file, whole or not at all."""
        path = pathlib.Path(path)
        write_result(self, path, path.with_name(f".{uuid.uuid4().hex}.writing"))


def assemble(layers: Sequence[LayerInfo], settings: dict, arrays: dict[str, np.ndarray]) -> Result:
    """Make a result of arrays named ``examples``, ``steps`` and ``kind/label``."""
    by_layer = {
        kind: {
            info.label: arrays[f"{kind}/{info.label}"]
            for info in layers
            if f"{kind}/{info.label}" in arrays
        }
        for kind in _BY_LAYER
    }
    return Result(tuple(layers), settings, arrays["examples"], arrays["steps"], **by_layer)


def write_result(result: Result, path: pathlib.Path, temporary: pathlib.Path) -> None:
    """Write a result to a temporary file beside its own, and rename that."""
    arrays = {"examples": result.examples, "steps": result.steps} | {
        f"{kind}/{label}": array
        for kind in _BY_LAYER
        for label, array in getattr(result, kind).items()
    }
    layers = [dataclasses.asdict(info) for info in result.layers]
    about = {"settings": result.settings, "layers": layers, "arrays": list(arrays)}
    # As an array: the number and length of labels is unlimited, that of attributes is not.
    parts = {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)} | arrays
    # In memory first: HDF5 itself ends the process on a full disk.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs.update(format=_FORMAT, nengonet=__version__, checksum=_checksum(parts.values()))
        for number, (name, part) in enumerate(parts.items()):
            place, gzip = _place(number, name), {"compression": "gzip", "compression_opts": 1}
            file.create_dataset(place, data=part, **gzip)
    try:
        with temporary.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        with contextlib.suppress(OSError):  # not every system can sync a folder
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def load_result(path: str | os.PathLike) -> Result:
    """Read a result that a run saved.

    Parameters
    ----------
    path : path_like

    Returns
    -------
    Result

    Raises
    ------
    InputError
        The file does not exist, is damaged, or was not written by nengonet.
    """
    with reading(path, "a result written by nengonet"), open_binary(path) as content:
        # Gzip makes zeros up to 1032 times smaller.
        allowance = Allowance(os.fstat(content.fileno()).st_size, expansion=1032)
        with Hdf5(content, allowance) as file:
            found = file.attribute("format", default="another HDF5 file")
            if found != _FORMAT:
                raise InputError(
                    f"expected a result written by nengonet ({_FORMAT}), got {found}; run it again "
                    "with this version, or give the file of another run"
                )
            parts = [_part(file, "about")]
            about = json.loads(parts[0].tobytes())
            parts += [
                _part(file, _place(number, name)) for number, name in enumerate(about["arrays"], 1)
            ]
            if file.attribute("checksum") != _checksum(parts):
                raise InputError("damaged file (its content is not what was written)")
        layers = [LayerInfo(**info | {"shape": tuple(info["shape"])}) for info in about["layers"]]
        return assemble(
            layers, about["settings"], dict(zip(about["arrays"], parts[1:], strict=True))
        )


def _place(number: int, name: str) -> str:
    """Return where an array stands in the file: by number where HDF5 may not take its name."""
    return name if re.fullmatch(r"\w+(/[\w -]{1,99})?", name, re.ASCII) else f"#{number}"


def _part(file: Hdf5, name: str) -> np.ndarray:
    found = file.get(name)
    values = file.array(found) if isinstance(found, h5py.Dataset) else None
    if values is None:
        raise InputError(f"{name}: damaged file (this part is missing)")
    return values


def _checksum(arrays: Iterable[np.ndarray]) -> str:
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype.str} {array.shape} ".encode())
        total.update(np.ascontiguousarray(array))
    return total.hexdigest()


class Collector:
    """The arrays of a run, filled some examples at a time."""

    def __init__(self, examples: np.ndarray) -> None:
        self.examples, self.n_done = examples, 0
        self.arrays: dict[str, np.ndarray] = {}

    def add(self, batch: dict[str, np.ndarray]) -> None:
        """Add finished examples, by the names that `assemble` knows."""
        numbers, start = batch["examples"], self.n_done
        end = start + len(numbers)
        if not np.array_equal(numbers, self.examples[start:end]):
            raise ValueError(f"expected the example {start} of the run, got {numbers[:1]}")
        for name, rows in batch.items():
            kept = self.arrays.get(name)
            if kept is None:
                kept = np.empty((len(self.examples), *rows.shape[1:]), rows.dtype)
            kept = kept.astype(np.promote_types(kept.dtype, rows.dtype), copy=False)
            kept[start:end] = rows
            self.arrays[name] = kept
        self.n_done = end
