"""A scorer: waveforms of one length to frame scores, and what a detector needs to know of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from desed_task.atomic_files import sha256_of
from desed_task.labels import FrameGrid


class Scorer(ABC):
    """A network with all that lies before it, in eval mode on a device.

    Attributes:
        classes: labels in the order of the scores.
        grid: frames of a window, with its length and sample rate.
        device: where it computes.
        median_filter: lengths in frames, one per class, if no other ones are given.
        decoder: plain settings of the decoder (`DecoderSettings.to_plain`), if no others are given.
        role: "student" or "teacher"; "" for a network that is neither.
        path: file that it was loaded from; "" for others.
    """

    classes: tuple[str, ...]
    grid: FrameGrid
    device: torch.device
    median_filter: tuple[int, ...]
    decoder: Mapping[str, Any]
    role: str = ""
    path: str = ""

    @abstractmethod
    def scores(self, waveform: Tensor) -> Tensor:
        """Scores (window, frame, class) in [0, 1] of windows (window, sample) on `device`."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is, in words."""

    @property
    def mel_settings(self) -> dict[str, Any]:
        """Arguments of `desed_task.features.LogMel` for pictures of recordings."""
        return {}

    @property
    def name(self) -> str:
        """For messages: its file, or what it is."""
        return self.path or self.title

    def described(self) -> dict[str, str]:
        """File, network and SHA-256 of the file, for files of results."""
        found = {"checkpoint": self.path, "model": self.role, "detector": self.title}
        found["sha256"] = sha256_of(self.path) if self.path else ""
        return {key: value for key, value in found.items() if value}
