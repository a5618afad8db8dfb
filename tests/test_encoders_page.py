"""docs/encoders.md: its figures, its Python, and an encoder of one's own made from the page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.encoders import ENCODERS, made_up
from desed_task.encoders import load_encoder, register, registry
from desed_task.encoders.macs import encoder_macs
from desed_task.encoders.random_weights import write_random_encoder
from desed_task.encoders.registry import BUILT_IN, EncoderKind, kind_of, kinds
from desed_task.encoders.released import RELEASED
from desed_task.errors import InputError
from tests.markdown_pages import DOCS, ROOT

PAGE = DOCS["encoders"]
OWN = "An encoder of your own"
# What a program does with the encoder: loads it as the configuration says, and trains with it.
USE = """
import json, sys, warnings
import torch
from desed_task.encoders import load_encoder
from desed_task.encoders.interface import check_encoder
from desed_task.encoders.macs import encoder_macs
from local.config import load_config

warnings.simplefilter("error")
config = load_config(sys.argv[1], ["pretrained.model=mel_conv", "pretrained.n_blocks=2"])
(choice,) = config.pretrained.encoders
encoder = load_encoder(choice.file, choice.name, n_blocks=choice.n_blocks)
check_encoder(encoder, size=48, sample_rate=16000)
torch.manual_seed(0)
clips = torch.randn(3, 40000)
clips[1, 30000:] = 0
lengths = torch.tensor([40000, 30000, 40000])
together, alone = encoder(clips, lengths), encoder(clips[1:2, :30000])
n = encoder.n_tokens(30000 - 512)
embedded = encoder.embed(clips)
free = load_encoder(choice.file).requires_grad_(True).train()
free.gradient_checkpointing = True
groups = free.layer_groups()
optimizer = torch.optim.SGD([{"params": g.parameters} for g in groups if g.parameters], lr=1e-3)
losses = []
for _ in range(2):
    loss = free(clips).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(json.dumps({
    "file": choice.file,
    "sha256": encoder.sha256,
    "frame": list(embedded.frame.shape),
    "global": list(embedded.global_.shape),
    "padding": float((together[1, :n] - alone[0, :n]).abs().max()),
    "padded": bool(torch.isfinite(together).all()),
    "groups": [g.name for g in groups],
    "losses": losses,
    "macs": encoder_macs(encoder, 160000),
}))
"""


def own_module() -> str:
    """The module that the page shows."""
    (source,) = (block for block in PAGE.blocks("python") if "(Encoder)" in block)
    return source


def own_entry_points() -> str:
    """The page's lines of `pyproject.toml`, as an installation writes them."""
    (block,) = (block for block in PAGE.blocks("text") if "entry-points" in block)
    head, line = block.strip().splitlines()
    group = head.removeprefix('[project.entry-points."').removesuffix('"]')
    name, place = line.replace('"', "").split(" = ")
    return f"[{group}]\n{name} = {place}\n"


def install(folder: Path, files: dict[str, str], entry_points: str, package: str = "own") -> None:
    """What pip makes of a package, in a folder for PYTHONPATH."""
    about = folder / f"{package}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(entry_points)
    for name, content in files.items():
        (folder / name).write_text(content)


def run(folder: Path, program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A program in `folder`, which has the installed package in `site`."""
    path = os.pathsep.join((str(folder / "site"), str(ROOT)))
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with the page's encoder installed in `site`, and a file of its weights."""
    folder = tmp_path_factory.mktemp("own")
    install(folder / "site", {"mel_conv.py": own_module()}, own_entry_points())
    written = run(
        folder,
        """
        import pathlib, torch, mel_conv
        torch.manual_seed(5)
        pathlib.Path("pretrained_models").mkdir()
        torch.save(mel_conv.MelConv(48, 3).state_dict(), "pretrained_models/mel_conv.pt")
        """,
    )
    assert written.returncode == 0, written.stderr
    return folder


def test_an_encoder_takes_50_lines():
    lines = [line for line in own_module().splitlines() if line.strip()]
    assert 30 < len(lines) <= 50


def test_the_encoder_of_the_page_is_one_like_the_others(own):
    done = run(own, USE, ROOT / "confs" / "pretrained.yaml")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["file"] == "./pretrained_models/mel_conv.pt" and len(found["sha256"]) == 64
    assert found["frame"] == [3, 48, 31] and found["global"] == [3, 48]
    assert found["padding"] < 1e-5 and found["padded"]
    assert found["groups"] == ["head side", "block 2", "block 1", "block 0", "embedding"]
    assert found["losses"][1] < found["losses"][0]
    assert found["macs"] > 125 * 512 * 48


def test_the_page_shows_how_python_loads_one(tmp_path):
    (source,) = (block for block in PAGE.blocks("python") if "load_encoder(" in block)
    weights = tmp_path / "pretrained_models" / "ATST-F_strong_1.pt"
    write_random_encoder(weights, "atst_frame", seed=0, width=64)
    done = run(tmp_path, source)
    assert done.returncode == 0, done.stderr
    name, width, n_tokens, rate, digest = done.stdout.split()
    assert (name, width, n_tokens, rate) == ("atst_frame", "64", "250", "25.0")
    assert len(digest) == 64


# ---- encoders that do not work


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on the path of this process; what is imported from it is forgotten."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path / "site"
    sys.modules.pop("mel_conv", None)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (
            "import torch\n",
            "import torch_of_mine\n",
            "cannot be imported: No module named 'torch_of",
        ),
        ("import torch\n", "import torch;\n)", "mel_conv:MelConv cannot be imported: unmatched"),
        ("class MelConv", "class MelConvolution", "has no attribute 'MelConv'"),
        ("MelConv(Encoder)", "MelConv(nn.Module)", "is not a class derived from desed_task.encod"),
        ("def n_tokens(", "def count(", "mel_conv:MelConv lacks n_tokens; see docs/encoders.md"),
        ("telling = ", "names = ", "mel_conv:MelConv lacks telling; see docs/encoders.md"),
        ('name = "mel_conv"', 'name = "mel"', "has the name 'mel'; give its class and its entry"),
        (
            "// N_FRAMES if",
            "// N_FRAMES + 1 if",
            "gives tokens of shape (1, 25, 48) for 2 s, and n_tok",
        ),
        ("self.blocks = nn", "self.stack = nn", "missing"),
        ("state, origin, cls.name)", "state, origin, cls.name).name", "from_weights gives str"),
        ("return mel.clamp", "return mel.clam", "fails on 2 s of silence: AttributeError"),
    ],
)
def test_what_is_wrong_with_an_encoder_is_said(own, site, before, after, told):
    source = own_module()
    assert source.count(before) >= 1
    install(site, {"mel_conv.py": source.replace(before, after, 1)}, own_entry_points())
    with pytest.raises(InputError) as error:
        load_encoder(own / "pretrained_models/mel_conv.pt", "mel_conv")
    assert told in str(error.value)


def test_what_a_file_lacks_is_said(own, site, tmp_path):
    install(site, {"mel_conv.py": own_module()}, own_entry_points())
    whole = torch.load(own / "pretrained_models/mel_conv.pt", weights_only=True)
    for lacking, told in (
        ("blocks.1.norm.bias", "not a complete mel_conv:\n  - blocks.1.norm.bias is missing"),
        ("patch.bias", "mel_conv cannot be made of these tensors: KeyError: 'patch.bias'"),
    ):
        torch.save({k: v for k, v in whole.items() if k != lacking}, tmp_path / "part.pt")
        with pytest.raises(InputError) as error:
            load_encoder(tmp_path / "part.pt")
        assert told in str(error.value)


def test_a_broken_package_does_not_break_other_encoders(site, tmp_path):
    install(site, {"mel_conv.py": "import nothing_such\n"}, own_entry_points())
    write_random_encoder(tmp_path / "asit.pt", "asit", seed=0, width=64)
    with pytest.warns(UserWarning, match=r"'nothing_such'; files of mel_conv are not recognised"):
        assert load_encoder(tmp_path / "asit.pt").name == "asit"


def test_names_that_are_taken_or_unusable_are_left_out_with_a_warning(site):
    points = "[desed_task.encoders]\nbeats = a:B\nmel/conv = a:C\nmine = a:D\n"
    install(site, {}, points, "first")
    install(site, {}, "[desed_task.encoders]\nmine = b:D\n", "second")
    with pytest.warns(UserWarning, match="is left out") as warned:
        found = kinds()
    assert found["mine"].place == "a:D" and found["beats"] in BUILT_IN and "mel/conv" not in found
    told = "\n".join(str(warning.message) for warning in warned)
    taken = "is left out: there is an encoder of that name already"
    assert f"encoder 'beats' of the package first (a:B) {taken} (desed_task.enc" in told
    assert f"encoder 'mine' of the package second (b:D) {taken} (a:D)" in told
    assert "encoder 'mel/conv' of the package first (a:C) is left out: folders are" in told


def test_a_program_may_register_one(site, monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    site.mkdir()
    (site / "mel_conv.py").write_text(own_module())
    kind = EncoderKind("mel_conv", "MelConv", "mel_conv:MelConv", "mel_conv.pt")
    register(kind)
    register(kind)  # once more changes nothing
    assert kind_of("mel_conv") == kind
    for other, told in (
        (replace(kind, title="Mel"), "there is an encoder 'mel_conv' already"),
        (replace(kind, name="m2d"), "there is an encoder 'm2d' already"),
        (replace(kind, name="mel conv"), "use letters, digits, _ and - only"),
    ):
        with pytest.raises(InputError, match=told):
            register(other)


# ---- figures


def test_figures_of_the_table_are_those_of_the_encoders():
    (table,) = (one for one in PAGE.tables() if "GMAC for 10 s" in one.head)
    assert [row[1].strip("`") for row in table.rows] == [*ENCODERS]
    for title, name, millions, tokens, rate, width, gmacs in table.rows:
        with torch.device("meta"):
            encoder = made_up(name.strip("`"))
        assert kinds()[encoder.name].title == title
        assert f"{encoder.n_parameters() / 1e6:.2f} M" == millions
        assert str(encoder.n_tokens(160000)) == tokens.split()[0]
        assert f"{encoder.token_rate:g}" == rate
        assert str(encoder.width) == width.split()[0]
        assert f"{encoder_macs(encoder, 160000) / 1e9:.1f}" == gmacs


def test_published_figures_are_those_of_the_library():
    (table,) = (one for one in PAGE.tables() if "licence of the weights" in one.head)
    strong = {row.encoder: row for row in RELEASED if row.pretraining == "strong"}
    titles = {kinds()[name].title: row for name, row in strong.items()}
    assert {row[0] for row in table.rows} == set(titles)
    for row in table.rows:
        assert row[1] == f"{100 * titles[row[0]].psds1:.1f}"
        assert row[-1] == titles[row[0]].licence


def test_least_samples_are_those_of_the_encoders():
    (table,) = (one for one in PAGE.tables() if "least samples at 16 kHz" in one.head)
    by_title = {kind.title: kind.name for kind in kinds().values()}
    for title, least, _ in table.rows:
        encoder = made_up(by_title[title], small=True)
        assert encoder.n_tokens(int(least) - 1) == 0 < encoder.n_tokens(int(least))
        assert encoder(torch.zeros(1, int(least))).shape[1] == encoder.n_tokens(int(least))


def test_a_package_that_is_installed_meanwhile_is_found(site):
    assert "mel_conv" not in kinds() and "mel_conv" not in kinds()
    install(site, {"mel_conv.py": own_module()}, own_entry_points())
    assert "mel_conv" in kinds()
    (site / "own-1.0.dist-info").rename(site / "own.kept")
    assert "mel_conv" not in kinds()
