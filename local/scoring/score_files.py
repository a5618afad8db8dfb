"""Write the score files of a run: scores_*.npz of a test, score tables of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from desed_task.atomic_files import atomic_path
from desed_task.evaluation.scores import Scores
from desed_task.parallel import track

EVALUATION_FILE = "evaluation.json"
SCORE_KINDS = ("unprocessed", "postprocessed")
# Shorter remainders of a frame would be lost by rounding when a table is written.
_SHORTEST_FRAME_S = 1e-5


def write_scores(path: Path, raw: Scores, smoothed: Scores) -> None:
    """Write the scores of a corpus to one compressed file, atomically: arrays unprocessed and
    postprocessed (clip, frame, class), clip_ids, event_labels and boundaries_s; for the last of
    clip_ids, if scored in windows, long_unprocessed, long_postprocessed (frame, class),
    long_n_frames (clip,) and long_boundaries_s, one clip after the other.
    """
    arrays = {
        name: values.astype(np.float32)
        for kind, scores in zip(SCORE_KINDS, (raw, smoothed), strict=True)
        for name, values in scores.arrays(kind).items()
    }
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays, **raw.layout)


def score_folder(run_folder: Path, role: str, kind: str) -> Path:
    """Folder of the score tables of an evaluation; `kind` is one of SCORE_KINDS."""
    return run_folder / "metrics_test" / f"{role}_scores" / kind


def write_score_tables(folder: Path, scores: Scores, durations_s: Mapping[str, float]) -> None:
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
