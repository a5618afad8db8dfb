"""Flags of plans: those that contradict, the command that goes on, devices."""

from __future__ import annotations

import argparse
from types import SimpleNamespace

import pytest

import train_pretrained
from desed_task.errors import InputError
from local.plan.devices import slots_for
from local.plan.flags import check_plan_flags, words_again


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


def test_the_command_that_goes_on_has_the_flags_that_matter():
    words = ("--plan", "a b.yaml", "--dry_run", "--threads", "2", "--set", "net.dropout=0.1")
    check_plan_flags(parsed(*words))
    told = words_again(parsed(*words))
    assert told.endswith(" --plan 'a b.yaml' --threads 2 --set net.dropout=0.1")


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
