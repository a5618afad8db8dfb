"""Which encoders and weights stored embeddings were made with, and whether those of training."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from desed_task.checkpoints.encoder_specs import BEATS, EncoderSpec, in_words
from desed_task.checkpoints.spec import SPEC_KEY, DetectorSpec
from desed_task.dataio.embeddings import ENCODER, N_BLOCKS, RowReader
from local.config import RecipeConfig

Value = TypeVar("Value", int, str)


def encoders_of(config: RecipeConfig, readers: Sequence[RowReader | None]) -> list[EncoderSpec]:
    """The encoders of a configuration, with what all embeddings say of them alike."""
    told: dict[str, set[EncoderSpec]] = {}
    for reader in filter(None, readers):
        for one in encoders_of_embeddings(reader):
            told.setdefault(one.name, set()).add(one)
    encoders = [
        EncoderSpec(
            choice.name,
            _alike([one.width for one in told.get(choice.name, ())], 0),
            _alike([one.checkpoint_sha256 for one in told.get(choice.name, ())], ""),
            choice.n_blocks or 0,
            _alike([one.n_tokens for one in told.get(choice.name, ())], 0),
        )
        for choice in config.pretrained.encoders
    ]
    if len(encoders) == 1:
        return [encoders[0]._replace(width=config.net.embedding_size)]
    return encoders


def _alike(values: Iterable[Value], otherwise: Value) -> Value:
    """The value of all, or what stands for an unknown one."""
    found = set(values)
    return found.pop() if len(found) == 1 else otherwise


def encoders_of_embeddings(reader: RowReader) -> tuple[EncoderSpec, ...]:
    """What stored embeddings say of the encoders that made them; "" as name if nothing.

    Args:
        reader: of one store, or of several that are joined, its `parts`.
    """
    return tuple(
        EncoderSpec(
            str(part.identity.get(ENCODER, BEATS)) if part.identity else "",
            part.size,
            str(part.identity.get("checkpoint_sha256", "")),
            int(part.identity.get(N_BLOCKS, 0)),
            part.n_tokens,
        )
        for part in reader.parts
    )


def warn_of_other_embeddings(
    checkpoint: Mapping[str, Any], readers: Sequence[RowReader | None], origin: str
) -> None:
    """Warn if the embeddings are not those of the encoders and weights of training.

    A checkpoint that holds its encoders was trained without stored embeddings.
    """
    if SPEC_KEY not in checkpoint:
        return
    spec = DetectorSpec.from_dict(checkpoint[SPEC_KEY], origin)
    trained = spec.encoders
    if spec.holds_encoders:
        return
    found = [encoders_of_embeddings(reader) for reader in readers if reader]
    for message in dict.fromkeys(_difference(trained, here) for here in found):
        if message:
            warnings.warn(f"{origin} was trained on embeddings of {message}", stacklevel=2)


def _difference(trained: Sequence[EncoderSpec], here: Sequence[EncoderSpec]) -> str:
    """How embeddings differ from those of training; "" if they do not as far as is known."""
    pairs = list(zip(trained, here, strict=False))
    others = [one for then, one in pairs if one.name not in ("", then.name)]
    if others or len(trained) != len(here):
        return (
            f"{in_words(trained)}, those here are of {in_words(here)}; its scores may be "
            "meaningless: extract embeddings of the same encoders"
        )
    for then, now in pairs:
        if now.name and now.n_blocks != then.n_blocks:
            return (
                f"{then.in_words}, those here are of {now.in_words}; extract them again with "
                "the same pretrained.n_blocks"
            )
        if then.digits and now.digits and then.digits != now.digits:
            return (
                f"other {then.title} weights ({then.digits}) than those here "
                f"({now.digits.removeprefix('SHA-256 ')}); extract them again with the same "
                "weights"
            )
    return ""
