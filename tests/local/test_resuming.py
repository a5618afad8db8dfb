"""Which run `--resume_from_checkpoint auto` goes on with."""

from __future__ import annotations

import pytest
import yaml

from desed_task.errors import InputError
from local import results, run
from local.config import load_config
from local.resuming import LAST, find_resumable


@pytest.fixture
def run_folder(mini_conf, tmp_path):
    """Makes LOG_DIR/version_N as a training, a test or an evaluation of `mini_conf` leaves it."""

    def make(number, *files):
        folder = tmp_path / f"version_{number}"
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        config = yaml.safe_dump(load_config(mini_conf).dump())
        (folder / "config.yaml").write_text(config)
        return folder

    return make


LAST_CKPT = f"checkpoints/{LAST}"


def test_an_unfinished_training_is_found_behind_tests_and_evaluations_of_it(
    mini_conf, run_folder, tmp_path
):
    training = run_folder(0, LAST_CKPT)
    run_folder(1, results.FILE)
    run_folder(2, "metrics_test/student_scores/unprocessed/clip.tsv")
    found = find_resumable(tmp_path, load_config(mini_conf))
    assert found == (None, training / LAST_CKPT)


def test_a_test_does_not_stand_for_a_training(mini_conf, run_folder, tmp_path):
    run_folder(0, results.FILE)
    assert find_resumable(tmp_path, load_config(mini_conf)) == (None, None)


def test_the_newest_training_counts(mini_conf, run_folder, tmp_path):
    run_folder(9, LAST_CKPT)
    finished = run_folder(10, LAST_CKPT, results.FILE)
    assert find_resumable(tmp_path, load_config(mini_conf)) == (finished, None)


def test_a_damaged_checkpoint_is_refused_by_auto_too(mini_conf, run_folder, tmp_path):
    run_folder(0, LAST_CKPT)
    with pytest.raises(InputError, match=r"last\.ckpt: an empty file, not a checkpoint"):
        run.fit(load_config(mini_conf), run.RunOptions(str(tmp_path)), resume_from="auto")


@pytest.mark.parametrize("below", ["", "exp/deep"])
def test_a_log_dir_that_cannot_be_is_refused_before_anything_is_read(mini_conf, tmp_path, below):
    (tmp_path / "file").touch()
    options = run.RunOptions(str(tmp_path / "file" / below))
    config = load_config(mini_conf, ["data.test_folder=nowhere"])
    with pytest.raises(InputError, match=r"--log_dir .*file is no folder; give another folder"):
        run.fit(config, options)


def test_a_log_dir_without_rights_is_refused(mini_conf, tmp_path, monkeypatch):
    # Root may write everywhere, so the system's answer is given for it.
    monkeypatch.setattr(run.os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match=r"--log_dir .*: .* may not be written to"):
        run.fit(load_config(mini_conf), run.RunOptions(str(tmp_path / "exp")))
    assert not (tmp_path / "exp").exists()
