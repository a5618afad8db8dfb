"""Table of the corpora: configuration keys, kind of labels and annotated classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

from desed_task.batch import Source
from desed_task.errors import command_name, count_of
from desed_task.file_names import escape_name
from local.classes_dict import CLASSES, DESED_CLASSES, MAESTRO_REAL_KNOWN
from local.config import MINI_FOLDER
from local.config_schema import Data


class Corpus(NamedTuple):
    """One set of clips; keys are those of the configuration's `data` section."""

    name: str  # also the name of its embeddings file
    title: str
    folder_key: str
    table_key: str | None
    duration_key: str | None
    labels: Literal["strong", "weak", "none"]
    known: tuple[str, ...]  # classes annotated in it
    source: Source


_MINI = "--conf_file confs/mini.yaml"

MAESTRO_TRAIN = Corpus(
    "maestro_real_train",
    "MAESTRO real training",
    "real_maestro_train_folder",
    "real_maestro_train_tsv",
    None,
    "strong",
    MAESTRO_REAL_KNOWN,
    Source.MAESTRO_REAL,
)
SYNTHETIC_TRAIN = Corpus(
    "synth_train",
    "synthetic training",
    "synth_folder",
    "synth_tsv",
    None,
    "strong",
    DESED_CLASSES,
    Source.SYNTHETIC,
)
STRONG_TRAIN = Corpus(
    "strong_train",
    "strong real",
    "strong_folder",
    "strong_tsv",
    None,
    "strong",
    DESED_CLASSES,
    Source.STRONG_REAL,
)
WEAK_TRAIN = Corpus(
    "weak_train",
    "weak",
    "weak_folder",
    "weak_tsv",
    None,
    "weak",
    DESED_CLASSES,
    Source.WEAK,
)
UNLABELLED_TRAIN = Corpus(
    "unlabeled_train",
    "unlabelled in domain",
    "unlabeled_folder",
    None,
    None,
    "none",
    DESED_CLASSES,
    Source.UNLABELLED,
)
SYNTHETIC_VALIDATION = Corpus(
    "synth_val",
    "synthetic validation",
    "synth_val_folder",
    "synth_val_tsv",
    "synth_val_dur",
    "strong",
    DESED_CLASSES,
    Source.SYNTHETIC,
)
DEVTEST = Corpus(
    "devtest",
    "DESED dev-test",
    "test_folder",
    "test_tsv",
    "test_dur",
    "strong",
    DESED_CLASSES,
    Source.DEVTEST,
)
MAESTRO_VALIDATION = Corpus(
    "maestro_real_dev",
    "MAESTRO real validation",
    "real_maestro_val_folder",
    "real_maestro_val_tsv",
    "real_maestro_val_dur",
    "strong",
    MAESTRO_REAL_KNOWN,
    Source.MAESTRO_REAL,
)
EVALUATION = Corpus(
    "eval",
    "evaluation",
    "eval_folder",
    None,
    None,
    "none",
    CLASSES,
    Source.EVALUATION,
)

TRAINING = (MAESTRO_TRAIN, SYNTHETIC_TRAIN, STRONG_TRAIN, WEAK_TRAIN, UNLABELLED_TRAIN)
# Only the held-out part of the weak and the MAESTRO training clips.
VALIDATION = (SYNTHETIC_VALIDATION, WEAK_TRAIN, MAESTRO_TRAIN)
TEST = (DEVTEST, MAESTRO_VALIDATION)
# Clips longer than the network's input are scored in windows. MAESTRO's clips are windows already.
SCORED_IN_WINDOWS = (SYNTHETIC_VALIDATION, WEAK_TRAIN, DEVTEST, EVALUATION)
# Lightning's stage -> corpora checked before it starts; training ends with a test.
NEEDED_BY_STAGE: dict[str, tuple[Corpus, ...]] = {
    "fit": (*TRAINING, SYNTHETIC_VALIDATION, *TEST),
    "validate": VALIDATION,
    "test": TEST,
    "predict": (EVALUATION,),
}


def is_there(corpus: Corpus, data: Data) -> bool:
    """Whether a corpus has a table, or a folder with anything in it."""
    folder, table = getattr(data, corpus.folder_key), corpus.table_key
    if table is not None and Path(getattr(data, table)).exists():
        return True
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except FileNotFoundError:
        return False
    except OSError:
        return True  # It cannot be searched, which is reported of that folder.


def nothing_there(needed: Sequence[Corpus], data: Data) -> str | None:
    """One message if none of several corpora exists; None if one does, or only one is needed.

    Args:
        needed: corpora that a command needs.
        data: their paths.
    """
    if len(needed) < 2 or any(is_there(corpus, data) for corpus in needed):
        return None
    folders = [Path(getattr(data, corpus.folder_key)) for corpus in needed]
    above = Path(os.path.commonpath(folders)) if _alike(folders) else folders[0]
    generate = command_name("generate_dcase_task4_2024.py")
    if is_mini(data):
        remedy = f"make it with {generate} --mini"
    elif MINI_FOLDER.is_dir():
        remedy = f"prepare it with {generate}, or use the mini corpus in {MINI_FOLDER} with {_MINI}"
    else:
        remedy = (
            f"prepare it with {generate}, or try the mini corpus: {generate} --mini, then {_MINI}"
        )
    return (
        f"no data in {escape_name(above)} (looked up from {escape_name(Path.cwd())}): none "
        f"of the {count_of(len(needed), 'corpus', 'corpora')} is there; {remedy}"
    )


def _alike(folders: Sequence[Path]) -> bool:
    """Whether paths are all absolute or all relative, and so have a folder in common."""
    return len({folder.is_absolute() for folder in folders}) == 1


def is_mini(data: Data) -> bool:
    """Whether a configuration names the mini corpus, wherever it lies."""
    parts = Path(data.weak_folder).parts
    return ("mini", "dcase") in pairwise(parts)
