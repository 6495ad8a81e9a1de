"""The result of a run: counts by layer, predictions, accuracy; and its HDF5 file.

The file is written once, at the end, under a temporary name first: an HDF5 file that is open for
writing when its process is killed cannot be opened again.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import h5py
import numpy as np
from numpy.typing import ArrayLike

from nengonet import html
from nengonet.checks import as_labels, described, did_you_mean, positive_integer
from nengonet.exceptions import InputError
from nengonet.files import Allowance, Hdf5, open_binary, output_path, reading, write_whole
from nengonet.results import readout as readouts
from nengonet.results.named import WHOLE, ByName, LayerResult, Names, UnknownName
from nengonet.results.readout import Accuracy
from nengonet.results.summary import COLUMNS, layer_rows
from nengonet.tables import cells, counted
from nengonet.version import __version__

_FORMAT = "nengonet result 5"
# What a result holds by layer, and why a layer may be missing.
_BY_LAYER = {
    "spikes": "the layer does not spike",
    "operations": "no spikes reach this layer",
    "counts": "the run did not keep this layer image by image: name it in keep",
    "means": "the run did not keep this layer image by image: name it in keep",
    "rasters": "the run did not keep this layer step by step: name it in rasters",
}
# Examples whose scores are computed at once: those of many steps are large.
_CHUNK = 500


@dataclasses.dataclass(frozen=True)
class LayerInfo:
    """Facts about a layer in a result.

    Attributes
    ----------
    label : str
    shape : tuple of int
    amplitude : float or None
        Area of one spike; None where the layer does not spike.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> result = nn.present(net, layer, images, presentation_time=1.0)
    >>> result.layers[-1]
    LayerInfo(label='layer', shape=(3,), amplitude=1.0)
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
        The layers, from the input to the last.
    settings : dict
        ``dt`` and ``presentation_time`` in seconds, ``n_steps``, ``seed``, ``readout``,
        ``precision``; for a saved run, also the ``fingerprint`` of all that its spikes depend on.
    examples : (n_images,) ndarray of int
        Each example's number, which chose its random stream.
    steps : (n_images, n_steps, n_classes) ndarray
        The last layer at every step: its spikes, or its outputs if it does not spike.
    spikes : dict of (n_images,) ndarray of int
        Spikes of each spiking layer, summed over its neurons, by label; a negative spike counts
        as one.
    operations : dict of (n_images,) ndarray of int
        Synaptic operations of each layer with weights that spikes reach, by label: a spike costs
        one for every weight other than 0 that it reaches.
    counts : dict of (n_images, n_neurons) ndarray of int
        Spike counts of each spiking layer that was kept, by label: those above 0 less those
        below 0, where neurons send both (``Tanh``, wrapped).
    means : dict of (n_images, n_neurons) ndarray
        Mean output over the presentation of each kept layer that does not spike.
    rasters : dict of (n_images, n_steps, n_neurons) ndarray of int
        Spikes of each step, for the layers that were requested (``rasters`` of `present`).
    data : dict of (n_images, n_steps, n) ndarray
        Data of the network's probes that were requested (``probes`` of `present`).
    names : dict
        Objects of the network, and their labels here.

    Notes
    -----
    ``result[layer]`` returns everything about one layer: a `nengonet.results.named.LayerResult`.
    Wherever a ``label`` is expected, the layer, the Ensemble, its neurons, the Node, the probe, or
    a slice of them works too: ``result.rates(ensemble.neurons[:10])``. A result that was read from
    a file recognises an object by its label.

    Methods take the ``label`` of a layer; a ``readout`` (`nengonet.results.readout.scores`), by
    default the run's, with its ``tau`` in seconds; ``n_steps``, to answer after this many steps
    instead of all; and ``labels``, (n_images,) or (n_images, 1) class numbers. They raise
    `InputError` for a layer that is unknown, does not spike or was not kept, and for a readout
    that needs spikes if the last layer has none.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> result = nn.present(net, layer, images, presentation_time=1.0)
    >>> result
    <Result of 1 image, 1000 steps of 0.001 s; layers input, layer>
    >>> result.counts["layer"].tolist()
    [[55, 142, 216]]
    >>> result.rates("layer").tolist()  # Hz
    [[55.0, 142.0, 216.0]]
    >>> print(result.accuracy([2]))
    1.0000 (95 % interval 0.2065 to 1.0000, 1 image, 0 ties)
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
    data: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    names: Names | Mapping[object, str] = dataclasses.field(default_factory=dict)

    # Of layers, there are `layers`.
    __iter__ = None

    def __post_init__(self) -> None:
        """Let layers and Nengo's objects be used as their labels."""
        names = self.names
        if not isinstance(names, Names):
            names = Names("layer", [info.label for info in self.layers], names)
        object.__setattr__(self, "names", names)
        for kind in _BY_LAYER:
            find = functools.partial(_find_of_layer, self.names, self.layers, kind)
            object.__setattr__(self, kind, ByName(getattr(self, kind), find))
        data = ByName(self.data, functools.partial(_find_data, self.names))
        object.__setattr__(self, "data", data)

    def __getstate__(self) -> dict:
        """Return the state to pickle: arrays and labels, but not the network's objects."""
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return fields | {"names": {}}

    def __setstate__(self, state: dict) -> None:
        """Restore a pickled state."""
        self.__init__(**state)

    def __getitem__(self, layer: object) -> LayerResult:
        """Return the results of a layer."""
        label, chosen = self.names.find(layer)
        return LayerResult(label, self, layer if chosen is not WHOLE else label)

    def __repr__(self) -> str:
        """Show sizes and layers; the arrays would fill the screen."""
        layers = ", ".join(info.label for info in self.layers)
        return (
            f"<Result of {counted(self.n_images, 'image')}, {counted(self.n_steps, 'step')} of "
            f"{self.dt:g} s; "
            f"layers {layers}>"
        )

    def _repr_html_(self) -> str:
        """Show settings and layers; `to_html` shows what needs labels or every step."""
        title = f"Result of {self.n_images:,} images"
        table = html.table(cells(layer_rows(self), COLUMNS))
        hint = "accuracy(labels) returns the accuracy; to_html(path) writes a report"
        about = html.facts(self.about())
        return html.display(html.card(title, about, table, html.tag("p", hint, class_="quiet")))

    def about(self) -> dict[str, str]:
        """Return the settings of the run, in words."""
        time = f"{self.n_steps} steps of {self.dt:g} s = {self.n_steps * self.dt:g} s"
        own = {name: self.settings.get(name) for name in ("readout", "seed", "precision")}
        return {"presentation time": time} | {k: str(v) for k, v in own.items() if v is not None}

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
        """(n_images, n_steps, n_classes) ndarray: data of an unfiltered probe of the last layer."""
        amplitude = self.layers[-1].amplitude
        return self.steps * (1.0 if amplitude is None else amplitude / self.dt)

    def layer(self, label: str) -> LayerInfo:
        """Return the facts about a layer."""
        label, _ = self.names.find(label)
        return next(info for info in self.layers if info.label == label)

    def rates(self, label: str) -> np.ndarray:
        """Return a layer's spike counts over the presentation time, (n_images, n_neurons) in Hz."""
        return self.counts[label] / (self.n_steps * self.dt)

    def mean_output(self, label: str) -> np.ndarray:
        """Return a layer's mean output over the presentation, (n_images, n_neurons)."""
        amplitude = self.layer(label).amplitude
        if amplitude is None:
            return self.means[label]
        return self.counts[label] * (amplitude / (self.n_steps * self.dt))

    def scores(self, readout: str | None = None, *, tau: float = 0.1) -> np.ndarray:
        """Compute every class's score at every step, (n_images, n_steps, n_classes)."""
        readout = self.settings["readout"] if readout is None else readout
        amplitude = self.layers[-1].amplitude
        return readouts.scores(self.outputs, readout, dt=self.dt, amplitude=amplitude, tau=tau)

    def _chunks(
        self, readout: str | None, tau: float, steps: int | slice
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield classes and ties at some steps, for ``_CHUNK`` examples at a time."""
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
        """Return the class of every example, (n_images,); the lowest if scores are equal."""
        return self._classes(readout, tau, n_steps)[0]

    def tied(
        self, readout: str | None = None, *, n_steps: int | None = None, tau: float = 0.1
    ) -> np.ndarray:
        """Return whether several classes share the highest score, (n_images,)."""
        return self._classes(readout, tau, n_steps)[1]

    def accuracy(
        self,
        labels: ArrayLike,
        readout: str | None = None,
        *,
        n_steps: int | None = None,
        tau: float = 0.1,
    ) -> Accuracy:
        """Return the share of examples whose class is right, its 95 % interval and the ties."""
        predictions, tied = self._classes(readout, tau, n_steps)
        return readouts.accuracy(predictions, labels, tied, n_classes=self.steps.shape[2])

    def latency(
        self, labels: ArrayLike, readout: str | None = None, *, tau: float = 0.1
    ) -> np.ndarray:
        """Return the accuracy after each number of steps, (n_steps,), from the first step on."""
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

    def to_html(
        self,
        path: str | os.PathLike | None = None,
        *,
        labels: ArrayLike | None = None,
        images: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        diagnosis: object | None = None,
        comparison: object | None = None,
        title: str | None = None,
    ) -> str | None:
        """Write a report as one HTML file, which needs no internet connection; or return it.

        The report has accuracy, findings, settings, a table of the layers, figures, wrong images
        and ties, as far as the arguments allow.

        Parameters
        ----------
        path : path_like, optional
            A name that ends in ``.html``; an existing page is replaced. Without a path, the page
            is returned.
        labels : (n_images,) or (n_images, 1) array_like of int, optional
        images : (n_images, ...) array_like, optional
            Images of the run, in its order. Shapes (rows, columns), with 1 or 3 channels, are
            shown.
        class_names : sequence of str, optional
        diagnosis : Diagnosis, optional
            A diagnosis from `nengonet.diagnose`: its findings and predicted accuracies are shown.
        comparison : Comparison, optional
            A comparison from `nengonet.compare`.
        title : str, optional

        Raises
        ------
        InputError
            An argument does not fit the run, or no page can be written under that name.
        """
        from nengonet.report import report, write_report

        given = {"labels": labels, "images": images, "class_names": class_names, "title": title}
        given |= {"diagnosis": diagnosis, "comparison": comparison}
        return str(report(self, **given)) if path is None else write_report(path, self, **given)

    def save(self, path: str | os.PathLike) -> None:
        """Write the result to an HDF5 file, whole or not at all."""
        write_result(self, output_path(path))


def _find_of_layer(
    names: Names, layers: Sequence[LayerInfo], kind: str, arrays: ByName, layer: object
) -> np.ndarray:
    """Return the values of a layer, or of some of its neurons."""
    label, chosen = names.find(layer)
    if label not in arrays.keys():
        spiking = next(each.amplitude for each in layers if each.label == label) is not None
        why = _BY_LAYER[kind]
        if kind in ("counts", "rasters") and not spiking:
            why = "the layer does not spike; see mean_output"
        elif kind == "means" and spiking:
            why = "the layer spikes; see mean_output"
        raise UnknownName(f"{label}: {why}")
    if chosen is WHOLE:
        return arrays[label]
    if kind in ("spikes", "operations"):
        raise UnknownName(f"{label}: expected a whole layer for its {kind}; see counts")
    return arrays[label][..., chosen]


def _find_data(names: Names, arrays: ByName, probe: object) -> np.ndarray:
    """Return the data of a probe."""
    label, known = probe, list(arrays)
    if not isinstance(probe, str):
        label = names.label_of(probe, known)
    if label in known:
        return arrays[label]
    raise UnknownName(
        f"probe {described(probe)} was not recorded; expected any of "
        f'{", ".join(known) or "none"}; pass probes=[probe] or probes="all" to present'
        f"{did_you_mean(probe, known)}"
    )


def assemble(
    layers: Sequence[LayerInfo],
    settings: dict,
    arrays: dict[str, np.ndarray],
    names: Mapping[object, str] | None = None,
) -> Result:
    """Make a result from arrays named ``examples``, ``steps``, ``kind/label`` and ``data/probe``.

    ``names``: the labels of the network's objects.
    """
    data = {name[5:]: array for name, array in arrays.items() if name.startswith("data/")}
    by_layer = {
        kind: {
            info.label: arrays[f"{kind}/{info.label}"]
            for info in layers
            if f"{kind}/{info.label}" in arrays
        }
        for kind in _BY_LAYER
    }
    of_run = tuple(layers), settings, arrays["examples"], arrays["steps"]
    return Result(*of_run, **by_layer, data=data, names=names or {})


def write_result(result: Result, path: pathlib.Path, temporary: pathlib.Path | None = None) -> None:
    """Write a result to a file, whole or not at all."""
    arrays = {"examples": result.examples, "steps": result.steps} | {
        f"{kind}/{label}": array
        for kind in (*_BY_LAYER, "data")
        for label, array in getattr(result, kind).items()
    }
    layers = [dataclasses.asdict(info) for info in result.layers]
    about = {"settings": result.settings, "layers": layers, "arrays": list(arrays)}
    # Labels are written as an array: HDF5 limits the number and length of attributes.
    parts = {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)} | arrays
    # The file is made in memory first: on a full disk, HDF5 itself ends the process.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs.update(format=_FORMAT, nengonet=__version__, checksum=_checksum(parts.values()))
        for number, (name, part) in enumerate(parts.items()):
            place, gzip = _place(number, name), {"compression": "gzip", "compression_opts": 1}
            file.create_dataset(place, data=part, **gzip)
    write_whole(path, content.getbuffer(), temporary)


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

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> result = nn.present(net, layer, images, presentation_time=1.0)
    >>> result.save("run.h5")
    >>> nn.load_result("run.h5").counts["layer"].tolist()
    [[55, 142, 216]]
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
