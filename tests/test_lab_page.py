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
import urllib.parse

import matplotlib.pyplot as plt
import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("panel", reason="Panel is not installed: it comes with the extra lab")

import nengonet as nn
from nengonet import cli
from nengonet.cli import main
from nengonet.laboratory import server, state

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SIZE = {"width": 1400, "height": 900}
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
        return self.process.communicate(timeout=60)[1], self.process.returncode


def asked(url, **headers):
    """Return the status of a response, and its cookie."""
    parts = urllib.parse.urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(parts.netloc, timeout=60)) as connection:
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


class Visit:
    """A page that a visitor has opened, and their actions."""

    def __init__(self, browser, url, size=SIZE):
        self.context = browser.new_context(viewport=size)
        self.context.set_default_timeout(60_000)  # of a machine that has other work
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page, self.asked, self.errors = self.context.new_page(), [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(url)
        self.settle()

    def settle(self):
        """Wait until the run with the current knobs has finished."""
        self.page.locator(".state", has_text="done").wait_for(timeout=120_000)

    def accuracies(self):
        """Return the predicted and the measured accuracy, as the page writes them."""
        return self.page.locator(".numbers .big").all_inner_texts()[:2]

    def turn(self, knob, value):
        """Turn a knob, and wait for the page."""
        field = self.page.locator(f".knob-{knob.replace('.', '-')}").locator("input, select")
        if field.evaluate("each => each.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(str(value))
            field.press("Enter")

    def value(self, knob):
        return self.page.locator(f".knob-{knob.replace('.', '-')}").locator("input").input_value()

    def label(self, knob):
        return self.page.locator(f".knob-{knob.replace('.', '-')}").locator("label").inner_text()

    def rows(self):
        self.page.locator(".bk-tab", has_text="runs").click()
        return self.page.locator(".runs tbody tr")

    def wait_for_runs(self, n):
        self.rows().nth(n - 1).wait_for(timeout=120_000)
        self.settle()

    def tab(self, name):
        self.page.locator(".bk-tab", has_text=name).click()


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
    assert lab.wait(120)
    run = lab.history[-1]
    predicted = run.diagnosis.predicted_accuracy_with_noise
    return [f"{each.value:.3f}" for each in (predicted, run.accuracy)]


def test_it_loads_with_the_accuracies_of_the_library(visit):
    assert visit.accuracies() == of(lab_here())
    assert visit.rows().count() == 1


def test_nothing_is_asked_of_other_machines(visit, served):
    here = (served.url, f"blob:{served.url}", "data:")
    elsewhere = [each for each in visit.asked if not each.startswith(here)]
    assert len(visit.asked) > 5
    assert elsewhere == []


def test_a_knob_changes_prediction_and_run_and_back_undoes_it(visit):
    before, lab = visit.accuracies(), lab_here()
    lab.set("hidden.gain", 0.2)
    visit.turn("hidden.gain", 0.2)
    visit.wait_for_runs(2)
    after = of(lab)
    assert after != before
    assert visit.accuracies() == after
    row = visit.rows().first.inner_text()
    assert "hidden.gain: 1.33016 → 0.2" in row
    assert after[1] in row
    visit.page.locator(".back button").click()
    visit.wait_for_runs(3)
    assert visit.value("hidden.gain").startswith("1.3301")
    assert visit.accuracies() == before


def test_what_changed_since_the_last_run_is_marked(visit):
    visit.turn("run.n_images", 50)
    visit.wait_for_runs(2)
    assert visit.label("run.n_images") == "n_images"  # the last run has it
    visit.turn("run.presentation_time", 60.0)  # a run of a while
    visit.page.locator(".knob-run-presentation_time", has_text="was 0.35").wait_for()
    visit.page.locator(".back button").click()
    visit.wait_for_runs(3)
    assert visit.label("run.presentation_time") == "presentation_time (s)"


def test_a_value_out_of_range_is_said_and_changes_nothing(visit):
    before = visit.value("hidden.tau_rc")
    visit.turn("hidden.tau_rc", -1)
    visit.page.locator(".says", has_text="tau_rc").wait_for()
    assert visit.value("hidden.tau_rc") == before
    assert visit.rows().count() == 1
    visit.turn("hidden.tau_rc", 0.03)
    visit.wait_for_runs(2)
    assert visit.page.locator(".says").count() == 0


def test_another_neuron_type_has_other_knobs(visit):
    visit.turn("hidden.neuron_type", "SpikingRectifiedLinear")
    visit.wait_for_runs(2)
    assert not visit.page.locator(".knob-hidden-tau_rc").is_visible()
    assert visit.page.locator(".knob-hidden-amplitude").is_visible()


def test_the_networks_of_the_thread_are_one_click_each(visit):
    visit.page.locator(".network", has_text="posted").click()
    visit.wait_for_runs(2)
    lab = lab_here()
    lab.choose("posted")
    assert visit.accuracies() == of(lab)
    assert visit.value("input.max_rate") == "25,500"


def test_two_pages_do_not_disturb_each_other(browser, served, visit):
    before, other = visit.accuracies(), Visit(browser, served.url)
    other.turn("hidden.gain", 0.2)
    other.wait_for_runs(2)
    assert visit.rows().count() == 1
    assert visit.value("hidden.gain").startswith("1.3301")
    assert visit.accuracies() == before
    assert other.accuracies() != before
    other.context.close()


def test_an_image_and_a_neuron_can_be_chosen(visit):
    from playwright import sync_api

    visit.tab("images")
    looks = visit.page.locator(".inside-images").get_by_text("look inside", exact=True)
    chosen = visit.page.locator(".inside-images .image input")
    example = visit.page.locator(".inside-images .example")
    example.get_by_text("image 0", exact=True).wait_for()
    for number in (2, 1):  # the second while the first is drawn: neither is lost
        looks.nth(number).click()
        sync_api.expect(chosen).to_have_value(str(number), timeout=60_000)
    example.get_by_text("image 1", exact=True).wait_for()
    visit.page.wait_for_function(SHOWS, arg="spike count of each class")
    field = visit.page.locator(".inside-images .start input")
    field.fill("36")
    field.press("Enter")
    visit.page.locator(".inside-images").get_by_text("24 from 36 on, of 60").wait_for()
    assert looks.count() == 24
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


def downloaded(visit, name):
    """Open a tab, press its button, and return the download's path and name."""
    visit.tab(name)
    button = visit.page.locator(f".inside-{name} .download a")
    with visit.page.expect_download() as coming:
        button.first.click()
    return pathlib.Path(coming.value.path()), coming.value.suggested_filename


def test_a_report_of_the_run_can_be_taken_home(visit):
    visit.settle()
    accuracy = visit.accuracies()[1]
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
    visit.tab("code")
    visit.page.wait_for_function(HAS, arg="nengo.Ensemble")
    assert downloaded(visit, "code")[1] == "network.py"
    visit.page.locator(".copy button").click()
    text = visit.page.evaluate("navigator.clipboard.readText()")
    script = tmp_path / "network.py"
    # What it counts is written where it can be compared.
    script.write_text(f"{text}\nnp.save('counts', counts)\n", encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lab = lab_here()
    lab.set("run.presentation_time", 0.05)
    lab.set("hidden.gain", 0.9)
    of(lab)
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
