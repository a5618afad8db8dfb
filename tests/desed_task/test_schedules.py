"""Ramps against the published numbers, and the scheduler against the pure functions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD

from desed_task.schedules import RampedScheduler, consistency_weight, lr_scale, ramp_up

LR = 1e-3


def scheduler_of(lr: float = LR, warmup_steps: int = 5) -> RampedScheduler:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr)
    return RampedScheduler(optimizer, warmup_steps=warmup_steps, start_annealing=8, max_steps=20)


def advance(scheduler: RampedScheduler, steps: int) -> list[float]:
    """The learning rates that the next optimizer steps are taken with."""
    rates = []
    for _ in range(steps):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def test_scale_and_rate_equal_the_published_ones(parity: Callable[[str], Path]) -> None:
    rows = json.loads(parity("schedule.json").read_text())
    assert len(rows) > 50
    for row in rows:
        scale = lr_scale(
            row["step_num"],
            warmup_steps=row["rampup_len"],
            start_annealing=row["start_annealing"],
            max_steps=row["max_steps"],
            least=1e-8 / LR,
        )
        assert scale == pytest.approx(row["scaling_factor"], rel=1e-9), row
        assert scale * LR == pytest.approx(row["lr"], rel=1e-9), row
        if row["start_annealing"] is None or row["step_num"] <= row["start_annealing"]:
            assert ramp_up(row["step_num"], row["rampup_len"]) == scale


def test_the_scheduler_takes_step_s_at_the_rate_of_s() -> None:
    scheduler = scheduler_of()
    assert scheduler.step_num == 1
    rates = advance(scheduler, 22)
    scales = [
        lr_scale(s, warmup_steps=5, start_annealing=8, max_steps=20, least=1e-8 / LR)
        for s in range(1, 23)
    ]
    assert rates == pytest.approx([LR * scale for scale in scales], rel=1e-12)
    assert min(rates[8:]) == pytest.approx(1e-8)
    assert scheduler.step_num == 23


def test_a_linear_warm_up_and_half_a_cosine_down_to_nothing() -> None:
    shape = {"warmup_steps": 4, "max_steps": 12, "warmup": "linear", "annealing": "half_cosine"}
    scales = [lr_scale(step, start_annealing=9, least=0.1, **shape) for step in (1, 3, 4, 8, 12)]
    assert scales == pytest.approx([0.25, 0.75, 1.0, 0.5, 0.0], abs=1e-12)
    assert lr_scale(20, **shape) == 0.0
    assert lr_scale(6, **{**shape, "warmup_steps": 0}) == pytest.approx(0.5)
    quarter = {"warmup_steps": 4, "start_annealing": 6, "max_steps": 12, "warmup": "linear"}
    assert [lr_scale(step, **quarter) for step in (2, 5)] == [0.5, 1.0]
    assert lr_scale(9, **quarter) == pytest.approx(2**-0.5)


def test_each_group_is_scaled() -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1e-2, 1e-4)]
    scheduler = RampedScheduler(SGD(groups, 1.0), warmup_steps=4, warmup="linear")
    advance(scheduler, 2)
    assert scheduler.get_last_lr() == pytest.approx([0.75e-2, 0.75e-4])
    assert scheduler.ramp == ramp_up(3, 4)  # of the consistency loss
    longer = RampedScheduler(SGD(groups, 1.0), warmup_steps=4, ramp_steps=9)
    assert longer.ramp == ramp_up(1, 9)
    again = RampedScheduler(SGD(groups, 1.0), warmup_steps=4, warmup="linear")
    again.load_state_dict(scheduler.state_dict())
    assert [group["lr"] for group in groups] == scheduler.get_last_lr()


def test_the_ramp_stays_up_while_the_rate_falls() -> None:
    scheduler = scheduler_of()
    ramps = []
    for _ in range(15):
        ramps.append(scheduler.ramp)
        advance(scheduler, 1)
    assert ramps[:5] == [ramp_up(s, 5) for s in range(1, 6)]
    assert ramps[4:] == [1.0] * 11


def test_a_resumed_scheduler_goes_on_bitwise() -> None:
    whole, stopped, resumed = scheduler_of(), scheduler_of(), scheduler_of()
    expected = advance(whole, 15)
    assert advance(stopped, 7) == expected[:7]
    resumed.load_state_dict(stopped.state_dict())
    assert advance(resumed, 8) == expected[7:]


def test_the_state_of_a_published_scheduler_loads() -> None:
    published = {"step_num": 11, "rampup_len": 36, "max_lr": 0.002, "exponent": -5.0}
    scheduler, stepped = scheduler_of(), scheduler_of()
    scheduler.load_state_dict(published)
    advance(stepped, 10)
    assert scheduler.step_num == 11
    assert scheduler.get_last_lr() == stepped.get_last_lr()


def test_every_group_keeps_its_own_rate() -> None:
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = SGD([{"params": parameters[:1], "lr": 1.0}, {"params": parameters[1:], "lr": 0.1}])
    scheduler = RampedScheduler(optimizer, warmup_steps=10)
    ramp = ramp_up(1, 10)
    assert scheduler.get_last_lr() == pytest.approx([ramp, 0.1 * ramp])


def test_a_rate_below_the_least_one_does_not_rise_to_it() -> None:
    """2e-4 halved in each of 15 layers is below 1e-8."""
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    low = {"params": parameters[1:], "lr": 6e-9}
    optimizer = SGD([{"params": parameters[:1], "lr": 1e-3}, low])
    bounds = {"warmup_steps": 1, "start_annealing": 2, "max_steps": 10}
    scheduler = RampedScheduler(optimizer, **bounds)
    advance(scheduler, 9)
    assert scheduler.get_last_lr() == pytest.approx([1e-8, 6e-9])


@pytest.mark.parametrize(("epoch", "weight"), [(0, 0.5), (99, 0.5), (100, 2.0), (250, 2.0)])
def test_the_consistency_weight_ignores_the_ramp_after_the_decay(epoch: int, weight: float) -> None:
    assert consistency_weight(0.25, epoch, const_max=2.0, epoch_decay=100) == weight


def test_an_annealing_that_starts_at_the_end_does_not_divide_by_zero():
    scale = [
        lr_scale(step, warmup_steps=2, start_annealing=10, max_steps=10, least=1e-5)
        for step in (9, 10, 11)
    ]
    assert scale == [1.0, 1.0, 1e-5]
