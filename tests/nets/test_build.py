"""The module that a specification becomes, against other people's code and an obvious reference."""

import copy
import pickle
from collections import Counter
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from reslab.errors import InputError
from reslab.nets.blocks import Block
from reslab.nets.catalog import resolve
from reslab.nets.cifar import cifar_plain, cifar_resnet
from reslab.nets.layers import Add
from reslab.nets.network import Network, build
from reslab.nets.spec import ConvStem, NetSpec


def random_statistics(net: nn.Module, seed: int = 0) -> None:
    """BN scales, shifts and running statistics such as a training leaves behind."""
    draw = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.5, generator=draw)
                module.bias.normal_(0, 0.3, generator=draw)
            module.running_mean.normal_(0, 0.5, generator=draw)
            module.running_var.uniform_(0.5, 2.0, generator=draw)


class Torchvision(nn.Module):
    """The 6n+2 network with option B, from torchvision's own block."""

    def __init__(self, n: int, widths: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        before = widths[0]
        for stage, width in enumerate(widths, 1):
            blocks = []
            for i in range(n):
                stride = 2 if stage > 1 and i == 0 else 1
                down = None
                if stride > 1:
                    down = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))
                blocks.append(BasicBlock(before, width, stride, down))
                before = width
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in (1, 2, 3):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("training", [False, True])
def test_option_b_equals_torchvisions_blocks(training: bool) -> None:
    ours = build(cifar_resnet(14, shortcut="B", width=(8, 12, 20), num_classes=7), seed=1)
    random_statistics(ours)
    theirs = Torchvision(2, (8, 12, 20), 7)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    x = torch.randn(6, 3, 19, 16, generator=torch.Generator().manual_seed(2))
    results = []
    for net in (ours, theirs):
        logits = net.train(training)(x)
        F.cross_entropy(logits, torch.arange(6)).backward()
        results.append((logits.detach(), {name: p.grad for name, p in net.named_parameters()}, net.state_dict()))
    (y1, grads1, after1), (y2, grads2, after2) = results
    torch.testing.assert_close(y1, y2, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grads1, grads2, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after1, after2, rtol=1e-5, atol=1e-5)


def padded_shortcut(x: Tensor, after: int, stride: int, zeros: str) -> Tensor:
    """Option A pixel by pixel: (N, C, H, W) -> (N, C', H/stride, W/stride)."""
    n, before, height, width = x.shape
    out = torch.zeros(n, after, (height + stride - 1) // stride, (width + stride - 1) // stride)
    first = (after - before) // 2 if zeros == "both" else 0
    for channel in range(before):
        for i in range(out.shape[2]):
            for j in range(out.shape[3]):
                out[:, first + channel, i, j] = x[:, channel, i * stride, j * stride]
    return out


def reference_option_a(state: dict[str, Tensor], x: Tensor, *, n: int, zeros: str, training: bool) -> Tensor:
    def norm(name: str, x: Tensor) -> Tensor:
        mean, var = state[f"{name}.running_mean"].clone(), state[f"{name}.running_var"].clone()
        return F.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"], training)

    x = F.relu(norm("bn1", F.conv2d(x, state["conv1.weight"], padding=1)))
    for stage in (1, 2, 3):
        for i in range(n):
            block, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            y = F.relu(norm(f"{block}.bn1", F.conv2d(x, state[f"{block}.conv1.weight"], stride=stride, padding=1)))
            y = norm(f"{block}.bn2", F.conv2d(y, state[f"{block}.conv2.weight"], padding=1))
            x = F.relu(y + padded_shortcut(x, y.shape[1], stride, zeros))
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("zeros", ["both", "end"])
@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
def test_option_a_equals_the_obvious_reference(
    training: bool, zeros: Literal["both", "end"], size: tuple[int, int]
) -> None:
    net = build(cifar_resnet(14, zeros=zeros, width=(4, 7, 12), size=size), seed=1).train(training)
    random_statistics(net)
    x = torch.randn(5, 3, *size, generator=torch.Generator().manual_seed(2))
    expected = reference_option_a(copy.deepcopy(net.state_dict()), x, n=2, zeros=zeros, training=training)
    torch.testing.assert_close(net(x), expected, rtol=1e-5, atol=1e-5)


def test_where_the_zeros_go_matters() -> None:
    x = torch.randn(2, 3, 8, 8)
    both, end = (build(cifar_resnet(8, zeros=zeros, size=(8, 8))).eval()(x) for zeros in ("both", "end"))
    assert not torch.allclose(both, end)


def count_calls(modules: dict[str, nn.Module]) -> Counter[str]:
    calls: Counter[str] = Counter()

    def count(name: str) -> Callable[..., None]:
        return lambda *_: calls.update([name])

    for name, module in modules.items():
        module.register_forward_hook(count(name))
    return calls


def test_every_relu_and_addition_is_a_module_called_once() -> None:
    for spec in (cifar_resnet(14, shortcut="C", width=4), cifar_resnet(14, width=4), cifar_plain(14, width=4)):
        net = build(spec, size=(8, 8))
        leaves = {name: module for name, module in net.named_modules() if not [*module.children()]}
        calls = count_calls(leaves)
        for fused in (False, True):
            calls.clear()
            net.fuse(fused).train()(torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last))
            assert calls == dict.fromkeys(leaves, 1), "a module ran twice or never"
        assert sum(isinstance(module, nn.ReLU) for module in leaves.values()) == 1 + 2 * 6
        assert sum(isinstance(module, Add) for module in leaves.values()) == (6 if spec.is_residual else 0)
        assert len({id(module) for module in leaves.values()}) == len(leaves)


def test_hooks_see_what_goes_through() -> None:
    """Pre-activations, the branch and the shortcut of a block add up, whatever the mode."""
    block = build(cifar_resnet(8, size=(8, 8))).fuse().blocks[1]
    assert isinstance(block, Block)
    assert block.add is not None
    seen: dict[str, Tensor] = {}

    def at_addition(module: nn.Module, given: tuple[Tensor, Tensor], out: Tensor) -> None:
        seen.update(branch=given[0], shortcut=given[1], sum=out)

    block.add.register_forward_hook(at_addition)
    out = block(torch.randn(2, 16, 8, 8).contiguous(memory_format=torch.channels_last))
    assert torch.equal(seen["branch"] + seen["shortcut"], seen["sum"])
    assert torch.equal(seen["sum"].relu(), out)
    assert not seen["shortcut"][:, :8].any()
    assert not seen["shortcut"][:, 24:].any()


def test_features_by_name() -> None:
    net = build(cifar_resnet(8, width=(4, 6, 10), num_classes=3)).eval()
    x = torch.randn(2, 3, 30, 21)
    features = net.features(x)
    assert {name: tuple(value.shape) for name, value in features.items()} == {
        "stem": (2, 4, 30, 21),
        "layer1": (2, 4, 30, 21),
        "layer2": (2, 6, 15, 11),
        "layer3": (2, 10, 8, 6),
        "pool": (2, 10),
        "logits": (2, 3),
    }
    assert list(features) == ["stem", "layer1", "layer2", "layer3", "pool", "logits"]
    assert torch.equal(features["logits"], net(x))
    torch.testing.assert_close(features["pool"], features["layer3"].mean((2, 3)))
    assert (features["layer3"] >= 0).all()


@pytest.mark.parametrize(
    ("name", "function"),
    [("tanh", torch.tanh), ("elu", F.elu), ("gelu", F.gelu), ("silu", F.silu), ("identity", lambda x: x)],
)
def test_the_activation_is_the_one_asked_for(name: str, function: torch.nn.Module) -> None:
    block = build("cifar_plain(depth=8, width=4)", activation=name).eval().blocks[0]
    x = torch.randn(2, 4, 8, 8)
    first, second = block.get_submodule("conv1"), block.get_submodule("conv2")
    bn1, bn2 = block.get_submodule("bn1"), block.get_submodule("bn2")
    expected = function(bn2(second(function(bn1(first(x))))))
    torch.testing.assert_close(block(x), expected)


def test_fields_of_the_norm_reach_the_modules() -> None:
    net = build(cifar_resnet(8, shortcut="B"), norm={"eps": 1e-3, "momentum": 0.05})
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 9
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.05)}


def test_images_that_are_too_small() -> None:
    with pytest.raises(InputError, match=r"halves its input 2 times.* 4 pixels a side, got 3x8"):
        build("cifar_resnet(depth=8)", size=(3, 8))
    assert build("cifar_resnet(depth=8)", size=(4, 4)).spec.size == (4, 4)


@pytest.mark.parametrize(("stride", "left"), [(2, "9x8"), (1, "17x16")])
def test_a_stem_that_throws_most_of_an_image_away_is_warned_of(
    stride: int, left: str, caplog: pytest.LogCaptureFixture
) -> None:
    blocks = resolve("cifar_plain(depth=8, width=4)").stages
    stem = ConvStem(width=4, kernel=7, stride=stride, pool=True)
    build(NetSpec(name="small", stem=stem, stages=blocks, size=(33, 32)))
    assert f"reduces 33x32 pixels to {left}" in caplog.text


def test_a_network_can_be_copied_and_pickled() -> None:
    net = build("cifar_resnet(depth=8, width=2)").group_norm_statistics(2).eval()
    x = torch.randn(2, 3, 8, 8)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert isinstance(other, Network)
        assert other.spec == net.spec
        assert torch.equal(other(x), net(x))
