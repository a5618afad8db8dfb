"""Write durations tables: filename and duration in seconds of each audio file of a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from desed_task.atomic_files import atomic_path, encoding_of, read_text, write_text_atomic
from desed_task.audio.clip_files import find_clips
from desed_task.audio.files import probe
from desed_task.dataio.clip_names import clip_id_of, match_names
from desed_task.errors import InputError, count_of
from desed_task.file_names import STREAM_ERRORS
from desed_task.parallel import thread_map
from local.prep.resample import FileFailures

DURATION_COLUMNS = ("filename", "duration")


def write_durations(
    audio: Path | Sequence[Path], out_tsv: Path, *, jobs: int | None = None, progress: bool = True
) -> FileFailures:
    """Write the durations of the WAV files below a folder, sorted by path, or of given files.

    A file whose header cannot be read has no row and is reported. Files of a folder are named by
    their paths below it, given files, in their order, without folders.

    Args:
        audio: a folder, or files.
        out_tsv: the table; an existing one is replaced.
        jobs: files at a time; None for one per processor.
        progress: whether to show a bar.

    Returns:
        (file, reason) of each unreadable file.

    Raises:
        InputError: the folder is missing or empty.
    """
    named = _named_below(audio) if isinstance(audio, Path) else {wav: wav.name for wav in audio}
    rows, failed = _rows(named, out_tsv.name, jobs, progress)
    write_text_atomic(out_tsv, "\n".join(["\t".join(DURATION_COLUMNS), *rows]) + "\n")
    return failed


class CompletedDurations(NamedTuple):
    """The result of `complete_durations`.

    Attributes:
        failed: (file, reason) of each unreadable file, of files that share a name, or of the table.
        added: rows appended to a table that was there.
    """

    failed: FileFailures
    added: int = 0


def complete_durations(
    audio: Path | Sequence[Path],
    out_tsv: Path,
    *,
    jobs: int | None = None,
    progress: bool = True,
) -> CompletedDurations:
    """Append missing files to a table; what it holds stays to the byte, as it may be the user's.

    Args:
        audio: as in `write_durations`: the files that the table must list.
        out_tsv: the table; created if missing.
        jobs: as in `write_durations`.
        progress: as in `write_durations`.

    Returns:
        What failed, also if a name in the table could be that of several files, or its columns are
        others; and how many rows were added.

    Raises:
        InputError: as in `write_durations`.
    """
    named = _named_below(audio) if isinstance(audio, Path) else {wav: wav.name for wav in audio}
    count = Counter(named.values())
    twice = tuple(
        (wav, f"{wav}: {name} is found {count_of(count[name], 'time')}; keep one")
        for wav, name in named.items()
        if count[name] > 1
    )
    try:
        lines = read_text(out_tsv).splitlines() if out_tsv.is_file() else []
        known = {clip_id_of(row.split("\t")[0]) for row in lines[1:] if row.strip()}
        found = match_names(map(clip_id_of, named.values()), known)
    except InputError as error:
        return CompletedDurations((*twice, (out_tsv, f"{out_tsv}: {error}")))
    absent = {
        wav: name
        for wav, name in named.items()
        if count[name] == 1 and clip_id_of(name) not in found
    }
    if not absent:
        return CompletedDurations(twice)
    if lines and tuple(lines[0].split("\t")) != DURATION_COLUMNS:
        reason = (
            f"{out_tsv}: lacks {count_of(len(absent), 'clip, which is', 'clips, which are')} not "
            "added, as its columns are not "
            f"{' and '.join(DURATION_COLUMNS)}; add them, or move the table away"
        )
        return CompletedDurations((*twice, (out_tsv, reason)))
    rows, failed = _rows(absent, out_tsv.name, jobs, progress)
    try:
        _append(out_tsv, rows if lines else ["\t".join(DURATION_COLUMNS), *rows])
    except UnicodeEncodeError as error:
        letter = error.object[error.start]
        reason = f"{out_tsv}: its encoding lacks {letter!r}, so no clip is added; save it as UTF-8"
        return CompletedDurations((*twice, *failed, (out_tsv, reason)))
    return CompletedDurations((*twice, *failed), len(rows) if lines else 0)


def _named_below(folder: Path) -> dict[Path, str]:
    """File -> its path below the folder, as in a table."""
    wavs = find_clips(folder).files.values()
    return {wav: wav.relative_to(folder).as_posix() for wav in wavs}


def _rows(
    named: Mapping[Path, str], title: str, jobs: int | None, progress: bool
) -> tuple[list[str], FileFailures]:
    """Rows of the files that can be read, and those that cannot."""
    work = list(named.items())
    results = list(thread_map(_row, work, jobs=jobs, desc=title, progress=progress))
    failed = tuple(
        (wav, str(result))
        for wav, result in zip(named, results, strict=True)
        if isinstance(result, InputError)
    )
    return [result for result in results if isinstance(result, str)], failed


def _append(table: Path, rows: Sequence[str]) -> None:
    """Append rows in the table's encoding and with its ends of lines."""
    before = table.read_bytes() if table.is_file() else b""
    text = read_text(table) if before else ""
    end = "\r\n" if "\r\n" in text else "\n"
    added = (end if text and not text.endswith("\n") else "") + "".join(row + end for row in rows)
    codec = encoding_of(before).codec
    # Names are escaped in Unicode only: elsewhere, an escape would be another name.
    errors = STREAM_ERRORS if codec.startswith("utf") else "strict"
    with atomic_path(table) as temporary:
        temporary.write_bytes(before + added.encode(codec, errors))


def _row(named: tuple[Path, str]) -> str | InputError:
    wav, name = named
    try:
        return f"{name}\t{round(probe(wav).duration_s, 6)}"
    except InputError as error:
        return error
