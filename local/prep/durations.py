"""Write durations tables: filename and duration in seconds of each audio file of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from desed_task.atomic_files import write_text_atomic
from desed_task.audio.files import list_wavs, probe
from desed_task.errors import InputError
from desed_task.parallel import thread_map
from local.prep.resample import FileFailures

DURATION_COLUMNS = ("filename", "duration")


def write_durations(
    audio: Path | Sequence[Path], out_tsv: Path, *, jobs: int | None = None, progress: bool = True
) -> FileFailures:
    """Write the durations of a folder's WAV files, sorted by name, or of given files, in order.

    A file whose header cannot be read has no row and is reported.

    Args:
        audio: a folder (without its subfolders), or files.
        out_tsv: the table; an existing one is replaced.
        jobs: files at a time; None for one per processor.
        progress: whether to show a bar.

    Returns:
        (file, reason) of each unreadable file.

    Raises:
        InputError: the folder is missing or empty.
    """
    wavs = list_wavs(audio) if isinstance(audio, Path) else list(audio)
    return _write(wavs, [], out_tsv, jobs, progress)


def complete_durations(
    wavs: Sequence[Path], out_tsv: Path, *, jobs: int | None = None, progress: bool = True
) -> FileFailures:
    """Append missing files to a table; existing rows and complete tables are not changed.

    Args:
        wavs: files that the table must list.
        out_tsv: the table; created if missing.
        jobs: as in `write_durations`.
        progress: as in `write_durations`.

    Returns:
        As in `write_durations`.
    """
    rows = out_tsv.read_text(encoding="utf-8").splitlines()[1:] if out_tsv.is_file() else []
    known = {row.split("\t")[0] for row in rows}
    absent = [wav for wav in wavs if wav.name not in known]
    return _write(absent, rows, out_tsv, jobs, progress) if absent else ()


def _write(
    wavs: Sequence[Path], rows: list[str], out_tsv: Path, jobs: int | None, progress: bool
) -> FileFailures:
    results = list(thread_map(_row, wavs, jobs=jobs, desc=out_tsv.name, progress=progress))
    failed = tuple(
        (wav, str(result))
        for wav, result in zip(wavs, results, strict=True)
        if isinstance(result, InputError)
    )
    rows = rows + [result for result in results if isinstance(result, str)]
    write_text_atomic(out_tsv, "\n".join(["\t".join(DURATION_COLUMNS), *rows]) + "\n")
    return failed


def _row(wav: Path) -> str | InputError:
    try:
        return f"{wav.name}\t{round(probe(wav).duration_s, 6)}"
    except InputError as error:
        return error
