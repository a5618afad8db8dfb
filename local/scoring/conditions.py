"""What a test was scored on and with, kept in results.json; and whether two tests compare.

Means over runs, differences and intervals only make sense for tests of the same truth, with the
same settings and conventions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from desed_task.errors import count_of
from desed_task.evaluation.psds import PSDS1, PSDS2
from desed_task.labels import Vocabulary
from desed_task.postprocess.decoders import MEDIAN, THRESHOLD_BOXES
from local.config import RecipeConfig
from local.data.truth import TRUE_CONFIDENCE
from local.scoring.own.criteria import (
    COLLAR,
    F1_THRESHOLD,
    INTERSECTION,
    MAX_FPR,
    OWN,
    OWN_VERSION,
)
from local.scoring.tags import ClipScores
from local.scoring.tested import ENSEMBLE
from local.task.corpus import Corpus
from local.task.task import ScoredPart

CHECKPOINT, TRAINED, SCORED_ON, SCORING = (
    "checkpoint_sha256",
    "training_revision",
    "scored_on",
    "scoring",
)
# Sections of the configuration that the weights depend on, and their keys that may differ between
# runs of one system: randomness and the machine.
TRAINING_SECTIONS = ("training", "scaler", "opt", "feats", "net", "initial_weights")
FREE_KEYS = {
    ("training", "seed"),
    ("training", "num_workers"),
    ("training", "enable_progress_bar"),
    ("training", "batch_size_val"),
    ("scaler", "savepath"),
    ("initial_weights", "checkpoint"),
}
# Increased whenever a test of the same scores would have other values.
SCORING_REVISION = 1
METRIC_PACKAGES = ("sed_scores_eval",)
# Present if the decoder was tuned on the clips that are scored.
TUNED_ON = "tuned_on"
# What a group metric was computed on; see `local.scoring.own.groups`.
GROUPS = "groups"
# Packages whose names metrics have: which code computes them, and the version it agrees with.
COMPUTED_BY = {
    "sed_scores_eval": "desed_task",
    "psds_eval": "desed_task",
    "sed_eval": "desed_task",
    OWN: "desed_task",
}
DEFINED_BY = {
    "sed_scores_eval": "0.0.4",
    "psds_eval": "0.5.3",
    "sed_eval": "0.2.1",
    OWN: OWN_VERSION,
}
DEFINITIONS = "definitions"
# Settings that may be what two systems differ in; the runs of one system share them.
_AVERAGED = "averaged checkpoints"
_OF_SYSTEM = (f"{SCORING}.decoder", f"{SCORING}.precision", TRAINED, _AVERAGED)
_DECODER_NAME = f"{SCORING}.decoder.name"
# No difference in what metrics mean.
_COUNTS = ("n_clips", "n_events")
_NAMES = {
    f"{SCORED_ON}.clips": "other clips",
    f"{SCORED_ON}.truth": "another truth",
    f"{SCORED_ON}.durations": "other durations",
}


def tuned_on(config: RecipeConfig, checkpoint_sha256: str, *, trained_here: bool) -> dict[str, str]:
    """For results.json, that the decoder was tuned on the test set; empty if it was not.

    Args:
        config: of the test.
        checkpoint_sha256: of the tested file. Values that were tuned for another one are used too
            if the decoder is not the default one.
        trained_here: whether the file was trained with this configuration, whose median filters
            are then used too.
    """
    tuned = config.tuned
    used = trained_here or tuned.checkpoint_sha256 == checkpoint_sha256
    used = used or config.decoder.kind != MEDIAN
    return {TUNED_ON: tuned.objective} if used and tuned.is_oracle else {}


def scoring_settings(config: RecipeConfig, in_windows: Sequence[Corpus] = ()) -> dict[str, Any]:
    """Every setting that test metrics depend on, as plain values.

    Args:
        config: the configuration.
        in_windows: corpora of which some clips were scored in windows, on whose distance scores
            depend.
    """
    task = config.detection_task
    return {
        **_hops(config, in_windows),
        "n_thresholds": config.training.n_test_thresholds,
        "decoder": decoder_settings(config),
        "classes": list(task.classes),
        "scored_classes": [label for part in task.test for label in part.classes],
        "clip_s": config.data.audio_max_len,
        "frame_s": config.grid.frame_s,
        "precision": str(config.training.precision),
        "conventions": {
            "revision": SCORING_REVISION,
            "psds1": asdict(PSDS1),
            "psds2": asdict(PSDS2),
            "intersection": dict(INTERSECTION),
            "collar": dict(COLLAR),
            "f1_threshold": F1_THRESHOLD,
            "max_fpr": MAX_FPR,
            "true_confidence": TRUE_CONFIDENCE,
        },
    }


def digest_tags(found: ClipScores, part: ScoredPart, vocabulary: Vocabulary) -> dict[str, Any]:
    """What scores of tags were compared with, whatever the order of clips.

    Args:
        found: scores and presence for all classes.
        part: the scored classes.
        vocabulary: all classes.

    Returns:
        `clips` and `truth`: SHA-256; `n_clips`, and `n_events`, the number of tags.
    """
    columns = [(label, vocabulary.index(label)) for label in part.classes]
    rows = sorted(
        (clip_id, [label for label, column in columns if present[column]])
        for clip_id, present in zip(found.clip_ids, found.present.tolist(), strict=True)
    )
    return {
        "clips": _sha256([clip_id for clip_id, _ in rows]),
        "truth": _sha256(rows),
        "n_clips": len(rows),
        "n_events": sum(len(labels) for _, labels in rows),
    }


def _sha256(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


def _hops(config: RecipeConfig, in_windows: Sequence[Corpus]) -> dict[str, Any]:
    """The distance of windows in seconds; of corpora with one of their own, too."""
    common = config.predict.hop_s
    own = {corpus.name: corpus.hop_s for corpus in in_windows if corpus.hop_s not in (None, common)}
    found: dict[str, Any] = {"hop_s": common} if len(in_windows) > len(own) else {}
    return {**found, "hops_s": own} if own else found


def decoder_settings(config: RecipeConfig) -> dict[str, Any]:
    """The decoder of a test: its name and all values that its kind reads, per class."""
    classes = config.detection_task.classes
    lengths = {"frames": dict(zip(classes, config.net.median_filter, strict=True))}
    settings = config.decoder.settings
    if settings.kind == MEDIAN:
        return {"name": "median_filter", **lengths}
    if settings.kind == THRESHOLD_BOXES:
        thresholds = dict(zip(classes, settings.thresholds(classes).tolist(), strict=True))
        return {"name": settings.kind, "threshold": thresholds, **lengths}
    # Segments are those of filtered frames whatever the decoder.
    of_class = zip(classes, settings.of_boxes(classes), strict=True)
    return {"name": settings.kind, "boxes": {c: asdict(one) for c, one in of_class}, **lengths}


def has_conditions(content: Mapping[str, Any]) -> bool:
    """Whether a results.json says what it was scored on; those of earlier versions do not."""
    return isinstance(content.get(SCORED_ON), dict) and isinstance(content.get(SCORING), dict)


def differing_conditions(
    first: Mapping[str, Any], other: Mapping[str, Any], *, one_system: bool = True
) -> list[str]:
    """What two tests differ in, so that their metrics cannot be averaged or compared.

    Args:
        first: content of a results.json.
        other: content of another.
        one_system: whether both are of one system, whose runs share decoder, precision, training
            revision, and number and encoders of averaged checkpoints too.

    Returns:
        One text per difference; empty if there is none or one does not say.
    """
    if not (has_conditions(first) and has_conditions(other)):
        return []
    one, two = _values(first), _values(other)
    differing = [path for path in one | two if one.get(path) != two.get(path)]
    if _DECODER_NAME in differing:  # other decoders have other values, of each class
        own = _DECODER_NAME.removesuffix("name")
        differing = [p for p in differing if p == _DECODER_NAME or not p.startswith(own)]
    if not one_system:
        differing = [path for path in differing if not path.startswith(_OF_SYSTEM)]
    return list(dict.fromkeys(_texts(differing, one, two)))


def _values(content: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted path -> value, of all that has to agree."""
    found: dict[str, Any] = {TRAINED: content.get(TRAINED), _AVERAGED: _averaged(content)}
    for corpus, digests in content[SCORED_ON].items():
        found |= {f"{SCORED_ON}.{name}.{corpus}": value for name, value in digests.items()}
    found |= dict(_flat(content[SCORING], SCORING))
    found |= {f"versions.{name}": definition_of(content, name) for name in METRIC_PACKAGES}
    return found


def _averaged(content: Mapping[str, Any]) -> str:
    """How many checkpoints' scores are averaged, and of which encoders."""
    members = content.get(ENSEMBLE, ())
    encoders = sorted("+".join(one.get("encoders", ())) or "no encoder" for one in members)
    return f"{len(members)} ({', '.join(encoders)})" if members else "none"


def definition_of(content: Mapping[str, Any], package: str) -> str | None:
    """The version of a package by whose definition a test's metrics are computed.

    Tests of earlier versions of the recipe were computed by the installed package.
    """
    told = content.get(DEFINITIONS) or content.get("versions", {})
    version: str | None = told.get(package)
    return version


def _flat(tree: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}.{name}")
        else:
            yield f"{path}.{name}", value


def _texts(
    differing: Sequence[str], one: Mapping[str, Any], two: Mapping[str, Any]
) -> Iterator[str]:
    for path in differing:
        section, _, corpus = path.rpartition(".")
        if section in _NAMES:
            counts = [
                [int(side.get(f"{SCORED_ON}.{name}.{corpus}") or 0) for name in _COUNTS]
                for side in (two, one)
            ]
            (clips, events), (old_clips, old_events) = counts
            told = f"{count_of(clips, 'clip')}, {count_of(events, 'event')} against "
            told += f"{count_of(old_clips, 'clip')}, {count_of(old_events, 'event')}"
            yield f"{_NAMES[section]} of {corpus} ({told})"
        elif not section.endswith(_COUNTS):
            yield f"{path}: {two.get(path)!r} against {one.get(path)!r}"
