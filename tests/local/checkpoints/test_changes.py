"""Which changed values a training is resumed with, key by key."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from local.checkpoints.changes import (
    RULES,
    ChangedValues,
    Kind,
    Progress,
    compare,
    depends_on_progress,
    result_keys,
    rule_of,
    same_training,
    task_of_result,
)
from local.checkpoints.tasks.compared import task_values
from local.config import TASK_SECTION, RecipeConfig, check_config, load_config
from local.task.reading import default_description

MINI = Path(__file__).resolve().parents[3] / "confs" / "mini.yaml"
SCHEDULE = ["training.n_epochs=12", "training.epoch_decay=8", "training.n_epochs_warmup=2"]
SCHEDULE += ["training.validation_interval=2", "training.early_stop_patience=4"]


def keys() -> list[str]:
    return [
        f"{section}.{key}"
        for section, field in RecipeConfig.model_fields.items()
        if section != TASK_SECTION
        for key in field.annotation.model_fields
    ]


def task_keys() -> list[str]:
    return [*task_values(load_config(MINI).detection_task)]


def test_every_key_of_the_schema_is_classified_with_a_reason():
    assert len(keys()) > 100 and len(task_keys()) > 100
    assert all(rule_of(key).why for key in (*keys(), *task_keys()))
    with pytest.raises(KeyError, match=r"training\.brand_new: classify it"):
        rule_of("training.brand_new")


def test_every_rule_is_of_a_key():
    used = {id(rule_of(key)) for key in (*keys(), *task_keys())}
    assert [pattern for pattern, rule in RULES.items() if id(rule) not in used] == []


def compared(*overrides: str, progress: Progress | None) -> ChangedValues:
    before, now = load_config(MINI, SCHEDULE), load_config(MINI, [*SCHEDULE, *overrides])
    return compare(before.dump(), now.dump(), progress)


def progress(n_epochs: int, longest_wait: int = 0) -> Progress:
    return Progress(n_epochs, 5 * n_epochs, longest_wait)


FREE = {
    "training.batch_size_val": 3,
    "training.num_workers": 2,
    "training.n_test_thresholds": 7,
    "training.enable_progress_bar": False,
    "scaler.savepath": "elsewhere.ckpt",
    "data.test_tsv": "elsewhere.tsv",
    "data.unlabeled_folder": "moved",
    "data.packed_dir": "elsewhere",
    "data.resident": "disk",
    "pretrained.beats_checkpoint": "elsewhere.pt",
    "predict.hop_s": 1.28,
    "energy.enabled": False,
    "logging.loggers": ["wandb"],
}


@pytest.mark.parametrize("dotted", FREE)
def test_what_computes_nothing_is_accepted_and_named(dotted):
    found = compared(f"{dotted}={FREE[dotted]}", progress=progress(11))
    assert (found.refused, found.of_result) == ((), ())
    named = [line for line in found.accepted if line.startswith(f"{dotted}: ")]
    assert len(named) == (not dotted.startswith("logging")) and len(named) == len(found.accepted)
    assert all(line.endswith(f" -> {FREE[dotted]!r}") for line in named)


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return value + 0.25 if isinstance(value, float) else "another"


@pytest.mark.parametrize("dotted", [key for key in keys() if rule_of(key).kind is Kind.FIXED])
def test_what_computes_the_training_is_refused_at_any_time(dotted):
    before = load_config(MINI, [*SCHEDULE, "net.embedding_size=128"]).dump()
    section, _, key = dotted.partition(".")
    now = {**before, section: {**before[section], key: another(before[section][key])}}
    for done in (0, 3):
        (line,) = compare(before, now, progress(done)).refused
        assert line.startswith(f"{dotted}: {before[section][key]!r} in the checkpoint, ")


def test_another_encoder_is_refused_where_embeddings_are_used():
    for value, key in (("m2d", "model"), ("3", "n_blocks")):
        found = compared(f"pretrained.{key}={value}", progress=progress(1))
        (line,) = found.refused
        assert line.startswith(f"pretrained.{key}: ") and "with that encoder's embeddings" in line
    unused = "net.use_embeddings=false"
    before = load_config(MINI, [*SCHEDULE, unused]).dump()
    now = load_config(MINI, [*SCHEDULE, unused, "pretrained.model=m2d"]).dump()
    assert not compare(before, now, progress(1)).refused


def test_an_open_number_of_features_is_that_of_the_training():
    given = load_config(MINI, [*SCHEDULE, "net.embedding_size=128"]).dump()
    left_open = load_config(MINI, SCHEDULE).dump()
    for before, now in ((given, left_open), (left_open, given)):
        assert compare(before, now, progress(1)) == ((), (), ())


@pytest.mark.parametrize(
    ("overrides", "n_epochs", "accepted"),
    [
        # More and fewer epochs: up to the last one before the rate falls, not below those done.
        (["training.n_epochs=20"], 8, True),
        (["training.n_epochs=20"], 9, False),
        (["training.n_epochs=10"], 8, True),
        (["training.n_epochs=4", "training.epoch_decay=4"], 4, True),
        (["training.n_epochs=4", "training.epoch_decay=4"], 5, False),
        # A later or earlier fall: up to the earlier one.
        (["training.epoch_decay=10"], 8, True),
        (["training.epoch_decay=10"], 9, False),
        (["training.epoch_decay=5"], 5, True),
        (["training.epoch_decay=5"], 6, False),
        # The ramp is another from the first step on.
        (["training.n_epochs_warmup=3"], 1, False),
        (["training.n_epochs_warmup=3"], 0, True),
        # Both at once.
        (["training.n_epochs=20", "training.epoch_decay=18"], 8, True),
        # The same values as an override.
        (["training.n_epochs=12"], 12, True),
    ],
)
def test_schedules_may_change_where_no_step_so_far_would_have_been_another(
    overrides, n_epochs, accepted
):
    found = compared(*overrides, progress=progress(n_epochs))
    assert (not found.refused) == accepted
    assert found.accepted == found.of_result
    if not accepted:
        assert all(f"{one.partition('=')[0]}: " in "\n".join(found.refused) for one in overrides)


@pytest.mark.parametrize(
    ("key", "opt", "accepted"),
    [
        ("n_epochs_warmup=3", "opt.warmup_steps=7", {"linear": True, "exp": False}),
        ("n_epochs_warmup=3", "opt.annealing=half_cosine", {"linear": False, "exp": False}),
    ],
)
def test_what_a_linear_ramp_does_not_read_may_change(key, opt, accepted):
    """The ramp of the consistency weight; rates have their own."""
    for ramp, expected in accepted.items():
        sets = [*SCHEDULE, opt, f"losses.ramp={ramp}"]
        trees = [load_config(MINI, [*sets, *more]).dump() for more in ((), [f"training.{key}"])]
        assert (not compare(*trees, progress(9)).refused) == expected


def test_a_schedule_says_what_is_in_its_way():
    (line,) = compared("training.n_epochs=20", progress=progress(9)).refused
    assert line.endswith("20 here (from epoch 9 of the 9 trained ones on, other rates)")
    lines = compared("training.n_epochs=10", progress=progress(11)).refused
    assert lines[0].endswith("10 here (11 epochs are trained already)")


def test_without_warm_up_the_rate_never_falls_so_more_epochs_are_always_accepted():
    # epoch_decay also ends the ramp of the consistency weight, which there is none of.
    without = ["training.n_epochs=12", "training.epoch_decay=0", "training.n_epochs_warmup=0"]
    before = load_config(MINI, without).dump()
    now = load_config(MINI, [*without, "training.n_epochs=20"]).dump()
    assert not compare(before, now, progress(12)).refused


@pytest.mark.parametrize(
    ("interval", "n_epochs", "accepted"), [(4, 1, True), (4, 2, False), (1, 1, False), (3, 0, True)]
)
def test_validations_may_change_before_the_first_that_differs(interval, n_epochs, accepted):
    found = compared(f"training.validation_interval={interval}", progress=progress(n_epochs))
    assert (not found.refused) == accepted


@pytest.mark.parametrize(
    ("patience", "longest", "accepted"), [(9, 3, True), (3, 2, True), (3, 3, False), (1, 0, True)]
)
def test_less_patience_is_refused_if_training_would_have_ended_before(patience, longest, accepted):
    change = f"training.early_stop_patience={patience}"
    found = compared(change, progress=progress(10, longest))
    assert (not found.refused) == accepted
    if not accepted:
        assert "up to 3 validations in a row were not better" in found.refused[0]


def test_the_progress_of_a_checkpoint():
    state = {"wait_count": 2, "patience": 4}
    stored = {"epoch": 9, "global_step": 50, "callbacks": {"EarlyStopping{...}": state}}
    assert Progress.of(stored) == Progress(10, 50, 3)  # of an earlier version: up to the patience
    state["longest_wait"] = 1
    assert Progress.of(stored) == Progress(10, 50, 1)
    assert Progress.of({}) == Progress(0, 0, 0)


@pytest.mark.parametrize(
    ("before", "now", "accepted"),
    [
        ([], ["devtest", "maestro_real_dev"], True),
        (["synth_train"], ["synth_train", "devtest"], True),
        ([], ["synth_val"], False),
        (["strong_train"], [], False),
    ],
)
def test_clips_without_events_may_change_in_tests_only(before, now, accepted):
    trees = [
        load_config(MINI, [f"data.keep_clips_without_events={value}"]).dump()
        for value in (before, now)
    ]
    assert (not compare(*trees, progress(1)).refused) == accepted


@pytest.mark.parametrize(
    ("before", "now", "accepted"),
    [
        ("null float32", "packed float32", "; sums may differ in their last bits"),
        ("packed float32", "moved float32", ""),
        ("null float16", "null float32", ""),  # not packed
        ("null float32", "packed float16", None),
        ("packed float16", "packed float32", None),
        ("packed float16", "null float16", None),
    ],
)
def test_packing_may_change_if_it_rounds_no_embeddings(before, now, accepted):
    trees = [
        load_config(MINI, [f"data.packed_dir={folder}", f"data.packed_dtype={kind}"]).dump()
        for folder, kind in (pair.split() for pair in (before, now))
    ]
    found = compare(*trees, progress(1))
    assert (not found.refused) == (accepted is not None)
    if accepted:
        assert [line for line in found.accepted if line.endswith(accepted)]
        assert not found.of_result


def test_the_same_training_with_other_settings_of_the_machine():
    one = load_config(MINI, SCHEDULE)
    assert same_training(one, load_config(MINI, [*SCHEDULE, "training.num_workers=3"]))
    for other in ("training.n_epochs=20", "training.early_stop_patience=9", "opt.lr=0.1"):
        assert not same_training(one, load_config(MINI, [*SCHEDULE, other]))
    tree = {**one.dump(), "initial_weights": {"checkpoint": "a.ckpt", "checkpoint_sha256": "ab"}}
    assert not same_training(one, check_config(tree, ""))
    tree["initial_weights"]["checkpoint"] = "moved.ckpt"
    tuned = check_config(tree, "")
    assert same_training(tuned, check_config({**tree, "energy": {"enabled": False}}, ""))


def test_some_differences_are_decided_by_the_progress():
    def later(*overrides: str) -> bool:
        trees = [load_config(MINI, [*SCHEDULE, *more]).dump() for more in ((), overrides)]
        return depends_on_progress(*trees)

    assert later("training.n_epochs=20", "training.num_workers=1")
    assert not later("training.n_epochs=20", "opt.lr=0.1")


def test_results_depend_on_no_path():
    found = set(result_keys())
    assert {"training.seed", "net.dropout", "training.n_epochs", "data.packed_dtype"} <= found
    assert not any(key.endswith(("_folder", "_tsv", "_dir", "savepath")) for key in found)


# ---- tasks


def with_task(**changes: Any) -> dict[str, Any]:
    """The mini configuration with the shipped description inline, of which values are changed."""
    tree = load_config(MINI, SCHEDULE).dump()
    tree["task"] = copy.deepcopy(default_description())
    for path, value in changes.items():
        *above, key = path.split("__")
        branch = tree["task"]
        for name in above:
            branch = branch[name]
        branch[key] = value
    return check_config(tree, "a test").dump()


def test_the_default_task_may_be_described_in_any_way():
    plain = load_config(MINI, SCHEDULE).dump()
    groups = with_task()["task"]["classes"]
    told = with_task(
        # What follows from the rest, or is the default.
        classes=[label for group in groups.values() for label in group],
        corpora__synth_train__known=groups["desed"],
        corpora__synth_val__known=groups["desed"],
        corpora__strong_train__known=groups["desed"],
        corpora__weak_train__known=groups["desed"],
        corpora__unlabeled_train__known=groups["desed"],
        corpora__devtest__known=groups["desed"],
        corpora__maestro_real_train__known=[*groups["maestro"], "Speech", "Dog", "Dishes"],
        corpora__maestro_real_dev__known=[*groups["maestro"], "Speech", "Dog", "Dishes"],
        corpora__synth_train__consistency=True,
        scored__events={"classes": groups["desed"], "validation": "synth_val", "test": "devtest"},
    )
    for before, now in ((plain, told), (told, plain)):
        assert compare(before, now) == ((), (), ())
    assert same_training(check_config(told, ""), load_config(MINI, SCHEDULE))
    assert task_of_result(told) == {} and task_of_result(plain) == {}


FIXED_IN_TASK = {
    "corpora__synth_train__consistency": (False, "task.corpora.synth_train.consistency: True"),
    "corpora__weak_train__split": ({"by": "clip", "train": 0.5}, "task.corpora.weak_train.split:"),
    "corpora__unlabeled_train__known": (["Dog"], "task.corpora.unlabeled_train.known: ['Alarm"),
    "corpora__synth_train__aliases": ({"Dog": "Cat"}, "task.corpora.synth_train.aliases: "),
    "corpora__synth_train__label_map": ({"dog": "Dog"}, "task.corpora.synth_train.label_rules: "),
    "corpora__synth_train__long": ("windows", "task.corpora.synth_train.trains_on_windows: False"),
    "corpora__strong_train__drawn_with": ([], "task.rows: "),
    "mixup_groups": ([["weak_train"]], "task.mixup_groups: "),
    "scored__tags": ({"classes": ["Dog"], "validation": "weak_train"}, "task.scored.validation: "),
    "objective": ({"events": "psds"}, "task.objective: "),
}


@pytest.mark.parametrize("path", FIXED_IN_TASK)
def test_what_of_a_task_computes_the_training_is_refused(path):
    value, line = FIXED_IN_TASK[path]
    found = compare(with_task(), with_task(**{path: value}), progress(1))
    assert [one for one in found.refused if one.startswith(line)], found


FREE_IN_TASK = {
    "name": ("mine", "task.name: 'dcase2024' -> 'mine'"),
    "corpora__weak_train__title": ("x", "task.corpora.weak_train.title: 'weak' -> 'x'"),
    "corpora__weak_train__audio": ("moved", "task.corpora.weak_train.folder: "),
    "corpora__devtest__clips_without_events": ("keep", "task.others.devtest.keeps_clips_with"),
    "corpora__weak_train__licence": ("x", "task.corpora.weak_train.licence: '' -> 'x'"),
}


@pytest.mark.parametrize("path", FREE_IN_TASK)
def test_what_of_a_task_computes_nothing_is_accepted_and_named(path):
    value, line = FREE_IN_TASK[path]
    found = compare(with_task(), with_task(**{path: value}), progress(11))
    assert (found.refused, found.of_result) == ((), ())
    assert len(found.accepted) == 1 and found.accepted[0].startswith(line)


def test_another_task_is_another_study_and_training():
    other = with_task(corpora__synth_train__consistency=False)
    assert task_of_result(other)["task.corpora.synth_train.consistency"] is False
    assert not same_training(check_config(other, ""), load_config(MINI, SCHEDULE))


def test_the_hop_of_windows_matters_where_training_takes_windows():
    before = with_task(corpora__synth_train__long="windows")
    now = {**before, "predict": {**before["predict"], "hop_s": 1.28}}
    (line,) = compare(before, now, progress(3)).refused
    assert line.startswith("predict.hop_s: ") and "long clips of synth_train" in line
    given = with_task(corpora__synth_train__long="windows", corpora__synth_train__hop_s=2.56)
    now = {**given, "predict": {**given["predict"], "hop_s": 1.28}}
    assert not compare(given, now, progress(3)).refused
