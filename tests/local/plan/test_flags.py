"""Flags of plans: those that contradict, the command that resumes, missing weights, devices."""

from __future__ import annotations

import argparse
from types import SimpleNamespace

import pytest

import train_pretrained
from desed_task.errors import InputError
from local.plan.devices import slots_for
from local.plan.flags import carry_out, check_plan_flags, words_again
from local.plan.folder import PlanFolder
from local.plan.misfits import missing_weights
from local.plan.outline import outline_of
from local.plan.reading import read_plan
from local.tuning.workers.device_slots import DeviceSlot
from tests.markdown_pages import DOCS


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
    assert lines[-4].startswith("not all clips are on disk: where none are, the published numbers")
    assert " of an AMD EPYC from the rates" in lines[-5] and "hours of 9 stages" in lines[-6]


def test_hours_without_clips_are_those_of_the_published_data(tmp_path):
    """Those of docs/winning.md."""
    plan = PlanFolder(tmp_path / "new", read_plan("winning"))
    lines = outline_of(plan, [DeviceSlot(0, "0", 4)])
    hours = {line.split()[1]: line.split()[3] for line in lines if line[:1].isdigit()}
    (table,) = (one for one in DOCS["winning"].tables() if one.head[-1] == "hours")
    first, second, of_beats, total = (row[-1] for row in table.rows)
    for stage, told in (
        *((f"{name}_i{n}_s1", first) for name in ("atst", "fpasst", "beats") for n in (1, 2)),
        *((f"{name}_i{n}_s2", second) for name in ("atst", "fpasst") for n in (1, 2)),
        *((f"beats_i{n}_s2", of_beats) for n in (1, 2)),
    ):
        assert f"{float(hours[stage].removeprefix('~')):.1f}" == told, stage
    (summed,) = (line for line in lines if " stages to run: " in line)
    assert f"about {float(summed.split()[4]):.0f}" == total


def test_of_a_corpus_that_the_plan_makes_no_hours_are_claimed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = PlanFolder(tmp_path / "new", read_plan("mini_winning"))
    lines = outline_of(plan, [DeviceSlot(0, None, 2)])
    assert lines[-2].startswith("16 stages to run: 0.0 GB of disk")
    assert lines[-1].startswith("not known: the hours of 16 stages")


@pytest.mark.parametrize(
    ("gpu", "device"), [(None, "3 threads of an AMD EPYC"), ("0", "an NVIDIA H200")]
)
def test_projected_hours_name_their_device(tmp_path, monkeypatch, gpu, device):
    """With clips on disk, of which only the number counts, here 1,000 of each corpus."""
    monkeypatch.setattr("local.plan.stages.estimates.clip_files", lambda folder: [folder] * 1000)
    plan = PlanFolder(tmp_path / "new", read_plan("winning"))
    *lines, told = outline_of(plan, [DeviceSlot(0, gpu, 3)])
    hours = {line.split()[1]: line.split()[3] for line in lines if line[:1].isdigit()}
    assert told == (
        "hours are those of stages that have run before; those with ~ are projected for "
        f"{device} from the rates of docs/speed.md, without validations and tests, and not "
        "measured on this machine"
    )
    assert hours["beats_i1_s1"].startswith("~") and hours["report"] == "?"
    assert float(hours["beats_i1_s2"][1:]) > float(hours["beats_i1_s1"][1:]) > 0
    assert "not known: the hours of 9 stages" in lines[-1]


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
