"""summarize_runs.py as a command, on fabricated run folders."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import yaml
from matplotlib.image import imread

import summarize_runs
from desed_task.file_names import escape_name
from local.cli.own_files import RECORD_FILE
from local.summary import summarize
from tests.in_process import run_main
from tests.local.summary.synthetic_runs import fabricate_run, fabricate_truth

pytestmark = pytest.mark.usefixtures("few_resamples")

FILES = {"summary.md", "summary.json", "metrics.png", "classes.png", RECORD_FILE}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Runs of two systems below exp/, as trained in this folder."""
    root = tmp_path_factory.mktemp("work")
    conf = fabricate_truth(root)
    for name, seed, quality in (("new/version_0", 1, 0.9), ("old/version_0", 2, 0.4)):
        fabricate_run(root / "exp" / name, conf, seed=seed, quality=quality)
    # A second seed, moved here from where its tables were.
    second = fabricate_run(root / "exp/new/version_1", conf, seed=3, quality=0.9)
    config = yaml.safe_load((second / "config.yaml").read_text())
    config["data"].update(test_tsv="elsewhere.tsv", real_maestro_val_dur="elsewhere.tsv")
    (second / "config.yaml").write_text(yaml.safe_dump(config))
    return root


def test_two_seeds_against_another_system(workplace):
    done = run_main(
        "summarize_runs.py",
        # The first run's tables are gone, but another's say where they are.
        *("exp/new/version_1", "exp/new/version_0", "--against", "exp/old/version_0"),
        *("--resamples", 100, "--seed", 5),
        cwd=workplace,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "error" not in done.stderr
    assert "resample" in done.stderr  # the progress bar
    assert {path.name for path in (workplace / "summary").iterdir()} == FILES

    text = (workplace / "summary/summary.md").read_text()
    head, _, _ = text.partition("## Classes")
    assert done.stdout.startswith(head) and "### segment_mauc/sed_scores_eval" in text
    assert "| A      | exp/new/version_1 | epoch=1-step=2.ckpt |    3 |" in text
    assert "per class: summary/summary.md" in done.stdout

    content = json.loads((workplace / "summary/summary.json").read_text())
    results = [
        json.loads((workplace / run / "results.json").read_text())
        for run in ("exp/new/version_1", "exp/new/version_0", "exp/old/version_0")
    ]
    name = "test/student/psds1/psds_eval"
    values = [one["metrics"][name] for one in results]
    found = content["systems"]["A"]["metrics"][name]
    assert found["values"] == values[:2] and found["mean"] == pytest.approx(sum(values[:2]) / 2)
    assert content["systems"]["B"]["metrics"][name]["deviation"] is None
    difference = content["differences"][name]
    assert difference["value"] == pytest.approx(sum(values[:2]) / 2 - values[2])
    low, high = difference["interval"]
    assert low < high and (difference["p"] < 0.05) == (low > 0 or high < 0)
    assert content["bootstrap"]["units"] == {"devtest": 60, "maestro_real_dev": 12}
    assert (content["bootstrap"]["resamples"], content["bootstrap"]["seed"]) == (100, 5)

    for name in ("metrics.png", "classes.png"):
        picture = imread(workplace / "summary" / name)
        assert picture.shape[1] == 1210 and picture.shape[0] > 500 and picture.std() > 0.05


def test_error_reports_of_tested_runs(workplace, tmp_path):
    """In the folder of each run, after the summary; they do not count as files of the summary."""
    tmp_path /= os.fsdecode(b"a\nb\xff")
    runs = ("exp/new/version_0", "--against", "exp/old/version_0")
    arguments = (*runs, "--resamples", 0, "--output_dir", tmp_path, "--error_report", "teacher")
    done = run_main("summarize_runs.py", *arguments, cwd=workplace)
    assert done.returncode == 0, done.stderr
    pages = [f"exp/{name}/version_0/error_report_teacher/index.html" for name in ("new", "old")]
    told = [f"error report of the teacher: {page}" for page in pages]
    *_, pictures, first, second = done.stdout.splitlines()
    assert [first, second] == told
    names = (escape_name(tmp_path / name) for name in ("metrics.png", "classes.png"))
    assert pictures == f"figures: {', '.join(names)}" and r"a\nb\xff" in pictures
    assert all((workplace / page).is_file() for page in pages)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert not (workplace / "exp/new/version_0/error_report").exists()
    assert done.stderr.count("10 clips have no page in the error report") == 2


def test_one_seed_gives_one_summary(workplace, run_script, tmp_path, monkeypatch):
    """Through the command, and in a process that has drawn other numbers before."""
    run = "exp/old/version_0"
    conf = ("--conf_file", workplace / "conf.yaml")
    done = run_script(
        "summarize_runs.py",
        *(run, "--resamples", 100, "--output_dir", tmp_path / "one", *conf),
        cwd=workplace,
    )
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(workplace)
    np.random.seed(9)
    found = summarize.summarize_folders([run], [], config=None, n_resamples=100, seed=42)
    summarize.write_summary(found, tmp_path / "two")
    for name in sorted(FILES - {RECORD_FILE}):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_elsewhere_everything_but_intervals_is_there(workplace, tmp_path):
    """A run folder alone, as on another machine."""
    shutil.copytree(workplace / "exp/new/version_1", tmp_path / "run")
    done = run_main("summarize_runs.py", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for title in ("DESED dev-test", "MAESTRO real validation"):
        assert f"No intervals of {title}: " in done.stdout
    assert "give --conf_file with the data's paths" in done.stdout
    content = json.loads((tmp_path / "summary/summary.json").read_text())
    assert content["bootstrap"]["units"] == {} and content["differences"] == {}
    assert {path.name for path in (tmp_path / "summary").iterdir()} == FILES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["exp/new/version_0", "exp/new/version_0"], "exp/new/version_0 is given twice"),
        (["exp/old/version_0", "--conf_file", "absent.yaml"], "absent.yaml"),
        (["exp/old/version_0", "--resamples", "0", "--output_dir", "conf.yaml"], "conf.yaml"),
    ],
)
def test_wrong_input_ends_in_one_message(arguments, message, workplace):
    before = {path: path.stat().st_mtime_ns for path in workplace.rglob("*")}
    done = run_main("summarize_runs.py", *arguments, cwd=workplace)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr and done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr
    assert {path: path.stat().st_mtime_ns for path in workplace.rglob("*")} == before


@pytest.mark.parametrize("name", sorted(FILES - {RECORD_FILE}))
def test_files_of_the_user_stay(workplace, tmp_path, capsys, monkeypatch, name):
    mine = tmp_path / "out" / name
    mine.parent.mkdir()
    mine.write_text("of the user")
    monkeypatch.chdir(workplace)
    arguments = ["exp/old/version_0", "--output_dir", str(mine.parent), "--resamples", "0"]
    assert summarize_runs.main(arguments) == 2
    assert f"--overwrite:\n  - {mine}\n" in capsys.readouterr().err
    assert list(mine.parent.iterdir()) == [mine] and mine.read_text() == "of the user"
    if name == "summary.md":
        for more in (["--overwrite"], []):
            assert summarize_runs.main([*arguments, *more]) == 0
        assert mine.read_text() != "of the user"
