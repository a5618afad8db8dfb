"""Build a `Task` from a description, and say everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from desed_task.errors import count_of
from desed_task.labels import near_labels
from local.schema.task import CorpusDescription, SplitDescription, TableDescription, TaskDescription
from local.task.class_names import ClassNames, some_classes
from local.task.corpus import Corpus, LabelRules
from local.task.references import only_reference
from local.task.score_parts import has_part, objective_parts, scored_parts
from local.task.task import BatchPart, Task

# Names of corpora begin names of files.
_LONGEST_NAME: Final = 80


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
        self.names = ClassNames(description.classes)

    def build(self) -> Task:
        """The task; what is wrong is in `problems`."""
        self.problems += self.names.problems()
        described = self.description.corpora
        corpora = tuple(
            self._corpus(name, number, one) for number, (name, one) in enumerate(described.items())
        )
        by_name = {corpus.name: corpus for corpus in corpora}
        batch_names, batch = self._batch(by_name)
        mixup = self._mixup_groups(corpora)
        validation, test = (
            scored_parts(self.description, stage, by_name, self.names, self.problems)
            for stage in ("validation", "test")
        )
        objective = tuple(objective_parts(self.description, validation, self.problems))
        fold = self.description.fold
        task = Task(
            self.description.name,
            self.names.classes,
            corpora,
            batch,
            batch_names,
            mixup,
            validation,
            test,
            objective,
            fold,
        )
        self._check_shared_names(corpora)
        self._check_known(corpora)
        self._check_fold()
        self._check_kept(by_name)
        return task

    def _chosen(self, names: Iterable[str] | None, place: str) -> tuple[str, ...]:
        return self.names.chosen(names, place, self.problems)

    # ---- corpora

    def _corpus(self, name: str, number: int, given: CorpusDescription) -> Corpus:
        place = f"task.corpora.{name}"
        self._check_name(name, place)
        self._check_labels(given, place)
        known = self._chosen(given.known, f"{place}.known")
        if given.labels != "none" and not known and self.names.classes:
            self.problems.append(f"{place}.known: names no class; name some, or leave it out")
        raw = self.raw.get("corpora", {}).get(name, {})
        split = given.split
        if isinstance(split, SplitDescription):
            self._check_split(split, f"{place}.split")
        table = given.table
        table_raw = raw.get("table")
        table_path = table_raw.get("path") if isinstance(table_raw, dict) else table_raw
        folder_key = only_reference(raw.get("audio")) or f"{place}.audio"
        table_key = only_reference(table_path) or f"{place}.table"
        if not given.audio:
            self.problems.append(f"{folder_key}: is empty; give the folder of the audio")
        if table is not None and not table.path:
            self.problems.append(f"{table_key}: is empty; give the path of the table")
        return Corpus(
            name=name,
            number=number,
            title=given.title or name,
            folder=self._path(given.audio),
            folder_key=folder_key,
            labels=given.labels,
            known=known,
            stem=given.embeddings or name,
            scores_stem=given.scores_name or name,
            table=None if table is None else self._table(table),
            table_key=table_key,
            durations=self._optional(given.durations),
            durations_key=only_reference(raw.get("durations")) or f"{place}.durations",
            originals=self._optional(given.originals),
            listed=self._optional(given.listed),
            clips=self._optional(given.clips),
            pattern=given.pattern,
            annotators=given.annotators,
            label_rules=self._label_rules(given, known, place),
            aliases=tuple(self._aliases(given, known, place)),
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
        if not name or not all(letter.isalnum() or letter in "_-" for letter in name):
            self.problems.append(
                f"{place}: {name!r}: files are named after it, so it takes letters, digits, _ "
                "and - only"
            )
        if len(name) > _LONGEST_NAME:
            self.problems.append(
                f"{place}: has {len(name)} characters; give at most {_LONGEST_NAME}"
            )

    def _check_labels(self, given: CorpusDescription, place: str) -> None:
        if given.labels == "none" and given.table is not None:
            self.problems.append(f"{place}: labels: none does not go with a table; remove one")
        if given.labels != "none" and given.table is None:
            self.problems.append(
                f"{place}: labels: {given.labels} needs a table; name it, or set labels: none"
            )
        if given.annotators is not None and given.labels not in ("strong", "soft"):
            self.problems.append(f"{place}.annotators: needs strong or soft labels")
        if given.annotators in ("mean", "weighted") and given.labels == "strong":
            self.problems.append(
                f"{place}.annotators: {given.annotators} gives a share of annotators, which is "
                "a soft label; set labels: soft, or take majority, union or intersection"
            )
        if given.labels == "none" and (given.label_map or given.aliases):
            self.problems.append(f"{place}: labels: none has no use for label_map or aliases")
        for key in ("embeddings", "scores_name"):
            if (stem := getattr(given, key)) is not None:
                self._check_name(stem, f"{place}.{key}")

    def _check_split(self, split: SplitDescription, place: str) -> None:
        if split.folds is not None and (split.test or split.train is not None):
            self.problems.append(f"{place}: give folds, or shares of training and test")
        if split.folds is not None and self.description.fold > split.folds:
            self.problems.append(
                f"task.fold: {self.description.fold} of {count_of(split.folds, 'fold')}"
            )
        total = (split.train or 0) + (split.validation or 0) + split.test
        whole = split.train is not None and split.validation is not None
        if total > 1 + 1e-9 or (whole and total < 1 - 1e-9):
            wanted = "give shares that add up to 1" if whole else "give at most 1"
            self.problems.append(f"{place}: the shares add up to {total:g}; {wanted}")

    def _label_rules(
        self, given: CorpusDescription, known: tuple[str, ...], place: str
    ) -> LabelRules:
        targets = []
        for label, to in given.label_map.items():
            named = (to,) if isinstance(to, str) else to or ()
            classes = self._chosen(named, f"{place}.label_map.{label}")
            targets.append((label, classes))
            if unknown := [one for one in classes if one not in known]:
                self.problems.append(
                    f"{place}.label_map.{label}: {some_classes(unknown)} "
                    f"{'is' if len(unknown) == 1 else 'are'} not in the corpus's `known`; add "
                    "it there, or map the label to null"
                )
        names = self._optional(given.label_names)
        return LabelRules(tuple(targets), given.other_labels == "ignore", names)

    def _aliases(
        self, given: CorpusDescription, known: Sequence[str], place: str
    ) -> Iterator[tuple[str, str]]:
        for label, containing in given.aliases.items():
            for one in (label, containing):
                if one not in self.names.classes:
                    near = near_labels(one, self.names.classes)
                    self.problems.append(f"{place}.aliases: unknown class {one!r}; {near}")
                elif one not in known:
                    self.problems.append(
                        f"{place}.aliases: {one!r} is not in the corpus's `known`; add it there, "
                        "or remove it here"
                    )
            if label == containing:
                self.problems.append(f"{place}.aliases: {label!r} is itself; remove it")
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
        drawn = {name: one for name, one in self.description.corpora.items() if one.rows}
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
            corpora = (by_name[name], *self._drawn_with(name, given, by_name))
            for one in corpora:
                self._check_trained(one, name)
            if number:
                title = " + ".join(one.title for one in corpora)
                parts.append(BatchPart(title, corpora, number))
        if not any(corpus.labels != "none" for part in parts for corpus in part.corpora):
            self.problems.append(
                "task.corpora: no corpus with labels has rows in a training batch; give one `rows`"
            )
        return tuple(drawn), tuple(parts)

    def _drawn_with(
        self, name: str, given: CorpusDescription, by_name: Mapping[str, Corpus]
    ) -> list[Corpus]:
        place = f"task.corpora.{name}.drawn_with"
        others = self._known(given.drawn_with, by_name, place)
        repeated = [one for one in dict.fromkeys(others) if one == name or others.count(one) > 1]
        if repeated:
            self.problems.append(f"{place}: names {', '.join(repeated)} again; leave it out")
        return [by_name[one] for one in dict.fromkeys(others) if one != name]

    def _check_trained(self, corpus: Corpus, drawn_by: str) -> None:
        """Refuse to train on clips that are for something else."""
        if has_part(corpus, "train"):
            return
        place = f"task.corpora.{corpus.name}"
        key = f"{place}.rows" if corpus.name == drawn_by else f"task.corpora.{drawn_by}.drawn_with"
        split = corpus.split if isinstance(corpus.split, str) else "without a share of training"
        self.problems.append(
            f"{key}: {corpus.name} would be trained on, but its split is {split}; leave it out "
            f"here, or change {place}.split"
        )

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

    # ---- corpora together

    def _check_shared_names(self, corpora: Sequence[Corpus]) -> None:
        """Names of files and messages that would mean two corpora."""
        stems: dict[str, Corpus] = {}
        titles: dict[str, Corpus] = {}
        for corpus in corpora:
            other = stems.setdefault(corpus.stem, corpus)
            if Path(other.folder) != Path(corpus.folder):
                self.problems.append(
                    f"task.corpora.{corpus.name}.embeddings: {corpus.stem!r} is also that of "
                    f"{other.name}, whose audio is in another folder; give another name"
                )
            other = titles.setdefault(corpus.title, corpus)
            if other != corpus:
                self.problems.append(
                    f"task.corpora.{corpus.name}.title: {corpus.title!r} is also that of "
                    f"{other.name}; give another title"
                )

    def _check_known(self, corpora: Sequence[Corpus]) -> None:
        annotated = {
            label for corpus in corpora if corpus.labels != "none" for label in corpus.known
        }
        never = [label for label in dict.fromkeys(self.names.classes) if label not in annotated]
        if corpora and never:
            self.problems.append(
                f"task.classes: known to no corpus with labels: {some_classes(never)}; remove "
                f"{'it' if len(never) == 1 else 'them'}, or add to the `known` of a corpus"
            )

    def _check_fold(self) -> None:
        described = self.description.corpora.values()
        splits = [one.split for one in described if isinstance(one.split, SplitDescription)]
        has_folds = any(split.folds for split in splits) or "{fold}" in str(self.raw)
        if self.description.fold > 1 and not has_folds:
            self.problems.append(
                f"task.fold: is {self.description.fold}, but no corpus has folds and no path "
                "{fold}; leave it out"
            )

    def _check_kept(self, by_name: Mapping[str, Corpus]) -> None:
        strong = [name for name, corpus in by_name.items() if corpus.is_strong]
        self.problems += [
            f"data.keep_clips_without_events: {name!r} is no corpus with events; known: "
            f"{', '.join(strong)}"
            for name in self.kept
            if name not in strong
        ]
