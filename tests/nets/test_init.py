"""He initialisation, and weights that depend on the seed and their name alone."""

import math

import pytest
import torch
from torch import nn

from reslab.errors import InputError
from reslab.nets.cifar import cifar_plain, cifar_resnet
from reslab.nets.network import build


def drawn(net: nn.Module) -> dict[str, torch.Tensor]:
    """The weights that are random."""
    return {name: p.detach() for name, p in net.named_parameters() if p.dim() > 1}


@pytest.mark.parametrize("fan", ["in", "out"])
def test_variance_is_two_over_the_fan(fan: str) -> None:
    """He et al. 2015, arXiv 1502.01852, eq. 10 and 14: the variance is 2/(k k c)."""
    net = build(cifar_resnet(8, shortcut="B", width=(16, 32, 64), num_classes=400), init={"fan": fan}, size=(8, 8))
    checked = 0
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            expected = 2 / (module.kernel_size[0] ** 2 * (module.in_channels if fan == "in" else module.out_channels))
        elif isinstance(module, nn.Linear):
            expected = 2 / (module.in_features if fan == "in" else module.out_features)
        else:
            continue
        weight = module.weight.detach()
        n = weight.numel()
        # Four standard deviations of the sample's variance and mean.
        assert float(weight.var()) == pytest.approx(expected, rel=4 * math.sqrt(2 / n)), name
        assert abs(float(weight.mean())) < 4 * math.sqrt(expected / n), name
        checked += 1
    assert checked == 10
    assert not net.fc.bias.any()


def test_weights_are_normal_and_not_truncated() -> None:
    weight = build("cifar_resnet(depth=8)").get_parameter("layer3.0.conv2.weight").detach() * math.sqrt(576 / 2)
    assert float((weight.abs() < 1).float().mean()) == pytest.approx(0.6827, abs=0.01)
    assert float(weight.abs().max()) > 3.5


def test_a_seed_decides_every_weight() -> None:
    weights = [drawn(build(cifar_resnet(8, shortcut="B"), seed=seed)) for seed in (0, 0, 1, 2, 2**31 - 1, 2**32 - 1)]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name])
        others = [tensor, *(w[name] for w in weights[2:])]
        for i, one in enumerate(others):
            for other in others[:i]:
                correlation = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]
                assert abs(float(correlation)) < 5 / math.sqrt(one.numel()), name


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    build("cifar_resnet(depth=8)")
    # Constructing PyTorch's layers draws from the global generator; what we draw must not depend on it.
    torch.manual_seed(4)
    other = build("cifar_resnet(depth=8)")
    torch.manual_seed(3)
    assert torch.equal(other.fc.weight, build("cifar_resnet(depth=8)").fc.weight)
    torch.manual_seed(3)
    assert torch.equal(expected, torch.rand(2))


def test_layers_of_one_shape_differ() -> None:
    seen = list(drawn(build("cifar_resnet(depth=20)", size=(8, 8))).values())
    for i, one in enumerate(seen):
        for other in seen[:i]:
            assert one.shape != other.shape or not torch.equal(one, other)


def test_twins_start_from_the_same_weights() -> None:
    plain = build(cifar_plain(14), seed=5).state_dict()
    option_a = build(cifar_resnet(14), seed=5).state_dict()
    option_b = build(cifar_resnet(14, shortcut="B"), seed=5).state_dict()
    assert plain.keys() == option_a.keys() < option_b.keys()
    for name, tensor in plain.items():
        assert torch.equal(tensor, option_a[name])
        assert torch.equal(tensor, option_b[name])


def test_a_layer_keeps_its_weights_when_others_are_added() -> None:
    short, long = drawn(build("cifar_plain(depth=8)")), drawn(build("cifar_plain(depth=14)"))
    for name in short:
        assert torch.equal(short[name], long[name])


def test_zero_gamma() -> None:
    """The last BN of each residual branch starts at zero, so that a block starts as its shortcut."""
    net = build(cifar_resnet(14, shortcut="B", size=(8, 8)), init={"zero_gamma": True})
    zero = {name for name, p in net.named_parameters() if name.endswith("weight") and not p.any()}
    assert zero == {f"layer{s}.{b}.bn2.weight" for s in (1, 2, 3) for b in (0, 1)}
    x = torch.randn(2, 16, 8, 8).relu()
    assert torch.equal(net.blocks[0].train()(x), x)
    plain = build(cifar_plain(8), init={"zero_gamma": True})
    assert all(p.all() for name, p in plain.named_parameters() if "bn" in name and name.endswith("weight"))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range(seed: int) -> None:
    with pytest.raises(InputError, match=f"got {seed}"):
        build("cifar_plain(depth=8)", seed=seed)
