"""Prepare the corpora of a task: resample their originals, write durations, name what is absent.

Nothing is downloaded: a corpus's licence line says where it comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from desed_task.audio.formats import AUDIO_SUFFIXES
from desed_task.audio.resampling import Bits
from desed_task.errors import InputError, count_of
from desed_task.file_names import looked_up_from
from local.config import RecipeConfig
from local.prep.durations import complete_durations
from local.prep.prepare import PreparationResult
from local.prep.resample import PreparationStep, resample_step
from local.task.corpus import Corpus


def prepare_task(
    config: RecipeConfig,
    *,
    bits: Bits | None = None,
    jobs: int | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> PreparationResult:
    """Prepare the corpora that a configuration's task uses.

    Args:
        config: its task names the folders.
        bits: sample format of the files, see `desed_task.audio.resampling.resample_folder`.
        jobs: files at a time; None for one per processor.
        progress: whether to show bars.
        overwrite: whether to replace audio that this program did not write.

    Raises:
        InputError: nothing of any corpus is on disk.
    """
    corpora = config.detection_task.used
    steps: list[PreparationStep] = []
    done: set[tuple[str, str]] = set()
    for corpus in corpora:
        if corpus.originals is None or not Path(corpus.originals).is_dir():
            continue
        source, target = Path(corpus.originals), Path(corpus.folder)
        # Corpora that divide one folder by lists or by columns have it prepared once.
        if (corpus.originals, corpus.folder) not in done:
            done.add((corpus.originals, corpus.folder))
            steps.append(
                resample_step(
                    corpus.title,
                    source,
                    target,
                    sample_rate=config.data.fs,
                    bits=bits,
                    jobs=jobs,
                    progress=progress,
                    overwrite=overwrite,
                    suffixes=AUDIO_SUFFIXES,
                )
            )
        steps += _durations(corpus, source, jobs, progress)
    absent = {corpus: [*_absent(corpus)] for corpus in corpora}
    if not steps and all(not Path(corpus.folder).exists() and absent[corpus] for corpus in corpora):
        raise InputError(_nothing(config.detection_task.name, corpora))
    rows = [(corpus.title, path) for corpus, paths in absent.items() for path in paths]
    return PreparationResult(
        tuple(steps),
        tuple(dict.fromkeys(rows)),
        "Put it there",
        tuple(_sources(corpus for corpus in corpora if absent[corpus])),
    )


def _durations(
    corpus: Corpus, source: Path, jobs: int | None, progress: bool
) -> Iterator[PreparationStep]:
    """Write the durations of the originals: those of resampled files are rounded to samples."""
    if corpus.durations is None or corpus.cut_from_recordings:
        return  # Recordings that clips were cut from are not among the originals.
    table = Path(corpus.durations)
    before = table.is_file()
    try:
        found = complete_durations(source, table, jobs=jobs, progress=progress)
    except InputError:
        return  # The same folder failed where it was resampled.
    notes = (
        (f"{table}: added {count_of(found.added, 'clip')} that it lacked",) if found.added else ()
    )
    yield PreparationStep(
        f"{corpus.title}: durations", int(not before), int(before), found.failed, notes
    )


def _absent(corpus: Corpus) -> Iterator[str]:
    """Paths of what a corpus needs and does not have."""
    originals = corpus.originals or corpus.folder
    if not Path(originals).exists() and not Path(corpus.folder).exists():
        yield originals
    tables = [None if corpus.table is None else corpus.table.path, corpus.clips, corpus.durations]
    tables.append(corpus.label_rules.names)
    yield from (path for path in tables if path is not None and not _is_there(path))


def _is_there(path: str) -> bool:
    """Whether a table exists or, of one table per clip, the folder that all are below."""
    parts = Path(path).parts
    fixed = next((number for number, part in enumerate(parts) if "{" in part), len(parts))
    return Path(*parts[:fixed]).exists()


def _sources(corpora: Iterator[Corpus]) -> Iterator[str]:
    licences: dict[str, list[str]] = {}
    for corpus in corpora:
        if corpus.licence:
            licences.setdefault(corpus.licence, []).append(corpus.title)
    yield from (f"{', '.join(titles)}: {licence}" for licence, titles in licences.items())


def _nothing(task: str, corpora: Sequence[Corpus]) -> str:
    """The message where no corpus has anything on disk."""
    first = corpora[0].originals or corpora[0].folder
    lines = [f"{corpus.title}: {corpus.originals or corpus.folder}" for corpus in corpora]
    lines += _sources(iter(corpora))
    listed = "".join(f"\n  - {line}" for line in lines)
    return (
        f"task {task}: nothing of its corpora is on disk{looked_up_from(first)}; put them there, "
        f"or set task.root to the folder that has them:{listed}"
    )
