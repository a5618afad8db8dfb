"""The encoders of a checkpoint's network: their files are found, checked and loaded."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from desed_task.atomic_files import PathLike, sha256_of
from desed_task.checkpoints.encoder_specs import (
    BEATS,
    EncoderSpec,
    in_words,
    name_of_model,
)
from desed_task.checkpoints.spec import DetectorSpec
from desed_task.checkpoints.stored_encoders import stored_encoder
from desed_task.encoders.concatenated import ConcatenatedEncoders
from desed_task.encoders.interface import EmbeddingModel, Encoder
from desed_task.encoders.loading import load_encoder
from desed_task.encoders.weights_file import default_weights, find_weights
from desed_task.errors import InputError, count_of
from desed_task.file_names import escape_name, looked_up_from
from desed_task.mean_teacher import ROLES

GivenEncoder: TypeAlias = (
    PathLike | Sequence[PathLike] | Mapping[str, PathLike] | EmbeddingModel | None
)
"""A file of weights, several, files by the names of their encoders (of which others than those of
the network do not matter), or what was loaded from them; None for what the checkpoint names."""


def encoder_of_checkpoint(
    place: PathLike,
    checkpoint: Mapping[str, Any],
    spec: DetectorSpec,
    given: GivenEncoder = None,
    role: str = ROLES[0],
) -> EmbeddingModel | None:
    """The encoder of a checkpoint's network, on the CPU; None if it takes no embeddings.

    A checkpoint of a training that ran encoders inside its steps holds them, and no file is needed.

    Several are joined in the order of the network, whatever the order of files. Weights other than
    those of training are warned of, as far as the checkpoint tells.

    Args:
        place: path of the checkpoint.
        checkpoint: its content.
        spec: its specification.
        given: see `GivenEncoder`. Encoders that it lacks are looked for as `find_encoder` does.
        role: which of the networks; student and teacher have their own encoder, if fine-tuned.

    Raises:
        InputError: for files that cannot be used or are not found, that hold another encoder than
            the network takes, or the same; the message names them. For an encoder that is given
            with a checkpoint that holds its own, and tensors of that which are wrong.
    """
    wanted = spec.encoders
    if not wanted:
        return None
    if spec.holds_encoders:
        # A mapping is of a configuration, which may have been given for something else.
        if given is not None and not isinstance(given, Mapping):
            raise InputError(
                f"{escape_name(place)}: holds its own {in_words(wanted)}, which its network takes, "
                "so no other weights can be used; leave them out (--pretrained_model, --set "
                "pretrained.checkpoint, in Python `encoder`)"
            )
        return stored_encoder(spec, checkpoint["state_dict"], role, escape_name(place))
    hyper_parameters = checkpoint.get("hyper_parameters")
    encoders = load_encoders(wanted, given, lambda one: find_encoder(place, hyper_parameters, one))
    return _joined(encoders, spec)


def load_encoders(
    wanted: Sequence[EncoderSpec], given: GivenEncoder, find: Callable[[EncoderSpec], PathLike]
) -> list[Encoder]:
    """The encoders of a network, in its order, on the CPU.

    Args:
        wanted: the network's.
        given: see `GivenEncoder`.
        find: gives the file of an encoder that was not given.

    Raises:
        InputError: see `encoder_of_checkpoint`.
    """
    if isinstance(given, EmbeddingModel):
        refuse_other_encoders(given, wanted, in_order=False)
        found = {part.name: (f"this {part.name}", part) for part in given.parts}
    elif isinstance(given, Mapping):
        found = {one.name: _load(given[one.name], one) for one in wanted if one.name in given}
    else:
        found = _recognised(_as_paths(given), wanted)
    _warn_of_other_weights(found, wanted)
    for one in wanted:
        if one.name not in found:
            found[one.name] = _load(find(one), one)
    return [found[one.name][1] for one in wanted]


def find_encoder(checkpoint: PathLike, hyper_parameters: object, encoder: EncoderSpec) -> Path:
    """The file of weights that a checkpoint names, wherever the command is started.

    A relative path is looked up from the working folder and from the checkpoint's folder and those
    above it, as a run folder mostly lies below the folder that its training was started in. The
    default file of the encoder is looked for in the same places.

    Args:
        checkpoint: path of the checkpoint.
        hyper_parameters: as stored in it; their section `pretrained` has the path.
        encoder: which one; if its SHA-256 is known, other weights are passed over.

    Raises:
        InputError: naming the places where nothing was found, or only other weights.
    """
    sha256, usual = encoder.checkpoint_sha256, default_weights(encoder.name).removeprefix("./")
    wanted = [*_stated(hyper_parameters, encoder.name), usual]
    others = []
    for place in _places(wanted, Path(checkpoint)):
        try:
            found = find_weights(place, encoder.name)
        except InputError:
            continue
        if not sha256 or sha256_of(found) == sha256:
            return found
        others.append(found)
    stated = f" ({encoder.digits})" if sha256 else ""
    named = ", ".join(escape_name(path) for path in dict.fromkeys(wanted))
    raise InputError(
        f"{escape_name(checkpoint)}: the {encoder.title} weights that its network was trained "
        f"with{stated} are not found: no {named} in {escape_name(Path.cwd())}, beside the "
        "checkpoint or in a folder above it"
        + "".join(f"; {escape_name(other)} contains other weights" for other in others)
        + "; give their file (--pretrained_model, in Python `encoder`)"
    )


def _stated(hyper_parameters: object, name: str) -> Iterator[str]:
    """The paths that hyperparameters name for an encoder; others of their values are left."""
    section = hyper_parameters.get("pretrained") if isinstance(hyper_parameters, Mapping) else None
    if not isinstance(section, Mapping):
        return
    names, files = _as_list(section.get("model", BEATS)), _as_list(section.get("checkpoint"))
    for model, file in zip(names, files, strict=False):
        if isinstance(model, str) and name_of_model(model) == name and _is_text(file):
            yield file
    if name == BEATS and _is_text(section.get("beats_checkpoint")):
        yield section["beats_checkpoint"]


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value


def _places(wanted: Iterable[str], checkpoint: Path) -> Iterator[Path]:
    """Every path that a wanted one may stand for, each once."""
    seen = set()
    for text in wanted:
        bases = [Path()] if os.path.isabs(text) else [Path(), *checkpoint.resolve().parents]
        for place in (base / text for base in bases):
            if (known := os.path.abspath(place)) not in seen:
                seen.add(known)
                yield place


# Encoder -> where it is from, for messages, and the encoder.
_Found: TypeAlias = dict[str, tuple[str, Encoder]]


def _as_paths(given: PathLike | Sequence[PathLike] | None) -> list[PathLike]:
    if given is None:
        return []
    return [given] if isinstance(given, str | os.PathLike) else list(given)


def _recognised(paths: Sequence[PathLike], wanted: Sequence[EncoderSpec]) -> _Found:
    """The encoders of files, each for the one of the network that it holds."""
    found: _Found = {}
    of_name = {one.name: one for one in wanted}
    for path in paths:
        origin, encoder = _read(path, wanted)
        if encoder.name in found:
            raise InputError(
                f"{found[encoder.name][0]} and {origin} both hold "
                f"{of_name[encoder.name].title}; give one of them"
            )
        found[encoder.name] = origin, _cut(encoder, of_name[encoder.name], origin)
    return found


def _load(path: PathLike, one: EncoderSpec) -> tuple[str, Encoder]:
    """The encoder of a file that must hold it."""
    origin, encoder = _read(path, [one])
    return origin, _cut(encoder, one, origin)


def _read(path: PathLike, wanted: Sequence[EncoderSpec]) -> tuple[str, Encoder]:
    """The encoder of a file, which must be one of the wanted ones."""
    if len(wanted) > 1 and not Path(path).exists():
        raise InputError(
            f"{path}: no such file of weights{looked_up_from(Path(path))}; the network takes "
            f"embeddings of {in_words(wanted)}"
        )
    found = find_weights(path, wanted[0].name)
    encoder = load_encoder(found)
    _refuse_other(encoder, str(found), wanted)
    return str(found), encoder


def _refuse_other(encoder: Encoder, origin: str, wanted: Sequence[EncoderSpec]) -> None:
    if encoder.name not in {one.name for one in wanted}:
        held = EncoderSpec(encoder.name).title
        raise InputError(
            f"{origin}: holds {held}, but the network was trained with embeddings of "
            f"{in_words(wanted)}; give the weights of "
            f"{'that' if len(wanted) == 1 else 'those'}"
        )


def _cut(encoder: Encoder, one: EncoderSpec, origin: str) -> Encoder:
    """The encoder with the blocks that the network was trained with."""
    if not one.n_blocks:
        return encoder
    if one.n_blocks > len(encoder.layers):
        raise InputError(
            f"{origin}: has {count_of(len(encoder.layers), 'block')}, but the network was trained "
            f"with {one.in_words}; give the weights that it was trained with"
        )
    return encoder.stop_after(one.n_blocks)


def refuse_other_encoders(
    model: EmbeddingModel, wanted: Sequence[EncoderSpec], *, in_order: bool = True
) -> None:
    """Refuse a loaded model with other encoders, or other blocks, than a network was trained with.

    Args:
        model: one or several encoders.
        wanted: the network's, in the order of their features.
        in_order: whether the model's must be in that order.

    Raises:
        InputError: naming what it has and what the network takes.
    """
    parts = {part.name: part for part in model.parts}
    for name, part in parts.items():
        _refuse_other(part, f"this {name}", wanted)
    if in_order and len(parts) == len(wanted) and list(parts) != [one.name for one in wanted]:
        raise InputError(
            f"{model.name} was given, but the features of the network are in the order "
            f"{'+'.join(one.name for one in wanted)}; join them in that order"
        )
    for one in wanted:
        if one.name not in parts:
            raise InputError(
                f"{model.name} was given, but the network was trained with embeddings of "
                f"{in_words(wanted)}; give all of them"
            )
        n_blocks = len(parts[one.name].layers)
        if one.n_blocks and n_blocks != one.n_blocks:
            raise InputError(
                f"this {one.name}: has {count_of(n_blocks, 'block')}, but the network was trained "
                f"with {one.in_words}; load it with n_blocks={one.n_blocks}"
            )


def _warn_of_other_weights(found: _Found, wanted: Sequence[EncoderSpec]) -> None:
    """Warn if embeddings will differ from those of training; older checkpoints cannot tell."""
    for one in wanted:
        origin, encoder = found.get(one.name, ("", None))
        if encoder is None or not (encoder.sha256 and one.checkpoint_sha256):
            continue
        if encoder.sha256 != one.checkpoint_sha256:
            warnings.warn(
                f"{origin}: not the weights that the network was trained with; its scores may be "
                "meaningless",
                UserWarning,
                stacklevel=5,
            )


def _joined(encoders: Sequence[Encoder], spec: DetectorSpec) -> EmbeddingModel:
    """One encoder as it is, several as one of them."""
    if len(encoders) == 1:
        return encoders[0]
    for encoder, one in zip(encoders, spec.encoders, strict=True):
        if one.width not in (0, encoder.width):
            raise InputError(
                f"this {encoder.name} yields embeddings of {encoder.width} features, the network "
                f"takes {one.width}; give the file of weights that it was trained with"
            )
    return ConcatenatedEncoders(encoders, spec.grid.n_frames, spec.net["aggregation_type"])
