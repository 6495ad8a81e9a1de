"""`MinibatchSimulator`: the reference simulator on signals with a trailing batch axis."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Mapping, Sequence

import nengo
import numpy as np
from nengo.builder.operator import Operator
from nengo.builder.signal import Signal
from nengo.connection import Neurons
from nengo.exceptions import SimulatorClosed
from nengo.utils.progress import Progress, ProgressTracker
from numpy.typing import ArrayLike

from nengonet.checks import as_examples, as_number, as_seed, positive_integer
from nengonet.exceptions import InputError
from nengonet.layers.graph import as_network
from nengonet.layers.inputs import images_by_node
from nengonet.minibatch import convolutions, neuron_steps, operators, processes
from nengonet.minibatch.acceleration import load_kernels, telling
from nengonet.minibatch.carrying import put_weights, take_weights
from nengonet.minibatch.data import MinibatchData, feeding
from nengonet.minibatch.late import catch_up
from nengonet.minibatch.model_facts import ModelFacts, has_half_precision, read_model
from nengonet.minibatch.one_by_one import new_streams, one_by_one, own_processes
from nengonet.minibatch.one_thread import on_one_blas_thread
from nengonet.minibatch.owning import Own, own_copies, roots_of
from nengonet.minibatch.plan import plan_of
from nengonet.minibatch.records import OutputRecord
from nengonet.minibatch.registry import Constants, Context, Step, label_of, maker_of, name_of
from nengonet.minibatch.report import Report
from nengonet.minibatch.runaway import runaway_error
from nengonet.minibatch.signals import BatchSignals
from nengonet.minibatch.stretches import Stretches, Watch, stretches_of
from nengonet.nengo_internals import precision_of, read_clock

# Importing these modules registers the makers of Nengo's operators.
_MAKERS_OF_NENGO = (convolutions, neuron_steps, operators, processes)

_Steps = list[tuple[Step, "Operator | None"]]


class MinibatchSimulator(nengo.Simulator):
    """Run a network for many examples at once, as `nengo.Simulator` runs each of them.

    It builds the model with the reference builder and runs the same operators on signals of shape
    ``(n, batch)``. Example ``i`` gives the same results as ``nengo.Simulator`` after
    ``nengonet.run.simulators.reset_to_example(simulator, seed, i)``. The parameters are those of
    `nengo.Simulator`, and some that a minibatch needs besides.

    Parameters
    ----------
    network : nengo.Network
        A network of Nodes, Ensembles, Connections and Probes, with or without learning rules.
    minibatch_size : int
        Number of examples. A float below 1 is taken as ``dt``, the second argument of
        `nengo.Simulator`.
    dt : float, in seconds
    seed : int, optional
        Seed of processes and random neurons (see `reset`). By default the network's plus 1, as in
        `nengo.Simulator`.
    model : nengo.builder.Model, optional
        A model that is already built; ``network`` may then be None.
    progress_bar : bool or nengo.utils.progress.ProgressBar
    optimize : bool
        Let Nengo merge operators. This saves calls, of which a minibatch has few, so it is off by
        default. Merging may change the order in which processes without a seed draw their seeds.
    precision : {32, 64}, optional
        Bits of a number; by default Nengo's setting ``precision.bits``.
    numba : bool, optional
        Use Numba's kernels, for numbers of 32 and 64 bits. By default, if Numba is installed
        (extra ``fast``), unless the environment variable ``NENGONET_NUMBA`` is ``0``.

    Attributes
    ----------
    examples : (batch,) ndarray of int
        The examples' numbers, which determine their random streams.
    data : Mapping
        ``data[probe]`` is of shape ``(batch, n_steps, n)``. If weights are learned,
        ``data[connection].weights`` are each example's current ones, ``(batch, post, pre)``. The
        same holds for an ensemble's learned encoders. All else is as in `nengo.Simulator`.
    signals : BatchSignals
        Signals of shape ``(n, batch)``, and shared ones. Signals that nothing reads are not kept
        up to date.

    Raises
    ------
    InputError
        The network contains something that the minibatch cannot run, which the message names.

    Notes
    -----
    Spikes are those of `nengo.Simulator`, with one reservation. Sums over inputs are added up in
    another order, which depends on ``numba``, on the number of examples and on how much they spike.
    With AVX-512 instructions, NumPy and Numba also differ in the last bit of ``log1p`` and
    ``expm1``. In 64 bits, this shows only where a voltage meets its threshold exactly, as with
    decimal weights and initial voltages. In 32 bits, rounding is coarser, and may move a spike too.

    Random numbers follow from the seed and the example's number, also for the first example. With
    this seed, a plain ``nengo.Simulator`` draws others. Without random numbers, both are the same.

    Learning rules change each example's own weights from the start, which takes ``batch`` times as
    much memory. An operator without a batched step runs for one example after the other, by the
    reference's own step. `report` names it, and `nengonet.minibatch.register` adds a step.

    With several examples, each has its own copy of every Python object that keeps a state:
    functions of Nodes, processes and neuron types that are not Nengo's. Copies are made when the
    simulator is built, and anew in `reset_to_examples`. `reset` leaves them as they are, like
    `nengo.Simulator`. An object that cannot be copied (a generator, globals that a function writes,
    NumPy's global random stream, an array above 1 MB that it writes to) is an error that names the
    Node. A Node without output that shares nothing with the others has one function for all
    examples. If it has no input either, the function is called once a step. Unlike the reference,
    `reset` restarts the random neuron types too.

    Steps run on one BLAS thread, including the functions of Nodes. Afterwards the process has as
    many as before. Other cores are for other examples: see ``n_jobs`` of `nengonet.present`.

    Examples
    --------
    >>> with nengo.Network(seed=0) as net:
    ...     source, neurons = nengo.Node([0.0]), nengo.Ensemble(50, dimensions=1, seed=1)
    ...     link, decoded = nengo.Connection(source, neurons), nengo.Probe(neurons, synapse=0.05)
    >>> with nn.MinibatchSimulator(net, minibatch_size=3, progress_bar=False) as sim:
    ...     sim.run_steps(500, data={source: [[-0.5], [0.2], [0.5]]})
    ...     print(sim.data[decoded].shape, sim.data[decoded][:, -1, 0].round(1).tolist())
    (3, 500, 1) [-0.5, 0.2, 0.5]
    """

    def __init__(
        self,
        network: nengo.Network | None,
        minibatch_size: int = 1,
        dt: float = 0.001,
        seed: int | None = None,
        model: nengo.builder.Model | None = None,
        progress_bar: object = True,
        optimize: bool = False,
        *,
        precision: int | None = None,
        numba: bool | None = None,
        _constants: Constants | None = None,
        _keeps_states: bool = True,
        _makes_steps: bool = True,
    ) -> None:
        self.closed = True
        if isinstance(minibatch_size, float) and 0 < minibatch_size < 1 and dt == 0.001:
            minibatch_size, dt = 1, minibatch_size
        self.examples = np.arange(positive_integer("minibatch_size", minibatch_size))
        dt = as_number("dt", dt, "a time in seconds", above=0)
        seed = None if seed is None else as_seed(seed)
        self._kernels = load_kernels(numba)
        # Whether a run ends by writing the stages' states back; before a reset, it need not.
        self._keeps_states = _keeps_states
        # Values that follow from the model alone, which another simulator of it may share.
        self._constants = Constants() if _constants is None else _constants
        self._records: list[tuple[Signal, OutputRecord]] = []
        self._images: dict[nengo.Node, np.ndarray] = {}
        self._fed: dict[nengo.Node, np.ndarray] = {}
        self._own: Own | None = None
        self._facts: ModelFacts | None = None
        self._times: dict[str, float] | None = None
        if network is not None:
            as_network(network)
        with precision_of(precision):
            try:
                super().__init__(network, dt, seed, model, progress_bar, optimize)
                if _makes_steps:
                    self._single_steps()  # raises an error if it cannot run the network
            except BaseException:
                self.closed = True
                raise

    def __getstate__(self) -> dict:
        """Refuse to be pickled."""
        raise TypeError(
            "a MinibatchSimulator cannot be pickled, as neither random streams nor what examples "
            "keep in functions can be taken along: build one in each process"
        )

    def __repr__(self) -> str:
        """Show network, size and step."""
        state = "closed" if self.closed else f"time {self.time:.6g} s"
        what = f"{self.model.toplevel}, {self.minibatch_size} examples, dt {self.dt:g} s, {state}"
        return f"<MinibatchSimulator of {what}>"

    @property
    def minibatch_size(self) -> int:
        """Number of examples."""
        return len(self.examples)

    def close(self) -> None:
        """Close the simulator; ``data`` remains readable."""
        if not self.closed:
            self.data.hold()
            # The data and the simulator refer to each other, so Python would free this much later.
            self._forget_steps()
            self._records, self._images, self._states = [], {}, {}
            self._constants = Constants()
        super().close()

    def reset(self, seed: int | None = None) -> None:
        """Return to the initial state, and restart every example's random streams.

        Parameters
        ----------
        seed : int, optional
            Seed of all random streams, with the examples' numbers; by default the last one.
        """
        self._check_open()
        if seed is not None:
            self.seed = as_seed(seed)
        if self._facts is None:
            if has_half_precision(self.model):
                self._kernels = None
            self._facts = read_model(self.model, self.step_order, self._kernels is not None)
            self.data = MinibatchData(self)
        if not isinstance(self.signals, BatchSignals) or self.signals.batch != self.minibatch_size:
            self.signals = self._facts.signals(self.minibatch_size)
        for signal in self._facts.written:
            self.signals.reset(signal)
        if self._own is None:
            roots = roots_of(self.step_order) if self.minibatch_size > 1 else []
            self._own = own_copies(roots, self.minibatch_size, self.model)
        self._own = self._own._replace(objects=own_processes(self))
        self.rng = np.random.RandomState(self.seed)
        self._states: dict = new_streams(self)
        for signal, record in self._records:
            record.restart((self.minibatch_size, signal.size), signal.dtype)
        self._forget_steps()
        self.clear_probes()
        read_clock(self)

    def reset_to_examples(
        self,
        images: ArrayLike | Mapping[nengo.Node, ArrayLike] | None = None,
        examples: np.ndarray | None = None,
        seed: int | None = None,
        *,
        carry: Sequence[str] = (),
    ) -> None:
        """Reset, and set which examples are shown.

        Parameters
        ----------
        images : (batch, n_pixels) array_like or dict of {Node: (batch, n_pixels) array_like}
            Images for the network's image input (`nengonet.poisson_input`,
            `nengonet.constant_input`), or for each of several inputs. By default those of the last
            call; if there are none, every example shows the image of the input's last ``show``.
        examples : (batch,) array_like of int, optional
            The examples' numbers. Example 17 gets the same random streams in any batch. By
            default 0, 1, 2, … Their number may change: `minibatch_size` follows it.
        seed : int, optional
            Seed of all random streams; by default the last one.
        carry : sequence of str
            Names of what outlives the reset: ``["weights"]`` for everything learned, with the
            change of the last step. Each place of the minibatch keeps its own weights.

        Raises
        ------
        InputError
            The images do not fit the input or the examples; plain images are given, but the network
            does not have exactly one image input; an example's number is below 0; or weights are
            to outlive a reset to another number of examples.
        """
        self._check_open()
        inputs = self._facts.image_inputs
        running = {node: operator.process for node, operator in inputs.items()}
        shown = {} if images is None else images_by_node(images, inputs, inputs, running)
        n = self.minibatch_size if examples is None else max(np.size(examples), 1)
        examples = as_examples(examples, next(map(len, shown.values()), n))
        kept = self._images | shown
        for node, each in kept.items():
            if len(each) != len(examples):
                found = f"{'' if node in shown else 'those of the last call, '}{len(each)}"
                raise InputError(
                    f"images: expected {len(examples)} images for {node}, one for each example, "
                    f"got {found}"
                )
        weights = take_weights(self, carry, len(examples))
        self.examples, self._images = examples, kept
        self._own = own_copies(roots_of(self.step_order), len(examples), self.model)
        self.reset(seed)
        put_weights(self, weights)

    def record(self, target: nengo.Node | Neurons, *, steps: bool = False) -> OutputRecord:
        """Keep the output of a node or of neurons, without a probe.

        Parameters
        ----------
        target : nengo.Node or nengo.ensemble.Neurons
            For a `nengonet.Layer`, its ``output``.
        steps : bool
            Keep the output of every step too, not only their sum.

        Returns
        -------
        OutputRecord
            Up to date after every step. It begins anew at every reset.

        Raises
        ------
        InputError
            The target is not a node or neurons of the network.
        """
        signal = self.model.sig[target].get("out") if target in self.model.sig else None
        if signal is None:
            raise InputError(f"record: expected a node or neurons of the network, got {target!r}")
        record = OutputRecord(steps)
        self._records.append((signal, record))
        record.restart((self.minibatch_size, signal.size), signal.dtype)
        self._forget_steps()
        return record

    def run(
        self,
        time_in_seconds: float,
        progress_bar: object = None,
        *,
        data: Mapping[nengo.Node, np.ndarray] | None = None,
    ) -> None:
        """Simulate for some time: see `nengo.Simulator.run`, and `run_steps` for ``data``."""
        time_in_seconds = as_number("time_in_seconds", time_in_seconds, "seconds")
        with feeding(self, data, max(0, round(time_in_seconds / self.dt))):
            super().run(time_in_seconds, progress_bar=progress_bar)

    @on_one_blas_thread
    def run_steps(
        self,
        steps: int,
        progress_bar: object = None,
        *,
        data: Mapping[nengo.Node, np.ndarray] | None = None,
        on_progress: Callable[[int], object] | None = None,
    ) -> None:
        """Simulate a number of steps.

        Parameters
        ----------
        steps : int
        progress_bar : bool or nengo.utils.progress.ProgressBar, optional
        data : dict of {Node: (batch, steps, n) or (batch, n) array_like}, optional
            The output of nodes without input. During this call it replaces their own output. Give
            a row for each step, or one row for all steps.
        on_progress : callable, optional
            Called now and then with the number of steps done so far, summed over all examples; at
            the end it is ``steps * minibatch_size``.

        Raises
        ------
        InputError
            ``steps`` is not a number of steps; a node is not in the network or has an input of its
            own; or its data have another shape, or are not finite numbers.
        """
        self._check_open()
        steps = positive_integer("steps", steps)
        progress_bar = self.progress_bar if progress_bar is None else progress_bar
        with (
            feeding(self, data, steps),
            telling(bool(progress_bar)),
            ProgressTracker(progress_bar, Progress("Simulating", "Simulation", steps)) as tracker,
        ):
            n_done, tell = 0, on_progress or (lambda n_steps: None)
            try:
                while steps > 0:
                    done = self._advance(steps, lambda more, before=n_done: tell(before + more))
                    tracker.total_progress.step(done)
                    n_done += done * self.minibatch_size
                    tell(n_done)
                    steps -= done
            finally:
                if self._keeps_states:
                    self._finish_stretches()
                catch_up(self._states)

    @on_one_blas_thread
    def step(self) -> None:
        """Advance by one step of ``dt`` seconds."""
        self._check_open()
        self._step()
        catch_up(self._states)

    def _step(self) -> None:
        with np.errstate(invalid="raise", divide="ignore"):
            steps = self._single_steps()
            self._take_first_steps()
            self._take(steps)
        self._own.check()
        read_clock(self)
        for probe, signal in self._probed:
            if self._is_sampled(probe)(self.n_steps):
                catch_up(self._states, signal)
                self.data.raw[probe].append(self.signals[signal].copy())

    @property
    def runs_in_stretches(self) -> bool:
        """Whether many steps at a time run outside Python: in networks without feedback."""
        self._prepare()
        if self._make_stretches is not None:
            self._stretches, self._make_stretches = self._make_stretches(), None
        return self._stretches is not None

    def report(self) -> Report:
        """Return how the network is run: which objects run example by example, and why.

        Returns
        -------
        Report
            Prints as a short text.
        """
        in_stretches = self.runs_in_stretches
        self._single_steps()
        return Report(
            minibatch_size=self.minibatch_size,
            n_operators=self._n_operators,
            one_by_one={
                f"{name_of(operator, self.model)}: {label_of(operator)}": why
                for operator, why in self._one_by_one.items()
            },
            numba=self._kernels is not None,
            in_stretches=in_stretches,
            dense=tuple(dict.fromkeys(name_of(each, self.model) for each in self._dense())),
        )

    def _dense(self) -> list[Operator]:
        """Return the operators whose products are dense now."""
        if self._stretches is not None:
            return self._stretches.dense
        return [operator for operator, is_dense in self._is_dense.items() if is_dense()]

    def profile_steps(self, steps: int) -> dict[str, float]:
        """Run some steps, and time each operator.

        Parameters
        ----------
        steps : int

        Returns
        -------
        times : dict of float, in seconds
            By operator, in the order in which they run. Operators that run many steps at a time
            are listed by their output, and include the products that feed them.
        """
        self._times = {}
        self._forget_steps()
        try:
            self.run_steps(steps, progress_bar=False)
            return {name: spent for name, spent in self._times.items() if spent > 0}
        finally:
            self._times = None
            self._forget_steps()

    def _check_open(self) -> None:
        if self.closed:
            raise SimulatorClosed("Simulator cannot run or be reset because it is closed.")

    def _advance(self, most: int, tell: Callable[[int], object]) -> int:
        """Do one step, or several at once if the network runs in stretches."""
        done = 0
        if self.runs_in_stretches:
            with np.errstate(invalid="raise", divide="ignore"):
                self._take_first_steps()
                done = self._stretches.advance(
                    most, self.n_steps, tell, keeps_states=self._keeps_states
                )
            if self._stretches.is_over:
                self._finish_stretches()
                self._stretches = None
        if done == 0:
            self._finish_stretches()
            self._step()
            return 1
        read_clock(self)
        return done

    def _finish_stretches(self) -> None:
        if self._stretches is not None:
            self._stretches.finish()

    def _take_first_steps(self) -> None:
        self._take(self._first_steps)
        self._first_steps = []

    def _take(self, steps: _Steps) -> None:
        for step, operator in steps:
            try:
                step()
            except FloatingPointError as error:
                failed = [] if operator is None else [operator]
                operand = self.signals.operand
                raise runaway_error(error, self, failed, operand, self.examples) from error

    def _forget_steps(self) -> None:
        # Also forget the operators that the steps are made from.
        self._context: Context | None = None
        self._steps: _Steps | None = None
        self._stretches: Stretches | None = None
        self._make_stretches: Callable[[], Stretches | None] | None = None
        self._first_steps: _Steps = []

    def _prepare(self) -> None:
        """Make what single steps and stretches begin with, unless it is already made."""
        if self._context is not None:
            return
        self._probed = [(probe, self.model.sig[probe]["in"]) for probe in self.model.probes]
        context = self._context = plan_of(self)
        self._feeds: _Steps = []
        for node, rows in self._fed.items():
            array = self.signals[self._facts.nodes[node]]
            if rows.ndim == 2:
                array[...] = rows.T
            else:
                self._feeds.append((functools.partial(self._feed, array, rows), None))
        self._first_steps = self._made(context.once, context)
        # Stretches take the events of these inputs.
        inputs = [each for each in self._facts.image_inputs.values() if each in context.always]
        self._shown = {operator: self._made([operator], context) for operator in inputs}
        for signal, record in self._records:
            events = context.events_of(signal)
            if events is not None and not record.keeps_steps:
                events.keep(record)
        if all(rows.ndim == 2 for rows in self._fed.values()):
            watched = [(signal, self._watch(probe)) for probe, signal in self._probed]
            # Made when a run begins, because a reset before it would waste the work.
            self._make_stretches = functools.partial(
                stretches_of, context.always, self._records, watched, context, self._named
            )

    def _single_steps(self) -> _Steps:
        """Return what a single step does; made when it is needed, as most networks never do."""
        self._prepare()
        if self._steps is None:
            context = self._context
            made = [
                self._shown.get(operator) or self._made([operator], context)
                for operator in context.always
            ]
            self._steps = [*self._feeds, *itertools.chain(*made)]
            self._one_by_one, self._is_dense = context.one_by_one, context.is_dense
            self._n_operators = len(context.once) + len(context.always)
            for signal, record in self._records:
                if context.events_of(signal) is None or record.keeps_steps:
                    add = functools.partial(record.add, self.signals[signal])
                    self._steps.append((self._named(add, f"record {signal.name}"), None))
        return self._steps

    def _watch(self, probe: nengo.Probe) -> Watch:
        return self._is_sampled(probe), lambda output: self.data.raw[probe].append(output)

    def _is_sampled(self, probe: nengo.Probe) -> Callable[[int], bool]:
        """Return a function that tells whether a probe samples the output of a numbered step."""
        period = 1 if probe.sample_every is None else probe.sample_every / self.dt
        return lambda n_steps: n_steps % period < 1

    def _made(self, operators: Sequence[Operator], context: Context) -> _Steps:
        made = (
            ((maker_of(operator) or one_by_one)(operator, context), operator)
            for operator in operators
        )
        return [
            (self._named(step, label_of(operator)), operator)
            for step, operator in made
            if step is not None
        ]

    def _named(self, step: Callable, name: str) -> Callable:
        """Return the step, timed if `profile_steps` asks for it."""
        times = self._times
        if times is None:
            return step
        times.setdefault(name, 0.0)

        def timed(*arguments):
            start = time.perf_counter()
            result = step(*arguments)
            times[name] += time.perf_counter() - start
            return result

        return timed

    def _feed(self, array: np.ndarray, rows: np.ndarray) -> None:
        array[...] = rows[:, self.n_steps - self._fed_from].T
