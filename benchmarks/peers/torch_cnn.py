"""A convolutional job in PyTorch, with neurons from the framework.

No layer has feedback, so a layer runs through a chunk of steps at once: one product for all steps
and images, then filter and neurons step by step. Arrays are (steps, images, rows, columns,
channels), or have images first where the framework needs it. With ``--channels-first``, channels
come before the rows.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable

import common
import numpy as np
import torch
from torch.nn import functional as ops

OPTIONS = {
    "chunk": {"type": int, "default": 100, "help": "steps of a layer at once"},
    "channels_first": {"action": "store_true", "help": "in memory"},
    "instant": {"action": "store_true", "help": "max pools that look at each step alone"},
    "compile": {
        "action": argparse.BooleanOptionalAction,
        "default": False,
        "help": "torch.compile neurons, filters and max pools",
    },
}


def described(args) -> str:
    """Return the settings of a run."""
    return (
        f"PyTorch {torch.__version__}, float32, chunks of {args.chunk} steps, channels "
        f"{'first' if args.channels_first else 'last'}{', compiled' if args.compile else ''}"
        f"{', instant max pools' if args.instant else ''}"
    )


class Network:
    """The layers of a job.

    Parameters
    ----------
    job : common.Job
    neurons_of : callable
        ``neurons_of(layer)`` returns the neurons of a layer. They are a function that takes the
        currents of several steps and returns spikes of height 1. It has a method
        ``reset(voltage)``.
    args : Namespace
        Arguments with `OPTIONS`.
    time_axis : {0, 1}
        Images are along the other axis.
    """

    def __init__(self, job, neurons_of, args, *, time_axis: int = 0) -> None:
        self.job, self.args, self.time_axis = job, args, time_axis
        self.stages, self.stateful = [], []
        for layer, kernel, bias in common.of_unit_spikes(job):
            if layer["kind"] == "max" and not args.instant:
                self._add_state(RunningMax(self._pool(layer), time_axis))
                continue
            filtered, late = layer["synapse"] is not None, None
            if filtered and kernel is not None:  # what is filtered are the products alone
                late, bias = torch.tensor(bias), None
            product = self._pool(layer) if kernel is None else self._product(layer, kernel, bias)
            self.stages.append(lambda values, product=product: at_all_steps(product, values))
            if filtered:
                self._add_state(Lowpass(layer["synapse"] / job.dt, time_axis, late))
            if layer["neurons"] is not None:
                if layer["neurons"]["type"] == "SpikingRectifiedLinear":
                    self.stages.append(torch.relu)
                voltage = torch.tensor(layer["voltage"]).reshape(layer["shape"])
                self._add_state(neurons_of(layer), self._placed(voltage))

    def _add_state(self, stage: Callable, first: torch.Tensor | None = None) -> None:
        self.stages.append(torch.compile(stage, dynamic=False) if self.args.compile else stage)
        self.stateful.append((stage, first))

    def _placed(self, values: torch.Tensor) -> torch.Tensor:
        """Return values (…, rows, columns, channels) in the chosen order."""
        channels_first = self.args.channels_first and values.ndim > 2
        return values.movedim(-1, -3).contiguous() if channels_first else values

    def _on_images(self, function: Callable) -> Callable:
        """Return a function of images from a function of (n, channels, rows, columns)."""
        if self.args.channels_first:
            return function
        return lambda values: function(values.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def _pool(self, layer: dict) -> Callable:
        pool = ops.avg_pool2d if layer["kind"] == "average" else ops.max_pool2d
        size, strides = tuple(layer["size"]), tuple(layer["strides"])
        assert layer["padding"] == "valid"
        return self._on_images(functools.partial(pool, kernel_size=size, stride=strides))

    def _product(self, layer: dict, kernel: np.ndarray, bias: np.ndarray | None) -> Callable:
        kernel, bias = torch.tensor(kernel), None if bias is None else torch.tensor(bias)
        if layer["kind"] == "dense":
            weight = kernel.T.reshape(-1, *layer["shape_in"])
            weight = self._placed(weight).flatten(1).contiguous()
            return lambda values: ops.linear(values.flatten(1), weight, bias)
        assert layer["padding"] == "valid"
        first = self.args.channels_first
        weight = kernel.permute(3, 2, 0, 1).contiguous(
            memory_format=torch.contiguous_format if first else torch.channels_last
        )
        return self._on_images(
            functools.partial(ops.conv2d, weight=weight, bias=bias, stride=tuple(layer["strides"]))
        )

    def run(self, images: torch.Tensor) -> np.ndarray:
        """Show images (n_images, rows, columns, channels) from the reset state.

        Returns the outputs, (n_images, n_steps, n_classes).
        """
        time, outputs = self.time_axis, []
        for stage, first in self.stateful:
            stage.reset(None if first is None else first.expand(len(images), *first.shape))
        product, *others = self.stages
        current = product(self._placed(images).unsqueeze(time))  # the same at every step
        for start in range(0, self.job.n_steps, self.args.chunk):
            shape = list(current.shape)
            shape[time] = min(self.args.chunk, self.job.n_steps - start)
            values = current.expand(shape)
            for stage in others:
                values = stage(values)
            outputs.append(values)
        found = torch.cat(outputs, dim=time)
        return (found if time else found.transpose(0, 1)).numpy()


def at_all_steps(function: Callable, values: torch.Tensor) -> torch.Tensor:
    """Call a function of many images with the images of all steps."""
    return function(values.flatten(0, 1)).unflatten(0, values.shape[:2])


class Lowpass(torch.nn.Module):
    """A low-pass filter with a time constant in steps, and a bias that is added after it."""

    def __init__(self, tau: float, time_axis: int, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.share, self.time_axis, self.bias = -math.expm1(-1 / tau), time_axis, bias
        self.reset()

    def reset(self, _: object = None) -> None:
        """Begin at 0."""
        self.value = None

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Filter the values of several steps."""
        found, steps = [], values.unbind(self.time_axis)
        value = torch.zeros_like(steps[0]) if self.value is None else self.value
        for step in steps:
            value = torch.lerp(value, step, self.share)
            found.append(value)
        self.value = value
        found = torch.stack(found, self.time_axis)
        return found if self.bias is None else found + self.bias


class RunningMax(torch.nn.Module):
    """A max pool like nengonet's: its summed output is the largest sum of each window."""

    def __init__(self, pool: Callable, time_axis: int) -> None:
        super().__init__()
        self.pool, self.time_axis = pool, time_axis
        self.reset()

    def reset(self, _: object = None) -> None:
        """Begin with no spikes."""
        self.sums = self.sent = None

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the changes of the largest sums."""
        time = self.time_axis
        sums = values.cumsum(time)
        sums = sums if self.sums is None else sums + self.sums
        largest = at_all_steps(self.pool, sums)
        first = largest.narrow(time, 0, 1)
        self.sums = sums.narrow(time, -1, 1)
        before = torch.zeros_like(first) if self.sent is None else self.sent
        self.sent = largest.narrow(time, -1, 1)
        return largest.diff(dim=time, prepend=before)


def simulator(args, images: np.ndarray, neurons_of: Callable, *, time_axis: int = 0) -> Callable:
    """Build the network of a job, warm it up, and return the function that simulates."""
    torch.set_num_threads(args.threads)
    network = Network(common.load_job(args.job), neurons_of, args, time_axis=time_axis)
    images = torch.tensor(images)

    def simulate(images: torch.Tensor = images) -> tuple[np.ndarray, float]:
        with torch.inference_mode():
            found = [network.run(batch) for batch in images.split(args.batch_size)]
        return np.concatenate(found), 0.0

    for batch in {len(batch): batch for batch in images.split(args.batch_size)}.values():
        simulate(batch)  # every size once: compiled code is made for it
    return simulate
