"""Clips of one name in several folders: each with its own audio, labels and embeddings."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile as sf
import torch

from desed_task.dataio.embeddings import EmbeddingReader
from desed_task.errors import InputError
from desed_task.evaluation.segments import clip_span
from local.config import load_config
from local.data.datamodule import SedDataModule
from local.data.loaded_corpus import load_corpus, table_durations
from local.data.loading.packed_corpora import open_packed, pack_corpora
from local.data.splits import divide
from local.summary.rescoring import read_truth
from tests.local.data.published import TASK, VOCABULARY, scored

RATE = 16000
CPU = torch.device("cpu")
HEAD = "filename\tonset\toffset\tevent_label\n"
MINI = Path(__file__).resolve().parents[3] / "confs" / "mini.yaml"


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


class Place:
    """A dev-test whose clips are constants: clip n of `audio` has n hundredths."""

    def __init__(self, root):
        self.root = root
        self.folder = root / "audio"

    def audio(self, *names):
        for number, name in enumerate(names, 1):
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            samples = np.full(RATE, number / 100)
            sf.write(path, samples, RATE, subtype="FLOAT", format="WAV")

    def table(self, text, name="table.tsv"):
        path = self.root / name
        path.write_text(text, encoding="utf-8")
        return path

    def store(self, *names):
        """Embeddings as published: row n is n."""
        path = self.root / "embeddings" / "beats" / "devtest.hdf5"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = np.arange(len(names), dtype=np.float32)
        with h5py.File(path, "w") as file:
            file["filenames"] = np.array([name.encode() for name in names], dtype="S")
            file["frame_embeddings"] = np.tile(rows[:, None, None], (1, 128, 48))
            file["global_embeddings"] = np.tile(rows[:, None], (1, 128))
        return path

    def config(self, table, *more, embeddings=False):
        return load_config(
            MINI,
            [
                f"data.test_folder={self.folder}",
                f"data.test_tsv={table}",
                f"net.use_embeddings={'true' if embeddings else 'false'}",
                f"pretrained.extracted_embeddings_dir={self.root / 'embeddings'}",
                *more,
            ],
        )

    def load(self, table, *more, embeddings=False):
        problems = []
        config = self.config(table, *more, embeddings=embeddings)
        loaded = load_corpus(config.detection_task.corpus("devtest"), config, problems)
        return loaded, "\n".join(problems)


def heard(loaded, config):
    """Clip -> (its constant in hundredths, labels of its target)."""
    dataset = loaded.dataset(config, config.grid)
    found = {}
    for row, clip_id in enumerate(dataset.clip_ids):
        item = dataset[row]
        labels = {VOCABULARY[int(i)] for i in item.target.amax(dim=1).nonzero()[:, 0]}
        found[clip_id] = (round(100 * float(item.waveform[0])), labels)
    return found


def test_one_name_in_two_folders_is_two_clips(place, trial):
    place.audio("x/1.wav", "y/1.wav")
    table = trial("same_name_two_dirs.tsv")
    loaded, problems = place.load(table)
    assert problems == ""
    assert heard(loaded, place.config(table)) == {"x/1": (1, {"Speech"}), "y/1": (2, {"Dog"})}
    assert loaded.missing == ()
    assert loaded.notes == (f"{place.folder}: 2 of 2 clips come from subfolders (x, y)",)


@pytest.mark.parametrize(
    ("files", "rows", "found"),
    [
        # Published tables name files without folders.
        (("1.wav", "2.wav"), ("1.wav", "2.wav"), {"1": 1, "2": 2}),
        (("x/1.wav", "y/2.wav"), ("1.wav", "2.wav"), {"x/1": 1, "y/2": 2}),
        (("x/1.wav", "y/2.wav", "2.wav"), ("1.wav", "2.wav"), {"x/1": 1, "2": 3}),
        (("1.wav", "2.wav"), ("audio/test/1.wav", "audio/test/2.wav"), {"1": 1, "2": 2}),
        (("x/1.wav", "y/1.wav"), (r"x\1.wav", r".\y\1.wav"), {"x/1": 1, "y/1": 2}),
        (("x/1.wav", "y/1.wav"), ("y/1", "x/1"), {"y/1": 2, "x/1": 1}),
        (("x/1.5_a.WAV", "B.wav"), ("x/1.5_a", "b.Wav"), {"x/1.5_a": 1, "B": 2}),
        # The other one is missing, not somewhere else.
        (("x/1.wav", "2.wav"), ("y/1.wav", "2.wav"), {"2": 2}),
        (("x/1.wav", "2.wav"), ("x/1.wav", "y/1.wav"), {"x/1": 1}),
    ],
)
def test_rows_find_their_files(files, rows, found, place):
    place.audio(*files)
    table = place.table(HEAD + "".join(f"{row}\t0\t1\tDog\n" for row in rows))
    loaded, problems = place.load(table)
    assert problems == ""
    config = place.config(table)
    assert heard(loaded, config) == {clip: (n, {"Dog"}) for clip, n in found.items()}
    assert len(loaded.missing) == len(rows) - len(found)


@pytest.mark.parametrize("files", [("rec1.WAV", "rec2.wav"), ("rec1.wav", "a/rec2.WAV")])
def test_endings_in_capitals(files, place, trial):
    place.audio(*files)
    table = trial("upper.tsv")
    loaded, problems = place.load(table)
    assert problems == ""
    assert list(heard(loaded, place.config(table)).values()) == [(1, {"Speech"}), (2, {"Dog"})]


def test_names_of_several_clips_are_refused_with_the_clips(place):
    place.audio("x/1.wav", "y/1.wav", "2.wav")
    table = place.table(HEAD + "1.wav\t0\t1\tDog\n2.wav\t0\t1\tDog\n")
    loaded, problems = place.load(table)
    assert loaded is None
    assert f"{table}: has names that could be several clips of {place.folder}" in problems
    assert "1 may be x/1 or y/1" in problems
    place.audio("1.wav")
    shutil.rmtree(place.folder / "x")
    shutil.rmtree(place.folder / "y")
    table = place.table(HEAD + "x/1.wav\t0\t1\tDog\ny/1.wav\t0\t1\tSpeech\n")
    assert "x/1 and y/1 may all be 1" in place.load(table)[1]


def test_what_is_found_elsewhere_is_counted_in_a_line(place):
    place.audio("x/1.wav", "2.wav")
    table = place.table(HEAD + "1.wav\t0\t1\tDog\n2.wav\t0\t1\tDog\nlost.wav\t0\t1\tDog\n")
    loaded, _ = place.load(table)
    assert loaded.notes == (
        f"{place.folder}: 1 of 2 clips comes from subfolders (x)",
        f"{table}: 1 of 2 clips is found under another spelling or folder (1 is x/1)",
    )
    assert loaded.missing == ("lost",)


def test_two_files_of_one_clip_are_refused(place):
    place.audio("1.wav", "1.WAV")
    _, problems = place.load(place.table(HEAD + "1.wav\t0\t1\tDog\n"))
    assert "1.WAV and 1.wav would be one clip; rename one of them" in problems


# ---- durations


def test_durations_are_those_of_the_clips(place, trial):
    place.audio("x/1.wav", "y/1.wav")
    table = trial("same_name_two_dirs.tsv")
    own = place.table("filename\tduration\nx/1.wav\t1.05\ny/1.wav\t0.95\n", "durations.tsv")
    loaded, _ = place.load(table, f"data.test_dur={own}")
    config = place.config(table, f"data.test_dur={own}")
    assert table_durations(loaded, config) == {"x/1": 1.05, "y/1": 0.95}
    truth = read_truth(scored("devtest"), config, ["x/1", "y/1"])
    assert truth.durations == {"x/1": 1.05, "y/1": 0.95}
    place.table("filename\tduration\n1.wav\t3\n", "durations.tsv")
    with pytest.raises(InputError, match="x/1 and y/1 may all be 1"):
        table_durations(loaded, config)
    with pytest.raises(InputError, match="x/1 and y/1 may all be 1"):
        read_truth(scored("devtest"), config, ["x/1", "y/1"])


def test_published_durations_of_files_in_folders(place):
    place.audio("x/1.wav", "y/2.WAV", "empty/3.wav")
    table = place.table(HEAD + "1.wav\t0\t1\tDog\n2.wav\t0\t1\tDog\n3.wav\t\t\t\n")
    own = place.table("filename\tduration\n1.wav\t1.05\n9.wav\t9\n", "durations.tsv")
    loaded, _ = place.load(table, f"data.test_dur={own}")
    assert loaded.clip_ids == ("x/1", "y/2") and loaded.left_out == ("empty/3",)
    config = place.config(table, f"data.test_dur={own}")
    expected = {"x/1": 1.05, "y/2": 1.0, "9": 9.0, "empty/3": 1.0}
    assert table_durations(loaded, config) == expected
    truth = read_truth(scored("devtest"), config, ["x/1", "y/2"])
    assert (truth.durations, truth.left_out) == (expected, ("empty/3",))
    assert truth.events.clip_ids == ("x/1", "y/2")


# ---- embeddings


def test_a_published_store_names_files_without_folders(place):
    place.audio("x/1.wav", "y/2.wav", "3.wav")
    table = place.table(HEAD + "".join(f"{n}.wav\t0\t1\tDog\n" for n in (1, 2, 3)))
    store = place.store("3", "2", "1")
    loaded, problems = place.load(table, embeddings=True)
    assert problems == ""
    values = [loaded.embeddings.global_(clip_id)[0] for clip_id in ("x/1", "y/2", "3")]
    assert values == [2.0, 1.0, 0.0]
    assert loaded.notes[-1] == (
        f"{store}: 2 of 3 clips are found under another spelling or folder (x/1 is 1, y/2 is 2)"
    )


@pytest.mark.parametrize("rows", [("x/1.wav", "y/1.wav"), ("x/1.wav",)])
def test_a_store_in_which_two_clips_share_a_stem_is_ambiguous(rows, place):
    """Also if the table lists only one of them: the store may have been made of the other."""
    place.audio("x/1.wav", "y/1.wav", "2.wav")
    table = place.table(HEAD + "".join(f"{row}\t0\t1\tDog\n" for row in rows))
    store = place.store("1", "2")
    _, problems = place.load(table, embeddings=True)
    assert f"{store}: has names that could be several clips; run extract_embeddings.py" in problems
    assert "x/1 and y/1 may all be 1" in problems


def test_an_ambiguous_store_of_the_evaluation_set_needs_its_flag(place):
    place.audio("x/1.wav", "y/1.wav")
    store = place.store("1")
    store = store.rename(store.with_name("eval.hdf5"))
    config = place.config("none.tsv", f"data.eval_folder={place.folder}", embeddings=True)
    problems = []
    load_corpus(config.detection_task.corpus("eval"), config, problems)
    assert problems == [
        f"{store}: has names that could be several clips; run extract_embeddings.py again with "
        "--eval_set:\n  - x/1 and y/1 may all be 1"
    ]


def test_a_store_of_full_names_and_one_that_lacks_a_folder(place):
    place.audio("x/1.wav", "y/1.wav", "1.wav")
    names = ("1", "x/1", "y/1")
    table = place.table(HEAD + "".join(f"{name}.wav\t0\t1\tDog\n" for name in names))
    place.store("y/1", "1", "x/1")
    loaded, problems = place.load(table, embeddings=True)
    assert problems == ""
    assert [loaded.embeddings.global_(name)[0] for name in names] == [1.0, 2.0, 0.0]


def test_a_store_from_before_there_were_subfolders_lacks_their_clips(place):
    names = ("1", "x/1", "y/1")
    reader = EmbeddingReader(place.store("1"))
    assert reader.match(names) == {"1": "1"}
    assert reader.missing(names) == ["x/1", "y/1"]


# ---- packed sets


def test_packed_sets_tell_folders_apart(place, trial):
    place.audio("x/1.wav", "y/1.wav")
    table = trial("same_name_two_dirs.tsv")
    config = place.config(table, f"data.packed_dir={place.root / 'packed'}")
    for expected in ([1, 2], [2, 1]):
        loaded, _ = place.load(table)
        pack_corpora([loaded], config, config.grid, progress=False)
        (packed,) = open_packed([loaded], config, config.grid, CPU, tell=False).values()
        starts = packed.packed.packed.header.offsets[:-1]
        assert [round(100 * float(packed.packed.packed.audio()[i])) for i in starts] == expected
        for old, new in (("x", "z"), ("y", "x"), ("z", "y")):
            (place.folder / old).rename(place.folder / new)


# ---- clips of recordings


def test_windows_in_subfolders_belong_to_their_recordings():
    flat = [f"cafe_restaurant_0{n}-00{k}000-00{k + 1}000" for n in range(4) for k in range(3)]
    nested = [f"part-{number % 2}/{name}" for number, name in enumerate(flat)]
    corpus = TASK.corpus("maestro_real_train")
    parts, same = divide(corpus, flat, 3), divide(corpus, nested, 3)
    assert [[c.partition("/")[2] for c in part] for part in same] == [list(part) for part in parts]
    assert parts.validation and parts.train
    assert clip_span(nested[1]).recording == "part-1/cafe_restaurant_00"
    assert clip_span(nested[1]).onset_s == 10.0


# ---- a whole module


def test_a_corpus_moved_into_subfolders_is_the_same_corpus(extracted, tmp_path):
    """Evaluation without tables, dev-test with the published one; embeddings by stem."""
    config = load_config(extracted)
    moved = []
    for key in ("test_folder", "eval_folder"):
        folder = tmp_path / key
        for number, wav in enumerate(sorted(Path(getattr(config.data, key)).glob("*.wav"))):
            target = folder / ("a", "b/c")[number % 2] / wav.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(wav, target.with_suffix(".WAV" if number % 3 else ".wav"))
        moved.append(f"data.{key}={folder}")
    for stage, name in (("test", "devtest"), ("predict", "eval")):
        before, after = SedDataModule(config), SedDataModule(load_config(extracted, moved))
        before.check(stage)
        with pytest.warns(UserWarning, match="come from subfolders"):
            after.check(stage)
        one, other = before.loaded[name], after.loaded[name]
        stems = {clip_id.rpartition("/")[2]: clip_id for clip_id in other.clip_ids}
        assert set(stems) == set(one.clip_ids) and len(stems) == len(other.clip_ids)
        for clip_id in one.clip_ids:
            there = stems[clip_id]
            assert other.durations_s[there] == one.durations_s[clip_id]
            np.testing.assert_array_equal(
                other.embeddings.frame(there), one.embeddings.frame(clip_id)
            )
        if stage == "test":
            assert [c.rpartition("/")[2] for c in other.clip_ids] == list(one.clip_ids)
            old, new = before.truths("test")[0], after.truths("test")[0]
            np.testing.assert_array_equal(old.events.onset_s, new.events.onset_s)
            assert sum(old.durations.values()) == sum(new.durations.values())
