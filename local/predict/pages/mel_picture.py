"""A mel spectrogram as a small PNG, one pixel per column and band, and ticks of its frequencies."""

from __future__ import annotations

import struct
import zlib

import matplotlib
import numpy as np
from numpy.typing import NDArray

from local.predict.mel_image import MelImage
from local.predict.timeline import DECIBELS_SHOWN, KILOHERTZ

COLOUR_MAP = "magma"


def mel_png(mel: MelImage) -> bytes:
    """The picture, as the timeline colours it; the lowest band is its lowest row."""
    decibel = mel.decibel
    top = max(float(decibel.max()), DECIBELS_SHOWN - 50.0)  # silence remains dark
    shades = np.clip((decibel - (top - DECIBELS_SHOWN)) / DECIBELS_SHOWN, 0, 1)
    return _indexed_png(np.rint(shades[::-1] * 255).astype(np.uint8))


def tick_places(mel: MelImage) -> list[tuple[str, float]]:
    """Kilohertz as text, and their height from the bottom as a part of the picture's."""
    shown = [khz for khz in KILOHERTZ if khz * 1000 <= mel.highest_hz]
    bands = mel.bands_of(1000 * np.array(shown)) / len(mel.decibel)
    return [(f"{khz:g}", float(band)) for khz, band in zip(shown, bands, strict=True)]


def _indexed_png(shades: NDArray[np.uint8]) -> bytes:
    """An image (row, column) of 256 shades: a third of the bytes of one in true colour."""
    height, width = shades.shape
    colours = matplotlib.colormaps[COLOUR_MAP](np.arange(256), bytes=True)[:, :3]
    rows = np.pad(shades, [(0, 0), (1, 0)])  # no filter: differences of noise are no smaller
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", colours.tobytes()),
        (b"IDAT", zlib.compress(rows.tobytes(), 6)),
        (b"IEND", b""),
    )
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, content in chunks:
        checksum = zlib.crc32(kind + content)
        parts += [struct.pack(">I", len(content)), kind, content, struct.pack(">I", checksum)]
    return b"".join(parts)
