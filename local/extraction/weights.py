"""The files of weights that embeddings are computed with; without PyTorch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from shlex import quote
from typing import Final

from desed_task.encoders.weights_file import find_weights
from desed_task.errors import InputError, count_of
from local.schema.encoders import EncoderChoice, Pretrained

# Stands for the configured file, of any encoder.
CONFIGURED_FILE: Final = "beats"


def choose_weights(
    pretrained: Pretrained, named: Sequence[str] | None
) -> tuple[EncoderChoice, ...]:
    """The encoders of a configuration, with files that the command line names.

    Args:
        pretrained: the section of the configuration.
        named: a file for each encoder; None for the configured ones.

    Raises:
        InputError: another number of files than of encoders, or a file that does not exist.
    """
    choices = pretrained.encoders
    if named and list(named) != [CONFIGURED_FILE]:
        if len(named) != len(choices):
            raise InputError(
                f"--pretrained_model names {count_of(len(named), 'file')} for "
                f"{count_of(len(choices), 'encoder')} ({', '.join(pretrained.names)}); give one "
                f"for each in this order, `{CONFIGURED_FILE}` for the configured one"
            )
        pairs = zip(choices, named, strict=True)
        choices = tuple(
            choice
            if file in (CONFIGURED_FILE, choice.file)
            else choice._replace(file=file, is_baselines=False)
            for choice, file in pairs
        )
    for choice in choices:
        find_weights(choice.file, choice.name)
    return choices


def training_hint(
    configured: Pretrained, choices: Sequence[EncoderChoice], folders_differ: bool
) -> str:
    """How to train on embeddings of other files than the configured ones; "" if it needs nothing.

    Args:
        configured: the section of the configuration.
        choices: what embeddings were computed with.
        folders_differ: whether training would look for them elsewhere.
    """
    if not folders_differ or tuple(choices) == configured.encoders:
        return ""
    files = [choice.file for choice in choices]
    value = files[0] if len(files) == 1 else json.dumps(files, ensure_ascii=False)
    return f"to train on them: --set {quote(f'pretrained.checkpoint={value}')}"
