"""Extract the embeddings of every encoder of a configuration, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from desed_task.encoders.registry import kind_of
from desed_task.encoders.weights_file import find_weights
from desed_task.file_names import escape_name
from local.config import RecipeConfig
from local.extraction.embedder import Precision, settled_precision
from local.extraction.extractor import Extractor
from local.extraction.machines import common_digest
from local.extraction.sets import windows_of_sets
from local.extraction.weights import training_hint
from local.processes.decisions import decided_by_first
from local.schema.encoders import BEATS, EncoderChoice
from local.stores.folders import folder_to_write, folders_to_read


def open_extractors(
    config: RecipeConfig,
    choices: Sequence[EncoderChoice],
    output_dir: Path,
    *,
    device: torch.device,
    batch_size: int | None,
    precision: Precision,
    overwrite: bool,
) -> list[Extractor]:
    """An extractor for each encoder; all weights are loaded before anything is computed.

    Collective call: every process must reach it.

    Args:
        config: clip length and windows.
        choices: encoders with the files of their weights.
        output_dir: parent of the folders of embeddings.
        device: device that computes.
        batch_size: see `Embedder`.
        precision: asked for; see `settled_precision`.
        overwrite: see `Extractor`.

    Raises:
        InputError: a file holds another encoder, or cannot be used.
    """
    found, windows = [], windows_of_sets(config)
    for choice in choices:
        path = find_weights(choice.file, choice.name)
        digest = common_digest(path, device)

        def settle(
            path: Path = path, choice: EncoderChoice = choice, digest: str = digest
        ) -> Precision:
            folder = folder_to_write(output_dir, choice, digest)
            return settled_precision(precision, device, folder, path, choice.name)

        extractor = Extractor.open(
            choice,
            output_dir,
            clip_s=config.data.audio_max_len,
            batch_size=batch_size,
            precision=decided_by_first(settle),
            device=device,
            windows=windows,
            overwrite=overwrite,
        )
        found.append(extractor)
    return found


def extract_all(
    config: RecipeConfig,
    extractors: Sequence[Extractor],
    wavs: Mapping[str, Mapping[str, Path]],
) -> list[str]:
    """Update the embeddings of all sets with each encoder.

    Args:
        config: where training looks for embeddings.
        extractors: from `open_extractors`.
        wavs: set -> clip -> file.

    Returns:
        Faults of the files that could not be read, each once.

    Raises:
        InputError: see `Extractor.extract`.
    """
    for extractor in extractors:
        extractor.check(wavs)
    faults: list[str] = []
    for extractor in extractors:
        if len(extractors) > 1 or extractor.folder.name != BEATS:
            title = kind_of(extractor.choice.name).title
            print(f"embeddings of {title}: {escape_name(extractor.folder)}")
        faults += (fault for name in wavs for fault in extractor.extract(name, wavs[name]))
    expected = [folder.path.name for folder in folders_to_read(config.pretrained)]
    elsewhere = expected != [extractor.folder.name for extractor in extractors]
    choices = [extractor.choice for extractor in extractors]
    if hint := training_hint(config.pretrained, choices, elsewhere):
        print(hint)
    return list(dict.fromkeys(faults))
