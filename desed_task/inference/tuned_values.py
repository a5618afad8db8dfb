"""What was tuned for a checkpoint: decoder, median filters, thresholds and calibration.

content = yaml.safe_load(Path("best.yaml").read_text())  # of optuna_pretrained.py
tuned = TunedValues.from_config(content, "best.yaml")
detector = SoundEventDetector.from_checkpoint("best.ckpt", tuned=tuned)
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from desed_task.errors import InputError, command_line, count_of
from desed_task.postprocess.calibration import Calibration
from desed_task.postprocess.decoders import (
    READ_KEYS,
    DecoderSettings,
    ScoreDecoder,
    decoder_of,
)
from desed_task.postprocess.thresholds import DEFAULT_THRESHOLD, Threshold

_TUNER: Final = "optuna_pretrained.py"


@dataclass(frozen=True)
class TunedValues:
    """Values that were tuned for one checkpoint.

    Attributes:
        origin: name of their file, for messages.
        checkpoint_sha256: SHA-256 of the checkpoint.
        median_filter: lengths in frames, one per class.
        decoder: plain settings (`DecoderSettings.to_plain`).
        threshold: one for all classes, or label -> threshold.
        network: whose scores they were tuned on; "" if unknown.
        calibration: of the confidence of events; None without one.
    """

    origin: str
    checkpoint_sha256: str
    median_filter: tuple[int, ...]
    decoder: Mapping[str, Any] = field(default_factory=dict)
    threshold: Threshold = DEFAULT_THRESHOLD
    network: str = ""
    calibration: Calibration | None = None

    @classmethod
    def from_config(cls, content: Any, origin: str) -> TunedValues:
        """The tuned values of a configuration, `best.yaml` of optuna_pretrained.py.

        Args:
            content: its sections, as a YAML reader gives them.
            origin: name of the file, for messages.

        Raises:
            InputError: it contains no values that were tuned for a checkpoint, or some that cannot
                be used.
        """
        sections = content if isinstance(content, Mapping) else {}
        net, predict, tuned = (_section(sections, name) for name in ("net", "predict", "tuned"))
        sha256, lengths = tuned.get("checkpoint_sha256"), net.get("median_filter")
        if not isinstance(sha256, str) or not sha256:
            raise InputError(
                f"{origin}: contains nothing that was tuned for a checkpoint; give the best.yaml "
                f"of {command_line(_TUNER, '--test_from_checkpoint CKPT')}"
            )
        whole = isinstance(lengths, list | tuple) and all(type(n) is int for n in lengths)
        if not whole or not lengths:
            raise InputError(
                f"{origin}: net.median_filter: {lengths!r} is not a list of lengths in frames"
            )
        given = sections.get("decoder")
        if not isinstance(given, Mapping | None):
            raise InputError(f"{origin}: decoder: {given!r} is not a section of keys")
        stored = tuned.get("calibration")
        return cls(
            origin=origin,
            checkpoint_sha256=sha256,
            median_filter=tuple(lengths),
            decoder=_section(sections, "decoder"),
            threshold=predict.get("threshold", DEFAULT_THRESHOLD),
            network=tuned.get("network") or "",
            calibration=None
            if stored is None
            else Calibration.from_plain(stored, f"{origin}: tuned.calibration"),
        )

    def check_checkpoint(self, sha256: str, name: str) -> None:
        """Refuse to use the values with another checkpoint than theirs.

        Args:
            sha256: of the checkpoint.
            name: of the checkpoint, for messages.

        Raises:
            InputError: it is another one.
        """
        if sha256 != self.checkpoint_sha256:
            raise InputError(
                f"{self.origin}: tuned for another checkpoint (SHA-256 "
                f"{self.checkpoint_sha256[:12]}...) than {name} ({sha256[:12]}...); give that one, "
                f"or tune this one: {command_line(_TUNER, f'--test_from_checkpoint {name}')}"
            )


class DecodedClasses(Protocol):
    """Classes, and how their scores are decoded if nothing else is given."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels in the order of the scores."""

    @property
    def median_filter(self) -> tuple[int, ...]:
        """(class,) lengths in frames."""

    @property
    def decoder(self) -> Mapping[str, Any]:
        """Plain settings of the decoder."""


def _section(sections: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = sections.get(name)
    return found if isinstance(found, Mapping) else {}


@dataclass(frozen=True)
class PostProcessing:
    """How a detector makes events of scores.

    Attributes:
        settings: of the decoder.
        median_filter: lengths in frames, one per class.
        threshold: the default, one for all classes, or label -> threshold.
        calibration: of the confidence; None for mean scores.
    """

    settings: DecoderSettings
    median_filter: tuple[int, ...]
    threshold: Threshold = DEFAULT_THRESHOLD
    calibration: Calibration | None = None

    def decoder(self, labels: tuple[str, ...]) -> ScoreDecoder:
        """The decoder for these classes."""
        return decoder_of(self.settings, labels, median_filter=self.median_filter)

    def among(self, classes: Sequence[str], labels: Sequence[str]) -> PostProcessing:
        """That of some of the classes.

        Args:
            classes: all that it is for.
            labels: those that are kept.
        """
        if tuple(labels) == tuple(classes):
            return self
        lengths = dict(zip(classes, self.median_filter, strict=True))
        threshold = self.threshold
        if isinstance(threshold, Mapping):
            threshold = {label: value for label, value in threshold.items() if label in labels}
        return replace(
            self,
            settings=DecoderSettings(**for_labels(self.settings.to_plain(), labels)),
            median_filter=tuple(lengths[label] for label in labels),
            threshold=threshold,
        )


def for_labels(decoder: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """Plain settings of a decoder without values of other classes."""
    return {
        key: {k: v for k, v in value.items() if k in labels}
        if isinstance(value, Mapping)
        else value
        for key, value in decoder.items()
    }


def post_processing(
    spec: DecodedClasses,
    role: str,
    *,
    tuned: TunedValues | None = None,
    decoder: str | Mapping[str, Any] | None = None,
    calibrated: bool | None = None,
) -> PostProcessing:
    """The post-processing of a checkpoint, or what was tuned for it.

    Args:
        spec: classes and their decoding, as the checkpoint has them.
        role: "student" or "teacher".
        tuned: values that were tuned for the checkpoint.
        decoder: another kind of decoder, or other settings of it.
        calibrated: whether confidences are calibrated; None for whether `tuned` has a calibration
            for this network and decoder. If it has one for another, a warning says so.

    Raises:
        InputError: for settings that do not fit the classes, and a calibration that is asked for
            and not there.
    """
    base = dict(spec.decoder if tuned is None else tuned.decoder)
    if not isinstance(decoder, str | Mapping | None):
        raise InputError(f"decoder: {decoder!r} is neither a kind nor a section of keys")
    changes = {"kind": decoder} if isinstance(decoder, str) else dict(decoder or {})
    settings = DecoderSettings.from_plain({**base, **changes}, spec.classes)
    if tuned is None:
        if calibrated:
            raise InputError(
                "calibrated confidence needs values that were tuned for the checkpoint (--tuned "
                "best.yaml); leave it out for mean scores"
            )
        return PostProcessing(settings, spec.median_filter)
    if len(tuned.median_filter) != len(spec.classes):
        raise InputError(
            f"{tuned.origin}: net.median_filter has {count_of(len(tuned.median_filter), 'length')} "
            f"for the {count_of(len(spec.classes), 'class', 'classes')} of the checkpoint"
        )
    calibration = tuned.calibration
    if tuned.network and tuned.network != role:
        warnings.warn(
            f"{tuned.origin}: tuned on scores of the {tuned.network}, used with the {role}",
            UserWarning,
            stacklevel=3,
        )
    why = _unusable(tuned, role, settings, DecoderSettings.from_plain(base, spec.classes))
    if calibrated and why:
        raise InputError(
            f"{tuned.origin}: {why}; leave out calibrated confidence, for mean scores, or tune "
            "again"
        )
    if why or calibrated is False:
        if calibration is not None and calibrated is None:
            text = f"{tuned.origin}: {why}, so confidence is the mean score"
            warnings.warn(text, UserWarning, stacklevel=3)
        calibration = None
    return PostProcessing(settings, tuned.median_filter, tuned.threshold, calibration)


def _read(settings: DecoderSettings) -> tuple[str, ...]:
    return ("kind", *READ_KEYS[settings.kind])


def _unusable(
    tuned: TunedValues, role: str, settings: DecoderSettings, tuned_settings: DecoderSettings
) -> str:
    """Why the calibration cannot be used; "" if it can."""
    if tuned.calibration is None:
        return "contains no calibration"
    if tuned.network and tuned.network != role:
        return f"its calibration is that of the {tuned.network}, not of the {role}"
    kind = tuned.calibration.decoder
    if kind and kind != settings.kind:
        return f"its calibration is for events of the decoder {kind}, not of {settings.kind}"
    if any(getattr(settings, key) != getattr(tuned_settings, key) for key in _read(settings)):
        return "its calibration is for events of the decoder with the settings that are there"
    return ""
