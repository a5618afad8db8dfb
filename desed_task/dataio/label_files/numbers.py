"""Numbers in label files, with a decimal point or a decimal comma."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

_COMMA: Final = re.compile(r"[+-]?\d+,\d+")
# Could be thousands as well.
_GROUPED: Final = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


class ReadNumbers(NamedTuple):
    """Numbers of several columns.

    Attributes:
        columns: (row,) each, NaN for cells that are no numbers.
        commas: row of the first decimal comma that was read as a point; None without any.
    """

    columns: tuple[npt.NDArray[np.float64], ...]
    commas: int | None


def read_numbers(columns: Sequence[Sequence[str]]) -> ReadNumbers:
    """The numbers of columns that one program wrote.

    Decimal commas are read if nothing else can be meant: no other number has a point, and not all
    of them could be thousands.
    """
    texts = [text for column in columns for text in column]
    commas = [text for text in texts if _COMMA.fullmatch(text)]
    pointed = any("." in text and not _COMMA.fullmatch(text) for text in texts)
    plain = bool(commas) and not pointed and not all(map(_GROUPED.fullmatch, commas))
    found = tuple(_of(column, plain) for column in columns)
    first = None
    if plain:
        rows = (row for column in columns for row, text in enumerate(column) if "," in text)
        first = min(rows, default=None)
    return ReadNumbers(found, first)


def _of(column: Sequence[str], commas: bool) -> npt.NDArray[np.float64]:
    texts = pd.Series(list(column), dtype=object)
    if commas:
        texts = texts.str.replace(",", ".", regex=False)
    return pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64)
