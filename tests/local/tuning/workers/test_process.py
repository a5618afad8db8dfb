"""What becomes of the errors of a trial."""

from __future__ import annotations

import errno

import pytest

from local.tuning.workers import process
from local.tuning.workers.messages import TrialJob


def train(job, report):
    raise RuntimeError("wrong") from ERROR


ERROR: BaseException = ValueError()


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (OSError(errno.ENOSPC, "x", "/a/last.ckpt"), "refused", "/a/last.ckpt: the disk is full"),
        (OSError(errno.EDQUOT, "x"), "refused", "the disk quota is used up"),
        (ValueError("other"), "failed", "RuntimeError: wrong"),
    ],
)
def test_a_full_disk_ends_the_study_and_not_trial_after_trial(
    error, kind, told, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(process, "_redirect", lambda job: None)
    monkeypatch.setitem(globals(), "ERROR", error)
    job = TrialJob(0, 0, {}, {}, str(tmp_path))
    outcome = process.run_job(job, f"{__name__}:train", lambda *_: True)
    assert outcome.kind == kind and told in outcome.reason and "\n" not in outcome.reason
    assert ("run the same command again to resume" in outcome.reason) == (kind == "refused")
