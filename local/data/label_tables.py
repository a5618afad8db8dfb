"""Read the labels of a corpus, whatever the form of its files: docs/data.md, Label files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from desed_task.dataio.annotations import (
    EventTable,
    WeakTable,
    read_strong_table,
    read_weak_table,
)
from desed_task.dataio.clip_names import match_names
from desed_task.dataio.label_files.annotators import AnnotatedEvents
from desed_task.dataio.label_files.events import (
    ReadEvents,
    events_of_rows,
    weak_labels_of_rows,
)
from desed_task.dataio.label_files.forms import ANNOTATOR, COLLECTOR, CONFIDENCE, LabelForm
from desed_task.dataio.label_files.label_map import LabelMap, read_label_names
from desed_task.dataio.label_files.per_clip import files_by_clip, is_per_clip
from desed_task.dataio.label_files.rows import LabelRows, read_clip_rows, read_table_rows
from desed_task.errors import InputError, agree, count_of, warn_once
from desed_task.labels import Vocabulary
from local.data.clips.files import clips_in_list, fits
from local.schema.task import TableDescription
from local.task.corpus import Corpus, LabelRules

_SEPARATORS: Final = {"tab": "\t", "comma": ",", "semicolon": ";", "space": " "}
_YES: Final = frozenset({"true", "1", "yes", "y", "t"})


class LabelSet(NamedTuple):
    """The labels of a corpus.

    Attributes:
        table: events, or labels of clips.
        annotated: the events of each annotator, where training draws one of them.
    """

    table: EventTable | WeakTable
    annotated: AnnotatedEvents | None = None


def read_labels(
    corpus: Corpus, vocabulary: Vocabulary, present: Mapping[str, Path]
) -> EventTable | WeakTable:
    """The labels of a corpus, with the names of its clips that the table or the files give.

    Args:
        corpus: has a table.
        vocabulary: classes of the task.
        present: clip -> file, of those on disk; may be empty.

    Raises:
        InputError: everything that is wrong with the files, each with file and line.
    """
    return read_label_set(corpus, vocabulary, present).table


def read_label_set(corpus: Corpus, vocabulary: Vocabulary, present: Mapping[str, Path]) -> LabelSet:
    """`read_labels`, with the labels of each annotator where training draws one of them."""
    table = corpus.table
    assert table is not None, corpus.name
    if is_published_form(corpus):
        read = read_weak_table if corpus.labels == "weak" else read_strong_table
        return LabelSet(read(Path(table.path), vocabulary))
    form, path = form_of(corpus), Path(table.path)
    rows = _rows_of(corpus, form, present)
    labels = label_map_of(corpus.label_rules, vocabulary)
    if corpus.labels == "weak":
        found = LabelSet(weak_labels_of_rows(rows, labels, path=path))
    else:
        read_events = events_of_rows(
            rows, form, labels, path=path, clip_soft=corpus.labels == "soft"
        )
        found = _one_of_many(corpus, rows, read_events)
    return _of_chosen_clips(corpus, found, present)


def is_published_form(corpus: Corpus) -> bool:
    """Whether a table has the columns of the published ones, and all of it is used as it is."""
    table = corpus.table
    return (
        table is not None
        and table == TableDescription(path=table.path)
        and not is_per_clip(table.path)
        and Path(table.path).suffix.lower() != ".csv"
        and corpus.label_rules == LabelRules()
        and corpus.annotators is None
        and corpus.clips is None
        and corpus.pattern is None
    )


def form_of(corpus: Corpus) -> LabelForm:
    """The form of the label files of a corpus.

    Raises:
        InputError: labels of several annotators without a rule, or a rule without them.
    """
    table = corpus.table
    assert table is not None, corpus.name
    if corpus.annotators is None and {ANNOTATOR, COLLECTOR} & {*table.columns}:
        raise InputError(
            f"columns: names the annotator, but no rule makes one label of several; give "
            f"task.corpora.{corpus.name}.annotators"
        )
    of_clip = is_per_clip(table.path)
    if table.format == "audacity":
        if not of_clip:
            raise InputError(
                f"{table.path}: label tracks are one per clip; write {{clip}} where the clip's "
                "name is, e.g. labels/{clip}.txt"
            )
        return LabelForm.audacity()
    needs = () if corpus.annotators is None else (ANNOTATOR,)
    needs += (COLLECTOR,) if corpus.annotators == "collector" else ()
    needs += (CONFIDENCE,) if corpus.labels == "soft" and corpus.annotators is None else ()
    separator = table.separator or ("comma" if Path(table.path).suffix.lower() == ".csv" else "tab")
    return LabelForm(
        labels="clips" if corpus.labels == "weak" else "events",
        separator=_SEPARATORS[separator],
        header=table.header,
        columns=dict(table.columns),
        seconds=1e-3 if table.unit == "ms" else 1.0,
        where=dict(table.where),
        of_clip=of_clip,
        needs=needs,
    )


def label_map_of(rules: LabelRules, vocabulary: Vocabulary) -> LabelMap:
    """What the labels of a corpus stand for.

    Raises:
        InputError: the table of names cannot be used.
    """
    names = {} if rules.names is None else read_label_names(Path(rules.names))
    return LabelMap(vocabulary, dict(rules.targets), names, rules.ignores_others)


# ---- one file, or one per clip


def _rows_of(corpus: Corpus, form: LabelForm, present: Mapping[str, Path]) -> LabelRows:
    assert corpus.table is not None, corpus.name
    path = corpus.table.path
    if not form.of_clip:
        return read_table_rows(Path(path), form)
    files = files_by_clip(path)
    names = _names(path, files, present)
    named = {names.get(clip_id, clip_id): file for clip_id, file in files.items()}
    without = [clip_id for clip_id in present if clip_id not in named]
    if without:
        n = len(without)
        warn_once(
            f"{path}: {n} of {count_of(len(present), 'clip')} {agree(n, 'has', 'have')} no label "
            f"file and {agree(n, 'is', 'are')} left out, e.g. {without[0]}; an empty file is a "
            "clip without events",
            ("no label file", path, corpus.name),
        )
    if not present:
        return read_clip_rows(named.items(), form)
    # A text beside the recordings need not be a label file: others are listed, and not read.
    rows = read_clip_rows(((c, f) for c, f in named.items() if c in present), form)
    rows.clip_ids = dict.fromkeys(named)
    return rows


def _names(path: str, files: Iterable[str], present: Iterable[str]) -> dict[str, str]:
    try:
        return match_names(files, present)
    except InputError as error:
        heading = f"{path}: label files that could be those of several clips:"
        raise InputError.collect(str(error).splitlines(), heading) from None


def labelled_clips(corpus: Corpus) -> tuple[str, ...] | None:
    """The clips of the rows that a table's `where` chooses; None if it chooses none.

    Raises:
        InputError: the table cannot be used.
    """
    table = corpus.table
    if table is None or not table.where or is_per_clip(table.path):
        return None
    rows = read_table_rows(Path(table.path), form_of(corpus))
    if rows.faults:
        raise InputError.collect(rows.faults, f"{table.path} cannot be used:")
    return tuple(rows.clip_ids)


def _of_chosen_clips(corpus: Corpus, labels: LabelSet, present: Mapping[str, Path]) -> LabelSet:
    """The labels of the clips that a list and a pattern choose."""
    if corpus.clips is None and corpus.pattern is None:
        return labels
    clip_ids = labels.table.clip_ids
    on_disk = match_names(clip_ids, present)
    listed = None
    if corpus.clips is not None:
        listed = match_names(clip_ids, clips_in_list(Path(corpus.clips)))
    chosen = [
        clip_id
        for clip_id in clip_ids
        if clip_id in on_disk
        or (
            (listed is None or clip_id in listed)
            and (corpus.pattern is None or fits(clip_id, corpus.pattern))
        )
    ]
    if not chosen:
        raise InputError(
            f"{labels.table.path}: has none of the clips that {corpus.clips or corpus.pattern} "
            "chooses; check both"
        )
    table = labels.table
    if isinstance(table, WeakTable):
        return labels._replace(table=_selected(table, chosen))
    return labels._replace(table=table.select(chosen))


def _selected(table: WeakTable, clip_ids: list[str]) -> WeakTable:
    place = {clip_id: row for row, clip_id in enumerate(table.clip_ids)}
    target = table.target[[place[clip_id] for clip_id in clip_ids]]
    return WeakTable(tuple(clip_ids), target, table.vocabulary, table.path)


# ---- several annotators


def _one_of_many(corpus: Corpus, rows: LabelRows, read: ReadEvents) -> LabelSet:
    """The labels of several annotators as the corpus's rule makes them one."""
    rule = corpus.annotators
    if rule is None:
        return LabelSet(read.table)
    annotated = _annotated(corpus, rows, read)
    if rule == "collector":
        return LabelSet(_of_collectors(corpus, rows, annotated))
    if rule == "random":
        # What is drawn is trained on; what is scored must be one thing.
        return LabelSet(annotated.aggregated("majority"), annotated)
    return LabelSet(annotated.aggregated(rule))


def _annotated(corpus: Corpus, rows: LabelRows, read: ReadEvents) -> AnnotatedEvents:
    names = rows.column(ANNOTATOR)
    if "" in names:
        place = rows.places[names.index("")]
        raise InputError(f"{place}: names no annotator; correct the row")
    number = {name: index for index, name in enumerate(dict.fromkeys(names))}
    looked: dict[str, dict[int, None]] = {clip_id: {} for clip_id in rows.clip_ids}
    for clip_id, name in zip(rows.clips, names, strict=True):
        looked[clip_id][number[name]] = None
    of_rows = np.array([number[name] for name in names], dtype=np.int64)
    return AnnotatedEvents(
        read.table,
        of_rows[read.row],
        {clip_id: tuple(who) for clip_id, who in looked.items()},
        tuple(number),
    )


def _of_collectors(corpus: Corpus, rows: LabelRows, annotated: AnnotatedEvents) -> EventTable:
    """The labels of who made a recording; clips without any are left out and counted."""
    number = {name: index for index, name in enumerate(annotated.names)}
    chosen: dict[str, int] = {}
    cells = zip(rows.clips, rows.column(ANNOTATOR), rows.column(COLLECTOR), strict=True)
    for clip_id, name, is_collector in cells:
        if is_collector.casefold() in _YES:
            chosen.setdefault(clip_id, number[name])
    lacking = [clip_id for clip_id in rows.clip_ids if clip_id not in chosen]
    if not chosen:
        raise InputError(
            f"{annotated.table.path}: no row is by who made the recording; check the column, whose "
            f"values are {', '.join(map(repr, dict.fromkeys(rows.column(COLLECTOR))))} (true or 1)"
        )
    if lacking:
        n = len(lacking)
        warn_once(
            f"{annotated.table.path}: {n} of {count_of(len(rows.clip_ids), 'clip')} "
            f"{agree(n, 'has', 'have')} no labels by who made the recording and "
            f"{agree(n, 'is', 'are')} left out, e.g. {lacking[0]}",
            ("collector", corpus.name),
        )
    return annotated.by(chosen)
