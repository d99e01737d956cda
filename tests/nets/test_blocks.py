"""Batch normalisation over groups of images, and the shortcut of option A."""

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from reslab.nets.layers import BatchNorm2d, Pad
from reslab.nets.network import build
from reslab.nets.spec import ZeroPad


def norm(channels: int, *, group: int | None, momentum: float | None = 0.1, fused: bool = False) -> BatchNorm2d:
    module = BatchNorm2d(channels, momentum=momentum)
    module.group, module.fused = group, fused
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        module.weight.uniform_(0.5, 1.5, generator=draw)
        module.bias.normal_(generator=draw)
    return module


def images(n: int, channels: int = 16, size: int = 6) -> Tensor:
    x = torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(n))
    # Groups that differ, or taking the statistics over the whole batch would go unnoticed.
    return (x + torch.arange(n)[:, None, None, None] / 4).contiguous(memory_format=torch.channels_last)


def run(module: BatchNorm2d, x: Tensor, fused: bool) -> Tensor:
    if not fused:
        return module(x)  # type: ignore[no-any-return]
    y = module.forward_fused(x, None, "none")
    if y is None:
        pytest.skip("the fused kernels are not available here")
    return y


@pytest.mark.parametrize("fused", [False, True])
def test_each_group_is_normalised_by_itself(fused: bool) -> None:
    x, module = images(8), norm(16, group=4)
    y = run(module, x, fused)
    alone = nn.BatchNorm2d(16, momentum=1.0)
    alone.load_state_dict(module.state_dict())
    means, variances = [], []
    for half in (0, 1):
        part = slice(4 * half, 4 * half + 4)
        torch.testing.assert_close(y[part], alone(x[part]), rtol=1e-4, atol=1e-5)
        # By hand: the mean, and the variance with n - 1 below, of this half.
        pixels = x[part].double().permute(1, 0, 2, 3).flatten(1)
        means.append(pixels.mean(1))
        variances.append(pixels.var(1, unbiased=True))
    assert module.running_mean is not None
    assert module.running_var is not None
    expected_mean = 0.1 * torch.stack(means).mean(0)
    expected_var = 0.9 + 0.1 * torch.stack(variances).mean(0)
    torch.testing.assert_close(module.running_mean.double(), expected_mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(module.running_var.double(), expected_var, rtol=1e-5, atol=1e-6)
    assert int(module.num_batches_tracked or 0) == 1
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert not torch.allclose(y, nn.functional.batch_norm(x, None, None, module.weight, module.bias, True), atol=0.1)


@pytest.mark.parametrize("group", [None, 8, 9, 64])
def test_a_group_as_large_as_the_batch_is_the_whole_batch(group: int | None) -> None:
    x, module, plain = images(8), norm(16, group=group), nn.BatchNorm2d(16)
    plain.load_state_dict(module.state_dict())
    assert torch.equal(module(x), plain(x))
    torch.testing.assert_close(module.state_dict(), plain.state_dict())


def test_groups_are_for_training_only() -> None:
    x, module = images(7), norm(16, group=4).eval()
    plain = nn.BatchNorm2d(16).eval()
    plain.load_state_dict(module.state_dict())
    assert torch.equal(module(x), plain(x))


@pytest.mark.parametrize("fused", [False, True])
def test_a_batch_that_cannot_be_cut(fused: bool) -> None:
    module = norm(16, group=4)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(ValueError, match="batch of 10 images cannot be divided into BN groups of 4"):
        run(module, images(10), fused)
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)


def test_one_value_per_channel_is_refused_and_not_divided_by_zero() -> None:
    module = norm(16, group=1, fused=True)
    x = images(2, size=1)
    assert module.forward_fused(x, None, "relu") is None
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        module(x)


@pytest.mark.parametrize("group", [None, 4])
@pytest.mark.parametrize("fused", [False, True])
def test_no_momentum_is_the_plain_average(group: int | None, fused: bool) -> None:
    module = norm(16, group=group, momentum=None)
    batches = [images(8), 2 * images(8) + 1, 3 * images(8) - 2]
    for x in batches:
        run(module, x, fused)
    assert module.running_mean is not None
    expected = torch.stack([x.mean((0, 2, 3)) for x in batches]).mean(0)
    torch.testing.assert_close(module.running_mean, expected, rtol=1e-4, atol=1e-5)


def test_pytorchs_recalibration_works_on_a_fused_network() -> None:
    """`update_bn` sets momentum None, averages over the batches it is given, and puts all back."""
    recalibrated = []
    for fused in (False, True):
        net = build("cifar_resnet(depth=8)", size=(8, 8)).to(memory_format=torch.channels_last)
        net.group_norm_statistics(4).fuse(fused)
        update_bn([images(8, 3, 8), images(4, 3, 8)], net)
        recalibrated.append(net.state_dict())
    torch.testing.assert_close(*recalibrated, rtol=1e-4, atol=1e-5)
    assert recalibrated[0]["bn1.running_mean"].any()


def test_the_network_passes_the_group_on() -> None:
    net = build("cifar_resnet(depth=8, shortcut='B')", size=(8, 8))
    norms = [module for module in net.modules() if isinstance(module, BatchNorm2d)]
    assert len(norms) == 9
    assert {module.group for module in net.group_norm_statistics(4).modules() if module in norms} == {4}
    x = images(8, 3, 8)
    grouped = net.train()(x)
    torch.testing.assert_close(grouped[4:], net(x[4:]), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(grouped, net.group_norm_statistics(None)(x), atol=0.01)


def test_gradients_do_not_leak_between_groups() -> None:
    x = images(8).requires_grad_()
    norm(16, group=4)(x)[:4].pow(3).sum().backward()
    assert x.grad is not None
    assert x.grad[:4].any()
    assert not x.grad[4:].any()


@pytest.mark.parametrize(
    ("zeros", "before", "after", "first"), [("both", 4, 8, 2), ("both", 3, 6, 1), ("end", 4, 8, 0), ("both", 5, 5, 0)]
)
def test_where_option_a_puts_its_zeros(zeros: str, before: int, after: int, first: int) -> None:
    x = torch.randn(2, before, 7, 6)
    y = Pad(before, after, 2, ZeroPad.model_validate({"zeros": zeros}))(x)
    assert y.shape == (2, after, 4, 3)
    assert torch.equal(y[:, first : first + before], x[:, :, ::2, ::2])
    assert not y[:, :first].any()
    assert not y[:, first + before :].any()
