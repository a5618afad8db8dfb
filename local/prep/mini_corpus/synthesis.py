"""Building blocks of the mini corpus's sounds: noise, tones, pulses, strikes, filters, a room.

All functions work on whole signals, float32, and draw only from the generator passed in, so the
same seed gives the same sound. Frequencies are in Hz, times in seconds; names of gains in dB
end in `_db`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import fft, signal

Rng = np.random.Generator
Wave = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating]
# (Hz, dB) corners of a spectrum: straight lines over log frequency, held outside.
Spectrum = Sequence[tuple[float, float]]

_FRAME_S = 0.046
_BLOCK_S = 0.05
_NOISE_PERIOD = 2**17


def uniform(rng: Rng, bounds: tuple[float, float]) -> float:
    """Draw uniformly between two bounds."""
    return float(rng.uniform(*bounds))


def log_uniform(rng: Rng, bounds: tuple[float, float]) -> float:
    """Draw log-uniformly between two positive bounds."""
    return float(np.exp(rng.uniform(*np.log(bounds))))


def sample_times(n: int, sample_rate: int) -> Wave:
    """Times (sample,) from 0."""
    return np.arange(n, dtype=np.float32) / np.float32(sample_rate)


def gain_curve(corners: Spectrum, frequency_hz: Floats) -> Wave:
    """Linear gain of a spectrum at given frequencies."""
    hz, db = np.array(corners, dtype=np.float64).T
    # A coarse grid is exact enough and saves the logarithm of each of 10^5 bins.
    grid = np.geomspace(10.0, 30000.0, 400)
    gain = 10 ** (np.interp(np.log(grid), np.log(hz), db) / 20)
    return np.interp(frequency_hz, grid, gain).astype(np.float32)


def add_spectra(first: Spectrum, second: Spectrum) -> Spectrum:
    """Cascade two spectra: their gains in dB add up."""
    corners = sorted({hz for hz, _ in (*first, *second)})
    gain_db = [
        np.interp(np.log(corners), *(np.log([hz for hz, _ in one]), [db for _, db in one]))
        for one in (first, second)
    ]
    return list(zip(corners, (gain_db[0] + gain_db[1]).tolist(), strict=True))


def noise(rng: Rng, n: int, sample_rate: int, corners: Spectrum) -> Wave:
    """Gaussian noise (sample,) of a given spectrum and unit RMS; repeats after some 3 s."""
    # Noise made in the frequency domain is periodic, so it repeats without a seam; nobody hears
    # that noise repeats after 3 s, and short transforms are what the corpus's minute allows.
    length = min(fft.next_fast_len(max(n, 16), real=True), _NOISE_PERIOD)
    bins = length // 2 + 1
    draws = rng.standard_normal(2 * bins, dtype=np.float32).view(np.complex64)
    draws *= gain_curve(corners, np.arange(bins) * (sample_rate / length))
    return np.resize(unit_rms(fft.irfft(draws, length)), n)


def shape(wave: Wave, sample_rate: int, corners: Spectrum) -> Wave:
    """A signal (sample,) filtered to a spectrum, without delay."""
    length = fft.next_fast_len(len(wave) + sample_rate // 50, real=True)
    spectrum = fft.rfft(wave, length)
    spectrum *= gain_curve(corners, np.arange(len(spectrum)) * (sample_rate / length))
    return fft.irfft(spectrum, length)[: len(wave)]


def wander(
    rng: Rng, n: int, sample_rate: int, *, rate_hz: float, bounds: tuple[float, float]
) -> Wave:
    """A slow random curve (sample,) between bounds, with `rate_hz` new targets per second."""
    targets = rng.uniform(*bounds, size=int(np.ceil(n / sample_rate * rate_hz)) + 2)
    start = rng.uniform()
    return glide(n, targets, (np.arange(len(targets)) - start) * sample_rate / rate_hz)


def glide(n: int, values: Sequence[float] | Floats, places: Floats | None = None) -> Wave:
    """A curve (sample,) through values, evenly spaced unless positions in samples are given."""
    if places is None:
        places = np.linspace(0, n - 1, len(values))
    return np.interp(np.arange(n), places, values).astype(np.float32)


def cycles(frequency_hz: float | Floats, n: int, sample_rate: int) -> Wave:
    """Phase (sample,) in cycles, within [0, 1), of a steady or moving frequency."""
    step = np.broadcast_to(np.asarray(frequency_hz, dtype=np.float64) / sample_rate, n)
    phase = np.cumsum(step)
    return (phase - np.floor(phase)).astype(np.float32)


def tone(frequency_hz: float | Floats, n: int, sample_rate: int) -> Wave:
    """A sine (sample,) of a steady or moving frequency."""
    return np.sin(np.float32(2 * np.pi) * cycles(frequency_hz, n, sample_rate))


def pulses(
    frequency_hz: float | Floats, n: int, sample_rate: int, *, top_hz: float = 5000.0
) -> Wave:
    """A train of smooth pulses (sample,): harmonics that fade out towards `top_hz`; unit RMS."""
    mean_hz = float(np.mean(frequency_hz))
    # exp(k (cos - 1)) has harmonics of exp(-m^2 / 2k): down by 17 dB at m = 2 sqrt(k).
    sharpness = np.float32(max(0.25, (top_hz / mean_hz) ** 2 / 4))
    phase = np.float32(2 * np.pi) * cycles(frequency_hz, n, sample_rate)
    wave = np.exp(sharpness * (np.cos(phase) - 1))
    return unit_rms(wave - wave.mean())


def buzz(n: int, sample_rate: int, frequency_hz: float | Floats, weights: Sequence[float]) -> Wave:
    """A sum of harmonics (sample,): weights of the fundamental, its double and so on."""
    phase = np.float32(2 * np.pi) * cycles(frequency_hz, n, sample_rate)
    wave = np.zeros(n, dtype=np.float32)
    for number, weight in enumerate(weights, start=1):
        wave += np.float32(weight) * np.sin(np.float32(number) * phase + np.float32(number**2))
    return wave


def formants(
    wave: Wave, sample_rate: int, tracks_hz: Floats, *, bandwidth: float = 0.09, tilt: float = 0.5
) -> Wave:
    """Filter a signal with moving resonances in overlapping frames.

    Args:
        wave: (sample,).
        sample_rate: in Hz.
        tracks_hz: (point, formant) centre frequencies, spread evenly over the signal.
        bandwidth: bandwidth of a resonance relative to its frequency.
        tilt: gain of each resonance relative to the one below it.
    """
    size = 2 * round(_FRAME_S * sample_rate / 2)
    hop, n = size // 2, len(wave)
    n_frames = n // hop + 2
    padded = np.zeros((n_frames + 1) * hop, dtype=np.float32)
    padded[hop : hop + n] = wave
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * window
    points = np.linspace(0, len(tracks_hz) - 1, len(frames))
    gain = _resonances(
        tracks_hz, points, np.arange(size // 2 + 1) * sample_rate / size, bandwidth, tilt
    )
    frames = fft.irfft(fft.rfft(frames) * gain, size)
    out = np.zeros_like(padded).reshape(-1, hop)
    out[:-1] += frames[:, :hop]
    out[1:] += frames[:, hop:]
    return out.reshape(-1)[hop : hop + n]


def _resonances(
    tracks_hz: Floats, points: Floats, frequency_hz: Floats, bandwidth: float, tilt: float
) -> Wave:
    """Gain (frame, bin) of resonances at fractional points of their tracks."""
    known = np.arange(len(tracks_hz))
    gain = np.full((len(points), len(frequency_hz)), 0.003, dtype=np.float32)
    hz = frequency_hz.astype(np.float32)
    for number, track in enumerate(tracks_hz.T):
        centre = np.interp(points, known, track).astype(np.float32)[:, None]
        distance = (hz - centre) / (np.float32(bandwidth) * centre + 30)
        gain += np.float32(tilt**number) / (1 + distance * distance)
    return gain


def strikes(
    n: int,
    sample_rate: int,
    at_s: Sequence[float] | Floats,
    partials_hz: Floats,
    decay_s: Floats,
    level: Floats,
) -> Wave:
    """Struck bodies: decaying partials (sample,) that begin at each time.

    Args:
        n: number of samples.
        sample_rate: in Hz.
        at_s: (strike,) onsets.
        partials_hz: (strike, partial).
        decay_s: (strike, partial) times in which a partial falls by 60 dB.
        level: (strike, partial) linear.
    """
    wave = np.zeros(n, dtype=np.float32)
    for onset, hz, decay, gain in zip(at_s, partials_hz, decay_s, level, strict=True):
        first = int(onset * sample_rate)
        length = min(n - first, int(max(decay) * sample_rate))
        if length <= 0:
            continue
        t = sample_times(length, sample_rate)
        body = np.exp(np.outer(-6.9 / decay, t).astype(np.float32))
        body *= np.sin(np.outer(2 * np.pi * hz, t).astype(np.float32))
        body *= gain.astype(np.float32)[:, None]
        wave[first : first + length] += body.sum(axis=0)
    return wave


def clicks(rng: Rng, n: int, sample_rate: int, *, rate_hz: float, spread_db: float = 8.0) -> Wave:
    """Single-sample impulses (sample,) at random times, random in sign and size."""
    wave = np.zeros(n, dtype=np.float32)
    count = max(1, rng.poisson(rate_hz * n / sample_rate))
    size = 10 ** (rng.normal(0, spread_db, count) / 20) * rng.choice((-1, 1), count)
    np.add.at(wave, rng.integers(0, n, count), size.astype(np.float32))
    return wave


def onset_times(
    rng: Rng, duration_s: float, gap_s: float, jitter: float, last_s: float = 0.0
) -> Floats:
    """Onsets (event,) from 0, about `gap_s` apart, the last at least `last_s` before the end."""
    room = max(duration_s - last_s, 0.0)
    count = max(1, round(room / gap_s) + 1)
    onsets = np.linspace(0, room, count)
    if count > 2:
        onsets[1:-1] += rng.uniform(-jitter, jitter, count - 2) * room / (count - 1)
    return onsets


def fade(n: int, sample_rate: int, attack_s: float, release_s: float) -> Wave:
    """An envelope (sample,) that rises and falls as half cosines."""
    t = sample_times(n, sample_rate)
    rise = np.clip(t / np.float32(attack_s), 0, 1)
    fall = np.clip((t[-1] - t) / np.float32(release_s), 0, 1)
    return (0.25 * (1 - np.cos(np.pi * rise)) * (1 - np.cos(np.pi * fall))).astype(np.float32)


def bump(n: int, sample_rate: int, centre_s: float, width_s: float) -> Wave:
    """A Gaussian swell (sample,) with its peak of 1 at `centre_s`."""
    distance = (sample_times(n, sample_rate) - np.float32(centre_s)) / np.float32(width_s)
    return np.exp(-0.5 * distance * distance)


def room(
    rng: Rng,
    wave: Wave,
    sample_rate: int,
    *,
    decay_s: float,
    wet: float,
    corners: Spectrum = ((1000, 0),),
) -> Wave:
    """Simulate a room and a microphone for a signal (sample,).

    Args:
        rng: draws the room.
        wave: (sample,).
        sample_rate: in Hz.
        decay_s: time in which the tail falls by 60 dB.
        wet: RMS of the tail relative to the direct sound's, for a long noise.
        corners: corners of the microphone's spectrum.
    """
    length = max(8, int(0.7 * decay_s * sample_rate))
    response = rng.standard_normal(length, dtype=np.float32)
    response *= np.exp(-6.9 / decay_s * sample_times(length, sample_rate))
    response[: max(1, sample_rate // 200)] *= 0.3
    response *= wet / np.sqrt(np.sum(response * response))
    # A zero-delay filter reaches back in time; the direct sound leaves it half a millisecond.
    response[sample_rate // 2000] += 1
    response = shape(response, sample_rate, corners)
    return signal.oaconvolve(wave, response)[: len(wave)].astype(np.float32)


def unit_rms(wave: Wave) -> Wave:
    """Scale a signal to an RMS of 1; silence is unchanged."""
    return wave / np.float32(max(float(np.sqrt(np.mean(wave * wave))), 1e-9))


def loudness(wave: Wave, sample_rate: int) -> float:
    """RMS of the louder half of a signal's 50 ms blocks: pauses do not make a sound quieter."""
    size = min(len(wave), max(1, int(_BLOCK_S * sample_rate)))
    blocks = wave[: len(wave) // size * size].reshape(-1, size)
    power = np.sort(np.mean(blocks * blocks, axis=1))
    return float(np.sqrt(power[len(power) // 2 :].mean()))
