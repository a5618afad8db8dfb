"""Check the tables, audio and embeddings of a corpus; each fault becomes a message."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from desed_task.audio.files import AudioInfo, count_formats, probe
from desed_task.audio.windows import WindowKey
from desed_task.dataio.annotations import EventTable, WeakTable
from desed_task.dataio.clip_names import found_elsewhere
from desed_task.dataio.embeddings import EmbeddingReader, RowReader
from desed_task.errors import InputError, agree, command_name, count_of
from desed_task.evaluation.scores import as_detections, clips_with_events
from desed_task.evaluation.segments import pausing
from desed_task.file_names import escape_name
from desed_task.labels import Vocabulary
from desed_task.parallel import thread_map
from local.config import RecipeConfig
from local.data.clips.windows import hop_of
from local.data.truth import (
    Stage,
    Truth,
    no_event_remedy,
    scored_classes,
    true_classes,
    truth_of,
)
from local.stores.folders import (
    StoreFolder,
    any_embeddings,
    folders_to_read,
    others_of,
    why_foreign,
)
from local.stores.joined import JoinedReader
from local.task.class_names import some_classes
from local.task.corpus import Corpus
from local.task.task import Task

PREPARE_REMEDY = f"prepare the data with {command_name('generate_dcase_task4_2024.py')}"
EXTRACT_HINT = f"run {command_name('extract_embeddings.py')}"
N_EXAMPLES = 3
# Threads that read headers, mostly waiting for the disk; a bar is shown from this many files on.
N_PROBES = 8
MIN_FILES_FOR_BAR = 2000


def label_problems(corpus: Corpus, table: EventTable | WeakTable) -> list[str]:
    """A message if a table has no events, or labels that the corpus is not annotated with."""
    vocabulary = table.vocabulary
    if isinstance(table, WeakTable):
        used = table.target.any(axis=0)
    else:
        used = np.bincount(table.label_index, minlength=len(vocabulary)) > 0
    if not used.any() and corpus.annotators is not None:
        rule = f"task.corpora.{corpus.name}.annotators: {corpus.annotators}"
        return [f"{table.path}: {rule} leaves no event; choose another rule"]
    if not used.any():
        return [f"{table.path}: lists clips but no event; get or prepare the data again"]
    foreign = np.flatnonzero(used & ~vocabulary.mask(corpus.known))
    if not len(foreign):
        return []
    names = ", ".join(repr(vocabulary[int(index)]) for index in foreign)
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


def open_embeddings(
    corpus: Corpus,
    clip_ids: Sequence[str],
    present: Iterable[str],
    config: RecipeConfig,
    problems: list[str],
    windows: Sequence[WindowKey] = (),
) -> tuple[EmbeddingReader | JoinedReader | None, tuple[str, ...]]:
    """Open a corpus's embeddings; faults are reported in `problems`.

    Args:
        corpus: the corpus.
        clip_ids: clips that must have embeddings.
        present: all clips on disk, by which names in the files are told apart.
        config: encoders, folder of the embeddings and size that the network takes.
        problems: messages are appended to it.
        windows: windows of longer clips that must have embeddings, too.

    Returns:
        The reader, None if no stored embeddings are used or a file cannot be read; and a line
        about clips that a file names in another way, for each such file.
    """
    if not config.reads_embeddings:
        return None, ()
    folders, present = folders_to_read(config.pretrained), list(present)
    parts: list[EmbeddingReader] = []
    notes: list[str] = []
    for folder in folders:
        if folder.problem or not any_embeddings(folder.path):
            continue  # `no_embeddings` says it once.
        reader = _open_part(corpus, folder, present, problems, notes)
        if reader is not None:
            problems += _lacking(corpus, reader, clip_ids, config, windows)
            parts.append(reader)
    if len(parts) < len(folders):
        return None, tuple(notes)
    problems += _size_problems(parts, config)
    if len(parts) == 1:
        return parts[0], tuple(notes)
    joined = JoinedReader(parts, config.grid.n_frames, config.net.aggregation_type)
    return joined, tuple(notes)


def _open_part(
    corpus: Corpus,
    folder: StoreFolder,
    present: Sequence[str],
    problems: list[str],
    notes: list[str],
) -> EmbeddingReader | None:
    """Open a corpus's embeddings of one encoder; None if they cannot be used."""
    path = folder.file(corpus.stem)
    try:
        reader = EmbeddingReader(path)
        note = found_elsewhere(reader.match(present))
    except InputError as error:
        # Names that could be several clips follow, one a line.
        head, *names = str(error).splitlines()
        flag = _flag((corpus,))
        head = f"{head[:-1]}{flag}:" if names else head + flag
        problems.append("\n".join([head, *names]))
        return None
    if foreign := why_foreign(folder, reader.identity):
        problems.append(f"{path}: {foreign}; move it away and {EXTRACT_HINT}{_flag((corpus,))}")
        return None
    notes += [] if note is None else [f"{path}: {note}"]
    return reader


def _lacking(
    corpus: Corpus,
    reader: EmbeddingReader,
    clip_ids: Sequence[str],
    config: RecipeConfig,
    windows: Sequence[WindowKey],
) -> Iterator[str]:
    """Messages about clips and windows without embeddings of one encoder."""
    missing, flag = reader.missing(clip_ids), _flag((corpus,))
    if missing:
        yield (
            f"{reader.path}: lacks the embeddings of {len(missing)} of "
            f"{count_of(len(clip_ids), 'clip')} ({examples(missing)}); {EXTRACT_HINT}{flag}"
        )
    lacking = reader.missing(windows)
    if lacking:
        clips = list(dict.fromkeys(window.clip_id for window in lacking))
        yield (
            f"{reader.path}: lacks {count_of(len(lacking), 'window')} of "
            f"{count_of(len(clips), 'clip')} longer than {config.data.audio_max_len:g} s "
            f"({examples(clips)}), which are read in windows {hop_of(config, corpus):g} s apart; "
            f"{EXTRACT_HINT}{flag}"
        )


def _size_problems(parts: Sequence[EmbeddingReader], config: RecipeConfig) -> Iterator[str]:
    """A message if the network takes another number of features."""
    size, wanted = sum(part.size for part in parts), config.net.embedding_size
    if wanted in (None, size):
        return
    shares = " + ".join(
        f"{part.size} of {name}" for part, name in zip(parts, config.pretrained.names, strict=True)
    )
    several = f" ({shares})" if len(parts) > 1 else ""
    yield (
        f"{parts[0].path}: embeddings have {count_of(size, 'feature')}{several}, the network takes "
        f"net.embedding_size {wanted}; leave the key out, which takes the embeddings' own number, "
        "or extract embeddings with the encoder that the network was trained with"
    )


def no_embeddings(config: RecipeConfig, needed: Sequence[Corpus]) -> list[str]:
    """A message for each encoder that no set has embeddings of, though they are read."""
    if not config.reads_embeddings:
        return []
    flag, found = _flag(needed), []
    for folder in folders_to_read(config.pretrained):
        if folder.problem:
            to_extract = folder.problem.endswith(EXTRACT_HINT)
            found.append(folder.problem + (flag if to_extract else ""))
        elif not any_embeddings(folder.path):
            text = f"{folder.path}: contains no embeddings of any set; {EXTRACT_HINT}{flag}"
            if others := others_of(folder):
                text += (
                    f", or name the weights of those in {', '.join(others)} "
                    "(pretrained.checkpoint, pretrained.n_blocks)"
                )
            found.append(text)
    return found


def warn_of_guesses(config: RecipeConfig) -> None:
    """Warn of folders of embeddings that were taken without the weights that name them."""
    for folder in folders_to_read(config.pretrained) if config.reads_embeddings else ():
        if folder.note:
            warnings.warn(folder.note, UserWarning, stacklevel=3)


def _flag(needed: Sequence[Corpus]) -> str:
    # The evaluation set is extracted only with this flag.
    return " with --eval_set" if any(one.split == "evaluation" for one in needed) else ""


def scored_problems(
    task: Task,
    stage: Stage,
    truths: Sequence[Truth],
    labels: Mapping[str, EventTable | WeakTable | None],
) -> list[str]:
    """A message for each part of a stage in which no scored class occurs, or whose figure in the
    objective is not defined.

    Args:
        task: the task.
        stage: "val" or "test".
        truths: of the clips on disk.
        labels: corpus -> labels of its scored clips, which tags are scored with.
    """
    problems = []
    for truth in truths:
        try:
            scored_classes(truth.certain, truth.part.classes, no_event_remedy(truth.part, stage))
        except InputError as error:
            problems.append(str(error))
    for part in task.scored(stage):
        table = labels.get(part.corpus.name)
        if part.kind == "tags" and table is not None and not true_classes(table) & {*part.classes}:
            problems.append(
                f"{table.path or part.corpus.title}: none of the scored classes "
                f"({some_classes(part.classes)}) is in any of its "
                f"{count_of(len(table.clip_ids), 'clip')} to score; "
                f"{no_event_remedy(part, stage)}"
            )
    return problems if problems or stage == "test" else _area_problems(task, truths)


def _area_problems(task: Task, truths: Sequence[Truth]) -> list[str]:
    """A message if the objective takes an area that the truth of a validation does not define."""
    truth = truth_of(truths, "segments")
    figures = [one.figure for one in task.objective if one.kind == "segments"]
    if truth is None or not {*figures} & {"mauc", "mpauc"}:
        return []
    labels = Vocabulary(truth.part.classes)
    # A validation takes the clips with events.
    chosen = truth.certain.select(clips_with_events(truth.certain, labels))
    duration_s = np.array([truth.durations[clip_id] for clip_id in chosen.clip_ids])
    found = as_detections(chosen, labels)
    there = np.bincount(found.label_index, minlength=len(labels)) > 0
    if (there & pausing(found, duration_s, len(labels))).any():
        return []
    return [
        f"task.objective.segments: {figures[0]} cannot be computed, so the best checkpoint could "
        f"not be chosen: in the validation clips of {truth.part.corpus.title} no class is absent "
        f"from any segment; set it to fmo, or correct {truth.part.corpus.table_key}"
    ]


def token_problems(readers: Iterable[RowReader]) -> list[str]:
    """A message if the number of tokens per clip differs between files, which a batch forbids."""
    problems = []
    for files in zip(*(reader.parts for reader in readers), strict=True):
        example = {reader.n_tokens: reader.path for reader in files}
        if len(example) < 2:
            continue
        found = ", ".join(
            f"{count_of(n_tokens, 'token')} per clip in {path}"
            for n_tokens, path in example.items()
        )
        remedy = f"delete the wrong files and {EXTRACT_HINT}"
        problems.append(f"embeddings differ in length: {found}; {remedy}")
    return problems


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
