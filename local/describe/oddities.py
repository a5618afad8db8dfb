"""What is odd about the recordings and labels of a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from desed_task.dataio.annotations import EventTable
from desed_task.errors import agree, count_of
from desed_task.labels import Vocabulary
from local.describe.label_files import FoundLabels, LabelledEvent
from local.describe.plan import Plan
from local.describe.recordings import Recordings, some
from local.describe.sizes import events_of_class
from local.doctor.oddities.equal_audio import equal_audio
from local.doctor.oddities.events import FEW, overlapping_events
from local.doctor.oddities.leaks import ClipSet, Use, find_leaks

# Longer recordings are told: they have as many windows as hundreds of clips.
_VERY_LONG_S: Final = 3600
# Ends of events are rounded, and recordings cut, by as much.
_BEYOND_S: Final = 0.05


def odd_lines(
    found: Recordings,
    labels: FoundLabels,
    plan: Plan,
    parts: Mapping[tuple[str, Use], Sequence[str]],
    sample_rate: int,
) -> list[str]:
    """One line each on what is odd.

    Args:
        found, labels: what is in the folder.
        plan: what was made of it.
        parts: corpus and use -> its recordings.
        sample_rate: that the task takes.
    """
    return [
        *found.oddities(sample_rate),
        *_of_label_files(found, labels),
        *_of_recordings(found, plan),
        *_of_events(found, plan),
        *_of_classes(plan, parts),
        *_of_splits(found, parts),
    ]


def _of_label_files(found: Recordings, labels: FoundLabels) -> Iterator[str]:
    if labels.without_audio:
        n = len(labels.without_audio)
        yield f"{count_of(n, 'label file')} without a recording: {some(labels.without_audio)}"
    for one in labels.labels:
        if one.absent:
            n = len(one.absent)
            yield (
                f"{one.path}: {count_of(n, 'recording')} that {agree(n, 'is', 'are')} not there: "
                f"{some(one.absent)}"
            )
        if one.faulty:
            n = len(one.faulty)
            yield (
                f"{one.path}: {count_of(n, 'row')} without usable times, which training will "
                f"refuse: {some(one.faulty)}"
            )


def _of_recordings(found: Recordings, plan: Plan) -> Iterator[str]:
    labelled = {clip for corpus in plan.corpora if corpus.labels for clip in corpus.clips}
    without = [clip for clip in found.infos if clip not in labelled]
    if without:
        yield (
            f"{count_of(len(without), 'recording')} without labels ({some(without)}); give "
            f"{agree(len(without), 'it', 'each')} an empty label file if "
            f"{agree(len(without), 'it has', 'they have')} none of the sounds"
        )
    with_events = {event.clip_id for corpus in plan.corpora for event in corpus.events}
    if empty := sorted(labelled - with_events):
        yield f"{count_of(len(empty), 'recording')} without events ({some(empty)})"
    long = [clip for clip, value in found.durations_s.items() if value > _VERY_LONG_S]
    if long:
        yield f"{count_of(len(long), 'recording')} of more than an hour ({some(long)})"
    same = equal_audio({clip: found.files[clip] for clip in found.infos})
    if same:
        groups = [" = ".join(group) for group in same]
        yield f"recordings with the same audio: {some(groups)}"


def _of_events(found: Recordings, plan: Plan) -> Iterator[str]:
    ends = found.durations_s
    events = [event for corpus in plan.corpora for event in corpus.events]
    beyond = [
        f"{event.clip_id}: {event.offset_s:g} of {ends[event.clip_id]:.2f} s"
        for event in events
        if event.offset_s is not None and event.offset_s > ends[event.clip_id] + _BEYOND_S
    ]
    if beyond:
        yield f"{count_of(len(beyond), 'event')} beyond the end of the recording ({some(beyond)})"
    instants = [event for event in events if event.onset_s is not None and _is_instant(event)]
    if instants:
        clips = list(dict.fromkeys(event.clip_id for event in instants))
        yield (
            f"{count_of(len(instants), 'event')} without length, which "
            f"{agree(len(instants), 'is', 'are')} left out ({some(clips)}); in Audacity, drag over "
            "the sound before you label it"
        )
    for corpus in plan.corpora:
        annotated = corpus.labels is not None and "annotator" in corpus.labels.layout.columns
        if corpus.kind == "strong" and not annotated:
            overlaps = overlapping_events(_table(corpus.events, plan))
            shown = [f"{clip}: {', '.join(names)}" for clip, names in overlaps.items()]
            if shown:
                yield (
                    f"events of one class overlap in {count_of(len(shown), 'recording')} "
                    f"({some(shown)}); they are taken for one"
                )


def _is_instant(event: LabelledEvent) -> bool:
    return event.onset_s == event.offset_s


def _of_classes(plan: Plan, parts: Mapping[tuple[str, Use], Sequence[str]]) -> Iterator[str]:
    by_class = events_of_class(plan)
    for use in ("training", "validation", "test"):
        clips = {clip for (_, of), members in parts.items() if of == use for clip in members}
        counts = {
            label: sum(event.clip_id in clips for event in events)
            for label, events in by_class.items()
        }
        if none := [label for label, n in counts.items() if not n]:
            effect = {"training": "cannot be learnt"}.get(use, "is not scored")
            yield f"no {use} clip has {some(map(repr, none), 8)}, which {effect}; label more"
        rare = {label: n for label, n in counts.items() if 0 < n < FEW}
        if use == "training" and rare:
            shown = [f"{label!r} ({n})" for label, n in sorted(rare.items(), key=lambda x: x[1])]
            yield f"classes with fewer than {FEW} labels in training: {some(shown, 8)}"


def _of_splits(found: Recordings, parts: Mapping[tuple[str, Use], Sequence[str]]) -> Iterator[str]:
    sets = [
        ClipSet(name, use, {clip: found.files[clip] for clip in clips})
        for (name, use), clips in parts.items()
    ]
    yield from (leak.text() for leak in find_leaks(sets))


def _table(events: Sequence[LabelledEvent], plan: Plan) -> EventTable:
    """The events as a table, of classes only."""
    rows = [(event, plan.label_map.get(event.label, event.label)) for event in events]
    kept = [(event, label) for event, label in rows if label is not None]
    clips = tuple(dict.fromkeys(event.clip_id for event, _ in kept))
    vocabulary = Vocabulary(plan.classes)
    place = {clip: number for number, clip in enumerate(clips)}
    return EventTable(
        clips,
        np.array([place[event.clip_id] for event, _ in kept], dtype=np.int64),
        np.array([event.onset_s for event, _ in kept], dtype=np.float64),
        np.array([event.offset_s for event, _ in kept], dtype=np.float64),
        np.array([vocabulary.index(label) for _, label in kept], dtype=np.int64),
        np.ones(len(kept), dtype=np.float32),
        vocabulary,
    )
