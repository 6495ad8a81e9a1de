"""Kill what writes a journal, while it has work left however busy the machine is."""

import os
import signal
import subprocess
import sys
import time

from nengonet.results.journal import Journal


def wait_after(n_records):
    """Have this process append at most this many records to its journals, then wait for its end.

    What heads a new journal does not count.
    """
    append, left = Journal.append, iter(range(n_records - 1))

    def waiting(journal, record):
        append(journal, record)
        if record != journal.fingerprint and next(left, None) is None:
            time.sleep(600)

    Journal.append = waiting


def wait_for_growth(file, process=None, by=1):
    before = file.stat().st_size if file.exists() else 1000
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        if file.exists() and file.stat().st_size > before + 100 * by:
            return
        time.sleep(0.005)


def start_and_kill(code, file, pause=0.0):
    """Run code that can import the modules of tests; end it with a pause after ``file`` grew."""
    path = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", path + code])
    wait_for_growth(file, process)
    time.sleep(pause)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
