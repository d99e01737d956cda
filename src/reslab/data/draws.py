"""Randomness as a pure function of (seed, epoch, index).

A small integer hash rather than a generator with state: it gives the same numbers whatever the number
of workers or ranks, the device, the version of a library, or how often the run was interrupted.
"""

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def _mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit integers with good avalanche ("lowbias32", Wellons 2018)."""
    x = x & _MASK
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


def bits(index: Tensor, *key: int | Tensor) -> Tensor:
    """32 random bits for each entry of ``index`` (int64, any shape), as int64; other keys give other bits."""
    x = _mix(index)
    for k in key:
        x = _mix(x ^ (k & _MASK))
        x = (x + (0x9E3779B9 * ((k & _MASK) + 1) & _MASK)) & _MASK
    return _mix(x)


def integers(index: Tensor, below: int, *key: int | Tensor) -> Tensor:
    """An integer in [0, below) for each entry of ``index``, as int64."""
    return (bits(index, *key) * below) >> 32


def permutation(n: int, *key: int) -> Tensor:
    """A permutation of 0 ... n-1 (int64)."""
    index = torch.arange(n)
    # Two words make a tie improbable; the stable sort makes it harmless.
    return torch.argsort((bits(index, *key, 1) << 31) | (bits(index, *key, 2) >> 1), stable=True)
