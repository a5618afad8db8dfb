"""Parts of the data: what may be tuned on, and what is scored.

A fit is a function of one `Part`, whose clips it keeps; a figure of a fit on clips of that part is
called an oracle's by comparing the clips, whatever the caller says.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from desed_task.errors import InputError, count_of
from desed_task.evaluation.boxes import Boxes, Decoded
from desed_task.evaluation.scores import Scores
from desed_task.evaluation.segments import clip_span
from local.data.truth import Truth
from local.tuning.cached_scores import TeacherScores
from local.tuning.workers.messages import Objective

FOLD_SEED = 0
Unit = tuple[str, str]  # corpus, and clip (or recording, where whole recordings are scored)


@dataclass(frozen=True)
class Part:
    """Clips of a set with their scores and ground truth; nothing of other clips is reachable.

    Attributes:
        name: the set.
        scores: scores and truth of these clips.
    """

    name: Objective
    scores: TeacherScores

    @cached_property
    def units(self) -> frozenset[Unit]:
        """The clips, and recordings, that its labels belong to."""
        return frozenset(
            (self.corpus_of(one), unit) for one in self.scores.truths for unit in self.units_of(one)
        )

    @property
    def events(self) -> tuple[Scores, Truth]:
        """Scores and truth of the clips whose events are scored, which decoders are tuned on."""
        found = self.scores.of("events")
        assert found is not None, self.name
        return found

    @property
    def truth(self) -> Truth:
        """Truth of the clips whose events are scored."""
        return self.events[1]

    def unit_of(self, truth: Truth) -> str:
        """What a truth's labels belong to: clip or recording."""
        return "recording" if self._scores_recordings(truth) else "clip"

    def units_of(self, truth: Truth) -> list[str]:
        """The distinct clips of a corpus, or recordings where whole recordings are scored."""
        clip_ids = truth.events.clip_ids
        if self._scores_recordings(truth):
            return list(dict.fromkeys(clip_span(clip_id).recording for clip_id in clip_ids))
        return list(clip_ids)

    def only(self, units: Collection[Unit]) -> Part:
        """The part of some of its clips and recordings."""
        stage, scores, truths = self.scores
        chosen, kept = [], []
        for one, truth in zip(scores, truths, strict=True):
            names = {unit for corpus, unit in units if corpus == self.corpus_of(truth)}
            recordings = self._scores_recordings(truth)
            clip_ids = [
                clip_id
                for clip_id in truth.events.clip_ids
                if (clip_span(clip_id).recording if recordings else clip_id) in names
            ]
            there = set(clip_ids)
            chosen.append(one.select([clip_id for clip_id in one.clip_ids if clip_id in there]))
            known = truth.durations.items()
            durations = {unit: s for unit, s in known if unit in names or unit in there}
            events = truth.events.select(clip_ids)
            kept.append(Truth(truth.part, events, durations))
        return replace(self, scores=TeacherScores(stage, tuple(chosen), tuple(kept)))

    def corpus_of(self, truth: Truth) -> str:
        """The folder of a corpus: clips of one folder and name are the same in any set, and names
        of clips may be those of another folder's too."""
        corpus = truth.part.corpus
        return str(Path(corpus.folder).resolve()) if corpus.folder else f"{self.name}/{corpus.name}"

    def _scores_recordings(self, truth: Truth) -> bool:
        # Of events too: their clips overlap, so that those of a recording stay together.
        return truth.part.corpus.cut_from_recordings and self.scores.stage == "test"


@dataclass(frozen=True)
class Fold:
    """A fold: the clips that are scored, and all others, which its parameters come from."""

    scored: Part
    others: Part


def split_folds(part: Part, n_folds: int) -> list[Fold]:
    """Split the clips, or recordings where whole recordings are scored, into folds.

    The sorted names are shuffled by numpy's generator of seed 0 and cut into near-equal pieces.

    Raises:
        InputError: for fewer than two folds, more folds than clips, or a fold without whose clips
            no class has an event.
    """
    if n_folds < 2:
        raise InputError(f"--folds {n_folds}: give 2 or more, or 0 for no cross-fitting")
    pieces: list[set[Unit]] = [set() for _ in range(n_folds)]
    for truth in part.scores.truths:
        names = sorted(part.units_of(truth))
        # There may be few recordings of segments, which only median filters are tuned on.
        if truth.part.kind == "events" and len(names) < n_folds:
            raise InputError(
                f"--folds {n_folds}: {truth.part.corpus.title} has only "
                f"{count_of(len(names), part.unit_of(truth))}; give fewer folds"
            )
        np.random.RandomState(FOLD_SEED).shuffle(names)
        for piece, names_of in zip(pieces, np.array_split(np.array(names), n_folds), strict=True):
            piece |= {(part.corpus_of(truth), str(name)) for name in names_of}
    whole = set().union(*pieces)
    folds = [Fold(part.only(piece), part.only(whole - piece)) for piece in pieces]
    for number, fold in enumerate(folds, 1):
        truth = fold.others.truth
        if not len(truth.certain.within(truth.durations)):
            raise InputError(
                f"--folds {n_folds}: all events of {truth.part.corpus.title} are in fold {number}, "
                "so that the others give it no parameters; give another number, or 0 for no "
                "cross-fitting"
            )
    return folds


def joined_clips(parts: Sequence[Decoded]) -> Decoded:
    """What was decoded of different clips and the same classes, together."""
    first = parts[0]
    if isinstance(first, Boxes):
        boxes = [one for one in parts if isinstance(one, Boxes)]
        starts = np.cumsum([0, *(len(one.clip_ids) for one in boxes)])
        clips = [one.clip_index + start for one, start in zip(boxes, starts, strict=False)]
        return replace(
            first,
            clip_ids=tuple(clip_id for one in boxes for clip_id in one.clip_ids),
            end_s=np.concatenate([one.end_s for one in boxes]),
            clip_index=np.concatenate(clips),
            label_index=np.concatenate([one.label_index for one in boxes]),
            onset_s=np.concatenate([one.onset_s for one in boxes]),
            offset_s=np.concatenate([one.offset_s for one in boxes]),
            confidence=np.concatenate([one.confidence for one in boxes]),
        )
    return joined_scores([one for one in parts if isinstance(one, Scores)])


def joined_scores(parts: Sequence[Scores]) -> Scores:
    """Scores of different clips together, those scored in windows last."""
    short = [one.clip_ids[: len(one.values)] for one in parts]
    longer = [one.clip_ids[len(one.values) :] for one in parts]
    return replace(
        parts[0],
        clip_ids=tuple(clip_id for of in (*short, *longer) for clip_id in of),
        values=np.concatenate([one.values for one in parts]),
        longer=tuple(clip for one in parts for clip in one.longer),
    )
