"""What a study leaves to be looked at: log lines, best.yaml, a table and plots."""

from __future__ import annotations

import optuna
import pytest
from PIL import Image

from desed_task.errors import InputError
from local.config import load_config
from local.tuning.plots import draw_plots, plot_slices
from local.tuning.report import write_report
from local.tuning.study_log import StudyLog, format_trial, write_config
from local.tuning.training_stage import open_study
from local.tuning.workers.messages import DATA_FACT, TrialOutcome

PLOTS = {f"{name}.{kind}" for name in ("history", "importances", "slices") for kind in ("png", "html")}  # fmt: skip # noqa: E501


@pytest.fixture
def studied(make_plan):
    """A study of six trials: four complete, one pruned, one failed."""
    plan = make_plan(n_trials=6)
    study = open_study(plan)
    for number in range(6):
        drawn = study.start_trial().overrides["opt.lr"]
        study.report(number, 0, 5.0)
        outcome = TrialOutcome("complete", drawn)
        if number > 3:
            outcome = TrialOutcome(
                "pruned" if number == 4 else "failed", reason="tab\there\nand line"
            )
        study.finish(number, outcome)
    return plan, study, StudyLog(plan.log_dir, study, plan.space, plan.config, 3)


def test_a_report_has_table_plots_and_the_best(studied, capsys):
    plan, study, log = studied
    folder = write_report(log)
    assert {path.name for path in folder.iterdir()} == PLOTS | {"plotly.min.js", "trials.tsv"}
    for path in folder.glob("*.png"):
        with Image.open(path) as picture:
            assert picture.width > 300
            assert len(picture.convert("L").getcolors()) > 10
    page = (folder / "slices.html").read_text()
    assert 'src="plotly.min.js"' in page and "opt.lr" in page
    assert "cdn" not in page.lower().replace("cdn.plot.ly/plotly", "x")[:2000]
    rows = [line.split("\t") for line in (folder / "trials.tsv").read_text().splitlines()]
    header = ["trial", "state", "objective", "opt.lr", "net.n_RNN_cell", "seconds", "reason"]
    assert rows[0] == header
    assert [len(row) for row in rows] == [7] * 7
    assert [row[1] for row in rows[1:]] == ["complete"] * 4 + ["pruned", "fail"]
    assert rows[1][2] == f"{study.trials[0].value:.6f}"
    assert rows[5][2] == rows[6][2] == "-"  # 5.0 was a validation, no objective
    assert rows[6][-1] == "tab here and line"
    said = capsys.readouterr().out
    assert "study tuning_train: 1 running" not in said
    assert "study tuning_train: 4 complete, 1 pruned, 1 fail" in said
    assert f"best configuration: {plan.log_dir / 'best.yaml'}" in said
    best = max(study.trials[:4], key=lambda trial: trial.value)
    assert said.index(f"trial {best.number} ") < said.index("best configuration")
    assert load_config(plan.log_dir / "best.yaml").opt.lr == pytest.approx(best.params["opt.lr"])


@pytest.mark.parametrize("data", [["a"] * 4, ["a", "b", "a", "c"], ["a", None, None, "b"]])
def test_trials_on_different_data_are_told_apart(make_plan, capsys, data):
    plan = make_plan(n_trials=4)
    study = open_study(plan)
    for one in data:
        number, _, drawn = study.start_trial()
        facts = {} if one is None else {DATA_FACT: one}  # trials of earlier versions have none
        study.finish(number, TrialOutcome("complete", drawn["opt.lr"], facts=facts))
    write_report(StudyLog(plan.log_dir, study, plan.space, plan.config, 3))
    said = capsys.readouterr().out
    if len(set(data) - {None}) == 1:
        assert "the data changed" not in said
        return
    groups = [[str(n) for n, one in enumerate(data) if one == name] for name in "abc"]
    named = "; ".join(f"trials {', '.join(numbers)}" for numbers in groups if numbers)
    assert f"these groups of trials do not compare: {named}; tune on" in said


def test_a_report_of_nothing_is_a_report(make_plan, capsys):
    plan = make_plan()
    study = open_study(plan)
    folder = write_report(StudyLog(plan.log_dir, study, plan.space, plan.config, 3))
    assert {path.name for path in folder.iterdir()} == {"trials.tsv"}
    assert "no trial yet" in capsys.readouterr().out


def test_one_trial_has_no_importances(make_plan, tmp_path):
    study = open_study(make_plan())
    study.start_trial()
    study.finish(0, TrialOutcome("complete", 0.5))
    assert draw_plots(study.study, tmp_path / "plots") == ["history", "slices"]
    assert {path.stem for path in (tmp_path / "plots").glob("*.png")} == {"history", "slices"}


def test_slices_of_many_values_stand_in_rows():
    drawn = {f"net.median_filter.{i}": optuna.distributions.IntDistribution(1, 9) for i in range(8)}
    drawn["opt.lr"] = optuna.distributions.FloatDistribution(1e-4, 1.0, log=True)
    trials = [
        optuna.create_trial(
            params=dict.fromkeys(list(drawn)[:-1], n + 1) | {"opt.lr": 0.1},
            distributions=drawn,
            value=n,
        )
        for n in range(3)
    ]
    panels = plot_slices(trials).axes
    assert [axes.get_title() for axes in panels[:9]] == sorted(drawn)
    assert len(panels) == 12 and panels[8].get_xscale() == "log"
    assert [axes.axison for axes in panels] == [True] * 9 + [False] * 3
    assert panels[0].collections[0].get_offsets().tolist() == [[1, 0], [2, 1], [3, 2]]


def test_lines_say_what_became_of_a_trial_and_the_best(studied):
    _, study, _ = studied
    trials = study.trials
    line = format_trial(trials[4], trials[0], {"opt.lr": 0.5})
    best = f"best {trials[0].value:.6f} (trial 0)"
    assert line.startswith(f"trial 4  pruned  -  {best}  opt.lr=0.5")
    assert "\n" not in format_trial(trials[5], None, {})
    assert "no best yet" in format_trial(trials[5], None, {})


def test_a_configuration_is_written_with_what_was_changed(make_plan, tmp_path):
    config = make_plan().config
    path = tmp_path / "a" / "best.yaml"
    write_config(path, config, {"net.dropout": 0.4, "net.median_filter.Cat": 11}, "the best")
    assert path.read_text().startswith(
        "# the best\n# net.dropout: 0.4\n# net.median_filter.Cat: 11\npretrained:\n"
    )
    found = load_config(path)
    assert found.net.dropout == 0.4 and found.net.median_filter[2] == 11
    assert found.data == config.data and found.training == config.training
    with pytest.raises(InputError, match=r"best\.yaml cannot be used"):
        write_config(path, config, {"net.dropout": 4}, "the best")
