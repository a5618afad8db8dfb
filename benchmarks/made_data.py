"""Generated, seeded data of published shapes: clips on a disk, scores and truths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile as sf

from desed_task.dataio.annotations import EventTable
from desed_task.dataio.embedding_writer import EmbeddingWriter
from desed_task.dataio.embeddings import EmbeddingReader
from desed_task.evaluation.scores import Scores
from desed_task.labels import FrameGrid
from local.classes_dict import DESED_CLASSES, MAESTRO_SCORED_CLASSES, VOCABULARY

CLIP_S, RATE = 10.0, 16000
N_FEATURES, N_TOKENS = 768, 496
EVENTS_A_CLIP = 3
# MAESTRO's recordings are cut into clips with a hop of 1 s.
CLIPS_A_RECORDING = 30


class ClipFolder(NamedTuple):
    """Clips with sound, embeddings and events."""

    folder: Path
    clip_ids: tuple[str, ...]
    reader: EmbeddingReader
    events: EventTable


class ScoredSet(NamedTuple):
    """What a network could say of a corpus, and what is true."""

    scores: Scores
    events: EventTable
    durations: dict[str, float]


def make_clips(folder: Path, n_clips: int) -> ClipFolder:
    """Noise at 16 kHz with embeddings of 768 x 496 and three events a clip."""
    rng = np.random.default_rng(0)
    clip_ids = tuple(f"Y{number:05d}_0.000_10.000" for number in range(n_clips))
    for clip_id in clip_ids:
        noise = rng.normal(0, 3000, int(CLIP_S * RATE)).astype(np.int16)
        sf.write(folder / f"{clip_id}.wav", noise, RATE)
    path = folder / "embeddings.hdf5"
    with EmbeddingWriter(
        path, clip_ids, n_features=N_FEATURES, n_tokens=N_TOKENS, identity={}
    ) as writer:
        for clip_id in clip_ids:
            frame = rng.standard_normal((1, N_FEATURES, N_TOKENS), dtype=np.float32)
            writer.put([clip_id], frame, frame.mean(-1))
        writer.finish()
    events = make_events(clip_ids, DESED_CLASSES, rng)
    return ClipFolder(folder, clip_ids, EmbeddingReader(path), events)


def make_events(
    clip_ids: Sequence[str], labels: Sequence[str], rng: np.random.Generator
) -> EventTable:
    """Three events of different classes a clip."""
    indices = [VOCABULARY.index(label) for label in labels]
    chosen = [rng.choice(indices, EVENTS_A_CLIP, replace=False) for _ in clip_ids]
    n_events = EVENTS_A_CLIP * len(clip_ids)
    onset_s = rng.uniform(0, 5, n_events).round(2)
    return EventTable(
        tuple(clip_ids),
        np.repeat(np.arange(len(clip_ids)), EVENTS_A_CLIP),
        onset_s,
        onset_s + rng.uniform(0.5, 5, n_events).round(2),
        np.concatenate(chosen),
        np.ones(n_events, dtype=np.float32),
        VOCABULARY,
    )


def desed_set(n_clips: int) -> ScoredSet:
    """Clips of 10 s with events of DESED's classes."""
    rng = np.random.default_rng(1)
    clip_ids = tuple(f"Y{number:05d}_0.000_10.000" for number in range(n_clips))
    events = make_events(clip_ids, DESED_CLASSES, rng)
    return ScoredSet(_scores(events, rng), events, dict.fromkeys(clip_ids, CLIP_S))


def maestro_set(n_clips: int, *, whole: bool) -> ScoredSet:
    """Clips of recordings; durations of recordings if `whole`, as a test wants, or of clips."""
    rng = np.random.default_rng(2)
    cut = [divmod(number, CLIPS_A_RECORDING) for number in range(n_clips)]
    clip_ids = [
        f"street_{recording:03d}-{100 * second:06d}-{100 * second + 1000:06d}"
        for recording, second in cut
    ]
    events = make_events(clip_ids, MAESTRO_SCORED_CLASSES, rng)
    lasts = {f"street_{recording:03d}": second + CLIP_S for recording, second in cut}
    durations = lasts if whole else dict.fromkeys(clip_ids, CLIP_S)
    return ScoredSet(_scores(events, rng), events, durations)


def _scores(events: EventTable, rng: np.random.Generator) -> Scores:
    """Scores that follow the events as a fair network's do: late, early, sometimes not at all."""
    boundaries_s = FrameGrid().boundaries_s
    middle_s = (boundaries_s[1:] + boundaries_s[:-1]) / 2
    shape = (len(events.clip_ids), len(middle_s), len(VOCABULARY))
    logits = rng.standard_normal(shape, dtype=np.float32) * 1.2 - 3
    late_s = rng.normal(0, 0.25, (2, len(events.clip_index)))
    height = rng.normal(4.5, 1.5, len(events.clip_index))
    for place, (clip, label) in enumerate(zip(events.clip_index, events.label_index, strict=True)):
        begin = events.onset_s[place] + late_s[0, place]
        end = events.offset_s[place] + late_s[1, place]
        logits[clip, (middle_s > begin) & (middle_s < end), label] += height[place]
    return Scores(events.clip_ids, 1 / (1 + np.exp(-logits)), boundaries_s, VOCABULARY)
