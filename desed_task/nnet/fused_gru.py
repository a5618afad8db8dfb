"""A bidirectional GRU layer for the CPU, with one kernel for the element-wise part of a step.

PyTorch's layer runs a dozen operations per step and direction, and remembers each of them for the
gradient. Here a step is a matrix product and a kernel, and the gradient of the weights is one
product over all steps. Both directions run side by side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from desed_task.kernels.pieces import run_pieces

_N_GATES = 3
_N_KEPT = 4  # values of a step and cell that gradients need, see `gru_cell.step`
_N_WEIGHTS = 4  # weight_ih, weight_hh, bias_ih, bias_hh of a direction


def fused_gru(gru: nn.GRU, x: Tensor) -> Tensor:
    """Run a bidirectional GRU without dropout between its layers.

    Args:
        gru: batch_first, with bias.
        x: (clip, frame, feature), float32 on the CPU.

    Returns:
        (clip, frame, 2 cell).
    """
    states = x.transpose(0, 1).contiguous()
    # Inside an autograd function gradients are off, and it is not told whether they were on.
    keep = torch.is_grad_enabled()
    # In order of layers; in each the forward direction comes first.
    weights = gru.all_weights
    for forward, backward in zip(weights[::2], weights[1::2], strict=True):
        states = _Layer.apply(keep, states, *forward, *backward)  # type: ignore[no-untyped-call]
    return states.transpose(0, 1)


class _Weights(NamedTuple):
    """Parameters of a direction, gates below each other."""

    of_input: Tensor  # (3 cell, feature)
    of_state: Tensor  # (3 cell, cell)
    input_bias: Tensor  # (3 cell,)
    state_bias: Tensor  # (3 cell,)


class _Run(NamedTuple):
    """What a direction computed: see `gru_cell.step` for the shapes.

    Of the frames + 1 states the first one in time is zero; `before` is the row of `states` with the
    state before frame 0.
    """

    states: Tensor
    gates: Tensor
    before: int

    @property
    def of_frames(self) -> Tensor:
        """The states after each frame."""
        return self.states[1:] if self.before == 0 else self.states[:-1]

    @property
    def before_frames(self) -> Tensor:
        """The states before each frame."""
        return self.states[:-1] if self.before == 0 else self.states[1:]


class _Layer(torch.autograd.Function):
    """(frame, clip, feature), weights of both directions -> (frame, clip, 2 cell)."""

    @staticmethod
    def forward(ctx: Any, grad_enabled: bool, x: Tensor, *weights: Tensor) -> Tensor:
        keep = grad_enabled and any(ctx.needs_input_grad)
        directions = (_Weights(*weights[:_N_WEIGHTS]), _Weights(*weights[_N_WEIGHTS:]))
        runs = run_pieces(
            lambda backward: _run(x, directions[backward], backward, keep=keep), (False, True)
        )
        if keep:
            ctx.save_for_backward(x, *weights, *(one for run in runs for one in run[:2]))
        return torch.cat([run.of_frames for run in runs], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        weights, kept = saved[: 2 * _N_WEIGHTS], saved[2 * _N_WEIGHTS :]
        n_cells = grad.shape[-1] // 2

        def gradients(backward: bool) -> tuple[Tensor, _Weights]:
            part = int(backward)
            one = _Weights(*weights[part * _N_WEIGHTS : (part + 1) * _N_WEIGHTS])
            run = _Run(kept[2 * part], kept[2 * part + 1], before=part)
            above = grad[..., part * n_cells : (part + 1) * n_cells].contiguous()
            return _gradients(x, one, run, above, backward)

        (of_x, forward), (more, backward) = run_pieces(gradients, (False, True))
        return None, of_x.add_(more), *forward, *backward


def _run(x: Tensor, weights: _Weights, backward: bool, *, keep: bool) -> _Run:
    """The states of a direction."""
    from desed_task.kernels import gru_cell

    n_frames, n_clips, _ = x.shape
    n_cells = weights.of_state.shape[1]
    bias = weights.input_bias.clone()
    bias[: 2 * n_cells] += weights.state_bias[: 2 * n_cells]
    of_input = torch.addmm(bias, x.flatten(0, 1), weights.of_input.t())
    of_input = of_input.view(n_frames, n_clips, _N_GATES * n_cells)
    transposed = weights.of_state.t().contiguous()
    of_state = x.new_empty(n_clips, _N_GATES * n_cells)
    gates = x.new_empty(n_frames if keep else 1, n_clips, _N_KEPT * n_cells)
    before = int(backward)
    states = x.new_empty(n_frames + 1, n_clips, n_cells)
    states[n_frames if backward else 0] = 0
    x_part, h_part, new_bias, after_frames, kept = (
        one.numpy()
        for one in (of_input, of_state, weights.state_bias[2 * n_cells :], states, gates)
    )
    for frame in reversed(range(n_frames)) if backward else range(n_frames):
        torch.mm(states[frame + before], transposed, out=of_state)
        at = (frame, frame + before, frame + 1 - before, frame if keep else 0)
        gru_cell.step(x_part, h_part, new_bias, after_frames, kept, *at)
    return _Run(states, gates, before)


def _gradients(
    x: Tensor, weights: _Weights, run: _Run, above: Tensor, backward: bool
) -> tuple[Tensor, _Weights]:
    """Gradients of x and of the weights of a direction.

    Args:
        x: input of the layer.
        weights: of the direction.
        run: what `_run` gave.
        above: (frame, clip, cell), gradient of its states.
        backward: whether it runs from the last frame to the first.
    """
    from desed_task.kernels import gru_cell

    n_frames, n_clips, n_cells = above.shape
    of_input = x.new_empty(n_frames, n_clips, _N_GATES * n_cells)
    of_state = torch.empty_like(of_input)
    below = x.new_zeros(n_clips, n_cells)
    upper, lower, states, gates, of_x, of_h = (
        one.numpy() for one in (above, below, run.states, run.gates, of_input, of_state)
    )
    for frame in range(n_frames) if backward else reversed(range(n_frames)):
        before = frame + run.before
        gru_cell.step_gradients(upper, lower, states, gates, of_x, of_h, frame, before)
        below.addmm_(of_state[frame], weights.of_state)
    rows, of_states = of_input.flatten(0, 1), of_state.flatten(0, 1)
    found = _Weights(
        of_input=rows.t() @ x.flatten(0, 1),
        of_state=of_states.t() @ run.before_frames.flatten(0, 1),
        input_bias=rows.sum(0),
        state_bias=of_states.sum(0),
    )
    return (rows @ weights.of_input).view(x.shape), found
