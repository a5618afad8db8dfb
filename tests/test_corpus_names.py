"""Generic parts name no corpus: what is particular to one is data (a task's description)."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

from local.schema.published_keys import TASK_KEYS

ROOT = Path(__file__).parents[1]
# Corpora, and the published names of their sets.
WORDS = (
    *("desed", "maestro", "devtest", "dev-test", "dev test", "urban-?sed", "tut", "realdesed"),
    *("fsd50k", "soundscapes", "synth_val", "synth_train", "weak_train", "weak_val"),
    *("strong_train", "unlabeled_train", "unlabel_in_domain"),
)
NAMED = re.compile(rf"(?<![a-z])(?:{'|'.join(WORDS)})(?![a-z])", re.IGNORECASE)
# Names of the package, its commands and keys, which stay as they were published.
PUBLISHED = re.compile(
    r"desed_task|desed_recipe|desed-[a-z]+|generate_dcase_task4_2024"
    + "".join(rf"|\b{key.partition('.')[2]}\b" for key in sorted(TASK_KEYS, key=len, reverse=True))
)
# Folders and files that are about particular corpora, and why.
ABOUT_CORPORA = {
    "local/prep": "prepares and downloads the published corpora, and makes the mini ones",
    "local/submission": "the challenge's submission is of the evaluation set, under its rules",
    "local/classes_dict.py": "for those who import the published lists of classes",
    "local/schema/published_keys.py": "the keys of the published configuration",
    "desed_task/published_classes.py": "the published lists of classes",
    "desed_task/checkpoints/published.py": "checkpoints of the published code name no classes",
}
# Single words that stay in generic parts: file -> lines that contain one of these, and why.
_MAPS = "name of a supplied map from AudioSet's classes to those of a corpus, which users give"
_VARIABLE = "environment variable or temporary folder of the package"
_EXAMPLE = "example of a command on the published data"
ALLOWED: dict[str, dict[str, str]] = {
    "desed_task/audioset/classes.py": {
        "_ALIASES": _MAPS,
        '"tut2017" if name': _MAPS,
        "name: of the corpus": _MAPS,
    },
    "desed_task/errors.py": {
        "DESED_CONSOLE_COMMAND": _VARIABLE,
        "`desed-...`": "beginning of the console commands",
    },
    "desed_task/inference/detector.py": {"classes are mapped to": _MAPS},
    "desed_task/inference/scorers/class_columns.py": {"the name of a corpus": _MAPS},
    "extract_embeddings.py": {"--only devtest weak_train": _EXAMPLE},
    "generate_dcase_task4_2024.py": {
        "MAESTRO's": "what the command does with the published data",
        "task.root=": _EXAMPLE,
    },
    "local/checkpoints/revision.py": {
        "MAESTRO": "what earlier versions computed otherwise, for those who resume their runs"
    },
    "local/predict/detectors/listing.py": {"validation set": "published result of a detector"},
    "local/predict/flags.py": {"mapped to": _MAPS},
    "local/processes/launch.py": {'"desed': _VARIABLE},
    "local/processes/world.py": {"DESED_STARTED_BY": _VARIABLE},
    "local/summary/bootstrap.py": {"recordings, percentile": "what was measured, on what"},
    "make_submission.py": {"dev-test": "the submission is about the published task"},
}


def python_files() -> list[Path]:
    """The library, the recipe and the scripts, without what is about particular corpora."""
    files = [*(ROOT / "desed_task").rglob("*.py"), *(ROOT / "local").rglob("*.py")]
    return sorted(path for path in [*files, *ROOT.glob("*.py")] if not _is_about_corpora(path))


def _is_about_corpora(path: Path) -> bool:
    name = path.relative_to(ROOT).as_posix()
    return any(name == one or name.startswith(f"{one}/") for one in ABOUT_CORPORA)


def named_in(source: str) -> list[tuple[int, str]]:
    """(line, word) of every corpus that a source names in identifiers, strings or comments."""
    kinds = {tokenize.NAME, tokenize.STRING, tokenize.COMMENT}
    kinds |= {getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds:
            text = PUBLISHED.sub("", token.string)
            for match in NAMED.finditer(text):
                line = token.start[0] + text[: match.start()].count("\n")
                found.append((line, match[0]))
    return found


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("DESED_CLASSES = 1", ["DESED"]),
        ("# of MAESTRO's clips", ["MAESTRO"]),
        ("name = 'devtest'", ["devtest"]),
        ("def desed_part(): ...", ["desed"]),
        ('"""Of weak_train."""', ["weak_train"]),
        ("f'{x} of Urban-SED'", ["Urban-SED"]),
        ("from desed_task.batch import x  # desed-train", []),
        ("config.data.synth_val_tsv, training.maestro_split", []),
        ("tutorial = 'institute'", []),
    ],
)
def test_names_of_corpora_are_seen(source, words):
    assert [word for _, word in named_in(source)] == words


def test_generic_parts_name_no_corpus():
    files = python_files()
    assert len(files) > 200
    offences = []
    for path in files:
        name, source = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        lines = source.splitlines()
        for line, word in named_in(source):
            if not any(text in lines[line - 1] for text in ALLOWED.get(name, ())):
                offences.append(f"{name}:{line}: {word}: {lines[line - 1].strip()}")
    assert offences == []


def test_exceptions_are_needed():
    for name, texts in ALLOWED.items():
        source = (ROOT / name).read_text(encoding="utf-8")
        lines = {source.splitlines()[line - 1] for line, _ in named_in(source)}
        for text, reason in texts.items():
            assert reason and any(text in line for line in lines), (name, text)
    assert all((ROOT / name).exists() for name in ABOUT_CORPORA)
