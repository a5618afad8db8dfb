"""Stage files of another published training load as checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from desed_task.checkpoints.published import PUBLISHED_SPEC, is_published
from desed_task.checkpoints.safe_load import load_safely
from desed_task.checkpoints.spec import DetectorSpec, FrontEnd, detector_of
from desed_task.checkpoints.stored_encoders import encoder_from_checkpoint
from desed_task.errors import InputError
from desed_task.features import LogMel, Scaler
from desed_task.inference.detector import SoundEventDetector
from tests.desed_task.checkpoints.example_checkpoints import saved
from tests.desed_task.checkpoints.stage_files import AGGREGATION, stage_file


@pytest.mark.parametrize("name", ["atst_frame", "fpasst", "beats"])
@pytest.mark.filterwarnings("ignore:.*that the network has no use for")
@torch.no_grad()
def test_scores_are_those_of_network_map_and_encoder(name: str, tmp_path: Path) -> None:
    content, parts = stage_file(name, tmp_path)
    path = saved(content, tmp_path / "stufe zwei.ckpt")
    with pytest.warns(
        UserWarning, match=r"stufe zwei.ckpt: a stage file of another published code"
    ):
        checkpoint = load_safely(path)
    assert is_published(checkpoint) and checkpoint["epoch"] == 3
    spec = DetectorSpec.of_checkpoint(checkpoint, "a")
    assert (spec.encoders[0].name, spec.net["embedding_size"]) == (name, 64)
    assert spec.net["aggregation_type"] == AGGREGATION[name] and spec.holds_encoders
    assert (spec.net["activation"], spec.net["n_RNN_cell"]) == ("cg", 4)
    waveform = 0.1 * torch.randn(1, 160000, generator=torch.Generator().manual_seed(5))
    front_end = FrontEnd(LogMel(**PUBLISHED_SPEC["front_end"]), Scaler(**PUBLISHED_SPEC["scaler"]))
    loaded = detector_of(checkpoint, "a")
    for role, (net, between, encoder) in parts.items():
        tokens = between(encoder(waveform))
        expected = net(front_end(waveform), tokens.transpose(1, 2)).strong
        own = encoder_from_checkpoint(checkpoint, role)
        found = loaded.networks[role](loaded.front_end(waveform), own.embed(waveform).frame)
        torch.testing.assert_close(found.strong, expected, atol=1e-6, rtol=1e-5)
    with pytest.warns(UserWarning, match="a stage file"):
        detector = SoundEventDetector.from_checkpoint(path, role="teacher")
    scores = np.concatenate([*detector.score_blocks([waveform[0].numpy()])])
    assert np.allclose(scores, expected[0].T.numpy(), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_what_is_not_complete_is_named(tmp_path: Path) -> None:
    def refused(content: dict[str, Any]) -> str:
        with pytest.raises(InputError) as error:
            load_safely(saved(content, tmp_path / "größe.ckpt"))
        assert "größe.ckpt" in str(error.value)
        return str(error.value)

    content, _ = stage_file("atst_frame", tmp_path, n_maps=2)
    told = "2 tensors of shape (48, 64) (as_model.model.as_head.weight, as_model.model.as_head1.w"
    assert told in refused(content)
    content, _ = stage_file("atst_frame", tmp_path, n_maps=0)
    assert "the file has no tensor of shape (48, 64); give a file that has it" in refused(content)
    content, _ = stage_file("atst_frame", tmp_path)
    content["student"]["as_model.model.as_head.bias"] = torch.zeros(5)
    assert "as_model.model.as_head.bias has shape (5,), not (48,)" in refused(content)
    content, _ = stage_file("atst_frame", tmp_path)
    del content["teacher"]["as_model.model.atst.blocks.0.attn.qkv.weight"]
    assert "as_model" in refused(content) or "blocks.0.attn.qkv.weight" in refused(content)
    for name in [n for n in content["teacher"] if n.startswith("as_model.")]:
        del content["teacher"][name]
    assert "teacher: no tensors below 'as_model.'" in refused(content)
    other, _ = stage_file("fpasst", tmp_path)
    content["teacher"] = other["teacher"]
    assert "its student takes atst_frame and its teacher fpasst" in refused(content)
    content["teacher"]["list"] = [1]
    assert "teacher: 'list' is not a tensor" in refused(content)
    wide = torch.zeros(1).expand(1 << 30)
    content["teacher"]["list"] = wide
    assert "its tensors would fill" in refused(content)


@pytest.mark.filterwarnings("ignore")
def test_diverged_networks_and_other_classes_are_refused(tmp_path: Path) -> None:
    content, _ = stage_file("beats", tmp_path)
    content["student"]["dense.bias"][1] = float("nan")
    checkpoint = load_safely(saved(content, tmp_path / "a.ckpt"))
    with pytest.raises(InputError, match="its training had diverged"):
        detector_of(checkpoint, "a")
    content["student"]["dense.bias"] = torch.zeros(5)
    content["student"]["dense.weight"] = torch.zeros(5, 8)
    checkpoint = load_safely(saved(content, tmp_path / "b.ckpt"))
    with pytest.raises(InputError, match=r"27 classes, net.nclass 5"):
        detector_of(checkpoint, "b")
