"""Detections of a real system on real DESED clips, as psds_eval and sed_eval see them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from desed_task.dataio.annotations import read_durations, read_strong_table
from desed_task.evaluation.fscores import collar_fscore, intersection_fscore, segment_fscore
from desed_task.evaluation.psds import PSDS1, PSDS2, psds_from_thresholds
from desed_task.evaluation.scores import Detections, as_detections
from desed_task.labels import Vocabulary
from local.classes_dict import DESED_CLASSES
from local.scoring.own.criteria import COLLAR

VOCABULARY = Vocabulary(DESED_CLASSES)


@pytest.fixture(scope="module")
def real(parity):
    durations = read_durations(parity("real_desed/validation_durations.tsv"))
    table = read_strong_table(parity("real_desed/validation.tsv"), VOCABULARY).select(durations)
    expected = json.loads(parity("real_desed/expected.json").read_text())
    figures = {name.split(":")[0]: v for of in expected.values() for name, v in of.items()}
    place = {clip_id: row for row, clip_id in enumerate(table.clip_ids)}

    def detections(frame: pd.DataFrame) -> Detections:
        return Detections(
            frame["filename"].str.removesuffix(".wav").map(place).to_numpy(),
            np.array([VOCABULARY.index(label) for label in frame["event_label"]]),
            frame["onset"].to_numpy(float),
            frame["offset"].to_numpy(float),
        )

    points = pd.read_csv(parity("real_desed/operating_points.tsv.gz"), sep="\t")
    half = pd.read_csv(parity("real_desed/detections_0.5.tsv.gz"), sep="\t")
    by_threshold = {key: detections(rows) for key, rows in points.groupby("threshold")}
    duration_s = np.array(list(durations.values()))
    truth = as_detections(table.merged(), VOCABULARY)
    return figures, by_threshold, detections(half), truth, duration_s


@pytest.mark.parametrize(("name", "spec"), [("psds1", PSDS1), ("psds2", PSDS2)])
def test_psds_over_fifty_thresholds(real, name, spec):
    figures, points, _, truth, duration_s = real
    assert len(points) == 50
    inside = [found.within(duration_s) for found in points.values()]
    psds = psds_from_thresholds(inside, truth, DESED_CLASSES, dataset_s=duration_s.sum(), spec=spec)
    assert psds.value == pytest.approx(figures[name], abs=1e-9)


def test_intersection_f1(real):
    figures, points, _, truth, duration_s = real
    found = points[0.51].within(duration_s)
    score = intersection_fscore(found, truth, DESED_CLASSES, dtc=0.5, gtc=0.5)
    assert score.macro == pytest.approx(
        figures["intersection macro F1 at threshold 0.51"], abs=1e-9
    )


def test_event_based_f1(real):
    figures, _, found, truth, _ = real
    score = collar_fscore(found, truth, DESED_CLASSES, **COLLAR)
    assert score.macro == pytest.approx(figures["event-based macro F1"], abs=1e-9)
    assert score.micro == pytest.approx(figures["event-based micro F1"], abs=1e-9)


def test_segment_based_f1(real):
    figures, _, found, truth, _ = real
    score = segment_fscore(found, truth, DESED_CLASSES, segment_s=1.0)
    assert score.macro == pytest.approx(figures["segment-based macro F1"], abs=1e-9)
    assert score.micro == pytest.approx(figures["segment-based micro F1"], abs=1e-9)
