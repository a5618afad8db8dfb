"""Soundscapes: events where and as loud as planned, the same file from the same plan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf

from local.prep.mini_corpus.soundscapes import (
    REAL,
    SYNTHETIC,
    PlannedEvent,
    SoundscapePlan,
    draw_snr_db,
    place_event,
    render_clip,
    write_clip,
)

RATE = 16000
DOG = PlannedEvent("Dog", 1.0, 2.0, 20.0)


def plan(*events: PlannedEvent, **changes: object) -> SoundscapePlan:
    return replace(SoundscapePlan((1, 2, 3), 4.0, 1, SYNTHETIC, events), **changes)


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


def test_an_event_sounds_where_it_was_planned():
    samples = render_clip(plan(DOG), RATE)
    assert samples.dtype == np.int16
    assert samples.shape == (4 * RATE,)
    assert rms(samples[RATE : 2 * RATE]) > 5 * rms(samples[:RATE])
    assert rms(samples[RATE : 2 * RATE]) > 5 * rms(samples[2 * RATE + 100 :])


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
def test_an_event_is_as_loud_as_planned(snr_db):
    samples = render_clip(plan(PlannedEvent("Vacuum_cleaner", 2.0, 4.0, snr_db)), RATE)
    # What is added to noise of power 1 is signal and noise.
    ratio = (rms(samples[2 * RATE :]) / rms(samples[: 2 * RATE])) ** 2
    assert 10 * np.log10(max(ratio - 1, 0.01)) == pytest.approx(snr_db, abs=3)


def test_a_file_depends_on_its_plan_alone():
    first = render_clip(plan(DOG), RATE)
    assert np.array_equal(first, render_clip(plan(DOG), RATE))
    assert not np.array_equal(first, render_clip(plan(DOG, seed=(1, 2, 4)), RATE))


def test_stereo_channels_differ_and_agree_on_the_event():
    samples = render_clip(plan(DOG, channels=2, domain=REAL), RATE).astype(np.float64)
    assert samples.shape == (4 * RATE, 2)
    assert np.corrcoef(samples[RATE : 2 * RATE].T)[0, 1] > 0.5
    assert abs(np.corrcoef(samples[3 * RATE :].T)[0, 1]) < 0.9


def test_silence_is_digital():
    samples = render_clip(plan(domain=None, channels=2), RATE)
    assert samples.shape == (4 * RATE, 2)
    assert not samples.any()
    assert render_clip(plan(domain=None), RATE).shape == (4 * RATE,)


def test_an_event_up_to_the_end_is_cut_there():
    assert render_clip(plan(PlannedEvent("Frying", 3.0, 4.0, 10.0)), RATE).shape == (4 * RATE,)


def test_files_are_44_1_khz_and_16_bits(tmp_path):
    write_clip(tmp_path / "deep" / "a.wav", plan(DOG, duration_s=2.5))
    info = sf.info(tmp_path / "deep" / "a.wav")
    assert (info.samplerate, info.subtype, info.frames) == (44100, "PCM_16", 110250)


def test_events_of_a_class_keep_apart():
    rng = np.random.default_rng(0)
    events: list[PlannedEvent] = []
    for _ in range(200):
        where = place_event(rng, events, "Dog", 0.7, 10.0, 0.3)
        if where:
            events.append(PlannedEvent("Dog", *where, 10.0))
    assert 6 <= len(events) < 200
    bounds = np.array(sorted((event.onset_s, event.offset_s) for event in events))
    assert (bounds[1:, 0] - bounds[:-1, 1] > 0.3).all()
    assert bounds.min() >= 0
    assert bounds.max() <= 10
    # Another class may overlap them.
    assert place_event(rng, events, "Cat", 9.9, 10.0, 0.3)


def test_an_event_longer_than_the_clip_fills_it():
    assert place_event(np.random.default_rng(0), [], "Frying", 12.0, 6.2, 0.3) == (0.0, 6.2)


def test_levels_are_mostly_easy_and_sometimes_hard():
    rng = np.random.default_rng(0)
    for domain in (SYNTHETIC, REAL):
        levels = np.array([draw_snr_db(rng, domain) for _ in range(2000)])
        assert levels.min() >= -3
        assert levels.max() <= 26
        assert 0.6 < np.mean((levels >= 5) & (levels <= 25)) < 0.95
        assert 0.05 < np.mean(levels < 3) < 0.25
