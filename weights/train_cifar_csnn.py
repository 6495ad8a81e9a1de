"""Train the CNN of the CSNN paper: cifar_csnn.h5, and cifar_csnn_paper.h5 by the paper's recipe.

Run from this folder, with the extra ``train`` and Pillow installed and NENGONET_DATA set. Where
that folder has ``cifar10_train.npz``, the training images come from it: JPEG files, whose grey
levels are some 8 of 255 (RMS) off, and the first 4,000 images exactly::

    KERAS_BACKEND=torch python train_cifar_csnn.py

With the argument ``validate`` it trains the former without the first 4,000 training images and
prints the accuracy on them.
"""

import io
import itertools
import os
import pathlib
import sys

import keras
import numpy as np
import torch.nn.functional as F
from keras2_h5 import save_keras2_h5, write_card
from PIL import Image
from torch_training import accuracy, fit, random_affine

from nengonet import datasets

SEED = 0
HELD_OUT = 4000  # those that cifar10_train.npz has exactly, as it has the test images


def training_images():
    """Return the 50,000 training images, in [0, 1], and their labels."""
    path = pathlib.Path(os.environ.get("NENGONET_DATA", "."), "cifar10_train.npz")
    if not path.is_file():
        return datasets.load("cifar10", split="train", n_images="all", dtype=np.float32)
    with np.load(path, allow_pickle=False) as npz:
        labels, exact, content, offsets = (
            npz[key] for key in ("y", "lossless_first", "jpeg", "offsets")
        )
    decoded = [
        np.asarray(Image.open(io.BytesIO(content[start:end])).convert("RGB"))
        for start, end in itertools.pairwise(offsets[len(exact) :])
    ]
    return datasets.as_images(np.concatenate([exact, decoded]), labels, dtype=np.float32)


def build(pool=keras.layers.MaxPooling2D):
    """Return the paper's model."""
    return keras.Sequential(
        [
            keras.layers.Input((32, 32, 3), name="input"),
            keras.layers.Conv2D(32, 3, activation="relu", name="conv0"),
            pool(2, name="pool0"),
            keras.layers.Conv2D(64, 3, activation="relu", name="conv1"),
            pool(2, name="pool1"),
            keras.layers.Conv2D(64, 3, activation="relu", name="conv2"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(64, activation="relu", name="dense0"),
            keras.layers.Dense(10, name="output"),
        ]
    )


def forward(weights, x):
    """Return the logits of the same model."""
    kernels, biases = weights[::2], weights[1::2]
    for i in range(3):
        x = F.relu(F.conv2d(x, kernels[i].permute(3, 2, 0, 1), biases[i]))
        if i < 2:
            x = F.max_pool2d(x, 2)
    x = x.permute(0, 2, 3, 1).flatten(1)  # Keras flattens (row, column, channel)
    x = F.relu(x @ kernels[3] + biases[3])
    return x @ kernels[4] + biases[4]


def augment(x):
    """Return the images, some of them mirrored, shifted by up to 2 pixels."""
    return random_affine(x, shift=2, flip=True, mode="border")


AUGMENTED = {"augment": augment, "epochs": 15}
PAPER = {"epochs": 10, "constant": 10, "batch": 32, "last_batch": True, "epsilon": 1e-7}


def trained(images, labels, **recipe):
    """Return the model, trained."""
    keras.utils.set_random_seed(SEED)
    model = build()
    fit(model, forward, images, labels, rate=1e-3, seed=SEED, **recipe)
    return model


def write(model, name, training):
    """Write the weights and their card."""
    test_images, test_labels = datasets.load("cifar10", split="test", n_images=1000)
    averaged = build(keras.layers.AveragePooling2D)
    averaged.set_weights(model.get_weights())
    save_keras2_h5(model, f"{name}.h5")
    write_card(
        name,
        summary=(
            "CNN Conv2D 32-64-64 (3x3, relu) with 2x2 max pools after the first two, Dense 64 "
            "(relu), Dense 10 (linear), all with biases, as in the CSNN paper, on CIFAR-10 pixels "
            "in [0, 1]."
        ),
        script="train_cifar_csnn.py",
        training=f"{training}, seed {SEED}. Nothing was chosen on test images.",
        accuracies={
            "first 1,000 test images": accuracy(model, test_images, test_labels),
            "first 1,000 test images, average pools in place of the max pools, not retrained": (
                accuracy(averaged, test_images, test_labels)
            ),
        },
    )


def main(validate=False):
    images, labels = training_images()
    if validate:
        model = trained(images[HELD_OUT:], labels[HELD_OUT:], **AUGMENTED)
        print(f"held out: {accuracy(model, images[:HELD_OUT], labels[:HELD_OUT]):.4f}")
        return
    files = f"(all but the first {HELD_OUT:,} from JPEG files)"
    write(
        trained(images, labels, **AUGMENTED),
        "cifar_csnn",
        f"{AUGMENTED['epochs']} epochs of the 50,000 training images {files}, mirrored and shifted "
        "by up to 2 pixels at random, batch 64, Adam with cosine decay from 1e-3",
    )
    write(
        trained(images, labels, **PAPER),
        "cifar_csnn_paper",
        f"the paper's recipe, which is Keras' defaults: {PAPER['epochs']} epochs of the 50,000 "
        f"training images {files}, batch {PAPER['batch']}, Adam at 1e-3",
    )


if __name__ == "__main__":
    main(sys.argv[1:] == ["validate"])
