"""Batched steps of neurons: in Numba, in one call of the neuron type, or example by example."""

from __future__ import annotations

from collections.abc import Callable

import nengo
import numpy as np
from nengo.builder.neurons import SimNeurons

from nengonet.minibatch.registry import Context, Step, register
from nengonet.minibatch.signals import as_view
from nengonet.neurons import IntegrateAndFire
from nengonet.streams import neuron_seeds

# Their step is element-wise along the neurons, so it can be called on (n, batch) arrays.
_ELEMENTWISE_MODULES = ("nengo.neurons", "nengonet.neurons.rectified")
_TRIAL_STEPS = 4


@register(SimNeurons)
def _neurons(operator: SimNeurons, context: Context) -> Step:
    if operator.state_extra:
        return _random_step(operator, context)
    kernel = kernel_of(operator, context)
    if kernel is not None:
        return kernel(operator, context)
    output = context.signals[operator.output]
    current = _full(context.signals.operand(operator.J), output.shape)
    state = {name: context.signals[signal] for name, signal in operator.state.items()}
    in_order = all(array.flags.c_contiguous for array in (current, output, *state.values()))
    if type(operator.neurons).step is nengo.LIF.step and in_order:
        return lif_in_numpy(operator.neurons, context.dt, current, output, **state)
    step, dt = operator.neurons.step, context.dt
    if context.constant((operator, "elementwise"), lambda: _is_elementwise(operator, dt)):
        return lambda: step(dt, current, output, **state)

    def step_each():
        for b in range(output.shape[-1]):
            example = {name: array[..., b] for name, array in state.items()}
            step(dt, current[..., b].copy(), output[..., b], **example)

    return step_each


def _is_elementwise(operator: SimNeurons, dt: float) -> bool:
    """Tell whether a step on (n, batch) arrays does what one step per example does."""
    neurons = operator.neurons
    if type(neurons).step.__module__ in _ELEMENTWISE_MODULES:
        return True
    rng = np.random.RandomState(0)
    n = operator.J.size
    batch = 4 if n == 3 else 3  # another number than n, so that a parameter of each neuron shows
    initial = {name: signal.initial_value for name, signal in operator.state.items()}
    whole = {name: np.repeat(value[..., None], batch, -1) for name, value in initial.items()}
    single = [{name: value.copy() for name, value in initial.items()} for _ in range(batch)]
    output = np.zeros((n, batch), operator.J.dtype)
    expected = np.zeros((batch, n), operator.J.dtype)
    try:
        for _ in range(_TRIAL_STEPS):
            current = rng.normal(0, 1, (n, batch)) * rng.choice([1.0, 10.0, 1000.0], batch)
            current = current.astype(operator.J.dtype)
            for b in range(batch):
                neurons.step(dt, current[:, b].copy(), expected[b], **single[b])
            neurons.step(dt, current, output, **whole)
    except Exception:  # a step that cannot take a batch is called example by example
        return False
    return np.array_equal(output, expected.T) and all(
        np.array_equal(whole[name][..., b], single[b][name])
        for name in initial
        for b in range(batch)
    )


def lif_in_numpy(
    neurons: nengo.LIF,
    dt: float,
    current: np.ndarray,
    output: np.ndarray,
    voltage: np.ndarray,
    refractory_time: np.ndarray,
) -> Step:
    """Return what does `nengo.LIF.step`, with ``expm1`` for the few neurons that need it.

    Those whose refractory time is over all leak by the same factor.

    Parameters
    ----------
    neurons : nengo.LIF
    dt : float, in seconds
    current, output, voltage, refractory_time : (n, batch) ndarray
        C-contiguous; the step reads the first, and writes the others.
    """
    tau_rc, tau_ref, min_voltage = neurons.tau_rc, neurons.tau_ref, neurons.min_voltage
    height, rise = neurons.amplitude / dt, np.empty_like(voltage)

    def factor(waiting: np.ndarray) -> np.ndarray:
        return np.expm1(-np.clip(dt - waiting, 0, dt) / tau_rc)

    whole = factor(np.zeros(1, voltage.dtype))
    # One-dimensional views, for lists of neurons.
    drives, outputs, voltages, rises, waits = (
        as_view(array, (-1,)) for array in (current, output, voltage, rise, refractory_time)
    )

    def step_lif():
        np.subtract(refractory_time, dt, out=refractory_time)
        np.subtract(current, voltage, out=rise)
        waiting = np.flatnonzero(waits > 0)
        held = rises[waiting] * factor(waits[waiting])
        np.multiply(rise, whole, out=rise)
        rises[waiting] = held
        np.subtract(voltage, rise, out=voltage)
        spiking = np.flatnonzero(voltages > 1)
        t_spike = dt + tau_rc * np.log1p(-(voltages[spiking] - 1) / (drives[spiking] - 1))
        np.maximum(voltage, min_voltage, out=voltage)
        voltages[spiking] = 0
        waits[spiking] = tau_ref + t_spike
        outputs[:] = 0
        outputs[spiking] = height

    return step_lif


class _UniformDraws:
    """What `StochasticSpiking` draws from: each example's numbers from its own stream.

    Parameters
    ----------
    streams : list of numpy.random.RandomState
    """

    def __init__(self, streams: list[np.random.RandomState]) -> None:
        self._streams = streams

    def random_sample(self, size: tuple[int, int]) -> np.ndarray:
        """Return (n, batch) numbers."""
        return np.stack([rng.random_sample(size=size[:1]) for rng in self._streams], axis=-1)


def _random_step(operator: SimNeurons, context: Context) -> Step:
    dt, step = context.dt, operator.neurons.step
    streams = context.states[operator]
    output = context.signals[operator.output]
    current = _full(context.signals.operand(operator.J), output.shape)
    state = {name: context.signals[signal] for name, signal in operator.state.items()}
    if type(operator.neurons).step is nengo.StochasticSpiking.step:
        draws = _UniformDraws([each["rng"] for each in streams])
        return lambda: step(dt, current, output, rng=draws, **state)

    def step_each():
        rows = current.T.copy()
        for b, random_state in enumerate(streams):
            example = {name: array[..., b] for name, array in state.items()}
            step(dt, rows[b], output[..., b], **random_state, **example)

    return step_each


def _full(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array itself, or a copy with a whole batch axis where all examples share it."""
    return array if array.shape == shape else np.array(np.broadcast_to(array, shape))


KernelMaker = Callable[[SimNeurons, Context], Step]

# Takes spikes as `nengonet.minibatch.chains.Spikes` has them, a number of steps and weights.
Stretch = Callable[..., tuple[np.ndarray, np.ndarray, bool]]
StretchMaker = Callable[[SimNeurons, Context], Stretch]


def kernel_of(operator: SimNeurons, context: Context) -> KernelMaker | None:
    """Return what makes the Numba step of these neurons, if there is one."""
    if context.kernels is None or operator.state_extra:
        return None
    return _KERNELS.get(type(operator.neurons).step)


def stretch_of(operator: SimNeurons, context: Context) -> StretchMaker | None:
    """Return what makes the Numba kernel for many steps of these neurons, if there is one."""
    if kernel_of(operator, context) is None or not operator.neurons.amplitude > 0:
        return None
    return _STRETCHES.get(type(operator.neurons).step)


def _arrays(operator: SimNeurons, context: Context) -> tuple[np.ndarray, ...]:
    """Return what the current is made of, and the output."""
    signals = context.signals
    output = signals[operator.output]
    n = output.shape[:1]
    if operator in context.currents:
        bias, gain, weighted = context.currents[operator]
        bias, gain = np.array(signals[bias]), np.array(np.broadcast_to(signals[gain], n))
    else:
        bias, gain, weighted = np.zeros(n, output.dtype), np.ones(n, output.dtype), operator.J
    return _full(signals.operand(weighted), output.shape), gain, bias, output


def _checked(operator: SimNeurons, kernel: Callable[..., bool], arguments: tuple) -> Step:
    def step_kernel():
        if not kernel(*arguments):
            raise FloatingPointError(f"invalid value encountered in {operator.neurons}")

    return step_kernel


def _lif_constants(neurons: nengo.LIF, dt: float, dtype: np.dtype) -> tuple[np.floating, ...]:
    number = dtype.type
    decay = np.expm1(np.full(1, -dt / neurons.tau_rc, dtype))[0]
    height = neurons.amplitude / dt
    names = (dt, neurons.tau_rc, neurons.tau_ref, neurons.min_voltage, height)
    return (*(number(value) for value in names), decay)


def _lif_arguments(operator: SimNeurons, context: Context) -> tuple:
    """Return the arguments of the kernels ``lif`` and, for its last part, ``lif_stretch``."""
    voltage = context.signals[operator.state["voltage"]]
    refractory = context.signals[operator.state["refractory_time"]]
    constants = _lif_constants(operator.neurons, context.dt, voltage.dtype)
    return *_arrays(operator, context), voltage, refractory, constants


def _integrate_arguments(operator: SimNeurons, context: Context) -> tuple:
    voltage = context.signals[operator.state["voltage"]]
    neurons, number = operator.neurons, voltage.dtype.type
    rectify = isinstance(neurons, nengo.SpikingRectifiedLinear)
    lowest = number(getattr(neurons, "min_voltage", -np.inf))
    dt, height = number(context.dt), number(neurons.amplitude / context.dt)
    return *_arrays(operator, context), voltage, (rectify, lowest, dt, height)


def _lif(operator: SimNeurons, context: Context) -> Step:
    return _checked(operator, context.kernels.lif, _lif_arguments(operator, context))


def _integrate(operator: SimNeurons, context: Context) -> Step:
    return _checked(operator, context.kernels.integrate, _integrate_arguments(operator, context))


def _adaptive_lif(operator: SimNeurons, context: Context) -> Step:
    names = ("voltage", "refractory_time", "adaptation")
    state = tuple(context.signals[operator.state[name]] for name in names)
    neurons, dtype = operator.neurons, state[0].dtype
    constants = _lif_constants(neurons, context.dt, dtype)
    rate, increment = dtype.type(context.dt / neurons.tau_n), dtype.type(neurons.inc_n)
    arguments = (*_arrays(operator, context), *state, constants, rate, increment)
    return _checked(operator, context.kernels.adaptive_lif, arguments)


def _lif_stretch(operator: SimNeurons, context: Context) -> Stretch:
    arguments = _lif_arguments(operator, context)
    return lambda *spikes: context.kernels.lif_stretch(*spikes, *arguments)


def _integrate_stretch(operator: SimNeurons, context: Context) -> Stretch:
    arguments = _integrate_arguments(operator, context)
    return lambda *spikes: context.kernels.integrate_stretch(*spikes, *arguments)


_KERNELS: dict[Callable[..., None], KernelMaker] = {
    nengo.LIF.step: _lif,
    nengo.AdaptiveLIF.step: _adaptive_lif,
    nengo.SpikingRectifiedLinear.step: _integrate,
    IntegrateAndFire.step: _integrate,
}

_STRETCHES: dict[Callable[..., None], StretchMaker] = {
    nengo.LIF.step: _lif_stretch,
    nengo.SpikingRectifiedLinear.step: _integrate_stretch,
    IntegrateAndFire.step: _integrate_stretch,
}


def new_streams(operators: list[SimNeurons], seed: int, examples: np.ndarray) -> dict:
    """Return the random states of every random neuron operator, one for each example.

    Parameters
    ----------
    operators : list of SimNeurons
        In the order of the steps.
    seed : int
    examples : (batch,) ndarray of int

    Returns
    -------
    streams : dict of {SimNeurons: list of dict of {str: numpy.random.RandomState}}
    """
    random = [operator for operator in operators if operator.state_extra]
    streams: dict[SimNeurons, list[dict]] = {operator: [] for operator in random}
    n = sum(len(operator.state_extra) for operator in random)
    for example in examples if random else ():
        seeds = iter(neuron_seeds(seed, int(example), n))
        for operator in random:
            streams[operator].append(
                {name: np.random.RandomState(next(seeds)) for name in operator.state_extra}
            )
    return streams
