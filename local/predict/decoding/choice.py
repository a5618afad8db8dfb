"""Decoder, thresholds and event rules of a command.

A flag comes before `--set`, that before what `--tuned` gives, and that before the configuration. A
decoder is that of the checkpoint if none of them gives another one.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from desed_task.atomic_files import sha256_of
from desed_task.errors import InputError
from desed_task.file_names import escape_name, looked_up_from
from desed_task.inference.detector import SoundEventDetector
from desed_task.inference.tuned_values import TunedValues
from desed_task.mean_teacher import ROLES
from desed_task.postprocess.event_rules import EventRules
from desed_task.postprocess.thresholds import Threshold
from local.cli.arguments import parse_merged_classes, parse_threshold
from local.config import RecipeConfig, apply_override, load_config
from local.schema.decoding import DecoderConfig

_THRESHOLD_KEY, _DECODER = "predict.threshold", "decoder"
# Flag of a rule -> name of the rule, and of its key in `predict`.
_RULES = {
    "low_threshold": "low_threshold",
    "min_duration": "min_duration_s",
    "merge_gap": "merge_gap_s",
}


@dataclass(frozen=True)
class ChosenDecoding:
    """What a command says about its events.

    Attributes:
        role: the network, "student" or "teacher".
        threshold: one for all classes, or label -> threshold.
        rules: rules of events.
        tuned: values of `--tuned`.
        decoder: settings of the decoder that differ from the tuned ones or the checkpoint's.
        calibrated: see `SoundEventDetector`.
        classes: see `SoundEventDetector`.
        named: labels that flags name, which must be among the classes.
    """

    role: str
    threshold: Threshold
    rules: EventRules
    tuned: TunedValues | None = None
    decoder: Mapping[str, Any] = field(default_factory=dict)
    calibrated: bool | None = None
    classes: str | None = None
    named: frozenset[str] = frozenset()

    @property
    def of_detector(self) -> dict[str, Any]:
        """Arguments of `SoundEventDetector`, but for the network."""
        return {
            "tuned": self.tuned,
            "decoder": self.decoder,
            "calibrated": self.calibrated,
            "classes": self.classes,
        }

    def among(self, detector: SoundEventDetector) -> ChosenDecoding:
        """The same without values that the configuration has for classes that are not chosen."""
        dropped = {*detector.all_classes} - {*detector.labels} - self.named
        if not dropped:
            return self
        merged = {
            name: [one for one in members if one not in dropped]
            for name, members in self.rules.merged_classes.items()
        }
        rules = replace(
            self.rules,
            **{key: _without(getattr(self.rules, key), dropped) for key in _RULES.values()},
            merged_classes={name: members for name, members in merged.items() if members},
        )
        return replace(self, threshold=_without(self.threshold, dropped), rules=rules)


def chosen_decoding(args: argparse.Namespace, config: RecipeConfig) -> ChosenDecoding:
    """Decoder, thresholds and rules of a command.

    Args:
        args: arguments of `predict.py`, with the path of its checkpoint.
        config: the configuration.

    Raises:
        InputError: for a flag that cannot be read, and a `--tuned` of another checkpoint.
    """
    tuned = None if args.tuned is None else read_tuned(args)
    return ChosenDecoding(
        role=args.model or (tuned.network if tuned else "") or ROLES[0],
        threshold=_threshold(args, config, tuned),
        rules=_rules(args, config),
        tuned=tuned,
        decoder={**_configured(args, config, tuned), **_decoder(args)},
        calibrated=None if args.confidence is None else args.confidence == "calibrated",
        classes=args.classes,
        named=_named(args),
    )


def _named(args: argparse.Namespace) -> frozenset[str]:
    """The labels that flags name."""
    found: set[str] = set()
    for flag in ("threshold", *_RULES):
        text = getattr(args, flag)
        value = {} if text is None else parse_threshold(text, f"--{flag}")
        found |= set(value) if isinstance(value, Mapping) else set()
    for members in parse_merged_classes(args.merge_classes or ()).values():
        found |= set(members)
    return frozenset(found)


def _without(value: Any, dropped: Collection[str]) -> Any:
    """A value of all classes, or those of each class without some."""
    if not isinstance(value, Mapping):
        return value
    return {label: one for label, one in value.items() if label not in dropped}


def read_tuned(args: argparse.Namespace) -> TunedValues:
    """The values of `--tuned`.

    Args:
        args: `tuned` and `checkpoint`.

    Raises:
        InputError: it is not a file of tuned values, or those of another checkpoint.
    """
    shown = escape_name(args.tuned)
    if not args.tuned.is_file():
        raise InputError(f"--tuned {shown}: no such file{looked_up_from(args.tuned)}")
    tuned = TunedValues.from_config(load_config(args.tuned).dump(), shown)
    tuned.check_checkpoint(sha256_of(args.checkpoint), escape_name(args.checkpoint))
    return tuned


def _threshold(
    args: argparse.Namespace, config: RecipeConfig, tuned: TunedValues | None
) -> Threshold:
    overridden = any(one.partition("=")[0].strip() == _THRESHOLD_KEY for one in args.overrides)
    below = config.predict.threshold if tuned is None or overridden else tuned.threshold
    if args.threshold is None:
        return below
    given = parse_threshold(args.threshold)
    if not isinstance(given, dict) or tuned is None:
        return given
    # Classes that are not named keep their tuned thresholds.
    classes = load_config(args.tuned).detection_task.classes
    others = below if isinstance(below, Mapping) else dict.fromkeys(classes, below)
    return {**others, **given}


def _rules(args: argparse.Namespace, config: RecipeConfig) -> EventRules:
    values: dict[str, Any] = {}
    for flag, key in _RULES.items():
        text = getattr(args, flag)
        below = getattr(config.predict, key)
        values[key] = below if text is None else parse_threshold(text, f"--{flag}")
    if args.merge_classes is None:
        values["merged_classes"] = config.predict.merged_classes
    else:
        values["merged_classes"] = parse_merged_classes(args.merge_classes)
    return EventRules(**values)


def _configured(
    args: argparse.Namespace, config: RecipeConfig, tuned: TunedValues | None
) -> dict[str, Any]:
    """The decoder of `--conf_file`, if it is not the default one; as in a test, a line tells it."""
    if tuned is not None or args.conf_file is None:
        return {}
    shown = escape_name(args.conf_file)
    if config.tuned.checkpoint_sha256:
        print(
            f"{shown}: its decoder, median filters and calibration are not used; --tuned {shown} "
            "uses what was tuned for a checkpoint"
        )
        return {}
    if config.decoder == DecoderConfig():
        return {}
    if args.decoder is None:  # else it names the kind
        print(f"{shown}: events are decoded by {config.decoder.kind}, as this configuration says")
    return config.decoder.model_dump()


def _decoder(args: argparse.Namespace) -> dict[str, Any]:
    """Settings of the decoder that `--set` and `--decoder` give."""
    tree: dict[str, Any] = {}
    for override in args.overrides:
        if override.partition("=")[0].strip().startswith(f"{_DECODER}."):
            apply_override(tree, override)
    given = {} if args.decoder is None else {"kind": args.decoder}
    return {**tree.get(_DECODER, {}), **given}
