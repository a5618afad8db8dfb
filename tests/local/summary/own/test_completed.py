"""Energy-weighted PSDS, and runs of earlier versions beside new ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from desed_task.mean_teacher import ROLES
from local.config import load_config
from local.scoring.own.criteria import is_own
from local.scoring.results import format_results
from local.summary import report as summary_report
from local.summary.own.completed import PUBLISHED_KWH, completed, energy_weights
from local.summary.resampled_metrics import _tuned
from local.summary.run_folders import FinishedRun
from local.summary.summarize import summarize_folders, write_summary
from tests.local.summary.synthetic_runs import fabricate_run, fabricate_truth

ROOT = Path(__file__).parents[4]
N = 100

pytestmark = pytest.mark.usefixtures("few_resamples")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two runs, and the first as an earlier version left it: without our own metrics."""
    root = tmp_path_factory.mktemp("completed")
    conf = fabricate_truth(root)
    made = {f"new{s}": fabricate_run(root / f"new{s}", conf, seed=s, quality=0.8) for s in (0, 1)}
    old = root / "old"
    shutil.copytree(made["new0"], old)
    content = json.loads((old / "results.json").read_text())
    for key in ("metrics", "per_class"):
        content[key] = {name: v for name, v in content[key].items() if not is_own(name)}
    del content["definitions"]["desed_task"], content["computed_by"]["desed_task"]
    content["checkpoint_sha256"] = "0" * 64
    (old / "results.json").write_text(json.dumps(content))
    return {**made, "old": old}


def summarized(*runs, against=(), n_resamples=N):
    return summarize_folders(
        [str(run) for run in runs],
        [str(run) for run in against],
        config=None,
        n_resamples=n_resamples,
        seed=1,
    )


def test_psds_are_weighted_by_the_energy_of_their_run(folders):
    found = summarized(folders["new0"], folders["new1"])
    system = found.systems[0]
    for stage, kwh in (("training", (1.5, 3.0)), ("test", (0.125, 0.25))):
        for role in ROLES:
            psds = system.metrics[f"test/{role}/psds2/sed_scores_eval"].values
            name = f"test/{role}/psds2_energy_{stage}/desed_task"
            expected = [p * PUBLISHED_KWH[stage] / own for p, own in zip(psds, kwh, strict=True)]
            assert system.metrics[name].values == pytest.approx(expected)
            low, high = found.intervals["A"][name]
            assert 0 <= low < system.metrics[name].mean * 1.3 and high > low
    text = summary_report.format_summary(found)
    assert "psds1_energy_training/desed_task" in text and "## Further metrics" in text
    assert "Not in metrics.png, as they are no shares: onset_error_s_thres05" in text
    json.dumps(summary_report.as_json(found), allow_nan=False)


def test_the_energy_of_a_single_run_scales_its_interval(folders):
    found = summarized(folders["new0"])
    factor = PUBLISHED_KWH["training"] / 1.5
    metrics, intervals = found.systems[0].metrics, found.intervals["A"]
    name, weighted = (
        "test/student/psds1/sed_scores_eval",
        "test/student/psds1_energy_training/desed_task",
    )
    assert metrics[weighted].mean == pytest.approx(metrics[name].mean * factor)
    assert intervals[weighted] == pytest.approx([bound * factor for bound in intervals[name]])


def test_what_was_not_measured_is_said(folders, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(folders["new1"], bare)
    (bare / "codecarbon" / "emissions_baseline_training.csv").unlink()
    found = summarized(folders["new0"], bare, n_resamples=0)
    assert found.systems[0].metrics["test/student/psds1_energy_training/desed_task"].mean is None
    assert found.systems[0].metrics["test/student/psds1_energy_test/desed_task"].mean is not None
    (note,) = [note for note in found.notes if "no energy-weighted PSDS by training" in note]
    assert str(bare) in note and str(folders["new0"]) not in note
    assert not any("lacks" in note for note in found.notes)


def test_no_energy_has_no_weight():
    assert energy_weights({"training": 0.0, "eval": 1.0}) == []
    assert [one.name for one in energy_weights({"test": 1.0})] == [
        "psds1_energy_test/desed_task",
        "psds2_energy_test/desed_task",
    ]


def test_an_earlier_run_is_summarised_beside_a_new_one(folders, tmp_path):
    found = summarized(folders["old"], folders["new1"])
    (note,) = [note for note in found.notes if "lacks" in note]
    assert note.startswith(f"{folders['old']}: its test lacks 16 further metrics (psds1_nonoracle")
    assert "test them on the same data" in note
    system, intervals = found.systems[0], found.intervals["A"]
    lacking = system.metrics["test/student/pipsds1/desed_task"]
    assert lacking.mean is None and lacking.values[0] is None and lacking.values[1] is not None
    new = summarized(folders["new0"], folders["new1"])
    for name, interval in new.intervals["A"].items():
        if not is_own(name):
            assert intervals[name] == interval
            assert system.metrics[name] == new.systems[0].metrics[name]
    text = summary_report.format_summary(found)
    (row,) = [line for line in text.splitlines() if line.startswith("| pipsds1/desed_task")]
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["-", "-"]
    write_summary(found, tmp_path)
    assert (tmp_path / "metrics.png").is_file()


def test_an_earlier_system_is_compared_by_what_both_have(folders):
    for runs, others in (("new1", "old"), ("old", "new1")):
        found = summarized(folders[runs], against=[folders[others]])
        names = set(found.differences)
        assert len([name for name in names if not is_own(name)]) == 22
        # Energy is measured in both.
        assert {name for name in names if is_own(name)} == {
            f"test/{role}/{psds}_energy_{stage}/desed_task"
            for role in ROLES
            for psds in ("psds1", "psds2")
            for stage in PUBLISHED_KWH
        }


def test_earlier_runs_alone_have_no_second_table(folders):
    shutil.rmtree(folders["old"] / "codecarbon")
    found = summarized(folders["old"])
    assert not any(map(is_own, found.systems[0].metrics)) and len(found.intervals["A"]) == 22
    text = summary_report.format_summary(found)
    assert "Further" not in text and "no energy-weighted PSDS by test" in text
    content = json.loads((folders["old"] / "results.json").read_text())
    assert "further" not in format_results(content)
    new = format_results(json.loads((folders["new0"] / "results.json").read_text()))
    first, second = new.index("segment_mpauc/sed_scores_eval"), new.index("further, definitions 1")
    assert first < second < new.index("psds1_nonoracle/desed_task")
    assert "oracle, thresopt: thresholds chosen on the clips that are scored" in new


def test_other_definitions_are_left_out(folders, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folders["new1"], other)
    content = json.loads((other / "results.json").read_text())
    content["definitions"]["desed_task"] = "0"
    (other / "results.json").write_text(json.dumps(content))
    found = summarized(folders["new0"], other, n_resamples=0)
    assert any("follow definitions 0, those of" in note for note in found.notes)
    assert found.systems[0].metrics["test/student/collar_map/desed_task"].mean is None
    assert found.systems[0].metrics["test/student/psds1/psds_eval"].mean is not None


def tuned_run(name, suffix):
    config = load_config(ROOT / "confs" / "mini.yaml", ["predict.threshold={Speech: 0.2}"])
    metrics = {f"test/{role}/collar_f1_macro_{suffix}/desed_task": 0.5 for role in ROLES}
    return FinishedRun(Path(name), {"metrics": metrics, "per_class": {}}, config)


def test_a_run_keeps_the_kind_of_its_thresholds_beside_one_of_the_other_kind():
    runs, _ = completed([tuned_run("a", "tuned_oracle"), tuned_run("b", "tuned")])
    assert [_tuned(run).suffix for run in runs] == ["tuned_oracle", "tuned"]


def test_a_decoder_that_was_tuned_on_dev_test_is_noted(folders, tmp_path):
    run = tmp_path / "oracle"
    shutil.copytree(folders["new0"], run)
    content = json.loads((run / "results.json").read_text())
    content["tuned_on"] = "devtest"
    (run / "results.json").write_text(json.dumps(content))
    told = f"oracle: the decoder of {run} was tuned on the test set"
    notes = summarized(folders["new1"], against=[run], n_resamples=0).notes
    assert any(note.startswith(told) for note in notes)
    assert "oracle: the decoder was tuned on the test set" in format_results(content)
