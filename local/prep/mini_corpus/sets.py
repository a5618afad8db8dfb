"""The sets of the mini corpus: sizes, file names, differences and tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from local.data.expected_clips import first_of_groups
from local.prep.maestro_recordings import (
    MAESTRO_TRAIN_RECORDINGS,
    MAESTRO_VALIDATION_RECORDINGS,
    SCENES,
    scene_of,
)
from local.prep.mini_corpus.clip_plans import (
    SCENE_CLASSES,
    Oddity,
    plan_clip,
    plan_recording,
    scene_domain,
    youtube_name,
)
from local.prep.mini_corpus.soundscapes import REAL, SYNTHETIC, Domain, SoundscapePlan


@dataclass(frozen=True)
class MiniSizes:
    """The size of the corpus: clips per set, recordings per scene and their length in seconds."""

    synth: int = 120
    synth_val: int = 40
    strong: int = 110
    weak: int = 90
    unlabelled: int = 104
    dev_test: int = 64
    evaluation: int = 8
    train_recordings: int = 7
    validation_recordings: int = 4
    train_s: float = 48.0
    validation_s: float = 40.0

    @classmethod
    def small(cls) -> MiniSizes:
        """Return all parts with few clips, for tests. Batch quotas of at most 2, 2, 2, 2, 4 fit.

        Two training recordings of each scene: one is trained on, the other held out.
        """
        return cls(
            synth=5,
            synth_val=4,
            strong=4,
            weak=6,
            unlabelled=5,
            dev_test=6,
            evaluation=2,
            train_recordings=2,
            validation_recordings=1,
            train_s=11.0,
            validation_s=12.0,
        )


@dataclass(frozen=True)
class MiniClipSet:
    """One folder of clips and its table.

    Attributes:
        name: the field of `MiniSizes` that counts its clips.
        folder_key: its folder's key in the data section, without `_44k`.
        table_key: its table's key; None without labels.
        label_kind: kind of labels in the table.
        domain: acoustics of the clips.
        number: separates the random generators of the sets.
        youtube_names: whether clips are named like AudioSet's, or numbered.
    """

    name: str
    folder_key: str
    table_key: str | None
    label_kind: Literal["strong", "weak", "none"]
    domain: Domain
    number: int
    youtube_names: bool = True


MINI_CLIP_SETS = (
    MiniClipSet("synth", "synth_folder", "synth_tsv", "strong", SYNTHETIC, 1, False),
    MiniClipSet("synth_val", "synth_val_folder", "synth_val_tsv", "strong", SYNTHETIC, 2, False),
    MiniClipSet("strong", "strong_folder", "strong_tsv", "strong", REAL, 3),
    MiniClipSet("weak", "weak_folder", "weak_tsv", "weak", REAL, 4),
    MiniClipSet("unlabelled", "unlabeled_folder", None, "none", REAL, 5),
    MiniClipSet("dev_test", "test_folder", "test_tsv", "strong", REAL, 6),
    MiniClipSet("evaluation", "eval_folder", None, "none", REAL, 7, False),
)
_RECORDINGS_NUMBER = 8
# One per scene that has a recording of this number.
_STEREO_RECORDING = 4


class PlannedClip(NamedTuple):
    """A file name and the plan of its audio."""

    name: str
    plan: SoundscapePlan


def plan_set(clips: MiniClipSet, sizes: MiniSizes, seed: int) -> tuple[PlannedClip, ...]:
    """Plan all clips of a set, sorted by name."""
    n_clips = getattr(sizes, clips.name)
    planned = []
    for index in range(n_clips):
        own = (seed, clips.number, index)
        name = youtube_name(own) if clips.youtube_names else f"{index}.wav"
        plan = plan_clip(own, index, n_clips, clips.domain, choose_oddity(clips, index, n_clips))
        planned.append(PlannedClip(name, plan))
    return tuple(sorted(planned))


def choose_oddity(clips: MiniClipSet, index: int, n_clips: int) -> Oddity:
    """Choose which clips are stereo, short, long, silent or without events."""
    if not clips.youtube_names:
        return Oddity()
    if index == n_clips - 1 and clips.name in ("dev_test", "unlabelled"):
        return Oddity(empty=clips.name == "dev_test", silent=clips.name == "unlabelled")
    channels = 2 if index % 12 == 1 else 1
    if index % 8 == 2:
        # Between 6.2 and 9.8 s.
        return Oddity(6.2 + 0.4 * (index * 7 % 10), channels)
    if index % 20 == 4:
        # A test clip is cropped at 0, so events after 10 s cannot be detected.
        return Oddity(10.06 if clips.name == "dev_test" else 12.5, channels)
    return Oddity(channels=channels)


class PlannedRecording(NamedTuple):
    """A MAESTRO recording: its name, scene and the plan of its audio."""

    name: str
    scene: str
    plan: SoundscapePlan


def plan_recordings(sizes: MiniSizes, seed: int) -> Iterator[PlannedRecording]:
    """Plan the corpus's recordings of the real split, training first."""
    for names, n_recordings, duration_s in (
        (MAESTRO_TRAIN_RECORDINGS, sizes.train_recordings, sizes.train_s),
        (MAESTRO_VALIDATION_RECORDINGS, sizes.validation_recordings, sizes.validation_s),
    ):
        chosen = first_of_groups(names, SCENES, n_recordings)
        for scene in SCENES:
            of_scene = [name for name in chosen if scene_of(name) == scene]
            for turn, name in enumerate(of_scene):
                number = int(name.rsplit("_", 1)[1])
                own = (seed, _RECORDINGS_NUMBER, SCENES.index(scene), number)
                classes = _classes_of(scene, turn, len(of_scene))
                channels = 2 if number == _STEREO_RECORDING else 1
                # Not whole seconds, so that the last window of a recording is a shorter one.
                plan = plan_recording(
                    own, classes, duration_s + 0.35, channels, scene_domain(scene)
                )
                yield PlannedRecording(name, scene, plan)


def _classes_of(scene: str, turn: int, n_recordings: int) -> tuple[str, ...]:
    """Choose the scene's classes in one recording: all of them, or three in rotation.

    No two classes always occur together, lest one be learned as a cue for the other. Two recordings
    of three classes would not have all six.
    """
    classes = SCENE_CLASSES[scene]
    if n_recordings <= 2:
        return classes
    return tuple(classes[(turn + step) % len(classes)] for step in (0, 1, 3))


def table_text(clips: MiniClipSet, planned: tuple[PlannedClip, ...]) -> str:
    """Write the set's table in the format of the real one."""
    if clips.label_kind == "weak":
        rows = [(name, ",".join(labels_of(plan))) for name, plan in planned]
        return _tsv(("filename", "event_labels"), rows)
    rows = [row for name, plan in planned for row in _event_rows(name, plan)]
    return _tsv(("filename", "onset", "offset", "event_label"), rows)


def labels_of(plan: SoundscapePlan) -> list[str]:
    """Classes of a plan that its table lists, sorted."""
    return sorted({event.label for event in plan.events if event.listed})


def _event_rows(name: str, plan: SoundscapePlan) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (name, str(event.onset_s), str(event.offset_s), event.label)
        for event in plan.events
        if event.listed
    ]
    return rows or [(name, "", "", "")]


def _tsv(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "".join("\t".join(row) + "\n" for row in [header, *rows])
