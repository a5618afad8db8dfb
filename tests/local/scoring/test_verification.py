"""--verify_metrics: the metrics of a test against those of the package sed_scores_eval itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from desed_task.dataio.annotations import EventTable
from desed_task.errors import InputError
from desed_task.evaluation import sed_scores_eval_metrics as package
from desed_task.evaluation.scores import Scores
from desed_task.labels import FrameGrid
from desed_task.postprocess.decoders import DecoderSettings, decoder_of
from local.classes_dict import VOCABULARY
from local.scoring import verification
from local.scoring.results import RESULTS_FILE, format_results
from local.scoring.verification import add_verification, exit_status
from tests.local.scoring.by_stage import score_desed, score_maestro
from tests.published_task import made_up_truth
from train_pretrained import main

N_CLIPS = 8
DESED = {"metrics": {}, "clips": {}, "not_scored": [], "unscored_clips": {}, "missing": {}}


@pytest.fixture(scope="module")
def tested():
    """Scores and truths of a small test, and what is reported of it."""
    rng = np.random.default_rng(0)
    grid, n_events = FrameGrid(), 2 * N_CLIPS
    onset_s = rng.uniform(0, 8, n_events)
    scores, truths = [], []
    for kind, labels in (("events", ("Dog", "Speech")), ("segments", ("car", "footsteps"))):
        names = tuple(f"r{k % 2}-{500 * k:06d}-{500 * k + 1000:06d}" for k in range(N_CLIPS))
        label = np.array([VOCABULARY.index(labels[k % 2]) for k in range(n_events)])
        clip = np.arange(n_events) // 2
        values = rng.random((N_CLIPS, grid.n_frames, len(VOCABULARY))).astype(np.float32) / 2
        for row in range(n_events):
            frames = slice(*np.searchsorted(grid.boundaries_s, [onset_s[row], onset_s[row] + 2]))
            values[clip[row], frames, label[row]] += 0.3
        events = EventTable(
            names, clip, onset_s, onset_s + 2, label, np.ones(n_events, np.float32), VOCABULARY
        )
        durations = dict.fromkeys((*names, "r0", "r1"), 10.0) | {"r0": 40.0, "r1": 45.0}
        scores.append(Scores(names, values, grid.boundaries_s, VOCABULARY))
        truths.append(made_up_truth("test", kind, events, durations))
    reports = {
        role: [
            score(
                one,
                truth.events,
                truth.durations,
                stage="test",
                role=role,
                n_thresholds=5,
                **({"raw": one} if score is score_desed else {}),
            )
            for score, one, truth in zip((score_desed, score_maestro), scores, truths, strict=True)
        ]
        for role in ("student", "teacher")
    }
    return dict.fromkeys(reports, scores), truths, reports


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    versions = {"sed_scores_eval": "0.0.4"}
    content = {**DESED, "metrics": {"test/student/psds1/psds_eval": 0.5}, "versions": versions}
    (tmp_path / RESULTS_FILE).write_text(json.dumps({**content, "checkpoint": "best.ckpt"}))
    return tmp_path


def raw_of(scores):
    return {role: of_role[0] for role, of_role in scores.items()}


def told(folder: Path) -> tuple[str, dict]:
    content = json.loads((folder / RESULTS_FILE).read_text())
    return format_results(content), content["verification"]


def test_equal_metrics_are_verified(tested, folder):
    scores, truths, reports = tested
    add_verification(folder, reports, scores, truths, raw_of(scores))
    text, found = told(folder)
    # Nine metrics of the 10 classes and four of the 11, with their means, of two networks.
    assert found["figures"] == 2 * (9 * 11 + 4 * 12)
    assert found["differing"] == {} and found["package"] == "sed_scores_eval 0.0.4"
    assert text.endswith("\nverified: 294 figures equal those of sed_scores_eval 0.0.4 to 1e-09")
    assert exit_status(folder, asked=True) == exit_status(folder, asked=False) == 0
    assert json.loads((folder / RESULTS_FILE).read_text())["checkpoint"] == "best.ckpt"


@pytest.mark.parametrize("kind", ["boxes", "threshold_boxes"])
def test_boxes_are_verified_too(tested, folder, kind):
    """The package is given their borders as times of frames, so nothing joins two boxes."""
    scores, truths, _ = tested
    desed, maestro = scores["student"]
    decode = decoder_of(
        DecoderSettings(kind=kind, threshold=0.3), VOCABULARY, median_filter=[3] * len(VOCABULARY)
    )
    decoded = [decode(desed), maestro]
    reports = {
        role: [
            score(one, truth.events, truth.durations, stage="test", role=role, n_thresholds=5)
            for score, one, truth in zip((score_desed, score_maestro), decoded, truths, strict=True)
        ]
        for role in ("student", "teacher")
    }
    assert reports["student"][0].metrics["test/student/psds2/sed_scores_eval"] > 0
    add_verification(folder, reports, dict.fromkeys(reports, decoded), truths)
    assert told(folder)[1]["differing"] == {}


@pytest.mark.parametrize("change", [2e-9, -0.5, float("nan")])
def test_what_differs_is_named_with_both_values(tested, folder, change, monkeypatch):
    scores, truths, reports = tested
    as_it_is = package.psds

    def changed(*arguments):
        found = as_it_is(*arguments)
        return found._replace(value=found.value + change)

    monkeypatch.setattr(package, "psds", changed)
    add_verification(folder, reports, scores, truths, raw_of(scores))
    text, found = told(folder)
    assert list(found["differing"]) == [
        f"test/{role}/{name}/sed_scores_eval"
        for role in ("student", "teacher")
        for name in ("psds1", "psds2")
    ]
    ours = reports["student"][0].metrics["test/student/psds1/sed_scores_eval"]
    assert (
        f"test/student/psds1/sed_scores_eval: reported {ours:.12g}, sed_scores_eval 0.0.4" in text
    )
    assert ("no value" in text) == np.isnan(change)
    assert "NOT EQUAL: 4 of 294 figures differ from those of sed_scores_eval 0.0.4 by more" in text
    assert exit_status(folder, asked=True) == 1 and exit_status(folder, asked=False) == 0


def test_a_difference_below_the_tolerance_is_none(tested, folder, monkeypatch):
    scores, truths, reports = tested
    as_it_is = package.psds
    shift = 5e-10
    monkeypatch.setattr(
        package, "psds", lambda *of: as_it_is(*of)._replace(value=as_it_is(*of).value + shift)
    )
    add_verification(folder, reports, scores, truths)
    assert exit_status(folder, asked=True) == 0


def test_an_error_of_the_package_loses_nothing(tested, folder, monkeypatch):
    scores, truths, reports = tested

    def broken(*_arguments):
        raise IndexError("size 0")

    monkeypatch.setattr(package, "psds", broken)
    add_verification(folder, reports, scores, truths)
    text, _ = told(folder)
    assert text.endswith("\nnot verified: sed_scores_eval 0.0.4 failed: IndexError: size 0")
    assert "psds1/psds_eval" in text and exit_status(folder, asked=True) == 1


def test_a_run_that_was_tested_without_it_is_told(folder, capsys):
    assert exit_status(folder, asked=True) == 1
    printed = capsys.readouterr().out
    assert "was tested before, without it; verify it with --verify_metrics" in printed
    assert f"--test_from_checkpoint {folder / 'checkpoints' / 'best.ckpt'}" in printed


def test_a_missing_package_is_told_before_anything_begins(monkeypatch):
    monkeypatch.setattr(verification, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"sed_scores_eval is not installed; .*'\.\[verify\]'"):
        verification.check_installed()


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError("No module named 'pkg_resources'"), ValueError("dtype size")]
)
def test_a_package_that_cannot_be_imported_is_told_before_anything_begins(monkeypatch, error):
    """Else hours of training would end in a test that is not verified."""

    def broken(_name):
        raise error

    monkeypatch.setattr(verification, "import_module", broken)
    told = rf"cannot be imported \({type(error).__name__}: {error}\); install it"
    with pytest.raises(InputError, match=told):
        verification.check_installed()
    monkeypatch.undo()
    verification.check_installed()


@pytest.mark.parametrize("other", ["--eval_from_checkpoint", "--checkpoint_info"])
def test_there_is_nothing_to_verify_without_a_test(other, capsys):
    assert main(["--verify_metrics", other, "x.ckpt"]) == 2
    assert "--verify_metrics: only a test computes metrics" in capsys.readouterr().err
