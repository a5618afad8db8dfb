"""Build a `Task` from a description, and say everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from desed_task.errors import count_of
from desed_task.labels import near_labels
from local.schema.task import (
    CorpusDescription,
    ScoreKind,
    SplitDescription,
    TableDescription,
    TaskDescription,
)
from local.task.corpus import Corpus, LabelRules
from local.task.references import only_reference
from local.task.task import BatchPart, ObjectivePart, ScoredPart, Task

# Kind -> figures that may choose the best checkpoint, the default one first.
FIGURES: Final[dict[ScoreKind, tuple[str, ...]]] = {
    "events": ("intersection", "collar", "psds"),
    "tags": ("f1",),
    "segments": ("fmo", "mauc", "mpauc"),
}


class TaskBuilder:
    """Builds the task of a description; faults are collected in `problems`.

    Args:
        description: the validated description.
        raw: the same before references were replaced, which tells where a value comes from.
        batch_size: rows of the parts of a batch; None for those of the description.
        kept: corpora whose clips without events are kept whatever the description says
            (`data.keep_clips_without_events`).
    """

    def __init__(
        self,
        description: TaskDescription,
        raw: Mapping[str, Any],
        batch_size: Sequence[int] | None,
        kept: Sequence[str] = (),
    ) -> None:
        self.description = description
        self.raw = raw
        self.batch_size = batch_size
        self.kept = kept
        self.problems: list[str] = []
        groups = description.classes if isinstance(description.classes, dict) else {}
        self.groups: Mapping[str, tuple[str, ...]] = groups
        listed = description.classes
        self.classes = (
            tuple(label for group in groups.values() for label in group)
            if isinstance(listed, dict)
            else listed
        )

    def build(self) -> Task:
        """The task; what is wrong is in `problems`."""
        self._check_classes()
        corpora = tuple(
            self._corpus(name, number, one)
            for number, (name, one) in enumerate(self.description.corpora.items())
        )
        by_name = {corpus.name: corpus for corpus in corpora}
        batch_names, batch = self._batch(by_name)
        mixup = self._mixup_groups(corpora)
        validation, test = (tuple(self._scored(stage, by_name)) for stage in ("validation", "test"))
        if not validation:
            self.problems.append(
                "task.scored: no kind has a corpus for `validation`, so that no best checkpoint "
                "could be chosen; name one, e.g. events: {validation: NAME}"
            )
        task = Task(
            self.description.name,
            self.classes,
            corpora,
            batch,
            batch_names,
            mixup,
            validation,
            test,
            tuple(self._objective(validation)),
            self.description.fold,
        )
        self._check_kept(by_name)
        return task

    # ---- classes

    def _check_classes(self) -> None:
        twice = sorted({label for label in self.classes if self.classes.count(label) > 1})
        if twice:
            self.problems.append(f"task.classes: given twice: {', '.join(map(repr, twice))}")
        if not self.classes:
            self.problems.append("task.classes: names no class; give at least one")
        odd = [
            one for one in self.classes if one != one.strip() or not one or not one.isprintable()
        ]
        self.problems += [
            f"task.classes: {label!r} is empty, begins or ends with a blank or contains a control "
            "character; correct it here, and map the tables' spelling with label_map"
            for label in odd
        ]
        clash = [name for name in self.groups if name in self.classes]
        self.problems += [
            f"task.classes: {name!r} is a group and a class; rename the group" for name in clash
        ]

    def chosen(self, names: Iterable[str] | None, place: str) -> tuple[str, ...]:
        """The classes of some names of classes and groups, each once; all for None."""
        if names is None:
            return self.classes
        names = tuple(names)
        unknown = [one for one in names if one not in self.classes and one not in self.groups]
        known = (*self.groups, *self.classes)
        self.problems += [
            f"{place}: unknown class {name!r}; {near_labels(name, known)}" for name in unknown
        ]
        labels = (label for name in names for label in self.groups.get(name, (name,)))
        return tuple(label for label in dict.fromkeys(labels) if label in self.classes)

    # ---- corpora

    def _corpus(self, name: str, number: int, given: CorpusDescription) -> Corpus:
        place = f"task.corpora.{name}"
        self._check_name(name, place)
        self._check_labels(given, place)
        raw = self.raw.get("corpora", {}).get(name, {})
        split = given.split
        if isinstance(split, SplitDescription):
            self._check_split(split, f"{place}.split")
        table = given.table
        table_raw = raw.get("table")
        table_path = table_raw.get("path") if isinstance(table_raw, dict) else table_raw
        return Corpus(
            name=name,
            number=number,
            title=given.title or name,
            folder=self._path(given.audio),
            folder_key=only_reference(raw.get("audio")) or f"{place}.audio",
            labels=given.labels,
            known=self.chosen(given.known, f"{place}.known"),
            stem=given.embeddings or name,
            scores_stem=given.scores_name or name,
            table=None if table is None else self._table(table),
            table_key=only_reference(table_path) or f"{place}.table",
            durations=self._optional(given.durations),
            durations_key=only_reference(raw.get("durations")) or f"{place}.durations",
            originals=self._optional(given.originals),
            listed=self._optional(given.listed),
            clips=self._optional(given.clips),
            pattern=given.pattern,
            annotators=given.annotators,
            label_rules=self._label_rules(given, place),
            aliases=tuple(self._aliases(given, place)),
            split=split,
            consistency=given.consistency,
            trains_on_windows=given.long == "windows",
            hop_s=given.hop_s,
            cut_from_recordings=given.cut_from_recordings,
            keeps_clips_without_events=given.clips_without_events == "keep" or name in self.kept,
            recordings=given.recordings,
            licence=given.licence,
        )

    def _check_name(self, name: str, place: str) -> None:
        if not name or not all(letter.isalnum() or letter in "_-." for letter in name):
            self.problems.append(
                f"{place}: {name!r} names files, so it takes letters, digits, _, - and . only"
            )

    def _check_labels(self, given: CorpusDescription, place: str) -> None:
        if given.labels == "none" and given.table is not None:
            self.problems.append(f"{place}: labels: none does not go with a table; remove one")
        if given.labels != "none" and given.table is None:
            self.problems.append(
                f"{place}: {given.labels} labels need a table; name it, or set labels: none"
            )
        if given.annotators is not None and given.labels not in ("strong", "soft"):
            self.problems.append(f"{place}.annotators: needs strong or soft labels")

    def _check_split(self, split: SplitDescription, place: str) -> None:
        if split.folds is not None and (split.test or split.train is not None):
            self.problems.append(f"{place}: give folds, or shares of training and test")
        if split.folds is not None and self.description.fold > split.folds:
            self.problems.append(
                f"task.fold: {self.description.fold} of {count_of(split.folds, 'fold')}"
            )
        total = (split.train or 0) + (split.validation or 0) + split.test
        if total > 1 + 1e-9:
            self.problems.append(f"{place}: the shares add up to {total:g}; give at most 1")

    def _label_rules(self, given: CorpusDescription, place: str) -> LabelRules:
        targets = {
            label: (to,) if isinstance(to, str) else tuple(to or ())
            for label, to in given.label_map.items()
        }
        for label, to in targets.items():
            self.chosen(to, f"{place}.label_map.{label}")
        names = self._optional(given.label_names)
        return LabelRules(tuple(targets.items()), given.other_labels == "ignore", names)

    def _aliases(self, given: CorpusDescription, place: str) -> Iterator[tuple[str, str]]:
        for label, containing in given.aliases.items():
            for one in (label, containing):
                self.chosen((one,), f"{place}.aliases")
            yield label, containing

    def _table(self, table: TableDescription) -> TableDescription:
        return table.model_copy(update={"path": self._path(table.path)})

    def _optional(self, path: str | None) -> str | None:
        return None if path is None else self._path(path)

    def _path(self, path: str) -> str:
        """A path below `root`, as it is written if that is the current folder."""
        path = path.replace("{fold}", str(self.description.fold))
        root = self.description.root
        return path if root in (".", "") or not path else str(Path(root) / path)

    # ---- batches

    def _batch(
        self, by_name: Mapping[str, Corpus]
    ) -> tuple[tuple[str, ...], tuple[BatchPart, ...]]:
        drawn = {
            name: one
            for name, one in self.description.corpora.items()
            if one.rows and (one.split == "train" or isinstance(one.split, SplitDescription))
        }
        rows = [one.rows for one in drawn.values()]
        if self.batch_size is not None:
            if len(self.batch_size) == len(drawn):
                rows = list(self.batch_size)
            else:
                self.problems.append(
                    f"training.batch_size: has {count_of(len(self.batch_size), 'number')}; give "
                    f"one for each of {count_of(len(drawn), 'corpus', 'corpora')} with rows "
                    f"({', '.join(drawn)}), 0 to leave one out, or null for the task's own"
                )
        parts = []
        for (name, given), number in zip(drawn.items(), rows, strict=True):
            place = f"task.corpora.{name}.drawn_with"
            others = [by_name[one] for one in self._known(given.drawn_with, by_name, place)]
            if number:
                corpora = (by_name[name], *others)
                title = " + ".join(one.title for one in corpora)
                parts.append(BatchPart(title, corpora, number))
        if not any(corpus.labels != "none" for part in parts for corpus in part.corpora):
            self.problems.append(
                "task.corpora: no corpus with labels has rows in a training batch; give one `rows`"
            )
        return tuple(drawn), tuple(parts)

    def _known(self, names: Iterable[str], known: Mapping[str, Corpus], place: str) -> list[str]:
        names = list(names)
        unknown = [name for name in names if name not in known]
        self.problems += [
            f"{place}: unknown corpus {name!r}; {near_labels(name, tuple(known))}"
            for name in unknown
        ]
        return [name for name in names if name in known]

    def _mixup_groups(self, corpora: Sequence[Corpus]) -> tuple[tuple[str, ...], ...]:
        given, by_name = self.description.mixup_groups, {one.name: one for one in corpora}
        if given is None:
            kinds = [one.is_strong for one in corpora if one.labels != "none"]
            return tuple(
                tuple(one.name for one in corpora if one.labels != "none" and one.is_strong is kind)
                for kind in dict.fromkeys(kinds)
            )
        names = [name for group in given for name in group]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            self.problems.append(f"task.mixup_groups: in two groups: {', '.join(twice)}")
        return tuple(tuple(self._known(one, by_name, "task.mixup_groups")) for one in given)

    # ---- scores

    def _scored(self, stage: str, by_name: Mapping[str, Corpus]) -> Iterator[ScoredPart]:
        for kind, given in self.description.scored.items():
            name, place = getattr(given, stage), f"task.scored.{kind}.{stage}"
            classes = self.chosen(given.classes, f"task.scored.{kind}.classes")
            if name is None or not self._known((name,), by_name, place):
                continue
            corpus = by_name[name]
            if corpus.labels == "none" or (corpus.labels == "weak" and kind != "tags"):
                self.problems.append(
                    f"{place}: {name} has {'no' if corpus.labels == 'none' else 'weak'} labels, "
                    f"which {kind} cannot be scored with"
                )
            if not self._has(corpus, stage):
                self.problems.append(
                    f"{place}: no clip of {name} is for {stage}: its split is {corpus.split!r}"
                    if isinstance(corpus.split, str)
                    else f"{place}: the split of {name} leaves nothing for the {stage}"
                )
            yield ScoredPart(kind, corpus, tuple(one for one in classes if one in corpus.known))

    @staticmethod
    def _has(corpus: Corpus, stage: str) -> bool:
        split = corpus.split
        if isinstance(split, str):
            return split == stage
        if stage == "test":
            return split.folds is not None or split.test > 0
        if split.validation is not None:
            return split.validation > 0
        return split.train is not None and split.train + split.test < 1

    def _objective(self, validation: Sequence[ScoredPart]) -> Iterator[ObjectivePart]:
        there = [part.kind for part in validation]
        given = self.description.objective or {kind: FIGURES[kind][0] for kind in there}
        # In the order in which the published code sums them: tags, events, segments.
        for kind in ("tags", "events", "segments"):
            figure = given.get(kind)
            if figure is None:
                continue
            if figure not in FIGURES[kind]:
                self.problems.append(
                    f"task.objective.{kind}: unknown figure {figure!r}; known: "
                    f"{', '.join(FIGURES[kind])}"
                )
            if kind not in there:
                self.problems.append(
                    f"task.objective.{kind}: no validation scores {kind}; remove it, or name a "
                    f"corpus in task.scored.{kind}.validation"
                )
            yield ObjectivePart(kind, figure)

    def _check_kept(self, by_name: Mapping[str, Corpus]) -> None:
        strong = [name for name, corpus in by_name.items() if corpus.is_strong]
        self.problems += [
            f"data.keep_clips_without_events: {name!r} is no corpus with events; known: "
            f"{', '.join(strong)}"
            for name in self.kept
            if name not in strong
        ]
