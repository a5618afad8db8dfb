"""The section `augment`: augmentations of the winning recipe, all off by default."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

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
    """Folder of mono impulse responses (WAV, its subfolders too)."""
    gain_db: NonNegativeFloat = 0.0
    """Largest gain of a clip in dB, up or down."""
    shift_std: NonNegativeFloat = 0.0
    """Standard deviation of the circular shift of a clip, as a share of its length."""
    time_mask_prob: float = Probability
    """A step masks one span of frames of the rows with strong labels that are not soft."""
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
    """A step gives clips some of the loudness of other clips' bands (freq-mixstyle)."""
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

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Augment:
        bounds = {
            "time_mask_min and time_mask_max": (self.time_mask_min, self.time_mask_max),
            "filter_db": self.filter_db,
            "filter_bands": self.filter_bands,
        }
        wrong = [
            f"{name} ({low:g} and {high:g}): the first is more than the second; exchange them"
            for name, (low, high) in bounds.items()
            if low > high
        ]
        if self.device_prob and self.device_dir is None:
            wrong.append(
                f"device_prob ({self.device_prob:g}) needs impulse responses; give device_dir "
                "their folder"
            )
        if wrong:
            raise ValueError("; ".join(wrong))
        if self.device_dir is not None and not self.device_prob:
            warnings.warn(
                f"augment.device_dir: {self.device_dir} is not read, as augment.device_prob is 0; "
                "give it a probability, or leave it out",
                UserWarning,
                stacklevel=2,
            )
        return self

    @property
    def of_waveforms(self) -> tuple[str, ...]:
        """Keys of those that are on and change waveforms."""
        return tuple(key for key in _OF_WAVEFORMS if getattr(self, key))

    @property
    def used(self) -> tuple[str, ...]:
        """Names of those that are on, in the order in which a step applies them."""
        return tuple(name for key, name in NAMES.items() if getattr(self, key))

    @property
    def is_on(self) -> bool:
        """Whether anything is augmented."""
        return bool(self.used)

    def problems(
        self, *, mixes: bool, runs_encoders: bool, reads_embeddings: str | None, n_mels: int
    ) -> Iterator[str]:
        """What does not go with the other sections.

        Args:
            mixes: whether `training.mixup` is on.
            runs_encoders: whether encoders run in the step.
            reads_embeddings: kind of the embeddings that were extracted beforehand, or None.
            n_mels: bands of the log-mel spectrogram.
        """
        if self.mixup_prob and mixes:
            yield (
                f"augment.mixup_prob ({self.mixup_prob:g}): training.mixup mixes already; set "
                "training.mixup: null"
            )
        if reads_embeddings is not None:
            for key in self.of_waveforms:
                yield (
                    f"augment.{key} ({getattr(self, key):g}): changes waveforms, and embeddings "
                    "were extracted from the files as they are; set pretrained.e2e: true or "
                    "net.use_embeddings: false, or turn it off"
                )
        if self.warp_prob and not runs_encoders:
            yield (
                f"augment.warp_prob ({self.warp_prob:g}): warps what encoders are given in a "
                "step; set pretrained.e2e: true, or turn it off"
            )
        if self.time_mask_prob and reads_embeddings == "global":
            yield (
                f"augment.time_mask_prob ({self.time_mask_prob:g}): global embeddings contain "
                "what is masked; set net.embedding_type: frame or pretrained.e2e: true, or turn "
                "it off"
            )
        most = self.filter_bands[1] * self.filter_min_bins
        if self.filter_prob and most > n_mels:
            yield (
                f"augment.filter_bands ({self.filter_bands[1]} at most) of augment.filter_min_bins "
                f"({self.filter_min_bins}) need {most} mel bands, feats.n_mels is {n_mels}; lower "
                "one of the two"
            )


_OF_WAVEFORMS = ("wavmix_prob", "device_prob", "gain_db")
# Key that turns one on -> its name.
NAMES = {
    "wavmix_prob": "wavmix",
    "device_prob": "device impulse responses",
    "gain_db": "gain",
    "shift_std": "frame shift",
    "time_mask_prob": "time mask",
    "mixup_prob": "mixup",
    "mixstyle_prob": "freq-mixstyle",
    "warp_prob": "frequency warp",
    "filter_prob": "FilterAugment",
}
