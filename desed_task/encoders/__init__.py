"""Pretrained encoders behind one interface: waveforms to tokens.

    encoder = load_encoder("pretrained_models/ATST-F_strong_1.pt", device="cuda")
    encoder.name  # "atst_frame"
    encoder(waveform)  # (batch, token, feature): (1, 250, 768) for 10 s at 16 kHz
    encoder.front_end(waveform)  # (batch, band, frame)

Importing this package does not import PyTorch; the names below do when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from desed_task.encoders.files.tensors import load_tensors as load_tensors
    from desed_task.encoders.interface import Encoder as Encoder
    from desed_task.encoders.loading import load_encoder as load_encoder
    from desed_task.encoders.registry import register as register

_PLACES = {
    "Encoder": "interface",
    "load_encoder": "loading",
    "load_tensors": "files.tensors",
    "register": "registry",
}
__all__ = ["Encoder", "load_encoder", "load_tensors", "register"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
