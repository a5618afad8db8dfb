"""Archives, honest and other: nothing leaves the folder, nothing half-written has a name."""

import errno
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from desed_task.errors import InputError
from local.prep.download import unpack as module
from local.prep.download.archive_members import safe_path
from local.prep.download.unpack import UnpackedFile, unpack

AUDIO = np.random.default_rng(0).bytes(3_000_000)
FILES = {"dcase_synth/audio/a.wav": AUDIO, "dcase_synth/metadata/a.tsv": b"filename\n"}
KINDS = ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz")


def make(path, files, links=(), hard_links=()):
    """An archive of {name: content} and [(name, target)], of the kind that the suffix says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
            for name, target in links:
                info = zipfile.ZipInfo(name)
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(info, target)
        return path
    mode = {".tar": "w:", ".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}[path.suffix]
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for kind, pairs in ((tarfile.SYMTYPE, links), (tarfile.LNKTYPE, hard_links)):
            for name, target in pairs:
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, target
                archive.addfile(info)
    return path


def tree(folder):
    """Everything below a folder: path -> content, None for folders, a link's target."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in sorted(folder.rglob("*"))
    }


def files(folder):
    return {name: content for name, content in tree(folder).items() if content is not None}


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / "dcase_synth"


@pytest.mark.parametrize("kind", KINDS)
def test_files_come_out_as_they_went_in(tmp_path, target, kind):
    archive = make(tmp_path / f"dcase_synth.{kind}", FILES)
    before = archive.read_bytes()
    unpacked = unpack(archive, target, progress=False)
    assert files(target) == {"audio/a.wav": AUDIO, "metadata/a.tsv": b"filename\n"}
    assert unpacked == (UnpackedFile("audio/a.wav", len(AUDIO)), UnpackedFile("metadata/a.tsv", 9))
    assert archive.read_bytes() == before
    assert (target / "audio/a.wav").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("audio/train/a.wav", "audio/train/a.wav"),
        ("dcase_synth/audio/a.wav", "audio/a.wav"),
        ("./x/y/metadata/audio/a.tsv", "metadata/audio/a.tsv"),
        ("dcase_synth/README.md", "README.md"),
        ("other/README.md", "other/README.md"),
        ("audio", "audio"),
        ("dcase_synth", "dcase_synth"),
        ("__MACOSX/audio/._a.wav", None),
        ("audio/._a.wav", None),
        ("audio/.DS_Store", None),
        ("./", None),
    ],
)
def test_where_a_member_goes(name, kept):
    path = safe_path(name, ["audio", "metadata"], "dcase_synth")
    assert (None if path is None else str(path)) == kept


def test_flat_drops_all_folders(tmp_path, target):
    unpack(make(tmp_path / "x.zip", FILES), target, flat=True, progress=False)
    assert set(files(target)) == {"a.wav", "a.tsv"}


def test_backslashes_of_windows_are_folders(tmp_path, target):
    unpack(make(tmp_path / "x.zip", {"audio\\b\\a.wav": b"x"}), target, progress=False)
    assert files(target) == {"audio/b/a.wav": b"x"}


EVIL = [
    "../evil.txt",
    "audio/../../evil.txt",
    "audio/../a.txt",
    "..",
    "/etc/evil.txt",
    "//evil.txt",
    "C:/evil.txt",
    "c:evil.txt",
]


@pytest.mark.parametrize("name", [*EVIL, "..\\evil.txt", "C:\\evil.txt", "\\etc\\evil.txt"])
def test_a_zip_that_leads_out_is_refused_whole(tmp_path, target, name):
    archive = make(tmp_path / "x.zip", {"audio/first.wav": b"x", name: b"evil"})
    before = tree(tmp_path)
    with pytest.raises(InputError, match="not unpacked, because it has unsafe members"):
        unpack(archive, target, progress=False)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", EVIL)
def test_a_tar_that_leads_out_is_refused_whole(tmp_path, target, name):
    archive = make(tmp_path / "x.tar.gz", {"audio/first.wav": b"x", name: b"evil"})
    before = tree(tmp_path)
    with pytest.raises(InputError, match="not unpacked, because it has unsafe members"):
        unpack(archive, target, keep_from=["audio"], progress=False)
    assert tree(tmp_path) == before


LINKS = ["/etc/passwd", "/etc", "../../outside", "..", "audio/../../x", "C:/x"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("where", LINKS)
def test_a_link_to_the_outside_is_refused(tmp_path, target, kind, where):
    archive = make(tmp_path / f"x.{kind}", {"first.wav": b"x"}, [("link", where)])
    before = tree(tmp_path)
    with pytest.raises(InputError, match=r"is a link to .*, outside the archive"):
        unpack(archive, target, progress=False)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("where", LINKS)
def test_a_hard_link_to_the_outside_is_refused(tmp_path, target, where):
    archive = make(tmp_path / "x.tar", {"first.wav": b"x"}, hard_links=[("audio/link", where)])
    before = tree(tmp_path)
    with pytest.raises(InputError, match=r"is a link to .*, outside the archive"):
        unpack(archive, target, progress=False)
    assert tree(tmp_path) == before


def test_writing_through_a_link_of_the_archive_does_not_work(tmp_path, target):
    """The classic: a link to a folder outside, then a file below the link."""
    (tmp_path / "outside").mkdir()
    archive = make(tmp_path / "x.tar", {}, [("door", str(tmp_path / "outside"))])
    with tarfile.open(archive, "a") as tar:
        info = tarfile.TarInfo("door/evil.txt")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"evil"))
    with pytest.raises(InputError, match="outside the archive"):
        unpack(archive, target, progress=False)
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_links_inside_become_copies(tmp_path, target, kind):
    hard = [] if kind == "zip" else [("c/hard.wav", "a/one.wav")]
    archive = make(
        tmp_path / f"x.{kind}", {"./a/one.wav": AUDIO}, [("b/soft.wav", "../a/one.wav")], hard
    )
    unpacked = unpack(archive, target, progress=False)
    names = ["a/one.wav", "b/soft.wav", *(name for name, _ in hard)]
    assert files(target) == dict.fromkeys(names, AUDIO)
    assert {file.path: file.size for file in unpacked} == dict.fromkeys(names, len(AUDIO))
    assert not any(path.is_symlink() or path.stat().st_nlink > 1 for path in target.rglob("*.wav"))


def test_a_link_to_nothing_is_refused(tmp_path, target):
    with pytest.raises(InputError, match="which is not a file in it"):
        unpack(make(tmp_path / "x.tar", FILES, [("link", "absent")]), target, progress=False)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_are_refused(tmp_path, target, kind):
    archive = make(tmp_path / "x.tar", FILES)
    with tarfile.open(archive, "a") as tar:
        info = tarfile.TarInfo("null")
        info.type, info.devmajor, info.devminor = kind, 1, 3
        tar.addfile(info)
    with pytest.raises(InputError, match="neither a file nor a folder"):
        unpack(archive, target, progress=False)
    assert not target.exists()


def test_two_members_for_one_place_are_refused(tmp_path, target):
    archive = make(tmp_path / "x.tar", {"a/audio/x.wav": b"1", "b/audio/x.wav": b"2"})
    with pytest.raises(InputError, match=r"have the same path, audio/x\.wav"):
        unpack(archive, target, keep_from=["audio"], progress=False)


NFC, NFD = "Caf\u00e9.wav", "Cafe\u0301.wav"
CLASHES = {
    "case": ({"a/X.wav": b"1", "a/x.wav": b"2"}, "differ only by case or Unicode form"),
    "case of a folder": ({"Audio/x.wav": b"1", "audio/y.wav": b"2"}, "differ only by case"),
    "deep": ({"a/B/c/x": b"1", "A/b/C/X": b"2"}, "differ only by case"),
    "Unicode form": ({f"a/{NFC}": b"1", f"a/{NFD}": b"2"}, "differ only by case or Unicode form"),
    "Unicode form of a folder": ({f"{NFC}/x": b"1", f"{NFD}/y": b"2"}, "differ only by"),
    "case beyond ASCII": ({"STRASSE": b"1", "stra\u00dfe": b"2"}, "differ only by case"),
    "file and folder": ({"a": b"1", "a/b": b"2"}, "need a as a file and as a folder"),
    "folder and file": ({"x/a/b/c": b"1", "x/a": b"2"}, "need x/a as a file and as a folder"),
    "empty folder and file": ({"a/": b"", "./a": b"2"}, "need a as a file and as a folder"),
    "file and folder by case": ({"A": b"1", "a/b": b"2"}, "differ only by case"),
    "spelt twice": ({"a/./b": b"1", "a//b": b"2"}, "have the same path, a/b"),
}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("clash", CLASHES)
def test_names_that_clash_on_some_file_system_are_refused(tmp_path, target, clash, kind):
    members, message = CLASHES[clash]
    archive = make(tmp_path / f"x.{kind}", {"good.wav": b"0", **members})
    if "a/" in members and kind != "zip":
        with tarfile.open(archive, f"w:{kind.partition('.')[2]}") as tar:
            folder, file = tarfile.TarInfo("a"), tarfile.TarInfo("./a")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            tar.addfile(file)
    with pytest.raises(InputError, match=message) as error:
        unpack(archive, target, progress=False)
    assert "not unpacked, because it has unsafe members" in str(error.value)
    assert not target.exists()


def test_the_same_member_twice_is_refused(tmp_path, target):
    archive = tmp_path / "x.tar"
    with tarfile.open(archive, "w") as tar:
        for content in (b"1", b"22"):
            info = tarfile.TarInfo("a/b")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with pytest.raises(InputError, match="have the same path, a/b"):
        unpack(archive, target, progress=False)


def test_folders_that_are_listed_more_than_once_do_not_clash(tmp_path, target):
    members = {"a/": b"", "./a/": b"", "a/b/x.wav": b"1", "a/b/y.wav": b"2", "a.b/x.wav": b"3"}
    archive = make(tmp_path / "x.zip", members)
    assert len(unpack(archive, target, progress=False)) == 3
    archive = make(tmp_path / "y.zip", {"A/b/x.wav": b"1", "a/b/y.wav": b"2", "b/": b""})
    unpack(archive, target, keep_from=["b"], progress=False)  # What stands above is dropped.
    unpack(archive, target / "flat", flat=True, progress=False)


def test_files_of_the_user_are_replaced_only_on_request(tmp_path, target):
    archive = make(tmp_path / "dcase_synth.zip", FILES, [("dcase_synth/audio/b.wav", "a.wav")])
    (target / "audio").mkdir(parents=True)
    for name in ("metadata/a.tsv", "audio/b.wav", "audio/a.wav"):
        mine = target / name
        mine.parent.mkdir(exist_ok=True)
        mine.write_bytes(b"of the user")
        with pytest.raises(InputError, match=f"{name} is there with other content"):
            unpack(archive, target, replace=False, progress=False)
        assert files(target) == {name: b"of the user"}
        mine.unlink()
    unpack(archive, target, replace=False, progress=False)
    unpack(archive, target, replace=False, progress=False)  # What it unpacked is no obstacle.
    (target / "metadata/a.tsv").write_bytes(b"edited")
    spared = unpack(
        archive, target, replace=False, spare=lambda p, _: p.suffix == ".tsv", progress=False
    )
    assert len(spared) == 3 and (target / "metadata/a.tsv").read_bytes() == b"edited"
    unpack(archive, target, progress=False)
    assert (target / "metadata/a.tsv").read_bytes() == b"filename\n"


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("spare", [None, lambda path, size: False])
@pytest.mark.parametrize("size", ["same", "longer", "shorter", "link", "dangling"])
def test_other_content_is_kept_whatever_its_size(tmp_path, target, kind, spare, size):
    members = {"audio/a.wav": b"of the archive", "audio/b.wav": b"second"}
    archive = make(tmp_path / f"x.{kind}", members)
    mine, elsewhere = target / "audio/a.wav", tmp_path / "elsewhere"
    mine.parent.mkdir(parents=True)
    if size in ("link", "dangling"):
        mine.symlink_to(elsewhere)
        if size == "link":
            elsewhere.write_bytes(b"of the user...")
    else:
        mine.write_bytes({"same": b"of the user...", "longer": b"u" * 99, "shorter": b"of u"}[size])
    before = mine.is_symlink() or mine.read_bytes()
    with pytest.raises(InputError, match=r"a\.wav.* is there with other content"):
        unpack(archive, target, replace=False, spare=spare, progress=False)
    assert (mine.is_symlink() or mine.read_bytes()) == before
    unpack(archive, target, replace=True, spare=spare, progress=False)
    assert mine.read_bytes() == b"of the archive"
    mine.write_bytes(b"of the arch")  # Cut off.
    unpack(archive, target, replace=False, spare=lambda path, size: False, progress=False)
    assert mine.read_bytes() == b"of the archive"


def test_a_bomb_is_refused_by_what_it_declares(tmp_path, target):
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bomb, bomb.open("x", "w") as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    with pytest.raises(InputError, match="which audio never does"):
        unpack(archive, target, progress=False)
    assert not target.exists()


@pytest.mark.parametrize("declared", [1000, 6_000_000])
def test_a_zip_that_declares_another_size_is_refused(tmp_path, target, declared):
    archive = make(tmp_path / "x.zip", {"zeros.wav": bytes(5_000_000)})
    content = archive.read_bytes()
    # The size is in the local header and in the directory.
    lie = content.replace((5_000_000).to_bytes(4, "little"), declared.to_bytes(4, "little"))
    assert lie != content
    archive.write_bytes(lie)
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(archive, target, progress=False)
    assert files(target) == {}


def test_more_than_the_disk_holds_is_said_before_anything_is_written(tmp_path, target, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("", (), {"free": 1_000_000}))
    with pytest.raises(InputError, match=r"unpacks to 3000009 bytes, but .* room for 1000000"):
        unpack(make(tmp_path / "x.zip", FILES), target, progress=False)
    assert files(target) == {}


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_disk_that_fills_up_leaves_no_half_file(tmp_path, target, monkeypatch, kind):
    real, calls = module.atomic_path, []

    class Full:
        """The second file does not fit."""

        def __init__(self, path):
            self.inner = real(path)

        def __enter__(self):
            calls.append(self)
            path = self.inner.__enter__()
            if len(calls) == 2:
                path.write_bytes(b"half")
                error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self.inner.__exit__(OSError, error, None)
                raise error
            return path

        def __exit__(self, *about):
            return self.inner.__exit__(*about)

    archive = make(tmp_path / f"x.{kind}", {"1.wav": AUDIO, "2.wav": AUDIO, "3.wav": AUDIO})
    monkeypatch.setattr(module, "atomic_path", Full)
    with pytest.raises(InputError, match=r"no space left on the disk .*; the archive is kept"):
        unpack(archive, target, progress=False)
    assert files(target) == {"1.wav": AUDIO}
    monkeypatch.setattr(module, "atomic_path", real)
    unpack(archive, target, progress=False)
    assert files(target) == {"1.wav": AUDIO, "2.wav": AUDIO, "3.wav": AUDIO}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_cut_archive_is_said_to_be_damaged(tmp_path, target, kind, share):
    archive = make(tmp_path / f"x.{kind}", FILES)
    content = archive.read_bytes()
    # A tar ends with padding that nothing is lost with.
    archive.write_bytes(content[: int(share * min(len(content), 3_000_000))])
    with pytest.raises(InputError, match=r"x\..*: cannot be unpacked .*Delete it"):
        unpack(archive, target, progress=False)
    assert all(content in FILES.values() for content in files(target).values())


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_flipped_byte_is_noticed(tmp_path, target, kind):
    archive = make(tmp_path / f"x.{kind}", FILES)
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(archive, target, progress=False)
    assert AUDIO[:10] not in {content[:10] for content in files(target).values()}


def test_what_is_no_archive_is_said_so(tmp_path, target):
    (tmp_path / "x.zip").write_bytes(b"<html>moved</html>" * 100)
    with pytest.raises(InputError, match="not an archive of a known kind"):
        unpack(tmp_path / "x.zip", target, progress=False)


def test_an_encrypted_zip_is_said_so(tmp_path, target):
    archive = make(tmp_path / "x.zip", {"a.wav": b"x" * 100})
    content = bytearray(archive.read_bytes())
    # Bit 0 of the flags, in the local header and in the directory.
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(InputError, match="encrypted"):
        unpack(archive, target, progress=False)


def test_files_that_are_spared_stay(tmp_path, target):
    archive = make(tmp_path / "x.zip", {"a.tsv": b"as published", "b.tsv": b"b", "c.tsv": b"c"})
    unpack(archive, target, progress=False)
    (target / "a.tsv").write_bytes(b"edited")
    (target / "b.tsv").write_bytes(b"edited")
    (target / "c.tsv").unlink()
    unpacked = unpack(
        archive, target, spare=lambda path, size: path.name == "a.tsv", progress=False
    )
    assert files(target) == {"a.tsv": b"edited", "b.tsv": b"b", "c.tsv": b"c"}
    assert unpacked[0] == UnpackedFile("a.tsv", 12)


def test_what_check_raises_ends_it_between_blocks(tmp_path, target):
    def check():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(make(tmp_path / "x.zip", FILES), target, check=check, progress=False)
    assert files(target) == {}


def test_members_are_read_in_blocks(tmp_path, target, monkeypatch):
    """Memory does not grow with a member's size: no read is longer than a block."""
    asked = []
    real = module.ZipReader.streams

    def streams(self, names):
        for name, stream in real(self, names):
            read = stream.read

            def noting(n, read=read):
                asked.append(n)
                return read(n)

            stream.read = noting
            yield name, stream

    monkeypatch.setattr(module.ZipReader, "streams", streams)
    unpack(make(tmp_path / "x.zip", FILES), target, progress=False)
    assert len(asked) >= 4 and set(asked) == {1 << 20}
    assert Path(target / "audio/a.wav").read_bytes() == AUDIO
