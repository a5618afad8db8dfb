"""Kernels of `nnet.fused_gru`: the element-wise part of one step of a GRU, forward and backward.

Arrays are float32 and contiguous, with time first: (frame, clip, ...). The gates of a frame lie one
after the other, each of `cell` values: reset, update and new, as in PyTorch's weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from desed_task.kernels.compiled import compiled, hyperbolic_tangent, sigmoid

Floats = NDArray[np.float32]


@compiled
def step(
    of_input: Floats,
    of_state: Floats,
    new_bias: Floats,
    states: Floats,
    gates: Floats,
    frame: int,
    before: int,
    after: int,
    kept: int,
) -> None:
    """Compute the state after a frame.

    Args:
        of_input: (frame, clip, 3 cell), the input's part of the gates, with every bias but
            `new_bias`.
        of_state: (clip, 3 cell), the state's part, without bias.
        new_bias: (cell,), the state's bias of the new gate, which the reset gate scales too.
        states: (frame + 1, clip, cell).
        gates: (any, clip, 4 cell); row `kept` is set to reset, update, new and the part of the
            state in new that reset scales.
        frame: row of `of_input`.
        before: row of `states` with the state before the frame.
        after: row of `states` to set.
        kept: row of `gates` to set.
    """
    n_clips, n_cells = of_state.shape[0], new_bias.size
    for clip in range(n_clips):
        x, h = of_input[frame, clip], of_state[clip]
        old, state, gate = states[before, clip], states[after, clip], gates[kept, clip]
        # Loops of few arrays, as the compiler proves vectors safe only for these.
        for i in range(2 * n_cells):
            gate[i] = sigmoid(np.float32(x[i] + h[i]))
        for i in range(n_cells):
            gate[3 * n_cells + i] = h[2 * n_cells + i] + new_bias[i]
        reset, update, new, inner = _parts(gate)
        new_input = x[2 * n_cells :]
        for i in range(n_cells):
            new[i] = hyperbolic_tangent(np.float32(new_input[i] + reset[i] * inner[i]))
        for i in range(n_cells):
            state[i] = new[i] + update[i] * (old[i] - new[i])


@compiled
def _parts(gate: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    n_cells = gate.size // 4
    return (
        gate[:n_cells],
        gate[n_cells : 2 * n_cells],
        gate[2 * n_cells : 3 * n_cells],
        gate[3 * n_cells :],
    )


@compiled
def step_gradients(
    above: Floats,
    below: Floats,
    states: Floats,
    gates: Floats,
    of_input: Floats,
    of_state: Floats,
    frame: int,
    before: int,
) -> None:
    """Compute the gradients of `step`.

    Args:
        above: (frame, clip, cell), gradient of the states as the layer's output.
        below: (clip, cell), gradient of the state after the frame from the next step; set to that
            of the state before it, but for the part through `of_state` times the weights.
        states: as of `step`.
        gates: (frame, clip, 4 cell), as set by `step`.
        of_input: (frame, clip, 3 cell); row `frame` is set to the gradient of `step`'s.
        of_state: (frame, clip, 3 cell); row `frame` is set to the gradient of `step`'s.
        frame: row of the frame.
        before: row of `states` with the state before the frame.
    """
    n_clips, n_cells = below.shape
    for clip in range(n_clips):
        old, gate, grad = states[before, clip], gates[frame, clip], below[clip]
        upper, of_x, of_h = above[frame, clip], of_input[frame, clip], of_state[frame, clip]
        for i in range(n_cells):
            reset, update = gate[i], gate[n_cells + i]
            new, inner = gate[2 * n_cells + i], gate[3 * n_cells + i]
            total = grad[i] + upper[i]
            of_new = total * (np.float32(1) - update) * (np.float32(1) - new * new)
            of_update = total * (old[i] - new) * update * (np.float32(1) - update)
            of_reset = of_new * inner * reset * (np.float32(1) - reset)
            of_x[i] = of_reset
            of_x[n_cells + i] = of_update
            of_x[2 * n_cells + i] = of_new
            of_h[i] = of_reset
            of_h[n_cells + i] = of_update
            of_h[2 * n_cells + i] = of_new * reset
            grad[i] = total * update
