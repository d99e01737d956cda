"""The optimiser of a recipe."""

import torch
from torch import nn

from reslab.train.recipe import Sgd


class Optimizer:
    """`torch.optim.SGD`, with the recipe's choice of what decays and where the learning rate stands."""

    def __init__(self, net: nn.Module, spec: Sgd) -> None:
        self.spec = spec
        self.lr = spec.lr
        weights: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for module in net.modules():
            for name, parameter in module.named_parameters(recurse=False):
                decays = spec.decay == "all" or (name == "weight" and not isinstance(module, nn.BatchNorm2d))
                (weights if decays else others).append(parameter)
        groups = [
            {"params": weights, "weight_decay": spec.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.sgd = torch.optim.SGD(
            [group for group in groups if group["params"]],
            lr=spec.lr,
            momentum=spec.momentum,
            nesterov=spec.nesterov,
            fused=True,
        )
        self._names = {parameter: name for name, parameter in net.named_parameters()}

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
        for group in self.sgd.param_groups:
            group["lr"] = lr
        self.lr = lr

    def momentum(self) -> dict[str, torch.Tensor]:
        """The velocities by the names of their parameters; empty before the first step."""
        found = {}
        for parameter, name in self._names.items():
            velocity = self.sgd.state.get(parameter, {}).get("momentum_buffer")
            if velocity is not None:
                found[name] = velocity
        return found

    def restore(self, lr: float, momentum: dict[str, torch.Tensor]) -> None:
        """Continues from saved velocities and the rate that they were made with."""
        for parameter, name in self._names.items():
            if name in momentum:
                saved = torch.empty_like(parameter).copy_(momentum[name])
                self.sgd.state[parameter]["momentum_buffer"] = saved
        for group in self.sgd.param_groups:
            group["lr"] = lr
        self.lr = lr

    def step(self) -> None:
        """One update from the gradients, which are then dropped."""
        self.sgd.step()
        self.sgd.zero_grad(set_to_none=True)
