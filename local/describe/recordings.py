"""The recordings of a folder, and what their headers say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from desed_task.audio.files import AudioInfo, probe
from desed_task.audio.listing import HIDDEN, OTHER_ENDING, Listing, list_audio
from desed_task.errors import InputError, agree, count_of
from desed_task.file_names import escape_name, is_plain, looked_up_from
from desed_task.parallel import thread_map

_N_EXAMPLES = 3
_N_THREADS = 8
# A bar is shown from this many files on.
_MANY = 500


@dataclass(frozen=True)
class Recordings:
    """The recordings below a folder.

    Attributes:
        folder: the folder.
        files: clip id (path below the folder without ending) -> file.
        infos: clip id -> header, of those that can be read.
        unreadable: clip id -> why it cannot be read.
        other_files: files that are not audio by their ending, hidden ones aside.
        odd: one line each on what was left out.
    """

    folder: Path
    files: Mapping[str, Path]
    infos: Mapping[str, AudioInfo]
    unreadable: Mapping[str, str]
    other_files: tuple[Path, ...]
    odd: tuple[str, ...]

    @property
    def durations_s(self) -> dict[str, float]:
        """Clip id -> seconds, of recordings that can be read."""
        return {clip: info.duration_s for clip, info in self.infos.items()}

    def is_prepared(self, sample_rate: int) -> bool:
        """Whether all are WAV files at a rate, so that nothing is resampled."""
        endings = {path.suffix.lower() for path in self.files.values()}
        rates = {info.sample_rate for info in self.infos.values()}
        return endings == {".wav"} and rates == {sample_rate}

    def oddities(self, sample_rate: int) -> list[str]:
        """One line each on unreadable files and unusual rates.

        Args:
            sample_rate: that the task takes.
        """
        lines = list(self.odd)
        if self.unreadable:
            reasons = [f"{escape_name(clip)}: {why}" for clip, why in self.unreadable.items()]
            lines.append(
                f"{count_of(len(self.unreadable), 'recording')} cannot be read "
                f"({some(reasons)}); training refuses those with labels"
            )
        rates = Counter(info.sample_rate for info in self.infos.values())
        if len(rates) > 1:
            counts = ", ".join(f"{n} at {rate} Hz" for rate, n in rates.most_common())
            lines.append(f"sample rates differ: {counts}; all are resampled")
        if low := [clip for clip, one in self.infos.items() if one.sample_rate < sample_rate]:
            lines.append(
                f"{count_of(len(low), 'recording')} {agree(len(low), 'is', 'are')} below "
                f"{sample_rate} Hz ({some(low)}): nothing is in the upper bands"
            )
        return lines


def look_for_recordings(folder: Path) -> Recordings:
    """List the recordings below a folder and read their headers.

    Raises:
        InputError: there is no such folder, it contains no readable recording, or two files are one
            clip.
    """
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else "no such folder"
        raise InputError(
            f"{folder}: {what}{looked_up_from(folder)}; give the folder of your recordings"
        )
    listing = list_audio(folder, follow_links=False)
    plain = [path for path in listing.files if is_plain(str(path.relative_to(folder)))]
    files = _by_clip(folder, plain)
    odd = _left_out(listing, len(listing.files) - len(plain))
    if not files:
        raise InputError(_nothing(folder, listing, odd))
    paths = list(files.values())
    bar = {"desc": "reading audio headers", "progress": len(paths) > _MANY}
    looked = list(thread_map(_probe, paths, jobs=_N_THREADS, **bar))
    infos = {c: one for c, one in zip(files, looked, strict=True) if isinstance(one, AudioInfo)}
    faults = {c: one for c, one in zip(files, looked, strict=True) if isinstance(one, str)}
    if not infos:
        first = next(iter(faults.values()))
        raise InputError(f"{folder}: none of its {count_of(len(files), 'file')} is audio: {first}")
    others = tuple(path for path, reason in listing.left_out if reason == OTHER_ENDING)
    return Recordings(folder, files, infos, faults, others, tuple(odd))


def some(names: object, n_shown: int = _N_EXAMPLES) -> str:
    """Some of many names, for messages."""
    listed = [str(name) for name in names]  # type: ignore[attr-defined]
    more = ", ..." if len(listed) > n_shown else ""
    return ", ".join(map(escape_name, listed[:n_shown])) + more


def _by_clip(folder: Path, paths: list[Path]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    twice: list[str] = []
    for path in paths:
        clip_id = path.relative_to(folder).with_suffix("").as_posix()
        if clip_id in files:
            twice.append(f"{files[clip_id].name} and {path.name}")
        files[clip_id] = path
    if twice:
        raise InputError(
            f"{folder}: recordings that differ only in their endings ({some(twice)}); remove one "
            "of each, or move it to a folder of its own"
        )
    return files


def _probe(path: Path) -> AudioInfo | str:
    try:
        return probe(path)
    except InputError as error:
        return str(error)


def _left_out(listing: Listing, n_odd: int) -> list[str]:
    reasons = [one for one in listing.left_out if one.reason not in (OTHER_ENDING, HIDDEN)]
    lines = [f"left out: {escape_name(path)}: {reason}" for path, reason in reasons[:_N_EXAMPLES]]
    if len(reasons) > _N_EXAMPLES:
        more = count_of(len(reasons) - _N_EXAMPLES, "further file or folder", "further ones")
        lines.append(f"left out: {more}")
    if n_odd:
        lines.append(
            f"left out: {count_of(n_odd, 'recording')} by name: not UTF-8, or with control "
            f"characters; rename {agree(n_odd, 'it', 'them')}"
        )
    return lines


def _nothing(folder: Path, listing: Listing, odd: list[str]) -> str:
    there = listing.left_out_text()
    but = f" (there: {there})" if there else " (it is empty)"
    return "\n".join([f"{folder}: contains no recording{but}", *odd])
