"""Write durations tables: filename and duration in seconds of each audio file of a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from desed_task.atomic_files import write_text_atomic
from desed_task.audio.clip_files import find_clips
from desed_task.audio.files import probe
from desed_task.dataio.clip_names import clip_id_of, match_names
from desed_task.dataio.tables import read_text
from desed_task.errors import InputError
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
    return _write(named, [], out_tsv, jobs, progress)


def complete_durations(
    audio: Path | Sequence[Path],
    out_tsv: Path,
    *,
    jobs: int | None = None,
    progress: bool = True,
) -> FileFailures:
    """Append missing files to a table; existing rows and complete tables are not changed.

    Args:
        audio: as in `write_durations`: the files that the table must list.
        out_tsv: the table; created if missing.
        jobs: as in `write_durations`.
        progress: as in `write_durations`.

    Returns:
        As in `write_durations`; and (file, reason) of files that share a name, or of the table if a
        name in it could be that of several files.

    Raises:
        InputError: as in `write_durations`.
    """
    named = _named_below(audio) if isinstance(audio, Path) else {wav: wav.name for wav in audio}
    count = Counter(named.values())
    twice = tuple(
        (wav, f"{wav}: {name} is found {count[name]} times; keep one")
        for wav, name in named.items()
        if count[name] > 1
    )
    try:
        rows = read_text(out_tsv).splitlines()[1:] if out_tsv.is_file() else []
        known = {clip_id_of(row.split("\t")[0]) for row in rows if row.strip()}
        found = match_names(map(clip_id_of, named.values()), known)
    except InputError as error:
        return (*twice, (out_tsv, f"{out_tsv}: {error}"))
    absent = {
        wav: name
        for wav, name in named.items()
        if count[name] == 1 and clip_id_of(name) not in found
    }
    return twice + (_write(absent, rows, out_tsv, jobs, progress) if absent else ())


def _named_below(folder: Path) -> dict[Path, str]:
    """File -> its path below the folder, as in a table."""
    wavs = find_clips(folder).files.values()
    return {wav: wav.relative_to(folder).as_posix() for wav in wavs}


def _write(
    named: Mapping[Path, str], rows: list[str], out_tsv: Path, jobs: int | None, progress: bool
) -> FileFailures:
    work = list(named.items())
    results = list(thread_map(_row, work, jobs=jobs, desc=out_tsv.name, progress=progress))
    failed = tuple(
        (wav, str(result))
        for wav, result in zip(named, results, strict=True)
        if isinstance(result, InputError)
    )
    rows = rows + [result for result in results if isinstance(result, str)]
    write_text_atomic(out_tsv, "\n".join(["\t".join(DURATION_COLUMNS), *rows]) + "\n")
    return failed


def _row(named: tuple[Path, str]) -> str | InputError:
    wav, name = named
    try:
        return f"{name}\t{round(probe(wav).duration_s, 6)}"
    except InputError as error:
        return error
