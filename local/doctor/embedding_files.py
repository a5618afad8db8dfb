"""Check that embeddings match the audio and the weights of their encoders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from desed_task.dataio.embeddings import CHECKPOINT_SHA256, EmbeddingReader
from desed_task.encoders.loading import load_encoder
from desed_task.encoders.registry import kind_of
from desed_task.encoders.weights_file import find_weights
from desed_task.errors import InputError, agree, count_of
from desed_task.parallel import thread_map
from local.config import RecipeConfig
from local.data.corpus_checks import (
    EXTRACT_HINT,
    MIN_FILES_FOR_BAR,
    examples,
)
from local.doctor.report import CheckpointReport, CorpusReport, EmbeddingsReport, Finding
from local.schema.encoders import EncoderChoice
from local.stores.folders import StoreFolder, folders_to_read, sha256_once, why_foreign
from local.stores.identity import StoredIdentity, identity_of
from local.stores.up_to_date import compare_clips
from local.task.corpus import Corpus

_WHOLE = ("whole", "origin unknown", "unused")


class EncoderCheck(NamedTuple):
    """An encoder of the configuration, its weights and its embeddings.

    Attributes:
        folder: of the embeddings.
        checkpoint: report on the weights.
        readers: corpus -> reader, for corpora with a complete file of embeddings.
        wanted: expected identity of embeddings: that of the weights, or else the most frequent one.
    """

    folder: StoreFolder
    checkpoint: CheckpointReport
    readers: Mapping[str, EmbeddingReader]
    wanted: StoredIdentity

    @property
    def title(self) -> str:
        """Of the encoder."""
        return kind_of(self.folder.choice.name).title


def check_encoders(config: RecipeConfig, corpora: tuple[Corpus, ...]) -> tuple[EncoderCheck, ...]:
    """Load the weights of each configured encoder and open its embeddings."""
    return tuple(_check(config, folder, corpora) for folder in folders_to_read(config.pretrained))


def _check(config: RecipeConfig, folder: StoreFolder, corpora: tuple[Corpus, ...]) -> EncoderCheck:
    checkpoint = _checkpoint_report(config, folder.choice)
    readers = {}
    for corpus in corpora if config.reads_embeddings else ():
        try:
            reader = EmbeddingReader(folder.file(corpus.stem))
        except InputError:
            continue  # Reported by training's own check.
        if not why_foreign(folder, reader.identity):
            readers[corpus.name] = reader
    made_with = [reader.identity.get(CHECKPOINT_SHA256) for reader in readers.values()]
    votes = Counter(sha256 for sha256 in made_with if sha256)
    sha256 = checkpoint.sha256 if checkpoint.state == "sound" else ""
    if not sha256 and votes:
        sha256 = str(votes.most_common(1)[0][0])
    wanted = identity_of(folder.choice, sha256, config.data.audio_max_len)
    return EncoderCheck(folder, checkpoint, readers, wanted)


def _checkpoint_report(config: RecipeConfig, choice: EncoderChoice) -> CheckpointReport:
    """Load weights and report their state."""
    whose = {"encoder": choice.name}
    if not config.net.use_embeddings:
        return CheckpointReport(choice.file, "unused", **whose)
    try:
        path = find_weights(choice.file, choice.name)
    except InputError as error:
        return CheckpointReport(choice.file, "absent", reason=str(error), **whose)
    sha256, size_bytes = sha256_once(path), path.stat().st_size
    try:
        encoder = load_encoder(path, choice.name, n_blocks=choice.n_blocks)
    except InputError as error:
        reason = str(error)
        return CheckpointReport(str(path), "broken", sha256, size_bytes, reason=reason, **whose)
    n_layers, n_parameters = len(encoder.layers), encoder.n_parameters()
    return CheckpointReport(
        *(str(path), "sound", sha256, size_bytes, encoder.width, n_layers),
        n_parameters=n_parameters,
        **whose,
    )


def embeddings_report(
    corpus: Corpus,
    config: RecipeConfig,
    check: EncoderCheck,
    reader: EmbeddingReader | None,
    clips: Mapping[str, Path],
) -> EmbeddingsReport:
    """State of the embeddings file of a corpus and an encoder.

    Args:
        corpus: the corpus.
        config: the configuration.
        check: the encoder.
        reader: reader of the file; None if it cannot be read.
        clips: clip -> file, for clips that training uses.
    """
    path = check.folder.file(corpus.stem)
    if not config.reads_embeddings:
        return EmbeddingsReport(str(path), "unused")
    if reader is None:
        begun = path.with_name(path.name + ".part").is_file()
        state = "unusable" if path.is_file() else "unfinished" if begun else "absent"
        return EmbeddingsReport(str(path), state)
    lacking = tuple(reader.missing(clips))
    there = {clip_id: wav for clip_id, wav in clips.items() if clip_id not in set(lacking)}
    outdated = compare_clips(there, reader, read=True).changed
    damaged = _damaged(corpus, reader, list(there))
    if damaged:
        state = f"damaged {len(damaged)}"
    elif lacking:
        state = f"lack {len(lacking)}"
    elif outdated or (reader.identity and not check.wanted.items() <= reader.identity.items()):
        state = "stale"
    else:
        state = "whole" if reader.identity else "origin unknown"
    return EmbeddingsReport(
        str(path), state, len(reader.clip_ids), lacking, outdated, reader.identity, damaged
    )


def _damaged(corpus: Corpus, reader: EmbeddingReader, clip_ids: Sequence[str]) -> dict[str, str]:
    """Read all embeddings: clip -> why training would refuse them."""

    def fault(clip_id: str) -> str:
        try:
            reader.global_(clip_id)
            reader.frame(clip_id)
        except InputError as error:
            return str(error)
        return ""

    faults = thread_map(
        fault,
        clip_ids,
        jobs=1,  # HDF5 reads one row at a time.
        desc=f"reading embeddings of {corpus.name}",
        progress=len(clip_ids) >= MIN_FILES_FOR_BAR,
        unit="clip",
    )
    return {clip_id: text for clip_id, text in zip(clip_ids, faults, strict=True) if text}


def embeddings_findings(
    corpus: Corpus, report: EmbeddingsReport, check: EncoderCheck
) -> Iterator[Finding]:
    """Findings about embeddings that are damaged or made from other audio, weights or lengths."""
    again, wanted = f"{EXTRACT_HINT} to update them", check.wanted
    if report.damaged:
        text = next(iter(report.damaged.values()))
        others = (
            f"; so {agree(len(report.damaged) - 1, 'does', 'do')} "
            f"{count_of(len(report.damaged) - 1, 'more clip')}"
            if len(report.damaged) > 1
            else ""
        )
        yield Finding("error", corpus.name, f"{text}{others}")
    if report.outdated:
        yield Finding(
            "warning",
            corpus.name,
            f"{report.path}: clips changed since these embeddings: {len(report.outdated)} "
            f"({examples(report.outdated)}); {again}",
        )
    if not report.identity:
        if report.clips:
            text = f"{report.path}: does not state which {check.title} weights made it; published "
            yield Finding("note", corpus.name, f"{text}files do not")
        return
    if report.identity.get(CHECKPOINT_SHA256) != wanted[CHECKPOINT_SHA256]:
        sound = check.checkpoint.state == "sound"
        other = f"than {check.checkpoint.path}" if sound else "than most of the others"
        text = f"{report.path}: made with other {check.title} weights {other}; {again}"
        yield Finding("warning", corpus.name, text)
    if report.identity.get("clip_s") != wanted["clip_s"]:
        yield Finding(
            "warning",
            corpus.name,
            f"{report.path}: made from clips of {report.identity.get('clip_s')} s, "
            f"data.audio_max_len is {wanted['clip_s']} s; {again}",
        )


def checkpoint_findings(
    config: RecipeConfig, checks: Sequence[EncoderCheck], parts: Sequence[CorpusReport]
) -> Iterator[Finding]:
    """Findings about the weights of encoders, which training only reads if they run in its step."""
    runs = config.runs_encoders
    for number, check in enumerate(checks):
        checkpoint = check.checkpoint
        if check.folder.note and not runs:
            yield Finding("note", "", check.folder.note)
        if checkpoint.state == "absent":
            needed = any(part.all_embeddings[number].state not in _WHOLE for part in parts)
            yield Finding(
                "error" if runs else "warning" if needed else "note", "", checkpoint.reason
            )
        elif checkpoint.state == "broken":
            yield Finding("error" if runs else "warning", "", checkpoint.reason)
    found = [check.checkpoint for check in checks]
    n_features, wanted = sum(one.n_features for one in found), config.net.embedding_size
    sound = all(one.state == "sound" for one in found)
    if sound and wanted not in (None, n_features):
        remedy = "leave the key out" if runs else "make them agree before extracting"
        yield Finding(
            "error" if runs else "warning",
            "",
            f"{', '.join(one.path for one in found)}: "
            f"{agree(len(found), 'computes', 'compute')} {n_features} features, "
            f"net.embedding_size is {wanted}; {remedy}",
        )
