"""Files of the user in output folders: never replaced without `--overwrite`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from desed_task.atomic_files import atomic_path, write_json_atomic, write_text_atomic
from desed_task.errors import InputError
from local.cli.own_files import RECORD_FILE, OwnFiles, own_outputs

ROOT = Path(__file__).resolve().parents[3]


def write(folder, names=("a.tsv", "sub/b.json"), text="ours\n", **options):
    options.setdefault("overwrite", False)
    with own_outputs(folder, [folder / name for name in names], **options):
        for name in names:
            write_text_atomic(folder / name, text)


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != RECORD_FILE
    }


@pytest.mark.parametrize("name", ["a.tsv", "sub/b.json", "sub/ü ö\n.png"])
def test_a_file_of_the_user_is_named_before_anything_is_written(tmp_path, name):
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("of the user")
    with pytest.raises(InputError) as error:
        write(tmp_path, ("first", name, "last"))
    assert f"  - {mine}" in str(error.value) and "--overwrite" in str(error.value)
    assert content(tmp_path) == {name: "of the user"}
    write(tmp_path, ("first", name, "last"), overwrite=True)
    assert set(content(tmp_path).values()) == {"ours\n"}
    write(tmp_path, ("first", name, "last"), "newer\n")  # Now it is ours.
    assert set(content(tmp_path).values()) == {"newer\n"}


@pytest.mark.parametrize("name", ["sub/b.json", "sub/c/d/e.png", "sub/c/ü.tsv"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_the_place_of_a_folder_is_named_before_anything_is_written(
    tmp_path, name, overwrite
):
    (tmp_path / "sub").write_text("of the user")
    with pytest.raises(InputError) as error:
        write(tmp_path, ("first", name, name + "2"), overwrite=overwrite)
    assert str(error.value).endswith(f":\n  - {tmp_path / 'sub'} (a folder is needed)")
    assert content(tmp_path) == {"sub": "of the user"}


def test_what_we_wrote_is_replaced_until_it_is_changed(tmp_path):
    for text in ("one", "two", "one"):
        write(tmp_path, text=text)
    assert content(tmp_path) == {"a.tsv": "one", "sub/b.json": "one"}
    assert len((tmp_path / RECORD_FILE).read_text().splitlines()) == 4  # Each content once.
    (tmp_path / "a.tsv").write_text("edited")
    with pytest.raises(InputError, match=r"a\.tsv"):
        write(tmp_path, text="three")
    assert content(tmp_path) == {"a.tsv": "edited", "sub/b.json": "one"}
    (tmp_path / "a.tsv").unlink()
    write(tmp_path, text="three")
    os.replace(tmp_path / "a.tsv", tmp_path / "c.tsv")  # Renamed, so that it is kept.
    with pytest.raises(InputError, match=r"c\.tsv"):
        write(tmp_path, ("c.tsv",))


def test_a_folder_that_is_moved_or_copied_stays_ours(tmp_path):
    write(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    (tmp_path / "link").symlink_to(tmp_path / "two", target_is_directory=True)
    write(tmp_path / "link", text="newer")
    assert content(tmp_path / "two") == {"a.tsv": "newer", "sub/b.json": "newer"}


def test_other_kinds_of_entries_are_not_ours(tmp_path):
    write(tmp_path)
    (tmp_path / "kept").write_text("ours\n")
    for make in (
        lambda path: path.symlink_to(tmp_path / "kept"),
        lambda path: path.symlink_to(tmp_path / "absent"),
        os.mkfifo,
    ):
        (tmp_path / "a.tsv").unlink()
        make(tmp_path / "a.tsv")
        with pytest.raises(InputError, match=r"a\.tsv"):
            write(tmp_path)
    (tmp_path / "a.tsv").unlink()
    (tmp_path / "a.tsv").mkdir()
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"a\.tsv \(a folder\)"):
            write(tmp_path, overwrite=overwrite)
    assert (tmp_path / "kept").read_text() == "ours\n"


def test_a_file_that_appears_during_the_work_is_kept(tmp_path):
    with own_outputs(tmp_path, [tmp_path / "a"], overwrite=False):
        (tmp_path / "a").write_text("of the user")
        with pytest.raises(InputError, match="would be replaced"):
            write_json_atomic(tmp_path / "a", {})
        with pytest.raises(InputError), atomic_path(tmp_path / "a") as temporary:
            temporary.write_bytes(b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "of the user"


def test_only_the_folder_and_the_block_are_guarded(tmp_path):
    other = tmp_path / "other"
    write_text_atomic(other, "of the user")
    with own_outputs(tmp_path / "out", [other], overwrite=False):
        write_text_atomic(other, "written elsewhere")
    assert other.read_text() == "written elsewhere" and not (tmp_path / "out").exists()
    write(tmp_path / "out")
    (tmp_path / "out" / "a.tsv").write_text("edited")
    write_text_atomic(tmp_path / "out" / "a.tsv", "by other code")


def test_a_run_killed_before_its_file_appears_can_be_resumed(tmp_path, monkeypatch):
    write(tmp_path, text="one")
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, text="two")
    write(tmp_path, text="three")
    assert set(content(tmp_path).values()) == {"three"}


def test_a_damaged_record_loses_only_its_lines(tmp_path):
    write(tmp_path)
    record = tmp_path / RECORD_FILE
    record.write_bytes(b'["x"]\n{"a": 1}\n[[], 3]\n\xff\n' + record.read_bytes() + b'["cut", "')
    for text in ("newer", "newest"):
        write(tmp_path, text=text)
        assert set(content(tmp_path).values()) == {text}


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder", "zeros"])
def test_a_record_that_is_no_file_is_refused_and_nothing_is_followed(tmp_path, kind):
    folder, victim = tmp_path / "out", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("of the user")
    record = folder / RECORD_FILE
    {
        "link": lambda: record.symlink_to(victim),
        "dangling": lambda: record.symlink_to(tmp_path / "absent"),
        "pipe": lambda: os.mkfifo(record),
        "folder": record.mkdir,
        "zeros": lambda: record.symlink_to("/dev/zero"),
    }[kind]()
    with pytest.raises(InputError, match=r"\.written\.jsonl: is a link, folder or pipe.*remove it"):
        write(folder, text="new")
    assert victim.read_text() == "of the user" and not (tmp_path / "absent").exists()
    assert [path.name for path in folder.iterdir() if path.suffix == ".tsv"] == []


@pytest.mark.parametrize(
    "more", [b"[" * 100_000, b"9" * 10_000, bytes(3 << 20), b"x" * (1 << 20), b'["a.tsv", ["b"]]']
)
def test_absurd_lines_of_a_record(tmp_path, more):
    write(tmp_path)
    record = tmp_path / RECORD_FILE
    for first in (True, False):
        lines = [more, record.read_bytes()] if first else [record.read_bytes(), more]
        record.write_bytes(b"\n".join(lines).replace(b"\n", b"\r\n"))
        for text in ("newer", "newest"):
            write(tmp_path, text=text)
            assert set(content(tmp_path).values()) == {text}


@pytest.mark.parametrize("there", ["", "whole", "whole cont", "whole content"])
def test_the_beginning_of_the_new_content_is_replaced(tmp_path, there):
    """Of a write that was interrupted, or by a version without records."""
    (tmp_path / "a").write_text(there)
    with own_outputs(tmp_path, [], overwrite=False):
        write_text_atomic(tmp_path / "a", "whole content")
    assert (tmp_path / "a").read_text() == "whole content"
    for other in ("Whole", "whole content, mine"):
        (tmp_path / "b").write_text(other)
        with own_outputs(tmp_path, [], overwrite=False), pytest.raises(InputError):
            write_text_atomic(tmp_path / "b", "whole content")
        assert (tmp_path / "b").read_text() == other


def test_earlier_versions_are_recognised(tmp_path):
    (tmp_path / "a.tsv").write_text("head\n")
    known = {"recognise": lambda path: path.read_text().startswith("head")}
    OwnFiles(tmp_path, **known).check([tmp_path / "a.tsv"])
    (tmp_path / "a.tsv").write_text("other\n")
    with pytest.raises(InputError):
        OwnFiles(tmp_path, **known).check([tmp_path / "a.tsv"])


def test_many_files_from_several_threads_and_records(tmp_path):
    """Two runs into one folder, as tuners on several machines."""

    def run():
        for number in np.random.default_rng().permutation(20):
            write(tmp_path, (f"{number}",), text=f"{number}")

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(tmp_path) == {str(number): str(number) for number in range(20)}
    lines = (tmp_path / RECORD_FILE).read_text().splitlines()
    assert {next(iter(json.loads(line))) for line in lines} == {str(number) for number in range(20)}


def test_long_lists_are_shortened(tmp_path):
    names = [f"{number}.txt" for number in range(30)]
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"9\.txt\n  - \.\.\. and 20 more$"):
        write(tmp_path, names)


# Writes files 0, 1, ... of its own name and records them, while others do so.
WRITER = """
import sys
from pathlib import Path
from desed_task.atomic_files import write_text_atomic
from local.cli.own_files import own_outputs
folder, writer, text = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
paths = [folder / f"{writer} é{number}.tsv" for number in range(120)]
with own_outputs(folder, paths, overwrite=False, writer=writer if sys.argv[4] else ""):
    sys.stdin.readline()  # all at once
    for path in paths:
        write_text_atomic(path, text)
"""


@pytest.mark.parametrize("own_records", ["yes", ""])
def test_processes_that_write_into_one_folder_lose_no_entry(tmp_path, own_records):
    command = [sys.executable, "-c", WRITER, tmp_path]
    for text in ("one", "two"):  # what others wrote is there the second time
        processes = [
            subprocess.Popen([*command, writer, text, own_records], stdin=subprocess.PIPE, cwd=ROOT)
            for writer in ("1-3", "2-3", "3-3")
        ]
        for process in processes:
            process.stdin.write(b"\n")
            process.stdin.flush()
        assert [process.wait() for process in processes] == [0, 0, 0]
    names = [f"{n}-3 é{number}.tsv" for n in (1, 2, 3) for number in range(120)]
    assert set(content(tmp_path)) - set(names) == (
        {f".written/{n}-3.jsonl" for n in (1, 2, 3)} if own_records else set()
    )
    OwnFiles(tmp_path).check(tmp_path / name for name in names)
    # One with a record of its own knows the files of the others, and keeps only what it may write.
    write(tmp_path, names[100:140], "three", writer="4")
    own = OwnFiles(tmp_path, writer="5", names=[tmp_path / names[0]])
    own.check([tmp_path / names[0]])
    assert set(own._known) == {names[0]}
    (tmp_path / names[130]).write_text("of the user")
    with pytest.raises(InputError, match=names[130]):
        OwnFiles(tmp_path).check(tmp_path / name for name in names)
    lines = [line for path in records(tmp_path) for line in path.read_text().splitlines()]
    if not own_records:  # One may see another's line before it is whole, and begin a new one.
        lines = [line for line in lines if line]
    assert len(lines) == 2 * len(names) + 40 and len(set(lines)) == len(lines)


def records(folder):
    return [path for path in (folder / RECORD_FILE, *folder.glob(".written/*")) if path.exists()]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_something_else_in_the_place_of_the_folder_of_records_is_refused(tmp_path, kind):
    place = tmp_path / "out" / ".written"
    place.parent.mkdir()
    if kind == "file":
        place.write_text("mine")
    else:
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"\.written: is not the folder of records .*remove it"):
        write(tmp_path / "out", writer="1-2")
    assert list((tmp_path / "out").iterdir()) == [place]
