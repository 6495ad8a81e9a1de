"""What an object in a Node, a transform or a synapse says of itself.

Prediction, the ANN, synaptic operations and the minibatch simulator ask for these attributes, on
nengonet's objects and on a user's alike. Each is optional: what is missing is refused by name, or
stepped example by example.

In a Node, on its function or Process:

- ``moments(mean, variance, dt)`` returns mean and variance of the output's steps, and its delay in
  seconds, for those of the input, (n_samples, n) each. Without an input, the mean is what the
  images show and the variance is 0. The ANN computes the mean.
- ``amplitude``: the area of the spikes that it puts out, or None.
- ``passes_spikes``: True where whole spikes come out where whole spikes come in.
- ``batched``: True where one step serves a minibatch: its arrays may have the examples last, it
  draws no random numbers, puts out finite ones, and keeps a state only in ``make_state``'s arrays.
- ``showing(image, example, seed)``, on a Process without input, returns the Process that shows an
  example's image: `present` finds the input by it, and an example has a Process of its own.
- ``steady(images)``, ``by_step(images)`` or ``events(images, dt)``, on a Process that shows images,
  say it for a whole minibatch: the outputs of all steps, (n_images, n); those of each step,
  (n_images, n_steps, n); or the Poisson rates in Hz, (n_images, n), and a spike's height.

On a transform:

- ``apply(values, power)`` returns what it makes of values, (n_samples, size_in), with its weights
  to a power: 2 for variances.
- ``reached(after)`` sums ``after``, (size_out,), over the weights other than 0 of every input; by
  default found from ``apply``.
- ``has_weights``: False where it computes a Node's own business, such as a mean, and the spikes
  that come in are counted at the weights behind the Node.

On a synapse: ``filter(dt)`` returns a `nengonet.layers.filters.Filter`, and ``batched`` as above.
"""

from __future__ import annotations

import numpy as np

# Mean and variance, (n_samples, n) each, and a delay in seconds.
Moments = tuple[np.ndarray, np.ndarray, float]
_STEPS = ("make_step", "__call__", "sample")


def known(thing: object, name: str, default: object = None) -> object:
    """Return what an object says of itself, where that is still true.

    A subclass that steps in a way of its own is unknown until it says again what its class said.
    """
    for cls in type(thing).__mro__:
        if name in vars(cls):
            return getattr(thing, name)
        if any(step in vars(cls) for step in _STEPS):
            return default
    return default
