"""The 27 classes as parametric sounds: how each is synthesised and how long it lasts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from local.prep.mini_corpus import sounds_home as home
from local.prep.mini_corpus import sounds_outside as outside
from local.prep.mini_corpus import sounds_voices as voices
from local.prep.mini_corpus.synthesis import Rng, Wave, fade, loudness


class Sound(NamedTuple):
    """The sound of a class.

    Attributes:
        make: (rng, duration in seconds, sample rate in Hz) -> (sample,) float32 of any level.
        shortest_s, longest_s: bounds of an event's duration.
    """

    make: Callable[[Rng, float, int], Wave]
    shortest_s: float
    longest_s: float


# Durations of the first ten follow DESED's annotations; MAESTRO's sounds come in longer bouts.
SOUNDS: dict[str, Sound] = {
    "Alarm_bell_ringing": Sound(home.alarm_bell, 1.5, 6.0),
    "Blender": Sound(home.blender, 2.5, 7.0),
    "Cat": Sound(home.cat, 0.6, 1.4),
    "Dishes": Sound(home.dishes, 0.5, 1.5),
    "Dog": Sound(home.dog, 0.5, 2.0),
    "Electric_shaver_toothbrush": Sound(home.shaver, 3.0, 9.0),
    "Frying": Sound(home.frying, 5.0, 10.0),
    "Running_water": Sound(home.running_water, 3.0, 8.0),
    "Speech": Sound(voices.speech, 0.8, 3.5),
    "Vacuum_cleaner": Sound(home.vacuum_cleaner, 5.0, 10.0),
    "cutlery and dishes": Sound(home.cutlery_and_dishes, 5.0, 12.0),
    "furniture dragging": Sound(outside.furniture_dragging, 4.0, 7.0),
    "people talking": Sound(voices.people_talking, 6.0, 14.0),
    "children voices": Sound(voices.children_voices, 5.0, 11.0),
    "coffee machine": Sound(home.coffee_machine, 6.0, 11.0),
    "footsteps": Sound(outside.footsteps, 5.0, 12.0),
    "large_vehicle": Sound(outside.large_vehicle, 6.0, 12.0),
    "car": Sound(outside.car, 5.0, 11.0),
    "brakes_squeaking": Sound(outside.brakes_squeaking, 4.0, 7.0),
    "cash register beeping": Sound(outside.cash_register, 5.0, 9.0),
    "announcement": Sound(voices.announcement, 6.0, 11.0),
    "shopping cart": Sound(outside.shopping_cart, 5.0, 11.0),
    "metro leaving": Sound(outside.metro_leaving, 7.0, 12.0),
    "metro approaching": Sound(outside.metro_approaching, 7.0, 12.0),
    "door opens/closes": Sound(home.door, 3.0, 5.0),
    "wind_blowing": Sound(outside.wind, 6.0, 13.0),
    "birds_singing": Sound(outside.birds, 5.0, 13.0),
}


def render(
    label: str, rng: Rng, duration_s: float, sample_rate: int, *, stretch: float = 1.0
) -> Wave:
    """Synthesise one event of a class (sample,), its louder half at an RMS of 1.

    Args:
        label: a key of `SOUNDS`.
        rng: draws the sound's parameters.
        duration_s: length of the event.
        sample_rate: in Hz.
        stretch: plays the sound slower and lower (above 1) or faster and higher, the length kept;
            widens the spread of a class beyond its own parameters.
    """
    n = round(duration_s * sample_rate)
    wave = np.zeros(n, dtype=np.float32)
    # A sound made for another rate and played at ours is a tape played at another speed.
    made = SOUNDS[label].make(rng, duration_s / stretch, round(sample_rate * stretch))[:n]
    wave[: len(made)] = made
    wave *= fade(n, sample_rate, 0.005, 0.02)
    return wave / np.float32(max(loudness(wave, sample_rate), 1e-6))
