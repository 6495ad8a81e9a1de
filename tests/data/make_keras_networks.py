"""Write the branching Keras networks that test_merges.py builds by hand.

Run under Keras 3, on any backend, from any directory::

    python make_keras_networks.py

Each network ``NAME`` also gets a file ``networks/NAME.expected.npz``. It holds images and Keras'
outputs of every layer for them, by the layer's name. A layer that is used twice has two outputs,
``LAYER`` and ``LAYER_2``.
"""

import pathlib

import keras
import numpy as np
from keras import layers

HERE = pathlib.Path(__file__).parent


def residual():
    """Return a CNN of two residual blocks: an identity shortcut and a projection."""

    def normed(x, filters, name, size=3, strides=1):
        options = {"strides": strides, "padding": "same", "use_bias": False, "name": name}
        return layers.BatchNormalization(name=f"{name}_norm")(
            layers.Conv2D(filters, size, **options)(x)
        )

    x = keras.Input((8, 8, 2))
    stem = layers.ReLU(name="stem_relu")(normed(x, 4, "stem"))
    y = layers.ReLU(name="relu_1")(normed(stem, 4, "conv_1"))
    y = layers.Add(name="add_1")([normed(y, 4, "conv_2"), stem])
    block = layers.ReLU(name="block_1")(y)
    y = layers.ReLU(name="relu_2")(normed(block, 6, "conv_3", strides=2))
    y = layers.Add(name="add_2")(
        [normed(y, 6, "conv_4"), normed(block, 6, "projection", size=1, strides=2)]
    )
    y = layers.Activation("relu", name="block_2")(y)
    y = layers.GlobalAveragePooling2D(name="mean")(y)
    return keras.Model(x, layers.Dense(5, activation="softmax", name="classes")(y))


def inception():
    """Return branches of different kernels, joined along their channels."""
    x = keras.Input((7, 6, 3))
    one = layers.Conv2D(4, 1, activation="relu", name="one")(x)
    three = layers.ZeroPadding2D(((1, 1), (0, 2)), name="zeros")(x)
    three = layers.Conv2D(5, 3, activation="relu", dilation_rate=(1, 1), name="three")(three)
    pooled = layers.MaxPooling2D((1, 3), strides=1, padding="same", name="pool")(one)
    pooled = layers.Conv2D(2, 1, activation="relu", name="after_pool")(pooled)
    y = layers.Concatenate(name="joined")([one, three, pooled])
    y = layers.Conv2D(6, 2, dilation_rate=2, activation="relu", name="dilated")(y)
    y = layers.GlobalMaxPooling2D(name="largest")(y)
    return keras.Model(x, layers.Dense(4, name="classes")(y))


def series():
    """Return a network over steps: causal and dilated convolutions, groups, pools."""
    return keras.Sequential(
        [
            keras.Input((20, 3)),
            layers.Conv1D(
                4, 3, padding="causal", dilation_rate=2, activation="relu", name="causal"
            ),
            layers.MaxPooling1D(2, name="largest"),
            layers.Conv1D(6, 3, strides=2, padding="causal", activation="relu", name="strided"),
            layers.ZeroPadding1D((2, 1), name="zeros"),
            layers.Conv1D(6, 2, groups=3, padding="same", use_bias=False, name="grouped"),
            layers.BatchNormalization(name="grouped_norm"),
            layers.ReLU(name="grouped_relu"),
            layers.AveragePooling1D(3, strides=1, name="mean"),
            layers.DepthwiseConv1D(2, depth_multiplier=2, activation="relu", name="depthwise"),
            layers.GlobalMaxPooling1D(name="largest_of_all"),
            layers.Dense(3, name="classes"),
        ]
    )


def shared():
    """Return a network with one convolution on two branches, and one layer on its own output."""
    x = keras.Input((6, 6, 2))
    convolution = layers.Conv2D(3, 3, padding="same", activation="relu", name="twice")
    small = layers.AveragePooling2D((2, 2), strides=1, padding="valid", name="mean")(x)
    left = layers.GlobalAveragePooling2D(name="left")(convolution(x))
    right = layers.GlobalMaxPooling2D(name="right")(convolution(small))
    y = layers.Concatenate(name="joined")([left, right])
    again = layers.Dense(6, activation="relu", name="again")
    return keras.Model(x, layers.Dense(4, name="classes")(again(again(y))))


def randomize(model, rng):
    """Give every array values far from Keras' initial zeros and ones; half of the units are cut."""
    for variable in model.weights:
        shape = variable.shape
        if len(shape) > 1:
            value = rng.normal(0.0, 1.5 / np.sqrt(np.prod(shape[:-1])), shape)
        elif variable.name in ("gamma", "moving_variance"):
            value = rng.uniform(0.5, 1.5, shape)
        else:
            value = rng.normal(0.0, 0.3, shape)
        variable.assign(value)


def outputs(model, images):
    """Return the output of every layer, by its name."""
    tensors = {}
    by_depth = getattr(model, "_functional", model)._nodes_by_depth
    for node in (node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]):
        if isinstance(node.operation, layers.InputLayer):
            continue
        name, number = node.operation.name, 1
        while name in tensors:
            number += 1
            name = f"{node.operation.name}_{number}"
        tensors[name] = node.output_tensors[0]
    found = keras.Model(model.inputs, tensors).predict(images, verbose=0)
    return {name: np.asarray(values) for name, values in found.items()}


def main():
    """Write the files."""
    for seed, build in enumerate([residual, inception, series, shared]):
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        rng = np.random.default_rng(seed)
        model = build()
        randomize(model, rng)
        images = rng.uniform(0.0, 1.0, (4, *model.input_shape[1:])).astype(np.float32)
        name = HERE / "networks" / build.__name__
        np.savez_compressed(f"{name}.expected.npz", images=images, **outputs(model, images))
        model.save(f"{name}.keras")
        if build is series:
            model.save(f"{name}.h5")
            model.save_weights(f"{name}.weights.h5")


if __name__ == "__main__":
    main()
