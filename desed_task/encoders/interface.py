"""What every encoder offers: front end, tokens, layer groups, blocks left out, masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from desed_task.encoders.weights_file import ENCODER_RATE
from desed_task.errors import InputError, count_of
from desed_task.features import SpectrumLayout

StateDict = dict[str, Tensor]


class ClipEmbeddings(NamedTuple):
    """Embeddings of clips, as stores keep them and the CRNN takes them.

    Attributes:
        frame: (batch, feature, token).
        global_: (batch, feature), the mean over tokens.
    """

    frame: Tensor
    global_: Tensor


class LayerGroup(NamedTuple):
    """Parameters of an encoder that get one learning rate.

    Attributes:
        name: "head side", "block 11" ... "block 0", "embedding".
        parameters: each parameter of the encoder is in one group.
    """

    name: str
    parameters: tuple[nn.Parameter, ...]


class Origin(str):
    """Where tensors are from, for messages: the path of a file, and the prefix of their names.

    Attributes:
        path: of the file.
        prefix: what stands before the encoder's names in the file.
        renamed: beginning of names of the encoder, and what the file has in its place.
    """

    path: object
    prefix: str
    renamed: tuple[str, str]

    def __new__(cls, path: object, prefix: str = "", renamed: tuple[str, str] = ("", "")) -> Origin:
        """See the class."""
        origin = super().__new__(cls, f"{path}, below {prefix!r}" if prefix else str(path))
        origin.path, origin.prefix, origin.renamed = path, prefix, renamed
        return origin

    def with_names(self, ours: str, theirs: str) -> Origin:
        """The same where names that begin with `ours` begin with `theirs` in the file."""
        return Origin(self.path, self.prefix, (ours, theirs))

    def in_file(self, name: str) -> str:
        """The name that a tensor of the encoder has in the file."""
        ours, theirs = self.renamed
        own = theirs + name.removeprefix(ours) if name.startswith(ours) else name
        return self.prefix + own


class EncoderWeights(NamedTuple):
    """Tensors of a file that belong to an encoder, without the prefix that they have there.

    Attributes:
        state: name -> tensor.
        cfg: the sizes that a file states, as those of BEATs do, or `Encoder.stored_sizes` of a
            checkpoint; empty in most.
        origin: path of the file and the prefix, for messages.
    """

    state: StateDict
    cfg: Mapping[str, Any]
    origin: Origin


class EmbeddingModel(nn.Module, ABC):
    """What gives the embeddings of clips: an `Encoder`, or several whose embeddings are joined.

    Attributes:
        name: of the encoder, in the registry and in `pretrained.model`; "a+b" for several.
        width: features of an embedding.
    """

    name: str
    width: int
    sample_rate: ClassVar[int] = ENCODER_RATE

    @property
    @abstractmethod
    def parts(self) -> tuple[Encoder, ...]:
        """The encoders, in the order of their features."""

    @abstractmethod
    def n_tokens(self, n_samples: int) -> int:
        """Tokens of a waveform of `n_samples`."""

    @abstractmethod
    def embed(self, waveform: Tensor) -> ClipEmbeddings:
        """Embeddings of clips, (batch, sample), float32 in [-1, 1], 16 kHz.

        Raises:
            ValueError: a waveform too short for one token.
        """

    def front_ends(self, waveform: Tensor) -> tuple[Tensor, ...]:
        """What `front_end` of each encoder gives for (batch, sample) in [-1, 1], 16 kHz.

        In float32 whatever the autocast type, and without a graph: nothing in them is trained.
        """
        with torch.no_grad(), torch.autocast(waveform.device.type, enabled=False):
            return tuple(part.front_end(waveform.float()) for part in self.parts)

    @abstractmethod
    def embed_features(self, features: Sequence[Tensor]) -> ClipEmbeddings:
        """Embeddings of what `front_ends` gives, as `embed` computes them."""

    def n_parameters(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self.parameters())


class Encoder(EmbeddingModel):
    """Waveforms (batch, sample) at 16 kHz to tokens (batch, token, feature).

    Tokens are in the order of time, so the first `n_tokens(n)` of a clip's tokens are those of its
    first n samples.

    Attributes:
        name: in the registry and in `pretrained.model`.
        width: features of a token.
        gradient_checkpointing: whether training computes blocks twice instead of keeping what they
            computed; saves memory.
        sha256: of the file that the weights are from; "" for others.
    """

    # Where published files have the tensors, before their names ("model.atst."); "" for bare ones.
    prefixes: ClassVar[tuple[str, ...]] = ("",)
    # Names of tensors that no other encoder has all of; see `is_in`.
    telling: ClassVar[tuple[str, ...]] = ()
    # Beginnings of names of tensors that files have and this code does not need.
    unused: ClassVar[tuple[str, ...]] = ()
    # What `front_end` gives; None if that is not known, so that what works on it is refused.
    spectrum: ClassVar[SpectrumLayout | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.sha256 = ""

    # ---- what an encoder defines

    @classmethod
    @abstractmethod
    def from_weights(cls, weights: EncoderWeights) -> Encoder:
        """The encoder with the sizes of these tensors, and the tensors loaded.

        Raises:
            InputError: naming tensors that are missing or have other shapes.
        """

    @property
    @abstractmethod
    def token_rate(self) -> float:
        """Tokens per second."""

    @abstractmethod
    def front_end(self, waveform: Tensor) -> Tensor:
        """The normalised spectrogram, (batch, band, frame), of (batch, sample) in [-1, 1]."""

    @abstractmethod
    def tokens(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens (batch, token, feature) of what `front_end` gives.

        Args:
            features: (batch, band, frame).
            mask: (batch, token) bool, True for tokens of the clip, False for those of padding.
        """

    # ---- what some define

    @classmethod
    def is_in(cls, state: Mapping[str, Tensor]) -> float:
        """How much these tensors look like those of this encoder, from 0 to 1: here `telling`.

        Args:
            state: tensors without their prefix; a file may lack one or hold others too.
        """
        return sum(name in state for name in cls.telling) / max(1, len(cls.telling))

    @classmethod
    def from_state(cls, weights: EncoderWeights) -> Encoder:
        """The encoder of tensors that `state_dict` gave; here `from_weights`.

        Checkpoints of trainings that fine-tune it hold it so. An encoder whose `from_weights` takes
        other names than its own, or sizes that tensors do not tell, defines this too.

        Args:
            weights: tensors under the encoder's own names, of all blocks that were computed, with
                `stored_sizes` as `cfg`.

        Raises:
            InputError: naming tensors that are missing or have other shapes.
        """
        return cls.from_weights(weights)

    @property
    def stored_sizes(self) -> Mapping[str, int | float | bool | str]:
        """What `from_state` needs beside the tensors; here nothing."""
        return {}

    @property
    def layers(self) -> nn.ModuleList:
        """The blocks, from the input on; here the module list `blocks`."""
        blocks = self._modules.get("blocks")
        if not isinstance(blocks, nn.ModuleList):
            raise TypeError(f"{self.name} has neither a module list `blocks` nor its own `layers`")
        return blocks

    @property
    def final_modules(self) -> Sequence[nn.Module]:
        """Modules behind the last block, such as its norm; here none."""
        return ()

    # ---- what all have

    @property
    def parts(self) -> tuple[Encoder, ...]:
        """Itself."""
        return (self,)

    @property
    def size(self) -> int:
        """Length of an embedding: `width`."""
        return self.width

    def forward(self, waveform: Tensor, n_samples: Tensor | None = None) -> Tensor:
        """Tokens of clips, (batch, token, feature).

        Args:
            waveform: (batch, sample), float32 in [-1, 1], 16 kHz.
            n_samples: (batch,) samples of each clip before its padding, whose tokens then get no
                attention, so that those of the clip are the ones that it has alone. None for
                clips without padding, or padding that counts as silence.

        Raises:
            ValueError: a waveform too short for one token, or not of that shape.
        """
        if waveform.ndim != 2:
            raise ValueError(f"a waveform of shape {tuple(waveform.shape)}, not (batch, sample)")
        if not self.n_tokens(waveform.shape[-1]):
            raise ValueError(f"{waveform.shape[-1]} samples are too few for one token")
        if n_samples is None:
            return self.tokens(self.front_end(waveform))
        features = self._features_of_clips(waveform, n_samples)
        return self.tokens(features, self._mask(waveform, n_samples))

    def embed(self, waveform: Tensor) -> ClipEmbeddings:
        """Embeddings of clips; see `forward`."""
        return _as_embeddings(self(waveform))

    def embed_features(self, features: Sequence[Tensor]) -> ClipEmbeddings:
        """See `EmbeddingModel`; one tensor."""
        (own,) = features
        return _as_embeddings(self.tokens(own))

    def _features_of_clips(self, waveform: Tensor, n_samples: Tensor) -> Tensor:
        """What `front_end` gives for each clip without its padding, and zeros behind.

        Front ends reflect a waveform at its end, or have a floor below its loudest value. A clip
        too short for a token counts as silence.
        """
        n_all = waveform.shape[-1]
        clips_of: dict[int, list[int]] = {}
        for clip, n in enumerate(n_samples.tolist()):
            clips_of.setdefault(min(n, n_all) if self.n_tokens(n) else 0, []).append(clip)
        silence = torch.zeros_like(waveform[:1])
        features = self.front_end(silence).repeat(len(waveform), 1, 1)
        for n, clips in clips_of.items():
            if n:
                own = self.front_end(waveform[clips, :n])
                behind = features.shape[2] - own.shape[2]
                features[clips] = functional.pad(own, (0, behind)).to(features.dtype)
        return features

    def _mask(self, waveform: Tensor, n_samples: Tensor) -> Tensor:
        n_all = self.n_tokens(waveform.shape[-1])
        # Attention over nothing would not be a number.
        n_valid = [max(1, self.n_tokens(int(n))) for n in n_samples]
        place = torch.arange(n_all, device=waveform.device)
        return place < torch.tensor(n_valid, device=waveform.device)[:, None]

    def run_blocks(self, tokens: Tensor, *further: Tensor | None) -> Tensor:
        """Tokens through all blocks, each called with the tokens and `further`."""
        for block in self.layers:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, *further, use_reentrant=False)
            else:
                tokens = block(tokens, *further)
        return tokens

    def stop_after(self, n_blocks: int) -> Encoder:
        """Leave out all blocks but the first `n_blocks`; the final norm stays.

        Raises:
            InputError: it has fewer blocks.
        """
        if not 1 <= n_blocks <= len(self.layers):
            raise InputError(
                f"{self.name}: stopping after {count_of(n_blocks, 'block')}; give 1 to "
                f"{len(self.layers)}"
            )
        del self.layers[n_blocks:]
        return self

    def layer_groups(self) -> tuple[LayerGroup, ...]:
        """All parameters by layer, from the output to the input.

        The first group has what lies behind the last block (empty if nothing does), then comes
        one group per block, and the last one has patch embedding, positions and extra tokens.
        """
        final = [p for module in self.final_modules for p in module.parameters()]
        groups = [LayerGroup("head side", tuple(final))]
        for number, block in reversed(list(enumerate(self.layers))):
            groups.append(LayerGroup(f"block {number}", tuple(block.parameters())))
        known = {id(p) for group in groups for p in group.parameters}
        rest = tuple(p for p in self.parameters() if id(p) not in known)
        return (*groups, LayerGroup("embedding", rest))


def _as_embeddings(tokens: Tensor) -> ClipEmbeddings:
    return ClipEmbeddings(tokens.transpose(1, 2), tokens.mean(dim=1))


def numbered(state: Mapping[str, Tensor], prefix: str) -> Iterator[int]:
    """The block numbers among names like `blocks.11.norm1.weight`, each once, ascending."""
    numbers = {name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)}
    yield from sorted(int(number) for number in numbers if number.isdigit())


def check_encoder(encoder: EmbeddingModel, *, size: int, sample_rate: int) -> None:
    """Reject an encoder that a network cannot have been trained with.

    Args:
        encoder: the encoder.
        size: features that the network takes.
        sample_rate: of the network's input, Hz.

    Raises:
        InputError: stating both values.
    """
    if encoder.width != size:
        raise InputError(
            f"this {encoder.name} yields embeddings of {encoder.width} features, the network takes "
            f"{size}; give the file of weights that it was trained with"
        )
    if sample_rate != encoder.sample_rate:
        raise InputError(
            f"the network takes {sample_rate} Hz and {encoder.name} {encoder.sample_rate} Hz; "
            "train one at that rate"
        )
