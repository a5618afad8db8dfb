"""Trainings that go on with other values, in other folders, or from the weights of others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from desed_task.atomic_files import sha256_of
from desed_task.errors import InputError
from local import run
from local.checkpoints import info
from local.config import load_config
from local.summary.comparable import check_comparable
from local.summary.run_folders import open_run
from tests.in_process import run_main
from tests.scripts.conftest import run_folder

pytestmark = pytest.mark.usefixtures("undrawn")

QUIET = "energy.enabled=false"
LATE = ("training.epoch_decay=3", QUIET)


def stored(folder: Path) -> dict:
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)


def test_other_values_that_compute_nothing_so_far_change_no_bit(extracted, tmp_path, capsys):
    """Dropout, mixup and time dropping are on; two steps an epoch."""
    changed = [
        "training.n_epochs=3",
        "training.early_stop_patience=60",
        "training.batch_size_val=3",
        "training.num_workers=1",
    ]
    new = load_config(extracted, [*LATE, *changed])
    assert new.training.mixup and new.net.dropout and new.net.dropstep_recurrent
    whole = run.fit(new, run.RunOptions(str(tmp_path / "whole")), test=False)
    options = run.RunOptions(str(tmp_path / "parts"))
    run.fit(load_config(extracted, [*LATE, "training.n_epochs=1"]), options, test=False)
    capsys.readouterr()
    folder = run.fit(new, options, resume_from="auto", test=False)
    assert folder == run_folder(tmp_path / "parts")
    one, other = stored(whole), stored(folder)
    assert one["epoch"] == other["epoch"] == 2
    for name, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][name]), name
    names = [{path.name for path in (place / "checkpoints").iterdir()} for place in (whole, folder)]
    assert names[0] == names[1]
    told = capsys.readouterr().out
    for change in changed:
        assert f"last.ckpt: {change.partition('=')[0]}: " in told
    assert "last.ckpt: training.n_epochs: 1 -> 3\n" in told
    first, second = yaml.safe_load((folder / "run.yaml").read_text())
    assert "resumed" not in first
    assert second["resumed"]["epoch"] == 0
    assert "training.n_epochs: 1 -> 3" in second["resumed"]["changed"]
    assert load_config(folder / "config.yaml").training.n_epochs == 3


def test_another_log_dir_gets_the_training_and_the_finished_run_stays(trained, extracted, tmp_path):
    folder, _, _ = trained
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = run_main(
        *("train_pretrained.py", "--conf_file", extracted, "--log_dir", tmp_path / "moved"),
        *("--resume_from_checkpoint", folder / "checkpoints/last.ckpt", "--set", QUIET),
        *("--set", "training.early_stop_patience=60", "--set", "training.batch_size_val=5"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    moved = run_folder(tmp_path / "moved")
    assert f"its training goes on in {moved}, with copies of its checkpoints" in done.stdout
    assert "training.early_stop_patience: 50 -> 60" in done.stdout
    assert {path: path.read_bytes() for path in before} == before
    results = [json.loads((place / "results.json").read_text()) for place in (folder, moved)]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[0]["checkpoint_sha256"] == results[1]["checkpoint_sha256"]
    assert (moved / "checkpoints/last.ckpt").is_file()


class AtStart(run.Callback):
    """Keeps the weights that a training starts from."""

    def on_train_start(self, trainer, pl_module):
        self.state = {name: value.clone() for name, value in pl_module.state_dict().items()}
        self.step = pl_module.lr_schedulers().step_num
        self.epoch = trainer.current_epoch


def test_a_training_from_weights_is_a_new_one_and_says_so_everywhere(
    trained, extracted, tmp_path, capsys
):
    (best,) = trained[0].glob("checkpoints/epoch=*.ckpt")
    config = load_config(extracted, [QUIET, "training.seed=5", "opt.lr=0.01", "net.dropout=0.3"])
    options, start = run.RunOptions(str(tmp_path / "tuned")), AtStart()
    folder = run.fit(config, options, resume_from="auto", init_from=best, callbacks=[start])
    weights = torch.load(best, weights_only=True)["state_dict"]
    assert all(torch.equal(value, start.state[name]) for name, value in weights.items())
    assert (start.step, start.epoch) == (1, 0)
    assert f"initial weights: {best} (SHA-256 {sha256_of(best)[:12]}...)" in capsys.readouterr().out
    origin = {"checkpoint": str(best), "checkpoint_sha256": sha256_of(best), "classes": {}}
    assert yaml.safe_load((folder / "config.yaml").read_text())["initial_weights"] == origin
    last = folder / "checkpoints/last.ckpt"
    assert stored(folder)["hyper_parameters"]["initial_weights"] == origin
    rows = " ".join(info.format_checkpoint_info(last).split())
    assert f"initial weights {best} (SHA-256 {sha256_of(best)[:12]}...)" in rows
    assert "initial weights" not in info.format_checkpoint_info(best)
    # The cluster's script once more: the run is finished. Without the flag it is another training.
    assert run.fit(config, options, resume_from="auto", init_from=best) == folder
    assert "nothing to do" in capsys.readouterr().out
    assert run.find_resumable(tmp_path / "tuned", config) == (None, None)
    # Resumed by its path it stays what it is; its own configuration file cannot start another.
    longer = load_config(folder / "config.yaml", ["training.early_stop_patience=60"])
    assert run.fit(longer, options, resume_from=str(last), test=False) != folder
    with pytest.raises(InputError, match="name that file in --init_from_checkpoint, or delete"):
        run.fit(longer, run.RunOptions(str(tmp_path / "other")))
    # A comparison over seeds tells.
    notes = check_comparable([open_run(trained[0]), open_run(folder)])
    assert any(note.startswith("initial_weights.checkpoint_sha256 differs") for note in notes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--test_from_checkpoint", "a.ckpt"], "a new training; leave out --test_from_checkpoint"),
        (["--eval_from_checkpoint", "a.ckpt"], "a new training; leave out --eval_from_checkpoint"),
        (["--checkpoint_info", "a.ckpt"], "a new training; leave out --checkpoint_info"),
        (["--resume_from_checkpoint", "a.ckpt"], "leave out --resume_from_checkpoint"),
        ([], "absent.ckpt: no such checkpoint"),
        (["--resume_from_checkpoint", "auto"], "absent.ckpt: no such checkpoint"),
    ],
)
def test_weights_for_no_new_training_are_refused(extracted, tmp_path, arguments, message):
    done = run_main(
        *("train_pretrained.py", "--conf_file", extracted, "--log_dir", tmp_path / "exp"),
        *("--init_from_checkpoint", "absent.ckpt", *arguments),
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert message in done.stderr and not (tmp_path / "exp").exists()


def test_a_copy_of_the_last_checkpoint_alone_is_refused_before_training(
    trained, extracted, tmp_path
):
    copy = tmp_path / "last.ckpt"
    shutil.copyfile(trained[0] / "checkpoints/last.ckpt", copy)
    done = run_main(
        *("train_pretrained.py", "--conf_file", extracted, "--log_dir", tmp_path / "exp"),
        *("--resume_from_checkpoint", copy),
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "the best checkpoint of its training so far, epoch=" in done.stderr
    assert not (tmp_path / "exp").exists()
