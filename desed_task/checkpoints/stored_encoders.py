"""The encoders that a checkpoint holds, rebuilt from its tensors without the original files.

    checkpoint = load_safely(Path("stage2/version_0/checkpoints/last.ckpt"))
    encoder = encoder_from_checkpoint(checkpoint, "teacher")
    encoder.embed(waveform).frame  # (batch, feature, token)

Where encoders ran inside the steps of training, `state_dict` has that of the student below
`encoder_student.` and that of the teacher below `encoder_teacher.`; several are below
`encoder_student.encoders.0.` and so on. The specification names them, with the sizes that tensors
do not tell. A name only chooses among the encoders that are installed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor

from desed_task.checkpoints.encoder_specs import EncoderSpec, in_words
from desed_task.checkpoints.spec import DetectorSpec
from desed_task.checkpoints.state_names import ENCODER_PREFIXES, encoder_tensors
from desed_task.encoders.concatenated import ConcatenatedEncoders
from desed_task.encoders.files.recognition import encoder_class
from desed_task.encoders.files.tensors import check_encoder_tensors
from desed_task.encoders.interface import (
    EmbeddingModel,
    Encoder,
    EncoderWeights,
    Origin,
    StateDict,
)
from desed_task.encoders.own import check_output, made_of
from desed_task.encoders.registry import BUILT_IN, kind_of
from desed_task.errors import InputError, count_of

_SEVERAL: Final = re.compile(r"encoders\.(\d+)\.")


def encoder_from_checkpoint(
    checkpoint: Mapping[str, Any], role: str, origin: str = "this checkpoint"
) -> EmbeddingModel:
    """The encoder of one of a checkpoint's networks, on the CPU; no code of the file runs.

    Args:
        checkpoint: as `load_safely` gives it.
        role: "student" or "teacher".
        origin: name of the file for messages.

    Returns:
        One encoder, or several that are joined in the order of their features; in eval mode, its
        parameters float32 and not trainable. `sha256` is that of the file that training started
        from.

    Raises:
        InputError: the checkpoint holds none, or tensors are missing, unknown, of another shape or
            not finite; all of them are named.
    """
    spec = DetectorSpec.of_checkpoint(checkpoint, origin)
    return stored_encoder(spec, checkpoint["state_dict"], role, origin)


def stored_encoder(
    spec: DetectorSpec, state: Mapping[str, Tensor], role: str, origin: str
) -> EmbeddingModel:
    """The encoder of one of a checkpoint's networks; see `encoder_from_checkpoint`.

    Args:
        spec: of the checkpoint.
        state: its state_dict.
        role, origin: see `encoder_from_checkpoint`.

    Raises:
        InputError: see `encoder_from_checkpoint`.
    """
    if role not in ENCODER_PREFIXES:
        raise InputError(f"no network {role!r}; known: {', '.join(ENCODER_PREFIXES)}")
    if not spec.holds_encoders:
        where = f"; its embeddings are those of {in_words(spec.encoders)}" if spec.encoders else ""
        raise InputError(
            f"{origin}: holds no encoder, as none ran inside the steps of its training{where}; "
            "give a checkpoint of a training with pretrained.e2e: true"
        )
    encoders = [
        _rebuilt(one, part, Origin(origin, prefix))
        for one, (prefix, part) in zip(
            spec.encoders, _parts(spec.encoders, state, role, origin), strict=True
        )
    ]
    if len(encoders) == 1:
        return encoders[0]
    return ConcatenatedEncoders(encoders, spec.grid.n_frames, spec.net["aggregation_type"])


def check_stored_encoders(spec: DetectorSpec, state: Mapping[str, Tensor], origin: str) -> None:
    """Check that the encoders of both networks can be rebuilt, one after the other.

    Raises:
        InputError: see `encoder_from_checkpoint`.
    """
    for role in ENCODER_PREFIXES if spec.holds_encoders else ():
        stored_encoder(spec, state, role, origin)


def check_storable(model: EmbeddingModel) -> None:
    """Refuse to train with an encoder inside the steps that a checkpoint would not give back.

    Encoders of other packages are rebuilt from their tensors to find out; those of this one can be.

    Args:
        model: one or several encoders, as a training starts with.

    Raises:
        InputError: naming what its class lacks.
    """
    for part in model.parts:
        if kind_of(part.name) in BUILT_IN:
            continue
        one = EncoderSpec(part.name, part.width, sizes=sizes_text(part))
        state = {name: value.detach() for name, value in part.state_dict().items()}
        try:
            _rebuilt(one, state, Origin(f"a checkpoint of {part.name}"))
        except InputError as error:
            raise InputError(
                f"encoder {part.name}: cannot run inside the steps, as a checkpoint would not "
                f"give it back: {error}; let its class define from_state and stored_sizes "
                "(docs/encoders.md)"
            ) from None


def sizes_text(part: Encoder) -> str:
    """What a specification keeps of `Encoder.stored_sizes`: JSON, "" for none."""
    sizes = dict(part.stored_sizes)
    return json.dumps(sizes, sort_keys=True) if sizes else ""


def _parts(
    encoders: tuple[EncoderSpec, ...], state: Mapping[str, Tensor], role: str, origin: str
) -> list[tuple[str, StateDict]]:
    """Prefix and tensors of each encoder of a network."""
    prefix, below = ENCODER_PREFIXES[role], encoder_tensors(state, role)
    if not below:
        raise InputError(
            f"{origin}: holds no tensors below {prefix!r}, so the {role} has no encoder; get the "
            "file again"
        )
    if len(encoders) == 1:
        return [(prefix, below)]
    parts: list[tuple[str, StateDict]] = [
        (f"{prefix}encoders.{n}.", {}) for n in range(len(encoders))
    ]
    foreign = []
    for name, value in below.items():
        found = _SEVERAL.match(name)
        place = int(found[1]) if found and len(found[1]) < 4 else len(parts)
        if found is None or place >= len(parts):
            foreign.append(f"{prefix}{name} is of none of {in_words(encoders)}")
        else:
            parts[place][1][name[found.end() :]] = value
    if foreign:
        raise InputError.collect(foreign, f"{origin}: tensors of encoders that it does not name:")
    return parts


def _rebuilt(one: EncoderSpec, state: StateDict, origin: Origin) -> Encoder:
    """An encoder that has exactly these tensors."""
    kind = kind_of(one.name)
    weights = EncoderWeights(state, json.loads(one.sizes) if one.sizes else {}, origin)
    encoder = made_of(encoder_class(kind), weights, own_state=True)
    own = encoder.state_dict()
    check_encoder_tensors(own, state, origin, one.title)
    unknown = [f"{origin.in_file(name)} is not in {one.title}" for name in state if name not in own]
    problems = unknown + _contradictions(one, encoder)
    if problems:
        raise InputError.collect(problems, f"{origin}: not {one.in_words}:")
    if kind not in BUILT_IN:
        encoder.load_state_dict(state)
        check_output(encoder)
    encoder.sha256 = one.checkpoint_sha256
    return encoder.requires_grad_(False).eval()


def _contradictions(one: EncoderSpec, encoder: Encoder) -> list[str]:
    problems, n_blocks = [], len(encoder.layers)
    if one.width not in (0, encoder.width):
        problems.append(
            f"embeddings of {encoder.width} features by its tensors, {one.width} by its "
            "specification"
        )
    if one.n_blocks not in (0, n_blocks):
        problems.append(
            f"{count_of(n_blocks, 'block')} by its tensors, {one.n_blocks} by its specification"
        )
    return problems
