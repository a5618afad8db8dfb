"""The mini corpus as a whole: the real tree, once and again, killed, elsewhere, by any number."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from desed_task.dataio.annotations import read_durations, read_strong_table, read_weak_table
from desed_task.encoders.loading import load_encoder
from desed_task.encoders.weights_file import MINI_ATST, MINI_BEATS
from desed_task.errors import InputError
from local.classes_dict import DESED_CLASSES, MAESTRO_SCORED_CLASSES, VOCABULARY
from local.cli.own_files import RECORD_FILE
from local.config import load_config
from local.data.expected_clips import MINI_CORPUS_MARKER
from local.prep.layout import FOLDERS, DataLayout
from local.prep.mini_corpus import make
from local.prep.mini_corpus.annotators import soft_labels
from local.prep.mini_corpus.clip_plans import SCENE_CLASSES
from local.prep.mini_corpus.make import make_mini_corpus
from local.prep.mini_corpus.sets import MINI_CLIP_SETS, MiniSizes, plan_recordings, plan_set
from local.prep.plots import plot_clips
from tests.local.data.test_splits import split_train_files

CONFIG = Path(__file__).parents[4] / "confs" / "pretrained.yaml"
SMALL = MiniSizes.small()


@pytest.fixture(scope="module")
def corpus(mini_root: Path) -> Path:
    return mini_root / "data" / "mini"


@pytest.fixture
def layout(corpus: Path) -> DataLayout:
    return DataLayout(load_config(CONFIG).data, corpus, corpus)


@pytest.fixture
def copy(corpus: Path, tmp_path: Path) -> Path:
    """A copy; no links, as records of what was written are appended in place."""
    return Path(shutil.copytree(corpus, tmp_path / "copy"))


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        # Hidden: records, whose lines are in the order in which threads end, and times of sources.
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.key)
def test_every_folder_of_the_config_has_16_khz_siblings(layout, folder):
    source = layout.made(f"{folder.key}_44k")
    names = sorted(path.name for path in source.iterdir())
    assert names == sorted(path.name for path in layout.made(folder.key).iterdir())
    for name in names:
        original, made = sf.info(source / name), sf.info(layout.made(folder.key) / name)
        assert (original.samplerate, made.samplerate) == (44100, 16000)
        assert (original.subtype, made.subtype) == ("PCM_16", "FLOAT")
        assert original.channels == made.channels


@pytest.mark.parametrize("key", ["synth", "synth_val", "strong", "test"])
def test_strong_tables_list_the_folder(layout, key):
    table = read_strong_table(layout.made(f"{key}_tsv"), VOCABULARY)
    assert set(table.clip_ids) == {path.stem for path in layout.made(f"{key}_folder").iterdir()}
    assert {VOCABULARY[index] for index in table.label_index} == set(DESED_CLASSES)


def test_the_weak_table_lists_the_folder(layout):
    table = read_weak_table(layout.made("weak_tsv"), VOCABULARY)
    assert set(table.clip_ids) == {path.stem for path in layout.made("weak_folder").iterdir()}
    assert table.target.any(axis=1).all()


@pytest.mark.parametrize(("key", "folder"), [("synth_val", "synth_val"), ("test", "test")])
def test_durations_are_the_files_own(layout, key, folder):
    durations = read_durations(layout.made(f"{key}_dur"))
    for path in layout.made(f"{folder}_folder_44k").iterdir():
        assert durations[path.stem] == pytest.approx(sf.info(path).duration, abs=1e-5)
    if key == "test":
        assert min(durations.values()) < 10


def test_maestro_is_cut_every_second_and_every_five(layout):
    for split, hop_cs in (("train", 100), ("val", 500)):
        onsets: dict[str, list[int]] = {}
        for path in sorted(layout.made(f"real_maestro_{split}_folder").iterdir()):
            recording, onset, _ = path.stem.rsplit("-", 2)
            onsets.setdefault(recording, []).append(int(onset))
        assert len(onsets) == (10 if split == "train" else 5)
        for starts in onsets.values():
            assert starts == list(range(0, len(starts) * hop_cs, hop_cs))
            assert len(starts) >= 2
        table = read_strong_table(layout.made(f"real_maestro_{split}_tsv"), VOCABULARY)
        assert 0 < table.confidence.min() < 0.5 < table.confidence.max() <= 1


@pytest.mark.parametrize("seed", range(5))
def test_maestro_s_recordings_can_be_split(layout, seed):
    table = read_strong_table(layout.made("real_maestro_train_tsv"), VOCABULARY)
    for part in split_train_files(table.clip_ids, 0.9, seed):
        assert len({clip_id.split("-")[0] for clip_id in part}) == 5


@pytest.mark.parametrize("sizes", [SMALL, MiniSizes()], ids=["small", "full"])
@pytest.mark.parametrize("seed", [42, 0])
def test_every_recording_has_a_scored_class_for_certain(sizes, seed):
    """So that validation can be scored, whichever recordings are held out."""
    for recording in plan_recordings(sizes, seed):
        classes = SCENE_CLASSES[recording.scene]
        rng = np.random.default_rng((*recording.plan.seed, make._ANNOTATORS))
        plan = recording.plan
        values = soft_labels(rng, plan.events, classes, plan.duration_s).max(axis=1)
        certain = [label for label, v in zip(classes, values, strict=True) if v > 0.5]
        assert set(certain) & set(MAESTRO_SCORED_CLASSES), recording.name


def test_recordings_durations_are_told_twice_alike(corpus, layout):
    metadata = pd.read_csv(corpus / "maestro_real" / "metadata" / "development_metadata.csv")
    told = dict(zip(metadata["filename"].str[:-4], metadata["duration"], strict=True))
    assert told == pytest.approx(read_durations(layout.made("real_maestro_val_dur")))
    assert len(told) == 15


def test_odd_files_are_there(layout):
    info = {
        path: sf.info(path)
        for clips in MINI_CLIP_SETS
        for path in layout.made(f"{clips.folder_key}_44k").iterdir()
    }
    assert any(one.channels == 2 for one in info.values())
    assert any(one.duration < 9.9 for one in info.values())
    assert any(one.duration > 10.01 for one in info.values())
    assert sum(not sf.read(path)[0].any() for path in info) == 1


def test_a_second_run_redoes_nothing_and_says_so(copy, capsys):
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    make_mini_corpus(copy, sizes=SMALL)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before
    out, err = capsys.readouterr()
    assert out == f"{copy}: the mini corpus (seed 42) is complete, nothing to do\n"
    assert not err


def test_a_corpus_of_an_earlier_version_gets_the_second_encoder_alone(copy, corpus, capsys):
    (copy / MINI_ATST).unlink()
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()}
    make_mini_corpus(copy, sizes=SMALL)
    now = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()}
    assert now.pop(copy / MINI_ATST) and now == before
    assert capsys.readouterr().out.endswith(f"is complete, {MINI_ATST} was missing and is made\n")
    assert (copy / MINI_ATST).read_bytes() == (corpus / MINI_ATST).read_bytes()
    assert load_encoder(copy / MINI_ATST).name == "atst_frame"


def formats(folder: Path) -> set[str]:
    return {sf.info(path).subtype for path in folder.rglob("*_16k/*.wav")}


def test_the_bits_of_a_complete_corpus_can_be_changed(copy, corpus, capsys):
    originals = {p: p.stat().st_mtime_ns for p in copy.rglob("*_44k/*.wav")}
    make_mini_corpus(copy, sizes=SMALL, bits=16, jobs=2)
    assert formats(copy) == {"PCM_16"}
    out = capsys.readouterr().out
    assert "written again as 16-bit: " in out and "run extract_embeddings.py" in out
    for asked in (16, None):
        before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
        make_mini_corpus(copy, sizes=SMALL, bits=asked)
        assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before
        first, *rest = capsys.readouterr().out.splitlines()
        assert first.endswith("is complete, nothing to do")
        assert len(rest) == (asked is None)
    assert rest[0].startswith("note: 16-bit files are used as they are and completed in 16 bits: ")
    assert "; --bits 32 writes them again" in rest[0]
    make_mini_corpus(copy, sizes=SMALL, bits=32, jobs=2)
    assert digests(copy) == digests(corpus)
    assert {p: p.stat().st_mtime_ns for p in copy.rglob("*_44k/*.wav")} == originals


def test_a_mixed_corpus_is_completed_in_floats(copy, corpus, capsys):
    """As a rewrite that was interrupted leaves it."""
    path = min((copy / "dcase/dataset/audio/eval24_16k").iterdir())
    samples, rate = sf.read(path)
    path.unlink()
    sf.write(path, samples, rate, subtype="PCM_16")
    make_mini_corpus(copy, sizes=SMALL)
    told = f"{path.parent}: had 16-bit (1) and 32-bit float (1) files; written again as 32-bit"
    assert told in capsys.readouterr().out
    assert digests(copy) == digests(corpus)


def test_what_the_user_changed_is_replaced_only_on_request(copy, corpus):
    """Without records, as earlier versions left it."""
    for record in copy.rglob(RECORD_FILE):
        record.unlink()
    table = copy / "dcase/dataset/metadata/train/weak.tsv"
    clip = min((copy / "dcase/dataset/audio/eval24_16k").iterdir())
    for path, content in ((table, b"filename\tevent_labels\nmine"), (clip, b"of the user")):
        path.unlink()
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"--overwrite:\n  - {table}$"):
        make_mini_corpus(copy, sizes=SMALL, bits=16, progress=False)
    table.unlink()
    with pytest.raises(InputError, match=rf"(?s)is damaged.*--overwrite:\n  - {clip}$"):
        make_mini_corpus(copy, sizes=SMALL, bits=16, progress=False)
    assert clip.read_bytes() == b"of the user"
    make_mini_corpus(copy, sizes=SMALL, bits=32, progress=False, overwrite=True)
    assert digests(copy) == digests(corpus)


def test_a_killed_run_is_completed(copy, corpus):
    marker = json.loads((copy / MINI_CORPUS_MARKER).read_text())
    (copy / MINI_CORPUS_MARKER).unlink()
    (copy / MINI_CORPUS_MARKER).write_text(json.dumps({**marker, "complete": False}))
    for key in ("weak_folder_44k", "weak_folder", "real_maestro_train_folder_44k"):
        folder = DataLayout(load_config(CONFIG).data, copy, copy).made(key)
        for path in sorted(folder.iterdir())[::4]:
            path.unlink()
    for path in copy.rglob("*.tsv"):
        path.unlink()
    (copy / MINI_BEATS).unlink()
    make_mini_corpus(copy, sizes=SMALL, progress=False, jobs=1)
    made, before = digests(copy), digests(corpus)
    # torch puts the name of the temporary file into what it saves.
    assert made.pop(MINI_BEATS)
    del before[MINI_BEATS]
    assert made == before


def test_a_file_missing_from_a_complete_corpus_is_made_again(copy, corpus):
    lost = next((copy / "dcase/dataset/audio/eval24").iterdir())
    lost.unlink()
    make_mini_corpus(copy, sizes=SMALL, progress=False, jobs=1)
    assert lost.read_bytes() == (corpus / lost.relative_to(copy)).read_bytes()


def test_any_number_of_processes_writes_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(make, "_WORTH_A_PROCESS", 1)
    planned = plan_set(MINI_CLIP_SETS[2], SMALL, 7)[:4]
    for jobs in (1, 2):
        work = [make.RenderJob(tmp_path / str(jobs) / clip.name, clip.plan) for clip in planned]
        make._render(work, jobs, progress=False)
    assert digests(tmp_path / "1") == digests(tmp_path / "2")
    assert len(digests(tmp_path / "1")) == 4


@pytest.mark.parametrize("change", [{"seed": 1}, {"sizes": MiniSizes()}])
def test_another_corpus_is_not_mixed_in(copy, change):
    with pytest.raises(InputError, match=r"contains another mini corpus.*remove the folder"):
        make_mini_corpus(copy, **{"sizes": SMALL, "progress": False, **change})


def test_real_data_is_not_written_into(tmp_path):
    (tmp_path / "dcase").mkdir()
    with pytest.raises(InputError, match="not the mini corpus; give another --basedir"):
        make_mini_corpus(tmp_path, sizes=SMALL, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["dcase"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        make_mini_corpus(tmp_path / "file" / "corpus", sizes=SMALL, progress=False)


@pytest.mark.parametrize("change", [{"seed": -1}, {"jobs": 0}])
def test_seed_and_jobs_have_bounds(tmp_path, change):
    with pytest.raises(InputError, match=str(next(iter(change.values())))):
        make_mini_corpus(tmp_path, sizes=SMALL, progress=False, **change)


def pictures(corpus: Path, out_dir: Path, n_clips: int) -> Iterator[tuple[Path, bytes]]:
    return ((path, path.read_bytes()) for path in plot_clips(corpus, out_dir, n_clips))


def test_pictures_are_drawn(corpus, tmp_path):
    drawn = dict(pictures(corpus, tmp_path / "plots", 6))
    assert len(drawn) == 6
    assert all(content.startswith(b"\x89PNG") for content in drawn.values())
    assert len(set(drawn.values())) == 6
    assert sorted(drawn) == sorted((tmp_path / "plots").iterdir())


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(InputError, match=r"no labelled clips to plot.*--mini"):
        plot_clips(tmp_path, tmp_path / "plots")
