"""Unfinished files of a set beside the finished one: their names, and what may be written to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from desed_task.dataio.row_stores.forms import StoreForm
from desed_task.dataio.row_stores.layout import FINISHED, EmbeddingLayout, layout_of
from desed_task.errors import InputError
from desed_task.hdf5 import FileInUseError, open_hdf5


def old_of(path: Path) -> Path:
    """An unfinished file of other clips, whose rows the next one takes."""
    # Not `<path>.old`, which a user may have named a copy of their own.
    return path.with_name(path.name + ".part.old")


def part_of(path: Path, number: int = 1) -> Path:
    """The unfinished file of a process: `<path>.part`, of the second one `<path>.part.2`."""
    return path.with_name(f"{path.name}.part{'' if number == 1 else f'.{number}'}")


def parts_of_others(path: Path) -> list[Path]:
    """Unfinished files of the second process and further ones, of any run, by number."""
    name = re.compile(re.escape(part_of(path).name) + r"\.([2-9]|[1-9][0-9]+)")
    found = ((name.fullmatch(file.name), file) for file in path.parent.iterdir())
    numbered = {int(match[1]): file for match, file in found if match}
    return [numbered[number] for number in sorted(numbered)]


def remove_stale(part: Path) -> None:
    """Remove what a process that was killed while it created this file, or one of another process
    of the set if it is the first one's, has left.
    """
    for stale in part.parent.iterdir():
        if stale.name.startswith(f".{part.name}."):
            stale.unlink(missing_ok=True)


def open_part(part: Path, form: StoreForm) -> tuple[Any, EmbeddingLayout]:
    """Open an unfinished file, which must be one that this program created, for writing.

    Args:
        part: the file.
        form: the kind that it must have.

    Raises:
        InputError: it is another file, or another run writes it.
    """
    try:
        with open_hdf5(part) as file:
            layout = layout_of(file)
            if layout.form != form:
                raise InputError(f"{part}: has {layout.form.what}, not {form.what}")
            # A link may lead to a file that is to stay as it is.
            if FINISHED not in file or part.is_symlink():
                raise InputError(f"{part}: not an unfinished file of this program")
        return open_hdf5(part, "r+"), layout
    except FileInUseError:
        raise
    except InputError as error:
        raise InputError(f"{error}; move it away and {form.remedy} again") from None
