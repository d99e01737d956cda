"""BN over the images of several ranks, where the recipe's group is larger than a rank's share (--sync-bn)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from reslab.errors import InputError
from reslab.nets.layers import BatchNorm2d
from reslab.nets.network import Network
from reslab.train.distributed import World


class SyncBatchNorm2d(BatchNorm2d):
    """`BatchNorm2d` whose statistics while training are of the images of all ranks of ``ranks``. Not fused.

    Every rank of them has to bring equally many images.
    """

    ranks: dist.ProcessGroup | None = None
    """None: all there are"""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        if not self.training:
            return super().forward(x)
        y, mean, unbiased = _SyncNorm.apply(x, self.weight, self.bias, self.eps, self.ranks)
        self._track(mean, unbiased)
        return y  # type: ignore[no-any-return]

    def forward_fused(self, x: Tensor, residual: Tensor | None, activation: Any) -> Tensor | None:
        """Fused in evaluation only; training needs the other ranks between two passes over the image."""
        return None if self.training else super().forward_fused(x, residual, activation)


class _SyncNorm(torch.autograd.Function):
    """w (x - mean) / sqrt(var + eps) + b, with mean and variance over the images of several ranks.

    Sums are in fp32 at least. Ranks' means and variances are combined by Chan, Golub, LeVeque (1983): the variance of
    all is the mean of the ranks' variances plus the variance of their means, which loses no digits as a difference of
    squares would. Backward is BN's, with its two sums, of g and of g times the normed, over all ranks. The gradients
    of weight and bias are of this rank's images, and averaged over the ranks with all others.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, ranks: dist.ProcessGroup | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = _wide(x)
        var, mean = torch.var_mean(wide, (0, 2, 3), correction=0)
        size = dist.get_world_size(ranks)
        every = [torch.empty_like(torch.stack([mean, var])) for _ in range(size)]
        dist.all_gather(every, torch.stack([mean, var]), group=ranks)
        means, variances = torch.stack(every).unbind(1)  # (ranks, C) each
        mean = means.mean(0)
        var = variances.mean(0) + (means - mean).square().mean(0)
        scale = (var + eps).rsqrt()
        normed = (wide - _across(mean)) * _across(scale)
        count = size * x.numel() // x.shape[1]
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.ranks, ctx.count = ranks, count
        unbiased = var * (count / max(count - 1, 1))
        ctx.mark_non_differentiable(mean, unbiased)
        return (normed * _across(weight) + _across(bias)).to(x.dtype), mean, unbiased

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        g = grads[0].to(mean.dtype)
        normed = (_wide(x) - _across(mean)) * _across(scale)
        own = torch.stack([g.sum((0, 2, 3)), (g * normed).sum((0, 2, 3))])
        grad_bias, grad_weight = own.clone().to(weight.dtype).unbind()
        dist.all_reduce(own, group=ctx.ranks)
        mean_g, mean_dot = (own / ctx.count).unbind()
        grad_x = (g - _across(mean_g) - normed * _across(mean_dot)) * _across(weight * scale)
        return grad_x.to(x.dtype), grad_weight, grad_bias, None, None


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _across(channels: Tensor) -> Tensor:
    """(C,) -> (1, C, 1, 1)."""
    return channels.view(1, -1, 1, 1)


def synchronise(net: Network, world: World, ranks: int) -> None:
    """Lets the BN of a network take its statistics over groups of so many consecutive ranks, in place.

    Every rank has to call it at the same time. Parameters, buffers and their names stay what they are.
    """
    assert world.size % ranks == 0
    mine = None
    if ranks < world.size:
        for first in range(0, world.size, ranks):  # each group is made by all ranks, its members or not
            group: Any = dist.new_group(list(range(first, first + ranks)))
            if first <= world.rank < first + ranks:
                assert isinstance(group, dist.ProcessGroup)  # which those outside of it do not get
                mine = group
    for module in net.modules():
        if isinstance(module, BatchNorm2d):
            module.__class__ = SyncBatchNorm2d
            assert isinstance(module, SyncBatchNorm2d)
            module.ranks = mine
        elif isinstance(module, nn.BatchNorm1d):
            raise InputError(
                f"--sync-bn is for networks of images; {net.spec.name} normalises vectors: train it with one rank"
            )
