"""Project a training and an extraction on several GPUs, on paper, from measured parts.

    python -m benchmarks.scaling        # the tables of docs/scaling.md

Nothing is timed here: times of one GPU are those of docs/speed.md, bytes follow from the network,
and links have the assumed bandwidth and latency below.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import NamedTuple

from torch import nn

from benchmarks.step import STEPS
from desed_task.errors import count_of
from desed_task.nnet.CRNN import CRNN
from local.config import RecipeConfig, load_config
from local.stores.size import with_embedding_size

# docs/speed.md, On a GPU: one H200, published network, batches of 60 clips.
CLIPS = 60
STEP_S = 0.056  # with Lightning, packed sets on the GPU, 3 ms of waiting included
# Share of the float32 GEMM rate in a step of 51 ms: so long the arithmetic alone takes.
ARITHMETIC_S = 0.19 * 0.051
EXTRACTION_S = 0.0049  # per clip, reading and writing included
# Assumptions about links between GPUs: 200 Gbit/s, and the time of a message between two.
BANDWIDTH = 25e9  # bytes per second
LATENCY_S = 20e-6
GPUS_PER_MACHINE = 8
CONFIG = Path(__file__).parents[1] / "confs" / "pretrained.yaml"

_FLOAT_BYTES = 4
AUDIO_S, RATE, TOKENS, POOLED_TOKENS = 10, 16000, 496, 156
PACKED_BYTES = _FLOAT_BYTES * (AUDIO_S * RATE + 768 * POOLED_TOKENS)
EXTRACTED_BYTES = _FLOAT_BYTES * (AUDIO_S * RATE + 768 * TOKENS)


class Messages(NamedTuple):
    """What the processes of a training add up in a step.

    Attributes:
        parameters: of the student.
        gradient_bytes: its gradient.
        norm_layers: batch norm layers of a network.
        norm_bytes: their sums: forward of student and teacher, backward of the student.
    """

    parameters: int
    gradient_bytes: int
    norm_layers: int
    norm_bytes: int

    def seconds(self, n_gpus: int) -> float:
        """Time of all of them one after the other, without overlap with the computation."""
        if n_gpus == 1:
            return 0.0
        n_norms = 3 * self.norm_layers
        norms = n_norms * all_reduce_s(self.norm_bytes / n_norms, n_gpus)
        return all_reduce_s(self.gradient_bytes, n_gpus) + norms


class Training(NamedTuple):
    """A projected training step.

    Attributes:
        n_gpus: number of GPUs.
        scope: `training.batch_scope`.
        clips: clips per step, of all GPUs.
        sums_s: time of the messages.
        step_s: time of the whole step.
    """

    n_gpus: int
    scope: str
    clips: int
    sums_s: float
    step_s: float

    @property
    def clips_per_s(self) -> float:
        """Throughput of all GPUs."""
        return self.clips / self.step_s

    @property
    def epoch_s(self) -> float:
        """Time of as many clips as a published epoch has."""
        return STEPS * CLIPS / self.clips_per_s

    @property
    def loading(self) -> float:
        """Bytes per second that a machine reads from packed sets."""
        return self.clips_per_s * PACKED_BYTES / math.ceil(self.n_gpus / GPUS_PER_MACHINE)


def all_reduce_s(n_bytes: float, n_gpus: int) -> float:
    """Time of a sum over GPUs: by a ring or by a tree, whichever is faster for its length."""
    ring = 2 * (n_gpus - 1) * (LATENCY_S + n_bytes / n_gpus / BANDWIDTH)
    tree = 2 * math.log2(n_gpus) * LATENCY_S + 2 * n_bytes / BANDWIDTH
    return min(ring, tree)


def messages_of(config: RecipeConfig) -> Messages:
    """The messages of a step with the network of a configuration."""
    network = CRNN(**with_embedding_size(config).net.model_dump(exclude={"median_filter"}))
    parameters = sum(one.numel() for one in network.parameters())
    channels = [m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    # Two sums per channel; forward with the number of values.
    sums = sum(2 * (2 * n + 1) + 2 * n for n in channels)
    return Messages(parameters, _FLOAT_BYTES * parameters, len(channels), _FLOAT_BYTES * sums)


def training(n_gpus: int, scope: str, messages: Messages) -> Training:
    """Project a training step.

    A step takes as long as its kernels take to start, however few clips it has, until arithmetic
    takes longer.
    """
    each = CLIPS if scope == "process" else math.ceil(CLIPS / n_gpus)
    sums_s = messages.seconds(n_gpus)
    step_s = max(STEP_S, ARITHMETIC_S * each / CLIPS) + sums_s
    return Training(n_gpus, scope, CLIPS * n_gpus if scope == "process" else CLIPS, sums_s, step_s)


def training_table(messages: Messages) -> str:
    """The projected trainings as a table of docs/scaling.md."""
    chosen = ((1, "total"), (8, "total"), (8, "process"), (64, "process"))
    rows = [training(*one, messages) for one in chosen]
    lines = [
        "| GPUs | `batch_scope` | clips per step | sums | step | clips/s | times one GPU | "
        "epoch of 7,080 clips | read per machine |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = row.clips_per_s / rows[0].clips_per_s
        lines.append(
            f"| {row.n_gpus} | {row.scope} | {row.clips:,} | {1000 * row.sums_s:.1f} ms | "
            f"{1000 * row.step_s:.1f} ms | {row.clips_per_s:,.0f} | {ratio:.2f} | "
            f"{row.epoch_s:.2f} s | {row.loading / 1e9:.1f} GB/s |"
        )
    return "\n".join(lines)


def extraction_table() -> str:
    """The projected extraction of 30,000 clips as a table of docs/scaling.md."""
    lines = ["| GPUs | 30,000 clips | read and written |", "|---|---|---|"]
    for n_gpus in (1, 8, 64):
        seconds = 30_000 * EXTRACTION_S / n_gpus
        rate = n_gpus * EXTRACTED_BYTES / EXTRACTION_S
        lines.append(f"| {n_gpus} | {seconds:.1f} s | {rate / 1e9:.1f} GB/s |")
    return "\n".join(lines)


def facts(messages: Messages) -> str:
    """The bytes of a step, as a sentence of docs/scaling.md."""
    return (
        f"{messages.parameters:,} parameters are {messages.gradient_bytes / 1e6:.2f} MB of "
        f"gradients; {count_of(messages.norm_layers, 'batch norm layer')} add "
        f"{messages.norm_bytes / 1e3:.1f} kB in {3 * messages.norm_layers} messages"
    )


def main() -> int:
    """Print the tables."""
    messages = messages_of(load_config(CONFIG))
    print(facts(messages), training_table(messages), extraction_table(), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
