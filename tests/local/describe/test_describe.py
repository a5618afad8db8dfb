"""What is made of a folder of recordings and label files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from desed_task.dataio.annotations import WeakTable
from desed_task.errors import InputError
from local.config import RecipeConfig, load_config
from local.data.label_tables import read_labels
from local.describe.describe import describe_folder
from tests.local.describe.folders import RATE, record, tracks, write

CLIPS = [f"a {number:02d}" for number in range(10)]
N_DOGS, N_CATS = 10, 5


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Ten recordings without labels, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for clip in CLIPS:
        record(tmp_path / "rec" / f"{clip}.wav")
    return Path("rec")


def rows(separator: str, header: str, of: Callable[[str, float, float, str], list[object]]) -> str:
    """A table of the events that `tracks` has."""
    lines = [header] if header else []
    for number, clip in enumerate(CLIPS):
        events = [(0.1, 0.7, "dog")] + ([(1.0, 1.4, "cat")] if number % 2 else [])
        lines += [separator.join(map(str, of(f"{clip}.wav", *event))) for event in events]
    return "\n".join(lines) + "\n"


def described(folder: Path, **named: object) -> RecipeConfig:
    return load_config(describe_folder(folder, **named))


def counted(config: RecipeConfig, name: str = "clips") -> dict[str, int]:
    """Class -> events or labelled clips that training will read of a corpus."""
    task = config.detection_task
    corpus = task.corpus(name)
    present = {clip: Path("rec") / f"{clip}.wav" for clip in CLIPS}
    table = read_labels(corpus, task.vocabulary, present)
    if isinstance(table, WeakTable):
        counts = table.target.sum(axis=0).tolist()
        return {label: int(n) for label, n in zip(task.vocabulary, counts, strict=True)}
    labels = [task.vocabulary[index] for index in table.label_index.tolist()]
    return {label: labels.count(label) for label in task.vocabulary}


FORMS = {
    "tracks beside the recordings": tracks(CLIPS),
    "tracks in a folder": tracks(CLIPS, "labels/"),
    "tracks with another ending": tracks(CLIPS, "labels/", "_sounds.txt"),
    "published table": {
        "labels.tsv": rows(
            "\t", "filename\tonset\toffset\tevent_label", lambda c, a, b, x: [c, a, b, x]
        )
    },
    "csv with other names": {
        "annotations/all.csv": rows(
            ",", "id,class,file,start,end", lambda c, a, b, x: [7, x, c[:-4], a, b]
        )
    },
    "semicolons and decimal commas": {
        "l.csv": rows(
            ";",
            "file;start;end;label",
            lambda c, a, b, x: [c, str(a).replace(".", ","), str(b).replace(".", ","), x],
        )
    },
    "milliseconds": {
        "l.csv": rows(
            ",",
            "file,onset,offset,label",
            lambda c, a, b, x: [c, round(1000 * a), round(1000 * b), x],
        )
    },
    "no header": {"l.tsv": rows("\t", "", lambda c, a, b, x: [c, a, b, x])},
    "file, scene and times": {
        f"meta/{clip}.ann": f"audio/{clip}.wav\tstreet\t0.1\t0.7\tdog\n"
        + (f"audio/{clip}.wav\tstreet\t1.0\t1.4\tcat\n" if number % 2 else "")
        for number, clip in enumerate(CLIPS)
    },
    "csv per recording": {
        f"{clip}.csv": "start,end,label\n0.1,0.7,dog\n" + ("1,1.4,cat\n" if number % 2 else "")
        for number, clip in enumerate(CLIPS)
    },
    "paths of another machine": {
        "l.tsv": rows(
            "\t",
            "filename\tonset\toffset\tevent_label",
            lambda c, a, b, x: [f"x\\rec\\{c}", a, b, x],
        )
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_events_are_read_whatever_the_form(folder, form):
    write(folder, {**FORMS[form], "README.txt": "Recorded in May,\nby me.\n"})
    config = described(folder)
    task = config.detection_task
    assert task.classes == ("cat", "dog")
    corpus = task.corpus("clips")
    assert corpus.labels == "strong" and Path(corpus.folder) == folder
    assert corpus.table.unit == ("ms" if form == "milliseconds" else "s")
    assert counted(config) == {"cat": N_CATS, "dog": N_DOGS}
    assert [(p.kind, p.corpus.name) for p in (*task.validation, *task.test)] == [
        ("events", "clips"),
        ("events", "clips"),
    ]


def test_weak_labels(folder):
    text = "".join(f"{clip}.wav\tdog{',cat' * (i % 2)}\n" for i, clip in enumerate(CLIPS))
    write(folder, {"weak.tsv": f"filename\tevent_labels\n{text}"})
    config = described(folder)
    assert config.detection_task.corpus("clips").labels == "weak"
    assert counted(config) == {"cat": N_CATS, "dog": N_DOGS}
    assert [part.kind for part in config.detection_task.test] == ["tags"]


def test_a_column_of_confidences_makes_soft_labels(folder):
    header = "filename\tonset\toffset\tevent_label\tconfidence"
    write(folder, {"l.tsv": rows("\t", header, lambda c, a, b, x: [c, a, b, x, 0.6])})
    config = described(folder)
    task = config.detection_task
    assert task.corpus("clips").labels == "soft"
    assert [part.kind for part in task.test] == ["events", "segments"]
    assert counted(config) == {"cat": N_CATS, "dog": N_DOGS}


def test_several_annotators(folder):
    header = "filename\tonset\toffset\tlabel\tannotator_id"
    text = rows("\t", header, lambda c, a, b, x: [c, a, b, x, "me"])
    text += rows("\t", "", lambda c, a, b, x: [c, a, b, x, "you"])
    write(folder, {"l.tsv": text})
    config = described(folder)
    assert config.detection_task.corpus("clips").annotators == "majority"
    assert counted(config) == {"cat": N_CATS, "dog": N_DOGS}


def test_strong_labels_of_some_and_weak_ones_of_others(folder, capsys):
    write(folder, tracks(CLIPS[:6]))
    text = "".join(f"{clip}.wav\tdog\n" for clip in CLIPS[4:8])
    write(folder, {"weak.csv": f"file,labels\n{text}".replace("\t", ",")})
    config = described(folder)
    task = config.detection_task
    assert [(one.name, one.labels) for one in task.corpora] == [
        ("clips", "strong"),
        ("clips_weak", "weak"),
        ("clips_unlabelled", "none"),
    ]
    listed = Path("rec_clips_unlabelled.txt").read_text().split("\n")
    assert listed == ["a 08", "a 09", ""]
    assert task.corpus("clips_unlabelled").clips is not None
    out = capsys.readouterr().out
    assert "2 recordings without labels" not in out.split("odd:")[0]


@pytest.mark.parametrize(
    ("names", "uses"),
    [
        (("train", "val", "test"), ("train", "validation", "test")),
        (("audio/Train", "audio/valid", "audio/eval"), ("train", "validation", "test")),
        (("dev", "eval"), ("train", "test")),
    ],
)
def test_folders_say_which_recordings_are_for_what(tmp_path, monkeypatch, names, uses):
    monkeypatch.chdir(tmp_path)
    for name in names:
        clips = [f"{name}/{number}" for number in range(5)]
        for clip in clips:
            record(tmp_path / "rec" / f"{clip}.wav")
        write(tmp_path / "rec", tracks(clips))
    task = described(Path("rec")).detection_task
    found = {one.name: one for one in task.corpora}
    assert tuple(found) == uses
    for name, use in zip(names, uses, strict=True):
        assert found[use].pattern == f"{name}/**"
        assert found[use].split == use or (len(names) == 2 and found[use].is_divided)


def test_a_column_says_which_recordings_are_for_what(folder):
    header = "filename\tonset\toffset\tevent_label\tsplit"
    use = dict(zip(CLIPS, ["train"] * 6 + ["valid"] * 2 + ["test"] * 2, strict=True))
    write(folder, {"l.tsv": rows("\t", header, lambda c, a, b, x: [c, a, b, x, use[c[:-4]]])})
    config = described(folder)
    corpora = config.detection_task.corpora
    assert [one.split for one in corpora] == ["train", "validation", "test"]
    assert counted(config, "test") == {"cat": 1, "dog": 2}


def test_recordings_at_other_rates_are_resampled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for clip in CLIPS:
        record(tmp_path / "rec" / f"{clip}.flac", rate=44100)
    write(tmp_path / "rec", tracks(CLIPS))
    corpus = described(Path("rec")).detection_task.corpus("clips")
    assert (corpus.folder, corpus.originals) == ("rec_16k", "rec")


def test_long_recordings_have_windows(folder):
    record(folder / "a 00.wav", seconds=25)
    write(folder, tracks(CLIPS))
    config = described(folder)
    corpus = config.detection_task.corpus("clips")
    assert config.data.audio_max_len == 10
    assert (corpus.trains_on_windows, corpus.hop_s) == (True, 5)


def test_short_ones_need_no_long_clips(folder):
    write(folder, tracks(CLIPS))
    config = described(folder)
    assert config.data.audio_max_len == 2
    assert config.predict.hop_s == 1 and config.windows() is not None  # For predict.py.


def test_batches_are_no_larger_than_the_sets(folder):
    write(folder, tracks(CLIPS[:5]))
    for part in described(folder).detection_task.batch:
        assert 1 <= part.rows <= 3


def test_odd_names_of_classes_are_kept_or_mapped(folder):
    names = ['say "hi"', "a, b", "door opens/closes", "🐕", "👨\u200d👩", "yes", "1", "- x: y #"]
    names += ["onset", "x" * 250]
    texts = {f"{clip}.txt": f"0.1\t0.9\t{name}\n" for clip, name in zip(CLIPS, names, strict=True)}
    write(folder, texts)
    config = described(folder)
    classes = config.detection_task.classes
    assert {*names[:8]} <= {*classes}
    assert {"onset_class", "x" * 200} <= {*classes}
    assert sum(counted(config).values()) == len(CLIPS)


def test_spellings_of_a_label_become_one_class(folder, capsys):
    labels = ["Dog", "dog", "Dog ", "DOG", "Dog", "Dog", "café", "cafe\u0301", "café", ""]
    texts = {f"{c}.txt": f"0.1\t0.9\t{x}\n" for c, x in zip(CLIPS, labels, strict=True)}
    write(folder, texts)
    config = described(folder)
    assert config.detection_task.classes == ("Dog", "café")
    assert counted(config) == {"Dog": 6, "café": 3}
    out = capsys.readouterr().out
    assert "taken for one class, 'Dog': " in out and "'DOG'" in out
    assert "rows without a label are left out: 1" in out


def test_one_class_is_enough(folder):
    write(folder, {f"{clip}.txt": "0.1\t0.9\tdog\n" for clip in CLIPS})
    assert described(folder).detection_task.classes == ("dog",)


def test_an_encoder_s_weights_are_looked_for(folder, capsys):
    write(folder, tracks(CLIPS))
    assert not described(folder).net.use_embeddings
    assert "extract_embeddings.py" not in capsys.readouterr().out
    write(Path(), {"pretrained_models/BEATs_iter3_plus_AS2M.pt": "some weights"})
    assert described(folder, overwrite=True).net.use_embeddings
    assert "extract_embeddings.py --conf_file rec.yaml" in capsys.readouterr().out


def test_names_of_folders_that_shells_and_yaml_read_otherwise(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = Path("it's #1: ü")
    for clip in CLIPS[:4]:
        record(folder / f"{clip}.wav", rate=44100)
    write(folder, tracks(CLIPS[:4]))
    corpus = described(folder).detection_task.corpus("clips")
    assert (corpus.originals, corpus.folder) == (str(folder), f"{folder}_16k")
    assert "--conf_file 'it'\"'\"'s #1: ü.yaml'\n" in capsys.readouterr().out


# ---- what is odd


def test_what_is_odd_is_told(folder, capsys):
    """One folder with everything that may be wrong with it."""
    texts = tracks(CLIPS)
    texts["a 00.txt"] = "0.1\t0.9\tdog\n0.5\t1.2\tdog\n"
    texts["a 01.txt"] = "0.1\t9.5\tcat\n"
    texts["a 02.txt"] = ""
    texts["a 03.txt"] = "0.5\t0.5\tcat\n0.2\t0.9\tdog\n"
    texts["lost.txt"] = "0.1\t0.9\tdog\n"
    del texts["a 04.txt"]
    write(folder, texts)
    record(folder / "a 06.wav", seed=1)
    record(folder / "a 07.wav", seed=1)
    record(folder / "a 08.wav", rate=8000)
    (folder / "broken.wav").write_bytes(b"RIFF")
    describe_folder(folder)
    out = capsys.readouterr().out
    for text in (
        "1 recording cannot be read (broken: ",
        "sample rates differ: 9 at 16000 Hz, 1 at 8000 Hz; all are resampled",
        "1 recording is below 16000 Hz (a 08)",
        "1 label file without a recording: lost.txt",
        "1 recording without labels (a 04)",
        "1 recording without events (a 02)",
        "recordings with the same audio: a 06 = a 07",
        "1 event beyond the end of the recording (a 01: 9.5 of 2.00 s)",
        "1 event without length, which is left out (a 03)",
        "events of one class overlap in 1 recording (a 00: dog)",
        "classes with fewer than 10 labels in training: ",
    ):
        assert text in out, text


def test_clips_of_one_video_stay_together_by_name_and_leaks_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    video = "YaBcDeFgHiJk_{0}.000_{0}.500"
    clips = [f"train/{video.format(n)}" for n in range(3)] + [f"test/{video.format(7)}"]
    clips += ["train/x", "test/y", "test/z"]
    for clip in clips:
        record(tmp_path / "rec" / f"{clip}.wav", seed=5 if clip[-1] in "xy" else None)
    write(tmp_path / "rec", tracks(clips))
    describe_folder(Path("rec"))
    out = capsys.readouterr().out
    assert "(training) are in test (test) too, by YouTube video (" in out
    assert "1 clip of train (training) is in test (test) too, by audio (train/x = test/y)" in out


def test_nothing_odd(folder, capsys):
    texts = {f"{c}.txt": "".join(f"{i / 10}\t{(i + 0.5) / 10}\tdog\n" for i in range(19))
             for c in CLIPS}  # fmt: skip
    write(folder, texts)
    describe_folder(folder)
    assert "\nnothing odd\n" in capsys.readouterr().out


# ---- what cannot be described


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "rec: contains no recording (it is empty)"),
        ({"notes.txt": "x"}, r"rec: contains no recording \(there: 1 \.txt"),
    ],
)
def test_no_recordings(tmp_path, monkeypatch, files, message):
    monkeypatch.chdir(tmp_path)
    Path("rec").mkdir()
    write(Path("rec"), files)
    with pytest.raises(InputError, match=message.replace("(it", r"\(it").replace("y)", r"y\)")):
        describe_folder(Path("rec"))
    with pytest.raises(InputError, match=r"nowhere: no such folder \(looked up from"):
        describe_folder(Path("nowhere"))


def test_no_labels(folder):
    write(folder, {"README.txt": "Recorded in May, by me.\n"})
    with pytest.raises(InputError, match=r"10 recordings, but no labels \(no labels in README"):
        describe_folder(folder)


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_to_be_divided(tmp_path, monkeypatch, n):
    monkeypatch.chdir(tmp_path)
    for clip in CLIPS[:n]:
        record(Path("rec") / f"{clip}.wav")
    write(Path("rec"), tracks(CLIPS[:n]))
    with pytest.raises(InputError, match=f"^{n} labelled recordings?: .*cut long recordings"):
        describe_folder(Path("rec"))


def test_only_unreadable_audio(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("rec"), {"a.wav": "x", "b.wav": "y"})
    with pytest.raises(InputError, match=r"rec: none of its 2 files is audio: "):
        describe_folder(Path("rec"))


def test_two_files_of_one_name(folder):
    record(folder / "a 00.flac")
    with pytest.raises(InputError, match=r"in their endings .a 00\.flac and a 00\.wav"):
        describe_folder(folder)


def test_files_of_the_user_are_not_replaced(folder):
    write(folder, tracks(CLIPS))
    Path("rec.yaml").write_text("mine")
    with pytest.raises(InputError, match=r"--overwrite"):
        describe_folder(folder)
    assert Path("rec.yaml").read_text() == "mine"
    describe_folder(folder, overwrite=True)
    written = Path("rec.yaml").read_text()
    describe_folder(folder)  # Its own file, as it was written.
    Path("rec.yaml").write_text(f"{written}# changed\n")
    with pytest.raises(InputError, match=r"were changed since"):
        describe_folder(folder)


@pytest.mark.parametrize("out", ["x.txt", "no/x.yaml", "rec"])
def test_the_file_to_write_is_named_well(folder, out):
    write(folder, tracks(CLIPS))
    with pytest.raises(InputError, match=f"^--out {out}: "):
        describe_folder(folder, Path(out))


def test_other_places_of_the_folder_and_the_file(folder, monkeypatch):
    write(folder, tracks(CLIPS))
    Path("confs").mkdir()
    out = describe_folder(folder.absolute(), Path("confs/mine.yaml"))
    assert Path(load_config(out).detection_task.corpus("clips").folder) == folder.absolute()
    monkeypatch.chdir(folder)
    out = describe_folder(Path("."), Path("../here.yaml"))
    assert Path(load_config(out).detection_task.corpus("clips").folder).is_absolute()
    assert load_config(out).data.fs == RATE
