"""Whose encoders a checkpoint is used with: its own, where a configuration has others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from desed_task.checkpoints.encoder_specs import EncoderSpec, in_words
from desed_task.checkpoints.spec import DetectorSpec
from local.config import RecipeConfig
from local.schema.encoders import Pretrained


def choose_encoders(
    spec: DetectorSpec,
    here: RecipeConfig,
    stored: Mapping[str, Any],
    overrides: Sequence[str],
    origin: str,
) -> dict[str, Any]:
    """The section `pretrained` for a checkpoint: its encoders, with the paths of `here`.

    A network takes no others than it was trained with; where those of `here` differ, a line says
    so. `--set pretrained.model=...` takes precedence.

    Args:
        spec: of the checkpoint.
        here: the configuration of this run.
        stored: the section in the checkpoint, which names files for encoders that `here` lacks.
        overrides: entries `section.key=value`.
        origin: path of the checkpoint; "" for weights only, which do not tell.
    """
    mine: dict[str, Any] = here.dump()["pretrained"]
    own = {choice.name: choice for choice in here.pretrained.encoders}
    wanted = {one.name: one.n_blocks or None for one in spec.encoders}
    asked = any(one.partition("=")[0].strip() == "pretrained.model" for one in overrides)
    if not (wanted and origin) or asked:
        return mine
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
