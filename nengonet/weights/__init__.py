"""Keras weights in: HDF5 files and ``.keras`` archives, as named NumPy arrays.

`load_weights` tells the dialects apart by content, never by the name of the file. What it returns
is a read-only mapping from layer names to `LayerWeights`, in the order of the model.
"""

import pathlib

from nengonet.exceptions import InputError
from nengonet.weights.files import DAMAGE, read_layers
from nengonet.weights.folding import fold_batch_norm
from nengonet.weights.records import LayerWeights, Weights, as_layer_weights

__all__ = [
    "LayerWeights",
    "Weights",
    "as_layer_weights",
    "fold_batch_norm",
    "load_weights",
    "pretrained",
]


def load_weights(path) -> Weights:
    """Read the weights of a Keras model, or of a plain HDF5 file of named arrays.

    The content decides, never the name of the file:

    - Keras 2 or 3 full model (``.h5``): optimizer state is left out;
    - Keras 2 weights only (``.h5``, root attribute ``layer_names``);
    - Keras 3 weights (``.weights.h5``; late Keras 2 writes it too, with no names in it);
    - ``.keras`` archives;
    - plain HDF5: every 2-d or 4-d dataset is a kernel named by its path, with ``NAME_bias`` as its
      bias; a group that holds ``kernel`` and ``bias``, or ``W`` and ``b``, is one layer.

    The layers come in the order of the model, those of nested models as ``nested/layer``; layers
    without weights are left out. Layers of a kind that nengonet does not know keep their arrays
    in `LayerWeights.others`.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    Weights

    Raises
    ------
    InputError
        If the file is missing, not HDF5 nor a ``.keras`` archive, damaged, without weights, or
        holds NaN or infinite weights.

    Notes
    -----
    Files that hold weights only tell less. They have no config, so strides, padding, groups and
    activations are the user's to state, and the kind of a layer is told from array names, group
    names and shapes. Keras 3 ``.weights.h5`` and plain HDF5 state no order: layers are
    listed in the order in which the file was written, and by number (``dense_2`` before
    ``dense_10``) where a rewritten file has lost that; a model of a class of its own
    is written attribute by attribute, in alphabetical order. Its arrays are numbered: three of a
    BatchNormalization may be ``scale=False`` or ``center=False``, and keep their numbers.
    A nested model of one layer in a Keras 2 weights-only file carries the nested model's name.
    """
    path = pathlib.Path(path)
    try:
        layers, dialect = read_layers(path)
        return Weights(layers, path, dialect)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except DAMAGE as error:
        text = " ".join(str(error).split()) or type(error).__name__
        what = "truncated file" if "truncated file" in text else "damaged or truncated file"
        raise InputError(f"{path}: {what} ({text})") from None


def pretrained(name: str) -> pathlib.Path:
    """Return the path of a weights file that comes with nengonet.

    Parameters
    ----------
    name : str
        Name of the file without ``.h5``, e.g. ``mnist_dense``.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    InputError
        If there is no such file; lists what there is.
    """
    package = pathlib.Path(__file__).parent.parent
    files = {
        file.stem: file
        for folder in (package.parent / "weights", package / "pretrained")
        for file in sorted(folder.glob("*.h5"))
    }
    if name not in files:
        raise InputError(
            f"no pretrained weights {name!r}; there are: {', '.join(sorted(files)) or 'none'}"
        )
    return files[name]
