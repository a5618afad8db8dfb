"""Create the mini corpus, a small synthetic copy of all data, from a seed.

    python generate_dcase_task4_2024.py --mini

The tree, the tables and the file names are those of the real data (`data:` of the configuration,
below any folder). Clips are planned, rendered at 44.1 kHz and written; MAESTRO's recordings get
soft labels from simulated annotators; then the code that prepares the real data cuts and resamples.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from desed_task.atomic_files import write_json_atomic, write_text_atomic
from desed_task.audio.resampling import Bits
from desed_task.encoders.weights_file import MINI_ATST, MINI_BEATS
from desed_task.errors import InputError
from desed_task.parallel import available_cores, track
from local.cli.own_files import own_outputs
from local.config import SHIPPED, load_config
from local.data.expected_clips import MINI_CORPUS_MARKER
from local.prep.layout import DataLayout
from local.prep.mini_corpus.annotators import format_annotation, soft_labels
from local.prep.mini_corpus.clip_plans import SCENE_CLASSES
from local.prep.mini_corpus.sets import (
    MINI_CLIP_SETS,
    MiniClipSet,
    MiniSizes,
    PlannedClip,
    PlannedRecording,
    plan_recordings,
    plan_set,
    table_text,
)
from local.prep.mini_corpus.soundscapes import SoundscapePlan, write_clip
from local.prep.prepare import prepare
from local.prep.resample import note_on_16_bits, settled_formats

# Increased whenever the same seed gives other sounds or labels.
VERSION = 1
_METADATA = "maestro_real/metadata/development_metadata.csv"
_MADE_TABLES = (
    "synth_val_dur",
    "test_dur",
    "real_maestro_train_tsv",
    "real_maestro_val_tsv",
    "real_maestro_val_dur",
)
# Separates the annotators' draws from those of plan (none), sounds (1) and names (2).
_ANNOTATORS = 3
# Starting a process takes as long as rendering about this many files.
_WORTH_A_PROCESS = 8


class RenderJob(NamedTuple):
    """A file to render."""

    path: Path
    plan: SoundscapePlan


class MiniCorpusPlan(NamedTuple):
    """The plan of the whole corpus, before rendering."""

    layout: DataLayout
    clips: tuple[tuple[MiniClipSet, tuple[PlannedClip, ...]], ...]
    recordings: tuple[PlannedRecording, ...]

    def jobs(self) -> Iterator[RenderJob]:
        """All files to render."""
        for kind, planned in self.clips:
            folder = self.layout.made(f"{kind.folder_key}_44k")
            yield from (RenderJob(folder / clip.name, clip.plan) for clip in planned)
        for recording in self.recordings:
            folder = self.layout.recordings_audio / recording.scene
            yield RenderJob(folder / f"{recording.name}.wav", recording.plan)

    def products(self) -> Iterator[Path]:
        """Files whose presence shows that the corpus is complete."""
        yield from (job.path for job in self.jobs())
        for kind, planned in self.clips:
            folder = self.layout.made(kind.folder_key)
            yield from (folder / clip.name for clip in planned)
        keys = [kind.table_key for kind, _ in self.clips if kind.table_key] + list(_MADE_TABLES)
        yield from (self.layout.made(key) for key in keys)
        yield self.layout.basedir / MINI_BEATS


def make_mini_corpus(
    basedir: Path,
    *,
    seed: int = 42,
    bits: Bits | None = None,
    jobs: int | None = None,
    progress: bool = True,
    sizes: MiniSizes | None = None,
    overwrite: bool = False,
) -> None:
    """Create all data for training, test and evaluation below one folder.

    Existing files are kept: a second run reports that the corpus is complete, and the next run
    completes an interrupted one. The same seed, sizes and bits give the same bytes for any `jobs`.

    Args:
        basedir: base folder; created if missing.
        seed: seed of all sounds, labels and the random encoders.
        bits: sample format of the 16 kHz files, see `desed_task.audio.resampling.resample_folder`.
        jobs: processes; None for one per usable core.
        progress: whether to show bars and report what was done.
        sizes: sizes of the sets; None for the demo's.
        overwrite: whether to replace audio and tables that were changed since they were made.

    Raises:
        InputError: `basedir` contains other data or another mini corpus, files in it were changed
            and would be replaced, or it cannot be written;
            `jobs` or `seed` is out of range.
    """
    if seed < 0 or (jobs is not None and jobs < 1):
        raise InputError(f"seed {seed}, jobs {jobs}: give a seed from 0 up and at least 1 job")
    sizes = sizes or MiniSizes()
    wanted = {"version": VERSION, "seed": seed, "sizes": asdict(sizes)}
    plan = _plan(basedir, sizes, seed)
    if _begin(basedir, wanted) and all(path.is_file() for path in plan.products()):
        settled = settled_formats(plan.layout, bits)
        if settled is not None:
            # Corpora of earlier versions lack it, and nothing else.
            new = _write_atst(basedir / MINI_ATST, seed)
            if progress:
                what = f"{MINI_ATST} was missing and is made" if new else "nothing to do"
                print(f"{basedir}: the mini corpus (seed {seed}) is complete, {what}")
                _tell_of_16_bits(settled, bits)
            return
    _render([job for job in plan.jobs() if not job.path.is_file()], jobs, progress)
    # Tables are kept if they are as made here, also by a version that recorded nothing.
    with own_outputs(basedir, [], overwrite=overwrite):
        _write_tables(plan, sizes, seed)
    _prepare(plan.layout, bits, jobs, progress, overwrite)
    _write_beats(basedir / MINI_BEATS, seed)
    _write_atst(basedir / MINI_ATST, seed)
    write_json_atomic(basedir / MINI_CORPUS_MARKER, {**wanted, "complete": True})
    if progress:
        print(f"{basedir}: the mini corpus (seed {seed}) is complete")


def _plan(basedir: Path, sizes: MiniSizes, seed: int) -> MiniCorpusPlan:
    layout = DataLayout(load_config(SHIPPED / "pretrained.yaml").data, basedir, basedir)
    clips = tuple((kind, plan_set(kind, sizes, seed)) for kind in MINI_CLIP_SETS)
    return MiniCorpusPlan(layout, clips, tuple(plan_recordings(sizes, seed)))


def _begin(basedir: Path, wanted: dict[str, Any]) -> bool:
    """Whether this corpus was completed here; if not, mark the folder as its own."""
    marker = basedir / MINI_CORPUS_MARKER
    if marker.is_file():
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))
        except ValueError:
            found = {}
        complete = found.pop("complete", False) is True
        if found == wanted:
            return complete
        raise InputError(
            f"{basedir}: contains another mini corpus (seed {found.get('seed')}, version "
            f"{found.get('version')}); remove the folder or give another --basedir"
        )
    if any((basedir / name).exists() for name in ("dcase", "maestro_real")):
        raise InputError(
            f"{basedir}: contains data that is not the mini corpus; give another --basedir"
        )
    try:
        write_json_atomic(marker, {**wanted, "complete": False})
    except OSError as error:
        raise InputError(f"{basedir}: cannot be written ({error}); change --basedir") from None
    return False


def _render(work: Sequence[RenderJob], jobs: int | None, progress: bool) -> None:
    workers = min(jobs or available_cores(), max(1, len(work) // _WORTH_A_PROCESS))
    if workers == 1:
        _drain(map(_write, work), len(work), progress)
        return
    # Spawned, not forked: the caller may have threads (torch, audio) that a fork would break.
    context = multiprocessing.get_context("spawn")
    # The longest first, or one process would end with a recording while the others wait.
    ordered = sorted(work, key=lambda job: -job.plan.duration_s)
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            with _interrupts_held():
                written = pool.map(_write, ordered, chunksize=4)
            _drain(written, len(work), progress)
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back for a block. It reaches every process of a terminal, but those that are
    started in the block never see it, not even while they import; the caller ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _drain(results: Iterable[None], total: int, progress: bool) -> None:
    for _ in track(results, "sounds", total, shown=progress):
        pass


def _write(job: RenderJob) -> None:
    write_clip(job.path, job.plan)


def _write_tables(plan: MiniCorpusPlan, sizes: MiniSizes, seed: int) -> None:
    for kind, planned in plan.clips:
        if kind.table_key:
            write_text_atomic(plan.layout.made(kind.table_key), table_text(kind, planned))
    rows = ["filename,duration"]
    for recording in plan.recordings:
        classes = SCENE_CLASSES[recording.scene]
        duration_s = recording.plan.duration_s
        rng = np.random.default_rng((*recording.plan.seed, _ANNOTATORS))
        values = soft_labels(rng, recording.plan.events, classes, duration_s)
        folder = plan.layout.recordings_labels / recording.scene
        write_text_atomic(folder / f"{recording.name}.txt", format_annotation(values, classes))
        rows.append(f"{recording.name}.wav,{duration_s}")
    write_text_atomic(plan.layout.basedir / _METADATA, "\n".join(rows) + "\n")


def _prepare(
    layout: DataLayout, bits: Bits | None, jobs: int | None, progress: bool, overwrite: bool
) -> None:
    outcome = prepare(
        layout.data,
        layout.basedir,
        bits=bits,
        jobs=jobs,
        progress=progress,
        overwrite=overwrite,
    )
    if progress and outcome.notes:
        print("\n".join(f"note: {note}" for note in outcome.notes))
    if outcome.failed:
        raise InputError(f"{layout.basedir}: the mini corpus is damaged\n{outcome.failures()}")


def _tell_of_16_bits(settled: Mapping[str, Bits], bits: Bits | None) -> None:
    kept = [title for title, found in settled.items() if found == 16]
    if kept and bits is None:
        print(f"note: {note_on_16_bits(kept)}")


def _write_beats(path: Path, seed: int) -> None:
    if not path.is_file():
        # torch takes seconds to import and is needed for nothing else here.
        from desed_task.encoders.beats.model import write_random_beats

        write_random_beats(path, seed=seed)


def _write_atst(path: Path, seed: int) -> bool:
    """Write a second encoder, with random weights, unless it is there; whether it was not."""
    if path.is_file():
        return False
    from desed_task.encoders.random_weights import write_random_encoder

    write_random_encoder(path, "atst_frame", seed=seed)
    return True
