"""Sets that embeddings are extracted from, and their folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from desed_task.audio.clip_files import find_clips
from desed_task.encoders.weights_file import ENCODER_RATE
from desed_task.errors import InputError
from local.config import RecipeConfig
from local.corpora import EVALUATION, SYNTHETIC_VALIDATION, TEST, TRAINING, nothing_there

CORPORA = (*TRAINING, SYNTHETIC_VALIDATION, *TEST, EVALUATION)
# Set (the name of its file) -> its folder's key in the configuration's `data` section.
FOLDER_KEYS: dict[str, str] = {corpus.name: corpus.folder_key for corpus in CORPORA}
# Sets published a second time under another name; the weak clips are split in training.
REPEATS: dict[str, str] = {"weak_val": "weak_train"}
SETS: tuple[str, ...] = (*FOLDER_KEYS, *REPEATS)


def choose_sets(only: Sequence[str] | None, *, eval_set: bool) -> tuple[str, ...]:
    """The sets to extract; a set comes before its repetition.

    Args:
        only: names of sets, with commas or as several words; None for all but the evaluation set.
        eval_set: whether to add the evaluation set.

    Raises:
        InputError: a name is not that of a set.
    """
    if only is not None:
        only = [name.strip() for word in only for name in word.split(",") if name.strip()]
        if not only:
            raise InputError(f"--only names no set; known: {', '.join(SETS)}")
    unknown = [name for name in only or () if name not in SETS]
    if unknown:
        raise InputError(f"--only {' '.join(unknown)}: no such set; known: {', '.join(SETS)}")
    wanted = set(only or set(SETS) - {EVALUATION.name})
    wanted |= {EVALUATION.name} if eval_set else set()
    wanted |= {REPEATS[name] for name in wanted if name in REPEATS}
    return tuple(name for name in SETS if name in wanted)


def find_wavs(config: RecipeConfig, sets: Sequence[str]) -> dict[str, dict[str, Path]]:
    """The files of each set by clip, sorted by path; prints a line about each odd folder.

    Raises:
        InputError: folders are missing or empty (all of them at once), or encoders do not
            support the sample rate.
    """
    if config.data.fs != ENCODER_RATE:
        raise InputError(f"data.fs is {config.data.fs}; encoders take audio at {ENCODER_RATE} Hz")
    needed = [corpus for corpus in CORPORA if corpus.name in {REPEATS.get(n, n) for n in sets}]
    if nothing := nothing_there(needed, config.data):
        raise InputError(nothing)
    wavs: dict[str, dict[str, Path]] = {}
    problems = []
    for name in sets:
        key = FOLDER_KEYS[REPEATS.get(name, name)]
        try:
            found = find_clips(getattr(config.data, key))
        except InputError as error:
            if name not in REPEATS:
                problems.append(f"data.{key}: {error}")
            continue
        wavs[name] = found.files
        for note in () if name in REPEATS else found.notes:
            print(note)
    if problems:
        hint = "These sets cannot be extracted (--only NAME ... extracts others):"
        raise InputError.collect(problems, hint)
    return wavs
