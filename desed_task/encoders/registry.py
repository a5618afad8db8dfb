"""The encoders that there are, by name; without PyTorch, so that commands can check names early.

Packages of others add theirs by an entry point of the group "desed_task.encoders", programs by
`register` (docs/encoders.md, Your own encoder).
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from desed_task.errors import InputError, warn_once

ENTRY_POINTS: Final = "desed_task.encoders"
# The name becomes part of a folder's name and of a list in configurations.
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class EncoderKind:
    """An encoder that files can hold the weights of.

    Attributes:
        name: as in `pretrained.model`.
        title: as in texts.
        place: "module:Class" of its `Encoder`; imported when it is needed.
        default_file: file name of the weights that the recipe takes if none is named.
    """

    name: str
    title: str
    place: str
    default_file: str


_VIT = "desed_task.encoders.vit"
_KINDS: Final[dict[str, EncoderKind]] = {
    kind.name: kind
    for kind in (
        EncoderKind(
            "beats", "BEATs", "desed_task.encoders.beats.model:Beats", "BEATs_iter3_plus_AS2M.pt"
        ),
        EncoderKind(
            "atst_frame", "ATST-Frame", f"{_VIT}.atst_frame:AtstFrame", "ATST-F_strong_1.pt"
        ),
        EncoderKind("fpasst", "fPaSST", f"{_VIT}.fpasst:FramePasst", "fpasst_strong_1.pt"),
        EncoderKind("asit", "ASiT", f"{_VIT}.asit:Asit", "ASIT_strong_1.pt"),
        EncoderKind("m2d", "M2D", f"{_VIT}.m2d:M2d", "M2D_strong_1.pt"),
    )
}
BUILT_IN: Final = tuple(_KINDS.values())
_registered: dict[str, EncoderKind] = {}


def register(kind: EncoderKind) -> None:
    """Add an encoder for this process.

    Raises:
        InputError: the name is taken by another one, or cannot be part of a folder's name.
    """
    if problem := _unusable(kind):
        raise InputError(f"encoder {kind.name!r}: {problem}")
    if kinds().get(kind.name, kind) != kind:
        raise InputError(f"there is an encoder {kind.name!r} already; choose another name")
    _registered[kind.name] = kind


def kinds() -> dict[str, EncoderKind]:
    """All encoders by name: those of this package, of installed ones, and registered ones.

    Entry points with a name that is taken or unusable are left out with a warning.
    """
    found: dict[str, EncoderKind] = {}
    for point in _entry_points(_places()):
        kind = EncoderKind(point.name, point.name, point.value, f"{point.name}.pt")
        taken = _KINDS.get(kind.name) or found.get(kind.name)
        problem = _unusable(kind)
        if taken is not None and taken != kind:
            problem = f"there is an encoder of that name already ({taken.place})"
        if problem:
            package = f" of the package {point.dist.name}" if point.dist else ""
            warn_once(
                f"encoder {kind.name!r}{package} ({kind.place}) is left out: {problem}; give its "
                "entry point another name"
            )
        else:
            found[kind.name] = kind
    return {**found, **_registered, **_KINDS}


@lru_cache(maxsize=4)
def _entry_points(_: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    """Those of the installed packages; files of all of them are read, which takes long."""
    return tuple(sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.value))


def _places() -> tuple[tuple[str, int], ...]:
    """The folders of packages; the number of one changes as something is installed there."""
    found = []
    for place in sys.path:
        try:
            found.append((place, os.stat(place or ".").st_mtime_ns))
        except OSError:
            found.append((place, 0))
    return tuple(found)


def _unusable(kind: EncoderKind) -> str:
    """Why a name cannot be one of an encoder; "" if it can."""
    if _NAME.fullmatch(kind.name):
        return ""
    return "folders are named after it, so use letters, digits, _ and - only"


def kind_of(name: str) -> EncoderKind:
    """The encoder of a name.

    Raises:
        InputError: there is none; the message lists all names.
    """
    found = kinds()
    if name not in found:
        raise InputError(f"no encoder {name!r}; known: {', '.join(found)}")
    return found[name]
