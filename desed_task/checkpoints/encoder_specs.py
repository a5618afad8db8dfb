"""The section `embedding` of a specification: the encoders that a detector was trained with.

    {"size": 1536, "in_checkpoint": False,
     "encoders": [{"name": "beats", "width": 768, "checkpoint_sha256": "90d9...", "n_blocks": 0,
                   "n_tokens": 496, "sizes": ""}, {"name": "atst_frame", ...}]}

Until schema 4 it had neither `in_checkpoint` nor `sizes`, until schema 3 it was {"model": "BEATs",
"size": 768, "checkpoint_sha256": ""}.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from desed_task.encoders.registry import EncoderKind, kinds
from desed_task.errors import InputError, count_of

BEATS: Final = "beats"
_SHA256 = re.compile(r"(?:[0-9a-f]{64})?")
_DIGITS = 12
# Those of BEATs have about 300 characters.
_MOST_SIZES = 10_000


class EncoderSpec(NamedTuple):
    """An encoder that a detector's embeddings come from.

    Attributes:
        name: in the registry.
        width: features of its embeddings; 0 where it is not known.
        checkpoint_sha256: of its file of weights, from which training started where the checkpoint
            holds the encoder; "" if it is not known.
        n_blocks: blocks that were computed, from the input on; 0 for all.
        n_tokens: frame embeddings of a clip; 0 where it is not known.
        sizes: `Encoder.stored_sizes` as JSON, where the checkpoint holds the encoder and its
            tensors do not tell them; else "".
    """

    name: str = BEATS
    width: int = 0
    checkpoint_sha256: str = ""
    n_blocks: int = 0
    n_tokens: int = 0
    sizes: str = ""

    @property
    def title(self) -> str:
        """Its name in texts."""
        found = kinds().get(self.name)
        return self.name if found is None else found.title

    @property
    def in_words(self) -> str:
        """Its title, and its blocks if they are not all."""
        kept = f" ({count_of(self.n_blocks, 'block')})" if self.n_blocks else ""
        return self.title + kept

    @property
    def digits(self) -> str:
        """The first digits of the SHA-256, for messages; "" if it is not known."""
        return f"SHA-256 {self.checkpoint_sha256[:_DIGITS]}..." if self.checkpoint_sha256 else ""


def in_words(encoders: Sequence[EncoderSpec]) -> str:
    """Encoders in a sentence."""
    return " and ".join(one.in_words for one in encoders)


def embedding_section(
    size: int, encoders: Sequence[EncoderSpec], *, in_checkpoint: bool = False
) -> dict[str, Any]:
    """The section, as plain values.

    Args:
        size: features that the network takes.
        encoders: in the order of their features.
        in_checkpoint: whether the checkpoint holds the encoders, as after fine-tuning.
    """
    of_each = [encoder._asdict() for encoder in encoders]
    return {"size": size, "in_checkpoint": in_checkpoint, "encoders": of_each}


def encoders_in(embedding: Mapping[str, Any]) -> tuple[EncoderSpec, ...]:
    """The encoders of a checked section; a single one has all features."""
    encoders = tuple(EncoderSpec(**one) for one in embedding["encoders"])
    if len(encoders) == 1 and not encoders[0].width:
        return (encoders[0]._replace(width=embedding["size"]),)
    return encoders


def section_of_today(embedding: Any) -> Any:
    """The section of schema 4 or earlier in the form of today; what is no section as it is."""
    if not isinstance(embedding, dict):
        return embedding
    section = _section_of_schema_4(embedding)
    if isinstance(section.get("encoders"), list):
        added = {"sizes": ""}
        encoders = [added | one if isinstance(one, dict) else one for one in section["encoders"]]
        section = {**section, "encoders": encoders}
    return {"in_checkpoint": False, **section}


def _section_of_schema_4(embedding: dict[str, Any]) -> dict[str, Any]:
    """The section of schema 3 and earlier as schema 4 has it; others as they are."""
    if "model" not in embedding:
        return embedding
    model = embedding["model"]
    name = name_of_model(model) if isinstance(model, str) else model
    one = EncoderSpec()._asdict() | {"name": name}
    one |= {key: embedding[key] for key in ("checkpoint_sha256",) if key in embedding}
    known = ("model", "checkpoint_sha256")
    rest = {key: value for key, value in embedding.items() if key not in known}
    return {**rest, "encoders": [one]}


def with_keys_of_schema_3(embedding: Mapping[str, Any]) -> dict[str, Any]:
    """A section with the keys `model` and `checkpoint_sha256` that it had until schema 3 besides.

    Programs of others read them in the metadata of ONNX files. The SHA-256 is that of a single
    encoder, and of none that the checkpoint holds: the file gives other embeddings.
    """
    encoders = encoders_in(embedding)
    digests = {"" if embedding["in_checkpoint"] else one.checkpoint_sha256 for one in encoders}
    return {
        "model": "+".join(one.title for one in encoders),
        "checkpoint_sha256": digests.pop() if len(encoders) == 1 else "",
        **embedding,
    }


def name_of_model(model: str) -> str:
    """The name of an encoder of a title, or of a name in other letters; others as they are."""
    told = model.lower()
    return next((k.name for k in kinds().values() if told in (k.name, k.title.lower())), model)


def embedding_problems(embedding: Mapping[str, Any], net: Mapping[str, Any]) -> list[str]:
    """What is wrong with a section of the right form, and with the network that belongs to it.

    A name only chooses among the encoders that are installed; nothing that a file names is
    imported. What a network without embeddings says of them does not matter.
    """
    if not net["use_embeddings"]:
        held = "embedding.in_checkpoint is true, but net.use_embeddings is false"
        return [held] if embedding["in_checkpoint"] else []
    encoders, size = embedding["encoders"], embedding["size"]
    problems = []
    if size != net["embedding_size"]:
        problems.append(
            f"embedding.size is {size}, net.embedding_size {net['embedding_size']}; they must be "
            "the same"
        )
    known = kinds()
    for place, one in enumerate(encoders):
        if one["name"] not in known:
            problems.append(_unknown(f"embedding.encoders.{place}.name", one["name"], known))
        if not _SHA256.fullmatch(one["checkpoint_sha256"]):
            problems.append(
                f"embedding.encoders.{place}.checkpoint_sha256: {one['checkpoint_sha256']!r} is "
                "not a SHA-256 in 64 hexadecimal digits"
            )
        if one["sizes"] and not _are_sizes(one["sizes"]):
            problems.append(
                f"embedding.encoders.{place}.sizes: {one['sizes'][:40]!r} is not a JSON object of "
                "plain values"
            )
    names = [one["name"] for one in encoders]
    if len(set(names)) < len(names):
        problems.append("embedding.encoders: an encoder occurs twice")
    return problems + _width_problems([one["width"] for one in encoders], size)


def _are_sizes(text: str) -> bool:
    try:
        found = json.loads(text) if len(text) <= _MOST_SIZES else None
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and all(
        isinstance(value, bool | int | float | str) for value in found.values()
    )


def _unknown(key: str, name: str, known: Mapping[str, EncoderKind]) -> str:
    return (
        f"{key}: no encoder {name!r} is installed (known: {', '.join(known)}); install the package "
        "that provides it (docs/encoders.md)"
    )


def _width_problems(widths: Sequence[int], size: int) -> list[str]:
    total, unknown = sum(widths), widths.count(0)
    # Each that is not known has one feature at least.
    if (total == size) if not unknown else (total + unknown <= size):
        return []
    added = " + ".join(str(width or "unknown") for width in widths)
    return [f"embedding.encoders: widths of {added} features do not make embedding.size = {size}"]


def encoders_named(hyper_parameters: object) -> tuple[EncoderSpec, ...]:
    """The encoders that a file's `hyper_parameters` name in `pretrained.model`; BEATs by default.

    Raises:
        InputError: the value is no name and no list of names.
    """
    section = hyper_parameters.get("pretrained") if isinstance(hyper_parameters, Mapping) else None
    model = section.get("model", BEATS) if isinstance(section, Mapping) else BEATS
    names = [model] if isinstance(model, str) else model
    if not isinstance(names, list | tuple) or not names:
        raise InputError(
            f"hyper_parameters.pretrained.model is {model!r}, not the name of an encoder"
        )
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"hyper_parameters.pretrained.model is {model!r}, not a list of names")
    return tuple(EncoderSpec(name_of_model(name)) for name in names)
