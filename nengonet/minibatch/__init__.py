"""The minibatch twin: `nengo.Simulator` for many examples at once, with the same spikes."""

from nengonet.minibatch.records import OutputRecord
from nengonet.minibatch.registry import register
from nengonet.minibatch.simulator import MinibatchSimulator, precision_of

__all__ = ["MinibatchSimulator", "OutputRecord", "precision_of", "register"]
