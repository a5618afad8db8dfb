"""Mixup with a share for each row, also of rows from corpora that annotate different classes."""

from __future__ import annotations

from torch import Generator, Tensor

from desed_task.augment.groups import RowGroups, larger_shares
from desed_task.augment.rows import WHOLE_BATCH, BatchShare, moved
from desed_task.augment.step import RowMix, StepInputs


def draw_row_mix(
    groups: RowGroups,
    alpha: float,
    generator: Generator | None = None,
    rows: BatchShare = WHOLE_BATCH,
) -> RowMix:
    """Draw a partner within its group for each row, and a share.

    Args:
        groups: of the rows; those of no group have the share 1.
        alpha: both parameters of the Beta distribution of c; the share is max(c, 1 - c), so that a
            row keeps its greater part.
        generator: CPU generator.
        rows: which rows of a batch these are.
    """
    partner = groups.partners(generator, rows)
    share = moved(larger_shares(len(partner), alpha, generator, rows), partner.device)
    return RowMix(partner, share.masked_fill(groups.number == groups.n_groups, 1.0))


def mix_rows(inputs: StepInputs, mix: RowMix) -> StepInputs:
    """Everything that the networks are given, mixed by one draw.

    Magnitudes are mixed before the decibel step, what encoders are given as it is. The known
    classes of a row grow by those that are active in its partner, whose labels the blend has.
    """
    return StepInputs(
        mel=mix.blend(inputs.mel),
        encoder_inputs=tuple(mix.blend(one) for one in inputs.encoder_inputs),
        embedding=mix.blend(inputs.embedding) if inputs.embedding.numel() else inputs.embedding,
        target=mix.blend(inputs.target).clamp(0.0, 1.0),
        pseudo=None if inputs.pseudo is None else mix.blend(inputs.pseudo).clamp(0.0, 1.0),
        known=_grown(inputs.known, inputs.target, mix),
    )


def _grown(known: Tensor, target: Tensor, mix: RowMix) -> Tensor:
    active = (target > 0).any(dim=-1)[mix.partner]
    return known | (active & (mix.share < 1)[:, None])
