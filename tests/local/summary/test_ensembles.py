"""A summary takes an ensemble as a system of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from desed_task.errors import InputError
from local.scoring.conditions import differing_conditions
from local.summary import comparable
from local.summary.run_folders import FinishedRun

ENCODERS = (["beats"], ["atst_frame"])


def run_of(name: str, *digests: str, encoders=ENCODERS, seeds=(1, 2)) -> FinishedRun:
    """A run that averages checkpoints, or a single one."""
    metrics = {"test/student/psds1/sed_scores_eval": len(name) / 100}
    content = {
        "metrics": metrics,
        "per_class": {},
        "clips": {},
        "scored_on": {},
        "scoring": {"clip_s": 10.0},
        "training_revision": 2,
        "versions": {"sed_scores_eval": "0.0.4"},
    }
    if len(digests) > 1:
        content["ensemble"] = [
            {"checkpoint": "a.ckpt", "checkpoint_sha256": one, "seed": seed, "encoders": names}
            for one, seed, names in zip(digests, seeds, encoders, strict=True)
        ]
    return FinishedRun(Path(name), content, checkpoint_sha256="+".join(sorted(digests)))


def test_ensembles_of_other_trainings_are_runs_of_one_system():
    runs = [run_of("one", "a", "b"), run_of("other", "c", "d", seeds=(3, 4))]
    notes = comparable.check_comparable(runs)
    assert not any("seed" in note for note in notes)
    assert [run.seed for run in runs] == ["1, 2", "3, 4"]
    alike = [run_of("one", "a", "b"), run_of("other", "c", "d")]
    notes = comparable.check_comparable(alike)
    assert any("one, other have the same seed (1, 2)" in note for note in notes)
    # The same checkpoints, in another order, are one run.
    turned = run_of("again", "b", "a", encoders=ENCODERS[::-1], seeds=(2, 1))
    kept, (note,) = comparable.without_repetitions([runs[0], turned])
    assert kept == runs[:1] and note.startswith("again: a test of the same checkpoint as one")


def test_what_is_not_one_system_is_compared_only():
    two, single = run_of("two", "a", "b"), run_of("single", "c")
    alike = run_of("alike", "c", "d", encoders=(ENCODERS[0], ENCODERS[0]))
    for other, shown in ((single, "'none'"), (alike, r"'2 \(beats, beats\)'")):
        told = rf"averaged checkpoints: {shown} against '2 \(atst_frame, beats\)'"
        with pytest.raises(InputError, match=told):
            comparable.check_comparable([two, other])
        comparable.check_comparable([two], [other])
        assert differing_conditions(two.content, other.content, one_system=False) == []


def test_ensembles_that_share_a_checkpoint_are_not_averaged():
    runs = [run_of("one", "a", "b"), run_of("three", "a", "c", seeds=(1, 3))]
    with pytest.raises(InputError, match=r"three and one average scores of one checkpoint \(SHA"):
        comparable.check_comparable(runs)
    comparable.check_comparable(runs[:1], runs[1:])
