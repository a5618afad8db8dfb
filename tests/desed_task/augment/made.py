"""Small steps for the tests of augmentation."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from desed_task.augment.filters import BandScale
from desed_task.augment.frames import FrameTimes
from desed_task.augment.groups import RowGroups
from desed_task.augment.step import StepInputs
from desed_task.batch import SourceRoles
from desed_task.features import SpectrumLayout, mel_centres_hz

ROLES = SourceRoles(
    n_sources=5,
    strong=(0, 1, 2),
    weak=(3,),
    consistency=(1, 2, 3, 4),
    mixup_groups=((3,), (1, 2), (0,)),
    unlabelled=(4,),
)
# Unequal numbers of rows; of source 0 a single one.
SOURCE = torch.tensor([0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 4])
STRONG = SOURCE < 3
N_MELS, N_FRAMES, N_LABELS, N_CLASSES = 32, 64, 16, 5
LAYOUT = SpectrumLayout(0.05, mel_centres_hz(24, 20.0, 7000.0), 100.0)
TIMES = FrameTimes(4, 62.5, (100.0,))
SCALE = BandScale(N_MELS, 0.0, 8000.0)


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def groups_of(source: Tensor = SOURCE) -> RowGroups:
    return RowGroups.of(source, ROLES.mixup_groups, ROLES.n_sources)


def step_of(source: Tensor = SOURCE) -> StepInputs:
    """Random tensors; weak labels stand in the first frame, soft ones between 0 and 1 occur."""
    draws, n = seeded(5), len(source)
    target = torch.rand(n, N_CLASSES, N_LABELS, generator=draws)
    target = target * (torch.rand(n, N_CLASSES, 1, generator=draws) < 0.4)
    target[source == 4] = 0
    target[source == 3, :, 1:] = 0
    known = torch.arange(N_CLASSES) < (2 + source)[:, None]
    return StepInputs(
        mel=torch.rand(n, N_MELS, N_FRAMES, generator=draws) + 0.01,
        encoder_inputs=(torch.randn(n, 24, 103, generator=draws),),
        embedding=torch.randn(n, 7, 50, generator=draws),
        target=target * known[:, :, None],
        pseudo=torch.rand(n, N_CLASSES, N_LABELS, generator=draws),
        known=known,
    )
