"""Steps beside busy processes: who takes turns, what is too slow, and that nothing is left."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks import quota, running, thread_loop, thread_processes
from benchmarks.bench import Bench, Options, Row
from benchmarks.quota import QuotaError, cpu_quota_group
from benchmarks.thread_processes import Limits, Loops, Setting, busy_processes
from benchmarks.threads import settings, thread_lines
from local.checkpoints.run_claims import is_alive
from local.cli.threads import SPIN_VARIABLES, THREAD_VARIABLES
from local.config import load_config

ROOT = Path(__file__).parents[2]
FAKE = """
import json, os, sys, time
print(json.dumps({"threads": 1}), flush=True)
for line in sys.stdin:
    time.sleep(60 if os.environ["OMP_NUM_THREADS"] == "9" else 0)
    found = os.getpid(), "GOMP_SPINCOUNT" in os.environ, "--as_found" in sys.argv
    print(json.dumps(found), flush=True)
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A program in place of the one that trains."""
    path = tmp_path / "fake.py"
    path.write_text(FAKE)
    monkeypatch.setattr(thread_processes, "LOOP", (str(path),))
    monkeypatch.setenv("GOMP_SPINCOUNT", "5")
    return path


def test_settings_take_turns_and_a_slow_one_is_not_waited_for_twice(fake):
    used = [
        Setting("one", {"OMP_NUM_THREADS": "1"}),
        Setting("slow", {"OMP_NUM_THREADS": "9"}),
        Setting("default", {"OMP_NUM_THREADS": "2"}, ("GOMP_SPINCOUNT",), as_found=True),
    ]
    begun = time.monotonic()
    with Loops(fake, used, Limits(1, 0.1, 1.0)) as loops:
        for place in ("alone", "beside-1", "beside-1"):
            loops.turns(place)
    assert time.monotonic() - begun < 30
    assert loops.slow == {
        ("alone", "slow"): "more than 1 s for a step",
        ("beside-1", "slow"): "not tried, as it was too slow before",
    }
    pid, *how = loops.times["alone", "one"]
    assert how == [True, False]
    assert loops.times["beside-1", "one"] == [pid, *how] * 2
    assert loops.times["alone", "default"][1:] == [False, True]
    assert not is_alive(pid)


def test_after_an_error_no_process_is_left(fake):
    def fail():
        with (
            busy_processes(1),
            Loops(fake, [Setting("one", {"OMP_NUM_THREADS": "1"})], Limits(1, 0.1, 5.0)) as loops,
        ):
            loops.turns("alone")
            assert len(_children()) == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    fake.write_text("raise SystemExit(3)")
    with pytest.raises(RuntimeError, match="one: the process has ended"):
        Loops(fake, [Setting("one", {})], Limits(1, 0.1, 5.0)).__enter__()
    assert not _children()


def _children():
    """Command lines of the processes that this one has started for these tests."""
    done = subprocess.run(
        ["ps", "-ww", "-o", "args", "--ppid", str(os.getpid())], capture_output=True, text=True
    )
    return [line for line in done.stdout.splitlines() if "-S -c" in line or "fake.py" in line]


def test_each_setting_differs_in_what_it_names():
    found = {setting.name: setting for setting in settings(4)}
    assert {found["one"].variables[name] for name in THREAD_VARIABLES} == {"1"}
    assert {found["default"].variables[name] for name in THREAD_VARIABLES} == {"4"}
    assert set(SPIN_VARIABLES) <= set(found["default"].without) and found["default"].as_found
    assert found["set"].variables == found["default"].variables and not found["set"].without
    assert all(int(found["brief"].variables[name]) > 0 for name in SPIN_VARIABLES)


def test_a_process_runs_steps_until_one_bound_is_reached(tmp_path, monkeypatch, capsys):
    config = running.small(load_config(ROOT / "confs" / "mini.yaml"))
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.dump()))
    monkeypatch.setattr(sys, "stdin", io.StringIO("2 60\n9 0\n1 60\n"))
    monkeypatch.setattr(thread_loop, "WARM_UP", 0)
    thread_loop.main(path, as_commands=True)
    ready, *answers = map(json.loads, capsys.readouterr().out.splitlines())
    assert ready == {"threads": torch.get_num_threads()}
    assert [len(times) for times in answers] == [2, 0, 1]
    assert all(seconds > 0 for times in answers for seconds in times)


def test_nothing_is_timed_without_being_named(tmp_path):
    for only, prefix in ((), "step"), (("metrics",), "metrics"):
        bench = Bench(Options(only=only), *[None] * 4, tmp_path, lambda row: None)
        running.PARTS["threads"](bench)
        assert not bench.rows, prefix


def test_a_control_group_has_the_quota_and_is_removed():
    code = "from desed_task.parallel import available_cores, cpu_quota; print(cpu_quota())"
    try:
        with cpu_quota_group(1.5) as enter:
            command = [*enter, sys.executable, "-c", code]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except QuotaError as error:
        pytest.skip(str(error))
    assert done.stdout == "1.5\n", done.stderr
    left = [mount.glob(f"benchmarks-{os.getpid()}") for mount, _ in quota._HIERARCHIES]
    assert not any(map(list, left))


def test_where_no_group_can_be_made_there_is_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(
        quota, "_HIERARCHIES", ((tmp_path / "none", ("cpu.max",)), (tmp_path, ("cpu.max",)))
    )
    with pytest.raises(QuotaError, match="as root"), cpu_quota_group(1.0):
        pass
    assert not list(tmp_path.iterdir())


def test_times_are_set_in_relation():
    rows = [
        Row("threads/mini/alone/one", 2.0),
        Row("threads/mini/alone/set", 3.0),
        Row("threads/mini/alone/default", 4.0),
        Row("threads/mini/beside-1/one", 5.0),
        Row("threads/mini/beside-1/set", 6.0),
        Row("threads/mini/beside-1/default", skipped="more than 20 s for a step"),
        Row("threads/mini/quota-1-of-2", skipped="no control group"),
        Row("step/whole", 1.0),
    ]
    _, *lines = thread_lines(row.dump() for row in rows)
    assert [line.split() for line in lines] == [
        ["mini/alone", "one", "2.000", "1.00", "0.50"],
        ["mini/alone", "set", "3.000", "1.50", "0.75"],
        ["mini/alone", "default", "4.000", "2.00", "1.00"],
        ["mini/beside-1", "one", "5.000", "1.00", "-"],
        ["mini/beside-1", "set", "6.000", "1.20", "-"],
        ["mini/beside-1", "default", *["more", "than", "20", "s", "for", "a", "step"]],
    ]
    assert thread_lines([rows[-1].dump()]) == []
