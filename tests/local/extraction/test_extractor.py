"""Embedding files that are brought up to date: what is computed, kept, redone and refused."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
import soundfile as sf
import torch

from desed_task.audio.clip_files import find_clips
from desed_task.audio.freshness import source_of, source_stamp
from desed_task.audio.resampling import resample_folder
from desed_task.dataio.embedding_sources import DIGEST, MTIME, SIZE
from desed_task.dataio.embedding_writer import EmbeddingWriter
from desed_task.dataio.embeddings import FRAME, GLOBAL, EmbeddingReader
from desed_task.dataio.row_stores.forms import PSEUDO_LABELS
from desed_task.dataio.row_stores.unfinished import open_part
from desed_task.encoders.beats.model import SMALL_CONFIG, load_beats, write_random_beats
from desed_task.errors import InputError
from local.extraction.extractor import Extractor
from local.schema.encoders import EncoderChoice

RATE = 16000
CLIP_S = 1.0
TINY = replace(SMALL_CONFIG, encoder_layers=1, encoder_embed_dim=32, embed_dim=16, conv_pos=8)
CPU = torch.device("cpu")


class Place(NamedTuple):
    """Where a test works."""

    checkpoint: Path
    audio: Path
    out: Path

    def wavs(self) -> list[Path]:
        return sorted(self.audio.glob("*.wav"))

    def clips(self) -> dict[str, Path]:
        return {wav.stem: wav for wav in self.wavs()}

    def path(self, name: str) -> Path:
        return self.out / "beats" / f"{name}.hdf5"


def noise(seed: int, n_samples: int = RATE, channels: int = 1) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).normal(size=(n_samples, channels))


def write_wav(path: Path, samples: np.ndarray) -> Path:
    """A file that is older than anything extracted from it."""
    sf.write(path, samples, RATE, subtype="FLOAT")
    os.utime(path, (1e9, 1e9))
    return path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    audio = tmp_path / "audio"
    audio.mkdir()
    for number in range(6):
        write_wav(audio / f"Y{number}_0.000_10.000.wav", noise(number))
    write_random_beats(tmp_path / "beats_mini.pt", seed=1, config=TINY)
    return Place(tmp_path / "beats_mini.pt", audio, tmp_path / "out")


@pytest.fixture
def embedded_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gets the number of clips of each batch that is computed."""
    from local.extraction import embedder

    rows: list[int] = []
    embed = embedder.Embedder._embed

    def counted(self: Any, batch: Any) -> Any:
        rows.append(len(batch.clip_ids))
        return embed(self, batch)

    monkeypatch.setattr(embedder.Embedder, "_embed", counted)
    return rows


def chosen(place: Place) -> EncoderChoice:
    return EncoderChoice("beats", str(place.checkpoint), None)


def extractor(place: Place) -> Extractor:
    return Extractor.open(
        chosen(place), place.out, clip_s=CLIP_S, device=CPU, batch_size=4, progress=False
    )


def expected(place: Place, samples: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        output = load_beats(place.checkpoint).embed(
            torch.tensor(samples, dtype=torch.float32)[None]
        )
    return output.frame[0].numpy()


def test_clips_are_embedded_as_they_are_tested_on(place: Place) -> None:
    """Mean of the channels, zeros behind a short clip, the beginning of a long one."""
    stereo, short, long = noise(7, channels=2), noise(8, RATE // 2), noise(9, 2 * RATE)
    for name, samples in (("stereo", stereo), ("short", short), ("long", long)):
        write_wav(place.audio / f"{name}.wav", samples)
    assert extractor(place).extract("devtest", place.clips()) == []
    reader = EmbeddingReader(place.path("devtest"))
    assert reader.clip_ids == tuple(wav.stem for wav in place.wavs())
    padded = np.concatenate([short[:, 0], np.zeros(RATE // 2)])
    for name, samples in (
        ("stereo", stereo.mean(axis=1)),
        ("short", padded),
        ("long", long[:RATE, 0]),
        ("Y3_0.000_10.000", noise(3)[:, 0]),
    ):
        frame = expected(place, samples)
        np.testing.assert_allclose(reader.frame(name), frame, atol=1e-4)
        np.testing.assert_allclose(reader.global_(name), frame.mean(axis=1), atol=1e-4)


def identity(path: Path) -> tuple[int, int, int]:
    """What changes if a file is written again; not the time of the last look at it."""
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def test_a_finished_file_is_left_alone(
    place: Place, embedded_rows: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    extractor(place).extract("devtest", place.clips())
    assert sum(embedded_rows) == 6
    before = identity(place.path("devtest"))
    extractor(place).extract("devtest", place.clips())
    assert sum(embedded_rows) == 6
    assert identity(place.path("devtest")) == before
    assert "devtest: 6 clips, already up to date" in capsys.readouterr().out


def test_clips_rewritten_in_another_sample_format_are_computed_again(
    place: Place, embedded_rows: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    originals = place.audio.with_name("audio_44k")
    originals.mkdir()
    for wav in place.wavs():
        # Beyond full scale: what 16 bits cannot hold.
        sf.write(originals / wav.name, 12 * noise(int(wav.stem[1])), RATE, subtype="FLOAT")
        os.utime(originals / wav.name, (1e9, 1e9))
    resample_folder(originals, place.audio, bits=16, progress=False)
    for wav in place.wavs():
        os.utime(wav, (1e9, 1e9))
    extractor(place).extract("devtest", place.clips())
    before = EmbeddingReader(place.path("devtest")).frame("Y0_0.000_10.000")
    os.utime(place.path("devtest"), (1e9, 1e9))
    embedded_rows.clear()
    capsys.readouterr()

    resample_folder(originals, place.audio, bits=32, progress=False)
    extractor(place).extract("devtest", place.clips())
    assert sum(embedded_rows) == 6
    assert "devtest: 0 new and 6 changed clips since " in capsys.readouterr().out
    after = EmbeddingReader(place.path("devtest")).frame("Y0_0.000_10.000")
    assert np.abs(after - before).max() > 1e-4
    np.testing.assert_allclose(after, expected(place, 12 * noise(0)[:, 0]), atol=1e-4)


def test_only_new_and_changed_clips_are_computed(place: Place, embedded_rows: list[int]) -> None:
    extractor(place).extract("devtest", place.clips())
    kept = EmbeddingReader(place.path("devtest")).frame("Y5_0.000_10.000")
    (place.audio / "Y0_0.000_10.000.wav").unlink()
    write_wav(place.audio / "new.wav", noise(20))
    sf.write(place.audio / "Y4_0.000_10.000.wav", noise(21), RATE, subtype="FLOAT")
    later = place.path("devtest").stat().st_mtime + 10
    os.utime(place.audio / "Y4_0.000_10.000.wav", (later, later))
    embedded_rows.clear()
    extractor(place).extract("devtest", place.clips())
    assert sum(embedded_rows) == 2
    reader = EmbeddingReader(place.path("devtest"))
    assert reader.clip_ids == tuple(wav.stem for wav in place.wavs())
    np.testing.assert_array_equal(reader.frame("Y5_0.000_10.000"), kept)
    for clip_id, seed in (("new", 20), ("Y4_0.000_10.000", 21)):
        frame = expected(place, noise(seed)[:, 0])
        np.testing.assert_allclose(reader.frame(clip_id), frame, atol=1e-4)


def test_a_clip_that_cannot_be_read_leaves_the_set_unfinished(
    place: Place, embedded_rows: list[int]
) -> None:
    broken = place.audio / "Y2_0.000_10.000.wav"
    broken.write_bytes(b"no RIFF")
    faults = extractor(place).extract("devtest", place.clips())
    assert len(faults) == 1
    assert str(broken) in faults[0]
    assert not place.path("devtest").exists()
    assert sum(embedded_rows) == 5
    write_wav(broken, noise(2))
    assert extractor(place).extract("devtest", place.clips()) == []
    assert sum(embedded_rows) == 6
    reader = EmbeddingReader(place.path("devtest"))
    np.testing.assert_allclose(
        reader.frame("Y2_0.000_10.000"), expected(place, noise(2)[:, 0]), atol=1e-4
    )


def test_what_processes_of_an_earlier_run_have_left_is_used(
    place: Place, embedded_rows: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Clips behind one that could not be read stay in the batch of an uninterrupted run."""
    for number in range(6, 14):
        write_wav(place.audio / f"Y{number}_0.000_10.000.wav", noise(number))
    broken = place.wavs()[5]
    kept = broken.read_bytes()
    broken.write_bytes(b"no RIFF")
    names = [wav.stem for wav in place.wavs()]
    whole = place._replace(out=place.out.with_name("whole"))
    assert len(extractor(whole).extract("devtest", place.clips())) == 1
    assert embedded_rows == [4, 3, 4, 2]

    one = extractor(place)
    with h5py.File(f"{whole.path('devtest')}.part") as file:
        for number, batch in ((1, ()), (2, names[8:12]), (3, [*names[4:5], *names[6:8]])):
            writer = EmbeddingWriter(
                place.path("devtest"),
                names,
                n_features=32,
                n_tokens=48,
                identity=one.identity,
                number=number,
            )
            with writer:
                for name in batch:
                    row = names.index(name)
                    wav = place.clips()[name]
                    writer.record(name, source_of(wav, source_stamp(wav)))
                    frame, global_ = (file[of][row : row + 1] for of in (FRAME, GLOBAL))
                    writer.put([name], frame, global_)
    embedded_rows.clear()
    capsys.readouterr()
    broken.write_bytes(kept)
    os.utime(broken, (1e9, 1e9))
    assert one.extract("devtest", place.clips()) == []
    assert embedded_rows == [4, 2, 1]
    assert "devtest: resuming, 7 of 14 clips are done" in capsys.readouterr().out
    assert [found.name for found in place.path("devtest").parent.iterdir()] == ["devtest.hdf5"]
    assert extractor(whole).extract("devtest", place.clips()) == []
    assert place.path("devtest").read_bytes() == whole.path("devtest").read_bytes()


def test_a_clip_that_changed_while_the_run_was_stopped(
    place: Place, embedded_rows: list[int]
) -> None:
    (place.audio / "Y2_0.000_10.000.wav").write_bytes(b"no RIFF")
    extractor(place).extract("devtest", place.clips())
    write_wav(place.audio / "Y2_0.000_10.000.wav", noise(2))
    changed = write_wav(place.audio / "Y3_0.000_10.000.wav", noise(30))
    later = Path(f"{place.path('devtest')}.part").stat().st_mtime + 10
    os.utime(changed, (later, later))
    embedded_rows.clear()
    extractor(place).extract("devtest", place.clips())
    assert sum(embedded_rows) == 2
    reader = EmbeddingReader(place.path("devtest"))
    np.testing.assert_allclose(
        reader.frame(changed.stem), expected(place, noise(30)[:, 0]), atol=1e-4
    )


def test_files_of_another_form_are_never_replaced(place: Place) -> None:
    extractor(place).extract("devtest", place.clips())
    path = place.path("devtest")
    before = path.read_bytes()
    labeller = replace(extractor(place), choice=None, form=PSEUDO_LABELS, overwrite=True)
    for kept in (path, path.with_name("devtest.hdf5.part"), path.with_name("devtest.hdf5.part.2")):
        kept.unlink(missing_ok=True)
        kept.write_bytes(before)
        told = f"{kept.name}: has embeddings, not pseudo-labels; give another --pseudo_labels"
        with pytest.raises(InputError, match=told):
            labeller.check({"devtest": place.clips()})
        with pytest.raises(InputError, match=told):
            labeller.extract("devtest", place.clips())
        assert kept.read_bytes() == before
        with pytest.raises(InputError, match="has embeddings, not pseudo-labels; move it away"):
            open_part(kept, PSEUDO_LABELS)
        kept.unlink()


def test_a_removed_clip_lets_an_unfinished_set_finish(
    place: Place, embedded_rows: list[int]
) -> None:
    (place.audio / "Y2_0.000_10.000.wav").write_bytes(b"no RIFF")
    extractor(place).extract("devtest", place.clips())
    (place.audio / "Y2_0.000_10.000.wav").unlink()
    assert extractor(place).extract("devtest", place.clips()) == []
    assert sum(embedded_rows) == 5
    assert [found.name for found in place.path("devtest").parent.iterdir()] == ["devtest.hdf5"]


def test_other_weights_or_lengths_compute_everything(
    place: Place, embedded_rows: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    extractor(place).extract("devtest", place.clips())
    write_random_beats(place.checkpoint, seed=2, config=TINY)
    extractor(place).extract("devtest", place.clips())
    assert sum(embedded_rows) == 12
    assert "has other weights, clip length or precision" in capsys.readouterr().out
    frame = EmbeddingReader(place.path("devtest")).frame("Y1_0.000_10.000")
    np.testing.assert_allclose(frame, expected(place, noise(1)[:, 0]), atol=1e-4)
    Extractor.open(chosen(place), place.out, clip_s=2.0, device=CPU, progress=False).extract(
        "devtest", place.clips()
    )
    assert sum(embedded_rows) == 18


def write_published(place: Place, n_clips: int = 6) -> Path:
    path = place.path("devtest")
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file["filenames"] = np.array([wav.stem for wav in place.wavs()[:n_clips]], dtype="S")
        file["frame_embeddings"] = np.zeros((n_clips, 32, 48), dtype=np.float32)
        file["global_embeddings"] = np.zeros((n_clips, 32), dtype=np.float32)
    return path


def test_a_published_file_is_believed(place: Place, embedded_rows: list[int]) -> None:
    write_published(place)
    extractor(place).extract("devtest", place.clips())
    assert embedded_rows == []


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("lacks clips", "2 new and 0 changed clips since"),
        ("other clip length", "has embeddings of another size or clip length"),
        ("text", "not an HDF5 file"),
        ("cut short", "damaged or cut short"),
        ("link", "is a link"),
    ],
)
def test_a_file_of_somebody_else_is_replaced_only_on_request(
    place: Place, embedded_rows: list[int], kind: str, message: str
) -> None:
    path = write_published(place, 4 if kind == "lacks clips" else 6)
    if kind == "other clip length":
        with h5py.File(path, "r+") as file:
            del file["frame_embeddings"]
            file["frame_embeddings"] = np.zeros((6, 32, 40), dtype=np.float32)
    elif kind == "text":
        path.write_text("notes")
    elif kind == "cut short":
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == "link":
        with h5py.File(path, "r+") as file:
            file["more"] = h5py.SoftLink("/filenames")
    kept = path.read_bytes()
    sets = {"weak_train": place.clips(), "devtest": place.clips()}
    with pytest.raises(InputError, match=rf"devtest.hdf5.*{message}.*with --overwrite"):
        extractor(place).check(sets)
    with pytest.raises(InputError, match="did not write this file"):
        extractor(place).extract("devtest", place.clips())
    assert embedded_rows == [] and path.read_bytes() == kept
    assert [found.name for found in path.parent.iterdir()] == [path.name]

    willing = replace(extractor(place), overwrite=True)
    willing.check(sets)
    assert willing.extract("devtest", place.clips()) == []
    assert sum(embedded_rows) == 6
    assert EmbeddingReader(path).identity == willing.identity


def test_the_repeated_set_is_a_second_name(place: Place, embedded_rows: list[int]) -> None:
    for _ in range(2):
        for name in ("weak_train", "weak_val"):
            assert extractor(place).extract(name, place.clips()) == []
    assert sum(embedded_rows) == 6
    assert place.path("weak_val").samefile(place.path("weak_train"))


def test_the_repeated_set_is_copied_where_links_are_not_known(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    for name in ("weak_train", "weak_val"):
        extractor(place).extract(name, place.clips())
    assert not place.path("weak_val").samefile(place.path("weak_train"))
    assert place.path("weak_val").read_bytes() == place.path("weak_train").read_bytes()


def test_a_disk_without_space_is_noticed_first(
    place: Place, monkeypatch: pytest.MonkeyPatch, embedded_rows: list[int]
) -> None:
    class Full(NamedTuple):
        free: int = 10

    monkeypatch.setattr("shutil.disk_usage", lambda _: Full())
    with pytest.raises(InputError, match=r"devtest needs 0.0 GB, 0.0 GB are free"):
        extractor(place).extract("devtest", place.clips())
    assert embedded_rows == []


def test_threads_of_the_process_are_given_back(place: Place) -> None:
    before = torch.get_num_threads()
    extractor(place).extract("devtest", place.clips())
    assert torch.get_num_threads() == before


# ---- clips in subfolders


def test_two_files_of_one_name_have_their_own_embeddings(
    place: Place, embedded_rows: list[int]
) -> None:
    for number, name in enumerate(("x", "y")):
        (place.audio / name).mkdir()
        write_wav(place.audio / name / "1.wav", noise(20 + number))
    extractor(place).extract("devtest", find_clips(place.audio).files)
    reader = EmbeddingReader(place.path("devtest"))
    assert reader.clip_ids[-2:] == ("x/1", "y/1") and sum(embedded_rows) == 8
    for number, name in enumerate(("x/1", "y/1")):
        frame = expected(place, noise(20 + number)[:, 0])
        np.testing.assert_allclose(reader.frame(name), frame, atol=1e-4)
    extractor(place).extract("devtest", find_clips(place.audio).files)
    assert sum(embedded_rows) == 8


def publish(place: Place, *names: str) -> None:
    place.path("devtest").parent.mkdir(parents=True)
    with h5py.File(place.path("devtest"), "w") as file:
        file["filenames"] = np.array([name.encode() for name in names], dtype="S")
        file["frame_embeddings"] = np.zeros((len(names), 32, 48), dtype=np.float32)
        file["global_embeddings"] = np.zeros((len(names), 32), dtype=np.float32)


@pytest.mark.parametrize("attributes", [{"title": "mine"}, {"clip_s": 1.0}, {"precision": "bf16"}])
def test_attributes_of_other_programs_do_not_make_a_file_ours(
    attributes: dict[str, str | float], place: Place, embedded_rows: list[int]
) -> None:
    publish(place, *(wav.stem for wav in place.wavs()))
    with h5py.File(place.path("devtest"), "r+") as file:
        file.attrs.update(attributes)
    clips = find_clips(place.audio).files
    extractor(place).extract("devtest", clips)
    assert embedded_rows == [] and EmbeddingReader(place.path("devtest")).identity == {}
    before = place.path("devtest").read_bytes()
    shutil.copy2(place.wavs()[0], place.audio / "new.wav")
    with pytest.raises(InputError, match=r"1 new and 0 changed clips .* with --overwrite"):
        extractor(place).extract("devtest", find_clips(place.audio).files)
    assert place.path("devtest").read_bytes() == before and embedded_rows == []


def test_attributes_that_a_user_adds_do_not_make_a_file_another(
    place: Place, embedded_rows: list[int]
) -> None:
    clips = find_clips(place.audio).files
    extractor(place).extract("devtest", clips)
    with h5py.File(place.path("devtest"), "r+") as file:
        file.attrs["note"] = "for the paper"
    os.utime(place.path("devtest"), (time.time() + 9,) * 2)
    n_before = sum(embedded_rows)
    extractor(place).extract("devtest", clips)
    assert sum(embedded_rows) == n_before
    shutil.copy2(place.wavs()[0], place.audio / "new.wav")
    extractor(place).extract("devtest", find_clips(place.audio).files)
    assert sum(embedded_rows) == n_before + 1


def test_a_published_file_is_believed_of_clips_in_subfolders(
    place: Place, embedded_rows: list[int]
) -> None:
    publish(place, *(wav.stem for wav in place.wavs()))
    for number, wav in enumerate(place.wavs()):
        (place.audio / f"{number % 2}").mkdir(exist_ok=True)
        wav.rename(place.audio / f"{number % 2}" / wav.with_suffix(".WAV").name)
    extractor(place).extract("devtest", find_clips(place.audio).files)
    assert embedded_rows == []


def test_a_published_file_of_names_that_two_clips_share_is_refused(
    place: Place, embedded_rows: list[int]
) -> None:
    publish(place, *(wav.stem for wav in place.wavs()))
    twice = place.wavs()[0]
    for name in ("x", "y"):
        (place.audio / name).mkdir()
        shutil.copy2(twice, place.audio / name)
    twice.unlink()
    clips = find_clips(place.audio).files
    said = f"x/{twice.stem} and y/{twice.stem} may all be {twice.stem}; .* with --overwrite"
    with pytest.raises(InputError, match=said):
        extractor(place).extract("devtest", clips)
    assert embedded_rows == []
    replace(extractor(place), overwrite=True).extract("devtest", clips)
    assert sum(embedded_rows) == 7  # none is believed, as the file does not say what made it


# ---- audio that was replaced


def replace_audio(how: str, place: Place) -> Path:
    """Other audio in the place of a clip, whose time does not tell."""
    path = place.audio / "Y4_0.000_10.000.wav"
    before = path.stat()
    samples = noise(21) if how != "shorter" else noise(21, RATE // 2)
    sf.write(path, samples, RATE, subtype="FLOAT")
    times = {"older": (5e8, 5e8), "newer": (3e9, 3e9)}
    os.utime(path, times.get(how, (before.st_atime, before.st_mtime)))
    return path


@pytest.mark.parametrize("how", ["older", "newer", "shorter"])
def test_replaced_audio_is_embedded_again(
    place: Place, embedded_rows: list[int], how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An older file of the same size, a newer one, and one of the same time and another size."""
    extractor(place).extract("devtest", place.clips())
    path = replace_audio(how, place)
    embedded_rows.clear()
    assert extractor(place).extract("devtest", place.clips()) == []
    assert sum(embedded_rows) == 1
    assert "devtest: 0 new and 1 changed clip since " in capsys.readouterr().out
    frame = expected(place, sf.read(path, frames=RATE)[0]) if how != "shorter" else None
    if frame is not None:
        found = EmbeddingReader(place.path("devtest")).frame(path.stem)
        np.testing.assert_allclose(found, frame, atol=1e-4)
    extractor(place).extract("devtest", place.clips())
    assert sum(embedded_rows) == 1


@pytest.mark.parametrize("when", [5e8, 3e9])
def test_copied_audio_is_not_embedded_again(
    place: Place, embedded_rows: list[int], when: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """`cp` without -p, `touch`: compared by content once, by the noted times afterwards."""
    extractor(place).extract("devtest", place.clips())
    before = place.path("devtest").stat()
    for wav in place.wavs():
        os.utime(wav, (when, when))
    embedded_rows.clear()
    extractor(place).extract("devtest", place.clips())
    extractor(place).extract("devtest", place.clips())
    assert embedded_rows == []
    said = "devtest: 6 clips have other times, but the same content"
    assert capsys.readouterr().out.count(said) == 1
    # A training that reads it, and packed sets made from it, take another time for a change.
    after = place.path("devtest").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_replaced_clip_is_noticed_among_those_of_an_interrupted_run(
    place: Place, embedded_rows: list[int]
) -> None:
    (place.audio / "Y2_0.000_10.000.wav").write_bytes(b"no RIFF")
    extractor(place).extract("devtest", place.clips())
    write_wav(place.audio / "Y2_0.000_10.000.wav", noise(2))
    replace_audio("older", place)
    os.utime(place.audio / "Y5_0.000_10.000.wav")
    embedded_rows.clear()
    assert extractor(place).extract("devtest", place.clips()) == []
    assert sum(embedded_rows) == 2


def test_a_file_without_sources_is_believed_by_its_time_and_completed_with_them(
    place: Place, embedded_rows: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    """As earlier versions wrote it."""
    extractor(place).extract("devtest", place.clips())
    with h5py.File(place.path("devtest"), "r+") as file:
        for name in (SIZE, MTIME, DIGEST):
            del file[name]
    embedded_rows.clear()
    capsys.readouterr()
    extractor(place).extract("devtest", place.clips())
    out = capsys.readouterr().out
    assert "does not record its audio; only the order in time was compared" in out
    assert "6 clips, already up to date" in out
    write_wav(place.audio / "new.wav", noise(20))
    extractor(place).extract("devtest", place.clips())
    assert sum(embedded_rows) == 1
    replace_audio("older", place)
    extractor(place).extract("devtest", place.clips())
    assert sum(embedded_rows) == 2


def test_a_clip_written_while_it_is_embedded_is_embedded_again(
    place: Place, embedded_rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from local.extraction import embedder

    embed = embedder.Embedder._embed

    def written_meanwhile(self: Any, batch: Any) -> Any:
        if "Y4_0.000_10.000" in batch.clip_ids:
            replace_audio("newer", place)
        return embed(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(embedder.Embedder, "_embed", written_meanwhile)
        extractor(place).extract("devtest", place.clips())
    extractor(place).extract("devtest", place.clips())
    frame = expected(place, noise(21)[:, 0])
    found = EmbeddingReader(place.path("devtest")).frame("Y4_0.000_10.000")
    np.testing.assert_allclose(found, frame, atol=1e-4)
