"""Plot clips: waveform, log-mel and labels over one time axis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from desed_task.atomic_files import atomic_path
from desed_task.audio.clip_files import clip_files
from desed_task.audio.files import read_clip
from desed_task.dataio.annotations import read_strong_table, read_weak_table
from desed_task.errors import InputError, command_name
from desed_task.features import LogMel
from desed_task.file_names import LONGEST_NAME, shorten_name
from local.classes_dict import VOCABULARY
from local.config import SHIPPED, load_config
from local.data.expected_clips import names_on_disk
from local.pictures import palette
from local.prep.layout import DataLayout

_SAMPLE_RATE = 16000
_CLIP_S = 10.0
# Dynamic range of the spectrogram in decibels below its maximum.
_DEPTH_DB = 70.0
_TICKS_HZ = (250, 500, 1000, 2000, 4000, 8000)
_WAVE = "0.35"


class PlotLabel(NamedTuple):
    """A bar of a plot: class, times and confidence of the annotation."""

    name: str
    onset_s: float
    offset_s: float
    confidence: float = 1.0


class _Kind(NamedTuple):
    title: str
    folder_key: str
    table_key: str
    weak: bool = False


# The sets to plot, in this order.
_KINDS = (
    _Kind("synthetic", "synth_folder", "synth_tsv"),
    _Kind("MAESTRO real, soft labels", "real_maestro_val_folder", "real_maestro_val_tsv"),
    _Kind("DESED validation", "test_folder", "test_tsv"),
    _Kind("weak: classes without times", "weak_folder", "weak_tsv", weak=True),
    _Kind("strong real", "strong_folder", "strong_tsv"),
    _Kind("MAESTRO real, soft labels", "real_maestro_train_folder", "real_maestro_train_tsv"),
)


def plot_clips(basedir: Path, out_dir: Path, n_clips: int = 6) -> list[Path]:
    """Plot some clips of the prepared corpus below `basedir`, set by set.

    Args:
        basedir: contains `dcase/dataset/...` with 16 kHz audio.
        out_dir: folder of the PNG files; created if missing.
        n_clips: number of plots.

    Returns:
        Paths of the plots.

    Raises:
        InputError: nothing below `basedir` can be plotted.
    """
    layout = DataLayout(load_config(SHIPPED / "pretrained.yaml").data, basedir, basedir)
    found = {kind: _labelled(layout, kind) for kind in _KINDS}
    pictures = []
    for number in range(n_clips):
        kind = _KINDS[number % len(_KINDS)]
        clips = found[kind]
        if clips:
            # Steps of no divisor of most sets' lengths, so that different classes turn up.
            path, labels = clips[(37 * number + 11) % len(clips)]
            name = shorten_name(f"{number:02d}_{kind.folder_key}_{path.stem}", LONGEST_NAME - 4)
            picture = out_dir / f"{name}.png"
            plot_clip(path, labels, picture, title=f"{path.name} ({kind.title})")
            pictures.append(picture)
    if not pictures:
        raise InputError(
            f"{basedir}: contains no labelled clips to plot; make them with "
            f"{command_name('generate_dcase_task4_2024.py')} --mini"
        )
    return pictures


def plot_clip(path: Path, labels: Sequence[PlotLabel], out_path: Path, *, title: str) -> None:
    """Plot one clip: waveform, the network's log-mel, and a row of bars per class.

    Args:
        path: 16 kHz file; its first 10 s are plotted.
        labels: its events; bars of soft labels are as high as their confidence.
        out_path: the PNG file.
        title: title of the plot.
    """
    clip = read_clip(
        path, sample_rate=_SAMPLE_RATE, n_samples=round(_CLIP_S * _SAMPLE_RATE), rng=None
    )
    names = sorted({label.name for label in labels})
    height = 4.6 + 0.3 * max(1, len(names))
    figure = Figure(figsize=(10, height), layout="constrained")
    wave, mel, bars = figure.subplots(
        3, 1, sharex=True, height_ratios=[1.1, 2.9, 0.3 + 0.32 * max(1, len(names))]
    )
    _draw_wave(wave, clip.waveform)
    _draw_mel(mel, clip.waveform)
    _draw_labels(bars, labels, names)
    wave.set_title(title, loc="left", fontsize=11, parse_math=False)
    bars.set_xlim(0, _CLIP_S)
    if clip.duration_s < _CLIP_S:
        for axes in (wave, mel, bars):
            axes.axvline(clip.duration_s, color="crimson", linewidth=1)
        wave.annotate(
            "end of file", (clip.duration_s, 1), color="crimson", fontsize=8,
            xycoords=("data", "axes fraction"), xytext=(3, -10), textcoords="offset points",
        )  # fmt: skip
    with atomic_path(out_path) as temporary:
        figure.savefig(temporary, dpi=110)


def _labelled(layout: DataLayout, kind: _Kind) -> list[tuple[Path, list[PlotLabel]]]:
    """Clips of a set that are on disk, with their labels, in the table's order."""
    table, folder = layout.found(kind.table_key), layout.found(kind.folder_key)
    if not table.is_file():
        return []
    if kind.weak:
        weak = read_weak_table(table, VOCABULARY)
        labels = {
            clip_id: [PlotLabel(VOCABULARY[i], 0.0, _CLIP_S) for i in np.flatnonzero(row)]
            for clip_id, row in zip(weak.clip_ids, weak.target, strict=True)
        }
    else:
        strong = read_strong_table(table, VOCABULARY)
        labels = {
            clip_id: [
                PlotLabel(VOCABULARY[index], *times)
                for *bounds, index, confidence in zip(*strong.events_of(clip_id), strict=True)
                for times in [(*map(float, bounds), float(confidence))]
            ]
            for clip_id in strong.clip_ids
        }
    files = clip_files(folder)
    names = names_on_disk(table, labels, folder, files)
    return [(files[names[clip_id]], labels[clip_id]) for clip_id in labels if clip_id in names]


def _draw_wave(axes: Axes, waveform: np.ndarray) -> None:
    # Extremes of short blocks look like the full curve and are fast to draw.
    blocks = waveform[: len(waveform) // 80 * 80].reshape(-1, 80)
    times = (np.arange(len(blocks)) + 0.5) * 80 / _SAMPLE_RATE
    axes.fill_between(times, blocks.min(axis=1), blocks.max(axis=1), color=_WAVE, linewidth=0)
    limit = max(float(np.abs(waveform).max()), 0.01) * 1.05
    axes.set_ylim(-limit, limit)
    axes.set_ylabel("amplitude")


def _draw_mel(axes: Axes, waveform: np.ndarray) -> None:
    front_end = LogMel(sample_rate=_SAMPLE_RATE)
    with torch.no_grad():
        log_mel = front_end.to_db(front_end(torch.from_numpy(waveform)[None]))[0].numpy()
    top = max(float(log_mel.max()), -45.0)
    axes.imshow(
        log_mel, origin="lower", aspect="auto", cmap="magma", vmin=top - _DEPTH_DB, vmax=top,
        extent=(0, _CLIP_S, 0, _mel(8000)), interpolation="nearest",
    )  # fmt: skip
    axes.set_yticks([_mel(hz) for hz in _TICKS_HZ], [f"{hz / 1000:g}" for hz in _TICKS_HZ])
    axes.set_ylabel("kHz (mel scale)")


def _mel(frequency_hz: float) -> float:
    return 2595 * float(np.log10(1 + frequency_hz / 700))


def _draw_labels(axes: Axes, labels: Sequence[PlotLabel], names: Sequence[str]) -> None:
    soft = any(label.confidence < 1 for label in labels)
    edge = palette.ANNOTATED if soft else "white"
    for label in labels:
        axes.bar(
            label.onset_s, -0.86 * label.confidence, label.offset_s - label.onset_s,
            bottom=names.index(label.name) + 0.43, align="edge",
            color=palette.ANNOTATED, edgecolor=edge, linewidth=0.5,
        )  # fmt: skip
    axes.set_ylim(max(1, len(names)) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("seconds" + (" (bars: as high as the soft label)" if soft else ""))
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    if not names:
        axes.text(_CLIP_S / 2, 0, "no events", ha="center", va="center", color="0.4")
