"""Data sets: bundled samples, whole sets from local files, downloads, a user's own files."""

import dataclasses
import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pooch
import pytest

from nengonet import datasets
from nengonet.exceptions import InputError

WHOLE = os.environ.get("NENGONET_DATA")
needs_data = pytest.mark.skipif(
    not WHOLE, reason="set NENGONET_DATA to a folder with the whole data sets"
)
SAMPLES = ("mnist", "fashion_mnist")
PUBLIC = dict(datasets._DATASETS)  # as it is before any test changes it


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
    """Keep every test away from the user's folders and from the network."""
    for name in ("home", "keras", "cache"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("NENGONET_DATA", raising=False)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    for name, dataset in PUBLIC.items():
        replace(monkeypatch, name, downloads=nowhere(*dataset.downloads))


@pytest.fixture
def whole(monkeypatch):
    monkeypatch.setenv("NENGONET_DATA", WHOLE)
    return Path(WHOLE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return an empty folder that NENGONET_DATA names."""
    path = tmp_path / "data"
    path.mkdir()
    monkeypatch.setenv("NENGONET_DATA", str(path))
    return path


def replace(monkeypatch, name, **changes):
    monkeypatch.setitem(
        datasets._DATASETS, name, dataclasses.replace(datasets._DATASETS[name], **changes)
    )


def nowhere(*files):
    return {file: (f"http://127.0.0.1:9/{file}", "0" * 64) for file in files}


def refused(match, function, *args, **kwargs):
    with pytest.raises(InputError, match=match) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def small_arrays(sizes, shape=(28, 28), n_classes=10, seed=0):
    rng = np.random.default_rng(seed)
    arrays = {}
    for split, size in sizes.items():
        arrays[f"x_{split}"] = rng.integers(0, 256, (size, *shape), dtype=np.uint8)
        arrays[f"y_{split}"] = rng.integers(0, n_classes, size, dtype=np.uint8)
    return arrays


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Shrink the sets of 28 x 28 pixels to 30 + 12 images, and bundle none."""
    sizes = {"train": 30, "test": 12}
    monkeypatch.setattr(datasets, "_EMBEDDED", tmp_path / "nothing")
    for name in SAMPLES:
        replace(monkeypatch, name, sizes=sizes, samples={})
    return small_arrays(sizes)


# -- bundled samples -----------------------------------------------------------------------------

LABEL_COUNTS = {
    ("mnist", "test"): [85, 126, 116, 107, 110, 87, 87, 99, 89, 94],
    ("mnist", "train"): [50, 66, 52, 50, 52, 39, 45, 52, 39, 55],
    ("fashion_mnist", "test"): [107, 105, 111, 93, 115, 87, 97, 95, 95, 95],
    ("fashion_mnist", "train"): [52, 54, 47, 49, 53, 51, 53, 49, 50, 42],
}


@pytest.mark.parametrize("name, split", LABEL_COUNTS)
def test_embedded_sample(name, split):
    images, labels = datasets.load(name, split)
    assert images.shape == ({"test": 1000, "train": 500}[split], 28, 28)
    assert images.dtype == np.float64
    assert (images.min(), images.max()) == (0.0, 1.0)
    assert labels.dtype == np.int64
    assert np.bincount(labels).tolist() == LABEL_COUNTS[name, split]


@pytest.mark.parametrize("name", SAMPLES)
def test_the_readme_beside_the_samples_states_their_sha256(name):
    readme = (datasets._EMBEDDED / "README.md").read_text(encoding="utf-8")
    content = (datasets._EMBEDDED / f"{name}.npz").read_bytes()
    assert f"| `{name}.npz` | `{hashlib.sha256(content).hexdigest()}` |" in readme
    with np.load(io.BytesIO(content), allow_pickle=False) as npz:
        for key in ("x_test", "y_test", "x_train", "y_train"):
            assert f"`{key}` | `{hashlib.sha256(npz[key].tobytes()).hexdigest()}` |" in readme


def test_samples_are_small():
    assert sum(path.stat().st_size for path in datasets._EMBEDDED.glob("*.npz")) < 1e6


def test_the_same_images_however_they_are_asked_for():
    images, labels = datasets.load("mnist", split="test")
    few, few_labels = datasets.load("mnist", n_images=3)
    assert np.array_equal(few, images[:3])
    assert np.array_equal(few_labels, labels[:3])
    assert np.array_equal(datasets.load("mnist", n_images=np.int64(1000))[0], images)
    assert np.array_equal(datasets.load("fashion-mnist")[0], datasets.load("fashion_mnist")[0])
    small = datasets.load("mnist", n_images=5, dtype=np.float32)[0]
    assert small.dtype == np.float32
    assert np.array_equal(small, images[:5].astype(np.float32))


def test_samples_need_no_folders(folder):
    """Local files do not change the images of a script without n_images."""
    (folder / "mnist.npz").write_bytes(b"broken")
    assert datasets.load("mnist")[0].shape == (1000, 28, 28)
    refused(r"mnist\.npz: expected an \.npz file", datasets.load, "mnist", n_images=1001)


@pytest.mark.parametrize(
    "name, n, first, last",
    [("mnist", 10, "0", "9"), ("fashion-mnist", 10, "T-shirt/top", "Ankle boot")]
    + [("cifar10", 10, "airplane", "truck"), ("bengali", 50, "\u0985", "\u0981")],
)
def test_class_names(name, n, first, last):
    names = datasets.class_names(name)
    assert len(names) == len(set(names)) == n
    assert (names[0], names[-1]) == (first, last)


# -- bad arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args, kwargs, match",
    [
        (("mnits",), {}, "expected one of mnist, .* got 'mnits'; did you mean 'mnist'"),
        (("MNIST",), {}, "did you mean 'mnist'"),
        (("imagenet",), {}, r"or an \.npz file .*, got 'imagenet'$"),
        ((np.zeros((1, 2)),), {}, r"arrays go to as_images., got shape \(1, 2\)"),
        (("mnist", "validation"), {}, "split: expected one of test, train, got 'validation'"),
        (("mnist", "test", 0), {}, "n_images: expected 1 to 10000 .* got 0"),
        (("mnist", "test", -1), {}, "got -1"),
        (("mnist", "test", 2.0), {}, r"got 2\.0"),
        (("mnist", "test", True), {}, "got True"),
        (("mnist", "test", "some"), {}, "got 'some'"),
        (("mnist", "test", 10001), {}, "1 to 10000 .all of mnist's test split., .* got 10001"),
        (("cifar10", "train", 50001), {}, "1 to 50000 .all of cifar10's train split."),
        (("mnist",), {"dtype": np.uint8}, r"dtype: expected a floating dtype .*uint8"),
        (("mnist",), {"dtype": "no"}, "dtype: expected a floating dtype .* 'no'"),
    ],
)
def test_load_refuses(args, kwargs, match):
    refused(match, datasets.load, *args, **kwargs)


def test_class_names_refuses():
    refused("did you mean 'bengali'", datasets.class_names, "bengal")
    refused("got 3", datasets.class_names, 3)


@pytest.mark.parametrize("exists", [True, False])
def test_a_data_folder_that_is_none(tmp_path, monkeypatch, exists):
    path = tmp_path / "missing"
    if exists:
        path.write_bytes(b"")
    found = "a file" if exists else "nothing"
    refused(f"data_dir: .* got {found}", datasets.load, "mnist", n_images="all", data_dir=path)
    monkeypatch.setenv("NENGONET_DATA", str(path))
    refused(f"NENGONET_DATA: .* got {found}", datasets.load, "mnist", n_images="all")


# -- whole sets from folders ---------------------------------------------------------------------


def load_from_pixels(arrays, split, n):
    return arrays[f"x_{split}"][:n] / 255.0, arrays[f"y_{split}"][:n]


@pytest.mark.parametrize("split", ["test", "train"])
@pytest.mark.parametrize("n", [1, 5, "all", None])
def test_npz_in_the_data_folder(folder, small, split, n):
    np.savez(folder / "mnist.npz", **small)
    images, labels = datasets.load("mnist", split, n, download=False)
    expected, expected_labels = load_from_pixels(small, split, n if isinstance(n, int) else None)
    assert np.array_equal(images, expected)
    assert np.array_equal(labels, expected_labels)


def test_order_of_folders(folder, small, tmp_path, monkeypatch):
    places = {
        "data_dir": tmp_path / "given",
        "NENGONET_DATA": folder,
        "Keras": tmp_path / "keras" / "datasets",
        "cache": tmp_path / "cache" / "nengonet",
    }
    sizes = {"train": 30, "test": 12}
    for seed, place in enumerate(places.values()):
        place.mkdir(parents=True, exist_ok=True)
        np.savez(place / "mnist.npz", **small_arrays(sizes, seed=seed))
    in_cache = places["cache"] / "mnist.npz"
    sha256 = hashlib.sha256(in_cache.read_bytes()).hexdigest()
    replace(monkeypatch, "mnist", downloads={"mnist.npz": ("http://127.0.0.1:9/", sha256)})

    def seed_found():
        images, _ = datasets.load("mnist", n_images="all", data_dir=places["data_dir"])
        first = [small_arrays(sizes, seed=seed)["x_test"] / 255.0 for seed in range(4)]
        return [np.array_equal(images, other) for other in first].index(True)

    for seed, place in enumerate(places.values()):
        assert seed_found() == seed
        (place / "mnist.npz").unlink()
    refused("the download of", seed_found)


def test_keras_home_defaults_to_the_home_folder(small, tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_HOME")
    path = tmp_path / "home" / ".keras" / "datasets"
    path.mkdir(parents=True)
    np.savez(path / "mnist.npz", **small)
    images, _ = datasets.load("mnist", n_images="all", download=False)
    assert np.array_equal(images, small["x_test"] / 255.0)


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def write_fashion(folder, arrays):
    for split, prefix in (("train", "train"), ("test", "t10k")):
        path = folder / "fashion-mnist"
        write_idx(path / f"{prefix}-images-idx3-ubyte.gz", arrays[f"x_{split}"])
        write_idx(path / f"{prefix}-labels-idx1-ubyte.gz", arrays[f"y_{split}"])
    return path


@pytest.mark.parametrize("split", ["test", "train"])
def test_fashion_mnist_in_the_cache_of_keras(small, tmp_path, split):
    write_fashion(tmp_path / "keras" / "datasets", small)
    images, labels = datasets.load("fashion_mnist", split, "all", download=False)
    assert np.array_equal(images, small[f"x_{split}"] / 255.0)
    assert np.array_equal(labels, small[f"y_{split}"])


def test_broken_idx_files(folder, small):
    path = write_fashion(folder, small)
    images = path / "t10k-images-idx3-ubyte.gz"
    write_idx(images, small["x_test"][:11])
    refused(r"t10k-images.*shape \(12, 28, 28\)", datasets.load, "fashion_mnist", "test", "all")
    write_idx(images, small["x_test"].reshape(28, 12, 28))  # as many bytes in another shape
    refused(r"t10k-images.*got another header", datasets.load, "fashion_mnist", "test", "all")
    with gzip.open(images, "wb") as file:  # one byte too many
        file.write(struct.pack(">4B3I", 0, 0, 8, 3, 12, 28, 28) + bytes(12 * 28 * 28 + 1))
    refused(r"t10k-images.*got another header", datasets.load, "fashion_mnist", "test", "all")
    write_idx(images, small["x_test"])
    images.write_bytes(images.read_bytes()[:-100])
    refused("t10k-images.*damaged or truncated", datasets.load, "fashion_mnist", "test", "all")
    images.write_bytes(b"no gzip")
    refused("t10k-images.*damaged or truncated", datasets.load, "fashion_mnist", "test", "all")
    assert datasets.load("fashion_mnist", "train", "all")[0].shape == (30, 28, 28)


@pytest.mark.parametrize(
    "change, match",
    [
        ({"x_test": None}, "expected arrays x_test and y_test, got x_train, y_train, y_test"),
        ({"x_test": np.zeros((13, 28, 28), np.uint8)}, r"images of .* got uint8 of shape \(13, "),
        ({"x_test": np.zeros((0, 28, 28), np.uint8)}, r"images of .* got uint8 of shape \(0, "),
        ({"x_test": np.zeros((12, 28, 28))}, r"expected images of uint8, .* got float64"),
        ({"y_test": np.zeros(13, int)}, r"expected labels of integers, of shape \(12,\)"),
        ({"y_test": np.zeros(12)}, "expected labels of integers, .* got float64"),
        ({"y_test": np.full(12, 10)}, "labels from 0 to 9, got 10 to 10"),
        ({"y_test": np.full(12, -1)}, "labels from 0 to 9, got -1 to -1"),
        ({"y_test": np.full(12, None)}, "y_test: expected an array of numbers"),
    ],
)
def test_whole_set_with_wrong_arrays(folder, small, change, match):
    arrays = {key: value for key, value in {**small, **change}.items() if value is not None}
    path = folder / "mnist.npz"
    np.savez(path, **arrays)
    message = refused(match, datasets.load, "mnist", n_images="all")
    assert message.startswith(f"{path}: ")


def test_a_file_of_the_first_images_serves_requests_for_no_more(folder, small):
    np.savez(folder / "mnist.npz", **{key: array[:5] for key, array in small.items()})
    for n in (3, 5):
        images, labels = datasets.load("mnist", "test", n, download=False)
        assert np.array_equal(images, small["x_test"][:n] / 255.0)
        assert np.array_equal(labels, small["y_test"][:n])
    refused(
        "a file with 6 test images .* got none", datasets.load, "mnist", n_images=6, download=False
    )


def test_folder_without_permission(folder, monkeypatch):
    def is_file(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", is_file)
    monkeypatch.setattr(datasets, "_EMBEDDED", folder)
    message = refused("Permission denied", datasets.load, "mnist", n_images="all")
    assert message.startswith(f"{folder}: expected a folder of data sets")


def test_not_found(tmp_path):
    refused(
        r"mnist: expected a file with 10000 test images in .*got none; put one into .*"
        r"NENGONET_DATA names: "
        r"mnist\.npz \(x_train, .*, or allow the download",
        datasets.load,
        "mnist",
        n_images="all",
        download=False,
    )
    message = refused(
        r"bengali50\.npz \(x_train \(12000, 28, 28\).*CMATERdb 3\.1\.2", datasets.load, "bengali"
    )
    assert "download" not in message
    assert not any((tmp_path / "cache").iterdir())


# -- CIFAR-10 ------------------------------------------------------------------------------------

CIFAR_SIZES = {"train": 10, "test": 4}


@pytest.fixture
def cifar(monkeypatch):
    """Shrink CIFAR-10 to 10 + 4 images, of which two are the sample."""
    replace(monkeypatch, "cifar10", sizes=CIFAR_SIZES, samples={"test": 2})
    return small_arrays(CIFAR_SIZES, (32, 32, 3))


def cifar_batches(arrays):
    """Return the rows (2 or 4, 3072) and labels of each batch by its name."""
    batches = {"test_batch": (arrays["x_test"], arrays["y_test"])}
    for i in range(5):
        part = slice(2 * i, 2 * i + 2)
        batches[f"data_batch_{i + 1}"] = (arrays["x_train"][part], arrays["y_train"][part])
    return {k: (x.transpose(0, 3, 1, 2).reshape(len(x), -1), y) for k, (x, y) in batches.items()}


def cifar_records(arrays):
    """Return the files of the binary version, written from its description."""
    return {
        f"{name}.bin": b"".join(
            bytes([label]) + row.tobytes() for row, label in zip(x, y, strict=True)
        )
        for name, (x, y) in cifar_batches(arrays).items()
    }


def write_cifar_tar(folder, arrays):
    path = folder / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in cifar_records(arrays).items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_cifar_bin(folder, arrays):
    path = folder / "cifar-10-batches-bin"
    path.mkdir()
    for name, content in cifar_records(arrays).items():
        (path / name).write_bytes(content)
    return path


class Python2Pickler(pickle._Pickler):
    """Pickle str and bytes as Python 2, which wrote CIFAR-10, does."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, obj):
        content = obj if isinstance(obj, bytes) else obj.encode("latin1")
        self.write(pickle.BINSTRING + len(content).to_bytes(4, "little") + content)
        self.memoize(obj)

    dispatch[bytes] = dispatch[str] = save_string


def python2_pickle(batch):
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(batch)
    old, new = b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n"
    assert new in file.getvalue()
    return file.getvalue().replace(new, old)


def write_cifar_py(folder, arrays, dumps=python2_pickle):
    path = folder / "cifar-10-batches-py"
    path.mkdir(parents=True)
    for name, (x, y) in cifar_batches(arrays).items():
        batch = {b"data": np.ascontiguousarray(x), b"labels": y.tolist(), b"batch_label": b"part"}
        (path / name).write_bytes(dumps(batch))
    return path


@pytest.mark.parametrize("write", [write_cifar_tar, write_cifar_bin, write_cifar_py])
@pytest.mark.parametrize("split", ["test", "train"])
def test_whole_cifar(folder, cifar, write, split):
    write(folder, cifar)
    images, labels = datasets.load("cifar10", split, "all", download=False)
    assert np.array_equal(images, cifar[f"x_{split}"] / 255.0)
    assert np.array_equal(labels, cifar[f"y_{split}"])


def test_cifar_in_the_cache_of_keras_3(tmp_path, cifar):
    path = tmp_path / "keras" / "datasets" / "cifar-10-batches-py-target"
    write_cifar_py(path, cifar, lambda batch: pickle.dumps(batch, protocol=4))
    images, _ = datasets.load("cifar10", "train", download=False)
    assert np.array_equal(images, cifar["x_train"] / 255.0)


def test_cifar_sample_whatever_is_at_hand(folder, cifar):
    np.savez(folder / "cifar10_test1000.npz", x=cifar["x_test"][:2], y=cifar["y_test"][:2])
    sample, _ = datasets.load("cifar10", download=False)
    assert np.array_equal(sample, cifar["x_test"][:2] / 255.0)
    assert datasets.load("cifar10", n_images=1, download=False)[0].shape == (1, 32, 32, 3)
    refused(
        r"a file with 3 test images .*cifar-10-binary\.tar\.gz",
        datasets.load,
        "cifar10",
        n_images=3,
        download=False,
    )
    write_cifar_tar(folder, cifar)
    assert np.array_equal(datasets.load("cifar10")[0], sample)
    assert datasets.load("cifar10", n_images=3)[0].shape == (3, 32, 32, 3)


@pytest.mark.parametrize("path", [3, b"folder", "", "a\0b", np.zeros((2, 2))])
def test_a_path_is_text_or_a_path(path):
    refused("data_dir: expected the name of a folder", datasets.load, "bengali", data_dir=path)
    refused("path: expected the name of a file, got", datasets.load_npz, path)


class Harmful:
    def __reduce__(self):
        return (os.mkdir, ("harm",))


@pytest.mark.parametrize(
    "content, match",
    [
        (pickle.dumps({b"data": Harmful(), b"labels": [0]}), "damaged or truncated"),
        (python2_pickle({b"data": np.zeros((4, 3072), np.uint8)})[:-50], "damaged or truncated"),
        (python2_pickle({b"data": np.zeros((4, 3072), np.uint8)}), "KeyError: b'labels'"),
        (python2_pickle({b"data": np.zeros((4, 3072)), b"labels": [0] * 4}), "not rows of uint8"),
        (pickle.dumps([]), "damaged or truncated"),
        (b"", "EOFError"),
    ],
)
def test_bad_cifar_pickle(folder, cifar, monkeypatch, content, match):
    monkeypatch.chdir(folder)
    path = write_cifar_py(folder, cifar) / "test_batch"
    path.write_bytes(content)
    message = refused(match, datasets.load, "cifar10", n_images="all", download=False)
    assert message.startswith(f"{path}: ")
    assert not (folder / "harm").exists()


def test_bad_batch_is_named(folder, cifar):
    path = write_cifar_py(folder, cifar)
    batch = {b"data": np.zeros((4, 3072), np.uint8), b"labels": [[0]] * 4}
    (path / "data_batch_3").write_bytes(python2_pickle(batch))
    message = refused("same number of dimensions", datasets.load, "cifar10", "train")
    assert message.startswith(f"{path}: expected a batch of CIFAR-10")
    (path / "data_batch_2").write_bytes(b"no pickle")
    assert refused("damaged", datasets.load, "cifar10", "train").startswith(f"{path}/data_batch_2:")


def test_bad_cifar_binary(folder, cifar):
    path = write_cifar_bin(folder, cifar) / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    refused("expected records of 3073 bytes, got 12291 bytes", datasets.load, "cifar10")
    tar = write_cifar_tar(folder, cifar)
    tar.write_bytes(tar.read_bytes()[:-1000])
    refused(r"cifar-10-binary\.tar\.gz: .*damaged or truncated", datasets.load, "cifar10", "train")
    with tarfile.open(tar, "w:gz"):
        pass
    refused(r"tar\.gz: expected images of .* got uint8 of shape \(0, 32", datasets.load, "cifar10")


@pytest.mark.parametrize(
    "change, match",
    [
        ({}, None),
        ({"lossless_first": np.zeros((4, 28, 28), np.uint8)}, "cifar10_train.npz: .*images of"),
        ({"y": np.zeros(3, int)}, r"cifar10_train.npz: .*labels of integers, of shape \(4,\)"),
        ({"y": None}, "expected arrays x and y, or lossless_first and y, got lossless_first"),
    ],
)
def test_first_images_of_cifar(folder, cifar, change, match):
    arrays = {"lossless_first": cifar["x_train"][:4], "y": cifar["y_train"]} | change
    arrays = {key: value for key, value in arrays.items() if value is not None}
    np.savez(folder / "cifar10_train.npz", **arrays)
    if match:
        refused(match, datasets.load, "cifar10", "train", 4)
        return
    images, labels = datasets.load("cifar10", "train", 4)
    assert np.array_equal(images, cifar["x_train"][:4] / 255.0)
    assert np.array_equal(labels, cifar["y_train"][:4])
    refused("a file with 5 train", datasets.load, "cifar10", "train", 5, download=False)


# -- downloads -----------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """Serve `files`; with `cut`, promise whole files and send the first halves."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cut, self.requests = {}, False, []

    def offer(self, *paths):
        """Serve files; return the value of `_Dataset.downloads` for them."""
        offers = {}
        for path in paths:
            content = path.read_bytes()
            self.files[f"/{path.name}"] = content
            url = f"http://127.0.0.1:{self.server_port}/{path.name}"
            offers[path.name] = (url, hashlib.sha256(content).hexdigest())
        return offers


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.server.cut else content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "nengonet"


@pytest.fixture
def offered(server, small, tmp_path, monkeypatch):
    """Offer a small mnist.npz for download."""
    path = tmp_path / "mnist.npz"
    np.savez(path, **small)
    replace(monkeypatch, "mnist", downloads=server.offer(path))
    return small


def files_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_download_once(server, offered, cache, capfd):
    images, labels = datasets.load("mnist", "train", "all")
    assert np.array_equal(images, offered["x_train"] / 255.0)
    assert np.array_equal(labels, offered["y_train"])
    out, err = capfd.readouterr()
    assert out == ""
    assert "100%" in err
    assert files_in(cache) == ["mnist.npz"]
    datasets.load("mnist", "test", "all")
    assert np.array_equal(datasets.load("mnist", "train", "all", download=False)[0], images)
    assert server.requests == ["/mnist.npz"]


@pytest.mark.parametrize("progress", [True, False])
@pytest.mark.usefixtures("offered")
def test_progress_and_silence(capfd, caplog, cache, progress):
    logger = pooch.get_logger()
    logger.addHandler(caplog.handler)
    try:
        for _ in range(2):
            datasets.load("mnist", n_images="all", progress=progress)
            (cache / "mnist.npz").unlink()
    finally:
        logger.removeHandler(caplog.handler)
    assert len(caplog.records) == (2 if progress else 0)
    assert capfd.readouterr().err.count("100%") == (2 if progress else 0)
    assert not logger.filters


@pytest.mark.parametrize("progress", [True, False])
def test_download_cut_short(server, offered, cache, progress):
    server.cut = True
    message = refused(
        r"mnist: the download of http://127.*mnist\.npz to .* failed .*try again, or put this into "
        r"a folder that NENGONET_DATA names: mnist\.npz \(x_train",
        datasets.load,
        "mnist",
        n_images="all",
        progress=progress,
    )
    assert str(cache) in message
    assert files_in(cache) == []
    server.cut = False
    images, _ = datasets.load("mnist", n_images="all", progress=progress)
    assert np.array_equal(images, offered["x_test"] / 255.0)
    assert files_in(cache) == ["mnist.npz"]


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize(
    "content, match",
    [(b"wrong", "failed .*SHA256 hash .* does not match"), (None, r"failed \(HTTPError: 404")],
)
def test_download_of_something_else(server, cache, content, match):
    server.files["/mnist.npz"] = content
    refused(match, datasets.load, "mnist", n_images="all")
    assert files_in(cache) == []


@pytest.mark.usefixtures("offered")
def test_download_interrupted_by_the_user(monkeypatch, cache):
    def interrupted(self, url, output_file, pooch, check_only=False):
        Path(output_file).write_bytes(b"half")
        assert len(files_in(cache)) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        datasets.load("mnist", n_images="all")
    assert files_in(cache) == []


@pytest.mark.usefixtures("offered")
def test_what_a_killed_download_left_is_swept_up(cache):
    cache.mkdir()
    for name in ("tmpold", "tmpnew", "other"):
        (cache / name).write_bytes(b"half")
    long_ago = time.time() - 2 * datasets._STALE
    os.utime(cache / "tmpold", (long_ago, long_ago))
    os.utime(cache / "other", (long_ago, long_ago))
    datasets.load("mnist", n_images="all")
    assert files_in(cache) == ["mnist.npz", "other", "tmpnew"]


@pytest.mark.usefixtures("offered")
def test_a_damaged_file_in_the_cache_is_replaced(server, cache):
    cache.mkdir()
    (cache / "mnist.npz").write_bytes(b"damaged")
    refused("expected a file with 12 test", datasets.load, "mnist", n_images="all", download=False)
    assert server.requests == []
    assert datasets.load("mnist", n_images="all")[0].shape == (12, 28, 28)


@pytest.mark.usefixtures("small")
def test_download_without_a_network(cache):
    refused(r"failed \(no connection to 127", datasets.load, "mnist", n_images="all")
    assert files_in(cache) == []


def test_download_into_a_place_that_is_a_file(offered, cache):
    cache.write_bytes(b"in the way")
    refused("mnist: the download of .* failed", datasets.load, "mnist", n_images="all")


def test_download_of_fashion_mnist_takes_the_files_of_the_split(
    server, small, tmp_path, monkeypatch, cache
):
    files = sorted(write_fashion(tmp_path / "offered", small).iterdir())
    downloads = {f"fashion-mnist/{name}": offer for name, offer in server.offer(*files).items()}
    replace(monkeypatch, "fashion_mnist", downloads=downloads)
    images, labels = datasets.load("fashion_mnist", "test", "all")
    assert np.array_equal(images, small["x_test"] / 255.0)
    assert np.array_equal(labels, small["y_test"])
    assert [name.split("/")[-1][:4] for name in files_in(cache)] == ["t10k", "t10k"]
    images, _ = datasets.load("fashion_mnist", "train", "all")
    assert np.array_equal(images, small["x_train"] / 255.0)


def test_download_of_cifar(server, cifar, tmp_path, monkeypatch, cache):
    replace(monkeypatch, "cifar10", downloads=server.offer(write_cifar_tar(tmp_path, cifar)))
    assert np.array_equal(datasets.load("cifar10")[0], cifar["x_test"][:2] / 255.0)
    assert np.array_equal(datasets.load("cifar10", "train")[0], cifar["x_train"] / 255.0)
    assert files_in(cache) == ["cifar-10-binary.tar.gz"]


def test_public_sources_are_hashed():
    sources = [source for dataset in PUBLIC.values() for source in dataset.downloads.items()]
    assert len(sources) == 6
    assert all(dataset.licence for dataset in PUBLIC.values())
    for name, (url, sha256) in sources:
        assert url.startswith("https://")
        assert url.endswith(f"/{Path(name).name}")
        assert len(sha256) == 64
        assert int(sha256, 16)


# -- files and arrays of one's own ---------------------------------------------------------------


@pytest.mark.parametrize("keys", [("x_test", "y_test"), ("x", "y"), ("images", "labels")])
@pytest.mark.parametrize("as_name", [str, Path])
def test_own_npz(tmp_path, keys, as_name):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "own.npz"
    np.savez(path, **dict(zip(keys, (pixels, [3, 1]), strict=True)))
    for images, labels in (datasets.load(as_name(path)), datasets.load_npz(as_name(path))):
        assert np.array_equal(images, pixels / 255.0)
        assert images.dtype == np.float64
        assert labels.tolist() == [3, 1]
        assert labels.dtype == np.int64
    images, labels = datasets.load(as_name(path), n_images=1, dtype=np.float32)
    assert images.shape == (1, 3, 4)
    assert images.dtype == np.float32
    assert labels.tolist() == [3]


def test_own_npz_with_both_splits(tmp_path):
    path = tmp_path / "own.npz"
    arrays = small_arrays({"train": 3, "test": 2}, (5,))
    np.savez_compressed(path, **arrays)
    assert np.array_equal(datasets.load(path, "train")[0], arrays["x_train"] / 255.0)
    assert np.array_equal(datasets.load(path, "test")[0], arrays["x_test"] / 255.0)
    assert np.array_equal(datasets.load_npz(path)[0], arrays["x_test"] / 255.0)
    assert datasets.load(path, n_images="all")[0].shape == (2, 5)


def test_own_npz_by_content_and_in_the_home_folder(tmp_path):
    path = tmp_path / "home" / "own.npz"
    np.savez(path, x=np.eye(2), y=[0, 1])
    assert datasets.load("~/own.npz")[0].tolist() == [[1, 0], [0, 1]]
    assert datasets.load(str(path.rename(tmp_path / "own.dat")))[0].shape == (2, 2)


OWN = {"x": np.zeros((3, 4)), "y": np.arange(3)}


@pytest.mark.parametrize(
    "arrays, kwargs, match",
    [
        ({"a": np.zeros(3)}, {}, "arrays x_test and y_test, or x and y, or images and .*got a;"),
        ({"x": OWN["x"]}, {}, "got x; save them"),
        ({"x\ny": OWN["x"]}, {}, r"got x\\ny; save them"),
        (OWN, {"split": "train"}, "expected arrays x_train and y_train, got x, y"),
        (OWN, {"n_images": 4}, r"expected 1 to 3 \(all of .*own\.npz\), .* got 4"),
        ({**OWN, "x": np.full((3, 4), 255.0)}, {}, ": x: .* got 255 to 255; divide by 255"),
        ({**OWN, "x": np.full((3, 4), -1.0)}, {}, "got -1 to -1; scale them"),
        ({**OWN, "x": np.full((3, 4), np.nan)}, {}, r"got nan at \[0, 0\]; remove"),
        ({**OWN, "x": np.zeros((3, 4), int)}, {}, r": x: expected uint8 .* got int64"),
        ({**OWN, "x": np.zeros(3)}, {}, r": x: expected shape \(n_images, \.\.\.\), got \(3,\)"),
        ({**OWN, "x": np.zeros((0, 4)), "y": []}, {}, "at least one image"),
        ({**OWN, "y": np.arange(4)}, {"n_images": 3}, ": y: expected 3, one for each image, got 4"),
        ({**OWN, "y": np.full(3, 0.5)}, {}, ": y: expected whole class numbers, got 0.5"),
        ({**OWN, "y": np.array([0, 1, -2])}, {}, "class numbers from 0, got -2"),
        ({**OWN, "y": np.eye(3, dtype=int)}, {}, r"shape \(3,\), got \(3, 3\).*argmax"),
        ({**OWN, "y": np.array(["a", "b", "c"])}, {}, "expected class numbers, got the word"),
        ({**OWN, "x": np.array([[None]] * 3)}, {}, "x: expected an array of numbers"),
    ],
)
def test_own_npz_refused(tmp_path, arrays, kwargs, match):
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    assert str(path) in refused(match, datasets.load_npz, path, **kwargs)


def test_own_npz_that_is_none(tmp_path):
    path = tmp_path / "own.npz"
    refused("own.npz: no such file", datasets.load, str(path))
    refused("expected a file, got a folder", datasets.load, tmp_path)
    np.savez(path, **OWN)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:10], whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        message = refused("expected an .npz file", datasets.load, path)
        assert message.startswith(f"{path}: ")
    with open(path, "wb") as file:
        np.save(file, OWN["x"])
    refused("plain arrays, got a damaged or truncated file", datasets.load, path)
    damaged = bytearray(whole)
    damaged[150] ^= 1  # inside the first array: the zip's checksum no longer holds
    path.write_bytes(damaged)
    refused("damaged or truncated", datasets.load, path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_as_images_converts(dtype):
    images, labels = datasets.as_images([[0.0, 0.5], [1.0, 0.25]], [[1], [0]], dtype=dtype)
    assert images.tolist() == [[0.0, 0.5], [1.0, 0.25]]
    assert images.dtype == dtype
    assert labels.tolist() == [1, 0]
    assert labels.dtype == np.int64
    images, labels = datasets.as_images(np.array([[[0, 51], [255, 102]]], np.uint8), dtype=dtype)
    assert np.array_equal(images, np.array([[[0, 0.2], [1, 0.4]]], dtype))
    assert labels is None
    assert datasets.as_images(np.array([[True, False]]), dtype=dtype)[0].tolist() == [[1, 0]]


def test_as_images_leaves_what_it_is_given_alone():
    pixels = np.array([[0, 255]], np.uint8)
    images, _ = datasets.as_images(pixels)
    images[:] = 7
    assert pixels.tolist() == [[0, 255]]
    floats = np.array([[0.0, 1.0]])
    assert datasets.as_images(floats)[0] is floats


@pytest.mark.parametrize(
    "args, match",
    [
        (([[0, 1], [1, 0]],), "images: expected uint8 .* got int64; divide by 255"),
        (([[0.0, 256.0]],), "images: .* got 0 to 256; scale"),
        (([[0.0, 2.0]],), "images: .* got 0 to 2; divide by 255"),
        (([[0.0, np.inf]],), r"images: .* got inf at \[0, 1\]; remove"),
        (([0.0, 1.0],), r"images: expected shape .* got \(2,\); give a single image as"),
        (([[0.0], [0.0, 1.0]],), "images: .* rows of unequal lengths"),
        (([[]],), "images: expected at least one image"),
        (([["a"]],), "images: expected an array of numbers, got text"),
        (([[1.0]], [0, 1]), "labels: expected 1, one for each image, got 2"),
        (([[1.0]], [0.5]), "labels: expected whole class numbers, got 0.5"),
        (([[1.0]], [True]), "labels: expected class numbers, got booleans"),
        (([[1.0]], [-1]), "labels: expected class numbers from 0, got -1"),
        (([[1.0]], 0), r"labels: expected shape \(1,\), got \(\)"),
        (([[1.0]], [[0, 1]]), r"got \(1, 2\); turn one-hot rows"),
    ],
)
def test_as_images_refuses(args, match):
    refused(match, datasets.as_images, *args)


# -- the whole sets themselves -------------------------------------------------------------------


@needs_data
@pytest.mark.parametrize("name, split", LABEL_COUNTS)
def test_embedded_samples_are_the_first_of_the_whole(name, split, whole):
    sample, sample_labels = datasets.load(name, split)
    images, labels = datasets.load(name, split, "all", dtype=np.float32, download=False)
    assert images.shape == ({"test": 10000, "train": 60000}[split], 28, 28)
    assert np.array_equal(images[: len(sample)], sample.astype(np.float32))
    assert np.array_equal(labels[: len(sample)], sample_labels)
    assert sorted(np.unique(labels)) == list(range(10))


@needs_data
def test_cifar_test_sample(whole):
    images, labels = datasets.load("cifar10", download=False)
    assert images.shape == (1000, 32, 32, 3)
    assert labels[:5].tolist() == [3, 8, 8, 0, 6]
    with np.load(whole / "cifar10_test1000.npz", allow_pickle=False) as npz:
        assert datasets.class_names("cifar10") == tuple(npz["class_names"])


@needs_data
def test_cifar_train(whole):
    images, labels = datasets.load("cifar10", "train", 4000, dtype=np.float32, download=False)
    with np.load(whole / "cifar10_train.npz", allow_pickle=False) as npz:
        assert np.array_equal(images, npz["lossless_first"].astype(np.float32) / np.float32(255))
        assert np.array_equal(labels, npz["y"][:4000])


@needs_data
def test_bengali(whole):
    for split, size in (("train", 12000), ("test", 3000)):
        images, labels = datasets.load("bengali", split, dtype=np.float32)
        assert images.shape == (size, 28, 28)
        assert images.max() == 1
        assert sorted(np.unique(labels)) == list(range(50))
    with np.load(whole / "bengali50.npz", allow_pickle=False) as npz:
        assert datasets.class_names("bengali") == tuple(npz["class_names"])
