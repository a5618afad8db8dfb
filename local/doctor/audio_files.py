"""Inspect audio files and check their lengths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from desed_task.audio.clip_files import clip_files
from desed_task.audio.files import AudioInfo, probe
from desed_task.audio.inspection import AudioContent, inspect_audio
from desed_task.dataio.annotations import EventTable
from desed_task.dataio.clip_names import match_names
from desed_task.errors import InputError
from desed_task.evaluation.segments import clip_span
from desed_task.parallel import thread_map
from local.config import RecipeConfig
from local.corpora import MAESTRO_TRAIN, MAESTRO_VALIDATION, SCORED_IN_WINDOWS, TRAINING, Corpus
from local.data.expected_clips import durations_of

# Names of MAESTRO's clips truncate times to 0.01 s; resampling rounds to samples.
_EXACT_S = 0.015
# A clip downloaded again may differ slightly in length from that in a published table.
_TABLE_S = 0.1
# Strong labels of AudioSet may extend to 10 s although the video ends slightly earlier.
_EVENT_S = 0.5
# Plausible length of a clip without further information, as a share of `data.audio_max_len`.
_SHORTEST, _LONGEST = 0.1, 1.5


class FileInspection(NamedTuple):
    """Result of inspecting a file.

    Attributes:
        examined: content of the 16 kHz file, or why it cannot be read.
        original_s: duration of the original it was made from, if there is one.
    """

    examined: AudioContent | str
    original_s: float | None


def original_files(folder: Path, clips: Iterable[str]) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Clip -> its file in the folder of originals, and originals that are none of the clips'."""
    files, clips = clip_files(folder), tuple(clips)
    try:
        names = match_names(clips, files)
    except InputError:
        names = {clip_id: clip_id for clip_id in clips if clip_id in files}
    used = set(names.values())
    found = {clip_id: files[name] for clip_id, name in names.items()}
    return found, tuple(name for name in files if name not in used)


def inspect_files(
    config: RecipeConfig,
    wavs: Mapping[Corpus, Mapping[str, Path]],
    *,
    jobs: int | None,
    progress: bool,
) -> dict[str, dict[str, FileInspection]]:
    """Read every file in threads: corpus -> clip -> result."""
    work: list[tuple[Path, Path | None]] = []
    for corpus, clips in wavs.items():
        originals, _ = original_files(Path(getattr(config.data, f"{corpus.folder_key}_44k")), clips)
        work += [(path, originals.get(clip_id)) for clip_id, path in clips.items()]
    bar = "reading audio"
    results = iter(list(thread_map(_inspect, work, jobs=jobs, desc=bar, progress=progress)))
    return {
        corpus.name: {clip_id: next(results) for clip_id in clips} for corpus, clips in wavs.items()
    }


def _inspect(job: tuple[Path, Path | None]) -> FileInspection:
    path, original = job
    try:
        examined: AudioContent | str = inspect_audio(path)
    except InputError as error:
        examined = str(error)
    try:
        original_s = None if original is None else probe(original).duration_s
    except InputError:
        original_s = None  # Reported by the preparation, which reads it.
    return FileInspection(examined, original_s)


class _Rule(NamedTuple):
    """A source of expected clip lengths (None if unknown) and its tolerance."""

    stated_s: Callable[[str], float | None]
    tolerance_s: float
    who: str


def wrong_lengths(
    corpus: Corpus,
    config: RecipeConfig,
    found: Mapping[str, FileInspection],
    events: EventTable | None,
) -> dict[str, str]:
    """Clips of wrong length -> their length and the reason.

    A clip must be as long as its original, its row in a durations table and, for MAESTRO, its name
    say, and events must not end after it. It must also last 0.1 to 1.5 times `data.audio_max_len`,
    or longer if it is only scored, in windows; AudioSet has clips shorter than 10 s.
    """
    infos = {c: f.examined.info for c, f in found.items() if isinstance(f.examined, AudioContent)}
    rules = tuple(_rules(corpus, config, found))
    ends = {} if events is None else _last_offsets(events)
    clip_s = config.data.audio_max_len
    longest_s = math.inf if is_only_scored(corpus) else _LONGEST * clip_s
    wrong = {}
    for clip_id, info in infos.items():
        reason = _disagrees(clip_id, info, rules) or _unlikely(
            info.duration_s, ends.get(clip_id, 0.0), clip_s, longest_s
        )
        if reason:
            wrong[clip_id] = f"{info.duration_s:.2f} s, {reason}"
    return wrong


def is_only_scored(corpus: Corpus) -> bool:
    """Whether a corpus is scored in windows and not trained on: its clips may have any length."""
    return corpus in SCORED_IN_WINDOWS and corpus not in TRAINING


def _rules(
    corpus: Corpus, config: RecipeConfig, found: Mapping[str, FileInspection]
) -> Iterator[_Rule]:
    if corpus in (MAESTRO_TRAIN, MAESTRO_VALIDATION):
        yield _Rule(_named_s, _EXACT_S, "by its name")
    yield _Rule(lambda clip_id: found[clip_id].original_s, _EXACT_S, "like its original")
    if corpus.duration_key is not None and corpus != MAESTRO_VALIDATION:
        try:
            path = Path(getattr(config.data, corpus.duration_key))
            table = durations_of(path, found, Path(getattr(config.data, corpus.folder_key)))
        except InputError:
            return  # Reported by training's own check.
        yield _Rule(table.get, _TABLE_S, "by its durations table")


def _named_s(clip_id: str) -> float | None:
    try:
        span = clip_span(clip_id)
    except InputError:
        return None
    return span.offset_s - span.onset_s


def _disagrees(clip_id: str, info: AudioInfo, rules: Sequence[_Rule]) -> str:
    for told_s, tolerance_s, who in rules:
        expected_s = told_s(clip_id)
        if expected_s is not None and abs(info.duration_s - expected_s) > tolerance_s:
            return f"should be {expected_s:.2f} s {who}"
    return ""


def _unlikely(duration_s: float, last_offset_s: float, clip_s: float, longest_s: float) -> str:
    if last_offset_s > duration_s + _EVENT_S:
        return f"but has an event until {last_offset_s:.2f} s"
    if not _SHORTEST * clip_s <= duration_s <= longest_s:
        return f"a clip has some {clip_s:g} s"
    return ""


def _last_offsets(events: EventTable) -> dict[str, float]:
    last_s = np.zeros(len(events.clip_ids))
    np.maximum.at(last_s, events.clip_index, events.offset_s)
    return dict(zip(events.clip_ids, last_s.tolist(), strict=True))
