"""A submission of the mean of several checkpoints."""

from __future__ import annotations

import csv
import shutil
import zipfile
from pathlib import Path

import pytest
import yaml
from pytorch_lightning.trainer.states import TrainerFn

from desed_task.atomic_files import sha256_of
from desed_task.errors import InputError
from local.scoring.results import emissions_file
from local.scoring.tested import TestedFiles
from local.sed_trainer_pretrained import SEDTask4
from local.submission.earlier_trainings import find_earlier, origins_of
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
    own = Path("checkpoints", "epoch=1.ckpt")
    paths = tuple(one if one.is_file() else one / own for one in trainings)
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


def test_the_energy_of_every_training_counts_once(trainings, meta, tmp_path, parity, capsys):
    first, second, stage_one = (tmp_path / name for name in ("1", "2", "3"))
    for folder, source in zip((first, stage_one, second), trainings, strict=True):
        shutil.copytree(source, folder)
    # Two checkpoints of one training, and a second stage.
    further = first / "checkpoints" / "epoch=2.ckpt"
    further.write_text("of epoch 2")
    sha256 = sha256_of(stage_one / "checkpoints" / "epoch=1.ckpt")
    path = second / "config.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["initial_weights"] = {"checkpoint": "weg.ckpt", "checkpoint_sha256": sha256}
    path.write_text(yaml.safe_dump(tree))
    places = [first / "checkpoints" / "epoch=1.ckpt", further, second / "checkpoints/epoch=1.ckpt"]
    evaluation, test = evaluated(tmp_path, places, (1, 1, 3), parity("beats_tiny.pt"))

    def energy(*also):
        sources = SubmissionSources((evaluation,), meta, also=(test, *also))
        make_submission(sources, tmp_path / "package")
        tree = yaml.safe_load((tmp_path / "package" / LABEL / f"{LABEL}.meta.yaml").read_text())
        found = tree["system"]["complexity"]["energy_consumption"]["training"]
        return found, capsys.readouterr().out

    found, told = energy()
    assert found == pytest.approx(0.501 + 0.503)
    assert f"note: {second}: its initial weights are of 1 checkpoint (SHA-256 {sha256[:12]}" in told
    found, told = energy(stage_one)
    assert found == pytest.approx(0.501 + 0.502 + 0.503) and "initial weights" not in told


def test_checkpoints_of_pseudo_labels_are_origins():
    config = config_of(1)
    assert origins_of(config, []) == []
    losses = config.losses.model_copy(update={"pseudo": 1.5})
    taught = config.model_copy(update={"losses": losses})
    labels = {"pseudo_labels": {"checkpoints": "a+b"}}
    record = {"stage": "fit", "data_digests": {"weak_train": labels, "synth_train": labels}}
    assert [one.sha256 for one in origins_of(taught, [record])] == ["a", "b"]
    told = find_earlier(Path("x"), lambda _: origins_of(taught, []), (), lambda *_: True).notes
    assert told[0].startswith("x: its pseudo-labels are of unknown checkpoints, so the energy")


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
