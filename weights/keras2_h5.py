"""What the training scripts share: the forum's file dialect, and the model card.

Keras 3 nests a weight as ``model_weights/hidden/sequential/hidden/kernel``. The forum's posters
read ``model_weights/hidden/hidden/kernel:0``, as Keras 2 wrote it; so do these files, and Keras 2
(``tf_keras.models.load_model``) opens them.
"""

import hashlib
import json
import pathlib

import h5py
import keras
import numpy as np

# What a Keras 2 layer of each kind takes from a Keras 3 config.
_KEPT = {
    "InputLayer": ("name",),
    "Flatten": ("name",),
    "Conv2D": (
        "name",
        "filters",
        "kernel_size",
        "strides",
        "padding",
        "activation",
        "use_bias",
        "groups",
        "data_format",
    ),
    "MaxPooling2D": ("name", "pool_size", "strides", "padding", "data_format"),
    "Dense": ("name", "units", "activation", "use_bias"),
    # A layer of our own: Keras needs its class in custom_objects.
    "Lowpass": ("name",),
}

# Bytes from which on an array is stored compressed; Keras reads both.
_LARGE = 2**20


def _keras2_config(model):
    layers = []
    # Not model.layers, which leaves out the InputLayer.
    for layer in model._layers:
        kind = type(layer).__name__
        config = layer.get_config()
        kept = {key: config[key] for key in _KEPT[kind]}
        if kind == "InputLayer":
            kept["batch_input_shape"] = config["batch_shape"]
        layers.append({"class_name": kind, "config": kept | {"dtype": "float32"}})
    return {"class_name": "Sequential", "config": {"name": model.name, "layers": layers}}


def save_keras2_h5(model, path):
    """Write a Sequential model as a Keras 2 full-model HDF5 file.

    Parameters
    ----------
    model : keras.Sequential
    path : str
    """
    path = pathlib.Path(path)
    temporary = path.with_suffix(".tmp")
    with h5py.File(temporary, "w") as file:
        file.attrs["keras_version"] = "2.15.0"  # the dialect, for readers that ask
        file.attrs["backend"] = "tensorflow"
        file.attrs["written_by"] = f"nengonet weights/ scripts, Keras {keras.__version__}"
        file.attrs["model_config"] = json.dumps(_keras2_config(model))
        root = file.create_group("model_weights")
        root.attrs["keras_version"] = "2.15.0"
        root.attrs["backend"] = "tensorflow"
        root.attrs["layer_names"] = np.array([layer.name.encode() for layer in model.layers])
        for layer in model.layers:
            group = root.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = np.array([name.encode() for name in names], dtype="S")
            for name, weight in zip(names, layer.get_weights(), strict=True):
                large = weight.nbytes >= _LARGE
                options = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
                group.create_dataset(name, data=weight, **(options if large else {}))
    temporary.replace(path)


def write_card(name, *, summary, script, training, accuracies, measured=None):
    """Write the model card NAME.md beside NAME.h5, with its sha256 and measured accuracy.

    ``measured`` holds other figures by name, for networks that are more than an ANN.
    """
    digest = hashlib.sha256(pathlib.Path(f"{name}.h5").read_bytes()).hexdigest()
    lines = [f"# {name}.h5", "", summary, "", f"- trained by: `{script}`: {training}"]
    lines += [f"- with Keras {keras.__version__}, backend {keras.backend.backend()}"]
    lines += [
        f"- ANN accuracy, {images}: {accuracy:.4f}" for images, accuracy in accuracies.items()
    ]
    lines += [f"- {what}: {value:.4f}" for what, value in (measured or {}).items()]
    lines += [f"- sha256: `{digest}`", ""]
    pathlib.Path(f"{name}.md").write_text("\n".join(lines))
