"""Max pooling on a GPU against PyTorch: run by Triton's interpreter where there is no GPU."""

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("triton", reason="Triton is not installed here")
from reslab.kernels import triton_pool as kernels


@pytest.mark.parametrize("shape", [(2, 16, 8, 8), (1, 1, 2, 3), (3, 5, 7, 9), (2, 130, 5, 4)])
@pytest.mark.parametrize(("side", "pad"), [(2, 0), (3, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_pytorchs(shape: tuple[int, ...], side: int, pad: int, dtype: torch.dtype) -> None:
    """Of numbers with many equal ones, so that the first of them has to be taken."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(-3, 4, shape, generator=draw).to(dtype).contiguous(memory_format=torch.channels_last)
    leaf = x.float().requires_grad_()
    wanted = F.max_pool2d(leaf, side, 2, pad)
    grad = torch.randn(wanted.shape, generator=draw).to(dtype).contiguous(memory_format=torch.channels_last)
    y, which = kernels.forward(x, side, pad)
    assert torch.equal(y.float(), wanted)
    wanted.backward(grad.float())
    found = kernels.backward(grad, which, x.shape, side, pad)
    assert leaf.grad is not None
    assert torch.allclose(found.float(), leaf.grad, rtol=1e-6 if dtype == torch.float32 else 0.008, atol=1e-6)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_what_is_no_number() -> None:
    """A NaN is the largest, and windows of nothing but minus infinity have a place all the same."""
    x = torch.full((1, 2, 4, 4), float("-inf")).contiguous(memory_format=torch.channels_last)
    x[0, 0, 1, 1] = float("nan")
    y, which = kernels.forward(x, 3, 1)
    wanted, places = F.max_pool2d(x, 3, 2, 1, return_indices=True)
    assert torch.equal(y.isnan(), wanted.isnan())
    grad = torch.ones_like(y)
    right = torch.zeros(1, 2, 16).scatter_add_(2, places.flatten(2), grad.flatten(2)).view(1, 2, 4, 4)
    assert torch.equal(kernels.backward(grad, which, x.shape, 3, 1), right)
