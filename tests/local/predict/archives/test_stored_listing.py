"""The listing of an archive: made once, the same for all, complete, with any names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from desed_task.errors import InputError
from local.predict.archives import lengths as measuring
from local.predict.archives import stored_listing
from local.predict.archives.changes import added_since, added_text
from local.predict.archives.shards import Shard
from local.predict.archives.stored_listing import (
    DEVICES,
    SHARDS,
    ArchiveListing,
    listing_of_shards,
    listing_path,
    new_listing,
    recording_of,
)
from local.predict.recordings import find_recordings
from local.predict.sharing import rows_of_shard

RATE = 16000
NAMES = (
    "a/x.wav",
    "b/x.wav",
    "b/deep/y.flac",
    "é 名.wav",
    os.fsdecode(b"odd\xff\t\n.wav"),
    "c.wav",
)


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "in"
    for seconds, name in enumerate(NAMES, 1):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = "FLAC" if name.endswith("flac") else "WAV"
        sf.write(os.fsencode(path), np.zeros(seconds * RATE), RATE, format=kind)
    return folder


def recordings(listing, inputs):
    return [recording_of(row, inputs) for row in listing.rows()]


def test_it_has_what_one_process_finds(archive, tmp_path, monkeypatch):
    (archive / "empty.wav").touch()
    inputs = [archive / "b", archive / "c.wav", archive]
    listing = listing_of_shards(tmp_path / "out", inputs)
    found = find_recordings(inputs)
    assert recordings(listing, inputs) == found.recordings
    assert listing.n_recordings == len(NAMES) + 1 and listing.several
    assert set(found.notes) < set(listing.notes)
    of = {row.listed: row.length for row in listing.rows()}
    assert of["c.wav"].ms == 6000 and not of["c.wav"].is_guess and of["empty.wav"].is_guess
    (guess,) = (note for note in listing.notes if "guessed" in note)
    assert guess == "1 length that a header does not tell: guessed from sizes (empty.wav)"
    # Whoever names the same folder by another path has the recordings by that path.
    monkeypatch.chdir(archive)
    near = [Path("b"), Path("c.wav"), Path(".")]
    again = listing_of_shards(tmp_path / "out", near)
    assert (
        again.path == listing.path and recordings(again, near) == find_recordings(near).recordings
    )


def test_it_is_made_once_and_by_its_inputs(archive, tmp_path, monkeypatch):
    listed = []
    search = stored_listing.search
    monkeypatch.setattr(stored_listing, "search", lambda given: listed.append(1) or search(given))
    first = listing_of_shards(tmp_path / "out", [archive])
    (archive / "later.wav").write_bytes((archive / "c.wav").read_bytes())
    assert listing_of_shards(tmp_path / "out", [archive]).n_recordings == first.n_recordings
    assert len(listed) == 1
    other = listing_of_shards(tmp_path / "out", [archive / "b"])
    assert (other.n_recordings, len(listed)) == (2, 2) and other.path != first.path
    assert new_listing(tmp_path / "out", [archive], SHARDS).n_recordings == first.n_recordings + 1
    assert not list(first.path.parent.glob("*.claim"))


def test_of_two_that_list_at_once_the_first_stays(archive, tmp_path, monkeypatch):
    """The second had been taken for dead, and wakes up when files have come."""
    path = listing_path(tmp_path / "out", [archive])
    write = stored_listing._write

    def late(own, lines):
        write(own, lines)
        monkeypatch.setattr(stored_listing, "_write", write)
        (archive / "later.wav").write_bytes((archive / "c.wav").read_bytes())
        stored_listing._publish(path, [archive])

    path.parent.mkdir(parents=True)
    monkeypatch.setattr(stored_listing, "_write", late)
    stored_listing._publish(path, [archive])
    assert ArchiveListing(path).n_recordings == len(NAMES) + 1
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    before = path.read_bytes()
    (archive / "later.wav").unlink()
    stored_listing._publish(path, [archive])
    assert path.read_bytes() == before


def test_lengths_of_files_that_did_not_change_are_read_once(archive, tmp_path, monkeypatch):
    read = []
    estimate = measuring.estimate_duration_s
    monkeypatch.setattr(
        measuring, "estimate_duration_s", lambda path: read.append(path.name) or estimate(path)
    )
    (archive / "bad.wav").write_text("no sound" * 4000)
    before = list(new_listing(tmp_path / "out", [archive], DEVICES).rows())
    # As long as its size is at the bytes per second of the others.
    (bad,) = (row for row in before if row.listed == "bad.wav")
    assert bad.length.is_guess and 500 < bad.length.ms < 4000
    read.clear()
    sf.write(archive / "c.wav", np.zeros(RATE // 2), RATE)
    after = new_listing(tmp_path / "out", [archive], DEVICES)
    assert sorted(read) == ["bad.wav", "c.wav"]
    assert [row.length.ms for row in after.rows() if row.listed == "c.wav"] == [500]


def test_shards_are_disjoint_complete_and_in_order(archive, tmp_path):
    listing = listing_of_shards(tmp_path / "out", [archive])
    rows = list(listing.rows())
    for total in (1, 2, 3, 9):
        parts = [rows_of_shard(listing, Shard(n + 1, total)) for n in range(total)]
        assert sorted(row for part in parts for row in part) == sorted(rows)
        assert all(part == [row for row in rows if row in part] for part in parts)
    assert sum(not part for part in parts) == 9 - len(rows)


@pytest.mark.parametrize("fault", ["cut", "no json", "another version", "short row"])
def test_a_damaged_listing_is_named(fault, archive, tmp_path):
    path = listing_of_shards(tmp_path / "out", [archive]).path
    lines = path.read_bytes().splitlines(keepends=True)
    if fault == "another version":
        lines[0] = lines[0].replace(b'"version":1', b'"version":2')
    path.write_bytes(
        b"".join(
            {
                "cut": lines[:-1],
                "no json": [b"x", *lines],
                "another version": lines,
                "short row": [*lines[:-1], b'[0,"x"]\n'],
            }[fault]
        )
    )
    with pytest.raises(InputError, match=r"shards-\w+\.jsonl: is not a listing of this version"):
        list(listing_of_shards(tmp_path / "out", [archive]).rows())


def test_nothing_to_list_is_an_error_and_leaves_no_claim(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="contains no audio"):
        listing_of_shards(tmp_path / "out", [tmp_path / "in"])
    assert list((tmp_path / "out/.archive").iterdir()) == []


def test_what_was_added_is_named_and_nothing_else(archive, tmp_path):
    (archive / "link.wav").symlink_to("c.wav")
    (archive / "notes").mkdir()
    listing = listing_of_shards(tmp_path / "out", [archive, archive / "b"])
    assert added_since(listing, [archive, archive / "b"]) == []
    (archive / "a/notes.txt").touch()
    (archive / "c.wav").unlink()
    (archive / ".hidden").mkdir()
    (archive / ".hidden/h.wav").touch()
    assert added_since(listing, [archive, archive / "b"]) == []
    sound = (archive / "a/x.wav").read_bytes()
    for name in ("b/deep/new.wav", "new/er/é.wav", "new/x.wav", "notes/n.flac"):
        (archive / name).parent.mkdir(parents=True, exist_ok=True)
        (archive / name).write_bytes(sound)
    added = added_since(listing, [archive, archive / "b"])
    assert [path.relative_to(archive).as_posix() for path in added] == [
        *("b/deep/new.wav", "new/er/é.wav", "new/x.wav", "notes/n.flac")
    ]
    text = added_text(listing, added)
    assert text.startswith("4 recordings added since the archive was listed (2")
    assert "new/x.wav, ...; list it again with --list when no shard is running" in text


def test_a_file_that_is_listed_by_the_name_of_a_link_to_it_is_not_new(archive, tmp_path):
    (archive / "0 link.wav").symlink_to("a/x.wav")
    listing = listing_of_shards(tmp_path / "out", [archive])
    assert "a/x.wav" not in [row.listed for row in listing.rows()]
    (archive / "a/notes.txt").touch()
    assert added_since(listing, [archive]) == []
    (archive / "a/copy.wav").write_bytes((archive / "a/x.wav").read_bytes())
    os.utime(archive / "a/copy.wav", ns=(0, (archive / "a/x.wav").stat().st_mtime_ns))
    assert added_since(listing, [archive]) == [archive / "a/copy.wav"]
