"""Check the tables, audio and embeddings of a corpus; each fault becomes a message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from desed_task.audio.files import AudioInfo, count_formats, probe
from desed_task.audio.windows import WindowKey
from desed_task.dataio.annotations import EventTable, WeakTable
from desed_task.dataio.clip_names import found_elsewhere
from desed_task.dataio.embeddings import EmbeddingReader
from desed_task.errors import InputError, agree, command_name, count_of
from desed_task.file_names import escape_name
from desed_task.parallel import thread_map
from local.classes_dict import DESED_CLASSES, MAESTRO_SCORED_CLASSES, VOCABULARY
from local.config import RecipeConfig
from local.corpora import EVALUATION, Corpus
from local.data.truth import MAESTRO_REMEDIES, TRUE_CONFIDENCE, Stage, scored_classes

PREPARE_REMEDY = f"prepare the data with {command_name('generate_dcase_task4_2024.py')}"
EXTRACT_HINT = f"run {command_name('extract_embeddings.py')}"
N_EXAMPLES = 3
# Threads that read headers, mostly waiting for the disk; a bar is shown from this many files on.
N_PROBES = 8
MIN_FILES_FOR_BAR = 2000


def label_problems(corpus: Corpus, table: EventTable | WeakTable) -> list[str]:
    """A message if a table has no events, or labels that the corpus is not annotated with."""
    if isinstance(table, WeakTable):
        used = table.target.any(axis=0)
    else:
        used = np.bincount(table.label_index, minlength=len(VOCABULARY)) > 0
    if not used.any():
        return [f"{table.path}: lists clips but no event; get or prepare the data again"]
    foreign = np.flatnonzero(used & ~VOCABULARY.mask(corpus.known))
    if not len(foreign):
        return []
    names = ", ".join(repr(VOCABULARY[int(index)]) for index in foreign)
    return [
        f"{table.path}: labels that this corpus ({corpus.title}) does not have: {names}; "
        f"known: {', '.join(corpus.known)}"
    ]


class Headers(NamedTuple):
    """Durations and sample formats of a corpus's files, from their headers.

    Attributes:
        durations_s: clip -> seconds; 0 for a file that cannot be read.
        formats: sample format (see `AudioInfo.sample_format`) -> files.
    """

    durations_s: dict[str, float]
    formats: dict[str, int]


def read_headers(
    corpus: Corpus, wavs: Mapping[str, Path], sample_rate: int, problems: list[str]
) -> Headers:
    """Read the header of every clip's file; unusable files are reported in `problems`."""
    headers = list(
        thread_map(
            _header,
            list(wavs.values()),
            jobs=N_PROBES,
            desc=f"checking {corpus.title}",
            progress=len(wavs) >= MIN_FILES_FOR_BAR,
        )
    )
    unreadable = [found for found in headers if isinstance(found, str)]
    problems += unreadable[:N_EXAMPLES]
    if len(unreadable) > N_EXAMPLES:
        problems.append(
            f"... and {len(unreadable) - N_EXAMPLES} more "
            f"{agree(len(unreadable) - N_EXAMPLES, 'file', 'files')} in {_folder(wavs)}"
        )
    infos = {c: i for c, i in zip(wavs, headers, strict=True) if isinstance(i, AudioInfo)}
    other = {clip_id: info for clip_id, info in infos.items() if info.sample_rate != sample_rate}
    if other:
        rates = ", ".join(str(rate) for rate in sorted({i.sample_rate for i in other.values()}))
        problems.append(
            f"{_folder(wavs)}: {len(other)} of {count_of(len(wavs), 'file')} "
            f"{agree(len(other), 'is', 'are')} at {rates} Hz, {sample_rate} Hz are needed "
            f"({examples(list(other))}); {PREPARE_REMEDY}"
        )
    durations_s = {c: infos[c].duration_s if c in infos else 0.0 for c in wavs}
    return Headers(durations_s, count_formats(infos.values()))


def _folder(wavs: Mapping[str, Path]) -> Path:
    """The folder that clip ids are paths below."""
    clip_id, path = next(iter(wavs.items()))
    return path.parents[clip_id.count("/")]


def _header(path: Path) -> AudioInfo | str:
    try:
        return probe(path)
    except InputError as error:
        return str(error)


def embeddings_path(corpus: Corpus, config: RecipeConfig) -> Path:
    """The embeddings file of a corpus."""
    return Path(config.pretrained.extracted_embeddings_dir) / "beats" / f"{corpus.name}.hdf5"


def open_embeddings(
    corpus: Corpus,
    clip_ids: Sequence[str],
    present: Iterable[str],
    config: RecipeConfig,
    problems: list[str],
    windows: Sequence[WindowKey] = (),
) -> tuple[EmbeddingReader | None, tuple[str, ...]]:
    """Open a corpus's embeddings; faults are reported in `problems`.

    Args:
        corpus: the corpus.
        clip_ids: clips that must have embeddings.
        present: all clips on disk, by which names in the file are told apart.
        config: folder of the embeddings and size that the network takes.
        problems: messages are appended to it.
        windows: windows of longer clips that must have embeddings, too.

    Returns:
        The reader, None if the network uses no embeddings or the file cannot be read; and a line
        about clips that the file names in another way, if there are any.
    """
    if not config.net.use_embeddings:
        return None, ()
    path = embeddings_path(corpus, config)
    if not _any_embeddings(path.parent):
        return None, ()  # `no_embeddings` says it once.
    # The evaluation set is extracted only with this flag.
    flag = " with --eval_set" if corpus == EVALUATION else ""
    try:
        reader = EmbeddingReader(path)
        note = found_elsewhere(reader.match(present))
    except InputError as error:
        # Names that could be several clips follow, one a line.
        head, *names = str(error).splitlines()
        head = f"{head[:-1]}{flag}:" if names else head + flag
        problems.append("\n".join([head, *names]))
        return None, ()
    if reader.size != config.net.embedding_size:
        problems.append(
            f"{path}: embeddings have {count_of(reader.size, 'feature')}, the network takes "
            f"net.embedding_size {config.net.embedding_size}; set it to {reader.size} or extract "
            "embeddings with the BEATs model that the network was trained with"
        )
    missing = reader.missing(clip_ids)
    if missing:
        problems.append(
            f"{path}: lacks the embeddings of {len(missing)} of "
            f"{count_of(len(clip_ids), 'clip')} ({examples(missing)}); {EXTRACT_HINT}{flag}"
        )
    lacking = reader.missing(windows)
    if lacking:
        clips = list(dict.fromkeys(window.clip_id for window in lacking))
        problems.append(
            f"{path}: lacks {count_of(len(lacking), 'window')} of {count_of(len(clips), 'clip')} "
            f"longer than {config.data.audio_max_len:g} s ({examples(clips)}), which are scored "
            f"in windows {config.predict.hop_s:g} s apart; {EXTRACT_HINT}{flag}"
        )
    return reader, () if note is None else (f"{path}: {note}",)


def no_embeddings(config: RecipeConfig, needed: Sequence[Corpus]) -> list[str]:
    """One message if no set has embeddings, though the network takes them."""
    folder = embeddings_path(needed[0], config).parent
    if not config.net.use_embeddings or _any_embeddings(folder):
        return []
    flag = " with --eval_set" if EVALUATION in needed else ""
    return [f"{folder}: contains no embeddings of any set; {EXTRACT_HINT}{flag}"]


def _any_embeddings(folder: Path) -> bool:
    return next(folder.glob("*.hdf5*"), None) is not None


def truth_problems(desed: EventTable, maestro: EventTable, stage: Stage) -> list[str]:
    """A message for each corpus of a stage whose truth has no event of a scored class.

    Args:
        desed: events of the clips on disk.
        maestro: events of the clips on disk, soft labels as confidence.
        stage: "val" or "test".
    """
    certain = maestro.rows(maestro.confidence > TRUE_CONFIDENCE)
    parts = (
        (desed, DESED_CLASSES, "check the table"),
        (certain, MAESTRO_SCORED_CLASSES, MAESTRO_REMEDIES[stage]),
    )
    problems = []
    for events, classes, remedy in parts:
        try:
            scored_classes(events, classes, remedy)
        except InputError as error:
            problems.append(str(error))
    return problems


def token_problems(readers: Iterable[EmbeddingReader]) -> list[str]:
    """A message if the number of tokens per clip differs between files, which a batch forbids."""
    example = {reader.n_tokens: reader.path for reader in readers}
    if len(example) < 2:
        return []
    found = ", ".join(
        f"{count_of(n_tokens, 'token')} per clip in {path}" for n_tokens, path in example.items()
    )
    return [f"embeddings differ in length: {found}; delete the wrong files and {EXTRACT_HINT}"]


def missing_text(title: str, folder: Path, missing: Sequence[str], n_listed: int) -> str:
    """Message about clips that a table lists but that are not on disk."""
    return (
        f"{title}: {len(missing)} of {count_of(n_listed, 'listed clip')} "
        f"{agree(len(missing), 'is', 'are')} not in {folder} ({examples(missing)}); they are "
        "left out"
    )


def examples(clip_ids: Sequence[str]) -> str:
    """The first few clips, for messages."""
    more = ", ..." if len(clip_ids) > N_EXAMPLES else ""
    return ", ".join(map(escape_name, clip_ids[:N_EXAMPLES])) + more
