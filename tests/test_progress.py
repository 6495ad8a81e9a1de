"""Progress bars, and the progress that they show."""

import contextlib
import threading
from unittest import mock

import nengo
import numpy as np
import pytest

import nengonet as nn
from nengonet.run import presentation
from nengonet.run.progress import in_words, mover, numbered, progress_bar

N_STEPS = 30
IMAGES = np.random.default_rng(1).uniform(size=(7, 4, 4))


class Bar:
    """A bar that remembers where it was."""

    def __init__(self, n=0):
        self.n, self.seen = n, []

    def update(self, n=1):
        self.n += n
        self.seen.append(self.n)


def network(neuron_type=None, own=None):
    """Build two layers; what ``own`` computes between them runs in Python."""
    random = np.random.default_rng(2)
    with nengo.Network(seed=0) as made:
        pixels = nn.constant_input((4, 4))
        layer = nn.dense(
            pixels, random.uniform(0, 1, (16, 9)), neuron_type or nengo.LIF(), **nn.FORUM
        )
        if own is None:
            return made, nn.dense(layer, random.uniform(0, 1, (9, 3)), nengo.LIF(), **nn.FORUM)
        node = nengo.Node(own, size_in=9)
        nengo.Connection(layer.ensemble.neurons, node, synapse=None)
        return made, node


@pytest.fixture
def bars(monkeypatch):
    """The bars that `present` makes, by what it asked for."""
    made = []

    @contextlib.contextmanager
    def making(shown, usual, unit, n_done, total):
        bar = Bar(n_done)
        made.append((shown, total, bar))
        yield bar

    monkeypatch.setattr(presentation, "progress_bar", making)
    return made


def shown(bars, made, output, **settings):
    time = {"presentation_time": N_STEPS / 1000}
    nn.present(made, output, IMAGES, readout="mean", **time, **settings)
    _, total, bar = bars[-1]
    assert total == len(IMAGES)
    assert bar.seen == sorted(bar.seen)
    assert bar.seen[-1] == bar.n == len(IMAGES)
    return bar.seen


def test_a_bar_moves_by_parts_of_images(bars):
    seen = shown(bars, *network())
    assert any(n % 1 for n in seen)
    # In steps of all images, none of which is told twice.
    assert np.allclose(np.array(seen) * N_STEPS, np.rint(np.array(seen) * N_STEPS))


@pytest.mark.parametrize("neuron_type", [nengo.LIF(), nengo.AdaptiveLIF(), nengo.LIFRate()])
@pytest.mark.parametrize("size, n_jobs", [(3, 1), (2, 2), (7, 2), (1, 1)])
def test_a_bar_ends_at_the_number_of_images(bars, neuron_type, size, n_jobs):
    shown(bars, *network(neuron_type), minibatch_size=size, n_jobs=n_jobs)


def test_the_reference_counts_whole_images(bars):
    assert shown(bars, *network(), simulator="reference") == list(range(1, 8))


def test_other_processes_count_finished_minibatches(bars):
    seen = shown(bars, *network(own=lambda t, x: x * t), minibatch_size=3, n_jobs=2)
    assert all(n % 1 == 0 for n in seen)
    assert np.diff(seen, prepend=0).max() <= 3


def test_a_resumed_run_goes_on_where_it_was(bars, tmp_path):
    made, output = network()
    run = {"presentation_time": N_STEPS / 1000, "minibatch_size": 2, "save": tmp_path / "run.h5"}
    append = presentation.RunJournal.append

    def interrupted(journal, batch):
        append(journal, batch)
        if batch["examples"][0] == 2:
            raise KeyboardInterrupt

    with (
        mock.patch.object(presentation.RunJournal, "append", interrupted),
        pytest.raises(KeyboardInterrupt),
    ):
        nn.present(made, output, IMAGES, **run)
    nn.present(made, output, IMAGES, **run, resume=True)
    _, _, bar = bars[-1]
    assert 4 < bar.seen[0] <= 6
    assert bar.seen[-1] == 7


def test_threads_move_one_bar_to_its_end():
    bar = Bar(2)
    move = mover(bar, 3)

    def often():
        for _ in range(1000):
            move(1)

    threads = [threading.Thread(target=often) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bar.n == 1002


def test_a_bar_is_for_terminals():
    with progress_bar(True, "usual", "image", 0, 3) as bar:
        assert bar.disable  # as standard error is a pipe


@pytest.mark.parametrize("progress", [True, "mine", False])
def test_names_of_bars(progress, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress_bar(progress, "usual", "cell", 1, 4) as bar:
        if progress:
            text = bar.format_meter(**bar.format_dict)
            assert text.startswith(f"{'mine' if progress == 'mine' else 'usual'}:  25%|")
            assert "1/4" in text
        else:
            assert bar.disable


def test_steps_are_numbered():
    assert numbered(True, "usual", 2, 5, "lif") == "usual 2 of 5: lif"
    assert numbered("mine", "usual", 1, 1, "lif") == "mine: lif"
    assert numbered(False, "usual", 1, 2, "lif") is False


def test_settings_in_words():
    found = in_words({"kind": "fixed", "amplitude": 0.05, "n_steps": 30, "synapse": None})
    assert found == "fixed, amplitude 0.05, n steps 30, synapse none"


def test_a_sweep_names_the_cell(monkeypatch):
    made = []

    @contextlib.contextmanager
    def making(*asked):
        bar = mock.Mock()
        made.append((asked, bar))
        yield bar

    monkeypatch.setattr("nengonet.sweeps.sweep.progress_bar", making)
    nn.sweep(lambda kind, x, seed: x, {"kind": ["a", "b"], "x": [0.5]}, progress="mine")
    asked, bar = made[0]
    assert asked == ("mine", "sweeping", "cell", 0, 2)
    words = [call.args[0] for call in bar.set_postfix_str.call_args_list]
    assert words == ["a, x 0.5, seed 0", "b, x 0.5, seed 0"]
    assert bar.update.call_count == 2


def test_a_function_is_told_and_may_end_the_run():
    told = []
    with nengo.Network(seed=0):
        output = nn.dense(nn.poisson_input((3,)), np.eye(3), nengo.LIF(), gain=2.0)
    settings = {"presentation_time": 0.02, "minibatch_size": 2}
    images = np.full((5, 3), 0.5)
    for n_jobs in (1, 2):
        told.clear()
        nn.present(
            output.network,
            output,
            images,
            **settings,
            n_jobs=n_jobs,
            progress=lambda *n: told.append(n),
        )
        done, totals = zip(*told, strict=True)
        assert list(done) == sorted(done)
        assert done[-1] == 5
        assert set(totals) == {5}

    def stop(n_done, total):
        if n_done >= 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        nn.present(output.network, output, images, **settings, progress=stop)
