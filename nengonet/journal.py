"""A file that grows while a run goes on, and survives a kill at any moment.

A journal is a first line that tells its kind, then records with a length and a checksum. The first
record says what the run depends on; each of the others holds something finished. A process killed
in the middle of a write leaves a record that is not whole, and loses that one.
"""

from __future__ import annotations

import json
import os
import pathlib
import struct
import zlib
from collections.abc import Iterator
from typing import Generic, TypeVar

from nengonet.exceptions import InputError

_HEADER = struct.Struct("<II")  # length, CRC-32
Record = TypeVar("Record")


class Journal(Generic[Record]):
    """What a run has finished so far, one record after the other.

    A kind of journal states ``magic`` (its first line), ``holds`` (the words of its messages),
    ``advice`` (what to do with a file that does not fit), `encode` and `decode`.

    Parameters
    ----------
    path : path_like
    fingerprint : dict of str
        What the run depends on. The journal of another run is refused, with the first entry that
        differs.
    """

    magic: bytes
    holds: str
    advice: str

    def __init__(self, path: str | os.PathLike, fingerprint: dict[str, str]) -> None:
        self.path = pathlib.Path(path)
        self.fingerprint = fingerprint

    @staticmethod
    def encode(record: Record) -> bytes:
        """Return a record as bytes."""
        raise NotImplementedError

    @staticmethod
    def decode(payload: bytes) -> Record:
        """Return the record that `encode` made bytes of."""
        raise NotImplementedError

    def read(self) -> Iterator[Record]:
        """Yield the records, and cut off one that was not written whole.

        Raises
        ------
        InputError
            The journal belongs to another run, or is no journal of this kind.
        """
        if not self.path.exists():
            return
        with self.path.open("rb+") as file:
            first = file.read(len(self.magic))
            if not self.magic.startswith(first):
                raise InputError(
                    f"{self.path}: expected the journal of an {self.holds}, found another file; "
                    "give another name, or delete it"
                )
            whole = file.tell()
            for payload in _payloads(file):
                if whole == len(self.magic):
                    self._check(json.loads(payload))
                else:
                    yield self.decode(payload)
                whole = file.tell()
            file.truncate(whole)

    def _check(self, found: dict[str, str]) -> None:
        for name, value in self.fingerprint.items():
            if found.get(name) != value:
                raise InputError(
                    f"{self.path}: the {self.holds} has another {name}: expected {value}, "
                    f"found {found.get(name)}; {self.advice}"
                )

    def start(self) -> None:
        """Begin an empty journal, or go on with the one that is there."""
        if not self.path.exists() or self.path.stat().st_size <= len(self.magic):
            self.path.write_bytes(self.magic)
            self._append(json.dumps(self.fingerprint).encode())

    def append(self, record: Record) -> None:
        """Add something finished."""
        self._append(self.encode(record))

    def _append(self, payload: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(_HEADER.pack(len(payload), zlib.crc32(payload)) + payload)

    def delete(self) -> None:
        """Remove the journal."""
        self.path.unlink(missing_ok=True)


def _payloads(file) -> Iterator[bytes]:
    while len(header := file.read(_HEADER.size)) == _HEADER.size:
        length, checksum = _HEADER.unpack(header)
        payload = file.read(length)
        if len(payload) < length or zlib.crc32(payload) != checksum:
            return
        yield payload


def checked_file(save: str | os.PathLike, resume: bool) -> pathlib.Path:
    """Check that a run can write its file, and the ``.partial`` beside it.

    Parameters
    ----------
    save : path_like
    resume : bool
        They may be there already.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    InputError
        The folder does not exist, the name is a folder's, or one of the two files is there and
        ``resume`` is not given.
    """
    save = pathlib.Path(save)
    if not save.parent.is_dir():
        raise InputError(f"{save}: the folder {save.parent} does not exist")
    if save.is_dir():
        raise InputError(f"{save}: expected the name of a file, found a folder")
    partial = save.with_name(save.name + ".partial")
    for path in (save, partial):
        if path.exists() and not resume:
            raise InputError(f"{path} is there already: go on with it (resume), or delete it")
    return save
