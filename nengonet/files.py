"""One guard for every reader of files from anywhere.

A file that is damaged, or made to do harm, raises one `InputError`. No other file is read through
it, and its arrays may not take more memory than its size makes likely.
"""

from __future__ import annotations

import contextlib
import io
import math
import mmap
import os
import pathlib
import struct
import uuid
import zipfile
import zlib
from collections.abc import Collection, Iterator
from typing import Any

import h5py
import numpy as np

from nengonet.checks import described
from nengonet.exceptions import InputError

# The memory that all arrays of a file may take: weights and images compress less than 100 to 1,
# but a few arrays of zeros more than 1000 to 1.
_EXPANSION = 100
_ALWAYS_ALLOWED = 64 * 2**20  # bytes
_DEFLATE = 1032  # the most to 1 that gzip compresses
_OF_A_CHUNK = 1000  # bytes that HDF5 takes for each, whatever it holds

# No model has as many arrays; links that form a net have more paths than could be walked.
_MAX_NAMES = 20_000
_MAX_DEPTH = 64

_HEAP = b"GCOL\x01\x00\x00\x00"


def printable(text: Any) -> str:
    """Return text in which characters that could control a terminal are written as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def as_path(name: str, path: str | os.PathLike, what: str = "file") -> pathlib.Path:
    """Convert the name of a file or folder, given as text or as a path, to a path."""
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(text, str) or not text or "\0" in text:
        raise InputError(f"{name}: expected the name of a {what}, got {described(path)}")
    return pathlib.Path(text)


def output_path(
    path: str | os.PathLike, what: str = "file", endings: Collection[str] = (), name: str = "path"
) -> pathlib.Path:
    """Return the path of a file to write, or refuse it before any work is done."""
    path = as_path(name, path)
    if endings and path.suffix.lower() not in endings:
        several = "one of " if len(endings) > 1 else ""
        raise InputError(
            f"{path}: expected the name of a {what} that ends in {several}{', '.join(endings)}, "
            f"got {path.suffix or 'no ending'}"
        )
    if path.is_dir():
        raise InputError(f"{path}: expected the name of a {what}, got a folder")
    if not path.parent.is_dir():
        raise InputError(
            f"{path}: expected a {what} in a folder that exists, but the folder {path.parent} does "
            "not exist; create it first"
        )
    return path


def write_whole(
    path: pathlib.Path, content: bytes | memoryview, temporary: pathlib.Path | None = None
) -> None:
    """Write a file whole or not at all: to a temporary file beside it, which is then renamed.

    An `OSError` names the file that the caller knows.
    """
    temporary = temporary or path.with_name(f".{uuid.uuid4().hex}.writing")
    try:
        _write_whole(path, content, temporary)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _write_whole(path: pathlib.Path, content: bytes | memoryview, temporary: pathlib.Path) -> None:
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        with contextlib.suppress(OSError):  # not every system can sync a folder
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def reading(path: str | os.PathLike, expected: str) -> Iterator[None]:
    """Turn any error that reading a file raises into one `InputError` with its path."""
    try:
        yield
    except InputError as error:
        message = printable(error)
        prefix = "" if message.startswith(printable(path)) else f"{printable(path)}: "
        raise InputError(prefix + message) from error.__cause__
    except FileNotFoundError as error:
        raise InputError(f"{printable(path)}: no such file") from error
    except Exception as error:
        text = printable(" ".join(str(error).split()))[:200]
        what = "truncated" if "truncated file" in text else "damaged or truncated"
        problem = f"a {what} file ({type(error).__name__}{text and f': {text}'})"
        if isinstance(error, OSError) and error.errno and error.strerror:
            problem = f"a file that cannot be read ({error.strerror})"
        elif isinstance(error, MemoryError):
            problem = "a file that needs more memory than there is"
        raise InputError(f"{printable(path)}: expected {expected}, got {problem}") from error


class Allowance:
    """Count the bytes that a file's arrays take, and refuse more than a file of its size can hold.

    They may take ``expansion`` times the size of the file.
    """

    def __init__(self, size: int, expansion: int = _EXPANSION) -> None:
        self.size = size
        self.left = max(_ALWAYS_ALLOWED, expansion * size)

    def take(self, n_bytes: int, name: str) -> None:
        """Count the bytes of one more array."""
        self.left -= n_bytes
        if self.left < 0:
            raise InputError(
                f"{name}: damaged file (its arrays take more than {_ALWAYS_ALLOWED >> 20} MB, and "
                f"more than {_EXPANSION} times its {self.size} bytes)"
            )


class Hdf5(contextlib.AbstractContextManager):
    """An HDF5 file, guarded so that nothing harmful is read.

    Links within the file are followed. Links to other files, virtual datasets and external storage
    are refused, wherever they are met. An array is read once, whatever its number of names.
    """

    def __init__(
        self, content: io.BufferedReader | bytes, allowance: Allowance | None = None
    ) -> None:
        if isinstance(content, bytes):
            _check_heaps(content)
            content = io.BytesIO(content)
        else:
            with mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                _check_heaps(mapped)
        self.head = content.read(8)
        self.root = h5py.File(content, "r")
        self.size = self.root.id.get_filesize()
        self._allowance = allowance or Allowance(self.size)
        self._arrays: dict[int, np.ndarray | None] = {}
        self._n_names = 0

    def __exit__(self, *_) -> None:
        self.root.close()

    def get(self, key: str, group: h5py.Group | None = None, _depth: int = 0):
        """Return an object below a group (by default the root), or None."""
        self._n_names += 1
        if self._n_names > _MAX_NAMES:
            raise InputError(f"damaged file (it has more than {_MAX_NAMES} names)")
        found = self.root if group is None else group
        for part in (part for part in key.split("/") if part not in ("", ".")):
            if not isinstance(found, h5py.Group):
                return None
            link = found.get(part, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise InputError(f"{key}: a link into another file is not followed")
            if isinstance(link, h5py.SoftLink):
                if _depth >= _MAX_DEPTH:
                    raise InputError(f"{key}: damaged file (links lead in a circle)")
                start = self.root if link.path.startswith("/") else found
                found = self.get(link.path, start, _depth + 1)
            else:
                found = None if link is None else found[part]
        return found

    def children(self, group: h5py.Group | None = None) -> Iterator[tuple[str, Any]]:
        """Yield (name, object) for what a group (by default the root) holds."""
        group = self.root if group is None else group
        for key in group:
            yield key, self.get(key, group)

    def walk(
        self, group: h5py.Group | None = None, prefix: str = "", _depth: int = 0
    ) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
        """Yield (path, object) for everything below a group (by default the root)."""
        if _depth > _MAX_DEPTH:
            raise InputError("damaged file (its groups lead in a circle, or too deep)")
        for key, item in self.children(group):
            if isinstance(item, (h5py.Group, h5py.Dataset)):
                yield prefix + key, item
            if isinstance(item, h5py.Group):
                yield from self.walk(item, f"{prefix}{key}/", _depth + 1)

    def datasets(self, group: h5py.Group | None = None) -> Iterator[tuple[str, h5py.Dataset]]:
        """Yield (path, dataset) for every dataset below a group (by default the root)."""
        return ((path, item) for path, item in self.walk(group) if isinstance(item, h5py.Dataset))

    def array(self, dataset: h5py.Dataset) -> np.ndarray | None:
        """Return the values of a dataset, read-only; None for text, a table, or no values."""
        place = address(dataset)
        if place not in self._arrays:
            self._arrays[place] = self._read(dataset)
        return self._arrays[place]

    def numbers(self, dataset: h5py.Dataset) -> np.ndarray | None:
        """Return the values of a dataset, read-only; None where they are not numbers."""
        array = self.array(dataset)
        return None if array is None or array.dtype.kind == "b" else array

    def _read(self, dataset: h5py.Dataset) -> np.ndarray | None:
        """Return the values of a dataset after checking all that its header claims."""
        name = dataset.name
        _check_own(dataset)
        if dataset.shape is None or dataset.dtype.kind in "OSU" or dataset.dtype.names:
            return None
        bfloat16 = dataset.dtype == "V2"
        if dataset.dtype.kind not in "fiub" and not bfloat16:
            raise InputError(f"{name}: expected numbers, got values of type {dataset.dtype}")
        n_bytes = dataset.nbytes
        if dataset.chunks is None and n_bytes > self.size:
            raise InputError(
                f"{name}: damaged file (an array of {n_bytes} bytes in a file of {self.size})"
            )
        _check_filters(dataset)
        per_chunk = zip(dataset.shape, dataset.chunks or (), strict=False)
        n_chunks = math.prod(-(-size // chunk) for size, chunk in per_chunk)
        self._allowance.take(n_bytes + _OF_A_CHUNK * n_chunks, name)
        values = np.asarray(dataset[()])
        if bfloat16:  # the upper half of a float32
            values = (values.view("<u2").astype(np.uint32) << 16).view(np.float32)
        values.setflags(write=False)
        return values

    def texts(self, dataset: h5py.Dataset) -> list[str]:
        """Return the text of a dataset, element by element; none where it holds no text."""
        _check_own(dataset)
        if dataset.shape is None or h5py.check_string_dtype(dataset.dtype) is None:
            return []
        n_texts, too_large = math.prod(dataset.shape), dataset.nbytes > self.size
        if n_texts > _MAX_NAMES or (dataset.chunks is None and too_large):
            raise InputError(f"{dataset.name}: damaged file ({n_texts} texts)")
        _check_filters(dataset)
        self._allowance.take(dataset.nbytes, dataset.name)
        found = []
        for place in np.ndindex(dataset.shape):  # several may be one long text of the file
            found.append(bytes(dataset[place]))
            self._allowance.take(len(found[-1]), dataset.name)
        return [text.decode(errors="replace") for text in found]

    def attribute(self, name: str, item: h5py.HLObject | None = None, default: Any = None):
        """Return text or numbers from an attribute of an object (by default the root)."""
        item = self.root if item is None else item
        if name not in item.attrs:
            return default
        # On the types and sizes of damaged headers h5py hangs or crashes.
        attribute = item.attrs.get_id(name)
        kind = attribute.get_type()
        size = math.prod(attribute.shape or ()) * kind.get_size()
        text_or_number = kind.get_class() in (h5py.h5t.STRING, h5py.h5t.INTEGER, h5py.h5t.FLOAT)
        if not text_or_number or size > self.size:
            raise InputError(f"damaged file (attribute {name} of {item.name})")
        value = item.attrs[name]
        return value.decode() if isinstance(value, bytes) else value


def _check_own(dataset: h5py.Dataset) -> None:
    """Refuse values in other files, in which even the shape of a virtual dataset may be stored."""
    if dataset.is_virtual or dataset.external:
        raise InputError(
            f"{dataset.name}: values in another file are not read (virtual or external)"
        )


def address(item: h5py.HLObject) -> int:
    """Return where the header of an object lies in its file."""
    # The newer h5o.get_info measures indexes as well, and crashes on damaged ones.
    low, high = h5py.h5g.get_objinfo(item.id).objno
    return low | high << 32


def _check_filters(dataset: h5py.Dataset) -> None:
    """Name a compression that this h5py cannot undo; refuse chunks that unpack to too much."""
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(i) for i in range(plist.get_nfilters())]
    for code, _, _, name in filters:
        if not h5py.h5z.filter_avail(code):
            label = name.decode(errors="replace").split(";")[0].strip() or "an unknown filter"
            raise InputError(
                f"{dataset.name}: compressed with {label} (HDF5 filter {code}), which is not "
                "installed; import the package hdf5plugin first, or rewrite the file with gzip"
            )
    n_deflate = [code for code, *_ in filters].count(h5py.h5z.FILTER_DEFLATE)
    if n_deflate > 1:
        raise InputError(f"{dataset.name}: damaged file (it is compressed {n_deflate} times)")
    if not n_deflate:
        return
    # Twice, because a checksum and the like may be compressed with the values.
    n_bytes = 2 * math.prod(dataset.chunks) * dataset.dtype.itemsize + 1024
    chunks = []
    dataset.id.chunk_iter(lambda chunk: chunks.append((chunk.size, chunk.chunk_offset)))
    for size, offset in chunks:
        if size * _DEFLATE > _ALWAYS_ALLOWED:  # HDF5 would unpack it before it looks at the length
            content = dataset.id.read_direct_chunk(offset)[1]
            if len(zlib.decompressobj().decompress(content, n_bytes + 1)) > n_bytes:
                raise InputError(
                    f"{dataset.name}: damaged file (a chunk has more than {n_bytes} bytes)"
                )


def _check_heaps(content) -> None:
    """Refuse damaged global heaps, where HDF5 keeps text: the HDF5 library loops forever on them.

    ``content`` is bytes or a memory map. A heap is ``GCOL``, a version, its size, then objects:
    index, count, padding, size, and data in steps of 8 bytes; object 0 is the free rest.
    """
    start = content.find(_HEAP)
    while start >= 0:
        place, size = start + 16, struct.unpack_from("<Q", content, start + 8)[0]
        end = start + size
        if end > len(content):
            raise InputError(f"damaged or truncated file (the text at byte {start} is cut short)")
        while place + 16 <= end:
            index, length = struct.unpack_from("<H6xQ", content, place)
            step = 16 + (length + 7) // 8 * 8 if index else length
            if not 0 < step <= end - place:
                raise InputError(f"damaged file (the text at byte {place} has no end)")
            place += step
        start = content.find(_HEAP, start + 8)


class Archive(zipfile.ZipFile):
    """A zip archive, guarded so that nothing harmful is read: arrays of an ``.npz``, or bytes."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        super().__init__(stream)
        self.allowance = Allowance(stream.seek(0, os.SEEK_END))
        self.names = self.namelist()

    def read(self, name: str) -> bytes:
        """Return the content of a member."""
        size = self.getinfo(name).file_size
        self.allowance.take(size, name)
        content = super().read(name)
        if len(content) != size:
            raise InputError(f"{name}: damaged file ({len(content)} bytes in place of {size})")
        return content

    def array(self, key: str) -> np.ndarray:
        """Return the array that NumPy saved as ``key``."""
        stream = io.BytesIO(self.read(f"{key}.npy" if f"{key}.npy" in self.names else key))
        try:
            array = np.lib.format.read_array(stream, allow_pickle=False)
        except (ValueError, MemoryError) as error:
            found = f"other data ({str(error)[:100]})"
            raise InputError(f"{key}: expected an array of numbers, got {found}") from None
        if stream.read(1):
            raise InputError(f"{key}: damaged file (it has more bytes than its array)")
        return array


def open_binary(path: str | os.PathLike) -> io.BufferedReader:
    """Open a file for reading; a folder is refused by name."""
    path = pathlib.Path(path)
    if path.is_dir():
        raise InputError("expected a file, got a folder")
    return path.open("rb")


@contextlib.contextmanager
def opened(path: str | os.PathLike, expected: str) -> Iterator[Hdf5 | Archive | io.BufferedReader]:
    """Open a file as HDF5 or as a zip archive if its content is one; `reading` guards it."""
    with reading(path, expected), open_binary(path) as content:
        head = content.peek(8)
        if head.startswith(b"PK\x03\x04"):
            content = Archive(content)
        elif head.startswith(b"\x89HDF\r\n\x1a\n") or h5py.is_hdf5(path):
            content = Hdf5(content)
        with content:
            yield content
