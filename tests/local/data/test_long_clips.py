"""Recordings longer than a clip: every second of them is scored, whichever way they are read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
import soundfile as sf
import torch
from torch.nn import functional as F

from desed_task.audio.clip_files import clip_files
from desed_task.checkpoints.spec import SPEC_KEY
from desed_task.dataio.embedding_sources import DIGEST, MTIME, SIZE
from desed_task.dataio.embeddings import EmbeddingReader
from desed_task.errors import InputError
from desed_task.inference.detector import SoundEventDetector
from desed_task.nnet.CRNN import Detection
from local import run
from local.checkpoints.restore import detector_spec
from local.config import load_config
from local.data.clips.windows import takes_windows
from local.data.datamodule import SedDataModule
from local.extraction.extractor import Extractor
from local.run import RunOptions
from local.scoring import figures
from local.scoring.score_files import read_scores
from local.sed_trainer_pretrained import SEDTask4
from local.submission.file_checks import table_fault
from local.training import result_writers
from local.tuning.cached_scores import teacher_scores
from tests.local.data.published import TASK
from tests.local.data.test_packed_corpora import opened

RATE = 16000
# Clip -> seconds: padded, whole, cropped, and in windows.
CLIPS_S = {"9.9": 9.9, "тихо": 10.0, "b 10.3": 10.3, "c10.6": 10.6, "a": 25.37, "long": 30.0}
WINDOWED = {"a": 25.37, "c10.6": 10.6, "long": 30.0}
N_FURTHER = {"a": 4, "c10.6": 1, "long": 4}  # windows from 5.12 s on
SETS = {
    "synth_val": ("synth_val_folder", "synth_val_tsv", "synth_val_dur"),
    "devtest": ("test_folder", "test_tsv", "test_dur"),
    "eval": ("eval_folder",),
    "weak_train": ("weak_folder", "weak_tsv"),
}
TABLE_HEAD = "filename\tonset\toffset\tevent_label"
NO_FILTER = f"net.median_filter={[1] * 27}"


class Place(NamedTuple):
    """A configuration whose validation, test, evaluation and weak sets are the same six clips."""

    conf: Path
    folder: Path
    overrides: tuple[str, ...]

    def config(self, *more: str):
        return load_config(self.conf, (*self.overrides, *more))


def write_clips(folder: Path, clips_s: dict[str, float], seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    draws = np.random.default_rng(seed)
    for name, seconds in clips_s.items():
        n_samples = round(seconds * RATE)
        # Not alike in every second, so that a window read from the wrong place is noticed.
        loudness = np.repeat(draws.uniform(0.01, 0.5, n_samples // 4000 + 1), 4000)[:n_samples]
        wav = loudness * draws.uniform(-1, 1, n_samples)
        sf.write(folder / f"{name}.wav", wav, RATE, subtype="FLOAT")
    return folder


def extractor(config, out, **more) -> Extractor:
    return Extractor.open(
        config.pretrained.encoders[0],
        out,
        clip_s=10.0,
        device=torch.device("cpu"),
        progress=False,
        **{"windows": dict.fromkeys(SETS, config.windows), **more},
    )


@pytest.fixture(scope="module")
def place(extracted, tmp_path_factory) -> Place:
    root = tmp_path_factory.mktemp("long")
    folder = write_clips(root / "clips", CLIPS_S)
    events = [
        ("9.9", 1.0, 3.5, "Dog"),
        ("тихо", 2.0, 9.0, "Speech"),
        ("b 10.3", 0.5, 4.0, "Cat"),
        ("c10.6", 9.0, 10.56, "Dog"),
        ("a", 0.25, 3.0, "Cat"),
        ("a", 11.0, 16.5, "Speech"),
        ("a", 23.0, 25.3, "Dog"),
        ("long", 9.5, 20.5, "Speech"),
        ("long", 28.0, 30.0, "Cat"),
    ]
    rows = [f"{name}.wav\t{onset}\t{offset}\t{label}" for name, onset, offset, label in events]
    (root / "strong.tsv").write_text("\n".join([TABLE_HEAD, *rows]) + "\n", encoding="utf-8")
    weak = "".join(f"{name}.wav\tDog,Speech\n" for name in CLIPS_S)
    (root / "weak.tsv").write_text("filename\tevent_labels\n" + weak, encoding="utf-8")
    lengths = "".join(f"{name}.wav\t{seconds}\n" for name, seconds in CLIPS_S.items())
    (root / "durations.tsv").write_text("filename\tduration\n" + lengths, encoding="utf-8")
    overrides = ["training.weak_split=0.3", f"pretrained.extracted_embeddings_dir={root}"]
    for keys in SETS.values():
        files = (folder, root / ("weak.tsv" if "weak_tsv" in keys else "strong.tsv"))
        for key, path in zip(keys, (*files, root / "durations.tsv"), strict=False):
            overrides.append(f"data.{key}={path}")
    config = load_config(extracted, overrides)
    shutil.copytree(
        Path(load_config(extracted).pretrained.extracted_embeddings_dir) / "beats", root / "beats"
    )
    for name in SETS:
        (root / "beats" / f"{name}.hdf5").unlink()
    extractor(config, root).extract("devtest", clip_files(folder))
    for name in SETS:
        if name != "devtest":
            shutil.copy(root / "beats" / "devtest.hdf5", root / "beats" / f"{name}.hdf5")
    return Place(extracted, root, tuple(overrides))


@pytest.fixture(scope="module")
def checkpoint(place) -> Path:
    torch.manual_seed(0)
    config = place.config()
    module = SEDTask4(config)
    # Scores of an untrained network hardly differ; these do.
    for network in module.networks.values():
        network.dense.weight.data *= 20
    path = place.folder / "best.ckpt"
    content = {"state_dict": module.state_dict(), "hyper_parameters": config.dump()}
    torch.save({**content, SPEC_KEY: detector_spec(config).to_dict()}, path)
    return path


def networks_of(checkpoint, config):
    module = SEDTask4(config).eval()
    module.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    return module


def scored(checkpoint, data, stage="test"):
    """The module after a test or an evaluation."""
    module = networks_of(checkpoint, data.config)
    loaders = {"test": data.test_dataloader, "predict": data.predict_dataloader}
    with torch.inference_mode():
        for batch in loaders[stage]():
            module.test_step(batch, 0)
    return module


@pytest.fixture(scope="module")
def data(place):
    return opened(place.conf, "test", *place.overrides)


@pytest.fixture(scope="module")
def scores(checkpoint, data):
    return scored(checkpoint, data).score_accumulator.scores("student", TASK.corpus("devtest"))


def test_scores_are_those_of_the_detector(place, checkpoint, scores):
    config = place.config()
    detector = SoundEventDetector.from_checkpoint(
        checkpoint, encoder=config.pretrained.beats_checkpoint
    )
    assert scores.clip_ids == ("9.9", "b 10.3", "тихо", *WINDOWED)
    for name in CLIPS_S:
        waveform, _ = sf.read(place.folder / "clips" / f"{name}.wav", dtype="float32")
        if name == "b 10.3":
            waveform = waveform[: 10 * RATE]  # cropped, as published
        found, of = detector.detect(waveform, RATE), scores.of(name)
        n_frames = min(len(found.unprocessed), len(of.values))  # a short clip is padded
        assert n_frames >= 155 and len(of.values) >= n_frames
        np.testing.assert_allclose(of.values[:n_frames], found.unprocessed[:n_frames], atol=1e-5)
        if name in WINDOWED:
            np.testing.assert_array_equal(of.boundaries_s, found.boundaries_s)
            smooth = detector.spec.decode.smooth(of.values)
            np.testing.assert_allclose(smooth, found.scores, atol=1e-5)
            assert of.values[156:].std() > 0.01


@pytest.mark.parametrize(
    "overrides",
    [
        ("training.batch_size_val=1",),
        ("training.batch_size_val=7",),
        ("training.num_workers=1",),
        ("data.packed_dir=PACKED", "data.resident=disk", "training.batch_size_val=4"),
        ("data.packed_dir=PACKED", "data.resident=ram"),
    ],
    ids=lambda overrides: overrides[-1],
)
def test_scores_do_not_depend_on_how_clips_are_read(place, checkpoint, scores, overrides):
    more = [one.replace("PACKED", str(place.folder / "packed")) for one in overrides]
    data = opened(place.conf, "test", *place.overrides, *more)
    found = scored(checkpoint, data).score_accumulator.scores("student", TASK.corpus("devtest"))
    assert found.clip_ids == scores.clip_ids
    np.testing.assert_allclose(found.values, scores.values, atol=1e-5)
    for one, other in zip(found.longer, scores.longer, strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=1e-5)


def test_packed_rows_are_those_of_the_files_to_the_bit(place):
    where = (f"data.packed_dir={place.folder / 'packed'}", "data.resident=disk")
    packed = opened(place.conf, "fit", *place.overrides, *where)
    files = opened(place.conf, "fit", *place.overrides)
    for loader in ("val_dataloader", "test_dataloader", "train_dataloader"):
        batches = zip(getattr(packed, loader)(), getattr(files, loader)(), strict=True)
        for one, other in batches:
            assert one.clip_id == other.clip_id and one.span == other.span
            pooled = F.adaptive_avg_pool1d(other.embedding, 156)
            assert torch.equal(one.embedding, pooled)
            for left, right in zip(one.tensors[:4], other.tensors[:4], strict=True):
                assert torch.equal(left, right)
            assert loader != "train_dataloader" or not one.span  # cropped at random
    held_out = set(files.scored("val")[1].clip_ids)
    assert held_out & set(WINDOWED)  # so windows of weak clips were compared


def perfect(data, module, step):
    """Score with the targets themselves."""
    for batch in step():
        found = Detection(batch.target, batch.target.amax(-1))
        for role in module.networks:
            module.score_accumulator.add(role, batch, found)
    return module.score_accumulator


def test_a_perfect_detector_misses_nothing(place):
    data = opened(place.conf, "fit", *place.overrides, NO_FILTER)
    accumulator = perfect(data, SEDTask4(data.config), data.test_dataloader)
    metrics = accumulator.test_metrics(data.truths("test"))
    for name in ("psds1/sed_scores_eval", "psds2/sed_scores_eval", "psds1/psds_eval"):
        assert metrics[f"test/student/{name}"] == pytest.approx(1.0), name
    for kind in ("intersection", "collar"):
        assert metrics[f"test/student/{kind}_f1_macro_thres05/sed_scores_eval"] == 1.0
    accumulator = perfect(data, SEDTask4(data.config), data.val_dataloader)
    metrics = accumulator.validation_metrics(data.truths("val"))
    assert metrics["val/teacher/psds1/sed_scores_eval"] == pytest.approx(1.0)
    assert metrics["val/teacher/collar_f1_macro_thres05/sed_scores_eval"] == 1.0
    held_out = data.scored("val")[1].clip_ids
    of_weak = accumulator._clips_of("student", TASK.corpus("weak_train"))
    assert len(of_weak.recordings()) == len(set(held_out) & set(WINDOWED)) > 0
    # A mean over 27 classes, of which two are present and found.
    assert metrics["val/student/weak_f1_macro_thres05/torchmetrics"] == pytest.approx(2 / 27)


@pytest.mark.parametrize("long_s", [30.0, 17.2, 121.0])
def test_the_trial(place, trial, tmp_path, long_s):
    """`rec6` of 10 s and `long1`, whose events lie at 0.5, 12 and 25 s of 30."""
    folder = write_clips(tmp_path / "clips", {"long1": long_s, "rec6": 10.0})
    table, durations = trial("long_truth.tsv"), trial("long_durations.tsv")
    if long_s != 30.0:
        text = durations.read_text().replace("30", str(long_s))
        durations = tmp_path / "durations.tsv"
        durations.write_text(text)
        text = table.read_text().replace("25\t28", f"{long_s - 3}\t{long_s}")
        table = tmp_path / "truth.tsv"
        table.write_text(text)
    overrides = (
        *place.overrides,
        f"data.test_folder={folder}",
        f"data.test_tsv={table}",
        f"data.test_dur={durations}",
        "net.use_embeddings=false",
        NO_FILTER,
    )
    data = opened(place.conf, "test", *overrides)
    accumulator = perfect(data, SEDTask4(data.config), data.test_dataloader)
    metrics = accumulator.test_metrics(data.truths("test"))
    assert metrics["test/student/psds1/sed_scores_eval"] == pytest.approx(1.0)
    assert metrics["test/student/collar_f1_macro_thres05/sed_eval"] == 1.0
    assert data.long_clip_lines("test") == [
        "clips longer than 10.5 s, scored in windows 5.12 s apart: 1 of DESED dev-test (devtest)"
    ]


def test_both_kinds_of_longer_clips_are_counted(place, data):
    assert data.long_clip_lines("test") == [
        "clips longer than 10 s, cropped: 1 of DESED dev-test (devtest)",
        "clips longer than 10.5 s, scored in windows 5.12 s apart: 3 of DESED dev-test (devtest)",
    ]
    assert SedDataModule(load_config(place.conf)).config.windows().hop_frames == 80


def test_half_a_second_is_cropped_and_a_sample_more_is_not(extracted, tmp_path):
    clips_s = {"at": 10.5, "above": 10.5 + 1 / RATE}
    folder = write_clips(tmp_path / "clips", clips_s)
    data = opened(extracted, "predict", f"data.eval_folder={folder}", "net.use_embeddings=false")
    assert list(data.loaded["eval"].long.spans) == ["above"]
    rows = [clip_id for batch in data.predict_dataloader() for clip_id in batch.clip_id]
    assert rows == ["above", "above", "at"]


def test_a_run_of_tests_and_its_files(place, checkpoint, tmp_path, capsys, monkeypatch):
    config = place.config()
    monkeypatch.setattr(result_writers, "ROLLS_PER_CORPUS", 3)
    drawn = []

    def save_figure(figure, path):
        drawn.append((figure, path))
        path.write_bytes(bytes(24))  # of a PNG no more is read

    monkeypatch.setattr(figures, "save_figure", save_figure)
    folder = run.test(config, str(checkpoint), RunOptions(str(tmp_path / "run")))
    assert "scored in windows 5.12 s apart: 3 of DESED dev-test" in capsys.readouterr().out
    roll = next(figure for figure, path in drawn if path.name == "event_roll_a.png")
    assert roll.axes[0].get_xlim()[1] == pytest.approx(25.37)
    results = json.loads((folder / "results.json").read_text())
    assert results["scoring"]["hop_s"] == config.predict.hop_s
    metrics = results["metrics"]
    data = opened(place.conf, "test", *place.overrides)
    module = scored(checkpoint, data)
    expected = module.score_accumulator.test_metrics(data.truths("test"))
    for name, value in metrics.items():
        assert value is None or value == pytest.approx(expected[name], abs=1e-6), name
    stored = read_scores(
        folder / "metrics_test" / "teacher" / "scores_devtest.npz", "postprocessed"
    )
    smoothed = module.score_accumulator.smoothed("teacher", TASK.corpus("devtest"))
    assert stored.clip_ids == smoothed.clip_ids
    for one, other in zip(stored.longer, smoothed.longer, strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=1e-6)
        np.testing.assert_array_equal(one.boundaries_s, other.boundaries_s)
    for _ in range(2):  # computed, then from the cache
        cached = teacher_scores(config, checkpoint, "test", tmp_path / "c", torch.device("cpu"))
        for one, other in zip(cached.of("events")[0].longer, module_scores(module), strict=True):
            np.testing.assert_allclose(one.values, other.values, atol=1e-6)


def module_scores(module):
    return module.score_accumulator.scores("teacher", TASK.corpus("devtest")).longer


def test_an_evaluation_writes_all_of_a_recording(place, checkpoint, tmp_path, scores):
    folder = run.evaluate(place.config(), str(checkpoint), RunOptions(str(tmp_path / "run")))
    tables = folder / "metrics_test" / "student_scores" / "unprocessed"
    assert {path.stem for path in tables.iterdir()} == set(CLIPS_S)
    for name, seconds in CLIPS_S.items():
        path = tables / f"{name}.tsv"
        end_s = seconds if name in WINDOWED else min(seconds, 10.0)
        assert table_fault(path, end_s, 0.064) == ""
        values = np.loadtxt(path, delimiter="\t", skiprows=1)[:, 2:]
        np.testing.assert_allclose(values, scores.of(name).values[: len(values)], atol=1e-5)
        if name in WINDOWED:
            assert len(values) == len(scores.of(name).values)


def test_the_published_rows_stay_and_windows_stand_beside_them(place, tmp_path, capsys):
    config, wavs = place.config(), clip_files(place.folder / "clips")
    plain = extractor(config, tmp_path, windows=None)
    plain.extract("devtest", wavs)
    old, new = plain.path("devtest"), place.folder / "beats" / "devtest.hdf5"
    with h5py.File(old, locking=False) as before, h5py.File(new, locking=False) as after:
        published = {"frame_embeddings", "global_embeddings", "filenames"}
        assert set(before) == published | {"finished", SIZE, MTIME, DIGEST}
        for name in published:
            np.testing.assert_array_equal(before[name][:], after[name][:])
        assert len(after["window_starts"]) == sum(N_FURTHER.values())
    reader = EmbeddingReader(new)
    assert {c: sum(w.clip_id == c for w in reader.windows) for c in N_FURTHER} == N_FURTHER
    assert not np.allclose(reader.frame("long"), reader.frame(reader.windows[-1]))
    # A store from before is refused, completed without computing a clip again, then current.
    overrides = (*place.overrides, f"pretrained.extracted_embeddings_dir={tmp_path}")
    with pytest.raises(InputError) as caught:
        opened(place.conf, "test", *overrides)
    assert "lacks 9 windows of 3 clips longer than 10 s (c10.6, a, long)" in str(caught.value)
    now = extractor(config, tmp_path)
    capsys.readouterr()
    now.extract("devtest", wavs)
    said = capsys.readouterr().out
    assert "devtest.hdf5 lacks 9 windows of longer clips" in said
    assert "resuming, 3 of 6 clips are done" in said
    now.extract("devtest", wavs)
    assert "6 clips (3 of them longer: 9 further windows), already up to date" in (
        capsys.readouterr().out
    )
    again = EmbeddingReader(old)
    for name in (*reader.clip_ids, *reader.windows):
        np.testing.assert_array_equal(again.frame(name), reader.frame(name))


def test_other_windows_than_those_extracted_are_refused(place):
    with pytest.raises(InputError, match=r"windows 2\.56 s apart; run extract_embeddings"):
        opened(place.conf, "predict", *place.overrides, "predict.hop_s=2.56")
    with pytest.raises(InputError, match=r"dev-test has clips .* windows: predict\.hop_s = 11"):
        opened(place.conf, "test", *place.overrides, "predict.hop_s=11")


def test_maestro_and_training_clips_are_cropped_as_before(place, data):
    windowed = {one.name for one in TASK.corpora if takes_windows(TASK, one)}
    assert windowed == {"synth_val", "weak_train", "devtest", "eval"}
    weak = opened(place.conf, "fit", *place.overrides).loaded["weak_train"]
    assert len(weak.dataset(data.config, data.grid)) == len(CLIPS_S)
    n_rows = len(weak.dataset(data.config, data.grid, scored=True))
    assert n_rows == len(CLIPS_S) + sum(N_FURTHER.values())
