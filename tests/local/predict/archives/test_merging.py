"""The results of all shards become one table; what is missing is named by shard."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from desed_task.atomic_files import write_text_atomic
from desed_task.errors import InputError
from desed_task.file_names import escape_name
from local.cli.own_files import own_outputs
from local.predict.archives.commands import list_archive, merge_archive
from local.predict.archives.shard_states import StateFile, states_of
from local.predict.archives.shards import Shard
from local.predict.archives.stored_listing import listing_of_shards, recording_of
from local.predict.event_table import EVENT_COLUMNS
from local.predict.flags import parse_predict_args
from local.predict.sharing import rows_of_shard

ROOT = Path(__file__).resolve().parents[4]
RATE = 16000
NAMES = ("a/x.wav", "b/x.wav", "é 名.wav", os.fsdecode(b"odd\xff\t.wav"), "c.wav", "d.wav", "e.wav")
HEAD = "\t".join(EVENT_COLUMNS)


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "in"
    for number, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        sf.write(os.fsencode(folder / name), np.zeros((number + 1) * RATE), RATE, format="WAV")
    return folder


@pytest.fixture
def listing(archive, tmp_path):
    return listing_of_shards(tmp_path / "out", [archive])


def shard_done(listing, archive, number, total=3, *, without=(), faults=None, settings=None):
    """Write what a shard of `predict.py` would: a table per recording, and its state."""
    state = StateFile(listing, Shard(number, total))
    state.begin(settings or {})
    out = listing.path.parents[1]
    rows = rows_of_shard(listing, Shard(number, total))
    paths = []
    with own_outputs(out, [], overwrite=False):
        for row in rows:
            if row.listed in without:
                continue
            name = escape_name(recording_of(row, [archive]).path.name)
            events = [f"{name}\t0.000\t1.500\tDog\t0.7500"] * (row.length.ms // 1000 - 1)
            paths.append(out / f"{row.name}.tsv")
            write_text_atomic(paths[-1], "\n".join([HEAD, *events]) + "\n")
    if faults is not None:
        state.finish(faults)
    return rows


def run(archive, tmp_path, *words, recordings=True):
    args = parse_predict_args(
        argparse.ArgumentParser(),
        [*([str(archive)] if recordings else []), "--output_dir", str(tmp_path / "out"), *words],
    )
    return (list_archive if args.list else merge_archive)(args)


def expected_rows():
    rows = []
    for name in sorted(NAMES, key=lambda name: Path(name).parts):
        events = NAMES.index(name)
        rows += [[escape_name(name), "0.000", "1.500", "Dog", "0.7500"]] * events
        rows += [] if events else [[name, "", "", "", ""]]
    return rows


def rows_in(table):
    head, *lines = table.read_text("utf-8").splitlines()
    assert head == HEAD
    return [line.split("\t") for line in lines]


def test_all_events_are_in_one_table_in_the_order_of_one_process(
    listing, archive, tmp_path, capsys
):
    for number in (3, 1, 2):
        shard_done(listing, archive, number, faults={})
    assert run(archive, tmp_path, "--merge") == 0
    told = capsys.readouterr()
    assert f"events of 7 recordings: {tmp_path}/out/events.tsv" in told.out
    assert rows_in(tmp_path / "out/events.tsv") == expected_rows()
    # The folder has one archive only, so that it need not be named.
    (tmp_path / "out/events.tsv").unlink()
    assert run(archive, tmp_path, "--merge", "tsv", recordings=False) == 0
    assert rows_in(tmp_path / "out/events.tsv") == expected_rows()


def test_what_has_no_results_is_named_by_shard(listing, archive, tmp_path, capsys):
    (bad,) = (row for row in listing.rows() if row.listed == "d.wav")
    rows = {number: rows_of_shard(listing, Shard(number, 3)) for number in (1, 2, 3)}
    number = next(n for n in rows if bad in rows[n])
    others = [n for n in rows if n != number]
    shard_done(listing, archive, number, without=["d.wav"], faults={bad.name: "d.wav: is no sound"})
    late = [row.listed for row in rows[others[0]]][-1:]
    shard_done(listing, archive, others[0], without=late)
    assert run(archive, tmp_path, "--merge") == 1
    told = capsys.readouterr().err.partition("Recordings without results:\n")[2].splitlines()
    assert told[0] == "  - d.wav: is no sound" and len(told) == 3
    unfinished = next(
        line for line in told if f"shard {others[0]}/3 (not finished, begun 2" in line
    )
    assert f": 1 recording ({escape_name(late[0])}); run the same command again" in unfinished
    never = rows[others[1]]
    shown = ", ".join(escape_name(row.listed) for row in never[:3])
    more = ", ..." if len(never) > 3 else ""
    what = f"{len(never)} recordings" if len(never) > 1 else "1 recording"
    assert any(f"shard {others[1]}/3 (never begun): {what} ({shown}{more});" in t for t in told)
    merged = {row[0] for row in rows_in(tmp_path / "out/events.tsv")}
    assert merged == {escape_name(row.listed) for n in rows for row in rows[n]} - {
        "d.wav",
        *map(escape_name, late),
        *(escape_name(row.listed) for row in never),
    }


def test_the_last_number_of_shards_and_the_last_listing_count(listing, archive, tmp_path, capsys):
    shard_done(listing, archive, 1, total=5)
    shard_done(listing, archive, 2, total=2)
    assert set(states_of(listing)) == {2}
    assert run(archive, tmp_path, "--merge") == 1
    assert "shard 1/2 (never begun)" in capsys.readouterr().err
    (archive / "f.wav").write_bytes((archive / "c.wav").read_bytes())
    with pytest.warns(UserWarning, match="1 recording added since the archive was listed"):
        assert run(archive, tmp_path, "--merge") == 1
    capsys.readouterr()
    # A second has to pass before it is another listing; its time is its name here.
    lines = listing.path.read_text().split("\n", 1)
    header = json.loads(lines[0])
    listing.path.write_text("\n".join([json.dumps({**header, "listed_at": "later"}), lines[1]]))
    with pytest.warns(UserWarning, match=r"listed \(later\) is not processed: .*f\.wav"):
        assert run(archive, tmp_path, "--merge") == 1
    told = capsys.readouterr().err
    assert "have no results; run the same command again with --skip_existing" in told
    assert "shard" not in told.partition("Recordings without results:")[2]


def test_nothing_at_all_is_an_error_and_no_table(listing, archive, tmp_path):
    with pytest.raises(InputError, match="Recordings without results:\n  - 7 recordings"):
        run(archive, tmp_path, "--merge")
    assert not (tmp_path / "out/events.tsv").exists()
    # The same command would skip recordings that have tables and no pages.
    with pytest.raises(InputError, match="again with --skip_existing and html in --formats"):
        run(archive, tmp_path, "--merge", "html")


def test_tables_of_others_are_named_and_files_of_the_user_kept(listing, archive, tmp_path, capsys):
    shard_done(listing, archive, 1, total=1, faults={})
    (tmp_path / "out/c.tsv").write_text("mine")
    (tmp_path / "out/e.tsv").write_text(f"{HEAD}\ne.wav\t0:01\t1.5\tDog\t0.75\n")
    (tmp_path / "out/d.tsv").unlink()
    (tmp_path / "out/d.tsv").mkdir()
    assert run(archive, tmp_path, "--merge") == 1
    told = capsys.readouterr().err
    for name in ("c.tsv", "e.tsv"):
        assert f"{name}: is not a table of events of this program, so events.tsv lacks" in told
    assert re.search(r"shard 1/1 \(finished, begun .*\): 1 recording \(d\.wav\); run", told)
    (tmp_path / "out/events.tsv").write_text("mine")
    with pytest.raises(InputError, match=r"would be replaced.*\n  - .*events\.tsv"):
        run(archive, tmp_path, "--merge")
    assert run(archive, tmp_path, "--merge", "--overwrite") == 1


def test_shards_of_different_settings_are_not_mixed_silently(
    listing, archive, tmp_path, recwarn, capsys
):
    usual = {"checkpoint": "0a1b", "model": "student", "threshold": "{'Dog': 0.5}"}
    for number in (1, 3):
        shard_done(listing, archive, number, faults={}, settings=usual)
    shard_done(listing, archive, 2, faults={})  # no recording, or an earlier version
    assert StateFile(listing, Shard(1, 3)).mixed() is None
    assert run(archive, tmp_path, "--merge") == 0
    assert not recwarn.list
    other = {**usual, "model": "teacher", "threshold": "{'Dog': 0.2}"}
    shard_done(listing, archive, 2, faults={}, settings=other)
    with pytest.warns(UserWarning, match=r"shard 2/3 was computed with another model and another"):
        assert run(archive, tmp_path, "--merge") == 0
    told = StateFile(listing, Shard(1, 3)).mixed()
    assert "another model and another threshold than shard 1/3, so the table of all" in told


def test_a_shard_that_is_resumed_with_other_settings_says_that_results_stay(listing):
    usual = {"checkpoint": "0a1b", "threshold": "{'Dog': 0.5}"}
    StateFile(listing, Shard(2, 3)).begin(usual)
    again = StateFile(listing, Shard(2, 3))
    again.begin({**usual, "threshold": "{'Dog': 0.2}"})
    assert "shard 2/3 was begun with another threshold" in again.mixed(resumes=True)
    assert again.mixed() is None
    other = StateFile(listing, Shard(1, 3))
    other.begin({**usual, "threshold": "{'Dog': 0.2}"})
    assert other.mixed(resumes=True) is None


def test_archives_of_one_output_folder_are_told_apart(listing, archive, tmp_path):
    listing_of_shards(tmp_path / "out", [archive / "a"])
    with pytest.raises(InputError, match=r"has results of 2 archives; name the recordings of one"):
        run(archive, tmp_path, "--merge", recordings=False)
    (tmp_path / "other/out").mkdir(parents=True)
    with pytest.raises(InputError, match="has no listing of an archive"):
        run(archive, tmp_path / "other", "--merge", recordings=False)
    with pytest.raises(InputError, match=r"out: no such folder; check --output_dir"):
        run(archive, tmp_path / "mistyped", "--merge")
    assert not (tmp_path / "mistyped").exists()


def test_results_of_two_archives_with_equal_names_are_named(listing, archive, tmp_path, recwarn):
    shard_done(listing, archive, 1, total=1, faults={})
    # The same recordings in another command have the same results.
    listing_of_shards(tmp_path / "out", [archive / "c.wav", archive / "d.wav"])
    assert run(archive, tmp_path, "--merge") == 0
    assert not recwarn.list
    (tmp_path / "other").mkdir()
    for name in ("C.wav", "new.wav"):
        sf.write(tmp_path / "other" / name, np.zeros(RATE), RATE)
    listing_of_shards(tmp_path / "out", [tmp_path / "other"])
    with pytest.warns(UserWarning, match=r"1 recording \(C\) has results of its name from another"):
        assert run(archive, tmp_path, "--merge") == 0


def test_results_of_a_single_process_can_be_merged(listing, archive, tmp_path, capsys):
    shard_done(listing, archive, 1, total=1)
    for path in (tmp_path / "out/.archive").iterdir():
        path.unlink()
    assert run(archive, tmp_path, "--merge") == 0
    assert rows_in(tmp_path / "out/events.tsv") == expected_rows()
    assert list((tmp_path / "out/.archive").iterdir()) == []


def test_the_table_of_a_recording_called_like_it_is_kept(tmp_path):
    sf.write(tmp_path / "events.wav", np.zeros(RATE), RATE)
    listing_of_shards(tmp_path / "out", [tmp_path / "events.wav"])
    with pytest.raises(InputError, match="is the table of the only recording already"):
        run(tmp_path / "events.wav", tmp_path, "--merge")


def test_parquet_has_the_rows_of_the_text(listing, archive, tmp_path, monkeypatch):
    if os.environ.get("CI") is None:
        pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    from local.predict.archives import parquet_table

    monkeypatch.setattr(parquet_table, "_ROWS_PER_GROUP", 4)
    shard_done(listing, archive, 1, total=1, faults={})
    assert run(archive, tmp_path, "--merge", "parquet") == 0
    table = pq.read_table(tmp_path / "out/events.parquet")
    assert table.column_names == list(EVENT_COLUMNS)
    assert {str(field.type) for field in table.schema} == {"string", "double"}
    cells = [("" if cell is None else cell for cell in row.values()) for row in table.to_pylist()]
    assert [[*row] for row in cells] == [
        [
            name,
            *(float(cell) if cell else "" for cell in (onset, offset)),
            label,
            score and float(score),
        ]
        for name, onset, offset, label, score in expected_rows()
    ]
    assert pq.ParquetFile(tmp_path / "out/events.parquet").num_row_groups > 2
    with pytest.raises(InputError, match="Recordings without results"):
        run(archive / "a", tmp_path, "--merge", "parquet")


def test_without_pyarrow_parquet_is_refused_before_the_work(archive, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        InputError, match=r"needs the package pyarrow .*'\.\[parquet\]'.*--merge tsv"
    ):
        run(archive, tmp_path, "--merge", "parquet")


def test_listing_and_merging_load_neither_torch_nor_a_checkpoint(listing, archive, tmp_path):
    shard_done(listing, archive, 1, total=1, faults={})
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import predict; "
        "status = [predict.main([*sys.argv[2:], one]) for one in ('--list', '--merge')]; "
        "print(status, 'torch' in sys.modules, 'matplotlib' in sys.modules)"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", program, ROOT, archive, "--output_dir", tmp_path / "out"),
            *("--checkpoint", "absent.ckpt"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "WORLD_SIZE": "", "RANK": ""},
    )
    assert done.stdout.splitlines()[-1] == "[0, 0] False False", done.stdout + done.stderr
    assert "--merge computes nothing: --checkpoint is not used" in done.stdout
    assert "7 recordings, 0.01 h of audio, listed for --shard in " in done.stdout
