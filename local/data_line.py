"""One line on the data that a run is made from, before it starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from desed_task.dataio.embeddings import EmbeddingReader
from local.loading import LoadedCorpus


def data_line(loaded: Mapping[str, LoadedCorpus]) -> str:
    """Clips, hours and what is absent, from what was read; no audio is read for it.

    Args:
        loaded: corpora by name.
    """
    sets = tuple(loaded.values())
    n_clips = sum(len(one.clip_ids) for one in sets)
    hours = sum(sum(one.durations_s.values()) for one in sets) / 3600
    line = f"data: {n_clips} clips in {len(sets)} sets, {hours:.2f} h; "
    absent = [f"{len(one.missing)} of {one.corpus.title}" for one in sets if one.missing]
    absent += [
        f"{len(one.missing_recordings)} recordings of {one.corpus.title}"
        for one in sets
        if one.missing_recordings
    ]
    line += f"absent: {', '.join(absent)}" if absent else "nothing that is listed is absent"
    n_models = len(identities(one.embeddings for one in sets if one.embeddings is not None))
    if n_models > 1:
        line += f"; embeddings of {n_models} different BEATs, clip lengths or precisions"
        line += ": extract them again"
    if absent or n_models > 1:
        line += " (generate_dcase_task4_2024.py --check tells more)"
    return line


def left_out_line(loaded: Mapping[str, LoadedCorpus]) -> str | None:
    """How many clips of which corpora are left out for having no event; None where none is.

    Args:
        loaded: corpora by name.
    """
    sets = [one for one in loaded.values() if one.left_out]
    if not sets:
        return None
    counts = ", ".join(
        f"{len(one.left_out)} of {one.corpus.title} ({one.corpus.name})" for one in sets
    )
    return (
        f"clips without events, left out: {counts}; data.keep_clips_without_events keeps those of "
        "the corpora that it names"
    )


def identities(readers: Iterable[EmbeddingReader]) -> list[dict[str, str | float]]:
    """What files of embeddings were made with, each once; published files do not say it."""
    found: list[dict[str, str | float]] = []
    for reader in readers:
        if reader.identity and reader.identity not in found:
            found.append(reader.identity)
    return found
