"""The attributes by which an object in a Node, a transform or a synapse describes itself.

Prediction, the ANN, synaptic operations and the minibatch simulator ask for them, on nengonet's
objects and on a user's alike. Each is optional: an object without one is refused by name, or
stepped example by example.

In a Node, on its function or Process:

- ``moments(mean, variance, dt)`` takes mean and variance of the input's steps, (n_samples, n) each,
  and returns those of the output, and its delay in seconds. Without an input, the mean is what the
  images show and the variance is 0. The ANN computes the mean.
- ``amplitude``: the area of the spikes that it outputs, or None.
- ``passes_spikes``: True if whole spikes come out wherever whole spikes come in.
- ``batched``: True if one step can serve a minibatch: its arrays may have the examples last, it
  draws no random numbers, outputs finite ones, and keeps its state in ``make_state``'s arrays only.
- ``showing(image, example, seed)``, on a Process without input, returns the Process that shows an
  example's image. `present` recognises the input by it, and each example has its own Process.
- ``steady(images)``, ``by_step(images)`` or ``events(images, dt)``, on a Process that shows images,
  return the output of a whole minibatch: that of all steps, (n_images, n); that of each step,
  (n_images, n_steps, n); or the Poisson rates in Hz, (n_images, n), and a spike's height.

On a transform:

- ``apply(values, power)`` applies it to values, (n_samples, size_in), with its weights to a power:
  2 for variances.
- ``reached(after)`` sums ``after``, (size_out,), over the weights other than 0 of every input; by
  default found from ``apply``.
- ``has_weights``: False if it is part of a Node's computation, such as a mean. The incoming spikes
  are then counted at the weights after the Node.

On a synapse: ``filter(dt)`` returns a `nengonet.layers.filters.Filter`, and ``batched`` as above.
"""

from __future__ import annotations

import numpy as np

# Mean and variance, (n_samples, n) each, and a delay in seconds.
Moments = tuple[np.ndarray, np.ndarray, float]
_STEPS = ("make_step", "__call__", "sample")


def known(thing: object, name: str, default: object = None) -> object:
    """Return an attribute by which an object describes itself, where that is still true.

    A subclass with its own step function must state the attribute again.
    """
    for cls in type(thing).__mro__:
        if name in vars(cls):
            return getattr(thing, name)
        if any(step in vars(cls) for step in _STEPS):
            return default
    return default
