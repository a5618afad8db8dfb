"""Weights of encoders: which names stand for what, and fetching them from a loopback server."""

import hashlib
import io
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

import local.prep.download.weights_plan as weights_plan
from desed_task.encoders.beats.model import write_random_beats
from desed_task.encoders.loading import load_encoder
from desed_task.encoders.registry import kinds
from desed_task.encoders.released import RELEASED, released, usual_weights
from desed_task.encoders.vit.atst_frame import AtstFrame
from desed_task.encoders.vit.blocks import BlockSizes
from desed_task.errors import InputError
from local.prep.download.encoder_weights import fetch_weights
from local.prep.download.resumable_download import RetryPolicy
from local.prep.download.sources import ENCODERS_PART, load_sources
from local.prep.download.weights_plan import (
    plan_weights,
    weights_of_configuration,
    weights_of_names,
)
from local.schema.encoders import EncoderChoice, Pretrained
from tests.local.prep.download.http_server import Fault, Server

ROOT = Path(__file__).parents[4]
SOURCES = load_sources(ROOT / "confs" / "sources.yaml")
ATST, BEATS = "ATST-F_strong_1.pt", "BEATs_ssl.pt"
SOON = RetryPolicy(tries=2, first_wait_s=0.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Small files of the published layouts: name -> bytes."""
    torch.manual_seed(3)
    state = {
        f"model.atst.{k}": v for k, v in AtstFrame(BlockSizes(64, 128, 2)).state_dict().items()
    }
    state |= {"strong_head.weight": torch.zeros(447, 64), "strong_head.bias": torch.zeros(447)}
    content = io.BytesIO()
    torch.save(state, content)
    beats = tmp_path_factory.mktemp("weights") / "beats.pt"
    write_random_beats(beats, seed=3)
    return {ATST: content.getvalue(), BEATS: beats.read_bytes()}


@pytest.fixture
def host(files):
    with Server() as host:
        for name, content in files.items():
            host.put(name, content)
        yield host


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "ordner mit ü" / "pretrained_models"


def fetched(host, folder, *names, table=SOURCES):
    chosen = weights_of_names(names).rows
    plan = plan_weights(chosen, table, mirror=host.url, folder=folder)
    return list(fetch_weights(plan, progress=False, policy=SOON))


def with_row(file, **values):
    """The table of sources with values of one row changed."""
    rows = [replace_row(row, values) if row.file == file else row for row in SOURCES.sources]
    return SOURCES.model_copy(update={"sources": tuple(rows)})


def replace_row(row, values):
    return type(row).model_validate({**row.model_dump(), **values})


# ---- which


def test_the_table_has_every_release_and_the_library_says_what_it_is():
    rows = [source for source in SOURCES.sources if source.part == ENCODERS_PART]
    assert {(row.file, row.licence) for row in rows} == {(r.file, r.licence) for r in RELEASED}
    assert len(rows) == len(RELEASED) == 15
    release = "https://github.com/fschmid56/PretrainedSED/releases/download/v0.0.1"
    assert all(row.url == f"{release}/{row.file}" and not row.into for row in rows)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("beats",), ["beats_ssl"]),  # which pretrained.model: beats means
        (("atst_frame",), ["atst_frame_strong"]),
        (("m2d_weak", "asit"), ["m2d_weak", "asit_strong"]),
        (("fpasst,beats_strong",), ["fpasst_strong", "beats_strong"]),
        (("beats", "beats_ssl", "beats"), ["beats_ssl"]),
        (("all",), [row.name for row in RELEASED]),
    ],
)
def test_names(names, wanted):
    assert [row.name for row in weights_of_names(names).rows] == wanted


def test_a_short_name_says_what_it_was_taken_for():
    (beats, atst) = weights_of_names(("beats", "asit_weak", "atst_frame")).notes
    assert beats == (
        "beats: beats_ssl, as in the published baseline; there are beats_weak and beats_strong too"
    )
    assert atst.startswith("atst_frame: atst_frame_strong, the recipe's default; ")
    assert weights_of_names(("beats_ssl",)).notes == ()


def test_usual_weights_are_those_that_the_recipe_looks_for():
    for kind in kinds().values():
        usual = usual_weights(kind.name)
        assert usual.file == kind.default_file or kind.name == "beats"
    with pytest.raises(InputError, match="no released weights 'wav2vec'"):
        usual_weights("wav2vec")


def test_wrong_names_list_all_that_there_are():
    with pytest.raises(InputError) as error:
        weights_of_names(("beats", "beats_strogn", "passt"))
    told = str(error.value)
    assert told.startswith("--only_encoders beats_strogn passt: no such released weights; known: ")
    assert all(row.name in told for row in RELEASED) and "fpasst, asit, m2d and all" in told


@pytest.mark.parametrize(
    ("section", "wanted", "note"),
    [
        ({}, ["beats_ssl"], "names ./pretrained_models/BEATs_iter3_plus_AS2M.pt, which is not"),
        ({"model": "m2d"}, ["m2d_strong"], "m2d: M2D (AudioSet, labels of events), which the conf"),
        (
            {"model": ["beats", "asit"], "checkpoint": ["w/BEATs_strong_1.pt", None]},
            ["beats_strong", "asit_strong"],
            "beats: BEATs (AudioSet, labels of events), which the configuration names",
        ),
    ],
)
def test_without_names_those_of_the_configuration(section, wanted, note, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chosen = weights_of_configuration(Pretrained.model_validate(section).encoders)
    assert [row.name for row in chosen.rows] == wanted
    assert note in " ".join(chosen.notes)


def test_a_file_of_the_configuration_that_is_there_is_enough(tmp_path):
    path = tmp_path / "mine.pt"
    path.touch()
    chosen = weights_of_configuration([EncoderChoice("beats", str(path), None)])
    assert chosen.rows == () and f"beats: {path}, which the configuration" in chosen.notes[0]
    with pytest.raises(InputError, match=r"pretrained.model mel: no weights of it are released"):
        weights_of_configuration([EncoderChoice("mel", "mel.pt", None)])


def test_an_older_table_is_told_what_it_lacks():
    rows = tuple(row for row in SOURCES.sources if row.file != "M2D_weak.pt")
    older = SOURCES.model_copy(update={"sources": rows})
    with pytest.raises(InputError, match=r"no row of part encoders for M2D_weak\.pt; copy"):
        plan_weights([released("m2d_weak"), released("m2d_ssl")], older)


def test_rows_of_weights_have_no_folder(tmp_path):
    row = {"part": "encoders", "file": "x.pt", "url": "http://a.example/x.pt"}
    path = tmp_path / "sources.yaml"
    for more in ({"into": "models"}, {"flat": True}, {"file": "*.pt", "url": None, "record": 3}):
        path.write_text(yaml.safe_dump({"sources": [{**row, **more}]}))
        with pytest.raises(InputError, match=r"weights of encoders are single files in \./pretr"):
            load_sources(path)
    path.write_text(yaml.safe_dump({"sources": [{**row, "part": "synth"}]}))
    with pytest.raises(InputError, match=r"file x\.pt: give into, a folder below --basedir"):
        load_sources(path)


# ---- fetching


def test_weights_arrive_and_are_opened(host, folder, files):
    outcomes = fetched(host, folder, "atst_frame", "beats")
    assert [one.state for one in outcomes] == ["fetched", "fetched"]
    atst, beats = outcomes
    digest = hashlib.sha256(files[ATST]).hexdigest()
    assert atst.text.startswith(
        f"{folder / ATST}: ATST-Frame, 2 blocks of 64 features, with a strong head of 447 classes\n"
        f"  SHA-256 {digest}\n  next: "
    )
    assert atst.next_command.endswith("extract_embeddings.py --set pretrained.model=atst_frame")
    assert beats.content == "BEATs, 2 blocks of 128 features"
    # Not the default file of BEATs, so it has to be named; as a shell takes it.
    assert beats.next_command.endswith(f"--set pretrained.checkpoint='{folder / BEATS}'")
    assert (folder / ATST).read_bytes() == files[ATST]
    assert load_encoder(folder / ATST).sha256 == atst.sha256 == digest
    assert [path.name for path in (folder / "downloads").iterdir()] == [".lock"]


def test_what_is_there_is_opened_and_not_asked_for(host, folder, files):
    folder.mkdir(parents=True)
    (folder / ATST).write_bytes(files[ATST])
    (outcome,) = fetched(host, folder, "atst_frame")
    assert (outcome.state, host.requests) == ("there before", [])
    assert outcome.content.startswith("ATST-Frame, 2 blocks")
    assert not (folder / "downloads").exists()


def test_a_download_put_there_by_hand_is_taken(host, folder, files):
    (folder / "downloads").mkdir(parents=True)
    (folder / "downloads" / ATST).write_bytes(files[ATST])
    (outcome,) = fetched(host, folder, "atst_frame")
    assert outcome.state == "fetched" and not host.asked(f"/{ATST}")
    assert (folder / ATST).read_bytes() == files[ATST]


def test_a_cut_download_is_resumed_by_the_next_run(host, folder, files):
    size = len(files[ATST])
    host.files[f"/{ATST}"].faults += [Fault(cut_at=size // 2), Fault(cut_at=0), Fault(cut_at=0)]
    (outcome,) = fetched(host, folder, "atst_frame")
    assert outcome.state == "FAILED" and "received and kept" in outcome.problem
    assert not (folder / ATST).exists()
    part = folder / "downloads" / f"{ATST}.part"
    assert part.stat().st_size == size // 2
    plan = plan_weights([released("atst_frame")], SOURCES, mirror=host.url, folder=folder)
    (row,) = plan.rows
    assert row.row.state in ("49 % there", "50 % there") and plan.left == size - size // 2
    (outcome,) = fetched(host, folder, "atst_frame")
    assert outcome.state == "fetched"
    assert host.asked(f"/{ATST}")[-1]["Range"] == f"bytes={size // 2}-"
    assert (folder / ATST).read_bytes() == files[ATST]


PAGES = {
    b"<!DOCTYPE html><html>log in</html>": "a web page instead of a file of weights",
    b'\n {"message": "Not Found"}': "JSON instead of a file of weights",
    b"version https://git-lfs.github.com/spec/v1\n": "a pointer of Git LFS instead of",
    b"PK\x03\x04 half a file": "not a file of weights",
    b"": "not a file of weights",
}


@pytest.mark.parametrize("content", PAGES)
def test_other_content_is_refused_and_deleted(host, folder, files, content):
    host.put(ATST, content, content_type="application/octet-stream")
    wrong, right = fetched(host, folder, "atst_frame", "beats")
    assert wrong.state == "FAILED" and right.state == "fetched"
    assert PAGES[content] in wrong.problem
    assert wrong.problem.endswith("; deleted; fetch it from another server (--mirror)")
    assert not (folder / ATST).exists() and not (folder / "downloads" / ATST).exists()
    host.put(ATST, files[ATST])
    assert fetched(host, folder, "atst_frame")[0].state == "fetched"


def test_a_web_page_is_refused_by_its_type(host, folder):
    host.put(ATST, b"hello", content_type="text/html")
    (outcome,) = fetched(host, folder, "atst_frame")
    assert "a web page came instead of the file" in outcome.problem


@pytest.mark.parametrize("place", [ATST, f"downloads/{ATST}"])
def test_a_wrong_file_by_hand_is_kept(host, folder, place):
    path = folder / place
    path.parent.mkdir(parents=True)
    path.write_bytes(b"<html>saved by a browser</html>")
    (outcome,) = fetched(host, folder, "atst_frame")
    told = f"{path}: a web page instead of a file of weights; move it away and run the same command"
    assert outcome.problem.startswith(told)
    assert path.read_bytes().startswith(b"<html>") and not host.asked(f"/{ATST}")


def test_weights_of_another_encoder_are_named(host, folder, files):
    host.put(ATST, files[BEATS])
    (outcome,) = fetched(host, folder, "atst_frame")
    assert f"{ATST}: holds BEATs, not ATST-Frame" in outcome.problem
    # They are weights, so fetching them once more would change nothing.
    assert (folder / "downloads" / ATST).exists() and not (folder / ATST).exists()


def test_tensors_that_are_missing_are_named(host, folder, files):
    state = torch.load(io.BytesIO(files[ATST]), weights_only=True)
    del state["model.atst.blocks.1.mlp.fc2.bias"]
    content = io.BytesIO()
    torch.save(state, content)
    host.put(ATST, content.getvalue())
    (outcome,) = fetched(host, folder, "atst_frame")
    assert "blocks.1.mlp.fc2.bias is missing" in outcome.problem


def test_a_checksum_of_the_table_decides(host, folder, files):
    digest = hashlib.sha256(files[ATST]).hexdigest()
    (outcome,) = fetched(
        host, folder, "atst_frame", table=with_row(ATST, checksum="md5:" + "0" * 32)
    )
    assert "has md5 " in outcome.problem and "twice; the file was deleted" in outcome.problem
    table = with_row(ATST, checksum=f"sha256:{digest}", size=len(files[ATST]))
    assert fetched(host, folder, "atst_frame", table=table)[0].state == "fetched"
    (folder / ATST).write_bytes(files[BEATS])
    (outcome,) = fetched(host, folder, "atst_frame", table=table)
    assert f"{ATST}: has " in outcome.problem and "move it away" in outcome.problem
    assert (folder / ATST).read_bytes() == files[BEATS]


def test_a_file_that_no_server_has(host, folder):
    outcomes = fetched(host, folder, "m2d", "atst_frame")
    assert [one.state for one in outcomes] == ["FAILED", "fetched"]
    assert "M2D_strong_1.pt: not found" in outcomes[0].problem


def test_a_plan_states_address_size_and_licence(host, folder, files, monkeypatch):
    plan = plan_weights(
        [released("atst_frame"), released("m2d")], SOURCES, mirror=host.url, folder=folder
    )
    told = plan.text()
    assert f"\n  {host.url}/{ATST}\n" in told
    assert "licence: not stated (code: MIT; ATST's own checkpoints: MIT)" in told
    assert weights_plan.format_bytes(len(files[ATST])) in told
    assert not plan.is_feasible and "not found (HTTP 404)" in told
    assert not folder.exists()
    small = replace(plan, free=1000)
    assert "NOT ENOUGH" in small.text()
    with pytest.raises(InputError, match=r"has room for 1\.0 kB, but .* must be fetched; free"):
        next(fetch_weights(small))


def test_a_folder_that_is_a_file(host, folder):
    folder.parent.mkdir()
    folder.touch()
    with pytest.raises(InputError, match=r"downloads/\.lock: cannot be written"):
        fetched(host, folder, "atst_frame")


def test_two_runs_do_not_fetch_into_one_folder(host, folder):
    going = threading.Event()
    host.files[f"/{ATST}"].faults.append(Fault(hang=going))
    first = threading.Thread(target=fetched, args=(host, folder, "atst_frame"))
    first.start()
    while not host.asked(f"/{ATST}"):
        pass
    with pytest.raises(InputError, match="another run is fetching"):
        fetched(host, folder, "beats")
    going.set()
    first.join()
    assert (folder / ATST).exists()
