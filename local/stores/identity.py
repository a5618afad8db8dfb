"""What embeddings are computed with, as their files record it."""

from __future__ import annotations

from desed_task.dataio.embeddings import CHECKPOINT_SHA256, ENCODER, N_BLOCKS
from local.schema.encoders import BEATS, EncoderChoice

StoredIdentity = dict[str, str | float]


def identity_of(choice: EncoderChoice, sha256: str, clip_s: float) -> StoredIdentity:
    """The identity of embeddings: encoder, weights, number of blocks and length of a clip.

    That of all blocks of BEATs is the one that earlier versions recorded.

    Args:
        choice: the encoder.
        sha256: of its weights.
        clip_s: length of a clip in seconds.
    """
    identity: StoredIdentity = {CHECKPOINT_SHA256: sha256, "clip_s": clip_s}
    if choice.name != BEATS:
        identity[ENCODER] = choice.name
    if choice.n_blocks is not None:
        # A float, as numbers are read back.
        identity[N_BLOCKS] = float(choice.n_blocks)
    return identity
