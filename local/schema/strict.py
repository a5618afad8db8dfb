"""The base of all sections of the configuration."""

from __future__ import annotations

from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, model_validator


class StrictModel(BaseModel):
    """Base of all sections: unknown keys are errors and values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _usual_spellings(cls, values: Any) -> Any:
        """Accept Python's `None` and YAML's `off` where null is meant, and lists without brackets:
        `8,5,6,3,2`.
        """
        if not isinstance(values, dict):
            return values
        kinds = {name: field.annotation for name, field in cls.model_fields.items()}
        return {key: _spelt_out(value, kinds.get(key)) for key, value in values.items()}


def _spelt_out(value: Any, kind: Any) -> Any:
    if type(None) in get_args(kind) and (value is False or value in ("None", "none", "off")):
        return None
    # A list that may be null; other unions take the text itself.
    kinds = [one for one in get_args(kind) if one is not type(None)]
    if get_origin(kind) in (Union, UnionType) and len(kinds) == 1:
        kind = kinds[0]
    if get_origin(kind) is not tuple or not isinstance(value, str | int | float):
        return value
    try:
        return yaml.safe_load(f"[{str(value).strip('()')}]")
    except yaml.YAMLError:
        return value
