"""Metrics of tags: which classes a clip contains (docs/metrics.md, Tags)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import binary_f1_score, multilabel_f1_score

from desed_task.errors import InputError
from desed_task.evaluation.curves.tagging import TagCounts, lwlrap, tag_precision, tag_ranking
from desed_task.labels import Vocabulary
from local.data.truth import Stage
from local.scoring.own.criteria import F1_THRESHOLD, OWN
from local.scoring.report import CorpusMetrics, MetricTable, format_tags
from local.task.class_names import some_classes
from local.task.task import ScoredPart

TAGS_FILE = "tags.txt"


class ClipScores(NamedTuple):
    """Scores of clips, and what they contain.

    Attributes:
        clip_ids: the clips.
        scores: (clip, class) in [0, 1], of long clips the maximum over their windows.
        present: (clip, class) 1.0 where the clip contains the class, otherwise 0.0.
    """

    clip_ids: tuple[str, ...]
    scores: NDArray[np.float32]
    present: NDArray[np.float32]


def tag_metrics(
    found: ClipScores, part: ScoredPart, vocabulary: Vocabulary, *, stage: Stage, role: str
) -> CorpusMetrics:
    """Metrics of tags of one network.

    A validation has torchmetrics' macro F1, in which classes that are not scored count as absent; a
    test has macro and micro F1, mean average precision and lwlrap, over the scored classes that any
    clip contains.

    Args:
        found: scores for all classes.
        part: the corpus and the scored classes.
        vocabulary: all classes.
        stage: "val" or "test".
        role: "student" or "teacher".

    Raises:
        InputError: no clip of a test contains a scored class.
    """
    if stage == "val":
        name = f"val/{role}/weak_f1_macro_thres05/torchmetrics"
        value = _torchmetrics_f1(found, vocabulary.mask(part.classes))
        return CorpusMetrics(part, {name: value}, {}, n_clips=len(found.clip_ids))
    scored = [label for label in part.classes if found.present[:, vocabulary.index(label)].any()]
    if not scored:
        raise InputError(
            f"{part.corpus.title}: none of the scored classes ({some_classes(part.classes)}) is in "
            f"any clip; correct {part.corpus.table_key}"
        )
    table, text = _own_metrics(found, part, vocabulary, scored, role)
    return CorpusMetrics(
        part,
        table.metrics,
        table.per_class,
        tuple(label for label in part.classes if label not in scored),
        texts={TAGS_FILE: text},
        n_clips=len(found.clip_ids),
    )


def _own_metrics(
    found: ClipScores, part: ScoredPart, vocabulary: Vocabulary, labels: list[str], role: str
) -> tuple[MetricTable, str]:
    """Our own metrics of a test, and a text table of them."""
    columns = [vocabulary.index(label) for label in part.classes]
    chosen = [part.classes.index(label) for label in labels]
    every, all_present = found.scores[:, columns], found.present[:, columns] > 0
    # Classes that no clip contains are ranked among the others, but have no value.
    ranking = tag_ranking(every, all_present)[chosen]
    scores, present = every[:, chosen], all_present[:, chosen]
    counts, precision = TagCounts.at(scores, present, F1_THRESHOLD), tag_precision(scores, present)
    table = MetricTable("test", role, part.classes)
    of_f1 = dict(zip(labels, counts.f1.tolist(), strict=True))
    table.put("tag_f1_macro_thres05", OWN, float(counts.f1.mean()), of_f1)
    table.put("tag_f1_micro_thres05", OWN, counts.micro_f1, of_f1)
    for name, value, per_class in (
        ("tag_map", float(precision.mean()), precision),
        ("tag_lwlrap", lwlrap(ranking, counts.references), ranking),
    ):
        table.put(name, OWN, value, dict(zip(labels, per_class.tolist(), strict=True)))
    return table, format_tags(labels, counts, precision, ranking, F1_THRESHOLD)


def _torchmetrics_f1(found: ClipScores, scored: NDArray[np.bool_]) -> float:
    rows = np.stack([found.scores, found.present], axis=1)
    rows[..., ~scored] = 0.0
    scores, target = torch.from_numpy(rows).unbind(1)
    n_classes = rows.shape[-1]
    if n_classes == 1:  # The other function takes two classes or more.
        return float(binary_f1_score(scores, target.int(), threshold=F1_THRESHOLD))
    value = multilabel_f1_score(
        scores, target.int(), num_labels=n_classes, average="macro", threshold=F1_THRESHOLD
    )
    return float(value)
