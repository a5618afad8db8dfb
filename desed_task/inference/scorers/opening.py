"""Open the scorer of a file: a checkpoint of this recipe, a published one, or an AudioSet detector.

What a file is follows from its content, whatever its name.
"""

from __future__ import annotations

from pathlib import Path

import torch

from desed_task.atomic_files import PathLike, sha256_of
from desed_task.audioset.file import is_event_file, network_of, refuse_weights
from desed_task.checkpoints.published_stages import is_stage_file
from desed_task.checkpoints.run_folders import find_checkpoint
from desed_task.checkpoints.safe_load import checked_content, read_safely
from desed_task.checkpoints.spec import detector_of
from desed_task.checkpoints.state_names import bare_state
from desed_task.errors import InputError
from desed_task.inference.encoder_files import GivenEncoder, encoder_of_checkpoint
from desed_task.inference.scorers.audioset import AudioSetScorer
from desed_task.inference.scorers.crnn import CrnnScorer
from desed_task.inference.scorers.interface import Scorer
from desed_task.inference.tuned_values import TunedValues
from desed_task.mean_teacher import ROLES


def open_scorer(
    path: PathLike,
    *,
    encoder: GivenEncoder = None,
    role: str | None = None,
    device: torch.device | str = "cpu",
    tuned: TunedValues | None = None,
) -> Scorer:
    """The scorer of a file; no code of the file is run.

    Args:
        path: the file, or a run folder, which stands for its best checkpoint.
        encoder: see `SoundEventDetector.from_checkpoint`; a detector of AudioSet's classes has its
            own.
        role: "student" or "teacher"; None for the network that `tuned` is for, or the student. A
            detector of AudioSet's classes has one network, whatever it is.
        device: where to compute.
        tuned: values that were tuned for this checkpoint.

    Raises:
        InputError: the file cannot be used, or is not found.
    """
    place, on = find_checkpoint(path), torch.device(device)
    if tuned is not None and place.is_file():
        tuned.check_checkpoint(sha256_of(place), str(place))
    content = read_safely(place)
    if is_event_file(content):
        network, found = network_of(content, place)
        return AudioSetScorer(network, device=on, path=str(place), encoder=found.kind.title)
    if isinstance(content, dict) and not _may_be_ours(content):
        refuse_weights(content, place)
    checkpoint = checked_content(content, place)
    loaded = detector_of(checkpoint, str(place))
    role = role or (tuned.network if tuned else "") or ROLES[0]
    if role not in loaded.networks:
        raise InputError(f"no network {role!r}; known: {', '.join(loaded.networks)}")
    model = encoder_of_checkpoint(place, checkpoint, loaded.spec, encoder, role)
    return CrnnScorer(loaded, encoder=model, role=role, device=on, path=str(place))


def _may_be_ours(content: dict[str, object]) -> bool:
    """Whether a file looks like a checkpoint of this recipe, which other checks are for."""
    return (
        "hyper_parameters" in content or bare_state(content) is not None or is_stage_file(content)
    )


def check_different(paths: list[Path]) -> None:
    """Refuse files of which two have the same content: a mean would count one twice.

    Raises:
        InputError: naming both.
    """
    seen: dict[str, Path] = {}
    for path in paths if len(paths) > 1 else ():
        first = seen.setdefault(sha256_of(path), path)
        if first is not path:
            raise InputError(
                f"{path}: the same as {first}, by SHA-256; give each detector once, as the mean "
                "over detectors would count it twice"
            )
