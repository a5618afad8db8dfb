"""Digests of the data of a run: what it was trained or scored on, wherever that lies.

They are computed from content (tables as parsed, clips, lengths, the sources of embeddings), not
from paths or times, so that a moved or copied corpus is the same. Nothing large is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from desed_task.dataio.annotations import EventTable, WeakTable
from desed_task.dataio.embedding_sources import read_sources
from desed_task.dataio.embeddings import CHECKPOINT_SHA256, ENCODER, EmbeddingReader, RowReader
from desed_task.dataio.row_stores.pseudo_labels import PseudoLabelReader
from desed_task.encoders.registry import kind_of
from desed_task.encoders.weights_file import find_weights
from desed_task.errors import InputError, count_of
from local.config import RecipeConfig
from local.data.loaded_corpus import LoadedCorpus
from local.data.truth import Truth, recording_name
from local.schema.encoders import BEATS, Pretrained
from local.stores.device_responses import RESPONSES_KEY, response_digests
from local.stores.folders import sha256_once
from local.task.corpus import Corpus

# Corpus, or WEIGHTS_PART -> part (table, clips, ...) -> facts, plain values for YAML, JSON and
# checkpoints.
DataDigests = Mapping[str, Mapping[str, Mapping[str, Any]]]
DATA_KEY = "data_digests"
# In place of a corpus, where encoders run inside the step: encoder -> digest of its weights.
WEIGHTS_PART = "pretrained.checkpoint"
_N_SAMPLED = 8


def digest_corpus(loaded: LoadedCorpus, durations_s: Mapping[str, float]) -> dict[str, Any]:
    """Digests of a loaded corpus.

    Args:
        loaded: the corpus.
        durations_s: clip or recording -> seconds, as scored.

    Returns:
        Part -> its digest `sha256` and what a message says about it:
        table: `rows` that are used; clips: `clips`; audio: `hours`; durations: `rows`; embeddings:
        `weights`, the SHA-256 of the encoder, `sources`, a digest of the audio that they were
        computed from, each "" if unknown, and `encoder` unless it is BEATs; of several encoders
        joined by +; pseudo_labels: `checkpoints`, their SHA-256 joined by +, and `sources`.
    """
    hours = round(sum(loaded.durations_s[c] for c in loaded.clip_ids) / 3600, 4)
    lengths = [(c, float(loaded.durations_s[c])) for c in loaded.clip_ids]
    found: dict[str, Any] = {
        "clips": {"sha256": _digest(loaded.clip_ids), "clips": len(loaded.clip_ids)},
        "audio": {"sha256": _digest(lengths, sorted(loaded.formats.items())), "hours": hours},
    }
    if loaded.events is not None:
        rows = event_rows(loaded.events)
        drawn = () if loaded.annotated is None else (event_rows(loaded.annotated.table),)
        found["table"] = {"sha256": _digest(loaded.listed, rows, *drawn), "rows": len(rows)}
    elif loaded.weak is not None:
        rows = _weak_rows(loaded.weak)
        found["table"] = {"sha256": _digest(loaded.listed, rows), "rows": len(rows)}
    if loaded.corpus.durations is not None:
        found["durations"] = _durations(_scored_names(loaded), durations_s)
    if loaded.embeddings is not None:
        found["embeddings"] = _embeddings(loaded.embeddings, loaded.clip_ids)
    if loaded.pseudo is not None:
        found["pseudo_labels"] = _pseudo_labels(loaded.pseudo, loaded.clip_ids)
    return found


def digest_truth(truth: Truth, clip_ids: Sequence[str]) -> dict[str, Any]:
    """What scores were compared with, whatever the order of rows.

    Args:
        truth: the truth of a test corpus.
        clip_ids: the scored clips.

    Returns:
        `clips`, `truth` and `durations`: SHA-256; `n_clips` and `n_events`.
    """
    rows = sorted(event_rows(truth.events.select(clip_ids)))
    names = {*clip_ids, *truth.left_out}
    if truth.part.corpus.cut_from_recordings:
        names = {recording_name(clip_id) for clip_id in clip_ids}
    known = sorted(name for name in names if name in truth.durations)
    return {
        "clips": _digest(sorted(clip_ids), sorted(truth.left_out)),
        "truth": _digest(rows),
        "durations": _durations(known, truth.durations)["sha256"],
        "n_clips": len(clip_ids),
        "n_events": len(rows),
    }


def overall_digest(digests: Mapping[str, Any]) -> str:
    """One SHA-256 of the digests of several corpora."""
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def event_rows(events: EventTable) -> list[tuple[str, float, float, str, float]]:
    """Clip, onset, offset, label and confidence of each event, in table order."""
    columns = zip(
        events.clip_index.tolist(),
        events.onset_s.tolist(),
        events.offset_s.tolist(),
        events.label_index.tolist(),
        events.confidence.tolist(),
        strict=True,
    )
    labels = events.vocabulary.labels
    return [(events.clip_ids[c], on, off, labels[i], p) for c, on, off, i, p in columns]


def data_changes(before: DataDigests, now: DataDigests, corpora: Iterable[Corpus]) -> list[str]:
    """What differs between two states of the data, one line per part of a corpus.

    Parts that one side does not know are not compared.
    """
    found = []
    for corpus in dict.fromkeys(corpora):
        old, new = before.get(corpus.name, {}), now.get(corpus.name, {})
        for part in (name for name in new if name in old):
            text = _change(old[part], new[part], part)
            if text:
                found.append(f"{corpus.title} ({_place(corpus, part)}): {text}")
    return found


def training_digests(config: RecipeConfig) -> dict[str, Any]:
    """What is kept of a training beside the digests of the corpora: weights that run inside its
    step, and device responses."""
    weights = {WEIGHTS_PART: digest_weights(config.pretrained)} if config.runs_encoders else {}
    return weights | response_digests(config)


def digest_weights(pretrained: Pretrained) -> dict[str, dict[str, str]]:
    """Encoder -> the SHA-256 of its file of weights, as `sha256`; those not here are left out."""
    found = {}
    for one in pretrained.encoders:
        with suppress(InputError):  # A training that needs the file says so when it loads it.
            found[one.name] = {"sha256": sha256_once(find_weights(one.file, one.name))}
    return found


def weights_changes(before: DataDigests, now: DataDigests) -> list[str]:
    """One line for each encoder that runs inside the step and has other weights than before."""
    old, new = before.get(WEIGHTS_PART, {}), now.get(WEIGHTS_PART, {})
    return [
        f"{WEIGHTS_PART}: other {kind_of(name).title} weights (SHA-256 "
        f"{old[name]['sha256'][:12]} before, {new[name]['sha256'][:12]} now)"
        for name in new
        if name in old and old[name]["sha256"] != new[name]["sha256"]
    ]


def response_changes(before: DataDigests, now: DataDigests) -> list[str]:
    """How the device responses differ, in at most one line."""
    old, new = (one.get(RESPONSES_KEY, {}).get("responses") for one in (before, now))
    if old is None or new is None:
        return []
    text = _change(old, new, "responses")
    return [f"{RESPONSES_KEY}: {text}"] if text else []


def _change(old: Mapping[str, Any], new: Mapping[str, Any], part: str) -> str:
    """How a part differs; "" if it does not."""
    if part == "embeddings":
        return _embeddings_change(old, new)
    if part == "pseudo_labels":
        return _pseudo_labels_change(old, new)
    if old.get("sha256") == new.get("sha256"):
        return ""
    unit = next(name for name in new if name != "sha256")
    if old.get(unit) == new[unit]:
        return f"{count_of(new[unit], unit.removesuffix('s'))}, with other content"
    return f"{count_of(old.get(unit, 0), unit.removesuffix('s'))} before, {new[unit]} now"


def _embeddings_change(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    encoders = [str(one.get("encoder", BEATS)) for one in (old, new)]
    if encoders[0] != encoders[1]:
        return f"embeddings of {encoders[0]} before, of {encoders[1]} now"
    if old.get("weights") != new.get("weights"):
        weights = [str(one.get("weights"))[:12] or "unknown" for one in (old, new)]
        return f"embeddings of other weights (SHA-256 {weights[0]} before, {weights[1]} now)"
    if old.get("sha256") != new.get("sha256"):
        return "other embeddings"
    sources = old.get("sources"), new.get("sources")
    # Files of earlier versions do not tell.
    return "embeddings of other audio" if all(sources) and sources[0] != sources[1] else ""


def _pseudo_labels_change(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    both = [str(one.get("checkpoints")) for one in (old, new)]
    if both[0] != both[1]:
        before, now = (
            ", ".join(digest[:12] for digest in one.split("+")) or "unknown" for one in both
        )
        return f"pseudo-labels of other checkpoints (SHA-256 {before} before, {now} now)"
    if old.get("sha256") != new.get("sha256"):
        return "other pseudo-labels"
    sources = old.get("sources"), new.get("sources")
    return "pseudo-labels of other audio" if all(sources) and sources[0] != sources[1] else ""


def _place(corpus: Corpus, part: str) -> str:
    """The key of the configuration that names the file or folder."""
    if part == "embeddings":
        return corpus.name
    if part == "pseudo_labels":
        return "training.pseudo_labels"
    key = {"table": corpus.table_key, "durations": corpus.durations_key}.get(part)
    return key or corpus.folder_key


def _embeddings(reader: RowReader, clip_ids: Sequence[str]) -> dict[str, str]:
    parts = [_of_file(part, clip_ids) for part in reader.parts]
    if len(parts) == 1:
        return parts[0]
    several = {
        key: "+".join(part.get(key, BEATS) for part in parts) for key in ("weights", "encoder")
    }
    sources = [part["sources"] for part in parts]
    return {
        "sha256": _digest([part["sha256"] for part in parts], reader.alignment),
        "sources": _digest(sources) if all(sources) else "",
        **several,
    }


def _of_file(reader: EmbeddingReader, clip_ids: Sequence[str]) -> dict[str, str]:
    known = read_sources(reader.path, reader.clip_ids)
    complete = all(clip_id in known for clip_id in clip_ids)
    sampled: list[bytes] = []
    if not reader.identity:
        # Published files do not say what they were computed with; a few values stand for it.
        step = max(1, len(clip_ids) // _N_SAMPLED)
        there = [clip_id for clip_id in clip_ids[::step] if not reader.missing([clip_id])]
        sampled = [reader.global_(clip_id).tobytes() for clip_id in there[:_N_SAMPLED]]
    identity = sorted((name, str(value)) for name, value in reader.identity.items())
    found = {
        "sha256": _digest(identity, (reader.size, reader.n_tokens), sampled),
        "weights": str(reader.identity.get(CHECKPOINT_SHA256, "")),
        "sources": _digest([known[c].digest for c in clip_ids]) if complete else "",
    }
    if ENCODER in reader.identity:  # Not of BEATs, as before.
        found["encoder"] = str(reader.identity[ENCODER])
    return found


def _pseudo_labels(reader: PseudoLabelReader, clip_ids: Sequence[str]) -> dict[str, str]:
    known = read_sources(reader.path, reader.rows.clip_ids)
    complete = all(clip_id in known for clip_id in clip_ids)
    sampled: list[bytes] = []
    if not reader.identity:
        # Files need not have the clips that are held out.
        absent = set(reader.missing(clip_ids))
        there = [clip_id for clip_id in clip_ids if clip_id not in absent]
        step = max(1, len(there) // _N_SAMPLED)
        sampled = [reader.labels(clip_id).tobytes() for clip_id in there[::step][:_N_SAMPLED]]
    identity = sorted((name, str(value)) for name, value in reader.identity.items())
    return {
        "sha256": _digest(identity, (reader.n_frames, reader.n_classes), sampled),
        "checkpoints": str(reader.identity.get(CHECKPOINT_SHA256, "")),
        "sources": _digest([known[c].digest for c in clip_ids]) if complete else "",
    }


def _durations(names: Sequence[str], durations_s: Mapping[str, float]) -> dict[str, Any]:
    rows = [(name, float(durations_s[name])) for name in names if name in durations_s]
    return {"sha256": _digest(rows), "rows": len(rows)}


def _scored_names(loaded: LoadedCorpus) -> list[str]:
    """Clips, or the recordings that are scored in their place, whose durations matter."""
    if loaded.corpus.cut_from_recordings:
        return sorted({recording_name(clip_id) for clip_id in loaded.clip_ids})
    return sorted((*loaded.clip_ids, *loaded.left_out))


def _weak_rows(weak: WeakTable) -> list[tuple[str, list[str]]]:
    labels = weak.vocabulary.labels
    return [
        (clip_id, [labels[int(i)] for i in np.flatnonzero(row)])
        for clip_id, row in zip(weak.clip_ids, weak.target, strict=True)
    ]


def _digest(*parts: Any) -> str:
    """SHA-256 of plain values: `repr` of floats is exact, and of strings unambiguous."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(part if isinstance(part, str | tuple) else list(part)).encode())
    return digest.hexdigest()
