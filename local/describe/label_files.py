"""Find the label files of a folder of recordings, and read their events."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, NamedTuple

from desed_task.dataio.clip_names import clip_id_of, last_part, match_names
from desed_task.errors import InputError
from local.describe.recordings import Recordings
from local.describe.table_layout import TableLayout, guess_layout, names_clip, number

# Endings of text files that may hold labels.
LABEL_ENDINGS: Final = (".txt", ".tsv", ".csv", ".ann", ".lab", ".label", ".labels", ".annotation")
# Larger ones are no labels, and would take long to look at.
_MOST_BYTES: Final = 200_000_000


class LabelledEvent(NamedTuple):
    """A row of a label file.

    Attributes:
        clip_id: the recording; "" if there is none of that name.
        named: the recording as the file names it.
        onset_s, offset_s: seconds; None of weak labels.
        label: as it is written.
        confidence: 1 without a column of it.
        split: text of the column of splits; "" if there is none.
        annotator: text of the column of annotators; "" if there is none.
    """

    clip_id: str
    named: str
    onset_s: float | None
    offset_s: float | None
    label: str
    confidence: float = 1.0
    split: str = ""
    annotator: str = ""


@dataclass(frozen=True)
class Labels:
    """Labels of one form: a table of many recordings, or one file per recording.

    Attributes:
        path: the table, or the pattern of the files: {clip}, {folder} and {name} stand for a clip's
            path, its folder and its last part; below the folder of the recordings.
        layout: of the table, or of one of the files.
        events: the rows.
        clips: recordings that have labels, also those whose file is empty or whose row has none.
        absent: names of recordings that are labelled but not there.
        faulty: file and line of rows that cannot be read.
        is_audacity: whether files are label tracks.
    """

    path: str
    layout: TableLayout
    events: tuple[LabelledEvent, ...]
    clips: tuple[str, ...]
    absent: tuple[str, ...] = ()
    faulty: tuple[str, ...] = ()
    is_audacity: bool = False

    @property
    def kind(self) -> Literal["strong", "soft", "weak"]:
        """Kind of the labels."""
        if not self.layout.is_strong:
            return "weak"
        soft = any(event.confidence != 1 for event in self.events)
        return "soft" if soft and "confidence" in self.layout.columns else "strong"

    @property
    def per_clip(self) -> bool:
        """Whether there is one file per recording."""
        return "{" in self.path


@dataclass(frozen=True)
class FoundLabels:
    """All labels below a folder.

    Attributes:
        labels: forms of labels, the best first: with times, of most recordings.
        unread: text files that are no labels, by their paths below the folder.
        without_audio: files that look like labels of one recording that is not there.
    """

    labels: tuple[Labels, ...]
    unread: tuple[str, ...] = ()
    without_audio: tuple[str, ...] = ()


def find_labels(found: Recordings) -> FoundLabels:
    """The labels of recordings, in any form that can be told."""
    longest_s = max(found.durations_s.values())
    texts = [path for path in found.other_files if _may_hold_labels(path)]
    per_clip, rest = _per_clip(found, texts)
    labels: list[Labels] = []
    for pattern, files in per_clip.items():
        one = _read_files(found, pattern, files, longest_s)
        if one is None:
            rest += files.values()
        else:
            labels.append(one)
    unread, without_audio = [], []
    is_clip = names_clip(_stems(found))
    for path in sorted(rest):
        layout = guess_layout(path, is_clip, of_clip=False, longest_s=longest_s)
        below = os.fspath(path.relative_to(found.folder))
        table = None if layout is None else _read_table(found, path, layout)
        if table is not None:
            labels.append(table)
            continue
        alone = guess_layout(path, is_clip, of_clip=True, longest_s=longest_s)
        is_lone = alone is not None and alone.is_strong
        (without_audio if is_lone else unread).append(below)
    labels.sort(key=lambda one: (not one.layout.is_strong, -len(one.clips), one.path))
    return FoundLabels(tuple(labels), tuple(unread), tuple(without_audio))


def _may_hold_labels(path: Path) -> bool:
    try:
        return path.suffix.lower() in LABEL_ENDINGS and path.stat().st_size < _MOST_BYTES
    except OSError:
        return False


def _stems(found: Recordings) -> dict[str, str]:
    return {last_part(clip_id).casefold(): clip_id for clip_id in found.files}


# ---- one file per recording


def _per_clip(
    found: Recordings, texts: Sequence[Path]
) -> tuple[dict[str, dict[str, Path]], list[Path]]:
    """Pattern -> clip -> file, and the files that are none of a recording."""
    by_stem: dict[str, list[str]] = {}
    for clip_id in found.files:
        by_stem.setdefault(last_part(clip_id), []).append(clip_id)
    patterns: dict[str, dict[str, Path]] = {}
    rest = []
    for path in texts:
        below = path.relative_to(found.folder)
        stem = _longest_stem(below.name, by_stem)
        clip_id = None if stem is None else _nearest(below, by_stem[stem])
        if clip_id is None or stem is None:
            rest.append(path)
        else:
            pattern = _pattern(below, clip_id, below.name[len(stem) :])
            patterns.setdefault(pattern, {})[clip_id] = path
    # A single file that has the name of a recording by chance may as well be a table of all.
    for pattern in [one for one, files in patterns.items() if len(files) == 1 < len(found.files)]:
        path = next(iter(patterns[pattern].values()))
        if guess_layout(path, names_clip(_stems(found)), of_clip=False, longest_s=1.0) is not None:
            rest.append(path)
            del patterns[pattern]
    return patterns, rest


def _longest_stem(name: str, stems: Mapping[str, object]) -> str | None:
    """The recording whose name a file's name begins with, up to a character of no name."""
    for end in range(len(name), 0, -1):
        if name[:end] in stems and not name[end : end + 1].isalnum():
            return name[:end]
    return None


def _nearest(below: Path, clips: Sequence[str]) -> str | None:
    """Of recordings of the same name in several folders, the one with most parts in common."""
    if len(clips) == 1:
        return clips[0]
    parts = below.parent.parts

    def shared(clip_id: str) -> int:
        return sum(part in parts for part in Path(clip_id).parent.parts)

    best = max(map(shared, clips))
    nearest = [clip for clip in clips if shared(clip) == best]
    return nearest[0] if len(nearest) == 1 else None


def _pattern(below: Path, clip_id: str, ending: str) -> str:
    """The path of a label file with {clip}, or {folder} and {name}, in the place of the clip's."""
    folder = clip_id.rpartition("/")[0]
    place = below.parent.as_posix()
    place = "" if place == "." else place
    if place == folder:
        return f"{{clip}}{ending}"
    if folder and place.endswith(f"/{folder}"):
        return f"{place[: -len(folder)]}{{clip}}{ending}"
    if folder and place.startswith(f"{folder}/"):
        return f"{{folder}}{place[len(folder) :]}/{{name}}{ending}"
    stands_for = "{name}" if folder else "{clip}"
    return "/".join(filter(None, [place, f"{stands_for}{ending}"]))


def _read_files(
    found: Recordings, pattern: str, files: Mapping[str, Path], longest_s: float
) -> Labels | None:
    """The labels of one file per recording; None if the files are no labels."""
    is_clip = names_clip(_stems(found))
    events, faulty, layouts = [], [], {}
    for clip_id, path in files.items():
        layout = guess_layout(path, is_clip, of_clip=True, longest_s=longest_s)
        if layout is not None:
            layouts[clip_id] = layout
        elif path.stat().st_size and path.read_bytes().strip():
            faulty.append(os.fspath(path.relative_to(found.folder)))
    in_ms = 2 * sum(one.in_ms for one in layouts.values()) > len(layouts)
    layouts = {clip: replace(one, in_ms=in_ms) for clip, one in layouts.items()}
    for clip_id, layout in layouts.items():
        path = files[clip_id]
        for row, line in zip(layout.rows, layout.lines, strict=True):
            event = _event(layout, row, clip_id, clip_id)
            if event is None:
                faulty.append(f"{path.relative_to(found.folder)}, line {line}")
            else:
                events += event
    if not layouts or len(faulty) > len(events):
        return None
    forms = Counter(map(_form, layouts.values()))
    usual = forms.most_common(1)[0][0]
    layout = next(one for one in layouts.values() if _form(one) == usual)
    is_track = layout.separator == "tab" and not layout.header
    is_track = is_track and layout.columns == {"onset": 0, "offset": 1, "label": 2}
    clips = tuple(clip for clip in files if clip in found.infos)
    return Labels(
        pattern, layout, tuple(events), clips, (), tuple(faulty), is_track and not layout.in_ms
    )


def _form(layout: TableLayout) -> tuple[object, ...]:
    return layout.separator, layout.header, tuple(sorted(layout.columns.items()))


# ---- tables


def _read_table(found: Recordings, path: Path, layout: TableLayout) -> Labels | None:
    """The labels of a table; None if it names no recording that is there."""
    named: dict[str, str] = {}
    for row in layout.rows:
        name = layout.cell(row, "filename")
        try:
            named[name] = clip_id_of(name)
        except InputError:
            continue
    try:
        there = match_names(named.values(), found.files)
    except InputError:
        return None
    events, faulty = [], []
    for row, line in zip(layout.rows, layout.lines, strict=True):
        name = layout.cell(row, "filename")
        event = _event(layout, row, there.get(named.get(name, ""), ""), name)
        if event is None:
            faulty.append(f"{path.relative_to(found.folder)}, line {line}")
        else:
            events += event
    if not there:
        return None
    clips = tuple(clip for clip in dict.fromkeys(there.values()) if clip in found.infos)
    absent = tuple(name for name, clip in named.items() if clip not in there)
    below = path.relative_to(found.folder).as_posix()
    return Labels(below, layout, tuple(events), clips, absent, tuple(faulty))


def _event(
    layout: TableLayout, row: Sequence[str], clip_id: str, named: str
) -> list[LabelledEvent] | None:
    """The events of a row: none if it only names a recording; None if it cannot be read."""
    label, split = layout.cell(row, "label"), layout.cell(row, "split")
    annotator = layout.cell(row, "annotator")
    if not layout.is_strong:
        return [
            LabelledEvent(clip_id, named, None, None, one, 1.0, split, annotator)
            for one in _listed(label)
        ]
    times = [number(layout.cell(row, role)) for role in ("onset", "offset")]
    if not label and not any(layout.cell(row, role) for role in ("onset", "offset")):
        return []
    if times[0] is None or times[1] is None or times[1] < times[0] or times[0] < 0:
        return None
    confidence = number(layout.cell(row, "confidence")) if "confidence" in layout.columns else 1.0
    unit = 1000 if layout.in_ms else 1
    return [
        LabelledEvent(
            clip_id,
            named,
            times[0] / unit,
            times[1] / unit,
            label,
            1.0 if confidence is None else confidence,
            split,
            annotator,
        )
    ]


def _listed(label: str) -> Iterator[str]:
    """The labels of a cell with several."""
    separator = ";" if ";" in label else ","
    yield from (one.strip() for one in label.split(separator) if one.strip())
