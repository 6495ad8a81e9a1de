"""The minibatch simulator: `nengo.Simulator` for many examples at once, with the same spikes.

Every operator has a step for all examples (`registry`). `plan` leaves out operators that change
nothing. With Numba, a network without feedback is read as stages (`flow`). `stretches` then runs
one stage for many steps before the next.
"""

from nengonet.minibatch.owning import stateless
from nengonet.minibatch.records import OutputRecord
from nengonet.minibatch.registry import register
from nengonet.minibatch.report import Report
from nengonet.minibatch.simulator import MinibatchSimulator
from nengonet.neurons import elementwise

__all__ = [
    "MinibatchSimulator",
    "OutputRecord",
    "Report",
    "elementwise",
    "register",
    "stateless",
]
