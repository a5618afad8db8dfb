"""PSDS by group of clips: tables, what is left out, and the summary of such a test."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml

from desed_task.errors import InputError
from local.config import load_config
from local.scoring.metrics import event_test_metrics
from local.scoring.own.groups import read_groups
from local.scoring.results import RESULTS_FILE, format_results
from local.scoring.score_files import read_scores
from local.summary import report as summary_report
from local.summary.rescoring import read_truth
from local.summary.run_folders import open_run
from local.summary.summarize import summarize_folders
from tests.local.summary.synthetic_runs import CLIPS, fabricate_run, fabricate_truth
from tests.published_task import DEVTEST, TASK

pytestmark = pytest.mark.usefixtures("few_resamples")

COLUMN = "gerät | place"
# 27 clips each; in the first one nothing, in the last ones too few events.
VALUES = ("", *("ü/1", "b c") * 27, *["rare"] * 5)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A run whose clips are in groups, and one of the same configuration without them."""
    root = tmp_path_factory.mktemp("groups")
    conf = fabricate_truth(root)
    plain = fabricate_run(root / "plain", conf, seed=1, quality=0.8)
    rows = [f"{clip}.wav\t{value}" for clip, value in zip(CLIPS, VALUES, strict=True)]
    # Also clips that are not of the test.
    table = "\n".join([f"filename\t{COLUMN}", "Yother.wav\tü/1", *rows]) + "\n"
    (root / "groups.tsv").write_text(table, encoding="utf-8")
    tree = yaml.safe_load(conf.read_text())
    tree["data"]["test_groups"] = {"table": str(root / "groups.tsv"), "column": COLUMN}
    grouped = root / "grouped.yaml"
    grouped.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    run = fabricate_run(root / "run", grouped, seed=0, quality=0.8)
    return {"root": root, "conf": grouped, "run": run, "plain": plain}


def content_of(folder):
    return json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))


def test_a_group_is_scored_as_if_there_were_no_other(folders):
    run = open_run(folders["run"])
    truth = read_truth(TASK.part("test", "events"), run.config, run.clip_ids[DEVTEST.name])
    scores = read_scores(run.scores_path("teacher", DEVTEST), "postprocessed")
    for value in ("ü/1", "b c"):
        clips = [clip for clip, own in zip(CLIPS, VALUES, strict=True) if own == value]
        alone = event_test_metrics(
            scores.select(clips),
            truth._replace(events=truth.events.select(clips)),
            role="teacher",
            n_thresholds=5,
        )
        for name in ("psds1", "psds2"):
            full = f"test/teacher/{name}[{COLUMN}={value}]/desed_task"
            same = f"test/teacher/{name}/sed_scores_eval"
            assert run.metrics[full] == pytest.approx(alone.metrics[same], abs=1e-12)
            assert run.per_class[full] == pytest.approx(alone.per_class[same], abs=1e-12)


def test_groups_without_every_class_are_named(folders):
    content = content_of(folders["run"])
    told = content["groups"]
    assert told["column"] == COLUMN and told["clips_in_no_group"] == 1
    assert told["clips"] == {"b c": 27, "rare": 5, "ü/1": 27}
    assert set(told["left_out"]) == {"rare"} and 0 < len(told["left_out"]["rare"]) < 10
    assert not any("rare" in name for name in content["metrics"])
    text = format_results(content)
    assert f"clips by {COLUMN}: b c 27, rare 5, ü/1 27; in no group: 1" in text
    assert f"no PSDS of {COLUMN}=rare: no event of {told['left_out']['rare'][0]}" in text
    assert "groups" not in content_of(folders["plain"])


def test_groups_have_intervals_and_other_runs_lack_them(folders):
    found = summarize_folders(
        [str(folders["run"])], [str(folders["plain"])], config=None, n_resamples=100, seed=1
    )
    full = f"test/student/psds1[{COLUMN}=b c]/desed_task"
    low, high = found.intervals["A"][full]
    assert 0 <= low < high <= 1
    assert found.systems[1].metrics[full].mean is None and full not in found.differences
    assert not any("No intervals" in note for note in found.notes)
    (note,) = [note for note in found.notes if "lacks 4 further metrics" in note]
    assert str(folders["plain"]) in note and "b c" in note
    text = summary_report.format_summary(found)
    assert "psds1[gerät \\| place=ü/1]/desed_task" in text


def test_a_changed_table_gives_no_intervals_of_groups_but_all_others(folders, tmp_path):
    tree = yaml.safe_load(folders["conf"].read_text(encoding="utf-8"))
    (tmp_path / "other.tsv").write_text(
        (folders["root"] / "groups.tsv").read_text(encoding="utf-8").replace("ü/1", "other")
    )
    tree["data"]["test_groups"]["table"] = str(tmp_path / "other.tsv")
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(tree))
    config = load_config(str(tmp_path / "conf.yaml"))
    found = summarize_folders([str(folders["run"])], [], config=config, n_resamples=100, seed=1)
    assert any("No intervals of PSDS by group: data.test_groups are not" in n for n in found.notes)
    assert "test/student/psds1_nonoracle/desed_task" in found.intervals["A"]
    assert not any("[" in name for name in found.intervals["A"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "no such table"),
        (["filename\tother", "a.wav\tx", "b.wav\ty"], "lacks the columns device"),
        (["filename\tdevice", "a.wav\tx"], "lacks 1 clip of the test set .*b.*; add a row"),
        (
            ["filename\tdevice", "a.wav\tx", "b.wav\ty", "a.wav\tz"],
            "line 4: device of a is 'z', above it 'x'; give each clip one value",
        ),
        (["filename\tdevice", "a.wav\t", "b.wav\t "], "device is empty for every clip"),
    ],
)
def test_unusable_tables_are_refused(folders, tmp_path, rows, message):
    config = load_config(str(folders["conf"]))
    table = tmp_path / "tabelle ü.tsv"
    if rows is not None:
        table.write_text("\n".join(rows) + "\n")
    asked = config.data.test_groups.model_copy(update={"table": str(table), "column": "device"})
    config = config.model_copy(
        update={"data": config.data.model_copy(update={"test_groups": asked})}
    )
    with pytest.raises(InputError, match=message) as error:
        read_groups(config, ["a", "b"])
    assert "data.test_groups" in str(error.value) and "tabelle ü.tsv" in str(error.value)


def test_without_the_key_there_are_none(folders):
    config = load_config(str(folders["conf"]))
    config = config.model_copy(
        update={"data": config.data.model_copy(update={"test_groups": None})}
    )
    assert read_groups(config, ["a"]) is None


def test_a_column_of_the_test_table_works_and_repeated_rows_agree(folders, tmp_path):
    config = load_config(str(folders["conf"]))
    (tmp_path / "t.tsv").write_text(
        "filename\tonset\troom\na.wav\t1\tx\na.wav\t2\tx\nb.wav\t3\ty\n"
    )
    asked = config.data.test_groups.model_copy(
        update={"table": str(tmp_path / "t.tsv"), "column": "room"}
    )
    data = config.data.model_copy(update={"test_groups": asked})
    groups = read_groups(config.model_copy(update={"data": data}), ["b", "a"])
    assert groups.of == {"b": "y", "a": "x"} and groups.values == ["x", "y"]
    # The order of clips does not matter.
    again = read_groups(config.model_copy(update={"data": data}), ["a", "b"])
    assert groups.report({})["sha256"] == again.report({})["sha256"]
    other = replace(groups, of={"b": "y", "a": "y"})
    assert other.report({})["sha256"] != groups.report({})["sha256"]
