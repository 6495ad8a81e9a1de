"""Images and labels as NumPy arrays: bundled, from local files, or downloaded.

Images are floats in [0, 1], labels are int64. The first 1000 test images of MNIST and
Fashion-MNIST are bundled. Whole sets are looked for in

1. the folder given as ``data_dir``,
2. the folder named by the environment variable ``NENGONET_DATA``,
3. Keras' cache (``$KERAS_HOME/datasets``, or ``~/.keras/datasets``),
4. nengonet's own cache, which holds downloads that were checked by their sha256.

A folder may hold these files (uint8 images):

=================  ================================================================================
``mnist``          ``mnist.npz`` (x_train, y_train, x_test, y_test), as Keras stores it
``fashion_mnist``  ``fashion_mnist.npz`` (the same keys), or ``fashion-mnist/*-ubyte.gz``, as Keras
                   stores them
``cifar10``        ``cifar-10-binary.tar.gz``, ``cifar-10-batches-bin/`` or ``cifar-10-batches-py/``
                   (also inside ``cifar-10-batches-py-target/``, as Keras 3 stores it);
                   ``cifar10_test1000.npz`` (x, y); ``cifar10_train.npz`` (lossless_first, y)
``bengali``        ``bengali50.npz`` (x_train, y_train, x_test, y_test)
=================  ================================================================================

An ``.npz`` file may hold only the first images of a split; it then serves requests for no more.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import json
import math
import os
import pickle
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from nengonet.checks import (
    as_labels,
    as_pixels,
    check_among,
    check_batch,
    described,
    did_you_mean,
    positive_integer,
)
from nengonet.exceptions import InputError
from nengonet.files import Allowance, Archive, as_path, open_binary, reading

__all__ = ["as_images", "class_names", "load", "load_npz"]

Arrays = tuple[np.ndarray, np.ndarray]

_EMBEDDED = Path(__file__).parent / "data"
_SPLITS = ("test", "train")
_STALE = 24 * 3600.0  # seconds


@dataclass(frozen=True)
class _Dataset:
    """A data set, as ``data/datasets.json`` lists it."""

    name: str
    licence: str
    shape: list[int]
    sizes: dict[str, int]
    class_names: list[str]
    layouts: list[tuple[str, dict[str, list[str]]]]  # a reader, and the files that it needs
    wanted: str
    samples: dict[str, int] = field(default_factory=dict)  # what is loaded by default
    downloads: dict[str, tuple[str, str]] = field(default_factory=dict)  # address and sha256


_DATASETS = {
    name: _Dataset(name, **facts)
    for name, facts in json.loads((_EMBEDDED / "datasets.json").read_text("utf-8")).items()
}


def load(
    name: str | os.PathLike,
    split: str = "test",
    n_images: int | str | None = None,
    *,
    data_dir: str | os.PathLike | None = None,
    download: bool = True,
    progress: bool = True,
    dtype: DTypeLike = np.float64,
) -> Arrays:
    """Load the images and labels of a data set.

    Parameters
    ----------
    name : str or path
        ``"mnist"``, ``"fashion_mnist"``, ``"cifar10"``, ``"bengali"``, or an ``.npz`` file of your
        own, which goes to `load_npz`.
    split : {"test", "train"}
    n_images : int, "all" or None
        The first ``n_images`` images, or the whole split. None asks for a sample that does not
        depend on the files at hand, so that a script loads the same images everywhere: the first
        1000 test images of MNIST, Fashion-MNIST and CIFAR-10, the first 500 training images of
        MNIST and Fashion-MNIST, and the whole split of everything else. No other file is opened
        where the bundled images suffice.
    data_dir : path, optional
        A folder to look into before all others.
    download : bool
        Whether to download files that no folder has.
    progress : bool
        Whether to show the progress of a download on stderr.
    dtype : numpy floating dtype
        Type of the images. 60,000 MNIST images take 376 MB as float64.

    Returns
    -------
    images : (n_images, 28, 28) or (n_images, 32, 32, 3) array of `dtype`, in [0, 1]
    labels : (n_images,) int64 array

    Raises
    ------
    InputError
        An argument cannot be used, a file does not hold what its name says, or the data are
        unavailable. The message says which file to put where.

    Notes
    -----
    52 test images of ``bengali`` are also training images. A failed or interrupted download leaves
    no file that could be mistaken for data.

    References
    ----------
    MNIST: LeCun, Cortes, Burges. Fashion-MNIST: Xiao, Rasul, Vollgraf, arXiv:1708.07747. CIFAR-10:
    Krizhevsky, "Learning multiple layers of features from tiny images", 2009. Bengali: CMATERdb
    3.1.2, as prepared in github.com/Sanzee/Bangla-character-recognition-using-deep-neural-network.

    Examples
    --------
    >>> images, labels = nn.datasets.load("mnist", n_images=3)
    >>> images.shape, labels.tolist()
    ((3, 28, 28), [7, 2, 1])
    """
    check_among("split", split, _SPLITS)
    if _is_path(name):
        return load_npz(name, split, n_images, dtype=dtype)
    dataset = _dataset(name)
    _check_dtype(dtype)
    what, size = f"{dataset.name}'s {split} split", dataset.sizes[split]
    n = _check_count(n_images, what, size, dataset.samples.get(split, size))
    x, y = _find(dataset, split, n, data_dir, download, progress)
    return as_images(x[:n], y[:n], dtype=dtype)


def class_names(name: str) -> tuple[str, ...]:
    """Return the names of the classes of a data set of `load`, in the order of their labels.

    Parameters
    ----------
    name : str
        As for `load`.

    Examples
    --------
    >>> nn.datasets.class_names("fashion_mnist")[:3]
    ('T-shirt/top', 'Trouser', 'Pullover')
    """
    return tuple(_dataset(name).class_names)


def load_npz(
    path: str | os.PathLike,
    split: str | None = None,
    n_images: int | str | None = None,
    *,
    dtype: DTypeLike = np.float64,
) -> Arrays:
    """Load images and labels from an ``.npz`` file of your own.

    Parameters
    ----------
    path : path
        A file that `numpy.savez` wrote. It holds images and labels, as `as_images` takes them,
        under ``x_test`` and ``y_test`` (``x_train`` and ``y_train``), ``x`` and ``y``, or
        ``images`` and ``labels``. Pickled objects are never loaded.
    split : {"test", "train"}, optional
        ``"train"`` needs ``x_train``. ``"test"`` and None take ``x_test``, or everything in a file
        that is not split.
    n_images : int, "all" or None
        The first ``n_images`` images; None and ``"all"`` mean all of them.
    dtype : numpy floating dtype
        Type of the images. They are returned with their labels, as by `as_images`.

    Examples
    --------
    >>> np.savez("mine.npz", images=np.zeros((5, 8, 8)), labels=np.arange(5))
    >>> images, labels = nn.datasets.load_npz("mine.npz", n_images=2)
    >>> images.shape, labels.tolist()
    ((2, 8, 8), [0, 1])
    """
    path = as_path("path", path).expanduser()
    pairs = [("x_test", "y_test"), ("x", "y"), ("images", "labels")]
    if split is not None:
        check_among("split", split, _SPLITS)
        pairs = [("x_train", "y_train")] if split == "train" else pairs
    with reading(path, _NPZ):
        arrays = _read_npz(path, pairs)
    x, y = arrays.values()
    names = tuple(f"{path}: {key}" for key in arrays)
    check_batch(names[0], x)
    n = _check_count(n_images, str(path), len(x), len(x))
    # All labels and the number of images are checked before the cut, which could hide a mismatch.
    labels = as_labels(y, len(x), name=names[1])[:n]
    return _convert_images(x[:n], _check_dtype(dtype), names[0]), labels


def as_images(
    images: ArrayLike, labels: ArrayLike | None = None, *, dtype: DTypeLike = np.float64
) -> tuple[np.ndarray, np.ndarray | None]:
    """Convert images to floats in [0, 1] and labels to int64, and check both.

    Parameters
    ----------
    images : (n_images, n_pixels), (n_images, height, width) or \
            (n_images, height, width, channels) array_like
        uint8 (always divided by 255; give a mask of 0 and 1 as bool), bool, or floats in [0, 1].
        Other integers are refused, because their white may be 1 or 255.
    labels : (n_images,) or (n_images, 1) array_like of int, optional
        The class of each image, from 0.
    dtype : numpy floating dtype
        Type of the returned images.

    Returns
    -------
    images : array of `dtype`, in the shape given
        Not a copy if nothing had to be converted.
    labels : (n_images,) int64 array, or None

    Examples
    --------
    >>> images, labels = nn.datasets.as_images(np.array([[0, 51, 255]], np.uint8), [[7]])
    >>> images.tolist(), labels.tolist()
    ([[0.0, 0.2, 1.0]], [7])
    """
    x = _convert_images(images, _check_dtype(dtype), "images")
    return x, None if labels is None else as_labels(labels, len(x))


# -- checks of what callers give -----------------------------------------------------------------


def _is_path(name: str | os.PathLike) -> bool:
    if isinstance(name, str) and name.replace("-", "_") not in _DATASETS:
        return name.lower().endswith(".npz") or os.path.isfile(name)
    return isinstance(name, os.PathLike)


def _dataset(name: str) -> _Dataset:
    key = str(name).replace("-", "_")
    if not isinstance(name, str) or key not in _DATASETS:
        raise InputError(
            f"name: expected one of {', '.join(_DATASETS)} or an .npz file (arrays go to "
            f"as_images), got {described(name)}{did_you_mean(key.lower(), _DATASETS)}"
        )
    return _DATASETS[key]


def _check_count(n_images: int | str | None, what: str, available: int, default: int) -> int:
    if n_images is None:
        return default
    if isinstance(n_images, str) and n_images == "all":
        return available
    with contextlib.suppress(InputError):
        return positive_integer("n_images", n_images, at_most=available)
    raise InputError(
        f"n_images: expected 1 to {available} (all of {what}), or 'all', got {described(n_images)}"
    )


def _check_dtype(dtype: DTypeLike) -> np.dtype:
    with contextlib.suppress(TypeError):
        if np.dtype(dtype).kind == "f":
            return np.dtype(dtype)
    wanted = "a floating dtype such as numpy.float32"
    raise InputError(f"dtype: expected {wanted}, got {described(dtype)}")


def _convert_images(x: ArrayLike, dtype: np.dtype, name: str) -> np.ndarray:
    x = as_pixels(x, name, dtype=dtype)
    low, high = x.min(), x.max()
    if not (low >= 0 and high <= 1):
        hint = "divide by 255" if 0 <= low and 1 < high <= 255 else "scale them to [0, 1]"
        raise InputError(f"{name}: expected floats in [0, 1], got {low:g} to {high:g}; {hint}")
    return x


# -- where the files are -------------------------------------------------------------------------


def _find(dataset: _Dataset, split: str, n: int, data_dir, download, progress) -> Arrays:
    """Return at least the first `n` images and labels, uint8, from the first place with them."""
    cache = _cache(dataset, split, download, progress)
    for folder in itertools.chain([_EMBEDDED], _folders(data_dir), cache):
        for reader, files in dataset.layouts:
            paths = [folder / file for file in files[split]]
            with reading(folder, "a folder of data sets"):
                if not all(path.is_file() for path in paths):
                    continue
            x, y = _read(reader, paths, split, dataset)
            if len(x) >= n:
                return x, y
    wanted = dataset.wanted + (", or allow the download" if dataset.downloads else "")
    raise InputError(
        f"{dataset.name}: expected a file with {n} {split} images in "
        f"{', '.join(map(str, _folders(data_dir)))}, got none; put one into a folder that data_dir "
        f"(--data) or NENGONET_DATA names: {wanted}"
    )


def _folders(data_dir: str | os.PathLike | None) -> Iterator[Path]:
    """Yield the caller's folders and Keras' cache."""
    given = {"data_dir": data_dir, "NENGONET_DATA": os.environ.get("NENGONET_DATA") or None}
    for source, folder in given.items():
        if folder is not None:
            path = as_path(source, folder, "folder").expanduser()
            if not path.is_dir():
                found = "a file" if path.exists() else "nothing"
                raise InputError(f"{source}: expected a folder, got {found} at {path}; correct it")
            yield path
    yield Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "datasets"


def _cache(dataset: _Dataset, split: str, download: bool, progress: bool) -> Iterator[Path]:
    """Yield nengonet's cache folder once this split's files are in it; nothing if they are not."""
    import pooch

    cache = pooch.os_cache("nengonet")
    files = {file for _, files in dataset.layouts for file in files[split]} & {*dataset.downloads}
    for file in sorted(files):
        path, (url, sha256) = cache / file, dataset.downloads[file]
        if download:
            _retrieve(dataset, path, url, sha256, progress)
        elif not path.is_file() or pooch.file_hash(str(path)) != sha256:
            return
    if files:
        yield cache


def _retrieve(dataset: _Dataset, path: Path, url: str, sha256: str, progress: bool) -> None:
    import pooch

    for left in path.parent.glob("tmp*"):  # by a download that was killed
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            if left.is_file() and time.time() - left.stat().st_mtime > _STALE:
                left.unlink()
    logger = pooch.get_logger()
    logger.disabled = not progress
    try:
        pooch.retrieve(
            url, f"sha256:{sha256}", fname=path.name, path=path.parent, progressbar=progress
        )
    except (OSError, ValueError) as error:  # a wrong hash is a ValueError
        if getattr(error, "response", None) is not None:  # pooch leaves it open
            error.response.close()
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if type(error).__name__ in ("ConnectionError", "ConnectTimeout"):  # requests' are long
            reason = f"no connection to {url.split('/')[2]}"
        raise InputError(
            f"{dataset.name}: the download of {url} to {path.parent} failed ({reason}); try again, "
            f"or put this into a folder that NENGONET_DATA names: {dataset.wanted}"
        ) from error
    finally:
        logger.disabled = False


# -- readers of one file of a format: path, split, data set -> images, labels, or one of both -----


def _read(reader: str, paths: list[Path], split: str, dataset: _Dataset) -> Arrays:
    """Return the images and labels of files, in their order, checked."""
    read, expected = _READERS[reader]
    parts: tuple[list, list] = [], []
    with reading(paths[0] if len(paths) == 1 else paths[0].parent, expected):
        for path in paths:
            with reading(path, expected):
                for part, array in zip(parts, read(path, split, dataset), strict=True):
                    part.extend(() if array is None else [np.atleast_1d(array)])
        x, y = (each[0] if len(each) == 1 else np.concatenate(each) for each in parts)
        most, last = dataset.sizes[split], len(dataset.class_names) - 1
        wanted, bad = None, x
        if x.dtype != np.uint8 or list(x.shape[1:]) != dataset.shape or not 0 < len(x) <= most:
            wanted = f"images of uint8, of shape {(most, *dataset.shape)} or fewer"
        elif y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
            wanted, bad = f"labels of integers, of shape {x.shape[:1]}", y
        elif y.min() < 0 or y.max() > last:
            found = f"{y.min()} to {y.max()}"
            raise InputError(f"expected labels from 0 to {last}, got {found}; replace the file")
        if wanted is not None:
            found = f"{bad.dtype} of shape {bad.shape}"
            raise InputError(f"expected {wanted}, got {found}; replace the file")
    return x, y


def _read_npz(path: Path, choices: list[tuple[str, str]]) -> dict[str, np.ndarray]:
    """Return the arrays of the first of `choices`, pairs of keys, that the file has."""
    with open_binary(path) as file:
        npz = Archive(file)
        names = [name.removesuffix(".npy") for name in npz.names]
        keys = next((keys for keys in choices if set(keys) <= set(names)), None)
        if keys is None:
            expected = ", or ".join(" and ".join(keys) for keys in choices)
            found = ", ".join(names) or "none"
            raise InputError(f"expected arrays {expected}, got {found}; save them so")
        return {key: npz.array(key) for key in keys}


def _npz(path: Path, split: str, dataset: _Dataset) -> Arrays:
    return tuple(_read_npz(path, [(f"x_{split}", f"y_{split}")]).values())


def _first_npz(path: Path, split: str, dataset: _Dataset) -> Arrays:
    x, y = _read_npz(path, [("x", "y"), ("lossless_first", "y")]).values()
    return x, y[: len(x)]  # there may be labels of more


def _idx(path: Path, split: str, dataset: _Dataset) -> tuple:
    is_labels = "-labels-" in path.name
    shape = (dataset.sizes[split], *(() if is_labels else dataset.shape))
    # An idx file: two zero bytes, 8 for uint8, the number of axes, their big-endian lengths, data.
    expected = bytes([0, 0, 8, len(shape)]) + np.array(shape, dtype=">u4").tobytes()
    with gzip.open(path) as file:
        header, content = file.read(len(expected)), file.read(math.prod(shape) + 1)
    if header != expected or len(content) != math.prod(shape):
        raise InputError(
            f"expected an idx file of uint8 with shape {shape}, got another header or length "
            f"({len(content)} bytes); remove or replace it"
        )
    array = np.frombuffer(content, dtype=np.uint8).reshape(shape)
    return (None, array) if is_labels else (array, None)


def _cifar_tar(path: Path, split: str, dataset: _Dataset) -> Arrays:
    start = {"test": "test_batch", "train": "data_batch_"}[split]
    found, allowance = {}, Allowance(path.stat().st_size)
    # One pass: to go back in a gzip stream is to decompress it again from its start.
    with tarfile.open(path, "r:gz") as tar:
        for member in tar:
            if member.name.rpartition("/")[2].startswith(start):
                allowance.take(member.size, member.name)
                found[member.name] = tar.extractfile(member).read()
    return _cifar_records(b"".join(found[name] for name in sorted(found)))


def _cifar_bin(path: Path, split: str, dataset: _Dataset) -> Arrays:
    return _cifar_records(path.read_bytes())


def _cifar_records(content: bytes) -> Arrays:
    if len(content) % 3073:
        raise InputError(f"expected records of 3073 bytes, got {len(content)} bytes; replace it")
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, 3073)
    return _cifar_images(records[:, 1:]), records[:, 0]


def _cifar_images(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


class _Inert:
    """Stands in for whatever a pickle names: keeps what it is given and runs nothing."""

    def __init__(self, *args):
        self.args = args

    def __setstate__(self, state):
        self.state = state


class _InertUnpickler(pickle.Unpickler):
    """Unpickler that can make nothing but plain Python values and `_Inert`."""

    def find_class(self, module, name):
        return _Inert


def _cifar_py(path: Path, split: str, dataset: _Dataset) -> Arrays:
    batch = _InertUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    _, shape, dtype, fortran, content = batch[b"data"].state
    if dtype.args[0] not in (b"u1", "u1") or fortran:
        raise ValueError("the data are not rows of uint8")
    rows = np.frombuffer(content, dtype=np.uint8).reshape(shape[0], 3072)
    return _cifar_images(rows), np.array(batch[b"labels"])


_NPZ = "an .npz file of plain arrays"
_READERS = {
    "npz": (_npz, _NPZ),
    "first_npz": (_first_npz, _NPZ),
    "idx": (_idx, "a gzip-compressed idx file"),
    "cifar_tar": (_cifar_tar, "CIFAR-10 in its binary version"),
    "cifar_bin": (_cifar_bin, "CIFAR-10 in its binary version"),
    "cifar_py": (_cifar_py, "a batch of CIFAR-10 in its Python version"),
}
