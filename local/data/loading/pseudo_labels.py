"""Open the pseudo-labels that a training reads; refuse missing, partial and stale ones."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from desed_task.audio.windows import WindowKey, is_long
from desed_task.dataio.embedding_sources import changed_clips, read_sources
from desed_task.dataio.row_stores.forms import PSEUDO_LABEL_REMEDY
from desed_task.dataio.row_stores.pseudo_labels import PseudoLabelReader
from desed_task.errors import InputError, agree, count_of
from local.config import RecipeConfig
from local.data.corpus_checks import examples
from local.data.loaded_corpus import LoadedCorpus


def add_pseudo_labels(
    loaded: dict[str, LoadedCorpus], parts: Sequence[LoadedCorpus], config: RecipeConfig
) -> list[str]:
    """Open the pseudo-labels of the clips that are trained on.

    Files that do not say which checkpoints computed them are used with a warning.

    Args:
        loaded: corpora by name; those of `parts` are given their readers.
        parts: of each corpus that is trained on, these clips.
        config: folder of the pseudo-labels, classes and frames.

    Returns:
        Messages about faults.
    """
    folder = Path(str(config.training.pseudo_labels))
    problems: list[str] = []
    for part in parts:
        _warn_of_beginnings(part, config)
        path = folder / f"{part.corpus.stem}.hdf5"
        try:
            reader = PseudoLabelReader(path)
            names = reader.rows.match(part.files)
        except InputError as error:
            problems.append(f"training.pseudo_labels: {error}")
            continue
        faults = [*_misfits(reader, config), *_lacking(reader, part)]
        faults += [] if faults else _changed(reader, part, names)
        problems += [f"training.pseudo_labels: {path}: {fault}" for fault in faults]
        name = part.corpus.name
        loaded[name] = replace(loaded[name], pseudo=reader)
        if not reader.identity:
            warnings.warn(
                f"training.pseudo_labels: {path} does not say which checkpoints computed it, or "
                "from which audio; that it fits the clips is not checked",
                UserWarning,
                stacklevel=2,
            )
    return list(dict.fromkeys(problems))


def _misfits(reader: PseudoLabelReader, config: RecipeConfig) -> Iterator[str]:
    """Messages about other frames, classes or length of clips."""
    remedy = f"{PSEUDO_LABEL_REMEDY} with checkpoints of this task"
    classes, n_frames = config.detection_task.classes, config.grid.n_frames
    if (reader.n_frames, reader.n_classes) != (n_frames, len(classes)):
        yield (
            f"has {count_of(reader.n_frames, 'frame')} of "
            f"{count_of(reader.n_classes, 'class', 'classes')} per clip, the task "
            f"{n_frames} of {len(classes)}; {remedy}"
        )
    elif reader.classes and reader.classes != classes:
        pairs = zip(reader.classes, classes, strict=True)
        theirs, ours = next((one, other) for one, other in pairs if one != other)
        yield f"has other classes than the task ({theirs} where it has {ours}); {remedy}"
    clip_s = reader.identity.get("clip_s", config.data.audio_max_len)
    if clip_s != config.data.audio_max_len:
        yield (
            f"is of clips of {clip_s:g} s, data.audio_max_len is {config.data.audio_max_len:g}; "
            f"{remedy}"
        )


def _lacking(reader: PseudoLabelReader, part: LoadedCorpus) -> Iterator[str]:
    """Messages about clips and windows without pseudo-labels."""
    if missing := reader.missing(part.clip_ids):
        yield (
            f"lacks {len(missing)} of {count_of(len(part.clip_ids), 'clip')} "
            f"({examples(missing)}); {PSEUDO_LABEL_REMEDY} again"
        )
    if lacking := reader.missing(_windows(part)):
        clips = list(dict.fromkeys(window.clip_id for window in lacking))
        yield (
            f"lacks {count_of(len(lacking), 'window')} of "
            f"{count_of(len(clips), 'longer clip')} ({examples(clips)}); "
            f"{PSEUDO_LABEL_REMEDY} again"
        )


def _warn_of_beginnings(part: LoadedCorpus, config: RecipeConfig) -> None:
    """Warn of longer clips that are not cropped at random, as their pseudo-labels do not move."""
    clip_s = config.data.audio_max_len
    long = [one for one in part.clip_ids if is_long(part.durations_s[one], clip_s)]
    if part.corpus.trains_on_windows or not long:
        return
    warnings.warn(
        f"training.pseudo_labels: only the first {clip_s:g} s of {count_of(len(long), 'clip')} of "
        f"{part.corpus.title} are trained on ({examples(long)}), as pseudo-labels of longer clips "
        f"are of these; to train on all of it, set long: windows for this corpus and "
        f"{PSEUDO_LABEL_REMEDY} again",
        UserWarning,
        stacklevel=3,
    )


def _windows(part: LoadedCorpus) -> list[WindowKey]:
    if part.long is None or not part.corpus.trains_on_windows:
        return []
    own = set(part.clip_ids)
    return [window for window in part.long.further if window.clip_id in own]


def _changed(reader: PseudoLabelReader, part: LoadedCorpus, names: dict[str, str]) -> Iterator[str]:
    """A message if clips have other audio than their pseudo-labels."""
    if not reader.identity:
        return
    sources = read_sources(reader.path, reader.rows.clip_ids)
    known = {clip_id: sources[name] for clip_id, name in names.items() if name in sources}
    clips = {clip_id: part.files[clip_id] for clip_id in part.clip_ids}
    written_s = reader.path.stat().st_mtime
    if changed := changed_clips(clips, known, written_s, read=True).changed:
        yield (
            f"{count_of(len(changed), 'clip')} {agree(len(changed), 'has', 'have')} other audio "
            f"than it was computed from ({examples(changed)}); {PSEUDO_LABEL_REMEDY} again"
        )
