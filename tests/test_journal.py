"""Files that survive kills, power cuts, full disks and second writers."""

import os
import resource
import signal
import subprocess
import sys
import zlib

import numpy as np
import pytest

import nengonet as nn
from nengonet.results import journal as journals
from nengonet.results.journal import Journal


class Numbers(Journal):
    holds = "earlier count"
    advice = "count anew"


MAGIC = b"nengonet earlier count 5\n"


def read(path, fingerprint=None):
    found = []
    with Numbers(path, fingerprint) as journal:
        journal.replay(lambda record: found.append(int(record["n"])))
    return found


@pytest.fixture
def file(tmp_path):
    """Return a journal of 1, 22, 333, … that depends on x."""
    with Numbers(tmp_path / "numbers", {"x": "1"}) as journal:
        for n in range(1, 6):
            journal.append({"n": int(str(n) * n)})
    return journal.path


def test_what_was_appended_is_read(file):
    assert read(file, {"x": "1"}) == [1, 22, 333, 4444, 55555]
    with Numbers(file, {"x": "1"}) as journal:
        journal.replay(lambda _: None)
        journal.append({"n": 7})
    assert read(file)[-2:] == [55555, 7]


@pytest.mark.parametrize(
    "fingerprint, message",
    [
        ({"x": "2"}, "earlier count has another x: expected 2, got 1; count anew"),
        ({}, "another x: expected none, got 1"),
        ({"x": "1", "y": "3"}, "another y: expected 3, got none"),
    ],
)
def test_another_run_is_refused(file, fingerprint, message):
    before = file.read_bytes()
    with pytest.raises(nn.InputError, match=message):
        read(file, fingerprint)
    assert file.read_bytes() == before


def test_every_cut_and_every_tail_of_zeros_leaves_what_is_whole(file, monkeypatch):
    """After a power cut, a file may have its full length without its last bytes."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    whole, expected = file.read_bytes(), read(file)
    for length in range(len(MAGIC), len(whole)):
        for tail in (b"", bytes(len(whole) - length), bytes(4096)):
            file.write_bytes(whole[:length] + tail)
            found = read(file, {"x": "1"})
            assert found == expected[: len(found)]
            with Numbers(file, {"x": "1"}) as journal:
                journal.replay(lambda _: None)
                journal.append({"n": 7})
            assert read(file) == [*found, 7]


def test_every_flipped_byte_is_seen(file):
    whole, expected = file.read_bytes(), read(file)
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            found = read(file, {"x": "1"})
        except nn.InputError:
            assert at < len(MAGIC)
        else:
            assert found == expected[: len(found)]
            assert len(found) < len(expected)


def test_arrays_are_kept_as_they_are(file):
    arrays = {
        "counts": np.arange(12, dtype=">i2").reshape(3, 4).T,
        "none": np.zeros((0, 3), np.float32),
        "line\n": np.array(np.nan),
    }
    with Numbers(file, None) as journal:
        journal.replay(lambda _: None)
        journal.append({"n": 7, "list": [1.5, None]} | arrays)
    records = []
    with Numbers(file, None) as journal:
        journal.replay(records.append)
    assert records[-1]["list"] == [1.5, None]
    for name, array in arrays.items():
        np.testing.assert_array_equal(records[-1][name], array)
        assert records[-1][name].dtype == array.dtype


def test_nothing_behind_a_broken_record_is_read_again(file):
    file.write_bytes(file.read_bytes().replace(b"333", b"334"))
    with Numbers(file, {"x": "1"}) as journal:
        journal.replay(lambda _: None)
        journal.append({"n": 999})  # as long as the broken one
    assert read(file) == [1, 22, 999]


OBJECTS = b'[{}, [["n", "O", [1]]]]\n' + bytes(8)


@pytest.mark.parametrize(
    "payload", [b"", b"null", b'"x"', b"[" * 99999, b"\xff\xff", b"[{}, []]\nmore", OBJECTS]
)
def test_a_record_of_something_else_is_refused(file, payload):
    with Numbers(file, None) as journal:
        journal.replay(lambda _: None)
        journal._write(journals._HEADER.pack(len(payload), zlib.crc32(payload, 1)) + payload)
    with pytest.raises(
        nn.InputError, match="a record does not belong to this earlier count .*delete"
    ):
        read(file)


def test_a_length_beyond_the_file_reads_nothing(file):
    whole = file.read_bytes()
    for length in (2**63, 2**40, 10**6):
        file.write_bytes(whole + journals._HEADER.pack(length, 0) + b"rest")
        assert read(file) == [1, 22, 333, 4444, 55555]


def test_a_second_writer_is_refused_while_the_first_lives(file):
    with Numbers(file, None) as first:
        first.replay(lambda _: None)
        with pytest.raises(nn.InputError, match="another run is writing this file; wait"):
            read(file)
        first.append({"n": 7})
    assert read(file)[-1] == 7


_FIRST = """
import sys
sys.path.insert(0, {folder!r})
from test_journal import Numbers
with Numbers({file!r}, {{"x": "1"}}) as journal:
    journal.replay(lambda _: None)
    journal.append({{"n": 7}})
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, None])
def test_a_lock_ends_with_its_process(file, end):
    code = _FIRST.format(folder=os.path.dirname(__file__), file=str(file))
    first = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout.readline() == "locked\n"
    before = file.read_bytes()
    with pytest.raises(nn.InputError, match="another run is writing this file"):
        read(file)
    assert file.read_bytes() == before
    if end:
        first.send_signal(end)
    first.communicate()
    assert read(file)[-1] == 7


def test_a_file_deleted_and_made_anew_while_waiting_is_the_one_that_is_locked(file, monkeypatch):
    lock, calls = journals._lock, []

    def slow(opened):
        if not calls:
            calls.append(1)
            file.unlink()
            file.write_bytes(b"")
        lock(opened)

    monkeypatch.setattr(journals, "_lock", slow)
    with Numbers(file, {"x": "2"}) as journal:
        journal.append({"n": 1})
    assert read(file, {"x": "2"}) == [1]


def test_without_locks_it_warns(file, monkeypatch):
    def none(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(journals.fcntl, "flock", none)
    with pytest.warns(UserWarning, match="this file system has no locks"):
        assert len(read(file)) == 5


def test_a_full_disk_leaves_what_is_finished(file):
    """A limit on a file's size makes a write fail in its middle, as a full disk does."""
    size = file.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Numbers(file, None) as journal:
        journal.replay(lambda _: None)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))
        try:
            with pytest.raises(OSError, match="finished work is kept: .* and resume"):
                journal.append({"n": 10**30})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert file.stat().st_size == size
        journal.append({"n": 6})
    assert read(file) == [1, 22, 333, 4444, 55555, 6]


@pytest.mark.parametrize("failed", [False, True])
def test_what_holds_nothing_is_deleted(tmp_path, failed):
    path = tmp_path / "numbers"
    try:
        with Numbers(path, {}):
            assert path.exists()
            if failed:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert not path.exists()


def test_an_interrupt_while_a_file_begins_leaves_no_file(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Numbers, "append", interrupted)
    with pytest.raises(KeyboardInterrupt), Numbers(tmp_path / "numbers", {}):
        pass
    assert not (tmp_path / "numbers").exists()


def test_what_was_not_read_is_not_deleted(file):
    before = file.read_bytes()
    with pytest.raises(KeyboardInterrupt), Numbers(file, None):
        raise KeyboardInterrupt
    assert file.read_bytes() == before


def test_finished_records_reach_the_disk(file, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr(journals, "_SYNC_EVERY", 0.0)
    with Numbers(file, None) as journal:
        journal.replay(lambda _: None)
        for n in range(3):
            journal.append({"n": n})
    assert len(synced) == 4


def test_what_cannot_be_written_is_told_at_once(tmp_path):
    for name in ("x" * 300, "no/such"):
        with pytest.raises(nn.InputError, match="cannot be written"):
            read(tmp_path / name)
    (tmp_path / "other").write_text("something else")
    with pytest.raises(
        nn.InputError, match="expected the file of an earlier count .*, got another"
    ):
        read(tmp_path / "other")
