"""Build the two simulators of `present` repeatably, and reset them to an example.

The user's objects do not change: seeds go into the model, and an example's images and states go
into the operators.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from weakref import WeakKeyDictionary

import nengo
import numpy as np
from nengo.base import ObjView
from nengo.builder import Model
from nengo.builder.neurons import SimNeurons
from nengo.builder.operator import Operator
from nengo.cache import NoDecoderCache, get_default_decoder_cache
from nengo.dists import Choice, Distribution
from nengo.processes import Process

from nengonet.layers.showing import ShowingBuilder, processes_of
from nengonet.minibatch import MinibatchSimulator
from nengonet.minibatch.carrying import put_weights, take_weights
from nengonet.minibatch.owning import own_copies, roots_of
from nengonet.minibatch.runaway import runaway_error
from nengonet.nengo_internals import precision_of
from nengonet.streams import neuron_seeds, reset_seed

# Warning filters are shared by all threads.
_building = threading.RLock()
# The functions that a simulator's operators called when it was built.
_originals: WeakKeyDictionary[nengo.Simulator, dict[Operator, object]] = WeakKeyDictionary()


@contextlib.contextmanager
def reference_simulator(
    network: nengo.Network,
    dt: float,
    seed: int,
    *,
    precision: int = 64,
    probe: nengo.Probe | None = None,
    shown: Mapping[nengo.Node, Process] | None = None,
) -> Iterator[nengo.Simulator]:
    """Build the unmodified ``nengo.Simulator``; ``probe`` may be outside the network.

    ``shown`` has the processes that Nodes run in this model instead of the network's.
    """
    with precision_of(precision):  # a Triangle asks for it at every reset
        with quiet():
            model = seeded_model(network, dt, seed, shown)
            model.build(network)
            if probe is not None:
                model.build(probe)
            simulator = nengo.Simulator(None, model=model, **_settings(dt, seed))
        with simulator:
            yield simulator


def minibatch_simulator(
    network: nengo.Network,
    minibatch_size: int,
    dt: float,
    seed: int,
    *,
    precision: int = 64,
    like: MinibatchSimulator | None = None,
    shown: Mapping[nengo.Node, Process] | None = None,
    keeps_states: bool = True,
) -> MinibatchSimulator:
    """Build the minibatch simulator of a network, or another one of an existing model.

    ``shown`` is as for `reference_simulator`. It must be reset before its first run. If a reset
    follows every run, the states need not be kept at its end.
    """
    with quiet(), precision_of(precision):
        if like is None:
            model = seeded_model(network, dt, seed, shown, unread=neurons_alone(network))
            given = {"network": network, "model": model}
        else:
            given = {"network": None, "model": like.model, "_constants": like._constants}
        settings = {"precision": precision, "_keeps_states": keeps_states, "_makes_steps": False}
        settings |= _settings(dt, seed)
        return MinibatchSimulator(minibatch_size=minibatch_size, **given, **settings)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Build one network at a time, without warnings that do not matter here."""
    with _building, warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        # If gain + bias < 1, a LIF neuron is silent at a drive of 1, and Nengo finds no max_rates
        # for the given gain. Nothing uses max_rates here.
        warnings.filterwarnings("ignore", "Non-finite values detected in `max_rates`")
        # Parallel runs lock the cache on disk. A run that finds it locked solves without the cache.
        warnings.filterwarnings("ignore", "Decoder cache")
        yield


def seeded_model(
    network: nengo.Network,
    dt: float,
    seed: int,
    shown: Mapping[nengo.Node, Process] | None = None,
    unread: Collection[nengo.Ensemble] = (),
) -> Model:
    """Return an empty model that seeds a network without its own seed.

    Evaluation points and encoders of the ensembles in ``unread`` are not drawn.
    """
    # Reading the cache's index takes longer than building a network in which nothing is solved.
    cache = get_default_decoder_cache() if decoded(network) else NoDecoderCache()
    builder = PlainBuilder(shown or {}, unread)
    model = Model(dt=dt, label=str(network), decoder_cache=cache, builder=builder)
    if network.seed is None:
        model.seeds[network], model.seeded[network] = seed, True
    return model


def decoded(network: nengo.Network) -> set[nengo.Ensemble]:
    """Return the ensembles whose decoders the build solves for."""
    read = (each.pre_obj for each in network.all_connections)
    objects = (*read, *map(_probed, network.all_probes))
    return {each for each in objects if isinstance(each, nengo.Ensemble)}


def _probed(probe: nengo.Probe) -> object:
    """Return the whole object that a probe records."""
    return probe.target.obj if isinstance(probe.target, ObjView) else probe.target


def neurons_alone(network: nengo.Network) -> set[nengo.Ensemble]:
    """Return the ensembles that are used for their neurons only, and whose tuning is stated.

    Nothing reads their evaluation points and encoders, and nothing else is drawn after these.
    """
    used = decoded(network) | {each.post_obj for each in network.all_connections}
    return {
        each
        for each in network.all_ensembles
        if type(each) is nengo.Ensemble
        and each not in used
        and not isinstance(each.neuron_type, nengo.Direct)
        and _is_stated(each)
    }


def _is_stated(ensemble: nengo.Ensemble) -> bool:
    """Return whether an ensemble's gain and bias are independent of the build's random draws."""
    given = ensemble.gain, ensemble.bias
    if given[0] is None and given[1] is None:
        given = ensemble.max_rates, ensemble.intercepts
    return not any(each is None or is_random(each) for each in given)


def is_random(value: object) -> bool:
    """Return whether a tuning is drawn at random; one value for all neurons is not."""
    alike = isinstance(value, Choice) and len(value.options) == 1
    return isinstance(value, Distribution) and not alike


class PlainBuilder(ShowingBuilder):
    """Build ensembles that are used for their neurons only, without drawing unread values.

    For a layer of a convolutional network, drawing them takes longer than the rest of the build.
    """

    def __init__(
        self, shown: Mapping[nengo.Node, Process], unread: Collection[nengo.Ensemble]
    ) -> None:
        super().__init__(shown)
        self.unread = unread

    def build(self, model: Model, obj: object, *args: object, **kwargs: object) -> object:
        """Build an object."""
        if not isinstance(obj, nengo.Ensemble) or obj not in self.unread:
            return super().build(model, obj, *args, **kwargs)
        few = obj.copy(add_to_container=False)
        few.n_eval_points, few.eval_points = None, np.zeros((1, obj.dimensions))
        few.encoders = np.ones((obj.n_neurons, obj.dimensions))
        model.seeds[few], model.seeded[few] = model.seeds[obj], model.seeded[obj]
        built = super().build(model, few)
        model.params[obj] = model.params.pop(few)
        for one, other in ((few, obj), (few.neurons, obj.neurons)):
            model.sig[other] = model.sig.pop(one)
        for seeds in (model.seeds, model.seeded):
            del seeds[few]
        return built


def _settings(dt: float, seed: int) -> dict[str, object]:
    # Nengo 4.1's optimizer lets random ensembles share one stream, and fails on some slices with a
    # stride. The order in which it merges also differs from build to build, and the streams of
    # unseeded processes follow that order.
    return {"dt": dt, "seed": seed, "progress_bar": False, "optimize": False}


def reset_to_example(
    simulator: nengo.Simulator,
    seed: int,
    example: int,
    images: Mapping[nengo.Node, np.ndarray] | None = None,
    *,
    carry: Sequence[str] = (),
) -> None:
    """Reset a simulator, and restart every random stream from the example's own seed.

    ``images`` has the images of the inputs; by default, inputs show their last images again.
    Nengo's reset does not touch objects that keep a state in Python (functions of Nodes, a user's
    processes, neuron types and operators). They are copied anew from the network's, as in
    `MinibatchSimulator.reset_to_examples`. ``carry`` has the same meaning as there.
    """
    operators = simulator.step_order
    roots, inputs = roots_of(operators), processes_of(simulator.model)
    originals = _originals.setdefault(simulator, {root.operator: root.original for root in roots})
    for root in roots:
        root.put(originals[root.operator])
    own = own_copies(roots, 1, simulator.model)
    for root in roots:
        called = originals[root.operator]
        for copies in own.objects:
            called = copies.get(root.operator, called)
        root.put(called)
    for node, image in (images or {}).items():
        inputs[node].process = inputs[node].process.showing(image, example, seed)
    states = [
        state
        for operator in operators
        if isinstance(operator, SimNeurons)
        for state in operator.state_extra.values()
    ]
    for state, fresh in zip(states, neuron_seeds(seed, example, len(states)), strict=True):
        state.seed(fresh)
    weights = take_weights(simulator, carry)
    simulator.reset(seed=reset_seed(seed, example))
    put_weights(simulator, weights)


def take_step(simulator: nengo.Simulator, example: int) -> None:
    """Do one step of the reference simulator, for an example."""
    try:
        simulator.step()
    except FloatingPointError as error:
        neurons = [op for op in simulator.step_order if isinstance(op, SimNeurons)]
        signals = simulator.signals
        raise runaway_error(
            error, simulator, neurons, lambda signal: signals[signal][..., np.newaxis], [example]
        ) from error
