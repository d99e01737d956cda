"""The kernels for other processors than this one: with vectors as wide as theirs they compute the same."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from reslab.kernels import build, conv, pool
from reslab.kernels.norm import Activation
from reslab.nets.layers import Conv2d

from .test_fused import CASES, by_kernel, norm, normal

NARROW = pytest.mark.parametrize("processor", ["-mno-avx512f", "-mno-avx"], indirect=True)


@NARROW
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("act", ["none", "relu", "gelu"])
@pytest.mark.parametrize("case", CASES)
def test_bn(
    case: tuple[int, ...], act: Activation, dtype: torch.dtype, processor: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, residual = normal(case, 1, dtype), normal(case, 2, dtype)
    ours = by_kernel(x, residual, norm(case[1]), act)
    monkeypatch.undo()
    theirs = by_kernel(x, residual, norm(case[1]), act)
    assert ours is not None
    assert theirs is not None
    close = 1e-4 if dtype == torch.float32 else 2e-2
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=close, atol=close, msg=name)


@NARROW
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pooling(dtype: torch.dtype, processor: None) -> None:
    x = normal((3, 32, 9, 8), 1, dtype).requires_grad_()
    y, expected = pool.max_pool(x, 3), F.max_pool2d(x, 3, 2, 1)
    assert torch.equal(y, expected)
    grad = normal(tuple(y.shape), 2, dtype)
    wide = x.detach().float().requires_grad_()
    (ours,) = torch.autograd.grad(y, x, grad)
    (theirs,) = torch.autograd.grad(F.max_pool2d(wide, 3, 2, 1), wide, grad.float())
    torch.testing.assert_close(ours, theirs.to(dtype))


@pytest.mark.parametrize("processor", ["-mno-avx"], indirect=True)
def test_where_there_is_no_kernel_the_convolution_is_left_to_the_library(processor: None) -> None:
    module = Conv2d(16, 16, 3, padding=1, bias=False)
    module.fused = True
    x: Tensor = normal((2, 16, 8, 8), 1)
    assert not build.has("conv16", x.dtype)
    assert not build.has("winograd", x.dtype)
    assert not conv.supports(x, module)
    torch.testing.assert_close(module(x), torch.nn.Conv2d.forward(module, x), rtol=0, atol=0)
