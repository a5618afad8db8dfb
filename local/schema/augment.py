"""The section `augment`: augmentations of the winning recipe, all off by default."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from local.schema.strict import StrictModel

Probability = Field(default=0.0, ge=0, le=1)


class Augment(StrictModel):
    """Augmentations in the order in which a step applies them; `desed_task.augment` defines them.

    Probabilities of 0 turn one off.
    """

    wavmix_prob: float = Probability
    """Waveforms and labels of a strongly labelled corpus are mixed within it."""
    wavmix_alpha: float = Field(default=0.2, gt=0)
    device_prob: float = Probability
    """A clip is convolved with a device impulse response of `device_dir`."""
    device_dir: str | None = None
    """Folder of mono impulse responses at 16 kHz."""
    gain_db: NonNegativeFloat = 0.0
    """Largest gain of a clip in dB, up or down."""
    shift_std: NonNegativeFloat = 0.0
    """Standard deviation of the circular shift of a clip, as a share of its length."""
    time_mask_prob: float = Probability
    """A step masks one span of frames of the strongly labelled rows."""
    time_mask_min: float = Field(default=0.05, ge=0, le=1)
    time_mask_max: float = Field(default=0.3, ge=0, le=1)
    """Shortest and longest span, as a share of the frames."""
    mixup_prob: float = Probability
    """A step mixes, with a share for each row; instead of `training.mixup`."""
    mixup_alpha: float = Field(default=0.2, gt=0)
    mix_across: bool = False
    """mixup and mixstyle pair rows of all corpora with events with each other, whose known classes
    grow by those that are active in the partner; false: within `mixup_groups` of the task."""
    mixstyle_prob: float = Probability
    mixstyle_alpha: float = Field(default=0.3, gt=0)
    warp_prob: float = Probability
    """A step warps the frequencies of the encoder's input."""
    warp_min: float = Field(default=0.6, gt=0, le=1)
    """Least height of the strip that is stretched, as a share of the bands."""
    filter_prob: float = Probability
    """A step filters (FilterAugment)."""
    filter_type: Literal["linear", "step"] = "linear"
    filter_db: tuple[float, float] = (-6.0, 6.0)
    filter_bands: tuple[PositiveInt, PositiveInt] = (3, 5)
    """Fewest and most bands."""
    filter_min_bins: PositiveInt = 6
    """Least width of a band, mel bins."""
    filter_transforms: Literal[1, 2] = 1
    """2: student and teacher get different filters."""
