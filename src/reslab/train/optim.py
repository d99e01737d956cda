"""The optimiser of a recipe."""

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.sgd import sgd

from reslab.train.recipe import Muon, Sgd

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)
"""Modules whose weight is a scale, which does not decay with the weights."""


Parameters = Mapping[str, nn.Parameter]


def make_optimizer(
    net: nn.Module, spec: Sgd | Muon, rates: Mapping[str, float] | None = None
) -> "Optimizer | MuonOptimizer":
    """The optimiser of a recipe for all parameters of a network that are trained.

    ``rates``: by the name of each parameter that is, its learning rate as a share of the recipe's; for SGD.
    """
    if not isinstance(spec, Sgd):
        return MuonOptimizer(net, spec)
    if rates is None:
        return Optimizer.of(net, spec)
    parameters = dict(net.named_parameters())
    return Optimizer({name: parameters[name] for name in rates}, spec, decaying(net), rates)


def decaying(net: nn.Module) -> set[nn.Parameter]:
    """Weights of layers: neither biases nor the scales and shifts of a normalisation."""
    return {
        parameter
        for module in net.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if name == "weight" and not isinstance(module, NORMS)
    }


def trained(net: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}


class Optimizer:
    """PyTorch's SGD, with the recipe's choice of what decays and where the learning rate stands.

    By its function and not by `torch.optim.SGD`, whose construction imports the compiler: seconds at every start.
    """

    @classmethod
    def of(cls, net: nn.Module, spec: Sgd) -> Self:
        """The parameter groups of a whole network."""
        return cls(trained(net), spec, decaying(net))

    def __init__(
        self, parameters: Parameters, spec: Sgd, decaying: Collection[nn.Parameter],
        rates: Mapping[str, float] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self.spec = spec
        self.lr = spec.lr
        self._names = {parameter: name for name, parameter in parameters.items()}
        self._velocity: dict[nn.Parameter, Tensor | None] = dict.fromkeys(self._names)
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter, name in self._names.items():
            decay = spec.weight_decay if spec.decay == "all" or parameter in decaying else 0.0
            groups.setdefault((rates.get(name, 1.0), decay), []).append(parameter)
        self._rate = rate_on_device(spec.lr, self._names)
        self._groups = [(parameters, *key) for key, parameters in groups.items()]
        """parameters, their rate as a share of the recipe's, and their weight decay"""
        self._in_place = False

    def reserve(self) -> None:
        """Gradients and velocities get their places before the first step, and stay there.

        Else they come to lie between activations that are freed, and the C library's heap is left with holes a little
        too small for the next: a checkpointed network of 434 layers took more than twice the memory (docs/log.md).
        """
        self._in_place = True
        for parameter in self._names:
            if self.spec.momentum:
                self._velocity[parameter] = torch.zeros_like(parameter, requires_grad=False)
            parameter.grad = torch.zeros_like(parameter)

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
        for group, share, weight_decay in self._groups:
            parameters = [p for p in group if p.grad is not None and p.requires_grad]
            rate = self.lr if self._rate is None else self._rate
            velocities = [self._velocity[parameter] for parameter in parameters]
            if any(velocity is not None for velocity in velocities):  # those that joined later start from rest
                velocities = [
                    torch.zeros_like(p) if v is None else v for p, v in zip(parameters, velocities, strict=True)
                ]
            sgd(
                list(parameters),
                [parameter.grad for parameter in parameters if parameter.grad is not None],
                velocities,
                fused=True,
                weight_decay=weight_decay,
                momentum=self.spec.momentum,
                lr=rate if share == 1.0 else rate * share,
                dampening=0.0,
                nesterov=self.spec.nesterov,
                maximize=False,
            )
            self._velocity.update(zip(parameters, velocities, strict=True))
        for parameter in self._names:
            _drop(parameter, in_place=self._in_place)


def _drop(parameter: nn.Parameter, *, in_place: bool) -> None:
    """Ends a gradient's use."""
    if in_place and parameter.grad is not None:
        parameter.grad.zero_()
    else:
        parameter.grad = None


def rate_on_device(lr: float, parameters: Iterable[nn.Parameter]) -> Tensor | None:
    """The learning rate as a tensor on a CUDA device, so that a captured step reads the current value; else None."""
    device = next((parameter.device for parameter in parameters), torch.device("cpu"))
    return torch.tensor(lr, device=device) if device.type == "cuda" else None


class MuonOptimizer:
    """Muon for the filters of convolutions, SGD for everything else (Jordan et al. 2024, "Muon").

    The momentum of a bank of filters, as a matrix of a row a filter, is replaced by the nearest matrix with
    orthogonal rows (or columns), so that every direction learns at the same rate.
    """

    def __init__(self, net: nn.Module, spec: Muon) -> None:
        self.spec, self.lr = spec, spec.lr
        everything = trained(net)
        self._filters = {name: parameter for name, parameter in everything.items() if parameter.dim() == 4}
        rest = {name: parameter for name, parameter in everything.items() if name not in self._filters}
        self._velocity = {name: torch.zeros_like(parameter) for name, parameter in self._filters.items()}
        self._rate = rate_on_device(spec.lr, everything.values())
        self.others = Optimizer(rest, spec.others, decaying(net))
        self._in_place = False

    def reserve(self) -> None:
        """As `Optimizer.reserve`."""
        self._in_place = True
        for parameter in self._filters.values():
            parameter.grad = torch.zeros_like(parameter)
        self.others.reserve()

    def set_lr(self, lr: float) -> None:
        """Sets the rate of the next step, and that of the others in proportion."""
        self.lr = lr
        if self._rate is not None:
            self._rate.fill_(lr)
        self.others.set_lr(self.spec.others.lr * lr / self.spec.lr)

    def momentum(self) -> dict[str, Tensor]:
        """The velocities by the names of their parameters."""
        return {**self._velocity, **self.others.momentum()}

    def restore(self, lr: float, momentum: dict[str, Tensor]) -> None:
        """Continues from saved velocities and the rate that they were made with."""
        for name, velocity in self._velocity.items():
            if name in momentum:
                velocity.copy_(momentum[name])
        self.others.restore(self.spec.others.lr * lr / self.spec.lr, momentum)
        self.set_lr(lr)

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradients, which are then dropped."""
        for name, parameter in self._filters.items():
            gradient = parameter.grad
            if gradient is None:
                continue
            velocity = self._velocity[name]
            velocity.mul_(self.spec.momentum).add_(gradient)
            direction = gradient.add(velocity, alpha=self.spec.momentum) if self.spec.nesterov else velocity
            rows = len(parameter)
            if self.spec.normalize:
                parameter.mul_(rows**0.5 / parameter.norm())
            update = orthogonalised(direction.reshape(rows, -1), self.spec.steps).view(parameter.shape)
            rate = self.lr if self._rate is None else self._rate
            parameter.sub_(update.to(parameter.dtype) * rate)
            _drop(parameter, in_place=self._in_place)
        self.others.step()


def orthogonalised(matrix: Tensor, steps: int) -> Tensor:
    """About the nearest matrix with singular values of one, by a quintic Newton-Schulz iteration in bf16.

    The coefficients are those of Jordan et al. 2024, chosen for speed: singular values end between 0.7 and 1.2.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x: Tensor = matrix.bfloat16()
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x
