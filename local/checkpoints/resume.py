"""Find the run to resume, and check that its training can be resumed."""

from __future__ import annotations

from pathlib import Path

import yaml

from desed_task.checkpoints.published import is_published
from desed_task.checkpoints.safe_load import load_safely
from desed_task.errors import InputError
from local.checkpoints.restore import KEPT_CLIPS, config_of_checkpoint
from local.checkpoints.revision import REVISION, changes_since, revision_of
from local.config import RecipeConfig, check_config
from local.scoring import results

LAST_CHECKPOINT = "last.ckpt"


def find_resumable(log_dir: Path, config: RecipeConfig) -> tuple[Path | None, Path | None]:
    """Find the run for `--resume_from_checkpoint auto`.

    Only the newest training with the same configuration counts; runs of `--test_from_checkpoint`
    and `--eval_from_checkpoint` have no checkpoint of their own. A training under earlier rules is
    skipped with a message.

    Returns:
        (finished run folder, None), (None, checkpoint to resume from) or (None, None).
    """
    folders = [path for path in log_dir.glob("version_*") if path.name[8:].isdigit()]
    earlier: list[Path] = []
    for folder in sorted(folders, key=lambda path: int(path.name[8:]), reverse=True):
        last = folder / "checkpoints" / LAST_CHECKPOINT
        if not last.is_file():
            continue
        if _stored_revision(folder) < REVISION:
            earlier.append(folder)
        elif _stored_config(folder) == config:
            return (folder, None) if _is_finished(folder, config) else (None, last)
    if earlier:
        others = f" and {len(earlier) - 1} more" if len(earlier) > 1 else ""
        print(
            f"{earlier[0]}{others}: trained under earlier rules (docs/method.md lists what has "
            "changed), so left alone and not resumed; a new training starts"
        )
    return None, None


def _is_finished(folder: Path, config: RecipeConfig) -> bool:
    """Whether a training was tested to the end; the energy of the test is written last."""
    energy = results.emissions_file(folder, "test")
    measured = not config.energy.enabled or (energy.is_file() and energy.stat().st_size > 0)
    return (folder / results.RESULTS_FILE).is_file() and measured


def find_begun(log_dir: Path, config: RecipeConfig) -> Path | None:
    """The newest training of this configuration that ended before its first checkpoint.

    Without this, each kill in the first epoch would leave a run folder without results.
    """
    folders = [path for path in log_dir.glob("version_*") if path.name[8:].isdigit()]
    for folder in sorted(folders, key=lambda path: int(path.name[8:]), reverse=True):
        has_checkpoint = (folder / "checkpoints" / LAST_CHECKPOINT).exists()
        if not has_checkpoint and _is_training(folder) and _stored_config(folder) == config:
            return folder
    return None


def _is_training(folder: Path) -> bool:
    """Whether a run is a training under these rules, or ended before this was written."""
    path = folder / "run.yaml"
    if not path.exists():
        return True
    try:
        stage = yaml.safe_load(path.read_text(encoding="utf-8"))[0]["stage"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, LookupError, TypeError):
        return False
    return bool(stage == "fit") and _stored_revision(folder) == REVISION


def check_resumable(path: Path, config: RecipeConfig) -> None:
    """Reject a checkpoint whose training cannot be resumed with `config`.

    Raises:
        InputError: it was trained with other values, which would change networks, batches or
            schedule during a run, or under other training rules (the message names the
            differences); or it is a published checkpoint.
    """
    checkpoint = load_safely(path)
    if is_published(checkpoint):
        raise InputError(
            f"{path}: training cannot be resumed from a checkpoint of the published code; test it "
            "with --test_from_checkpoint, or start a new training"
        )
    _check_revision(path, revision_of(checkpoint))
    stored = config_of_checkpoint(checkpoint, config, (), str(path)).dump()
    # A test takes this key from the configuration, but in training it chooses the clips.
    stored["data"][KEPT_CLIPS] = checkpoint["hyper_parameters"].get("data", {}).get(KEPT_CLIPS, [])
    here = config.dump()
    keys = {section: here[section] for section in ("training", "scaler", "opt", "feats", "net")}
    differing = [
        f"{section}.{key}: {stored[section][key]!r} in the checkpoint, {here[section][key]!r} here"
        for section, of in {**keys, "data": [KEPT_CLIPS]}.items()
        for key in of
        if stored[section][key] != here[section][key]
    ]
    if differing:
        heading = f"{path} was trained with other values; resume with the same configuration:"
        raise InputError.collect(differing, heading)


def _check_revision(path: Path, revision: int) -> None:
    if revision > REVISION:
        raise InputError(
            f"{path}: was trained under newer rules (training revision {revision}, here "
            f"{REVISION}); update this code to resume it"
        )
    if revision < REVISION:
        heading = (
            f"{path} was trained under earlier rules (training revision {revision}, now "
            f"{REVISION}) and cannot be resumed under these; start a new training, or check out "
            "the commit that run.yaml in its folder names. Since then:"
        )
        raise InputError.collect(changes_since(revision), heading)


def resume_hint(last: Path) -> str:
    """Instructions after a training was stopped."""
    return f"resume with --resume_from_checkpoint {last}" if last.is_file() else "start again"


def _stored_revision(folder: Path) -> int:
    """The training revision that a run began with, from its run.yaml."""
    try:
        stages = yaml.safe_load((folder / "run.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return 1
    first = stages[0] if isinstance(stages, list) and stages else {}
    return revision_of(first if isinstance(first, dict) else {})


def _stored_config(folder: Path) -> RecipeConfig | None:
    try:
        tree = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        return check_config(tree, str(folder / "config.yaml"))
    except (OSError, InputError):
        return None
