"""Work in threads ahead of its user, and metrics computed in other processes."""

from __future__ import annotations

import io
import math
import operator
import os
import signal
import sys
import threading
import time

import pytest

from desed_task import parallel
from desed_task.errors import InputError
from desed_task.parallel import EvaluationPool, available_cores, progress_of, thread_map, track


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


def killed(parent: int) -> int:
    """Ends the process it runs in, unless that is the one that asked."""
    if os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    return 7


@pytest.mark.parametrize("n_processes", [0, 1, 2])
def test_results_come_back_whatever_the_order(n_processes):
    with EvaluationPool(n_processes) as pool:
        results = [pool.start(math.pow, base, 2.0) for base in range(5)]
        assert [result() for result in reversed(results)] == [16.0, 9.0, 4.0, 1.0, 0.0]


def test_it_is_another_process_from_two_on():
    with EvaluationPool(2) as pool:
        assert pool.start(os.getpid)() != os.getpid()
    with EvaluationPool(1) as pool:
        assert pool.start(os.getpid)() == os.getpid()


@pytest.mark.parametrize("n_processes", [0, 2])
def test_errors_reach_the_one_who_asked(n_processes):
    with EvaluationPool(n_processes) as pool:
        result = pool.start(operator.truediv, 1, 0)
        with pytest.raises(ZeroDivisionError):
            result()


def test_a_killed_process_costs_time_only():
    with EvaluationPool(2) as pool:
        first = pool.start(killed, os.getpid())
        assert first() == 7
        assert pool.start(math.sqrt, 9.0)() == 3.0


def test_processors_are_counted():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
