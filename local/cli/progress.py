"""What a person sees of training: a moving bar on a terminal, a line an epoch in a log."""

from __future__ import annotations

import sys
import time

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, TQDMProgressBar

# Batches between two looks at the logged values, for which a GPU has to be waited for.
REFRESH_EVERY = 10


def progress_bar() -> ProgressBar:
    """A bar where the output is a terminal, otherwise (a file, a cluster's log) `EpochLines`."""
    return TQDMProgressBar(refresh_rate=REFRESH_EVERY) if sys.stdout.isatty() else EpochLines()


class EpochLines(ProgressBar):
    """Prints a line after each epoch: its batches, seconds and the values that a bar would show.

    Validation's values stand only behind the epochs that it followed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._started_s = 0.0

    def disable(self) -> None:
        """Print nothing; Lightning calls it in all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Print again."""
        self._enabled = True

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the time."""
        self._started_s = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the line; the seconds are with validation where there was one."""
        if not self._enabled:
            return
        seconds = time.monotonic() - self._started_s
        validated = (trainer.current_epoch + 1) % trainer.check_val_every_n_epoch == 0
        shown = "".join(
            f", {name} {value:.4f}"
            for name, value in trainer.progress_bar_metrics.items()
            if validated or not name.startswith("val/")
        )
        print(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: "
            f"{self.total_train_batches} batches in {seconds:.1f} s{shown}",
            flush=True,
        )
