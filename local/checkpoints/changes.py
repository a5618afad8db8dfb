"""Which changed values of the configuration a training can be resumed with.

Accepted are changes that leave everything that was computed so far as it is: a training with the
new value from its beginning would have come to the same point. `RULES` classifies every key.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

from desed_task.errors import count_of
from desed_task.schedules import LEAST_LR
from local.checkpoints.tasks.compared import (
    Tree,
    changed_task_values,
    chosen_on,
    task_in,
    task_values,
)
from local.config import TASK_SECTION, RecipeConfig
from local.schema.schedules import schedule_of, weight_of_consistency

# Letters of a value in a message.
LONGEST_SHOWN: Final = 1000


class Kind(Enum):
    """What a key means for a training that is resumed."""

    FIXED = "computes the training"  # a change is refused
    SCHEDULE = "schedule"  # harmless up to the step from which rates or weights would differ
    VALIDATED = "validations"  # harmless up to the first validation that would differ
    PATIENCE = "patience"  # harmless unless the training would have ended before
    TRAINED = "clips"  # entries for the corpora that are trained on are fixed
    WINDOWS = "windows"  # fixed where training takes windows of long clips at this distance
    ENCODER = "encoder"  # fixed where embeddings are used
    PACKED = "packed"  # fixed where embeddings are packed
    ROUNDED = "rounding"  # accepted; sums may differ in their last bits
    FREE = "free"  # computes nothing of a training


class Rule(NamedTuple):
    """How a key is treated, and why."""

    kind: Kind
    why: str


_FIXED: Final = {
    "training": (
        *(
            "batch_size",
            "batch_scope",
            "accumulate_batches",
            "const_max",
            "gradient_clip",
            "ema_factor",
        ),
        *("self_sup_loss", "mixup", "mixup_prob", "mixup_draw", "consistency"),
    ),
    "split": ("weak_split", "maestro_split", "seed"),
    "best": ("obj_metric_synth_type", "obj_metric_maestro_type"),
}
# Pattern of dotted keys -> rule; the first that fits counts.
RULES: Final[Mapping[str, Rule]] = {
    **{f"training.{key}": Rule(Kind.FIXED, "steps and losses") for key in _FIXED["training"]},
    **{
        f"training.{key}": Rule(Kind.FIXED, "which clips are trained on") for key in _FIXED["split"]
    },
    **{f"training.{key}": Rule(Kind.FIXED, "which epoch is the best") for key in _FIXED["best"]},
    "training.deterministic": Rule(Kind.FIXED, "operations of a GPU"),
    "training.precision": Rule(Kind.FIXED, "all computations"),
    "training.n_epochs": Rule(Kind.SCHEDULE, "learning rates after epoch_decay, and the end"),
    "training.epoch_decay": Rule(Kind.SCHEDULE, "rates and weights from there on"),
    "training.n_epochs_warmup": Rule(Kind.SCHEDULE, "rates and weights from the first step on"),
    "training.validation_interval": Rule(Kind.VALIDATED, "which epochs may be the best"),
    "training.early_stop_patience": Rule(Kind.PATIENCE, "when training ends"),
    "training.pseudo_labels": Rule(Kind.FREE, "a path; digests of the pseudo-labels are compared"),
    "training.batch_size_val": Rule(Kind.FREE, "scores of a clip do not depend on its batch"),
    "training.num_workers": Rule(Kind.FREE, "draws depend on seed, epoch and clip"),
    "training.n_test_thresholds": Rule(Kind.FREE, "only tests use it"),
    "training.enable_progress_bar": Rule(Kind.FREE, "display"),
    "scaler.savepath": Rule(Kind.FREE, "the checkpoint contains the statistics"),
    **{f"scaler.{key}": Rule(Kind.FIXED, "features") for key in ("statistic", "normtype", "dims")},
    **{
        f"data.*_{end}": Rule(Kind.FREE, "digests of tables, clips and durations are compared")
        for end in ("folder", "folder_44k", "tsv", "dur")
    },
    "data.audio_max_len": Rule(Kind.FIXED, "clips"),
    "data.fs": Rule(Kind.FIXED, "clips"),
    "data.net_subsample": Rule(Kind.FIXED, "frames"),
    "data.keep_clips_without_events": Rule(Kind.TRAINED, "which clips are used"),
    "data.test_groups": Rule(Kind.FREE, "only tests use it"),
    "data.packed_dir": Rule(Kind.ROUNDED, "packed embeddings are pooled before mixup"),
    "data.packed_dtype": Rule(Kind.PACKED, "float16 rounds packed embeddings"),
    "data.resident": Rule(Kind.FREE, "where packed sets are kept"),
    "pretrained.model": Rule(Kind.ENCODER, "what the network is given"),
    "pretrained.n_blocks": Rule(Kind.ENCODER, "what the network is given"),
    "pretrained.e2e": Rule(Kind.FIXED, "what the network is given"),
    "pretrained.freezed": Rule(Kind.FIXED, "what is trained"),
    "pretrained.gradient_checkpointing": Rule(Kind.FREE, "memory and time"),
    "pretrained.*": Rule(Kind.FREE, "paths; digests of the embeddings are compared"),
    "opt.*": Rule(Kind.FIXED, "optimizer"),
    "losses.*": Rule(Kind.FIXED, "steps and losses"),
    "augment.device_dir": Rule(Kind.FREE, "a path; the SHA-256 of the responses is compared"),
    "augment.*": Rule(Kind.FIXED, "augmentation"),
    "feats.*": Rule(Kind.FIXED, "features"),
    "net.*": Rule(Kind.FIXED, "network; validations filter its scores"),
    "decoder.*": Rule(Kind.FIXED, "validations decode scores with it"),
    "predict.hop_s": Rule(Kind.WINDOWS, "windows over clips that are too long"),
    "predict.*": Rule(Kind.FREE, "predictions"),
    "energy.*": Rule(Kind.FREE, "a measurement"),
    "logging.*": Rule(Kind.FREE, "display"),
    "tuned.*": Rule(Kind.FREE, "only tests use it"),
    "initial_weights.checkpoint": Rule(Kind.FREE, "the SHA-256 of the file is compared"),
    "initial_weights.checkpoint_sha256": Rule(Kind.FIXED, "weights at the beginning"),
    "initial_weights.classes": Rule(Kind.FIXED, "weights at the beginning"),
    "task.name": Rule(Kind.FREE, "display"),
    "task.classes": Rule(Kind.FIXED, "outputs of the network"),
    "task.rows": Rule(Kind.FIXED, "steps and losses"),
    "task.mixup_groups": Rule(Kind.FIXED, "which rows are mixed"),
    "task.objective": Rule(Kind.FIXED, "which epoch is the best"),
    "task.scored.validation": Rule(Kind.FIXED, "which epoch is the best"),
    "task.scored.test": Rule(Kind.FREE, "only tests use it"),
    "task.others.*": Rule(Kind.FREE, "corpora that are neither trained on nor validated"),
    **{
        f"task.corpora.*.{key}": Rule(Kind.FREE, "display")
        for key in ("title", "licence", "scores_stem")
    },
    **{
        f"task.corpora.*.{key}": Rule(
            Kind.FREE, "digests of tables, clips, durations and embeddings are compared"
        )
        for key in (
            *("folder", "originals", "pattern", "clips", "listed"),
            *("table", "durations", "stem"),
        )
    },
    "task.corpora.*": Rule(Kind.FIXED, "which clips are trained on, with which labels"),
}


def rule_of(dotted: str) -> Rule:
    """The rule of `section.key`.

    Raises:
        KeyError: the key is not classified.
    """
    for pattern, rule in RULES.items():
        if fnmatch.fnmatchcase(dotted, pattern):
            return rule
    raise KeyError(f"{dotted}: classify it in {__name__}.RULES")


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        n_epochs: finished epochs.
        n_steps: optimizer steps in them.
        longest_wait: the most validations in a row without a better value before a better one.
    """

    n_epochs: int
    n_steps: int
    longest_wait: int

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any]) -> Progress:
        """The progress that a checkpoint was saved at, after an epoch."""
        states = checkpoint.get("callbacks", {})
        found = (state for name, state in states.items() if str(name).startswith("EarlyStopping"))
        state = next(found, {})
        n_epochs = int(checkpoint.get("epoch", -1)) + 1
        longest = state.get("longest_wait")
        if longest is None:  # of an earlier version: it may be anything below the patience
            longest = max(int(state.get("patience", 1)) - 1, 0)
        return cls(n_epochs, int(checkpoint.get("global_step", 0)), int(longest))


class ChangedValues(NamedTuple):
    """Changed values, one line each.

    Attributes:
        accepted: those a training can be resumed with.
        refused: the others, with the reason if that is not the key itself.
        of_result: accepted ones with which a training may have another result.
    """

    accepted: tuple[str, ...]
    refused: tuple[str, ...]
    of_result: tuple[str, ...]


def compare(before: Tree, now: Tree, progress: Progress | None = None) -> ChangedValues:
    """Compare the configuration of a training with the one it is to be resumed with.

    Args:
        before: its values, `RecipeConfig.dump()`.
        now: the new values.
        progress: how far it has come; None treats every change that is not free as refused.
    """
    accepted, refused, of_result = [], [], []
    for dotted, (old, new) in differing_values(before, now).items():
        kind = rule_of(dotted).kind
        reason = _CHECKS[kind](before, now, progress)
        if reason is not None:
            why = f" ({reason})" if reason else ""
            refused.append(f"{dotted}: {_shown(old)} in the checkpoint, {_shown(new)} here{why}")
            continue
        rounded = kind is Kind.ROUNDED and (old is None) != (new is None)
        remark = "; sums may differ in their last bits" if rounded else ""
        accepted.append(f"{dotted}: {_shown(old)} -> {_shown(new)}{remark}")
        if kind not in (Kind.FREE, Kind.ROUNDED, Kind.WINDOWS):
            of_result.append(accepted[-1])
    return ChangedValues(tuple(accepted), tuple(refused), tuple(of_result))


def _shown(value: Any) -> str:
    """A value for a message; of long lists of classes, the ends."""
    text = repr(value)
    if len(text) <= LONGEST_SHOWN:
        return text
    half = (LONGEST_SHOWN - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


def differing_values(before: Tree, now: Tree) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> values before and now, of those that differ, in the order of the schema.

    Keys of loggers are not read.
    """
    found = {
        f"{section}.{key}": (before[section].get(key), value)
        for section in RecipeConfig.model_fields
        for key, value in now[section].items()
        if section not in ("logging", TASK_SECTION)
        and before[section].get(key) != value
        # Without a number it is that of the embeddings, whose encoders are compared.
        and not (key == "embedding_size" and None in (before[section].get(key), value))
    }
    return found | changed_task_values(before, now)


def task_of_result(tree: Tree) -> dict[str, Any]:
    """Dotted key -> value, of all of a task that a training's result depends on; nothing for the
    default task, however it is described."""
    default = {**tree, TASK_SECTION: {}}
    changed = changed_task_values(default, tree)
    if all(rule_of(key).kind is Kind.FREE for key in changed):
        return {}
    values = task_values(task_in(tree))
    return {key: one for key, one in values.items() if rule_of(key).kind is not Kind.FREE}


def same_training(before: RecipeConfig, now: RecipeConfig) -> bool:
    """Whether two configurations describe the same training: all that differs is free."""
    return not compare(before.dump(), now.dump()).refused


def result_keys() -> list[str]:
    """Dotted keys that a training's result depends on: all but paths, machine and display."""
    return [
        f"{section}.{key}"
        for section, field in RecipeConfig.model_fields.items()
        for key in getattr(field.annotation, "model_fields", {})
        if rule_of(f"{section}.{key}").kind not in (Kind.FREE, Kind.ROUNDED, Kind.WINDOWS)
    ]


# ---- one check per kind: None accepts, a text refuses and says why ("" if the key says it)

_Check = Callable[[Tree, Tree, Progress | None], str | None]


def _refuse(before: Tree, now: Tree, progress: Progress | None) -> str | None:
    return ""


def _accept(before: Tree, now: Tree, progress: Progress | None) -> str | None:
    return None


def _schedule(before: Tree, now: Tree, progress: Progress | None) -> str | None:
    if progress is None:
        return ""
    old, new = before["training"], now["training"]
    if progress.n_epochs > new["n_epochs"]:
        trained = count_of(progress.n_epochs, "epoch is", "epochs are")
        return f"{trained} trained already"
    steps = progress.n_steps // max(progress.n_epochs, 1)
    for step in range(1, progress.n_steps + 1):
        if _rates(old, step, steps, now) != _rates(new, step, steps, now):
            epoch = (step - 1) // steps + 1
            return f"from epoch {epoch} of the {progress.n_epochs} trained ones on, other rates"
    return None


def _rates(training: Mapping[str, Any], step: int, steps: int, tree: Tree) -> tuple[float, float]:
    """Learning rate and consistency weight of a step, counted from 1, for `steps` per epoch."""
    schedule = schedule_of(training, tree["opt"], steps)
    rate = schedule.scale(step, LEAST_LR / tree["opt"]["lr"])
    place = step, schedule.ramp(step), (step - 1) // steps
    return rate, weight_of_consistency(training, tree["losses"], *place)


def _validated(before: Tree, now: Tree, progress: Progress | None) -> str | None:
    if progress is None:
        return ""
    old, new = (tree["training"]["validation_interval"] for tree in (before, now))
    for epoch in range(1, progress.n_epochs + 1):
        if (epoch % old == 0) != (epoch % new == 0):
            return f"epoch {epoch} is trained and was {'' if epoch % old == 0 else 'not '}validated"
    return None


def _patience(before: Tree, now: Tree, progress: Progress | None) -> str | None:
    if progress is None:
        return ""
    # If the current wait is as long, training ends now, with the same best checkpoint.
    if progress.longest_wait < now["training"]["early_stop_patience"]:
        return None
    return f"up to {progress.longest_wait} validations in a row were not better before a better one"


def depends_on_progress(before: Tree, now: Tree) -> bool:
    """Whether all that differs is accepted, or may be, depending on how far a training has come."""
    later = (Kind.SCHEDULE, Kind.VALIDATED, Kind.PATIENCE)
    return all(
        kind in later or _CHECKS[kind](before, now, None) is None
        for kind in (rule_of(dotted).kind for dotted in differing_values(before, now))
    )


def _trained(before: Tree, now: Tree, progress: Progress | None) -> str | None:
    names = {corpus.name for corpus in chosen_on(task_in(now))}
    old, new = (names & {*tree["data"]["keep_clips_without_events"]} for tree in (before, now))
    return None if old == new else ""


def _windows(before: Tree, now: Tree, progress: Progress | None) -> str | None:
    names = [
        corpus.name
        for corpus in task_in(now).trained_on
        if corpus.trains_on_windows and corpus.hop_s is None
    ]
    if not names:
        return None
    return f"long clips of {', '.join(names)} are trained on in windows at this distance"


def _packed(before: Tree, now: Tree, progress: Progress | None) -> str | None:
    old, new = (
        tree["data"]["packed_dtype"] if tree["data"]["packed_dir"] else "float32"
        for tree in (before, now)
    )
    return None if old == new else ""


def _encoder(before: Tree, now: Tree, progress: Progress | None) -> str | None:
    used = before["net"]["use_embeddings"] and now["net"]["use_embeddings"]
    return "the network was trained with that encoder's embeddings" if used else None


def _rounded(before: Tree, now: Tree, progress: Progress | None) -> str | None:
    return _packed(before, now, progress)


_CHECKS: Final[Mapping[Kind, _Check]] = {
    Kind.FIXED: _refuse,
    Kind.SCHEDULE: _schedule,
    Kind.VALIDATED: _validated,
    Kind.PATIENCE: _patience,
    Kind.TRAINED: _trained,
    Kind.WINDOWS: _windows,
    Kind.ENCODER: _encoder,
    Kind.PACKED: _packed,
    Kind.ROUNDED: _rounded,
    Kind.FREE: _accept,
}
