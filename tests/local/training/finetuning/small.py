"""A small network whose tiny encoders run inside the step, on clips of two seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from desed_task.batch import SedBatch
from desed_task.encoders.random_weights import write_random_encoder
from local.config import RecipeConfig, check_config, load_config
from local.sed_trainer_pretrained import SEDTask4
from local.training.finetuning.encoders import load_step_encoder
from tests.published_task import NUMBER

CONF = Path(__file__).resolve().parents[4] / "confs" / "mini.yaml"
CLIP_S, N_FRAMES = 2.0, 31


def config_of(
    folder: Path, *names: str, sections: dict[str, dict[str, Any]] | None = None, **pretrained: Any
) -> RecipeConfig:
    """A configuration with tiny encoders, which it writes; one or several."""
    files = []
    for seed, name in enumerate(names):
        files.append(str(folder / f"{name} é.pt"))
        if not Path(files[-1]).exists():
            write_random_encoder(files[-1], name, seed=seed, width=64, n_blocks=2)
    tree = load_config(CONF).dump()
    tree["pretrained"].update(model=list(names), checkpoint=files, e2e=True, freezed=False)
    tree["pretrained"].update(pretrained)
    tree["data"].update(audio_max_len=CLIP_S, packed_dir=None)
    tree["net"].update(nb_filters=[4, 4, 4, 8], n_RNN_cell=8, dropout=0.3, dropstep_recurrent=0.3)
    tree["net"]["embedding_size"] = None
    tree["training"].update(
        n_epochs=2, n_epochs_warmup=1, epoch_decay=1, validation_interval=2, mixup="soft"
    )
    tree["training"].update(
        mixup_prob=1.0, enable_progress_bar=False, num_workers=0, batch_size=[2, 1, 1, 1, 2]
    )
    tree["energy"]["enabled"] = False
    for section, values in (sections or {}).items():
        tree[section].update(values)
    return check_config(tree, "the test")


def module_of(config: RecipeConfig) -> SEDTask4:
    torch.manual_seed(0)
    return SEDTask4(config, load_step_encoder(config))


def make_batch(seed: int, n_rows: int = 7) -> SedBatch:
    """Rows of unequal loudness; unlabelled ones last."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.tensor([0, 0, 1, 2, 3, 4, 4])[-n_rows:]
    target = (torch.rand(n_rows, 27, N_FRAMES, generator=generator) < 0.1).float()
    target[source == NUMBER["unlabeled_train"]] = 0
    loudness = torch.logspace(-3, 0, n_rows).unsqueeze(1)
    return SedBatch(
        loudness * torch.randn(n_rows, round(16000 * CLIP_S), generator=generator),
        target,
        torch.rand(n_rows, 27, generator=generator) < 0.8,
        source,
        torch.empty(n_rows, 0),
        tuple(map(str, range(n_rows))),
    )


class Batches(pl.LightningDataModule):
    """The same two batches every epoch."""

    loaded: ClassVar[dict[str, Any]] = {}

    def digests(self, stage: str) -> dict[str, Any]:
        return {}

    def train_dataloader(self) -> DataLoader[SedBatch]:
        return DataLoader(
            [make_batch(1), make_batch(2)], batch_size=None, generator=torch.Generator()
        )
