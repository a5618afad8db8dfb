"""Signals to a command that has started several processes."""

from __future__ import annotations

import argparse
import signal
from types import SimpleNamespace
from typing import Any

import pytest
from torch.distributed.launcher.api import LaunchConfig

from local.processes import launch, strategy


def test_signals_that_are_ignored_are_not_handled(monkeypatch):
    name = "signals_to_handle"
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run below nohup
    try:
        assert launch._signals(LaunchConfig) == {name: "SIGTERM,SIGINT,SIGHUP,SIGQUIT"}
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as below nohup
        assert launch._signals(LaunchConfig) == {name: "SIGTERM,SIGINT,SIGQUIT"}
    finally:
        signal.signal(signal.SIGHUP, before)
    assert launch._signals(lambda nproc_per_node: None) == {}  # an earlier PyTorch


def trainer_of(rank: int, size: int) -> Any:
    """As much of a trainer as knows of signals."""
    return SimpleNamespace(
        world_size=size,
        is_global_zero=rank == 0,
        received_sigterm=False,
        strategy=SimpleNamespace(stopping=False),
        _signal_connector=SimpleNamespace(received_sigterm=False, _sigterm_notifier_fn=None),
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(_broadcast_sigterm_tensor=None)),
    )


@pytest.mark.parametrize(("rank", "at_once"), [(0, True), (1, False)])
def test_at_sigterm_the_first_process_ends_first(rank, at_once, monkeypatch):
    timers = []

    class Timer:
        def __init__(self, after_s: float, action: Any) -> None:
            self.after_s, self.action = after_s, action

        def start(self) -> None:
            timers.append(self)

    monkeypatch.setattr(strategy.threading, "Timer", Timer)
    trainer = trainer_of(rank, 3)
    strategy.end_after_first(trainer)
    assert trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor() is None
    assert not strategy.is_stopping(trainer)
    trainer._signal_connector._sigterm_notifier_fn(signal.SIGTERM, None)
    assert strategy.is_stopping(trainer)
    assert trainer._signal_connector.received_sigterm == at_once
    for timer in timers:
        assert timer.after_s > 0
        timer.action()
    assert trainer._signal_connector.received_sigterm


def test_lightning_has_what_is_replaced():
    """Under other names, processes would wait for each other at SIGTERM, and for the GPU."""
    from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
    from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector

    assert callable(_SignalConnector._sigterm_notifier_fn)
    assert callable(_TrainingEpochLoop._broadcast_sigterm_tensor)


def test_a_single_process_is_left_as_it_is():
    trainer = trainer_of(0, 1)
    strategy.end_after_first(trainer)
    assert trainer._signal_connector._sigterm_notifier_fn is None


@pytest.mark.parametrize(
    ("codes", "status", "told"),
    [
        ({1: 130, 0: 75}, 130, "process 2 of 3 was stopped, so the other 2 ended, too; run the"),
        ({1: 130, 0: 130}, 130, ""),
        ({0: 130, 1: 75}, 130, ""),
        ({2: -9, 0: 75}, 137, "process 3 of 3 was ended by SIGKILL (perhaps for lack of memory)"),
        ({1: 2, 0: 75}, 2, ""),
    ],
)
def test_what_ended_a_process_that_could_not_say_so_is_told(codes, status, told, capsys):
    failures = {
        rank: SimpleNamespace(exitcode=code, timestamp=at)
        for at, (rank, code) in enumerate(codes.items())
    }
    assert launch._status_of(failures, 3, argparse.Namespace()) == status
    found = capsys.readouterr().err
    assert told in found if told else not found
