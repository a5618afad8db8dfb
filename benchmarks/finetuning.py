"""Time the step that fine-tunes an encoder, at its published size with random weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from benchmarks.bench import Bench, Work
from benchmarks.encoders import made_up
from benchmarks.macs import network_macs
from benchmarks.step import optimizer_of
from desed_task.encoders.interface import EmbeddingModel
from desed_task.encoders.macs import encoder_macs
from desed_task.errors import count_of
from desed_task.mean_teacher import ema_update
from local.config import RecipeConfig, check_config
from local.sed_trainer_pretrained import SEDTask4
from local.training.finetuning.memory import step_cost
from local.training.finetuning.probe import noise_batch, probe_step

NAME = "finetune"
ENCODERS = ("atst_frame", "beats")
# Rows of a batch of the published second stages, for which a CPU takes two minutes.
PUBLISHED_ROWS, CPU_ROWS = {"atst_frame": 35, "beats": 13}, 2
_KINDS = {"once": False, "twice": True}
_AUTOCAST = {"bf16": torch.bfloat16, "bf16-mixed": torch.bfloat16, "16": torch.float16}


def run(bench: Bench) -> None:
    """Add a row for each encoder, with blocks computed once and twice in a step."""
    for name in ENCODERS:
        for kind, checkpointing in _KINDS.items():
            row = f"{NAME}/{name}/{kind}"
            if bench.wants(row) and not bench.late(row):
                with bench.skipping(row):
                    _run(bench, row, name, checkpointing=checkpointing)


def _run(bench: Bench, row: str, name: str, *, checkpointing: bool) -> None:
    encoder = made_up(name, small=bench.options.quick)
    config = _config_of(bench.config, encoder, checkpointing=checkpointing)
    step = FinetuningStep(config, encoder, bench.device)
    n_rows = len(step.batch.clip_id)
    # A slow call counts though it is the first one, so kernels are compiled before it.
    step.whole()
    own = encoder_macs(encoder, round(config.data.audio_max_len * encoder.sample_rate))
    n_tokens = encoder.n_tokens(round(config.data.audio_max_len * encoder.sample_rate))
    network = network_macs(step.module.sed_student, config, n_tokens)
    # Twice forward, the student's and the teacher's, and twice as much backward; blocks that are
    # computed again are not more work, so that they lower the share.
    bench.time(row, Work(n_rows, 4 * n_rows * (own + network)), step.whole)
    timed = bench.rows[row]
    if not timed.skipped:
        bench.rows[row] = replace(timed, memory=step.memory())


def _config_of(
    config: RecipeConfig, encoder: EmbeddingModel, *, checkpointing: bool
) -> RecipeConfig:
    tree = config.dump()
    tree["pretrained"].update(model=encoder.name, checkpoint=None, n_blocks=None)
    tree["pretrained"].update(e2e=True, freezed=False, gradient_checkpointing=checkpointing)
    tree["net"]["embedding_size"] = encoder.width
    return check_config(tree, NAME)


class FinetuningStep:
    """A step of SEDTask4 with an encoder inside, on noise.

    Args:
        config: of the training.
        encoder: for the student.
        device: where to compute.
    """

    def __init__(self, config: RecipeConfig, encoder: EmbeddingModel, device: torch.device) -> None:
        torch.manual_seed(0)
        self.config, self.device = config, device
        self.module = SEDTask4(config, encoder).to(device)
        self.optimizer, self.schedule = optimizer_of(self.module)
        self.module.lr_schedulers = lambda: self.schedule  # type: ignore[assignment, method-assign]
        self.module.trainer = _Place()  # type: ignore[assignment]
        n_rows = PUBLISHED_ROWS[encoder.name] if device.type == "cuda" else CPU_ROWS
        self.batch = noise_batch(config, device, n_rows)

    def precision(self) -> Any:
        """Context of a forward pass."""
        kind = _AUTOCAST.get(str(self.config.training.precision))
        return torch.autocast(self.device.type, kind, enabled=kind is not None)

    def whole(self) -> None:
        """Both passes, the teacher, clipping and the optimizer."""
        with self.precision():
            loss = self.module.losses_of(self.batch).loss
        self.optimizer.zero_grad()
        factor, step = self.config.training.ema_factor, self.schedule.step_num
        assert self.module.step_encoders is not None
        ema_update(self.module.sed_student, self.module.sed_teacher, step, factor)
        ema_update(*self.module.step_encoders.of_role.values(), step, factor)
        loss.backward()
        trained = [value for group in self.optimizer.param_groups for value in group["params"]]
        torch.nn.utils.clip_grad_norm_(trained, self.config.training.gradient_clip or 1e9)
        self.optimizer.step()
        self.schedule.step()

    def memory(self) -> int:
        """Bytes of a step of these rows, as a training estimates them before it starts."""
        self.optimizer.zero_grad()
        module, encoder = self.module, self.module.encoder_student
        more = self.batch, module.draws, encoder, self.precision
        probed = probe_step(module, module.losses_of, *more)
        cost = step_cost(probed, self.config, module)
        return cost.weights + cost.gradients + cost.moments + probed.kept


class _Place:
    """The trainer's attributes that a step reads."""

    current_epoch = 0
    global_rank = 0


def memory_lines(rows: list[dict[str, Any]]) -> list[str]:
    """One line per row of this part: seconds and gigabytes of a step, share of the GEMM rate."""
    return [
        f"{row['name']}: {count_of(row['clips'], 'row')}: {row['seconds']:.3g} s and "
        f"{row['memory'] / 1e9:.2f} GB per step, {100 * row['share']:.0f} % of the float32 GEMM "
        "rate"
        for row in rows
        if row["name"].startswith(f"{NAME}/") and not row["skipped"]
    ]
