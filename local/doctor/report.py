"""Findings of the data check, as JSON (data_report.json) and as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from desed_task.atomic_files import write_json_atomic
from desed_task.encoders.registry import kind_of
from desed_task.errors import InputError, count_of
from local.cli.redaction import redact_values

REPORT_FILE = "data_report.json"
Level = Literal["error", "warning", "note"]
_MOST_SHOWN = 30


class Finding(NamedTuple):
    """One finding.

    Attributes:
        level: error: training would reject the data or fail; warning: it would start with fewer or
            doubtful clips; note: for information.
        part: the corpus; "" for several.
        message: value, place and remedy.
    """

    level: Level
    part: str
    message: str


@dataclass(frozen=True)
class EmbeddingsReport:
    """Embeddings of a corpus.

    Attributes:
        path: path of the file.
        state: one or two words for the table.
        clips: number of clips with embeddings.
        lacking: clips on disk without embeddings.
        outdated: clips whose audio is newer than the file.
        identity: encoder, weights, clip length and precision; empty in published files.
        damaged: clip -> what is wrong with its embeddings, which training refuses.
    """

    path: str
    state: str
    clips: int = 0
    lacking: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()
    identity: Mapping[str, str | float] = field(default_factory=dict)
    damaged: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckpointReport:
    """The file of an encoder's weights.

    Attributes:
        path: actual or expected path.
        state: sound, absent, broken or unused.
        sha256: hash of the file.
        size_bytes: size of the file.
        n_features, n_layers: size of the network, without blocks that are left out.
        reason: why the file cannot be used.
        encoder: name of the encoder that it should hold.
        n_parameters: number of weights, without those of blocks that are left out.
    """

    path: str
    state: Literal["sound", "absent", "broken", "unused"]
    sha256: str = ""
    size_bytes: int = 0
    n_features: int = 0
    n_layers: int = 0
    reason: str = ""
    encoder: str = "beats"
    n_parameters: int = 0


@dataclass(frozen=True)
class CorpusReport:
    """State of one corpus.

    Attributes:
        name: name of the corpus.
        title: title of the corpus.
        folder: folder of its 16 kHz audio.
        table: table that lists its clips, or None.
        listed: number of clips in the table, or None.
        present: number of clips that training uses: on disk, listed if there is a table, and not
            left out.
        hours: their total duration.
        left_out: listed clips without events that are not used, on disk or not.
        missing: listed clips, not left out, that are not on disk.
        missing_recordings: expected recordings without any clip.
        unprepared: clips without a 16 kHz file whose original exists.
        unlisted: clips on disk that are not listed.
        unreadable: clip -> fault of its file.
        not_finite: clips with samples that are not finite.
        wrong_rate: clip -> its rate in Hz.
        formats: sample format, e.g. "32-bit float" -> number of files in the folder.
        wrong_length: clip -> its length and the reason.
        silent: clips that are digitally silent.
        cancelling: clips whose channels cancel each other in their mean, which is what is read.
        embeddings: state of the embeddings, of the first encoder if there are several.
        further_embeddings: the same of the other encoders, in their order.
    """

    name: str
    title: str
    folder: str
    table: str | None
    listed: int | None
    present: int
    hours: float
    left_out: tuple[str, ...]
    missing: tuple[str, ...]
    missing_recordings: tuple[str, ...]
    unprepared: tuple[str, ...]
    unlisted: tuple[str, ...]
    unreadable: Mapping[str, str]
    not_finite: tuple[str, ...]
    wrong_rate: Mapping[str, int]
    formats: Mapping[str, int]
    wrong_length: Mapping[str, str]
    silent: tuple[str, ...]
    cancelling: tuple[str, ...]
    embeddings: EmbeddingsReport
    further_embeddings: tuple[EmbeddingsReport, ...] = ()

    @property
    def all_embeddings(self) -> tuple[EmbeddingsReport, ...]:
        """State of the embeddings of each encoder."""
        return (self.embeddings, *self.further_embeddings)


@dataclass(frozen=True)
class DataReport:
    """State of the data of a configuration.

    Attributes:
        conf_file: path of the configuration.
        parts: one report per corpus.
        checkpoints: one report per encoder on its weights.
        findings: all findings, errors first.
    """

    conf_file: str
    parts: tuple[CorpusReport, ...]
    checkpoints: tuple[CheckpointReport, ...]
    findings: tuple[Finding, ...]

    @property
    def training_would_fail(self) -> bool:
        """Whether there is an error."""
        return any(finding.level == "error" for finding in self.findings)

    def write(self, path: Path) -> None:
        """Write the report as JSON.

        Raises:
            InputError: the file cannot be written.
        """
        checkpoints = [asdict(checkpoint) for checkpoint in self.checkpoints]
        content = {
            "conf_file": self.conf_file,
            "training_would_fail": self.training_would_fail,
            "findings": [finding._asdict() for finding in self.findings],
            "parts": {part.name: asdict(part) for part in self.parts},
            # The first is what earlier reports had.
            "checkpoint": checkpoints[0] if checkpoints else None,
            "checkpoints": checkpoints,
        }
        try:
            write_json_atomic(path, redact_values(content))
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({error}); give another --out_dir"
            ) from None

    def text(self, *, whole: bool = False) -> str:
        """The table, the findings and the verdict.

        Args:
            whole: list every finding, for a report that could not be written.
        """
        lines = [_COLUMNS.format(*_HEADS).rstrip()]
        lines += [_COLUMNS.format(*_cells(part)).rstrip() for part in self.parts]
        encoders = [f"{kind_of(c.encoder).title}: {_of_checkpoint(c)}" for c in self.checkpoints]
        lines += ["", *encoders, ""]
        shown = [f"{level}: {message}" for level, _, message in self.findings]
        lines += shown if whole else shown[:_MOST_SHOWN]
        if len(shown) > _MOST_SHOWN and not whole:
            lines.append(f"... and {len(shown) - _MOST_SHOWN} more, see {REPORT_FILE}")
        return "\n".join([*lines, self.verdict()])

    def verdict(self) -> str:
        """One line: whether training can start, and the number of findings."""
        errors, warnings, notes = (
            _count(sum(f.level == level for f in self.findings), level)
            for level in ("error", "warning", "note")
        )
        what = "would fail" if self.training_would_fail else "can start"
        return f"training {what}: {errors}, {warnings}, {notes}"


def is_report(path: Path) -> bool:
    """Whether a file is a report of this command."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"training_would_fail", "findings"} <= content.keys()


_HEADS = (
    "part", "listed", "present", "hours", "missing", "damaged", "rate", "bits", "length", "silent",
    "embeddings",
)  # fmt: skip
_COLUMNS = "{:<25}" + "{:>8}" * 9 + "  {}"


def _cells(part: CorpusReport) -> Sequence[Any]:
    return (
        part.title,
        "-" if part.listed is None else part.listed,
        part.present,
        f"{part.hours:.2f}",
        "-" if part.listed is None else len(part.missing),
        len(part.unreadable) + len(part.not_finite),
        len(part.wrong_rate),
        _bits(part.formats),
        len(part.wrong_length),
        len(part.silent),
        " + ".join(report.state for report in part.all_embeddings),
    )


def _bits(formats: Mapping[str, int]) -> str:
    """Bits per sample of a folder's files."""
    if len(formats) > 1:
        return "mixed"
    return next((name.split("-")[0] for name in formats), "-")


def _of_checkpoint(checkpoint: CheckpointReport) -> str:
    if checkpoint.state == "unused":
        return "not used (net.use_embeddings: false)"
    if checkpoint.state != "sound":
        return f"{checkpoint.path}, {checkpoint.state}"
    return (
        f"{checkpoint.path}, {count_of(checkpoint.n_layers, 'layer')}, {checkpoint.n_features} "
        f"features, {checkpoint.n_parameters / 1e6:.2f} M parameters, "
        f"{checkpoint.size_bytes / 1e6:.1f} MB, SHA-256 {checkpoint.sha256}"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
