"""A test and an evaluation compute with the encoders of the checkpoint, not stored embeddings."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from desed_task.encoders.loading import load_encoder
from local import run
from local.checkpoints.restore import detector_spec
from local.config import load_config
from local.scoring.score_files import score_folder
from local.sed_trainer_pretrained import SEDTask4
from local.tuning.cached_scores import teacher_scores
from local.tuning.median_stage import config_to_tune

pytestmark = pytest.mark.usefixtures("undrawn")

SECOND = ["pretrained.e2e=true", "pretrained.freezed=false", "net.embedding_size=128"]


@pytest.fixture(scope="module")
def checkpoints(extracted, tmp_path_factory):
    """One network, with stored embeddings, with the same encoder in it, and with a changed one."""
    folder, found = tmp_path_factory.mktemp("Läufe ä"), {}
    for name, sets in (("stored", []), ("held", SECOND), ("tuned", SECOND)):
        config = load_config(extracted, sets)
        encoder = load_encoder(config.pretrained.encoders[0].file) if sets else None
        torch.manual_seed(3)
        module = SEDTask4(config, encoder)
        if name == "tuned":
            with torch.no_grad():
                for parameter in module.encoder_teacher.parameters():
                    parameter *= 1.05
        found[name] = folder / f"{name}.ckpt"
        content = {"state_dict": module.state_dict(), "hyper_parameters": config.dump()}
        spec = detector_spec(config, encoder=module.encoder_student).to_dict()
        torch.save({**content, "detector": spec}, found[name])
    return found


def values_of(extracted, checkpoint, folder):
    config = config_to_tune(load_config(extracted), checkpoint, [], "held_out")
    scored = teacher_scores(config, checkpoint, "held_out", folder, torch.device("cpu"))
    return np.concatenate([values for one in scored.scores for values, _ in one.each()])


def test_the_tuner_scores_with_the_encoder_of_the_checkpoint(extracted, checkpoints, tmp_path):
    found = {
        name: values_of(extracted, path, tmp_path / name) for name, path in checkpoints.items()
    }
    np.testing.assert_allclose(found["held"], found["stored"], atol=1e-5)
    assert np.abs(found["tuned"] - found["stored"]).max() > 1e-4


def test_an_evaluation_does_so_for_both_networks(extracted, checkpoints, tmp_path, recwarn):
    tables = {}
    for name in ("stored", "tuned"):
        options = run.RunOptions(str(tmp_path / name))
        folder = run.evaluate(load_config(extracted), str(checkpoints[name]), options)
        (clip, *_) = json.loads((folder / "evaluation.json").read_text())["clips"]
        for role in ("student", "teacher"):
            table = score_folder(folder, role, "unprocessed") / f"{clip}.tsv"
            tables[name, role] = np.loadtxt(table, skiprows=1)
    assert not [one for one in recwarn.list if "embeddings" in str(one.message)]
    apart = {
        role: np.abs(tables["tuned", role] - tables["stored", role]).max()
        for role in ("student", "teacher")
    }
    assert apart["student"] < 1e-5 and apart["teacher"] > 1e-4
