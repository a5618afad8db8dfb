"""Findings about what is odd in the data of a task as training loads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from desed_task.errors import InputError, agree, count_of
from local.data.corpus_checks import examples
from local.data.datamodule import SedDataModule
from local.data.loaded_corpus import LoadedCorpus
from local.doctor.oddities.events import FEW, events_by_class, few, overlapping_events
from local.doctor.oddities.leaks import ClipSet, Use, find_leaks
from local.doctor.report import Finding
from local.task.class_names import some_classes
from local.task.corpus import Corpus

_MOST_CLASSES: Final = 8
# Part of a corpus -> what it is for.
_USES: Final[dict[str, Use]] = {"train": "training", "validation": "validation", "test": "test"}


def odd_findings(
    data: SedDataModule, *, jobs: int = 8, progress: bool = False
) -> Iterator[Finding]:
    """What is odd in the loaded corpora of a task: errors are told elsewhere.

    Args:
        data: with the corpora of a training loaded.
        jobs: files whose audio is compared at a time.
        progress: whether to show a bar.
    """
    task, parts = data.task, _parts(data)
    for corpus in task.unused:
        text = f"task.corpora.{corpus.name}: is not used: it has no rows in a batch and is not "
        yield Finding("note", corpus.name, f"{text}scored; delete it, or give it a use")
    if task.untrained_classes:
        labels = some_classes(task.untrained_classes, _MOST_CLASSES)
        yield Finding("warning", "", f"no corpus that is trained on has labels of {labels}")
    yield from _few_events(data, parts)
    for corpus in task.used:
        loaded = data.loaded.get(corpus.name)
        if loaded is not None:
            yield from _overlaps(loaded)
            yield from _without_events(loaded)
    sets = [
        ClipSet(corpus.title, _USES[use], {c: part.files[c] for c in part.clip_ids})
        for (corpus, use), part in parts.items()
    ]
    for leak in find_leaks(sets, jobs=jobs, progress=progress):
        yield Finding("warning" if leak.concerns_training else "note", "", leak.text())


def _parts(data: SedDataModule) -> dict[tuple[Corpus, str], LoadedCorpus]:
    """(corpus, use) -> its clips, as far as they can be loaded."""
    task = data.task
    used = [(corpus, "train") for corpus in task.trained_on]
    used += [(corpus, "validation") for corpus in task.scored_corpora("val")]
    used += [(corpus, "test") for corpus in task.scored_corpora("test")]
    parts = {}
    for corpus, use in used:
        if corpus.name in data.loaded:
            try:
                parts[corpus, use] = data.part(corpus, use)
            except InputError:
                continue  # Told by training's own check.
    return parts


def _few_events(
    data: SedDataModule, parts: dict[tuple[Corpus, str], LoadedCorpus]
) -> Iterator[Finding]:
    """Classes with no or few labels in training, and none where they are scored."""
    trained = [part for (_, use), part in parts.items() if use == "train"]
    counts: dict[str, int] = {}
    for part in trained:
        for label, n in events_by_class(part.events or part.weak).items():
            counts[label] = counts.get(label, 0) + n
    all_there = len(trained) == len(data.task.trained_on)
    untrained = set(data.task.untrained_classes)
    classes = [label for label in data.task.classes if label not in untrained]
    none = [label for label in classes if not counts.get(label)]
    if none and all_there:
        text = f"no training clip has an event or label of {some_classes(none, _MOST_CLASSES)}"
        yield Finding("warning", "", f"{text}; add some, or take it out of task.classes")
    if all_there and (rare := few(counts, classes)):
        shown = [f"{label} ({n})" for label, n in list(rare.items())[:_MOST_CLASSES]]
        more = ", ..." if len(rare) > len(shown) else ""
        text = f"classes with fewer than {FEW} events or labelled clips in training: "
        yield Finding("note", "", f"{text}{', '.join(shown)}{more}")
    for stage, use in (("val", "validation"), ("test", "test")):
        for scored in data.task.scored(stage):
            part = parts.get((scored.corpus, use))
            there = {} if part is None else events_by_class(part.events or part.weak)
            absent = [label for label in scored.classes if label not in there]
            if there and absent and scored.kind != "tags":  # Tags of all classes are scored.
                labels = some_classes(absent, _MOST_CLASSES)
                yield Finding(
                    "note",
                    scored.corpus.name,
                    f"{scored.corpus.title}: no {scored.kind} of {labels} in the {use}, so that "
                    f"{agree(len(absent), 'it is', 'they are')} not scored there",
                )


def _overlaps(loaded: LoadedCorpus) -> Iterator[Finding]:
    if loaded.events is None or loaded.corpus.labels == "soft":
        return  # Soft labels of neighbouring segments meet, and one has another confidence.
    if found := overlapping_events(loaded.events):
        shown = [f"{clip}: {', '.join(labels)}" for clip, labels in found.items()]
        yield Finding(
            "note",
            loaded.corpus.name,
            f"{loaded.events.path or loaded.corpus.title}: events of one class overlap in "
            f"{count_of(len(found), 'clip')} ({examples(shown)}); they are taken for one event",
        )


def _without_events(loaded: LoadedCorpus) -> Iterator[Finding]:
    """Clips without events that are kept; those that are left out are told elsewhere."""
    if loaded.events is None or not loaded.corpus.keeps_clips_without_events:
        return
    with_events = {loaded.events.clip_ids[index] for index in loaded.events.clip_index.tolist()}
    empty = [clip for clip in loaded.clip_ids if clip not in with_events]
    if empty:
        yield Finding(
            "note",
            loaded.corpus.name,
            f"{loaded.corpus.title}: {len(empty)} of {count_of(len(loaded.clip_ids), 'clip')} "
            f"{agree(len(empty), 'has', 'have')} no events ({examples(empty)}): negative examples",
        )
