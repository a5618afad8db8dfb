"""predict.py as a command, on the small mini corpus and the CPU."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import yaml

from desed_task.atomic_files import sha256_of
from desed_task.encoders.beats.model import SMALL_CONFIG, write_random_beats
from desed_task.labels import CLASSES
from desed_task.postprocess.calibration import Calibration, TemperatureCurve
from local.cli.own_files import RECORD_FILE
from local.config import load_config
from local.predict.outputs import FORMATS
from local.predict.result_names import DEFAULT_FORMATS
from tests.desed_task.checkpoints.example_checkpoints import ours, saved, small_spec
from tests.fork_server import Forked
from tests.fork_server import run as run_forked
from tests.in_process import run_main

ROOT = Path(__file__).resolve().parents[2]
RATE = 16000


@pytest.fixture
def small(tmp_path):
    """A checkpoint of a tiny network that takes no embeddings."""
    return saved(ours(small_spec(use_embeddings=False)), tmp_path / "small.ckpt")


@pytest.fixture
def predict(tmp_path):
    """Runs predict.py in `tmp_path`; its results are in `out`."""

    def run(checkpoint, *arguments):
        return run_main(
            "predict.py",
            *("--conf_file", ROOT / "confs/mini.yaml", "--checkpoint", checkpoint),
            *("--output_dir", tmp_path / "out", "--gpus", "0", *arguments),
            cwd=tmp_path,
        )

    return run


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_clip_has_the_scores_of_the_test(role, trained, extracted, tmp_path):
    """Those of train_pretrained.py on dev-test, raw and post-processed, of every 10 s clip.

    Of shorter ones the raw scores; longer ones were cropped there and are searched whole here.
    """
    folder, _, _ = trained
    (best,) = folder.glob("checkpoints/epoch=*.ckpt")
    clips = Path(load_config(extracted).data.test_folder)
    done = run_main(
        "predict.py",
        clips,
        *("--checkpoint", best, "--conf_file", extracted, "--model", role),
        *("--formats", "npz", "json", "--output_dir", tmp_path / "out"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tested = np.load(folder / "metrics_test" / role / "scores_devtest.npz")
    compared = 0
    for row, clip_id in enumerate(tested["clip_ids"]):
        duration_s = sf.info(clips / f"{clip_id}.wav").duration
        if duration_s > 10:
            continue
        found = np.load(tmp_path / "out" / f"{clip_id}.npz")
        n_frames = len(found["unprocessed"])
        assert n_frames == min(int(np.ceil(duration_s / 0.064)), 156)
        raw, smooth = tested["unprocessed"][row], tested["postprocessed"][row]
        np.testing.assert_allclose(found["unprocessed"], raw[:n_frames], atol=1e-5)
        if duration_s == 10:
            np.testing.assert_allclose(found["postprocessed"], smooth, atol=1e-5)
            np.testing.assert_array_equal(found["boundaries_s"], tested["boundaries_s"])
            compared += 1
    assert compared > 0
    assert found["event_labels"].tolist() == tested["event_labels"].tolist()
    content = json.loads((tmp_path / "out" / f"{clip_id}.json").read_text())
    assert content["model"] == role and content["checkpoint"] == str(best)


def test_everything_that_a_user_may_throw_at_it(small, predict, tmp_path):
    """Good recordings of all kinds have results; the others are listed, and the status is 1."""
    noise = 0.1 * np.random.default_rng(0).normal(size=(96000 * 12, 6))
    mixed = tmp_path / "mixed"
    (mixed / "deep").mkdir(parents=True)
    sf.write(mixed / "silence.wav", np.zeros(RATE * 11), RATE)
    sf.write(mixed / "short.wav", noise[:1600, 0], RATE)
    sf.write(mixed / "phone.wav", noise[: 8000 * 21, 0], 8000)
    sf.write(mixed / "studio.wav", noise, 96000, subtype="PCM_24")
    sf.write(mixed / "music.mp3", noise[: 44100 * 5, :2], 44100)
    sf.write(mixed / "deep" / "music.ogg", noise[: 44100 * 5, :2], 44100)
    sf.write(mixed / "deep" / "field.flac", noise[: 48000 * 5, :2], 48000)
    broken = np.zeros(RATE * 3)
    broken[RATE * 2] = np.nan
    sf.write(mixed / "nan.wav", broken, RATE, subtype="FLOAT")
    sf.write(mixed / "empty.wav", np.zeros(0), RATE)
    (mixed / "nothing.wav").touch()
    (mixed / "text.wav").write_text("this is no sound")
    done = predict(small, mixed, tmp_path / "absent.wav")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    good = {"silence", "short", "phone", "studio", "music", "deep/music", "deep/field"}
    files = {path.relative_to(tmp_path / "out").as_posix() for path in written(tmp_path / "out")}
    results = {f"{name}{FORMATS[kind].ending}" for name in good for kind in DEFAULT_FORMATS}
    assert files == {*results, "events.tsv"}
    assert "7 recordings, " in done.stdout and "real-time factor" in done.stdout
    listed = done.stderr.partition("Recordings not read:\n")[2].splitlines()
    assert len(listed) == 5
    for name, reason in (
        ("absent.wav", "no such file"),
        ("nan.wav", "not finite or beyond 1e+10, the first at 2.000 s in channel 1"),
        ("empty.wav", "contains no samples"),
        ("nothing.wav", "not readable as audio"),
        ("text.wav", "not readable as audio"),
    ):
        assert sum(name in line and reason in line for line in listed) == 1, listed
    assert json.loads((tmp_path / "out/studio.json").read_text())["duration_s"] == 12.0


def written(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if path.name != RECORD_FILE]


@pytest.fixture
def main(tmp_path, capsys):
    """The script's own function, which spares the start of a process: exit status, errors."""

    def run(checkpoint, *arguments):
        sf.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
        named = (tmp_path / "a.wav", "--checkpoint", checkpoint, "--output_dir", tmp_path / "out")
        known = ("--conf_file", ROOT / "confs/mini.yaml", "--formats", "json", "--gpus", "0")
        try:
            status = importlib.import_module("predict").main(
                [*map(str, (*named, *known)), *arguments]
            )
        except SystemExit as wrong:
            status = wrong.code
        return status, capsys.readouterr().err

    return run


def test_thresholds_of_the_command_line_and_the_configuration(small, main, tmp_path):
    def limits(*arguments):
        status, told = main(small, *arguments)
        assert status == 0, told
        return json.loads((tmp_path / "out/a.json").read_text())["thresholds"]

    assert set(limits().values()) == {0.5}
    assert set(limits("--threshold", "0.25").values()) == {0.25}
    one = limits("--threshold", "Dog=0.2,door opens/closes=0.3")
    assert (one["Dog"], one["door opens/closes"], one["Speech"]) == (0.2, 0.3, 0.5)
    assert limits("--set", "predict.threshold={Speech: 0.9}")["Speech"] == 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--threshold", "Dgo=0.4"), "unknown label 'Dgo'"),
        (("--threshold", "2"), "a threshold of 2"),
        (("--threshold", "loud"), "--threshold loud: 'loud' is not a number"),
        (("--low_threshold", "0.6"), "low_threshold: 0.6 is above the threshold 0.5 of Alarm_bell"),
        (("--low_threshold", "0.3", "--decoder", "boxes"), "but a box has one confidence"),
        (("--decoder", "magic"), "invalid choice: 'magic'"),
        (("--min_duration", "-1"), "min_duration_s: -1.0: give seconds, 0 or more"),
        (("--merge_gap", "Dgo=1"), "merge_gap_s: unknown label 'Dgo'"),
        (("--merge_classes", "Dog=Cat"), "merged_classes: 'Dog' is the name of a class"),
        (
            ("--merge_classes", "pets=Dog+Cat", "--threshold", "pets=0.4"),
            "'pets' is a merged class",
        ),
        (("--merge_classes", "pets=Dog+Cat,more=Cat"), "Cat is in pets and in more"),
        (
            ("--confidence", "calibrated"),
            "needs values that were tuned for the checkpoint (--tuned",
        ),
        (("--tuned", "none.yaml"), "--tuned none.yaml: no such file"),
        (("--set", "decoder.merge_rel=often"), "decoder.merge_rel"),
        (("--set", "predict.threshold={Dgo: 0.4}"), "names unknown classes: Dgo"),
        (("--set", "predict.threshold=1.5"), "predict.threshold"),
        (("--set", "predict.hop_s=20"), "predict.hop_s = 20: windows must be at least one frame"),
        (("--set", "predict.hop_s=-1"), "predict.hop_s: Input should be greater than 0"),
        (("--batch_size", "0"), "0 is not above 0"),
        (("--formats", "mp4"), "invalid choice: 'mp4'"),
        (("--embed_mb", "5"), "--embed_mb is about the sound of pages; add html to --formats"),
        (("--formats", "html", "--embed_mb", "-1"), "-1 is not a number of megabytes"),
        (("--gpus", "99"), "--gpus 99: there is no such GPU"),
    ],
)
def test_arguments_that_cannot_be_meant(arguments, message, small, main, tmp_path):
    status, told = main(small, *arguments)
    assert status == 2
    assert message in told
    assert not (tmp_path / "out").exists()


@pytest.fixture
def tuned(small, tmp_path):
    """best.yaml of the small checkpoint: threshold boxes of the teacher, with a calibration."""
    tree = load_config(ROOT / "confs/mini.yaml").dump()
    tree["decoder"] |= {"kind": "threshold_boxes", "threshold": 0.01}
    tree["net"]["median_filter"] = [1] * len(CLASSES)
    tree["predict"]["threshold"] = dict.fromkeys(CLASSES, 0.05)
    curve = TemperatureCurve(2.0)
    calibration = Calibration("temperature", {}, curve, dict.fromkeys(CLASSES[:20], 7))
    tree["tuned"] = {
        "checkpoint_sha256": sha256_of(small),
        "network": "teacher",
        "calibration": calibration.to_plain(),
    }
    path = tmp_path / "best of äll.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def test_tuned_values_and_rules_of_a_command(small, tuned, main, tmp_path):
    """What is written says how its events were made, and flags come before tuned values."""

    def written_with(*arguments):
        status, told = main(small, "--tuned", str(tuned), *arguments)
        assert status == 0, told
        return json.loads((tmp_path / "out/a.json").read_text("utf-8"))

    found = written_with()
    assert (found["model"], found["decoder"]["kind"]) == ("teacher", "threshold_boxes")
    assert set(found["thresholds"].values()) == {0.05} and found["median_filter"] == [1] * 27
    others = ", ".join(CLASSES[20:])
    assert found["confidence_is"] == f"calibrated (temperature); mean score for {others}"
    assert found["events"]
    for event in found["events"]:
        mean = event["mean_score"]
        odds = np.sqrt(mean / (1 - mean)) if event["label"] in CLASSES[:20] else None
        expected = mean if odds is None else odds / (1 + odds)
        assert event["confidence"] == pytest.approx(expected, abs=2e-4)
    raw = written_with("--confidence", "score")
    assert raw["confidence_is"] == "mean score" and "mean_score" not in raw["events"][0]
    plain = [{k: v for k, v in event.items() if k != "mean_score"} for event in found["events"]]
    for event, other in zip(plain, raw["events"], strict=True):
        event["confidence"] = other["confidence"]
    assert plain == raw["events"]
    rules = ("--min_duration", "0.2", "--merge_classes", "Tür=Dog+Cat", "--merge_gap", "Dog=1")
    flags = ("--decoder", "median", "--model", "student", "--threshold", "Dog=0.1", *rules)
    with pytest.warns(UserWarning, match="tuned on scores of the teacher") as given:
        other = written_with(*flags)
    assert "decoder" not in other and other["confidence_is"] == "mean score"
    told = "; ".join(str(one.message) for one in given)
    assert "tuned on scores of the teacher, used with the student" in told
    assert "its calibration is that of the teacher, not of the student, so" in told
    assert (other["thresholds"]["Dog"], other["thresholds"]["Cat"]) == (0.1, 0.05)
    assert (other["min_duration_s"], other["merge_gap_s"]) == (0.2, {"Dog": 1.0})
    assert other["merged_classes"] == {"Tür": ["Dog", "Cat"]}
    with pytest.warns(UserWarning, match="tuned on scores of the teacher"):
        status, told = main(
            small, "--tuned", str(tuned), "--model", "student", "--confidence", "calibrated"
        )
    assert status == 2 and "leave out calibrated confidence" in told
    second = saved(ours(small_spec(use_embeddings=False), more=1), tmp_path / "second.ckpt")
    status, told = main(second, "--tuned", str(tuned))
    assert status == 2 and "tuned for another checkpoint (SHA-256" in told


def test_weights_that_are_absent_or_of_another_size(main, tmp_path):
    checkpoint = saved(ours(small_spec(embedding_size=48)), tmp_path / "other.ckpt")
    status, told = main(checkpoint, "--set", f"pretrained.beats_checkpoint={tmp_path}/none.pt")
    assert status == 2 and "none.pt: no such file of BEATs weights" in told
    write_random_beats(
        tmp_path / "beats.pt", seed=1, config=replace(SMALL_CONFIG, encoder_layers=1)
    )
    status, told = main(checkpoint, "--pretrained_model", str(tmp_path / "beats.pt"))
    assert status == 2 and "embeddings of 128 features, the network takes 48" in told


# Prints the largest memory that a run of predict.py ever took, in bytes.
MEASURE = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import predict
status = predict.main(sys.argv[2:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
sys.exit(status)
"""


def peak_bytes(recording, checkpoint, folder):
    done = run_forked(
        [
            *(sys.executable, "-c", MEASURE, ROOT, recording, "--checkpoint", checkpoint),
            *("--conf_file", ROOT / "confs/mini.yaml", "--output_dir", folder / "out"),
            *("--formats", "tsv", "npz", "png", "--gpus", "0", "--set", "predict.hop_s=8"),
        ],
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return int(re.search(r"^peak (\d+)", done.stdout, re.M)[1])


def test_memory_does_not_grow_with_the_recording(small, tmp_path):
    """A 25-minute recording, of 380 MB, takes at most 130 MB more than one of a minute."""
    minute = (0.1 * np.random.default_rng(0).normal(size=(60 * 32000, 2))).astype(np.float32)
    peaks = []
    for name, minutes in (("short.wav", 1), ("long.wav", 25)):
        with sf.SoundFile(tmp_path / name, "w", 32000, 2, subtype="PCM_16") as sound:
            for _ in range(minutes):
                sound.write(minute)
        peaks.append(peak_bytes(tmp_path / name, small, tmp_path))
    assert len(np.load(tmp_path / "out/long.npz")["postprocessed"]) == 1500 / 0.04
    assert peaks[1] - peaks[0] < 130e6, peaks


def test_ctrl_c_ends_it_and_it_goes_on(small, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    sf.write(folder / "a.wav", np.zeros(RATE), RATE)
    noise = 0.1 * np.random.default_rng(0).normal(size=RATE * 600)
    sf.write(folder / "b.wav", noise, RATE)
    for name in "cdefgh":
        shutil.copy(folder / "b.wav", folder / f"{name}.wav")
    command = [
        *(sys.executable, ROOT / "predict.py", folder, "--checkpoint", small, "--gpus", "0"),
        *("--conf_file", ROOT / "confs/mini.yaml", "--output_dir", tmp_path / "out"),
        *("--formats", "tsv", "--skip_existing", "--set", "predict.hop_s=0.32"),
    ]
    process = Forked(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    deadline_s = time.monotonic() + 120
    while not (tmp_path / "out/a.tsv").exists() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert "with --skip_existing to resume" in told and "Traceback" not in told
    files = written(tmp_path / "out")
    assert 0 < len(files) < 8 and {path.suffix for path in files} == {".tsv"}
    assert not any(path.name.startswith(".") for path in files)
    for path in folder.glob("[c-h].wav"):
        path.unlink()
    done = run_forked([*command, "--set", "predict.hop_s=9.6"], text=True)
    assert done.returncode == 0
    assert re.search("skipped because (its|their) files exist", done.stdout)
    assert (tmp_path / "out/b.tsv").exists()
