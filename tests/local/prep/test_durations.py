"""Durations tables."""

import numpy as np
import pytest
import soundfile as sf

from desed_task.dataio.annotations import read_durations
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


def test_files_in_subfolders_are_listed_by_their_paths(folder, tmp_path):
    (folder / "x").mkdir()
    (folder / "b.wav").rename(folder / "x" / "a.WAV")
    table = tmp_path / "durations.tsv"
    write_durations(folder, table, progress=False)
    text = "filename\tduration\na.wav\t0.100023\nx/a.WAV\t10.0\n"
    assert table.read_text() == text
    assert read_durations(table) == {"a": 0.100023, "x/a": 10.0}
    complete_durations(folder, table, progress=False)
    assert table.read_text() == text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_names_that_a_table_spells_in_another_way_are_there(encoding, folder, tmp_path):
    (folder / "x").mkdir()
    (folder / "b.wav").rename(folder / "x" / "b.wav")
    table = tmp_path / "durations.tsv"
    table.write_text("filename\tduration\nb\t9.9\nA.WAV\t1\n", encoding=encoding)
    before = table.read_bytes()
    assert complete_durations(folder, table, progress=False) == ((), 0)
    assert table.read_bytes() == before


@pytest.mark.parametrize(
    ("encoding", "end", "last"),
    [
        ("utf-8", "\n", "\n"),
        ("utf-8-sig", "\r\n", ""),
        ("utf-16", "\r\n", "\r\n"),
        ("utf-32", "\n", ""),
    ],
)
def test_what_a_table_holds_stays_to_the_byte(encoding, end, last, folder, tmp_path):
    table = tmp_path / "durations.tsv"
    before = f"filename\tduration{end}b.wav\t9.90{end}ü z.wav\t 3 {last}".encode(encoding)
    table.write_bytes(before)
    done = complete_durations(folder, table, progress=False)
    assert done == ((), 1) and table.read_bytes().startswith(before)
    assert read_durations(table) == {"a": 0.100023, "b": 9.9, "ü z": 3.0}


@pytest.mark.parametrize("encoding", ["utf-16-le", "cp1252"])
@pytest.mark.filterwarnings("ignore:.*read as:UserWarning")
def test_a_table_whose_encoding_is_assumed_is_completed_in_it(encoding, folder, tmp_path):
    table = tmp_path / "durations.tsv"
    before = "filename\tduration\nb.wav\t9.90\nü z.wav\t3\n".encode(encoding)
    table.write_bytes(before)
    assert complete_durations(folder, table, progress=False) == ((), 1)
    assert table.read_bytes() == before + "a.wav\t0.100023\n".encode(encoding)


@pytest.mark.filterwarnings("ignore:.*read as:UserWarning")
def test_a_name_that_an_encoding_lacks_is_a_failure(folder, tmp_path):
    (folder / "b.wav").rename(folder / "日.wav")
    table = tmp_path / "durations.tsv"
    table.write_bytes(before := "filename\tduration\nü z.wav\t3\n".encode("cp1252"))
    ((where, reason),), added = complete_durations(folder, table, progress=False)
    assert where == table and "its encoding lacks '日'" in reason and not added
    assert table.read_bytes() == before


@pytest.mark.parametrize("header", ["filename\tduration\tnote", "duration\tfilename", "b.wav\t9.9"])
def test_a_table_with_other_columns_is_left_alone(header, folder, tmp_path):
    table = tmp_path / "durations.tsv"
    table.write_text(f"{header}\nb.wav\t9.9\tmine\n")
    before = table.read_bytes()
    ((where, reason),), added = complete_durations(folder, table, progress=False)
    assert where == table and "lacks 1 clip, which is not added" in reason and not added
    assert table.read_bytes() == before


def test_a_name_of_two_files_is_not_taken_for_one_of_them(folder, tmp_path):
    for name in ("x", "y"):
        (folder / name).mkdir()
        (folder / name / "1.wav").write_bytes((folder / "a.wav").read_bytes())
    table = tmp_path / "durations.tsv"
    table.write_text("filename\tduration\n1.wav\t9.9\n")
    before = table.read_bytes()
    ((where, reason),) = complete_durations(folder, table, progress=False).failed
    assert where == table and "x/1 and y/1 may all be 1" in reason
    assert table.read_bytes() == before


def test_recordings_are_known_by_their_names_alone(folder, tmp_path):
    """MAESTRO's clips and published durations have no folders."""
    for name in ("x", "y"):
        (folder / name).mkdir()
    (folder / "a.wav").rename(folder / "x" / "a.wav")
    (folder / "y" / "b.wav").write_bytes((folder / "b.wav").read_bytes())
    table = tmp_path / "durations.tsv"
    failed = complete_durations(sorted(folder.rglob("*.wav")), table, progress=False).failed
    assert table.read_text() == "filename\tduration\na.wav\t0.100023\n"
    assert [path.name for path, _ in failed] == ["b.wav", "b.wav"]
    assert all("b.wav is found 2 times; keep one" in reason for _, reason in failed)
