"""What a run gives: counts by layer, predictions, accuracy; and its file.

A finished run is one HDF5 file. While it runs, every finished example is appended to
``FILE.partial``, a journal whose records carry a checksum: a run killed in the middle of a write
loses that one record. The HDF5 file is written once, at the end, as ``FILE.writing`` first: one
that is open for writing when its process is killed cannot be opened again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import math
import os
import pathlib
import re
import uuid
from collections.abc import Iterator

import h5py
import numpy as np

from nengonet.checks import as_labels, did_you_mean, positive_integer
from nengonet.exceptions import InputError
from nengonet.files import Allowance, Hdf5, open_binary, reading
from nengonet.results import journal as journals
from nengonet.results import readout as readouts
from nengonet.results.readout import Accuracy
from nengonet.version import __version__

_FORMAT = "nengonet result 4"
_TEXTS = ("settings", "layers", "arrays")
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

    def layer(self, label: str) -> LayerInfo:
        """Return what is known of a layer.

        Parameters
        ----------
        label : str

        Returns
        -------
        LayerInfo

        Raises
        ------
        InputError
            Unknown layer.
        """
        for info in self.layers:
            if info.label == label:
                return info
        known = [info.label for info in self.layers]
        raise InputError(
            f"unknown layer {label!r}; expected any of {', '.join(known)}, got {label!r}"
            f"{did_you_mean(label, known)}"
        )

    @property
    def outputs(self) -> np.ndarray:
        """(n_images, n_steps, n_classes) ndarray: as an unfiltered probe of the last layer."""
        return self._outputs(slice(None))

    def _outputs(self, part: slice) -> np.ndarray:
        amplitude = self.layers[-1].amplitude
        return self.steps[part] * (1.0 if amplitude is None else amplitude / self.dt)

    def mean_output(self, label: str) -> np.ndarray:
        """Return a layer's mean output over the presentation.

        Parameters
        ----------
        label : str

        Returns
        -------
        mean : (n_images, n_neurons) ndarray

        Raises
        ------
        InputError
            No such layer, or one that was not kept.
        """
        amplitude = self.layer(label).amplitude
        if amplitude is None:
            return self._kept(self.means, label)
        return self._kept(self.counts, label) * (amplitude / (self.n_steps * self.dt))

    def _kept(self, arrays: dict[str, np.ndarray], label: str) -> np.ndarray:
        self.layer(label)
        if label not in arrays:
            raise InputError(
                f"{label}: the run did not keep this layer image by image: name it in keep"
            )
        return arrays[label]

    def scores(self, readout: str | None = None, *, tau: float = 0.1) -> np.ndarray:
        """Compute every class's score at every step.

        Parameters
        ----------
        readout : str, optional
            See `nengonet.results.readout.scores`. By default the one of the run.
        tau : float, in seconds
            For ``"filtered"``.

        Returns
        -------
        scores : (n_images, n_steps, n_classes) ndarray

        Raises
        ------
        InputError
            No such readout, or one that needs spikes where the last layer has none.
        """
        return self._scores(slice(None), readout, tau)

    def _scores(self, part: slice, readout: str | None, tau: float) -> np.ndarray:
        return readouts.scores(
            self._outputs(part),
            self.settings["readout"] if readout is None else readout,
            dt=self.dt,
            amplitude=self.layers[-1].amplitude,
            tau=tau,
        )

    def _chunks(self) -> Iterator[slice]:
        """Yield the examples some at a time, so that few scores are in memory at once."""
        for start in range(0, self.n_images, _CHUNK):
            yield slice(start, start + _CHUNK)

    def predictions(
        self, readout: str | None = None, *, n_steps: int | None = None, tau: float = 0.1
    ) -> np.ndarray:
        """Return the class of every example.

        Parameters
        ----------
        readout : str, optional
            By default the one of the run.
        n_steps : int, optional
            Answer after this many steps instead of all.
        tau : float, in seconds
            For ``"filtered"``.

        Returns
        -------
        classes : (n_images,) ndarray of int
            The lowest class number where several share the highest score.

        Raises
        ------
        InputError
            As for `scores`; or there are not so many steps.
        """
        return self._predict(readout, n_steps, tau)[0]

    def tied(
        self, readout: str | None = None, *, n_steps: int | None = None, tau: float = 0.1
    ) -> np.ndarray:
        """Return for every example whether several classes share the highest score.

        Parameters
        ----------
        readout, n_steps, tau
            As for `predictions`.

        Returns
        -------
        tied : (n_images,) ndarray of bool

        Raises
        ------
        InputError
            As for `predictions`.
        """
        return self._predict(readout, n_steps, tau)[1]

    def _predict(self, readout, n_steps, tau):
        step = self.n_steps if n_steps is None else n_steps
        step = positive_integer("n_steps", step, 1, self.n_steps)
        found = [
            readouts.classes(self._scores(part, readout, tau)[:, step - 1])
            for part in self._chunks()
        ]
        classes, tied = (np.concatenate(each) for each in zip(*found, strict=True))
        return classes, tied

    def accuracy(
        self,
        labels: np.ndarray,
        readout: str | None = None,
        *,
        n_steps: int | None = None,
        tau: float = 0.1,
    ) -> Accuracy:
        """Return the share of examples whose class is right.

        Parameters
        ----------
        labels : (n_images,) or (n_images, 1) array_like of int
        readout, n_steps, tau
            As for `predictions`.

        Returns
        -------
        Accuracy
            With its 95 % interval and the number of ties.

        Raises
        ------
        InputError
            As for `predictions`; or the labels are not one for each example.
        """
        predictions, tied = self._predict(readout, n_steps, tau)
        return readouts.accuracy(predictions, labels, tied, n_classes=self.steps.shape[2])

    def latency(
        self, labels: np.ndarray, readout: str | None = None, *, tau: float = 0.1
    ) -> np.ndarray:
        """Return the accuracy after every number of steps.

        Parameters
        ----------
        labels : (n_images,) or (n_images, 1) array_like of int
        readout : str, optional
        tau : float, in seconds

        Returns
        -------
        accuracy : (n_steps,) ndarray
            Element ``k`` is the accuracy after ``k + 1`` steps.

        Raises
        ------
        InputError
            As for `accuracy`.
        """
        labels = as_labels(labels, self.n_images, self.steps.shape[2])
        right = np.zeros(self.n_steps, dtype=np.int64)
        for part in self._chunks():
            classes, _ = readouts.classes(self._scores(part, readout, tau))
            right += (classes == labels[part, None]).sum(axis=0)
        return right / self.n_images

    def rates(self, label: str) -> np.ndarray:
        """Return a layer's measured rates: spike counts over the presentation time.

        Parameters
        ----------
        label : str

        Returns
        -------
        rates : (n_images, n_neurons) ndarray, in Hz

        Raises
        ------
        InputError
            No such layer, or one that does not spike or was not kept.
        """
        if self.layer(label).amplitude is None:
            raise InputError(f"{label}: the layer does not spike; see mean_output")
        return self._kept(self.counts, label) / (self.n_steps * self.dt)

    def spikes_per_image(self) -> dict[str, float]:
        """Return the mean number of spikes that each spiking layer emits for one example."""
        return {label: float(spikes.mean()) for label, spikes in self.spikes.items()}

    def operations_per_image(self) -> dict[str, float]:
        """Return the mean number of synaptic operations for one example, by receiving layer.

        `nengonet.results.operations.ann_multiply_adds` gives what the ANN needs instead.
        """
        return {label: float(each.mean()) for label, each in self.operations.items()}

    def save(self, path: str | os.PathLike) -> None:
        """Write the result to an HDF5 file, whole or not at all.

        Parameters
        ----------
        path : path_like
        """
        path = pathlib.Path(path)
        write_result(self, path, path.with_name(f".{uuid.uuid4().hex}.writing"))


def write_result(result: Result, path: pathlib.Path, temporary: pathlib.Path) -> None:
    """Write a result to a temporary file beside its own, and rename that."""
    infos, arrays = [dataclasses.asdict(info) for info in result.layers], _flat(result)
    for name, value in zip(_TEXTS, (result.settings, infos, list(arrays)), strict=True):
        # As arrays: the number and length of labels is unlimited, that of attributes is not.
        arrays[name] = np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)
    # In memory first: HDF5 itself ends the process on a full disk.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        attributes = {"format": _FORMAT, "nengonet": __version__, "checksum": _checksum(arrays)}
        file.attrs.update(attributes)
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip", compression_opts=1)
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
            texts = {name: _array(file, name) for name in _TEXTS}
            settings, layers, names = (json.loads(text.tobytes()) for text in texts.values())
            arrays = {name: _array(file, name) for name in names}
            if file.attribute("checksum") != _checksum(arrays | texts):
                raise InputError("damaged file (its content is not what was written)")
        named = {name: arrays.pop(name) for name in ("examples", "steps")}
        for number, info in enumerate(layers):
            for kind in _BY_LAYER:
                if (name := _name(kind, number, info["label"])) in arrays:
                    named[f"{kind}/{info['label']}"] = arrays[name]
        return assemble(layers, settings, named)


def _array(file: Hdf5, name: str) -> np.ndarray:
    found = file.get(name)
    values = file.array(found) if isinstance(found, h5py.Dataset) else None
    if values is None:
        raise InputError(f"{name}: damaged file (this part is missing)")
    return values


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    total = hashlib.sha256()
    for name, array in arrays.items():
        total.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        total.update(np.ascontiguousarray(array))
    return total.hexdigest()


def assemble(layers: list[dict], settings: dict, arrays: dict[str, np.ndarray]) -> Result:
    """Make a result of flat arrays, as the file and the journal hold them."""

    def group(name: str) -> dict[str, np.ndarray]:
        return {
            info["label"]: arrays[f"{name}/{info['label']}"]
            for info in layers
            if f"{name}/{info['label']}" in arrays
        }

    return Result(
        layers=tuple(
            LayerInfo(info["label"], tuple(info["shape"]), info["amplitude"]) for info in layers
        ),
        settings=settings,
        examples=arrays["examples"],
        steps=arrays["steps"],
        **{name: group(name) for name in _BY_LAYER},
    )


def _flat(result: Result) -> dict[str, np.ndarray]:
    """Return the arrays by their names in the file."""
    arrays = {"examples": result.examples, "steps": result.steps}
    for kind in _BY_LAYER:
        of_kind = getattr(result, kind)
        for number, info in enumerate(result.layers):
            if info.label in of_kind:
                arrays[_name(kind, number, info.label)] = of_kind[info.label]
    return arrays


def _name(kind: str, number: int, label: str) -> str:
    """Return an array's name in the file: a label that HDF5 may not take is a number."""
    return f"{kind}/{label if re.fullmatch(r'[A-Za-z0-9_ -]{1,99}', label) else f'#{number}'}"


class Collector:
    """The arrays of a run, filled some examples at a time."""

    def __init__(self, examples: np.ndarray) -> None:
        self.examples, self.n_done = examples, 0
        self.arrays: dict[str, np.ndarray] = {}

    def add(self, batch: dict[str, np.ndarray]) -> None:
        """Add finished examples, by the names that `assemble` knows."""
        start, numbers = self.n_done, batch["examples"]
        if not np.array_equal(numbers, self.examples[start : start + len(numbers)]):
            raise ValueError(f"expected the example {start} of the run, got {numbers[:1]}")
        kept = self.arrays or batch
        if {name: rows.shape[1:] for name, rows in batch.items()} != {
            name: rows.shape[1:] for name, rows in kept.items()
        } or any(len(rows) != len(numbers) for rows in batch.values()):
            raise ValueError("expected the same arrays as of the examples before")
        for name, rows in batch.items():
            if name not in self.arrays:
                self.arrays[name] = np.empty((len(self.examples), *rows.shape[1:]), rows.dtype)
            wanted = np.promote_types(self.arrays[name].dtype, rows.dtype)
            if wanted != self.arrays[name].dtype:
                self.arrays[name] = self.arrays[name].astype(wanted)
            self.arrays[name][start : start + len(numbers)] = rows
        self.n_done += len(numbers)


class Journal(journals.Journal[dict[str, np.ndarray]]):
    """The finished examples of a run that is not finished, some in each record.

    See `nengonet.results.journal.Journal`; a record is a dict of ndarray, examples first.
    """

    magic = b"nengonet journal 4\n"
    holds = "unfinished run"
    advice = "resume with the same settings, or delete the file"

    @staticmethod
    def encode(record: dict[str, np.ndarray]) -> bytes:
        """Return a line of names, types and shapes, and the arrays' bytes after it."""
        heads = [(name, array.dtype.str, array.shape) for name, array in record.items()]
        line = json.dumps(heads).encode() + b"\n"
        return b"".join([line, *(np.ascontiguousarray(array) for array in record.values())])

    @staticmethod
    def decode(payload: bytes) -> dict[str, np.ndarray]:
        """Return the arrays."""
        start = payload.index(b"\n") + 1
        arrays = {}
        for name, kind, shape in json.loads(payload[:start]):
            dtype = np.dtype(kind)
            if dtype.kind not in "biuf":
                raise ValueError(f"expected numbers, got values of type {dtype}")
            count = math.prod(shape)
            arrays[name] = np.frombuffer(payload, dtype, count, start).reshape(shape)
            start += count * dtype.itemsize
        if start != len(payload):
            raise ValueError("expected nothing after the arrays")
        return arrays
