"""Work in threads ahead of its user, and metrics computed in other processes."""

from __future__ import annotations

import os
import threading
import time

import pytest

from desed_task.errors import InputError
from desed_task.parallel import available_cores, thread_map


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


def test_no_thread_at_all_is_refused():
    with pytest.raises(InputError, match="--jobs 0"):
        list(thread_map(str, range(3), jobs=0, desc="", progress=False))


def test_processors_are_counted():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
