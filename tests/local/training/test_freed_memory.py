"""Freed memory is used again; in a process of its own, as the setting is the process's."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, sys
import torch
from local.training.freed_memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory() and keep_freed_memory()
def step():
    for _ in range(4):
        torch.ones(12 << 20)  # 48 MiB each
for _ in range(6):
    step()  # blocks find their places
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults_of_a_step(how: str) -> int:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True
    )
    return int(run.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting")
def test_further_steps_need_no_new_pages():
    assert faults_of_a_step("return") > 10 * faults_of_a_step("keep")


@pytest.mark.parametrize("error", [OSError, TypeError])
def test_another_c_library_is_left_alone(error, monkeypatch):
    from local.training import freed_memory

    def missing(_: None) -> object:
        raise error

    monkeypatch.setattr(freed_memory.ctypes, "CDLL", missing)
    assert not freed_memory.keep_freed_memory()
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda _: object())
    assert not freed_memory.keep_freed_memory()
