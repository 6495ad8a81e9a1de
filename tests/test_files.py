import io
import os
import pathlib
import random
import re
import struct
import subprocess
import sys
import zipfile
import zlib

import h5py
import numpy as np
import pytest

from nengonet.exceptions import InputError
from nengonet.files import (
    Archive,
    Hdf5,
    open_binary,
    output_path,
    printable,
    reading,
    write_whole,
)


def hdf5_arrays(path):
    with reading(path, "HDF5"), open_binary(path) as stream, Hdf5(stream) as file:
        return {name: file.array(dataset) for name, dataset in file.datasets()}


def refuse(read, path, match):
    with pytest.raises(InputError, match=match) as info:
        read(path)
    message = str(info.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x"


@pytest.mark.parametrize(
    "error",
    [OSError("x"), EOFError(), KeyError("a"), RecursionError(), MemoryError(), struct.error("x")],
)
def test_whatever_reading_raises_is_one_line(error, path):
    def read(path):
        with reading(path, "a saved run"):
            raise error

    refuse(read, path, "expected a saved run, got .*(damaged or truncated|memory)")


def test_missing_file_folder_and_forbidden_file(tmp_path):
    refuse(hdf5_arrays, tmp_path / "none", "no such file")
    refuse(hdf5_arrays, tmp_path, "expected a file, got a folder")
    (tmp_path / "x").touch(mode=0)
    if os.geteuid():
        refuse(hdf5_arrays, tmp_path / "x", "cannot be read")


def test_error_within_names_the_file_once(path):
    def read(path):
        with reading(path, "x"), reading(path, "y"):
            raise InputError("no weights\x1b[31m inside")

    with pytest.raises(InputError) as info:
        read(path)
    assert str(info.value) == rf"{path}: no weights\x1b[31m inside"


def test_printable():
    assert printable("a \x1b[2J\n\u202e\udce4 é") == r"a \x1b[2J\n\u202e\udce4 é"


def test_links_are_followed_within_the_file(path):
    with h5py.File(path, "w") as file:
        file["a/w"] = np.arange(6.0)
        file["hard"], file["soft"] = file["a"], h5py.SoftLink("/a")
        file["b/relative"], file["b/dangling"] = h5py.SoftLink("v"), h5py.SoftLink("/none")
        file["b/v"] = np.ones(2)
    with open_binary(path) as stream, Hdf5(stream) as file:
        found = dict(file.datasets())
        assert list(found) == ["a/w", "b/relative", "b/v", "hard/w", "soft/w"]
        arrays = [file.array(found[key]) for key in ("a/w", "hard/w", "soft/w")]
        assert arrays[0] is arrays[1] is arrays[2]
        assert file.get("b/dangling") is file.get("a/w/x") is file.get("none") is None
        np.testing.assert_array_equal(file.array(file.get("soft/w")), np.arange(6.0))


@pytest.mark.parametrize("where", ["w", "a/b/w", "hard/w", "soft/w"])
@pytest.mark.parametrize("kind", ["link", "virtual", "unlimited", "external"])
def test_nothing_of_another_file_is_read(kind, where, tmp_path, path):
    with h5py.File(tmp_path / "other", "w") as other:
        other["w"] = np.ones((4, 3))
    with h5py.File(path, "w") as file:
        file.create_group("a/b")
        file["hard"], file["soft"] = file.create_group("c"), h5py.SoftLink("/d")
        file.create_group("d")
        if kind == "link":
            file[where] = h5py.ExternalLink("other", "/w")
        elif kind == "external":
            file.create_dataset(where, (4, 3), "f8", external=[("other", 0, 96)])
        else:
            layout = h5py.VirtualLayout((4, 3), "f8", maxshape=(None, 3))
            source = h5py.VirtualSource("other", "w", (4, 3), maxshape=(None, 3))
            stop = h5py.h5s.UNLIMITED if kind == "unlimited" else 4
            layout[:stop] = source[:stop]
            file.create_virtual_dataset(where, layout)
    refuse(hdf5_arrays, path, "another file")


def test_soft_link_through_an_external_link(path):
    with h5py.File(path, "w") as file:
        file["other"], file["w"] = h5py.ExternalLink("other", "/"), h5py.SoftLink("/other/w")
    refuse(hdf5_arrays, path, "another file")


def test_circles(tmp_path):
    with h5py.File(tmp_path / "a", "w") as file:
        file["a/b"] = file["/"]
    refuse(hdf5_arrays, tmp_path / "a", "in a circle")
    with h5py.File(tmp_path / "b", "w") as file:
        file["a"], file["b"] = h5py.SoftLink("b"), h5py.SoftLink("a")
    refuse(hdf5_arrays, tmp_path / "b", "circle")


def test_more_paths_than_can_be_walked(path):
    with h5py.File(path, "w") as file:
        for i in range(40):
            group = file.create_group(f"g{i}")
            if i:
                group["a"] = group["b"] = file[f"g{i - 1}"]
        file["w"] = np.ones(2)
    refuse(hdf5_arrays, path, "more than .* names")


def test_limit_is_for_the_file(path):
    with h5py.File(path, "w") as file:
        for i in range(14):  # 70 MB, a little above what every file may hold
            file.create_dataset(f"w{i}", (1000, 1250), "f4", chunks=(1000, 10), compression="gzip")
    refuse(hdf5_arrays, path, "w9: .* more than 64 MB, and more than 100 times")
    with h5py.File(path, "a") as file:
        del file["w9"]
        file["again"] = file["w0"]  # read once, counted once
    assert len(hdf5_arrays(path)) == 14


def test_chunk_that_unpacks_to_more_than_its_values(path):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("w", (10, 10), "f4", chunks=(10, 10), compression="gzip")
        dataset.id.write_direct_chunk((0, 0), zlib.compress(bytes(100 * 2**20)))
    refuse(hdf5_arrays, path, "/w: damaged file .a chunk has more than 1824 bytes")
    values = np.random.default_rng(0).normal(size=(100, 1000))
    with h5py.File(path, "w") as file:  # as large, and as it should be
        options = {"chunks": (100, 1000), "compression": "gzip"}
        file.create_dataset("w", data=values, **options)
        file.create_dataset("all", data=values, shuffle=True, fletcher32=True, **options)
    for array in hdf5_arrays(path).values():
        np.testing.assert_array_equal(array, values)


def test_array_compressed_twice(path):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4, 4))
    plist.set_deflate(1)
    plist.set_deflate(1)
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((4, 4))
        h5py.h5d.create(file.id, b"w", h5py.h5t.IEEE_F32LE, space, plist)
    refuse(hdf5_arrays, path, "/w: damaged file .it is compressed 2 times")


def test_values_that_are_no_numbers(path):
    with h5py.File(path, "w") as file:
        file["text"], file["none"], file["flag"] = "2019", h5py.Empty("f4"), True
    found = hdf5_arrays(path)
    assert found["text"] is found["none"] is None
    assert found["flag"] == True  # noqa: E712
    with h5py.File(path, "a") as file:
        file["table"] = np.zeros(2, dtype=[("a", "f4"), ("b", "f4")])
    assert hdf5_arrays(path)["table"] is None
    for name, values in [("complex", np.ones(2, "c8")), ("opaque", np.zeros(2, "V1"))]:
        with h5py.File(path, "a") as file:
            file[name] = values
        refuse(hdf5_arrays, path, f"/{name}: expected numbers")
        with h5py.File(path, "a") as file:
            del file[name]


def test_missing_filter_is_named(path):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("w", (4, 4), "f4", chunks=(4, 4), compression="gzip")
        dataset.id.write_direct_chunk((0, 0), b"x")
    content = path.read_bytes()
    # the filter message of gzip (code 1) in the header becomes that of blosc (code 32001)
    old = struct.pack("<HHHH", 1, 8, 1, 1) + b"deflate\x00"
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, struct.pack("<HHHH", 32001, 8, 1, 1) + b"blosc\0\0\0"))
    refuse(hdf5_arrays, path, r"/w: compressed with blosc \(HDF5 filter 32001\).*hdf5plugin")


# .npz


def npz_array(path, key="x"):
    with reading(path, "an .npz file"), open_binary(path) as stream, Archive(stream) as archive:
        return archive.array(key)


def npz(path, header=None, version=1, compression=zipfile.ZIP_STORED):
    if header is None:
        buffer = io.BytesIO()
        np.save(buffer, np.arange(24, dtype=np.uint8).reshape(6, 4))
        content = buffer.getvalue()
    else:
        text = header.encode() + b"\n"
        content = bytes([0x93, *b"NUMPY", version, 0]) + struct.pack("<H", len(text)) + text
        content += bytes(24)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x.npy", content)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (18446744073709551616, 4)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (0, 4)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-6, -4)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': 'x'}",
        "(" * 9000,
        "{",
        "",
    ],
)
def test_npz_headers(header, path):
    npz(path, header)
    refuse(npz_array, path, "damaged|numbers")


@pytest.mark.parametrize("version", [0, 3, 4, 200])
def test_npz_versions(version, path):
    npz(path, "{'descr': '|u1', 'fortran_order': False, 'shape': (6, 4)}", version)
    refuse(npz_array, path, "expected an array of numbers|damaged")


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_npz_with_any_byte_damaged(compression, path):
    npz(path, compression=compression)
    content = path.read_bytes()
    right = np.arange(24, dtype=np.uint8).reshape(6, 4)
    np.testing.assert_array_equal(npz_array(path), right)
    refused = 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            np.testing.assert_array_equal(npz_array(path), right)
        except InputError:
            refused += 1
    assert refused > len(content) // 2


def test_archive_bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(200 * 2**20))
    with pytest.raises(InputError, match="x.npy: .* more than 64 MB, and more than 100 times"):
        with reading(path, "x"), open_binary(path) as stream, Archive(stream) as archive:
            archive.read("x.npy")


# Mutations that keep the structure of a file: each field of it is a claim that may be false.

STRUCTURES = b"TREE HEAP SNOD GCOL OHDR FRHP \x89HDF PK\1\2 PK\3\4".split()
CLAIMS = [*range(4), 8, 1 << 40, *(2**bits - 1 for bits in (8, 16, 31, 32, 63, 64))]
DATA = pathlib.Path(__file__).parent / "data"


def with_a_false_claim(content, rng):
    """Change a number near the start of a structure, or redirect a pointer."""
    content = bytearray(content)
    starts = [m.start() for m in re.finditer(b"|".join(map(re.escape, STRUCTURES)), content)]
    at = rng.choice(starts) + rng.randrange(120)
    size = rng.choice([1, 2, 4, 8])
    claim = rng.choice([*CLAIMS, rng.choice(starts)]) & ((1 << 8 * size) - 1)
    content[at : at + size] = claim.to_bytes(size, "little")
    return bytes(content)


def with_damaged_bytes(content, rng):
    content = bytearray(content)
    for _ in range(3):
        reach = min(rng.choice([400, 4000, len(content)]), len(content))
        content[rng.randrange(reach)] = rng.choice([0, 255, rng.randrange(256)])
    return bytes(content)


def with_other_objects(content, rng):
    """Change the content of an HDF5 file through HDF5."""
    stream = io.BytesIO(content)
    with h5py.File(stream, "a") as file:
        groups, datasets = [file], []
        file.visititems(lambda _, o: (groups if isinstance(o, h5py.Group) else datasets).append(o))
        group, attributes = rng.choice(groups), [(g, a) for g in groups for a in g.attrs]
        change = rng.randrange(8)
        if change < 3 and attributes:
            item, name = rng.choice(attributes)
            values = [0, "x", np.arange(5), "[" * 9000, '{"config": {"layers": [3]}}', b"\xff"]
            item.attrs[name] = rng.choice([*values, h5py.Empty("f4")])
        elif change == 3:
            group["soft"], group["hard"] = h5py.SoftLink(".."), rng.choice(groups)
        elif change == 4:
            group["other"] = h5py.ExternalLink(str(DATA / "keras3_mlp.h5"), "/")
        elif change == 5:
            shape = rng.choice([(10**6, 10**6), (20_000, 20_000)])
            group.create_dataset("huge", shape, "f4", chunks=True, compression="gzip")
        elif change == 6:
            del file[rng.choice(groups[1:]).name]
        else:
            name = rng.choice(datasets).name
            del file[name]
            file[name] = rng.choice(
                [3.0, np.zeros((0, 3)), np.full(4, np.nan), "x", np.ones(2, "c8")]
            )
    return stream.getvalue()


CHILD = """
import resource, sys
import numpy as np
import nengonet as nn
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for line in sys.stdin:
    path = line.strip()
    try:
        if path.endswith(".npz"):
            arrays = nn.datasets.load(path)
        else:
            weights = nn.load_weights(path)
            arrays = [array for layer in weights.values() for array in layer.arrays.values()]
            assert arrays and str(weights)
        assert all(np.isfinite(array).all() for array in arrays)
        print("read", path)
    except nn.InputError as error:
        print("refused" if str(error).isprintable() else "unprintable", path)
    except BaseException as error:
        print(repr(error), path)
# ru_maxrss would start at that of the process that started this one.
with open("/proc/self/status") as status:
    print("peak", next(int(line.split()[1]) // 1024 for line in status if "VmHWM" in line))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
def test_mutations_are_read_or_refused(tmp_path):
    rng = random.Random(12)
    np.savez(tmp_path / "own.npz", x=np.ones((6, 4), np.uint8), y=np.arange(6))
    files = [tmp_path / "own.npz", *sorted(DATA.glob("keras*.h5")), *sorted(DATA.glob("*.keras"))]
    files += 3 * [DATA / "cnn.nir"]
    paths = []
    for i in range(240):
        original = rng.choice(files)
        ways = [with_damaged_bytes, with_a_false_claim, with_other_objects]
        ways = ways if original.suffix in (".h5", ".nir") else ways[:2]
        paths.append(tmp_path / f"{i}{original.suffix}")
        paths[-1].write_bytes(rng.choice(ways)(original.read_bytes(), rng))
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input="\n".join(map(str, paths)),
        # BLAS reserves address space for each thread, and has one for each core.
        env=os.environ | dict.fromkeys(["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"], "1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *lines, peak = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert [path for _, path in lines] == [str(path) for path in paths]
    assert {outcome for outcome, _ in lines} == {"read", "refused"}
    assert int(peak[1]) < 1000


# -- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, endings, message",
    [
        ("no/a.png", [".png"], "expected a file in a folder that exists, but the folder .*no does"),
        ("a.png/b.png", [".png"], "a.png does not exist"),  # a file is no folder
        ("folder", (), "expected the name of a file, got a folder"),
        ("b", [".png"], r"expected the name of a file that ends in .png, got no ending"),
        ("b.txt", [".png", ".svg"], "ends in one of .png, .svg, got .txt"),
    ],
)
def test_paths_that_nothing_can_be_written_to(tmp_path, name, endings, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match=message) as caught:
        output_path(tmp_path / name, endings=endings)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert output_path(str(tmp_path / "B.PNG"), endings=[".png"]) == tmp_path / "B.PNG"


def test_a_write_that_fails_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "run.h5"
    path.write_bytes(b"old")

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_whole(path, b"new")
    assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == ["run.h5"]
    assert path.read_bytes() == b"old"
    with pytest.raises(FileNotFoundError) as caught:
        write_whole(tmp_path / "no" / "run.h5", b"new")
    assert caught.value.filename == str(tmp_path / "no" / "run.h5")
