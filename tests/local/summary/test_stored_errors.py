"""Error reports of runs that were tested before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from desed_task.errors import InputError
from local.config import load_config
from local.summary.stored_errors import report_stored_errors
from tests.local.summary.synthetic_runs import CLIPS, fabricate_run, fabricate_truth


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run without audio, and a configuration that names its tables."""
    root = tmp_path_factory.mktemp("stored")
    conf = fabricate_truth(root)
    return fabricate_run(root / "run", conf, seed=0, quality=0.8), conf


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Pictures are empty files, as drawing takes most of the time."""
    save = "local.error_report.write.save_figure"
    monkeypatch.setattr(save, lambda _, path: path.write_bytes(b"PNG"))


@pytest.fixture
def run(made, tmp_path):
    """A copy of the run."""
    return shutil.copytree(made[0], tmp_path / "läuft")


def counts_of(page) -> dict[str, int]:
    return json.loads((page.parent / "errors.json").read_text())["all_classes"]


def test_the_reports_of_both_networks_lie_beside_each_other(run):
    pages = {}
    for role in ("student", "teacher"):
        with pytest.warns(UserWarning, match="10 clips have no page in the error report: Y"):
            (pages[role],) = report_stored_errors([str(run)], None, role)
    assert pages["student"] == run / "error_report" / "index.html"
    assert pages["teacher"] == run / "error_report_teacher" / "index.html"
    assert "teacher on DESED dev-test" in pages["teacher"].read_text()
    student, teacher = map(counts_of, pages.values())
    assert student["events"] == teacher["events"] == 3 * len(CLIPS)
    assert student != teacher
    text = (run / "metrics_test" / "per_class.tsv").read_text()
    assert "intersection_f1_macro_thres05" in text and 0 < student["hits"] < student["events"]


def test_tables_of_another_configuration_and_thresholds_of_the_run(run, made):
    config = load_config(run / "config.yaml").dump()
    config["data"]["test_tsv"] = "gone.tsv"
    config["predict"]["threshold"] = {"Dog": 0.999}
    (run / "config.yaml").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"gone\.tsv"):
        report_stored_errors([str(run)], None, "student")
    with pytest.warns(UserWarning, match="no page"):
        (page,) = report_stored_errors([str(run)], load_config(made[1]), "student")
    classes = json.loads((page.parent / "errors.json").read_text())["classes"]
    assert classes["Dog"]["detections"] == 0 < classes["Cat"]["detections"]


def test_other_truth_than_that_of_the_test(run, made, tmp_path):
    text = Path(load_config(made[1]).data.test_tsv).read_text()
    (tmp_path / "changed.tsv").write_text(text.replace("\tDog\t", "\tCat\t"))
    config = load_config(made[1], [f"data.test_tsv={tmp_path / 'changed.tsv'}"])
    with pytest.raises(InputError, match=r"truth of DESED .* not those of the test of .*läuft"):
        report_stored_errors([str(run)], config, "student")


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("config.yaml", "thresholds are not known; restore it, or test the run again"),
        ("metrics_test/student/scores_devtest.npz", "no such file; test the run again"),
        ("results.json", "the run is unfinished"),
    ],
)
def test_what_is_missing_is_named(run, lost, message):
    (run / lost).unlink()
    with pytest.raises(InputError, match=message):
        report_stored_errors([str(run)], None, "student")
    assert not (run / "error_report").exists()


def test_a_folder_that_cannot_be_written(run, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(run))

    monkeypatch.setattr("local.summary.stored_errors.write_error_report", refuse)
    with pytest.raises(InputError, match=r"no error report can be written: .*Permission denied"):
        report_stored_errors([str(run)], None, "student")
