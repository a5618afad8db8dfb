"""The doctor on the small mini corpus: what was planted is found, and nothing else."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile as sf
import yaml

from desed_task.dataio.embedding_sources import DIGEST, MTIME, SIZE
from desed_task.encoders.beats.model import SMALL_CONFIG, write_random_beats
from desed_task.encoders.weights_file import MINI_BEATS
from desed_task.errors import InputError
from local.config import RecipeConfig, load_config
from local.data.expected_clips import MINI_CORPUS_MARKER
from local.doctor.check import check_data, run_check
from local.doctor.report import REPORT_FILE, DataReport, Finding

RATE = 16000
OLD = (1e9, 1e9)  # Before the embeddings, as the audio that they were made from.


class Copy:
    """A copy of the small mini corpus and its embeddings, to be spoilt."""

    def __init__(self, root: Path, conf: Path) -> None:
        self.root, self.conf = root, conf

    def load(self, *overrides: str) -> RecipeConfig:
        return load_config(self.conf, overrides)

    def path(self, key: str) -> Path:
        return Path(getattr(self.load().data, key))

    def wavs(self, key: str) -> list[Path]:
        return sorted(self.path(key).glob("*.wav"))

    def embeddings(self, name: str) -> Path:
        return Path(self.load().pretrained.extracted_embeddings_dir) / "beats" / f"{name}.hdf5"

    def beats(self) -> Path:
        return Path(self.load().pretrained.beats_checkpoint)

    def check(self, *overrides: str) -> DataReport:
        return check_data(self.load(*overrides), conf_file=str(self.conf), progress=False)


def rewrite(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str = "FLOAT") -> None:
    """Other audio in the place of a file, as old as it was."""
    sf.write(path, samples, rate, subtype=subtype)
    os.utime(path, OLD)


def noise(seconds: float) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).normal(size=round(seconds * RATE))


def edit(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def copy_or_link(source: str, target: str) -> None:
    """Originals, of which no test writes any, are linked; what is spoilt is copied."""
    if source.endswith(".wav") and not Path(source).parent.name.endswith("_16k"):
        os.link(source, target)
        return
    shutil.copy(source, target)
    if source.endswith(".wav"):
        os.utime(target, OLD)


@pytest.fixture
def corpus(extracted: Path, mini_root: Path, tmp_path: Path) -> Copy:
    shutil.copytree(mini_root / "embeddings", tmp_path / "embeddings")
    for path in (tmp_path / "embeddings").rglob("*.hdf5"):
        # As earlier versions wrote them: the order in time tells what is outdated.
        with h5py.File(path, "r+") as file:
            for name in (SIZE, MTIME, DIGEST):
                del file[name]
    dataset = "data/mini/dcase"
    shutil.copytree(mini_root / dataset, tmp_path / dataset, copy_function=copy_or_link)
    for name in (MINI_CORPUS_MARKER, MINI_BEATS):
        shutil.copy(mini_root / "data" / "mini" / name, tmp_path / "data" / "mini")
    conf = tmp_path / "mini.yaml"
    conf.write_text(extracted.read_text().replace(str(mini_root), str(tmp_path)))
    return Copy(tmp_path, conf)


def part_of(report: DataReport, name: str):
    return next(part for part in report.parts if part.name == name)


def expected(corpus: Copy, name: str) -> tuple[str, ...]:
    return corpus.load().detection_task.corpus(name).recordings.expected


def told(report: DataReport, *levels: str) -> list[str]:
    """Messages of the findings at some levels; without levels, of all but the mini corpus's own."""
    levels = levels or ("error", "warning", "note")
    own = (
        "is digitally silent, and has no labelled events",
        "clips without events, left out: 1",
        "classes with fewer than 10 events or labelled clips in training: Frying (3), ",
    )
    found = [finding.message for finding in report.findings if finding.level in levels]
    return [message for message in found if not any(text in message for text in own)]


# ---- as it is made


def test_the_mini_corpus_is_sound_but_for_a_silent_clip_and_one_without_events(corpus):
    report = corpus.check()
    folder = corpus.path("unlabeled_folder")
    (silent,) = part_of(report, "unlabeled_train").silent
    (eventless,) = part_of(report, "devtest").left_out
    assert {finding.level for finding in report.findings} == {"note"}
    assert {finding.message for finding in report.findings} == {
        "classes with fewer than 10 events or labelled clips in training: Frying (3), "
        "Running_water (3), Electric_shaver_toothbrush (4), Vacuum_cleaner (4), Blender (6), "
        "Alarm_bell_ringing (7)",
        f"{folder}: 1 of 5 files is digitally silent, and has no labelled events ({silent})",
        f"{corpus.path('test_tsv')}: clips without events, left out: 1 ({eventless}); to use them, "
        "add devtest to data.keep_clips_without_events",
    }
    assert not report.training_would_fail
    assert not np.any(sf.read(folder / f"{silent}.wav")[0])


def test_counts_hours_and_identity_are_those_of_the_files(corpus):
    report = corpus.check()
    for part in report.parts:
        seconds = [sf.info(path).duration for path in Path(part.folder).glob("*.wav")]
        assert part.present + len(part.left_out) == len(seconds)
        left_out = [sf.info(Path(part.folder) / f"{c}.wav").duration for c in part.left_out]
        assert part.hours == pytest.approx((sum(seconds) - sum(left_out)) / 3600)
        assert part.listed in (None, len(seconds))
        assert part.embeddings.state == "whole"
        assert part.embeddings.clips == len(seconds)
        assert part.embeddings.identity["checkpoint_sha256"] == report.checkpoints[0].sha256
    assert [part.name for part in report.parts if part.listed is None] == [
        "unlabeled_train",
        "eval",
    ]
    assert (report.checkpoints[0].state, report.checkpoints[0].n_features) == ("sound", 128)
    assert report.checkpoints[0].size_bytes == corpus.beats().stat().st_size


# ---- planted


def plant(corpus: Copy) -> dict[str, tuple[str, str, str]]:
    """Fourteen defects: what -> level, corpus and what the message must say."""
    gone = corpus.wavs("test_folder")[0]
    gone.unlink()
    table = corpus.path("test_tsv").read_text()
    mute = next(w for w in corpus.wavs("test_folder") if re.search(rf"{w.name}\t\d", table))
    rewrite(mute, np.zeros(sf.info(mute).frames))

    opposite = corpus.wavs("eval_folder")[0]
    half = noise(sf.info(opposite).duration)
    rewrite(opposite, np.stack([half, -0.9 * half], axis=1))

    cut = corpus.wavs("synth_folder")[2]
    cut.write_bytes(cut.read_bytes()[:5000])
    os.utime(cut, OLD)

    fast = corpus.wavs("strong_folder")[0]
    rewrite(fast, *sf.read(corpus.path("strong_folder_44k") / fast.name))
    row = "Yabsent_____0.000_10.000.wav\t0.0\t1.0\tDog"
    edit(corpus.path("strong_tsv"), lambda lines: [*lines, row])

    label = corpus.path("weak_tsv")
    edit(label, lambda lines: [lines[0], lines[1].split("\t")[0] + "\tDgo", *lines[2:]])

    long = corpus.wavs("unlabeled_folder")[0]
    rewrite(long, noise(20.0))
    late = corpus.wavs("unlabeled_folder")[1]
    os.utime(late)

    shutil.rmtree(corpus.path("synth_val_folder"))
    corpus.path("synth_val_folder").mkdir()

    short = corpus.wavs("real_maestro_val_folder")[0]
    rewrite(short, noise(3.0))
    with h5py.File(corpus.embeddings("maestro_real_dev"), "r+") as file:
        names = file["filenames"][:]
        lost = names[3].decode()
        names[3] = b"somebody_else"
        file["filenames"][:] = names

    with h5py.File(corpus.embeddings("maestro_real_train"), "r+") as file:
        file.attrs["checkpoint_sha256"] = "ab" * 32
    corpus.beats().write_bytes(b"<html>404</html>")
    return {
        "missing file": ("warning", "devtest", rf"1 of 6 listed clips.*\({gone.stem}\)"),
        "silent file": ("warning", "devtest", rf"1 of 5 files is digitally silent.*{mute.stem}"),
        "opposite phase": (
            "warning",
            "eval",
            rf"1 of \d+ files has channels that cancel each other.*\({opposite.stem}\)",
        ),
        "truncated file": ("error", "synth_train", rf"{cut}: is cut short"),
        "wrong rate": ("error", "strong_train", rf"1 of 4 files is at 44100 Hz.*{fast.stem}"),
        "absent file": ("warning", "strong_train", r"1 of 5 listed clips.*Yabsent_"),
        "unknown label": ("error", "weak_train", rf"{label}.*line 2: unknown label 'Dgo'"),
        "too long": (
            "warning",
            "unlabeled_train",
            rf"wrong length \({long.stem}: 20.00 s, should be .* s like its original\)",
        ),
        "newer than its embeddings": (
            "warning",
            "unlabeled_train",
            rf"changed since these embeddings: 1 \({late.stem}\)",
        ),
        "empty folder": ("error", "synth_val", r"data\.synth_val_folder: .* contains no WAV file"),
        "too short": (
            "warning",
            "maestro_real_dev",
            rf"wrong length \({short.stem}: 3.00 s, should be 10.00 s by its name\)",
        ),
        "and so events after its end": (
            "warning",
            "",
            r"maestro_real_validation\.tsv: \d+ events begin after their clip's end",
        ),
        "incomplete embeddings": ("error", "maestro_real_dev", rf"lacks .* 1 of 10.*\({lost}\)"),
        "stale embeddings": (
            "warning",
            "maestro_real_train",
            "made with other BEATs weights than most of the others",
        ),
        "broken checkpoint": ("warning", "", rf"{corpus.beats()}: not a file of weights"),
    }


def test_every_planted_defect_is_found_and_nothing_else(corpus):
    planted = plant(corpus)
    report = corpus.check()
    rest: list[Finding] = list(report.findings)
    for what, (level, name, pattern) in planted.items():
        hits = [
            f
            for f in rest
            if (f.level, f.part) == (level, name) and re.search(pattern, f.message, re.S)
        ]
        assert len(hits) == 1, (what, [f.message for f in report.findings])
        rest.remove(hits[0])
    names = ["unlabeled_train", "devtest", "devtest"]
    assert [(f.level, f.part) for f in rest] == [("note", name) for name in names]
    assert report.training_would_fail
    order = [f.level for f in report.findings]
    assert order == sorted(order, key=["error", "warning", "note"].index)


def test_the_report_names_what_was_planted(corpus):
    plant(corpus)
    content = written(corpus)
    parts = content["parts"]
    assert content["training_would_fail"] is True
    assert (parts["devtest"]["listed"], parts["devtest"]["present"]) == (6, 4)
    assert len(parts["devtest"]["missing"]) == len(parts["devtest"]["silent"]) == 1
    assert parts["strong_train"]["missing"] == ["Yabsent_____0.000_10.000"]
    assert list(parts["strong_train"]["wrong_rate"].values()) == [44100]
    assert list(parts["synth_train"]["unreadable"]) == ["2"]
    assert len(parts["unlabeled_train"]["wrong_length"]) == 1
    assert len(parts["eval"]["cancelling"]) == 1
    # The table cannot be used for its label, but says all the same which clips there should be.
    assert (parts["weak_train"]["listed"], parts["weak_train"]["present"]) == (6, 6)
    assert len(parts["synth_val"]["missing"]) == parts["synth_val"]["listed"] == 4
    states = {name: part["embeddings"]["state"] for name, part in parts.items()}
    assert states == {
        "maestro_real_train": "stale",
        "synth_train": "whole",
        "strong_train": "whole",
        "weak_train": "whole",
        "unlabeled_train": "stale",
        "synth_val": "whole",
        "devtest": "whole",
        "maestro_real_dev": "lack 1",
        "eval": "whole",
    }
    assert content["checkpoint"]["state"] == "broken"


def written(corpus: Copy) -> dict:
    """data_report.json of a check as the script does it."""
    run_check(load_config(corpus.conf), str(corpus.conf), corpus.root, jobs=2)
    return json.loads((corpus.root / "data_report.json").read_text())


@pytest.mark.parametrize("text", ["{}", '{"findings": []}', "no JSON", "[1]"])
def test_another_file_of_that_name_stays(corpus, text, monkeypatch):
    mine = corpus.root / "data_report.json"
    mine.write_text(text)
    with pytest.raises(InputError, match=f"--overwrite:\n  - {mine}$"):
        run_check(load_config(corpus.conf), str(corpus.conf), corpus.root)
    assert mine.read_text() == text
    monkeypatch.setattr(
        "local.doctor.check.check_data", lambda *_, **__: DataReport("", (), (), ())
    )
    monkeypatch.setattr(DataReport, "text", lambda _: "")
    monkeypatch.setattr("local.doctor.report.asdict", lambda _: {})
    for overwrite in (True, False):  # Then it is a report.
        args = load_config(corpus.conf), str(corpus.conf), corpus.root
        assert run_check(*args, overwrite=overwrite) == 0
    assert json.loads(mine.read_text())["training_would_fail"] is False


# ---- what decides over the exit status


def test_lost_clips_are_warned_of_and_training_can_start(corpus, capsys):
    gone = corpus.wavs("test_folder")[0]
    gone.unlink()
    assert run_check(load_config(corpus.conf), str(corpus.conf), corpus.root) == 0
    out = capsys.readouterr().out
    assert "warning: DESED dev-test: 1 of 6 listed clips is not in" in out
    assert "training can start: 0 errors, 1 warning, 4 notes" in out


def test_too_few_clips_for_a_batch_is_an_error(corpus):
    for wav in corpus.wavs("unlabeled_folder")[1:]:
        wav.unlink()
    report = corpus.check()
    assert [f.part for f in report.findings if f.level == "error"] == [""]
    assert "2 rows of unlabelled in domain, but the set has 1 clip" in told(report, "error")[0]


def test_training_can_do_without_the_evaluation_set(corpus):
    shutil.rmtree(corpus.path("eval_folder"))
    report = corpus.check()
    assert not report.training_would_fail
    (message,) = told(report)
    assert "data.eval_folder" in message
    assert message.endswith(
        "(needed only to score the evaluation set: --eval_set, --eval_from_checkpoint)"
    )


def test_samples_that_are_no_numbers_would_end_a_training(corpus):
    samples = noise(10.0)
    samples[-1] = np.nan
    for key in ("weak_folder", "eval_folder"):
        (corpus.path(f"{key}_44k") / corpus.wavs(key)[0].name).unlink()
        rewrite(corpus.wavs(key)[0], samples, subtype="FLOAT")
    report = corpus.check()
    assert ["not finite" in message for message in told(report)] == [True, True]
    assert [f.part for f in report.findings][:2] == ["weak_train", "eval"]
    assert [f.level for f in report.findings][:2] == ["error", "warning"]


# ---- files


def test_files_that_no_table_lists(corpus):
    folder = corpus.path("weak_folder")
    rewrite(folder / "extra.wav", noise(10.0))
    (message,) = told(corpus.check())
    assert message == f"{folder}: 1 of 7 files is not listed in a table and not used (extra)"
    (folder / "bad.wav").write_bytes(b"nothing")
    report = corpus.check()
    assert told(report, "error") == []
    assert told(report, "warning") == [
        f"{folder}: 1 of 8 files is damaged or at another rate, and not used (bad); remove them"
    ]


def test_a_link_that_leads_nowhere(corpus):
    wav = corpus.wavs("weak_folder")[0]
    wav.unlink()
    wav.symlink_to("nowhere.wav")
    report = corpus.check()
    assert told(report) == [f"{wav}: no such file; replace or remove the file"]
    assert report.training_would_fail


def test_a_table_that_cannot_be_used_hides_nothing(corpus):
    (first, second), table = corpus.wavs("weak_folder")[:2], corpus.path("weak_tsv")
    first.write_bytes(b"nothing")
    second.unlink()
    edit(table, lambda lines: [lines[0], *(line + ",Dgo" for line in lines[1:])])
    corpus.embeddings("weak_train").unlink()
    corpus.path("test_tsv").unlink()
    corpus.path("test_dur").unlink()
    errors = told(corpus.check(), "error")
    assert len(errors) == 5
    assert errors[0].count("unknown label 'Dgo'") == 6
    assert errors[1].startswith("data.test_tsv: ")
    assert f"{first}: is not readable as audio" in errors[2]
    assert "no such embeddings file" in errors[3]
    assert errors[4].startswith("data.test_dur: ")


def test_originals_that_were_not_prepared(corpus):
    for key in ("weak_folder", "unlabeled_folder"):
        corpus.wavs(key)[0].unlink()
    lost = corpus.wavs("weak_folder")[0]
    lost.unlink()
    (corpus.path("weak_folder_44k") / lost.name).unlink()
    report = corpus.check()
    weak, unlabelled = told(report, "warning")
    originals = corpus.path("weak_folder_44k")
    assert "2 of 6 listed clips are not in" in weak
    assert f"; 1 of them are in {originals}: prepare the data with" in weak
    assert (
        f"originals in {corpus.path('unlabeled_folder_44k')} without a 16 kHz file here: 1 ("
        in unlabelled
    )
    assert len(part_of(report, "weak_train").unprepared) == 1


@pytest.mark.parametrize(
    ("key", "seconds", "says"),
    [
        ("weak_folder", 0.4, "0.40 s, a clip has some 10 s"),
        ("unlabeled_folder", 31.0, "31.00 s, a clip has some 10 s"),
        ("test_folder", 9.7, "9.70 s, should be .* s by its durations table"),
        ("real_maestro_train_folder", 11.0, "11.00 s, should be 10.00 s by its name"),
    ],
)
def test_wrong_lengths_are_found_without_the_originals(corpus, key, seconds, says):
    shutil.rmtree(corpus.path(f"{key}_44k"))
    clip = corpus.wavs(key)[0]
    rewrite(clip, noise(seconds))
    (message,) = told(corpus.check(), "error", "warning")
    assert re.search(rf"wrong length \({clip.stem}: {says}\)", message)


def test_a_long_recording_that_is_only_scored_is_not_wrong(corpus):
    shutil.rmtree(corpus.path("eval_folder_44k"))
    rewrite(clip := corpus.wavs("eval_folder")[0], noise(31.0))
    report = corpus.check()
    assert not part_of(report, "eval").wrong_length
    assert (
        f"{clip.parent}: 1 of 2 files is longer than a clip ({clip.stem}); scored in windows"
        in told(report, "note")
    )


def test_an_event_behind_the_end_of_its_clip(corpus):
    shutil.rmtree(corpus.path("strong_folder_44k"))
    clip = corpus.wavs("strong_folder")[0]
    row = f"{clip.name}\t8.0\t9.9\tDog"
    edit(corpus.path("strong_tsv"), lambda lines: [*lines, row])
    rewrite(clip, noise(9.5))
    (note,) = told(corpus.check())
    assert note.startswith("events that end after their clip, kept as annotated: 1 of ")
    assert f"'Dog' until 9.9 s in {clip.stem}, which lasts 9.5 s" in note
    rewrite(clip, noise(9.3))
    (message,) = told(corpus.check(), "warning")
    assert "9.30 s, but has an event until 9.90 s" in message


@pytest.mark.parametrize(("stated", "seconds"), [("10", 4.0), ("9.8", 10.4)])
def test_a_durations_table_that_differs_from_the_audio(corpus, stated, seconds):
    shutil.rmtree(corpus.path("test_folder_44k"))
    edit(
        corpus.path("test_dur"),
        lambda lines: [*lines[:-1], f"{lines[-1].split(chr(9))[0]}\t{stated}"],
    )
    name = corpus.path("test_dur").read_text().splitlines()[-1].split("\t")[0]
    rewrite(corpus.path("test_folder") / name, noise(seconds))
    (error,) = told(corpus.check(), "error")
    assert f"{corpus.path('test_dur')}: wrong durations of 1 clip" in error
    assert f"{stated} s in the table, {seconds:g} s in the file" in error
    # Nor does a table that cannot be read hide them.
    edit(corpus.path("test_tsv"), lambda lines: [*lines, f"{name}\t0\t1\tDgo"])
    errors = told(corpus.check(), "error")
    assert len(errors) == 2 and "wrong durations of 1 clip" in errors[1]


def test_an_event_that_begins_after_its_clip_is_left_out(corpus):
    clip = corpus.wavs("synth_folder")[0]
    edit(corpus.path("synth_tsv"), lambda lines: [*lines, f"{clip.name}\t11\t12\tDog"])
    for _ in range(2):  # A second report of one process has it too.
        (warning,) = told(corpus.check(), "warning")
        assert "1 event begins after its clip's end and is left out" in warning
        assert f", e.g. 'Dog' at 11 s in {clip.stem}" in warning


# ---- audio that was replaced


def test_a_clip_replaced_by_an_older_one_is_found_by_its_recorded_source(corpus, mini_root):
    """Also one of the same size; a clip of the same content and another time is none."""
    name = "weak_train"
    shutil.copy(next((mini_root / "embeddings").rglob(f"{name}.hdf5")), corpus.embeddings(name))
    assert told(corpus.check()) == []
    other, same_size, *_ = corpus.wavs("weak_folder")
    rewrite(other, noise(9.0))
    content = bytearray(same_size.read_bytes())
    content[-1] ^= 1
    same_size.write_bytes(content)
    os.utime(same_size, OLD)
    (message,) = [text for text in told(corpus.check()) if "changed since" in text]
    names = ", ".join(sorted((other.stem, same_size.stem)))
    assert f"clips changed since these embeddings: 2 ({names}); run extract" in message
    assert part_of(corpus.check(), name).embeddings.state == "stale"


# ---- sample formats


def in_16_bits(*wavs: Path) -> None:
    for wav in wavs:
        rewrite(wav, *sf.read(wav), subtype="PCM_16")


def bits(report: DataReport) -> dict[str, str]:
    """Part -> what the column "bits" of the table says."""
    heads, *lines = report.text().splitlines()[: len(report.parts) + 1]
    end = heads.index(" bits") + len(" bits")
    rows = zip(report.parts, lines, strict=True)
    return {part.name: line[:end].split()[-1] for part, line in rows}


def test_bits_are_shown_for_each_set(corpus):
    in_16_bits(*corpus.wavs("weak_folder"), *corpus.wavs("eval_folder"))
    report = corpus.check()
    shown = bits(report)
    assert [name for name, found in shown.items() if found == "16"] == ["weak_train", "eval"]
    assert set(shown.values()) == {"16", "32"}
    assert part_of(report, "weak_train").formats == {"16-bit": 6}
    assert part_of(report, "strong_train").formats == {"32-bit float": 4}
    assert told(report) == [
        "16-bit audio, used as is: weak, evaluation; published results come from 32-bit float "
        "files, which generate_dcase_task4_2024.py --bits 32 writes"
    ]
    assert {finding.level for finding in report.findings} == {"note"}
    assert written(corpus)["parts"]["eval"]["formats"] == {"16-bit": 2}


def test_a_mixed_folder_is_named(corpus):
    folder = corpus.path("synth_folder")
    in_16_bits(*corpus.wavs("synth_folder")[1:3])
    report = corpus.check()
    assert bits(report)["synth_train"] == "mixed"
    assert told(report, "warning") == [
        f"{folder}: mixed sample formats, 16-bit (2) and 32-bit float (3) files; "
        "generate_dcase_task4_2024.py --bits 32 rewrites all as float"
    ]
    assert not report.training_would_fail


# ---- what no table of the configuration lists


def test_recordings_that_maestro_s_split_has(corpus):
    next(
        corpus.root.rglob(MINI_CORPUS_MARKER)
    ).unlink()  # No mini corpus any more: all of them should be there.
    report = corpus.check()
    absent = part_of(report, "maestro_real_train").missing_recordings
    assert len(absent) == len(expected(corpus, "maestro_real_train")) - 10
    assert not {"cafe_restaurant_00", "cafe_restaurant_06"} & set(absent)
    assert "cafe_restaurant_07" in absent
    assert len(told(report, "warning")) == 2
    n_absent = len(expected(corpus, "maestro_real_dev")) - 5
    assert f"has no clip of {n_absent} recordings" in told(report)[1]


def test_a_recording_of_the_mini_corpus(corpus):
    for key, table in (
        ("real_maestro_train_folder", "real_maestro_train_tsv"),
        ("real_maestro_val_folder", "real_maestro_val_tsv"),
    ):
        for wav in corpus.wavs(key):
            if wav.name.startswith("city_center"):
                wav.unlink()
        edit(
            corpus.path(table),
            lambda lines: [line for line in lines if not line.startswith("city_center")],
        )
    warnings = told(corpus.check(), "warning")
    assert ["city_center_02" in warnings[0], "city_center_05" in warnings[1]] == [True, True]
    assert ["2 recordings" in warnings[0], "1 recording" in warnings[1]] == [True, True]


def test_unlabelled_clips_that_their_table_lists(corpus):
    there = [wav.name for wav in corpus.wavs("unlabeled_folder")]
    table = corpus.path("weak_tsv").with_name("unlabel_in_domain.tsv")
    table.write_text("\n".join(["filename", *there[1:], "Ygone.wav"]) + "\n")
    report = corpus.check()
    part = part_of(report, "unlabeled_train")
    assert (part.listed, part.present, part.missing) == (5, 5, ("Ygone",))
    assert part.unlisted == ()
    (message,) = told(report)
    assert "1 of 5 listed clips is not in" in message
    table.write_text("")
    (message,) = told(corpus.check(), "warning")
    assert message.startswith(f"{table}: lacks the columns filename")


def test_clips_without_events_are_left_out_of_what_training_needs(corpus):
    """Neither their sound nor their embeddings matter, and they are listed in a table."""
    (eventless,) = part_of(corpus.check(), "devtest").left_out
    wav = corpus.path("test_folder") / f"{eventless}.wav"
    with h5py.File(corpus.embeddings("devtest"), "r+") as file:
        names = file["filenames"][:]
        names[names.tolist().index(eventless.encode())] = b"somebody_else"
        file["filenames"][:] = names
    report = corpus.check()
    part = part_of(report, "devtest")
    assert (part.listed, part.present, part.missing, part.unlisted) == (6, 5, (), ())
    assert (part.embeddings.state, part.embeddings.lacking) == ("whole", ())
    assert not told(report)
    wav.write_bytes(b"RIFF")
    (message,) = told(corpus.check(), "warning")
    assert "1 of 6 files is damaged or at another rate, and not used" in message
    wav.unlink()
    report = corpus.check()
    assert (part_of(report, "devtest").missing, told(report)) == ((), [])
    kept = corpus.check("data.keep_clips_without_events=[devtest]")
    part = part_of(kept, "devtest")
    assert (part.left_out, part.missing, part.present) == ((), (eventless,), 5)
    assert not any("without events" in finding.message for finding in kept.findings)


# ---- embeddings and BEATs


def test_another_beats_makes_all_embeddings_stale(corpus):
    write_random_beats(corpus.beats(), seed=7)
    report = corpus.check()
    assert {part.embeddings.state for part in report.parts} == {"stale"}
    assert len(told(report, "warning")) == 9
    assert f"made with other BEATs weights than {corpus.beats()}" in told(report)[0]
    assert not report.training_would_fail


def test_embeddings_of_another_clip_length(corpus):
    with h5py.File(corpus.embeddings("devtest"), "r+") as file:
        file.attrs["clip_s"] = 5.0
    (message,) = told(corpus.check())
    assert "devtest.hdf5: made from clips of 5.0 s, data.audio_max_len is 10.0 s" in message


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("frame_embeddings", 1e30, r"reach 1e\+30, more than 100000"),
        ("frame_embeddings", np.nan, "are not finite"),
        ("global_embeddings", -1e6, r"reach 1e\+06"),
    ],
)
def test_embeddings_that_no_encoder_computes(corpus, name, value, what):
    path = corpus.embeddings("devtest")
    with h5py.File(path, "r+") as file:
        names = file["filenames"].asstr()[:]
        file[name][1:3] = value
        file.attrs["note"] = "of the user"
    report = corpus.check()
    damaged = part_of(report, "devtest").embeddings.damaged
    assert 1 <= len(damaged) <= 2 and set(damaged) <= set(names[1:3])  # One may have no events.
    message = next(text for text in told(report, "error") if str(path) in text)
    assert re.search(
        f"{name} of {names[1]}|{names[2]} {what}: absurd for an encoder; run extract", message
    )
    assert report.training_would_fail


def test_odd_embedding_files_are_errors(corpus):
    path = corpus.embeddings("synth_val")
    with h5py.File(path, "r+") as file:
        names = file["filenames"].asstr()[:]
        file["filenames"][1] = names[0]
    (message,) = told(corpus.check(), "error")
    assert f"{path}: names 1 clip twice ({names[0]})" in message
    with h5py.File(path, "r+") as file:
        file["filenames"][1] = names[1]
        file.attrs["history"] = np.arange(3)
    (message,) = told(corpus.check(), "error")
    assert "attribute 'history' holds an array of shape (3,), not one text or number" in message
    with h5py.File(path, "r+") as file:
        del file.attrs["history"], file["global_embeddings"]
        file["global_embeddings"] = h5py.ExternalLink("other.hdf5", "global_embeddings")
    (message,) = told(corpus.check(), "error")
    assert "'global_embeddings' is a link (to another place or file)" in message


def test_published_embeddings_do_not_say_what_made_them(corpus):
    with h5py.File(corpus.embeddings("devtest"), "r+") as file:
        for name in list(file.attrs):
            del file.attrs[name]
    report = corpus.check()
    (message,) = told(report, "note")
    assert "devtest.hdf5: does not state which BEATs weights made it" in message
    assert part_of(report, "devtest").embeddings.state == "origin unknown"


def test_an_extraction_that_was_stopped(corpus):
    path = corpus.embeddings("devtest")
    path.rename(path.with_name("devtest.hdf5.part"))
    report = corpus.check()
    (message,) = told(report)
    assert "no such embeddings file" in message
    assert part_of(report, "devtest").embeddings.state == "unfinished"
    path.write_bytes(b"no HDF5")
    assert part_of(corpus.check(), "devtest").embeddings.state == "unusable"


def test_absent_weights_matter_only_where_embeddings_are_to_be_made(corpus):
    corpus.beats().unlink()
    (message,) = told(corpus.check(), "note")
    assert f"{corpus.beats()}: no such file of BEATs weights" in message
    corpus.embeddings("devtest").unlink()
    assert f"{corpus.beats()}: no such file of BEATs weights" in told(corpus.check(), "warning")[0]


def test_weights_of_another_width_than_the_network_s(corpus):
    write_random_beats(corpus.beats(), seed=1, config=replace(SMALL_CONFIG, encoder_embed_dim=64))
    report = corpus.check("net.embedding_size=128")
    assert report.checkpoints[0].n_features == 64
    assert "computes 64 features, net.embedding_size is 128" in told(report, "warning")[-1]


def test_a_network_without_embeddings_needs_none(corpus):
    corpus.beats().unlink()
    shutil.rmtree(corpus.root / "embeddings")
    report = corpus.check("net.use_embeddings=false")
    assert told(report) == []
    assert {part.embeddings.state for part in report.parts} == {"unused"}
    assert "BEATs: not used (net.use_embeddings: false)" in report.text()


# ---- nothing is there


def test_nothing_at_all_is_a_table_and_not_a_traceback(corpus):
    tree = yaml.safe_load(corpus.conf.read_text())
    for key, value in tree["data"].items():
        if isinstance(value, str) and "/" in value:
            tree["data"][key] = f"nowhere/{key}"
    for key in ("extracted_embeddings_dir", "beats_checkpoint"):
        tree["pretrained"][key] = f"nowhere/{key}"
    corpus.conf.write_text(yaml.safe_dump(tree))
    report = corpus.check()
    lines = report.text().splitlines()
    assert lines[0].split()[:3] == ["part", "listed", "present"]
    assert [line[-6:] for line in lines[1:10]] == ["absent"] * 9
    assert [part.present for part in report.parts] == [0] * 9
    (line,) = told(report)
    assert "no data in nowhere" in line and "none of the 9 corpora is there" in line
    assert report.training_would_fail
    # No line of its own, but in the report.
    absent = part_of(report, "maestro_real_dev").missing_recordings
    assert absent == expected(corpus, "maestro_real_dev")


def test_a_report_that_cannot_be_written_is_printed(corpus, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    report = DataReport("", (), (), tuple(Finding("note", "", f"n{i}") for i in range(40)))
    monkeypatch.setattr("local.doctor.check.check_data", lambda *_, **__: report)
    monkeypatch.setattr("local.doctor.report._of_checkpoint", lambda _: "absent")
    monkeypatch.setattr("local.doctor.report.asdict", lambda _: {})
    monkeypatch.setattr("local.doctor.report.write_json_atomic", full)
    with pytest.raises(InputError, match=r"data_report\.json: cannot be written"):
        run_check(load_config(corpus.conf), str(corpus.conf), corpus.root / "full")
    said = capsys.readouterr().out
    assert "training can start: 0 errors, 0 warnings, 40 notes" in said
    # All of it, as no file has the rest.
    assert "note: n39" in said and "full report" not in said


def test_passwords_are_neither_printed_nor_reported(corpus, monkeypatch, capsys):
    message = "https://me:S3cret@h/x?token=S3cret\x1b[2J: no such folder"
    report = DataReport("", (), (), (Finding("error", "", message),))
    monkeypatch.setattr("local.doctor.check.check_data", lambda *_, **__: report)
    folder = corpus.root / "report"
    folder.mkdir()
    run_check(load_config(corpus.conf), str(corpus.conf), folder)
    told = [capsys.readouterr().out, (folder / REPORT_FILE).read_text()]
    for text in told:
        assert "S3cret" not in text and "\x1b" not in text
        assert "https://me:***@h/x?token=***" in text


def test_a_folder_that_cannot_be_opened_is_no_reason_to_check_nothing(corpus, monkeypatch, capsys):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "data_report.json")

    report = DataReport("", (), (), ())
    monkeypatch.setattr("local.doctor.check.check_data", lambda *_, **__: report)
    monkeypatch.setattr("local.doctor.report._of_checkpoint", lambda _: "absent")
    monkeypatch.setattr("local.doctor.report.asdict", lambda _: {})
    monkeypatch.setattr("local.doctor.report.write_json_atomic", refuse)
    monkeypatch.setattr("local.cli.own_files.OwnFiles.check", refuse)
    with pytest.raises(InputError, match=r"cannot be written .*Permission denied"):
        run_check(load_config(corpus.conf), str(corpus.conf), corpus.root)
    assert "training can start" in capsys.readouterr().out


def test_of_many_findings_some_are_shown(corpus):
    report = corpus.check()
    many = tuple(Finding("warning", "", f"number {index}") for index in range(40))
    text = DataReport("", report.parts, report.checkpoints, many).text()
    assert text.count("warning: number") == 30
    assert "... and 10 more, see data_report.json" in text
    assert text.endswith("training can start: 0 errors, 40 warnings, 0 notes")


def test_clips_in_subfolders_are_checked_by_their_paths(corpus):
    """The originals stay where they are; names come from the published table."""
    n_clips = len(corpus.wavs("test_folder"))
    for number, wav in enumerate(corpus.wavs("test_folder")):
        place = wav.parent / "xy"[number % 2]
        place.mkdir(exist_ok=True)
        wav.rename(place / wav.with_suffix(".WAV").name)
    folder = corpus.path("test_folder")
    report = corpus.check()
    assert part_of(report, "devtest").missing == ()
    notes = told(report, "note")
    assert f"{folder}: {n_clips} of {n_clips} clips come from subfolders (x, y)" in notes
    assert any("clips are found under another spelling or folder" in note for note in notes)
    assert [text for text in told(report) if text not in notes] == []
    assert part_of(report, "devtest").unprepared == ()


def test_a_store_that_does_not_tell_two_clips_apart(corpus):
    wav = corpus.wavs("eval_folder")[0]
    for name in ("x", "y"):
        (wav.parent / name).mkdir()
        shutil.copy2(wav, wav.parent / name)
    wav.unlink()
    report = corpus.check()
    assert part_of(report, "eval").embeddings.state == "unusable"
    assert any(
        f"{corpus.embeddings('eval')}: has names that could be several clips" in text
        for text in told(report, "warning")
    )
