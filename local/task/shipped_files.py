"""The supplied files of `confs`, which are found from everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from desed_task.errors import InputError
from desed_task.file_names import current_folder, looked_up_from, printable
from local.task.reading import DEFAULT_TASK, supplied_tasks

SHIPPED = Path(__file__).resolve().parents[2] / "confs"
"""Folder of the supplied files."""
CONFIGURATIONS = (
    *("pretrained.yaml", "mini.yaml", "optuna.yaml"),
    *(f"tasks/{name}.yaml" for name in supplied_tasks() if name != DEFAULT_TASK),
)


def find_shipped(
    path: str | Path,
    missing: str = "no such configuration file",
    supplied: Sequence[str] = CONFIGURATIONS,
) -> Path:
    """The file at a path or, if there is none, the supplied one of that name.

    Relative paths start from the folder in which the command was started. A supplied file is found
    from everywhere, as `confs/mini.yaml`, `mini.yaml` or `mini`, one of `confs/tasks` as
    `confs/tasks/NAME.yaml` or `NAME`; one in `confs` of that folder takes precedence. If it is
    not the file at the path, a line says which was taken.

    Args:
        path: path or name of the file.
        missing: what the error says of a file that is not there.
        supplied: names of the supplied files of this kind.

    Raises:
        InputError: there is none.
    """
    given = Path(path)
    if given.is_file():
        return given
    name = given.name if given.suffix else f"{given.name}.yaml"
    place = next((one for one in supplied if Path(one).name == name), None)
    if place is not None and given.parent in (Path(), Path("confs", place).parent):
        for found in (given.parent / name, Path("confs") / place, SHIPPED / place):
            if found.is_file():
                print(f"using {printable(str(found))} (there is no {given} in {current_folder()})")
                return found
    reason = f"{missing}, but a folder" if given.is_dir() else missing
    names = ", ".join(f"confs/{one}" for one in supplied)
    raise InputError(f"{path}: {reason}{looked_up_from(path)}; supplied: {names}")
