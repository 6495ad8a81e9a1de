"""The minibatch twin: `nengo.Simulator` for many examples at once, with the same spikes."""

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
