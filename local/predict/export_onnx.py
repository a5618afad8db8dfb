"""Export a checkpoint's network to ONNX (`predict.py --export onnx`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from desed_task.audio.streaming import stream_file
from desed_task.checkpoints.encoder_specs import in_words
from desed_task.checkpoints.safe_load import load_safely
from desed_task.checkpoints.spec import Detector, detector_of
from desed_task.encoders.interface import EmbeddingModel
from desed_task.errors import InputError
from desed_task.file_names import escape_name
from desed_task.inference.encoder_files import GivenEncoder, encoder_of_checkpoint
from desed_task.inference.onnx_export import ExportedFile, export_crnn, export_waveform
from desed_task.inference.verified_onnx import check_packages
from local.cli.own_files import own_outputs
from local.predict.recordings import find_recordings


def export_onnx(
    checkpoint: str,
    output_dir: Path,
    role: str,
    encoder: GivenEncoder = None,
    recordings: Sequence[Path] = (),
    *,
    required: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Write `crnn_ROLE.onnx` and `detector_ROLE.onnx`, and print the results of their checks.

    The second includes the encoder: that of the checkpoint if it holds one. If its weights are not
    found and not required, only the first is written.

    Args:
        checkpoint: the checkpoint of the networks.
        output_dir: folder of the files.
        role: "student" or "teacher".
        encoder: files of the encoder's weights; None for those that the checkpoint names.
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
        required = required or detector.spec.holds_encoders
        model, reason = _encoder(detector, content, checkpoint, encoder, role, required)
        clip = _opening(recordings, detector) if recordings else None
        files = [_announce(export_crnn(detector, role, crnn, encoder=model, clip=clip))]
        if model is None and detector.spec.encoders:
            needed = in_words(detector.spec.encoders)
            print(f"{escape_name(whole)}: not written, as it needs {needed}: {reason}")
            return files
        files.append(_announce(export_waveform(detector, role, whole, encoder=model, clip=clip)))
    return files


def _encoder(
    detector: Detector,
    content: Mapping[str, Any],
    checkpoint: str,
    given: GivenEncoder,
    role: str,
    required: bool,
) -> tuple[EmbeddingModel | None, str]:
    """The encoder of the given weights or the checkpoint's, and "" or why there is none."""
    try:
        return encoder_of_checkpoint(checkpoint, content, detector.spec, given, role), ""
    except InputError as error:
        if required:
            raise
        return None, str(error)


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
    what = f"{escape_name(exported.path)}: {size_mb:.1f} MB"
    print(f"{what}; scores differ from PyTorch's by at most {apart}")
    return exported.path
