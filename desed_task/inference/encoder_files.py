"""Find the file of BEATs weights that a checkpoint's network was trained with."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from desed_task.atomic_files import PathLike, sha256_of
from desed_task.encoders.weights_file import PUBLISHED_BEATS, find_weights
from desed_task.errors import InputError
from desed_task.file_names import escape_name

_DEFAULT = f"pretrained_models/{PUBLISHED_BEATS}"
_DIGITS = 12


def find_encoder(checkpoint: PathLike, hyper_parameters: object, sha256: str) -> Path:
    """The file of weights that a checkpoint names, wherever the command is started.

    A relative path is looked up from the working folder and from the checkpoint's folder and those
    above it, as a run folder mostly lies below the folder that its training was started in.

    Args:
        checkpoint: path of the checkpoint.
        hyper_parameters: as stored in it; their `pretrained.beats_checkpoint` is the path.
        sha256: of the weights, as far as the checkpoint tells; "" if it does not. Other weights
            are passed over.

    Raises:
        InputError: naming the places where nothing was found, or only other weights.
    """
    wanted = [os.fspath(path) for path in (*_stated(hyper_parameters), _DEFAULT)]
    others = []
    for place in _places(wanted, Path(checkpoint)):
        try:
            found = find_weights(place)
        except InputError:
            continue
        if not sha256 or sha256_of(found) == sha256:
            return found
        others.append(found)
    stated = f" (SHA-256 {sha256[:_DIGITS]}...)" if sha256 else ""
    named = ", ".join(escape_name(path) for path in dict.fromkeys(wanted))
    raise InputError(
        f"{escape_name(checkpoint)}: the BEATs weights that its network was trained with{stated} "
        f"are not found: no {named} in {escape_name(Path.cwd())}, beside the checkpoint or in a "
        "folder above it"
        + "".join(f"; {escape_name(other)} contains other weights" for other in others)
        + "; give their file (--pretrained_model, in Python `beats`)"
    )


def _stated(hyper_parameters: object) -> Iterator[str]:
    """The path that hyperparameters name, if any."""
    section = hyper_parameters.get("pretrained") if isinstance(hyper_parameters, Mapping) else None
    path: Any = section.get("beats_checkpoint") if isinstance(section, Mapping) else None
    if isinstance(path, str) and path:
        yield path


def _places(wanted: Iterable[str], checkpoint: Path) -> Iterator[Path]:
    """Every path that a wanted one may stand for, each once."""
    seen = set()
    for text in wanted:
        bases = [Path()] if os.path.isabs(text) else [Path(), *checkpoint.resolve().parents]
        for place in (base / text for base in bases):
            if (known := os.path.abspath(place)) not in seen:
                seen.add(known)
                yield place
