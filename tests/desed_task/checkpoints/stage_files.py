"""Small stage files as another published training writes them, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from desed_task.checkpoints.published import PUBLISHED_SPEC
from desed_task.encoders.interface import Encoder
from desed_task.encoders.loading import load_encoder
from desed_task.encoders.random_weights import write_random_encoder
from desed_task.nnet.CRNN import CRNN
from tests.desed_task.checkpoints.fine_tuned_checkpoints import tuned_encoders

SMALL = {"nb_filters": [2, 2, 2, 2, 2, 2, 3], "n_RNN_cell": 4, "activation": "cg"}
# What stands before the names of each encoder, and features of what the network takes.
PREFIXES = {"atst_frame": "model.atst.", "fpasst": "", "beats": "model."}
MAPPED = {"atst_frame": 48, "fpasst": 50}
AGGREGATION = {"atst_frame": "pool1d", "fpasst": "interpolate", "beats": "interpolate"}


def stage_file(
    name: str, folder: Path, *, linear: str = "as_model.model.as_head", n_maps: int = 1
) -> tuple[dict[str, Any], dict[str, tuple[CRNN, nn.Module, Encoder]]]:
    """A file of that form, and the network, the map and the encoder of each role."""
    write_random_encoder(folder / "a.pt", name, seed=1, width=64)
    content: dict[str, Any] = {"epoch": 3, "global_step": 40, "state_dict": {}}
    parts = {}
    torch.manual_seed(2)
    for role, (encoder,) in tuned_encoders([folder / "a.pt"]).items():
        size = MAPPED.get(name, encoder.width)
        net = CRNN(
            **{
                **PUBLISHED_SPEC["net"],
                **SMALL,
                "embedding_size": size,
                "aggregation_type": AGGREGATION[name],
            }
        ).eval()
        state: dict[str, Tensor] = {f"{n}": value for n, value in net.state_dict().items()}
        state["total_ops"] = torch.zeros(1)
        named = torch.load(folder / "a.pt", weights_only=True)
        if name == "beats":
            # Its names differ from those of the file, so both roles have the file's weights.
            encoder = load_encoder(folder / "a.pt")
            own = {n.removeprefix("model.model."): value for n, value in named.items()}
        else:
            own = dict(encoder.state_dict())
        state |= {f"as_model.{PREFIXES[name]}{n}": value for n, value in own.items()}
        state["as_model.weak_head.weight"] = torch.zeros(10, encoder.width)
        between: nn.Module = nn.Identity()
        if name in MAPPED:
            between = nn.Linear(encoder.width, size)
            for number in range(n_maps):
                state[f"{linear}{number or ''}.weight"] = between.weight.detach()
                state[f"{linear}{number or ''}.bias"] = between.bias.detach()
        content[role], parts[role] = state, (net, between, encoder)
    return content, parts
