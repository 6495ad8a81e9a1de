"""Public names of `nengonet.results.readout`, for ``from nengonet.readout import accuracy``."""

import sys

from nengonet.results import readout

sys.modules[__name__] = readout
