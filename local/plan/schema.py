"""The keys of a plan file (docs/winning.md).

`local.plan.reading` checks a file against them, and what they say about each other.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field, PositiveInt, field_validator

from local.schema.strict import StrictModel
from local.tuning.decoders.flags import LEAST_RESAMPLES


class PlanEncoder(StrictModel):
    """An encoder of a plan: what stages that name it change in `pretrained`, and more."""

    model: str | None = None
    """Name of the encoder; null: that of the entry."""
    checkpoint: str | None = None
    """File of its weights; null for the default one."""
    n_blocks: PositiveInt | None = None
    set: dict[str, Any] = Field(default={})
    """Further values of the configuration: {net.aggregation_type: interpolate}."""


# Keys that take several stages or groups, or one without brackets.
_LISTS = ("needs", "settings", "checkpoints", "runs", "against")


class _Stage(StrictModel):
    """Keys that stages of several kinds share."""

    kind: str
    needs: tuple[str, ...] = ()
    """Stages that must be done before, beside those that other keys name."""
    encoder: str | None = None
    """An entry of `encoders`."""
    settings: tuple[str, ...] = ()
    """Entries of `settings`, of which later ones take precedence."""
    set: dict[str, Any] = Field(default={})
    """Values of the configuration, which take precedence over `settings`."""

    @field_validator(*_LISTS, mode="before", check_fields=False)
    @classmethod
    def _one_without_brackets(cls, value: object) -> object:
        return (value,) if isinstance(value, str) and "," not in value else value

    @property
    def inputs(self) -> dict[str, tuple[str, ...]]:
        """Key -> the stages that it names."""
        return {"needs": self.needs}


class GenerateStage(_Stage):
    """The mini corpus."""

    kind: Literal["generate"]
    basedir: str = "./data/mini"


class EmbeddingsStage(_Stage):
    """Embeddings of all sets with the encoder."""

    kind: Literal["embeddings"]
    eval_set: bool = False
    """Whether to extract those of the evaluation set, too."""


class TrainStage(_Stage):
    """A training, and the test of its best checkpoint."""

    kind: Literal["train"]
    init_from: str | None = None
    """Training from whose weights it starts."""
    pseudo_labels: str | None = None
    """Stage whose pseudo-labels it is trained with."""

    @property
    def inputs(self) -> dict[str, tuple[str, ...]]:
        """Key -> the stages that it names."""
        named = {"init_from": self.init_from, "pseudo_labels": self.pseudo_labels}
        return {key: (name,) for key, name in named.items() if name} | super().inputs


class _OfCheckpoints(_Stage):
    checkpoints: tuple[str, ...] = Field(min_length=1)
    """Trainings whose best checkpoints are taken; of several the mean."""

    @property
    def inputs(self) -> dict[str, tuple[str, ...]]:
        """Key -> the stages that it names."""
        return {"checkpoints": self.checkpoints} | super().inputs


class PseudoLabelsStage(_OfCheckpoints):
    """Logits of all clips that are trained on."""

    kind: Literal["pseudo_labels"]
    use_teacher: bool = False
    """Whether the teachers' logits are taken, not the students'."""


class TuneBoxesStage(_OfCheckpoints):
    """Event boxes, tuned class by class on held-out clips."""

    kind: Literal["tune_boxes"]
    space: str = "confs/optuna.yaml"
    """File of the search space of the median filters that boxes are compared with."""
    sweep: bool = True
    """Whether every candidate of every class is tried, instead of a search."""


class TestStage(_OfCheckpoints):
    """A test."""

    __test__ = False  # no test of pytest
    kind: Literal["test"]
    boxes: str | None = None
    """Stage whose tuned boxes decode the scores."""

    @property
    def inputs(self) -> dict[str, tuple[str, ...]]:
        """Key -> the stages that it names."""
        return super().inputs | ({"boxes": (self.boxes,)} if self.boxes else {})


class ReportStage(_Stage):
    """The summary of runs."""

    kind: Literal["report"]
    runs: tuple[str, ...] = Field(min_length=1)
    """Trainings or tests of one system."""
    against: tuple[str, ...] = ()
    """Those of another system, which it is compared with."""
    resamples: int = 1000
    """Of the bootstrap; 0: no intervals."""

    @field_validator("resamples")
    @classmethod
    def _enough(cls, number: int) -> int:
        if number < 0 or 0 < number < LEAST_RESAMPLES:
            raise ValueError(f"give {LEAST_RESAMPLES} or more, or 0 for no intervals")
        return number

    @property
    def inputs(self) -> dict[str, tuple[str, ...]]:
        """Key -> the stages that it names."""
        return {"runs": self.runs, "against": self.against} | super().inputs


Stage = (
    GenerateStage
    | EmbeddingsStage
    | TrainStage
    | PseudoLabelsStage
    | TuneBoxesStage
    | TestStage
    | ReportStage
)
KINDS: Final[dict[str, type[_Stage]]] = {
    "generate": GenerateStage,
    "embeddings": EmbeddingsStage,
    "train": TrainStage,
    "pseudo_labels": PseudoLabelsStage,
    "tune_boxes": TuneBoxesStage,
    "test": TestStage,
    "report": ReportStage,
}
# Key -> kinds of stages that it may name; needs: any.
NAMED_KINDS: Final = {
    "init_from": ("train",),
    "pseudo_labels": ("pseudo_labels",),
    "checkpoints": ("train",),
    "boxes": ("tune_boxes",),
    "runs": ("train", "test"),
    "against": ("train", "test"),
}
# Stages that read the embeddings of the encoders of the trainings that they name.
GIVEN_ENCODERS: Final = (TestStage, TuneBoxesStage)
# Kinds that compute with an encoder's configuration.
OF_ENCODERS: Final = ("embeddings", "train")
# Kinds that read no configuration, and so neither `settings` nor `set`.
WITHOUT_CONFIGURATION: Final = ("generate", "report")


class PlanFile(StrictModel):
    """A plan file. Its stages are checked one by one, each against the keys of its kind."""

    conf_file: str = "confs/pretrained.yaml"
    """Configuration that all stages start from."""
    jobs: PositiveInt = 1
    """Stages at a time on a machine without a GPU, which share its cores."""
    metrics: tuple[str, ...] = ()
    """Metrics of the final table, as in results.json without `test/student/`; empty: the first."""
    set: dict[str, Any] = Field(default={})
    """Values of the configuration for all stages: {training.num_workers: 2}."""
    encoders: dict[str, PlanEncoder] = Field(default={})
    settings: dict[str, dict[str, Any]] = Field(default={})
    """Named groups of values that stages choose."""
    stages: dict[str, Any] = Field(min_length=1)
