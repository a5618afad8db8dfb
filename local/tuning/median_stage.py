"""Stage two: tune the median filters of a checkpoint, by Optuna's search or a sweep."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from desed_task.atomic_files import atomic_path, sha256_of, write_text_atomic
from desed_task.checkpoints.safe_load import load_safely
from local.checkpoints.restore import config_of_checkpoint
from local.classes_dict import CLASSES
from local.config import RecipeConfig, check_config
from local.tuning import report
from local.tuning.cached_scores import scored
from local.tuning.median_sweep import Judge, Lengths, Worth, sweep
from local.tuning.plots import CURVES_DPI, curves
from local.tuning.search_space import Dimension, apply
from local.tuning.storage import reachable, without_password
from local.tuning.study_log import BEST, MEDIAN, Diary, write_config
from local.tuning.training_stage import Plan, open_book, stopped_by_sigterm
from local.tuning.workers.messages import Objective, Outcome

SCORES = "scores"
TABLE = "medians.tsv"
PICTURE = "medians.png"
PARTS: tuple[Objective, Objective] = ("held_out", "devtest")

REPORTS = "report_medians"  # beside that of stage one, which may be in the same folder
Evaluate = Callable[[RecipeConfig], Outcome]


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
        curves(worth, judge.maestro_labels, marked).savefig(temporary, format="png", dpi=CURVES_DPI)
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


def search(plan: Plan, evaluate: Evaluate) -> Diary:
    """Run trials until there are enough, or the time is over.

    Args:
        plan: what is tuned.
        evaluate: says what a configuration is worth.

    Returns:
        The diary of the study, for a report.

    Raises:
        InputError: if the storage fails.
        KeyboardInterrupt: after Ctrl-C or SIGTERM; the trial at work is run again.
    """
    with reachable(f"--storage {without_password(plan.storage)}"), stopped_by_sigterm():
        book = open_book(plan)
        diary = Diary(plan.log_dir, book, plan.space, plan.config, reports=REPORTS)
        end = float("inf") if plan.timeout_s is None else time.monotonic() + plan.timeout_s
        for trial, _ in book.revive():
            diary.note(trial.number)
        while book.wants_more() and time.monotonic() < end:
            taken = book.take()
            tree = apply(taken.overrides, plan.config.dump())
            try:
                outcome = evaluate(check_config(tree, f"trial {taken.number}"))
            except KeyboardInterrupt:
                book.finish(taken.number, Outcome("stopped", reason="stopped"))
                raise
            if book.finish(taken.number, outcome):
                diary.note(taken.number)
            book.beat()
    return diary
