"""Keras weights from HDF5 files and ``.keras`` archives, as named NumPy arrays.

`load_weights` recognises a dialect by content, never by the name of the file. Each dialect is a
module of `nengonet.weights.dialects`. It returns a read-only mapping from layer names to
`LayerWeights`, in the order of the model.
"""

import os
import pathlib
import re

from nengonet.checks import check_among, described, did_you_mean
from nengonet.exceptions import InputError
from nengonet.files import Archive, as_path, opened
from nengonet.weights.dialects import known_dialects, register_dialect
from nengonet.weights.folding import fold_batch_norm
from nengonet.weights.records import BUNDLED, LayerWeights, Weights, as_layer_weights

__all__ = [
    "LayerWeights",
    "Weights",
    "as_layer_weights",
    "fold_batch_norm",
    "load_weights",
    "pretrained",
    "register_dialect",
]

_SAVE = 'save the Keras model with model.save("model.keras"), and give that name'
_FIRST_BYTES = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x1f\x8b": "gzip; unpack it first",
    b"\x93NUMPY": "a NumPy .npy file",
    b"\x80": "a Python pickle",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself",
    b"<": "HTML or XML; a download that failed?",
    b"{": "JSON",
}


def load_weights(path: str | os.PathLike) -> Weights:
    """Read the weights of a Keras model, a NIR graph, or a plain HDF5 file of named arrays.

    Instead of a path, the name of a bundled file works too, such as ``"mnist_dense"``, unless a
    file of that name exists. The dialect is recognised by the content, never by the file's name:

    - Keras 1, 2 or 3 full model (``.h5``): optimizer state is left out;
    - Keras 0, 1 or 2 weights only (``.h5``, root attribute ``layer_names`` or ``nb_layers``);
    - Keras 3 weights (``.weights.h5``; late Keras 2 writes it too, but without names);
    - ``.keras`` archives;
    - graphs of the Neuromorphic Intermediate Representation (``.nir``): kernels have channels last;
      neurons, filters and pools are in `Weights.layers`, with their parameters as ``config``;
    - plain HDF5: every 2-d or 4-d dataset, or 3-d one with a bias, is a kernel named by its path,
      with ``NAME_bias`` as its bias; a group that holds ``kernel`` and ``bias``, or ``W`` and
      ``b``, is one layer.

    Layers are in the order of the model, those of nested models as ``nested/layer``. Layers without
    weights are in `Weights.layers` only. Layers of a kind unknown to nengonet keep their arrays in
    `LayerWeights.others`. bfloat16 is read as float32, Dense kernels of int8 are multiplied by
    their scales, and kernels of Keras 1 and Theano are converted to today's order.

    Parameters
    ----------
    path : path_like
        The file.

    Raises
    ------
    InputError
        The file is missing, damaged, in no known dialect or without weights; it refers to other
        files; it unpacks to more than files of its size do; or it holds NaN or infinite weights.

    Notes
    -----
    Weights-only files have no config: you must give strides, padding, groups and activations
    yourself. The kind of a layer follows from array names, layer names and shapes. A renamed
    Conv2DTranspose with as many input as output channels therefore looks like a Conv2D.

    Keras 1 seldom names its backend; kernels that Theano trained are mirrored.

    Keras 3 ``.weights.h5`` and plain HDF5 state no order. Layers are listed in the order in which
    the file was written, or by number (``dense_2`` before ``dense_10``) if a rewritten file has
    lost that order. A subclassed model is written attribute by attribute, in alphabetical order.
    Its arrays are numbered: a BatchNormalization with three arrays may have ``scale=False`` or
    ``center=False``, so these keep their numbers.

    A nested model of one layer in a Keras 2 weights-only file is listed under the nested model's
    name.

    Examples
    --------
    >>> weights = nn.load_weights(nn.pretrained("mnist_dense"))
    >>> list(weights)
    ['hidden', 'output']
    >>> weights["hidden"].kernel.shape
    (784, 128)
    """
    path = weights_path(path)
    if os.path.isdir(path):
        raise InputError(f"{path}: expected HDF5 or a .keras archive, got a folder; {_SAVE}")
    with opened(path, "HDF5 or a .keras archive") as content:
        for dialect in known_dialects():
            if dialect.matches(content):
                layers, written_by = dialect.read(content)
                weights = Weights(layers, path, written_by)
                if not weights:
                    raise InputError(f"expected weights, got a file without any ({written_by})")
                return weights
        raise InputError(f"expected HDF5 or a .keras archive, got {_described(content)}")


def weights_path(path: str | os.PathLike) -> str | os.PathLike:
    """Return the path of a bundled file for its name, unless a file of that name exists here."""
    if hasattr(path, "get_weights"):  # a Keras model
        raise InputError(f"path: expected the name of a file, got {described(path)}; {_SAVE}")
    path = as_path("path", path)
    name = os.fspath(path)
    if os.path.lexists(name):
        return path
    files = pretrained_files()
    if name not in files and re.fullmatch(r"\w+", name):
        raise InputError(f"{name}: no such file or bundled weights{did_you_mean(name, files)}")
    return files.get(name, path)


def _described(content) -> str:
    """Describe a file without weights."""
    if isinstance(content, Archive):
        held = ", ".join(content.names[:10]) or "nothing"
        found = f"a zip file without model.weights.h5 (it holds: {held})"
        if any(name.endswith(".npy") for name in content.names):
            return f"{found}; builders accept arrays: numpy.load(…)[name]"
        return f"{found}; {_SAVE}"
    head = content.read(64)
    if not head:
        return "an empty file"
    starts = (what for start, what in _FIRST_BYTES.items() if head.lstrip().startswith(start))
    looks = "".join(f" look like {what}" for what in starts)
    return f"something else (first bytes {head[:8]!r}{looks})"


def pretrained(name: str) -> pathlib.Path:
    """Return the path of a weights file that is bundled with nengonet, such as ``mnist_dense``.

    Parameters
    ----------
    name : str
        Name of the file, with or without its extension.

    Examples
    --------
    >>> nn.pretrained("mnist_dense").name
    'mnist_dense.h5'
    """
    files = pretrained_files()
    check_among("name", name, sorted(files))
    return files[name]


def pretrained_files() -> dict[str, pathlib.Path]:
    """Return the weights files that are bundled with nengonet, by their names for `pretrained`."""
    return {file.stem: file for folder in BUNDLED for file in sorted(folder.glob("*.h5"))}
