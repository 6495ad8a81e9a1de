"""Train mnist_dense.h5, the ANN of the Nengo forum's "A simple ANN-SNN conversion attempt".

Run from this folder, with the extra ``train`` installed and NENGONET_DATA set (or a network)::

    KERAS_BACKEND=torch python train_mnist_dense.py
"""

import keras
from keras2_h5 import save_keras2_h5, write_card

from nengonet import datasets

SEED = 0
EPOCHS = 20


def build():
    """Return the post's model."""
    return keras.Sequential(
        [
            keras.layers.Input((28, 28), name="input"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(128, activation="relu", use_bias=False, name="hidden"),
            keras.layers.Dense(10, activation="softmax", use_bias=False, name="output"),
        ]
    )


def main():
    keras.utils.set_random_seed(SEED)
    images, labels = datasets.load("mnist", split="train", n_images="all")
    test_images, test_labels = datasets.load("mnist", split="test", n_images="all")
    model = build()
    rate = keras.optimizers.schedules.CosineDecay(1e-3, EPOCHS * (len(images) // 128 + 1))
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(images, labels, batch_size=128, epochs=EPOCHS, verbose=2)
    accuracies = {
        f"first {n:,} test images": model.evaluate(
            test_images[:n], test_labels[:n], batch_size=500, verbose=0
        )[1]
        for n in (1000, 10000)
    }
    save_keras2_h5(model, "mnist_dense.h5")
    write_card(
        "mnist_dense",
        summary=(
            "MLP 784-128(relu)-10(softmax) without biases, as in the Nengo forum's "
            '"A simple ANN-SNN conversion attempt", on MNIST pixels in [0, 1].'
        ),
        script="train_mnist_dense.py",
        training=(
            f"{EPOCHS} epochs of the 60,000 training images, batch 128, Adam with cosine decay "
            f"from 1e-3, seed {SEED}; nothing that the post does not have (no dropout)."
        ),
        accuracies=accuracies,
    )


if __name__ == "__main__":
    main()
