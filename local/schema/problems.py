"""Messages about values that do not fit a schema."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

_IN_QUOTES: Final = "YAML reads numbers, yes, no, on and off as other values: write it in quotes"


class PlacedError(ValueError):
    """Faults whose messages name their places.

    Args:
        problems: the messages.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def validation_problems(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One message with the dotted path for each error that `model` found."""
    problems: list[str] = []
    for mistake in error.errors(include_url=False):
        cause = mistake.get("ctx", {}).get("error")
        if isinstance(cause, PlacedError):
            problems += cause.problems
            continue
        where = ".".join(str(part) for part in mistake["loc"]) or "configuration"
        if mistake["type"] == "extra_forbidden":
            what = f"unknown key (value {mistake['input']!r}); {_suggest(mistake['loc'], model)}"
        elif mistake["type"] == "missing":
            what = "missing; give it a value"
        else:
            what = mistake["msg"].removeprefix("Value error, ")
            if not isinstance(mistake["input"], dict | BaseModel):
                what += f" (value {mistake['input']!r})"
            if mistake["type"] == "string_type" and isinstance(
                mistake["input"], bool | int | float
            ):
                what += f"; {_IN_QUOTES}"
        problems.append(f"{where}: {what}")
    return problems


def as_text(values: Sequence[Any]) -> str:
    """Message about values that YAML does not read as text, as they are not in quotes."""
    return f"{', '.join(map(repr, values))}: not text; {_IN_QUOTES}"


def _suggest(loc: tuple[int | str, ...], model: type[BaseModel]) -> str:
    fields, is_key = model.model_fields, False
    for part in (str(part) for part in loc[:-1] if isinstance(part, str)):
        # A mapping's key is not a field; its values have the model found so far.
        if part in fields and not is_key:
            annotation = fields[part].annotation
            fields, is_key = next(_fields_in(annotation), {}), get_origin(annotation) is dict
        else:
            is_key = False
    near = difflib.get_close_matches(str(loc[-1]), fields, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(fields)}"


def _fields_in(annotation: Any) -> Iterator[dict[str, FieldInfo]]:
    """Fields of the models in a type, including those inside lists and mappings."""
    if hasattr(annotation, "model_fields"):
        yield annotation.model_fields
    for inner in get_args(annotation):
        yield from _fields_in(inner)
