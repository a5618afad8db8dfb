"""Mini trees with labels of AudioSet's ontology: AudioSet strong and FSD50K."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from local.prep.mini_trees.plans import MiniTree, TreeClip, comma_lines, plan_clips, tab_lines

_ID_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class _Named(NamedTuple):
    mid: str
    name: str


_AUDIOSET: Final = {
    "Speech": _Named("/m/09x0r", "Speech"),
    "Dog": _Named("/m/0bt9lr", "Dog"),
    "Cat": _Named("/m/01yrx", "Cat"),
    "Vacuum_cleaner": _Named("/m/0d31p", "Vacuum cleaner"),
    "Frying": _Named("/m/0dxrf", "Frying (food)"),
    "Blender": _Named("/m/02pjr4", "Blender, food processor"),
    "Running_water": _Named("/m/02jz0l", "Water tap, faucet"),
    "Dishes": _Named("/m/04brg2", "Dishes, pots, and pans"),
    "Alarm_bell_ringing": _Named("/m/046dlr", "Alarm clock"),
    "Electric_shaver_toothbrush": _Named("/m/02g901", "Electric shaver, electric razor"),
    "footsteps": _Named("/m/07pbtc8", "Walk, footsteps"),
    "car": _Named("/m/0k4j", "Car"),
}
# A label of the tables that is none of the 447 classes.
_NO_CLASS: Final = _Named("/m/028v0c", "Silence")
_TIMES: Final = ("start_time_seconds", "end_time_seconds")

# Sound -> its class and the classes above it.
_FSD50K: Final = {
    "Dog": ("Bark", "Dog", "Domestic_animals_and_pets", "Animal"),
    "Cat": ("Meow", "Cat", "Domestic_animals_and_pets", "Animal"),
    "Speech": ("Speech", "Human_voice"),
    "Frying": ("Frying_(food)", "Domestic_sounds_and_home_sounds"),
    "Dishes": ("Dishes_and_pots_and_pans", "Domestic_sounds_and_home_sounds"),
    "Running_water": ("Water_tap_and_faucet", "Domestic_sounds_and_home_sounds"),
    "car": ("Car", "Motor_vehicle_(road)", "Vehicle"),
    "large_vehicle": ("Truck", "Motor_vehicle_(road)", "Vehicle"),
    "footsteps": ("Walk_and_footsteps",),
    "wind_blowing": ("Wind",),
}
_MIDS: Final = {
    "Animal": "/m/0jbk",
    "Bark": "/m/05tny_",
    "Car": "/m/0k4j",
    "Cat": "/m/01yrx",
    "Dishes_and_pots_and_pans": "/m/04brg2",
    "Dog": "/m/0bt9lr",
    "Domestic_animals_and_pets": "/m/068hy",
    "Domestic_sounds_and_home_sounds": "/t/dd00071",
    "Frying_(food)": "/m/0dxrf",
    "Human_voice": "/m/09l8g",
    "Meow": "/m/07qrkrw",
    "Motor_vehicle_(road)": "/m/012f08",
    "Speech": "/m/09x0r",
    "Truck": "/m/07r04",
    "Vehicle": "/m/07yv9",
    "Walk_and_footsteps": "/m/07pbtc8",
    "Water_tap_and_faucet": "/m/02jz0l",
    "Wind": "/m/03m9d0z",
}
_LENGTHS_S: Final = (3.1, 0.6, 12.2, 6.4, 1.9)


def audioset_strong(seed: int) -> MiniTree:
    """AudioSet's strong labels: clips named by segment, labels that are identifiers."""
    clips: list[TreeClip] = []
    texts: dict[str, str] = {}
    mids = {sound: one.mid for sound, one in _AUDIOSET.items()}
    for number, (split, n_clips) in enumerate((("train", 8), ("eval", 4))):
        rng = np.random.default_rng((seed, 50 + number))
        names = [_segment(rng) for _ in range(n_clips)]
        paths = [f"audio/{split}/{name}.wav" for name in names]
        found = plan_clips((seed, 50 + number), paths, [*_AUDIOSET], (10.0,))
        clips += found
        rows = [
            (clip.stem, event.onset_s, event.offset_s, event.label)
            for clip in found
            for event in clip.events(mids)
        ]
        rows.append((found[0].stem, 0.0, 0.2, _NO_CLASS.mid))
        header = ("segment_id", *_TIMES, "label")
        texts[f"audioset_{split}_strong.tsv"] = tab_lines([header, *rows])
    texts["mid_to_display_name.tsv"] = tab_lines(sorted((*_AUDIOSET.values(), _NO_CLASS)))
    quarter = {"by": "clip", "validation": 0.25}
    return MiniTree("", tuple(clips), texts, (4,), {"audioset_train": quarter})


def _segment(rng: np.random.Generator) -> str:
    """A YouTube id, which may begin with a hyphen, and a start in milliseconds."""
    video = "".join(_ID_LETTERS[i] for i in rng.integers(0, len(_ID_LETTERS), 10))
    return f"-{video}_{10000 * int(rng.integers(0, 50))}"


def fsd50k(seed: int) -> MiniTree:
    """FSD50K: clips of several lengths, weak labels with their ancestors, quoted tables."""
    clips: list[TreeClip] = []
    texts = {}
    labels = [*enumerate(sorted(_MIDS))]
    texts["FSD50K.ground_truth/vocabulary.csv"] = comma_lines(
        (number, label, _MIDS[label]) for number, label in labels
    )
    for number, (part, n_clips) in enumerate((("dev", 10), ("eval", 4))):
        names = [str(64700 + 1000 * number + 7 * index) for index in range(n_clips)]
        paths = [f"FSD50K.{part}_audio/{name}.wav" for name in names]
        found = plan_clips((seed, 60 + number), paths, [*_FSD50K], _LENGTHS_S)
        clips += found
        header = ("fname", "labels", "mids", "split")
        rows = [
            _weak_row(clip, "val" if place % 3 == 2 else "train")
            for place, clip in enumerate(found)
        ]
        width = len(header) if part == "dev" else len(header) - 1
        table = [row[:width] for row in (header, *rows)]
        texts[f"FSD50K.ground_truth/{part}.csv"] = comma_lines(table)
    return MiniTree("", tuple(clips), texts, (4,))


def _weak_row(clip: TreeClip, split: str) -> tuple[str, ...]:
    sounds = dict.fromkeys(event.label for event in clip.plan.events)
    labels = [*dict.fromkeys(label for sound in sounds for label in _FSD50K[sound])]
    return clip.stem, ",".join(labels), ",".join(_MIDS[label] for label in labels), split
