"""Print how fast the minibatch simulator learns, beside single runs of the reference simulator.

    python benchmarks/learning.py [--examples 100] [--steps 200] [--repeats 3] [--no-numba]

The networks learn, and each example has its own input: PES on decoders of 100 and 1000 neurons;
PES, BCM, Oja and Voja on all weights between 100 and between 300 LIF neurons. (Voja learns
encoders, so there are as many dimensions as neurons.) The reference runs a few of the examples in
full, which stand for all examples. On these, both are compared: spikes of the last ensemble, and
weights at the end. Runs take turns; each figure is the shortest time. Building is not counted.
"""

from __future__ import annotations

import argparse
import time

import nengo
import numpy as np

import nengonet as nn
from nengonet.run.simulators import reset_to_example

COMPARED = 2  # examples that the reference runs
RULES = {
    "PES": nengo.PES(1e-4),
    "BCM": nengo.BCM(1e-9),
    "Oja": nengo.Oja(1e-6),
    "Voja": nengo.Voja(1e-2),
}


def network_of(rule: str, n: int, kind: str):
    """Return a network, its input, the object that learns, and a probe of the last spikes."""
    rng = np.random.default_rng(0)
    size = n if rule == "Voja" else 2
    with nengo.Network(seed=1) as network:
        source = nengo.Node(np.zeros(size))
        post = nengo.Ensemble(n, size, label="post")
        if rule == "Voja":
            nengo.Connection(source, post, learning_rule_type=RULES[rule])
            return network, source, post, nengo.Probe(post.neurons)
        pre = nengo.Ensemble(n, size, label="pre")
        nengo.Connection(source, pre, synapse=None)
        if kind == "decoders":
            learned = nengo.Connection(pre, post, learning_rule_type=RULES[rule])
        else:
            learned = nengo.Connection(
                pre.neurons,
                post.neurons,
                transform=rng.normal(0, 1e-3, (n, n)),
                learning_rule_type=RULES[rule],
            )
        if rule == "PES":
            error = nengo.Node(size_in=size)
            nengo.Connection(post, error)
            nengo.Connection(source, error, transform=-1)
            nengo.Connection(error, learned.learning_rule)
        return network, source, learned, nengo.Probe(post.neurons)


def measure(case, n_examples: int, n_steps: int, repeats: int, numba: bool | None) -> dict:
    """Return times in seconds, and how the two simulators differ."""
    network, source, target, probe = network_of(*case)
    rows = np.random.default_rng(2).uniform(-1, 1, (n_examples, source.size_out))
    times: dict[str, list[float]] = {"reference": [], "twin": []}
    settings = {"progress_bar": False, "optimize": False, "seed": 0}
    kind = "encoders" if isinstance(target, nengo.Ensemble) else "weights"
    with (
        nengo.Simulator(network, **settings) as reference,
        nn.MinibatchSimulator(network, n_examples, numba=numba, **settings) as twin,
    ):
        signal = reference.model.sig[target][kind]
        for _ in range(repeats):
            spikes, weights = [], []
            for example in range(COMPARED):
                reset_to_example(reference, 0, example)
                reference.signals[reference.model.sig[source]["out"]][...] = rows[example]
                started = time.perf_counter()
                reference.run_steps(n_steps)
                times["reference"].append(time.perf_counter() - started)
                spikes.append(reference.data[probe].copy())
                weights.append(reference.signals[signal].copy())
            twin.reset()
            started = time.perf_counter()
            twin.run_steps(n_steps, data={source: rows})
            times["twin"].append(time.perf_counter() - started)
        built = twin.data[target]
        found = built.scaled_encoders if kind == "encoders" else built.weights
        return {
            "reference": min(times["reference"]) * n_examples,
            "twin": min(times["twin"]),
            "spikes": int(sum(np.count_nonzero(each) for each in spikes)),
            "other spikes": int(np.count_nonzero(twin.data[probe][:COMPARED] != spikes)),
            "weights": float(np.abs(found[:COMPARED] - weights).max() / np.abs(weights).max()),
        }


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-numba", action="store_true")
    given = parser.parse_args()
    cases = [("PES", 100, "decoders"), ("PES", 1000, "decoders")]
    cases += [(rule, n, "full") for n in (100, 300) for rule in RULES]
    names = "network", "reference, s", "minibatch, s", "times as fast", "other spikes"
    print(f"| {' | '.join(names)} | weights differ by |")
    print("|---|---|---|---|---|---|")
    for case in cases:
        found = measure(
            case, given.examples, given.steps, given.repeats, False if given.no_numba else None
        )
        rule, n, kind = case
        what = f"decoders of {n}" if kind == "decoders" else f"{n} x {n}"
        ratio = found["reference"] / found["twin"]
        print(
            f"| {rule}, {what} | {found['reference']:.2f} | {found['twin']:.2f} | {ratio:.1f} | "
            f"{found['other spikes']} of {found['spikes']} | {found['weights']:.0e} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
