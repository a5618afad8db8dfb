"""What a description scores, and the figures that choose the best checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from desed_task.labels import near_labels
from local.schema.task import ScoreKind, SplitDescription, TaskDescription
from local.task.class_names import ClassNames, some_classes
from local.task.corpus import Corpus
from local.task.task import ObjectivePart, ScoredPart

# Kind -> figures that may choose the best checkpoint, the default one first.
FIGURES: Final[dict[ScoreKind, tuple[str, ...]]] = {
    "events": ("intersection", "collar", "psds"),
    "tags": ("f1",),
    "segments": ("fmo", "mauc", "mpauc"),
}


def scored_parts(
    description: TaskDescription,
    stage: str,
    corpora: Mapping[str, Corpus],
    names: ClassNames,
    problems: list[str],
) -> tuple[ScoredPart, ...]:
    """What a stage scores.

    Args:
        description: of the task.
        stage: "validation" or "test", as in the description.
        corpora: by name.
        names: of the classes.
        problems: messages are appended to it.
    """
    parts = tuple(_parts(description, stage, corpora, names, problems))
    # Without a test, a training ends with its best checkpoint.
    if stage == "validation" and not any(given.validation for given in description.scores.values()):
        problems.append(
            "task.scored: no kind has a corpus for the validation, so that no best checkpoint "
            "could be chosen; name one, e.g. events: {validation: NAME}"
        )
    stems: dict[str, Corpus] = {}
    for part in parts:
        other = stems.setdefault(part.corpus.scores_stem, part.corpus)
        if other != part.corpus:
            problems.append(
                f"task.corpora.{part.corpus.name}.scores_name: {part.corpus.scores_stem!r} is also "
                f"that of {other.name}; give another name"
            )
    return parts


def _parts(
    description: TaskDescription,
    stage: str,
    corpora: Mapping[str, Corpus],
    names: ClassNames,
    problems: list[str],
) -> Iterator[ScoredPart]:
    for kind, given in description.scores.items():
        name, place = getattr(given, stage), f"task.scored.{kind}.{stage}"
        classes = names.chosen(given.classes, f"task.scored.{kind}.classes", problems)
        if name is None:
            continue
        if given.classes == ():
            problems.append(
                f"task.scored.{kind}.classes: names no class; name some, or write null for all"
            )
        if name not in corpora:
            problems.append(f"{place}: unknown corpus {name!r}; {near_labels(name, [*corpora])}")
            continue
        corpus = corpora[name]
        problems += _unfit(kind, corpus, stage, place)
        scored = tuple(one for one in classes if one in corpus.known)
        if classes and not scored:
            problems.append(
                f"{place}: none of the scored classes ({some_classes(classes)}) is known to {name} "
                f"({some_classes(corpus.known)}); change task.scored.{kind}.classes or its `known`"
            )
        yield ScoredPart(kind, corpus, scored)


def _unfit(kind: ScoreKind, corpus: Corpus, stage: str, place: str) -> Iterator[str]:
    """Why a stage cannot score a corpus so."""
    there = "no labels" if corpus.labels == "none" else "only weak labels"
    if corpus.labels == "none" or (corpus.labels == "weak" and kind != "tags"):
        yield (f"{place}: {corpus.name} has {there}, which {kind} cannot be scored with")
    if not has_part(corpus, stage):
        remedy = f"set it to {stage}, or divide the corpus (split: {{{stage}: SHARE}})"
        yield (
            f"{place}: no clip of {corpus.name} is for the {stage}: its split is "
            f"{corpus.split}; {remedy}"
            if isinstance(corpus.split, str)
            else f"{place}: the split of {corpus.name} leaves no clip for the {stage}; give it a "
            "share"
        )
    in_recordings = kind == "segments" and stage == "test" and corpus.cut_from_recordings
    if in_recordings and corpus.durations is None:
        yield (
            f"{place}: the segments of {corpus.name} are scored by recording "
            f"(cut_from_recordings), which needs the durations of the recordings; give "
            f"task.corpora.{corpus.name}.durations a table of filename and duration"
        )


def has_part(corpus: Corpus, use: str) -> bool:
    """Whether clips of a corpus are for a use: train, validation or test.

    Whether there are enough clips for it is known when they are loaded.
    """
    split = corpus.split
    if not isinstance(split, SplitDescription):
        return split == use
    if use == "test":
        return split.folds is not None or split.test > 0
    taken = split.test + (split.validation or 0.0)
    if use == "train":
        return split.train is not None or taken < 1
    if split.validation is not None:
        return split.validation > 0
    return split.train is not None and split.train + split.test < 1


def objective_parts(
    description: TaskDescription, validation: Sequence[ScoredPart], problems: list[str]
) -> Iterator[ObjectivePart]:
    """The figures whose sum chooses the best checkpoint.

    Args:
        description: of the task.
        validation: what validations score.
        problems: messages are appended to it.
    """
    there = [part.kind for part in validation]
    given = description.objective or {kind: FIGURES[kind][0] for kind in there}
    # In the order in which the published code sums them: tags, events, segments.
    for kind in ("tags", "events", "segments"):
        figure = given.get(kind)
        if figure is None:
            continue
        if figure not in FIGURES[kind]:
            problems.append(
                f"task.objective.{kind}: unknown figure {figure!r}; known: "
                f"{', '.join(FIGURES[kind])}"
            )
        if kind not in there:
            problems.append(
                f"task.objective.{kind}: no validation scores {kind}; remove it, or name a corpus "
                f"in task.scored.{kind}.validation"
            )
        yield ObjectivePart(kind, figure)
