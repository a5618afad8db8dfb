"""Decide on corpora, classes and scores for what was found in a folder of recordings."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from desed_task.errors import InputError, agree, count_of
from local.describe.label_files import FoundLabels, LabelledEvent, Labels
from local.describe.recordings import Recordings, some
from local.describe.splits import (
    UseOf,
    UseOfClips,
    recordings_of_clips,
    uses_by_column,
    uses_by_folder,
    uses_by_table,
)
from local.doctor.oddities.events import alike
from local.task.class_names import LONGEST_CLASS, RESERVED_CLASSES, is_hidden

# Shares of the clips that are held out, where no folder or column says which.
HELD_OUT: Final = 0.2
# Fewer recordings cannot be divided into training, validation and test.
FEWEST: Final = 3


@dataclass(frozen=True)
class PlannedCorpus:
    """A corpus of the description to be written.

    Attributes:
        name: of the corpus.
        use: what it is for; None if it is divided.
        clips: its recordings.
        labels: of the recordings; None for unlabelled ones.
        pattern: see `UseOf`.
        where: see `UseOf.rows`.
        split: shares of a divided corpus.
        recordings: regular expression of the recording that a clip was cut from; None if none was.
        list_file: whether a list of its recordings is written, as nothing else tells them.
    """

    name: str
    use: UseOfClips | None
    clips: tuple[str, ...]
    labels: Labels | None
    pattern: str | None = None
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    split: Mapping[str, Any] = field(default_factory=dict)
    recordings: str | None = None
    list_file: bool = False

    @property
    def events(self) -> list[LabelledEvent]:
        """Events of its recordings."""
        clips = set(self.clips)
        return [one for one in self.labels.events if one.clip_id in clips] if self.labels else []

    @property
    def kind(self) -> str:
        """Kind of its labels, as a description names it."""
        return "none" if self.labels is None else self.labels.kind


@dataclass(frozen=True)
class Plan:
    """What a description will say.

    Attributes:
        corpora: in the order of the description.
        classes: labels, sorted.
        label_map: other spellings of a label -> the class; None for what is left out.
        decisions: one line each on what was decided and why.
    """

    corpora: tuple[PlannedCorpus, ...]
    classes: tuple[str, ...]
    label_map: Mapping[str, str | None]
    decisions: tuple[str, ...]

    def scored(self, stage: UseOfClips) -> PlannedCorpus:
        """The corpus that a validation or test scores."""
        own = next((c for c in self.corpora if c.use == stage and c.labels is not None), None)
        return own or next(c for c in self.corpora if c.split.get(stage))


def make_plan(found: Recordings, labels: FoundLabels) -> Plan:
    """Plan the corpora of a folder.

    Raises:
        InputError: there are no labels, or too few recordings with labels to be divided.
    """
    if not labels.labels:
        raise InputError(no_labels_text(found, labels))
    decisions: list[str] = []
    best = labels.labels[0]
    by_column = uses_by_column(best)
    if by_column is not None:
        told = {clip for group in by_column for clip in group.clips}
        labelled = {clip for one in labels.labels for clip in one.clips}
        # Of several tables, one with such a column may be about some of the recordings only.
        by_column = by_column if told == labelled else None
    groups = by_column or uses_by_folder(tuple(found.infos))
    by_table = None if len(groups) > 1 else uses_by_table(labels.labels, tuple(found.infos))
    groups = by_table or groups
    corpora = [corpus for group in groups for corpus in _corpora_of(group, labels.labels)]
    decisions += _told_of_labels(labels, {id(one.labels) for one in corpora})
    corpora = _divided(corpora, decisions)
    if by_column:
        decisions.append(f"split by the column {next(iter(groups[0].rows))!r} of {best.path}")
    if by_table:
        decisions.append("split by the names of the tables")
    classes, label_map = _classes([one for c in corpora for one in c.events], decisions)
    return Plan(tuple(corpora), classes, label_map, tuple(decisions))


def no_labels_text(found: Recordings, labels: FoundLabels) -> str:
    """The message about a folder without labels."""
    texts = [*labels.unread, *labels.without_audio]
    read = f" (no labels in {some(texts)})" if texts else ""
    return (
        f"{found.folder}: {count_of(len(found.files), 'recording')}, but no labels{read}. A label "
        "file has the name of its recording and lies beside it or in a folder of its own (a label "
        "track of Audacity: onset, offset and label), or one table names all recordings (columns "
        "filename, onset, offset, event_label). Label some recordings, or detect in them with a "
        "trained network (predict.py)"
    )


def _told_of_labels(labels: FoundLabels, used: set[int]) -> list[str]:
    """One line for each form of labels that is used, and one on the others."""
    lines = []
    for one in (one for one in labels.labels if id(one) in used):
        form = "label tracks of Audacity" if one.is_audacity else f"labels ({one.kind})"
        per = "one file per recording" if one.per_clip else "one table"
        lines.append(
            f"{one.path}: {form}, {per}, {count_of(len(one.events), 'row')} of "
            f"{count_of(len(one.clips), 'recording')}"
        )
        if one.layout.unused:
            lines.append(f"{one.path}: columns that are not used: {some(one.layout.unused, 8)}")
        if one.layout.in_ms:
            lines.append(f"{one.path}: times are taken for milliseconds")
    if others := [one.path for one in labels.labels if id(one) not in used]:
        lines.append(f"not used, as others are labels of the same recordings: {some(others)}")
    if labels.unread:
        lines.append(f"not labels, as far as can be told: {some(labels.unread)}")
    return lines


def _corpora_of(group: UseOf, labels: Sequence[Labels]) -> list[PlannedCorpus]:
    """A corpus for each form of labels that recordings of a group have, and of those without."""
    left, corpora = dict.fromkeys(group.clips), []
    name = group.use or "clips"
    for one in labels:
        clips = tuple(clip for clip in one.clips if clip in left)
        if not clips or (corpora and group.use not in (None, "train")):
            continue  # One corpus is validated and tested.
        kind = "" if not corpora else f"_{one.kind}"
        title = f"{name}{kind}"
        while any(corpus.name == title for corpus in corpora):
            title += "_more"
        corpora.append(PlannedCorpus(title, group.use, clips, one, group.pattern, group.rows))
        left = {clip: None for clip in left if clip not in {*clips}}
    if left and group.use in (None, "train") and not group.rows:
        whole = not corpora
        corpora.append(
            PlannedCorpus(
                f"{name}_unlabelled",
                "train",
                tuple(left),
                None,
                group.pattern if whole else None,
                list_file=not whole,
            )
        )
    return corpora


def _divided(corpora: list[PlannedCorpus], decisions: list[str]) -> list[PlannedCorpus]:
    """Corpora with validation and test: shares of the training corpus, where none are there."""
    labelled = [one for one in corpora if one.labels is not None]
    there = {one.use for one in labelled}
    lacking = [use for use in ("validation", "test") if use not in there]
    best = next((one for one in labelled if one.use in (None, "train")), None)
    if best is None:
        names = ", ".join(sorted({str(one.use) for one in labelled}))
        raise InputError(
            f"labelled recordings are for {names} only, by their folders; put some into a folder "
            "`train`"
        )
    if not lacking:
        return corpora
    pattern = recordings_of_clips(best.clips)
    split = _shares(best, lacking, pattern, decisions)
    changed = replace(best, use=None, split=split, recordings=pattern)
    # Further labelled recordings, e.g. with weak labels, are for training.
    return [changed if one is best else replace(one, use=one.use or "train") for one in corpora]


def _shares(
    corpus: PlannedCorpus, lacking: Sequence[str], pattern: str | None, decisions: list[str]
) -> dict[str, Any]:
    n_clips = len(corpus.clips)
    if n_clips < FEWEST:
        raise InputError(
            f"{count_of(n_clips, 'labelled recording')}: {agree(n_clips, 'it', 'they')} cannot be "
            "divided into training, validation and test; cut long recordings into several files "
            f"of different times, with labels of their own, or label more, at least {FEWEST}"
        )
    share = max(HELD_OUT, round(1 / n_clips + 0.005, 2))
    split: dict[str, Any] = dict.fromkeys(lacking, share)
    what = " and ".join(lacking)
    if pattern is None:
        decisions.append(f"{share:.0%} of the recordings each are held out for {what}, by chance")
        return split
    decisions.append(
        f"{share:.0%} of the recordings each are held out for {what}, by chance; clips of one "
        "recording, by their names, stay together"
    )
    return {"by": "recording", **split}


# ---- classes


def _classes(
    events: Sequence[LabelledEvent], decisions: list[str]
) -> tuple[tuple[str, ...], dict[str, str | None]]:
    """Classes of events, and the class of each other spelling."""
    counts = Counter(event.label for event in events)
    label_map: dict[str, str | None] = {}
    if "" in counts:
        label_map[""] = None
        decisions.append(f"rows without a label are left out: {counts.pop('')}")
    for group in alike(counts):
        kept = max(group, key=lambda label: (counts[label], label))
        for label in group:
            if label != kept:
                label_map[label] = kept
                counts[kept] += counts.pop(label)
        decisions.append(f"taken for one class, {kept!r}: {', '.join(map(repr, group))}")
    for label in [*counts]:
        name = _usable(label)
        if name != label:
            label_map = {k: name if v == label else v for k, v in label_map.items()}
            label_map[label] = name
            counts[name] += counts.pop(label)
            decisions.append(f"{label[:40]!r} is not usable as the name of a class: {name!r}")
    if not counts:
        raise InputError("the label files have no labelled row; label some events")
    return tuple(sorted(counts)), label_map


def _usable(label: str) -> str:
    """A label without what names of classes must not have."""
    text = unicodedata.normalize("NFC", label)
    kept = "".join(" " if is_hidden(one) else one for one in text).strip()[:LONGEST_CLASS].strip()
    return f"{kept}_class" if kept in RESERVED_CLASSES else kept or "unnamed"
