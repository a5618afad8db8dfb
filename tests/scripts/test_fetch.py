"""A whole fetch as a command: archives from a loopback server, videos from stand-ins."""

from __future__ import annotations

import functools
import json
import os
import re
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from desed_task.audio.files import list_wavs
from local.prep.layout import UNLABELLED_TABLE
from tests.in_process import run_main
from tests.local.prep.download.published import RECORDS, publish, tar

ROOT = Path(__file__).resolve().parents[2]
CORPUS = "data/mini/dcase/dataset"
# Listed, but no video has it.
GONE = "Ygonegonegon_0.000_10.000.wav"
TABLES = ("train/weak.tsv", "validation/validation.tsv")
YT_DLP = """
    import json, pathlib, sys
    import soundfile as sf
    video = sys.argv[-1].rpartition("=")[2]
    found = [
        path
        for path in pathlib.Path({videos!r}).rglob(f"Y{{video}}_*.wav")
        if not path.parent.name.endswith("_16k")
    ]
    if not found:
        sys.exit(f"ERROR: [youtube] {{video}}: Video unavailable")
    # The video ends where the clip does.
    end_s = float(found[0].stem.split("_")[-2]) + sf.info(found[0]).duration
    print(json.dumps(dict(url=str(found[0]), duration=end_s)))
"""
FFMPEG = """
    import sys
    import soundfile as sf
    source, seconds = (sys.argv[sys.argv.index(flag) + 1] for flag in ("-i", "-t"))
    samples, rate = sf.read(source)
    sf.write(sys.argv[-1], samples[: round(float(seconds) * rate)], rate, "PCM_16", format="WAV")
"""


@pytest.fixture
def listed(server, contents, mini_root):
    """The server's tables name the unlabelled clips too, of which the mini corpus has no table."""
    wavs = list_wavs(mini_root / CORPUS / "audio/train/unlabel_in_domain")
    names = "".join(f"{name}\n" for name in [GONE, *(wav.name for wav in wavs)])
    tables = {name: (mini_root / CORPUS / "metadata" / name).read_bytes() for name in TABLES}
    tables[f"train/{UNLABELLED_TABLE}"] = f"filename\n{names}".encode()
    packed = tar({f"audioset_metadata/{name}": table for name, table in tables.items()})
    publish(server, {**contents, "audioset_metadata.tar.gz": packed})
    return server


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
        if isinstance(value, str) and "/" in value:
            tree["data"][key] = str(tmp_path / "data" / Path(value[value.index("dcase/dataset") :]))
    tree["net"]["use_embeddings"] = False
    path = tmp_path / "conf.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.usefixtures("stand_ins")
def test_a_whole_fetch_ends_with_everything_in_its_place(listed, conf, tmp_path):
    # The table of sources is looked for in the folder that the command is started in.
    generate = functools.partial(
        run_main, "generate_dcase_task4_2024.py", "--conf_file", conf, cwd=ROOT
    )
    fetch = ("--basedir", tmp_path / "data", "--mirror", listed.url, "--pause", 0)
    done = generate(*fetch)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in (name for names in RECORDS.values() for name in names):
        assert listed.asked(f"/{name}")
    missing = sorted((tmp_path / "data/dcase/dataset/missing_files").glob("*.tsv"))
    assert [path.stem for path in missing] == [
        f"missing_files_{name}" for name in ("strong", "unlabel_in_domain", "validation", "weak")
    ]
    gone = f"{GONE}\tgone: Video unavailable\n"
    for path in missing:
        rows = gone if "unlabel" in path.name else ""
        assert path.read_text() == f"filename\treason\n{rows}"
    assert re.search(r"unlabelled in domain \(1 gone\) +5 +0 +0$", done.stdout, re.M)
    assert f"missing clips and reasons: {missing[0].parent}" in done.stdout

    checked = generate("--check", "--out_dir", tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    report = json.loads((tmp_path / "data_report.json").read_text())
    # The small corpus has one recording of each scene, and one digitally silent clip.
    told = {finding["message"] for finding in report["findings"] if finding["level"] != "note"}
    assert len(told) == 3 and sum("recording" in text for text in told) == 2, told
    assert any("1 of 6 listed clips" in text and GONE[:-4] in text for text in told), told

    plan = generate(*fetch, "--dry_run", "--retry_gone")
    assert plan.returncode == 0, plan.stdout + plan.stderr
    assert "to fetch: 1 clip" in plan.stdout and "unpacked and with clips" in plan.stdout
    listed.requests.clear()
    again = generate(*fetch)
    assert again.returncode == 0, again.stdout + again.stderr
    assert not [path for _, path, _ in listed.requests if not path.startswith("/api/")]
