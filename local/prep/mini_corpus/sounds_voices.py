"""Voices: one speaker, a crowd, children, a loudspeaker announcement.

A voice is a pulse train through moving formants, cut into syllables, with hisses for consonants.
Formants of the vowels after Peterson and Barney, JASA 24 (1952), adult male means.
"""

from __future__ import annotations

import numpy as np

from local.prep.mini_corpus.synthesis import (
    Rng,
    Wave,
    fade,
    formants,
    log_uniform,
    noise,
    pulses,
    room,
    shape,
    strikes,
    uniform,
    unit_rms,
    wander,
)

_VOWELS_HZ = np.array(
    [
        [270, 2290, 3010],
        [390, 1990, 2550],
        [530, 1840, 2480],
        [660, 1720, 2410],
        [730, 1090, 2440],
        [570, 840, 2410],
        [440, 1020, 2240],
        [300, 870, 2240],
    ]
)
_CHIME = np.array([1.0, 2.0, 3.0])


def voice(
    rng: Rng,
    duration_s: float,
    sample_rate: int,
    *,
    pitch_hz: tuple[float, float],
    throat: float,
    syllables_hz: tuple[float, float] = (3.6, 5.2),
    pauses: float = 0.12,
) -> Wave:
    """Synthesise one speaker (sample,), unit RMS.

    Args:
        rng: draws speaker and words.
        duration_s: length of the signal.
        sample_rate: in Hz.
        pitch_hz: bounds of the speaker's mean pitch.
        throat: formants relative to an adult man's.
        syllables_hz: bounds of the rate.
        pauses: share of omitted syllables.
    """
    n = round(duration_s * sample_rate)
    count = max(1, round(duration_s * uniform(rng, syllables_hz)))
    melody = log_uniform(rng, pitch_hz) * wander(rng, n, sample_rate, rate_hz=3, bounds=(0.8, 1.25))
    tracks_hz = _VOWELS_HZ[rng.integers(0, len(_VOWELS_HZ), count + 1)].repeat(2, axis=0) * throat
    voiced = formants(
        pulses(melody, n, sample_rate, top_hz=4500), sample_rate, tracks_hz, tilt=0.55
    )
    spoken = rng.random(count) > pauses
    spoken[[0, -1]] = True
    at = np.arange(n) * (count / n)
    word = at.astype(int)
    # A syllable is a vowel with a consonant's dip before it.
    opening = np.sqrt(np.abs(np.sin(np.float32(np.pi) * (at - word).astype(np.float32))))
    loud = (spoken * rng.uniform(0.6, 1.0, count)).astype(np.float32)[word]
    hiss = noise(rng, n, sample_rate, [(1500, -30), (4500, 0), (9000, -6)])
    hissing = (spoken & (rng.random(count) < 0.45))[word] * np.clip(1 - 3.5 * (at - word), 0, 1)
    return unit_rms(unit_rms(voiced) * opening * loud + 0.35 * hiss * hissing.astype(np.float32))


def speech(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """A man or a woman close by."""
    if rng.random() < 0.5:
        return voice(rng, duration_s, sample_rate, pitch_hz=(95, 140), throat=1.0)
    return voice(rng, duration_s, sample_rate, pitch_hz=(170, 240), throat=1.17)


def people_talking(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """Several people at once, some further away."""
    n = round(duration_s * sample_rate)
    wave = np.zeros(n, dtype=np.float32)
    for _ in range(int(rng.integers(2, 4))):
        bounds, throat = ((95, 140), 1.0) if rng.random() < 0.5 else ((170, 240), 1.17)
        speaker = voice(rng, duration_s, sample_rate, pitch_hz=bounds, throat=throat, pauses=0.25)
        wave += np.float32(uniform(rng, (0.4, 1.0))) * speaker
    return room(rng, wave, sample_rate, decay_s=0.4, wet=0.5)


def children_voices(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """Two children calling: high, quick and gliding."""
    first, second = (
        voice(
            rng, duration_s, sample_rate,
            pitch_hz=(330, 480), throat=1.45, syllables_hz=(2.4, 3.8), pauses=0.2,
        )
        for _ in range(2)
    )  # fmt: skip
    return first + np.float32(uniform(rng, (0.3, 0.9))) * second


def announcement(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """A chime of two or three notes, then a narrow loudspeaker voice in a large hall."""
    n = round(duration_s * sample_rate)
    notes = int(rng.integers(2, 4))
    at_s = np.arange(notes) * uniform(rng, (0.4, 0.6))
    key_hz = log_uniform(rng, (520, 700)) * np.array([1.0, 1.26, 1.5])[::-1]
    shape_of = (notes, len(_CHIME))
    decay_s = np.broadcast_to(1.6 / _CHIME, shape_of)
    level = np.broadcast_to([1.0, 0.35, 0.12], shape_of)
    hz = key_hz[:notes, None] * _CHIME
    wave = 1.5 * unit_rms(strikes(n, sample_rate, at_s, hz, decay_s, level))
    start = min(round((at_s[-1] + 0.5) * sample_rate), n // 2)
    speaker = voice(rng, (n - start) / sample_rate, sample_rate, pitch_hz=(150, 230), throat=1.12)
    speaker = shape(speaker, sample_rate, [(250, -30), (600, 0), (3000, 0), (4500, -40)])
    wave[start:] += unit_rms(speaker)[: n - start]
    wave = room(rng, wave, sample_rate, decay_s=uniform(rng, (1.2, 2.0)), wet=0.8)
    return wave * fade(n, sample_rate, 0.005, 0.3)
