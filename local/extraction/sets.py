"""Sets that embeddings are extracted from, and their folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from desed_task.audio.clip_files import find_clips
from desed_task.encoders.weights_file import ENCODER_RATE
from desed_task.errors import InputError
from local.config import RecipeConfig
from local.data.presence import nothing_there

# Sets published a second time under another name; the weak clips are split in training.
REPEATS: dict[str, str] = {"weak_val": "weak_train"}


def sets_of(config: RecipeConfig) -> tuple[str, ...]:
    """Names of the sets of a configuration, which their files have too."""
    names = [corpus.stem for corpus in config.detection_task.used]
    return (*names, *(name for name, of in REPEATS.items() if of in names))


def choose_sets(
    config: RecipeConfig, only: Sequence[str] | None, *, eval_set: bool
) -> tuple[str, ...]:
    """The sets to extract; a set comes before its repetition.

    Args:
        config: gives the sets.
        only: names of sets, with commas or as several words; None for all but the evaluation set.
        eval_set: whether to add the evaluation set.

    Raises:
        InputError: a name is not that of a set.
    """
    sets = sets_of(config)
    if only is not None:
        only = [name.strip() for word in only for name in word.split(",") if name.strip()]
        if not only:
            raise InputError(f"--only names no set; known: {', '.join(sets)}")
    unknown = [name for name in only or () if name not in sets]
    if unknown:
        raise InputError(f"--only {' '.join(unknown)}: no such set; known: {', '.join(sets)}")
    evaluated = {corpus.stem for corpus in config.detection_task.evaluated}
    wanted = set(only or set(sets) - evaluated)
    wanted |= evaluated if eval_set else set()
    wanted |= {REPEATS[name] for name in wanted if name in REPEATS}
    return tuple(name for name in sets if name in wanted)


def find_wavs(config: RecipeConfig, sets: Sequence[str]) -> dict[str, dict[str, Path]]:
    """The files of each set by clip, sorted by path; prints a line about each odd folder.

    Raises:
        InputError: folders are missing or empty (all of them at once), or encoders do not
            support the sample rate.
    """
    if config.data.fs != ENCODER_RATE:
        raise InputError(f"data.fs is {config.data.fs}; encoders take audio at {ENCODER_RATE} Hz")
    by_name = {corpus.stem: corpus for corpus in config.detection_task.used}
    needed = [by_name[name] for name in dict.fromkeys(REPEATS.get(n, n) for n in sets)]
    if nothing := nothing_there(needed, config):
        raise InputError(nothing)
    wavs: dict[str, dict[str, Path]] = {}
    problems = []
    for name in sets:
        corpus = by_name[REPEATS.get(name, name)]
        try:
            found = find_clips(corpus.folder)
        except InputError as error:
            if name not in REPEATS:
                problems.append(f"{corpus.folder_key}: {error}")
            continue
        wavs[name] = found.files
        for note in () if name in REPEATS else found.notes:
            print(note)
    if problems:
        hint = "These sets cannot be extracted (--only NAME ... extracts others):"
        raise InputError.collect(problems, hint)
    return wavs
