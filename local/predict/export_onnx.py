"""Export a checkpoint's network to ONNX (`predict.py --export onnx`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from desed_task.audio.streaming import stream_file
from desed_task.checkpoints.safe_load import load_safely
from desed_task.checkpoints.spec import Detector, detector_of
from desed_task.encoders.beats.model import Beats, load_beats
from desed_task.encoders.weights_file import find_weights
from desed_task.errors import InputError
from desed_task.inference.encoder_files import find_encoder
from desed_task.inference.onnx_export import ExportedFile, export_crnn, export_waveform
from desed_task.inference.verified_onnx import check_packages
from local.cli.own_files import own_outputs
from local.predict.recordings import find_recordings


def export_onnx(
    checkpoint: str,
    output_dir: Path,
    role: str,
    beats_file: str | None = None,
    recordings: Sequence[Path] = (),
    *,
    required: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Write `crnn_ROLE.onnx` and `detector_ROLE.onnx`, and print the results of their checks.

    The second includes BEATs. If its weights are not found and not required, only the first is
    written.

    Args:
        checkpoint: the checkpoint of the networks.
        output_dir: folder of the files.
        role: "student" or "teacher".
        beats_file: file of BEATs weights; None for the one that the checkpoint names.
        recordings: the files are checked on the beginning of the first one and on random input;
            without recordings on a synthesised clip.
        required: whether the user asked for these weights.
        overwrite: whether to replace files that this program did not write.

    Returns:
        the files.

    Raises:
        InputError: for unusable files, missing packages, files of the user in the places of the
            graphs, and a graph whose scores differ from PyTorch's.
    """
    check_packages()
    crnn, whole = (output_dir / f"{kind}_{role}.onnx" for kind in ("crnn", "detector"))
    with own_outputs(output_dir, [crnn, whole], overwrite=overwrite):
        content = load_safely(Path(checkpoint))
        detector = detector_of(content, checkpoint)
        beats, reason = _beats(detector, content, checkpoint, beats_file, required)
        clip = _opening(recordings, detector) if recordings else None
        files = [_announce(export_crnn(detector, role, crnn, beats=beats, clip=clip))]
        if beats is None and _takes_embeddings(detector):
            print(f"{whole}: not written, as it needs BEATs: {reason}")
            return files
        files.append(_announce(export_waveform(detector, role, whole, beats=beats, clip=clip)))
    return files


def _takes_embeddings(detector: Detector) -> bool:
    return any(network.embedding_size for network in detector.networks.values())


def _beats(
    detector: Detector,
    content: Mapping[str, Any],
    checkpoint: str,
    given: str | None,
    required: bool,
) -> tuple[Beats | None, str]:
    """The given weights or the checkpoint's, and "" or why there are none."""
    if not _takes_embeddings(detector):
        return None, ""
    sha256 = detector.spec.embedding["checkpoint_sha256"]
    try:
        if given is not None:
            found = find_weights(given)
        else:
            found = find_encoder(checkpoint, content.get("hyper_parameters"), sha256)
    except InputError as error:
        if required:
            raise
        return None, str(error)
    return load_beats(found), ""


def _opening(recordings: Sequence[Path], detector: Detector) -> Tensor:
    """Read one clip (sample,) from the beginning of the first recording, padded with zeros."""
    found = find_recordings(recordings)
    if found.faults:
        raise InputError.collect(found.faults)
    spec = detector.spec
    n_samples = int(spec.clip_s * spec.sample_rate)
    parts = list(_until(stream_file(found.recordings[0].path, spec.sample_rate), n_samples))
    opening = np.concatenate(parts)[:n_samples]
    return torch.from_numpy(np.pad(opening, (0, n_samples - len(opening))))


def _until(blocks: Iterator[np.ndarray], n_samples: int) -> Iterator[np.ndarray]:
    """Read blocks until they have `n_samples`."""
    for block in blocks:
        yield block
        n_samples -= len(block)
        if n_samples <= 0:
            return


def _announce(exported: ExportedFile) -> Path:
    """Print the written files and their deviation from PyTorch."""
    apart = ", ".join(f"{value:.1e} on {kind}" for kind, value in exported.differences.items())
    size_mb = exported.path.stat().st_size / 1e6
    print(f"{exported.path}: {size_mb:.1f} MB; scores differ from PyTorch's by at most {apart}")
    return exported.path
