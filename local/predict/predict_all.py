"""Detect events in many recordings, write them and print a summary."""

from __future__ import annotations

import argparse
import errno
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from desed_task.audio.files import estimate_duration_s
from desed_task.audio.streaming import stream_file
from desed_task.errors import InputError, agree, count_of
from desed_task.file_names import escape_name, printable
from desed_task.inference.detector import DetectionResult, SoundEventDetector
from desed_task.parallel import Progress, progress_of
from desed_task.postprocess import Threshold, class_thresholds
from local.cli.devices import Device
from local.cli.exit_status import StoppedError
from local.cli.own_files import own_outputs
from local.config import RecipeConfig
from local.predict.event_table import TABLE_FILE, write_event_table
from local.predict.mel_image import MelImage
from local.predict.outputs import FORMATS, Prediction, paths_of
from local.predict.recordings import (
    NOT_READ,
    FoundRecordings,
    Recording,
)
from local.predict.timeline import duration_text

# The value of --pretrained_model that stands for the configuration's file, and that key.
CONFIGURED, WEIGHTS_KEY = "beats", "pretrained.beats_checkpoint="


def chosen_weights(config: RecipeConfig, args: argparse.Namespace) -> str | None:
    """The file of BEATs weights that a command names; None to find that of the checkpoint.

    Args:
        config: the configuration.
        args: `pretrained_model`, where "beats" stands for the configuration's; and `conf_file` and
            `overrides`, which name them too if they are given.
    """
    if args.pretrained_model not in (None, CONFIGURED):
        return str(args.pretrained_model)
    overridden = any(one.startswith(WEIGHTS_KEY) for one in args.overrides)
    asked = args.pretrained_model is not None or args.conf_file is not None or overridden
    return config.pretrained.beats_checkpoint if asked else None


def open_detector(
    config: RecipeConfig,
    checkpoint: str,
    *,
    beats: str | None,
    role: str,
    device: Device,
    batch_size: int | None,
) -> SoundEventDetector:
    """Load the detector for the command's arguments.

    Args:
        config: gives the hop of windows.
        checkpoint: the checkpoint of the networks.
        beats: file of BEATs weights; None for the one that the checkpoint names.
        role: "student" or "teacher".
        device: of this process.
        batch_size: windows at a time; None for the device's default.

    Raises:
        InputError: for unusable files or a missing GPU.
    """
    if device.notice:
        print(device.notice)
    return SoundEventDetector.from_checkpoint(
        checkpoint,
        beats=beats,
        role=role,
        device=device.torch_device,
        hop_s=config.predict.hop_s,
        batch_size=batch_size,
    )


# The output folder's file system does not take this name; the other recordings are not affected.
_NAME_ERRNOS = frozenset(
    (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)
)
_EXAMPLES = 3
BAR_FORMAT = "{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}]"


class Output(NamedTuple):
    """Formats and folder of the results.

    Attributes:
        folder: folder of the files.
        formats: names from `local.predict.outputs.FORMATS`.
        skip_existing: whether to skip recordings whose files all exist and are not older.
        made_by: settings of the detection, for the JSON.
        overwrite: whether to replace files that this program did not write.
    """

    folder: Path
    formats: Sequence[str]
    skip_existing: bool
    made_by: Mapping[str, Any]
    overwrite: bool = False


@dataclass
class PredictionSummary:
    """Totals over all recordings.

    Attributes:
        n_done: recordings processed.
        skipped: recordings whose results were there.
        audio_s: their length in seconds; `busy_s` is the processing time.
        events: label -> number of events.
        event_s: label -> seconds of events.
        faults: errors of the others.
    """

    n_done: int = 0
    skipped: list[Recording] = field(default_factory=list)
    audio_s: float = 0.0
    busy_s: float = 0.0
    events: Counter[str] = field(default_factory=Counter)
    event_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    faults: list[str] = field(default_factory=list)

    @property
    def n_skipped(self) -> int:
        """Number of recordings whose results were there."""
        return len(self.skipped)

    def add(self, found: DetectionResult, busy_s: float) -> None:
        """Count a recording and its processing time."""
        self.n_done += 1
        self.audio_s += found.duration_s
        self.busy_s += busy_s
        for event in found.events:
            self.events[event.label] += 1
            self.event_s[event.label] += event.offset_s - event.onset_s

    def table(self) -> str:
        """Format events per class and the speed."""
        width = max([len("class"), *map(len, self.events)])
        lines = [f"{'class':{width}}  events  seconds"] if self.events else ["no events"]
        for label, count in self.events.most_common():
            lines.append(f"{label:{width}}  {count:6d}  {self.event_s[label]:7.1f}")
        skipped = f", {self._skipped_text()}" * bool(self.skipped)
        lines.append(
            f"{count_of(self.n_done, 'recording')}{skipped}, {duration_text(self.audio_s)} of audio"
        )
        if self.audio_s:
            factor = self.busy_s / self.audio_s
            lines[-1] += f" in {duration_text(self.busy_s)}: real-time factor {factor:.3f}"
        return "\n".join(lines)

    def _skipped_text(self) -> str:
        whose = agree(self.n_skipped, "its files", "their files")
        names = [escape_name(one.listed or one.path.name) for one in self.skipped[:_EXAMPLES]]
        more = ", ..." if self.n_skipped > len(names) else ""
        return f"{self.n_skipped} skipped because {whose} exist ({', '.join(names)}{more})"


def predict_all(
    detector: SoundEventDetector,
    found: FoundRecordings,
    output: Output,
    *,
    threshold: Threshold,
) -> int:
    """Detect events in recordings, and print a summary and which could not be read.

    Returns:
        The exit status: 1 where a recording could not be read.
    """
    faults = list(found.faults)
    for note in found.notes:
        print(note)
    table = found.several and "tsv" in output.formats
    summary = detect_recordings(
        detector, found.recordings, output, threshold=threshold, table=table
    )
    print(f"{summary.table()}\nresults: {escape_name(output.folder)}")
    if table and summary.n_done + summary.n_skipped:
        print(f"events of all recordings: {escape_name(output.folder / TABLE_FILE)}")
    faults += summary.faults
    if faults:
        # All of them, as nothing else tells which recordings have no results.
        error = InputError.collect(faults, NOT_READ, most_shown=len(faults))
        print(f"error: {error}", file=sys.stderr)
    return 1 if faults else 0


def detect_recordings(
    detector: SoundEventDetector,
    recordings: Sequence[Recording],
    output: Output,
    *,
    threshold: Threshold,
    progress: bool = True,
    table: bool = False,
) -> PredictionSummary:
    """Detect and write the events of recordings, continuing after unreadable ones.

    Args:
        detector: the detector.
        recordings: recordings to process.
        output: formats and folder.
        threshold: see `SoundEventDetector.detect`.
        progress: whether to show a bar, in seconds of audio.
        table: whether to write the table of the events of all recordings, from their TSV files.

    Raises:
        InputError: a file of the user would be replaced, or two recordings have a file in common;
            nothing was written.
        StoppedError: after Ctrl-C; finished results are kept.
    """
    summary = PredictionSummary()
    todo = _pending(recordings, output, summary)
    limits = dict(zip(detector.labels, class_thresholds(threshold, detector.labels), strict=True))
    written = _outputs(recordings, todo, output, table)
    # Before hours of work, not after them.
    with own_outputs(output.folder, written, overwrite=output.overwrite):
        output.folder.mkdir(parents=True, exist_ok=True)
        done = _detect_all(detector, todo, output, limits, summary, progress)
        if table and (there := done.union(summary.skipped)):
            listed = (recording for recording in recordings if recording in there)
            summary.faults += write_event_table(output.folder, listed)
    return summary


def _outputs(
    recordings: Sequence[Recording], todo: Mapping[Recording, float], output: Output, table: bool
) -> list[Path]:
    """Files that will be written; `a.scores.wav` must not write those of `a.wav`."""
    written = [output.folder / TABLE_FILE] if table else []
    of: dict[str, Recording] = {}
    shared = [
        f"{escape_name(one.path)} would be written below {TABLE_FILE}, the table of all recordings"
        for one in recordings
        if table and one.name.casefold().startswith(f"{TABLE_FILE}/")
    ]
    for recording in recordings:
        for path in paths_of(output.folder, recording.name, output.formats).values():
            # Some file systems ignore case.
            other = of.setdefault(path.as_posix().casefold(), recording)
            if other != recording:
                names = f"{escape_name(other.path)} and {escape_name(recording.path)}"
                shared.append(f"{names} would both write {escape_name(path)}")
            if recording in todo:
                written.append(path)
    if shared:
        raise InputError.collect(shared, "Rename recordings, or leave out a format:")
    return written


def _detect_all(
    detector: SoundEventDetector,
    todo: Mapping[Recording, float],
    output: Output,
    limits: Mapping[str, float],
    summary: PredictionSummary,
    progress: bool,
) -> set[Recording]:
    """Detect and write the events of recordings, and count them; return those written."""
    done: set[Recording] = set()
    total_s = sum(todo.values())
    bar = progress_of("detecting", total_s, unit="second", bar_format=BAR_FORMAT, shown=progress)

    def advance(seconds: float) -> None:
        # The last frame may extend beyond the end of the recording.
        bar.update(min(seconds, total_s - bar.n))

    with bar:
        for recording in todo:
            started_s = time.monotonic()
            try:
                with _warnings_above(bar, recording):
                    found = _detect_recording(detector, recording, output, limits, advance)
            except InputError as error:
                summary.faults.append(_with_name(error, recording))
            except KeyboardInterrupt:
                raise StoppedError(
                    f"stopped after {summary.n_done} of {count_of(len(todo), 'recording')}; run "
                    "the same command again with --skip_existing to resume"
                ) from None
            else:
                summary.add(found, time.monotonic() - started_s)
                done.add(recording)
    return done


@contextmanager
def _warnings_above(bar: Progress, recording: Recording) -> Iterator[None]:
    """Print the warnings about a recording above the progress bar, whether or not it was read."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            for warning in told:
                bar.write(f"warning: {_with_name(warning.message, recording)}", file=sys.stderr)


def _pending(
    recordings: Sequence[Recording], output: Output, summary: PredictionSummary
) -> dict[Recording, float]:
    """Select recordings to process, with their seconds; count the others in the summary."""
    lengths_s = {}
    for recording in recordings:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # they come again when it is read
                length_s = estimate_duration_s(recording.path)
        except InputError as error:
            summary.faults.append(_with_name(error, recording))
            continue
        if output.skip_existing and _is_done(recording, output):
            summary.skipped.append(recording)
        else:
            lengths_s[recording] = length_s
    return lengths_s


def _is_done(recording: Recording, output: Output) -> bool:
    written_s = recording.path.stat().st_mtime
    files = paths_of(output.folder, recording.name, output.formats).values()
    return all(file.is_file() and file.stat().st_mtime >= written_s for file in files)


def _detect_recording(
    detector: SoundEventDetector,
    recording: Recording,
    output: Output,
    limits: Mapping[str, float],
    progress: Callable[[float], None],
) -> DetectionResult:
    """Detect the events of one recording and write its files."""
    blocks = stream_file(recording.path, detector.spec.sample_rate)
    mel = MelImage(detector.spec.front_end) if "png" in output.formats else None
    found = detector.detect_blocks(
        blocks if mel is None else mel.watch(blocks), threshold=limits, progress=progress
    )
    prediction = Prediction(recording.path, found, limits, mel, output.made_by)
    for format_, path in paths_of(output.folder, recording.name, output.formats).items():
        try:
            FORMATS[format_].write(path, prediction)
        except OSError as error:
            if error.errno not in _NAME_ERRNOS:
                raise
            raise InputError(
                f"its results cannot be called {escape_name(path)} ({error.strerror}); rename the "
                "recording or give another --output_dir"
            ) from None
    return found


def _with_name(error: Warning | Exception | str, recording: Recording) -> str:
    """The message in one line, beginning with the recording."""
    shown = escape_name(recording.path)
    text = printable(str(error)).replace(printable(str(recording.path)), shown)
    return text if shown in text else f"{shown}: {text}"
