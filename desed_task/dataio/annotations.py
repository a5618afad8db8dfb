"""Read, check and write annotation tables.

A table is read once into arrays with one entry per event; data frames are not passed on. All
mistakes of a table are reported together, each with its line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from desed_task.atomic_files import PathLike, atomic_path
from desed_task.dataio.tables import clip_ids as ids_of_rows
from desed_task.dataio.tables import parse_numbers, read_text_table, row_location
from desed_task.errors import InputError, agree, count_of, warn_once
from desed_task.file_names import printable
from desed_task.labels import Vocabulary

# No recording lasts longer; larger times are mistakes, such as other units or a lost decimal point.
LONGEST_S = 7 * 24 * 3600.0
_MORE_THAN_A_WEEK = " is more than a week of seconds; correct the row"

Events = tuple[
    npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.float32]
]


@dataclass(frozen=True)
class EventTable:
    """Strong labels of clips as columns, with one entry per event.

    Attributes:
        clip_ids: unique clip ids in table order, including clips without events.
        clip_index: (event,) index into `clip_ids`.
        onset_s: (event,) seconds.
        offset_s: (event,) seconds, after the onset.
        label_index: (event,) index into `vocabulary`.
        confidence: (event,) in [0, 1]; 1 if the table has no such column.
        vocabulary: classes of the labels.
        path: the file it was read from, for messages.
        eventless: the clips whose rows in the file contain no event. A clip whose events were left
            out, by `rows` or because they have no length, is not one of them.
    """

    clip_ids: tuple[str, ...]
    clip_index: npt.NDArray[np.int64]
    onset_s: npt.NDArray[np.float64]
    offset_s: npt.NDArray[np.float64]
    label_index: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float32]
    vocabulary: Vocabulary
    path: Path | None = None
    eventless: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.clip_index)

    def rows(self, index: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> EventTable:
        """The table with the events at `index` only (positions or a mask), of the same clips."""
        return replace(
            self,
            clip_index=self.clip_index[index],
            onset_s=self.onset_s[index],
            offset_s=self.offset_s[index],
            label_index=self.label_index[index],
            confidence=self.confidence[index],
        )

    def select(self, clip_ids: Iterable[str]) -> EventTable:
        """The events of `clip_ids`, which become the table's clips in the order given.

        Clips that the table does not list are taken as clips without events.
        """
        chosen = tuple(dict.fromkeys(clip_ids))
        place = {clip_id: index for index, clip_id in enumerate(chosen)}
        new_index = np.array([place.get(c, -1) for c in self.clip_ids], dtype=np.int64)
        moved = new_index[self.clip_index] if len(self) else self.clip_index
        kept = self.rows(moved >= 0)
        return replace(
            kept,
            clip_ids=chosen,
            clip_index=moved[moved >= 0],
            eventless=self.eventless.intersection(chosen),
        )

    def renamed(self, names: Mapping[str, str]) -> EventTable:
        """The table with other clip ids; those that `names` lacks stay."""
        return replace(
            self,
            clip_ids=tuple(names.get(clip_id, clip_id) for clip_id in self.clip_ids),
            eventless=frozenset(names.get(clip_id, clip_id) for clip_id in self.eventless),
        )

    def events_of(self, clip_id: str) -> Events:
        """onset_s, offset_s, label_index, confidence of one clip, in table order."""
        rows = np.flatnonzero(self.clip_index == self.clip_ids.index(clip_id))
        return (
            self.onset_s[rows],
            self.offset_s[rows],
            self.label_index[rows],
            self.confidence[rows],
        )

    def merged(self) -> EventTable:
        """`joined`, with one warning (count and an example) if events overlapped."""
        table = self._sorted()
        overlaps = _runs(table)[1]
        if overlaps.any():
            self._warn_of_overlaps(table, np.flatnonzero(overlaps))
        return table.joined()

    def joined(self) -> EventTable:
        """The table with overlapping or touching events of one class in one clip merged.

        A joined event has the largest confidence of its parts; events come sorted by clip, class
        and onset.
        """
        table = self._sorted()
        first = np.flatnonzero(_runs(table)[0])
        if not len(table):
            return table
        return replace(
            table.rows(first),
            offset_s=np.maximum.reduceat(table.offset_s, first),
            confidence=np.maximum.reduceat(table.confidence, first),
        )

    def within(self, durations: Mapping[str, float]) -> EventTable:
        """The events that begin before their clip ends; others are left out with one warning.

        Args:
            durations: clip -> seconds, of every clip.
        """
        end_s = np.array([durations[clip_id] for clip_id in self.clip_ids])[self.clip_index]
        late = np.flatnonzero(self.onset_s >= end_s)
        if len(late):
            row, n = late[0], len(late)
            self._warn(
                "late",
                f"{count_of(n, 'event begins', 'events begin')} after {agree(n, 'its', 'their')} "
                f"clip's end and {agree(n, 'is', 'are')} left out, e.g. "
                f"{self.vocabulary[self.label_index[row]]!r} at {self.onset_s[row]:g} s in "
                f"{self.clip_ids[self.clip_index[row]]}, which lasts {end_s[row]:g} s",
            )
        return self.rows(self.onset_s < end_s)

    def _sorted(self) -> EventTable:
        return self.rows(np.lexsort((self.onset_s, self.label_index, self.clip_index)))

    def _warn_of_overlaps(self, table: EventTable, rows: npt.NDArray[np.int64]) -> None:
        row, n = rows[0], len(rows)
        self._warn(
            "overlap",
            f"{count_of(n, 'event overlaps', 'events overlap')} an earlier one of "
            f"{agree(n, 'its', 'their')} class and {agree(n, 'is', 'are')} merged with it, e.g. "
            f"{self.vocabulary[table.label_index[row]]!r} at {table.onset_s[row]:g} s in "
            f"{table.clip_ids[table.clip_index[row]]}",
        )

    def _warn(self, kind: str, text: str) -> None:
        """Warn of a kind of event once per file: each validation scores it for each network."""
        text = printable(f"{self.path or 'events'}: {text}")
        warn_once(text, (kind, self.path) if self.path else text, stacklevel=4)


def _runs(table: EventTable) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """For sorted events: which start a new run, and which overlap (not only touch) one before."""
    group = table.clip_index * len(table.vocabulary) + table.label_index
    # A running maximum of offsets within each group, by lifting every group above the last.
    lift = group * (table.offset_s.max(initial=0.0) + 1.0)
    reach = np.maximum.accumulate(table.offset_s + lift)
    before = np.concatenate([[-np.inf], reach])[: len(table)]
    onset = table.onset_s + lift
    same = np.concatenate([[False], group[1:] == group[:-1]])[: len(table)]
    return ~same | (onset > before), same & (onset < before - 1e-9)


@dataclass(frozen=True)
class WeakTable:
    """Clip-level labels.

    Attributes:
        clip_ids: unique clip ids in table order.
        target: (clip, class) bool.
        vocabulary: classes of the labels.
        path: the file it was read from.
    """

    clip_ids: tuple[str, ...]
    target: npt.NDArray[np.bool_]
    vocabulary: Vocabulary
    path: Path | None = None

    def renamed(self, names: Mapping[str, str]) -> WeakTable:
        """The table with other clip ids; those that `names` lacks stay."""
        clip_ids = tuple(names.get(clip_id, clip_id) for clip_id in self.clip_ids)
        return replace(self, clip_ids=clip_ids)


def read_strong_table(path: PathLike, vocabulary: Vocabulary) -> EventTable:
    """Read filename, onset, offset, event_label and, if present, confidence.

    A row whose onset, offset and label are all empty names a clip without events, unless another
    row has an event of it. Events that end where they begin are left out with one warning.

    Raises:
        InputError: with every line that has an unknown label, an onset or offset that is not a
            number or above a week, an offset before its onset, a negative onset or a confidence
            outside [0, 1]; for a file that is missing, empty or not such a table.
    """
    path = Path(path)
    frame = read_text_table(path, ("filename", "onset", "offset", "event_label"))
    onset_s, offset_s = (parse_numbers(frame[name]) for name in ("onset", "offset"))
    confidence = (
        parse_numbers(frame["confidence"]) if "confidence" in frame else np.ones(len(frame))
    )
    label = frame["event_label"].to_numpy(dtype=object)
    label_index = _label_indices(label, vocabulary)
    events = ~(frame[["onset", "offset", "event_label"]] == "").all(axis=1).to_numpy()
    _check_rows(path, frame, events, onset_s, offset_s, confidence, label_index, vocabulary)
    clip_index, clip_ids = pd.factorize(ids_of_rows(path, frame))
    eventless = np.setdiff1d(np.arange(len(clip_ids)), clip_index[events])
    empty = np.flatnonzero(events & (offset_s == onset_s))
    if len(empty):
        # Harmless in training, but no metric takes them.
        others = len(empty) - 1
        as_well = f", as {agree(others, 'is', 'are')} {others} more" if others else ""
        where = row_location(path, frame, empty[0])
        warn_once(f"{where}: the event ends where it begins and is left out{as_well}")
        events[empty] = False
    return EventTable(
        tuple(clip_ids),
        clip_index[events].astype(np.int64),
        onset_s[events],
        offset_s[events],
        label_index[events],
        confidence[events].astype(np.float32),
        vocabulary,
        path,
        frozenset(clip_ids[eventless]),
    )


def _check_rows(
    path: Path,
    frame: pd.DataFrame,
    events: npt.NDArray[np.bool_],
    onset_s: npt.NDArray[np.float64],
    offset_s: npt.NDArray[np.float64],
    confidence: npt.NDArray[np.float64],
    label_index: npt.NDArray[np.int64],
    vocabulary: Vocabulary,
) -> None:
    known = ", ".join(vocabulary)
    not_seconds = " is not a number of seconds; correct the row"
    text = {str(name): frame[name].to_numpy(dtype=object) for name in frame}
    text.setdefault("confidence", np.full(len(frame), "1", dtype=object))
    with np.errstate(invalid="ignore"):
        rules: Sequence[tuple[npt.NDArray[np.bool_], str]] = (
            (label_index < 0, "unknown label {event_label!r}; known: " + known),
            (~np.isfinite(onset_s), "onset {onset!r}" + not_seconds),
            (~np.isfinite(offset_s), "offset {offset!r}" + not_seconds),
            (onset_s < 0, "onset {onset} is before the clip; correct the row"),
            (offset_s < onset_s, "offset {offset} is before onset {onset}; correct the row"),
            (_absurd(onset_s), "onset {onset!r}" + _MORE_THAN_A_WEEK),
            (_absurd(offset_s), "offset {offset!r}" + _MORE_THAN_A_WEEK),
            (
                ~((confidence >= 0) & (confidence <= 1)),
                "confidence {confidence!r} is not in [0, 1]; correct the row",
            ),
        )
    found = [
        (row, message.format(**{name: column[row] for name, column in text.items()}))
        for mask, message in rules
        for row in np.flatnonzero(mask & events)
    ]
    if found:
        lines = [f"{row_location(path, frame, row)}: {message}" for row, message in sorted(found)]
        raise InputError.collect(lines, f"{path} cannot be used:")


def write_strong_table(path: PathLike, table: EventTable, *, confidence: bool = False) -> None:
    """Write a table atomically (file names get .wav)."""
    labels = np.asarray(table.vocabulary.labels, dtype=object)
    clips = np.asarray([f"{clip_id}.wav" for clip_id in table.clip_ids], dtype=object)
    columns = {
        "filename": clips[table.clip_index],
        "onset": table.onset_s,
        "offset": table.offset_s,
        "event_label": labels[table.label_index],
    }
    if confidence:
        columns["confidence"] = table.confidence
    frame = pd.DataFrame(columns)
    empty = sorted(set(range(len(clips))) - set(table.clip_index.tolist()))
    frame = pd.concat([frame, pd.DataFrame({"filename": clips[empty]})]) if empty else frame
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, sep="\t", index=False)


def read_weak_table(path: PathLike, vocabulary: Vocabulary) -> WeakTable:
    """Read filename and event_labels (comma-separated).

    Raises:
        InputError: with every line that has an unknown or no label or repeats a clip; for a
            file that is missing, empty or not such a table.
    """
    path = Path(path)
    frame = read_text_table(path, ("filename", "event_labels"))
    clip_ids = ids_of_rows(path, frame)
    labels = [
        [name.strip() for name in text.split(",") if name.strip()] for text in frame["event_labels"]
    ]
    repeated = clip_ids.duplicated().to_numpy()
    problems = [
        f"{row_location(path, frame, row)}: {problem}"
        for row, names in enumerate(labels)
        for problem in _weak_problems(clip_ids.iloc[row], names, bool(repeated[row]), vocabulary)
    ]
    if problems:
        raise InputError.collect(problems, f"{path} cannot be used:")
    target = np.stack([vocabulary.mask(names) for names in labels])
    return WeakTable(tuple(clip_ids), target, vocabulary, path)


def _weak_problems(
    clip_id: str, names: list[str], repeated: bool, vocabulary: Vocabulary
) -> list[str]:
    problems = [
        f"unknown label {name!r}; known: {', '.join(vocabulary)}"
        for name in names
        if name not in vocabulary
    ]
    if not names:
        problems.append("no label; drop the row or move the clip to the unlabelled set")
    if repeated:
        problems.append(f"{clip_id} is listed twice; keep one row")
    return problems


def read_durations(path: PathLike) -> dict[str, float]:
    """Read filename and duration: clip id -> seconds.

    Raises:
        InputError: for durations that are not positive numbers or longer than a week, and for clips
            with several; for a file that is missing, empty or not such a table.
    """
    path = Path(path)
    frame = read_text_table(path, ("filename", "duration"))
    duration_s = parse_numbers(frame["duration"])
    clip_ids = ids_of_rows(path, frame)
    again = (clip_ids.duplicated() & ~_same_durations(clip_ids, duration_s)).to_numpy()
    with np.errstate(invalid="ignore"):
        rules = (
            (~(np.isfinite(duration_s) & (duration_s > 0)), "not a positive number of seconds"),
            (_absurd(duration_s), "more than a week of seconds"),
            (again, "another one than in an earlier row of the clip"),
        )
    lines = [
        f"{row_location(path, frame, row)}: duration {frame['duration'].iloc[row]!r} is {problem}; "
        "correct the row, or delete the table to recreate it"
        for mask, problem in rules
        for row in np.flatnonzero(mask)
    ]
    if lines:
        raise InputError.collect(lines, f"{path} cannot be used:")
    return dict(zip(clip_ids, duration_s.tolist(), strict=True))


def _same_durations(
    clip_ids: pd.Series[str], duration_s: npt.NDArray[np.float64]
) -> pd.Series[bool]:
    """(row,) whether a row states the duration of the first row of its clip."""
    stated = pd.Series(duration_s, index=clip_ids.index)
    return stated == stated.groupby(clip_ids).transform("first")


def _absurd(seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return np.isfinite(seconds) & (seconds > LONGEST_S)


def _label_indices(label: npt.NDArray[np.object_], vocabulary: Vocabulary) -> npt.NDArray[np.int64]:
    """(row,) class index, -1 for labels that the vocabulary lacks."""
    index = {name: number for number, name in enumerate(vocabulary)}
    return np.array([index.get(name, -1) for name in label], dtype=np.int64)
