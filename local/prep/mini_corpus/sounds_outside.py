"""Sounds of streets, shops and stations: vehicles, trains, carts, tills, steps, wind, birds.

Each function draws its parameters from `rng` and returns (sample,) float32 of any level, sounding
from the first to the last moment of `duration_s`.
"""

from __future__ import annotations

import numpy as np

from local.prep.mini_corpus.synthesis import (
    Rng,
    Wave,
    bump,
    buzz,
    clicks,
    cycles,
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


def furniture_dragging(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """Chair legs that stick and slip over a floor, in pulls of half a second or so."""
    n = round(duration_s * sample_rate)
    slip_hz = log_uniform(rng, (45, 80)) * wander(rng, n, sample_rate, rate_hz=5, bounds=(0.7, 1.4))
    scrape = pulses(slip_hz, n, sample_rate, top_hz=2500)
    scrape += 0.5 * noise(rng, n, sample_rate, [(150, -10), (500, 0), (2000, -15)])
    points = max(3, int(3 * duration_s))
    tracks_hz = rng.uniform([230, 500, 1000], [340, 760, 1400], (points, 3))
    wave = formants(scrape, sample_rate, tracks_hz, bandwidth=0.12, tilt=0.7)
    pull = np.abs(np.sin(np.pi * cycles(1 / uniform(rng, (0.7, 1.2)), n, sample_rate))) ** 0.5
    return wave * (0.08 + pull).astype(np.float32)


def footsteps(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """Heel and sole on a hard floor, about two steps a second."""
    n = round(duration_s * sample_rate)
    heel_s = onset_times(rng, duration_s, 1 / uniform(rng, (1.6, 2.3)), 0.06, 0.12)
    at_s = np.concatenate([heel_s, heel_s, heel_s + uniform(rng, (0.05, 0.09))])
    steps = len(heel_s)
    body = np.repeat([[85, 140, 200], [900, 1500, 2300], [600, 1000, 1700]], steps, axis=0)
    hz = body * uniform(rng, (0.85, 1.2)) * rng.uniform(0.95, 1.05, (3 * steps, 3))
    decay = np.repeat([[0.12], [0.045], [0.03]], steps, axis=0) * np.ones((1, 3))
    foot = np.tile(rng.uniform(0.7, 1.1, steps), 3)[:, None]
    level = np.repeat([[0.5], [uniform(rng, (1.0, 1.6))], [0.6]], steps, axis=0) * foot
    return strikes(n, sample_rate, at_s, hz, decay, level * np.ones((1, 3)))


def large_vehicle(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """A diesel engine: slow hard firing below 500 Hz, at times the hiss of air brakes."""
    n = round(duration_s * sample_rate)
    revs = wander(rng, n, sample_rate, rate_hz=0.7, bounds=(0.85, 1.25))
    firing = pulses(log_uniform(rng, (26, 40)) * revs, n, sample_rate, top_hz=700)
    wave = shape(firing, sample_rate, [(20, -6), (70, 0), (250, -2), (500, -14), (2500, -40)])
    rumble = noise(rng, n, sample_rate, [(25, -6), (80, 0), (300, -10), (1500, -32)])
    wave = unit_rms(wave) + 0.5 * rumble
    wave *= 0.5 + bump(n, sample_rate, uniform(rng, (0.3, 0.7)) * duration_s, 0.35 * duration_s)
    if rng.random() < 0.6:
        brake = noise(rng, n, sample_rate, [(1500, -30), (4000, 0), (9000, -3)])
        wave += 0.5 * brake * bump(n, sample_rate, uniform(rng, (0.2, 0.8)) * duration_s, 0.25)
    return wave


def car(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """Cars that pass: tyre noise around 1 kHz swells and brightens, the engine's pitch drops."""
    n = round(duration_s * sample_rate)
    wave = np.zeros(n, dtype=np.float32)
    colour = log_uniform(rng, (800, 1200))
    far = noise(rng, n, sample_rate, [(100, -14), (colour, 0), (2000, -9), (6000, -30)])
    near = noise(rng, n, sample_rate, [(200, -14), (colour, -3), (2500, 0), (7000, -12)])
    pass_s = uniform(rng, (2.2, 3.6))
    for centre in (
        onset_times(rng, max(duration_s - pass_s, 0), pass_s, 0.2) + min(pass_s, duration_s) / 2
    ):
        close = bump(n, sample_rate, centre, pass_s / 4.5)
        drop = 1 - 0.12 * np.tanh((sample_times(n, sample_rate) - centre) / 0.4)
        engine = buzz(n, sample_rate, log_uniform(rng, (80, 130)) * drop, [1, 0.8, 0.5, 0.4])
        wave += close * (far + 0.7 * close**2 * near + 0.35 * engine)
    return wave + np.float32(0.1) * far


def brakes_squeaking(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """Thin screeches between 2.3 and 5.4 kHz that waver and sink a little."""
    n = round(duration_s * sample_rate)
    base_hz = log_uniform(rng, (2500, 3400)) * glide(n, [1.06, 1.0, 0.97, 0.9])
    shake = wander(rng, n, sample_rate, rate_hz=25, bounds=(0.985, 1.015))
    squeal = tone(base_hz * shake, n, sample_rate)
    squeal += 0.6 * tone(1.505 * base_hz * shake, n, sample_rate)
    squeal *= wander(rng, n, sample_rate, rate_hz=18, bounds=(0.4, 1.0))
    screech_s = uniform(rng, (0.9, 1.6))
    gate = np.abs(np.sin(np.pi * cycles(1 / screech_s, n, sample_rate))) ** 0.4
    drag = noise(rng, n, sample_rate, [(300, -10), (1500, 0), (6000, -12)])
    return (unit_rms(squeal) + 0.12 * drag) * (0.05 + gate).astype(np.float32)


def cash_register(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """A scanner's short pure beeps, one pitch, unevenly apart."""
    n = round(duration_s * sample_rate)
    beep_s, beep_hz = uniform(rng, (0.09, 0.15)), log_uniform(rng, (1800, 2500))
    onsets = onset_times(rng, duration_s, uniform(rng, (0.5, 0.9)), 0.35, beep_s)
    length = round(beep_s * sample_rate)
    beep = tone(beep_hz, length, sample_rate) + 0.25 * tone(3 * beep_hz, length, sample_rate)
    beep *= fade(length, sample_rate, 0.004, 0.004)
    wave = np.zeros(n, dtype=np.float32)
    for onset in onsets:
        first = min(int(onset * sample_rate), n - length)
        wave[first : first + length] = beep
    return wave


def shopping_cart(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """A wire basket that rattles over tiles: many small impacts on ringing metal, wheels below."""
    n = round(duration_s * sample_rate)
    count = int(duration_s * uniform(rng, (22, 34)))
    at_s = np.sort(rng.uniform(0, duration_s, count))
    wires_hz = np.sort(np.exp(rng.uniform(np.log(900), np.log(6500), 8)))
    hz = wires_hz[rng.integers(0, 8, (count, 3))]
    decay = rng.uniform(0.04, 0.11, (count, 1)) * np.ones((1, 3))
    level = 10 ** (rng.normal(0, 6, (count, 1)) / 20) * rng.uniform(0.3, 1, (count, 3))
    rattle = strikes(n, sample_rate, at_s, hz, decay, level)
    rattle *= wander(rng, n, sample_rate, rate_hz=3, bounds=(0.4, 1.2))
    knocks = shape(clicks(rng, n, sample_rate, rate_hz=40), sample_rate, [(500, -20), (1500, 0)])
    wheels = noise(rng, n, sample_rate, [(80, -10), (200, 0), (700, -14), (3000, -30)])
    return unit_rms(rattle) + 0.4 * unit_rms(knocks) + 0.5 * wheels


def metro_leaving(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """The motors' song rises in steps and on, while train and rumble fade."""
    n = round(duration_s * sample_rate)
    start_hz = log_uniform(rng, (240, 340))
    song_hz = start_hz * glide(n, [1, 1, 1.33, 1.33, 1.78, 2.2, 2.9, 3.8, 4.9])
    song = buzz(n, sample_rate, song_hz, [1.0, 0.6, 0.5, 0.15, 0.25])
    rumble = noise(rng, n, sample_rate, [(40, -3), (120, 0), (600, -12), (3000, -30)])
    away = glide(n, [0.7, 1.0, 1.0, 0.9, 0.75, 0.55, 0.35])
    return away * (unit_rms(song) + uniform(rng, (0.5, 0.9)) * rumble)


def metro_approaching(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """A rush out of the tunnel that swells, wheels over joints, motors that sink to a halt."""
    n = round(duration_s * sample_rate)
    rush = noise(rng, n, sample_rate, [(60, -8), (300, 0), (1200, -2), (3000, -14), (8000, -30)])
    brake_hz = log_uniform(rng, (900, 1300)) * glide(n, [1, 0.98, 0.9, 0.75, 0.55, 0.35, 0.2])
    motor = buzz(n, sample_rate, brake_hz, [1.0, 0.4, 0.3])
    joints = onset_times(rng, duration_s, uniform(rng, (0.5, 0.7)), 0.05, 0.1)
    at_s = np.stack([joints, joints + 0.11], axis=1).reshape(-1)
    body = np.broadcast_to([150, 320, 610], (len(at_s), 3)) * uniform(rng, (0.85, 1.15))
    decay = np.full((len(at_s), 3), 0.09)
    clack = strikes(n, sample_rate, at_s, body, decay, np.ones_like(body))
    near = glide(n, [0.3, 0.45, 0.65, 0.9, 1.0, 0.9, 0.6])
    motor_level = uniform(rng, (0.45, 0.8))
    return near * (rush + motor_level * unit_rms(motor) + 0.5 * unit_rms(clack))


def wind(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """Gusts: buffeting below 300 Hz and a hollow whistle that follows their strength."""
    n = round(duration_s * sample_rate)
    gust = wander(rng, n, sample_rate, rate_hz=0.9, bounds=(0.35, 1.0))
    buffet = noise(rng, n, sample_rate, [(20, 0), (90, -3), (300, -20), (1000, -36)])
    buffet *= wander(rng, n, sample_rate, rate_hz=9, bounds=(0.3, 1.3))
    air = noise(rng, n, sample_rate, [(100, -10), (600, 0), (3000, -12)])
    points = max(3, int(2.5 * duration_s))
    centre = log_uniform(rng, (420, 650))
    tracks_hz = centre * glide(points, gust)[:, None] * np.array([[1.5, 2.6]])
    whistle = formants(air, sample_rate, tracks_hz, bandwidth=0.05, tilt=0.5)
    return unit_rms(buffet) * gust + 0.9 * unit_rms(whistle) * gust**1.5


def birds(rng: Rng, duration_s: float, sample_rate: int) -> Wave:
    """Two birds: phrases of quick sweeps between 3 and 7.5 kHz."""
    n = round(duration_s * sample_rate)
    wave = np.zeros(n, dtype=np.float32)
    for home_hz in rng.uniform(3200, 6200, 2):
        sweep = rng.uniform(0.8, 1.3, (3, 4))
        for onset in onset_times(rng, duration_s, uniform(rng, (0.16, 0.3)), 0.3, 0.1):
            length = round(uniform(rng, (0.05, 0.12)) * sample_rate)
            hz = home_hz * glide(length, sweep[rng.integers(3)])
            chirp = tone(hz, length, sample_rate) * fade(length, sample_rate, 0.012, 0.03)
            first = min(int(onset * sample_rate), n - length)
            wave[first : first + length] += chirp * np.float32(rng.choice((0.0, 0.5, 1.0)))
    return wave
