"""train_pretrained.py as a command, on the small mini corpus and the CPU.

`trained` is of real processes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from desed_task.atomic_files import sha256_of
from desed_task.dataio.annotations import read_strong_table
from local import run
from local.checkpoints.revision import REVISION
from local.classes_dict import VOCABULARY
from local.cli.exit_status import StoppedError
from local.config import load_config
from local.training import trainer
from local.training.tracking.hparams import FINAL_METRICS
from tests.fork_server import Forked
from tests.in_process import run_main
from tests.scripts.conftest import run_folder

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = Path(__file__).resolve().parents[2]
METRICS = {
    "psds1/sed_scores_eval",
    "psds2/sed_scores_eval",
    "intersection_f1_macro_thres05/sed_scores_eval",
    "collar_f1_macro_thres05/sed_scores_eval",
    "psds1/psds_eval",
    "psds2/psds_eval",
    "intersection_f1_macro_thres05/psds_eval",
    "collar_f1_macro_thres05/sed_eval",
    "segment_f1_macro_thresopt/sed_scores_eval",
    "segment_mauc/sed_scores_eval",
    "segment_mpauc/sed_scores_eval",
}
FURTHER = {
    *(f"{name}_nonoracle" for name in ("psds1", "psds2")),
    "pipsds1",
    "pipsds2",
    *(f"{kind}_map" for kind in ("intersection", "collar", "segment")),
    *(f"{kind}_f1_macro_oracle" for kind in ("intersection", "collar")),
    *(f"{border}_error_s_thres05" for border in ("onset", "offset")),
    "false_events_per_hour_thres05",
    "segment_mauc_trapezoid",
    *(f"segment_mpauc_{kind}" for kind in ("trapezoid", "mcclish", "trapezoid_mcclish")),
}


def test_a_run_ends_in_every_metric_of_both_networks(trained):
    folder, done, _ = trained
    content = json.loads((folder / "results.json").read_text())
    assert set(content["metrics"]) == {
        f"test/{role}/{name}"
        for role in ("student", "teacher")
        for name in (*METRICS, *(f"{name}/desed_task" for name in FURTHER))
    }
    assert content["versions"]["sed_scores_eval"] == "0.0.4"
    assert content["definitions"]["sed_scores_eval"] == "0.0.4"
    assert set(content["computed_by"].values()) == {"desed_task"}
    packages = {name.split("/")[-1] for name in content["metrics"]}
    assert packages == set(content["computed_by"]) == set(content["definitions"])
    # Builds of PyPI do not state their CUDA version in their metadata.
    assert torch.__version__.startswith(content["versions"]["torch"])
    assert content["clips"]["devtest"] > 0
    assert (content["missing"], content["missing_recordings"]) == ({}, {})
    assert re.search(r"^data: \d+ clips in 8 sets, .* no listed clip is missing", done.stdout, re.M)
    assert "\nclips without events, left out: 1 of DESED dev-test (devtest); " in done.stdout
    assert "\ndevtest: clips without events, left out: 1, see results.json\n" in done.stdout
    ((corpus, eventless),) = content["left_out"].items()
    with np.load(folder / "metrics_test" / "student" / "scores_devtest.npz") as stored:
        assert (corpus, len(eventless)) == ("devtest", 1)
        assert len(stored["clip_ids"]) == content["clips"]["devtest"] == 5
        assert not set(eventless) & set(stored["clip_ids"])
    assert "epoch 2/2: " in done.stdout and ", val/obj_metric " in done.stdout
    assert "psds1/sed_scores_eval" in done.stdout
    assert f"tensorboard --logdir {folder.parent}" in done.stdout
    *_, drawn, report = done.stdout.splitlines()
    picture = Path(drawn.rpartition("annotated events of a clip: ")[2])
    assert picture == folder / "metrics_test" / "student" / "timeline.png" and picture.is_file()
    page = Path(report.rpartition("and the worst clips: ")[2])
    assert page == folder / "error_report" / "index.html" and page.is_file()
    assert not (folder / "metrics_test" / "teacher" / "timeline.png").exists()
    assert "no GPU found" in done.stdout or torch.cuda.is_available()
    assert "Traceback" not in done.stderr


def test_two_runs_with_one_seed_have_identical_results(trained):
    one, _, two = trained
    assert (one / "results.json").read_bytes() == (two / "results.json").read_bytes()


def test_trainings_that_start_together_have_folders_of_their_own(extracted, tmp_path):
    """A job array over seeds in one log folder; each resumes its own run, or finds it finished."""
    command = [sys.executable, str(ROOT / "train_pretrained.py"), "--conf_file", str(extracted)]
    command += ["--log_dir", str(tmp_path / "exp"), "--resume_from_checkpoint", "auto"]
    command += ["--set", "energy.enabled=false", "--set", "training.n_epochs=1"]
    seeds = (1, 2)
    jobs = [
        Forked(
            [*command, "--set", f"training.seed={seed}"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for seed in seeds
    ]
    for job in jobs:
        out, _ = job.communicate(timeout=300)
        assert job.returncode == 0, out
    folders = [tmp_path / "exp" / f"version_{number}" for number in (0, 1)]
    stages = [yaml.safe_load((folder / "run.yaml").read_text()) for folder in folders]
    assert {records[0]["seed"] for records in stages} == set(seeds)
    assert all([one["stage"] for one in records] == ["fit", "test"] for records in stages)
    assert all((folder / "results.json").is_file() for folder in folders)


def test_results_say_what_was_scored_and_how(trained):
    folder, _, _ = trained
    content = json.loads((folder / "results.json").read_text())
    (best,) = folder.glob("checkpoints/epoch=*.ckpt")
    assert content["checkpoint_sha256"] == sha256_of(best)
    assert content["training_revision"] == REVISION
    assert content["scored_on"]["devtest"]["n_clips"] == content["clips"]["devtest"]
    assert content["scored_on"]["maestro_real_dev"]["n_events"] > 0
    settings = load_config(folder / "config.yaml")
    assert content["scoring"]["n_thresholds"] == settings.training.n_test_thresholds
    lengths = content["scoring"]["decoder"]["frames"]
    assert tuple(lengths.values()) == tuple(settings.net.median_filter)
    assert content["scoring"]["classes"] == list(lengths)


def test_the_error_report_is_that_of_the_test(trained):
    """Its numbers are those of the metrics, and its pictures are shown in TensorBoard."""
    folder, done, two = trained
    report = folder / "error_report"
    content = json.loads((report / "errors.json").read_text())
    rows = read_strong_table(Path(load_config(folder / "config.yaml").data.test_tsv), VOCABULARY)
    assert content["all_classes"]["events"] == len(rows.merged()) > 0
    assert (content["network"], content["clips"], content["clips_left_out"]) == ("student", 5, 1)
    text = (folder / "metrics_test" / "student" / "intersection_f1.txt").read_text()
    for line in text.splitlines()[4:]:
        label, _, hits, false, missed = line.split()
        counts = content["classes"][label]
        assert counts["hits"] == int(hits)
        assert sum(counts["false_alarms"].values()) == int(false)
        assert sum(counts["misses"].values()) == int(missed)
    pages = [one["page"] for one in content["worst_clips"]]
    assert pages and all((report / page).is_file() for page in pages)
    assert len(list((report / "clips").iterdir())) == len(pages)
    assert "error report" not in done.stderr
    for name in ("errors.json", "events.tsv", "index.html", "worst_clips.png"):
        assert (report / name).read_bytes() == (two / "error_report" / name).read_bytes()
    shown = EventAccumulator(str(folder)).Reload().Tags()["images"]
    names = ("classes", "confusions", "boundaries", "worst_clips")
    assert {f"test/student/error_report/{name}" for name in names} <= set(shown)


def test_what_lies_in_the_run_folder(trained):
    folder, _, _ = trained
    config = load_config(folder / "config.yaml")
    assert config.training.n_epochs == 2
    stages = yaml.safe_load((folder / "run.yaml").read_text())
    assert [stage["stage"] for stage in stages] == ["fit", "test"]
    assert "--log_dir" in stages[0]["command"]
    assert stages[0]["seed"] == config.training.seed
    assert stages[0]["network"]["clip_s"] == 10
    assert stages[0]["network"]["macs"] > stages[0]["network"]["parameters"] > 1000
    (best,) = folder.glob("checkpoints/epoch=*.ckpt")
    assert "checkpoint" not in stages[0]
    assert stages[1]["checkpoint"] == {"path": str(best), "sha256": sha256_of(best)}
    for role in ("student", "teacher"):
        place = folder / "metrics_test" / role
        names = {path.name for path in place.iterdir()}
        assert {"event_f1.txt", "segment_f1.txt", "psd_roc_psds1.png", "psd_roc_psds2.png"} <= names
        assert sum(name.startswith("event_roll_") for name in names) >= 4
        scores = np.load(place / "scores_devtest.npz")
        assert scores["postprocessed"].shape == scores["unprocessed"].shape
        assert scores["postprocessed"].shape[1:] == (156, 27)
    for stage in ("training", "test"):
        table = (folder / f"codecarbon/emissions_baseline_{stage}.csv").read_text().splitlines()
        assert {"cpu_energy", "gpu_energy", "ram_energy"} <= set(table[0].split(","))
        assert len(table) == 2
    tags = EventAccumulator(str(folder)).Reload().Tags()
    assert "val/obj_metric" in tags["scalars"]
    assert not {"epoch", "hp_metric"} & set(tags["scalars"])
    table = EventAccumulator(str(folder / "final")).Reload()
    assert set(table.Tags()["scalars"]) == {"val/obj_metric", *FINAL_METRICS}
    psds = json.loads((folder / "results.json").read_text())["metrics"][FINAL_METRICS[0]]
    assert table.Scalars(FINAL_METRICS[0])[0].value == pytest.approx(psds)


def test_a_checkpoint_holds_what_it_needs_and_nothing_else(trained):
    folder, _, _ = trained
    checkpoint = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    prefixes = {name.split(".")[0] for name in checkpoint["state_dict"]}
    assert prefixes == {"sed_student", "sed_teacher", "mel_spec"}
    assert not any("total_" in name for name in checkpoint["state_dict"])
    assert checkpoint["hyper_parameters"] == yaml.safe_load((folder / "config.yaml").read_text())


def test_results_name_what_was_absent(trained, extracted, tmp_path):
    """Clips of a table, and MAESTRO's recordings, as this copy lies in no mini corpus."""
    data = load_config(extracted).data
    for key in ("test_folder", "real_maestro_val_folder"):
        shutil.copytree(getattr(data, key), tmp_path / key)
    gone = sorted((tmp_path / "test_folder").glob("*.wav"))[0]
    gone.unlink()
    done = run_main(
        "train_pretrained.py",
        *("--conf_file", extracted, "--log_dir", tmp_path / "runs"),
        *("--test_from_checkpoint", trained[0] / "checkpoints/last.ckpt"),
        *("--set", f"data.test_folder={tmp_path / 'test_folder'}"),
        *("--set", f"data.real_maestro_val_folder={tmp_path / 'real_maestro_val_folder'}"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    content = json.loads((run_folder(tmp_path / "runs") / "results.json").read_text())
    assert content["missing"] == {"devtest": [gone.stem]}
    (absent,) = content["missing_recordings"].values()
    assert len(absent) == 11
    assert "cafe_restaurant_10" in absent
    assert "missing: 1 of DESED dev-test, 11 recordings of MAESTRO real validation" in done.stdout
    assert "maestro_real_dev: recordings not on disk: 11, see results.json" in done.stdout


def test_testing_the_best_checkpoint_gives_the_same_numbers_which_are_sed_scores_eval_s(
    trained, extracted, tmp_path
):
    folder, _, _ = trained
    (best,) = folder.glob("checkpoints/epoch=*.ckpt")
    done = run_main(
        "train_pretrained.py",
        "--conf_file",
        extracted,
        "--log_dir",
        tmp_path / "again",
        "--test_from_checkpoint",
        best,
        "--gpus",
        "0",
        "--verify_metrics",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    one, other = (
        json.loads((place / "results.json").read_text())
        for place in (folder, run_folder(tmp_path / "again"))
    )
    verified = other.pop("verification")
    assert one == other
    # Of the 10 classes four published metrics and five further ones, of the 11 three and one.
    assert (verified["figures"], verified["differing"]) == (2 * (9 * 11 + 4 * 12), {})
    told = "verified: 294 figures equal those of sed_scores_eval 0.0.4 to 1e-09\n"
    assert f"sed_scores_eval 0.0.4\n{told}" in done.stdout


def test_an_evaluation_set_gets_a_table_of_scores_a_clip(trained, extracted, tmp_path):
    folder, _, _ = trained
    done = run_main(
        "train_pretrained.py",
        "--conf_file",
        extracted,
        "--log_dir",
        tmp_path / "eval",
        "--eval_from_checkpoint",
        folder / "checkpoints/last.ckpt",
        *("--threads", 2),  # other tests have one
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    clips = {path.stem for path in Path(load_config(extracted).data.eval_folder).glob("*.wav")}
    for role in ("student", "teacher"):
        for kind in ("unprocessed", "postprocessed"):
            tables = run_folder(tmp_path / "eval") / f"metrics_test/{role}_scores/{kind}"
            assert {path.stem for path in tables.glob("*.tsv")} == clips
            head, *rows = next(tables.glob("*.tsv")).read_text().splitlines()
            assert head.split("\t")[:3] == ["onset", "offset", "Alarm_bell_ringing"]
            assert len(rows) == 156
    content = json.loads((run_folder(tmp_path / "eval") / "evaluation.json").read_text())
    assert content == {"clips": dict.fromkeys(sorted(clips), 10.0)}
    (stage,) = yaml.safe_load((run_folder(tmp_path / "eval") / "run.yaml").read_text())
    assert stage["stage"] == "predict"
    assert stage["checkpoint"]["path"] == str(folder / "checkpoints/last.ckpt")


def run_records(log_dir):
    """What run.yaml of the only run has on each stage."""
    return yaml.safe_load((run_folder(log_dir) / "run.yaml").read_text())


class StopAfterFirstEpoch(run.Callback):
    """Ends the process's training as a kill would: at the end of an epoch, once it is saved."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise RuntimeError("killed")


def test_a_resumed_run_gives_the_same_weights_bitwise(trained, extracted, tmp_path):
    config = load_config(extracted)
    options = run.RunOptions(str(tmp_path / "resumed"))
    with pytest.raises(RuntimeError, match="killed"):
        run.fit(config, options, callbacks=[StopAfterFirstEpoch()])
    # What the rest of the process does to the global states must not matter.
    torch.manual_seed(99)
    np.random.seed(99)
    folder = run.fit(config, options, resume_from="auto")
    assert folder == run_folder(tmp_path / "resumed")
    whole, resumed = (
        torch.load(place / "checkpoints/last.ckpt", weights_only=True)
        for place in (trained[0], folder)
    )
    assert whole["epoch"] == resumed["epoch"] == 1
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][name]), name
    moments = zip(
        whole["optimizer_states"][0]["state"].values(),
        resumed["optimizer_states"][0]["state"].values(),
        strict=True,
    )
    assert all(torch.equal(one["exp_avg_sq"], two["exp_avg_sq"]) for one, two in moments)
    assert (folder / "results.json").read_bytes() == (trained[0] / "results.json").read_bytes()


class CtrlC(run.Callback):
    """Stops a test or an evaluation as the user would."""

    def on_test_batch_start(self, *args):
        raise KeyboardInterrupt

    on_predict_batch_start = on_test_batch_start


def test_ctrl_c_in_a_test_or_an_evaluation_says_how_to_go_on(
    trained, extracted, tmp_path, monkeypatch
):
    (best,) = trained[0].glob("checkpoints/epoch=*.ckpt")
    monkeypatch.setattr(trainer, "ResultWriter", lambda verify: CtrlC())
    options, config = run.RunOptions(str(tmp_path / "exp")), load_config(extracted)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(StoppedError, match=f"test it with --test_from_checkpoint {best}"):
            run.test(config, str(best), options)
        with pytest.raises(StoppedError, match="stopped; start again"):
            run.evaluate(config, str(best), options)
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning ignores further ones from there on


class StopBeforeLast(run.Callback):
    """Ends the process's training between the best checkpoint of an epoch and its last.ckpt."""

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise RuntimeError("killed")


def test_epochs_that_are_never_validated_are_told_of(extracted):
    changes = ["training.n_epochs=5", "training.validation_interval=2"]
    with pytest.warns(UserWarning, match=r"does not divide n_epochs \(5\): the last 1 epoch is"):
        load_config(extracted, changes)


def test_killed_between_its_checkpoints_a_run_ends_with_one_best(extracted, tmp_path):
    config = load_config(extracted, ["training.validation_interval=2", "energy.enabled=false"])
    options = run.RunOptions(str(tmp_path / "between"))
    with pytest.raises(RuntimeError, match="killed"):
        run.fit(config, options, callbacks=[StopBeforeLast()])
    checkpoints = run_folder(tmp_path / "between") / "checkpoints"
    (best,) = checkpoints.glob("epoch=1-*.ckpt")
    run.fit(config, options, resume_from="auto")
    assert {path.name for path in checkpoints.iterdir()} == {best.name, "last.ckpt"}


def test_auto_does_nothing_where_the_run_is_finished(trained, extracted, tmp_path):
    folder, _, _ = trained
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    done = run_main(
        "train_pretrained.py",
        "--conf_file",
        extracted,
        "--log_dir",
        folder.parent,
        "--resume_from_checkpoint",
        "auto",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout and "psds1/sed_scores_eval" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_checkpoint_of_other_values_is_not_resumed(trained, extracted, tmp_path):
    done = run_main(
        "train_pretrained.py",
        "--conf_file",
        extracted,
        "--set",
        "opt.lr=0.5",
        "--resume_from_checkpoint",
        trained[0] / "checkpoints/last.ckpt",
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "opt.lr: 0.002 in the checkpoint, 0.5 here" in done.stderr


def test_a_fast_run_touches_everything_in_two_epochs(extracted, tmp_path):
    done = run_main(
        "train_pretrained.py",
        "--conf_file",
        extracted,
        "--set",
        "training.n_epochs=300",
        "--set",
        "energy.enabled=false",
        # Everything that draws at random, in the ways that no other command's test takes.
        *("--set", "training.mixup=hard", "--set", "training.mixup_draw=independent"),
        *("--set", "training.mixup_prob=1", "--set", "net.dropstep_scope=batch"),
        *("--set", "net.specaugm_t_p=0.3", "--set", "net.specaugm_f_p=0.3"),
        *("--set", "net.dropout=0.5", "--set", "training.self_sup_loss=bce"),
        "--log_dir",
        tmp_path / "fast",
        "--fast_dev_run",
        "--gpu",
        "0",
        *("--threads", 2),  # in training, validation and test; other tests have one
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert torch.get_num_threads() == 1
    (record,) = {stage["threads"] for stage in run_records(tmp_path / "fast")}
    assert record == 2
    folder = run_folder(tmp_path / "fast")
    checkpoint = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    assert (checkpoint["epoch"], checkpoint["fast_dev_run"]) == (1, True)
    assert all(stage["fast_dev_run"] for stage in run_records(tmp_path / "fast"))
    assert (folder / "results.json").is_file()
    assert not (folder / "codecarbon").exists() and "energy" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "net.dropot=1"], "net.dropot: unknown key (value 1); did you mean dropout?"),
        (["--set", "net.dropout=lots"], "net.dropout: Input should be a valid number"),
        (["--set", "data.test_folder=nowhere"], "data.test_folder: nowhere: no such folder"),
        (["--gpus", "7"], "--gpus 7: there is no such GPU"),
        (["--test_from_checkpoint", "absent.ckpt"], "absent.ckpt: no such checkpoint"),
        (["--resume_from_checkpoint", "absent.ckpt"], "absent.ckpt: no such checkpoint"),
        (
            ["--resume_from_checkpoint", "auto", "--test_from_checkpoint", "a.ckpt"],
            "--test_from_checkpoint: not allowed with argument --resume_from_checkpoint",
        ),
    ],
)
def test_wrong_input_ends_in_one_message_and_leaves_nothing(
    arguments, message, extracted, tmp_path
):
    done = run_main(
        "train_pretrained.py",
        "--conf_file",
        extracted,
        "--log_dir",
        tmp_path / "exp",
        *arguments,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert f"error: {message}" in done.stderr or message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "exp").exists()


def test_ctrl_c_says_how_to_go_on(extracted, tmp_path):
    command = [sys.executable, ROOT / "train_pretrained.py", "--conf_file", extracted]
    command += ["--set", "training.n_epochs=500", "--log_dir", "exp"]
    with Forked(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        last = tmp_path / "exp/version_0/checkpoints/last.ckpt"
        deadline = time.monotonic() + 120
        while not last.exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert f"--resume_from_checkpoint exp/version_0/checkpoints/{last.name}" in output
