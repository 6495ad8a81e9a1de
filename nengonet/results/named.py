"""Results by label, or by the layer or Nengo object with that label."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from nengonet.checks import described, did_you_mean, slice_text
from nengonet.exceptions import InputError, UnknownName
from nengonet.tables import counted

if TYPE_CHECKING:
    from nengonet.results.result import Result

WHOLE = slice(None)


class ByName(dict):
    """Arrays by label; ``find`` looks up objects other than labels."""

    def __init__(self, arrays: Mapping[str, np.ndarray], find: Callable) -> None:
        super().__init__(arrays)
        self._find = find

    def __getitem__(self, key: object) -> np.ndarray:
        if isinstance(key, str) and super().__contains__(key):
            return super().__getitem__(key)
        return self._find(self, key)

    def __repr__(self) -> str:
        """Show shapes; the arrays would fill the screen."""
        arrays = (f"{k!r}: {array.dtype} {array.shape}" for k, array in self.items())
        return f"<{', '.join(arrays) or 'nothing'}>"

    def __contains__(self, key: object) -> bool:
        return self.get(key) is not None

    def get(self, key: object, default: object = None) -> object:
        """Return the values under a name or of an object, or the default."""
        try:
            return self[key]
        except InputError:
            return default

    def __reduce__(self) -> tuple:
        return dict, (dict(self),)


class Names:
    """The labels of a result, and the network's objects that they stand for, if known.

    A result that was read from a file has labels only; objects are then recognised by their labels.
    """

    def __init__(self, what: str, labels: list[str], objects: Mapping[object, str]) -> None:
        self._what, self.labels = what, labels
        self._objects = WeakKeyDictionary(objects)

    def find(self, thing: object) -> tuple[str, object]:
        """Return a label, and which of its values a name or object means."""
        label, chosen = thing, WHOLE
        if not isinstance(thing, str):
            label = self.label_of(_item_of(thing), self.labels)
            if _is_slice(thing):
                own = f"{label}{slice_text(thing)}"
                label, chosen = (own, WHOLE) if own in self.labels else (label, thing.slice)
        if label not in self.labels:
            got = str(thing) if hasattr(thing, "label") else described(thing)
            raise UnknownName(
                f"unknown {self._what} {got}; expected any of {', '.join(self.labels) or 'none'}, "
                f"got {got}{did_you_mean(thing, self.labels)}"
            )
        return label, chosen

    def label_of(self, item: object, labels: Iterable[str]) -> str | None:
        """Return which of the labels belongs to an object, or None."""
        if self._objects:
            try:
                return self._objects.get(item)
            except TypeError:  # numbers, lists and so on
                return None
        label = getattr(item, "label", None)
        numbered = re.compile(rf"(.*\.)?{re.escape(str(label))}( \d+)?")
        alike = [each for each in labels if numbered.fullmatch(each)]
        if len(alike) > 1:
            raise UnknownName(
                f"{item}: expected one of the names {', '.join(alike)}, as the result has no "
                "network and several of its objects share this label, got the object"
            )
        return label


def _is_slice(thing: object) -> bool:
    """Whether this is a slice of a Nengo object."""
    return hasattr(thing, "obj") and hasattr(thing, "slice")


def _item_of(thing: object) -> object:
    """Return the Ensemble, Node or probe that a layer, neurons or a slice of them belong to."""
    whole = thing.obj if _is_slice(thing) else thing
    parts = (getattr(whole, name, None) for name in ("ensemble", "node"))
    return next((each for each in parts if each is not None), whole)


@dataclasses.dataclass(frozen=True, eq=False)
class LayerResult:
    """The results of one layer, or of some of its neurons.

    Attributes
    ----------
    label : str

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> result = nn.present(net, layer, images, presentation_time=1.0)
    >>> result[layer]
    <Result of 'layer', shape (3,), 1 image>
    >>> result[layer.ensemble.neurons[:2]].counts.tolist()
    [[55, 142]]
    """

    label: str
    _result: Result
    _key: object

    def __repr__(self) -> str:
        """Show label and shape."""
        shown = counted(self._result.n_images, "image")
        return f"<Result of {self.label!r}, shape {self.shape}, {shown}>"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the layer's output for one example."""
        label, chosen = self._result.names.find(self._key)
        shape = self._result.layer(label).shape
        return shape if chosen is WHOLE else np.arange(np.prod(shape))[chosen].shape

    @property
    def amplitude(self) -> float | None:
        """Area of one spike; None where the layer does not spike."""
        return self._result.layer(self.label).amplitude

    @property
    def spiking(self) -> bool:
        """Whether the layer spikes."""
        return self.amplitude is not None

    @property
    def counts(self) -> np.ndarray:
        """(n_images, n_neurons) ndarray of int: spike counts."""
        return self._result.counts[self._key]

    @property
    def rates(self) -> np.ndarray:
        """(n_images, n_neurons) ndarray, in Hz: counts over the presentation time."""
        return self._result.rates(self._key)

    @property
    def mean_output(self) -> np.ndarray:
        """(n_images, n_neurons) ndarray: mean output over the presentation."""
        return self._result.mean_output(self._key)

    @property
    def spikes(self) -> np.ndarray:
        """(n_images,) ndarray of int: spikes of all neurons together."""
        return self._result.spikes[self._key]

    @property
    def raster(self) -> np.ndarray:
        """(n_images, n_steps, n_neurons) ndarray of int: the spikes of each step, if kept."""
        return self._result.rasters[self._key]
