"""Processes and a Dask cluster: the same numbers, and the effect of a lost process or worker."""

import os
import random
import shutil
import signal
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool

import pytest
from killing import start_and_kill, wait_for_growth
from sweeping import (
    fatal,
    greedy,
    numbers,
    picky,
    recorded,
    run,
    slow,
)

import nengonet as nn
from nengonet.run import parallel


def test_processes_give_the_same_numbers():
    assert numbers(run(n_jobs=2)) == numbers(run())


def test_processes_end_quietly_when_tasks_were_cancelled(caplog):
    """As after Ctrl-C; tasks that no process has taken yet are cancelled."""
    pool = parallel._process_pool(2)
    pool.submit(time.sleep, 0).result()
    futures = [pool.submit(time.sleep, 60) for _ in range(20)]
    assert any([future.cancel() for future in futures])
    parallel.stop_processes()
    assert caplog.records == []
    assert numbers(run(n_jobs=2)) == numbers(run())


def test_a_cell_that_kills_its_process_is_the_only_one_lost():
    result = run(fatal, {"x": range(8)}, seeds=1, n_jobs=2)
    assert [row["x"] for row in result.failed] == [3]
    assert result.failed[0]["error"].startswith("WorkerDied")
    assert [row["value"] for row in result.rows if row["x"] != 3] == [0, 1, 2, 4, 5, 6, 7]


class Unloadable:
    def __reduce__(self):
        return missing_name, ()


def missing_name():
    raise AttributeError("module 'mine' has no attribute 'it'")


CANNOT_BE_SENT = pytest.mark.parametrize("constant", [threading.Lock(), Unloadable()])


@CANNOT_BE_SENT
def test_what_cannot_be_sent_is_refused(constant):
    with pytest.raises(nn.InputError, match="expected a picklable function"):
        run(greedy, {"x": [1, 2]}, constants={"items": constant}, n_jobs=2)


def test_a_pool_that_has_just_broken_is_replaced(monkeypatch):
    class Broken:
        def submit(self, *arguments):
            raise BrokenProcessPool

    pools, broken = parallel._process_pool, iter([True])
    monkeypatch.setattr(
        parallel, "_process_pool", lambda n: Broken() if next(broken, False) else pools(n)
    )
    assert numbers(run(n_jobs=2)) == numbers(run())


_KILLED = """
from killing import wait_after
from sweeping import run, slow
wait_after({n_records})
run(slow, {{"x": range(60)}}, seeds=1, save={file!r}, resume=True, n_jobs={n_jobs})
"""


@pytest.mark.parametrize("n_jobs, kills", [(1, 5), (2, 2)])
def test_a_killed_sweep_goes_on(tmp_path, n_jobs, kills):
    """After ``kill -9`` at random moments, no finished cell is lost or doubled."""
    file = tmp_path / "sweep"
    code = _KILLED.format(n_records=60 // (kills + 1), file=str(file), n_jobs=n_jobs)
    moments = random.Random(n_jobs)
    done = []
    for _ in range(kills):
        start_and_kill(code, file, moments.uniform(0, 0.3))
        keys = recorded(file)
        assert keys[: len(done)] == done
        assert len(keys) > len(done)
        done = keys
    assert len(done) < 60
    result = run(slow, {"x": range(60)}, seeds=1, save=file, resume=True, n_jobs=2)
    assert [row["value"] for row in result.rows] == [x / 7 for x in range(60)]
    assert recorded(file)[: len(done)] == done
    assert len(set(recorded(file))) == len(recorded(file)) == 60


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    with (
        # One worker lost by a cell instead of four: they take seconds to start.
        pytest.importorskip("dask").config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
    ):
        yield cluster


def test_a_cluster_gives_the_same_numbers(cluster):
    result = run(scheduler=cluster.scheduler_address, constants={"offset": 1.0})
    assert numbers(result) == numbers(run(constants={"offset": 1.0}))


def test_a_cluster_runs_failing_and_local_functions(cluster):
    result = run(picky, {"x": [1, 2]}, scheduler=cluster.scheduler_address)
    assert numbers(result) == numbers(run(picky, {"x": [1, 2]}))
    factor = 3
    assert (run(lambda x, seed: factor * x, {"x": [1]}, scheduler=cluster.scheduler_address)).rows[
        0
    ]["value"] == 3


def test_a_worker_lost_on_the_way_loses_no_cell(cluster, tmp_path):
    from distributed import Client

    file = tmp_path / "sweep"
    with Client(cluster, set_as_default=False) as client:
        pids = list(client.run(os.getpid).values())
        assert len(set(pids)) == 2
        killed = []

        def kill():
            wait_for_growth(file, by=10)
            os.kill(pids[0], signal.SIGKILL)
            # The sweep holds its file's lock.
            killed.append(len(recorded(shutil.copy(file, tmp_path / "copy"))))

        killer = threading.Thread(target=kill)
        killer.start()
        result = run(
            slow, {"x": range(60)}, seeds=2, save=file, scheduler=cluster.scheduler_address
        )
        killer.join()
        assert 0 < killed[0] < 120
        client.wait_for_workers(2, timeout=300)
        assert pids[0] not in client.run(os.getpid).values()
    assert not result.failed
    assert numbers(result) == numbers(run(slow, {"x": range(60)}, seeds=2, n_jobs=2))
    assert len(set(recorded(file))) == len(recorded(file)) == 120


def test_a_cell_that_kills_workers_is_recorded(cluster):
    result = run(fatal, {"x": range(6)}, seeds=1, scheduler=cluster.scheduler_address)
    assert [row["x"] for row in result.failed] == [3]
    assert result.failed[0]["error"].startswith("WorkerDied")


@CANNOT_BE_SENT
def test_what_cannot_be_sent_to_a_cluster_is_refused(cluster, constant):
    with pytest.raises(nn.InputError, match="expected a picklable function"):
        run(
            greedy,
            {"x": [1, 2]},
            constants={"items": constant},
            scheduler=cluster.scheduler_address,
        )


def test_a_scheduler_that_goes_away_leaves_a_good_file(tmp_path):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    file = tmp_path / "sweep"
    cluster = distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=":0")

    def close():
        wait_for_growth(file, by=5)
        cluster.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(ConnectionError, match="lost the connection to .* and resume"):
        run(slow, {"x": range(200)}, save=file, scheduler=cluster.scheduler_address)
    closer.join()
    assert 0 < len(recorded(file)) < 600


def test_a_scheduler_that_is_not_there():
    dask = pytest.importorskip("dask", reason="Dask is not installed")
    pytest.importorskip("distributed", reason="Dask is not installed")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "200ms"}),
        pytest.raises(nn.InputError, match="scheduler: expected the address of a running Dask"),
    ):
        run(scheduler="tcp://127.0.0.1:9")


def test_without_dask_there_is_a_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(nn.InputError, match=r'pip install "nengonet\[distributed\]"'):
        run(scheduler="tcp://127.0.0.1:8786")
