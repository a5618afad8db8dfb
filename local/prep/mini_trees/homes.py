"""Mini trees with sounds of homes: DESED and RealDESED."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from local.config import SHIPPED, load_config
from local.prep.layout import UNLABELLED_TABLE, DataLayout
from local.prep.mini_corpus.sets import MINI_CLIP_SETS, MiniSizes, plan_set, table_text
from local.prep.mini_corpus.synthesis import Rng, uniform
from local.prep.mini_trees.plans import MiniTree, TreeClip, comma_lines, plan_clips, tab_lines

_DESED_ROOT: Final = "dcase/dataset"
_SIZES: Final = MiniSizes(synth=5, synth_val=3, strong=4, weak=6, unlabelled=5, dev_test=4)
# Class of RealDESED -> the sound that it is made of here.
_SOUNDS: Final = {
    "bell_ringing": "Alarm_bell_ringing",
    "coffee_machine": "coffee machine",
    "cutlery_dishes": "cutlery and dishes",
    "door_open_close": "door opens/closes",
    "footsteps": "footsteps",
    "keyboard_typing": "cash register beeping",
    "keychain": "Dishes",
    "light_switch": "brakes_squeaking",
    "microwave": "Electric_shaver_toothbrush",
    "phone_ringing": "announcement",
    "running_water": "Running_water",
    "toilet_flushing": "wind_blowing",
    "vacuum_cleaner": "Vacuum_cleaner",
    "wardrobe_drawer_open_close": "furniture dragging",
    "window_open_close": "shopping cart",
}
_LABELS: Final = {sound: label for label, sound in _SOUNDS.items()}
_ANNOTATORS: Final = ("ann01", "ann02", "ann03", "ann04")
_HEADER: Final = ("filename", "onset", "offset", "class")
_RAW_HEADER: Final = (
    *_HEADER,
    *("annotator_id", "annotator_is_creator", "review_status", "reviewer_id"),
)


def desed(seed: int) -> MiniTree:
    """DESED as downloaded: synthetic, strong real, weak, unlabelled, validation and dev-test."""
    data = load_config(SHIPPED / "pretrained.yaml").data
    root = Path(_DESED_ROOT)
    layout = DataLayout(data, Path(), Path())
    clips: list[TreeClip] = []
    texts = {}
    for kind in MINI_CLIP_SETS:
        if kind.name == "evaluation":
            continue
        planned = plan_set(kind, _SIZES, seed)
        folder = layout.made(f"{kind.folder_key}_44k").relative_to(root)
        clips += (TreeClip((folder / one.name).as_posix(), one.plan) for one in planned)
        if kind.table_key is not None:
            table = layout.made(kind.table_key).relative_to(root)
            texts[table.as_posix()] = table_text(kind, planned)
        else:
            names = [("filename",), *((one.name,) for one in planned)]
            weak = layout.made("weak_tsv").relative_to(root)
            texts[weak.with_name(UNLABELLED_TABLE).as_posix()] = tab_lines(names)
    return MiniTree(_DESED_ROOT, tuple(clips), texts, (2, 2, 2))


def real_desed(seed: int) -> MiniTree:
    """RealDESED: clips of several lengths, three annotators each, and rejected annotations."""
    clips: list[TreeClip] = []
    texts = {}
    for number, (split, n_clips) in enumerate((("train", 6), ("validation", 3), ("test", 3))):
        paths = [f"{split}/audio/{split[:2]}{index:04d}.wav" for index in range(n_clips)]
        # One is longer than two windows of 10 s, one much shorter than one.
        found = plan_clips((seed, 30 + number), paths, [*_LABELS], (12.4, 4.2, 21.3))
        clips += found
        raw = [row for index, clip in enumerate(found) for row in _raw(seed, number, index, clip)]
        texts[f"{split}/annotations_raw.csv"] = comma_lines([_RAW_HEADER, *raw])
        plain = [row[:4] for row in raw if row[6] != "rejected"]
        texts[f"{split}/annotations.csv"] = comma_lines([_HEADER, *plain])
        texts[f"{split}/metadata.csv"] = comma_lines(_metadata(found))
    return MiniTree("", tuple(clips), texts, (4,))


def _raw(seed: int, number: int, index: int, clip: TreeClip) -> Iterator[tuple[object, ...]]:
    """Rows of all annotators of a clip: its creator hears everything, others nearly so."""
    rng = np.random.default_rng((seed, 40 + number, index))
    creator, *others = rng.permutation(_ANNOTATORS).tolist()[:3]
    for event in clip.events(_LABELS):
        exact = (clip.name, event.onset_s, event.offset_s, event.label)
        yield (*exact, creator, "True", "accepted", "rev01")
        for other in others:
            if rng.random() < 0.85:
                onset_s, offset_s = (
                    round(float(np.clip(time_s + _error(rng), 0, clip.plan.duration_s)), 3)
                    for time_s in (event.onset_s, event.offset_s)
                )
                row = (clip.name, onset_s, max(offset_s, round(onset_s + 0.05, 3)), event.label)
                yield (*row, other, "False", "unreviewed", "")
    # What a reader would notice that reads rejected rows: a label that is no class.
    yield (clip.name, 0.0, 1.0, "mystery", others[0], "False", "rejected", "rev01")


def _error(rng: Rng) -> float:
    return uniform(rng, (-0.2, 0.2))


def _metadata(clips: tuple[TreeClip, ...]) -> Iterator[tuple[object, ...]]:
    yield (
        *("filename", "recording_environment", "target_classes", "non_target_classes"),
        *("recording_device", "device_placement", "scene_description", "license"),
    )
    for clip in clips:
        labels = ";".join(sorted({event.label for event in clip.events(_LABELS)}))
        yield (clip.name, "kitchen", labels, "", "phone", "static", "made, with noise", "CC0")
