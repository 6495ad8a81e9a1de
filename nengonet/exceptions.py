"""The errors that nengonet raises."""


class InputError(ValueError):
    """Raised when an argument or a file cannot be used.

    The message is one line: the file, layer or argument, what was expected, what was given and,
    where it is known, what to do. The command line prints it and exits with 2.

    Examples
    --------
    >>> with nengo.Network():
    ...     pixels = nn.constant_input((3,))
    ...     nn.dense(pixels, np.eye(4), nengo.LIF())
    Traceback (most recent call last):
        ...
    nengonet.exceptions.InputError: dense: kernel has 4 inputs, but the layer before it,
    input, has 3 neurons (shape (3,))
    """


class RunawayError(InputError, FloatingPointError):
    """Raised when a network's currents or spikes grow beyond what its numbers can hold.

    The message names the layer, and the step or the example.
    """


class UnknownName(InputError, KeyError):
    """Raised for an unknown name in a mapping; also a KeyError, as mappings raise."""

    __str__ = Exception.__str__
