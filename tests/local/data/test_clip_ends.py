"""Durations that lie and events after the clip's end, in every stage that reads tables."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

from desed_task.dataio.annotations import EventTable, read_durations, read_strong_table
from desed_task.errors import InputError
from desed_task.evaluation.scores import Scores
from desed_task.labels import FrameGrid, Vocabulary
from local.config import load_config
from local.data import clip_ends
from local.data.datamodule import SedDataModule
from local.data.truth import Truth
from local.summary.rescoring import count_events, count_segments, read_truth
from local.training.announcements import announce
from local.tuning.cached_scores import TeacherScores, teacher_scores
from local.tuning.median_sweep import MedianFilterObjective
from tests.conftest import ROOT
from tests.local.data.published import TASK, VOCABULARY, scored
from tests.local.scoring.by_stage import score_desed
from tests.published_task import made_up_truth

HEAD = "filename\tonset\toffset\tevent_label"
NO_EMBEDDINGS = "net.use_embeddings=false"
GRID = FrameGrid()
# What a table may not say of a file of 10 s.
LIES = ("100000", "9.0", "10.6", "0.001")


@pytest.fixture(scope="module")
def trials() -> Path:
    folder = ROOT.parent / "shared" / "trials"
    if not folder.is_dir():
        message = f"{folder}: the trials are not beside this checkout"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    return folder


@pytest.fixture
def corpus(extracted, tmp_path):
    """Loads a stage of the mini corpus with some tables changed: corpus(stage, key=change)."""

    def load(stage: str, *overrides: str, **changes) -> SedDataModule:
        data = SedDataModule(config(*overrides, **changes))
        data.check(stage)
        return data

    def config(*overrides: str, **changes):
        sources = load_config(extracted).data
        for key, change in changes.items():
            head, *rows = Path(getattr(sources, key)).read_text().splitlines()
            # Another name than the published ones, with a space and beyond ASCII.
            (folder := tmp_path / str(len(list(tmp_path.iterdir())))).mkdir()
            path = folder / f"Tabelle für {key}.tsv"
            path.write_text("\n".join([head, *change(rows)]) + "\n", encoding="utf-8")
            overrides = (*overrides, f"data.{key}={path}")
        return load_config(extracted, (NO_EMBEDDINGS, *overrides))

    load.config = config
    return load


def with_rows(*rows: str):
    return lambda there: [*there, *rows]


def table_of(tmp_path: Path, *rows: str) -> EventTable:
    path = tmp_path / "events.tsv"
    path.write_text("\n".join([HEAD, *rows]) + "\n")
    return read_strong_table(path, VOCABULARY)


def told_once(caught) -> str:
    (warning,) = [w for w in caught if " clip's end" in str(w.message)]
    return str(warning.message)


# ---- durations against headers


@pytest.mark.parametrize("stated_s", [9.5, 9.9, 9.98, 10.0, 10.06, 10.1, 10.5])
def test_a_rounded_duration_is_accepted(stated_s):
    clip_ends.check_clip_durations(Path("d.tsv"), {"a": stated_s}, {"a": 10.0})


@pytest.mark.parametrize(
    ("stated_s", "file_s"),
    [(1e5, 10.0), (9.0, 10.0), (10.6, 10.0), (1e-3, 10.0), (1e-3, 0.3), (2.0, 2.4), (30.0, 29.3)],
)
def test_a_duration_that_lies_is_refused_with_both_values(stated_s, file_s):
    table = {"Straße 1": stated_s, "true": 10.0, "not on disk": 1e5, "broken file": 1e5}
    files = {"Straße 1": file_s, "true": 10.0, "broken file": 0.0, "not in the table": 3.0}
    with pytest.raises(InputError) as error:
        clip_ends.check_clip_durations(Path("d.tsv"), table, files)
    assert str(error.value).splitlines() == [
        "d.tsv: wrong durations of 1 clip; correct or delete these rows, or delete the table and "
        "run generate_dcase_task4_2024.py to recreate it:",
        f"  - Straße 1: {stated_s:g} s in the table, {file_s:g} s in the file",
    ]


def test_published_durations_are_within_the_tolerance_of_any_rounding(parity):
    table = read_durations(parity("real_desed/validation_durations.tsv"))
    for apart_s in (-clip_ends.ROUNDING_S, clip_ends.ROUNDING_S):
        files = {clip_id: duration_s + apart_s for clip_id, duration_s in table.items()}
        clip_ends.check_clip_durations(Path("d.tsv"), table, files)
        assert clip_ends.rounding_warning("set", files, table) is None


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize(("key", "stage"), [("test_dur", "test"), ("synth_val_dur", "validate")])
def test_a_lie_about_one_clip_ends_a_test_and_a_validation(corpus, key, stage, lie):
    def change(rows):
        # A clip too many is not looked at, one too few is measured.
        first, *others = sorted(rows, key=lambda row: abs(float(row.split("\t")[1]) - 10))
        return [f"{first.split(chr(9))[0]}\t{lie}", *others[:-1], "zz.wav\t100000"]

    with pytest.raises(InputError) as error:
        corpus(stage, **{key: change})
    text = str(error.value)
    assert f"data.{key}: " in text and "wrong durations of 1 clip" in text
    assert f": {float(lie):g} s in the table, 10 s in the file" in text
    with pytest.raises(InputError, match="wrong durations"):
        corpus("fit", **{key: change})
    lie = "10.02"
    assert corpus(stage, **{key: change}).loaded


def test_a_difference_beyond_rounding_is_told_in_one_line(corpus):
    with pytest.warns(UserWarning, match="differs from the audio by more than 0.1 s in 2 of") as of:
        data = corpus("test", test_dur=lambda rows: [r.split("\t")[0] + "\t9.7" for r in rows[:2]])
    (text,) = [str(w.message) for w in of]
    assert "(9.7 s in the table, 10" in text and " s in the file); the table's are used" in text
    assert list(data.truths("test")[0].durations.values()).count(9.7) == 2


@pytest.mark.parametrize("lie", ["100000", "40", "3"])
def test_a_lie_about_a_recording_ends_a_test(corpus, lie):
    def change(rows):
        return [row.split("\t")[0] + f"\t{lie}" if "metro" in row else row for row in rows]

    with pytest.raises(InputError) as error:
        corpus("test", real_maestro_val_dur=change)
    assert "wrong durations of 1 recording" in str(error.value)
    assert f"{float(lie):g} s in the table, the last of its " in str(error.value)


@pytest.mark.parametrize(
    ("told_s", "lengths", "complete", "accepted"),
    [
        (31.2, {"r-000000-001000": 10, "r-002500-003120": 6.2}, True, False),  # a clip lost
        (31.2, {f"r-{on:06d}-x": 10 for on in ()}, True, True),  # no clip at hand
        (16.2, {"r-000000-001000": 10, "r-001000-001620": 6.2}, True, True),
        (16.7, {"r-000000-001000": 10, "r-001000-001620": 6.2}, True, True),
        (16.8, {"r-000000-001000": 10, "r-001000-001620": 6.2}, True, False),
        (15.6, {"r-000000-001000": 10, "r-001000-001620": 6.2}, True, False),
        (25.0, {"r-000000-001000": 10, "r-001000-001620": 6.2}, False, True),
        (27.0, {"r-000000-001000": 10, "r-001000-001620": 6.2}, False, False),
        (99999.0, {"r-000000-9999900": 10}, True, False),  # a name that lies
        (99999.0, {"r-000000-001000": 10, "r-9998900-9999900": 10}, True, False),
        (10.0, {"r-000000-001000": 10, "not a window": 99999}, True, True),
    ],
)
def test_a_recording_ends_where_its_clips_do(told_s, lengths, complete, accepted):
    windows = clip_ends.Windows(lengths, complete)
    arguments = Path("d.tsv"), {"r": told_s, "other": 1e5}, windows, ["r"]
    if accepted:
        clip_ends.check_recordings(*arguments)
    else:
        with pytest.raises(InputError, match=f"r: {told_s:g} s in the table"):
            clip_ends.check_recordings(*arguments)


def test_names_of_clips_that_are_not_there_count_up_to_a_clip():
    windows = clip_ends.windows_of([], {}, ["r-000000-9999900", "x"], clip_s=10.0)
    assert windows == ({"r-000000-9999900": 10.0, "x": 0.0}, False)
    on_disk = ["r-000500-001200"]
    windows = clip_ends.windows_of(on_disk, {"r-000500-001200": 0.01}, [], clip_s=10.0)
    assert windows == ({"r-000500-001200": 0.01}, True)


@pytest.mark.parametrize("on_disk", [True, False])
def test_clips_that_are_left_out_count_in_hours_and_are_checked_too(corpus, extracted, on_disk):
    data = load_config(extracted).data
    table = pd.read_csv(data.test_tsv, sep="\t")
    empty = table["filename"][table["event_label"].isna()].tolist()
    assert empty, "the mini corpus has a clip without events"
    name = empty[0] if on_disk else "Ygone.wav"

    def lie(rows):
        return [*(row for row in rows if not row.startswith(f"{name}\t")), f"{name}\t100000"]

    with pytest.raises(InputError, match=f"{name[:-4]}: 100000 s in the table"):
        corpus("test", test_dur=lie, test_tsv=with_rows(f"{name}\t\t\t"))


def test_the_tuning_of_median_filters_is_refused_too(corpus, tmp_path):
    def lie(rows):
        return [rows[0].split("\t")[0] + "\t100000", *rows[1:]]

    for part, key in (("test", "test_dur"), ("held_out", "synth_val_dur")):
        config = corpus.config(**{key: lie})
        with pytest.raises(InputError, match="wrong durations of 1 clip"):
            teacher_scores(config, tmp_path / "no.ckpt", part, tmp_path, torch.device("cpu"))


# ---- durations where there may be no audio


def random_scores(truth, seed=0) -> Scores:
    events = truth.events
    shape = (len(events.clip_ids), GRID.n_frames, len(VOCABULARY))
    values = np.random.default_rng(seed).random(shape).astype(np.float32)
    return Scores(events.clip_ids, values, GRID.boundaries_s, VOCABULARY)


@pytest.fixture(params=["with audio", "without audio"])
def stored(request, corpus, tmp_path):
    """Configurations of finished runs, and the clips that they scored."""
    data = corpus("test")
    clips = {name: data.loaded[name].clip_ids for name in ("devtest", "maestro_real_dev")}
    nowhere = ()
    if request.param == "without audio":
        nowhere = ("data.test_folder=nowhere", "data.real_maestro_val_folder=nowhere")
    return lambda **changes: (corpus.config(*nowhere, **changes), clips, request.param)


@pytest.mark.parametrize("lie", ["100000", "10.6"])
def test_a_summary_refuses_lies_with_the_audio_or_with_the_scores(stored, lie):
    def change(rows):
        return [rows[0].split("\t")[0] + f"\t{lie}", *rows[1:]]

    config, clips, _ = stored(test_dur=change)

    def count(config):
        truth = read_truth(scored("devtest"), config, clips["devtest"])
        return count_events(random_scores(truth), truth, 2)

    with pytest.raises(InputError, match=r"test_dur(\.tsv)?: wrong durations of 1 clip"):
        count(config)
    assert count(stored(test_dur=lambda rows: rows)[0]).units
    # The scores of a clip that is cropped end half a second and a part of a frame before it does.
    lie = "10.5"
    assert count(stored(test_dur=change)[0]).units


def test_a_summary_names_clips_of_unknown_duration(stored):
    config, clips, where = stored(test_dur=lambda rows: rows[1:])
    if where == "with audio":
        assert read_truth(scored("devtest"), config, clips["devtest"]).durations
        return
    with pytest.raises(InputError, match=r"test_dur\.tsv: lacks 1 clip that is not in nowhere"):
        read_truth(scored("devtest"), config, clips["devtest"])


def test_a_summary_refuses_lies_about_recordings(stored):
    for lie, refused in (("100000", True), ("3", True), (None, False)):

        def change(rows, lie=lie):
            return [row if lie is None else row.split("\t")[0] + f"\t{lie}" for row in rows]

        config, clips, _ = stored(real_maestro_val_dur=change)
        arguments = scored("maestro_real_dev"), config, clips["maestro_real_dev"]
        if refused:
            with pytest.raises(InputError, match=r"wrong durations of \d recordings"):
                read_truth(*arguments)
        else:
            truth = read_truth(*arguments)
            assert count_segments(random_scores(truth), truth, 2).units


def test_a_summary_without_audio_keeps_the_events_of_cropped_maestro_clips(corpus):
    """As the test does: a network of 5 s crops MAESTRO's clips, but they last 10 s."""
    short = ("data.audio_max_len=5", "predict.hop_s=2.56")
    clips = corpus("test").loaded["maestro_real_dev"].clip_ids
    found = []
    for place in ((), ("data.real_maestro_val_folder=nowhere",)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            config = corpus.config(*short, *place)
            found.append(read_truth(scored("maestro_real_dev"), config, clips).events)
    np.testing.assert_array_equal(found[0].onset_s, found[1].onset_s)
    assert found[0].onset_s.max() > 5


# ---- events after the clip's end


def test_the_trial_is_scored_without_the_event_after_the_end(trials, corpus, tmp_path, capsys):
    table = pd.read_csv(trials / "after_end.tsv", sep="\t")
    for name in table["filename"].unique():
        noise = np.random.default_rng(1).normal(size=160000) * 0.1
        sf.write(tmp_path / name, noise, 16000, subtype="FLOAT")
    lines = [f"{name}\t10.0" for name in table["filename"].unique()]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = corpus(
            "test",
            f"data.test_folder={tmp_path}",
            f"data.test_tsv={trials / 'after_end.tsv'}",
            test_dur=lambda rows: lines,
        )
    assert told_once(caught) == (
        f"{trials / 'after_end.tsv'}: 1 event begins after its clip's end and is left out, e.g. "
        "'Speech' at 11 s in rec1, which lasts 10 s"
    )
    events = data.truths("test")[0].events
    assert events.onset_s.tolist() == [0.5, 9.5, 9.9999]
    assert events.clip_ids == ("rec1", "rec2", "rec3")
    announce(data, "test")
    assert (
        "events that end after their clip, kept as annotated: 2 of 3 of DESED dev-test (farthest: "
        "'Dog' until 10.5 s in rec2, which lasts 10 s)" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("key", "name", "stage"),
    [
        ("synth_tsv", "synth_train", "fit"),
        ("strong_tsv", "strong_train", "fit"),
        ("synth_val_tsv", "synth_val", "validate"),
        ("test_tsv", "devtest", "test"),
        ("real_maestro_train_tsv", "maestro_real_train", "validate"),
        ("real_maestro_val_tsv", "maestro_real_dev", "test"),
    ],
)
def test_every_strong_table_is_held_against_its_clips_ends(corpus, key, name, stage):
    seen = {}

    def change(rows, more=True):
        clip, *_, label = rows[0].split("\t")[:4]
        tail = "\t0.9" if rows[0].count("\t") == 4 else ""
        late = [f"{clip}\t{on}\t{off}\t{label}{tail}" for on, off in ((10.0, 12), (1e5, 2e5))]
        seen["clip"] = clip.removesuffix(".wav")
        return [*late, *rows] if more else rows

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = corpus(stage, **{key: change}).loaded[name]
    text = told_once(caught)
    assert f"Tabelle für {key}.tsv: 2 events begin after their clip's end" in text
    assert f"at 10 s in {seen['clip']}, which lasts" in text
    plain = corpus(stage, **{key: lambda rows: change(rows, more=False)}).loaded[name]
    assert found.clip_ids == plain.clip_ids
    for column in ("clip_index", "onset_s", "offset_s", "label_index", "confidence"):
        np.testing.assert_array_equal(getattr(found.events, column), getattr(plain.events, column))


def test_a_clip_s_end_is_its_own_and_not_the_network_s(corpus, extracted, tmp_path):
    """In the padding of a short clip nothing can be heard, nor learnt."""
    sources = Path(load_config(extracted).data.synth_folder)
    for wav in sources.glob("*.wav"):
        (tmp_path / wav.name).symlink_to(wav)
    short = sorted(tmp_path.glob("*.wav"))[0]
    short.unlink()
    sf.write(short, np.random.default_rng(0).normal(size=6 * 16000) * 0.1, 16000, subtype="FLOAT")
    rows = [f"{short.name}\t{on}\t{off}\tDog" for on, off in ((5.9, 7), (6, 7), (8, 9))]

    def change(there):
        return [*(row for row in there if not row.startswith(f"{short.name}\t")), *rows]

    with pytest.warns(
        UserWarning, match=rf"2 events begin after .* at 6 s in {short.stem}, .* 6 s"
    ):
        data = corpus("fit", f"data.synth_folder={tmp_path}", synth_tsv=change)
    loaded = data.loaded["synth_train"]
    assert loaded.events.events_of(short.stem)[0].tolist() == [5.9]
    # A clip of which no event is left is one without events, but is still used.
    rows = rows[1:]
    with pytest.warns(UserWarning, match="2 events begin after"):
        data = corpus("fit", f"data.synth_folder={tmp_path}", synth_tsv=change)
    loaded = data.loaded["synth_train"]
    assert short.stem in loaded.clip_ids and loaded.left_out == ()
    row = loaded.clip_ids.index(short.stem)
    assert not loaded.dataset(data.config, data.grid).targets.target(row, 0.0).any()


@pytest.mark.parametrize("key", ["strong_tsv", "test_tsv", "real_maestro_val_tsv"])
def test_a_table_in_milliseconds_is_refused(corpus, key):
    def change(rows):
        cells = [row.split("\t") for row in rows if "\t\t" not in row]
        # Some events begin at 0, whatever the unit.
        times = [[c[0], f"{11000 + i}", f"{12000 + i}", *c[3:]] for i, c in enumerate(cells)]
        return ["\t".join(row) for row in times]

    with pytest.raises(InputError) as error:
        corpus("fit", **{key: change})
    assert f"data.{key}: " in str(error.value)
    assert "events begin after their clip's end, e.g. at 11000 s in" in str(error.value)
    assert "seconds from the beginning of the clip" in str(error.value)


def test_real_annotations_stay_as_they_are(parity):
    """16 events reach beyond their clip, 0.115 s at most; none begins there. 15 rows name none."""
    durations = read_durations(parity("real_desed/validation_durations.tsv"))
    table = read_strong_table(
        parity("real_desed/validation.tsv"), Vocabulary(TASK.part("test", "events").classes)
    ).select(durations)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = clip_ends.leave_out_late_events(table, durations)
    np.testing.assert_array_equal(kept.onset_s, table.onset_s)
    np.testing.assert_array_equal(kept.offset_s, table.offset_s)
    found = clip_ends.late_ends("DESED dev-test", kept, durations)
    line = clip_ends.late_ends_line([found])
    assert line.startswith(
        "events that end after their clip, kept as annotated: 16 of 4224 of DESED dev-test "
        "(farthest: 'Dog' until 10.115 s in "
    )
    assert clip_ends.late_ends_line([]) is None


@pytest.mark.filterwarnings("ignore:.*begins? after")
def test_metrics_do_not_count_them(tmp_path):
    """Neither a test nor a validation, nor the counts and objectives computed again."""
    rows = ["a.wav\t1\t4\tDog", "b.wav\t2\t5\tCat", "b.wav\t9.5\t10.5\tDog", "c.wav\t0\t3\tCat"]
    late = ["a.wav\t10\t11\tDog", "c.wav\t7\t8\tCat", "c.wav\t5.0\t9\tDog"]
    durations = {"a": 10.0, "b": 10.0, "c": 5.0}
    plain, more = table_of(tmp_path, *rows), table_of(tmp_path, *rows, *late)
    shape = (3, GRID.n_frames, len(VOCABULARY))
    values = np.random.default_rng(3).random(shape).astype(np.float32)
    scores = Scores(("a", "b", "c"), values, GRID.boundaries_s, VOCABULARY)
    for stage in ("val", "test"):
        here, there = (
            score_desed(scores, events, durations, stage=stage, role="student", n_thresholds=5)
            for events in (plain, more)
        )
        # Errors of times have no value where nothing matches.
        assert here.metrics == pytest.approx(there.metrics, rel=0, abs=0, nan_ok=True)
        assert here.per_class == there.per_class
    counts = [
        count_events(scores, made_up_truth("test", "events", e, durations), 5).values(np.ones(3))
        for e in (plain, more)
    ]
    np.testing.assert_array_equal(counts[0], counts[1])
    maestro = table_of(tmp_path, "r-000000-001000.wav\t1\t4\tcar")
    of_recording = Scores(maestro.clip_ids, values[:1], GRID.boundaries_s, VOCABULARY)
    objectives = [
        MedianFilterObjective(
            TeacherScores(
                "test",
                (scores, of_recording),
                tuple(
                    Truth(TASK.part("test", kind), *rows)
                    for kind, rows in (
                        ("events", (events, durations)),
                        ("segments", (maestro, {"r": 10.0})),
                    )
                ),
            )
        )
        for events in (plain, more)
    ]
    assert objectives[0]([7] * 27) == objectives[1]([7] * 27)


@pytest.mark.filterwarnings("ignore:.*begins? after")
def test_a_summary_leaves_out_what_the_test_left_out(stored):
    def late(rows):
        clip, *_, label = rows[0].split("\t")[:4]
        tail = "\t0.9" if rows[0].count("\t") == 4 else ""
        return [f"{clip}\t10\t11\t{label}{tail}", *rows]

    config, clips, _ = stored(test_tsv=late, real_maestro_val_tsv=late)
    plain, _, _ = stored(test_tsv=lambda rows: rows, real_maestro_val_tsv=lambda rows: rows)
    for name in ("devtest", "maestro_real_dev"):
        found, expected = (read_truth(scored(name), c, clips[name]) for c in (config, plain))
        assert found.events.clip_ids == expected.events.clip_ids
        np.testing.assert_array_equal(found.events.onset_s, expected.events.onset_s)
