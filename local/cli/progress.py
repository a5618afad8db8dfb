"""Training progress: a progress bar on a terminal, one line per epoch in a log."""

from __future__ import annotations

import sys
import time

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, TQDMProgressBar

from desed_task.errors import count_of

# Batches between two updates, each of which waits for the GPU.
REFRESH_EVERY = 10


def progress_bar() -> ProgressBar:
    """A progress bar on a terminal; `EpochLines` if the output is a file or a pipe."""
    return TQDMProgressBar(refresh_rate=REFRESH_EVERY) if sys.stdout.isatty() else EpochLines()


class EpochLines(ProgressBar):
    """Prints a line after each epoch: batches, seconds and the metrics of a progress bar.

    Validation metrics appear only for epochs that were validated.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        # None in an epoch that a resumed training finds at its end.
        self._started_s: float | None = None

    def disable(self) -> None:
        """Stop printing; Lightning calls it in all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Resume printing."""
        self._enabled = True

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the timer."""
        self._started_s = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the line; the time includes validation, and is left out where it is not known."""
        if not self._enabled:
            return
        started_s, self._started_s = self._started_s, None
        seconds = "" if started_s is None else f" in {time.monotonic() - started_s:.1f} s"
        validated = (trainer.current_epoch + 1) % trainer.check_val_every_n_epoch == 0
        shown = "".join(
            f", {name} {value:.4f}"
            for name, value in trainer.progress_bar_metrics.items()
            if validated or not name.startswith("val/")
        )
        print(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: "
            f"{count_of(self.total_train_batches, 'batch', 'batches')}{seconds}{shown}",
            flush=True,
        )
