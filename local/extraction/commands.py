"""What `extract_embeddings.py` does: embeddings of sets, or their pseudo-labels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from desed_task.errors import InputError
from local.cli.interrupts import leaving_at_once
from local.config import RecipeConfig, load_config
from local.extraction.sets import choose_sets, find_wavs
from local.extraction.weights import CONFIGURED_FILE, choose_weights
from local.processes.decisions import decided_by_first

_Wavs = dict[str, dict[str, Path]]


def extract(args: argparse.Namespace) -> int:
    """Extract the embeddings of the chosen sets and return the exit status."""
    config = load_config(args.conf_file, args.overrides)
    wavs = _wavs_of(config, choose_sets(config, args.only, eval_set=args.eval_set))
    choices = choose_weights(config.pretrained, args.pretrained_model)
    with leaving_at_once():  # after the arguments, as PyTorch takes seconds to import
        from local.extraction.all_encoders import extract_all, open_extractors
        from local.processes.devices import torch_device_of

    args.threads.begin()
    extractors = open_extractors(
        config,
        choices,
        args.output_dir or Path(config.pretrained.extracted_embeddings_dir),
        device=torch_device_of(args),
        batch_size=args.batch_size,
        precision=args.precision,
        overwrite=args.overwrite,
    )
    return _told(extract_all(config, extractors, wavs))


def label(args: argparse.Namespace) -> int:
    """Write the pseudo-labels of the training sets and return the exit status."""
    config = load_config(args.conf_file, args.overrides)
    with leaving_at_once():
        from local.extraction.pseudo_labels import (
            open_labeller,
            training_sets_of,
            write_pseudo_labels,
        )
        from local.processes.devices import torch_device_of

    wavs = _wavs_of(config, training_sets_of(config, args.only))
    args.threads.begin()
    given = args.pretrained_model
    labeller = open_labeller(
        config,
        args.checkpoints,
        args.pseudo_labels,
        role="teacher" if args.use_teacher else "student",
        encoders=None if given == [CONFIGURED_FILE] else given,
        device=torch_device_of(args),
        batch_size=args.batch_size,
        precision=args.precision,
        overwrite=args.overwrite,
    )
    return _told(write_pseudo_labels(labeller, wavs))


def _wavs_of(config: RecipeConfig, sets: Sequence[str]) -> _Wavs:
    # Other processes are told of the files of a set when it begins.
    return decided_by_first(
        lambda: find_wavs(config, sets), told=lambda of: {name: {} for name in of}
    )


def _told(faults: Sequence[str]) -> int:
    """Name what could not be read; the exit status."""
    if faults:
        print(f"error: {InputError.collect(faults, 'Clips not read:')}", file=sys.stderr)
    return 1 if faults else 0
