"""Where the file of an encoder's weights is; without PyTorch, so before it is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from desed_task.atomic_files import PathLike
from desed_task.encoders.registry import EncoderKind, kind_of
from desed_task.encoders.released import RELEASED
from desed_task.errors import InputError, command_line
from desed_task.file_names import looked_up_from

ENCODER_RATE: Final = 16000
"""Sample rate that all encoders take, Hz."""
WEIGHTS_FOLDER: Final = "pretrained_models"
PUBLISHED_BEATS: Final = "BEATs_iter3_plus_AS2M.pt"
# The random weights of the mini corpus.
MINI_BEATS: Final = "beats_mini.pt"
MINI_ATST: Final = "atst_frame_mini.pt"
# Both spellings of the published file's name are in use.
_SPELLINGS = (PUBLISHED_BEATS, "BEATS_iter3_plus_AS2M.pt")
DEFAULT_BEATS: Final = (*_SPELLINGS, MINI_BEATS)
"""Names of files whose embeddings lie in beats/."""
# The self-supervised BEATs of another release.
_RELEASED_BEATS = "BEATs_ssl.pt"
SOURCE: Final = (
    "get BEATs_iter3+ (AS2M), the self-supervised one, from the README of "
    "https://github.com/microsoft/unilm/tree/master/beats"
)


def default_weights(name: str) -> str:
    """The path of the weights that the recipe takes for an encoder if none is named."""
    return f"./{WEIGHTS_FOLDER}/{kind_of(name).default_file}"


def find_weights(path: PathLike, name: str | None = "beats") -> Path:
    """The file of weights at `path`, or beside it under the file's other spelling.

    Args:
        path: the file.
        name: the encoder that it is wanted for, for the message; None for any.

    Raises:
        InputError: it is missing; the message states where to get it.
    """
    wanted = Path(path)
    names = _SPELLINGS if wanted.name in _SPELLINGS else ()
    for candidate in (wanted, *(wanted.with_name(name) for name in names)):
        if candidate.is_file():
            return candidate
    kind = None if name is None else kind_of(name)
    where, whose = looked_up_from(wanted), "encoder" if kind is None else kind.title
    raise InputError(f"{wanted}: no such file of {whose} weights{where}; {_remedy(wanted, kind)}")


def _remedy(wanted: Path, kind: EncoderKind | None) -> str:
    if wanted.name in (MINI_BEATS, MINI_ATST):
        generate = command_line("generate_dcase_task4_2024.py", "--mini")
        return f"make it, with the mini corpus, with {generate}"
    # The name of an encoder alone may stand for another of its files.
    same = [row.name for row in RELEASED if row.file == wanted.name]
    names = same or ([] if kind is None else [kind.name])
    flag = " ".join(["--only_encoders", *names])
    fetch = command_line("generate_dcase_task4_2024.py", flag)
    if wanted.name in _SPELLINGS:
        other = Path(WEIGHTS_FOLDER) / _RELEASED_BEATS
        if other.is_file():
            return f"give the path of other weights, such as {other}, or {SOURCE} and put it there"
        return f"{SOURCE} and put it there, or name another file that {fetch} gets"
    return f"get weights with {fetch}, or give their path"
