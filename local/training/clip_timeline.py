"""The timeline of one clip of a test: its spectrogram, scores, detected and annotated events."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from desed_task.audio.streaming import stream_file
from desed_task.dataio.annotations import EventTable
from desed_task.evaluation.boxes import Decoded
from desed_task.evaluation.scores import FrameScores, Scores
from desed_task.inference.detection_result import DetectionResult, SoundEvent, result_of
from desed_task.postprocess import Threshold, class_thresholds
from desed_task.postprocess.event_rules import NO_RULES
from local.checkpoints.restore import detector_spec
from local.config import RecipeConfig
from local.data.loaded_corpus import LoadedCorpus
from local.predict.mel_image import MelImage
from local.predict.timeline import plot_timeline
from local.scoring.results import TIMELINE_ROLE


def plot_clip_timeline(
    unprocessed: Scores, decoded: Decoded, corpus: LoadedCorpus, config: RecipeConfig
) -> Figure:
    """Plot the clip of a tested corpus in which most happens.

    Args:
        unprocessed: the network's scores of the corpus.
        decoded: what events are detected in.
        corpus: the corpus, with strong labels. Classes that it does not annotate are left out, as
            nobody knows whether their events are right.
        config: configuration of the test; gives thresholds and front end.

    Raises:
        InputError: the clip's file cannot be read.
    """
    assert corpus.events is not None
    events, known = corpus.events, corpus.corpus.known
    clip_id = eventful_clip(events)
    raw, smooth = (one.select([clip_id], known) for one in (unprocessed, decoded))
    threshold = config.predict.threshold
    if isinstance(threshold, dict):
        # The others are of classes that this corpus does not have.
        threshold = {label: one for label, one in threshold.items() if label in known}
    found = _detected(raw, smooth, threshold, corpus.durations_s[clip_id])
    mel = MelImage(detector_spec(config).front_end)
    for _ in mel.watch(stream_file(corpus.files[clip_id], config.data.fs)):
        pass
    truth = [
        SoundEvent(float(onset_s), float(offset_s), events.vocabulary[label], float(confidence))
        for onset_s, offset_s, label, confidence in zip(*events.events_of(clip_id), strict=True)
    ]
    limits = dict(zip(known, class_thresholds(threshold, known).tolist(), strict=True))
    title = f"{clip_id} of {corpus.corpus.title}, {TIMELINE_ROLE}"
    return plot_timeline(found, mel, limits, title=title, truth=truth)


def eventful_clip(events: EventTable) -> str:
    """The clip with most classes, then most events; the first of several. The same in every run."""
    pairs = np.unique(np.stack([events.clip_index, events.label_index]), axis=1)
    n_clips = len(events.clip_ids)
    n_classes = np.bincount(pairs[0], minlength=n_clips)
    n_events = np.bincount(events.clip_index, minlength=n_clips)
    return events.clip_ids[int(np.lexsort((-n_events, -n_classes))[0])]


def _detected(
    unprocessed: Scores, decoded: Decoded, threshold: Threshold, duration_s: float
) -> DetectionResult:
    """What `SoundEventDetector` finds in one clip; the padding of a short one is cut off."""
    (clip_id,), labels = decoded.clip_ids, decoded.vocabulary.labels
    values, boundaries_s = unprocessed.of(clip_id)
    end_s = min(duration_s, float(boundaries_s[-1]))
    n_frames = int(np.searchsorted(boundaries_s[:-1], end_s))
    ends_s = np.minimum(boundaries_s[: n_frames + 1], end_s)
    raw = FrameScores(values[:n_frames], ends_s)
    return result_of(raw, decoded, end_s, NO_RULES.of_classes(labels, threshold))
