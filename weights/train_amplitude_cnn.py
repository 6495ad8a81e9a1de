"""Train amplitude_cnn.h5, the network of NengoDL's "Optimizing a spiking neural network".

Run from this folder, with the extra ``train`` installed and NENGONET_DATA set (or a network)::

    KERAS_BACKEND=torch python train_amplitude_cnn.py 0.01

The argument is the amplitude of the LIF neurons. 0.01 is the tutorial's; the file of any other
carries it in its name (``amplitude_cnn_0.1.h5``). A second argument is the seed of the training, 0
without one; any other is in the name too (``amplitude_cnn_seed1.h5``). All are trained alike, each
from scratch.
"""

import sys

import keras
import numpy as np
import torch
import torch.nn.functional as F
from keras2_h5 import save_keras2_h5, write_card
from torch_training import accuracy, fit

from nengonet import datasets

EPOCHS = 3
AMPLITUDE = 0.01
# The tutorial's input: pixels as Keras' MNIST holds them.
WHITE = 255.0
# max_rates 100 Hz and intercepts 0, as nengo.LIF().gain_bias computes them.
TAU_RC, TAU_REF = 0.02, 0.002
GAIN = 1 / np.expm1((1 / 100 - TAU_REF) / TAU_RC)
# Smoothing of the threshold, in units of current (the sigma of NengoDL's SoftLIFRate): little, as
# the spiking neurons have none, and are silent where a wide one would still have a rate.
SIGMA = 0.02


@keras.saving.register_keras_serializable("nengonet")
class SoftLIF:
    """The LIF rate curve, smooth at the threshold (Hunsberger & Eliasmith 2015).

    Parameters
    ----------
    amplitude : float
        Output for each spike a second.
    sigma : float
        ``softplus((J - 1) / sigma) * sigma`` stands in place of ``max(J - 1, 0)``.
    """

    def __init__(self, amplitude=AMPLITUDE, sigma=SIGMA):
        self.amplitude, self.sigma = amplitude, sigma

    def __call__(self, x):
        """Return the output for a drive; the threshold is a drive of 0 (intercepts 0)."""
        z = GAIN * x / self.sigma
        above = F.softplus(z.clamp(min=-20.0)) * self.sigma
        # Far below the threshold, softplus(z) is exp(z), and log1p(1 / above) a line.
        period = torch.where(z > -20.0, torch.log1p(1 / above), -z - np.log(self.sigma))
        return self.amplitude / (TAU_REF + TAU_RC * period)

    def get_config(self):
        """Return the arguments."""
        return {"amplitude": self.amplitude, "sigma": self.sigma}


def build(amplitude, sigma=SIGMA):
    """Return the tutorial's model."""
    lif = SoftLIF(amplitude, sigma)
    return keras.Sequential(
        [
            keras.layers.Input((28, 28, 1), name="input"),
            keras.layers.Conv2D(32, 3, activation=lif, name="conv0"),
            keras.layers.Conv2D(64, 3, strides=2, activation=lif, name="conv1"),
            keras.layers.Conv2D(128, 3, strides=2, activation=lif, name="conv2"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(10, name="output"),
        ]
    )


def forward_with(lif):
    """Return a function that computes the logits of the same model."""

    def forward(weights, x):
        kernels, biases = weights[::2], weights[1::2]
        for i, stride in enumerate((1, 2, 2)):
            x = lif(F.conv2d(x, kernels[i].permute(3, 2, 0, 1), biases[i], stride))
        x = x.permute(0, 2, 3, 1).flatten(1)  # Keras flattens (row, column, channel)
        return x @ kernels[3] + biases[3]

    return forward


def main(amplitude=AMPLITUDE, seed=0):
    keras.utils.set_random_seed(seed)
    images, labels = datasets.load("mnist", split="train", n_images="all")
    test_images, test_labels = datasets.load("mnist", split="test", n_images="all")
    model = build(amplitude)
    fit(
        model,
        forward_with(SoftLIF(amplitude)),
        WHITE * images,
        labels,
        epochs=EPOCHS,
        rate=1e-3,
        seed=seed,
    )
    hard = build(amplitude, sigma=1e-6)
    hard.set_weights(model.get_weights())
    name = "amplitude_cnn" if amplitude == AMPLITUDE else f"amplitude_cnn_{amplitude:g}"
    name += f"_seed{seed}" if seed else ""
    save_keras2_h5(model, f"{name}.h5")
    write_card(
        name,
        summary=(
            "CNN Conv2D 32-64-128 (3x3, strides 1-2-2, valid), Dense 10 (linear), all with biases, "
            'as in NengoDL\'s tutorial "Optimizing a spiking neural network", on MNIST pixels of '
            "0 to 255. The activation is the rate curve of "
            f"nengo.LIF(amplitude={amplitude:g}) with max_rates 100 and intercepts 0."
        ),
        script="train_amplitude_cnn.py",
        training=(
            f"arguments {amplitude:g} {seed}: {EPOCHS} epochs of the 60,000 training images, "
            f"batch 64, Adam with cosine decay from 1e-3, seed {seed}, threshold smoothed by "
            f"sigma {SIGMA:g} (units of current). Nothing was chosen on test images."
        ),
        accuracies={
            f"{what}, {n:,} test images": accuracy(each, WHITE * test_images[:n], test_labels[:n])
            for what, each in (("smoothed rate curve", model), ("LIF rate curve", hard))
            for n in (1000, 10000)
        },
    )


if __name__ == "__main__":
    main(*(read(word) for read, word in zip((float, int), sys.argv[1:], strict=False)))
