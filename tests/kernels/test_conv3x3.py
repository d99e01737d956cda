"""The kernels for 3x3 convolutions against PyTorch's, and where they are used."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from reslab.kernels import conv
from reslab.kernels.build import has
from reslab.nets import build
from reslab.nets.layers import Conv2d
from reslab.nets.network import Network

BOTH = pytest.mark.parametrize("processor", ["", "-mno-avx512f"], indirect=True)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
"""What is expected of each follows from `has`: from the kernels of the processor that is tested, not of this one."""


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def activation(n: int, height: int, width: int, dtype: torch.dtype, seed: int = 0, channels: int = 16) -> Tensor:
    return draw(n, channels, height, width, seed=seed).to(dtype).contiguous(memory_format=torch.channels_last)


def apart(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.double() - theirs).abs().max() / theirs.abs().max())


def some_kernel() -> None:
    if not (has("conv16", torch.float32) or has("winograd", torch.float32)):
        pytest.skip("this processor has none of the kernels")


SIZES = [(32, 32), (8, 8), (24, 24), (9, 7), (17, 33), (3, 20), (40, 5), (1, 40), (1, 1)]


@pytest.mark.parametrize("channels", [(16, 16), (32, 32), (16, 48), (64, 16)])
@DTYPES
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("weights_last", [False, True])
@BOTH
def test_outputs_and_gradients(
    channels: tuple[int, int], size: tuple[int, int], dtype: torch.dtype, weights_last: bool, processor: None
) -> None:
    own, to = channels
    x, grad = activation(5, *size, dtype, channels=own), activation(5, *size, dtype, seed=1, channels=to)
    expected = (has("winograd", dtype) and size != (1, 1)) or (has("conv16", dtype) and channels == (16, 16))
    assert conv.supports(x, nn.Conv2d(own, to, 3, padding=1, bias=False)) == expected
    if not expected:
        pytest.skip("left to the library on this processor")
    weight = 0.1 * draw(to, own, 3, 3, seed=2)
    if weights_last:  # as in a network that was moved to channels-last
        weight = weight.contiguous(memory_format=torch.channels_last)
    ours = (x.clone().requires_grad_(), weight.clone().requires_grad_())
    exact = (x.double().requires_grad_(), weight.to(dtype).double().requires_grad_())
    y, z = conv.conv3x3(*ours), F.conv2d(*exact, padding=1)
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


@BOTH
def test_only_the_gradients_that_are_asked_for(processor: None) -> None:
    some_kernel()
    x, weight = activation(2, 8, 8, torch.float32), draw(16, 16, 3, 3)
    conv.conv3x3(x, weight.requires_grad_()).sum().backward()
    assert (x.grad is None, weight.grad is None) == (True, False)
    moving, frozen = activation(2, 8, 8, torch.float32).requires_grad_(), draw(16, 16, 3, 3)
    conv.conv3x3(moving, frozen).sum().backward()
    assert (moving.grad is None, frozen.grad is None) == (False, True)


@BOTH
def test_second_derivatives(processor: None) -> None:
    some_kernel()
    x, weight = activation(2, 8, 8, torch.float32).requires_grad_(), (0.1 * draw(16, 16, 3, 3)).requires_grad_()

    def penalty(convolved: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(convolved.pow(3).sum(), x, create_graph=True)
        return slope.pow(2).sum()

    ours = torch.autograd.grad(penalty(conv.conv3x3(x, weight)), weight)[0]
    theirs = torch.autograd.grad(penalty(F.conv2d(x, weight, padding=1)), weight)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-2)


@BOTH
def test_nan_passes_to_where_it_is_seen_from(processor: None) -> None:
    some_kernel()
    x = activation(2, 8, 8, torch.float32)
    x[0, 3, 2, 2] = float("nan")
    y = conv.conv3x3(x, draw(16, 16, 3, 3))
    assert y[0, :, 1:4, 1:4].isnan().all()
    rest = torch.ones(2, 8, 8, dtype=torch.bool)
    rest[0, 1:4, 1:4] = False
    assert not y.permute(0, 2, 3, 1)[rest].isnan().any()


@pytest.mark.parametrize(
    "fields",
    [{"in_channels": 8}, {"out_channels": 40}, {"kernel_size": 1, "padding": 0}, {"stride": 2}, {"padding": 0},
     {"dilation": 2}, {"groups": 2}, {"bias": True}, {"padding_mode": "reflect"}],
)  # fmt: skip
@BOTH
def test_other_layers_are_left_to_pytorch(fields: dict[str, Any], processor: None) -> None:
    some_kernel()
    usual: dict[str, Any] = {"in_channels": 16, "out_channels": 16, "kernel_size": 3, "padding": 1, "bias": False}
    x = activation(2, 8, 8, torch.float32)
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


@DTYPES
@BOTH
def test_a_network_uses_it(dtype: torch.dtype, processor: None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []
    own = conv.conv3x3

    def watched(x: Tensor, weight: Tensor) -> Tensor:
        seen.append(x.dtype)
        return own(x, weight)

    monkeypatch.setattr(conv, "conv3x3", watched)
    x = draw(4, 3, 8, 8)
    hooked = network(True)
    outputs: list[Tensor] = []
    hooked.get_submodule("layer1.0.conv1").register_forward_hook(lambda *args: outputs.append(args[-1]))
    for net in (network(True), network(False), hooked):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            net(x)
    layers = 2 if has("conv16", dtype) or has("winograd", dtype) else 0
    assert seen == [dtype] * 2 * layers, "the first stage's, in the two fused networks; hooks see them all the same"
    assert outputs[0].dtype == dtype


@BOTH
def test_the_same_bits_every_time(two_threads: None, processor: None) -> None:
    some_kernel()
    x, grad = activation(7, 9, 9, torch.float32), activation(7, 9, 9, torch.float32, seed=3)
    results = []
    for _ in range(3):
        weight = (0.1 * draw(16, 16, 3, 3)).requires_grad_()
        conv.conv3x3(x, weight).backward(grad)
        assert weight.grad is not None
        results.append(weight.grad)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@BOTH
def test_the_shortcuts_gradient_is_added_in_the_kernel(processor: None) -> None:
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


@pytest.mark.parametrize("processor", [""], indirect=True)
@pytest.mark.parametrize("stride", [2, 3, (2, 1)])
@pytest.mark.parametrize("channels", [1, 3, 7])
def test_few_channels_and_a_stride_are_computed_without_the_stride(
    channels: int, stride: int | tuple[int, int], processor: None
) -> None:
    """PyTorch's own kernel writes beyond its memory on some processors."""
    x = activation(4, 12, 10, torch.float32, channels=channels)
    ours, theirs = Conv2d(channels, 8, 1, stride=stride), nn.Conv2d(channels, 8, 1, stride=stride).double()
    theirs.load_state_dict({name: value.double() for name, value in ours.state_dict().items()})
    y = ours(x)
    z = theirs(x.double().contiguous())  # neither channels-last nor fp32
    assert conv.is_unsafe(ours, x)
    torch.testing.assert_close(y.double(), z, rtol=1e-5, atol=1e-5)
    y.square().sum().backward()
    z.square().sum().backward()
    assert ours.weight.grad is not None
    torch.testing.assert_close(ours.weight.grad.double(), theirs.weight.grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("processor", [""], indirect=True)
@pytest.mark.parametrize("seed", range(60))
def test_few_channels_and_a_stride_of_any_size(seed: int, processor: None) -> None:
    """With PyTorch's own kernel an eighth of these were wrong on a processor with AVX2 and no more."""
    random = torch.Generator().manual_seed(seed)

    def drawn(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=random))

    torch.set_num_threads(2)
    channels, outputs, stride = drawn(2, 7), drawn(2, 32), drawn(2, 3)
    x = activation(drawn(1, 9), drawn(2, 20), drawn(2, 20), torch.float32, seed=seed, channels=channels)
    ours = Conv2d(channels, outputs, 1, stride=stride, padding="valid" if seed % 2 else 0)
    ours(x).square().sum().backward()
    theirs = nn.Conv2d(channels, outputs, 1, stride=stride).double()
    theirs.load_state_dict({name: value.double() for name, value in ours.state_dict().items()})
    theirs(x.double().contiguous()).square().sum().backward()
    assert ours.weight.grad is not None
    assert theirs.weight.grad is not None
    scale = theirs.weight.grad.abs().max()
    torch.testing.assert_close(ours.weight.grad.double(), theirs.weight.grad, rtol=1e-4, atol=1e-5 * float(scale))


@pytest.mark.parametrize("name", ["cifar_resnet(depth=8, shortcut='B', width=4)", "cifar_resnet(depth=8, width=4)"])
def test_every_strided_convolution_of_a_network_is_ours(name: str) -> None:
    """Also that of a projection, where such layers are most often."""
    net = build(name, seed=1, size=(12, 12))
    found = [module for module in net.modules() if isinstance(module, nn.Conv2d) and module.stride != (1, 1)]
    assert found
    assert all(isinstance(module, Conv2d) for module in found)


@pytest.mark.parametrize("processor", [""], indirect=True)
def test_images_shared_by_threads(processor: None) -> None:
    """More images than threads, and a number that does not divide: nobody's part is lost or done twice."""
    conv3x3 = Conv2d(16, 32, 3, padding=1, bias=False)
    conv3x3.fused = True
    for threads in (2, 3):
        torch.set_num_threads(threads)
        for n in (7, 8, 13):
            x = activation(n, 12, 10, torch.float32).requires_grad_()
            conv3x3.zero_grad()
            y = conv3x3(x)
            grad = torch.randn_like(y)
            y.backward(grad)
            z = x.detach().double().requires_grad_()
            weight = conv3x3.weight.detach().double().requires_grad_()
            expected = F.conv2d(z, weight, padding=1)
            expected.backward(grad.double())
            for mine, exact in ((y, expected), (x.grad, z.grad), (conv3x3.weight.grad, weight.grad)):
                assert mine is not None
                assert exact is not None
                torch.testing.assert_close(mine.double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("processor", [""], indirect=True)
def test_who_looks_on_sees_pytorchs_operators(processor: None) -> None:
    """A kernel is invisible to tracers and to counters of operations, and reads memory as it lies."""
    layer = Conv2d(16, 32, 3, padding=1, bias=False)
    x = activation(8, 16, 16, torch.float32)
    expected = layer(x)
    layer.fused = True
    traced = make_fx(layer)(x)
    torch.testing.assert_close(traced(x), expected)
    with FlopCounterMode(display=False) as counter:
        layer(x)
    assert counter.get_total_flops() == 2 * expected.numel() * 16 * 9
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert layer(x).shape == expected.shape
    negative = torch._neg_view(x)
    assert negative.is_neg()
    torch.testing.assert_close(layer(negative), -expected)
    layer.weight = nn.Parameter(torch.randn(32, 8, 3, 3))
    with pytest.raises(RuntimeError, match="channels"):
        layer(x)
