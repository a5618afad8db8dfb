"""MAESTRO's published recordings, and the split of training clips into training and validation.

See docs/method.md, Classes and corpora.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from desed_task.dataio.clip_names import last_part
from desed_task.errors import InputError

# `split_train_files` shuffles recordings in this order.
SCENES = ("cafe_restaurant", "city_center", "grocery_store", "metro_station", "residential_area")


def _recordings(numbers: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{scene}_{n}" for scene in SCENES for n in numbers[scene].split())


MAESTRO_TRAIN_RECORDINGS = _recordings(
    {
        "cafe_restaurant": "00 06 07 08 11 12 14",
        "city_center": "02 04 06 07 11 12 14",
        "grocery_store": "00 02 03 08 09 11",
        "metro_station": "00 02 05 07 10 12",
        "residential_area": "00 01 04 07 08 09 14",
    }
)
MAESTRO_VALIDATION_RECORDINGS = _recordings(
    {
        "cafe_restaurant": "04 10 13",
        "city_center": "05 09 10",
        "grocery_store": "01 04 12",
        "metro_station": "01 04 11",
        "residential_area": "03 05 06 12",
    }
)


def split_train_files(
    clip_ids: Iterable[str], fraction: float, seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split clips by recording into training clips and held-out clips.

    One `np.random.RandomState(seed)` shuffles the recordings scene by scene, in `SCENES`' order,
    starting from the order in which clips first name them. Of n recordings, the first
    `int(fraction * n)` are for training: none if n is 1. Clips of a recording overlap (hop 1 s), so
    after a split by clip, validation would use audio of the training clips.

    Args:
        clip_ids: `<scene>_<number>-<onset>-<offset>`, in folders or not, in table order;
            duplicates are ignored.
        fraction: share of each scene's recordings used for training.
        seed: seed of the generator.

    Returns:
        Training clips and held-out clips: scene by scene, each scene in table order.

    Raises:
        InputError: a clip's name does not begin with a scene.
    """
    scenes: dict[str, list[str]] = {scene: [] for scene in SCENES}
    for clip_id in dict.fromkeys(clip_ids):
        scenes[scene_of(last_part(clip_id))].append(clip_id)
    generator = np.random.RandomState(seed)
    train: list[str] = []
    held_out: list[str] = []
    for names in scenes.values():
        recordings = list(dict.fromkeys(map(_recording_of, names)))
        generator.shuffle(recordings)
        trained_on = set(recordings[: int(fraction * len(recordings))])
        for name in names:
            (train if _recording_of(name) in trained_on else held_out).append(name)
    return tuple(train), tuple(held_out)


def _recording_of(clip_id: str) -> str:
    """The part of a clip's name before the first hyphen.

    Without its folders: a recording whose clips lie in several is held out as one.
    """
    return last_part(clip_id).partition("-")[0]


def scene_of(name: str) -> str:
    """The scene that a recording's or clip's name begins with.

    Raises:
        InputError: the name begins with no known scene.
    """
    for scene in SCENES:
        if name.startswith(f"{scene}_"):
            return scene
    raise InputError(f"{name!r}: names no MAESTRO scene; begin it with one of {', '.join(SCENES)}")


def first_of_each_scene(recordings: Iterable[str], n: int) -> tuple[str, ...]:
    """The first `n` recordings of each scene, as in a mini corpus."""
    names = tuple(recordings)
    return tuple(
        name for scene in SCENES for name in [one for one in names if scene_of(one) == scene][:n]
    )
