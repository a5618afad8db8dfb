"""docs/method.md: the table of classes is that of the code, and papers are given with links."""

import re

from desed_task.checkpoints.published import PUBLISHED_SPEC
from desed_task.labels import CLASSES, DESED_CLASSES, MAESTRO_REAL_CLASSES, FrameGrid
from desed_task.postprocess import class_thresholds
from local.classes_dict import MAESTRO_ALIASES, MAESTRO_SCORED_CLASSES
from tests.markdown_pages import DOCS, SPAN

PAGE = DOCS["method"]


def section(title):
    (table,) = (table for table in PAGE.tables() if table.section == title)
    return table


def test_the_table_of_classes_is_that_of_the_code():
    corpora = {**dict.fromkeys(DESED_CLASSES, "DESED")}
    corpora |= dict.fromkeys(MAESTRO_REAL_CLASSES, "MAESTRO real")
    scored = {*DESED_CLASSES, *MAESTRO_SCORED_CLASSES}
    frame_s = FrameGrid().frame_s
    rows = []
    for output, (label, frames) in enumerate(
        zip(CLASSES, PUBLISHED_SPEC["median_filter"], strict=True)
    ):
        alias = f"`{MAESTRO_ALIASES[label]}`" if label in MAESTRO_ALIASES else ""
        told = "yes" if label in scored else "no"
        filtered = (str(frames), f"{frames * frame_s:.3f}")
        rows.append((str(output), f"`{label}`", corpora[label], told, alias, *filtered))
    table = section("The 27 classes")
    assert table.head[:3] == ("output", "class", "corpus")
    assert table.rows == tuple(rows)
    assert len(rows) == 27


def test_predict_and_method_lead_to_the_table():
    assert "method.md#the-27-classes" in DOCS["predict"].links()
    assert "#the-27-classes" in PAGE.links()


def test_every_paper_has_its_link_and_every_name_in_the_text_its_paper():
    rows = section("Papers").rows
    form = r"\[(arXiv:|doi:|hal-)(\S+)\]\(https://(arxiv\.org/abs/|doi\.org/|hal\.science/hal-)\2\)"
    pairs = {"arXiv:": "arxiv.org/abs/", "doi:": "doi.org/", "hal-": "hal.science/hal-"}
    for _, paper in rows:
        found = re.findall(form, paper)
        assert found and len(found) == paper.count("](http")
        assert all(pairs[kind] == site for kind, _, site in found)
    listed = " ".join(paper for _, paper in rows)
    cited = re.findall(r"\b(\w+ (?:et al\.|and \w+) \d{4})", " ".join(PAGE.text.split()))
    assert len(cited) > len(rows)
    assert {name for name in cited if name not in listed} == set()


def test_classes_of_the_table_are_spelled_like_thresholds():
    labels = [SPAN.findall(row[1])[0] for row in section("The 27 classes").rows]
    limits = class_thresholds(dict.fromkeys(labels, 0.3), CLASSES)
    assert (limits == 0.3).all()
