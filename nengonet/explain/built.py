"""The values that Nengo's builder draws and solves for: tuning, encoders, decoders, transforms.

Each object is built separately, at its first use and with its seed in the network. A network with
nothing to draw or solve for is not built.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator

import nengo
import numpy as np
from nengo.builder import Model
from nengo.builder.ensemble import BuiltEnsemble, get_gain_bias
from nengo.builder.network import seed_network
from nengo.exceptions import NengoException

from nengonet.checks import as_seed
from nengonet.exceptions import InputError
from nengonet.layers.transforms import is_drawn
from nengonet.run.simulators import is_random, quiet, seeded_model


class Built:
    """The values that the build of a network gives to its objects.

    Parameters
    ----------
    network : nengo.Network
        The network that is simulated; the seeds of its objects follow from its seed.
    seed : int, optional
        Seed of a network that has none, as in `present`; by default 0.
    dt : float, in seconds
    """

    def __init__(self, network: nengo.Network, seed: int | None = None, dt: float = 0.001) -> None:
        self._network, self._dt = network, dt
        self._seed = as_seed(seed, network.seed)
        self._solved: dict[nengo.Connection, tuple] = {}

    @functools.cached_property
    def _model(self) -> Model:
        model = seeded_model(self._network, self._dt, self._seed)
        seed_network(self._network, model.seeds, model.seeded, np.random.RandomState(self._seed))
        return model

    def seed_of(self, thing: object) -> int:
        """Return the seed that an object of the network is built with."""
        return int(self._model.seeds[thing])

    def ensemble(self, ensemble: nengo.Ensemble) -> BuiltEnsemble:
        """Return gain, bias and encoders of an Ensemble."""
        if ensemble not in self._model.params:
            with _building(ensemble):
                self._model.build(ensemble)
        return self._model.params[ensemble]

    def tuning(self, ensemble: nengo.Ensemble) -> tuple[np.ndarray, np.ndarray]:
        """Return gain and bias; one value given for all neurons needs no build."""
        names = ("max_rates", "intercepts") if ensemble.gain is None else ("gain", "bias")
        if any(is_random(getattr(ensemble, name)) for name in names):
            return self.ensemble(ensemble)[5:]
        with _building(ensemble):
            gain, bias, *_ = get_gain_bias(ensemble, np.random.RandomState(0))
        return gain, bias

    def weights(self, connection: nengo.Connection) -> tuple[np.ndarray | None, object]:
        """Return decoders, (size, n_neurons), and transform weights of a connection, or None.

        Decoders are None unless it comes from an Ensemble, weights unless the build draws them.
        """
        if connection not in self._solved:
            self._solved[connection] = self._solve(connection)
        return self._solved[connection]

    def _solve(self, connection: nengo.Connection) -> tuple[np.ndarray | None, object]:
        decoders, transform = None, connection.transform
        solves, drawn = is_decoded(connection), is_drawn(transform)
        if not solves and not drawn:
            return None, None
        # As in nengo.builder.connection.build_connection, the solver draws first.
        rng = np.random.RandomState(self._model.seeds[connection])
        if solves:
            self.ensemble(connection.pre_obj)
            if isinstance(connection.post_obj, nengo.Ensemble):
                self.ensemble(connection.post_obj)
            with _building(connection), self._model.decoder_cache:
                _, decoders, _ = self._model.build(connection.solver, connection, rng)
        return decoders, transform.sample(rng=rng) if drawn else None


def is_decoded(connection: nengo.Connection) -> bool:
    """Whether a connection has decoders: it comes from an Ensemble with neurons."""
    pre = connection.pre_obj
    return isinstance(pre, nengo.Ensemble) and not isinstance(pre.neuron_type, nengo.Direct)


@contextlib.contextmanager
def _building(thing: object) -> Iterator[None]:
    """Let Nengo build, and name an object that it cannot build."""
    try:
        with quiet(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    except (NengoException, NotImplementedError, np.linalg.LinAlgError) as error:
        raise InputError(f"Nengo cannot build the network: {error}") from None
