"""Small files of random weights: the published names, the same bytes for a seed, informative."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from desed_task.encoders.loading import load_encoder
from desed_task.encoders.random_weights import PUBLISHED_PREFIXES, write_random_encoder
from desed_task.errors import InputError
from tests.desed_task.encoders.made_up_sounds import made_up_sounds

NAMES = tuple(PUBLISHED_PREFIXES)
RATE = 16000


@pytest.mark.parametrize("name", NAMES)
def test_names_are_those_of_published_files(
    name: str, tmp_path: Path, parity: Callable[[str], Path]
) -> None:
    write_random_encoder(tmp_path / "x.pt", name, seed=1, width=64, n_blocks=12, n_classes=447)
    key = "atst" if name == "atst_frame" else name
    layout = json.loads(parity(f"encoders/{key}_layout.json").read_text())["entries"]
    # M2D's tables of its front end are not written.
    expected = {entry for entry, _ in layout if "to_spec" not in entry}
    found = torch.load(tmp_path / "x.pt", weights_only=True)
    assert set(found) == expected
    ndim = {entry: len(shape) for entry, shape in layout}
    assert all(value.ndim == ndim[entry] for entry, value in found.items())


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    for file, seed in (("a", 1), ("b é", 1), ("c", 2)):
        write_random_encoder(tmp_path / file / "x.pt", name, seed=seed, width=64, n_blocks=1)
    first, again, other = ((tmp_path / f / "x.pt").read_bytes() for f in ("a", "b é", "c"))
    assert first == again != other


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_tell_sounds_apart_and_when_they_are(name: str, tmp_path: Path) -> None:
    """The nearest mean of a few examples names a tone, a harmonic sound, hiss and rumble."""
    write_random_encoder(tmp_path / "x.pt", name, seed=4)
    encoder = load_encoder(tmp_path / "x.pt")
    rng = np.random.default_rng(0)
    embeddings = torch.stack([encoder.embed(made_up_sounds(rng)).global_ for _ in range(10)])
    nearest = torch.cdist(embeddings[3:], embeddings[:3].mean(dim=0)).argmin(dim=-1)
    assert (nearest == torch.arange(4)).float().mean() >= 0.9
    noise = 1e-3 * rng.normal(size=(1, 10 * RATE))
    beep = noise.copy()
    beep[0, 4 * RATE : 5 * RATE] += 0.05 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    without, with_beep = (encoder(torch.tensor(x).float())[0] for x in (noise, beep))
    change = (with_beep - without).norm(dim=1)[name == "asit" :]  # without the class token
    n_tokens = len(change)
    inside = change[int(0.42 * n_tokens) : int(0.48 * n_tokens)].mean()
    assert inside > 4 * change[: int(0.36 * n_tokens)].mean()
    assert inside > 4 * change[int(0.55 * n_tokens) :].mean()


def test_sizes_that_do_not_fit(tmp_path: Path) -> None:
    for sizes in ({"width": 100}, {"width": 0}, {"n_blocks": 0}, {"n_classes": -1}):
        with pytest.raises(InputError, match="give"):
            write_random_encoder(tmp_path / "x.pt", "asit", seed=1, **sizes)
    with pytest.raises(InputError, match="no layout of 'vggish'; known: atst_frame, fpasst"):
        write_random_encoder(tmp_path / "x.pt", "vggish", seed=1)
    assert list(tmp_path.iterdir()) == []
