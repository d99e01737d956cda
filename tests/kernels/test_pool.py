"""The kernels for max pooling against PyTorch's, and where it is used."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.kernels import pool
from reslab.kernels.build import library
from reslab.nets.layers import MaxPool2d

pytestmark = pytest.mark.skipif(library() is None, reason="no C++ compiler: there are no kernels")
TYPES = [torch.float32, torch.bfloat16]


def activation(channels: int, height: int, width: int, dtype: torch.dtype) -> Tensor:
    """Small whole numbers, so that many windows have more than one largest."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(-3, 4, (3, channels, height, width), generator=draw).to(dtype)
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (9, 8), (2, 2), (3, 2), (2, 5)])
@pytest.mark.parametrize("channels", [16, 48])
@pytest.mark.parametrize("side", [2, 3])
def test_outputs_and_gradients(channels: int, size: tuple[int, int], dtype: torch.dtype, side: int) -> None:
    ours = activation(channels, *size, dtype).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    y, z = pool.max_pool(ours, side), F.max_pool2d(theirs, side, 2, side // 3)
    # Whole numbers, whose sums over windows that overlap are exact.
    grad = torch.randint(-9, 10, y.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    y.backward(grad)
    z.backward(grad)
    assert torch.equal(y, z)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("side", [2, 3])
@pytest.mark.parametrize("dtype", TYPES)
def test_what_is_no_number_and_infinity(dtype: torch.dtype, side: int) -> None:
    x = activation(16, 8, 8, dtype)
    for i, number in enumerate((float("nan"), float("inf"), float("-inf"), -0.0)):
        x[0, i, :4, i] = number
    x[1, :, :2, :2] = float("-inf")
    ours, theirs = pool.max_pool(x, side), F.max_pool2d(x, side, 2, side // 3)
    assert torch.equal(ours.nan_to_num(77), theirs.nan_to_num(77))


@pytest.mark.parametrize("side", [2, 3])
def test_second_derivatives(side: int) -> None:
    x = torch.randn(2, 16, 5, 6, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()

    def penalty(pooled: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(pooled.pow(3).sum(), x, create_graph=True)
        return slope.pow(2).sum()

    ours = torch.autograd.grad(penalty(pool.max_pool(x, side)), x)[0]
    theirs = torch.autograd.grad(penalty(F.max_pool2d(x, side, 2, side // 3)), x)[0]
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("module", "x"),
    [
        (MaxPool2d(3, 2), activation(16, 8, 8, torch.float32)),
        (MaxPool2d(2, 1), activation(16, 8, 8, torch.float32)),
        (MaxPool2d(2, 2, ceil_mode=True), activation(16, 7, 7, torch.float32)),
        (MaxPool2d(2, 2), activation(12, 8, 8, torch.float32)),
        (MaxPool2d(2, 2), activation(16, 8, 8, torch.float32).contiguous()),
        (MaxPool2d(2, 2), activation(16, 8, 8, torch.float32).double()),
        (MaxPool2d(2, 2), activation(16, 8, 8, torch.float32)[0]),
    ],
)
def test_what_the_kernel_cannot_do_is_left_to_pytorch(module: MaxPool2d, x: Tensor) -> None:
    assert not pool.supports(x, module)
    module.fused = True
    assert torch.equal(module(x), nn.MaxPool2d(module.kernel_size, module.stride, ceil_mode=module.ceil_mode)(x))


def test_the_module_graph_is_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Tensor] = []

    def instead(x: Tensor, side: int) -> Tensor:
        called.append(x)
        return F.max_pool2d(x, 2)

    monkeypatch.setattr(pool, "max_pool", instead)
    module, x = MaxPool2d(2, 2), activation(16, 8, 8, torch.float32)
    module(x)
    assert not called
    module.fused = True
    module(x)
    assert called
