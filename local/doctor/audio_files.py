"""Inspect audio files and check their lengths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from desed_task.audio.clip_files import clip_files, find_clips
from desed_task.audio.files import AudioInfo, probe
from desed_task.audio.formats import AUDIO_SUFFIXES
from desed_task.audio.inspection import AudioContent, inspect_audio
from desed_task.dataio.annotations import EventTable
from desed_task.dataio.clip_names import match_names
from desed_task.errors import InputError
from desed_task.evaluation.segments import clip_span
from desed_task.parallel import thread_map
from local.config import RecipeConfig
from local.data.expected_clips import durations_of
from local.task.corpus import Corpus

# Names of clips cut from recordings truncate times to 0.01 s; resampling rounds to samples.
_EXACT_S = 0.015
# A clip downloaded again may differ slightly in length from that in a published table.
_TABLE_S = 0.1
# Strong labels of AudioSet may extend to 10 s although the video ends slightly earlier.
_EVENT_S = 0.5
# Plausible length of a clip without further information, as a share of `data.audio_max_len`.
_SHORTEST, _LONGEST = 0.1, 1.5
# The shorter limit holds where half of the clips are at least this long.
_USUAL = 0.5


class FileInspection(NamedTuple):
    """Result of inspecting a file.

    Attributes:
        examined: content of the 16 kHz file, or why it cannot be read.
        original_s: duration of the original it was made from, if there is one.
    """

    examined: AudioContent | str
    original_s: float | None


def original_files(corpus: Corpus, clips: Iterable[str]) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Clip -> its file in the folder of originals, and originals that are none of the clips'."""
    if not corpus.originals:
        return {}, ()
    files = clip_files(corpus.originals)
    if not files:
        with suppress(InputError):
            files = find_clips(corpus.originals, suffixes=AUDIO_SUFFIXES).files
    clips = tuple(clips)
    try:
        names = match_names(clips, files)
    except InputError:
        names = {clip_id: clip_id for clip_id in clips if clip_id in files}
    used = set(names.values())
    found = {clip_id: files[name] for clip_id, name in names.items()}
    return found, tuple(name for name in files if name not in used)


def inspect_files(
    wavs: Mapping[Corpus, Mapping[str, Path]],
    *,
    jobs: int | None,
    progress: bool,
) -> dict[str, dict[str, FileInspection]]:
    """Read every file in threads: corpus -> clip -> result."""
    work: list[tuple[Path, Path | None]] = []
    for corpus, clips in wavs.items():
        originals, _ = original_files(corpus, clips)
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
    *,
    any_length: bool,
) -> dict[str, str]:
    """Clips of wrong length -> their length and the reason.

    A clip must be as long as its original, its row in a durations table and, if it was cut from a
    recording, its name say, and events must not end after it. It must also last at most 1.5 times
    `data.audio_max_len` and, where most clips of the corpus are so long, at least 0.1 times that;
    AudioSet has clips shorter than 10 s.

    Args:
        corpus: the corpus.
        config: of the data.
        found: clip -> result of inspecting it.
        events: of the corpus, if it has any.
        any_length: whether long clips are trained on and scored in windows.
    """
    infos = {c: f.examined.info for c, f in found.items() if isinstance(f.examined, AudioContent)}
    rules = tuple(_rules(corpus, found))
    ends = {} if events is None else _last_offsets(events)
    clip_s = config.data.audio_max_len
    lengths_s = [info.duration_s for info in infos.values()]
    usual = bool(lengths_s) and float(np.median(lengths_s)) >= _USUAL * clip_s
    shortest_s = _SHORTEST * clip_s if usual else 0.0
    longest_s = math.inf if any_length else _LONGEST * clip_s
    wrong = {}
    for clip_id, info in infos.items():
        reason = _disagrees(clip_id, info, rules) or _unlikely(
            info.duration_s, ends.get(clip_id, 0.0), (shortest_s, longest_s), clip_s
        )
        if reason:
            wrong[clip_id] = f"{info.duration_s:.2f} s, {reason}"
    return wrong


def _rules(corpus: Corpus, found: Mapping[str, FileInspection]) -> Iterator[_Rule]:
    if corpus.cut_from_recordings:
        yield _Rule(_named_s, _EXACT_S, "by its name")
    yield _Rule(lambda clip_id: found[clip_id].original_s, _EXACT_S, "like its original")
    if not corpus.cut_from_recordings and corpus.durations:
        try:
            table = durations_of(Path(corpus.durations), found, Path(corpus.folder))
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


def _unlikely(
    duration_s: float, last_offset_s: float, limits_s: tuple[float, float], clip_s: float
) -> str:
    if last_offset_s > duration_s + _EVENT_S:
        return f"but has an event until {last_offset_s:.2f} s"
    if not limits_s[0] <= duration_s <= limits_s[1]:
        return f"a clip has some {clip_s:g} s"
    return ""


def _last_offsets(events: EventTable) -> dict[str, float]:
    last_s = np.zeros(len(events.clip_ids))
    np.maximum.at(last_s, events.clip_index, events.offset_s)
    return dict(zip(events.clip_ids, last_s.tolist(), strict=True))
