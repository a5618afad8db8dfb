"""A whole fetch as a command: archives from a loopback server, videos from stand-ins."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import sys
import tarfile
import textwrap
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from desed_task.audio import list_wavs
from local.expected import UNLABELLED_TABLE

ROOT = Path(__file__).resolve().parents[2]
CORPUS = "data/mini/dcase/dataset"
# Listed, but no video has it.
GONE = "Ygonegonegon_0.000_10.000.wav"
# Of each record, the files that it lists.
RECORDS = {
    4639776: ("audioset_metadata.tar.gz",),
    6444477: ("audioset_strong.tsv",),
    6026841: ("dcase_synth.zip",),
    7244360: ("development_audio.zip", "development_annotation.zip"),
    11425124: ("eval24.zip",),
    11280943: ("baseline_pretrained_2024.zip",),
}
YT_DLP = """
    import pathlib, sys
    video = sys.argv[-1].rpartition("=")[2]
    found = list(pathlib.Path({videos!r}).rglob(f"Y{{video}}_*.wav"))
    if not found:
        sys.exit(f"ERROR: [youtube] {{video}}: Video unavailable")
    print(found[0])
"""
FFMPEG = """
    import sys
    import soundfile as sf
    source, seconds = (sys.argv[sys.argv.index(flag) + 1] for flag in ("-i", "-t"))
    samples, rate = sf.read(source)
    sf.write(sys.argv[-1], samples[: round(float(seconds) * rate)], rate, "PCM_16")
"""


def pack(path, folder, top, *, leave_out=()):
    """Zip or tar what lies below a folder, under a top folder as the real archives have one."""
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not any(name in file.as_posix() for name in leave_out)
    ]
    assert files
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in files:
                archive.write(file, f"{top}/{file.relative_to(folder)}")
    else:
        with tarfile.open(path, "w:gz") as archive:
            for file in files:
                archive.add(file, f"{top}/{file.relative_to(folder)}")


def pack_tables(path, metadata, unlabelled):
    """audioset_metadata.tar.gz; the mini corpus has no table of the unlabelled clips."""
    names = "".join(f"{name}\n" for name in [GONE, *(wav.name for wav in unlabelled)])
    with tarfile.open(path, "w:gz") as archive:
        for name in ("train/weak.tsv", "validation/validation.tsv"):
            archive.add(metadata / name, f"audioset_metadata/{name}")
        info = tarfile.TarInfo(f"audioset_metadata/train/{UNLABELLED_TABLE}")
        content = f"filename\n{names}".encode()
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))


@pytest.fixture(scope="module")
def mirror(mini_root, tmp_path_factory):
    """The address of a server that has every archive, made from the small mini corpus."""
    root = tmp_path_factory.mktemp("mirror")
    corpus, recordings = mini_root / CORPUS, mini_root / "data/mini/maestro_real"
    unlabelled = list_wavs(corpus / "audio/train/unlabel_in_domain")
    pack_tables(root / "audioset_metadata.tar.gz", corpus / "metadata", unlabelled)
    strong = (corpus / "metadata/train/audioset_strong.tsv").read_bytes()
    (root / "audioset_strong.tsv").write_bytes(strong)
    made = ("_16k/", "durations.tsv")
    pack(root / "dcase_synth.zip", corpus / "dcase_synth", "dcase_synth", leave_out=made)
    for name in ("development_audio", "development_annotation"):
        pack(root / f"{name}.zip", recordings / name, name)
    pack(root / "eval24.zip", corpus / "audio/eval24", "eval/audio")
    (root / "weights").mkdir()
    (root / "weights" / "baseline.ckpt").write_bytes(b"weights")
    pack(root / "baseline_pretrained_2024.zip", root / "weights", "baseline_pretrained_2024")
    (root / "api" / "records").mkdir(parents=True)
    for record, names in RECORDS.items():
        files = [
            {
                "key": name,
                "size": (root / name).stat().st_size,
                "checksum": f"md5:{hashlib.md5((root / name).read_bytes()).hexdigest()}",
            }
            for name in names
        ]
        (root / "api" / "records" / str(record)).write_text(json.dumps({"files": files}))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.fixture
def stand_ins(mini_root, tmp_path, monkeypatch):
    """yt-dlp that has the clips of the mini corpus, and ffmpeg, before all others on PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, source in (
        ("yt-dlp", YT_DLP.format(videos=str(mini_root / CORPUS / "audio"))),
        ("ffmpeg", FFMPEG),
    ):
        (programs / name).write_text(f"#!{sys.executable}\n{textwrap.dedent(source)}")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def conf(mini_conf, tmp_path):
    """The small configuration for data below `tmp_path`, without embeddings."""
    tree = yaml.safe_load(mini_conf.read_text())
    for key, value in tree["data"].items():
        if isinstance(value, str):
            tree["data"][key] = str(tmp_path / "data" / Path(value[value.index("dcase/dataset") :]))
    tree["net"]["use_embeddings"] = False
    path = tmp_path / "conf.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.usefixtures("stand_ins")
def test_a_whole_fetch_ends_with_everything_in_its_place(mirror, conf, tmp_path, run_script):
    # The table of sources is looked for in the folder that the command is started in.
    generate = functools.partial(
        run_script, "generate_dcase_task4_2024.py", "--conf_file", conf, cwd=ROOT
    )
    address, asked = mirror
    fetch = ("--basedir", tmp_path / "data", "--mirror", address)
    done = generate(*fetch)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in (name for names in RECORDS.values() for name in names):
        assert f"/{name}" in asked
    missing = sorted((tmp_path / "data" / "missing_files").iterdir())
    assert [path.stem for path in missing] == [
        f"missing_files_{name}" for name in ("strong", "unlabel_in_domain", "validation", "weak")
    ]
    gone = f"{GONE}\tyt-dlp: Video unavailable\n"
    for path in missing:
        rows = gone if "unlabel" in path.name else ""
        assert path.read_text() == f"filename\treason\n{rows}"
    assert "clips of unlabel_in_domain: 5 fetched, 0 there before, 1 missing" in done.stdout

    checked = generate("--check", "--out_dir", tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    report = json.loads((tmp_path / "data_report.json").read_text())
    # The small corpus has one recording of each scene, and one digitally silent clip.
    told = {finding["message"] for finding in report["findings"] if finding["level"] != "note"}
    assert len(told) == 3 and sum("recording" in text for text in told) == 2, told
    assert any("1 of 6 listed clips" in text and GONE[:-4] in text for text in told), told

    asked.clear()
    again = generate(*fetch)
    assert again.returncode == 0, again.stdout + again.stderr
    assert not [path for path in asked if not path.startswith("/api/")]
