"""Complete the commands that messages name with what this command was given.

A message says `run extract_embeddings.py`, wherever it comes from; whoever trains on the mini
corpus must run it with `--conf_file confs/mini.yaml`.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from desed_task.errors import CONSOLE_COMMANDS
from local.cli.arguments import DEFAULT_CONF_FILE

GENERATE, EXTRACT = "generate_dcase_task4_2024.py", "extract_embeddings.py"


def remedies_of(args: argparse.Namespace) -> Callable[[str], str]:
    """A function that completes the commands in messages.

    Args:
        args: arguments of this command; `conf_file` and `overrides` count, if they are there.
    """
    given = getattr(args, "conf_file", None)
    overrides = tuple(getattr(args, "overrides", None) or ())
    given = None if given is None or Path(given) == Path(DEFAULT_CONF_FILE) else str(given)

    def complete(text: str) -> str:
        if given is None and not overrides:
            return text
        flags = "" if given is None else f" --conf_file {shlex.quote(given)}"
        # Others, as of the network, do not matter to the commands that remedies name.
        paths = [one for one in overrides if one.startswith(("data.", "pretrained."))]
        sets = "".join(f" --set {shlex.quote(one)}" for one in paths)
        text = _with_flags(text, EXTRACT, flags + sets)
        on_mini = given is not None and "--mini" not in text and _names_mini(given)
        return _with_flags(text, GENERATE, " --mini") if on_mini else text

    return complete


def _with_flags(text: str, script: str, flags: str) -> str:
    """`text` with flags after each command line that begins with `script`."""
    names = "|".join(map(re.escape, (script, CONSOLE_COMMANDS[script])))
    # "did not write it" is no remedy, a check is one of any data, and the mini corpus has no parts
    # or other weights.
    command = rf"\b((?:run|with) (?:python \S*)?(?:{names}))(?! --(?:mini|check|conf_file|only_))"
    return re.sub(command, lambda found: found[1] + flags, text)


def _names_mini(conf_file: str) -> bool:
    """Whether a configuration is one of the mini corpus, as far as its text tells."""
    path = Path(conf_file)
    try:
        return "mini" in path.stem or "mini/dcase" in path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
