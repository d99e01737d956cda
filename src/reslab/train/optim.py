"""The optimiser of a recipe."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.sgd import sgd

from reslab.train.recipe import Sgd

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)
"""Modules whose weight is a scale, which does not decay with the weights."""


class Optimizer:
    """PyTorch's SGD, with the recipe's choice of what decays and where the learning rate stands.

    By its function and not by `torch.optim.SGD`, whose construction imports the compiler: seconds at every start.
    """

    def __init__(self, net: nn.Module, spec: Sgd) -> None:
        self.spec = spec
        self.lr = spec.lr
        self._names = {parameter: name for name, parameter in net.named_parameters()}
        self._velocity: dict[nn.Parameter, Tensor | None] = dict.fromkeys(self._names)
        weights: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for module in net.modules():
            for name, parameter in module.named_parameters(recurse=False):
                decays = spec.decay == "all" or (name == "weight" and not isinstance(module, NORMS))
                (weights if decays else others).append(parameter)
        device = next(iter(self._names)).device
        # On CUDA the rate lies on the device, so that a captured step reads the newest.
        self._rate = torch.tensor(spec.lr, device=device) if device.type == "cuda" else None
        self._groups = [(weights, spec.weight_decay), (others, 0.0)]

    def set_lr(self, lr: float) -> None:
        """Sets the learning rate of the next step.

        With the rate inside (v' = m v' + lr g, w -= v') the velocity keeps its size when the rate drops.
        PyTorch stores v = v'/lr, so the stored velocity is rescaled by the ratio of the rates.
        """
        if lr == self.lr:
            return
        if self.spec.momentum_form == "lr-inside":
            velocities = list(self.momentum().values())
            if velocities:
                torch._foreach_mul_(velocities, self.lr / lr)
        self._set(lr)

    def _set(self, lr: float) -> None:
        self.lr = lr
        if self._rate is not None:
            self._rate.fill_(lr)

    def momentum(self) -> dict[str, Tensor]:
        """The velocities by the names of their parameters; empty before the first step."""
        return {
            name: velocity
            for parameter, name in self._names.items()
            if (velocity := self._velocity[parameter]) is not None
        }

    def restore(self, lr: float, momentum: dict[str, Tensor]) -> None:
        """Continues from saved velocities and the rate that they were made with."""
        for parameter, name in self._names.items():
            if name in momentum:
                self._velocity[parameter] = torch.empty_like(parameter).copy_(momentum[name]).detach()
        self._set(lr)

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradients, which are then dropped."""
        for group, weight_decay in self._groups:
            parameters = [parameter for parameter in group if parameter.grad is not None]
            velocities = [self._velocity[parameter] for parameter in parameters]
            sgd(
                list(parameters),
                [parameter.grad for parameter in parameters if parameter.grad is not None],
                velocities,
                fused=True,
                weight_decay=weight_decay,
                momentum=self.spec.momentum,
                lr=self.lr if self._rate is None else self._rate,
                dampening=0.0,
                nesterov=self.spec.nesterov,
                maximize=False,
            )
            self._velocity.update(zip(parameters, velocities, strict=True))
        for parameter in self._names:
            parameter.grad = None
