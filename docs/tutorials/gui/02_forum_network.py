"""The network of the Nengo forum, for Nengo GUI: notebook 02 with a slider for the image.

Open it with ``nengo docs/tutorials/gui/02_forum_network.py``, press play, and move the slider to
another digit. Set ``AS_POSTED = True`` below for the network as it was posted: its output neurons
hardly differ.
"""

import base64
import collections
import functools
import io

import matplotlib.pyplot as plt
import nengo
import numpy as np

import nengonet as nn

AS_POSTED = False
FULL_SCALE_RATE = 250.0  # Hz, of a layer's largest activations

weights = nn.load_weights(nn.pretrained("mnist_dense"))
images, labels = nn.datasets.load("mnist", split="test")
training_images, _ = nn.datasets.load("mnist", split="train")
lif = nengo.LIF(initial_state={"voltage": nengo.dists.Choice([0.0])})


def tuning(name):
    """Return gain, bias and amplitude: as posted, or matched to the layer's activations."""
    if AS_POSTED:
        return {**nn.FORUM, "amplitude": 1.0}
    return nn.tune(weights, training_images, lif, FULL_SCALE_RATE)[name]


def chosen(x):
    """Return the number of the image that the slider stands at."""
    return int(np.clip(np.rint(x[0]), 0, len(images) - 1))


@functools.lru_cache(maxsize=100)
def picture(index):
    """Return an image as HTML."""
    file = io.BytesIO()
    plt.imsave(file, images[index], cmap="gray", format="png")
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<img src="data:image/png;base64,{data}" style="width: 80%; image-rendering: pixelated">'
    )


def show(t, x):
    """Put out the pixels of the chosen image, 0 to 255 as posted, else 0 to 1."""
    show._nengo_html_ = picture(chosen(x))
    return images[chosen(x)].ravel() * (255.0 if AS_POSTED else 1.0)


show._nengo_html_ = picture(0)


class Answer:
    """Count the spikes of each class in the last 350 steps, as the forum's post shows an image."""

    def __init__(self, spike_height):
        self.spike_height = spike_height
        self.spikes, self.shown, self._nengo_html_ = collections.deque(maxlen=350), 0, ""

    def __call__(self, t, x):
        """Add this step's spikes, and write the counts out."""
        if chosen(x) != self.shown or t < 0.0015:
            self.spikes.clear()
            self.shown = chosen(x)
        self.spikes.append(np.rint(x[1:] / self.spike_height).astype(int))
        counts = np.sum(self.spikes, axis=0)
        rows = [
            f"<b>{k}: {n}</b>" if n == counts.max() else f"{k}: {n}" for k, n in enumerate(counts)
        ]
        self._nengo_html_ = (
            f"a {labels[self.shown]}<br>spikes in {len(self.spikes)} ms:<br>{'<br>'.join(rows)}"
        )


with nengo.Network(label="forum network", seed=0) as model:
    digit = nengo.Node([0], label="image number")
    pixels = nengo.Node(show, size_in=1, size_out=784, label="pixels")
    nengo.Connection(digit, pixels, synapse=None)

    # As posted: 100 Hz for every grey level. Repaired: 1 Hz, and spikes of area 1/255.
    poisson = nengo.PoissonSpiking(
        nengo.RectifiedLinear(), amplitude=1.0 if AS_POSTED else 1 / 255.0
    )
    retina = nengo.Ensemble(
        784,
        dimensions=1,
        neuron_type=poisson,
        gain=np.full(784, 100.0 if AS_POSTED else 255.0),
        bias=np.zeros(784),
        label="input",
    )
    nengo.Connection(pixels, retina.neurons, synapse=None)

    # A Layer is a record of Nengo objects: the builders go on from one that you made yourself.
    image = nn.Layer(label="input", shape=(28, 28), ensemble=retina)
    hidden = nn.dense(image, weights["hidden"], lif, **tuning("hidden"))
    output = nn.dense(hidden, weights["output"], lif, **tuning("output"))

    answer = nengo.Node(Answer(output.amplitude / 0.001), size_in=11, label="answer")
    nengo.Connection(digit, answer[0], synapse=None)
    nengo.Connection(output.neurons, answer[1:], synapse=None)

hidden_neurons, output_neurons = hidden.ensemble, output.ensemble  # names for the GUI's plots
