"""Another encoder than BEATs, and two at once, from the mini corpus to tested checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml

from desed_task.atomic_files import sha256_of
from desed_task.checkpoints.encoder_specs import encoders_in
from desed_task.dataio.embeddings import EmbeddingReader
from desed_task.dataio.packed_format import PackedSet
from desed_task.encoders.weights_file import MINI_ATST, MINI_BEATS
from desed_task.errors import InputError
from local import run
from local.config import load_config
from local.data.datamodule import SedDataModule
from local.doctor.check import check_data
from local.stores.folders import any_embeddings
from tests.in_process import run_main
from tests.scripts.conftest import run_folder

pytestmark = pytest.mark.usefixtures("undrawn")

QUICK = ("energy.enabled=false", "training.n_epochs=1", "training.n_epochs_warmup=0")
BOTH = "pretrained.model=[beats, atst_frame]"


class Encoders(NamedTuple):
    """The mini corpus with embeddings of two encoders."""

    conf: Path
    stores: Path
    atst: Path

    @property
    def one(self) -> tuple[str, ...]:
        """Values that choose the second encoder alone."""
        return (*self.folder, "pretrained.model=atst_frame", f"pretrained.checkpoint={self.atst}")

    @property
    def both(self) -> tuple[str, ...]:
        """Values that choose both."""
        return (*self.folder, BOTH, f"pretrained.checkpoint=[null, '{self.atst}']")

    @property
    def turned(self) -> tuple[str, ...]:
        """Both in the other order."""
        order = "pretrained.model=[atst_frame, beats]"
        return (*self.folder, order, f"pretrained.checkpoint=['{self.atst}', null]")

    @property
    def folder(self) -> tuple[str, ...]:
        return (f"pretrained.extracted_embeddings_dir={self.stores}",)

    @property
    def store(self) -> Path:
        return self.stores / f"atst_frame-{sha256_of(self.atst)[:8]}"


def sets(values: tuple[str, ...]) -> list[str]:
    return [word for value in values for word in ("--set", value)]


@pytest.fixture(scope="module")
def encoders(extracted: Path, mini_root: Path, tmp_path_factory) -> Encoders:
    """The embeddings of both, those of BEATs as they were before there were others."""
    stores = tmp_path_factory.mktemp("Kodierer ä") / "stores"
    beats = Path(load_config(extracted).pretrained.extracted_embeddings_dir) / "beats"
    shutil.copytree(beats, stores / "beats")
    made = Encoders(extracted, stores, mini_root / "data" / "mini" / MINI_ATST)
    before = {path: path.read_bytes() for path in stores.rglob("*.hdf5")}
    done = run_main(
        *("extract_embeddings.py", "--conf_file", extracted, *sets(made.both)), cwd=mini_root
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"embeddings of BEATs: {stores / 'beats'}\n" in done.stdout
    assert f"embeddings of ATST-Frame: {made.store}\n" in done.stdout
    assert {path: path.read_bytes() for path in before} == before  # up to date, to the byte
    assert EmbeddingReader(made.store / "devtest.hdf5").identity["encoder"] == "atst_frame"
    assert "encoder" not in EmbeddingReader(stores / "beats" / "devtest.hdf5").identity
    return made


def test_a_second_encoder_goes_through_the_whole_recipe(encoders, tmp_path, capsys):
    packed = f"data.packed_dir={tmp_path / 'packed'}"
    values = (*encoders.one, *QUICK, packed)
    log_dir = tmp_path / "exp"
    words = ("train_pretrained.py", "--conf_file", encoders.conf, "--log_dir", log_dir)
    done = run_main(*words, *sets(values), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = run_folder(log_dir)
    assert yaml.safe_load((folder / "config.yaml").read_text())["net"]["embedding_size"] == 128
    names = {path.name.split(".")[1] for path in (tmp_path / "packed").iterdir()}
    assert names == {encoders.store.name}
    best = next((folder / "checkpoints").glob("epoch*.ckpt"), folder / "checkpoints/last.ckpt")
    stored = torch.load(best, weights_only=True)
    (kept,) = encoders_in(stored["detector"]["embedding"])
    assert kept[:3] == ("atst_frame", 128, sha256_of(encoders.atst))
    tested = run.test(
        load_config(encoders.conf, [*encoders.one, *QUICK]),
        str(best),
        run.RunOptions(str(tmp_path / "tested")),
    )
    assert (tested / "metrics_test").is_dir()
    clip = min(Path(load_config(encoders.conf).data.test_folder).glob("*.wav"))
    events = tmp_path / "events"
    done = run_main(
        *("predict.py", clip, "--checkpoint", folder, "--output_dir", events), cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (events / f"{clip.stem}.json").is_file()
    # Another encoder is no way to go on with it.
    capsys.readouterr()
    options = run.RunOptions(str(tmp_path / "other"))
    for other, told in (
        (encoders.folder, "pretrained.model: 'atst_frame' in the checkpoint, 'beats' here"),
        ((*encoders.one, "pretrained.n_blocks=1"), "pretrained.n_blocks: None in the checkpoint"),
    ):
        config = load_config(encoders.conf, [*other, *QUICK, "net.embedding_size=128"])
        with pytest.raises(InputError, match=told):
            run.fit(config, options, resume_from=str(folder / "checkpoints/last.ckpt"))


def test_two_encoders_at_once(encoders, tmp_path):
    config = load_config(encoders.conf, [*encoders.both, *QUICK])
    folder = run.fit(config, run.RunOptions(str(tmp_path / "exp")), test=False)
    assert yaml.safe_load((folder / "config.yaml").read_text())["net"]["embedding_size"] == 256
    content = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    kept = encoders_in(content["detector"]["embedding"])
    assert [(one.name, one.width) for one in kept] == [("beats", 128), ("atst_frame", 128)]
    assert kept[1].checkpoint_sha256 == sha256_of(encoders.atst)
    options = run.RunOptions(str(tmp_path / "exp"))
    last = str(folder / "checkpoints/last.ckpt")
    turned = load_config(encoders.conf, [*encoders.turned, *QUICK])
    with pytest.raises(InputError, match=r"pretrained.model: \['beats', 'atst_frame'\] in the"):
        run.fit(turned, options, resume_from=last)


@pytest.mark.parametrize("aggregation", ["pool1d", "interpolate", "global"])
def test_joined_embeddings_are_those_of_each_on_the_network_s_frames(
    encoders, tmp_path, aggregation
):
    kind = "global" if aggregation == "global" else "frame"
    values = (f"net.aggregation_type={aggregation}", f"net.embedding_type={kind}")
    config = load_config(encoders.conf, [*encoders.both, *values])
    data = SedDataModule(config)
    data.check("test")
    reader = data.loaded["devtest"].embeddings
    clip = data.loaded["devtest"].clip_ids[0]
    assert (reader.size, reader.n_tokens) == (256, config.grid.n_frames)
    assert reader.missing([clip, "no clip"]) == ["no clip"]
    parts = [part.global_(clip) for part in reader.parts]
    np.testing.assert_array_equal(reader.global_(clip), np.concatenate(parts))
    tokens = [torch.from_numpy(part.frame(clip)) for part in reader.parts]
    assert len({part.shape[-1] for part in tokens}) == 2  # other rates
    for place, part in zip((0, 128), tokens, strict=True):
        if aggregation == "interpolate":
            n_tokens = part.shape[-1]
            nearest = ((np.arange(reader.n_tokens) + 0.5) * n_tokens / reader.n_tokens).astype(int)
            wanted = part[:, nearest]
        else:
            wanted = torch.nn.functional.adaptive_avg_pool1d(part, reader.n_tokens)
        np.testing.assert_allclose(reader.frame(clip)[place : place + 128], wanted, atol=1e-6)
    row = data.loaded["devtest"].dataset(config, data.grid)[0]
    assert row.embedding.shape[0] == 256


def test_packed_sets_follow_the_encoders_and_their_order(encoders, tmp_path):
    """Several can lie in one folder, and one whose embeddings changed is written again."""
    from local.data.loading.packed_corpora import pack_corpora

    def packs(*values: str) -> tuple[list[str], set[str]]:
        config = load_config(encoders.conf, [*values, f"data.packed_dir={tmp_path}"])
        data = SedDataModule(config)
        data.check("test")
        loaded = [data.loaded["devtest"]]
        current = pack_corpora(loaded, config, data.grid, progress=False)
        return current, {path.name for path in tmp_path.glob("*.packed")}

    orders = (encoders.folder, encoders.one, encoders.both, encoders.turned)
    for number, values in enumerate(orders, 1):
        current, names = packs(*values)
        assert not current and len(names) == number
        assert packs(*values)[0] == ["devtest"]
    interpolated = (*encoders.both, "net.aggregation_type=interpolate")
    assert not packs(*interpolated)[0] and packs(*interpolated)[0]
    joined = PackedSet(next(tmp_path.glob("devtest.beats+*.pooled*")))
    assert joined.header.embedding_shape == (256, 156)


def test_stores_cannot_be_mixed_up(encoders, tmp_path, mini_root):
    stores = tmp_path / "stores"
    shutil.copytree(encoders.stores, stores)
    values = [*encoders.one, f"pretrained.extracted_embeddings_dir={stores}"]
    wrong = stores / encoders.store.name / "devtest.hdf5"
    wrong.unlink()
    shutil.copy(stores / "beats" / "devtest.hdf5", wrong)
    with pytest.raises(InputError, match=r"devtest.hdf5: has embeddings of beats, not of atst_fra"):
        SedDataModule(load_config(encoders.conf, values)).check("test")
    done = run_main(
        *("extract_embeddings.py", "--conf_file", encoders.conf, "--only", "devtest"),
        *sets(tuple(values)),
        cwd=mini_root,
    )
    assert done.returncode == 2 and "has embeddings of beats, not of atst_frame" in done.stderr
    assert wrong.read_bytes() == (stores / "beats" / "devtest.hdf5").read_bytes()


def test_weights_of_another_encoder_are_refused_before_anything_is_read(encoders, mini_root):
    beats = mini_root / "data" / "mini" / MINI_BEATS
    for values, named in (
        (encoders.folder, (encoders.atst,)),
        (encoders.one, (beats,)),
        (encoders.both, ("beats", beats)),
    ):
        done = run_main(
            *("extract_embeddings.py", "--conf_file", encoders.conf, *sets(values)),
            *("--only", "devtest", "--pretrained_model", *named),
            cwd=mini_root,
        )
        assert done.returncode == 2 and not any_embeddings(encoders.stores / "atst_frame-0")
        assert f"{named[-1]}: holds " in done.stderr and "devtest:" not in done.stdout
    done = run_main(
        *("extract_embeddings.py", "--conf_file", encoders.conf, *sets(encoders.both)),
        *("--pretrained_model", beats),
        cwd=mini_root,
    )
    assert "--pretrained_model names 1 file for 2 encoders (beats, atst_frame)" in done.stderr


def test_fewer_blocks_have_a_folder_of_their_own(encoders, mini_root):
    words = ("extract_embeddings.py", "--conf_file", encoders.conf, "--only", "devtest")
    values = (*encoders.one, "pretrained.n_blocks=1")
    done = run_main(*words, *sets(values), cwd=mini_root)
    assert done.returncode == 0, done.stderr
    fewer = EmbeddingReader(encoders.stores / f"{encoders.store.name}-first1" / "devtest.hdf5")
    whole = EmbeddingReader(encoders.store / "devtest.hdf5")
    assert fewer.identity == {**whole.identity, "n_blocks": 1.0}
    clip = whole.clip_ids[0]
    assert np.abs(fewer.frame(clip) - whole.frame(clip)).max() > 0.1
    done = run_main(*words, *sets((*encoders.one, "pretrained.n_blocks=3")), cwd=mini_root)
    assert done.returncode == 2
    assert "pretrained.n_blocks: atst_frame: stopping after 3 blocks; give 1 to 2" in done.stderr


def test_the_doctor_reports_on_every_encoder(encoders, tmp_path):
    report = check_data(load_config(encoders.conf, list(encoders.both)), progress=False)
    found = [(one.encoder, one.state, one.n_features, one.n_layers) for one in report.checkpoints]
    assert found == [("beats", "sound", 128, 2), ("atst_frame", "sound", 128, 2)]
    assert f"ATST-Frame: {encoders.atst}, 2 layers, 128 features, " in report.text()
    devtest = next(part for part in report.parts if part.name == "devtest")
    assert [one.state for one in devtest.all_embeddings] == ["whole", "whole"]
    report.write(tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text())["checkpoints"]
    assert written[1]["sha256"] == sha256_of(encoders.atst)
    wrong = [*encoders.folder, "pretrained.model=atst_frame"]
    beats = load_config(encoders.conf).pretrained.beats_checkpoint
    report = check_data(
        load_config(encoders.conf, [*wrong, f"pretrained.checkpoint={beats}"]), progress=False
    )
    assert report.checkpoints[0].state == "broken"
    assert any(f"{beats}: holds BEATs, not ATST-Frame" in one.message for one in report.findings)
