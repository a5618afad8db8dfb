"""Lines that a stage prints about its data before it starts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Final

from desed_task.audio.windows import CROPPED_S
from desed_task.dataio.embeddings import RowReader
from desed_task.errors import agree, command_name, count_of
from desed_task.file_names import escape_name
from local.config import RecipeConfig
from local.data.clips.windows import hop_of
from local.data.loaded_corpus import LoadedCorpus

_EXAMPLES: Final = 3


def data_summary(loaded: Mapping[str, LoadedCorpus]) -> str:
    """One line: number of clips, hours and missing clips of loaded corpora; reads no audio.

    Args:
        loaded: corpora by name.
    """
    sets = tuple(loaded.values())
    n_clips = sum(len(one.clip_ids) for one in sets)
    hours = sum(sum(one.durations_s.values()) for one in sets) / 3600
    line = f"data: {count_of(n_clips, 'clip')} in {count_of(len(sets), 'set')}, {hours:.2f} h; "
    absent = [f"{len(one.missing)} of {one.corpus.title}" for one in sets if one.missing]
    absent += [
        f"{count_of(len(one.missing_recordings), 'recording')} of {one.corpus.title}"
        for one in sets
        if one.missing_recordings
    ]
    line += f"missing: {', '.join(absent)}" if absent else "no listed clip is missing"
    n_models = len(
        embedding_identities(one.embeddings for one in sets if one.embeddings is not None)
    )
    if n_models > 1:
        line += f"; embeddings with {n_models} different weights, clip lengths or precisions"
        line += ": extract them again"
    if absent or n_models > 1:
        line += f" (details: {command_name('generate_dcase_task4_2024.py')} --check)"
    return line


def left_out_line(loaded: Mapping[str, LoadedCorpus]) -> str | None:
    """One line: number of clips per corpus left out for having no event; None if there are none.

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
        f"clips without events, left out: {counts}; to use them, add the corpus to "
        "data.keep_clips_without_events"
    )


def long_clip_lines(
    sets: Iterable[LoadedCorpus], config: RecipeConfig, *, trained_on: bool = False
) -> list[str]:
    """Lines that count clips longer than the network's input.

    Args:
        sets: parts of corpora.
        config: length of a clip and distance of windows.
        trained_on: whether they are trained on, and not scored.
    """
    clip_s = config.data.audio_max_len
    cropped: list[str] = []
    windowed: dict[float, list[str]] = {}
    for one in sets:
        in_windows = {} if one.long is None else one.long.spans
        longer = [clip_id for clip_id in one.clip_ids if one.durations_s[clip_id] > clip_s]
        n_long = sum(clip_id in in_windows for clip_id in longer)
        of_hop = windowed.setdefault(hop_of(config, one.corpus), [])
        for n_clips, counts in ((len(longer) - n_long, cropped), (n_long, of_hop)):
            if n_clips:
                counts.append(f"{n_clips} of {one.corpus.title} ({one.corpus.name})")
    lines = []
    if cropped:
        lines.append(f"clips longer than {clip_s:g} s, cropped: {', '.join(cropped)}")
    limit_s = clip_s + CROPPED_S
    for hop_s, counts in windowed.items():
        names = ", ".join(counts)
        if names and trained_on:
            lines.append(
                f"clips longer than {limit_s:g} s, trained on in windows {hop_s:g} s apart: {names}"
            )
        elif names:
            lines.append(
                f"clips longer than {limit_s:g} s, scored in windows {hop_s:g} s apart: {names}"
            )
    return lines


def trained_and_scored_lines(
    trained: Iterable[LoadedCorpus], scored: Iterable[LoadedCorpus]
) -> list[str]:
    """Lines that name clips which are trained on as one corpus and scored as another.

    Args:
        trained: parts of corpora that are trained on.
        scored: parts that are scored by validations and tests.
    """
    files = [(one, _files_of(one)) for one in trained]
    lines: dict[str, None] = {}
    for one in scored:
        there = _files_of(one)
        for other, trained_on in files:
            clips = [clip for file, clip in there.items() if file in trained_on]
            if clips and other.corpus != one.corpus:
                more = ", ..." if len(clips) > _EXAMPLES else ""
                lines[
                    f"{count_of(len(clips), 'clip')} of {one.corpus.title} "
                    f"({', '.join(map(escape_name, clips[:_EXAMPLES]))}{more}) "
                    f"{agree(len(clips), 'is', 'are')} scored, but trained on in "
                    f"{other.corpus.title}: scores will be too good; take "
                    f"{agree(len(clips), 'it', 'them')} out of one of the two (`pattern`, `clips`)"
                ] = None
    return list(lines)


def _files_of(loaded: LoadedCorpus) -> dict[str, str]:
    """Path without ending, whatever leads to its folder -> clip."""
    folder = os.path.realpath(loaded.folder)
    return {os.path.join(folder, clip): clip for clip in loaded.clip_ids}


def embedding_identities(readers: Iterable[RowReader]) -> list[dict[str, str | float]]:
    """Distinct identities (weights, clip length, precision) of embeddings, where recorded."""
    found: list[dict[str, str | float]] = []
    for reader in readers:
        if reader.identity and reader.identity not in found:
            found.append(reader.identity)
    return found
