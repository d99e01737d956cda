"""Measures the machine's peak: a large matrix product and a large copy."""

from dataclasses import dataclass

import torch

from reslab.bench.paired import seconds_of

SIDE = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the product: large enough that all of the time goes into multiplying."""
COPIED = 256 * 2**20  # bytes, beyond all caches


@dataclass(frozen=True)
class Peak:
    """Measured limits of a device."""

    gflops: float
    """1e9 floating-point operations a second in a matrix product (a multiply-add counts two)"""
    gigabytes: float
    """1e9 bytes a second read and written by a copy"""

    def share(self, macs: float, seconds: float) -> float:
        """Share of the product's speed that ``macs`` multiply-adds in ``seconds`` reach, 0 to 1."""
        return 2 * macs / seconds / 1e9 / self.gflops


def measure(device: torch.device, precision: str, *, seconds: float = 0.5) -> Peak:
    """The best of a few turns of product and copy."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    side = SIDE[device.type]
    a = torch.randn(side, side, device=device, dtype=dtype)
    b = torch.randn(side, side, device=device, dtype=dtype)
    out = torch.empty_like(a)
    source = torch.zeros(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product = min(seconds_of(lambda: torch.mm(a, b, out=out), seconds / 3, device) for _ in range(3))
    copy = min(seconds_of(lambda: target.copy_(source), seconds / 3, device) for _ in range(3))
    return Peak(2 * side**3 / product / 1e9, 2 * COPIED / copy / 1e9)
