"""The table of sources, and what records add to it."""

from pathlib import Path

import pytest
import yaml

from desed_task.errors import InputError
from local.config import load_config
from local.prep.download.sources import (
    ENCODERS_PART,
    FETCHED_PARTS,
    SourceTable,
    is_checksum,
    load_sources,
)
from local.prep.download.zenodo_listing import announced_size, remote_files
from local.prep.layout import DataLayout
from tests.local.prep.download.http_server import Fault, Server

ROOT = Path(__file__).parents[4]
ROW = {"part": "synth", "file": "x.zip", "url": "http://a.example/x.zip", "into": "x"}
MD5 = "md5:" + "0123456789abcdef" * 2


@pytest.fixture
def server():
    with Server() as server:
        yield server


def table(*rows, **about):
    return SourceTable.model_validate({"sources": [{**ROW, **row} for row in rows], **about})


def refused(tmp_path, tree):
    path = tmp_path / "sources.yaml"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(InputError) as error:
        load_sources(path)
    return str(error.value)


def test_our_table_has_the_records_of_the_recipe():
    sources = load_sources(ROOT / "confs" / "sources.yaml").sources
    assert {source.part for source in sources} == {*FETCHED_PARTS, ENCODERS_PART}
    data = [source for source in sources if source.part != ENCODERS_PART]
    assert {(source.record, source.file) for source in data} == {
        (4639776, "audioset_metadata.tar.gz"),
        (6444477, "audioset_strong.tsv"),
        (6026841, "dcase_synth.zip"),
        (7244360, "development_audio.zip"),
        (7244360, "development_annotation.zip"),
        (11425124, "*.zip"),
        (11280943, "baseline_pretrained_2024.zip"),
    }


def test_our_table_goes_with_our_configuration(tmp_path):
    """What a source gives lies in the folder that it goes into."""
    data = load_config(ROOT / "confs" / "pretrained.yaml").data
    layout = DataLayout(data, tmp_path, tmp_path)
    for source in load_sources(ROOT / "confs" / "sources.yaml").sources:
        for key in source.gives:
            wanted = getattr(layout, key) if key.startswith("rec") else layout.made(key)
            assert (tmp_path / source.into) in (wanted, *wanted.parents), (source.file, key)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"part": "music"}, "sources.1.part: no such part; known: synth, strong"),
        ({"file": "../x.zip"}, "sources.1.file: is not the name of a file"),
        ({"file": "a\\x.zip"}, "sources.1.file: is not the name of a file"),
        ({"url": "ftp://a.example/x"}, "sources.1.url"),
        ({"url": None}, "give its url or its record"),
        ({"size": 0}, "sources.1.size"),
        ({"checksum": "md5:12"}, "sources.1.checksum: is neither md5: with 32 nor sha256:"),
        ({"into": "/etc"}, "sources.1.into: must be a folder below --basedir"),
        ({"into": "../x"}, "sources.1.into: must be a folder below --basedir"),
        ({"into": "."}, "sources.1.into: must be a folder below --basedir"),
        (
            {"gives": ["sinth_folder"]},
            "sources.1.gives: sinth_folder: not a key of the data section",
        ),
        ({"file": "*.zip"}, "a pattern requires a record"),
        ({"sise": 3}, "sources.1.sise"),
    ],
)
def test_wrong_rows_are_named(tmp_path, row, problem):
    assert problem in refused(tmp_path, {"sources": [{**ROW, **row}]})


def test_all_mistakes_come_at_once(tmp_path):
    tree = {"mirror": "x", "sources": [{**ROW, "part": "music"}, {**ROW, "into": "/"}]}
    text = refused(tmp_path, tree)
    assert text.startswith(f"{tmp_path / 'sources.yaml'} cannot be used:\n")
    assert all(place in text for place in ("mirror: ", "sources.1.part: ", "sources.2.into: "))


def test_names_that_a_mirror_could_not_tell_apart_are_refused(tmp_path):
    assert "x.zip: more than one row" in refused(tmp_path, {"sources": [ROW, ROW]})


@pytest.mark.parametrize("text", ["[", "\tx: 1", "3", "sources: []"])
def test_what_is_no_table(tmp_path, text):
    path = tmp_path / "sources.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=str(path)):
        load_sources(path)
    with pytest.raises(InputError, match="no such table of sources"):
        load_sources(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("text", "valid"),
    [(MD5, True), (MD5.upper().replace("MD5", "md5"), True), ("sha256:" + "0" * 64, True)]
    + [(text, False) for text in ("", MD5[:-1], "md5:" + "g" * 32, "sha1:" + "0" * 40, "0" * 32)],
)
def test_checksums(text, valid):
    assert is_checksum(text) == valid


def test_a_mirror_is_an_address():
    assert table({}).redirected(None).mirror is None
    assert table({}).redirected("http://m.example/a/").mirror == "http://m.example/a/"
    with pytest.raises(InputError, match="--mirror /data: not an address"):
        table({}).redirected("/data")


def test_sizes_and_checksums_come_from_the_record(server):
    server.put_record(7, {"x.zip": b"abc", "y.zip": b""})
    rows = table({"record": 7}, zenodo=server.url)
    remote = remote_files(rows.sources[0], rows)["x.zip"]
    assert remote.url == ROW["url"]
    assert (remote.size, remote.checksum) == (3, "md5:900150983cd24fb0d6963f7d28e17f72")


def test_the_table_has_the_last_word(server):
    server.put_record(7, {"x.zip": b"abc"})
    rows = table({"record": 7, "size": 4}, zenodo=server.url)
    remote = remote_files(rows.sources[0], rows)["x.zip"]
    assert (remote.size, remote.checksum) == (4, "md5:900150983cd24fb0d6963f7d28e17f72")
    server.requests.clear()
    rows = table({"record": 7, "size": 4, "checksum": MD5}, zenodo=server.url)
    assert remote_files(rows.sources[0], rows)["x.zip"].checksum == MD5
    assert server.requests == []  # nothing was left to ask


def test_a_mirror_redirects_everything(server):
    server.put_record(7, {"x.zip": b"abc"})
    rows = table({"record": 7}, zenodo="http://zenodo.invalid").redirected(server.url + "/")
    remote = remote_files(rows.sources[0], rows)["x.zip"]
    assert (remote.url, remote.size) == (f"{server.url}/x.zip", 3)


def test_a_pattern_is_what_the_record_has(server):
    odd = dict.fromkeys(("../c.zip", "c/d.zip", "c\\d.zip", ".c.zip"), b"c")
    server.put_record(7, {"b 1.zip": b"b", "a.zip": b"a", "readme.txt": b"r", **odd})
    rows = table({"record": 7, "file": "*.zip", "url": None}, zenodo=server.url)
    found = remote_files(rows.sources[0], rows)
    assert {name: remote.url.removeprefix(server.url) for name, remote in found.items()} == {
        "a.zip": "/records/7/files/a.zip",
        "b 1.zip": "/records/7/files/b%201.zip",
    }
    rows = table({"record": 7, "file": "*.tar", "url": None}, zenodo=server.url)
    with pytest.raises(InputError, match=r"none of a.zip, .* matches \*\.tar"):
        remote_files(rows.sources[0], rows)
    rows = table({"record": 8, "file": "*.tar", "url": None}, zenodo=server.url)
    with pytest.raises(InputError, match=r"/api/records/8: no listing of the record"):
        remote_files(rows.sources[0], rows)


@pytest.mark.parametrize(
    "listing",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"files": 3}',
        b'{"files": [3]}',
        b'{"files": [{"key": "x.zip", "size": "3", "checksum": "md5:1"}]}',
        b'{"files": [{"key": "x.zip", "size": -1, "checksum": 4}]}',
        b"<html>",
    ],
)
def test_an_odd_listing_is_as_good_as_none(server, listing):
    server.put("api/records/7", listing)
    rows = table({"record": 7}, zenodo=server.url)
    remote = remote_files(rows.sources[0], rows)["x.zip"]
    assert (remote.size, remote.checksum) == (None, None)


@pytest.mark.parametrize("status", [404, 429, 500])
def test_no_listing(server, status):
    server.put("api/records/7", b"{}", faults=[Fault(status=status)] * 9)
    rows = table({"record": 7}, zenodo=server.url)
    assert remote_files(rows.sources[0], rows)["x.zip"].size is None


def test_a_server_says_how_large_a_file_is(server):
    assert announced_size(server.put("x.zip", b"abc")) == 3
    assert announced_size(server.put("x.zip", b"abc", chunked=True)) is None
    assert announced_size("http://127.0.0.1:1/x.zip") is None
    with pytest.raises(InputError, match=r"y\.zip: not found \(HTTP 404\)"):
        announced_size(server.url + "/y.zip")
