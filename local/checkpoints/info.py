"""Print a summary of a checkpoint: `train_pretrained.py --checkpoint_info FILE`.

Works without configuration, data and Lightning.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from desed_task.checkpoints.encoder_specs import EncoderSpec
from desed_task.checkpoints.published import is_published
from desed_task.checkpoints.safe_load import load_safely
from desed_task.checkpoints.spec import SPEC_KEY, DetectorSpec, check_spec
from desed_task.checkpoints.state_names import PUBLISHED_STAGE, encoder_tensors
from desed_task.checkpoints.stored_encoders import check_stored_encoders
from desed_task.errors import InputError, count_of
from desed_task.file_names import printable
from desed_task.postprocess.decoders import MEDIAN
from local.checkpoints.revision import revision_of
from local.config import TASK_SECTION
from local.schema.published_keys import TASK_KEYS
from local.schema.task import TaskDescription
from local.task.reading import default_description, listed_classes, read_keys

WIDTH = 100
INDENT = 17
_UNBROKEN = "\x1f"  # replaces a space at which no line may be broken
# Hyperparameters of the training; other rows of the table describe the detector.
TRAINING_KEYS = (
    *("training.n_epochs", "training.n_epochs_warmup", "training.epoch_decay"),
    *("training.batch_size", "training.accumulate_batches", "opt.lr", "training.gradient_clip"),
    *("training.const_max", "training.self_sup_loss", "training.ema_factor"),
    *("training.mixup", "training.mixup_prob", "training.mixup_draw"),
    *("net.dropout", "net.dropstep_recurrent", "net.dropstep_recurrent_len", "net.dropstep_scope"),
    *("training.weak_split", "training.maestro_split", "training.seed", "training.precision"),
    *("training.obj_metric_synth_type", "training.obj_metric_maestro_type"),
)

OWN_NAME = TaskDescription.model_fields["name"].default
_AXES = {1: "mel bands", 2: "frames"}
InfoRows = Iterator[tuple[str, str]]


def print_checkpoint_info(path: Path) -> None:
    """Print a summary of a checkpoint.

    Raises:
        InputError: it cannot be loaded safely or is not a detector of this recipe.
    """
    print(format_checkpoint_info(path))


def format_checkpoint_info(path: Path) -> str:
    """Summary of a checkpoint as a table of names and texts.

    Raises:
        InputError: as `print_checkpoint_info`.
    """
    checkpoint = load_safely(path)
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        spec = DetectorSpec.of_checkpoint(checkpoint, str(path))
    rows = [
        ("file", f"{path} ({path.stat().st_size / 1e6:.1f} MB)"),
        *_origin(checkpoint),
        *_detector(spec, checkpoint),
        *_trained(checkpoint),
        *_state(spec, checkpoint["state_dict"], str(path)),
        *(("remark", str(w.message).removeprefix(f"{path}: ")) for w in remarks),
    ]
    return "\n".join(_row(name, text) for name, text in rows)


def _row(name: str, text: str) -> str:
    # The terminal must not interpret control characters from a file.
    text = "".join(c if c.isprintable() or c == _UNBROKEN else "?" for c in text)
    lines = textwrap.wrap(text, WIDTH - INDENT, break_long_words=False, break_on_hyphens=False)
    return f"{name:<{INDENT}}" + f"\n{'':{INDENT}}".join(lines).replace(_UNBROKEN, " ")


def _origin(checkpoint: Mapping[str, Any]) -> InfoRows:
    """Kind of checkpoint, package versions and training progress."""
    if SPEC_KEY in checkpoint:
        schema, revision = checkpoint[SPEC_KEY]["schema_version"], revision_of(checkpoint)
        kind = f"ours, schema {schema}, training revision {revision}"
    elif PUBLISHED_STAGE in checkpoint:
        kind = str(checkpoint[PUBLISHED_STAGE])
    elif is_published(checkpoint):
        kind = "written by the published code"
    else:
        kind = "ours, older than stored specifications"
    yield "kind", kind
    versions = checkpoint.get("versions", {})
    if "pytorch-lightning_version" in checkpoint and not versions:
        versions = {"pytorch-lightning": checkpoint["pytorch-lightning_version"]}
    if isinstance(versions, dict) and versions:
        yield "written with", ", ".join(f"{name} {version}" for name, version in versions.items())
    if "epoch" in checkpoint:
        steps = checkpoint.get("global_step", "an unknown number of")
        yield (
            "trained",
            f"to the end of epoch {checkpoint['epoch']} (counted from 0), "
            f"{count_of(steps, 'step')}",
        )
    yield from _best(checkpoint.get("callbacks"))


def _best(callbacks: Any) -> InfoRows:
    """Best score recorded by the checkpoint callback."""
    states = callbacks.values() if isinstance(callbacks, dict) else ()
    for state in states:
        if not isinstance(state, dict) or not isinstance(state.get("monitor"), str):
            continue
        score = state.get("best_model_score")
        if isinstance(score, float) or (isinstance(score, Tensor) and score.numel() == 1):
            best = Path(str(state.get("best_model_path"))).name
            yield "best score", f"{state['monitor']} {float(score):.4f}, of {best}"


def _detector(spec: DetectorSpec, checkpoint: Mapping[str, Any]) -> InfoRows:
    """Classes, network, embeddings, front end, frames and scaler."""
    net, grid, scaler = spec.net, spec.grid, spec.scaler
    state = checkpoint["state_dict"]
    name, classes = _task(checkpoint)
    of_task = f" (those of the task {name})" if spec.classes == classes else ""
    lengths = zip(spec.classes, spec.median_filter, strict=True)
    filtered = ", ".join(f"{label} {n}".replace(" ", _UNBROKEN) for label, n in lengths)
    yield (
        "classes",
        f"{len(spec.classes)}{of_task}, with their median filters in frames: {filtered}",
    )
    if spec.decoder["kind"] != MEDIAN:
        yield "decoder", ", ".join(f"{key} {value}" for key, value in spec.decoder.items())
    filters = ", ".join(map(str, net["nb_filters"]))
    text = f"CRNN, {_n_parameters(state) / 1e6:.2f} M parameters (student; as many in the teacher)"
    text += (
        f"; {count_of(len(net['nb_filters']), 'block')} of {filters} filters, {net['activation']}; "
    )
    text += (
        f"GRU of {count_of(net['n_layers_RNN'], 'layer')}, {net['n_RNN_cell']} cells per direction"
    )
    yield "network", text
    yield "embeddings", _embeddings(spec)
    yield from _held(spec, state)
    yield "front end", _front_end(spec.front_end)
    text = f"{grid.n_frames} of {1000 * grid.frame_s:g} ms for a clip of {spec.clip_s:g} s"
    yield "frames", f"{text} ({count_of(spec.net_subsample, 'mel frame')} each)"
    axes = " and ".join(_AXES.get(axis, "?") for axis in scaler["dims"])
    kept = ", with its statistics in the file" if "scaler.shift" in state else ""
    yield "scaler", f"{scaler['normtype']} of each {scaler['statistic']} over {axes}{kept}"


def _task(checkpoint: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Name and classes of the task that a checkpoint was trained on."""
    raw = _description(checkpoint)
    return str(raw.get("name", OWN_NAME)), listed_classes(raw)


def _description(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """The stored description of the task; the default one in older files and published ones."""
    hyper = checkpoint.get("hyper_parameters")
    stored = hyper.get(TASK_SECTION) if isinstance(hyper, dict) else None
    return stored if isinstance(stored, dict) and stored else default_description()


def _rows(raw: Mapping[str, Any]) -> str:
    """Rows of a batch as a description states them."""
    corpora = raw.get("corpora")
    named = corpora.items() if isinstance(corpora, dict) else ()
    rows = [f"{one['rows']} of {name}" for name, one in named if dict(one or {}).get("rows")]
    return ", ".join(rows) or "of the task"


def _n_parameters(state: Mapping[str, Tensor]) -> int:
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    return sum(
        value.numel()
        for name, value in state.items()
        if name.startswith("sed_student.") and not name.endswith(buffers)
    )


def _front_end(values: Mapping[str, Any]) -> str:
    return (
        f"{values['sample_rate']} Hz; FFT {values['n_fft']}, window {values['win']}, hop "
        f"{values['hop_samples']} samples; {values['n_mels']} mel bands, {values['f_min']:g} to "
        f"{values['f_max']:g} Hz"
    )


def _embeddings(spec: DetectorSpec) -> str:
    if not spec.net["use_embeddings"]:
        return "none"
    kind, size = spec.net["embedding_type"], spec.embedding["size"]
    if len(spec.encoders) == 1:
        (one,) = spec.encoders
        weights = _weights(one, spec)
        told = f"{one.in_words}, {kind} embeddings of {size} features ({weights})"
    else:
        of_each = ", ".join(
            f"{one.in_words} {one.width or 'unknown'} ({_weights(one, spec)})"
            for one in spec.encoders
        )
        told = f"{kind} embeddings of {size} features: {of_each}"
    return f"{told}; aggregation {spec.net['aggregation_type']}"


def _held(spec: DetectorSpec, state: Mapping[str, Tensor]) -> InfoRows:
    """The encoders that the checkpoint holds, if it does."""
    if not spec.holds_encoders:
        return
    n_weights = sum(value.numel() for value in encoder_tensors(state, "student").values())
    n_teachers = sum(value.numel() for value in encoder_tensors(state, "teacher").values())
    as_many = "as many" if n_weights == n_teachers else f"{n_teachers / 1e6:.2f} M"
    yield (
        "encoder",
        f"in the checkpoint, that of the student with {n_weights / 1e6:.2f} M parameters "
        f"({as_many} in the teacher's); its files are not needed",
    )


def _weights(encoder: EncoderSpec, spec: DetectorSpec) -> str:
    sha256 = encoder.checkpoint_sha256
    if spec.holds_encoders:
        return f"trained from weights with SHA-256 {sha256}" if sha256 else "its own weights"
    return f"weights with SHA-256 {sha256}" if sha256 else "unknown weights"


def _trained(checkpoint: Mapping[str, Any]) -> InfoRows:
    """Hyperparameters of the training."""
    hyper = checkpoint.get("hyper_parameters")
    raw = _description(checkpoint)
    unread = TASK_KEYS - read_keys(raw)
    found = []
    for dotted in TRAINING_KEYS:
        section, _, key = dotted.partition(".")
        branch = hyper.get(section) if isinstance(hyper, dict) else None
        if not isinstance(branch, dict) or key not in branch or dotted in unread:
            continue
        if key == "batch_size" and branch[key] is None:
            found.append(f"{key} {_rows(raw)}")
            continue
        found.append(f"{key} {branch[key]}".replace("None", "off"))
    found += _of_encoders(hyper)
    if found:
        yield "training", "; ".join(found)
    began = hyper.get("initial_weights") if isinstance(hyper, dict) else None
    if isinstance(began, dict) and began.get("checkpoint_sha256"):
        sha256 = str(began["checkpoint_sha256"])[:12]
        yield "initial weights", f"{began.get('checkpoint') or 'unknown'} (SHA-256 {sha256}...)"


def _of_encoders(hyper: Any) -> list[str]:
    """What a training did with encoders that ran inside its step; nothing if none did."""
    section = hyper.get("pretrained") if isinstance(hyper, dict) else None
    if not isinstance(section, dict) or not section.get("e2e"):
        return []
    if section.get("freezed", True):
        return ["encoder inside the step, kept as it is"]
    opt = hyper.get("opt")
    rates = opt if isinstance(opt, dict) else {}
    keys = [key for key in ("lr_encoder", "layer_decay") if key in rates]
    return ["encoder fine-tuned", *(f"{key} {rates[key]}" for key in keys)]


def _state(spec: DetectorSpec, state: Mapping[str, Tensor], origin: str) -> InfoRows:
    """Whether the tensors can be used."""
    try:
        check_spec(spec, state, origin)
        check_stored_encoders(spec, state, origin)
    except InputError as error:
        # "FILE: ..." or "FILE, below 'encoder_student.': ..."
        yield "tensors", " ".join(str(error).removeprefix(printable(origin)).lstrip(":, ").split())
    else:
        yield "tensors", f"{len(state)}, all fit and finite"
