"""Write the score files of a run: scores_*.npz of a test, score tables of an evaluation."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from desed_task.atomic_files import atomic_path
from desed_task.errors import InputError
from desed_task.evaluation.boxes import (
    Boxes,
    Decoded,
    decoded_from_arrays,
    distinct_times,
)
from desed_task.evaluation.scores import FrameScores, Scores
from desed_task.evaluation.segments import SEGMENT_S, segment_weights
from desed_task.file_names import looked_up_from
from desed_task.labels import Vocabulary
from desed_task.parallel import track
from local.schema.task import ScoreKind
from local.scoring.tags import ClipScores
from local.task.task import Task

EVALUATION_FILE = "evaluation.json"
SCORE_KINDS = ("unprocessed", "postprocessed")
# Filtered scores of clips that segments are scored of, too, beside the boxes of their events.
FILTERED = "filtered"
# Shorter remainders of a frame would be lost by rounding when a table is written.
_SHORTEST_FRAME_S = 1e-5


def write_scores(path: Path, raw: Scores, decoded: Decoded, filtered: Scores | None = None) -> None:
    """Write the scores of a corpus to one compressed file, atomically: arrays unprocessed and
    postprocessed (clip, frame, class), clip_ids, event_labels and boundaries_s; for the last of
    clip_ids, if scored in windows, long_unprocessed, long_postprocessed (frame, class),
    long_n_frames (clip,) and long_boundaries_s, one clip after the other. Of boxes there are
    postprocessed_boxes_* instead of postprocessed (`Boxes.arrays`), and filtered if given.
    """
    arrays = {
        name: values.astype(np.float32) for name, values in raw.arrays(SCORE_KINDS[0]).items()
    }
    of_frames = isinstance(decoded, Scores)
    for name, values in decoded.arrays(SCORE_KINDS[1]).items():
        arrays[name] = values.astype(np.float32) if of_frames else values
    if filtered is not None:
        arrays |= {n: v.astype(np.float32) for n, v in filtered.arrays(FILTERED).items()}
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays, **raw.layout)


def write_tag_scores(path: Path, found: ClipScores, vocabulary: Vocabulary) -> None:
    """Write scores of clips to one compressed file, atomically: arrays scores and present (clip,
    class), clip_ids and event_labels.
    """
    arrays = {"scores": found.scores, "present": found.present > 0}
    names = {"clip_ids": found.clip_ids, "event_labels": vocabulary.labels}
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary, **arrays, **{key: np.array(value) for key, value in names.items()}
        )


def read_scores(path: Path, kind: str) -> Decoded:
    """What `write_scores` wrote: scores or boxes.

    Args:
        path: the file.
        kind: one of SCORE_KINDS.

    Raises:
        InputError: if the file is missing or is not one of scores.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return decoded_from_arrays(stored, kind)
    except FileNotFoundError:
        where = looked_up_from(path)
        raise InputError(f"{path}: no such file{where}; test the run again") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not scores of a test ({error}); test the run again") from None


def read_scored(path: Path, kind: ScoreKind) -> Decoded:
    """What a test scored in one way: scores or boxes of events, filtered scores of segments.

    Raises:
        InputError: as `read_scores`.
    """
    decoded = read_scores(path, SCORE_KINDS[1])
    return (
        decoded if kind == "events" or isinstance(decoded, Scores) else read_scores(path, FILTERED)
    )


@dataclass(frozen=True)
class BoxScores:
    """Boxes as scores of clips, in which some classes have the means of segments instead.

    Attributes:
        boxes: of all classes.
        smoothed: filtered scores of the same clips.
        by_segment: classes that are scored by segments of a second; each has the time-weighted mean
            of its filtered scores there, which is what its metrics are computed from.
    """

    boxes: Boxes
    smoothed: Scores
    by_segment: Sequence[str]

    @property
    def clip_ids(self) -> tuple[str, ...]:
        """The clips."""
        return self.smoothed.clip_ids

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes."""
        return self.smoothed.vocabulary

    def each(self) -> Iterator[FrameScores]:
        """Scores of every clip, on frames between the borders of its boxes and segments."""
        columns = [self.vocabulary.index(label) for label in self.by_segment]
        events = self.boxes.rows(~np.isin(self.boxes.label_index, columns))
        for clip_id, frames in zip(self.clip_ids, self.smoothed.each(), strict=True):
            of_boxes = events.of(clip_id)
            n_segments = int(np.ceil(frames.boundaries_s[-1] / SEGMENT_S))
            starts_s = np.arange(n_segments) * SEGMENT_S
            boundaries_s = distinct_times(np.concatenate([of_boxes.boundaries_s, starts_s]))
            middle_s = (boundaries_s[1:] + boundaries_s[:-1]) / 2
            box = np.searchsorted(of_boxes.boundaries_s, middle_s, side="right") - 1
            segment = np.searchsorted(starts_s, middle_s, side="right") - 1
            weights = segment_weights(frames.boundaries_s, n_segments)
            means = weights @ frames.values[:, columns].astype(np.float64)
            values = of_boxes.values[box]
            values[:, columns] = means[segment]
            yield FrameScores(values, boundaries_s)


def classes_by_segment(task: Task) -> tuple[str, ...]:
    """Classes that are annotated where segments are scored, and that no events are scored of.

    Submissions have the means of segments for them.
    """
    parts = task.test or task.validation
    of = {
        kind: {
            label
            for part in parts
            if part.kind == kind
            for label in (part.classes if kind == "events" else part.corpus.known)
        }
        for kind in ("events", "segments")
    }
    return tuple(one for one in task.classes if one in of["segments"] - of["events"])


def score_folder(run_folder: Path, role: str, kind: str) -> Path:
    """Folder of the score tables of an evaluation; `kind` is one of SCORE_KINDS."""
    return run_folder / "metrics_test" / f"{role}_scores" / kind


def write_score_tables(
    folder: Path, scores: Scores | BoxScores, durations_s: Mapping[str, float]
) -> None:
    """Write `<clip>.tsv` per clip: onset, offset and one column per class, up to the clip's end."""
    head = "\t".join(["onset", "offset", *scores.vocabulary])
    formats = ["%.8g", "%.8g", *["%.6f"] * len(scores.vocabulary)]
    title = f"{folder.parent.name}/{folder.name}"
    clips = zip(scores.clip_ids, scores.each(), strict=True)
    for clip_id, (values, boundaries_s) in track(
        clips, title, len(scores.clip_ids), unit="clip", leave=False
    ):
        ends_s = crop_boundaries(boundaries_s, durations_s[clip_id])
        times = np.stack([ends_s[:-1], ends_s[1:]], axis=1)
        with atomic_path(folder / f"{clip_id}.tsv") as temporary:
            np.savetxt(
                temporary,
                np.concatenate([times, values[: len(times)]], axis=1),
                fmt=formats,
                delimiter="\t",
                header=head,
                comments="",
            )


def crop_boundaries(boundaries_s: NDArray[np.float64], duration_s: float) -> NDArray[np.float64]:
    """Boundaries (frame + 1,) of the frames that begin in a clip, ending at the clip's end."""
    onset_s = boundaries_s[:-1]
    kept = onset_s[onset_s < duration_s - _SHORTEST_FRAME_S]
    return np.append(kept, min(duration_s, boundaries_s[-1]))
