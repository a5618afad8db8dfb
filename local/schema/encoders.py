"""The section `pretrained`: encoders, their weights, and where embeddings are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from pydantic import PositiveInt, ValidationInfo, field_validator, model_validator

from desed_task.encoders.registry import kind_of
from desed_task.encoders.weights_file import PUBLISHED_BEATS, WEIGHTS_FOLDER, default_weights
from desed_task.errors import InputError, count_of
from local.schema.strict import StrictModel

BEATS = "beats"


def _is_block_count(value: object) -> bool:
    is_number = isinstance(value, int | str) and not isinstance(value, bool)
    return value is None or (is_number and str(value).isdecimal() and int(str(value)) > 0)


# Key -> what its value is, in words, and whether one is that.
_VALUES: Final[dict[str, tuple[str, Callable[[object], bool]]]] = {
    "model": ("the name of an encoder", lambda value: isinstance(value, str)),
    "checkpoint": (
        "a file of weights, null for the default one",
        lambda value: value is None or isinstance(value, str),
    ),
    "n_blocks": ("a number of blocks from 1 on, null for all", _is_block_count),
}


class EncoderChoice(NamedTuple):
    """An encoder of a configuration.

    Attributes:
        name: in the registry.
        file: of its weights.
        n_blocks: blocks that are kept; None for all.
        is_baselines: whether the file is the BEATs of the baseline, as `beats_checkpoint` names it.
    """

    name: str
    file: str
    n_blocks: int | None
    is_baselines: bool = False


class Pretrained(StrictModel):
    """Encoders, the files of their weights, and the folder of the embeddings."""

    extracted_embeddings_dir: str = "./embeddings"
    model: str | tuple[str, ...] = BEATS
    """beats, atst_frame, fpasst, asit or m2d; several, whose embeddings are concatenated."""
    checkpoint: str | tuple[str | None, ...] | None = None
    """File of weights, or one for each encoder; null for `beats_checkpoint` or the encoder's
    default file in ./pretrained_models."""
    beats_checkpoint: str = f"./{WEIGHTS_FOLDER}/{PUBLISHED_BEATS}"
    """File of the weights of BEATs, where `checkpoint` names none."""
    n_blocks: PositiveInt | tuple[PositiveInt | None, ...] | None = None
    """Blocks of each encoder that are computed, from the input on; null for all."""
    e2e: bool = False
    """Whether encoders run inside the training step, on augmented audio; otherwise embeddings are
    extracted beforehand."""
    freezed: bool = True
    """Whether encoders stay as they are; false, with e2e: they are fine-tuned."""
    gradient_checkpointing: bool = False
    """Compute the blocks of fine-tuned encoders twice instead of keeping what they computed."""

    @field_validator("model", "checkpoint", "n_blocks", mode="before")
    @classmethod
    def _of_its_kind(cls, value: object, info: ValidationInfo) -> object:
        """Say what a value should be, where its types would name all alternatives."""
        values = value if isinstance(value, list | tuple) else (value,)
        what, fits = _VALUES[str(info.field_name)]
        if not all(fits(one) for one in values):
            raise ValueError(f"give {what}, or a list with one for each encoder")
        return value

    @field_validator("model", "checkpoint", "n_blocks")
    @classmethod
    def _one_without_a_list(cls, value: object) -> object:
        """A list of one value is that value, so that both ways to write it are the same."""
        return value[0] if isinstance(value, tuple) and len(value) == 1 else value

    @field_validator("model")
    @classmethod
    def _known(cls, model: str | tuple[str, ...]) -> str | tuple[str, ...]:
        names = (model,) if isinstance(model, str) else model
        if not names or len(set(names)) < len(names):
            raise ValueError("give one encoder, or several different ones")
        try:
            for name in names:
                kind_of(name)
        except InputError as error:
            raise ValueError(str(error)) from None
        return model

    @model_validator(mode="after")
    def _one_value_an_encoder(self) -> Pretrained:
        n_encoders = len(self.names)
        for key in ("checkpoint", "n_blocks"):
            value = getattr(self, key)
            n_values = len(value) if isinstance(value, tuple) else n_encoders
            single = n_encoders > 1 and value is not None and not isinstance(value, tuple)
            if n_values != n_encoders or single:
                raise ValueError(
                    f"{key} has {count_of(1 if single else n_values, 'value')} for "
                    f"{count_of(n_encoders, 'encoder')} ({', '.join(self.names)}); give a list "
                    "with one for each, null for the default"
                )
        return self

    @model_validator(mode="after")
    def _trained_in_the_step(self) -> Pretrained:
        if not self.freezed and not self.e2e:
            raise ValueError(
                "freezed: false fine-tunes encoders, which must run inside the training step; set "
                "pretrained.e2e: true too"
            )
        if self.gradient_checkpointing and self.freezed:
            raise ValueError(
                "gradient_checkpointing: true saves memory where encoders are fine-tuned; set "
                "pretrained.freezed: false too, or leave it out"
            )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the encoders."""
        return (self.model,) if isinstance(self.model, str) else self.model

    @property
    def encoders(self) -> tuple[EncoderChoice, ...]:
        """The encoders with their files."""
        files, kept = self.checkpoint, self.n_blocks
        files = files if isinstance(files, tuple) else (files,) * len(self.names)
        kept = kept if isinstance(kept, tuple) else (kept,) * len(self.names)
        return tuple(
            EncoderChoice(name, file, n_blocks)
            if file
            else EncoderChoice(name, self._default(name), n_blocks, name == BEATS)
            for name, file, n_blocks in zip(self.names, files, kept, strict=True)
        )

    def _default(self, name: str) -> str:
        return self.beats_checkpoint if name == BEATS else default_weights(name)
