"""Plan the events of each clip of the mini corpus: DESED-like clips and MAESTRO-like recordings.

Every clip has its own generator, seeded by (corpus seed, set, index), so a clip depends on nothing
but these three.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from local.classes_dict import DESED_CLASSES
from local.prep.mini_corpus.sounds import SOUNDS
from local.prep.mini_corpus.soundscapes import (
    HISS,
    HOUSE,
    PINK,
    ROAD,
    Domain,
    PlannedEvent,
    SoundscapePlan,
    draw_snr_db,
    place_event,
)
from local.prep.mini_corpus.synthesis import Rng, uniform

CLIP_S = 10.0
_GAP_S = 0.3
# Annotators who hear ten seconds at a time cannot tell closer bouts apart.
_BOUT_GAP_S = 12.0
# A recording has one bout of a class, and on average one more in so many seconds.
_AGAIN_S = 60.0
# How often a class is added to a clip of another one: mostly short sounds and speech.
_COMPANY = np.array([0.6, 0.4, 1.0, 1.6, 1.0, 0.3, 0.4, 0.6, 2.5, 0.3])
# Unlisted sounds in the surroundings of a home.
_BYSTANDERS = ("footsteps", "door opens/closes", "furniture dragging", "car", "birds_singing")
_SHORT_S = 2.1
_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

SCENE_CLASSES: dict[str, tuple[str, ...]] = {
    "cafe_restaurant": (
        "people talking", "cutlery and dishes", "coffee machine", "furniture dragging",
        "footsteps", "children voices",
    ),
    "city_center": (
        "car", "large_vehicle", "footsteps", "people talking", "brakes_squeaking",
        "children voices",
    ),
    "grocery_store": (
        "cash register beeping", "shopping cart", "people talking", "children voices",
        "footsteps", "announcement",
    ),
    "metro_station": (
        "metro approaching", "metro leaving", "footsteps", "people talking", "announcement",
        "door opens/closes",
    ),
    "residential_area": (
        "birds_singing", "wind_blowing", "car", "footsteps", "children voices",
        "large_vehicle",
    ),
}  # fmt: skip
_SCENE_BACKGROUNDS = {
    "cafe_restaurant": HOUSE,
    "city_center": ROAD,
    "grocery_store": HISS,
    "metro_station": HOUSE,
    "residential_area": PINK,
}


class Oddity(NamedTuple):
    """How one clip differs from ten seconds of mono."""

    duration_s: float = CLIP_S
    channels: int = 1
    silent: bool = False
    empty: bool = False


def plan_clip(
    seed: tuple[int, ...], index: int, n_clips: int, domain: Domain, oddity: Oddity
) -> SoundscapePlan:
    """Plan a clip with the class (in small sets, classes) whose turn it is, and some others."""
    rng = np.random.default_rng(seed)
    if oddity.silent:
        return SoundscapePlan(seed, oddity.duration_s, oddity.channels, None, ())
    events: list[PlannedEvent] = []
    if not oddity.empty:
        # Without the last clip, which may be an empty one, every class still has its turn.
        turn = max(1, min(n_clips - 1, len(DESED_CLASSES)))
        for label in DESED_CLASSES[index % turn :: turn]:
            _add(rng, events, label, oddity.duration_s, domain, int(rng.integers(1, 4)))
        for _ in range(rng.poisson(1.1)):
            label = DESED_CLASSES[rng.choice(len(_COMPANY), p=_COMPANY / _COMPANY.sum())]
            _add(rng, events, label, oddity.duration_s, domain, int(rng.integers(1, 3)))
    if rng.random() < domain.bystander:
        events += _bystander(rng, oddity.duration_s)
    events.sort(key=lambda event: event.onset_s)
    return SoundscapePlan((*seed, 1), oddity.duration_s, oddity.channels, domain, tuple(events))


def _add(
    rng: Rng, events: list[PlannedEvent], label: str, clip_s: float, domain: Domain, times: int
) -> None:
    """Add a class where there is room, several times if its sounds are short."""
    sound = SOUNDS[label]
    short = sound.longest_s <= _SHORT_S or label == "Speech"
    for _ in range(times if short else 1):
        duration_s = uniform(rng, (sound.shortest_s, sound.longest_s))
        where = place_event(rng, events, label, duration_s, clip_s, _GAP_S)
        if where:
            events.append(PlannedEvent(label, *where, draw_snr_db(rng, domain)))


def _bystander(rng: Rng, clip_s: float) -> list[PlannedEvent]:
    label = _BYSTANDERS[rng.integers(len(_BYSTANDERS))]
    where = place_event(rng, (), label, uniform(rng, (2.0, 4.0)), clip_s, 0.0)
    return [PlannedEvent(label, *where, uniform(rng, (0.0, 8.0)), listed=False)] if where else []


def scene_domain(scene: str) -> Domain:
    """The acoustics of a MAESTRO scene: its kind of noise, rooms and microphones."""
    return Domain((_SCENE_BACKGROUNDS[scene],), (21.0, 4.0), 0.05, (0.97, 1.03), (0.05, 0.2), 1.0)


def plan_recording(
    seed: tuple[int, ...], classes: Sequence[str], duration_s: float, channels: int, domain: Domain
) -> SoundscapePlan:
    """Plan a long recording in which each of some classes occurs in one bout or several."""
    rng = np.random.default_rng(seed)
    events: list[PlannedEvent] = []
    for label in rng.permutation(classes).tolist():
        sound = SOUNDS[label]
        # A bout that fills the recording would leave the class without negatives.
        longest_s = min(sound.longest_s, 0.5 * duration_s)
        for _ in range(1 + rng.poisson(duration_s / _AGAIN_S)):
            bout_s = uniform(rng, (min(sound.shortest_s, longest_s), longest_s))
            where = place_event(rng, events, label, bout_s, duration_s, _BOUT_GAP_S)
            if where:
                events.append(PlannedEvent(label, *where, draw_snr_db(rng, domain)))
    events.sort(key=lambda event: event.onset_s)
    return SoundscapePlan((*seed, 1), duration_s, channels, domain, tuple(events))


def youtube_name(seed: tuple[int, ...]) -> str:
    """Draw a file name in the style of AudioSet clips: Y<11 characters>_<start>_<end>.wav."""
    rng = np.random.default_rng((*seed, 2))
    video = "".join(_ID_LETTERS[i] for i in rng.integers(0, len(_ID_LETTERS), 11))
    start_s = 10 * int(rng.integers(0, 60))
    return f"Y{video}_{start_s:.3f}_{start_s + CLIP_S:.3f}.wav"
