"""Names of clips: from the cells of a table to clip ids, and from one list of ids to another.

A clip id is the path of a clip's file below its corpus folder, with `/` and without the ending of
an audio file: `x/1.wav` is `x/1`. In a folder without subfolders it is the file's stem, as in
published tables and embedding files.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from desed_task.audio.formats import AUDIO_SUFFIXES
from desed_task.errors import InputError, agree, count_of

_DRIVE = re.compile(r"[A-Za-z]:/")
_EXAMPLES = 3


def clip_id_of(name: str) -> str:
    """The clip id of a file name in a table.

    Backslashes are separators; a leading `./` and the ending of an audio file, in any case, are
    dropped; other dots stay, so `1.5_a` is itself.

    Raises:
        InputError: no file name, an absolute path or one that leads out of the folder.
    """
    text = name.strip().replace("\\", "/")
    if text.startswith("/") or _DRIVE.match(text):
        raise InputError(
            f"{name!r} is an absolute path; name files by their path below the corpus folder"
        )
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InputError(
            f"{name!r} leads out of the corpus folder; name files by their path below it"
        )
    path = "/".join(parts)
    ending = audio_ending(path)
    stem = path[: len(path) - len(ending)]
    if not stem or stem.endswith("/"):
        raise InputError(f"{name!r} is not a file name; correct the row")
    return stem


def audio_ending(name: str) -> str:
    """The ending of an audio file as it is written, e.g. ".WAV"; "" if there is none."""
    found = "." + name.rpartition(".")[2] if "." in name else ""
    return found if found.lower() in AUDIO_SUFFIXES else ""


def match_names(wanted: Iterable[str], there: Iterable[str]) -> dict[str, str]:
    """Find clips under the names of another list, e.g. those of a table among those on disk.

    The same id comes first. Ids that are left on both sides are the same clip if they differ in
    Unicode form or separators only, or in case, or else if one is the end of the other's path: `1`
    and `x/1`, but not `x/1` and `y/1`. If a clip of that stem is found by its path, `1` is another.

    Args:
        wanted: clip ids.
        there: clip ids of the other list.

    Returns:
        wanted -> there, without those that are not found.

    Raises:
        InputError: names that could be several clips, one line each.
    """
    wanted, there = list(dict.fromkeys(wanted)), dict.fromkeys(there)
    found = {name: name for name in wanted if name in there}
    if len(found) == len(wanted):
        return found
    for by_path in (True, False):
        by_own_path = {_loose(last_part(name)) for name in found}
        for form in (_same_form, _loose):
            left = [name for name in wanted if name not in found]
            if not by_path:
                left = [name for name in left if _loose(last_part(name)) not in by_own_path]
            taken = set(found.values())
            others = [name for name in there if name not in taken]
            found |= _match_by(form, left, others, by_path=by_path)
    return found


def found_elsewhere(found: Mapping[str, str]) -> str | None:
    """How many names of `match_names` are spelt in another way, with examples; None if none is."""
    others = [f"{name} is {clip}" for name, clip in found.items() if name != clip]
    if not others:
        return None
    more = ", ..." if len(others) > _EXAMPLES else ""
    return (
        f"{len(others)} of {count_of(len(found), 'clip')} {agree(len(others), 'is', 'are')} "
        f"found under another spelling or folder ({', '.join(others[:_EXAMPLES])}{more})"
    )


def flat_names(clip_ids: Iterable[str]) -> dict[str, str]:
    """Clip id -> a name without folders, unique even where case does not count.

    Ids without folders stay as they are; `x/1` becomes `x_1`, or `x_1-2` if that is taken.
    """
    clip_ids = list(dict.fromkeys(clip_ids))
    names = {clip_id: clip_id for clip_id in clip_ids if "/" not in clip_id}
    taken = {name.casefold() for name in names}
    for clip_id in clip_ids:
        if clip_id in names:
            continue
        plain = name = clip_id.replace("/", "_")
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain}-{number}"
        names[clip_id] = name
        taken.add(name.casefold())
    return names


def last_part(clip_id: str) -> str:
    """The file's stem: a clip id without folders."""
    return clip_id.rpartition("/")[2]


def _same_form(clip_id: str) -> str:
    """A clip id as it is, whatever wrote it."""
    return unicodedata.normalize("NFC", clip_id.replace("\\", "/"))


def _loose(clip_id: str) -> str:
    """What two spellings of one path have in common."""
    return _same_form(clip_id).casefold()


def _match_by(
    form: Callable[[str], str], wanted: Iterable[str], there: Iterable[str], *, by_path: bool
) -> dict[str, str]:
    """Match names of one form, by their whole paths or by ends of them."""

    def key(name: str) -> str:
        return form(name if by_path else last_part(name.replace("\\", "/")))

    by_key: dict[str, list[str]] = {}
    for clip in there:
        by_key.setdefault(key(clip), []).append(clip)
    candidates = {
        name: [c for c in by_key.get(key(name), ()) if _one_ends_the_other(form(name), form(c))]
        for name in wanted
    }
    claims = Counter(clip for clips in candidates.values() for clip in clips)
    faults = [
        f"{name} may be {' or '.join(clips)}"
        for name, clips in candidates.items()
        if len(clips) > 1
    ]
    for clip in (clip for clip, n in claims.items() if n > 1):
        names = [name for name, clips in candidates.items() if clips == [clip]]
        if len(names) > 1:
            faults.append(f"{' and '.join(names)} may all be {clip}")
    if faults:
        raise InputError.collect(faults)
    return {name: clips[0] for name, clips in candidates.items() if clips}


def _one_ends_the_other(name: str, clip: str) -> bool:
    short, long = sorted((one.split("/")[::-1] for one in (name, clip)), key=len)
    return long[: len(short)] == short
