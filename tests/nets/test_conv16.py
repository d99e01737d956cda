"""The kernel for narrow convolutions against PyTorch's, and where it is used."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.nets import build
from reslab.nets.blocks import Conv2d
from reslab.nets.kernels import conv
from reslab.nets.kernels.build import has
from reslab.nets.network import Network

pytestmark = pytest.mark.skipif(not has("conv16", torch.float32), reason="no registers of 512 bits, or no C++ compiler")
TYPES = [
    torch.float32,
    pytest.param(
        torch.bfloat16, marks=pytest.mark.skipif(not has("conv16", torch.bfloat16), reason="no bf16 in the processor")
    ),
]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def activation(n: int, height: int, width: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return draw(n, 16, height, width, seed=seed).to(dtype).contiguous(memory_format=torch.channels_last)


def apart(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.double() - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [(32, 32), (8, 8), (24, 24), (9, 7), (17, 33), (1, 1), (3, 20), (40, 5)])
@pytest.mark.parametrize("weights_last", [False, True])
def test_outputs_and_gradients(size: tuple[int, int], dtype: torch.dtype, weights_last: bool) -> None:
    x, grad = activation(5, *size, dtype), activation(5, *size, dtype, seed=1)
    weight = 0.1 * draw(16, 16, 3, 3, seed=2)
    if weights_last:  # as in a network that was moved to channels-last
        weight = weight.contiguous(memory_format=torch.channels_last)
    ours = (x.clone().requires_grad_(), weight.clone().requires_grad_())
    exact = (x.double().requires_grad_(), weight.to(dtype).double().requires_grad_())
    y, z = conv.conv16(*ours), F.conv2d(*exact, padding=1)
    y.backward(grad)
    z.backward(grad.double())
    rounding = 1e-5 if dtype == torch.float32 else 2**-8
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert apart(y.detach(), z.detach()) < rounding
    for mine, theirs, bound in zip(ours, exact, (rounding, 1e-5), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert apart(mine.grad, theirs.grad) < bound


def test_only_the_gradients_that_are_asked_for() -> None:
    x, weight = activation(2, 8, 8, torch.float32), draw(16, 16, 3, 3)
    conv.conv16(x, weight.requires_grad_()).sum().backward()
    assert (x.grad is None, weight.grad is None) == (True, False)
    moving, frozen = activation(2, 8, 8, torch.float32).requires_grad_(), draw(16, 16, 3, 3)
    conv.conv16(moving, frozen).sum().backward()
    assert (moving.grad is None, frozen.grad is None) == (False, True)


def test_second_derivatives() -> None:
    x, weight = activation(1, 4, 4, torch.float32).requires_grad_(), (0.1 * draw(16, 16, 3, 3)).requires_grad_()

    def penalty(convolved: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(convolved.pow(3).sum(), x, create_graph=True)
        return slope.pow(2).sum()

    ours = torch.autograd.grad(penalty(conv.conv16(x, weight)), weight)[0]
    theirs = torch.autograd.grad(penalty(F.conv2d(x, weight, padding=1)), weight)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-2)


def test_nan_and_infinity_pass() -> None:
    x = activation(1, 6, 6, torch.float32)
    x[0, 3, 2, 2] = float("nan")
    y = conv.conv16(x, draw(16, 16, 3, 3))
    assert y[0, :, 1:4, 1:4].isnan().all()
    assert not y[0, :, 4:].isnan().any()


@pytest.mark.parametrize(
    "fields",
    [{"in_channels": 8}, {"out_channels": 32}, {"kernel_size": 1, "padding": 0}, {"stride": 2}, {"padding": 0},
     {"dilation": 2}, {"groups": 2}, {"bias": True}, {"padding_mode": "reflect"}],
)  # fmt: skip
def test_other_layers_are_left_to_pytorch(fields: dict[str, Any]) -> None:
    usual: dict[str, Any] = {"in_channels": 16, "out_channels": 16, "kernel_size": 3, "padding": 1, "bias": False}
    x = activation(2, 6, 6, torch.float32)
    assert conv.supports(x, nn.Conv2d(**usual))
    assert not conv.supports(x, nn.Conv2d(**(usual | fields)))
    assert not conv.supports(x.contiguous(), nn.Conv2d(**usual))
    assert not conv.supports(x.double(), nn.Conv2d(**usual))
    assert not conv.supports(x.to("meta"), nn.Conv2d(**usual))
    assert not conv.supports(x, nn.Conv2d(**usual).to(torch.bfloat16))
    module = Conv2d(**(usual | fields))
    module.fused = True
    if module.in_channels == 16:
        torch.testing.assert_close(module(x), nn.Conv2d.forward(module, x), rtol=0, atol=0)


def network(fused: bool) -> Network:
    net = build("cifar_resnet(depth=8)", seed=1, size=(8, 8)).to(memory_format=torch.channels_last)
    assert isinstance(net, Network)
    return net.fuse(fused)


@pytest.mark.parametrize("bf16", [False, pytest.param(True, marks=TYPES[1].marks)])  # type: ignore[attr-defined]
def test_a_network_uses_it(bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []
    own = conv.conv16

    def watched(x: Tensor, weight: Tensor) -> Tensor:
        seen.append(x.dtype)
        return own(x, weight)

    monkeypatch.setattr(conv, "conv16", watched)
    x = draw(4, 3, 8, 8)
    hooked = network(True)
    outputs: list[Tensor] = []
    hooked.get_submodule("layer1.0.conv1").register_forward_hook(lambda *args: outputs.append(args[-1]))
    for net in (network(True), network(False), hooked):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            net(x)
    dtype = torch.bfloat16 if bf16 else torch.float32
    assert seen == [dtype] * 4, "both layers of the first stage, in the two fused networks; hooks see them all the same"
    assert outputs[0].dtype == dtype


def test_the_same_bits_every_time(two_threads: None) -> None:
    x, grad = activation(7, 9, 9, torch.float32), activation(7, 9, 9, torch.float32, seed=3)
    results = []
    for _ in range(3):
        weight = (0.1 * draw(16, 16, 3, 3)).requires_grad_()
        conv.conv16(x, weight).backward(grad)
        assert weight.grad is not None
        results.append(weight.grad)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_the_shortcuts_gradient_is_added_in_the_kernel() -> None:
    """Two gradients of one activation, apart: the network's are those of the modules."""
    x = draw(4, 3, 8, 8)
    grads = []
    for fused in (False, True):
        net = network(fused).train()
        net(x).square().sum().backward()
        grads.append({name: parameter.grad for name, parameter in net.named_parameters()})
    for name, theirs in grads[0].items():
        ours = grads[1][name]
        assert ours is not None
        assert theirs is not None
        scale = theirs.abs().max().clamp_min(1e-6)
        assert float((ours - theirs).abs().max() / scale) < 1e-3, name
