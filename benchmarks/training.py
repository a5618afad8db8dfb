"""Time real trainings with `local.run`: an epoch by its parts, and a check of the projection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from benchmarks.bench import Bench, Row, Work, row_of
from benchmarks.macs import network_macs
from benchmarks.made import Made, Sizes, batch_rows
from benchmarks.timing import Stopwatch, Timing
from local import run as recipe
from local.cli.devices import CPU, Device
from local.config import RecipeConfig, check_config
from local.sed_trainer_pretrained import SEDTask4


class Real(NamedTuple):
    """Seconds and amounts of work of a real training; 0 for parts that it did not reach."""

    n_epochs: int
    n_steps: int  # of an epoch
    validation_clips: int
    devtest_clips: int
    training_s: float
    validation_s: float
    devtest_s: float
    whole_s: float
    stopped: str = ""  # the missing package that ended it


@dataclass
class Phases(Callback):
    """Time the phases of a trainer.

    Attributes:
        watch: the clock.
        each_step: whether to synchronise the device after each step, to time single steps; without
            it, device and host run asynchronously as in any training.
    """

    watch: Stopwatch
    each_step: bool = False
    moments: dict[str, list[float]] = field(default_factory=dict)

    def _note(self, moment: str) -> None:
        self.moments.setdefault(moment, []).append(self.watch.now())

    def spans(self, begin: str, end: str) -> list[float]:
        """Seconds from each `begin` to the `end` of the same number."""
        pairs = zip(self.moments.get(begin, []), self.moments.get(end, []), strict=False)
        return [after - before for before, after in pairs]

    def on_train_epoch_start(self, *_: Any) -> None:
        """Record the start of an epoch."""
        self._note("epoch begins")

    def on_train_batch_start(self, *_: Any) -> None:
        """Record the start of a step."""
        if self.each_step:
            self._note("step begins")

    def on_train_batch_end(
        self, trainer: pl.Trainer, _: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the end of a step; the last one ends the epoch, before its validation."""
        if self.each_step:
            self._note("step ends")
        if batch_idx + 1 == trainer.num_training_batches:
            self._note("epoch ends")

    def on_validation_start(self, *_: Any) -> None:
        """Record the start of a validation."""
        self._note("validation begins")

    def on_validation_end(self, *_: Any) -> None:
        """Record the end of a validation, including metrics."""
        self._note("validation ends")

    def on_test_start(self, *_: Any) -> None:
        """Record the start of the dev-test."""
        self._note("test begins")

    def on_test_end(self, *_: Any) -> None:
        """Record the end of the dev-test, including metrics, figures and tables."""
        self._note("test ends")


def run(bench: Bench) -> None:
    """Add rows of a step and of the wait for its batch, in a short real training."""
    if bench.wants("epoch") and not bench.late("epoch"):
        with bench.skipping("epoch"):
            _run(bench)


def _run(bench: Bench) -> None:
    phases = Phases(bench.watch, each_step=True)
    before = bench.machine.sample()
    real = train(bench, "epoch", phases)
    peaks = (before, bench.machine.sample())
    quotas = batch_rows(bench.config)
    network = SEDTask4(bench.config).sed_student
    macs = 4 * sum(quotas) * network_macs(network, bench.config, bench.made.n_tokens)
    steps = phases.spans("step begins", "step ends")[1:]
    ends, begins = phases.moments["step ends"], phases.moments["step begins"]
    # A gap includes the loading of a batch; those between epochs also include a validation.
    within = [number for number in range(1, len(begins)) if number % real.n_steps]
    gaps = [begins[number] - ends[number - 1] for number in within]
    n_clips = sum(quotas)
    if steps:
        bench.keep(row_of("epoch/step", Work(n_clips, macs), Timing.of(steps), peaks))
    if gaps:
        n_bytes = n_clips * _row_bytes(bench)
        work = Work(n_clips, n_bytes=n_bytes)
        bench.keep(row_of("epoch/wait", work, Timing.of(gaps), peaks))
    for name, seconds, clips in (
        ("epoch/validation", real.validation_s, real.validation_clips),
        ("epoch/devtest", real.devtest_s, real.devtest_clips),
    ):
        work = Work(clips, 2 * clips * macs // (4 * n_clips))
        row = row_of(name, work, Timing(seconds, 0.0, seconds, 1), peaks) if seconds else None
        bench.keep(row or Row(name, skipped=real.stopped))


def _row_bytes(bench: Bench) -> int:
    """Bytes of a clip's audio and embeddings, written once."""
    data = bench.config.data
    # Packed sets store pooled embeddings if the network only pools them.
    pooled = bench.options.packed and bench.config.net.aggregation_type == "pool1d"
    n_values = bench.config.net.embedding_size * (
        bench.grid.n_frames if pooled else bench.made.n_tokens
    )
    return 4 * (round(data.audio_max_len * data.fs) + n_values)


def train(bench: Bench, name: str, phases: Phases) -> Real:
    """Train, validate once at the end and test, by `local.run.fit`.

    Args:
        bench: gives sizes and device.
        name: name of the folder.
        phases: records the times.
    """
    options = bench.options
    quotas = batch_rows(bench.config)
    sizes = Sizes.of_steps(options.n_steps, quotas, options.share)
    made = Made(bench.config, sizes, bench.folder / "trained_on")
    made.make()
    config = short(bench, made.config)
    counted = _Counts()
    start = bench.watch.now()
    run_options = recipe.RunOptions(str(bench.folder / f"{name}_runs"), _device(bench))
    stopped = ""
    try:
        recipe.fit(config, run_options, callbacks=[phases, counted])
    except ModuleNotFoundError as error:
        stopped = str(error)
    whole = bench.watch.now() - start
    epochs = phases.spans("epoch begins", "epoch ends")
    if not epochs:
        raise ModuleNotFoundError(stopped)
    return Real(
        options.n_epochs,
        counted.n_steps,
        counted.validation_clips,
        counted.devtest_clips,
        sum(epochs),
        sum(phases.spans("validation begins", "validation ends")),
        sum(phases.spans("test begins", "test ends")),
        whole,
        stopped,
    )


class _Counts(Callback):
    """Return the amounts of work of a run."""

    n_steps = validation_clips = devtest_clips = 0

    def on_train_start(self, trainer: pl.Trainer, _: Any) -> None:
        self.n_steps = int(trainer.num_training_batches)

    def on_validation_start(self, trainer: pl.Trainer, _: Any) -> None:
        self.validation_clips = _n_clips(trainer.val_dataloaders)

    def on_test_start(self, trainer: pl.Trainer, _: Any) -> None:
        self.devtest_clips = _n_clips(trainer.test_dataloaders)


def _n_clips(loader: Any) -> int:
    return len(loader.dataset)


def short(bench: Bench, config: RecipeConfig) -> RecipeConfig:
    """Build a configuration with few epochs, one validation and the given data."""
    tree = config.dump()
    tree["training"].update(
        n_epochs=bench.options.n_epochs,
        n_epochs_warmup=1,
        epoch_decay=1,
        validation_interval=bench.options.n_epochs,
    )
    if bench.options.packed:
        tree["data"]["packed_dir"] = str(bench.folder / "packed_runs")
    if bench.device.type == "cuda":
        tree["training"]["num_workers"] = bench.config.training.num_workers
    return check_config(tree, "benchmarks")


def _device(bench: Bench) -> Device:
    if bench.device.type == "cpu":
        return CPU
    return Device("gpu", [bench.device.index or 0], "")


def confirm(bench: Bench) -> Real | None:
    """Run a real training without timing inside epochs; None if it cannot run."""
    if not bench.late("confirm"):
        with bench.skipping("confirm"):
            return train(bench, "confirm", Phases(bench.watch))
    return None
