"""Trials that take less than a second: in this process, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable

from local.config import RecipeConfig, check_config
from local.tuning.diary import Diary
from local.tuning.jobs import Outcome
from local.tuning.space import apply
from local.tuning.storage import reachable, without_password
from local.tuning.tuner import Plan, open_book, stopped_by_sigterm

REPORTS = "report_medians"  # beside that of stage one, which may be in the same folder
Evaluate = Callable[[RecipeConfig], Outcome]


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
