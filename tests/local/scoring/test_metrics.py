"""The named metrics equal the published ones; classes without events are reported."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from desed_task.dataio.annotations import EventTable, read_durations, read_strong_table
from desed_task.errors import InputError
from desed_task.evaluation.scores import Scores, as_detections
from desed_task.evaluation.segments import clip_segments, on_recordings, segment_scores
from desed_task.labels import FrameGrid
from desed_task.postprocess import ClassMedianFilter
from local.classes_dict import DESED_CLASSES, MAESTRO_SCORED_CLASSES, VOCABULARY
from local.config import load_config
from local.data.truth import scored_classes
from local.scoring.metrics import HIT_ONLY
from local.scoring.objective import obj_metric
from local.scoring.own.criteria import is_own
from local.scoring.verification import event_package_metrics, figures, segment_package_metrics
from local.task.task import ObjectivePart
from tests.local.scoring.by_stage import score_desed, score_maestro
from tests.published_task import TASK, made_up_truth

CONF = Path(__file__).resolve().parents[3] / "confs" / "pretrained.yaml"
TEST = {"stage": "test", "role": "student", "n_thresholds": 50}
VALIDATION = {**TEST, "stage": "val"}


@pytest.fixture(scope="module")
def published(parity):
    stored = np.load(parity("metrics/scores.npz"))
    names = tuple(str(name).removesuffix(".wav") for name in stored["filenames"])
    values = stored["scores"].astype(np.float32).transpose(0, 2, 1)
    smooth = ClassMedianFilter(load_config(CONF).net.median_filter)
    scores = Scores(names, values, FrameGrid().boundaries_s, VOCABULARY).map(smooth)
    desed = read_strong_table(parity("metrics/test_tsv.tsv"), VOCABULARY)
    maestro = read_strong_table(parity("metrics/real_maestro_val_tsv.tsv"), VOCABULARY)
    return {
        "desed_scores": scores.select(desed.clip_ids),
        "maestro_scores": scores.select(maestro.clip_ids),
        "expected": json.loads(parity("metrics/results.json").read_text()),
        "validation": json.loads(parity("metrics/validation.json").read_text()),
        "desed": desed,
        "desed_s": read_durations(parity("metrics/test_dur.tsv")),
        "maestro": maestro,
        "maestro_s": read_durations(parity("metrics/real_maestro_val_dur.tsv")),
    }


def published_of(metrics):
    return {name: value for name, value in metrics.items() if not is_own(name)}


def test_every_published_metric(published):
    desed = score_desed(published["desed_scores"], published["desed"], published["desed_s"], **TEST)
    maestro = score_maestro(
        published["maestro_scores"], published["maestro"], published["maestro_s"], **TEST
    )
    found = published_of({**desed.metrics, **maestro.metrics})
    assert found == pytest.approx(published["expected"], abs=1e-6)
    assert len(found) == 11
    assert set(desed.per_class["test/student/psds1/psds_eval"]) == set(DESED_CLASSES)
    assert desed.texts["event_f1.txt"].startswith("Event-based F1")
    assert set(desed.curves) == {"psds1", "psds2"}


def test_student_and_teacher_go_through_the_same_code(published):
    arguments = published["desed_scores"], published["desed"], published["desed_s"]
    student = score_desed(*arguments, **TEST)
    teacher = score_desed(*arguments, **{**TEST, "role": "teacher"})
    renamed = {name.replace("student", "teacher"): v for name, v in student.metrics.items()}
    assert teacher.metrics == renamed


def test_a_class_without_events_is_reported_and_left_out(published):
    events = published["desed"]
    dog = VOCABULARY.index("Dog")
    assert (events.label_index == dog).any()
    report = score_desed(
        published["desed_scores"],
        events.rows(events.label_index != dog),
        published["desed_s"],
        **TEST,
    )
    assert report.not_scored == ("Dog",)
    for per_class in report.per_class.values():
        assert per_class["Dog"] is None
        assert sum(value is None for value in per_class.values()) == 1
    assert all(np.isfinite(value) for value in report.metrics.values())
    events = published["maestro"]
    car = VOCABULARY.index("car")
    report = score_maestro(
        published["maestro_scores"],
        events.rows(events.label_index != car),
        published["maestro_s"],
        **TEST,
    )
    assert report.not_scored == ("car",)
    full = report.per_class["test/student/segment_mauc/sed_scores_eval"]
    values = [value for value in full.values() if value is not None]
    assert len(values) == len(MAESTRO_SCORED_CLASSES) - 1
    assert report.metrics["test/student/segment_mauc/sed_scores_eval"] == pytest.approx(
        np.mean(values)
    )


def test_overlapping_events_are_merged_with_one_warning(published):
    events = published["desed"]
    twice = np.arange(len(events))[[0, *range(len(events))]]
    doubled = events.rows(twice)
    arguments = published["desed_scores"], published["desed_s"]
    with pytest.warns(UserWarning, match="1 event overlaps") as caught:
        report = score_desed(arguments[0], doubled, arguments[1], **TEST)
    assert len([w for w in caught if "overlap" in str(w.message)]) == 1
    assert report.metrics == score_desed(arguments[0], events, arguments[1], **TEST).metrics


PACKAGE = "sed_scores_eval"
FROM_SCORES = ("psds1", "intersection_f1_macro_thres05", "collar_f1_macro_thres05")


def sparse(scores, events, durations):
    """One class is never found, one does not occur, every fifth clip has no event, lengths vary."""
    silent, absent = (VOCABULARY.index(label) for label in ("Dog", "Cat"))
    values = scores.values.copy()
    values[..., silent] = 0.0
    kept = (events.label_index != absent) & (events.clip_index % 5 > 0)
    lengths = {clip_id: 10.0 - number % 4 for number, clip_id in enumerate(events.clip_ids)}
    return scores.map(lambda _: values), events.rows(kept), lengths


def assert_as_package(report, theirs):
    """Each figure under the package's name is the package's own, per class as well."""
    pairs = list(figures(report, theirs))
    assert {name for name, *_ in pairs} >= {n for n in report.metrics if n.endswith(PACKAGE)}
    for name, ours, value in pairs:
        assert ours == pytest.approx(value, abs=1e-9), name


def of_package(kind, scores, events, durations):
    score = event_package_metrics if kind == "events" else segment_package_metrics
    return score(scores, made_up_truth("test", kind, events, durations), role="student")


@pytest.mark.parametrize("kind", ["as it is", "tied", "sparse", "float64", "one class"])
def test_a_test_and_a_validation_have_the_figures_of_sed_scores_eval(published, kind):
    scores, events, durations = (published[f"desed{part}"] for part in ("_scores", "", "_s"))
    if kind == "tied":  # many scores are just the threshold
        scores = scores.map(lambda values: (values * 10).round() / 10)
    elif kind == "sparse":
        scores, events, durations = sparse(scores, events, durations)
    elif kind == "float64":
        scores = scores.map(lambda values: values.astype(np.float64) ** 0.5)
    elif kind == "one class":
        events = events.rows(events.label_index == VOCABULARY.index("Speech"))
    test, val = (
        score_desed(scores, events, durations, stage=stage, role="student", n_thresholds=50)
        for stage in ("test", "val")
    )
    assert_as_package(test, of_package("events", scores, events, durations))
    assert len(val.metrics) == len(FROM_SCORES)
    for part in ("metrics", "per_class"):
        for name in FROM_SCORES:
            of_val = getattr(val, part)[f"val/student/{name}/{PACKAGE}"]
            assert of_val == pytest.approx(getattr(test, part)[f"test/student/{name}/{PACKAGE}"])
    assert (set(val.curves), set(test.curves)) == ({"psds1"}, {"psds1", "psds2"})


@pytest.mark.parametrize("kind", ["as it is", "tied", "everywhere"])
def test_segments_of_a_test_have_the_figures_of_sed_scores_eval(published, kind):
    scores, events, durations = (published[f"maestro{part}"] for part in ("_scores", "", "_s"))
    if kind == "tied":
        scores = scores.map(lambda values: values.round(1))
    elif kind == "everywhere":  # nothing but car: no segment without it, so it has no area
        n_clips = len(events.clip_ids)
        events = EventTable(
            events.clip_ids,
            np.arange(n_clips),
            np.zeros(n_clips),
            np.array(list(clip_lengths(events.clip_ids).values())),
            np.full(n_clips, VOCABULARY.index("car")),
            np.ones(n_clips, dtype=np.float32),
            VOCABULARY,
        )
        moved = on_recordings(events)
        ends_s = [moved.offset_s[moved.clip_index == k].max() for k in range(len(moved.clip_ids))]
        durations = dict(zip(moved.clip_ids, ends_s, strict=True))
    report = score_maestro(scores, events, durations, **TEST)
    theirs = of_package("segments", scores, events, durations)
    assert_as_package(report, theirs)
    auc = report.per_class["test/student/segment_mauc/sed_scores_eval"]["car"]
    assert (auc is None) == (kind == "everywhere")


def test_events_at_the_collar_count_as_in_sed_scores_eval():
    """Detections end on frames, so that truth 0.2 s away from one may round to either side."""
    boundaries_s = FrameGrid().boundaries_s
    names = tuple(f"Y{number}_0.000_10.000" for number in range(60))
    values = np.zeros((60, 156, 27), dtype=np.float32)
    onset_s, offset_s = [], []
    for clip in range(60):
        first, last = clip + 5, clip + 40
        values[clip, first:last, 0] = 0.9
        onset_s.append(round(boundaries_s[first] + 0.2, 3))
        offset_s.append(round(boundaries_s[last] - 0.2, 3))
    events = EventTable(
        names,
        np.arange(60),
        np.array(onset_s),
        np.array(offset_s),
        np.zeros(60, dtype=int),
        np.ones(60, dtype=np.float32),
        VOCABULARY,
    )
    scores = Scores(names, values, boundaries_s, VOCABULARY)
    test, val = (
        score_desed(
            *(scores, events, dict.fromkeys(names, 10.0)),
            stage=stage,
            role="student",
            n_thresholds=50,
        )
        for stage in ("test", "val")
    )
    name = "student/collar_f1_macro_thres05"
    package = of_package("events", scores, events, dict.fromkeys(names, 10.0))
    assert package.metrics[f"test/{name}/sed_scores_eval"] == 1.0
    assert val.metrics[f"val/{name}/sed_scores_eval"] == 1.0
    assert test.metrics[f"test/{name}/sed_scores_eval"] == 1.0
    assert test.metrics[f"test/{name}/sed_eval"] < 1.0


def on_the_grid(n_clips, seed):
    """Detections and truth that begin and end on frames: shares are often just 0.5 or 0.7."""
    rng = np.random.default_rng(seed)
    boundaries_s = FrameGrid().boundaries_s
    names = tuple(f"Y{number}_0.000_10.000" for number in range(n_clips))
    values = np.zeros((n_clips, 156, 27), dtype=np.float32)
    rows = []
    for clip in range(n_clips):
        for label in range(3):
            length = 10 * rng.integers(1, 5)
            first = rng.integers(0, 150 - 2 * length)
            moved = first + rng.integers(-1, 2) * length * rng.choice([3, 5]) // 10
            values[clip, max(moved, 0) : moved + length, label] = rng.choice([0.6, 0.9])
            ends = boundaries_s[[first, first + length]].round(3)
            rows.append((clip, *ends, label))
    clip, onset_s, offset_s, label = (np.array(column) for column in zip(*rows, strict=True))
    confidence = np.ones(len(rows), dtype=np.float32)
    events = EventTable(names, clip, onset_s, offset_s, label, confidence, VOCABULARY)
    return Scores(names, values, boundaries_s, VOCABULARY), events, dict.fromkeys(names, 10.0)


@pytest.mark.parametrize("seed", range(3))
def test_shares_that_just_meet_their_criterion_count_as_in_sed_scores_eval(seed):
    arguments = on_the_grid(40, seed)
    test = score_desed(*arguments, **TEST)
    assert_as_package(test, of_package("events", *arguments))
    # psds_eval does not round, so that the example tells the two rules apart.
    by_intersection = "test/student/intersection_f1_macro_thres05"
    exact = test.metrics[f"{by_intersection}/sed_scores_eval"]
    assert 0 < test.metrics[f"{by_intersection}/psds_eval"] < exact - 0.02


def clip_lengths(clip_ids):
    """Clip -> seconds, from the names of MAESTRO's clips."""
    return {name: (int(name[-6:]) - int(name[-13:-7])) / 100 for name in clip_ids}


def maestro_part(published, clip_ids, durations, **changes):
    """Segment metrics of a validation of some clips, by their short names."""
    arguments = {**VALIDATION, **changes}
    report = score_maestro(
        published["maestro_scores"].select(clip_ids),
        published["maestro"].select(clip_ids),
        durations,
        **arguments,
    )
    return {name.split("/")[2]: value for name, value in report.metrics.items()}, report


def test_every_published_metric_of_a_validation(published):
    expected = published["validation"]["published"]
    arguments = published["desed_scores"], published["desed"], published["desed_s"]
    desed = score_desed(*arguments, **VALIDATION)
    assert set(desed.metrics) < set(expected)
    for name, value in desed.metrics.items():
        assert value == pytest.approx(expected[name], abs=1e-9), name
    # The published code knew each clip up to its last scored event only, a fault; given these
    # lengths its very figures come out.
    clips = published["validation"]["maestro_clips_with_events"]
    with warnings.catch_warnings():
        # Events of classes that are not scored begin after it.
        warnings.filterwarnings("ignore", ".*events? begins? after (its|their) clip's end.*")
        maestro = maestro_part(published, clips, published["validation"]["maestro_last_offset"])[1]
    assert set(maestro.metrics) == set(expected) - set(desed.metrics)
    for name, value in maestro.metrics.items():
        assert value == pytest.approx(expected[name], abs=1e-9), name


def test_a_validation_takes_clips_with_scored_events_at_their_own_lengths(published):
    clips = published["maestro"].clip_ids
    counted = published["validation"]["maestro_clips_with_events"]
    lengths = clip_lengths(clips)
    assert min(lengths.values()) < 10 and 0 < len(counted) < len(clips)
    metrics, report = maestro_part(published, clips, lengths)
    own = published["validation"]["maestro_own_lengths_clips_with_events"]
    assert metrics == pytest.approx(own, abs=1e-6)
    assert (report.n_clips, report.unscored_clips) == (len(counted), 0)
    assert metrics == maestro_part(published, counted, lengths)[0]
    # The fixture tells clips that count from those that do not, and maxima from means.
    assert own != pytest.approx(published["validation"]["maestro_own_lengths_all_clips"], abs=1e-3)


def test_of_all_clips_the_mechanism_gives_the_third_figures(published):
    """Clips without scored events do not count; what they would change is known."""
    table = published["maestro"]
    certain = table.rows(table.confidence > 0.5).merged()
    labels, _ = scored_classes(certain, MAESTRO_SCORED_CLASSES)
    scores = published["maestro_scores"].select(table.clip_ids, labels)
    duration_s = np.array(list(clip_lengths(table.clip_ids).values()))
    pieces = clip_segments(scores, as_detections(certain, scores.vocabulary), duration_s)
    found = segment_scores(pieces, labels, max_fpr=0.1)
    expected = published["validation"]["maestro_own_lengths_all_clips"]
    ours = dict(zip(expected, (found.f1, found.auc, found.partial_auc), strict=True))
    assert ours == pytest.approx(expected, abs=1e-6)


def test_clips_without_duration_or_truth_are_named(published):
    scores, events, lengths = published["desed_scores"], published["desed"], published["desed_s"]
    first = events.clip_ids[0]
    few = {name: value for name, value in lengths.items() if name != first}
    with pytest.raises(InputError, match=rf"no duration for 1 clip .*{first}"):
        score_desed(scores, events, few, **TEST)
    rest = events.select(events.clip_ids[1:])
    with pytest.raises(InputError, match=rf"1 scored clip .*{first}.* not in .*test_tsv.tsv"):
        score_desed(scores, rest, lengths, **TEST)
    with pytest.raises(InputError, match=r"no scores for any of the \d+ clips"):
        score_desed(scores.select([]), events, lengths, **TEST)


def test_clips_without_scores_are_left_out_and_counted(published):
    for corpus, score in (("desed", score_desed), ("maestro", score_maestro)):
        scores, events = published[f"{corpus}_scores"], published[corpus]
        kept = events.clip_ids[2:]
        part = score(scores.select(kept), events, published[f"{corpus}_s"], **TEST)
        same = score(scores.select(kept), events.select(kept), published[f"{corpus}_s"], **TEST)
        assert (part.unscored_clips, same.unscored_clips) == (2, 0)
        assert part.n_clips == same.n_clips == len(kept)
        assert part.metrics == same.metrics


def test_scores_that_are_not_finite_are_named(published):
    broken = published["desed_scores"].values.copy()
    broken[3, 7, 5] = np.nan
    scores = published["desed_scores"].map(lambda _: broken)
    with pytest.raises(InputError, match=rf"1 clip .*{scores.clip_ids[3]}.* not finite"):
        score_desed(scores, published["desed"], published["desed_s"], **TEST)


@pytest.mark.parametrize("constant", [0.0, 0.5, 1.0])
def test_constant_scores_tell_nothing(published, constant):
    scores = published["desed_scores"].map(lambda values: np.full_like(values, constant))
    report = score_desed(scores, published["desed"], published["desed_s"], **TEST)
    for name, value in published_of(report.metrics).items():
        # A detection over the whole clip does find the events that last as long.
        assert value == 0 or (constant == 1 and "intersection" in name and value < 0.1)


def test_a_class_that_is_never_found_has_no_psds_eval_f1(published):
    silent = published["desed_scores"].values.copy()
    silent[..., VOCABULARY.index("Dog")] = 0.0
    scores = published["desed_scores"].map(lambda _: silent)
    truth = published["desed"], published["desed_s"]
    before = score_desed(published["desed_scores"], *truth, **TEST)
    report = score_desed(scores, *truth, **TEST)
    name = f"test/student/{HIT_ONLY}"
    assert before.per_class[name]["Dog"] > 0
    values = {**before.per_class[name], "Dog": None}
    assert report.per_class[name] == values and report.not_scored == ()
    kept = [value for value in values.values() if value is not None]
    assert len(kept) < len(DESED_CLASSES)
    assert report.metrics[name] == pytest.approx(np.mean(kept))
    (row,) = [r for r in report.texts["intersection_f1.txt"].splitlines() if r.startswith("Dog")]
    assert row.split()[1:4] == ["-", "0", "0"]
    for other, per_class in report.per_class.items():
        if other != name:
            # Nothing is matched whose borders could be off.
            assert per_class["Dog"] == (None if "error_s" in other else 0.0), other


def test_a_truth_without_scored_events_is_refused(published):
    nothing = replace(published["desed"]).rows(np.zeros(len(published["desed"]), dtype=bool))
    with pytest.raises(InputError, match="none of the scored classes"):
        score_desed(published["desed_scores"], nothing, published["desed_s"], **TEST)


def test_a_single_class_triggers_no_other(published):
    events = published["desed"]
    only = events.rows(events.label_index == VOCABULARY.index("Dog"))
    report = score_desed(published["desed_scores"], only, published["desed_s"], **TEST)
    assert set(DESED_CLASSES) - set(report.not_scored) == {"Dog"}
    for package in ("sed_scores_eval", "psds_eval"):
        name = f"test/student/psds2/{package}"
        assert 0 < report.metrics[name] == report.per_class[name]["Dog"]


def moments(*rows):
    """A truth of (clip, onset_s, offset_s, label), with random scores and ten-second clips."""
    clips, onset_s, offset_s, labels = zip(*rows, strict=True)
    names = tuple("abcd")
    values = np.random.default_rng(0).random((len(names), 156, len(VOCABULARY)))
    table = EventTable(
        names,
        np.array([names.index(clip) for clip in clips]),
        np.array(onset_s, dtype=float),
        np.array(offset_s, dtype=float),
        np.array([VOCABULARY.index(label) for label in labels]),
        np.ones(len(rows), dtype=np.float32),
        VOCABULARY,
        Path("truth.tsv"),
    )
    scores = Scores(names, values, FrameGrid().boundaries_s, VOCABULARY)
    return scores, table, dict.fromkeys(names, 10.0)


def test_a_class_that_never_pauses_has_no_area_and_leaves_the_mean_alone():
    # People talk in every clip, so that all of them count with and without cars.
    steps = ("b", 2, 5, "footsteps"), *((clip, 1, 4, "people talking") for clip in "abcd")
    everywhere = [(clip, 0, 10, "car") for clip in "abcd"]
    alone = score_maestro(*moments(*steps), **VALIDATION)
    both = score_maestro(*moments(*everywhere, *steps), **VALIDATION)
    for area in ("segment_mauc", "segment_mpauc"):
        name = f"val/student/{area}/sed_scores_eval"
        assert both.metrics[name] == alone.metrics[name]
        assert both.per_class[name]["car"] is None
    f1 = "val/student/segment_f1_macro_thresopt/sed_scores_eval"
    assert both.per_class[f1]["car"] == 1.0
    assert both.texts["maestro_segment_f1.txt"].split()[7:11] == ["car", "1.0000", "-", "-"]
    assert set(alone.not_scored) - set(both.not_scored) == {"car"}


def test_clips_without_a_scored_event_change_nothing_in_a_validation():
    """Clip c has an event of a class that is not scored, d an uncertain one, both are loud."""
    rows = ("a", 1, 3, "car"), ("b", 2, 5, "footsteps"), ("c", 0, 9, "coffee machine")
    scores, table, lengths = moments(*rows, ("d", 0, 5, "car"))
    table = replace(table, confidence=np.array([0.9, 0.6, 1.0, 0.5], dtype=np.float32))
    report = score_maestro(scores, table, lengths, **VALIDATION)
    loud = scores.values.copy()
    loud[2:] = 1.0
    changed = score_maestro(scores.map(lambda _: loud), table, lengths, **VALIDATION)
    only = score_maestro(scores.select("ab"), table.select("ab"), lengths, **VALIDATION)
    assert report.metrics == changed.metrics == only.metrics
    assert report.n_clips == 2
    # A test of recordings hears what is found where nothing happens.
    names = {name: f"{name}-000000-001000" for name in "abcd"}
    tested = [
        score_maestro(
            replace(one, clip_ids=tuple(names.values())),
            replace(table, clip_ids=tuple(names.values())),
            lengths,
            **TEST,
        )
        for one in (scores, scores.map(lambda _: loud))
    ]
    auc = "test/student/segment_mauc/sed_scores_eval"
    assert tested[1].metrics[auc] < tested[0].metrics[auc] - 0.05


def test_a_test_averages_frames_and_a_validation_takes_the_highest():
    """A single frame that scores: all of its segment in a validation, little of it in a test."""
    scores, table, lengths = moments(("a", 1, 2, "car"), ("b", 1, 2, "car"))
    values = np.zeros_like(scores.values)
    values[:2, :, VOCABULARY.index("car")] = 0.3
    values[:2, 20, VOCABULARY.index("car")] = 0.9  # in the second that is annotated
    values[:2, 80:95, VOCABULARY.index("car")] = 0.5  # nearly a second that is not
    scores = scores.map(lambda _: values)
    assert (
        score_maestro(scores, table, lengths, **VALIDATION).metrics[
            "val/student/segment_f1_macro_thresopt/sed_scores_eval"
        ]
        == 1.0
    )
    names = tuple(f"{name}-000000-001000" for name in "abcd")
    scores, table = replace(scores, clip_ids=names), replace(table, clip_ids=names)
    assert (
        score_maestro(scores, table, lengths, **TEST).metrics[
            "test/student/segment_f1_macro_thresopt/sed_scores_eval"
        ]
        < 1.0
    )


def test_a_clip_longer_than_what_was_read_is_scored_that_far():
    rows = ("a", 1, 3, "car"), ("b", 2, 5, "footsteps"), ("b", 11, 12, "people talking")
    scores, table, lengths = moments(*rows)
    long = score_maestro(scores, table, {**lengths, "b": 12.4}, **VALIDATION)
    short = score_maestro(scores, table.rows(np.array([True, True, False])), lengths, **VALIDATION)
    assert long.metrics == short.metrics and "people talking" in long.not_scored


def test_a_validation_without_a_scored_event_says_what_to_do():
    scores, table, lengths = moments(("a", 1, 3, "coffee machine"), ("b", 1, 3, "Speech"))
    with pytest.raises(InputError) as caught:
        score_maestro(scores, table, lengths, **VALIDATION)
    told = str(caught.value)
    assert "truth.tsv: none of the scored classes (birds_singing, car, " in told
    assert "has an event above 0.5 in its 4 clips; check the table, or hold out other" in told
    assert "the split of the corpus" in told


def with_objective(**figures):
    """The published task with other figures; tags come first, whatever the order."""
    named = {"tags": "f1", **figures}
    return replace(TASK, objective=tuple(ObjectivePart(*one) for one in named.items()))


def test_the_objective_says_when_it_does_not_exist():
    report = score_maestro(*moments(*[(clip, 0, 10, "car") for clip in "abcd"]), **VALIDATION)
    metrics = {
        "val/student/weak_f1_macro_thres05/torchmetrics": 0.5,
        "val/student/psds1/sed_scores_eval": 0.5,
        **report.metrics,
    }
    told = (
        r"val/student/segment_mpauc.* cannot be computed.*set task.objective.segments to fmo, or "
        "correct data.real_maestro_train_tsv"
    )
    with pytest.raises(InputError, match=told):
        obj_metric(metrics, with_objective(events="psds", segments="mpauc"))
    assert obj_metric(metrics, with_objective(events="psds", segments="fmo")) == 2.0


def test_events_after_the_end_of_a_clip_are_left_out_with_one_warning():
    scores, table, lengths = moments(("a", 1, 3, "car"), ("b", 10.5, 11, "footsteps"))
    with pytest.warns(UserWarning, match="truth.tsv: 1 event begins after .*'footsteps' at 10.5 s"):
        report = score_maestro(scores, table, lengths, **VALIDATION)
    assert "footsteps" in report.not_scored and "car" not in report.not_scored


def test_the_objective_takes_what_its_name_says():
    metrics = {
        "val/student/weak_f1_macro_thres05/torchmetrics": 1.0,
        "val/student/intersection_f1_macro_thres05/sed_scores_eval": 10.0,
        "val/student/collar_f1_macro_thres05/sed_scores_eval": 20.0,
        "val/student/psds1/sed_scores_eval": 30.0,
        "val/student/segment_f1_macro_thresopt/sed_scores_eval": 100.0,
        "val/student/segment_mauc/sed_scores_eval": 200.0,
        "val/student/segment_mpauc/sed_scores_eval": 300.0,
    }
    for synth, first in (("intersection", 10), ("collar", 20), ("psds", 30)):
        for maestro, second in (("fmo", 100), ("mauc", 200), ("mpauc", 300)):
            value = obj_metric(metrics, with_objective(events=synth, segments=maestro))
            assert value == 1 + first + second
