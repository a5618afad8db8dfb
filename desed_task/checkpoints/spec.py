"""Specification of a trained detector: all that is needed to rebuild it from its tensors.

    detector = load_detector(Path("epoch=259-step=30680.ckpt"))
    features = detector.front_end(waveform)  # (batch, mel, frame)
    found = detector.networks["teacher"](features, embeddings)

Our checkpoints store a `DetectorSpec` under the key "detector"; that of a published one is derived
from its hyper_parameters and tensors (`desed_task.checkpoints.published`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from desed_task.checkpoints.earlier_schemas import updated
from desed_task.checkpoints.encoder_specs import (
    EncoderSpec,
    embedding_problems,
    embedding_section,
    encoders_in,
)
from desed_task.checkpoints.published import PUBLISHED_SPEC, published_values
from desed_task.checkpoints.safe_load import load_safely
from desed_task.checkpoints.schema import as_plain, mismatches
from desed_task.checkpoints.state_names import holds_encoders, is_bare, without_encoders
from desed_task.checkpoints.tensor_shapes import (
    check_agreement,
    check_tensors,
    with_front_end,
)
from desed_task.errors import InputError, count_of
from desed_task.features import LogMel, Scaler
from desed_task.labels import FrameGrid
from desed_task.nnet.CRNN import CRNN
from desed_task.postprocess.decoders import (
    DecoderSettings,
    ScoreDecoder,
    decoder_of,
    decoder_problems,
)

# Increased when the form changes, or constants of the code that no specification contains (floor
# and range of the decibel, eps of the batch norm ...); older versions must stay readable.
SCHEMA_VERSION: Final = 5
SPEC_KEY: Final = "detector"


@dataclass(frozen=True)
class DetectorSpec:
    """A detector's classes, front end, networks and post-processing.

    Attributes:
        classes: labels in the order of the networks' outputs.
        clip_s: length of the clips it was trained on, seconds.
        sample_rate: of its waveforms, Hz.
        net_subsample: mel frames averaged into one frame of scores.
        front_end: all arguments of `LogMel`.
        scaler: all arguments of `Scaler`; dataset statistics are tensors of the file.
        net: all arguments of `CRNN`.
        median_filter: lengths in frames, one per class.
        decoder: settings of `desed_task.postprocess.decoders`; the median filters, by default.
        embedding: `size` of the embeddings it takes, the `encoders` that they come from, and
            whether the checkpoint holds these (`desed_task.checkpoints.encoder_specs`).
        schema_version: version of the stored form.
    """

    classes: tuple[str, ...]
    clip_s: float
    sample_rate: int
    net_subsample: int
    front_end: dict[str, Any]
    scaler: dict[str, Any]
    net: dict[str, Any]
    median_filter: tuple[int, ...]
    embedding: dict[str, Any]
    schema_version: int = SCHEMA_VERSION
    decoder: dict[str, Any] = field(default_factory=DecoderSettings().to_plain)

    @property
    def grid(self) -> FrameGrid:
        """The frames of a clip's scores."""
        hop_samples = self.front_end["hop_samples"]
        return FrameGrid.for_clip(self.clip_s, self.sample_rate, hop_samples, self.net_subsample)

    @property
    def encoders(self) -> tuple[EncoderSpec, ...]:
        """The encoders of its embeddings, in the order of their features; none if it takes none."""
        return encoders_in(self.embedding) if self.net["use_embeddings"] else ()

    @property
    def holds_encoders(self) -> bool:
        """Whether the checkpoint holds its encoders, as after fine-tuning."""
        return bool(self.encoders and self.embedding["in_checkpoint"])

    @property
    def decode(self) -> ScoreDecoder:
        """The decoder of the networks' scores."""
        settings = DecoderSettings.from_plain(self.decoder, self.classes)
        return decoder_of(settings, self.classes, median_filter=self.median_filter)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, as a checkpoint stores them."""
        plain: dict[str, Any] = as_plain(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, stored: object, origin: str) -> DetectorSpec:
        """The inverse of `to_dict`, checked.

        Args:
            stored: value from a file.
            origin: name of the file for messages.

        Raises:
            InputError: for a newer schema, and for values that are missing, of a wrong type or do
                not fit together; all of them in one message.
        """
        version = stored.get("schema_version") if isinstance(stored, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise InputError(
                f"{origin}: written by a newer version of this code (schema {version}; known: up "
                f"to {SCHEMA_VERSION}); update this code to use it"
            )
        stored, decoder = updated(as_plain(stored))
        problems = mismatches(stored, PUBLISHED_SPEC)
        if not problems and isinstance(stored, dict):
            values = {**stored, "classes": tuple(stored["classes"])}
            values |= {"median_filter": tuple(stored["median_filter"]), "decoder": decoder}
            spec = cls(**values)
            problems = spec._contradictions()
            if not problems:
                return spec
        raise InputError.collect(problems, f"{origin}: its specification cannot be used:")

    @classmethod
    def of_checkpoint(cls, checkpoint: Mapping[str, Any], origin: str) -> DetectorSpec:
        """The specification of a checkpoint, ours or a published one.

        Args:
            checkpoint: as `load_safely` gives it.
            origin: name of the file for messages.

        Raises:
            InputError: as `from_dict`; for a file without hyper_parameters, and for a stored
                specification that its tensors contradict.
        """
        state = checkpoint["state_dict"]
        if SPEC_KEY in checkpoint:
            spec = cls.from_dict(checkpoint[SPEC_KEY], origin)
            with _naming(origin):
                held = spec.holds_encoders, holds_encoders(state)
                check_agreement({"net": spec.net, "front_end": spec.front_end}, state, held)
            return spec
        hyper = checkpoint.get("hyper_parameters")
        if is_bare(checkpoint):
            return cls._of_bare_weights(state, origin)
        if not isinstance(hyper, dict) or "net" not in hyper:
            raise InputError(
                f"{origin}: contains no hyper_parameters; it was not written by this recipe"
            )
        with _naming(origin):
            values = published_values(hyper, state, origin)
        return cls.from_dict(values, origin)

    @classmethod
    def _of_bare_weights(cls, state: Mapping[str, Tensor], origin: str) -> DetectorSpec:
        """The specification of weights without hyperparameters: sizes from them, the rest as
        published.
        """
        warnings.warn(
            f"{origin}: contains weights only; front end, pooling, median filters and everything "
            "else that their shapes do not tell are taken as published",
            UserWarning,
            stacklevel=3,
        )
        try:
            with _naming(origin):
                values = published_values({}, state, origin)
            return cls.from_dict(values, origin)
        except InputError as error:
            raise InputError(
                f"{error}\n{origin}: contains weights only, and their network is not the published "
                "one; give a checkpoint of train_pretrained.py, which contains its values"
            ) from None

    def with_embedding(self, *checkpoint_sha256: str) -> DetectorSpec:
        """A copy that names the weights its embeddings come from, those of each encoder."""
        encoders = zip(encoders_in(self.embedding), checkpoint_sha256, strict=True)
        named = [encoder._replace(checkpoint_sha256=sha256) for encoder, sha256 in encoders]
        size, held = self.embedding["size"], self.embedding["in_checkpoint"]
        return replace(self, embedding=embedding_section(size, named, in_checkpoint=held))

    def _contradictions(self) -> list[str]:
        net, problems = self.net, embedding_problems(self.embedding, self.net)
        n_classes = {len(self.classes), net["nclass"], len(self.median_filter)}
        if len(n_classes) > 1:
            problems.append(
                f"{count_of(len(self.classes), 'class', 'classes')}, net.nclass {net['nclass']} "
                f"and {count_of(len(self.median_filter), 'length')} in median_filter; the "
                "numbers must be equal"
            )
        if len(set(self.classes)) < len(self.classes):
            problems.append("classes: a label occurs twice")
        elif not problems:
            problems += decoder_problems(self.decoder, self.classes)
        if self.front_end["sample_rate"] != self.sample_rate:
            problems.append(
                f"sample_rate is {self.sample_rate}, front_end.sample_rate "
                f"{self.front_end['sample_rate']}; they must be the same"
            )
        sides = zip(net["kernel_size"], net["padding"], net["stride"], strict=False)
        if any(stride != 1 or 2 * padding != kernel - 1 for kernel, padding, stride in sides):
            problems.append(
                "net.kernel_size, net.padding and net.stride: a convolution changes the number of "
                "frames; only pooling may"
            )
        wrong = [pair for pair in net["pooling"] if len(pair) != 2]
        if wrong:
            return [*problems, f"net.pooling: {wrong[0]} is not a pair of frames and mel bands"]
        frames, bands = (math.prod(pair[axis] for pair in net["pooling"]) for axis in (0, 1))
        if frames != self.net_subsample or bands != self.front_end["n_mels"]:
            problems.append(
                f"net.pooling reduces {count_of(frames, 'frame')} and {count_of(bands, 'band')} "
                f"to one; net_subsample is {self.net_subsample}, front_end.n_mels "
                f"{self.front_end['n_mels']}"
            )
        return problems


class FrontEnd(nn.Module):
    """Waveforms to the features that a detector's networks take.

    Args:
        mel_spec: computes mel spectrograms.
        scaler: scales them, with its statistics loaded if it has any.
    """

    def __init__(self, mel_spec: LogMel, scaler: Scaler) -> None:
        super().__init__()
        self.mel_spec, self.scaler = mel_spec, scaler

    def forward(self, waveform: Tensor) -> Tensor:
        """(batch, sample), float32 in [-1, 1] -> (batch, mel, frame), scaled log-mel."""
        features: Tensor = self.scaler(self.mel_spec.to_db(self.mel_spec(waveform)))
        return features


class Detector(NamedTuple):
    """A trained detector, ready for inference.

    Attributes:
        spec: its specification.
        front_end: waveforms to features, its statistics loaded.
        networks: "student" and "teacher", in eval mode, without gradients.
    """

    spec: DetectorSpec
    front_end: FrontEnd
    networks: dict[str, CRNN]

    def to(self, device: torch.device | str) -> Detector:
        """The same on `device`."""
        networks = {role: network.to(device) for role, network in self.networks.items()}
        return Detector(self.spec, self.front_end.to(device), networks)


def load_detector(path: Path) -> Detector:
    """The detector of a checkpoint, ours or a published one, on the CPU.

    Raises:
        InputError: for a file that is not a checkpoint, asks for more than tensors and plain
            values, or whose tensors do not fit its specification.
    """
    return detector_of(load_safely(path), str(path))


def detector_of(checkpoint: Mapping[str, Any], origin: str) -> Detector:
    """The detector of a checkpoint that `load_safely` has loaded, on the CPU.

    Args:
        checkpoint: its content.
        origin: name of the file for messages.

    Raises:
        InputError: its tensors do not fit its specification.
    """
    spec = DetectorSpec.of_checkpoint(checkpoint, origin)
    return build_detector(spec, checkpoint["state_dict"], origin)


def build_detector(spec: DetectorSpec, state: Mapping[str, Tensor], origin: str) -> Detector:
    """The detector that `spec` describes with the tensors of `state`.

    Raises:
        InputError: naming each tensor that does not fit, with both shapes and the keys of the
            configuration that shapes follow from; or each that is not finite.
    """
    check_spec(spec, state, origin)
    with torch.random.fork_rng(devices=[]):  # the initial weights are overwritten
        modules = _Modules(spec)
    modules.load_state_dict(with_front_end(modules, without_encoders(state)))
    modules.eval().requires_grad_(False)
    networks = {"student": modules.sed_student, "teacher": modules.sed_teacher}
    return Detector(spec, FrontEnd(modules.mel_spec, modules.scaler).eval(), networks)


def check_spec(spec: DetectorSpec, state: Mapping[str, Tensor], origin: str) -> None:
    """Check that tensors fit `spec`, without allocating its networks.

    Those of encoders are checked when they are loaded (`desed_task.checkpoints.stored_encoders`).

    Raises:
        InputError: as `build_detector`.
    """
    with _naming(origin):
        own = _Modules(spec, "meta").state_dict()
    check_tensors(own, without_encoders(state), origin)


class _Modules(nn.Module):
    """Every module of a detector under its name in a checkpoint, the networks on `device`."""

    def __init__(self, spec: DetectorSpec, device: str = "cpu") -> None:
        super().__init__()
        self.mel_spec = LogMel(**spec.front_end)
        self.scaler = Scaler(**spec.scaler)
        with torch.device(device):
            self.sed_student = CRNN(**spec.net)
            self.sed_teacher = CRNN(**spec.net)


@contextmanager
def _naming(origin: str) -> Iterator[None]:
    """Prefix error messages with the name of the file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{origin}: {error}") from None
