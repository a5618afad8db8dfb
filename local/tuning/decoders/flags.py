"""Flags of optuna_pretrained.py that tune decoders; without heavy imports."""

from __future__ import annotations

from typing import Any

from desed_task.errors import InputError

DECODER_CHOICES = ("median", "boxes", "threshold_boxes")
DEFAULT_FOLDS = 5
DEFAULT_RESAMPLES = 1000
LEAST_RESAMPLES = 100
# What a comparison writes into the folder of its report.
COMPARISON_FILES = TABLE_FILE, JSON_FILE, PICTURE_FILE, CANDIDATES_FILE = (
    "comparison.tsv",
    "comparison.json",
    "comparison.png",
    "candidates.tsv",
)
# What a calibration writes there.
CALIBRATION_FILE = "calibration.tsv"
DECODER_FLAGS: dict[str, dict[str, Any]] = {
    "--decoder": {
        "choices": DECODER_CHOICES,
        "help": "in stage two, the decoder that is tuned (default: median)",
    },
    "--threshold_metric": {
        "choices": ("collar", "intersection"),
        "help": "in stage two, tune a threshold per class for this F1 too",
    },
    "--folds": {
        "type": int,
        "help": "in stage two, cross-fit on the test set in so many folds (default: 5 with "
        "--decoder boxes or threshold_boxes or --threshold_metric); 0: do not",
    },
    "--resamples": {
        "type": int,
        "help": "bootstrap resamples of the comparison in stage two (default: 1000); 0: none",
    },
    "--calibrate": {
        "choices": ("isotonic", "temperature"),
        "help": "in stage two, fit calibrated confidence on held-out clips",
    },
}


def check_decoder_flags(args: Any) -> None:
    """Refuse flags of stage two without a checkpoint, and numbers out of range.

    Raises:
        InputError: naming the flag.
    """
    given = [flag for flag in DECODER_FLAGS if getattr(args, flag[2:]) is not None]
    if given and args.test_from_checkpoint is None:
        value = getattr(args, given[0][2:])
        raise InputError(
            f"{given[0]} {value}: belongs to stage two; give --test_from_checkpoint too"
        )
    if args.folds is not None and (args.folds < 0 or args.folds == 1):
        raise InputError(f"--folds {args.folds}: give 2 or more, or 0 for no cross-fitting")
    if args.resamples is not None and 0 != args.resamples < LEAST_RESAMPLES:
        raise InputError(
            f"--resamples {args.resamples}: give {LEAST_RESAMPLES} or more, or 0 for no intervals"
        )


def compares_decoders(args: Any) -> bool:
    """Whether more is asked than the search of median filters."""
    wanted = (args.threshold_metric, args.folds, args.resamples, args.calibrate)
    return args.decoder not in (None, "median") or any(one is not None for one in wanted)
