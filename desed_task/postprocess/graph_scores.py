"""Decode the scores of an exported graph by the metadata of its file, without PyTorch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from desed_task.errors import InputError
from desed_task.evaluation.boxes import Decoded
from desed_task.evaluation.scores import Scores
from desed_task.labels import FrameGrid, Vocabulary
from desed_task.postprocess.decoders import DecoderSettings, decoder_of


def decode_graph(
    strong: npt.ArrayLike, metadata: Mapping[str, str], clip_ids: Sequence[str] | None = None
) -> Decoded:
    """Filtered scores or boxes of the clips that a graph was run on.

    Args:
        strong: (clip, class, frame), the graph's output of that name.
        metadata: of the file (`desed_task.inference.onnx_export`). Those of an earlier version,
            which name no decoder, mean the median filters.
        clip_ids: names of the clips; None for "0", "1" ...

    Raises:
        InputError: for metadata of other files, and scores of another shape.
    """
    try:
        labels = json.loads(metadata["classes"])
        lengths = json.loads(metadata["median_filter"])
        spec = json.loads(metadata["detector"])
        plain = json.loads(metadata.get("decoder", "{}"))
        hop_samples = spec["front_end"]["hop_samples"]
        grid = FrameGrid.for_clip(
            spec["clip_s"], spec["sample_rate"], hop_samples, spec["net_subsample"]
        )
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"metadata that cannot be used ({type(error).__name__}: {error}); give those of a "
            "graph of predict.py --export onnx"
        ) from None
    values = np.asarray(strong)
    if values.ndim != 3 or values.shape[1] != len(labels):
        raise InputError(
            f"scores of shape {values.shape}; give the graph's output `strong`, (clip, "
            f"{len(labels)}, frame)"
        )
    # Without subsampling, a clip's last frame may begin where the clip ends.
    boundaries_s = np.unique(grid.boundaries_s)
    names = tuple(str(n) for n in range(len(values))) if clip_ids is None else tuple(clip_ids)
    frames = values.transpose(0, 2, 1)[:, : len(boundaries_s) - 1]
    scores = Scores(names, frames, boundaries_s, Vocabulary(labels))
    settings = DecoderSettings.from_plain(plain, labels)
    return decoder_of(settings, labels, median_filter=lengths)(scores)
