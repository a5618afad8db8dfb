"""Which folder has the embeddings of an encoder; extraction, training and the doctor agree on it.

Below `pretrained.extracted_embeddings_dir`:

    beats/                            BEATs, the file that `pretrained.beats_checkpoint` names, or
                                      one with the name of the recipe's default file
    <encoder>-<8 digits>/             all others; the digits begin the SHA-256 of the weights
    <encoder>-<8 digits>-first<n>/    the same, of the first n blocks only

Earlier versions wrote embeddings of any BEATs weights to beats/. They stay in use: beats/ is the
folder of weights under another name, too, if it has embeddings of exactly these weights, or only
published ones, which do not say what made them; not of released weights under their own names, as
published embeddings are of others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from desed_task.atomic_files import sha256_of
from desed_task.dataio.embeddings import (
    CHECKPOINT_SHA256,
    ENCODER,
    EXTRACT_REMEDY,
    N_BLOCKS,
    Identity,
    made_with,
)
from desed_task.encoders.registry import kind_of
from desed_task.encoders.released import RELEASED
from desed_task.encoders.weights_file import DEFAULT_BEATS, find_weights
from desed_task.errors import InputError, count_of
from desed_task.hdf5 import open_hdf5, read_attributes
from local.schema.encoders import BEATS, EncoderChoice, Pretrained

_DIGITS: Final = 8
_HEX = f"[0-9a-f]{{{_DIGITS}}}"
_ANY_SUFFIX = r"(-first\d+)?"
# Path, time and size of a file -> its SHA-256, which takes seconds for large weights.
_digests: dict[tuple[str, int, int], str] = {}


class StoreFolder(NamedTuple):
    """The folder of the embeddings of an encoder.

    Attributes:
        choice: the encoder.
        path: the folder, there or not.
        note: how it was found, if the weights that name it are not on this machine; else "".
        problem: why it is not known; "" if it is. `path` is then where it would be looked for.
    """

    choice: EncoderChoice
    path: Path
    note: str = ""
    problem: str = ""

    def file(self, name: str) -> Path:
        """The file of a set."""
        return self.path / f"{name}.hdf5"


def folder_to_write(root: Path, choice: EncoderChoice, sha256: str) -> Path:
    """The folder that embeddings of these weights go to.

    Args:
        root: `pretrained.extracted_embeddings_dir`.
        choice: encoder, file of its weights and number of blocks.
        sha256: of the weights.
    """
    if _is_default(choice) or _was_default(root / BEATS, choice, sha256):
        return root / BEATS
    return root / f"{choice.name}-{sha256[:_DIGITS]}{_suffix(choice)}"


def folders_to_read(pretrained: Pretrained) -> tuple[StoreFolder, ...]:
    """The folder of each encoder of a configuration, in its order.

    Training needs no weights: where they are missing, the only folder of the encoder is taken.
    """
    root = Path(pretrained.extracted_embeddings_dir)
    return tuple(folder_to_read(root, choice) for choice in pretrained.encoders)


def folder_to_read(root: Path, choice: EncoderChoice) -> StoreFolder:
    """The folder that training reads embeddings of an encoder from; see `folders_to_read`."""
    if _is_default(choice):
        return StoreFolder(choice, root / BEATS)
    try:
        weights = find_weights(choice.file, choice.name)
    except InputError:
        return _without_weights(root, choice)
    return StoreFolder(choice, folder_to_write(root, choice, sha256_once(weights)))


def any_embeddings(folder: Path) -> bool:
    """Whether a folder has files of embeddings, finished or not."""
    return next(_files(folder), None) is not None


def others_of(folder: StoreFolder) -> list[str]:
    """Names of other folders with embeddings of the same encoder, for messages."""
    found = _folders_of(folder.path.parent, folder.choice.name, _ANY_SUFFIX)
    return [path.name for path in found if path != folder.path]


def why_foreign(folder: StoreFolder, identity: Identity) -> str:
    """What a file records that does not go with the folder that it lies in; "" if all goes.

    Args:
        folder: the folder.
        identity: see `made_with`; published files, which record nothing, are trusted.
    """
    if not identity:
        return ""
    choice, sha256 = folder.choice, str(identity.get(CHECKPOINT_SHA256))
    name, n_blocks = str(identity.get(ENCODER, BEATS)), identity.get(N_BLOCKS)
    if name != choice.name:
        return f"has embeddings of {name}, not of {choice.name}"
    if n_blocks != choice.n_blocks:
        return f"has embeddings {_of_blocks(n_blocks)}, not {_of_blocks(choice.n_blocks)}"
    digits = re.fullmatch(f"{re.escape(name)}-({_HEX}){_ANY_SUFFIX}", folder.path.name)
    if digits and not sha256.startswith(digits[1]):
        return f"has embeddings of other weights (SHA-256 {sha256[:12]}) than its folder is for"
    return ""


def recorded(path: Path) -> Identity | None:
    """What a file records of how it was computed; None if it is damaged."""
    try:
        with open_hdf5(path) as file:
            return made_with(read_attributes(file))
    except InputError:
        return None


def sha256_once(path: Path) -> str:
    """SHA-256 of a file, computed once in a process unless the file changes."""
    found = path.stat()
    key = (str(path.resolve()), found.st_mtime_ns, found.st_size)
    if key not in _digests:
        _digests[key] = sha256_of(path)
    return _digests[key]


def _is_default(choice: EncoderChoice) -> bool:
    named = choice.is_baselines or Path(choice.file).name in DEFAULT_BEATS
    return _is_plain_beats(choice) and named


def _is_plain_beats(choice: EncoderChoice) -> bool:
    return choice.name == BEATS and choice.n_blocks is None


def _was_default(beats: Path, choice: EncoderChoice, sha256: str) -> bool:
    """Whether an earlier version has put embeddings of these BEATs weights into beats/."""
    if not _is_plain_beats(choice):
        return False
    found = [identity for identity in map(recorded, _files(beats)) if identity is not None]
    made = [identity for identity in found if identity]
    if found and not made:
        return Path(choice.file).name not in {row.file for row in RELEASED}
    return any(one.get(CHECKPOINT_SHA256) == sha256 for one in made)


def _without_weights(root: Path, choice: EncoderChoice) -> StoreFolder:
    title = kind_of(choice.name).title
    found = _folders_of(root, choice.name, re.escape(_suffix(choice)))
    beats = root / BEATS
    if _is_plain_beats(choice) and any_embeddings(beats):
        found.insert(0, beats)
    if len(found) == 1:
        note = ""
        if found[0] != beats:
            note = (
                f"{found[0]}: taken as the embeddings of {title}, as it is the only folder of "
                f"them; {choice.file}, which would tell, is not here"
            )
        return StoreFolder(choice, found[0], note)
    named = f"{choice.name}-{'?' * _DIGITS}{_suffix(choice)}"
    expected = beats if _is_plain_beats(choice) else root / named
    if not found:
        return StoreFolder(
            choice,
            expected,
            problem=f"{expected}: no embeddings of {title}, and its weights {choice.file} are not "
            f"here; {EXTRACT_REMEDY}",
        )
    names = ", ".join(path.name for path in found)
    return StoreFolder(
        choice,
        expected,
        problem=f"{root}: {count_of(len(found), 'folder')} have embeddings of {title} ({names}), "
        f"and {choice.file}, which would tell them apart, is not here; put it there, or move all "
        "but one of them away",
    )


def _folders_of(root: Path, name: str, suffix: str) -> list[Path]:
    """Folders with embeddings of an encoder whose names have digits, sorted."""
    pattern = re.compile(f"{re.escape(name)}-{_HEX}{suffix}")
    there = sorted(root.iterdir()) if root.is_dir() else []
    return [path for path in there if pattern.fullmatch(path.name) and any_embeddings(path)]


def _files(folder: Path) -> Iterator[Path]:
    return folder.glob("*.hdf5*")


def _suffix(choice: EncoderChoice) -> str:
    return "" if choice.n_blocks is None else f"-first{choice.n_blocks}"


def _of_blocks(n_blocks: float | str | None) -> str:
    if n_blocks is None:
        return "of all blocks"
    return f"of the first {count_of(int(n_blocks), 'block')}"
