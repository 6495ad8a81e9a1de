"""What neurons, weights and filters are called in NIR, in its units.

NIR's signals are numbers in time: in the tools that read it, a spike is the number 1 for one step
of ``dt``. Nengo's spike has the height ``amplitude / dt``, which the weights behind it take over.
"""

from __future__ import annotations

import dataclasses
import math
from types import ModuleType

import nengo
import numpy as np
from nengo.dists import Choice
from nengo.neurons import NeuronType
from nengo.synapses import Alpha, LinearFilter, Lowpass, Synapse

from nengonet.ann.convolution import padding_of
from nengonet.exceptions import InputError
from nengonet.neurons import IntegrateAndFire, model_of
from nengonet.nir.layout import Layout

# What NIR's neurons have no word for, and what to do about it.
DROPPED = {
    "tau_ref": "NIR has no refractory time: build the neurons with tau_ref=0",
    "min_voltage": "NIR has no lowest voltage: build the neurons with min_voltage=-np.inf",
    "initial_state": "NIR has no first voltage, and tools begin at 0: build the neurons with "
    'initial_state={"voltage": nengo.dists.Choice([0])}',
    "reset": "NIR's neurons spike once a step at most and are reset to 0, where these subtract 1 "
    "for every spike: build nengo.LIF neurons",
    "rectified": "NIR's neurons integrate negative currents too: build "
    "nengonet.IntegrateAndFire neurons",
    "noise": "NIR's neurons have no noise: remove it",
}


def needed() -> ModuleType:
    """Return the package ``nir``, or say how it is installed."""
    try:
        import nir
    except ImportError:
        raise InputError(
            'expected the package nir, which writes the graph; pip install "nengonet[nir]"'
        ) from None
    return nir


@dataclasses.dataclass(frozen=True)
class Neurons:
    """A family of neurons that NIR has."""

    neuron_type: NeuronType
    leaky: bool

    def written(
        self, layout: Layout, dt: float, euler: bool, v_leak: np.ndarray, tau_syn: float | None
    ) -> object:
        """Return NIR's node: threshold 1, reset to 0.

        ``r`` is what tools read without a change: 1 for LIF; for IF and for currents behind a
        filter, what makes a number for one step of ``dt`` a jump.
        """
        nir, shape = needed(), layout.shape
        same = {"v_threshold": np.ones(shape), "v_reset": np.zeros(shape)}
        if not self.leaky:
            return nir.IF(r=np.full(shape, 1 / dt), **same)
        tau = time_constant(self.neuron_type.tau_rc, dt, euler)
        same["v_leak"] = layout.place(v_leak)
        if tau_syn is None:
            return nir.LIF(tau=np.full(shape, tau), r=np.ones(shape), **same)
        return nir.CubaLIF(
            tau_mem=np.full(shape, tau),
            tau_syn=np.full(shape, tau_syn),
            r=np.full(shape, tau / dt),
            w_in=np.full(shape, tau_syn / dt),
            **same,
        )

    def unit(self, dt: float, euler: bool, tau_syn: float | None) -> float:
        """Return what the node takes for a current of 1."""
        if not self.leaky:
            return dt
        tau = time_constant(self.neuron_type.tau_rc, dt, euler)
        return 1.0 if tau_syn is None else dt**2 / (tau * tau_syn)


def neurons_of(neuron_type: NeuronType, noise: object) -> tuple[Neurons | None, list[str]]:
    """Return the family of a neuron type, if NIR has it, and what NIR cannot say of it."""
    family, missing = model_of(neuron_type).family, []
    if family is nengo.LIF:
        missing += ["tau_ref"] if neuron_type.tau_ref > 0 else []
    elif family in (nengo.SpikingRectifiedLinear, IntegrateAndFire):
        missing.append("reset")
        missing += ["rectified"] if family is nengo.SpikingRectifiedLinear else []
    else:
        return None, []
    if getattr(neuron_type, "min_voltage", -np.inf) > -np.inf:
        missing.append("min_voltage")
    first = dict(type(neuron_type).state) | dict(neuron_type.initial_state or {})
    if not all(map(_is_zero, first.values())):
        missing.append("initial_state")
    missing += ["noise"] if noise is not None else []
    return Neurons(neuron_type, leaky=family is nengo.LIF), missing


def _is_zero(first: object) -> bool:
    values = first.options if isinstance(first, Choice) else first
    return isinstance(values, np.ndarray | list | tuple | float | int) and not np.any(values)


def time_constant(tau: float, dt: float, euler: bool) -> float:
    """Return the time constant; with ``euler`` the one whose Euler steps decay as Nengo's do.

    Nengo decays by ``exp(-dt / tau)`` in a step, Euler by ``1 - dt / tau``.
    """
    return -dt / np.expm1(-dt / tau) if euler else tau


def filters_of(synapse: Synapse | None) -> list[float] | None:
    """Return the time constants of the low-pass filters that make a synapse; None for others."""
    if synapse is None:
        return []
    if type(synapse).make_step is not LinearFilter.make_step:
        return None
    if isinstance(synapse, (Lowpass, Alpha)):
        n = 2 if isinstance(synapse, Alpha) else 1
        return [synapse.tau] * n if synapse.tau > 0 else []
    return None


def low_pass(layout: Layout, tau: np.ndarray, dt: float, euler: bool) -> object:
    """Return NIR's leaky integrator for a filter, with a time constant for each element."""
    taus = [time_constant(each, dt, euler) for each in layout.place(tau).ravel()]
    zeros = np.zeros(layout.shape)
    return needed().LI(tau=np.reshape(taus, layout.shape), r=zeros + 1, v_leak=zeros)


def pool(
    size: tuple[int, ...], strides: tuple[int, ...], before: Layout, sums: bool
) -> tuple[object, float]:
    """Return NIR's pool, and what the unit in front of it is divided by; a convolution in one."""
    nir, (channels, *length) = needed(), before.shape
    if len(size) == 1:
        weight = np.eye(channels)[:, :, np.newaxis] * np.ones(size)
        node = nir.Conv1d(length[0], weight, strides[0], 0, 1, 1, np.zeros(channels))
        return node, math.prod(size)
    make = nir.SumPool2d if sums else nir.AvgPool2d
    node = make(np.array(size), np.array(strides), np.array([0, 0]))
    return node, math.prod(size) if sums else 1


def placed(channels: np.ndarray, pads: list[tuple[int, int]], before: Layout, after: Layout):
    """Return a convolution that puts an image into a larger one: its weights are 0 and 1."""
    nir, (n_channels, *size) = needed(), before.shape
    widths = [1 + abs(b - a) for a, b in pads]
    weight = np.zeros((after.shape[0], n_channels, *widths))
    # A kernel of a row more on one side than the other reads one row or the other.
    weight[(channels, np.arange(n_channels), *(max(b - a, 0) for a, b in pads))] = 1
    padding = tuple(max(pad) for pad in pads)
    if len(size) == 1:
        node = nir.Conv1d(size[0], weight, 1, padding[0], 1, 1, np.zeros(len(weight)))
    else:
        node = nir.Conv2d(tuple(size), weight, (1, 1), padding, (1, 1), 1, np.zeros(len(weight)))
    node.output_type = {"output": np.array(after.shape)}
    return node


def convolution(
    transform: nengo.Convolution, factor: np.ndarray, bias: np.ndarray, layout: Layout
) -> object:
    """Return NIR's convolution; ``factor`` and ``bias`` have one value for each filter.

    Padding stands in whole numbers, alike on both sides, but for ``"same"`` without strides. Where
    TensorFlow, and so Nengo, pads one more at the end, the kernel begins with a row of zeros.
    """
    nir, size = needed(), transform.input_shape.spatial_shape
    kernel = np.asarray(transform.init, dtype=np.float64) * factor
    padding = transform.padding
    strides = tuple(map(int, transform.strides))
    if padding == "valid":
        padding = (0,) * transform.dimensions
    elif max(strides) > 1:
        pads = padding_of(size, kernel.shape[:-2], strides, "same")
        odd = [(after - before, 0) for before, after in pads]
        kernel = np.pad(kernel, [*odd, (0, 0), (0, 0)])
        padding = tuple(after for _, after in pads)
    one = transform.dimensions == 1
    given = {"stride": strides[0] if one else strides, "bias": bias}
    given["padding"] = padding[0] if one and not isinstance(padding, str) else padding
    given["dilation"], given["input_shape"] = (1, size[0]) if one else ((1, 1), tuple(size))
    make, before = nir.Conv1d if one else nir.Conv2d, (transform.input_shape.n_channels, *size)
    node = make(weight=_channels_first(kernel), groups=transform.groups, **given)
    if not np.array_equal(node.input_type["input"], before):
        # nir 1.0 takes the channels of a group for all: such files cannot be read.
        node = make(weight=_channels_first(_ungrouped(kernel, transform.groups)), groups=1, **given)
    # And the rows of a kernel for its columns.
    node.output_type = {"output": np.array(layout.shape)}
    return node


def _channels_first(kernel: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(kernel, (-1, -2), (0, 1)))


def _ungrouped(kernel: np.ndarray, groups: int) -> np.ndarray:
    """Return the kernel of one group that computes the same: 0 for the channels of others."""
    *size, channels, filters = kernel.shape
    whole = np.zeros((*size, groups, channels, groups, filters // groups))
    parts = kernel.reshape(*size, channels, groups, filters // groups)
    for group in range(groups):
        whole[..., group, :, group, :] = parts[..., group, :]
    return whole.reshape(*size, groups * channels, filters)
