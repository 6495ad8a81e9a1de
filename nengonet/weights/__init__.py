"""Keras weights in: HDF5 files and ``.keras`` archives, as named NumPy arrays.

`load_weights` recognises a dialect by content, never by the name of the file. Each dialect is a
module with ``matches(file)`` and ``read(file)``. What comes back is a read-only mapping from layer
names to `LayerWeights`, in the order of the model.
"""

import pathlib

import h5py

from nengonet.exceptions import InputError
from nengonet.files import Hdf5, open_binary, reading
from nengonet.weights import keras1, named, numbered, plain
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

# The first to match a file reads it.
_DIALECTS = (keras1, named, numbered, plain)

_FIRST_BYTES = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x1f\x8b": "gzip; unpack it first",
    b"\x93NUMPY": "a NumPy .npy file",
    b"\x80\x02": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself",
    b"<": "HTML or XML; a download that failed?",
    b"{": "JSON",
}


def load_weights(path) -> Weights:
    """Read the weights of a Keras model, or of a plain HDF5 file of named arrays.

    The content decides, never the name of the file:

    - Keras 1, 2 or 3 full model (``.h5``): optimizer state is left out;
    - Keras 0, 1 or 2 weights only (``.h5``, root attribute ``layer_names`` or ``nb_layers``);
    - Keras 3 weights (``.weights.h5``; late Keras 2 writes it too, with no names in it);
    - ``.keras`` archives;
    - plain HDF5: every 2-d or 4-d dataset is a kernel named by its path, with ``NAME_bias`` as its
      bias; a group that holds ``kernel`` and ``bias``, or ``W`` and ``b``, is one layer.

    The layers come in the order of the model, those of nested models as ``nested/layer``; those
    without weights stand in `Weights.layers` alone. Layers of a kind that nengonet does not know
    keep their arrays in `LayerWeights.others`. bfloat16 is read as float32, Dense kernels of int8
    are multiplied by their scales, kernels of Keras 1 and Theano come in today's order.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    Weights

    Raises
    ------
    InputError
        If the file is missing, not HDF5 nor a ``.keras`` archive, damaged, without weights, refers
        to other files, unpacks to more than files of its size do, or holds NaN or infinite weights.

    Notes
    -----
    Files that hold weights only tell less. They have no config, so strides, padding, groups and
    activations are the user's to state, and the kind of a layer follows from array names, layer
    names and shapes: a Conv2DTranspose under a name of yours, with as many channels in as out,
    looks like a Conv2D. Keras 1 seldom names its backend: kernels that Theano trained are mirrored.
    Keras 3 ``.weights.h5`` and plain HDF5 state no order: layers are listed in the order in which
    the file was written, and by number (``dense_2`` before ``dense_10``) where a rewritten file has
    lost that; a model of a class of its own is written attribute by attribute, in alphabetical
    order. Its arrays are numbered: three of a BatchNormalization may be ``scale=False`` or
    ``center=False``, and keep their numbers. A nested model of one layer in a Keras 2 weights-only
    file carries the nested model's name.
    """
    with reading(path, "HDF5 or a .keras archive"), open_binary(path) as stream:
        layers, dialect = _read(stream)
        weights = Weights(layers, path, dialect)
        if not weights:
            raise InputError(f"no weights inside ({dialect})")
        return weights


def _read(stream) -> tuple[list[LayerWeights], str]:
    """Return the layers of a file, and what wrote it."""
    head = stream.read(64)
    stream.seek(0)
    if not head:
        raise InputError("expected HDF5 or a .keras archive, got an empty file")
    if head.startswith(b"PK\x03\x04"):
        return numbered.read_archive(stream)
    if head.startswith(b"MATLAB"):
        raise InputError(
            "expected weights, got a MATLAB file, which holds arrays transposed; read it with "
            "scipy.io.loadmat or h5py, and pass (kernel, bias)"
        )
    if not head.startswith(b"\x89HDF\r\n\x1a\n") and not h5py.is_hdf5(stream.name):
        starts = (what for start, what in _FIRST_BYTES.items() if head.lstrip().startswith(start))
        looks = "".join(f" look like {what}" for what in starts)
        raise InputError(
            f"expected HDF5 or a .keras archive, got something else (first bytes "
            f"{head[:8]!r}{looks})"
        )
    with Hdf5(stream) as file:
        anndata = file.attribute("encoding-type") == "anndata"
        if anndata or {"X", "obs", "var"} <= set(file.root):
            raise InputError("expected weights, got an AnnData file: a table of observations")
        return next(dialect for dialect in _DIALECTS if dialect.matches(file)).read(file)


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
    files = pretrained_files()
    if name not in files:
        raise InputError(
            f"no pretrained weights {name!r}; there are: {', '.join(sorted(files)) or 'none'}"
        )
    return files[name]


def pretrained_files() -> dict[str, pathlib.Path]:
    """Return the weights files that are bundled with nengonet, by their names for `pretrained`."""
    package = pathlib.Path(__file__).parent.parent
    return {
        file.stem: file
        for folder in (package.parent / "weights", package / "pretrained")
        for file in sorted(folder.glob("*.h5"))
    }
