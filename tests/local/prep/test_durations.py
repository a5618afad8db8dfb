"""Durations tables."""

import numpy as np
import pytest
import soundfile as sf

from desed_task.errors import InputError
from local.prep.durations import complete_durations, write_durations


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "audio"
    folder.mkdir()
    for name, n_samples in (("b.wav", 441000), ("a.wav", 4411)):
        sf.write(folder / name, np.zeros(n_samples), 44100)
    return folder


def test_a_folders_files_are_listed_by_name(folder, tmp_path):
    table = tmp_path / "metadata" / "durations.tsv"
    assert write_durations(folder, table, progress=False) == ()
    assert table.read_text() == "filename\tduration\na.wav\t0.100023\nb.wav\t10.0\n"


def test_given_files_keep_their_order(folder, tmp_path):
    files = [folder / "b.wav", folder / "a.wav"]
    write_durations(files, tmp_path / "durations.tsv", progress=False)
    rows = (tmp_path / "durations.tsv").read_text().splitlines()
    assert [row.split("\t")[0] for row in rows] == ["filename", "b.wav", "a.wav"]


def test_an_unreadable_file_is_named(folder, tmp_path):
    (folder / "c.wav").write_bytes(b"nothing")
    ((path, reason),) = write_durations(folder, tmp_path / "durations.tsv", progress=False)
    assert path.name == "c.wav"
    assert "is not readable as audio" in reason
    assert len((tmp_path / "durations.tsv").read_text().splitlines()) == 3


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="contains no WAV file"):
        write_durations(tmp_path, tmp_path / "durations.tsv", progress=False)


def test_a_table_is_completed_not_replaced(folder, tmp_path):
    table = tmp_path / "durations.tsv"
    table.write_text("filename\tduration\nz.wav\t3.5\nb.wav\t9.9\n")
    complete_durations(sorted(folder.iterdir()), table, progress=False)
    full = "filename\tduration\nz.wav\t3.5\nb.wav\t9.9\na.wav\t0.100023\n"
    assert table.read_text() == full
    before = table.stat().st_mtime_ns
    complete_durations(sorted(folder.iterdir()), table, progress=False)
    assert table.stat().st_mtime_ns == before
