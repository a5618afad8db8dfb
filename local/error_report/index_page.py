"""index.html of an error report: tables, pictures and links in one file, without network."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np

from desed_task.errors import agree, count_of
from desed_task.file_names import escape_name, printable
from local.error_report.clip_rolls import wrong_text
from local.error_report.findings import FoundErrors
from local.error_report.pictures import signed
from local.error_report.tables import (
    CAUSES,
    FALSE_ALARM,
    MISS,
    ClassRow,
    EventRow,
    class_rows,
    total_row,
)
from local.predict.pages.urls import quoted

# File name -> heading and explanation of each picture, in the order of the page.
PICTURES = {
    "classes.png": (
        "Hits, misses and false alarms",
        "Numbers are counts; the number at the end of a bar is their sum.",
    ),
    "confusions.png": (
        "What it was instead",
        "Rows sum to the misses or false alarms of a class, and their shares are the shades. The "
        "diagonal is the class itself, at other times (inexact).",
    ),
    "boundaries.png": (
        "Onset and offset errors",
        "Of hits. The line is the median; at the right, the number of compared events and the "
        "median.",
    ),
}
CLIPS_PICTURE = "worst_clips.png"
MOST_CONFUSIONS = 10
MOST_FITTING = 16
# Of the misses and false alarms of a clip, by class and cause.
MOST_KINDS = 8
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 82rem;
  padding: 0 1.5rem; color: #222; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p, li { max-width: 62rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .4rem; font-size: .85rem; text-align: right;
  border-bottom: 1px solid #e4e4e4; }
th { font-weight: 600; vertical-align: bottom; background: #f6f6f6; }
th.group { text-align: center; border-left: 1px solid #ccc; }
td.first, th.first { border-left: 1px solid #ccc; }
td { white-space: nowrap; }
th.name, td.name, td.seconds { text-align: left; }
td.name { white-space: normal; overflow-wrap: break-word; }
td.long { white-space: normal; text-align: left; overflow-wrap: anywhere; min-width: 17rem; }
tr.sum td { font-weight: 600; border-top: 2px solid #999; }
td.none { color: #999; }
img { display: block; max-width: 100%; height: auto; }
img.large { max-width: none; }
dt { font-weight: 600; } dd { margin: 0 0 .5rem 1.5rem; }
footer { margin-top: 3rem; color: #666; }
"""


def index_html(
    errors: FoundErrors,
    rows: Sequence[EventRow],
    *,
    title: str,
    facts: Mapping[str, str],
    pictures: Mapping[str, bytes],
    pages: Mapping[int, str],
) -> str:
    """The page of a report.

    Args:
        errors: the errors.
        rows: every true event and every false alarm.
        title: heading of the page.
        facts: what was tested: name -> value.
        pictures: file name -> PNG, those of PICTURES and, if any clip has an error, CLIPS_PICTURE.
        pages: clip -> path of its page below the report, of the worst clips that have one.
    """
    parts = [
        f"<h1>{_text(title)}</h1>",
        f"<p>{_text('; '.join(f'{name}: {value}' for name, value in facts.items()))}</p>",
        *(f"<p>{_text(line)}</p>" for line in summary_lines(errors)),
        "<h2>Classes</h2>",
        _class_table(errors),
    ]
    for name, (heading, told) in PICTURES.items():
        parts += [f"<h2>{_text(heading)}</h2>", f"<p>{_text(told)}</p>"]
        parts += [_image(name, heading, pictures, len(errors.labels))]
        if name == "confusions.png":
            parts += [_confusion_list(errors)]
    parts += ["<h2>Worst clips</h2>", *_clip_list(errors, rows, pages)]
    if CLIPS_PICTURE in pictures:
        parts += [_image(CLIPS_PICTURE, "Worst clips", pictures, len(errors.labels))]
    parts += ["<h2>What the words mean</h2>", _DEFINITIONS, _FOOTER]
    head = (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        "<meta name='viewport' content='width=device-width'>\n"
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
    )
    return head + "\n".join(parts) + "\n</body>\n</html>\n"


def summary_lines(errors: FoundErrors) -> list[str]:
    """The result in a few sentences."""
    row = total_row(errors)
    n_misses, n_false = row.events - row.hits, row.detections - row.right
    lines = [
        f"Of {count_of(row.events, 'true event')} in {count_of(len(errors.clip_ids), 'clip')}, "
        f"{row.hits} {agree(row.hits, 'was', 'were')} hit and {n_misses} missed. Of "
        f"{count_of(row.detections, 'detection')}, {row.right} "
        f"{agree(row.right, 'was', 'were')} right and {n_false} "
        f"{agree(n_false, 'was a false alarm', 'were false alarms')}."
    ]
    if errors.n_left_out:
        lines.append(
            f"{count_of(errors.n_left_out, 'listed clip')} without events "
            f"{agree(errors.n_left_out, 'was', 'were')} left out of the test, so false alarms in "
            f"{agree(errors.n_left_out, 'it', 'them')} are not known "
            "(data.keep_clips_without_events)."
        )
    if errors.n_unscored:
        lines.append(f"{count_of(errors.n_unscored, 'listed clip')} without scores: not on disk.")
    without = [row.label for row in class_rows(errors) if not row.events]
    if without:
        lines.append(
            f"Classes without a true event, whose detections are all false: {', '.join(without)}."
        )
    return lines


def _class_table(errors: FoundErrors) -> str:
    """The table of all classes."""
    causes = "".join(f"<th>{cause}</th>" for cause in CAUSES)
    head = (
        "<tr><th class='name' rowspan='2'>class</th><th rowspan='2'>threshold</th>"
        "<th class='group' colspan='6'>true events</th>"
        "<th class='group' colspan='6'>detections</th>"
        "<th class='group' colspan='3'>median errors of hits</th></tr>"
        f"<tr><th class='first'>all</th><th>hits</th><th>recall</th>{causes}"
        f"<th class='first'>all</th><th>right</th><th>precision</th>{causes}"
        "<th class='first'>number</th><th>onset (s)</th><th>offset (s)</th></tr>"
    )
    body = [_class_line(row) for row in class_rows(errors)]
    body.append(_class_line(total_row(errors), "sum"))
    return f"<div class='wide'><table>{head}{''.join(body)}</table></div>"


def _class_line(row: ClassRow, kind: str = "") -> str:
    threshold = "" if row.threshold is None else f"{row.threshold:g}"
    cells = [
        f"<td class='name'>{_text(row.label)}</td><td>{threshold}</td>",
        _number(row.events, "first"),
        _number(row.hits),
        _rate(row.recall),
        *map(_number, row.missed),
        _number(row.detections, "first"),
        _number(row.right),
        _rate(row.precision),
        *map(_number, row.false),
        _number(row.n_compared, "first"),
        _signed(row.onset_error_s),
        _signed(row.offset_error_s),
    ]
    return f"<tr class='{kind}'>{''.join(cells)}</tr>"


def _number(value: int, kind: str = "") -> str:
    return f"<td class='{kind}{'' if value else ' none'}'>{value}</td>"


def _rate(value: float | None) -> str:
    return "<td class='none'>-</td>" if value is None else f"<td>{100 * value:.0f} %</td>"


def _signed(value: float | None) -> str:
    return "<td class='none'>-</td>" if value is None else f"<td>{signed(value)}</td>"


def _image(name: str, alternative: str, pictures: Mapping[str, bytes], n_classes: int) -> str:
    data = base64.b64encode(pictures[name]).decode()
    # Cells of many classes would be too small to read if they were made to fit.
    kind = "large" if name == "confusions.png" and n_classes > MOST_FITTING else ""
    image = f"<img class='{kind}' alt='{_text(alternative)}' src='data:image/png;base64,{data}'>"
    return f"<div class='wide'>{image}</div>"


def _confusion_list(errors: FoundErrors) -> str:
    """The most frequent pairs of different classes, of misses and of false alarms."""
    found = [
        (int(counts[one, other]), text.format(errors.labels[one], errors.labels[other]))
        for counts, text in (
            (errors.counts.misses, "{} missed, {} detected there"),
            (errors.counts.false_alarms, "{} detected, {} annotated there"),
        )
        for one, other in np.argwhere(counts[:, :-1]).tolist()
        if one != other
    ]
    if not found:
        return "<p>No class was confused with another one.</p>"
    most = sorted(found, key=lambda pair: -pair[0])[:MOST_CONFUSIONS]
    more = f" (of {count_of(len(found), 'pair')})" if len(found) > len(most) else ""
    items = "".join(f"<li>{count_of(count, 'time')}: {_text(text)}</li>" for count, text in most)
    return f"<p>The most frequent confusions{more}:</p><ul>{items}</ul>"


def _clip_list(
    errors: FoundErrors, rows: Sequence[EventRow], pages: Mapping[int, str]
) -> Iterable[str]:
    """The worst clips with what is wrong in them, and links to their pages."""
    worst = errors.worst_clips().tolist()
    if not worst:
        yield "<p>No clip has an error.</p>"
        return
    wrong = count_of(int((errors.wrong_s > 0).sum()), "clip has", "clips have")
    yield (
        f"<p>{wrong} wrongly labelled seconds. The clips with most of them (missed and false ones "
        f"of all classes added) are listed here{'; the page of a clip plays it' if pages else ''}."
        "</p>"
    )
    lines = []
    for clip in worst:
        name = _text(escape_name(errors.clip_ids[clip]))
        if clip in pages:
            name = f"<a href='{quoted(pages[clip])}'>{name}</a>"
        lines.append(
            f"<tr><td class='long'>{name}</td><td class='seconds'>{_text(wrong_text(errors, clip))}"
            f"</td><td class='long'>{_text(_what_is_wrong(errors, rows, clip))}</td></tr>"
        )
    head = (
        "<tr><th class='name'>clip</th><th class='name'>seconds</th>"
        "<th class='name'>misses and false alarms</th></tr>"
    )
    yield f"<div class='wide'><table>{head}{''.join(lines)}</table></div>"


def _what_is_wrong(errors: FoundErrors, rows: Sequence[EventRow], clip: int) -> str:
    """The misses and false alarms of a clip, equal ones together, the most frequent first."""
    found: dict[str, int] = {}
    for row in rows:
        if row.clip == clip and row.verdict in (MISS, FALSE_ALARM):
            verb = "missed" if row.verdict == MISS else "false"
            cause = row.cause
            if row.other >= 0:
                cause = f"{errors.labels[row.other]} there"
            text = f"{errors.labels[row.label]} {verb} ({cause})"
            found[text] = found.get(text, 0) + 1
    most = sorted(found.items(), key=lambda item: -item[1])
    texts = [f"{n} x {text}" if n > 1 else text for text, n in most[:MOST_KINDS]]
    if len(most) > MOST_KINDS:
        texts.append(f"and {len(most) - MOST_KINDS} more")
    return "; ".join(texts) or "only times differ: all events are hits, all detections right"


def _text(value: str) -> str:
    """Text for a page, whatever bytes a name has."""
    return escape(printable(value))


_DEFINITIONS = """<dl>
<dt>detection</dt><dd>A run of scores above the class's threshold, or a box of the decoder with a
higher confidence. Those that begin after their clip's end are left out.</dd>
<dt>hit, miss</dt><dd>A true event is a hit if right detections of its class cover at least half of
it; else it is a miss.</dd>
<dt>right, false alarm</dt><dd>A detection is right if at least half of it lies in true events of
its class; else it is a false alarm. Several detections of one event may be right, and one detection
may hit several events.</dd>
<dt>confused</dt><dd>False alarms of another class cover at least half of the missed event, or true
events of another class cover at least half of the false alarm. Right detections of another class
are not taken for the missed event: both sounds were there. Of several classes the one that covers
most counts.</dd>
<dt>inexact</dt><dd>Its own class was detected, or annotated, there, but not enough of it.</dd>
<dt>nothing there</dt><dd>Neither of these.</dd>
<dt>onset and offset errors</dt><dd>Detected minus true time, so what is too late is positive. Each
hit is compared with at most one right detection and each detection with at most one hit: first the
pairs with the largest intersection over union, of equal ones the earlier.</dd>
<dt>wrongly labelled seconds</dt><dd>Seconds of true events without a detection of their class, and
of detections outside true events of their class, added over the classes.</dd>
</dl>"""
_FOOTER = (
    "<footer>The same as data: <a href='errors.json'>errors.json</a>, "
    "<a href='events.tsv'>events.tsv</a> (a row per true event and per false alarm).</footer>"
)
