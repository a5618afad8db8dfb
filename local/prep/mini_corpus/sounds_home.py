"""Domestic sounds: bells, motors, clinks, animals, frying, water, a coffee machine, doors.

Each function draws its parameters from `rng` and returns (sample,) float32 of any level, sounding
from the first to the last moment of `duration_s`.
"""

from __future__ import annotations

import numpy as np

from local.prep.mini_corpus.synthesis import (
    Floats,
    Rng,
    Wave,
    buzz,
    clicks,
    fade,
    formants,
    glide,
    log_uniform,
    noise,
    onset_times,
    pulses,
    sample_times,
    shape,
    strikes,
    tone,
    uniform,
    unit_rms,
    wander,
)

# Partials of a small bell, of thin metal and of china, relative to the lowest.
_BELL = np.array([1.0, 1.52, 2.0, 2.74, 3.01, 4.18])
_CUTLERY = np.array([1.0, 1.34, 1.71, 2.19])
_CHINA = np.array([1.0, 1.58, 2.24, 2.92])


def alarm_bell(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """A bell struck 12 to 22 times a second, going on or in rings."""
    n = round(duration_s * sample_rate)
    at_s = np.arange(0, duration_s, 1 / uniform(rng, (12, 22)))
    ring_s = uniform(rng, (0.5, 1.1))
    if duration_s > 2 * ring_s and rng.random() < 0.4:
        at_s = at_s[(at_s / ring_s) % 1.5 < 1]
    shape_of = (len(at_s), len(_BELL))
    hz = np.broadcast_to(_BELL * log_uniform(rng, (850, 1500)), shape_of)
    decay_s = np.broadcast_to(uniform(rng, (0.25, 0.6)) / _BELL**0.4, shape_of)
    level = rng.uniform(0.7, 1.0, (len(at_s), 1)) * rng.uniform(0.4, 1.0, (1, len(_BELL)))
    return strikes(n, sample_rate, at_s, hz, decay_s, level)


def blender(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """A motor that runs up, is loaded unevenly and growls, with chopping noise."""
    n = round(duration_s * sample_rate)
    speed = glide(n, [0.5, 1, 1, 1, 1, 1, 1, 1, 0.75])
    speed *= wander(rng, n, sample_rate, rate_hz=6, bounds=(0.93, 1.07))
    motor_hz = log_uniform(rng, (210, 330)) * speed
    weights = rng.uniform(0.3, 1.0, 14) / np.arange(1, 15) ** 0.35
    growl = 1 + 0.7 * tone(motor_hz / uniform(rng, (9, 14)), n, sample_rate)
    chop = noise(rng, n, sample_rate, [(200, -12), (900, 0), (3000, -3), (8000, -14)])
    load = wander(rng, n, sample_rate, rate_hz=4, bounds=(0.5, 1.2))
    wave = unit_rms(buzz(n, sample_rate, motor_hz, list(weights))) + 0.5 * load * chop
    return wave * growl


def vacuum_cleaner(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """Steady wide-band rush of air with a high turbine whine above it."""
    n = round(duration_s * sample_rate)
    hump = log_uniform(rng, (500, 900))
    air = noise(rng, n, sample_rate, [(60, -18), (hump, 0), (3000, -7), (8000, -20)])
    whine_hz = log_uniform(rng, (2600, 4200)) * glide(n, [0.96, 1, 1, 1, 1, 1])
    whine = tone(whine_hz, n, sample_rate) + 0.5 * tone(whine_hz * 0.5, n, sample_rate)
    move = wander(rng, n, sample_rate, rate_hz=0.8, bounds=(0.75, 1.1))
    return air * move + uniform(rng, (0.35, 0.7)) * whine


def shaver(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """A hard low buzz whose harmonics reach far up, its colour moving with the hand."""
    n = round(duration_s * sample_rate)
    buzz_hz = log_uniform(rng, (85, 140)) * wander(
        rng, n, sample_rate, rate_hz=2, bounds=(0.985, 1.015)
    )
    wave = pulses(buzz_hz, n, sample_rate, top_hz=9000)
    colour_hz = rng.uniform([2200, 4300], [3800, 6800], (max(3, int(2 * duration_s)), 2))
    wave = formants(wave, sample_rate, colour_hz, bandwidth=0.3, tilt=0.9)
    return unit_rms(wave) + 0.12 * noise(rng, n, sample_rate, [(1500, -20), (5000, 0)])


def cat(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """A meow: the pitch rises and falls while the mouth opens and closes."""
    n = round(duration_s * sample_rate)
    peak = uniform(rng, (0.25, 0.5))
    pitch_hz = log_uniform(rng, (480, 720)) * glide(
        n, [0.75, 1.0, 1.25, 1.1, 0.8], np.array([0, peak / 2, peak, 0.75, 1]) * n
    )
    mouth = [0.8, 1.25, 1.7, 1.6, 1.15, 0.7]
    tracks_hz = np.outer(mouth, [1000, 2300, 4200]) * uniform(rng, (0.9, 1.1))
    wave = pulses(pitch_hz, n, sample_rate, top_hz=7000)
    wave += 0.05 * noise(rng, n, sample_rate, [(500, 0), (6000, -6)])
    wave = formants(wave, sample_rate, tracks_hz, bandwidth=0.16, tilt=0.7)
    return wave * fade(n, sample_rate, 0.08, min(0.3, duration_s / 3))


def dog(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """Barks: short rough bursts with a falling pitch."""
    n = round(duration_s * sample_rate)
    bark_s = min(uniform(rng, (0.14, 0.24)), duration_s)
    length = round(bark_s * sample_rate)
    pitch = log_uniform(rng, (280, 520))
    wave = np.zeros(n, dtype=np.float32)
    for onset in onset_times(rng, duration_s, uniform(rng, (0.32, 0.5)), 0.15, bark_s):
        hz = pitch * uniform(rng, (0.93, 1.07)) * glide(length, [0.8, 1.3, 1.0, 0.6])
        bark = pulses(hz, length, sample_rate, top_hz=3500)
        bark += 0.6 * noise(rng, length, sample_rate, [(300, -6), (1200, 0), (4000, -12)])
        bark = formants(bark, sample_rate, np.array([[700, 1400], [1000, 1900], [600, 1300]]))
        first = min(int(onset * sample_rate), n - length)
        wave[first : first + length] += bark * fade(length, sample_rate, 0.012, 0.08)
    return wave


def _clinks(
    rng: Rng, duration_s: float, sample_rate: int, partials: Floats, *, gap_s: float,
    lowest_hz: tuple[float, float], decay_s: tuple[float, float],
) -> Wave:  # fmt: skip
    at_s = onset_times(rng, duration_s, gap_s, 0.6, 0.12)
    base = np.exp(rng.uniform(*np.log(lowest_hz), (len(at_s), 1)))
    hz = base * partials * rng.uniform(0.97, 1.03, (len(at_s), len(partials)))
    decay = rng.uniform(*decay_s, (len(at_s), 1)) / np.sqrt(partials)
    level = 10 ** (rng.normal(0, 4, (len(at_s), 1)) / 20) * rng.uniform(0.3, 1.0, hz.shape)
    return strikes(round(duration_s * sample_rate), sample_rate, at_s, hz, decay, level)


def dishes(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """China knocking on china, a few clinks of 1.6 kHz and up."""
    gap_s = uniform(rng, (0.1, 0.25))
    return _clinks(
        rng, duration_s, sample_rate, _CHINA,
        gap_s=gap_s, lowest_hz=(1500, 3200), decay_s=(0.12, 0.35),
    )  # fmt: skip


def cutlery_and_dishes(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """A table being used: china clinks and brighter cutlery among them."""
    plates = _clinks(
        rng, duration_s, sample_rate, _CHINA,
        gap_s=uniform(rng, (0.3, 0.6)), lowest_hz=(1500, 3200), decay_s=(0.12, 0.35),
    )  # fmt: skip
    forks = _clinks(
        rng, duration_s, sample_rate, _CUTLERY,
        gap_s=uniform(rng, (0.15, 0.35)), lowest_hz=(2800, 4200), decay_s=(0.06, 0.2),
    )  # fmt: skip
    return plates + forks


def frying(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """Hiss above 2 kHz with dense crackle, swelling slowly."""
    n = round(duration_s * sample_rate)
    hiss = noise(rng, n, sample_rate, [(700, -30), (2500, -6), (5000, 0), (12000, -4)])
    crackle = clicks(rng, n, sample_rate, rate_hz=log_uniform(rng, (60, 180)), spread_db=5)
    crackle = shape(crackle, sample_rate, [(800, -24), (2500, 0), (9000, 0)])
    swell = wander(rng, n, sample_rate, rate_hz=1.5, bounds=(0.6, 1.1))
    return swell * (0.6 * hiss + uniform(rng, (0.7, 1.3)) * unit_rms(crackle))


def running_water(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """A jet into a basin: bright-less rush with many bubbles, each a short rising tone."""
    n = round(duration_s * sample_rate)
    low = log_uniform(rng, (350, 700))
    jet = noise(
        rng, n, sample_rate, [(low / 3, -22), (low, -2), (1500, 0), (3500, -8), (9000, -24)]
    )
    flow = wander(rng, n, sample_rate, rate_hz=14, bounds=(0.5, 1.2))
    at_s = np.sort(rng.uniform(0, duration_s, int(duration_s * uniform(rng, (25, 45)))))
    hz = np.exp(rng.uniform(np.log(600), np.log(1900), (len(at_s), 1))) * np.array([1, 1.04])
    decay = rng.uniform(0.03, 0.09, (len(at_s), 1)) * np.ones((1, 2))
    level = 10 ** (rng.normal(0, 5, (len(at_s), 1)) / 20) * np.ones((1, 2))
    bubbles = strikes(n, sample_rate, at_s, hz, decay, level)
    return jet * flow + 0.8 * unit_rms(bubbles)


def coffee_machine(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """A pump's dull throb and steam that gurgles through milk."""
    n = round(duration_s * sample_rate)
    pump = buzz(n, sample_rate, uniform(rng, (48, 52)), [0.3, 1.0, 0.5, 0.8, 0.4, 0.3])
    steam = noise(rng, n, sample_rate, [(1500, -30), (4000, -4), (6500, 0), (11000, -6)])
    gurgle = tone(wander(rng, n, sample_rate, rate_hz=2, bounds=(6, 10)), n, sample_rate)
    phase = tone(1 / uniform(rng, (2.5, 5)), n, sample_rate)
    steaming = 0.5 + 0.5 * np.clip(3 * phase, -1, 1)
    return unit_rms(pump) * (1 - 0.6 * steaming) + steam * steaming * (0.55 + 0.45 * gurgle)


def door(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """A hinge that creaks upwards, then a heavy thud and the latch; again if there is time."""
    n = round(duration_s * sample_rate)
    wave = np.zeros(n, dtype=np.float32)
    turn_s = min(uniform(rng, (1.2, 1.8)), duration_s)
    for onset in onset_times(rng, duration_s, turn_s + 0.2, 0.05, turn_s):
        first, length = int(onset * sample_rate), round(turn_s * sample_rate)
        part = _creak(rng, turn_s, sample_rate) + 1.6 * _thud(rng, turn_s, sample_rate)
        length = min(length, n - first)
        wave[first : first + length] += part[:length]
    return wave


def _creak(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    n = round(duration_s * sample_rate)
    stick_hz = glide(n, np.array([35, 60, 50, 90]) * uniform(rng, (0.8, 1.3)))
    wave = pulses(stick_hz, n, sample_rate, top_hz=4000)
    top = uniform(rng, (0.85, 1.25))
    tracks_hz = np.array([[500, 1400], [800, 2000], [1100, 2600]]) * top
    creak = formants(wave, sample_rate, tracks_hz, bandwidth=0.06, tilt=0.8)
    return (
        unit_rms(creak)
        * fade(n, sample_rate, 0.1, 0.1)
        * (sample_times(n, sample_rate) < 0.7 * duration_s)
    )


def _thud(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    n = round(duration_s * sample_rate)
    at_s = np.array([0.72, 0.72, 0.84]) * duration_s
    hz = np.array([[75, 130, 210], [310, 450, 620], [1900, 2700, 3600]]) * uniform(rng, (0.85, 1.2))
    decay = np.array([[0.35], [0.18], [0.05]]) * np.ones((1, 3))
    level = np.array([[3.0], [1.2], [1.0]]) * rng.uniform(0.6, 1.0, (3, 3))
    return strikes(n, sample_rate, at_s, hz, decay, level)
