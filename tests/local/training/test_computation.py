"""Precision and threads of a training: what is used is stored, and a resumed training keeps it."""

from __future__ import annotations

import pytest
import torch
import yaml

from local import run
from local.checkpoints.resume import LAST_CHECKPOINT, find_resumable
from local.cli import precision
from local.cli.precision import Rates
from local.cli.threads import ThreadChoice
from local.config import load_config
from local.training.computation import with_usable_precision

SLOW, FAST = Rates(92.0, 0.3), Rates(92.0, 180.0)


class Killed(run.Callback):
    """Ends a training after its first epoch, once it is saved."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise RuntimeError("killed")


class Seen(run.Callback):
    """What a training really computes with."""

    def on_train_start(self, trainer, pl_module):
        self.threads, self.precision = torch.get_num_threads(), trainer.precision


@pytest.fixture
def pytorch_threads(monkeypatch):
    """What PyTorch is told; two real threads would wait for each other beside other tests."""
    told = [1]
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: told[-1])
    return told


def test_a_resumed_training_computes_as_it_began(
    extracted, tmp_path, pytorch_threads, monkeypatch, capsys
):
    asked = load_config(extracted, ["training.precision=bf16", "energy.enabled=false"])
    here = run.RunOptions(str(tmp_path))
    monkeypatch.setattr(precision, "measure_rates", lambda: SLOW)
    begin = here._replace(threads=ThreadChoice(3, "flag", ("note",)))
    with pytest.raises(RuntimeError, match="killed"):
        run.fit(asked, begin, callbacks=[Killed()])
    # Kernels change the number too, and back, inside the training.
    assert (pytorch_threads[1], pytorch_threads[-1]) == (3, 1)
    out = capsys.readouterr().out
    assert "slower than float32 (0.3 against 92 GFLOP/s); computing in float32\n" in out
    assert "note\n" in out
    _holds_what_was_used(tmp_path / "version_0", 3)

    # Another machine, on which both would be chosen otherwise.
    monkeypatch.setattr(precision, "measure_rates", lambda: FAST)
    seen, there = Seen(), here._replace(threads=ThreadChoice(1, "machine"))
    folder = run.fit(asked, there, resume_from="auto", callbacks=[seen], test=False)
    assert folder == tmp_path / "version_0"
    assert (seen.threads, seen.precision) == (3, "32-true")
    assert pytorch_threads[-1] == 1
    out = capsys.readouterr().out
    assert "threads: 3, as this training began" in out
    assert "computing with precision 32, as this training began\n" in out
    _holds_what_was_used(folder, 3)
    # Whoever asks for float32, or for another half, means another training.
    for other in ("32", "16"):
        changed = load_config(extracted, [f"training.precision={other}", "energy.enabled=false"])
        assert (find_resumable(tmp_path, changed)[1] is None) == (other == "16")


def _holds_what_was_used(folder, n_threads):
    """As a run of float32 does, besides what was asked for."""
    last = torch.load(folder / "checkpoints" / LAST_CHECKPOINT, weights_only=True)
    records = yaml.safe_load((folder / "run.yaml").read_text())
    for stored in (last, *records):
        found = [stored[key] for key in ("threads", "precision", "asked_precision")]
        assert found == [n_threads, "32", "bf16"]
    assert last["hyper_parameters"]["training"]["precision"] == 32
    assert load_config(folder / "config.yaml").training.precision == 32


def test_a_test_on_a_cpu_says_what_it_computes_with(mini_conf, monkeypatch, capsys):
    monkeypatch.setattr(precision, "measure_rates", lambda: SLOW)
    config = load_config(mini_conf, ["training.precision=16"])
    assert with_usable_precision(config, "cpu").training.precision == 32
    assert capsys.readouterr().out.startswith("training.precision 16: on this CPU")
    assert with_usable_precision(config, "gpu") == config
    assert not capsys.readouterr().out
