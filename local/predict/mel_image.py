"""Compute the mel spectrogram of a recording of any length in a bounded number of columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from desed_task.features import LogMel, to_db

MAX_COLUMNS = 2000
_BATCH_HOPS = 1000


class MelImage:
    """Mel magnitudes, averaged over longer times as the recording gets longer.

    Attributes:
        highest_hz: upper end of the bands.

    Args:
        log_mel: arguments of `LogMel`.
        most_columns: at twice as many, neighbours are averaged.
    """

    def __init__(self, log_mel: dict[str, Any], *, most_columns: int = MAX_COLUMNS) -> None:
        self._log_mel = LogMel(**log_mel)
        self.highest_hz = float(log_mel.get("f_max", 8000.0))
        spectrogram = self._log_mel.spectrogram
        self._hop, self._least = spectrogram.hop_samples, spectrogram.n_fft
        self._rate = log_mel.get("sample_rate", 16000)
        self._most = most_columns
        self._hops_a_column = 1
        self._columns: list[NDArray[np.float32]] = []
        self._n_columns = 0
        self._hops = np.empty((self._log_mel.mel_scale.fb.shape[1], 0), dtype=np.float32)
        self._rest = np.empty(0, dtype=np.float32)

    def watch(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Pass blocks (sample,) through and add them to the image."""
        for block in blocks:
            self._rest = np.concatenate([self._rest, block])
            while len(self._rest) >= _BATCH_HOPS * self._hop:
                n_samples = _BATCH_HOPS * self._hop
                self._take(self._rest[:n_samples])
                self._rest = self._rest[n_samples:]
            yield block
        if len(self._rest):
            self._take(self._rest)
            self._rest = self._rest[:0]

    @property
    def column_s(self) -> float:
        """Seconds per column."""
        return self._hops_a_column * self._hop / self._rate

    @property
    def decibel(self) -> NDArray[np.float32]:
        """(mel, column)."""
        columns = list(self._columns)
        if self._hops.shape[1]:
            columns.append(self._hops.mean(axis=1, keepdims=True))
        decibel: NDArray[np.float32] = to_db(torch.from_numpy(np.hstack(columns))).numpy()
        return decibel

    def bands_of(self, hz: NDArray[np.floating]) -> NDArray[np.float64]:
        """Fractional rows of the image whose centres are at the frequencies."""
        filters = self._log_mel.mel_scale.fb.numpy()
        centres = filters.argmax(axis=0) * (self._rate / 2 / (len(filters) - 1))
        bands: NDArray[np.float64] = np.interp(hz, centres, np.arange(len(centres)) + 0.5)
        return bands

    @torch.inference_mode()
    def _take(self, samples: NDArray[np.float32]) -> None:
        n_hops = -(-len(samples) // self._hop)
        missing = max(
            self._least - len(samples), 0
        )  # a signal shorter than a window has no spectrum
        waveform = torch.from_numpy(np.pad(samples, (0, missing)))
        mel = self._log_mel(waveform[None])[0, :, :n_hops].numpy()
        self._hops = np.hstack([self._hops, mel])
        while self._n_columns + self._hops.shape[1] // self._hops_a_column >= 2 * self._most:
            self._halve()
        whole = self._hops.shape[1] // self._hops_a_column * self._hops_a_column
        new = self._hops[:, :whole].reshape(len(mel), -1, self._hops_a_column).mean(axis=2)
        self._columns.append(new)
        self._n_columns += new.shape[1]
        self._hops = self._hops[:, whole:]

    def _halve(self) -> None:
        """Average neighbouring columns; an odd one is averaged with later ones."""
        together = np.hstack([np.empty((len(self._hops), 0), np.float32), *self._columns])
        if together.shape[1] % 2:
            again = np.repeat(together[:, -1:], self._hops_a_column, axis=1)
            self._hops = np.hstack([again, self._hops])
            together = together[:, :-1]
        self._columns = [together.reshape(len(together), -1, 2).mean(axis=2)]
        self._n_columns = self._columns[0].shape[1]
        self._hops_a_column *= 2
