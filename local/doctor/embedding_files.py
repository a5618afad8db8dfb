"""Check that embeddings match the audio and the BEATs weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from desed_task.dataio.embeddings import EmbeddingReader
from desed_task.encoders.loading import load_encoder
from desed_task.encoders.weights_file import find_weights
from desed_task.errors import InputError, agree, count_of
from desed_task.parallel import thread_map
from local.config import RecipeConfig
from local.corpora import Corpus
from local.data.corpus_checks import (
    EXTRACT_HINT,
    MIN_FILES_FOR_BAR,
    embeddings_path,
    examples,
)
from local.doctor.report import CheckpointReport, EmbeddingsReport, Finding
from local.extraction.up_to_date import compare_clips, identity_of

Identity = dict[str, str | float]
_WHOLE = ("whole", "origin unknown", "unused")


def checkpoint_report(config: RecipeConfig) -> CheckpointReport:
    """Load the configured BEATs weights and report their state."""
    named = config.pretrained.beats_checkpoint
    if not config.net.use_embeddings:
        return CheckpointReport(named, "unused")
    try:
        path = find_weights(named)
    except InputError as error:
        return CheckpointReport(named, "absent", reason=str(error))
    sha256 = str(identity_of(path, config.data.audio_max_len)["checkpoint_sha256"])
    size_bytes = path.stat().st_size
    try:
        encoder = load_encoder(path)
    except InputError as error:
        return CheckpointReport(str(path), "broken", sha256, size_bytes, reason=str(error))
    n_layers = len(encoder.layers)
    return CheckpointReport(str(path), "sound", sha256, size_bytes, encoder.width, n_layers)


def read_embeddings(
    config: RecipeConfig, corpora: tuple[Corpus, ...]
) -> dict[str, EmbeddingReader]:
    """Corpus -> reader, for corpora with a complete embeddings file."""
    readers = {}
    for corpus in corpora if config.net.use_embeddings else ():
        try:
            readers[corpus.name] = EmbeddingReader(embeddings_path(corpus, config))
        except InputError:
            continue  # Reported by training's own check.
    return readers


def wanted_identity(
    config: RecipeConfig, checkpoint: CheckpointReport, readers: Mapping[str, EmbeddingReader]
) -> Identity:
    """Expected identity of embeddings: that of the BEATs file, or else the most frequent one."""
    made_with = [reader.identity.get("checkpoint_sha256") for reader in readers.values()]
    votes = Counter(sha256 for sha256 in made_with if sha256)
    sha256 = checkpoint.sha256 if checkpoint.state == "sound" else ""
    if not sha256 and votes:
        sha256 = str(votes.most_common(1)[0][0])
    return {"checkpoint_sha256": sha256, "clip_s": config.data.audio_max_len}


def embeddings_report(
    corpus: Corpus,
    config: RecipeConfig,
    reader: EmbeddingReader | None,
    clips: Mapping[str, Path],
    wanted: Identity,
) -> EmbeddingsReport:
    """State of the embeddings file of a corpus.

    Args:
        corpus: the corpus.
        config: the configuration.
        reader: reader of the file; None if it cannot be read.
        clips: clip -> file, for clips that training uses.
        wanted: see `wanted_identity`.
    """
    path = embeddings_path(corpus, config)
    if not config.net.use_embeddings:
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
    elif outdated or (reader.identity and not wanted.items() <= reader.identity.items()):
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
    corpus: Corpus, report: EmbeddingsReport, wanted: Identity, checkpoint: CheckpointReport
) -> Iterator[Finding]:
    """Findings about embeddings that are damaged or made from other audio, weights or lengths."""
    again = f"{EXTRACT_HINT} to update them"
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
            text = (
                f"{report.path}: does not state which BEATs weights made it; published files do not"
            )
            yield Finding("note", corpus.name, text)
        return
    if report.identity.get("checkpoint_sha256") != wanted["checkpoint_sha256"]:
        sound = checkpoint.state == "sound"
        other = f"than {checkpoint.path}" if sound else "than most of the others"
        text = f"{report.path}: made with other BEATs weights {other}; {again}"
        yield Finding("warning", corpus.name, text)
    if report.identity.get("clip_s") != wanted["clip_s"]:
        yield Finding(
            "warning",
            corpus.name,
            f"{report.path}: made from clips of {report.identity.get('clip_s')} s, "
            f"data.audio_max_len is {wanted['clip_s']} s; {again}",
        )


def checkpoint_findings(
    config: RecipeConfig, checkpoint: CheckpointReport, reports: list[EmbeddingsReport]
) -> Iterator[Finding]:
    """Findings about the BEATs weights, which training itself does not read."""
    if checkpoint.state == "absent":
        needed = any(report.state not in _WHOLE for report in reports)
        yield Finding("warning" if needed else "note", "", checkpoint.reason)
    elif checkpoint.state == "broken":
        yield Finding("warning", "", checkpoint.reason)
    elif checkpoint.state == "sound" and checkpoint.n_features != config.net.embedding_size:
        yield Finding(
            "warning",
            "",
            f"{checkpoint.path}: computes {checkpoint.n_features} features, net.embedding_size is "
            f"{config.net.embedding_size}; make them agree before extracting",
        )
