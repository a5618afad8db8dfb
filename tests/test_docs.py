"""README.md, HELP.md and docs: pages, links and tables are whole, and what they name exists."""

import importlib
import re

import pytest

from local.config import RecipeConfig
from local.schema.task import TaskDescription
from tests.markdown_pages import DOCS, HELP, PAGES, README, ROOT, SPAN, TROUBLE, Page, tree_of
from tests.messages_in_code import is_in_code

EXPECTED_DOCS = {
    *(
        "architecture",
        "augmentation",
        "checkpoints",
        "commands",
        "comparing_runs",
        "data",
        "encoders",
        "fine_tuning",
        "method",
    ),
    *("metrics", "own_data", "predict", "scaling", "speed", "submission", "tasks", "training"),
    *("tuning", "winning"),
}
LANGUAGES = {"bash", "python", "text"}
SCRIPTS = tuple(path.stem for path in sorted(ROOT.glob("*.py")))
# Messages of other programs, which our sources do not contain.
FOREIGN = {
    "ensurepip is not available",
    "Building wheel for sed_scores_eval ... error",
    "No space left on device",
    "No module named 'pkg_resources'",
    "No module named ...",
    "cannot import name 'Sequence' from 'collections'",
    "CUDA out of memory",
    "Bus error",
    "unable to allocate shared memory",
    "unrecognized arguments",
    "invalid choice",
    "expected one argument",
}


# ---- pages


def test_all_pages_are_there():
    assert set(DOCS) == EXPECTED_DOCS


def test_the_front_pages_are_short():
    assert len(README.text.splitlines()) <= 160
    assert len(HELP.text.splitlines()) <= 130


@pytest.mark.parametrize("name", DOCS)
def test_pages_end_with_messages_and_remedies(name):
    page = DOCS[name]
    assert page.headings("##")[-1] == TROUBLE
    end = page.text.split(f"\n## {TROUBLE}\n")[1]
    assert "\n| message | meaning | remedy |\n|---|---|---|\n" in end


@pytest.mark.parametrize("name", DOCS)
def test_readme_names_every_page(name):
    assert f"docs/{name}.md" in README.links()


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_block_says_its_language(page):
    fences = re.findall(r"^```.*$", page.text, re.M)
    assert {fence.removeprefix("```") for fence in fences[::2]} <= LANGUAGES
    assert set(fences[1::2]) <= {"```"}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_tables_are_whole(page):
    for table in page.tables():
        assert {len(row) for row in table.rows} == {len(table.head)}, table.head


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_links_lead_somewhere(page):
    lost = []
    for link in page.links():
        path, _, anchor = link.partition("#")
        target = (page.folder / path).resolve() if path else ROOT / page.name
        if not target.exists() or (anchor and anchor not in Page(target).anchors()):
            lost.append(link)
    assert lost == []


def test_the_picture_is_a_picture():
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README.text)
    assert len(pictures) == 1
    assert (ROOT / pictures[0]).read_bytes().startswith(b"\x89PNG")


# ---- messages


def test_enough_messages_are_quoted():
    assert len(HELP.messages()) > 90
    assert all(page.messages() for page in DOCS.values())
    quoted = {message for page in PAGES.values() for message in page.messages()}
    assert quoted >= FOREIGN


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_quoted_messages_are_those_of_the_code(page):
    assert [m for m in page.messages() if m not in FOREIGN and not is_in_code(m)] == []


@pytest.mark.parametrize(
    ("message", "known"),
    [
        ("...: not a checkpoint that can be loaded safely: it asks for ...", True),
        ("...: not a checkpoint that can be loaded safely: it wants ...", False),
        ("--gpus 7: there is no such GPU (...)", True),
        ("--gpus 7: there is not such a GPU (...)", False),
        ("was trained under earlier rules (training revision 1, now 2) and cannot", True),
        ("was trained under earlier rules (training revision 1, then 2) and cannot", False),
        ("clips longer than ... s, scored in windows ... s apart: ...", True),
        ("clips longer than ... s, scored in halves ... s apart: ...", False),
        ("... cannot be used: ...: unknown key ...", True),  # a heading and a line below it
        ("...", False),
        # Docstrings and comments are not messages.
        ("Where a run is kept and what computes it.", False),
    ],
)
def test_messages_are_told_from_other_text(message, known):
    assert is_in_code(message) == known


def test_the_index_leads_to_pages_with_the_message():
    table = next(table for table in HELP.tables() if table.head == ("message", "page"))
    assert len(table.rows) > 20
    lost = []
    for messages, pages in table.rows:
        named = re.findall(r"\]\(docs/(\w+)\.md", pages)
        quoted = [quote for name in named for quote in DOCS[name].messages()]
        for message in SPAN.findall(messages):
            parts = [part.strip(" :;") for part in message.split("...")]
            if not any(all(part in quote for part in parts) for quote in quoted):
                lost.append(message)
    assert lost == []


# ---- names of files, modules and keys


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_flags_in_text_exist(page, capsys):
    """Each `--flag` of the prose is one of a script, of the benchmarks or of a program named."""
    foreign = {
        "--backend-store-uri",
        "--logdir",
        "--port",
        "--dry-run",
        "--editable",
        "--shm-size",
        "--help",
        # of sbatch and torchrun
        "--array",
        "--cpus-per-task",
        "--ntasks-per-node",
        "--nproc_per_node",
    }
    text = ""
    for module in (*SCRIPTS, "benchmarks.__main__"):
        with pytest.raises(SystemExit):
            importlib.import_module(module).parse_args(["--help"])
        text += capsys.readouterr().out
    known = set(re.findall(r"--\w+", text)) | foreign
    # A star stands for several: `--only_*`.
    named = {flag for span in page.spans() for flag in re.findall(r"(?<!\S)--[\w-]+(?!\*)\b", span)}
    assert named - known - {flag for flag in named if flag.endswith("_")} == set()


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_keys_exist(page):
    """Each `section.key` of the text is one of the configuration."""
    fields = {name: field.annotation for name, field in RecipeConfig.model_fields.items()}
    fields["task"] = TaskDescription
    pattern = re.compile(rf"(?<![\w./])({'|'.join(fields)})\.([a-zA-Z_]\w*)\b(?![./(])")
    unknown = {
        f"{section}.{key}"
        for span in page.spans()
        for section, key in pattern.findall(span)
        if key not in fields[section].model_fields and key not in ("py", "md", "sh")
    }
    assert unknown == set()


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_files_of_this_repository_exist(page):
    tops = "desed_task|local|tests|benchmarks|confs|docs"
    pattern = re.compile(rf"(?:{tops})/[\w/]+(?:\.\w+)?/?")
    named = {span for span in page.spans() if pattern.fullmatch(span)}
    assert {path for path in named if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("top", ["desed_task", "local"])
def test_architecture_lists_every_module(top):
    shown = set.union(*(tree_of(block) for block in DOCS["architecture"].blocks("text")))
    modules = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / top).rglob("*.py")
        if path.name != "__init__.py" and path != ROOT / "desed_task" / "detector.py"  # deprecated
    }
    listed = {path for path in shown if path.startswith(f"{top}/") and path.endswith(".py")}
    assert listed == modules
    assert len(modules) > 40


def test_readme_lists_every_package():
    shown = set.union(*(tree_of(block) for block in README.blocks("text")))
    packages = {
        f"{path.parent.relative_to(ROOT).as_posix()}/"
        for top in ("desed_task", "local")
        for path in [*(ROOT / top).glob("__init__.py"), *(ROOT / top).glob("*/__init__.py")]
    }
    tops = {"benchmarks/", "confs/", "desed_recipe/", "tests/"}
    assert {path for path in shown if path.endswith("/")} == packages | tops


def test_trees_are_read():
    assert tree_of("a/\n  b.py  text\n  c/\n    d.py  more/\ne/  f") == {
        *("a/", "a/b.py", "a/c/", "a/c/d.py", "e/"),
    }
