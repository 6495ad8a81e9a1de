"""Train bengali_cnn.h5, the CNN of the forum's "Discrepancy between RectifiedLinear and ...".

Run from this folder, with the extra ``train`` installed and NENGONET_DATA set::

    KERAS_BACKEND=torch python train_bengali_cnn.py

With the argument ``validate`` it trains without the last 2,400 training images and prints the
accuracy on them: what every choice here rests on.
"""

import sys

import keras
import torch
import torch.nn.functional as F
from keras2_h5 import save_keras2_h5, write_card
from torch_training import accuracy, fit, random_affine

from nengonet import datasets

SEED = 0
EPOCHS = 20
DROPOUT = 0.3
HELD_OUT = 2400


def build():
    """Return the post's model."""
    convolutions = [
        keras.layers.Conv2D(filters, 2, activation="relu", use_bias=False, name=f"conv{i}")
        for i, filters in enumerate((5, 10, 20, 40))
    ]
    return keras.Sequential(
        [
            keras.layers.Input((28, 28, 1), name="input"),
            *convolutions,
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(256, activation="relu", use_bias=False, name="dense0"),
            keras.layers.Dense(512, activation="relu", use_bias=False, name="dense1"),
            keras.layers.Dense(50, use_bias=False, name="dense"),
        ]
    )


def forward(weights, x):
    """Return the logits of the same model, with dropout before its dense layers."""
    for kernel in weights[:4]:
        x = F.relu(F.conv2d(x, kernel.permute(3, 2, 0, 1)))
    x = x.permute(0, 2, 3, 1).flatten(1)  # Keras flattens (row, column, channel)
    for kernel in weights[4:6]:
        x = F.relu(F.dropout(x, DROPOUT) @ kernel)
    return F.dropout(x, DROPOUT) @ weights[6]


def augment(x):
    """Return the images as another hand might have written them."""
    return random_affine(x, shift=2, rotation=0.15, zoom=0.12, shear=0.1)


def main(validate=False):
    keras.utils.set_random_seed(SEED)
    images, labels = datasets.load("bengali", split="train", n_images="all")
    chosen = slice(-HELD_OUT) if validate else slice(None)
    model = build()
    fit(
        model,
        forward,
        images[chosen],
        labels[chosen],
        augment=augment,
        epochs=EPOCHS,
        rate=1e-3,
        seed=SEED,
    )
    if validate:
        print(f"held out: {accuracy(model, images[-HELD_OUT:], labels[-HELD_OUT:]):.4f}")
        return
    test_images, test_labels = datasets.load("bengali", split="test", n_images="all")
    unrounded = accuracy(model, test_images, test_labels)
    kernel = model.get_layer("dense0").kernel
    kernel.assign(kernel.value.detach().to(torch.bfloat16).to(torch.float32))
    seen = {image.tobytes() for image in images}
    new = [image.tobytes() not in seen for image in test_images]
    save_keras2_h5(model, "bengali_cnn.h5")
    write_card(
        "bengali_cnn",
        summary=(
            "CNN Conv2D 5-10-20-40 (2x2, relu), Dense 256-512 (relu), Dense 50 (linear), without "
            "biases and pooling, as in the Nengo forum's "
            '"Discrepancy between RectifiedLinear and SpikingRectifiedLinear", on pixels in [0, 1] '
            "of the 50 Bengali characters of CMATERdb 3.1.2."
        ),
        script="train_bengali_cnn.py",
        training=(
            f"{EPOCHS} epochs of the 12,000 training images, shifted, turned, zoomed and sheared a "
            f"little at random, batch 64, dropout {DROPOUT} before each dense layer, Adam with "
            f"cosine decay from 1e-3, seed {SEED}. The kernel of dense0 was then rounded to the 8 "
            "significant bits of bfloat16 (held as float32), which halves the file. Choices were "
            f"made on the last {HELD_OUT:,} training images, left out of training then, never "
            "on test images."
        ),
        accuracies={
            f"all {len(new):,} test images": accuracy(model, test_images, test_labels),
            f"all {len(new):,} test images, before the rounding": unrounded,
            f"the {sum(new):,} test images that are not among the training images too": accuracy(
                model, test_images[new], test_labels[new]
            ),
        },
    )


if __name__ == "__main__":
    main(sys.argv[1:] == ["validate"])
