"""Steps of neurons for a minibatch: in Numba, in one call, or example by example.

Which of them a neuron type gets is asked of its model (`nengonet.neurons.model_of`). What is not
known as element-wise is stepped example by example, on arrays of each example's own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from nengo.builder.neurons import SimNeurons

from nengonet.minibatch.registry import Context, Step, register, steps_as
from nengonet.minibatch.signals import filled
from nengonet.nengo_internals import state_of
from nengonet.neurons import model_of
from nengonet.neurons.model import Kernel
from nengonet.streams import neuron_seeds


def is_elementwise(operator: SimNeurons) -> bool:
    """Tell whether one call of the step can serve all examples."""
    neurons, dtype = operator.neurons, operator.J.dtype
    if not steps_as(operator, SimNeurons) or "step" in vars(neurons):
        return False
    # A parameter that has a value for each neuron.
    if any(map(_is_array, state_of(neurons).values())):
        return False
    if any(s.shape != operator.J.shape or s.dtype != dtype for s in operator.state.values()):
        return False
    model = model_of(neurons)
    return model.elementwise and (model.draws is not None or not operator.state_extra)


def _is_array(value: object) -> bool:
    return isinstance(value, (np.ndarray, list, tuple)) and np.ndim(value) > 0


def kernel_of(operator: SimNeurons, context: Context) -> Kernel | None:
    """Return these neurons' step for Numba, if there is one."""
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
        draw = drawing_of(operator, context, streams)
        if draw is not None:
            return _in_rows(draw, current, output)
        model = model_of(operator.neurons)
        return model.batched_step(context.dt, current, output, state, streams)
    context.one_by_one[operator] = "a neuron type that is not known to be element-wise"
    streams, signals = streams or context.batch * [{}], {"J": current, "output": output, **state}
    types = context.own(operator, operator.neurons)

    def step_each():
        for b, (neurons, extra) in enumerate(zip(types, streams, strict=True)):
            # On arrays of the example's own: a step may keep or reshape them.
            example = {name: np.array(array[..., b]) for name, array in signals.items()}
            neurons.step(context.dt, **example, **extra)
            for name, array in signals.items():
                array[..., b] = example[name]

    return step_each


def kernel_arguments(operator: SimNeurons, kernel: Kernel, context: Context) -> tuple:
    """Return what the kernels take: current and its scale, output, states, and constants."""
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


def drawing_of(
    operator: SimNeurons, context: Context, streams: list[dict]
) -> Callable[[np.ndarray, np.ndarray], None] | None:
    """Return what draws the spikes of neurons in Numba, if that can be.

    It is called with the currents of many steps, (batch, n_steps, n) in the order of memory, and
    writes the output of the same shape. ``streams`` are each example's random states by name, some
    of ``context.states[operator]``; they are left as NumPy would leave them.
    """
    model = model_of(operator.neurons)
    if context.kernels is None or model.draws_by is None or not streams:
        return None
    from nengonet.minibatch import mersenne

    (each,) = zip(*(stream.values() for stream in streams), strict=True)
    return mersenne.steps_of(operator.neurons, model.draws_by, context.dt, operator.J.dtype, each)


def _in_rows(draw: Callable, current: np.ndarray, output: np.ndarray) -> Step:
    n, batch = output.shape
    rates, spikes = (np.empty((batch, 1, n), output.dtype) for _ in range(2))

    def step_in_rows():
        rates[:, 0] = current.T
        draw(rates, spikes)
        output[...] = spikes[:, 0].T

    return step_in_rows


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
