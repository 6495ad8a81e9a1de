"""Compare both simulators on random convolutional networks: counts, outputs, probes and states.

    python benchmarks/random_convolutions.py [--networks 20] [--seed 0] [--style exact] [--quick]

Every network has its own convolutions (one or two dimensions, any stride, padding, dilation and
groups), pools, zeros around images, sums, branches, shared layers, neuron types with random
parameters and initial states, synapses, inputs, probes, time step and length. Each runs on the
unmodified ``nengo.Simulator``, example by example, and on the minibatch simulator at all settings.
It also runs once in uneven pieces, and states are read between the pieces.

In the style "exact", all numbers are whole multiples of powers of two, so that the order of a sum
does not matter. Any difference in 64 bits is then a fault, also where voltages meet their
thresholds exactly. If a network has neurons or filters that compute exponentials, outputs may
differ by rounding. "random" numbers make exact meetings of voltage and threshold improbable.
"decimal" numbers make them frequent, and the order of a sum then decides.
"""

from __future__ import annotations

import functools
import itertools
import warnings

import nengo
import numpy as np
from comparing import compare, parser_of
from random_cases import EXACT_STATES, EXAMPLES, STYLES, Case, random_case

import nengonet as nn
from nengonet.layers.showing import ImageSteps
from nengonet.minibatch import MinibatchSimulator
from nengonet.minibatch.records import OutputRecord
from nengonet.run.simulators import reference_simulator, reset_to_example

MINIBATCHES, JOBS, BITS = (1, 3, 7, 20), (1, 2), (64, 32)
# Outputs that are not exact agree to within this share of the largest output.
ROUNDING = {64: 1e-9, 32: 1e-3}


def kept(result: nn.Result) -> dict[str, np.ndarray]:
    """Return all arrays of a result, by name."""
    found = {"steps": result.steps}
    for kind in ("counts", "spikes", "operations", "rasters", "means", "data"):
        for label, values in getattr(result, kind).items():
            found[f"{kind} of {label}"] = values
    return found


def different(expected: np.ndarray, found: np.ndarray, exact: bool, bits: int = 64) -> int:
    """Return how many values differ. Whole numbers always count as exact."""
    if expected.shape != found.shape:
        return max(expected.size, found.size, 1)
    if exact or expected.dtype.kind in "iu":
        return int(np.count_nonzero(expected != found))
    scale = max(1.0, np.abs(expected).max(initial=0))
    return int(np.count_nonzero(~(np.abs(found - expected) <= ROUNDING[bits] * scale)))


def compared(
    case: Case, settings: list[tuple[int, int, int]], examples: int = EXAMPLES
) -> list[dict]:
    """Present a network's images at some settings, and count compared and different values."""
    found, one_of_each = [], np.arange(examples)
    for bits, group in itertools.groupby(settings, key=lambda each: each[0]):
        expected = kept(case.present(one_of_each, simulator="reference", precision=bits))
        for _, minibatch, jobs in group:
            chosen = np.arange(max(examples, minibatch)) % examples
            run = {"minibatch_size": minibatch, "n_jobs": jobs, "precision": bits}
            result = kept(case.present(chosen, **run))
            if result.keys() != expected.keys():
                raise AssertionError(f"expected {list(expected)}, got {list(result)}")
            where = {
                name: different(
                    values[chosen], result[name], case.exact and "rounded" not in name, bits
                )
                for name, values in expected.items()
            }
            found.append(
                {
                    "bits": bits,
                    "minibatch": minibatch,
                    "jobs": jobs,
                    "exact": case.exact,
                    "compared": sum(values[chosen].size for values in expected.values()),
                    "spikes": int(
                        sum(v.sum() for k, v in expected.items() if k.startswith("spikes"))
                    ),
                    "different": sum(where.values()),
                    "where": {name: n for name, n in where.items() if n},
                }
            )
    return found


def pieces_of(case: Case, rng: np.random.Generator) -> list[int]:
    """Return uneven numbers of steps that add up to the steps of the case."""
    cuts = rng.integers(0, case.n_steps + 1, rng.integers(0, 5))
    return [int(n) for n in np.diff([0, *np.sort(cuts), case.n_steps]) if n > 0]


def in_pieces(case: Case, minibatch: int = 3, optimize: bool = False) -> dict[str, int]:
    """Run a network in pieces, read states between them, and return the differences by name.

    It compares the neurons' states and outputs after every piece, the content of records that were
    made before the run and after its first piece, and the data of every probe. A piece of one step
    is taken by ``step``. The run is repeated after a reset, with other examples in another order.
    ``optimize`` lets Nengo merge operators, which may change the order of random streams.
    """
    pieces = pieces_of(case, np.random.default_rng([case.run["seed"], 5]))
    chosen, seed = np.arange(minibatch) % EXAMPLES, case.run["seed"]
    expected = _by_reference(case, pieces, chosen)
    rows = {node: case.images[node].reshape(EXAMPLES, case.n_steps, -1) for node in case.fed}
    still = {node: each for node, each in case.images.items() if node not in rows}
    where: dict[str, int] = {}
    settings = {"seed": seed, "progress_bar": False, "optimize": optimize}
    with MinibatchSimulator(case.network, minibatch, case.dt, **settings) as simulator:
        early = [simulator.record(each, steps=k % 2 == 0) for k, each in enumerate(case.watched)]
        late: list[OutputRecord] = []
        # Repeat in another order, without the first example.
        for order in ([*range(minibatch)], [*range(minibatch)][:0:-1] or [0]):
            shown = {node: each[chosen[order]] for node, each in still.items()}
            simulator.reset_to_examples(shown or None, chosen[order], seed)
            found, done, first = {}, 0, not late
            for k, piece in enumerate(pieces):
                now = slice(done, done + piece)
                data = {node: each[chosen[order], now] for node, each in rows.items()}
                if piece == 1 and not data:
                    simulator.step()
                else:
                    simulator.run_steps(piece, data=data or None)
                done += piece
                for name, values in _between(simulator, case).items():
                    found[f"{name} after piece {k}"] = values
                for number, record in enumerate(early):
                    found[f"total {number} after piece {k}"] = record.total.copy()
                if not late:
                    late = [simulator.record(each, steps=True) for each in case.watched]
            last = len(pieces) - 1
            for k, (one, two) in enumerate(zip(early, late, strict=True)):
                if one.keeps_steps:
                    found[f"steps {k}"] = one.steps
                # After a reset, they hold the same content as the others.
                found[f"late total {k}" if first else f"total {k} after piece {last}"] = two.total
                found[f"late steps {k}" if first else f"steps {k}"] = two.steps
            for name, values in found.items():
                exact = case.exact and "rounded" not in name
                n = different(expected[name][order], values, exact)
                if n:
                    where[name if first else f"{name}, after a reset"] = n
    return where


def _between(simulator: nengo.Simulator, case: Case) -> dict[str, np.ndarray]:
    """Return the states, outputs and probe data between pieces, examples first."""
    found = {}
    batched = isinstance(simulator, MinibatchSimulator)
    for k, ensemble in enumerate(case.network.all_ensembles):
        signals, neuron_type = simulator.model.sig[ensemble.neurons], ensemble.neuron_type
        for name in ("out", *neuron_type.state):
            if name in signals:
                exact = type(neuron_type) in EXACT_STATES or (name == "out" and neuron_type.spiking)
                values = simulator.signals[signals[name]].T.copy()
                found[f"{name} of ensemble {k} ({'exact' if exact else 'rounded'})"] = values
    for probe in case.network.all_probes:
        data = np.array(simulator.data[probe])
        if not batched:
            # Before the first sample, Nengo's data have no axis of values.
            data = data.reshape(-1, *simulator.model.sig[probe]["in"].shape)
        found[probe.label] = data
    return found


def _by_reference(case: Case, pieces: list[int], chosen: np.ndarray) -> dict[str, np.ndarray]:
    """Return the values that `in_pieces` compares, from ``nengo.Simulator``."""
    found: dict[str, list] = {}

    def add(name: str, values: np.ndarray) -> None:
        found.setdefault(name, []).append(np.array(values))

    seed = case.run["seed"]
    shown = {node: ImageSteps(node.output, case.n_steps) for node in case.fed}
    with reference_simulator(case.network, case.dt, seed, shown=shown) as simulator:
        outputs = [simulator.signals[simulator.model.sig[each]["out"]] for each in case.watched]
        for example in chosen:
            images = {node: each[example] for node, each in case.images.items()}
            images |= {node: images[node].reshape(case.n_steps, -1) for node in case.fed}
            reset_to_example(simulator, seed, int(example), images)
            steps: list[list] = [[] for _ in outputs]
            for k, piece in enumerate(pieces):
                for _ in range(piece):
                    simulator.step()
                    for each, output in zip(steps, outputs, strict=True):
                        each.append(output.copy())
                for name, values in _between(simulator, case).items():
                    add(f"{name} after piece {k}", values)
                for number, each in enumerate(steps):
                    add(f"total {number} after piece {k}", np.sum(each, axis=0))
            for k, each in enumerate(steps):
                rows = np.reshape(each[pieces[0] :], (-1, len(each[0])))
                add(f"steps {k}", each)
                add(f"late steps {k}", rows)
                add(f"late total {k}", rows.sum(axis=0))
    return {name: np.stack(values) for name, values in found.items()}


def run(networks: range, style: str, settings: list[tuple[int, int, int]]) -> list[dict]:
    """Compare several networks in this process."""
    found = []
    for seed in networks:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case = random_case(seed, style)
            of_case = compared(case, settings)
            where = in_pieces(case, 1 + seed % 4, optimize=seed % 3 == 0 and not case.random)
        of_case.append(
            {"bits": 64, "minibatch": 1 + seed % 4, "jobs": "pieces", "exact": case.exact}
            | {"compared": 0, "spikes": 0, "different": sum(where.values()), "where": where}
        )
        found += [{"network": seed, "style": style} | each for each in of_case]
    return found


def main() -> None:
    """Compare some random networks."""
    parser = parser_of(__doc__, networks=20)
    parser.add_argument("--style", choices=STYLES, default="exact")
    parser.add_argument("--quick", action="store_true", help="64 bits, few settings")
    options = parser.parse_args()
    settings = list(itertools.product(BITS, MINIBATCHES, JOBS))
    if options.quick:
        settings = [(64, 3, 1), (64, 20, 2)]
    # Reading the cache's index takes longer than these builds.
    nengo.rc.set("decoder_cache", "enabled", "False")
    names = ("style", "exact", "bits", "numba", "minibatch", "jobs")
    compare(options, functools.partial(run, style=options.style, settings=settings), names)


if __name__ == "__main__":
    main()
