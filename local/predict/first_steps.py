"""What to do without a checkpoint: the message for someone who has a recording and nothing else."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from desed_task.audioset.classes import STRONG_SIZE
from desed_task.audioset.released_files import detectors, fetching
from desed_task.checkpoints.run_folders import runs_in
from desed_task.encoders.released import released
from desed_task.encoders.weights_file import WEIGHTS_FOLDER
from desed_task.errors import command_line, command_name
from desed_task.file_names import escape_name, looked_up_from

# Default folders of trainings and of the published checkpoint.
RUNS = Path("exp")
PUBLISHED = Path("../../data/baseline_pretrained_2024")
PUBLISHED_WEIGHTS = Path("pretrained_models/BEATs_iter3_plus_AS2M.pt")
WEIGHTS_ADDRESS = "https://github.com/microsoft/unilm/tree/master/beats"
_TRAIN = "train_pretrained.py"
# The detector of AudioSet's classes that is offered, if none is there.
UNTRAINED = "atst_frame_strong"


def without_checkpoint(recordings: Sequence[Path], arguments: str = "") -> str:
    """A message in four lines: what is missing, and three ways to get it.

    Args:
        recordings: what the command is to process.
        arguments: its other arguments, for the lines to copy.
    """
    words = [shlex.quote(escape_name(path)) for path in recordings[:2]]
    words += ["..."] * (len(recordings) > 2)
    ours = command_line("predict.py", " ".join([*words, *filter(None, [arguments])]))
    what = escape_name(recordings[0]) if recordings else "an export"
    if recordings and not os.path.exists(recordings[0]):
        what += f" (no such file or folder{looked_up_from(recordings[0])})"
    lines = [f"{what} needs a trained network: give its checkpoint or run folder with --checkpoint"]
    newest = _newest_run()
    ways = [_trained_here(ours, newest), _published(ours)]
    if recordings:  # an export is of networks that were trained with this recipe
        ways.insert(0 if newest is None else 1, _untrained(ours))
    return "\n".join([*lines, *(f"  {way}" for way in ways)])


def _untrained(ours: str) -> str:
    """The first detector of AudioSet's classes that is there, or else `UNTRAINED`."""
    there = [row for row in detectors() if Path(WEIGHTS_FOLDER, row.file).is_file()]
    row = there[0] if there else released(UNTRAINED)
    steps = [] if there else [fetching(row)]
    steps.append(f"{ours} --checkpoint {row.name}")
    return (
        f"{STRONG_SIZE} classes of AudioSet, without training: {'; then '.join(steps)} (others: "
        "--list_checkpoints)"
    )


def _newest_run() -> Path | None:
    places = [RUNS, *(sorted(RUNS.iterdir()) if RUNS.is_dir() else [])]
    found = [run for place in places if place.is_dir() for run in runs_in(place)]
    return max(found, key=lambda run: (_changed(run), run), default=None)


def _trained_here(ours: str, newest: Path | None) -> str:
    if newest is not None:
        return f"the newest trained here: {ours} --checkpoint {shlex.quote(escape_name(newest))}"
    steps = "make demo"
    if command_name(_TRAIN) != _TRAIN or not Path("Makefile").is_file():
        mini = "--conf_file confs/mini.yaml"
        steps = " && ".join(
            [
                command_line("generate_dcase_task4_2024.py", "--mini"),
                command_line("extract_embeddings.py", mini),
                command_line(_TRAIN, f"{mini} --log_dir exp/mini"),
            ]
        )
    return (
        f"a small one for synthetic sounds, trained in minutes: {steps}; then {ours} --checkpoint "
        f"{RUNS / 'mini'}"
    )


def _changed(run: Path) -> float:
    return run.stat().st_mtime


def _published(ours: str) -> str:
    steps = []
    if not PUBLISHED.is_dir():
        steps.append(command_line("generate_dcase_task4_2024.py", "--only_checkpoint"))
    if not PUBLISHED_WEIGHTS.is_file():
        steps.append(
            f"put {PUBLISHED_WEIGHTS.name} from {WEIGHTS_ADDRESS} into {PUBLISHED_WEIGHTS.parent}"
        )
    steps.append(f"{ours} --checkpoint {PUBLISHED}")
    return f"the published one, for real sounds: {'; then '.join(steps)}"
