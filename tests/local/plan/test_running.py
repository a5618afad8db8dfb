"""Plans whose scripts are stand-ins: what runs, what is skipped, failures, kills."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from desed_task.errors import InputError
from local.cli.exit_status import StoppedError
from local.plan.folder import PlanFolder
from local.plan.outline import outline_of
from local.plan.reading import RecipePlan, read_plan
from local.plan.running import PlanRun
from local.plan.words import closing_lines
from local.tuning.workers.device_slots import DeviceSlot
from tests.local.plan.fake_recipe import calls, words_of, write_recipe

ALL = ["made", "beats_1", "atst_1", "labels", "beats_2", "boxes", "both", "boxed", "report"]
ONE, TWO = [DeviceSlot(0, None, 1)], [DeviceSlot(0, None, 1), DeviceSlot(1, None, 1)]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RecipePlan]:
    """A folder with stand-ins and a plan; its name has a space and an umlaut."""
    base = tmp_path_factory.mktemp("plan") / "ein Ördner"
    return base, read_plan(write_recipe(base))


@pytest.fixture(scope="module")
def finished(recipe: tuple[Path, RecipePlan], tmp_path_factory) -> Path:
    """The folder of the plan after one uninterrupted run; not to be changed."""
    base, plan = recipe
    with in_folder(base), environment(FAKE_BASE=str(base)):
        told: list[str] = []
        assert run(plan, told)
    assert calls(base) == ALL
    kept = tmp_path_factory.mktemp("finished") / "plan"
    shutil.copytree(base / "plan", kept)
    return kept


@pytest.fixture
def begun(recipe, finished, monkeypatch) -> tuple[Path, RecipePlan]:
    """The recipe with the finished plan in `plan`, and no calls."""
    base, plan = recipe
    shutil.rmtree(base / "plan", ignore_errors=True)
    shutil.copytree(finished, base / "plan")
    for name in ("calls.txt", "fail"):
        (base / name).unlink(missing_ok=True)
    monkeypatch.chdir(base)
    monkeypatch.setenv("FAKE_BASE", str(base))
    return base, plan


class in_folder:
    def __init__(self, path: Path) -> None:
        self.path, self.before = path, Path.cwd()

    def __enter__(self) -> None:
        os.chdir(self.path)

    def __exit__(self, *_: object) -> None:
        os.chdir(self.before)


class environment:
    def __init__(self, **values: str) -> None:
        self.values = values

    def __enter__(self) -> None:
        os.environ.update(self.values)

    def __exit__(self, *_: object) -> None:
        for name in self.values:
            del os.environ[name]


def run(plan: RecipePlan, told: list[str], slots=ONE, path: Path = Path("plan")) -> bool:
    folder = PlanFolder(path, plan)
    with folder.held():
        one = PlanRun(folder, slots, "python again.py", Path("scripts").resolve(), told.append)
        complete = one.run()
        told += closing_lines(plan, one.done)
        told += [f"{failed.name}: {failed.reason}" for failed in one.failed]
        told += [f"{name} needs {', '.join(of)}" for name, of in one.left_out().items()]
    return complete


def changed(plan: RecipePlan, base: Path, old: str, new: str) -> RecipePlan:
    """The plan with other text, which is read again."""
    text = plan.path.read_text(encoding="utf-8")
    assert old in text
    other = base / "other.yaml"
    other.write_text(text.replace(old, new), encoding="utf-8")
    return read_plan(other)


def files_below(folder: Path) -> dict[str, bytes]:
    """What stages have written, without times and what was printed."""
    left_out = {"time.json", "log.txt", "digests.json", ".digests", ".running", ".lock", "progress"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        # What is left of writing digests is removed when they are written next.
        if path.is_file() and not ({path.name, path.name.partition(".tmp")[0]} & left_out)
    }


def test_everything_is_skipped_when_run_again(begun):
    base, plan = begun
    told: list[str] = []
    assert run(plan, told)
    assert calls(base) == []
    assert "9 stages were done before" in told
    # 5 trainings and tests: 3 trainings measure training and test.
    assert "energy of 5 stages that train or test: 2.000000 kWh (codecarbon's estimate)" in told
    table = [line for line in told if line.startswith(("student", "beats_2", "both"))]
    assert table[0].split() == ["student,", "test", "psds1/x"] and len(table) == 3
    report = next(line for line in told if line.startswith("report: "))
    assert (Path(report.removeprefix("report: ")) / "summary.md").is_file()


def test_each_command_is_given_what_it_needs(finished, recipe):
    base, _ = recipe
    stored = {name: next((finished / name).glob("*/done.json")).parent for name in ALL}
    config = yaml.safe_load((stored["beats_2"] / "config.yaml").read_text(encoding="utf-8"))
    labels = Path("plan") / stored["labels"].relative_to(finished) / "labels"
    assert config["training"]["pseudo_labels"] == str(labels)
    assert config["opt"]["lr"] == 5e-5 and config["net"]["dropout"] == 0.5
    assert config["pretrained"]["checkpoint"] == f"{base}/weights.pt"
    logs = {name: (folder / "log.txt").read_text("utf-8") for name, folder in stored.items()}
    first = Path("plan") / stored["beats_1"].relative_to(finished)
    assert f"--init_from_checkpoint {first}/version_0/checkpoints/epoch=0-step=1.ckpt" in logs[
        "beats_2"
    ].replace("'", "")
    assert "--resume_from_checkpoint auto" in logs["beats_1"]
    assert logs["labels"].count("--checkpoint ") == 2
    assert f"--conf_file plan/{stored['boxes'].relative_to(finished)}/best.yaml" in logs["boxed"]
    assert logs["both"].count("epoch=0-step=1.ckpt") == 2
    assert "--set decoder.kind=boxes" in logs["both"]
    assert "--decoder boxes --sweep" in logs["boxes"]
    assert "--against" in logs["report"] and "--resamples 0" in logs["report"]


def test_a_changed_value_runs_a_stage_and_what_depends_on_it_again(begun):
    base, plan = begun
    before = files_below(base / "plan")
    other = changed(plan, base, "net.dropout: 0.3", "net.dropout: 0.4")
    told: list[str] = []
    assert run(other, told)
    # The stage of the other encoder and what only needs it are left alone.
    assert calls(base) == ["atst_1", "labels", "beats_2", "boxes", "both", "boxed", "report"]
    reasons = [line for line in told if " runs again" in line]
    assert "atst_1 (train) runs again" in reasons[0] and "net.dropout is 0.4, was 0.3" in reasons[0]
    assert "checkpoints atst_1 has changed" in reasons[1]
    # Nothing of before is lost, and going back costs nothing.
    assert before.items() <= files_below(base / "plan").items()
    (base / "calls.txt").unlink()
    assert run(plan, told)
    assert calls(base) == []


def test_values_that_compute_nothing_change_nothing(begun):
    base, plan = begun
    other = changed(plan, base, "training.epoch_decay: 90", "training.num_workers: 1")
    free = changed(plan, base, "{training.n_ep", "{training.num_workers: 1, training.n_ep")
    told: list[str] = []
    assert run(free, told)
    assert calls(base) == []
    assert "runs again, as training.epoch_decay" in "\n".join(
        outline_of(PlanFolder(Path("plan"), other), ONE)
    )


def test_inputs_that_have_changed_are_seen(begun):
    base, plan = begun
    best = next((base / "plan" / "atst_1").glob("*/version_0/checkpoints/epoch*.ckpt"))
    best.write_text("another")
    told: list[str] = []
    assert run(plan, told)
    line = next(line for line in told if "atst_1 (train) runs again" in line)
    assert "epoch=0-step=1.ckpt has changed since" in line
    # It was kept, and as it was made again, what depends on it need not be.
    assert best.parents[2].with_name(f"{best.parents[2].name}.before-1").is_dir()
    assert calls(base) == ["atst_1"]
    (base / "weights.pt").write_bytes(b"other weights")
    try:
        assert run(plan, told)
    finally:
        (base / "weights.pt").write_bytes(b"weights")
    assert "beats_1" in calls(base)
    assert any("encoder beats has changed" in line for line in told)


def test_a_plan_is_done_however_its_folder_is_spelled(begun):
    base, plan = begun
    (base / "plan").rename(base / "moved")
    for path in (Path("moved"), base / "moved", Path("..") / base.name / "moved"):
        told: list[str] = []
        assert run(plan, told, path=path)
        assert "9 stages were done before" in told
    # A stage that runs again finds what the others have written.
    shutil.rmtree(base / "moved" / "report")
    assert run(plan, told, path=base / "moved")
    assert calls(base) == ["report"]
    assert words_of(base, "report")[0].startswith(str(base / "moved" / "both"))
    shutil.rmtree(base / "moved")


def test_paths_of_earlier_versions_are_read(begun):
    base, plan = begun
    for path in (base / "plan").glob("*/*/done.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        below = Path("exp/of old").joinpath(*path.parent.parts[-2:])
        files = {str(below / name): digest for name, digest in content["files"].items()}
        content["files"] = files | content.pop("elsewhere")
        path.write_text(json.dumps(content), encoding="utf-8")
    told: list[str] = []
    assert run(plan, told)
    assert "9 stages were done before" in told and calls(base) == []


def test_a_failure_names_its_reason_and_what_waits_for_it(begun):
    base, plan = begun
    shutil.rmtree(base / "plan")
    (base / "fail").write_text("beats_1")
    told: list[str] = []
    assert not run(plan, told)
    # What does not depend on it has run.
    assert calls(base) == ["made", "beats_1", "atst_1"]
    assert "beats_1: beats_1: out of luck; try again" in told
    assert "report needs beats_1" in told and "atst_1 needs beats_1" not in told
    log = next((base / "plan" / "beats_1").glob("*/log.txt"))
    assert f"log: {log.relative_to(base)}" in "\n".join(told)
    (base / "fail").unlink()
    told.clear()
    assert run(plan, told)
    assert any("beats_1 (train) resumes" in line for line in told)
    assert calls(base)[3:] == ["beats_1", *ALL[3:]]


def test_a_stage_that_writes_nothing_has_failed(begun):
    base, plan = begun
    shutil.rmtree(base / "plan" / "boxes")
    (base / "scripts" / "optuna_pretrained.py").rename(base / "kept.py")
    (base / "scripts" / "optuna_pretrained.py").write_text("print('nothing')")
    told: list[str] = []
    try:
        assert not run(plan, told)
    finally:
        (base / "kept.py").rename(base / "scripts" / "optuna_pretrained.py")
    assert any(line.startswith("boxes: has ended without writing plan/boxes/") for line in told)
    assert "boxed needs boxes" in told


def test_stages_of_a_level_run_side_by_side(begun, monkeypatch):
    base, plan = begun
    for name in ("beats_1", "atst_1"):
        shutil.rmtree(base / "plan" / name)
    monkeypatch.setenv("FAKE_STEPS", "2")
    monkeypatch.setenv("FAKE_STEP_S", "0.2")
    told: list[str] = []
    assert run(plan, told, TWO)
    starts = [n for n, line in enumerate(told) if "(train) begins" in line]
    ends = [n for n, line in enumerate(told) if "_1 is done" in line]
    assert len(starts) == len(ends) == 2 and max(starts) < min(ends)


def test_the_outline_says_what_is_done_and_writes_nothing(begun):
    base, plan = begun
    shutil.rmtree(base / "plan" / "labels")
    before = files_below(base / "plan")
    lines = outline_of(PlanFolder(Path("plan"), plan), ONE)
    states = {line.split()[1]: line for line in lines[1:10]}
    assert states["beats_1"].endswith("done") and states["labels"].endswith("runs")
    assert states["beats_2"].endswith("after labels; done before with what these were")
    assert re.match(
        r"6 stages to run: [1-9][\d.]* h of a device and 0\.\d GB of disk, wh", lines[11]
    )
    assert files_below(base / "plan") == before and calls(base) == []
    # Nothing has run there, so hours are projected for the published numbers of clips.
    lines = outline_of(PlanFolder(Path("new"), plan), TWO)
    row = next(line for line in lines if " beats_1 " in line).split()
    assert row[3].startswith("~") and row[4:6] == ["0.06", "GB"]
    (summed,) = (line for line in lines if "stages to run" in line)
    assert " h of a device (2 devices at a time) and " in summed
    assert not (base / "new").exists()


def test_two_plans_in_a_folder_are_refused(begun):
    _, plan = begun
    with PlanFolder(Path("plan"), plan).held(), pytest.raises(InputError) as refused:
        run(plan, [])
    assert "plan: this process runs a plan in this folder; wait until it ends, or give" in str(
        refused.value
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_within_seconds(begun, monkeypatch, number):
    base, plan = begun
    shutil.rmtree(base / "plan" / "report")
    monkeypatch.setenv("FAKE_STEPS", "1")
    monkeypatch.setenv("FAKE_STEP_S", "60")
    timer = threading.Thread(target=_signal_when, args=(base, number))
    timer.start()
    begin = time.monotonic()
    with pytest.raises(StoppedError, match=r"stopped; resume with: python again\.py"):
        run(plan, [])
    timer.join()
    assert time.monotonic() - begin < 10
    assert not alive_in(base)


def _signal_when(base: Path, number: int) -> None:
    while not calls(base):
        time.sleep(0.02)
    os.kill(os.getpid(), number)


def alive_in(base: Path) -> list[str]:
    """Processes that write below a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if str(base / "scripts") in words:
            found.append(words)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_kills_at_any_moment_lose_nothing(begun, monkeypatch):
    """Killed while each stage runs, and at random moments: the files are those of one run."""
    base, plan = begun
    expected = files_below(base / "plan")
    shutil.rmtree(base / "plan")
    monkeypatch.setenv("FAKE_STEPS", "3")
    monkeypatch.setenv("FAKE_STEP_S", "0.03")
    draws = random.Random(20)
    pauses = [0.0, *(draws.uniform(0, 0.25) for _ in range(8))]
    for number, pause in enumerate(pauses):
        # The plan is killed when its next stage has begun, and then a while later.
        n_calls = len(calls(base)) + (number > 0)
        process = os.fork()
        if not process:
            try:
                run(plan, [])
            finally:
                os._exit(0)
        end = time.monotonic() + 90
        while len(calls(base)) < n_calls and os.waitpid(process, os.WNOHANG) == (0, 0):
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(pause)
        try:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        except (ProcessLookupError, ChildProcessError):
            break
    told: list[str] = []
    assert run(plan, told)
    assert files_below(base / "plan") == expected
    assert not alive_in(base)
    done = json.loads(next((base / "plan" / "report").glob("*/done.json")).read_text())
    assert len(done["key"]) == 64
    # None runs, so none says since when; what ended as the plan was killed has a time, too.
    times = [json.loads(p.read_text()) for p in (base / "plan").glob("*/*/time.json")]
    assert len(times) == len(ALL) and all([*one] == ["seconds"] for one in times)
