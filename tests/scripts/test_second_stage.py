"""A second stage, killed and resumed; its checkpoint described, exported and tuned."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
import yaml

from desed_task.atomic_files import sha256_of
from desed_task.checkpoints.state_names import ENCODER_PREFIXES
from desed_task.encoders.random_weights import write_random_encoder
from desed_task.inference.detector import SoundEventDetector
from local import run
from local.config import load_config
from tests.in_process import run_main
from tests.scripts.conftest import run_folder

pytestmark = pytest.mark.usefixtures("undrawn", "few_resamples")


class StopAfterFirstEpoch(run.Callback):
    """Ends a training as a kill would, once its first epoch is saved."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise RuntimeError("killed")


@pytest.fixture(scope="module")
def stage(extracted, tmp_path_factory):
    """The folder, its configuration, a whole run and one that was killed; all that draws is on."""
    folder = tmp_path_factory.mktemp("Läufe ä")
    weights = folder / "ATST-F é.pt"
    write_random_encoder(weights, "atst_frame", seed=3, width=64, n_blocks=2)
    tree = load_config(extracted).dump()
    tree["pretrained"].update(model="atst_frame", checkpoint=str(weights), e2e=True, freezed=False)
    tree["pretrained"]["gradient_checkpointing"] = True
    tree["net"].update(embedding_size=None, dropout=0.3, dropstep_recurrent=0.3)
    tree["training"].update(
        mixup=None,
        consistency="ict",
        accumulate_batches=2,
        n_test_thresholds=3,
        enable_progress_bar=False,
    )
    tree["training"]["enable_progress_bar"] = False
    tree["augment"].update(mixup_prob=0.7, shift_std=0.1, filter_prob=0.5)
    tree["opt"].update(layer_decay=0.7, lr_encoder=0.001)
    tree["energy"]["enabled"] = False
    path = folder / "zweite stufe.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    config = load_config(path)
    whole = run.fit(config, run.RunOptions(str(folder / "whole")))
    options = run.RunOptions(str(folder / "killed"))
    with pytest.raises(RuntimeError, match="killed"):
        run.fit(config, options, callbacks=[StopAfterFirstEpoch()])
    torch.manual_seed(99)
    np.random.seed(99)
    run.fit(config, options, resume_from="auto")
    return folder, path, whole, run_folder(folder / "killed")


def test_resumed_it_ends_as_it_would_have(stage):
    _, _, whole, resumed = stage
    last = "checkpoints/last.ckpt"
    one, two = (torch.load(run / last, weights_only=True) for run in (whole, resumed))
    assert one["epoch"] == two["epoch"] == 1
    for name, value in one["state_dict"].items():
        assert torch.equal(value, two["state_dict"][name]), name
    assert (whole / last).read_bytes() == (resumed / last).read_bytes()
    assert (whole / "results.json").read_bytes() == (resumed / "results.json").read_bytes()
    # The student's encoder has left its weights, and the teacher's follows at a distance.
    student, teacher = (
        {
            name.removeprefix(prefix): value
            for name, value in one["state_dict"].items()
            if name.startswith(prefix)
        }
        for prefix in ENCODER_PREFIXES.values()
    )
    assert student.keys() == teacher.keys()
    assert any(not torch.equal(value, teacher[name]) for name, value in student.items())


def best_of(folder):
    (found,) = (folder / "checkpoints").glob("epoch=*.ckpt")
    return found


def test_its_checkpoint_needs_no_other_file(stage, tmp_path):
    """Described, exported with its own encoder and run by onnxruntime, which finds what we find."""
    folder, _, whole, _ = stage
    checkpoint = tmp_path / "allein é.ckpt"
    checkpoint.write_bytes(best_of(whole).read_bytes())
    told = run_main("train_pretrained.py", "--checkpoint_info", checkpoint, cwd=tmp_path)
    assert told.returncode == 0 and "ATST-Frame" in told.stdout, told.stdout + told.stderr
    (weights,) = folder.glob("*.pt")
    away = weights.rename(folder / "away")
    try:
        out = ("--export", "onnx", "--output_dir", tmp_path / "out", "--model", "teacher")
        done = run_main("predict.py", "--checkpoint", checkpoint, *out, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        detector = SoundEventDetector.from_checkpoint(checkpoint, role="teacher", device="cpu")
    finally:
        away.rename(weights)
    waveform = np.random.default_rng(0).uniform(-0.3, 0.3, 160_000).astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "detector_teacher.onnx"))
    (given,) = session.get_inputs()
    strong = session.run(["strong"], {given.name: waveform[None]})[0]
    expected = detector.detect(waveform, sample_rate=16000).unprocessed
    np.testing.assert_allclose(strong[0].T, expected, rtol=0, atol=1e-4)


def test_its_boxes_are_tuned_for_it(stage, tmp_path):
    _, conf, whole, _ = stage
    given = ("--conf_file", conf, "--test_from_checkpoint", best_of(whole), "--decoder", "boxes")
    done = run_main("optuna_pretrained.py", *given, "--sweep", "--log_dir", "boxes", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (tuned,) = (tmp_path / "boxes").rglob("best.yaml")
    config = load_config(tuned)
    assert config.decoder.kind == "boxes" and config.pretrained.e2e
    assert sha256_of(best_of(whole)) in tuned.read_text(encoding="utf-8")
