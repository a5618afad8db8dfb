"""Load an encoder from a file of weights, whatever published layout it has."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from desed_task.atomic_files import PathLike, sha256_of
from desed_task.encoders.interface import Encoder, EncoderWeights, StateDict
from desed_task.encoders.registry import EncoderKind, kind_of, kinds
from desed_task.encoders.weights_file import find_weights
from desed_task.errors import InputError, loading_reason

# Dictionaries that files keep their tensors in.
_CONTAINERS = ("model", "state_dict")
# Below it, a file holds no encoder that is known.
_LEAST_LIKENESS = 0.5


class WeightsContent(NamedTuple):
    """What a file of weights holds.

    Attributes:
        path: the file.
        state: all tensors, under the names of the file.
        cfg: sizes that it states; empty in most.
    """

    path: Path
    state: StateDict
    cfg: Mapping[str, Any]


class Recognised(NamedTuple):
    """The encoder that tensors belong to.

    Attributes:
        kind: which it is.
        prefix: what stands before its names in the file.
        likeness: from 0 to 1; see `Encoder.is_in`.
    """

    kind: EncoderKind
    prefix: str
    likeness: float


def load_encoder(
    path: PathLike,
    name: str | None = None,
    device: torch.device | str = "cpu",
    *,
    n_blocks: int | None = None,
) -> Encoder:
    """Load the encoder of a file; no code of the file is run.

    Args:
        path: file of weights in a published layout.
        name: the encoder that it must hold ("beats", "atst_frame" ...); None for any.
        device: where to compute.
        n_blocks: number of blocks to keep, from the input on; None for all.

    Returns:
        the encoder in eval mode, its parameters not trainable, with the file's `sha256`.

    Raises:
        InputError: the file is missing, not a file of weights, holds another or no known encoder,
            or tensors are missing or have other shapes (all are named).
    """
    found = find_weights(path, name or "beats")
    content = read_weights(found)
    recognised = recognise(content, None if name is None else kind_of(name))
    encoder = encoder_in(content, recognised)
    if n_blocks is not None:
        encoder.stop_after(n_blocks)
    encoder.sha256 = sha256_of(found)
    return encoder.requires_grad_(False).eval().to(device)


def encoder_class(kind: EncoderKind) -> type[Encoder]:
    """The class of an encoder.

    Raises:
        InputError: an entry point names a module or class that cannot be imported.
    """
    module, _, name = kind.place.partition(":")
    try:
        found: type[Encoder] = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"encoder {kind.name}: {kind.place} cannot be imported: {error}") from None
    return found


def read_weights(path: Path) -> WeightsContent:
    """The tensors of a file, on the CPU.

    Raises:
        InputError: it cannot be read safely, or holds no tensors.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise whatever its bytes spell
        reason = loading_reason(error)
        raise InputError(f"{path}: not a file of weights ({reason})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: contains a {type(content).__name__}, not weights")
    cfg = content.get("cfg")
    for key in _CONTAINERS:
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    state = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise InputError(f"{path}: contains no tensors; give a file of an encoder's weights")
    return WeightsContent(path, state, cfg if isinstance(cfg, dict) else {})


def recognise(content: WeightsContent, wanted: EncoderKind | None = None) -> Recognised:
    """The encoder that a file holds, by the names of its tensors.

    Args:
        content: of the file.
        wanted: the encoder that it must hold; None for any.

    Raises:
        InputError: it holds none that is known, or another one; the message names it.
    """
    found = []
    for kind in kinds().values():
        kind_class = encoder_class(kind)
        for prefix in kind_class.prefixes:
            part = without_prefix(content.state, prefix)
            found.append(Recognised(kind, prefix, kind_class.is_in(part)))
    best = max(found, key=lambda one: one.likeness)
    if best.likeness < _LEAST_LIKENESS:
        known = ", ".join(kind.title for kind in kinds().values())
        example = ", ".join(list(content.state)[:3])
        raise InputError(
            f"{content.path}: no encoder that is known ({known}) has such tensors ({example} ...)"
        )
    if wanted is not None and best.kind != wanted:
        raise InputError(
            f"{content.path}: holds {best.kind.title}, not {wanted.title}; give the weights of "
            f"{wanted.title}, or name {best.kind.name} as the encoder"
        )
    return best


def encoder_in(content: WeightsContent, recognised: Recognised) -> Encoder:
    """The encoder of a file's tensors.

    Raises:
        InputError: tensors are missing or have other shapes.
    """
    state = without_prefix(content.state, recognised.prefix)
    weights = EncoderWeights(state, content.cfg, str(content.path))
    return encoder_class(recognised.kind).from_weights(weights)


def without_prefix(state: Mapping[str, Tensor], prefix: str) -> StateDict:
    """The tensors below a prefix, without it."""
    return {k.removeprefix(prefix): value for k, value in state.items() if k.startswith(prefix)}
