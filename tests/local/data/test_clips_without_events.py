"""Clips without any event: left out of training, validation and test unless they are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from desed_task.audio.clip_files import clip_files
from desed_task.dataio.annotations import read_durations, read_strong_table
from desed_task.errors import InputError
from desed_task.evaluation.scores import Scores
from desed_task.labels import FrameGrid
from desed_task.mean_teacher import ROLES
from desed_task.nnet.CRNN import Detection
from desed_task.postprocess import ClassMedianFilter
from local.config import load_config
from local.data.datamodule import SedDataModule
from local.data.loaded_corpus import LoadedCorpus, table_durations
from local.data.summary_lines import left_out_line
from local.data.truth import Truth
from local.scoring import accumulator as scoring
from local.scoring.accumulator import ScoreAccumulator
from local.scoring.own.criteria import is_own
from local.summary.rescoring import count_events, read_truth
from local.task.corpus import Corpus
from tests.local.data.published import TASK, VOCABULARY, scored
from tests.local.scoring.by_stage import score_desed

STRONG = tuple(corpus for corpus in TASK.needed_by("fit") if corpus.is_strong)
TEST = {"stage": "test", "role": "student", "n_thresholds": 50}


# ---- what is read


class Emptied:
    """The small mini corpus with one clip of every strong table emptied, by the overrides."""

    def __init__(self, conf: Path, folder: Path) -> None:
        self.conf, self.overrides = conf, []
        self.clips: dict[str, set[str]] = {}
        for corpus in STRONG:
            table = Path(load_config(conf).detection_task.corpus(corpus.name).table.path)
            head, *rows = table.read_text().splitlines()
            names = list(dict.fromkeys(row.split("\t")[0] for row in rows))
            already = {row.split("\t")[0] for row in rows if row.split("\t")[1] == ""}
            (chosen, *_) = [name for name in names[1:] if name not in already]
            blank = chosen + "\t" * head.count("\t")
            kept = [blank, *(row for row in rows if not row.startswith(f"{chosen}\t")), blank]
            table = folder / f"{corpus.name}.tsv"
            table.write_text("\n".join([head, *kept]) + "\n")
            self.clips[corpus.name] = {name.removesuffix(".wav") for name in {chosen, *already}}
            self.overrides.append(f"{corpus.table_key}={table}")

    def load(self, *kept: str, stage: str = "fit", more: tuple[str, ...] = ()) -> SedDataModule:
        switch = f"data.keep_clips_without_events=[{', '.join(kept)}]"
        data = SedDataModule(load_config(self.conf, [*self.overrides, switch, *more]))
        data.check(stage)
        return data


@pytest.fixture
def emptied(extracted, tmp_path):
    (tmp_path / "tables").mkdir()
    return Emptied(extracted, tmp_path / "tables")


def clips_of(data: SedDataModule, corpus: Corpus) -> dict[str, set[str]]:
    """Clips of a corpus by what is done with them."""
    leaves = [leaf for joined in data._training_sets().values() for leaf in joined.leaves]
    return {
        "trained on": {c for leaf in leaves if leaf.source == corpus.number for c in leaf.clip_ids},
        "validated": rows_of(data.val_dataloader(), corpus.number),
        "tested": rows_of(data.test_dataloader(), corpus.number),
    }


def rows_of(loader, source: int) -> set[str]:
    return {
        clip_id
        for batch in loader
        for clip_id, of in zip(batch.clip_id, batch.source.tolist(), strict=True)
        if of == source
    }


@pytest.mark.parametrize("kept", [(), tuple(corpus.name for corpus in STRONG)])
def test_they_are_used_where_they_are_kept_and_nowhere_else(emptied, kept):
    data = emptied.load(*kept)
    for corpus in STRONG:
        eventless = emptied.clips[corpus.name]
        assert set(data.left_out[corpus.name]) == (set() if kept else eventless)
        used = set().union(*clips_of(data, corpus).values())
        assert (eventless <= used) == bool(kept)
        assert eventless & used == (eventless if kept else set())
    for stage in ("val", "test"):
        listed = {clip for truth in data.truths(stage) for clip in truth.events.clip_ids}
        corpora_of = {"val": ("synth_val",), "test": ("devtest", "maestro_real_dev")}[stage]
        for name in corpora_of:
            assert emptied.clips[name] & listed == (emptied.clips[name] if kept else set())


@pytest.mark.parametrize("corpus", STRONG, ids=lambda corpus: corpus.name)
def test_the_switch_is_one_of_each_corpus(emptied, corpus):
    data = emptied.load(corpus.name)
    for other in STRONG:
        assert bool(data.left_out[other.name]) == (other != corpus)
    assert emptied.clips[corpus.name] <= set(data.loaded[corpus.name].clip_ids)


def test_kept_clips_are_trained_on_as_negatives(emptied):
    part = emptied.load("synth_train")._training_sets()["synthetic training"].leaves[0]
    (eventless,) = emptied.clips["synth_train"]
    row = part.clip_ids.index(eventless)
    assert not part.targets.target(row, 0.0).any()
    assert part[row].known.sum() == 10
    others = [part.targets.target(other, 0.0).any() for other in range(len(part)) if other != row]
    assert all(others)


def test_an_unknown_corpus_is_refused_with_those_that_are_known(extracted):
    with pytest.raises(InputError) as error:
        load_config(extracted, ["data.keep_clips_without_events=[weak_train]"])
    known = ", ".join(corpus.name for corpus in STRONG)
    assert (
        "data.keep_clips_without_events: 'weak_train' is no corpus with events; known: " + known
    ) in str(error.value)


def test_one_line_tells_how_many_of_which_corpora(emptied):
    assert left_out_line(emptied.load().loaded) == (
        "clips without events, left out: 1 of MAESTRO real training (maestro_real_train), 1 of "
        "synthetic training (synth_train), 1 of strong real (strong_train), 1 of synthetic "
        "validation (synth_val), 2 of DESED dev-test (devtest), 1 of MAESTRO real validation "
        "(maestro_real_dev); to use them, add the corpus to data.keep_clips_without_events"
    )
    kept = tuple(corpus.name for corpus in STRONG)
    assert left_out_line(emptied.load(*kept).loaded) is None


def test_neither_their_sound_nor_their_embeddings_are_needed(emptied, extracted, tmp_path):
    config = load_config(extracted)
    folder = tmp_path / "validation_16k"
    folder.mkdir()
    for wav in Path(config.data.test_folder).glob("*.wav"):
        if wav.stem not in emptied.clips["devtest"]:
            (folder / wav.name).symlink_to(wav)
    data = emptied.load(stage="test", more=(f"data.test_folder={folder}",))
    assert data.missing["devtest"] == ()
    truth = data.truths("test")[0]
    durations = read_durations(config.data.test_dur)
    assert truth.left_out_s == pytest.approx(sum(durations[c] for c in emptied.clips["devtest"]))
    # Embeddings that lack them; kept, they must be there.
    reader = data.loaded["devtest"].embeddings
    assert set(reader.clip_ids) > set(data.loaded["devtest"].clip_ids)
    with pytest.warns(UserWarning, match="2 of 6 listed clips are not in"):
        kept = emptied.load("devtest", stage="test", more=(f"data.test_folder={folder}",))
    assert set(kept.missing["devtest"]) == emptied.clips["devtest"]
    assert kept.truths("test")[0].left_out_s == 0


def test_a_table_whose_only_clip_with_events_is_absent(emptied, extracted, tmp_path):
    config = load_config(extracted)
    (eventless,) = emptied.clips["synth_train"]
    (tmp_path / "clips").mkdir()
    wav = Path(config.data.synth_folder) / f"{eventless}.wav"
    (tmp_path / "clips" / wav.name).symlink_to(wav)
    with pytest.raises(InputError, match=r"synth_train\.tsv: none of its 4 clips is in .*clips"):
        emptied.load(more=(f"data.synth_folder={tmp_path / 'clips'}",))


def test_a_clip_whose_only_event_has_no_length_stays(emptied, extracted, tmp_path):
    """Its row names an event; the event is dropped, the clip is a negative example."""
    table = tmp_path / "events.tsv"
    rows = (Path(load_config(extracted).data.synth_tsv)).read_text().splitlines()
    name = rows[1].split("\t")[0]
    others = [row for row in rows[1:] if not row.startswith(f"{name}\t")]
    table.write_text("\n".join([rows[0], f"{name}\t1.0\t1.0\tDog", *others]) + "\n")
    with pytest.warns(UserWarning, match="the event ends where it begins"):
        data = emptied.load(more=(f"data.synth_tsv={table}",))
    assert name.removesuffix(".wav") in data.loaded["synth_train"].clip_ids
    assert data.left_out["synth_train"] == ()


def test_durations_of_clips_left_out_are_the_table_s_and_else_the_file_s(extracted, tmp_path):
    table = tmp_path / "durations.tsv"
    table.write_text("filename\tduration\na.wav\t9.5\nb.wav\t7.0\n")
    config = load_config(extracted, [f"data.test_dur={table}"])
    sf.write(tmp_path / "c.wav", np.zeros(8000), 16000)
    sf.write(tmp_path / "b.wav", np.zeros(7 * 16000), 16000)
    loaded = LoadedCorpus(
        *(config.detection_task.corpus("devtest"), tmp_path, ("a",), {"a": 9.0}),
        left_out=("b", "c", "nowhere"),
        files=clip_files(tmp_path),
    )
    found = table_durations(loaded, config)
    assert found == {"a": 9.5, "b": 7.0, "c": 0.5}
    table_of = read_strong_table_of(tmp_path, "a.wav\t0\t1\tDog\n")
    assert Truth(TASK.part("test", "events"), table_of, found, loaded.left_out).left_out_s == 7.5
    (tmp_path / "c.wav").write_bytes(b"RIFF")
    with pytest.raises(InputError, match=r"c\.wav: is not readable"):
        table_durations(loaded, config)


def read_strong_table_of(folder: Path, rows: str):
    path = folder / "table.tsv"
    path.write_text(f"filename\tonset\toffset\tevent_label\n{rows}")
    return read_strong_table(path, VOCABULARY)


# ---- what is scored


@pytest.fixture(scope="module")
def published(parity, tmp_path_factory):
    """The published scores, and the table in which the rows of some clips are emptied."""
    expected = json.loads(parity("metrics/unlabelled_clips.json").read_text())
    head, *rows = parity("metrics/test_tsv.tsv").read_text().splitlines()
    rows = [row for row in rows if row.split("\t")[0] not in expected["emptied"]]
    table = tmp_path_factory.mktemp("emptied") / "validation.tsv"
    empty = [f"{name}\t\t\t" for name in expected["emptied"]]
    table.write_text("\n".join([head, *empty, *rows]) + "\n")
    stored = np.load(parity("metrics/scores.npz"))
    names = tuple(str(name).removesuffix(".wav") for name in stored["filenames"])
    values = stored["scores"].astype(np.float32).transpose(0, 2, 1)
    config = load_config(Path(__file__).resolve().parents[3] / "confs" / "pretrained.yaml")
    smooth = ClassMedianFilter(config.net.median_filter)
    events = read_strong_table(table, VOCABULARY)
    scores = Scores(names, values, FrameGrid().boundaries_s, VOCABULARY).map(smooth)
    tree = config.dump()
    tree["data"].update(test_tsv=str(table), test_dur=str(parity("metrics/test_dur.tsv")))
    data = type(config.data).model_validate(tree["data"])
    return {
        "config": config.model_copy(update={"data": data}),
        "scores": scores.select(events.clip_ids),
        "events": events,
        "results": expected["results"],
    }


def test_a_test_counts_their_hours(emptied, monkeypatch):
    """The score accumulator asks for the durations of dev-test's, and of no other's."""
    data, asked = emptied.load(stage="test"), []
    score = scoring.event_test_metrics
    monkeypatch.setattr(
        scoring,
        "event_test_metrics",
        lambda *a, **k: asked.append(a[1].left_out_s) or score(*a, **k),
    )
    accumulator, draws = ScoreAccumulator(data.config), torch.Generator().manual_seed(0)
    for batch in data.test_dataloader():
        for role in ROLES:
            strong = torch.rand(batch.target.shape, generator=draws)
            accumulator.add(role, batch, Detection(strong, strong.mean(-1)))
    found = accumulator.test_metrics(data.truths("test"))
    assert len([name for name in found if not is_own(name)]) == 22
    durations = read_durations(data.config.data.test_dur)
    hours = sum(durations[clip_id] for clip_id in emptied.clips["devtest"])
    assert asked == pytest.approx([hours, hours])


def test_published_figures_leave_them_out_and_count_their_hours(published):
    events = published["events"]
    assert len(events.eventless) == 3
    with_events = [c for c in events.clip_ids if c not in events.eventless]
    truth = read_truth(scored("devtest"), published["config"], with_events)
    assert set(truth.left_out) == events.eventless
    assert truth.left_out_s == pytest.approx(sum(truth.durations[c] for c in truth.left_out))
    scores = published["scores"].select(with_events)
    report = score_desed(scores, truth.events, truth.durations, **TEST, left_out=truth.left_out)
    expected = {name: v for name, v in published["results"].items() if "segment" not in name}
    figures = {name: value for name, value in report.metrics.items() if not is_own(name)}
    assert figures == pytest.approx(expected, abs=1e-6)
    assert (report.n_clips, report.unscored_clips) == (len(with_events), 0)
    without_hours = score_desed(scores, truth.events, truth.durations, **TEST)
    psds = "test/student/psds1/psds_eval"
    assert abs(without_hours.metrics[psds] - expected[psds]) > 1e-4
    assert_recounted(scores, truth, report)


def test_kept_clips_are_where_detections_are_false(published):
    """What psds_eval and sed_eval count; those computed from scores never look at them."""
    truth = read_truth(scored("devtest"), published["config"], published["events"].clip_ids)
    assert (truth.left_out, truth.left_out_s) == ((), 0)
    report = score_desed(published["scores"], truth.events, truth.durations, **TEST)
    for name, value in report.metrics.items():
        if is_own(name):
            continue
        expected = published["results"][name]
        if name.endswith("sed_scores_eval"):
            assert value == pytest.approx(expected, abs=1e-6)
        else:
            assert value < expected - 1e-3
    # A run of an older version scored them too, and is counted as it was.
    assert_recounted(published["scores"], truth, report)


def assert_recounted(scores: Scores, truth: Truth, report) -> None:
    recount = count_events(scores, truth, TEST["n_thresholds"])
    assert len(recount.units) == 32
    found = dict(zip(recount.names, recount.values(np.ones(len(recount.units))), strict=True))
    stated = {name.removeprefix("test/student/"): v for name, v in report.metrics.items()}
    assert found == pytest.approx(stated, abs=1e-6)
    # Drawing a clip that was left out changes the hours alone.
    weights = np.ones(len(recount.units))
    weights[-1] = 50
    drawn = dict(zip(recount.names, recount.values(weights), strict=True))
    if truth.left_out:
        same = {n for n in drawn if drawn[n] == pytest.approx(found[n], abs=1e-9, nan_ok=True)}
        changed = drawn.keys() - same
        assert changed == {"psds1/psds_eval", "psds2/psds_eval"}


def test_clips_left_out_may_not_be_scored(published):
    events = published["events"]
    rest = replace(events.select([c for c in events.clip_ids if c not in events.eventless]))
    durations = read_truth(scored("devtest"), published["config"], events.clip_ids).durations
    with pytest.raises(InputError, match=r"3 scored clips .* are not in"):
        score_desed(published["scores"], rest, durations, **TEST)
