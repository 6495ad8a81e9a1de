"""The command line in a shell: colours, completion, progress, exit codes, Ctrl-C."""

import fcntl
import json
import os
import pathlib
import pty
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import time

import click
import pytest
from click.testing import CliRunner

import nengonet as nn
from nengonet.cli import main
from nengonet.cli.shared import _coloured, _is_saved
from nengonet.cli.studies import StudyGroup

PAGE = (pathlib.Path(__file__).parents[1] / "docs/howto/command-line.md").read_text(
    encoding="utf-8"
)
NENGONET = [sys.executable, "-W", "ignore", "-m", "nengonet"]
POSTED = ["diagnose", "forum-mnist", "--as-posted", "--images", "20"]


def environment(**changes):
    return {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | changes


def on_terminal(arguments, stream, **changes):
    """Run with one stream on a terminal; return its text and the finished process."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    pipes = {name: subprocess.PIPE for name in ("stdout", "stderr") if name != stream}
    process = subprocess.Popen(
        [*NENGONET, *arguments], env=environment(**changes), **pipes, **{stream: theirs}
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # how Linux says that nobody writes any more
            break
    os.close(ours)
    rest = process.communicate()
    return shown.decode(), process.returncode, "".join(part.decode() for part in rest if part)


def run(arguments, **changes):
    return subprocess.run(
        [*NENGONET, *arguments],
        env=environment(**changes),
        capture_output=True,
        text=True,
        check=False,
    )


def test_colours_on_a_terminal_only():
    shown, code, _ = on_terminal(POSTED, "stdout")
    assert code == 0
    assert "\x1b[31m\x1b[1merror:\x1b[0m" in shown
    assert "\x1b" not in run(POSTED).stdout


def test_no_colours_with_no_color():
    marked = "\x1b[31m\x1b[1mnengonet:\x1b[0m"
    shown, code, _ = on_terminal(["weights", "no.h5"], "stderr")
    assert code == 2
    assert shown.startswith(marked)
    assert "\x1b" not in on_terminal(["weights", "no.h5"], "stderr", NO_COLOR="1")[0]
    # https://no-color.org: an empty one says nothing
    assert marked in on_terminal(["weights", "no.h5"], "stderr", NO_COLOR="")[0]


def test_colours_mark_severities_and_what_to_compare():
    text = "forum-mnist\n  published  0.45\n1. warning: a\n2. note: b\n    error: not at the start"
    assert _coloured(text) == (
        "\x1b[1mforum-mnist\x1b[0m\n\x1b[1m  published\x1b[0m  0.45\n"
        "1. \x1b[33m\x1b[1mwarning:\x1b[0m a\n2. \x1b[36m\x1b[1mnote:\x1b[0m b\n"
        "    error: not at the start"
    )


def test_progress_goes_to_standard_error():
    arguments = ["reproduce", "forum-mnist", "--images", "30", "--presentation-time", "0.05"]
    shown, code, out = on_terminal([*arguments, "--json"], "stderr")
    assert code == 0
    assert "forum-mnist: repaired, presentation time 0.05: 100%" in shown
    assert "30/30" in shown
    assert json.loads(out)["n_images"] == 30
    assert "30/30" not in out


def test_progress_moves_within_a_minibatch_and_names_its_step():
    arguments = ["budget", "forum-mnist", "--images", "20", "--seed", "1"]
    shown, code, out = on_terminal(arguments, "stderr", TQDM_MININTERVAL="0")
    assert code == 0
    for name in ("4 of 7: clipping of noisy currents", "5 of 7: finite presentation time"):
        found = re.findall(rf"forum-mnist budget {name}: +(\d+)%", shown)
        assert found[0] == "0"
        assert found[-1] == "100"
        # All images run in two threads, each in one minibatch.
        assert len(set(found)) > 3
    assert "budget 4 of 7" not in out


def leaves(command):
    if not isinstance(command, click.Group):
        yield command
        return
    for name in command.list_commands(None):
        yield from leaves(command.get_command(None, name))


def test_every_command_has_json():
    found = list(leaves(main))
    assert len(found) > 8
    for command in found:
        assert "as_json" in [option.name for option in command.params], command.name


def test_help_is_fast_and_shows_an_example_of_each_command():
    text = run(["--help"]).stdout
    for name in ("reproduce", "diagnose", "budget", "sweep", "weights", "bench"):
        assert f"$ nengonet {name} " in text
    # Neither NumPy nor Nengo: that is what makes it fast.
    code = "import sys, nengonet.cli; print([n for n in ('numpy', 'nengo') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_line_for_completion_in_the_documentation_works(tmp_path):
    line = 'eval "$(_NENGONET_COMPLETE=bash_source nengonet)"'
    assert line in PAGE
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    # What pip installs as `nengonet`, whatever is on the PATH.
    (tmp_path / "nengonet").write_text(
        f"#!{sys.executable}\nfrom nengonet.cli import main\nmain(prog_name='nengonet')\n"
    )
    (tmp_path / "nengonet").chmod(0o755)
    script = f"""
        {line}
        complete -p nengonet
        COMP_WORDS=(nengonet repr); COMP_CWORD=1
        _nengonet_completion nengonet; echo "${{COMPREPLY[@]}}"; COMPREPLY=()
        COMP_WORDS=(nengonet sweep forum-mnist --set in); COMP_CWORD=4
        _nengonet_completion nengonet; echo "${{COMPREPLY[@]}}"; COMPREPLY=()
        COMP_WORDS=(nengonet reproduce forum-mnist --neurons ""); COMP_CWORD=4
        _nengonet_completion nengonet; echo "${{COMPREPLY[@]}}"; COMPREPLY=()
    """
    done = subprocess.run(
        ["bash", "-c", script],
        env=environment(PATH=f"{tmp_path}:{os.environ['PATH']}"),
        capture_output=True,
        text=True,
        check=False,
    )
    *declared, first, second, third = done.stdout.splitlines()
    assert "_nengonet_completion" in declared[0], done
    assert first == "reproduce"
    assert second == "input-rate= input-kind= initial-voltage="
    assert third == "lif if relu"


def test_ctrl_c_within_an_exec_of_text_has_its_exit_code(tmp_path):
    code = """
        from nengonet.cli import main
        from nengonet.studies.engine import Study
        Study.reproduce = lambda *_, **__: exec("raise KeyboardInterrupt")
        main(["reproduce", "forum-mnist"], prog_name="nengonet")
    """
    (tmp_path / "interrupted.py").write_text(textwrap.dedent(code))
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "interrupted"],
        env=environment(PYTHONPATH=paths),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 130, done
    assert done.stderr.startswith("nengonet: interrupted; nothing is kept")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_in_other_shells(shell):
    named = {"_NENGONET_COMPLETE": f"{shell}_complete", "COMP_WORDS": "nengonet repr"}
    words = named | {"COMP_CWORD": {"zsh": "1", "fish": "repr"}[shell]}
    code = "from nengonet.cli import main; main(prog_name='nengonet')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(**words),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "reproduce" in done.stdout, done
    assert "diagnose" not in done.stdout


def test_exit_codes(tmp_path):
    assert run(["weights", str(nn.pretrained("mnist_dense"))]).returncode == 0
    assert run(["weights", "no.h5"]).returncode == 2
    assert run(["nonsense"]).returncode == 2
    failing = ["sweep", "forum-mnist", "--set", "full-scale-rate=500,250", "--images", "2"]
    done = run(failing)
    assert done.returncode == 1
    assert "2 cells, 1 failed" in done.stdout
    failure = "failed: full-scale-rate=500, seed=0: InputError: full-scale-rate: expected"
    assert failure in done.stdout
    assert ".py" not in done.stdout  # bad input is the caller's, wherever it is found
    for row in (
        "| 0 | done |",
        "| 1 | cells of a sweep failed",
        "| 2 | bad input",
        "| 130 | Ctrl-C",
    ):
        assert row in PAGE


def interrupt(arguments, begun):
    """Press Ctrl-C, which reaches every process of the terminal."""
    process = subprocess.Popen(
        [*NENGONET, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts what runs in its background deaf to Ctrl-C, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 300
    while not begun(process) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("nengonet: interrupted; ")
    return err


def is_larger(file, than):
    return lambda process: file.exists() and file.stat().st_size > than


# On the reference simulator and in small parts, so that there is time to press a key.
SLOW = ["reproduce", "forum-mnist", "--images", "800", "--presentation-time", "0.1", "--json"]
SLOW += ["--simulator", "reference"]


def here(arguments):
    """Run in this process, which has imported everything."""
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_keeps_what_is_finished(tmp_path, jobs):
    file = tmp_path / "run.h5"
    save = ["--save", str(file), "--jobs", jobs]
    partial = tmp_path / "run.h5.partial"
    message = interrupt([*SLOW, *save], is_larger(partial, 20_000))
    line = message.strip().split("resume with: ")[1]
    assert line.split()[1:] == [*SLOW, *save, "--resume"]
    finished = partial.stat().st_size
    # The minibatch simulator resumes where the reference stopped, as it has the same spikes.
    twin = [*SLOW[:4], "--presentation-time", "0.1", "--json"]
    gone_on = here([*twin, "--save", str(file), "--resume"])
    assert finished > 20_000
    assert gone_on["spikes_per_image"] == here(twin)["spikes_per_image"]


def test_ctrl_c_before_anything_is_finished_keeps_nothing(tmp_path):
    # One image takes minutes.
    arguments = ["reproduce", "forum-mnist", "--images", "1", "--presentation-time", "600"]
    arguments += ["--simulator", "reference", f"--save={tmp_path / 'run.h5'}"]
    partial = tmp_path / "run.h5.partial"
    message = interrupt(arguments, is_larger(partial, 0))
    assert message == (
        "nengonet: interrupted; nothing is kept, as nothing was finished; "
        f"start again with: nengonet {shlex.join(arguments)}\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_what_is_saved_in_a_folder_and_beside_a_file(tmp_path):
    folder, file, other = (tmp_path / name for name in ("runs", "a.sweep", "b.h5"))
    folder.mkdir()
    for path in (folder, file, other):
        assert not _is_saved(path)
    for name in ("runs/repaired.h5.partial", "a-mlp.sweep", "b.h5.partial"):
        (tmp_path / name).touch()
    for path in (folder, file, other):
        assert _is_saved(path)
    assert not _is_saved(tmp_path / "c.h5")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_ends_a_sweep_cleanly(tmp_path, jobs):
    file = tmp_path / "a.sweep"
    arguments = ["sweep", "forum-mnist", "--set", "input-rate=100:300:1", "--images", "5"]
    arguments += ["--save", str(file), "--jobs", jobs]
    message = interrupt(arguments, is_larger(file, 2000))
    assert "--resume" in message
    size = file.stat().st_size
    arguments[3] = "input-rate=100:105:1"
    assert len(here([*arguments, "--resume", "--json"])["rows"]) == 6
    assert file.stat().st_size >= size


def has_begun_its_command(process):
    """Return whether h5py is imported, as Ctrl-C before that interrupts Python's start."""
    maps = pathlib.Path(f"/proc/{process.pid}/maps")
    return "h5py" in maps.read_text() if maps.exists() else time.sleep(5) is None


def test_ctrl_c_without_save_says_what_would_have_kept_it():
    message = interrupt(SLOW, has_begun_its_command)
    # The key may come while the last modules load.
    assert "with --save FILE" in message or "nothing was begun; start again with: " in message


def test_ctrl_c_within_an_import_that_cannot_be_repeated(monkeypatch):
    errors = [KeyError("__reduce_cython__"), KeyboardInterrupt()]

    def interrupted(*_):
        raise errors.pop()

    monkeypatch.setattr(StudyGroup, "get_command", interrupted)
    before = signal.getsignal(signal.SIGINT)
    try:
        arguments = ["reproduce", "forum-mnist", "--images", "2"]
        done = CliRunner().invoke(main, arguments, prog_name="nengonet")
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.exit_code == 130
    again = "start again with: nengonet reproduce forum-mnist --images 2"
    assert done.stderr == f"nengonet: interrupted; nothing is kept, as nothing was begun; {again}\n"


_LOST = """
import signal, time, click
from nengonet.cli.shared import Commands

class Ending:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

@click.group(cls=Commands)
def main():
    pass

@main.command()
def work():
    ending = Ending()
    del ending
    time.sleep(60)
    print("slept to the end")

main(["work"], prog_name="nengonet")
"""


def test_a_ctrl_c_that_python_drops_is_not_lost():
    """Python prints and drops exceptions in finalizers, even KeyboardInterrupt."""
    done = subprocess.run(
        [sys.executable, "-c", _LOST],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert done.returncode == 130
    assert done.stderr == "nengonet: interrupted; nothing is kept, as this command has no --save\n"
    assert done.stdout == ""
