"""Truth tables and run folders as a finished training leaves them, without audio or networks."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
import yaml

from desed_task.dataio.annotations import EventTable, write_strong_table
from desed_task.evaluation.scores import Scores
from desed_task.mean_teacher import ROLES
from local.checkpoints.revision import REVISION
from local.classes_dict import DESED_CLASSES, MAESTRO_SCORED_CLASSES, VOCABULARY
from local.config import RecipeConfig, load_config
from local.data.digests import digest_truth
from local.scoring import results
from local.scoring.conditions import CHECKPOINT, SCORED_ON, SCORING, TRAINED, scoring_settings
from local.scoring.own.groups import read_groups
from local.scoring.score_files import write_scores
from local.summary.rescoring import read_truth
from tests.local.scoring.by_stage import score_desed, score_maestro
from tests.published_task import TASK

ROOT = Path(__file__).resolve().parents[3]
EVENTS, SEGMENTS = PARTS = TASK.scored("test")
SCORE = (score_desed, score_maestro)
CLIPS = tuple(f"Y{number:03d}_0.000_10.000" for number in range(60))
# What is detected in the padding of a shorter clip does not count.
CLIP_S = tuple(9.0 + number % 2 for number in range(60))
# Clips of 10 s with a hop of 5 s, as MAESTRO's recordings are cut.
RECORDING_S = 25.0
RECORDINGS = tuple(f"street_{number:02d}" for number in range(12))
PIECES = tuple(f"{name}-{on:06d}-{on + 1000:06d}" for name in RECORDINGS for on in (0, 500, 1000))


def fabricate_truth(folder: Path) -> Path:
    """Tables of both test corpora below `folder`; a configuration that names them."""
    rng = np.random.default_rng(0)
    tree = yaml.safe_load((ROOT / "confs" / "mini.yaml").read_text())
    parts = (
        ("test", CLIPS, DESED_CLASSES, dict(zip(CLIPS, CLIP_S, strict=True))),
        (
            "real_maestro_val",
            PIECES,
            MAESTRO_SCORED_CLASSES,
            dict.fromkeys(RECORDINGS, RECORDING_S),
        ),
    )
    for key, clip_ids, labels, durations in parts:
        write_strong_table(folder / f"{key}.tsv", _events(rng, clip_ids, labels), confidence=True)
        lines = [f"{name}.wav\t{seconds}" for name, seconds in durations.items()]
        (folder / f"{key}_dur.tsv").write_text("\n".join(["filename\tduration", *lines]) + "\n")
        tree["data"][f"{key}_tsv"] = str(folder / f"{key}.tsv")
        tree["data"][f"{key}_dur"] = str(folder / f"{key}_dur.tsv")
        tree["data"][f"{key}_folder"] = str(folder / "no_audio")
    path = folder / "conf.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def _events(rng: np.random.Generator, clip_ids, labels) -> EventTable:
    """Three classes a clip, one event each."""
    picked = [rng.choice(len(labels), 3, replace=False) for _ in clip_ids]
    label_index = np.array([VOCABULARY.index(labels[i]) for of in picked for i in of])
    onset_s = rng.uniform(0, 4, len(label_index)).round(2)
    return EventTable(
        tuple(clip_ids),
        np.repeat(np.arange(len(clip_ids)), 3),
        onset_s,
        onset_s + rng.uniform(1, 5, len(label_index)).round(2),
        label_index,
        np.ones(len(label_index), dtype=np.float32),
        VOCABULARY,
    )


def fabricate_run(
    folder: Path,
    conf_file: Path,
    *,
    seed: int,
    quality: float,
    without: int = 0,
    left_out: tuple[str, ...] = (),
    decoder: str = "median",
) -> Path:
    """A run folder whose scores follow the truth as far as `quality` (0 to 1) goes.

    `without` leaves out that many clips of each corpus, from the end; `left_out` names others.
    """
    config = load_config(str(conf_file), [f"training.seed={seed}", f"decoder.kind={decoder}"])
    rng = np.random.default_rng(seed)
    reports, scored_on = {role: [] for role in ROLES}, {}
    for part, score in zip(PARTS, SCORE, strict=True):
        corpus, listed = part.corpus, (CLIPS, PIECES)[PARTS.index(part)]
        scored = [clip for clip in listed[: len(listed) - without] if clip not in left_out]
        truth = read_truth(part, config, scored)
        scored_on[corpus.name] = digest_truth(truth, scored)
        groups = read_groups(config, truth.events.clip_ids) if part is EVENTS else None
        if truth.left_out:
            score = partial(score, left_out=truth.left_out)
        for role in ROLES:
            scores = _scores(truth.events, config, rng, quality)
            name = f"scores_{corpus.scores_stem}.npz"
            raw = scores
            if decoder != "median" and part is EVENTS:
                scores = config.score_decoder()(raw)
            write_scores(folder / "metrics_test" / role / name, raw, scores)
            more = {"raw": raw, "groups": groups} if part is EVENTS else {}
            reports[role].append(
                score(
                    scores,
                    truth.events,
                    truth.durations,
                    stage="test",
                    role=role,
                    n_thresholds=config.training.n_test_thresholds,
                    **more,
                )
            )
    results.write_results(
        folder,
        reports,
        missing={},
        missing_recordings={},
        left_out={},
        checkpoint="epoch=1-step=2.ckpt",
        conditions={
            CHECKPOINT: hashlib.sha256(folder.name.encode()).hexdigest(),
            TRAINED: REVISION,
            SCORED_ON: scored_on,
            SCORING: scoring_settings(config),
        },
    )
    (folder / "config.yaml").write_text(yaml.safe_dump(config.dump(), sort_keys=False))
    _energy(folder / "codecarbon", seed)
    return folder


def _scores(events, config: RecipeConfig, rng: np.random.Generator, quality: float) -> Scores:
    """Events in part, late or early, in noise that a few of are taken for events."""
    grid = config.grid
    shape = (len(events.clip_ids), grid.n_frames, len(VOCABULARY))
    noise = np.repeat(rng.random((shape[0], grid.n_frames // 12, shape[2])), 12, axis=1)
    found = np.zeros(shape)
    for row, clip_id in enumerate(events.clip_ids):
        target = grid.encode(*events.events_of(clip_id), n_classes=shape[2])
        found[row] = np.roll(target.T, rng.integers(-3, 4), axis=0)
    chance = rng.random((shape[0], 1, shape[2]))
    values = (
        np.where(chance < quality, 0.6 * found, 0.0) + np.where(chance > 0.96, 0.9, 0.4) * noise
    )
    values = values.clip(0.0, 1.0).astype(np.float32)
    return Scores(events.clip_ids, values, grid.boundaries_s, VOCABULARY)


def _energy(folder: Path, seed: int) -> None:
    """Two lines for a training that was resumed."""
    folder.mkdir()
    head = "timestamp,duration,energy_consumed,cpu_energy\n"
    for stage, parts in (("training", (1.0, 0.5)), ("test", (0.125,))):
        lines = "".join(f"2026-01-01T00:00:00,1.0,{part * (1 + seed)},0.1\n" for part in parts)
        (folder / f"emissions_baseline_{stage}.csv").write_text(head + lines)
