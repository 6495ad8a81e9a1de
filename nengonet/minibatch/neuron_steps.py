"""Steps of neurons for a minibatch: in Numba, in one call, or example by example.

A neuron type's model (`nengonet.neurons.model_of`) decides which of these it gets. Types that are
not known to be element-wise are stepped example by example, on each example's own arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from nengo.builder.neurons import SimNeurons

from nengonet.minibatch.registry import Context, Step, register, steps_as
from nengonet.minibatch.signals import filled
from nengonet.nengo_internals import state_of
from nengonet.neurons import model_of
from nengonet.neurons.model import Kernel
from nengonet.streams import neuron_seeds

if TYPE_CHECKING:
    from nengonet.minibatch.mersenne import Drawing


# Results by operator, because every reset asks for them again.
_elementwise: WeakKeyDictionary[SimNeurons, bool] = WeakKeyDictionary()


def is_elementwise(operator: SimNeurons) -> bool:
    """Return whether one call of the step can serve all examples."""
    if operator not in _elementwise:
        _elementwise[operator] = _is_elementwise(operator)
    return _elementwise[operator]


def _is_elementwise(operator: SimNeurons) -> bool:
    neurons, dtype = operator.neurons, operator.J.dtype
    if not steps_as(operator, SimNeurons) or "step" in vars(neurons):
        return False
    # A parameter with a value for each neuron.
    if any(map(_is_array, state_of(neurons).values())):
        return False
    if any(s.shape != operator.J.shape or s.dtype != dtype for s in operator.state.values()):
        return False
    model = model_of(neurons)
    return model.elementwise and (model.draws is not None or not operator.state_extra)


def _is_array(value: object) -> bool:
    return isinstance(value, (np.ndarray, list, tuple)) and np.ndim(value) > 0


def kernel_of(operator: SimNeurons, context: Context) -> Kernel | None:
    """Return the step of these neurons for Numba, if there is one."""
    if context.kernels is None or not is_elementwise(operator):
        return None
    return model_of(operator.neurons).kernel


@register(SimNeurons)
def _neurons(operator: SimNeurons, context: Context) -> Step:
    kernel = kernel_of(operator, context)
    if kernel is not None:
        return _in_numba(operator, kernel, context)
    output = context.signals[operator.output]
    current = filled(context.signals.operand(operator.J), output.shape)
    state = {name: context.signals[signal] for name, signal in operator.state.items()}
    streams = context.states.get(operator, [])
    if is_elementwise(operator):
        drawing = drawing_of(operator, context)
        if drawing is not None:
            return _drawn(drawing, states_of(streams), current, output)
        model = model_of(operator.neurons)
        return model.batched_step(context.dt, current, output, state, streams)
    context.one_by_one[operator] = "a neuron type that is not known to be element-wise"
    streams, signals = streams or context.batch * [{}], {"J": current, "output": output, **state}
    types = context.own(operator, operator.neurons)

    def step_each():
        for b, (neurons, extra) in enumerate(zip(types, streams, strict=True)):
            # On the example's own arrays, because a step may keep or reshape them.
            example = {name: np.array(array[..., b]) for name, array in signals.items()}
            neurons.step(context.dt, **example, **extra)
            for name, array in signals.items():
                array[..., b] = example[name]

    return step_each


def kernel_arguments(operator: SimNeurons, kernel: Kernel, context: Context) -> tuple:
    """Return the arguments of the kernels: current and its scale, output, states, constants."""
    signals, neurons = context.signals, operator.neurons
    output = signals[operator.output]
    n, dtype = output.shape[:1], output.dtype
    if operator in context.currents:
        bias, gain, weighted = context.currents[operator]
        bias, gain = np.array(signals[bias]), np.array(np.broadcast_to(signals[gain], n))
    else:
        bias, gain, weighted = np.zeros(n, dtype), np.ones(n, dtype), operator.J
    states = tuple(signals[operator.state[name]] for name in kernel.states)
    height = dtype.type(model_of(neurons).amplitude / context.dt)
    constants = kernel.constants(neurons, context.dt, dtype)
    current = filled(signals.operand(weighted), output.shape)
    return current, gain, bias, output, states, constants, height


def _in_numba(operator: SimNeurons, kernel: Kernel, context: Context) -> Step:
    step = context.kernels.step_of(kernel)
    arguments = kernel_arguments(operator, kernel, context)
    output = context.signals[operator.output]
    memory = np.empty(output.shape[1], output.dtype), np.empty(output.shape[1], np.uint8)

    def step_kernel():
        if not step(*arguments, *memory):
            raise FloatingPointError(f"invalid value encountered in {operator.neurons}")

    return step_kernel


def drawing_of(operator: SimNeurons, context: Context) -> Drawing | None:
    """Return the object that draws the spikes of neurons in Numba, if that is possible."""
    draws, streams = model_of(operator.neurons).draws_by, context.states.get(operator)
    if context.kernels is None or draws is None or not streams or not is_elementwise(operator):
        return None
    from nengonet.minibatch import mersenne

    if not mersenne.can_draw(operator.J.dtype, states_of(streams)):
        return None
    return mersenne.Drawing(operator.neurons, draws, context.dt, operator.J.dtype)


def states_of(streams: list[dict]) -> list[np.random.RandomState]:
    """Return each example's random state, for neurons that have a single one."""
    return [state for (state,) in (each.values() for each in streams)]


def _drawn(drawing: Drawing, states: list, current: np.ndarray, output: np.ndarray) -> Step:
    """Return one step that draws in the memory of the states themselves."""
    from nengonet.minibatch import mersenne

    n, batch = output.shape
    rates, spikes = (np.empty((batch, 1, n), output.dtype) for _ in range(2))
    addresses = mersenne.addresses_of(states)

    def step_drawn():
        # One example after the other.
        rates[:, 0] = current.T
        drawing.draw(rates, spikes, addresses)
        output[...] = spikes[:, 0].T

    return step_drawn


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
