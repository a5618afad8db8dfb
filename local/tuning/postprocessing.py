"""Stage two: the median filters of a checkpoint, searched or swept, and what they change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from desed_task.checkpoint_files import load_safely
from desed_task.files import atomic_path, sha256_of, write_text_atomic
from local.checkpoints import config_of_checkpoint
from local.classes_dict import CLASSES
from local.config import RecipeConfig, check_config
from local.tuning import report
from local.tuning.diary import BEST, MEDIAN, write_config
from local.tuning.jobs import Objective, Outcome
from local.tuning.median_curves import DPI, curves
from local.tuning.medians import Judge, Lengths, Worth, sweep
from local.tuning.scores import scored
from local.tuning.search import REPORTS, search
from local.tuning.space import Dimension, apply
from local.tuning.tuner import Plan

SCORES = "scores"
TABLE = "medians.tsv"
PICTURE = "medians.png"
PARTS: tuple[Objective, Objective] = ("held_out", "devtest")


def tune_medians(
    plan: Plan, checkpoint: Path, overrides: Sequence[str], *, swept: bool, device: torch.device
) -> Path:
    """Find the best lengths and print what they are worth, beside those that the checkpoint has.

    Args:
        plan: what is searched; its configuration names the folders.
        checkpoint: a file of this recipe, or a published one.
        overrides: `section.key=value` each, over the checkpoint's own values.
        swept: whether every length is tried instead of searched for.
        device: computes scores.

    Returns:
        best.yaml, which a test of the checkpoint applies.

    Raises:
        InputError: for a checkpoint or data that cannot be used.
    """
    config = _config_of(plan.config, checkpoint, overrides)
    plan = replace(plan, config=config, subject=config.tuned.checkpoint_sha256, pruning=False)
    folder = plan.log_dir / SCORES
    judges = {part: Judge(scored(config, checkpoint, part, folder, device)) for part in PARTS}
    judge = judges[plan.objective]
    best = _swept(plan, judge) if swept else _searched(plan, judge)
    compared = {"before": config.net.median_filter, "after": best}
    worth = {name: [judges[part](each) for part in PARTS] for name, each in compared.items()}
    print(side_by_side(worth, plan.objective))
    path = plan.log_dir / BEST
    drawn = {f"{MEDIAN}{label}": n for label, n in zip(CLASSES, best, strict=True)}
    heading = f"median filters of {checkpoint.name}, {plan.objective}: {judge(best).total:.6f}"
    write_config(path, config, drawn, heading)
    print(
        f"apply it with: train_pretrained.py --conf_file {path} --test_from_checkpoint {checkpoint}"
    )
    return path


def _config_of(here: RecipeConfig, checkpoint: Path, overrides: Sequence[str]) -> RecipeConfig:
    """The checkpoint's configuration, marked as that of this very file."""
    found = config_of_checkpoint(load_safely(checkpoint), here, overrides, str(checkpoint))
    mark = {"tuned.checkpoint_sha256": sha256_of(checkpoint)}
    return check_config(apply(mark, found.dump()), str(checkpoint))


def _searched(plan: Plan, judge: Judge) -> Lengths:
    """The best of Optuna's trials, or what the checkpoint has if none is better."""

    def evaluate(config: RecipeConfig) -> Outcome:
        worth = judge(config.net.median_filter)
        return Outcome("complete", worth.total, facts=judge.facts(worth))

    diary = search(plan, evaluate)
    report.report(diary)
    lengths = [plan.config.net.median_filter]
    if diary.book.best is not None:
        drawn = plan.space.overrides(diary.book.best.params)
        tree = apply(drawn, plan.config.dump())
        lengths.append(tuple(tree["net"]["median_filter"]))
    return max(lengths, key=lambda each: judge(each).total)


def _swept(plan: Plan, judge: Judge) -> Lengths:
    """The best of every length of every class; what each is worth to its class, in a table."""
    candidates = {_class_of(one): lengths_of(one) for one in plan.space.dimensions}
    before = plan.config.net.median_filter
    best = sweep(judge, before, candidates)
    worth = {
        label: {length: judge.alone(label, length) for length in candidates[label]}
        for label in (*judge.desed_labels, *judge.maestro_labels)
        if label in candidates
    }
    rows = ["event_label\tmetric\tlength\tvalue"]
    for label, of in worth.items():
        metric = "pauc" if label in judge.maestro_labels else "psds1"
        rows += [f"{label}\t{metric}\t{length}\t{value:.6f}" for length, value in of.items()]
    folder = plan.log_dir / REPORTS
    write_text_atomic(folder / TABLE, "\n".join(rows) + "\n")
    marked = {"before": dict(zip(CLASSES, before, strict=True))}
    marked["chosen"] = dict(zip(CLASSES, best, strict=True))
    with atomic_path(folder / PICTURE) as temporary:
        curves(worth, judge.maestro_labels, marked).savefig(temporary, format="png", dpi=DPI)
    return best


def lengths_of(one: Dimension) -> list[int]:
    """Every length that a line of the space describes."""
    if one.kind == "categorical":
        return [int(choice) for choice in one.choices if choice is not None]
    return list(range(int(one.low), int(one.high) + 1, int(one.step or 1)))


def _class_of(one: Dimension) -> str:
    name = one.path.removeprefix(MEDIAN)
    return CLASSES[int(name)] if name.isdigit() else name


def side_by_side(worth: dict[str, list[Worth]], objective: Objective) -> str:
    """What lengths are worth on each part, as lines."""
    lines = [f"{'teacher':<8}" + "".join(f"{part:>12} PSDS1   mpAUC     sum" for part in PARTS)]
    for name, parts in worth.items():
        cells = (f"{one.psds1:>18.4f} {one.mpauc:>7.4f} {one.total:>7.4f}" for one in parts)
        lines.append(f"{name:<8}" + "".join(cells))
    return "\n".join([*lines, f"tuned on: {objective}"])
