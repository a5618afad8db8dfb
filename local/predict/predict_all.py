"""Detect events in many recordings, write them and print a summary."""

from __future__ import annotations

import errno
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from desed_task.audio.files import estimate_duration_s
from desed_task.audio.streaming import stream_file
from desed_task.distributed.collectives import gathered, gathered_by_first, wait_for_all
from desed_task.errors import InputError, count_of
from desed_task.file_names import escape_name, printable
from desed_task.inference.detector import DetectionResult, SoundEventDetector
from desed_task.inference.encoder_files import GivenEncoder
from desed_task.parallel import Progress, progress_of
from desed_task.postprocess import Threshold
from desed_task.postprocess.event_rules import NO_RULES, EventRules
from local.cli.devices import Device
from local.cli.exit_status import StoppedError
from local.cli.own_files import own_outputs
from local.config import RecipeConfig
from local.predict.decoding.settings import settings_in_words
from local.predict.event_table import write_event_table
from local.predict.mel_image import MelImage
from local.predict.outputs import FORMATS, Prediction
from local.predict.pages import EMBEDDED_MB
from local.predict.pages.index import write_index
from local.predict.pages.recording_page import RecordingPage
from local.predict.prediction_summary import PredictionSummary
from local.predict.recordings import NOT_READ, FoundRecordings, Recording
from local.predict.result_names import TABLE_FILE, files_of_all, paths_of, refuse_shared_files
from local.predict.sharing import Share
from local.processes.group import group_here
from local.processes.shared_progress import shared_progress


def open_detector(
    config: RecipeConfig,
    checkpoint: str,
    *,
    encoder: GivenEncoder,
    device: Device,
    batch_size: int | None,
    **decoding: Any,
) -> SoundEventDetector:
    """Load the detector for the command's arguments.

    Args:
        config: gives the hop of windows.
        checkpoint: the checkpoint of the networks.
        encoder: files of the encoder's weights; None for those that the checkpoint names.
        device: of this process.
        batch_size: windows at a time; None for the device's default.
        decoding: other arguments of `SoundEventDetector.from_checkpoint`: network, decoder ...

    Raises:
        InputError: for unusable files or a missing GPU.
    """
    if device.notice:
        print(device.notice)
    return SoundEventDetector.from_checkpoint(
        checkpoint,
        encoder=encoder,
        device=device.torch_device,
        hop_s=config.predict.hop_s,
        batch_size=batch_size,
        **decoding,
    )


# The output folder's file system does not take this name; the other recordings are not affected.
_NAME_ERRNOS = frozenset(
    (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)
)
BAR_FORMAT = "{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}]"


class Output(NamedTuple):
    """Formats and folder of the results.

    Attributes:
        folder: folder of the files.
        formats: names from `local.predict.outputs.FORMATS`.
        skip_existing: whether to skip recordings whose files all exist and are not older.
        made_by: settings of the detection, for the JSON.
        overwrite: whether to replace files that this program did not write.
        embedded_mb: size up to which the sound of a recording is a part of its page.
    """

    folder: Path
    formats: Sequence[str]
    skip_existing: bool
    made_by: Mapping[str, Any]
    overwrite: bool = False
    embedded_mb: float = EMBEDDED_MB


def predict_all(
    detector: SoundEventDetector,
    found: FoundRecordings,
    output: Output,
    *,
    threshold: Threshold,
    rules: EventRules = NO_RULES,
    share: Share | None = None,
) -> int:
    """Detect events in recordings, and print a summary and which could not be read.

    Args:
        detector: the detector.
        found: recordings to process.
        output: formats and folder.
        threshold: see `SoundEventDetector.detect`.
        rules: see `SoundEventDetector.detect`.
        share: what else is known of them if other processes or shards have a part of the work;
            then the first process prints the sum over all processes.

    Returns:
        The exit status: 1 where a recording could not be read.
    """
    share = share or Share(found, whole=found.recordings)
    for note in found.notes:
        print(note)
    if share.state is not None:
        settings = settings_in_words(detector, output.made_by, threshold, rules)
        share.state.begin(settings)
        if mixed := share.state.mixed(resumes=output.skip_existing):
            warnings.warn(mixed, UserWarning, stacklevel=2)
    of_all = files_of_all(output.formats) if found.several and share.whole else []
    chosen = {"threshold": threshold, "rules": rules}
    summary = detect_recordings(
        detector, found.recordings, output, **chosen, of_all=of_all, share=share
    )
    if share.state is not None:
        share.state.finish(summary.failed)
    print(f"{summary.table()}\nresults: {escape_name(output.folder)}")
    for name in of_all if summary.n_done + summary.n_skipped else ():
        what = "events of all recordings" if name == TABLE_FILE else "pages of all recordings"
        print(f"{what}: {escape_name(output.folder / name)}")
    faults = [*found.faults, *summary.faults]
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
    rules: EventRules = NO_RULES,
    progress: bool = True,
    of_all: Sequence[str] = (),
    share: Share | None = None,
) -> PredictionSummary:
    """Detect and write the events of recordings, continuing after unreadable ones.

    Several processes do so together, and the first one gets the sum of their summaries.

    Args:
        detector: the detector.
        recordings: recordings to process.
        output: formats and folder.
        threshold: see `SoundEventDetector.detect`.
        rules: see `SoundEventDetector.detect`.
        progress: whether to show a bar, in seconds of audio.
        of_all: files to write of all recordings, from those of single ones: `files_of_all`.
        share: see `predict_all`.

    Raises:
        InputError: a file of the user would be replaced, or two recordings have a file in common;
            nothing was written.
        StoppedError: after Ctrl-C; finished results are kept.
    """
    summary = PredictionSummary()
    share = share or Share(FoundRecordings([], [], []), whole=recordings)
    lengths_s = dict(zip(recordings, share.lengths_s, strict=True)) if share.lengths_s else None
    todo = _pending(recordings, output, summary, lengths_s)
    # Rules that cannot be meant are refused before anything is written.
    ruled = detector.class_rules(threshold, rules)
    limits = dict(zip(ruled.labels, ruled.thresholds, strict=True))
    refuse_shared_files(lambda: recordings, output.folder, output.formats, of_all=of_all)
    written = [output.folder / name for name in of_all]
    for recording in todo:
        written += paths_of(output.folder, recording, output.formats).values()
    # Before hours of work, not after them.
    with own_outputs(output.folder, written, overwrite=output.overwrite, writer=share.writer):
        wait_for_all()  # No process writes before all have looked.
        output.folder.mkdir(parents=True, exist_ok=True)
        summary = _detect_all(detector, todo, output, (limits, rules), summary, progress)
        for name in of_all if summary.n_done + summary.n_skipped else ():
            listed = (one for one in share.whole if one.name not in summary.failed)
            write = write_event_table if name == TABLE_FILE else write_index
            summary.faults += write(output.folder, listed)
    return summary


def _detect_all(
    detector: SoundEventDetector,
    todo: Mapping[Recording, float],
    output: Output,
    chosen: tuple[Mapping[str, float], EventRules],
    summary: PredictionSummary,
    progress: bool,
) -> PredictionSummary:
    """Detect and write the events of recordings, and count them.

    Returns:
        The summary; in the first of several processes the sum over all.
    """
    group = group_here()
    shown = progress and (group is None or group.world.is_first)
    total_s = sum(gathered(sum(todo.values())))
    bar = progress_of("detecting", total_s, unit="second", bar_format=BAR_FORMAT, shown=shown)

    def advance(seconds: float) -> None:
        # The last frame may extend beyond the end of the recording.
        bar.update(min(seconds, total_s - bar.n))

    with (
        bar,
        shared_progress(bar, group, "seconds", parts=10)
        if group
        else nullcontext(advance) as count,
    ):
        for recording in todo:
            started_s = time.monotonic()
            try:
                with _warnings_above(bar, recording):
                    found = _detect_recording(detector, recording, output, chosen, count)
            except InputError as error:
                summary.fail(recording, _with_name(error, recording))
            except KeyboardInterrupt:
                stopped = f"stopped after {summary.n_done} of {count_of(len(todo), 'recording')}"
                if group is not None:  # It knows of its own part only.
                    stopped = "stopped"
                raise StoppedError(
                    f"{stopped}; run the same command again with --skip_existing to resume"
                ) from None
            else:
                summary.add(found, time.monotonic() - started_s)
        if group is None:
            return summary
        summaries = gathered_by_first(summary)
    return PredictionSummary.of_all(summaries) if summaries else summary


@contextmanager
def _warnings_above(bar: Progress, recording: Recording) -> Iterator[None]:
    """Print the warnings about a recording above the progress bar, whether or not it was read.

    Those of another process than the first one are given again: that one prints them at the end.
    """
    group = group_here()
    texts: list[str] = []
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", UserWarning)
            try:
                yield
            finally:
                texts += [_with_name(warning.message, recording) for warning in told]
    finally:
        for text in texts:
            if group is None or group.world.is_first:
                bar.write(f"warning: {text}", file=sys.stderr)
            else:
                warnings.warn(text, UserWarning, stacklevel=2)


def _pending(
    recordings: Sequence[Recording],
    output: Output,
    summary: PredictionSummary,
    known_s: Mapping[Recording, float] | None,
) -> dict[Recording, float]:
    """Select recordings to process, with their seconds; count the others in the summary."""
    lengths_s = {}
    for recording in recordings:
        try:
            length_s = _length_s(recording) if known_s is None else known_s[recording]
        except InputError as error:
            summary.fail(recording, _with_name(error, recording))
            continue
        if output.skip_existing and _is_done(recording, output):
            summary.skip(recording)
        else:
            lengths_s[recording] = length_s
    return lengths_s


def _length_s(recording: Recording) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # they come again when it is read
        return estimate_duration_s(recording.path)


def _is_done(recording: Recording, output: Output) -> bool:
    try:
        written_s = recording.path.stat().st_mtime
    except OSError:
        return False  # It was listed, and is gone: whoever reads it says so.
    files = paths_of(output.folder, recording, output.formats).values()
    return all(file.is_file() and file.stat().st_mtime >= written_s for file in files)


def _detect_recording(
    detector: SoundEventDetector,
    recording: Recording,
    output: Output,
    chosen: tuple[Mapping[str, float], EventRules],
    progress: Callable[[float], None],
) -> DetectionResult:
    """Detect the events of one recording by thresholds and rules, and write its files."""
    blocks = stream_file(recording.path, detector.spec.sample_rate)
    mel = MelImage(detector.spec.front_end) if "png" in output.formats else None
    limits, rules = chosen
    page = None
    if "html" in output.formats:
        page = RecordingPage(recording.path, detector, rules, embedded_mb=output.embedded_mb)
        blocks = page.watch(blocks)
    found = detector.detect_blocks(
        blocks if mel is None else mel.watch(blocks),
        threshold=limits,
        rules=rules,
        progress=progress,
    )
    prediction = Prediction(recording.path, found, limits, mel, output.made_by, rules, page)
    for format_, path in paths_of(output.folder, recording, output.formats).items():
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
