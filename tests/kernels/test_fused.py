"""The fused mode computes what the modules compute, within rounding, or leaves it to them."""

import os
from itertools import product
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.kernels.build import library
from reslab.kernels.norm import Activation
from reslab.nets.layers import Add, BatchNorm2d, norm_add_act
from reslab.nets.network import Network, build

pytestmark = pytest.mark.skipif(library() is None, reason="no C++ compiler: there is no fused mode")

CASES = [  # (batch, channels, height, width): all fill the vectors when neighbouring rows are folded
    (4, 16, 5, 7),
    (2, 64, 3, 3),
    (4, 24, 5, 5),
    (4, 3, 8, 8),
    (2, 3, 8, 4),
    (2, 40, 6, 5),
    (32, 32, 12, 11),  # more than one block of rows for each thread
]
FALLBACK = [(3, 3, 5, 5), (1, 24, 3, 3), (2, 17, 7, 7), (2, 5, 3, 6)]


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def normal(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 1.5 + 0.4
    return channels_last(x.to(dtype))


def norm(channels: int, group: int | None = None) -> BatchNorm2d:
    module, draw = BatchNorm2d(channels), torch.Generator().manual_seed(channels)
    with torch.no_grad():
        module.weight.uniform_(-1.0, 1.5, generator=draw)
        module.bias.normal_(0, 0.5, generator=draw)
    module.group, module.fused = group, True
    return module


def norm_like(module: BatchNorm2d) -> BatchNorm2d:
    """Another with the same scale and shift."""
    other = norm(module.num_features)
    other.load_state_dict(module.state_dict())
    return other


def exact(x: Tensor, residual: Tensor | None, module: BatchNorm2d, groups: int, act: Activation) -> dict[str, Tensor]:
    """Forward, backward and statistics in fp64, of the values that the kernel was given."""
    like, x = x, x.detach().double().requires_grad_()
    leaf = None if residual is None else residual.detach().double().requires_grad_()
    weight, bias = (p.detach().double().requires_grad_() for p in (module.weight, module.bias))
    y = torch.cat([F.batch_norm(part, None, None, weight, bias, True, 0.1, module.eps) for part in x.chunk(groups)])
    y = y if leaf is None else y + leaf
    y = {"none": y, "relu": y.relu(), "gelu": F.gelu(y)}[act]
    y.backward(normal(tuple(y.shape), 9, like.dtype).double())
    parts = [part.detach().permute(1, 0, 2, 3).flatten(1) for part in x.chunk(groups)]
    found = {
        "y": y.detach(),
        "x": x.grad,
        "weight": weight.grad,
        "bias": bias.grad,
        "residual": None if leaf is None else leaf.grad,
        "running_mean": 0.1 * torch.stack([part.mean(1) for part in parts]).mean(0),
        "running_var": 0.9 + 0.1 * torch.stack([part.var(1) for part in parts]).mean(0),
    }
    return {name: value for name, value in found.items() if value is not None}


def by_kernel(x: Tensor, residual: Tensor | None, module: BatchNorm2d, act: Activation) -> dict[str, Tensor] | None:
    x = x.detach().clone(memory_format=torch.channels_last).requires_grad_()
    leaf = None if residual is None else residual.detach().clone(memory_format=torch.channels_last).requires_grad_()
    module.zero_grad()
    y = module.forward_fused(x, leaf, act)
    if y is None:
        return None
    y.backward(normal(tuple(y.shape), 9, x.dtype))
    found = {
        "y": y.detach(),
        "x": x.grad,
        "weight": module.weight.grad,
        "bias": module.bias.grad,
        "residual": None if leaf is None else leaf.grad,
        "running_mean": module.running_mean,
        "running_var": module.running_var,
    }
    return {name: value for name, value in found.items() if value is not None}


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", CASES)
def test_the_kernel_against_fp64(shape: tuple[int, int, int, int], dtype: torch.dtype, threads: int) -> None:
    """fp32 within 1e-5 of the largest value; bf16 within one rounding of the result (2^-8) besides."""
    torch.set_num_threads(threads)
    for groups, with_residual, act in product((1, 2), (False, True), get_args(Activation)):
        if (shape[0] * shape[2] * shape[3] // groups) * shape[1] % 16:
            continue
        x = normal(shape, 1, dtype)
        # The upstream gradient has the type of x, so that both sides see the same numbers.
        residual = normal(shape, 2, dtype) if with_residual else None
        module = norm(shape[1], shape[0] // groups)
        found = by_kernel(x, residual, module, act)
        assert found is not None, "the kernel refused a shape that it should take"
        expected = exact(x, residual, norm(shape[1]), groups, act)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            rounded = dtype == torch.bfloat16 and name in ("y", "x", "residual")
            assert found[name].dtype == (dtype if rounded else torch.float32)
            rtol = 2**-8 if rounded else 1e-5
            # The gradient behind the GELU is rounded before it is used again, and may then be subtracted from.
            twice = dtype == torch.bfloat16 and act == "gelu" and name == "x"
            torch.testing.assert_close(
                found[name].double(),
                value,
                rtol=rtol,
                atol=(2**-8 if twice else 1e-5) * float(value.abs().max()),
                msg=f"{name} with groups {groups}, residual {with_residual}, {act}",
            )
        assert found["y"].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", CASES)
def test_the_mode_equals_the_modules(shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    """As a network runs them: BN, addition and activation by `norm_add_act`, fused and not."""
    activations: list[nn.Module] = [nn.ReLU(), nn.GELU(), nn.GELU("tanh"), nn.Tanh()]
    for act, with_residual, training in product(activations, (False, True), (False, True)):
        x, residual = normal(shape, 1, dtype), normal(shape, 2, dtype) if with_residual else None
        results = []
        for on in (False, True):
            module = norm(shape[1], shape[0] // 2).train(training)
            module.fused = on
            add = Add() if with_residual else None
            with torch.set_grad_enabled(training):
                y = norm_add_act(module, x, add=add, shortcut=residual, act=act)
            results.append((y.float(), dict(module.state_dict())))
        # The modules round to bf16 after BN and after the addition; the kernel only at the end.
        tolerance = 1e-5 if dtype == torch.float32 else 0.03
        torch.testing.assert_close(results[0][0], results[1][0], rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", FALLBACK)
def test_shapes_that_do_not_fill_the_vectors_run_as_modules(shape: tuple[int, int, int, int]) -> None:
    x, residual = normal(shape, 1), normal(shape, 2)
    module = norm(shape[1])
    assert module.forward_fused(x, residual, "relu") is None
    y = norm_add_act(module, x, add=Add(), shortcut=residual, act=nn.ReLU())
    expected = (F.batch_norm(x, None, None, module.weight, module.bias, True) + residual).relu()
    torch.testing.assert_close(y, expected)
    assert int(module.num_batches_tracked or 0) == 1


def test_what_the_kernel_cannot_read_is_left_to_the_modules() -> None:
    module, x = norm(16), normal((2, 16, 4, 4), 1)
    refused = {
        "channels-first": x.contiguous(),
        "a slice": normal((2, 32, 4, 4), 1)[:, ::2],
        "fp64": x.double(),
        "fp16": x.half(),
        "another device": x.to("meta"),
    }
    for what, tensor in refused.items():
        assert module.forward_fused(tensor, None, "relu") is None, what
    assert module.forward_fused(x, None, "relu") is not None
    assert norm(16).bfloat16().forward_fused(x.bfloat16(), None, "relu") is None, "bf16 parameters"


def test_a_network_of_another_type_is_not_misread() -> None:
    net = build("cifar_resnet(depth=8)", size=(8, 8)).to(memory_format=torch.channels_last).bfloat16()
    x = normal((4, 3, 8, 8), 3, torch.bfloat16)
    for training in (True, False):
        net.train(training)
        torch.testing.assert_close(net.fuse(True)(x), net.fuse(False)(x), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["residual first", "gradient first"])
def test_memory_formats_of_the_other_inputs_do_not_matter(kind: str) -> None:
    x, residual, grad = (normal((2, 16, 4, 4), seed) for seed in (1, 2, 3))
    results = []
    for plain in (False, True):
        module, leaf = norm(16), x.clone(memory_format=torch.channels_last).requires_grad_()
        shortcut = residual.contiguous() if plain and kind == "residual first" else residual
        y = module.forward_fused(leaf, shortcut, "relu")
        assert y is not None
        y.backward(grad.contiguous() if plain and kind == "gradient first" else grad)
        results.append((y.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_nan_is_passed_on_and_stays_in_its_channel(dtype: torch.dtype) -> None:
    for value in (float("nan"), float("inf")):
        x = normal((4, 16, 4, 4), 1, dtype)
        x[1, 5, 2, 2] = value
        module = norm(16)
        y = module.forward_fused(x, normal((4, 16, 4, 4), 2, dtype), "relu")
        assert y is not None
        others = [c for c in range(16) if c != 5]
        assert y[:, 5].isnan().any()
        assert y[:, others].isfinite().all()
        assert module.running_var is not None
        assert not module.running_var[5].isfinite()
        assert module.running_var[others].isfinite().all()


def test_a_nan_in_the_shortcut_or_the_running_statistics_is_passed_on() -> None:
    x, residual = normal((2, 16, 4, 4), 1), normal((2, 16, 4, 4), 2)
    residual[0, 3, 1, 1] = float("nan")
    module = norm(16)
    y = module.forward_fused(x, residual, "relu")
    assert y is not None
    assert y.isnan().sum() == 1
    assert module.running_var is not None
    module.running_var[7] = float("nan")
    with torch.no_grad():
        y = module.eval().forward_fused(x, None, "relu")
    assert y is not None
    assert y[:, 7].isnan().all()
    assert y.isnan().sum() == y[:, 7].numel()


def tiny(on: bool, *, name: str = "cifar_resnet(depth=8, shortcut='B', width=(16, 16, 32))") -> Network:
    net = build(name, size=(8, 8), num_classes=4, seed=3).to(memory_format=torch.channels_last)
    assert isinstance(net, Network)
    return net.group_norm_statistics(8).fuse(on)


def train(net: Network, steps: int) -> list[float]:
    """SGD with momentum by hand: importing `torch.optim`'s machinery would take longer than the training."""
    velocity = [torch.zeros_like(parameter) for parameter in net.parameters()]
    losses = []
    for step in range(steps):
        labels = torch.arange(16) % 4
        x = normal((16, 3, 8, 8), step % 4) + labels[:, None, None, None] / 4
        loss = F.cross_entropy(net(x), labels)
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for parameter, v, gradient in zip(net.parameters(), velocity, gradients, strict=True):
                parameter.sub_(v.mul_(0.9).add_(gradient), alpha=0.05)
        losses.append(loss.item())
    return losses


def test_a_short_training_stays_close_to_that_of_the_modules() -> None:
    """After 30 steps in fp32 the losses differ by less than 1 % and the weights by less than 1 % of their length."""
    nets = [tiny(on) for on in (False, True)]
    losses = [train(net, 30) for net in nets]
    assert losses[0][-1] < 0.5 * losses[0][0]
    assert losses[1] == pytest.approx(losses[0], rel=0.01, abs=1e-3)
    for (name, one), other in zip(nets[0].state_dict().items(), nets[1].state_dict().values(), strict=True):
        distance = float((one - other).double().norm() / (one.double().norm() + 1e-12))
        assert distance < 0.01, name


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_repeats_bit_for_bit(dtype: torch.dtype) -> None:
    x, residual = normal((32, 32, 12, 11), 1, dtype), normal((32, 32, 12, 11), 2, dtype)
    first, *others = (by_kernel(x, residual, norm(32, 16), "relu") for _ in range(5))
    assert first is not None
    for other in others:
        torch.testing.assert_close(first, other, rtol=0, atol=0)


def test_a_training_repeats_bit_for_bit() -> None:
    nets = [tiny(True) for _ in range(2)]
    assert train(nets[0], 4) == train(nets[1], 4)
    torch.testing.assert_close(nets[0].state_dict(), nets[1].state_dict(), rtol=0, atol=0)


def test_evaluation_is_fused_without_gradients_and_not_with_them() -> None:
    net = tiny(True)
    train(net, 2)
    x = normal((4, 3, 8, 8), 5).requires_grad_()
    with torch.no_grad():
        quick = net.eval()(x)
    slow = net(x)
    torch.testing.assert_close(quick, slow, rtol=1e-4, atol=1e-5)
    slow.sum().backward()
    assert x.grad is not None
    assert x.grad.any()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with torch.inference_mode():
        torch.testing.assert_close(net(x.detach()), slow.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)


def test_the_mode_is_a_switch_and_changes_no_parameter() -> None:
    net = tiny(False)
    keys = list(net.state_dict())
    norms = [module for module in net.modules() if isinstance(module, BatchNorm2d)]
    assert not any(module.fused for module in norms)
    assert all(module.fused for module in norms if net.fuse())
    assert list(net.state_dict()) == keys
    assert not any(module.fused for module in norms if net.fuse(False))


def test_frozen_parameters_and_inputs_are_fine() -> None:
    module = norm(16).requires_grad_(False)
    x = normal((2, 16, 4, 4), 1)
    y = module.forward_fused(x, None, "relu")
    assert y is not None
    assert not y.requires_grad
    leaf = x.clone(memory_format=torch.channels_last).requires_grad_()
    y = module.forward_fused(leaf, None, "relu")
    assert y is not None
    y.sum().backward()
    assert leaf.grad is not None
    assert module.weight.grad is None


@pytest.mark.parametrize(("mean", "std"), [(100.0, 1.0), (100.0, 0.1), (1000.0, 1.0)])
def test_a_large_mean_does_not_drown_the_variance(mean: float, std: float) -> None:
    draw = torch.Generator().manual_seed(0)
    x = channels_last((torch.randn(16, 16, 16, 16, dtype=torch.float64, generator=draw) * std + mean).float())
    module = norm(16)
    module.momentum = 1.0
    module.forward_fused(x, None, "none")
    expected = x.double().var((0, 2, 3))
    assert module.running_var is not None
    torch.testing.assert_close(module.running_var.double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("act", [nn.ReLU(), nn.GELU()])
def test_a_second_derivative_is_right(act: nn.Module, with_residual: bool) -> None:
    results = []
    for on in (False, True):
        module, x = norm(16), normal((2, 16, 4, 4), 1).requires_grad_()
        residual = normal((2, 16, 4, 4), 2) if with_residual else None
        module.fused = on
        y = norm_add_act(module, x, add=Add() if with_residual else None, shortcut=residual, act=act)
        (first,) = torch.autograd.grad(y.pow(2).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((first * x).sum(), x)
        results.append(second)
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gelu_over_its_whole_range(dtype: torch.dtype) -> None:
    """From where nothing passes to where all does; a channel each of a scale of its own."""
    x = normal((8, 16, 8, 8), 1, dtype)
    module = norm(16)
    with torch.no_grad():
        module.weight.copy_(torch.logspace(-3, 1.5, 16))
    found, expected = by_kernel(x, None, module, "gelu"), exact(x, None, norm_like(module), 1, "gelu")
    assert found is not None
    rtol = 1e-5 if dtype == torch.float32 else 2**-8
    torch.testing.assert_close(found["y"].double(), expected["y"], rtol=rtol, atol=2e-6)


def test_fewer_threads_than_asked_for_do_not_leave_work_undone() -> None:
    """The system may grant a smaller team than PyTorch's number of threads, here by OpenMP's dynamic mode."""
    kernels = library()
    assert kernels is not None
    x, module = normal((32, 16, 9, 9), 1), norm(16)
    torch.set_num_threads(4 * (os.cpu_count() or 1))
    kernels.omp_set_dynamic(1)
    try:
        found = by_kernel(x, x, module, "relu")
    finally:
        kernels.omp_set_dynamic(0)
    expected = exact(x, x, norm(16), 1, "relu")
    assert found is not None
    for name, value in expected.items():
        torch.testing.assert_close(found[name].double(), value, rtol=1e-5, atol=1e-5 * float(value.abs().max()))
