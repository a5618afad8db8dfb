"""Which recordings are for training, validation and test, by folders or by a column of a table."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Final, Literal, NamedTuple

from desed_task.dataio.clip_names import last_part
from local.describe.label_files import Labels
from local.doctor.oddities.leaks import video_of

UseOfClips = Literal["train", "validation", "test"]
USES: Final[tuple[UseOfClips, ...]] = ("train", "validation", "test")
_WORDS: Final[Mapping[str, UseOfClips]] = {
    **dict.fromkeys(("train", "training", "trn", "development"), "train"),
    **dict.fromkeys(("validation", "validate", "valid", "val", "dev", "tuning"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation", "evaluate"), "test"),
}
# Names of recordings whose parts before the first of these are the same are of one recording.
_MARKS: Final = "-_"
# Recordings per unit from which on the units are told apart.
_LEAST_PER_UNIT: Final = 1.5


class UseOf(NamedTuple):
    """The recordings of one use.

    Attributes:
        use: what they are for; None if nothing says so.
        clips: the recordings.
        pattern: glob pattern that their paths fit; None for all.
        rows: column of the table -> values of their rows; empty for all.
    """

    use: UseOfClips | None
    clips: tuple[str, ...]
    pattern: str | None = None
    rows: Mapping[str, tuple[str, ...]] = {}


def uses_by_folder(clips: Sequence[str]) -> list[UseOf]:
    """The recordings by folders named train, val, test and the like; one entry if there are none.

    `dev` is for training if no other folder is, and for validation otherwise.
    """
    found: dict[tuple[str, UseOfClips], list[str]] = {}
    rest = []
    for clip in clips:
        parts = clip.split("/")[:-1]
        place = next((i for i, part in enumerate(parts) if _word(part) is not None), None)
        if place is None:
            rest.append(clip)
        else:
            word = _word(parts[place])
            assert word is not None
            found.setdefault(("/".join(parts[: place + 1]), word), []).append(clip)
    if len({use for _, use in found}) < 2 and not any(use == "test" for _, use in found):
        return [UseOf(None, tuple(clips))]
    trains = any(use == "train" for _, use in found) or bool(rest)
    groups = [
        UseOf(
            "train" if not trains and _is_dev(folder) else use,
            tuple(members),
            f"{glob.escape(folder)}/**",
        )
        for (folder, use), members in found.items()
    ]
    if rest:
        groups.append(UseOf("train", tuple(rest), None))
    return sorted(groups, key=lambda one: USES.index(one.use or "train"))


def uses_by_column(labels: Labels) -> list[UseOf] | None:
    """The recordings of each split, by a table's column `split` (train, val, test and the like).

    None if the table has no such column, or the column has other values.
    """
    if "split" not in labels.layout.columns or not labels.layout.header:
        return None
    column = labels.layout.header[labels.layout.columns["split"]]
    values: dict[str, dict[str, None]] = {}
    for event in labels.events:
        if event.clip_id:
            values.setdefault(event.split, {})[event.clip_id] = None
    if len(values) < 2 or any(_word(value) is None for value in values):
        return None
    groups = []
    for use in USES:
        chosen = tuple(value for value in values if _word(value) == use)
        clips = tuple(dict.fromkeys(clip for value in chosen for clip in values[value]))
        if chosen:
            groups.append(UseOf(use, clips, None, {column: chosen}))
    return groups


def uses_by_table(labels: Sequence[Labels], clips: Sequence[str]) -> list[UseOf] | None:
    """The recordings by tables named train.csv, test.csv and the like.

    None unless every table is named so, for two uses or more.

    Args:
        labels: of the folder.
        clips: its recordings; those of no table are for training.
    """
    words = [None if one.per_clip else _word(PurePath(one.path).stem) for one in labels]
    if None in words or len({*words}) < 2:
        return None
    trains = "train" in words
    found: dict[UseOfClips, dict[str, None]] = {}
    for one, word in zip(labels, words, strict=True):
        assert word is not None
        use = "train" if not trains and _is_dev(PurePath(one.path).stem) else word
        found.setdefault(use, {}).update(dict.fromkeys(one.clips))
    named = {clip for members in found.values() for clip in members}
    if rest := [clip for clip in clips if clip not in named]:
        found.setdefault("train", {}).update(dict.fromkeys(rest))
    return [UseOf(use, tuple(found[use])) for use in USES if use in found]


def recordings_of_clips(clips: Iterable[str]) -> str | None:
    """Regular expression of the recording that clips were cut from, by their names.

    None if nothing in the names says that several clips are of one recording.
    """
    names = [last_part(clip) for clip in clips]
    if not names:
        return None
    videos = [video_of(name) for name in names]
    if all(videos):
        return r"Y?([\w-]{11})_[\d.]+(?:_[\d.]+)?$" if len({*videos}) < len(names) else None
    for mark in _MARKS:
        units = [name.partition(mark)[0] for name in names if mark in name]
        is_cut = all(name.partition(mark)[2][:1].isdigit() for name in names if mark in name)
        is_named = len(units) == len(names) and is_cut and len({*units}) > 2
        if is_named and len(names) >= _LEAST_PER_UNIT * len({*units}):
            return rf"([^/{mark}]+){mark}[^/]*$"
    return None


def _word(part: str) -> UseOfClips | None:
    """The use that a folder's name or a cell says, also as `audio_train` or `Birds.dev`."""
    text = part.casefold()
    for mark in ".- ":
        text = text.replace(mark, "_")
    words = [_WORDS[one] for one in text.split("_") if one in _WORDS]
    return words[0] if len({*words}) == 1 else None


def _is_dev(folder: str) -> bool:
    text = folder.rpartition("/")[2].casefold()
    return "dev" in text
