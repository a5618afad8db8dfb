"""The table of events as Parquet, for archives whose events are too many for a text file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from desed_task.atomic_files import atomic_path
from desed_task.errors import InputError
from local.predict.event_table import EVENT_COLUMNS, Rows

# Rows that are kept in memory and written together.
_ROWS_PER_GROUP = 1 << 16
_NUMBERS = ("onset", "offset", "confidence")


def check_pyarrow() -> None:
    """Raise an InputError if the package that writes Parquet is missing."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"a Parquet table needs the package pyarrow ({error}); run pip install --editable "
            "'.[parquet]' in the folder of this code, or give --merge tsv"
        ) from None


@contextmanager
def parquet_table(path: Path) -> Iterator[Callable[[Rows], None]]:
    """Write a Parquet table of the columns of `events.tsv`, which appears when the block ends.

    Times and confidence are numbers; what is empty in a row without an event is null.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [(name, pa.float64() if name in _NUMBERS else pa.string()) for name in EVENT_COLUMNS]
    )
    waiting: Rows = []
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:

        def flush() -> None:
            cells = zip(*waiting, strict=True)
            columns = [
                pa.array([_value(name, cell) for cell in column], field.type)
                for name, column, field in zip(EVENT_COLUMNS, cells, schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            waiting.clear()

        def add(rows: Rows) -> None:
            waiting.extend(rows)
            if len(waiting) >= _ROWS_PER_GROUP:
                flush()

        yield add
        if waiting:
            flush()


def _value(name: str, cell: str) -> str | float | None:
    if not cell:
        return None
    return float(cell) if name in _NUMBERS else cell
