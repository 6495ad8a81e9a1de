"""Batched steps of processes: synapses, pools and images for all at once, others one by one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from nengo.base import Process
from nengo.builder.operator import Operator
from nengo.builder.processes import SimProcess
from nengo.builder.signal import Signal
from nengo.processes import Piecewise, PresentInput
from nengo.synapses import LinearFilter, Triangle
from nengo.utils.numpy import maxint

from nengonet.layers.filters import LowpassPerUnit
from nengonet.layers.inputs import ConstantImage, ImageInput, PoissonImage
from nengonet.layers.pools import MaxPool
from nengonet.minibatch.inputs import PoissonEvents
from nengonet.minibatch.registry import Context, Step, register
from nengonet.streams import reset_seed

# Their output is a function of the time only.
_SAME_FOR_ALL = (PresentInput, Piecewise)
# Their step takes arrays with the batch last as it is.
_BATCHED = (
    LinearFilter.make_step,
    Triangle.make_step,
    MaxPool.make_step,
    LowpassPerUnit.make_step,
)


def is_batched(process: Process) -> bool:
    """Tell whether one step of the process serves all examples."""
    return type(process).make_step in _BATCHED or is_image(process)


def is_image(process: Process) -> bool:
    """Tell whether the process shows images of which every example has its own."""
    return type(process).make_step in (PoissonImage.make_step, ConstantImage.make_step)


def shared_state(operator: Operator) -> list[Signal]:
    """Return what an operator writes that is the same for all examples: a triangle's counter."""
    if isinstance(operator, SimProcess) and _is_triangle(operator.process):
        return [operator.state["Xi"]]
    return []


def _is_triangle(process: Process) -> bool:
    return type(process).make_step is Triangle.make_step


@register(SimProcess)
def _process(operator: SimProcess, context: Context) -> Step:
    process = operator.process
    if isinstance(process, ImageInput) and is_image(process):
        return _image(operator, context)
    output = context.signals[operator.output]
    if is_batched(process):
        compute = _for_all(operator, context)
    elif type(process) in _SAME_FOR_ALL:
        compute = _same_for_all(operator, context)
    else:
        compute = _one_by_one(operator, context)
    if operator.mode == "inc":

        def step_inc():
            output[...] += compute()

        return step_inc

    def step_set():
        output[...] = compute()

    return step_set


def _for_all(operator: SimProcess, context: Context) -> Callable[[], np.ndarray]:
    signals = context.signals
    shape_in = (*operator.input.shape, context.batch)
    shape_out = signals[operator.output].shape
    state = {name: signals[signal] for name, signal in operator.state.items()}
    step = operator.process.make_step(shape_in, shape_out, context.dt, None, state)
    source = np.broadcast_to(signals.operand(operator.input), shape_in)
    # The reference copies its input at every step; no process here writes to it.
    return lambda: step(None, source)


def _same_for_all(operator: SimProcess, context: Context) -> Callable[[], np.ndarray]:
    t, shape = context.signals[operator.t], operator.output.shape
    # Each example's own would do the same.
    make_step = context.own(operator, operator.process)[0].make_step
    step = context.state(operator, lambda: make_step((0,), shape, context.dt, None, {}))
    return lambda: np.asarray(step(t.item()))[..., np.newaxis]


def _one_by_one(operator: SimProcess, context: Context) -> Callable[[], np.ndarray]:
    signals, batch, dt = context.signals, context.batch, context.dt
    t, shape_out = signals[operator.t], operator.output.shape
    shape_in = (0,) if operator.input is None else operator.input.shape
    source = None if operator.input is None else signals.operand(operator.input)
    state = {name: signals[signal] for name, signal in operator.state.items()}
    processes = context.own(operator, operator.process)

    def make_steps():
        made = []
        for b, rng in enumerate(context.states[operator, "streams"]):
            own = {name: np.array(array[..., b]) for name, array in state.items()}
            made.append((processes[b].make_step(shape_in, shape_out, dt, rng, own), own))
        return made

    steps = context.state(operator, make_steps)
    values = np.empty(signals[operator.output].shape, operator.output.dtype)
    full = None if source is None else np.broadcast_to(source, (*shape_in, batch))

    def compute():
        time = (t.item(),)
        for b, (step, own) in enumerate(steps):
            for name, array in state.items():
                own[name][...] = array[..., b]
            values[..., b] = step(*time) if full is None else step(*time, np.array(full[..., b]))
            for name, array in state.items():
                array[..., b] = own[name]
        return values

    return compute


def _image(operator: SimProcess, context: Context) -> Step:
    process, images = operator.process, context.images[operator]
    output = context.signals[operator.output]
    if isinstance(process, ConstantImage):
        values = (process.scale * images).T

        def step_constant():
            output[...] = values

        return step_constant

    events = context.state(
        operator,
        lambda: PoissonEvents(
            process.max_rate * images,
            process.amplitude / context.dt,
            context.examples,
            context.seed,
            context.dt,
            context.kernels,
        ),
    )
    # SciPy multiplies no numbers of 16 bits.
    if output.dtype != np.float16:
        context.events.append((operator.output, events))
        if operator in context.event_only:
            return events.advance

    def step_poisson():
        events.advance()
        events.spread(output)

    return step_poisson


def new_streams(operators: list[SimProcess], seed: int, examples: np.ndarray) -> dict:
    """Return the random streams of the processes that are stepped example by example."""
    single = [
        operator
        for operator in operators
        if not is_batched(operator.process) and type(operator.process) not in _SAME_FOR_ALL
    ]
    streams: dict = {(operator, "streams"): [] for operator in single}
    for example in examples if single else ():
        rng = np.random.RandomState(reset_seed(seed, int(example)))
        for operator in operators:
            if (operator, "streams") in streams:
                streams[operator, "streams"].append(operator.process.get_rng(rng))
            elif operator.process.seed is None:
                rng.randint(maxint)
    return streams
