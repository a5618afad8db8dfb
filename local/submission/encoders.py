"""Size and cost of the encoders whose embeddings a submitted system takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from desed_task.atomic_files import sha256_of
from desed_task.checkpoints.encoder_specs import BEATS, EncoderSpec
from desed_task.checkpoints.safe_load import load_safely
from desed_task.checkpoints.spec import DetectorSpec
from desed_task.checkpoints.stored_encoders import encoder_from_checkpoint
from desed_task.encoders.interface import Encoder
from desed_task.encoders.loading import load_encoder
from desed_task.encoders.macs import encoder_macs
from desed_task.encoders.registry import kind_of
from desed_task.encoders.released import IN_WORDS, RELEASED
from desed_task.encoders.weights_file import DEFAULT_BEATS, MINI_BEATS, find_weights
from desed_task.errors import InputError
from desed_task.inference.encoder_files import load_encoders
from local.config import RecipeConfig

PUBLISHED_SPELLINGS = tuple(name for name in DEFAULT_BEATS if name != MINI_BEATS)


class EncoderCost(NamedTuple):
    """An encoder in the metadata of a submission.

    Attributes:
        name: its title, with its blocks if they are not all.
        pretraining: what its weights were trained with; None if their file is not a known one.
        checkpoint_sha256: of the file of the weights; of the system's checkpoint where that holds
            the encoder.
        parameters: number of weights that are used.
        macs: multiply-accumulate operations for a clip.
        fine_tuned_from: SHA-256 of the file that fine-tuning started from, "" if it is not known;
            None for weights as they were released.
    """

    name: str
    pretraining: str | None
    checkpoint_sha256: str
    parameters: int
    macs: int
    fine_tuned_from: str | None = None


def encoder_costs(
    config: RecipeConfig,
    given: Sequence[Path],
    clip_s: float,
    checkpoint: Path | None = None,
    role: str = "student",
) -> tuple[EncoderCost, ...]:
    """The encoders of a configuration; none of a network without embeddings.

    Args:
        config: of the evaluation.
        given: files of weights, for encoders whose configured file is elsewhere now.
        clip_s: length of the clip that operations are counted for.
        checkpoint: the evaluated one, which holds encoders that ran inside the training step.
        role: "student" or "teacher", whose scores are submitted.

    Raises:
        InputError: weights or the checkpoint are missing, or weights are of other encoders.
    """
    if not config.net.use_embeddings:
        return ()
    if config.pretrained.e2e and checkpoint is not None:
        return _fine_tuned(config, given, clip_s, checkpoint, role)
    choices = config.pretrained.encoders
    wanted = [EncoderSpec(choice.name, n_blocks=choice.n_blocks or 0) for choice in choices]
    files: dict[str, Path] = {choice.name: Path(choice.file) for choice in choices}
    try:
        encoders = load_encoders(wanted, list(given), lambda one: files[one.name])
    except InputError as error:
        raise InputError(
            f"{error}; or give the weights that computed the embeddings with --encoder, because "
            "their parameters count"
        ) from None
    return tuple(
        _cost(encoder, one, clip_s, [*given, files[one.name]])
        for encoder, one in zip(encoders, wanted, strict=True)
    )


def system_costs(
    networks: Sequence[tuple[RecipeConfig, Path | None]],
    given: Sequence[Path],
    clip_s: float,
    role: str = "student",
) -> tuple[EncoderCost, ...]:
    """The encoders of all networks of a system, each once, as embeddings are computed once.

    Args:
        networks: configuration and checkpoint of each; None for one that is not here.
        given: see `encoder_costs`; of several networks, each takes those that hold its encoders, as
            far as its checkpoint says which weights these have.
        clip_s: length of the clip that operations are counted for.
        role: "student" or "teacher".

    Raises:
        InputError: see `encoder_costs`; for files that no network takes; and for a checkpoint that
            does not say which of several files of an encoder it was trained with.
    """
    files = [list(given) for _ in networks]
    if len(networks) > 1 and given:
        held = [_held(path) for path in given]
        files = [_of_network(config, checkpoint, held) for config, checkpoint in networks]
        for one in held:
            if not any(one.path in taken for taken in files):
                raise InputError(
                    f"{one.path}: holds {EncoderSpec(one.name).title} (SHA-256 "
                    f"{one.sha256[:12]}...), of which no averaged checkpoint takes embeddings from "
                    "a file; leave out this --encoder"
                )
    costs = [
        cost
        for (config, checkpoint), taken in zip(networks, files, strict=True)
        for cost in encoder_costs(config, taken, clip_s, checkpoint, role)
    ]
    distinct: dict[tuple[str, str, str | None], EncoderCost] = {}
    for cost in costs:
        # Of files with the same weights, the name of one may tell their training.
        key = cost.name, cost.checkpoint_sha256, cost.fine_tuned_from
        if key not in distinct or distinct[key].pretraining is None:
            distinct[key] = cost
    return tuple(distinct.values())


class _HeldEncoder(NamedTuple):
    """The encoder that a given file holds."""

    path: Path
    name: str
    sha256: str


def _held(path: Path) -> _HeldEncoder:
    encoder = load_encoder(find_weights(path, BEATS))
    return _HeldEncoder(path, encoder.name, encoder.sha256)


def _of_network(
    config: RecipeConfig, checkpoint: Path | None, held: Sequence[_HeldEncoder]
) -> list[Path]:
    """The given files that a network takes embeddings of."""
    if config.pretrained.e2e or not config.net.use_embeddings:
        return []
    trained_with, found = _weights_of(checkpoint), []
    for choice in config.pretrained.encoders:
        there = {one.sha256: one.path for one in held if one.name == choice.name}
        sha256 = trained_with.get(choice.name, "")
        if not sha256 and len(there) > 1:
            raise InputError(
                f"{checkpoint or 'an averaged checkpoint that is not here'}: does not tell its "
                f"{EncoderSpec(choice.name).title} weights, and "
                f"{' and '.join(map(str, there.values()))} hold different ones; give one of them, "
                "or put the checkpoint back"
            )
        found += [path for digest, path in there.items() if sha256 in ("", digest)]
    return found


def _weights_of(checkpoint: Path | None) -> dict[str, str]:
    """Encoder -> SHA-256 of the weights that a checkpoint was trained with, as far as it tells."""
    if checkpoint is None:
        return {}
    try:
        spec = DetectorSpec.of_checkpoint(load_safely(checkpoint), str(checkpoint))
    except InputError:
        return {}
    return {one.name: one.checkpoint_sha256 for one in spec.encoders}


def _fine_tuned(
    config: RecipeConfig, given: Sequence[Path], clip_s: float, checkpoint: Path, role: str
) -> tuple[EncoderCost, ...]:
    """The encoders that a checkpoint holds."""
    if given:
        raise InputError(
            f"{checkpoint}: holds its own encoder, so --encoder names none of the submitted "
            "system; leave it out"
        )
    found = encoder_from_checkpoint(load_safely(checkpoint), role, str(checkpoint))
    sha256, choices = sha256_of(checkpoint), config.pretrained.encoders
    costs = []
    for part, choice in zip(found.parts, choices, strict=True):
        one = EncoderSpec(choice.name, n_blocks=choice.n_blocks or 0)
        cost = _cost(part, one, clip_s, ())
        # The file need not be here; one that is here must be that of training.
        file = Path(choice.file)
        known = not file.is_file() or _is_of(file, part)
        pretraining = _pretraining(one.name, file) if known else None
        frozen = config.pretrained.freezed
        costs.append(
            cost._replace(
                pretraining=pretraining,
                checkpoint_sha256=part.sha256 if frozen else sha256,
                fine_tuned_from=None if frozen else part.sha256,
            )
        )
    return tuple(costs)


def _cost(encoder: Encoder, one: EncoderSpec, clip_s: float, files: Sequence[Path]) -> EncoderCost:
    macs = encoder_macs(encoder, round(clip_s * encoder.sample_rate))
    told = (_pretraining(one.name, file) for file in files if _is_of(file, encoder))
    pretraining = next(filter(None, told), None)
    return EncoderCost(one.in_words, pretraining, encoder.sha256, encoder.n_parameters(), macs)


def _is_of(file: Path, encoder: Encoder) -> bool:
    """Whether an encoder was loaded from a file."""
    return file.is_file() and sha256_of(file) == encoder.sha256


def _pretraining(name: str, file: Path) -> str | None:
    """What the weights of a file were trained with, by its published name."""
    known = {row.file: row.pretraining for row in RELEASED if row.encoder == name}
    if name == BEATS:
        known |= dict.fromkeys(PUBLISHED_SPELLINGS, "ssl")
    return IN_WORDS[known[file.name]] if file.name in known else None


def plain_costs(costs: Sequence[EncoderCost]) -> list[dict[str, Any]]:
    """The encoders as the metadata file lists them."""
    of_all = [cost._asdict() for cost in costs]
    return [
        {key: value for key, value in one.items() if key != "fine_tuned_from" or value is not None}
        for one in of_all
    ]


def titles(config: RecipeConfig) -> str | list[str]:
    """Titles of the encoders of a configuration; those that were trained with it say so."""
    how = "" if config.pretrained.freezed else ", fine-tuned"
    found = [kind_of(choice.name).title + how for choice in config.pretrained.encoders]
    return found[0] if len(found) == 1 else found
