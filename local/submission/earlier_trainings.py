"""Trainings that a submitted training depends on: its first stage, and those that computed its
pseudo-labels. Their energy belongs to the system's.

They are known by the SHA-256 of their checkpoints, and searched in the folders that the user gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from desed_task.errors import InputError, agree, count_of
from local.config import RecipeConfig
from local.data.digests import DATA_KEY

# Whether a checkpoint (SHA-256) comes from the training in a run folder.
IsOf = Callable[[Path, str], bool]
_DIGITS = 12


class TrainingOrigin(NamedTuple):
    """A checkpoint that a training depends on.

    Attributes:
        sha256: of the checkpoint; "" if it is not known.
        what: what the training had of it, in words.
    """

    sha256: str
    what: str


@dataclass(frozen=True)
class EarlierTrainings:
    """What a training depends on.

    Attributes:
        folders: run folders of trainings that were found, each once.
        notes: one line for each checkpoint whose training was not found.
    """

    folders: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def origins_of(config: RecipeConfig, records: Sequence[Mapping[str, Any]]) -> list[TrainingOrigin]:
    """The checkpoints that a training depends on.

    Args:
        config: of the training.
        records: its run.yaml.
    """
    found = []
    if config.initial_weights.checkpoint_sha256:
        found.append(
            TrainingOrigin(config.initial_weights.checkpoint_sha256, "its initial weights")
        )
    if config.reads_pseudo_labels:
        digests = [digest for record in records for digest in _labelled_by(record)]
        found += [
            TrainingOrigin(digest, "its pseudo-labels") for digest in dict.fromkeys(digests or [""])
        ]
    return found


def _labelled_by(record: Mapping[str, Any]) -> Iterator[str]:
    """The checkpoints that computed the pseudo-labels of a command's corpora."""
    for parts in record.get(DATA_KEY, {}).values() if record["stage"] == "fit" else ():
        if "pseudo_labels" in parts:
            yield from str(parts["pseudo_labels"]["checkpoints"]).split("+")


def find_earlier(
    folder: Path,
    origins_in: Callable[[Path], list[TrainingOrigin]],
    given: Sequence[Path],
    is_of: IsOf,
) -> EarlierTrainings:
    """Find the trainings that one depends on, those that these depend on, and so on.

    Args:
        folder: run folder of the training.
        origins_in: run folder of a training -> what it depends on.
        given: run folders that may be of those trainings.
        is_of: see `IsOf`.
    """
    found, left = {folder: None}, [folder]
    notes: list[str] = []
    while left:
        here = left.pop(0)
        unknown: dict[str, list[str]] = {}
        try:
            origins = origins_in(here)
        except InputError as error:
            notes.append(f"{here}: {error}; whether it depends on other trainings is not known")
            continue
        for sha256, what in origins:
            training = next((one for one in given if sha256 and is_of(one, sha256)), None)
            if training is None:
                unknown.setdefault(what, []).append(sha256)
            elif training not in found:
                found[training] = None
                left.append(training)
        notes += [_note(here, what, digests) for what, digests in unknown.items()]
    return EarlierTrainings(tuple(found)[1:], tuple(notes))


def _note(folder: Path, what: str, digests: Sequence[str]) -> str:
    known = [f"{digest[:_DIGITS]}..." for digest in digests if digest]
    if not known:
        return (
            f"{folder}: {what} are of unknown checkpoints, so the energy of their trainings is not "
            "counted; state it in the technical report"
        )
    return (
        f"{folder}: {what} are of {count_of(len(known), 'checkpoint')} (SHA-256 "
        f"{', '.join(known)}) that no given training has, so the energy of that is not counted; "
        f"give {agree(len(known), 'its run folder', 'their run folders')} with --also"
    )
