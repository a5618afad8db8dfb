"""Summaries of fabricated runs: the test's own numbers, plain statistics, and wrong input."""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
from copy import deepcopy as copy_of
from pathlib import Path

import numpy as np
import pytest
import yaml

from desed_task.errors import InputError
from desed_task.evaluation.boxes import Boxes
from desed_task.file_names import unescape_name
from local.config import load_config
from local.scoring.conditions import differing_conditions
from local.scoring.metrics import HIT_ONLY
from local.scoring.own.criteria import is_own, is_share, is_shifted
from local.scoring.score_files import read_scores
from local.summary import bootstrap, figures, rescoring
from local.summary import report as summary_report
from local.summary.comparable import check_comparable
from local.summary.resampled_metrics import resample_metrics
from local.summary.run_folders import open_run
from local.summary.summarize import summarize_folders, write_summary
from local.summary.summary import summarize
from local.summary.systems import Spread, SystemRuns
from local.task.reading import default_description
from tests.local.scoring.by_stage import score_desed
from tests.local.summary.synthetic_runs import (
    CLIPS,
    EVENTS,
    PARTS,
    RECORDINGS,
    SEGMENTS,
    fabricate_run,
    fabricate_truth,
)

pytestmark = pytest.mark.usefixtures("few_resamples")

N = 100


def units_of(summary) -> dict[str, int]:
    """Name of a test corpus -> units that were drawn."""
    return {part.corpus.name: n for part, n in summary.resampled.n_units.items()}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two good runs, two worse ones of the same seeds, and one of fewer clips."""
    root = tmp_path_factory.mktemp("runs")
    conf = fabricate_truth(root)
    made = {
        name: fabricate_run(root / "exp" / name, conf, seed=seed, quality=quality, without=without)
        for name, seed, quality, without in (
            ("good0", 0, 0.9, 0),
            ("good1", 1, 0.85, 0),
            ("bad0", 0, 0.4, 0),
            ("bad1", 1, 0.35, 0),
            ("fewer", 2, 0.9, 2),
        )
    }
    return {**made, "conf": conf}


@pytest.fixture(scope="module")
def both(folders, few_resamples):
    """Good runs against bad ones."""
    names = ("good0", "good1", "bad0", "bad1")
    good, bad = (tuple(open_run(folders[n]) for n in of) for of in (names[:2], names[2:]))
    systems = [SystemRuns("A", good), SystemRuns("B", bad)]
    return summarize(systems, config=None, n_resamples=N, seed=1, notes=check_comparable(good))


@pytest.fixture
def copy(folders, tmp_path):
    """A changed copy of a run folder: copy(name, **values of results.json)."""

    def make(name="good0", folder="copy", **changes):
        target = tmp_path / folder
        shutil.copytree(folders[name], target)
        content = json.loads((target / "results.json").read_text())
        (target / "results.json").write_text(json.dumps({**content, **changes}))
        return target

    return make


def published_of(metrics):
    return [name for name in metrics if not is_own(name)]


def summarized(*runs, against=(), config=None, n_resamples=0, seed=1):
    return summarize_folders(
        [str(run) for run in runs],
        [str(run) for run in against],
        config=config,
        n_resamples=n_resamples,
        seed=seed,
    )


# ---- the test again


def test_boxes_and_median_filters_compare_as_two_systems(folders, tmp_path):
    """Whatever the decoder, metrics of resamples follow from the same counts."""
    conf_file = folders["conf"]
    boxes = fabricate_run(tmp_path / "b", conf_file, seed=0, quality=0.9, decoder="boxes")
    run = open_run(boxes)
    truth = rescoring.read_truth(EVENTS, run.config, run.clip_ids[EVENTS.corpus.name])
    scores = read_scores(run.scores_path("teacher", EVENTS.corpus), "postprocessed")
    assert isinstance(scores, Boxes)
    again = rescoring.count_events(scores, truth, 50)
    values = dict(zip(again.names, again.values(np.ones(len(again.units))), strict=True))
    expected = {name: run.metrics[f"test/teacher/{name}"] for name in values}
    assert values == pytest.approx(expected, abs=1e-9)
    # Every clip twice is a corpus with the same figures.
    twice = dict(zip(again.names, again.values(np.full(len(again.units), 2.0)), strict=True))
    assert twice == pytest.approx(values, abs=1e-9)
    # As runs of one system they differ in one thing, not in every class's value of it.
    told = differing_conditions(open_run(folders["good0"]).content, run.content)
    decoders = [text for text in told if "decoder" in text]
    assert decoders == ["scoring.decoder.name: 'boxes' against 'median_filter'"]


@pytest.mark.parametrize("name", ["good0", "bad1", "fewer"])
def test_counts_give_every_number_of_the_test(folders, name):
    run = open_run(folders[name])
    found = {}
    for part in PARTS:
        truth = rescoring.read_truth(part, run.config, run.clip_ids[part.corpus.name])
        for role in ("student", "teacher"):
            scores = read_scores(run.scores_path(role, part.corpus), "postprocessed")
            again = rescoring.COUNT_FUNCTIONS[part.kind](scores, truth, 50, scores)
            values = again.values(np.ones(len(again.units)))
            found |= {f"test/{role}/{n}": v for n, v in zip(again.names, values, strict=True)}
    assert found == pytest.approx(run.metrics, abs=1e-9)
    assert set(found) == set(run.metrics)
    assert len([name for name in found if not is_own(name)]) == 22


def test_clips_are_drawn_of_desed_and_recordings_of_maestro(folders, both):
    assert units_of(both) == {"devtest": len(CLIPS), "maestro_real_dev": len(RECORDINGS)}
    run = open_run(folders["good0"])
    truth = rescoring.read_truth(SEGMENTS, run.config, run.clip_ids[SEGMENTS.corpus.name])
    scores = read_scores(run.scores_path("student", SEGMENTS.corpus), "postprocessed")
    assert rescoring.count_segments(scores, truth, 50).units == RECORDINGS


@pytest.fixture(scope="module")
def with_empty(folders, tmp_path_factory):
    """Runs on a table in which three clips have no event: one left them out, one scored them."""
    root = tmp_path_factory.mktemp("empty")
    tree = yaml.safe_load(folders["conf"].read_text())
    head, *rows = Path(tree["data"]["test_tsv"]).read_text().splitlines()
    empty = CLIPS[3:6]
    rows = [row for row in rows if not row.startswith(empty)]
    blank = [f"{clip}.wav" + "\t" * head.count("\t") for clip in empty]
    tree["data"]["test_tsv"] = str(root / "test.tsv")
    (root / "test.tsv").write_text("\n".join([head, *blank, *rows]) + "\n")
    (root / "conf.yaml").write_text(yaml.safe_dump(tree))
    made = {"seed": 0, "quality": 0.8}
    new = fabricate_run(root / "new", root / "conf.yaml", **made, left_out=empty)
    other = fabricate_run(root / "other", root / "conf.yaml", seed=1, quality=0.8, left_out=empty)
    return {
        "new": new,
        "other": other,
        "old": fabricate_run(root / "old", root / "conf.yaml", **made),
    }


@pytest.mark.parametrize("name", ["new", "old"])
def test_clips_without_events_are_units_of_the_set_scored_or_not(with_empty, name):
    found = summarized(with_empty[name], n_resamples=N)
    assert units_of(found)["devtest"] == len(CLIPS)
    assert not any("No intervals" in note for note in found.notes)
    run = open_run(with_empty[name])
    assert len(run.clip_ids[EVENTS.corpus.name]) == len(CLIPS) - (3 if name == "new" else 0)


def test_runs_of_both_rules_are_not_put_together(with_empty):
    assert summarized(with_empty["new"], with_empty["other"], n_resamples=N).intervals["A"]
    with pytest.raises(InputError) as error:
        summarized(with_empty["new"], with_empty["old"])
    assert "tested on 60 clips of DESED dev-test" in str(error.value)
    assert f"3 clips differ ({', '.join(CLIPS[3:6])}); test them on the same" in str(error.value)


def test_a_clip_without_a_listed_duration_is_measured(folders, tmp_path):
    """As at the test; without its audio it is named."""
    table = tmp_path / "durations.tsv"
    lines = (folders["conf"].parent / "test_dur.tsv").read_text().splitlines()
    table.write_text("\n".join(lines[:-1]) + "\n")
    config = load_config(str(folders["conf"]), [f"data.test_dur={table}"])
    with pytest.raises(InputError, match=rf"durations\.tsv: lacks 1 .*no_audio .*{CLIPS[-1]}\)"):
        rescoring.read_truth(EVENTS, config, CLIPS)
    known = rescoring.read_truth(EVENTS, config, CLIPS[:-1])
    assert set(known.durations) == set(CLIPS[:-1])


# ---- figures


def test_means_and_deviations(folders, both):
    stored = [
        json.loads((folders[name] / "results.json").read_text()) for name in ("good0", "good1")
    ]
    name = "test/teacher/psds1/psds_eval"
    values = [content["metrics"][name] for content in stored]
    spread = both.systems[0].metrics[name]
    assert spread.mean == pytest.approx(sum(values) / 2)
    assert spread.deviation == pytest.approx(abs(values[0] - values[1]) / np.sqrt(2))
    dog = both.systems[0].per_class[name]["Dog"]
    assert dog.mean == pytest.approx(statistics.fmean(c["per_class"][name]["Dog"] for c in stored))


@pytest.mark.parametrize(
    ("values", "mean", "deviation"),
    [((0.5,), 0.5, None), ((0.1, 0.2, 0.3), 0.2, 0.1), ((0.1, None), None, None), ((), None, None)],
)
def test_spread(values, mean, deviation):
    spread = Spread.of(values)
    assert (spread.mean, spread.deviation) == pytest.approx((mean, deviation))


def test_energy_is_summed_over_the_parts_of_a_training(both):
    training = both.systems[0].energy_kwh("training")
    assert training.values == (1.5, 3.0) and training.mean == 2.25
    assert both.systems[0].energy_kwh("test").values == (0.125, 0.25)
    assert both.systems[0].energy_kwh("eval") is None


def test_intervals_hold_the_figure_or_lie_near_and_stay_in_bounds(both):
    for system in both.systems:
        for name, interval in both.intervals[system.name].items():
            assert interval.low < interval.high, name
            if is_shifted(name):
                assert np.mean(interval) == pytest.approx(system.metrics[name].mean, abs=0.01)
            if is_share(name):
                assert interval.low >= 0.0 and interval.high <= 1.0, name
            width = interval.high - interval.low
            assert abs(np.mean(interval) - system.metrics[name].mean) < width, name


def test_what_is_clearly_better_is_significant(both):
    assert len(published_of(both.differences)) == 22
    found = both.differences["test/student/intersection_f1_macro_thres05/psds_eval"]
    assert found.value > 0.1 and found.interval.low > 0
    assert found.p < 0.001 and found.p <= found.p_holm < 0.02


def test_a_run_differs_from_its_own_copy_in_nothing(folders, copy):
    found = summarized(folders["good0"], against=[copy()], n_resamples=N)
    assert len(published_of(found.differences)) == 22 < len(found.differences)
    for difference in found.differences.values():
        assert difference.value == 0 and difference.interval == (0, 0)
        assert difference.p == difference.p_holm == 1.0
    assert any("have identical results (seeds: 0, 0)" in note for note in found.notes)


def test_systems_share_their_resamples_and_a_system_is_the_mean_of_its_runs(folders, both):
    alone = [
        resample_metrics([SystemRuns("A", (open_run(folders[name]),))], None, N, 1).values["A"]
        for name in ("good0", "good1")
    ]
    for name, values in both.resampled.values["A"].items():
        np.testing.assert_array_equal(values, np.mean([one[name] for one in alone], axis=0))


def test_the_seed_decides_the_resamples(folders):
    run = [SystemRuns("A", (open_run(folders["bad1"]),))]
    one, same, other = (resample_metrics(run, None, N, seed).values["A"] for seed in (1, 1, 2))
    for name, values in one.items():
        np.testing.assert_array_equal(values, same[name])
        assert not np.array_equal(values, other[name])


def test_none_are_drawn_where_none_are_wanted(folders):
    found = summarized(folders["good0"])
    assert (found.intervals, found.differences) == ({}, {})
    assert "No intervals were requested (--resamples 0)." in summary_report.reading_notes(found)
    with pytest.raises(InputError, match="--resamples 20: give 100 or more"):
        summarized(folders["good0"], n_resamples=20)


# ---- texts and pictures


def test_the_published_table(both):
    text = summary_report.format_summary(both)
    rows = [line for line in text.splitlines() if line.startswith("| published")]
    assert len(rows) == 1
    assert [cell.strip() for cell in rows[0].split("|")[2:-1]] == [
        "0.48 ± 0.003",
        "0.49 ± 0.004",
        "0.73 ± 0.007",
        "1.666",
        "0.143",
    ]
    spread = both.systems[1].metrics["test/teacher/psds1/psds_eval"]
    (teacher,) = [line for line in text.splitlines() if line.startswith("| B teacher")]
    assert f" {spread.mean:.3f} ± {spread.deviation:.3f} |" in teacher
    assert "2.250 ± 1.061" in text  # kWh of A's trainings


def test_tables_are_whole(both):
    text = summary_report.format_summary(both)
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    # Runs, published form, metrics, further ones, differences, energy, and one a metric for the
    # classes, but for none of what has none.
    assert len(tables) == 6 + 11 + 16
    for block in tables:
        assert len({line.count("|") for line in block.splitlines()}) == 1
        assert len({len(line) for line in block.splitlines()}) == 1
    short = summary_report.format_summary(both, per_class=False)
    assert "Vacuum_cleaner" in text and "Vacuum_cleaner" not in short


def test_the_notes_say_what_was_done(both):
    told = "\n".join(summary_report.reading_notes(both))
    for words in (
        f"{N} resamples of {len(CLIPS)} clips of DESED dev-test and {len(RECORDINGS)} recordings",
        "Runs are not resampled",
        "corrected for the 22 comparisons of the table and, apart from these, for the",
        "Published figures are of 1153 clips of DESED dev-test, those with events; these are of 60",
        "sed_scores_eval 0.0.4",
    ):
        assert words in told


@pytest.mark.parametrize(
    ("p", "text"), [(0.0001, "< 0.001"), (0.0005, "0.001"), (0.0312, "0.031"), (1.0, "1.000")]
)
def test_p_values_as_text(p, text):
    assert summary_report.format_p_value(p) == text


def test_everything_is_in_the_json(both):
    content = json.loads(json.dumps(summary_report.as_json(both), allow_nan=False))
    name = "test/student/segment_mpauc/sed_scores_eval"
    figure = content["systems"]["A"]["metrics"][name]
    assert figure["mean"] == both.systems[0].metrics[name].mean and len(figure["values"]) == 2
    assert figure["interval"] == list(both.intervals["A"][name])
    assert content["differences"][name]["p"] == both.differences[name].p
    assert content["systems"]["B"]["energy_kwh"]["training"]["total"] == 4.5
    assert content["bootstrap"]["units"] == {"devtest": 60, "maestro_real_dev": 12}


def test_pictures_show_both_systems_and_every_row(both):
    figure = figures.metrics_figure(both)
    assert [axes.get_title() for axes in figure.axes] == ["student", "teacher"]
    for axes in figure.axes:
        # Of 11 published metrics and 16 of our own, but for three in seconds or per hour.
        n_rows = 11 + 16 - 3
        assert len(axes.get_yticks()) == n_rows
        # A mean, the single runs and an interval for each metric and 2 systems; rules between.
        assert len(axes.lines) == 3 * n_rows * 2 + n_rows - 1
    classes = figures.classes_figure(both)
    names = [label.get_text() for label in classes.axes[0].get_yticklabels()]
    assert names[-1] == "Alarm_bell_ringing" and len(names) == 10
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[:2] == ["A: exp, 2 runs", "B: exp, 2 runs"]


# ---- what is wrong with runs


def test_unfinished_runs_are_told_how_to_go_on(tmp_path):
    (tmp_path / "version_0" / "checkpoints").mkdir(parents=True)
    (tmp_path / "version_0" / "checkpoints" / "last.ckpt").touch()
    (tmp_path / "version_1").mkdir()
    with pytest.raises(InputError) as caught:
        summarized(*(tmp_path / name for name in ("version_0", "version_1", "absent")))
    told = str(caught.value)
    assert "version_0: no results.json, the run is unfinished; resume with --resume_from" in told
    assert "version_1: no results.json, the run is unfinished; train it or leave it out" in told
    assert "absent: no such folder; give run folders, LOG_DIR/version_N" in told


def test_a_folder_of_runs_is_no_run(folders, tmp_path):
    shutil.copytree(folders["good0"], tmp_path / "version_0")
    with pytest.raises(InputError, match=r"contains runs; give them: .*version_\*"):
        summarized(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.5", True, [0.5]])
@pytest.mark.parametrize("place", ["metrics", "per_class"])
def test_a_result_that_is_no_number_is_named(folders, tmp_path, place, value):
    shutil.copytree(folders["good0"], tmp_path / "run")
    path = tmp_path / "run" / "results.json"
    content = json.loads(path.read_text())
    values = content[place]
    if place == "per_class":
        values = next(iter(values.values()))
    name = next(iter(values))
    values[name] = value
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        summarized(tmp_path / "run")
    told = str(caught.value)
    assert "run/results.json: not written by a test" in told
    assert f"{name} is {value!r}, not a number" in told


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"metrics": {}}', "\x00"])
def test_a_damaged_result_is_named(folders, tmp_path, text):
    shutil.copytree(folders["good0"], tmp_path / "run")
    (tmp_path / "run" / "results.json").write_text(text)
    with pytest.raises(InputError, match=r"run/results\.json: not written by a test"):
        summarized(tmp_path / "run")


def test_a_run_counts_once(folders):
    again = folders["good0"] / ".." / "good0"
    for runs in (
        {"against": ()},
        {"against": [folders["bad0"], again]},
    ):
        first = [folders["good0"], *([again] if not runs["against"] else [])]
        with pytest.raises(InputError, match="good0 is given twice; give each run once"):
            summarized(*first, **runs)


def test_other_clips_are_counted_and_named(folders):
    with pytest.raises(InputError) as caught:
        summarized(folders["good0"], folders["fewer"])
    told = str(caught.value)
    assert "fewer: tested on 58 clips of DESED dev-test" in told and "good0 on 60" in told
    assert f"2 clips differ ({CLIPS[58]}, {CLIPS[59]}); test them on the same data" in told
    assert "tested on 34 clips of MAESTRO real validation" in told


def test_other_numbers_of_clips_are_seen_without_the_scores(folders, copy):
    other = copy("fewer")
    shutil.rmtree(other / "metrics_test")
    with pytest.raises(InputError, match=r"tested on 58 clips of DESED dev-test.* on 60; test"):
        summarized(folders["good0"], other)


def test_other_classes_or_metrics_are_refused(folders, copy):
    content = json.loads((folders["good0"] / "results.json").read_text())
    per_class = {
        name: {("Hund" if k == "Dog" else k): v for k, v in of.items()}
        for name, of in content["per_class"].items()
    }
    with pytest.raises(InputError, match=r"other scored classes than .* 2 differ \(Dog, Hund\)"):
        summarized(folders["good1"], copy(per_class=per_class))
    metrics = {**content["metrics"], "test/student/new": 1.0}
    with pytest.raises(InputError, match=r"1 differs \(test/student/new\)"):
        summarized(folders["good1"], copy(folder="other", metrics=metrics))


def test_runs_of_tasks_that_score_other_things_are_refused(folders, copy):
    run = copy()
    content = json.loads((run / "results.json").read_text())
    content["metrics"] = {k: v for k, v in content["metrics"].items() if "segment_" not in k}
    (run / "results.json").write_text(json.dumps(content))
    tree = yaml.safe_load((run / "config.yaml").read_text())
    tree["task"] = copy_of(default_description())
    del tree["task"]["scored"]["segments"]["test"]
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    found = r"its test scores events, that of .*good1 events, segments; summarise runs of one task"
    with pytest.raises(InputError, match=found):
        summarized(folders["good1"], run)


NAMES = tuple(f"test/{role}/{HIT_ONLY}" for role in ("student", "teacher"))


def with_dog(value, folder):
    """Per-class values of a run with another psds_eval F1 of one class."""
    per_class = json.loads((folder / "results.json").read_text())["per_class"]
    return {name: {**of, "Dog": value} if name in NAMES else of for name, of in per_class.items()}


def test_runs_may_miss_different_classes(folders, copy):
    found = summarized(folders["good1"], copy(per_class=with_dog(None, folders["good0"])))
    spread = found.systems[0].per_class[NAMES[0]]["Dog"]
    assert spread.mean is None and spread.values[1] is None and spread.values[0] > 0
    note = f"- for a class in {HIT_ONLY}: no true positive in one of the runs"
    assert any(note in told for told in summary_report.reading_notes(found))
    rows = summary_report.format_summary(found).split(f"### {HIT_ONLY}")[1].splitlines()
    assert next(row for row in rows if "| Dog" in row).split()[3] == "-"
    json.dumps(summary_report.as_json(found), allow_nan=False)
    both = summarized(folders["good0"], folders["good1"])
    assert not any(note in told for told in summary_report.reading_notes(both))


def test_a_test_by_an_earlier_version_is_told(folders, copy):
    found = summarized(folders["good1"], copy(per_class=with_dog(0.0, folders["good0"])))
    (note,) = [note for note in found.notes if "earlier version of the recipe" in note]
    assert "/copy: tested by" in note and "good1" not in note


def test_a_recount_knows_classes_without_a_true_positive(copy):
    """Silence in one class: what its test would have written is what is counted again."""
    run = open_run(copy())
    truth = rescoring.read_truth(EVENTS, run.config, CLIPS)
    path = run.scores_path("student", EVENTS.corpus)
    scores = read_scores(path, "postprocessed")
    silent = scores.values.copy()
    silent[..., scores.vocabulary.index("Dog")] = 0.0
    scores = scores.map(lambda _: silent)
    report = score_desed(
        scores, truth.events, truth.durations, stage="test", role="student", n_thresholds=50
    )
    again = rescoring.count_events(scores, truth, 50)
    values = dict(zip(again.names, again.values(np.ones(len(CLIPS))), strict=True))
    for name, value in values.items():
        assert value == pytest.approx(report.metrics[f"test/student/{name}"], abs=1e-9), name
    assert values[HIT_ONLY] > values[HIT_ONLY.replace("psds_eval", "sed_scores_eval")] + 0.02


def test_other_versions_of_sed_scores_eval_are_told(folders, copy):
    """Of tests by earlier versions of the recipe, whose metrics the package computed."""
    old = {"versions": {"sed_scores_eval": "0.0.9"}, "definitions": None}
    found = summarized(folders["good1"], copy(**old, scoring=None))
    (note,) = [note for note in found.notes if "sed_scores_eval" in note]
    assert "differs between the runs: 0.0.4 (" in note and "0.0.9 (" in note
    with pytest.raises(InputError, match=r"versions\.sed_scores_eval: '0\.0\.9' against '0\.0\.4'"):
        summarized(folders["good1"], copy(folder="copy2", **old))


@pytest.mark.parametrize("installed", ["0.0.9", "not installed"])
def test_the_installed_version_of_sed_scores_eval_does_not_matter(folders, copy, installed):
    run = copy(versions={"sed_scores_eval": installed})
    found = summarized(folders["good1"], run)
    assert [note for note in found.notes if "sed_scores_eval" in note] == ["sed_scores_eval 0.0.4"]
    # Nor who computed the metrics, as the arrays agree with the package of that version.
    by_package = {"versions": {"sed_scores_eval": "0.0.4"}, "definitions": None}
    summarized(run, copy(folder="before", **by_package, computed_by=None))


def test_without_scores_everything_but_intervals_is_there(folders, copy):
    run = copy()
    shutil.rmtree(run / "metrics_test")
    found = summarized(run, n_resamples=N)
    assert not found.resampled.n_units and found.systems[0].metrics
    assert len([note for note in found.notes if "scores of the runs are missing" in note]) == 2
    text = summary_report.format_summary(found)
    assert "| published" in text and "[low, high]" not in text


def test_a_damaged_file_of_scores_is_named(folders, copy):
    run = copy()
    path = run / "metrics_test" / "teacher" / "scores_devtest.npz"
    path.write_bytes(path.read_bytes()[:1000])
    found = summarized(run, n_resamples=N)
    assert set(units_of(found)) == {"maestro_real_dev"}
    assert any(f"{path}: not scores of a test" in note for note in found.notes)


def test_tables_that_are_gone_are_told_and_may_be_given(folders, copy):
    run = copy()
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["test_tsv"] = "gone.tsv"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    found = summarized(run, n_resamples=N)
    assert set(units_of(found)) == {"maestro_real_dev"}
    (note,) = [note for note in found.notes if "No intervals" in note]
    assert "gone.tsv" in note and "give --conf_file" in note
    given = summarized(run, n_resamples=N, config=load_config(str(folders["conf"])))
    assert set(units_of(given)) == {"devtest", "maestro_real_dev"}


def test_a_truth_that_was_changed_since_is_seen(folders, copy, tmp_path):
    lines = (folders["conf"].parent / "test.tsv").read_text().splitlines()
    (tmp_path / "changed.tsv").write_text("\n".join(lines[:-3]) + "\n")
    config = load_config(str(folders["conf"]), [f"data.test_tsv={tmp_path / 'changed.tsv'}"])
    found = summarized(folders["good0"], n_resamples=N, config=config)
    assert set(units_of(found)) == {"maestro_real_dev"}
    # The clip of the last three lines is scored, but not in the table any more.
    assert any("No intervals of DESED dev-test" in note for note in found.notes)
    other = [line.replace("\tDog\t", "\tCat\t") for line in lines]
    (tmp_path / "changed.tsv").write_text("\n".join(other) + "\n")
    found = summarized(folders["good0"], n_resamples=N, config=config)
    assert any("truth of DESED dev-test (" in note for note in found.notes)
    assert any("the tables have changed since: test the run again" in n for n in found.notes)
    # Tests of earlier versions do not say what they were scored on; their metrics do.
    found = summarized(copy(scored_on=None), n_resamples=N, config=config)
    assert any("from its scores and the tables" in note for note in found.notes)


def test_energy_that_was_not_measured_or_is_damaged(folders, copy):
    run = copy()
    table = run / "codecarbon" / "emissions_baseline_training.csv"
    table.write_text("timestamp\n2026\n")
    with pytest.raises(InputError, match=r"training\.csv: not a table of codecarbon"):
        open_run(run)
    shutil.rmtree(run / "codecarbon")
    found = summarized(run, folders["good1"])
    assert found.systems[0].energy_kwh("training").values == (3.0,)
    assert "1 of 2" in summary_report.format_summary(found)
    alone = summary_report.format_summary(summarized(run))
    assert "No run has a measurement." in alone


def test_the_level_is_what_the_texts_say(both):
    assert bootstrap.CONFIDENCE_LEVEL == 0.95
    assert "95 % interval" in summary_report.format_summary(both)


def test_run_folders_of_any_name_are_one_row_each(folders, tmp_path):
    odd = [b"run\xff", b"a|b", b"tab\tnew\nline", b"$x_{ \x1b[31m"]
    runs = [str(tmp_path / os.fsdecode(name)) for name in odd]
    content = json.loads((folders["good0"] / "results.json").read_text())
    for number, run in enumerate(runs):
        shutil.copytree(folders["good0"], run)
        content["checkpoint_sha256"] = f"{number}" * 64  # tests of one checkpoint count once
        Path(run, "results.json").write_text(json.dumps(content))
    found = summarize_folders(runs, [], config=None, n_resamples=0, seed=0)
    out = tmp_path / os.fsdecode(b"sum\xfe")
    write_summary(found, out)
    text = (out / "summary.md").read_text("utf-8")
    table = text.partition("# Summary of runs\n\n")[2].partition("\n\n")[0].splitlines()
    assert len(table) == 2 + len(runs)
    cells = [re.split(r"(?<!\\)\|", line) for line in table]
    assert {len(line) for line in cells} == {6}
    shown = [unescape_name(line[2].strip().replace(r"\|", "|")) for line in cells[2:]]
    assert shown == runs
    assert "\x1b" not in text
    stored = json.loads((out / "summary.json").read_bytes())
    assert stored["systems"]["A"]["runs"] == runs


# ---- what must not be averaged


def changed(content, path, value):
    """A copy of nested values with one of them replaced."""
    name, *rest = path
    return {**content, name: changed(content[name], rest, value) if rest else value}


OTHER_CONDITIONS = [
    (("scored_on", "devtest", "durations"), "x", r"other durations of devtest \(60 clips, "),
    (("scored_on", "maestro_real_dev", "truth"), "x", r"another truth of maestro_real_dev \("),
    (("scored_on", "devtest", "clips"), "x", r"other clips of devtest"),
    (("scoring", "n_thresholds"), 20, r"scoring\.n_thresholds: 20 against 50"),
    (("scoring", "conventions", "max_fpr"), 0.2, r"conventions\.max_fpr: 0\.2 against 0\.1"),
    (("scoring", "conventions", "psds1", "dtc"), 0.5, r"psds1\.dtc: 0\.5 against 0\.7"),
    (("scoring", "clip_s"), 5.0, r"scoring\.clip_s: 5\.0 against 10\.0"),
    (("scoring", "classes"), ["Dog"], r"scoring\.classes: \['Dog'\] against"),
]
OF_A_SYSTEM = [
    (("scoring", "decoder", "frames", "Dog"), 99, r"decoder\.frames\.Dog: 99 against \d+"),
    (("scoring", "decoder", "name"), "other", r"decoder\.name: 'other' against 'median_filter'"),
    (("scoring", "precision"), "bf16", r"scoring\.precision: 'bf16' against '32'"),
    (("training_revision",), 1, r"training_revision: 1 against \d+"),
]


@pytest.mark.parametrize(("path", "value", "message"), OTHER_CONDITIONS + OF_A_SYSTEM)
def test_runs_that_were_scored_otherwise_are_not_averaged(folders, copy, path, value, message):
    content = json.loads((folders["good1"] / "results.json").read_text())
    other = copy("good1", **changed(content, path, value))
    with pytest.raises(InputError, match=message) as error:
        summarized(folders["good0"], other)
    assert "good0" in str(error.value) and str(other) in str(error.value)
    if (path, value, message) in OF_A_SYSTEM:
        summarized(folders["good0"], against=[other])  # this may be what they are compared for
    else:
        with pytest.raises(InputError, match=message):
            summarized(folders["good0"], against=[other])


def test_tests_of_one_checkpoint_count_once(folders, copy):
    again = [copy(folder=name) for name in ("b", "ü c", "d")]
    found = summarized(folders["good0"], *again, folders["good1"])
    (system,) = found.systems
    assert [run.folder.name for run in system.runs] == ["good0", "good1"]
    told = [note for note in found.notes if "a test of the same checkpoint as" in note]
    assert [note.split(":")[0] for note in told] == [str(folder) for folder in again]
    alone = summarized(folders["good0"], folders["good1"])
    assert system.metrics == alone.systems[0].metrics


def test_the_checkpoint_of_an_earlier_test_is_known_from_its_run_yaml(folders, copy):
    runs = [copy(folder=name, checkpoint_sha256=None, scored_on=None) for name in "ab"]
    for run in runs:
        records = [{"stage": "fit"}, {"stage": "test", "checkpoint": {"sha256": "ab" * 32}}]
        (run / "run.yaml").write_text(yaml.safe_dump(records))
    found = summarized(*runs)
    assert len(found.systems[0].runs) == 1
    (note,) = [note for note in found.notes if "did not store what was scored and how" in note]
    assert str(runs[0]) in note and str(runs[1]) in note
    (runs[1] / "run.yaml").write_text("[1, {stage: test, checkpoint: 3}]")
    assert len(summarized(*runs).systems[0].runs) == 2


def test_other_trainings_in_one_system_are_told(folders, copy):
    other = copy("good1")
    tree = yaml.safe_load((other / "config.yaml").read_text())
    tree["net"]["dropout"] = 0.75
    (other / "config.yaml").write_text(yaml.safe_dump(tree))
    (note,) = [n for n in summarized(folders["good0"], other).notes if "one system" in n]
    assert note.startswith("net.dropout differs between the runs: ") and "0.75 (" in note


def test_equal_seeds_of_different_trainings_are_told(folders, copy):
    def noted(*runs, against=()):
        return [n for n in summarized(*runs, against=against).notes if "have the same seed" in n]

    other = copy("good1")
    tree = yaml.safe_load((folders["good0"] / "config.yaml").read_text())
    (other / "config.yaml").write_text(yaml.safe_dump(tree))
    (note,) = noted(folders["good0"], other)
    assert note.startswith(f"{folders['good0']}, {other} have the same seed (0), so their spread")
    # Of two systems, or of one run that was tested twice, seeds are equal rightly.
    assert not noted(folders["good0"], against=[other])
    assert not noted(folders["good0"], copy(folder="again"))
    assert not noted(folders["good0"], folders["good1"])


@pytest.mark.parametrize(
    "record", [{"fast_dev_run": True}, {"command": "train_pretrained.py --fast_dev_run --gpus 0"}]
)
def test_quick_checks_among_the_runs_are_told(folders, copy, record):
    other = copy("good1")
    (other / "run.yaml").write_text(yaml.safe_dump([{"stage": "fit", **record}]))
    (note,) = [n for n in summarized(folders["good0"], other).notes if "fast_dev_run" in n]
    assert note.startswith(f"{other}: trained with --fast_dev_run")


def test_the_number_of_thresholds_is_that_of_the_test(folders, copy):
    """Also if a configuration with another one lies beside the results."""
    run = copy()
    tree = yaml.safe_load((run / "config.yaml").read_text())
    tree["training"]["n_test_thresholds"] = 7
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    found = summarized(run, n_resamples=N)
    assert "devtest" in units_of(found)
