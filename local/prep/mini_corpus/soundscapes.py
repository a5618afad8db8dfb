"""Plan and render soundscapes: events over background noise, in two domains.

A plan gives each sound's time and level; it is cheap, and tables are written from it. A clip
depends on its plan alone, so clips can be rendered in any order by any number of processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from desed_task.audio.files import write_wav
from local.prep.mini_corpus.sounds import render
from local.prep.mini_corpus.synthesis import (
    Rng,
    Spectrum,
    Wave,
    add_spectra,
    noise,
    room,
    tone,
    uniform,
    wander,
)

SOUNDSCAPE_RATE = 44100


class PlannedEvent(NamedTuple):
    """One sound of a plan; `listed`: whether it is in the table."""

    label: str
    onset_s: float
    offset_s: float
    snr_db: float
    listed: bool = True


@dataclass(frozen=True)
class Domain:
    """The acoustics of one kind of recording.

    Attributes:
        backgrounds: spectra of the noise; one is drawn per clip.
        snr_db: mean and standard deviation of an event's level over the noise.
        hard: share of events drawn between -3 and 3 dB instead.
        stretch: bounds of the events' playing speed.
        wet: bounds of a room's level; both 0 for clips without a room.
        tilt_db: a microphone's largest gain or loss at either end of the spectrum.
        bystander: probability of a sound that no table lists.
    """

    backgrounds: tuple[Spectrum, ...]
    snr_db: tuple[float, float]
    hard: float
    stretch: tuple[float, float]
    wet: tuple[float, float] = (0.0, 0.0)
    tilt_db: float = 0.0
    bystander: float = 0.0


PINK: Spectrum = ((30, 0), (16000, -27))
HOUSE: Spectrum = ((40, 0), (200, -6), (1000, -16), (8000, -30))
HISS: Spectrum = ((40, -6), (300, -10), (2000, -12), (12000, -16))
ROAD: Spectrum = ((40, 0), (400, -8), (1200, -12), (5000, -34))
SYNTHETIC = Domain((PINK, HOUSE), (16.0, 5.0), 0.10, (0.97, 1.03))
REAL = Domain((PINK, HOUSE, HISS, ROAD), (16.0, 5.0), 0.10, (0.95, 1.06), (0.05, 0.4), 4.0, 0.15)
_SNR_BOUNDS_DB = (-3.0, 26.0)
_HARD_DB = (-3.0, 3.0)


class _RecordingSetup(NamedTuple):
    """Room and microphone of one clip, drawn from its domain."""

    wet: float
    decay_s: float
    microphone: Spectrum
    background: Spectrum
    hum: float


@dataclass(frozen=True)
class SoundscapePlan:
    """The plan that one file is rendered from.

    Attributes:
        seed: seed of the file's own generator.
        duration_s: length of the file.
        channels: 1 or 2.
        domain: its acoustics; None for digital silence.
        events: sorted by onset.
    """

    seed: tuple[int, ...]
    duration_s: float
    channels: int
    domain: Domain | None
    events: tuple[PlannedEvent, ...]


def draw_snr_db(rng: Rng, domain: Domain) -> float:
    """Draw a level over the background in dB."""
    if rng.random() < domain.hard:
        return round(uniform(rng, _HARD_DB), 1)
    return round(float(np.clip(rng.normal(*domain.snr_db), *_SNR_BOUNDS_DB)), 1)


def place_event(
    rng: Rng,
    taken: Sequence[PlannedEvent],
    label: str,
    duration_s: float,
    clip_s: float,
    gap_s: float,
) -> tuple[float, float] | None:
    """Draw onset and offset (whole ms) apart from other events of the class; None if full."""
    duration_s = min(duration_s, clip_s)
    for _ in range(12):
        onset_s = round(uniform(rng, (0, clip_s - duration_s)), 3)
        offset_s = round(min(onset_s + duration_s, clip_s), 3)
        if all(
            event.label != label
            or offset_s + gap_s < event.onset_s
            or event.offset_s + gap_s < onset_s
            for event in taken
        ):
            return onset_s, offset_s
    return None


def render_clip(plan: SoundscapePlan, sample_rate: int = SOUNDSCAPE_RATE) -> npt.NDArray[np.int16]:
    """Render a plan as (sample,) or (sample, channel), 16 bits."""
    n = round(plan.duration_s * sample_rate)
    if plan.domain is None:
        return np.zeros((n, plan.channels)[: plan.channels], dtype=np.int16)
    rng = np.random.default_rng(plan.seed)
    mix = _events(rng, plan, plan.domain, n, sample_rate)
    setup = _draw_setup(rng, plan.domain)
    for channel in range(plan.channels):
        if setup.wet:
            mix[channel] = room(
                rng, mix[channel], sample_rate,
                decay_s=setup.decay_s, wet=setup.wet, corners=setup.microphone,
            )  # fmt: skip
        mix[channel] += _background(rng, setup, n, sample_rate)
    peak = max(float(np.abs(mix).max()), 1e-9)
    samples = np.rint(mix * (uniform(rng, (8000, 30000)) / peak)).astype(np.int16)
    return samples[0] if plan.channels == 1 else samples.T.copy()


def write_clip(path: Path, plan: SoundscapePlan) -> None:
    """Render a plan into a WAV file, written atomically."""
    write_wav(path, render_clip(plan), SOUNDSCAPE_RATE, "PCM_16")


def _events(rng: Rng, plan: SoundscapePlan, domain: Domain, n: int, sample_rate: int) -> Wave:
    """Render the plan's events (channel, sample), each panned at random."""
    mix = np.zeros((plan.channels, n), dtype=np.float32)
    for event in plan.events:
        wave = render(
            event.label, rng, event.offset_s - event.onset_s, sample_rate,
            stretch=uniform(rng, domain.stretch),
        )  # fmt: skip
        first = round(event.onset_s * sample_rate)
        wave = wave[: n - first] * np.float32(10 ** (event.snr_db / 20))
        side = uniform(rng, (-0.4, 0.4)) if plan.channels == 2 else 0.0
        gain = np.array([[1 - side], [1 + side]], dtype=np.float32)[: plan.channels]
        mix[:, first : first + len(wave)] += gain * wave
    return mix


def _draw_setup(rng: Rng, domain: Domain) -> _RecordingSetup:
    tilt_db = (-domain.tilt_db, domain.tilt_db)
    microphone = ((80.0, uniform(rng, tilt_db)), (800.0, 0.0), (7000.0, uniform(rng, tilt_db)))
    return _RecordingSetup(
        wet=uniform(rng, domain.wet),
        decay_s=uniform(rng, (0.15, 0.6)),
        microphone=microphone,
        background=domain.backgrounds[rng.integers(len(domain.backgrounds))],
        hum=0.5 if domain.bystander and rng.random() < 0.2 else 0.0,
    )


def _background(rng: Rng, setup: _RecordingSetup, n: int, sample_rate: int) -> Wave:
    """Noise (sample,) of about unit RMS that wanders a little, at times with mains hum."""
    wave = noise(rng, n, sample_rate, add_spectra(setup.background, setup.microphone))
    wave *= wander(rng, n, sample_rate, rate_hz=0.5, bounds=(0.75, 1.25))
    if setup.hum:
        wave += np.float32(setup.hum) * tone(100.0, n, sample_rate)
    return wave
