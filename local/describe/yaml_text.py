"""The text of a configuration with comments."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import yaml

from desed_task.errors import count_of
from local.describe.plan import Plan, PlannedCorpus
from local.describe.sizes import CLIP_S, FRAME_S, Sizes

MARK: Final = "# Written by generate_dcase_task4_2024.py --describe"
_PLAIN: Final = re.compile(r"[\w][\w ./+-]*", re.ASCII)
_SMALL_NETWORK: Final = """
feats: # of log-mel spectrograms
  n_mels: 64
  hop_length: 512
  n_window: 1024

opt:
  lr: 0.002

net: # small, as there are few training clips; without these lines it is the published one
  dropout: 0.1
  n_layers_RNN: 1
  n_RNN_cell: 64
  kernel_size: [3, 3, 3, 3]
  padding: [1, 1, 1, 1]
  stride: [1, 1, 1, 1]
  nb_filters: [8, 32, 48, 64]
  pooling: [[2, 4], [1, 4], [1, 2], [1, 2]] # time, frequency
  dropstep_recurrent: 0.0
"""


def configuration_text(
    plan: Plan, sizes: Sizes, folder: Path, *, prepared: bool, with_embeddings: bool, lists: Path
) -> str:
    """The configuration of a plan.

    Args:
        plan: corpora and classes.
        sizes: numbers.
        folder: of the recordings; if relative, commands are started where it is looked up from.
        prepared: whether the recordings are used as they are, without being resampled.
        with_embeddings: whether an encoder's weights are there.
        lists: where lists of recordings lie, for corpora that need one.
    """
    lines = [
        f"{MARK} {yaml_scalar(str(folder))}",
        "# docs/own_data.md explains every key.",
        "task:",
    ]
    lines += _indented(_task(plan, sizes, folder, prepared=prepared, lists=lists))
    lines += ["", *_sections(sizes, with_embeddings=with_embeddings)]
    return "\n".join(lines) + "\n"


def yaml_scalar(value: object) -> str:
    """A value as YAML in one line, in quotes where it would be read as anything else."""
    if value is None:
        return "null"
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if _PLAIN.fullmatch(value) and value == value.strip() and yaml.safe_load(value) == value:
        return value
    return str(yaml.safe_dump(value, allow_unicode=True, default_style='"', width=2**31)).rstrip()


def _listed(values: Sequence[object]) -> str:
    return f"[{', '.join(yaml_scalar(value) for value in values)}]"


def _mapped(values: Mapping[str, object]) -> str:
    inner = (
        f"{yaml_scalar(key)}: {_listed(v) if isinstance(v, list | tuple) else yaml_scalar(v)}"
        for key, v in values.items()
    )
    return f"{{{', '.join(inner)}}}"


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" if line else "" for line in lines)


def _task(plan: Plan, sizes: Sizes, folder: Path, *, prepared: bool, lists: Path) -> Iterator[str]:
    root = folder.parent
    yield f"name: {yaml_scalar(_name_of(folder))}"
    yield f"root: {yaml_scalar(os.fspath(root))} # paths below start from here"
    yield "classes:"
    yield from (f"  - {yaml_scalar(label)}" for label in plan.classes)
    yield "corpora:"
    for corpus in plan.corpora:
        yield f"  {corpus.name}:"
        text = _corpus(corpus, plan, sizes, folder, prepared=prepared, lists=lists)
        yield from (f"    {line}" for line in text)
    yield from _scored(plan)


def _name_of(folder: Path) -> str:
    return folder.resolve().name or "own"


def _corpus(
    corpus: PlannedCorpus, plan: Plan, sizes: Sizes, folder: Path, *, prepared: bool, lists: Path
) -> Iterator[str]:
    name = folder.name
    if prepared:
        yield f"audio: {yaml_scalar(name)} # at 16 kHz already"
    else:
        yield f"audio: {yaml_scalar(f'{name}_16k')} # 16 kHz, made by the next command"
        yield f"originals: {yaml_scalar(name)}"
    if corpus.pattern is not None:
        yield f"pattern: {yaml_scalar(corpus.pattern)}"
    if corpus.list_file:
        relative = os.path.relpath(lists.parent / list_name(lists, corpus.name), folder.parent)
        yield f"clips: {yaml_scalar(relative)}"
    if corpus.labels is None:
        yield "labels: none # recordings without labels, for the consistency loss only"
    else:
        yield from _table(corpus, name)
        yield from _labels(corpus, plan)
    if corpus.use in (None, "train"):
        if corpus.split:
            yield f"split: {_mapped(corpus.split)} # shares; the others are trained on"
        if corpus.recordings is not None:
            yield "recordings: # the first group is the recording that a clip was cut from"
            yield f"  pattern: {yaml_scalar(corpus.recordings)}"
        yield f"rows: {sizes.rows[corpus.name]} # in a training batch"
    else:
        yield f"split: {corpus.use}"
    if sizes.n_long and corpus.use in (None, "train"):
        yield f"long: windows # of {sizes.clip_s} s, hop_s apart, of longer recordings; or: crop"
        yield f"hop_s: {sizes.clip_s / 2:g}"


def list_name(configuration: Path, corpus: str) -> str:
    """Name of the file that lists a corpus's recordings, beside a configuration."""
    return f"{configuration.stem}_{corpus}.txt"


def _table(corpus: PlannedCorpus, name: str) -> Iterator[str]:
    labels = corpus.labels
    assert labels is not None
    yield "table:"
    yield f"  path: {yaml_scalar(f'{name}/{labels.path}')}"
    if labels.is_audacity:
        yield "  format: audacity"
        return
    layout = labels.layout
    yield f"  separator: {layout.separator}"
    yield f"  header: {yaml_scalar(bool(layout.header))}"
    columns = layout.described()
    if labels.per_clip and "filename" in columns and not layout.header:
        columns.pop("filename")
    if "confidence" in columns and labels.kind != "soft":
        columns.pop("confidence")
    yield f"  columns: {_mapped(columns)}"
    if layout.in_ms:
        yield "  unit: ms"
    if corpus.where:
        yield f"  where: {_mapped(corpus.where)}"


def _labels(corpus: PlannedCorpus, plan: Plan) -> Iterator[str]:
    labels = corpus.labels
    assert labels is not None
    if corpus.kind != "strong":
        what = {"soft": "events with a confidence", "weak": "which classes a recording contains"}
        yield f"labels: {corpus.kind} # {what[corpus.kind]}"
    if "annotator" in labels.layout.columns:
        yield "annotators: majority # what half of them or more have marked"
    met = {event.label for event in corpus.events}
    mapped = {label: to for label, to in plan.label_map.items() if label in met}
    if mapped:
        yield "label_map: # as it is written: the class; null: left out"
        yield from (f"  {yaml_scalar(label)}: {yaml_scalar(to)}" for label, to in mapped.items())


def _scored(plan: Plan) -> Iterator[str]:
    validation, test = plan.scored("validation"), plan.scored("test")
    kinds = {validation.kind, test.kind}
    kind = "tags" if "weak" in kinds else "events"
    yield "scored:"
    yield f"  {kind}: {{validation: {validation.name}, test: {test.name}}}"
    if kinds == {"soft"}:
        yield f"  segments: {{validation: {validation.name}, test: {test.name}}}"


def _sections(sizes: Sizes, *, with_embeddings: bool) -> Iterator[str]:
    warm_up = max(sizes.n_epochs // 10, 1)
    batches = count_of(sizes.steps, "batch", "batches")
    yield "training:"
    yield f"  n_epochs: {sizes.n_epochs} # each of about {batches}"
    yield f"  n_epochs_warmup: {warm_up} # the learning rate rises up to this epoch"
    yield f"  epoch_decay: {max(sizes.n_epochs // 2, warm_up)} # from this epoch on it falls"
    yield f"  validation_interval: {sizes.interval} # epochs"
    yield f"  early_stop_patience: {sizes.n_epochs}"
    yield "  batch_size_val: 16"
    yield f"  num_workers: {0 if sizes.is_small else 4} # processes that read clips"
    if sizes.is_small:
        yield "  ema_factor: 0.99 # the teacher follows within some 100 batches"
        yield "  mixup_draw: joint"
    yield ""
    yield "data:"
    yield f"  audio_max_len: {sizes.clip_s} # length of a training clip in seconds"
    if sizes.is_small:
        yield "  net_subsample: 2"
    if sizes.clip_s != CLIP_S:
        yield from ("", "predict:", f"  hop_s: {sizes.clip_s / 2:g} # seconds between windows")
    if sizes.is_small:
        yield from _SMALL_NETWORK.rstrip().splitlines()
    else:
        yield ""
        yield "net:"
    yield f"  use_embeddings: {yaml_scalar(with_embeddings)}{_about_embeddings(with_embeddings)}"
    yield f"  median_filter: # frames of {FRAME_S} s, a third of the usual length of an event"
    yield from (f"    {yaml_scalar(label)}: {n}" for label, n in sizes.filters.items())


def _about_embeddings(with_embeddings: bool) -> str:
    if with_embeddings:
        return " # of pretrained.model; false trains without an encoder"
    return " # true needs an encoder's weights: docs/encoders.md"
