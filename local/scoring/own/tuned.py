"""F1 at class-wise thresholds that were tuned for the tested checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from desed_task.evaluation import fscores
from desed_task.evaluation.scores import Floats, detect
from desed_task.postprocess import class_thresholds
from local.config import RecipeConfig
from local.scoring.own.criteria import COLLAR, INTERSECTION, OWN
from local.scoring.own.metrics import EventInput
from local.scoring.report import MetricTable
from local.scoring.tested import TestedFiles

SUFFIX: Final = "tuned"
ORACLE_SUFFIX: Final = "tuned_oracle"


class TunedThresholds(NamedTuple):
    """Thresholds from a best.yaml.

    Attributes:
        of_labels: class -> threshold.
        suffix: of the metrics' names; an oracle's says so.
    """

    of_labels: Mapping[str, float]
    suffix: str

    def of_classes(self, labels: Sequence[str]) -> Floats:
        """(class,) thresholds."""
        own = {label: one for label, one in self.of_labels.items() if label in labels}
        return class_thresholds(own, labels)


def tuned_thresholds(config: RecipeConfig, tested: TestedFiles | None) -> TunedThresholds | None:
    """The thresholds of a configuration, if they were tuned for this checkpoint.

    Args:
        config: of a test.
        tested: the tested file.
    """
    tuned, given = config.tuned, config.predict.threshold
    if not tuned.threshold_metric or not isinstance(given, dict) or tested is None:
        return None
    there = all(path.is_file() for path in tested.paths)
    if not there or tested.sha256 != tuned.checkpoint_sha256:
        return None
    return TunedThresholds(given, ORACLE_SUFFIX if tuned.is_oracle else SUFFIX)


def thresholds_of_test(
    config: RecipeConfig | None, names: Collection[str]
) -> TunedThresholds | None:
    """The thresholds of a test that is over.

    Args:
        config: its configuration, if it is known.
        names: of its metrics.
    """
    if config is None or not isinstance(config.predict.threshold, dict):
        return None
    there = [one for one in (SUFFIX, ORACLE_SUFFIX) if any(f"_{one}/{OWN}" in n for n in names)]
    return TunedThresholds(config.predict.threshold, there[0]) if there else None


def add_tuned_metrics(table: MetricTable, found: EventInput, tuned: TunedThresholds) -> None:
    """Add collar- and intersection-based F1 of the clips with events, as at the threshold 0.5."""
    scores, truth = found.scores.select(found.with_events), found.truth(found.with_events)
    events = detect(scores, tuned.of_classes(found.labels))
    rounded = {"decimals": fscores.SED_SCORES_EVAL_DECIMALS}
    by_collar = fscores.collar_fscore(events, truth, found.labels, **COLLAR, **rounded)
    by_intersection = fscores.intersection_fscore(
        events, truth, found.labels, **INTERSECTION, **rounded
    )
    for kind, score in (("collar", by_collar), ("intersection", by_intersection)):
        table.put(f"{kind}_f1_macro_{tuned.suffix}", OWN, score.macro, score.per_class)
