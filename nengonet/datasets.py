"""Images and labels as NumPy arrays: embedded, from local files, or downloaded.

Images come as floats in [0, 1], labels as int64. The first 1000 test images of MNIST and of
Fashion-MNIST are part of the package, so that there is always something real to run on; whole sets
are looked for in

1. the folder given as ``data_dir``,
2. the folder named by the environment variable ``NENGONET_DATA``,
3. Keras' cache (``$KERAS_HOME/datasets``, or ``~/.keras/datasets``),
4. nengonet's own cache, where a download goes that was checked by its sha256.

Files that such a folder may hold (uint8 images):

=================  ================================================================================
``mnist``          ``mnist.npz`` (x_train, y_train, x_test, y_test), as Keras stores it
``fashion_mnist``  ``fashion_mnist.npz`` (the same keys), or ``fashion-mnist/*-ubyte.gz``, as Keras
                   stores them
``cifar10``        ``cifar-10-binary.tar.gz``, ``cifar-10-batches-bin/`` or ``cifar-10-batches-py/``
                   (also inside ``cifar-10-batches-py-target/``, as Keras 3 stores it);
                   ``cifar10_test1000.npz`` (x, y: the first 1000 test images);
                   ``cifar10_train.npz`` (y, jpeg, offsets, lossless_first: see `load`)
``bengali``        ``bengali50.npz`` (x_train, y_train, x_test, y_test)
=================  ================================================================================
"""

from __future__ import annotations

import difflib
import gzip
import io
import logging
import math
import os
import pickle
import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from nengonet.checks import as_labels, as_pixels, check_batch
from nengonet.exceptions import InputError
from nengonet.files import Archive, Budget, reading

__all__ = ["as_images", "class_names", "load", "load_npz"]

Arrays = tuple[np.ndarray, np.ndarray]

_EMBEDDED = Path(__file__).parent / "data"
_CIFAR_BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
_IDX_PREFIX = {"train": "train", "test": "t10k"}
_STALE = 24 * 3600.0  # seconds


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
        Which part of the data set.
    n_images : int, "all" or None
        An integer asks for the first that many images and ``"all"`` for the whole split. None asks
        for the sample, whatever files happen to be at hand, so that a script gives the same images
        everywhere: the first 1000 test images of MNIST, Fashion-MNIST and CIFAR-10; the first 500
        training images of MNIST and Fashion-MNIST; the whole split of everything else. The samples
        of MNIST and Fashion-MNIST are embedded, and no other file is opened where they suffice.
    data_dir : path, optional
        A folder to look into before all others (their order is in the module's docstring).
    download : bool
        Whether to download what no folder has.
    progress : bool
        Whether to show the progress of a download on stderr.
    dtype : numpy floating dtype
        Of the images. 60,000 MNIST images take 376 MB as float64 and half of that as float32.

    Returns
    -------
    images : (n_images, 28, 28) or (n_images, 32, 32, 3) array of `dtype`, in [0, 1]
    labels : (n_images,) int64 array

    Raises
    ------
    InputError
        If an argument cannot be used, a file is not what its name says, or the data are neither
        here nor to be downloaded; the message says which file to put where.

    Notes
    -----
    ``cifar10_train.npz`` holds the training images as JPEG files, whose grey levels are some 8 of
    255 (RMS) off, except for the first 4000, which it also holds exactly; those are what you
    get. Decoding needs Pillow. Where a folder also has one of the lossless forms, that is taken.
    52 test images of ``bengali`` also occur among its training images.

    A download goes to a temporary file and takes its name only once its sha256 has been found
    right, so a broken or interrupted one leaves nothing to be mistaken for data.

    References
    ----------
    MNIST: LeCun, Cortes, Burges. Fashion-MNIST: Xiao, Rasul, Vollgraf, arXiv:1708.07747. CIFAR-10:
    Krizhevsky, "Learning multiple layers of features from tiny images", 2009. Bengali: CMATERdb
    3.1.2, as prepared in github.com/Sanzee/Bangla-character-recognition-using-deep-neural-network.
    Addresses and sha256 of the downloads are those of Keras' ``keras.datasets``, for CIFAR-10 those
    of the binary version on the author's page.
    """
    split = _check_split(split)
    if _is_path(name):
        return load_npz(name, split, n_images, dtype=dtype)
    dataset = _dataset(name)
    size = dataset.sizes[split]
    n = _check_count(n_images, f"{dataset.name}: the {split} split", size, dataset.sample(split))
    _check_dtype(dtype)
    if n <= dataset.embedded.get(split, 0):
        path = _EMBEDDED / f"{dataset.name}.npz"
        x, y = _read_keyed(path, dataset, split, dataset.embedded[split])
    else:
        x, y = _find(dataset, split, n, data_dir, download, progress)
    return as_images(x[:n], y[:n], dtype=dtype)


def class_names(name: str) -> tuple[str, ...]:
    """Return the names of a data set's classes, in the order of their labels.

    Parameters
    ----------
    name : str
        ``"mnist"``, ``"fashion_mnist"``, ``"cifar10"`` or ``"bengali"``.

    Returns
    -------
    names : tuple of 10 (Bengali: 50) str

    Raises
    ------
    InputError
        If there is no such data set.
    """
    return _dataset(name).class_names


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
        A file written by `numpy.savez` or `numpy.savez_compressed`. The images are in ``x_test``
        (or ``x_train``) with labels in ``y_test`` (``y_train``), or in ``x`` and ``y``, or in
        ``images`` and ``labels``. See `as_images` for the arrays. Pickled objects are never loaded.
    split : {"test", "train"}, optional
        ``"train"`` needs ``x_train``; ``"test"`` and None take ``x_test``, and in a file that is
        not split, all there is.
    n_images : int, "all" or None
        The first that many images; None and ``"all"`` mean all of them.
    dtype : numpy floating dtype
        Of the images.

    Returns
    -------
    images : (n_images, n_pixels), (n_images, height, width) or \
            (n_images, height, width, channels) array of `dtype`, in [0, 1]
    labels : (n_images,) int64 array

    Raises
    ------
    InputError
        If the file cannot be read or its arrays cannot be used.
    """
    path = Path(path).expanduser()
    pairs = [("x_test", "y_test"), ("x", "y"), ("images", "labels")]
    if split is not None and _check_split(split) == "train":
        pairs = [("x_train", "y_train")]
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
        Other integers are refused: whether their white is 1 or 255 cannot be known.
    labels : (n_images,) or (n_images, 1) array_like of int, optional
        The class of each image, from 0.
    dtype : numpy floating dtype
        Of the images returned.

    Returns
    -------
    images : array of `dtype`, in the shape given
        Not a copy where nothing had to be converted.
    labels : (n_images,) int64 array, or None
        None where none were given.

    Raises
    ------
    InputError
        If the images or labels cannot be used.
    """
    dtype = _check_dtype(dtype)
    x = _convert_images(images, dtype, "images")
    return x, None if labels is None else as_labels(labels, len(x))


# -- checks of what callers give -----------------------------------------------------------------


def _is_path(name: str | os.PathLike) -> bool:
    if not isinstance(name, (str, os.PathLike)):
        raise InputError(
            f"name: expected a data set ({', '.join(_DATASETS)}) or the path of an .npz file, "
            f"got {type(name).__name__}; arrays go to as_images"
        )
    if isinstance(name, os.PathLike):
        return True
    return name.replace("-", "_") not in _DATASETS and (
        name.lower().endswith(".npz") or os.path.isfile(name)
    )


def _dataset(name: str) -> _Dataset:
    key = name.replace("-", "_") if isinstance(name, str) else name
    if isinstance(key, str) and key in _DATASETS:
        return _DATASETS[key]
    close = difflib.get_close_matches(str(key).lower(), _DATASETS, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise InputError(
        f"name: expected one of {', '.join(_DATASETS)} or an .npz file, got {name!r}{hint}"
    )


def _check_split(split: str) -> str:
    if split not in ("test", "train"):
        raise InputError(f"split: expected 'test' or 'train', got {split!r}")
    return split


def _check_count(n_images: int | str | None, what: str, available: int, default: int) -> int:
    if n_images is None:
        return default
    if isinstance(n_images, str) and n_images == "all":
        return available
    if isinstance(n_images, bool) or not isinstance(n_images, Integral) or n_images < 1:
        raise InputError(f"n_images: expected 1, 2, ..., 'all' or None, got {n_images!r}")
    if n_images > available:
        raise InputError(f"n_images: {what} has {available} images, got a request for {n_images}")
    return int(n_images)


def _check_dtype(dtype: DTypeLike) -> np.dtype:
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.kind != "f":
        raise InputError(f"dtype: expected a floating dtype such as numpy.float32, got {dtype!r}")
    return found


def _convert_images(x: ArrayLike, dtype: np.dtype, name: str) -> np.ndarray:
    x = as_pixels(x, name, dtype=dtype)
    low, high = x.min(), x.max()
    if not (low >= 0 and high <= 1):
        hint = "divide by 255" if 0 <= low and 1 < high <= 255 else "scale them to [0, 1]"
        raise InputError(f"{name}: expected floats in [0, 1], got {low:g} to {high:g}; {hint}")
    return x


# -- where whole sets are ------------------------------------------------------------------------


def _find(
    dataset: _Dataset,
    split: str,
    n: int,
    data_dir: str | os.PathLike | None,
    download: bool,
    progress: bool,
) -> Arrays:
    """Return at least the first `n` images and labels, uint8, from the first place to have them."""
    folders = _folders(data_dir)
    for folder in folders:
        found = _read_folder(folder, dataset, split, n)
        if found is not None:
            return found
    if dataset.downloads:
        folder = _cache(dataset, split, download, progress)
        if folder is not None:
            return _read_folder(folder, dataset, split, n)
    wanted = dataset.wanted
    if dataset.downloads:
        wanted += ", or allow the download"
    looked = ", ".join(str(folder) for folder in folders)
    raise InputError(
        f"{dataset.name}: found no file with {n} {split} images in {looked}; "
        f"put into a folder named by data_dir (--data) or NENGONET_DATA: {wanted}"
    )


def _folders(data_dir: str | os.PathLike | None) -> list[Path]:
    given = {"data_dir": data_dir, "NENGONET_DATA": os.environ.get("NENGONET_DATA") or None}
    folders = []
    for source, folder in given.items():
        if folder is None:
            continue
        path = Path(folder).expanduser()
        if not path.is_dir():
            found = "a file" if path.exists() else "nothing"
            raise InputError(f"{source}: expected a folder, got {found} at {path}; correct it")
        folders.append(path)
    keras = os.environ.get("KERAS_HOME") or os.path.join("~", ".keras")
    return [*folders, Path(os.path.expanduser(keras)) / "datasets"]


def _read_folder(folder: Path, dataset: _Dataset, split: str, n: int) -> Arrays | None:
    for reader in dataset.readers:
        with reading(folder, "a folder of data sets"):
            found = reader(folder, dataset, split, n)
        if found is not None:
            return found
    return None


def _cache(dataset: _Dataset, split: str, download: bool, progress: bool) -> Path | None:
    """Return nengonet's cache folder with this split's files in it, or None without download."""
    import pooch

    cache = pooch.os_cache("nengonet")
    skip = _IDX_PREFIX["test" if split == "train" else "train"]
    for name, (url, sha256) in dataset.downloads.items():
        path = cache / name
        if path.name.startswith(f"{skip}-"):
            continue
        if download:
            _retrieve(dataset, path, url, sha256, progress)
        elif not path.is_file() or pooch.file_hash(str(path)) != sha256:
            return None
    return cache


def _retrieve(dataset: _Dataset, path: Path, url: str, sha256: str, progress: bool) -> None:
    import pooch

    _sweep(path.parent)
    logger = pooch.get_logger()

    def wanted(record: logging.LogRecord) -> bool:
        return progress or record.levelno >= logging.WARNING

    # A filter, since this logger is none of the logging module's tree, and setting its level does
    # not clear what it remembers of the level before.
    logger.addFilter(wanted)
    try:
        pooch.retrieve(
            url, f"sha256:{sha256}", fname=path.name, path=path.parent, progressbar=progress
        )
    except (OSError, ValueError) as error:  # a wrong hash is a ValueError
        response = getattr(error, "response", None)
        if response is not None:  # pooch leaves that of a refused request open
            response.close()
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if type(error).__name__ in ("ConnectionError", "ConnectTimeout"):  # requests' are long
            reason = f"no connection to {url.split('/')[2]}"
        raise InputError(
            f"{dataset.name}: the download of {url} to {path.parent} failed "
            f"({reason}); try again, or put into a folder named by "
            f"NENGONET_DATA: {dataset.wanted}"
        ) from error
    finally:
        logger.removeFilter(wanted)


def _sweep(folder: Path) -> None:
    """Remove what downloads left that were killed before pooch could remove it."""
    for path in folder.glob("tmp*"):
        try:
            if path.is_file() and time.time() - path.stat().st_mtime > _STALE:
                path.unlink()
        except OSError:  # gone meanwhile, or not ours to remove: neither is in the way
            continue


# -- readers: (folder, dataset, split, n) -> uint8 images and labels, or None if not there ---------


def _npz_reader(filename: str) -> _Reader:
    def read(folder: Path, dataset: _Dataset, split: str, n: int) -> Arrays | None:
        path = folder / filename
        if not path.is_file():
            return None
        return _read_keyed(path, dataset, split, dataset.sizes[split])

    return read


def _read_keyed(path: Path, dataset: _Dataset, split: str, size: int) -> Arrays:
    arrays = _read_npz(path, [(f"x_{split}", f"y_{split}")])
    return _check_arrays(path, dataset, size, *arrays.values())


def _read_idx(folder: Path, dataset: _Dataset, split: str, n: int) -> Arrays | None:
    prefix = folder / "fashion-mnist" / _IDX_PREFIX[split]
    images = Path(f"{prefix}-images-idx3-ubyte.gz")
    labels = Path(f"{prefix}-labels-idx1-ubyte.gz")
    if not (images.is_file() and labels.is_file()):
        return None
    size = dataset.sizes[split]
    y = _read_idx_file(labels, (size,))
    x = _read_idx_file(images, (size, *dataset.shape))
    return _check_arrays(labels, dataset, size, x, y)


def _read_idx_file(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    # An idx file: two zero bytes, 8 for uint8, the number of axes, their big-endian lengths, data.
    expected = bytes([0, 0, 8, len(shape)]) + np.array(shape, dtype=">u4").tobytes()
    with reading(path, "a gzip-compressed idx file"), gzip.open(path) as file:
        header, content = file.read(len(expected)), file.read(math.prod(shape) + 1)
    if header != expected or len(content) != math.prod(shape):
        raise InputError(
            f"{path}: expected an idx file of uint8 with shape {shape}, got another header or "
            f"length ({len(content)} bytes); remove or replace it"
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _read_cifar_tar(folder: Path, dataset: _Dataset, split: str, n: int) -> Arrays | None:
    path = folder / "cifar-10-binary.tar.gz"
    if not path.is_file():
        return None
    names = [f"cifar-10-batches-bin/{name}.bin" for name in _CIFAR_BATCHES[split]]
    with reading(path, "CIFAR-10 in its binary version"):
        found, budget = {}, Budget(path.stat().st_size)
        # One pass: to go back in a gzip stream is to decompress it again from its start.
        with tarfile.open(path, "r:gz") as tar:
            for member in tar:
                if member.name in names:
                    budget.take(member.size, member.name)
                    found[member.name] = tar.extractfile(member).read()
        batches = [found[name] for name in names]
    return _cifar_records(path, dataset, split, batches)


def _read_cifar_bin(folder: Path, dataset: _Dataset, split: str, n: int) -> Arrays | None:
    folder = folder / "cifar-10-batches-bin"
    paths = [folder / f"{name}.bin" for name in _CIFAR_BATCHES[split]]
    if not all(path.is_file() for path in paths):
        return None
    with reading(folder, "CIFAR-10 in its binary version"):
        batches = [path.read_bytes() for path in paths]
    return _cifar_records(folder, dataset, split, batches)


def _cifar_records(path: Path, dataset: _Dataset, split: str, batches: list[bytes]) -> Arrays:
    n_bytes = int(np.prod(dataset.shape))
    size = dataset.sizes[split]
    content = b"".join(batches)
    if len(content) != size * (1 + n_bytes):
        raise InputError(
            f"{path}: expected {size} {split} records of {1 + n_bytes} bytes, "
            f"got {len(content)} bytes; remove or replace it"
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(size, 1 + n_bytes)
    return _check_arrays(path, dataset, size, _channels_last(records[:, 1:]), records[:, 0])


def _channels_last(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _read_cifar_py(folder: Path, dataset: _Dataset, split: str, n: int) -> Arrays | None:
    for parent in (folder, folder / "cifar-10-batches-py-target"):
        paths = [parent / "cifar-10-batches-py" / name for name in _CIFAR_BATCHES[split]]
        if all(path.is_file() for path in paths):
            break
    else:
        return None
    rows, labels = zip(*map(_read_cifar_pickle, paths), strict=True)
    x, y = _channels_last(np.concatenate(rows)), np.concatenate(labels)
    return _check_arrays(paths[0].parent, dataset, dataset.sizes[split], x, y)


class _Inert:
    """Stands in for every NumPy object in a pickle: keeps what it is given and runs nothing."""

    def __init__(self, *args):
        self.args = args

    def __setstate__(self, state):
        self.state = state


class _InertUnpickler(pickle.Unpickler):
    """Unpickler that can make nothing but plain Python values and `_Inert`."""

    # A pickle may call what it names, so these names are the only ones it gets, and none is
    # looked up.
    names = {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    }

    def find_class(self, module, name):
        if (module, name) not in self.names:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a CIFAR-10 batch")
        return _Inert


def _read_cifar_pickle(path: Path) -> Arrays:
    """Return the rows (n, 3072) uint8 and labels (n,) of one of Keras' batch files."""
    with reading(path, "a batch of CIFAR-10 in its Python version"):
        batch = _InertUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        _, shape, dtype, fortran, content = batch[b"data"].state
        if dtype.args[0] not in (b"u1", "u1") or fortran:
            raise ValueError("the data are not rows of uint8")
        rows = np.frombuffer(content, dtype=np.uint8).reshape(shape[0], 3072)
        return rows, np.array(batch[b"labels"])


def _read_cifar_test1000(folder: Path, dataset: _Dataset, split: str, n: int) -> Arrays | None:
    path = folder / "cifar10_test1000.npz"
    sample = dataset.sample("test")
    if split != "test" or n > sample or not path.is_file():
        return None
    arrays = _read_npz(path, [("x", "y")])
    return _check_arrays(path, dataset, sample, *arrays.values())


def _read_cifar_jpeg(folder: Path, dataset: _Dataset, split: str, n: int) -> Arrays | None:
    path = folder / "cifar10_train.npz"
    if split != "train" or not path.is_file():
        return None
    y, jpeg, offsets, exact = _read_npz(path, [("y", "jpeg", "offsets", "lossless_first")]).values()
    size = dataset.sizes[split]
    if jpeg.ndim != 1 or jpeg.dtype != np.uint8:
        raise _wrong_array(path, "jpeg", "uint8 of shape (n_bytes,)", jpeg)
    if offsets.shape != (size + 1,) or offsets.dtype.kind not in "iu":
        raise _wrong_array(path, "offsets", f"integers of shape ({size + 1},)", offsets)
    if offsets[0] < 0 or offsets[-1] > len(jpeg) or (np.diff(offsets.astype(np.int64)) <= 0).any():
        raise InputError(
            f"{path}: expected offsets that rise from 0 to at most {len(jpeg)}, the bytes in jpeg, "
            "got others; replace it"
        )
    if exact.shape[1:] != dataset.shape or exact.dtype != np.uint8 or len(exact) > size:
        raise _wrong_array(path, "lossless_first", "uint8 of shape (n, 32, 32, 3)", exact)
    x = np.zeros((size, *dataset.shape), dtype=np.uint8)
    x[: len(exact)] = exact
    for i in range(len(exact), n):
        x[i] = _decode_jpeg(jpeg[offsets[i] : offsets[i + 1]].tobytes(), dataset.shape, path, i)
    return _check_arrays(path, dataset, size, x, y)


def _decode_jpeg(content: bytes, shape: tuple[int, ...], path: Path, i: int) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError(
            f"{path}: expected Pillow to decode its JPEG images with, got none; "
            "install it with: pip install pillow"
        ) from error
    with reading(path, f"a JPEG file as image {i}"):
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            # Before it is decoded: it may claim to be huge.
            if image.size != shape[1::-1]:
                raise InputError(
                    f"image {i}: expected {shape[1]} x {shape[0]} pixels, got "
                    f"{' x '.join(map(str, image.size))}; replace it"
                )
            return np.asarray(image.convert("RGB"))


# -- files ---------------------------------------------------------------------------------------


def _read_npz(path: Path, choices: list[tuple[str, ...]]) -> dict[str, np.ndarray]:
    """Return the arrays of the first of `choices`, tuples of keys, that the file has."""
    if not path.is_file():
        got = "a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: expected an .npz file, got {got}; check the path")
    with reading(path, "an .npz file of plain arrays"), path.open("rb") as file:
        with Archive(file) as npz:
            names = [name.removesuffix(".npy") for name in npz.names]
            keys = next((keys for keys in choices if set(keys) <= set(names)), None)
            if keys is None:
                expected = ", or ".join(" and ".join(keys) for keys in choices)
                raise InputError(
                    f"expected the keys {expected}, got {', '.join(names) or 'none'}; "
                    "save the arrays under these names"
                )
            return {key: npz.array(key) for key in keys}


def _check_arrays(path: Path, dataset: _Dataset, size: int, x: np.ndarray, y: np.ndarray) -> Arrays:
    if x.shape != (size, *dataset.shape) or x.dtype != np.uint8:
        raise _wrong_array(path, "images", f"uint8 of shape {(size, *dataset.shape)}", x)
    if y.shape != (size,) or y.dtype.kind not in "iu":
        raise _wrong_array(path, "labels", f"integers of shape ({size},)", y)
    last = len(dataset.class_names) - 1
    if y.min() < 0 or y.max() > last:
        raise InputError(
            f"{path}: expected labels from 0 to {last}, got {y.min()} to {y.max()}; replace it"
        )
    return x, y


def _wrong_array(path: Path, name: str, expected: str, found: np.ndarray) -> InputError:
    return InputError(
        f"{path}: {name}: expected {expected}, got {found.dtype} of shape {found.shape}; replace it"
    )


# -- the data sets -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Dataset:
    name: str
    shape: tuple[int, ...]
    sizes: Mapping[str, int]
    class_names: tuple[str, ...]
    readers: tuple[_Reader, ...]
    wanted: str
    embedded: Mapping[str, int] = field(default_factory=dict)
    samples: Mapping[str, int] = field(default_factory=dict)
    downloads: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def sample(self, split: str) -> int:
        return {**self.sizes, **self.embedded, **self.samples}[split]


_Reader = Callable[[Path, _Dataset, str, int], Arrays | None]

_KERAS_HOST = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"
_FASHION_SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
    ),
    "train-labels-idx1-ubyte.gz": (
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
    ),
}

_DATASETS = {
    "mnist": _Dataset(
        name="mnist",
        shape=(28, 28),
        sizes={"train": 60000, "test": 10000},
        embedded={"train": 500, "test": 1000},
        class_names=tuple("0123456789"),
        readers=(_npz_reader("mnist.npz"),),
        wanted="mnist.npz (x_train, y_train, x_test, y_test, as Keras stores it)",
        downloads={
            "mnist.npz": (
                f"{_KERAS_HOST}/mnist.npz",
                "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
            )
        },
    ),
    "fashion_mnist": _Dataset(
        name="fashion_mnist",
        shape=(28, 28),
        sizes={"train": 60000, "test": 10000},
        embedded={"train": 500, "test": 1000},
        class_names=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        readers=(_npz_reader("fashion_mnist.npz"), _read_idx),
        wanted=(
            "fashion_mnist.npz (x_train, y_train, x_test, y_test), or fashion-mnist/ with the four "
            "*-ubyte.gz files"
        ),
        downloads={
            f"fashion-mnist/{file}": (f"{_KERAS_HOST}/{file}", sha256)
            for file, sha256 in _FASHION_SHA256.items()
        },
    ),
    "cifar10": _Dataset(
        name="cifar10",
        shape=(32, 32, 3),
        sizes={"train": 50000, "test": 10000},
        samples={"test": 1000},
        class_names=tuple("airplane automobile bird cat deer dog frog horse ship truck".split()),
        # The lossless forms first.
        readers=(
            _read_cifar_tar,
            _read_cifar_bin,
            _read_cifar_py,
            _read_cifar_test1000,
            _read_cifar_jpeg,
        ),
        wanted=(
            "cifar-10-binary.tar.gz (whole), cifar10_test1000.npz (up to 1000 test images) or "
            "cifar10_train.npz (training images)"
        ),
        downloads={
            "cifar-10-binary.tar.gz": (
                "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            )
        },
    ),
    "bengali": _Dataset(
        name="bengali",
        shape=(28, 28),
        sizes={"train": 12000, "test": 3000},
        class_names=tuple(
            "অ আ ই ঈ উ ঊ ঋ এ ঐ ও ঔ ক খ গ ঘ ঙ চ ছ জ ঝ ঞ ট ঠ ড ঢ ণ ত থ দ ধ ন প ফ ব ভ ম য র ল শ ষ স হ "
            "ড় ঢ় য় ৎ ং ঃ ঁ".split()
        ),
        readers=(_npz_reader("bengali50.npz"),),
        wanted=(
            "bengali50.npz (x_train (12000, 28, 28) uint8, y_train, x_test (3000, 28, 28) uint8, "
            "y_test, labels 0 to 49; CMATERdb 3.1.2 as prepared in "
            "github.com/Sanzee/Bangla-character-recognition-using-deep-neural-network)"
        ),
    ),
}
