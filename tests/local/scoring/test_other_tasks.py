"""Tasks that score one corpus in several ways, tags alone, one class, or clips of any length."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from desed_task.audio.windows import WindowGrid
from desed_task.batch import SedBatch
from desed_task.dataio.annotations import EventTable
from desed_task.errors import InputError
from desed_task.evaluation.boxes import Boxes
from desed_task.evaluation.scores import detect
from desed_task.mean_teacher import ROLES
from desed_task.nnet.CRNN import Detection
from local.config import RecipeConfig, check_config, load_config
from local.data.truth import Truth
from local.scoring.accumulator import ScoreAccumulator
from local.scoring.conditions import digest_tags, scoring_settings
from local.scoring.results import RESULTS_FILE, format_results, write_results
from local.scoring.score_files import (
    classes_by_segment,
    read_scored,
    write_scores,
    write_tag_scores,
)
from local.scoring.segment_metrics import segment_metrics
from local.scoring.tags import ClipScores, tag_metrics
from local.scoring.verification import package_metrics
from tests.published_task import TASK

CONF = Path(__file__).resolve().parents[3] / "confs" / "mini.yaml"
# A slash, a comma, a quote, a picture, and a name of 200 characters.
CLASSES = ("door opens/closes", 'say, "hello"', "🐕", "x" * 200)
CLIPS = {"a": 10.0, "b ü": 4.3, "c/d": 10.0, "long": 24.6}
HOP_S = 4.096


def config_of(**task: Any) -> RecipeConfig:
    """The mini configuration with a task of one corpus, `set`, beside one to train on."""
    given = {
        "classes": list(CLASSES),
        "corpora": {
            "train": {"audio": "train", "table": "train.tsv", "rows": 4},
            "set": {
                "audio": "set",
                "table": "set.tsv",
                "split": {"train": 0.5, "validation": 0.25, "test": 0.25},
                "hop_s": HOP_S,
            },
        },
        "scored": {kind: {"validation": "set", "test": "set"} for kind in task.pop("kinds")},
        **task,
    }
    tree = load_config(CONF).dump()
    tree["task"] = given
    tree["training"]["batch_size"] = None
    tree["net"] = {k: v for k, v in tree["net"].items() if k not in ("nclass", "median_filter")}
    tree["net"]["median_filter"] = 3
    return check_config(tree, "the test")


def truth_table(classes: tuple[str, ...], config: RecipeConfig) -> EventTable:
    """Two events of each class in the first clips and the long one, one of them uncertain."""
    rows = [
        (clip, label, 0.7 + label % 4, 2.2 + label % 4 + clip % 3, 0.4 if clip == 1 else 1.0)
        for clip in (0, 1, 3)
        for label in range(len(classes))
    ]
    rows += [(3, label, 17.3, 19.9, 1.0) for label in range(0, len(classes), 2)]
    clip, label, onset_s, offset_s, confidence = zip(*rows, strict=True)
    return EventTable(
        tuple(CLIPS),
        np.array(clip),
        np.array(onset_s),
        np.array(offset_s),
        np.array(label),
        np.array(confidence, dtype=np.float32),
        config.detection_task.vocabulary,
    )


def filled(config: RecipeConfig, corpus: str = "set", seed: int = 0) -> ScoreAccumulator:
    """Random scores of both networks for all clips, the long one in windows."""
    grid, n_classes = config.grid, len(config.detection_task.classes)
    windows = WindowGrid.with_hop(grid, HOP_S)
    spans = windows.spans(round(CLIPS["long"] * grid.sample_rate))
    names = [*list(CLIPS)[:-1], *["long"] * len(spans)]
    draws = torch.Generator().manual_seed(seed)
    found = ScoreAccumulator(config)
    target = (torch.rand(len(names), n_classes, grid.n_frames, generator=draws) > 0.995).float()
    target[:, :, 0], target[0, :, 0] = 0.0, 0.6
    batch = SedBatch(
        torch.empty(len(names), 0),
        target,
        torch.ones(len(names), n_classes, dtype=torch.bool),
        torch.full((len(names),), config.detection_task.corpus(corpus).number),
        torch.empty(len(names), 0),
        tuple(names),
        (*[None] * (len(CLIPS) - 1), *spans),
    )
    for role in ROLES:
        strong = torch.rand(len(names), n_classes, grid.n_frames, generator=draws)
        # Runs of several frames.
        strong = torch.nn.functional.avg_pool1d(strong, 9, 1, 4) * 1.6 - 0.3
        weak = torch.rand(len(names), n_classes, generator=draws)
        found.add(role, batch, Detection(strong.clamp(0, 1), weak))
    return found


def truths_of(config: RecipeConfig, stage: str) -> tuple[Truth, ...]:
    table = truth_table(config.detection_task.classes, config)
    return tuple(Truth(part, table, dict(CLIPS)) for part in config.detection_task.scored(stage))


def test_one_corpus_is_scored_in_three_ways():
    config = config_of(kinds=("events", "segments", "tags"))
    keeper = filled(config)
    metrics = keeper.validation_metrics(truths_of(config, "val"))
    names = ["events", "segments", "tags"]
    assert [report.part.kind for report in keeper.reports["student"]] == names
    parts = (
        "weak_f1_macro_thres05/torchmetrics",
        "intersection_f1_macro_thres05/sed_scores_eval",
        "segment_f1_macro_thresopt/sed_scores_eval",
    )
    assert metrics["val/obj_metric"] == sum(metrics[f"val/student/{name}"] for name in parts)
    tested = keeper.test_metrics(truths_of(config, "test"))
    for name in ("psds1/sed_scores_eval", "segment_error_rate_thres05/desed_task"):
        assert math.isfinite(tested[f"test/teacher/{name}"]), name
    assert {"tag_map", "tag_lwlrap", "tag_f1_macro_thres05", "tag_f1_micro_thres05"} <= {
        name.split("/")[2] for name in tested
    }
    reports = keeper.reports["student"]
    assert all(
        tuple(values) == CLASSES for report in reports for values in report.per_class.values()
    )
    files = [name for report in reports for name in report.texts]
    assert len(files) == len(set(files))  # They are written into one folder.
    assert all(CLASSES[1] in text for report in reports for text in report.texts.values())


def test_means_of_segments_are_those_that_the_package_is_verified_with():
    config = config_of(kinds=("segments",))
    keeper = filled(config)
    truths = truths_of(config, "test")
    keeper.test_metrics(truths)
    scores = [keeper.smoothed("student", truths[0].part.corpus)]
    (theirs,) = package_metrics(scores, truths, "student")
    (report,) = keeper.reports["student"]
    for name, value in theirs.metrics.items():
        assert report.metrics[name] == pytest.approx(value, abs=1e-9), name
    assert (
        len(detect(scores[0], 0.5))
        and report.metrics["test/student/segment_f1_micro_thres05/desed_task"] > 0
    )
    # What lies after the end of the short clip is no error.
    padded = scores[0].map(np.copy)
    row, frame = scores[0].clip_ids.index("b ü"), int(5.5 / config.grid.frame_s)
    padded.values[row, frame:] = 1.0
    again = segment_metrics(padded, truths[0], stage="test", role="student")
    assert again.metrics == report.metrics


def test_tags_are_scored_by_the_maximum_over_windows():
    config = config_of(kinds=("tags",))
    keeper = filled(config)
    corpus = config.detection_task.corpus("set")
    found = keeper.clip_scores("student", corpus)
    assert found.clip_ids == ("a", "b ü", "c/d", "long")
    # Frames of a corpus that only tags are scored of are not kept.
    assert keeper.scores("student", corpus).clip_ids == ()
    # A confidence of 0.6 is there, in the first frame of the first clip; elsewhere it is 1.
    assert found.present[0].all()
    drawn = filled(config, seed=0)._clips["student", corpus.number]
    (rows,) = [rows for _, rows in drawn.recordings().values()]
    assert len(rows) == 5
    np.testing.assert_array_equal(found.scores[3], rows[:, 0].max(axis=0))
    np.testing.assert_array_equal(found.present[3], rows[:, 1].max(axis=0))


def test_the_figures_of_tags_are_those_of_the_scored_classes():
    part = TASK.part("val", "tags")
    rng = np.random.default_rng(0)
    scores = rng.random((9, len(TASK.classes))).astype(np.float32)
    present = np.zeros_like(scores)
    first, second = (TASK.classes.index(label) for label in ("Dog", "Speech"))
    present[:4, first], present[3:7, second] = 1.0, 1.0
    present[:, TASK.classes.index("car")] = 1.0  # is not scored
    found = ClipScores(tuple(f"clip {n}" for n in range(9)), scores, present)
    report = tag_metrics(found, part, TASK.vocabulary, stage="test", role="teacher")
    assert set(part.classes) - set(report.not_scored) == {"Dog", "Speech"}
    of_dog = report.per_class["test/teacher/tag_f1_macro_thres05/desed_task"]
    decided = scores[:, first] > 0.5
    hits = decided[:4].sum()
    assert of_dog["Dog"] == pytest.approx(2 * hits / (4 + decided.sum()))
    assert of_dog["Cat"] is None
    mean = (of_dog["Dog"] + of_dog["Speech"]) / 2
    assert report.metrics["test/teacher/tag_f1_macro_thres05/desed_task"] == pytest.approx(mean)
    assert report.n_clips == 9 and "micro" in report.texts["tags.txt"]
    nothing = found._replace(present=np.zeros_like(present))
    with pytest.raises(InputError, match=r"none of the scored classes .* is in any clip; correct"):
        tag_metrics(nothing, part, TASK.vocabulary, stage="test", role="teacher")
    # A validation counts classes that are not scored as 0, whatever their scores.
    loud = scores.copy()
    loud[:, TASK.classes.index("car")] = 1.0
    values = [
        tag_metrics(
            found._replace(scores=of), part, TASK.vocabulary, stage="val", role="student"
        ).metrics["val/student/weak_f1_macro_thres05/torchmetrics"]
        for of in (scores, loud)
    ]
    assert values[0] == values[1] == pytest.approx(2 * mean / len(TASK.classes))


def test_a_task_of_one_class():
    config = config_of(kinds=("tags", "events", "segments"), classes=["🐕"])
    keeper = filled(config)
    metrics = keeper.validation_metrics(truths_of(config, "val"))
    corpus = config.detection_task.corpus("set")
    found = keeper.clip_scores("student", corpus)
    hit, there = found.scores[:, 0] > 0.5, found.present[:, 0] > 0
    f1 = 2 * (hit & there).sum() / (hit.sum() + there.sum())
    assert metrics["val/student/weak_f1_macro_thres05/torchmetrics"] == pytest.approx(f1)
    tested = keeper.test_metrics(truths_of(config, "test"))
    assert tested["test/student/tag_lwlrap/desed_task"] == 1.0
    assert math.isfinite(tested["test/student/psds2/psds_eval"])


def test_boxes_of_a_corpus_with_events_and_segments(tmp_path):
    config = config_of(kinds=("segments", "events"))
    tree = config.dump()
    tree["decoder"]["kind"] = "boxes"
    boxes, median = filled(check_config(tree, "the test")), filled(config)
    truths = truths_of(config, "test")
    of_boxes, of_median = (one.test_metrics(truths) for one in (boxes, median))
    same = "test/student/segment_mauc/sed_scores_eval"
    assert of_boxes[same] == of_median[same]
    corpus = truths[0].part.corpus
    assert median.filtered_beside("student", corpus) is None
    stored = [getattr(boxes, name)("student", corpus) for name in ("scores", "decoded")]
    write_scores(tmp_path / "x.npz", *stored, boxes.filtered_beside("student", corpus))
    for kind in ("events", "segments"):
        assert isinstance(read_scored(tmp_path / "x.npz", kind), Boxes) == (kind == "events")
    again = read_scored(tmp_path / "x.npz", "segments")
    np.testing.assert_array_equal(again.values, median.smoothed("student", corpus).values)
    other = "test/student/false_events_per_hour_thres05/desed_task"
    assert of_boxes[other] != of_median[other]


def test_results_of_several_parts_name_each_corpus_once(tmp_path):
    config = config_of(kinds=("tags", "events", "segments"))
    keeper = filled(config)
    keeper.test_metrics(truths_of(config, "test"))
    task = config.detection_task
    part = task.part("test", "tags")
    found = keeper.clip_scores("student", part.corpus)
    conditions = {
        "scored_on": {"set": digest_tags(found, part, task.vocabulary)},
        "scoring": scoring_settings(config, [part.corpus]),
    }
    write_results(
        tmp_path,
        keeper.reports,
        missing={},
        missing_recordings={},
        left_out={},
        checkpoint="x.ckpt",
        conditions=conditions,
    )
    content = json.loads((tmp_path / RESULTS_FILE).read_text())
    assert content["clips"] == {"set": 4}
    assert content["scoring"]["hops_s"] == {"set": HOP_S} and "hop_s" not in content["scoring"]
    assert content["scored_on"]["set"]["n_clips"] == 4
    text = format_results(content)
    assert "tag_map/desed_task" in text and "clips: 4 set" in text
    table = (tmp_path / "metrics_test" / "per_class.tsv").read_text().splitlines()
    assert all(line.count("\t") == 2 for line in table)
    other = digest_tags(found._replace(present=1 - found.present), part, task.vocabulary)
    assert other["truth"] != content["scored_on"]["set"]["truth"]
    write_tag_scores(tmp_path / "tags_set.npz", found, task.vocabulary)
    with np.load(tmp_path / "tags_set.npz") as stored:
        assert stored["event_labels"].tolist() == list(CLASSES)
        assert stored["present"].dtype == bool
        assert stored["clip_ids"].tolist() == list(found.clip_ids)


def test_classes_of_segments_alone():
    assert len(classes_by_segment(TASK)) == 17 and "car" in classes_by_segment(TASK)
    both = config_of(kinds=("events", "segments")).detection_task
    assert classes_by_segment(both) == ()
    assert classes_by_segment(config_of(kinds=("segments",)).detection_task) == CLASSES
