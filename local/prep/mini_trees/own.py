"""Thirty labelled recordings, as one's own would be, to try how a detector of them is made."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from desed_task.atomic_files import write_text_atomic
from desed_task.audio.files import write_wav
from desed_task.errors import count_of
from desed_task.parallel import track
from local.cli.own_files import own_outputs
from local.prep.mini_corpus.clip_plans import plan_recording
from local.prep.mini_corpus.soundscapes import REAL, SOUNDSCAPE_RATE, render_clip
from local.prep.mini_trees.plans import TreeClip, tab_lines

OWN: Final = "own"
"""Name of these recordings, in the place of a task's."""
RECORDINGS: Final = "recordings"
NEW_RECORDING: Final = "new_recording.wav"
N_RECORDINGS: Final = 30
# Sound -> label, and the sounds of a recording, by turns.
_LABELS: Final = {"Dog": "dog", "Alarm_bell_ringing": "bell", "Vacuum_cleaner": "vacuum cleaner"}
_TURNS: Final = (("Dog",), ("Alarm_bell_ringing",), ("Vacuum_cleaner",), tuple(_LABELS))
_LENGTHS_S: Final = (6.2, 7.5, 8.0, 9.3)


def plan_own(seed: int) -> tuple[TreeClip, ...]:
    """The recordings, and last the new one, which has every sound."""
    clips = []
    for index in range(N_RECORDINGS + 1):
        sounds = _TURNS[index % len(_TURNS)] if index < N_RECORDINGS else tuple(_LABELS)
        length_s = _LENGTHS_S[index % len(_LENGTHS_S)]
        plan = plan_recording((seed, 50, index), list(sounds), length_s, 1, REAL)
        name = f"{RECORDINGS}/yard_{index:02d}.wav" if index < N_RECORDINGS else NEW_RECORDING
        clips.append(TreeClip(name, plan))
    return tuple(clips)


def make_own_recordings(
    folder: Path, *, seed: int = 42, progress: bool = True, overwrite: bool = False
) -> Path:
    """Write the recordings with label tracks of Audacity, and a new one without labels.

    Args:
        folder: gets `recordings/yard_00.wav`, `recordings/yard_00.txt`, ... and
            `new_recording.wav`.
        seed: of the sounds.
        progress: whether to show a bar and say what was made.
        overwrite: whether to replace files that were changed since they were made.

    Returns:
        The folder of the labelled recordings.

    Raises:
        InputError: files of these names were not made by this program.
    """
    clips = plan_own(seed)
    tracks = {clip: folder / clip.path.replace(".wav", ".txt") for clip in clips[:-1]}
    paths = [*(folder / clip.path for clip in clips), *tracks.values()]
    (folder / RECORDINGS).mkdir(parents=True, exist_ok=True)
    with own_outputs(folder, paths, overwrite=overwrite):
        for clip in track(clips, "sounds", len(clips), shown=progress):
            write_wav(folder / clip.path, render_clip(clip.plan), SOUNDSCAPE_RATE, "PCM_16")
        for clip, path in tracks.items():
            events = clip.events(_LABELS)
            rows = [(f"{e.onset_s:.6f}", f"{e.offset_s:.6f}", e.label) for e in events]
            write_text_atomic(path, tab_lines(rows))
    if progress:
        n = count_of(N_RECORDINGS, "recording")
        print(f"{folder / RECORDINGS}: {n}, labelled; {folder / NEW_RECORDING}: a new one")
    return folder / RECORDINGS
