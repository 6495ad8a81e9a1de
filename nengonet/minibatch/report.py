"""A readable report on how a minibatch is run."""

from __future__ import annotations

from typing import NamedTuple


class Report(NamedTuple):
    """How a network is run for a minibatch: see `MinibatchSimulator.report`.

    Attributes
    ----------
    minibatch_size : int
        Number of examples.
    n_operators : int
        Operators that run, of those that Nengo built.
    one_by_one : dict of {str: str}
        Objects that run for one example after the other, which is exact but slower, and why.
    numba : bool
        Whether Numba's kernels are used.
    in_stretches : bool
        Whether many steps at a time run outside Python.
    dense : tuple of str
        Objects whose output is multiplied as a matrix now, because many of their neurons spike.
        The spikes of all others are followed one by one. The choice is made anew
        during the run, by counting spikes.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     pixels = nn.constant_input((3,))
    ...     layer = nn.dense(pixels, np.eye(3), nengo.LIF(), gain=9.0, label="layer")
    >>> images = [[0.2, 0.5, 0.9]]
    >>> with nn.MinibatchSimulator(net, minibatch_size=10, progress_bar=False) as sim:
    ...     report = sim.report()
    >>> report.minibatch_size, report.one_by_one
    (10, {})
    """

    minibatch_size: int
    n_operators: int
    one_by_one: dict[str, str]
    numba: bool
    in_stretches: bool
    dense: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the report in a few lines."""
        single = len(self.one_by_one)
        how = ", many steps at a time" if self.in_stretches else ""
        lines = [
            f"examples: {self.minibatch_size}, with {'Numba' if self.numba else 'NumPy'}{how}",
            f"operators: {self.n_operators}, {single} of them example by example",
        ]
        if self.dense:
            lines.append(f"dense products, of many spikes: {', '.join(self.dense)}")
        return "\n".join(lines + [f"- {name} ({why})" for name, why in self.one_by_one.items()])
