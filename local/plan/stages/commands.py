"""The command of the recipe that carries out a stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from local.checkpoints.encoders.choice import KEYS_OF_WEIGHTS
from local.plan.reading import PlannedStage
from local.plan.schema import (
    EmbeddingsStage,
    GenerateStage,
    PseudoLabelsStage,
    ReportStage,
    TestStage,
    TrainStage,
    TuneBoxesStage,
)
from local.plan.stages.products import LABELS_FOLDER, SUMMARY_FOLDER, run_of
from local.tuning.study_log import BEST_FILE
from local.tuning.workers.device_slots import DeviceSlot

CONFIG_FILE = "config.yaml"
# Script -> the flags that require the GPU of its slot, the only one that it sees.
_GPU_FLAGS: Final = {
    "train_pretrained.py": ("--gpus", "1"),
    "extract_embeddings.py": ("--use_gpu", "1"),
}


class StageCommand(NamedTuple):
    """A script of the recipe and its arguments."""

    script: str
    arguments: tuple[str, ...]


def command_of(
    stage: PlannedStage,
    folder: Path,
    folders: Mapping[str, Path],
    checkpoints: Mapping[str, Path],
) -> StageCommand:
    """The command of a stage, which resumes it where it was interrupted.

    Args:
        stage: the stage.
        folder: where it is written; its configuration is there.
        folders: stage that it names -> where that was written.
        checkpoints: training that it names -> its best checkpoint.
    """
    spec, conf = stage.spec, ("--conf_file", str(folder / CONFIG_FILE))
    if isinstance(spec, GenerateStage):
        script = "generate_dcase_task4_2024.py"
        return StageCommand(script, ("--mini", "--basedir", spec.basedir))
    if isinstance(spec, EmbeddingsStage):
        more = ("--eval_set",) if spec.eval_set else ()
        return StageCommand("extract_embeddings.py", (*conf, *more))
    if isinstance(spec, PseudoLabelsStage):
        given = _repeated("--checkpoint", [checkpoints[name] for name in spec.checkpoints])
        more = ("--use_teacher",) if spec.use_teacher else ()
        labels = ("--pseudo_labels", str(folder / LABELS_FOLDER))
        return StageCommand("extract_embeddings.py", (*conf, *labels, *given, *more))
    if isinstance(spec, TrainStage):
        start: tuple[str, ...] = ("--log_dir", str(folder), "--resume_from_checkpoint", "auto")
        if spec.init_from is not None:
            start = (*start, "--init_from_checkpoint", str(checkpoints[spec.init_from]))
        return StageCommand("train_pretrained.py", (*conf, *start))
    if isinstance(spec, ReportStage):
        return StageCommand("summarize_runs.py", _summary(spec, folder, folders))
    tested = ("--test_from_checkpoint", *(str(checkpoints[name]) for name in spec.checkpoints))
    # Checkpoints know their encoders, and those that hold them refuse others.
    kept = [one for one in stage.own if one.partition("=")[0].strip() not in KEYS_OF_WEIGHTS]
    # Checkpoints have the thresholds of their trainings.
    n_thresholds = f"training.n_test_thresholds={stage.config.training.n_test_thresholds}"
    values = _repeated("--set", [n_thresholds, *kept])
    if isinstance(spec, TuneBoxesStage):
        boxes = ("--space", spec.space, "--decoder", "boxes", *(("--sweep",) if spec.sweep else ()))
        log_dir = ("--log_dir", str(folder))
        return StageCommand("optuna_pretrained.py", (*conf, *boxes, *log_dir, *tested, *values))
    assert isinstance(spec, TestStage)
    if spec.boxes is not None:
        conf = ("--conf_file", str(folders[spec.boxes] / BEST_FILE))
    arguments = (*conf, "--log_dir", str(folder), *tested, *values)
    return StageCommand("train_pretrained.py", arguments)


def on_device(command: StageCommand, slot: DeviceSlot) -> StageCommand:
    """The command, refused on a GPU's slot where PyTorch finds none: a training would otherwise
    take the CPU, and days. Stage two of the tuner has no such flag."""
    flag = {} if slot.gpu is None else _GPU_FLAGS
    return command._replace(arguments=(*command.arguments, *flag.get(command.script, ())))


def _summary(spec: ReportStage, folder: Path, folders: Mapping[str, Path]) -> tuple[str, ...]:
    runs = tuple(str(run_of(folders[name])) for name in spec.runs)
    others = tuple(str(run_of(folders[name])) for name in spec.against)
    against = ("--against", *others) if others else ()
    out = ("--output_dir", str(folder / SUMMARY_FOLDER), "--resamples", str(spec.resamples))
    return (*runs, *against, *out)


def _repeated(flag: str, values: Sequence[object]) -> tuple[str, ...]:
    return tuple(word for value in values for word in (flag, str(value)))
