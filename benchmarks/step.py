"""Time a training step by its parts, on a batch already on the device."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.bench import Bench, Work
from benchmarks.macs import network_macs
from desed_task.batch import SedBatch
from desed_task.mean_teacher import detection_losses, ema_update
from desed_task.nnet.CRNN import Detection
from local.sed_trainer_pretrained import SEDTask4
from local.training.freed_memory import keep_freed_memory
from local.training.trainer import PRECISIONS

NAME = "step"
# Steps of a published epoch.
STEPS = 118
_FLOAT_BYTES = 4
_AUTOCAST = {"bf16": torch.bfloat16, "bf16-mixed": torch.bfloat16, "16": torch.float16}


def run(bench: Bench) -> None:
    """Add rows of the parts, and of the whole step."""
    if not bench.wants(NAME):
        return
    with bench.skipping(NAME):
        _run(bench, Step(bench))


def _run(bench: Bench, step: Step) -> None:
    n_clips = len(step.batch.clip_id)
    forward = n_clips * network_macs(step.module.sed_student, bench.config, bench.made.n_tokens)
    mel_bytes = _FLOAT_BYTES * step.features().numel()
    waveform_bytes = _FLOAT_BYTES * step.batch.waveform.numel()
    parameters = sum(one.numel() for one in step.module.sed_student.parameters())
    # Adam reads and writes value and two moments and reads the gradient; the teacher's two follow.
    optimizer_bytes = 10 * _FLOAT_BYTES * parameters
    features = Work(n_clips, n_bytes=waveform_bytes + mel_bytes)
    bench.time("step/features", features, step.features)
    bench.time("step/student", Work(n_clips, forward), step.student)
    bench.time("step/teacher", Work(n_clips, forward), step.teacher)
    bench.time("step/backward", Work(n_clips, 2 * forward), step.backward, step.loss)
    bench.time("step/optimizer", Work(n_clips, n_bytes=optimizer_bytes), step.optimize)
    bench.time("step/whole", Work(n_clips, 4 * forward), step.whole)


@dataclass
class _Schedule:
    """The trainer's attributes used by `configure_optimizers`, for the published schedule."""

    estimated_stepping_batches: int
    max_epochs: int
    precision: str


def optimizer_of(module: SEDTask4) -> tuple[Any, Any]:
    """Optimizer and schedule of a module, for epochs of the published length."""
    training = module.config.training
    n_steps = STEPS * training.n_epochs
    schedule = _Schedule(n_steps, training.n_epochs, PRECISIONS[str(training.precision)])
    module.trainer = schedule  # type: ignore[assignment]
    made: Any = module.configure_optimizers()
    module.trainer = None
    return made["optimizer"], made["lr_scheduler"]["scheduler"]


class Step:
    """The parts of a step of SEDTask4 and Lightning.

    Lightning's own part, such as logging, is in the rows of real epochs.
    """

    def __init__(self, bench: Bench) -> None:
        torch.manual_seed(0)
        keep_freed_memory()  # as a training does
        self.config = bench.config
        self.device = bench.device
        self.module = SEDTask4(bench.config).to(self.device).train()
        self.optimizer, self.schedule = optimizer_of(self.module)
        self.batch = random_batch(bench)
        self.inputs = self._inputs()

    def _inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return features, embeddings and targets after mixup."""
        module, batch = self.module, self.batch
        mel, embedding, target = module.mel_spec(batch.waveform), batch.embedding, batch.target
        if module.mixup is not None:
            mel, embedding, target = module.mixup(
                mel, embedding, target, batch.source, module.draws
            )
        return module.scaler(module.mel_spec.to_db(mel)), embedding, target

    def features(self) -> Tensor:
        """Compute scaled features from waveforms, with mixup."""
        return self._inputs()[0]

    def student(self) -> Detection:
        """Run the student's forward pass with gradients."""
        return self._forward(self.module.sed_student)

    def teacher(self) -> Detection:
        """Run the teacher's forward pass."""
        with torch.no_grad():
            return self._forward(self.module.sed_teacher)

    def _forward(self, network: nn.Module) -> Detection:
        features, embedding, _ = self.inputs
        with self._autocast():
            found: Detection = network(
                features, embedding, self.batch.known, generator=self.module.draws
            )
        return found

    def _autocast(self) -> AbstractContextManager[Any]:
        kind = _AUTOCAST.get(str(self.config.training.precision))
        return torch.autocast(self.device.type, kind, enabled=kind is not None)

    def loss(self) -> Tensor:
        """Run both forward passes and compute the losses."""
        return detection_losses(
            self.student(),
            self.teacher(),
            self.inputs[2],
            self.batch.known,
            self.batch.source,
            self.config.detection_task.roles,
            weight=1.0,
            self_sup_loss=self.config.training.self_sup_loss,
        ).loss

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients."""
        self.optimizer.zero_grad()
        loss.backward()

    def optimize(self) -> None:
        """Update the teacher, clip gradients and step the optimizer."""
        training, student = self.config.training, self.module.sed_student
        ema_update(student, self.module.sed_teacher, self.schedule.step_num, training.ema_factor)
        if training.gradient_clip:
            nn.utils.clip_grad_norm_(student.parameters(), training.gradient_clip)
        self.optimizer.step()
        self.schedule.step()

    def whole(self) -> None:
        """Run the whole step."""
        self.inputs = self._inputs()
        self.backward(self.loss())
        self.optimize()


def random_batch(bench: Bench) -> SedBatch:
    """Create a training batch of noise on the device, with the configured rows of each set."""
    data, vocabulary = bench.config.data, bench.config.detection_task.vocabulary
    parts = bench.config.detection_task.batch
    drawn = [part.corpora[0] for part in parts]
    known = [vocabulary.mask(corpus.known) for corpus in drawn]
    quotas = torch.tensor([part.rows for part in parts])
    rows = int(quotas.sum())
    generator = torch.Generator().manual_seed(1)
    known_rows = torch.stack([torch.from_numpy(one) for one in known]).repeat_interleave(quotas, 0)
    target = torch.rand(rows, len(vocabulary), bench.grid.n_frames, generator=generator) > 0.9
    shape = (rows, bench.config.net.embedding_size, bench.made.n_tokens)
    n_samples = round(data.audio_max_len * data.fs)
    batch = SedBatch(
        waveform=0.1 * torch.randn(rows, n_samples, generator=generator),
        target=target.float() * known_rows.unsqueeze(-1),
        known=known_rows,
        source=torch.tensor([one.number for one in drawn]).repeat_interleave(quotas),
        embedding=torch.randn(shape, generator=generator),
        clip_id=tuple(map(str, range(rows))),
    )
    tensors = (one.to(bench.device) for one in batch.tensors)
    return SedBatch(*tensors, clip_id=batch.clip_id)
