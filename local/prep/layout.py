"""Paths of the data: the published folder tree below any folder.

The configuration names its folders and tables below `../../data` (or `./data/mini`); here the part
of each path from `dcase/dataset` on is read below `basedir` and written below `out_dir`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from local.config_schema import Data

DATA_PARTS = {
    "synth": "the synthetic clips",
    "strong": "the strongly labelled real clips",
    "real": "weak, unlabelled and DESED validation clips",
    "maestro": "MAESTRO real",
    "eval": "the evaluation clips",
}
# Beside the table of weak labels: names of the unlabelled clips.
UNLABELLED_TABLE = "unlabel_in_domain.tsv"
RECORDINGS_AUDIO = "maestro_real/development_audio"
RECORDINGS_LABELS = "maestro_real/development_annotation"


class Material(NamedTuple):
    """A folder or table of the recipe: its part, its key in the configuration and its title."""

    part: str
    key: str
    title: str


FOLDERS = (
    Material("synth", "synth_folder", "synthetic, training"),
    Material("synth", "synth_val_folder", "synthetic, validation"),
    Material("strong", "strong_folder", "strong real"),
    Material("real", "weak_folder", "weak"),
    Material("real", "unlabeled_folder", "unlabelled in domain"),
    Material("real", "test_folder", "DESED validation (dev-test)"),
    Material("eval", "eval_folder", "evaluation"),
    Material("maestro", "real_maestro_train_folder", "MAESTRO real, training clips"),
    Material("maestro", "real_maestro_val_folder", "MAESTRO real, validation clips"),
)
# These come with the corpora; MAESTRO's tables are created here.
TABLES = (
    Material("synth", "synth_tsv", "synthetic, training: events"),
    Material("synth", "synth_val_tsv", "synthetic, validation: events"),
    Material("strong", "strong_tsv", "strong real: events"),
    Material("real", "weak_tsv", "weak: labels"),
    Material("real", "test_tsv", "DESED validation: events"),
)


@dataclass(frozen=True)
class DataLayout:
    """Paths of the config's `data` section below two roots.

    Attributes:
        data: the configuration's section.
        basedir: folder of the downloaded data.
        out_dir: folder of the prepared data; may be `basedir`.
    """

    data: Data
    basedir: Path
    out_dir: Path

    def made(self, key: str) -> Path:
        """Path at which `data.<key>` is written."""
        return rebase(getattr(self.data, key), self.out_dir)

    def found(self, key: str) -> Path:
        """Path at which `data.<key>` is read: below `out_dir` only if it is not below `basedir`."""
        path = rebase(getattr(self.data, key), self.basedir)
        return path if path.exists() else self.made(key)

    @property
    def recordings_audio(self) -> Path:
        """Folder of MAESTRO's long recordings."""
        return self.basedir / RECORDINGS_AUDIO

    @property
    def recordings_labels(self) -> Path:
        """Folder of their soft labels."""
        return self.basedir / RECORDINGS_LABELS


def rebase(path: str, root: Path) -> Path:
    """Place `path`, from `dcase/dataset` on, below `root`; other paths are returned unchanged."""
    parts = Path(path).parts
    for i, pair in enumerate(pairwise(parts)):
        if pair == ("dcase", "dataset"):
            return root.joinpath(*parts[i:])
    return Path(path)
