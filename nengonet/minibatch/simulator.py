"""`MinibatchSimulator`: the reference simulator on signals with a trailing batch axis."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

import nengo
import numpy as np
from nengo.builder.neurons import SimNeurons
from nengo.builder.operator import Operator
from nengo.builder.processes import SimProcess
from nengo.builder.signal import Signal
from nengo.connection import Neurons
from nengo.exceptions import SimulatorClosed
from nengo.simulator import SimulationData
from nengo.utils.progress import Progress, ProgressTracker

from nengonet.checks import (
    as_examples,
    as_number,
    as_numbers,
    as_seed,
    check_finite,
    described,
    positive_integer,
)
from nengonet.exceptions import InputError
from nengonet.layers.graph import as_network
from nengonet.minibatch import convolutions, neuron_steps, operators, processes
from nengonet.minibatch.acceleration import load_kernels
from nengonet.minibatch.owning import Own, own_copies, roots_of
from nengonet.minibatch.plan import Plan, make_plan
from nengonet.minibatch.records import OutputRecord, examples_first
from nengonet.minibatch.registry import Context, Step, label_of, maker_of, name_of
from nengonet.minibatch.runaway import runaway_error
from nengonet.minibatch.signals import BatchSignals, same_place, writes
from nengonet.minibatch.stretches import FusedRow, fuse_row
from nengonet.nengo_internals import precision_of, read_clock

# Importing them registers the makers of Nengo's operators.
_MAKERS_OF_NENGO = (convolutions, neuron_steps, operators, processes)


class MinibatchSimulator(nengo.Simulator):
    """Run a network for many examples at once, as `nengo.Simulator` runs each of them.

    Builds the model with the reference builder and runs the same operators on signals of shape
    ``(n, batch)``. Example ``i`` gets what ``nengo.Simulator`` gives after
    ``nengonet.run.simulators.reset_to_example(simulator, seed, i)``.

    Parameters
    ----------
    network : nengo.Network
        Of Nodes, Ensembles, Connections and Probes, without learning rules.
    minibatch_size : int
        Number of examples.
    dt : float, in seconds
    seed : int, optional
        Of processes and random neurons: see `reset`. By default the network's seed plus 1, as in
        `nengo.Simulator`.
    model : nengo.builder.Model, optional
        A model that is built already; ``network`` may then be None.
    progress_bar : bool or nengo.utils.progress.ProgressBar
    optimize : bool
        Let Nengo merge operators. It saves calls, of which a minibatch has few, so it is off by
        default. Merging may change the order in which processes without a seed draw theirs.
    precision : {32, 64}, optional
        Bits of a number; by default Nengo's setting ``precision.bits``.
    numba : bool, optional
        Use Numba's kernels, for numbers of 32 and 64 bits. By default where Numba is installed
        (extra ``fast``), unless the environment variable ``NENGONET_NUMBA`` is ``0``.

    Attributes
    ----------
    minibatch_size : int
    examples : (batch,) ndarray of int
        The examples' numbers, which choose their random streams.
    data : Mapping
        ``data[probe]`` is of shape ``(batch, n_steps, n)``; other objects as in
        `nengo.Simulator`.
    signals : BatchSignals
        Signals of shape ``(n, batch)``, and shared ones. Those that nothing reads are not kept up
        to date.

    Raises
    ------
    InputError
        The network holds what the minibatch cannot run, named in the message.

    Notes
    -----
    Spikes are those of `nengo.Simulator`, with one reservation. Sums over inputs are added up in
    another order, which depends on the number of examples and on ``numba``, and with AVX-512
    instructions NumPy computes the last bit of ``log1p`` and ``expm1`` otherwise than Numba. In 64
    bits that shows only where a voltage meets its threshold exactly, as with decimal weights and
    first voltages; in 32 bits rounding is coarser, and now and then moves a spike elsewhere too.

    With several examples, each has its own copy of what keeps a state in Python: functions of
    Nodes, processes and neuron types that are not Nengo's. The copies are made when the simulator
    is built, and anew in `reset_to_examples`, from the objects as they are then; `reset` leaves
    them as they are, as `nengo.Simulator.reset` does. What cannot be copied (generators, globals
    that a function writes, NumPy's global random stream, arrays above 1 MB that it writes to) is an
    error that names the Node. A Node without output that shares nothing with the others has one
    function for all examples. Unlike the reference, `reset` restarts the random neuron types too.
    """

    def __init__(
        self,
        network: nengo.Network | None,
        minibatch_size: int,
        dt: float = 0.001,
        seed: int | None = None,
        model: nengo.builder.Model | None = None,
        progress_bar: object = True,
        optimize: bool = False,
        *,
        precision: int | None = None,
        numba: bool | None = None,
    ) -> None:
        self.closed = True
        self.minibatch_size = positive_integer("minibatch_size", minibatch_size)
        dt = as_number("dt", dt, "a time in seconds", above=0)
        seed = None if seed is None else as_seed(seed)
        self.examples = np.arange(self.minibatch_size)
        _refuse_learning(network)
        self._kernels = load_kernels(numba)
        self._times: dict[str, float] | None = None
        self._constants: dict = {}
        self._records: list[tuple[Signal, OutputRecord]] = []
        self._images: dict[Operator, np.ndarray] = {}
        self._batched: set[Signal] | None = None
        self._fed: tuple[nengo.Node, ...] = ()
        self._varying: tuple[nengo.Node, ...] = ()
        self._own: Own | None = None
        with precision_of(precision):
            try:
                super().__init__(
                    network,
                    dt=dt,
                    seed=seed,
                    model=model,
                    progress_bar=progress_bar,
                    optimize=optimize,
                )
                self._make_steps()  # refuses what it cannot run
            except BaseException:
                self.closed = True
                raise

    def __getstate__(self) -> dict:
        """Refuse to be pickled."""
        raise TypeError("a MinibatchSimulator cannot be pickled: build one in each process")

    def reset(self, seed: int | None = None) -> None:
        """Go back to the initial state, and restart every example's random streams.

        Parameters
        ----------
        seed : int, optional
            Of all random streams, together with the examples' numbers; by default the last one.
        """
        if self.closed:
            raise SimulatorClosed("Cannot reset closed Simulator.")
        if seed is not None:
            self.seed = as_seed(seed)
        if self._batched is None:
            self._prepare()
        if not isinstance(self.signals, BatchSignals) or self.signals.batch != len(self.examples):
            self._allocate()
        for signal in self._written:
            self.signals.reset(signal)
        seed = int(self.seed)
        self._states: dict = neuron_steps.new_streams(
            [op for op in self.step_order if isinstance(op, SimNeurons)], seed, self.examples
        ) | processes.new_streams(
            [op for op in self.step_order if isinstance(op, SimProcess)], seed, self.examples
        )
        for signal, record in self._records:
            self._restart(signal, record)
        self._forget_steps()
        self.clear_probes()
        read_clock(self)

    def reset_to_examples(
        self,
        images: np.ndarray | Mapping[nengo.Node, np.ndarray] | None = None,
        examples: np.ndarray | None = None,
        seed: int | None = None,
    ) -> None:
        """Reset, and set which examples are shown.

        Parameters
        ----------
        images : (batch, n_pixels) array_like or dict of {Node: (batch, n_pixels) array_like}
            For the network's image input (`nengonet.poisson_input`, `nengonet.constant_input`),
            or for each of several. By default those of the last call, or else the image of the
            input's last ``show``, for every example.
        examples : (batch,) array_like of int, optional
            The examples' numbers. Example 17 gets the same random streams in any batch. By
            default 0, 1, 2, …
        seed : int, optional
            By default the last one.

        Raises
        ------
        InputError
            The images do not fit the input or the examples, the network has not the one image input
            that plain images are for, or an example's number is below 0.

        Notes
        -----
        The number of examples need not be the same in every call: `minibatch_size` follows.
        """
        if self.closed:
            raise SimulatorClosed("Cannot reset closed Simulator.")
        shown = self._checked_images(images)
        n = next((len(each) for each in shown.values()), None)
        if n is None:
            n = self.minibatch_size if examples is None else max(np.size(examples), 1)
        examples = as_examples(examples, n)
        for node, each in shown.items():
            if len(each) != len(examples):
                raise InputError(
                    f"images: expected {len(examples)} images for {node}, one for each example, "
                    f"got {len(each)}"
                )
        kept = self._images | {self._image_inputs[node]: each for node, each in shown.items()}
        for operator, each in kept.items():
            if len(each) != len(examples):
                raise InputError(
                    f"images: expected {len(examples)} images for {operator.process}, one for "
                    f"each example, got the last call's {len(each)}"
                )
        self.examples, self.minibatch_size, self._images = examples, len(examples), kept
        self._own = own_copies(roots_of(self.step_order), len(examples), self._name_of)
        self.reset(seed)

    def _name_of(self, operator: Operator) -> str:
        return name_of(operator, self.model)

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
            The target is no node and no neurons of the network.
        """
        signal = self.model.sig[target].get("out") if target in self.model.sig else None
        if signal is None:
            raise InputError(f"record: expected a node or neurons of the network, got {target!r}")
        record = OutputRecord(steps)
        self._records.append((signal, record))
        self._restart(signal, record)
        self._forget_steps()
        return record

    def run(
        self,
        time_in_seconds: float,
        progress_bar: object = None,
        *,
        data: Mapping[nengo.Node, np.ndarray] | None = None,
    ) -> None:
        """Simulate for some time: see `nengo.Simulator.run`, and for ``data`` `run_steps`."""
        time_in_seconds = as_number("time_in_seconds", time_in_seconds, "seconds")
        with self._feeding(data, max(0, round(time_in_seconds / self.dt))):
            super().run(time_in_seconds, progress_bar=progress_bar)

    def run_steps(
        self,
        steps: int,
        progress_bar: object = None,
        *,
        data: Mapping[nengo.Node, np.ndarray] | None = None,
    ) -> None:
        """Simulate a number of steps.

        Parameters
        ----------
        steps : int
        progress_bar : bool or nengo.utils.progress.ProgressBar, optional
        data : dict of {Node: (batch, steps, n) or (batch, n) array_like}, optional
            What nodes without input put out, instead of their own output, during this call: a row
            for each step, or one row for all steps.

        Raises
        ------
        InputError
            The number of steps is not one; a node is not in the network or has an input of its
            own, or its data are of another shape, or not finite numbers.
        """
        if self.closed:
            raise SimulatorClosed("Simulator cannot run because it is closed.")
        steps = positive_integer("steps", steps)
        if progress_bar is None:
            progress_bar = self.progress_bar
        with (
            self._feeding(data, steps),
            ProgressTracker(progress_bar, Progress("Simulating", "Simulation", steps)) as tracker,
        ):
            while steps > 0:
                done = self._advance(steps)
                tracker.total_progress.step(done)
                steps -= done

    def step(self) -> None:
        """Advance by one step of ``dt`` seconds."""
        if self.closed:
            raise SimulatorClosed("Simulator cannot run because it is closed.")
        if self._steps is None:
            self._make_steps()
        with np.errstate(invalid="raise", divide="ignore"):
            for feed in self._feeds:
                feed()
            self._take_first_steps()
            self._take(self._steps)
        self._own.check()
        self._probe()

    def _advance(self, most: int) -> int:
        """Do at most so many steps, at once where the network is a row of layers."""
        if self._steps is None:
            self._make_steps()
        if self._row is None:
            self.step()
            return 1
        with np.errstate(invalid="raise", divide="ignore"):
            self._take_first_steps()
            done = self._row.advance(most)
        if self._row.dense:
            self._row = None
        if done == 0:
            self.step()
            return 1
        read_clock(self)
        return done

    def _take_first_steps(self) -> None:
        self._take(self._first_steps)
        self._first_steps = []

    def _take(self, steps: list[tuple[Step, Operator | None]]) -> None:
        for step, operator in steps:
            try:
                step()
            except FloatingPointError as error:
                raise runaway_error(
                    error,
                    [] if operator is None else [operator],
                    self.model,
                    self.signals.operand,
                    self.n_steps + 1,
                    self.examples,
                ) from error

    def _probe(self) -> None:
        read_clock(self)
        for probe, signal in self._probed:
            period = 1 if probe.sample_every is None else probe.sample_every / self.dt
            if self.n_steps % period < 1:
                self.data.raw[probe].append(self.signals[signal].copy())

    def _prepare(self) -> None:
        """Look through the model, once: what can be run, and what every example has its own of."""
        for operator in self.model.operators:
            if hasattr(operator, "make_step") and maker_of(operator) is None:
                raise InputError(
                    f"{operator}: MinibatchSimulator has no batched step for "
                    f"{type(operator).__name__}; see nengonet.minibatch.register"
                )
        shared = {self.model.step.base, self.model.time.base}
        for operator in self.model.operators:
            shared.update(signal.base for signal in processes.shared_state(operator))
        written = {signal.base for operator in self.model.operators for signal in writes(operator)}
        if any(s.dtype == np.float16 for op in self.model.operators for s in op.all_signals):
            self._kernels = None
        self._nodes = {
            node: sig["out"]
            for node, sig in self.model.sig.items()
            if isinstance(node, nengo.Node) and sig.get("out") is not None
        }
        self._batched = (written | {signal.base for signal in self._nodes.values()}) - shared
        self._written = [*self._batched, *shared]
        self._image_inputs = {
            node: operator
            for node, signal in self._nodes.items()
            for operator in self.step_order
            if isinstance(operator, SimProcess)
            and processes.is_image(operator.process)
            and same_place(operator.output, signal)
        }
        self.data = MinibatchData(self)

    def _allocate(self) -> None:
        self.signals = BatchSignals(self._batched, len(self.examples))
        for operator in self.model.operators:
            operator.init_signals(self.signals)
        for signal in self._nodes.values():
            if signal not in self.signals:
                self.signals.init(signal)

    def _restart(self, signal: Signal, record: OutputRecord) -> None:
        record.restart((len(self.examples), signal.size), signal.dtype)

    def _forget_steps(self) -> None:
        # With the operators that they are made from.
        self._steps: list[tuple[Step, Operator | None]] | None = None
        self._row: FusedRow | None = None
        self._first_steps: list[tuple[Step, Operator | None]] = []
        self._feeds: list[Step] = []

    def _context(self) -> Context:
        batch = len(self.examples)
        images = {
            operator: np.broadcast_to(operator.process.image, (batch, operator.process.size))
            for operator in self._image_inputs.values()
        }
        return Context(
            signals=self.signals,
            dt=self.dt,
            seed=int(self.seed),
            examples=self.examples,
            kernels=self._kernels,
            constants=self._constants,
            states=self._states,
            images=images | self._images,
            objects=self._own.objects,
        )

    @property
    def runs_in_stretches(self) -> bool:
        """Whether the network is a row of layers, run many steps at a time outside Python."""
        if self._steps is None:
            self._make_steps()
        return self._row is not None

    def profile_steps(self, steps: int) -> dict[str, float]:
        """Run some steps, and time each operator.

        Parameters
        ----------
        steps : int

        Returns
        -------
        times : dict of float, in seconds
            By operator, in the order in which they run.
        """
        self._times = {}
        self._forget_steps()
        try:
            self.run_steps(steps, progress_bar=False)
            return {name: spent for name, spent in self._times.items() if spent > 0}
        finally:
            self._times = None
            self._forget_steps()

    def _make_steps(self) -> None:
        if self._own is None:
            n = len(self.examples)
            roots = roots_of(self.step_order) if n > 1 else []
            self._own = own_copies(roots, n, self._name_of)
        self._probed = [(probe, self.model.sig[probe]["in"]) for probe in self.model.probes]
        context = self._context()
        plan = self._plan(context)
        context.spiking, context.assigning = plan.spiking, plan.assigning
        context.currents, context.event_only = plan.currents, plan.event_only
        self._first_steps = self._made(plan.once, context)
        self._steps = self._made(plan.always, context)
        for signal, record in self._records:
            recording = self._recording(signal, record, context)
            if recording is not None:
                self._steps.append((self._named(recording, f"record {signal.name}"), None))
        if not self._probed and not self._varying:
            self._row = fuse_row(plan.always, self._records, context, self._named)

    def _plan(self, context: Context) -> Plan:
        fed = [self._nodes[node] for node in self._fed]
        operators = [
            operator
            for operator in self.step_order
            if not any(same_place(place, signal) for place in writes(operator) for signal in fed)
        ]
        looked_at = [signal for _, signal in self._probed]
        looked_at += [
            signal
            for signal, record in self._records
            if record.keeps_steps or not self._is_image(signal)
        ]
        return make_plan(
            operators,
            inputs=self._nodes.values(),
            varying=[self._nodes[node] for node in self._varying],
            kept=looked_at,
            context=context,
        )

    def _is_image(self, signal: Signal) -> bool:
        return any(same_place(op.output, signal) for op in self._image_inputs.values())

    def _made(
        self, operators: list[Operator], context: Context
    ) -> list[tuple[Step, Operator | None]]:
        made = ((maker_of(operator)(operator, context), operator) for operator in operators)
        return [
            (self._named(step, label_of(operator)), operator)
            for step, operator in made
            if step is not None
        ]

    def _named(self, step: Callable, name: str) -> Callable:
        """Return the step, timed where `profile_steps` asks for it."""
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

    def _recording(self, signal: Signal, record: OutputRecord, context: Context) -> Step | None:
        events, array = context.events_of(signal), self.signals[signal]
        if events is not None and not record.keeps_steps:
            events.keep(record)
            return None
        return lambda: record.add(array)

    @contextlib.contextmanager
    def _feeding(
        self, data: Mapping[nengo.Node, np.ndarray] | None, n_steps: int
    ) -> Iterator[None]:
        """Let nodes put out ``data`` for a while."""
        if data is None or isinstance(data, Mapping) and not data:
            yield
            return
        if not isinstance(data, Mapping):
            raise InputError(f"data: expected a dict of {{Node: values}}, got {described(data)}")
        rows = {node: self._checked_data(node, each, n_steps) for node, each in data.items()}
        self._forget_steps()
        self._fed = tuple(rows)
        self._varying = tuple(node for node, each in rows.items() if each.ndim == 3)
        try:
            for node, each in rows.items():
                if each.ndim == 2:
                    self.signals[self._nodes[node]][...] = each.T
            self._make_steps()
            self._feeds = [self._feed(node, rows[node]) for node in self._varying]
            yield
        finally:
            self._forget_steps()
            self._fed = self._varying = ()
            if not self.closed:
                for node in rows:
                    signal = self._nodes[node]
                    self.signals[signal][...] = signal.initial_value[..., np.newaxis]

    def _feed(self, node: nengo.Node, rows: np.ndarray) -> Step:
        array, first = self.signals[self._nodes[node]], self.n_steps

        def feed():
            array[...] = rows[:, self.n_steps - first].T

        return feed

    def _checked_data(self, node: nengo.Node, data: np.ndarray, n_steps: int) -> np.ndarray:
        if node not in self._nodes:
            raise InputError(f"data: expected nodes of the network, got {node!r}")
        if node.size_in > 0:
            raise InputError(
                f"data: {node} has an input of its own (size_in {node.size_in}); only nodes "
                "without one can be fed"
            )
        rows = as_numbers(f"data for {node}", data)
        batch, size = self.minibatch_size, node.size_out
        if rows.shape not in ((batch, n_steps, size), (batch, size)):
            raise InputError(
                f"data: expected shape {(batch, n_steps, size)} (example, step, value) or "
                f"{(batch, size)} for {node}, got {rows.shape}"
            )
        # Too large for numbers of few bits, they would become infinite.
        with np.errstate(over="ignore"):
            return check_finite(f"data for {node}", rows.astype(self._nodes[node].dtype))

    def _checked_images(self, images: object) -> dict[nengo.Node, np.ndarray]:
        if images is None:
            return {}
        if not isinstance(images, Mapping):
            if len(self._image_inputs) != 1:
                raise InputError(
                    f"images: the network has {len(self._image_inputs)} image inputs; give "
                    "{node: images} for each of them"
                )
            images = {next(iter(self._image_inputs)): images}
        if not images:
            raise InputError("images: expected {node: images}, got an empty dict")
        checked = {}
        for node, each in images.items():
            if node not in self._image_inputs:
                raise InputError(f"images: expected image inputs of the network, got {node!r}")
            checked[node] = self._image_inputs[node].process.rows(each, "images", str(node))
        return checked


class MinibatchData(SimulationData):
    """Built parameters, and the data of probes with the batch first."""

    def __init__(self, simulator: MinibatchSimulator) -> None:
        super().__init__(simulator.model.params)
        self._batch = lambda: simulator.minibatch_size
        self._probes = {probe: simulator.model.sig[probe]["in"] for probe in simulator.model.probes}
        self._batched = simulator._batched
        self._stacked: dict[nengo.Probe, np.ndarray] = {}

    def reset(self) -> None:
        """Forget what was stacked."""
        super().reset()
        self._stacked.clear()

    def __getitem__(self, key: object) -> object:
        """Return a probe's data, (batch, n_steps, ...), or what was built for an object."""
        if key not in self._probes:
            return super().__getitem__(key)
        steps, signal, batch = self.raw[key], self._probes[key], self._batch()
        if key not in self._stacked or self._stacked[key].shape[1] != len(steps):
            if signal.base in self._batched:
                array = examples_first(steps, (batch, *signal.shape))
                array.setflags(write=False)
            else:
                array = np.asarray(steps)
                array = np.broadcast_to(array, (batch, *array.shape))
            self._stacked[key] = array
        return self._stacked[key]


def _refuse_learning(network: nengo.Network | None) -> None:
    for connection in () if network is None else as_network(network).all_connections:
        if connection.learning_rule_type is not None:
            raise InputError(
                f"{connection}: MinibatchSimulator cannot learn "
                f"({connection.learning_rule_type}); use nengo.Simulator"
            )
