"""Studies of several runs: what is finished is kept, and gone on with."""

import contextlib
import os

import numpy as np
import pytest
from click.testing import CliRunner

import nengonet as nn
from nengonet import datasets
from nengonet.cli import main
from nengonet.reproductions import bengali, cifar_csnn
from nengonet.reproductions.shared import files_of_runs


def test_no_folder_no_files():
    assert files_of_runs(None)("a") == {}


def test_each_run_has_its_file(tmp_path):
    saved = files_of_runs(tmp_path / "study")
    assert saved("a") == {"save": tmp_path / "study" / "a.h5", "resume": True}
    assert (tmp_path / "study").is_dir()
    files_of_runs(tmp_path / "study")  # an empty one is as good as none


def test_what_cannot_be_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(nn.InputError, match="file: expected a folder, .*; found a file"):
        files_of_runs(tmp_path / "file")
    with pytest.raises(nn.InputError, match="the folder .*no does not exist"):
        files_of_runs(tmp_path / "no" / "study")
    with pytest.raises(nn.InputError, match=r"holds files already: go on with them \(resume\)"):
        files_of_runs(tmp_path)
    files_of_runs(tmp_path, resume=True)


STUDIES = {
    "bengali": (bengali, {"n_sweep": 0, "n_steps": 30}),
    "cifar-csnn": (cifar_csnn, {"neurons": ["relu"], "synapses": [0.005, 0.01]}),
}


@pytest.mark.parametrize("name", STUDIES)
def test_an_interrupted_study_goes_on(name, tmp_path, monkeypatch):
    """On noise for images. The third run is interrupted; the first two do not run again."""
    module, settings = STUDIES[name]
    shape = (2, 28, 28) if name == "bengali" else (2, 32, 32, 3)
    images = np.random.default_rng(0).random(shape)
    monkeypatch.setattr(datasets, "load", lambda *_, **__: (images, np.zeros(2, dtype=int)))
    settings |= {"n_images": 2, "n_jobs": 1, "progress": False}
    present, begun = module.present, []

    def interrupted(*arguments, **given):
        begun.append(given["save"])
        if len(begun) == 3:
            raise KeyboardInterrupt
        return present(*arguments, **given)

    monkeypatch.setattr(module, "present", interrupted)
    with contextlib.suppress(KeyboardInterrupt):
        module.reproduce(**settings, save=tmp_path / "study")
    written = {file: os.stat(file).st_mtime_ns for file in begun[:2]}
    assert [file.name for file in sorted((tmp_path / "study").iterdir())] == sorted(
        file.name for file in written
    )
    resumed = module.reproduce(**settings, save=tmp_path / "study", resume=True)
    assert {file: os.stat(file).st_mtime_ns for file in written} == written
    assert len(list((tmp_path / "study").iterdir())) == 3
    assert resumed.result.n_images == 2
    monkeypatch.setattr(module, "present", present)
    if name == "bengali":
        return  # its networks take seconds to build
    assert resumed.to_json() == module.reproduce(**settings).to_json()
    with pytest.raises(nn.InputError, match="another network"):
        module.reproduce(**settings, seed=5, save=tmp_path / "study", resume=True)


@pytest.mark.parametrize("name", STUDIES)
def test_resume_needs_a_folder(name):
    done = CliRunner().invoke(main, ["reproduce", name, "--resume"])
    assert done.exit_code == 2
    assert "--resume: expected --save" in done.stderr
