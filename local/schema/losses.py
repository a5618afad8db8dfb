"""The section `losses`: weights of the losses; without it they are the published ones."""

from __future__ import annotations

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
    """Weight of the pseudo-label loss (training.pseudo_labels)."""
