"""Published keys about the corpora of the DCASE 2024 task, which its description refers to."""

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


EARLIER_OBJECTIVES: Final = {"devtest": "test"}
"""What tuning is for, as earlier versions called it -> as it is called now."""

TASK_KEYS: Final = frozenset(
    {f"data.{key}" for key in PublishedPaths.model_fields}
    | {f"training.{key}" for key in PublishedTraining.model_fields}
)
"""Dotted keys that only descriptions refer to."""
