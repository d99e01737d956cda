"""Shortcut option A as a GPU runs it, against PyTorch's slicing and padding: equal bit for bit."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from reslab.kernels import gpu, subsample
from reslab.nets.layers import Pad
from reslab.nets.spec import ZeroPad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("zeros", ["both", "end"])
@pytest.mark.parametrize(
    ("shape", "made", "stride"), [((2, 4, 6, 6), 8, 2), ((1, 3, 7, 5), 8, 2), ((2, 3, 4, 4), 5, 1)]
)
def test_it_and_its_gradient(
    dtype: torch.dtype, zeros: str, shape: tuple[int, ...], made: int, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "usable", lambda device: True)
    x = torch.randn(shape).to(dtype, memory_format=torch.channels_last).requires_grad_()
    layer = Pad(shape[1], made, stride, ZeroPad.model_validate({"zeros": zeros}))
    wanted = layer(x)
    grad = torch.randn(wanted.shape).to(dtype)
    layer.fused = True
    assert subsample.supports(x)
    found = layer(x)
    assert torch.equal(found, wanted)
    assert found.is_contiguous(memory_format=torch.channels_last)
    (of_x,), (right,) = (torch.autograd.grad(y, x, grad) for y in (found, wanted))
    assert torch.equal(of_x, right)
    assert of_x.is_contiguous(memory_format=torch.channels_last)


def test_gradients_of_gradients() -> None:
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor) -> Tensor:
        return subsample.subsample(x, 2, 1, 5)

    assert torch.equal(run(x), F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 2)))
    assert torch.autograd.gradcheck(run, x)
    assert torch.autograd.gradgradcheck(run, x)
