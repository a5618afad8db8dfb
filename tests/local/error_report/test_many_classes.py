"""Reports of tasks with hundreds of classes stay of a size that can be looked at."""

from __future__ import annotations

import pytest

from local.error_report import pictures
from local.scoring.results import format_results
from tests.local.error_report.small_sets import errors_of

CLIPS = ("a", "b")
# Speech is wrong three times, Dog twice, Cat once, Blender is right, the other classes are absent.
TRUTH = [
    *(("a", "Speech", 1.0, 2.0), ("a", "Speech", 5.0, 6.0), ("b", "Speech", 3.0, 4.0)),
    *(("a", "Dog", 1.0, 2.0), ("b", "Dog", 7.0, 8.0), ("b", "Cat", 2.0, 3.0)),
    ("b", "Blender", 0.0, 5.0),
]
FOUND = [("b", "Blender", 0.0, 5.0)]


@pytest.fixture
def errors():
    return errors_of(CLIPS, TRUTH, FOUND)


def names(axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_of_few_classes_all_are_drawn(errors):
    assert pictures.drawn_classes(errors) == list(range(10))
    figure = pictures.plot_classes(errors)
    assert len(names(figure.axes[0])) == 11
    assert "of 10 classes" not in figure.axes[0].get_title()


def test_of_many_classes_those_with_the_most_errors_are_drawn(errors, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_DRAWN", 2)
    wanted = ["Dog", "Speech"]
    classes = pictures.plot_classes(errors)
    assert names(classes.axes[0]) == [*wanted, "all classes"]
    assert classes.axes[0].get_title().endswith("(2 of 10 classes)")
    confusions = pictures.plot_confusions(errors)
    assert names(confusions.axes[0]) == wanted
    assert confusions.axes[0].images[0].get_array().shape == (2, 3)
    texts = {text.get_text() for text in confusions.axes[0].texts}
    assert texts == {"2", "3"}  # missed with nothing there
    assert names(pictures.plot_boundaries(errors).axes[0]) == ["all classes", *wanted[::-1]]


def test_classes_without_events_and_errors_are_not_drawn_instead(errors, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_DRAWN", 9)
    assert names(pictures.plot_classes(errors).axes[0]) == [
        *("Blender", "Cat", "Dog", "Speech", "all classes")
    ]


@pytest.mark.parametrize(("n_labels", "told"), [(40, "c38, c39"), (41, "c9 and 31 more, see res")])
def test_of_many_classes_that_are_not_scored_a_few_are_listed(n_labels, told):
    labels = [f"c{number}" for number in range(n_labels)]
    content = {
        "metrics": {"test/student/x/desed_task": 0.5, "test/teacher/x/desed_task": 0.5},
        "clips": {"one": 3},
        "not_scored": labels,
        "unscored_clips": {},
        "missing": {},
        "versions": {"sed_scores_eval": "0"},
    }
    (line,) = (one for one in format_results(content).splitlines() if "not scored" in one)
    assert line.startswith("not scored, no event in the truth: c0, c1, ")
    assert f"{told}" in line
