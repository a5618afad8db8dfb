"""Numbers agree with what they count: "1 event", "2 events"."""

import ast
import re
from collections.abc import Iterator

import pytest

from desed_task.errors import agree, count_of
from tests.messages_in_code import PACKAGES, ROOT

# What the recipe counts. Units (samples, features) of values that are never 1 are not among them.
COUNTED = (
    *("axes", "bytes", "batches", "channels", "classes", "clips", "columns", "comparisons"),
    *("corpora", "entries", "epochs", "errors", "events", "fields", "files", "folders", "frames"),
    *("hours", "labels", "layers", "lengths", "lines", "links", "names", "recordings", "rows"),
    *("runs", "seeds", "sessions", "sets", "steps", "systems", "tables", "threads", "times"),
    *("trials", "values", "windows"),
)
# Constants, and words that are no number.
NEVER_ONE = re.compile(
    r"[A-Z_]{3,}|len\((CLASSES|SCORE_COLUMNS)\)|holder|stage|training\.mixup|theirs|nclass|"
    r".*_s\b.*|n_features|n_rows|shape|failures|corpus\.title|of"
)
PLURAL = re.compile(rf"^ (?:\w+ )?({'|'.join(COUNTED)})\b")


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (1, ("event",), "1 event"),
        (0, ("event",), "0 events"),
        (2, ("class", "classes"), "2 classes"),
        (1, ("clip is", "clips are"), "1 clip is"),
    ],
)
def test_a_count_agrees(number, words, text):
    assert count_of(number, *words) == text
    assert agree(number, "is", "are") == ("is" if number == 1 else "are")


def plurals_after_values(source: str) -> Iterator[tuple[int, str]]:
    """Each number of a message that is followed by a plural, whatever the number."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, text in zip(node.values, node.values[1:], strict=False):
            if not (isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant)):
                continue
            found = PLURAL.match(str(text.value))
            shown = ast.unparse(value.value)
            if "count_of(" in shown or "_share(" in shown:
                continue
            if found and value.format_spec is None and not NEVER_ONE.fullmatch(shown):
                yield node.lineno, f"{{{shown}}}{found[0]}"


def test_plurals_are_seen():
    source = 'f"{n} events"\nf"{count_of(n, \'event\')} there"\nf"{len(a)} of {len(b)} clips are"'
    assert [text for _, text in plurals_after_values(source)] == ["{n} events", "{len(b)} clips"]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_message_counts_one_as_several(package):
    found = [
        f"{path.relative_to(ROOT)}, line {line}: {text}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, text in plurals_after_values(path.read_text(encoding="utf-8"))
        if "{len(late)} events" not in text  # where they are more than one
    ]
    assert not found, "\n".join(["use desed_task.errors.count_of", *found])
