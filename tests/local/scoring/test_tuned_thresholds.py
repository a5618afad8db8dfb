"""F1 at tuned thresholds: only for their checkpoint, and the same in summaries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from desed_task.atomic_files import sha256_of
from desed_task.evaluation.scores import detect
from desed_task.postprocess.decoders import BOXES
from local.classes_dict import DESED_CLASSES
from local.config import check_config, load_config
from local.scoring.conditions import tuned_on
from local.scoring.metrics import event_part
from local.scoring.own.metrics import EventInput
from local.scoring.own.tuned import (
    TunedThresholds,
    add_tuned_metrics,
    thresholds_of_test,
    tuned_thresholds,
)
from local.scoring.report import MetricTable
from local.scoring.tested import TestedFiles
from local.summary.own.counts import tuned_counts
from local.tuning.decoders.candidates import decoded_events
from tests.local.tuning.decoders.made_up_parts import made_up_part

ROOT = Path(__file__).parents[3]
# Classes that do not occur, and one of MAESTRO, have thresholds too.
GIVEN = {"Alarm_bell_ringing": 0.2, "Cat": 0.45, "Vacuum_cleaner": 0.9, "car": 0.1}


def config_of(**sections):
    tree = load_config(ROOT / "confs" / "mini.yaml").dump()
    for section, values in sections.items():
        tree[section].update(values)
    return check_config(tree, "")


def test_only_tuned_thresholds_of_this_checkpoint_count(tmp_path):
    checkpoint = tmp_path / "größe.ckpt"
    checkpoint.write_bytes(b"weights")
    mark = {"checkpoint_sha256": sha256_of(checkpoint), "threshold_metric": "collar"}
    config = config_of(predict={"threshold": GIVEN}, tuned=mark)
    tested = TestedFiles((checkpoint,))
    assert tuned_thresholds(config, tested) == (GIVEN, "tuned")
    oracle = config_of(predict={"threshold": GIVEN}, tuned=mark | {"objective": "devtest"})
    assert tuned_thresholds(oracle, tested) == (GIVEN, "tuned_oracle")
    assert tuned_thresholds(config, None) is None
    assert tuned_thresholds(config, TestedFiles((tmp_path / "none.ckpt",))) is None
    checkpoint.write_bytes(b"other weights")
    assert tuned_thresholds(config, TestedFiles((checkpoint,))) is None
    # Filters were tuned for it, but thresholds only given.
    mark = {"checkpoint_sha256": sha256_of(checkpoint)}
    given = config_of(predict={"threshold": GIVEN}, tuned=mark)
    assert tuned_thresholds(given, TestedFiles((checkpoint,))) is None


def test_those_of_a_test_are_found_by_its_metrics():
    config = config_of(predict={"threshold": GIVEN})
    names = ["test/student/psds1/sed_scores_eval", "test/student/collar_f1_macro_tuned/desed_task"]
    assert thresholds_of_test(config, names) == (GIVEN, "tuned")
    assert thresholds_of_test(config, names[:1]) is None
    assert thresholds_of_test(None, names) is None
    oracle = ["test/teacher/collar_f1_macro_tuned_oracle/desed_task"]
    assert thresholds_of_test(config, oracle) == (GIVEN, "tuned_oracle")


@pytest.mark.parametrize("kind", ["median", BOXES])
def test_counts_of_clips_give_the_metrics(kind):
    part = made_up_part(seed=3, n_clips=14)
    scores, truth = part.scores.of("events")
    decoded = decoded_events(config_of(decoder={"kind": kind}), scores)
    chosen = event_part(decoded, truth)
    found = EventInput(chosen.scores, chosen.events, chosen.with_events, truth.durations)
    tuned = TunedThresholds(GIVEN, "tuned")
    table = MetricTable("test", "teacher", DESED_CLASSES)
    add_tuned_metrics(table, found, tuned)
    # Two more clips, which were not scored.
    n_units = len(chosen.scores.clip_ids) + 2
    counted = {name: metric for (name,), metric in tuned_counts(found, n_units, tuned)}
    ones = np.ones(n_units)
    values = {f"test/teacher/{name}": one.values(ones)[0] for name, one in counted.items()}
    assert values == pytest.approx(table.metrics, abs=1e-12)
    assert set(values) == {
        f"test/teacher/{k}_f1_macro_tuned/desed_task" for k in ("collar", "intersection")
    }
    assert max(values.values()) > 0
    events = detect(found.scores, tuned.of_classes(found.labels))
    assert len(events) != len(detect(found.scores, 0.5))
    assert tuned_counts(found, n_units, None) == []


def test_who_used_what_was_tuned_on_dev_test():
    mark = {"checkpoint_sha256": "a" * 64, "objective": "devtest"}
    config = config_of(tuned=mark)
    told = {"tuned_on": "test"}
    assert tuned_on(config, "a" * 64, trained_here=False) == told
    # Of another checkpoint: its own median filters, unless it was trained with these.
    assert tuned_on(config, "b" * 64, trained_here=False) == {}
    assert tuned_on(config, "b" * 64, trained_here=True) == told
    boxes = config_of(tuned=mark, decoder={"kind": "boxes"})
    assert tuned_on(boxes, "b" * 64, trained_here=False) == told
    held_out = config_of(tuned=mark | {"objective": "held_out"})
    assert tuned_on(held_out, "a" * 64, trained_here=True) == {}
