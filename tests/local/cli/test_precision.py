"""Half precision on a CPU: only where it is measured to be faster."""

from __future__ import annotations

import math

import pytest

from desed_task.errors import InputError
from local.cli import precision
from local.cli.precision import Rates, measure_rates, usable_precision

SLOW, FAST = Rates(92.0, 0.3), Rates(92.0, 180.0)
WHAT = "training.precision"


@pytest.mark.parametrize(
    ("asked", "device", "rates", "keep", "used", "line"),
    [
        ("bf16", "cpu", SLOW, False, 32, "slower than float32 (0.3 against 92 GFLOP/s); comp"),
        ("bf16-mixed", "cpu", SLOW, False, 32, "training.precision bf16-mixed: on this CPU"),
        ("bf16", "cpu", FAST, False, "bf16", ""),
        ("bf16", "cpu", SLOW, True, "bf16", "kept, as it began with it"),
        ("bf16", "cpu", FAST, True, "bf16", ""),
        ("16", "cpu", SLOW, False, 32, "bfloat16, as which a CPU computes float16, is slower"),
        (16, "cpu", FAST, False, "bf16", "a CPU computes float16 as bfloat16; precision bf16"),
        ("16-mixed", "cpu", FAST, True, "16-mixed", ""),
        ("tf32", "cpu", FAST, False, 32, "a precision of Nvidia's GPUs; computing in float32"),
        ("tf32", "cpu", FAST, True, "tf32", ""),
        ("tf32", "mps", None, False, 32, "a precision of Nvidia's GPUs; computing in float32"),
        *((asked, "cpu", None, False, asked, "") for asked in ("32", 32, "32-true")),
        *((asked, "mps", None, False, asked, "") for asked in ("32", 32, "32-true")),
        *((asked, "gpu", None, False, asked, "") for asked in ("bf16", "16", "tf32")),
    ],
)
def test_what_a_device_computes_with(asked, device, rates, keep, used, line, monkeypatch):
    def measured():
        assert rates is not None, "nothing is to be measured"
        return rates

    monkeypatch.setattr(precision, "measure_rates", measured)
    found, said = usable_precision(asked, device, what=WHAT, keep=keep)
    assert found == used and type(found) is type(used)
    assert (line in said) if line else not said


@pytest.mark.parametrize("asked", ["bf16", "bf16-mixed", "16", 16, "16-mixed"])
@pytest.mark.parametrize("keep", [False, True])
def test_half_precision_is_refused_on_the_gpu_of_a_mac(asked, keep):
    told = f"training.precision {asked}: on mps only float32 is computed; set it to 32"
    with pytest.raises(InputError, match=told):
        usable_precision(asked, "mps", what=WHAT, keep=keep)


def test_rates_of_this_machine_are_measured():
    assert all(0 < rate < math.inf for rate in measure_rates())
