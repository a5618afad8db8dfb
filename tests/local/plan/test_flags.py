"""Flags of plans: those that contradict, the command that resumes, missing weights, devices."""

from __future__ import annotations

import argparse
from types import SimpleNamespace

import pytest

import train_pretrained
from desed_task.errors import InputError
from local.plan.devices import slots_for
from local.plan.flags import carry_out, check_plan_flags, words_again
from local.plan.misfits import missing_weights
from local.plan.reading import read_plan


def parsed(*words: str) -> argparse.Namespace:
    return train_pretrained.parse_args([*words])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--dry_run",), "--dry_run belongs to --plan; give that too"),
        (("--plan", "p", "--conf_file", "c"), "--conf_file: of a single training or test"),
        (
            ("--plan", "p", "--resume_from_checkpoint", "auto", "--fast_dev_run"),
            "--resume_from_checkpoint, --fast_dev_run: of a single training or test",
        ),
        (("--plan", "p", "--gpus", "mps"), "--gpus mps: a plan computes on the CPU or NVIDIA's"),
    ],
)
def test_flags_that_contradict(words, told):
    with pytest.raises(InputError) as refused:
        check_plan_flags(parsed(*words))
    assert told in str(refused.value)


def test_the_command_that_resumes_has_the_flags_that_matter():
    words = ("--plan", "a b.yaml", "--dry_run", "--threads", "2", "--set", "net.dropout=0.1")
    check_plan_flags(parsed(*words))
    told = words_again(parsed(*words))
    assert told.endswith(" --plan 'a b.yaml' --threads 2 --set net.dropout=0.1")


def test_missing_weights_are_told_before_anything_runs(tmp_path, monkeypatch, capsys):
    """Of each file the stages, and the command that fetches it; second stages take checkpoints'."""
    monkeypatch.chdir(tmp_path)
    assert carry_out(parsed("--plan", "winning", "--gpus", "0", "--dry_run")) == 0
    lines = capsys.readouterr().out.splitlines()
    with pytest.raises(InputError) as refused:
        carry_out(parsed("--plan", "winning", "--gpus", "0"))
    assert list(tmp_path.iterdir()) == []
    heading, *named, where = str(refused.value).splitlines()
    assert where == f"relative paths are looked up from {tmp_path}"
    assert heading.endswith("winning.yaml lacks weights of encoders:") and len(named) == 3
    named = [one.removeprefix("  - ") for one in named]
    for line, told, name in zip(named, lines[-3:], ("atst_frame", "fpasst", "beats"), strict=True):
        here = line.replace(" weights;", f" weights (looked up from {tmp_path});", 1)
        assert told == f"missing, without which nothing runs: {here}"
        stage = name.removesuffix("_frame")
        assert line.startswith(f"stages {stage}_i1_s1, {stage}_i2_s1: pretrained_models/")
        assert f"--only_encoders {name}_strong, or give" in line
    assert "projected for " in "\n".join(lines) and " of an AMD EPYC from the rates" in lines[-4]


def test_weights_that_a_plan_makes_are_not_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stages = {
        name: (one.spec, one.config) for name, one in read_plan("mini_winning").stages.items()
    }
    assert missing_weights(stages) == []
    del stages["corpus"]
    beats, atst = missing_weights(stages)
    # Trainings that start from those of stored embeddings take the files, too.
    assert beats.startswith("stages beats_embeddings, beats_i1_s2, beats_i2_s2: data/mini/beats")
    assert atst.startswith("stages atst_embeddings, atst_i1_s2, atst_i2_s2: data/mini/atst")


def test_devices(monkeypatch):
    plan = SimpleNamespace(jobs=2, path="plan.yaml")
    monkeypatch.setattr("local.plan.devices.available_cores", lambda: 2)
    monkeypatch.setattr("local.tuning.workers.device_slots.available_cores", lambda: 2)
    nothing, two = {"CUDA_VISIBLE_DEVICES": ""}, {"CUDA_VISIBLE_DEVICES": "4,7"}
    slots = slots_for(plan, parsed("--plan", "p"), nothing)
    assert [(one.gpu, one.threads) for one in slots] == [(None, 1), (None, 1)]
    assert [one.gpu for one in slots_for(plan, parsed("--plan", "p"), two)] == ["4", "7"]
    (cpu,) = slots_for(SimpleNamespace(jobs=1), parsed("--plan", "p", "--gpus", "0"), two)
    assert cpu.gpu is None and cpu.threads == 2
    (cpu,) = slots_for(plan, parsed("--plan", "p", "--devices", "1", "--threads", "3"), nothing)
    assert cpu.threads == 3
    with pytest.raises(InputError, match="jobs is 3, and this machine has 2 usable cores; give"):
        slots_for(SimpleNamespace(jobs=3, path="x"), parsed("--plan", "p"), nothing)
