"""1x1 convolutions as matrix products, against PyTorch's convolutions."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from reslab.kernels import pointwise
from reslab.nets import build
from reslab.nets.layers import Conv2d
from reslab.nets.network import Network


def draw(*shape: int, seed: int = 0) -> Tensor:
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return drawn.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 3)])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 1)])
@pytest.mark.parametrize("channels", [(16, 32), (3, 5), (64, 8)])
def test_outputs_and_gradients(
    channels: tuple[int, int], size: tuple[int, int], stride: tuple[int, int], dtype: torch.dtype
) -> None:
    before, after = channels
    found = []
    for own in (True, False):
        # The reference is in fp64, of the same rounded numbers.
        exact = dtype if own else torch.float64
        x = draw(3, before, *size).to(dtype).to(exact).requires_grad_()
        weight = draw(after, before, 1, 1, seed=1).to(dtype).to(torch.float32 if own else exact).requires_grad_()
        y = pointwise.conv1x1(x, weight, stride) if own else F.conv2d(x, weight, stride=stride)
        y.backward(draw(*y.shape, seed=2).to(dtype).to(exact))
        assert x.grad is not None
        assert weight.grad is not None
        assert weight.grad.dtype == weight.dtype
        if own:
            assert y.dtype == dtype
            assert y.is_contiguous(memory_format=torch.channels_last)
            assert x.grad.is_contiguous(memory_format=torch.channels_last)
        found.append([each.detach().double() for each in (y, x.grad, weight.grad)])
    close = 1e-5 if dtype == torch.float32 else 1e-2
    for ours, theirs in zip(*found, strict=True):
        assert float((ours - theirs).abs().max()) <= close * float(theirs.abs().max())


def test_second_derivatives() -> None:
    x = draw(2, 3, 4, 4).double().requires_grad_()
    weight = draw(5, 3, 1, 1).double().requires_grad_()

    def layer(x: Tensor, weight: Tensor) -> Tensor:
        return pointwise.conv1x1(x, weight, (2, 2))

    assert torch.autograd.gradgradcheck(layer, (x, weight))


@pytest.mark.parametrize(
    "fields",
    [{"kernel_size": 3}, {"padding": 1}, {"groups": 2}, {"bias": True}],
    ids=str,
)
def test_other_layers_are_left_to_the_library(fields: dict[str, Any]) -> None:
    usual: dict[str, Any] = {"in_channels": 16, "out_channels": 16, "kernel_size": 1, "bias": False}
    x = draw(2, 16, 8, 8)
    assert pointwise.supports(x, nn.Conv2d(**usual))
    assert not pointwise.supports(x, nn.Conv2d(**(usual | fields)))
    assert not pointwise.supports(x.contiguous(), nn.Conv2d(**usual))
    assert not pointwise.supports(x.double(), nn.Conv2d(**usual))
    assert not pointwise.supports(x[:0], nn.Conv2d(**usual))
    assert not pointwise.supports(x.to("meta"), nn.Conv2d(**usual))
    assert not pointwise.supports(x, nn.Conv2d(**usual).to(torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_asks(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.dtype] = []
    own = pointwise.conv1x1

    def counted(x: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:
        calls.append(x.dtype)
        return own(x, weight, stride)

    monkeypatch.setattr(pointwise, "conv1x1", counted)
    net = build("cifar_bottleneck(depth=11)", size=(8, 8)).eval()
    assert isinstance(net, Network)
    net = net.to(memory_format=torch.channels_last)
    layers = sum(isinstance(each, Conv2d) and each.kernel_size == (1, 1) for each in net.modules())
    x = draw(4, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        plain = net.fuse(False)(x)
        assert calls == []
        fused = net.fuse()(x)
        assert calls == layers * [dtype]
        monkeypatch.setattr(pointwise, "pays", lambda *_: False)
        net(x)
    assert len(calls) == layers
    close = 1e-4 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(fused.float(), plain.float(), rtol=close, atol=close)


def test_who_looks_on_sees_the_librarys_convolutions() -> None:
    layer = nn.Conv2d(16, 16, 1, bias=False)
    x = draw(2, 16, 8, 8)
    with FlopCounterMode(display=False):
        assert not pointwise.supports(x, layer)
    with FakeTensorMode():
        assert not pointwise.supports(torch.empty(2, 16, 8, 8).contiguous(memory_format=torch.channels_last), layer)
