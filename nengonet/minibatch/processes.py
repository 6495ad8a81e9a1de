"""Batched steps of processes: synapses, pools and images for all at once, others one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from nengo.base import Process
from nengo.builder.operator import Operator
from nengo.builder.processes import SimProcess
from nengo.builder.signal import Signal
from nengo.processes import Piecewise, PresentInput
from nengo.synapses import LinearFilter, Triangle
from nengo.utils.numpy import maxint

from nengonet.layers.protocol import known
from nengonet.minibatch.inputs import PoissonEvents
from nengonet.minibatch.registry import Context, Step, register, steps_as
from nengonet.streams import reset_seed

# Processes whose output is a function of the time only.
_SAME_FOR_ALL = (PresentInput, Piecewise)
# The ways in which an image input may show: see `nengonet.layers.protocol`.
_WAYS = ("steady", "by_step", "events")
# Nengo's own processes whose step takes arrays with the batch last as it is.
_BATCHED = (LinearFilter.make_step, Triangle.make_step)


def is_image(process: Process) -> bool:
    """Return whether the process shows images, and every example has its own."""
    return callable(getattr(process, "showing", None))


def is_shown_at_once(process: Process) -> bool:
    """Return whether the process can give its output for a whole minibatch."""
    return is_image(process) and any(known(process, way) is not None for way in _WAYS)


def _is_single(operator: SimProcess) -> bool:
    """Return whether a process is stepped example by example."""
    process, is_source = operator.process, operator.input is None
    if is_source and (is_shown_at_once(process) or type(process) in _SAME_FOR_ALL):
        return False
    return is_source or not known(process, "batched", type(process).make_step in _BATCHED)


def is_for_all(operator: SimProcess) -> bool:
    """Return whether one call can step a process for all examples, on the given inputs."""
    return operator.input is not None and not _is_single(operator) and not shared_state(operator)


def shared_state(operator: Operator) -> list[Signal]:
    """Return the signals an operator writes that all examples share, as a triangle's counter."""
    is_process = isinstance(operator, SimProcess)
    if is_process and type(operator.process).make_step is Triangle.make_step:
        return [operator.state["Xi"]]
    return []


@register(SimProcess)
def _process(operator: SimProcess, context: Context) -> Step:
    process, output = operator.process, context.signals[operator.output]
    if is_shown_at_once(process):
        return _image(operator, context, output)
    if _is_single(operator):
        context.one_by_one[operator] = "each example has a process of its own"
        compute = _one_by_one(operator, context)
    elif type(process) in _SAME_FOR_ALL:
        compute = _same_for_all(operator, context)
    else:
        compute = _for_all(operator, context)
    if operator.mode == "inc":
        return lambda: np.add(output, compute(), out=output)
    return lambda: np.copyto(output, compute())


def _for_all(operator: SimProcess, context: Context) -> Callable[[], np.ndarray]:
    signals, t = context.signals, context.signals[operator.t]
    shape_in = (*operator.input.shape, context.batch)
    shape_out = signals[operator.output].shape
    state = {name: signals[signal] for name, signal in operator.state.items()}
    step = operator.process.make_step(shape_in, shape_out, context.dt, None, state)
    source = np.broadcast_to(signals.operand(operator.input), shape_in)
    # The reference copies its input at every step; no process here writes to it.
    return lambda: step(t.item(), source)


def _same_for_all(operator: SimProcess, context: Context) -> Callable[[], np.ndarray]:
    t, shape = context.signals[operator.t], operator.output.shape
    # Each example's own process would do the same.
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


def _image(operator: SimProcess, context: Context, output: np.ndarray) -> Step:
    process, images = operator.process, context.images[operator]
    steady = known(process, "steady")
    if steady is not None:
        values = steady(images).T
        return lambda: np.copyto(output, values)
    by_step = known(process, "by_step")
    if by_step is not None:
        rows, t = np.moveaxis(by_step(images), 0, -1), context.signals[operator.t]
        return lambda: np.copyto(output, rows[round(t.item() / context.dt) - 1])

    def make_events():
        drawn = process.events(images, context.dt)
        return PoissonEvents(*drawn, context.examples, context.seed, context.dt, context.kernels)

    events = context.state(operator, make_events)
    # SciPy cannot multiply numbers of 16 bits.
    if output.dtype != np.float16:
        context.events.append((operator.output, events))
        if operator in context.event_only:
            return events.advance

    def step_poisson():
        events.advance()
        events.spread(output)

    return step_poisson


def new_streams(
    operators: list[Operator],
    seed: int,
    examples: np.ndarray,
    make: Callable[[Operator, int, np.random.RandomState], object],
    objects: Sequence[Mapping[Operator, object]] = (),
) -> dict:
    """Return the random streams of the processes that are stepped example by example.

    Other operators' steps are made by ``make(operator, place, rng)``. They draw from the same
    stream, in the order of the steps, as in the reference. ``objects`` holds each example's own
    process, where it is not the operator's.
    """
    others = [operator for operator in operators if not steps_as(operator, SimProcess)]
    single = [operator for operator in operators if operator not in others and _is_single(operator)]
    streams: dict = {(operator, "streams"): [] for operator in single}
    streams |= {(operator, "runs"): [] for operator in others}
    for place, example in enumerate(examples if streams else ()):
        rng = np.random.RandomState(reset_seed(seed, int(example)))
        own = objects[place] if objects else {}
        for operator in operators:
            if (operator, "runs") in streams:
                streams[operator, "runs"].append(make(operator, place, rng))
            elif (operator, "streams") in streams:
                process = own.get(operator, operator.process)
                streams[operator, "streams"].append(process.get_rng(rng))
            elif operator.process.seed is None:
                rng.randint(maxint)
    return streams
