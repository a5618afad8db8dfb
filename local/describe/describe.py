"""Describe a folder: look at it, write a configuration, and say what to do next.

describe_folder(Path("recordings"), Path("recordings.yaml"))
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from desed_task.atomic_files import write_text_atomic
from desed_task.encoders.weights_file import find_weights
from desed_task.errors import InputError, command_line, count_of
from local.cli.own_files import own_outputs
from local.config import RecipeConfig, load_config
from local.config_schema import Data
from local.data.splits import divide
from local.describe.label_files import find_labels
from local.describe.oddities import odd_lines
from local.describe.plan import Plan, make_plan
from local.describe.recordings import Recordings, look_for_recordings
from local.describe.sizes import Sizes, choose_sizes
from local.describe.yaml_text import configuration_text, list_name
from local.doctor.oddities.leaks import Use
from local.schema.encoders import Pretrained


def describe_folder(folder: Path, out: Path | None = None, *, overwrite: bool = False) -> Path:
    """Write the configuration of a folder of recordings, and print what was found and decided.

    Args:
        folder: with recordings and label files.
        out: the file to write; None for FOLDER.yaml in the current folder.
        overwrite: whether to replace a file that this program did not write.

    Returns:
        The file.

    Raises:
        InputError: the folder has no recordings or no labels, too few of them, or the file cannot
            be written.
    """
    found = look_for_recordings(folder)
    if folder.resolve() == Path(folder.resolve().anchor):
        raise InputError(f"{folder}: is the root of the file system; give the folder of recordings")
    _check_name(folder)
    out = _out(folder, out)
    labels = find_labels(found)
    plan = make_plan(found, labels)
    sizes = choose_sizes(plan, found)
    rate = Data().fs
    prepared = found.is_prepared(rate)
    embeddings = _weights_are_there()
    text = configuration_text(
        plan,
        sizes,
        _as_given(folder),
        prepared=prepared,
        with_embeddings=embeddings,
        lists=out,
    )
    lists = {
        out.parent / list_name(out, one.name): "\n".join(one.clips) + "\n"
        for one in plan.corpora
        if one.list_file
    }
    with own_outputs(out.parent, [out, *lists], overwrite=overwrite):
        for path, content in {**lists, out: text}.items():
            write_text_atomic(path, content)
    config = load_config(out)
    parts = _parts(config, plan)
    print(_report(found, plan, sizes, parts))
    print(_oddities(odd_lines(found, labels, plan, parts, rate)))
    print(_next_steps(out, prepared=prepared, embeddings=embeddings))
    return out


def _out(folder: Path, out: Path | None) -> Path:
    if out is None:
        return Path(f"{folder.resolve().name}.yaml")
    if out.is_dir() or out.suffix.lower() not in (".yaml", ".yml"):
        raise InputError(f"--out {out}: give a file *.yaml")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}; make it")
    return out


def _check_name(folder: Path) -> None:
    """Refuse a folder whose name a description would read as something else."""
    path = str(_as_given(folder))
    if meant := [one for one in ("${", "{clip}", "{folder}", "{name}", "{fold}") if one in path]:
        raise InputError(
            f"{folder}: {meant[0]} stands for something else in a description; rename the folder"
        )


def _as_given(folder: Path) -> Path:
    """The folder as it was given, or whole where its path has no name of its own (.., .)."""
    return folder if folder.name not in ("", "..") else folder.resolve()


def _weights_are_there() -> bool:
    try:
        return all(find_weights(one.file, one.name) for one in Pretrained().encoders)
    except InputError:
        return False


def _parts(config: RecipeConfig, plan: Plan) -> dict[tuple[str, Use], Sequence[str]]:
    """Corpus and use -> its recordings, divided as training will divide them."""
    task, parts = config.detection_task, {}
    whole: dict[str, Use] = {"train": "training", "validation": "validation", "test": "test"}
    for one in plan.corpora:
        corpus = task.corpus(one.name)
        if not corpus.is_divided:
            parts[one.name, whole[one.use or "train"]] = one.clips
            continue
        divided = divide(corpus, sorted(one.clips), config.training.seed, task.fold)
        for part, use in whole.items():
            if clips := divided.of(part):
                parts[one.name, use] = clips
    return parts


def _report(
    found: Recordings,
    plan: Plan,
    sizes: Sizes,
    parts: dict[tuple[str, Use], Sequence[str]],
) -> str:
    """What was found, and what was decided."""
    hours = sum(found.durations_s.values()) / 3600
    length = f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"
    shown = ", ".join(map(repr, plan.classes[:12])) + (", ..." if len(plan.classes) > 12 else "")
    lines = [
        f"{found.folder}: {count_of(len(found.infos), 'recording')}, {length}",
        f"{count_of(len(plan.classes), 'class', 'classes')}: {shown}",
        *plan.decisions,
    ]
    for (name, use), clips in parts.items():
        lines.append(f"{name}: {count_of(len(clips), 'recording')} for the {use}")
    if sizes.n_long:
        lines.append(
            f"{count_of(sizes.n_long, 'recording')} longer than {sizes.clip_s} s: trained on and "
            "scored in windows"
        )
    size = "small" if sizes.is_small else "published"
    lines.append(
        f"{size} network, {count_of(sizes.n_epochs, 'epoch')} of "
        f"{count_of(sizes.steps, 'batch', 'batches')}"
    )
    return "\n".join(lines)


def _oddities(lines: Sequence[str]) -> str:
    if not lines:
        return "\nnothing odd"
    return "\n".join(["", "odd:", *(f"  - {line}" for line in lines)])


def _next_steps(out: Path, *, prepared: bool, embeddings: bool) -> str:
    """The next commands, to be copied."""
    file = shlex.quote(str(out))
    steps = [] if prepared else [("generate_dcase_task4_2024.py", f"--conf_file {file}")]
    steps.append(("generate_dcase_task4_2024.py", f"--conf_file {file} --check"))
    if embeddings:
        steps.append(("extract_embeddings.py", f"--conf_file {file}"))
    runs = Path("exp") / out.stem
    log_dir = shlex.quote(str(runs))
    steps.append(("train_pretrained.py", f"--conf_file {file} --log_dir {log_dir}"))
    version = len(list(runs.glob("version_*")))
    run = shlex.quote(str(runs / f"version_{version}"))
    steps.append(("predict.py", f"new_recording.wav --checkpoint {run}"))
    lines = [f"  {command_line(script, arguments)}" for script, arguments in steps]
    return "\n".join(["", f"wrote {out}; look at it, then:", *lines])
