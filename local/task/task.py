"""A task: classes, corpora, batches, and what is scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from desed_task.batch import SourceRoles
from desed_task.labels import Vocabulary
from local.schema.task import ScoreKind
from local.task.corpus import Corpus

Stage = Literal["val", "test"]


class BatchPart(NamedTuple):
    """Rows of a training batch that are drawn from the same clips.

    Attributes:
        title: of the corpora, for messages.
        corpora: whose clips the rows are drawn from.
        rows: their number in a batch; above 0.
    """

    title: str
    corpora: tuple[Corpus, ...]
    rows: int


class ScoredPart(NamedTuple):
    """A corpus that a stage scores, and how.

    Attributes:
        kind: events, segments or tags.
        corpus: whose clips are scored.
        classes: on which classes.
    """

    kind: ScoreKind
    corpus: Corpus
    classes: tuple[str, ...]


class ObjectivePart(NamedTuple):
    """A figure of the student's validation; their sum chooses the best checkpoint.

    Attributes:
        kind: what it is a figure of.
        figure: events: intersection, collar or psds; segments: fmo, mauc or mpauc; tags: f1.
    """

    kind: ScoreKind
    figure: str


@dataclass(frozen=True)
class Task:
    """What is detected, in what, and how it is scored (`local.task.reading` reads it).

    Attributes:
        name: of the task.
        classes: labels in the order of the network's outputs.
        corpora: all of the description, in its order.
        batch: parts of a training batch, without those of 0 rows.
        batch_names: the corpora that the entries of `training.batch_size` are about, in order.
        mixup_groups: names of corpora whose rows are mixed with each other.
        validation, test: what these stages score, in the order of their loaders.
        objective: what chooses the best checkpoint.
        fold: which fold of corpora with folds is tested on.
    """

    name: str
    classes: tuple[str, ...]
    corpora: tuple[Corpus, ...]
    batch: tuple[BatchPart, ...]
    batch_names: tuple[str, ...]
    mixup_groups: tuple[tuple[str, ...], ...]
    validation: tuple[ScoredPart, ...]
    test: tuple[ScoredPart, ...]
    objective: tuple[ObjectivePart, ...]
    fold: int = 1

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes."""
        return Vocabulary(self.classes)

    def corpus(self, name: str) -> Corpus:
        """The corpus of a name in the description.

        Raises:
            KeyError: there is none.
        """
        found = next((one for one in self.corpora if one.name == name), None)
        if found is None:
            raise KeyError(name)
        return found

    def of_number(self, number: int) -> Corpus:
        """The corpus that rows with this `SedBatch.source` are from."""
        return self.corpora[number]

    @property
    def trained_on(self) -> tuple[Corpus, ...]:
        """Corpora that training batches are drawn from, in the description's order."""
        drawn = {corpus for part in self.batch for corpus in part.corpora}
        return tuple(corpus for corpus in self.corpora if corpus in drawn)

    @property
    def evaluated(self) -> tuple[Corpus, ...]:
        """Corpora that are scored without labels (--eval_set)."""
        return tuple(corpus for corpus in self.corpora if corpus.split == "evaluation")

    def scored(self, stage: Stage) -> tuple[ScoredPart, ...]:
        """What a stage scores."""
        return self.validation if stage == "val" else self.test

    def part(self, stage: Stage, kind: ScoreKind) -> ScoredPart | None:
        """What a stage scores in one way; None if nothing."""
        return next((one for one in self.scored(stage) if one.kind == kind), None)

    def kinds(self, corpus: Corpus) -> frozenset[ScoreKind]:
        """The ways in which a corpus is scored by any stage."""
        parts = (*self.validation, *self.test)
        return frozenset(part.kind for part in parts if part.corpus.number == corpus.number)

    def scored_corpora(self, stage: Stage) -> tuple[Corpus, ...]:
        """The corpora that a stage scores, each once, in the order of its loader."""
        return tuple(dict.fromkeys(part.corpus for part in self.scored(stage)))

    def needed_by(self, stage: str) -> tuple[Corpus, ...]:
        """Corpora that a stage needs: fit (which ends with a test), validate, test or predict."""
        if stage == "predict":
            return self.evaluated
        if stage != "fit":
            return self.scored_corpora("val" if stage == "validate" else "test")
        needed = {*self.trained_on, *self.scored_corpora("val"), *self.scored_corpora("test")}
        return tuple(corpus for corpus in self.corpora if corpus in needed)

    @property
    def used(self) -> tuple[Corpus, ...]:
        """Corpora that any stage needs, in the description's order."""
        needed = {*self.needed_by("fit"), *self.evaluated}
        return tuple(corpus for corpus in self.corpora if corpus in needed)

    @property
    def unused(self) -> tuple[Corpus, ...]:
        """Corpora of the description that no stage needs."""
        used = set(self.used)
        return tuple(corpus for corpus in self.corpora if corpus not in used)

    @property
    def untrained_classes(self) -> tuple[str, ...]:
        """Classes that no corpus with labels in a training batch is annotated with."""
        labelled = (corpus.known for corpus in self.trained_on if corpus.labels != "none")
        known = {label for labels in labelled for label in labels}
        return tuple(label for label in self.classes if label not in known)

    @property
    def roles(self) -> SourceRoles:
        """What the rows of each corpus take part in."""
        trained = self.trained_on
        numbers = {corpus.name: corpus.number for corpus in self.corpora}
        return SourceRoles(
            n_sources=len(self.corpora),
            strong=tuple(one.number for one in trained if one.is_strong),
            weak=tuple(one.number for one in trained if one.labels == "weak"),
            consistency=tuple(one.number for one in trained if one.consistency),
            mixup_groups=tuple(
                tuple(numbers[name] for name in group) for group in self.mixup_groups
            ),
            unlabelled=tuple(
                one.number for one in trained if not one.is_strong and one.labels != "weak"
            ),
        )
