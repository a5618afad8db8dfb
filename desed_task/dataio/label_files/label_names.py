"""Names of labels that a table has as identifiers, such as /m/09x0r of AudioSet."""

from __future__ import annotations

import csv
from pathlib import Path

from desed_task.atomic_files import read_text
from desed_task.errors import InputError
from desed_task.file_names import looked_up_from


def read_label_names(path: Path) -> dict[str, str]:
    """Label -> name, of a table of these two columns without a header.

    Cells are separated by commas in *.csv, where one with a comma is quoted, and by tabs otherwise.

    Raises:
        InputError: there is no such file, a row has no name, or a label has two.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such table of names of labels{looked_up_from(path)}; get it, or correct "
            "label_names"
        )
    comma = path.suffix.lower() == ".csv"
    reader = csv.reader(
        read_text(path).splitlines(),
        delimiter="," if comma else "\t",
        quoting=csv.QUOTE_MINIMAL if comma else csv.QUOTE_NONE,
    )
    names: dict[str, str] = {}
    faults = []
    for cells in reader:
        label, name = [*(cell.strip() for cell in cells[:2]), "", ""][:2]
        if not (label or name):
            continue
        if not (label and name):
            faults.append(f"{path}, line {reader.line_num}: give a label and its name")
        elif names.setdefault(label, name) != name:
            faults.append(
                f"{path}, line {reader.line_num}: {label!r} is {names[label]!r} and {name!r}"
            )
    if not names and not faults:
        faults.append(f"{path}: has no names of labels")
    if faults:
        raise InputError.collect(faults, f"{path} cannot be used:")
    return names
