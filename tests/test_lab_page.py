"""The lab's page in a real browser, and its server as a visitor sees it."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

import matplotlib.pyplot as plt
import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("panel", reason="Panel is not installed: it comes with the extra lab")

import nengonet as nn
from nengonet import cli
from nengonet.cli import main
from nengonet.laboratory import page as pages
from nengonet.laboratory import server, state

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SIZE = {"width": 1400, "height": 900}
LONG = 300  # seconds: no test waits for so long, unless what it waits for never comes
TOKEN = re.compile(r"\?token=[\w-]{20,}$")


class Served:
    """``nengonet lab`` in a process, with its first output."""

    def __init__(self, *words):
        command = [sys.executable, "-m", "nengonet", "lab", *words, "--no-browser", "--json"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        environment.pop("NENGONET_DATA", None)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, **pipes)
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.url = json.loads(line)["url"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """Press Ctrl-C, and return the exit code and the messages."""
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=LONG)[1], self.process.returncode


def asked(url, **headers):
    """Return the status of a response, and its cookie."""
    parts = urllib.parse.urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(parts.netloc, timeout=LONG)) as connection:
        connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers["Set-Cookie"]


# As a browser asks for a socket.
SOCKET = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
SOCKET |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}


# The server.


def test_it_is_for_this_machine_and_its_own_pages_alone_and_ends_with_ctrl_c():
    with Served() as served:
        assert served.url.startswith("http://localhost:")
        assert asked(served.url)[0] == 200
        port = int(served.url.split(":")[2].strip("/"))
        # All of 127.0.0.0/8 is this machine: a server on 0.0.0.0 would answer at 127.0.0.2.
        with socket.socket() as other:
            assert other.connect_ex(("127.0.0.2", port)) != 0
        assert asked(f"{served.url}ws", **SOCKET, Origin="http://example.com")[0] == 403
        complaints, code = served.end()
    assert code == 0
    assert "Traceback" not in complaints


def test_ctrl_c_ends_a_run(browser):
    with Served("forum-mnist", "--images", "5") as served:
        visit = Visit(browser, served.url)
        visit.turn("run.presentation_time", 6000.0)
        visit.page.locator(".state", has_text="running").wait_for()
        complaints, code = served.end()
        visit.context.close()
    assert code == 0
    assert "Traceback" not in complaints


def test_a_host_asks_for_a_token():
    with Served("--host", "127.0.0.1") as served:
        assert TOKEN.search(served.url)
        page = served.url.partition("?")[0]
        assert asked(page)[0] == 403
        assert asked(f"{page}?token=")[0] == 403
        assert asked(f"{served.url}x")[0] == 403
        assert asked(f"{page}ws", **SOCKET)[0] == 403
        status, cookie = asked(served.url)
        assert status == 200
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        cookie = cookie.partition(";")[0]
        assert asked(page, Cookie=cookie)[0] == 200
        assert asked(page, Cookie=f"{cookie}x")[0] == 403
        origin = {"Origin": page.strip("/"), "Cookie": cookie}
        assert asked(f"{page}ws", **SOCKET, **origin)[0] == 101


# Tornado leaves the socket open that it could not bind.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_port_that_is_taken_is_said():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(nn.InputError, match=f"that are free here, got 127.0.0.1:{port} "):
            server.serve(lab_here(), None, port, print)


SCRIPT = """
import nengo, numpy as np, nengonet as nn
images = np.linspace(0, 1, 15).reshape(3, 5)
with nengo.Network(seed=0):
    tuning = {"max_rates": 100.0, "intercepts": 0.0}
    output = nn.dense(nn.constant_input((5,)), np.eye(5), nengo.LIF(), label="copies", **tuning)
"""


def test_the_command_opens_the_lab_of_what_is_named(monkeypatch, tmp_path):
    opened = []
    for module in (cli.studies, cli.scripts):
        monkeypatch.setattr(module, "serve_lab", lambda name, lab, **how: opened.append((lab, how)))
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT, encoding="utf-8")
    lines = [
        ["--port", "81"],
        ["forum-mnist", "--as-posted", "--images", "7", "--seed", "3"],
        [f"{script}:output", "--images", "images", "--dt", "0.002", "--host", "0.0.0.0"],
    ]
    for words in lines:
        found = CliRunner().invoke(main, ["lab", *words], catch_exceptions=False)
        assert found.exit_code == 0, found.output
    (first, how), (second, _), (third, elsewhere) = opened
    assert (first.now.name, how["port"], how["host"]) == ("repaired", 81, None)
    values = second.now.values
    assert (second.now.name, values["run"]["n_images"], values["run"]["seed"]) == ("posted", 7, 3)
    assert elsewhere["host"] == "0.0.0.0"
    assert (third.now.values["run"]["dt"], third.now.values["run"]["n_images"]) == (0.002, 3)
    assert third.now.values["copies"]["max_rates"] == 100


# The page.


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # Panel's, of names of widgets
@pytest.mark.parametrize("moment", range(8))
def test_a_run_that_ends_while_the_page_looks_is_shown_whole(moment, monkeypatch):
    lab = lab_here()
    page = pages.Page(lab)
    lab.wait(LONG)
    page.look()
    reads = []

    def reading(name, read):
        def counted(of):
            reads.append(name)
            if len(reads) == moment + 1:
                ends.set()
                assert lab.wait(LONG)
            return read(of)

        return property(counted)

    ends, present = threading.Event(), state.Lab._present
    monkeypatch.setattr(state.Lab, "_present", lambda *own: ends.wait(LONG) and present(*own))
    page._change(lab.set, "run.n_images", 50)
    assert marked(page) == ["n_images"]
    with monkeypatch.context() as patched:
        for name in ("done", "is_running", "predicted"):
            patched.setattr(state.Lab, name, reading(name, getattr(state.Lab, name).fget))
        while not ends.is_set():
            page.look()
            if page.done.number == 1:
                assert "done" not in page._top.object
    page.look()
    assert page.done.number == 2
    assert marked(page) == []


def marked(page):
    return [each.name for each in page._widgets.values() if len(each.stylesheets) > 1]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: it comes with the extra browser"
    )
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as opened:
        found = opened.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def served():
    with Served("forum-mnist", "--images", "60") as found:
        yield found


def eventually(read, expected):
    """Read again and again until it is what is expected, as a visitor does who waits."""
    end = time.monotonic() + LONG
    while (found := read()) != expected and time.monotonic() < end:
        time.sleep(0.05)
    assert found == expected


class Visit:
    """A page that a visitor has opened, and their actions.

    What is read may be older than the last action: read it with `eventually`.
    """

    def __init__(self, browser, url, size=SIZE):
        self.context = browser.new_context(viewport=size)
        self.context.set_default_timeout(1000 * LONG)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page, self.asked, self.errors = self.context.new_page(), [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(url)
        self.settle()

    def settle(self):
        """Wait until no run goes on and nothing is drawn; what was just turned may come yet."""
        self.page.locator(".state", has_text="done").wait_for()

    def accuracies(self):
        """Return the predicted and the measured accuracy, as the page writes them."""
        return self.page.locator(".numbers .big").all_inner_texts()[:2]

    def knob(self, knob):
        return self.page.locator(f".knob-{re.sub('[. ]', '-', knob)}")

    def turn(self, knob, value):
        """Turn a knob. The page answers a while later."""
        field = self.knob(knob).locator("input, select")
        if field.evaluate("each => each.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(str(value))
            field.press("Enter")

    def value(self, knob):
        return self.knob(knob).locator("input").input_value()

    def label(self, knob):
        """Return the name of a knob with its mark, as it is seen."""
        return self.knob(knob).locator("label").evaluate(LABEL)

    def rows(self):
        self.tab("runs")
        return self.page.locator(".runs tbody tr")

    def wait_for_runs(self, n):
        """Wait until as many runs are listed, neither less nor more, and nothing goes on."""
        self.rows().nth(n - 1).wait_for()
        self.settle()
        assert self.rows().count() == n

    def tab(self, name):
        self.page.locator(".bk-tab", has_text=name).click()


# With the mark, which is a matter of style.
LABEL = """each => [each.innerText,
    getComputedStyle(each, "::after").content.replace(/^none|^normal|"/g, "")
    ].filter(Boolean).join(", ")"""


@pytest.fixture
def visit(browser, served):
    made = Visit(browser, served.url)
    yield made
    assert made.errors == []
    made.context.close()


def lab_here():
    """Return the same lab without a page. The bundled images are the first of the whole set."""
    return state.of_study("forum-mnist", "repaired", 60)


def of(lab):
    """Return the accuracies of a lab, as the page writes them."""
    lab.run()
    assert lab.wait(LONG)
    run = lab.history[-1]
    predicted = run.diagnosis.predicted_accuracy_with_noise
    return [f"{each.value:.3f}" for each in (predicted, run.accuracy)]


def test_it_loads_with_the_accuracies_of_the_library(visit):
    visit.wait_for_runs(1)
    eventually(visit.accuracies, of(lab_here()))


def test_nothing_is_asked_of_other_machines(visit, served):
    visit.page.wait_for_load_state("networkidle")
    here = (served.url, f"blob:{served.url}", "data:")
    elsewhere = [each for each in visit.asked if not each.startswith(here)]
    assert len(visit.asked) > 5
    assert elsewhere == []


def test_a_knob_changes_prediction_and_run_and_back_undoes_it(visit):
    lab = lab_here()
    before = of(lab)
    eventually(visit.accuracies, before)
    lab.set("hidden.gain", 0.2)
    visit.turn("hidden.gain", 0.2)
    visit.wait_for_runs(2)
    after = of(lab)
    assert after != before
    eventually(visit.accuracies, after)
    row = visit.rows().first.inner_text()
    assert "hidden.gain: 1.33016 → 0.2" in row
    assert after[1] in row
    visit.page.locator(".back button").click()
    visit.wait_for_runs(3)
    eventually(lambda: visit.value("hidden.gain")[:6], "1.3301")
    eventually(visit.accuracies, before)


def test_what_changed_since_the_last_run_is_marked(visit):
    visit.turn("run.n_images", 50)
    visit.wait_for_runs(2)
    eventually(lambda: visit.label("run.n_images"), "n_images")  # the last run has it
    visit.turn("run.presentation_time", 6000.0)  # a run of a while
    marked = "presentation_time (s), was 0.35"
    eventually(lambda: visit.label("run.presentation_time"), marked)
    visit.page.locator(".back button").click()
    visit.wait_for_runs(3)
    eventually(lambda: visit.label("run.presentation_time"), "presentation_time (s)")


def test_the_end_of_a_run_does_not_disturb_who_is_typing(visit):
    visit.turn("run.n_images", 50)
    eventually(lambda: visit.label("run.n_images"), "n_images, was 60")
    field = visit.knob("run.n_images").locator("input")
    field.fill("40")
    eventually(lambda: visit.label("run.n_images"), "n_images")
    assert field.input_value() == "40"
    field.press("Enter")
    visit.wait_for_runs(3)
    assert "n_images: 50 → 40" in visit.rows().first.inner_text()


def test_a_value_out_of_range_is_said_and_changes_nothing(visit):
    before = visit.value("hidden.tau_rc")
    visit.turn("hidden.tau_rc", -1)
    visit.page.locator(".says", has_text="tau_rc").wait_for()
    eventually(lambda: visit.value("hidden.tau_rc"), before)
    visit.turn("hidden.tau_rc", 0.03)
    visit.wait_for_runs(2)  # none was of the value out of range
    eventually(visit.page.locator(".says").count, 0)


def test_another_neuron_type_has_other_knobs(visit):
    visit.turn("hidden.neuron_type", "SpikingRectifiedLinear")
    visit.wait_for_runs(2)
    eventually(visit.knob("hidden.tau_rc").is_visible, False)
    eventually(visit.knob("hidden.amplitude").is_visible, True)


def test_the_networks_of_the_thread_are_one_click_each(visit):
    visit.page.locator(".network", has_text="posted").click()
    visit.wait_for_runs(2)
    lab = lab_here()
    lab.choose("posted")
    eventually(visit.accuracies, of(lab))
    eventually(lambda: visit.value("input.max_rate"), "25,500")


def test_two_pages_do_not_disturb_each_other(browser, served, visit):
    other = Visit(browser, served.url)
    other.turn("hidden.gain", 0.2)
    other.wait_for_runs(2)
    visit.turn("run.n_images", 50)
    visit.wait_for_runs(2)
    row = visit.rows().first.inner_text()
    assert "n_images: 60 → 50" in row
    assert "gain" not in row
    assert visit.value("hidden.gain").startswith("1.3301")
    other.context.close()


def test_an_image_and_a_neuron_can_be_chosen(visit):
    visit.tab("images")
    looks = visit.page.locator(".inside-images").get_by_text("look inside", exact=True)
    chosen = visit.page.locator(".inside-images .image input")
    example = visit.page.locator(".inside-images .example")
    example.get_by_text("image 0", exact=True).wait_for()
    for number in (2, 1, 2, 1):  # each while the one before is drawn: none is lost
        looks.nth(number).click()
        eventually(chosen.input_value, str(number))
    visit.settle()
    example.get_by_text("image 1", exact=True).wait_for()
    visit.page.wait_for_function(SHOWS, arg="spike count of each class")
    field = visit.page.locator(".inside-images .start input")
    field.fill("36")
    field.press("Enter")
    visit.page.locator(".inside-images").get_by_text("24 from 36 on, of 60").wait_for()
    eventually(looks.count, 24)
    visit.page.locator(".inside-images").get_by_text("image 37", exact=True).wait_for()
    looks.nth(1).click()
    example.get_by_text("image 37", exact=True).wait_for()
    chosen.fill("1")
    chosen.press("Enter")
    example.get_by_text("image 1", exact=True).wait_for()
    visit.tab("neuron")
    field = visit.page.locator(".inside-neuron .neuron input")
    field.wait_for()
    field.fill("17")
    field.press("Enter")
    visit.page.wait_for_function(SHOWS, arg="hidden[17], image 1")
    visit.page.locator(".inside-neuron .layer select").select_option("input")
    visit.page.wait_for_function(SHOWS, arg="input[17] at (0, 17), image 1")
    visit.tab("layer")
    visit.page.locator(".inside-layer .layer select").select_option("output")
    visit.page.wait_for_function(SHOWS, arg="output: ")
    visit.settle()


def downloaded(visit, name):
    """Open a tab, press its button, and return the download's path and name."""
    visit.tab(name)
    button = visit.page.locator(f".inside-{name} .download a")
    with visit.page.expect_download() as coming:
        button.first.click()
    return pathlib.Path(coming.value.path()), coming.value.suggested_filename


def test_a_report_of_the_run_can_be_taken_home(visit):
    accuracy = of(lab_here())[1]
    visit.tab("report")
    visit.page.locator(".inside-report iframe").wait_for()
    path, name = downloaded(visit, "report")
    assert name == "run_1.html"
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert accuracy in text


# Titles of figures, which are drawn on canvases.
SHOWS = """words => Bokeh.documents.some(each => [...each._all_models.values()].some(
    model => model.type === "Title" && model.text.includes(words)))"""


def test_the_copied_code_gives_the_counts_of_the_page(visit, tmp_path):
    visit.turn("run.presentation_time", 0.05)
    visit.wait_for_runs(2)
    visit.turn("hidden.gain", 0.9)
    visit.wait_for_runs(3)
    lab = lab_here()
    lab.set("run.presentation_time", 0.05)
    lab.set("hidden.gain", 0.9)
    of(lab)
    visit.tab("code")
    assert downloaded(visit, "code")[1] == "network.py"
    visit.page.wait_for_function(HAS, arg="nengo.Ensemble")
    visit.page.locator(".copy button").click()
    eventually(lambda: visit.page.evaluate("navigator.clipboard.readText()"), str(lab.code()))
    script = tmp_path / "network.py"
    # What it counts is written where it can be compared.
    script.write_text(f"{lab.code()}\nnp.save('counts', counts)\n", encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    counts = np.load(tmp_path / "counts.npy")
    np.testing.assert_array_equal(counts, lab.done.result.counts["output"][: len(counts)])
    assert counts.sum() > 0


HAS = """words => [...document.querySelectorAll("*")].some(function look(each) {
    return each.tagName === "TEXTAREA" && each.value.includes(words)
        || [...(each.shadowRoot ?? each).children].some(look)})"""


# The picture of the documentation: `python tests/test_lab_page.py` makes it anew.

PICTURE = pathlib.Path(__file__).parents[1] / "docs" / "_static" / "lab.png"


def draw(browser, url, path):
    """Repair the posted network in two steps, and take a picture of the page."""
    visit = Visit(browser, url)
    visit.turn("run.readout", "spike_count")
    visit.wait_for_runs(2)
    visit.turn("hidden.tuning", "gain, bias")
    visit.wait_for_runs(3)
    visit.turn("hidden.gain", 0.00018)
    visit.wait_for_runs(4)
    visit.page.wait_for_load_state("networkidle")
    visit.page.screenshot(path=path)
    visit.context.close()


def test_the_picture_of_the_documentation_can_be_made(browser, tmp_path):
    with Served("forum-mnist", "--as-posted", "--images", "12") as posted:
        draw(browser, posted.url, tmp_path / "lab.png")
    found, kept = (plt.imread(path) for path in (tmp_path / "lab.png", PICTURE))
    assert found.shape[:2] == kept.shape[:2] == (SIZE["height"], SIZE["width"])
    assert (tmp_path / "lab.png").stat().st_size < 200_000
    assert PICTURE.stat().st_size < 200_000
    # Neither is blank, and both have the knobs and the numbers at the same places.
    inked = [(each[:700, :, :3].mean(axis=2) < 0.9).mean() for each in (found, kept)]
    assert min(inked) > 0.01
    assert max(inked) < 1.5 * min(inked)


if __name__ == "__main__":
    from playwright.sync_api import sync_playwright

    with sync_playwright() as opened, Served("forum-mnist", "--as-posted") as served_here:
        chromium = opened.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        draw(chromium, served_here.url, PICTURE)
