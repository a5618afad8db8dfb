"""The metrics of a corpus with the stage as an argument, for tests that compare stages."""

from local.scoring.metrics import desed_test_metrics, desed_validation_metrics, maestro_metrics


def score_desed(*arguments, stage, role, n_thresholds=50, left_out_s=0.0, **more):
    if stage == "val":
        return desed_validation_metrics(*arguments, role=role, **more)
    more.update(n_thresholds=n_thresholds, left_out_s=left_out_s)
    return desed_test_metrics(*arguments, role=role, **more)


def score_maestro(*arguments, stage, role, n_thresholds=50):
    return maestro_metrics(*arguments, stage=stage, role=role)
