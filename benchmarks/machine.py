"""Measure the machine's peaks, of matrix products and copies, and describe it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.timing import Stopwatch
from local.cli.precision import measure_rates
from local.cli.versions import versions
from local.training.callbacks import git_commit


class Peak(NamedTuple):
    """Peak performance: the best of a few attempts."""

    flops: float  # float32 matrix products, operations per second (a multiply-add is two)
    bandwidth: float  # of a copy, bytes read and written per second


class Machine:
    """Measure the peak repeatedly, as clock rates and load change.

    Args:
        watch: the clock of all rows.
        small: whether to use small matrices and arrays, for a quick run.
    """

    def __init__(self, watch: Stopwatch, *, small: bool) -> None:
        self.watch = watch
        on_gpu = watch.device.type == "cuda"
        self.side = 512 if small else 8192 if on_gpu else 2048
        self.n_bytes = (1 << 24) if small else (1 << 30) if on_gpu else (1 << 28)
        self._source = torch.ones(self.n_bytes // 4, device=watch.device)
        self._target = torch.empty_like(self._source)
        self.peaks: list[Peak] = []
        self._half: float | None = None

    def sample(self, tries: int = 2) -> Peak:
        """Measure the current peak."""
        self._target.copy_(self._source)
        moved = min(self._time(lambda: self._target.copy_(self._source)) for _ in range(tries))
        peak = Peak(self.gemm(torch.float32, tries), 2 * self.n_bytes / moved)
        self.peaks.append(peak)
        return peak

    def gemm(self, dtype: torch.dtype, tries: int = 3) -> float:
        """Operations per second of a square matrix product, float32 without TF32."""
        chosen = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            return self._gemm(dtype, tries)
        finally:
            torch.set_float32_matmul_precision(chosen)

    def _gemm(self, dtype: torch.dtype, tries: int) -> float:
        generator = torch.Generator(self.watch.device).manual_seed(0)
        one, other = (
            torch.randn(
                self.side, self.side, device=self.watch.device, generator=generator, dtype=dtype
            )
            for _ in range(2)
        )
        out = one @ other
        taken = min(self._time(lambda: torch.mm(one, other, out=out)) for _ in range(tries))
        return 2 * self.side**3 / taken

    def _time(self, function: Any) -> float:
        start = self.watch.now()
        function()
        return self.watch.now() - start

    def describe(self) -> dict[str, Any]:
        """Return names, versions and the best of all samples."""
        device = self.watch.device
        on_gpu = device.type == "cuda"
        if self._half is None:
            small = None if on_gpu else measure_rates()
            # Without units for it, a large product would take minutes.
            slow = small is not None and small.bfloat16 < small.float32
            self._half = 1e9 * small.bfloat16 if small and slow else self.gemm(torch.bfloat16)
        best = Peak(*(max(values) for values in zip(*self.peaks, strict=True)))
        return {
            "device": torch.cuda.get_device_name(device) if on_gpu else processor(),
            "processors": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load": round(os.getloadavg()[0], 2),
            "clock": self.watch.clock,
            "gemm_float32_tflops": best.flops / 1e12,
            "gemm_bfloat16_tflops": self._half / 1e12,
            "bandwidth_gb_s": best.bandwidth / 1e9,
            "commit": git_commit(),
            "versions": versions(),
        }


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
