"""Activation checkpointing: memory that grows with the root of the depth, for one more forward pass.

"Training Deep Nets with Sublinear Memory Cost" (Chen, Xu, Zhang, Guestrin 2016): the blocks of a stage are cut
into segments; forward keeps what enters a segment alone, and backward computes the rest of it again.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

KEPT_BY_A_BLOCK = 4
"""Activations that the backward pass of a block of two layers keeps, against the one that enters a segment."""


def segment_length(blocks: int) -> int:
    """Blocks of a segment for the least peak: n/k entries and k blocks in full, so k is the root of n/4."""
    return max(1, round(math.sqrt(blocks / KEPT_BY_A_BLOCK)))


@contextmanager
def _statistics_stay(norms: list[_BatchNorm]) -> Iterator[None]:
    """BN has counted these images when they came through the first time: now it counts on copies."""
    buffers = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    for norm, own in zip(norms, buffers, strict=True):
        for name, buffer in own.items():
            setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, own in zip(norms, buffers, strict=True):
            for name, buffer in own.items():
                setattr(norm, name, buffer)


class Stage(nn.Sequential):
    """The blocks of one size, as torchvision's ``layer1`` and so on. ``segment``: blocks of a checkpointed segment."""

    segment: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        if self.segment is None or not self.training or not torch.is_grad_enabled():
            return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]
        for start in range(0, len(self), self.segment):
            part = self[start : start + self.segment]
            norms = [module for module in part.modules() if isinstance(module, _BatchNorm)]

            def contexts(
                norms: list[_BatchNorm] = norms,
            ) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
                return nullcontext(), _statistics_stay(norms)

            x = checkpoint(nn.Sequential.forward, part, x, use_reentrant=False, context_fn=contexts)
        return x
