"""A pytest plugin that runs Nengo's own tests on a minibatch, and records the data of probes.

`nengo_suite.py` loads it with ``-p nengo_suite_plugin``; the settings are in the environment
variable ``NENGO_SUITE``, as JSON. The tests get `OneOfEqual` as their simulator.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator

import nengo
import numpy as np
import pytest
from nengo.builder.neurons import SimNeurons

from nengonet import MinibatchSimulator
from nengonet.streams import neuron_seeds, reset_seed

SETTINGS = json.loads(os.environ.get("NENGO_SUITE", "{}"))


class Recorder:
    """Keeps the data of every simulator's probes before they are lost."""

    def __init__(self) -> None:
        self.kept: list[np.ndarray] = []

    def keep(self, probes: list[nengo.Probe], data: Callable[[nengo.Probe], np.ndarray]) -> None:
        """Copy the data, if they will be compared."""
        if "data" not in SETTINGS:
            return
        arrays = (np.array(data(probe)) for probe in probes)
        self.kept += [array for array in arrays if len(array)]


RECORDER = Recorder()


class Reference(nengo.Simulator):
    """A recording `nengo.Simulator`, with the noise of example 0.

    Operators keep their order (``optimize=False``). If Nengo merges them, their order differs in
    every process, and so does the order of sums.
    """

    def __init__(self, *arguments, **settings) -> None:
        self._built = False
        settings.setdefault("optimize", False)
        super().__init__(*arguments, **settings)
        self._built = True
        self.reset(self.seed)

    def reset(self, seed: int | None = None) -> None:
        """Reset, with the random streams of example 0 of a minibatch."""
        if not self._built or self.closed:
            super().reset(seed)
            return
        seed = self.seed if seed is None else seed
        states = [
            state
            for operator in self.step_order
            if isinstance(operator, SimNeurons)
            for state in operator.state_extra.values()
        ]
        for state, fresh in zip(states, neuron_seeds(int(seed), 0, len(states)), strict=True):
            state.seed(fresh)
        super().reset(reset_seed(int(seed), 0))
        self.seed = seed

    def clear_probes(self) -> None:
        """Record, and clear."""
        if self._built:
            self._keep()
        super().clear_probes()

    def close(self) -> None:
        """Record, and close."""
        if self._built and not self.closed:
            self._keep()
        super().close()

    def _keep(self) -> None:
        RECORDER.keep(self.model.probes, lambda probe: self.data[probe])


class OneOfEqual:
    """`MinibatchSimulator` with the interface of `nengo.Simulator`, for equal examples.

    Data lose their batch axis, after a check that all examples are equal.
    """

    minibatch_size: int = SETTINGS.get("minibatch", 1)
    numba: bool | None = SETTINGS.get("numba")

    def __init__(
        self,
        network: nengo.Network | None,
        dt: float = 0.001,
        seed: int | None = None,
        model: nengo.builder.Model | None = None,
        progress_bar: object = True,
        optimize: bool | None = None,
    ) -> None:
        # A merge of operators changes the order of sums, so data are compared without merges.
        optimize = not SETTINGS.get("data") if optimize is None else optimize
        simulator = MinibatchSimulator(
            network,
            self.minibatch_size,
            dt=dt,
            seed=seed,
            model=model,
            progress_bar=progress_bar,
            optimize=optimize,
            numba=self.numba,
        )
        object.__setattr__(self, "_simulator", simulator)
        if self.minibatch_size > 1:
            simulator.reset_to_examples(examples=np.zeros(self.minibatch_size, dtype=int))

    def __getattr__(self, name: str) -> object:
        if name == "_simulator":  # its build failed
            raise AttributeError(name)
        return getattr(self._simulator, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._simulator, name, value)

    def __getstate__(self) -> object:
        return self._simulator.__getstate__()

    def __enter__(self) -> OneOfEqual:
        self._simulator.__enter__()
        return self

    def __exit__(self, *exception) -> None:
        self._keep()
        self._simulator.__exit__(*exception)

    @property
    def data(self) -> OneOfData:
        """The built parameters, and the data of one example."""
        return OneOfData(self._simulator)

    @property
    def signals(self) -> OneOfSignals | None:
        """The signals of one example."""
        return None if self._simulator.signals is None else OneOfSignals(self._simulator)

    def reset(self, seed: int | None = None) -> None:
        """Record, and reset."""
        self._keep()
        self._simulator.reset(seed)

    def clear_probes(self) -> None:
        """Record, and clear."""
        self._keep()
        self._simulator.clear_probes()

    def close(self) -> None:
        """Record, and close."""
        self._keep()
        self._simulator.close()

    def _keep(self) -> None:
        if not self._simulator.closed:
            RECORDER.keep(self._simulator.model.probes, lambda probe: self.data[probe])


class _OneOf:
    """Look up in a mapping of the simulator, and drop the batch axis."""

    def __getattr__(self, name: str) -> object:
        return getattr(self._mapping, name)

    def __iter__(self) -> Iterator:
        return iter(self._mapping)

    def __len__(self) -> int:
        return len(self._mapping)

    def __contains__(self, key: object) -> bool:
        return key in self._mapping

    def __repr__(self) -> str:
        return repr(self._mapping)

    def __str__(self) -> str:
        return str(self._mapping)


class OneOfData(_OneOf):
    """``simulator.data`` of one example."""

    def __init__(self, simulator: MinibatchSimulator) -> None:
        self._mapping = simulator.data

    def __getitem__(self, key: object) -> object:
        value = self._mapping[key]
        if isinstance(key, nengo.Probe):
            return one_of(value, 0)
        if key in self._mapping.learned:
            learned = ["weights"]
            if isinstance(key, nengo.Ensemble):
                learned = ["encoders", "scaled_encoders"]
            return value._replace(**{name: one_of(getattr(value, name), 0) for name in learned})
        return value


class OneOfSignals(_OneOf):
    """``simulator.signals`` of one example."""

    def __init__(self, simulator: MinibatchSimulator) -> None:
        self._mapping = simulator.signals

    def __getitem__(self, key: object) -> np.ndarray:
        array = self._mapping[key]
        return one_of(array, -1) if self._mapping.is_batched(key) else array

    def items(self) -> Iterator[tuple[object, np.ndarray]]:
        """Return signals with one example's arrays."""
        return ((key, self[key]) for key in self._mapping)


def one_of(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the first example's values, after a check that all examples are equal to the bit."""
    rows = np.moveaxis(values, axis, 0)
    for row in rows[1:]:
        np.testing.assert_array_equal(row, rows[0], err_msg="equal examples differ")
    return rows[0]


def compared(expected: list[np.ndarray], found: list[np.ndarray]) -> dict[str, float]:
    """Compare recordings. A spike at another step has height 1/dt, far outside the tolerance."""
    counts = {"data sets": len(expected), "different": 0, "to the bit": 0, "largest": 0.0}
    if [each.shape for each in expected] != [each.shape for each in found]:
        return counts | {"different": len(expected), "largest": float("nan")}
    for one, other in zip(expected, found, strict=True):
        scale = max(1.0, float(np.abs(one).max()))
        off = float(np.abs(one.astype(float) - other).max()) / scale
        counts["different"] += not off <= (1e-9 if one.dtype == np.float64 else 1e-4)
        counts["to the bit"] += bool(np.array_equal(one, other, equal_nan=True))
        counts["largest"] = max(counts["largest"], off)
    return counts


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that take a simulator."""
    kept = [item for item in items if "Simulator" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Run a test with a fixed seed of NumPy's global stream, for networks without a seed."""
    digest = hashlib.sha1(item.nodeid.encode()).hexdigest()
    np.random.seed(int(digest[:8], 16))  # noqa: NPY002
    RECORDER.kept = []
    started = time.perf_counter()
    outcome = yield
    folder = SETTINGS.get("data")
    item.user_properties.append(("seconds", time.perf_counter() - started))
    if folder is None or outcome.excinfo is not None:
        return
    path = pathlib.Path(folder) / f"{digest}.npz"
    if SETTINGS.get("record"):
        np.savez(path, *RECORDER.kept)
    elif path.exists():
        with np.load(path) as file:
            expected = [file[f"arr_{number}"] for number in range(len(file.files))]
        item.user_properties.append(("compared", compared(expected, RECORDER.kept)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write a line of JSON for each test."""
    if report.when != "call" and report.passed:
        return
    message = ""
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        message = str(report.longrepr)[-300:] if crash is None else crash.message
    elif report.skipped:
        message = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.wasxfail
    line = {
        "test": report.nodeid,
        "outcome": "error" if report.failed and report.when != "call" else report.outcome,
        "message": message[:600],
        **dict(report.user_properties),
    }
    if "results" in SETTINGS:
        with open(SETTINGS["results"], "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
