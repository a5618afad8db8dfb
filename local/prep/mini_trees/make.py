"""Make the mini tree of a supplied task: a few synthetic clips in the layout of the real corpus.

    python generate_dcase_task4_2024.py --mini --task urban_sed

The folder gets the originals and their tables, a small configuration with random weights of an
encoder, and is then prepared as real data would be. The same seed gives the same sounds and tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from desed_task.atomic_files import write_json_atomic, write_text_atomic
from desed_task.audio.files import write_wav
from desed_task.audio.resampling import Bits
from desed_task.encoders.weights_file import MINI_BEATS
from desed_task.errors import InputError
from desed_task.parallel import track
from local.config import SHIPPED, load_config
from local.prep.mini_corpus.soundscapes import SOUNDSCAPE_RATE, render_clip
from local.prep.mini_trees import homes, ontology, streets
from local.prep.mini_trees.plans import MiniTree, TreeClip
from local.prep.own_task import prepare_task
from local.schema.published_keys import TASK_KEYS
from local.task.reading import TASKS

# Increased whenever the same seed gives other sounds or tables.
VERSION: Final = 1
MARKER: Final = "mini_tree.json"
# Supplied task -> its tree.
MINI_TREES: Final[Mapping[str, Callable[[int], MiniTree]]] = {
    "desed2023": homes.desed,
    "desed_labelled": homes.desed,
    "maestro_real": streets.maestro_real,
    "urban_sed": streets.urban_sed,
    "tut2017": streets.tut2017,
    "real_desed": homes.real_desed,
    "audioset_strong": ontology.audioset_strong,
    "fsd50k": ontology.fsd50k,
}
# Sections of confs/mini.yaml that a small configuration takes, and keys of them that it does not.
_TAKEN: Final = ("pretrained", "training", "data", "opt", "feats", "net")
_NOT_TAKEN: Final = TASK_KEYS | {"net.nclass", "net.median_filter", "data.packed_dir"}


def mini_folder(task: str) -> Path:
    """Default folder of a task's mini tree."""
    return Path("data") / f"mini_{task}"


def make_mini_tree(
    task: str,
    folder: Path,
    *,
    seed: int = 42,
    bits: Bits | None = None,
    jobs: int | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> Path:
    """Make the mini tree of a task and prepare it. Files that are there are kept.

    Args:
        task: a key of `MINI_TREES`.
        folder: of the tree; created if missing.
        seed: of the sounds and the random encoder.
        bits: sample format of the 16 kHz files, see `desed_task.audio.resampling.resample_folder`.
        jobs: files at a time in the preparation; None for one per processor.
        progress: whether to show bars and say what was made.
        overwrite: whether to replace 16 kHz files that were changed since they were made.

    Returns:
        The small configuration in the folder.

    Raises:
        InputError: there is no such tree, the folder contains something else, or it cannot be
            written.
    """
    if task not in MINI_TREES:
        raise InputError(f"--task {task}: has no mini tree; known: {', '.join(MINI_TREES)}")
    _begin(folder, {"version": VERSION, "seed": seed, "task": task})
    tree = MINI_TREES[task](seed)
    root = folder / tree.root
    absent = [clip for clip in tree.clips if not (root / clip.path).is_file()]
    for clip in track(absent, "sounds", len(absent), shown=progress):
        _write(root / clip.path, clip)
    for name, text in tree.texts.items():
        _write_absent(root / name, text)
    _write_beats(folder / MINI_BEATS, seed)
    configuration = folder / f"{task}.yaml"
    _write_absent(configuration, _configuration(task, folder, tree))
    config = load_config(configuration)
    prepared = prepare_task(config, bits=bits, jobs=jobs, progress=progress, overwrite=overwrite)
    if prepared.failed or prepared.absent:
        raise InputError(f"{folder}: the mini tree is damaged\n{prepared.failures()}".rstrip())
    if progress:
        print(f"{folder}: the mini tree of {task} (seed {seed}) is complete; train on it with")
        print(f"  --conf_file {configuration}")
    return configuration


def _begin(folder: Path, wanted: dict[str, Any]) -> None:
    """Mark the folder as that of a tree, or check that it is."""
    marker = folder / MARKER
    if not marker.is_file() and folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder}: contains something else; give another --basedir")
    if marker.is_file():
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if found != wanted:
            raise InputError(
                f"{folder}: contains another mini tree; remove it, or give another --basedir"
            )
        return
    try:
        write_json_atomic(marker, wanted)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error}); change --basedir") from None


def _write(path: Path, clip: TreeClip) -> None:
    samples = render_clip(clip.plan)
    if clip.n_bits == 24:
        # The upper bits of 32 are what is written of them.
        write_wav(path, samples.astype(np.int32) << 16, SOUNDSCAPE_RATE, "PCM_24")
    else:
        write_wav(path, samples, SOUNDSCAPE_RATE, "PCM_16")


def _write_absent(path: Path, text: str) -> None:
    if not path.is_file():
        write_text_atomic(path, text)


def _write_beats(path: Path, seed: int) -> None:
    if not path.is_file():
        # PyTorch takes seconds to import and is needed for nothing else here.
        from desed_task.encoders.beats.model import write_random_beats

        write_random_beats(path, seed=seed)


def _configuration(task: str, folder: Path, tree: MiniTree) -> str:
    """The description of the task for the tree, with the small network of confs/mini.yaml."""
    small = yaml.safe_load((SHIPPED / "mini.yaml").read_text(encoding="utf-8"))
    described = yaml.safe_load((TASKS / f"{task}.yaml").read_text(encoding="utf-8"))["task"]
    sections = {
        name: {key: v for key, v in small[name].items() if f"{name}.{key}" not in _NOT_TAKEN}
        for name in _TAKEN
    }
    sections["pretrained"]["extracted_embeddings_dir"] = f"./embeddings/mini_{task}"
    sections["pretrained"]["beats_checkpoint"] = (folder / MINI_BEATS).as_posix()
    sections["training"]["batch_size"] = list(tree.batch_size)
    sections["net"]["median_filter"] = 7
    for name, split in tree.splits.items():
        described["corpora"][name]["split"] = dict(split)
    described["root"] = (folder / tree.root).as_posix()
    text = yaml.safe_dump({"task": described, **sections}, sort_keys=False, allow_unicode=True)
    return f"# The task {task} on its mini tree, with the small network of confs/mini.yaml.\n{text}"
