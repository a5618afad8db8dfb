"""Replacements for parts of the networks that torch's ONNX exporter handles slowly or badly.

They compute the same values (`tests/desed_task/inference/test_onnx_export.py`) and are used in
exported graphs only:

- A GRU is traced step by step, 30 s for the CRNN's two layers and 2 minutes for 496 tokens; ONNX
  has an operator for the whole layer.
- The STFT of ONNX's usual runtime is up to 0.02 off in the logarithm of faint bands where the
  length is no power of two (M2D's 400 samples), and ten times slower than a product with the
  cosines and sines, 1e-4 off.
- Averaging 496 tokens to 156 frames has windows of different lengths, which no pooling operator of
  ONNX supports; it is a product with a constant matrix, and so is taking the nearest token.
"""

from __future__ import annotations

import copy
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

from desed_task.encoders.concatenated import ConcatenatedEncoders, align_tokens
from desed_task.encoders.interface import ClipEmbeddings, EmbeddingModel
from desed_task.encoders.mel_spectrogram import HOP_SAMPLES, PowerSpectrum
from desed_task.nnet import fusion
from desed_task.nnet.CRNN import CRNN, Detection

_N_GATES = 3
Network = TypeVar("Network", bound=nn.Module)


def on_cpu(module: Network) -> Network:
    """`module` in eval mode on the CPU: itself if it already is, else a copy."""
    tensors = chain(module.parameters(), module.buffers())
    if not module.training and all(tensor.device.type == "cpu" for tensor in tensors):
        return module
    return copy.deepcopy(module).cpu().eval()


class OnnxGRU(nn.Module):
    """A bidirectional, batch-first `nn.GRU` as ONNX's operator, one node per layer.

    Only for export: called otherwise, its outputs are zeros (`torch.onnx.ops.symbolic`).

    Args:
        gru: the layers to replace; their weights are copied.
    """

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.n_layers, self.n_hidden = gru.num_layers, gru.hidden_size
        for layer in range(gru.num_layers):
            for kind, weight in _layer_weights(gru, layer).items():
                self.register_buffer(f"{kind}{layer}", weight)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """(batch, step, feature) to (batch, step, 2 hidden), as `nn.GRU` returns it; no state."""
        x = x.transpose(0, 1)
        for layer in range(self.n_layers):
            weights = [self.get_buffer(f"{kind}{layer}") for kind in "WRB"]
            n_steps, n_clips = x.shape[:2]
            (out,) = torch.onnx.ops.symbolic_multi_out(
                "GRU",
                [x, *weights],
                # PyTorch multiplies by the hidden weights before it applies the reset gate.
                {
                    "direction": "bidirectional",
                    "hidden_size": self.n_hidden,
                    "linear_before_reset": 1,
                },
                dtypes=[x.dtype],
                shapes=[(n_steps, 2, n_clips, self.n_hidden)],
            )
            x = out.permute(0, 2, 1, 3).flatten(2)
        return x.transpose(0, 1), None


def _layer_weights(gru: nn.GRU, layer: int) -> dict[str, Tensor]:
    """ONNX's tensors W, R and B of a layer, both directions stacked."""
    stacked: dict[str, list[Tensor]] = {"W": [], "R": [], "B": []}
    for suffix in (f"l{layer}", f"l{layer}_reverse"):
        parts = {
            kind: _reordered(getattr(gru, f"{kind}_{suffix}").detach())
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        stacked["W"].append(parts["weight_ih"])
        stacked["R"].append(parts["weight_hh"])
        stacked["B"].append(torch.cat([parts["bias_ih"], parts["bias_hh"]]))
    return {kind: torch.stack(directions) for kind, directions in stacked.items()}


def _reordered(weight: Tensor) -> Tensor:
    """Rows by gate: reset, update, new (PyTorch) to update, reset, new (ONNX)."""
    reset, update, new = weight.chunk(_N_GATES)
    return torch.cat([update, reset, new])


class ExportableCRNN(nn.Module):
    """A CRNN for fixed numbers of tokens and frames, without masks, in a form that exports well.

    Args:
        network: not changed; its copy on the CPU is used.
        n_frames: frames of its scores.
        n_tokens: tokens of its embeddings; 0 for a network without, or of clips.
    """

    token_weights: Tensor | None

    def __init__(self, network: CRNN, *, n_frames: int, n_tokens: int) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).cpu().eval().requires_grad_(False)
        for name, part in list(self.network.named_modules()):
            if isinstance(part, nn.GRU):
                self.network.set_submodule(name, OnnxGRU(part))
        weights = None
        if network.embedding_size and n_tokens not in (0, n_frames):
            weights = token_weights(network.aggregation_type, n_frames, n_tokens)
        self.register_buffer("token_weights", weights)

    def forward(self, mel: Tensor, embeddings: Tensor | None = None) -> Detection:
        """Scores of (batch, mel, frame) and (batch, feature, token), equal to the network's own."""
        if self.token_weights is not None and embeddings is not None:
            # This gives one token per frame, which the network's own alignment leaves unchanged.
            embeddings = embeddings @ self.token_weights
        found: Detection = self.network(mel, embeddings)
        return found


def token_weights(aggregation: str, n_frames: int, n_tokens: int) -> Tensor | None:
    """(token, frame) weight of each token in each frame; None if `aggregation` works otherwise."""
    align = {"pool1d": fusion.pool_tokens, "interpolate": fusion.nearest_tokens}.get(aggregation)
    return None if align is None else align(torch.eye(n_tokens)[None], n_frames)[0].T.contiguous()


class SpectrumByProduct(nn.Module):
    """`PowerSpectrum` as a convolution with windowed cosines and sines.

    Args:
        spectrum: the module to replace.
    """

    basis: Tensor

    def __init__(self, spectrum: PowerSpectrum) -> None:
        super().__init__()
        self.n_fft = n_fft = spectrum.n_fft
        window = spectrum.window.cpu().double()
        before = (n_fft - len(window)) // 2
        window = nn.functional.pad(window, (before, n_fft - len(window) - before))
        steps = torch.arange(n_fft // 2 + 1)[:, None] * torch.arange(n_fft) % n_fft
        angle = 2 * torch.pi / n_fft * steps.double()
        basis = torch.cat([angle.cos() * window, angle.sin() * window])
        self.register_buffer("basis", basis.float()[:, None])

    def forward(self, waveform: Tensor) -> Tensor:
        """(batch, sample) to (batch, bin, frame)."""
        half = self.n_fft // 2
        padded = nn.functional.pad(waveform[:, None], (half, half), mode="reflect")
        parts = nn.functional.conv1d(padded, self.basis, stride=HOP_SAMPLES).square()
        power: Tensor = parts[:, : half + 1] + parts[:, half + 1 :]
        return power


class ExportableEncoders(nn.Module):
    """Several encoders joined, for clips of one length, in a form that exports well.

    Args:
        model: not changed; its encoders are used.
        n_samples: of a clip.
    """

    def __init__(self, model: ConcatenatedEncoders, n_samples: int) -> None:
        super().__init__()
        self.encoders = model.encoders
        for place, part in enumerate(model.parts):
            tokens = torch.eye(part.n_tokens(n_samples))
            weights = align_tokens(tokens, model.n_frames, model.aggregation)
            self.register_buffer(f"weights{place}", weights)

    def embed(self, waveform: Tensor) -> ClipEmbeddings:
        """Embeddings of (batch, sample) clips, equal to the model's own."""
        frames, clips = [], []
        for place, part in enumerate(self.encoders):
            assert isinstance(part, EmbeddingModel)
            found = part.embed(waveform)
            frames.append(found.frame @ self.get_buffer(f"weights{place}"))
            clips.append(found.global_)
        return ClipEmbeddings(torch.cat(frames, dim=1), torch.cat(clips, dim=1))


def exportable_encoder(
    model: EmbeddingModel, n_samples: int
) -> EmbeddingModel | ExportableEncoders:
    """A copy of an encoder, or of several joined ones, in a form that exports well.

    Args:
        model: on the CPU; not changed.
        n_samples: of a clip.
    """
    model = copy.deepcopy(model)
    for name, part in list(model.named_modules()):
        if isinstance(part, PowerSpectrum):
            model.set_submodule(name, SpectrumByProduct(part))
    if isinstance(model, ConcatenatedEncoders):
        return ExportableEncoders(model, n_samples)
    return model
