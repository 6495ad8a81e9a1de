"""Write keras_layers.npz, the outputs of Keras' own layers, for test_convolution.py.

Run under TensorFlow, with Keras 2 (the package ``tf_keras``) or Keras 3, from any directory. On
torch, Keras 3.15 counts the padding of AveragePooling2D as pixels where 'same' pads one side more
than the other. All other results agree::

    python make_keras_layers.py            # writes the file
    python make_keras_layers.py --check    # compares this Keras with the file

Case ``i`` is ``configs[i]`` (JSON: ``layer``, ``shape``, ``options``), with the arrays
``input_i``, ``kernel_i`` and ``bias_i`` (where the layer has them), and ``output_i``.
"""

import json
import pathlib
import sys

import numpy as np

try:
    import tf_keras as keras
except ImportError:
    import keras

FILE = pathlib.Path(__file__).parent / "keras_layers.npz"
COUNTS = {
    "Conv2D": 120,
    "DepthwiseConv2D": 60,
    "MaxPooling2D": 50,
    "AveragePooling2D": 50,
    "GlobalAveragePooling2D": 10,
}
SEED = 0


def pair(rng, high):
    """Return two whole numbers from 1 to high."""
    return [int(n) for n in rng.integers(1, high + 1, 2)]


def draw(layer, rng):
    """Return the config of one random layer and a shape that it can take."""
    rows, columns, channels = *(int(n) for n in rng.integers(1, 12, 2)), int(rng.integers(1, 5))
    padding = str(rng.choice(["valid", "same"]))
    high = [min(5, rows), min(5, columns)] if padding == "valid" else [5, 5]
    size = [int(rng.integers(1, n + 1)) for n in high]
    options = {"padding": padding, "strides": pair(rng, 3)}
    if layer == "Conv2D":
        groups = int(rng.integers(1, 4))
        channels = groups * int(rng.integers(1, 4))
        options |= {"filters": groups * int(rng.integers(1, 4)), "groups": groups}
    elif layer == "DepthwiseConv2D":
        # TensorFlow's depthwise convolution takes equal strides only.
        options |= {"depth_multiplier": int(rng.integers(1, 4)), "strides": [pair(rng, 3)[0]] * 2}
    elif layer == "GlobalAveragePooling2D":
        return {"layer": layer, "shape": [rows, columns, channels], "options": {}}
    if "Conv" in layer:
        options |= {"kernel_size": size, "use_bias": bool(rng.integers(2))}
    else:
        options["pool_size"] = size
        if rng.integers(4) == 0:
            options["strides"] = None
    return {"layer": layer, "shape": [rows, columns, channels], "options": options}


def run(config, arrays, images):
    """Return the output of this Keras."""
    layer = getattr(keras.layers, config["layer"])(**config["options"])
    layer.build((None, *config["shape"]))
    if arrays:
        layer.set_weights(arrays)
    output = layer(images)
    # Under Keras 3 with torch, the output may be a tensor that carries a gradient.
    return np.asarray(keras.ops.convert_to_numpy(output) if hasattr(keras, "ops") else output)


def write():
    """Write the file."""
    rng = np.random.default_rng(SEED)
    configs, found = [], {}
    for name, count in COUNTS.items():
        for _ in range(count):
            i, config = len(configs), draw(name, rng)
            layer = getattr(keras.layers, name)(**config["options"])
            layer.build((None, *config["shape"]))
            arrays = [rng.normal(size=w.shape).astype(np.float32) for w in layer.get_weights()]
            images = rng.normal(size=(2, *config["shape"])).astype(np.float32)
            found |= dict(zip([f"kernel_{i}", f"bias_{i}"], arrays, strict=False))
            found |= {f"input_{i}": images, f"output_{i}": run(config, arrays, images)}
            configs.append(config)
    np.savez_compressed(FILE, configs=json.dumps(configs), **found)


def check():
    """Print the largest difference between this Keras and the file."""
    stored = np.load(FILE)
    worst, configs = {}, json.loads(str(stored["configs"]))
    for i, config in enumerate(configs):
        arrays = [stored[key] for key in (f"kernel_{i}", f"bias_{i}") if key in stored]
        expected = stored[f"output_{i}"]
        output = run(config, arrays, stored[f"input_{i}"])
        assert output.shape == expected.shape, (config, output.shape, expected.shape)
        error = float(np.abs(output - expected).max() / np.abs(expected).max())
        worst[config["layer"]] = max(worst.get(config["layer"], (-1.0, -1)), (error, i))
    print(f"{keras.__version__}: {len(configs)} layers; largest relative difference, case:", worst)


if __name__ == "__main__":
    check() if "--check" in sys.argv else write()
