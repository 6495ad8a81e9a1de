"""The forum poster's network as a script in plain Nengo, without nengonet's builders."""

import nengo
import numpy as np

rng = np.random.default_rng(5)
kernels = [rng.normal(0, 0.5, (16, 12)), rng.normal(0, 0.5, (12, 4))]  # as Keras has them
images = rng.random((9, 4, 4))
labels = np.arange(9) % 4
other_images = np.zeros((2, 5))

print("the script prints this")

model = nengo.Network(label="MNIST", seed=7)
with model:
    inp = nengo.Node(nengo.processes.PresentInput(images.reshape(9, 16), 0.1))
    poisson = nengo.PoissonSpiking(nengo.RectifiedLinear(), amplitude=0.01)
    tuning = {"max_rates": nengo.dists.Choice([100]), "intercepts": nengo.dists.Choice([0])}
    pixels = nengo.Ensemble(16, 1, neuron_type=poisson, **tuning, label="pixels")
    lif = nengo.LIF(amplitude=0.01, initial_state={"voltage": nengo.dists.Choice([0.0])})
    hidden = nengo.Ensemble(12, 1, neuron_type=lif, **tuning, label="hidden")
    out = nengo.Ensemble(4, 1, neuron_type=lif, **tuning)
    none = nengo.solvers.NoSolver()
    nengo.Connection(inp, pixels.neurons, synapse=None)
    nengo.Connection(
        pixels.neurons, hidden.neurons, transform=kernels[0].T, solver=none, synapse=None
    )
    nengo.Connection(
        hidden.neurons, out.neurons, transform=kernels[1].T, solver=none, synapse=0.005
    )
    spikes = nengo.Probe(out.neurons, synapse=None, label="spikes")
    voltage = nengo.Probe(hidden.neurons, "voltage")

another = nengo.Network()
with another:
    lonely = nengo.Ensemble(3, 1)


def measure(factor, seed):
    """Return something for a sweep."""
    return factor * (seed + 1)


if __name__ == "__main__":
    raise SystemExit("this is not to be run")
