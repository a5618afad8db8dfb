"""The augmentation that a configuration describes."""

from __future__ import annotations

from desed_task.augment.chain import StepAugmentation
from desed_task.augment.filters import BandScale
from desed_task.augment.frames import FrameTimes
from desed_task.encoders.interface import EmbeddingModel, Encoder
from desed_task.errors import InputError
from desed_task.features import SpectrumLayout
from local.config import RecipeConfig
from local.stores.device_responses import device_responses


def augmentation_of(
    config: RecipeConfig, encoder: EmbeddingModel | None
) -> StepAugmentation | None:
    """The configured augmentation of a step; None if all of it is off.

    Args:
        config: its section `augment`, and what the shapes of a step follow from.
        encoder: the encoders that run in the step; None if none does.

    Raises:
        InputError: device responses cannot be used, or an encoder does not say what its
            spectrogram is, and frames or bands of it are to be changed.
    """
    augment = config.augment
    if not augment.is_on:
        return None
    needs_layouts = augment.shift_std or augment.time_mask_prob or augment.filter_prob
    parts = encoder.parts if encoder is not None and needs_layouts else ()
    layouts = tuple(_layout(one) for one in parts)
    feats = config.feats
    times = FrameTimes(
        config.data.net_subsample,
        feats.sample_rate / feats.hop_length,
        tuple(layout.frame_rate for layout in layouts),
    )
    return StepAugmentation(
        config.detection_task.roles,
        times,
        BandScale(feats.n_mels, feats.f_min, feats.f_max),
        layouts,
        interpolates=config.training.consistency == "ict",
        responses=device_responses(config),
        **augment.model_dump(exclude={"device_dir"}),
    )


def _layout(encoder: Encoder) -> SpectrumLayout:
    if encoder.spectrum is None:
        raise InputError(
            f"encoder {encoder.name}: does not say what its spectrogram is, which shift_std, "
            "time_mask_prob and filter_prob of the section augment need; give its class the "
            "attribute `spectrum` (docs/augmentation.md), or turn these off"
        )
    return encoder.spectrum
