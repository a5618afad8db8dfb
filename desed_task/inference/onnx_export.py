"""Export a detector's networks to ONNX files that are verified against PyTorch.

    detector = load_detector(Path("best.ckpt"))
    export_crnn(detector, "student", "crnn_student.onnx")
    encoder = load_encoder("pretrained_models/BEATs_iter3_plus_AS2M.pt")
    export_waveform(detector, "student", "detector_student.onnx", encoder=encoder)

The first file takes features and embeddings, the second waveforms. Clips have the length that the
network was trained on; the number of clips is free. The file's metadata describe the scores
(classes, seconds per frame, median filter lengths ...). The graphs contain no post-processing.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from desed_task.atomic_files import PathLike
from desed_task.checkpoints.encoder_specs import (
    BEATS,
    EncoderSpec,
    in_words,
    with_keys_of_schema_3,
)
from desed_task.checkpoints.spec import Detector, DetectorSpec
from desed_task.encoders.beats.encoder import BeatsConfig
from desed_task.encoders.beats.model import N_MELS, Beats
from desed_task.encoders.interface import EmbeddingModel, check_encoder
from desed_task.encoders.kaldi_fbank import KaldiFbank
from desed_task.errors import InputError, count_of
from desed_task.inference.encoder_files import refuse_other_encoders
from desed_task.inference.onnx_modules import (
    ExportableCRNN,
    ExportableEncoders,
    exportable_encoder,
    on_cpu,
)
from desed_task.inference.verified_onnx import Inputs, check_packages, write_verified
from desed_task.nnet.CRNN import CRNN, Detection

_RANDOM_CLIPS = 3


class ExportedFile(NamedTuple):
    """An exported file and the result of its verification.

    Attributes:
        path: the file.
        differences: kind of input -> largest absolute difference of a score from PyTorch's.
    """

    path: Path
    differences: dict[str, float]


def export_crnn(
    detector: Detector,
    role: str,
    target: PathLike,
    *,
    encoder: EmbeddingModel | None = None,
    clip: Tensor | None = None,
    beats: EmbeddingModel | None = None,
) -> ExportedFile:
    """Write a CRNN alone: `mel` and `embeddings` -> `strong` and `weak`.

    `mel` is (clip, mel, frame), as the detector's front end makes it; `embeddings` (clip, feature,
    token), or (clip, feature) for a network of global embeddings; a network without embeddings has
    no such input. `strong` is (clip, class, frame), `weak` (clip, class).

    Args:
        detector: as `desed_task.checkpoints.spec.load_detector` gives it.
        role: which of its networks.
        target: the file; written atomically.
        encoder: for real embeddings in the check, and the number of tokens where the
            specification does not tell it; random embeddings otherwise.
        clip: (sample,) waveform of one clip for the check; a synthesised one otherwise.
        beats: former name of `encoder`.

    Raises:
        InputError: for missing packages, an unknown role, an encoder or clip that does not fit, and
            a file whose scores differ from PyTorch's.
    """
    check_packages()
    network, spec = _network(detector, role), detector.spec
    encoder = _checked_encoder(beats if encoder is None else encoder, network, spec)
    n_tokens = _n_tokens(spec, encoder)
    checks = _waveforms(spec, clip)
    front_end = on_cpu(detector.front_end)
    with torch.no_grad():
        given = {
            kind: _crnn_inputs(waveform, front_end(waveform), network, spec, encoder)
            for kind, waveform in checks.items()
        }
    graph = ExportableCRNN(network, n_frames=spec.grid.n_frames, n_tokens=n_tokens)
    metadata = _metadata(spec, role, "crnn")
    return ExportedFile(
        Path(target), write_verified(graph, on_cpu(network), given, metadata, target)
    )


def export_waveform(
    detector: Detector,
    role: str,
    target: PathLike,
    *,
    encoder: EmbeddingModel | None = None,
    clip: Tensor | None = None,
    beats: EmbeddingModel | None = None,
) -> ExportedFile:
    """Write front end, encoder and CRNN as one graph: `waveform` -> `strong` and `weak`.

    `waveform` is (clip, sample), float32 in [-1, 1], at the network's rate and clip length: in the
    published detector, 160000 samples at 16 kHz.

    Args:
        detector, role, target, clip, beats: see `export_crnn`.
        encoder: the one that the network was trained with; None for one without embeddings.

    Raises:
        InputError: as `export_crnn`, and for a missing encoder.
    """
    check_packages()
    network, spec = _network(detector, role), detector.spec
    encoder = _checked_encoder(beats if encoder is None else encoder, network, spec)
    if network.embedding_size and encoder is None:
        raise InputError(
            f"the {role} takes embeddings, so its waveform graph needs the weights of "
            f"{in_words(spec.encoders)} that it was trained with; give them, or export the CRNN "
            "alone"
        )
    n_samples = _n_samples(spec)
    metadata, exportable_model = _metadata(spec, role, "waveform"), None
    if encoder is not None:
        encoder = on_cpu(encoder)
        _cache_constants(encoder, n_samples)
        exportable_model = exportable_encoder(encoder, n_samples)
        metadata |= _encoder_metadata(encoder, spec)
    front_end, of_clips = on_cpu(detector.front_end), spec.net["embedding_type"] == "global"
    n_tokens = _n_tokens(spec, encoder)
    crnn = ExportableCRNN(network, n_frames=spec.grid.n_frames, n_tokens=n_tokens)
    graph = WaveformGraph(front_end, crnn, exportable_model, of_clips=of_clips)
    reference = WaveformGraph(front_end, on_cpu(network), encoder, of_clips=of_clips)
    given = {kind: {"waveform": waveform} for kind, waveform in _waveforms(spec, clip).items()}
    return ExportedFile(Path(target), write_verified(graph, reference, given, metadata, target))


def _cache_constants(encoder: EmbeddingModel, n_samples: int) -> None:
    """Let BEATs keep its position bias, so that the graph contains the bias itself.

    The logarithm of another library could put a distance into the next bucket.
    """
    for part in encoder.parts:
        if isinstance(part, Beats):
            part.encoder.position_bias(part.n_tokens(n_samples))


def _encoder_metadata(encoder: EmbeddingModel, spec: DetectorSpec) -> dict[str, str]:
    """What the file says of the encoders in it, with the SHA-256 of their weights."""
    n_samples = _n_samples(spec)
    # Weights that were fine-tuned are those of no file.
    told = [
        EncoderSpec(
            part.name,
            part.width,
            "" if spec.holds_encoders else part.sha256,
            one.n_blocks,
            part.n_tokens(n_samples),
        )
        for part, one in zip(encoder.parts, spec.encoders, strict=True)
    ]
    plain = [{key: one for key, one in each._asdict().items() if key != "sizes"} for each in told]
    values: dict[str, Any] = {"encoders": plain}
    for part in encoder.parts:
        if isinstance(part, Beats):
            values["beats"] = asdict(part.config)
    return {key: json.dumps(value) for key, value in values.items()}


class WaveformGraph(nn.Module):
    """Front end, encoder and CRNN of a detector in one.

    Args:
        front_end: (batch, sample) -> (batch, mel, frame).
        crnn: takes its output and embeddings.
        encoder: None for a network without embeddings.
        of_clips: whether it takes one embedding per clip.
    """

    def __init__(
        self,
        front_end: nn.Module,
        crnn: nn.Module,
        encoder: EmbeddingModel | ExportableEncoders | None,
        *,
        of_clips: bool,
    ) -> None:
        super().__init__()
        self.front_end, self.crnn, self.encoder, self.of_clips = front_end, crnn, encoder, of_clips

    def forward(self, waveform: Tensor) -> Detection:
        """Scores of (batch, sample) clips."""
        embeddings = None
        if self.encoder is not None:
            found = self.encoder.embed(waveform)
            embeddings = found.global_ if self.of_clips else found.frame
        scores: Detection = self.crnn(self.front_end(waveform), embeddings)
        return scores


def example_clip(n_samples: int, sample_rate: int) -> Tensor:
    """(sample,) synthetic clip: faint noise, then a rising tone, clicks, a noise burst and a pause.

    It is always the same; sounds that differ in level, pitch and length test a graph better than
    noise alone.
    """
    drawn = torch.Generator().manual_seed(0)
    share = torch.arange(n_samples) / n_samples
    seconds = torch.arange(n_samples) / sample_rate
    noise = torch.randn(n_samples, generator=drawn)
    clip = 1e-3 * noise * (share < 0.9)
    pitch_hz = 200 + 500 * seconds
    clip += 0.3 * torch.sin(2 * torch.pi * pitch_hz * seconds) * _between(share, 0.1, 0.35)
    clip += 0.8 * (torch.arange(n_samples) % (sample_rate // 8) < 8) * _between(share, 0.4, 0.55)
    return clip + 0.1 * noise * _between(share, 0.6, 0.8)


def _between(share: Tensor, start: float, stop: float) -> Tensor:
    return (share >= start) & (share < stop)


def _network(detector: Detector, role: str) -> CRNN:
    if role not in detector.networks:
        raise InputError(f"no network {role!r}; known: {', '.join(detector.networks)}")
    return detector.networks[role]


def _checked_encoder(
    encoder: EmbeddingModel | None, network: CRNN, spec: DetectorSpec
) -> EmbeddingModel | None:
    """The encoder, None for a network without embeddings.

    Raises:
        InputError: the network cannot have been trained with its embeddings.
    """
    if encoder is None or not network.embedding_size:
        return None
    refuse_other_encoders(encoder, spec.encoders)
    check_encoder(encoder, size=network.embedding_size, sample_rate=spec.sample_rate)
    theirs, own = encoder.n_tokens(_n_samples(spec)), _known_tokens(spec)
    if own not in (0, theirs):
        raise InputError(
            f"this {encoder.name} yields {count_of(theirs, 'token')} per clip, the network takes "
            f"{own}; give the weights that it was trained with"
        )
    return encoder


def _n_samples(spec: DetectorSpec) -> int:
    return int(spec.clip_s * spec.sample_rate)


def _n_tokens(spec: DetectorSpec, encoder: EmbeddingModel | None) -> int:
    """Frame embeddings of a clip.

    Raises:
        InputError: neither the specification nor an encoder tells.
    """
    found = encoder.n_tokens(_n_samples(spec)) if encoder is not None else _known_tokens(spec)
    if not found and spec.encoders and spec.net["embedding_type"] != "global":
        raise InputError(
            f"how many tokens {in_words(spec.encoders)} has in a clip is not known without its "
            "weights; give them"
        )
    return found


def _known_tokens(spec: DetectorSpec) -> int:
    """Frame embeddings of a clip as the specification tells them; 0 if it does not."""
    if len(spec.encoders) > 1:
        return spec.grid.n_frames
    if not spec.encoders or spec.encoders[0].n_tokens or spec.encoders[0].name != BEATS:
        return spec.encoders[0].n_tokens if spec.encoders else 0
    # Specifications of schema 3 and published checkpoints.
    patch = BeatsConfig.input_patch_size
    return KaldiFbank(N_MELS).n_frames(_n_samples(spec)) // patch * (N_MELS // patch)


def _waveforms(spec: DetectorSpec, clip: Tensor | None) -> dict[str, Tensor]:
    """Kind -> (clip, sample) that a graph is checked on."""
    n_samples = _n_samples(spec)
    if clip is None:
        clip = example_clip(n_samples, spec.sample_rate)
    elif clip.shape != (n_samples,):
        raise InputError(
            f"the clip to check with has shape {tuple(clip.shape)}; give ({n_samples},): one "
            f"channel, {spec.clip_s:g} s at {spec.sample_rate} Hz"
        )
    drawn = torch.Generator().manual_seed(1)
    return {
        "random": 0.1 * torch.randn(_RANDOM_CLIPS, n_samples, generator=drawn),
        "sound": clip.float()[None],
        "silence": torch.zeros(1, n_samples),
    }


def _crnn_inputs(
    waveform: Tensor, mel: Tensor, network: CRNN, spec: DetectorSpec, encoder: EmbeddingModel | None
) -> Inputs:
    """Features of a waveform with its embeddings, or with random ones."""
    if not network.embedding_size:
        return {"mel": mel}
    of_clips = spec.net["embedding_type"] == "global"
    if encoder is not None:
        found = on_cpu(encoder).embed(waveform)
        return {"mel": mel, "embeddings": found.global_ if of_clips else found.frame}
    shape = (len(mel), network.embedding_size, *([] if of_clips else [_n_tokens(spec, None)]))
    return {
        "mel": mel,
        "embeddings": torch.randn(shape, generator=torch.Generator().manual_seed(2)),
    }


def _metadata(spec: DetectorSpec, role: str, graph: str) -> dict[str, str]:
    """Metadata of the file: strings unchanged, everything else as JSON."""
    values: dict[str, Any] = {
        "graph": graph,
        "role": role,
        "classes": spec.classes,
        "sample_rate": spec.sample_rate,
        "clip_s": spec.clip_s,
        "n_samples": _n_samples(spec),
        "frame_s": spec.grid.frame_s,
        "median_filter": spec.median_filter,
        "decoder": spec.decoder,
        "embedding": with_keys_of_schema_3(spec.embedding),
        "schema_version": spec.schema_version,
        "detector": spec.to_dict(),
    }
    return {key: v if isinstance(v, str) else json.dumps(v) for key, v in values.items()}
