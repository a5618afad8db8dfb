"""Export a detector's networks to ONNX files that are verified against PyTorch.

    detector = load_detector(Path("best.ckpt"))
    export_crnn(detector, "student", "crnn_student.onnx")
    export_waveform(detector, "student", "detector_student.onnx", beats=load_beats("BEATs....pt"))

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
from desed_task.checkpoints.spec import Detector, DetectorSpec
from desed_task.encoders.beats.encoder import BeatsConfig
from desed_task.encoders.beats.model import N_MELS, Beats
from desed_task.encoders.interface import check_encoder
from desed_task.encoders.kaldi_fbank import KaldiFbank
from desed_task.errors import InputError, count_of
from desed_task.inference.onnx_modules import ExportableCRNN, on_cpu
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
    beats: Beats | None = None,
    clip: Tensor | None = None,
) -> ExportedFile:
    """Write a CRNN alone: `mel` and `embeddings` -> `strong` and `weak`.

    `mel` is (clip, mel, frame), as the detector's front end makes it; `embeddings` (clip, feature,
    token), or (clip, feature) for a network of global embeddings; a network without embeddings has
    no such input. `strong` is (clip, class, frame), `weak` (clip, class).

    Args:
        detector: as `desed_task.checkpoints.spec.load_detector` gives it.
        role: which of its networks.
        target: the file; written atomically.
        beats: for real embeddings in the check; random ones otherwise.
        clip: (sample,) waveform of one clip for the check; a synthesised one otherwise.

    Raises:
        InputError: for missing packages, an unknown role, a BEATs or clip that does not fit, and a
            file whose scores differ from PyTorch's.
    """
    check_packages()
    network, spec = _network(detector, role), detector.spec
    if beats is not None:
        _check_beats(beats, network, spec)
    checks = _waveforms(spec, clip)
    front_end = on_cpu(detector.front_end)
    with torch.no_grad():
        given = {
            kind: _crnn_inputs(waveform, front_end(waveform), network, spec, beats)
            for kind, waveform in checks.items()
        }
    graph = ExportableCRNN(network, n_frames=spec.grid.n_frames, n_tokens=_n_tokens(spec))
    metadata = _metadata(spec, role, "crnn")
    return ExportedFile(
        Path(target), write_verified(graph, on_cpu(network), given, metadata, target)
    )


def export_waveform(
    detector: Detector,
    role: str,
    target: PathLike,
    *,
    beats: Beats | None = None,
    clip: Tensor | None = None,
) -> ExportedFile:
    """Write front end, BEATs and CRNN as one graph: `waveform` -> `strong` and `weak`.

    `waveform` is (clip, sample), float32 in [-1, 1], at the network's rate and clip length: in the
    published detector, 160000 samples at 16 kHz.

    Args:
        detector, role, target, clip: see `export_crnn`.
        beats: the weights that the network was trained with; None for one without embeddings.

    Raises:
        InputError: as `export_crnn`, and for a missing BEATs.
    """
    check_packages()
    network, spec = _network(detector, role), detector.spec
    if not network.embedding_size:
        beats = None
    elif beats is None:
        raise InputError(
            f"the {role} takes embeddings, so its waveform graph needs the BEATs weights that it "
            "was trained with; give them, or export the CRNN alone"
        )
    else:
        _check_beats(beats, network, spec)
        beats = on_cpu(beats)
    front_end, n_tokens = on_cpu(detector.front_end), _n_tokens(spec)
    exportable = ExportableCRNN(network, n_frames=spec.grid.n_frames, n_tokens=n_tokens)
    of_clips = spec.net["embedding_type"] == "global"
    graph, reference = (
        WaveformGraph(front_end, crnn, beats, of_clips=of_clips)
        for crnn in (exportable, on_cpu(network))
    )
    if beats is not None:
        # Cached by the module, so that the graph contains the bias itself: the logarithm of another
        # library could put a distance into the next bucket.
        beats.encoder.position_bias(n_tokens)
    metadata = _metadata(spec, role, "waveform")
    if beats is not None:
        metadata["beats"] = json.dumps(asdict(beats.config))
    given = {kind: {"waveform": waveform} for kind, waveform in _waveforms(spec, clip).items()}
    return ExportedFile(Path(target), write_verified(graph, reference, given, metadata, target))


class WaveformGraph(nn.Module):
    """Front end, BEATs and CRNN of a detector in one.

    Args:
        front_end: (batch, sample) -> (batch, mel, frame).
        crnn: takes its output and embeddings.
        beats: None for a network without embeddings.
        of_clips: whether it takes one embedding per clip.
    """

    def __init__(
        self, front_end: nn.Module, crnn: nn.Module, beats: Beats | None, *, of_clips: bool
    ) -> None:
        super().__init__()
        self.front_end, self.crnn, self.beats, self.of_clips = front_end, crnn, beats, of_clips

    def forward(self, waveform: Tensor) -> Detection:
        """Scores of (batch, sample) clips."""
        embeddings = None
        if self.beats is not None:
            found = self.beats.embed(waveform)
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


def _check_beats(beats: Beats, network: CRNN, spec: DetectorSpec) -> None:
    """Reject a BEATs whose embeddings the network cannot have been trained with."""
    check_encoder(beats, size=network.embedding_size, sample_rate=spec.sample_rate)
    theirs, own = beats.n_tokens(_n_samples(spec)), _n_tokens(spec)
    if theirs != own:
        raise InputError(
            f"this BEATs yields {count_of(theirs, 'token')} per clip, the network takes {own}; "
            "give the weights that it was trained with"
        )


def _n_samples(spec: DetectorSpec) -> int:
    return int(spec.clip_s * spec.sample_rate)


def _n_tokens(spec: DetectorSpec) -> int:
    """Frame embeddings of a clip as the published BEATs makes them."""
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
    waveform: Tensor, mel: Tensor, network: CRNN, spec: DetectorSpec, beats: Beats | None
) -> Inputs:
    """Features of a waveform with its embeddings, or with random ones."""
    if not network.embedding_size:
        return {"mel": mel}
    of_clips = spec.net["embedding_type"] == "global"
    if beats is not None:
        found = on_cpu(beats).embed(waveform)
        return {"mel": mel, "embeddings": found.global_ if of_clips else found.frame}
    shape = (len(mel), network.embedding_size, *([] if of_clips else [_n_tokens(spec)]))
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
        "embedding": spec.embedding,
        "schema_version": spec.schema_version,
        "detector": spec.to_dict(),
    }
    return {key: v if isinstance(v, str) else json.dumps(v) for key, v in values.items()}
