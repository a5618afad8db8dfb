"""The metrics of a corpus with the stage as an argument, for tests that compare stages."""

from local.scoring.metrics import event_test_metrics, event_validation_metrics
from local.scoring.segment_metrics import segment_metrics
from tests.published_task import made_up_truth


def score_desed(scores, events, durations, *, stage, role, n_thresholds=50, left_out=(), **more):
    truth = made_up_truth(stage, "events", events, durations, left_out)
    if stage == "val":
        return event_validation_metrics(scores, truth, role=role, **more)
    return event_test_metrics(scores, truth, role=role, n_thresholds=n_thresholds, **more)


def score_maestro(scores, events, durations, *, stage, role, n_thresholds=50):
    truth = made_up_truth(stage, "segments", events, durations)
    return segment_metrics(scores, truth, stage=stage, role=role)
