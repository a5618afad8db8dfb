"""Stage two: lengths are worth what a test of them gives, and the sweep finds the best."""

from __future__ import annotations

import itertools
import json
import os
import shutil

import numpy as np
import pytest
import torch

from desed_task.evaluation.scores import Scores
from desed_task.postprocess import ClassMedianFilter
from local import run
from local.classes_dict import CLASSES, VOCABULARY
from local.config import check_config, load_config
from local.data import datamodule
from local.data.datamodule import SedDataModule
from local.data.splits import DividedClips, divide
from local.tuning import cached_scores as scores_module
from local.tuning.cached_scores import STAGES_OF_OBJECTIVE, TeacherScores, teacher_scores
from local.tuning.median_stage import format_comparison, lengths_of, search_lengths, tune_medians
from local.tuning.median_sweep import MedianFilterObjective, sweep_lengths
from local.tuning.search_space import Dimension, Space
from local.tuning.training_stage import TuningPlan
from local.tuning.workers.messages import TrialOutcome
from tests.local.scoring.by_stage import score_desed, score_maestro

pytestmark = pytest.mark.usefixtures("undrawn")

CPU = torch.device("cpu")
START = tuple([7] * len(CLASSES))


def made_up(config, part) -> TeacherScores:
    """Scores that are the truth, blurred and noisy."""
    stage, needed = STAGES_OF_OBJECTIVE[part]
    data = SedDataModule(config)
    data.check(needed)
    draws, grid = np.random.default_rng(4), config.grid
    found = []
    for truth in data.truths(stage):
        events = truth.events
        shape = (len(events.clip_ids), grid.n_frames, len(VOCABULARY))
        values = draws.uniform(0, 0.3, shape)
        rows = zip(
            events.clip_index, events.label_index, events.onset_s, events.offset_s, strict=True
        )
        for clip, label, onset_s, offset_s in rows:
            frames = slice(*np.searchsorted(grid.boundaries_s, [onset_s, offset_s]))
            values[clip, frames, label] += draws.uniform(0, 0.7, values[clip, frames, label].shape)
        found.append(Scores(events.clip_ids, values, grid.boundaries_s, VOCABULARY))
    return TeacherScores(stage, tuple(found), data.truths(stage))


@pytest.fixture(scope="module", params=["held_out", "test"])
def judged(request, extracted):
    part = made_up(load_config(extracted), request.param)
    return part, MedianFilterObjective(part)


def test_lengths_are_worth_what_the_metrics_of_a_run_say(judged):
    part, objective = judged
    lengths = np.random.default_rng(5).choice([1, 3, 5, 9], len(CLASSES)).tolist()
    value, smooth = objective(lengths), ClassMedianFilter(lengths)
    metrics = {}
    both = zip((score_desed, score_maestro), part.scores, strict=True)
    for (score, scores), truth in zip(both, part.truths, strict=True):
        report = score(
            scores.map(smooth),
            truth.events,
            truth.durations,
            stage=part.stage,
            role="teacher",
            n_thresholds=2,
        )
        metrics.update(report.metrics)
    facts = objective.facts(value)
    assert facts == pytest.approx({name: metrics[name] for name in facts}, abs=1e-9)
    assert value.psds1 > 0.02 and value.mpauc > 0.1
    assert value.total == sum(facts.values())
    # Each length of a class is filtered and counted once.
    assert len(objective._rocs) == len(objective.event_labels)


def test_the_sweep_finds_the_best_of_all_combinations(judged):
    _, objective = judged
    desed, maestro = objective.event_labels[:3], objective.segment_labels[:2]
    candidates = dict.fromkeys((*desed, *maestro), (1, 5, 11))
    best = sweep_lengths(objective, START, candidates)
    changed = [CLASSES.index(label) for label in candidates]
    value = []
    for lengths in itertools.product(*([(1, 5, 7, 11)] * len(changed))):
        tried = list(START)
        for index, length in zip(changed, lengths, strict=True):
            tried[index] = length
        value.append(objective(tried).total)
    assert objective(best).total == pytest.approx(max(value), abs=1e-12)
    assert objective(best).total > objective(START).total
    assert all(best[i] == START[i] for i in range(len(CLASSES)) if i not in changed)


def test_the_sweep_finds_at_least_what_a_search_finds(judged, make_plan):
    _, objective = judged
    space = Space(
        tuple(Dimension(f"net.median_filter.{c}", "int", 1, 19, 6) for c in CLASSES)
    )  # fmt: skip
    plan = make_plan(space=space, n_trials=12)
    log = search_lengths(
        plan, lambda config: TrialOutcome("complete", objective(config.net.median_filter).total)
    )
    candidates = dict.fromkeys(CLASSES, (1, 7, 13, 19))
    assert (
        objective(sweep_lengths(objective, START, candidates)).total >= log.shared_study.best.value
    )


def test_lengths_of_a_line_of_the_space():
    assert lengths_of(Dimension("p", "int", 1, 7, 2)) == [1, 3, 5, 7]
    assert lengths_of(Dimension("p", "int", 1, 3)) == [1, 2, 3]
    assert lengths_of(Dimension("p", "categorical", choices=(3, 9))) == [3, 9]


@pytest.fixture
def plan(extracted, tmp_path):
    tuned = ("Speech", "Dog", "people talking", "footsteps", "car")
    dimensions = tuple(Dimension(f"net.median_filter.{c}", "int", 1, 9, 4) for c in tuned)
    url = f"sqlite:///{tmp_path}/s.db"
    config = load_config(extracted, ["energy.enabled=false"])
    return TuningPlan(config, Space(dimensions), tmp_path, url, "tuning_postprocessing", 3)


def test_best_yaml_gives_in_a_test_what_the_tuner_said(plan, checkpoint, capsys):
    best = tune_medians(plan, checkpoint, (), swept=True, device=CPU)
    said = capsys.readouterr().out
    config = load_config(best)
    objective = MedianFilterObjective(
        teacher_scores(config, checkpoint, "test", plan.log_dir / "scores", CPU)
    )
    value = objective(config.net.median_filter)
    assert f"{value.psds1:.4f} {value.mpauc:7.4f} {value.total:7.4f}\ntuned on: held_out" in said
    folder = plan.log_dir / "report_medians"
    rows = [line.split("\t") for line in (folder / "medians.tsv").read_text().splitlines()]
    assert rows[0] == ["event_label", "metric", "length", "value"]
    # Classes without any event in the truth are not scored.
    assert {(row[0], row[1]) for row in rows[1:]} <= {
        *((label, "psds1") for label in ("Speech", "Dog")),
        *((label, "pauc") for label in ("people talking", "footsteps", "car")),
    }
    assert len(rows) - 1 == 3 * len({row[0] for row in rows[1:]}) > 3
    assert (folder / "medians.png").read_bytes().startswith(b"\x89PNG")
    options = run.RunOptions(str(plan.log_dir / "test"))
    folder = run.test(config, str(checkpoint), options)
    metrics = json.loads((folder / "results.json").read_text())["metrics"]
    facts = objective.facts(value)
    assert {name: metrics[name] for name in facts} == pytest.approx(facts, abs=1e-6)
    tested = load_config(folder / "config.yaml")
    assert tested.net.median_filter == config.net.median_filter


def test_a_search_of_a_checkpoint(plan, checkpoint, capsys, monkeypatch):
    best = tune_medians(plan, checkpoint, (), swept=False, device=CPU)
    assert "best configuration: " in capsys.readouterr().out
    assert set(load_config(best).net.median_filter) <= {1, 5, 9} | set(
        plan.config.net.median_filter
    )
    # Run again, scores are read and no trial is left to be run.
    monkeypatch.setattr(scores_module, "_compute", None)
    assert tune_medians(plan, checkpoint, (), swept=False, device=CPU) == best


def test_scores_are_computed_again_when_what_they_are_of_has_changed(
    plan, extracted, checkpoint, tmp_path, monkeypatch
):
    folder, calls = tmp_path / "scores", []
    compute = scores_module._compute
    monkeypatch.setattr(scores_module, "_compute", lambda *a: calls.append(1) or compute(*a))
    first = teacher_scores(plan.config, checkpoint, "held_out", folder, CPU)
    again = teacher_scores(plan.config, checkpoint, "held_out", folder, CPU)
    assert len(calls) == 1
    assert np.array_equal(first.of("events")[0].values, again.of("events")[0].values)
    assert first.of("segments")[0].clip_ids == again.of("segments")[0].clip_ids
    kept = folder / "held_out_synthetic.npz"
    kept.write_bytes(kept.read_bytes()[:100])
    teacher_scores(plan.config, checkpoint, "held_out", folder, CPU)
    assert len(calls) == 2
    # Of earlier versions, which called the test sets otherwise.
    tested = teacher_scores(plan.config, checkpoint, "test", folder, CPU)
    assert len(calls) == 3
    for path in folder.glob("test_*.npz"):
        path.rename(path.with_name(path.name.replace("test_", "devtest_", 1)))
    again = teacher_scores(plan.config, checkpoint, "test", folder, CPU)
    assert again.of("segments")[0].clip_ids == tested.of("segments")[0].clip_ids
    assert len(calls) == 3
    calls.pop()
    copy = tmp_path / "other.ckpt"
    copy.write_bytes(checkpoint.read_bytes())
    teacher_scores(plan.config, copy, "held_out", folder, CPU)
    assert len(calls) == 2  # the same file under another name

    # As a version that split MAESTRO otherwise left them: of the same files, but other clips.
    def swapped(corpus, *arguments):
        found = divide(corpus, *arguments)
        held_out = corpus.cut_from_recordings
        return DividedClips(found.validation, found.train) if held_out else found

    with monkeypatch.context() as patched:
        patched.setattr(datamodule, "divide", swapped)
        other = teacher_scores(plan.config, checkpoint, "held_out", folder, CPU)
        assert len(calls) == 3
        assert not set(other.of("segments")[0].clip_ids) & set(first.of("segments")[0].clip_ids)
    teacher_scores(plan.config, checkpoint, "held_out", folder, CPU)
    assert len(calls) == 4
    # A clip that was written again, in a folder of its own: other tests read the session's.
    own = tmp_path / "eigene Clips"
    shutil.copytree(plan.config.data.synth_val_folder, own)
    config = load_config(extracted, ["energy.enabled=false", f"data.synth_val_folder={own}"])
    teacher_scores(config, checkpoint, "held_out", folder, CPU)
    n_calls = len(calls)
    teacher_scores(config, checkpoint, "held_out", folder, CPU)
    assert len(calls) == n_calls
    wav = min(own.glob("*.wav"))
    before = wav.stat()
    os.utime(wav, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    teacher_scores(config, checkpoint, "held_out", folder, CPU)
    assert len(calls) == n_calls + 1


def test_scores_of_dev_test_are_of_the_clips_with_events(plan, checkpoint, tmp_path, capsys):
    found = teacher_scores(plan.config, checkpoint, "test", tmp_path, CPU)
    assert "clips without events, left out: 1 of DESED dev-test" in capsys.readouterr().out
    truth = found.truths[0]
    assert len(truth.left_out) == 1
    assert set(found.of("events")[0].clip_ids) == set(truth.events.clip_ids)
    tree = plan.config.dump()
    tree["data"]["keep_clips_without_events"] = ["devtest"]
    kept = check_config(tree, "kept")
    more = teacher_scores(kept, checkpoint, "test", tmp_path, CPU)
    of_all, of_some = (set(one.of("events")[0].clip_ids) for one in (more, found))
    assert of_all - of_some == set(truth.left_out)
    # Worth is computed from scores, which never count them.
    assert MedianFilterObjective(more)(START) == MedianFilterObjective(found)(START)


def test_figures_stand_side_by_side():
    from local.tuning.median_sweep import ObjectiveValue

    both = {"held_out": ObjectiveValue(0.1, 0.2), "test": ObjectiveValue(0.3, 0.4)}
    text = format_comparison({"before": both}, "held_out")
    assert text.splitlines()[1].split() == ["before", "0.1000", "0.2000", "0.3000", "0.3000",
                                            "0.4000", "0.7000"]  # fmt: skip
    assert text.splitlines()[2] == "tuned on: held_out"
    # Of a task without segments, and one without a test.
    text = format_comparison({"before": {"held_out": ObjectiveValue(0.1, None)}}, "held_out")
    assert text.splitlines()[0].split() == ["teacher", "held_out", "PSDS1", "mpAUC", "sum"]
    assert text.splitlines()[1].split() == ["before", "0.1000", "-", "0.1000"]
