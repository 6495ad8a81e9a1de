"""Neurons, weights and filters in the terms and units of NIR.

NIR's signals are numbers in time. In the tools that read NIR, a spike is the number 1 for one step
of ``dt``. Nengo's spike has the height ``amplitude / dt``, by which the weights behind it are
multiplied.
"""

from __future__ import annotations

import functools
import math
from types import ModuleType

import nengo
import numpy as np
from nengo.dists import Choice
from nengo.synapses import Alpha, LinearFilter, Lowpass

from nengonet.ann.convolution import padding_of
from nengonet.exceptions import InputError
from nengonet.neurons import IntegrateAndFire, model_of
from nengonet.nir.layout import Layout


def needed() -> ModuleType:
    """Return the package ``nir``, or raise an error that says how to install it."""
    try:
        import nir
    except ImportError:
        raise InputError(
            'expected the package nir, got none; run pip install "nengonet[nir]"'
        ) from None
    return nir


# --- neurons: threshold 1, reset to 0


# What NIR's neurons cannot express, and what to do about it.
DROPPED = {
    "tau_ref": "NIR has no refractory time: build the neurons with tau_ref=0",
    "min_voltage": "NIR has no lowest voltage: build the neurons with min_voltage=-np.inf",
    "initial_state": "NIR has no initial voltage, and tools begin at 0: build the neurons with "
    'initial_state={"voltage": nengo.dists.Choice([0])}',
    "reset": "NIR's neurons spike once a step at most and are reset to 0, where these subtract 1 "
    "for every spike: build nengo.LIF neurons",
    "rectified": "NIR's neurons integrate negative currents too: build "
    "nengonet.IntegrateAndFire neurons",
    "noise": "NIR's neurons have no noise: remove it",
}


def dropped(ensemble: nengo.Ensemble) -> list[str] | None:
    """Return the settings of neurons that NIR cannot express, or None if NIR lacks their type."""
    kind = ensemble.neuron_type
    family, first = model_of(kind).family, dict(type(kind).state) | dict(kind.initial_state or {})
    if family not in (nengo.LIF, nengo.SpikingRectifiedLinear, IntegrateAndFire):
        return None
    first = [each.options if isinstance(each, Choice) else each for each in first.values()]
    numbers = np.ndarray | list | tuple | float | int
    has = {
        "tau_ref": getattr(kind, "tau_ref", 0) > 0,
        "reset": family is not nengo.LIF,
        "rectified": family is nengo.SpikingRectifiedLinear,
        "min_voltage": getattr(kind, "min_voltage", -np.inf) > -np.inf,
        "initial_state": any(not isinstance(each, numbers) or np.any(each) for each in first),
        "noise": ensemble.noise is not None,
    }
    return [word for word, is_so in has.items() if is_so]


def neurons(
    layout: Layout, tau: float | None, tau_syn: float | None, dt: float
) -> tuple[object, float]:
    """Return NIR's neurons, and the number that stands for a current of 1.

    The neurons are leaky if there is a time constant. ``r`` is the value that tools read without a
    change: 1 for LIF. For IF, and for currents behind a filter, it turns a number that lasts one
    step of ``dt`` into a jump.
    """
    nir, full = needed(), functools.partial(np.full, layout.shape)
    same = {"v_threshold": full(1.0), "v_reset": full(0.0)}
    if tau is None:
        return nir.IF(r=full(1 / dt), **same), dt
    same["v_leak"] = full(0.0)
    if tau_syn is None:
        return nir.LIF(tau=full(tau), r=full(1.0), **same), 1.0
    same |= {"tau_mem": full(tau), "tau_syn": full(tau_syn)}
    return nir.CubaLIF(r=full(tau / dt), w_in=full(tau_syn / dt), **same), dt**2 / (tau * tau_syn)


# --- filters


def time_constant(tau: float, dt: float, euler: bool) -> float:
    """Return the time constant to write; ``euler`` adapts it to tools with Euler's method.

    In one step, Nengo decays by ``exp(-dt / tau)`` and Euler's method by ``1 - dt / tau``. With
    ``euler``, the returned time constant gives Euler's method the decay that ``tau`` has in Nengo.
    """
    return -dt / np.expm1(-dt / tau) if euler else tau


def filters_of(connection: nengo.Connection) -> list[float]:
    """Return the time constants of the low-pass filters that make up a connection's synapse."""
    synapse = connection.synapse
    known = isinstance(synapse, (Lowpass, Alpha))
    if synapse is not None and not (known and type(synapse).make_step is LinearFilter.make_step):
        raise InputError(
            f"{connection}: cannot export the synapse {synapse}; expected None, nengo.Lowpass or "
            "nengo.Alpha"
        )
    return [synapse.tau] * (1 + isinstance(synapse, Alpha)) if synapse and synapse.tau > 0 else []


def low_pass(layout: Layout, tau: np.ndarray | float, **time) -> object:
    """Return NIR's leaky integrator for a filter; ``tau`` is one number, or one per element."""
    tau = layout.place(np.broadcast_to(tau, layout.order.shape))
    zeros = np.zeros(layout.shape)
    return needed().LI(tau=time_constant(tau, **time), r=zeros + 1, v_leak=zeros)


# --- convolutions, and connections that can be written as one


def _windows(
    weight: np.ndarray, before: Layout, after: Layout, strides=1, padding=0, bias=None
) -> object:
    """Return NIR's convolution over one or two dimensions; lengths are one number or several."""
    nir, (_, *size) = needed(), before.shape

    def along(given: object) -> object:
        if isinstance(given, str):
            return given
        lengths = tuple(np.broadcast_to(given, len(size)).tolist())
        return lengths if len(size) > 1 else lengths[0]

    make = nir.Conv2d if len(size) > 1 else nir.Conv1d
    bias = np.zeros(len(weight)) if bias is None else bias
    node = make(along(size), weight, along(strides), along(padding), along(1), 1, bias)
    # nir 1.0 mistakes the rows of a kernel for its columns.
    node.output_type = {"output": np.array(after.shape)}
    return node


def convolution(
    transform: nengo.Convolution, kernel: np.ndarray, bias, before: Layout, after: Layout
) -> object:
    """Return NIR's convolution; ``bias`` has one value for each filter.

    Padding is written in whole numbers, equal on both sides, except for ``"same"`` without
    strides. TensorFlow, and so Nengo, may pad one more at the end. The kernel then begins with a
    row of zeros. nir 1.0 mistakes several groups for one; they become one, with zeros between them.
    """
    *lengths, channels, filters = kernel.shape
    groups, padding = transform.groups, 0 if transform.padding == "valid" else "same"
    within = np.kron(np.eye(groups), np.ones((channels, filters // groups)))
    kernel = np.tile(kernel, (groups, 1)) * within
    if padding == "same" and max(transform.strides) > 1:
        pads = padding_of(before.shape[1:], lengths, transform.strides, "same")
        kernel = np.pad(kernel, [*((end - begin, 0) for begin, end in pads), (0, 0), (0, 0)])
        padding = [end for _, end in pads]
    weight = np.ascontiguousarray(np.moveaxis(kernel, (-1, -2), (0, 1)))
    return _windows(weight, before, after, transform.strides, padding, bias)


def placed(
    channels: np.ndarray, pads: list[tuple[int, int]], before: Layout, after: Layout
) -> object:
    """Return a convolution with weights of 0 and 1 that puts an image into a larger one."""
    lengths = [1 + abs(end - begin) for begin, end in pads]
    weight = np.zeros((after.shape[0], before.shape[0], *lengths))
    # If a kernel has one row more on one side than on the other, it reads one row or the other.
    weight[(channels, range(len(channels)), *(max(end - begin, 0) for begin, end in pads))] = 1
    return _windows(weight, before, after, padding=list(map(max, pads)))


def pool(
    transform: nengo.Sparse, unit: float, before: Layout, after: Layout, sums: bool
) -> tuple[object, float]:
    """Return NIR's average pool and the unit behind it; in one dimension, a convolution."""
    nir, (size, strides, _) = needed(), transform.pool.geometry(transform.image_shape)
    over = math.prod(size)
    if len(size) == 1:
        weight = np.eye(before.shape[0])[:, :, np.newaxis] * np.ones(size)
        return _windows(weight, before, after, strides), unit / over
    make = nir.SumPool2d if sums else nir.AvgPool2d
    node = make(np.array(size), np.array(strides), np.array([0, 0]))
    return node, unit / over if sums else unit
