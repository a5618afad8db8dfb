"""Pages of the worst clips: play a clip, and see its scores, annotated and detected events."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from desed_task.audio.streaming import stream_file
from desed_task.dataio.clip_names import flat_names
from desed_task.errors import InputError, count_of
from desed_task.evaluation.boxes import Boxes
from desed_task.evaluation.error_analysis import SHARE
from desed_task.evaluation.scores import Detections, FrameScores
from desed_task.file_names import LONGEST_NAME, escape_name, printable, shorten_name
from desed_task.inference.detection_result import SoundEvent
from local.checkpoints.restore import detector_spec
from local.config import RecipeConfig
from local.data.corpus_checks import examples
from local.error_report.findings import FoundErrors
from local.predict.mel_image import MelImage
from local.predict.pages.content import MEL_COLUMNS, PageContent, PageTruth
from local.predict.pages.page import write_page
from local.predict.pages.sound import sound_of

CLIPS_FOLDER = "clips"
PAGE_SUFFIX = ".html"
SAME_S = 1e-6


def write_clip_pages(
    folder: Path,
    target: Path,
    errors: FoundErrors,
    clips: Sequence[int],
    files: Mapping[str, Path],
    config: RecipeConfig,
    facts: Mapping[str, str],
) -> dict[int, str]:
    """Write a page per clip; those whose audio is gone or unreadable are named in a warning.

    Args:
        folder: where the report is written.
        target: where it will be: sound that is linked is addressed from there.
        errors: the errors.
        clips: indices of the clips.
        files: clip -> audio file, of the clips on disk.
        config: configuration of the test; gives the front end.
        facts: what each page says about its origin.

    Returns:
        Clip -> path of its page below the folder.
    """
    names = flat_names(errors.clip_ids[clip] for clip in clips)
    pages, lost = {}, []
    for clip in clips:
        clip_id = errors.clip_ids[clip]
        name = f"{shorten_name(names[clip_id], LONGEST_NAME - len(PAGE_SUFFIX))}{PAGE_SUFFIX}"
        try:
            if clip_id not in files:
                raise InputError("its audio is not on disk")
            mel = MelImage(detector_spec(config).front_end, most_columns=MEL_COLUMNS)
            for _ in mel.watch(stream_file(files[clip_id], config.data.fs)):
                pass
            sound = sound_of(files[clip_id], target / CLIPS_FOLDER / name, rate_hz=config.data.fs)
            content = replace(_content(errors, clip, mel), sound=sound, facts=dict(facts))
            write_page(folder / CLIPS_FOLDER / name, content)
        except (InputError, OSError) as error:
            lost.append(f"{clip_id} ({error})")
            continue
        pages[clip] = f"{CLIPS_FOLDER}/{name}"
    if lost:
        warnings.warn(
            f"{target}: {count_of(len(lost), 'clip has', 'clips have')} no page in the error "
            f"report: {printable(examples(lost))}",
            UserWarning,
            stacklevel=2,
        )
    return pages


def _content(errors: FoundErrors, clip: int, mel: MelImage) -> PageContent:
    """What the page of a clip shows, without sound; the padding of a short one is cut off."""
    clip_id, labels = errors.clip_ids[clip], errors.labels
    values, boundaries_s = errors.scores.of(clip_id)
    end_s = min(float(errors.duration_s[clip]), float(boundaries_s[-1]))
    n_frames = int(np.searchsorted(boundaries_s[:-1], end_s))
    cut = FrameScores(values[:n_frames], np.minimum(boundaries_s[: n_frames + 1], end_s))
    boxes = None
    if isinstance(errors.scores, Boxes):
        whole = errors.scores
        every = Detections(whole.clip_index, whole.label_index, whole.onset_s, whole.offset_s)
        boxes = _events(errors, every.within(errors.duration_s), clip, cut)
    return PageContent(
        name=escape_name(clip_id),
        duration_s=end_s,
        labels=labels,
        boundaries_s=cut.boundaries_s,
        scores=cut.values,
        thresholds=dict(zip(labels, errors.thresholds.tolist(), strict=True)),
        events=_events(errors, errors.found, clip, cut),
        mel=mel,
        boxes=boxes,
        truth=PageTruth(_events(errors, errors.truth, clip, None), SHARE, SHARE),
    )


def _events(
    errors: FoundErrors, of: Detections, clip: int, scores: FrameScores | None
) -> list[SoundEvent]:
    """The events of a clip, with the means of their scores as confidences, else 1."""
    mine = of.rows(of.clip_index == clip)
    found = []
    for label, onset_s, offset_s in zip(
        mine.label_index.tolist(), mine.onset_s.tolist(), mine.offset_s.tolist(), strict=True
    ):
        confidence = 1.0
        if scores is not None:
            offset_s = min(offset_s, float(scores.boundaries_s[-1]))
            # Borders of boxes that differ by rounding are one.
            borders_s = np.array([onset_s, offset_s]) - SAME_S
            first, last = np.searchsorted(scores.boundaries_s, borders_s)
            confidence = float(scores.values[first : max(last, first + 1), label].mean())
        found.append(SoundEvent(onset_s, offset_s, errors.labels[label], confidence))
    return sorted(found)
