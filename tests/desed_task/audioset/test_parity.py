"""Logits of the five published layouts at full size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from desed_task.audioset.file import network_in
from tests.desed_task.encoders.published_numbers import wave, weight

# Greatest differences that are fair to ask for, of clips with chirps; see test_parity of encoders.
TOLERANCES = {"atst": 1e-4, "fpasst": 1e-3, "asit": 1e-3, "m2d": 1e-4, "beats": 5e-3}


@pytest.mark.parametrize("name", list(TOLERANCES))
def test_logits_are_the_published_ones(name, parity):
    """Of 10 s, and of 3.3 s, whose tokens are stretched to 250 frames."""
    numbers = np.load(parity(f"encoders/{name}.npz"))
    clips = json.loads(parity("encoders/waveforms.json").read_text())
    layout = json.loads(parity(f"encoders/{name}_layout.json").read_text())
    state = {key: torch.from_numpy(weight(key, shape)) for key, shape in layout["entries"]}
    network, _ = network_in(state, {}, Path(f"{name}.pt"))
    for clip in ("chirps", "short"):
        about = clips[clip]
        samples = wave(about["kind"], about["seconds"], about["seed"]).astype(np.float32) / 32768
        with torch.inference_mode():
            strong, weak = network(torch.from_numpy(samples)[None])
        limits = {"atol": TOLERANCES[name], "rtol": 0}
        np.testing.assert_allclose(strong[0, ::25], numbers[f"{clip}.strong"], **limits)
        np.testing.assert_allclose(weak[0], numbers[f"{clip}.weak"], **limits)
        mean, deviation = numbers[f"{clip}.strong_stats"]
        assert abs(strong.mean() - mean) < 1e-5 and abs(strong.std() - deviation) < 1e-4
