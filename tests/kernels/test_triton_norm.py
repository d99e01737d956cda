"""The GPU's BN kernels against PyTorch in fp64: run by Triton's interpreter where there is no GPU."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

pytest.importorskip("triton", reason="Triton is not installed here")
from reslab.kernels import triton_norm as kernels

ACTIVATIONS = {"none": 0, "relu": 1, "gelu": 2}
SHAPES = [  # (N, C, H, W), groups
    ((4, 16, 5, 7), 1),
    ((4, 16, 5, 7), 2),
    ((6, 3, 4, 4), 3),
    ((1, 17, 3, 3), 1),
    ((2, 1, 9, 1), 2),
    ((8, 130, 2, 3), 4),
    ((2, 600, 1, 2), 1),
]
LARGE = [
    ((2, 2048, 1, 2), 1),
    ((2, 2048, 7, 7), 2),
    ((2, 16, 70, 65), 2),  # several blocks of rows, the last one not full
    ((1, 64, 56, 57), 1),
    ((7, 129, 13, 11), 7),
    ((32, 1, 32, 32), 2),
]


def normal(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 1.5 + 0.4
    return x.to(dtype).contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x.to(dtype)


def reference(x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, groups: int, activation: str) -> Tensor:
    parts = [F.batch_norm(part, None, None, weight, bias, True, 0.0, 1e-5) for part in x.chunk(groups)]
    u = torch.cat(parts)
    if residual is not None:
        u = u + residual
    return F.relu(u) if activation == "relu" else F.gelu(u) if activation == "gelu" else u


def compare(
    shape: tuple[int, ...], groups: int, activation: str, dtype: torch.dtype, residual: bool,
    twin: bool, within: float,
) -> None:  # fmt: skip
    x, added = normal(shape, 0, dtype), normal(shape, 1, dtype) if residual else None
    weight, bias = normal(shape[1:2], 2), normal(shape[1:2], 3)
    grads = [normal(shape, 4 + i, dtype) for i in range(1 + twin)]
    x64, weight64, bias64 = (t.double().requires_grad_() for t in (x, weight, bias))
    added64 = None if added is None else added.double().requires_grad_()
    wanted = reference(x64, added64, weight64, bias64, groups, activation)
    inputs = [x64, *([] if added64 is None else [added64]), weight64, bias64]
    wanted_grads = torch.autograd.grad(wanted, inputs, torch.stack([g.double() for g in grads]).sum(0))
    code = ACTIVATIONS[activation]
    y, saved = kernels.forward(x, added, weight, bias, eps=1e-5, groups=groups, activation=code)
    seen = (added if activation == "gelu" else y) if residual and activation != "none" else None
    own = kernels.backward(
        grads[0], grads[1] if twin else None, x, seen, weight, bias, saved, groups=groups, activation=code,
        has_residual=residual,
    )  # fmt: skip
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    pairs = [(y, wanted), *zip([g for g in own if g is not None], wanted_grads, strict=True)]
    for got, right in pairs:
        scale = right.detach().abs().max().clamp(min=1)
        assert ((got.double() - right).abs().max() / scale).item() < within
    parts = x.double().unflatten(0, (groups, -1))
    assert torch.allclose(saved[0].double(), parts.mean((1, 3, 4)), atol=1e-5)
    assert torch.allclose(saved[1].double(), parts.var((1, 3, 4), correction=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("shape", "groups"), SHAPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_forward_and_gradients(shape: tuple[int, ...], groups: int, activation: str) -> None:
    if shape[0] * shape[2] * shape[3] // groups < 2:
        pytest.skip("no statistics of one number")
    compare(shape, groups, activation, torch.float32, residual=True, twin=True, within=2e-4)


@pytest.mark.parametrize(("shape", "groups"), LARGE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_ones(shape: tuple[int, ...], groups: int, dtype: torch.dtype) -> None:
    """Smooth, so that bf16 can be held to its 8 bits; where thousands of numbers are added, sums are fp32 in both."""
    compare(shape, groups, "gelu", dtype, residual=True, twin=True, within=5e-4 if dtype == torch.float32 else 0.02)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("twin", [False, True])
def test_what_may_be_left_out(activation: str, residual: bool, twin: bool) -> None:
    compare((4, 16, 5, 7), 2, activation, torch.float32, residual, twin, within=2e-4)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_bf16_keeps_its_sums_in_fp32(activation: str) -> None:
    # ReLU's gradient jumps where y rounds to zero, so only a smooth one can be held to bf16's 8 bits by the maximum.
    compare((4, 32, 6, 6), 2, activation, torch.bfloat16, residual=activation == "gelu", twin=True, within=0.02)


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    x = (normal((4, 16, 16, 16), 0) + 1000).contiguous(memory_format=torch.channels_last)
    _, saved = kernels.forward(x, None, torch.ones(16), torch.zeros(16), eps=1e-5, groups=1, activation=0)
    exact = x.double().var((0, 2, 3), correction=0)
    assert torch.allclose(saved[1, 0].double(), exact, rtol=1e-3)


def test_running_statistics_follow_the_mean_over_groups() -> None:
    x = normal((6, 5, 4, 4), 0)
    mean, var = torch.full((5,), 0.3), torch.full((5,), 2.0)
    ours, batches = (mean.clone(), var.clone()), torch.tensor(7)
    kernels.forward(
        x, None, torch.ones(5), torch.zeros(5), eps=1e-5, groups=3, activation=1, running=(*ours, 0.2, batches)
    )
    assert batches == 8
    parts = x.unflatten(0, (3, -1))
    assert torch.allclose(ours[0], mean.lerp(parts.mean((1, 3, 4)).mean(0), 0.2), atol=1e-6)
    assert torch.allclose(ours[1], var.lerp(parts.var((1, 3, 4)).mean(0), 0.2), atol=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nan_passes_to_where_it_is_seen_from(activation: str) -> None:
    x = normal((4, 16, 3, 3), 0)
    x[3, 5, 1, 1] = float("nan")
    weight, bias, code = torch.ones(16), torch.zeros(16), ACTIVATIONS[activation]
    y, saved = kernels.forward(x, None, weight, bias, eps=1e-5, groups=2, activation=code)
    assert y[2:, 5].isnan().all()
    y[2:, 5] = 0
    assert y.isfinite().all()
    grads = kernels.backward(
        torch.ones_like(x), None, x, None, weight, bias, saved, groups=2, activation=code, has_residual=False
    )
    assert grads[0][2:, 5].isnan().all()
    assert grads[2][5].isnan()
    assert grads[2][:5].isfinite().all()


@pytest.mark.parametrize("rows", [1, 31, 4096, 131072, 1_605_632])
@pytest.mark.parametrize("channels", [1, 16, 17, 64, 256, 2048])
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_every_row_is_somebodys(rows: int, channels: int, groups: int) -> None:
    plan = kernels.cut(rows, channels, groups)
    assert plan.columns * plan.width >= channels
    assert (plan.parts - 1) * plan.part < rows <= plan.parts * plan.part
    assert plan.part % plan.height == 0
    few = groups * rows * channels <= kernels.FEW
    assert groups * plan.columns * plan.parts <= max(kernels.PROGRAMS, groups * plan.columns)
    assert not (few and plan.merges)
    assert (plan.tiles - 1) * plan.lines < rows <= plan.tiles * plan.lines


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_many_blocks_are_merged_by_a_pass_of_their_own(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "FEW", 0)
    monkeypatch.setattr(kernels, "MOST_PARTS", 2)
    monkeypatch.setattr(kernels, "TILE", 1024)
    shape, groups = (4, 17, 13, 11), 2
    assert kernels.cut(2 * 13 * 11, 17, groups).parts > 2
    compare(shape, groups, activation, torch.float32, residual=True, twin=True, within=2e-4)
    if activation == "none":
        test_running_statistics_follow_the_mean_over_groups()
        test_a_mean_far_from_zero_costs_no_digits()
