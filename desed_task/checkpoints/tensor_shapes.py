"""Network sizes from the tensors of a checkpoint, and shape mismatches."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from desed_task.errors import InputError, agree, count_of

# Part of a tensor's name -> the keys of the configuration that its shape follows from.
_KEYS = (
    (r"^encoder_(student|teacher)\.", "pretrained.model, pretrained.n_blocks"),
    (r"cnn\.conv\d+\.", "net.nb_filters, net.kernel_size"),
    (r"cnn\.(glu|cg)\d+\.", "net.activation, net.nb_filters"),
    (r"cnn\.batchnorm\d+\.", "net.nb_filters"),
    (r"rnn\.rnn\.\w+_l[1-9]", "net.n_layers_RNN, net.n_RNN_cell"),
    (r"rnn\.rnn\.", "net.n_RNN_cell, net.nb_filters"),
    (r"dense_softmax\.", "net.attention, net.nclass, net.n_RNN_cell"),
    (r"dense\.", "net.nclass, net.n_RNN_cell"),
    (r"cat_tf\.", "net.use_embeddings, net.embedding_size, net.aggregation_type, net.nb_filters"),
    (r"(shrink_emb|frame_embs_encoder)\.", "net.aggregation_type, net.embedding_size"),
    (r"mel_spec\.|log_mel\.", "feats.n_window, feats.n_mels"),
    (r"scaler\.", "scaler.statistic"),
)


FRONT_END = "mel_spec."


def shape_mismatches(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """List tensors that are missing, unknown or of another shape, with their configuration keys.

    Args:
        own: state_dict of the module to load.
        given: state_dict of a file.
    """
    absent = own.keys() - given
    if not any(name.startswith(FRONT_END) for name in given):
        # It follows from the settings; see `spec.with_front_end`.
        absent = {name for name in absent if not name.startswith(FRONT_END)}
    problems = [f"{name}: missing in the checkpoint{_keys(name)}" for name in absent]
    problems += [f"{name}: not in the network{_keys(name)}" for name in given.keys() - own]
    problems += [
        f"{name}: shape {tuple(given[name].shape)} in the checkpoint, "
        f"{tuple(own[name].shape)} in the network{_keys(name)}"
        for name in own.keys() & given
        if not _fits(name, own[name], given[name])
    ]
    return sorted(problems)


def _fits(name: str, own: Tensor, given: Tensor) -> bool:
    if name.startswith("scaler."):  # it takes the shape of the statistics it is given
        return own.ndim == given.ndim and len(given) == 1
    return own.shape == given.shape


def _keys(name: str) -> str:
    found = next((keys for part, keys in _KEYS if re.search(part, name)), "")
    return f" (see {found})" if found else ""


def not_finite(state: Mapping[str, Tensor]) -> list[str]:
    """List tensors that contain NaN or infinity."""
    counts = {
        name: int((~value.isfinite()).sum())
        for name, value in state.items()
        if value.is_floating_point()
    }
    return [
        f"{name}: {count} of {count_of(state[name].numel(), 'value')} "
        f"{agree(count, 'is', 'are')} not finite"
        for name, count in counts.items()
        if count
    ]


def front_end_sizes(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Window, FFT and bands of the `LogMel` whose buffers lie below `mel_spec.`; none without any.

    Raises:
        InputError: for buffers that are missing or have another number of axes.
    """
    if not any(name.startswith(FRONT_END) for name in state):
        return {}
    n_frequencies, n_mels = _shape(state, "mel_spec.mel_scale.fb", 2)
    (win,) = _shape(state, "mel_spec.spectrogram.window", 1)
    return {"n_fft": 2 * (n_frequencies - 1), "win": win, "n_mels": n_mels}


def network_sizes(state: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    """Arguments of `CRNN` that follow from the tensors below `prefix`.

    Arguments that shapes do not determine (pooling, stride, padding, dropout, pool1d or
    interpolate, relu or leakyrelu) are left out.

    Raises:
        InputError: for tensors that are missing or have another number of axes than a CRNN's.
    """
    blocks = [
        _shape(state, f"{prefix}cnn.cnn.conv{i}.weight", 4)
        for i in range(_count(state, rf"{re.escape(prefix)}cnn\.cnn\.conv(\d+)\.weight"))
    ]
    if not blocks:
        raise InputError(f"state_dict: no {prefix}cnn.cnn.conv0.weight; it is not of this recipe")
    sizes: dict[str, Any] = {
        "n_in_channel": blocks[0][1],
        "nb_filters": [shape[0] for shape in blocks],
        "kernel_size": [shape[2] for shape in blocks],
        "n_layers_RNN": _count(state, rf"{re.escape(prefix)}rnn\.rnn\.weight_ih_l(\d+)"),
        "n_RNN_cell": _shape(state, f"{prefix}rnn.rnn.weight_hh_l0", 2)[1],
        "nclass": _shape(state, f"{prefix}dense.weight", 2)[0],
        "attention": f"{prefix}dense_softmax.weight" in state,
    }
    for gate in ("glu", "cg"):
        if f"{prefix}cnn.cnn.{gate}0.linear.weight" in state:
            sizes["activation"] = gate
    return sizes | _fusion_sizes(state, prefix, blocks[-1][0])


def _fusion_sizes(state: Mapping[str, Tensor], prefix: str, n_channels: int) -> dict[str, Any]:
    fusion = f"{prefix}cat_tf.weight"
    if fusion not in state:
        return {"use_embeddings": False}
    encoder, shrink = f"{prefix}frame_embs_encoder.weight_ih_l0", f"{prefix}shrink_emb.0.weight"
    if encoder in state:
        kind, size = "frame", _shape(state, encoder, 2)[1]
    elif shrink in state:
        kind, size = "global", _shape(state, shrink, 2)[1]
    else:
        kind, size = "", _shape(state, fusion, 2)[1] - n_channels
    if size < 1:
        raise InputError(
            f"state_dict: {fusion} has shape {tuple(state[fusion].shape)}, which leaves no "
            f"embedding beside the CNN's {count_of(n_channels, 'channel')}"
        )
    sizes: dict[str, Any] = {"use_embeddings": True, "embedding_size": size}
    if kind:
        sizes["aggregation_type"] = kind
        sizes["embedding_type"] = "global" if kind == "global" else "frame"
    return sizes


def _shape(state: Mapping[str, Tensor], name: str, n_axes: int) -> tuple[int, ...]:
    if name not in state:
        raise InputError(f"state_dict: no {name}; it is incomplete or not of this recipe")
    shape = tuple(state[name].shape)
    if len(shape) != n_axes:
        raise InputError(
            f"state_dict: {name} has shape {shape}, but {count_of(n_axes, 'axis', 'axes')} in "
            "this recipe"
        )
    return shape


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """Number of names that match in full, counted from 0."""
    found = {match[1] for name in state if (match := re.fullmatch(pattern, name))}
    return next(i for i in range(len(found) + 1) if str(i) not in found)


def check_tensors(
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    origin: str,
    fault: str = "does not fit the network that its hyperparameters describe",
) -> None:
    """Check that tensors fit a module and are finite.

    Args:
        own: the module's state_dict, of which only shapes matter.
        given: that of the file.
        origin: name of the file for messages.
        fault: what is wrong with a file that has other shapes, for messages.

    Raises:
        InputError: naming each that does not.
    """
    problems = shape_mismatches(own, given)
    if problems:
        heading = f"{origin} {fault}:"
        raise InputError.collect(problems, heading)
    problems = not_finite(given)
    if problems:
        heading = f"{origin}: its training had diverged; use an earlier checkpoint:"
        raise InputError.collect(problems, heading)


def with_front_end(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the mel front end of `module`, which follows from its settings, if it has none.

    Weights that were stored by themselves often lack it.
    """
    own = {n: value for n, value in module.state_dict().items() if n.startswith("mel_spec.")}
    return {**own, **state}


def check_agreement(
    stored: Mapping[str, Mapping[str, Any]],
    state: Mapping[str, Tensor],
    holds_encoders: tuple[bool, bool],
) -> None:
    """Reject a specification that contradicts the tensors stored with it.

    Args:
        stored: its sections `net` and `front_end`.
        state: the tensors.
        holds_encoders: whether the checkpoint holds its encoders: as specified, as it is.

    Raises:
        InputError: naming each value that differs.
    """
    measured = {"net": network_sizes(state, "sed_student."), "front_end": front_end_sizes(state)}
    problems = [
        f"{part}.{key}: {stored[part][key]!r} in its specification, {value!r} in its tensors"
        for part, sizes in measured.items()
        for key, value in sizes.items()
        if stored[part][key] != value
    ]
    specified, there = holds_encoders
    if specified != there:
        problems.append(
            f"embedding.in_checkpoint: {specified} in its specification, {there} in its tensors"
        )
    if problems:
        raise InputError.collect(problems, "it contradicts itself; get it again:")
