"""Work in threads ahead of its user, and the cores that a process may use."""

from __future__ import annotations

import io
import os
import sys
import threading
import time

import pytest

from desed_task import parallel
from desed_task.errors import InputError
from desed_task.parallel import (
    available_cores,
    cpu_quota,
    progress_of,
    thread_map,
    track,
)


def test_results_come_in_the_items_order():
    def slow_first(i):
        time.sleep(0.02 if i == 0 else 0)
        return i * i

    results = thread_map(slow_first, range(5), jobs=3, desc="squares", progress=False)
    assert list(results) == [0, 1, 4, 9, 16]


def test_items_are_worked_on_side_by_side():
    both = threading.Barrier(2, timeout=5)
    assert len(list(thread_map(lambda _: both.wait(), "ab", jobs=2, desc="", progress=False))) == 2


def test_a_fault_ends_the_queue():
    seen = []

    def work(i):
        seen.append(i)
        time.sleep(0.01)
        if i == 1:
            raise KeyError(i)

    with pytest.raises(KeyError):
        list(thread_map(work, range(100), jobs=1, desc="", progress=False))
    assert len(seen) < 100


def test_the_bar_counts_the_items(capsys):
    list(thread_map(str, range(7), jobs=1, desc="folder", progress=True, unit="clip"))
    assert "folder" in (bar := capsys.readouterr().err)
    assert "7/7" in bar
    assert "clip" in bar


class Terminal(io.StringIO):
    """Standard error on a terminal."""

    def isatty(self):
        return True


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert list(track("abc", "letters", 3, unit="letter")) == ["a", "b", "c"]
    assert "\r" in terminal.getvalue() and "letters: 100%" in terminal.getvalue()


@pytest.fixture
def clock(monkeypatch):
    """Time that passes when told so."""

    class Clock:
        now_s = 0.0

        def monotonic(self):
            return self.now_s

    monkeypatch.setattr(parallel, "time", clock := Clock())
    return clock


@pytest.mark.parametrize(
    ("step_s", "lines"),
    [
        # Quick work: only the last line.
        (0.01, ["clips: 100/100 batches (100 %), 00:01"]),
        # Each tenth.
        (0.5, [f"clips: {n}/100 batches ({n} %), 00:{n // 2:02d}" for n in range(10, 101, 10)]),
        # Each half minute.
        (15.0, [f"clips: {n}/100 batches ({n} %), {n // 4:02d}:{n % 4 * 15:02d}"
                for n in range(2, 101, 2)]),
    ],
)  # fmt: skip
def test_a_file_gets_lines_now_and_then(clock, capsys, step_s, lines):
    with progress_of("clips", 100, unit="batch") as bar:
        for _ in range(100):
            clock.now_s += step_s
            bar.update()
    assert capsys.readouterr().err.splitlines() == lines


def test_lines_of_unknown_totals_bytes_and_what_was_there_before(clock, capsys):
    with progress_of("download", None, unit="B", scaled=True, initial=2e6) as bar:
        clock.now_s += 31
        bar.update(500_000)
        bar.set_postfix(failed=2)
        bar.write("retried")
        bar.update(1e9)
        bar.set_description("archive")
    told = ["download: 2.50M B, 00:31", "retried", "archive: 1.00G B, 00:31, failed=2"]
    assert capsys.readouterr().err.splitlines() == told


def test_no_line_of_nothing(capsys):
    with progress_of("a", 3, initial=3), progress_of("b", 2, shown=False) as hidden:
        hidden.update(2)
    assert list(track("ab", "short", 2, leave=False)) == ["a", "b"]
    with pytest.raises(KeyError), progress_of("c", 3):
        raise KeyError
    assert capsys.readouterr().err == ""


def test_no_thread_at_all_is_refused():
    with pytest.raises(InputError, match="--jobs 0"):
        list(thread_map(str, range(3), jobs=0, desc="", progress=False))


def test_processors_are_counted():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
    quota = cpu_quota()
    assert quota is None or available_cores() <= max(1, quota)


@pytest.mark.parametrize(("quota", "cores"), [(None, 8), (64.0, 8), (4.0, 4), (1.9, 1), (0.2, 1)])
def test_a_quota_bounds_the_cores_and_its_fraction_is_left_over(quota, cores, monkeypatch):
    monkeypatch.setattr(parallel, "affine_cores", lambda: 8)
    monkeypatch.setattr(parallel, "cpu_quota", lambda: quota)
    assert available_cores() == cores


V1, V2 = "cgroup cgroup rw,{}", "cgroup2 cgroup2 rw,nsdelegate"


@pytest.mark.parametrize(
    ("groups", "root", "kind", "files", "quota"),
    [
        # Version 2: the group itself, one around it, the container's own view, no limit.
        ("0::/a/b", "/", V2, {"a/b/cpu.max": "250000 100000"}, 2.5),
        ("0::/a/b", "/", V2, {"a/cpu.max": "100000 50000", "a/b/cpu.max": "max 100000"}, 2.0),
        ("0::/a/b", "/", V2, {"a/cpu.max": "400000 100000", "a/b/cpu.max": "9 1"}, 4.0),
        ("0::/", "/", V2, {"cpu.max": "400000 100000"}, 4.0),
        ("0::/docker/f00", "/docker/f00", V2, {"cpu.max": "300000 100000"}, 3.0),
        ("0::/docker/f00/x", "/docker/f00", V2, {"x/cpu.max": "300000 100000"}, 3.0),
        ("0::/../other", "/", V2, {"cpu.max": "300000 100000"}, 3.0),
        ("0::/a", "/", V2, {"a/cpu.max": "max 100000"}, None),
        ("0::/a", "/", V2, {"a/cpu.max": "nonsense", "cpu.max": "200000 0"}, None),
        ("0::/a", "/", V2, {"b/cpu.max": "100000 100000"}, None),
        # Version 1: the hierarchy of the cpu controller alone counts; -1 is no limit.
        ("3:cpu,cpuacct:/a\n0::/", "/", V1.format("cpu,cpuacct"), {"a": (150000, 100000)}, 1.5),
        ("3:cpu:/a/b", "/", V1.format("cpu"), {"a": (200000, 100000), "a/b": (-1, 100000)}, 2.0),
        ("3:cpu:/a", "/", V1.format("cpu"), {"a": (-1, 100000)}, None),
        ("4:memory:/a\n3:cpu:/", "/", V1.format("memory"), {"a": (150000, 100000)}, None),
        ("no groups", "/", V2, {"cpu.max": "100000 100000"}, None),
    ],
)
def test_quotas_of_control_groups(groups, root, kind, files, quota, tmp_path):
    mount = tmp_path / "control groups"
    for name, content in files.items():
        names = (
            {
                f"{name}/cpu.cfs_{n}_us": str(v)
                for n, v in zip(("quota", "period"), content, strict=True)
            }
            if (isinstance(content, tuple))
            else {name: content}
        )
        for path, text in names.items():
            (mount / path).parent.mkdir(parents=True, exist_ok=True)
            (mount / path).write_text(f"{text}\n")
    process = tmp_path / "self"
    process.mkdir()
    (process / "cgroup").write_text(f"{groups}\n")
    shown = str(mount).replace(" ", "\\040")
    lines = [
        "21 1 0:5 / / rw - ext4 /dev/root rw",
        f"30 21 0:9 {root} {shown} rw shared:3 - {kind}",
    ]
    (process / "mountinfo").write_text("\n".join([*lines, "short", ""]))
    assert cpu_quota(process) == quota


def test_a_system_without_control_groups_has_no_quota(tmp_path):
    assert cpu_quota(tmp_path / "missing") is None
