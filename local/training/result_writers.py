"""Callbacks that write results, scores and figures into the run folder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
from matplotlib.figure import Figure
from pytorch_lightning.callbacks import Callback
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from desed_task.atomic_files import write_json_atomic, write_text_atomic
from desed_task.dataio.clip_names import flat_names
from desed_task.errors import InputError, count_of
from desed_task.evaluation.boxes import Decoded
from desed_task.evaluation.psds import PSDS1
from desed_task.evaluation.scores import Scores
from desed_task.file_names import LONGEST_NAME, shorten_name
from desed_task.mean_teacher import ROLES
from local.data.corpus_checks import examples
from local.data.datamodule import SedDataModule
from local.data.digests import digest_truth
from local.data.truth import Truth, truth_of
from local.error_report.write import report_test
from local.scoring import figures, results, verification
from local.scoring.accumulator import ScoreAccumulator
from local.scoring.conditions import (
    CHECKPOINT,
    SCORED_ON,
    SCORING,
    TRAINED,
    digest_tags,
    scoring_settings,
    tuned_on,
)
from local.scoring.score_files import (
    EVALUATION_FILE,
    SCORE_KINDS,
    BoxScores,
    classes_by_segment,
    score_folder,
    write_score_tables,
    write_scores,
    write_tag_scores,
)
from local.scoring.tested import TestedFiles, tested_by
from local.task.corpus import Corpus
from local.task.task import Task
from local.training.callbacks import tensorboard_writer
from local.training.clip_timeline import plot_clip_timeline

ROLLS_PER_CORPUS = 4


class _Stored(NamedTuple):
    """Scores of one network for the clips of a corpus."""

    raw: Scores
    decoded: Decoded
    # Beside boxes of events, if segments are scored, too.
    filtered: Scores | None = None


# Network, name of a corpus -> its scores.
_AllStored = Mapping[tuple[str, str], _Stored]


class ResultWriter(Callback):
    """Writes results.json, tables, scores, figures (PNG and TensorBoard) and the error report of a
    test.

    Args:
        verify: whether the metrics are then compared with those of the package sed_scores_eval.
    """

    def __init__(self, *, verify: bool = False) -> None:
        self.verify = verify

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write `metrics_test/{student,teacher}/...`, then results.json."""
        accumulator, data = pl_module.score_accumulator, trainer.datamodule
        folder = Path(str(trainer.log_dir))  # collective call: every process must reach it
        if not trainer.is_global_zero:
            return
        truths = data.truths("test")
        stored = {
            (role, corpus.name): _Stored(
                accumulator.scores(role, corpus),
                accumulator.decoded(role, corpus),
                accumulator.filtered_beside(role, corpus),
            )
            for role in ROLES
            for corpus in (truth.part.corpus for truth in truths)
        }
        writer = tensorboard_writer(trainer)
        # Compressing scores takes as long as drawing, and the interpreter's lock is free meanwhile.
        with ThreadPoolExecutor(2) as pool:
            written = [pool.submit(*job) for job in _score_files(folder, accumulator, stored)]
            for role in ROLES:
                place = _place(folder, role)
                for report in accumulator.reports[role]:
                    for name, text in report.texts.items():
                        write_text_atomic(place / name, text)
                for name, figure in _figures(accumulator, data, truths, role, stored):
                    figures.save_figure(figure, place / f"{name}.png")
                    if writer is not None:
                        _show_png(writer, f"test/{role}/{name}", place / f"{name}.png", trainer)
            for name, path in _error_report(folder, stored, pl_module, data, truths).items():
                if writer is not None:
                    tag = f"test/{results.TIMELINE_ROLE}/{results.ERROR_REPORT}/{name}"
                    _show_png(writer, tag, path, trainer)
            for file in written:
                file.result()
        results.write_results(
            folder,
            accumulator.reports,
            missing=data.missing,
            missing_recordings=data.missing_recordings,
            left_out=data.left_out,
            checkpoint=_tested(pl_module).name,
            conditions=_conditions(stored, truths, data.task, pl_module, folder),
        )
        if self.verify:
            _verify(folder, accumulator, stored, truths)


def _verify(
    folder: Path, accumulator: ScoreAccumulator, stored: _AllStored, truths: Sequence[Truth]
) -> None:
    """Compare the metrics with those of the package."""
    decoded = {
        role: [
            accumulator.smoothed(role, truth.part.corpus)
            if truth.part.kind == "segments"
            else stored[role, truth.part.corpus.name].decoded
            for truth in truths
        ]
        for role in ROLES
    }
    events = truth_of(truths, "events")
    raw = {role: stored[role, events.part.corpus.name].raw for role in ROLES} if events else {}
    verification.add_verification(folder, accumulator.reports, decoded, truths, raw)


def _place(folder: Path, role: str) -> Path:
    return folder / "metrics_test" / role


def _score_files(
    folder: Path, accumulator: ScoreAccumulator, stored: _AllStored
) -> Iterator[tuple[Any, ...]]:
    """What writes each file of scores of a test: a function and its arguments."""
    task = accumulator.task
    for (role, name), scores in stored.items():
        yield write_scores, _place(folder, role) / _file_of(task.corpus(name), "scores"), *scores
    tagged = [part.corpus for part in task.scored("test") if part.kind == "tags"]
    for role, corpus in product(ROLES, tagged):
        path = _place(folder, role) / _file_of(corpus, "tags")
        yield write_tag_scores, path, accumulator.clip_scores(role, corpus), task.vocabulary


def _file_of(corpus: Corpus, kind: str) -> str:
    return f"{kind}_{corpus.scores_stem}.npz"


def _show_png(writer: SummaryWriter, tag: str, path: Path, trainer: pl.Trainer) -> None:
    """Show a picture in TensorBoard as it is, where `add_figure` would draw it once more."""
    png = path.read_bytes()
    # A PNG's header, at a fixed place: width and height.
    width, height = (int.from_bytes(png[place : place + 4], "big") for place in (16, 20))
    image = Summary.Image(encoded_image_string=png, width=width, height=height, colorspace=4)
    summary = Summary(value=[Summary.Value(tag=tag, image=image)])
    writer.file_writer.add_summary(summary, trainer.global_step)


def _conditions(
    stored: _AllStored,
    truths: Sequence[Truth],
    task: Task,
    pl_module: pl.LightningModule,
    folder: Path,
) -> dict[str, Any]:
    """The checkpoint, what it was scored on and the settings, for results.json."""
    tested = _tested(pl_module)
    scored = {truth.part.corpus.name: truth for truth in truths}
    raw = {name: stored[ROLES[0], name].raw for name in scored}
    accumulator = pl_module.score_accumulator
    in_windows = [one for one in task.scored_corpora("test") if accumulator.in_windows(one)]
    scored_on = {name: digest_truth(truth, raw[name].clip_ids) for name, truth in scored.items()}
    for part in task.scored("test"):
        if part.kind == "tags" and part.corpus.name not in scored_on:
            found = accumulator.clip_scores(ROLES[0], part.corpus)
            scored_on[part.corpus.name] = digest_tags(found, part, task.vocabulary)
    return {
        CHECKPOINT: tested.sha256,
        **tested.conditions(),
        TRAINED: pl_module.training_revision,
        SCORED_ON: scored_on,
        SCORING: scoring_settings(pl_module.config, in_windows),
        **tuned_on(pl_module.config, tested.sha256, trained_here=tested.trained_in(folder)),
    }


def _tested(pl_module: pl.LightningModule) -> TestedFiles:
    found = tested_by(pl_module)
    assert found is not None
    return found


def _figures(
    accumulator: ScoreAccumulator,
    data: SedDataModule,
    truths: Sequence[Truth],
    role: str,
    stored: _AllStored,
) -> Iterator[tuple[str, Figure]]:
    """File name without suffix and figure, for all figures of one network."""
    for report in accumulator.reports[role]:
        for name, psds in report.curves.items():
            title = f"{name.upper()} of the {role}, from scores"
            yield (
                f"psd_roc_{name}",
                figures.plot_psd_roc(psds, title=title, max_efpr=PSDS1.max_efpr),
            )
    drawn: set[str] = set()
    for corpus, truth in {truth.part.corpus.name: truth for truth in truths}.items():
        scores = stored[role, corpus].decoded
        for clip_id, name in flat_names(_clips_to_draw(truth)).items():
            name = f"{corpus}_{name}" if name in drawn else name  # Two sets may have one name.
            drawn.add(name)
            values, boundaries_s = scores.of(clip_id)
            title = f"{clip_id}, {role}"
            yield (
                # Without its ending, of at most 8 bytes.
                shorten_name(f"event_roll_{name}", LONGEST_NAME - 8),
                figures.plot_event_roll(
                    values,
                    boundaries_s,
                    truth.events.events_of(clip_id),
                    scores.vocabulary.labels,
                    title=title,
                ),
            )
    if role == results.TIMELINE_ROLE:
        yield from _timeline(accumulator, data, truths, stored)


def _timeline(
    accumulator: ScoreAccumulator,
    data: SedDataModule,
    truths: Sequence[Truth],
    stored: _AllStored,
) -> Iterator[tuple[str, Figure]]:
    """The timeline of a clip, if events are scored; none if its file has vanished since then."""
    truth = truth_of(truths, "events")
    if truth is None:
        return
    corpus = truth.part.corpus
    scores = stored[results.TIMELINE_ROLE, corpus.name]
    try:
        loaded = data.part(corpus, "test")
        timeline = plot_clip_timeline(scores.raw, scores.decoded, loaded, accumulator.config)
        yield results.TIMELINE, timeline
    except InputError as error:
        warnings.warn(f"no timeline of a clip is drawn: {error}", UserWarning, stacklevel=2)


def _error_report(
    folder: Path,
    stored: _AllStored,
    pl_module: pl.LightningModule,
    data: SedDataModule,
    truths: Sequence[Truth],
) -> dict[str, Path]:
    """Write the error report of the test; its pictures by name, none if there is no report."""
    truth = truth_of(truths, "events")
    if truth is None:
        print("no events are scored in this test, so it has no timeline and no error report")
        return {}
    corpus = truth.part.corpus
    return report_test(
        folder,
        stored[results.TIMELINE_ROLE, corpus.name].decoded,
        truth,
        data.loaded[corpus.name].files,
        pl_module.config,
        checkpoint=_tested(pl_module).name,
    )


def _clips_to_draw(truth: Truth) -> list[str]:
    """A few clips with many events, spread over the corpus and the same in every run."""
    count = np.bincount(truth.events.clip_index, minlength=len(truth.events.clip_ids))
    full = [row for row in np.argsort(-count, kind="stable") if count[row] > 0]
    half = sorted(full[: max(len(full) // 2, ROLLS_PER_CORPUS)])
    step = max(len(half) // ROLLS_PER_CORPUS, 1)
    return [truth.events.clip_ids[row] for row in half[::step][:ROLLS_PER_CORPUS]]


class ScoreWriter(Callback):
    """Writes one table of raw and one of post-processed scores per clip after an evaluation."""

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write `metrics_test/{role}_scores/{unprocessed,postprocessed}/<clip>.tsv`, then
        evaluation.json: clip -> seconds, which marks the evaluation as finished.
        """
        accumulator: ScoreAccumulator = pl_module.score_accumulator
        folder = Path(str(trainer.log_dir))  # collective call: every process must reach it
        evaluated = accumulator.task.evaluated
        accumulator.gather(evaluated)
        if not trainer.is_global_zero:
            return
        durations_s: dict[str, float] = {}
        for corpus in evaluated:
            of_corpus = trainer.datamodule.loaded[corpus.name].durations_s
            durations_s |= of_corpus
            for role in ROLES:
                found = accumulator.scores(role, corpus), _postprocessed(accumulator, role, corpus)
                for kind, scores in zip(SCORE_KINDS, found, strict=True):
                    write_score_tables(score_folder(folder, role, kind), scores, of_corpus)
        write_json_atomic(folder / EVALUATION_FILE, {"clips": durations_s})


def _postprocessed(accumulator: ScoreAccumulator, role: str, corpus: Corpus) -> Scores | BoxScores:
    """Decoded scores of an evaluation set, in the form of tables."""
    decoded = accumulator.decoded(role, corpus)
    if isinstance(decoded, Scores):
        return decoded
    smoothed = accumulator.smoothed(role, corpus)
    return BoxScores(decoded, smoothed, classes_by_segment(accumulator.task))


def check_evaluated(data: Any) -> None:
    """Refuse evaluation sets whose clips' tables would overwrite each other.

    Raises:
        InputError: naming clips that several sets have.
    """
    sets = [data.loaded[corpus.name] for corpus in data.task.evaluated]
    for number, one in enumerate(sets):
        for other in sets[:number]:
            same = [clip_id for clip_id in one.clip_ids if clip_id in other.durations_s]
            if same:
                raise InputError(
                    f"{other.corpus.folder_key}, {one.corpus.folder_key}: both have "
                    f"{count_of(len(same), 'clip')} of one name ({examples(same)}), whose scores "
                    "would be written to one file; rename them, or evaluate the sets one by one"
                )
