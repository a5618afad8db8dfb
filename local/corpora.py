"""Table of the corpora: configuration keys, kind of labels and annotated classes."""

from __future__ import annotations

from typing import Literal, NamedTuple

from desed_task.batch import Source
from local.classes_dict import CLASSES, DESED_CLASSES, MAESTRO_REAL_KNOWN


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
