"""Mini trees with sounds of streets and public places: URBAN-SED, TUT 2017 and MAESTRO real."""

from __future__ import annotations

import json
from typing import Final

import numpy as np

from local.prep.mini_corpus.annotators import soft_labels
from local.prep.mini_corpus.clip_plans import SCENE_CLASSES, plan_recording, scene_domain
from local.prep.mini_corpus.soundscapes import SYNTHETIC
from local.prep.mini_trees.plans import MiniTree, TreeClip, plan_clips, tab_lines

_URBAN: Final = {
    "wind_blowing": "air_conditioner",
    "Alarm_bell_ringing": "car_horn",
    "children voices": "children_playing",
    "Dog": "dog_bark",
    "Electric_shaver_toothbrush": "drilling",
    "large_vehicle": "engine_idling",
    "door opens/closes": "gun_shot",
    "Blender": "jackhammer",
    "metro approaching": "siren",
    "birds_singing": "street_music",
}
_STREET: Final = {
    "brakes_squeaking": "brakes squeaking",
    "car": "car",
    "children voices": "children",
    "large_vehicle": "large vehicle",
    "people talking": "people speaking",
    "footsteps": "people walking",
}
_STREET_NAMES: Final = ("a001", "a003", "a008", "a010", "a011", "a012")
# Recordings of the test of each of the four folds, by place.
_FOLDS: Final = ((0, 1), (2, 3), (4,), (5,))
_MAESTRO: Final = {
    "city_center": ("02", "04", "06", "07"),
    "residential_area": ("00", "01", "04", "07"),
}
# Separates the annotators' draws from those of the plan.
_ANNOTATORS: Final = 3
_SMALLEST: Final = 0.005


def urban_sed(seed: int) -> MiniTree:
    """URBAN-SED: 10 s clips, a table and a .jams file for each."""
    clips: list[TreeClip] = []
    texts: dict[str, str] = {}
    for number, (split, n_clips) in enumerate((("train", 6), ("validate", 3), ("test", 3))):
        names = [f"soundscape_{split}_bimodal{index}" for index in range(n_clips)]
        paths = [f"audio/{split}/{name}.wav" for name in names]
        found = plan_clips((seed, 10 + number), paths, [*_URBAN], (10.0,), domain=SYNTHETIC)
        clips += found
        for clip in found:
            events = clip.events(_URBAN)
            rows = [(event.onset_s, event.offset_s, event.label) for event in events]
            texts[f"annotations/{split}/{clip.stem}.txt"] = tab_lines(rows)
            told = [{"time": one[0], "duration": one[1] - one[0], "value": one[2]} for one in rows]
            jams = {"annotations": [{"namespace": "sound_event", "data": told}]}
            texts[f"annotations/{split}/{clip.stem}.jams"] = json.dumps(jams)
    return MiniTree("", tuple(clips), texts, (4,))


def tut2017(seed: int) -> MiniTree:
    """TUT Sound Events 2017: stereo recordings in 24 bits, .ann files, lists of four folds."""
    paths = [f"audio/street/{name}.wav" for name in _STREET_NAMES]
    domain = scene_domain("city_center")
    lengths_s = (21.3, 16.9)
    clips = plan_clips(
        (seed, 20), paths, [*_STREET], lengths_s, domain=domain, channels=2, n_bits=24
    )
    rows = {
        clip.path: [
            (clip.path, "street", event.onset_s, event.offset_s, event.label)
            for event in clip.events(_STREET)
        ]
        for clip in clips
    }
    texts = {f"meta/street/{clip.stem}.ann": tab_lines(rows[clip.path]) for clip in clips}
    for fold, places in enumerate(_FOLDS, start=1):
        tested = [clips[place] for place in places]
        trained_on = [clip for clip in clips if clip not in tested]
        name = f"evaluation_setup/street_fold{fold}"
        texts[f"{name}_train.txt"] = tab_lines(
            row for clip in trained_on for row in rows[clip.path]
        )
        texts[f"{name}_evaluate.txt"] = tab_lines(row for clip in tested for row in rows[clip.path])
        texts[f"{name}_test.txt"] = tab_lines((clip.path, "street") for clip in tested)
    return MiniTree("", clips, texts, (4,))


def maestro_real(seed: int) -> MiniTree:
    """MAESTRO real: recordings of two places, soft labels of each second, some of them above 1."""
    clips = []
    texts = {}
    for place, (scene, numbers) in enumerate(_MAESTRO.items()):
        classes = SCENE_CLASSES[scene]
        for number in numbers:
            own, name = (seed, 25 + place, int(number)), f"{scene}_{number}"
            plan = plan_recording(own, classes, 17.35, 1, scene_domain(scene))
            clips.append(TreeClip(f"development_audio/{scene}/{name}.wav", plan))
            rng = np.random.default_rng((*own, _ANNOTATORS))
            # As published, the weights of the annotators do not quite add up to 1.
            values = 1.04 * soft_labels(rng, plan.events, classes, plan.duration_s)
            rows = [
                (second, second + 1, classes[index], f"{values[index, second]:.4f}")
                for second, index in np.argwhere(values.T >= _SMALLEST).tolist()
            ]
            path = f"development_annotation/soft_labels_{scene}/{name}.txt"
            texts[path] = tab_lines(rows)
    return MiniTree("", tuple(clips), texts, (4,))
