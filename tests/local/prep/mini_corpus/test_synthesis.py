"""Building blocks of sounds: spectra, pitches, times and levels come out as asked for."""

from __future__ import annotations

import numpy as np
import pytest

from local.prep.mini_corpus import synthesis

RATE = 16000
N = 2 * RATE


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def band_db(wave: np.ndarray, low_hz: float, high_hz: float) -> float:
    """Mean level of a band's bins in dB."""
    power = np.abs(np.fft.rfft(wave)) ** 2
    hz = np.fft.rfftfreq(len(wave), 1 / RATE)
    return float(10 * np.log10(power[(hz >= low_hz) & (hz < high_hz)].mean()))


def peak_hz(wave: np.ndarray) -> float:
    return float(np.fft.rfftfreq(len(wave), 1 / RATE)[np.abs(np.fft.rfft(wave)).argmax()])


def test_noise_has_the_spectrum_and_level_asked_for(rng):
    wave = synthesis.noise(rng, N, RATE, [(500, 0), (4000, -30)])
    assert wave.dtype == np.float32
    assert wave.shape == (N,)
    assert np.sqrt(np.mean(wave**2)) == pytest.approx(1, abs=1e-3)
    # Held outside the corners, a straight line over log frequency between them.
    assert band_db(wave, 100, 400) - band_db(wave, 4200, 7000) == pytest.approx(30, abs=1)
    assert band_db(wave, 100, 400) - band_db(wave, 1380, 1450) == pytest.approx(15, abs=2)


def test_long_noise_goes_on_without_a_seam(rng):
    n = synthesis._NOISE_PERIOD
    wave = synthesis.noise(rng, n + 1000, RATE, [(100, 0), (400, -60)])
    steps = np.abs(np.diff(wave))
    assert steps[n - 1] < 1.5 * np.quantile(steps, 0.999)


def test_shape_does_not_delay():
    impulse = np.zeros(N, dtype=np.float32)
    impulse[5000] = 1
    assert np.abs(synthesis.shape(impulse, RATE, [(500, 0), (4000, -30)])).argmax() == 5000


def test_combined_spectra_add_up():
    both = synthesis.add_spectra([(100, 0), (10000, -40)], [(1000, 6)])
    hz = np.array([100.0, 1000.0, 10000.0])
    level_db = 20 * np.log10(synthesis.gain_curve(both, hz))
    assert level_db == pytest.approx([6, -14, -34], abs=0.1)


@pytest.mark.parametrize("hz", [220.0, 1000.0])
def test_tone_and_pulses_have_their_pitch(hz):
    assert peak_hz(synthesis.tone(hz, N, RATE)) == pytest.approx(hz, abs=1)
    pulses = synthesis.pulses(hz, N, RATE, top_hz=3000)
    on_harmonic, between = (band_db(pulses, f - 5, f + 5) for f in (2 * hz, 1.5 * hz))
    assert on_harmonic > between + 40


def test_a_glide_moves_the_pitch():
    wave = synthesis.tone(synthesis.glide(N, [500, 2000]), N, RATE)
    assert peak_hz(wave[:1600]) < 700
    assert peak_hz(wave[-1600:]) > 1800


def test_formants_raise_what_lies_at_them(rng):
    white = synthesis.noise(rng, N, RATE, [(1000, 0)])
    tracks_hz = np.array([[600.0, 2000.0], [600.0, 3500.0]])
    wave = synthesis.formants(white, RATE, tracks_hz)
    assert band_db(wave, 550, 650) > band_db(wave, 1000, 1200) + 10
    early, late = wave[: N // 4], wave[-N // 4 :]
    assert band_db(early, 1950, 2250) > band_db(early, 3200, 3500) + 6
    assert band_db(late, 3200, 3500) > band_db(late, 1950, 2250) + 6


def test_strikes_begin_on_time_and_fall_by_60_db():
    hz, decay_s = np.array([[1000.0]]), np.array([[0.5]])
    wave = synthesis.strikes(N, RATE, [0.25], hz, decay_s, np.array([[1.0]]))
    assert not wave[: RATE // 4].any()
    assert np.abs(wave[RATE // 4 : RATE // 4 + 50]).max() > 0.9
    end = wave[int(0.74 * RATE) : int(0.75 * RATE)]
    assert 20 * np.log10(np.abs(end).max()) == pytest.approx(-60, abs=1.5)


def test_strikes_beyond_the_end_are_left_out():
    one = np.array([[440.0]])
    assert not synthesis.strikes(100, RATE, [1.0], one, one / 440, one / 440).any()


def test_beats_fill_the_duration(rng):
    onsets = synthesis.onset_times(rng, 5.0, 0.5, 0.3, last_s=0.2)
    assert onsets[0] == 0
    assert onsets[-1] == pytest.approx(4.8)
    assert 0.2 < np.diff(onsets).min() < np.diff(onsets).max() < 1.0
    assert synthesis.onset_times(rng, 0.1, 0.5, 0.3, last_s=0.2).tolist() == [0]


def test_a_room_adds_a_tail_and_keeps_the_onset(rng):
    click = np.zeros(N, dtype=np.float32)
    click[1000] = 1
    wet = synthesis.room(rng, click, RATE, decay_s=0.5, wet=0.5)
    assert not np.abs(wet[:990]).max() > 1e-4
    assert abs(int(np.abs(wet).argmax()) - 1000) <= RATE // 1000
    tail = wet[1000 + RATE // 100 :]
    assert 0.1 < np.sum(tail**2) < 0.4
    assert np.sum(wet[1000 + RATE // 2 :] ** 2) < 1e-5


def test_loudness_does_not_count_pauses():
    burst = np.zeros(N, dtype=np.float32)
    burst[: N // 2] = synthesis.tone(440, N // 2, RATE)
    assert synthesis.loudness(burst, RATE) == pytest.approx(np.sqrt(0.5), rel=1e-2)
    assert synthesis.loudness(np.zeros(N, dtype=np.float32), RATE) == 0


def test_an_envelope_rises_and_falls():
    envelope = synthesis.fade(N, RATE, 0.1, 0.5)
    assert envelope[0] == envelope[-1] == 0
    assert envelope[RATE // 10] == pytest.approx(1)
    assert envelope[-RATE // 4] == pytest.approx(0.5, abs=1e-2)
