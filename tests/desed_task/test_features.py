"""The front end against the published one, closed forms and torch's own statistics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from desed_task.errors import InputError
from desed_task.features import LogMel, Scaler, mel_filters, to_db

Parity = Callable[[str], Path]
NORMTYPES = ("minmax", "standard", "mean")


def clips(n: int = 6, seed: int = 0) -> Tensor:
    """Log-mel-like clips (n, 5, 40) whose bands have different levels."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 5, 40, generator=generator) * 7 + 4 * torch.arange(5)[:, None]


def test_front_end_equals_the_published_one(parity: Parity) -> None:
    expected = torch.load(parity("front_end.pt"), weights_only=True)
    front_end = LogMel()
    mel = front_end(expected["waveform_int16"].float() / 32768)
    torch.testing.assert_close(mel, expected["mel"], rtol=1e-5, atol=1e-5)
    log_mel = front_end.to_db(mel)
    # In dB; the published values are themselves 2.5e-5 away from those computed in float64.
    torch.testing.assert_close(log_mel, expected["log_mel"], rtol=0, atol=5e-5)
    torch.testing.assert_close(Scaler()(log_mel), expected["scaled"], rtol=0, atol=1e-5)


def test_buffers_carry_the_names_of_the_published_checkpoint() -> None:
    shapes = {name: tuple(value.shape) for name, value in LogMel().state_dict().items()}
    assert shapes == {"spectrogram.window": (2048,), "mel_scale.fb": (1025, 128)}


def test_neighbouring_filters_sum_to_one() -> None:
    filters = mel_filters(1025, 40, 16000, 0.0, 8000.0)
    peaks = filters.argmax(0)
    inside = filters[peaks[0] + 1 : peaks[-1]].sum(1)
    torch.testing.assert_close(inside, torch.ones_like(inside))


@pytest.mark.parametrize("frequency_hz", [440.0, 1000.0, 3000.0])
def test_a_tone_is_loudest_in_the_band_around_it(frequency_hz: float) -> None:
    time_s = torch.arange(16000) / 16000
    mel = LogMel(n_mels=64)(torch.sin(2 * torch.pi * frequency_hz * time_s)[None])
    step = 2595 * torch.log10(torch.tensor(1 + 8000 / 700)) / 65
    band = 2595 * torch.log10(torch.tensor(1 + frequency_hz / 700)) / step - 1
    assert (mel[0].mean(1).argmax() - band).abs() <= 1


def test_frames_are_one_a_hop_and_one_more() -> None:
    assert LogMel(hop_samples=250, n_mels=32)(torch.zeros(3, 4000)).shape == (3, 32, 17)


def test_decibel_of_known_magnitudes() -> None:
    magnitude = torch.tensor([0.0, 1e-4, 0.1, 1.0, 10.0, 1e9])
    expected = torch.tensor([-50.0, -50.0, -20.0, 0.0, 20.0, 80.0])
    torch.testing.assert_close(to_db(magnitude), expected)


def test_autocast_does_not_change_the_front_end() -> None:
    waveform = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        mel = LogMel()(waveform)
    assert torch.equal(mel, LogMel()(waveform))


@pytest.mark.parametrize(("f_min", "f_max"), [(0.0, 8001.0), (100.0, 100.0), (-1.0, 8000.0)])
def test_bands_outside_the_audio_are_refused(f_min: float, f_max: float) -> None:
    with pytest.raises(InputError, match=rf"{f_min} to {f_max} Hz do not fit audio of 16000 Hz"):
        LogMel(f_min=f_min, f_max=f_max)


def test_a_window_longer_than_the_fft_is_refused() -> None:
    with pytest.raises(InputError, match="window of 1024 samples is longer than the FFT of 512"):
        LogMel(n_fft=512, win=1024)


@pytest.mark.parametrize("dims", [(1, 2), (2,), (1,)])
def test_instance_statistics(dims: tuple[int, ...]) -> None:
    x = clips()
    ranged = Scaler("instance", "minmax", dims)(x)
    torch.testing.assert_close(ranged.amin(dims), torch.full_like(ranged.amin(dims), -1.0))
    torch.testing.assert_close(ranged.amax(dims), torch.full_like(ranged.amax(dims), 1.0))
    standard = Scaler("instance", "standard", dims)(x)
    unit = torch.ones_like(standard.mean(dims))
    torch.testing.assert_close(standard.std(dims, correction=1), unit)
    centred = Scaler("instance", "mean", dims)(x)
    torch.testing.assert_close(centred.mean(dims), 0 * unit, rtol=0, atol=1e-5)
    torch.testing.assert_close(centred, x - x.mean(dims, keepdim=True))


@pytest.mark.parametrize("normtype", ["standard", "mean"])
@pytest.mark.parametrize("dims", [(1,), (2,), (1, 2)])
def test_statistics_equal_the_published_ones(
    parity: Parity, normtype: str, dims: tuple[int, ...]
) -> None:
    given = torch.load(parity("scaler_standard.pt"), weights_only=True)
    key = f"{normtype}/{','.join(map(str, dims))}"
    found = {"instance": Scaler("instance", normtype, dims)(given["input"])}
    fitted = Scaler("dataset", normtype, dims)
    fitted.fit(given["fit_batches"])
    found["dataset"] = fitted(given["input"])
    for statistic, values in found.items():
        torch.testing.assert_close(
            values, given[statistic][key], rtol=0, atol=1e-5, msg=lambda text: f"{key}: {text}"
        )


def test_one_value_has_no_sample_deviation_and_is_centred() -> None:
    scaled = Scaler("instance", "standard", (2,))(torch.full((2, 3, 1), 7.0))
    assert torch.equal(scaled, torch.zeros(2, 3, 1))


def test_a_silent_clip_becomes_minus_one() -> None:
    assert torch.equal(Scaler()(torch.full((1, 4, 9), -50.0)), torch.full((1, 4, 9), -1.0))


@pytest.mark.parametrize("normtype", NORMTYPES)
@pytest.mark.parametrize("dims", [(1, 2), (2,)])
def test_dataset_statistics_are_those_of_all_clips(normtype: str, dims: tuple[int, ...]) -> None:
    x, new = clips(7), clips(3, seed=1)
    scaler = Scaler("dataset", normtype, dims)
    scaler.fit(iter([x[:2], x[2:3], x[3:]]))
    everywhere = (0, *dims)
    low, high = x.amin(everywhere, keepdim=True), x.amax(everywhere, keepdim=True)
    mean, std = x.mean(everywhere, keepdim=True), x.std(everywhere, correction=0, keepdim=True)
    expected = {
        "minmax": 2 * (new - low) / (high - low) - 1,
        "standard": (new - mean) / std,
        "mean": new - mean,
    }
    torch.testing.assert_close(scaler(new), expected[normtype], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dims", [(1, 2), (2,)])
def test_dataset_statistics_travel_in_the_state(dims: tuple[int, ...], tmp_path: Path) -> None:
    fitted, loaded = Scaler("dataset", "standard", dims), Scaler("dataset", "standard", dims)
    fitted.fit([clips()])
    torch.save(fitted.state_dict(), tmp_path / "scaler.ckpt")
    loaded.load_state_dict(torch.load(tmp_path / "scaler.ckpt", weights_only=True))
    assert torch.equal(loaded(clips(2)), fitted(clips(2)))


def test_an_instance_scaler_has_no_state() -> None:
    assert Scaler().state_dict() == {}


def test_a_scaler_that_was_not_fitted_says_so() -> None:
    with pytest.raises(InputError, match=r"call fit\(\) on the training set or load .*savepath"):
        Scaler("dataset")(clips())


def test_a_fit_without_clips_is_refused() -> None:
    with pytest.raises(InputError, match="has no clips"):
        Scaler("dataset").fit([])


def test_a_fit_per_instance_is_refused() -> None:
    with pytest.raises(InputError, match="'instance' needs no fit"):
        Scaler("instance").fit([clips()])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("clip", "minmax", (1, 2)), "scaler.statistic: unknown 'clip'; known: instance, dataset"),
        (("instance", "max", (1, 2)), "scaler.normtype: unknown 'max'; known: minmax, standard"),
        (("instance", "minmax", (0, 1)), r"scaler.dims: \[0, 1\] given"),
        (("instance", "minmax", ()), r"scaler.dims: \[\] given"),
        (("instance", "minmax", (1, 1)), r"scaler.dims: \[1, 1\] given"),
    ],
)
def test_unknown_scalers_are_refused(arguments: tuple[str, str, tuple], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Scaler(*arguments)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_batch_is_computed_as_its_clips_are(n_threads: int) -> None:
    waveform = torch.randn(5, 20_000, generator=torch.Generator().manual_seed(1))
    log_mel, before = LogMel(n_mels=40), torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        found = log_mel(waveform)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found, torch.cat([log_mel(one[None]) for one in waveform]))
    # With gradients the whole batch is one operation.
    asked = log_mel(waveform.requires_grad_())
    torch.testing.assert_close(found, asked.detach(), rtol=1e-5, atol=1e-6)
    assert asked.requires_grad
