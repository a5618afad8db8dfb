"""Sets that embeddings are extracted from: their files and the windows of longer ones.

A set has the file of embeddings of one corpus, or of several that name the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from desed_task.audio.windows import WindowGrid
from desed_task.dataio.clip_names import match_names
from desed_task.encoders.weights_file import ENCODER_RATE
from desed_task.errors import InputError
from local.config import RecipeConfig
from local.data.clips.files import clips_of
from local.data.clips.windows import hop_of, takes_windows, windows_of_corpus
from local.data.label_tables import labelled_clips
from local.data.presence import audio_remedy, nothing_there
from local.schema.published_keys import REPEATED_SETS
from local.task.corpus import Corpus


def corpora_of_sets(config: RecipeConfig) -> dict[str, tuple[Corpus, ...]]:
    """Set -> the corpora whose embeddings its file has, in the order of the description."""
    found: dict[str, tuple[Corpus, ...]] = {}
    for corpus in config.detection_task.used:
        found[corpus.stem] = (*found.get(corpus.stem, ()), corpus)
    return found


def sets_of(config: RecipeConfig) -> tuple[str, ...]:
    """Names of the sets of a configuration, which their files have too."""
    names = tuple(corpora_of_sets(config))
    return (*names, *(name for name, of in REPEATED_SETS.items() if of in names))


def choose_sets(
    config: RecipeConfig, only: Sequence[str] | None, *, eval_set: bool
) -> tuple[str, ...]:
    """The sets to extract; a set comes before its repetition.

    Args:
        config: gives the sets.
        only: names of sets, with commas or as several words; None for all but those that are scored
            without labels.
        eval_set: whether to add those.

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
    task = config.detection_task
    evaluated = {corpus.stem for corpus in task.evaluated}
    others = {corpus.stem for corpus in task.used if corpus not in task.evaluated}
    wanted = set(only or set(sets) - (evaluated - others))
    wanted |= evaluated if eval_set else set()
    wanted |= {REPEATED_SETS[name] for name in wanted if name in REPEATED_SETS}
    return tuple(name for name in sets if name in wanted)


def find_wavs(config: RecipeConfig, sets: Sequence[str]) -> dict[str, dict[str, Path]]:
    """The files of each set by clip, sorted by path; prints a line about each odd folder.

    Raises:
        InputError: folders are missing or empty (all of them at once), or encoders do not
            support the sample rate.
    """
    if config.data.fs != ENCODER_RATE:
        raise InputError(f"data.fs is {config.data.fs}; encoders take audio at {ENCODER_RATE} Hz")
    corpora = corpora_of_sets(config)
    originals = dict.fromkeys(REPEATED_SETS.get(name, name) for name in sets)
    if nothing := nothing_there([one for name in originals for one in corpora[name]], config):
        raise InputError(nothing)
    found: dict[str, dict[str, Path]] = {}
    problems: list[str] = []
    for name in originals:
        try:
            found[name] = _files_of(corpora[name], config)
        except InputError as error:
            problems.append(str(error))
    if problems:
        hint = "These sets cannot be extracted (--only NAME ... extracts others):"
        raise InputError.collect(problems, hint)
    return {name: found[REPEATED_SETS.get(name, name)] for name in sets}


def windows_of_sets(config: RecipeConfig) -> dict[str, Callable[[], WindowGrid]]:
    """Set -> what gives the windows of its longer clips, of sets whose clips have windows.

    Raises:
        InputError: corpora of one set have windows at different distances.
    """
    task, found, problems = config.detection_task, {}, []
    for name, corpora in corpora_of_sets(config).items():
        windowed = [corpus for corpus in corpora if takes_windows(task, corpus)]
        if len({hop_of(config, corpus) for corpus in windowed}) > 1:
            hops = ", ".join(f"{hop_of(config, one):g} s of {one.name}" for one in windowed)
            problems.append(
                f"{name}: windows at different distances ({hops}); give these corpora the same "
                "hop_s, or embeddings of their own (task.corpora.NAME.embeddings)"
            )
        if windowed:
            found[name] = windows_of_corpus(config, windowed[0])
    if problems:
        raise InputError.collect(problems)
    return found | {name: found[of] for name, of in REPEATED_SETS.items() if of in found}


def _files_of(corpora: Sequence[Corpus], config: RecipeConfig) -> dict[str, Path]:
    """Clip -> file of all corpora of a set; prints a line about what is odd."""
    files: dict[str, Path] = {}
    notes: list[str] = []
    problems: list[str] = []
    for corpus in corpora:
        try:
            clips = clips_of(corpus)
        except InputError as error:
            problems.append(f"{corpus.folder_key}: {error}{audio_remedy(corpus, config)}")
            continue
        try:
            files |= _labelled(corpus, clips.files)
        except InputError as error:
            problems.append(f"{corpus.table_key}: {error}")
        notes += clips.notes
    if problems:
        raise InputError("\n".join(dict.fromkeys(problems)))
    for note in dict.fromkeys(notes):
        print(note)
    # In the order of the paths, whatever that of the corpora.
    return dict(sorted(files.items(), key=lambda clip: clip[1].parts))


def _labelled(corpus: Corpus, files: dict[str, Path]) -> dict[str, Path]:
    """The files of a corpus, without those whose rows its table does not choose."""
    chosen = labelled_clips(corpus)
    if chosen is None:
        return files
    there = set(match_names(chosen, files).values())
    return {clip_id: file for clip_id, file in files.items() if clip_id in there}
