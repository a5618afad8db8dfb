"""Create a synthetic corpus of the published sizes: noise and random labels, small on disk.

Each clip has its own name and labels, but all share a few audio files (as links), and only the
first few rows of embeddings are written (the others are holes, read as zeros). So the disk is not
read, and reading is as fast as possible: a cold disk adds its own time.
"""

from __future__ import annotations

import math
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from desed_task.atomic_files import write_text_atomic
from desed_task.audio.files import write_wav
from desed_task.dataio.embeddings import FRAME, GLOBAL, NAMES
from desed_task.encoders.beats.encoder import BeatsConfig
from desed_task.encoders.beats.model import SMALL_CONFIG, write_random_beats
from desed_task.errors import InputError
from desed_task.hdf5 import allocate_numbers, create_hdf5
from local.classes_dict import DESED_CLASSES, MAESTRO_REAL_KNOWN
from local.config import RecipeConfig, check_config
from local.prep.maestro_recordings import (
    MAESTRO_TRAIN_RECORDINGS,
    MAESTRO_VALIDATION_RECORDINGS,
    scene_of,
)
from local.stores.size import with_embedding_size
from local.task.corpus import Corpus

SEED = 42
CLIP_S = 10.0
_DISTINCT = 32
_TRAIN_HOP_S, _VALIDATION_HOP_S = 1, 5
# Recordings: the first int(0.9 n) of the 6 or 7 of each scene.
_TRAINED_ON = sum(int(0.9 * n) for n in Counter(map(scene_of, MAESTRO_TRAIN_RECORDINGS)).values())
_MAESTRO = ("maestro_real_train", "maestro_real_dev")


@dataclass(frozen=True)
class Sizes:
    """Number of clips of each corpus."""

    maestro_train: int
    synthetic_train: int
    strong_train: int
    weak_train: int
    unlabelled: int
    synthetic_validation: int
    devtest: int
    maestro_validation: int

    @classmethod
    def of_steps(cls, n_steps: int, quotas: Sequence[int], share: float) -> Sizes:
        """Return sizes for an epoch of `n_steps`, and a share of the validation and test sets.

        Args:
            n_steps: batches of an epoch, limited by the weak clips.
            quotas: rows of a batch: MAESTRO, synthetic, strong, weak, unlabelled.
            share: share of the published 2,500 validation, 1,168 and 900 dev-test clips.
        """
        maestro, synthetic, strong, weak, unlabelled = (n_steps * quota for quota in quotas)
        # A tenth of the weak clips and a tenth of each scene's MAESTRO recordings are held out.
        return cls(
            maestro_train=len(MAESTRO_TRAIN_RECORDINGS) * math.ceil(maestro / _TRAINED_ON),
            synthetic_train=max(synthetic, 4),
            strong_train=max(strong, 4),
            weak_train=max(round(weak / 0.9), 10),
            unlabelled=unlabelled,
            synthetic_validation=max(round(2500 * share), 8),
            devtest=max(round(1168 * share), 8),
            maestro_validation=max(round(900 * share), 16),
        )


class Made:
    """A synthetic corpus and the configuration with its paths.

    Args:
        config: sizes of network and batches; its paths are replaced.
        sizes: sizes of the sets.
        folder: folder of all files.
    """

    def __init__(self, config: RecipeConfig, sizes: Sizes, folder: Path) -> None:
        self.folder, self.sizes = folder, sizes
        self.config = with_embedding_size(self._placed(config))
        self.n_samples = round(config.data.audio_max_len * config.data.fs)
        # As in BEATs: 62 patches in time times 8 in frequency for 10 s.
        self.n_tokens = int(49.6 * config.data.audio_max_len)
        self._rng = np.random.default_rng(SEED)

    @property
    def beats(self) -> Path:
        """Random BEATs weights, created on first use."""
        path = Path(self.config.pretrained.beats_checkpoint)
        if not path.is_file():
            published = self.config.net.embedding_size == BeatsConfig().encoder_embed_dim
            write_random_beats(path, seed=SEED, config=BeatsConfig() if published else SMALL_CONFIG)
        return path

    def make(self) -> None:
        """Write everything but BEATs; existing files are kept.

        Raises:
            InputError: the folder contains a corpus of other sizes or another sample format.
        """
        marker = self.folder / "made.txt"
        what = f"{self.sizes}, embeddings of {self.config.net.embedding_size}, 32-bit float audio\n"
        if marker.is_file():
            if marker.read_text(encoding="utf-8") != what:
                raise InputError(
                    f"{self.folder}: created with other sizes or 16-bit audio; give another --work"
                )
            return
        shutil.rmtree(self.folder, ignore_errors=True)  # of an interrupted run
        self._make()
        write_text_atomic(marker, what)

    def _make(self) -> None:
        sounds = self._write_sounds()
        counts = {
            "maestro_real_train": self.sizes.maestro_train,
            "synth_train": self.sizes.synthetic_train,
            "strong_train": self.sizes.strong_train,
            "weak_train": self.sizes.weak_train,
            "unlabeled_train": self.sizes.unlabelled,
            "synth_val": self.sizes.synthetic_validation,
            "devtest": self.sizes.devtest,
            "maestro_real_dev": self.sizes.maestro_validation,
        }
        task = self.config.detection_task
        for name, n_clips in counts.items():
            corpus, cut = task.corpus(name), name in _MAESTRO
            names = maestro_names(name, n_clips) if cut else plain(name, n_clips)
            self._write_corpus(corpus, names, sounds)
            self._write_embeddings(corpus, names)

    def _placed(self, config: RecipeConfig) -> RecipeConfig:
        tree = config.dump()
        for key, value in tree["data"].items():
            if isinstance(value, str) and "/" in value:
                tree["data"][key] = str(self.folder / key)
        tree["pretrained"]["extracted_embeddings_dir"] = str(self.folder / "embeddings")
        tree["pretrained"]["beats_checkpoint"] = str(self.folder / "beats.pt")
        # It would write while something is timed; the benchmarks set the loaders themselves.
        tree["energy"]["enabled"] = False
        tree["training"].update(num_workers=0, enable_progress_bar=False)
        return check_config(tree, "benchmarks")

    def _write_sounds(self) -> list[Path]:
        folder = self.folder / "sounds"
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{number}.wav" for number in range(_DISTINCT)]
        for path in paths:
            samples = 0.06 * self._rng.standard_normal(self.n_samples)
            write_wav(path, samples, self.config.data.fs, "FLOAT")
        return paths

    def _write_embeddings(self, corpus: Corpus, names: Sequence[str]) -> None:
        path = self.folder / "embeddings" / "beats" / f"{corpus.name}.hdf5"
        path.parent.mkdir(parents=True, exist_ok=True)
        size, n_clips = self.config.net.embedding_size, len(names)
        n_drawn = min(_DISTINCT, n_clips)
        drawn = self._rng.standard_normal((n_drawn, size, self.n_tokens), np.float32)
        with create_hdf5(path) as file:
            allocate_numbers(file, FRAME, (n_clips, size, self.n_tokens))[:n_drawn] = drawn
            file.create_dataset(GLOBAL, data=np.zeros((n_clips, size), np.float32))
            file.create_dataset(NAMES, data=list(names), dtype=h5py.string_dtype())

    def _write_corpus(self, corpus: Corpus, names: Sequence[str], sounds: Sequence[Path]) -> None:
        folder = Path(corpus.folder)
        folder.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(names):
            os.link(sounds[number % len(sounds)], folder / f"{name}.wav")
        if corpus.table is not None:
            header, lines = self._table(corpus, names)
            _write_table(Path(corpus.table.path), header, lines)
        if corpus.durations is not None:
            lines = [f"{name}.wav\t{length_s}" for name, length_s in durations(corpus.name, names)]
            _write_table(Path(corpus.durations), "filename\tduration", lines)

    def _table(self, corpus: Corpus, names: Sequence[str]) -> tuple[str, list[str]]:
        if corpus.labels == "weak":
            rows = [self._rng.choice(DESED_CLASSES, 2, replace=False) for _ in names]
            lines = [f"{name}.wav\t{','.join(row)}" for name, row in zip(names, rows, strict=True)]
            return "filename\tevent_labels", lines
        header = "filename\tonset\toffset\tevent_label"
        if corpus.name not in _MAESTRO:
            return header, [line for name in names for line in self._events(name, 4)]
        return f"{header}\tconfidence", [line for name in names for line in self._soft(name)]

    def _events(self, name: str, n_events: int) -> list[str]:
        """Draw as many events as DESED's clips have, of its lengths of a second or two."""
        onset = self._rng.uniform(0, CLIP_S - 1, n_events)
        offset = np.minimum(onset + 0.25 + self._rng.exponential(2.0, n_events), CLIP_S)
        labels = self._rng.choice(DESED_CLASSES, n_events, replace=False)
        rows = zip(onset, offset, labels, strict=True)
        return [f"{name}.wav\t{on:.3f}\t{off:.3f}\t{label}" for on, off, label in rows]

    def _soft(self, name: str) -> list[str]:
        """Draw MAESTRO's events: whole seconds with the share of annotators who heard the class."""
        lines = []
        for label in self._rng.choice(MAESTRO_REAL_KNOWN, 4, replace=False):
            onset = int(self._rng.integers(0, 8))
            offset = int(self._rng.integers(onset + 1, 11))
            lines.append(f"{name}.wav\t{onset}\t{offset}\t{label}\t{self._rng.uniform():.3f}")
        return lines


def batch_rows(config: RecipeConfig) -> list[int]:
    """Rows of each part of a training batch, also those of 0 rows."""
    task = config.detection_task
    return list(config.training.batch_size or (part.rows for part in task.batch))


def plain(corpus: str, n_clips: int) -> list[str]:
    """Names of DESED clips."""
    return [f"{corpus}_{number:05d}" for number in range(n_clips)]


def maestro_names(corpus: str, n_clips: int) -> list[str]:
    """Names of clips cut from the published recordings, distributed evenly."""
    training = corpus == _MAESTRO[0]
    recordings = MAESTRO_TRAIN_RECORDINGS if training else MAESTRO_VALIDATION_RECORDINGS
    hop_s = _TRAIN_HOP_S if training else _VALIDATION_HOP_S
    names = []
    for number in range(n_clips):
        onset = 100 * hop_s * (number // len(recordings))
        names.append(f"{recordings[number % len(recordings)]}-{onset:06d}-{onset + 1000:06d}")
    return names


def durations(corpus: str, names: Iterable[str]) -> list[tuple[str, float]]:
    """Durations of clips, or of MAESTRO's recordings."""
    if corpus != _MAESTRO[1]:
        return [(name, CLIP_S) for name in names]
    last: dict[str, float] = {}
    for name in names:
        recording, _, end = name.rsplit("-", 2)
        last[recording] = max(last.get(recording, 0.0), int(end) / 100)
    return sorted(last.items())


def _write_table(path: Path, header: str, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(path, "\n".join((header, *lines)) + "\n")
