"""The challenge's package of fabricated runs: what it holds, and what keeps it from being made."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from sed_scores_eval.base_modules.io import read_sed_scores

from desed_task.atomic_files import sha256_of
from desed_task.encoders.beats.model import load_beats
from desed_task.errors import InputError
from local.classes_dict import CLASSES
from local.cli.own_files import RECORD_FILE
from local.scoring.results import emissions_file
from local.scoring.score_files import score_folder
from local.submission.make import SubmissionSources, make_submission
from local.submission.metadata_form import TEMPLATE
from local.submission.submitted_runs import find_run
from tests.local.submission import callback_runs
from tests.local.submission.callback_runs import (
    CLIPS_S,
    edit_table,
    make_run,
    make_test,
    write_energy,
)

LABEL = "Lovelace_AEI_task4_1"
FORM = {
    "submission": {
        "label": LABEL,
        "name": "Notes on the engine",
        "abbreviation": "Notes",
        "authors": [
            {
                "lastname": "Lovelace",
                "firstname": "Ada",
                "email": "ada@example.org",
                "corresponding": True,
                "affiliation": {
                    "abbreviation": "AEI",
                    "institute": "Analytical Engine Institute",
                    "location": "London, United Kingdom",
                },
            }
        ],
    },
    "system": {
        "description": {"machine_learning_method": "CRNN with a large drum"},
        "external_datasets": [{"name": "AudioSet", "url": "https://research.google.com/audioset"}],
    },
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Evaluation folders of three trainings."""
    root = tmp_path_factory.mktemp("runs")
    return [make_run(root / f"seed_{seed}", seed) for seed in (1, 2, 3)]


@pytest.fixture
def meta(tmp_path):
    path = tmp_path / "meta.yaml"
    path.write_text(yaml.safe_dump(FORM))
    return path


@pytest.fixture
def beats(parity):
    return parity("beats_tiny.pt")


@pytest.fixture
def copied(made, tmp_path):
    """One run to be spoiled: (evaluation folder, training folder)."""
    root = tmp_path / "copy"
    shutil.copytree(made[0].parents[1], root)
    training = root / "train" / "version_0"
    for place in (training, root / "eval" / "version_0"):
        text = (place / "run.yaml").read_text()
        (place / "run.yaml").write_text(text.replace(str(made[0].parents[1]), str(root)))
    return root / "eval" / "version_0", training


def problems_of(sources, folder):
    with pytest.raises(InputError) as caught:
        make_submission(sources, folder)
    assert not folder.exists()
    heading, *lines = str(caught.value).splitlines()
    assert heading == "The submission is not complete:"
    return [line.removeprefix("  - ") for line in lines]


def test_the_package_is_what_the_fields_library_and_the_challenge_read(
    made, meta, beats, tmp_path, capsys
):
    baseline = made[2].parents[1] / "train" / "version_0"
    target = make_submission(
        SubmissionSources(tuple(made), meta, baseline=baseline, beats=beats), tmp_path / "package"
    )
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "unpacked")
    system = tmp_path / "unpacked" / LABEL
    for number, run in enumerate(made, 1):
        for end, kind in (("", "postprocessed"), ("_unprocessed", "unprocessed")):
            read = read_sed_scores(system / f"{LABEL}_run{number}{end}.output")
            assert set(read) == set(CLIPS_S)
            assert list(read["a"].columns) == ["onset", "offset", *CLASSES]
            assert read["b"]["offset"].iloc[-1] == CLIPS_S["b"]
            own = read_sed_scores(score_folder(run, "student", kind))
            assert all(read[clip].equals(own[clip]) for clip in own)
        for stage in ("training", "test", "eval"):
            table = (system / f"{LABEL}_run{number}_codecarbon/emissions_{stage}.csv").read_bytes()
            folder = run if stage == "eval" else run.parents[1] / "train" / "version_0"
            assert table == emissions_file(folder, stage).read_bytes()
    assert {path.name for path in (system / "baseline_codecarbon").iterdir()} == {
        "emissions_training.csv",
        "emissions_test.csv",
    }
    told = capsys.readouterr().out
    assert f"{LABEL}: 12 tables of scores, 12 other files" in told
    assert "note: 2 clips; the evaluation set of 2024 has 2200" in told
    assert "of the 3 runs" not in told and "no energy of the baseline" not in told
    assert f"{target}: 24 files, {target.stat().st_size / 1e6:.1f} MB" in told


def test_the_metadata_holds_means_and_standard_deviations(made, meta, beats, tmp_path):
    make_submission(SubmissionSources(tuple(made), meta, beats=beats), tmp_path / "package")
    tree = yaml.safe_load((tmp_path / "package" / LABEL / f"{LABEL}.meta.yaml").read_text())
    assert tree["submission"]["label"] == LABEL
    assert tree["submission"]["authors"][0]["affiliation"]["department"] is None
    system, devtest = tree["system"], tree["results"]["devtest"]
    # Seeds 1, 2, 3 shift by 0.001, 0.002, 0.003.
    assert devtest["desed"]["PSDS1"] == pytest.approx(0.012)
    assert devtest["desed"]["PSDS1_std"] == pytest.approx(0.001)
    assert devtest["maestro"]["mPAUC"] == pytest.approx(0.062)
    assert isinstance(devtest["maestro"]["mPAUC"], float)
    energy = system["complexity"]["energy_consumption"]
    assert (energy["unit"], energy["baseline"]) == ("kWh", None)
    assert energy["training"] == pytest.approx(0.502)
    assert energy["test_std"] == pytest.approx(0.001)
    network = yaml.safe_load((made[0] / "run.yaml").read_text())[0]["network"]
    weights = sum(parameter.numel() for parameter in load_beats(beats).parameters())
    assert system["complexity"]["total_parameters"] == network["parameters"] + weights
    assert system["complexity"]["macs"] == network["macs"]
    (encoder,) = system["complexity"]["encoders"]
    assert encoder["name"] == system["description"]["embeddings"] == "BEATs"
    assert encoder["checkpoint_sha256"] == sha256_of(beats) and encoder["pretraining"] is None
    assert encoder["parameters"] == weights and encoder["macs"] > network["macs"] / 100
    assert system["complexity"]["total_macs"] == network["macs"] + encoder["macs"]
    assert system["description"]["input_sampling_rate"] == 16
    assert system["description"]["machine_learning_method"] == "CRNN with a large drum"
    assert system["description"]["data_augmentation"] is None
    assert system["external_datasets"][0]["name"] == "AudioSet"
    assert [run["seed"] for run in tree["results"]["runs"]] == [1, 2, 3]


def test_a_single_run_has_no_deviation_and_the_teacher_its_own_scores(
    made, meta, beats, tmp_path, capsys
):
    make_submission(
        SubmissionSources((made[0],), meta, role="teacher", beats=beats), tmp_path / "package"
    )
    system = tmp_path / "package" / LABEL
    tree = yaml.safe_load((system / f"{LABEL}.meta.yaml").read_text())
    assert tree["results"]["model"] == "teacher"
    assert tree["results"]["devtest"]["desed"]["PSDS1"] == pytest.approx(0.111)
    assert tree["results"]["devtest"]["desed"]["PSDS1_std"] is None
    table = (system / f"{LABEL}_run1.output" / "a.tsv").read_bytes()
    assert table == (score_folder(made[0], "teacher", "postprocessed") / "a.tsv").read_bytes()
    told = capsys.readouterr().out
    assert "note: 1 of the 3 runs" in told
    assert "note: no energy of the baseline" in told
    assert "note: no technical report" in told
    assert "dev-test PSDS1: 0.1110\n" in told


def test_further_systems_and_the_report_join_the_package(made, meta, beats, tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "report.pdf").write_bytes(b"%PDF")
    make_submission(SubmissionSources((made[0],), meta, beats=beats), package)
    # Another system of the same label is refused; the same one takes its own place.
    with pytest.raises(
        InputError, match=f"{LABEL}: contains another system .*give this one another"
    ):
        make_submission(SubmissionSources((made[1],), meta, beats=beats), package)
    make_submission(SubmissionSources((made[0],), meta, beats=beats), package)
    for number in (2, 3, 4):
        meta.write_text(meta.read_text().replace(f"task4_{number - 1}", f"task4_{number}"))
        target = make_submission(SubmissionSources((made[1],), meta, beats=beats), package)
    with zipfile.ZipFile(target) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert tops == {"report.pdf", *(f"Lovelace_AEI_task4_{n}" for n in (1, 2, 3, 4))}
    assert {path.name for path in package.iterdir()} == {*tops, "submission.zip", RECORD_FILE}
    meta.write_text(meta.read_text().replace("Lovelace_AEI_task4_4", "Babbage_AEI_task4_1"))
    with pytest.raises(InputError, match="contains 4 systems already; a team may submit 4"):
        make_submission(SubmissionSources((made[1],), meta, beats=beats), package)


def test_a_package_that_cannot_be_written_leaves_the_old_one(
    made, meta, beats, tmp_path, monkeypatch
):
    package = tmp_path / "package"
    target = make_submission(SubmissionSources((made[0],), meta, beats=beats), package)
    before = target.read_bytes()
    stop = KeyboardInterrupt
    monkeypatch.setattr(zipfile.ZipFile, "write", lambda *_: (_ for _ in ()).throw(stop))
    with pytest.raises(stop):
        make_submission(SubmissionSources((made[0],), meta, beats=beats), package)
    assert target.read_bytes() == before
    monkeypatch.setattr(shutil, "copyfile", lambda *_: (_ for _ in ()).throw(stop))
    with pytest.raises(stop):
        make_submission(SubmissionSources((made[0],), meta, beats=beats), package)
    assert {path.name for path in package.iterdir()} == {LABEL, "submission.zip", RECORD_FILE}
    assert (package / LABEL / f"{LABEL}_run1.output" / "a.tsv").is_file()


# ---- everything that may be missing, named


def delete(path):
    path.unlink()


def change_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def table(evaluation, clip="a"):
    return score_folder(evaluation, "student", "postprocessed") / f"{clip}.tsv"


def put(row, column, value):
    def change(values):
        values[row, column] = value
        return values

    return change


SPOILED = {
    "a table": (
        lambda e, t: delete(table(e)),
        r"student_scores/postprocessed: no table of 1 clip \(a\)",
    ),
    "an unknown clip": (
        lambda e, t: shutil.copy(table(e), table(e, "c")),
        r"postprocessed: tables of unknown clips: 1 clip \(c\)",
    ),
    "raw scores": (
        lambda e, t: shutil.rmtree(score_folder(e, "student", "unprocessed")),
        r"student_scores/unprocessed: no table of 2 clips \(a, b\)",
    ),
    "a score": (lambda e, t: edit_table(table(e), put(3, 5, np.nan)), "a.tsv: .* not finite"),
    "rows": (
        lambda e, t: edit_table(table(e), lambda v: v[:9]),
        r"ends at 0.576 s, the clip at 10 s",
    ),
    "the evaluation": (
        lambda e, t: delete(e / "evaluation.json"),
        "contains no finished evaluation; give a run folder of train_pretrained.py --eval_from",
    ),
    "run.yaml": (lambda e, t: delete(e / "run.yaml"), r"is not a run folder \(no run.yaml\)"),
    "a sound run.yaml": (
        lambda e, t: (e / "run.yaml").write_text("stage: predict\n"),
        "run.yaml: does not list the commands",
    ),
    "a whole evaluation.json": (
        lambda e, t: (e / "evaluation.json").write_text("{"),
        "evaluation.json: cannot be read as JSON",
    ),
    "the identity of the checkpoint": (
        lambda e, t: (e / "run.yaml").write_text("- stage: predict\n"),
        "run.yaml, written by an older version, does not name the checkpoint",
    ),
    "the results": (
        lambda e, t: delete(t / "results.json"),
        r"no dev-test of its checkpoint .*epoch=1.ckpt found; .*--test_from_checkpoint",
    ),
    "a metric": (
        lambda e, t: change_json(
            t / "results.json",
            lambda c: c["metrics"].update({"test/student/psds1/sed_scores_eval": None}),
        ),
        "results.json: no value of test/student/psds1/sed_scores_eval",
    ),
    "energy of the training": (
        lambda e, t: delete(emissions_file(t, "training")),
        "emissions_baseline_training.csv: energy table not found; .*energy.enabled=true",
    ),
    "energy of the test": (
        lambda e, t: write_energy(emissions_file(t, "test"), 0.0),
        "emissions_baseline_test.csv, line 2: energy_consumed is '0.0', not above 0",
    ),
    "energy of the evaluation": (
        lambda e, t: write_energy(emissions_file(e, "eval")),
        "emissions_baseline_eval.csv: contains no measurement",
    ),
    "columns of energy": (
        lambda e, t: emissions_file(e, "eval").write_text("timestamp,energy_consumed\n1,1\n"),
        "emissions_baseline_eval.csv: columns missing: duration, cpu_energy, gpu_energy, ram_",
    ),
}


@pytest.mark.parametrize("what", SPOILED)
def test_what_is_missing_is_named_alone(what, copied, meta, beats, tmp_path):
    spoil, message = SPOILED[what]
    spoil(*copied)
    problems = problems_of(SubmissionSources((copied[0],), meta, beats=beats), tmp_path / "package")
    assert len(problems) == 1, problems
    assert re.search(message, problems[0]), problems


def test_all_that_is_missing_is_named_at_once(copied, meta, tmp_path):
    evaluation, training = copied
    table(evaluation).unlink()
    emissions_file(training, "test").unlink()
    meta.write_text(TEMPLATE)
    problems = problems_of(
        SubmissionSources((evaluation,), meta, baseline=evaluation, beats=tmp_path / "no.pt"),
        tmp_path / "package",
    )
    text = "\n".join(problems)
    for message in (
        "meta.yaml: submission.label: not filled in",
        "meta.yaml: submission.authors.0.affiliation.location: not filled in",
        "emissions_baseline_test.csv: energy table not found",
        "eval/version_0/codecarbon/emissions_baseline_training.csv: energy table not found",
        "no.pt: no such file of BEATs weights",
        "no table of 1 clip (a)",
    ):
        assert message in text
    assert len(problems) == 14  # 9 fields of the form, 3 tables of energy, BEATs, a clip


def test_tables_wrong_by_the_hundred_are_counted(copied, meta, beats, tmp_path):
    evaluation, _ = copied
    clips = {f"{number:03}": 10.0 for number in range(9)}
    for kind in ("unprocessed", "postprocessed"):
        folder = score_folder(evaluation, "student", kind)
        for clip in clips:
            shutil.copy(folder / "a.tsv", folder / f"{clip}.tsv")
        for clip in CLIPS_S:
            (folder / f"{clip}.tsv").unlink()
    (evaluation / "evaluation.json").write_text(json.dumps({"clips": clips}))
    for clip in clips:
        table(evaluation, clip).write_text("onset\toffset\n")
    problems = problems_of(
        SubmissionSources((evaluation,), meta, beats=beats), tmp_path / "package"
    )
    assert len(problems) == 4
    assert "columns missing: Alarm_bell_ringing" in problems[0]
    assert problems[3].endswith("postprocessed: 6 more tables are wrong")


def test_runs_must_be_trainings_of_one_system_on_one_set(made, meta, beats, tmp_path):
    same_seed = make_run(tmp_path / "same_seed", 1)
    (same_seed.parents[1] / "train/version_0/checkpoints/epoch=1.ckpt").unlink()
    text = (same_seed / "run.yaml").read_text()
    record = yaml.safe_load(text)[0]["checkpoint"]["sha256"]
    for folder in (same_seed, same_seed.parents[1] / "train" / "version_0"):
        path = folder / "run.yaml"
        path.write_text(path.read_text().replace(record, "f" * 64))
    other = make_run(tmp_path / "other", 9, "net.dropout=0.5", "training.batch_size_val=5")
    change_json(other / "evaluation.json", lambda c: c["clips"].pop("b"))
    for role in ("student", "teacher"):
        for kind in ("unprocessed", "postprocessed"):
            (score_folder(other, role, kind) / "b.tsv").unlink()
    package = tmp_path / "package"
    assert problems_of(SubmissionSources((made[0], made[0]), meta, beats=beats), package) == [
        f"{made[0]} and {made[0]} are of the same checkpoint; give runs of different trainings"
    ]
    (problem,) = problems_of(SubmissionSources((made[0], same_seed), meta, beats=beats), package)
    assert "both have training.seed 1; runs must start from different weights" in problem
    differing, absent = problems_of(SubmissionSources((made[0], other), meta, beats=beats), package)
    assert f"{other} has net.dropout 0.5, {made[0]} 0.0; runs of one system" in differing
    assert f"{other}: 1 clip of {made[0]} is missing (b)" in absent
    (problem,) = problems_of(SubmissionSources((*made, *made)[:4], meta, beats=beats), package)[:1]
    assert problem == "4 runs; the challenge takes one to three"


def test_a_test_elsewhere_is_found_by_the_checkpoint(copied, meta, beats, tmp_path):
    evaluation, training = copied
    test = make_test(tmp_path / "test" / "version_3", evaluation, seed=7)
    # What was tested after the training is another checkpoint than the one evaluated.
    path = training / "run.yaml"
    fit, tested = yaml.safe_load(path.read_text())
    tested["checkpoint"]["sha256"] = "0" * 64
    path.write_text(yaml.safe_dump([fit, tested]))
    package = tmp_path / "package"
    (problem,) = problems_of(SubmissionSources((evaluation,), meta, beats=beats), package)
    assert "no dev-test of its checkpoint" in problem
    make_submission(SubmissionSources((evaluation,), meta, also=(test,), beats=beats), package)
    tree = yaml.safe_load((package / LABEL / f"{LABEL}.meta.yaml").read_text())
    assert tree["results"]["devtest"]["desed"]["PSDS1"] == pytest.approx(0.017)
    assert tree["system"]["complexity"]["energy_consumption"]["test"] == 0.25


def test_a_checkpoint_that_holds_its_encoder_is_known_by_its_content(tmp_path):
    evaluation = make_run(tmp_path / "run", 1)
    tree = yaml.safe_load((evaluation / "config.yaml").read_text())
    tree["pretrained"] |= {"e2e": True, "freezed": False}
    (evaluation / "config.yaml").write_text(yaml.safe_dump(tree))
    folder = tmp_path / "run" / "train" / "version_0" / "checkpoints"
    (folder / "epoch=1.ckpt").rename(folder / "best.ckpt")
    (folder / "epoch=1.ckpt").write_text("another")
    (training,) = find_run(evaluation, ()).trainings
    assert training.checkpoint == folder / "best.ckpt"
    digest = sha256_of(folder / "best.ckpt")
    (folder / "best.ckpt").unlink()
    told = f"epoch=1.ckpt: was evaluated with SHA-256 {digest[:12]}... and has "
    with pytest.raises(InputError, match=re.escape(told)):
        find_run(evaluation, ())


def test_a_training_that_was_moved_is_found_by_the_checkpoint(copied, meta, beats, tmp_path):
    evaluation, training = copied
    moved = tmp_path / "elsewhere" / "version_5"
    moved.parent.mkdir()
    os.rename(training, moved)
    package = tmp_path / "package"
    problems = problems_of(SubmissionSources((evaluation,), meta, beats=beats), package)
    assert len(problems) == 2
    assert "no training of its checkpoint" in problems[0] and "--also" in problems[0]
    problems = problems_of(
        SubmissionSources((evaluation,), meta, also=(tmp_path / "empty",), beats=beats), package
    )
    assert len(problems) == 3 and "empty: is not a run folder" in problems[0]
    make_submission(SubmissionSources((evaluation,), meta, also=(moved,), beats=beats), package)
    assert (package / LABEL / f"{LABEL}_run1_codecarbon" / "emissions_training.csv").is_file()


def test_a_test_does_not_stand_for_the_training(copied, meta, beats, tmp_path):
    evaluation, training = copied
    test = make_test(tmp_path / "test" / "version_0", evaluation, seed=7)
    shutil.rmtree(training)
    (problem,) = problems_of(
        SubmissionSources((evaluation,), meta, also=(test,), beats=beats), tmp_path / "package"
    )
    assert "no training of its checkpoint" in problem


def test_a_resumed_training_counts_all_its_sessions(copied, meta, beats, tmp_path, capsys):
    evaluation, training = copied
    fit, tested = yaml.safe_load((training / "run.yaml").read_text())
    (training / "run.yaml").write_text(yaml.safe_dump([fit, fit, fit, tested]))
    write_energy(emissions_file(training, "training"), 0.25, 0.5)
    change_json(training / "results.json", lambda c: c.update(missing={"devtest": ["x", "y"]}))
    make_submission(SubmissionSources((evaluation,), meta, beats=beats), tmp_path / "package")
    tree = yaml.safe_load((tmp_path / "package" / LABEL / f"{LABEL}.meta.yaml").read_text())
    assert tree["system"]["complexity"]["energy_consumption"]["training"] == 0.75
    told = capsys.readouterr().out
    assert "energy of 2 of its 3 sessions; a killed session leaves no measurement" in told
    assert "2 dev-test clips were missing, see its results.json" in told


def test_without_embeddings_no_beats_is_asked_for(meta, tmp_path):
    run = make_run(tmp_path / "bare", 4, "net.use_embeddings=false")
    make_submission(SubmissionSources((run,), meta, beats=Path("nowhere.pt")), tmp_path / "package")
    tree = yaml.safe_load((tmp_path / "package" / LABEL / f"{LABEL}.meta.yaml").read_text())
    complexity = tree["system"]["complexity"]
    assert complexity["total_parameters"] == complexity["network_parameters"]
    assert complexity["total_macs"] == complexity["macs"] and complexity["encoders"] is None
    assert tree["system"]["description"]["embeddings"] is None


# ---- clips in subfolders


def test_tables_of_clips_in_subfolders_are_named_without_them(
    meta, beats, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(callback_runs, "CLIPS_S", {"x/a": 10.0, "y/z/b": 4.3})
    run = make_run(tmp_path / "seed_4", 4)
    make_submission(SubmissionSources((run,), meta, beats=beats), tmp_path / "package")
    system = tmp_path / "package" / LABEL
    for end, kind in (("", "postprocessed"), ("_unprocessed", "unprocessed")):
        read = read_sed_scores(system / f"{LABEL}_run1{end}.output")
        own = score_folder(run, "student", kind)
        assert set(read) == {"a", "b"}
        for clip, place in (("a", "x/a"), ("b", "y/z/b")):
            assert read[clip].equals(read_sed_scores(own / f"{place}.tsv"))
    assert "note: 2 clips come from subfolders, which their tables' names leave out" in (
        capsys.readouterr().out
    )
    (score_folder(run, "student", "unprocessed") / "y/z/b.tsv").unlink()
    with pytest.raises(InputError, match=r"no table of 1 clip \(y/z/b\)"):
        make_submission(SubmissionSources((run,), meta, beats=beats), tmp_path / "package")


@pytest.mark.parametrize("clips", [("x/a", "y/a"), ("a", "x/A")])
def test_two_clips_of_one_name_are_not_submitted(clips, meta, beats, tmp_path, monkeypatch):
    monkeypatch.setattr(callback_runs, "CLIPS_S", dict.fromkeys(clips, 10.0))
    run = make_run(tmp_path / "seed_4", 4)
    with pytest.raises(InputError) as refused:
        make_submission(SubmissionSources((run,), meta, beats=beats), tmp_path / "package")
    assert f"{' and '.join(clips)} would be one table of the package" in str(refused.value)
    assert not (tmp_path / "package").exists()


@pytest.mark.parametrize(
    "name", ["submission.zip", f"{LABEL}/notes.txt", f"{LABEL}/{LABEL}.meta.yaml"]
)
def test_what_the_user_put_into_the_package_stays(made, meta, beats, tmp_path, name):
    sources, package = SubmissionSources((made[0],), meta, beats=beats), tmp_path / "package"
    make_submission(sources, package)
    make_submission(sources, package)
    mine = package / name
    text = mine.read_bytes() if mine.suffix == ".yaml" else b""
    mine.write_bytes(text + b"\n# of the user\n")
    before = {path: path.read_bytes() for path in package.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=f"--overwrite:\n  - {mine}$"):
        make_submission(sources, package)
    assert {path: path.read_bytes() for path in package.rglob("*") if path.is_file()} == before
    make_submission(sources, package, overwrite=True)
    (package / RECORD_FILE).unlink()  # As an earlier version left it.
    make_submission(sources, package)
