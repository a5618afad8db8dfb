"""Which released weights names stand for, and what fetching them takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from desed_task.encoders.registry import kind_of
from desed_task.encoders.released import RELEASED, ReleasedWeights, usual_weights
from desed_task.encoders.weights_file import WEIGHTS_FOLDER
from desed_task.errors import InputError, free_bytes
from local.prep.download.plan import DownloadPlanRow, format_bytes, row_to_fetch
from local.prep.download.resumable_download import file_mismatch
from local.prep.download.sources import ENCODERS_PART, DownloadSource, SourceTable
from local.prep.download.unpack_record import DOWNLOADS_FOLDER
from local.schema.encoders import EncoderChoice

ALL = "all"


class ChosenWeights(NamedTuple):
    """Weights that are wanted.

    Attributes:
        rows: which, each once.
        notes: what shorter names were taken for, one line each.
    """

    rows: tuple[ReleasedWeights, ...]
    notes: tuple[str, ...]


class WeightsRow(NamedTuple):
    """Weights of a plan: which they are, and the row of their file."""

    weights: ReleasedWeights
    row: DownloadPlanRow

    @property
    def licence(self) -> str:
        """Of the weights, in words."""
        return self.row.source.licence or self.weights.licence

    @property
    def address(self) -> str:
        """Where the file is fetched from."""
        remotes = self.row.remotes.values()
        return next((remote.url for remote in remotes), self.row.source.url or "")


@dataclass(frozen=True)
class WeightsPlan:
    """The planned downloads of weights.

    Attributes:
        rows: one per file.
        folder: where they go.
        free: free bytes on its disk.
    """

    rows: tuple[WeightsRow, ...]
    folder: Path
    free: int

    @property
    def left(self) -> int:
        """Bytes still to fetch, as far as known."""
        return sum(one.row.left for one in self.rows)

    @property
    def is_feasible(self) -> bool:
        """Whether the disk has room and nothing is known to be impossible."""
        return self.left <= self.free and not any(one.row.problem for one in self.rows)

    def text(self) -> str:
        """The rows as a table with addresses, sizes and licences, and the total."""
        width = max((len(one.weights.name) for one in self.rows), default=0) + 2
        lines = [f"{'weights':<{width}}{'size':>10}  state"]
        for one in self.rows:
            lines.append(f"{one.weights.name:<{width}}{one.row.size_text:>10}  {one.row.state}")
            lines.append(f"  {one.weights.title}; licence: {one.licence}")
            lines.append(f"  {one.address}")
        unknown = any(one.row.size is None and not one.row.there for one in self.rows)
        verdict = "which is enough" if self.left <= self.free else "which is NOT ENOUGH"
        lines.append(
            f"to fetch: {format_bytes(self.left)}{' and what is unknown' * unknown}; free in "
            f"{self.folder}: {format_bytes(self.free)}, {verdict}"
        )
        return "\n".join(lines)


# ---- which


def weights_of_names(names: Iterable[str]) -> ChosenWeights:
    """The weights that names stand for.

    Args:
        names: of released weights ("atst_frame_strong"), of encoders ("atst_frame", which stands
            for `usual_weights`), or "all"; may be joined by commas.

    Raises:
        InputError: there are no weights of some names; the message lists all that there are.
    """
    known = {row.name: row for row in RELEASED}
    encoders = list(dict.fromkeys(row.encoder for row in RELEASED))
    found: list[ReleasedWeights] = []
    notes, wrong = [], []
    for name in (name for text in names for name in text.split(",") if name):
        if name == ALL:
            found += RELEASED
        elif name in known:
            found.append(known[name])
        elif name in encoders:
            usual, note = _usual(name)
            found.append(usual)
            notes.append(note)
        else:
            wrong.append(name)
    if wrong:
        raise InputError(
            f"--only_encoders {' '.join(wrong)}: no such released weights; known: "
            f"{', '.join(known)}, {', '.join(encoders)} and {ALL}"
        )
    return ChosenWeights(tuple(dict.fromkeys(found)), tuple(dict.fromkeys(notes)))


def weights_of_configuration(choices: Sequence[EncoderChoice]) -> ChosenWeights:
    """The released weights that the encoders of a configuration need, unless they have a file.

    Raises:
        InputError: no weights of an encoder are released.
    """
    found, notes = [], []
    for choice in choices:
        name, file = choice.name, choice.file
        exact = [row for row in RELEASED if (row.encoder, row.file) == (name, Path(file).name)]
        if Path(file).is_file():
            notes.append(f"{name}: {file}, which the configuration names, is there")
        elif exact:
            found += exact
            notes.append(f"{name}: {exact[0].title}, which the configuration names")
        elif any(row.encoder == name for row in RELEASED):
            usual, note = _usual(name)
            found.append(usual)
            notes.append(f"{note}; the configuration names {file}, which is not among them")
        else:
            raise InputError(
                f"pretrained.model {name}: no weights of it are released; put {file} there, or "
                f"name others: {', '.join(row.name for row in RELEASED)} or {ALL}"
            )
    return ChosenWeights(tuple(dict.fromkeys(found)), tuple(notes))


def _usual(encoder: str) -> tuple[ReleasedWeights, str]:
    """The usual weights of an encoder, and a line that names them and the others."""
    usual = usual_weights(encoder)
    others = [row.name for row in RELEASED if row.encoder == encoder and row != usual]
    is_default = usual.file == kind_of(encoder).default_file
    why = "the recipe's default" if is_default else "as in the published baseline"
    return usual, f"{encoder}: {usual.name}, {why}; there are {' and '.join(others)} too"


# ---- plan


def plan_weights(
    weights: Sequence[ReleasedWeights],
    sources: SourceTable,
    *,
    mirror: str | None = None,
    folder: Path = Path(WEIGHTS_FOLDER),
) -> WeightsPlan:
    """Plan `fetch_weights`: what it would fetch, and the sizes, which servers state.

    Nothing is written.

    Args:
        weights: which.
        sources: the table of sources.
        mirror: address that has all files under their names; None for the table's.
        folder: where the files go.

    Raises:
        InputError: the table has no row for some; all are named.
    """
    table = sources.redirected(mirror)
    rows = {source.file: source for source in table.sources if source.part == ENCODERS_PART}
    lacking = [one.file for one in weights if one.file not in rows]
    if lacking:
        raise InputError(
            f"the table of sources has no row of part {ENCODERS_PART} for {', '.join(lacking)}; "
            "copy them from the supplied confs/sources.yaml, or leave out --sources"
        )
    with ThreadPoolExecutor(max(1, len(weights))) as pool:
        found = pool.map(lambda one: _row(rows[one.file], table, folder), weights)
        planned = tuple(WeightsRow(*pair) for pair in zip(weights, found, strict=True))
    return WeightsPlan(planned, folder, free_bytes(folder))


def _row(source: DownloadSource, table: SourceTable, folder: Path) -> DownloadPlanRow:
    path = folder / source.file
    if path.is_file() and file_mismatch(path, source.size, source.checksum) is None:
        return DownloadPlanRow(source, True, names=(source.file,))
    return row_to_fetch(source, table, folder / DOWNLOADS_FOLDER)
