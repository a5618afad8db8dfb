"""Work in other processes: results, errors, and processes that die."""

from __future__ import annotations

import math
import operator
import os
import signal

import pytest

from desed_task.evaluation.aside import Aside, usable_processors


def killed(parent: int) -> int:
    """Ends the process it runs in, unless that is the one that asked."""
    if os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    return 7


@pytest.mark.parametrize("n_processes", [0, 1, 2])
def test_results_come_back_whatever_the_order(n_processes):
    with Aside(n_processes) as aside:
        results = [aside.start(math.pow, base, 2.0) for base in range(5)]
        assert [result() for result in reversed(results)] == [16.0, 9.0, 4.0, 1.0, 0.0]


def test_it_is_another_process_from_two_on():
    with Aside(2) as aside:
        assert aside.start(os.getpid)() != os.getpid()
    with Aside(1) as aside:
        assert aside.start(os.getpid)() == os.getpid()


@pytest.mark.parametrize("n_processes", [0, 2])
def test_errors_reach_the_one_who_asked(n_processes):
    with Aside(n_processes) as aside:
        result = aside.start(operator.truediv, 1, 0)
        with pytest.raises(ZeroDivisionError):
            result()


def test_a_killed_process_costs_time_only():
    with Aside(2) as aside:
        first = aside.start(killed, os.getpid())
        assert first() == 7
        assert aside.start(math.sqrt, 9.0)() == 3.0


def test_processors_are_counted():
    assert 1 <= usable_processors() <= (os.cpu_count() or 1)
