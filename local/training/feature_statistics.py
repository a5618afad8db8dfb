"""Dataset statistics of the features: fit them on the training set once, save and load them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from desed_task.atomic_files import atomic_path
from desed_task.batch import SedBatch
from desed_task.errors import InputError
from desed_task.features import LogMel, Scaler
from desed_task.parallel import track
from local.checkpoints.revision import REVISION, REVISION_KEY
from local.config import RecipeConfig
from local.data.digests import DATA_KEY, DataDigests


def prepare_scaler(
    mel_spec: LogMel,
    scaler: Scaler,
    loader: Callable[[], DataLoader[SedBatch]],
    config: RecipeConfig,
    data: DataDigests,
) -> None:
    """Load the scaler's dataset statistics from `scaler.savepath`, or fit and save them there.

    Does nothing if `scaler.statistic` is "instance". Saved statistics of other features, clips,
    normtype or axes are fitted again.

    Args:
        mel_spec: computes the features.
        scaler: receives the statistics.
        loader: makes a loader of training batches; called only to fit statistics.
        config: configuration of the run.
        data: digests of the corpora; statistics of other training data are fitted again.

    Raises:
        InputError: the file at `scaler.savepath` does not contain feature statistics.
    """
    if scaler.fitted:
        return
    path = Path(config.scaler.savepath)
    made_from = _made_from(config, data)
    if path.is_file():
        stored = _read(path)
        if stored["made_from"] == made_from:
            scaler.load_state_dict(stored["state"])
            print(f"feature statistics: {path}")
            return
        print(f"{path} contains statistics of other features or clips; fitting them again")
    # Training draws the same random numbers whether they are fitted here or loaded.
    with torch.random.fork_rng(devices=()):
        scaler.fit(_log_mel(mel_spec, loader()))
    # Given a path, torch would store the temporary name in the file.
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save({"made_from": made_from, "state": scaler.state_dict()}, file)
    print(f"feature statistics: fitted on the training set and saved to {path}")


def _made_from(config: RecipeConfig, data: DataDigests) -> dict[str, Any]:
    """The settings and data that the statistics depend on."""
    tree = config.dump()
    scaler = {key: value for key, value in tree["scaler"].items() if key != "savepath"}
    read = {key: tree["data"][key] for key in ("audio_max_len", "keep_clips_without_events")}
    parts = ("table", "clips", "audio", "embeddings")
    used = {
        corpus.name: {
            part: value for part, value in data.get(corpus.name, {}).items() if part in parts
        }
        for corpus in config.detection_task.trained_on
    }
    # The revision determines which clips are used for training.
    return {
        "scaler": scaler,
        "feats": tree["feats"],
        "data": read,
        REVISION_KEY: REVISION,
        DATA_KEY: used,
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise any exception
        stored = error
    if not isinstance(stored, dict) or set(stored) != {"made_from", "state"}:
        raise InputError(
            f"scaler.savepath: {path} contains no feature statistics; delete it to fit them "
            "again, or name another file"
        )
    return stored


@torch.no_grad()
def _log_mel(mel_spec: LogMel, loader: DataLoader[SedBatch]) -> Iterator[Tensor]:
    """Log-mel batches of one epoch of training clips."""
    for batch in track(loader, "feature statistics", len(loader), unit="batch"):
        yield mel_spec.to_db(mel_spec(batch.waveform))
