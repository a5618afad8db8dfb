"""Stored embeddings that a checkpoint's encoders may take."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile as sf
import torch

from desed_task.dataio.row_stores.pseudo_labels import PseudoLabelReader
from desed_task.encoders.loading import load_encoder
from local.cli import precision as cli_precision
from local.cli.precision import Rates
from local.data.digests import _pseudo_labels
from local.extraction.embedder import SetFiles, settled_for
from local.extraction.extractor import Extractor
from local.extraction.logits import StoredLookup
from local.schema.encoders import EncoderChoice
from tests.desed_task.inference.example_encoders import write_tiny_atst

CPU = torch.device("cpu")


def test_embeddings_of_all_blocks_are_not_those_of_the_first(tmp_path: Path) -> None:
    weights = write_tiny_atst(tmp_path / "atst.pt")
    sf.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(1).normal(size=16000), 16000)
    clips = {"a": tmp_path / "a.wav"}
    look = StoredLookup(tmp_path / "out", "set", SetFiles(clips, []), 1.0, "32")
    first = load_encoder(weights, n_blocks=1)
    for n_blocks in (None, 1):
        assert look.reader(first, [1]) is None  # beside those of all blocks, which have its shape
        choice = EncoderChoice("atst_frame", str(weights), n_blocks)
        extractor = Extractor.open(choice, look.root, clip_s=1.0, device=CPU, progress=False)
        extractor.extract("set", clips)
    for encoder, n_blocks in ((first, 1), (load_encoder(weights), 0)):
        found = look.reader(encoder, [n_blocks])
        assert found is not None
        with torch.inference_mode():
            waveform = torch.tensor(sf.read(clips["a"], dtype="float32")[0])[None]
            expected = encoder.embed(waveform).frame[0]
        np.testing.assert_allclose(found.frame("a"), expected, atol=1e-4)


def write_labels(path: Path, names: list[str], **attributes: str) -> Path:
    """Pseudo-labels in the published form."""
    with h5py.File(path, "w") as file:
        file["filenames"] = names
        file["strong_logits"] = (
            np.random.default_rng(1).normal(size=(len(names), 4, 3)).astype(np.float32)
        )
        file.attrs.update(attributes)
    return path


def test_digests_leave_out_clips_that_are_held_out(tmp_path: Path) -> None:
    trained = [f"clip{number}" for number in range(3, 20)]
    reader = PseudoLabelReader(write_labels(tmp_path / "weak_train.hdf5", trained))
    both = [_pseudo_labels(reader, clips) for clips in (["clip0", "clip1", *trained], trained)]
    assert both[0] == both[1]
    assert _pseudo_labels(reader, trained[:1]) != both[0]


def test_pseudo_labels_that_were_begun_in_bf16_stay_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_precision, "measure_rates", lambda: Rates(92.0, 0.3))
    assert settled_for("bf16", CPU, tmp_path, lambda: "a+b") == "32"
    write_labels(tmp_path / "x.hdf5", ["a"], checkpoint_sha256="a+b", precision="bf16")
    assert settled_for("bf16", CPU, tmp_path, lambda: "a+b") == "bf16"
    assert settled_for("bf16", CPU, tmp_path, lambda: "a") == "32"
