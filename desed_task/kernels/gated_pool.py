"""Kernels of `nnet.fused_glu_block`: batch norm, GLU, dropout and pooling of a piece of an image.

Images are float32 (clip, frame, value) here, where value runs over mel bands and, fastest, their
channels. So a loop over the values of a frame needs no index of bands and channels, if what belongs
to a channel is repeated for each band: `slope`, `shift` and `mean` are (value,).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from desed_task.kernels.compiled import DRAWS_PER_WORD, compiled, draw_kept, sigmoid
from desed_task.kernels.layout import Dropout, Piece, Pooling

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@compiled
def pool_gated(
    image: Floats,
    linear: Floats,
    slope: Floats,
    shift: Floats,
    pooled: Floats,
    piece: Piece,
    pooling: Pooling,
    dropout: Dropout,
) -> None:
    """Set a piece of `pooled` to avg_pool(dropout(linear * sigmoid(image * slope + shift))).

    Args:
        image: (clip, frame, value).
        linear: (row, value) of the piece, a row for each frame.
        slope: (value,), as `shift`.
        shift: batch norm is image * slope + shift.
        pooled: (clip, pooled frame, pooled band and channel).
        piece: first and last window begin and end with it, but for frames left over by pooling.
        pooling: window.
        dropout: what is dropped.
    """
    width, n_frames = image.shape[2], image.shape[1]
    kept = np.ones(width, np.float32)
    words = np.empty((width + DRAWS_PER_WORD - 1) // DRAWS_PER_WORD, np.uint64)
    total = np.empty(width, np.float32)
    scale = np.float32(dropout.scale / (pooling.frames * pooling.bands))
    length = piece.end_frame - piece.first_frame
    for clip in range(piece.first_clip, piece.end_clip):
        for window in range(length // pooling.frames):
            total[:] = np.float32(0)
            for at in range(window * pooling.frames, (window + 1) * pooling.frames):
                frame = piece.first_frame + at
                if dropout.dropped > 0:
                    row = clip * n_frames + frame
                    draw_kept(kept, words, dropout.seed, row, dropout.dropped)
                values = image[clip, frame]
                mapped = linear[(clip - piece.first_clip) * length + at]
                for i in range(width):
                    gate = sigmoid(np.float32(values[i] * slope[i] + shift[i]))
                    total[i] += mapped[i] * gate * kept[i]
            _pool_bands(
                total, pooled[clip, piece.first_frame // pooling.frames + window], pooling, scale
            )


@compiled
def _pool_bands(total: Floats, pooled: Floats, pooling: Pooling, scale: np.float32) -> None:
    channels = pooling.channels
    for band in range(pooled.size // channels):
        for channel in range(channels):
            value = np.float32(0)
            for inner in range(band * pooling.bands, (band + 1) * pooling.bands):
                value += total[inner * channels + channel]
            pooled[band * channels + channel] = value * scale


@compiled
def _unpool_bands(above: Floats, spread: Floats, pooling: Pooling, scale: np.float32) -> None:
    """Give every value of a frame the gradient of its window; 0 to bands left over by pooling."""
    channels = pooling.channels
    spread[:] = np.float32(0)
    for band in range(above.size // channels):
        for inner in range(band * pooling.bands, (band + 1) * pooling.bands):
            for channel in range(channels):
                spread[inner * channels + channel] = above[band * channels + channel] * scale


@compiled
def gate_gradients(
    image: Floats,
    linear: Floats,
    slope: Floats,
    shift: Floats,
    above: Floats,
    grad: Floats,
    piece: Piece,
    pooling: Pooling,
    dropout: Dropout,
) -> Doubles:
    """Compute gradients of `pool_gated`, of its linear map and, by the gate alone, of batch norm.

    Args:
        image: as `linear`, `slope`, `shift`, `piece`, `pooling` and `dropout` of `pool_gated`.
        linear: replaced by its gradient.
        slope: see `image`.
        shift: see `image`.
        above: gradient of `pooled`.
        grad: like the image; set to the gradient of the batch norm's output by the gate.
        piece: see `image`.
        pooling: see `image`.
        dropout: see `image`.

    Returns:
        Sum (channel,) of the linear map's gradient over the piece.
    """
    width, n_frames = image.shape[2], image.shape[1]
    kept = np.ones(width, np.float32)
    words = np.empty((width + DRAWS_PER_WORD - 1) // DRAWS_PER_WORD, np.uint64)
    spread, total = np.empty(width, np.float32), np.zeros(width, np.float32)
    scale = np.float32(dropout.scale / (pooling.frames * pooling.bands))
    length = piece.end_frame - piece.first_frame
    used = length // pooling.frames * pooling.frames
    for clip in range(piece.first_clip, piece.end_clip):
        for at in range(length):
            frame = piece.first_frame + at
            of_linear = linear[(clip - piece.first_clip) * length + at]
            of_image = grad[clip, frame]
            if at >= used:
                of_linear[:] = np.float32(0)
                of_image[:] = np.float32(0)
                continue
            if at % pooling.frames == 0:
                _unpool_bands(above[clip, frame // pooling.frames], spread, pooling, scale)
            if dropout.dropped > 0:
                draw_kept(kept, words, dropout.seed, clip * n_frames + frame, dropout.dropped)
            values = image[clip, frame]
            for i in range(width):
                gate = sigmoid(np.float32(values[i] * slope[i] + shift[i]))
                upper = spread[i] * kept[i]
                open_ = upper * gate
                of_image[i] = open_ * of_linear[i] * (np.float32(1) - gate)
                of_linear[i] = open_
                total[i] += open_
    return _over_bands(total, pooling.channels)


@compiled
def _over_bands(total: Floats, channels: int) -> Doubles:
    """Sum (channel,) of (value,)."""
    found = np.zeros(channels, np.float64)
    for i in range(total.size):
        found[i % channels] += total[i]
    return found


@compiled
def norm_gradients(
    image: Floats, grad: Floats, mean: Floats, piece: Piece, channels: int
) -> tuple[Doubles, Doubles]:
    """Return the sums (channel,) of grad and of grad * (image - mean) over a piece."""
    width = image.shape[2]
    total, along = np.zeros(width, np.float32), np.zeros(width, np.float32)
    for clip in range(piece.first_clip, piece.end_clip):
        for frame in range(piece.first_frame, piece.end_frame):
            values, gradient = image[clip, frame], grad[clip, frame]
            for i in range(width):
                total[i] += gradient[i]
                along[i] += gradient[i] * (values[i] - mean[i])
    return _over_bands(total, channels), _over_bands(along, channels)


@compiled
def through_moments(
    image: Floats, grad: Floats, slope: Floats, along: Floats, constant: Floats, piece: Piece
) -> None:
    """Set a piece of `grad` to grad * slope + image * along + constant; the last are (value,)."""
    for clip in range(piece.first_clip, piece.end_clip):
        for frame in range(piece.first_frame, piece.end_frame):
            values, gradient = image[clip, frame], grad[clip, frame]
            for i in range(image.shape[2]):
                gradient[i] = gradient[i] * slope[i] + (values[i] * along[i] + constant[i])


@compiled
def piece_moments(image: Floats, piece: Piece, channels: int) -> tuple[Doubles, Doubles]:
    """Return the mean (channel,) of a piece, and the sum of the squared distances from it."""
    width = image.shape[2]
    total = np.zeros(width, np.float32)
    for clip in range(piece.first_clip, piece.end_clip):
        for frame in range(piece.first_frame, piece.end_frame):
            values = image[clip, frame]
            for i in range(width):
                total[i] += values[i]
    n_frames = (piece.end_clip - piece.first_clip) * (piece.end_frame - piece.first_frame)
    means = _over_bands(total, channels) / (n_frames * (width // channels))
    mean, squares = np.empty(width, np.float32), np.zeros(width, np.float32)
    for i in range(width):
        mean[i] = means[i % channels]
    for clip in range(piece.first_clip, piece.end_clip):
        for frame in range(piece.first_frame, piece.end_frame):
            values = image[clip, frame]
            for i in range(width):
                distance = values[i] - mean[i]
                squares[i] += distance * distance
    return means, _over_bands(squares, channels)
