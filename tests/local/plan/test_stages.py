"""Commands of stages, stages that cannot begin or had ended, and the lines at the end."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import extract_embeddings
import generate_dcase_task4_2024
import optuna_pretrained
import summarize_runs
import train_pretrained
from desed_task.errors import InputError
from local.config import SHIPPED
from local.plan.folder import DONE_FILE, PlanFolder
from local.plan.reading import PLANS, PlannedStage, RecipePlan, read_plan
from local.plan.running import PlanRun
from local.plan.stages.commands import StageCommand, command_of, on_device
from local.plan.words import closing_lines
from local.tuning.workers.device_slots import DeviceSlot
from tests.local.plan.fake_recipe import calls, write_recipe

SCRIPTS = (
    *(extract_embeddings, generate_dcase_task4_2024, optuna_pretrained, summarize_runs),
    train_pretrained,
)
CPU, GPU = DeviceSlot(0, None, 1), DeviceSlot(0, "7", 1)


def plan_of(folder: Path, stages: str) -> RecipePlan:
    path = folder / "plan.yaml"
    other = "{model: beats, checkpoint: other.pt}"
    head = f"encoders: {{beats: {{}}, other: {other}, atst: {{model: atst_frame}}}}"
    path.write_text(f"{head}\nstages:\n{stages}", encoding="utf-8")
    return read_plan(path)


def commands_of(plan: RecipePlan, folder: Path) -> dict[str, StageCommand]:
    """The command of each stage, as if those before it had run."""
    folders = {name: folder / name for name in plan.stages}
    for name in folders:
        (folders[name] / "version_0").mkdir(parents=True)
    checkpoints = {name: of / "best.ckpt" for name, of in folders.items()}

    def command(name: str, stage: PlannedStage) -> StageCommand:
        return command_of(stage, folders[name], folders, checkpoints)

    return {name: command(name, stage) for name, stage in plan.stages.items()}


@pytest.mark.parametrize("name", PLANS)
def test_scripts_take_the_commands_of_supplied_plans(name, tmp_path):
    parsers = {f"{one.__name__}.py": one.parse_args for one in SCRIPTS}
    for command in commands_of(read_plan(SHIPPED / name), tmp_path).values():
        parsers[command.script]([*command.arguments])
        asked = parsers[command.script]([*on_device(command, GPU).arguments])
        if command.script == "train_pretrained.py":
            assert asked.gpus == "1"
        if command.script == "extract_embeddings.py":
            assert asked.use_gpu is True
        assert on_device(command, CPU) == command


def test_tests_read_the_embeddings_of_their_trainings(tmp_path):
    plan = plan_of(
        tmp_path,
        """
  tested: {kind: test, checkpoints: a}
  tuned: {kind: tune_boxes, checkpoints: a}
  both: {kind: test, checkpoints: [a, c]}
  holds: {kind: test, checkpoints: e}
  usual: {kind: test, checkpoints: b}
  a: {kind: train, encoder: other}
  b: {kind: train, encoder: beats}
  c: {kind: train, encoder: atst}
  e: {kind: train, encoder: other, set: {pretrained.e2e: true}}
""",
    )
    encoders = {
        name: [(one.name, Path(one.file).name) for one in stage.config.pretrained.encoders]
        for name, stage in plan.stages.items()
    }
    assert encoders["tested"] == encoders["tuned"] == [("beats", "other.pt")]
    assert encoders["both"] == [("beats", "other.pt"), encoders["c"][0]]
    # Checkpoints of trainings that ran their encoders contain them.
    assert encoders["holds"] == encoders["usual"] == encoders["b"]
    given = {name for name, stage in plan.stages.items() if stage.takes_embeddings}
    assert given == {"tested", "tuned", "both", "usual"}


def test_stages_that_could_not_run_are_refused_first(tmp_path):
    with pytest.raises(InputError) as refused:
        plan_of(
            tmp_path,
            """
  a: {kind: train, encoder: other}
  b: {kind: train, encoder: beats}
  c: {kind: train, encoder: atst}
  both: {kind: test, checkpoints: [a, b, c]}
  tuned: {kind: tune_boxes, checkpoints: a, space: confs/optuan.yaml}
""",
        )
    told = str(refused.value)
    assert "stages.both.checkpoints: a and b take embeddings of beats with other weights" in told
    assert "stages.tuned.space: confs/optuan.yaml: no such configuration file" in told


def with_fakes(folder: Path, stages: str) -> tuple[RecipePlan, Path]:
    """A plan of stand-ins, and their folder."""
    base = folder / "base"
    path = write_recipe(base)
    path.write_text(f"encoders: {{beats: {{}}}}\nstages:\n{stages}", encoding="utf-8")
    return read_plan(path), base


def test_a_stage_that_cannot_begin_fails_alone(tmp_path, monkeypatch):
    plan, base = with_fakes(
        tmp_path,
        """
  broken: {kind: train, encoder: beats}
  whole: {kind: train, encoder: beats, set: {opt.lr: 0.5}}
  after: {kind: test, checkpoints: broken}
""",
    )
    monkeypatch.setenv("FAKE_BASE", str(base))
    folder = PlanFolder(base / "plan", plan)
    begin = folder.begin

    def refuse(stage, *rest):
        if stage.name == "broken":
            raise InputError("disk full; make room")
        return begin(stage, *rest)

    monkeypatch.setattr(folder, "begin", refuse)
    told: list[str] = []
    one = PlanRun(folder, [CPU], "again", base / "scripts", told.append)
    assert not one.run()
    assert calls(base) == ["whole"] and list(one.done) == ["whole"]
    (failed,) = one.failed
    assert (failed.name, failed.reason, failed.place) == ("broken", "disk full; make room", "")
    assert one.left_out() == {"after": ["broken"]}
    assert "broken cannot begin: disk full; make room" in told


def test_a_test_that_had_ended_is_not_repeated(tmp_path, monkeypatch):
    stages = "  a: {kind: train, encoder: beats}\n  b: {kind: test, checkpoints: a}\n"
    plan, base = with_fakes(tmp_path, stages)
    monkeypatch.setenv("FAKE_BASE", str(base))
    folder, told = PlanFolder(base / "plan", plan), []

    def run() -> bool:
        return PlanRun(folder, [CPU], "again", base / "scripts", told.append).run()

    assert run()
    (done,) = (base / "plan" / "b").glob(f"*/{DONE_FILE}")
    done.unlink()  # killed before it was written
    assert run()
    assert calls(base) == ["a", "b"] and done.is_file()
    assert "[2/2] b (test) had ended when the plan was stopped" in told
    # One that had not ended begins again, in the same folder.
    done.unlink()
    (done.parent / "version_0" / "results.json").unlink()
    assert run()
    assert calls(base) == ["a", "b", "b"]
    assert [path.name for path in done.parent.glob("version_*")] == ["version_0"]


def test_the_lines_at_the_end_hide_nothing(tmp_path):
    run = tmp_path / "version_0"
    (run / "codecarbon").mkdir(parents=True)
    (run / "codecarbon" / "emissions_baseline_training.csv").write_text("energy_consumed\n1\n")
    (run / "codecarbon" / "emissions_baseline_test.csv").write_text("damaged\n1\n")
    metrics = {"test/student/psds1/x": 0.5, "test/student/other/x": 0.25}
    (run / "results.json").write_text(json.dumps({"metrics": metrics}))
    stages = {"a": SimpleNamespace(spec=SimpleNamespace(kind="train"))}
    plan = SimpleNamespace(stages=stages, metrics=("psds1/x", "psds9/x"))
    lines = closing_lines(plan, {"a": SimpleNamespace(folder=tmp_path)})
    assert lines[1:3] == ["student, test  psds1/x", "a                0.500"]
    assert lines[3] == ("metrics: no test has psds9/x; results.json names them, such as psds1/x")
    assert lines[4].startswith(f"energy without that of {run}: {run}/codecarbon/")
    assert "emissions_baseline_test.csv: not a table of codecarbon" in lines[4]
