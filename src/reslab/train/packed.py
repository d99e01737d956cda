"""SGD on a GPU in a handful of launches, however many weights a network has, and their bf16 copies in one.

All trained parameters lie in one piece of memory; each keeps its name, shape and place in the network, as a view. A
step copies the filters to bf16 at once. Their gradients, in bf16 as autocast would have made them too, are put
together at once, and one update for what decays and one for the rest do what would take several for each weight. The
numbers are those of `reslab.train.optim.Optimizer`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from reslab.nets.layers import Conv2d
from reslab.nets.network import Network
from reslab.train.optim import decaying, rate_on_device, trained
from reslab.train.recipe import Sgd

ALIGNED = 64
"""Numbers that a parameter's place is a multiple of, filled up with zeros: kernels read whole lines of memory."""


PIECES = 48
"""Tensors that PyTorch's fused SGD updates in one launch; it gives each a block of threads for every 65,536 numbers."""


class Packed:
    """The optimiser of a network that computes in bf16, with the methods of `reslab.train.optim.Optimizer`."""

    def __init__(self, net: Network, spec: Sgd) -> None:
        self.spec, self.lr = spec, spec.lr
        parameters = trained(net)
        filters = {
            layer.weight: layer for layer in net.modules() if isinstance(layer, Conv2d) and layer.weight.requires_grad
        }
        decays = set(parameters.values()) if spec.decay == "all" else decaying(net)
        # Filters first, which all decay; then the rest of what does.
        names = sorted(parameters, key=lambda name: (parameters[name] not in filters, parameters[name] not in decays))
        self._of = {name: parameters[name] for name in names}
        self._sizes = [-(-parameter.numel() // ALIGNED) * ALIGNED for parameter in self._of.values()]
        self._decaying = sum(size for size, one in zip(self._sizes, self._of.values(), strict=True) if one in decays)
        device = next(iter(self._of.values())).device
        self._weights, self._velocity, self._gradient = (
            torch.zeros(sum(self._sizes), device=device) for _ in range(3)
        )  # fmt: skip
        self._fill = torch.zeros(ALIGNED, device=device)
        self._half = torch.zeros(sum(self._sizes[: len(filters)]), dtype=torch.bfloat16, device=device)
        """the filters, as a step computes with them"""
        self._leaves: list[nn.Parameter | Tensor] = []
        """what gradients are taken of: the filters in bf16, the other parameters themselves"""
        for parameter, place in zip(self._of.values(), self._places(self._weights), strict=True):
            place.copy_(parameter.detach())
            parameter.data = place
        every, self._filters = list(self._of.values()), len(filters)
        for parameter, half in zip(every[: len(filters)], self._places(self._half), strict=True):
            filters[parameter].in_bf16 = half.requires_grad_()
            self._leaves.append(half)
        self._leaves += every[len(filters) :]
        self._moves = False
        self._rate = rate_on_device(spec.lr, self._of.values())

    def _places(self, whole: Tensor) -> list[Tensor]:
        """The parameters' places in a piece of memory, shaped as they are."""
        places, start = [], 0
        for parameter, size in zip(self._of.values(), self._sizes, strict=True):
            if start == len(whole):
                break
            places.append(whole[start : start + size].as_strided(parameter.shape, parameter.stride()))
            start += size
        return places

    def reserve(self) -> None:
        """Everything has its place already."""

    def set_lr(self, lr: float) -> None:
        """As `Optimizer.set_lr`."""
        if lr == self.lr:
            return
        if self.spec.momentum_form == "lr-inside":
            self._velocity.mul_(self.lr / lr)
        self._set(lr)

    def _set(self, lr: float) -> None:
        self.lr = lr
        if self._rate is not None:
            self._rate.fill_(lr)

    def momentum(self) -> dict[str, Tensor]:
        """The velocities by the names of their parameters; empty before the first step."""
        if not (self._moves and self.spec.momentum):
            return {}
        return dict(zip(self._of, self._places(self._velocity), strict=True))

    def restore(self, lr: float, momentum: dict[str, Tensor]) -> None:
        """Continues from saved velocities and the rate that they were made with."""
        for name, place in zip(self._of, self._places(self._velocity), strict=True):
            if name in momentum:
                place.copy_(momentum[name])
        self._moves = bool(momentum)
        self._set(lr)

    @torch.no_grad()
    def cast(self) -> None:
        """Comes before the forward pass: the filters in bf16, as they are now."""
        self._half.copy_(self._weights[: len(self._half)])

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradients, which are then dropped."""
        half, whole = (self._together(part) for part in (self._leaves[: self._filters], self._leaves[self._filters :]))
        self._gradient[: len(half)].copy_(half)
        self._gradient[len(half) :].copy_(whole)
        rate = self.lr if self._rate is None else self._rate
        bounds = ((0, self._decaying, self.spec.weight_decay), (self._decaying, len(self._weights), 0.0))
        for start, stop, weight_decay in bounds:
            if start < stop:
                size = -(-(stop - start) // (PIECES * ALIGNED)) * ALIGNED
                weights, gradients, velocities = (
                    list(each[start:stop].split(size)) for each in (self._weights, self._gradient, self._velocity)
                )  # fmt: skip
                sgd(
                    weights, gradients, velocities if self.spec.momentum else [None] * len(weights), fused=True,
                    weight_decay=weight_decay, momentum=self.spec.momentum, lr=rate, dampening=0.0,
                    nesterov=self.spec.nesterov, maximize=False,
                )  # fmt: skip
        self._moves = True
        for leaf in self._leaves:
            leaf.grad = None

    def _together(self, leaves: Sequence[Tensor]) -> Tensor:
        """The gradients one behind the other, as the parameters lie."""
        pieces = []
        for leaf in leaves:
            gradient = leaf.grad
            assert gradient is not None, "each parameter of a network takes part in its loss"
            if gradient.stride() != leaf.stride():
                gradient = torch.empty_like(leaf).copy_(gradient)
            pieces.append(gradient.as_strided((leaf.numel(),), (1,)))
            if missing := -leaf.numel() % ALIGNED:
                pieces.append(self._fill[:missing].to(leaf.dtype))
        return torch.cat(pieces) if pieces else self._gradient[:0]
