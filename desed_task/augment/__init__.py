"""Augmentation on the device, each a pure function of its tensors and a generator.

Random numbers come from a CPU generator that is passed in, so that a seed gives the same masks on
every device; only the few numbers of a draw are copied to the device. If several processes share a
batch, each draws the numbers of all rows and uses those of its own (`BatchShare`).
"""

from desed_task.augment.batch_mixup import Draw, Labels, Mixup, MixupDraw, draw_mixup
from desed_task.augment.rows import WHOLE_BATCH, BatchShare
from desed_task.augment.runs import RunScope, zero_runs

__all__ = [
    "WHOLE_BATCH",
    "BatchShare",
    "Draw",
    "Labels",
    "Mixup",
    "MixupDraw",
    "RunScope",
    "draw_mixup",
    "zero_runs",
]
