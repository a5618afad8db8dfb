"""README.md, HELP.md, CHANGELOG.md, docs: commands, code blocks, tables, links, messages."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
TROUBLE = "If something goes wrong"
# Markdown's code spans.
SPAN = re.compile(r"`([^`]+)`")


class Command(NamedTuple):
    """A line of a bash block."""

    file: str
    section: str
    line: str

    @property
    def words(self) -> list[str]:
        """The line as a shell splits it."""
        return shlex.split(self.line)


class Table(NamedTuple):
    """A table: the section that it is in, its head, and the cells of each row."""

    section: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Page:
    """A Markdown file.

    Attributes:
        name: path from the root, for messages.
        folder: that its links start from.
        text: the whole file.
        lines: (language of the code block, "" for prose; section; line), without fences.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.relative_to(ROOT).as_posix()
        self.folder = path.parent
        self.text = path.read_text(encoding="utf-8")
        self.lines = list(_located(self.text))

    def headings(self, level: str = "#+") -> list[str]:
        """Titles of the sections of a level, e.g. "##"."""
        prose = (line for language, _, line in self.lines if not language)
        found = (re.fullmatch(rf"{level} (.*)", line) for line in prose)
        return [match[1] for match in found if match]

    def anchors(self) -> set[str]:
        """What links to sections end in, as GitHub forms it."""
        return {
            re.sub(r"[^\w -]", "", t).strip().lower().replace(" ", "-") for t in self.headings()
        }

    def commands(self) -> list[Command]:
        """The lines of all bash blocks."""
        return [
            Command(self.name, section, line)
            for language, section, line in self.lines
            if language == "bash" and line.strip()
        ]

    def blocks(self, language: str) -> list[str]:
        """The code blocks of a language."""
        return re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.M | re.S)

    def links(self) -> list[str]:
        """Targets of links and pictures in the prose, without those on the web."""
        prose = "\n".join(line for language, _, line in self.lines if not language)
        found = re.findall(r"\]\(([^)\s]+)\)", SPAN.sub("`", prose))
        return [link for link in found if not link.startswith(("http:", "https:"))]

    def spans(self) -> list[str]:
        """Code spans of the prose."""
        prose = "\n".join(line for language, _, line in self.lines if not language)
        return [" ".join(span.split()) for span in SPAN.findall(prose)]

    def tables(self) -> list[Table]:
        """All tables."""
        found: list[Table] = []
        before = ""
        for language, section, line in self.lines:
            if language or not line.startswith("|"):
                before = ""
                continue
            cells = tuple(cell.strip() for cell in re.split(r"(?<=\s)\|(?=\s)", line.strip("|")))
            if not before:
                found.append(Table(section, cells, ()))
            elif not set(line) <= set("|-: "):
                found[-1] = found[-1]._replace(rows=(*found[-1].rows, cells))
            before = line
        return found

    def messages(self) -> list[str]:
        """Quoted messages: code spans of first cells below `message`, and those in bold."""
        quoted = re.findall(r"\*\*`([^`]+)`\*\*", self.text)
        for table in self.tables():
            if table.head[0] == "message":
                quoted += [span for row in table.rows for span in SPAN.findall(row[0])]
        return [message for message in quoted if not re.fullmatch(r"--\w+", message)]


def _located(text: str) -> Iterator[tuple[str, str, str]]:
    language, section = "", ""
    for line in text.splitlines():
        if line.startswith("```"):
            language = "" if language else line.removeprefix("```") or "unknown"
            continue
        if not language and line.startswith("#"):
            section = line.lstrip("# ")
        yield language, section, line


def tree_of(block: str) -> set[str]:
    """Paths that a picture of a folder tree shows, folders with a slash at their end.

    Each line has a name and what it holds, two or more blanks apart; deeper names stand deeper.
    """
    paths, above = set(), {}
    for line in block.splitlines():
        name = line.split()[0]
        depth = len(line) - len(line.lstrip())
        above = {d: folder for d, folder in above.items() if d < depth}
        path = (above[max(above)] if above else "") + name
        paths.add(path)
        if name.endswith("/"):
            above[depth] = path
    return paths


README, HELP = Page(ROOT / "README.md"), Page(ROOT / "HELP.md")
CHANGELOG = Page(ROOT / "CHANGELOG.md")
DOCS = {path.stem: Page(path) for path in sorted((ROOT / "docs").glob("*.md"))}
PAGES = {page.name: page for page in (README, HELP, CHANGELOG, *DOCS.values())}
