"""Schema of a task's description: `task:` of a configuration, or a file of its own.

The string below a field documents it. `local.task.reading` reads descriptions, and
docs/own_data.md explains them. A path that is not absolute starts from `root`.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from local.schema.problems import as_text, validation_problems
from local.schema.strict import StrictModel

LabelKind = Literal["strong", "soft", "weak", "none"]
ScoreKind = Literal["events", "segments", "tags"]
AnnotatorRule = Literal[
    "mean", "weighted", "majority", "union", "intersection", "random", "collector"
]
_USES = ("train", "validation", "test", "evaluation")
_COLUMNS = ("filename", "onset", "offset", "label", "confidence", "annotator", "collector")


class TableDescription(StrictModel):
    """A table of labels, or one file of labels per clip."""

    path: str
    """The table; with {clip}, {folder} or {name}, one file per clip: the clip's path below the
    audio folder without its ending, the folder part of it, and the part behind that."""
    format: Literal["table", "audacity"] = "table"
    """audacity: label tracks of Audacity, one per clip."""
    separator: Literal["tab", "comma", "semicolon", "space"] | None = None
    """null: comma in a file *.csv, otherwise tab."""
    header: bool = True
    """Whether the first line names the columns."""
    columns: dict[str, str | NonNegativeInt] = Field(default={})
    """filename, onset, offset, label (of weak labels: a list of labels), confidence, annotator,
    collector (whether the annotator made the recording) -> the column's name, or its number from 0
    on. Without it, the published names: filename, onset, offset, event_label (of weak labels
    event_labels), confidence."""
    unit: Literal["s", "ms"] = "s"
    """Of onset and offset."""
    where: dict[str, tuple[str, ...]] = Field(default={})
    """Column (a name or a number) -> values; rows with other values are not read."""

    @field_validator("columns", mode="before")
    @classmethod
    def _names_or_numbers(cls, given: Any) -> Any:
        for key, column in given.items() if isinstance(given, dict) else ():
            if key not in _COLUMNS:
                raise ValueError(f"{key}: unknown column; known: {', '.join(_COLUMNS)}")
            is_number = isinstance(column, int) and not isinstance(column, bool) and column >= 0
            if not (is_number or (isinstance(column, str) and column)):
                raise ValueError(
                    f"{key}: give a column's name, or its number from 0 on, not {column!r}"
                )
        return given

    @field_validator("where", mode="before")
    @classmethod
    def _one_value_without_a_list(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        listed = {k: v if isinstance(v, list | tuple) else [v] for k, v in given.items()}
        return {str(k): [str(one) for one in values] for k, values in listed.items()}


class SplitDescription(StrictModel):
    """How the clips of one corpus are divided among training, validation and test."""

    by: Literal["clip", "recording"] = "clip"
    """recording: all clips of a recording (`recordings.pattern`) are in one part."""
    train: float | None = Field(default=None, gt=0, le=1)
    """Share of the clips, or of each group's recordings, that is trained on; null: what validation
    and test leave."""
    validation: float | None = Field(default=None, ge=0, lt=1)
    """null: what training and test leave."""
    test: float = Field(default=0.0, ge=0, lt=1)
    folds: PositiveInt | None = Field(default=None, ge=2)
    """Instead of a share for the test: this many folds, of which `task.fold` is tested on."""


class RecordingsDescription(StrictModel):
    """Recordings that clips were cut from, or that must not be divided between sets."""

    pattern: str | None = None
    """Regular expression whose first group is the recording's name, searched for in a clip's path;
    null: the clip's name up to the first hyphen."""
    groups: tuple[str, ...] = ()
    """Beginnings of names; a split by recording divides the recordings of each group."""
    expected: tuple[str, ...] = ()
    """Names of the recordings that a complete corpus has; absent ones are named."""

    @field_validator("pattern")
    @classmethod
    def _has_a_group(cls, pattern: str | None) -> str | None:
        try:
            groups = 1 if pattern is None else re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from None
        if not groups:
            raise ValueError("has no group; put brackets around the recording's name")
        return pattern


class CorpusDescription(StrictModel):
    """A set of clips, its labels, and its part in training and scoring."""

    title: str = ""
    """Name in messages; by default the corpus's own."""
    audio: str
    """Folder of audio at data.fs, searched with its subfolders."""
    originals: str | None = None
    """Folder of the recordings that `audio` is resampled from; null: `audio` is there already."""
    pattern: str | None = None
    """Glob pattern that the path of a clip below the folder fits, e.g. street/*; null: all."""
    table: TableDescription | None = None
    clips: str | None = None
    """Table or list of files that names the clips that are used; null: all."""
    listed: str | None = None
    """Table that names the clips that a corpus without labels should have, if it is there."""
    durations: str | None = None
    """Table of durations; null: those of the audio files."""
    labels: LabelKind = "strong"
    """soft: events with a confidence; none: only consistency, or only prediction."""
    annotators: AnnotatorRule | None = None
    """How labels of several annotators (column annotator) become one: docs/own_data.md."""
    known: tuple[str, ...] | None = None
    """Classes (or groups of classes) that are annotated in it; null: all."""
    label_names: str | None = None
    """Table without a header: label of the table, tab (in *.csv: comma), its name, which stands for
    it before label_map does; null: labels are names."""
    label_map: dict[str, str | tuple[str, ...] | None] = Field(default={})
    """Label of the table -> the class, several classes, or null for labels to be ignored."""
    other_labels: Literal["refuse", "ignore"] = "refuse"
    """What is done with labels that are neither classes nor in label_map."""
    aliases: dict[str, str] = Field(default={})
    """Class -> a class that contains it, which training adds; the truth is not changed."""
    split: Literal["train", "validation", "test", "evaluation"] | SplitDescription = "train"
    rows: NonNegativeInt = 0
    """Rows in a training batch; 0: not trained on by itself. training.batch_size overrides it."""
    drawn_with: tuple[str, ...] = ()
    """Further corpora that these rows are drawn from."""
    consistency: bool = True
    """Whether its rows take part in the consistency loss."""
    long: Literal["windows", "crop"] = "windows"
    """Training on clips longer than data.audio_max_len: on windows `hop_s` apart, or on a random
    part of each."""
    hop_s: float | None = Field(default=None, gt=0)
    """Distance of windows in seconds; null: predict.hop_s."""
    cut_from_recordings: bool = False
    """Whether clips are windows of recordings, named recording-onset-offset in centiseconds, whose
    segments are scored by recording."""
    clips_without_events: Literal["keep", "leave_out"] = "keep"
    recordings: RecordingsDescription = RecordingsDescription()
    embeddings: str | None = None
    """Name of its file of embeddings without the ending; null: the corpus's own."""
    scores_name: str | None = None
    """Part of the names of its files of scores in a run folder; null: the corpus's own name."""
    licence: str = ""
    """Line about licence and source, printed when the corpus is used."""

    @field_validator("split", mode="before")
    @classmethod
    def _use_or_shares(cls, given: Any) -> Any:
        """Say what a split should be, where pydantic would list the faults of both kinds."""
        if isinstance(given, dict):
            try:
                return SplitDescription.model_validate(given)
            except ValidationError as error:
                faults = validation_problems(error, SplitDescription)
                raise ValueError("; ".join(faults)) from None
        if given not in _USES and not isinstance(given, SplitDescription):
            raise ValueError(
                f"give {', '.join(_USES[:-1])} or {_USES[-1]}, or shares of the clips, e.g. "
                "{validation: 0.2, test: 0.2}"
            )
        return given

    @field_validator("label_map", mode="before")
    @classmethod
    def _labels_to_classes(cls, given: Any) -> Any:
        for label, to in given.items() if isinstance(given, dict) else ():
            several = to if isinstance(to, list | tuple) else [to]
            if not_text := [one for one in [label, *several] if not isinstance(one, str | None)]:
                raise ValueError(f"{label}: {as_text(not_text)}")
        return given

    @field_validator("table", mode="before")
    @classmethod
    def _path_alone(cls, given: Any) -> Any:
        return {"path": given} if isinstance(given, str) else given


class ScoredDescription(StrictModel):
    """A kind of scores: on which classes and corpora."""

    classes: tuple[str, ...] | None = None
    """Classes (or groups of classes); null: all."""
    validation: str | None = None
    """The corpus that is scored in validations; null: none."""
    test: str | None = None


class ClassesFile(StrictModel):
    """Classes that a file lists, or a named list."""

    file: str | None = None
    column: NonNegativeInt = 0
    """Column of the class names, from 0 on; columns are separated by commas in *.csv, by tabs
    otherwise."""
    header: bool = False
    named: Literal["audioset_strong"] | None = None
    """Instead of a file: the 447 classes of AudioSet's strong labels."""

    @model_validator(mode="after")
    def _one_source(self) -> ClassesFile:
        if (self.file is None) is (self.named is None):
            raise ValueError("give `file` or `named`")
        return self


class TaskDescription(StrictModel):
    """Classes, corpora, batches, and what is scored."""

    name: str = "own"
    """Of the task, for messages and reports."""
    root: str = "."
    """Folder that relative paths start from; itself relative to the current folder."""
    fold: PositiveInt = 1
    """Which fold of corpora with folds is tested on; {fold} in paths stands for it."""
    classes: tuple[str, ...] | dict[str, tuple[str, ...]]
    """Labels in the order of the network's outputs, or groups of them: name -> labels."""
    corpora: dict[str, CorpusDescription]
    """Name -> corpus; names begin those of files."""
    mixup_groups: tuple[tuple[str, ...], ...] | None = None
    """Corpora whose rows are mixed with each other; null: those with strong and soft labels, and
    those with weak labels."""
    scored: dict[ScoreKind, ScoredDescription | None]
    """events (PSDS, F-scores), segments (F1, AUC, pAUC) and tags (F1, average precision)."""
    objective: dict[ScoreKind, str] = Field(default={})
    """Figures of the student's validation whose sum chooses the best checkpoint: events:
    intersection, collar or psds; segments: fmo, mauc or mpauc; tags: f1. Empty: one for each kind
    that is scored in validations."""

    @field_validator("classes", mode="before")
    @classmethod
    def _labels_or_groups(cls, given: Any) -> Any:
        """Say what classes should be, where pydantic would list the faults of both kinds."""
        groups = given if isinstance(given, dict) else {"": given}
        for name, labels in groups.items():
            if not isinstance(labels, list | tuple):
                group = f"group {name}: " if name else ""
                raise ValueError(f"{group}give a list of labels, e.g. [Dog, Cat]")
            if not_text := [one for one in [name, *labels] if not isinstance(one, str)]:
                raise ValueError(as_text(not_text))
        return given

    @field_validator("corpora", mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if isinstance(given, dict) and (not_text := [n for n in given if not isinstance(n, str)]):
            raise ValueError(as_text(not_text))
        return given

    @property
    def scores(self) -> dict[ScoreKind, ScoredDescription]:
        """Kinds of scores that are not null."""
        return {kind: given for kind, given in self.scored.items() if given is not None}
