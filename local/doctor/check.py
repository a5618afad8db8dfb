"""Check that the data of a configuration is complete and undamaged, reading every file.

    report = check_data(load_config("confs/pretrained.yaml"))
    print(report.text())

Errors are those of `SedDataModule.problems`, which training would reject. Further checks find what
it does not: silence, wrong lengths, embeddings of older audio or other weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from desed_task.errors import InputError, forget_warnings
from local.cli.own_files import OwnFiles
from local.cli.redaction import shown
from local.config import RecipeConfig
from local.data.audio_warnings import coarse_text, is_16_bit
from local.data.clips.files import clips_of
from local.data.corpus_checks import N_PROBES
from local.data.datamodule import SedDataModule
from local.data.presence import nothing_there
from local.doctor.audio_files import inspect_files
from local.doctor.corpus import CorpusInspection
from local.doctor.embedding_files import (
    check_encoders,
    checkpoint_findings,
    embeddings_findings,
)
from local.doctor.oddities.findings import odd_findings
from local.doctor.report import REPORT_FILE, CorpusReport, DataReport, Finding, Level, is_report
from local.stores.size import with_stored_size
from local.task.corpus import Corpus

_LEVELS: tuple[Level, ...] = ("error", "warning", "note")
EXIT_TRAINING_WOULD_FAIL = 1
_ONLY_EVALUATION = "(needed only to score the evaluation set: --eval_set, --eval_from_checkpoint)"


def run_check(
    config: RecipeConfig,
    conf_file: str,
    folder: Path,
    *,
    jobs: int | None = None,
    overwrite: bool = False,
) -> int:
    """Check a configuration's data, print the findings and write data_report.json.

    Args:
        config: the configuration.
        conf_file: its path, for the report.
        folder: folder of the report.
        jobs: number of threads; None for 8, as they mostly wait for the disk.
        overwrite: whether to replace a data_report.json that is no report.

    Returns:
        0, or 1 if training would fail.

    Raises:
        InputError: the report would replace another file, or cannot be written; then it is printed,
            all findings included.
    """
    path = folder / REPORT_FILE
    with suppress(OSError):  # What cannot be opened cannot be replaced; writing says why.
        OwnFiles(folder, overwrite=overwrite, recognise=is_report).check([path])
    report = check_data(config, conf_file=conf_file, jobs=jobs)
    try:
        report.write(path)
    except InputError:
        print(shown(report.text(whole=True)), flush=True)
        raise
    print(shown(report.text()))
    print(f"full report with file names: {shown(str(path))}")
    return EXIT_TRAINING_WOULD_FAIL if report.training_would_fail else 0


def check_data(
    config: RecipeConfig, *, conf_file: str = "", jobs: int | None = None, progress: bool = True
) -> DataReport:
    """Check the tables, audio and embeddings of a configuration.

    Args:
        config: the configuration.
        conf_file: its path, for the report.
        jobs: number of threads.
        progress: whether to show a progress bar.
    """
    data = SedDataModule(with_stored_size(config))
    findings = list(_findings_of_training(data))
    checked, trained_on = data.task.used, data.task.trained_on
    wavs = {corpus: _files_of(corpus) for corpus in checked}
    found = inspect_files(wavs, jobs=jobs or N_PROBES, progress=progress)
    checks = check_encoders(config, checked)
    parts: list[CorpusReport] = []
    for corpus in checked:
        part = CorpusInspection(
            corpus,
            config,
            wavs[corpus],
            found[corpus.name],
            data.loaded.get(corpus.name),
            is_trained_on=corpus in trained_on,
        )
        report = part.report(checks)
        findings += part.findings(report)
        for check, embeddings in zip(checks, report.all_embeddings, strict=True):
            findings += embeddings_findings(corpus, embeddings, check)
        parts.append(report)
    coarse = [part.title for part in parts if is_16_bit(part.formats)]
    if coarse:
        findings.append(Finding("note", "", coarse_text(coarse)))
    findings += checkpoint_findings(config, checks, parts)
    findings += odd_findings(data, jobs=jobs or N_PROBES, progress=progress)
    if nothing := nothing_there(checked, config):
        findings = [Finding("error", "", nothing)]
    findings.sort(key=lambda finding: _LEVELS.index(finding.level))  # Stable: parts in order.
    checkpoints = tuple(check.checkpoint for check in checks)
    return DataReport(conf_file, tuple(parts), checkpoints, tuple(findings))


def _files_of(corpus: Corpus) -> dict[str, Path]:
    """Clip -> file, of all that the corpus may use."""
    try:
        return clips_of(corpus).files
    except InputError:
        return {}  # Told by training's own check.


def _findings_of_training(data: SedDataModule) -> Iterator[Finding]:
    """Errors and warnings of training and evaluation."""
    forget_warnings()  # Every report has them.
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        refused = data.problems("fit")
        evaluated = data.task.evaluated
        at_evaluation = data.problems("predict") if evaluated else {}
    if line := data.late_ends_line():
        yield Finding("note", "", line)
    for name, problems in refused.items():
        yield from (Finding("error", name, problem) for problem in problems)
    # Training does not need the evaluation set.
    for name, problems in at_evaluation.items():
        yield from (
            Finding("warning", name or evaluated[0].name, f"{problem} {_ONLY_EVALUATION}")
            for problem in problems
            if name or problem not in refused[""]
        )
    for warning in told:
        if issubclass(warning.category, UserWarning):
            yield Finding("warning", "", str(warning.message))
