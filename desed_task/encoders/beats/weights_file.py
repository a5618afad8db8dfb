"""Where the file of BEATs weights is; without PyTorch, so before it is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from desed_task.atomic_files import PathLike
from desed_task.errors import InputError, command_name
from desed_task.file_names import looked_up_from

BEATS_SAMPLE_RATE = 16000
PUBLISHED_BEATS: Final = "BEATs_iter3_plus_AS2M.pt"
# The random weights of the mini corpus.
MINI_BEATS: Final = "beats_mini.pt"
# Both spellings of the published file's name are in use.
_FILE_NAMES = (PUBLISHED_BEATS, "BEATS_iter3_plus_AS2M.pt")
SOURCE = (
    "get BEATs_iter3+ (AS2M), the self-supervised one, from the README of "
    "https://github.com/microsoft/unilm/tree/master/beats"
)


def find_beats(path: PathLike) -> Path:
    """The checkpoint at `path`, or beside it under the file's other spelling.

    Raises:
        InputError: it is missing; the message states where to get it.
    """
    wanted = Path(path)
    names = _FILE_NAMES if wanted.name in _FILE_NAMES else ()
    for candidate in (wanted, *(wanted.with_name(name) for name in names)):
        if candidate.is_file():
            return candidate
    remedy = f"{SOURCE} and put it there"
    if wanted.name == MINI_BEATS:
        generate = command_name("generate_dcase_task4_2024.py")
        remedy = f"make it, with the mini corpus, with {generate} --mini"
    where = looked_up_from(wanted)
    raise InputError(f"{wanted}: no such file of BEATs weights{where}; {remedy}")
