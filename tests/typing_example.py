"""Use the public interface as the docs do. A type checker reads this file, and a test runs it.

``mypy --strict`` and pyright report no errors in it. Nengo itself has no types.
"""

import pathlib

import nengo
import numpy as np
from matplotlib.figure import Figure

import nengonet as nn
from nengonet.ann.activations import activations, full_scale, multiply_adds
from nengonet.ann.unweighted import Merge, Padding, Pool
from nengonet.plots import COLOURS, plot_budget, plot_comparison, plot_rates, save_figure
from nengonet.testing import (
    assert_at_rest,
    assert_counts_match_rates,
    assert_same_spikes,
    counts_from_probe,
)

RNG = np.random.default_rng(0)
ZERO = {"voltage": nengo.dists.Choice([0.0])}


def read_weights() -> nn.Weights:
    """Load weights, and make some of arrays."""
    weights: nn.Weights = nn.load_weights(nn.pretrained("mnist_dense"))
    hidden: nn.LayerWeights = weights["hidden"]
    kernel: np.ndarray = hidden.T
    for name, layer in weights.items():
        print(name, layer.kind, layer.shape, layer.n_parameters, layer.activation, kernel.shape)
    own = nn.LayerWeights(RNG.normal(size=(4, 3)), np.zeros(3), name="own")
    ones = np.ones(3)
    statistics = {"gamma": ones, "beta": ones, "moving_mean": ones, "moving_variance": ones}
    norm = nn.LayerWeights(name="norm", kind="BatchNormalization", others=statistics)
    folded = nn.fold_batch_norm(own, norm)
    assert folded.bias is not None
    balanced = nn.balance([own], RNG.random((5, 4)), percentile="max")
    print(balanced, balanced.output_scale, [each.scale for each in balanced.changes])
    ann = activations([own], [[1.0, 0.0, 0.5, 0.0]])
    print(full_scale(ann["own"]), multiply_adds([own], (4,)))
    print(Pool("average", 2), Padding(1), Merge("add", of="images"))
    return weights


def build_mlp(weights: nn.Weights, training: np.ndarray) -> tuple[nengo.Network, nn.Layer]:
    """Build the forum's network, tuned."""
    lif = nengo.LIF(initial_state=ZERO)
    tuned: nn.Tuned = nn.tune(weights, training, lif, rate=250.0, percentile=99.9)
    gain: float = tuned["hidden"]["gain"]
    print(tuned, gain, tuned.layers[0].scale, tuned.to_json())
    nn.tune(weights.values(), training, lif, [250.0, 100.0])
    nn.tune({"own": RNG.random((784, 2))}, training, lif, {"own": 100.0})
    with nengo.Network(seed=0) as network:
        pixels = nn.poisson_input((28, 28), max_rate=255.0)
        hidden = nn.dense(pixels, weights["hidden"], lif, **tuned["hidden"])
        output = nn.dense(hidden, weights["output"], lif, **tuned["output"], label="output")
        nengo.Probe(hidden.neurons, synapse=None)
        nengo.Connection(hidden.neurons[:10], nengo.Node(size_in=10), synapse=None)
    hidden.neurons.ensemble.label = "hidden"
    print(output.label, output.shape, output.size, output.amplitude, output.spiking, output.tuned)
    print(output.ensemble, output.connection, output.neuron_type, [x.label for x in output.pres])
    return network, output


def build_others() -> list[nn.Layer]:
    """Call every builder, with each form of tuning."""
    found: list[nn.Layer] = []
    kernel, steps = RNG.normal(size=(3, 3, 2, 4)), RNG.normal(size=(3, 1, 2))
    neurons = nn.IntegrateAndFire(amplitude=0.01)
    with nengo.Network(seed=1):
        image = nn.constant_input((8, 8, 2), scale=1.0)
        conv = nn.conv2d(image, kernel, neurons, padding="SAME", gain=100.0, bias=0.0)
        strided = nn.conv2d(image, (kernel, np.zeros(4)), neurons, strides=(2, 2), **nn.FORUM)
        summed = nn.add([conv, nn.conv2d(image, kernel, None, padding="same")], label="sum")
        relu = nn.activation([conv, summed], neurons, gain=np.full(256, 90.0))
        pools = [
            nn.avg_pool2d(relu, synapse=0.005),
            nn.max_pool2d(relu, (2, 2), kind="running_max"),
            nn.global_avg_pool2d(strided),
            nn.global_max_pool2d(relu),
        ]
        found += [nn.flatten(pools[0]), *pools, nn.zero_padding2d(pools[0], ((1, 0), (0, 1)))]
        found += [nn.concatenate(pools[:2], axis=-1), nn.lowpass(pools[0], 0.1)]
        row = nn.poisson_input(12, kind="ensemble", amplitude=1.0, scale=255.0)
        last = nn.conv1d(
            nn.constant_input((12, 1)),
            steps,
            nengo.AdaptiveLIF(),
            padding="causal",
            max_rates=nengo.dists.Uniform(50.0, 150.0),
            intercepts=[0.0] * 24,
            seed=3,
        )
        found += [row, last, nn.avg_pool1d(last), nn.max_pool1d(last, 2, 1)]
        found += [nn.global_avg_pool1d(last), nn.global_max_pool1d(last)]
        found.append(nn.zero_padding1d(last, (1, 0)))
    facts = nn.explain_neuron(nengo.LIF(), drive=1.0, gain=2.0)
    print(facts, facts.rate, facts.output)
    gain, bias = nn.gain_bias(nengo.LIF(), 3, max_rates=[100.0, 200.0, 300.0], intercepts=0.0)
    faster = nn.scale_firing_rates(gain, bias, 0.01, 4.0)
    print(faster[0] + faster[1])
    return found


def run(
    network: nengo.Network, output: nn.Layer, images: np.ndarray, labels: np.ndarray
) -> nn.Result:
    """Run a network, and read the result."""
    result: nn.Result = nn.present(
        network, output, images, presentation_time=0.02, rasters=["hidden"], progress=False
    )
    accuracy: nn.Accuracy = result.accuracy(labels)
    low, high = accuracy.interval
    share: float = accuracy.value + float(accuracy) + low + high
    of_layer = result["hidden"]
    counts: np.ndarray = of_layer.counts
    print(share, counts.sum(), of_layer.rates.max(), of_layer.raster.shape, result.counts["hidden"])
    print(result.predictions("sum"), result.latency(labels), result.spikes_per_image()["hidden"])
    print(result.outputs.shape, result.dt, result.n_steps, result.layer("hidden").amplitude)
    right, tied = nn.readout.classes(result.scores()[:, -1])
    print(nn.readout.accuracy(right, labels, tied), nn.readout.wilson_interval(3, 4))
    figures: list[Figure] = [
        nn.plots.plot_presentation(images[0], result, label=int(labels[0])),
        nn.plots.plot_latency({"run": result.latency(labels)}, accuracy, dt=result.dt),
        nn.plots.plot_raster(result, "hidden"),
        nn.plots.plot_confusion(result, labels, list("0123456789")),
        plot_rates(result, ["hidden"]),
    ]
    print(len(figures), COLOURS[0])
    return result


def explain(
    network: nengo.Network, output: nn.Layer, images: np.ndarray, labels: np.ndarray
) -> None:
    """Predict, diagnose, compare and account for."""
    rates: np.ndarray = nn.predict_rates(output, images, noise=True)
    found = nn.diagnose(output, images, labels=labels, presentation_time=0.02)
    for finding in found.findings:
        print(finding.severity, finding.code, finding.message, finding.change)
    result = nn.present(network, output, images, presentation_time=0.02, progress=False)
    compared = nn.compare(result, output, images)
    budget = nn.error_budget(
        output, images, labels, presentation_time=0.02, n_repeats=2, progress=False
    )
    print(found, compared, [(step.name, step.accuracy) for step in budget.steps], rates.shape)
    assert plot_budget(budget).axes
    assert plot_comparison(compared).axes
    shown: str = str(nn.as_script(output, images[:2], labels[:2], presentation_time=0.02))
    assert shown
    try:
        nn.present(network, output, images[:, :2])
    except nn.InputError as error:
        print(error)


def loop() -> None:
    """Find where a recurrent network comes to rest."""
    with nengo.Network(seed=0) as network:
        source = nengo.Node([0.3, 0.7])
        ensemble = nengo.Ensemble(
            2, 1, neuron_type=nengo.LIFRate(), gain=[2.0, 2.0], bias=[1.5, 1.5]
        )
        nengo.Connection(source, ensemble.neurons, synapse=None)
        nengo.Connection(
            ensemble.neurons,
            ensemble.neurons,
            transform=[[0.0, -0.001], [-0.001, 0.0]],
            synapse=0.01,
        )
    point: nn.FixedPoint = nn.fixed_point(ensemble, {source: [[0.3, 0.7]]}, network=network)
    print(point, point.stable.all(), point.settling_time, point.trouble())
    assert_at_rest(point.rates, point, rms=1e-6)


def simulate(images: np.ndarray) -> None:
    """Step many examples at once, as Nengo's own simulator steps one."""
    with nengo.Network(seed=0) as network:
        kernel, neurons = RNG.normal(size=(784, 5)), nn.IntegrateAndFire()
        output = nn.dense(nn.poisson_input((28, 28)), kernel, neurons, gain=10.0)
        probe = nengo.Probe(output.neurons, synapse=None)
    with nn.MinibatchSimulator(network, minibatch_size=4, progress_bar=False) as sim:
        sim.reset_to_examples(images[:4], examples=np.arange(4), seed=0)
        record = sim.record(output.neurons)
        sim.run_steps(20)
        sim.run(0.005)
        data: np.ndarray = sim.data[probe]
        print(data.shape, record)
        print(sim.report(), sim.n_steps, sim.dt)
    counts = counts_from_probe(data, 0.001, output.amplitude or 1.0)
    assert_same_spikes(counts, counts)
    assert_counts_match_rates([30, 80], [30.0, 80.0], duration=1.0)


def measure(rate: float, seed: int) -> dict[str, float]:
    """Return a value of one cell of a sweep."""
    return {"value": rate + seed}


def sweep_rates(folder: pathlib.Path) -> nn.Sweep:
    """Sweep a function, and keep what it found."""
    found: nn.Sweep = nn.sweep(measure, {"rate": [100.0, 250.0]}, seeds=2, progress=False)
    print(found, found.rows[0]["value"], found.summary(), found.failed)
    found.to_csv(folder / "sweep.csv")
    return found


def open_lab(output: nn.Layer, images: np.ndarray, labels: np.ndarray) -> object:
    """Return a page with knobs, in a notebook; it needs Panel."""
    return nn.lab(output, images, labels, presentation_time=0.1, n_images=20)


def main(folder: pathlib.Path) -> None:
    """Run all of it on a few images."""
    print(nn.__version__)
    images, labels = nn.datasets.load("mnist", split="test", n_images=6)
    training, _ = nn.datasets.load("mnist", split="train", n_images=100)
    print(nn.datasets.class_names("mnist"))
    network, output = build_mlp(read_weights(), training)
    assert [layer.size for layer in build_others()]
    result = run(network, output, images, labels)
    result.save(folder / "run.h5")
    again: nn.Result = nn.load_result(folder / "run.h5")
    save_figure(nn.plots.plot_output(images[0], again), folder / "run.png")
    explain(network, output, images, labels)
    loop()
    simulate(images)
    sweep_rates(folder)
    graph = nn.to_nir(output, allow=["tau_ref", "min_voltage"])
    print(sorted(graph.nodes))


if __name__ == "__main__":
    main(pathlib.Path.cwd())
