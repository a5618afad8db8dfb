"""A bar for people who watch, lines for logs; scripts' tests see the lines of a real training."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from pytorch_lightning.callbacks import TQDMProgressBar

from local.cli.progress import EpochLines, progress_bar


@pytest.mark.parametrize(("terminal", "kind"), [(True, TQDMProgressBar), (False, EpochLines)])
def test_a_terminal_gets_a_bar_and_a_log_lines(monkeypatch, terminal, kind):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    assert type(progress_bar()) is kind


def test_only_the_first_process_prints(capsys):
    for is_global_zero, lines in ((True, 1), (False, 0)):
        trainer = SimpleNamespace(
            is_global_zero=is_global_zero,
            current_epoch=4,
            max_epochs=30,
            check_val_every_n_epoch=5,
            num_training_batches=118,
            progress_bar_metrics={"train/student/loss": 0.5, "val/obj_metric": 1.25},
        )
        bar = EpochLines()
        bar.setup(trainer, None, "fit")
        bar.on_train_epoch_start(trainer, None)
        bar.on_train_epoch_end(trainer, None)
        printed = capsys.readouterr().out
        assert printed.count("\n") == lines
        if lines:
            assert printed.startswith("epoch 5/30: 118 batches in ")
            assert printed.endswith(" s, train/student/loss 0.5000, val/obj_metric 1.2500\n")
            trainer.current_epoch += 1
            bar.on_train_epoch_start(trainer, None)
            bar.on_train_epoch_end(trainer, None)
            assert capsys.readouterr().out.endswith(" s, train/student/loss 0.5000\n")
            # Lightning starts no epoch that a resumed training finds at its end.
            trainer.current_epoch += 1
            bar.on_train_epoch_end(trainer, None)
            assert capsys.readouterr().out == "epoch 7/30: 118 batches, train/student/loss 0.5000\n"
