"""Write the small Keras files that test_weights.py reads, and Keras' own results for them.

Run once under Keras 2 (the package ``tf_keras``) and once under Keras 3, from any directory::

    python make_keras_files.py

Each model ``NAME`` also gets a file ``kerasV_NAME.expected.npz``. It holds an input, Keras' output
for it, and every array of every layer in the model's order, under ``LAYER:ARRAY``.
"""

import pathlib

import numpy as np

try:
    import tf_keras as keras

    VERSION = 2
except ImportError:
    import keras

    VERSION = 3

HERE = pathlib.Path(__file__).parent
layers = keras.layers


def mlp():
    """Return a small version of the forum's network: two layers without bias, trained one step."""
    model = keras.Sequential(
        [
            layers.Flatten(input_shape=(2, 3)) if VERSION == 2 else keras.Input((2, 3)),
            *([] if VERSION == 2 else [layers.Flatten()]),
            layers.Dense(5, activation="relu", use_bias=False, name="hidden"),
            layers.Dense(4, use_bias=False, name="output"),
        ]
    )
    model.compile("adam", "mse", metrics=["accuracy"])
    model.fit(np.ones((4, 2, 3)), np.zeros((4, 4)), verbose=0)
    return model


def deep():
    """Return eleven layers with automatic names: dense_2 comes before dense_10."""
    sizes = [2] * 10 + [3]
    return keras.Sequential(
        [keras.Input((2,)), *[layers.Dense(size, activation="tanh") for size in sizes]]
    )


def conv():
    """Return a convolutional network with everything that can be folded or left out."""
    return keras.Sequential(
        [
            keras.Input((7, 6, 4)),
            layers.Conv2D(6, 3, groups=2, strides=2, padding="same", name="grouped"),
            layers.BatchNormalization(epsilon=0.01, name="after_grouped"),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise"),
            layers.BatchNormalization(scale=False, name="after_depthwise"),
            layers.ReLU(),
            layers.Dropout(0.5),
            layers.Conv2D(3, (1, 2), padding="same", use_bias=False, activation="relu", name="a"),
            layers.Flatten(),
            layers.Dense(4, name="classes"),
        ]
    )


def nested():
    """Return a functional model of two branches; one holds a Sequential that holds a Sequential.

    No name stands in alphabetical order.
    """
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="z")], name="inner")
    encoder = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(4, name="squeeze"),
            layers.BatchNormalization(center=False, name="norm"),
            inner,
            layers.Dense(3, activation="relu", use_bias=False, name="expand"),
        ],
        name="encoder",
    )
    x = keras.Input((6,))
    zeta = layers.Dense(5, activation="relu", name="zeta")(x)
    bypass = layers.Dense(3, name="bypass")(x)
    both = layers.Add(name="both")([encoder(zeta), bypass])
    return keras.Model(x, layers.Dense(2, name="alpha")(both))


def randomize(model, rng):
    """Give every array values far from Keras' initial zeros and ones."""
    model.set_weights(
        [
            (rng.uniform(0.5, 2.0, w.shape) if w.ndim == 1 else rng.normal(0.0, 0.5, w.shape))
            for w in model.get_weights()
        ]
    )


def arrays_in_order(model, prefix=""):
    """Yield (layer:array, values) in Keras' order, with nested models joined by '/'."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from arrays_in_order(layer, f"{prefix}{layer.name}/")
            continue
        for variable, value in zip(layer.weights, layer.get_weights(), strict=True):
            name = variable.name.split("/")[-1].split(":")[0].replace("depthwise_", "")
            yield f"{prefix}{layer.name}:{name}", value


# Each dialect has the models that can go wrong in it. All models in all would be twice the size.
DIALECTS = {
    "mlp": (".h5", ".weights.h5") if VERSION == 3 else (".h5", ".weights.h5", "_only.h5"),
    "deep": (".weights.h5", ".keras") if VERSION == 3 else ("_only.h5", ".weights.h5"),
    "conv": (".h5", ".weights.h5") if VERSION == 3 else (".h5",),
    "nested": (".h5", ".weights.h5", ".keras") if VERSION == 3 else (".h5", "_only.h5", ".keras"),
}


def save(model, name):
    """Write the model in the dialects of this Keras."""
    for ending in DIALECTS[name]:
        write = model.save_weights if "weights" in ending or "only" in ending else model.save
        write(f"{HERE}/keras{VERSION}_{name}{ending}")


def main():
    """Write the files of this Keras."""
    for seed, build in enumerate([mlp, deep, conv, nested]):
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        rng = np.random.default_rng(seed)
        model = build()
        if build is not mlp:
            randomize(model, rng)
        x = rng.normal(0.0, 1.0, (3, *model.input_shape[1:])).astype(np.float32)
        expected = {"input": x, "output": np.asarray(model.predict(x, verbose=0))}
        np.savez_compressed(
            f"{HERE}/keras{VERSION}_{build.__name__}.expected.npz",
            **expected,
            **dict(arrays_in_order(model)),
        )
        save(model, build.__name__)
    if VERSION == 3:
        save_types()
        save_activations()


def dense_pair(dtype=None):
    """Return two layers whose weights a test can compute: the sine of a count."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(5, activation="relu", name="hidden", dtype=dtype),
            layers.Dense(3, use_bias=False, name="output"),
        ]
    )
    model.set_weights([np.sin(np.arange(w.size)).reshape(w.shape) for w in model.get_weights()])
    return model


def save_types():
    """Write files with other types than float32."""
    for name, types in [("bfloat16", {"dtype": "bfloat16"}), ("int8", {}), ("int4", {})]:
        keras.backend.clear_session()
        model = dense_pair(**types)
        if name.startswith("int"):
            model.quantize(name)
        for ending in (".h5", ".weights.h5", ".keras")[: 2 if name == "int4" else 3]:
            write = model.save_weights if "weights" in ending else model.save
            write(f"{HERE}/keras3_{name}{ending}")


def save_activations():
    """Write a network with activations, pools and branches between its layers."""
    keras.backend.clear_session()
    x = keras.Input((9, 9, 1), name="images")
    y = layers.Conv2D(2, 3, name="first")(x)
    y = layers.BatchNormalization(name="first_norm")(y)
    y = layers.ReLU(max_value=6.0, name="relu6")(y)
    y = layers.MaxPooling2D(2, name="largest")(y)
    y = layers.Conv2D(2, 1, name="second")(y)
    y = layers.Activation("relu", name="early")(y)
    y = layers.BatchNormalization(name="late_norm")(y)
    y = layers.AveragePooling2D((2, 1), strides=1, padding="same", name="average")(y)
    y = layers.Dropout(0.5, name="drop")(layers.Flatten(name="flat")(y))
    y = layers.Dense(4, name="leaky")(y)
    y = branch = layers.LeakyReLU(negative_slope=0.2, name="leak")(y)
    y = layers.Dense(4, name="branching")(y)
    y = layers.Add(name="sum")([layers.Activation("tanh", name="tanh")(y), y, branch])
    y = layers.Dense(3, name="logits")(y)
    model = keras.Model(x, layers.Softmax(name="classes")(y))
    for ending in (".h5", ".keras"):
        model.save(f"{HERE}/keras3_activations{ending}")


if __name__ == "__main__":
    main()
