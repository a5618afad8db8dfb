"""The published task, for tests that make rows, scores and truths of its corpora up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from desed_task.dataio.annotations import EventTable
from local.config import load_config
from local.data.truth import Stage, Truth
from local.schema.task import ScoreKind
from local.task.corpus import Corpus

TASK = load_config(Path(__file__).resolve().parents[1] / "confs" / "mini.yaml").detection_task
# Name of a corpus -> the source of its rows.
NUMBER = {corpus.name: corpus.number for corpus in TASK.corpora}
DEVTEST = TASK.corpus("devtest")


def corpora(*names: str) -> list[Corpus]:
    """Corpora by name."""
    return [TASK.corpus(name) for name in names]


def made_up_truth(
    stage: Stage,
    kind: ScoreKind,
    events: EventTable,
    durations: Mapping[str, float],
    left_out: tuple[str, ...] = (),
) -> Truth:
    """A truth of what the task scores in one way."""
    part = TASK.part(stage, kind)
    assert part is not None
    return Truth(part, events, dict(durations), left_out)
