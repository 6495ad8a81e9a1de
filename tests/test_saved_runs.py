"""Saved runs and studies: finished parts are kept, and only an equal run resumes them."""

import contextlib
import errno
import io
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import h5py
import nengo
import numpy as np
import pytest
from click.testing import CliRunner

import nengonet as nn
from nengonet import datasets, studies
from nengonet.cli import main
from nengonet.results.journal import _decoded, _payloads
from nengonet.run import presentation
from nengonet.run.presentation import RunJournal
from nengonet.run.runner import Runner
from nengonet.studies import case
from nengonet.studies.engine import in_folder

IMAGES = np.random.default_rng(0).random((6, 4))
LAYER = {"max_rates": 200.0, "synapse": None}


def build(labels=("hidden", "output"), change=None):
    """Return a small network and its last layer; ``change`` edits it."""
    with nengo.Network(seed=1) as net:
        pixels = nn.poisson_input((np.int64(2), 2), label=labels[2] if len(labels) > 2 else "input")
        hidden = nn.dense(pixels, np.eye(4), nengo.LIF(), label=labels[0], **LAYER)
        output = nn.dense(hidden, np.eye(4), nengo.LIF(), label=labels[1], **LAYER)
        if change:
            change(hidden, output)
    return net, output


def run(file, network=None, **settings):
    net, output = network or build()
    settings = {"presentation_time": 0.02, "minibatch_size": 2, "progress": False} | settings
    return nn.present(net, output, settings.pop("images", IMAGES), save=file, **settings)


def same(one, two):
    for kind in ("spikes", "operations", "counts", "means", "rasters"):
        ones, twos = getattr(one, kind), getattr(two, kind)
        assert list(ones) == list(twos)
        for label in ones:
            np.testing.assert_array_equal(ones[label], twos[label])
    np.testing.assert_array_equal(one.examples, two.examples)
    np.testing.assert_array_equal(one.steps, two.steps)
    assert one.layers == two.layers


@pytest.fixture
def partial(tmp_path, monkeypatch):
    """Return the journal of a run that was stopped after 4 of 6 images."""
    finished = Runner._arrays
    calls = []

    def stopping(*arguments):
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return finished(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Runner, "_arrays", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run.h5")
    return tmp_path / "run.h5.partial"


@pytest.fixture
def file(tmp_path):
    run(tmp_path / "run.h5")
    return tmp_path / "run.h5"


# What a run depends on.


def driven(value):
    def change(hidden, _):
        node = nengo.Node(lambda t: [value] * 4)
        nengo.Connection(node, hidden.ensemble.neurons)

    return change


def biased(hidden, _):
    hidden.ensemble.bias = np.array([1, 1, 1.0000001, 1])


@pytest.mark.parametrize("before, after", [(driven(0.1), driven(0.2)), (None, biased)])
def test_a_run_of_another_network_is_not_resumed(tmp_path, before, after):
    """`test_content` defines what counts as another network."""
    run(tmp_path / "run.h5", build(change=before))
    run(tmp_path / "run.h5", build(change=before), resume=True)
    with pytest.raises(nn.InputError, match="has another network: expected .*, got .*; give the"):
        run(tmp_path / "run.h5", build(change=after), resume=True)


def test_a_network_without_content_to_compare_runs_but_is_not_saved(tmp_path):
    stream = io.TextIOWrapper(io.BytesIO())

    def logging(hidden, _):
        log = nn.minibatch.stateless(lambda t: [stream.write(str(t))] * 4)
        node = nengo.Node(log, label="logger")
        nengo.Connection(node, hidden.ensemble.neurons)

    network = build(change=logging)
    assert run(None, network).n_images == 6
    with pytest.raises(
        nn.InputError, match="network: <Node 'logger'>: output: stream: expected content"
    ):
        run(tmp_path / "run.h5", network)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("of", ["file", "partial"])
def test_another_version_is_refused(of, request, monkeypatch):
    path = request.getfixturevalue(of)
    found = presentation.versions() | {"nengonet": "9.9"}
    monkeypatch.setattr(presentation, "versions", lambda: found)
    with pytest.raises(nn.InputError, match="has another nengonet: expected 9.9, got"):
        run(path.parent / "run.h5", resume=True)
    assert path.exists()


@pytest.mark.parametrize("of", ["file", "partial"])
def test_another_readout_is_honoured(of, request):
    path = request.getfixturevalue(of).parent / "run.h5"
    resumed = run(path, resume=True, readout="first_spike")
    expected = run(None, readout="first_spike")
    assert resumed.settings["readout"] == "first_spike"
    np.testing.assert_array_equal(resumed.predictions(), expected.predictions())
    assert (resumed.predictions() != run(None).predictions()).any()


# Labels.

ODD = ["x/y", "/", "..", ".", " ", "a" * 70_000, "λ→∞", "\ud800", "a\0b", "a\nb", "#0", "x/"]


@pytest.mark.parametrize("label", ODD, ids=range(len(ODD)))
def test_any_label_is_saved(tmp_path, label):
    result = run(tmp_path / "run.h5", build(("x", "y", label)), rasters=[label])
    same(result, nn.load_result(tmp_path / "run.h5"))
    assert result.counts[label].sum() > 0


def test_labels_and_numbers_of_layers_do_not_meet(tmp_path):
    labels = ("#2", "#1", "1/#0")
    result = run(tmp_path / "run.h5", build(labels))
    same(result, nn.load_result(tmp_path / "run.h5"))


def test_a_network_of_many_labels_is_saved(tmp_path):
    """The labels together exceed HDF5's limit for an attribute."""
    labels = [f"{n}/{'x' * 5000}" for n in range(20)]
    with nengo.Network(seed=0) as net:
        output = nn.constant_input((2, 2))
        for label in labels:
            output = nn.dense(output, np.eye(4), nengo.LIF(), label=label, **nn.FORUM)
    result = run(tmp_path / "run.h5", (net, output), images=IMAGES[:2])
    same(result, nn.load_result(tmp_path / "run.h5"))


def test_numbers_of_numpy_are_saved(tmp_path):
    given = {"dt": np.float32(0.001), "seed": np.int64(3), "precision": np.int32(64)}
    result = run(tmp_path / "run.h5", **given)
    same(result, nn.load_result(tmp_path / "run.h5"))


# Two writers, and what is left behind.


def test_a_second_writer_is_refused(tmp_path, monkeypatch):
    finished, refused = Runner._arrays, []

    def meanwhile(*arguments):
        monkeypatch.setattr(Runner, "_arrays", finished)
        for resume in (False, True):
            with pytest.raises(nn.InputError, match="is writing this file|already exists") as found:
                run(tmp_path / "run.h5", resume=resume)
            refused.append(str(found.value))
        return finished(*arguments)

    monkeypatch.setattr(Runner, "_arrays", meanwhile)
    same(run(tmp_path / "run.h5"), run(None))
    assert "another run is writing this file" in refused[1]
    assert os.listdir(tmp_path) == ["run.h5"]


@pytest.mark.parametrize("order", [[1, 0], [0, 0], [1]])
def test_records_say_which_examples_they_hold(partial, order):
    """Two writers on a file system without locks may mix their records."""
    batches = []
    with RunJournal(partial, None) as journal:
        journal.replay(batches.append)
        fingerprint = _decoded(next(_records(partial)))
        journal.delete()
    with RunJournal(partial, fingerprint) as journal:
        for number in order:
            journal.append(batches[number])
    with pytest.raises(nn.InputError, match=r"expected the example \d of the run, got .*delete"):
        run(partial.with_suffix(""), resume=True)


def _records(path):
    with path.open("rb") as file:
        file.readline()
        yield from _payloads(file)


def test_nothing_of_the_users_is_touched_and_nothing_left(tmp_path):
    (tmp_path / "run.h5.tmp").write_text("mine")
    run(tmp_path / "run.h5")
    nn.load_result(tmp_path / "run.h5").save(tmp_path / "copy.h5")
    assert (tmp_path / "run.h5.tmp").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["copy.h5", "run.h5", "run.h5.tmp"]
    for ending in ("partial", "writing"):
        (tmp_path / f"other.h5.{ending}").write_text("mine")
        for resume in (False, True):
            with pytest.raises(nn.InputError, match=f"other.h5.{ending}.*(already|another file)"):
                run(tmp_path / "other.h5", resume=resume)
        assert (tmp_path / f"other.h5.{ending}").read_text() == "mine"
        (tmp_path / f"other.h5.{ending}").unlink()


def test_killed_in_the_last_moments(partial):
    """The run is killed while the result is written, and before the journal ends."""
    file = partial.with_suffix("")
    (partial.parent / "run.h5.writing").write_bytes(b"half")
    copy = partial.read_bytes()
    result = run(file, resume=True)
    same(result, run(None))
    assert os.listdir(partial.parent) == ["run.h5"]
    partial.write_bytes(copy)
    same(run(file, resume=True), result)
    assert os.listdir(partial.parent) == ["run.h5"]


def test_a_full_disk_at_the_end_is_told_and_resumed(partial, monkeypatch):
    opened, file = pathlib.Path.open, partial.with_suffix("")

    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(
            pathlib.Path,
            "open",
            lambda path, *given, **more: (
                Full() if path.suffix == ".writing" else opened(path, *given, **more)
            ),
        )
        with pytest.raises(
            OSError, match="run.h5: No space left .* is kept: .*, and resume"
        ) as told:
            run(file, resume=True)
    assert "\n" not in str(told.value)
    assert os.listdir(partial.parent) == ["run.h5.partial"]
    monkeypatch.setattr(presentation, "run_examples", lambda *_: iter(()))  # nothing is left to do
    same(run(file, resume=True), nn.load_result(file))
    assert os.listdir(partial.parent) == ["run.h5"]


# Damaged results.


def changed(raw, number, random):
    """Return the bytes of a result with one thing changed: in the file, or in its structure."""
    raw, at = bytearray(raw), random.randrange(len(raw))
    if number % 8 < 4:
        end = at + random.choice([1, 8, 200])
        new = [bytes(end - at), b"\xff" * (end - at), random.randbytes(end - at)]
        return [raw[:at], *(raw[:at] + each + raw[end:] for each in new)][number % 4]
    copy = io.BytesIO(raw)
    with h5py.File(copy, "a") as file:
        names = []
        file.visit(names.append)
        datasets = [name for name in names if isinstance(file[name], h5py.Dataset)]
        name = random.choice(datasets)
        values = file[name][()]
        del file[name]
        if number % 8 == 5:
            file[name] = values[: len(values) // 2]
        elif number % 8 == 6:
            file[name] = values[::-1].astype(random.choice([values.dtype, np.float64, np.int8]))
        elif number % 8 == 7:
            file[name] = random.choice(
                [h5py.SoftLink(f"/{name}"), h5py.ExternalLink("other.h5", "x"), np.float64(2), b"x"]
            )
    return copy.getvalue()


@pytest.mark.parametrize("number", range(64))
def test_a_damaged_result_is_refused(file, number):
    """It is refused, or reads as before, as not every byte of an HDF5 file has a meaning."""
    expected = nn.load_result(file)
    file.write_bytes(changed(file.read_bytes(), number, random.Random(number)))
    found, message = outcome(file)
    if message:
        assert message.startswith(f"{file}: ")
        assert "\n" not in message
    else:
        same(found, expected)


def outcome(file):
    try:
        return nn.load_result(file), ""
    except nn.InputError as error:
        return None, str(error)


def test_a_result_of_silence_is_not_too_small_for_its_arrays(tmp_path):
    """800 images of 100 steps of 1000 silent neurons: 160 MB of zeros in 0.2 MB."""
    with nengo.Network(seed=0) as net:
        pixels = nn.constant_input((2, 2))
        output = nn.dense(
            pixels, np.zeros((4, 1000)), nengo.LIF(), label="output", bias=0.0, **nn.FORUM
        )
    result = nn.present(net, output, IMAGES[:2], presentation_time=0.1, progress=False)
    steps = np.broadcast_to(result.steps[:1].astype(np.int16), (800, *result.steps.shape[1:]))
    many = {name: np.repeat(each[:1], 800, axis=0) for name, each in result.counts.items()}
    large = type(result)(result.layers, result.settings, np.arange(800), steps, counts=many)
    large.save(tmp_path / "run.h5")
    assert nn.load_result(tmp_path / "run.h5").steps.shape == (800, 100, 1000)


# Processes.

_CELLS = """
import os, pathlib, time
def busy(x, seed, folder):
    (pathlib.Path(folder) / f"{os.getpid()}.pid").touch()
    time.sleep(300)
"""
_PARENT = """
import sys
sys.path.insert(0, {0!r})
import nengonet as nn
from cells_that_last import busy
nn.sweep(busy, {{"x": [1, 2, 3]}}, constants={{"folder": {0!r}}}, n_jobs=2, progress=False)
"""


def lives(pid):
    stat = pathlib.Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.skipif(not os.path.exists("/proc"), reason="looks for processes in /proc")
def test_workers_end_with_a_killed_parent(tmp_path):
    (tmp_path / "cells_that_last.py").write_text(_CELLS)
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _PARENT.format(str(tmp_path))],
        stderr=subprocess.DEVNULL,
    )
    while len(pids := list(tmp_path.glob("*.pid"))) < 2 and parent.poll() is None:
        time.sleep(0.05)
    workers = [int(path.stem) for path in pids]
    assert len(workers) == 2
    assert all(map(lives, workers))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 150  # without a watch, 300 s
    while any(map(lives, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(lives, workers))


# Studies.


def test_no_folder_no_files():
    assert in_folder(None)("a") == {}


def test_each_run_has_its_file(tmp_path):
    saved = in_folder(tmp_path / "study")
    assert saved("a") == {"save": tmp_path / "study" / "a.h5", "resume": True}
    assert (tmp_path / "study").is_dir()
    in_folder(tmp_path / "study")  # an empty one is as good as none


def test_what_cannot_be_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(nn.InputError, match="file: expected a folder, .*, got a file"):
        in_folder(tmp_path / "file")
    with pytest.raises(nn.InputError, match="the folder .*no does not exist"):
        in_folder(tmp_path / "no" / "study")
    with pytest.raises(nn.InputError, match=r"expected an empty folder, got files; resume"):
        in_folder(tmp_path)
    in_folder(tmp_path, resume=True)


STUDIES = {
    "bengali": {"n_sweep": 0, "n_steps": 30},
    "cifar-csnn": {"neurons": ["relu"], "synapses": [0.005, 0.01], "n_seeds": 1},
}


@pytest.mark.parametrize("name", STUDIES)
def test_an_interrupted_study_goes_on(name, tmp_path, monkeypatch):
    """Images are noise. The third run is interrupted; the first two do not run again."""
    shape = (2, 28, 28) if name == "bengali" else (2, 32, 32, 3)
    images = np.random.default_rng(0).random(shape)
    monkeypatch.setattr(datasets, "load", lambda *_, **__: (images, np.zeros(2, dtype=int)))
    settings = STUDIES[name] | {"n_images": 2, "n_jobs": 1, "progress": False}
    reproduce, present, begun = studies.get(name).reproduce, case.present, []

    def interrupted(*arguments, **given):
        begun.append(given["save"])
        if len(begun) == 3:
            raise KeyboardInterrupt
        return present(*arguments, **given)

    monkeypatch.setattr(case, "present", interrupted)
    with contextlib.suppress(KeyboardInterrupt):
        reproduce(**settings, save=tmp_path / "study")
    written = {file: os.stat(file).st_mtime_ns for file in begun[:2]}
    assert [file.name for file in sorted((tmp_path / "study").iterdir())] == sorted(
        file.name for file in written
    )
    resumed = reproduce(**settings, save=tmp_path / "study", resume=True)
    assert {file: os.stat(file).st_mtime_ns for file in written} == written
    assert len(list((tmp_path / "study").iterdir())) == 3
    assert resumed.result.n_images == 2
    monkeypatch.setattr(case, "present", present)
    if name == "bengali":
        return  # its networks take seconds to build
    assert resumed.to_json() == reproduce(**settings).to_json()
    with pytest.raises(nn.InputError, match="another network"):
        reproduce(**settings, seed=5, save=tmp_path / "study", resume=True)


@pytest.mark.parametrize("name", STUDIES)
def test_resume_needs_a_folder(name):
    done = CliRunner().invoke(main, ["reproduce", name, "--resume"])
    assert done.exit_code == 2
    assert "--resume: expected --save" in done.stderr
