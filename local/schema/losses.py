"""The section `losses`: weights of the losses; without it they are the published ones."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from local.schema.strict import StrictModel


class Losses(StrictModel):
    """Weights of the supervised, consistency and pseudo-label losses (docs/method.md)."""

    corpora: dict[str, NonNegativeFloat] = Field(default={})
    """Corpus -> weight of its supervised loss, for every corpus with labels that is trained on;
    empty, as published: one mean over all rows with events, and one over weakly labelled rows."""
    weak_consistency: NonNegativeFloat = 1.0
    """Weight of the clips' consistency loss beside the frames'."""
    ramp: Literal["exp", "linear"] = "exp"
    """How the consistency weight rises to training.const_max: exp, as published, up to
    training.n_epochs_warmup; linear: step / ramp_steps, at most ramp_most."""
    ramp_steps: PositiveInt = 1000
    ramp_most: PositiveFloat = 1.0
    pseudo: NonNegativeFloat = 0.0
    """Weight of the pseudo-label loss (training.pseudo_labels), in which corpora with events or
    weak labels count by their weights together, and those with soft labels by theirs; both count 1
    where `corpora` is empty."""

    def problems(self, labels: Mapping[str, str]) -> list[str]:
        """Messages about weights that do not fit the corpora that are trained on.

        Args:
            labels: corpus -> kind of its labels, of all that are trained on.
        """
        labelled = [name for name, kind in labels.items() if kind != "none"]
        if not self.corpora:
            return []
        unknown = [name for name in self.corpora if name not in labelled]
        lacking = [name for name in labelled if name not in self.corpora]
        problems = []
        if unknown:
            problems.append(
                f"losses.corpora: {', '.join(unknown)}: no such corpus with labels is trained on; "
                f"known: {', '.join(labelled)}"
            )
        if lacking:
            problems.append(
                f"losses.corpora: gives no weight for {', '.join(lacking)}; give one for each "
                "corpus with labels that is trained on (0 leaves its labels out), or none at all"
            )
        return problems

    def warn_of_unread(self) -> None:
        """Warn of values of the linear ramp where the weight rises otherwise."""
        for key in ("ramp_steps", "ramp_most"):
            value = getattr(self, key)
            if self.ramp != "linear" and value != type(self).model_fields[key].default:
                warnings.warn(
                    f"losses.{key}: {value:g} is not read, as losses.ramp is {self.ramp}; set "
                    "losses.ramp: linear, or leave it out",
                    UserWarning,
                    stacklevel=2,
                )


def pseudo_label_problems(weight: float, folder: str | None) -> list[str]:
    """A message about a weight without pseudo-labels; warns of pseudo-labels without a weight."""
    if weight and folder is None:
        return [
            f"losses.pseudo: {weight:g} weighs pseudo-labels, and training.pseudo_labels names no "
            "folder of them; name one (extract_embeddings.py --pseudo_labels writes it), or set "
            "the weight to 0"
        ]
    if folder is not None and not weight:
        warnings.warn(
            f"training.pseudo_labels: {folder} is not read, as losses.pseudo is 0; give it a "
            "weight above 0 to train with pseudo-labels",
            UserWarning,
            stacklevel=2,
        )
    return []


def consistency_problems(consistency: str, mixup_prob: float, *, mixes_any: bool) -> list[str]:
    """A message about a comparison of mixed rows where none are mixed.

    Args:
        consistency: `training.consistency`.
        mixup_prob: `augment.mixup_prob`.
        mixes_any: whether any corpus of the consistency loss is mixed with others.
    """
    if consistency != "ict" or (mixup_prob and mixes_any):
        return []
    if mixup_prob:
        return [
            "training.consistency: ict compares the scores of mixed rows, and no corpus with "
            "consistency is in a group that is mixed; set augment.mix_across: true or mixup_groups "
            "of the task, or training.consistency to mean_teacher"
        ]
    return [
        "training.consistency: ict compares the scores of mixed rows, and none are mixed; set "
        "augment.mixup_prob above 0, or training.consistency to mean_teacher"
    ]
