"""The front end: waveform -> mel magnitudes -> decibel -> scaled (docs/method.md, Front end).

Augmentation that adds clips (mixup) works on the magnitudes, so the decibel step and the scaler
are separate: `Scaler(...)(log_mel.to_db(mixup(log_mel(waveform))))`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from desed_task.errors import InputError
from desed_task.kernels.choice import runs_on_cpu
from desed_task.kernels.pieces import run_pieces

AMPLITUDE_FLOOR: Final = 1e-5
DB_RANGE: Final = (-50.0, 80.0)
SCALE_FLOOR: Final = 1e-8  # keeps the scale of a constant (silent) clip from being zero
LOG_POWER_PER_DB: Final = math.log(10) / 10  # natural logarithm

Statistic = Literal["instance", "dataset"]
NormType = Literal["minmax", "standard", "mean"]


class LogMel(nn.Module):
    """Mel spectrogram of HTK bands over an STFT with a symmetric Hamming window.

    Its buffers are named as in the published checkpoint (`spectrogram.window`, `mel_scale.fb`), so
    that a module attribute called `mel_spec` loads from one.

    Args:
        sample_rate: of the waveforms, Hz.
        n_fft: length of the FFT in samples.
        win: length of the window in samples, at most `n_fft`.
        hop_samples: step between frames.
        n_mels: number of bands.
        f_min: lower edge of the first band, Hz.
        f_max: upper edge of the last band, Hz.

    Raises:
        InputError: for a window longer than the FFT, or band edges that are not
            0 <= f_min < f_max <= sample_rate / 2.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 2048,
        win: int = 2048,
        hop_samples: int = 256,
        n_mels: int = 128,
        f_min: float = 0.0,
        f_max: float = 8000.0,
    ) -> None:
        super().__init__()
        if not 0 <= f_min < f_max <= sample_rate / 2:
            raise InputError(
                f"feats: bands from {f_min} to {f_max} Hz do not fit audio of {sample_rate} Hz; "
                f"choose 0 <= f_min < f_max <= {sample_rate / 2}"
            )
        self.spectrogram = _Magnitude(n_fft, win, hop_samples)
        self.mel_scale = _MelScale(mel_filters(n_fft // 2 + 1, n_mels, sample_rate, f_min, f_max))

    def forward(self, waveform: Tensor) -> Tensor:
        """Mel magnitudes.

        Args:
            waveform: (batch, sample), float32 in [-1, 1], at least n_fft // 2 + 1 samples long.

        Returns:
            (batch, mel, frame), not negative; frame = sample // hop + 1.
        """
        # Half precision would round the squared magnitudes away; the cost here is small anyway.
        with torch.autocast(waveform.device.type, enabled=False):
            waveform = waveform.float()
            if runs_on_cpu(waveform) and not waveform.requires_grad and len(waveform) > 1:
                return self._by_clip(waveform)
            mel: Tensor = self.mel_scale(self.spectrogram(waveform))
        return mel

    def _by_clip(self, waveform: Tensor) -> Tensor:
        """The same, clip by clip: frames and spectrum of a clip fit the cache, a batch's do not."""
        n_frames = waveform.shape[-1] // self.spectrogram.hop_samples + 1
        # Frame-major, as `_MelScale` stores its result.
        mel = waveform.new_empty(len(waveform), n_frames, self.mel_scale.fb.shape[1])

        def fill(clip: int) -> None:
            found = self.mel_scale(self.spectrogram(waveform[clip : clip + 1]))
            mel[clip] = found[0].transpose(0, 1)

        run_pieces(fill, range(len(waveform)))
        return mel.transpose(1, 2)

    def to_db(self, mel: Tensor) -> Tensor:
        """Decibel of mel magnitudes, clamped to [-50, 80]; any shape, see `to_db`."""
        return to_db(mel)


class _Magnitude(nn.Module):
    """|STFT|: (batch, sample) -> (batch, frequency, frame), centred, edges reflected."""

    window: Tensor

    def __init__(self, n_fft: int, win: int, hop_samples: int) -> None:
        super().__init__()
        if win > n_fft:
            raise InputError(f"feats: a window of {win} samples is longer than the FFT of {n_fft}")
        self.n_fft, self.win, self.hop_samples = n_fft, win, hop_samples
        self.register_buffer("window", torch.hamming_window(win, periodic=False))

    def forward(self, waveform: Tensor) -> Tensor:
        spectrum = torch.stft(
            waveform,
            self.n_fft,
            self.hop_samples,
            self.win,
            self.window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        if spectrum.requires_grad or spectrum.device.type != "cpu":
            return spectrum.abs()
        # abs() guards its squares against overflow, which on a CPU takes three times as long.
        real, imaginary = spectrum.real, spectrum.imag
        return torch.addcmul(real.square(), imaginary, imaginary).sqrt_()


class _MelScale(nn.Module):
    """(batch, frequency, frame) -> (batch, mel, frame); the result is stored frame-major."""

    fb: Tensor

    def __init__(self, filters: Tensor) -> None:
        super().__init__()
        self.register_buffer("fb", filters)

    def forward(self, magnitude: Tensor) -> Tensor:
        return (magnitude.transpose(-1, -2) @ self.fb).transpose(-1, -2)


def mel_filters(
    n_frequencies: int, n_mels: int, sample_rate: int, f_min: float, f_max: float
) -> Tensor:
    """Triangular filters, peak 1, corners equally spaced on the HTK mel scale.

    Args:
        n_frequencies: bins of the half spectrum, from 0 to sample_rate / 2 Hz.
        n_mels: number of filters.
        sample_rate: Hz.
        f_min: lower corner of the first filter, Hz.
        f_max: upper corner of the last filter, Hz.

    Returns:
        (frequency, mel) weights, not negative.
    """
    frequency_hz = torch.linspace(0, sample_rate // 2, n_frequencies)
    corner_mel = torch.linspace(_to_mel(f_min), _to_mel(f_max), n_mels + 2)
    corner_hz = 700.0 * (10.0 ** (corner_mel / 2595.0) - 1.0)
    width_hz = corner_hz.diff()
    distance_hz = corner_hz - frequency_hz[:, None]
    rising = -distance_hz[:, :-2] / width_hz[:-1]
    falling = distance_hz[:, 2:] / width_hz[1:]
    return torch.minimum(rising, falling).clamp(min=0.0)


def _to_mel(frequency_hz: float) -> float:
    return 2595.0 * math.log10(1.0 + frequency_hz / 700.0)


def to_db(magnitude: Tensor) -> Tensor:
    """20 log10 of magnitudes (any shape), clamped to [-50, 80] dB."""
    return (20.0 * magnitude.clamp(min=AMPLITUDE_FLOOR).log10()).clamp(*DB_RANGE)


class SpectrumLayout(NamedTuple):
    """What `Encoder.front_end` gives, for augmentations that work on it.

    Attributes:
        per_db: by how much a value rises if the band is 1 dB louder, above any floor.
        centres_hz: centre of each band, ascending.
        frame_rate: frames per second.
    """

    per_db: float
    centres_hz: tuple[float, ...]
    frame_rate: float


def mel_centres_hz(n_mels: int, f_min: float, f_max: float) -> tuple[float, ...]:
    """Centres of bands that are equally spaced in log(1 + f / 700), as HTK's and Kaldi's are, Hz.

    Args:
        n_mels: number of bands.
        f_min: lower corner of the first band, Hz.
        f_max: upper corner of the last band, Hz.
    """
    low, high = (math.log1p(hz / 700) for hz in (f_min, f_max))
    step = (high - low) / (n_mels + 1)
    return tuple(700 * math.expm1(low + step * (band + 1)) for band in range(n_mels))


class Scaler(nn.Module):
    """Scales log-mel clips to a common range (docs/method.md, Front end).

    With statistic "instance" each clip has its own statistics and the module has no state. With
    "dataset" they are fitted once and kept as the buffers `shift` and `scale`, so that they are
    part of the state_dict.

    Args:
        statistic: "instance" or "dataset".
        normtype: "minmax" (to [-1, 1]; a silent clip becomes -1), "standard" (zero mean, unit
            deviation: per instance the sample deviation, over n - 1 values, of a data set the
            population deviation) or "mean" (zero mean).
        dims: axes of (batch, mel, frame) that share one statistic: [1, 2], [1] or [2]; with
            "dataset" always together with the batch axis.

    Raises:
        InputError: for an unknown name or axis.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        statistic: Statistic = "instance",
        normtype: NormType = "minmax",
        dims: Sequence[int] = (1, 2),
    ) -> None:
        super().__init__()
        _check_known("scaler.statistic", statistic, get_args(Statistic))
        _check_known("scaler.normtype", normtype, get_args(NormType))
        if sorted(dims) not in ([1], [2], [1, 2]):
            raise InputError(
                f"scaler.dims: {list(dims)} given; give [1, 2], [1] or [2] (1: mel, 2: frame)"
            )
        self.statistic, self.normtype, self.dims = statistic, normtype, tuple(dims)
        self.fitted = statistic == "instance"
        if statistic == "dataset":
            self.register_buffer("shift", torch.zeros(1, 1, 1))
            self.register_buffer("scale", torch.ones(1, 1, 1))

    def forward(self, log_mel: Tensor) -> Tensor:
        """Scaled copy of (batch, mel, frame).

        Raises:
            InputError: if dataset statistics were neither fitted nor loaded.
        """
        if not self.fitted:
            raise InputError(
                "scaler: the dataset statistics are not fitted; call fit() on the training set or "
                "load the file named by scaler.savepath"
            )
        if self.statistic == "dataset":
            shift, scale = self.shift, self.scale
        else:
            shift, scale = _measure(self.normtype, log_mel, self.dims).of_sample()
        scaled = (log_mel - shift) / scale
        return scaled - 1.0 if self.normtype == "minmax" else scaled

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Set the dataset statistics from log-mel batches (batch, mel, frame), in one pass.

        Raises:
            InputError: if there is no batch, or the scaler works per instance.
        """
        if self.statistic != "dataset":
            raise InputError("scaler: statistic 'instance' needs no fit; 'dataset' does")
        # In float64, as a mean over hours of frames would lose digits otherwise.
        found = (_measure(self.normtype, _double(batch), (0, *self.dims)) for batch in batches)
        total = next(found, None)
        if total is None:
            raise InputError("scaler: the training set has no clips to fit the statistics on")
        for measured in found:
            total = total.merged(measured)
        shift, scale = total.shift_and_scale()
        self.shift = shift.to(self.shift.dtype).to(self.shift.device)
        self.scale = scale.to(self.scale.dtype).to(self.scale.device)
        self.fitted = True

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # With one statistic per band the shape is known only from the data, here the file's.
        if self.statistic == "dataset" and f"{prefix}shift" in state_dict:
            self.shift = self.shift.new_empty(state_dict[f"{prefix}shift"].shape)
            self.scale = self.scale.new_empty(state_dict[f"{prefix}shift"].shape)
            self.fitted = True
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _double(x: Tensor) -> Tensor:
    """A copy in float64, where the device has it; Macs' GPUs do not."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def _measure(normtype: NormType, x: Tensor, dims: tuple[int, ...]) -> _Range | _Moments:
    """Statistics for `normtype` of (batch, mel, frame) over the axes `dims` (kept with size 1)."""
    if normtype == "minmax":
        return _Range(x.amin(dims, keepdim=True), x.amax(dims, keepdim=True))
    variance, mean = torch.var_mean(x, dims, correction=0, keepdim=True)
    n_values = math.prod(x.shape[dim] for dim in dims)
    return _Moments(n_values, mean, variance, centre_only=normtype == "mean")


class _Range(NamedTuple):
    low: Tensor
    high: Tensor

    def merged(self, other: Any) -> _Range:
        return _Range(torch.minimum(self.low, other.low), torch.maximum(self.high, other.high))

    def shift_and_scale(self) -> tuple[Tensor, Tensor]:
        return self.low, (self.high - self.low + SCALE_FLOOR) / 2

    def of_sample(self) -> tuple[Tensor, Tensor]:
        return self.shift_and_scale()


class _Moments(NamedTuple):
    n_values: int
    mean: Tensor
    variance: Tensor
    centre_only: bool

    def merged(self, other: Any) -> _Moments:
        """Moments of both sets together (Chan, Golub and LeVeque 1979)."""
        n_values = self.n_values + other.n_values
        share = other.n_values / n_values
        distance = other.mean - self.mean
        between = distance.square() * (share * (1 - share))
        variance = torch.lerp(self.variance, other.variance, share) + between
        return _Moments(n_values, self.mean + distance * share, variance, self.centre_only)

    def shift_and_scale(self) -> tuple[Tensor, Tensor]:
        if self.centre_only:
            return self.mean, torch.ones_like(self.mean)
        return self.mean, self.variance.sqrt() + SCALE_FLOOR

    def of_sample(self) -> tuple[Tensor, Tensor]:
        """Shift and scale with the sample variance (over n - 1) instead of the population's."""
        unbiased = self.variance * (self.n_values / max(self.n_values - 1, 1))
        return self._replace(variance=unbiased).shift_and_scale()


def _check_known(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{key}: unknown {value!r}; known: {', '.join(known)}")
