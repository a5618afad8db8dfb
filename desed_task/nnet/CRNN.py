"""The CRNN of the 2024 baseline: mel and embeddings in, scores per frame and per clip out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, get_args

import torch
from torch import Generator, Tensor, nn

from desed_task.augment import WHOLE_BATCH, BatchShare, RunScope, zero_runs
from desed_task.errors import InputError, count_of
from desed_task.nnet import fusion
from desed_task.nnet.CNN import CNN, CNNArguments
from desed_task.nnet.dropout import FastDropout
from desed_task.nnet.RNN import BidirectionalGRU

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Generator of the masks, and the rows of the batch that they are drawn for.
_Draws = tuple[Generator | None, BatchShare]

MASKED_LOGIT: Final = -1e30
LEAST_ATTENTION: Final = 1e-7


class Detection(NamedTuple):
    """Scores of a batch of clips, in [0, 1]."""

    strong: Tensor  # (batch, class, frame)
    weak: Tensor  # (batch, class)


class CRNN(nn.Module):
    """Convolutions, embedding fusion, BiGRU and attention over classes (docs/method.md, Network).

    Takes the keys of the configuration's `net` section. The state_dict names are the published
    ones; parts are created in the published order, so that an optimizer's state fits too.

    Args:
        nclass: classes.
        attention: pool frames by attention; by their plain mean otherwise.
        n_RNN_cell: cells of each direction of the GRU.
        n_layers_RNN: GRU layers; 2 in the published checkpoint.
        rnn_type: only BGRU.
        dropout: probability in each CNN block, before the fusion (`cat_tf`; without embeddings
            before the GRU) and after the GRU.
        dropstep_recurrent: longest share of a stream's frames that time dropping zeroes.
        dropstep_recurrent_len: longest run it zeroes, frames.
        dropstep_scope: "batch" or "clip": whether time dropping and SpecAugment draw one run for
            the whole batch, as the published training did, or one per clip.
        use_embeddings: fuse embeddings in.
        embedding_size: features of an embedding.
        embedding_type: "frame" or "global": kind of embeddings in a batch.
        aggregation_type: pool1d, interpolate, frame or global.
        specaugm_t_p: SpecAugment, longest masked share of the frames (0: off).
        specaugm_t_l: longest masked run, frames.
        specaugm_f_p: longest masked share of the mel bands.
        specaugm_f_l: longest masked run, bands.
        **cnn: arguments of `CNN`: n_in_channel, activation, kernel_size, padding, stride,
            nb_filters, pooling.

    Raises:
        InputError: for an unknown name or lists that do not fit together.
    """

    def __init__(
        self,
        *,
        nclass: int = 27,
        attention: bool = True,
        n_RNN_cell: int = 192,
        n_layers_RNN: int = 2,
        rnn_type: str = "BGRU",
        dropout: float = 0.2,
        dropstep_recurrent: float = 0.3,
        dropstep_recurrent_len: int = 16,
        dropstep_scope: RunScope = "batch",
        use_embeddings: bool = True,
        embedding_size: int = 768,
        embedding_type: str = "frame",
        aggregation_type: str = "pool1d",
        specaugm_t_p: float = 0.0,
        specaugm_t_l: int = 5,
        specaugm_f_p: float = 0.0,
        specaugm_f_l: int = 10,
        **cnn: Unpack[CNNArguments],
    ) -> None:
        super().__init__()
        _check_names(rnn_type, aggregation_type, embedding_type, dropstep_scope)
        self.drop_step = (dropstep_recurrent_len, dropstep_recurrent)
        self.mask_time = (specaugm_t_l, specaugm_t_p)
        self.mask_bands = (specaugm_f_l, specaugm_f_p)
        self.run_scope: RunScope = dropstep_scope
        self.embedding_size = embedding_size if use_embeddings else 0
        self.aggregation_type = aggregation_type
        self.cnn = CNN(dropout=dropout, **cnn)
        self.rnn = BidirectionalGRU(self.cnn.n_channels, n_RNN_cell, n_layers_RNN)
        self.dropout = FastDropout(dropout)
        self.dense = nn.Linear(2 * n_RNN_cell, nclass)
        self.dense_softmax = nn.Linear(2 * n_RNN_cell, nclass) if attention else None
        if use_embeddings:
            self._make_fusion()

    def _make_fusion(self) -> None:
        n_channels, size = self.cnn.n_channels, self.embedding_size
        if self.aggregation_type == "frame":
            self.frame_embs_encoder = fusion.frame_encoder(size)
            size = 2 * fusion.FRAME_ENCODER_CELLS
        if self.aggregation_type in ("frame", "global"):
            self.shrink_emb = fusion.shrink(size, n_channels)
            size = n_channels
        self.cat_tf = nn.Linear(n_channels + size, n_channels)

    def forward(
        self,
        mel: Tensor,
        embeddings: Tensor | None = None,
        classes_mask: Tensor | None = None,
        pad_mask: Tensor | None = None,
        generator: Generator | None = None,
        rows: BatchShare = WHOLE_BATCH,
    ) -> Detection:
        """Scores of a batch of clips.

        Args:
            mel: (batch, mel, frame), scaled log-mel.
            embeddings: (batch, feature, token); (batch, feature) too for "global". Ignored by a
                network that does not use them.
            classes_mask: (batch, class) bool, True for known classes; the others score 0.
            pad_mask: (batch, 1, pooled frame) bool, True where a clip is padding.
            generator: CPU generator of the masks drawn in training.
            rows: which rows of a batch these are, if several processes share it.

        Raises:
            InputError: for other mel bands or embeddings than the network was built for.
        """
        return self._heads(self._frames(mel, embeddings, (generator, rows)), classes_mask, pad_mask)

    def frame_logits(self, mel: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """What the frames' scores are the sigmoid of, (batch, frame, class), without a mask.

        Args:
            mel, embeddings: see `forward`.
        """
        frames = self._frames(mel, embeddings, (None, WHOLE_BATCH))
        return at_least_float32(self.dense(frames))

    def _frames(self, mel: Tensor, embeddings: Tensor | None, draws: _Draws) -> Tensor:
        """(batch, frame, feature), what the heads are given."""
        if mel.ndim != 3 or mel.shape[1] != self.cnn.n_mels:
            raise InputError(
                f"mel of shape {tuple(mel.shape)} (batch, mel, frame) does not have the "
                f"{count_of(self.cnn.n_mels, 'band')} that net.pooling reduces to one; set "
                "feats.n_mels to it"
            )
        x = self.cnn(self._masked(mel.transpose(1, 2), draws).unsqueeze(1))
        x = x.squeeze(-1).transpose(1, 2)  # (batch, frame, channel)
        found: Tensor = self.dropout(self.rnn(self._fused(x, embeddings, draws)))
        return found

    def _masked(self, mel: Tensor, draws: _Draws) -> Tensor:
        """SpecAugment of (batch, frame, mel) in training."""
        if not self.training:
            return mel
        mel = zero_runs(mel, 1, *self.mask_time, self.run_scope, *draws)
        return zero_runs(mel, 2, *self.mask_bands, self.run_scope, *draws)

    def _fused(self, x: Tensor, embeddings: Tensor | None, draws: _Draws) -> Tensor:
        """Time dropping of both streams (batch, frame, feature), then their joint projection."""
        if not self.embedding_size:
            dropped: Tensor = self.dropout(self._time_dropped(x, draws))
            return dropped
        embeddings = fusion.check_embeddings(embeddings, self.embedding_size, self.aggregation_type)
        streams = (x, self._aligned(embeddings, x.shape[1]).to(x.dtype))
        joined = torch.cat([self._time_dropped(stream, draws) for stream in streams], dim=-1)
        fused: Tensor = self.cat_tf(self.dropout(joined))
        return fused

    def _time_dropped(self, x: Tensor, draws: _Draws) -> Tensor:
        return zero_runs(x, 1, *self.drop_step, self.run_scope, *draws) if self.training else x

    def _aligned(self, embeddings: Tensor, n_frames: int) -> Tensor:
        """(batch, feature, token) -> (batch, frame, feature) by the chosen aggregation."""
        if self.aggregation_type == "pool1d":
            return fusion.pool_tokens(embeddings, n_frames)
        if self.aggregation_type == "interpolate":
            return fusion.nearest_tokens(embeddings, n_frames)
        if self.aggregation_type == "frame":
            clip = self.frame_embs_encoder(embeddings.transpose(1, 2))[0][:, -1]
        else:
            clip = fusion.clip_embedding(embeddings)
        shrunk: Tensor = self.shrink_emb(clip)
        return shrunk.unsqueeze(1).expand(-1, n_frames, -1)

    def _heads(self, x: Tensor, classes_mask: Tensor | None, pad_mask: Tensor | None) -> Detection:
        """Scores from (batch, frame, feature), in float32 or better whatever the autocast type.

        MASKED_LOGIT does not fit float16, and the sums over 156 frames need the precision.
        """
        strong = torch.sigmoid(at_least_float32(self.dense(x)))
        if self.dense_softmax is None:
            weak = strong.mean(1)
        else:
            attention = attend(at_least_float32(self.dense_softmax(x)), classes_mask, pad_mask)
            weak = (strong * attention).sum(1) / attention.sum(1)
        if classes_mask is not None:
            strong = strong.masked_fill(~classes_mask.unsqueeze(1), 0.0)
            weak = weak.masked_fill(~classes_mask, 0.0)
        return Detection(strong.transpose(1, 2), weak)


def attend(logits: Tensor, classes_mask: Tensor | None, pad_mask: Tensor | None) -> Tensor:
    """Attention over the classes of each frame; a padded frame attends to all of them equally.

    Args:
        logits: (batch, frame, class).
        classes_mask: (batch, class) bool, True for known classes.
        pad_mask: (batch, 1, frame) bool, True for padding.

    Returns:
        (batch, frame, class) in [1e-7, 1].
    """
    if pad_mask is not None:
        logits = logits.masked_fill(pad_mask.transpose(1, 2), MASKED_LOGIT)
    if classes_mask is not None:
        logits = logits.masked_fill(~classes_mask.unsqueeze(1), MASKED_LOGIT)
    return logits.softmax(-1).clamp(min=LEAST_ATTENTION, max=1.0)


def at_least_float32(x: Tensor) -> Tensor:
    """Half-precision tensors as float32; others unchanged."""
    return x if x.dtype == torch.float64 else x.float()


def _check_names(
    rnn_type: str, aggregation_type: str, embedding_type: str, dropstep_scope: str
) -> None:
    if rnn_type != "BGRU":
        raise InputError(f"net.rnn_type: unknown {rnn_type!r}; known: BGRU")
    if aggregation_type not in fusion.AGGREGATIONS:
        known = ", ".join(fusion.AGGREGATIONS)
        raise InputError(f"net.aggregation_type: unknown {aggregation_type!r}; known: {known}")
    if embedding_type not in ("frame", "global"):
        raise InputError(f"net.embedding_type: unknown {embedding_type!r}; known: frame, global")
    if dropstep_scope not in get_args(RunScope):
        raise InputError(f"net.dropstep_scope: unknown {dropstep_scope!r}; known: batch, clip")
    if embedding_type == "global" and aggregation_type != "global":
        raise InputError(
            f"net.aggregation_type = {aggregation_type!r} needs net.embedding_type = 'frame', "
            "not 'global'"
        )
