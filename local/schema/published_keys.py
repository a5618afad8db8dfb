"""Published keys: those that the DCASE 2024 task's description refers to, and unread ones."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from local.schema.strict import StrictModel


class PublishedPaths(StrictModel):
    """Folders and tables; a `*_44k` folder holds what was downloaded, its sibling 16 kHz audio."""

    synth_folder: str = ""
    synth_folder_44k: str = ""
    synth_tsv: str = ""
    strong_folder: str = ""
    strong_folder_44k: str = ""
    strong_tsv: str = ""
    real_maestro_train_folder: str = ""
    real_maestro_train_folder_44k: str = ""
    real_maestro_train_tsv: str = ""
    real_maestro_val_folder: str = ""
    real_maestro_val_folder_44k: str = ""
    real_maestro_val_tsv: str = ""
    real_maestro_val_dur: str = ""
    weak_folder: str = ""
    weak_folder_44k: str = ""
    weak_tsv: str = ""
    unlabeled_folder: str = ""
    unlabeled_folder_44k: str = ""
    synth_val_folder: str = ""
    synth_val_folder_44k: str = ""
    synth_val_tsv: str = ""
    synth_val_dur: str = ""
    test_folder: str = ""
    test_folder_44k: str = ""
    test_tsv: str = ""
    test_dur: str = ""
    eval_folder: str = ""
    eval_folder_44k: str = ""


class PublishedTraining(StrictModel):
    """How corpora are divided, and what is validated."""

    weak_split: float = Field(default=0.9, gt=0, lt=1)
    maestro_split: float = Field(default=0.9, gt=0, lt=1)
    """Share of each scene's MAESTRO recordings used for training, rounded down; the others are held
    out for validation."""
    obj_metric_synth_type: Literal["intersection", "collar", "psds"] = "intersection"
    obj_metric_maestro_type: Literal["fmo", "mauc", "mpauc"] = "fmo"


SEGMENT_TABLES: Final = {"maestro_real": "maestro_segment_f1.txt"}
"""`Corpus.scores_stem` -> the text table of its segments, where that has a published name."""
EARLIER_OBJECTIVES: Final = {"devtest": "test"}
"""What tuning is for, as earlier versions called it -> as it is called now."""

TASK_KEYS: Final = frozenset(
    {f"data.{key}" for key in PublishedPaths.model_fields}
    | {f"training.{key}" for key in PublishedTraining.model_fields}
)
"""Dotted keys that only descriptions refer to."""

REPEATED_SETS: Final[dict[str, str]] = {"weak_val": "weak_train"}
"""Sets of embeddings that are published a second time under another name."""

UNREAD_KEYS: Final[dict[str, str]] = {
    "net.rnn_layers": "the published code never read it; set net.n_layers_RNN (published: 2)",
    "training.val_thresholds": "validation uses the threshold 0.5 that its metrics' names state",
    "training.backend": "choose the device with --gpus",
    "feats.n_filters": "it repeated the window length; set feats.n_window",
    "data.synth_maestro_train": "MAESTRO synth is not trained on",
    "data.synth_maestro_train_44k": "MAESTRO synth is not trained on",
    "data.synth_maestro_tsv": "MAESTRO synth is not trained on",
}
"""Keys of the published configuration that nothing reads -> why, and what to use instead."""
