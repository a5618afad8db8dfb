"""Which run `--resume_from_checkpoint auto` resumes."""

from __future__ import annotations

import random
from types import MappingProxyType

import numpy as np
import pytest
import torch
import yaml

from desed_task.errors import InputError
from local import run
from local.checkpoints import resume, revision, run_claims
from local.checkpoints.restore import detector_spec
from local.checkpoints.resume import LAST_CHECKPOINT, check_resumable, find_begun, find_resumable
from local.checkpoints.revision import CHANGES, REVISION, REVISION_KEY
from local.checkpoints.run_places import best_beside, resumed_run, take_along
from local.config import check_config, load_config
from local.scoring import results
from local.sed_trainer_pretrained import SEDTask4
from local.training.callbacks import RandomStates


@pytest.fixture
def run_folder(mini_conf, tmp_path):
    """Makes LOG_DIR/version_N as a training, a test or an evaluation of `mini_conf` leaves it."""

    def make(number, *files, record=MappingProxyType({REVISION_KEY: REVISION})):
        folder = tmp_path / f"version_{number}"
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("anything" if name == ENERGY else "")
        folder.mkdir(exist_ok=True)
        config = yaml.safe_dump(load_config(mini_conf).dump())
        (folder / "config.yaml").write_text(config)
        (folder / "run.yaml").write_text(yaml.safe_dump([{"stage": "fit", **record}]))
        return folder

    return make


LAST_CKPT = f"checkpoints/{LAST_CHECKPOINT}"
ENERGY = "codecarbon/emissions_baseline_test.csv"
FINISHED = (results.RESULTS_FILE, ENERGY)


def test_an_unfinished_training_is_found_behind_tests_and_evaluations_of_it(
    mini_conf, run_folder, tmp_path
):
    training = run_folder(0, LAST_CKPT)
    run_folder(1, results.RESULTS_FILE)
    run_folder(2, "metrics_test/student_scores/unprocessed/clip.tsv")
    found = find_resumable(tmp_path, load_config(mini_conf))
    assert found == (None, training / LAST_CKPT)


def test_a_test_does_not_stand_for_a_training(mini_conf, run_folder, tmp_path):
    run_folder(0, results.RESULTS_FILE)
    assert find_resumable(tmp_path, load_config(mini_conf)) == (None, None)


def test_the_newest_training_counts(mini_conf, run_folder, tmp_path):
    run_folder(9, LAST_CKPT)
    finished = run_folder(10, LAST_CKPT, *FINISHED)
    assert find_resumable(tmp_path, load_config(mini_conf)) == (finished, None)


@pytest.mark.parametrize("written", [(), (ENERGY,), (results.RESULTS_FILE,)])
def test_a_test_that_was_killed_before_its_last_file_is_done_again(
    mini_conf, run_folder, tmp_path, written
):
    training = run_folder(0, LAST_CKPT, *written)
    config = load_config(mini_conf)
    assert find_resumable(tmp_path, config) == (None, training / LAST_CKPT)
    if written == (results.RESULTS_FILE,):
        (training / ENERGY).parent.mkdir()
        (training / ENERGY).touch()  # killed as it was opened
        assert find_resumable(tmp_path, config) == (None, training / LAST_CKPT)
        (training / ENERGY).unlink()
        unmeasured = load_config(mini_conf, ["energy.enabled=false"])
        (training / "config.yaml").write_text(yaml.safe_dump(unmeasured.dump()))
        assert find_resumable(tmp_path, unmeasured) == (training, None)


def test_a_training_killed_before_its_first_checkpoint_is_found(mini_conf, run_folder, tmp_path):
    config = load_config(mini_conf)
    assert find_begun(tmp_path, config) is None
    run_folder(0, LAST_CKPT)
    run_folder(1, record={"stage": "test", REVISION_KEY: REVISION})
    run_folder(2, record={})  # of earlier rules
    assert find_begun(tmp_path, config) is None
    begun = run_folder(3)
    other = load_config(mini_conf, ["training.seed=1"])
    assert find_begun(tmp_path, config) == begun and find_begun(tmp_path, other) is None
    later = run_folder(10)
    (later / "run.yaml").unlink()  # killed between its first two files
    assert find_begun(tmp_path, config) == later
    (later / "run.yaml").write_text("- [")
    assert find_begun(tmp_path, config) == begun


@pytest.fixture
def training(mini_conf, run_folder):
    """A run of `mini_conf` with overrides, after some epochs of two steps."""

    def make(number, *overrides, epochs=2, files=(), record=None):
        record = {REVISION_KEY: REVISION} if record is None else record
        folder = run_folder(number, LAST_CKPT, *files, record=record)
        config = load_config(mini_conf, overrides)
        (folder / "config.yaml").write_text(yaml.safe_dump(config.dump()))
        stored = {"state_dict": SEDTask4(config).state_dict(), "callbacks": {}}
        stored |= {"hyper_parameters": config.dump(), REVISION_KEY: REVISION}
        stored |= {"epoch": epochs - 1, "global_step": 2 * epochs}
        stored["detector"] = detector_spec(config).to_dict()
        torch.save(stored, folder / LAST_CKPT)
        return folder

    return make


LONG = ("training.n_epochs=4", "training.epoch_decay=4")


def test_auto_goes_on_with_more_patience_workers_and_epochs(mini_conf, training, tmp_path):
    folder = training(0, *LONG)
    asked = load_config(
        mini_conf,
        [*LONG, "training.n_epochs=8", "training.early_stop_patience=60", "data.test_folder=new"],
    )
    assert find_resumable(tmp_path, asked) == (None, folder / LAST_CKPT)


def test_auto_prefers_the_same_training_to_a_newer_one_with_other_values(
    mini_conf, training, tmp_path
):
    same, _ = training(0, *LONG), training(1, *LONG, "training.early_stop_patience=60")
    same_but_workers = load_config(mini_conf, [*LONG, "training.num_workers=3"])
    assert find_resumable(tmp_path, same_but_workers) == (None, same / LAST_CKPT)
    finished = training(2, *LONG, files=FINISHED)
    assert find_resumable(tmp_path, same_but_workers) == (finished, None)


def test_auto_starts_anew_where_the_rate_has_begun_to_fall_and_says_so(
    mini_conf, training, tmp_path, capsys
):
    folder = training(0)
    asked = load_config(mini_conf, ["training.n_epochs=8"])
    assert find_resumable(tmp_path, asked) == (None, None)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{folder} cannot be resumed with these values: training.n_epochs: 2 ")
    assert line.endswith("; a new training starts")
    other = load_config(mini_conf, ["training.n_epochs=8", "opt.lr=0.5"])
    assert find_resumable(tmp_path, other) == (None, None)
    assert not capsys.readouterr().out


def test_a_damaged_checkpoint_of_a_run_with_other_values_does_not_stop_auto(
    mini_conf, training, tmp_path, capsys
):
    (training(0, *LONG) / LAST_CKPT).write_bytes(b"")
    asked = load_config(mini_conf, [*LONG, "training.early_stop_patience=60"])
    assert find_resumable(tmp_path, asked) == (None, None)
    told = capsys.readouterr().out
    assert "last.ckpt: an empty file, not a checkpoint" in told and "new training starts" in told


def test_auto_takes_no_run_with_other_values_from_a_process_that_runs_it(
    mini_conf, training, tmp_path, monkeypatch
):
    training(0, *LONG)
    asked = [*LONG, "training.early_stop_patience=60"]
    monkeypatch.setattr(run_claims, "holder_of", lambda folder: "process 1")
    monkeypatch.setattr(resume, "holder_of", lambda folder: "process 1")
    assert find_resumable(tmp_path, load_config(mini_conf, asked)) == (None, None)
    with pytest.raises(run_claims.RunInUseError, match="process 1 runs this configuration"):
        find_resumable(tmp_path, load_config(mini_conf, [*LONG, "training.num_workers=3"]))


@pytest.mark.parametrize(
    "record",
    [
        {REVISION_KEY: REVISION, "fast_dev_run": True},
        {REVISION_KEY: REVISION, "command": "train_pretrained.py --fast_dev_run"},
    ],
)
def test_auto_tells_quick_checks_from_trainings(mini_conf, training, tmp_path, record):
    fast, config = training(0, record=record), load_config(mini_conf)
    assert find_resumable(tmp_path, config) == (None, None)
    assert find_resumable(tmp_path, config, fast_dev_run=True) == (None, fast / LAST_CKPT)
    (fast / LAST_CKPT).unlink()
    assert find_begun(tmp_path, config) is None
    assert find_begun(tmp_path, config, fast_dev_run=True) == fast


def test_auto_tells_trainings_by_the_weights_that_they_started_from(mini_conf, training, tmp_path):
    plain, tuned = training(0), training(1)
    config = load_config(mini_conf)
    tree = config.dump()
    tree["initial_weights"] = {"checkpoint": "a.ckpt", "checkpoint_sha256": "ab" * 32}
    (tuned / "config.yaml").write_text(yaml.safe_dump(tree))
    assert find_resumable(tmp_path, config) == (None, plain / LAST_CKPT)
    tree["initial_weights"]["checkpoint"] = "moved.ckpt"
    assert find_resumable(tmp_path, check_config(tree, "")) == (None, tuned / LAST_CKPT)
    tree["initial_weights"]["checkpoint_sha256"] = "cd" * 32
    assert find_resumable(tmp_path, check_config(tree, "")) == (None, None)


def test_where_a_training_goes_on(mini_conf, training, tmp_path):
    folder, config = training(0, *LONG), load_config(mini_conf, LONG)
    patient = load_config(mini_conf, [*LONG, "training.early_stop_patience=60"])
    last, other = folder / LAST_CKPT, tmp_path / "other"

    def place(config, checkpoint=last, log_dir=tmp_path, *, elsewhere=False):
        found = check_resumable(checkpoint, config)
        return resumed_run(checkpoint, found, log_dir, elsewhere=elsewhere)

    assert place(config) == place(patient) == place(config, log_dir=other) == folder
    assert place(config, elsewhere=True) == folder
    assert place(config, log_dir=other, elsewhere=True) is None
    # The results of a finished run are kept, unless its training would be the same.
    for name in FINISHED:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("anything")
    assert place(config) == folder and place(patient) is None
    copy = tmp_path / "copied.ckpt"
    copy.write_bytes(last.read_bytes())
    assert place(config, copy) is None


def test_what_a_training_takes_along_to_a_new_folder(mini_conf, training, tmp_path):
    last = training(0) / LAST_CKPT
    content = torch.load(last, weights_only=True)
    content["callbacks"]["ModelCheckpoint{...}"] = {
        "monitor": "val/obj_metric",
        "best_model_path": "/where/it/was/epoch=1-step=4.ckpt",
    }
    torch.save(content, last)
    found = check_resumable(last, load_config(mini_conf))
    with pytest.raises(InputError, match=r"epoch=1-step=4.ckpt, is not beside it; copy it there"):
        best_beside(last, found.content)
    best = last.with_name("epoch=1-step=4.ckpt")
    best.write_text("best")
    new = tmp_path / "other" / "version_0"
    assert take_along(last, found, new) == new / LAST_CKPT
    assert (new / "checkpoints" / best.name).read_text() == "best"
    assert (new / LAST_CKPT).read_bytes() == last.read_bytes()
    assert best.is_file() and last.is_file()


@pytest.mark.parametrize("finished", [False, True])
def test_a_training_under_earlier_rules_is_left_alone_with_a_line(
    mini_conf, run_folder, tmp_path, capsys, finished
):
    run_folder(3, LAST_CKPT, record={})
    old = run_folder(
        4, LAST_CKPT, *[results.RESULTS_FILE] * finished, record={REVISION_KEY: REVISION - 1}
    )
    assert find_resumable(tmp_path, load_config(mini_conf)) == (None, None)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{old} and 1 more: trained under earlier rules")
    assert "docs/method.md" in line
    training = run_folder(5, LAST_CKPT)
    assert find_resumable(tmp_path, load_config(mini_conf)) == (None, training / LAST_CKPT)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("record", ["nonsense: [", "- 1", "stage: fit", "[]"])
def test_a_run_whose_record_cannot_be_read_counts_as_an_old_one(
    mini_conf, run_folder, tmp_path, capsys, record
):
    folder = run_folder(0, LAST_CKPT)
    (folder / "run.yaml").write_text(record)
    assert find_resumable(tmp_path, load_config(mini_conf)) == (None, None)
    assert "earlier rules" in capsys.readouterr().out


def test_a_damaged_checkpoint_is_refused_by_auto_too(mini_conf, run_folder, tmp_path):
    run_folder(0, LAST_CKPT)
    with pytest.raises(InputError, match=r"last\.ckpt: an empty file, not a checkpoint"):
        run.fit(load_config(mini_conf), run.RunOptions(str(tmp_path)), resume_from="auto")


@pytest.mark.parametrize("below", ["", "exp/deep"])
def test_a_log_dir_that_cannot_be_is_refused_before_anything_is_read(mini_conf, tmp_path, below):
    (tmp_path / "file").touch()
    options = run.RunOptions(str(tmp_path / "file" / below))
    config = load_config(mini_conf, ["data.test_folder=nowhere"])
    with pytest.raises(InputError, match=r"--log_dir .*file is not a folder; give another folder"):
        run.fit(config, options)


def test_a_log_dir_without_rights_is_refused(mini_conf, tmp_path, monkeypatch):
    # Root may write everywhere, so the system's answer is given for it.
    monkeypatch.setattr(run_claims.os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match=r"--log_dir .*: .* may not be written to"):
        run.fit(load_config(mini_conf), run.RunOptions(str(tmp_path / "exp")))
    assert not (tmp_path / "exp").exists()


@pytest.fixture
def checkpoint(mini_conf, tmp_path):
    """Writes a checkpoint of `mini_conf` that holds what is given besides."""

    def make(**more):
        config = load_config(mini_conf)
        content = {
            "state_dict": SEDTask4(config).state_dict(),
            "hyper_parameters": config.dump(),
            "detector": detector_spec(config).to_dict(),
            **more,
        }
        torch.save(content, tmp_path / "last.ckpt")
        return tmp_path / "last.ckpt"

    return make


def test_a_checkpoint_under_the_same_rules_is_resumed(mini_conf, checkpoint):
    check_resumable(checkpoint(**{REVISION_KEY: REVISION}), load_config(mini_conf))


@pytest.mark.parametrize("more", [{}, {REVISION_KEY: 1}, {REVISION_KEY: "two"}])
def test_a_checkpoint_under_earlier_rules_is_refused_with_what_changed(mini_conf, checkpoint, more):
    with pytest.raises(InputError) as refused:
        check_resumable(checkpoint(**more), load_config(mini_conf))
    text = str(refused.value)
    assert "trained under earlier rules (training revision 1, now 2)" in text
    assert "run.yaml" in text
    for change in CHANGES[2]:
        assert change in text


def test_a_checkpoint_under_newer_rules_is_refused(mini_conf, checkpoint):
    with pytest.raises(InputError, match=r"newer rules .*update this code"):
        check_resumable(checkpoint(**{REVISION_KEY: REVISION + 1}), load_config(mini_conf))


def test_each_revision_says_what_it_changed():
    assert set(CHANGES) == set(range(2, REVISION + 1))
    assert revision.changes_since(1) == list(CHANGES[2])
    assert revision.changes_since(REVISION) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.batch_size=[1,1,1,1,1]", r"training\.batch_size: .* in the checkpoint, \[1, 1,"),
        ("training.seed=7", r"training\.seed: \d+ in the checkpoint, 7 here"),
        ("scaler.normtype=mean", r"scaler\.normtype: 'minmax' in the checkpoint, 'mean' here"),
        ("opt.lr=0.5", r"opt\.lr: .* in the checkpoint, 0\.5 here"),
        ("feats.f_min=50.0", r"feats\.f_min: .* in the checkpoint, 50\.0 here"),
        ("net.dropout=0.7", r"net\.dropout: .* in the checkpoint, 0\.7 here"),
    ],
)
def test_a_value_of_any_section_that_decides_the_training_is_held_to(
    mini_conf, checkpoint, override, message
):
    path = checkpoint(**{REVISION_KEY: REVISION})
    with pytest.raises(InputError, match=message):
        check_resumable(path, load_config(mini_conf, [override]))


def test_every_generator_goes_on_where_it_was():
    def draw() -> tuple[float, float, float]:
        return torch.rand(()).item(), float(np.random.random()), random.random()

    saved = RandomStates()
    state = saved.state_dict()
    expected = [draw() for _ in range(3)]
    resumed = RandomStates()
    resumed.load_state_dict(state)
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    before = draw()
    # Not when the state is loaded: what happens up to the start of training may draw.
    resumed.on_train_start(None, None)
    found = [draw() for _ in range(3)]
    assert found == expected
    assert not set(before) & set(found[0])
    # A second training in this process, not resumed, keeps its own states.
    torch.manual_seed(98)
    after = torch.get_rng_state()
    resumed.on_train_start(None, None)
    assert torch.equal(torch.get_rng_state(), after)


def test_all_refused_values_are_in_one_message_with_the_ways_out(mini_conf, checkpoint):
    path = checkpoint(**{REVISION_KEY: REVISION, "epoch": 1, "global_step": 4})
    changed = ["opt.lr=0.5", "training.n_epochs=8", "training.num_workers=3", "net.dropout=0.7"]
    with pytest.raises(InputError) as refused:
        check_resumable(path, load_config(mini_conf, changed), fast_dev_run=True)
    text = str(refused.value)
    assert f"--init_from_checkpoint {path}" in text and "with these values of its own" in text
    for line in ("opt.lr: 0.002 in", "training.n_epochs: 2 in", "net.dropout: 0.1 in"):
        assert f"  - {line} the checkpoint, " in text
    assert "--fast_dev_run: without it in the checkpoint, with it here" in text
    assert "num_workers" not in text


def test_paths_of_the_data_count_among_the_accepted_changes(mini_conf, checkpoint):
    path = checkpoint(**{REVISION_KEY: REVISION})
    config = load_config(mini_conf, ["data.weak_tsv=here.tsv", "scaler.savepath=x.ckpt"])
    lines = check_resumable(path, config).changes.accepted
    assert [line.partition(":")[0] for line in lines] == ["scaler.savepath", "data.weak_tsv"]
    assert lines[1].endswith("weak.tsv' -> 'here.tsv'")
