"""Counts of boxes whose clips are in another order than the scores that they come from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from desed_task.dataio.annotations import EventTable
from desed_task.evaluation.boxes import Boxes
from desed_task.postprocess.decoders import DecoderSettings, decoder_of
from local.classes_dict import DESED_CLASSES
from local.scoring.own.metrics import EventInput, add_event_metrics
from local.scoring.report import MetricTable
from local.summary.own.counts import event_counts
from tests.desed_task.evaluation.curves.random_cases import random_case

N_CLIPS = 12


@pytest.mark.parametrize("kind", ["median", "boxes"])
def test_longer_clips_may_be_anywhere_in_the_table(kind):
    for seed in range(0, 60, 3):
        case = random_case(seed, n_clips=N_CLIPS)
        if case.raw.longer and len(case.labels) > 1:
            break
    labels = DESED_CLASSES[: len(case.labels)]
    raw = replace(case.raw, vocabulary=type(case.raw.vocabulary)(labels))
    settings = DecoderSettings(kind=kind, step_filter_s=0.6)
    decoded = decoder_of(settings, labels, median_filter=[3] * len(labels))(raw)
    turned = raw.clip_ids[::-1]
    if kind == "boxes":
        decoded = decoded.select(turned)
        assert (
            isinstance(decoded, Boxes) and decoded.clip_ids == turned != raw.select(turned).clip_ids
        )
    ones = np.ones(len(case.truth), dtype=np.float32)
    truth = case.truth
    columns = truth.clip_index, truth.onset_s, truth.offset_s, truth.label_index
    events = EventTable(raw.clip_ids, *columns, ones, raw.vocabulary)
    events = events.select(decoded.clip_ids)
    there = [c for k, c in enumerate(events.clip_ids) if (events.clip_index == k).any()]
    durations = case.durations()
    found = EventInput(decoded, events, there, durations)
    table = MetricTable("test", "student", labels)
    curves = found.psds(decoded.select(there))
    add_event_metrics(table, found, curves, raw)
    duration_s = np.array([*(durations[c] for c in decoded.clip_ids), 7.0])  # one is not scored
    for names, metric in event_counts(found, duration_s, raw):
        for name, value in zip(names, metric.values(np.ones(len(duration_s))), strict=True):
            assert value == pytest.approx(table.metrics[f"test/student/{name}"], abs=1e-9), name
