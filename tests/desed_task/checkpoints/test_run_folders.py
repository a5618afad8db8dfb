"""A run folder, a folder of runs or a download in the place of a checkpoint."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from desed_task.checkpoints.run_folders import find_checkpoint, runs_in
from desed_task.errors import InputError
from tests.desed_task.checkpoints.example_checkpoints import ours, saved, small_spec

ROOT = Path(__file__).parents[3]


def a_run(folder, *names, best=None):
    """A run folder whose last checkpoint, if it has one, calls `best` the best."""
    place = folder / "checkpoints"
    place.mkdir(parents=True)
    for name in names:
        if name == "last.ckpt" and best is not None:
            # Lightning keeps one state a callback; that of the last checkpoint names itself.
            states = {
                "EarlyStopping{'monitor': 'val/obj_metric'}": {"wait_count": 0},
                "ModelCheckpoint{'monitor': 'val/obj_metric'}": {
                    "best_model_path": f"/elsewhere/{best}"
                },
                "ModelCheckpoint{'monitor': None}": {"best_model_path": "/elsewhere/last.ckpt"},
            }
            saved(ours(small_spec(use_embeddings=False), callbacks=states), place / name)
        else:
            (place / name).write_bytes(b"PK")
    return folder


@pytest.mark.parametrize("last", [False, True])
def test_a_file_stands_for_itself_whether_or_not_it_is_there(tmp_path, last):
    (tmp_path / "best.ckpt").touch()
    for name in ("best.ckpt", "absent.ckpt"):
        assert find_checkpoint(tmp_path / name, last=last) == tmp_path / name


def test_a_run_stands_for_its_best_checkpoint_and_to_resume_it_for_the_last(tmp_path):
    run = a_run(tmp_path / "Prüfung 1", "epoch=9-step=80.ckpt", "last.ckpt")
    (run / "checkpoints" / ".epoch=11.ckpt").touch()  # being written
    (run / "checkpoints" / "epoch=3.ckpt.txt").touch()
    best, last = run / "checkpoints/epoch=9-step=80.ckpt", run / "checkpoints/last.ckpt"
    assert (find_checkpoint(run), find_checkpoint(run, last=True)) == (best, last)
    assert find_checkpoint(run / "checkpoints") == best
    assert find_checkpoint(os.fspath(run)) == best


def test_before_a_validation_a_run_stands_for_its_last_checkpoint_which_is_said(tmp_path, recwarn):
    run = a_run(tmp_path / "run", "last.ckpt")
    assert find_checkpoint(run, last=True).name == "last.ckpt"
    assert not recwarn
    with pytest.warns(UserWarning, match="no validation of this run has chosen a checkpoint yet"):
        assert find_checkpoint(run).name == "last.ckpt"


def test_a_best_checkpoint_that_was_removed_is_named(tmp_path):
    run = a_run(tmp_path / "run", "last.ckpt", best="epoch=3.ckpt")
    with pytest.warns(UserWarning, match=r"best checkpoint of this run, epoch=3.ckpt, is not"):
        assert find_checkpoint(run).name == "last.ckpt"


def test_an_empty_path_is_not_the_current_folder(tmp_path, monkeypatch):
    """As from a variable of a shell that is not set."""
    (tmp_path / "a.ckpt").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="an empty path to a checkpoint"):
        find_checkpoint("")


def test_of_two_best_checkpoints_the_one_that_the_last_one_names_is_taken(tmp_path):
    """A run killed while it replaces its best checkpoint keeps both."""
    names = ("epoch=3.ckpt", "epoch=20.ckpt", "last.ckpt")
    for best in names[:2]:
        run = a_run(tmp_path / best, *names, best=best)
        assert find_checkpoint(run).name == best
    with pytest.raises(InputError, match=r"contains 2 checkpoints; give one of them: .*epoch=20"):
        find_checkpoint(a_run(tmp_path / "gone", *names, best="epoch=5.ckpt"))
    with pytest.raises(InputError, match="contains 2 checkpoints"):
        find_checkpoint(a_run(tmp_path / "without last", *names[:2]))


def test_a_folder_of_one_run_stands_for_it_and_of_several_they_are_listed(tmp_path):
    log_dir = tmp_path / "exp"
    (log_dir / "version_1").mkdir(parents=True)  # a test, without checkpoints of its own
    first = a_run(log_dir / "version_0", "epoch=1.ckpt", "last.ckpt")
    assert find_checkpoint(log_dir) == first / "checkpoints/epoch=1.ckpt"
    second = a_run(log_dir / "version_10", "epoch=2.ckpt")
    os.utime(second / "checkpoints/epoch=2.ckpt", (1, 1))
    assert runs_in(log_dir) == [first, second]
    with pytest.raises(InputError, match=f"contains 2 runs .*: {first}, {second}$"):
        find_checkpoint(log_dir)


def test_many_runs_are_not_all_listed(tmp_path):
    for number in range(12):
        a_run(tmp_path / f"version_{number}", "epoch=1.ckpt")
    with pytest.raises(InputError, match=r"contains 12 runs.*, and 4 more$"):
        find_checkpoint(tmp_path)


def test_a_downloaded_folder_stands_for_its_only_checkpoint(tmp_path):
    (tmp_path / "epoch=259-step=30680.ckpt").touch()
    (tmp_path / "LICENSE").touch()
    assert find_checkpoint(tmp_path).name == "epoch=259-step=30680.ckpt"


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    (tmp_path / "checkpoints" / "x.ckpt").mkdir(parents=True)  # a folder of that name
    with pytest.raises(InputError, match=r"a folder without a checkpoint; give a \.ckpt file or"):
        find_checkpoint(tmp_path)
    assert runs_in(tmp_path / "absent") == []


def test_finding_imports_no_torch(tmp_path):
    run = a_run(tmp_path, "epoch=1.ckpt", "last.ckpt")
    code = (
        "import sys; from desed_task.checkpoints.run_folders import find_checkpoint; "
        f"find_checkpoint({str(run)!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
