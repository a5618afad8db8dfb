"""A submission of the mean of several checkpoints."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import pytest
import yaml
from pytorch_lightning.trainer.states import TrainerFn

from desed_task.errors import InputError
from local.scoring.results import emissions_file
from local.scoring.tested import TestedFiles
from local.sed_trainer_pretrained import SEDTask4
from local.submission.make import SubmissionSources, make_submission
from tests.local.submission.callback_runs import (
    ENERGY_KWH,
    config_of,
    describe,
    make_run,
    write_energy,
    write_results,
    write_scores,
)
from tests.local.submission.test_make import FORM, LABEL


def facts_of(seed: int, encoders: list) -> dict:
    network = {"macs": 1000 + seed, "parameters": 100 + seed, "clip_s": 10.0}
    return {"seed": seed, "training_revision": 2, "encoders": encoders, "network": network}


def evaluated(root: Path, trainings: list[Path], seeds: tuple[int, ...], beats: Path):
    """Evaluation and test of the mean of trainings' checkpoints; the last one has no encoder."""
    encoders = [{"name": "beats", "file": str(beats), "n_blocks": None}]
    facts = [facts_of(seed, encoders) for seed in seeds[:-1]] + [facts_of(seeds[-1], [])]
    module = SEDTask4(config_of(seeds[0]))
    paths = tuple(one / "checkpoints" / "epoch=1.ckpt" for one in trainings)
    module.tested_checkpoint = TestedFiles(paths, tuple(facts))
    folders = root / "eval", root / "test"
    for folder, stage in zip(folders, (TrainerFn.PREDICTING, TrainerFn.TESTING), strict=True):
        describe(folder, module, stage)
    write_scores(folders[0], module, seeds[0])
    write_results(folders[1], seeds[0])
    for name, folder in zip(("eval", "test"), folders, strict=True):
        write_energy(emissions_file(folder, name), ENERGY_KWH[name])
    return folders


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    root = tmp_path_factory.mktemp("trainings")
    found = []
    for seed in (1, 2, 3):
        more = ("net.use_embeddings=false",) if seed == 3 else ()
        make_run(root / str(seed), seed, *more)
        found.append(root / str(seed) / "train" / "version_0")
    return found


@pytest.fixture
def meta(tmp_path):
    path = tmp_path / "meta.yaml"
    path.write_text(yaml.safe_dump(FORM))
    return path


def test_metadata_and_files_are_those_of_all(trainings, meta, tmp_path, parity, capsys):
    beats = parity("beats_tiny.pt")
    evaluation, test = evaluated(tmp_path, trainings, (1, 2, 3), beats)
    sources = SubmissionSources((evaluation,), meta, also=(test,))
    with zipfile.ZipFile(make_submission(sources, tmp_path / "package")) as archive:
        archive.extractall(tmp_path / "unpacked")
    system = tmp_path / "unpacked" / LABEL
    tree = yaml.safe_load((system / f"{LABEL}.meta.yaml").read_text())
    told, cost = tree["system"]["description"], tree["system"]["complexity"]
    assert told["ensemble_method_subsystem_count"] == 3
    assert told["decision_making"] == "mean of the scores" and told["embeddings"] == "BEATs"
    # Both networks of BEATs take the same embeddings, which are computed once.
    (encoder,) = cost["encoders"]
    assert cost["network_parameters"] == 306 and cost["macs"] == 3006
    assert cost["total_parameters"] == 306 + encoder["parameters"]
    assert cost["total_macs"] == 3006 + encoder["macs"]
    trained = sum(ENERGY_KWH["training"] + seed / 1000 for seed in (1, 2, 3))
    assert cost["energy_consumption"]["training"] == pytest.approx(trained)
    (run,) = tree["results"]["runs"]
    assert run["seed"] == [1, 2, 3] and len(set(run["checkpoints_sha256"])) == 3
    with (system / f"{LABEL}_run1_codecarbon" / "emissions_training.csv").open() as file:
        rows = [float(row["energy_consumed"]) for row in csv.DictReader(file)]
    assert rows == pytest.approx([0.501, 0.502, 0.503])
    # The same system again, in its place.
    make_submission(sources, tmp_path / "package")


def test_what_an_ensemble_lacks_is_named(trainings, meta, tmp_path, parity):
    beats = parity("beats_tiny.pt")
    evaluation, test = evaluated(tmp_path / "a", trainings, (1, 2, 3), beats)
    with pytest.raises(InputError, match=r"no dev-test of the mean of its checkpoints .* and .*"):
        make_submission(SubmissionSources((evaluation,), meta), tmp_path / "none")
    fewer, of_fewer = evaluated(tmp_path / "b", trainings[1:], (2, 3), beats)
    sources = SubmissionSources((evaluation, fewer), meta, also=(test, of_fewer))
    with pytest.raises(InputError) as caught:
        make_submission(sources, tmp_path / "none")
    assert "are of the same checkpoint; give runs of different trainings" in str(caught.value)
    assert f"{fewer} averages 2 checkpoints, {evaluation} 3; runs of" in str(caught.value)
    assert f"{fewer} (checkpoint 2, of {trainings[2]}) has net.use_embeddings" in str(caught.value)
    assert not (tmp_path / "none").exists()
