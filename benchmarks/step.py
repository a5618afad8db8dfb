"""The training step by part, and both networks at inference."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import torch

from benchmarks.groups import Bench
from benchmarks.made_data import CLIP_S, N_FEATURES, N_TOKENS, RATE
from benchmarks.measuring import Row
from desed_task.dataio.batch import SedBatch
from desed_task.mean_teacher import detection_losses, ema_update
from local.classes_dict import CLASSES
from local.datamodule import grid_of
from local.macs import count_macs
from local.sed_trainer_pretrained import SEDTask4

PARTS = ("features", "student forward", "teacher forward", "backward", "optimizer and EMA")
# Of one forward pass; a backward pass takes two.
PASSES = {"student forward": 1, "teacher forward": 1, "backward": 2}


class Step:
    """A training step on one random batch, with a look at the clock between its parts.

    Args:
        bench: says what is measured.
    """

    def __init__(self, bench: Bench) -> None:
        torch.manual_seed(0)
        self.bench = bench
        self.module = SEDTask4(bench.config).to(bench.device)
        self.macs = count_macs(self.module.sed_student, bench.config, CLIP_S).macs
        self.batch = random_batch(bench)
        student = self.module.sed_student
        self.optimizer = torch.optim.Adam(student.parameters(), bench.config.opt.lr, fused=True)
        self.clip = bench.config.training.gradient_clip

    def run(self, passed: Callable[[str], None] = lambda part: None) -> None:
        """One step; `passed` hears of each part that is over."""
        module, batch = self.module, self.batch
        with self.bench.autocast():
            mel, embedding, target = module.mel_spec(batch.waveform), batch.embedding, batch.target
            if module.mixup is not None:
                mixed = module.mixup(mel, embedding, target, batch.source, module.draws)
                mel, embedding, target = mixed
            features = module.scaler(module.mel_spec.to_db(mel))
            passed("features")
            found = module.sed_student(features, embedding, batch.known, generator=module.draws)
            passed("student forward")
            with torch.no_grad():
                shown = module.sed_teacher(features, embedding, batch.known, generator=module.draws)
            passed("teacher forward")
            losses = detection_losses(found, shown, target, batch.known, batch.source, weight=1.0)
        self.optimizer.zero_grad()
        losses.loss.backward()
        passed("backward")
        if self.clip:
            torch.nn.utils.clip_grad_norm_(module.sed_student.parameters(), self.clip)
        self.optimizer.step()
        ema_update(module.sed_student, module.sed_teacher, 1000)
        passed("optimizer and EMA")

    def timed(self) -> dict[str, float]:
        """Seconds of each part of a step."""
        found, clock = {}, [time.perf_counter()]

        def passed(part: str) -> None:
            self.bench.machine.synchronize()
            clock.append(time.perf_counter())
            found[part] = clock[-1] - clock[-2]

        self.run(passed)
        return found


def random_batch(bench: Bench) -> SedBatch:
    """Noise of the published shapes; embeddings pooled as packed sets have them."""
    n_rows, n_frames = bench.sizes.n_rows, grid_of(bench.config).n_frames
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(n_rows, *shape, generator=generator).to(bench.device)

    source = torch.repeat_interleave(torch.arange(5), torch.tensor(bench.sizes.batch))
    return SedBatch(
        waveform=0.1 * noise(int(CLIP_S * RATE)),
        target=(noise(len(CLASSES), n_frames) > 1.5).float(),
        known=torch.ones(n_rows, len(CLASSES), dtype=torch.bool, device=bench.device),
        source=source.to(bench.device),
        embedding=noise(N_FEATURES, n_frames if bench.device.type == "cuda" else N_TOKENS),
        clip_id=tuple(map(str, range(n_rows))),
    )


def rows(bench: Bench) -> Iterator[Row]:
    """Parts of the step, the whole step, and inference."""
    step, machine, n_rows = Step(bench), bench.machine, bench.sizes.n_rows
    unit = f"{n_rows} clips"
    step.timed()
    times, rates = defaultdict(list), []
    for _ in range(bench.repeats):
        rates.append(machine.gemm())
        for part, seconds in step.timed().items():
            times[part].append(seconds)
    for part in PARTS:
        macs = PASSES.get(part, 0) * step.macs * n_rows
        rate = max(rates) if macs else None
        yield machine.made("step", part, unit, times[part], rate, macs=macs)
    total = sum(PASSES.values()) * step.macs * n_rows
    yield machine.row("step", "whole step", unit, step.run, bench.repeats, macs=total)
    both = 2 * step.macs * n_rows
    yield machine.row("step", "inference", unit, lambda: infer(step), bench.repeats, macs=both)


@torch.inference_mode()
def infer(step: Step) -> None:
    """Scores of both networks, as validation and test compute them."""
    module, batch = step.module.eval(), step.batch
    with step.bench.autocast():
        features = module.scaler(module.mel_spec.to_db(module.mel_spec(batch.waveform)))
        for network in module.networks.values():
            found = network(features, batch.embedding, None)
            found.strong.cpu()
    module.train()
