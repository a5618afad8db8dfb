"""A task of four odd classes, and checkpoints of tiny networks with different encoders for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from desed_task.audio.clip_files import clip_files
from desed_task.checkpoints.spec import SPEC_KEY
from desed_task.encoders.random_weights import write_random_encoder
from local.checkpoints.restore import detector_spec
from local.config import RecipeConfig, check_config
from local.extraction.extractor import Extractor
from local.sed_trainer_pretrained import SEDTask4
from tests.local.test_own_tasks import CLASSES, everything, write_set

SETS = {"strong": "strong", "weak": "weak", "to score": "strong"}


def make_place(root: Path) -> None:
    """Clips of 1.3 to 4.2 s, of which the network takes 2 s, to test and to evaluate; and the
    weights of two encoders."""
    for name, kind in SETS.items():
        write_set(root, name, CLASSES, kind, n_clips=8)
    for name in ("atst_frame", "m2d"):
        write_random_encoder(root / f"{name}.pt", name, seed=3, width=64)


def config_of_member(root: Path, encoder: str = "", **sections: dict[str, Any]) -> RecipeConfig:
    """The task with a network of its own; embeddings lie in a folder of the encoder."""
    config = everything(root, eval={"audio": "to score", "labels": "none", "split": "evaluation"})
    tree = config.dump()
    if encoder:
        tree["pretrained"].update(
            model=encoder,
            checkpoint=str(root / f"{encoder}.pt"),
            extracted_embeddings_dir=str(root / f"of {encoder}"),
        )
        tree["net"].update(use_embeddings=True, embedding_size=None)
    for section, values in sections.items():
        tree[section].update(values)
    return check_config(tree, "a member")


def extract(config: RecipeConfig, root: Path, *names: str) -> None:
    """Embeddings of sets by the encoder of a configuration."""
    (choice,) = config.pretrained.encoders
    extractor = Extractor.open(
        choice,
        Path(config.pretrained.extracted_embeddings_dir),
        clip_s=config.data.audio_max_len,
        device=torch.device("cpu"),
        progress=False,
        windows=dict.fromkeys(names, config.windows),
    )
    for name in names:
        extractor.extract(name, clip_files(root / {"eval": "to score"}.get(name, name)))


def save_member(config: RecipeConfig, path: Path, seed: int) -> Path:
    """A checkpoint with random weights, whose scores are spread over (0, 1)."""
    torch.manual_seed(seed)
    module = SEDTask4(config)
    for network in module.networks.values():
        for layer in (network.dense, network.cnn):
            for parameter in layer.parameters():
                parameter.data += 0.05 * torch.randn_like(parameter)
        network.dense.weight.data *= 20
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"state_dict": module.state_dict(), "hyper_parameters": module.config.dump()}
    torch.save({**content, SPEC_KEY: detector_spec(module.config).to_dict()}, path)
    return path
