"""Batched steps of neurons: in Numba, in one call of the neuron type, or example by example.

Which of them a neuron type gets follows from its step function alone, and from those that this may
call through ``super()``: a subclass with a step of its own is not taken for its base. What is not
registered is stepped example by example, on arrays of each example's own.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import nengo
import numpy as np
from nengo.builder.neurons import SimNeurons
from nengo.neurons import NeuronType
from nengo.params import Parameter

from nengonet.minibatch.registry import Context, Step, register
from nengonet.minibatch.signals import as_view
from nengonet.neurons import IntegrateAndFire
from nengonet.streams import neuron_seeds

KernelMaker = Callable[[SimNeurons, Context], Step]

# Takes spikes as `nengonet.minibatch.chains.Spikes` has them, a number of steps and weights.
Stretch = Callable[..., tuple[np.ndarray, np.ndarray, bool]]
StretchMaker = Callable[[SimNeurons, Context], Stretch]


@dataclasses.dataclass(frozen=True)
class NeuronSteps:
    """How the neurons of a family are stepped for a whole minibatch."""

    kernel: KernelMaker | None = None
    stretch: StretchMaker | None = None
    in_numpy: Callable[..., Step] | None = None


_STEPS: dict[tuple[Callable[..., None], ...], NeuronSteps] = {}


def _steps_of(cls: type[NeuronType]) -> tuple[Callable[..., None], ...]:
    """Return the step of a class, and those that it may call through ``super()``."""
    return tuple(base.__dict__["step"] for base in cls.__mro__ if "step" in base.__dict__)


def elementwise(neuron_class: type[NeuronType]) -> type[NeuronType]:
    """Let one call of a neuron type's step serve all examples of a minibatch.

    A decorator. Without it, `MinibatchSimulator` steps a neuron type that it does not know example
    by example, which is as exact but slower.
    """
    _STEPS.setdefault(_steps_of(neuron_class), NeuronSteps())
    return neuron_class


def steps_of(operator: SimNeurons) -> NeuronSteps | None:
    """Return how these neurons are stepped for all examples at once, if that is known."""
    neurons, dtype = operator.neurons, operator.J.dtype
    if operator.state_extra or "step" in vars(neurons) or _has_arrays(neurons):
        return None
    if any(s.shape != operator.J.shape or s.dtype != dtype for s in operator.state.values()):
        return None
    return _STEPS.get(_steps_of(type(neurons)))


def _has_arrays(neurons: NeuronType) -> bool:
    """Tell whether a parameter has a value for each neuron."""
    names = [n for n in dir(type(neurons)) if isinstance(getattr(type(neurons), n), Parameter)]
    values = [*vars(neurons).values(), *(getattr(neurons, name) for name in names)]
    return any(isinstance(value, (np.ndarray, list, tuple)) and np.ndim(value) for value in values)


@register(SimNeurons)
def _neurons(operator: SimNeurons, context: Context) -> Step:
    if type(operator.neurons).step is nengo.StochasticSpiking.step:
        return _stochastic(operator, context)
    steps, kernel = steps_of(operator), kernel_of(operator, context)
    if steps is None:
        return _one_by_one(operator, context)
    if kernel is not None:
        return kernel(operator, context)
    current, output, state = _numpy_arrays(operator, context)
    in_order = all(array.flags.c_contiguous for array in (current, output, *state.values()))
    if steps.in_numpy is not None and in_order:
        return steps.in_numpy(operator.neurons, context.dt, current, output, **state)
    step, dt = operator.neurons.step, context.dt
    return lambda: step(dt, current, output, **state)


def _numpy_arrays(
    operator: SimNeurons, context: Context
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return current, output and states, each (n, batch)."""
    output = context.signals[operator.output]
    current = _full(context.signals.operand(operator.J), output.shape)
    return current, output, {name: context.signals[s] for name, s in operator.state.items()}


def _one_by_one(operator: SimNeurons, context: Context) -> Step:
    """Return what calls the neuron type's step for each example, on arrays of its own."""
    dt, (current, output, state) = context.dt, _numpy_arrays(operator, context)
    streams = context.states.get(operator, context.batch * [{}])
    types = context.own(operator, operator.neurons)
    signals = {"J": current, "output": output, **state}

    def step_each():
        for b, (neurons, extra) in enumerate(zip(types, streams, strict=True)):
            example = {name: np.array(array[..., b]) for name, array in signals.items()}
            neurons.step(dt, **example, **extra)
            for name, array in signals.items():
                array[..., b] = example[name]

    return step_each


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
    """What `StochasticSpiking` draws from: each example's numbers from its own stream."""

    def __init__(self, streams: list[np.random.RandomState]) -> None:
        self._streams = streams

    def random_sample(self, size: tuple[int, int]) -> np.ndarray:
        """Return (n, batch) numbers."""
        return np.stack([rng.random_sample(size=size[:1]) for rng in self._streams], axis=-1)


def _stochastic(operator: SimNeurons, context: Context) -> Step:
    dt, (current, output, state) = context.dt, _numpy_arrays(operator, context)
    step, draws = operator.neurons.step, _UniformDraws([e["rng"] for e in context.states[operator]])
    return lambda: step(dt, current, output, rng=draws, **state)


def _full(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array itself, or a copy with a whole batch axis where all examples share it."""
    return array if array.shape == shape else np.array(np.broadcast_to(array, shape))


def kernel_of(operator: SimNeurons, context: Context) -> KernelMaker | None:
    """Return what makes the Numba step of these neurons, if there is one."""
    steps = None if context.kernels is None else steps_of(operator)
    return None if steps is None else steps.kernel


def stretch_of(operator: SimNeurons, context: Context) -> StretchMaker | None:
    """Return what makes the Numba kernel for many steps of these neurons, if there is one."""
    steps = None if context.kernels is None else steps_of(operator)
    stretch = None if steps is None else steps.stretch
    return stretch if stretch is not None and operator.neurons.amplitude > 0 else None


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
    # Divided in numbers of that many bits, as in the reference's step.
    decay = np.expm1(-np.full(1, dt, dtype) / neurons.tau_rc)[0]
    height = neurons.amplitude / dt
    names = (dt, neurons.tau_rc, neurons.tau_ref, neurons.min_voltage, height)
    return (*(number(value) for value in names), decay)


def _lif_arguments(operator: SimNeurons, context: Context) -> tuple:
    """Return the arguments of the kernels ``lif`` and, for its last part, ``lif_stretch``."""
    voltage = context.signals[operator.state["voltage"]]
    refractory = context.signals[operator.state["refractory_time"]]
    constants = _lif_constants(operator.neurons, context.dt, voltage.dtype)
    return *_arrays(operator, context), voltage, refractory, constants


def _integrate_arguments(operator: SimNeurons, context: Context, rectify: bool) -> tuple:
    voltage = context.signals[operator.state["voltage"]]
    neurons, number = operator.neurons, voltage.dtype.type
    min_voltage = number(-np.inf if rectify else neurons.min_voltage)
    # Nengo's rectifying neuron takes the floor of a negative first voltage too.
    lowest = number(0 if rectify else np.finfo(voltage.dtype).min)
    dt, height = number(context.dt), number(neurons.amplitude / context.dt)
    return *_arrays(operator, context), voltage, (rectify, lowest, min_voltage, dt, height)


def _lif(operator: SimNeurons, context: Context) -> Step:
    return _checked(operator, context.kernels.lif, _lif_arguments(operator, context))


def _integrate(operator: SimNeurons, context: Context, rectify: bool) -> Step:
    arguments = _integrate_arguments(operator, context, rectify)
    return _checked(operator, context.kernels.integrate, arguments)


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


def _integrate_stretch(operator: SimNeurons, context: Context, rectify: bool) -> Stretch:
    arguments = _integrate_arguments(operator, context, rectify)
    return lambda *spikes: context.kernels.integrate_stretch(*spikes, *arguments)


def _integrating(rectify: bool) -> NeuronSteps:
    kernel = functools.partial(_integrate, rectify=rectify)
    return NeuronSteps(kernel, functools.partial(_integrate_stretch, rectify=rectify))


_STEPS |= {
    _steps_of(nengo.LIF): NeuronSteps(_lif, _lif_stretch, lif_in_numpy),
    _steps_of(nengo.AdaptiveLIF): NeuronSteps(_adaptive_lif),
    _steps_of(nengo.SpikingRectifiedLinear): _integrating(rectify=True),
    _steps_of(IntegrateAndFire): _integrating(rectify=False),
}
for _cls in (
    nengo.LIFRate,
    nengo.AdaptiveLIFRate,
    nengo.RectifiedLinear,
    nengo.Sigmoid,
    nengo.Tanh,
    nengo.Izhikevich,
    nengo.RegularSpiking,
):
    elementwise(_cls)


def new_streams(operators: list[SimNeurons], seed: int, examples: np.ndarray) -> dict:
    """Return the random states of every random neuron operator, one for each example."""
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
