"""Draw each augmentation on one clip, for docs/augmentation.md.

python -m benchmarks.augmentation_pictures docs/images
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from desed_task.augment.chain import StepAugmentation
from desed_task.augment.filters import BandScale
from desed_task.augment.frames import FrameTimes
from desed_task.augment.responses import DeviceResponses
from desed_task.augment.step import StepInputs
from desed_task.batch import SourceRoles
from desed_task.encoders.vit.atst_frame import AtstFrame
from desed_task.encoders.vit.blocks import BlockSizes
from desed_task.features import LogMel, to_db
from local.pictures.palette import ANNOTATED

RATE, N_SAMPLES, N_LABELS = 16000, 160000, 156
CLASSES = ("alarm", "dog", "water")
# Strongly labelled rows of one corpus, which are each other's partners.
ROLES = SourceRoles(1, (0,), (), (0,), ((0,),))
FILE = "augmentation_{}.png"


class Panel(NamedTuple):
    """One picture: a title, values of `StepAugmentation`, and whose input is shown."""

    title: str
    values: dict[str, Any]
    seed: int = 0
    encoders: bool = False


WAVEFORMS = (
    Panel("wavmix: two clips of one corpus", {"wavmix_prob": 1.0, "wavmix_alpha": 2.0}, 3),
    Panel("device impulse response: a small loudspeaker", {"device_prob": 1.0}),
    Panel("gain", {"gain_db": 12.0}, 3),
)
TIMES = (
    Panel("frame shift", {"shift_std": 0.2}, 4),
    Panel("time mask", {"time_mask_prob": 1.0, "time_mask_min": 0.2}, 5),
)
SPECTRA = (
    Panel("mixup", {"mixup_prob": 1.0, "mixup_alpha": 2.0}, 1),
    Panel("freq-mixstyle", {"mixstyle_prob": 1.0, "mixstyle_alpha": 2.0}, 1),
    Panel("frequency warp (encoder input)", {"warp_prob": 1.0, "warp_min": 0.6}, 2, True),
    Panel("FilterAugment, linear", {"filter_prob": 1.0, "filter_db": (-20.0, 20.0)}, 0),
    Panel(
        "FilterAugment, step",
        {"filter_prob": 1.0, "filter_type": "step", "filter_db": (-20.0, 20.0)},
        0,
    ),
    Panel(
        "FilterAugment, step (encoder input)",
        {"filter_prob": 1.0, "filter_type": "step", "filter_db": (-20.0, 20.0)},
        0,
        True,
    ),
)
GROUPS = {"waveforms": WAVEFORMS, "times": TIMES, "spectra": SPECTRA}


def made_clips() -> tuple[Tensor, Tensor]:
    """Waveforms (2, sample) of made-up sounds, and their labels (2, class, frame)."""
    noise = np.random.default_rng(0)
    time_s = np.arange(N_SAMPLES) / RATE
    waveform = 0.002 * noise.standard_normal((2, N_SAMPLES))
    target = np.zeros((2, len(CLASSES), N_LABELS), dtype=np.float32)

    def add(clip: int, name: str, onset_s: float, offset_s: float, sound: Any) -> None:
        inside = (time_s >= onset_s) & (time_s < offset_s)
        waveform[clip, inside] += sound[inside]
        first, behind = (round(one * RATE / 1024) for one in (onset_s, offset_s))
        target[clip, CLASSES.index(name), first:behind] = 1

    beeps = sum(np.sin(2 * np.pi * 900 * k * time_s) / k for k in (1, 2, 3, 5))
    barks = sum(np.sin(2 * np.pi * 350 * k * time_s + np.sin(9 * time_s)) / k for k in range(1, 12))
    rush = np.convolve(noise.standard_normal(N_SAMPLES), [1.0, -0.6], mode="same")
    add(0, "alarm", 1.0, 3.0, 0.2 * beeps * (np.sin(2 * np.pi * 4 * time_s) > 0))
    add(0, "dog", 5.0, 5.6, 0.15 * barks)
    add(0, "dog", 6.2, 6.7, 0.15 * barks)
    add(1, "water", 3.5, 9.0, 0.05 * rush)
    return torch.from_numpy(waveform).float(), torch.from_numpy(target)


def small_loudspeaker() -> DeviceResponses:
    """A response that passes 500 to 3000 Hz, with an echo."""
    place = np.arange(-200, 201) / RATE
    band = 2 * 3000 * np.sinc(2 * 3000 * place) - 2 * 500 * np.sinc(2 * 500 * place)
    kernel = torch.zeros(1, 1200)
    kernel[0, :401] = torch.from_numpy(band * np.hamming(401) / RATE).float()
    kernel[0, 800:] += 0.3 * kernel[0, :400].clone()
    return DeviceResponses(kernel, kernel.abs().argmax(1))


def augmented(panel: Panel, encoder: AtstFrame) -> tuple[Tensor, Tensor]:
    """The first clip as a panel shows it: decibel (band, frame) and labels (class, frame)."""
    waveform, target = made_clips()
    assert encoder.spectrum is not None
    augmentation = StepAugmentation(
        ROLES,
        FrameTimes(4, 62.5, (encoder.spectrum.frame_rate,)),
        BandScale(128, 0.0, 8000.0),
        (encoder.spectrum,),
        responses=small_loudspeaker(),
        **panel.values,
    )
    source, draws = torch.zeros(2, dtype=torch.long), torch.Generator().manual_seed(panel.seed)
    waveform, (target,) = augmentation.waveforms(waveform, (target,), source, draws)
    known = torch.ones(2, len(CLASSES), dtype=torch.bool)
    encoded = encoder.front_end(waveform)
    mel = LogMel()(waveform)
    inputs = StepInputs(mel, (encoded,), torch.empty(2, 0), target, None, known)
    done = augmentation(inputs, source, draws).student
    if panel.encoders:
        shown = done.encoder_inputs[0][0] / encoder.spectrum.per_db
    else:
        shown = to_db(done.mel)[0]
    return shown, done.target[0]


def draw(panels: tuple[Panel, ...], encoder: AtstFrame) -> Figure:
    """A figure with the clip as it is, and one picture for each panel."""
    first = [Panel("as recorded", {})]
    if any(panel.encoders for panel in panels):
        first.append(Panel("as recorded (encoder input)", {}, encoders=True))
    shown = [*first, *panels]
    n_columns = 2
    n_rows = -(-len(shown) // n_columns)
    figure = Figure(figsize=(9, 2.1 * n_rows), layout="constrained")
    axes = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for ax, panel in zip(axes, shown, strict=False):
        decibel, labels = augmented(panel, encoder)
        top = 30.0 if not panel.encoders else float(decibel.amax())
        extent = (0.0, 10.0, 0.0, float(len(decibel)))
        limits = {"vmin": top - 70, "vmax": top}
        ax.imshow(decibel, aspect="auto", origin="lower", extent=extent, cmap="magma", **limits)
        height = len(decibel)
        for number, (name, row) in enumerate(zip(CLASSES, labels, strict=True)):
            place = height * (1.08 + 0.11 * number)
            edges = np.flatnonzero(np.diff(row.numpy(), prepend=0, append=0)).tolist()
            for first, behind in pairwise(edges):
                ends = [first * 0.064, behind * 0.064]
                style = {"color": ANNOTATED, "lw": 4, "solid_capstyle": "butt"}
                ax.plot(ends, [place] * 2, alpha=float(row[first]), **style)
            ax.text(-0.1, place, name, ha="right", va="center", fontsize=6)
        ax.set(xlim=(0, 10), ylim=(0, height * 1.4))
        ax.set_yticks([])
        ax.tick_params(labelsize=7)
        ax.set_title(panel.title, fontsize=9)
    for ax in axes[len(shown) :]:
        ax.remove()
    for ax in figure.axes[-n_columns:]:
        ax.set_xlabel("time / s", fontsize=8)
    return figure


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    folder = parser.parse_args().folder
    torch.manual_seed(0)
    encoder = AtstFrame(BlockSizes(64, 64, 1))
    for name, panels in GROUPS.items():
        path = folder / FILE.format(name)
        draw(panels, encoder).savefig(path, dpi=80)
        with Image.open(path) as picture:
            small = picture.convert("RGB").quantize(224, dither=Image.Dither.NONE)
        small.save(path, optimize=True)
        print(path)


if __name__ == "__main__":
    main()
