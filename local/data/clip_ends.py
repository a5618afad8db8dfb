"""Compare durations tables with audio, and events with the ends of their clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from desed_task.audio.files import probe
from desed_task.dataio.annotations import EventTable
from desed_task.errors import InputError, command_name, count_of
from desed_task.evaluation.segments import clip_span
from desed_task.parallel import thread_map

# Published tables are rounded to 0.1 s, and resampling moves an end by less than one sample.
ROUNDING_S = 0.1
# How much longer than the network's input a clip may be (it is cropped); a lie of this size about
# every clip changes the hours of a test, and so false positive rates, by 5 %.
MOST_S = 0.5
# Of shorter clips even that would be much.
_SHARE = 0.1
_FLOAT_S = 1e-6
# An event may end up to one sample at 16 kHz after its clip because the audio was resampled.
_SAMPLE_S = 1 / 16000
TABLE_REMEDY = (
    "correct or delete these rows, or delete the table and run "
    f"{command_name('generate_dcase_task4_2024.py')} to "
    "recreate it"
)
_N_PROBES = 8


class Windows(NamedTuple):
    """The clips that recordings were cut into.

    Attributes:
        length_s: clip, named by recording, onset and offset -> its duration.
        complete: whether the clips on disk are among them; otherwise only those that a table lists,
            which lacks clips without events.
    """

    length_s: Mapping[str, float]
    complete: bool = True


def tolerance_s(duration_s: float) -> float:
    """How far a table may differ from a file of this duration: 0.5 s, less for clips below 5 s."""
    return min(MOST_S, max(ROUNDING_S, _SHARE * duration_s)) + _FLOAT_S


def check_clip_durations(
    path: Path,
    table: Mapping[str, float],
    files_s: Mapping[str, float],
    *,
    remedy: str = TABLE_REMEDY,
) -> None:
    """Check stated durations against those of audio files.

    Args:
        path: file that states them, for messages.
        table: clip -> seconds.
        files_s: clip -> seconds by the header of its file; 0 if it cannot be read.
        remedy: end of the message.

    Raises:
        InputError: naming the clips, with both durations, whose difference exceeds `tolerance_s`.
    """
    lines = [
        f"{clip_id}: {table[clip_id]:g} s in the table, {file_s:g} s in the file"
        for clip_id, file_s in files_s.items()
        if clip_id in table and file_s and abs(table[clip_id] - file_s) > tolerance_s(file_s)
    ]
    _refuse(path, lines, "clip", remedy)


def check_unmeasured_clips(
    path: Path, table: Mapping[str, float], clip_ids: Iterable[str], longest_s: float
) -> None:
    """Check the durations of clips that count although their files are not on disk.

    Args:
        path: path of the table, for messages.
        table: clip -> seconds.
        clip_ids: the clips.
        longest_s: duration of the longest clip of the set.

    Raises:
        InputError: naming those that last more than 0.5 s longer than `longest_s`.
    """
    lines = [
        f"{clip_id}: {table[clip_id]:g} s in the table, its file is missing, and no other clip "
        f"lasts longer than {longest_s:g} s"
        for clip_id in clip_ids
        if table.get(clip_id, 0.0) > longest_s + MOST_S
    ]
    _refuse(path, lines, "clip", TABLE_REMEDY)


def check_recordings(
    path: Path, table: Mapping[str, float], windows: Windows, used: Iterable[str]
) -> None:
    """Check the durations of recordings against the clips cut from them.

    A recording ends where its last clip ends. Its clips leave no gap, so it is not longer than as
    many of the longest clips, whatever the names of its clips state.

    Args:
        path: path of the table, for messages.
        table: recording -> seconds; others are not checked.
        windows: the clips.
        used: the recordings that are scored.

    Raises:
        InputError: naming the recordings, with both durations, that differ by more than 0.5 s; if
            the clips are not complete, those that last more than one clip longer.
    """
    ends: dict[str, float] = {}
    count: Counter[str] = Counter()
    for clip_id, length_s in windows.length_s.items():
        try:
            recording, onset_s, _ = clip_span(clip_id)
        except InputError:
            continue
        ends[recording] = max(ends.get(recording, 0.0), onset_s + length_s)
        count[recording] += 1
    longest_s = max(windows.length_s.values(), default=0.0)
    more_s = 0.0 if windows.complete else longest_s
    lines = []
    for recording in sorted({*used} & ends.keys() & table.keys()):
        told_s, end_s = table[recording], ends[recording]
        within_s = tolerance_s(end_s)
        most_s = min(end_s, count[recording] * longest_s) + more_s
        if not end_s - within_s <= told_s <= most_s + within_s:
            lines.append(
                f"{recording}: {told_s:g} s in the table, the last of its "
                f"{count_of(count[recording], 'clip')} ends at {end_s:g} s"
            )
    _refuse(path, lines, "recording", TABLE_REMEDY)


def _refuse(path: Path, lines: list[str], what: str, remedy: str) -> None:
    if lines:
        heading = f"{path}: wrong durations of {count_of(len(lines), what)}; {remedy}:"
        raise InputError.collect(lines, heading)


def check_scored_lengths(
    name: str, ends_s: Mapping[str, float], durations_s: Mapping[str, float], *, frame_s: float
) -> None:
    """Check durations against the times of scores, where there is no audio to compare with.

    Args:
        name: of the durations table, for messages.
        ends_s: clip -> end of its last scored frame in seconds.
        durations_s: clip -> seconds.
        frame_s: length of a frame; networks ignore what a clip has after its last whole frame.

    Raises:
        InputError: naming the clips that last more than 0.5 s longer than their scores.
    """
    lines = [
        f"{clip_id}: {durations_s[clip_id]:g} s in the table, scores until {end_s:g} s"
        for clip_id, end_s in ends_s.items()
        if durations_s.get(clip_id, 0.0) > end_s + frame_s + MOST_S
    ]
    if lines:
        heading = f"{name}: wrong durations of {count_of(len(lines), 'clip')}; {TABLE_REMEDY}:"
        raise InputError.collect(lines, heading)


def windows_of(
    there: Collection[str], known: Mapping[str, float], listed: Iterable[str], *, clip_s: float
) -> Windows:
    """The clips of recordings in a folder and in a table.

    Args:
        there: clips in the folder.
        known: clip -> seconds by the header of its file.
        listed: clips of the table.
        clip_s: seconds that a clip without known header has at most, whatever its name states.
    """
    longest_s = max(clip_s, *known.values(), 0.0)
    lengths = {clip_id: _named_s(clip_id, longest_s) for clip_id in (*listed, *there)}
    lengths |= {clip_id: length_s for clip_id, length_s in known.items() if length_s}
    return Windows(lengths, bool(there))


def _named_s(clip_id: str, longest_s: float) -> float:
    """Duration by the clip's name, up to `longest_s`."""
    try:
        span = clip_span(clip_id)
    except InputError:
        return 0.0
    return min(max(span.offset_s - span.onset_s, 0.0), longest_s)


def header_durations(files: Mapping[str, Path]) -> dict[str, float]:
    """Clip -> seconds, of those of `files` that have a readable header."""
    found = thread_map(
        _duration_s,
        list(files.items()),
        jobs=_N_PROBES,
        desc="",
        progress=False,
    )
    return {clip_id: duration_s for clip_id, duration_s in found if duration_s}


def _duration_s(clip: tuple[str, Path]) -> tuple[str, float]:
    clip_id, path = clip
    try:
        return clip_id, probe(path).duration_s if path.is_file() else 0.0
    except InputError:
        return clip_id, 0.0


def rounding_warning(
    title: str, files_s: Mapping[str, float], durations_s: Mapping[str, float]
) -> str | None:
    """Message about clips whose tabled duration differs by more than rounding; None without any.

    Args:
        title: the corpus.
        files_s: clip -> seconds by the header of its file.
        durations_s: clip -> seconds as scored.
    """
    apart = {
        clip_id: abs(durations_s[clip_id] - file_s)
        for clip_id, file_s in files_s.items()
        if clip_id in durations_s and file_s
    }
    far = [clip_id for clip_id, value in apart.items() if value > ROUNDING_S + _FLOAT_S]
    if not far:
        return None
    worst = max(far, key=lambda clip_id: apart[clip_id])
    return (
        f"{title}: the durations table differs from the audio by more than {ROUNDING_S:g} s in "
        f"{len(far)} of {count_of(len(apart), 'clip')}, at most in {worst} "
        f"({durations_s[worst]:g} s in the table, {files_s[worst]:g} s in the file); the table's "
        "are used"
    )


class LateEnds(NamedTuple):
    """Events of a corpus that end after their clip.

    Attributes:
        title: the corpus.
        n_late: number of such events.
        n_events: number of events.
        farthest: the one that ends farthest behind its clip.
    """

    title: str
    n_late: int
    n_events: int
    farthest: str


def late_ends(title: str, events: EventTable, durations_s: Mapping[str, float]) -> LateEnds | None:
    """The events that end after their clip; None if there are none.

    Args:
        title: the corpus.
        events: events that begin before their clip's end.
        durations_s: clip -> seconds; without it, or if it is 0, a clip's end is not known.
    """
    over_s = events.offset_s - event_ends(events, durations_s)
    late = np.flatnonzero(over_s > _SAMPLE_S)
    if not len(late):
        return None
    row = int(late[np.argmax(over_s[late])])
    clip_id = events.clip_ids[events.clip_index[row]]
    farthest = (
        f"{events.vocabulary[events.label_index[row]]!r} until {events.offset_s[row]:g} s in "
        f"{clip_id}, which lasts {durations_s[clip_id]:g} s"
    )
    return LateEnds(title, len(late), len(events), farthest)


def late_ends_line(found: Iterable[LateEnds]) -> str | None:
    """One line that counts the events that end after their clip; None if there are none."""
    texts = [
        f"{one.n_late} of {one.n_events} of {one.title} (farthest: {one.farthest})" for one in found
    ]
    if not texts:
        return None
    return f"events that end after their clip, kept as annotated: {', '.join(texts)}"


def event_ends(events: EventTable, durations_s: Mapping[str, float]) -> np.ndarray:
    """(event,) the end of each event's clip in seconds; infinite if it is not known."""
    ends = [durations_s.get(clip_id) or np.inf for clip_id in events.clip_ids]
    return np.array(ends, dtype=np.float64)[events.clip_index]


def leave_out_late_events(events: EventTable, durations_s: Mapping[str, float]) -> EventTable:
    """The events that begin before their clip ends; one warning counts the others.

    Their clips stay, without events if need be.

    Args:
        events: events of clips.
        durations_s: clip -> seconds; without it, or if it is 0, a clip's end is not known.

    Raises:
        InputError: no event is left.
    """
    ends = {clip_id: durations_s.get(clip_id) or np.inf for clip_id in events.clip_ids}
    late = events.onset_s >= event_ends(events, durations_s)
    if len(late) and late.all():
        which = (
            "the only event begins after its clip's end"
            if len(late) == 1
            else f"all {len(late)} events begin after their clip's end"
        )
        raise InputError(
            f"{events.path or 'events'}: {which}, e.g. "
            f"at {events.onset_s[0]:g} s in {events.clip_ids[events.clip_index[0]]}; correct "
            "the table, whose times are seconds from the beginning of the clip"
        )
    return events.within(ends)
