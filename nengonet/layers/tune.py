"""Choose the gain, bias and amplitude of each layer from the activations of its Keras units."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypedDict

import numpy as np
from nengo.neurons import NeuronType
from numpy.typing import ArrayLike

from nengonet import html
from nengonet.ann.activations import activations, by_name, full_scale, last_weights
from nengonet.ann.kinds import given_activation
from nengonet.ann.unweighted import Merge, Unweighted, named
from nengonet.checks import as_number, described, did_you_mean, shortened
from nengonet.exceptions import InputError, UnknownName
from nengonet.neurons import as_neuron_type, current_at, with_settings
from nengonet.tables import aligned, cells, counted
from nengonet.weights import LayerWeights, as_layer_weights


class ForumKeywords(TypedDict):
    """The keywords in `FORUM`."""

    max_rates: float
    intercepts: float


class TunedKeywords(TypedDict):
    """The keywords that `Tuned` holds for each layer."""

    gain: float
    bias: float
    amplitude: float


# The tuning of the forum's posts: a drive of 1 fires at 100 Hz. LIF gets the gain 2.033 and the
# bias 1, which is its threshold. At amplitude 1 a neuron of 100 Hz outputs 100, not 1, and the
# next layer saturates.
FORUM: Final[ForumKeywords] = {"max_rates": 100.0, "intercepts": 0.0}

Rates = float | Sequence[float] | Mapping[str, float]
AnnLayers = Iterable[LayerWeights | Unweighted] | Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class LayerTuning:
    """The values that `tune` chose for one layer.

    Parameters
    ----------
    name : str
    scale : float
        The activation that fires at ``rate``.
    rate : float, in Hz
    gain, bias, amplitude : float
        As for `nengonet.dense`.

    Examples
    --------
    >>> kernels = {"hidden": 4 * np.eye(2)}
    >>> tuned = nn.tune(kernels, [[0.5, 1.0]], nengo.LIF(), rate=200.0, percentile=100)
    >>> tuned.layers[0].scale, tuned.layers[0].rate
    (4.0, 200.0)
    """

    name: str
    scale: float
    rate: float
    gain: float
    bias: float
    amplitude: float


_COLUMNS = {
    "name": ("layer", ""),
    "scale": ("full scale", ".4g"),
    "rate": ("rate Hz", "g"),
    "gain": ("gain", ".4g"),
    "bias": ("bias", ".4g"),
    "amplitude": ("amplitude", ".4g"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Tuned(Mapping[str, TunedKeywords]):
    """The gain, bias and amplitude of each layer: see `tune`.

    ``tuned["hidden"]`` is a dict of the three, for ``nn.dense(…, **tuned["hidden"])``.

    Parameters
    ----------
    layers : tuple of LayerTuning
        One for each layer with neurons, in the network's order.
    neuron_type : nengo.neurons.NeuronType
    percentile : float
    n_images : int
        Number of images behind the activations.

    Examples
    --------
    >>> kernels = {"hidden": 4 * np.eye(2)}
    >>> tuned = nn.tune(kernels, [[0.5, 1.0]], nengo.LIF(), rate=200.0, percentile=100)
    >>> tuned
    <Tuned LIF, 200 Hz: hidden>
    >>> print(tuned)
    LIF neurons: full scale (percentile 100 of the activations on 1 image) fires at the rate
    layer   full scale  rate Hz   gain  bias  amplitude
    hidden           4      200  1.795     0       0.02
    """

    layers: tuple[LayerTuning, ...]
    neuron_type: NeuronType
    percentile: float
    n_images: int

    def __getitem__(self, name: str) -> TunedKeywords:
        for each in self.layers:
            if each.name == name:
                return {"gain": each.gain, "bias": each.bias, "amplitude": each.amplitude}
        raise UnknownName(
            f"name: expected one of the tuned layers {', '.join(self)}, got {described(name)}"
            f"{did_you_mean(name, self)}"
        )

    def __iter__(self) -> Iterator[str]:
        return (each.name for each in self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        """Show names and rates; `str` returns the table."""
        rates = "/".join(f"{rate:g}" for rate in dict.fromkeys(each.rate for each in self.layers))
        neurons = type(self.neuron_type).__name__
        return f"<Tuned {neurons}, {shortened(rates)} Hz: {shortened(', '.join(self))}>"

    def _repr_html_(self) -> str:
        return html.display(html.card(self._title(), html.table(self._cells())))

    def to_json(self) -> dict[str, Any]:
        """Return the choices as types that JSON knows."""
        return {
            "neuron_type": str(self.neuron_type),
            "percentile": self.percentile,
            "n_images": self.n_images,
            "layers": [dataclasses.asdict(each) for each in self.layers],
        }

    def __str__(self) -> str:
        """Return a table with a row for each layer."""
        return "\n".join([self._title(), *aligned(self._cells(), left=(0,))])

    def _title(self) -> str:
        return (
            f"{type(self.neuron_type).__name__} neurons: full scale (percentile "
            f"{self.percentile:g} of the activations on {counted(self.n_images, 'image')}) fires "
            "at the rate"
        )

    def _cells(self) -> list[list[str]]:
        return cells((dataclasses.asdict(each) for each in self.layers), _COLUMNS)


def tune(
    layers: AnnLayers,
    images: ArrayLike,
    neuron_type: NeuronType,
    rate: Rates = 250.0,
    *,
    percentile: float = 99.9,
) -> Tuned:
    """Choose the gain, bias and amplitude of each layer from its activations on some images.

    A neuron fires at ``rate`` for its layer's largest activation. The mean output of each neuron is
    the activation itself, on which the next layer was trained.

    Parameters
    ----------
    layers : Weights, or iterable of LayerWeights, Pool, Padding and Merge
        The layers of the Keras model from the first to the last, as for
        `nengonet.ann.activations.activations`. A dict of kernels by name works too.
    images : (n_images, ...) array_like
        Some hundred training images, scaled as for the model; uint8 is divided by 255.
    neuron_type : NeuronType
        The type of the neurons of all layers. Its amplitude has no effect.
    rate : float, sequence of float or dict of float, in Hz
        One rate for all layers; or a list of one for each layer with neurons, where the last may be
        left out; or a dict by name, which tunes these layers only. The default is half of the
        ceiling of ``nengo.LIF``, where its curve is still close to a line. A higher rate answers
        sooner and costs more spikes.
    percentile : float
        The percentile of a layer's activations, over all units and images, that counts as its
        largest. With 100, a single outlier would slow the whole layer. If the percentile is 0, as
        in a layer that is almost always silent, the maximum is used instead.

    Returns
    -------
    Tuned
        ``**tuned["hidden"]`` gives the layer ``hidden`` its gain, bias and amplitude; ``print``
        writes a table.

    Raises
    ------
    InputError
        A rate is not above 0, or the neurons cannot reach it; a layer has no activation above 0; or
        the layers cannot be computed.

    Notes
    -----
    Let ``scale`` be the largest activation, and ``current`` the current at which a neuron fires at
    ``rate``. Then ``gain = current / scale``, ``bias = 0`` and ``amplitude = scale / rate``.
    `dense` adds a Keras bias itself. An output layer is tuned by its logits.

    The mean output equals the activation at 0 and at full scale. In between it does so exactly if
    the neuron's curve is a line (``IntegrateAndFire``, ``SpikingRectifiedLinear``), and nearly for
    ``LIF``.

    Pools are left out, and so are layers whose activation is linear, as these have no neurons. The
    last layer and a Merge with the activation ``relu`` are tuned.

    Examples
    --------
    >>> weights = nn.load_weights(nn.pretrained("mnist_dense"))
    >>> images, labels = nn.datasets.load("mnist", split="train")
    >>> tuned = nn.tune(weights, images, nengo.LIF())
    >>> print(tuned)
    LIF neurons: full scale (percentile 99.9 of the activations on 500 images) fires at the rate
    layer   full scale  rate Hz    gain  bias  amplitude
    hidden         7.9      250    1.33     0     0.0316
    output        20.2      250  0.5202     0     0.0808
    >>> with nengo.Network():
    ...     pixels = nn.poisson_input((28, 28))
    ...     hidden = nn.dense(pixels, weights["hidden"], nengo.LIF(), **tuned["hidden"])
    """
    if isinstance(layers, Mapping):
        layers = [
            each if isinstance(each, Unweighted) else as_layer_weights(each, name=str(name))
            for name, each in layers.items()
        ]
    known = by_name(layers)
    as_neuron_type(neuron_type, "neuron_type")
    with_settings(neuron_type, amplitude=1.0)
    percentile = as_number("percentile", percentile, "a percentile", above=0, at_most=100)
    names = [name for name in known if _has_neurons(name, known)]
    if not names:
        raise InputError("layers: expected at least one layer with neurons, got none")
    rates = _rates(rate, names)
    found, chosen = activations(known.values(), images), []
    for name, own in rates.items():
        with named(name):
            scale = full_scale(found[name], percentile)
        gain = _current_at(neuron_type, own) / scale
        chosen.append(LayerTuning(name, scale, own, gain, 0.0, scale / own))
    return Tuned(tuple(chosen), neuron_type, percentile, len(images))


def _has_neurons(name: str, known: Mapping[str, LayerWeights | Unweighted]) -> bool:
    """Return whether neurons represent a layer's activations."""
    layer, last = known[name], name == last_weights(dict(known))
    if isinstance(layer, Unweighted):
        return isinstance(layer, Merge) and layer.activation != "linear"
    return last or given_activation(layer, last=last) != "linear"


def _rates(rate: Rates, names: list[str]) -> dict[str, float]:
    """Return the rate of each layer that is tuned, by name."""
    if isinstance(rate, Mapping):
        for name in rate:
            if name not in names:
                raise InputError(
                    f"rate: expected layers with neurons ({', '.join(names)}), got "
                    f"{described(name)}{did_you_mean(name, names)}"
                )
        given = {name: rate[name] for name in names if name in rate}
    elif np.ndim(rate) == 0:
        given = dict.fromkeys(names, rate)
    elif np.ndim(rate) == 1 and len(rate) in (len(names), max(1, len(names) - 1)):
        given = dict(zip(names, rate, strict=False))
    else:
        raise InputError(
            f"rate: expected one number, or {len(names)} for {', '.join(names)}, of which the last "
            f"may be left out, got {described(rate)}"
        )
    return {name: as_number("rate", each, "a rate in Hz", above=0) for name, each in given.items()}


def _current_at(neuron_type: NeuronType, rate: float) -> float:
    """Return the constant current of a rate, or refuse a rate that no current gives."""
    try:
        return current_at(neuron_type, rate)
    except InputError as error:
        raise InputError(
            f"rate: expected a rate that the neurons reach, got {rate:g}; {error}"
        ) from None
