"""A file that grows during a run, and survives a kill or a power cut at any moment.

A journal is a first line that states its kind, then records with a length and a checksum. The first
record states what the run depends on; each of the others holds finished work. A process killed in
the middle of a write leaves an incomplete record, and loses only that one. The writer holds a lock
of the operating system, which ends with the process, however that ends.

SQLite was tried instead. It has no checksums, and silently returned wrong data for 98 of 134
flipped bits; a cut or zeroed end lost all records instead of the last.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import pathlib
import struct
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from nengonet.exceptions import InputError
from nengonet.files import output_path, printable

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    fcntl = None

_HEADER = struct.Struct("<QI")  # length of the payload, and its CRC-32
_SEED = 1  # start of the CRC-32, so that a tail of zeros is not a row of empty records
_SYNC_EVERY = 1.0  # seconds of work that a power cut may lose
_LOCKED_BYTE = 2**31 - 2  # Windows locks a byte, which nobody can then read


class Journal:
    """The finished work of a run, one record after the other; a context that locks the file.

    A record is a dict of arrays and JSON values. Each kind of journal states two texts for
    messages: what it ``holds``, and the ``advice`` for a file that does not fit. Without a
    fingerprint, any file of the kind is read.
    """

    holds: str
    advice: str

    def __init__(self, path: str | os.PathLike, fingerprint: dict[str, str] | None) -> None:
        self.path, self.fingerprint = pathlib.Path(path), fingerprint
        self._start, self._whole, self._synced = 0, 0, 0.0

    def __enter__(self) -> Journal:
        try:
            self._file = _locked(self.path)
        except BlockingIOError:
            raise InputError(
                f"{self.path}: another run is writing this file; wait until it has ended, or save "
                "to another file"
            ) from None
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written ({error.strerror}); save elsewhere"
            ) from None
        with contextlib.ExitStack() as failing:
            failing.callback(self._file.close)
            if os.fstat(self._file.fileno()).st_size == 0:
                failing.callback(self.delete)
            self._begin()
            failing.pop_all()
        return self

    def __exit__(self, kind: type | None, *raised: object) -> None:
        ignored = [OSError] if kind else []
        with contextlib.closing(self._file) as file, contextlib.suppress(*ignored):
            if not file.closed:  # `delete` closes it
                if os.fstat(file.fileno()).st_size <= self._start:
                    self.delete()
                else:
                    self._sync()

    def _begin(self) -> None:
        """Read the first line and the fingerprint, or write them."""
        magic = f"nengonet {self.holds} 5\n".encode()
        if not magic.startswith(self._file.read(len(magic))):
            raise InputError(
                f"{self.path}: expected the file of an {self.holds} that this version of nengonet "
                "wrote, got another file; give another name, or delete the file"
            )
        payload = next(_payloads(self._file), None)
        if payload is None:  # new, or killed before it had begun
            self._write(magic)
            self.append(self.fingerprint or {})
        elif self.fingerprint is not None:
            with self._holding_a_part():
                found = dict(_decoded(payload))
            name = f"{self.path}: the {self.holds}"
            check_fingerprint(name, self.fingerprint, found, self.advice)
        self._start = self._whole = self._file.tell()

    def replay(self, take: Callable[[dict], object]) -> None:
        """Pass every record to a function; `append` overwrites an incomplete one."""
        for payload in _payloads(self._file):
            with self._holding_a_part():
                take(_decoded(payload))
            self._whole = self._file.tell()

    @contextlib.contextmanager
    def _holding_a_part(self) -> Iterator[None]:
        """Refuse a complete record that another kind of run wrote."""
        try:
            yield
        except Exception as error:
            raise InputError(
                f"{self.path}: a record does not belong to this {self.holds} "
                f"({printable(error)}); delete the file"
            ) from error

    def append(self, record: dict) -> None:
        """Add a record of finished work."""
        payload = _encoded(record)
        self._write(_HEADER.pack(len(payload), zlib.crc32(payload, _SEED)) + payload)

    def _write(self, data: bytes) -> None:
        """Write after the last complete record; if that fails, leave no trace."""
        try:
            self._file.truncate(self._whole)
            self._file.seek(self._whole)
            left = memoryview(data)
            while left:
                left = left[self._file.write(left) :]
            if time.monotonic() > self._synced + _SYNC_EVERY:
                self._sync()
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._whole)
            raise unwritable(self.path, error) from error
        self._whole += len(data)

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def delete(self) -> None:
        """Remove the file."""
        if os.name == "nt":  # there, an open file cannot be deleted
            self._file.close()
        self.path.unlink(missing_ok=True)


def _encoded(record: dict) -> bytes:
    """Return a line of JSON with the types and shapes of arrays, followed by their bytes."""
    arrays = {name: each for name, each in record.items() if isinstance(each, np.ndarray)}
    rest = {name: each for name, each in record.items() if name not in arrays}
    heads = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    line = json.dumps([rest, heads]).encode() + b"\n"
    return b"".join([line, *map(np.ascontiguousarray, arrays.values())])


def _decoded(payload: bytes) -> dict:
    """Return the record that `_encoded` turned into bytes."""
    start = payload.index(b"\n") + 1
    record, heads = json.loads(payload[:start])
    for name, kind, shape in heads:
        array = np.frombuffer(payload, kind, math.prod(shape), start).reshape(shape)
        record[name], start = array, start + array.nbytes
    return record


def _payloads(file: io.FileIO) -> Iterator[bytes]:
    """Yield the content of the records, up to the first incomplete one."""
    size = os.fstat(file.fileno()).st_size
    while len(header := file.read(_HEADER.size)) == _HEADER.size:
        length, checksum = _HEADER.unpack(header)
        if length > size - file.tell():
            return
        payload = bytearray()
        while part := file.read(length - len(payload)):  # the system reads 2 GB at once, or less
            payload += part
        if zlib.crc32(payload, _SEED) != checksum:
            return
        yield payload


def check_fingerprint(name: str, expected: dict, got: dict, advice: str) -> None:
    """Refuse another run; the message names the first difference."""
    for each in {**expected, **got}:
        wanted, found = (one.get(each) or "none" for one in (expected, got))
        if wanted != found:
            other = "other" if each.endswith("s") and each.isidentifier() else "another"
            difference = printable(f"{other} {each}: expected {wanted}, got {found}")
            raise InputError(f"{name} has {difference}; {advice}")


def checked_file(save: str | os.PathLike, resume: bool, beside: Sequence[str] = ()) -> pathlib.Path:
    """Check that a run can write its file."""
    save = output_path(save, name="save")
    for path in (save, *(save.with_name(save.name + ending) for ending in beside)):
        if path.exists() and not resume:
            raise InputError(f"{path} already exists; pass resume=True to continue, or delete it")
    return save


def unwritable(path: pathlib.Path, error: OSError) -> OSError:
    """Return an error of the same kind that states what is left of a run."""
    return OSError(
        error.errno,
        f"{path}: {error.strerror or error}; finished work is kept: make the file writable, and "
        "resume",
    )


def _locked(path: pathlib.Path) -> io.FileIO:
    """Open a file for reading and writing, and lock it until it is closed."""
    while True:
        file = path.open("r+b" if path.exists() else "x+b", buffering=0)
        try:
            _lock(file)
            # The former holder may have deleted the file, and another process made a new one.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _lock(file: io.FileIO) -> None:
    try:
        if fcntl is None:
            file.seek(_LOCKED_BYTE)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(0)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            raise BlockingIOError from None
        warnings.warn(
            f"{file.name}: this file system has no locks ({error.strerror}): make sure that no "
            "other process writes the same file",
            stacklevel=2,
        )
