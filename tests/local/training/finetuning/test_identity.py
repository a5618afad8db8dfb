"""What a training knows of its encoders' weights, and that it reads no stored embeddings."""

from __future__ import annotations

from pathlib import Path

import pytest

from desed_task.atomic_files import sha256_of
from desed_task.encoders.random_weights import write_random_encoder
from desed_task.errors import InputError
from local.checkpoints.changes import Progress, compare
from local.checkpoints.resume import check_same_data
from local.data.corpus_checks import no_embeddings, open_embeddings
from local.data.datamodule import SedDataModule
from local.data.loading.packed_corpora import choose_packing
from local.doctor.embedding_files import check_encoders, checkpoint_findings, embeddings_report
from local.stores.size import with_embedding_size
from local.submission.encoders import titles
from local.training.announcements import encoder_line
from local.training.finetuning.encoders import load_step_encoder
from tests.local.training.finetuning.small import config_of


def test_a_training_is_not_resumed_with_other_weights(tmp_path):
    config = config_of(tmp_path, "atst_frame", "beats")
    data = SedDataModule(config)
    before = data.digests("fit")
    first, second = (Path(one.file) for one in config.pretrained.encoders)
    assert before == {
        "pretrained.checkpoint": {
            "atst_frame": {"sha256": sha256_of(first)},
            "beats": {"sha256": sha256_of(second)},
        }
    }
    assert data.digests("test") == {}
    check_same_data(Path("a.ckpt"), before, data.digests("fit"), data.task)
    write_random_encoder(second, "beats", seed=9, width=128, n_blocks=2)
    assert data.digests("fit") == before  # of a training that has read them
    now = SedDataModule(config).digests("fit")
    with pytest.raises(InputError, match=r"pretrained.checkpoint: other BEATs weights \(SHA-256"):
        check_same_data(Path("a.ckpt"), before, now, data.task)
    second.unlink()
    check_same_data(Path("a.ckpt"), before, SedDataModule(config).digests("fit"), data.task)


def test_no_stored_embeddings_are_read_checked_or_packed(tmp_path):
    config = config_of(tmp_path, "atst_frame")
    task = config.detection_task
    assert no_embeddings(config, task.used) == []
    problems: list[str] = []
    assert open_embeddings(task.used[0], ["a"], {}, config, problems, ()) == (None, ())
    assert problems == []
    assert choose_packing(config, config.grid).kind == "none"
    # What they would have been is not looked for either.
    assert with_embedding_size(config).net.embedding_size == 64
    (check,) = check_encoders(config, task.used)
    assert check.checkpoint.state == "sound" and not check.readers
    report = embeddings_report(task.used[0], config, check, None, {})
    assert report.state == "unused"


def test_the_data_check_says_that_a_training_would_fail_without_its_weights(tmp_path):
    config = config_of(tmp_path, "atst_frame")
    Path(config.pretrained.encoders[0].file).unlink()
    (found,) = checkpoint_findings(config, check_encoders(config, ()), ())
    assert found.level == "error" and "no such file of ATST-Frame weights" in found.message
    with pytest.raises(InputError, match="no such file of ATST-Frame weights"):
        load_step_encoder(config)


def test_lines_say_what_is_done_with_the_encoders(tmp_path):
    config = config_of(tmp_path, "atst_frame", "beats", n_blocks=[1, None])
    encoder = load_step_encoder(config)
    line = encoder_line(encoder, config, 2.0)
    assert line.startswith("inside the step: 1 block of ATST-Frame and BEATs, fine-tuned, ")
    assert f"{encoder.n_parameters() / 1e6:.2f} M parameters" in line
    assert titles(config) == ["ATST-Frame, fine-tuned", "BEATs, fine-tuned"]
    frozen = config_of(tmp_path, "atst_frame", freezed=True)
    assert "kept as it is" in encoder_line(load_step_encoder(frozen), frozen, 2.0)


def test_more_epochs_are_accepted_where_the_rates_so_far_stay_the_same(tmp_path):
    """Half a cosine falls from the end of the warm-up on, a quarter from epoch_decay on."""
    training = {"n_epochs": 10, "epoch_decay": 8, "n_epochs_warmup": 1, "validation_interval": 1}
    for annealing, n_refused in (("quarter_cosine", 0), ("half_cosine", 1)):
        opt = {"annealing": annealing, "warmup": "linear", "warmup_steps": 12}
        sections = {"training": training, "opt": opt}
        before = config_of(tmp_path, "atst_frame", sections=sections).dump()
        longer = {**sections, "training": {**training, "n_epochs": 12}}
        now = config_of(tmp_path, "atst_frame", sections=longer).dump()
        assert len(compare(before, now, Progress(5, 20, 0)).refused) == n_refused
        early = compare(before, now, Progress(3, 12, 0))
        assert early.refused == ()
