"""Keep the PSD-ROC of every class and candidate, by what they are computed from."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from desed_task.atomic_files import atomic_path
from desed_task.evaluation.psds import Roc
from local.tuning.cached_scores import TeacherScores
from local.tuning.decoders.candidates import order_of

# Increased whenever the same scores and truth would give other curves.
REVISION: Final = 1

Curves = dict[tuple[str, tuple[float, ...]], Roc]


class CurveCache:
    """Curves of one decoder in a folder, one file per part of the data.

    Args:
        folder: of the files.
        kind: the decoder.
        settings: what curves depend on besides scores, truth and candidate.
    """

    def __init__(self, folder: Path, kind: str, settings: object = None) -> None:
        self.folder, self.kind, self.settings = folder, kind, settings
        self._used: set[Path] = set()

    def read(self, part: TeacherScores) -> Curves:
        """The curves of a part that are known."""
        path = self._path(part)
        try:
            with np.load(path, allow_pickle=False) as stored:
                found = dict(_unpacked(stored))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return {}  # missing or truncated: computed again
        self._used.add(path)
        return found

    def write(self, part: TeacherScores, curves: Mapping[tuple[str, Any], Roc]) -> None:
        """Keep the curves of a part."""
        path = self._path(part)
        keys = [(label, order_of(candidate)) for label, candidate in curves]
        rocs = list(curves.values())
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(
                file,
                labels=np.array([label for label, _ in keys]),
                candidates=np.array([order for _, order in keys]),
                n_points=np.array([len(roc.efpr) for roc in rocs]),
                efpr=np.concatenate([roc.efpr for roc in rocs]),
                tpr=np.concatenate([roc.tpr for roc in rocs]),
            )
        self._used.add(path)

    def tidy(self) -> None:
        """Remove files of this decoder that were neither read nor written."""
        for path in self.folder.glob(f"{self._prefix}*.npz"):
            if path not in self._used:
                path.unlink(missing_ok=True)

    @property
    def _prefix(self) -> str:
        return f"curves-{self.kind}-"

    def _path(self, part: TeacherScores) -> Path:
        found = part.of("events")
        assert found is not None, part.stage
        scores, truth = found
        events, durations = truth.events, sorted(truth.durations.items())
        about = (REVISION, self.kind, self.settings, part.stage, scores.clip_ids, events.clip_ids)
        digest = hashlib.sha256(repr((*about, durations, events.vocabulary.labels)).encode())
        for one in scores.each():
            digest.update(str((one.values.dtype, one.values.shape)).encode())
            digest.update(np.ascontiguousarray(one.values))
            digest.update(np.ascontiguousarray(one.boundaries_s))
        for column in ("clip_index", "label_index", "onset_s", "offset_s"):
            digest.update(np.ascontiguousarray(getattr(events, column)))
        return self.folder / f"{self._prefix}{digest.hexdigest()[:32]}.npz"


def _unpacked(
    stored: Mapping[str, Any],
) -> Iterator[tuple[tuple[str, tuple[float, ...]], Roc]]:
    ends = np.cumsum(stored["n_points"])[:-1]
    efpr, tpr = np.split(stored["efpr"], ends), np.split(stored["tpr"], ends)
    keys = zip(stored["labels"].tolist(), stored["candidates"].tolist(), strict=True)
    for (label, candidate), *curve in zip(keys, efpr, tpr, strict=True):
        yield (label, tuple(candidate)), Roc(*curve)
