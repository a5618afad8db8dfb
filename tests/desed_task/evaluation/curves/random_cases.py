"""Small random corpora with what is odd: ties, few events, other lengths, boxes, one clip."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from desed_task.evaluation.boxes import Boxes, Decoded
from desed_task.evaluation.psds import PsdsSpec
from desed_task.evaluation.scores import Detections, FrameScores, Scores
from desed_task.labels import Vocabulary
from desed_task.postprocess import ClassMedianFilter

FRAME_S = 0.2
# In so short a corpus one false positive costs a large part of the usual range.
SPECS = (
    PsdsSpec(dtc=0.7, gtc=0.7, cttc=None, alpha_ct=0.0, alpha_st=1.0, max_efpr=2000.0),
    PsdsSpec(dtc=0.1, gtc=0.1, cttc=0.3, alpha_ct=0.5, alpha_st=1.0, max_efpr=3000.0),
)
COLLARS = {"onset_collar_s": 0.4, "offset_collar_s": 0.4, "offset_collar_rate": 0.2}
LENGTHS = (1, 3, 8)


class Case(NamedTuple):
    """Raw scores, what a decoder makes of them, and the truth."""

    raw: Scores
    decoded: Decoded
    truth: Detections
    duration_s: np.ndarray

    @property
    def labels(self):
        return self.raw.vocabulary.labels

    @property
    def dataset_s(self) -> float:
        return float(self.duration_s.sum())

    def members(self) -> list[Decoded]:
        """What piPSDS is computed of."""
        return [self.decoded, *(self.filtered(length) for length in LENGTHS)]

    def filtered(self, length: int) -> Scores:
        return self.raw.map(ClassMedianFilter([length] * len(self.labels)))

    def n_true(self) -> list[int]:
        return np.bincount(self.truth.label_index, minlength=len(self.labels)).tolist()

    def durations(self) -> dict[str, float]:
        return dict(zip(self.raw.clip_ids, self.duration_s.tolist(), strict=True))

    def repeated(self, weights) -> Case:
        """The corpus in which clip i occurs weights[i] times."""
        picked = np.repeat(np.arange(len(weights)), weights).tolist()
        # Longer clips come last, as in `Scores`.
        names = [self.raw.clip_ids[row] for row in picked]
        parts = [self.truth.rows(self.truth.clip_index == row) for row in picked]
        index = np.concatenate(
            [np.full(len(part), row, dtype=np.int64) for row, part in enumerate(parts)]
        )
        columns = ("label_index", "onset_s", "offset_s")
        truth = Detections(
            index, *(np.concatenate([getattr(part, name) for part in parts]) for name in columns)
        )
        named = tuple(f"{name}#{row}" for row, name in enumerate(names))
        raw = replace(self.raw._rows(picked), clip_ids=named)
        return Case(raw, _repeated(self.decoded, picked, named), truth, self.duration_s[picked])


def _repeated(decoded: Decoded, picked, named) -> Decoded:
    if isinstance(decoded, Scores):
        return replace(decoded._rows(picked), clip_ids=named)
    parts = [decoded.rows(decoded.clip_index == row) for row in picked]
    columns = ("label_index", "onset_s", "offset_s", "confidence")
    return Boxes(
        named,
        decoded.vocabulary,
        decoded.end_s[picked],
        np.concatenate([np.full(len(p), row, dtype=np.int64) for row, p in enumerate(parts)]),
        *(np.concatenate([getattr(part, name) for part in parts]) for name in columns),
    )


def random_case(seed: int, *, n_clips: int | None = None) -> Case:
    """A corpus whose oddities depend on the seed; every class occurs."""
    rng = np.random.default_rng(seed)
    n_clips = int(rng.integers(1, 6)) if n_clips is None else n_clips
    n_classes, n_frames = int(rng.integers(1, 5)), int(rng.integers(13, 30))
    n_longer = int(rng.integers(0, n_clips + 1)) if seed % 3 == 0 else 0
    lengths = [n_frames] * (n_clips - n_longer)
    lengths += [n_frames + int(rng.integers(1, 20)) for _ in range(n_longer)]
    events = []
    for label in range(n_classes):
        # Few events of some classes.
        clips = range(n_clips) if rng.random() < 0.7 else [int(rng.integers(n_clips))]
        for number, clip in enumerate(clips):
            count = int(rng.integers(number == 0, 4))
            times = np.sort(rng.uniform(0, lengths[clip] * FRAME_S, 2 * count))
            if seed % 2:
                times = (times / FRAME_S).round() * FRAME_S  # shares that meet a criterion exactly
            before_s = -1.0
            for onset_s, offset_s in times.reshape(-1, 2).round(6):
                if before_s < onset_s < offset_s:
                    events.append((clip, label, onset_s, offset_s))
                    before_s = offset_s
    for label in set(range(n_classes)) - {event[1] for event in events}:
        events.append((0, label, 0.6, 1.8))
    columns = [np.array(column) for column in zip(*sorted(events), strict=True)]
    truth = Detections(columns[0], columns[1], columns[2], columns[3])
    values = [rng.normal(-1, 1, (n, n_classes)) for n in lengths]
    for clip, label, onset_s, offset_s in events:
        frames = slice(int(onset_s / FRAME_S), int(np.ceil(offset_s / FRAME_S)))
        values[clip][frames, label] += rng.normal(2, 1.5)
    of_clip = [1 / (1 + np.exp(-one)) for one in values]
    if seed % 4 < 2:
        of_clip = [one.round(1) for one in of_clip]
    dtype = np.float32 if seed % 5 < 3 else np.float64
    rows = [one.astype(dtype) for one in of_clip]
    names = tuple(f"clip ü{row}" for row in range(n_clips))
    longer = tuple(FrameScores(one, _times(len(one))) for one in rows[n_clips - n_longer :])
    same = (
        np.stack(rows[: n_clips - n_longer])
        if n_longer < n_clips
        else np.zeros((0, n_frames, n_classes), dtype)
    )
    labels = Vocabulary([f"class {label}" for label in range(n_classes)])
    raw = Scores(names, same, _times(n_frames), labels, longer)
    duration_s = np.array(lengths) * FRAME_S
    decoded = raw.map(ClassMedianFilter([3] * n_classes))
    return Case(raw, _boxes(rng, raw, duration_s) if seed % 3 == 1 else decoded, truth, duration_s)


def _times(n_frames: int) -> np.ndarray:
    return np.arange(n_frames + 1) * FRAME_S


def _boxes(rng, raw: Scores, duration_s) -> Boxes:
    """Boxes of random borders between frames, some of equal confidence."""
    columns = []
    for clip, end_s in enumerate(duration_s):
        for label in range(len(raw.vocabulary)):
            borders = np.unique(rng.uniform(0, end_s, 2 * int(rng.integers(0, 4))).round(2))
            if clip == 0 and len(borders) < 2:  # the package fails for a class without any
                borders = np.array([0.0, round(end_s / 2, 2)])
            for onset_s, offset_s in borders[: len(borders) // 2 * 2].reshape(-1, 2):
                columns.append((clip, label, onset_s, offset_s, round(rng.random(), 1)))
    table = np.array(columns).reshape(-1, 5).T
    index = table[:2].astype(np.int64)
    return Boxes(raw.clip_ids, raw.vocabulary, duration_s, *index, *table[2:])
