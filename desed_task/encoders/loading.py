"""Load an encoder from a file of weights, whatever published layout it has."""

from __future__ import annotations

import warnings
from typing import Final

import torch

from desed_task.atomic_files import PathLike, sha256_of
from desed_task.encoders.files.reading import WeightsContent, read_weights
from desed_task.encoders.files.recognition import (
    Recognised,
    beside_encoder,
    encoder_class,
    recognise,
    without_prefix,
)
from desed_task.encoders.interface import Encoder, EncoderWeights, Origin
from desed_task.encoders.own import check_output, made_of
from desed_task.encoders.registry import BUILT_IN, kind_of
from desed_task.encoders.weights_file import find_weights
from desed_task.errors import count_of

# Every published encoder has so many blocks and such tokens; no tensor tells of blocks that lack.
PUBLISHED_BLOCKS: Final = 12
PUBLISHED_WIDTHS: Final = (768, 3840)

__all__ = [
    "Recognised",
    "WeightsContent",
    "beside_encoder",
    "encoder_class",
    "encoder_in",
    "load_encoder",
    "read_weights",
    "recognise",
]


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
        the encoder in eval mode, its parameters float32 and not trainable, with the file's
        `sha256`.

    Raises:
        InputError: the file is missing, not a file of weights, holds another or no known encoder,
            or tensors are missing or have other shapes (all are named).
    """
    found = find_weights(path, name)
    content = read_weights(found)
    recognised = recognise(content, None if name is None else kind_of(name))
    encoder = encoder_in(content, recognised)
    if recognised.kind not in BUILT_IN:
        check_output(encoder)
    if n_blocks is not None:
        encoder.stop_after(n_blocks)
    encoder.sha256 = sha256_of(found)
    return encoder.requires_grad_(False).eval().to(device)


def encoder_in(content: WeightsContent, recognised: Recognised) -> Encoder:
    """The encoder of a file's tensors.

    Raises:
        InputError: tensors are missing or have other shapes.
    """
    prefix = recognised.prefix
    state = without_prefix(content.state, prefix)
    weights = EncoderWeights(state, content.cfg, Origin(content.path, prefix))
    kind_class = encoder_class(recognised.kind)
    if recognised.kind not in BUILT_IN:
        return made_of(kind_class, weights)
    encoder = kind_class.from_weights(weights)
    n_blocks = len(encoder.layers)
    if encoder.width in PUBLISHED_WIDTHS and n_blocks != PUBLISHED_BLOCKS:
        warnings.warn(
            f"{content.path}: holds {count_of(n_blocks, 'block')} of {recognised.kind.title}, of "
            f"which published files have {PUBLISHED_BLOCKS}; without the others, embeddings are "
            "not those of the published encoder",
            UserWarning,
            stacklevel=2,
        )
    return encoder
