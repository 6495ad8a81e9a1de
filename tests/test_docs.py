"""README and documentation: commands and examples work as they stand, figures are measured."""

import importlib.util
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import click
import matplotlib.pyplot as plt
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import needs_whole_data

import nengonet as nn
from nengonet.cli import main
from nengonet.cli.shared import example_of
from nengonet.results.readout import accuracy

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TEXTS = {"README.md": README} | {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES
}
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)


def shown_in(text):
    """Return each command of a page with what the page shows that it prints."""
    consoles = "\n".join(re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL))
    return re.findall(r"^\$ (nengonet .*)\n((?:(?!\$ ).*\n)+)", consoles, flags=re.MULTILINE)


SHOWN = shown_in(README)


def module(path):
    """Import a script of the documentation, which is not a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    found = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = found
    spec.loader.exec_module(found)
    return found


examples = module(ROOT / "docs" / "examples.py")
pictures = module(ROOT / "docs" / "pictures.py")
results = module(ROOT / "docs" / "_extensions" / "results.py")
make = module(ROOT / "docs" / "results" / "make.py")
pages = module(ROOT / "docs" / "results" / "pages.py")
compare = module(ROOT / "docs" / "results" / "compare.py")
check_html = module(ROOT / "docs" / "check_html.py")


def commands(text):
    """Return the commands after a prompt, in a chain of commands, or in the text."""
    return set(re.findall(r"(?:^\$ |&& )(nengonet .*)$", text, flags=re.MULTILINE)) | set(
        re.findall(r"`(nengonet [^`]*)`", text)
    )


COMMANDS = sorted(commands(README))
ALL_COMMANDS = sorted(set().union(*map(commands, TEXTS.values())))


def test_the_lists_are_not_empty():
    assert len(COMMANDS) >= 3
    assert len(SHOWN) >= 3
    assert [kind for kind, _ in BLOCKS].count("python") >= 2
    assert len(ALL_COMMANDS) > len(COMMANDS)
    assert len(examples.pages()) > 8


def resolved(line):
    words = shlex.split(line.replace("…", ""))[1:]
    command, context = main, click.Context(main, info_name="nengonet")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, words = words[0], words[1:]
        found = command.get_command(context, name)
        assert found is not None, f"{line}: no command {name}"
        command, context = found, click.Context(found, parent=context, info_name=name)
    return command, context, words


@pytest.mark.parametrize("line", ALL_COMMANDS)
def test_every_command_of_the_documentation_exists(line):
    """Each word is parsed as the command line would, without running the command."""
    if "COMMAND" in line or " NAME" in line:
        return  # stands for any
    command, context, words = resolved(line)
    if not words and isinstance(command, click.Group):
        return  # names a group, in the running text
    try:
        command.make_context(command.name, list(words), parent=context.parent)
    except click.exceptions.Exit:
        assert words[-1] in ("--help", "-h")


def leaves(command, path=()):
    if isinstance(command, click.Group):
        for name in command.list_commands(None):
            yield from leaves(command.get_command(None, name), (*path, name))
    else:
        yield " ".join(path), command


@pytest.mark.parametrize("path, command", list(leaves(main)))
def test_every_command_is_in_the_documentation_or_like_one_that_is(path, command):
    verb, *study = path.split()
    shown = f"{verb} " if study else path  # every study has a page of its own: below
    assert any(f"nengonet {shown}" in line for line in ALL_COMMANDS)
    assert example_of(command).startswith(f"nengonet {path}")


# The README.


def test_the_readme_is_short_and_its_lines_can_be_read():
    lines = README.splitlines()
    assert len(lines) <= 200
    assert all(len(line) <= 140 for line in lines if not line.startswith(("|", "![")))


@pytest.fixture(scope="module")
def ran():
    """Return the README's blocks of Python, run as one script."""
    return examples.run(ROOT / "README.md")


def test_the_code_of_the_readme_prints_what_it_shows(ran):
    shown = [block for block in ran if block.shown]
    assert shown
    for block in ran:
        assert examples.agree(block.printed, block.shown or ""), block


def test_the_test_file_of_the_readme_passes_and_can_fail(tmp_path):
    [code] = [code for kind, code in BLOCKS if kind == "python" and "def test_" in code]
    [words] = re.findall(r"`python (-m pytest .*?)`", README)
    *options, name = words.split()
    # No options of those who run this test; and Nengo's own plugin, as for the reader.
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("PYTEST_")}
    for wrong, summary in ((False, "1 passed"), (True, "1 failed")):
        changed = code.replace("duration=1.0", "duration=1.2") if wrong else code
        (tmp_path / name).write_text(changed, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, *options, name, "-p", "no:cacheprovider"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert summary in done.stdout, done


def recorded(name):
    """Return the first lines of a run that takes too long for a test, from its record."""
    file = ROOT / "docs" / "results" / f"{name}.json"
    report = json.loads(file.read_text(encoding="utf-8"))["report"]
    wrong = round(report["n_images"] * (1 - report["ann_accuracy"]))
    ann = accuracy(
        (np.arange(report["n_images"]) >= wrong).astype(int), np.ones(report["n_images"], int)
    )
    spiking = nn.Accuracy(*(report[key] for key in ("accuracy", "interval", "n_images", "ties")))
    by_layer = report["spikes_per_image"]
    spikes = ", ".join(f"{label} {count:,.0f}" for label, count in by_layer.items())
    return (
        f"{report['name']}\n"
        f"  published            {report['published']}\n"
        f"  ANN                  {ann}\n"
        f"  spiking              {spiking}\n"
        f"  spikes per image     {sum(by_layer.values()):,.0f} ({spikes})\n"
    )


def printed(command):
    """Return what a command prints."""
    if command == make.RUNS["forum-mnist-posted"]:
        return recorded("forum-mnist-posted")
    done = CliRunner().invoke(main, shlex.split(command)[1:])
    assert done.exit_code == 0, done.output
    return done.stdout


def assert_shows(lines, shown):
    """Check that lines come in this order; a page may leave some out and say so."""
    lines = iter(lines)
    for line in shown.splitlines():
        left_out = line.strip() in ("", "…")
        assert left_out or any(examples.agree(each, line) for each in lines), line


@pytest.mark.parametrize("command, shown", SHOWN)
def test_commands_of_the_readme_print_what_it_shows(command, shown):
    assert_shows(printed(command).splitlines(), shown)


# Commands of the other pages that take seconds. Budgets and sweeps take minutes; a bench, times.
QUICK = [
    pytest.param(
        name, command, shown, marks=[needs_whole_data] if "bengali" in command else [], id=command
    )
    for name, text in TEXTS.items()
    for command, shown in shown_in(text)
    if name != "README.md" and command.split()[1] in ("diagnose", "export", "present", "weights")
]


@pytest.mark.parametrize("name, command, shown", QUICK)
def test_commands_of_a_page_print_what_it_shows(name, command, shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = re.findall(r"```(?:\{code-block\} )?python\n(.*?)```", TEXTS[name], flags=re.DOTALL)[0]
    (tmp_path / "my_script.py").write_text(made, encoding="utf-8")
    if command.endswith(".nir") and "export" not in command:
        exec(made, {})  # it writes the file that the command reads
    done = CliRunner().invoke(main, shlex.split(command)[1:])
    # Commands do not wrap what they print; the page may.
    assert_shows([line.rstrip() for line in done.output.splitlines()], shown)


def test_a_row_of_the_sweep_is_the_one_that_the_guide_shows():
    [(command, shown)] = [
        each for each in shown_in(TEXTS["docs/howto/sweeps.md"]) if "--seeds" in each[0]
    ]
    # Of the whole grid, which takes half a minute, its first cell.
    command = re.sub(r"=(\d+)[\d,]+", r"=\1", command)
    *_, row = printed(command).rstrip().splitlines()
    assert any(examples.agree(row, line) for line in shown.splitlines()), row


def test_there_are_commands_with_output_on_the_pages():
    assert len(QUICK) >= 5
    assert {"docs/howto/nir.md", "docs/howto/any-nengo-network.md"} <= {
        each.values[0] for each in QUICK
    }


def measured_in(record):
    """Yield every accuracy with an interval of a record, as the README writes them."""
    report = record["report"]
    for cell in (report, *report["cells"]):
        low, high = cell.get("interval") or (cell.get("low"), cell.get("high"))
        value = cell.get("accuracy", cell.get("mean"))
        if value is not None and low is not None:
            yield f"{value:.3f} ({low:.3f} to {high:.3f})"


@pytest.mark.parametrize("name", list(main.commands["reproduce"].list_commands(None)))
def test_the_readmes_row_of_a_study_has_the_figures_of_its_record(name):
    [row] = [line for line in README.splitlines() if line.startswith(f"| [{name}]")]
    records = [
        json.loads(file.read_text(encoding="utf-8"))
        for file in (ROOT / "docs" / "results").glob(f"{name}*.json")
        if "augmented" not in file.stem
    ]
    _, _, _, published, measured, _, _ = row.split("|")
    found = re.findall(r"\d\.\d{3} \(.*?\)", measured)
    assert found
    assert set(found) <= {text for record in records for text in measured_in(record)}
    known = {
        each.get(key)
        for record in records
        for each in (record["report"], *record["report"]["cells"])
        for key in ("published", "published_accuracy")
    }
    accuracies = [float(text) for text in re.findall(r"\d\.\d+(?=;| |$)", published)]
    assert accuracies
    assert set(accuracies) <= known


def test_pictures_of_the_readme_are_small_and_drawn_by_what_is_here(ran, monkeypatch):
    monkeypatch.setattr(examples, "run", lambda page: ran)
    linked = re.findall(r"!\[[^]]+\]\((docs/_static/.*?)\)", README)
    assert {pathlib.Path(each).name for each in linked} == {*pictures.PICTURES, "lab.png"}
    for name in linked:
        assert (ROOT / name).stat().st_size < 150_000
    for name, draw in pictures.PICTURES.items():
        drawn, kept = draw(), plt.imread(ROOT / "docs" / "_static" / name)
        assert drawn.shape == kept.shape
        # In squares of 16 pixels: other fonts and versions may move a letter, not the picture.
        rows, columns = (16 * (length // 16) for length in kept.shape[:2])
        squares = [
            grey[:rows, :columns].reshape(rows // 16, 16, -1, 16).mean(axis=(1, 3)).ravel()
            for grey in (each[..., :3].mean(axis=2) for each in (drawn, kept))
        ]
        assert np.corrcoef(*squares)[0, 1] > 0.95, name


@pytest.mark.parametrize("page", examples.pages(), ids=lambda page: page.stem)
def test_every_example_of_a_page_prints_what_the_page_shows(page):
    for block in examples.run(page):
        assert examples.agree(block.printed, block.shown or ""), block


def test_the_test_file_of_the_testing_guide_passes(tmp_path):
    text = TEXTS["docs/howto/testing.md"]
    shown = dict(reversed(re.findall(r"```(toml|python|console)\n(.*?)```", text, re.DOTALL)))
    (tmp_path / "pyproject.toml").write_text(shown["toml"], encoding="utf-8")
    (tmp_path / "test_my_network.py").write_text(shown["python"], encoding="utf-8")
    command, said = shown["console"].splitlines()
    words = [sys.executable, *shlex.split(command)[2:]]
    ran = subprocess.run(
        words,
        cwd=tmp_path,
        env=os.environ | {"PY_COLORS": "0"},  # also where FORCE_COLOR is set
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"\n{said} in " in ran.stdout, ran.stdout + ran.stderr


def test_only_the_last_digits_of_numbers_may_differ():
    assert examples.agree("0.9750 of 200, 1,234 Hz\n", "0.9800 of 200,  1,230 Hz\n")
    for other in ("0.9500 of 200, 1,234 Hz", "0.9750 of 200, 1,334 Hz", "0.9750 in 200, 1,234 Hz"):
        assert not examples.agree("0.9750 of 200, 1,234 Hz", other)
    assert not examples.agree("J = [6.5]", "J = [1. 6.5]")
    assert not examples.agree("True", "False")


def test_tests_that_the_pages_name_exist():
    found = re.findall(r"`(tests/\w+\.py)::(\w+)`", " ".join(TEXTS.values()))
    assert found
    for path, name in found:
        assert f"\ndef {name}(" in (ROOT / path).read_text(encoding="utf-8")


def test_set_up_is_two_commands_that_ci_runs():
    lines = re.findall(r"^python -m pip install.*$", README, flags=re.MULTILINE)
    assert len(lines) == 2
    assert "<!-- test command -->\n```console\n" + lines[1] in README
    assert '".[docs]"' in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


# Figures of the reproductions.


def reproductions():
    return main.commands["reproduce"].list_commands(None)


@pytest.mark.parametrize("name", reproductions())
def test_every_reproduction_has_a_page_and_a_run(name):
    assert make.RUNS[name] == f"nengonet reproduce {name}"
    text = TEXTS[f"docs/reproductions/{name}.md"]
    assert f"<!-- grid {name} -->\n" in text
    assert f"<!-- result {name} -->\n" in text
    assert f"](figures/{name}.png)" in text


RECORDS = sorted((ROOT / "docs" / "results").glob("*.json"))


@pytest.mark.parametrize("file", RECORDS, ids=lambda file: file.stem)
def test_the_record_of_a_run_says_how_it_was_made(file):
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["command"].startswith(make.RUNS[file.stem])
    assert record["provisional"] == ("--images" in record["command"])
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", record["date"])
    assert record["versions"].keys() >= {"Python", "nengonet", "nengo", "numpy"}
    # Nothing of the machine's folders.
    assert not re.search(r'"/[\w.-]+/', file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", RECORDS, ids=lambda file: file.stem)
def test_a_page_shows_the_figures_of_its_file(file):
    record = json.loads(file.read_text(encoding="utf-8"))
    report, text = record["report"], "\n".join(results.render(file.stem))
    low, high = report["interval"]
    assert f"| {report['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}) |" in text
    assert f"$ {record['command']}\n" in text
    assert ("Provisional" in text) == record["provisional"]
    rows = results.render_cells(file.stem)[2:] if report["cells"] else []
    assert len(rows) == len(report["cells"])
    for row, cell in zip(rows, report["cells"], strict=True):
        if "accuracy" in cell:
            assert f"| {cell['accuracy']:.4f} |" in row


STUDY_PAGES = [name for name in TEXTS if name.startswith("docs/reproductions/")]


@pytest.mark.parametrize("name", STUDY_PAGES)
def test_a_page_of_a_reproduction_types_no_figure(name):
    assert pages.filled(TEXTS[name]) == TEXTS[name], "run docs/results/pages.py"
    typed = re.sub(r"<!-- \w+ .*?<!-- end -->", "", TEXTS[name], flags=re.DOTALL)
    assert not re.search(r"\d\.\d{3}|\d\d \%|\d\.\d+ \%", typed.replace("95 %", "")), name


@pytest.mark.parametrize("name", STUDY_PAGES)
def test_what_a_page_folds_is_unfolded_again(name):
    """Folded parts have no headings, and an empty line before their Markdown."""
    folded = re.findall(r"<details>\n(.*?)</details>", TEXTS[name], flags=re.DOTALL)
    assert TEXTS[name].count("<details>") == TEXTS[name].count("</details>") == len(folded)
    for each in folded:
        assert re.match(r"<summary>[^<]+</summary>\n\n", each)
        assert not re.search(r"^#+ ", each, flags=re.MULTILINE)


@pytest.mark.parametrize("name", reproductions())
def test_the_grid_has_what_was_published_and_measured(name):
    rows = list(pages.GRIDS[name]())
    assert any(row.published is not None for row in rows)
    for record in RECORDS:
        published = json.loads(record.read_text(encoding="utf-8"))["report"]["published"]
        if record.stem.startswith(name) and published is not None:
            assert published in [row.published for row in rows]
    lines = pages.grid(name)[2:]
    for row, line in zip(rows, lines, strict=True):
        assert row.interval[0] <= row.measured <= row.interval[1]
        assert f"| {row.measured:.4f} | {row.interval[0]:.4f} to " in line
        assert f"| {row.n_images:,} |" in line
    figure = pages.draw(name)
    assert f"nengonet reproduce {name}" in figure.get_suptitle()
    if name != "amplitude":
        (axis,) = figure.axes
        shown = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "D"]
        assert shown == [100 * row.published for row in rows if row.published is not None]
        assert len(axis.get_yticklabels()) == len(rows)
    pages.plt.close(figure)


def test_a_page_with_a_figure_of_yesterday_is_noticed(tmp_path, monkeypatch, capsys):
    page = tmp_path / "bengali.md"
    text = TEXTS["docs/reproductions/bengali.md"]
    page.write_text(text.replace("| 0.85 |", "| 0.86 |"), encoding="utf-8")
    assert page.read_text(encoding="utf-8") != text
    monkeypatch.setattr(pages, "PAGES", tmp_path)
    monkeypatch.setattr(pages, "GRIDS", {"bengali": pages.GRIDS["bengali"]})
    monkeypatch.setattr(sys, "argv", ["pages.py", "--check"])
    assert pages.main() == 1
    assert "bengali.md" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["pages.py"])
    assert pages.main() == 0
    assert page.read_text(encoding="utf-8") == text
    assert (tmp_path / "figures" / "bengali.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="expected where: or columns:, got which: 1"):
        pages.filled("<!-- cells bengali; which: 1 -->\n<!-- end -->")


def test_two_folders_of_results_are_compared_number_by_number(tmp_path, monkeypatch, capsys):
    def write(folder, accuracy, extra):
        cells = [*extra, {"neurons": "lif", "synapse": None, "accuracy": accuracy}]
        (tmp_path / folder).mkdir(exist_ok=True)
        record = {"date": folder, "report": {"cells": cells, "ties": 3, "notes": [folder]}}
        (tmp_path / folder / "x.json").write_text(json.dumps(record))

    def call(*options):
        words = ["compare.py", str(tmp_path / "before"), str(tmp_path / "after"), *options]
        monkeypatch.setattr(sys, "argv", words)
        return compare.main(), capsys.readouterr().out

    write("before", 0.5, [])
    write("after", 0.5, [{"neurons": "relu", "synapse": 0.01, "accuracy": 0.9}])
    code, text = call()
    assert code == 0  # a new row moves no other; words are told, but are not numbers
    assert "added cells[neurons=relu synapse=0.01].accuracy: 0.9" in text
    assert "x.json: 5 values before, 8 after, 0 numbers changed or removed" in text
    assert "changed notes[0]: before -> after" in text
    write("after", 0.51, [])
    code, text = call()
    assert code == 1
    assert "changed cells[neurons=lif synapse=None].accuracy: 0.5 -> 0.51" in text
    assert call("--tolerance", "0.02")[0] == 0
    (tmp_path / "after" / "x.json").unlink()
    code, text = call()
    assert code == 1
    assert "removed ties: 3" in text


def test_a_run_that_is_missing_says_how_to_make_it():
    assert results.render("nothing") == results.render_cells("nothing")
    assert "python docs/results/make.py nothing" in results.render("nothing")[0]


def test_rows_and_columns_can_be_chosen(tmp_path, monkeypatch):
    cells = [
        {"neurons": "a_lif", "synapse": None, "accuracy": 0.5, "interval": [0.4, 0.6], "odd": [1]},
        {"neurons": "relu", "synapse": 0.005, "accuracy": None, "interval": None, "odd": None},
    ]
    record = {"report": {"cells": cells}}
    (tmp_path / "x.json").write_text(json.dumps(record))
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    assert results.render_cells("x") == [
        "| neurons | synapse | accuracy | 95 % interval |",
        "|---|---|---|---|",
        "| a\\_lif | none | 0.5000 | 0.4000 to 0.6000 |",
        "| relu | 0.005 | - | - |",
    ]
    chosen = results.render_cells("x", ["accuracy"], {"synapse": "none", "neurons": "a_lif"})
    assert chosen[2:] == ["| 0.5000 |"]
    with pytest.raises(ValueError, match="x: expected rows with .*, found none"):
        results.render_cells("x", where={"synapse": "0.01"})


# Links.


def heading(text):
    """Return GitHub's and MyST's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("name", [*TEXTS, "CHANGES.md", "benchmarks/README.md"])
def test_local_links_of_the_sources_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), f"{name}: {link}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(heading, titles), f"{name}: {link}"


def test_broken_links_and_missing_figures_of_built_pages_are_found(tmp_path):
    (tmp_path / "reproductions").mkdir()
    (tmp_path / "index.html").write_text(
        '<p id="here"><a href="#here">a</a> <a href="#there">b</a> <a href="no.html">c</a>'
        '<a href="reproductions/x.html#y">d</a> <a href="https://example.org/z">e</a></p>'
    )
    (tmp_path / "reproductions" / "x.html").write_text('<h1 id="y">0.9740</h1>')
    assert check_html.broken_links(tmp_path) == [
        "index.html: #there: no such place in index.html",
        "index.html: no.html: no such file",
    ]
    forum = [
        each for each in check_html.missing_figures(tmp_path) if each.startswith("forum-mnist.")
    ]
    assert forum == ["forum-mnist.json: 0.9810"]


def test_a_shape_that_leads_to_an_attribute_is_found(tmp_path):
    names = tmp_path / "reference" / "names"
    names.mkdir(parents=True)
    link = '<a href="x.html#{0}" title="{0}"><em>{1}</em></a>'
    (names / "nengonet.a.html").write_text(
        link.format("nengonet.Result.n_images", "n_images")
        + link.format("nengonet.Result", "Result")
        + link.format("nengonet.Result.rates", "rates").replace("em>", "code>")
    )
    assert check_html.wrong_types(tmp_path) == [
        "nengonet.a.html: a type leads to nengonet.Result.n_images"
    ]
    (names / "nengonet.a.html").write_text('<dt class="field-odd">Type<span class="colon">:</span>')
    assert check_html.wrong_types(tmp_path) == [
        "nengonet.a.html: half a sentence is taken for the type of a property"
    ]


def test_options_in_a_note_are_code_and_its_other_signs_stay():
    text = results._text("a * b, with --initial-voltage zero, `c_d` and e_f (-1 to +2) -- [x]")
    assert text == ("a \\* b, with `--initial-voltage` zero, `c_d` and e\\_f (-1 to +2) -- \\[x\\]")
