"""Faults of a corpus on disk, each a message with value, place and remedy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from desed_task.audio.files import AudioInfo, count_formats, probe
from desed_task.dataio.annotations import EventTable, WeakTable
from desed_task.dataio.embeddings import EmbeddingReader
from desed_task.errors import InputError
from desed_task.parallel import thread_map
from local.classes_dict import DESED_CLASSES, MAESTRO_SCORED_CLASSES, VOCABULARY
from local.config import RecipeConfig
from local.corpora import EVALUATION, Corpus
from local.data.truth import MAESTRO_REMEDIES, TRUE_CONFIDENCE, Stage, scored_classes

PREPARE_REMEDY = "prepare the data with generate_dcase_task4_2024.py"
EXTRACT_HINT = "run extract_embeddings.py"
N_EXAMPLES = 3
# Headers read at a time (waiting for the disk, mostly), and from how many on a bar is shown.
N_PROBES = 8
MIN_FILES_FOR_BAR = 2000


def label_problems(corpus: Corpus, table: EventTable | WeakTable) -> list[str]:
    """A message if there are no events, or labels that the corpus is not annotated with."""
    if isinstance(table, WeakTable):
        used = table.target.any(axis=0)
    else:
        used = np.bincount(table.label_index, minlength=len(VOCABULARY)) > 0
    if not used.any():
        return [f"{table.path}: clips, but not one event; get or prepare the data again"]
    foreign = np.flatnonzero(used & ~VOCABULARY.mask(corpus.known))
    if not len(foreign):
        return []
    names = ", ".join(repr(VOCABULARY[int(index)]) for index in foreign)
    return [
        f"{table.path}: {names} is no label of this corpus ({corpus.title}); "
        f"known: {', '.join(corpus.known)}"
    ]


class Headers(NamedTuple):
    """What the headers of a corpus's files tell.

    Attributes:
        durations_s: clip -> seconds; 0 for a file that cannot be read.
        formats: sample format (see `AudioInfo.sample_format`) -> files.
    """

    durations_s: dict[str, float]
    formats: dict[str, int]


def read_headers(
    corpus: Corpus, paths: Sequence[Path], sample_rate: int, problems: list[str]
) -> Headers:
    """Read every file's header; files that cannot be used become problems."""
    headers = list(
        thread_map(
            _header,
            paths,
            jobs=N_PROBES,
            desc=f"checking {corpus.title}",
            progress=len(paths) >= MIN_FILES_FOR_BAR,
        )
    )
    unreadable = [found for found in headers if isinstance(found, str)]
    problems += unreadable[:N_EXAMPLES]
    if len(unreadable) > N_EXAMPLES:
        problems.append(f"... and {len(unreadable) - N_EXAMPLES} more files in {paths[0].parent}")
    infos = {p.stem: i for p, i in zip(paths, headers, strict=True) if isinstance(i, AudioInfo)}
    other = {clip_id: info for clip_id, info in infos.items() if info.sample_rate != sample_rate}
    if other:
        rates = ", ".join(str(rate) for rate in sorted({i.sample_rate for i in other.values()}))
        problems.append(
            f"{paths[0].parent}: {len(other)} of {len(paths)} files are at {rates} Hz, "
            f"{sample_rate} Hz are needed ({examples(list(other))}); {PREPARE_REMEDY}"
        )
    durations_s = {p.stem: infos[p.stem].duration_s if p.stem in infos else 0.0 for p in paths}
    return Headers(durations_s, count_formats(infos.values()))


def _header(path: Path) -> AudioInfo | str:
    try:
        return probe(path)
    except InputError as error:
        return str(error)


def embeddings_path(corpus: Corpus, config: RecipeConfig) -> Path:
    """Where training looks for a corpus's embeddings."""
    return Path(config.pretrained.extracted_embeddings_dir) / "beats" / f"{corpus.name}.hdf5"


def open_embeddings(
    corpus: Corpus, clip_ids: Sequence[str], config: RecipeConfig, problems: list[str]
) -> EmbeddingReader | None:
    """The reader of a corpus's embeddings; what is wrong with them becomes problems.

    Args:
        corpus: whose.
        clip_ids: clips that must have embeddings.
        config: where they lie and what size the network takes.
        problems: gets the messages.

    Returns:
        None if the network uses none or there is no file.
    """
    if not config.net.use_embeddings:
        return None
    path = embeddings_path(corpus, config)
    # Without it the evaluation set is left out.
    flag = " with --eval_set" if corpus == EVALUATION else ""
    try:
        reader = EmbeddingReader(path)
    except InputError as error:
        problems.append(f"{error}{flag}")
        return None
    if reader.size != config.net.embedding_size:
        problems.append(
            f"{path}: embeddings have {reader.size} features, the network takes "
            f"net.embedding_size {config.net.embedding_size}; set it to {reader.size} or extract "
            "embeddings with the BEATs that belongs to the network"
        )
    missing = reader.missing(clip_ids)
    if missing:
        problems.append(
            f"{path}: lacks the embeddings of {len(missing)} of {len(clip_ids)} clips "
            f"({examples(missing)}); {EXTRACT_HINT}{flag}"
        )
    return reader


def truth_problems(desed: EventTable, maestro: EventTable, stage: Stage) -> list[str]:
    """A message for each truth of a stage in which no scored class has an event.

    Args:
        desed: events of the clips that are there.
        maestro: events of the clips that are there, soft labels as confidence.
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
    """A message if frame embeddings differ in length from file to file: a batch takes one."""
    example = {reader.n_tokens: reader.path for reader in readers}
    if len(example) < 2:
        return []
    found = ", ".join(f"{n_tokens} tokens a clip in {path}" for n_tokens, path in example.items())
    return [f"embeddings differ in length: {found}; delete the odd ones and {EXTRACT_HINT}"]


def missing_text(title: str, folder: Path, missing: Sequence[str], n_listed: int) -> str:
    """What is said of clips that a table lists and the disk lacks."""
    return (
        f"{title}: {len(missing)} of {n_listed} listed clips are not in {folder} and left out "
        f"({examples(missing)})"
    )


def examples(clip_ids: Sequence[str]) -> str:
    """The first few, for messages."""
    more = ", ..." if len(clip_ids) > N_EXAMPLES else ""
    return ", ".join(clip_ids[:N_EXAMPLES]) + more
