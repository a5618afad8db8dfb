"""Whether the corpora of a configuration are there at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from desed_task.audio.clip_files import clip_files
from desed_task.errors import command_name, count_of
from desed_task.file_names import escape_name
from local.config import MINI_FOLDER, RecipeConfig
from local.task.corpus import Corpus

_MINI = "--conf_file confs/mini.yaml"
_MINI_PATH = ("mini", "dcase")


def is_there(corpus: Corpus) -> bool:
    """Whether a corpus has a table, or a folder with anything in it."""
    if corpus.table is not None and Path(corpus.table.path).exists():
        return True
    try:
        with os.scandir(corpus.folder) as entries:
            return next(entries, None) is not None
    except FileNotFoundError:
        return False
    except OSError:
        return True  # It cannot be searched, which is reported of that folder.


def nothing_there(needed: Sequence[Corpus], config: RecipeConfig) -> str | None:
    """One message if none of several corpora exists; None if one does, or only one is needed.

    Args:
        needed: corpora that a command needs.
        config: of the command.
    """
    if len(needed) < 2 or any(is_there(corpus) for corpus in needed):
        return None
    folders = [Path(corpus.folder) for corpus in needed]
    above = Path(os.path.commonpath(folders)) if _alike(folders) else folders[0]
    return (
        f"no data in {escape_name(above)} (looked up from {escape_name(Path.cwd())}): none "
        f"of the {count_of(len(needed), 'corpus', 'corpora')} is there; {_remedy(needed, config)}"
    )


def _remedy(needed: Sequence[Corpus], config: RecipeConfig) -> str:
    generate = command_name("generate_dcase_task4_2024.py")
    if config.task:
        return (
            "get the data and set task.root to its folder, then prepare it with "
            f"{generate} --conf_file (the same file)"
        )
    if is_mini(needed):
        return f"make it with {generate} --mini"
    if MINI_FOLDER.is_dir():
        return f"prepare it with {generate}, or use the mini corpus in {MINI_FOLDER} with {_MINI}"
    return f"prepare it with {generate}, or try the mini corpus: {generate} --mini, then {_MINI}"


def _alike(folders: Sequence[Path]) -> bool:
    """Whether paths are all absolute or all relative, and so have a folder in common."""
    return len({folder.is_absolute() for folder in folders}) == 1


def is_mini(needed: Sequence[Corpus]) -> bool:
    """Whether corpora are those of the mini corpus, wherever it lies."""
    return any(_MINI_PATH in pairwise(Path(corpus.folder).parts) for corpus in needed)


def audio_remedy(corpus: Corpus, config: RecipeConfig) -> str:
    """How to get the audio of a described corpus; "" for one of the published keys, or if there is
    audio in its folder."""
    if not config.task or clip_files(corpus.folder):
        return ""
    generate = f"{command_name('generate_dcase_task4_2024.py')} --conf_file (the same file)"
    if corpus.originals is not None:
        return f"; {generate} resamples it from {escape_name(corpus.originals)}"
    return (
        f"; if its audio is not at {config.data.fs} Hz, name it as task.corpora.{corpus.name}."
        f"originals, which {generate} resamples"
    )
