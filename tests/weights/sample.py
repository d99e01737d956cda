"""Weights to test with: random ones, with BN statistics that are not those of a fresh network."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

State = dict[str, Tensor]


@torch.no_grad()
def scrambled(net: nn.Module, seed: int = 0) -> nn.Module:
    """The network in evaluation mode, with random parameters and statistics that keep the signal within bounds."""
    draw = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan = module.weight[0].numel()
            module.weight.copy_(torch.randn(module.weight.shape, generator=draw) * (1.5 / fan) ** 0.5)
            if module.bias is not None:
                module.bias.copy_(torch.randn(module.bias.shape, generator=draw) * 0.1)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            width = module.num_features
            assert module.running_mean is not None
            assert module.running_var is not None
            assert module.num_batches_tracked is not None
            module.weight.copy_(torch.rand(width, generator=draw) + 0.5)
            module.bias.copy_(torch.randn(width, generator=draw) * 0.1)
            module.running_mean.copy_(torch.randn(width, generator=draw) * 0.1)
            module.running_var.copy_(torch.rand(width, generator=draw) + 0.5)
            module.num_batches_tracked.fill_(7)
    return net.eval()


def pictures(count: int = 2, channels: int = 3, size: int = 32, seed: int = 1) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def assert_same_output(one: nn.Module, other: nn.Module, images: Tensor) -> None:
    """Equal to rounding, and not because the output is nothing."""
    expected = one.eval()(images)
    assert expected.std() > 1e-3
    torch.testing.assert_close(other.eval()(images), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def on_nothing(make: Callable[[], nn.Module]) -> Mapping[str, Tensor]:
    """The state dict of a network without numbers: names and shapes, which is quick."""
    with torch.device("meta"):
        return make().state_dict()


def saved(path: Path, state: Mapping[str, Any], *, legacy: bool = False) -> Path:
    """As ``torch.save`` writes it, now or (``legacy``) before PyTorch 1.6."""
    torch.save(dict(state), path, _use_new_zipfile_serialization=not legacy)
    return path


class Payload:
    """Whoever unpickles this leaves a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def armed(tmp_path: Path) -> tuple[Payload, Path]:
    """A payload that is known to go off where it is let, and the file that it makes."""
    marker = tmp_path / "executed"
    payload = Payload(marker)
    pickle.loads(pickle.dumps(payload))
    assert marker.exists()
    marker.unlink()
    return payload, marker
