"""Whose encoders a checkpoint is used with: its own, where a configuration has others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from desed_task.checkpoints.encoder_specs import EncoderSpec, in_words
from desed_task.checkpoints.spec import DetectorSpec
from desed_task.errors import InputError
from local.config import RecipeConfig
from local.schema.encoders import Pretrained

# Whether and how a training ran encoders: of those on stored embeddings.
_OUTSIDE: Final = {
    key: Pretrained.model_fields[key].default
    for key in ("e2e", "freezed", "gradient_checkpointing")
}
# What chooses encoders and their blocks.
_CHOOSING: Final = ("model", "checkpoint", "n_blocks")
# What names encoders or their weights.
KEYS_OF_WEIGHTS: Final = frozenset(
    f"pretrained.{key}" for key in ("model", "checkpoint", "beats_checkpoint", "n_blocks", "e2e")
)


def choose_encoders(
    spec: DetectorSpec,
    here: RecipeConfig,
    stored: Mapping[str, Any],
    overrides: Sequence[str],
    origin: str,
) -> dict[str, Any]:
    """The section `pretrained` for a checkpoint: its encoders, with the paths of `here`.

    A network takes no others than it was trained with; where those of `here` differ, a line says
    so. `--set pretrained.model=...` takes precedence, unless the checkpoint holds its encoders.
    Whether these run inside the step, and are trained there, is the checkpoint's matter, too.

    Args:
        spec: of the checkpoint.
        here: the configuration of this run.
        stored: the section in the checkpoint, which names files for encoders that `here` lacks.
        overrides: entries `section.key=value`.
        origin: path of the checkpoint; "" for weights only, which do not tell.

    Raises:
        InputError: `overrides` name encoders or weights, and the checkpoint holds its own.
    """
    if spec.holds_encoders:
        _refuse_others(overrides, spec, origin)
        trained = {key: stored.get(key, default) for key, default in _OUTSIDE.items()}
        return {**_chosen(spec, here, stored, origin or "its weights"), **trained, "e2e": True}
    mine: dict[str, Any] = here.dump()["pretrained"]
    asked = any(one.partition("=")[0].strip() == "pretrained.model" for one in overrides)
    if not (spec.encoders and origin) or asked:
        return {**mine, **_OUTSIDE}
    return {**_chosen(spec, here, stored, origin), **_OUTSIDE}


def with_encoders_of(section: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """A section `pretrained` with the encoders and places that a checkpoint's section names.

    Whether encoders run inside the step stays: `choose_encoders` asks the checkpoint.

    Args:
        section: of the command.
        stored: of the checkpoint; where it chooses no encoders, those of a default section are
            meant, as in files from before there was a choice.
    """
    default = Pretrained().model_dump(mode="json")
    chosen = {key: stored.get(key, default[key]) for key in _CHOOSING}
    places = {key: value for key, value in stored.items() if key not in _OUTSIDE}
    return {**section, **places, **chosen}


def _refuse_others(overrides: Sequence[str], spec: DetectorSpec, origin: str) -> None:
    keys = [one.partition("=")[0].strip() for one in overrides]
    if others := [key for key in keys if key in KEYS_OF_WEIGHTS]:
        raise InputError(
            f"{origin or 'these weights'}: the checkpoint holds its own {in_words(spec.encoders)}, "
            f"which its network takes; leave out --set {others[0]}"
        )


def _chosen(
    spec: DetectorSpec, here: RecipeConfig, stored: Mapping[str, Any], origin: str
) -> dict[str, Any]:
    """The section with the encoders of the checkpoint; see `choose_encoders`."""
    mine: dict[str, Any] = here.dump()["pretrained"]
    own = {choice.name: choice for choice in here.pretrained.encoders}
    wanted = {one.name: one.n_blocks or None for one in spec.encoders}
    if list(wanted.items()) == [(name, choice.n_blocks) for name, choice in own.items()]:
        return mine
    choices = [EncoderSpec(name, n_blocks=one.n_blocks or 0) for name, one in own.items()]
    print(
        f"{origin}: takes embeddings of {in_words(spec.encoders)}, as it says itself (the "
        f"configuration: {in_words(choices)})"
    )
    files = {**_stored_files(stored), **{name: choice.file for name, choice in own.items()}}
    several = {
        "model": list(wanted),
        "checkpoint": [files.get(name) for name in wanted],
        "n_blocks": list(wanted.values()),
    }
    chosen = several if len(wanted) > 1 else {key: value[0] for key, value in several.items()}
    return {**mine, **chosen}


def _stored_files(stored: Mapping[str, Any]) -> dict[str, str]:
    """Encoder -> file of weights, of a checkpoint's section; what cannot be read is left out."""
    try:
        section = Pretrained.model_validate(stored)
    except ValidationError:
        return {}
    return {choice.name: choice.file for choice in section.encoders}
