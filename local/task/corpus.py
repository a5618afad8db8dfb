"""A corpus of a task, with its paths and classes resolved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from local.schema.task import (
    AnnotatorRule,
    LabelKind,
    RecordingsDescription,
    SplitDescription,
    TableDescription,
)


class LabelRules(NamedTuple):
    """How labels of a table become classes.

    Attributes:
        targets: label of the table -> classes; none if it is ignored.
        ignores_others: whether labels that are neither classes nor in `targets` are ignored;
            otherwise they are refused.
        names: table of labels and their names, which stand for them; None if labels are names.
    """

    targets: tuple[tuple[str, tuple[str, ...]], ...] = ()
    ignores_others: bool = False
    names: str | None = None


@dataclass(frozen=True)
class Corpus:
    """One set of clips. Its keys are places in the configuration, for messages.

    Attributes:
        name: in the description; `known`, splits and scores refer to it.
        number: place in the description; `SedBatch.source` of its rows.
        title: its name in messages.
        folder: of the 16 kHz audio.
        folder_key: where the configuration names it, e.g. data.weak_folder.
        labels: kind of its labels.
        known: classes annotated in it.
        stem: name of its embeddings and packed files, without ending.
        scores_stem: part of the names of its files of scores.
        table: its labels; None without any.
        table_key: where the configuration names the table.
        durations: table of durations; None for those of the files.
        durations_key: where the configuration names it.
        originals: folder of the audio that `folder` is resampled from; None if there is none.
        listed: table that names the clips a corpus without labels should have; None if none does.
        clips: table or list that names the clips that are used; None for all.
        Others: as of `local.schema.task.CorpusDescription`.
    """

    name: str
    number: int
    title: str
    folder: str
    folder_key: str
    labels: LabelKind
    known: tuple[str, ...]
    stem: str
    scores_stem: str
    table: TableDescription | None = None
    table_key: str = ""
    durations: str | None = None
    durations_key: str = ""
    originals: str | None = None
    listed: str | None = None
    clips: str | None = None
    pattern: str | None = None
    annotators: AnnotatorRule | None = None
    label_rules: LabelRules = field(default_factory=LabelRules)
    aliases: tuple[tuple[str, str], ...] = ()
    split: str | SplitDescription = "train"
    consistency: bool = True
    trains_on_windows: bool = False
    hop_s: float | None = None
    cut_from_recordings: bool = False
    keeps_clips_without_events: bool = True
    recordings: RecordingsDescription = field(default_factory=RecordingsDescription)
    licence: str = ""

    def __hash__(self) -> int:
        return hash((self.name, self.number))

    @property
    def is_strong(self) -> bool:
        """Whether it has events: strong or soft labels."""
        return self.labels in ("strong", "soft")

    @property
    def is_divided(self) -> bool:
        """Whether only a part of its clips is trained on."""
        return isinstance(self.split, SplitDescription)

    @property
    def scored_in_windows(self) -> bool:
        """Whether clips longer than the network's input are scored in windows; those that were cut
        from recordings are windows already."""
        return not self.cut_from_recordings
