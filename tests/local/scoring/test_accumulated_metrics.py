"""What is kept of a pass: each network's scores, by corpus, and which of them each metric takes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from desed_task.batch import SedBatch, Source
from desed_task.evaluation.boxes import Boxes
from desed_task.mean_teacher import ROLES
from desed_task.nnet.CRNN import Detection
from local.classes_dict import VOCABULARY
from local.config import load_config
from local.scoring import accumulator as module
from local.scoring.accumulator import ScoreAccumulator
from local.scoring.report import CorpusMetrics

CONF = Path(__file__).resolve().parents[3] / "confs" / "mini.yaml"
N_CLASSES = len(VOCABULARY)
BLIP = 40  # a frame that scores by itself


def batch_of(source: list[Source], target: torch.Tensor | None = None) -> SedBatch:
    n_clips = len(source)
    return SedBatch(
        torch.zeros(n_clips, 1),
        torch.zeros(n_clips, N_CLASSES, 156) if target is None else target,
        torch.ones(n_clips, N_CLASSES, dtype=torch.bool),
        torch.tensor([int(one) for one in source]),
        torch.empty(n_clips, 0),
        tuple(f"clip{row}" for row in range(n_clips)),
    )


@pytest.fixture
def keeper() -> ScoreAccumulator:
    return ScoreAccumulator(load_config(CONF))


def test_weak_f1_is_the_mean_over_all_classes_of_decisions_above_a_half(keeper):
    """Weak targets stand in frame 0 alone; the two networks decide apart."""
    target = torch.zeros(3, N_CLASSES, 156)
    target[:, 0, 0] = torch.tensor([1.0, 1.0, 0.0])
    target[:, 26, 0] = torch.tensor([0.0, 0.0, 1.0])
    student = torch.full((3, N_CLASSES), 0.1)
    student[:, 0] = torch.tensor([0.9, 0.5, 0.6])  # one hit, one miss (not above), one false
    student[:, 26] = torch.tensor([0.2, 0.2, 0.8])
    batch = batch_of([Source.WEAK] * 3, target)
    strong = torch.zeros(3, N_CLASSES, 156)
    keeper.add("student", batch, Detection(strong, student))
    keeper.add("teacher", batch, Detection(strong, torch.zeros(3, N_CLASSES)))
    assert keeper._weak_f1("student") == pytest.approx((0.5 + 1.0) / N_CLASSES)
    assert keeper._weak_f1("teacher") == 0.0
    keeper.clear()
    keeper.add("student", batch, Detection(strong, target[..., 0]))
    assert keeper._weak_f1("student") == pytest.approx(2 / N_CLASSES)


def blips(keeper: ScoreAccumulator, sources: list[Source]) -> torch.Tensor:
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
    strong = blips(keeper, [Source.SYNTHETIC, Source.MAESTRO_REAL, Source.SYNTHETIC])
    raw = keeper.scores("student", Source.SYNTHETIC)
    assert raw.clip_ids == ("clip0", "clip2")
    assert keeper.scores("student", Source.MAESTRO_REAL).clip_ids == ("clip1",)
    np.testing.assert_array_equal(raw.values, strong[:2].numpy().transpose(0, 2, 1))
    teacher = keeper.scores("teacher", Source.SYNTHETIC)
    np.testing.assert_array_equal(teacher.values, 0.5 * raw.values)
    smooth = keeper.smoothed("student", Source.SYNTHETIC).values
    assert (smooth[:, BLIP] > 0).tolist() == [[length == 1 for length in lengths]] * 2
    # Scores that come later are smoothed with those of their own pass.
    keeper.clear()
    assert keeper.smoothed("student", Source.SYNTHETIC).clip_ids == ()


@pytest.mark.parametrize("kind", ["boxes", "threshold_boxes"])
def test_boxes_are_of_events_and_segments_keep_their_filtered_frames(kind):
    keeper = ScoreAccumulator(load_config(CONF, [f"decoder.kind={kind}"]))
    median = ScoreAccumulator(load_config(CONF))
    for one in (keeper, median):
        blips(one, [Source.SYNTHETIC, Source.MAESTRO_REAL, Source.DEVTEST, Source.EVALUATION])
    for source in (Source.SYNTHETIC, Source.DEVTEST, Source.EVALUATION):
        assert isinstance(keeper.decoded("student", source), Boxes)
        assert median.decoded("student", source) is median.smoothed("student", source)
    found = keeper.decoded("student", Source.MAESTRO_REAL)
    expected = median.smoothed("student", Source.MAESTRO_REAL)
    np.testing.assert_array_equal(found.values, expected.values)
    # Those of a later pass are decoded anew.
    before = keeper.decoded("student", Source.DEVTEST)
    keeper.clear()
    blips(keeper, [Source.DEVTEST, Source.DEVTEST])
    assert len(keeper.decoded("student", Source.DEVTEST).clip_ids) == 2 > len(before.clip_ids)


@pytest.fixture
def scored(monkeypatch) -> list[tuple]:
    """What is scored against what, in place of the metrics: each is the sum of a blip."""
    calls: list[tuple] = []

    def of(corpus: str, names: tuple[str, ...], stage: str = ""):
        def score(scores, events, durations, *, role, stage=stage, **more):
            heard = scores.values[0, BLIP].sum().item()
            calls.append((corpus, stage, role, scores.clip_ids, events, durations))
            calls[-1] += (more.get("n_thresholds"), more.get("left_out_s"))
            return CorpusMetrics({f"{stage}/{role}/{n}/sed_scores_eval": heard for n in names}, {})

        return score

    desed = ("psds1", "intersection_f1_macro_thres05", "collar_f1_macro_thres05")
    maestro = ("segment_f1_macro_thresopt", "segment_mauc", "segment_mpauc")
    monkeypatch.setattr(module, "desed_validation_metrics", of("desed", desed, "val"))
    monkeypatch.setattr(module, "desed_test_metrics", of("desed", desed, "test"))
    monkeypatch.setattr(module, "maestro_metrics", of("maestro", maestro))
    return calls


def truths_of(first: Source, second: Source) -> SimpleNamespace:
    events = {part: SimpleNamespace(clip_ids=(part,)) for part in ("desed", "maestro")}
    desed = SimpleNamespace(
        source=first, events=events["desed"], durations={"a": 1.0}, left_out_s=7.0
    )
    maestro = SimpleNamespace(source=second, events=events["maestro"], durations={"b": 2.0})
    return SimpleNamespace(truths=lambda stage: (desed, maestro))


def expected_calls(data: SimpleNamespace, stage: str, *of_a_test: float) -> list[tuple]:
    """A call per network and corpus; DESED's test also takes thresholds and hours left out."""
    desed, maestro = data.truths(stage)
    nothing = (None, None)
    return [
        (name, stage, role, (clip,), truth.events, truth.durations, *more)
        for role in ROLES
        for name, clip, truth, more in (
            ("desed", "clip0", desed, of_a_test or nothing),
            ("maestro", "clip1", maestro, nothing),
        )
    ]


def test_a_validation_holds_each_network_against_each_truth(keeper, scored):
    blips(keeper, [Source.SYNTHETIC, Source.MAESTRO_REAL, Source.WEAK])
    data = truths_of(Source.SYNTHETIC, Source.MAESTRO_REAL)
    metrics = keeper.validation_metrics(data.truths("val"))
    assert scored == expected_calls(data, "val")
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
    blips(keeper, [Source.DEVTEST, Source.MAESTRO_REAL])
    data = truths_of(Source.DEVTEST, Source.MAESTRO_REAL)
    metrics = keeper.test_metrics(data.truths("test"))
    n_thresholds = keeper.config.training.n_test_thresholds
    assert scored == expected_calls(data, "test", n_thresholds, 7.0)
    n_left = keeper.config.net.median_filter.count(1)
    assert metrics["test/student/psds1/sed_scores_eval"] == pytest.approx(0.8 * n_left)
    assert metrics["test/teacher/psds1/sed_scores_eval"] == pytest.approx(0.4 * n_left)
