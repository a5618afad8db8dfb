"""What is kept of a pass: each network's scores, by corpus, and which of them each metric takes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from desed_task.batch import SedBatch
from desed_task.evaluation.boxes import Boxes
from desed_task.mean_teacher import ROLES
from desed_task.nnet.CRNN import Detection
from local.classes_dict import VOCABULARY
from local.config import load_config
from local.data.truth import Truth
from local.scoring import accumulator as module
from local.scoring.accumulator import ScoreAccumulator
from local.scoring.report import CorpusMetrics
from local.scoring.tags import tag_metrics
from tests.published_task import NUMBER, TASK, corpora

CONF = Path(__file__).resolve().parents[3] / "confs" / "mini.yaml"
N_CLASSES = len(VOCABULARY)
BLIP = 40  # a frame that scores by itself


def batch_of(source: list[str], target: torch.Tensor | None = None) -> SedBatch:
    n_clips = len(source)
    return SedBatch(
        torch.zeros(n_clips, 1),
        torch.zeros(n_clips, N_CLASSES, 156) if target is None else target,
        torch.ones(n_clips, N_CLASSES, dtype=torch.bool),
        torch.tensor([NUMBER[one] for one in source]),
        torch.empty(n_clips, 0),
        tuple(f"clip{row}" for row in range(n_clips)),
    )


@pytest.fixture
def keeper() -> ScoreAccumulator:
    return ScoreAccumulator(load_config(CONF))


def weak_f1(keeper: ScoreAccumulator, role: str) -> float:
    part = TASK.part("val", "tags")
    found = keeper.clip_scores(role, part.corpus)
    report = tag_metrics(found, part, VOCABULARY, stage="val", role=role)
    return report.metrics[f"val/{role}/weak_f1_macro_thres05/torchmetrics"]


def test_weak_f1_is_the_mean_over_all_classes_of_decisions_above_a_half(keeper):
    """Weak targets stand in frame 0 alone; the two networks decide apart."""
    target = torch.zeros(3, N_CLASSES, 156)
    target[:, 0, 0] = torch.tensor([1.0, 1.0, 0.0])
    target[:, 9, 0] = torch.tensor([0.0, 0.0, 1.0])
    student = torch.full((3, N_CLASSES), 0.1)
    student[:, 0] = torch.tensor([0.9, 0.5, 0.6])  # one hit, one miss (not above), one false
    student[:, 9] = torch.tensor([0.2, 0.2, 0.8])
    batch = batch_of(["weak_train"] * 3, target)
    strong = torch.zeros(3, N_CLASSES, 156)
    keeper.add("student", batch, Detection(strong, student))
    keeper.add("teacher", batch, Detection(strong, torch.zeros(3, N_CLASSES)))
    assert weak_f1(keeper, "student") == pytest.approx((0.5 + 1.0) / N_CLASSES)
    assert weak_f1(keeper, "teacher") == 0.0
    keeper.clear()
    keeper.add("student", batch, Detection(strong, target[..., 0]))
    assert weak_f1(keeper, "student") == pytest.approx(2 / N_CLASSES)


def blips(keeper: ScoreAccumulator, sources: list[str]) -> torch.Tensor:
    """Adds clips that score in one frame: 0.8 by the student, 0.4 by the teacher."""
    strong = torch.zeros(len(sources), N_CLASSES, 156)
    strong[:, :, BLIP] = 0.8
    for role, factor in (("student", 1.0), ("teacher", 0.5)):
        found = Detection(factor * strong, torch.zeros(len(sources), N_CLASSES))
        keeper.add(role, batch_of(sources), found)
    return strong


def test_each_corpus_and_network_has_its_own_scores_smoothed_class_by_class(keeper):
    lengths = keeper.config.net.median_filter
    assert 1 in lengths and max(lengths) > 1
    strong = blips(keeper, ["synth_val", "maestro_real_dev", "synth_val"])
    raw = keeper.scores("student", TASK.corpus("synth_val"))
    assert raw.clip_ids == ("clip0", "clip2")
    assert keeper.scores("student", TASK.corpus("maestro_real_dev")).clip_ids == ("clip1",)
    np.testing.assert_array_equal(raw.values, strong[:2].numpy().transpose(0, 2, 1))
    teacher = keeper.scores("teacher", TASK.corpus("synth_val"))
    np.testing.assert_array_equal(teacher.values, 0.5 * raw.values)
    smooth = keeper.smoothed("student", TASK.corpus("synth_val")).values
    assert (smooth[:, BLIP] > 0).tolist() == [[length == 1 for length in lengths]] * 2
    # Scores that come later are smoothed with those of their own pass.
    keeper.clear()
    assert keeper.smoothed("student", TASK.corpus("synth_val")).clip_ids == ()


@pytest.mark.parametrize("kind", ["boxes", "threshold_boxes"])
def test_boxes_are_of_events_and_segments_keep_their_filtered_frames(kind):
    keeper = ScoreAccumulator(load_config(CONF, [f"decoder.kind={kind}"]))
    median = ScoreAccumulator(load_config(CONF))
    for one in (keeper, median):
        blips(one, ["synth_val", "maestro_real_dev", "devtest", "eval"])
    for corpus in corpora("synth_val", "devtest", "eval"):
        assert isinstance(keeper.decoded("student", corpus), Boxes)
        assert median.decoded("student", corpus) is median.smoothed("student", corpus)
    found = keeper.decoded("student", TASK.corpus("maestro_real_dev"))
    expected = median.smoothed("student", TASK.corpus("maestro_real_dev"))
    np.testing.assert_array_equal(found.values, expected.values)
    # Those of a later pass are decoded anew.
    before = keeper.decoded("student", TASK.corpus("devtest"))
    keeper.clear()
    blips(keeper, ["devtest", "devtest"])
    assert (
        len(keeper.decoded("student", TASK.corpus("devtest")).clip_ids) == 2 > len(before.clip_ids)
    )


@pytest.fixture
def scored(monkeypatch) -> list[tuple]:
    """What is scored against what, in place of the metrics: each is the sum of a blip."""
    calls: list[tuple] = []

    def of(kind: str, names: tuple[str, ...], stage: str = ""):
        def score(scores, truth, *, role, stage=stage, **more):
            heard = scores.values[0, BLIP].sum().item()
            calls.append((kind, stage, role, scores.clip_ids, truth, more.get("n_thresholds")))
            found = {f"{stage}/{role}/{n}/sed_scores_eval": heard for n in names}
            return CorpusMetrics(truth.part, found, {})

        return score

    events = ("psds1", "intersection_f1_macro_thres05", "collar_f1_macro_thres05")
    segments = ("segment_f1_macro_thresopt", "segment_mauc", "segment_mpauc")
    monkeypatch.setattr(module, "event_validation_metrics", of("events", events, "val"))
    monkeypatch.setattr(module, "event_test_metrics", of("events", events, "test"))
    monkeypatch.setattr(module, "segment_metrics", of("segments", segments))
    return calls


def truths_of(stage: str) -> tuple[Truth, ...]:
    return tuple(
        Truth(TASK.part(stage, kind), SimpleNamespace(clip_ids=(kind,)), {kind: 1.0})
        for kind in ("events", "segments")
    )


def expected_calls(truths: tuple[Truth, ...], stage: str, *of_a_test: float) -> list[tuple]:
    """A call per network and part; a test of events also takes thresholds."""
    events, segments = truths
    return [
        (truth.part.kind, stage, role, (clip,), truth, *more)
        for role in ROLES
        for clip, truth, more in (
            ("clip0", events, of_a_test or (None,)),
            ("clip1", segments, (None,)),
        )
    ]


def test_a_validation_holds_each_network_against_each_truth(keeper, scored):
    blips(keeper, ["synth_val", "maestro_real_train", "weak_train"])
    truths = truths_of("val")
    metrics = keeper.validation_metrics(truths)
    assert scored == expected_calls(truths, "val")
    # What no filter takes away is heard.
    n_left = keeper.config.net.median_filter.count(1)
    heard = {"student": 0.8 * n_left, "teacher": 0.4 * n_left}
    for name, value in metrics.items():
        if name.endswith("/sed_scores_eval"):
            assert value == pytest.approx(heard[name.split("/")[1]]), name
    # The student's, of three parts: nothing is found at clip level here.
    assert metrics["val/obj_metric"] == pytest.approx(2 * heard["student"])
    assert set(keeper.reports) == set(ROLES)


def test_a_test_holds_each_network_against_each_truth(keeper, scored):
    blips(keeper, ["devtest", "maestro_real_dev"])
    truths = truths_of("test")
    metrics = keeper.test_metrics(truths)
    n_thresholds = keeper.config.training.n_test_thresholds
    assert scored == expected_calls(truths, "test", n_thresholds)
    n_left = keeper.config.net.median_filter.count(1)
    assert metrics["test/student/psds1/sed_scores_eval"] == pytest.approx(0.8 * n_left)
    assert metrics["test/teacher/psds1/sed_scores_eval"] == pytest.approx(0.4 * n_left)
